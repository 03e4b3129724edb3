//! A running sandbox from the host's side: its init, its connection, and everything that must be undone.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::capture::Streams;
use crate::cgroup::{Cgroup, Counters, CpuFormat, Join};
use crate::changes::{self, UpperUse};
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::gate;
use crate::idmap::{self, IdBlock, MapPlan};
use crate::link::{Forgotten, Link, Received};
use crate::namespace::Namespaces;
use crate::plan::{Lowered, Plan};
use crate::quota;
use crate::rootfs::Kept;
use crate::run_image;
use crate::source::{self, Viewer};
use crate::starts::Starts;
use crate::sys::{self, LaunchFailure, Launched};
use crate::upper::UpperDir;
use crate::wire::{BOX_SLOTS, CONTAINER, MAX_FDS, NO_SLOT, Request, flag, reply, request};

static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// The init's program, in memory, once per process.
fn init_program() -> Result<BorrowedFd<'static>> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = PROGRAM.get() {
        return Ok(fd.as_fd());
    }
    let fd = sys::program_memfd(c"belljar-init", INIT)
        .map_err(|error| Error::os(Step::Prepare, "putting the init into a memfd", error))?;
    Ok(PROGRAM.get_or_init(|| fd).as_fd())
}

/// Everything of a running sandbox that must be undone. Dropping it kills the sandbox and removes what was made.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) plan: Plan,
    pub(crate) link: Link,
    pub(crate) pid: i32,
    pub(crate) cgroup: Mutex<Option<Cgroup>>,
    pub(crate) reaped: AtomicBool,
    /// The host itself ended the sandbox.
    pub(crate) ended_by_host: AtomicBool,
    /// Given back when the init is dead.
    pub(crate) block: Mutex<Option<IdBlock>>,
    /// A persistent upper, locked: no other sandbox may use it. The init has a copy, and so holds the lock as long.
    pub(crate) upper: Option<OwnedFd>,
    pub(crate) next_child: AtomicU32,
    /// Programs that are being started, which must not be frozen meanwhile.
    pub(crate) starts: Starts,
    /// Held while a request is sent that takes several messages.
    pub(crate) sending: Mutex<()>,
    /// The process that launched it, and alone ends it.
    pub(crate) owner: u32,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One program, with which it ends; its requests are sent without waiting for the set-up.
    OneProgram,
    /// Any number of programs.
    Container,
}

/// A program that was executed.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pidfd: OwnedFd,
    /// That of its filter, where the host listens and the program was not killed on its way.
    pub(crate) listener: Option<OwnedFd>,
}

/// What was heard of a program that is being started.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    refused: Option<Error>,
    listener: Option<OwnedFd>,
}

/// A descriptor that came with a message and found no number here.
fn no_room(what: &'static str, errno: i32) -> Error {
    Error::os(Step::Handshake, what, std::io::Error::from_raw_os_error(errno))
        .with_hint("raise the host's RLIMIT_NOFILE (ulimit -n)")
}

