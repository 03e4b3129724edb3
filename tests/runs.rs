//! Limits of single programs, several of which run in one container at the same time.
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

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Bytes, Command, Container, CpuMax, DeviceRules, ErrorKind, Feature, Limits, Reuse, Sandbox, Stdio,
    Verdict,
};
use support::features::directory_of;
use support::oracle::{is_alive, processes_with};
use support::{Held, Result, closed, explain, held, hold_in, mib, own_exe, payload, sh, slack, within};

fn main() -> ExitCode {
    let cases = cases![
        memory_of_one: ["userns", "cgroup-memory", "sh"],
        memory_where_the_sandbox_has_no_limit: ["userns", "cgroup-memory"],
        memory_of_the_sandbox_is_less: ["userns", "cgroup-memory"],
        memory_of_two: ["userns", "cgroup-memory"],
        a_kill_beside_it_is_no_verdict: ["userns", "cgroup-memory", "sh"],
        processes_of_one: ["userns", "cgroup-pids"],
        processes_of_the_sandbox_are_fewer: ["userns", "cgroup-pids"],
        a_fork_bomb_beside_work: ["userns", "cgroup-pids", "sh"],
        cpu_time_of_one: ["userns", "cgroup-cpuacct"],
        cpu_time_is_counted_apart: ["userns", "cgroup-cpuacct"],
        idle_beside_work: ["userns", "cgroup-cpuacct"],
        cpu_bandwidth_of_one: ["userns", "cgroup-cpu", "cgroup-cpuacct"],
        wall_time_and_output_of_one: ["userns"],
        nothing_is_widened: ["userns", "cgroup-cpuacct"],
        one_program_alone: ["userns", "cgroup-memory", "cgroup-pids", "cgroup-cpuacct"],
        one_program_without_a_limit_of_the_sandbox: ["userns", "cgroup-memory", "cgroup-pids"],
        the_groups_are_where_the_kernel_looks: ["userns", "cgroup-memory", "cgroup-pids"],
        what_is_left_behind_dies: ["userns", "cgroup-pids"],
        many_at_once_leave_nothing: ["userns", "cgroup-memory", "cgroup-pids"],
        a_dropped_child_takes_its_group: ["userns", "cgroup-pids"],
        a_closed_container_takes_all_groups: ["userns", "cgroup-pids"],
        freezing_reaches_them: ["userns", "cgroup-pids", "cgroup-cpuacct"],
        what_cannot_be: ["userns", "cgroup-memory"],
        devices_of_one: ["userns", "root", "cgroup-pids"],
        what_is_in_force_is_told: ["userns", "cgroup-pids"],
        a_program_that_is_not_there: ["userns", "cgroup-pids"],
        in_a_pool: ["userns", "cgroup-memory", "cgroup-pids"],
        without_a_root: ["bare", "userns", "cgroup-memory", "cgroup-pids", "cgroup-cpuacct"],
    ];
    support::main_serial(cases, &[])
}

fn alloc(megabytes: u64) -> Command {
    payload("alloc", &[&(megabytes << 20).to_string()])
}

fn limited(mut command: Command, limits: Limits) -> Command {
    command.limits(limits).stderr(Stdio::null());
    command
}

fn memory(megabytes: u64) -> Limits {
    Limits::new().memory_max(mib(megabytes))
}

fn processes(max: u64) -> Limits {
    Limits::new().pids_max(max)
}

/// A program with limits that waits.
fn hold_limited(container: &Container, limits: Limits) -> Result<Held> {
    held(limited(payload("hold", &[]), limits), |command| container.spawn(command))
}

/// The cgroup of a process in the hierarchy of a controller.
fn group(pid: u32, controller: &str) -> PathBuf {
    directory_of(&pid.to_string(), controller).expect("the hierarchy is there")
}

/// The directory that groups of programs are made in: the box.
fn above(pid: u32, controller: &str) -> PathBuf {
    group(pid, controller).parent().expect("it is in a box").to_owned()
}

fn groups_in(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "run").collect()
}

