//! What netlink tells only after whoever changes interfaces is done.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The number of an interface in the network namespace of a socket; `None` if there is none of that name. A message of rtnetlink(7)
/// waits for whoever takes a namespace down, this does not (netdevice(7)).
pub(crate) fn interface_number(socket: BorrowedFd<'_>, name: &str) -> io::Result<Option<u32>> {
    // SAFETY: `ifreq` is integers and a union of such, of which every pattern of bits is one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Ok(None);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: SIOCGIFINDEX reads the name, which ends with a zero, and writes the number, both within a live `ifreq`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) } < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENODEV) { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel has written this field of the union.
    let number = unsafe { request.ifr_ifru.ifru_ifindex };
    Ok(Some(number.unsigned_abs()))
}
