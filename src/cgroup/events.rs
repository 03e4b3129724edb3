//! Being told of what happens in a box.
//!
//! Version 2 changes a file, of which inotify tells. Version 1 tells nobody that would come in time (its out-of-memory
//! notice comes before the kill, and since Linux 6.11 nothing says that a fork was refused), so its files are looked at now
//! and then.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::counters::keyed;
use super::group::Group;
use super::layout::{Controller, Version};
use crate::error::{Error, Result, Step};

/// Something that happened in a running sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A process was killed for memory. v2 `oom_kill` of `memory.events`, v1 `oom_kill` of `memory.oom_control`.
    OomKill,
    /// The memory limit was reached and nothing could be reclaimed. v2 `oom` of `memory.events`.
    Oom,
    /// The memory limit was reached, and memory was reclaimed. v2 `max` of `memory.events`.
    MemoryMax,
    /// More memory than [`memory_high`](crate::Limits::memory_high) was used. v2 `high` of `memory.events`.
    MemoryHigh,
    /// A fork was refused because of [`pids_max`](crate::Limits::pids_max). `max` of `pids.events`.
    PidsMax,
    /// Every process has stopped. v2 `frozen` of `cgroup.events`.
    Frozen,
    /// Processes go on.
    Thawed,
    /// No process is left. v2 `populated` of `cgroup.events`.
    Empty,
    /// The sandbox has ended. Nothing else will come.
    Ended,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OomKill => "a process was killed for memory",
            Self::Oom => "out of memory",
            Self::MemoryMax => "memory limit reached",
            Self::MemoryHigh => "high memory mark passed",
            Self::PidsMax => "fork refused",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::Empty => "empty",
            Self::Ended => "ended",
        })
    }
}

/// The events of a running sandbox, from when it was asked for. It tells each kind once for any number of times that it
/// happened since the last look.
///
/// For event loops it is a descriptor that is readable when [`next`](Events::next) may have something: call that with a
/// time of zero until it returns `None`. On version 1, where nobody tells, it is readable ten times a second.
///
/// On version 2 each takes an inotify instance, of which a user has as many as `fs.inotify.max_user_instances` says, often
/// 128.
#[derive(Debug)]
pub struct Events {
    epoll: Epoll,
    inotify: Option<Inotify>,
    timer: Option<TimerFd>,
    /// The init's pidfd.
    init: OwnedFd,
    sources: Vec<Source>,
    ready: VecDeque<Event>,
    ended: bool,
}

/// One file that is watched, and what it said.
#[derive(Debug)]
struct Source {
    file: OwnedFd,
    keys: &'static [(&'static str, Event)],
    /// What `frozen` and `populated` are now; a counter for all other keys.
    values: Vec<u64>,
}

/// How often a file is looked at of whose changes nobody tells.
const LOOK: Duration = Duration::from_millis(100);

const MEMORY: &[(&str, Event)] = &[
    ("oom_kill", Event::OomKill),
    ("oom", Event::Oom),
    ("max", Event::MemoryMax),
    ("high", Event::MemoryHigh),
];
const MEMORY_V1: &[(&str, Event)] = &[("oom_kill", Event::OomKill)];
const PIDS: &[(&str, Event)] = &[("max", Event::PidsMax)];
const GROUP: &[(&str, Event)] = &[("frozen", Event::Frozen), ("populated", Event::Empty)];

fn failed(errno: Errno) -> Error {
    Error::os(Step::Cgroup, "watching the cgroup", errno)
}

/// inotify_init(2) says the same where the user has no instance left, of which there are often 128, and where the process
/// has no descriptor left.
fn uninstantiated(errno: Errno) -> Error {
    let error = failed(errno);
    match errno {
        Errno::EMFILE => error.with_hint(
            "each Events takes an inotify instance of the user: as root, `sysctl fs.inotify.max_user_instances=8192` (or see \
             `ulimit -n`); or keep fewer at once: usage() tells kills and refused forks without",
        ),
        _ => error,
    }
}

