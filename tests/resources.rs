//! Every controller, fairness between sandboxes, and the limits of time that go with them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{
    BlockDevice, Bytes, Child, CpuMax, CpuSet, DeviceAccess, DeviceRules, ErrorKind, Feature, IoMax, Limits,
    Mount, Sandbox, Verdict,
};
use support::features::{directory_of, unified_dir_of};
use support::{
    Result, Scratch, closed, fail, hold, mib, payload, role_command, run_helper, run_role, run_sh, sh, slack,
    succeed,
};

fn main() -> ExitCode {
    let cases = cases![
        weights_are_shares: ["userns", "cgroup-cpu", "cgroup-cpuset", "cgroup-cpuacct"],
        three_weights_are_shares: ["userns", "cgroup-cpu", "cgroup-cpuset", "cgroup-cpuacct"],
        a_cap_is_a_share_of_a_processor: ["userns", "cgroup-cpu", "cgroup-cpuacct"],
        processors: ["userns", "cgroup-cpuset"],
        processors_that_are_not_there: ["userns", "cgroup-cpuset"],
        memory_nodes: ["userns", "cgroup-cpuset"],
        devices: ["userns", "root", "sh"],
        input_and_output: ["userns", "root", "loop", "cgroup-blkio"],
        disks_that_are_none: ["userns"],
        huge_pages: ["userns", "cgroup-hugetlb"],
        each_knob_is_set_or_names_its_hierarchy: ["userns", "cgroup-memory", "cgroup-cpu"],
        memory_is_protected_as_far_as_above: ["userns", "unified", "root"],
        values_at_the_edges: ["userns", "cgroup-memory", "cgroup-pids", "cgroup-cpu"],
        what_may_be_skipped: ["userns", "cgroup-memory"],
        idle_programs_are_killed: ["userns", "cgroup-cpuacct"],
        busy_programs_are_not_idle: ["userns", "cgroup-cpuacct", "sh"],
        held_back_by_its_quota_is_not_idle: ["userns", "cgroup-cpu", "cgroup-cpuacct"],
        times_are_reported_to_the_millisecond: ["userns", "cgroup-cpuacct"],
        extra_time_shows_by_how_much: ["userns", "cgroup-cpuacct"],
        many_at_once: ["userns", "cgroup-memory", "cgroup-pids"],
    ];
    support::main_serial(cases, &[("read-direct", read_direct), ("throttle", throttle), ("use-cpu", use_cpu)])
}

/// What several burning sandboxes get of the first processor, in seconds, while they all run.
fn shares<const N: usize>(weights: [u32; N]) -> Result<[f64; N]> {
    let children: Vec<Child> = weights
        .iter()
        .map(|weight| {
            let sandbox = closed().cpuset_cpus([0]).cpu_weight(*weight);
            sandbox.cpu_time(Duration::from_secs(60)).spawn(payload("burn", &["60000"]))
        })
        .collect::<belljar::Result<_>>()?;
    std::thread::sleep(Duration::from_millis(300));
    let cpu = || -> Result<Vec<f64>> {
        children.iter().map(|child| Ok(child.usage()?.cpu.as_secs_f64())).collect()
    };
    let before = cpu()?;
    std::thread::sleep(Duration::from_secs(3));
    let after = cpu()?;
    let used: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    used.try_into().map_err(|used| support::Fail(format!("{used:?}")))
}

fn weights_are_shares() -> Result {
    let [two, one] = shares([200, 100])?;
    println!("weights 2:1 got {two:.3} s and {one:.3} s");
    assert!((two / one / 2.0 - 1.0).abs() < 0.05, "{two} : {one}");
    Ok(())
}

fn three_weights_are_shares() -> Result {
    let [one, two, four] = shares([100, 200, 400])?;
    println!("weights 1:2:4 got {one:.3} s, {two:.3} s and {four:.3} s");
    assert!((two / one / 2.0 - 1.0).abs() < 0.05, "{one} : {two} : {four}");
    assert!((four / one / 4.0 - 1.0).abs() < 0.05, "{one} : {two} : {four}");
    Ok(())
}

