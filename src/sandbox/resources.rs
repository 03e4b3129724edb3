//! The setters of what the sandbox may use.

use std::time::Duration;

use super::Sandbox;
use crate::cgroup::{BlockDevice, CgroupParent, CpuSet, DeviceRules, IoMax, Limits};
use crate::limits::{Bytes, CpuMax, Resource};

/// # Limits
///
/// What the whole tree may use, by control groups; how long one program may run; and what each process may use.
impl Sandbox {
    /// Takes every limit that is set in `limits`; those that are not set there stay as they are.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Limits, Sandbox};
    ///
    /// let small = Limits::new().memory_max(Bytes::mib(64)).pids_max(16);
    /// let sandbox = Sandbox::new().limits(small).cpu_weight(50);
    /// # let _ = sandbox;
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "setters take their values")]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits.merge(&limits);
        self
    }

    /// The most memory the whole tree may use; beyond it the kernel kills. See [`Limits::memory_max`].
    pub fn memory_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.memory_max(bytes);
        self
    }

    /// The memory above which the tree is throttled (version 2). See [`Limits::memory_high`].
    pub fn memory_high(mut self, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.memory_high(bytes);
        self
    }

    /// Memory that is protected from reclaim while there is other (version 2), where the groups above are as well. See
    /// [`Limits::memory_low`].
    pub fn memory_low(mut self, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.memory_low(bytes);
        self
    }

    /// Memory that is never reclaimed (version 2), where the groups above are protected as well. See
    /// [`Limits::memory_min`].
    pub fn memory_min(mut self, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.memory_min(bytes);
        self
    }

    /// The most swap the whole tree may use; 0 for none. See [`Limits::swap_max`].
    pub fn swap_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.swap_max(bytes);
        self
    }

    /// Kills the whole tree, not one process, when it runs out of memory (version 2). See [`Limits::oom_group`].
    pub fn oom_group(mut self) -> Self {
        self.limits = self.limits.oom_group();
        self
    }

    /// The most processes and threads the tree may have at once. See [`Limits::pids_max`].
    pub fn pids_max(mut self, count: u64) -> Self {
        self.limits = self.limits.pids_max(count);
        self
    }

    /// How much CPU time the tree may use in each period. See [`Limits::cpu_max`].
    pub fn cpu_max(mut self, max: CpuMax) -> Self {
        self.limits = self.limits.cpu_max(max);
        self
    }

    /// The share of the CPU when it is contended, 1 to 10000, 100 being usual. See [`Limits::cpu_weight`].
    pub fn cpu_weight(mut self, weight: u32) -> Self {
        self.limits = self.limits.cpu_weight(weight);
        self
    }

    /// The processors that the tree may run on. See [`Limits::cpuset_cpus`].
    pub fn cpuset_cpus(mut self, cpus: impl Into<CpuSet>) -> Self {
        self.limits = self.limits.cpuset_cpus(cpus);
        self
    }

    /// How fast the tree may use a device. See [`Limits::io_max`].
    pub fn io_max(mut self, device: BlockDevice, max: IoMax) -> Self {
        self.limits = self.limits.io_max(device, max);
        self
    }

    /// The share of I/O when a device is contended. See [`Limits::io_weight`].
    pub fn io_weight(mut self, weight: u32) -> Self {
        self.limits = self.limits.io_weight(weight);
        self
    }

    /// The most huge pages of one size. See [`Limits::hugetlb_max`].
    pub fn hugetlb_max(mut self, page_size: impl Into<Bytes>, bytes: impl Into<Bytes>) -> Self {
        self.limits = self.limits.hugetlb_max(page_size, bytes);
        self
    }

    /// The devices that the tree may use. See [`Limits::devices`].
    pub fn devices(mut self, rules: DeviceRules) -> Self {
        self.limits = self.limits.devices(rules);
        self
    }

    /// Makes the sandbox one that can be frozen. See [`Limits::freezable`].
    pub fn freezable(mut self) -> Self {
        self.limits = self.limits.freezable();
        self
    }

    /// Has the kernel tell how much time the tree loses by waiting (version 2). See [`Limits::pressure`].
    pub fn pressure(mut self) -> Self {
        self.limits = self.limits.pressure();
        self
    }

    /// Where the sandbox's cgroup is made; below the caller's own by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{CgroupParent, Sandbox};
    ///
    /// // Below /sys/fs/cgroup/judge, or /sys/fs/cgroup/memory/judge and its likes, which an administrator has made.
    /// let sandbox = Sandbox::new().pids_max(16).cgroup_parent(CgroupParent::Path("judge".into()));
    /// # let _ = sandbox;
    /// ```
    pub fn cgroup_parent(mut self, parent: CgroupParent) -> Self {
        self.cgroup_parent = parent;
        self
    }

    /// The longest a program may run, on a clock that nobody can set. The init kills it then, whether the host waits
    /// or not.
    pub fn wall_time(mut self, limit: Duration) -> Self {
        self.wall_time = Some(limit);
        self
    }

    /// The most CPU time, user and system, of all processes together. Counted by the cgroup (v1 `cpuacct.usage`, v2
    /// `cpu.stat`) and enforced by the init to a few milliseconds.
    ///
    /// Where no cgroup can be had this is an error, unless [`best_effort`](Sandbox::best_effort) allows sampling the
    /// processes' clocks, which a program with many short-lived children can partly evade.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use belljar::{Feature, Sandbox};
    ///
    /// let exact = Sandbox::new().cpu_time(Duration::from_millis(500));
    /// let better_than_nothing = exact.clone().best_effort(Feature::CpuTime);
    /// # let _ = better_than_nothing;
    /// ```
    pub fn cpu_time(mut self, limit: Duration) -> Self {
        self.cpu_time = Some(limit);
        self
    }

    /// The longest the tree may do nothing: use less than a millisecond of CPU time. For interactive programs, whose wall
    /// time is not theirs alone. The verdict is [`IdleExceeded`](crate::Verdict::IdleExceeded).
    ///
    /// A program that could run and is not let counts as idle, too: one that is starved by others, stopped, or held back by
    /// a quota of a cgroup above or one that [`update`](crate::Container::update) has brought. Its own
    /// [`cpu_max`](Sandbox::cpu_max) is reckoned with: the idle time must be two periods of it or longer, and with a quota
    /// below 11 ms, of which the scheduler may give several in advance, one period and as many as make up 11 ms.
    ///
    /// It needs what [`cpu_time`](Sandbox::cpu_time) needs.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for an idle time that is shorter
    /// than what `cpu_max` may hold a busy program back.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use belljar::Sandbox;
    ///
    /// let sandbox = Sandbox::new().wall_time(Duration::from_secs(60)).idle_time(Duration::from_secs(3));
    /// # let _ = sandbox;
    /// ```
    pub fn idle_time(mut self, limit: Duration) -> Self {
        self.idle_time = Some(limit);
        self
    }

    /// Kills for [`cpu_time`](Sandbox::cpu_time) and [`wall_time`](Sandbox::wall_time) only so much later, so that the time
    /// in [`Usage`](crate::Usage) can exceed the limit and show by how much. The verdicts stay those of the limits.
    pub fn extra_time(mut self, grace: Duration) -> Self {
        self.extra_time = grace;
        self
    }

    /// The most bytes that captured stdout and stderr may have together; beyond it the program is killed. Each
    /// [`Stdio::capture`](crate::Stdio::capture) has a budget of its own besides.
    pub fn output_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.output_max = Some(bytes.into());
        self
    }

    /// A per-process limit of `setrlimit(2)`; `u64::MAX` for no limit. The soft limit must not exceed the hard one; to
    /// raise a hard one above the host's own, the host needs `CAP_SYS_RESOURCE`. By default core dumps are off and all
    /// else is the host's.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Resource, Sandbox};
    ///
    /// let sandbox = Sandbox::new()
    ///     .rlimit(Resource::Nofile, 64, 64)
    ///     .rlimit(Resource::Stack, 8 << 20, u64::MAX);
    /// # let _ = sandbox;
    /// ```
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.rlimits.retain(|(set, _, _)| *set != resource);
        self.rlimits.push((resource, soft, hard));
        self
    }
}
