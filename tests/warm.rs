//! Programs of a container are forked from one that was confined before: they begin as any other does, each of them runs once,
//! and what lies ready is not counted, not seen and not to be had.
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

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{Command, Container, Resource, Sandbox, Seccomp, Stdio, Verdict};
use nix::sys::resource::{Resource as Limit, setrlimit};
use support::roles::text;
use support::{Result, closed, explain, hold_in, oracle, payload, raw, slack, succeed, within};

fn main() -> ExitCode {
    let cases = cases![
        programs_begin_alike: ["userns"],
        programs_begin_alike_with_a_policy: ["userns", "landlock-6"],
        what_waits_is_not_counted: ["userns", "cgroup-pids", "cgroup-memory"],
        what_waits_cannot_be_had: ["userns"],
        limits_and_kills_are_exact: ["userns", "cgroup-memory", "cgroup-pids"],
        each_runs_once_beside_a_killer: ["userns"],
        each_runs_once_beside_one_who_stops: ["userns"],
        each_runs_once_beside_root: ["userns"],
        many_threads: ["userns"],
        large_commands: ["userns"],
        commands_that_cannot_be: ["userns"],
        policies_that_have_no_template: ["userns"],
        little_room_for_descriptors: ["userns"],
        nothing_runs_without_a_handle: ["userns"],
        a_template_that_cannot_fork: ["userns"],
        one_that_is_killed_with_its_command: ["userns"],
        one_that_fails_while_it_waits: ["userns", "root"],
        the_host_dies_while_one_is_forked: ["userns"],
        counters_of_a_box_that_looks_empty: ["userns", "cgroup-pids", "root"],
        as_many_as_there_is_room_for: ["userns"],
    ];
    let roles: &[support::Role] = &[
        ("looks", looks),
        ("marks", marks),
        ("kills", kills),
        ("stops", stops),
        ("stops-long", stops_long),
        ("stays", stays),
        ("fills", fills),
        ("grasps", grasps),
        ("without-nice", |_| support::role_result(without_nice())),
        ("crowded", |_| support::role_result(crowded())),
        ("dies", |_| support::role_result(dies())),
    ];
    support::main_serial(cases, roles)
}

/// What a program can see of how it begins, but for what is its own: ids of processes, times, addresses.
fn looks(_: &[OsString]) -> i32 {
    let own = ["Pid", "Tgid", "NSpid", "NStgid", "NSpgid", "NSsid", "PPid"];
    let status = fs::read_to_string("/proc/self/status").expect("it has a status");
    for line in status.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let counted = name.starts_with("Vm") || name.starts_with("Rss") || name.contains("ctxt_switches");
        if !own.contains(&name) && !counted && name != "SpeculationIndirectBranch" {
            println!("{line}");
        }
    }
    print!("{}", fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    print!("{}", fs::read_to_string("/proc/self/limits").expect("it has limits"));
    for number in 0..64 {
        let ask = |what| raw::syscall(libc::SYS_fcntl, [number, what, 0, 0, 0, 0]);
        if let (Ok(own), Ok(shared)) = (ask(libc::F_GETFD as usize), ask(libc::F_GETFL as usize)) {
            println!("descriptor {number}: {own} {shared}");
        }
    }
    let call = |number| raw::syscall(number, [0; 6]).unwrap_or(-1);
    let pid = call(libc::SYS_getpid);
    let (leads, group) = (call(libc::SYS_getsid) == pid, call(libc::SYS_getpgid) == pid);
    let umask = call(libc::SYS_umask);
    println!("leads its session {leads}, its group {group}, umask {umask:o}");
    println!("directory {:?}", std::env::current_dir());
    println!("arguments {:?}", std::env::args_os().skip(1).collect::<Vec<_>>());
    println!("variables {:?}", std::env::vars_os().collect::<BTreeMap<_, _>>());
    0
}

fn looking() -> Command {
    let mut command = payload("looks", &["one", "", "three"]);
    command.env("A", "1").current_dir("/tmp").stdin(Stdio::null());
    command
}

fn alike(sandbox: &Sandbox) -> Result {
    let alone = succeed(sandbox.output(looking())?)?;
    let container = sandbox.start()?;
    let mut descriptors = 0;
    for round in 0..8 {
        let seen = succeed(container.output(looking())?)?;
        assert_eq!(seen, alone, "round {round}");
        descriptors = seen.lines().filter(|line| line.starts_with("descriptor ")).count();
    }
    assert_eq!(descriptors, 3, "{alone}");
    let pool = sandbox.plan()?.pool().size(2).start()?;
    for round in 0..4 {
        assert_eq!(succeed(pool.output(looking())?)?, alone, "round {round} of the pool");
    }
    Ok(())
}

