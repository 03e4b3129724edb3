//! Version 1: one hierarchy per controller, limits in files of their own.
//! See the kernel's Documentation/admin-guide/cgroup-v1.

use std::borrow::Cow;
use std::time::Duration;

use super::counters::{Counters, keyed};
use super::group::{Group, Setting, Verify};
use super::layout::Controller;
use super::limits::Limits;
use super::missing;
use super::value::{bounded, bounded_pids, bounded_quota, page_size, page_size_name};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::Feature;

const MEMORY: &str = "memory.limit_in_bytes";

/// Total of memory and swap; there is no file for swap alone.
pub(super) const MEMSW: &str = "memory.memsw.limit_in_bytes";

/// What nothing may be done with any more, and what may be: lines that are told one by one.
pub(super) const DENY_DEVICES: &str = "devices.deny";
pub(super) const ALLOW_DEVICES: &str = "devices.allow";

/// The files to write for the controllers of one hierarchy, in order.
///
/// # Errors
///
/// If this hierarchy cannot express the limits.
pub(super) fn settings(limits: &Limits, controllers: &[Controller]) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for controller in controllers {
        match controller {
            Controller::Memory => memory(limits, &mut settings)?,
            Controller::Pids => {
                if let Some(max) = limits.pids_max.map(bounded_pids) {
                    let value = max.map_or_else(|| "max".to_owned(), |max| max.to_string());
                    settings.push(setting("pids.max", value, Verify::Count(max)));
                }
            }
            Controller::Cpu => cpu(limits, &mut settings),
            Controller::Cpuset => {
                for (file, effective, set) in [
                    ("cpuset.cpus", "cpuset.effective_cpus", &limits.cpuset_cpus),
                    ("cpuset.mems", "cpuset.effective_mems", &limits.cpuset_mems),
                ] {
                    if let Some(set) = set {
                        settings.push(setting(file, set.to_string(), Verify::List(effective, set.clone())));
                    }
                }
            }
            Controller::Io => io(limits, &mut settings)?,
            Controller::Hugetlb => {
                for (page_size, bytes) in &limits.hugetlb_max {
                    let file = format!("hugetlb.{}.limit_in_bytes", page_size_name(*page_size));
                    settings.push(Setting {
                        absent: missing::PAGE_SIZE,
                        ..setting(file, number(bounded(*bytes)), Verify::No)
                    });
                }
            }
            Controller::Devices => {
                if let Some(rules) = &limits.devices {
                    settings.push(setting(DENY_DEVICES, "a".to_owned(), Verify::No));
                    settings.extend(rules.lines().map(|line| setting(ALLOW_DEVICES, line, Verify::No)));
                }
            }
            Controller::Freezer | Controller::Pressure | Controller::CpuAcct => {}
        }
    }
    Ok(settings)
}

/// Pairs of files that must fit each other at every moment: the second must not be above what the first allows, so which
/// of them is written first depends on which way they go. The limits of memory, and shares of processor time.
const PAIRS: [[&str; 2]; 3] =
    [[MEMORY, MEMSW], ["cpu.cfs_period_us", "cpu.cfs_quota_us"], ["cpu.rt_period_us", "cpu.rt_runtime_us"]];

/// Changes the order of settings for a group that has some already.
pub(super) fn order_for_update(group: &Group, settings: &mut [Setting]) -> Result<()> {
    for pair in PAIRS {
        let place = |file| settings.iter().position(|setting| setting.file == file);
        let [Some(first), Some(second)] = pair.map(place) else { continue };
        let wanted = |index: usize| settings.get(index).and_then(|setting| setting.value.parse::<u64>().ok());
        let swap = match pair {
            // The sum of memory and swap must not be below memory, which grows beyond what the sum is now.
            [MEMORY, MEMSW] => match (wanted(first), group.number(MEMSW)?) {
                (None, _) => true,
                (Some(memory), now) => now.is_some_and(|now| memory > now),
            },
            // A smaller quota in the old period is less than before, and the old one in the new period may be anything.
            // No number is no quota.
            [_, file] => match (wanted(second), group.number(file)?) {
                (Some(quota), now) => now.is_some_and(|now| quota <= now),
                (None, _) => true,
            },
        };
        if swap {
            settings.swap(first, second);
        }
    }
    Ok(())
}

