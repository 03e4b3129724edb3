//! A running sandbox from the host's side: its init, its connection, and everything that must be undone.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::ahead::Prepared;
use crate::capture::Streams;
use crate::cgroup::{self, Cgroup, Counters, CpuFormat, Join, RunPlacement};
use crate::changes::{self, UpperUse};
use crate::command::Command;
use crate::empty_mounts;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::gate;
use crate::idmap::{self, IdBlock};
use crate::link::{Forgotten, Link, Received};
use crate::namespace::Namespaces;
use crate::plan::{self, Lowered, Plan, SetUp, Warmth};
use crate::quota;
use crate::rootfs::Kept;
use crate::run_image;
use crate::run_limits::RunLimits;
use crate::source::{self, Viewer};
use crate::starts::Starts;
use crate::sys::{self, Entrance, LaunchFailure, Launched};
use crate::upper::UpperDir;
use crate::wire::{
    BOX_SLOTS, CONTAINER, INLINE_IMAGE, MAX_FDS, NO_SLOT, Reply, Request, flag, line, reply, request, stage,
};

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
    /// Taken away when the init is dead.
    #[cfg(feature = "net")]
    pub(crate) wired: Mutex<Option<crate::network::Wired>>,
    /// Given back when the init is dead.
    pub(crate) block: Mutex<Option<IdBlock>>,
    /// A persistent upper, locked: no other sandbox may use it. The init has a copy, and so holds the lock as long.
    pub(crate) upper: Option<OwnedFd>,
    pub(crate) next_child: AtomicU32,
    /// Programs that are being started, which must not be frozen meanwhile.
    pub(crate) starts: Starts,
    /// Held while a request is sent that takes several messages.
    pub(crate) sending: Mutex<()>,
    pub(crate) purpose: Purpose,
    /// Programs that the init was asked for.
    requests: AtomicU64,
    /// Programs that may be in the box, or on their way into it.
    pub(crate) running: AtomicU32,
    /// What the box had counted when nothing was in it, and how many programs had been asked for.
    of_empty_box: Mutex<Option<(u64, Counters)>>,
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
    /// One program, with which it ends, and which comes only when everything is set up.
    Parked,
    /// None: what need not be done by each init is done for another.
    Ahead,
}

/// How often the init was asked for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    First,
    /// A prepared payload was lost, and no other one shall be taken.
    Again,
}

/// How a program came to start.
#[derive(Debug)]
pub(crate) enum Start {
    Executed(Started),
    /// The payload that was prepared for it was killed or stopped before it had done anything.
    Lost,
}

/// What was done for an init before there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Nothing,
    /// The id maps are written, and the loopback interface is up.
    Maps,
    /// So is everything that need not be done by each init.
    SetUp,
}

/// What an init found mounted when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MountsFound {
    OfHost,
    None,
}

/// A program that was executed.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pidfd: OwnedFd,
    /// That of its filter, where the host listens and the program was not killed on its way.
    pub(crate) listener: Option<OwnedFd>,
    /// The host's end of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// The host's ends of its connections.
    pub(crate) connections: Vec<OwnedFd>,
}

/// What was heard of a program that is being started.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    refused: Option<Error>,
    listener: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    connections: Vec<OwnedFd>,
}

/// A descriptor that came with a message and found no number here.
fn no_room(what: &'static str, errno: i32) -> Error {
    Error::os(Step::Handshake, what, std::io::Error::from_raw_os_error(errno))
        .with_hint("raise the host's RLIMIT_NOFILE (ulimit -n)")
}