/// Launches an init and sends all that its set-up needs.
pub(crate) fn launch(plan: &Plan, purpose: Purpose) -> Result<Runtime> {
    let flags = if purpose == Purpose::OneProgram { flag::QUIET } else { 0 };
    let lowered = &*plan.0;
    let prepare = |what: &'static str| move |error: std::io::Error| Error::os(Step::Prepare, what, error);
    let init = init_program()?;
    // The init starts in this process's cgroup.
    lowered.placement.ready()?;
    let block = match &lowered.maps {
        Some(MapPlan::Block) => Some(IdBlock::reserve()?),
        _ => None,
    };
    let upper = match lowered.changeable.as_ref().map(|changeable| &changeable.kept) {
        Some(Kept::Copy(dir)) => Some(changes::lock_upper(dir, UpperUse::Writing)?),
        _ => lowered.upper.as_ref().map(take_upper).transpose()?,
    };
    let (ours, theirs) = sys::pair().map_err(prepare("making the control socket"))?;
    let ours = sys::above_stdio(ours).map_err(prepare("making the control socket"))?;
    let theirs = sys::above_stdio(theirs).map_err(prepare("making the control socket"))?;
    let kept =
        block.iter().map(|block| block.lock().as_raw_fd()).chain(upper.iter().map(|upper| upper.as_raw_fd()));
    send_start(ours.as_fd(), lowered, kept, flags)?;
    let Launched { pid, pidfd } = sys::launch(lowered.namespaces.clone_flags(), theirs.as_fd(), init)
        .map_err(|failure| launch_error(failure, lowered.namespaces))?;
    drop(theirs);
    let runtime = Runtime {
        plan: plan.clone(),
        link: Link::new(ours, pidfd),
        pid,
        cgroup: Mutex::new(None),
        reaped: AtomicBool::new(false),
        ended_by_host: AtomicBool::new(false),
        block: Mutex::new(block),
        upper,
        next_child: AtomicU32::new(1),
        starts: Starts::default(),
        sending: Mutex::new(()),
        owner: std::process::id(),
    };
    match runtime.request_go().and_then(|()| runtime.make_box()) {
        Ok(()) => Ok(runtime),
        Err(error) => Err(runtime.first_failure(error)),
    }
}

/// Takes a persistent upper for this sandbox alone, and limits it.
fn take_upper(dir: &UpperDir) -> Result<OwnedFd> {
    let lock = changes::lock_upper(&dir.upper, UpperUse::Writing)?;
    dir.refuse_unsynced()?;
    if let Some(limits) = dir.quota {
        quota::set(dir, limits, lock.as_fd())?;
    }
    Ok(lock)
}

fn launch_error(failure: LaunchFailure, namespaces: Namespaces) -> Error {
    match failure {
        LaunchFailure::Clone(error) => {
            let errno = error.raw_os_error();
            let what = Error::os(Step::Clone, "creating the namespaces with clone3", error);
            match errno {
                Some(libc::EPERM) if namespaces.contains(Namespaces::USER) => what.with_hint(
                    "user namespaces are refused here: check kernel.unprivileged_userns_clone, \
                     kernel.apparmor_restrict_unprivileged_userns, and the seccomp profile of the container this runs in",
                ),
                Some(libc::EPERM) => what.with_hint("without root this needs a user namespace; add user_ns()"),
                Some(libc::ENOSPC | libc::EUSERS) => {
                    what.with_hint("the limit of namespaces is reached: raise user.max_user_namespaces and its siblings")
                }
                Some(libc::EINVAL) => what.with_hint("this kernel lacks one of the namespaces; see Host::probe()"),
                _ => what,
            }
        }
        LaunchFailure::Child { step, source } => Error::os(Step::Init, step, source),
    }
}

/// Sends START ahead of the init, which then finds its work in the socket.
fn send_start(
    socket: BorrowedFd<'_>,
    lowered: &Lowered,
    kept: impl Iterator<Item = RawFd>,
    flags: u32,
) -> Result<()> {
    let host = sys::open_pidfd(std::process::id())
        .map_err(|error| Error::os(Step::Prepare, "opening a pidfd of this process", error))?;
    let mut fds: Vec<RawFd> = vec![lowered.image.as_raw_fd(), host.as_raw_fd()];
    fds.extend(kept);
    let mut message = Request {
        kind: request::START,
        flags,
        processors: u32::try_from(processors()).unwrap_or(u32::MAX),
        ..Request::default()
    };
    if lowered.namespaces.contains(Namespaces::PID) {
        message.flags |= flag::PID_NS;
    }
    if !lowered.placement.is_empty() {
        message.flags |= flag::EXPECT_BOX;
    }
    sys::send(socket, &message, &fds)
        .map_err(|error| Error::os(Step::Handshake, "sending the plan to the init", error))
}

/// How many processors can use CPU time at once: all there are, for a program may widen its affinity.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| {
        let configured = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_CONF).ok().flatten();
        configured.and_then(|count| usize::try_from(count).ok()).unwrap_or(1)
    })
}

