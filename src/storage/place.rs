//! The directories of a storage, and the locks on what is in them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};

use super::failed;
use crate::entries::names;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::removal;
use crate::sys;

#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) bases: Shelf,
    pub(super) named: Shelf,
    pub(super) runs: Shelf,
}

/// A directory of directories that are locked by whom they belong to.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
}

impl Place {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let opening = failed("opening the storage", dir);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(&opening)?;
        let path = dir.canonicalize().map_err(&opening)?;
        check_private(&path)?;
        let shelf = |name: &str| Shelf::open(path.join(name));
        let place = Self { bases: shelf("bases")?, named: shelf("named")?, runs: shelf("runs")?, path };
        place.runs.sweep();
        Ok(place)
    }
}

/// Set-user-id files of the layers are real ones here.
fn check_private(path: &Path) -> Result<()> {
    let stat = std::fs::symlink_metadata(path).map_err(failed("looking at", path))?;
    if stat.is_dir() && stat.uid() == nix::unistd::geteuid().as_raw() && stat.mode() & 0o077 == 0 {
        return Ok(());
    }
    let message = format!("{} belongs to another user, or others may enter it", path.display());
    Err(Error::message(ErrorKind::PermissionDenied, Step::Storage, message)
        .with_path(path)
        .with_hint("use a directory of this user's own with mode 700"))
}

impl Shelf {
    fn open(path: PathBuf) -> Result<Self> {
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("making", &path)(error));
            }
            _ => check_private(&path)?,
        }
        let fd = std::fs::File::open(&path).map_err(failed("opening", &path))?.into();
        Ok(Self { path, fd })
    }

    /// A new directory of a name that nobody has, locked.
    pub(super) fn make(&self) -> Result<Locked> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let making = failed("making a directory in", &self.path);
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match mkdirat(&self.fd, name.as_str(), Mode::S_IRWXU) {
                // Of another PID namespace, or of a process that had the number before.
                Err(Errno::EEXIST) => continue,
                made => made.map_err(|errno| making(errno.into()))?,
            }
            // Before it was locked another process may have swept it away.
            if let Some(locked) = self.lock(&name, libc::LOCK_EX)? {
                return Ok(locked);
            }
        }
    }

    /// Locks a directory; `None` if there is none, or somebody has it.
    pub(super) fn lock(&self, name: &str, how: i32) -> Result<Option<Locked>> {
        let path = self.path.join(name);
        let at = path.clone();
        let failed = failed("locking", &at);
        let fd = match open_dir(self.fd.as_fd(), Path::new(name)) {
            Err(Errno::ENOENT) => return Ok(None),
            fd => fd.map_err(|errno| failed(errno.into()))?,
        };
        match sys::lock(fd.as_fd(), how | libc::LOCK_NB) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            locked => locked.map_err(&failed)?,
        }
        let own = fstat(&fd).map_err(|errno| failed(errno.into()))?;
        let there = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            there => there.map_err(|errno| failed(errno.into()))?,
        };
        let is_still = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
        Ok(is_still.then_some(Locked { path, fd }))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes what nobody has locked. What cannot be removed stays for the next time.
    fn sweep(&self) {
        for name in names(self.fd.as_fd()).unwrap_or_default() {
            let Some(name) = name.to_str() else { continue };
            if let Ok(Some(left)) = self.lock(name, libc::LOCK_EX) {
                left.remove_from(self).ok();
            }
        }
    }
}

/// A directory that belongs to this process as long as this lives.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
}

impl Locked {
    /// Removes it with all that is in it. `false` if a sandbox still uses it: the init of a killed host takes a moment to
    /// end.
    pub(super) fn remove_from(&self, shelf: &Shelf) -> Result<bool> {
        for part in ["upper", "tree"] {
            let Ok(dir) = open_dir(self.fd.as_fd(), Path::new(part)) else { continue };
            if sys::lock(dir.as_fd(), libc::LOCK_EX | libc::LOCK_NB).is_err() {
                return Ok(false);
            }
        }
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        removal::remove(shelf.fd.as_fd(), name).map_err(failed("removing", &self.path))?;
        Ok(true)
    }

    pub(super) fn make_dir(&self, name: &str) -> Result<OwnedFd> {
        let path = self.path.join(name);
        let made =
            mkdirat(&self.fd, name, Mode::S_IRWXU).and_then(|()| open_dir(self.fd.as_fd(), Path::new(name)));
        made.map_err(|errno| failed("making", &path)(errno.into()))
    }
}

pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(parent, name, how)
}

/// A name for a directory.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@+".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(plain) {
        let start: String = name.chars().take(80).collect();
        return Err(Error::message(
            ErrorKind::InvalidConfig,
            Step::Storage,
            format!("{start:?} cannot be the name of a directory of the storage"),
        )
        .with_hint("use at most 200 letters, digits and ._-:@+, and no dot first"));
    }
    Ok(())
}
