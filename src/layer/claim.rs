//! Locks between processes. All are `flock(2)`: the kernel drops them when their process dies, however it dies.
//!
//! A lock is on something that may be removed by who holds it, so whoever gets one looks whether what it is on is still
//! there, and tries again if not.
//!
//! Nobody unlocks: the descriptor is closed. A forked copy of the host has copies of the descriptors, and what it drops
//! must not unlock what the host has in use. The price: a process that the host is just starting has them too, until it
//! executes, and for that moment a collector leaves a layer that nobody needs any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::{dir, storing};
use crate::error::{Error, Result, Step};
use crate::removal;
use crate::sys;

/// A name in the store's temporary directory that belongs to this process, and what it makes there. What is left under
/// the name when the claim ends is removed.
#[derive(Debug)]
pub(crate) struct Claim {
    tmp: OwnedFd,
    name: PathBuf,
    leftovers: bool,
    _lock: OwnedFd,
}

impl Claim {
    /// Waits until nobody else has the name.
    pub(crate) fn wait(tmp: BorrowedFd<'_>, name: &str) -> Result<Self> {
        loop {
            if let Some(claim) = Self::lock(tmp, name, libc::LOCK_EX)? {
                return Ok(claim);
            }
        }
    }

    /// `None` if somebody else has it.
    pub(crate) fn attempt(tmp: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        Self::lock(tmp, name, libc::LOCK_EX | libc::LOCK_NB)
    }

    fn lock(tmp: BorrowedFd<'_>, name: &str, how: i32) -> Result<Option<Self>> {
        let failed = || storing("locking a name in the store");
        let file = lock_name(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::openat(tmp, &file, flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| failed()(errno.into()))?;
        if !flock(&opened, how).map_err(failed())? {
            return Ok(None);
        }
        if !is_there(tmp, &file, &opened).map_err(|errno| failed()(errno.into()))? {
            return Ok(None);
        }
        let tmp = tmp.try_clone_to_owned().map_err(failed())?;
        let name = PathBuf::from(name);
        // Whoever had it before was killed.
        let leftovers = dir::look(tmp.as_fd(), &name).map_err(|errno| failed()(errno.into()))?.is_some();
        if leftovers {
            removal::remove(tmp.as_fd(), name.as_os_str())
                .map_err(storing("removing what a killed process left"))?;
        }
        Ok(Some(Self { tmp, name, leftovers, _lock: opened }))
    }

    /// Makes a directory of the claimed name.
    pub(crate) fn make_dir(&self) -> Result<OwnedFd> {
        let make = || {
            mkdirat(&self.tmp, &self.name, Mode::from_bits_truncate(0o700))?;
            dir::open_dir(self.tmp.as_fd(), &self.name)
        };
        make().map_err(|errno| storing("making a temporary directory")(errno.into()))
    }

    /// Whether a process was killed that had it before.
    pub(crate) fn had_leftovers(&self) -> bool {
        self.leftovers
    }

    /// Removes what is there under the name.
    pub(crate) fn discard(self) -> Result<()> {
        removal::remove(self.tmp.as_fd(), self.name.as_os_str())
            .map_err(storing("removing a temporary directory"))
    }

    pub(crate) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    pub(crate) fn name(&self) -> &Path {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What cannot be removed now is removed by `gc`, as if this process had been killed.
        if removal::remove(self.tmp.as_fd(), self.name.as_os_str()).is_ok() {
            let name = self.name.to_string_lossy();
            removal::remove(self.tmp.as_fd(), lock_name(&name).as_os_str()).ok();
        }
    }
}

fn lock_name(name: &str) -> PathBuf {
    PathBuf::from(format!("{name}.lock"))
}

/// A layer that is not removed while this lives, in whatever process.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: OwnedFd,
}

impl Hold {
    /// Shares the layer; `None` if there is none of the name.
    pub(crate) fn share(layers: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        loop {
            let Some(fd) = open(layers, name)? else { return Ok(None) };
            let locked = flock(&fd, libc::LOCK_SH).map_err(storing("locking a layer"))?;
            if locked && is_still(layers, name, &fd)? {
                return Ok(Some(Self { _lock: fd }));
            }
        }
    }

    /// Shares a layer that nobody else knows yet.
    pub(crate) fn made(fd: OwnedFd) -> Result<Self> {
        match flock(&fd, libc::LOCK_SH | libc::LOCK_NB).map_err(storing("locking a layer"))? {
            true => Ok(Self { _lock: fd }),
            false => Err(Error::internal(Step::Store, "a layer is locked that nobody else knows")),
        }
    }

    /// Has the layer alone; `None` if somebody shares it, or has just removed it.
    pub(crate) fn alone(layers: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        let Some(fd) = open(layers, name)? else { return Ok(None) };
        let locked = flock(&fd, libc::LOCK_EX | libc::LOCK_NB).map_err(storing("locking a layer"))?;
        // Another collector may have removed it before it was locked here, and somebody may have made it anew since.
        Ok((locked && is_still(layers, name, &fd)?).then_some(Self { _lock: fd }))
    }
}

fn open(layers: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>> {
    match dir::open_dir(layers, Path::new(name)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(storing("opening a layer")(errno.into())),
    }
}

/// Whether an open file is locked now; it is not if somebody else has it and nobody was to wait.
fn flock(file: &OwnedFd, how: i32) -> io::Result<bool> {
    loop {
        match sys::lock(file.as_fd(), how) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a locked layer is still what its name leads to, and not one that was removed meanwhile.
fn is_still(layers: BorrowedFd<'_>, name: &str, layer: &OwnedFd) -> Result<bool> {
    is_there(layers, Path::new(name), layer).map_err(|errno| storing("locking a layer")(errno.into()))
}

/// Whether an open file is still what its name leads to.
fn is_there(dir: BorrowedFd<'_>, name: &Path, file: &impl AsFd) -> nix::Result<bool> {
    let own = fstat(file)?;
    let found = dir::look(dir, name)?;
    Ok(found.is_some_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)))
}
