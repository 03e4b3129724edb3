//! The host's end of the control socket: one reader at a time, replies sorted by program, so that any number of
//! threads can wait for programs of one container.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys;
use crate::wire::{CONTAINER, Reply, Request, reply};

/// The connection to one init.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    init: Arc<OwnedFd>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody polls the socket.
    reading: bool,
    /// No more will come.
    closed: bool,
    inbox: BTreeMap<u32, Vec<Message>>,
    /// Programs whose end nobody will ask for.
    forgotten: BTreeSet<u32>,
}

impl State {
    fn keep(&mut self, reply: Reply, fd: Option<OwnedFd>) {
        if matches!(reply.kind, reply::EXITED | reply::FILE) && self.forgotten.remove(&reply.child) {
            return;
        }
        self.inbox.entry(reply.child).or_default().push((reply, fd));
    }

    fn take(&mut self, child: u32) -> Option<Message> {
        let queue = self.inbox.get_mut(&child)?;
        let message = (!queue.is_empty()).then(|| queue.remove(0));
        if queue.is_empty() {
            self.inbox.remove(&child);
        }
        message
    }
}

/// A reply and the descriptor that came with it.
pub(crate) type Message = (Reply, Option<OwnedFd>);

/// What waiting found.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// The time is over.
    Nothing,
    /// The init is gone and said nothing (more) about this.
    Closed,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, init: Arc<OwnedFd>) -> Self {
        Self { socket, init, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The init's pidfd.
    pub(crate) fn init(&self) -> &Arc<OwnedFd> {
        &self.init
    }

    /// Readable when a reply is there.
    pub(crate) fn readiness(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hangs up: the init takes it as the end of the host, kills what runs inside, and exits.
    pub(crate) fn hang_up(&self) {
        use nix::sys::socket::{Shutdown, shutdown};
        // Fails only when the other end is gone already.
        shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.socket), Shutdown::Both).ok();
    }

    /// Sends a request. An init that is gone is not an error here: its last words, or their absence, are.
    pub(crate) fn send(&self, request: &Request, fds: &[RawFd]) -> Result<()> {
        self.send_long(request, &[], fds)
    }

    /// Sends a request and what follows it in the same message.
    pub(crate) fn send_long(&self, request: &Request, tail: &[u8], fds: &[RawFd]) -> Result<()> {
        match sys::send(self.socket.as_fd(), request, tail, fds) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            Err(error) => Err(Error::os(Step::Handshake, "sending a request to the init", error)),
        }
    }

    /// Keeps no report of the end of a program.
    pub(crate) fn forget(&self, child: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .inbox
            .remove(&child)
            .is_none_or(|queue| queue.iter().all(|(reply, _)| reply.kind != reply::EXITED))
        {
            state.forgotten.insert(child);
        }
    }

    /// What the init said of its own end, if it did: it is about every program, so it stays for the next that asks.
    pub(crate) fn last_words(&self) -> Option<Reply> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let about_all = state.inbox.get(&CONTAINER)?;
        about_all.iter().map(|(reply, _)| *reply).find(|reply| reply.kind == reply::FAILED)
    }

    /// Waits for the next reply about `child` until the deadline, or for ever.
    pub(crate) fn receive(&self, child: u32, deadline: Option<Instant>) -> Result<Received> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(message) = state.take(child) {
                return Ok(Received::Message(message));
            }
            if state.closed {
                return Ok(Received::Closed);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if state.reading {
                if left == Some(Duration::ZERO) {
                    return Ok(Received::Nothing);
                }
                state = match left {
                    None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => {
                        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            }
            state.reading = true;
            drop(state);
            let ready = self.poll(left);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.reading = false;
            let woken = ready
                .map_err(|error| Error::os(Step::Wait, "polling the init", error))
                .and_then(|ready| if ready { self.drain(&mut state).map(|()| true) } else { Ok(false) });
            self.changed.notify_all();
            if !woken? && left == Some(Duration::ZERO) {
                return Ok(Received::Nothing);
            }
        }
    }

    /// Waits until the socket has something, or the init is gone.
    fn poll(&self, left: Option<Duration>) -> io::Result<bool> {
        // Rounded up: polling for 0 ms while a fraction is left would spin.
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(left) => {
                PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut set = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.init.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut set, timeout) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes everything that is there. With nothing there, the init's death was what woke us.
    fn drain(&self, state: &mut State) -> Result<()> {
        let mut found = false;
        loop {
            match sys::receive::<Reply>(self.socket.as_fd()) {
                Ok(Some((reply, fd))) => {
                    found = true;
                    state.keep(reply, fd);
                }
                Ok(None) => {
                    state.closed = true;
                    return Ok(());
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        state.closed |= !found;
                        return Ok(());
                    }
                    // Reported once, before what is still queued, when the init died without reading our last request.
                    Some(libc::ECONNRESET | libc::EINTR) => {}
                    _ => {
                        state.closed = true;
                        // A message of another size is no errno: the init has broken its promise.
                        let broken = error.raw_os_error().is_none();
                        let error = Error::os(Step::Wait, "reading from the init", error);
                        return Err(if broken { error.with_kind(ErrorKind::Internal) } else { error });
                    }
                },
            }
        }
    }
}
