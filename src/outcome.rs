//! What the program did: the verdict, from evidence of the kernel, and what it used.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::cgroup::{Counters, Oom, OomScope};
use crate::feature::Enforced;
use crate::seccomp::Syscall;

/// How a program ended and what it used. Never a failure of the setup: that is an [`Error`](crate::Error).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The wait status of the main process, as `waitpid(2)` gives it: its own exit code or signal, whoever sent it.
    pub status: ExitStatus,
    /// What it means, by the precedence that [`Verdict`] documents.
    pub verdict: Verdict,
    /// What was used.
    pub usage: Usage,
    /// Kills for memory: whose memory had run out and who died. `None` if there were none, or no memory cgroup.
    pub oom: Option<Oom>,
    /// The first system call for which a process of the sandbox was killed by its filter, of this program or of a process
    /// that it started. `None` if there was none, and for calls by another interface, which the kernel kills without a word.
    pub denied: Option<Syscall>,
    /// What the rules about its [`Egress`](crate::Egress) have decided since the sandbox was started, in their order. Empty
    /// without a [bridge](crate::Network::bridge).
    #[cfg(feature = "net")]
    pub egress: Vec<crate::network::EgressCount>,
    /// What was in force.
    pub enforced: Enforced,
}

impl Outcome {
    /// Whether the program exited with code 0 and broke no limit.
    #[must_use]
    pub fn success(&self) -> bool {
        self.verdict == Verdict::Exited(0)
    }
}

/// Why a program ended.
///
/// The first line that applies is the verdict:
///
/// 1. The init died without a report: [`InitKilled`](Verdict::InitKilled).
/// 2. The main process exited with 0, within its CPU and wall time: [`Exited`](Verdict::Exited), even if a child of
///    it was killed for memory (that is in [`Usage::oom_kills`]).
/// 3. The kernel killed a process of the sandbox for memory, and the main process was killed by `SIGKILL` that nobody
///    here sent, or failed in any other way without another limit having passed: [`MemoryExceeded`](Verdict::MemoryExceeded),
///    or [`HostOutOfMemory`](Verdict::HostOutOfMemory) if it was not the sandbox's own limit.
/// 4. The init killed it for a limit: [`WallTimeExceeded`](Verdict::WallTimeExceeded),
///    [`CpuTimeExceeded`](Verdict::CpuTimeExceeded), [`IdleExceeded`](Verdict::IdleExceeded),
///    [`OutputExceeded`](Verdict::OutputExceeded); because the host asked: [`Killed`](Verdict::Killed); or for a system
///    call: [`SyscallDenied`](Verdict::SyscallDenied).
/// 5. It ended by itself, but had used more CPU time, wall time or output than allowed: the same verdicts.
/// 6. `SIGXCPU` under `RLIMIT_CPU`: [`CpuTimeExceeded`](Verdict::CpuTimeExceeded); `SIGXFSZ` under `RLIMIT_FSIZE`:
///    [`OutputExceeded`](Verdict::OutputExceeded); `SIGSYS` under a filter: [`SyscallDenied`](Verdict::SyscallDenied).
/// 7. Its own exit code or signal.
///
/// Processes of a [`Container`](crate::Container) share its cgroup, which does not say whose they were: where several
/// programs run at the same time, a kill for memory counts for each program that failed meanwhile (line 3), and CPU time
/// is that of all of them together, in the limit as well (lines 4 and 5); none is idle while another works. A program that
/// must not answer for others has [limits of its own](crate::Command::limits), and with them a cgroup of its own.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox, Verdict};
///
/// let outcome = Sandbox::new().status(Command::new("/usr/bin/make"))?;
/// let text = match outcome.verdict {
///     Verdict::Exited(0) => "done",
///     Verdict::MemoryExceeded | Verdict::CpuTimeExceeded | Verdict::WallTimeExceeded => "too expensive",
///     _ => "failed",
/// };
/// # let _ = text;
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it that is not explained by any of the others.
    Signaled(i32),
    /// The tree used more CPU time than allowed, with whatever ran beside it in its container.
    CpuTimeExceeded,
    /// It ran longer than allowed.
    WallTimeExceeded,
    /// It used no CPU time for longer than allowed; or, in an [`Interaction`](crate::Interaction), it owed its partner an
    /// answer for longer than allowed.
    IdleExceeded,
    /// A process of the sandbox was killed because the memory limit was reached, of this program or of one beside it.
    MemoryExceeded,
    /// A process of the sandbox was killed because memory ran out outside of it: in a cgroup above, or on the machine.
    HostOutOfMemory,
    /// It wrote more than the budget of its captured output, or a file beyond `RLIMIT_FSIZE`.
    OutputExceeded,
    /// The main process made a system call for which the filter's answer is to kill. The call was not made.
    SyscallDenied {
        /// Which one. `None` for a call by another interface (of 32-bit programs, or x32), and where `SIGSYS` came from
        /// elsewhere: the kernel then tells no number.
        syscall: Option<Syscall>,
    },
    /// The host killed it through its handle.
    Killed,
    /// The sandbox's init was killed from outside, and the program with it.
    InitKilled,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled(signal) => write!(f, "killed by signal {signal}"),
            Self::CpuTimeExceeded => f.write_str("CPU time exceeded"),
            Self::WallTimeExceeded => f.write_str("wall time exceeded"),
            Self::IdleExceeded => f.write_str("idle for too long"),
            Self::MemoryExceeded => f.write_str("memory exceeded"),
            Self::HostOutOfMemory => f.write_str("the host ran out of memory"),
            Self::OutputExceeded => f.write_str("output exceeded"),
            Self::SyscallDenied { syscall: Some(syscall) } => write!(f, "system call {syscall} denied"),
            Self::SyscallDenied { syscall: None } => f.write_str("system call denied"),
            Self::Killed => f.write_str("killed by the host"),
            Self::InitKilled => f.write_str("the sandbox was killed from outside"),
        }
    }
}

