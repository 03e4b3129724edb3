//! The container as its init sees it once it is set up: one event loop until the host is gone or the work is done.

use crate::clock::CpuClock;
use crate::deadline::{Look, parse_usage};
use crate::handshake::{Container, HOST_SLOT, MAX_PAYLOADS, MAX_PROGRAMS, Table};
use crate::listener::Filter;
use crate::payload::{Departure, MAX_JOINS};
use crate::program::{Program, Shared, gate_failed, gone, late};
use crate::pump::Flow;
use crate::sys::{self, Errno, Fd, Image, Owned, PollFd, Wait};
use crate::warm::Warm;
use crate::wire::{
    ChildFailure, INLINE_IMAGE, NO_SLOT, PlanImage, Reply, Request, cause, flag, line, reply, request, stage,
};
use crate::{broken, failed};

/// Control socket, host, child signals.
const FIRST: usize = 3;
/// Of each program: its status, two streams, its listener.
const EACH: usize = 4;
const MAX_POLL: usize = FIRST + EACH * MAX_PAYLOADS;
const NOTHING: PollFd = PollFd { fd: -1, events: 0, revents: 0 };

/// How many processes are reaped before the init looks at anything else.
const REAPED_AT_ONCE: usize = 256;

impl Container {
    /// The event loop. Ends the process.
    pub(crate) fn run(&mut self) -> ! {
        let Some(plan) = PlanImage::parse(self.plan.bytes()) else { sys::exit(252) };
        let fd_of = |slot: u32| self.table.slots.get(slot as usize).and_then(Option::as_ref).map(Owned::fd);
        let shared = Shared {
            plan,
            slots: &self.table.slots,
            cgroup: if self.cgroup_slot == NO_SLOT { None } else { fd_of(self.cgroup_slot) },
            departures: &self.departures,
            ruleset: self.ruleset.as_ref().map(Owned::fd),
            proc: self.proc.as_ref().map(Owned::fd),
            devpts: self.devpts.as_ref().map(Owned::fd),
            control: self.control,
        };
        let filter = Filter::of(&plan);
        let usage = if self.usage_slot == NO_SLOT { None } else { fd_of(self.usage_slot) };
        let host = fd_of(HOST_SLOT as u32);
        let mut programs: [Option<Program>; MAX_PAYLOADS] = [const { None }; MAX_PAYLOADS];
        let mut incoming = Table::new();
        let mut image = match Image::space(INLINE_IMAGE) {
            Ok(image) => image,
            Err(errno) => {
                sys::tell(self.control, &broken(line::RUN_IMAGE, errno), None).ok();
                self.end(&[]);
            }
        };
        let mut warm = Warm::new(self.start_flags);
        let mut last_ticket = 0;
        let leave: [Option<Fd>; MAX_JOINS] = core::array::from_fn(|n| {
            fd_of(self.leave_slot.checked_add(n as u32)?)
        });
        let mut clock = CpuClock { usage, is_cpu_stat: self.usage_is_cpu_stat, sampler: None };
        let mut one_shot = false;
        let mut more_to_reap = false;
        // A template is in the box for a moment. Whoever hears READY may look at the box, and finds nothing in it.
        warm.refill(&mut programs, &shared, &leave);
        let ready = Reply { kind: reply::READY, ..Reply::default() };
        if self.start_flags & flag::QUIET == 0 && sys::tell(self.control, &ready, None).is_err() {
            self.end(&programs);
        }
        loop {
            warm.refill(&mut programs, &shared, &leave);
            let mut set = [NOTHING; MAX_POLL];
            let used = self.watch(&mut set, host, &programs);
            let now = sys::monotonic();
            if warm.is_forking() {
                // What the next request may ask for is there in a moment.
                set[0].fd = -1;
            }
            let next = programs.iter().flatten().filter_map(|program| program.limits.next()).min();
            let Some(polled) = set.get_mut(..used) else { sys::exit(251) };
            // The host gives it its command without us, unless its CPU time counts from the moment that we do.
            let may_publish = running(&programs) < MAX_PROGRAMS && clock.is_idle();
            let unpublished = programs.iter_mut().flatten().find(|program| may_publish && program.is_unpublished());
            let pause = if more_to_reap || unpublished.is_some() { Some(0) } else { next.map(|at| at.saturating_sub(now)) };
            if let Err(errno) = sys::poll(polled, pause) {
                sys::tell(self.control, &broken(line::EVENTS, errno), None).ok();
                self.end(&programs);
            }
            if set[1].revents != 0 {
                self.end(&programs);
            }
            // A command that is there already goes by way of us.
            if let Some(program) = unpublished.filter(|_| set[0].revents == 0) {
                program.publish(self.control, &mut last_ticket);
            }
            if set[0].revents != 0 {
                match sys::receive_long::<Request>(self.control, &mut image, |fd| incoming.push(fd)) {
                    Ok(Some(message)) if message.kind == request::RUN => {
                        one_shot |= message.flags & flag::ONE_SHOT != 0;
                        if message.flags & flag::SAMPLE_CPU != 0 {
                            clock.sample();
                        }
                        warm.want();
                        self.launch(&message, &shared, &mut incoming, &mut image, &mut programs, &mut clock, one_shot);
                    }
                    Ok(Some(message)) if message.kind == request::KILL => {
                        let program = programs.iter_mut().flatten().find(|program| program.child == message.child);
                        if let Some(program) = program {
                            self.kill(program, cause::HOST, one_shot);
                        }
                    }
                    Ok(Some(message)) if message.kind == request::PASS => {
                        self.pass(&message, &mut programs, one_shot);
                    }
                    Ok(Some(message)) if self.serves_file(&message, &mut incoming) => {}
                    Ok(Some(message)) if message.kind == request::FDS => {}
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Ok(_) => self.end(&programs),
                    Err(errno) => {
                        // For whom the message was is lost with it: these are last words about all.
                        sys::tell(self.control, &broken(line::LOST_REQUEST, errno), None).ok();
                        self.end(&programs);
                    }
                }
            }
            self.serve(&set, &mut programs, &filter, &mut warm, one_shot);
            self.enforce(&mut programs, &mut clock, &mut warm, one_shot);
            more_to_reap = self.reap(&mut programs, &mut warm);
            self.settle(&mut programs, &mut clock, one_shot);
        }
    }

