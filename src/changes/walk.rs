//! The walk through an upper directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::{Change, ChangeKind};
use crate::entries::{self, is_whiteout, kind_of};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::idmap::{Extent, Maps};
use crate::limits::Bytes;
use crate::merged::{Found, Layers, may_be_marked};

/// Each level holds a descriptor.
const DEEPEST: usize = 500;

/// How many bytes the paths of all changes may have: a program chooses how long and how many they are.
const MOST_BYTES: usize = 64 << 20;

/// Whose ids the host sees on files.
#[derive(Debug)]
pub(crate) enum View {
    /// Those that the sandbox sees.
    AsOnDisk,
    /// Those that the sandbox's are outside.
    Mapped(Maps),
}

impl View {
    /// The ids that the sandbox sees.
    pub(crate) fn inside(&self, stat: &FileStat) -> (u32, u32) {
        let gid = match self {
            Self::AsOnDisk => stat.st_gid,
            Self::Mapped(maps) => mapped(&maps.gids, stat.st_gid),
        };
        (self.uid(stat.st_uid), gid)
    }

    pub(super) fn uid(&self, uid: u32) -> u32 {
        match self {
            Self::AsOnDisk => uid,
            Self::Mapped(maps) => mapped(&maps.uids, uid),
        }
    }
}

fn mapped(extents: &[Extent], id: u32) -> u32 {
    let inside = extents.iter().find_map(|extent| {
        let offset = id.checked_sub(extent.outside).filter(|offset| *offset < extent.count)?;
        extent.inside.checked_add(offset)
    });
    // As the kernel shows what is not mapped.
    inside.unwrap_or(65534)
}

/// What a changed directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What was touched, and marks of what was deleted: the upper of an overlay.
    Touched,
    /// Everything: a copy. What it lacks was deleted.
    Whole,
}

/// What was found so far.
pub(super) struct Walk<'a> {
    layers: &'a Layers,
    scope: Scope,
    upper_ids: &'a View,
    layer_ids: &'a View,
    changes: Vec<Change>,
    bytes: usize,
}

/// A directory of the upper that is being read.
struct Level {
    dir: OwnedFd,
    path: PathBuf,
    /// The layers that have it, too.
    within: Vec<usize>,
    /// What is left of it, the last name first.
    names: Vec<OsString>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(layers: &'a Layers, scope: Scope, upper_ids: &'a View, layer_ids: &'a View) -> Self {
        Self { layers, scope, upper_ids, layer_ids, changes: Vec::new(), bytes: 0 }
    }

    /// Everything below the upper directory. Not by recursion: a program chooses how deep it is.
    pub(super) fn all(mut self, upper: &OwnedFd) -> Result<Vec<Change>> {
        let mut levels =
            vec![self.level(upper.as_fd(), OsStr::new("."), PathBuf::new(), self.layers.root())?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            if let Some(below) = self.entry(level, &name)? {
                if levels.len() == DEEPEST {
                    let message = format!(
                        "{} lies more than {DEEPEST} directories deep",
                        inside(&below.path).display()
                    );
                    return Err(Error::message(ErrorKind::LimitExceeded, Step::Changes, message)
                        .with_path(inside(&below.path))
                        .with_hint("remove what the program has made, or discard the changes"));
                }
                levels.push(below);
            }
        }
        Ok(self.changes)
    }

