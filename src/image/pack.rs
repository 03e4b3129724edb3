//! Packs a directory, or what is different in a root, as the archive of a layer. Overlayfs's whiteouts become those of
//! archives.

use std::ffi::{CStr, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::members::{Found, Members, changes as changing, failed};
use crate::changes::{Change, ChangeKind, View};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::layer::{Budget, dir, shown};
use crate::sys;

/// Attributes of overlayfs, with a user's privileges and with the host's.
const OPAQUE: [&CStr; 2] = [c"user.overlay.opaque", c"trusted.overlay.opaque"];
const WHITEOUT: [&CStr; 2] = [c"user.overlay.whiteout", c"trusted.overlay.whiteout"];
/// What they mean depends on lower layers, and no archive can say it.
const MEANS_LOWER: [&CStr; 4] = [
    c"user.overlay.redirect",
    c"trusted.overlay.redirect",
    c"user.overlay.metacopy",
    c"trusted.overlay.metacopy",
];

pub(crate) struct Packer<'a, W> {
    members: Members<'a, W>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(out: W, budget: &'a Budget, ids: &'a View) -> Self {
        Self { members: Members::new(out, budget, ids) }
    }

    /// Writes everything below a directory, sorted by name, and the end of the archive. It may be an upper directory of
    /// whatever overlay.
    pub(crate) fn pack(mut self, root: BorrowedFd<'_>) -> Result<W> {
        let top = Path::new("");
        if has_any(root, &OPAQUE, top)?.as_deref() == Some(b"y") {
            self.members.opaque(top)?;
        }
        self.directory(root, top)?;
        self.members.end()
    }

    fn directory(&mut self, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
        for name in dir::names(fd).map_err(|errno| failed(path)(errno.into()))? {
            self.one(fd, &name, &path.join(&name))?;
        }
        Ok(())
    }

    fn one(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let found = Found::look(parent, name).map_err(|errno| failed(path)(errno.into()))?;
        if dir::is_whiteout(&found.stat) {
            return self.members.whiteout(path);
        }
        let mut opaque = false;
        if matches!(found.kind(), SFlag::S_IFREG | SFlag::S_IFDIR) {
            let fd = dir::reopen(found.fd.as_fd()).map_err(|errno| failed(path)(errno.into()))?;
            check_whole(fd.as_fd(), path)?;
            let file = found.kind() == SFlag::S_IFREG;
            if file && found.stat.st_size == 0 && has_any(fd.as_fd(), &WHITEOUT, path)?.is_some() {
                return self.members.whiteout(path);
            }
            opaque = !file && has_any(fd.as_fd(), &OPAQUE, path)?.as_deref() == Some(b"y");
        }
        self.members.add(&found, path)?;
        if opaque {
            self.members.opaque(path)?;
        }
        match found.kind() {
            SFlag::S_IFDIR => self.directory(found.fd.as_fd(), path),
            _ => Ok(()),
        }
    }

    /// Writes what is different in a root, and the end of the archive; returns the changes that have no place in one, too.
    ///
    /// A directory above a change is a member as well: an unpacker makes one that it does not know with any owner and mode,
    /// and this would then be that of the layers below.
    pub(crate) fn pack_changes(mut self, root: &OwnedFd, changes: Vec<Change>) -> Result<(W, Vec<Change>)> {
        let mut way = Way { root, path: PathBuf::new(), dirs: Vec::new() };
        let mut left_out = Vec::new();
        for change in changes {
            let path = change.path.strip_prefix("/").unwrap_or(&change.path);
            self.enter(&mut way, path.parent().unwrap_or(Path::new("")))?;
            if change.kind == ChangeKind::Deleted {
                self.members.whiteout(path)?;
                continue;
            }
            let found = way.look(path)?;
            let is_dir = found.kind() == SFlag::S_IFDIR;
            let added = self.members.add(&found, path)?;
            // What it replaces is gone all the same.
            if !added && change.kind == ChangeKind::TypeChanged {
                self.members.whiteout(path)?;
            }
            match change.kind {
                ChangeKind::Opaque if !is_dir => return Err(changing(path)),
                ChangeKind::Opaque => self.members.opaque(path)?,
                // Where a directory is of another type than what it replaces, nothing in it has to be hidden.
                _ => {}
            }
            if is_dir {
                way.push(path, found);
            }
            if !added {
                left_out.push(change);
            }
        }
        Ok((self.members.end()?, left_out))
    }

    /// Goes to a directory. Those on the way that were not members yet become it.
    fn enter(&mut self, way: &mut Way<'_>, path: &Path) -> Result<()> {
        way.leave_to(path);
        while way.path != path {
            let next: PathBuf = path.components().take(way.dirs.len() + 1).collect();
            let found = way.look(&next)?;
            if found.kind() != SFlag::S_IFDIR {
                return Err(changing(&next));
            }
            self.members.add(&found, &next)?;
            way.push(&next, found);
        }
        Ok(())
    }
}

/// The directories from the root to where the packer is, each of them a member already.
struct Way<'a> {
    root: &'a OwnedFd,
    path: PathBuf,
    dirs: Vec<OwnedFd>,
}

impl Way<'_> {
    /// Goes back to what leads to `path`, too.
    fn leave_to(&mut self, path: &Path) {
        while !path.starts_with(&self.path) {
            self.path.pop();
            self.dirs.pop();
        }
    }

    /// What is at a path whose last name is in the directory at the end of the way.
    fn look(&self, path: &Path) -> Result<Found> {
        let parent = self.dirs.last().unwrap_or(self.root);
        match Found::look(parent.as_fd(), path.file_name().unwrap_or_default()) {
            // It was there when the changes were read.
            Err(Errno::ENOENT) => Err(changing(path)),
            Ok(found) if dir::is_whiteout(&found.stat) => Err(changing(path)),
            found => found.map_err(|errno| failed(path)(errno.into())),
        }
    }

    fn push(&mut self, path: &Path, found: Found) {
        path.clone_into(&mut self.path);
        self.dirs.push(found.fd);
    }
}

/// Fails if what is there depends on what lower layers have.
fn check_whole(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    if has_any(fd, &MEANS_LOWER, path)?.is_none() {
        return Ok(());
    }
    let message = format!("{} refers to a lower layer", shown(path.as_os_str().as_encoded_bytes()));
    Err(Error::message(ErrorKind::Unsupported, Step::Image, message)
        .with_path(path)
        .with_hint("mount the overlay with redirect_dir=off and metacopy=off"))
}

/// The value of the first of some attributes that is there.
fn has_any(fd: BorrowedFd<'_>, names: &[&CStr], path: &Path) -> Result<Option<Vec<u8>>> {
    for name in names {
        if let Some(value) = sys::get_xattr(fd, name).map_err(failed(path))? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
