//! Limits, in figures.
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

use belljar::{
    Bytes, CgroupParent, Command, CpuMax, ErrorKind, Feature, OomScope, Resource, Sandbox, Seccomp, Stdio,
    Step, Verdict,
};
use support::features::directory_of;
use support::{Result, closed, explain, hold, hold_with, mib, oracle, payload, run_role, sh, slack, timed};

fn main() -> ExitCode {
    let cases = cases![
        wall_time: ["userns"],
        wall_time_under_a_shifted_clock: ["userns"],
        wall_time_of_a_program_that_forks: ["userns"],
        wall_time_is_enforced_without_waiting: ["userns"],
        cpu_time: ["userns", "cgroup-cpuacct"],
        cpu_time_of_the_tree: ["userns", "cgroup-cpuacct"],
        cpu_time_of_sleepers: ["userns", "cgroup-cpuacct"],
        cpu_time_by_sampling: ["userns", "setpriv"],
        cpu_time_is_reported: ["userns"],
        output_to_the_byte: ["userns"],
        output_of_a_flood: ["userns", "sh"],
        output_of_both_streams_together: ["userns", "sh"],
        output_through_pipes: ["userns"],
        memory: ["userns", "cgroup-memory"],
        a_container_counts_each_program: ["userns", "cgroup-memory", "cgroup-cpuacct", "sh"],
        memory_is_counted_as_the_kernel_does: ["userns", "cgroup-memory"],
        memory_in_a_tmpfs_counts: ["userns", "cgroup-memory", "sh"],
        memory_of_system_v_counts: ["userns", "cgroup-memory", "cc"],
        memory_of_a_child: ["userns", "cgroup-memory"],
        memory_too_little_to_execute: ["userns", "cgroup-memory"],
        the_victim_is_named: ["userns", "cgroup-memory"],
        memory_of_the_host_runs_out: ["userns", "cgroup-memory"],
        the_host_survives_an_oom: ["userns", "cgroup-memory"],
        pids: ["userns", "cgroup-pids"],
        a_fork_bomb_ends: ["userns", "cgroup-pids", "sh"],
        cpu_bandwidth: ["userns", "cgroup-cpu", "cgroup-cpuacct"],
        cpu_weight: ["userns", "cgroup-cpu"],
        swap: ["userns", "cgroup-memory", "swap-controller"],
        limits_are_set_where_the_kernel_looks: ["userns", "cgroup-memory", "cgroup-pids", "cgroup-cpu"],
        every_rlimit: ["userns"],
        rlimits_that_cannot_be: ["bare", "userns"],
        no_core_dumps: ["userns"],
        zero_and_without_end: ["userns", "cgroup-memory", "cgroup-pids", "cgroup-cpu"],
        unknown_names: ["bare"],
        a_container_has_one_box: ["userns", "cgroup-pids", "cgroup-cpuacct"],
        tree_limits_without_a_root: ["bare", "userns", "cgroup-memory", "cgroup-pids", "cgroup-cpuacct"],
        the_first_spawn_on_version_2: ["bare", "userns", "unified", "cgroup-memory", "cgroup-pids"],
    ];
    support::main_serial(
        cases,
        &[("sampled", sampled), ("fork-chain", fork_chain), ("first-spawns", first_spawns)],
    )
}

/// The promise, and what others on this machine may add to it.
fn at_most(time: Duration, limit: Duration, more_ms: u64) {
    let most = limit + Duration::from_millis(more_ms) * slack();
    assert!(time >= limit, "ended after {time:?}, before the limit of {limit:?}");
    assert!(time <= most, "took {time:?} with a limit of {limit:?}");
}

