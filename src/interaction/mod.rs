//! Two sandboxed programs that talk to each other.

mod outcome;
mod pump;
mod referee;
mod running;
mod transcript;

use std::time::Duration;

pub use outcome::{InteractionOutcome, Side, SideOutcome};
pub use running::Dialogue;
pub use transcript::{Transcript, Turn};

use crate::command::{Command, Stdio, StdioKind};
use crate::error::{Error, Result};
use crate::limits::Bytes;
use crate::plan::Plan;

/// Connects two programs, each in a sandbox of its own: what the one writes to its stdout, the other reads from its
/// stdin, and the other way round. An interactor and a submission, say.
///
/// ```text
///  sandbox of the first             host: one thread              sandbox of the second
///   program ── stdout ─▶ pipe ─▶ at most 64 KiB, counted ─▶ pipe ─▶ stdin ── program
///   program ◀─ stdin ── pipe ◀─ at most 64 KiB, counted ◀─ pipe ◀─ stdout ── program
/// ```
///
/// Both have real pipes, and what they notice of each other is what two ends of one pipe notice:
///
/// - A program that is not listened to waits in `write(2)` when the pipes are full: 64 KiB each, as the kernel makes
///   them, and what the host holds.
/// - When a program closes its stdout or ends, its partner reads all that was said and then the end of the file.
/// - When a program closes its stdin or ends, its partner gets `SIGPIPE` or `EPIPE` at its next write, as soon as the
///   host has noticed, which is a moment later than with one pipe; what it wrote in that moment is lost.
///
/// The host moves every byte by `read(2)` and `write(2)`, so that what it counts and records is what arrives, in a
/// thread of its own with all signals blocked: `SIGPIPE` stays pending there, whatever the disposition of the host, and
/// no handler of the host runs in it.
///
/// The limits of each sandbox hold for its own program. Set [`wall_time`](crate::Sandbox::wall_time) in both: a dialogue
/// without it, and without a [`stall_time`](Interaction::stall_time), may go on for ever.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use belljar::{Bytes, Command, Interaction, Sandbox, Side, Verdict};
///
/// let plan = Sandbox::new().wall_time(Duration::from_secs(10)).plan()?;
/// let talk = Interaction::new().bytes_max(Bytes::mib(1)).stall_time(Duration::from_secs(2));
/// let (interactor, submission) = (Command::new("/judge/interactor"), Command::new("/submission/main"));
/// let outcome = talk.run((&plan, &interactor), (&plan, &submission))?;
///
/// if outcome.first_to_stall == Some(Side::Second) {
///     println!("the submission owed an answer for two seconds");
/// } else if outcome.first_to_close == Some(Side::Second) {
///     println!("the submission hung up first: {}", outcome.second.outcome.verdict);
/// } else if outcome.first.outcome.verdict == Verdict::Exited(0) {
///     println!("accepted after {} bytes", outcome.second.sent);
/// }
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Interaction {
    bytes_max: Bytes,
    stall_time: Option<Duration>,
    grace_time: Duration,
    transcript_max: Bytes,
    opener: Option<Side>,
}

impl Default for Interaction {
    fn default() -> Self {
        Self {
            bytes_max: Bytes::mib(16),
            stall_time: None,
            grace_time: Duration::from_secs(5),
            transcript_max: Bytes::new(0),
            opener: None,
        }
    }
}

impl Interaction {
    /// 16 MiB each way, no stall time, 5 s of grace, no transcript.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes each side may say; 16 MiB by default. The partner gets exactly so many of a side that says more,
    /// which is then killed: [`OutputExceeded`](crate::Verdict::OutputExceeded).
    pub fn bytes_max(mut self, bytes: impl Into<Bytes>) -> Self {
        self.bytes_max = bytes.into();
        self
    }

    /// How long both may be silent while both live; no limit by default. Silent means that no byte passed the host
    /// either way, and that neither closed a stream; what a program does otherwise, computing included, does not count.
    /// Then both are killed, and the one that owes is named in
    /// [`first_to_stall`](InteractionOutcome::first_to_stall).
    ///
    /// Which one owes follows from the pipes as they are at that moment:
    ///
    /// 1. A side *can be waiting* for its partner if its stdin is open and holds nothing unread, so that it may be
    ///    blocked in `read(2)`; or if what it said does not fit into its partner's pipe, so that it may be blocked in
    ///    `write(2)`. If only one of them can be waiting, the other owes.
    /// 2. Else the one whose last word is older owes: it was spoken to and has not answered.
    /// 3. If neither ever said a word, the [opener](Interaction::opener) owes. Without one, nobody is named.
    ///
    /// The one that owes has the verdict [`IdleExceeded`](crate::Verdict::IdleExceeded) and its partner
    /// [`Killed`](crate::Verdict::Killed); where nobody is named, both have `IdleExceeded`. The host knows no protocol: a
    /// program that leaves half a line to its partner has spoken, and one that never flushes its buffer has not.
    pub fn stall_time(mut self, limit: Duration) -> Self {
        self.stall_time = Some(limit);
        self
    }

