//! Extended attributes, which nix has no calls for. See `xattr(7)`.

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

/// The longest value, and the longest list of names, that the kernel has (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LONGEST: usize = 65536;

/// Sets an attribute, whether it is there or not.
pub(crate) fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: a descriptor, a C string, and a slice with its length; the kernel only reads them.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The value of an attribute; `None` if there is none, or if the filesystem has none of that kind.
pub(crate) fn get_xattr(file: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; LONGEST];
    // SAFETY: a descriptor, a C string, and a buffer of the length that is passed.
    let length =
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            value.shrink_to_fit();
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
            error => Err(error),
        },
    }
}

/// The names of all attributes that this process may see, sorted.
pub(crate) fn list_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = vec![0_u8; LONGEST];
    // SAFETY: a descriptor, and a buffer of the length that is passed.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            error => Err(error),
        };
    };
    let words = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<CString> = words.filter_map(|name| CString::new(name).ok()).collect();
    names.sort();
    Ok(names)
}