fn memory_of_one() -> Result {
    let container = closed().memory_max(mib(512)).pids_max(64).start()?;
    let other = hold_in(&container)?;
    let outcome = container.status(limited(alloc(200), memory(32)))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    assert!(outcome.usage.oom_kills.is_some_and(|kills| kills >= 1), "{:?}", outcome.usage);
    if let Some(peak) = outcome.usage.peak_memory {
        assert!(peak <= 32 << 20 && peak > 30 << 20, "{peak}");
    }
    let oom = outcome.oom.expect("somebody was killed");
    assert_eq!(oom.scope, belljar::OomScope::Sandbox);
    if fs::File::open("/dev/kmsg").is_ok() {
        assert!(oom.victims.iter().all(|victim| victim.name == "payload"), "{oom:?}");
    }
    // What it could not have is there for others, and the next one is not blamed.
    let outcome = container.status(limited(alloc(200), memory(400)))?;
    assert_eq!((outcome.verdict, outcome.oom), (Verdict::Exited(0), None), "the positive control");
    assert_eq!(outcome.usage.oom_kills, Some(0));
    assert!(outcome.usage.peak_memory.is_none_or(|peak| peak > 190 << 20), "{:?}", outcome.usage);
    let outcome = container.status(limited(sh("exit 3"), memory(32)))?;
    assert_eq!(outcome.verdict, Verdict::Exited(3));
    assert!(
        outcome.usage.peak_memory.is_none_or(|peak| peak < 30 << 20),
        "its own peak: {:?}",
        outcome.usage
    );
    let outcome = other.release()?;
    assert_eq!((outcome.usage.oom_kills, outcome.oom), (Some(0), None), "what ran meanwhile is not blamed");
    Ok(())
}

fn memory_where_the_sandbox_has_no_limit() -> Result {
    for sandbox in [closed(), closed().pids_max(64), closed().cpu_time(Duration::from_secs(100))] {
        let container = sandbox.start()?;
        let outcome = container.status(limited(alloc(200), memory(32)))?;
        assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
        assert_eq!(container.status(alloc(200))?.verdict, Verdict::Exited(0), "the positive control");
    }
    Ok(())
}

fn memory_of_the_sandbox_is_less() -> Result {
    let container = closed().memory_max(mib(32)).start()?;
    let outcome = container.status(limited(alloc(200), memory(400)))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "{outcome:?}");
    assert_eq!(outcome.oom.expect("somebody was killed").scope, belljar::OomScope::Sandbox);
    // All together are within it, too.
    let mut first = payload("alloc", &[&(20_u32 << 20).to_string(), "hold"]);
    let first = held(limited(std::mem::replace(&mut first, sh("")), memory(400)), |command| {
        container.spawn(command)
    })?;
    let outcome = container.status(limited(alloc(20), memory(400)))?;
    let ended = (outcome.verdict, is_alive(first.pid));
    assert!(matches!(ended, (Verdict::MemoryExceeded, _) | (Verdict::Exited(0), false)), "{ended:?}");
    Ok(())
}

/// Both want the same at the same time, and one is not allowed it.
fn memory_of_two() -> Result {
    let container = closed().memory_max(mib(512)).start()?;
    for _ in 0..3 {
        let mut poor = container.spawn(limited(alloc(60), memory(32)))?;
        let mut rich = container.spawn(limited(alloc(60), memory(128)))?;
        let mut free = container.spawn(alloc(60))?;
        let (poor, rich, free) = (poor.wait()?, rich.wait()?, free.wait()?);
        let verdicts = [poor.verdict, rich.verdict, free.verdict];
        assert_eq!(verdicts, [Verdict::MemoryExceeded, Verdict::Exited(0), Verdict::Exited(0)]);
        assert_eq!((rich.usage.oom_kills, rich.oom), (Some(0), None));
        assert_eq!((free.usage.oom_kills, free.oom), (Some(0), None));
    }
    Ok(())
}

/// A failure that has nothing to do with memory, while somebody else runs out of it.
fn a_kill_beside_it_is_no_verdict() -> Result {
    let container = closed().memory_max(mib(512)).start()?;
    for limits in [None, Some(memory(64))] {
        let mut command = sh("read line; exit 7");
        command.stdin(Stdio::piped());
        if let Some(limits) = limits {
            command.limits(limits);
        }
        let mut failing = container.spawn(&command)?;
        assert_eq!(container.status(limited(alloc(200), memory(32)))?.verdict, Verdict::MemoryExceeded);
        let outcome = failing.wait()?;
        assert_eq!(outcome.verdict, Verdict::Exited(7), "{outcome:?}");
    }
    Ok(())
}

