//! Files, directories, pipes and descriptor numbers.

use core::ffi::CStr;

use super::{Errno, Fd, Owned, Result, address, address_mut, nr, owned, plain, text};

pub(crate) const O_RDONLY: usize = 0;
pub(crate) const O_WRONLY: usize = 1;
pub(crate) const O_RDWR: usize = 2;
pub(crate) const O_CREAT: usize = 0o100;
pub(crate) const O_EXCL: usize = 0o200;
pub(crate) const O_NOCTTY: usize = 0o400;
pub(crate) const O_NONBLOCK: usize = 0o4000;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const O_PATH: usize = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: usize = 0o100_000;

pub(crate) fn open(dir: Fd, path: &CStr, flags: usize, mode: u32) -> Result<Owned> {
    owned(plain(nr::OPENAT, &[dir.arg(), text(path), flags | O_CLOEXEC, mode as usize]))
}

pub(crate) const RESOLVE_NO_XDEV: u64 = 0x01;
pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_BENEATH: u64 = 0x08;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;

pub(crate) fn open2(dir: Fd, path: &CStr, flags: usize, resolve: u64) -> Result<Owned> {
    let how = [(flags | O_CLOEXEC) as u64, 0, resolve];
    owned(plain(nr::OPENAT2, &[dir.arg(), text(path), address(&how), size_of_val(&how)]))
}

pub(crate) fn read(fd: Fd, into: &mut [u8]) -> Result<usize> {
    plain(nr::READ, &[fd.arg(), address_mut(into), into.len()])
}

pub(crate) fn pread(fd: Fd, into: &mut [u8], offset: u64) -> Result<usize> {
    plain(nr::PREAD64, &[fd.arg(), address_mut(into), into.len(), offset as usize])
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    plain(nr::WRITE, &[fd.arg(), address(bytes), bytes.len()])
}

/// Writes everything, or fails.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Duplicates to the lowest free number from `minimum`, close-on-exec.
pub(crate) fn duplicate_from(fd: Fd, minimum: i32) -> Result<i32> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    Ok(plain(nr::FCNTL, &[fd.arg(), F_DUPFD_CLOEXEC, minimum as usize])? as i32)
}

/// Makes `to` a copy of `from` that survives exec.
pub(crate) fn duplicate_to(from: Fd, to: i32) -> Result<()> {
    plain(nr::DUP3, &[from.arg(), to as usize, 0]).map(drop)
}

pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    if first > last {
        return Ok(());
    }
    plain(nr::CLOSE_RANGE, &[first as usize, last as usize, 0]).map(drop)
}

pub(crate) fn pipe() -> Result<(Owned, Owned)> {
    let mut ends = [0_i32; 2];
    plain(nr::PIPE2, &[address_mut(&mut ends), O_CLOEXEC])?;
    Ok((Owned::adopt(ends[0]), Owned::adopt(ends[1])))
}

/// A connected pair of sockets that keep message boundaries.
pub(crate) fn channel() -> Result<(Owned, Owned)> {
    const SOCK_SEQPACKET: usize = 5;
    socket_pair(SOCK_SEQPACKET)
}

/// A connected pair of sockets of bytes, as a connection is.
pub(crate) fn stream() -> Result<(Owned, Owned)> {
    const SOCK_STREAM: usize = 1;
    socket_pair(SOCK_STREAM)
}

fn socket_pair(kind: usize) -> Result<(Owned, Owned)> {
    const AF_UNIX: usize = 1;
    let mut ends = [0_i32; 2];
    plain(nr::SOCKETPAIR, &[AF_UNIX, kind | O_CLOEXEC, 0, address_mut(&mut ends)])?;
    let ends = core::hint::black_box(ends);
    Ok((Owned::adopt(ends[0]), Owned::adopt(ends[1])))
}

pub(crate) fn set_nonblocking(fd: Fd) -> Result<()> {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    let flags = plain(nr::FCNTL, &[fd.arg(), F_GETFL])?;
    plain(nr::FCNTL, &[fd.arg(), F_SETFL, flags | O_NONBLOCK]).map(drop)
}

/// How many bytes a pipe holds.
pub(crate) fn bytes_in_pipe(fd: Fd) -> Result<usize> {
    const FIONREAD: usize = 0x541b;
    let mut count = 0_i32;
    plain(nr::IOCTL, &[fd.arg(), FIONREAD, address_mut(&mut count)])?;
    Ok(core::hint::black_box(count).max(0) as usize)
}

/// What `statx(2)` tells of an open file: mode and device number.
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) rdev: u64,
}

