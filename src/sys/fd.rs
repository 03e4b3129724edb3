//! Where descriptors live.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Moves a descriptor of ours above 3. In a host with closed stdio the kernel hands out 0 to 2, and whatever the host
/// prints next would go into it; and the launcher overwrites 0 to 3 in the child.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    const LOWEST: libc::c_int = 4;
    if fd.as_raw_fd() >= LOWEST {
        return Ok(fd);
    }
    // SAFETY: F_DUPFD_CLOEXEC on a descriptor that is open takes a number and returns a new descriptor.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Locks an open file or directory by `flock(2)`, for as long as any copy of the descriptor is open, in whatever process.
pub(crate) fn lock(fd: BorrowedFd<'_>, how: i32) -> io::Result<()> {
    // SAFETY: flock(2) takes a descriptor, which is open as long as it is borrowed, and a number.
    if unsafe { libc::flock(fd.as_raw_fd(), how) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a standard stream is open and meant to be inherited. In a host with closed stdio the kernel hands out 0 to 2
/// to whoever opens a file next, this library or the host; but that is close-on-exec, as a standard stream never is.
pub(crate) fn is_inheritable(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes a number and touches nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}
