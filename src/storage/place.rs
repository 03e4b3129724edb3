//! The directories of a storage, and the locks on what is in them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
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
        let making = failed("making a directory in", &self.path);
        loop {
            let name = unused_name();
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
        let locked = Locked { path, fd, owner: std::process::id() };
        let there = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            there => there.map_err(|errno| failed(errno.into()))?,
        };
        let is_still = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
        Ok(is_still.then_some(locked))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes what nobody has locked. What cannot be removed stays for the next time.
    fn sweep(&self) {
        for name in names(self.fd.as_fd()).unwrap_or_default() {
            // Nothing else is ours, whatever directory this was before.
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            if let Ok(Some(left)) = self.lock(name, libc::LOCK_EX) {
                left.remove_from(self, self).ok();
            }
        }
    }
}

/// A directory that belongs to this process as long as this lives.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// A forked copy of this process drops its values, too, and the lock is the same.
    owner: u32,
}

/// A process that somebody else is just starting may have a copy of the descriptor, which would keep the lock.
impl Drop for Locked {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            sys::lock(self.fd.as_fd(), libc::LOCK_UN).ok();
        }
    }
}

impl Locked {
    /// Removes it with all that is in it. `false` if a sandbox still uses it: the init of a killed host takes a moment to
    /// end.
    pub(super) fn remove_from(&self, shelf: &Shelf, runs: &Shelf) -> Result<bool> {
        let removing = failed("removing", &self.path);
        let mut parts = Vec::new();
        for part in ["upper", "tree"] {
            let dir = match removal::enter(&self.fd, OsStr::new(part)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                dir => dir.map_err(&removing)?,
            };
            match sys::lock(dir.as_fd(), libc::LOCK_EX | libc::LOCK_NB) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                locked => locked.map_err(&removing)?,
            }
            parts.push(dir);
        }
        let mut name = self.path.file_name().unwrap_or(OsStr::new("")).to_owned();
        if !std::ptr::eq(shelf, runs) {
            // Whoever is killed from here on leaves half of it where it is swept, not under a name that means all of it.
            name = loop {
                let new = unused_name();
                match renameat2(&shelf.fd, &*name, &runs.fd, new.as_str(), RenameFlags::RENAME_NOREPLACE) {
                    Err(Errno::EEXIST) => {}
                    renamed => break renamed.map(|()| new.into()).map_err(|errno| removing(errno.into()))?,
                }
            };
        }
        removal::remove(runs.fd.as_fd(), &name).map_err(&removing)?;
        Ok(true)
    }

    pub(super) fn make_dir(&self, name: &str) -> Result<OwnedFd> {
        let path = self.path.join(name);
        let made =
            mkdirat(&self.fd, name, Mode::S_IRWXU).and_then(|()| open_dir(self.fd.as_fd(), Path::new(name)));
        made.map_err(|errno| failed("making", &path)(errno.into()))
    }
}

/// Of this process, and not yet used by it.
fn unused_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether it is a name of that kind.
fn is_ours(name: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(pid, number)| is_number(pid) && is_number(number))
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
