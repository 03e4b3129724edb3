//! Where members go: directories of the layer, looked up below its root and made where they are missing.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{Mode, SFlag, mkdirat};

use super::archive::shown;
use super::attributes::Attributes;
use super::unpack::{Unpacker, dot, making};
use super::{Time, dir, refused, storing};
use crate::error::{Error, Result, Step};
use crate::removal;

/// Directories within one another; removing a tree holds each of them open.
pub(crate) const DEEPEST: usize = 200;

/// A directory of the layer and its path without symlinks.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

impl<R: Read> Unpacker<'_, R> {
    /// The directory at a path, made where it is missing.
    pub(super) fn parent(&mut self, path: &Path) -> Result<Place> {
        match self.last.take() {
            Some((last, place)) if last == path => return Ok(place),
            _ => {}
        }
        match dir::open(self.tree.as_fd(), dot(path), OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => Ok(Place { fd, path: path.to_owned() }),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => self.walk(path),
            Err(errno) => Err(making(path)(errno)),
        }
    }

    fn walk(&mut self, path: &Path) -> Result<Place> {
        let mut place = Place { fd: self.open_tree()?, path: PathBuf::new() };
        for name in path.components() {
            let name = Path::new(name.as_os_str());
            let next = place.path.join(name);
            let fd = loop {
                match dir::open(place.fd.as_fd(), name, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                    Ok(fd) => break fd,
                    Err(Errno::ENOENT) => self.implied_dir(&place, name, &next)?,
                    Err(Errno::ENOTDIR | Errno::ELOOP) => {
                        let found = dir::look(place.fd.as_fd(), name).map_err(making(&next))?;
                        match found {
                            Some(stat) if dir::is_whiteout(&stat) => {
                                removal::remove(place.fd.as_fd(), name.as_os_str())
                                    .map_err(storing("removing a whiteout"))?;
                                self.implied_dir(&place, name, &next)?;
                                self.make_opaque(&place.fd, name)?;
                            }
                            Some(stat) if dir::kind_of(&stat) == SFlag::S_IFLNK => {
                                break self.follow(&next)?;
                            }
                            _ => {
                                return Err(refused(format!(
                                    "{} is no directory and has something below it",
                                    shown(next.as_os_str().as_bytes())
                                )));
                            }
                        }
                    }
                    Err(errno) => return Err(making(&next)(errno)),
                }
            };
            let path = match dir::look(place.fd.as_fd(), name) {
                Ok(Some(stat)) if dir::kind_of(&stat) == SFlag::S_IFLNK => self.path_of(&fd)?,
                _ => next,
            };
            place = Place { fd, path };
        }
        Ok(place)
    }

    /// A directory that the archive has no member for.
    fn implied_dir(&mut self, place: &Place, name: &Path, path: &Path) -> Result<()> {
        check_depth(path)?;
        mkdirat(&place.fd, name, Mode::from_bits_truncate(0o755)).map_err(making(path))?;
        let fd = dir::open_dir(place.fd.as_fd(), name).map_err(making(path))?;
        // The caller's umask is no part of the layer.
        nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(making(path))?;
        let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Time { seconds: 0, nanos: 0 } };
        self.dirs.insert(path.to_owned(), attributes);
        Ok(())
    }

    /// The directory that a symlink of the layer leads to, if the layer were the root.
    pub(super) fn follow(&self, path: &Path) -> Result<OwnedFd> {
        let rules =
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        dir::resolve(self.tree.as_fd(), path, flags, rules).map_err(|errno| {
            let name = shown(path.as_os_str().as_bytes());
            refused(format!("the symlink {name} leads to no directory of the layer: {}", errno.desc()))
        })
    }

    /// Where in the layer an open directory is.
    fn path_of(&self, fd: &OwnedFd) -> Result<PathBuf> {
        let link = |fd: &OwnedFd| {
            std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
                .map_err(storing("looking up a directory of the layer"))
        };
        let (root, path) = (link(&self.tree)?, link(fd)?);
        let inside = path.strip_prefix(root);
        Ok(inside.map_err(|_| Error::internal(Step::Image, "a directory is not in its layer"))?.to_owned())
    }
}

pub(super) fn check_depth(path: &Path) -> Result<()> {
    match path.components().count() {
        0..=DEEPEST => Ok(()),
        depth => Err(refused(format!("{depth} directories within one another; {DEEPEST} is the most"))),
    }
}
