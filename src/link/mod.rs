//! The host's end of the control socket: one reader at a time, replies sorted by program, so that any number of
//! threads and tasks can wait for programs of one container.

mod inbox;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) use self::inbox::Forgotten;
use self::inbox::Inbox;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys;
use crate::wire::{Reply, Request};

/// The connection to one init.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    init: Arc<OwnedFd>,
    inbox: Mutex<Inbox>,
    changed: Condvar,
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
        Self { socket, init, inbox: Mutex::default(), changed: Condvar::new() }
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

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps no more of what the init says about a program.
    pub(crate) fn forget(&self, child: u32, what: Forgotten) {
        self.inbox().forget(child, what);
    }

    /// What the init said of its own end, if it did: it is about every program, so it stays for the next that asks.
    pub(crate) fn last_words(&self) -> Option<Reply> {
        self.inbox().last_words()
    }

    /// A payload that waits for a command, if there is news of one: its ticket, and the channel that it waits at. Without
    /// that it can be given its command by the init, which has to be told the ticket.
    pub(crate) fn take_prepared(&self) -> Option<(u32, Option<OwnedFd>)> {
        let mut inbox = self.inbox();
        if inbox.prepared.is_none() && !inbox.is_read() {
            // Whatever else there is to be said of the socket is for those who wait at it.
            while let Ok(Some((reply, fd))) = sys::receive::<Reply>(self.socket.as_fd()) {
                inbox.keep(reply, fd);
            }
        }
        let prepared = inbox.prepared.take();
        let due = inbox.due();
        drop(inbox);
        due.into_iter().for_each(Waker::wake);
        prepared
    }

    /// Waits for the next reply about `child` until the deadline, or for ever.
    pub(crate) fn receive(&self, child: u32, deadline: Option<Instant>) -> Result<Received> {
        let mut inbox = self.inbox();
        loop {
            if let Some(received) = inbox.take(child) {
                return Ok(received);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if inbox.is_read() {
                if left == Some(Duration::ZERO) {
                    return Ok(Received::Nothing);
                }
                inbox.followers += 1;
                inbox = match left {
                    None => self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => {
                        self.changed.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                inbox.followers -= 1;
                continue;
            }
            inbox.begin_reading();
            drop(inbox);
            let ready = self.poll(left);
            inbox = self.inbox();
            inbox.end_reading();
            let woken = ready
                .map_err(polling_failed)
                .and_then(|ready| if ready { self.drain(&mut inbox).map(|()| true) } else { Ok(false) });
            // Each is a system call, even if nobody waits.
            if inbox.followers > 0 {
                self.changed.notify_all();
            }
            let due = inbox.due();
            if !due.is_empty() {
                drop(inbox);
                due.into_iter().for_each(Waker::wake);
                inbox = self.inbox();
            }
            if !woken? && left == Some(Duration::ZERO) {
                return Ok(Received::Nothing);
            }
        }
    }

    /// The next reply about `child`, or nothing yet: then the task is woken when another thread or task has read one. It
    /// has to come again, too, when [`readiness`](Link::readiness) or the [init's pidfd](Link::init) has news, and must
    /// have asked for those before: whoever asks reads for everybody.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_receive(&self, child: u32, context: &mut Context<'_>) -> Poll<Result<Received>> {
        let mut inbox = self.inbox();
        let mut received = inbox.take(child);
        let mut looked = Ok(());
        if received.is_none() && !inbox.is_read() {
            looked = match self.poll(Some(Duration::ZERO)) {
                Ok(true) => self.drain(&mut inbox),
                Ok(false) => Ok(()),
                Err(error) => Err(polling_failed(error)),
            };
            received = inbox.take(child);
        }
        if received.is_none() && looked.is_ok() {
            inbox.wake_for(child, context.waker());
        }
        // No thread can be waiting for this: the one that reads would have been in our way.
        let due = inbox.due();
        drop(inbox);
        due.into_iter().for_each(Waker::wake);
        match (looked, received) {
            (Err(error), _) => Poll::Ready(Err(error)),
            (Ok(()), Some(received)) => Poll::Ready(Ok(received)),
            (Ok(()), None) => Poll::Pending,
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
    fn drain(&self, inbox: &mut Inbox) -> Result<()> {
        let mut found = false;
        loop {
            match sys::receive::<Reply>(self.socket.as_fd()) {
                Ok(Some((reply, fd))) => {
                    found = true;
                    inbox.keep(reply, fd);
                }
                Ok(None) => {
                    inbox.close();
                    return Ok(());
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        if !found {
                            inbox.close();
                        }
                        return Ok(());
                    }
                    // Reported once, before what is still queued, when the init died without reading our last request.
                    Some(libc::ECONNRESET | libc::EINTR) => {}
                    _ => {
                        inbox.close();
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

fn polling_failed(error: io::Error) -> Error {
    Error::os(Step::Wait, "polling the init", error)
}
