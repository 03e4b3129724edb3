//! Calls that wait for a container or for room, in the order in which they came, of threads and of tasks.
//!
//! What becomes free calls one of them, and that one looks. Who was called and goes away without having looked passes the
//! call on: a task may be dropped at any time.

use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    /// By their tickets. `None`: it was called, and has not looked since.
    all: BTreeMap<u64, Option<Waker>>,
    /// Those that have to be woken once the lock is free: waking may run anything.
    due: Vec<Waker>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One more waits. It has looked, and there was nothing.
    pub(super) fn enter(&mut self, waker: &Waker) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.all.insert(ticket, Some(waker.clone()));
        ticket
    }

    /// It has looked again, there was nothing for it, and it keeps its place.
    pub(super) fn stay(&mut self, ticket: u64, waker: &Waker) {
        match self.all.entry(ticket).or_default() {
            Some(known) => known.clone_from(waker),
            called => *called = Some(waker.clone()),
        }
    }

    /// It has got what it waited for.
    pub(super) fn served(&mut self, ticket: u64) {
        self.all.remove(&ticket);
    }

    /// It goes away with nothing.
    pub(super) fn leave(&mut self, ticket: u64) {
        if let Some(None) = self.all.remove(&ticket) {
            self.call_one();
        }
    }

    /// Something has become free.
    pub(super) fn call_one(&mut self) {
        self.due.extend(self.all.values_mut().find_map(Option::take));
    }

    /// Something is to be told to all of them.
    pub(super) fn call_all(&mut self) {
        self.due.extend(self.all.values_mut().filter_map(Option::take));
    }

    /// Those to wake, without the lock.
    pub(super) fn due(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Call(AtomicUsize);

    impl Wake for Call {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many who wait: their tickets, and how often each was woken.
    fn waiting<const N: usize>(waiters: &mut Waiters) -> [(u64, Arc<Call>); N] {
        [(); N].map(|()| {
            let call = Arc::new(Call::default());
            (waiters.enter(&Arc::clone(&call).into()), call)
        })
    }

    fn woken<const N: usize>(waiters: &mut Waiters, all: &[(u64, Arc<Call>); N]) -> [usize; N] {
        waiters.due().into_iter().for_each(Waker::wake);
        all.each_ref().map(|(_, call)| call.0.load(Ordering::Relaxed))
    }

    #[test]
    fn one_call_wakes_one_and_the_first_that_came() {
        let mut waiters = Waiters::default();
        let all = waiting::<3>(&mut waiters);
        waiters.call_one();
        assert!(all.iter().all(|(_, call)| call.0.load(Ordering::Relaxed) == 0), "not under the lock");
        assert_eq!(woken(&mut waiters, &all), [1, 0, 0]);
        waiters.call_one();
        assert_eq!(woken(&mut waiters, &all), [1, 1, 0]);
        // There was nothing for the first, which is still the first.
        waiters.stay(all[0].0, &Arc::clone(&all[0].1).into());
        waiters.call_one();
        assert_eq!(woken(&mut waiters, &all), [2, 1, 0]);
    }

    #[test]
    fn who_goes_away_passes_the_call_on() {
        let mut waiters = Waiters::default();
        let all = waiting::<4>(&mut waiters);
        // One that was not called has nothing to pass on.
        waiters.leave(all[1].0);
        assert_eq!(woken(&mut waiters, &all), [0, 0, 0, 0]);
        waiters.call_one();
        waiters.leave(all[0].0);
        assert_eq!(woken(&mut waiters, &all), [1, 0, 1, 0]);
        // Nor has one that was served.
        waiters.served(all[2].0);
        assert_eq!(woken(&mut waiters, &all), [1, 0, 1, 0]);
        waiters.call_one();
        waiters.leave(all[3].0);
        assert!(waiters.is_empty());
        assert_eq!(woken(&mut waiters, &all), [1, 0, 1, 1]);
    }

    #[test]
    fn the_last_waker_counts() {
        let mut waiters = Waiters::default();
        let [(ticket, old), (_, new)] = waiting::<2>(&mut waiters);
        waiters.stay(ticket, &Arc::clone(&new).into());
        waiters.call_one();
        let woken = woken(&mut waiters, &[(ticket, old), (ticket, new)]);
        assert_eq!(woken, [0, 1]);
    }

    #[test]
    fn all_are_told_once() {
        let mut waiters = Waiters::default();
        let all = waiting::<3>(&mut waiters);
        waiters.call_one();
        waiters.call_all();
        waiters.call_all();
        assert_eq!(woken(&mut waiters, &all), [1, 1, 1]);
        assert!(!waiters.is_empty(), "they have not looked yet");
    }
}
