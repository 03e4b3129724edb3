//! Payloads that are confined before their command comes: all that is left to do then is to take it and to execute it.
//!
//! ```text
//! init:     forks a payload; it confines itself, says its id, and waits       forks a template; it confines itself
//!                                                                             FORK(channel) ─▶ it forks a payload beside
//!                                                                             itself, which says its id and waits
//!           PREPARED(ticket, channel) ─▶ host, unless CPU time is counted: that begins with what the init does
//! host:     RUN(ticket) ─▶ init, and the command ─▶ payload, by the channel
//!           or, where it has no channel: RUN with the command ─▶ init, the command ─▶ payload
//! payload:  joins its cgroup if it has not, enters its directory, execve
//! ```
//!
//! A template is for a container, where program follows program: its ids, capabilities, rules and filter are inherited, so that
//! a fork is all that one more program costs. It is outside of the cgroup, where it would be counted, killed and frozen with the
//! programs.
//!
//! Both wait under the program's own filter, and with its ids. No program can attach to them or read their memory: they
//! are as undumpable as the init. One of the same user id can kill or stop them: then the init makes new ones, or a program
//! is started without.

use crate::payload::{Failed, MAX_JOINS, Payload, Run, at, enter_directory};
use crate::handshake::MAX_PAYLOADS;
use crate::sys::{self, Errno, Fd, Image, Owned, Result, Rooms, Wait};
use crate::wire::{Confine, INLINE_IMAGE, RunHead, line, section, stage};
use core::mem::ManuallyDrop;

/// What a template says when it is where it stays.
const OUTSIDE: u32 = 0;

/// Above the numbers at which the descriptors of a command arrive.
const ABOVE: i32 = 3;

