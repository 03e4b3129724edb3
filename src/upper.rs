//! Two directories of the host in which an overlay keeps what is written.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind, Result, Step};

/// An upper on the host's disk, what [`Upper::dir`](crate::Upper::dir) makes.
///
/// # Examples
///
/// ```
/// use belljar::{Rootfs, Sandbox, Upper};
///
/// let upper = Upper::dir("/srv/run/upper", "/srv/run/work").volatile();
/// let sandbox = Sandbox::new().rootfs(Rootfs::overlay(["/srv/debian"]).upper(upper));
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone)]
pub struct UpperDir {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) durability: Durability,
}

/// What overlayfs does when a program asks for its writes to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    /// Nothing.
    Volatile,
}

impl UpperDir {
    pub(crate) fn new(upper: PathBuf, work: PathBuf) -> Self {
        Self { upper, work, durability: Durability::Synced }
    }

    /// Lets overlayfs ignore `fsync(2)`, `sync(2)` and their kin (`volatile`, Linux 5.10), for changes that need not
    /// survive a crash of the machine: programs that sync a lot run much faster.
    ///
    /// After a crash the directories may hold anything, so the kernel refuses to mount them a second time, with or without
    /// this, and so does a spawn: each sandbox needs two new directories, or those that
    /// [`Rootfs::discard`](crate::Rootfs::discard) has emptied. What was written is there when the sandbox has
    /// ended, and [`Rootfs::changes`](crate::Rootfs::changes) reads it. See the kernel's
    /// [overlayfs document](https://docs.kernel.org/filesystems/overlayfs.html#volatile-mount).
    ///
    /// # Errors
    ///
    /// This cannot fail. A spawn with directories that were used so fails with
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig); in a host without privilege, which cannot look into the work
    /// directory, with the kernel's `EINVAL`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Rootfs, Sandbox, Upper};
    ///
    /// let upper = Upper::dir("/srv/build/upper", "/srv/build/work").volatile();
    /// let sandbox = Sandbox::new().rootfs(Rootfs::overlay(["/srv/debian"]).upper(upper)).root();
    /// sandbox.status(Command::new("/usr/bin/apt-get").args(["install", "--yes", "gcc"]))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.durability = Durability::Volatile;
        self
    }

    /// The same directories by paths that lead to them wherever the host goes, and whatever becomes of links on the way.
    pub(crate) fn real(&self) -> Result<Self> {
        let real = |path: &Path| {
            path.canonicalize().map_err(|error| {
                Error::os(Step::MountSource, format!("resolving {}", path.display()), error).with_path(path)
            })
        };
        Ok(Self { upper: real(&self.upper)?, work: real(&self.work)?, ..self.clone() })
    }

    /// Refuses what the kernel would refuse with `EINVAL`: directories that a mount without syncing has used.
    pub(crate) fn refuse_unsynced(&self) -> Result<()> {
        const MARK: &str = "work/incompat/volatile";
        let failed = |errno: Errno| {
            let what = format!("looking into the work directory {}", self.work.display());
            Error::os(Step::MountSource, what, errno).with_path(&self.work)
        };
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let work = open(&self.work, flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match openat2(&work, MARK, OpenHow::new().flags(flags).resolve(resolve)) {
            Ok(_) => {
                let upper = self.upper.display();
                let message =
                    format!("the upper directory {upper} was used with volatile(), and may be incomplete");
                Err(Error::message(ErrorKind::InvalidConfig, Step::MountSource, message)
                    .with_path(&self.upper)
                    .with_hint("give each sandbox two new directories, or empty both by Rootfs::discard()"))
            }
            // Overlayfs closes its own directory to all but root; then the kernel has the word.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}
