//! The devices of a minimal `/dev`, as the host makes them: once, in a read-only tmpfs that is mounted nowhere, of
//! which each sandbox gets a clone.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::unistd::symlinkat;

use crate::sys::{self, Reach};

/// Name, major and minor number.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

pub(crate) const LINKS: [(&str, &CStr); 5] = [
    ("fd", c"/proc/self/fd"),
    ("stdin", c"/proc/self/fd/0"),
    ("stdout", c"/proc/self/fd/1"),
    ("stderr", c"/proc/self/fd/2"),
    ("ptmx", c"pts/ptmx"),
];

/// Where something is mounted, below it.
const DIRS: [&str; 2] = ["pts", "shm"];

/// Made at the first use. Fails where device nodes cannot be made: without `CAP_MKNOD` in the initial user namespace.
fn made() -> io::Result<&'static OwnedFd> {
    static TREE: OnceLock<OwnedFd> = OnceLock::new();
    match TREE.get() {
        Some(tree) => Ok(tree),
        None => {
            let tree = make()?;
            Ok(TREE.get_or_init(|| tree))
        }
    }
}

/// Whether this host can make them. Tried, because it takes more than a capability.
pub(crate) fn can_be_made() -> bool {
    made().is_ok()
}

/// A detached mount of the devices, for one sandbox.
///
/// The kernel clones a detached mount since Linux 6.15, and only in the mount namespace where it was made. An older
/// one, or a host that has entered another namespace since, makes a mount for each sandbox.
pub(crate) fn tree() -> io::Result<OwnedFd> {
    match sys::clone_detached(made()?, Reach::One) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => make(),
        cloned => cloned,
    }
}

fn make() -> io::Result<OwnedFd> {
    let tree = sys::detached_tmpfs(&[(c"size", c"65536"), (c"nr_inodes", c"64"), (c"mode", c"755")])?;
    let tree = sys::above_stdio(tree)?;
    for (name, major, minor) in DEVICES {
        let all = Mode::from_bits_truncate(0o666);
        mknodat(&tree, name, SFlag::S_IFCHR, all, makedev(u64::from(major), u64::from(minor)))?;
        // The host's umask was in the way of the mode.
        fchmodat(&tree, name, all, FchmodatFlags::FollowSymlink)?;
    }
    for (name, to) in LINKS {
        symlinkat(to, &tree, name)?;
    }
    for name in DIRS {
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(&tree, name, mode)?;
        fchmodat(&tree, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    // Not the mount but the filesystem, which no sandbox could make writable again: all of them share it.
    sys::make_filesystem_read_only(&tree)?;
    Ok(tree)
}
