//! The end of a sandbox: whatever is inside is killed, the init reaped, the box removed, the ids given back.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::changes;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::namespace::Namespaces;
use crate::runtime::Runtime;
use crate::sys;

/// What the init is doing when its sandbox is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// It has reported the end of its only program and exits.
    Exiting,
    /// It may be doing anything.
    Running,
}

/// How long an init may take to exit. It has nothing left to do but to let the kernel take the namespaces down.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// How long an init without a PID namespace may take to kill what runs inside.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// Takes sandboxes down in place of those who waited for the end of their programs.
pub(crate) trait Reaper: fmt::Debug + Send + Sync {
    /// No program runs inside any more. It may have been taken down already. Tells only what comes of it at once.
    fn take_down(&self, runtime: Arc<Runtime>) -> Result<()>;
}

impl Runtime {
    /// Whether the init has ended, and the kernel has taken its namespaces from it.
    pub(crate) fn is_gone(&self) -> bool {
        wait_for(self.link.init(), Duration::ZERO)
    }

    /// Begins to end the sandbox, if that is possible without waiting. `tear_down` is still to follow.
    pub(crate) fn begin_end(&self) {
        if self.is_ours() && self.plan.0.namespaces.contains(Namespaces::PID) {
            self.ended_by_host.store(true, Ordering::Relaxed);
            sys::send_signal(self.link.init(), libc::SIGKILL).ok();
        }
    }

    /// Ends the sandbox whatever it is doing, and lets nobody wait for it: an init that does not die would be listened to
    /// for ever.
    pub(crate) fn end(&self) -> Result<()> {
        let ended = self.tear_down(Init::Running);
        self.link.hang_up();
        ended
    }

    /// Ends the sandbox: waits for an init that is about to exit, kills one that is not, and removes what was made.
    /// Returns the first failure, but always goes to the end. Calling it again does nothing.
    pub(crate) fn tear_down(&self, init: Init) -> Result<()> {
        // A forked copy of the host has a copy of this value, and must not end the sandboxes of the original.
        if !self.is_ours() {
            return Ok(());
        }
        let mut result = Ok(());
        let mut cgroup = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner).take();
        let let_die = |cgroup: &mut Option<Cgroup>| {
            if let Some(cgroup) = cgroup {
                cgroup.let_die();
            }
        };
        let remove = |cgroup: Option<Cgroup>| {
            let Some(mut cgroup) = cgroup else { return Ok(()) };
            cgroup.remove().inspect_err(|_| {
                // Tried again on drop.
                *self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) = Some(cgroup);
            })
        };
        if init == Init::Exiting {
            // Its programs are gone, so the box is empty: it is removed while the kernel takes the namespaces down.
            result = remove(cgroup);
            self.await_init(&mut result);
        } else {
            self.ended_by_host.store(true, Ordering::Relaxed);
            // A PID namespace dies with its init. Without one the init is what finds and kills the processes inside,
            // and is killed itself only when that takes too long.
            if !self.plan.0.namespaces.contains(Namespaces::PID) {
                self.link.hang_up();
                let_die(&mut cgroup);
                wait_for(self.link.init(), KILL_PATIENCE);
            }
            sys::send_signal(self.link.init(), libc::SIGKILL).ok();
            // The kernel waits for what is frozen before it lets go of the init.
            let_die(&mut cgroup);
            self.await_init(&mut result);
            result = result.and(remove(cgroup));
        }
        if self.reaped.load(Ordering::Relaxed) {
            self.block().take();
            if let Some(upper) = &self.upper {
                changes::unlock_upper(upper);
            }
        }
        result
    }

    fn await_init(&self, result: &mut Result<()>) {
        if self.reaped.load(Ordering::Relaxed) {
            return;
        }
        if !wait_for(self.link.init(), EXIT_PATIENCE) {
            sys::send_signal(self.link.init(), libc::SIGKILL).ok();
            // A process inside that waits in the kernel for a device, a dead network filesystem for instance, holds its
            // namespace, and must not hold us.
            if !wait_for(self.link.init(), EXIT_PATIENCE) {
                let message =
                    "the sandbox's init does not die: a process inside waits in the kernel for a device";
                *result = Err(Error::message(ErrorKind::Setup, Step::Wait, message).with_hint(
                    "`ps -eo pid,stat,wchan,comm` shows it in state D; it dies when the device answers",
                ));
                return;
            }
        }
        match sys::reap_pidfd(self.link.init()) {
            Ok(()) => self.reaped.store(true, Ordering::Relaxed),
            // Tried again on drop.
            Err(error) => *result = Err(Error::os(Step::Wait, "reaping the init", error)),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A failure here has nobody to tell; the next use on this machine sweeps what is left.
        self.tear_down(Init::Running).ok();
    }
}

/// Whether the process behind a pidfd ended in time.
fn wait_for(pidfd: &OwnedFd, patience: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}
