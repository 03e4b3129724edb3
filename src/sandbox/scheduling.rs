//! The setters of how the program shares processors and disks.

use super::Sandbox;
use crate::cgroup::CpuSet;
use crate::scheduling::{IoPriority, Scheduler};

impl Sandbox {
    /// The policy by which the kernel shares the processors with the program, by
    /// [sched_setscheduler(2)](https://man7.org/linux/man-pages/man2/sched_setscheduler.2.html). Without this call a
    /// program has the policy of the thread that spawns it.
    ///
    /// [`Fifo`](Scheduler::Fifo) and [`RoundRobin`](Scheduler::RoundRobin) are set by the host, while the program's
    /// process waits in the sandbox and before it gives up its ids. The program can lower its priority and leave such
    /// a policy; it cannot raise anything again, because its limits `RLIMIT_RTPRIO` and `RLIMIT_NICE` are 0 unless
    /// [`rlimit`](Sandbox::rlimit) says otherwise.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a priority that is not 1 to
    /// 99, and [`PermissionDenied`](crate::ErrorKind::PermissionDenied) where `CAP_SYS_NICE` is needed and lacking,
    /// unless [`Feature::Scheduling`](crate::Feature::Scheduling) is best effort. A spawn says
    /// [`Step::Scheduling`](crate::Step::Scheduling) where the kernel refuses: with `CONFIG_RT_GROUP_SCHED` a
    /// version 1 `cpu` cgroup has no real-time processor time until somebody writes some to `cpu.rt_runtime_us`.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Sandbox, Scheduler};
    ///
    /// let measured = Sandbox::new().scheduler(Scheduler::Fifo(10));
    /// # let _ = measured;
    /// ```
    pub fn scheduler(mut self, scheduler: Scheduler) -> Self {
        self.scheduling.scheduler = Some(scheduler);
        self
    }

    /// The program's nice value, from -20, which gets most of the processor, to 19, by
    /// [setpriority(2)](https://man7.org/linux/man-pages/man2/setpriority.2.html). Without this call it is the host's.
    /// It counts among the programs that share a cgroup with the `cpu` controller, and where
    /// `kernel.sched_autogroup_enabled` is on, within the program's session only: then
    /// [`cpu_weight`](Sandbox::cpu_weight) is what weighs a sandbox against others.
    ///
    /// A value below the host's own is set by the host, as for [`scheduler`](Sandbox::scheduler); it needs
    /// `CAP_SYS_NICE`, or a host whose `RLIMIT_NICE` allows it. The program can raise its value and not lower it again.
    ///
    /// # Errors
    ///
    /// As [`scheduler`](Sandbox::scheduler); a value that is not -20 to 19 is
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let polite = Sandbox::new().nice(10);
    /// # let _ = polite;
    /// ```
    pub fn nice(mut self, nice: i32) -> Self {
        self.scheduling.nice = Some(nice);
        self
    }

    /// The program's I/O priority, by
    /// [ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html), since Linux 2.6.13. Without this call
    /// it follows from its nice value.
    ///
    /// [`RealTime`](IoPriority::RealTime) is set by the host, as for [`scheduler`](Sandbox::scheduler). The kernel
    /// lets every process choose among the other classes; the default filter takes `ioprio_set` away from a program
    /// whose sandbox has this call, unless [`Seccomp::allow`](crate::Seccomp::allow) names it.
    ///
    /// # Errors
    ///
    /// As [`scheduler`](Sandbox::scheduler); a level above 7 is
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{IoPriority, Sandbox};
    ///
    /// let last = Sandbox::new().io_priority(IoPriority::Idle);
    /// # let _ = last;
    /// ```
    pub fn io_priority(mut self, priority: IoPriority) -> Self {
        self.scheduling.io = Some(priority);
        self
    }

    /// The processors that the program may use, by number, by
    /// [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html). Without this call they
    /// are the host's. Calling it again replaces the set.
    ///
    /// The kernel lets every process widen its own list up to its cpuset; the default filter takes
    /// `sched_setaffinity` away from a program whose sandbox has this call, unless
    /// [`Seccomp::allow`](crate::Seccomp::allow) names it.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for an empty set and for a
    /// processor that is not online. A spawn says [`Step::Scheduling`](crate::Step::Scheduling) for one that the cpuset
    /// of the program lacks: the kernel would leave it out without a word.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let on_the_first = Sandbox::new().cpu_affinity([0]);
    /// # let _ = on_the_first;
    /// ```
    #[doc(alias = "taskset")]
    pub fn cpu_affinity(mut self, processors: impl Into<CpuSet>) -> Self {
        self.scheduling.processors = Some(processors.into());
        self
    }
}
