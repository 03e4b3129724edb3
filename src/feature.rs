//! What a sandbox enforces, as names, so that a caller can ask for "best effort" and see what was really enforced.

use std::fmt;

/// One protection or limit.
///
/// Every protection that was asked for is required: if it cannot be had, planning or spawning fails. Naming it in
/// [`Sandbox::best_effort`](crate::Sandbox::best_effort) allows the sandbox to run without it, and then
/// [`Outcome::enforced`](crate::Outcome::enforced) says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// A user namespace: ids inside are not ids outside.
    UserNs,
    /// A PID namespace: no process outside can be seen or signalled.
    PidNs,
    /// A mount namespace with a root of its own.
    MountNs,
    /// A network namespace with nothing but loopback.
    NetNs,
    /// An IPC namespace: System V and POSIX message queues, semaphores and shared memory.
    IpcNs,
    /// A UTS namespace: host name and domain name.
    UtsNs,
    /// A cgroup namespace: `/proc/self/cgroup` shows `/`.
    CgroupNs,
    /// A time namespace: offsets of the monotonic and boot-time clocks.
    TimeNs,
    /// The memory limit of the whole tree.
    MemoryMax,
    /// The mark above which memory is reclaimed and the tree throttled.
    MemoryHigh,
    /// Memory that is protected from reclaim while there is other.
    MemoryLow,
    /// Memory that is never reclaimed.
    MemoryMin,
    /// The mark to which memory is pushed back first.
    MemorySoft,
    /// How readily memory is swapped.
    Swappiness,
    /// Killing the whole tree when it runs out of memory.
    OomGroup,
    /// The swap limit of the whole tree.
    SwapMax,
    /// The limit on the number of processes and threads.
    PidsMax,
    /// The CPU bandwidth limit.
    CpuMax,
    /// The CPU weight.
    CpuWeight,
    /// The limit on real-time scheduling.
    CpuRt,
    /// The processors and memory nodes of the tree.
    Cpuset,
    /// Limits on I/O with single devices.
    IoMax,
    /// The I/O weight.
    IoWeight,
    /// Limits on huge pages.
    HugetlbMax,
    /// The rules about devices.
    Devices,
    /// Freezing.
    Freezer,
    /// Telling pressure.
    Pressure,
    /// The limit on the CPU time of the whole tree.
    CpuTime,
    /// The limit on wall-clock time.
    WallTime,
    /// The limit on doing nothing.
    IdleTime,
    /// The limit on captured output.
    Output,
    /// The seccomp filter.
    Seccomp,
    /// All capabilities dropped but the ones that were named.
    Capabilities,
    /// `no_new_privs`: setuid programs and file capabilities gain nothing.
    NoNewPrivs,
    /// Supplementary groups dropped.
    Groups,
    /// Every process of the sandbox is killed with it.
    TreeKill,
    /// Scheduling policy, nice value, I/O priority and processors.
    Scheduling,
    /// No other tenant on the sibling of a processor.
    CoreScheduling,
    /// What landlock denies: access to files, TCP, abstract sockets, signals.
    Landlock,
    /// The profile of AppArmor.
    AppArmor,
    /// The context of SELinux.
    SeLinux,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::UserNs,
        Self::PidNs,
        Self::MountNs,
        Self::NetNs,
        Self::IpcNs,
        Self::UtsNs,
        Self::CgroupNs,
        Self::TimeNs,
        Self::MemoryMax,
        Self::MemoryHigh,
        Self::MemoryLow,
        Self::MemoryMin,
        Self::MemorySoft,
        Self::Swappiness,
        Self::OomGroup,
        Self::SwapMax,
        Self::PidsMax,
        Self::CpuMax,
        Self::CpuWeight,
        Self::CpuRt,
        Self::Cpuset,
        Self::IoMax,
        Self::IoWeight,
        Self::HugetlbMax,
        Self::Devices,
        Self::Freezer,
        Self::Pressure,
        Self::CpuTime,
        Self::WallTime,
        Self::IdleTime,
        Self::Output,
        Self::Seccomp,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Groups,
        Self::TreeKill,
        Self::Scheduling,
        Self::CoreScheduling,
        Self::Landlock,
        Self::AppArmor,
        Self::SeLinux,
    ];

    /// All eight namespaces, for [`Sandbox::best_effort_all`](crate::Sandbox::best_effort_all).
    pub const NAMESPACES: [Self; 8] = [
        Self::UserNs,
        Self::PidNs,
        Self::MountNs,
        Self::NetNs,
        Self::IpcNs,
        Self::UtsNs,
        Self::CgroupNs,
        Self::TimeNs,
    ];

    /// The name, as the setters of [`Sandbox`](crate::Sandbox) spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNs => "user_ns",
            Self::PidNs => "pid_ns",
            Self::MountNs => "mount_ns",
            Self::NetNs => "net_ns",
            Self::IpcNs => "ipc_ns",
            Self::UtsNs => "uts_ns",
            Self::CgroupNs => "cgroup_ns",
            Self::TimeNs => "time_ns",
            Self::MemoryMax => "memory_max",
            Self::MemoryHigh => "memory_high",
            Self::MemoryLow => "memory_low",
            Self::MemoryMin => "memory_min",
            Self::MemorySoft => "memory_soft",
            Self::Swappiness => "swappiness",
            Self::OomGroup => "oom_group",
            Self::SwapMax => "swap_max",
            Self::PidsMax => "pids_max",
            Self::CpuMax => "cpu_max",
            Self::CpuWeight => "cpu_weight",
            Self::CpuRt => "cpu_rt",
            Self::Cpuset => "cpuset",
            Self::IoMax => "io_max",
            Self::IoWeight => "io_weight",
            Self::HugetlbMax => "hugetlb_max",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Pressure => "pressure",
            Self::CpuTime => "cpu_time",
            Self::WallTime => "wall_time",
            Self::IdleTime => "idle_time",
            Self::Output => "output",
            Self::Seccomp => "seccomp",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no_new_privs",
            Self::Groups => "groups",
            Self::TreeKill => "tree_kill",
            Self::Scheduling => "scheduling",
            Self::CoreScheduling => "core_scheduling",
            Self::Landlock => "landlock",
            Self::AppArmor => "apparmor",
            Self::SeLinux => "selinux",
        }
    }

    /// The feature of this [`name`](Feature::name).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Feature;
    ///
    /// assert_eq!(Feature::from_name("memory_max"), Some(Feature::MemoryMax));
    /// assert_eq!(Feature::from_name("memory"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A feature that is not enforced, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// The feature.
    pub feature: Feature,
    /// Why it could not be had on this host.
    pub reason: String,
}

