//! Writing changes to a directory of the host.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::{Change, ChangeKind};
use crate::entries::kind_of;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;
use crate::removal::{empty, remove};

/// The directory that changes are written to, and what they are read from.
pub(super) struct Target<'a> {
    upper: &'a OwnedFd,
    root: OwnedFd,
    path: &'a Path,
    /// The part of the sandbox's root that goes there.
    below: &'a Path,
    left: u64,
    limit: Bytes,
    /// Permissions of directories, for the end: they may forbid what is still to be written below.
    modes: Vec<(PathBuf, Mode)>,
}

impl<'a> Target<'a> {
    pub(super) fn open(upper: &'a OwnedFd, below: &'a Path, to: &'a Path, limit: Bytes) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(to, flags, Mode::empty()).map_err(|errno| {
            Error::os(Step::Changes, format!("opening {}", to.display()), errno).with_path(to)
        })?;
        Ok(Self { upper, root, path: to, below, left: limit.get(), limit, modes: Vec::new() })
    }

    /// Writes them, in their order. Returns those of what is no file, directory or symbolic link, or cannot be read.
    pub(super) fn apply(mut self, changes: Vec<Change>) -> Result<Vec<Change>> {
        let mut left_out = Vec::new();
        let mut done = Ok(());
        for change in changes {
            match self.one(&change) {
                Ok(true) => {}
                Ok(false) => left_out.push(change),
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        // The innermost first: the one above may close the way to it.
        for (place, mode) in std::mem::take(&mut self.modes).into_iter().rev() {
            let dir = self.beneath(&self.root, &place, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
            let set = dir.and_then(|dir| fchmod(&dir, mode)).map_err(|errno| self.failed(&place, errno));
            done = done.and(set);
        }
        done.map(|()| left_out)
    }

    fn one(&mut self, change: &Change) -> Result<bool> {
        let inside = change.path.strip_prefix("/").unwrap_or(&change.path);
        let replaced =
            matches!(change.kind, ChangeKind::Deleted | ChangeKind::TypeChanged | ChangeKind::Opaque);
        let Ok(place) = change.path.strip_prefix(self.below) else {
            // What becomes of a directory above becomes of this one.
            if replaced && self.below.starts_with(&change.path) {
                self.empty()?;
            }
            return Ok(true);
        };
        let Some(name) = place.file_name() else {
            if replaced {
                self.empty()?;
            }
            // It stays a directory, whatever it is inside.
            return Ok(matches!(change.kind, ChangeKind::Opaque | ChangeKind::Metadata | ChangeKind::Added));
        };
        let above = place.parent().unwrap_or(Path::new(""));
        let parent = self.beneath(&self.root, above, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let parent = match (parent, change.kind) {
            // What is gone with its directory.
            (Err(Errno::ENOENT), ChangeKind::Deleted) => return Ok(true),
            (parent, _) => parent.map_err(|errno| self.failed(place, errno))?,
        };
        // As package managers leave them: closed to their owner, too. What is not ours to open stays closed.
        let closed = fstat(&parent).map_err(|errno| self.failed(place, errno))?;
        if closed.st_mode & 0o300 != 0o300 && fchmod(&parent, permissions(&closed) | Mode::S_IRWXU).is_ok() {
            self.modes.push((above.to_owned(), permissions(&closed)));
        }
        if change.kind == ChangeKind::Deleted {
            return remove(parent.as_fd(), name).map(|()| true).map_err(|error| self.failed(place, error));
        }
        let source = match self.beneath(self.upper, inside, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            // Gone since, in a container that was not stopped.
            Err(Errno::ENOENT) => return Ok(true),
            source => source.map_err(|errno| self.failed(place, errno))?,
        };
        let stat = fstat(&source).map_err(|errno| self.failed(place, errno))?;
        let written = match kind_of(&stat) {
            SFlag::S_IFDIR => directory(&parent, name, &stat, change.kind),
            SFlag::S_IFLNK => link(&parent, name, &source),
            SFlag::S_IFREG => return self.file(&parent, name, inside, place, &stat),
            _ => return Ok(false),
        };
        written.map_err(|error| self.failed(place, error))?;
        if kind_of(&stat) == SFlag::S_IFDIR {
            self.modes.push((place.to_owned(), permissions(&stat)));
        }
        Ok(true)
    }

    /// Removes all that is in the directory itself.
    fn empty(&self) -> Result<()> {
        empty(self.root.as_fd()).map_err(|error| self.failed(Path::new(""), error))
    }

    /// A file is whole or not there: it is written under another name first. `false` if it cannot be read.
    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        inside: &Path,
        place: &Path,
        stat: &FileStat,
    ) -> Result<bool> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let mut from = match self.beneath(self.upper, inside, flags) {
            Ok(file) => File::from(file),
            // Closed by the program to its own user, which an unprivileged host is; or something else by now.
            Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => {
                return Ok(false);
            }
            Err(errno) => return Err(self.failed(place, errno)),
        };
        let same = fstat(&from).is_ok_and(|now| now.st_ino == stat.st_ino && kind_of(&now) == SFlag::S_IFREG);
        if !same {
            return Ok(false);
        }
        let (temporary, file) = temporary(parent).map_err(|errno| self.failed(place, errno))?;
        let mut to = File::from(file);
        let written = match self.copy(&mut from, &mut to) {
            Ok(true) => settle(&to.into(), parent, Some(name), permissions(stat))
                .and_then(|()| replace(parent, &temporary, name))
                .map_err(|error| self.failed(place, error)),
            Ok(false) => {
                let message = format!("the changes have more than {} bytes", self.limit.get());
                Err(Error::message(ErrorKind::LimitExceeded, Step::Changes, message)
                    .with_path(Path::new("/").join(inside))
                    .with_hint("raise the limit; what was written until then stays"))
            }
            Err(error) => Err(self.failed(place, error)),
        };
        if written.is_err() {
            unlinkat(parent, &*temporary, UnlinkatFlags::NoRemoveDir).ok();
        }
        written.map(|()| true)
    }

    /// Copies a file; `false` if the limit does not suffice.
    fn copy(&mut self, from: &mut File, to: &mut File) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                return Ok(true);
            }
            let Some(left) = self.left.checked_sub(count as u64) else { return Ok(false) };
            self.left = left;
            to.write_all(buffer.get(..count).unwrap_or_default())?;
        }
    }

    fn beneath(&self, root: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(CONFINED);
        openat2(root, path, how)
    }

    fn failed(&self, place: &Path, error: impl Into<io::Error>) -> Error {
        let path = self.path.join(place);
        let error = Error::os(Step::Changes, format!("writing the change of {}", path.display()), error);
        let error = match error.raw_os_error() {
            Some(libc::ELOOP) => {
                error.with_hint("a symbolic link is in the way, and none is followed: remove it")
            }
            Some(libc::EXDEV) => error.with_hint("a mount is in the way, and none is entered: unmount it"),
            _ => error,
        };
        error.with_path(path)
    }
}