/// Sends a request whose table may be longer than one message can carry.
fn send_all(message: &Request, fds: &[RawFd], send: impl Fn(&Request, &[RawFd]) -> Result<()>) -> Result<()> {
    let mut rest = fds;
    while rest.len() > MAX_FDS {
        let (head, tail) = rest.split_at(MAX_FDS);
        send(&Request { kind: request::FDS, ..Request::default() }, head)?;
        rest = tail;
    }
    send(message, rest)
}

impl Runtime {
    /// Writes the id maps, makes the mount trees, and lets the init go on with them.
    fn request_go(&self) -> Result<()> {
        let lowered = &*self.plan.0;
        if !lowered.waits {
            return Ok(());
        }
        let block = self.block();
        let maps = match (&lowered.maps, &*block) {
            (None, _) => None,
            (Some(MapPlan::Fixed(maps)), _) => Some(maps.clone()),
            (Some(MapPlan::Block), Some(block)) => Some(block.maps(lowered.program_ids)),
            (Some(MapPlan::Block), None) => {
                return Err(Error::internal(Step::IdBlock, "a block of ids was not reserved"));
            }
        };
        if let Some(maps) = &maps {
            idmap::write_maps(self.pid, maps)?;
        }
        let viewer = Viewer { pid: self.pid, maps: maps.as_ref(), program: lowered.program_ids };
        let trees = source::open_all(&lowered.sources, &viewer)?;
        let fds: Vec<RawFd> = trees.iter().map(AsRawFd::as_raw_fd).collect();
        self.send(&Request { kind: request::GO, ..Request::default() }, &fds)
    }

