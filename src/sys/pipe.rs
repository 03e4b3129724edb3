//! What is inside a pipe.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many bytes nobody has read yet; either end may ask. See `FIONREAD` in `ioctl_list(2)`.
pub(crate) fn unread(pipe: impl AsFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which is alive; a descriptor that is no pipe answers an errno or its own count.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::try_from(count).unwrap_or(0)) }
}