fn processes_of_one() -> Result {
    let container = closed().pids_max(64).start()?;
    let _other = hold_in(&container)?;
    let small = container.output(limited(payload("fork-bomb", &["30"]), processes(5)))?;
    assert_eq!(small.stdout, b"4 errno 11\n", "itself is one of five");
    let usage = small.outcome.usage;
    assert!(usage.pids_denied.is_some_and(|denied| denied >= 1), "{usage:?}");
    assert!(usage.peak_pids.is_none_or(|peak| peak == 5), "{usage:?}");
    let large = container.output(limited(payload("fork-bomb", &["30"]), processes(50)))?;
    assert_eq!(large.stdout, b"30 all\n", "the positive control");
    assert_eq!(large.outcome.usage.pids_denied, Some(0));
    Ok(())
}

fn processes_of_the_sandbox_are_fewer() -> Result {
    let container = closed().pids_max(10).start()?;
    let _held = [hold_in(&container)?, hold_limited(&container, processes(3))?];
    let output = container.output(limited(payload("fork-bomb", &["30"]), processes(50)))?;
    assert_eq!(output.stdout, b"7 errno 11\n", "two others and itself are of the ten");
    Ok(())
}

fn a_fork_bomb_beside_work() -> Result {
    let container = closed().pids_max(100).start()?;
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 60";
    let mut bomb = container.spawn(limited(sh(bomb), processes(20)))?;
    for _ in 0..20 {
        let outcome = container.status(sh("for i in 1 2 3 4 5; do /bin/true || exit 1; done"))?;
        assert_eq!(outcome.verdict, Verdict::Exited(0), "there is room beside it");
    }
    bomb.kill()?;
    assert_eq!(bomb.wait()?.verdict, Verdict::Killed);
    let left = || container.usage().is_ok_and(|usage| usage.pids == Some(0));
    assert!(
        within(Duration::from_secs(5) * slack(), left),
        "nothing of it is left: {:?}",
        container.usage()?
    );
    Ok(())
}

fn cpu_time_of_one() -> Result {
    for sandbox in [closed(), closed().cpu_time(Duration::from_secs(100)), closed().pids_max(64)] {
        let container = sandbox.start()?;
        let limit = Duration::from_millis(200);
        let mut small = payload("burn-tree", &["2", "20000"]);
        let mut large = payload("burn", &["800"]);
        let mut small = container.spawn(small.cpu_time(limit))?;
        let mut large = container.spawn(large.cpu_time(Duration::from_secs(20)))?;
        let outcome = small.wait()?;
        assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
        let most = limit + Duration::from_millis(50) * slack();
        assert!(outcome.usage.cpu >= limit && outcome.usage.cpu <= most, "{:?}", outcome.usage);
        assert!(outcome.enforced.contains(Feature::CpuTime));
        assert_eq!(large.wait()?.verdict, Verdict::Exited(0));
    }
    Ok(())
}

/// The sandbox's limit holds for each, and one that sleeps is not charged for one that works.
fn cpu_time_is_counted_apart() -> Result {
    let limit = Duration::from_millis(400);
    let container = closed().cpu_time(limit).start()?;
    let mut busy = container.spawn(limited(payload("burn", &["20000"]), Limits::new()))?;
    let long = (limit * 3 * slack()).as_millis().to_string();
    let mut idle = container.spawn(limited(payload("sleep", &[&long]), Limits::new()))?;
    let (busy, idle) = (busy.wait()?, idle.wait()?);
    assert_eq!([busy.verdict, idle.verdict], [Verdict::CpuTimeExceeded, Verdict::Exited(0)]);
    assert!(idle.usage.cpu < limit, "{:?}", idle.usage);
    Ok(())
}

fn idle_beside_work() -> Result {
    let limit = Duration::from_millis(300) * slack();
    let container = closed().start()?;
    let mut busy = payload("burn", &["60000"]);
    let mut busy = container.spawn(busy.idle_time(limit))?;
    let mut idle = payload("sleep", &["60000"]);
    let outcome = container.status(idle.idle_time(limit))?;
    assert_eq!(outcome.verdict, Verdict::IdleExceeded, "although somebody works in the container");
    assert!(busy.try_wait()?.is_none());
    busy.kill()?;
    assert_eq!(busy.wait()?.verdict, Verdict::Killed);
    Ok(())
}

