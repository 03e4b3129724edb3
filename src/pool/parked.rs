//! A container for one program, before the program is known: how it is made, and how the program is handed to it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::child::Child;
use crate::command::Command;
use crate::error::Result;
use crate::plan::Plan;
use crate::runtime::{self, Purpose, Runtime};

/// A container for one program, which it waits for when it is ready.
#[derive(Debug, Clone)]
pub(crate) struct Parked(Arc<Runtime>);

impl Parked {
    /// Begins to set one up.
    pub(super) fn launch(plan: &Plan) -> Result<Self> {
        runtime::launch(plan, Purpose::Parked).map(|runtime| Self(Arc::new(runtime)))
    }

    /// Whether it is set up, waiting for that until the deadline or for ever. It says so once.
    pub(super) fn is_ready(&self, deadline: Option<Instant>) -> Result<bool> {
        let is_ready = self.0.is_ready(deadline)?;
        if is_ready {
            // What is opened now need not be when the program has ended. If it cannot be, that shows then.
            self.0.counters_of_many().ok();
        }
        Ok(is_ready)
    }

    /// Hands the program over.
    pub(super) fn run(self, command: &Command) -> Result<Child> {
        Child::in_parked(&self.0, command)
    }

    /// Whether nothing can be run in it any more.
    pub(super) fn is_dead(&self) -> bool {
        self.0.is_gone()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.0
    }

    /// Readable when it may have become ready.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.0.link.readiness()
    }

    /// Readable when its init has ended.
    pub(super) fn init(&self) -> BorrowedFd<'_> {
        self.0.link.init().as_fd()
    }
}