/// No link and no way up; and no mount, which is nothing of what the layers have.
const CONFINED: ResolveFlag =
    ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS).union(ResolveFlag::RESOLVE_NO_XDEV);

/// A name for a while.
fn temporary_name() -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!(".belljar-{}-{number}", std::process::id()))
}

/// Makes something under a name that nothing has: a host that was killed, or a program, may have left some.
fn under_a_new_name<T>(make: impl Fn(&Path) -> nix::Result<T>) -> nix::Result<(PathBuf, T)> {
    const TRIES: u32 = 1000;
    let mut last = Errno::EEXIST;
    for _ in 0..TRIES {
        let name = temporary_name();
        match make(&name) {
            Err(Errno::EEXIST) => last = Errno::EEXIST,
            made => return made.map(|made| (name, made)),
        }
    }
    Err(last)
}

fn temporary(parent: &OwnedFd) -> nix::Result<(PathBuf, OwnedFd)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    under_a_new_name(|name| openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))
}

/// A directory that its owner may write in until the end.
fn directory(parent: &OwnedFd, name: &OsStr, stat: &FileStat, change: ChangeKind) -> io::Result<()> {
    if matches!(change, ChangeKind::Opaque | ChangeKind::TypeChanged) {
        remove(parent.as_fd(), name)?;
    }
    let made = match mkdirat(parent, name, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => false,
        made => made.map(|()| true)?,
    };
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(CONFINED);
    let dir = openat2(parent, name, how)?;
    let mode = permissions(stat) | Mode::S_IRWXU;
    if made { settle(&dir, parent, None, mode) } else { Ok(fchmod(&dir, mode)?) }
}

fn link(parent: &OwnedFd, name: &OsStr, source: &OwnedFd) -> io::Result<()> {
    let target = readlinkat(source, "")?;
    let (temporary, ()) = under_a_new_name(|name| symlinkat(&*target, parent, name))?;
    replace(parent, &temporary, name).inspect_err(|_| {
        unlinkat(parent, &*temporary, UnlinkatFlags::NoRemoveDir).ok();
    })
}

/// Permissions, and the owner of what it replaces, or else of the directory it is in, where the host may give files away.
fn settle(made: &OwnedFd, parent: &OwnedFd, replaced: Option<&OsStr>, mode: Mode) -> io::Result<()> {
    let old = replaced.and_then(|name| fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok());
    let old = old.filter(|stat| kind_of(stat) == SFlag::S_IFREG);
    let owner = match old {
        Some(stat) => stat,
        None => fstat(parent)?,
    };
    match fchown(made, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid))) {
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fchmod(made, mode)?)
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o777)
}

/// Puts something in the place of whatever is there.
fn replace(parent: &OwnedFd, temporary: &Path, name: &OsStr) -> io::Result<()> {
    match renameat(parent, temporary, parent, name) {
        // A directory.
        Err(Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST) => {
            remove(parent.as_fd(), name)?;
            Ok(renameat(parent, temporary, parent, name)?)
        }
        renamed => Ok(renamed?),
    }
}
