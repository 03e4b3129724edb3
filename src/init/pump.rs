//! Captured output: from the program's pipe to the host's file, under a budget, so that a host that is not reading
//! cannot make a healthy program time out, and a flood cannot fill the host.

use crate::sys::{self, Errno, Fd, Owned, Result};

/// One read. Also the most that is read beyond a budget before the program is killed.
const CHUNK: usize = 16 * 1024;

/// One captured stream.
pub(crate) struct Pump {
    from: Owned,
    to: Owned,
    /// Bytes that may still be written.
    budget: u64,
    /// Bytes that the program wrote, as far as they were read.
    pub(crate) seen: u64,
}

/// What a step of a pump found.
pub(crate) enum Flow {
    /// Something was moved; there may be more.
    More,
    /// Nothing to read now.
    Idle,
    /// Every writer is gone.
    Closed,
    /// More was written than the budget allows.
    Exceeded,
    /// Something is lost.
    Failed(Errno),
}

impl Pump {
    pub(crate) fn new(from: Owned, to: Owned, budget: u64) -> Result<Self> {
        sys::set_nonblocking(from.fd())?;
        Ok(Self { from, to, budget, seen: 0 })
    }

    pub(crate) fn fd(&self) -> Fd {
        self.from.fd()
    }

    /// What the pipe holds now.
    pub(crate) fn waiting(&self) -> Result<u64> {
        sys::bytes_in_pipe(self.from.fd()).map(|count| count as u64)
    }

    /// Moves one chunk. `shared` is a budget common to several streams.
    pub(crate) fn step(&mut self, shared: &mut u64) -> Flow {
        let mut buffer = [0_u8; CHUNK];
        let count = match sys::read(self.from.fd(), &mut buffer) {
            Ok(0) => return Flow::Closed,
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Flow::Idle,
            Err(errno) => return Flow::Failed(errno),
        };
        self.seen = self.seen.saturating_add(count as u64);
        let room = usize::try_from(self.budget.min(*shared)).unwrap_or(usize::MAX).min(count);
        self.budget -= room as u64;
        *shared -= room as u64;
        if let Err(errno) = sys::write_all(self.to.fd(), buffer.get(..room).unwrap_or(&[])) {
            return Flow::Failed(errno);
        }
        if room < count { Flow::Exceeded } else { Flow::More }
    }
}
