//! Limits and counters on the real kernel.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::uio::pread;

use super::counters::cpu_stat;
use super::testing::{cgroup, control, placement, refused, run_in};
use super::{Cgroup, CgroupParent, CpuFormat, CpuMax, Limits, Placement, missing};
use crate::error::ErrorKind;

const MIB: u64 = 1 << 20;

/// What version 2 or else version 1 calls a limit.
fn limit(cgroup: &Cgroup, v2: &str, v1: &str) -> String {
    control(cgroup, v2).or_else(|| control(cgroup, v1)).expect("one of the files exists")
}

#[test]
fn limits_are_in_the_control_files() {
    let cpu_max = Some(CpuMax { quota_us: 20_000, period_us: 50_000 });
    let limits = Limits {
        memory_max: Some(64 * MIB + 1),
        pids_max: Some(17),
        cpu_max,
        cpu_weight: Some(200),
        ..Limits::default()
    };
    let Some(cgroup) = cgroup(&limits) else { return };
    assert_eq!(limit(&cgroup, "memory.max", "memory.limit_in_bytes"), (64 * MIB).to_string());
    assert_eq!(limit(&cgroup, "pids.max", "pids.max"), "17");
    match control(&cgroup, "cpu.max") {
        Some(text) => {
            assert_eq!(text, "20000 50000");
            assert_eq!(control(&cgroup, "cpu.weight").as_deref(), Some("200"));
        }
        None => {
            assert_eq!(control(&cgroup, "cpu.cfs_quota_us").as_deref(), Some("20000"));
            assert_eq!(control(&cgroup, "cpu.cfs_period_us").as_deref(), Some("50000"));
            assert_eq!(control(&cgroup, "cpu.shares").as_deref(), Some("2048"));
        }
    }
}

