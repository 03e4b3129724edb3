//! The choreography of a spawn.
//!
//! ```text
//! host program (many threads, any size)                     the sandbox
//!  Plan: every byte the other side needs, one sealed memfd
//!    │ cgroup box and id block made; undone by dropping
//!    ├─ clone3(VM|VFORK|PIDFD|NEW*…) ───────────────────▶ a few raw system calls, then
//!    │                                                   execveat(init, from a sealed memfd)
//!    │ goes on at once: its own size and threads never mattered
//!    ├─ id maps, then START(plan, pidfd of the host, ─────▶ init, PID 1: the setup operations in order:
//!    │       mounts the host cloned, cgroup files)         ids, names, loopback, mounts, pivot_root
//!    ├─ RUN(argv, environment, stdio, limits) ────────────▶ (in the same breath when the plan is for one program)
//!    │ ◀────────────────────────────── READY or FAILED(stage, operation, errno)
//!    │                                                     forks: cgroup, descriptors, session, rlimits, ids,
//!    │                                                     capabilities, no_new_privs, directory, seccomp, execve
//!    │ ◀────────────────────────────── STARTED(pidfd) or FAILED(stage, operation, errno)
//!    │ ◀────────────────────────────── EXITED(wait status, usage); the init reaps everything else meanwhile
//!    └─ Outcome = that report + the box's counters; the init exits, the kernel ends the PID namespace, the box is
//!       removed
//! ```
//!
//! Requests are sent ahead of the replies, so a cold spawn costs the host one wait for the set-up and one for the end.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::capture::Streams;
use crate::cgroup::{Cgroup, Counters, CpuFormat, Join};
use crate::child::Child;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::idmap::{self, Extent, IdBlock, Ids, MapPlan, Maps};
use crate::link::{Link, Received};
use crate::lowering::Presentation;
use crate::namespace::Namespaces;
use crate::plan::{Lowered, Plan};
use crate::run_image;
use crate::sys::{self, LaunchFailure, Launched};
use crate::wire::{MAX_FDS, NO_SLOT, Request, flag, reply, request};

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
    pid: i32,
    cgroup: Mutex<Option<Cgroup>>,
    /// Given back when the init is dead.
    block: Mutex<Option<IdBlock>>,
    next_child: AtomicU32,
}

/// The number under which the init reports on the container itself.
const CONTAINER: u32 = 0;

/// Sets a container up and waits until it is ready.
pub(crate) fn start(plan: &Plan) -> Result<Arc<Runtime>> {
    let runtime = launch(plan)?;
    runtime.await_ready()?;
    Ok(Arc::new(runtime))
}

/// A container for one program.
pub(crate) fn one_shot(plan: &Plan, command: &Command) -> Result<Child> {
    command.validate()?;
    let runtime = Arc::new(launch(plan)?);
    let (number, streams) = runtime.request_run(command, flag::ONE_SHOT)?;
    runtime.await_ready()?;
    let pidfd = runtime.await_started(number, command)?;
    Ok(Child::new(runtime, number, pidfd, streams, crate::child::Role::Owner))
}

/// One more program in a container.
pub(crate) fn another(runtime: &Arc<Runtime>, command: &Command) -> Result<Child> {
    command.validate()?;
    let (number, streams) = runtime.request_run(command, 0)?;
    let pidfd = runtime.await_started(number, command)?;
    Ok(Child::new(Arc::clone(runtime), number, pidfd, streams, crate::child::Role::Guest))
}

