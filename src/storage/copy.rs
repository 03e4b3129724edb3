//! Copying layers, merged, into one directory.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::UtimensatFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchownat, linkat, lseek, mkfifoat, symlinkat};

use super::place::open_dir;
use crate::entries::{is_kept, kind_of};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::merged::{Found, Layers};
use crate::sys;

/// How the content of a file comes to its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The blocks are shared until one of them is written to.
    Shared,
    /// The same where the filesystem does that.
    SharedIfPossible,
    Copied,
}

/// Each level holds a descriptor.
const DEEPEST: usize = 500;

/// Copies everything into an empty directory that nobody else uses.
pub(super) fn copy(layers: &Layers, to: &OwnedFd, content: Content) -> Result<()> {
    Copier { layers, content, root: to, links: HashMap::new(), is_root: nix::unistd::geteuid().is_root() }
        .all()
}

/// Gives a directory the owner, mode and attributes of the root of the layers.
pub(super) fn copy_root(layers: &Layers, to: &OwnedFd) -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    let copier = Copier { layers, content: Content::Copied, root: to, links: HashMap::new(), is_root };
    copier.finish(to, Path::new(""), 0)
}

struct Copier<'a> {
    layers: &'a Layers,
    content: Content,
    root: &'a OwnedFd,
    /// Where the first name of a file with several names is.
    links: HashMap<(usize, u64, u64), PathBuf>,
    /// May give files away.
    is_root: bool,
}

struct Level {
    dir: OwnedFd,
    path: PathBuf,
    /// The layers that have it, the first on top.
    within: Vec<usize>,
    /// What is left of it, the last name first.
    names: Vec<OsString>,
}

