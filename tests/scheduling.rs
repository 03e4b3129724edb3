//! Policy, nice value, I/O priority and processors, seen from outside; and the gate at which the host sets what a
//! sandbox may not.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{ErrorKind, Feature, IoPriority, Resource, Sandbox, Scheduler, Seccomp, Stdio, Step, Verdict};
use support::oracle::{self, schedule};
use support::{Result, closed, explain, fail, hold, payload, raw, run_helper, run_role, slack, within};

fn main() -> ExitCode {
    let cases = cases![
        what_needs_no_privilege: ["userns", "two-processors"],
        nothing_asked_for_is_the_hosts: ["userns"],
        what_the_host_sets: ["userns", "sys-nice"],
        programs_of_a_container_at_once: ["userns", "sys-nice"],
        in_a_bare_sandbox: ["sys-nice", "payload-place"],
        a_program_cannot_take_more: ["userns", "sys-nice", "two-processors"],
        a_filter_that_names_the_calls_allows_them: ["userns"],
        hard_limits_are_raised: ["userns", "sys-resource"],
        hard_limits_without_the_right: ["userns", "setpriv"],
        an_unprivileged_host: ["userns", "setpriv"],
        values_that_cannot_be: [],
        a_group_without_real_time: ["userns", "sys-nice", "cgroup-cpu", "rt-group"],
        the_host_dies_at_the_gate: ["userns", "sys-nice", "strace"],
        the_host_of_a_bare_sandbox_dies_at_the_gate: ["sys-nice", "strace", "payload-place"],
        the_host_never_comes_to_the_gate: ["userns", "sys-nice", "strace", "soak"],
        a_parked_program_is_killed: ["userns", "sys-nice", "strace"],
    ];
    let roles: &[support::Role] = &[
        ("take-more", take_more),
        ("powerless", powerless),
        ("no-right", no_right),
        ("gate-host", gate_host),
        ("gate-host-bare", gate_host_bare),
    ];
    support::main_serial(cases, roles)
}

const OTHER: u32 = 0;
const FIFO: u32 = 1;
const ROUND_ROBIN: u32 = 2;
const BATCH: u32 = 3;
const IDLE: u32 = 5;

fn own() -> oracle::Schedule {
    schedule(std::process::id())
}

/// The last processor that this process may use: not the first, which is a likely accident.
fn last_processor() -> u32 {
    let list = own().processors;
    list.rsplit([',', '-']).next().and_then(|last| last.parse().ok()).expect("a list of processors")
}

fn what_needs_no_privilege() -> Result {
    let (nice, last) = ((own().nice + 3).min(19), last_processor());
    let sandbox = closed()
        .scheduler(Scheduler::Batch)
        .nice(nice)
        .io_priority(IoPriority::BestEffort(6))
        .cpu_affinity([last]);
    assert!(!sandbox.plan()?.to_string().contains("gate"), "{}", sandbox.plan()?);
    let held = hold(&sandbox)?;
    let found = schedule(held.pid);
    let expected =
        oracle::Schedule { policy: BATCH, priority: 0, nice, io: 2 << 13 | 6, processors: last.to_string() };
    assert_eq!(found, expected);
    // The init is the host's kind.
    let init = schedule(oracle::parent(held.pid).expect("it has a parent"));
    assert_eq!((init.policy, init.nice, init.processors), (own().policy, own().nice, own().processors));
    let outcome = held.release()?;
    assert!(outcome.enforced.contains(Feature::Scheduling));

    let held = hold(&closed().scheduler(Scheduler::Idle).io_priority(IoPriority::Idle))?;
    let found = schedule(held.pid);
    assert_eq!((found.policy, found.io), (IDLE, 3 << 13));
    held.release().map(drop)
}

fn nothing_asked_for_is_the_hosts() -> Result {
    let held = hold(&closed())?;
    assert_eq!(schedule(held.pid), own());
    assert!(!held.release()?.enforced.contains(Feature::Scheduling));
    Ok(())
}

