//! Version 2: one hierarchy for all controllers. See the kernel's Documentation/admin-guide/cgroup-v2.rst.

use std::borrow::Cow;
use std::time::Duration;

use super::counters::{Counters, cpu_stat, io_stat, keyed};
use super::group::{Group, Setting, Verify};
use super::layout::Controller;
use super::limits::Limits;
use super::missing;
use super::value::{bounded, bounded_pids, bounded_quota, page_size_name};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::Feature;

/// The files to write for the controllers that the group was made for, in order.
///
/// `memory.oom.group` stays 0 unless it was asked for: a child that runs out of memory is killed alone, and the verdict is
/// the main process's.
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
                    settings.push(setting("pids.max", number(max), Verify::Count(max)));
                }
            }
            Controller::Cpu => {
                if limits.cpu_rt.is_some() {
                    return Err(inexpressible(Feature::CpuRt, Controller::Cpu));
                }
                if let Some(max) = limits.cpu_max {
                    let value = format!("{} {}", number(bounded_quota(max)), max.period_us());
                    settings.push(setting("cpu.max", value, Verify::No));
                }
                if let Some(weight) = limits.cpu_weight {
                    settings.push(setting("cpu.weight", weight.to_string(), Verify::No));
                }
            }
            Controller::Cpuset => {
                // What cannot be had is taken without an error, and then all that the cgroup above may use is in force.
                for (file, effective, set) in [
                    ("cpuset.cpus", "cpuset.cpus.effective", &limits.cpuset_cpus),
                    ("cpuset.mems", "cpuset.mems.effective", &limits.cpuset_mems),
                ] {
                    if let Some(set) = set {
                        settings.push(setting(file, set.to_string(), Verify::List(effective, set.clone())));
                    }
                }
            }
            Controller::Io => {
                for (device, max) in &limits.io_max {
                    let parts = max.parts().map(|(key, _, value)| format!(" {key}={}", number(value)));
                    let value = format!("{}{}", device.number()?, parts.collect::<String>());
                    settings
                        .push(Setting { absent: missing::THROTTLE, ..setting("io.max", value, Verify::No) });
                }
                if let Some(weight) = limits.io_weight {
                    let weight = setting("io.weight", format!("default {weight}"), Verify::No);
                    settings.push(Setting { absent: missing::IO_WEIGHT, ..weight });
                }
            }
            Controller::Hugetlb => {
                for (page_size, bytes) in &limits.hugetlb_max {
                    let file = format!("hugetlb.{}.max", page_size_name(*page_size));
                    settings.push(Setting {
                        absent: missing::PAGE_SIZE,
                        ..setting(file, number(bounded(*bytes)), Verify::No)
                    });
                }
            }
            // A program, which no file takes.
            Controller::Devices => {}
            Controller::Freezer | Controller::Pressure | Controller::CpuAcct => {}
        }
    }
    Ok(settings)
}

fn memory(limits: &Limits, settings: &mut Vec<Setting>) -> Result<()> {
    for (feature, set) in [
        (Feature::MemorySoft, limits.memory_soft.is_some()),
        (Feature::Swappiness, limits.swappiness.is_some()),
    ] {
        if set {
            return Err(inexpressible(feature, Controller::Memory));
        }
    }
    for (file, value) in [
        ("memory.max", limits.memory_max),
        ("memory.high", limits.memory_high),
        ("memory.low", limits.memory_low),
        ("memory.min", limits.memory_min),
    ] {
        if let Some(bytes) = value.map(bounded) {
            settings.push(setting(file, number(bytes), Verify::Bytes(bytes)));
        }
    }
    if let Some(max) = limits.swap_max.map(bounded) {
        let swap = setting("memory.swap.max", number(max), Verify::Bytes(max));
        settings.push(Setting { absent: missing::SWAPACCOUNT, ..swap });
    }
    if limits.oom_group {
        settings.push(setting("memory.oom.group", "1".to_owned(), Verify::Count(Some(1))));
    }
    Ok(())
}