    /// Fills the poll set and returns how much of it is used. The order is that of [`Container::serve`].
    fn watch(
        &self,
        set: &mut [PollFd; MAX_POLL],
        host: Option<Fd>,
        programs: &[Option<Program>; MAX_PAYLOADS],
    ) -> usize {
        let entry = |fd: i32| PollFd { fd, events: sys::POLLIN, revents: 0 };
        set[0] = entry(self.control.0);
        set[1] = entry(host.map_or(-1, |fd| fd.0));
        set[2] = entry(self.children.fd().0);
        let mut used = FIRST;
        for (n, program) in programs.iter().enumerate() {
            let Some(program) = program else { continue };
            let at = FIRST + EACH * n;
            // The death of a parked payload is not looked at before the host is done with it.
            let status = program.status().filter(|_| !program.is_parked() && !program.has_hung_up());
            set[at] = entry(status.map_or(-1, |fd| fd.0));
            for (stream, pump) in program.pumps.iter().enumerate() {
                set[at + 1 + stream] = entry(pump.as_ref().map_or(-1, |pump| pump.fd().0));
            }
            set[at + 3] = entry(program.listener().map_or(-1, |fd| fd.0));
            used = at + EACH;
        }
        used
    }

    fn launch(
        &self,
        message: &Request,
        shared: &Shared<'_>,
        incoming: &mut Table,
        image: &mut Image,
        programs: &mut [Option<Program>; MAX_PAYLOADS],
        clock: &mut CpuClock,
        one_shot: bool,
    ) {
        if message.flags & flag::DIRECT != 0 {
            self.claim(message, incoming, programs, clock, one_shot);
            return;
        }
        let running = running(programs);
        // What the host was told of may have got a command from it already.
        let waiting = programs.iter_mut().enumerate().find_map(|(number, slot)| {
            let takes = |program: &&mut Program| program.is_unpublished() || program.has_ticket(message.ticket);
            Some((number, slot.as_mut().filter(takes)?))
        });
        let warm = message.flags & flag::WARM != 0 && !incoming.overflow && running < MAX_PROGRAMS;
        if let Some((number, program)) = waiting.filter(|_| warm) {
            match program.release(message, &mut incoming.slots, image) {
                Ok(()) => {
                    program.cpu_base = if one_shot { 0 } else { clock.read() };
                    // It has its command, and may have begun: it must not run while the host believes that it does not.
                    if let Err(failure) = program.hand_on_listener(self.control) {
                        self.give_up(number, program, failure, one_shot);
                    }
                }
                Err(failure) => {
                    sys::tell(self.control, &failed(message.child, failure), None).ok();
                }
            }
            *incoming = Table::new();
            return;
        }
        let result = match programs.iter().position(Option::is_none).filter(|_| running < MAX_PROGRAMS) {
            None => Err(ChildFailure { stage: stage::PROTOCOL, index: line::FULL, errno: Errno::EAGAIN.0 }),
            Some(_) if incoming.overflow => {
                Err(ChildFailure { stage: stage::PROTOCOL, index: line::TOO_MANY_FDS, errno: Errno::EOVERFLOW.0 })
            }
            Some(number) => {
                Program::start(message, shared, &mut incoming.slots, image, number).map(|mut program| {
                    program.cpu_base = if one_shot { 0 } else { clock.read() };
                    programs[number] = Some(program);
                })
            }
        };
        // The payload has its copies; ours would keep pipes open.
        *incoming = Table::new();
        if let Err(failure) = result {
            sys::tell(self.control, &failed(message.child, failure), None).ok();
            if one_shot {
                self.end(programs);
            }
        }
    }

