//! The host's ends of piped streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::unix::pipe::{Receiver, Sender};

use crate::error::{Error, Result, Step};

/// The writing end of a [piped](crate::Stdio::piped) stdin. Dropping it closes it.
#[derive(Debug)]
pub struct ChildStdin(Sender);

/// The reading end of a piped stdout.
#[derive(Debug)]
pub struct ChildStdout(Receiver);

/// The reading end of a piped stderr.
#[derive(Debug)]
pub struct ChildStderr(Receiver);

fn failed(error: io::Error) -> Error {
    Error::os(Step::Prepare, "registering a pipe with the tokio runtime", error)
}

macro_rules! stream {
    ($type:ident, $end:ident) => {
        impl $type {
            pub(super) fn new(pipe: Option<impl Into<OwnedFd>>) -> Result<Option<Self>> {
                pipe.map(|pipe| $end::from_owned_fd(pipe.into()).map(Self).map_err(failed)).transpose()
            }

            /// The descriptor, as one that blocks: for [`Stdio`](crate::Stdio) of another program, for instance.
            ///
            /// # Errors
            ///
            /// Of `fcntl(2)`.
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                self.0.into_blocking_fd()
            }
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    };
}

stream!(ChildStdin, Sender);
stream!(ChildStdout, Receiver);
stream!(ChildStderr, Receiver);

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl AsyncRead for ChildStdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncRead for ChildStderr {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

/// Takes what comes through a pipe, up to a limit.
pub(super) struct Collector<S> {
    pipe: Option<S>,
    most: u64,
    chunk: Box<[u8]>,
    pub(super) bytes: Vec<u8>,
    /// There was more than that.
    pub(super) flooded: bool,
}

const CHUNK: usize = 64 << 10;

impl<S: AsyncRead + AsFd + Unpin> Collector<S> {
    pub(super) fn new(pipe: Option<S>, most: u64) -> Self {
        let chunk = if pipe.is_some() { vec![0; CHUNK] } else { Vec::new() };
        Self { pipe, most, chunk: chunk.into(), bytes: Vec::new(), flooded: false }
    }

    /// Takes what is there. The task is woken when there is more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Result<()> {
        while let Some(pipe) = &mut self.pipe {
            let mut buffer = ReadBuf::new(&mut self.chunk);
            match Pin::new(pipe).poll_read(context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(reading_failed(error)),
                Poll::Ready(Ok(())) => {
                    let count = buffer.filled().len();
                    self.add(count);
                }
            }
        }
        Ok(())
    }

    /// Takes what is left once the program has ended: a process that was left behind may hold the other end for ever.
    pub(super) fn finish(&mut self) -> Result<()> {
        while let Some(pipe) = &self.pipe {
            // Not by way of the runtime, which may not have heard of it yet.
            match nix::unistd::read(pipe.as_fd(), &mut self.chunk) {
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(reading_failed(errno.into())),
                Ok(count) => self.add(count),
            }
        }
        Ok(())
    }

    fn add(&mut self, count: usize) {
        let room = usize::try_from(self.most.saturating_sub(self.bytes.len() as u64)).unwrap_or(usize::MAX);
        self.bytes.extend_from_slice(&self.chunk[..count.min(room)]);
        self.flooded |= count > room;
        if count == 0 || self.flooded {
            self.pipe = None;
        }
    }
}

fn reading_failed(error: io::Error) -> Error {
    Error::os(Step::Prepare, "reading piped output", error)
}
