//! Version 2: one hierarchy for all controllers. See the kernel's Documentation/admin-guide/cgroup-v2.rst.

use super::counters::{Counters, cpu_stat, keyed};
use super::group::{Group, Setting, Verify};
use super::layout::Controller;
use super::limits::{CpuMax, Limits, bounded, bounded_pids};
use super::missing;
use crate::error::Result;

/// The files to write for the controllers that the group was made for, in order.
///
/// `memory.oom.group` stays 0: a child that runs out of memory is killed alone, and the verdict is the main process's.
pub(super) fn settings(limits: &Limits, controllers: &[Controller]) -> Vec<Setting> {
    let mut settings = Vec::new();
    for controller in controllers {
        match controller {
            Controller::Memory => {
                if let Some(max) = limits.memory_max.map(bounded) {
                    settings.push(setting("memory.max", number(max), Verify::Bytes(max)));
                }
                if let Some(max) = limits.swap_max.map(bounded) {
                    let swap = setting("memory.swap.max", number(max), Verify::Bytes(max));
                    settings.push(Setting { absent: missing::SWAPACCOUNT, ..swap });
                }
            }
            Controller::Pids => {
                if let Some(max) = limits.pids_max.map(bounded_pids) {
                    settings.push(setting("pids.max", number(max), Verify::Count(max)));
                }
            }
            Controller::Cpu => {
                if let Some(CpuMax { quota_us, period_us }) = limits.cpu_max {
                    let value = format!("{} {period_us}", number(bounded(quota_us)));
                    settings.push(setting("cpu.max", value, Verify::No));
                }
                if let Some(weight) = limits.cpu_weight {
                    settings.push(setting("cpu.weight", weight.to_string(), Verify::No));
                }
            }
            Controller::CpuAcct => {}
        }
    }
    settings
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

fn setting(file: &'static str, value: String, verify: Verify) -> Setting {
    Setting { file, value, verify, absent: missing::KERNEL }
}

/// Adds what the group has counted.
pub(super) fn count(group: &Group, counters: &mut Counters) -> Result<()> {
    let mut buffer = [0; 4096];
    for controller in &group.parent().controllers {
        match controller {
            Controller::Memory => {
                // Since Linux 5.19.
                counters.peak_memory = group.number("memory.peak")?;
                counters.oom_kills =
                    group.read("memory.events", &mut buffer)?.and_then(|text| keyed(text, "oom_kill"));
            }
            Controller::Pids => {
                // Since Linux 6.1.
                counters.peak_pids = group.number("pids.peak")?;
                counters.pids_denied =
                    group.read("pids.events", &mut buffer)?.and_then(|text| keyed(text, "max"));
            }
            Controller::Cpu | Controller::CpuAcct => {}
        }
    }
    // Every version 2 cgroup has it, whatever its controllers.
    if let Some(text) = group.read("cpu.stat", &mut buffer)? {
        (counters.cpu, counters.user, counters.system) = cpu_stat(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits) -> Vec<(&'static str, String)> {
        settings(limits, &Controller::ALL).into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    #[test]
    fn every_limit_has_its_file() {
        let limits = Limits {
            memory_max: Some(64 << 20),
            swap_max: Some(0),
            pids_max: Some(20),
            cpu_max: Some(CpuMax { quota_us: 50_000, period_us: 100_000 }),
            cpu_weight: Some(250),
            cpu_accounting: true,
        };
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("pids.max", "20"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "250"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file, value.to_owned())));
        assert_eq!(settings(&limits, &[Controller::CpuAcct]), []);
    }

    #[test]
    fn huge_values_are_no_limit() {
        let limits = Limits {
            memory_max: Some(u64::MAX),
            swap_max: Some(u64::MAX),
            pids_max: Some(5_000_000),
            cpu_max: Some(CpuMax { quota_us: i64::MAX as u64, period_us: 1_000_000 }),
            ..Limits::default()
        };
        let expected = [
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "max"),
            ("cpu.max", "max 1000000"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file, value.to_owned())));
    }

    #[test]
    fn swap_needs_no_memory_limit() {
        assert_eq!(
            written(&Limits { swap_max: Some(0), ..Limits::default() }),
            [("memory.swap.max", "0".to_owned())]
        );
    }
}
