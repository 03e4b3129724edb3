//! Files below a directory descriptor. Nothing here follows a symlink.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat};

use crate::sys;

pub(crate) use crate::entries::{is_whiteout, kind_of, names};

/// No symlink, no way up, no other mount.
const CONFINED: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);

/// Opens what is at a relative path.
pub(crate) fn open(dir: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(dir, path, flags, CONFINED)
}

/// The same with the rules of resolution given, in the rare case that a hostile symlink has to be followed.
pub(crate) fn resolve(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    rules: ResolveFlag,
) -> nix::Result<OwnedFd> {
    loop {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(rules);
        match openat2(dir, path, how) {
            // The kernel asks for another try where something was renamed meanwhile.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Opens a directory to look things up in.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// What a name in the directory itself leads to, held without opening it: a file, a link itself, or anything else.
///
/// A single name leads nowhere else. With `RESOLVE_BENEATH` one that is renamed at this moment is `EXDEV`.
pub(crate) fn hold(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let rules = CONFINED.difference(ResolveFlag::RESOLVE_BENEATH);
    match Path::new(name).file_name() == Some(name) {
        true => resolve(dir, Path::new(name), OFlag::O_PATH | OFlag::O_NOFOLLOW, rules),
        false => Err(Errno::EINVAL),
    }
}

/// Opens what is held for reading. Only for regular files and directories: opening another may be an act.
pub(crate) fn reopen(held: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let path = Path::new("/proc/self/fd").join(held.as_raw_fd().to_string());
    nix::fcntl::open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a regular file for reading. Anything else is an error, and a FIFO makes nobody wait.
pub(crate) fn open_file(dir: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let file = File::from(open(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::EISDIR)) }
}

/// Reads a regular file of at most so many bytes.
pub(crate) fn read_file(dir: BorrowedFd<'_>, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(dir, path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(io::Error::from_raw_os_error(libc::EFBIG)) } else { Ok(bytes) }
}

/// Makes a new file.
pub(crate) fn create_file(dir: BorrowedFd<'_>, name: &Path, mode: Mode) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(dir, name, flags, mode).map(File::from)
}

/// Makes a new file with its content, on disk when this returns.
pub(crate) fn write_file(dir: BorrowedFd<'_>, name: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create_file(dir, name, Mode::from_bits_truncate(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

/// What is there, without following it; `None` if nothing is.
pub(crate) fn look(dir: BorrowedFd<'_>, name: &Path) -> nix::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether an open directory hides what lower layers have in it.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sys::get_xattr(dir, c"user.overlay.opaque")?.as_deref() == Some(b"y"))
}

/// Waits until names that were made in a directory are on disk.
pub(crate) fn sync(dir: &impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::fsync(dir)?)
}