/// The error for a limit that only version 2 has.
fn inexpressible(limit: Feature, controller: Controller) -> Error {
    let controller = controller.name();
    let message = format!("{limit} cannot be expressed by the version 1 {controller} controller");
    Error::message(ErrorKind::Unsupported, Step::Cgroup, message).with_hint(missing::UNIFIED)
}

fn io(limits: &Limits, settings: &mut Vec<Setting>) -> Result<()> {
    for (device, max) in &limits.io_max {
        let number = device.number()?;
        for (_, file, value) in max.parts() {
            // 0 takes a limit away.
            let value = format!("{number} {}", value.unwrap_or(0));
            settings.push(Setting { absent: missing::THROTTLE, ..setting(file, value, Verify::No) });
        }
    }
    if let Some(weight) = limits.io_weight {
        if weight > 1000 {
            let message =
                format!("the io weight {weight} cannot be expressed by the version 1 blkio controller");
            return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message)
                .with_hint("its weights end at 1000"));
        }
        let weight = setting("blkio.bfq.weight", weight.to_string(), Verify::No);
        settings.push(Setting { absent: missing::BFQ, ..weight });
    }
    Ok(())
}

fn memory(limits: &Limits, settings: &mut Vec<Setting>) -> Result<()> {
    let only_in_v2 = [
        (Feature::MemoryHigh, limits.memory_high.is_some()),
        (Feature::MemoryLow, limits.memory_low.is_some()),
        (Feature::MemoryMin, limits.memory_min.is_some()),
        (Feature::OomGroup, limits.oom_group),
    ];
    if let Some((feature, _)) = only_in_v2.into_iter().find(|(_, set)| *set) {
        return Err(inexpressible(feature, Controller::Memory));
    }
    if let Some(soft) = limits.memory_soft.map(bounded) {
        settings.push(setting("memory.soft_limit_in_bytes", number(soft), Verify::Bytes(soft)));
    }
    if let Some(swappiness) = limits.swappiness {
        let verify = Verify::Count(Some(u64::from(swappiness)));
        settings.push(setting("memory.swappiness", swappiness.to_string(), verify));
    }
    let memory_max = limits.memory_max.and_then(bounded);
    if limits.memory_max.is_some() {
        settings.push(setting(MEMORY, number(memory_max), Verify::Bytes(memory_max)));
    }
    let Some(swap_max) = limits.swap_max.map(bounded) else { return Ok(()) };
    // The total must not be less than the memory alone (EINVAL), so it is written after it.
    let total = match (memory_max, swap_max) {
        (_, None) => None,
        (Some(memory), Some(swap)) => bounded(memory.saturating_add(swap)),
        (None, Some(_)) => {
            let message = "a swap limit without a memory limit cannot be expressed by the version 1 memory controller, \
                           which limits the sum of both";
            return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message)
                .with_hint("set a memory limit as well, or boot with `systemd.unified_cgroup_hierarchy=1`"));
        }
    };
    settings.push(Setting {
        absent: missing::SWAPACCOUNT,
        ..setting(MEMSW, number(total), Verify::Bytes(total))
    });
    Ok(())
}

fn cpu(limits: &Limits, settings: &mut Vec<Setting>) {
    if let Some(max) = limits.cpu_max {
        settings.push(setting("cpu.cfs_period_us", max.period_us().to_string(), Verify::No));
        settings.push(setting("cpu.cfs_quota_us", number(bounded_quota(max)), Verify::No));
    }
    if let Some(max) = limits.cpu_rt {
        let parts = [("cpu.rt_period_us", max.period_us()), ("cpu.rt_runtime_us", max.quota_us())];
        settings.extend(parts.map(|(file, value)| Setting {
            absent: missing::RT_GROUP,
            ..setting(file, value.to_string(), Verify::Count(Some(value)))
        }));
    }
    if let Some(weight) = limits.cpu_weight {
        settings.push(setting("cpu.shares", shares(weight).to_string(), Verify::No));
    }
}

