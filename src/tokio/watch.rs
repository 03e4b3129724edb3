//! What wakes a task when there is news of a sandbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::time::sleep;

use crate::error::{Error, Result, Step};
use crate::link::{Link, Received};
use crate::runtime::Runtime;

/// The control socket and the init's pidfd, registered with the runtime of this task.
///
/// Descriptors of its own, because no number can be registered twice with one runtime, and many tasks may wait for programs
/// of one container.
#[derive(Debug)]
pub(super) struct Watch {
    news: AsyncFd<OwnedFd>,
    init: AsyncFd<OwnedFd>,
    handle: Handle,
}

/// Waiting in a runtime failed, which is shutting down.
fn failed(error: std::io::Error) -> Error {
    Error::os(Step::Wait, "waiting in the tokio runtime", error)
}

#[allow(
    deprecated,
    reason = "what takes its place is unsafe for the sake of types other than OwnedFd, and newer"
)]
fn register(fd: BorrowedFd<'_>) -> Result<AsyncFd<OwnedFd>> {
    let registered = fd.try_clone_to_owned().and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE));
    registered.map_err(|error| Error::os(Step::Prepare, "registering with the tokio runtime", error))
}

impl Watch {
    /// # Panics
    ///
    /// Outside of a runtime, and in one without I/O or time.
    pub(super) fn new(link: &Link) -> Result<Self> {
        // A runtime without time is told of now, and not when the sandbox has to be taken down.
        drop(sleep(Duration::ZERO));
        let (news, init) = (register(link.readiness())?, register(link.init().as_fd())?);
        Ok(Self { news, init, handle: Handle::current() })
    }

    /// The runtime that wakes.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The next word about a program.
    pub(super) fn poll_receive(
        &self,
        link: &Link,
        number: u32,
        context: &mut Context<'_>,
    ) -> Poll<Result<Received>> {
        loop {
            if let Poll::Ready(received) = link.poll_receive(number, context) {
                return Poll::Ready(received);
            }
            // An event is forgotten before the look, never after: what comes meanwhile is an event of its own.
            let mut look_again = false;
            for watched in [&self.news, &self.init] {
                if let Poll::Ready(event) = watched.poll_read_ready(context) {
                    event.map_err(failed)?.clear_ready();
                    look_again = true;
                }
            }
            if !look_again {
                return Poll::Pending;
            }
        }
    }

    /// The end of the init.
    pub(super) fn poll_init(&self, runtime: &Runtime, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            // Before any event: one may have been forgotten by the other one who looks.
            if runtime.init_ends(Instant::now()) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.init.poll_read_ready(context)).map_err(failed)?.clear_ready();
        }
    }
}
