//! What the init has said, sorted by the program that it is about, and who waits for it.
//!
//! Nothing here touches a socket. Threads and tasks may wait at the same time: one *thread* at most reads the socket and
//! tells everybody; while none does, each *task* that is woken by the socket reads it for itself and for the others.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::task::Waker;

use super::{Message, Received};
use crate::wire::{CONTAINER, Reply, reply};

#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// A thread waits at the socket.
    reading: bool,
    /// How many threads wait for that one.
    pub(super) followers: usize,
    /// No more will come.
    closed: bool,
    /// A payload that waits for a command: its ticket, and where, unless there was no number for that channel here.
    pub(super) prepared: Option<(u32, Option<OwnedFd>)>,
    messages: BTreeMap<u32, VecDeque<Message>>,
    forgotten: BTreeMap<u32, Forgotten>,
    /// The tasks that wait, by the program that they wait for.
    tasks: BTreeMap<u32, Waker>,
    /// Those that have to be woken once the lock is free: waking may run anything.
    due: Vec<Waker>,
}

/// What is still to come of a program that nobody will ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// The answer to a request, and the end if it was started.
    Asked,
    /// The end.
    Started,
}

impl Forgotten {
    /// What is still to come after this; `None` for nothing.
    fn after(self, kind: u32) -> Option<Self> {
        match (self, kind) {
            (_, reply::EXITED | reply::FILE) | (Self::Asked, reply::FAILED) => None,
            (_, reply::STARTED) => Some(Self::Started),
            // A failure of something that runs is told before its end.
            (unchanged, _) => Some(unchanged),
        }
    }
}

impl Inbox {
    /// A message came.
    pub(super) fn keep(&mut self, reply: Reply, fd: Option<OwnedFd>) {
        if reply.kind == reply::PREPARED {
            // Nobody waits for it.
            self.prepared = Some((reply.pid, fd));
            return;
        }
        if let Some(forgotten) = self.forgotten.remove(&reply.child) {
            if let Some(rest) = forgotten.after(reply.kind) {
                self.forgotten.insert(reply.child, rest);
            }
            return;
        }
        self.due.extend(self.tasks.remove(&reply.child));
        self.messages.entry(reply.child).or_default().push_back((reply, fd));
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.call_all();
    }

    /// What there is about a program: its next message, or that there will be none.
    pub(super) fn take(&mut self, child: u32) -> Option<Received> {
        let Some(queue) = self.messages.get_mut(&child) else {
            return self.closed.then_some(Received::Closed);
        };
        let message = queue.pop_front();
        if queue.is_empty() {
            self.messages.remove(&child);
        }
        message.map(Received::Message)
    }

    /// Drops what there is about a program, and what will come.
    pub(super) fn forget(&mut self, child: u32, what: Forgotten) {
        self.tasks.remove(&child);
        let queue = self.messages.remove(&child).unwrap_or_default();
        let rest = queue.iter().try_fold(what, |rest, (reply, _)| rest.after(reply.kind));
        if let Some(rest) = rest.filter(|_| !self.closed) {
            self.forgotten.insert(child, rest);
        }
    }

    /// What the init said of its own end.
    pub(super) fn last_words(&self) -> Option<Reply> {
        let about_all = self.messages.get(&CONTAINER)?;
        about_all.iter().map(|(reply, _)| *reply).find(|reply| reply.kind == reply::FAILED)
    }

    /// Whether a thread waits at the socket.
    pub(super) fn is_read(&self) -> bool {
        self.reading
    }

    /// A thread begins to wait at the socket.
    pub(super) fn begin_reading(&mut self) {
        self.reading = true;
    }

    /// It does not wait any more. What comes from now on it does not tell to tasks, which have let it do the reading.
    pub(super) fn end_reading(&mut self) {
        self.reading = false;
        self.call_all();
    }

    /// Has a task woken when there may be news of a program. One task waits for each.
    #[cfg(any(test, feature = "tokio"))]
    pub(super) fn wake_for(&mut self, child: u32, waker: &Waker) {
        match self.tasks.get_mut(&child) {
            Some(known) => known.clone_from(waker),
            None => drop(self.tasks.insert(child, waker.clone())),
        }
    }

    fn call_all(&mut self) {
        self.due.extend(std::mem::take(&mut self.tasks).into_values());
    }

    /// The tasks to wake, without the lock.
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
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn said(kind: u32, child: u32) -> Reply {
        Reply { kind, child, ..Reply::default() }
    }

    fn kind_of(received: Option<Received>) -> Option<u32> {
        match received? {
            Received::Message((reply, _)) => Some(reply.kind),
            Received::Nothing | Received::Closed => Some(u32::MAX),
        }
    }

