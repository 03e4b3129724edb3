//! Sizes, rates and resource limits: the values that the setters of [`Sandbox`](crate::Sandbox) take.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
///
/// Setters take `impl Into<Bytes>`, so a plain `u64` works too. [`Bytes::MAX`] means "no limit".
///
/// # Examples
///
/// ```
/// use belljar::Bytes;
///
/// assert_eq!(Bytes::mib(256), Bytes::from(256 * 1024 * 1024));
/// assert_eq!(Bytes::mib(3).to_string(), "3 MiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// No limit.
    pub const MAX: Self = Self(u64::MAX);

    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes; saturates at [`Bytes::MAX`].
    #[must_use]
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// So many times 1024² bytes; saturates at [`Bytes::MAX`].
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// So many times 1024³ bytes; saturates at [`Bytes::MAX`].
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAX {
            return f.write_str("unlimited");
        }
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit && self.0 % unit == 0 {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// How much CPU time a sandbox may use in each period: the bandwidth limit of the `cpu` controller.
///
/// The kernel stops all processes of the sandbox when the quota of a period is used up, until the next period begins.
/// See `cpu.max` in the kernel's [cgroup v2 document](https://docs.kernel.org/admin-guide/cgroup-v2.html).
///
/// # Examples
///
/// ```
/// use belljar::CpuMax;
///
/// let half = CpuMax::cpus(0.5); // 50 ms of each 100 ms
/// assert_eq!(half.quota_us(), 50_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    quota_us: u64,
    period_us: u64,
}

impl CpuMax {
    /// So many processors' worth of time, with the usual period of 100 ms. What is not a positive number becomes a
    /// quota of 0, which [`Sandbox::plan`](crate::Sandbox::plan) refuses.
    #[must_use]
    pub fn cpus(cpus: f64) -> Self {
        let quota = (cpus * 100_000.0).round();
        // A float-to-integer cast saturates and turns NaN into 0, which is what the documentation promises.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Self { quota_us: quota as u64, period_us: 100_000 }
    }

    /// A quota in each period. The kernel takes periods from 1 ms to 1 s and quotas from 1 ms.
    #[must_use]
    pub fn new(quota: Duration, period: Duration) -> Self {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { quota_us: us(quota), period_us: us(period) }
    }

    #[cfg(test)]
    pub(crate) const fn from_us(quota_us: u64, period_us: u64) -> Self {
        Self { quota_us, period_us }
    }

    /// The quota in microseconds.
    #[must_use]
    pub fn quota_us(self) -> u64 {
        self.quota_us
    }

    /// The period in microseconds.
    #[must_use]
    pub fn period_us(self) -> u64 {
        self.period_us
    }
}

/// A resource that [`setrlimit(2)`](https://man7.org/linux/man-pages/man2/setrlimit.2.html) limits, per process.
///
/// These limits are extras: a program walks past a per-process limit by making processes. Limits of the whole tree are
/// [`memory_max`](crate::Sandbox::memory_max), [`pids_max`](crate::Sandbox::pids_max) and
/// [`cpu_time`](crate::Sandbox::cpu_time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: bytes of address space.
    As,
    /// `RLIMIT_CORE`: bytes of a core dump.
    Core,
    /// `RLIMIT_CPU`: seconds of CPU time.
    Cpu,
    /// `RLIMIT_DATA`: bytes of data segment, heap and private writable mappings.
    Data,
    /// `RLIMIT_FSIZE`: bytes of a file that is written.
    Fsize,
    /// `RLIMIT_LOCKS`: kept for old programs; Linux ignores it since 2.4.25.
    Locks,
    /// `RLIMIT_MEMLOCK`: bytes of locked memory.
    Memlock,
    /// `RLIMIT_MSGQUEUE`: bytes of POSIX message queues of the user.
    Msgqueue,
    /// `RLIMIT_NICE`: ceiling of the nice value, as 20 − nice.
    Nice,
    /// `RLIMIT_NOFILE`: one more than the highest descriptor number.
    Nofile,
    /// `RLIMIT_NPROC`: processes of the real user id.
    Nproc,
    /// `RLIMIT_RSS`: without effect since Linux 2.4.30.
    Rss,
    /// `RLIMIT_RTPRIO`: ceiling of the real-time priority.
    Rtprio,
    /// `RLIMIT_RTTIME`: microseconds of CPU time under real-time scheduling without blocking.
    Rttime,
    /// `RLIMIT_SIGPENDING`: queued signals of the real user id.
    Sigpending,
    /// `RLIMIT_STACK`: bytes of the main thread's stack.
    Stack,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// The name without `RLIMIT_`, in lower case, as `prlimit(1)` and `ulimit` documents use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }

    /// The resource of this [`name`](Resource::name), upper or lower case, with or without `RLIMIT_`.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Resource;
    ///
    /// assert_eq!(Resource::from_name("NOFILE"), Some(Resource::Nofile));
    /// assert_eq!(Resource::from_name("RLIMIT_STACK"), Some(Resource::Stack));
    /// assert_eq!(Resource::from_name("memory"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        Self::ALL.into_iter().find(|resource| resource.name() == bare)
    }

    /// The kernel's number; the same on x86-64 and AArch64.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Cpu => 0,
            Self::Fsize => 1,
            Self::Data => 2,
            Self::Stack => 3,
            Self::Core => 4,
            Self::Rss => 5,
            Self::Nproc => 6,
            Self::Nofile => 7,
            Self::Memlock => 8,
            Self::As => 9,
            Self::Locks => 10,
            Self::Sigpending => 11,
            Self::Msgqueue => 12,
            Self::Nice => 13,
            Self::Rtprio => 14,
            Self::Rttime => 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_saturate() {
        assert_eq!(Bytes::gib(u64::MAX), Bytes::MAX);
        assert_eq!(Bytes::MAX.to_string(), "unlimited");
        assert_eq!(Bytes::new(1500).to_string(), "1500 B");
    }

    #[test]
    fn odd_cpu_quotas_become_zero() {
        assert_eq!(CpuMax::cpus(-1.0).quota_us(), 0);
        assert_eq!(CpuMax::cpus(f64::NAN).quota_us(), 0);
        assert_eq!(CpuMax::cpus(f64::INFINITY).quota_us(), u64::MAX);
    }

    #[test]
    fn resource_numbers_are_the_kernels() {
        let expected = [
            (Resource::As, libc::RLIMIT_AS),
            (Resource::Core, libc::RLIMIT_CORE),
            (Resource::Cpu, libc::RLIMIT_CPU),
            (Resource::Data, libc::RLIMIT_DATA),
            (Resource::Fsize, libc::RLIMIT_FSIZE),
            (Resource::Memlock, libc::RLIMIT_MEMLOCK),
            (Resource::Nofile, libc::RLIMIT_NOFILE),
            (Resource::Nproc, libc::RLIMIT_NPROC),
            (Resource::Rttime, libc::RLIMIT_RTTIME),
            (Resource::Stack, libc::RLIMIT_STACK),
        ];
        for (resource, number) in expected {
            assert_eq!(resource.number(), number, "{resource:?}");
        }
        let mut numbers = Resource::ALL.map(Resource::number);
        numbers.sort_unstable();
        assert_eq!(numbers.to_vec(), (0..16).collect::<Vec<u32>>());
    }
}
