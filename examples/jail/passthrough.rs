//! `--output`: stdout and stderr go through pipes that are copied on while they are within a common budget.
//!
//! ```text
//! program ──stdout──▶ thread ──▶ jail's stdout     main thread: waits for the program's end or the bell;
//!         ──stderr──▶ thread ──▶ jail's stderr                  when it rings, kills the program
//!                       └── over the budget: rings the bell
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use belljar::{Child, Outcome, Verdict};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that a thread takes from its pipe at once; twice that is the most that is read beyond the budget.
const CHUNK: usize = 32 << 10;

/// Everything that is needed to pass output on, made before there is a program whose output could be lost.
pub(crate) struct Passthrough {
    budget: Budget,
    stdout: File,
    stderr: File,
    bell: Bell,
}

struct Budget {
    limit: u64,
    read: AtomicU64,
    exceeded: AtomicBool,
}

/// A thread writes to `threads` to ring; the main thread shuts `main` down when the program has ended.
struct Bell {
    main: UnixStream,
    threads: UnixStream,
}

impl Passthrough {
    /// For at most `limit` bytes to this process's stdout and stderr together.
    pub(crate) fn new(limit: u64) -> io::Result<Self> {
        let (main, threads) = UnixStream::pair()?;
        Ok(Self {
            budget: Budget { limit, read: AtomicU64::new(0), exceeded: AtomicBool::new(false) },
            stdout: io::stdout().as_fd().try_clone_to_owned()?.into(),
            stderr: io::stderr().as_fd().try_clone_to_owned()?.into(),
            bell: Bell { main, threads },
        })
    }

    /// Waits for the end of a program whose stdout and stderr are pipes, and kills it when it writes too much.
    pub(crate) fn wait(self, child: &mut Child) -> Result<Outcome, String> {
        let Self { budget, stdout, stderr, bell } = &self;
        let pipes = [
            (child.stdout.take().map(OwnedFd::from), stdout),
            (child.stderr.take().map(OwnedFd::from), stderr),
        ];
        let mut outcome = thread::scope(|scope| {
            // When a thread cannot be had, the way out of here drops the pipes, and the caller the program.
            let started = pipes.into_iter().try_for_each(|(pipe, to)| {
                let Some(pipe) = pipe else { return Ok(()) };
                let copy = move || copy(&pipe.into(), to, budget, bell);
                thread::Builder::new().spawn_scoped(scope, copy).map(drop)
            });
            let outcome = match started {
                Ok(()) => watch(child, &bell.main).map_err(crate::explain),
                Err(error) => Err(format!("starting a thread: {error}")),
            };
            let _ = bell.main.shutdown(Shutdown::Both);
            outcome
        })?;
        outcome.usage.output_bytes = budget.read.load(Ordering::Relaxed);
        if budget.exceeded.load(Ordering::Relaxed) {
            outcome.verdict = Verdict::OutputExceeded;
        }
        Ok(outcome)
    }
}

impl Budget {
    /// How many of `count` bytes that were read may be passed on.
    fn take(&self, count: usize) -> usize {
        let before = self.read.fetch_add(count as u64, Ordering::Relaxed);
        let left = self.limit.saturating_sub(before);
        let allowed = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        if allowed < count {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        allowed
    }
}

/// Waits for the program's end, or for the bell to end it.
fn watch(child: &mut Child, bell: &UnixStream) -> belljar::Result<Outcome> {
    loop {
        if let Some(outcome) = child.try_wait()? {
            return Ok(outcome);
        }
        let [_, rung] = readable([child.as_fd(), bell.as_fd()]);
        if rung {
            child.kill()?;
            return child.wait();
        }
    }
}

/// Passes one stream on until its end, until the budget is spent, or until the program has ended and the pipe, which
/// a process that survived it may still hold, is empty.
fn copy(mut from: &File, to: &File, budget: &Budget, bell: &Bell) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let [data, ended] = readable([from.as_fd(), bell.threads.as_fd()]);
        if !data && ended {
            return;
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let allowed = budget.take(count);
        if write_all(to, &buffer[..allowed]).is_err() {
            return; // closes the pipe: what happens to the reader's end happens to the program's
        }
        if allowed < count {
            let _ = (&bell.threads).write_all(b"!");
            // The pipe stays open until the program is dead, so that it dies of this and not of SIGPIPE.
            readable([bell.threads.as_fd()]);
            return;
        }
    }
}

/// Writes everything, also where somebody else has made the descriptor non-blocking.
fn write_all(mut to: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for([to.as_fd()], PollFlags::POLLOUT);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until one of these can be read, or is at its end.
fn readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> [bool; N] {
    wait_for(fds, PollFlags::POLLIN)
}

fn wait_for<const N: usize>(fds: [BorrowedFd<'_>; N], flags: PollFlags) -> [bool; N] {
    let mut fds = fds.map(|fd| PollFd::new(fd, flags));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            // poll(2) fails for want of memory only; then reading finds out.
            Err(_) => return [true; N],
            Ok(_) => return fds.map(|fd| fd.any().unwrap_or(true)),
        }
    }
}
