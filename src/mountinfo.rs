//! The text of `/proc/<pid>/mountinfo`, proc_pid_mountinfo(5):
//! `36 35 98:0 ROOT MOUNTPOINT OPTIONS [optional fields] - TYPE SOURCE SUPER-OPTIONS`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where the mount of one line is.
pub(crate) fn mount_point(line: &[u8]) -> Option<PathBuf> {
    // Fields are separated by exactly one space; an empty source leaves two in a row, so runs are not merged.
    let field = line.split(|&byte| byte == b' ').nth(4)?;
    Some(unescape(field)).filter(|path| path.is_absolute())
}

/// Undoes the octal escapes (`\040` for a space) that the kernel writes for space, tab, newline and backslash. A
/// backslash that starts no escape stands for itself.
pub(crate) fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}
