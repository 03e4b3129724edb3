//! Requests to the kernel over netlink(7), and what it answers.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::sys;

/// What can be sent and received.
pub(super) trait Message: NetlinkSerializable + Reply {}
impl<M: NetlinkSerializable + Reply> Message for M {}

/// How long the kernel has for an answer. It takes milliseconds; without an end a lost answer would hold everybody up who waits
/// for a turn.
const PATIENCE: TimeVal = TimeVal::new(20, 0);

/// In bytes. A rule takes about 500.
const ROOM: usize = 8 << 20;

/// How often a list is asked for that changes meanwhile.
const TRIES: usize = 200;

/// What can be received.
pub(super) trait Reply: NetlinkDeserializable + Debug {}
impl<R: NetlinkDeserializable + Debug> Reply for R {}

/// A message of which not all has to be understood. The crate that decodes nf_tables writes each value out, for errors that do
/// not occur.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl NetlinkDeserializable for Raw {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(payload.to_vec()))
    }
}

/// A netlink socket. It belongs to the network namespace that it was opened in, and asks about that.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// The kernel refused requests that are carried out together, or could not be asked.
#[derive(Debug)]
pub(super) struct Refused {
    /// The first of them that it refused; `None` if it is not known.
    pub(super) number: Option<usize>,
    pub(super) source: io::Error,
}

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        Self { number: None, source }
    }
}

