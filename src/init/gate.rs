//! The gate: where a payload waits while the host does to it what only the host may (real-time scheduling, a higher
//! hard limit). A payload passes it only when the plan says so, after it joined its cgroup and before it gives up its
//! ids.
//!
//! ```text
//! payload: closes its copy of the gate's write end, says so in the status pipe, reads the gate
//! init:    PARKED(pidfd) to the host; reaps nothing, so that the process id stays the payload's
//! host:    acts, PASS
//! init:    a byte into the gate, or SIGKILL when the host refused
//! payload: goes on; or ends when the gate was closed, because the init is gone
//! ```

use crate::sys::{self, Errno, Fd, Owned, Result};

/// What the payload says in its status pipe when it has parked.
const PARKED: u8 = b'p';

/// The init's side.
pub(crate) struct Gate {
    /// A byte here lets the payload go on.
    release: Owned,
    parked: bool,
}

/// The payload's side: both ends of the pipe, for it is a fork of the init.
#[derive(Clone, Copy)]
pub(crate) struct Barrier {
    wait: Fd,
    release: Fd,
}

/// Both sides, and the end that the init need not keep.
pub(crate) fn open() -> Result<(Gate, Barrier, Owned)> {
    let (wait, release) = sys::pipe()?;
    let barrier = Barrier { wait: wait.fd(), release: release.fd() };
    Ok((Gate { release, parked: false }, barrier, wait))
}

impl Barrier {
    /// Parks until the host has done its part.
    pub(crate) fn wait(self, status: Fd) -> Result<()> {
        // Else the death of the init would not end the wait: the pipe would still have a writer, this one. A payload
        // that was forked meanwhile has one as well, but waits behind a gate of its own or closes all it has.
        let release = self.release.0 as u32;
        sys::close_range(release, release)?;
        sys::write_all(status, &[PARKED])?;
        let mut word = [0];
        match sys::read(self.wait, &mut word)? {
            1 => Ok(()),
            _ => Err(Errno::ECANCELED),
        }
    }
}

impl Gate {
    /// Called when the status pipe has something: whether it says that the payload has parked, and not that it closed.
    pub(crate) fn arrives(&mut self, status: Fd) -> Result<bool> {
        let mut word = [0];
        self.parked = sys::read(status, &mut word)? == 1;
        Ok(self.parked)
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked
    }

    /// Lets the payload go on.
    pub(crate) fn open(&self) -> Result<()> {
        match sys::write(self.release.fd(), b"g") {
            // A payload that was killed at the gate reads no more. Its end is seen by the status pipe.
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