fn cpu_bandwidth_of_one() -> Result {
    let cpus = |cpus| Limits::new().cpu_max(CpuMax::cpus(cpus));
    // The third has more than its sandbox, which version 1 refuses and nobody gets.
    for (outer, own) in [(None, 0.2), (Some(0.5), 0.2), (Some(0.2), 0.8)] {
        let sandbox = match outer {
            Some(outer) => closed().cpu_max(CpuMax::cpus(outer)),
            None => closed(),
        };
        let container = sandbox.start()?;
        let mut command = payload("burn", &["1500"]);
        let outcome = container.status(command.limits(cpus(own)).cpu_time(Duration::from_secs(60)))?;
        assert_eq!(outcome.verdict, Verdict::Exited(0));
        let (cpu, wall) = (outcome.usage.cpu.as_secs_f64(), outcome.usage.wall.as_secs_f64());
        assert!(cpu / wall < 0.35, "{outer:?} and {own}: {:?}", outcome.usage);
    }
    Ok(())
}

fn wall_time_and_output_of_one() -> Result {
    let container = closed().start()?;
    let mut long = container.spawn(payload("sleep", &["700"]))?;
    let mut short = payload("sleep", &["20000"]);
    let limit = Duration::from_millis(200);
    let outcome = container.status(short.wall_time(limit))?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    assert!(outcome.usage.wall >= limit && outcome.usage.wall < limit + Duration::from_millis(300) * slack());
    assert!(outcome.enforced.contains(Feature::WallTime));
    let mut flood = payload("flood", &["100000"]);
    let output = container.output(flood.output_max(5000))?;
    assert_eq!((output.outcome.verdict, output.stdout.len()), (Verdict::OutputExceeded, 5000));
    let mut piped = payload("flood", &["100000"]);
    piped.output_max(5000).stdout(Stdio::piped());
    let output = container.spawn(&piped)?.wait_with_output()?;
    assert_eq!((output.outcome.verdict, output.stdout.len()), (Verdict::OutputExceeded, 5000));
    assert_eq!(
        container.output(payload("flood", &["100000"]))?.stdout.len(),
        100_000,
        "the positive control"
    );
    assert_eq!(long.wait()?.verdict, Verdict::Exited(0));
    Ok(())
}

fn nothing_is_widened() -> Result {
    let limit = Duration::from_millis(200);
    let long = Duration::from_secs(60);
    let container = closed().wall_time(limit).output_max(1000).start()?;
    let outcome = container.status(payload("sleep", &["20000"]).wall_time(long))?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    let output = container.output(payload("flood", &["100000"]).output_max(50_000))?;
    assert_eq!((output.outcome.verdict, output.stdout.len()), (Verdict::OutputExceeded, 1000));
    let container = closed().cpu_time(limit).idle_time(limit * slack()).start()?;
    let outcome = container.status(payload("burn", &["20000"]).cpu_time(long))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    let outcome = container.status(payload("sleep", &["20000"]).idle_time(long))?;
    assert_eq!(outcome.verdict, Verdict::IdleExceeded);
    Ok(())
}

fn one_program_alone() -> Result {
    for sandbox in [closed(), closed().memory_max(mib(256)).pids_max(100), closed().pids_max(100)] {
        let plan = sandbox.plan()?;
        assert_eq!(plan.spawn(limited(alloc(100), memory(32)))?.wait()?.verdict, Verdict::MemoryExceeded);
        assert_eq!(plan.spawn(limited(alloc(100), memory(200)))?.wait()?.verdict, Verdict::Exited(0));
        let output = plan.output(limited(payload("fork-bomb", &["30"]), processes(5)))?;
        assert_eq!(output.stdout, b"4 errno 11\n");
        let limit = Duration::from_millis(200);
        let outcome = plan.spawn(payload("burn", &["20000"]).cpu_time(limit))?.wait()?;
        assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
        assert!(outcome.usage.cpu < limit + Duration::from_millis(50) * slack(), "{:?}", outcome.usage);
        assert_eq!(plan.spawn(alloc(100))?.wait()?.verdict, Verdict::Exited(0), "the next has no limit");
    }
    let outcome = closed().memory_max(mib(32)).status(limited(alloc(100), memory(400)))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "the sandbox has the last word");
    Ok(())
}

