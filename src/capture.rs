//! Standard streams: what the host keeps of them, and what goes to the program and to the init.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::command::{Command, Kept, Stdio, StdioKind};
use crate::error::{Error, Result, Step};
use crate::sys;
use crate::wire::{CONNECTION_SLOTS, TERMINAL_SLOT};

/// What the host keeps.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    /// Files that the init writes captured stdout and stderr to.
    pub(crate) captured: [Option<File>; 2],
}

/// One captured stream, as the init needs it.
pub(crate) struct PumpEnds {
    pub(crate) from: RawFd,
    pub(crate) to: RawFd,
    pub(crate) budget: u64,
}

/// What goes to the program and the init; open until the request is sent.
pub(crate) struct Theirs {
    stdio: [Source; 3],
    pumps: [Option<(OwnedFd, RawFd, u64)>; 2],
}

/// A descriptor that may be shared with the command or with the host.
enum Source {
    Ours(OwnedFd),
    Shared(Arc<OwnedFd>),
    /// The host's own standard stream, which it keeps.
    Inherited(RawFd),
    /// The program's terminal, which the init makes.
    Terminal,
}

impl Source {
    fn raw(&self) -> Option<RawFd> {
        match self {
            Self::Ours(fd) => Some(fd.as_raw_fd()),
            Self::Shared(fd) => Some(fd.as_raw_fd()),
            Self::Inherited(fd) => Some(*fd),
            Self::Terminal => None,
        }
    }
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::os(Step::Prepare, what, error)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|errno| failed("making a pipe")(errno.into()))?;
    // It belongs to the host's user, who may have no id inside; `echo > /dev/stderr` opens it anew all the same.
    nix::sys::stat::fchmod(&read, nix::sys::stat::Mode::from_bits_truncate(0o666))
        .map_err(|errno| failed("opening up a pipe")(errno.into()))?;
    let above = |fd| sys::above_stdio(fd).map_err(failed("making a pipe"));
    Ok((above(read)?, above(write)?))
}

/// One description for all streams of a program that want it: what is written to it or read from it is nothing anyway.
fn null(opened: &mut Option<Arc<OwnedFd>>) -> Result<Source> {
    if let Some(fd) = opened {
        return Ok(Source::Shared(Arc::clone(fd)));
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| failed("opening /dev/null")(error).with_path("/dev/null"))?;
    let fd = Arc::new(sys::above_stdio(file.into()).map_err(failed("opening /dev/null"))?);
    Ok(Source::Shared(Arc::clone(opened.insert(fd))))
}

impl Streams {
    /// Opens the streams that a command asks for.
    pub(crate) fn open(command: &Command) -> Result<(Self, Theirs)> {
        let mut ours = Self::default();
        let mut pumps = [None, None];
        let mut nothing = None;
        let kind = |n: usize| command.stdio[n].as_ref().map(|Stdio(kind)| kind);
        let stdin = match kind(0) {
            None if command.pty.is_some() => Source::Terminal,
            None | Some(StdioKind::Null | StdioKind::Capture(_)) => null(&mut nothing)?,
            Some(StdioKind::Inherit) => inherited(0, &mut nothing)?,
            Some(StdioKind::Fd(fd)) => Source::Shared(Arc::clone(fd)),
            Some(StdioKind::Piped) => {
                let (read, write) = pipe()?;
                ours.stdin = Some(write.into());
                Source::Ours(read)
            }
        };
        let mut output = |n: usize, ours: &mut Self| -> Result<Source> {
            Ok(match kind(n) {
                None if command.pty.is_some() => Source::Terminal,
                None | Some(StdioKind::Inherit) => inherited(i32::try_from(n).unwrap_or(2), &mut nothing)?,
                Some(StdioKind::Null) => null(&mut nothing)?,
                Some(StdioKind::Fd(fd)) => Source::Shared(Arc::clone(fd)),
                Some(StdioKind::Piped) => {
                    let (read, write) = pipe()?;
                    if n == 1 {
                        ours.stdout = Some(read.into());
                    } else {
                        ours.stderr = Some(read.into());
                    }
                    Source::Ours(write)
                }
                Some(StdioKind::Capture(budget)) => {
                    let (read, write) = pipe()?;
                    let file = File::from(sys::memfd(c"belljar-output").map_err(failed("making a memfd"))?);
                    pumps[n - 1] = Some((read, file.as_raw_fd(), budget.get()));
                    ours.captured[n - 1] = Some(file);
                    Source::Ours(write)
                }
            })
        };
        let stdout = output(1, &mut ours)?;
        let stderr = output(2, &mut ours)?;
        Ok((ours, Theirs { stdio: [stdin, stdout, stderr], pumps }))
    }
}

