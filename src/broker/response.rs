//! What a handler says.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// The host's answer to a system call of the program, given by a handler of
/// [`Command::on_syscall`](crate::Command::on_syscall).
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
///
/// use belljar::{Command, Response};
///
/// let mut command = Command::new("/plugin");
/// command.on_syscall(["openat"], |call| match call.read_path(call.args()[1]) {
///     Ok(path) if path.as_os_str() == "/data/today.csv" => File::open("/srv/exports/today.csv").into(),
///     Ok(_) => Response::errno(2), // ENOENT
///     Err(error) => error.into(),
/// });
/// ```
#[derive(Debug)]
#[must_use = "a call without an answer waits for ever"]
pub struct Response(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Errno(i32),
    Value(i64),
    Fd { fd: OwnedFd, place: Place, close_on_exec: bool },
    Proceed,
}

/// Which number a descriptor gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The lowest free one, which the call returns.
    Free,
    /// This one; the call returns 0.
    Number(u32),
}

impl Response {
    /// The call fails with this `errno`, from 1 to 4095; any other number counts as `EPERM`. It was not made.
    pub fn errno(errno: i32) -> Self {
        Self(Kind::Errno(if (1..=4095).contains(&errno) { errno } else { libc::EPERM }))
    }

    /// The call returns this value. It was not made; the handler did in its place whatever was to be done. From -4095 to -1
    /// the program sees a failure.
    pub fn value(value: i64) -> Self {
        Self(Kind::Value(value))
    }

    /// The program gets a copy of this descriptor under the lowest free number, and the call returns that: for `openat`,
    /// `socket` and their like. Putting it there and returning is one act (`SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14); on an older
    /// kernel the call fails with `EPERM`. The kernel takes no `O_PATH` descriptor: the call then fails with `EBADF`.
    ///
    /// The copy shares its position and its flags with the host's, and gives the program what the descriptor can do: see
    /// [`keep_fd`](crate::Command::keep_fd).
    pub fn fd(fd: impl Into<OwnedFd>) -> Self {
        Self(Kind::Fd { fd: fd.into(), place: Place::Free, close_on_exec: true })
    }

    /// The program gets a copy of this descriptor in place of its own of this number, and the call returns 0: for `connect`,
    /// by a socket that the host has connected.
    pub fn replace_fd(number: u32, fd: impl Into<OwnedFd>) -> Self {
        Self(Kind::Fd { fd: fd.into(), place: Place::Number(number), close_on_exec: true })
    }

    /// A descriptor of this response stays open when the program executes another. The default is that it is closed.
    pub fn keep_on_exec(mut self) -> Self {
        if let Kind::Fd { close_on_exec, .. } = &mut self.0 {
            *close_on_exec = false;
        }
        self
    }

    /// The kernel makes the call, as if the filter allowed it.
    ///
    /// Only for decisions by the [registers](crate::Notification::args): whatever they point to is read by the kernel *after*
    /// this answer, and another thread of the program can have changed it. The same goes for the number of a descriptor: what it
    /// stands for then may be another file. A handler that has read the program's memory is
    /// therefore not believed: the call fails with `EPERM`.
    pub fn proceed() -> Self {
        Self(Kind::Proceed)
    }
}

impl From<io::Error> for Response {
    /// The error's `errno`, or `EPERM` if it has none.
    fn from(error: io::Error) -> Self {
        Self::errno(error.raw_os_error().unwrap_or(libc::EPERM))
    }
}

impl From<io::Result<OwnedFd>> for Response {
    fn from(result: io::Result<OwnedFd>) -> Self {
        result.map_or_else(Self::from, Self::fd)
    }
}

impl From<io::Result<File>> for Response {
    fn from(result: io::Result<File>) -> Self {
        result.map_or_else(Self::from, Self::fd)
    }
}
