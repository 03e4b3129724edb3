//! From the first message to a container that is set up: the plan, the host's part, the box.

use crate::landlock::Ruleset;
use crate::payload::Departure;
use crate::setup::{OldRoot, Part, Stage};
use crate::sys::{self, Errno, Fd, Image, Owned, PollFd, Result, SharedPage};
use crate::wire::{
    BOX_SLOTS, CONTAINER, ChildFailure, MAX_SLOTS, NO_SLOT, PlanImage, Reply, Request, Setup, TREE_SLOTS, flag, line, request,
    stage,
};
use crate::{broken, failed};

/// Programs at once in one container.
pub(crate) const MAX_PROGRAMS: usize = 32;
/// Beside them there is one that waits for its command.
pub(crate) const MAX_PAYLOADS: usize = MAX_PROGRAMS + 1;

/// Descriptors that came with messages.
pub(crate) struct Table {
    pub(crate) slots: [Option<Owned>; MAX_SLOTS],
    pub(crate) count: usize,
    pub(crate) overflow: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { slots: [const { None }; MAX_SLOTS], count: 0, overflow: false }
    }

    pub(crate) fn push(&mut self, fd: Owned) {
        self.overflow |= self.slots.get(self.count).is_some_and(Option::is_some);
        match self.slots.get_mut(self.count) {
            Some(slot) => {
                *slot = Some(fd);
                self.count += 1;
            }
            None => self.overflow = true,
        }
    }
}

/// A container that was set up.
pub(crate) struct Container {
    pub(crate) control: Fd,
    pub(crate) table: Table,
    pub(crate) plan: Image,
    pub(crate) departures: SharedPage<Departure>,
    pub(crate) children: Owned,
    pub(crate) is_pid_1: bool,
    pub(crate) cgroup_slot: u32,
    pub(crate) usage_slot: u32,
    pub(crate) thaw_slot: u32,
    pub(crate) usage_is_cpu_stat: bool,
    pub(crate) leave_slot: u32,
    pub(crate) start_flags: u32,
    pub(crate) processors: u64,
    /// Where an overlay in memory keeps its changes.
    pub(crate) upper: Option<Owned>,
    /// The ruleset of landlock for every program.
    pub(crate) ruleset: Option<Owned>,
    /// The procfs by which they set their labels.
    pub(crate) proc: Option<Owned>,
    /// What terminals of programs are made in.
    pub(crate) devpts: Option<Owned>,
}

/// A plan of more bytes than this is not kept in memory.
const LARGE_PLAN: usize = 64 << 10;
/// Slots of the container's table that are not the plan's.
const PLAN_SLOT: usize = 0;
pub(crate) const HOST_SLOT: usize = 1;

