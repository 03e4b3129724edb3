//! The end of a sandbox: whatever is inside is killed, the init reaped, the box removed, the ids given back.
//!
//! ```text
//! Init::Exiting:                    remove the box ─▶ await the init, reap ──────────────────▶ give the ids back
//! Init::Running: kill ──────────────────────────────▶ await the init, reap ─▶ remove the box ─▶ give the ids back
//!                └▶ without a PID namespace: hang up, await the init, kill
//! Init::Staying: remove the cgroup of the program
//! ```
//!
//! It is a state machine that never waits by itself, so that a thread can drive it, and a task as well.

use std::fmt;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
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
    /// It goes on, or is left to somebody else: only the cgroup of a program with limits of its own is removed.
    Staying,
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

/// The end of a sandbox, as far as it has come. Whoever drops it before it is over leaves the rest to the
/// [`Runtime`]'s own drop.
#[derive(Debug)]
pub(crate) struct Ending<R: Deref<Target = Runtime>> {
    runtime: R,
    init: Init,
    stage: Stage,
    /// That of a program with limits of its own, which is in the box.
    own: Option<Cgroup>,
    cgroup: Option<Cgroup>,
    /// Who is told at the end.
    reaper: Option<(Arc<dyn Reaper>, Arc<Runtime>)>,
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
        let cgroup = match init {
            Init::Staying => None,
            Init::Exiting | Init::Running => {
                runtime.cgroup.lock().unwrap_or_else(PoisonError::into_inner).take()
            }
        };
        let (own, reaper) = (None, None);
        let mut ending = Self { runtime, init, stage: Stage::Over, own, cgroup, reaper, result: Ok(()) };
        ending.stage = match init {
            Init::Staying => Stage::Removing(Removal::default()),
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

    /// Also removes the cgroup of the program that has ended.
    pub(crate) fn with_own(mut self, cgroup: Option<Cgroup>) -> Self {
        self.own = cgroup;
        self
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
                        self.after_exit()
                    }
                }
                Stage::Removing(removal) => {
                    let is_own = self.own.is_some();
                    let cgroup = if is_own { &mut self.own } else { &mut self.cgroup };
                    let step = cgroup.as_mut().map_or(Ok(None), |cgroup| cgroup.remove_step(removal));
                    match step {
                        Ok(Some(pause)) => return Some(Wait::Pause(pause)),
                        Ok(None) => *cgroup = None,
                        Err(error) => self.note(Err(error)),
                    }
                    if is_own {
                        // What could not be removed is tried again now, and with the box that it is in.
                        self.own = None;
                        Stage::Removing(Removal::default())
                    } else if self.init == Init::Exiting {
                        self.await_exit()
                    } else {
                        Stage::Over
                    }
                }
                Stage::Over => {
                    self.give_back();
                    if let Some((reaper, runtime)) = self.reaper.take() {
                        self.note(reaper.take_down(runtime));
                    }
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
        self.after_exit()
    }

    fn after_exit(&self) -> Stage {
        match self.init {
            Init::Running => Stage::Removing(Removal::default()),
            Init::Exiting | Init::Staying => Stage::Over,
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
        if self.init != Init::Staying && self.runtime.reaped.load(Ordering::Relaxed) {
            #[cfg(feature = "net")]
            self.runtime.wired().take();
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
        if let Some((reaper, runtime)) = self.reaper.take() {
            reaper.take_down(runtime).ok();
        }
    }
}

impl Ending<Arc<Runtime>> {
    /// Also tells another, at the end or when nobody goes on with this.
    pub(crate) fn for_reaper(mut self, reaper: Option<Arc<dyn Reaper>>) -> Self {
        self.reaper = reaper.map(|reaper| (reaper, Arc::clone(&self.runtime)));
        self
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
    /// Whether the init has ended, and the kernel has taken its namespaces from it.
    pub(crate) fn is_gone(&self) -> bool {
        self.init_ends(Instant::now())
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
