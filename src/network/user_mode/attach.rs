//! The program of a running sandbox: started, awaited, ended.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::program::{READY_FD, UserModeProgram, addresses_of};
use crate::child::Child;
use crate::command::{Command, Stdio};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sandbox::Sandbox;

/// How long a program may take to be ready. It makes an interface and gives it addresses, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most of what a program says that is told.
const MOST_TOLD: usize = 400;

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(super) program: UserModeProgram,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Rules for the sandbox's own packet filter, if there are any.
    pub(super) closed: Option<Vec<u8>>,
}

/// The program that is the network of a sandbox. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// A sandbox that isolates nothing: its init kills the program when this host dies, which no thread of ours could.
    program: Child,
    #[expect(dead_code, reason = "the program would be killed by a pipe that nobody can read")]
    messages: File,
    addresses: Vec<IpAddr>,
    /// The process that started it, and alone ends it.
    owner: u32,
}

/// A pipe at which neither side waits: a program whose messages nobody reads must not be held by them.
fn pipe() -> Result<(File, OwnedFd)> {
    let (from, to) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| Error::os(Step::Network, "making a pipe", errno))?;
    Ok((from.into(), to))
}

impl Wanted {
    /// In words.
    pub(crate) fn describe(&self) -> String {
        format!("start {} as its network", self.path.display())
    }

    pub(crate) fn closed(&self) -> Option<&[u8]> {
        self.closed.as_deref()
    }

    /// Starts the program for the sandbox that has this init, and waits until it is ready.
    pub(crate) fn attach(&self, init: i32) -> Result<Attachment> {
        let (ready, ready_end) = pipe()?;
        let (messages, messages_end) = pipe()?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).args(self.program.target(init));
        command.stderr(messages_end);
        match self.program {
            UserModeProgram::Pasta => command.stdout(ready_end),
            UserModeProgram::Slirp4netns => command.stdout(Stdio::null()).keep_fd(ready_end, READY_FD),
        };
        let program = Sandbox::bare().spawn(&command).map_err(|error| self.failed(&error.to_string()))?;
        // So that the pipes end with the program.
        drop(command);
        match await_ready(&ready) {
            Ok(true) => {
                Ok(Attachment { program, messages, addresses: addresses_of(init), owner: std::process::id() })
            }
            Ok(false) => Err(self.failed(&format!("it has ended: {}", said(&messages)))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.failed(&format!("it is not ready after {PATIENCE:?}: {}", said(&messages))))
            }
            Err(error) => Err(Error::os(Step::Network, format!("waiting for {}", self.program), error)),
        }
    }

    fn failed(&self, why: &str) -> Error {
        let message = format!("{} has not made a network: {why}", self.program);
        Error::message(ErrorKind::Setup, Step::Network, message).with_hint(match self.program {
            UserModeProgram::Pasta => {
                "it needs a default route, a /dev/net/tun that this user may open (as root: `modprobe tun`, \
                 `chmod 666 /dev/net/tun`), and published ports that nobody else has"
            }
            UserModeProgram::Slirp4netns => {
                "it needs a /dev/net/tun that this user may open (as root: `modprobe tun`, `chmod 666 /dev/net/tun`)"
            }
        })
    }
}

impl Attachment {
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Its init does that, too, and reaps it: if nobody has killed that one.
        if self.owner == std::process::id() {
            self.program.signal(libc::SIGKILL).ok();
        }
    }
}

/// Whether the program has said that it is ready, and not ended before.
fn await_ready(mut ready: &File) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => match ready.read(&mut [0; 32]) {
                Ok(count) => return Ok(count > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            },
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What the program has said so far, on one line.
fn said(mut messages: &File) -> String {
    let mut bytes = Vec::new();
    // It ends with an error where there is nothing more yet.
    messages.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes);
    // pasta complains of a host without a system logger, once for each line.
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.ends_with("to syslog"));
    let told: String = lines.collect::<Vec<_>>().join("; ").chars().take(MOST_TOLD).collect();
    if told.is_empty() { "without a word".to_owned() } else { told }
}