    /// How long a side may go on when its partner has ended; 5 s by default. Its stdin has come to its end by then, or
    /// will as soon as it has read what is left. After that it is killed: [`Killed`](crate::Verdict::Killed). Its own
    /// limits hold meanwhile.
    pub fn grace_time(mut self, limit: Duration) -> Self {
        self.grace_time = limit;
        self
    }

    /// Records who said what and when, in so much memory of the host; nothing by default. A turn costs its bytes and 64
    /// more. What is beyond is counted but not recorded.
    pub fn transcript(mut self, budget: impl Into<Bytes>) -> Self {
        self.transcript_max = budget.into();
        self
    }

    /// Who is to say the first word: it is the one that stalls if nobody does.
    pub fn opener(mut self, side: Side) -> Self {
        self.opener = Some(side);
        self
    }

    /// Runs both to their ends.
    ///
    /// # Errors
    ///
    /// As [`start`](Interaction::start) and [`Dialogue::wait`].
    pub fn run(&self, first: (&Plan, &Command), second: (&Plan, &Command)) -> Result<InteractionOutcome> {
        self.start(first, second)?.wait()
    }

    /// Starts both, the first one a few milliseconds earlier, and returns while they talk. What they write to stderr goes
    /// where their commands say; if it is captured it is in [`SideOutcome::stderr`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a stall time of zero, for a command whose stdin or stdout is
    /// anything but piped or not set, or whose stderr is piped. Whatever [`Plan::spawn`] may say about either program: then
    /// the other one is killed, too. [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) when there is no thread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Interaction, Sandbox, Side};
    ///
    /// let plan = Sandbox::new().plan()?;
    /// let mut ask = Command::new("/bin/sh");
    /// ask.args(["-c", "echo 6 7; read answer; test $answer = 42"]);
    /// let mut answer = Command::new("/bin/sh");
    /// answer.args(["-c", "read a b; echo $((a * b))"]);
    ///
    /// let dialogue = Interaction::new().start((&plan, &ask), (&plan, &answer))?;
    /// let outcome = dialogue.wait()?;
    /// assert!(outcome.side(Side::First).outcome.success());
    /// assert_eq!((outcome.first.sent, outcome.second.sent), (4, 3));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn start(&self, first: (&Plan, &Command), second: (&Plan, &Command)) -> Result<Dialogue> {
        if self.stall_time == Some(Duration::ZERO) {
            return Err(Error::invalid("a stall time of zero leaves no time to answer"));
        }
        let commands = [connected(first.1)?, connected(second.1)?];
        Dialogue::start(self.clone(), [first.0, second.0], &commands)
    }
}

/// The command with pipes to the host. What it says otherwise would be lost without a word, so it is refused.
fn connected(command: &Command) -> Result<Command> {
    for (stream, name) in command.stdio.iter().zip(["stdin", "stdout"]) {
        if !matches!(stream, None | Some(Stdio(StdioKind::Piped))) {
            return Err(Error::invalid(format!(
                "{name} of a program in an interaction leads to its partner"
            ))
            .with_hint("do not set it in the command"));
        }
    }
    if matches!(command.stdio[2], Some(Stdio(StdioKind::Piped))) {
        return Err(Error::invalid("nobody reads a piped stderr of an interaction")
            .with_hint("capture it with Stdio::capture, or give it a file"));
    }
    if command.pty.is_some() {
        return Err(Error::invalid("nobody reads the terminal of a program in an interaction")
            .with_hint("give it no terminal"));
    }
    let mut command = command.clone();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_lead_elsewhere_are_refused() {
        let set: [fn(&mut Command); 4] = [
            |command| {
                command.stdin(Stdio::null());
            },
            |command| {
                command.stdout(Stdio::inherit());
            },
            |command| {
                command.stdout(Stdio::capture(10_u64));
            },
            |command| {
                command.stderr(Stdio::piped());
            },
        ];
        for set in set {
            let mut command = Command::new("x");
            set(&mut command);
            let error = connected(&command).expect_err("it says something else");
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig);
            assert!(error.hint().is_some());
        }
        let mut command = Command::new("x");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        connected(&command).expect("it says what is so anyway");
    }
}
