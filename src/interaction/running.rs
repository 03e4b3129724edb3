//! The handle of a dialogue, and how it talks to the dialogue's thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use super::Interaction;
use super::outcome::InteractionOutcome;
use super::referee::{Player, Referee};
use crate::command::Command;
use crate::error::{Error, Result, Step};
use crate::plan::Plan;
use crate::sys;

/// Two programs that talk, made by [`Interaction::start`]. Dropping it kills both, with everything in their sandboxes,
/// before `drop` returns. It may be moved to another thread, and outlives the one that made it. What is left of the
/// sandbox of the one that ended first, an empty one, is removed when the other has ended, too.
#[derive(Debug)]
#[must_use = "dropping it kills both programs"]
pub struct Dialogue {
    thread: Option<JoinHandle<Result<Option<InteractionOutcome>>>>,
    control: Arc<Control>,
    /// A forked copy of the host has a copy of this handle, but not of the thread.
    owner: u32,
}

/// What the thread shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    None,
    Kill,
    GiveUp,
}

/// The way from the handle to the thread.
#[derive(Debug)]
pub(super) struct Control {
    order: AtomicU8,
    wakeup: OwnedFd,
}

impl Control {
    fn new() -> Result<Self> {
        let failed = |error| Error::os(Step::Prepare, "making an eventfd", error);
        let wakeup = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed(std::io::Error::from(errno)))?;
        let wakeup = sys::above_stdio(wakeup.into()).map_err(failed)?;
        Ok(Self { order: AtomicU8::new(Order::None as u8), wakeup })
    }

    /// Readable when there is an order.
    pub(super) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// The order; heard once.
    pub(super) fn order(&self) -> Order {
        // Before the order is read, so that one that comes meanwhile wakes us again.
        nix::unistd::read(&self.wakeup, &mut [0; 8]).ok();
        match self.order.load(Ordering::Acquire) {
            order if order == Order::GiveUp as u8 => Order::GiveUp,
            order if order == Order::Kill as u8 => Order::Kill,
            _ => Order::None,
        }
    }

    fn give(&self, order: Order) -> Result<()> {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        match nix::unistd::write(&self.wakeup, &1_u64.to_ne_bytes()) {
            // Full: it was told often enough.
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(Error::os(Step::Signal, "waking the thread of a dialogue", errno)),
        }
    }
}

impl Dialogue {
    pub(super) fn start(rules: Interaction, plans: [&Plan; 2], commands: &[Command; 2]) -> Result<Self> {
        let control = Arc::new(Control::new()?);
        let first = Player::new(plans[0].spawn(&commands[0])?);
        let second = Player::new(plans[1].spawn(&commands[1])?);
        let referee = Referee::new(rules, [first, second])?;
        let theirs = Arc::clone(&control);
        let thread = std::thread::Builder::new()
            .name("belljar-talk".into())
            .spawn(move || {
                // A write to a pipe without a reader leaves SIGPIPE pending for this thread alone, and it ends with it.
                SigSet::all()
                    .thread_set_mask()
                    .map_err(|errno| Error::os(Step::Prepare, "blocking signals", errno))?;
                referee.run(&theirs)
            })
            .map_err(|error| Error::os(Step::Prepare, "starting the thread of a dialogue", error))?;
        Ok(Self { thread: Some(thread), control, owner: std::process::id() })
    }

    /// Waits for the ends of both.
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) or [`Setup`](crate::ErrorKind::Setup) when a sandbox could not be observed
    /// or removed, or the bytes could not be moved; never because of what the programs did. Both are dead then, too.
    pub fn wait(mut self) -> Result<InteractionOutcome> {
        if !self.is_ours() {
            return Err(Error::internal(Step::Wait, "a forked copy of the host has no thread to wait for"));
        }
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(result)) => {
                result?.ok_or_else(|| Error::internal(Step::Wait, "the dialogue was given up"))
            }
            Some(Err(_)) | None => Err(Error::internal(Step::Wait, "the thread of a dialogue panicked")),
        }
    }

    /// Whether both have ended, so that [`wait`](Dialogue::wait) returns at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Kills both with everything in their sandboxes; [`wait`](Dialogue::wait) then tells the outcome, with the verdict
    /// [`Killed`](crate::Verdict::Killed). A program that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the thread cannot be woken; `wait` tells what went wrong there.
    pub fn kill(&self) -> Result<()> {
        if self.is_ours() { self.control.give(Order::Kill) } else { Ok(()) }
    }

    fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.is_ours() {
            // Joining would wait for a thread that this process does not have.
            std::mem::forget(thread);
            return;
        }
        // The children are dropped with the thread, and kill their sandboxes. A failure has nobody to tell.
        if self.control.give(Order::GiveUp).is_ok() {
            thread.join().ok();
        }
    }
}