    fn level(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: PathBuf,
        within: Vec<usize>,
    ) -> Result<Level> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty()).map_err(|errno| failed(&path, errno))?;
        let mut names = entries::names(dir.as_fd()).map_err(|errno| failed(&path, errno))?;
        if self.scope == Scope::Whole {
            names.append(&mut self.layers.names(&path, &within)?);
            names.sort();
            names.dedup();
        }
        names.reverse();
        Ok(Level { dir, path, within, names })
    }

    /// Notes what became of one entry. Returns the level below if it is a directory.
    fn entry(&mut self, level: &Level, name: &OsStr) -> Result<Option<Level>> {
        let path = level.path.join(name);
        let stat = match fstatat(&level.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {
                // Or it is gone since, in a container that was not stopped.
                if self.scope == Scope::Whole && self.layers.find(&path, &level.within)?.is_some() {
                    self.note(path, ChangeKind::Deleted, None)?;
                }
                return Ok(None);
            }
            stat => stat.map_err(|errno| failed(&path, errno))?,
        };
        let below = self.layers.find(&path, &level.within)?;
        let is_mark = is_whiteout(&stat) && self.scope == Scope::Touched;
        if is_mark || self.is_marked(level, name, &stat, &path)? {
            if below.is_some() {
                self.note(path, ChangeKind::Deleted, None)?;
            }
            return Ok(None);
        }
        self.check_whole(level, name, &path)?;
        let is_dir = kind_of(&stat) == SFlag::S_IFDIR;
        let mut within = Vec::new();
        let what = match below {
            None => Some(ChangeKind::Added),
            Some(below) if kind_of(&below.stat) != kind_of(&stat) => Some(ChangeKind::TypeChanged),
            Some(below) if is_dir => {
                if self
                    .layers
                    .marks
                    .is_opaque(level.dir.as_fd(), name)
                    .map_err(|error| failed(&path, error))?
                {
                    Some(ChangeKind::Opaque)
                } else {
                    let same = self.same_owner(&stat, &below.stat)
                        && self.same_dir(level, name, &path, &below).map_err(|error| failed(&path, error))?;
                    within = below.layers;
                    (!same).then_some(ChangeKind::Metadata)
                }
            }
            Some(below) => self.compare(level, name, &path, &stat, &below)?,
        };
        if let Some(what) = what {
            self.note(path.clone(), what, Some(&stat))?;
        }
        if !is_dir {
            return Ok(None);
        }
        match self.level(level.dir.as_fd(), name, path, within) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) =>
            {
                Ok(None)
            }
            level => level.map(Some),
        }
    }

    fn is_marked(&self, level: &Level, name: &OsStr, stat: &FileStat, path: &Path) -> Result<bool> {
        if !may_be_marked(stat) {
            return Ok(false);
        }
        match self.layers.marks.is_whiteout(level.dir.as_fd(), name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            marked => marked.map_err(|error| failed(path, error)),
        }
    }

    fn check_whole(&self, level: &Level, name: &OsStr, path: &Path) -> Result<()> {
        match self.layers.marks.is_part(level.dir.as_fd(), name) {
            Ok(false) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(failed(path, error)),
            Ok(true) => {
                let message = format!("{} is elsewhere in a lower layer", inside(path).display());
                Err(Error::message(ErrorKind::Unsupported, Step::Changes, message)
                    .with_path(inside(path))
                    .with_hint("mount the overlay with redirect_dir=off and metacopy=off, as belljar does"))
            }
        }
    }

    fn note(&mut self, path: PathBuf, kind: ChangeKind, stat: Option<&FileStat>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(path.as_os_str().len()).saturating_add(size_of::<Change>());
        if self.bytes > MOST_BYTES {
            let message = format!("the names of the changes have more than {} MiB", MOST_BYTES >> 20);
            return Err(Error::message(ErrorKind::LimitExceeded, Step::Changes, message)
                .with_path(inside(&path))
                .with_hint("give the upper fewer inodes, or discard the changes"));
        }
        let file = stat.filter(|stat| kind_of(stat) == SFlag::S_IFREG);
        let size = file.and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0);
        self.changes.push(Change { path: inside(&path), kind, size: Bytes::new(size) });
        Ok(())
    }

    fn same_owner(&self, upper: &FileStat, lower: &FileStat) -> bool {
        upper.st_mode == lower.st_mode && self.upper_ids.inside(upper) == self.layer_ids.inside(lower)
    }

    /// Whether two directories have the same attributes. What cannot be read cannot be told to be the same.
    fn same_dir(&self, level: &Level, name: &OsStr, path: &Path, below: &Found) -> io::Result<bool> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let lower = *below.layers.first().unwrap_or(&0);
        match (openat(&level.dir, name, flags, Mode::empty()), self.layers.read(lower, path)) {
            (Ok(upper), Ok(Some(lower))) => self.same_attributes(upper.as_fd(), lower.as_fd()),
            _ => Ok(false),
        }
    }

    fn same_attributes(&self, upper: BorrowedFd<'_>, lower: BorrowedFd<'_>) -> io::Result<bool> {
        // More than are read (or than the kernel tells) are not the same as what a layer has.
        let read = |attributes: io::Result<_>| match attributes {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(None),
            attributes => attributes.map(Some),
        };
        let (upper, lower) =
            (read(self.upper_ids.attributes(upper))?, read(self.layer_ids.attributes(lower))?);
        Ok(upper.is_some() && upper == lower)
    }

    /// What is different between two of the same type that are no directories.
    fn compare(
        &self,
        level: &Level,
        name: &OsStr,
        path: &Path,
        stat: &FileStat,
        below: &Found,
    ) -> Result<Option<ChangeKind>> {
        let lower = *below.layers.first().unwrap_or(&0);
        // A snapshot keeps the numbers and times of what it is of, and no program can set the time of the last change.
        if self.scope == Scope::Whole && untouched(stat, &below.stat) {
            return Ok(None);
        }
        let mut same_attributes = true;
        let same_content = match kind_of(stat) {
            SFlag::S_IFREG if stat.st_size != below.stat.st_size => false,
            SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                match (openat(&level.dir, name, flags, Mode::empty()), self.layers.read(lower, path)) {
                    (Ok(upper), Ok(Some(lower))) => {
                        same_attributes = self
                            .same_attributes(upper.as_fd(), lower.as_fd())
                            .map_err(|error| failed(path, error))?;
                        same_bytes(File::from(upper), File::from(lower))
                            .map_err(|error| failed(path, error))?
                    }
                    // What cannot be read cannot be told to be the same.
                    _ => false,
                }
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(&level.dir, name).map_err(|errno| failed(path, errno))?;
                self.layers.read_link(lower, path)? == Some(target)
            }
            SFlag::S_IFCHR | SFlag::S_IFBLK => stat.st_rdev == below.stat.st_rdev,
            _ => true,
        };
        let same_time =
            (stat.st_mtime, stat.st_mtime_nsec) == (below.stat.st_mtime, below.stat.st_mtime_nsec);
        // Overlayfs copies a file under one name, so it was the program that gave it more.
        let linked = stat.st_nlink > 1 && stat.st_nlink != below.stat.st_nlink;
        let same_metadata = self.same_owner(stat, &below.stat) && same_time && same_attributes && !linked;
        Ok(match (same_content, same_metadata) {
            (false, _) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Metadata),
            // It was opened for writing, and nothing was written.
            (true, true) => None,
        })
    }
}

fn untouched(stat: &FileStat, below: &FileStat) -> bool {
    let of = |stat: &FileStat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec, stat.st_size);
    of(stat) == of(below)
}

fn inside(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn failed(path: &Path, error: impl Into<io::Error>) -> Error {
    let path = inside(path);
    let error = Error::os(Step::Changes, format!("reading {} of the upper directory", path.display()), error);
    let error = match error.kind() {
        ErrorKind::PermissionDenied => error.with_hint(
            "the program has taken the permission away from its own user, which an unprivileged host is: \
             have it given back inside, or run as root",
        ),
        _ => error,
    };
    error.with_path(path)
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let mut buffers = [vec![0; 64 << 10], vec![0; 64 << 10]];
    loop {
        let [a, b] = &mut buffers;
        let count = one.read(a)?;
        let Some(expected) = a.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(other.read(b)? == 0);
        };
        let Some(b) = b.get_mut(..count) else { return Ok(false) };
        match other.read_exact(b) {
            Ok(()) if *b == *expected => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
