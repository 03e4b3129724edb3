//! Limits of a persistent upper by project quotas of its filesystem.
//!
//! The upper and the work directory get a project id, which all that is made in them inherits, and the project gets the
//! limits. A program in a user namespace can change neither (`ioctl_fssetxattr` of the kernel).

use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, fstatfs};

use crate::entries;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::idmap::Caller;
use crate::limits::Bytes;
use crate::sys::{self, LIMIT_BLOCK, LimitKinds, Project, ProjectQuota, ProjectQuotas};
use crate::upper::UpperDir;

/// What a persistent upper may take of its filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) size: Bytes,
    /// 0: any number.
    pub(crate) inodes: u64,
}

/// How often an id is drawn until it is one that nothing has.
const ATTEMPTS: usize = 64;

/// A directory of the upper, and its name for messages.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    fd: BorrowedFd<'a>,
    path: &'a Path,
    what: &'static str,
}

/// Looks whether this host can limit an upper, and changes nothing.
pub(crate) fn check(dir: &UpperDir, quota: Quota, caller: &Caller) -> Result<()> {
    let fd = open_dir(&dir.upper, UPPER)?;
    let upper = Place { fd: fd.as_fd(), path: &dir.upper, what: UPPER };
    if quota.size == Bytes::new(0) || quota.size.get().max(quota.inodes) > MOST {
        return Err(upper
            .refused(
                ErrorKind::InvalidConfig,
                "is to have a quota that lets nothing be written, or everything",
            )
            .with_hint("leave the quota out for none"));
    }
    if !caller.may_mount() {
        return Err(upper
            .refused(ErrorKind::PermissionDenied, "can be limited by a privileged host only")
            .with_hint(PRIVILEGE));
    }
    let filesystem = Filesystem::of(upper)?;
    filesystem.limits(quota, upper)?;
    filesystem.usage(upper, FIRST_ID).map(drop)
}

/// Limits an upper, whose lock the caller has, and makes sure of it.
pub(crate) fn set(dir: &UpperDir, quota: Quota, lock: BorrowedFd<'_>) -> Result<()> {
    let fd = open_dir(&dir.work, WORK)?;
    let upper = Place { fd: lock, path: &dir.upper, what: UPPER };
    let work = Place { fd: fd.as_fd(), path: &dir.work, what: WORK };
    if upper.device()? != work.device()? {
        return Err(Error::invalid("the upper and the work directory are on different filesystems")
            .with_path(work.path)
            .with_hint("make two directories side by side"));
    }
    let filesystem = Filesystem::of(upper)?;
    let limits = filesystem.limits(quota, upper)?;
    let project = match upper.project()?.id {
        0 => filesystem.claim(upper, work)?,
        own => {
            upper.refuse_shared(own)?;
            upper.join(own)?;
            work.join(own)?;
            own
        }
    };
    filesystem.limit(upper, project, &limits)
}

const UPPER: &str = "upper directory";
const WORK: &str = "work directory";

/// The most that ext4 can hold as a limit, and more than any filesystem has.
const MOST: u64 = i64::MAX as u64;

const PRIVILEGE: &str =
    "limits of projects take CAP_SYS_ADMIN in the initial user namespace; without it Upper::tmpfs has a size";

/// Ids that we give are above those that administrators and container engines count up from, and positive in every tool.
const FIRST_ID: u32 = 1 << 30;

fn open_dir(path: &Path, what: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| {
        Error::os(Step::MountSource, format!("opening the {what} {}", path.display()), errno).with_path(path)
    })
}

impl Place<'_> {
    fn failed<E: Into<std::io::Error>>(&self, act: &str) -> impl Fn(E) -> Error {
        let (what, path) = (format!("{act} the {} {}", self.what, self.path.display()), self.path.to_owned());
        move |error| Error::os(Step::MountSource, what.clone(), error).with_path(&path)
    }

    fn refused(&self, kind: ErrorKind, problem: &str) -> Error {
        let message = format!("the {} {} {problem}", self.what, self.path.display());
        Error::message(kind, Step::MountSource, message).with_path(self.path)
    }

    fn device(&self) -> Result<u64> {
        fstat(self.fd).map(|stat| stat.st_dev).map_err(self.failed("looking at"))
    }

    fn project(&self) -> Result<Project> {
        sys::project_of(self.fd).map_err(self.failed("reading the project id of"))
    }

    /// An id that the directory has of the one that it was made in is a limit for both together.
    fn refuse_shared(&self, id: u32) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let above =
            openat(self.fd, "..", flags, Mode::empty()).map_err(self.failed("opening what is above"))?;
        let above = Place { fd: above.as_fd(), ..*self };
        if above.device()? == self.device()? && above.project()?.id == id {
            let problem = format!("shares the project id {id} with the directory that it is in");
            return Err(self.refused(ErrorKind::InvalidConfig, &problem).with_hint(
                "give both directories an id of their own (chattr +P -p NUMBER DIRECTORY), or make them elsewhere",
            ));
        }
        Ok(())
    }

    /// Makes sure that the directory, and all that will be in it, has this project id. It is not walked: what is in
    /// it already has the id only if it had that from the start.
    fn join(&self, id: u32) -> Result<()> {
        let wanted = Project { id, is_inherited: true };
        if self.project()? == wanted {
            return Ok(());
        }
        if !entries::names(self.fd).map_err(self.failed("reading"))?.is_empty() {
            return Err(self
                .refused(ErrorKind::InvalidConfig, "has files that its quota would not count")
                .with_hint("start with two empty directories: files get the project id when they are made"));
        }
        sys::set_project(self.fd, id).map_err(self.failed("setting the project id of"))?;
        let found = self.project()?;
        if found == wanted {
            return Ok(());
        }
        let problem = format!("has the project id {} after it was set to {id}", found.id);
        Err(self.refused(ErrorKind::Unsupported, &problem))
    }
}

