//! What becomes of a system call, in the words of a policy.

use super::verdict::Answer;
use crate::{Error, Result};

/// What becomes of a system call.
///
/// These are the actions of [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html), each of which
/// works on every kernel that belljar supports.
///
/// # Examples
///
/// ```
/// use belljar::{Seccomp, SyscallAction};
///
/// // Learns what a program calls beyond the profile, without breaking it.
/// let learning = Seccomp::new().otherwise(SyscallAction::Log);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallAction {
    /// The call is made.
    #[doc(alias = "SECCOMP_RET_ALLOW")]
    Allow,
    /// The call is made, and the kernel writes a line about it.
    ///
    /// The line is a record of the audit subsystem, of type 1326 (`SECCOMP`). auditd writes it to
    /// `/var/log/audit/audit.log`; without auditd it is in the kernel's log, as `dmesg` shows it, where lines are
    /// dropped when there are too many. The host's `/proc/sys/kernel/seccomp/actions_logged` says which actions are
    /// written at all. The program does not notice, and nothing of it is in the [`Outcome`](crate::Outcome).
    #[doc(alias = "SECCOMP_RET_LOG")]
    Log,
    /// The call is not made and fails with this `errno`, from 1 to 4095; see
    /// [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
    ///
    /// Zero is an error when the sandbox is planned: a call that is not made must not look as if it had succeeded.
    #[doc(alias = "SECCOMP_RET_ERRNO")]
    Errno(i32),
    /// The call is not made, and the thread that made it gets `SIGSYS`, with the number of the call in `si_syscall`.
    ///
    /// A program can handle that signal, and emulate the call or report it. One that does not dies of it, with the
    /// verdict [`SyscallDenied`](crate::Verdict::SyscallDenied).
    #[doc(alias = "SECCOMP_RET_TRAP")]
    Trap,
    /// The call is not made, and the process is killed, all its threads; see [`Seccomp::kill`](crate::Seccomp::kill).
    #[doc(alias = "SECCOMP_RET_KILL_PROCESS")]
    Kill,
    /// The thread that makes the call waits until the host has answered it; see [`Seccomp::notify`](crate::Seccomp::notify).
    #[doc(alias = "SECCOMP_RET_USER_NOTIF")]
    Notify,
}

/// The largest `errno` that the kernel returns as one.
const MAX_ERRNO: i32 = 4095;

impl SyscallAction {
    pub(super) fn answer(self) -> Result<Answer> {
        match self {
            Self::Allow => Ok(Answer::Allow),
            Self::Log => Ok(Answer::Log),
            Self::Errno(number) => match u16::try_from(number) {
                Ok(errno) if (1..=MAX_ERRNO).contains(&number) => Ok(Answer::Errno(errno)),
                _ => {
                    Err(Error::invalid(format!("{number} is not an errno that a system call can fail with"))
                        .with_hint("give one from 1 to 4095, such as libc::EPERM or libc::ENOSYS"))
                }
            },
            Self::Trap => Ok(Answer::Trap),
            Self::Kill => Ok(Answer::Kill),
            Self::Notify => Ok(Answer::Notify),
        }
    }
}