fn one_program_without_a_limit_of_the_sandbox() -> Result {
    let held =
        held(limited(payload("hold", &[]), memory(64).pids_max(7)), |command| closed().spawn(command))?;
    let dirs = [group(held.pid, "memory"), group(held.pid, "pids")];
    assert_eq!(fs::read_to_string(dirs[1].join("pids.max"))?, "7\n");
    held.release()?;
    assert!(dirs.iter().all(|dir| !dir.exists()), "{dirs:?}");
    Ok(())
}

fn the_groups_are_where_the_kernel_looks() -> Result {
    let container = closed().memory_max(mib(256)).pids_max(100).start()?;
    let free = hold_in(&container)?;
    let first = hold_limited(&container, memory(64))?;
    let second = hold_limited(&container, processes(7))?;
    let place = above(first.pid, "memory");
    assert_eq!(above(second.pid, "memory"), place, "side by side");
    assert_ne!(group(first.pid, "memory"), group(second.pid, "memory"));
    assert_ne!(group(free.pid, "memory"), group(first.pid, "memory"));
    assert!(group(free.pid, "memory").starts_with(&place), "in the box as well");
    let max = |dir: PathBuf| {
        fs::read_to_string(dir.join("memory.limit_in_bytes"))
            .or_else(|_| fs::read_to_string(dir.join("memory.max")))
    };
    assert_eq!(max(group(first.pid, "memory"))?, format!("{}\n", 64 << 20));
    assert_eq!(max(place.clone())?, format!("{}\n", 256 << 20));
    assert_eq!(fs::read_to_string(group(second.pid, "pids").join("pids.max"))?, "7\n");
    assert_eq!(fs::read_to_string(group(first.pid, "pids").join("pids.max"))?, "max\n");
    assert_eq!(fs::read_to_string(above(first.pid, "pids").join("pids.max"))?, "100\n");
    // A group of its own is the root of what it sees.
    let seen = container.output(limited(payload("cat", &["/proc/self/cgroup"]), memory(64)))?;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(!seen.is_empty() && seen.lines().all(|line| line.ends_with(":/")), "{seen}");
    for held in [first, second, free] {
        held.release()?;
    }
    assert_eq!(groups_in(&place), [] as [String; 0], "removed when it has ended");
    container.close()?;
    assert!(!place.exists());
    Ok(())
}

fn what_is_left_behind_dies() -> Result {
    let container = closed().pids_max(100).start()?;
    let mark = format!("left-with-limits-{}", std::process::id());
    let command = limited(payload("daemon", &[&mark, "close"]), processes(10));
    let outcome = container.status(command)?;
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    assert_eq!(processes_with(&mark), [] as [u32; 0]);
    let free = format!("left-without-{}", std::process::id());
    container.status(payload("daemon", &[&free, "close"]))?;
    assert_eq!(processes_with(&free).len(), 1, "without limits of its own it may stay");
    container.close()?;
    assert_eq!(processes_with(&free), [] as [u32; 0]);
    Ok(())
}

