//! The host's side of a filter's listener: `struct seccomp_notif` and its ioctls. See seccomp_unotify(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `struct seccomp_notif` of `<linux/seccomp.h>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeccompNotification {
    /// Names the call, and never another.
    pub(crate) id: u64,
    /// The thread, by its id in this process's PID namespace; 0 if it has none there.
    pub(crate) thread: u32,
    flags: u32,
    pub(crate) number: u32,
    arch: u32,
    instruction_pointer: u64,
    pub(crate) args: [u64; 6],
}
const _: () = assert!(size_of::<SeccompNotification>() == 80);

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}
const _: () = assert!(size_of::<Response>() == 24);

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}
const _: () = assert!(size_of::<AddFd>() == 24);

const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const ID_VALID: libc::Ioctl = 0x4008_2102;
const ADD_FD: libc::Ioctl = 0x4018_2103;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`, Linux 5.5.
const CONTINUE: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SETFD`: under a number of our choice.
const SET_FD: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14: the call returns with it, and nothing can happen in between.
const ADD_AND_SEND: u32 = 2;

/// Takes the next call. Waits if there is none; the caller has polled.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<SeccompNotification> {
    let mut notification = SeccompNotification::default();
    // SAFETY: the ioctl takes a zeroed `struct seccomp_notif`, which this is by layout (its size is asserted), and writes it.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notification) };
    Errno::result(result)?;
    Ok(notification)
}

/// Whether the thread of the call still waits.
pub(crate) fn is_notification_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the ioctl reads one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID, &raw const id) == 0 }
}

/// Lets the call return a value, or fail with an errno if that is not 0.
pub(crate) fn answer_notification(
    listener: BorrowedFd<'_>,
    id: u64,
    value: i64,
    errno: i32,
) -> io::Result<()> {
    respond(listener, &Response { id, value, error: -errno, flags: 0 })
}

/// Lets the kernel carry the call out as if there were no filter.
pub(crate) fn continue_notification(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    respond(listener, &Response { id, value: 0, error: 0, flags: CONTINUE })
}

fn respond(listener: BorrowedFd<'_>, response: &Response) -> io::Result<()> {
    // SAFETY: the ioctl reads one `struct seccomp_notif_resp`, which this is by layout.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, std::ptr::from_ref(response)) };
    Errno::result(result)?;
    Ok(())
}

/// Puts a copy of a descriptor into the process of the call, which returns its number.
pub(crate) fn answer_with_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: impl AsFd,
    close_on_exec: bool,
) -> io::Result<()> {
    add_fd(listener, id, fd, ADD_AND_SEND, 0, close_on_exec)
}

/// Puts a copy of a descriptor into the process of the call, in place of what has this number there.
pub(crate) fn replace_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: impl AsFd,
    number: u32,
    close_on_exec: bool,
) -> io::Result<()> {
    add_fd(listener, id, fd, SET_FD, number, close_on_exec)
}

fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: impl AsFd,
    flags: u32,
    number: u32,
    close_on_exec: bool,
) -> io::Result<()> {
    let source = u32::try_from(fd.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let number_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
    let request = AddFd { id, flags, source, number, number_flags };
    // SAFETY: the ioctl reads one `struct seccomp_notif_addfd`, which this is by layout.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), ADD_FD, &raw const request) };
    Errno::result(result)?;
    Ok(())
}

/// Whether the process has a thread of this id. Both are ids of this process's PID namespace.
pub(crate) fn has_thread(process: u32, thread: u32) -> bool {
    // SAFETY: signal 0 sends nothing, and the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
}