/// Launches an init and sends all that its set-up needs.
pub(crate) fn launch(plan: &Plan, purpose: Purpose) -> Result<Runtime> {
    let lowered = &*plan.0;

    let prepare = |what: &'static str| move |error: std::io::Error| Error::os(Step::Prepare, what, error);
    let init = init_program()?;
    // The init starts in this process's cgroup.
    lowered.placement.ready()?;
    let flags = match (purpose, lowered.warmth) {
        (Purpose::OneProgram, _) => flag::QUIET,
        (Purpose::Container, Warmth::Template) if lowered.placement.ways_out().is_none() => 0,
        (Purpose::Container, Warmth::Template) => flag::TEMPLATE,
        (Purpose::Parked, Warmth::Alone | Warmth::Template) => flag::PREPARE,
        (Purpose::Container, Warmth::Alone | Warmth::Cold) | (Purpose::Parked, Warmth::Cold) => 0,
        (Purpose::Ahead, _) => flag::SETS_UP_AHEAD,
    };
    let mut prepared = plan.take_prepared();
    let block = match (&mut prepared, &lowered.maps) {
        (Some(prepared), _) => prepared.block.take(),
        (None, Some(maps)) => maps.reserve()?,
        (None, None) => None,
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
    #[cfg(feature = "net")]
    let kept = kept.chain(lowered.wire.iter().filter_map(|wire| wire.lock()).map(|lock| lock.as_raw_fd()));
    let done = match &prepared {
        None => Done::Nothing,
        Some(prepared) if prepared.kinds().contains(Namespaces::MOUNT) => Done::SetUp,
        Some(_) => Done::Maps,
    };
    let flags = flags
        | match done {
            Done::Nothing => 0,
            Done::Maps => flag::LOOPBACK_IS_UP,
            Done::SetUp => flag::IS_SET_UP,
        };
    send_start(ours.as_fd(), lowered, kept, flags, purpose)?;
    let (Launched { pid, pidfd, seen_as }, mounts) =
        launch_init(lowered, prepared.as_ref(), theirs.as_fd(), init)
            .map_err(|failure| launch_error(failure, lowered))?;
    drop(theirs);
    let runtime = Runtime {
        plan: plan.alone(),
        link: Link::new(ours, Arc::new(pidfd)),
        pid,
        cgroup: Mutex::new(prepared.and_then(|prepared| prepared.cgroup)),
        reaped: AtomicBool::new(false),
        ended_by_host: AtomicBool::new(false),
        #[cfg(feature = "net")]
        wired: Mutex::new(None),
        block: Mutex::new(block),
        upper,
        next_child: AtomicU32::new(1),
        starts: Starts::default(),
        sending: Mutex::new(()),
        purpose,
        requests: AtomicU64::new(0),
        running: AtomicU32::new(0),
        of_empty_box: Mutex::new(None),
        owner: std::process::id(),
    };
    let made = runtime.request_go(done, seen_as, mounts);
    #[cfg(feature = "net")]
    let made = made.and_then(|()| runtime.attach_wire());
    match made.and_then(|()| runtime.make_box()) {
        Ok(()) => Ok(runtime),
        Err(error) => Err(runtime.first_failure(error)),
    }
}

/// Starts the init where its plan says. A mount namespace that was made for it is a short cut: where it cannot be entered, the
/// init starts without.
fn launch_init(
    lowered: &Lowered,
    prepared: Option<&Prepared>,
    control: BorrowedFd<'_>,
    init: BorrowedFd<'_>,
) -> std::result::Result<(Launched, MountsFound), LaunchFailure> {
    let entrances = prepared.map_or_else(|| lowered.entrances.as_given(), Prepared::as_given);
    let there = prepared.map_or(Namespaces::empty(), Prepared::kinds);
    let made = lowered.clone_flags(there);
    // It belongs to the host's user namespace, and comes before one in which the host's capabilities are gone.
    let launch_in = |namespace: BorrowedFd<'_>| {
        let mut entrances = entrances.clone();
        entrances.insert(0, Entrance { namespace, kind: Namespaces::MOUNT.bits() });
        match sys::launch(made, &entrances, control, init) {
            Err(LaunchFailure::Enter { number: 0, .. }) => Ok(None),
            Err(LaunchFailure::Enter { number, source }) => {
                Err(LaunchFailure::Enter { number: number - 1, source })
            }
            launched => launched.map(Some),
        }
    };
    if there.contains(Namespaces::MOUNT) {
        return Ok((sys::launch(made, &entrances, control, init)?, MountsFound::None));
    }
    let empty = (lowered.set_up != SetUp::AmongMounts).then(empty_mounts::namespace).flatten();
    if let Some(namespace) = empty {
        match launch_in(namespace)? {
            Some(launched) => return Ok((launched, MountsFound::None)),
            None => empty_mounts::give_up(),
        }
    }
    let template = lowered.mount_template.as_ref();
    if let Some((template, namespace)) = template.and_then(|template| Some((template, template.namespace()?)))
    {
        match launch_in(namespace.as_fd())? {
            Some(launched) => return Ok((launched, MountsFound::OfHost)),
            None => template.give_up(),
        }
    }
    Ok((sys::launch(made, &entrances, control, init)?, MountsFound::OfHost))
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

fn launch_error(failure: LaunchFailure, lowered: &Lowered) -> Error {
    match failure {
        LaunchFailure::Enter { source, .. } if lowered.entrances.is_empty() => {
            Error::os(Step::Clone, "entering the namespaces that were made ahead", source)
        }
        LaunchFailure::Enter { number, source } => {
            let name = lowered.entrances.kinds().nth(number).and_then(Namespaces::file).unwrap_or("other");
            Error::os(Step::JoinNs, format!("entering the {name} namespace of the joined sandbox"), source)
                .with_hint("it takes CAP_SYS_ADMIN over that sandbox: join as the user that started it")
        }
        LaunchFailure::Clone(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let what = Error::os(Step::Clone, "creating the namespaces with clone3", error);
            if errno == libc::EPERM && lowered.entrances.is_nested() {
                return what.with_hint("the joined sandbox must map the caller's user and group id");
            }
            plan::of_namespaces(what, errno, lowered.namespaces)
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
    purpose: Purpose,
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
    if !lowered.placement.is_empty() && purpose != Purpose::Ahead {
        message.flags |= flag::EXPECT_BOX;
    }
    sys::send(socket, &message, &[], &fds)
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
fn send_all(
    message: &Request,
    tail: &[u8],
    fds: &[RawFd],
    send: impl Fn(&Request, &[u8], &[RawFd]) -> Result<()>,
) -> Result<()> {
    let mut rest = fds;
    while rest.len() > MAX_FDS {
        let (head, more) = rest.split_at(MAX_FDS);
        send(&Request { kind: request::FDS, ..Request::default() }, &[], head)?;
        rest = more;
    }
    send(message, tail, rest)
}

impl Runtime {
    /// Writes the id maps, makes the mount trees, and lets the init go on with them.
    fn request_go(&self, done: Done, seen_as: (u32, u32), mounts: MountsFound) -> Result<()> {
        let lowered = &*self.plan.0;
        if !lowered.waits {
            return Ok(());
        }
        let (block, program) = (self.block(), lowered.program_ids);
        let maps = lowered.maps.as_ref().map(|maps| maps.maps(block.as_ref(), program)).transpose()?;
        if let (Some(maps), Done::Nothing) = (&maps, done) {
            idmap::write_maps(self.pid, maps)?;
        }
        let viewer = Viewer { pid: self.pid, maps: maps.as_ref(), program: lowered.program_ids };
        let sources = if done == Done::SetUp { &[] } else { lowered.sources.as_slice() };
        let trees = source::open_all(sources, &viewer)?;
        let fds: Vec<RawFd> = trees.iter().map(AsRawFd::as_raw_fd).collect();
        let (uid, gid) = seen_as;
        let flags = if mounts == MountsFound::None { flag::EMPTY_MOUNTS } else { 0 };
        self.send(&Request { kind: request::GO, flags, uid, gid, ..Request::default() }, &fds)
    }

    /// Gives it its wire, while the init mounts. No program has started yet.
    #[cfg(feature = "net")]
    fn attach_wire(&self) -> Result<()> {
        let Some(wire) = self.plan.0.wire.as_ref().filter(|_| self.purpose != Purpose::Ahead) else {
            return Ok(());
        };
        let path = format!("/proc/{}/ns/net", self.pid);
        let namespace = std::fs::File::open(&path).map_err(|error| {
            Error::os(Step::Network, "opening the sandbox's network namespace", error).with_path(path)
        })?;
        let wired = wire.attach(self.pid, &namespace.into())?;
        *self.wired() = Some(wired);
        Ok(())
    }

    #[cfg(feature = "net")]
    pub(crate) fn wired(&self) -> MutexGuard<'_, Option<crate::network::Wired>> {
        self.wired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the cgroup, while the init mounts, and sends the files of it that programs need.
    fn make_box(&self) -> Result<()> {
        let lowered = &*self.plan.0;
        if lowered.placement.is_empty() || self.purpose == Purpose::Ahead {
            return Ok(());
        }
        let mut slot = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner);
        let cgroup = match &mut *slot {
            Some(made) => made,
            slot => slot.insert(Cgroup::create(&lowered.placement, &lowered.limits)?),
        };
        if self.purpose != Purpose::OneProgram {
            // Whether its program has limits of its own, nobody knows yet.
            cgroup.make_room()?;
        }
        let mut message = Request {
            kind: request::BOX,
            cgroup_slot: NO_SLOT,
            usage_slot: NO_SLOT,
            thaw_slot: NO_SLOT,
            leave_slot: NO_SLOT,
            ..Request::default()
        };
        let mut fds: Vec<RawFd> = Vec::new();
        let first = u32::try_from(BOX_SLOTS).unwrap_or(NO_SLOT);
        add_cgroup(cgroup, &mut message, &mut fds, first)?;
        let thaw = cgroup.thaw_file()?;
        if let Some(thaw) = &thaw {
            message.thaw_slot = slot_of(&fds)? + first;
            fds.push(thaw.as_raw_fd());
        }
        // A template has to leave what it has seen from within.
        let ways_out = (self.purpose == Purpose::Container).then(|| lowered.placement.ways_out()).flatten();
        if let Some(leave) = ways_out {
            message.leave_slot = slot_of(&fds)? + first;
            fds.extend(leave.iter().map(AsRawFd::as_raw_fd));
        }
        self.send(&message, &fds)
    }

    pub(crate) fn send(&self, message: &Request, fds: &[RawFd]) -> Result<()> {
        self.send_long(message, &[], fds)
    }

    fn send_long(&self, message: &Request, tail: &[u8], fds: &[RawFd]) -> Result<()> {
        // The init adds the descriptors of all messages up to a request to that request.
        let _whole = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        send_all(message, tail, fds, |message, tail, fds| self.link.send_long(message, tail, fds))
    }

    /// A number that no other program of this container has.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_child.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the cgroups of a program that has limits of its own.
    pub(crate) fn make_run(&self, placement: &RunPlacement, number: u32) -> Result<Cgroup> {
        let mut sandbox = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *sandbox {
            None if !self.plan.0.placement.is_empty() => Err(cgroup::ended()),
            sandbox => Cgroup::create_run(sandbox.as_mut(), placement, number),
        }
    }

    /// Sends a program to run.
    pub(crate) fn request_run(
        &self,
        number: u32,
        command: &Command,
        limits: &RunLimits,
        own: Option<&Cgroup>,
        tries: Tries,
    ) -> Result<Streams> {
        let flags = if number == CONTAINER { flag::ONE_SHOT } else { 0 };
        let lowered = &*self.plan.0;
        let (streams, theirs) = Streams::open(command)?;
        let mut table = theirs.table(command);
        let image = run_image::encode(command, &lowered.environment, theirs.placements(command))?;
        let nanoseconds = |limit: Option<Duration>| {
            limit.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        let late =
            |limit: Option<Duration>| nanoseconds(limit.map(|time| time.saturating_add(lowered.extra_time)));
        let mut message = Request {
            kind: request::RUN,
            flags,
            child: number,
            image_slot: NO_SLOT,
            pump_from: [NO_SLOT; 2],
            pump_to: [NO_SLOT; 2],
            cgroup_slot: NO_SLOT,
            usage_slot: NO_SLOT,
            wall_ns: late(limits.wall_time),
            cpu_ns: late(limits.cpu_time),
            idle_ns: nanoseconds(limits.idle_time),
            budget_sum: limits.output_max.map_or(u64::MAX, crate::limits::Bytes::get),
            ..Request::default()
        };
        if limits.sampled {
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
        message.connections = u32::try_from(command.grants().count()).unwrap_or(u32::MAX);
        if let Some(size) = command.pty {
            message.flags |= flag::TERMINAL;
            message.terminal_size = size.words();
            (message.uid, message.gid) = (lowered.program_ids.uid, lowered.program_ids.gid);
        }
        if let Some(own) = own {
            message.join_slot = slot_of(&table)?;
            message.join_count = u32::try_from(own.joins().len()).unwrap_or(0);
            add_cgroup(own, &mut message, &mut table, 0)?;
        }
        self.requests.fetch_add(1, Ordering::AcqRel);
        if image.len() <= INLINE_IMAGE {
            // A prepared payload has its streams and nothing else.
            if tries == Tries::First && command.kept.is_empty() && own.is_none() && command.pty.is_none() {
                message.flags |= flag::WARM;
                // What counts CPU time has to know of the program before it begins.
                let counts = limits.sampled || (message.cpu_ns, message.idle_ns) != (0, 0);
                let prepared = (!counts).then(|| self.link.take_prepared()).flatten();
                message.ticket = prepared.as_ref().map_or(0, |(ticket, _)| *ticket);
                if let Some((_, Some(channel))) = prepared {
                    let streams_of_it = table.get(..3).unwrap_or_default().to_vec();
                    if table.len() == 3 {
                        table.clear();
                    }
                    message.flags |= flag::DIRECT;
                    // In this order: the init must know whose program it is that begins.
                    self.send(&message, &table)?;
                    // One that was killed meanwhile is lost, which the init says, as it does of one that has got nothing.
                    if sys::send(channel.as_fd(), &(), &image, &streams_of_it).is_err() {
                        self.request_kill(number)?;
                    }
                    return Ok(streams);
                }
            }
            self.send_long(&message, &image, &table)?;
            return Ok(streams);
        }
        let image = sys::sealed_memfd(c"belljar-run", &image)
            .map_err(|error| Error::os(Step::Prepare, "making the run's memfd", error))?;
        message.image_slot = slot_of(&table)?;
        table.push(image.as_raw_fd());
        self.send(&message, &table)?;
        Ok(streams)
    }

    pub(crate) fn await_ready(&self) -> Result<()> {
        self.is_ready(None).map(drop)
    }

    /// Whether the sandbox is set up, waiting for that until the deadline or for ever. It says so once.
    pub(crate) fn is_ready(&self, deadline: Option<Instant>) -> Result<bool> {
        self.says_ready(self.link.receive(CONTAINER, deadline)?)
    }

    /// What the first word about the container means.
    pub(crate) fn says_ready(&self, received: Received) -> Result<bool> {
        match received {
            Received::Message((message, _)) if message.kind == reply::READY => Ok(true),
            Received::Message((message, _)) => {
                Err(self.plan.failure(&message, Path::new(""), Path::new("/")))
            }
            Received::Nothing => Ok(false),
            Received::Closed => Err(self.died("while it set the sandbox up")),
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
    ) -> ControlFlow<Result<Start>> {
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
            Received::Message((message, _)) if is_loss(&message) => ControlFlow::Break(Ok(Start::Lost)),
            Received::Message((message, Some(fd))) if message.kind == reply::TERMINAL => {
                progress.terminal = Some(fd);
                ControlFlow::Continue(())
            }
            Received::Message((message, Some(fd))) if message.kind == reply::CONNECTION => {
                progress.connections.push(fd);
                ControlFlow::Continue(())
            }
            // It was sent, and there was no number for it here.
            Received::Message((message, None))
                if matches!(message.kind, reply::LISTENER | reply::TERMINAL | reply::CONNECTION) =>
            {
                progress.refused = Some(match message.kind {
                    reply::LISTENER => no_room("receiving the listener of the filter", libc::EMFILE),
                    reply::CONNECTION => no_room("receiving the socket of a connection", libc::EMFILE),
                    _ => no_room("receiving the program's terminal", libc::EMFILE),
                });
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
                let Progress { refused, listener, terminal, connections } = std::mem::take(progress);
                let started = refused.map_or(started, Err);
                ControlFlow::Break(
                    started.map(|pidfd| Start::Executed(Started { pidfd, listener, terminal, connections })),
                )
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
        if self.ended_by_host() {
            return Error::message(
                ErrorKind::Setup,
                Step::Handshake,
                format!("the sandbox was ended {when}"),
            )
            .with_hint("the host has ended or reset it meanwhile, or a reset has failed: reset it again");
        }
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

    /// What the box has counted of programs without limits of their own.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let requests = self.requests.load(Ordering::Acquire);
        let counters = match &*self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) => cgroup.counters_of_others()?,
            None => return Ok(Counters::default()),
        };
        // Nothing changes them before the next program, if there is none on its way: the one that has ended is counted still.
        let is_empty = counters.pids == Some(0) && self.running.load(Ordering::Acquire) <= 1;
        let empty = is_empty.then_some((requests, counters));
        *self.of_empty_box.lock().unwrap_or_else(PoisonError::into_inner) = empty;
        Ok(counters)
    }

    /// As [`counters`](Self::counters), for a box that is asked once and again.
    pub(crate) fn counters_of_many(&self) -> Result<Counters> {
        let known = *self.of_empty_box.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) =
            known.filter(|(requests, _)| *requests == self.requests.load(Ordering::Acquire))
        {
            return Ok(counters);
        }
        match &mut *self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) => {
                cgroup.keep_open();
                cgroup.counters_of_others()
            }
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
            None => Err(cgroup::ended()),
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

fn is_loss(message: &Reply) -> bool {
    (message.kind, message.stage, message.index) == (reply::FAILED, stage::PROTOCOL, line::GONE)
}

/// Adds what a program needs of its cgroups to a table whose first slot has this number: the files to join them by, and
/// what the message names.
fn add_cgroup(cgroup: &Cgroup, message: &mut Request, table: &mut Vec<RawFd>, first: u32) -> Result<()> {
    for join in cgroup.joins() {
        let (Join::V1Tasks(file) | Join::V2 { procs: file, .. }) = join;
        table.push(file.as_raw_fd());
    }
    for join in cgroup.joins() {
        if let Join::V2 { dir, .. } = join {
            message.cgroup_slot = slot_of(table)? + first;
            table.push(dir.as_raw_fd());
        }
    }
    if let Some(usage) = cgroup.cpu_usage_file() {
        message.usage_slot = slot_of(table)? + first;
        table.push(usage.fd.as_raw_fd());
        if usage.format == CpuFormat::CpuStat {
            message.flags |= flag::CPU_STAT;
        }
    }
    Ok(())
}

/// The slot that the next descriptor of a table will have.
fn slot_of(table: &[RawFd]) -> Result<u32> {
    u32::try_from(table.len()).map_err(|_| Error::invalid("too many descriptors"))
}