    /// The host has given a payload its command itself.
    fn claim(
        &self,
        message: &Request,
        incoming: &mut Table,
        programs: &mut [Option<Program>; MAX_PAYLOADS],
        clock: &mut CpuClock,
        one_shot: bool,
    ) {
        let claimed = programs.iter_mut().enumerate().find_map(|(number, slot)| {
            Some((number, slot.as_mut().filter(|program| program.has_ticket(message.ticket))?))
        });
        match claimed {
            // It was killed before, and its command with it.
            None => {
                sys::tell(self.control, &failed(message.child, gone()), None).ok();
            }
            Some((number, program)) => {
                program.cpu_base = if one_shot { 0 } else { clock.read() };
                if let Err(failure) = program.claim(self.control, message, &mut incoming.slots) {
                    self.give_up(number, program, failure, one_shot);
                }
            }
        }
        *incoming = Table::new();
    }

    /// The host was at the gate of a program.
    fn pass(&self, message: &Request, programs: &mut [Option<Program>; MAX_PAYLOADS], one_shot: bool) {
        for (number, program) in programs.iter_mut().enumerate() {
            let Some(program) = program.as_mut().filter(|program| program.child == message.child) else { continue };
            let refused = message.flags & flag::REFUSED != 0;
            let passed = if refused { Err(Errno::ECANCELED) } else { program.pass() };
            if let Err(errno) = passed {
                self.give_up(number, program, gate_failed(errno), one_shot);
            }
        }
    }

    /// Kills a payload that cannot get past its gate, is late, or whose filter nobody could listen to. Its failure is told when
    /// its status pipe closes.
    fn give_up(&self, number: usize, program: &mut Program, failure: ChildFailure, one_shot: bool) {
        // What the payload had sent before it failed may still come in: its own reason is the first.
        let own = self.departures.load(number).failure;
        program.refuse(if own.stage == 0 { failure } else { own });
        self.kill(program, cause::NONE, one_shot);
    }