fn many_at_once_leave_nothing() -> Result {
    let container = closed().memory_max(mib(512)).pids_max(200).start()?;
    let first = hold_limited(&container, memory(64))?;
    let places = [above(first.pid, "memory"), above(first.pid, "pids")];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6_u8)
            .map(|n| {
                let container = &container;
                scope.spawn(move || -> Result {
                    for round in 0..10_u8 {
                        let hungry = (n + round) % 2 == 0;
                        let outcome =
                            container.status(limited(alloc(40), memory(if hungry { 16 } else { 64 })))?;
                        let expected = if hungry { Verdict::MemoryExceeded } else { Verdict::Exited(0) };
                        assert_eq!(outcome.verdict, expected, "{outcome:?}");
                        assert_eq!(outcome.oom.is_some(), hungry);
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    first.release()?;
    for place in &places {
        assert_eq!(groups_in(place), [] as [String; 0]);
    }
    drop(container);
    assert!(places.iter().all(|place| !place.exists()));
    Ok(())
}

fn a_dropped_child_takes_its_group() -> Result {
    for sandbox in [closed().pids_max(64), closed()] {
        let container = sandbox.start()?;
        let held = hold_limited(&container, processes(5))?;
        let (dir, pid) = (group(held.pid, "pids"), held.pid);
        assert!(dir.exists());
        drop(held);
        assert!(!dir.exists() && within(Duration::from_secs(5) * slack(), || !is_alive(pid)));
    }
    Ok(())
}

fn a_closed_container_takes_all_groups() -> Result {
    let container = closed().pids_max(64).start()?;
    let mut held = hold_limited(&container, processes(5).memory_max(mib(64)))?;
    let (dirs, pid) = ([group(held.pid, "pids"), group(held.pid, "memory")], held.pid);
    container.close()?;
    assert!(!is_alive(pid) && !dirs[0].exists());
    assert_eq!(held.child.wait()?.verdict, Verdict::Killed);
    assert!(!dirs[1].exists());
    Ok(())
}

fn freezing_reaches_them() -> Result {
    let container = closed().limits(Limits::new().freezable().pids_max(64)).start()?;
    let mut busy = payload("burn", &["60000"]);
    let mut child = container.spawn(busy.limits(processes(5)).cpu_time(Duration::from_secs(60)))?;
    let pid = child.id().expect("it runs");
    let used = || {
        fs::read_to_string(format!("/proc/{pid}/schedstat"))
            .map(|text| text.split(' ').next().map(str::to_owned))
    };
    let before = used()?;
    assert!(within(Duration::from_secs(10) * slack(), || used().is_ok_and(|now| now != before)), "it works");
    container.freeze()?;
    let frozen = used()?;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(used()?, frozen);
    assert!(
        container.spawn(limited(payload("hold", &[]), processes(5))).is_err(),
        "nothing starts meanwhile"
    );
    container.thaw()?;
    assert!(within(Duration::from_secs(10) * slack(), || used().is_ok_and(|now| now != frozen)));
    // Frozen again, it dies with its container.
    container.freeze()?;
    let dir = group(pid, "pids");
    container.close()?;
    assert!(!is_alive(pid) && !dir.exists());
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    Ok(())
}

fn what_cannot_be() -> Result {
    let container = closed().pids_max(64).start()?;
    let zero = Duration::ZERO;
    let sleep = || payload("sleep", &["1"]);
    let refused = |command: &Command| match container.spawn(command) {
        Err(error) => error,
        Ok(mut child) => panic!("it runs: {:?}", child.wait()),
    };
    for command in [
        sleep().limits(Limits::new().memory_max(0)),
        sleep().limits(Limits::new().pids_max(0)),
        sleep().limits(Limits::new().freezable()),
        sleep().limits(Limits::new().pressure()),
        sleep().limits(Limits::new().cpu_weight(0)),
        sleep().wall_time(zero),
        sleep().cpu_time(zero),
        sleep().idle_time(zero),
        sleep().idle_time(Duration::from_millis(50)).limits(Limits::new().cpu_max(CpuMax::cpus(0.1))),
    ] {
        let error = refused(command);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    }
    // What one of the two generations has not is named, as for a sandbox.
    let only =
        |limits: Limits| (closed().limits(limits.clone()).plan().err(), refused_or_not(&container, limits));
    for limits in [
        Limits::new().memory_high(mib(16)),
        Limits::new().memory_soft(mib(16)),
        Limits::new().swappiness(10),
        Limits::new().oom_group(),
        Limits::new().hugetlb_max(Bytes::mib(3), 0),
    ] {
        let (plan, run) = only(limits.clone());
        assert_eq!(plan.map(|error| error.kind()), run.map(|error| error.kind()), "{limits:?}");
    }
    Ok(())
}

fn refused_or_not(container: &Container, limits: Limits) -> Option<belljar::Error> {
    match container.spawn(limited(payload("exit", &["0"]), limits)) {
        Err(error) => Some(error),
        Ok(mut child) => child.wait().err(),
    }
}

/// Nothing that the sandbox does not allow, and less.
fn devices_of_one() -> Result {
    let rules = DeviceRules::minimal();
    let container = closed().limits(Limits::new().devices(rules).pids_max(64)).start()?;
    let open = || payload("open", &["/dev/null", "r"]);
    assert_eq!(container.status(open())?.verdict, Verdict::Exited(0), "the positive control");
    let none = limited(open(), Limits::new().devices(DeviceRules::none()));
    let output = container.output(none)?;
    assert_eq!(output.stdout, b"errno 1\n", "{output:?}");
    assert_eq!(container.status(open())?.verdict, Verdict::Exited(0));
    Ok(())
}

fn what_is_in_force_is_told() -> Result {
    let container = closed().start()?;
    let outcome = container.status(limited(payload("exit", &["0"]), processes(5)))?;
    assert!(outcome.enforced.contains(Feature::PidsMax), "{}", outcome.enforced);
    assert!(!container.status(payload("exit", &["0"]))?.enforced.contains(Feature::PidsMax));
    // What a sandbox may go without, its programs may.
    let no_such_pages = Limits::new().hugetlb_max(Bytes::mib(4), 0);
    let command = limited(payload("exit", &["0"]), no_such_pages.pids_max(5));
    let container = closed().best_effort(Feature::HugetlbMax).start()?;
    let enforced = container.status(&command)?.enforced;
    assert!(enforced.contains(Feature::PidsMax) && !enforced.contains(Feature::HugetlbMax), "{enforced}");
    assert!(enforced.skipped().iter().any(|skipped| skipped.feature == Feature::HugetlbMax), "{enforced}");
    let error = closed().start()?.spawn(&command).expect_err("it is required");
    // On hybrid hosts the version 2 hierarchy has it, and this process, which shares its group there with what it has
    // started, could not leave it any more.
    assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Setup), "{}", explain(&error));
    assert!(error.hint().is_some());
    Ok(())
}

fn a_program_that_is_not_there() -> Result {
    let container = closed().pids_max(64).start()?;
    let held = hold_limited(&container, processes(5))?;
    let place = above(held.pid, "pids");
    assert_eq!(groups_in(&place).len(), 1);
    for _ in 0..5 {
        let error =
            container.spawn(limited(Command::new("/no/such"), processes(5))).expect_err("it is not there");
        assert_eq!(error.kind(), ErrorKind::Exec);
    }
    assert_eq!(groups_in(&place).len(), 1, "only that of the program that runs");
    held.release()?;
    let error = Sandbox::new().spawn(limited(Command::new("/no/such"), processes(5))).expect_err("nor here");
    assert_eq!(error.kind(), ErrorKind::Exec);
    Ok(())
}

/// Programs of a pool may have them, and those that come after have not.
fn in_a_pool() -> Result {
    for sandbox in [closed().memory_max(mib(256)).pids_max(64), closed().pids_max(64)] {
        for reuse in [Reuse::Never, Reuse::AfterReset] {
            let pool = sandbox.plan()?.pool().size(2).reuse(reuse).start()?;
            for _ in 0..3 {
                let outcome = pool.status(limited(alloc(100), memory(32)))?;
                assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
                assert_eq!(pool.status(alloc(100))?.verdict, Verdict::Exited(0), "the control");
                let output = pool.output(limited(payload("fork-bomb", &["30"]), processes(5)))?;
                assert_eq!(output.stdout, b"4 errno 11\n");
            }
        }
    }
    Ok(())
}

/// Kernels that cannot make a root filesystem can limit. Before Linux 5.11 version 1 has to be told that groups are in one
/// another.
fn without_a_root() -> Result {
    let bare = || match nix::unistd::geteuid().is_root() {
        true => Sandbox::bare().pid_ns(),
        false => Sandbox::bare().user_ns().pid_ns(),
    };
    let unmounted = |role: &str, args: &[&str]| {
        let mut command = Command::new(own_exe());
        command.args(["--role", role]).args(args);
        command
    };
    let hungry = || unmounted("alloc", &["100000000"]);
    let container = bare().memory_max(mib(256)).pids_max(40).start()?;
    let mut other = container.spawn(unmounted("sleep", &["1000"]))?;
    assert_eq!(container.status(limited(hungry(), memory(32)))?.verdict, Verdict::MemoryExceeded);
    assert_eq!(container.status(limited(hungry(), memory(200)))?.verdict, Verdict::Exited(0), "the control");
    let output = container.output(limited(unmounted("fork-bomb", &["30"]), processes(5)))?;
    assert_eq!(output.stdout, b"4 errno 11\n");
    let limit = Duration::from_millis(200);
    let outcome = container.status(unmounted("burn", &["20000"]).cpu_time(limit))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    assert_eq!(other.wait()?.verdict, Verdict::Exited(0));
    container.close()?;
    let container = bare().memory_max(mib(32)).start()?;
    let outcome = container.status(limited(hungry(), memory(200)))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "the sandbox's limit holds for what is in it");
    Ok(())
}
