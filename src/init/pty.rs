//! A new pseudo-terminal for a program, of the sandbox's own devpts.
//!
//! No path of the sandbox is looked up for it: `ptmx` is opened in the very mount that setup has made, whatever a program
//! has put at `/dev/pts` or `/dev/ptmx` since, and the other end comes from the kernel by that descriptor. It must be what
//! it claims to be all the same.

use crate::sys::{self, Errno, Fd, Owned, Result};
use crate::wire::Request;

const DEVPTS_MAGIC: u64 = 0x1cd1;
/// Major 5, minor 2.
const PTMX: u64 = 5 << 32 | 2;

/// Both ends.
pub(crate) struct Pty {
    pub(crate) master: Owned,
    pub(crate) slave: Owned,
}

/// Makes one with the size and the owner that the request says.
pub(crate) fn open(devpts: Fd, request: &Request) -> Result<Pty> {
    let resolve = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS | sys::RESOLVE_NO_XDEV;
    let master = sys::open2(devpts, c"ptmx", sys::O_RDWR | sys::O_NOCTTY, resolve)?;
    let stat = sys::stat(master.fd())?;
    if sys::filesystem_of(master.fd())? != DEVPTS_MAGIC || !stat.is_character_device() || stat.rdev != PTMX {
        return Err(Errno::ENODEV);
    }
    sys::unlock_terminal(master.fd())?;
    sys::set_terminal_size(master.fd(), request.terminal_size)?;
    let slave = sys::open_terminal(master.fd())?;
    sys::chown_file(slave.fd(), request.uid, request.gid)?;
    Ok(Pty { master, slave })
}
