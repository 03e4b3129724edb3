//! What values of limits mean to the kernel.

use nix::unistd::{SysconfVar, sysconf};

use crate::limits::{Bytes, CpuMax};

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

/// The quota in microseconds; `None` if no machine has so many processors. The kernel refuses quotas beyond its own
/// counting.
pub(super) fn bounded_quota(max: CpuMax) -> Option<u64> {
    const PROCESSORS: u64 = 1 << 16;
    (max.quota_us() / PROCESSORS < max.period_us()).then_some(max.quota_us())
}

/// Bytes in a page, to whole ones of which the kernel rounds limits down.
pub(super) fn page_size() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// How the hugetlb controller of either version spells a page size in the names of its files.
pub(super) fn page_size_name(size: Bytes) -> String {
    match size.get() {
        bytes if bytes >= 1 << 30 => format!("{}GB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{}MB", bytes >> 20),
        bytes => format!("{}KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_starts_where_the_kernel_cannot_count_further() {
        assert_eq!(bounded(i64::MAX as u64), None);
        assert_eq!(bounded(u64::MAX), None);
        assert_eq!(bounded(1 << 62), Some(1 << 62));
        assert_eq!(bounded_pids(1 << 22), Some(1 << 22));
        assert_eq!(bounded_pids((1 << 22) + 1), None);
        assert_eq!(bounded_quota(CpuMax::from_us(65_535_999, 1_000)), Some(65_535_999));
        assert_eq!(bounded_quota(CpuMax::from_us(u64::MAX, 1_000_000)), None);
    }
}