/// `cpu.shares` for a version 2 weight: `weight * 1024 / 100`, so that the default weight 100 is the default 1024 and
/// ratios between boxes are what they are in version 2, where the scheduler itself computes the same
/// (`sched_weight_from_cgroup`). The OCI runtimes use another formula, `2 + (weight - 1) * 262142 / 9999`, which maps
/// the ends of the ranges on each other but makes 2597 of the default.
fn shares(weight: u32) -> u64 {
    // The bounds are the kernel's, `MIN_SHARES` and `MAX_SHARES`.
    (u64::from(weight) * 1024 / 100).clamp(2, 262_144)
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}

fn setting(file: impl Into<Cow<'static, str>>, value: String, verify: Verify) -> Setting {
    Setting { file: file.into(), value, verify, absent: missing::KERNEL }
}

/// Adds what one group has counted.
pub(super) fn count(group: &Group, counters: &mut Counters) -> Result<()> {
    let mut buffer = [0; 4096];
    for controller in &group.parent().controllers {
        match controller {
            Controller::Memory => {
                counters.memory = group.number("memory.usage_in_bytes")?;
                counters.peak_memory = group.number("memory.max_usage_in_bytes")?;
                // Charges that the limit refused, a sign that it was this limit that killed.
                counters.oom = group.number("memory.failcnt")?;
                // The line is there since Linux 4.13.
                counters.oom_kills =
                    group.read("memory.oom_control", &mut buffer)?.and_then(|text| keyed(text, "oom_kill"));
                if counters.oom_kills != Some(0) {
                    // The count of refusals for the sum with swap stays 0 (seen on 6.18), so its peak has to tell.
                    let total = [group.number("memory.memsw.max_usage_in_bytes")?, group.number(MEMSW)?];
                    counters.reached_swap_limit =
                        matches!(total, [Some(peak), Some(limit)] if was_reached(peak, limit));
                }
            }
            Controller::Pids => {
                counters.pids = group.number("pids.current")?;
                counters.peak_pids = group.number("pids.peak")?;
                counters.pids_denied =
                    group.read("pids.events", &mut buffer)?.and_then(|text| keyed(text, "max"));
            }
            Controller::CpuAcct => {
                counters.cpu = group.number("cpuacct.usage")?.map(Duration::from_nanos);
                counters.user = group.number("cpuacct.usage_user")?.map(Duration::from_nanos);
                counters.system = group.number("cpuacct.usage_sys")?.map(Duration::from_nanos);
            }
            Controller::Cpu => {
                let throttled =
                    group.read("cpu.stat", &mut buffer)?.and_then(|text| keyed(text, "throttled_time"));
                counters.throttled = throttled.map(Duration::from_nanos);
            }
            Controller::Cpuset
            | Controller::Io
            | Controller::Hugetlb
            | Controller::Devices
            | Controller::Freezer
            | Controller::Pressure => {}
        }
    }
    Ok(())
}

