//! Two directories of the host in which an overlay keeps what is written.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;
use crate::quota::Quota;

/// An upper on the host's disk, what [`Upper::dir`](crate::Upper::dir) makes.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, Rootfs, Sandbox, Upper};
///
/// let upper = Upper::dir("/srv/run/upper", "/srv/run/work").quota(Bytes::gib(1), 100_000);
/// let sandbox = Sandbox::new().rootfs(Rootfs::overlay(["/srv/debian"]).upper(upper));
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone)]
pub struct UpperDir {
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) quota: Option<Quota>,
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
        Self { upper, work, quota: None, durability: Durability::Synced }
    }

    /// Limits what the two directories take of their filesystem, by a project quota: an ext4 or xfs that is mounted with
    /// `prjquota`, and a host with `CAP_SYS_ADMIN` in the initial user namespace (Linux 5.14).
    ///
    /// `size` is for the blocks of all files and directories together, rounded down to a block of the filesystem. Beyond
    /// it the program sees `EDQUOT` on ext4, `ENOSPC` on xfs. `inodes` is for their number; a few are overlayfs' own, and
    /// 0 is no limit. Without one, empty files are limited by their names alone, and on xfs each takes about half
    /// a KiB that no quota counts.
    ///
    /// The first sandbox gives the directories a project id that nothing else has, for which they must be empty. It stays
    /// theirs, and so does the limit, until a sandbox sets another one; a limit below what is there is kept by refusing
    /// whatever would add to it. A project id that they have already is kept, if it is not also that of the directory they
    /// are in.
    ///
    /// The sandbox needs a user namespace: in the host's own, the owner of a file may move it to another project. For
    /// the same reason no other kind of sandbox may have used the directories. See
    /// [quotactl(2)](https://man7.org/linux/man-pages/man2/quotactl.2.html).
    ///
    /// # Errors
    ///
    /// This cannot fail. [`Sandbox::plan`](crate::Sandbox::plan) answers
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a size without a block in it and for a sandbox without a user
    /// namespace, [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel or the filesystem keeps no such limits,
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for an unprivileged host. Each spawn looks again, and
    /// fails with [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for directories that have files without the
    /// project's id, or share it. What was set is read back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Rootfs, Sandbox, Upper};
    ///
    /// let upper = Upper::dir("/srv/run/upper", "/srv/run/work").quota(Bytes::mib(64), 10_000);
    /// let sandbox = Sandbox::new().rootfs(Rootfs::overlay(["/srv/debian"]).upper(upper)).root();
    /// let outcome = sandbox.status(Command::new("/bin/sh").args(["-c", "cat /dev/zero > /fill"]))?;
    /// assert!(!outcome.success());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    #[must_use]
    pub fn quota(mut self, size: impl Into<Bytes>, inodes: u64) -> Self {
        self.quota = Some(Quota { size: size.into(), inodes });
        self
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