#[test]
fn swap_is_limited_on_top_of_memory() {
    let limits = Limits { memory_max: Some(64 * MIB), swap_max: Some(16 * MIB), ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    match control(&cgroup, "memory.swap.max") {
        Some(text) => assert_eq!(text, (16 * MIB).to_string()),
        None => assert_eq!(control(&cgroup, "memory.memsw.limit_in_bytes"), Some((80 * MIB).to_string())),
    }
}

#[test]
fn huge_limits_are_no_limits() {
    let cpu_max = Some(CpuMax { quota_us: u64::MAX, period_us: 100_000 });
    let limits =
        Limits { memory_max: Some(u64::MAX), pids_max: Some(u64::MAX), cpu_max, ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let memory = limit(&cgroup, "memory.max", "memory.limit_in_bytes");
    assert!(memory == "max" || memory.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 62), "{memory}");
    assert_eq!(limit(&cgroup, "pids.max", "pids.max"), "max");
    let quota = limit(&cgroup, "cpu.max", "cpu.cfs_quota_us");
    assert!(quota == "-1" || quota == "max 100000", "{quota}");
    assert!(run_in(&cgroup, "exit 0").success());
}

#[test]
fn zero_limits_are_refused_before_anything_is_made() {
    let harmless = Limits { pids_max: Some(10), ..Limits::default() };
    let placement = placement(&harmless);
    for limits in [
        Limits { memory_max: Some(0), ..harmless.clone() },
        Limits { pids_max: Some(0), ..harmless.clone() },
        Limits { cpu_weight: Some(0), ..harmless.clone() },
        Limits { cpu_max: Some(CpuMax { quota_us: 0, period_us: 100_000 }), ..harmless.clone() },
    ] {
        let error = refused(Placement::resolve(&limits, &CgroupParent::Auto));
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{limits:?}");
        if let Some(placement) = &placement {
            assert_eq!(refused(Cgroup::create(placement, &limits)).kind(), ErrorKind::InvalidConfig);
        }
    }
}

#[test]
fn no_limits_need_no_cgroup() {
    let placement = Placement::resolve(&Limits::default(), &CgroupParent::Auto).expect("it needs nothing");
    assert!(placement.is_empty());
    assert_eq!(placement.describe(), Vec::<String>::new());
    assert_eq!(missing(&Limits::default(), &CgroupParent::Auto), []);
    let mut cgroup = Cgroup::create(&placement, &Limits::default()).expect("it needs nothing");
    assert!(cgroup.joins().is_empty());
    assert!(cgroup.cpu_usage_file().is_none());
    assert_eq!(cgroup.counters().expect("nothing to read"), super::Counters::default());
    cgroup.kill().and_then(|()| cgroup.remove()).expect("nothing to do");
}

#[test]
fn limits_beyond_the_placement_are_our_own_mistake() {
    let Some(placement) = placement(&Limits { pids_max: Some(10), ..Limits::default() }) else { return };
    let limits = Limits { memory_max: Some(MIB), ..Limits::default() };
    assert_eq!(refused(Cgroup::create(&placement, &limits)).kind(), ErrorKind::Internal);
}

#[test]
fn what_is_missing_agrees_with_what_resolve_refuses() {
    let cpu_max = Some(CpuMax { quota_us: 100_000, period_us: 100_000 });
    let limits = Limits {
        memory_max: Some(MIB),
        pids_max: Some(10),
        cpu_max,
        cpu_accounting: true,
        ..Limits::default()
    };
    super::testing::settle();
    for parent in [CgroupParent::Auto, CgroupParent::Path("no/such/parent".into())] {
        let missing = missing(&limits, &parent);
        match Placement::resolve(&limits, &parent) {
            Ok(placement) => {
                assert_eq!(missing, [], "{parent:?}");
                let text = placement.describe().join("\n");
                assert!(text.contains("pids.max = 10") && text.contains("cpuacct"), "{text}");
            }
            Err(error) => {
                assert_eq!(missing.first().map(|(_, missing)| missing.kind), Some(error.kind()), "{error}");
                assert!(error.hint().is_some(), "{error}");
            }
        }
    }
}

#[test]
fn running_out_of_memory_is_counted_and_the_peak_is_the_limit() {
    let limits = Limits { memory_max: Some(32 * MIB), ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    // tail(1) keeps the endless last line in memory.
    let status = run_in(&cgroup, "exec tail /dev/zero");
    assert_eq!(status.signal(), Some(9));
    let counters = cgroup.counters().expect("they are readable");
    assert_eq!(counters.oom_kills, Some(1));
    match counters.peak_memory {
        Some(peak) => assert!((28 * MIB..=32 * MIB).contains(&peak), "{peak}"),
        // Before Linux 5.19.
        None => assert!(control(&cgroup, "memory.peak").is_none()),
    }
    assert_eq!(counters.pids_denied, None, "not asked for");
}

#[test]
fn a_child_out_of_memory_leaves_the_main_process() {
    let limits = Limits { memory_max: Some(32 * MIB), ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let status = run_in(&cgroup, "tail /dev/zero; exit 7");
    assert_eq!(status.code(), Some(7));
    assert_eq!(cgroup.counters().expect("they are readable").oom_kills, Some(1));
}

#[test]
fn refused_forks_and_the_peak_are_counted() {
    let limits = Limits { pids_max: Some(5), ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let status = run_in(&cgroup, "for i in 1 2 3 4 5 6 7 8; do sleep 30 & done; wait");
    assert_ne!(status.code(), Some(0), "the shell gives up when it cannot fork");
    let counters = cgroup.counters().expect("they are readable");
    assert!(counters.pids_denied >= Some(1), "{counters:?}");
    match counters.peak_pids {
        // It counts the refused one on some kernels.
        Some(peak) => assert!((5..=6).contains(&peak), "{peak}"),
        // Before Linux 6.1.
        None => assert!(control(&cgroup, "pids.peak").is_none()),
    }
    cgroup.kill().expect("they are ours");
}

#[test]
fn cpu_time_is_measured() {
    let limits = Limits { cpu_accounting: true, ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let file = cgroup.cpu_usage_file().expect("it was asked for");
    let usage = || {
        let mut buffer = [0; 1024];
        let length = pread(file.fd, &mut buffer, 0).expect("it is readable again and again");
        let text = std::str::from_utf8(&buffer[..length]).expect("it is text");
        match file.format {
            CpuFormat::Nanoseconds => Duration::from_nanos(text.trim_end().parse().expect("a number")),
            CpuFormat::CpuStat => cpu_stat(text).0.expect("usage_usec is there"),
        }
    };
    assert_eq!(usage(), Duration::ZERO);
    // A grandchild, too.
    let spin = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    assert!(run_in(&cgroup, &format!("({spin}); {spin}")).success());
    let counters = cgroup.counters().expect("they are readable");
    let cpu = counters.cpu.expect("it was asked for");
    // Both come from the same file; but a process that was waited for is charged for its last steps a little later.
    assert!((cpu..cpu + Duration::from_millis(50)).contains(&usage()), "{counters:?}");
    assert!((Duration::from_millis(5)..Duration::from_secs(60)).contains(&cpu), "{cpu:?}");
    let parts =
        counters.user.zip(counters.system).map(|(user, system)| user + system).expect("both are there");
    assert!(parts > Duration::ZERO && parts < cpu * 2, "{counters:?}");
}

#[test]
fn cpu_quota_slows_down() {
    let cpu_max = Some(CpuMax { quota_us: 10_000, period_us: 100_000 });
    let limits = Limits { cpu_max, cpu_accounting: true, ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let start = Instant::now();
    run_in(&cgroup, "exec timeout 1 sh -c 'while :; do :; done'");
    let (wall, cpu) =
        (start.elapsed(), cgroup.counters().expect("they are readable").cpu.expect("asked for"));
    // A tenth, with one period of slack at either end.
    assert!(cpu < wall / 10 + Duration::from_millis(50), "{cpu:?} of {wall:?}");
}