/// What a sandbox enforced, and what it was allowed to skip and did.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Feature, Sandbox};
///
/// # fn main() -> belljar::Result<()> {
/// let sandbox = Sandbox::new().memory_max(64 << 20).best_effort(Feature::MemoryMax);
/// let outcome = sandbox.status(Command::new("/bin/true"))?;
/// if !outcome.enforced.contains(Feature::MemoryMax) {
///     eprintln!("ran without a memory limit: {}", outcome.enforced);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforced {
    active: Vec<Feature>,
    skipped: Vec<Skipped>,
}

impl Enforced {
    /// Whether the feature was in force.
    #[must_use]
    pub fn contains(&self, feature: Feature) -> bool {
        self.active.contains(&feature)
    }

    /// What was in force.
    pub fn active(&self) -> impl Iterator<Item = Feature> + '_ {
        self.active.iter().copied()
    }

    /// What was asked for (or belongs to every sandbox) and not in force.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    pub(crate) fn add(&mut self, feature: Feature) {
        if !self.contains(feature) {
            self.active.push(feature);
            self.active.sort_unstable();
        }
    }

    pub(crate) fn skip(&mut self, feature: Feature, reason: impl Into<String>) {
        self.skipped.push(Skipped { feature, reason: reason.into() });
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("enforced:")?;
        for feature in &self.active {
            write!(f, " {feature}")?;
        }
        for Skipped { feature, reason } in &self.skipped {
            write!(f, "; not {feature}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_round_trip() {
        for feature in Feature::ALL {
            assert_eq!(Feature::from_name(feature.name()), Some(feature));
        }
    }
}
