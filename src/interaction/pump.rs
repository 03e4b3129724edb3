//! One direction of a dialogue: from one program's stdout to the other's stdin, through at most 64 KiB of the host.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::{read, write};

use crate::sys;

/// What the host holds of one direction at most.
const BUFFER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pump {
    /// The reading end of the speaker's stdout.
    from: Option<OwnedFd>,
    /// The writing end of the listener's stdin.
    to: Option<OwnedFd>,
    buffer: Box<[u8]>,
    /// What is in the buffer and not delivered yet.
    start: usize,
    end: usize,
    /// The speaker has closed its end; what it said before may still be in the pipe.
    pub(super) speaker_closed: bool,
    limit: u64,
    /// Bytes taken from the speaker.
    pub(super) sent: u64,
    /// Bytes put into the listener's pipe.
    pub(super) delivered: u64,
}

/// What moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// So many, up to the limit, and there was more.
    Flood(usize),
}

/// What became of what was in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    Nothing,
    Bytes,
    /// Nobody has the other end any more.
    ListenerClosed,
}

impl Pump {
    /// Both ends are the host's own, so that what the programs see of their pipes does not change.
    pub(super) fn new(from: OwnedFd, to: OwnedFd, limit: u64) -> io::Result<Self> {
        for end in [&from, &to] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            from: Some(from),
            to: Some(to),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            speaker_closed: false,
            limit,
            sent: 0,
            delivered: 0,
        })
    }

    /// The speaker's end, and what to look for. Its closing is seen while its bytes wait, but only once: it would wake
    /// us for ever.
    pub(super) fn wanted_from(&self) -> Option<(&OwnedFd, PollFlags)> {
        let from = self.from.as_ref()?;
        match (self.pending() == 0, self.speaker_closed) {
            (true, _) => Some((from, PollFlags::POLLIN)),
            (false, false) => Some((from, PollFlags::empty())),
            (false, true) => None,
        }
    }

    /// The listener's end; an error is always looked for.
    pub(super) fn wanted_to(&self) -> Option<(&OwnedFd, PollFlags)> {
        let events = if self.pending() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
        self.to.as_ref().map(|to| (to, events))
    }

    /// Bytes that were taken and do not fit into the listener's pipe.
    pub(super) fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Whether the listener can still be told something.
    pub(super) fn is_open(&self) -> bool {
        self.to.is_some()
    }

    /// Bytes that the listener could read and has not.
    pub(super) fn unread(&self) -> io::Result<u64> {
        let in_pipe = self.to.as_ref().map_or(Ok(0), sys::unread)?;
        Ok(in_pipe + self.pending() as u64)
    }

    /// The bytes that `take` brought.
    pub(super) fn taken(&self, count: usize) -> &[u8] {
        &self.buffer[self.end - count..self.end]
    }

    /// Takes what the speaker has said, if all before is delivered. One byte more than allowed is asked for, to know that
    /// there is more.
    pub(super) fn take(&mut self) -> io::Result<Taken> {
        let Some(from) = self.from.as_ref().filter(|_| self.start == self.end) else {
            return Ok(Taken::Nothing);
        };
        let left = usize::try_from(self.limit - self.sent).unwrap_or(usize::MAX);
        let room = BUFFER.min(left.saturating_add(1));
        let count = match read(from, &mut self.buffer[..room]) {
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Taken::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let allowed = count.min(left);
        (self.start, self.end) = (0, allowed);
        self.sent += allowed as u64;
        if count == 0 {
            self.from = None;
            self.end_of_speech();
            return Ok(Taken::Nothing);
        }
        Ok(if count > left { Taken::Flood(allowed) } else { Taken::Bytes(allowed) })
    }

    /// Puts what is there into the listener's pipe.
    pub(super) fn give(&mut self) -> io::Result<Given> {
        let Some(to) = self.to.as_ref().filter(|_| self.start < self.end) else { return Ok(Given::Nothing) };
        match write(to, &self.buffer[self.start..self.end]) {
            Ok(count) => {
                self.start += count;
                self.delivered += count as u64;
                self.end_of_speech();
                Ok(Given::Bytes)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Given::Nothing),
            Err(Errno::EPIPE) => Ok(Given::ListenerClosed),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes no more; what was taken is still delivered, and then the listener finds the end of the file.
    pub(super) fn cut(&mut self) {
        self.from = None;
        self.end_of_speech();
    }

    /// Nobody listens: what is left is lost, and the speaker finds a pipe without a reader.
    pub(super) fn close(&mut self) {
        (self.from, self.to) = (None, None);
        (self.start, self.end) = (0, 0);
    }

    /// Closes the listener's stdin when nothing more can come.
    fn end_of_speech(&mut self) {
        if self.from.is_none() && self.start == self.end {
            self.to = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::pipe;

    use super::*;

    fn pump(limit: u64) -> (OwnedFd, Pump, OwnedFd) {
        let (from, speaker) = pipe().expect("a pipe can be made");
        let (listener, to) = pipe().expect("a pipe can be made");
        (speaker, Pump::new(from, to, limit).expect("pipes can be made nonblocking"), listener)
    }

    fn heard(listener: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 1000];
        let count = read(listener, &mut bytes).expect("there is something or the end");
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn bytes_pass_and_are_counted() {
        let (speaker, mut pump, listener) = pump(100);
        write(&speaker, b"hello").expect("room");
        assert_eq!(pump.take().expect("no failure"), Taken::Bytes(5));
        assert_eq!(pump.taken(5), b"hello");
        assert_eq!(pump.unread().expect("a pipe"), 5);
        assert_eq!(pump.give().expect("no failure"), Given::Bytes);
        assert_eq!((pump.sent, pump.delivered, pump.unread().expect("a pipe")), (5, 5, 5));
        assert_eq!(heard(&listener), b"hello");
        assert_eq!(pump.unread().expect("a pipe"), 0);
        drop(speaker);
        assert_eq!(pump.take().expect("no failure"), Taken::Nothing);
        assert!(!pump.is_open());
        assert_eq!(heard(&listener), b"");
    }

    #[test]
    fn the_limit_itself_is_no_flood() {
        let (speaker, mut pump, listener) = pump(5);
        write(&speaker, b"hello").expect("room");
        assert_eq!(pump.take().expect("no failure"), Taken::Bytes(5));
        assert_eq!(pump.give().expect("no failure"), Given::Bytes);
        write(&speaker, b"!").expect("room");
        assert_eq!(pump.take().expect("no failure"), Taken::Flood(0));
        pump.cut();
        assert_eq!(heard(&listener), b"hello");
        assert_eq!(heard(&listener), b"");
        assert_eq!(pump.sent, 5);
    }

    #[test]
    fn a_full_listener_holds_the_speaker_back() {
        let (speaker, mut pump, listener) = pump(1 << 20);
        let chunk = vec![b'x'; BUFFER];
        // The listener's pipe takes one chunk and the host another: no more is taken then.
        for _ in 0..2 {
            write(&speaker, &chunk).expect("room");
            assert_eq!(pump.take().expect("no failure"), Taken::Bytes(BUFFER));
            pump.give().expect("no failure");
        }
        write(&speaker, &chunk).expect("room");
        assert_eq!((pump.take().expect("no failure"), pump.pending()), (Taken::Nothing, BUFFER));
        assert_eq!(pump.give().expect("no failure"), Given::Nothing);
        assert_eq!(pump.unread().expect("a pipe"), 2 * BUFFER as u64);
        drop(listener);
        // Rust's runtime ignores SIGPIPE, so this is safe here; the referee's thread blocks it.
        assert_eq!(pump.give().expect("no failure"), Given::ListenerClosed);
        pump.close();
        assert_eq!(write(&speaker, b"x"), Err(Errno::EPIPE));
    }
}
