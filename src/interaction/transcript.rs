//! Who said what and when, in bounded memory.

use std::time::Duration;

use super::outcome::Side;

/// What was said, as far as the budget of [`Interaction::transcript`](crate::Interaction::transcript) went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transcript {
    /// The turns, in the order in which the host took them.
    pub turns: Vec<Turn>,
    /// Whether all that was said is here.
    pub complete: bool,
}

/// What one side said without a word of the other in between.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Who said it.
    pub side: Side,
    /// When the host took the first byte, from the start of the first program.
    pub at: Duration,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a turn costs besides its bytes: about the memory that it takes, so that a dialogue of single bytes is bounded,
/// too.
const TURN: u64 = 64;

#[derive(Debug)]
pub(super) struct Recorder {
    transcript: Transcript,
    left: u64,
}

impl Recorder {
    pub(super) fn new(budget: u64) -> Self {
        Self { transcript: Transcript { turns: Vec::new(), complete: true }, left: budget }
    }

    pub(super) fn note(&mut self, side: Side, at: Duration, bytes: &[u8]) {
        // After a gap nothing is recorded, so that what is here is a beginning and not a selection.
        if !self.transcript.complete {
            return;
        }
        let goes_on = self.transcript.turns.last().is_some_and(|turn| turn.side == side);
        if !goes_on {
            let Some(left) = self.left.checked_sub(TURN).filter(|left| *left > 0) else {
                self.transcript.complete = false;
                return;
            };
            self.left = left;
            self.transcript.turns.push(Turn { side, at, bytes: Vec::new() });
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(turn) = self.transcript.turns.last_mut() {
            turn.bytes.extend_from_slice(&bytes[..room]);
        }
        self.left -= room as u64;
        self.transcript.complete = room == bytes.len();
    }

    pub(super) fn finish(self) -> Transcript {
        self.transcript
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(budget: u64, said: &[(Side, &[u8])]) -> Transcript {
        let mut recorder = Recorder::new(budget);
        for (n, (side, bytes)) in said.iter().enumerate() {
            recorder.note(*side, Duration::from_secs(n as u64), bytes);
        }
        recorder.finish()
    }

    #[test]
    fn words_of_one_side_are_one_turn() {
        let said: [(Side, &[u8]); 3] = [(Side::First, b"a"), (Side::First, b"b"), (Side::Second, b"c")];
        let transcript = recorded(1000, &said);
        assert!(transcript.complete);
        let turn = |side, at, bytes: &[u8]| Turn { side, at: Duration::from_secs(at), bytes: bytes.to_vec() };
        assert_eq!(transcript.turns, [turn(Side::First, 0, b"ab"), turn(Side::Second, 2, b"c")]);
    }

    #[test]
    fn the_budget_counts_bytes_and_turns() {
        let said: [(Side, &[u8]); 3] = [(Side::First, b"abc"), (Side::Second, b"d"), (Side::First, b"e")];
        let whole = recorded(3 * TURN + 5, &said);
        assert!(whole.complete && whole.turns.len() == 3);
        let short = recorded(3 * TURN + 4, &said);
        assert!(!short.complete && short.turns.len() == 2);
        let shorter = recorded(TURN + 2, &said);
        assert!(!shorter.complete && shorter.turns.len() == 1 && shorter.turns[0].bytes == b"ab");
        let nothing = recorded(0, &said);
        assert!(!nothing.complete && nothing.turns.is_empty());
        assert!(recorded(0, &[]).complete);
    }

    #[test]
    fn after_a_gap_nothing_is_recorded() {
        let said: [(Side, &[u8]); 3] = [(Side::First, b"abcdef"), (Side::Second, b"g"), (Side::First, b"h")];
        let transcript = recorded(TURN + 3, &said);
        assert_eq!(transcript.turns.len(), 1);
        assert_eq!(transcript.turns[0].bytes, b"abc");
    }
}
