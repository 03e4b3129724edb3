//! Running sandboxes: limits that change, freezing, what is used, what happens.
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
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar::{
    Bytes, CgroupParent, Child, Command, CpuMax, DeviceAccess, DeviceRules, ErrorKind, Event, Events, Limits,
    Sandbox, Stdio, Verdict,
};
use support::{
    Result, closed, explain, fail, hold, mib, payload, role_command, run_helper, run_role, sh, slack, timed,
    within,
};

fn main() -> ExitCode {
    let cases = cases![
        limits_are_raised_and_lowered: ["userns", "cgroup-memory", "cgroup-pids"],
        bandwidth_is_changed_while_a_program_runs: ["userns", "cgroup-cpu", "cgroup-cpuacct"],
        updates_that_cannot_be: ["userns", "cgroup-memory", "cgroup-pids"],
        an_update_that_fails_changes_nothing: ["userns", "cgroup-cpu", "cgroup-cpuset", "cgroup-cpuacct"],
        an_update_that_fails_kills_nothing: ["userns", "cgroup-memory", "cgroup-cpuset"],
        device_rules_come_back: ["userns", "root", "cgroup-memory"],
        bandwidth_may_have_any_period: ["userns", "cgroup-cpu"],
        freezing_and_spawning_do_not_meet: ["userns", "cgroup-v2"],
        the_outcome_outlives_a_failed_removal: ["userns", "cgroup-memory"],
        a_frozen_container_takes_no_program: ["userns", "cgroup-v2"],
        the_end_is_told: ["userns", "cgroup-v2", "cgroup-pids"],
        a_frozen_program_does_nothing: ["userns", "cgroup-v2", "cgroup-cpuacct"],
        a_frozen_sandbox_can_be_killed: ["userns", "cgroup-v2"],
        what_version_1_has_frozen_can_be_killed: ["userns", "freezer"],
        a_host_dies_that_has_frozen_in_version_1: ["userns", "freezer"],
        a_sandbox_that_was_not_made_to_be_frozen: ["userns", "cgroup-pids"],
        usage_at_any_time: ["userns", "cgroup-memory", "cgroup-pids", "cgroup-cpuacct"],
        the_peak_of_memory_starts_again: ["userns", "cgroup-memory", "peak-reset"],
        pressure_is_told: ["userns", "cgroup-v2", "psi"],
        a_refused_fork_is_told: ["userns", "cgroup-pids"],
        a_kill_for_memory_is_told: ["userns", "cgroup-memory"],
        freezing_is_told: ["userns", "cgroup-v2"],
        more_events_than_the_user_may_watch: ["userns", "cgroup-v2", "bare"],
        without_a_cgroup_there_is_nothing_to_control: ["userns"],
    ];
    let roles: &[support::Role] = &[("watch-nothing", watch_nothing), ("freeze", freeze)];
    support::main_serial(cases, roles)
}

/// The next event of this kind; others may come before it.
fn await_event(events: &mut Events, wanted: Event) -> Result {
    let deadline = Instant::now() + Duration::from_secs(10) * slack();
    let mut seen = Vec::new();
    while let Some(event) = events.next(Some(deadline.saturating_duration_since(Instant::now())))? {
        if event == wanted {
            return Ok(());
        }
        seen.push(event);
    }
    fail(format!("no {wanted:?}, but {seen:?}"))
}

/// A program that touches so many MiB.
fn alloc(mib: u64) -> Command {
    payload("alloc", &[&(mib << 20).to_string()])
}

