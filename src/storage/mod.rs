//! Writable roots on disk, one for each sandbox, over layers that they share.
//!
//! ```text
//! storage/
//!   bases/<name>/tree/    the layers merged into one directory, made once; not with an overlay, which needs none
//!                layers   what it was made of
//!   named/<name>/         a workspace that is kept:  upper/ and work/ of an overlay, or tree/
//!   runs/<n>/             one that is not, or is being made
//! ```
//!
//! Whoever uses one of these directories has a lock on it (`flock(2)`), which ends with its process. What is in `runs` and
//! not locked was left by a process that was killed, and is removed when the storage is opened.

mod base;
mod copy;
mod place;
mod survey;
mod workspace;

pub use base::Base;
pub use survey::StorageReport;
pub(crate) use survey::survey_dir;
pub use workspace::Workspace;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use self::place::Place;
use crate::error::{Error, ErrorKind, Result, Step};

/// How the files of layers become the writable files of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageDriver {
    /// Layers are mounted as they are, and a file is copied as a whole when it is first written to
    /// ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)).
    Overlay,
    /// Layers are merged once, and each sandbox has a snapshot of that, which shares blocks until they are written to:
    /// btrfs only.
    Snapshot,
    /// Layers are merged once, and each sandbox has a copy of that, whose files share blocks until they are written to
    /// (`ioctl_ficlone(2)`): xfs with `reflink=1`, btrfs. Starting takes time for each file.
    Reflink,
    /// Layers are merged once, and each sandbox has a copy of that. Starting takes time and space for each byte.
    Copy,
}

impl StorageDriver {
    /// Every driver, in the order in which [`Storage::auto`] prefers them.
    pub const ALL: [Self; 4] = [Self::Snapshot, Self::Overlay, Self::Reflink, Self::Copy];

    /// What it is called in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Snapshot => "snapshot",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for StorageDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A directory of writable roots: each sandbox has one of its own, over layers that all share.
///
/// An [`Upper`](crate::Upper) keeps what one sandbox writes. This makes, finds and removes such places, on every
/// filesystem: where overlayfs cannot be mounted by copies, and where the filesystem can do that by copies that share
/// blocks, so that a large file of which little is written takes little. [`auto`](Storage::auto) really tries what works in
/// the directory.
///
/// Any number of threads and processes may use one storage at once, and whatever kills them, the next one that opens it
/// removes what they left. It belongs to one user, and nobody else may enter it, nor be able to rename a directory that it
/// is in. Opening one, and dropping a workspace, wait until what is to be removed is gone.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Rootfs, Sandbox, Storage};
///
/// let storage = Storage::auto("/srv/agents")?;
/// println!("{}", storage.reason());
/// let base = storage.base("debian-12", &Rootfs::overlay(["/srv/layers/python", "/srv/layers/debian"]))?;
///
/// let workspace = base.workspace()?;
/// let sandbox = Sandbox::new().root().rootfs(workspace.rootfs());
/// sandbox.status(Command::new("/bin/sh").args(["-c", "echo hello > /note"]))?;
/// println!("{} changes", workspace.changes()?.len());
/// drop(workspace); // and everything in it is gone
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Storage {
    place: Arc<Place>,
    driver: StorageDriver,
    reason: Arc<str>,
}

impl Storage {
    /// Opens the storage in a directory, which is made if it is missing, with the best driver that works there: snapshots,
    /// or else an overlay, or else copies that share blocks, or else copies. Each is really tried, which takes some
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if the directory belongs to another user or others may enter it,
    /// [`Unsupported`](ErrorKind::Unsupported) if no driver works in it, and failures to make or read it.
    pub fn auto(dir: impl AsRef<Path>) -> Result<Self> {
        let place = Place::open(dir.as_ref())?;
        let report = survey::survey(&place);
        let Some(driver) = report.chosen() else {
            return Err(Error::message(ErrorKind::Unsupported, Step::Storage, report.reason())
                .with_path(&place.path)
                .with_hint(
                    "see Host::probe(): a root filesystem that can be written to cannot be had here",
                ));
        };
        Ok(Self { place: Arc::new(place), driver, reason: report.reason().into() })
    }

    /// The same with a driver of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`auto`](Storage::auto), and [`Unsupported`](ErrorKind::Unsupported) if the driver does not work in the
    /// directory; the hint says why.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Storage, StorageDriver};
    ///
    /// # let dir = std::env::temp_dir().join(format!("belljar-doc-storage-{}", std::process::id()));
    /// let storage = Storage::open(&dir, StorageDriver::Copy)?;
    /// assert_eq!(storage.driver(), StorageDriver::Copy);
    /// # drop(storage);
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn open(dir: impl AsRef<Path>, driver: StorageDriver) -> Result<Self> {
        let dir = dir.as_ref();
        let place = Place::open(dir)?;
        if let Err(cause) = survey::attempt(&place, driver) {
            let message = format!("the storage driver {driver} does not work in {}: {cause}", dir.display());
            return Err(Error::message(ErrorKind::Unsupported, Step::Storage, message)
                .with_path(dir)
                .with_hint("use Storage::auto, or a directory on another filesystem"));
        }
        Ok(Self { place: Arc::new(place), driver, reason: "chosen by the caller".into() })
    }

    /// How writable roots are made here.
    #[must_use]
    pub fn driver(&self) -> StorageDriver {
        self.driver
    }

    /// Why it is this driver.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// A failure of the machine at a path of the storage.
fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |error| Error::os(Step::Storage, format!("{what} {}", path.display()), error).with_path(path)
}
