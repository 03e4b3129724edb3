//! Rights that landlock knows.

use std::fmt;

/// What may be done with files, as `LANDLOCK_ACCESS_FS_*` of
/// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html). Added up by `|`.
///
/// Where nothing else is said, a right is of the first ABI, Linux 5.13.
///
/// # Examples
///
/// ```
/// use belljar::{Landlock, LandlockAccess};
///
/// // A log that can be written to, and neither emptied nor removed.
/// let rules = Landlock::new().rule("/var/log/job.log", LandlockAccess::WRITE_FILE);
/// # let _ = rules;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LandlockAccess(pub(super) u64);

impl LandlockAccess {
    /// `execve(2)`. The kernel asks for [`READ_FILE`](Self::READ_FILE) as well, and for both on the interpreter of a script
    /// and the loader of a dynamic program. Mapping a file executable is no execution: a loader that may be executed runs
    /// what may be read.
    pub const EXECUTE: Self = Self(1);
    /// Opening a file for writing. Files that exist can be emptied with [`TRUNCATE`](Self::TRUNCATE) only.
    pub const WRITE_FILE: Self = Self(1 << 1);
    /// Opening a file for reading.
    pub const READ_FILE: Self = Self(1 << 2);
    /// Opening or listing a directory.
    pub const READ_DIR: Self = Self(1 << 3);
    /// Removing or renaming an empty directory in a directory.
    pub const REMOVE_DIR: Self = Self(1 << 4);
    /// Removing or renaming a file in a directory.
    pub const REMOVE_FILE: Self = Self(1 << 5);
    /// Making a character device.
    pub const MAKE_CHAR: Self = Self(1 << 6);
    /// Making a directory.
    pub const MAKE_DIR: Self = Self(1 << 7);
    /// Making a regular file.
    pub const MAKE_REG: Self = Self(1 << 8);
    /// Binding a Unix socket to a path.
    pub const MAKE_SOCK: Self = Self(1 << 9);
    /// Making a named pipe.
    pub const MAKE_FIFO: Self = Self(1 << 10);
    /// Making a block device.
    pub const MAKE_BLOCK: Self = Self(1 << 11);
    /// Making a symlink.
    pub const MAKE_SYM: Self = Self(1 << 12);
    /// Renaming or linking a file into another directory, which both directories must allow. It fails with `EXDEV` where
    /// it is not allowed, as between filesystems, and where the file would gain rights by it. ABI 2, Linux 5.19; the first
    /// ABI never allows it.
    pub const REFER: Self = Self(1 << 13);
    /// Emptying or shortening a file that exists, by `truncate(2)`, `ftruncate(2)` or `O_TRUNC`. ABI 3, Linux 6.2.
    pub const TRUNCATE: Self = Self(1 << 14);
    /// `ioctl(2)` of devices, but for the few requests that every file has. ABI 5, Linux 6.10.
    pub const IOCTL_DEV: Self = Self(1 << 15);
    /// Connecting to a Unix socket with a path that was made outside the sandbox. ABI 9, Linux 7.1, and denied only where
    /// [`Landlock::abi`](crate::Landlock::abi) says 9.
    pub const RESOLVE_UNIX: Self = Self(1 << 16);

    /// Reading files and listing directories.
    pub const READ: Self = Self(Self::READ_FILE.0 | Self::READ_DIR.0);
    /// Everything that changes files and directories: writing, truncating, making, removing, renaming, linking. No devices
    /// are made with it.
    pub const WRITE: Self = Self(
        Self::WRITE_FILE.0
            | Self::TRUNCATE.0
            | Self::REMOVE_DIR.0
            | Self::REMOVE_FILE.0
            | Self::MAKE_DIR.0
            | Self::MAKE_REG.0
            | Self::MAKE_SOCK.0
            | Self::MAKE_FIFO.0
            | Self::MAKE_SYM.0
            | Self::REFER.0,
    );

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// A right by its name, `read` and `write` included.
    #[cfg(feature = "serde")]
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(access, _)| *access)
    }

    /// A single right by its name.
    pub(crate) fn single(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(access, known)| *known == name && access.0.is_power_of_two())
            .map(|(access, _)| *access)
    }
}

const NAMES: [(LandlockAccess, &str); 19] = [
    (LandlockAccess::READ, "read"),
    (LandlockAccess::WRITE, "write"),
    (LandlockAccess::EXECUTE, "execute"),
    (LandlockAccess::WRITE_FILE, "write_file"),
    (LandlockAccess::READ_FILE, "read_file"),
    (LandlockAccess::READ_DIR, "read_dir"),
    (LandlockAccess::REMOVE_DIR, "remove_dir"),
    (LandlockAccess::REMOVE_FILE, "remove_file"),
    (LandlockAccess::MAKE_CHAR, "make_char"),
    (LandlockAccess::MAKE_DIR, "make_dir"),
    (LandlockAccess::MAKE_REG, "make_reg"),
    (LandlockAccess::MAKE_SOCK, "make_sock"),
    (LandlockAccess::MAKE_FIFO, "make_fifo"),
    (LandlockAccess::MAKE_BLOCK, "make_block"),
    (LandlockAccess::MAKE_SYM, "make_sym"),
    (LandlockAccess::REFER, "refer"),
    (LandlockAccess::TRUNCATE, "truncate"),
    (LandlockAccess::IOCTL_DEV, "ioctl_dev"),
    (LandlockAccess::RESOLVE_UNIX, "resolve_unix"),
];

impl fmt::Display for LandlockAccess {
    /// The names of the rights; `read` and `write` stand for all that they consist of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut first = true;
        for (access, name) in NAMES {
            if rest & access.0 == access.0 {
                rest &= !access.0;
                f.write_str(if first { "" } else { " " })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for LandlockAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LandlockAccess({self})")
    }
}

impl std::ops::BitOr for LandlockAccess {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::landlock::{ABI, Access, AccessFs};

    #[test]
    fn the_rights_are_those_of_the_landlock_crate() {
        let all = NAMES.iter().fold(0, |all, (access, _)| all | access.0);
        assert_eq!(all, AccessFs::from_all(ABI::V9).bits());
        assert_eq!(LandlockAccess::TRUNCATE.0, AccessFs::Truncate as u64);
        assert_eq!(LandlockAccess::RESOLVE_UNIX.0, AccessFs::ResolveUnix as u64);
    }

    #[test]
    fn every_right_has_a_name() {
        let both = LandlockAccess::READ | LandlockAccess::EXECUTE;
        assert_eq!(both.to_string(), "read execute");
        assert_eq!((LandlockAccess::WRITE | LandlockAccess::IOCTL_DEV).to_string(), "write ioctl_dev");
        assert_eq!(LandlockAccess::READ_DIR.to_string(), "read_dir");
    }
}
