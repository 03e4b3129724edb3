//! One program that runs in the container: from fork to the report of its end.

use crate::clock::{CpuClock, read_usage};
use crate::deadline::Limits;
use crate::gate::{self, Barrier, Gate};
use crate::listener::{Filter, Heard, LISTENER, hear, refuse};
use crate::payload::{Departure, MAX_JOINS, Payload, Run};
use crate::pty::{self, Pty};
use crate::pump::{Flow, Pump};
use crate::sys::{self, Errno, Fd, Fork, Image, Owned, Result, SharedPage, Wait};
use crate::wire::{
    CONNECTION_SLOTS, CONTAINER, ChildFailure, NO_SLOT, PlanImage, Reply, Request, RunHead, TERMINAL_SLOT, cause, flag, line, reply, stage,
};

/// What all programs of a container share.
pub(crate) struct Shared<'a> {
    pub(crate) plan: PlanImage<'a>,
    pub(crate) slots: &'a [Option<Owned>],
    pub(crate) cgroup: Option<Fd>,
    pub(crate) departures: &'a SharedPage<Departure>,
    pub(crate) ruleset: Option<Fd>,
    pub(crate) proc: Option<Fd>,
    pub(crate) devpts: Option<Fd>,
    pub(crate) control: Fd,
}

impl<'a> Shared<'a> {
    /// A payload, which is a fork of the init already.
    pub(crate) fn payload(&self, number: usize, status: Fd, placed: bool, gate: Option<Barrier>) -> Payload<'a> {
        Payload {
            plan: self.plan,
            container: self.slots,
            placed,
            departures: self.departures,
            number,
            status,
            token: Filter::of(&self.plan).token,
            own_token: 0,
            own_joins: &[],
            joins: [None; MAX_JOINS],
            gate,
            terminal: None,
            ruleset: self.ruleset,
            proc: self.proc,
        }
    }
}

/// The number of a program that has no command yet.
const NOBODY: u32 = u32::MAX;

/// A program between fork and the report of its end.
pub(crate) struct Program {
    /// The host's number for it.
    pub(crate) child: u32,
    /// 0 until the payload has said it, if a template forked it.
    pub(crate) pid: i32,
    /// It was confined before its command came.
    prepared: bool,
    /// Its channel was closed while it waited for a command: if it has left word, the host has given it one.
    hung_up: bool,
    /// It took too long to be executed, and was killed for that.
    overdue: bool,
    /// Why it was given up. Not in the shared page, where the payload may write until it is dead.
    refused: Option<ChildFailure>,
    /// By which the host names it while it waits, 0 before it was told of it.
    ticket: u32,
    pidfd: Option<Owned>,
    /// Open until `execve` succeeded or the payload left its reason. A pipe, or a socket if a listener comes through it.
    status: Option<Owned>,
    /// What hears of calls that the filter does not decide itself.
    listener: Option<Owned>,
    /// It is the host's.
    host_listens: bool,
    /// Until the host was there, if it has to be.
    gate: Option<Gate>,
    pub(crate) limits: Limits,
    /// The limits that count from the exec.
    wall_ns: u64,
    cpu_ns: u64,
    idle_ns: u64,
    pub(crate) pumps: [Option<Pump>; 2],
    output: [u64; 2],
    shared_budget: u64,
    /// CPU time of the box when the program was started.
    pub(crate) cpu_base: u64,
    /// The file that counts the CPU time of this program alone, if it has cgroups of its own.
    usage_file: Option<Owned>,
    usage_is_cpu_stat: bool,
    started_at: u64,
    /// Why it was killed, `cause::NONE` if it was not.
    pub(crate) cause: u32,
    /// Wait status and moment of the end, once reaped.
    ended: Option<(i32, u64)>,
    usage: sys::Usage,
    /// One more than the number of the first call that a process was killed for, and of the one that this process was.
    denied: [u32; 2],
}

/// The program could not be forked.
pub(crate) fn fork_failed(errno: Errno) -> ChildFailure {
    ChildFailure { stage: stage::FORK, index: 0, errno: errno.0 }
}

/// A program was not executed in time.
pub(crate) fn late() -> ChildFailure {
    ChildFailure { stage: stage::EXEC, index: 0, errno: Errno::ETIMEDOUT.0 }
}

/// A prepared payload did not become the program.
pub(crate) fn gone() -> ChildFailure {
    ChildFailure { stage: stage::PROTOCOL, index: line::GONE, errno: Errno::ECHILD.0 }
}