    /// Acts on status channels, listeners and captured streams.
    fn serve(
        &self,
        set: &[PollFd; MAX_POLL],
        programs: &mut [Option<Program>; MAX_PAYLOADS],
        filter: &Filter<'_>,
        warm: &mut Warm,
        one_shot: bool,
    ) {
        for (number, slot) in programs.iter_mut().enumerate() {
            let Some(program) = slot else { continue };
            let ready = |n: usize, fd: Option<Fd>| {
                let entry = set[FIRST + EACH * number + n];
                entry.revents != 0 && fd.is_some_and(|fd| fd.0 == entry.fd)
            };
            let is_closed = program.has_hung_up() && !program.is_waiting() && program.status().is_some();
            let goes_on = match ready(0, program.status()) || is_closed {
                true => program.news(self.control, filter),
                false => Ok(true),
            };
            if program.is_waiting() && program.pid != 0 {
                warm.forked();
            }
            if goes_on.is_err() && program.pid == 0 {
                // It cannot be named. It may live, in a room that the next one would get: not with another template.
                warm.give_up();
                *slot = None;
                continue;
            }
            if let Err(failure) = goes_on {
                self.give_up(number, program, failure, one_shot);
            } else if goes_on == Ok(false) {
                // It was waiting, and was killed; or the host has given it its command, and says so in a moment.
                if program.is_waiting() {
                    if self.departures.load(number) == Departure::default() {
                        warm.lost();
                        *slot = None;
                    } else {
                        program.hang_up();
                    }
                    continue;
                }
                if let Err(failure) = program.executed(self.control, self.departures.load(number)) {
                    sys::tell(self.control, &failed(program.child, failure), None).ok();
                    if one_shot && failure != gone() {
                        self.end(&[]);
                    }
                    // It is on its way out, or has no business here: nobody would be told of it.
                    if !program.has_ended() {
                        sys::kill(program.pid, sys::SIGKILL).ok();
                    }
                    *slot = None;
                    continue;
                }
                warm.works();
            }
            if ready(3, program.listener()) {
                // Without a call to be heard of, receiving one would wait.
                match set[FIRST + EACH * number + 3].revents & sys::POLLIN {
                    0 => program.close_listener(),
                    _ => program.hear(filter),
                }
            }
            for stream in 0..2 {
                let fd = program.pumps[stream].as_ref().map(crate::pump::Pump::fd);
                if !ready(1 + stream, fd) {
                    continue;
                }
                match program.pump(stream) {
                    Flow::Exceeded => self.kill(program, cause::OUTPUT, one_shot),
                    Flow::Failed(errno) => {
                        // Output that is lost must not look like output that was never written.
                        sys::tell(self.control, &failed(program.child, output_failed(errno)), None).ok();
                        self.kill(program, cause::HOST, one_shot);
                    }
                    Flow::More | Flow::Idle | Flow::Closed => {}
                }
            }
        }
    }

    fn enforce(&self, programs: &mut [Option<Program>; MAX_PAYLOADS], clock: &mut CpuClock, warm: &mut Warm, one_shot: bool) {
        for (number, slot) in programs.iter_mut().enumerate() {
            let Some(program) = slot else { continue };
            if program.has_ended() || program.cause != cause::NONE {
                continue;
            }
            let now = sys::monotonic();
            if program.limits.wall_passed(now) && program.is_waiting() {
                // Its end of the channel tells it to go.
                warm.give_up();
                *slot = None;
            } else if program.limits.wall_passed(now) && program.status().is_some() {
                if program.is_on_its_way() {
                    program.is_overdue();
                    self.kill(program, cause::NONE, one_shot);
                } else {
                    self.give_up(number, program, late(), one_shot);
                }
            } else if program.limits.wall_passed(now) {
                self.kill(program, cause::WALL, one_shot);
            } else if program.limits.watches_cpu() && now >= program.limits.look_at {
                let used = program.cpu_time(clock);
                match program.limits.look(now, used, self.processors) {
                    Look::Fine => {}
                    Look::TooMuch => self.kill(program, cause::CPU, one_shot),
                    Look::Idle => self.kill(program, cause::IDLE, one_shot),
                }
            }
        }
    }

    /// Kills a program, and in a one-shot container everything else too.
    fn kill(&self, program: &mut Program, why: u32, one_shot: bool) {
        if program.has_ended() {
            return;
        }
        if program.cause == cause::NONE {
            program.cause = why;
        }
        program.limits.lift();
        // A process that ended meanwhile is a zombie until we reap it: its id cannot have been given to another.
        sys::kill(program.pid, sys::SIGKILL).ok();
        sys::kill(-program.pid, sys::SIGKILL).ok();
        // Not before: it would leave a word of its own.
        program.give_up_the_gate();
        if one_shot && self.is_pid_1 {
            sys::kill(-1, sys::SIGKILL).ok();
        }
        self.thaw();
    }