fn programs_begin_alike() -> Result {
    alike(&closed())?;
    alike(&closed().allow_all_syscalls())?;
    if support::features::missing("cgroup-pids").is_none() {
        alike(&closed().pids_max(8))?;
    }
    alike(&closed().rlimit(Resource::Nofile, 64, 64).rlimit(Resource::Stack, 1 << 20, 1 << 20))
}

fn programs_begin_alike_with_a_policy() -> Result {
    alike(&closed().landlock(belljar::Landlock::new().read("/").execute("/").write("/tmp")))?;
    alike(&closed().seccomp(Seccomp::new().kill(["ptrace"])))?;
    alike(&closed().seccomp(Seccomp::new().deny(["recvmsg", "chdir", "setsid", "close_range"])))
}

fn what_waits_is_not_counted() -> Result {
    let container = closed().pids_max(1).memory_max(support::mib(64)).start()?;
    for _ in 0..20 {
        assert_eq!(container.usage()?.pids, Some(0));
        let held = hold_in(&container)?;
        let usage = container.usage()?;
        assert_eq!((usage.pids, usage.peak_pids), (Some(1), Some(1)), "the program and nothing else");
        let outcome = held.release()?;
        assert_eq!(outcome.usage.pids_denied, Some(0), "{outcome:?}");
    }
    Ok(())
}

/// `PTRACE_SEIZE`.
const SEIZE: usize = 0x4206;

fn signal(pid: i64, signal: i32) -> std::io::Result<i64> {
    raw::syscall(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0])
}

/// Whom a program finds by their ids, and what it can do to them.
fn grasps(_: &[OsString]) -> i32 {
    let me = i64::from(std::process::id());
    for pid in (2..me + 8).filter(|pid| *pid != me) {
        if signal(pid, 0).is_err() {
            continue;
        }
        println!("alive");
        for file in ["mem", "environ", "maps", "fd", "syscall"] {
            let path = format!("/proc/{pid}/{file}");
            let opened = if file == "fd" {
                fs::read_dir(&path).map(|entries| entries.count()).map(drop)
            } else {
                fs::read(&path).map(drop)
            };
            if opened.is_ok() {
                println!("opened {path}");
            }
        }
        if raw::syscall(libc::SYS_ptrace, [SEIZE, pid as usize, 0, 0, 0, 0]).is_ok() {
            println!("attached to {pid}");
        }
    }
    0
}

fn what_waits_cannot_be_had() -> Result {
    let policy = Seccomp::new().allow(["ptrace"]);
    let proc = belljar::Mount::proc("/proc").full();
    let container = closed().mount(proc).seccomp(policy).start()?;
    let mut met = 0;
    for _ in 0..10 {
        let seen = succeed(container.output(payload("grasps", &[]))?)?;
        met += seen.lines().filter(|line| *line == "alive").count();
        assert!(seen.lines().all(|line| line == "alive"), "{seen}");
    }
    assert!(met > 0, "there is something to be met");
    // Of a program it is otherwise.
    let held = hold_in(&container)?;
    let seen = succeed(container.output(payload("grasps", &[]))?)?;
    assert!(seen.contains("attached to"), "{seen}");
    held.release().map(drop)
}

