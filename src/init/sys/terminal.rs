//! Pseudo-terminals.

use super::{Fd, O_CLOEXEC, O_NOCTTY, O_RDWR, Owned, Result, address, nr, owned, plain};

/// Lets the other end of a master be opened.
pub(crate) fn unlock_terminal(master: Fd) -> Result<()> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    plain(nr::IOCTL, &[master.arg(), TIOCSPTLCK, address(&0_i32)]).map(drop)
}

/// Opens the other end of a master (Linux 4.13), and does not take it for a controlling terminal.
pub(crate) fn open_terminal(master: Fd) -> Result<Owned> {
    const TIOCGPTPEER: usize = 0x5441;
    owned(plain(nr::IOCTL, &[master.arg(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC]))
}

/// Rows, columns, and the same in pixels: `struct winsize`.
pub(crate) fn set_terminal_size(terminal: Fd, size: [u16; 4]) -> Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    plain(nr::IOCTL, &[terminal.arg(), TIOCSWINSZ, address(&size)]).map(drop)
}

/// Makes it the controlling terminal of this session, whose leader this process is.
pub(crate) fn control_terminal(terminal: Fd) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    plain(nr::IOCTL, &[terminal.arg(), TIOCSCTTY, 0]).map(drop)
}