impl Payload<'_> {
    /// Confines itself and becomes the program that it is told to be, or says why not.
    pub(crate) fn wait_for_command(&mut self) -> Failed {
        // While there is no filter that may deny it.
        let pid = sys::process_id();
        let prepared = Image::space(INLINE_IMAGE)
            .map_err(|errno| at(stage::PROTOCOL, line::RUN_IMAGE, errno))
            .and_then(|image| self.confine_alone().map(|()| image));
        match prepared {
            Ok(image) => self.take_command(ManuallyDrop::new(image), pid),
            // Why is told when the program is started without: this word would be taken for that of one with a command.
            Err(_) => sys::exit(127),
        }
    }

    /// Confines itself and forks payloads for as long as the init wants some.
    pub(crate) fn be_template(&mut self, leave: &[Option<Fd>; MAX_JOINS]) -> Failed {
        let prepared = Rooms::new(MAX_PAYLOADS)
            .map_err(|errno| at(stage::PROTOCOL, line::RUN_IMAGE, errno))
            .and_then(|rooms| self.confine_as_template(leave).map(|()| rooms));
        let rooms = match prepared {
            Ok(rooms) => rooms,
            Err(failed) => return failed,
        };
        loop {
            let (number, channel) = match sys::receive_word(self.status, Wait::Yes) {
                Ok(Some((number, Some(channel)))) => (number as usize, channel),
                Err(Errno::EINTR) => continue,
                // The init is gone.
                _ => sys::exit(0),
            };
            // The number is that of a payload which is no more, or executed: so is its room.
            let payload = Payload { number, status: channel.fd(), ..*self };
            // If there is no payload, its channel closes here, and the init sees that.
            rooms.fork(number, payload, |payload, image, pid| {
                payload.leave(|payload| match payload.begin() {
                    Ok(()) => payload.take_command(image, pid),
                    Err(_) => sys::exit(127),
                })
            }).ok();
        }
    }

    fn confine_alone(&mut self) -> core::result::Result<(), Failed> {
        self.confine(section::JOIN, stage::JOIN)?;
        self.keep_own_descriptors()?;
        self.confine(section::CONFINE, stage::CONFINE)?;
        self.go_under()?;
        free_streams()
    }

    fn confine_as_template(&mut self, leave: &[Option<Fd>; MAX_JOINS]) -> core::result::Result<(), Failed> {
        let unshares = |operation| matches!(operation, Some(Confine::UnshareCgroup {}));
        if self.plan.confine(section::JOIN).any(unshares) {
            // Its root is the cgroup that one is in at that moment.
            self.confine(section::JOIN, stage::JOIN)?;
            for file in leave.iter().flatten() {
                sys::write_all(*file, b"0").map_err(|errno| at(stage::JOIN, 0, errno))?;
            }
        }
        // Nothing of it is in the cgroup any more.
        sys::send(self.status, &OUTSIDE, None).map_err(|errno| at(stage::PROTOCOL, line::AWAIT, errno))?;
        for (join, operation) in self.joins.iter_mut().zip(self.plan.confine(section::JOIN)) {
            if let Some(Confine::Join { slot, .. }) = operation {
                *join = self.container.get(slot as usize).and_then(Option::as_ref).map(Owned::fd);
            }
        }
        self.keep_own_descriptors()?;
        self.confine(section::CONFINE, stage::CONFINE)?;
        self.go_under()
    }

    /// Closes every descriptor but those that it needs itself, which are above the standard streams. Something is at the
    /// numbers of those, so that nothing else comes to be there: a listener, or a channel.
    fn keep_own_descriptors(&mut self) -> core::result::Result<(), Failed> {
        self.lift(ABOVE)
            .and_then(|()| (0..ABOVE).try_for_each(|number| sys::duplicate_to(self.status, number)))
            .and_then(|()| self.close_from(ABOVE as u32))
            .map_err(|errno| at(stage::FDS, 0, errno))
    }

    /// The last steps before it waits.
    fn go_under(&mut self) -> core::result::Result<(), Failed> {
        // Other ids may have made it dumpable (prctl(2), PR_SET_DUMPABLE), and it waits for long.
        sys::prctl(sys::PR_SET_DUMPABLE, 0, 0).map_err(|errno| at(stage::PROTOCOL, line::UNDUMPABLE, errno))?;
        sys::unblock_signals().map_err(|errno| at(stage::PROTOCOL, line::UNBLOCK_SIGNALS, errno))?;
        self.seal()
    }

    /// What a payload does that a template has forked.
    fn begin(&mut self) -> core::result::Result<(), Failed> {
        free_streams()?;
        sys::set_session().map_err(|errno| at(stage::CONFINE, 0, errno))
    }

    fn join(&mut self) -> core::result::Result<(), Failed> {
        for (index, join) in self.joins.iter_mut().enumerate() {
            if let Some(file) = join.take() {
                sys::write_all(file, b"0").map_err(|errno| at(stage::JOIN, index as u32, errno))?;
            }
        }
        Ok(())
    }

    /// Waits for the command, and executes it.
    fn take_command(&mut self, mut image: ManuallyDrop<Image>, pid: i32) -> Failed {
        // Before it has a command it leaves no word: the init may have given it up, and its place to another.
        if sys::send(self.status, &(pid as u32), None).and_then(|()| self.receive(&mut image)).is_err() {
            sys::exit(127);
        }
        let Some(head) = RunHead::parse(image.bytes()) else {
            return at(stage::PROTOCOL, line::MALFORMED, Errno::EPROTO);
        };
        let mut run = Run { image: &mut image, head, slots: &[] };
        if let Err(failed) = self.join() {
            return failed;
        }
        if let Err(errno) = enter_directory(&run) {
            return at(stage::CHDIR, 0, errno);
        }
        self.depart();
        self.execute(&mut run)
    }

    /// The standard streams are received at their numbers: those are free, and the kernel takes the lowest that is.
    fn receive(&self, image: &mut Image) -> Result<()> {
        loop {
            let mut next = 0;
            let mut in_place = true;
            let received = sys::receive_command(self.status, image, |stream| {
                in_place &= stream.fd().0 == next;
                next += 1;
                // It is the program's.
                core::mem::forget(stream);
            });
            match received {
                Err(Errno::EINTR) => {}
                Ok(Some(())) if in_place && next == ABOVE => return Ok(()),
                Ok(Some(())) => return Err(Errno::EPROTO),
                // The init is gone, or needs it no more.
                Ok(None) => sys::exit(0),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// From here on the numbers of the standard streams are the lowest that are free.
fn free_streams() -> core::result::Result<(), Failed> {
    sys::close_range(0, ABOVE as u32 - 1).map_err(|errno| at(stage::FDS, 0, errno))
}
