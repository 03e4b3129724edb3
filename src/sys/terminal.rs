//! The size of a terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets rows, columns, and the same in pixels.
pub(crate) fn set_terminal_size(terminal: &impl AsFd, size: [u16; 4]) -> io::Result<()> {
    let [ws_row, ws_col, ws_xpixel, ws_ypixel] = size;
    let size = libc::winsize { ws_row, ws_col, ws_xpixel, ws_ypixel };
    // SAFETY: TIOCSWINSZ reads a `winsize`, and this one lives beyond the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Rows, columns, and the same in pixels.
pub(crate) fn terminal_size(terminal: &impl AsFd) -> io::Result<[u16; 4]> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a `winsize`, and this one lives beyond the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel])
}
