//! The writable root of one sandbox.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{RenameFlags, renameat2};

use super::base::{Base, Merged, listed};
use super::copy::{self, Content};
use super::place::{Locked, Shelf, open_dir};
use super::{Place, StorageDriver, failed};
use crate::changes::Change;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::fsimage;
use crate::merged::{Layers, Marks};
use crate::rootfs::{Rootfs, Upper};
use crate::sys;

/// A writable root on disk, for one sandbox at a time.
///
/// What [`Base::workspace`] has made is removed when this value, and every root, plan and sandbox with it, are dropped, and by
/// the next that opens the storage if this process is killed. What [`Base::named`] has made stays.
#[derive(Debug)]
pub struct Workspace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    base: Base,
    dir: Locked,
    lifetime: Lifetime,
    removed: AtomicBool,
    /// A forked copy of this process drops its values, too.
    owner: u32,
}

/// What a workspace that is kept is over.
const LAYERS: &str = "layers";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Dropped,
    Kept,
}

impl Workspace {
    pub(super) fn make(base: &Base, name: Option<&str>) -> Result<Self> {
        let place = &base.storage.place;
        let Some(name) = name else {
            let dir = place.runs.make()?;
            let workspace = Self::of(base, dir, Lifetime::Dropped);
            workspace.fill()?;
            return Ok(workspace);
        };
        if place.named.has(name) {
            return Self::found(base, name);
        }
        let mut workspace = Self::of(base, place.runs.make()?, Lifetime::Dropped);
        workspace.fill()?;
        let Inner { dir, .. } = &*workspace.inner;
        let half_path = dir.path.clone();
        let keeping = failed("keeping", &half_path);
        std::fs::write(dir.path.join(LAYERS), listed(&base.layers)).map_err(&keeping)?;
        nix::unistd::syncfs(&dir.fd).map_err(|errno| keeping(errno.into()))?;
        // From here on it is complete, under a name that stays.
        let half = dir.path.file_name().unwrap_or_default();
        match renameat2(&place.runs.fd, half, &place.named.fd, name, RenameFlags::RENAME_NOREPLACE) {
            Err(nix::errno::Errno::EEXIST) => return Self::found(base, name),
            renamed => renamed.map_err(|errno| keeping(errno.into()))?,
        }
        // Its lock is on the directory, whatever that is called.
        if let Some(inner) = Arc::get_mut(&mut workspace.inner) {
            inner.dir.path = place.named.path.join(name);
            inner.lifetime = Lifetime::Kept;
        }
        Ok(workspace)
    }

    fn found(base: &Base, name: &str) -> Result<Self> {
        let shelf = &base.storage.place.named;
        let dir = shelf.lock(name, libc::LOCK_EX)?.ok_or_else(|| in_use(&shelf.path.join(name)))?;
        let part = dir.path.join(base.part());
        if !part.is_dir() {
            let message =
                format!("the workspace {name} was made by another driver than {}", base.storage.driver);
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Storage, message)
                .with_path(&dir.path)
                .with_hint("open the storage with that driver"));
        }
        let layers = dir.path.join(LAYERS);
        if std::fs::read(&layers).map_err(failed("reading", &layers))? != listed(&base.layers) {
            let message = format!("the workspace {name} is over other layers");
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Storage, message)
                .with_path(&dir.path)
                .with_hint("what was changed means nothing without them: discard it, or use another name"));
        }
        Ok(Self::of(base, dir, Lifetime::Kept))
    }

    fn of(base: &Base, dir: Locked, lifetime: Lifetime) -> Self {
        let (removed, owner) = (AtomicBool::new(false), std::process::id());
        Self { inner: Arc::new(Inner { base: base.clone(), dir, lifetime, removed, owner }) }
    }

    /// Makes what the driver needs in the new directory.
    fn fill(&self) -> Result<()> {
        let Inner { base, dir, .. } = &*self.inner;
        let making = failed("making a workspace in", &dir.path);
        let Some(merged) = &base.merged else {
            let upper = dir.make_dir("upper")?;
            dir.make_dir("work")?;
            // Mode and owner of the upper directory become those of the merged root.
            let images = fsimage::mount_all(&base.layers)?;
            return copy::copy_root(&Layers::of(&base.layers, &images, Marks::Either)?, &upper);
        };
        if base.storage.driver == StorageDriver::Snapshot {
            let tree = open_tree(merged)?;
            return sys::snapshot_subvolume(&tree, &dir.fd, c"tree").map_err(making);
        }
        let tree = dir.make_dir("tree")?;
        let content = match base.storage.driver {
            StorageDriver::Reflink => Content::Shared,
            _ => Content::Copied,
        };
        copy::copy(&Layers::of(&[merged.tree()], &[], Marks::None)?, &tree, content)
    }

    /// The root filesystem for [`Sandbox::rootfs`](crate::Sandbox::rootfs), writable, of one sandbox at a time.
    ///
    /// Owners and modes are those of the layers, of `/` as well: a program that is to write there runs as its owner.
    /// [`Container::changes`](crate::Container::changes) and what belongs to it work with every driver.
    #[must_use]
    pub fn rootfs(&self) -> Rootfs {
        let Inner { base, dir, .. } = &*self.inner;
        let root = match &base.merged {
            None => Rootfs::overlay(base.layers.iter().cloned())
                .upper(Upper::dir(dir.path.join("upper"), dir.path.join("work"))),
            Some(merged) => Rootfs::copy(merged.tree(), dir.path.join("tree")),
        };
        // Which holds the base, and that the layers.
        root.holding(self.inner.clone())
    }

    /// What is different in it from the layers, when no sandbox uses it. See
    /// [`Rootfs::changes`](crate::Rootfs::changes).
    ///
    /// # Errors
    ///
    /// As [`Rootfs::changes`](crate::Rootfs::changes).
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.rootfs().changes()
    }

    /// Where it is on the host. What is below was written by programs: never look it up by name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.inner.dir.path.join(self.inner.base.part())
    }

    /// Removes it with all that is in it, also one that has a name.
    ///
    /// # Errors
    ///
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) while a sandbox uses it; failures to remove.
    pub fn discard(self) -> Result<()> {
        match self.inner.remove()? {
            true => Ok(()),
            false => Err(in_use(&self.inner.dir.path)),
        }
    }
}

fn in_use(path: &Path) -> Error {
    let message = format!("the workspace {} is in use", path.display());
    Error::message(ErrorKind::ResourceExhausted, Step::Storage, message)
        .with_path(path)
        .with_hint("wait for the end of its sandbox, or drop the other Workspace")
}

impl Base {
    /// The directory in a workspace that programs write to.
    fn part(&self) -> &'static str {
        if self.merged.is_none() { "upper" } else { "tree" }
    }
}

fn open_tree(merged: &Merged) -> Result<OwnedFd> {
    let tree = open_dir(merged.dir.fd.as_fd(), Path::new("tree"));
    tree.map_err(|errno| failed("opening", &merged.tree())(errno.into()))
}

impl Inner {
    fn shelf(&self) -> &Shelf {
        let Place { named, runs, .. } = &*self.base.storage.place;
        if self.lifetime == Lifetime::Kept { named } else { runs }
    }

    fn remove(&self) -> Result<bool> {
        if self.removed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let removed = self.dir.remove_from(self.shelf(), &self.base.storage.place.runs)?;
        self.removed.store(removed, Ordering::Relaxed);
        Ok(removed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Dropped && self.owner == std::process::id() {
            // What cannot be removed now is when the storage is opened the next time.
            self.remove().ok();
        }
    }
}

impl fmt::Display for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path().display())
    }
}
