//! Where inits start that get all their mounts by descriptor: a mount namespace with nothing of the host in it.
//!
//! A new mount namespace begins as a copy of the one it is made in. In a copy of the host's, the old root has to be left by
//! `pivot_root(2)`, which looks at every thread of the machine for one that has the old root as its own, and then to be
//! unmounted, which waits for an RCU grace period. A copy of this one has nothing to leave behind: the new root is mounted on
//! the old one, and stays there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::{Mode, mkdirat};

use crate::sys::{self, MountPart};

/// More mounts than this are left to be looked up by the init: each that it gets by descriptor is a system call and a
/// descriptor of the host's at every spawn.
pub(crate) const MOST_MOUNTS: usize = 128;

static REFUSED: AtomicBool = AtomicBool::new(false);

/// The namespace, one for the whole process; `None` where it cannot be made. Nothing runs in it.
pub(crate) fn namespace() -> Option<BorrowedFd<'static>> {
    static NAMESPACE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    if REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    NAMESPACE.get_or_init(|| make().ok()).as_ref().map(AsFd::as_fd)
}

/// The kernel does not let this process use it.
pub(crate) fn give_up() {
    REFUSED.store(true, Ordering::Relaxed);
}

/// A root with two empty directories. The kernel lets a user namespace mount a procfs only where one is seen whole; the one
/// here is of no process, for it stays below the sandbox's root.
fn make() -> io::Result<OwnedFd> {
    let root = sys::detached_tmpfs(&[(c"size", c"4096"), (c"nr_inodes", c"4"), (c"mode", c"555")])?;
    for name in ["proc", "scratch"] {
        mkdirat(&root, name, Mode::from_bits_truncate(0o555))?;
    }
    sys::make_filesystem_read_only(&root)?;
    let part = |tree, path: &str| Ok::<_, io::Error>(MountPart { tree, path: CString::new(path)? });
    let parts = vec![part(root, "/")?, part(sys::empty_procfs()?, "/proc")?];
    sys::namespace_of_mounts(parts).and_then(sys::above_stdio)
}