/// Waits for a message; `None` when the host is gone.
fn next_request(control: Fd, host: Option<Fd>, table: &mut Table) -> Result<Option<Request>> {
    loop {
        let mut set = [
            PollFd { fd: control.0, events: sys::POLLIN, revents: 0 },
            PollFd { fd: host.map_or(-1, |fd| fd.0), events: sys::POLLIN, revents: 0 },
        ];
        sys::poll(&mut set, None)?;
        if set[1].revents != 0 {
            return Ok(None);
        }
        if set[0].revents != 0 {
            match sys::receive::<Request>(control, |fd| table.push(fd)) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
    }
}

impl Container {
    /// Receives the plan and carries out its setup operations.
    pub(crate) fn receive(control: Fd) -> core::result::Result<Self, Reply> {
        let mut table = Table::new();
        let start = loop {
            // The host's pidfd comes with the first message; until then its death shows as the end of the socket, or
            // not at all while a forked copy of the host holds the other end, for the moment this takes.
            let host = table.slots[HOST_SLOT].as_ref().map(Owned::fd);
            let next = next_request(control, host, &mut table).map_err(|errno| broken(line::START, errno))?;
            match next {
                Some(message) if message.kind == request::FDS => {}
                Some(message) if message.kind == request::START => break message,
                Some(_) => return Err(broken(line::MALFORMED, Errno::EPROTO)),
                None => sys::exit(0),
            }
        };
        if table.overflow {
            return Err(broken(line::MALFORMED, Errno::EOVERFLOW));
        }
        let is_pid_1 = start.flags & flag::PID_NS != 0;
        let plan = Self::map_plan(&table).map_err(|errno| broken(line::PLAN_IMAGE, errno))?;
        let departures = SharedPage::new(MAX_PAYLOADS).map_err(|errno| broken(line::SHARED_PAGE, errno))?;
        let children = sys::child_signal_fd().map_err(|errno| broken(line::CHILD_SIGNALS, errno))?;
        sys::set_session().map_err(|errno| broken(line::SESSION, errno))?;
        if !is_pid_1 {
            // Orphans come to us, as they would to PID 1.
            sys::prctl(sys::PR_SET_CHILD_SUBREAPER, 1, 0).map_err(|errno| broken(line::SUBREAPER, errno))?;
        }
        sys::set_umask(0);
        let image = PlanImage::parse(plan.bytes()).ok_or(broken(line::MALFORMED, Errno::EPROTO))?;
        let has = |flag| start.flags & flag != 0;
        let mut setup = Stage::new(match () {
            () if has(flag::SETS_UP_AHEAD) => Part::Ahead,
            () if has(flag::IS_SET_UP) => Part::Rest,
            () if has(flag::LOOPBACK_IS_UP) => Part::AllButNetwork,
            () => Part::All,
        });
        for (index, operation) in image.setup().enumerate() {
            let operation = operation.ok_or(broken(line::MALFORMED, Errno::EPROTO))?;
            if matches!(operation, Setup::Await {}) {
                // What follows needs the ids that the host maps, or the mounts that it makes.
                let go = Self::await_message(control, &mut table, request::GO, TREE_SLOTS)?;
                setup.caller = (go.uid, go.gid);
                if go.flags & flag::EMPTY_MOUNTS != 0 {
                    setup.old_root = OldRoot::Empty;
                }
                continue;
            }
            setup.apply(&operation, &table.slots).map_err(|errno| {
                failed(CONTAINER, ChildFailure { stage: stage::SETUP, index: index as u32, errno: errno.0 })
            })?;
        }
        let mut cgroup =
            Request { cgroup_slot: NO_SLOT, usage_slot: NO_SLOT, thaw_slot: NO_SLOT, leave_slot: NO_SLOT, ..Request::default() };
        if start.flags & flag::EXPECT_BOX != 0 {
            cgroup = Self::await_message(control, &mut table, request::BOX, BOX_SLOTS)?;
        }
        // From where the host happened to be, or from a place that a mount was made on: below that mount is what it hides.
        sys::chdir(c"/").map_err(|errno| broken(line::DIRECTORY, errno))?;
        // Programs of the same user id must not attach to us; the id maps are written, so nothing needs /proc/<pid>.
        sys::prctl(sys::PR_SET_DUMPABLE, 0, 0).map_err(|errno| broken(line::UNDUMPABLE, errno))?;
        sys::set_umask(0o022);
        // Files with given content are in the plan, and their pages would stay ours; what is still needed of it comes
        // back by itself.
        let plan = if plan.bytes().len() > LARGE_PLAN {
            drop(plan);
            Self::map_plan(&table).map_err(|errno| broken(line::PLAN_IMAGE, errno))?
        } else {
            plan
        };
        Ok(Self {
            control,
            table,
            plan,
            departures,
            children,
            is_pid_1,
            cgroup_slot: cgroup.cgroup_slot,
            usage_slot: cgroup.usage_slot,
            thaw_slot: cgroup.thaw_slot,
            usage_is_cpu_stat: cgroup.flags & flag::CPU_STAT != 0,
            leave_slot: cgroup.leave_slot,
            start_flags: start.flags,
            processors: u64::from(start.processors.max(1)),
            upper: setup.upper,
            ruleset: setup.ruleset.map(Ruleset::finish),
            proc: setup.proc,
            devpts: setup.devpts,
        })
    }

    /// Waits for a message of this kind, whose descriptors go to the slots from `first`.
    fn await_message(
        control: Fd,
        table: &mut Table,
        kind: u32,
        first: usize,
    ) -> core::result::Result<Request, Reply> {
        table.count = first;
        loop {
            let host = table.slots[HOST_SLOT].as_ref().map(Owned::fd);
            match next_request(control, host, table).map_err(|errno| broken(line::AWAIT, errno))? {
                Some(message) if message.kind == request::FDS => {}
                Some(_) if table.overflow => return Err(broken(line::MALFORMED, Errno::EOVERFLOW)),
                Some(message) if message.kind == kind => return Ok(message),
                Some(_) => return Err(broken(line::MALFORMED, Errno::EPROTO)),
                None => sys::exit(0),
            }
        }
    }

    fn map_plan(table: &Table) -> Result<Image> {
        let file = table.slots[PLAN_SLOT].as_ref().ok_or(Errno::EPROTO)?.fd();
        Image::map(file, Image::size_of_file(file)?)
    }
}
