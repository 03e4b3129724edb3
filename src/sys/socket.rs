//! The control socket: fixed-size messages with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// A connected pair that keeps message boundaries, close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the messages are `repr(C)` structures of integers without padding (their sizes are asserted in `wire`),
    // so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// Sends one message: a value, and what follows it.
pub(crate) fn send<T: Copy>(socket: BorrowedFd<'_>, value: &T, tail: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let iov = [IoSlice::new(bytes_of(value)), IoSlice::new(tail)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message and at most one descriptor, without waiting. `Ok(None)`: the peer is gone.
///
/// A descriptor that finds no number, because this process has as many as it may, does not come. A message of another size is an error of kind `InvalidData`.
pub(crate) fn receive<T: Copy + Default>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut value = T::default();
    // SAFETY: as in `bytes_of`; and every bit pattern is a valid value of these structures of integers.
    let buffer = unsafe {
        std::slice::from_raw_parts_mut(std::ptr::from_mut(&mut value).cast::<u8>(), size_of::<T>())
    };
    let mut space = cmsg_space!([RawFd; 4]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut passed = None;
    let controls = match message.cmsgs() {
        Ok(controls) => Some(controls),
        // The one descriptor of it found no number here; the message itself is whole.
        Err(nix::errno::Errno::ENOBUFS) => None,
        Err(errno) => return Err(errno.into()),
    };
    for control in controls.into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel just installed this descriptor for us; dropping a previous one closes it.
                passed = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    let (length, truncated) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    if length == 0 {
        return Ok(None);
    }
    if length != size_of::<T>() || truncated {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the init has the wrong size"));
    }
    Ok(Some((value, passed)))
}
