//! Copies that share blocks with the original until one of them is written to: of files, `ioctl_ficlone(2)`, and of
//! subvolumes of btrfs, `btrfs-ioctl(2)`.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// `_IOW(0x94, number, size)`, on both architectures.
const fn request(number: u64, size: usize) -> u64 {
    1 << 30 | (size as u64) << 16 | 0x94 << 8 | number
}

const FICLONE: u64 = request(9, size_of::<i32>());
const SUBVOL_CREATE: u64 = request(14, size_of::<Named>());
const SNAP_DESTROY: u64 = request(15, size_of::<Named>());
const SNAP_CREATE_V2: u64 = request(23, size_of::<Snapshot>());
const SUBVOL_SETFLAGS: u64 = request(26, size_of::<u64>());

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Snapshot {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

const _: () = assert!(size_of::<Named>() == 4096 && size_of::<Snapshot>() == 4096);

/// Puts a name into a field that ends with a zero byte.
fn named<const N: usize>(name: &CStr) -> io::Result<[u8; N]> {
    let bytes = name.to_bytes_with_nul();
    let mut field = [0; N];
    field
        .get_mut(..bytes.len())
        .ok_or(io::Error::from_raw_os_error(libc::ENAMETOOLONG))?
        .copy_from_slice(bytes);
    Ok(field)
}

fn ask<T>(fd: &impl AsFd, request: u64, argument: &T) -> io::Result<()> {
    // SAFETY: every caller passes a request of this file with the structure that it reads, which lives during the call.
    // The kernel writes to none of them.
    let result =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as libc::Ioctl, std::ptr::from_ref(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes one file have the content of another, on the same filesystem, without copying it.
pub(crate) fn share_content(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    // SAFETY: two descriptors; this request takes the second by value.
    let result =
        unsafe { libc::ioctl(to.as_fd().as_raw_fd(), FICLONE as libc::Ioctl, from.as_fd().as_raw_fd()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes an empty subvolume in a directory.
pub(crate) fn create_subvolume(parent: &impl AsFd, name: &CStr) -> io::Result<()> {
    ask(parent, SUBVOL_CREATE, &Named { fd: 0, name: named(name)? })
}

/// Makes a writable snapshot of a subvolume in a directory of the same filesystem.
pub(crate) fn snapshot_subvolume(of: &impl AsFd, parent: &impl AsFd, name: &CStr) -> io::Result<()> {
    let fd = i64::from(of.as_fd().as_raw_fd());
    let argument = Snapshot { fd, transid: 0, flags: 0, unused: [0; 4], name: named(name)? };
    ask(parent, SNAP_CREATE_V2, &argument)
}

/// Removes a subvolume with all that is in it but other subvolumes, for which it is `ENOTEMPTY`.
pub(crate) fn destroy_subvolume(parent: &impl AsFd, name: &CStr) -> io::Result<()> {
    ask(parent, SNAP_DESTROY, &Named { fd: 0, name: named(name)? })
}

/// Takes the read-only flag from a subvolume.
pub(crate) fn make_subvolume_writable(subvolume: &impl AsFd) -> io::Result<()> {
    ask(subvolume, SUBVOL_SETFLAGS, &0_u64)
}