/// Up to the START request.
fn launch(plan: &Plan) -> Result<Runtime> {
    let lowered = &*plan.0;
    let prepare = |what: &'static str| move |error: std::io::Error| Error::os(Step::Prepare, what, error);
    let init = init_program()?;
    let cgroup = match lowered.placement.is_empty() {
        true => None,
        false => Some(Cgroup::create(&lowered.placement, &lowered.limits)?),
    };
    let block = match &lowered.maps {
        Some(MapPlan::Block) => Some(IdBlock::reserve()?),
        _ => None,
    };
    let (ours, theirs) = sys::pair().map_err(prepare("making the control socket"))?;
    let ours = sys::above_stdio(ours).map_err(prepare("making the control socket"))?;
    let theirs = sys::above_stdio(theirs).map_err(prepare("making the control socket"))?;
    let Launched { pid, pidfd } = sys::launch(lowered.namespaces.clone_flags(), theirs.as_fd(), init)
        .map_err(|failure| launch_error(failure, lowered.namespaces))?;
    drop(theirs);
    let runtime = Runtime {
        plan: plan.clone(),
        link: Link::new(ours, pidfd),
        pid,
        cgroup: Mutex::new(cgroup),
        block: Mutex::new(block),
        next_child: AtomicU32::new(1),
    };
    runtime.request_start()?;
    Ok(runtime)
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

impl Runtime {
    /// Writes the id maps and sends everything the setup needs.
    fn request_start(&self) -> Result<()> {
        let lowered = &*self.plan.0;
        let block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let maps = match (&lowered.maps, &*block) {
            (Some(MapPlan::Fixed(maps)), _) => Some(maps.clone()),
            (Some(MapPlan::Block), Some(block)) => Some(block.maps(lowered.program_ids)),
            (Some(MapPlan::Block), None) => {
                return Err(Error::internal(Step::IdBlock, "a block of ids was not reserved"));
            }
            (None, _) => None,
        };
        if let Some(maps) = &maps {
            idmap::write_maps(self.pid, maps)?;
        }
        let host = sys::open_pidfd(std::process::id())
            .map_err(|error| Error::os(Step::Prepare, "opening a pidfd of this process", error))?;
        let trees = self.clone_sources(lowered, maps.as_ref())?;
        let cgroup = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner);

        let mut fds: Vec<RawFd> = vec![lowered.image.as_raw_fd(), host.as_raw_fd()];
        fds.extend(trees.iter().map(AsRawFd::as_raw_fd));
        let mut message = Request {
            kind: request::START,
            cgroup_slot: NO_SLOT,
            usage_slot: NO_SLOT,
            // The one use of this field in a START: how many processors can burn CPU time at once.
            cpu_ns: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            ..Request::default()
        };
        if lowered.namespaces.contains(Namespaces::PID) {
            message.flags |= flag::PID_NS;
        }
        if let Some(cgroup) = &*cgroup {
            for join in cgroup.joins() {
                let (Join::V1Tasks(file) | Join::V2 { procs: file, .. }) = join;
                fds.push(file.as_raw_fd());
            }
            if let Some(usage) = cgroup.cpu_usage_file() {
                message.usage_slot = slot_of(&fds)?;
                fds.push(usage.fd.as_raw_fd());
                if usage.format == CpuFormat::CpuStat {
                    message.flags |= flag::CPU_STAT;
                }
            }
        }
        if let Some(block) = &*block {
            fds.push(block.lock().as_raw_fd());
        }
        self.send(&message, &fds)
    }

    /// The mount trees of the plan, cloned with the host's privileges and presented with the right ids.
    fn clone_sources(&self, lowered: &Lowered, maps: Option<&Maps>) -> Result<Vec<OwnedFd>> {
        let mut owners: Option<OwnedFd> = None;
        let mut trees = Vec::with_capacity(lowered.sources.len());
        for source in &lowered.sources {
            use std::os::unix::ffi::OsStrExt;
            let path = std::path::Path::new(std::ffi::OsStr::from_bytes(source.path.to_bytes()));
            let failed = |what: &str| {
                let what = format!("{what} {}", path.display());
                move |error: std::io::Error| Error::os(Step::MountSource, what, error).with_path(path)
            };
            let tree = sys::clone_tree(&source.path).map_err(failed("cloning the mount at"))?;
            let tree = sys::above_stdio(tree).map_err(failed("cloning the mount at"))?;
            let namespace = match (source.presentation, maps) {
                (Presentation::AsIs, _) | (_, None) => None,
                (Presentation::Inside, Some(_)) => Some(
                    std::fs::File::open(format!("/proc/{}/ns/user", self.pid))
                        .map_err(failed("opening the user namespace for the id map of"))?
                        .into(),
                ),
                (Presentation::Owner, Some(maps)) => Some(owner_namespace(path, maps, lowered.program_ids)?),
            };
            if let Some(namespace) = namespace {
                let namespace = owners.insert(namespace);
                sys::idmap_tree(&tree, namespace.as_fd()).map_err(|error| {
                    failed("id-mapping the mount of")(error).with_hint(
                        "id-mapped mounts need Linux 5.12 (layers of an overlay 5.19) and a filesystem that supports them",
                    )
                })?;
            }
            trees.push(tree);
        }
        Ok(trees)
    }

    /// Sends a request whose table may be longer than one message can carry.
    fn send(&self, message: &Request, fds: &[RawFd]) -> Result<()> {
        let mut chunks = fds.chunks(MAX_FDS).peekable();
        while let Some(chunk) = chunks.next() {
            if chunks.peek().is_none() {
                return self.link.send(message, chunk);
            }
            self.link.send(&Request { kind: request::FDS, ..Request::default() }, chunk)?;
        }
        self.link.send(message, &[])
    }

    /// Sends a program to run.
    fn request_run(&self, command: &Command, flags: u32) -> Result<(u32, Streams)> {
        let lowered = &*self.plan.0;
        let number = self.next_child.fetch_add(1, Ordering::Relaxed);
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
        let mut message = Request {
            kind: request::RUN,
            flags,
            child: number,
            pump_from: [NO_SLOT; 2],
            pump_to: [NO_SLOT; 2],
            wall_ns: nanoseconds(lowered.wall_time),
            cpu_ns: nanoseconds(lowered.cpu_time),
            budget_sum: lowered.output_max.map_or(u64::MAX, crate::limits::Bytes::get),
            ..Request::default()
        };
        if lowered.sample_cpu {
            message.flags |= flag::SAMPLE_CPU;
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
        Ok((number, streams))
    }

    fn await_ready(&self) -> Result<()> {
        match self.link.receive(CONTAINER, None)? {
            Received::Message((message, _)) if message.kind == reply::READY => Ok(()),
            Received::Message((message, _)) => Err(self.plan.failure(&message, "")),
            Received::Nothing | Received::Closed => Err(self.died("while it set the sandbox up")),
        }
    }

    /// Waits until the program was executed; its pidfd comes with the news.
    fn await_started(&self, number: u32, command: &Command) -> Result<Option<OwnedFd>> {
        match self.link.receive(number, None)? {
            Received::Message((message, pidfd)) if message.kind == reply::STARTED => Ok(pidfd),
            Received::Message((message, _)) => {
                Err(self.plan.failure(&message, &command.program.to_string_lossy()))
            }
            Received::Nothing | Received::Closed => {
                Err(self.died("before it could report that the program started"))
            }
        }
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

    /// Waits for the report of a program's end.
    pub(crate) fn await_exit(&self, number: u32, deadline: Option<Instant>) -> Result<Received> {
        self.link.receive(number, deadline)
    }

    /// What the box has counted.
    pub(crate) fn counters(&self) -> Result<Counters> {
        match &*self.cgroup.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cgroup) => cgroup.counters(),
            None => Ok(Counters::default()),
        }
    }

    /// Ends the sandbox: waits for an init that is about to exit, kills one that is not, and removes what was made.
    /// Returns the first failure, but always goes to the end.
    pub(crate) fn tear_down(&self, patience: Duration) -> Result<()> {
        let mut result = Ok(());
        if !wait_for(self.link.init(), patience) {
            sys::send_signal(self.link.init(), libc::SIGKILL).ok();
        }
        if let Err(error) = sys::reap_pidfd(self.link.init()) {
            result = Err(Error::os(Step::Wait, "reaping the init", error));
        }
        if let Some(mut cgroup) = self.cgroup.lock().unwrap_or_else(PoisonError::into_inner).take() {
            if !self.plan.0.namespaces.contains(Namespaces::PID) {
                result = result.and(cgroup.kill());
            }
            result = result.and(cgroup.remove());
        }
        self.block.lock().unwrap_or_else(PoisonError::into_inner).take();
        result
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A failure here has nobody to tell; the next use on this machine sweeps what is left.
        self.tear_down(Duration::ZERO).ok();
    }
}