fn a_cap_is_a_share_of_a_processor() -> Result {
    // The weight makes others on this machine no reason to get less than the cap.
    let sandbox = closed().cpu_max(CpuMax::cpus(0.3)).cpu_weight(10_000).cpu_time(Duration::from_secs(60));
    let child = sandbox.spawn(payload("burn", &["60000"]))?;
    std::thread::sleep(Duration::from_millis(200));
    let (before, start) = (child.usage()?.cpu, Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let share = (child.usage()?.cpu - before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("a cap of 30 % got {:.1} %", share * 100.0);
    assert!((share - 0.3).abs() < 0.02, "{share}");
    Ok(())
}

fn allowed(sandbox: &Sandbox, what: &str) -> Result<String> {
    let held = hold(sandbox)?;
    let list = support::oracle::status(held.pid).remove(what).unwrap_or_default();
    held.release()?;
    Ok(list)
}

fn processors() -> Result {
    let all = support::oracle::status_of("self").remove("Cpus_allowed_list").unwrap_or_default();
    let all: CpuSet = all.parse()?;
    let Some(last) = all.iter().last() else { return fail("a process may run nowhere") };
    let one = closed().cpuset_cpus([last]);
    assert_eq!(allowed(&one, "Cpus_allowed_list")?, last.to_string());
    assert_eq!(allowed(&closed().cpuset_cpus(all.clone()), "Cpus_allowed_list")?, all.to_string());
    assert!(one.plan()?.enforced().contains(Feature::Cpuset));
    Ok(())
}

fn processors_that_are_not_there() -> Result {
    for set in [CpuSet::from([4000]), [0, 4000].into(), [65_000].into()] {
        let error = closed().cpuset_cpus(set).status(payload("exit", &["0"])).expect_err("no such processor");
        assert_eq!(error.step(), belljar::Step::Cgroup, "{error}");
    }
    let error = closed().cpuset_cpus(CpuSet::default()).plan().expect_err("none at all");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    Ok(())
}

fn memory_nodes() -> Result {
    let sandbox = closed().limits(Limits::new().cpuset_mems([0]));
    assert_eq!(allowed(&sandbox, "Mems_allowed_list")?, "0");
    let sandbox = closed().limits(Limits::new().cpuset_mems([63]));
    assert!(sandbox.status(payload("exit", &["0"])).is_err(), "no such node");
    Ok(())
}

fn devices() -> Result {
    let script = "echo x > /dev/null && head -c 1 /dev/zero > /tmp/x && echo both";
    assert_eq!(run_sh(&closed(), script)?, "both\n");
    let rules = DeviceRules::none().allow_char(1, 3, DeviceAccess::WRITE);
    let sandbox = closed().devices(rules);
    assert!(sandbox.plan()?.enforced().contains(Feature::Devices));
    let script = "echo x > /dev/null && echo null; cat /dev/null || echo not-read; head -c 1 /dev/zero || echo no-zero";
    let mut command = sh(script);
    command.stderr(belljar::Stdio::capture(1024));
    let output = sandbox.output(&command)?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "null\nnot-read\nno-zero\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not permitted"), "EPERM is the cgroup's");
    // The usual devices, pseudo-terminals among them.
    assert_eq!(run_role(&closed().devices(DeviceRules::minimal()), "openpty", &[])?, "ok\n");
    Ok(())
}

/// Uses so many milliseconds of CPU time, however long that takes, and says how much it was, and how long it took.
fn use_cpu(args: &[OsString]) -> i32 {
    let wanted = support::roles::big(args, 0) as f64 / 1000.0;
    let began = Instant::now();
    while support::raw::clock(libc::CLOCK_PROCESS_CPUTIME_ID) < wanted {}
    println!("{} {}", support::raw::clock(libc::CLOCK_PROCESS_CPUTIME_ID), began.elapsed().as_secs_f64());
    0
}

/// Reads a file past the page cache: `read-direct FILE MIB`. Says how many milliseconds it took.
fn read_direct(args: &[OsString]) -> i32 {
    use nix::fcntl::{OFlag, open};
    const CHUNK: usize = 256 << 10;
    let path = support::roles::text(args, 0);
    let file = open(Path::new(&path), OFlag::O_RDONLY | OFlag::O_DIRECT, nix::sys::stat::Mode::empty());
    let Ok(file) = file else { return 1 };
    let mut buffer = vec![0_u8; CHUNK + 4096];
    let start = buffer.as_ptr().align_offset(4096);
    let mut left = support::roles::big(args, 1) << 20;
    let began = Instant::now();
    while left > 0 {
        match nix::unistd::read(&file, &mut buffer[start..start + CHUNK]) {
            Ok(count) if count > 0 => left = left.saturating_sub(count as u64),
            _ => return 2,
        }
    }
    println!("{}", began.elapsed().as_millis());
    0
}

