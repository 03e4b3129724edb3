//! What a box is asked to limit and to measure, in the kernel's own units.

use super::layout::Controller;
use crate::error::{Error, Result};

/// The limits of one box. `None` leaves the kernel's default, which is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory, page cache and kernel memory of the processes included.
    pub(crate) memory_max: Option<u64>,
    /// Bytes of swap, on top of the memory.
    pub(crate) swap_max: Option<u64>,
    /// Processes and threads.
    pub(crate) pids_max: Option<u64>,
    /// CPU time per period.
    pub(crate) cpu_max: Option<CpuMax>,
    /// Share of the CPU under contention, 1 to 10000; 100 is what everybody else has.
    pub(crate) cpu_weight: Option<u32>,
    /// Whether the CPU time of the box is measured.
    pub(crate) cpu_accounting: bool,
}

/// CPU bandwidth: so much time in every period, summed over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuMax {
    pub(crate) quota_us: u64,
    pub(crate) period_us: u64,
}

/// From here on a value means "no limit": the kernel counts pages in a signed long, so it cannot tell larger values
/// from `max`. The 64 KiB below `i64::MAX` are the rounding of the largest page size.
const UNLIMITED_FROM: u64 = (u64::MAX >> 1) - 0xffff;

/// `PID_MAX_LIMIT` of 64-bit kernels: no kernel has more pids, and `pids.max` refuses larger numbers with `EINVAL`.
const PID_MAX_LIMIT: u64 = 1 << 22;

/// `None` if the value is as good as no limit.
pub(super) fn bounded(value: u64) -> Option<u64> {
    (value < UNLIMITED_FROM).then_some(value)
}

/// `None` if no kernel could ever have so many processes.
pub(super) fn bounded_pids(value: u64) -> Option<u64> {
    (value <= PID_MAX_LIMIT).then_some(value)
}

impl Limits {
    /// The controllers it takes, in the order of [`Controller::ALL`].
    pub(crate) fn controllers(&self) -> impl Iterator<Item = Controller> + '_ {
        Controller::ALL.into_iter().filter(|controller| match controller {
            Controller::Memory => self.memory_max.is_some() || self.swap_max.is_some(),
            Controller::Pids => self.pids_max.is_some(),
            Controller::Cpu => self.cpu_max.is_some() || self.cpu_weight.is_some(),
            Controller::CpuAcct => self.cpu_accounting,
        })
    }

    /// Refuses values that no hierarchy can mean.
    pub(crate) fn validate(&self) -> Result<()> {
        // A box that may use nothing cannot even execute its program: that is a mistake, not a limit.
        if self.memory_max == Some(0) {
            return Err(Error::invalid("a memory limit of 0 bytes lets nothing run"));
        }
        if self.pids_max == Some(0) {
            return Err(Error::invalid("a limit of 0 processes lets nothing run"));
        }
        if let Some(weight) = self.cpu_weight.filter(|weight| !(1..=10_000).contains(weight)) {
            return Err(Error::invalid(format!("the cpu weight {weight} is not within 1 to 10000")));
        }
        let Some(CpuMax { quota_us, period_us }) = self.cpu_max else { return Ok(()) };
        if quota_us == 0 {
            return Err(Error::invalid("a cpu quota of 0 µs lets nothing run"));
        }
        // Both bounds are the scheduler's own (`max_cfs_quota_period`, `min_cfs_quota_period`): it answers EINVAL.
        if !(1_000..=1_000_000).contains(&period_us) {
            return Err(Error::invalid(format!(
                "the cpu period {period_us} µs is not within 1000 to 1000000"
            )));
        }
        if quota_us < 1_000 {
            return Err(Error::invalid(format!(
                "the cpu quota {quota_us} µs is less than 1000, the least there is"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(quota_us: u64, period_us: u64) -> Limits {
        Limits { cpu_max: Some(CpuMax { quota_us, period_us }), ..Limits::default() }
    }

    #[test]
    fn zero_and_out_of_range_are_refused() {
        for (limits, word) in [
            (Limits { memory_max: Some(0), ..Limits::default() }, "memory"),
            (Limits { pids_max: Some(0), ..Limits::default() }, "processes"),
            (Limits { cpu_weight: Some(0), ..Limits::default() }, "weight"),
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
    fn unlimited_starts_where_the_kernel_cannot_count_further() {
        assert_eq!(bounded(i64::MAX as u64), None);
        assert_eq!(bounded(u64::MAX), None);
        assert_eq!(bounded(1 << 62), Some(1 << 62));
        assert_eq!(bounded_pids(1 << 22), Some(1 << 22));
        assert_eq!(bounded_pids((1 << 22) + 1), None);
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
}
