//! What became of two programs that talked.

use std::time::Duration;

use super::transcript::Transcript;
use crate::outcome::Outcome;

/// One of the two programs of an [`Interaction`](crate::Interaction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that was given first.
    First,
    /// The other.
    Second,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// The partner of this side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// One side of a dialogue that has ended. Times are from the start of the first program, by `CLOCK_MONOTONIC`, as the
/// host noticed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SideOutcome {
    /// How it ended and what it used.
    pub outcome: Outcome,
    /// Captured standard error.
    pub stderr: Vec<u8>,
    /// Bytes that the host took from its stdout: at most
    /// [`bytes_max`](crate::Interaction::bytes_max).
    pub sent: u64,
    /// Bytes that the host put into its stdin. It may have ended without reading all of them.
    pub received: u64,
    /// When it closed its stdin, by `close(2)` or by ending. `None` if it did not before it was killed by the host or
    /// before its partner's words had come to their end.
    pub closed_stdin: Option<Duration>,
    /// When it closed its stdout, or had said more than it may. `None` if it did not before it was killed by the host or
    /// before its partner had closed the other end.
    pub closed_stdout: Option<Duration>,
    /// When its main process ended.
    pub ended: Duration,
}

impl SideOutcome {
    /// When it first closed one of the two streams, without being killed by the host.
    #[must_use]
    pub fn closed(&self) -> Option<Duration> {
        self.closed_stdin.into_iter().chain(self.closed_stdout).min()
    }
}

/// How a dialogue ended, for both sides.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InteractionOutcome {
    /// The side that was given first.
    pub first: SideOutcome,
    /// The other side.
    pub second: SideOutcome,
    /// Who closed a stream, ended, or flooded first: the earlier [`closed`](SideOutcome::closed). `None` if nobody did
    /// before the host killed both, or if the host found both at one look: then neither is the consequence of the other,
    /// for a side hears of its partner's closing from the host only.
    pub first_to_close: Option<Side>,
    /// Whose main process ended first, whoever ended it. Of two ends that the host found at one look the one with the
    /// earlier start and the shorter [`wall`](crate::Usage::wall) is the first. To find out who left whom, look at
    /// `first_to_close`: a process that ends closes its streams a moment before its end.
    pub first_to_end: Side,
    /// Who owed an answer for longer than the [stall time](crate::Interaction::stall_time), which has the rules. `None` if
    /// nobody did, or if it cannot be told: nobody ever said a word, and there is no [opener](crate::Interaction::opener).
    /// Then both have the verdict [`IdleExceeded`](crate::Verdict::IdleExceeded).
    pub first_to_stall: Option<Side>,
    /// Who said what and when, as far as the budget went.
    pub transcript: Transcript,
}

impl InteractionOutcome {
    /// One of the sides.
    #[must_use]
    pub fn side(&self, side: Side) -> &SideOutcome {
        match side {
            Side::First => &self.first,
            Side::Second => &self.second,
        }
    }
}
