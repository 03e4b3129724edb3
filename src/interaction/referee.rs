//! The thread of a dialogue: moves the bytes, notes who does what first, and ends what takes too long.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Interaction;
use super::outcome::{InteractionOutcome, Side, SideOutcome};
use super::pump::{Given, Pump, Taken};
use super::running::{Control, Order};
use super::transcript::Recorder;
use crate::child::Child;
use crate::error::{Error, Result, Step};
use crate::outcome::Verdict;

/// One program of the dialogue.
pub(super) struct Player {
    child: Child,
    started: Instant,
    closed_stdin: Option<Instant>,
    closed_stdout: Option<Instant>,
    ended: Option<Instant>,
    /// Killed by this thread or through the handle: what it closes from then on, it does not close by itself.
    killed: bool,
    flooded: bool,
    stalled: bool,
}

impl Player {
    pub(super) fn new(child: Child) -> Self {
        Self {
            child,
            started: Instant::now(),
            closed_stdin: None,
            closed_stdout: None,
            ended: None,
            killed: false,
            flooded: false,
            stalled: false,
        }
    }

    fn kill(&mut self) -> Result<()> {
        // One that has ended keeps its verdict.
        if self.ended.is_none() && !self.killed {
            self.killed = true;
            self.child.kill()?;
        }
        Ok(())
    }

    /// Its place in the order of closings.
    fn closed(&self) -> Option<Instant> {
        self.closed_stdin.into_iter().chain(self.closed_stdout).min()
    }

    fn verdict(&self, verdict: Verdict) -> Verdict {
        match verdict {
            // As with captured output: whatever it did after it had said too much.
            Verdict::Killed | Verdict::Exited(_) | Verdict::Signaled(_) if self.flooded => {
                Verdict::OutputExceeded
            }
            Verdict::Killed if self.stalled => Verdict::IdleExceeded,
            other => other,
        }
    }

    fn conclude(mut self, origin: Instant, sent: u64, received: u64) -> Result<SideOutcome> {
        let mut outcome = self.child.wait()?;
        outcome.verdict = self.verdict(outcome.verdict);
        let since = |at: Instant| at.saturating_duration_since(origin);
        Ok(SideOutcome {
            outcome,
            sent,
            received,
            closed_stdin: self.closed_stdin.map(since),
            closed_stdout: self.closed_stdout.map(since),
            ended: self.ended.map_or(Duration::ZERO, since),
            // The same outcome again, and what was captured.
            stderr: self.child.wait_with_output()?.stderr,
        })
    }
}

pub(super) struct Referee {
    rules: Interaction,
    players: [Player; 2],
    /// What each side says, by the speaker.
    pumps: [Pump; 2],
    /// Who took the floor last.
    last_word: Option<Side>,
    last_progress: Instant,
    recorder: Recorder,
    first_to_stall: Option<Side>,
}

/// What a look at the descriptors found, by side.
#[derive(Clone, Copy)]
struct Look {
    order: bool,
    from: [PollFlags; 2],
    to: [PollFlags; 2],
    ended: [bool; 2],
}

/// What of the set a descriptor is.
#[derive(Clone, Copy)]
enum Watched {
    Order,
    From(usize),
    To(usize),
    Ended(usize),
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::os(Step::Wait, what, error)
}

impl Referee {
    /// Takes the host's ends of the streams.
    pub(super) fn new(rules: Interaction, mut players: [Player; 2]) -> Result<Self> {
        let lost = || Error::internal(Step::Prepare, "a piped stream has no end in the host");
        let mut ends = Vec::new();
        for Player { child, .. } in &mut players {
            let said = child.stdout.take().map(OwnedFd::from).ok_or_else(lost)?;
            let heard = child.stdin.take().map(OwnedFd::from).ok_or_else(lost)?;
            ends.push((said, heard));
        }
        let (second, first) = (ends.pop().ok_or_else(lost)?, ends.pop().ok_or_else(lost)?);
        let pump = |from, to| {
            Pump::new(from, to, rules.bytes_max.get()).map_err(|error| {
                Error::os(Step::Prepare, "making the pipes of a dialogue nonblocking", error)
            })
        };
        let pumps = [pump(first.0, second.1)?, pump(second.0, first.1)?];
        Ok(Self {
            recorder: Recorder::new(rules.transcript_max.get()),
            rules,
            players,
            pumps,
            last_word: None,
            last_progress: Instant::now(),
            first_to_stall: None,
        })
    }