    /// Reaps what has ended, and says whether there may be more: a tree that makes orphans faster than they are reaped
    /// must not keep us from everything else.
    fn reap(&self, programs: &mut [Option<Program>; MAX_PAYLOADS], warm: &mut Warm) -> bool {
        let mut signals = [0_u8; 128];
        // The signal only wakes us; several deaths may have been folded into one.
        sys::read(self.children.fd(), &mut signals).ok();
        if programs.iter().flatten().any(Program::is_parked) {
            return false;
        }
        for _ in 0..REAPED_AT_ONCE {
            let reaped = match sys::reap(Wait::No) {
                Ok(Some(reaped)) => reaped,
                Ok(None) | Err(Errno::ECHILD) => return false,
                // The signal that would tell of it again was read above.
                Err(_) => return true,
            };
            if let Some(program) = programs.iter_mut().flatten().find(|program| program.pid == reaped.pid) {
                program.note_end(&reaped);
            } else {
                warm.note_end(reaped.pid);
            }
        }
        true
    }

    /// Reports programs that have ended, and ends with a one-shot one.
    fn settle(&self, programs: &mut [Option<Program>; MAX_PAYLOADS], clock: &mut CpuClock, one_shot: bool) {
        for slot in programs.iter_mut() {
            let Some(program) = slot else { continue };
            // Not before the status pipe was seen closed: "started" is told first, or the failure instead.
            if !program.has_ended() || program.status().is_some() {
                continue;
            }
            if one_shot {
                self.kill_everything();
                program.count_whole_container();
            }
            if let Err(errno) = program.drain() {
                sys::tell(self.control, &failed(program.child, output_failed(errno)), None).ok();
            }
            let cpu = program.cpu_time(clock);
            sys::tell(self.control, &program.report(cpu), None).ok();
            if one_shot {
                sys::exit(0);
            }
            *slot = None;
        }
    }

    /// Kills and reaps every process of the container but this one.
    fn kill_everything(&self) {
        if self.is_pid_1 {
            // Orphans become its children, so when it has none nobody is left. kill(2) of all would look at every process of
            // the machine to find that.
            if matches!(sys::reap(Wait::No), Err(Errno::ECHILD)) {
                return;
            }
            sys::kill(-1, sys::SIGKILL).ok();
            self.thaw();
            while sys::reap(Wait::Yes).is_ok_and(|reaped| reaped.is_some()) {}
            return;
        }
        // A subreaper gets the orphans of whatever it kills, one generation after the other. Without /proc it can't
        // know them; then the host's cgroup, if there is one, does it.
        let mut buffer = [0_u8; 4096];
        for _ in 0..1024 {
            let Ok(file) = sys::open(Fd::CWD, c"/proc/thread-self/children", sys::O_RDONLY, 0) else { return };
            let Ok(count) = sys::read(file.fd(), &mut buffer) else { return };
            // A blank follows each number: what no blank follows may be the beginning of a longer one.
            let end = buffer.iter().take(count).rposition(|byte| *byte == b' ').unwrap_or(0);
            let list = buffer.get(..end).unwrap_or(&[]);
            for word in list.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
                if let Some(pid) = parse_usage(word, false) {
                    sys::kill(pid as i32, sys::SIGKILL).ok();
                }
            }
            self.thaw();
            // Those that were killed end soon; the last one takes the loop out with ECHILD.
            match sys::reap(Wait::Yes) {
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                _ => return,
            }
        }
    }

    /// Lets a frozen version 1 box go on: nothing in it dies before.
    fn thaw(&self) {
        let file = self.table.slots.get(self.thaw_slot as usize).and_then(Option::as_ref);
        if let Some(file) = file {
            sys::write_all(file.fd(), b"THAWED").ok();
        }
    }

    /// The host is gone or asked for the end.
    fn end(&self, programs: &[Option<Program>]) -> ! {
        if self.is_pid_1 {
            sys::kill(-1, sys::SIGKILL).ok();
            self.thaw();
        } else {
            for program in programs.iter().flatten().filter(|program| !program.has_ended()) {
                sys::kill(program.pid, sys::SIGKILL).ok();
                sys::kill(-program.pid, sys::SIGKILL).ok();
            }
            self.kill_everything();
        }
        // PID 1 takes its namespace with it: the kernel kills every process there before it lets go of this one.
        sys::exit(0)
    }
}

/// How many programs run, or are about to: what waits for a command is not counted.
fn running(programs: &[Option<Program>; MAX_PAYLOADS]) -> usize {
    programs.iter().flatten().filter(|program| !program.is_waiting()).count()
}

/// Captured output could not be moved.
fn output_failed(errno: Errno) -> ChildFailure {
    ChildFailure { stage: stage::PROTOCOL, index: line::OUTPUT, errno: errno.0 }
}