fn what_the_host_sets() -> Result {
    let sandbox = closed()
        .scheduler(Scheduler::Fifo(7))
        .nice(own().nice - 2)
        .io_priority(IoPriority::RealTime(2))
        .cpu_affinity([0]);
    let plan = sandbox.plan()?;
    assert!(plan.to_string().contains("waiting for the host at the gate"), "{plan}");
    for _ in 0..20 {
        let held = hold(&sandbox)?;
        let found = schedule(held.pid);
        let expected = oracle::Schedule {
            policy: FIFO,
            priority: 7,
            nice: own().nice - 2,
            io: 1 << 13 | 2,
            processors: "0".to_owned(),
        };
        assert_eq!(found, expected);
        let outcome = held.release()?;
        assert!(outcome.enforced.contains(Feature::Scheduling));
    }
    let held = hold(&closed().scheduler(Scheduler::RoundRobin(99)))?;
    let found = schedule(held.pid);
    assert_eq!((found.policy, found.priority), (ROUND_ROBIN, 99));
    held.release()?;
    // The gate is passed before anything can fail behind it, and failures behind it are told as ever.
    let error = sandbox.spawn(belljar::Command::new("/no/such/program")).expect_err("it is missing");
    assert_eq!(error.kind(), ErrorKind::Exec, "{}", explain(&error));
    Ok(())
}

fn programs_of_a_container_at_once() -> Result {
    let container = closed().scheduler(Scheduler::RoundRobin(3)).nice(own().nice - 1).start()?;
    let container = &container;
    std::thread::scope(|scope| {
        let run = move || -> Result {
            for _ in 0..10 {
                let mut command = payload("hold", &[]);
                command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = container.spawn(&command)?;
                let Some(pid) = child.id() else { return fail("it has no id") };
                let found = schedule(pid);
                assert_eq!((found.policy, found.priority, found.nice), (ROUND_ROBIN, 3, own().nice - 1));
                assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
            }
            Ok(())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn in_a_bare_sandbox() -> Result {
    let held = hold(&support::with_payload(Sandbox::bare().mount_ns()).nice(own().nice - 3))?;
    assert_eq!(schedule(held.pid).nice, own().nice - 3);
    held.release().map(drop)
}

/// Tries to take back everything that a sandbox took; says what became of each.
fn take_more(_: &[OsString]) -> i32 {
    let try_to = |name: &str, number: i64, arguments: [usize; 6]| match raw::syscall(number, arguments) {
        Ok(_) => println!("{name} ok"),
        Err(error) => println!("{name} {}", error.raw_os_error().unwrap_or(-1)),
    };
    let fifo = [50_i32];
    let other = [0_i32];
    let all = [u64::MAX];
    let none = [0_usize; 6];
    let with = |arguments: [usize; 3]| {
        let mut six = none;
        six[..3].copy_from_slice(&arguments);
        six
    };
    let nice = own().nice;
    try_to("fifo", libc::SYS_sched_setscheduler, with([0, 1, fifo.as_ptr() as usize]));
    try_to("other", libc::SYS_sched_setscheduler, with([0, 0, other.as_ptr() as usize]));
    try_to("raise", libc::SYS_setpriority, with([0, 0, (nice - 1) as usize]));
    try_to("lower", libc::SYS_setpriority, with([0, 0, (nice + 1) as usize]));
    try_to("io", libc::SYS_ioprio_set, with([1, 0, 2 << 13]));
    try_to("affinity", libc::SYS_sched_setaffinity, with([0, 8, all.as_ptr() as usize]));
    0
}

fn a_program_cannot_take_more() -> Result {
    let sandbox = |nice| {
        let sandbox = closed().nice(nice).scheduler(Scheduler::Idle);
        sandbox.io_priority(IoPriority::BestEffort(7)).cpu_affinity([0])
    };
    let nice = own().nice;
    let denied = "fifo 1\nother 1\nraise 13\nlower ok\nio 1\naffinity 1\n";
    // As it is given, and as the host gives it: a host that could do all of it leaves nothing of that behind.
    for nice in [nice + 2, nice - 2] {
        assert_eq!(run_role(&sandbox(nice), "take-more", &[])?, denied);
    }
    // Without the filter the kernel itself keeps what needs a privilege, and nothing else.
    let text = run_role(&sandbox(nice + 2).allow_all_syscalls(), "take-more", &[])?;
    assert_eq!(text, "fifo 1\nother 1\nraise 13\nlower ok\nio ok\naffinity ok\n");
    // A real-time program may give up what it has, and has no way back.
    let real_time = closed().scheduler(Scheduler::Fifo(20));
    let text = run_role(&real_time, "take-more", &[])?;
    assert!(text.starts_with("fifo 1\nother ok\nraise 13\n"), "{text}");
    // The positive control: outside, the same calls do what they say.
    let mut outside = support::role_command("take-more", &[]);
    let text = run_helper(&mut outside, Duration::from_secs(10))?.succeed()?;
    assert_eq!(text, "fifo ok\nother ok\nraise ok\nlower ok\nio ok\naffinity ok\n");
    Ok(())
}

fn a_filter_that_names_the_calls_allows_them() -> Result {
    let filter = Seccomp::new().allow(["sched_setaffinity", "ioprio_set"]);
    let sandbox = closed().cpu_affinity([0]).io_priority(IoPriority::Idle).seccomp(filter);
    let text = run_role(&sandbox, "take-more", &[])?;
    assert!(text.ends_with("io ok\naffinity ok\n"), "{text}");
    Ok(())
}

fn hard_limit(pid: &str, name: &str) -> Result<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let word = line.get(name.len()..).unwrap_or_default().split_whitespace().nth(1).unwrap_or_default();
    Ok(word.parse().unwrap_or(u64::MAX))
}

fn hard_limits_are_raised() -> Result {
    let files = hard_limit("self", "Max open files")?;
    let locked = hard_limit("self", "Max locked memory")?;
    if files == u64::MAX || locked == u64::MAX {
        return fail(
            "this host has no hard limit that could be raised; run the test under `ulimit -Hl 1024`",
        );
    }
    let sandbox = closed()
        .rlimit(Resource::Nofile, 64, files + 1)
        .rlimit(Resource::Memlock, locked + 4096, locked + 4096)
        .scheduler(Scheduler::Batch);
    let held = hold(&sandbox)?;
    let pid = held.pid.to_string();
    assert_eq!(hard_limit(&pid, "Max open files")?, files + 1);
    assert_eq!(hard_limit(&pid, "Max locked memory")?, locked + 4096);
    held.release()?;
    // The host's own are as they were.
    assert_eq!(
        (hard_limit("self", "Max open files")?, hard_limit("self", "Max locked memory")?),
        (files, locked)
    );
    // What the kernel takes from nobody is an error, and leaves nothing running.
    let error = closed().rlimit(Resource::Nofile, 64, u64::MAX - 1).spawn(payload("exit", &["0"]));
    let error = error.expect_err("above fs.nr_open");
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::PermissionDenied, Step::Rlimit),
        "{}",
        explain(&error)
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("fs.nr_open")), "{}", explain(&error));
    Ok(())
}

