//! Where descriptors live.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

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

/// Locks one byte of an open file (`F_RDLCK`, `F_WRLCK`) or unlocks it (`F_UNLCK`), also from the one kind of lock to the other in
/// one step. Whoever has a copy of the descriptor has the lock, which ends with the last of them (fcntl(2), "Open file
/// description locks"). `Ok(false)`: somebody else has it.
pub(crate) fn try_lock_byte(file: &File, byte: i64, kind: libc::c_int) -> nix::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&one_byte(byte, kind)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The same, once nobody else has it.
#[cfg(feature = "net")]
pub(crate) fn lock_byte(file: &File, byte: i64, kind: libc::c_int) -> nix::Result<()> {
    let range = one_byte(byte, kind)?;
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&range)) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn one_byte(byte: i64, kind: libc::c_int) -> nix::Result<libc::flock> {
    let l_type = libc::c_short::try_from(kind).map_err(|_| Errno::EINVAL)?;
    // The process id must be 0 for locks of an open file description, and 0 is SEEK_SET.
    Ok(libc::flock { l_type, l_whence: 0, l_start: byte, l_len: 1, l_pid: 0 })
}

/// Whether a standard stream is open and meant to be inherited. In a host with closed stdio the kernel hands out 0 to 2
/// to whoever opens a file next, this library or the host; but that is close-on-exec, as a standard stream never is.
pub(crate) fn is_inheritable(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes a number and touches nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}
