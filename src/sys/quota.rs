//! Project ids of files and the limits of a project, of whatever filesystem a descriptor is of. See `quotactl(2)` and
//! `ioctl_xfs_fsgetxattr(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of a block in the limits (`BBSIZE` of xfs). The interface that is named for xfs serves ext4 as well.
pub(crate) const LIMIT_BLOCK: u64 = 512;

/// What a project may have and has. The bytes are in [`LIMIT_BLOCK`]s, and a limit of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProjectQuota {
    pub(crate) blocks_max: u64,
    pub(crate) inodes_max: u64,
    /// Blocks on the real-time device of an xfs, which are counted apart.
    pub(crate) realtime_max: u64,
    pub(crate) blocks: u64,
    pub(crate) inodes: u64,
}

impl ProjectQuota {
    /// Nothing has the project's id, and nobody has given it a limit.
    pub(crate) fn is_unused(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a filesystem counts what projects have, and whether it keeps them to their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProjectQuotas {
    Off,
    Counted,
    Enforced,
}

/// Looks whether limits of projects are kept on a filesystem.
///
/// # Errors
///
/// `ENOSYS` if the kernel has no `quotactl_fd` (before Linux 5.14, or built without quotas), and others.
pub(crate) fn project_quotas(fd: BorrowedFd<'_>) -> io::Result<ProjectQuotas> {
    const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
    const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
    let mut state = QuotaState { version: 1, ..QuotaState::default() };
    match quotactl(fd, 0, Order::State(&mut state)) {
        Ok(()) if state.flags & FS_QUOTA_PDQ_ENFD != 0 => Ok(ProjectQuotas::Enforced),
        Ok(()) if state.flags & FS_QUOTA_PDQ_ACCT != 0 => Ok(ProjectQuotas::Counted),
        Ok(()) => Ok(ProjectQuotas::Off),
        // The filesystem has no quotas, none of projects, or all of them are off: or there is no such call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) && has_call() => {
            Ok(ProjectQuotas::Off)
        }
        Err(error) => Err(error),
    }
}

/// Whether the kernel knows the system call: it looks at the descriptor first.
fn has_call() -> bool {
    // SAFETY: four numbers, of which -1 is no descriptor, so that nothing more is looked at.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, -1, 0, 0, 0) };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

/// What a project may have and has. Takes `CAP_SYS_ADMIN` in the initial user namespace.
pub(crate) fn project_quota(fd: BorrowedFd<'_>, project: u32) -> io::Result<ProjectQuota> {
    let mut quota = DiskQuota::default();
    match quotactl(fd, project, Order::Get(&mut quota)) {
        Ok(()) => Ok(ProjectQuota {
            blocks_max: quota.blocks_hard,
            inodes_max: quota.inodes_hard,
            realtime_max: quota.realtime_hard,
            blocks: quota.blocks,
            inodes: quota.inodes,
        }),
        // Of a project that xfs has never heard of.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(ProjectQuota::default()),
        Err(error) => Err(error),
    }
}

/// Which limits a filesystem has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitKinds {
    /// Blocks and inodes.
    Data,
    /// Blocks of the real-time device as well.
    DataAndRealtime,
}

/// Sets the hard limits of a project and lifts its soft ones. Takes `CAP_SYS_ADMIN` in the initial user namespace.
pub(crate) fn limit_project(
    fd: BorrowedFd<'_>,
    project: u32,
    limits: &ProjectQuota,
    kinds: LimitKinds,
) -> io::Result<()> {
    const FS_DQUOT_VERSION: i8 = 1;
    const FS_PROJ_QUOTA: i8 = 2;
    // FS_DQ_ISOFT, _IHARD, _BSOFT, _BHARD; FS_DQ_RTBSOFT, _RTBHARD.
    const DATA: u16 = 0b1111;
    const REALTIME: u16 = 0b11_0000;
    let mut quota = DiskQuota {
        version: FS_DQUOT_VERSION,
        flags: FS_PROJ_QUOTA,
        fields: if kinds == LimitKinds::DataAndRealtime { DATA | REALTIME } else { DATA },
        id: project,
        blocks_hard: limits.blocks_max,
        inodes_hard: limits.inodes_max,
        realtime_hard: limits.realtime_max,
        ..DiskQuota::default()
    };
    quotactl(fd, project, Order::Limit(&mut quota))
}

/// The project of a file or directory, and whether what is made in the directory gets it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) id: u32,
    pub(crate) is_inherited: bool,
}

const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// Reads the project of an open file or directory.
pub(crate) fn project_of(fd: BorrowedFd<'_>) -> io::Result<Project> {
    let attributes = attributes_of(fd)?;
    Ok(Project { id: attributes.project, is_inherited: attributes.flags & FS_XFLAG_PROJINHERIT != 0 })
}

/// Gives an open directory a project, for all that is made in it from now on.
pub(crate) fn set_project(fd: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
    let mut attributes = attributes_of(fd)?;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    attributes.project = id;
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel reads a live struct of the size that is in
    // the number of the command.
    let result =
        unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn attributes_of(fd: BorrowedFd<'_>) -> io::Result<Attributes> {
    const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes to a live struct of the size that is
    // in the number of the command.
    let result =
        unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}
const _: () = assert!(size_of::<Attributes>() == 28);

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Debug, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 3],
    padding: i8,
    realtime_hard: u64,
    realtime_soft: u64,
    realtime_blocks: u64,
    realtime_timer: i32,
    realtime_warnings: u16,
    more_padding: [u8; 10],
}
const _: () = assert!(size_of::<DiskQuota>() == 112);

/// `struct fs_quota_statv`, of which only the flags are looked at.
#[repr(C)]
#[derive(Debug)]
struct QuotaState {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u32; 39],
}
const _: () = assert!(size_of::<QuotaState>() == 160);

impl Default for QuotaState {
    fn default() -> Self {
        Self { version: 0, padding: 0, flags: 0, rest: [0; 39] }
    }
}

/// A command about the projects of a filesystem, with the structure that it reads or writes.
enum Order<'a> {
    State(&'a mut QuotaState),
    Get(&'a mut DiskQuota),
    Limit(&'a mut DiskQuota),
}

fn quotactl(fd: BorrowedFd<'_>, project: u32, order: Order<'_>) -> io::Result<()> {
    const PRJQUOTA: u32 = 2;
    const Q_XGETQUOTA: u32 = 0x5803;
    const Q_XSETQLIM: u32 = 0x5804;
    const Q_XGETQSTATV: u32 = 0x5808;
    let (command, argument) = match order {
        Order::State(state) => (Q_XGETQSTATV, std::ptr::from_mut(state).cast::<libc::c_void>()),
        Order::Get(quota) => (Q_XGETQUOTA, std::ptr::from_mut(quota).cast()),
        Order::Limit(quota) => (Q_XSETQLIM, std::ptr::from_mut(quota).cast()),
    };
    let command = command << 8 | PRJQUOTA;
    // SAFETY: the descriptor is open as long as it is borrowed, and the argument is the live structure, of the kernel's
    // size, that the command reads or writes.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, project, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