fn wall_time() -> Result {
    for milliseconds in [50, 300, 1000] {
        let limit = Duration::from_millis(milliseconds);
        let sandbox = closed().wall_time(limit);
        let (outcome, time) = timed(|| sandbox.status(payload("sleep", &["20000"])));
        let outcome = outcome?;
        assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
        at_most(outcome.usage.wall, limit, 100);
        assert!(time < limit + Duration::from_millis(1000) * slack(), "{time:?}");
        assert!(outcome.enforced.contains(Feature::WallTime));
    }
    // Enough time is no verdict.
    let outcome = closed().wall_time(Duration::from_secs(20)).status(payload("sleep", &["100"]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    assert!(outcome.usage.wall >= Duration::from_millis(100) && outcome.usage.wall < Duration::from_secs(5));
    Ok(())
}

/// The program's own monotonic clock is a day ahead, and its time counts from its start all the same.
fn wall_time_under_a_shifted_clock() -> Result {
    let limit = Duration::from_millis(300);
    let outcome = closed().monotonic_offset(86_400).wall_time(limit).status(payload("sleep", &["20000"]))?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    at_most(outcome.usage.wall, limit, 100);
    Ok(())
}

fn wall_time_of_a_program_that_forks() -> Result {
    // Each process ends at once, but another one goes on: a chain that nobody can catch by killing one process.
    let limit = Duration::from_millis(300);
    let outcome = closed().wall_time(limit).status(payload("fork-chain", &[]))?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    at_most(outcome.usage.wall, limit, 200);
    Ok(())
}

/// The main process sleeps; its child forks and exits again and again, for two seconds at most.
fn fork_chain(_: &[std::ffi::OsString]) -> i32 {
    if support::raw::fork().is_ok_and(|pid| pid != 0) {
        std::thread::sleep(Duration::from_secs(20));
        return 0;
    }
    let end = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < end {
        if support::raw::fork().is_ok_and(|pid| pid != 0) {
            return 0;
        }
    }
    0
}

fn wall_time_is_enforced_without_waiting() -> Result {
    let held = hold(&closed().wall_time(Duration::from_millis(200)))?;
    assert!(support::within(Duration::from_millis(300) * slack() + Duration::from_millis(100), || {
        !oracle::is_alive(held.pid)
    }));
    let mut child = held.child;
    std::thread::sleep(Duration::from_millis(200));
    let outcome = child.wait()?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    assert!(outcome.usage.wall < Duration::from_millis(300) * slack(), "{:?}", outcome.usage.wall);
    Ok(())
}

fn cpu_time() -> Result {
    for milliseconds in [60, 400] {
        let limit = Duration::from_millis(milliseconds);
        let outcome = closed().cpu_time(limit).status(payload("burn", &["20000"]))?;
        assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
        at_most(outcome.usage.cpu, limit, 50);
        assert!(outcome.enforced.contains(Feature::CpuTime));
    }
    let outcome = closed().cpu_time(Duration::from_secs(20)).status(payload("burn", &["100"]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    Ok(())
}

fn cpu_time_of_the_tree() -> Result {
    // Four children burn, their parent sleeps.
    let limit = Duration::from_millis(500);
    let outcome = closed().cpu_time(limit).status(payload("burn-tree", &["4", "20000"]))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    at_most(outcome.usage.cpu, limit, 50);
    Ok(())
}

fn cpu_time_of_sleepers() -> Result {
    // Starting the program does cost something, in an emulated guest more than 100 ms.
    let limit = Duration::from_millis(100) * slack();
    let longer = (limit + Duration::from_millis(500)).as_millis().to_string();
    let outcome = closed().cpu_time(limit).status(payload("sleep", &[&longer]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0), "sleeping costs nothing: {:?}", outcome.usage);
    assert!(outcome.usage.cpu < limit);
    Ok(())
}

fn cpu_time_by_sampling() -> Result {
    let helper = support::as_nobody("sampled", &[], Duration::from_secs(60))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

/// Without a cgroup: sampled if that is allowed, refused otherwise.
fn sampled(_: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result {
        let limit = Duration::from_millis(300);
        let sandbox = closed().cpu_time(limit).best_effort(Feature::CpuTime);
        let outcome = sandbox.status(payload("burn-tree", &["2", "20000"]))?;
        assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
        at_most(outcome.usage.cpu, limit, 100);
        if !outcome.enforced.contains(Feature::CpuTime) {
            let skipped = outcome.enforced.skipped();
            assert!(skipped.iter().any(|skipped| skipped.feature == Feature::CpuTime), "{skipped:?}");
            let error = closed().cpu_time(limit).plan().expect_err("no cgroup");
            assert!(error.hint().is_some(), "{}", explain(&error));
        }
        Ok(())
    };
    match run() {
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

fn cpu_time_is_reported() -> Result {
    let outcome = closed().status(payload("burn", &["300"]))?;
    let cpu = outcome.usage.cpu;
    // Others use this machine as well, so 300 ms by the clock may be less of the processor; the start comes on top.
    let most = Duration::from_millis(300) + Duration::from_millis(100) * slack();
    assert!(cpu > Duration::from_millis(20) && cpu < most, "{cpu:?}");
    assert!(outcome.usage.user + outcome.usage.system <= cpu + Duration::from_millis(20));
    // The parent sleeps, so all that is counted is its children's.
    let outcome = closed().status(payload("burn-tree", &["2", "1000"]))?;
    assert!(outcome.usage.cpu > Duration::from_millis(50), "children count, too: {:?}", outcome.usage);
    Ok(())
}

fn flood(bytes: u64, budget: u64) -> Result<belljar::Output> {
    let mut command = payload("flood", &[&bytes.to_string()]);
    command.stdout(Stdio::capture(Bytes::new(budget)));
    Ok(closed().output(&command)?)
}

fn output_to_the_byte() -> Result {
    for budget in [0, 1, 4096, 100_000] {
        let output = flood(budget, budget)?;
        assert_eq!(
            (output.outcome.verdict, output.stdout.len() as u64),
            (Verdict::Exited(0), budget),
            "{budget}"
        );
        assert_eq!(output.outcome.usage.output_bytes, budget);
        let output = flood(budget + 1, budget)?;
        assert_eq!(
            (output.outcome.verdict, output.stdout.len() as u64),
            (Verdict::OutputExceeded, budget),
            "{budget}"
        );
    }
    Ok(())
}

fn output_of_a_flood() -> Result {
    let budget = 100_000;
    let mut command = sh("exec yes");
    command.stdout(Stdio::capture(Bytes::new(budget)));
    let (output, time) = timed(|| closed().output(&command));
    let output = output?;
    assert_eq!(output.outcome.verdict, Verdict::OutputExceeded);
    assert_eq!(output.stdout.len() as u64, budget);
    assert!(
        output.outcome.usage.output_bytes <= budget + (64 << 10),
        "{}",
        output.outcome.usage.output_bytes
    );
    assert!(time < Duration::from_secs(2) * slack(), "{time:?}");
    // A child that floods while the main process sleeps, and one that ignores SIGPIPE.
    for script in
        ["yes & exec /payload --role sleep 20000", "trap '' PIPE; yes; exec /payload --role sleep 20000"]
    {
        let mut command = sh(script);
        command.stdout(Stdio::capture(Bytes::new(budget))).stderr(Stdio::null());
        let (output, time) = timed(|| closed().output(&command));
        assert_eq!(output?.outcome.verdict, Verdict::OutputExceeded, "{script}");
        assert!(time < Duration::from_secs(2) * slack(), "{time:?}");
    }
    Ok(())
}

fn output_of_both_streams_together() -> Result {
    let sandbox = closed().output_max(1000);
    let script = |out: u32, err: u32| sh(&format!("head -c {out} /dev/zero; head -c {err} /dev/zero >&2"));
    let output = sandbox.output(script(600, 400))?;
    assert_eq!(
        (output.outcome.verdict, output.stdout.len(), output.stderr.len()),
        (Verdict::Exited(0), 600, 400)
    );
    let output = sandbox.output(script(600, 401))?;
    assert_eq!(output.outcome.verdict, Verdict::OutputExceeded);
    assert_eq!(output.stdout.len() + output.stderr.len(), 1000);
    assert!(output.outcome.enforced.contains(Feature::Output));
    Ok(())
}

fn output_through_pipes() -> Result {
    // Without a capture the host reads; wait_with_output keeps the budget all the same.
    let mut command = payload("flood", &["50000000"]);
    command.stdout(Stdio::piped());
    let (output, time) =
        timed(|| closed().output_max(10_000).spawn(&command).and_then(|child| child.wait_with_output()));
    let output = output?;
    assert_eq!((output.outcome.verdict, output.stdout.len()), (Verdict::OutputExceeded, 10_000));
    assert!(time < Duration::from_secs(3) * slack(), "{time:?}");
    Ok(())
}

fn a_container_counts_each_program() -> Result {
    let limit = Duration::from_secs(1);
    let container = closed().memory_max(mib(32)).cpu_time(limit).start()?;
    assert_eq!(container.status(alloc(200))?.verdict, Verdict::MemoryExceeded);
    let outcome = container.status(sh("exit 3"))?;
    assert_eq!(outcome.verdict, Verdict::Exited(3), "the one before ran out of memory");
    assert_eq!(outcome.usage.oom_kills, Some(0));
    for _ in 0..3 {
        let outcome = container.status(payload("burn", &["400"]))?;
        assert!(outcome.usage.cpu < limit, "{:?}", outcome.usage);
        assert_eq!(outcome.verdict, Verdict::Exited(0), "{:?}", outcome.usage);
    }
    Ok(())
}

fn alloc(megabytes: u64) -> Command {
    payload("alloc", &[&(megabytes << 20).to_string()])
}

fn memory() -> Result {
    let sandbox = closed().memory_max(mib(32));
    let outcome = sandbox.status(alloc(200))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    assert!(outcome.usage.oom_kills.is_some_and(|kills| kills >= 1), "{:?}", outcome.usage);
    assert!(outcome.enforced.contains(Feature::MemoryMax));
    let peak = outcome.usage.peak_memory.expect("it is counted");
    assert!(peak <= 32 << 20 && peak > 30 << 20, "{peak}");
    let outcome = sandbox.status(alloc(16))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0), "the positive control");
    assert_eq!(outcome.usage.oom_kills, Some(0));
    assert_eq!(closed().status(alloc(200))?.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

/// The peak that the kernel has counted for the cgroup of a process.
fn kernels_peak(pid: u32) -> Option<u64> {
    let dir = directory_of(&pid.to_string(), "memory")?;
    let text = fs::read_to_string(dir.join("memory.max_usage_in_bytes"))
        .or_else(|_| fs::read_to_string(dir.join("memory.peak")));
    text.ok()?.trim().parse().ok()
}

fn memory_is_counted_as_the_kernel_does() -> Result {
    for megabytes in [1, 20, 50] {
        let command = payload("alloc", &[&(megabytes << 20_u64).to_string(), "hold"]);
        let held = hold_with(&closed().memory_max(mib(100)), command)?;
        let Some(kernels) = kernels_peak(held.pid) else { return support::fail("no counter of the kernel") };
        let reported = held.release()?.usage.peak_memory.expect("it is counted");
        assert!(reported.abs_diff(kernels) <= 1 << 20, "reported {reported}, the kernel said {kernels}");
        assert!(reported >= megabytes << 20);
    }
    Ok(())
}

fn memory_in_a_tmpfs_counts() -> Result {
    let mut command = sh("exec head -c 100000000 /dev/zero > /tmp/file");
    command.stderr(Stdio::null());
    let outcome = closed().memory_max(mib(32)).status(&command)?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    Ok(())
}

/// In segments that no process has mapped any more.
fn memory_of_system_v_counts() -> Result {
    let source = r#"
        #include <string.h>
        #include <sys/shm.h>
        int main(void) {
            for (int i = 0; i < 8; i++) {
                int id = shmget(IPC_PRIVATE, 8 << 20, IPC_CREAT | 0600);
                char *at = id < 0 ? (char *)-1 : shmat(id, 0, 0);
                if (at == (char *)-1) return 1;
                memset(at, 1, 8 << 20);
                shmdt(at);
            }
            return 0;
        }"#;
    let scratch = support::Scratch::new();
    let program = support::compile(&scratch, "segments", source, &[])?;
    let limited = |limit| closed().memory_max(limit).mount(belljar::Mount::bind(&program, "/program"));
    let run = |limit| limited(limit).status(Command::new("/program"));
    assert_eq!(run(mib(32))?.verdict, Verdict::MemoryExceeded);
    assert_eq!(run(mib(128))?.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

fn memory_of_a_child() -> Result {
    let outcome = closed().memory_max(mib(32)).status(payload("alloc-child", &[&(200 << 20).to_string()]))?;
    // The child died of it; the main process saw that and ended well.
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    assert_eq!(outcome.usage.oom_kills, Some(1));
    Ok(())
}

fn the_victim_is_named() -> Result {
    // The kernel's log is root's to read, and leaves lines out for some seconds when it has many.
    let readable = fs::File::open("/dev/kmsg").is_ok();
    let mut named = false;
    for round in 0..if readable { 20 } else { 1 } {
        std::thread::sleep(Duration::from_millis(if round == 0 { 0 } else { 1000 }));
        let mut child =
            closed().memory_max(mib(32)).spawn(payload("alloc", &[&(64_u64 << 20).to_string()]))?;
        let pid = child.id();
        let Some(oom) = child.wait()?.oom else { return support::fail("nobody was killed for memory") };
        assert_eq!(oom.scope, OomScope::Sandbox);
        let [victim] = oom.victims.as_slice() else { continue };
        assert_eq!((victim.name.as_str(), Some(victim.pid)), ("payload", pid));
        // With the pages of its file, which are charged to nobody here.
        assert!((24 << 20..=64 << 20).contains(&victim.memory.get()), "{victim:?}");
        named = true;
        break;
    }
    assert_eq!(named, readable, "nobody is named, or by a log that cannot be read");
    // A child dies, its parent goes on.
    let outcome =
        closed().memory_max(mib(32)).status(payload("alloc-child", &[&(64_u64 << 20).to_string()]))?;
    assert_eq!(
        (outcome.verdict, outcome.oom.map(|oom| oom.scope)),
        (Verdict::Exited(0), Some(OomScope::Sandbox))
    );
    assert!(closed().memory_max(mib(32)).status(payload("exit", &["0"]))?.oom.is_none());
    Ok(())
}

/// A cgroup above the sandbox, with less memory than the sandbox may have, stands for a machine that has none left.
fn memory_of_the_host_runs_out() -> Result {
    let own = support::features::controller_dir("memory").expect("the case needs it");
    // The controller is passed on by the first sandbox.
    closed().memory_max(mib(64)).status(payload("exit", &["0"]))?;
    let above = support::TestGroup::make_in(&own)?;
    let file = ["memory.max", "memory.limit_in_bytes"].map(|file| above.path().join(file));
    let file = file.iter().find(|file| file.exists()).expect("the controller is passed on");
    fs::write(file, (48 << 20).to_string())?;
    let sandbox = closed().memory_max(mib(300)).cgroup_parent(CgroupParent::Path(above.path().to_owned()));
    let outcome = sandbox.status(payload("alloc", &[&(100_u64 << 20).to_string()]))?;
    assert_eq!(outcome.verdict, Verdict::HostOutOfMemory, "{outcome:?}");
    assert_eq!(outcome.oom.map(|oom| oom.scope), Some(OomScope::Host));
    Ok(())
}

fn memory_too_little_to_execute() -> Result {
    // Whatever is too little for what: never an error, never a signal or an exit code of its own.
    for bytes in [4096, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10] {
        let sandbox = closed().memory_max(bytes).wall_time(Duration::from_secs(10));
        let outcome = match sandbox.status(payload("exit", &["0"])) {
            Ok(outcome) => outcome,
            Err(error) => return support::fail(format!("{bytes}: {}", explain(&error))),
        };
        let fits = bytes >= 256 << 10 && outcome.verdict == Verdict::Exited(0);
        assert!(
            fits || outcome.verdict == Verdict::MemoryExceeded,
            "{bytes}: {:?} {:?}",
            outcome.verdict,
            outcome.usage
        );
    }
    Ok(())
}

fn the_host_survives_an_oom() -> Result {
    // A task that shares the host's memory must never sit in a box with limits: an OOM there would kill us.
    for _ in 0..20 {
        let outcome = closed().memory_max(mib(8)).status(alloc(64))?;
        assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    }
    Ok(())
}

fn pids() -> Result {
    let output = closed().pids_max(10).output(payload("fork-bomb", &["100"]))?;
    assert_eq!(output.stdout, b"9 errno 11\n", "the main process is one of the ten");
    let usage = output.outcome.usage;
    if let Some(peak) = usage.peak_pids {
        assert!(peak <= 10, "{peak}");
    }
    assert!(usage.pids_denied.is_none_or(|denied| denied >= 1), "{usage:?}");
    assert!(output.outcome.enforced.contains(Feature::PidsMax));
    let output = closed().pids_max(200).output(payload("fork-bomb", &["100"]))?;
    assert_eq!(output.stdout, b"100 all\n", "the positive control");
    Ok(())
}

fn a_fork_bomb_ends() -> Result {
    let bomb = "bomb() { bomb | bomb & }; bomb; exec /payload --role sleep 20000";
    let mut command = sh(bomb);
    command.stderr(Stdio::null());
    let limit = Duration::from_millis(500);
    let (outcome, time) = timed(|| closed().pids_max(30).wall_time(limit).status(&command));
    let outcome = outcome?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    assert!(outcome.usage.peak_pids.is_none_or(|peak| peak <= 30), "{:?}", outcome.usage);
    assert!(time < Duration::from_secs(2) * slack(), "{time:?}");
    Ok(())
}

fn cpu_bandwidth() -> Result {
    let sandbox = closed().cpu_max(CpuMax::cpus(0.3)).cpu_time(Duration::from_secs(20));
    let outcome = sandbox.status(payload("burn", &["2000"]))?;
    let share = outcome.usage.cpu.as_secs_f64() / outcome.usage.wall.as_secs_f64();
    assert!(share < 0.36, "{share}");
    assert!(share > 0.1, "{share}");
    assert!(outcome.enforced.contains(Feature::CpuMax));
    Ok(())
}

/// A control file of the cgroup of a process, of version 2 or 1.
fn control(pid: u32, controller: &str, v2: &str, v1: &str) -> String {
    let dir = directory_of(&pid.to_string(), controller).expect("it is in a cgroup");
    assert!(dir.to_string_lossy().contains("/belljar-"), "{}", dir.display());
    // Limits may lie on a parent below which the processes are.
    dir.ancestors()
        .take(3)
        .find_map(|dir| fs::read_to_string(dir.join(v2)).or_else(|_| fs::read_to_string(dir.join(v1))).ok())
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn cpu_weight() -> Result {
    let held = hold(&closed().cpu_weight(50))?;
    let value = control(held.pid, "cpu", "cpu.weight", "cpu.shares");
    // 100 in version 2 is 1024 shares in version 1.
    assert!(value == "50" || value == "512", "{value}");
    held.release()?;
    for weight in [0, 10_001, u32::MAX] {
        let error = closed().cpu_weight(weight).plan().expect_err("out of range");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{weight}: {}", explain(&error));
    }
    Ok(())
}

fn swap() -> Result {
    let held = hold(&closed().memory_max(mib(32)).swap_max(0))?;
    let value = control(held.pid, "memory", "memory.swap.max", "memory.memsw.limit_in_bytes");
    assert!(value == "0" || value == (32 << 20).to_string(), "{value}");
    held.release()?;
    let outcome = closed().memory_max(mib(32)).swap_max(0).status(alloc(200))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    Ok(())
}

fn limits_are_set_where_the_kernel_looks() -> Result {
    let sandbox = closed().memory_max(mib(48)).pids_max(17).cpu_max(CpuMax::cpus(0.5));
    let held = hold(&sandbox)?;
    let memory = control(held.pid, "memory", "memory.max", "memory.limit_in_bytes");
    assert_eq!(memory, (48 << 20).to_string());
    assert_eq!(control(held.pid, "pids", "pids.max", "pids.max"), "17");
    let cpu = control(held.pid, "cpu", "cpu.max", "cpu.cfs_quota_us");
    assert!(cpu == "50000" || cpu == "50000 100000", "{cpu}");
    // The init is not in there: it would be throttled, counted and killed with the program.
    let init = oracle::parent(held.pid).expect("it has a parent");
    for controller in ["memory", "pids", "cpu"] {
        let own = directory_of(&held.pid.to_string(), controller).expect("it is in a cgroup");
        let inits = directory_of(&init.to_string(), controller).expect("it is in a cgroup");
        assert!(!inits.starts_with(&own), "{} and {}", own.display(), inits.display());
    }
    held.release().map(drop)
}

fn every_rlimit() -> Result {
    let names = [
        (Resource::As, "Max address space", 1 << 33, 1 << 34),
        (Resource::Cpu, "Max cpu time", 100, 200),
        (Resource::Data, "Max data size", 1 << 32, 1 << 33),
        (Resource::Fsize, "Max file size", 1 << 20, 1 << 21),
        (Resource::Locks, "Max file locks", 10, 20),
        (Resource::Memlock, "Max locked memory", 4096, 8192),
        (Resource::Msgqueue, "Max msgqueue size", 1000, 2000),
        (Resource::Nice, "Max nice priority", 0, 0),
        (Resource::Nofile, "Max open files", 50, 60),
        (Resource::Nproc, "Max processes", 1000, 2000),
        (Resource::Rss, "Max resident set", 1 << 30, 1 << 31),
        (Resource::Rtprio, "Max realtime priority", 0, 0),
        (Resource::Rttime, "Max realtime timeout", 100, 200),
        (Resource::Sigpending, "Max pending signals", 100, 200),
        (Resource::Stack, "Max stack size", 1 << 22, 1 << 23),
        (Resource::Core, "Max core file size", 0, 0),
    ];
    assert_eq!(names.len(), Resource::ALL.len());
    let sandbox = names
        .iter()
        .fold(closed(), |sandbox, (resource, _, soft, hard)| sandbox.rlimit(*resource, *soft, *hard));
    let held = hold(&sandbox)?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", held.pid))?;
    for (resource, name, soft, hard) in names {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        let mut words = line[name.len()..].split_whitespace();
        assert_eq!(words.next(), Some(soft.to_string().as_str()), "{resource:?}: {line}");
        assert_eq!(words.next(), Some(hard.to_string().as_str()), "{resource:?}: {line}");
    }
    held.release().map(drop)
}

fn rlimits_that_cannot_be() -> Result {
    for resource in Resource::ALL {
        let error = Sandbox::new().rlimit(resource, 20, 10).plan().expect_err("soft above hard");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{resource:?}");
    }
    // Above the hard limit of the host itself, by one that may not do that (`scheduling.rs` has the other).
    let own = fs::read_to_string("/proc/self/limits")?;
    let line = own.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let hard: u64 = line.split_whitespace().nth(4).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    if hard < u64::MAX && support::features::missing("sys-resource").is_some() {
        let error = closed().rlimit(Resource::Nofile, hard + 1, hard + 1).spawn(payload("exit", &["0"]));
        let error = error.expect_err("above the host's own");
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::PermissionDenied, Step::Rlimit),
            "{}",
            explain(&error)
        );
        assert!(error.hint().is_some());
    }
    for few in [0, 1, 3] {
        let error = closed().rlimit(Resource::Nofile, few, few).plan().expect_err("too few");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    Ok(())
}

fn no_core_dumps() -> Result {
    let held = hold(&closed())?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", held.pid))?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    let words: Vec<_> = line.split_whitespace().skip(4).take(2).collect();
    // 1 keeps a core_pattern that is a pipe from running its handler on the host; 0 does not.
    assert!(words == ["1", "1"] || words == ["0", "0"], "{line}");
    held.release()?;
    let outcome = closed().status(payload("raise", &["11"]))?;
    use std::os::unix::process::ExitStatusExt;
    assert!(!outcome.status.core_dumped());
    Ok(())
}

fn zero_and_without_end() -> Result {
    let zero: [(&str, Sandbox); 7] = [
        ("memory", closed().memory_max(0)),
        ("pids", closed().pids_max(0)),
        ("cpu", closed().cpu_max(CpuMax::cpus(0.0))),
        ("cpu period", closed().cpu_max(CpuMax::new(Duration::from_millis(1), Duration::ZERO))),
        ("wall", closed().wall_time(Duration::ZERO)),
        ("cpu time", closed().cpu_time(Duration::ZERO)),
        ("weight", closed().cpu_weight(0)),
    ];
    for (name, sandbox) in zero {
        match sandbox.plan() {
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}: {}", explain(&error)),
            Ok(_) => return support::fail(format!("{name} of zero is taken")),
        }
    }
    // No output at all is a limit that makes sense.
    assert_eq!(closed().output_max(0).output(payload("exit", &["0"]))?.outcome.verdict, Verdict::Exited(0));
    assert_eq!(
        closed().output_max(0).output(payload("flood", &["1"]))?.outcome.verdict,
        Verdict::OutputExceeded
    );

    let most: [(&str, Sandbox); 7] = [
        ("memory", closed().memory_max(u64::MAX)),
        ("pids", closed().pids_max(u64::MAX)),
        ("wall", closed().wall_time(Duration::MAX)),
        ("cpu time", closed().cpu_time(Duration::MAX)),
        ("output", closed().output_max(u64::MAX)),
        ("memory and swap", closed().memory_max(mib(64)).swap_max(u64::MAX).best_effort(Feature::SwapMax)),
        ("pids just below", closed().pids_max(u64::MAX - 1)),
    ];
    for (name, sandbox) in most {
        match sandbox.output(payload("flood", &["10"])) {
            Ok(output) => assert_eq!(output.outcome.verdict, Verdict::Exited(0), "{name}"),
            // A value that no kernel takes may be refused, but by name.
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}: {}", explain(&error)),
        }
    }
    for resource in Resource::ALL {
        let result = closed().rlimit(resource, u64::MAX, u64::MAX).status(payload("exit", &["0"]));
        match result {
            Ok(outcome) => assert_eq!(outcome.verdict, Verdict::Exited(0), "{resource:?}"),
            Err(error) => assert_eq!(error.step(), Step::Rlimit, "{resource:?}: {}", explain(&error)),
        }
    }
    // A limit that lets no program run has a verdict, or an error that says so: never a success.
    for resource in [Resource::As, Resource::Data, Resource::Stack] {
        match closed().rlimit(resource, 0, 0).status(payload("exit", &["0"])) {
            Ok(outcome) => assert_ne!(outcome.verdict, Verdict::Exited(0), "{resource:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Exec, "{resource:?}: {}", explain(&error)),
        }
    }
    Ok(())
}

fn unknown_names() -> Result {
    let sandboxes = [
        Sandbox::new().keep_capability("FLY"),
        Sandbox::new().keep_capability(""),
        Sandbox::new().seccomp(Seccomp::new().deny(["no_such_call"])),
        Sandbox::new().seccomp(Seccomp::new().allow([""])),
        Sandbox::new().seccomp(Seccomp::new().kill(["GETPID"])),
        Sandbox::new().seccomp(Seccomp::allow_only(["execve", "nothing"])),
        Sandbox::new().seccomp(Seccomp::allow_only(Vec::<String>::new())),
        Sandbox::new().seccomp(Seccomp::new().deny_with(["getpid"], 0)),
        Sandbox::new().seccomp(Seccomp::new().deny_with(["getpid"], 5000)),
    ];
    for (n, sandbox) in sandboxes.into_iter().enumerate() {
        let error = sandbox.plan().expect_err("an unknown name");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{n}: {}", explain(&error));
    }
    assert_eq!(Resource::from_name("memory"), None);
    assert_eq!(Feature::from_name("memory"), None);
    Ok(())
}

fn a_container_has_one_box() -> Result {
    let container = closed().pids_max(4).cpu_time(Duration::from_millis(400)).start()?;
    let _first = container.spawn(payload("sleep", &["60000"]))?;
    let _second = container.spawn(payload("sleep", &["60000"]))?;
    // Two of four are taken, and the third can have one child.
    let output = container.output(payload("fork-bomb", &["10"]))?;
    assert_eq!(output.stdout, b"1 errno 11\n");
    // Its CPU limit holds for each program from its own start.
    for _ in 0..2 {
        assert_eq!(container.status(payload("burn", &["20"]))?.verdict, Verdict::Exited(0));
    }
    assert_eq!(container.status(payload("burn", &["20000"]))?.verdict, Verdict::CpuTimeExceeded);
    assert_eq!(run_role(&closed(), "exit", &["0"])?, "");

    Ok(())
}

/// One of our roles where the sandbox sees the files of the host.
fn unmounted(role: &str, args: &[&str]) -> Command {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", role]).args(args);
    command
}

/// Kernels that cannot make a root filesystem can limit.
fn tree_limits_without_a_root() -> Result {
    let bare = || match nix::unistd::geteuid().is_root() {
        true => Sandbox::bare().pid_ns(),
        false => Sandbox::bare().user_ns().pid_ns(),
    };
    let outcome = bare().memory_max(mib(32)).status(unmounted("alloc", &["200000000"]))?;
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    assert_eq!(bare().status(unmounted("alloc", &["200000000"]))?.verdict, Verdict::Exited(0), "the control");
    let output = bare().pids_max(10).output(unmounted("fork-bomb", &["100"]))?;
    assert_eq!(output.stdout, b"9 errno 11\n", "the main process is one of the ten");
    let limit = Duration::from_millis(300);
    let outcome = bare().cpu_time(limit).status(unmounted("burn", &["20000"]))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    at_most(outcome.usage.cpu, limit, 50);
    let (outcome, time) = timed(|| bare().wall_time(limit).status(unmounted("sleep", &["60000"])));
    assert_eq!(outcome?.verdict, Verdict::WallTimeExceeded);
    assert!(time < limit + Duration::from_millis(1000) * slack(), "{time:?}");
    Ok(())
}

/// The init was started before the host left its cgroup, which it then could not do any more.
fn the_first_spawn_on_version_2() -> Result {
    let own = support::features::unified_dir().expect("it was looked for");
    // This program has left its own cgroup to its sandboxes.
    let parent = own.parent().expect("not the root").join("first-spawns");
    fs::create_dir(&parent)?;
    let mut command = support::role_command("first-spawns", &[&parent.display().to_string()]);
    let helper = support::run_helper(&mut command, Duration::from_secs(30));
    fs::remove_dir(parent.join("belljar-host")).ok();
    fs::remove_dir(&parent)?;
    assert_eq!(helper?.succeed()?, "ok\n");
    Ok(())
}

/// Four threads of a host alone in its cgroup spawn at once, before anything was.
fn first_spawns(args: &[OsString]) -> i32 {
    fs::write(std::path::Path::new(&args[0]).join("cgroup.procs"), "0").expect("it is ours");
    let spawn =
        || Sandbox::bare().user_ns().memory_max(mib(64)).pids_max(16).status(unmounted("exit", &["0"]));
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(spawn)).collect();
    for thread in threads {
        match thread.join().expect("no panic") {
            Ok(outcome) if outcome.success() => {}
            Ok(outcome) => println!("{:?}", outcome.verdict),
            Err(error) => println!("{}", explain(&error)),
        }
    }
    println!("ok");
    0
}
