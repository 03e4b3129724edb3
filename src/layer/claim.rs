//! Locks between processes. All are `flock(2)`: the kernel drops them when their process dies, however it dies.
//!
//! A lock is on something that may be removed by who holds it, so whoever gets one looks whether what it is on is still
//! there, and tries again if not.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::{dir, storing};
use crate::error::{Error, Result, Step};

/// A name in the store's temporary directory that belongs to this process, and what it makes there. What is left under
/// the name when the claim ends is removed.
#[derive(Debug)]
pub(crate) struct Claim {
    tmp: OwnedFd,
    name: PathBuf,
    leftovers: bool,
    _lock: Flock<File>,
}

impl Claim {
    /// Waits until nobody else has the name.
    pub(crate) fn wait(tmp: BorrowedFd<'_>, name: &str) -> Result<Self> {
        loop {
            if let Some(claim) = Self::lock(tmp, name, FlockArg::LockExclusive)? {
                return Ok(claim);
            }
        }
    }

    /// `None` if somebody else has it.
    pub(crate) fn attempt(tmp: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        Self::lock(tmp, name, FlockArg::LockExclusiveNonblock)
    }

    fn lock(tmp: BorrowedFd<'_>, name: &str, how: FlockArg) -> Result<Option<Self>> {
        let failed = || storing("locking a name in the store");
        let file = lock_name(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::openat(tmp, &file, flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| failed()(errno.into()))?;
        let Some(lock) = flock(File::from(opened), how).map_err(|errno| failed()(errno.into()))? else {
            return Ok(None);
        };
        if !is_there(tmp, &file, &*lock).map_err(|errno| failed()(errno.into()))? {
            return Ok(None);
        }
        let tmp = tmp.try_clone_to_owned().map_err(failed())?;
        let name = PathBuf::from(name);
        // Whoever had it before was killed.
        let leftovers = dir::look(tmp.as_fd(), &name).map_err(|errno| failed()(errno.into()))?.is_some();
        if leftovers {
            dir::remove(tmp.as_fd(), &name).map_err(storing("removing what a killed process left"))?;
        }
        Ok(Some(Self { tmp, name, leftovers, _lock: lock }))
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
        dir::remove(self.tmp.as_fd(), &self.name).map_err(storing("removing a temporary directory"))
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
        if dir::remove(self.tmp.as_fd(), &self.name).is_ok() {
            let name = self.name.to_string_lossy();
            dir::remove(self.tmp.as_fd(), &lock_name(&name)).ok();
        }
    }
}

fn lock_name(name: &str) -> PathBuf {
    PathBuf::from(format!("{name}.lock"))
}

/// A layer that is not removed while this lives, in whatever process.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: Flock<OwnedFd>,
}

impl Hold {
    /// Shares the layer; `None` if there is none of the name.
    pub(crate) fn share(layers: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        loop {
            let Some(fd) = open(layers, name)? else { return Ok(None) };
            let failed = |errno: Errno| storing("locking a layer")(errno.into());
            let Some(lock) = flock(fd, FlockArg::LockShared).map_err(failed)? else { continue };
            if is_there(layers, Path::new(name), &*lock).map_err(failed)? {
                return Ok(Some(Self { _lock: lock }));
            }
        }
    }

    /// Shares a layer that nobody else knows yet.
    pub(crate) fn made(fd: OwnedFd) -> Result<Self> {
        let failed = |errno: Errno| storing("locking a layer")(errno.into());
        let lock = flock(fd, FlockArg::LockSharedNonblock).map_err(failed)?;
        lock.map(|lock| Self { _lock: lock })
            .ok_or_else(|| Error::internal(Step::Store, "a layer is locked that nobody else knows"))
    }

    /// Has the layer alone; `None` if somebody shares it.
    pub(crate) fn alone(layers: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        let failed = |errno: Errno| storing("locking a layer")(errno.into());
        let Some(fd) = open(layers, name)? else { return Ok(None) };
        let lock = flock(fd, FlockArg::LockExclusiveNonblock).map_err(failed)?;
        Ok(lock.map(|lock| Self { _lock: lock }))
    }
}

fn open(layers: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>> {
    match dir::open_dir(layers, Path::new(name)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(storing("opening a layer")(errno.into())),
    }
}

fn flock<T: nix::fcntl::Flockable>(mut file: T, how: FlockArg) -> nix::Result<Option<Flock<T>>> {
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((back, Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno),
        }
    }
}

/// Whether an open file is still what its name leads to.
fn is_there(dir: BorrowedFd<'_>, name: &Path, file: &impl AsFd) -> nix::Result<bool> {
    let own = fstat(file)?;
    let found = dir::look(dir, name)?;
    Ok(found.is_some_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)))
}
