//! How the kernel shares the processors and the disk with a program: the vocabulary, and what each word needs.
//!
//! ```text
//! Scheduling ── check ──▶ numbers in range, processors that exist
//!            ── lower ──▶ what the program's process may do to itself: operations
//!                     └─▶ what only the host may do: steps of the gate
//! ```

mod lower;

pub(crate) use lower::{Power, lower, own_processors};

use crate::cgroup::CpuSet;
use crate::error::{Error, Result};

/// The policy by which the kernel shares the processors, as [sched(7)] describes it.
///
/// Children inherit it. The first three give way to everything that is real-time; the last two run before everything
/// that is not, until they sleep: a program that loops under one of them takes its processor, and the kernel leaves
/// the others there what `kernel.sched_rt_runtime_us` says (5 % by default). The sandbox's own init is among those
/// others, so a time limit may be enforced late on a machine with one processor. Bound such a program with
/// [`Resource::Rttime`](crate::Resource::Rttime).
///
/// # Examples
///
/// ```
/// use belljar::{Sandbox, Scheduler};
///
/// // Takes what nobody else wants.
/// let background = Sandbox::new().scheduler(Scheduler::Idle);
/// # let _ = background;
/// ```
///
/// [sched(7)]: https://man7.org/linux/man-pages/man7/sched.7.html
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "sched_setscheduler")]
pub enum Scheduler {
    /// `SCHED_OTHER`: shared by [`nice`](crate::Sandbox::nice) value. The kernel's default, and what a program gets
    /// from an ordinary host anyway.
    Other,
    /// `SCHED_BATCH`: the same for a program that computes; it preempts others less.
    Batch,
    /// `SCHED_IDLE`: runs when nothing else wants to. The program cannot leave it.
    Idle,
    /// `SCHED_FIFO` with a priority from 1 to 99: runs until it sleeps, or one of a higher priority wants to. Needs
    /// `CAP_SYS_NICE`, or a host whose `RLIMIT_RTPRIO` is as high.
    Fifo(u32),
    /// `SCHED_RR` with a priority from 1 to 99: the same, but those of one priority take turns.
    RoundRobin(u32),
}

impl Scheduler {
    /// The kernel's number and the real-time priority (`<linux/sched.h>`).
    pub(crate) fn numbers(self) -> (u32, u32) {
        match self {
            Self::Other => (0, 0),
            Self::Fifo(priority) => (1, priority),
            Self::RoundRobin(priority) => (2, priority),
            Self::Batch => (3, 0),
            Self::Idle => (IDLE, 0),
        }
    }

    pub(crate) fn describe(self) -> String {
        match self {
            Self::Other => "SCHED_OTHER".to_owned(),
            Self::Batch => "SCHED_BATCH".to_owned(),
            Self::Idle => "SCHED_IDLE".to_owned(),
            Self::Fifo(priority) => format!("SCHED_FIFO with priority {priority}"),
            Self::RoundRobin(priority) => format!("SCHED_RR with priority {priority}"),
        }
    }
}

/// `SCHED_IDLE`.
const IDLE: u32 = 5;

/// How the kernel orders a program's requests to a disk among those of others, as [ioprio_set(2)] describes it.
///
/// It counts where the disk's I/O scheduler looks at it (bfq, and in part mq-deadline); the others ignore it. Levels
/// go from 0, the first, to 7, the last. Children inherit it.
///
/// # Examples
///
/// ```
/// use belljar::{IoPriority, Sandbox};
///
/// let polite = Sandbox::new().io_priority(IoPriority::BestEffort(7));
/// # let _ = polite;
/// ```
///
/// [ioprio_set(2)]: https://man7.org/linux/man-pages/man2/ioprio_set.2.html
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias = "ionice")]
pub enum IoPriority {
    /// `IOPRIO_CLASS_RT`: before all others. Needs `CAP_SYS_NICE`, and on older kernels `CAP_SYS_ADMIN` too.
    RealTime(u32),
    /// `IOPRIO_CLASS_BE`: the class of every process that was given none, whose level then follows from its nice
    /// value (4 for 0).
    BestEffort(u32),
    /// `IOPRIO_CLASS_IDLE`: when nobody else uses the disk.
    Idle,
}