impl Events {
    /// Watches the groups of a box for as long as its init lives.
    pub(super) fn watch(groups: &[Group], init: OwnedFd) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        epoll.add(&init, readable).map_err(failed)?;
        let (mut inotify, mut timer, mut sources) = (None, None, Vec::new());
        for group in groups {
            let is_v2 = group.version() == Version::V2;
            let memory = if is_v2 { ("memory.events", MEMORY) } else { ("memory.oom_control", MEMORY_V1) };
            let watched = [
                (is_v2, ("cgroup.events", GROUP)),
                (group.has(Controller::Memory), memory),
                (group.has(Controller::Pids), ("pids.events", PIDS)),
            ];
            for (name, keys) in watched.into_iter().filter(|(is, _)| *is).map(|(_, watched)| watched) {
                let file = group.open_file(name, OFlag::O_RDONLY)?;
                if is_v2 {
                    if inotify.is_none() {
                        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
                        let made = Inotify::init(flags).map_err(uninstantiated)?;
                        epoll.add(&made, readable).map_err(failed)?;
                        inotify = Some(made);
                    }
                    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                    if let Some(inotify) = &inotify {
                        inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).map_err(failed)?;
                    }
                } else if timer.is_none() {
                    let made = pulse().map_err(failed)?;
                    epoll.add(&made, readable).map_err(failed)?;
                    timer = Some(made);
                }
                let mut source = Source { file, keys, values: Vec::new() };
                source.values = source.read().map_err(failed)?;
                sources.push(source);
            }
        }
        Ok(Self { epoll, inotify, timer, init, sources, ready: VecDeque::new(), ended: false })
    }

    /// Waits for an event, at most so long; without a limit, for ever. `None`: the time is over. When the sandbox has
    /// ended this is [`Event::Ended`], again and again.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the cgroup cannot be read any more.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(Some(Event::Ended));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let millis = left.map(|left| left.as_nanos().div_ceil(1_000_000));
            let patience =
                millis.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
            let mut woken = [EpollEvent::empty(); 4];
            let count = match self.epoll.wait(&mut woken, patience) {
                Err(Errno::EINTR) => 0,
                waited => waited.map_err(failed)?,
            };
            if count > 0 {
                self.look().map_err(failed)?;
            }
            if self.ready.is_empty() && !self.ended && left == Some(Duration::ZERO) {
                return Ok(None);
            }
        }
    }

    /// Reads every file; whichever of them woke us, there are few.
    fn look(&mut self) -> nix::Result<()> {
        // Before the files, so that what they say last is not missed.
        let ended = has_ended(&self.init)?;
        if let Some(inotify) = &self.inotify {
            ignore_nothing(inotify.read_events().map(drop))?;
        }
        if let Some(timer) = &self.timer {
            ignore_nothing(timer.wait())?;
        }
        for source in &mut self.sources {
            self.ready.extend(source.news()?);
        }
        self.ended = ended;
        Ok(())
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// A timer that wakes whoever waits, ten times a second.
fn pulse() -> nix::Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    timer.set(Expiration::Interval(TimeSpec::from_duration(LOOK)), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

fn has_ended(init: &OwnedFd) -> nix::Result<bool> {
    use nix::poll::{PollFd, PollFlags, poll};
    Ok(poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? != 0)
}

/// That nothing was there to read is fine.
fn ignore_nothing(read: nix::Result<()>) -> nix::Result<()> {
    if read == Err(Errno::EAGAIN) { Ok(()) } else { read }
}

impl Source {
    fn read(&self) -> nix::Result<Vec<u64>> {
        let mut buffer = [0; 4096];
        let length = match nix::sys::uio::pread(&self.file, &mut buffer, 0) {
            // The cgroup is gone, and with it whatever could happen.
            Err(Errno::ENODEV) => return Ok(self.values.clone()),
            read => read?,
        };
        let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
        Ok(self.keys.iter().map(|(key, _)| keyed(text, key).unwrap_or(0)).collect())
    }

    /// What has happened since the last look.
    fn news(&mut self) -> nix::Result<Vec<Event>> {
        let now = self.read()?;
        let mut news = Vec::new();
        for (((_, event), before), now) in self.keys.iter().zip(&self.values).zip(&now) {
            match event {
                Event::Frozen if now < before => news.push(Event::Thawed),
                Event::Empty if now < before => news.push(Event::Empty),
                Event::Empty => {}
                event if now > before => news.push(*event),
                _ => {}
            }
        }
        self.values = now;
        Ok(news)
    }
}
