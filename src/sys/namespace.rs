//! How namespaces are related. See `ioctl_ns(2)`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The user namespace that owns a namespace. `EPERM` if it is not within this process's own.
pub(crate) fn owner_of_namespace(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    related(namespace, NS_GET_USERNS)
}

/// The user namespace that a user namespace was made in. `EPERM` if it is not within this process's own.
pub(crate) fn parent_of_namespace(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    related(namespace, NS_GET_PARENT)
}

fn related(namespace: &OwnedFd, request: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: both requests take no argument and return a new descriptor, with close-on-exec set.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), request as libc::Ioctl) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
