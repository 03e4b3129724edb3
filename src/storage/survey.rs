//! Which drivers work in a directory: each is tried there.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};

use super::place::{Locked, Place};
use super::{StorageDriver, failed};
use crate::error::{Error, Result};
use crate::rootfs::{Rootfs, Upper};
use crate::sandbox::Sandbox;
use crate::sys;

/// What a directory offers for writable roots, really tried. See [`Host::storage`](crate::Host::storage).
///
/// [`Display`](fmt::Display) prints a line for each driver.
#[derive(Debug, Clone)]
pub struct StorageReport {
    dir: PathBuf,
    filesystem: String,
    /// `None`: it works. Else why it does not.
    drivers: Vec<(StorageDriver, Option<String>)>,
}

impl StorageReport {
    /// The driver that [`Storage::auto`](crate::Storage::auto) takes here; `None` if no sandbox can have a writable root here.
    #[must_use]
    pub fn chosen(&self) -> Option<StorageDriver> {
        self.drivers.iter().find(|(_, cause)| cause.is_none()).map(|(driver, _)| *driver)
    }

    /// Why a driver does not work here; `None` if it does.
    #[must_use]
    pub fn cause(&self, driver: StorageDriver) -> Option<&str> {
        self.drivers.iter().find(|(tried, _)| *tried == driver)?.1.as_deref()
    }

    /// Why it is the [`chosen`](StorageReport::chosen) driver, in a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let better = self.drivers.iter().map_while(|(driver, cause)| Some((driver, cause.as_deref()?)));
        let better: Vec<_> = better.map(|(driver, cause)| format!("no {driver}: {cause}")).collect();
        let place = format!("{} on {}", self.dir.display(), self.filesystem);
        match self.chosen() {
            Some(chosen) if better.is_empty() => format!("{chosen}, the best there is, works in {place}"),
            Some(chosen) => format!("{chosen} works in {place}; {}", better.join("; ")),
            None => format!("nothing works in {place}; {}", better.join("; ")),
        }
    }
}

impl fmt::Display for StorageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "writable roots in {} on {}", self.dir.display(), self.filesystem)?;
        for (driver, cause) in &self.drivers {
            match cause {
                None if Some(*driver) == self.chosen() => {
                    writeln!(f, "{:8}  ok       chosen", driver.name())?
                }
                None => writeln!(f, "{:8}  ok", driver.name())?,
                Some(cause) => writeln!(f, "{:8}  missing  {cause}", driver.name())?,
            }
        }
        Ok(())
    }
}

/// Looks at a directory by a storage in it that is gone afterwards.
pub(crate) fn survey_dir(dir: &Path) -> Result<StorageReport> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let parent: OwnedFd = File::open(dir).map_err(failed("opening", dir))?.into();
    let name = loop {
        // Nobody else's, for it is new.
        let name = format!(".belljar-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match mkdirat(&parent, name.as_str(), Mode::S_IRWXU) {
            Err(Errno::EEXIST) => {}
            made => {
                break made
                    .map(|()| name)
                    .map_err(|errno| failed("making a directory in", dir)(errno.into()))?;
            }
        }
    };
    let report = Place::open(&dir.join(&name)).map(|place| survey(&place));
    crate::removal::remove(parent.as_fd(), name.as_ref()).map_err(failed("emptying", dir))?;
    Ok(StorageReport { dir: dir.to_owned(), ..report? })
}

pub(super) fn survey(place: &Place) -> StorageReport {
    let drivers = StorageDriver::ALL.map(|driver| (driver, attempt(place, driver).err()));
    let filesystem =
        fstatfs(&place.runs.fd).map_or_else(|errno| errno.to_string(), |stat| name(stat.filesystem_type()));
    StorageReport { dir: place.path.clone(), filesystem, drivers: drivers.into() }
}

fn name(kind: FsType) -> String {
    const XFS_SUPER_MAGIC: FsType = FsType(0x5846_5342);
    match kind {
        BTRFS_SUPER_MAGIC => "btrfs".into(),
        EXT4_SUPER_MAGIC => "ext4".into(),
        XFS_SUPER_MAGIC => "xfs".into(),
        TMPFS_MAGIC => "tmpfs".into(),
        OVERLAYFS_SUPER_MAGIC => "overlay".into(),
        FsType(number) => format!("a filesystem of type {number:#x}"),
    }
}

/// Tries a driver in a directory of its own, to the start of a sandbox. The error says why it does not work.
pub(super) fn attempt(place: &Place, driver: StorageDriver) -> Result<(), String> {
    let told = |error: Error| {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    };
    let dir = place.runs.make().map_err(told)?;
    let tree = dir.path.join("tree");
    let root = match driver {
        StorageDriver::Overlay => overlay(&dir).map_err(told),
        StorageDriver::Snapshot => snapshot(&dir).map_err(|error| format!("snapshots need btrfs: {error}")),
        StorageDriver::Reflink => {
            reflink(&dir).map_err(|error| format!("shared blocks need btrfs, or xfs with reflink=1: {error}"))
        }
        StorageDriver::Copy => dir.make_dir("tree").map(drop).map_err(told),
    };
    let root = root.map(|()| match driver {
        StorageDriver::Overlay => Rootfs::overlay([dir.path.join("lower")])
            .upper(Upper::dir(dir.path.join("upper"), dir.path.join("work"))),
        _ => Rootfs::copy(tree.clone(), tree),
    });
    let started = root.and_then(|root| start(root).map_err(told));
    dir.remove_from(&place.runs, &place.runs).map_err(told)?;
    started
}

fn start(root: Rootfs) -> Result<()> {
    Sandbox::new().rootfs(root).start()?.close()
}

fn overlay(dir: &Locked) -> Result<()> {
    ["lower", "upper", "work"].iter().try_for_each(|name| dir.make_dir(name).map(drop))
}

fn snapshot(dir: &Locked) -> std::io::Result<()> {
    sys::create_subvolume(&dir.fd, c"base")?;
    let base: OwnedFd = File::open(dir.path.join("base"))?.into();
    sys::snapshot_subvolume(&base, &dir.fd, c"tree")?;
    // What cannot be removed again would fill the storage.
    crate::removal::remove(dir.fd.as_fd(), "base".as_ref())
}

fn reflink(dir: &Locked) -> std::io::Result<()> {
    dir.make_dir("tree").map_err(std::io::Error::other)?;
    let mut from = File::create_new(dir.path.join("from"))?;
    // Small files may be in the inode, where nothing can be shared.
    from.write_all(&[7; 64 << 10])?;
    sys::share_content(&from, &File::create_new(dir.path.join("to"))?)
}