    /// Runs to the end of both. `None` when the dialogue is given up: then the programs are killed with `self`.
    pub(super) fn run(mut self, control: &Control) -> Result<Option<InteractionOutcome>> {
        while self.players.iter().any(|player| player.ended.is_none()) {
            let before = Instant::now();
            let Some(look) = self.look(control)? else { continue };
            if look.order {
                match control.order() {
                    Order::GiveUp => return Ok(None),
                    Order::Kill => self.kill_both()?,
                    Order::None => {}
                }
            }
            self.act(&look)?;
            // Only what a look after the time did not change is over: the host itself may have been held up.
            if self.deadline().is_some_and(|at| at <= before) {
                self.enforce()?;
            }
        }
        self.finish().map(Some)
    }

    /// When the silence, or the grace of the one that is left, is over.
    fn deadline(&self) -> Option<Instant> {
        match (self.players[0].ended, self.players[1].ended) {
            _ if self.players.iter().all(|player| player.killed || player.ended.is_some()) => None,
            (None, None) => self.last_progress.checked_add(self.rules.stall_time?),
            (Some(ended), _) | (_, Some(ended)) => ended.checked_add(self.rules.grace_time),
        }
    }

    /// Waits for news, at most until the deadline. `None` if it was interrupted.
    fn look(&self, control: &Control) -> Result<Option<Look>> {
        let mut watched = vec![Watched::Order];
        let mut set = vec![PollFd::new(control.wakeup(), PollFlags::POLLIN)];
        for (n, pump) in self.pumps.iter().enumerate() {
            if let Some((from, events)) = pump.wanted_from() {
                watched.push(Watched::From(n));
                set.push(PollFd::new(from.as_fd(), events));
            }
            if let Some((to, events)) = pump.wanted_to() {
                watched.push(Watched::To(n));
                set.push(PollFd::new(to.as_fd(), events));
            }
        }
        for (n, player) in self.players.iter().enumerate().filter(|(_, player)| player.ended.is_none()) {
            // Its main process, at once; else the init's report, or the death of the init without one.
            let (report, init) = (player.child.as_fd(), player.child.runtime().link.init().as_fd());
            for fd in player.child.pidfd().into_iter().chain([report, init]) {
                watched.push(Watched::Ended(n));
                set.push(PollFd::new(fd, PollFlags::POLLIN));
            }
        }
        let timeout = match self.deadline() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up: polling for 0 ms while a fraction is left would spin.
                PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut set, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(failed("waiting for two programs")(errno.into())),
        }
        let nothing = [PollFlags::empty(); 2];
        let mut look = Look { order: false, from: nothing, to: nothing, ended: [false; 2] };
        for (watched, entry) in watched.iter().zip(&set) {
            let events = entry.revents().unwrap_or(PollFlags::POLLERR);
            match *watched {
                Watched::Order => look.order = !events.is_empty(),
                Watched::From(n) => look.from[n] = events,
                Watched::To(n) => look.to[n] = events,
                Watched::Ended(n) => look.ended[n] |= !events.is_empty(),
            }
        }
        Ok(Some(look))
    }

    fn act(&mut self, look: &Look) -> Result<()> {
        let now = Instant::now();
        // First what each side did, then what the host does about it: that is news to the other side.
        for side in Side::BOTH {
            let n = side.index();
            if look.from[n].contains(PollFlags::POLLHUP) && !self.pumps[n].speaker_closed {
                self.pumps[n].speaker_closed = true;
                self.last_progress = now;
                let player = &mut self.players[n];
                if !player.killed {
                    player.closed_stdout = Some(now);
                }
            }
            if look.to[n].contains(PollFlags::POLLERR) {
                self.note_deaf(side.other(), now);
            }
        }
        for side in Side::BOTH {
            let n = side.index();
            if look.to[n].contains(PollFlags::POLLERR) {
                self.pumps[n].close();
            } else if look.from[n].intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
                self.hear(side, now)?;
            } else if look.to[n].contains(PollFlags::POLLOUT) {
                self.deliver(side, now)?;
            }
        }
        for (player, ended) in self.players.iter_mut().zip(look.ended) {
            if ended {
                player.ended = Some(now);
            }
        }
        Ok(())
    }

    /// Takes from one side and gives to the other.
    fn hear(&mut self, side: Side, now: Instant) -> Result<()> {
        let n = side.index();
        let taken = self.pumps[n].take().map_err(failed("reading what a program said"))?;
        if let Taken::Bytes(count) | Taken::Flood(count) = taken {
            self.last_progress = now;
            self.last_word = Some(side);
            if count > 0 {
                self.recorder.note(side, now - self.players[0].started, self.pumps[n].taken(count));
            }
        }
        if matches!(taken, Taken::Flood(_)) {
            // Before its pipe is closed: it is killed for the flood, and not by SIGPIPE.
            let player = &mut self.players[n];
            player.flooded = true;
            player.closed_stdout.get_or_insert(now);
            player.kill()?;
            self.pumps[n].cut();
        }
        self.deliver(side, now)
    }

    fn deliver(&mut self, side: Side, now: Instant) -> Result<()> {
        let n = side.index();
        match self.pumps[n].give().map_err(failed("passing on what a program said"))? {
            Given::Nothing => {}
            Given::Bytes => self.last_progress = now,
            Given::ListenerClosed => {
                self.note_deaf(side.other(), now);
                self.pumps[n].close();
            }
        }
        Ok(())
    }

    /// A side has closed its stdin.
    fn note_deaf(&mut self, side: Side, now: Instant) {
        self.last_progress = now;
        let player = &mut self.players[side.index()];
        if !player.killed {
            player.closed_stdin = Some(now);
        }
    }

    /// The time is over.
    fn enforce(&mut self) -> Result<()> {
        if self.players.iter().all(|player| player.ended.is_none()) {
            let mut can_wait = [false; 2];
            for side in Side::BOTH {
                can_wait[side.index()] = self.can_be_waiting(side)?;
            }
            self.first_to_stall = who_owes(can_wait, self.last_word, self.rules.opener);
            for side in Side::BOTH {
                let named = self.first_to_stall.is_none_or(|owes| owes == side);
                self.players[side.index()].stalled = named;
            }
        }
        self.kill_both()
    }

    /// Whether a side may be blocked by what its partner does not do.
    fn can_be_waiting(&self, side: Side) -> Result<bool> {
        let (hears, says) = (&self.pumps[side.other().index()], &self.pumps[side.index()]);
        let unread = hears.unread().map_err(failed("counting what a program has not read"))?;
        Ok((hears.is_open() && unread == 0) || says.pending() > 0)
    }

    fn kill_both(&mut self) -> Result<()> {
        self.players.iter_mut().try_for_each(Player::kill)
    }

    fn finish(self) -> Result<InteractionOutcome> {
        let origin = self.players[0].started;
        let first_to_close = earlier(self.players.each_ref().map(Player::closed));
        let counts = self.pumps.each_ref().map(|pump| (pump.sent, pump.delivered));
        let started = self.players.each_ref().map(|player| player.started);
        let [first, second] = self.players;
        let first = first.conclude(origin, counts[0].0, counts[1].1)?;
        let second = second.conclude(origin, counts[1].0, counts[0].1)?;
        let end = |n: usize, side: &SideOutcome| (side.ended, started[n] + side.outcome.usage.wall);
        let first_to_end = if end(1, &second) < end(0, &first) { Side::Second } else { Side::First };
        Ok(InteractionOutcome {
            first,
            second,
            first_to_close,
            first_to_end,
            first_to_stall: self.first_to_stall,
            transcript: self.recorder.finish(),
        })
    }
}

