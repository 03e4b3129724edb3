//! Detached mount trees: cloned with the host's privileges, handed to the init by descriptor.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: every caller passes the result of a system call that returns a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const AT_RECURSIVE: libc::c_uint = 0x8000;

/// Whether what is mounted below a mount goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    One,
    Tree,
}

/// Clones the mount at a path. See `open_tree(2)`.
pub(crate) fn clone_tree(path: &CStr, reach: Reach) -> io::Result<OwnedFd> {
    let recursive = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive;
    // SAFETY: a C string that lives during the call, and flags.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Makes a detached tree and all that is mounted below it read-only, without devices and set-user-id, and keeps what the
/// host mounts later out of it. See `mount_setattr(2)`.
pub(crate) fn make_tree_read_only(tree: &OwnedFd) -> io::Result<()> {
    set_attributes(
        tree,
        &libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            attr_clr: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: 0,
        },
        Reach::Tree,
    )
}

/// Mounts a detached tree at a path below another, which may be detached as well (Linux 6.15). See `move_mount(2)`.
pub(crate) fn attach_tree(tree: &OwnedFd, below: &OwnedFd, path: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: two descriptors, an empty path that names the first, a C string that lives during the call, and flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            below.as_raw_fd(),
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Clones a mount that is mounted nowhere (Linux 6.15), for a process of the mount namespace that it was made in. See
/// `open_tree(2)`.
pub(crate) fn clone_detached(mount: &OwnedFd, reach: Reach) -> io::Result<OwnedFd> {
    let recursive = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.unsigned_abs() | recursive;
    let empty = c"".as_ptr();
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, mount.as_raw_fd(), empty, flags) })
}

/// A tmpfs that is mounted nowhere. See `fsopen(2)` and `fsmount(2)`.
pub(crate) fn detached_tmpfs(options: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    let context = new_filesystem(c"tmpfs")?;
    for (key, value) in options {
        configure(&context, FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    mount_nowhere(&context, 0)
}

/// The filesystem of this kind on a block device, mounted nowhere: read-only, without devices, and without set-user-id.
/// Mounts of one device share its filesystem, and what is cached of it. `ENODEV` if the kernel does not have the kind.
pub(crate) fn detached_from_device(kind: &CStr, device: &CStr) -> io::Result<OwnedFd> {
    const RDONLY: libc::c_uint = 0x1;
    const NOSUID: libc::c_uint = 0x2;
    const NODEV: libc::c_uint = 0x4;
    let context = new_filesystem(kind)?;
    configure(&context, FSCONFIG_SET_STRING, Some(c"source"), Some(device))?;
    configure(&context, FSCONFIG_SET_FLAG, Some(c"ro"), None)?;
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    mount_nowhere(&context, RDONLY | NOSUID | NODEV)
}

fn new_filesystem(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: a C string that lives during the call, and flags.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

fn mount_nowhere(context: &OwnedFd, attributes: libc::c_uint) -> io::Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: a descriptor and flags.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// Makes a whole filesystem read-only, wherever it is mounted. See `fspick(2)`.
pub(crate) fn make_filesystem_read_only(mount: &OwnedFd) -> io::Result<()> {
    const FSPICK_CLOEXEC: libc::c_uint = 1;
    const FSPICK_EMPTY_PATH: libc::c_uint = 8;
    let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
    // SAFETY: an empty path with FSPICK_EMPTY_PATH names the descriptor.
    let context = owned(unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) })?;
    configure(&context, FSCONFIG_SET_FLAG, Some(c"ro"), None)?;
    configure(&context, FSCONFIG_CMD_RECONFIGURE, None, None)
}

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let at = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: a descriptor; the key and the value are C strings that live during the call, or null for the commands
    // that take none.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, at(key), at(value), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Presents a detached tree, or its topmost mount, through the id map of a user namespace. See `mount_setattr(2)`.
pub(crate) fn idmap_tree(tree: &OwnedFd, namespace: BorrowedFd<'_>, reach: Reach) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attr = libc::mount_attr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
    };
    set_attributes(tree, &attr, reach)
}

fn set_attributes(tree: &OwnedFd, attr: &libc::mount_attr, reach: Reach) -> io::Result<()> {
    let recursive = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH.unsigned_abs() | recursive;
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor; `attr` is a live struct of the size passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A mount, mounted nowhere, and where it is to be.
#[derive(Debug)]
pub(crate) struct MountPart {
    pub(crate) tree: OwnedFd,
    pub(crate) path: CString,
}

/// Makes a mount namespace that has these mounts alone: the first is its root, and each of the others is mounted after
/// what it is mounted on. What is unmounted where they were cloned, and is shared there, is unmounted here as well.
pub(crate) fn namespace_of_mounts(parts: Vec<MountPart>) -> io::Result<OwnedFd> {
    // A mount namespace is a thread's own, and this one's ends with it.
    let thread = std::thread::Builder::new().name("belljar-mounts".into());
    let made = thread.spawn(move || assemble(&parts))?.join();
    made.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

fn assemble(parts: &[MountPart]) -> io::Result<OwnedFd> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let check = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let attach = |tree: &OwnedFd, path: &CStr| {
        // SAFETY: an empty path with MOVE_MOUNT_F_EMPTY_PATH names the descriptor; the path lives during the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        })
    };
    let (root, others) = parts.split_first().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    // What is mounted on a mount that is shared with the host is mounted on the host as well.
    parts.iter().try_for_each(|part| receive_only(&part.tree))?;
    // SAFETY: a flag. It is this thread alone that leaves the host's namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: a C string, and null where a change of propagation takes nothing.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) }.into())?;
    attach(&root.tree, c"/")?;
    // SAFETY: a descriptor.
    check(unsafe { libc::fchdir(root.tree.as_raw_fd()) }.into())?;
    // pivot_root(".", ".") stacks the old root on the new one; see pivot_root(2).
    // SAFETY: two C strings that live during the call.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: a C string that lives during the call, and a flag.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    others.iter().try_for_each(|part| attach(&part.tree, &part.path))?;
    Ok(namespace.into())
}

/// What happens to the mount that this is a clone of happens to it, but not the other way round. See
/// `mount_namespaces(7)`.
fn receive_only(tree: &OwnedFd) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_SLAVE, userns_fd: 0 };
    set_attributes(tree, &attr, Reach::One)
}
