//! The bytes between a program and its connection: one thread, a buffer for each direction.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, setsockopt, shutdown, sockopt};

/// What the host holds of one direction at most.
const BUFFER: usize = 64 << 10;
/// How long what the program wrote last may take to go out when nobody has its end any more.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Both ends of what lies between, and what is on its way.
pub(super) struct Relay {
    /// The host's end of the pair that the program has the other end of.
    near: OwnedFd,
    far: Arc<TcpStream>,
    out: Flow,
    back: Flow,
}

impl Relay {
    pub(super) fn new(near: OwnedFd, far: Arc<TcpStream>) -> io::Result<Self> {
        // A byte out of band is one of the stream, for it would be lost otherwise.
        setsockopt(&near, sockopt::OobInline, &true)?;
        setsockopt(&far, sockopt::OobInline, &true)?;
        Ok(Self { near, far, out: Flow::new(), back: Flow::new() })
    }

    /// Moves bytes until both directions have ended, or nobody has the program's end any more and what it wrote is delivered.
    pub(super) fn run(mut self) {
        let (near, far) = (self.near.as_fd(), self.far.as_fd());
        let mut give_up_at: Option<Instant> = None;
        while !self.out.is_closed || !(self.back.is_closed || give_up_at.is_some()) {
            let left = give_up_at.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let is_gone = left.is_some();
            let wanted_near = self.out.wanted_from() | self.back.wanted_to();
            let wanted_far = self.back.wanted_from() | self.out.wanted_to();
            // Only what is waited for is looked at, or an end that was seen already would wake us for ever. That nobody has the
            // program's end any more has to be seen whatever else is waited for, and is seen once.
            let mut set = Vec::with_capacity(2);
            if !is_gone {
                set.push(PollFd::new(near, wanted_near));
            }
            if !wanted_far.is_empty() {
                set.push(PollFd::new(far, wanted_far));
            }
            // What the program has left behind is there to be read.
            let patience = match left {
                Some(_) if !self.out.wanted_from().is_empty() => PollTimeout::ZERO,
                Some(left) => {
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
                None => PollTimeout::NONE,
            };
            match poll(&mut set, patience) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break,
            }
            let end = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            if !is_gone && set.first().and_then(PollFd::revents).is_some_and(|events| events.intersects(end))
            {
                give_up_at = Some(Instant::now() + LAST_WORDS);
            }
            self.out.step(near, far);
            self.back.step(far, near);
        }
        if !self.out.is_closed {
            // The peer must not take a part for all: closing is a reset.
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&far, sockopt::Linger, &at_once).ok();
            return;
        }
        // A copy of these descriptors in a process that the host has forked must not keep the connection open.
        for end in [near, far] {
            shutdown(end.as_raw_fd(), Shutdown::Both).ok();
        }
    }
}

/// One direction.
struct Flow {
    buffer: Box<[u8]>,
    /// What was taken and not given yet.
    start: usize,
    end: usize,
    is_closed: bool,
}

impl Flow {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, is_closed: false }
    }

    fn has_bytes(&self) -> bool {
        self.start < self.end
    }

    fn wanted_from(&self) -> PollFlags {
        if self.is_closed || self.has_bytes() { PollFlags::empty() } else { PollFlags::POLLIN }
    }

    fn wanted_to(&self) -> PollFlags {
        if self.has_bytes() { PollFlags::POLLOUT } else { PollFlags::empty() }
    }

    /// Moves what can be moved without waiting. The end of what there is to take, or of whoever takes it, ends this direction
    /// for both, and leaves the other as it is.
    fn step(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
        if self.is_closed {
            return;
        }
        if !self.has_bytes() {
            // Descriptors that come along are nobody's, and the kernel closes them.
            match recv(from.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(count) if count > 0 => (self.start, self.end) = (0, count),
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Ok(_) | Err(_) => {
                    self.is_closed = true;
                    shutdown(to.as_raw_fd(), Shutdown::Write).ok();
                    return;
                }
            }
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(to.as_raw_fd(), &self.buffer[self.start..self.end], flags) {
            Ok(count) => self.start += count,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                (self.start, self.end, self.is_closed) = (0, 0, true);
                shutdown(from.as_raw_fd(), Shutdown::Read).ok();
            }
        }
    }
}