fn input_and_output() -> Result {
    let mut command = role_command("throttle", &[]);
    run_helper(&mut command, Duration::from_secs(60))?.succeed().map(|text| print!("{text}"))
}

/// The host of the test above, in a mount namespace of its own: a filesystem on a loop device, one sandbox that may read
/// 4 MiB a second from it, and one that is not limited.
fn throttle(_: &[OsString]) -> i32 {
    let run = || -> Result {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none)?;
        let scratch = Scratch::new();
        let image = scratch.join("image");
        fs::File::create(&image)?.set_len(64 << 20)?;
        let host = |program: &str, args: &[&str]| -> Result<String> {
            run_helper(std::process::Command::new(program).args(args), Duration::from_secs(30))?.succeed()
        };
        let image = image.to_str().expect("UTF-8");
        host("/sbin/mkfs.ext4", &["-q", image])?;
        let device = host("/sbin/losetup", &["--find", "--show", image])?.trim().to_owned();
        let detach = Detach(device.clone());
        let data = scratch.dir("data");
        host("/bin/mount", &[&device, data.to_str().expect("UTF-8")])?;
        fs::write(data.join("file"), vec![7; 16 << 20])?;
        let result = measure(&data, &device);
        nix::mount::umount(&data)?;
        drop(detach);
        result
    };
    match run() {
        Ok(()) => 0,
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

struct Detach(String);

impl Drop for Detach {
    fn drop(&mut self) {
        std::process::Command::new("/sbin/losetup").args(["--detach", &self.0]).status().ok();
    }
}

fn measure(data: &Path, device: &str) -> Result {
    let sandbox = closed().mount(Mount::bind(data, "/data"));
    let slow = sandbox.clone().io_max(BlockDevice::at(device), IoMax::new().read(Bytes::mib(4)));
    // By a file on it, too.
    let also = sandbox.clone().io_max(BlockDevice::at(data), IoMax::new().read_iops(20));
    let mut read = payload("read-direct", &["/data/file", "8"]);
    read.stdout(belljar::Stdio::capture(100));
    let milliseconds = |output: belljar::Output| -> Result<f64> {
        succeed(output)?.trim().parse().map_err(|error| support::Fail(format!("{error}")))
    };
    let alone = milliseconds(sandbox.output(&read)?)?;
    let throttled = slow.spawn(&read)?;
    let beside = milliseconds(sandbox.output(&read)?)?;
    let throttled = milliseconds(throttled.wait_with_output()?)?;
    let operations = milliseconds(also.output(&read)?)?;
    println!(
        "8 MiB: {alone} ms alone, {throttled} ms at 4 MiB/s, {beside} ms beside that, {operations} ms at 20 reads/s"
    );
    assert!((1500.0..4000.0 * f64::from(slack())).contains(&throttled), "{throttled}");
    assert!(beside < throttled / 3.0, "{beside}");
    // 32 reads of 256 KiB.
    assert!(operations > 1000.0, "{operations}");
    Ok(())
}

fn disks_that_are_none() -> Result {
    for path in ["/proc", "/dev/null", "/no/such/disk"] {
        let sandbox = closed().io_max(BlockDevice::at(path), IoMax::new().read(1));
        let error = sandbox.plan().expect_err("it is no disk");
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::NotFound | ErrorKind::PermissionDenied
            ),
            "{error}"
        );
    }
    let error = closed().io_max(BlockDevice::at("/"), IoMax::new()).plan().expect_err("it limits nothing");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    Ok(())
}

fn huge_pages() -> Result {
    let held = hold(&closed().hugetlb_max(mib(2), mib(4)))?;
    let dir = directory_of(&held.pid.to_string(), "hugetlb").expect("it has the controller");
    let limit = fs::read_to_string(dir.join("hugetlb.2MB.max"))
        .or_else(|_| fs::read_to_string(dir.join("hugetlb.2MB.limit_in_bytes")))?;
    assert_eq!(limit.trim(), (4 << 20).to_string());
    held.release()?;
    let error = closed().hugetlb_max(mib(4), 0).status(payload("exit", &["0"])).expect_err("no such size");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().is_some());
    Ok(())
}

