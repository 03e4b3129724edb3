//! Tests of what limits mean before any hierarchy is asked.

use super::*;

fn cpu(quota_us: u64, period_us: u64) -> Limits {
    Limits { cpu_max: Some(CpuMax::from_us(quota_us, period_us)), ..Limits::default() }
}

#[test]
fn zero_and_out_of_range_are_refused() {
    for (limits, word) in [
        (Limits { memory_max: Some(0), ..Limits::default() }, "memory"),
        (Limits { pids_max: Some(0), ..Limits::default() }, "processes"),
        (Limits { cpu_weight: Some(0), ..Limits::default() }, "weight"),
        (Limits { io_weight: Some(0), ..Limits::default() }, "weight"),
        (Limits { io_weight: Some(10_001), ..Limits::default() }, "weight"),
        (Limits::new().memory_high(0), "memory"),
        (Limits::new().swappiness(201), "swappiness"),
        (Limits::new().cpuset_cpus(CpuSet::default()), "processors"),
        (Limits::new().cpuset_mems(CpuSet::default()), "nodes"),
        (Limits::new().hugetlb_max(3 << 20, 0), "huge pages"),
        (Limits::new().hugetlb_max(4096, 0), "huge pages"),
        (Limits::new().cpu_rt(CpuMax::from_us(2, 1)), "real-time"),
        (Limits::new().io_max(BlockDevice::at("/"), IoMax::new()), "I/O"),
        (Limits::new().io_max(BlockDevice::at("/"), IoMax::new().read(0)), "I/O"),
        (Limits { cpu_weight: Some(10_001), ..Limits::default() }, "weight"),
        (cpu(0, 100_000), "quota"),
        (cpu(999, 100_000), "quota"),
        (cpu(1_000, 0), "period"),
        (cpu(1_000, 999), "period"),
        (cpu(1_000, 1_000_001), "period"),
        (cpu(u64::MAX, u64::MAX), "period"),
    ] {
        let error = limits.validate().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig, "{limits:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn what_means_something_is_accepted() {
    for limits in [
        Limits::default(),
        Limits { memory_max: Some(1), swap_max: Some(0), pids_max: Some(1), ..Limits::default() },
        Limits { memory_max: Some(u64::MAX), pids_max: Some(u64::MAX), ..Limits::default() },
        Limits { cpu_weight: Some(10_000), ..cpu(1_000, 1_000) },
        cpu(u64::MAX, 1_000_000),
    ] {
        limits.validate().unwrap_or_else(|error| panic!("{limits:?}: {error}"));
    }
}

#[test]
fn every_limit_can_be_taken_away_and_picked_out() {
    let all = Limits {
        oom_group: true,
        cpu_accounting: true,
        ..Limits::new()
            .memory_max(1)
            .memory_high(1)
            .memory_low(1)
            .memory_min(1)
            .memory_soft(1)
            .swappiness(1)
            .swap_max(1)
            .pids_max(1)
            .cpu_max(CpuMax::cpus(1.0))
            .cpu_weight(1)
            .cpu_rt(CpuMax::cpus(0.5))
            .cpuset_cpus([0])
            .cpuset_mems([0])
            .io_max(BlockDevice::at("/"), IoMax::new().read(1))
            .io_weight(1)
            .hugetlb_max(2 << 20, 1)
            .devices(DeviceRules::minimal())
            .freezable()
            .pressure()
    };
    let features: Vec<_> = all.features().collect();
    assert_eq!(features.len(), all.table().len(), "each has a setter");
    assert_eq!(all.controllers().collect::<Vec<_>>(), Controller::ALL);
    let mut rest = all.clone();
    for feature in features {
        assert!(all.only(feature).features().any(|other| other == feature), "{feature}");
        rest.clear(feature);
        assert!(rest.features().all(|other| other != feature), "{feature}");
        let mut merged = Limits::default();
        merged.merge(&all.only(feature));
        assert_eq!(merged, all.only(feature), "{feature}");
    }
    assert_eq!(rest, Limits::default());
}

#[test]
fn each_limit_names_its_controller() {
    let needs = |limits: Limits| limits.controllers().collect::<Vec<_>>();
    assert_eq!(needs(Limits::default()), []);
    assert_eq!(needs(Limits { swap_max: Some(0), ..Limits::default() }), [Controller::Memory]);
    assert_eq!(needs(Limits { cpu_weight: Some(5), ..Limits::default() }), [Controller::Cpu]);
    assert_eq!(
        needs(Limits { cpu_accounting: true, pids_max: Some(1), ..Limits::default() }),
        [Controller::Pids, Controller::CpuAcct]
    );
}