/// Whether a charge can have failed at this limit. What it failed by is in no peak, and one that ends in a kill is of
/// eight pages at most (`PAGE_ALLOC_COSTLY_ORDER`): the kernel's own memory comes in more than one.
fn was_reached(peak: u64, limit: u64) -> bool {
    peak.saturating_add(8 * page_size()) > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Bytes, CpuMax};
    use crate::{BlockDevice, CpuSet, DeviceRules, IoMax};

    fn written(limits: &Limits) -> Vec<(Cow<'static, str>, String)> {
        let settings = settings(limits, &Controller::ALL).expect("version 1 can express it");
        settings.into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    fn pairs<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<(Cow<'static, str>, String)> {
        pairs.into_iter().map(|(file, value)| (file.into(), value.to_owned())).collect()
    }

    #[test]
    fn every_limit_has_its_file() {
        let limits = Limits {
            memory_max: Some(64 << 20),
            swap_max: Some(16 << 20),
            pids_max: Some(20),
            cpu_max: Some(CpuMax::from_us(50_000, 100_000)),
            cpu_weight: Some(100),
            cpu_accounting: true,
            ..Limits::default()
        };
        assert_eq!(
            written(&limits),
            pairs([
                ("memory.limit_in_bytes", "67108864"),
                ("memory.memsw.limit_in_bytes", "83886080"),
                ("pids.max", "20"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.shares", "1024"),
            ])
        );
        assert_eq!(settings(&limits, &[Controller::Pids]).unwrap().len(), 1, "only what the hierarchy has");
        assert_eq!(written(&Limits::default()), []);
    }

    #[test]
    fn huge_values_are_no_limit() {
        let limits = Limits {
            memory_max: Some(u64::MAX),
            swap_max: Some(i64::MAX as u64),
            pids_max: Some(u64::MAX),
            cpu_max: Some(CpuMax::from_us(u64::MAX, 100_000)),
            ..Limits::default()
        };
        assert_eq!(
            written(&limits),
            pairs([
                ("memory.limit_in_bytes", "-1"),
                ("memory.memsw.limit_in_bytes", "-1"),
                ("pids.max", "max"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "-1"),
            ])
        );
        let sum = Limits { memory_max: Some(1 << 62), swap_max: Some(1 << 62), ..Limits::default() };
        assert_eq!(written(&sum)[1].1, "-1", "a sum beyond the kernel's counting is no limit");
    }

    /// Seen when the program that was killed had filled its memory with pipes.
    #[test]
    fn a_limit_that_was_missed_by_a_page_was_reached() {
        let page = page_size();
        assert!(was_reached(100 * page, 100 * page));
        assert!(was_reached(99 * page, 100 * page));
        assert!(was_reached(93 * page, 100 * page));
        assert!(!was_reached(92 * page, 100 * page), "eight more would have fitted");
        assert!(!was_reached(0, u64::MAX));
    }

    #[test]
    fn swap_alone_cannot_be_expressed() {
        for memory_max in [None, Some(u64::MAX)] {
            let limits = Limits { memory_max, swap_max: Some(0), ..Limits::default() };
            let error = settings(&limits, &[Controller::Memory]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some());
        }
        let unlimited = Limits { swap_max: Some(u64::MAX), ..Limits::default() };
        assert_eq!(written(&unlimited), pairs([(MEMSW, "-1")]));
    }

    #[test]
    fn weights_keep_their_ratio() {
        for (weight, expected) in
            [(1, 10), (50, 512), (100, 1024), (200, 2048), (1000, 10_240), (10_000, 102_400)]
        {
            assert_eq!(shares(weight), expected, "weight {weight}");
        }
        assert_eq!(shares(0), 2);
        assert_eq!(shares(u32::MAX), 262_144);
    }

    #[test]
    fn the_other_controllers_have_their_files() {
        let limits = Limits::new()
            .memory_soft(Bytes::mib(1))
            .swappiness(10)
            .cpu_rt(CpuMax::from_us(1000, 2000))
            .cpuset_cpus(CpuSet::from_iter([0, 1]))
            .hugetlb_max(Bytes::mib(2), Bytes::mib(4))
            .devices(DeviceRules::none().allow_char(1, 3, crate::DeviceAccess::READ))
            .io_weight(200);
        assert_eq!(
            written(&limits),
            pairs([
                ("memory.soft_limit_in_bytes", "1048576"),
                ("memory.swappiness", "10"),
                ("cpu.rt_period_us", "2000"),
                ("cpu.rt_runtime_us", "1000"),
                ("cpuset.cpus", "0-1"),
                ("blkio.bfq.weight", "200"),
                ("hugetlb.2MB.limit_in_bytes", "4194304"),
                ("devices.deny", "a"),
                ("devices.allow", "c 1:3 r"),
            ])
        );
    }

    #[test]
    fn what_version_2_alone_has_is_named() {
        for (limits, words) in [
            (Limits::new().memory_high(1), ["memory_high", "memory"]),
            (Limits::new().memory_low(1), ["memory_low", "memory"]),
            (Limits::new().memory_min(1), ["memory_min", "memory"]),
            (Limits::new().oom_group(), ["oom_group", "memory"]),
            (Limits::new().io_weight(2000), ["io weight", "blkio"]),
        ] {
            let error = settings(&limits, &Controller::ALL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)) && text.contains("version 1"), "{text}");
            assert!(error.hint().is_some());
        }
        let nowhere = Limits::new().io_max(BlockDevice::at("/proc"), IoMax::new().read(1));
        assert!(settings(&nowhere, &[Controller::Io]).is_err());
    }
}