/// Each limit is in the control file of the hierarchy that has it, or the error names limit, controller and version.
fn each_knob_is_set_or_names_its_hierarchy() -> Result {
    type Knob = (&'static str, Limits, &'static str, [(&'static str, &'static str); 2]);
    let megabyte = "1048576";
    let knobs: [Knob; 9] = [
        (
            "memory_high",
            Limits::new().memory_high(mib(64)),
            "memory",
            [("memory.high", "67108864"), ("", "")],
        ),
        ("memory_low", Limits::new().memory_low(mib(1)), "memory", [("memory.low", megabyte), ("", "")]),
        ("memory_min", Limits::new().memory_min(mib(1)), "memory", [("memory.min", megabyte), ("", "")]),
        ("oom_group", Limits::new().oom_group(), "memory", [("memory.oom.group", "1"), ("", "")]),
        (
            "memory_soft",
            Limits::new().memory_soft(mib(1)),
            "memory",
            [("", ""), ("memory.soft_limit_in_bytes", megabyte)],
        ),
        ("swappiness", Limits::new().swappiness(7), "memory", [("", ""), ("memory.swappiness", "7")]),
        (
            "cpu_rt",
            Limits::new().cpu_rt(CpuMax::new(Duration::from_millis(1), Duration::from_secs(1))),
            "cpu",
            [("", ""), ("cpu.rt_runtime_us", "1000")],
        ),
        ("cpu_weight", Limits::new().cpu_weight(50), "cpu", [("cpu.weight", "50"), ("cpu.shares", "512")]),
        (
            "cpu_max",
            Limits::new().cpu_max(CpuMax::cpus(0.5)),
            "cpu",
            [("cpu.max", "50000 100000"), ("cpu.cfs_quota_us", "50000")],
        ),
    ];
    for (name, limits, controller, files) in knobs {
        let sandbox = closed().limits(limits);
        let spawned = sandbox.plan().and_then(|plan| plan.start());
        match spawned {
            Ok(container) => {
                let held = support::hold_in(&container)?;
                let pid = held.pid.to_string();
                // Programs of a container are in a leaf of a version 2 box, whose limits are for all of them.
                let of_all = || Some(unified_dir_of(&pid)?.parent()?.to_path_buf());
                let dir = directory_of(&pid, controller).or_else(of_all).expect("it is in a box");
                let value = files.iter().find_map(|(file, value)| {
                    let text = fs::read_to_string(dir.join(file)).ok().filter(|_| !file.is_empty())?;
                    Some((text.trim().to_owned(), (*value).to_owned()))
                });
                let Some((found, wanted)) = value else { return fail(format!("{name}: no file in {dir:?}")) };
                assert_eq!(found, wanted, "{name}");
                held.release()?;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
                let text = support::explain(&error);
                let told = text.contains(name) && text.contains("version") && text.contains(controller);
                assert!(told || text.contains("cpu.rt_"), "{name}: {text}");
                assert!(error.hint().is_some(), "{text}");
            }
        }
    }
    Ok(())
}

/// The kernel takes any amount where the groups above have none, and protects nothing: that is refused until they have it.
fn memory_is_protected_as_far_as_above() -> Result {
    let wanted = (8 << 20).to_string();
    let kinds = [
        (Limits::new().memory_min(mib(8)), Feature::MemoryMin, "memory.min"),
        (Limits::new().memory_low(mib(8)), Feature::MemoryLow, "memory.low"),
    ];
    for (limits, feature, file) in kinds {
        let sandbox = closed().limits(limits);
        let mut written = Vec::new();
        // As each hint says, until there is none.
        while let Err(error) = sandbox.plan() {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let path = error.path().unwrap_or(Path::new("")).to_owned();
            assert!(path.ends_with(file) && !written.contains(&path), "{error}");
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(&format!("echo {wanted} > {}", path.display())), "{hint}");
            let skipped = sandbox.clone().best_effort(feature).status(payload("exit", &["0"]))?;
            assert!(!skipped.enforced.contains(feature), "{}", skipped.enforced);
            fs::write(&path, &wanted)?;
            written.push(path);
        }
        assert!(!written.is_empty(), "a fresh group protects nothing");
        let held = hold(&sandbox)?;
        let dir = directory_of(&held.pid.to_string(), "memory").expect("it has the controller");
        assert_eq!(fs::read_to_string(dir.join(file))?.trim(), wanted);
        assert!(held.release()?.enforced.contains(feature));
        for path in written {
            fs::write(path, "0")?;
        }
    }
    Ok(())
}

