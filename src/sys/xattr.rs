//! Extended attributes, which nix has no calls for.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// The first bytes of an attribute of a directory entry itself, whatever that is; `None` if it has none of that name, or
/// if its filesystem has none at all.
pub(crate) fn attribute(
    dir: BorrowedFd<'_>,
    entry: &std::ffi::OsStr,
    name: &CStr,
) -> io::Result<Option<Vec<u8>>> {
    // There is no call that takes a directory's descriptor before Linux 6.13.
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(entry.as_bytes());
    let path = CString::new(path)?;
    let mut buffer = [0_u8; 16];
    // SAFETY: both strings end with a zero byte, and the kernel writes at most as many bytes as the buffer has.
    let count =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    match usize::try_from(count) {
        Ok(count) => Ok(buffer.get(..count).map(<[u8]>::to_vec)),
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
            // It has more, which none of those that we ask for has.
            error if error.raw_os_error() == Some(libc::ERANGE) => Ok(Some(Vec::new())),
            error => Err(error),
        },
    }
}
