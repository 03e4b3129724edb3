//! Version 1: one hierarchy per controller, limits in files of their own.
//! See the kernel's Documentation/admin-guide/cgroup-v1.

use std::time::Duration;

use super::counters::{Counters, keyed};
use super::group::{Group, Setting, Verify};
use super::layout::Controller;
use super::limits::{CpuMax, Limits, bounded, bounded_pids};
use super::missing;
use crate::error::{Error, ErrorKind, Result, Step};

/// Total of memory and swap; there is no file for swap alone.
pub(super) const MEMSW: &str = "memory.memsw.limit_in_bytes";

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
            Controller::CpuAcct => {}
        }
    }
    Ok(settings)
}

fn memory(limits: &Limits, settings: &mut Vec<Setting>) -> Result<()> {
    let memory_max = limits.memory_max.and_then(bounded);
    if limits.memory_max.is_some() {
        settings.push(setting("memory.limit_in_bytes", number(memory_max), Verify::Bytes(memory_max)));
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
    if let Some(CpuMax { quota_us, period_us }) = limits.cpu_max {
        settings.push(setting("cpu.cfs_period_us", period_us.to_string(), Verify::No));
        settings.push(setting("cpu.cfs_quota_us", number(bounded(quota_us)), Verify::No));
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

fn setting(file: &'static str, value: String, verify: Verify) -> Setting {
    Setting { file, value, verify, absent: missing::KERNEL }
}

/// Adds what one group has counted.
pub(super) fn count(group: &Group, counters: &mut Counters) -> Result<()> {
    let mut buffer = [0; 4096];
    for controller in &group.parent().controllers {
        match controller {
            Controller::Memory => {
                counters.peak_memory = group.number("memory.max_usage_in_bytes")?;
                // The line is there since Linux 4.13.
                counters.oom_kills =
                    group.read("memory.oom_control", &mut buffer)?.and_then(|text| keyed(text, "oom_kill"));
            }
            Controller::Pids => {
                counters.peak_pids = group.number("pids.peak")?;
                counters.pids_denied =
                    group.read("pids.events", &mut buffer)?.and_then(|text| keyed(text, "max"));
            }
            Controller::Cpu => {}
            Controller::CpuAcct => {
                counters.cpu = group.number("cpuacct.usage")?.map(Duration::from_nanos);
                counters.user = group.number("cpuacct.usage_user")?.map(Duration::from_nanos);
                counters.system = group.number("cpuacct.usage_sys")?.map(Duration::from_nanos);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits) -> Vec<(&'static str, String)> {
        let settings = settings(limits, &Controller::ALL).expect("version 1 can express it");
        settings.into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    fn pairs<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
        pairs.into_iter().map(|(file, value)| (file, value.to_owned())).collect()
    }

    #[test]
    fn every_limit_has_its_file() {
        let limits = Limits {
            memory_max: Some(64 << 20),
            swap_max: Some(16 << 20),
            pids_max: Some(20),
            cpu_max: Some(CpuMax { quota_us: 50_000, period_us: 100_000 }),
            cpu_weight: Some(100),
            cpu_accounting: true,
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
            cpu_max: Some(CpuMax { quota_us: u64::MAX, period_us: 100_000 }),
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
}