fn hard_limits_without_the_right() -> Result {
    let helper = support::as_nobody("no-right", &[], Duration::from_secs(30))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn finish(result: Result) -> i32 {
    match result {
        Ok(()) => {
            println!("ok");
            0
        }
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

fn no_right(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let files = hard_limit("self", "Max open files")?;
        let error =
            closed().rlimit(Resource::Nofile, 64, files + 1).plan().expect_err("above the host's own");
        assert_eq!((error.kind(), error.step()), (ErrorKind::PermissionDenied, Step::Rlimit));
        assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{}", explain(&error));
        assert!(error.hint().is_some());
        Ok(())
    };
    finish(run())
}

fn an_unprivileged_host() -> Result {
    let helper = support::as_nobody("powerless", &[], Duration::from_secs(60))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn powerless(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let refused = [
            closed().scheduler(Scheduler::Fifo(1)),
            closed().scheduler(Scheduler::RoundRobin(99)),
            closed().nice(own().nice - 1),
            closed().io_priority(IoPriority::RealTime(7)),
        ];
        for sandbox in refused {
            let error = sandbox.plan().expect_err("it needs a capability");
            assert_eq!((error.kind(), error.step()), (ErrorKind::PermissionDenied, Step::Scheduling));
            assert!(error.to_string().contains("CAP_SYS_NICE"), "{}", explain(&error));
            assert!(error.hint().is_some(), "{}", explain(&error));
            let plan = sandbox.best_effort(Feature::Scheduling).plan()?;
            assert!(!plan.enforced().contains(Feature::Scheduling));
            let skipped = plan.enforced().skipped();
            assert!(skipped.iter().any(|skipped| skipped.feature == Feature::Scheduling), "{skipped:?}");
            assert_eq!(plan.spawn(payload("exit", &["3"]))?.wait()?.verdict, Verdict::Exited(3));
        }
        // What can be had is had all the same.
        let mixed =
            closed().scheduler(Scheduler::Batch).nice(own().nice - 1).best_effort(Feature::Scheduling);
        let held = hold(&mixed)?;
        let found = schedule(held.pid);
        assert_eq!((found.policy, found.nice), (BATCH, own().nice));
        held.release()?;
        let all =
            closed().scheduler(Scheduler::Idle).nice(19).io_priority(IoPriority::Idle).cpu_affinity([0]);
        let held = hold(&all)?;
        let found = schedule(held.pid);
        assert_eq!((found.policy, found.nice, found.io, found.processors.as_str()), (IDLE, 19, 3 << 13, "0"));
        held.release().map(drop)
    };
    finish(run())
}

fn values_that_cannot_be() -> Result {
    let wrong: [(&str, Sandbox); 12] = [
        ("nice 100", Sandbox::new().nice(100)),
        ("nice 20", Sandbox::new().nice(20)),
        ("nice -21", Sandbox::new().nice(-21)),
        ("FIFO 0", Sandbox::new().scheduler(Scheduler::Fifo(0))),
        ("FIFO 200", Sandbox::new().scheduler(Scheduler::Fifo(200))),
        ("RR 100", Sandbox::new().scheduler(Scheduler::RoundRobin(100))),
        ("RR most", Sandbox::new().scheduler(Scheduler::RoundRobin(u32::MAX))),
        ("level 8", Sandbox::new().io_priority(IoPriority::BestEffort(8))),
        ("level most", Sandbox::new().io_priority(IoPriority::RealTime(u32::MAX))),
        ("no processor", Sandbox::new().cpu_affinity([])),
        ("processor 4096", Sandbox::new().cpu_affinity([0, 4096])),
        ("processor most", Sandbox::new().cpu_affinity([u32::MAX])),
    ];
    for (name, sandbox) in wrong {
        // Best effort is for what a host lacks, and not for what no host has.
        for sandbox in [sandbox.clone(), sandbox.best_effort(Feature::Scheduling)] {
            let error = sandbox.plan().expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}: {}", explain(&error));
            assert!(error.hint().is_some(), "{name}: {}", explain(&error));
        }
    }
    Ok(())
}

/// A new group of a version 1 cpu controller has no real-time processor time: refused at the gate, with a hint; and a
/// container goes on after it.
fn a_group_without_real_time() -> Result {
    let sandbox = closed().cpu_weight(100).scheduler(Scheduler::Fifo(1));
    let container = sandbox.start()?;
    for attempt in 0..5 {
        let error = match attempt {
            0 => sandbox.spawn(payload("exit", &["0"])),
            _ => container.spawn(payload("exit", &["0"])),
        };
        let error = error.expect_err("the group has no real-time processor time");
        assert_eq!((error.kind(), error.step()), (ErrorKind::PermissionDenied, Step::Scheduling));
        assert!(error.hint().is_some_and(|hint| hint.contains("cpu.rt_runtime_us")), "{}", explain(&error));
    }
    // Nobody is left at the gate.
    let inits = oracle::children(std::process::id());
    let parked = || inits.iter().flat_map(|init| oracle::children(*init)).count();
    assert!(within(Duration::from_secs(2) * slack(), || parked() == 0), "{} are left", parked());
    // The positive control: without a group of its own, the same.
    assert_eq!(schedule(hold(&closed().scheduler(Scheduler::Fifo(1)))?.pid).policy, FIFO);
    assert_eq!(schedule(hold(&closed().cpu_weight(100))?.pid).policy, OTHER);
    Ok(())
}

fn gate_host(_: &[OsString]) -> i32 {
    real_time_run(closed())
}

fn gate_host_bare(_: &[OsString]) -> i32 {
    real_time_run(support::with_payload(Sandbox::bare().mount_ns()))
}

fn real_time_run(sandbox: Sandbox) -> i32 {
    let result = sandbox.scheduler(Scheduler::Fifo(1)).status(payload("exit", &["0"]));
    println!("{:?}", result.map(|outcome| outcome.verdict).map_err(|error| error.step()));
    0
}

/// A host that strace(1) keeps from answering at the gate for so many seconds.
struct SlowHost {
    strace: std::process::Child,
    host: u32,
    init: u32,
    parked: u32,
}

impl SlowHost {
    fn start(role: &str, seconds: u32) -> Result<Self> {
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sched_setscheduler"]);
        command.args(["-e", &format!("inject=sched_setscheduler:delay_enter={seconds}s")]);
        command.arg(support::own_exe()).args(["--role", role]);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        let strace = command.spawn()?;
        let only_child = |pid: u32| oracle::children(pid).first().copied();
        let mut found = None;
        let parks = within(Duration::from_secs(10) * slack(), || {
            found = only_child(strace.id()).and_then(|host| {
                let init = only_child(host)?;
                Some((host, init, only_child(init)?))
            });
            // The host is in the call that it is kept from: number 144 on x86-64 and 119 on AArch64.
            found.is_some_and(|(host, ..)| {
                let tasks = fs::read_dir(format!("/proc/{host}/task")).into_iter().flatten().flatten();
                tasks.into_iter().any(|task| {
                    let number = libc::SYS_sched_setscheduler.to_string();
                    let text = fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
                    text.split(' ').next() == Some(&number)
                })
            })
        });
        let Some((host, init, parked)) = found.filter(|_| parks) else {
            return fail("the host did not come to the gate");
        };
        assert_eq!(schedule(parked).policy, OTHER, "it waits before the host has acted");
        Ok(Self { strace, host, init, parked })
    }

    fn are_gone(&self, patience: Duration) -> bool {
        within(patience, || !oracle::is_alive(self.parked) && !oracle::is_alive(self.init))
    }
}

impl SlowHost {
    /// Kills the host, and strace, which would hold back the death of a process that it delays.
    fn kill(&mut self) {
        let host = nix::unistd::Pid::from_raw(self.host as i32);
        nix::sys::signal::kill(host, nix::sys::signal::Signal::SIGKILL).ok();
        self.strace.kill().ok();
        self.strace.wait().ok();
    }
}

impl Drop for SlowHost {
    fn drop(&mut self) {
        self.kill();
    }
}

fn dies_at_the_gate(role: &str) -> Result {
    let mut slow = SlowHost::start(role, 100)?;
    slow.kill();
    assert!(slow.are_gone(Duration::from_secs(2) * slack()), "something waits for a dead host");
    Ok(())
}

fn the_host_dies_at_the_gate() -> Result {
    dies_at_the_gate("gate-host")
}

fn the_host_of_a_bare_sandbox_dies_at_the_gate() -> Result {
    dies_at_the_gate("gate-host-bare")
}

/// The payload has a minute from its fork to its exec, which is long for a test.
fn the_host_never_comes_to_the_gate() -> Result {
    let slow = SlowHost::start("gate-host", 170)?;
    std::thread::sleep(Duration::from_secs(50));
    assert!(oracle::is_alive(slow.parked), "its time was not over");
    assert!(slow.are_gone(Duration::from_secs(20) * slack()), "it waits for ever");
    assert!(oracle::is_alive(slow.host), "the host is what did not come");
    Ok(())
}

/// Somebody kills what is parked: it stays a zombie, and its id its own, until the host has come; then the spawn ends.
fn a_parked_program_is_killed() -> Result {
    use std::io::Read;
    let mut slow = SlowHost::start("gate-host", 4)?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(slow.parked as i32),
        nix::sys::signal::Signal::SIGKILL,
    )?;
    let state = |pid| oracle::status(pid).get("State").cloned().unwrap_or_default();
    assert!(within(Duration::from_secs(1), || state(slow.parked).starts_with('Z')), "{}", state(slow.parked));
    std::thread::sleep(Duration::from_millis(500));
    assert!(state(slow.parked).starts_with('Z'), "its id may be another process's: {}", state(slow.parked));
    let mut text = String::new();
    slow.strace.stdout.take().expect("piped").read_to_string(&mut text)?;
    assert_eq!(text, "Ok(Signaled(9))\n");
    assert!(slow.are_gone(Duration::from_secs(2) * slack()));
    Ok(())
}