fn limits_are_raised_and_lowered() -> Result {
    let container = closed().memory_max(mib(32)).pids_max(32).start()?;
    assert_eq!(container.status(alloc(64))?.verdict, Verdict::MemoryExceeded);
    container.update(&Limits::new().memory_max(mib(200)))?;
    assert_eq!(container.status(alloc(64))?.verdict, Verdict::Exited(0));
    container.update(&Limits::new().memory_max(mib(32)))?;
    assert_eq!(container.status(alloc(64))?.verdict, Verdict::MemoryExceeded);
    container.update(&Limits::new().memory_max(Bytes::MAX))?;
    assert_eq!(container.status(alloc(64))?.verdict, Verdict::Exited(0));

    let fork = || sh("/bin/true & wait $!");
    assert_eq!(container.status(fork())?.verdict, Verdict::Exited(0));
    container.update(&Limits::new().pids_max(1))?;
    assert_ne!(container.status(fork())?.verdict, Verdict::Exited(0));
    Ok(())
}

fn bandwidth_is_changed_while_a_program_runs() -> Result {
    // The weight makes others on this machine no reason to get less than the quota.
    let sandbox = closed().cpu_max(CpuMax::cpus(1.0)).cpu_weight(10_000).cpu_time(Duration::from_secs(60));
    let mut child = sandbox.spawn(payload("burn", &["60000"]))?;
    let share = |child: &belljar::Child| -> Result<f64> {
        let (before, start) = (child.usage()?.cpu, Instant::now());
        std::thread::sleep(Duration::from_millis(600));
        Ok((child.usage()?.cpu - before).as_secs_f64() / start.elapsed().as_secs_f64())
    };
    child.update(&Limits::new().cpu_max(CpuMax::cpus(0.2)))?;
    let slow = share(&child)?;
    assert!(slow < 0.3, "{slow}");
    let throttled = child.usage()?.throttled.expect("there is a cpu cgroup");
    assert!(throttled > Duration::from_millis(100), "{throttled:?}");
    child.kill()?;
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    Ok(())
}

fn updates_that_cannot_be() -> Result {
    let container = closed().memory_max(mib(64)).start()?;
    let refused = |limits: Limits| match container.update(&limits) {
        Ok(()) => fail(format!("{limits:?} was taken")),
        Err(error) => Ok((error.kind(), error.hint().map(str::to_owned))),
    };
    let (kind, hint) = refused(Limits::new().pids_max(10))?;
    assert_eq!(kind, ErrorKind::InvalidConfig, "it was made without that controller");
    assert!(hint.is_some());
    assert_eq!(refused(Limits::new().memory_max(0))?.0, ErrorKind::InvalidConfig);
    // One of the two hierarchies has each of these. The first would stay in force, and slow down what comes below for
    // minutes, if it were less than the limit.
    let one_of = [Limits::new().memory_high(mib(64)), Limits::new().swappiness(10)];
    let kinds: Vec<_> = one_of.iter().filter_map(|limits| container.update(limits).err()).collect();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!(kinds[0].kind(), ErrorKind::Unsupported);
    let idle = closed().cpu_max(CpuMax::cpus(1.0)).idle_time(Duration::from_secs(1)).start()?;
    let quota = CpuMax::new(Duration::from_millis(10), Duration::from_secs(1));
    let error = idle.update(&Limits::new().cpu_max(quota)).expect_err("a busy program would be idle");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.hint().is_some_and(|hint| hint.contains("idle_time(")), "{}", explain(&error));
    // And what was in force still is.
    assert_eq!(container.status(alloc(128))?.verdict, Verdict::MemoryExceeded);
    let ended = closed().memory_max(mib(64)).spawn(payload("exit", &["0"]))?;
    let mut ended = ended;
    ended.wait()?;
    assert!(ended.update(&Limits::new().memory_max(mib(1))).is_err());
    Ok(())
}

/// Of two limits the second is refused: the first, which the sandbox did not have before, is taken back.
fn an_update_that_fails_changes_nothing() -> Result {
    let sandbox = closed().cpu_weight(100).cpuset_cpus([0]).cpu_time(Duration::from_secs(60));
    let held = hold(&sandbox)?;
    let dir = |name: &str| {
        support::features::directory_of(&held.pid.to_string(), name).expect("it has the controller")
    };
    let files = [
        ("cpu", "cpu.cfs_quota_us"),
        ("cpu", "cpu.shares"),
        ("cpu", "cpu.max"),
        ("cpu", "cpu.weight"),
        ("cpuset", "cpuset.cpus"),
    ];
    let look = || files.map(|(name, file)| fs::read_to_string(dir(name).join(file)).ok());
    let before = look();
    let limits = Limits::new().cpu_max(CpuMax::cpus(0.05)).cpu_weight(7).cpuset_cpus([4000]);
    assert!(held.child.update(&limits).is_err(), "there is no such processor");
    assert_eq!(look(), before);
    held.child.update(&Limits::new().cpu_max(CpuMax::cpus(0.5)).cpu_weight(200))?;
    assert_ne!(look(), before);
    held.release().map(drop)
}