/// What a program used, with every process that descends from it.
///
/// In a [`Container`](crate::Container) what the cgroup counts of programs that run at the same time is counted for each
/// of them, and the peaks are those of all programs so far. Of a program with
/// [limits of its own](crate::Command::limits) everything is counted apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// From the successful `execve` to the end of the main process.
    pub wall: Duration,
    /// CPU time of the tree: by the cgroup where it counts, else user plus system time of what was waited for.
    pub cpu: Duration,
    /// User time.
    pub user: Duration,
    /// System time.
    pub system: Duration,
    /// The memory that is charged to the sandbox at the moment, in bytes: at the end, what files it left in the cache.
    /// `None` without a memory cgroup.
    pub memory: Option<u64>,
    /// The most memory that was charged to the sandbox, in bytes: the cgroup's own counter. `None` without a memory
    /// cgroup, and on v2 before Linux 5.19.
    pub peak_memory: Option<u64>,
    /// The largest resident size of any one process, in bytes (`ru_maxrss` of `getrusage(2)`). It misses what several
    /// processes use together, and counts pages that they share.
    pub max_rss: u64,
    /// How many processes the kernel killed for memory, by its own count, whether the sandbox's own limit was reached or
    /// memory ran out outside of it: [`Outcome::oom`] tells which. Of a [whole group](crate::Sandbox::oom_group) it may
    /// count the first one twice. `None` without a memory cgroup.
    pub oom_kills: Option<u64>,
    /// Processes and threads at the moment. `None` without a pids cgroup.
    pub pids: Option<u64>,
    /// The most processes and threads at once. `None` without a pids cgroup, and before Linux 6.1.
    pub peak_pids: Option<u64>,
    /// How often a fork was refused because of `pids_max`. `None` without a pids cgroup.
    pub pids_denied: Option<u64>,
    /// How long the tree was kept from running by [`cpu_max`](crate::Limits::cpu_max). `None` without a cpu cgroup.
    pub throttled: Option<Duration>,
    /// Bytes read from disks. `None` without an io cgroup of version 2.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks. `None` without an io cgroup of version 2.
    pub written_bytes: Option<u64>,
    /// Bytes that were written to captured stdout and stderr, as far as they were read: at most 64 KiB more than the
    /// budget.
    pub output_bytes: u64,
    /// What the sandbox has sent since it was started, all programs of it together. `None` without a
    /// [bridge](crate::Network::bridge).
    #[cfg(feature = "net")]
    pub sent: Option<crate::network::Traffic>,
    /// What it has received.
    #[cfg(feature = "net")]
    pub received: Option<crate::network::Traffic>,
}

