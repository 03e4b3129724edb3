//! Mounts, detached mount trees and filesystems.

use core::ffi::CStr;

use super::{Fd, O_CLOEXEC, Owned, Result, address, nr, owned, plain, text};

pub(crate) const MS_REC: usize = 0x4000;
pub(crate) const MS_PRIVATE: usize = 1 << 18;
pub(crate) const MS_NOSUID: usize = 2;
pub(crate) const MS_NODEV: usize = 4;

pub(crate) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: usize, data: &CStr) -> Result<()> {
    plain(nr::MOUNT, &[text(source), text(target), text(kind), flags, text(data)]).map(drop)
}

pub(crate) fn detach(path: &CStr) -> Result<()> {
    const MNT_DETACH: usize = 2;
    plain(nr::UMOUNT2, &[text(path), MNT_DETACH]).map(drop)
}

/// Without looking at any other process: nobody else has this one's root. See `chroot(2)`.
pub(crate) fn chroot(path: &CStr) -> Result<()> {
    plain(nr::CHROOT, &[text(path)]).map(drop)
}

pub(crate) fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    plain(nr::PIVOT_ROOT, &[text(new), text(old)]).map(drop)
}

const AT_RECURSIVE: usize = 0x8000;
const AT_EMPTY_PATH: usize = 0x1000;

/// Clones the mount at `path` (or at `dir` itself when the path is empty) as a detached tree.
pub(crate) fn clone_tree(dir: Fd, path: &CStr, reach: Reach) -> Result<Owned> {
    const OPEN_TREE_CLONE: usize = 1;
    let recursive = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | recursive | AT_EMPTY_PATH;
    owned(plain(nr::OPEN_TREE, &[dir.arg(), text(path), flags]))
}

/// Attaches a detached tree on top of what `target` refers to.
pub(crate) fn attach(tree: Fd, target: Fd) -> Result<()> {
    const FROM_EMPTY_PATH: usize = 0x04;
    const TO_EMPTY_PATH: usize = 0x40;
    let flags = FROM_EMPTY_PATH | TO_EMPTY_PATH;
    plain(nr::MOVE_MOUNT, &[tree.arg(), text(c""), target.arg(), text(c""), flags]).map(drop)
}

/// Whether an operation reaches the mounts below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    One,
    Tree,
}

/// Sets mount attributes (`MOUNT_ATTR_*`); never clears any.
///
/// A whole tree is also made private: a clone of a shared mount is its peer (mount_namespaces(7)), so later mounts of
/// the host would appear in it, those of the sandbox on the host, and `pivot_root(2)` refuses it.
pub(crate) fn set_attributes(mount: Fd, attributes: u64, reach: Reach) -> Result<()> {
    let (recursive, propagation) = match reach {
        Reach::Tree => (AT_RECURSIVE, MS_PRIVATE as u64),
        Reach::One => (0, 0),
    };
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    let attr: [u64; 4] = [attributes, 0, propagation, 0];
    let flags = AT_EMPTY_PATH | recursive;
    plain(nr::MOUNT_SETATTR, &[mount.arg(), text(c""), flags, address(&attr), size_of_val(&attr)]).map(drop)
}

/// A filesystem being configured: `fsopen(2)` until `fsmount(2)`.
pub(crate) struct Filesystem(Owned);

impl Filesystem {
    pub(crate) fn open(kind: &CStr) -> Result<Self> {
        const FSOPEN_CLOEXEC: usize = 1;
        Ok(Self(owned(plain(nr::FSOPEN, &[text(kind), FSOPEN_CLOEXEC]))?))
    }

    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> Result<()> {
        const FSCONFIG_SET_STRING: usize = 1;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_SET_STRING, text(key), text(value), 0]).map(drop)
    }

    pub(crate) fn flag(&self, key: &CStr) -> Result<()> {
        const FSCONFIG_SET_FLAG: usize = 0;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_SET_FLAG, text(key), 0, 0]).map(drop)
    }

    /// Creates the superblock and a detached mount of it.
    pub(crate) fn mount(self, attributes: u64) -> Result<Owned> {
        const FSCONFIG_CMD_CREATE: usize = 6;
        const FSMOUNT_CLOEXEC: usize = 1;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_CMD_CREATE, 0, 0, 0])?;
        owned(plain(nr::FSMOUNT, &[self.0.fd().arg(), FSMOUNT_CLOEXEC, attributes as usize]))
    }
}