fn limits_and_kills_are_exact() -> Result {
    let policy = Seccomp::new();
    let container = closed().seccomp(policy).memory_max(support::mib(24)).pids_max(8).start()?;
    for _ in 0..3 {
        let outcome = container.status(payload("alloc", &[&(64 << 20).to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "{outcome:?}");
        let outcome = container.status(payload("fork-bomb", &["20"]))?;
        assert!(outcome.usage.pids_denied > Some(0), "{outcome:?}");
        let outcome = container.status(payload("exit", &["7"]))?;
        assert_eq!(outcome.verdict, Verdict::Exited(7));
        assert_eq!((outcome.usage.oom_kills, outcome.usage.pids_denied), (Some(0), Some(0)), "{outcome:?}");
        assert!(outcome.usage.wall < Duration::from_secs(1) * slack(), "{outcome:?}");
    }
    Ok(())
}

/// Adds its number to a file.
fn marks(args: &[OsString]) -> i32 {
    let number = text(args, 0);
    let mut file =
        fs::File::options().append(true).create(true).open("/tmp/marks").expect("/tmp is writable");
    file.write_all(format!("{number}\n").as_bytes()).expect("a line is written at once");
    0
}

/// Who kills, and is not killed by that: itself it does not signal.
fn kills(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        signal(-1, libc::SIGKILL).ok();
        std::thread::sleep(Duration::from_micros(300));
    }
    0
}

fn stops(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        for number in [libc::SIGSTOP, libc::SIGCONT, libc::SIGUSR1] {
            signal(-1, number).ok();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    0
}

/// Runs programs beside a hostile one of the same user.
fn once_beside(role: &str, rounds: usize) -> Result {
    let container = closed().start()?;
    let mut hostile = container.spawn(payload(role, &[]))?;
    let mut ended = BTreeMap::new();
    for number in 0..rounds {
        let marked =
            container.spawn(payload("marks", &[&number.to_string()])).and_then(|mut child| child.wait());
        match marked {
            Ok(outcome) => drop(ended.insert(number, outcome.verdict)),
            Err(error) => assert_ne!(error.kind(), belljar::ErrorKind::Internal, "{}", explain(&error)),
        }
    }
    hostile.kill()?;
    hostile.wait()?;
    let output = container.output(payload("cat", &["/tmp/marks"]))?;
    // If not one has run there is no file.
    let marks = if output.outcome.success() { succeed(output)? } else { String::new() };
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for line in marks.lines() {
        *counts.entry(line.parse().expect("a number")).or_default() += 1;
    }
    for (number, count) in &counts {
        assert_eq!(*count, 1, "{number} ran {count} times");
    }
    for (number, verdict) in &ended {
        if *verdict == Verdict::Exited(0) {
            assert!(counts.contains_key(number), "{number} ended well and did not run");
        }
    }
    // Afterwards it is as it was.
    for _ in 0..5 {
        assert_eq!(container.status(payload("exit", &["3"]))?.verdict, Verdict::Exited(3));
    }
    assert!(within(Duration::from_secs(5) * slack(), || one_is_quick(&container)));
    Ok(())
}

fn one_is_quick(container: &Container) -> bool {
    let start = Instant::now();
    container.status(payload("exit", &["0"])).is_ok_and(|outcome| outcome.success())
        && start.elapsed() < Duration::from_millis(500) * slack()
}

fn each_runs_once_beside_a_killer() -> Result {
    once_beside("kills", 150)
}

fn each_runs_once_beside_one_who_stops() -> Result {
    once_beside("stops", 40)
}

/// Stops whatever it can for so long that the init gives it up, and then lets it go on.
fn stops_long(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    let mut random = 0_u64;
    while Instant::now() < end {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(random >> 52));
        for _ in 0..20 {
            signal(-1, libc::SIGSTOP).ok();
            std::thread::sleep(Duration::from_micros(50));
        }
        std::thread::sleep(Duration::from_millis(115));
        signal(-1, libc::SIGCONT).ok();
        std::thread::sleep(Duration::from_micros(random >> 50 & 0xfff));
    }
    0
}

fn stays(_: &[OsString]) -> i32 {
    std::thread::sleep(Duration::from_secs(100));
    0
}

/// A payload that was given up, and goes on later, once left its failure for the next program, which ran on unknown to anybody.
fn nothing_runs_without_a_handle() -> Result {
    let container = closed().start()?;
    let mut hostile = container.spawn(payload("stops-long", &[]))?;
    let end = Instant::now() + Duration::from_secs(if support::soak() { 45 } else { 4 });
    let word = format!("belljar-warm-{}", std::process::id());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while Instant::now() < end {
                    if let Ok(mut child) = container.spawn(payload("stays", &[&word])) {
                        child.kill().ok();
                        child.wait().ok();
                    }
                }
            });
        }
    });
    hostile.kill()?;
    hostile.wait()?;
    assert!(within(Duration::from_secs(2) * slack(), || oracle::processes_with(&word).is_empty()));
    Ok(())
}