impl IoPriority {
    /// `IOPRIO_PRIO_VALUE` of `<linux/ioprio.h>`: the class above the level.
    pub(crate) fn packed(self) -> u32 {
        let (class, level) = match self {
            Self::RealTime(level) => (1, level),
            Self::BestEffort(level) => (2, level),
            Self::Idle => (3, 0),
        };
        class << 13 | level
    }

    pub(crate) fn describe(self) -> String {
        match self {
            Self::RealTime(level) => format!("real-time, level {level}"),
            Self::BestEffort(level) => format!("best effort, level {level}"),
            Self::Idle => "idle".to_owned(),
        }
    }
}

/// Everything of a policy that this module lowers. `None` leaves a program what its host has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scheduling {
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) nice: Option<i32>,
    pub(crate) io: Option<IoPriority>,
    pub(crate) processors: Option<CpuSet>,
}

impl Scheduling {
    pub(crate) fn is_empty(&self) -> bool {
        self.scheduler.is_none() && self.nice.is_none() && self.io.is_none() && self.processors.is_none()
    }

    /// Checks what no host can take.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(Scheduler::Fifo(priority) | Scheduler::RoundRobin(priority)) = self.scheduler {
            if !(1..=99).contains(&priority) {
                return Err(Error::invalid(format!("{priority} is no real-time priority"))
                    .with_hint("sched(7): they go from 1, the lowest, to 99"));
            }
        }
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Err(Error::invalid(format!("{nice} is no nice value"))
                .with_hint("setpriority(2): they go from -20, which gets most, to 19"));
        }
        if let Some(IoPriority::RealTime(level) | IoPriority::BestEffort(level)) = self.io {
            if level > 7 {
                return Err(Error::invalid(format!("{level} is no level of an I/O priority"))
                    .with_hint("ioprio_set(2): they go from 0, the first, to 7"));
            }
        }
        if self.processors.as_ref().is_some_and(CpuSet::is_empty) {
            return Err(Error::invalid("a program that may use no processor cannot run")
                .with_hint("name at least one in cpu_affinity()"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let number = |scheduler: Scheduler| i32::try_from(scheduler.numbers().0).unwrap();
        assert_eq!(number(Scheduler::Other), libc::SCHED_OTHER);
        assert_eq!(number(Scheduler::Batch), libc::SCHED_BATCH);
        assert_eq!(number(Scheduler::Idle), libc::SCHED_IDLE);
        assert_eq!(number(Scheduler::Fifo(1)), libc::SCHED_FIFO);
        assert_eq!(number(Scheduler::RoundRobin(1)), libc::SCHED_RR);
        assert_eq!(IoPriority::BestEffort(4).packed(), 0x4004);
        assert_eq!(IoPriority::Idle.packed(), 0x6000);
        assert_eq!(IoPriority::RealTime(7).packed(), 0x2007);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let wrong = [
            Scheduling { scheduler: Some(Scheduler::Fifo(0)), ..Scheduling::default() },
            Scheduling { scheduler: Some(Scheduler::RoundRobin(100)), ..Scheduling::default() },
            Scheduling { nice: Some(20), ..Scheduling::default() },
            Scheduling { nice: Some(i32::MIN), ..Scheduling::default() },
            Scheduling { io: Some(IoPriority::BestEffort(8)), ..Scheduling::default() },
            Scheduling { processors: Some(CpuSet::default()), ..Scheduling::default() },
        ];
        for scheduling in wrong {
            let error = scheduling.check().unwrap_err();
            assert!(error.hint().is_some(), "{error}");
        }
        assert!(Scheduling::default().check().is_ok());
    }
}
