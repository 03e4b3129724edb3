//! Programs that are being started in a container, and those who need that none is: a program must not be frozen before it
//! can say that it was executed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(any(test, feature = "tokio"))]
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, Step};

/// Not a lock for readers and writers of the standard library: a task that starts a program must not block its thread, and
/// may go on in another one.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    starting: usize,
    /// Somebody is alone, or waits to be: nothing new starts.
    alone: bool,
    /// Tasks that want to start something then.
    tasks: Vec<Waker>,
}

/// One program is being started.
#[derive(Debug)]
#[must_use]
pub(crate) struct Start<'a>(&'a Starts);

/// No program is being started.
#[derive(Debug)]
#[must_use]
pub(crate) struct Alone<'a>(&'a Starts);

impl Starts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a start, after whoever is alone.
    pub(crate) fn begin(&self) -> Start<'_> {
        let mut state = self.state();
        while state.alone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.starting += 1;
        Start(self)
    }

    /// The same in a task.
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn poll_begin(&self, context: &mut Context<'_>) -> Poll<Start<'_>> {
        let mut state = self.state();
        if !state.alone {
            state.starting += 1;
            return Poll::Ready(Start(self));
        }
        if !state.tasks.iter().any(|task| task.will_wake(context.waker())) {
            state.tasks.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until nothing is being started, and keeps it so.
    ///
    /// A start may be a task of the very thread that waits here, so the patience has an end.
    pub(crate) fn alone(&self, patience: Duration) -> Result<Alone<'_>> {
        let others = self.changed.wait_while(self.state(), |state| state.alone);
        let mut state = others.unwrap_or_else(PoisonError::into_inner);
        state.alone = true;
        let alone = Alone(self);
        let under_way = self.changed.wait_timeout_while(state, patience, |state| state.starting > 0);
        let (state, _) = under_way.unwrap_or_else(PoisonError::into_inner);
        let busy = state.starting > 0;
        drop(state);
        if busy {
            let message = format!("a program is being started, and was not executed within {patience:?}");
            return Err(Error::message(ErrorKind::Setup, Step::Fork, message).with_hint(
                "from a task of the thread that starts it, call this in tokio::task::spawn_blocking",
            ));
        }
        Ok(alone)
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.starting -= 1;
        if state.alone && state.starting == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.alone = false;
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        self.0.changed.notify_all();
        tasks.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_is_alone_waits_for_starts_and_holds_them_back() {
        let (starts, over) = (Starts::default(), AtomicBool::new(false));
        let (first, second) = (starts.begin(), starts.begin());
        drop(first);
        thread::scope(|scope| {
            scope.spawn(|| {
                let alone = starts.alone(LONG).unwrap();
                assert!(over.load(Ordering::SeqCst), "while a program was being started");
                over.store(false, Ordering::SeqCst);
                drop(alone);
            });
            thread::sleep(SHORT);
            over.store(true, Ordering::SeqCst);
            drop(second);
        });
        let alone = starts.alone(SHORT).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _start = starts.begin();
                assert!(over.load(Ordering::SeqCst), "while somebody was alone");
            });
            thread::sleep(SHORT);
            over.store(true, Ordering::SeqCst);
            drop(alone);
        });
    }

    #[test]
    fn patience_has_an_end_and_leaves_nothing_behind() {
        let starts = Starts::default();
        let start = starts.begin();
        let error = starts.alone(SHORT).unwrap_err();
        assert!(error.hint().is_some() && error.to_string().contains("being started"), "{error}");
        drop(starts.begin());
        drop(start);
        drop(starts.alone(SHORT).unwrap());
    }

    #[test]
    fn a_task_is_woken_when_it_may_start() {
        struct Task(AtomicBool);
        impl std::task::Wake for Task {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let starts = Starts::default();
        let task = std::sync::Arc::new(Task(AtomicBool::new(false)));
        let waker = Waker::from(std::sync::Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let alone = starts.alone(SHORT).unwrap();
        assert!(starts.poll_begin(&mut context).is_pending());
        assert!(starts.poll_begin(&mut context).is_pending());
        assert_eq!(starts.state().tasks.len(), 1, "one for a task");
        assert!(!task.0.load(Ordering::SeqCst));
        drop(alone);
        assert!(task.0.load(Ordering::SeqCst));
        let Poll::Ready(start) = starts.poll_begin(&mut context) else { panic!("nobody is alone") };
        assert!(starts.alone(SHORT).is_err());
        drop(start);
        drop(starts.alone(SHORT).unwrap());
    }
}