    fn wake(inbox: &mut Inbox) {
        inbox.due().into_iter().for_each(Waker::wake);
    }

    #[test]
    fn messages_are_sorted_and_stay_in_order() {
        let mut inbox = Inbox::default();
        for (kind, child) in
            [(reply::STARTED, 1), (reply::STARTED, 2), (reply::EXITED, 2), (reply::EXITED, 1)]
        {
            inbox.keep(said(kind, child), None);
        }
        assert_eq!(kind_of(inbox.take(2)), Some(reply::STARTED));
        assert_eq!(kind_of(inbox.take(1)), Some(reply::STARTED));
        assert_eq!(kind_of(inbox.take(1)), Some(reply::EXITED));
        assert!(inbox.take(1).is_none() && inbox.take(3).is_none());
        inbox.close();
        assert_eq!(kind_of(inbox.take(2)), Some(reply::EXITED), "what was said counts after the end, too");
        assert!(matches!(inbox.take(2), Some(Received::Closed)));
    }

    #[test]
    fn a_task_is_woken_by_what_it_waits_for() {
        let (first, second) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let mut inbox = Inbox::default();
        inbox.wake_for(1, &Arc::clone(&first).into());
        inbox.wake_for(2, &Arc::clone(&second).into());
        inbox.keep(said(reply::EXITED, 1), None);
        inbox.keep(said(reply::EXITED, 3), None);
        assert_eq!((first.woken(), second.woken()), (0, 0), "not under the lock");
        wake(&mut inbox);
        assert_eq!((first.woken(), second.woken()), (1, 0));
        inbox.close();
        wake(&mut inbox);
        assert_eq!((first.woken(), second.woken()), (1, 1), "once each");
    }

    #[test]
    fn the_last_waker_of_a_program_counts() {
        let (old, new) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let mut inbox = Inbox::default();
        inbox.wake_for(1, &Arc::clone(&old).into());
        inbox.wake_for(1, &Arc::clone(&new).into());
        inbox.keep(said(reply::EXITED, 1), None);
        wake(&mut inbox);
        assert_eq!((old.woken(), new.woken()), (0, 1));
    }

    #[test]
    fn tasks_look_for_themselves_when_the_reading_thread_leaves() {
        let task = Arc::new(Task::default());
        let mut inbox = Inbox::default();
        assert!(!inbox.is_read());
        inbox.begin_reading();
        assert!(inbox.is_read());
        inbox.wake_for(1, &Arc::clone(&task).into());
        inbox.end_reading();
        wake(&mut inbox);
        assert_eq!(task.woken(), 1);
    }

    #[test]
    fn a_forgotten_program_leaves_nothing() {
        for (what, said_before, said_after) in [
            (Forgotten::Started, vec![], vec![reply::EXITED]),
            (Forgotten::Started, vec![reply::EXITED], vec![]),
            (Forgotten::Started, vec![reply::FAILED], vec![reply::EXITED]),
            (Forgotten::Asked, vec![], vec![reply::STARTED, reply::EXITED]),
            (Forgotten::Asked, vec![reply::PARKED], vec![reply::STARTED, reply::FAILED, reply::EXITED]),
            (Forgotten::Asked, vec![reply::LISTENER, reply::STARTED], vec![reply::EXITED]),
            (Forgotten::Asked, vec![], vec![reply::FAILED]),
            (Forgotten::Asked, vec![reply::FAILED], vec![]),
            (Forgotten::Asked, vec![], vec![reply::FILE]),
        ] {
            let mut inbox = Inbox::default();
            said_before.iter().for_each(|kind| inbox.keep(said(*kind, 7), None));
            inbox.forget(7, what);
            assert_eq!(inbox.forgotten.contains_key(&7), !said_after.is_empty(), "{what:?} {said_before:?}");
            for kind in &said_after {
                assert!(inbox.forgotten.contains_key(&7), "{what:?} {said_before:?}: {said_after:?}");
                inbox.keep(said(*kind, 7), None);
            }
            assert!(inbox.messages.is_empty() && inbox.forgotten.is_empty(), "{what:?} {said_after:?}");
            // The positive control: another one is heard.
            inbox.keep(said(reply::EXITED, 8), None);
            assert_eq!(kind_of(inbox.take(8)), Some(reply::EXITED));
        }
    }

    #[test]
    fn nobody_is_waited_for_after_the_end() {
        let mut inbox = Inbox::default();
        inbox.close();
        inbox.forget(7, Forgotten::Started);
        assert!(inbox.forgotten.is_empty());
    }
}
