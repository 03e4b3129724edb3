//! Being told of what happens in a box, without asking again and again.
//!
//! Version 2 changes a file, of which inotify tells. The out-of-memory events of version 1 come by an eventfd. Of refused
//! forks version 1 tells nobody since Linux 6.11, so that file is looked at now and then.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
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
    /// A fork was refused because of [`pids_max`](crate::Limits::pids_max). `max` of `pids.events`; on version 1 it is
    /// noticed within a tenth of a second.
    PidsMax,
    /// Every process has stopped. v2 `frozen` of `cgroup.events`.
    Frozen,
    /// Processes go on.
    Thawed,
    /// No process is left. v2 `populated` of `cgroup.events`.
    Empty,
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
        })
    }
}

/// The events of a running sandbox, from when it was asked for. It tells each kind once for any number of times that it
/// happened since the last look.
///
/// For event loops it is a descriptor that is readable when [`next`](Events::next) may have something.
#[derive(Debug)]
pub struct Events {
    epoll: Epoll,
    sources: Vec<Source>,
    ready: VecDeque<Event>,
}

/// One file that is watched, and what it said.
#[derive(Debug)]
struct Source {
    file: OwnedFd,
    notice: Notice,
    keys: &'static [(&'static str, Event)],
    /// What `frozen` and `populated` are now; a counter for all other keys.
    values: Vec<u64>,
}

#[derive(Debug)]
enum Notice {
    Inotify(Inotify),
    Eventfd(EventFd),
    /// Nobody tells: it is looked at when the timer says so.
    Timer(TimerFd),
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

impl Events {
    pub(super) fn watch(groups: &[Group]) -> Result<Self> {
        let failed = |errno: Errno| Error::os(Step::Cgroup, "watching the cgroup", errno);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let mut events = Self { epoll, sources: Vec::new(), ready: VecDeque::new() };
        for group in groups {
            match group.version() {
                Version::V2 => {
                    events.add(group, "cgroup.events", GROUP)?;
                    if group.has(Controller::Memory) {
                        events.add(group, "memory.events", MEMORY)?;
                    }
                }
                Version::V1 if group.has(Controller::Memory) => {
                    events.add(group, "memory.oom_control", MEMORY_V1)?;
                }
                Version::V1 => {}
            }
            if group.has(Controller::Pids) {
                events.add(group, "pids.events", PIDS)?;
            }
        }
        Ok(events)
    }

    fn add(&mut self, group: &Group, name: &str, keys: &'static [(&'static str, Event)]) -> Result<()> {
        let failed =
            |errno: Errno| Error::os(Step::Cgroup, format!("watching {name}"), errno).with_path(group.path());
        let file = group.open_file(name, OFlag::O_RDONLY)?;
        let notice = if name == "memory.oom_control" {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let eventfd = EventFd::from_flags(flags).map_err(failed)?;
            let line = format!("{} {}", eventfd.as_raw_fd(), file.as_raw_fd());
            group.write("cgroup.event_control", &line)?;
            Notice::Eventfd(eventfd)
        } else if group.version() == Version::V1 {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(failed)?;
            let every = Expiration::Interval(TimeSpec::from_duration(LOOK));
            timer.set(every, TimerSetTimeFlags::empty()).map_err(failed)?;
            Notice::Timer(timer)
        } else {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).map_err(failed)?;
            Notice::Inotify(inotify)
        };
        let wanted = EpollEvent::new(EpollFlags::EPOLLIN, self.sources.len() as u64);
        self.epoll.add(notice.as_fd(), wanted).map_err(failed)?;
        let mut source = Source { file, notice, keys, values: Vec::new() };
        source.values = source.read().map_err(failed)?;
        self.sources.push(source);
        Ok(())
    }

    /// Waits for an event, at most so long; without a limit, for ever. `None`: the time is over.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the cgroup cannot be read any more.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let failed = |errno: Errno| Error::os(Step::Cgroup, "waiting for events of the cgroup", errno);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let millis = left.map(|left| left.as_nanos().div_ceil(1_000_000));
            let patience =
                millis.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
            let mut woken = [EpollEvent::empty(); 8];
            let count = match self.epoll.wait(&mut woken, patience) {
                Err(Errno::EINTR) => 0,
                waited => waited.map_err(failed)?,
            };
            for event in woken.iter().take(count) {
                let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
                if let Some(source) = self.sources.get_mut(index) {
                    self.ready.extend(source.news().map_err(failed)?);
                }
            }
            // A timer wakes for nothing, so the time is looked at once more.
            if self.ready.is_empty() && left == Some(Duration::ZERO) {
                return Ok(None);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Inotify(inotify) => inotify.as_fd(),
            Self::Eventfd(eventfd) => eventfd.as_fd(),
            Self::Timer(timer) => timer.as_fd(),
        }
    }
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
        match &self.notice {
            Notice::Inotify(inotify) => match inotify.read_events() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            },
            Notice::Timer(timer) => match timer.wait() {
                Ok(()) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            },
            Notice::Eventfd(eventfd) => match eventfd.read() {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            },
        }
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