fn values_at_the_edges() -> Result {
    let most = [
        Limits::new().memory_max(u64::MAX),
        Limits::new().memory_max(u64::MAX).swap_max(u64::MAX),
        Limits::new().pids_max(u64::MAX),
        Limits::new().cpu_max(CpuMax::cpus(1e9)),
        Limits::new().cpu_weight(10_000),
        Limits::new().cpu_weight(1),
    ];
    for limits in most {
        let outcome = closed().limits(limits.clone()).status(payload("exit", &["0"]));
        match outcome {
            Ok(outcome) => assert_eq!(outcome.verdict, Verdict::Exited(0), "{limits:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{limits:?}: {error}"),
        }
    }
    let none = [
        Limits::new().memory_max(0),
        Limits::new().memory_high(0),
        Limits::new().pids_max(0),
        Limits::new().cpu_max(CpuMax::cpus(0.0)),
        Limits::new().cpu_weight(0),
        Limits::new().cpu_weight(10_001),
        Limits::new().io_weight(0),
        Limits::new().io_weight(10_001),
        Limits::new().swappiness(201),
        Limits::new().hugetlb_max(12_345, 0),
    ];
    for limits in none {
        let error = closed().limits(limits.clone()).plan().expect_err("it makes no sense");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{limits:?}: {error}");
    }
    Ok(())
}

fn what_may_be_skipped() -> Result {
    // One of these two is always what the other hierarchy has.
    let limits = Limits::new().memory_max(mib(64)).memory_high(mib(32)).swappiness(10);
    let sandbox = closed().limits(limits);
    assert!(sandbox.plan().is_err());
    let sandbox = sandbox.best_effort(Feature::MemoryHigh).best_effort(Feature::Swappiness);
    let outcome = sandbox.status(payload("exit", &["0"]))?;
    // A user without a range of ids cannot drop its groups either, which is no matter of limits.
    let asked = [Feature::MemoryHigh, Feature::Swappiness];
    let enforced: Vec<_> = asked.into_iter().filter(|what| outcome.enforced.contains(*what)).collect();
    assert_eq!(enforced.len(), 1, "{}", outcome.enforced);
    assert!(outcome.enforced.contains(Feature::MemoryMax));
    // What shows only when a box is made is found by making one.
    let sandbox = closed().memory_max(mib(64)).hugetlb_max(mib(4), 0).best_effort(Feature::HugetlbMax);
    let outcome = sandbox.status(payload("exit", &["0"]))?;
    assert!(!outcome.enforced.contains(Feature::HugetlbMax), "{}", outcome.enforced);
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    Ok(())
}

fn idle_programs_are_killed() -> Result {
    let sandbox = closed().idle_time(Duration::from_millis(400)).wall_time(Duration::from_secs(30));
    let outcome = sandbox.status(payload("sleep", &["20000"]))?;
    assert_eq!(outcome.verdict, Verdict::IdleExceeded);
    let most = Duration::from_millis(400 + 300 * u64::from(slack()));
    assert!(
        outcome.usage.wall >= Duration::from_millis(400) && outcome.usage.wall < most,
        "{:?}",
        outcome.usage.wall
    );
    assert!(outcome.enforced.contains(Feature::IdleTime));
    assert!(!outcome.enforced.contains(Feature::CpuTime), "nobody asked for it");
    // Waiting for a child that does nothing is doing nothing.
    let outcome = sandbox.status(sh("/bin/sleep 20"))?;
    assert_eq!(outcome.verdict, Verdict::IdleExceeded);
    Ok(())
}

