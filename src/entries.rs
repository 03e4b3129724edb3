//! What is in a directory, looked at by its descriptor. Nothing here follows a symlink.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag};

pub(crate) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Whether it hides what lower layers of an overlay have: a character device 0:0.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Whether an extended attribute is part of what a file is: a user's, and capabilities. Not labels of security modules,
/// which are the host's own, and not the marks of overlayfs.
pub(crate) fn is_kept(attribute: &[u8]) -> bool {
    let user = attribute.starts_with(b"user.") && !attribute.starts_with(b"user.overlay.");
    user || attribute == b"security.capability"
}

/// The names in a directory, sorted. The position of its descriptor stays where it is.
pub(crate) fn names(dir: BorrowedFd<'_>) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}
