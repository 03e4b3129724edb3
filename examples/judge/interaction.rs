//! A problem whose answer is a conversation: the submission and the problem's interactor run at once, each in a sandbox
//! and with a verdict of its own, and what one prints the other reads.

use belljar::{Command, Output, Plan, Sandbox, Stdio, Verdict};

use crate::Result;
use crate::grader::INPUT;
use crate::policy::{self, HELPER};
use crate::problem_set::{Limits, Test};
use crate::program::Program;
use crate::verdict::{self, Code, Finding, telling_line};

/// How a conversation ended, by the exit code of the interactor.
enum Ending {
    /// 0: the submission has solved it.
    Solved,
    /// 1: it has said something wrong, or what nobody understands.
    Wrong,
    /// 2: it has hung up.
    HungUp,
    /// Anything else.
    Broken,
}

/// Lets a submission and the interactor talk, and says what the submission's part is worth.
pub(crate) fn play(
    plan: &Plan,
    mut submission: Command,
    limits: &Limits,
    interactor: &Program<'_>,
    test: &Test,
) -> Result<(Finding, Output)> {
    submission.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::capture(limits.output));
    // It comes first: when somebody is there to talk to, nobody but the submission has its ends of the pipes any more. Were
    // it the other way round, one that closes its standard input could be answered all the same, as long as this process
    // had not got to close its copy.
    let mut player = plan.spawn(&submission)?;
    let sandbox = policy::with_file(interactor.sandbox(&HELPER), INPUT, &test.input);
    let interactor = join(&sandbox, interactor.command(), player.stdout.take(), player.stdin.take())?;

    // The submission ends by its limits at the latest, and the interactor then reads the end of the pipe.
    let said = interactor.wait_with_output()?;
    let ending = match said.outcome.verdict {
        Verdict::Exited(0) => Ending::Solved,
        Verdict::Exited(1) => Ending::Wrong,
        Verdict::Exited(2) => Ending::HungUp,
        _ => Ending::Broken,
    };
    if matches!(ending, Ending::Wrong | Ending::Broken) {
        // Nothing it does now matters any more.
        player.kill()?;
    }
    let output = player.wait_with_output()?;
    let finding = match (ending, verdict::of_program(&output)) {
        (Ending::Broken, _) => (Code::Judge, format!("the interactor: {}", verdict::remark(&said))),
        (Ending::Wrong, _) => (Code::Wrong, telling_line(&said.stderr)),
        (Ending::HungUp, (Code::Accepted, _)) => (Code::Wrong, telling_line(&said.stderr)),
        (Ending::HungUp | Ending::Solved, finding) => finding,
    };
    Ok((finding, output))
}

/// Starts the interactor at the other ends of the submission's pipes.
fn join(
    sandbox: &Sandbox,
    mut command: Command,
    from: Option<impl Into<Stdio>>,
    to: Option<impl Into<Stdio>>,
) -> Result<belljar::Child> {
    let (Some(from), Some(to)) = (from, to) else { return Err("the submission has no pipes".into()) };
    command.arg(INPUT).stdin(from).stdout(to).stderr(Stdio::capture(HELPER.output));
    // The command goes with its copies of the ends, and then only the interactor has them.
    Ok(sandbox.spawn(&command)?)
}
