//! The init's only `unsafe`: system calls with typed arguments, and the run-time below them.
//!
//! Every function is safe to call: it takes references, descriptors and plain numbers, and the init has one thread.

#![allow(unsafe_code)]

mod file;
mod identity;
mod listener;
mod landlock;
mod memory;
mod message;
mod mount;
mod process;
mod rt;
mod schedule;
mod sibling;
mod terminal;

#[path = "../../sys/raw.rs"]
mod raw;

use core::ffi::CStr;
use core::num::NonZeroI32;
use core::sync::atomic::{AtomicU64, Ordering};
use raw::nr;

pub(crate) use file::*;
pub(crate) use identity::*;
pub(crate) use listener::*;
pub(crate) use landlock::*;
pub(crate) use memory::*;
pub(crate) use message::*;
pub(crate) use mount::*;
pub(crate) use process::*;
pub(crate) use schedule::*;
pub(crate) use sibling::*;
pub(crate) use terminal::*;

/// An errno, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const ENOENT: Self = Self(2);
    pub(crate) const ESRCH: Self = Self(3);
    pub(crate) const EINTR: Self = Self(4);
    pub(crate) const EBADF: Self = Self(9);
    pub(crate) const ECHILD: Self = Self(10);
    pub(crate) const EAGAIN: Self = Self(11);
    pub(crate) const EACCES: Self = Self(13);
    pub(crate) const EEXIST: Self = Self(17);
    pub(crate) const EBUSY: Self = Self(16);
    pub(crate) const ENODEV: Self = Self(19);
    pub(crate) const ENOTDIR: Self = Self(20);
    pub(crate) const EINVAL: Self = Self(22);
    pub(crate) const ERANGE: Self = Self(34);
    pub(crate) const ENAMETOOLONG: Self = Self(36);
    pub(crate) const ENOSYS: Self = Self(38);
    pub(crate) const ELOOP: Self = Self(40);
    pub(crate) const EPIPE: Self = Self(32);
    pub(crate) const EOPNOTSUPP: Self = Self(95);
    pub(crate) const EPROTO: Self = Self(71);
    pub(crate) const EMFILE: Self = Self(24);
    pub(crate) const EOVERFLOW: Self = Self(75);
    pub(crate) const EPERM: Self = Self(1);
    pub(crate) const ECONNRESET: Self = Self(104);
    pub(crate) const ETXTBSY: Self = Self(26);
    pub(crate) const ETIMEDOUT: Self = Self(110);
    pub(crate) const ECANCELED: Self = Self(125);
}

pub(crate) type Result<T> = core::result::Result<T, Errno>;

fn check(result: isize) -> Result<usize> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// What every call has as its sixth argument that has none of its own: see [`carry`].
static TOKEN: AtomicU64 = AtomicU64::new(0);

/// From now on every call carries this number where it has no sixth argument. A filter that this process is about to install
/// may look for it there.
pub(crate) fn carry(token: u64) {
    TOKEN.store(token, Ordering::Relaxed);
}

/// A system call whose every argument is a plain number.
fn plain(number: usize, args: &[usize]) -> Result<usize> {
    let mut six = [0, 0, 0, 0, 0, TOKEN.load(Ordering::Relaxed) as usize];
    for (slot, arg) in six.iter_mut().zip(args) {
        *slot = *arg;
    }
    // SAFETY: private to this module and its files; every caller there passes numbers, or addresses of live
    // references whose lengths it passes too, to a system call that takes them as such.
    check(unsafe { raw::syscall(number, six) })
}

fn address<T: ?Sized>(reference: &T) -> usize {
    core::ptr::from_ref(reference).cast::<u8>() as usize
}

fn address_mut<T: ?Sized>(reference: &mut T) -> usize {
    core::ptr::from_mut(reference).cast::<u8>() as usize
}

fn text(string: &CStr) -> usize {
    string.as_ptr() as usize
}

/// A file descriptor number, not owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fd(pub(crate) i32);

impl Fd {
    /// Relative to the current directory (`AT_FDCWD`).
    pub(crate) const CWD: Self = Self(-100);

    fn arg(self) -> usize {
        self.0 as usize
    }
}

/// A file descriptor that is closed when dropped. Kept as its complement, which is negative and so never zero: an
/// `Option` of it is four bytes, and a table of a thousand of them one page.
pub(crate) struct Owned(NonZeroI32);

impl Owned {
    pub(crate) fn fd(&self) -> Fd {
        Fd(!self.0.get())
    }

    /// Takes charge of a descriptor number that nothing else owns.
    pub(crate) fn adopt(number: i32) -> Self {
        Self(NonZeroI32::new(!number).unwrap_or(NonZeroI32::MIN))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // EINTR and EIO leave the descriptor closed on Linux (close(2), NOTES), so the result says nothing of use.
        plain(nr::CLOSE, &[self.fd().arg()]).ok();
    }
}

fn owned(result: Result<usize>) -> Result<Owned> {
    Ok(Owned::adopt(result? as i32))
}
