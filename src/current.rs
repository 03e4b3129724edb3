//! What runs in a container now, and the turn of whoever puts another in its place. Threads and tasks wait for that.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};

use crate::runtime::Runtime;

/// Not a lock of the standard library: a task must not block its thread, and whoever has its turn may go on in another one.
#[derive(Debug)]
pub(crate) struct Current {
    state: Mutex<State>,
    changed: Condvar,
    /// The process that has made it. In a forked copy nobody ends his turn.
    owner: u32,
}

#[derive(Debug)]
struct State {
    runtime: Arc<Runtime>,
    /// Somebody puts another in its place.
    is_replaced: bool,
    /// Tasks that wait for that.
    tasks: Vec<Waker>,
}

/// The turn to put another in the place of what runs. Nobody sees either meanwhile.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    current: Arc<Current>,
    pub(crate) old: Arc<Runtime>,
}

impl Current {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        let state = State { runtime, is_replaced: false, tasks: Vec::new() };
        Self { state: Mutex::new(state), changed: Condvar::new(), owner: std::process::id() }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody replaces it.
    fn settled(&self) -> MutexGuard<'_, State> {
        let state = self.changed.wait_while(self.lock(), |state| state.is_replaced);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs, after whoever replaces it.
    pub(crate) fn get(&self) -> Arc<Runtime> {
        Arc::clone(&self.settled().runtime)
    }

    /// Takes the turn, after whoever has it.
    pub(crate) fn replace(self: &Arc<Self>) -> Turn {
        self.turn(&mut self.settled())
    }

    fn turn(self: &Arc<Self>, state: &mut State) -> Turn {
        state.is_replaced = true;
        Turn { current: Arc::clone(self), old: Arc::clone(&state.runtime) }
    }

    /// [`get`](Current::get) in a task.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_get(&self, context: &mut Context<'_>) -> Poll<Arc<Runtime>> {
        self.poll_settled(context).map(|state| Arc::clone(&state.runtime))
    }

    /// [`replace`](Current::replace) in a task.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_replace(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<Turn> {
        self.poll_settled(context).map(|mut state| self.turn(&mut state))
    }

    #[cfg(feature = "tokio")]
    fn poll_settled(&self, context: &mut Context<'_>) -> Poll<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if !state.is_replaced {
            return Poll::Ready(state);
        }
        if !state.tasks.iter().any(|task| task.will_wake(context.waker())) {
            state.tasks.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Turn {
    /// From now on it is this one.
    pub(crate) fn put(self, runtime: Arc<Runtime>) {
        self.current.lock().runtime = runtime;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.current.is_ours() {
            return;
        }
        let mut state = self.current.lock();
        state.is_replaced = false;
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        self.current.changed.notify_all();
        tasks.into_iter().for_each(Waker::wake);
    }
}