/// The program could not be let past its gate.
pub(crate) fn gate_failed(errno: Errno) -> ChildFailure {
    ChildFailure { stage: stage::GATE, index: 0, errno: errno.0 }
}

impl Program {
    /// Forks the payload. In the child this never returns.
    pub(crate) fn start(
        request: &Request,
        shared: &Shared<'_>,
        slots: &mut [Option<Owned>],
        inline: &mut Image,
        number: usize,
    ) -> core::result::Result<Self, ChildFailure> {
        let malformed = at(line::MALFORMED, Errno::EPROTO);
        let unmapped = |errno| at(line::RUN_IMAGE, errno);
        let mut mapped;
        let image = if request.image_slot == NO_SLOT {
            inline
        } else {
            let file = slots.get(request.image_slot as usize).and_then(Option::as_ref).map(Owned::fd).ok_or(malformed)?;
            mapped = Image::size_of_file(file).and_then(|length| Image::map(file, length)).map_err(unmapped)?;
            &mut mapped
        };
        let head = RunHead::parse(image.bytes()).ok_or(malformed)?;
        // Before the fork: a program that runs while its output cannot be moved would be nobody's.
        let pumps = pumps(request, slots)?;
        let usage_file = own_usage_file(request, slots).map_err(|errno| at(line::MALFORMED, errno))?;
        let filter = Filter::of(&shared.plan);
        let channel = if filter.has_listener() { sys::channel() } else { sys::pipe() };
        let (status, status_write) = channel.map_err(fork_failed)?;
        // The payload has the other end of its gate by the fork; this one is closed when it does.
        let (gate, barrier, _barrier) = if request.flags & flag::GATE == 0 {
            (None, None, None)
        } else {
            let (gate, barrier, end) = gate::open().map_err(fork_failed)?;
            (Some(gate), Some(barrier), Some(end))
        };
        shared.departures.store(number, Departure::default());
        let terminal = give_terminal(request, shared, slots).map_err(|errno| at(line::TERMINAL, errno))?;
        give_connections(request, shared, slots).map_err(|errno| at(line::CONNECTIONS, errno))?;

        // Into the v2 cgroup at once where the host's user may do that: entering it afterwards can cost an RCU grace
        // period, 12 ms on an idle machine. A sandbox with ids of its own may not, and writes to the host's file.
        let own = own_joins(request, slots).ok_or(malformed)?;
        let cgroup = match own {
            [] => shared.cgroup,
            _ => slots.get(request.cgroup_slot as usize).and_then(Option::as_ref).map(Owned::fd),
        };
        let (fork, placed) = match cgroup.map(|cgroup| sys::fork(Some(cgroup))) {
            Some(Ok(fork)) => (fork, true),
            // As many processes as the box may have: entering it afterwards would not be counted.
            Some(Err(Errno::EAGAIN)) => return Err(fork_failed(Errno::EAGAIN)),
            Some(Err(_)) | None => (sys::fork(None).map_err(fork_failed)?, false),
        };
        match fork {
            Fork::Child => {
                let mut payload = shared.payload(number, status_write.fd(), placed, barrier);
                payload.own_joins = match own {
                    [joins @ .., _last] if placed => joins,
                    joins => joins,
                };
                payload.terminal = terminal;
                payload.leave(|payload| payload.become_program(Run { image, head, slots }))
            }
            Fork::Parent(pid, pidfd) => {
                let mut program = Self::waiting(pid, Some(pidfd), status);
                program.prepared = false;
                program.gate = gate;
                program.usage_file = usage_file;
                program.usage_is_cpu_stat = request.flags & flag::CPU_STAT != 0;
                program.take_on(request, pumps, Limits::of_start);
                Ok(program)
            }
        }
    }

    /// Forks a payload that confines itself and waits for its command.
    pub(crate) fn prepare(shared: &Shared<'_>, number: usize) -> Result<Self> {
        let (status, theirs) = sys::channel()?;
        shared.departures.store(number, Departure::default());
        let (fork, placed) = match shared.cgroup.map(|cgroup| sys::fork(Some(cgroup))) {
            Some(Ok(fork)) => (fork, true),
            Some(Err(_)) | None => (sys::fork(None)?, false),
        };
        match fork {
            Fork::Child => {
                let payload = shared.payload(number, theirs.fd(), placed, None);
                payload.leave(Payload::wait_for_command)
            }
            Fork::Parent(pid, pidfd) => Ok(Self::waiting(pid, Some(pidfd), status)),
        }
    }