/// The host's own stream, or `/dev/null` where the host has closed it.
fn inherited(number: RawFd, nothing: &mut Option<Arc<OwnedFd>>) -> Result<Source> {
    if sys::is_inheritable(number) { Ok(Source::Inherited(number)) } else { null(nothing) }
}

impl Theirs {
    /// The descriptors for the run's table.
    pub(crate) fn table(&self, command: &Command) -> Vec<RawFd> {
        let kept = command.kept.iter().filter_map(|(_, kept)| match kept {
            Kept::Fd(fd) => Some(fd.as_raw_fd()),
            Kept::Connection(_) => None,
        });
        self.stdio.iter().filter_map(Source::raw).chain(kept).collect()
    }

    /// Pairs of slot and descriptor number, ascending by number.
    pub(crate) fn placements(&self, command: &Command) -> Vec<(u32, u32)> {
        // The init makes the terminal, and the sockets of connections in this order.
        let (mut given, mut connections) = (0.., CONNECTION_SLOTS..);
        let streams = self.stdio.iter().zip(0..).map(|(source, number)| match source {
            Source::Terminal => (Some(TERMINAL_SLOT), number),
            Source::Ours(_) | Source::Shared(_) | Source::Inherited(_) => (given.next(), number),
        });
        let mut slots: Vec<_> = streams.collect();
        slots.extend(command.kept.iter().map(|(number, kept)| match kept {
            Kept::Fd(_) => (given.next(), *number),
            Kept::Connection(_) => (connections.next(), *number),
        }));
        let pair = |(slot, number): (Option<usize>, u32)| Some((u32::try_from(slot?).ok()?, number));
        let mut pairs: Vec<_> = slots.into_iter().filter_map(pair).collect();
        pairs.sort_by_key(|(_, number)| *number);
        pairs
    }

    pub(crate) fn pumps(&self) -> [Option<PumpEnds>; 2] {
        self.pumps.each_ref().map(|pump| {
            pump.as_ref().map(|(from, to, budget)| PumpEnds {
                from: from.as_raw_fd(),
                to: *to,
                budget: *budget,
            })
        })
    }
}

/// Everything in a capture file.
pub(crate) fn read_captured(file: Option<File>) -> Result<Vec<u8>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let length = file.metadata().map_err(failed("measuring captured output"))?.len();
    bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    // The init shares the file's position; reading at an offset does not move it.
    file.read_exact_at(&mut bytes, 0).map_err(failed("reading captured output"))?;
    Ok(bytes)
}

/// Reads a pipe while a program runs. It ends at the pipe's end, beyond `most` bytes, or, once the program has ended,
/// when nothing is left in it: a process that was left behind may hold the other end for ever.
pub(crate) struct PipeReader<'a> {
    pub(crate) most: u64,
    /// The program has ended.
    pub(crate) ended: &'a AtomicBool,
    /// There was more than `most`.
    pub(crate) flood: &'a AtomicBool,
}

impl PipeReader<'_> {
    pub(crate) fn read(&self, pipe: Option<OwnedFd>) -> Result<Vec<u8>> {
        let failed = failed("reading piped output");
        let mut bytes = Vec::new();
        let Some(pipe) = pipe else { return Ok(bytes) };
        let mut file = File::from(pipe);
        let mut chunk = [0; 64 << 10];
        loop {
            let last_look = self.ended.load(Ordering::Acquire);
            let mut set = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
            let timeout = if last_look { PollTimeout::ZERO } else { PollTimeout::from(20_u8) };
            match poll(&mut set, timeout) {
                Ok(0) if last_look => return Ok(bytes),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let count = file.read(&mut chunk).map_err(&failed)?;
            if count == 0 {
                return Ok(bytes);
            }
            let room = usize::try_from(self.most.saturating_sub(bytes.len() as u64)).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&chunk[..count.min(room)]);
            if count > room {
                self.flood.store(true, Ordering::Release);
                return Ok(bytes);
            }
        }
    }
}