impl Usage {
    /// What the box has counted; the rest is zero.
    pub(crate) fn counted(counters: &Counters) -> Self {
        Self {
            wall: Duration::ZERO,
            cpu: counters.cpu.unwrap_or_default(),
            user: counters.user.unwrap_or_default(),
            system: counters.system.unwrap_or_default(),
            memory: counters.memory,
            peak_memory: counters.peak_memory,
            max_rss: 0,
            oom_kills: counters.oom_kills,
            pids: counters.pids,
            peak_pids: counters.peak_pids,
            pids_denied: counters.pids_denied,
            throttled: counters.throttled,
            read_bytes: counters.read_bytes,
            written_bytes: counters.written_bytes,
            output_bytes: 0,
            #[cfg(feature = "net")]
            sent: None,
            #[cfg(feature = "net")]
            received: None,
        }
    }
}

/// What an ended program left: its outcome and its captured streams.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub outcome: Outcome,
    /// Captured or piped standard output.
    pub stdout: Vec<u8>,
    /// Captured or piped standard error.
    pub stderr: Vec<u8>,
}

/// Everything that bears on the verdict.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    pub(crate) status: i32,
    pub(crate) cause: Cause,
    /// Whose memory had run out when a process was killed for it.
    pub(crate) oom: Option<OomScope>,
    pub(crate) cpu: Duration,
    pub(crate) cpu_limit: Option<Duration>,
    pub(crate) wall: Duration,
    pub(crate) wall_limit: Option<Duration>,
    pub(crate) rlimit_cpu: bool,
    pub(crate) rlimit_fsize: bool,
    pub(crate) filter: bool,
    /// The call that the main process was killed for.
    pub(crate) denied: Option<Syscall>,
}

/// Who ended it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Not the init.
    #[default]
    Itself,
    Wall,
    Cpu,
    Idle,
    Output,
    Host,
    /// For a call that the filter answers by killing.
    Denied,
}