impl Stat {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
    pub(crate) fn is_character_device(&self) -> bool {
        self.mode & 0o170_000 == 0o020_000
    }
}

pub(crate) fn stat(fd: Fd) -> Result<Stat> {
    // struct statx of <linux/stat.h> is the same on every architecture: stx_mode at 28, stx_rdev_major at 128.
    #[repr(C, align(8))]
    struct Statx([u8; 256]);
    #[cfg(target_arch = "x86_64")]
    const STATX: usize = 332;
    #[cfg(target_arch = "aarch64")]
    const STATX: usize = 291;
    const AT_EMPTY_PATH: usize = 0x1000;
    const STATX_BASIC_STATS: usize = 0x7ff;
    let mut buffer = Statx([0; 256]);
    plain(STATX, &[fd.arg(), text(c""), AT_EMPTY_PATH, STATX_BASIC_STATS, address_mut(&mut buffer)])?;
    let b = &buffer.0;
    let word = |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let (major, minor) = (u64::from(word(128)), u64::from(word(132)));
    Ok(Stat { mode: u32::from(u16::from_ne_bytes([b[28], b[29]])), rdev: major << 32 | minor })
}

/// The magic number of the filesystem that an open file is on.
pub(crate) fn filesystem_of(fd: Fd) -> Result<u64> {
    // struct statfs: f_type is its first word on both architectures.
    let mut buffer = [0_u64; 16];
    plain(nr::FSTATFS, &[fd.arg(), address_mut(&mut buffer)])?;
    Ok(core::hint::black_box(buffer)[0])
}

pub(crate) fn mkdir(dir: Fd, name: &CStr, mode: u32) -> Result<()> {
    plain(nr::MKDIRAT, &[dir.arg(), text(name), mode as usize]).map(drop)
}

pub(crate) fn symlink(target: &CStr, dir: Fd, name: &CStr) -> Result<()> {
    plain(nr::SYMLINKAT, &[text(target), dir.arg(), text(name)]).map(drop)
}

/// Whether a directory entry is a symlink with this target.
pub(crate) fn links_to(dir: Fd, name: &CStr, target: &CStr) -> bool {
    let mut buffer = [0_u8; 4096];
    let length = plain(nr::READLINKAT, &[dir.arg(), text(name), address_mut(&mut buffer), buffer.len()]);
    length.is_ok_and(|length| buffer.get(..length) == Some(target.to_bytes()))
}

pub(crate) fn chmod(fd: Fd, mode: u32) -> Result<()> {
    plain(nr::FCHMOD, &[fd.arg(), mode as usize]).map(drop)
}

/// Changes the owner of a directory entry, not following a symlink.
pub(crate) fn chown(dir: Fd, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    let (uid, gid) = (uid as usize, gid as usize);
    plain(nr::FCHOWNAT, &[dir.arg(), text(name), uid, gid, AT_SYMLINK_NOFOLLOW]).map(drop)
}

pub(crate) fn chown_file(fd: Fd, uid: u32, gid: u32) -> Result<()> {
    const AT_EMPTY_PATH: usize = 0x1000;
    plain(nr::FCHOWNAT, &[fd.arg(), text(c""), uid as usize, gid as usize, AT_EMPTY_PATH]).map(drop)
}

/// Removes a directory entry that is no directory.
pub(crate) fn unlink(dir: Fd, name: &CStr) -> Result<()> {
    plain(nr::UNLINKAT, &[dir.arg(), text(name), 0]).map(drop)
}

/// Gives a directory entry another name in the same directory, in place of what has that.
pub(crate) fn rename(dir: Fd, from: &CStr, to: &CStr) -> Result<()> {
    plain(nr::RENAMEAT2, &[dir.arg(), text(from), dir.arg(), text(to), 0]).map(drop)
}

pub(crate) fn set_umask(mask: u32) {
    // umask(2) cannot fail.
    plain(nr::UMASK, &[mask as usize]).ok();
}

pub(crate) fn fchdir(fd: Fd) -> Result<()> {
    plain(nr::FCHDIR, &[fd.arg()]).map(drop)
}

pub(crate) fn chdir(path: &CStr) -> Result<()> {
    plain(nr::CHDIR, &[text(path)]).map(drop)
}

/// The first byte of the current directory's path: `/`, or `(` of "(unreachable)" when it lies outside the root.
pub(crate) fn cwd_first_byte() -> Result<u8> {
    let mut buffer = [0_u8; 4096];
    plain(nr::GETCWD, &[address_mut(&mut buffer), buffer.len()])?;
    Ok(buffer[0])
}