/// The error for a limit that only version 1 has.
fn inexpressible(limit: Feature, controller: Controller) -> Error {
    let controller = controller.name();
    let message = format!("{limit} cannot be expressed by the version 2 {controller} controller");
    let hint = match limit {
        Feature::MemorySoft => {
            "use memory_low, which protects from reclaim, or memory_high, which reclaims early"
        }
        Feature::CpuRt => "version 2 has no real-time groups: limit RLIMIT_RTTIME instead",
        _ => "version 2 leaves it to the whole machine: see vm.swappiness",
    };
    Error::message(ErrorKind::Unsupported, Step::Cgroup, message).with_hint(hint)
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

fn setting(file: impl Into<Cow<'static, str>>, value: String, verify: Verify) -> Setting {
    Setting { file: file.into(), value, verify, absent: missing::KERNEL }
}

/// Adds what the group has counted.
pub(super) fn count(group: &Group, counters: &mut Counters) -> Result<()> {
    let mut buffer = [0; 4096];
    for controller in &group.parent().controllers {
        match controller {
            Controller::Memory => {
                counters.memory = group.number("memory.current")?;
                // Since Linux 5.19.
                counters.peak_memory = group.number("memory.peak")?;
                if let Some(text) = group.read("memory.events", &mut buffer)? {
                    counters.oom_kills = keyed(text, "oom_kill");
                    counters.oom = keyed(text, "oom");
                }
            }
            Controller::Pids => {
                // Since Linux 6.1.
                counters.pids = group.number("pids.current")?;
                counters.peak_pids = group.number("pids.peak")?;
                counters.pids_denied =
                    group.read("pids.events", &mut buffer)?.and_then(|text| keyed(text, "max"));
            }
            Controller::Io => {
                if let Some(text) = group.read_all("io.stat")? {
                    (counters.read_bytes, counters.written_bytes) = io_stat(&text);
                }
            }
            Controller::Cpu
            | Controller::Cpuset
            | Controller::Hugetlb
            | Controller::Devices
            | Controller::Freezer
            | Controller::Pressure
            | Controller::CpuAcct => {}
        }
    }
    // Every version 2 cgroup has it, whatever its controllers.
    if let Some(text) = group.read("cpu.stat", &mut buffer)? {
        (counters.cpu, counters.user, counters.system) = cpu_stat(text);
        counters.throttled = keyed(text, "throttled_usec").map(Duration::from_micros);
    }
    Ok(())
}

/// Puts what only these groups have run into, without the groups in them, in the place of what was counted with those.
pub(super) fn count_own<'a>(
    groups: impl Iterator<Item = &'a Group> + Clone,
    counters: &mut Counters,
) -> Result<()> {
    let mut buffer = [0; 4096];
    // A group has these files once its controller is passed on to it. Before Linux 6.11 there was one file of the pids
    // controller, about the group alone.
    let mut sum = |names: &[&str], key| {
        let mut sum = None;
        for group in groups.clone() {
            for name in names {
                if let Some(text) = group.read(name, &mut buffer)? {
                    sum = keyed(text, key).map(|count| count + sum.unwrap_or(0)).or(sum);
                    break;
                }
            }
        }
        Ok::<_, Error>(sum)
    };
    if counters.oom_kills.is_some() {
        counters.oom_kills = sum(&["memory.events.local"], "oom_kill")?;
        counters.oom = sum(&["memory.events.local"], "oom")?;
    }
    if counters.pids_denied.is_some() {
        counters.pids_denied = sum(&["pids.events.local", "pids.events"], "max")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceRules;
    use crate::limits::{Bytes, CpuMax};

    fn written(limits: &Limits) -> Vec<(Cow<'static, str>, String)> {
        let settings = settings(limits, &Controller::ALL).expect("version 2 can express it");
        settings.into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    #[test]
    fn every_limit_has_its_file() {
        let limits = Limits {
            memory_max: Some(64 << 20),
            swap_max: Some(0),
            pids_max: Some(20),
            cpu_max: Some(CpuMax::from_us(50_000, 100_000)),
            cpu_weight: Some(250),
            cpu_accounting: true,
            ..Limits::default()
        };
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("pids.max", "20"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "250"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file.into(), value.to_owned())));
        assert_eq!(settings(&limits, &[Controller::CpuAcct]).unwrap(), []);
    }

    #[test]
    fn huge_values_are_no_limit() {
        let limits = Limits {
            memory_max: Some(u64::MAX),
            swap_max: Some(u64::MAX),
            pids_max: Some(5_000_000),
            cpu_max: Some(CpuMax::from_us(i64::MAX as u64, 1_000_000)),
            ..Limits::default()
        };
        let expected = [
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "max"),
            ("cpu.max", "max 1000000"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file.into(), value.to_owned())));
    }

    #[test]
    fn swap_needs_no_memory_limit() {
        assert_eq!(
            written(&Limits { swap_max: Some(0), ..Limits::default() }),
            [("memory.swap.max".into(), "0".to_owned())]
        );
    }

    #[test]
    fn the_other_controllers_have_their_files() {
        let limits = Limits::new()
            .memory_high(Bytes::mib(3))
            .memory_low(Bytes::mib(2))
            .memory_min(Bytes::mib(1))
            .oom_group()
            .cpuset_cpus([1, 2, 3, 7])
            .io_weight(50)
            .hugetlb_max(Bytes::gib(1), u64::MAX)
            .devices(DeviceRules::minimal());
        let expected = [
            ("memory.high", "3145728"),
            ("memory.low", "2097152"),
            ("memory.min", "1048576"),
            ("memory.oom.group", "1"),
            ("cpuset.cpus", "1-3,7"),
            ("io.weight", "default 50"),
            ("hugetlb.1GB.max", "max"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file.into(), value.to_owned())));
    }

    #[test]
    fn what_version_1_alone_has_is_named() {
        for (limits, word) in [
            (Limits::new().memory_soft(1), "memory_soft"),
            (Limits::new().swappiness(1), "swappiness"),
            (Limits::new().cpu_rt(CpuMax::from_us(1, 2)), "cpu_rt"),
        ] {
            let error = settings(&limits, &Controller::ALL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(text.contains(word) && text.contains("version 2"), "{text}");
            assert!(error.hint().is_some());
        }
    }
}
