//! What the workspaces of one image share.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{RenameFlags, renameat2};

use super::copy::{self, Content};
use super::place::{Locked, check_name};
use super::workspace::Workspace;
use super::{Storage, StorageDriver, failed};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::fsimage;
use crate::lowering::Held;
use crate::merged::{Layers, Marks};
use crate::rootfs::Rootfs;
use crate::sys;

/// Layers, ready for [workspaces](Workspace).
///
/// With an overlay that is the layers themselves. Any other driver merges them into one directory when a base of the name
/// is first asked for, and finds it there later.
#[derive(Debug, Clone)]
pub struct Base {
    pub(super) storage: Storage,
    pub(super) layers: Vec<PathBuf>,
    /// Where they were merged.
    pub(super) merged: Option<Arc<Merged>>,
    /// What keeps the layers where they are.
    pub(super) _held: Option<Held>,
}

/// Shares a lock, so that nobody removes it.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) dir: Locked,
}

impl Merged {
    pub(super) fn tree(&self) -> PathBuf {
        self.dir.path.join("tree")
    }
}

impl Storage {
    /// The base of a name: the layers of an overlay, `Rootfs::overlay(..)` or the root of an image, in whatever order they
    /// have there, without its upper.
    ///
    /// The layers must not change as long as the base is there: take a name that says what they are, as the id of an image.
    /// Merging gives every file the owner, mode, times, and `user.*` attributes that it has in its layer; an unprivileged
    /// host owns everything. Sockets and devices are left out.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a root that is no overlay, a bad name, or if the base was made of other layers; [`Unsupported`](ErrorKind::Unsupported) for layers with marks of `metacopy` or `redirect_dir`;
    /// failures to read layers and to write.
    pub fn base(&self, name: &str, root: &Rootfs) -> Result<Base> {
        check_name(name)?;
        let layers = root.layers().filter(|layers| !layers.is_empty()).ok_or_else(|| {
            Error::message(
                ErrorKind::InvalidConfig,
                Step::Storage,
                "a base is made of the layers of an overlay",
            )
            .with_hint("give it Rootfs::overlay(..), also for one directory")
        })?;
        // Another process may start in another directory.
        let absolute = |layer: &PathBuf| layer.canonicalize().map_err(failed("resolving layer", layer));
        let layers = layers.iter().map(absolute).collect::<Result<Vec<_>>>()?;
        let merged = match self.driver {
            StorageDriver::Overlay => None,
            _ => Some(Arc::new(self.merged(name, &layers)?)),
        };
        Ok(Base { storage: self.clone(), layers, merged, _held: root.held().cloned() })
    }

    /// Removes what was merged for a base. With an overlay there is nothing to remove.
    ///
    /// # Errors
    ///
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) while a [`Base`] or a workspace has it, in any process.
    pub fn remove_base(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let shelf = &self.place.bases;
        match shelf.lock(name, libc::LOCK_EX)? {
            Some(base) => base.remove_from(shelf, &self.place.runs).map(drop),
            None if shelf.has(name) => Err(Error::message(
                ErrorKind::ResourceExhausted,
                Step::Storage,
                format!("the base {name} is in use"),
            )
            .with_hint("drop the Base and its workspaces first")),
            None => Ok(()),
        }
    }

    /// One process merges, the others wait and find it there.
    fn merged(&self, name: &str, layers: &[PathBuf]) -> Result<Merged> {
        let shelf = &self.place.bases;
        let listed = listed(layers);
        let half = format!(".{name}");
        loop {
            if let Some(dir) = shelf.lock(name, libc::LOCK_SH)? {
                let found = dir.path.join("layers");
                let found = std::fs::read(&found).map_err(failed("reading", &found))?;
                if found != listed {
                    let message = format!("the base {name} was made of other layers");
                    return Err(Error::message(ErrorKind::InvalidConfig, Step::Storage, message)
                        .with_path(&dir.path)
                        .with_hint("give another set of layers another name, or remove_base() first"));
                }
                return Ok(Merged { dir });
            }
            let made = std::fs::create_dir(shelf.path.join(&half));
            if made.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists) {
                made.map_err(failed("making a base in", &shelf.path))?;
            }
            match shelf.lock(&half, libc::LOCK_EX)? {
                // Somebody else has made it meanwhile.
                Some(dir) if shelf.has(name) => {
                    dir.remove_from(shelf, &self.place.runs)?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                // Nobody has begun, or whoever had was killed.
                Some(dir) => self.merge(&dir, name, layers, &listed).inspect_err(|_| {
                    dir.remove_from(shelf, &self.place.runs).ok();
                })?,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn merge(&self, dir: &Locked, name: &str, layers: &[PathBuf], listed: &[u8]) -> Result<()> {
        let making = failed("making the base", &dir.path);
        crate::removal::empty(dir.fd.as_fd()).map_err(&making)?;
        if self.driver == StorageDriver::Snapshot {
            sys::create_subvolume(&dir.fd, c"tree").map_err(&making)?;
        } else {
            dir.make_dir("tree")?;
        }
        let tree = super::place::open_dir(dir.fd.as_fd(), Path::new("tree"))
            .map_err(|errno| making(errno.into()))?;
        let images = fsimage::mount_all(layers)?;
        copy::copy(&Layers::of(layers, &images, Marks::Either)?, &tree, Content::SharedIfPossible)?;
        std::fs::write(dir.path.join("layers"), listed).map_err(&making)?;
        nix::unistd::syncfs(&dir.fd).map_err(|errno| making(errno.into()))?;
        let shelf = &self.place.bases.fd;
        let half = dir.path.file_name().unwrap_or_default();
        renameat2(shelf, half, shelf, name, RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| making(errno.into()))
    }
}

/// The layers as they are written down: their paths, which may have any byte but zero.
pub(super) fn listed(layers: &[PathBuf]) -> Vec<u8> {
    layers.iter().flat_map(|layer| [layer.as_os_str().as_bytes(), b"\0"].concat()).collect()
}

impl Base {
    /// A new workspace, which is gone when it and everything that uses it is dropped.
    ///
    /// # Errors
    ///
    /// Failures to make it, as [`ResourceExhausted`](ErrorKind::ResourceExhausted) if the filesystem is full.
    pub fn workspace(&self) -> Result<Workspace> {
        Workspace::make(self, None)
    }

    /// The workspace of a name, which is kept: a new one, or as an earlier sandbox left it.
    ///
    /// # Errors
    ///
    /// As [`workspace`](Base::workspace); [`ResourceExhausted`](ErrorKind::ResourceExhausted) while somebody has it, in any
    /// process, and [`InvalidConfig`](ErrorKind::InvalidConfig) for a bad name, and for one of
    /// another driver or over other layers.
    pub fn named(&self, name: &str) -> Result<Workspace> {
        check_name(name)?;
        Workspace::make(self, Some(name))
    }
}