/// A program that has touched so many MiB and waits.
fn hold_memory(sandbox: &Sandbox, mib: u64) -> Result<support::Held> {
    support::hold_with(sandbox, payload("alloc", &[&(mib << 20).to_string(), "hold"]))
}

/// Less memory than is in use would be the death of the program on version 2, and the other limit is refused.
fn an_update_that_fails_kills_nothing() -> Result {
    let held = hold_memory(&closed().memory_max(mib(200)).cpuset_cpus([0]), 64)?;
    let limits = Limits::new().memory_max(mib(8)).cpuset_cpus([4000]);
    held.child.update(&limits).expect_err("there is no such processor");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(held.child.usage()?.oom_kills, Some(0));
    held.release().map(drop)
}

/// What was told about devices is told again when another limit is refused.
fn device_rules_come_back() -> Result {
    let null = DeviceRules::none().allow_char(1, 3, DeviceAccess::READ | DeviceAccess::WRITE);
    let sandbox = closed().memory_max(mib(200)).swap_max(0).devices(null);
    let held = hold_memory(&sandbox, 64)?;
    let wider = DeviceRules::none().allow_char(1, 5, DeviceAccess::READ);
    let limits = Limits::new().devices(wider).memory_max(mib(8)).swap_max(0);
    // Version 1 refuses to have less memory than is in use, version 2 to change devices.
    held.child.update(&limits).expect_err("one of the two is refused");
    let devices = support::features::directory_of(&held.pid.to_string(), "devices");
    if let Some(list) = devices.and_then(|dir| std::fs::read_to_string(dir.join("devices.list")).ok()) {
        assert_eq!(list, "c 1:3 rw\n");
    }
    held.release().map(drop)
}

/// The quota and the period are files of their own on version 1, and between the two the share is another one. Below a
/// group with one processor, nothing may have more, not for a moment.
fn bandwidth_may_have_any_period() -> Result {
    let own = support::features::controller_dir("cpu").expect("the case needs it");
    let above = support::TestGroup::make_in(&own)?;
    let quota = above.path().join("cpu.cfs_quota_us");
    if quota.exists() {
        std::fs::write(quota, "100000")?;
    }
    let limit = |quota, period| CpuMax::new(Duration::from_micros(quota), Duration::from_micros(period));
    let sandbox = closed().cpu_max(limit(90_000, 100_000));
    let held = hold(&sandbox.cgroup_parent(CgroupParent::Path(above.path().to_owned())))?;
    let dir = support::features::directory_of(&held.pid.to_string(), "cpu").expect("it has the controller");
    for (quota, period) in
        [(9_000, 10_000), (900_000, 1_000_000), (1_000, 1_000_000), (1_000, 1_100), (90_000, 100_000)]
    {
        held.child.update(&Limits::new().cpu_max(limit(quota, period)))?;
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
        let is = read("cpu.max").or_else(|| {
            Some(format!("{} {}", read("cpu.cfs_quota_us")?.trim_end(), read("cpu.cfs_period_us")?))
        });
        assert_eq!(is, Some(format!("{quota} {period}\n")));
    }
    held.release().map(drop)
}

