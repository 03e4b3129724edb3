//! Messages of the control socket, with the descriptors beside them.

use super::{Errno, Fd, Owned, Result, address, address_mut, nr, plain};
use crate::wire::MAX_FDS;

#[repr(C)]
struct IoVec {
    base: usize,
    length: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_length: u32,
    iov: usize,
    iov_count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const CONTROL_HEAD: usize = 16;

/// Receives one message and its descriptors. `Ok(None)`: the peer is gone.
///
/// Descriptors are appended to `fds` through `push`.
pub(crate) fn receive<T: Copy + Default>(socket: Fd, mut push: impl FnMut(Owned)) -> Result<Option<T>> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    const MSG_TRUNC: i32 = 0x20;
    const MSG_CTRUNC: i32 = 0x08;
    #[repr(C, align(8))]
    struct Control([u8; CONTROL_HEAD + MAX_FDS * 4 + 4]);
    let mut value = T::default();
    let mut control = Control([0; CONTROL_HEAD + MAX_FDS * 4 + 4]);
    let iov = IoVec { base: address_mut(&mut value), length: size_of::<T>() };
    let mut header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(&iov),
        iov_count: 1,
        control: address_mut(&mut control),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let received = plain(nr::RECVMSG, &[socket.arg(), address_mut(&mut header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC])?;
    let header = core::hint::black_box(header);
    let bytes = &core::hint::black_box(&control).0;
    let mut at = 0;
    while at + CONTROL_HEAD <= header.control_length {
        let length = u64::from_ne_bytes(bytes[at..at + 8].try_into().map_err(|_| Errno::EPROTO)?) as usize;
        let level = i32::from_ne_bytes(bytes[at + 8..at + 12].try_into().map_err(|_| Errno::EPROTO)?);
        let kind = i32::from_ne_bytes(bytes[at + 12..at + 16].try_into().map_err(|_| Errno::EPROTO)?);
        if length < CONTROL_HEAD || at + length > header.control_length {
            break;
        }
        if level == SOL_SOCKET && kind == SCM_RIGHTS {
            for number in bytes[at + CONTROL_HEAD..at + length].chunks_exact(4) {
                push(Owned::adopt(i32::from_ne_bytes(number.try_into().map_err(|_| Errno::EPROTO)?)));
            }
        }
        at += length.next_multiple_of(8);
    }
    if received == 0 {
        return Ok(None);
    }
    if header.flags & MSG_CTRUNC != 0 {
        // The space is enough for all that the host may send, so it was our limit of open files.
        return Err(Errno::EMFILE);
    }
    if received != size_of::<T>() || header.flags & MSG_TRUNC != 0 {
        return Err(Errno::EPROTO);
    }
    Ok(Some(core::hint::black_box(value)))
}

/// Sends one descriptor, after a filter was installed: `token` is what that filter looks for in the sixth argument, which
/// sendmsg(2) does not have.
pub(crate) fn send_exempt(socket: Fd, fd: Fd, token: u64) -> Result<()> {
    send_with(socket, &LISTENER_WORD, Some(fd), token)
}

/// What is said beside a listener.
const LISTENER_WORD: u8 = b'l';

/// Receives what [`send_exempt`] sent. `Ok(None)`: the other end was closed.
pub(crate) fn receive_fd(socket: Fd) -> Result<Option<Owned>> {
    let mut received = None;
    match receive::<u8>(socket, |fd| received = Some(fd))? {
        Some(_) => received.map(Some).ok_or(Errno::EPROTO),
        None => Ok(None),
    }
}

/// Sends a message that matters. The kernel may be short of memory for a moment, so it is tried twice; a host that cannot
/// be told is gone, which the event loop notices by itself.
pub(crate) fn tell<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>) -> Result<()> {
    send(socket, value, fd).or_else(|_| send(socket, value, fd))
}

/// Sends one message, with one descriptor or none. A full or closed socket is an error; it never raises SIGPIPE.
fn send<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>) -> Result<()> {
    send_with(socket, value, fd, 0)
}

fn send_with<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>, sixth: u64) -> Result<()> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let iov = IoVec { base: address(value), length: size_of::<T>() };
    let control: [u64; 3] = [
        (CONTROL_HEAD + 4) as u64,
        u64::from(SOL_SOCKET as u32) | u64::from(SCM_RIGHTS as u32) << 32,
        fd.map_or(0, |fd| u64::from(fd.0 as u32)),
    ];
    let header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(&iov),
        iov_count: 1,
        control: if fd.is_some() { address(&control) } else { 0 },
        control_length: if fd.is_some() { size_of_val(&control) } else { 0 },
        flags: 0,
    };
    plain(nr::SENDMSG, &[socket.arg(), address(&header), MSG_NOSIGNAL, 0, 0, sixth as usize]).map(drop)
}