/// Fills what processes there may be, and keeps it filled.
fn fills(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        match raw::fork() {
            Ok(0) => {
                std::thread::sleep(Duration::from_secs(60));
                return 0;
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    0
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |n: usize| fields.get(n).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    number(11) + number(12)
}

/// What its inits use of processor time in a second, in ticks of a hundredth.
fn ticks_in_a_second() -> u64 {
    let inits = oracle::children(std::process::id());
    let now = || inits.iter().map(|init| cpu_ticks(*init)).sum::<u64>();
    let before = now();
    std::thread::sleep(Duration::from_secs(1));
    now() - before
}

/// The init is not kept from its work by it, nor busy for it.
fn a_template_that_cannot_fork() -> Result {
    let mut helper = support::role_command("crowded", &[]);
    support::run_helper(&mut helper, Duration::from_secs(60) * slack())?.succeed().map(drop)
}

fn crowded() -> Result {
    // It is outside of the box: what stops it is a limit that the host has.
    setrlimit(Limit::RLIMIT_NPROC, 40, 40)?;
    let container = closed().start()?;
    assert!(container.status(payload("exit", &["0"]))?.success());
    let mut bomb = container.spawn(payload("fills", &[]))?;
    std::thread::sleep(Duration::from_millis(300));
    assert!(ticks_in_a_second() < 30, "the init is busy");
    for _ in 0..3 {
        container.status(payload("exit", &["0"])).ok();
    }
    let start = Instant::now();
    bomb.kill()?;
    assert_eq!(bomb.wait()?.verdict, Verdict::Killed);
    assert!(start.elapsed() < Duration::from_secs(5) * slack());
    Ok(())
}

/// The youngest process of the init of the only container: the one that waits.
fn waiting() -> Result<u32> {
    let init = *oracle::children(std::process::id()).iter().max().expect("there is a container");
    std::thread::sleep(Duration::from_millis(200) * slack());
    oracle::children(init).into_iter().max().ok_or_else(|| support::Fail("nothing waits".into()))
}

/// It has not begun, so the program is started all the same.
fn one_that_is_killed_with_its_command() -> Result {
    let container = &closed().start()?;
    for _ in 0..3 {
        assert!(container.status(payload("exit", &["0"]))?.success());
        let pid = waiting()?;
        signal(pid.into(), libc::SIGSTOP)?;
        std::thread::scope(|scope| -> Result {
            let spawned = scope.spawn(|| container.status(payload("exit", &["5"])));
            std::thread::sleep(Duration::from_millis(100));
            signal(pid.into(), libc::SIGKILL)?;
            assert_eq!(spawned.join().expect("no panic")?.verdict, Verdict::Exited(5));
            Ok(())
        })?;
    }
    Ok(())
}

fn without_nice() -> Result {
    let sandbox = closed().nice(5);
    assert!(sandbox.status(payload("exit", &["0"]))?.success());
    let plan = sandbox.plan()?;
    raw::make_unknown(libc::SYS_setpriority)?;
    let pool = plan.pool().size(1).start()?;
    std::thread::sleep(Duration::from_millis(300) * slack());
    assert!(ticks_in_a_second() < 50, "the init is busy");
    let error = pool.status(payload("exit", &["0"])).expect_err("it is unknown");
    assert_eq!((error.step(), error.raw_os_error()), (belljar::Step::Scheduling, Some(libc::ENOSYS)));
    Ok(())
}

/// Its reason is told when a program is started, and it is no work for the init meanwhile.
fn one_that_fails_while_it_waits() -> Result {
    let mut helper = support::role_command("without-nice", &[]);
    support::run_helper(&mut helper, Duration::from_secs(60) * slack())?.succeed().map(drop)
}

/// A container without a PID namespace, whose host dies.
fn dies() -> Result {
    let word = std::env::var("BELLJAR_TEST_WORD").expect("it is set");
    let container = Sandbox::bare().start()?;
    let sleeper = || {
        let mut command = Command::new(support::own_exe());
        command.args(["--role", "stays", &word]);
        command
    };
    let first = container.spawn(sleeper())?;
    let init = *oracle::children(std::process::id()).iter().max().expect("the init");
    std::thread::sleep(Duration::from_millis(200) * slack());
    let others = oracle::children(init).into_iter().filter(|pid| Some(*pid) != first.id());
    // The template is the older one. While it is stopped, a payload is on its way that has no process id yet.
    signal(others.min().expect("a template").into(), libc::SIGSTOP)?;
    let _second = container.spawn(sleeper())?;
    signal(std::process::id().into(), libc::SIGKILL)?;
    Ok(())
}

fn the_host_dies_while_one_is_forked() -> Result {
    let word = format!("belljar-warm-bare-{}", std::process::id());
    let mut helper = support::role_command("dies", &[]);
    helper.env("BELLJAR_TEST_WORD", &word);
    let ended = support::run_helper(&mut helper, Duration::from_secs(60) * slack())?;
    assert!(ended.succeed().is_err(), "it was killed");
    assert!(within(Duration::from_secs(5) * slack(), || oracle::processes_with(&word).is_empty()));
    Ok(())
}

/// One program ends while another is on its way into the box.
fn counters_of_a_box_that_looks_empty() -> Result {
    let container = &closed().pids_max(5).start()?;
    let mut first = container.spawn(payload("sleep", &["600"]))?;
    let pid = waiting()?;
    signal(pid.into(), libc::SIGSTOP)?;
    std::thread::scope(|scope| -> Result {
        let second = scope.spawn(|| container.spawn(payload("fork-bomb", &["20"])));
        first.wait()?;
        signal(pid.into(), libc::SIGCONT)?;
        let second = second.join().expect("no panic")?;
        std::thread::sleep(Duration::from_millis(500) * slack());
        let outcome = container.status(payload("exit", &["0"]))?;
        assert_eq!(outcome.usage.pids_denied, Some(0), "they are another's: {outcome:?}");
        drop(second);
        Ok(())
    })
}

fn as_many_as_there_is_room_for() -> Result {
    let container = closed().start()?;
    let mut children = Vec::new();
    let error = loop {
        match container.spawn(payload("sleep", &["60000"])) {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
        assert!(children.len() <= 32);
    };
    assert_eq!((children.len(), error.kind()), (32, belljar::ErrorKind::ResourceExhausted));
    let mut last = children.pop().expect("there are some");
    last.kill()?;
    last.wait()?;
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

fn many_threads() -> Result {
    let container = closed().start()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let container = &container;
                scope.spawn(move || -> Result {
                    for n in 0..25 {
                        let code = (thread * 25 + n) % 200;
                        let mut command = payload("exit", &[&code.to_string()]);
                        command.stdout(Stdio::capture(100_u64));
                        assert_eq!(container.status(&command)?.verdict, Verdict::Exited(code));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// On both sides of what fits into a message, and of what is kept for that.
fn large_commands() -> Result {
    let container = closed().start()?;
    for length in [7000, 7800, 8000, 8192, 9000, 100_000] {
        let word = "x".repeat(length);
        let mut command = looking();
        command.arg(&word);
        let seen = succeed(container.output(&command)?)?;
        assert!(seen.contains(&word), "{length}");
    }
    Ok(())
}

fn commands_that_cannot_be() -> Result {
    let container = closed().start()?;
    for _ in 0..20 {
        let error = container.spawn(Command::new("/no/such")).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{}", explain(&error));
        let mut command = payload("exit", &["0"]);
        command.current_dir("/no/such");
        let error = container.spawn(&command).expect_err("there is none");
        assert_eq!((error.step(), error.raw_os_error()), (belljar::Step::Chdir, Some(libc::ENOENT)));
    }
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

/// Where each program is confined by itself, as always: a limit of processes of the user counts what waits, a listener could not
/// tell whose call it hears.
fn policies_that_have_no_template() -> Result {
    let limited = closed().rlimit(Resource::Nproc, 1, 1).start()?;
    let denied = closed().seccomp(Seccomp::new().kill(["getppid"])).start()?;
    let silent = closed().seccomp(Seccomp::new().deny(["execve", "execveat", "clone", "recvmsg"])).start()?;
    let number = libc::SYS_getppid.to_string();
    for _ in 0..5 {
        assert!(limited.status(payload("exit", &["0"]))?.success());
        let outcome = denied.status(payload("syscall", &[&number]))?;
        assert!(matches!(outcome.verdict, Verdict::SyscallDenied { .. }), "{outcome:?}");
        assert!(silent.status(payload("exit", &["0"]))?.success());
    }
    Ok(())
}

fn little_room_for_descriptors() -> Result {
    for most in [4, 8] {
        let container = closed().rlimit(Resource::Nofile, most, most).start()?;
        for _ in 0..4 {
            let outcome = container.status(payload("exit", &["0"]))?;
            assert_eq!(outcome.verdict, Verdict::Exited(0), "{most}");
        }
    }
    Ok(())
}

/// A program with the init's own user id can do more to what waits: the host must not wait for ever for all that.
fn each_runs_once_beside_root() -> Result {
    for role in ["kills", "stops"] {
        let container = closed().root().start()?;
        let mut hostile = container.spawn(payload(role, &[]))?;
        let start = Instant::now();
        for _ in 0..10 {
            container.spawn(payload("exit", &["0"])).and_then(|mut child| child.wait()).ok();
        }
        assert!(start.elapsed() < Duration::from_secs(120) * slack(), "{:?}", start.elapsed());
        hostile.kill()?;
        hostile.wait()?;
        // The first may have to wait for one that was stopped before, which the init gives up after five seconds.
        assert!(within(Duration::from_secs(10) * slack(), || one_is_quick(&container)));
    }
    Ok(())
}
