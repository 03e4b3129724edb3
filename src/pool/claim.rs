//! One call: it waits for a container or for room, and what it has got is in use until it is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::parked::Parked;
use super::state::{Found, Shared};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::teardown::Reaper;

/// A call that wants a container, or leave to start a sandbox, within the time that the pool waits. Dropping it leaves
/// whatever there is to the others.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    /// While it waits.
    ticket: Option<u64>,
    deadline: Option<Instant>,
}

/// What a call has got to run its program in.
#[derive(Debug)]
pub(crate) struct Taken {
    /// `None`: it starts a sandbox itself.
    pub(crate) parked: Option<Parked>,
    pub(crate) place: Arc<Place>,
}

/// A place among those in use, which nobody else has. It is given back when the program has ended, and at the latest
/// when this is dropped, so that no way out of a start can keep it.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    is_given_back: AtomicBool,
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Claim {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self> {
        if !shared.is_ours() {
            return Err(Error::invalid(
                "the pool belongs to the process that started it, of which this is a fork",
            )
            .with_hint("start one in this process"));
        }
        let deadline = Instant::now().checked_add(shared.options.patience);
        Ok(Self { shared: Arc::clone(shared), ticket: None, deadline })
    }

    /// Until when it waits.
    #[cfg(feature = "tokio")]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What there is for it. With nothing it is woken when there may be something, and has to look at its deadline itself.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Taken>> {
        let mut state = self.shared.lock();
        match self.shared.look(&mut state) {
            Ok(None) => {
                match self.ticket {
                    Some(ticket) => state.waiters.stay(ticket, context.waker()),
                    None => self.ticket = Some(self.shared.enter(&mut state, context.waker())),
                }
                Poll::Pending
            }
            Ok(Some(found)) => {
                self.ticket.take().inspect(|ticket| state.waiters.served(*ticket));
                if self.shared.may_have_more(&state) {
                    state.waiters.call_one();
                }
                let parked = match found {
                    Found::Ready(parked) => Some(parked),
                    Found::Leave => None,
                };
                let place = Place { shared: Arc::clone(&self.shared), is_given_back: AtomicBool::new(false) };
                Poll::Ready(Ok(Taken { parked, place: Arc::new(place) }))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The time is over.
    pub(crate) fn give_up(self) -> Error {
        self.shared.refuse()
    }

    /// The same in this thread.
    pub(crate) fn wait(mut self) -> Result<Taken> {
        // Most calls need not wait, and no waker.
        let mut waker = Waker::noop().clone();
        let mut may_sleep = false;
        loop {
            if let Poll::Ready(taken) = self.poll(&mut Context::from_waker(&waker)) {
                return taken;
            }
            let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.give_up());
            }
            if !may_sleep {
                waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                may_sleep = true;
                continue;
            }
            match left {
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // In a forked copy another thread may have held the lock.
        if let Some(ticket) = self.ticket.take().filter(|_| self.shared.is_ours()) {
            self.shared.lock().waiters.leave(ticket);
        }
    }
}

impl Place {
    fn is_first(&self) -> bool {
        !self.is_given_back.swap(true, Ordering::Relaxed)
    }
}

impl Reaper for Place {
    fn take_down(&self, runtime: Arc<Runtime>) -> Result<()> {
        if self.is_first() { self.shared.take_down(runtime) } else { Ok(()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_first() {
            self.shared.give_back();
        }
    }
}