fn busy_programs_are_not_idle() -> Result {
    let sandbox = closed().idle_time(Duration::from_millis(500)).wall_time(Duration::from_secs(30));
    // The main process sleeps while a child works.
    assert_eq!(sandbox.status(payload("burn-tree", &["1", "1500"]))?.verdict, Verdict::Exited(0));
    // It works a little from time to time.
    let script =
        "for i in 1 2 3 4 5; do /bin/sleep 0.25; n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; done";
    assert_eq!(sandbox.status(sh(script))?.verdict, Verdict::Exited(0));
    Ok(())
}

/// A quota that would make a busy program look idle is refused together with the idle time; with the least idle time that is
/// taken a busy program is not idle.
fn held_back_by_its_quota_is_not_idle() -> Result {
    let milliseconds = Duration::from_millis;
    for (quota, period, least) in [(10, 1000, 3000), (20, 200, 400), (1, 100, 1200)] {
        let limit = CpuMax::new(milliseconds(quota), milliseconds(period));
        // The weight makes others on this machine no reason to get less than the quota.
        let sandbox = closed().cpu_max(limit).cpu_weight(10_000).wall_time(Duration::from_secs(60));
        let error = sandbox.clone().idle_time(milliseconds(least - 1)).plan().expect_err("it may look idle");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(&format!("idle_time({least} ms)")), "{hint}");
        let sandbox = sandbox.idle_time(milliseconds(least) * slack());
        let burn = payload("burn", &[&(2 * least).to_string()]);
        assert_eq!(sandbox.status(burn)?.verdict, Verdict::Exited(0));
    }
    // What limits nothing holds nothing back.
    closed().cpu_max(CpuMax::cpus(f64::INFINITY)).idle_time(milliseconds(10)).plan()?;
    Ok(())
}

/// What is reported is what the process itself counted, and not what it took to set the sandbox up.
fn times_are_reported_to_the_millisecond() -> Result {
    let sandbox = closed().cpu_time(Duration::from_secs(20)).wall_time(Duration::from_secs(60));
    for milliseconds in [1_u64, 50, 300] {
        let mut command = payload("use-cpu", &[&milliseconds.to_string()]);
        command.stdout(belljar::Stdio::capture(100));
        let output = sandbox.output(&command)?;
        let usage = output.outcome.usage;
        let text = succeed(output)?;
        let own: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [cpu, wall] = own.as_slice() else { return fail(text) };
        // The end of a process costs some time, too, after it could last look; and its own clock runs from the fork.
        let more = 0.001 + 0.002 * f64::from(slack());
        let extra = usage.cpu.as_secs_f64() - cpu;
        assert!(
            (-0.000_5 * f64::from(slack())..more).contains(&extra),
            "{milliseconds} ms: {:?}, of which it knew {cpu}",
            usage.cpu
        );
        // Its own clock starts in main, after the loader.
        let extra = usage.wall.as_secs_f64() - wall;
        assert!(
            (-0.000_5..0.1 * f64::from(slack())).contains(&extra),
            "{:?}, of which it knew {wall}",
            usage.wall
        );
    }
    Ok(())
}

fn extra_time_shows_by_how_much() -> Result {
    let limit = Duration::from_millis(200);
    let sandbox = closed().cpu_time(limit).extra_time(Duration::from_millis(400));
    let outcome = sandbox.status(payload("burn", &["20000"]))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    assert!(outcome.usage.cpu >= Duration::from_millis(600), "{:?}", outcome.usage.cpu);
    let outcome = sandbox.status(payload("use-cpu", &["350"]))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded, "it ended by itself, too late");
    assert_eq!(outcome.status.code(), Some(0));
    let sandbox = closed().wall_time(limit).extra_time(Duration::from_millis(300));
    let outcome = sandbox.status(payload("sleep", &["400"]))?;
    assert_eq!((outcome.verdict, outcome.status.code()), (Verdict::WallTimeExceeded, Some(0)));
    assert!(outcome.usage.wall >= Duration::from_millis(400));
    Ok(())
}

fn many_at_once() -> Result {
    let count = if support::soak() { 500 } else { 60 };
    let plan = closed().memory_max(mib(64)).pids_max(8).plan()?;
    let children: Vec<Child> =
        (0..count).map(|_| plan.spawn(payload("sleep", &["1500"]))).collect::<belljar::Result<_>>()?;
    for mut child in children {
        assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    }
    let own = std::process::id();
    assert_eq!(support::oracle::boxes_of(own), Vec::<std::path::PathBuf>::new());
    Ok(())
}