impl Netlink {
    /// In the namespace of this thread.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Of a refusal its reason is enough, without the request.
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        // What is carried out together is sent in one piece, and each part of it may be answered. Where that is not allowed, there
        // is as much room as for everybody.
        setsockopt(&socket, sockopt::SndBufForce, &ROOM).ok();
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM).ok();
        Ok(Self { socket, sequence: 0 })
    }

    /// In another network namespace, which needs `CAP_SYS_ADMIN` over it.
    pub(super) fn open_in(namespace: &OwnedFd, protocol: isize) -> io::Result<Self> {
        // A thread that has entered it ends there: the caller's never leaves its own, whatever happens.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("belljar-net".to_owned());
            let thread = thread.spawn_scoped(scope, || {
                setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
                Self::open(protocol)
            })?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the library panicked")))
        })
    }

    /// The number of an interface of its network namespace.
    pub(super) fn interface_number(&self, name: &str) -> io::Result<Option<u32>> {
        sys::interface_number(self.socket.as_fd(), name)
    }

    /// Makes one request, and waits until it was carried out.
    pub(super) fn request<M: Message>(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.begin_anew();
        let number = self.next_number();
        self.send(&frame(message, flags | NLM_F_ACK, number))?;
        self.outcome::<M>(number, number).map_err(|refused| refused.source)
    }

    /// Makes requests that are carried out together or not at all: between a message that begins and one that ends them.
    pub(super) fn batch<M: Message>(
        &mut self,
        bounds: [M; 2],
        messages: Vec<(M, u16)>,
    ) -> Result<(), Refused> {
        self.begin_anew();
        let first = self.sequence + 1;
        let bytes = frames(bounds, messages, || self.next_number());
        // The message that ends them has the last number, and is not answered.
        let awaited = self.sequence - 1;
        self.send(&bytes)?;
        // What concerns all of them, a missing right or changes that could not be made in the end, is said of the first
        // message, and before the last is acknowledged.
        self.outcome::<M>(first, awaited)
    }

    /// Asks for one thing; `None` if there is no such thing.
    pub(super) fn get<M: Message>(&mut self, message: M) -> io::Result<Option<M>> {
        self.begin_anew();
        let number = self.next_number();
        self.send(&frame(message, 0, number))?;
        loop {
            for reply in self.receive::<M>()? {
                if reply.header.sequence_number != number {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => return Ok(Some(message)),
                    NetlinkPayload::Error(error) => match error.to_io() {
                        error if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
                        error => return Err(error),
                    },
                    _ => {}
                }
            }
        }
    }

    /// Asks for all of something, again if it has changed meanwhile.
    pub(super) fn dump<M: Message + Clone>(&mut self, message: M) -> io::Result<Vec<M>> {
        self.dump_as(message)
    }

    /// The same, understood as something else.
    pub(super) fn dump_as<M: Message + Clone, R: Reply>(&mut self, message: M) -> io::Result<Vec<R>> {
        const NLM_F_DUMP_INTR: u16 = 0x10;
        self.begin_anew();
        'again: for _ in 0..TRIES {
            let number = self.next_number();
            self.send(&frame(message.clone(), NLM_F_DUMP, number))?;
            let (mut found, mut is_whole) = (Vec::new(), true);
            loop {
                for reply in self.receive::<R>()? {
                    if reply.header.sequence_number != number {
                        continue;
                    }
                    is_whole &= reply.header.flags & NLM_F_DUMP_INTR == 0;
                    match reply.payload {
                        NetlinkPayload::InnerMessage(message) => found.push(message),
                        NetlinkPayload::Done(done) if done.code < 0 => {
                            return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                        }
                        NetlinkPayload::Done(_) if is_whole => return Ok(found),
                        NetlinkPayload::Done(_) => continue 'again,
                        NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                        _ => {}
                    }
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the list changes all the time"))
    }

    /// The same, and leaves nothing unread where one was refused.
    fn outcome<M: Message>(&self, first: u32, last: u32) -> Result<(), Refused> {
        let outcome = self.await_outcome::<M>(first, last);
        if outcome.is_err() {
            // The other parts were refused, too.
            self.drain();
        }
        outcome
    }

    /// Waits for the acknowledgement of the request `last`, or the refusal of one from `first` on.
    fn await_outcome<M: Message>(&self, first: u32, last: u32) -> Result<(), Refused> {
        loop {
            for reply in self.receive::<M>()? {
                let NetlinkPayload::Error(error) = reply.payload else { continue };
                let number = reply.header.sequence_number;
                // What belongs to an earlier request that failed may still be there.
                let Some(nth) = number.checked_sub(first).filter(|_| number <= last) else { continue };
                if error.code.is_some() {
                    // That of a batch is counted after the message that begins it.
                    let number = usize::try_from(nth).ok().and_then(|nth| nth.checked_sub(1));
                    return Err(Refused { number, source: error.to_io() });
                }
                if number == last {
                    return Ok(());
                }
            }
        }
    }

    fn next_number(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Numbers begin anew long before they come around. Nothing is unread between two requests.
    fn begin_anew(&mut self) {
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
    }

    /// Reads what is left of answers that nobody waits for. The kernel answers nothing more to a socket whose queue has run
    /// over, until that is empty.
    fn drain(&self) {
        let mut bytes = [0; 4096];
        while let Ok(_) | Err(Errno::ENOBUFS) =
            recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)
        {}
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// The messages of one datagram of the kernel; if it cannot be understood, nothing of it is left.
    fn receive<M: Reply>(&self) -> io::Result<Vec<NetlinkMessage<M>>> {
        self.try_receive().inspect_err(|_| self.drain())
    }

    fn try_receive<M: Reply>(&self) -> io::Result<Vec<NetlinkMessage<M>>> {
        let bytes = loop {
            match self.socket.recv_from_full() {
                Ok((bytes, sender)) if sender.port_number() == 0 => break bytes,
                // Not by the kernel.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(16);
            messages.push(message);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

/// Requests that are carried out together.
pub(super) fn frames<M: Message>(
    [begin, end]: [M; 2],
    messages: Vec<(M, u16)>,
    mut next_number: impl FnMut() -> u32,
) -> Vec<u8> {
    let mut bytes = frame(begin, 0, next_number());
    let last = messages.len().saturating_sub(1);
    for (number, (message, flags)) in messages.into_iter().enumerate() {
        // All are refused if one is, and the last is acknowledged when the others have been looked at.
        let flags = if number == last { flags | NLM_F_ACK } else { flags };
        bytes.extend(frame(message, flags, next_number()));
    }
    bytes.extend(frame(end, 0, next_number()));
    bytes
}

fn frame<M: Message>(message: M, flags: u16, number: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (flags | NLM_F_REQUEST, number);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}