    /// Makes the cgroup, while the init mounts, and sends the files of it that programs need.
    fn make_box(&self) -> Result<()> {
        let lowered = &*self.plan.0;
        if lowered.placement.is_empty() {
            return Ok(());
        }
        let mut slot = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner);
        let cgroup = slot.insert(Cgroup::create(&lowered.placement, &lowered.limits)?);
        let mut message = Request {
            kind: request::BOX,
            cgroup_slot: NO_SLOT,
            usage_slot: NO_SLOT,
            thaw_slot: NO_SLOT,
            ..Request::default()
        };
        let mut fds: Vec<RawFd> = Vec::new();
        for join in cgroup.joins() {
            let (Join::V1Tasks(file) | Join::V2 { procs: file, .. }) = join;
            fds.push(file.as_raw_fd());
        }
        for join in cgroup.joins() {
            if let Join::V2 { dir, .. } = join {
                message.cgroup_slot = slot_of(&fds)? + u32::try_from(BOX_SLOTS).unwrap_or(NO_SLOT);
                fds.push(dir.as_raw_fd());
            }
        }
        if let Some(usage) = cgroup.cpu_usage_file() {
            message.usage_slot = slot_of(&fds)? + u32::try_from(BOX_SLOTS).unwrap_or(NO_SLOT);
            fds.push(usage.fd.as_raw_fd());
            if usage.format == CpuFormat::CpuStat {
                message.flags |= flag::CPU_STAT;
            }
        }
        let thaw = cgroup.thaw_file()?;
        if let Some(thaw) = &thaw {
            message.thaw_slot = slot_of(&fds)? + u32::try_from(BOX_SLOTS).unwrap_or(NO_SLOT);
            fds.push(thaw.as_raw_fd());
        }
        self.send(&message, &fds)
    }

    pub(crate) fn send(&self, message: &Request, fds: &[RawFd]) -> Result<()> {
        // The init adds the descriptors of all messages up to a request to that request.
        let _whole = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        send_all(message, fds, |message, fds| self.link.send(message, fds))
    }

    /// A number that no other program of this container has.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_child.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a program to run.
    pub(crate) fn request_run(&self, number: u32, command: &Command) -> Result<Streams> {
        let flags = if number == CONTAINER { flag::ONE_SHOT } else { 0 };
        let lowered = &*self.plan.0;
        let mut table = vec![];
        let (streams, theirs) = Streams::open(command)?;
        let image = run_image::encode(command, &lowered.environment, theirs.placements(command))?;
        let image = sys::sealed_memfd(c"belljar-run", &image)
            .map_err(|error| Error::os(Step::Prepare, "making the run's memfd", error))?;
        table.push(image.as_raw_fd());
        table.extend(theirs.table(command));
        let nanoseconds = |limit: Option<Duration>| {
            limit.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        let late =
            |limit: Option<Duration>| nanoseconds(limit.map(|time| time.saturating_add(lowered.extra_time)));
        let mut message = Request {
            kind: request::RUN,
            flags,
            child: number,
            pump_from: [NO_SLOT; 2],
            pump_to: [NO_SLOT; 2],
            wall_ns: late(lowered.wall_time),
            cpu_ns: late(lowered.cpu_time),
            idle_ns: nanoseconds(lowered.idle_time),
            budget_sum: lowered.output_max.map_or(u64::MAX, crate::limits::Bytes::get),
            ..Request::default()
        };
        if lowered.sample_cpu {
            message.flags |= flag::SAMPLE_CPU;
        }
        if !lowered.gate.is_empty() {
            message.flags |= flag::GATE;
        }
        if !command.handlers.is_empty() {
            message.flags |= flag::HOST_LISTENS;
        }
        for (n, pump) in theirs.pumps().into_iter().enumerate() {
            let Some(pump) = pump else { continue };
            message.pump_from[n] = slot_of(&table)?;
            table.push(pump.from);
            message.pump_to[n] = slot_of(&table)?;
            table.push(pump.to);
            message.budget[n] = pump.budget;
        }
        self.send(&message, &table)?;
        Ok(streams)
    }

    pub(crate) fn await_ready(&self) -> Result<()> {
        self.ready(self.link.receive(CONTAINER, None)?)
    }

    /// What the first word about the container means.
    pub(crate) fn ready(&self, received: Received) -> Result<()> {
        match received {
            Received::Message((message, _)) if message.kind == reply::READY => Ok(()),
            Received::Message((message, _)) => {
                Err(self.plan.failure(&message, Path::new(""), Path::new("/")))
            }
            Received::Nothing | Received::Closed => Err(self.died("while it set the sandbox up")),
        }
    }

    /// One word about a program that is being started, of which the last comes when it was executed: its pidfd comes with
    /// that. Does the host's part at the gate meanwhile.
    pub(crate) fn heard_of_start(
        &self,
        received: Received,
        progress: &mut Progress,
        number: u32,
        command: &Command,
    ) -> ControlFlow<Result<Started>> {
        match received {
            Received::Message((message, pidfd)) if message.kind == reply::PARKED => {
                // Of a process that is gone the init tells why.
                progress.refused = gate::apply(&self.plan.0.gate, pidfd.as_ref()).err();
                let flags = if progress.refused.is_some() { flag::REFUSED } else { 0 };
                let pass = Request { kind: request::PASS, flags, child: number, ..Request::default() };
                if let Err(error) = self.link.send(&pass, &[]) {
                    // Nobody holds it any more, and it must not wait at the gate.
                    self.link.forget(number, Forgotten::Asked);
                    self.request_kill(number).ok();
                    return ControlFlow::Break(Err(error));
                }
                ControlFlow::Continue(())
            }
            Received::Message((message, Some(fd))) if message.kind == reply::LISTENER => {
                progress.listener = Some(fd);
                ControlFlow::Continue(())
            }
            // It was sent, and there was no number for it here.
            Received::Message((message, None)) if message.kind == reply::LISTENER => {
                progress.refused = Some(no_room("receiving the listener of the filter", libc::EMFILE));
                if let Err(error) = self.request_kill(number) {
                    self.link.forget(number, Forgotten::Asked);
                    return ControlFlow::Break(Err(error));
                }
                ControlFlow::Continue(())
            }
            // If it was refused, its process is dead by now, and the reason is ours.
            last => {
                let started = self.started(last, number, command);
                if progress.refused.is_some() && started.is_ok() {
                    self.link.forget(number, Forgotten::Started);
                }
                let listener = progress.listener.take();
                let started = progress.refused.take().map_or(started, Err);
                ControlFlow::Break(started.map(|pidfd| Started { pidfd, listener }))
            }
        }
    }

    /// What the last word about the start of a program means.
    fn started(&self, received: Received, number: u32, command: &Command) -> Result<OwnedFd> {
        match received {
            Received::Message((message, Some(pidfd))) if message.kind == reply::STARTED => Ok(pidfd),
            Received::Message((message, None)) if message.kind == reply::STARTED => {
                // It runs, but could not be signalled.
                self.link.forget(number, Forgotten::Started);
                self.request_kill(number)?;
                // The init says why it could not send it; else it was sent, and there was no number for it here.
                let errno = if message.errno == 0 { libc::EMFILE } else { message.errno };
                Err(no_room("receiving the program's pidfd", errno))
            }
            Received::Message((message, _)) => {
                let dir = command.cwd.as_deref().unwrap_or(Path::new("/"));
                Err(self.plan.failure(&message, Path::new(&command.program), dir))
            }
            Received::Nothing | Received::Closed => {
                // It may have said why, to nobody in particular.
                Err(self
                    .last_words()
                    .unwrap_or_else(|| self.died("before it could report that the program started")))
            }
        }
    }

    /// What failed on this side while the init was dying is a consequence (the files of a process that is gone cannot be
    /// written): the word of the init, which it has left before, comes first.
    fn first_failure(&self, ours: Error) -> Error {
        match self.link.receive(CONTAINER, Some(Instant::now())) {
            Ok(Received::Message((message, _))) if message.kind == reply::FAILED => {
                self.plan.failure(&message, Path::new(""), Path::new("/"))
            }
            _ => ours,
        }
    }

    /// Why the init ended, if it could say so.
    pub(crate) fn last_words(&self) -> Option<Error> {
        let words = self.link.last_words()?;
        Some(self.plan.failure(&words, Path::new(""), Path::new("/")))
    }

    fn died(&self, when: &str) -> Error {
        Error::message(ErrorKind::Setup, Step::Handshake, format!("the sandbox's init was killed {when}"))
            .with_hint(
                "the host's own cgroup or an administrator may have killed it; look at the kernel's log",
            )
    }

    /// Asks the init to kill a program.
    pub(crate) fn request_kill(&self, number: u32) -> Result<()> {
        self.link.send(&Request { kind: request::KILL, child: number, ..Request::default() }, &[])
    }

    pub(crate) fn block(&self) -> MutexGuard<'_, Option<IdBlock>> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the box has counted.
    pub(crate) fn counters(&self) -> Result<Counters> {
        match &*self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) => cgroup.counters(),
            None => Ok(Counters::default()),
        }
    }

    /// A program that is started in a frozen box would stop on its way.
    pub(crate) fn refuse_if_frozen(&self) -> Result<()> {
        match &*self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) if cgroup.is_frozen() => {
                Err(Error::message(ErrorKind::InvalidConfig, Step::Cgroup, "the container is frozen")
                    .with_hint("thaw it first"))
            }
            _ => Ok(()),
        }
    }

    /// Does something with the box.
    pub(crate) fn with_cgroup<T>(&self, act: impl FnOnce(&mut Cgroup) -> Result<T>) -> Result<T> {
        match &mut *self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) => act(cgroup),
            None if self.plan.0.placement.is_empty() => {
                Err(Error::message(ErrorKind::InvalidConfig, Step::Cgroup, "the sandbox has no cgroup")
                    .with_hint("add a limit to it, or freezable()"))
            }
            None => Err(Error::message(ErrorKind::Setup, Step::Cgroup, "the sandbox has ended")
                .with_hint("what it used is in its Outcome")),
        }
    }

    /// Whether this is the process that launched it, and not a forked copy.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Whether the host itself ended the sandbox, and not somebody else its init.
    pub(crate) fn ended_by_host(&self) -> bool {
        self.ended_by_host.load(Ordering::Relaxed)
    }
}

/// The slot that the next descriptor of a table will have.
fn slot_of(table: &[RawFd]) -> Result<u32> {
    u32::try_from(table.len()).map_err(|_| Error::invalid("too many descriptors"))
}
