//! Labels of security modules, set by a procfs that nothing of the sandbox is in: writing them through a `/proc` that a
//! program prepared could be led to any other file of it (CVE-2019-16884, CVE-2025-52881).

use crate::sys::{self, Errno, Fd, Owned, Result};
use core::ffi::CStr;

/// `PROC_SUPER_MAGIC`.
const PROC: u64 = 0x9fa0;
/// Nothing is mounted on the way, and no link leads out of the process's own directory.
const WITHIN: u64 = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_XDEV | sys::RESOLVE_NO_MAGICLINKS;

/// The procfs of the host, before anything is mounted. Whatever PID namespace a process is in, `self` there is itself.
pub(crate) fn keep_proc() -> Result<Owned> {
    let proc = sys::open(Fd::CWD, c"/proc", sys::O_PATH | sys::O_DIRECTORY, 0)?;
    if sys::filesystem_of(proc.fd())? == PROC { Ok(proc) } else { Err(Errno::ENODEV) }
}

/// Sets the label for the next `execve`, and reads it back.
pub(crate) fn set(proc: Fd, file: &CStr, label: &[u8], enforcing: &[u8]) -> Result<()> {
    let file = sys::open2(proc, file, sys::O_RDWR, WITHIN)?;
    if sys::filesystem_of(file.fd())? != PROC {
        return Err(Errno::ENODEV);
    }
    // In one piece, or it is another label.
    if sys::write(file.fd(), label)? != label.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut buffer = [0_u8; 4096];
    let length = sys::pread(file.fd(), &mut buffer, 0)?;
    let text = buffer.get(..length).ok_or(Errno::EPROTO)?;
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Err(Errno::EPROTO);
    }
    if enforcing.is_empty() {
        return Ok(());
    }
    match text.strip_prefix(enforcing) {
        Some(b" (enforce)" | b" (kill)") => Ok(()),
        // It is there to learn what a program does, or denies nothing at all.
        _ => Err(Errno::EOPNOTSUPP),
    }
}
