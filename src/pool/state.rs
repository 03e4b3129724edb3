//! What callers and the pool's thread share.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::builder::{Options, Reuse, WhenEmpty};
use super::metrics::PoolMetrics;
use super::parked::Parked;
use super::waiters::Waiters;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::plan::Plan;
use crate::runtime::Runtime;
use crate::teardown::Init;

/// How long no call may have come for a moment to be quiet.
const QUIET: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(super) options: Options,
    state: Mutex<State>,
    /// Wakes the pool's thread.
    bell: EventFd,
    /// The process that started the pool, and alone has its thread.
    owner: u32,
}

#[derive(Debug)]
pub(super) struct State {
    /// The last one is taken first: its memory is the likeliest to be in the processors' caches.
    pub(super) ready: Vec<Parked>,
    /// Containers that wait for their removal and that the thread does not know of yet.
    pub(super) ended: Vec<(Arc<Runtime>, Init)>,
    /// Why the last container could not be set up.
    failure: Option<Error>,
    pub(super) stopping: bool,
    /// When a program was started or ended last.
    last_call: Instant,
    /// Calls that wait until a container becomes ready or is removed, or something fails.
    pub(super) waiters: Waiters,
    /// The thread looks again by itself when the moment is quiet.
    is_expected: bool,
    /// How many there are of each, but those that are ready.
    pub(super) count: PoolMetrics,
}

/// What there is for a call.
#[derive(Debug)]
pub(super) enum Found {
    Ready(Parked),
    /// Leave to start a sandbox.
    Leave,
}

/// The state, locked. Whoever was called is woken when the lock is free again.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    // In this order they are dropped.
    state: MutexGuard<'a, State>,
    due: Due,
}

