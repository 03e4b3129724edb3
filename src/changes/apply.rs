//! Writing changes to a directory of the host.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::layers::kind;
use super::{Change, ChangeKind};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;

/// The directory that changes are written to, and what they are read from.
pub(super) struct Target<'a> {
    upper: &'a OwnedFd,
    root: OwnedFd,
    path: &'a Path,
    /// The part of the sandbox's root that goes there.
    below: &'a Path,
    left: u64,
    limit: Bytes,
}

impl<'a> Target<'a> {
    pub(super) fn open(upper: &'a OwnedFd, below: &'a Path, to: &'a Path, limit: Bytes) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(to, flags, Mode::empty()).map_err(|errno| {
            Error::os(Step::Changes, format!("opening {}", to.display()), errno).with_path(to)
        })?;
        Ok(Self { upper, root, path: to, below, left: limit.get(), limit })
    }

    /// Writes them, in their order. Returns those of what is no file, directory or symbolic link.
    pub(super) fn apply(mut self, changes: Vec<Change>) -> Result<Vec<Change>> {
        let mut left_out = Vec::new();
        for change in changes {
            let Some(place) = change.path.strip_prefix(self.below).ok().map(Path::to_owned) else { continue };
            if !self.one(&change, &place)? {
                left_out.push(change);
            }
        }
        Ok(left_out)
    }

    fn one(&mut self, change: &Change, place: &Path) -> Result<bool> {
        let Some(name) = place.file_name() else {
            // The directory itself, of which there is nothing to be made.
            return Ok(true);
        };
        let parent = self.beneath(
            &self.root,
            place.parent().unwrap_or(Path::new("")),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        );
        let parent = match (parent, change.kind) {
            // What is gone with its directory.
            (Err(Errno::ENOENT), ChangeKind::Deleted) => return Ok(true),
            (parent, _) => parent.map_err(|errno| self.failed(place, errno))?,
        };
        if change.kind == ChangeKind::Deleted {
            return remove(&parent, name, 0).map(|()| true).map_err(|error| self.failed(place, error));
        }
        let inside = change.path.strip_prefix("/").unwrap_or(&change.path);
        let source = self.beneath(self.upper, inside, OFlag::O_PATH | OFlag::O_NOFOLLOW);
        let source = match source {
            // Gone since, in a container that was not stopped.
            Err(Errno::ENOENT) => return Ok(true),
            source => source.map_err(|errno| self.failed(place, errno))?,
        };
        let stat = fstat(&source).map_err(|errno| self.failed(place, errno))?;
        let written = match kind(&stat) {
            SFlag::S_IFDIR => directory(&parent, name, &stat, change.kind),
            SFlag::S_IFLNK => link(&parent, name, &source),
            SFlag::S_IFREG => self.file(&parent, name, inside, &stat)?,
            _ => return Ok(false),
        };
        written.map(|()| true).map_err(|error| self.failed(place, error))
    }

    /// A file is whole or not there: it is written under another name first.
    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        inside: &Path,
        stat: &FileStat,
    ) -> Result<io::Result<()>> {
        let from = self.beneath(self.upper, inside, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK);
        let mut from = match from {
            Ok(file) => File::from(file),
            Err(errno) => return Ok(Err(errno.into())),
        };
        let temporary = temporary_name();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let to = match openat(parent, &*temporary, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => file,
            Err(errno) => return Ok(Err(errno.into())),
        };
        let mut to = File::from(to);
        let written = self.copy(&mut from, &mut to);
        let placed = match written {
            Ok(true) => settle(&to.into(), parent, stat).and_then(|()| replace(parent, &temporary, name)),
            Ok(false) => Ok(()),
            Err(ref error) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        if placed.is_err() || matches!(written, Ok(false)) {
            unlinkat(parent, &*temporary, UnlinkatFlags::NoRemoveDir).ok();
        }
        if matches!(written, Ok(false)) {
            let message = format!("the changes have more than {} bytes", self.limit.get());
            return Err(Error::message(ErrorKind::ResourceExhausted, Step::Changes, message)
                .with_path(Path::new("/").join(inside))
                .with_hint("raise the limit; what was written until then stays"));
        }
        Ok(placed)
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
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(root, path, how)
    }

    fn failed(&self, place: &Path, error: impl Into<io::Error>) -> Error {
        let path = self.path.join(place);
        let error = Error::os(Step::Changes, format!("writing the change of {}", path.display()), error);
        let error = match error.raw_os_error() {
            Some(libc::ELOOP) => {
                error.with_hint("a symbolic link is in the way, and none is followed: remove it")
            }
            _ => error,
        };
        error.with_path(path)
    }
}

/// A name that nothing has which is there for longer than this takes.
fn temporary_name() -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!(".belljar-{}-{number}", std::process::id()))
}

fn directory(parent: &OwnedFd, name: &OsStr, stat: &FileStat, change: ChangeKind) -> io::Result<()> {
    if matches!(change, ChangeKind::Opaque | ChangeKind::TypeChanged) {
        remove(parent, name, 0)?;
    }
    let made = match mkdirat(parent, name, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => false,
        made => made.map(|()| true)?,
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    if made {
        return settle(&dir, parent, stat);
    }
    Ok(fchmod(&dir, permissions(stat))?)
}

fn link(parent: &OwnedFd, name: &OsStr, source: &OwnedFd) -> io::Result<()> {
    let target = readlinkat(source, "")?;
    let temporary = temporary_name();
    symlinkat(&*target, parent, &*temporary)?;
    replace(parent, &temporary, name).inspect_err(|_| {
        unlinkat(parent, &*temporary, UnlinkatFlags::NoRemoveDir).ok();
    })
}

/// Permissions as inside, without set-user-id bits; and the owner of the directory it is in, where the host may give files
/// away.
fn settle(made: &OwnedFd, parent: &OwnedFd, stat: &FileStat) -> io::Result<()> {
    let above = fstat(parent)?;
    match fchown(made, Some(Uid::from_raw(above.st_uid)), Some(Gid::from_raw(above.st_gid))) {
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fchmod(made, permissions(stat))?)
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o777)
}

/// Puts something in the place of whatever is there.
fn replace(parent: &OwnedFd, temporary: &Path, name: &OsStr) -> io::Result<()> {
    match renameat(parent, temporary, parent, name) {
        // A directory.
        Err(Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST) => {
            remove(parent, name, 0)?;
            Ok(renameat(parent, temporary, parent, name)?)
        }
        renamed => Ok(renamed?),
    }
}

/// Removes what has this name, a directory with all that is in it. Nothing is followed.
fn remove(parent: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    /// Each level holds a descriptor, and a frame of the stack.
    const DEEPEST: usize = 500;
    let is_dir = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        stat => kind(&stat?) == SFlag::S_IFDIR,
    };
    if !is_dir {
        return Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?);
    }
    if depth == DEEPEST {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    let mut listing =
        Dir::openat(&dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let names: Vec<CString> = listing
        .iter()
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .collect::<Result<_, Errno>>()?;
    for entry in names.iter().map(|name| name.to_bytes()).filter(|name| *name != b"." && *name != b"..") {
        remove(&dir, OsStr::from_bytes(entry), depth + 1)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
