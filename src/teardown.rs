//! The end of a sandbox: whatever is inside is killed, the init reaped, the box removed, the ids given back.
//!
//! ```text
//! Init::Exiting:                    remove the box ─▶ await the init ──────────────────▶ reap ─▶ give the ids back
//! Init::Running: kill ──────────────────────────────▶ await the init ─▶ remove the box ─▶ reap ─▶ give the ids back
//!                └▶ without a PID namespace: hang up, await the init, kill
//! ```
//!
//! It is a state machine that never waits by itself, so that a thread can drive it, and a task as well.

use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Removal};
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

/// The end of a sandbox, as far as it has come. Whoever drops it before it is over leaves the rest to the
/// [`Runtime`]'s own drop.
#[derive(Debug)]
pub(crate) struct Ending<R: Deref<Target = Runtime>> {
    runtime: R,
    init: Init,
    stage: Stage,
    cgroup: Option<Cgroup>,
    /// The first failure.
    result: Result<()>,
}

#[derive(Debug)]
enum Stage {
    /// The init is killing.
    Killing(Instant),
    Removing(Removal),
    /// The init exits. It gets one more signal.
    Dying {
        until: Instant,
        signals: u32,
    },
    Over,
}

/// What an end waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// The end of the init, or this moment.
    Init(Instant),
    /// This long.
    Pause(Duration),
}

impl<R: Deref<Target = Runtime>> Ending<R> {
    /// Kills what runs, at once. `None` in a forked copy of the host, which has a copy of the runtime and must not end the
    /// sandboxes of the original.
    pub(crate) fn begin(runtime: R, init: Init) -> Option<Self> {
        if !runtime.is_ours() {
            return None;
        }
        let cgroup = runtime.cgroup.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut ending = Self { runtime, init, stage: Stage::Over, cgroup, result: Ok(()) };
        ending.stage = match init {
            // Its programs are gone, so the box is empty: it is removed while the kernel takes the namespaces down.
            Init::Exiting => Stage::Removing(Removal::default()),
            Init::Running => {
                ending.runtime.ended_by_host.store(true, Ordering::Relaxed);
                if ending.runtime.plan.0.namespaces.contains(Namespaces::PID) {
                    ending.kill()
                } else {
                    // A PID namespace dies with its init. Without one the init is what finds and kills the processes
                    // inside, and is killed itself only when that takes too long.
                    ending.runtime.link.hang_up();
                    ending.let_die();
                    Stage::Killing(Instant::now() + KILL_PATIENCE)
                }
            }
        };
        Some(ending)
    }

    /// Goes on until there is something to wait for; `None` when there is not. `init_ended`: it was waited for, and has.
    pub(crate) fn advance(&mut self, init_ended: bool) -> Option<Wait> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Killing(until) if !init_ended && *until > Instant::now() => {
                    return Some(Wait::Init(*until));
                }
                Stage::Killing(_) => self.kill(),
                Stage::Dying { until, .. } if !init_ended && *until > Instant::now() => {
                    return Some(Wait::Init(*until));
                }
                Stage::Dying { signals, .. } => {
                    let signals = *signals;
                    if !init_ended && signals == 0 {
                        sys::send_signal(self.runtime.link.init(), libc::SIGKILL).ok();
                        Stage::Dying { until: Instant::now() + EXIT_PATIENCE, signals: signals + 1 }
                    } else {
                        let reaped = if init_ended { self.reap() } else { Err(does_not_die()) };
                        self.note(reaped);
                        match self.init {
                            Init::Exiting => Stage::Over,
                            Init::Running => Stage::Removing(Removal::default()),
                        }
                    }
                }
                Stage::Removing(removal) => {
                    let step = match &mut self.cgroup {
                        Some(cgroup) => cgroup.remove_step(removal),
                        None => Ok(None),
                    };
                    match step {
                        Ok(Some(pause)) => return Some(Wait::Pause(pause)),
                        Ok(None) => self.cgroup = None,
                        Err(error) => self.note(Err(error)),
                    }
                    match self.init {
                        Init::Exiting => self.await_exit(),
                        Init::Running => Stage::Over,
                    }
                }
                Stage::Over => {
                    self.give_back();
                    return None;
                }
            };
        }
    }

    /// Goes to the end, waiting in this thread, and returns the first failure.
    pub(crate) fn run(mut self) -> Result<()> {
        let mut init_ended = false;
        while let Some(wait) = self.advance(init_ended) {
            init_ended = match wait {
                Wait::Init(until) => self.runtime.init_ends(until),
                Wait::Pause(pause) => {
                    std::thread::sleep(pause);
                    false
                }
            };
        }
        self.result()
    }

    /// The first failure; asked for when it is over.
    pub(crate) fn result(&mut self) -> Result<()> {
        std::mem::replace(&mut self.result, Ok(()))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn kill(&mut self) -> Stage {
        sys::send_signal(self.runtime.link.init(), libc::SIGKILL).ok();
        // The kernel waits for what is frozen before it lets go of the init.
        self.let_die();
        self.await_exit()
    }

    fn let_die(&mut self) {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.let_die();
        }
    }

    fn await_exit(&self) -> Stage {
        if !self.runtime.reaped.load(Ordering::Relaxed) {
            return Stage::Dying { until: Instant::now() + EXIT_PATIENCE, signals: 0 };
        }
        match self.init {
            Init::Exiting => Stage::Over,
            Init::Running => Stage::Removing(Removal::default()),
        }
    }

    fn reap(&self) -> Result<()> {
        sys::reap_pidfd(self.runtime.link.init())
            .map_err(|error| Error::os(Step::Wait, "reaping the init", error))?;
        self.runtime.reaped.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn note(&mut self, result: Result<()>) {
        if self.result.is_ok() {
            self.result = result;
        }
    }

    fn give_back(&self) {
        if self.runtime.reaped.load(Ordering::Relaxed) {
            self.runtime.block().take();
            if let Some(upper) = &self.runtime.upper {
                changes::unlock_upper(upper);
            }
        }
    }
}

impl<R: Deref<Target = Runtime>> Drop for Ending<R> {
    fn drop(&mut self) {
        // What could not be removed, or was not yet, is tried again when the runtime is dropped.
        if let Some(cgroup) = self.cgroup.take() {
            *self.runtime.cgroup.lock().unwrap_or_else(PoisonError::into_inner) = Some(cgroup);
        }
    }
}

/// A process inside that waits in the kernel for a device, a dead network filesystem for instance, holds its namespace, and
/// must not hold us.
fn does_not_die() -> Error {
    let message = "the sandbox's init does not die: a process inside waits in the kernel for a device";
    Error::message(ErrorKind::Setup, Step::Wait, message)
        .with_hint("`ps -eo pid,stat,wchan,comm` shows it in state D; it dies when the device answers")
}

impl Runtime {
    /// Ends the sandbox: waits for an init that is about to exit, kills one that is not, and removes what was made.
    /// Returns the first failure, but always goes to the end. Calling it again does nothing.
    pub(crate) fn tear_down(&self, init: Init) -> Result<()> {
        Ending::begin(self, init).map_or(Ok(()), Ending::run)
    }

    /// Waits for the end of the init until the deadline, and says whether it came.
    pub(crate) fn init_ends(&self, deadline: Instant) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: polling for 0 ms while a fraction is left would spin.
            let timeout =
                PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.link.init().as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A failure here has nobody to tell; the next use on this machine sweeps what is left.
        self.tear_down(Init::Running).ok();
    }
}