#[derive(Debug)]
struct Due(Vec<Waker>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.due.0 = self.state.waiters.due();
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Shared {
    pub(super) fn new(plan: Plan, options: Options, ready: Vec<Parked>) -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_flags(flags)
            .map_err(|errno| Error::os(Step::Pool, "making the eventfd of the pool's thread", errno))?;
        let state = State {
            ready,
            ended: Vec::new(),
            failure: None,
            stopping: false,
            last_call: Instant::now(),
            waiters: Waiters::default(),
            is_expected: false,
            count: PoolMetrics::default(),
        };
        Ok(Self { plan, options, state: Mutex::new(state), bell, owner: std::process::id() })
    }

    /// Whether this is the process that started the pool. In a forked copy another thread may have held the lock at that
    /// moment, so nothing is looked at.
    pub(super) fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, due: Due(Vec::new()) }
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn ring(&self) {
        // It is never full: that takes 2^64 rings that nobody hears.
        self.bell.write(1).ok();
    }

    pub(super) fn unring(&self) {
        self.bell.read().ok();
    }

    /// What there is for a call, without waiting. Whoever gets something is in use from then on.
    pub(super) fn look(&self, state: &mut State) -> Result<Option<Found>> {
        if state.stopping {
            state.count.refused += 1;
            return Err(closed());
        }
        if !self.has_room(state) {
            return Ok(None);
        }
        while let Some(parked) = state.ready.pop() {
            if parked.is_dead() {
                self.discard(state, &parked);
                continue;
            }
            state.count.in_use += 1;
            state.count.warm += 1;
            state.last_call = Instant::now();
            return Ok(Some(Found::Ready(parked)));
        }
        match (self.options.when_empty, &state.failure) {
            (WhenEmpty::Start, _) => {
                state.count.in_use += 1;
                state.count.cold += 1;
                Ok(Some(Found::Leave))
            }
            (WhenEmpty::Wait, Some(failure)) => {
                let failure = failure.again();
                state.count.refused += 1;
                Err(failure)
            }
            (WhenEmpty::Wait, None) => Ok(None),
        }
    }

    fn has_room(&self, state: &State) -> bool {
        state.count.in_use + state.count.closing < self.options.max
    }

    /// Whether another call may find something, too.
    pub(super) fn may_have_more(&self, state: &State) -> bool {
        self.has_room(state) && (!state.ready.is_empty() || self.options.when_empty == WhenEmpty::Start)
    }

    /// A call begins to wait.
    pub(super) fn enter(&self, state: &mut State, waker: &Waker) -> u64 {
        state.count.waits += 1;
        // The thread may have put off what this one waits for.
        if state.is_expected {
            self.ring();
        }
        state.waiters.enter(waker)
    }

    /// A call has waited for too long.
    pub(super) fn refuse(&self) -> Error {
        let mut state = self.lock();
        state.count.refused += 1;
        self.exhausted(self.has_room(&state))
    }

    /// Puts a container that has died away. It is no longer among those that are ready.
    pub(super) fn discard(&self, state: &mut State, parked: &Parked) {
        state.count.discarded += 1;
        state.count.closing += 1;
        state.ended.push((Arc::clone(parked.runtime()), Init::Running));
        self.ring();
    }

    fn exhausted(&self, has_room: bool) -> Error {
        let Options { max, patience, .. } = self.options;
        let (message, hint) = match has_room {
            true => (
                format!("no container of the pool became ready within {patience:?}"),
                "raise size() or patience(), or start one when none is ready by when_empty(WhenEmpty::Start)",
            ),
            false => (
                format!("{max} programs of the pool were in use for {patience:?}"),
                "raise max() or patience(); a program that has ended is in use until its Child is waited for or dropped",
            ),
        };
        Error::message(ErrorKind::ResourceExhausted, Step::Pool, message).with_hint(hint)
    }

    /// The program was started in what was taken.
    pub(crate) fn started(&self) {
        self.note_call(&mut self.lock());
    }

    /// Tells the thread of something to do, unless it will see that by itself soon enough.
    fn note_call(&self, state: &mut State) {
        state.last_call = Instant::now();
        if !state.is_expected || self.is_urgent(state) {
            self.ring();
        }
    }

    /// Whether what is missing and what is closing cannot wait for a quiet moment.
    fn is_urgent(&self, state: &State) -> bool {
        let size = self.options.size;
        let few = state.ready.len() * 2 < size && self.missing(state) > 0;
        !state.waiters.is_empty() || few || state.count.closing * 2 > size
    }

    /// Until when the thread leaves aside what it has to do, if it does. Setting sandboxes up and removing them takes the
    /// kernel's locks and a processor: a program that starts meanwhile takes several times as long for it. So that is done
    /// when no call has come for a while, or when it has to be.
    pub(super) fn put_off(&self, state: &mut State, has_work: bool) -> Option<Instant> {
        let quiet_at = state.last_call + QUIET;
        let put_off = (has_work && quiet_at > Instant::now() && !self.is_urgent(state)).then_some(quiet_at);
        state.is_expected = put_off.is_some();
        put_off
    }

    /// What was taken is not used after all, and nothing is left of it.
    pub(super) fn give_back(&self) {
        if self.is_ours() {
            self.release(&mut self.lock());
        }
    }

    fn release(&self, state: &mut State) {
        state.count.in_use -= 1;
        state.waiters.call_one();
        self.note_call(state);
    }

    /// How many containers are to be set up.
    pub(super) fn missing(&self, state: &State) -> usize {
        let count = &state.count;
        let there = match self.options.reuse {
            Reuse::Never => state.ready.len() + count.making,
            Reuse::AfterReset => state.ready.len() + count.making + count.in_use + count.closing,
        };
        self.options.size.saturating_sub(there)
    }

    /// A container was set up.
    pub(super) fn park(&self, parked: Parked) {
        let mut state = self.lock();
        state.count.making -= 1;
        state.count.refills += 1;
        state.failure = None;
        state.ready.push(parked);
        state.waiters.call_one();
    }

    /// A container could not be set up: all that wait are told.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.count.failed_refills += 1;
        state.failure = Some(error);
        state.waiters.call_all();
    }

    /// Nothing is left of a container that was closing, or something that could not be removed.
    pub(super) fn closed(&self, is_removed: bool) {
        let mut state = self.lock();
        state.count.closing -= 1;
        state.count.not_removed += u64::from(!is_removed);
        state.waiters.call_one();
    }

    /// Ends the thread. Those that still wait are told; only tasks can.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.waiters.call_all();
        self.ring();
    }

    pub(super) fn metrics(&self) -> PoolMetrics {
        if !self.is_ours() {
            return PoolMetrics::default();
        }
        let state = self.lock();
        PoolMetrics { ready: state.ready.len(), ..state.count }
    }

    /// Takes over what is left of a sandbox that was used. No program runs inside any more.
    pub(super) fn take_down(&self, runtime: Arc<Runtime>) -> Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        let mut state = self.lock();
        if runtime.reaped.load(Ordering::Relaxed) {
            self.release(&mut state);
            return Ok(());
        }
        state.count.in_use -= 1;
        if state.stopping {
            drop(state);
            return runtime.tear_down(Init::Exiting);
        }
        state.count.closing += 1;
        state.ended.push((runtime, Init::Exiting));
        self.note_call(&mut state);
        Ok(())
    }
}

fn closed() -> Error {
    Error::message(ErrorKind::Setup, Step::Pool, "the pool was closed while a program waited for a container")
        .with_hint("keep the pool until the futures that it has made are done")
}