impl Evidence {
    /// The precedence that [`Verdict`] documents.
    pub(crate) fn verdict(&self) -> Verdict {
        let status = ExitStatus::from_raw(self.status);
        let cpu_over = self.cpu_limit.is_some_and(|limit| self.cpu >= limit);
        let wall_over = self.wall_limit.is_some_and(|limit| self.wall >= limit);
        if self.cause == Cause::Itself && status.code() == Some(0) && !cpu_over && !wall_over {
            return Verdict::Exited(0);
        }
        if let Some(scope) = self.oom.filter(|_| self.cause == Cause::Itself && !cpu_over && !wall_over) {
            return match scope {
                OomScope::Sandbox => Verdict::MemoryExceeded,
                OomScope::Host => Verdict::HostOutOfMemory,
            };
        }
        match self.cause {
            Cause::Wall => return Verdict::WallTimeExceeded,
            Cause::Cpu => return Verdict::CpuTimeExceeded,
            Cause::Idle => return Verdict::IdleExceeded,
            Cause::Output => return Verdict::OutputExceeded,
            Cause::Host => return Verdict::Killed,
            Cause::Denied => return Verdict::SyscallDenied { syscall: self.denied },
            Cause::Itself if cpu_over => return Verdict::CpuTimeExceeded,
            Cause::Itself if wall_over => return Verdict::WallTimeExceeded,
            Cause::Itself => {}
        }
        match (status.code(), status.signal()) {
            (Some(code), _) => Verdict::Exited(code),
            (None, Some(libc::SIGXCPU)) if self.rlimit_cpu => Verdict::CpuTimeExceeded,
            (None, Some(libc::SIGXFSZ)) if self.rlimit_fsize => Verdict::OutputExceeded,
            (None, Some(libc::SIGSYS)) if self.filter => Verdict::SyscallDenied { syscall: None },
            (None, signal) => Verdict::Signaled(signal.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> Evidence {
        Evidence { status: code << 8, ..Evidence::default() }
    }

    fn signaled(signal: i32) -> Evidence {
        Evidence { status: signal, ..Evidence::default() }
    }

    #[test]
    fn precedence() {
        let second = Duration::from_secs(1);
        let oom = Some(OomScope::Sandbox);
        let denied = Some(Syscall::new(1));
        let table = [
            (exited(0), Verdict::Exited(0)),
            (exited(3), Verdict::Exited(3)),
            (exited(139), Verdict::Exited(139)),
            (signaled(libc::SIGSEGV), Verdict::Signaled(libc::SIGSEGV)),
            (Evidence { oom, ..exited(0) }, Verdict::Exited(0)),
            (Evidence { oom, ..exited(1) }, Verdict::MemoryExceeded),
            (Evidence { oom, ..signaled(libc::SIGKILL) }, Verdict::MemoryExceeded),
            (Evidence { oom: Some(OomScope::Host), ..exited(1) }, Verdict::HostOutOfMemory),
            (Evidence { oom: Some(OomScope::Host), ..exited(0) }, Verdict::Exited(0)),
            (signaled(libc::SIGKILL), Verdict::Signaled(libc::SIGKILL)),
            (Evidence { cause: Cause::Wall, oom, ..signaled(libc::SIGKILL) }, Verdict::WallTimeExceeded),
            (Evidence { cause: Cause::Cpu, ..signaled(libc::SIGKILL) }, Verdict::CpuTimeExceeded),
            (Evidence { cause: Cause::Idle, ..signaled(libc::SIGKILL) }, Verdict::IdleExceeded),
            (Evidence { cause: Cause::Output, ..exited(0) }, Verdict::OutputExceeded),
            (Evidence { cause: Cause::Host, ..signaled(libc::SIGKILL) }, Verdict::Killed),
            (Evidence { cpu: second, cpu_limit: Some(second), ..exited(0) }, Verdict::CpuTimeExceeded),
            (Evidence { wall: second, wall_limit: Some(second), ..exited(0) }, Verdict::WallTimeExceeded),
            (signaled(libc::SIGXCPU), Verdict::Signaled(libc::SIGXCPU)),
            (Evidence { rlimit_cpu: true, ..signaled(libc::SIGXCPU) }, Verdict::CpuTimeExceeded),
            (signaled(libc::SIGXFSZ), Verdict::Signaled(libc::SIGXFSZ)),
            (Evidence { rlimit_fsize: true, ..signaled(libc::SIGXFSZ) }, Verdict::OutputExceeded),
            (signaled(libc::SIGSYS), Verdict::Signaled(libc::SIGSYS)),
            (Evidence { filter: true, ..signaled(libc::SIGSYS) }, Verdict::SyscallDenied { syscall: None }),
            (
                Evidence { cause: Cause::Denied, denied, ..signaled(libc::SIGKILL) },
                Verdict::SyscallDenied { syscall: denied },
            ),
            (Evidence { denied, ..exited(0) }, Verdict::Exited(0)),
            (Evidence { denied, ..signaled(libc::SIGKILL) }, Verdict::Signaled(libc::SIGKILL)),
        ];
        for (evidence, verdict) in table {
            assert_eq!(evidence.verdict(), verdict, "{evidence:?}");
        }
    }
}