/// Whose time is the earlier one; nobody's if both are the same.
fn earlier(times: [Option<Instant>; 2]) -> Option<Side> {
    match times {
        [Some(_), None] => Some(Side::First),
        [None, Some(_)] => Some(Side::Second),
        [Some(first), Some(second)] if first < second => Some(Side::First),
        [Some(first), Some(second)] if second < first => Some(Side::Second),
        _ => None,
    }
}

/// The rules of [`Interaction::stall_time`].
fn who_owes(can_wait: [bool; 2], last_word: Option<Side>, opener: Option<Side>) -> Option<Side> {
    match can_wait {
        [true, false] => Some(Side::Second),
        [false, true] => Some(Side::First),
        _ => last_word.map(Side::other).or(opener),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_cannot_be_waiting_owes() {
        for last_word in [None, Some(Side::First), Some(Side::Second)] {
            assert_eq!(who_owes([true, false], last_word, Some(Side::First)), Some(Side::Second));
            assert_eq!(who_owes([false, true], last_word, Some(Side::Second)), Some(Side::First));
        }
    }

    #[test]
    fn else_the_one_that_was_spoken_to_last_owes() {
        for can_wait in [[true, true], [false, false]] {
            for side in Side::BOTH {
                assert_eq!(who_owes(can_wait, Some(side), Some(side)), Some(side.other()));
                assert_eq!(who_owes(can_wait, None, Some(side)), Some(side));
            }
            assert_eq!(who_owes(can_wait, None, None), None);
        }
    }

    #[test]
    fn the_same_time_is_nobodys() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        assert_eq!(earlier([None, None]), None);
        assert_eq!(earlier([Some(now), Some(now)]), None);
        assert_eq!(earlier([Some(now), Some(later)]), Some(Side::First));
        assert_eq!(earlier([Some(later), Some(now)]), Some(Side::Second));
        assert_eq!(earlier([Some(later), None]), Some(Side::First));
        assert_eq!(earlier([None, Some(later)]), Some(Side::Second));
    }
}
