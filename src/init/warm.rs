//! The init's side of payloads that are made before their command comes: who makes them, and when.

use crate::deadline::FORK_NS;
use crate::payload::{Departure, MAX_JOINS};
use crate::program::{Program, Shared};
use crate::sys::{self, Fd, Fork, Owned, PollFd, Result, Wait};
use crate::wire::flag;

/// How often in a row a template may come to nothing before none is made any more.
const PATIENCE: u32 = 3;

/// How payloads are made ahead.
pub(crate) struct Warm {
    kind: Kind,
    template: Option<Template>,
    /// It was asked for a payload that has not come yet.
    forking: bool,
    /// A command has come since the last payload was asked for.
    wanted: bool,
    /// Templates in a row that no program came of.
    failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not at all.
    Never,
    /// One, for the only program.
    Once,
    /// One after the other, by a template.
    Again,
}

struct Template {
    pid: i32,
    channel: Owned,
}

impl Warm {
    pub(crate) fn new(start_flags: u32) -> Self {
        let has = |bit| start_flags & bit != 0;
        let kind = match (has(flag::PREPARE), has(flag::TEMPLATE)) {
            (_, true) => Kind::Again,
            (true, false) => Kind::Once,
            (false, false) => Kind::Never,
        };
        Self { kind, template: None, forking: false, wanted: true, failures: 0 }
    }

    /// A command has come.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a payload is about to come.
    pub(crate) fn is_forking(&self) -> bool {
        self.forking
    }

    /// It has come.
    pub(crate) fn forked(&mut self) {
        self.forking = false;
    }

    /// One was killed while it waited, or did not come at all.
    pub(crate) fn lost(&mut self) {
        self.failures += u32::from(self.forking);
        self.forking = false;
    }

    /// It does not come. Somebody may have stopped the template.
    pub(crate) fn give_up(&mut self) {
        self.forking = false;
        if let Some(template) = &self.template {
            sys::kill(template.pid, sys::SIGKILL).ok();
        }
    }

    /// A program was executed that a template has forked.
    pub(crate) fn works(&mut self) {
        self.failures = 0;
    }

    /// A process was reaped.
    pub(crate) fn note_end(&mut self, pid: i32) {
        if self.template.as_ref().is_some_and(|template| template.pid == pid) {
            self.template = None;
            self.forking = false;
            self.failures += 1;
        }
    }

    /// Makes the payload for the next command, if it is time for that. What fails here shows when the program is started
    /// without.
    pub(crate) fn refill(
        &mut self,
        programs: &mut [Option<Program>],
        shared: &Shared<'_>,
        leave: &[Option<Fd>; MAX_JOINS],
    ) {
        let enough = match self.kind {
            Kind::Never => true,
            // One for each command, so that nobody keeps us busy who kills them.
            Kind::Again if !self.wanted || self.failures >= PATIENCE => true,
            Kind::Once | Kind::Again => programs.iter().flatten().any(Program::is_waiting),
        };
        let Some(number) = programs.iter().position(Option::is_none).filter(|_| !enough) else { return };
        let made = match self.kind {
            Kind::Never => return,
            Kind::Once => {
                self.kind = Kind::Never;
                Program::prepare(shared, number)
            }
            Kind::Again => self.fork_beside(shared, leave, number),
        };
        if let Ok(program) = made {
            programs[number] = Some(program);
        }
    }

    fn fork_beside(
        &mut self,
        shared: &Shared<'_>,
        leave: &[Option<Fd>; MAX_JOINS],
        number: usize,
    ) -> Result<Program> {
        self.wanted = false;
        let template = match &mut self.template {
            Some(template) => template,
            none => {
                // Taken back when it forks.
                self.failures += 1;
                let template = Template::start(shared, leave)?;
                self.failures -= 1;
                none.insert(template)
            }
        };
        let (ours, theirs) = sys::channel()?;
        shared.departures.store(number, Departure::default());
        sys::send(template.channel.fd(), &(number as u32), Some(theirs.fd()))?;
        self.forking = true;
        Ok(Program::of_template(ours))
    }
}

impl Template {
    fn start(shared: &Shared<'_>, leave: &[Option<Fd>; MAX_JOINS]) -> Result<Self> {
        let (channel, theirs) = sys::channel()?;
        match sys::fork(None)? {
            Fork::Child => {
                // It has no number of its own: why it came to nothing shows when a program is started without it.
                let payload = shared.payload(usize::MAX, theirs.fd(), false, None);
                payload.leave(|payload| payload.be_template(leave))
            }
            Fork::Parent(pid, _) => {
                drop(theirs);
                // It is in the cgroup for a moment, where whoever waits for events would see it come and go. A program with
                // the init's own user id may have stopped it.
                let mut set = [PollFd { fd: channel.fd().0, events: sys::POLLIN, revents: 0 }];
                sys::poll(&mut set, Some(FORK_NS)).ok();
                match sys::receive_word(channel.fd(), Wait::No) {
                    Ok(Some(_)) => Ok(Self { pid, channel }),
                    _ => {
                        sys::kill(pid, sys::SIGKILL).ok();
                        Err(sys::Errno::ECHILD)
                    }
                }
            }
        }
    }
}
