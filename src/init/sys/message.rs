//! Messages of the control socket, with the descriptors beside them.

use super::{Errno, Fd, Image, Owned, Result, Wait, address, address_mut, nr, plain};
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

const MSG_DONTWAIT: usize = 0x40;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;

/// Receives one message and its descriptors. `Ok(None)`: the peer is gone.
///
/// Descriptors are appended to `fds` through `push`.
pub(crate) fn receive<T: Copy + Default>(socket: Fd, push: impl FnMut(Owned)) -> Result<Option<T>> {
    Ok(receive_value(socket, Wait::No, None, push)?.map(|(value, _)| value))
}

/// Receives one message, what follows its fixed part into `tail`, and its descriptors. `Ok(None)`: the peer is gone.
pub(crate) fn receive_long<T: Copy + Default>(
    socket: Fd,
    tail: &mut Image,
    push: impl FnMut(Owned),
) -> Result<Option<T>> {
    let space = tail.all();
    let Some((value, length)) = receive_value(socket, Wait::No, Some(space), push)? else { return Ok(None) };
    tail.set_length(length);
    Ok(Some(value))
}

/// Receives the fixed part and how much followed it.
fn receive_value<T: Copy + Default>(
    socket: Fd,
    wait: Wait,
    tail: Option<&mut [u8]>,
    push: impl FnMut(Owned),
) -> Result<Option<(T, usize)>> {
    let mut value = T::default();
    let fixed = size_of::<T>();
    let tail = tail.map_or(IoVec { base: 0, length: 0 }, |tail| IoVec { base: address_mut(tail), length: tail.len() });
    let iov = [IoVec { base: address_mut(&mut value), length: fixed }, tail];
    let flags = if wait == Wait::No { MSG_DONTWAIT | MSG_CMSG_CLOEXEC } else { MSG_CMSG_CLOEXEC };
    match receive_parts(socket, &iov, flags, push)? {
        None => Ok(None),
        Some(length) if length >= fixed => Ok(Some((core::hint::black_box(value), length - fixed))),
        Some(_) => Err(Errno::EPROTO),
    }
}

/// Waits for a command: its image into `image`, and its descriptors, which stay open across `execve`. `Ok(None)`: the peer is
/// gone.
pub(crate) fn receive_command(socket: Fd, image: &mut Image, push: impl FnMut(Owned)) -> Result<Option<()>> {
    let space = image.all();
    let iov = [IoVec { base: address_mut(space), length: space.len() }, IoVec { base: 0, length: 0 }];
    let received = receive_parts(socket, &iov, 0, push)?;
    image.set_length(received.unwrap_or(0));
    Ok(received.map(drop))
}

/// Receives one message, and says how long it was.
fn receive_parts(
    socket: Fd,
    iov: &[IoVec; 2],
    flags: usize,
    mut push: impl FnMut(Owned),
) -> Result<Option<usize>> {
    const MSG_TRUNC: i32 = 0x20;
    const MSG_CTRUNC: i32 = 0x08;
    #[repr(C, align(8))]
    struct Control([u8; CONTROL_HEAD + MAX_FDS * 4 + 4]);
    let mut control = Control([0; CONTROL_HEAD + MAX_FDS * 4 + 4]);
    let mut header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(iov),
        iov_count: 2,
        control: address_mut(&mut control),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let received = plain(nr::RECVMSG, &[socket.arg(), address_mut(&mut header), flags])?;
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
    if header.flags & MSG_TRUNC != 0 {
        return Err(Errno::EPROTO);
    }
    Ok(Some(received))
}

/// A number and perhaps a descriptor, by which the init and its payloads talk. `Ok(None)`: the other end was closed.
pub(crate) fn receive_word(socket: Fd, wait: Wait) -> Result<Option<(u32, Option<Owned>)>> {
    let mut passed = None;
    match receive_value::<u32>(socket, wait, None, |fd| passed = Some(fd))? {
        Some((word, 0)) => Ok(Some((word, passed))),
        Some(_) => Err(Errno::EPROTO),
        None => Ok(None),
    }
}

/// Sends a message that matters. The kernel may be short of memory for a moment, so it is tried twice; a host that cannot
/// be told is gone, which the event loop notices by itself.
pub(crate) fn tell<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>) -> Result<()> {
    send(socket, value, fd).or_else(|_| send(socket, value, fd))
}

/// Sends one message, with one descriptor or none. A full or closed socket is an error; it never raises SIGPIPE.
pub(crate) fn send<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>) -> Result<()> {
    let iov = IoVec { base: address(value), length: size_of::<T>() };
    send_parts(socket, &iov, fd.as_slice())
}

/// Sends a command to a payload that waits for one: its image, and the descriptors that it gets.
pub(crate) fn send_command(socket: Fd, image: &Image, fds: &[Fd; 3]) -> Result<()> {
    let bytes = image.bytes();
    send_parts(socket, &IoVec { base: address(bytes), length: bytes.len() }, fds)
}

fn send_parts(socket: Fd, iov: &IoVec, fds: &[Fd]) -> Result<()> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let number = |n: usize| fds.get(n).map_or(0, |fd| u64::from(fd.0 as u32));
    let control: [u64; 4] = [
        (CONTROL_HEAD + 4 * fds.len()) as u64,
        u64::from(SOL_SOCKET as u32) | u64::from(SCM_RIGHTS as u32) << 32,
        number(0) | number(1) << 32,
        number(2),
    ];
    let header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(iov),
        iov_count: 1,
        control: if fds.is_empty() { 0 } else { address(&control) },
        control_length: if fds.is_empty() { 0 } else { (CONTROL_HEAD + 4 * fds.len()).next_multiple_of(8) },
        flags: 0,
    };
    plain(nr::SENDMSG, &[socket.arg(), address(&header), MSG_NOSIGNAL]).map(drop)
}