    /// One that a template forks, or is about to: it says its process id by the channel.
    pub(crate) fn of_template(channel: Owned) -> Self {
        let mut program = Self::waiting(0, None, channel);
        program.limits = Limits::of_fork(sys::monotonic());
        program
    }

    fn waiting(pid: i32, pidfd: Option<Owned>, status: Owned) -> Self {
        Self {
            child: NOBODY,
            pid,
            prepared: true,
            hung_up: false,
            overdue: false,
            refused: None,
            ticket: 0,
            pidfd,
            status: Some(status),
            listener: None,
            host_listens: false,
            gate: None,
            limits: Limits::default(),
            wall_ns: 0,
            cpu_ns: 0,
            idle_ns: 0,
            pumps: [None, None],
            output: [0; 2],
            shared_budget: 0,
            cpu_base: 0,
            usage_file: None,
            usage_is_cpu_stat: false,
            started_at: 0,
            cause: cause::NONE,
            ended: None,
            usage: sys::Usage::default(),
            denied: [0; 2],
        }
    }

    /// Whether it waits for a command.
    pub(crate) fn is_waiting(&self) -> bool {
        self.child == NOBODY
    }

    /// Whether it was made before its command came and is not executed yet.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.prepared && self.status.is_some()
    }

    /// It becomes the program of a request.
    fn take_on(&mut self, request: &Request, pumps: [Option<Pump>; 2], limits: impl Fn(u64) -> Limits) {
        let now = sys::monotonic();
        if request.flags & flag::DIRECT == 0 {
            self.started_at = now;
        }
        self.limits = limits(now);
        self.child = request.child;
        self.host_listens = request.flags & flag::HOST_LISTENS != 0;
        (self.wall_ns, self.cpu_ns, self.idle_ns) = (request.wall_ns, request.cpu_ns, request.idle_ns);
        self.pumps = pumps;
        self.shared_budget = request.budget_sum;
    }

    /// Whether it waits, and the host was not told of it.
    pub(crate) fn is_unpublished(&self) -> bool {
        self.is_waiting() && self.pid != 0 && self.ticket == 0 && !self.hung_up
    }

    /// Its channel was closed before it was known whose it is.
    pub(crate) fn hang_up(&mut self) {
        self.hung_up = true;
    }

    /// Whether its channel was closed, and it is looked at without one.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// It is killed for not being executed in time. What it has left by then says whether it may have begun.
    pub(crate) fn is_overdue(&mut self) {
        self.overdue = true;
    }

    /// It is killed for this, which is told in place of its start. The first reason is the one.
    pub(crate) fn refuse(&mut self, failure: ChildFailure) {
        self.refused.get_or_insert(failure);
    }

    /// Tells the host that it waits.
    pub(crate) fn publish(&mut self, control: Fd, last_ticket: &mut u32) {
        *last_ticket = last_ticket.wrapping_add(1).max(1);
        self.ticket = *last_ticket;
        let told = Reply { kind: reply::PREPARED, child: CONTAINER, pid: self.ticket, ..Reply::default() };
        // A host that was not told sends its commands by us.
        sys::tell(control, &told, self.status()).ok();
    }

    /// Whether it is the one that the host has given its command.
    pub(crate) fn has_ticket(&self, ticket: u32) -> bool {
        self.is_waiting() && self.ticket == ticket && ticket != 0
    }

    /// The host gives it its command itself.
    pub(crate) fn claim(
        &mut self,
        control: Fd,
        request: &Request,
        slots: &mut [Option<Owned>],
    ) -> core::result::Result<(), ChildFailure> {
        // It has its command already: what fails from here on is told of the program, which therefore has a number first.
        self.take_on(request, [None, None], Limits::of_release);
        self.pumps = pumps(request, slots)?;
        self.hand_on_listener(control)
    }

    /// Gives a payload that waits its command. Fails if it waits no more, and then it does not begin. Its listener is still to
    /// be handed on.
    pub(crate) fn release(
        &mut self,
        request: &Request,
        slots: &mut [Option<Owned>],
        image: &Image,
    ) -> core::result::Result<(), ChildFailure> {
        let malformed = at(line::MALFORMED, Errno::EPROTO);
        let status = self.status().ok_or(gone())?;
        let pumps = pumps(request, slots)?;
        let stream = |n: usize| slots.get(n).and_then(Option::as_ref).map(Owned::fd).ok_or(malformed);
        sys::send_command(status, image, &[stream(0)?, stream(1)?, stream(2)?]).map_err(|_| gone())?;
        self.take_on(request, pumps, Limits::of_release);
        Ok(())
    }

    /// Hands the listener that came before the command on, if it is the host's.
    pub(crate) fn hand_on_listener(&mut self, control: Fd) -> core::result::Result<(), ChildFailure> {
        match self.listener.take_if(|_| self.host_listens) {
            Some(listener) => self.hand_on(control, &listener).map_err(|errno| at(line::LISTENER, errno)),
            None => Ok(()),
        }
    }

    /// The status pipe, while the program is not yet executed.
    pub(crate) fn status(&self) -> Option<Fd> {
        self.status.as_ref().map(Owned::fd)
    }

    /// Called when the status channel has something: whether the payload goes on, or it was the end of it.
    pub(crate) fn news(&mut self, control: Fd, filter: &Filter<'_>) -> core::result::Result<bool, ChildFailure> {
        if self.parks(control).map_err(gate_failed)? {
            return Ok(true);
        }
        let has_words = self.prepared || filter.has_listener();
        let Some(status) = self.status.as_ref().filter(|_| has_words && !self.hung_up) else { return Ok(false) };
        match sys::receive_word(status.fd(), Wait::No) {
            Ok(Some((LISTENER, Some(listener)))) if self.host_listens => {
                self.hand_on(control, &listener).map_err(|errno| at(line::LISTENER, errno))?;
            }
            Ok(Some((LISTENER, Some(listener)))) => self.listener = Some(listener),
            Ok(Some((pid, None))) => self.is_prepared(pid as i32).map_err(fork_failed)?,
            // Reset: it was killed with a command that it had not read.
            Ok(None) | Err(Errno::ECONNRESET) => return Ok(false),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(Some(_)) => return Err(at(line::LISTENER, Errno::EPROTO)),
            Err(errno) => return Err(at(line::LISTENER, errno)),
        }
        Ok(true)
    }

    /// A payload has said its process id.
    fn is_prepared(&mut self, pid: i32) -> Result<()> {
        // It is not executed before.
        self.started_at = sys::monotonic();
        if self.pid == 0 {
            // If it was reaped meanwhile, its channel is closed, and it is never named.
            self.pidfd = Some(sys::open_pidfd(pid)?);
            self.pid = pid;
            self.limits.lift();
        }
        Ok(())
    }

    /// Whether it was the word that the payload has parked, which the host is told.
    fn parks(&mut self, control: Fd) -> Result<bool> {
        let (Some(gate), Some(status)) = (&mut self.gate, &self.status) else { return Ok(false) };
        if gate.is_parked() || !gate.arrives(status.fd())? {
            return Ok(false);
        }
        let parked = Reply { kind: reply::PARKED, child: self.child, ..Reply::default() };
        // As for STARTED below: a host that gets no pidfd refuses.
        if sys::tell(control, &parked, self.pidfd.as_ref().map(Owned::fd)).is_err() {
            sys::tell(control, &parked, None).ok();
        }
        Ok(true)
    }

    /// The host listens itself.
    fn hand_on(&self, control: Fd, listener: &Owned) -> Result<()> {
        let reply = Reply { kind: reply::LISTENER, child: self.child, ..Reply::default() };
        sys::tell(control, &reply, Some(listener.fd()))
    }

    /// The CPU time of its tree, in nanoseconds; of all programs since its start where nothing counts its own.
    pub(crate) fn cpu_time(&self, clock: &mut CpuClock) -> u64 {
        match &self.usage_file {
            Some(file) => read_usage(file.fd(), self.usage_is_cpu_stat),
            None => clock.read().saturating_sub(self.cpu_base),
        }
    }

    pub(crate) fn listener(&self) -> Option<Fd> {
        self.listener.as_ref().map(Owned::fd)
    }

    /// No process has the filter any more.
    pub(crate) fn close_listener(&mut self) {
        self.listener = None;
    }

    /// Hears of one call, and kills the process that made it if that is the answer.
    pub(crate) fn hear(&mut self, filter: &Filter<'_>) {
        let Some(listener) = self.listener() else { return };
        match hear(listener, filter) {
            Heard::Nothing => {}
            Heard::Over => self.close_listener(),
            Heard::Denied { process, thread, call, id } => {
                let told = call.saturating_add(1);
                if self.denied[0] == 0 {
                    self.denied[0] = told;
                }
                let is_main = !self.has_ended() && sys::has_thread(self.pid, thread);
                match process.kill() {
                    Ok(()) if is_main => {
                        self.denied[1] = told;
                        if self.cause == cause::NONE {
                            self.cause = cause::DENIED;
                        }
                    }
                    Ok(()) | Err(Errno::ESRCH) => {}
                    // Not ours to kill; the call is not made for all that.
                    Err(_) => refuse(listener, id),
                }
            }
        }
    }

    /// Whether its process waits for the host. Until it does no more, nothing is reaped: the host names the process by
    /// its id, and the id of one that was killed must not be given to another meanwhile.
    pub(crate) fn is_parked(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::is_parked)
    }

    /// The host was there: the payload goes on.
    pub(crate) fn pass(&mut self) -> Result<()> {
        if let Some(gate) = &self.gate {
            // When it fails it stays closed: the payload must not take its own way out before it is killed.
            gate.open()?;
        }
        self.gate = None;
        Ok(())
    }

    /// The payload is killed, and the host no longer waited for.
    pub(crate) fn give_up_the_gate(&mut self) {
        self.gate = None;
    }

    /// Called when the status pipe was closed: the program was executed, or left why it was not.
    pub(crate) fn executed(&mut self, control: Fd, departure: Departure) -> core::result::Result<(), ChildFailure> {
        self.status = None;
        if let Some(failure) = self.refused {
            return Err(failure);
        }
        if departure.failure.stage != 0 {
            return Err(departure.failure);
        }
        if self.prepared && departure.at == 0 {
            return Err(gone());
        }
        if self.overdue {
            return Err(late());
        }
        // What the sandbox needed to get there is not the program's time. A payload that was killed on its way has left
        // no word. The moment is told by the wall clock, which somebody may have set meanwhile: what it says is believed
        // as far as it fits between the fork and now.
        let now = sys::monotonic();
        let ago = sys::wall_clock().saturating_sub(departure.at).min(now.saturating_sub(self.started_at));
        let started_at = if departure.at == 0 { now } else { now - ago };
        if self.cause == cause::NONE {
            self.limits = Limits::new(started_at, self.wall_ns, self.cpu_ns, self.idle_ns);
        }
        self.started_at = started_at;
        let started = Reply { kind: reply::STARTED, child: self.child, pid: self.pid as u32, ..Reply::default() };
        // Too many descriptors may be under way (ETOOMANYREFS): then the host is told that this one does not come. A host
        // that cannot be told at all is gone, which the event loop notices by itself.
        if let Err(errno) = sys::tell(control, &started, self.pidfd.as_ref().map(Owned::fd)) {
            sys::tell(control, &Reply { errno: errno.0, ..started }, None).ok();
        }
        self.pidfd = None;
        Ok(())
    }

    pub(crate) fn note_end(&mut self, reaped: &sys::Reaped) {
        // The host's wish, or our kill for a call, came when the program had ended by itself.
        if matches!(self.cause, cause::HOST | cause::DENIED) && reaped.status & 0x7f != sys::SIGKILL {
            self.cause = cause::NONE;
        }
        self.ended = Some((reaped.status, sys::monotonic()));
        self.usage = reaped.usage;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Moves one chunk of stream `n`.
    pub(crate) fn pump(&mut self, n: usize) -> Flow {
        let Some(pump) = self.pumps.get_mut(n).and_then(Option::as_mut) else { return Flow::Closed };
        let flow = pump.step(&mut self.shared_budget);
        if let Some(seen) = self.output.get_mut(n) {
            *seen = pump.seen;
        }
        if matches!(flow, Flow::Closed | Flow::Exceeded | Flow::Failed(_)) {
            // Closing our end also stops a writer that outlived the kill: it gets SIGPIPE.
            self.pumps[n] = None;
        }
        flow
    }

    /// Moves what is in the pipes at the end. A process that was left behind may hold the other end and write on, for
    /// ever: that is not waited for.
    pub(crate) fn drain(&mut self) -> Result<()> {
        for n in 0..self.pumps.len() {
            let Some(pump) = &self.pumps[n] else { continue };
            let end = pump.seen.saturating_add(pump.waiting()?);
            while self.output[n] < end {
                match self.pump(n) {
                    Flow::More => {}
                    Flow::Idle | Flow::Closed => break,
                    Flow::Exceeded => {
                        if self.cause == cause::NONE {
                            self.cause = cause::OUTPUT;
                        }
                        break;
                    }
                    Flow::Failed(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// Counts what every process of the container used, for a program that has the container to itself.
    pub(crate) fn count_whole_container(&mut self) {
        self.usage = sys::children_usage();
    }

    /// The final report.
    pub(crate) fn report(&self, cpu_ns: u64) -> Reply {
        let (status, ended_at) = self.ended.unwrap_or((0, self.started_at));
        Reply {
            kind: reply::EXITED,
            child: self.child,
            status,
            cause: self.cause,
            pid: self.pid as u32,
            wall_ns: ended_at.saturating_sub(self.started_at),
            user_us: self.usage.user_us,
            system_us: self.usage.system_us,
            cpu_ns,
            max_rss_kib: self.usage.max_rss_kib,
            output: self.output,
            denied: self.denied,
            ..Reply::default()
        }
    }
}

fn at(index: u32, errno: Errno) -> ChildFailure {
    ChildFailure { stage: stage::PROTOCOL, index, errno: errno.0 }
}

/// Takes the descriptors of both captured streams out of the table.
fn pumps(
    request: &Request,
    slots: &mut [Option<Owned>],
) -> core::result::Result<[Option<Pump>; 2], ChildFailure> {
    let mut take = |n| pump(request, slots, n).map_err(|errno| at(line::CAPTURE, errno));
    Ok([take(0)?, take(1)?])
}

/// The files by which a program joins cgroups of its own.
fn own_joins<'a>(request: &Request, slots: &'a [Option<Owned>]) -> Option<&'a [Option<Owned>]> {
    let first = request.join_slot as usize;
    slots.get(first..first.checked_add(request.join_count as usize)?)
}

/// Takes the file that counts the CPU time of a program with cgroups of its own out of the table.
fn own_usage_file(request: &Request, slots: &mut [Option<Owned>]) -> Result<Option<Owned>> {
    if request.join_count == 0 || request.usage_slot == NO_SLOT {
        return Ok(None);
    }
    slots.get_mut(request.usage_slot as usize).and_then(Option::take).ok_or(Errno::EPROTO).map(Some)
}

/// Makes the terminal that the request asks for: one end goes to the host, before there is a process that could have it,
/// and the other to its slot.
fn give_terminal(request: &Request, shared: &Shared<'_>, slots: &mut [Option<Owned>]) -> Result<Option<Fd>> {
    if request.flags & flag::TERMINAL == 0 {
        return Ok(None);
    }
    let Pty { master, slave } = pty::open(shared.devpts.ok_or(Errno::ENODEV)?, request)?;
    let told = Reply { kind: reply::TERMINAL, child: request.child, ..Reply::default() };
    sys::tell(shared.control, &told, Some(master.fd()))?;
    let slot = slots.get_mut(TERMINAL_SLOT).filter(|slot| slot.is_none()).ok_or(Errno::EOVERFLOW)?;
    Ok(Some(slot.insert(slave).fd()))
}

/// Makes the sockets of granted connections: of each pair one end goes to the host and the other to its slot. They belong to
/// the sandbox's network namespace, of which alone they can tell.
fn give_connections(request: &Request, shared: &Shared<'_>, slots: &mut [Option<Owned>]) -> Result<()> {
    let mut places = slots.iter_mut().take(TERMINAL_SLOT).skip(CONNECTION_SLOTS);
    for _ in 0..request.connections {
        let place = places.next().filter(|slot| slot.is_none()).ok_or(Errno::EOVERFLOW)?;
        let (ours, theirs) = sys::stream()?;
        let told = Reply { kind: reply::CONNECTION, child: request.child, ..Reply::default() };
        sys::tell(shared.control, &told, Some(ours.fd()))?;
        *place = Some(theirs);
    }
    Ok(())
}

/// Takes the two descriptors of captured stream `n` out of the table.
fn pump(request: &Request, slots: &mut [Option<Owned>], n: usize) -> Result<Option<Pump>> {
    let (from, to) = (request.pump_from[n], request.pump_to[n]);
    if from == NO_SLOT {
        return Ok(None);
    }
    let mut take = |slot: u32| slots.get_mut(slot as usize).and_then(Option::take).ok_or(Errno::EPROTO);
    let (from, to) = (take(from)?, take(to)?);
    Pump::new(from, to, request.budget[n]).map(Some)
}
