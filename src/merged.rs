//! The layers below an upper directory, merged as overlayfs merges them.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::entries::{is_whiteout, kind_of, names};
use crate::error::{Error, Result, Step};
use crate::fsimage::FsImage;
use crate::sys;

/// Whose attributes are overlayfs's marks. In a mount without `userxattr` those of `user.` are like any others, and a
/// program may set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Of a mount in a user namespace.
    User,
    /// Of any other mount.
    Trusted,
    /// It is not known which it was.
    Either,
    /// There are none: it is no overlay.
    None,
}

impl Marks {
    /// Whether a directory hides those of its name below it.
    pub(crate) fn is_opaque(self, dir: BorrowedFd<'_>, entry: &OsStr) -> io::Result<bool> {
        self.any(dir, entry, [c"user.overlay.opaque", c"trusted.overlay.opaque"], |value| value == b"y")
    }

    /// Whether an empty file stands for what was deleted, as it may since Linux 6.7.
    pub(crate) fn is_whiteout(self, dir: BorrowedFd<'_>, entry: &OsStr) -> io::Result<bool> {
        self.any(dir, entry, [c"user.overlay.whiteout", c"trusted.overlay.whiteout"], |_| true)
    }

    /// Whether the content of a file, or what is in a directory, lies elsewhere in a layer. In a user namespace the kernel
    /// knows no such marks.
    pub(super) fn is_part(self, dir: BorrowedFd<'_>, entry: &OsStr) -> io::Result<bool> {
        if matches!(self, Self::User | Self::None) {
            return Ok(false);
        }
        for name in [c"trusted.overlay.redirect", c"trusted.overlay.metacopy"] {
            if sys::attribute(dir, entry, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn any(
        self,
        dir: BorrowedFd<'_>,
        entry: &OsStr,
        [user, trusted]: [&CStr; 2],
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<bool> {
        for (name, own) in [(user, Self::User), (trusted, Self::Trusted)] {
            if (self == own || self == Self::Either)
                && sys::attribute(dir, entry, name)?.is_some_and(|value| wanted(&value))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The layers, the first on top.
#[derive(Debug)]
pub(crate) struct Layers {
    dirs: Vec<(OwnedFd, PathBuf)>,
    pub(crate) marks: Marks,
}

/// What the layers together have at a path.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stat: FileStat,
    /// In which of them it is, and for a directory all that add to it.
    pub(crate) layers: Vec<usize>,
}

impl Layers {
    /// `images` are those among them that are filesystem images.
    pub(crate) fn of(paths: &[PathBuf], images: &[FsImage], marks: Marks) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = paths.iter().map(|path| {
            let opened = match images.iter().find(|image| image.path() == path) {
                Some(image) => image.tree(),
                None => own_mount(path)
                    .map_or_else(|| open(path, flags, Mode::empty()).map_err(io::Error::from), Ok),
            };
            match opened {
                Ok(fd) => Ok((fd, path.clone())),
                Err(error) => {
                    let what = format!("opening layer {}", path.display());
                    Err(Error::os(Step::Changes, what, error).with_path(path))
                }
            }
        });
        Ok(Self { dirs: opened.collect::<Result<_>>()?, marks })
    }

    /// The root, to which all of them add.
    pub(crate) fn root(&self) -> Vec<usize> {
        (0..self.dirs.len()).collect()
    }

    /// What is at `path`, relative to the root, whose directory is in these of the layers.
    pub(crate) fn find(&self, path: &Path, within: &[usize]) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for &number in within {
            let Some(entry) = self.open_in(number, path, OFlag::O_PATH | OFlag::O_NOFOLLOW)? else {
                continue;
            };
            let stat = fstat(&entry).map_err(|errno| self.failed(number, path, errno))?;
            if (is_whiteout(&stat) && self.marks != Marks::None) || self.is_marked(number, path, &stat)? {
                break;
            }
            let is_dir = kind_of(&stat) == SFlag::S_IFDIR;
            match &mut found {
                // A directory hides what is none below it.
                Some(_) if !is_dir => break,
                Some(found) => found.layers.push(number),
                None => found = Some(Found { stat, layers: vec![number] }),
            }
            if !is_dir || self.is_opaque(number, path)? {
                break;
            }
        }
        Ok(found)
    }

    /// The names in the directory that is at `path` in these of the layers, sorted.
    pub(crate) fn names(&self, path: &Path, within: &[usize]) -> Result<Vec<OsString>> {
        let mut all = Vec::new();
        for &number in within {
            let Some(dir) = self.open_in(number, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)? else {
                continue;
            };
            all.append(&mut names(dir.as_fd()).map_err(|errno| self.failed(number, path, errno))?);
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Opens a file or directory of a layer, to be read.
    pub(crate) fn read(&self, number: usize, path: &Path) -> Result<Option<OwnedFd>> {
        self.open_in(number, path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)
    }

    /// The target of a symbolic link of a layer.
    pub(crate) fn read_link(&self, number: usize, path: &Path) -> Result<Option<std::ffi::OsString>> {
        let Some(link) = self.open_in(number, path, OFlag::O_PATH | OFlag::O_NOFOLLOW)? else {
            return Ok(None);
        };
        nix::fcntl::readlinkat(&link, "").map(Some).map_err(|errno| self.failed(number, path, errno))
    }

    fn open_in(&self, number: usize, path: &Path, flags: OFlag) -> Result<Option<OwnedFd>> {
        let Some((root, _)) = self.dirs.get(number) else { return Ok(None) };
        // A layer is trusted not to lead anywhere, but its links are not followed by overlayfs, either.
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match openat2(root, path, how) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(self.failed(number, path, errno)),
        }
    }

    fn is_opaque(&self, number: usize, path: &Path) -> Result<bool> {
        let Some((root, _)) = self.dirs.get(number) else { return Ok(false) };
        self.marks.is_opaque(root.as_fd(), path.as_os_str()).map_err(|error| self.failed(number, path, error))
    }

    fn is_marked(&self, number: usize, path: &Path, stat: &FileStat) -> Result<bool> {
        let Some((root, _)) = self.dirs.get(number).filter(|_| may_be_marked(stat)) else { return Ok(false) };
        self.marks
            .is_whiteout(root.as_fd(), path.as_os_str())
            .map_err(|error| self.failed(number, path, error))
    }

    fn failed(&self, number: usize, path: &Path, error: impl Into<std::io::Error>) -> Error {
        let whole = self.dirs.get(number).map_or_else(|| path.to_owned(), |(_, layer)| layer.join(path));
        Error::os(Step::Changes, format!("reading {} of a layer", whole.display()), error).with_path(whole)
    }
}

/// The layer without what is mounted below it, which overlayfs does not show, either; `None` if this host may not clone
/// mounts. Then a mount that is in the way is an error.
fn own_mount(path: &Path) -> Option<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    sys::clone_tree(&path, sys::Reach::One).ok()
}

/// Whether it may be the other mark: an empty file.
pub(crate) fn may_be_marked(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFREG && stat.st_size == 0
}