/// Whether the process behind a pidfd ended in time.
fn wait_for(pidfd: &OwnedFd, patience: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// The slot that the next descriptor of a table will have.
fn slot_of(table: &[RawFd]) -> Result<u32> {
    u32::try_from(table.len()).map_err(|_| Error::invalid("too many descriptors"))
}

/// A user namespace whose map presents the owner of a path as the program's user.
fn owner_namespace(path: &std::path::Path, maps: &Maps, program: Ids) -> Result<OwnedFd> {
    use std::os::unix::fs::MetadataExt;
    let looked = std::fs::metadata(path).map_err(|error| {
        Error::os(Step::MountSource, format!("looking at {}", path.display()), error).with_path(path)
    })?;
    let outside = |extents: &[Extent], id: u32| {
        let extent = extents.iter().find(|extent| id >= extent.inside && id - extent.inside < extent.count);
        extent.map(|extent| extent.outside + (id - extent.inside))
    };
    let (Some(uid), Some(gid)) = (outside(&maps.uids, program.uid), outside(&maps.gids, program.gid)) else {
        return Err(Error::internal(Step::MountSource, "the program's ids are not mapped"));
    };
    let line = |on_disk: u32, shown: u32| format!("{on_disk} {shown} 1\n");
    sys::map_namespace(&line(looked.uid(), uid), &line(looked.gid(), gid)).map_err(|error| {
        Error::os(Step::MountSource, "making a user namespace for the owner's id map", error)
    })
}