/// A program that was born frozen would never say that it started.
fn freezing_and_spawning_do_not_meet() -> Result {
    let container = freezable().start()?;
    for round in 0..40 {
        let (done, spawned) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| -> Result {
            let container = &container;
            let freezing = scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(25 * round) * slack());
                container.freeze()?;
                spawned.recv_timeout(Duration::from_secs(5)).ok();
                container.thaw()
            });
            let (spawned, took) = timed(|| container.spawn(payload("exit", &["0"])));
            drop(done);
            freezing.join().expect("no panic")?;
            assert!(took < Duration::from_secs(2) * slack(), "{took:?}");
            match spawned {
                Ok(mut child) => assert_eq!(child.wait()?.verdict, Verdict::Exited(0)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", support::explain(&error))
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn the_outcome_outlives_a_failed_removal() -> Result {
    let mut child = hold(&closed().memory_max(mib(64)))?;
    let dir = support::features::directory_of(&child.pid.to_string(), "memory").expect("it is in a box");
    // Somebody who may, an agent of the machine for instance, makes a group in ours.
    let foreign = dir.join("foreign");
    std::fs::create_dir(&foreign)?;
    child.child.kill()?;
    let first = child.child.wait();
    let second = child.child.wait();
    std::fs::remove_dir(foreign)?;
    let error = first.expect_err("what is not empty cannot be removed");
    assert_eq!(error.path(), Some(dir.as_path()), "{error}");
    let outcome = second?;
    assert_eq!(outcome.verdict, Verdict::Killed);
    assert!(outcome.usage.peak_memory.is_some(), "it has what was counted: {outcome:?}");
    drop(child);
    assert!(!dir.exists(), "it is tried again at the end");
    Ok(())
}

fn a_frozen_container_takes_no_program() -> Result {
    let container = freezable().start()?;
    container.freeze()?;
    let (refused, took) = timed(|| container.status(payload("exit", &["0"])));
    let error = refused.expect_err("it would never start");
    assert!(error.hint().is_some_and(|hint| hint.contains("thaw")), "{error}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    container.thaw()?;
    run_in(&container, payload("exit", &["0"]))
}

fn the_end_is_told() -> Result {
    for sandbox in [freezable(), closed().pids_max(8)] {
        let container = sandbox.start()?;
        let mut events = container.events()?;
        let waiter = std::thread::spawn(move || {
            let first = events.next(None);
            (first, events.next(None))
        });
        std::thread::sleep(Duration::from_millis(100));
        container.close()?;
        let (first, second) = waiter.join().expect("no panic");
        assert_eq!((first?, second?), (Some(Event::Ended), Some(Event::Ended)));
    }
    Ok(())
}

fn freezable() -> Sandbox {
    closed().freezable()
}

fn a_frozen_program_does_nothing() -> Result {
    let container = freezable().cpu_time(Duration::from_secs(60)).start()?;
    let mut child = container.spawn(payload("burn", &["60000"]))?;
    let used = || container.usage().map(|usage| usage.cpu);
    assert!(within(Duration::from_secs(10), || used().is_ok_and(|cpu| cpu > Duration::from_millis(50))));
    container.freeze()?;
    let before = used()?;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(used()?, before, "not a microsecond");
    container.thaw()?;
    assert!(within(Duration::from_secs(10), || used().is_ok_and(|cpu| cpu > before)));
    child.kill()?;
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    Ok(())
}

fn a_frozen_sandbox_can_be_killed() -> Result {
    // By its handle, by its wall time, and by being dropped.
    let mut child = freezable().spawn(payload("sleep", &["60000"]))?;
    child.freeze()?;
    child.kill()?;
    let (outcome, took) = timed(|| child.wait());
    assert_eq!(outcome?.verdict, Verdict::Killed);
    assert!(took < Duration::from_secs(2) * slack(), "{took:?}");

    let mut child = freezable().wall_time(Duration::from_millis(300)).spawn(payload("sleep", &["60000"]))?;
    child.freeze()?;
    assert_eq!(child.wait()?.verdict, Verdict::WallTimeExceeded);

    let held = hold(&freezable())?;
    held.child.freeze()?;
    let ((), took) = timed(|| drop(held.child));
    assert!(took < Duration::from_secs(2) * slack(), "{took:?}");
    assert!(!support::oracle::is_alive(held.pid));
    Ok(())
}

/// A directory that the freezer's hierarchy of version 1 alone has, so that what is frozen below it is frozen there.
struct OnlyInVersion1(PathBuf);

impl OnlyInVersion1 {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("belljar-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = support::features::controller_dir("freezer").expect("it is mounted").join(name);
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    /// Sandboxes below it, with and without a PID namespace, and a program for each that has two children.
    fn sandboxes(&self) -> [(Sandbox, Command); 2] {
        let mut on_the_host = Command::new(support::own_exe());
        on_the_host.args(["--role", "burn-tree", "2", "60000"]);
        let both = [(closed(), payload("burn-tree", &["2", "60000"])), (Sandbox::bare(), on_the_host)];
        both.map(|(sandbox, command)| {
            (sandbox.freezable().cgroup_parent(CgroupParent::Path(self.0.clone())), command)
        })
    }

    fn boxes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    fn processes(&self) -> Vec<u32> {
        let text = |dir: PathBuf| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let all: String = self.boxes().into_iter().map(text).collect();
        all.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn are_frozen(&self, count: usize) -> bool {
        let frozen = |dir: &PathBuf| {
            fs::read_to_string(dir.join("freezer.state")).is_ok_and(|text| text == "FROZEN\n")
        };
        self.processes().len() == count && self.boxes().iter().all(frozen)
    }
}

impl Drop for OnlyInVersion1 {
    /// A test that failed may leave something frozen behind.
    fn drop(&mut self) {
        let removed = within(Duration::from_secs(5), || {
            for pid in self.processes() {
                let pid = nix::unistd::Pid::from_raw(pid as i32);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
            for dir in self.boxes() {
                fs::write(dir.join("freezer.state"), "THAWED").ok();
                fs::remove_dir(dir).ok();
            }
            fs::remove_dir(&self.0).is_ok()
        });
        if !removed {
            eprintln!("leaving {} behind", self.0.display());
        }
    }
}

/// That they all end soon, none of them having been thawed but to die.
fn are_gone(pids: &[u32]) -> bool {
    within(Duration::from_secs(3) * slack(), || !pids.iter().any(|pid| support::oracle::is_alive(*pid)))
}

fn what_version_1_has_frozen_can_be_killed() -> Result {
    type End = (&'static str, fn(Child) -> Result);
    let ends: [End; 3] = [
        ("its handle", |mut child| {
            child.kill()?;
            let outcome = child.wait_timeout(Duration::from_secs(10) * slack())?;
            assert_eq!(outcome.map(|outcome| outcome.verdict), Some(Verdict::Killed));
            Ok(())
        }),
        ("its wall time", |mut child| {
            let outcome = child.wait_timeout(Duration::from_secs(10) * slack())?;
            assert_eq!(outcome.map(|outcome| outcome.verdict), Some(Verdict::WallTimeExceeded));
            Ok(())
        }),
        ("being dropped", |child| {
            drop(child);
            Ok(())
        }),
    ];
    let place = OnlyInVersion1::new()?;
    for (sandbox, command) in place.sandboxes() {
        for (name, end) in ends {
            let child = sandbox.clone().wall_time(Duration::from_secs(2) * slack()).spawn(&command)?;
            assert!(within(Duration::from_secs(1) * slack(), || place.processes().len() == 3), "{name}");
            child.freeze()?;
            assert!(place.are_frozen(3), "{name}");
            let pids = place.processes();
            let (ended, took) = timed(|| end(child));
            ended?;
            assert!(took < Duration::from_secs(4) * slack(), "{name}: {took:?}");
            assert!(are_gone(&pids), "{name}");
            assert_eq!(place.boxes(), Vec::<PathBuf>::new(), "{name}");
        }
        let container = sandbox.start()?;
        let programs = [container.spawn(&command)?, container.spawn(&command)?];
        assert!(within(Duration::from_secs(1) * slack(), || place.processes().len() == 6));
        container.freeze()?;
        assert!(place.are_frozen(6));
        let pids = place.processes();
        drop(programs);
        drop(container);
        assert!(are_gone(&pids));
        assert_eq!(place.boxes(), Vec::<PathBuf>::new());
    }
    Ok(())
}

/// A host that freezes a program below a directory and then waits to be killed: `freeze DIRECTORY SANDBOX`.
fn freeze(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let place = ManuallyDrop::new(OnlyInVersion1(PathBuf::from(&args[0])));
        let (sandbox, command) = &place.sandboxes()[support::roles::int(args, 1) as usize];
        let child = sandbox.spawn(command)?;
        within(Duration::from_secs(10) * slack(), || place.processes().len() == 3);
        child.freeze()?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    };
    i32::from(run().is_err())
}

fn a_host_dies_that_has_frozen_in_version_1() -> Result {
    for which in 0..2 {
        let place = OnlyInVersion1::new()?;
        let dir = place.0.to_str().expect("UTF-8");
        let mut host = role_command("freeze", &[dir, &which.to_string()]).spawn()?;
        assert!(within(Duration::from_secs(10) * slack(), || place.are_frozen(3)), "{:?}", place.processes());
        let mut pids = place.processes();
        pids.extend(support::oracle::children(host.id()));
        assert_eq!(pids.len(), 4, "and the init");
        host.kill()?;
        host.wait()?;
        assert!(are_gone(&pids), "what is frozen outlives its host");
        // The box is removed by the next host that comes here.
        assert_eq!(place.boxes().len(), 1);
        let (sandbox, _) = &place.sandboxes()[0];
        run_in(&sandbox.start()?, payload("exit", &["0"]))?;
        assert_eq!(place.boxes(), Vec::<PathBuf>::new());
    }
    Ok(())
}

/// Any box of version 2 can be frozen; of version 1 it takes a freezer.
fn a_sandbox_that_was_not_made_to_be_frozen() -> Result {
    let held = hold(&closed().pids_max(8))?;
    let dir = support::features::directory_of(&held.pid.to_string(), "pids").expect("it has the controller");
    let is_frozen = || fs::read_to_string(dir.join("cgroup.freeze")).ok().map(|text| text == "1\n");
    if is_frozen().is_some() {
        held.child.freeze()?;
        assert_eq!(is_frozen(), Some(true));
        held.child.thaw()?;
        assert_eq!(is_frozen(), Some(false));
    } else {
        let error = held.child.freeze().expect_err("version 1 has a hierarchy of its own for that");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("freezable")), "{}", explain(&error));
    }
    held.release().map(drop)
}

fn usage_at_any_time() -> Result {
    let sandbox = closed().memory_max(mib(200)).pids_max(16).cpu_time(Duration::from_secs(20));
    let container = sandbox.start()?;
    let before = container.usage()?;
    assert_eq!((before.pids, before.oom_kills), (Some(0), Some(0)));
    let mut command = payload("alloc", &[&(50_u64 << 20).to_string(), "hold"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = container.spawn(&command)?;
    let memory = || container.usage().ok().and_then(|usage| usage.memory).unwrap_or(0);
    assert!(within(Duration::from_secs(10) * slack(), || memory() > 48 << 20), "{}", memory());
    let usage = container.usage()?;
    assert!(usage.pids >= Some(1) && usage.peak_memory >= usage.memory, "{usage:?}");
    assert_eq!(child.usage()?.pids, usage.pids, "both handles are about the same box");
    child.kill()?;
    child.wait()?;
    assert!(within(Duration::from_secs(5), || container.usage().is_ok_and(|usage| usage.pids == Some(0))));
    Ok(())
}

fn the_peak_of_memory_starts_again() -> Result {
    let container = closed().memory_max(mib(200)).start()?;
    let peak = || -> Result<u64> { Ok(container.usage()?.peak_memory.expect("this kernel has it")) };
    run_in(&container, alloc(64))?;
    assert!(peak()? > 60 << 20, "{}", peak()?);
    container.reset_peak_memory()?;
    assert!(peak()? < 40 << 20, "{}", peak()?);
    run_in(&container, alloc(48))?;
    assert!((44 << 20..60 << 20).contains(&peak()?), "{}", peak()?);
    Ok(())
}

fn run_in(container: &belljar::Container, command: Command) -> Result {
    match container.status(command)?.verdict {
        Verdict::Exited(0) => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

fn pressure_is_told() -> Result {
    // Two programs that burn, bound to one processor by a tenth of its time: both wait.
    let container = closed().pressure().start()?;
    let before = container.pressure()?.cpu.expect("psi tells of the CPU").some.total;
    let mut programs: Vec<_> =
        (0..6).map(|_| container.spawn(payload("burn", &["60000"]))).collect::<belljar::Result<_>>()?;
    let total = || container.pressure().ok().and_then(|told| told.cpu).map(|cpu| cpu.some.total);
    assert!(within(Duration::from_secs(20), || total() > Some(before + Duration::from_millis(20))));
    for program in &mut programs {
        program.kill()?;
        program.wait()?;
    }
    let without = closed().start()?;
    let error = without.pressure().expect_err("it was not asked for");
    assert!(error.hint().is_some());
    Ok(())
}

fn a_refused_fork_is_told() -> Result {
    let container = closed().pids_max(2).start()?;
    let mut events = container.events()?;
    assert_eq!(events.next(Some(Duration::from_millis(50)))?, None, "nothing has happened");
    container.status(sh("for i in 1 2 3 4; do /bin/sleep 1 & done"))?;
    await_event(&mut events, Event::PidsMax)
}

fn a_kill_for_memory_is_told() -> Result {
    let container = closed().memory_max(mib(32)).start()?;
    let mut events = container.events()?;
    for _ in 0..10 {
        assert_eq!(container.status(alloc(64))?.verdict, Verdict::MemoryExceeded);
        await_event(&mut events, Event::OomKill)?;
    }
    // Events are told to those who wait, at once.
    let (waited, took) = timed(|| -> Result {
        std::thread::scope(|scope| {
            scope.spawn(|| container.status(alloc(64)));
            await_event(&mut events, Event::OomKill)
        })
    });
    waited?;
    assert!(took < Duration::from_secs(5) * slack(), "{took:?}");
    Ok(())
}

fn freezing_is_told() -> Result {
    let container = freezable().start()?;
    let mut child = container.spawn(payload("sleep", &["60000"]))?;
    let mut events = container.events()?;
    container.freeze()?;
    await_event(&mut events, Event::Frozen)?;
    container.thaw()?;
    await_event(&mut events, Event::Thawed)?;
    child.kill()?;
    child.wait()?;
    await_event(&mut events, Event::Empty)
}

fn more_events_than_the_user_may_watch() -> Result {
    let helper = run_helper(&mut role_command("watch-nothing", &[]), Duration::from_secs(30) * slack())?;
    helper.succeed().map(drop)
}

/// A host in a user namespace of its own, where the number of inotify instances is bounded by its own choice.
fn watch_nothing(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
        let container = Sandbox::bare().freezable().start()?;
        drop(container.events()?);
        fs::write("/proc/sys/user/max_inotify_instances", "0")?;
        let error = container.events().expect_err("there is no instance left");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("sysctl fs.inotify.max_user_instances="), "{}", explain(&error));
        container.close()?;
        Ok(())
    };
    match run() {
        Ok(()) => 0,
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

fn without_a_cgroup_there_is_nothing_to_control() -> Result {
    let container = closed().start()?;
    let errors = [
        container.usage().err(),
        container.freeze().err(),
        container.events().err(),
        container.update(&Limits::new().pids_max(1)).err(),
        container.reset_peak_memory().err(),
    ];
    for error in errors {
        let error = error.expect("there is no cgroup");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.hint().is_some(), "{error}");
    }
    assert_eq!(run_role(&closed(), "exit", &["0"])?, "");
    Ok(())
}