impl Copier<'_> {
    /// Not by recursion: a layer's author chooses how deep it is.
    fn all(mut self) -> Result<()> {
        let root =
            open_dir(self.root.as_fd(), Path::new(".")).map_err(|errno| failed(Path::new(""), errno))?;
        let mut levels = vec![self.level(root, PathBuf::new(), self.layers.root())?];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(name) = level.names.pop() else {
                // What is in it is there now, so that its mode may forbid to write and its time stays.
                self.finish(&level.dir, &level.path, *level.within.first().unwrap_or(&0))?;
                levels.pop();
                continue;
            };
            let path = level.path.join(&name);
            // A name that is marked as deleted, or whose layer is being changed.
            let Some(found) = self.layers.find(&path, &level.within)? else { continue };
            if kind_of(&found.stat) != SFlag::S_IFDIR {
                self.entry(&level.dir, &name, &path, &found)?;
                continue;
            }
            if depth == DEEPEST {
                let message =
                    format!("{} of a layer lies more than {DEEPEST} directories deep", path.display());
                return Err(Error::message(ErrorKind::LimitExceeded, Step::Storage, message));
            }
            let made = mkdirat(&level.dir, &*name, Mode::S_IRWXU)
                .and_then(|()| open_dir(level.dir.as_fd(), Path::new(&name)));
            let below = self.level(made.map_err(|errno| failed(&path, errno))?, path, found.layers)?;
            levels.push(below);
        }
    }

    fn level(&self, dir: OwnedFd, path: PathBuf, within: Vec<usize>) -> Result<Level> {
        let mut names = self.layers.names(&path, &within)?;
        names.reverse();
        Ok(Level { dir, path, within, names })
    }

    fn entry(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path, found: &Found) -> Result<()> {
        let layer = *found.layers.first().unwrap_or(&0);
        let stat = &found.stat;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(layer, stat.st_dev, stat.st_ino)) {
                return linkat(self.root, first, dir, name, AtFlags::empty())
                    .map_err(|errno| failed(path, errno));
            }
            self.links.insert((layer, stat.st_dev, stat.st_ino), path.to_owned());
        }
        match kind_of(stat) {
            SFlag::S_IFREG => self.file(dir, name, path, layer),
            SFlag::S_IFLNK => {
                let Some(target) = self.layers.read_link(layer, path)? else { return Ok(()) };
                symlinkat(&*target, dir, name).map_err(|errno| failed(path, errno))?;
                self.own_and_date(dir, name, stat, path)
            }
            SFlag::S_IFIFO => {
                mkfifoat(dir, name, permissions(stat)).map_err(|errno| failed(path, errno))?;
                self.own_and_date(dir, name, stat, path)
            }
            // A socket means nothing without its process, and a device nothing in a sandbox.
            _ => Ok(()),
        }
    }

    /// What has no descriptor of its own.
    fn own_and_date(&self, dir: &OwnedFd, name: &OsStr, stat: &FileStat, path: &Path) -> Result<()> {
        self.own(dir, name, stat, path)?;
        let (accessed, modified) = times(stat);
        utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| failed(path, errno))
    }

    fn own(&self, dir: &OwnedFd, name: &OsStr, stat: &FileStat, path: &Path) -> Result<()> {
        if !self.is_root {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        fchownat(dir, name, Some(uid), Some(gid), flags).map_err(|errno| failed(path, errno))
    }

    fn file(&self, dir: &OwnedFd, name: &OsStr, path: &Path, layer: usize) -> Result<()> {
        let Some(from) = self.layers.read(layer, path)? else { return Ok(()) };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let to =
            openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(path, errno))?;
        match self.content {
            Content::Copied => copy_content(&from, &to),
            Content::Shared => sys::share_content(&from, &to),
            Content::SharedIfPossible => sys::share_content(&from, &to).or_else(|_| copy_content(&from, &to)),
        }
        .map_err(|error| failed(path, error))?;
        self.settle(&from, &to, path)
    }

    /// Gives a directory what the one of the layer has.
    fn finish(&self, dir: &OwnedFd, path: &Path, layer: usize) -> Result<()> {
        let Some(from) = self.layers.read(layer, path)? else {
            return Ok(());
        };
        self.settle(&from, dir, path)
    }

    /// Owner first, for a change of it takes set-user-id bits and capabilities away.
    fn settle(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<()> {
        let stat = fstat(from).map_err(|errno| failed(path, errno))?;
        self.own(to, OsStr::new(""), &stat, path)?;
        self.attributes(from, to).map_err(|error| failed(path, error))?;
        fchmod(to, permissions(&stat)).map_err(|errno| failed(path, errno))?;
        let (accessed, modified) = times(&stat);
        futimens(to, &accessed, &modified).map_err(|errno| failed(path, errno))
    }

    /// Those that a layer keeps; capabilities only where they can be given.
    fn attributes(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        for name in sys::list_xattrs(from.as_fd())? {
            // What the file has lies elsewhere in the layers, and a copy would have holes.
            if matches!(name.as_bytes(), b"trusted.overlay.metacopy" | b"trusted.overlay.redirect") {
                return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            }
            if !is_kept(name.as_bytes()) {
                continue;
            }
            if name.as_c_str() == c"security.capability" && !self.is_root {
                continue;
            }
            let Some(value) = sys::get_xattr(from.as_fd(), &name)? else { continue };
            sys::set_xattr(to.as_fd(), &name, &value)?;
        }
        Ok(())
    }
}

/// Copies what a sparse file has, and leaves its holes.
fn copy_content(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let size = fstat(from)?.st_size;
    let (mut from, mut to) = (File::from(from.try_clone()?), File::from(to.try_clone()?));
    to.set_len(u64::try_from(size).unwrap_or(0))?;
    let mut at = 0;
    while at < size {
        let start = match lseek(&from, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break, // nothing but a hole to its end
            start => start?,
        };
        let end = lseek(&from, start, Whence::SeekHole)?;
        let (offset, length) = (u64::try_from(start).unwrap_or(0), u64::try_from(end - start).unwrap_or(0));
        from.seek(SeekFrom::Start(offset))?;
        to.seek(SeekFrom::Start(offset))?;
        io::copy(&mut io::Read::take(&mut from, length), &mut to)?;
        at = end;
    }
    Ok(())
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

fn failed(path: &Path, error: impl Into<io::Error>) -> Error {
    let path = Path::new("/").join(path);
    Error::os(Step::Storage, format!("copying {} of a layer", path.display()), error).with_path(path)
}
