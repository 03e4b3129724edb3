//! Files in memory: images for the init, the init itself, captured output.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::fd::above_stdio;

const MFD_NOEXEC_SEAL: libc::c_uint = 0x8;
const MFD_EXEC: libc::c_uint = 0x10;

fn create(name: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: a C string that lives during the call, and flags.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    above_stdio(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// With the flag of Linux 6.3, or without it on older kernels, which answer EINVAL.
fn create_with(name: &CStr, new: libc::c_uint, flags: libc::c_uint) -> io::Result<OwnedFd> {
    match create(name, flags | new) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(name, flags),
        other => other,
    }
}

fn seal(fd: &OwnedFd) -> io::Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: fcntl with a number on a descriptor that is open.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A writable file in memory that cannot be executed.
pub(crate) fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    create_with(name, MFD_NOEXEC_SEAL, 0)
}

/// A file in memory with this content, which nobody can change any more.
pub(crate) fn sealed_memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(create_with(name, MFD_NOEXEC_SEAL, libc::MFD_ALLOW_SEALING)?);
    file.write_all(content)?;
    let fd = OwnedFd::from(file);
    seal(&fd)?;
    Ok(fd)
}

/// A program to be executed by descriptor: sealed, so that nothing inside a sandbox can overwrite what the next
/// sandbox executes (the class of CVE-2019-5736). Where memory files may not be executed (`vm.memfd_noexec=2`), an
/// unlinked file on disk, reopened read-only.
pub(crate) fn program_memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    match create_with(name, MFD_EXEC, libc::MFD_ALLOW_SEALING) {
        Ok(fd) => {
            let mut file = File::from(fd);
            file.write_all(content)?;
            let fd = OwnedFd::from(file);
            seal(&fd)?;
            Ok(fd)
        }
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => unlinked_program(content),
        Err(error) => Err(error),
    }
}

fn unlinked_program(content: &[u8]) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = std::env::temp_dir();
    let mut file =
        File::options().read(true).write(true).mode(0o555).custom_flags(libc::O_TMPFILE).open(dir)?;
    file.write_all(content)?;
    // A file that is open for writing cannot be executed (ETXTBSY), and this descriptor's owner could change it.
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    drop(file);
    above_stdio(read_only.into())
}