/// A filesystem that keeps projects to their limits.
#[derive(Debug, Clone, Copy)]
struct Filesystem {
    kinds: LimitKinds,
    /// What it rounds limits up to.
    block: u64,
}

impl Filesystem {
    fn of(upper: Place<'_>) -> Result<Self> {
        let stat = fstatfs(upper.fd).map_err(upper.failed("looking at the filesystem of"))?;
        let kind = stat.filesystem_type();
        let quotas = sys::project_quotas(upper.fd).map_err(|error| {
            upper.failed("asking for the quotas of")(error).with_hint(
                "quotactl_fd(2) needs Linux 5.14 and a kernel that was built with quotas (CONFIG_QUOTACTL)",
            )
        })?;
        let problem = match quotas {
            ProjectQuotas::Enforced => {
                let block = u64::try_from(stat.block_size()).unwrap_or(0).max(LIMIT_BLOCK);
                let kinds =
                    if kind == XFS_SUPER_MAGIC { LimitKinds::DataAndRealtime } else { LimitKinds::Data };
                return Ok(Self { kinds, block });
            }
            ProjectQuotas::Counted => {
                "is on a filesystem that counts what projects have and does not limit it"
            }
            ProjectQuotas::Off => "is on a filesystem that does not limit projects",
        };
        Err(upper.refused(ErrorKind::Unsupported, problem).with_hint(remedy(kind)))
    }

    /// Never more than was asked for: a limit is rounded up by the kernel, and 0 would be none.
    fn limits(&self, quota: Quota, upper: Place<'_>) -> Result<ProjectQuota> {
        let blocks = quota.size.get() / self.block;
        if blocks == 0 {
            let problem = format!("is to have a quota of {}, in which nothing can be written", quota.size);
            let hint = format!("its filesystem has blocks of {}", Bytes::new(self.block));
            return Err(upper.refused(ErrorKind::InvalidConfig, &problem).with_hint(hint));
        }
        let block = self.block / LIMIT_BLOCK;
        Ok(ProjectQuota {
            blocks_max: blocks * block,
            inodes_max: quota.inodes,
            // An upper has nothing to do there.
            realtime_max: if self.kinds == LimitKinds::DataAndRealtime { block } else { 0 },
            ..ProjectQuota::default()
        })
    }

    fn usage(&self, upper: Place<'_>, id: u32) -> Result<ProjectQuota> {
        sys::project_quota(upper.fd, id)
            .map_err(|error| upper.failed("reading the quota of")(error).with_hint(PRIVILEGE))
    }

    /// Gives two empty directories a project id that nothing else has.
    fn claim(&self, upper: Place<'_>, work: Place<'_>) -> Result<u32> {
        for _ in 0..ATTEMPTS {
            // The standard library's only random numbers.
            let drawn = RandomState::new().hash_one(0_u8).to_le_bytes();
            let id = FIRST_ID | u32::from_le_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]) & (FIRST_ID - 1);
            if !self.usage(upper, id)?.is_unused() {
                continue;
            }
            upper.join(id)?;
            work.join(id)?;
            // Of two that draw the same id at the same moment each has taken it before it counts.
            if self.usage(upper, id)?.inodes == 2 {
                return Ok(id);
            }
        }
        Err(upper
            .refused(ErrorKind::ResourceExhausted, "gets no project id: all that were tried are in use")
            .with_hint(
                "see which are, by `repquota -P` or `xfs_quota -x -c report`, and remove limits of old ones",
            ))
    }

    fn limit(&self, upper: Place<'_>, project: u32, limits: &ProjectQuota) -> Result<()> {
        sys::limit_project(upper.fd, project, limits, self.kinds)
            .map_err(upper.failed("setting the quota of"))?;
        let found = self.usage(upper, project)?;
        if (ProjectQuota { blocks: 0, inodes: 0, ..found }) == *limits {
            return Ok(());
        }
        let size = Bytes::new(found.blocks_max.saturating_mul(LIMIT_BLOCK));
        let problem = format!("has a quota of {size} and {} inodes after another was set", found.inodes_max);
        Err(upper.refused(ErrorKind::Unsupported, &problem))
    }
}

/// What to do so that a filesystem limits projects.
fn remedy(kind: FsType) -> &'static str {
    match kind {
        EXT4_SUPER_MAGIC => {
            "unmount it, run `tune2fs -O project,quota DEVICE`, and mount it with `-o prjquota` (a kernel without \
             CONFIG_QFMT_V2 refuses that)"
        }
        XFS_SUPER_MAGIC => {
            "unmount it and mount it with `-o prjquota` (a kernel without CONFIG_XFS_QUOTA refuses that)"
        }
        _ => "keep the two directories on an ext4 or xfs that is mounted with `-o prjquota`",
    }
}
