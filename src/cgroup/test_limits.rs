//! Limits and counters on the real kernel.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::uio::pread;

use super::counters::cpu_stat;
use super::layout::{Controller, Layout, Version};
use super::parent::Parent;
use super::testing::{cgroup, control, placement, refused, run_in};
use super::{
    Cgroup, CgroupParent, CpuFormat, DeviceAccess, DeviceRules, Limits, OomScope, Placement, Stopping, oom,
};
use crate::error::ErrorKind;
use crate::limits::CpuMax;

const MIB: u64 = 1 << 20;

/// What version 2 or else version 1 calls a limit.
fn limit(cgroup: &Cgroup, v2: &str, v1: &str) -> String {
    control(cgroup, v2).or_else(|| control(cgroup, v1)).expect("one of the files exists")
}

#[test]
fn limits_are_in_the_control_files() {
    let cpu_max = Some(CpuMax::from_us(20_000, 50_000));
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
    let cpu_max = Some(CpuMax::from_us(u64::MAX, 100_000));
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
        Limits { cpu_max: Some(CpuMax::from_us(0, 100_000)), ..harmless.clone() },
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
fn what_cannot_be_placed_has_a_remedy() {
    let limits = Limits::new().memory_max(MIB).pids_max(10).cpu_max(CpuMax::cpus(1.0));
    let limits = Limits { cpu_accounting: true, ..limits };
    super::testing::settle();
    match Placement::resolve(&limits, &CgroupParent::Auto) {
        Ok(placement) => {
            let text = placement.describe().join("\n");
            assert!(text.contains("pids.max = 10") && text.contains("cpuacct"), "{text}");
        }
        Err(error) => assert!(error.hint().is_some(), "{error}"),
    }
    let error = refused(Placement::resolve(&limits, &CgroupParent::Path("no/such/parent".into())));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().is_some(), "{error}");
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

/// The kernel's log leaves kills out when there are many, and then these counters decide.
#[test]
fn the_counters_alone_know_whose_memory_it_was() {
    for swap_max in [None, Some(0)] {
        let limits = Limits { memory_max: Some(32 * MIB), swap_max, ..Limits::default() };
        let Some(cgroup) = cgroup(&limits) else { return };
        let before = cgroup.counters().expect("they are readable");
        assert_eq!(oom::scope(&before), OomScope::Host, "nothing was at its limit");
        run_in(&cgroup, "exec tail /dev/zero");
        let counters = cgroup.counters().expect("they are readable");
        assert_eq!(oom::scope(&counters), OomScope::Sandbox, "{swap_max:?}: {counters:?}");
    }
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
    let cpu_max = Some(CpuMax::from_us(10_000, 100_000));
    let limits = Limits { cpu_max, cpu_accounting: true, ..Limits::default() };
    let Some(cgroup) = cgroup(&limits) else { return };
    let start = Instant::now();
    run_in(&cgroup, "exec timeout 1 sh -c 'while :; do :; done'");
    let (wall, cpu) =
        (start.elapsed(), cgroup.counters().expect("they are readable").cpu.expect("asked for"));
    // A tenth, with one period of slack at either end.
    assert!(cpu < wall / 10 + Duration::from_millis(50), "{cpu:?} of {wall:?}");
}

/// A box in the version 2 hierarchy for what any of its cgroups can do, even where version 1 would be chosen.
fn box_in_v2(limits: &Limits, controllers: Vec<Controller>) -> Option<Cgroup> {
    super::testing::settle();
    let placed = Layout::discover().ok().and_then(|layout| {
        let dir = layout.locate(Controller::Pressure, &CgroupParent::Auto).ok()?.dir;
        Parent::open(Version::V2, &dir, controllers, &CgroupParent::Auto).ok()
    });
    let Some(parent) = placed else {
        super::testing::skipped_for("a version 2 hierarchy that can be written to");
        return None;
    };
    let placement = Placement::in_parents(limits, vec![parent]);
    match Cgroup::create(&placement, limits) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            assert!(error.to_string().contains("device rules"), "{error}");
            assert!(error.hint().is_some());
            super::testing::skipped_for("the right to attach a program to a cgroup");
            None
        }
    }
}

#[test]
fn device_rules_of_version_2_are_a_program() {
    let rules = DeviceRules::none()
        .allow_char(1, 3, DeviceAccess::READ | DeviceAccess::WRITE)
        .allow_char(1, 5, DeviceAccess::READ)
        .allow_block(1, 9, DeviceAccess::ALL);
    let limits = Limits::new().devices(rules);
    let Some(cgroup) = box_in_v2(&limits, vec![Controller::Devices]) else { return };
    let script = "head -c 1 /dev/zero > /dev/null || exit 1; (echo x > /dev/zero) 2>/dev/null && exit 2; \
                  (head -c 1 /dev/urandom) 2>/dev/null && exit 3; exit 0";
    assert_eq!(run_in(&cgroup, script).code(), Some(0));
    let all = Limits::new().devices(DeviceRules::none().allow_char(1, None, DeviceAccess::ALL));
    let cgroup = box_in_v2(&all, vec![Controller::Devices]).expect("it was there a moment ago");
    assert_eq!(run_in(&cgroup, "head -c 1 /dev/urandom > /dev/null").code(), Some(0));
    let none = Limits::new().devices(DeviceRules::none());
    let cgroup = box_in_v2(&none, vec![Controller::Devices]).expect("it was there a moment ago");
    let status = super::testing::wait(&mut super::testing::spawn_in(&cgroup, "exit 0"));
    assert_ne!(status.code(), Some(0), "not even /dev/null for its streams");
}

#[test]
fn version_2_freezes_and_kills_what_is_frozen() {
    let limits = Limits::new().freezable();
    let Some(mut cgroup) = box_in_v2(&limits, vec![Controller::Freezer]) else { return };
    let mut child = super::testing::spawn_in(&cgroup, "while :; do :; done");
    let dir = super::testing::only_path(&cgroup);
    super::testing::until("it is inside", || !super::testing::processes(&dir).is_empty());
    cgroup.freeze().expect("it is a version 2 group");
    super::testing::until("it has stopped", || cgroup.stopping().expect("it can be read") == Stopping::Done);
    cgroup.remove().expect("frozen processes die");
    assert_eq!(super::testing::wait(&mut child).signal(), Some(9));
}

#[test]
fn version_1_thaws_what_it_kills() {
    super::testing::settle();
    let parent = Layout::discover().ok().and_then(|layout| {
        let dir = layout.v1(Controller::Freezer)?.own_dir().ok()?;
        Parent::open(Version::V1, &dir, vec![Controller::Freezer], &CgroupParent::Auto).ok()
    });
    let Some(parent) = parent else { return super::testing::skipped_for("a version 1 freezer") };
    let limits = Limits::new().freezable();
    let mut cgroup =
        Cgroup::create(&Placement::in_parents(&limits, vec![parent]), &limits).expect("we are root");
    let mut child = super::testing::spawn_in(&cgroup, "while :; do :; done");
    let dir = super::testing::only_path(&cgroup);
    super::testing::until("it is inside", || !super::testing::processes(&dir).is_empty());
    cgroup.freeze().expect("it has a freezer");
    super::testing::until("it has stopped", || cgroup.stopping().expect("it can be read") == Stopping::Done);
    assert_eq!(control(&cgroup, "freezer.state").as_deref(), Some("FROZEN"));
    assert!(cgroup.thaw_file().expect("it can be opened").is_some());
    cgroup.remove().expect("it was thawed to be killed");
    assert_eq!(super::testing::wait(&mut child).signal(), Some(9));
}
