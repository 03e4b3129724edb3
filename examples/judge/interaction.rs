//! A problem whose answer is a conversation: the submission and the problem's interactor run at once, each in a sandbox
//! and with a verdict of its own, and what one prints the other reads.

use belljar::{Command, Output, Plan, Stdio, Verdict};

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
    submission: Command,
    limits: &Limits,
    interactor: &Program<'_>,
    test: &Test,
) -> Result<(Finding, Output)> {
    let mut command = interactor.command();
    command.arg(INPUT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::capture(HELPER.output));
    let sandbox = policy::with_file(interactor.sandbox(&HELPER), INPUT, &test.input);
    // It comes first: the clock of the submission runs from the moment at which there is somebody to talk to.
    let mut interactor = sandbox.spawn(&command)?;
    let mut player = join(plan, submission, limits, interactor.stdin.take(), interactor.stdout.take())?;

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

/// Starts the submission at the other ends of the interactor's pipes.
fn join(
    plan: &Plan,
    mut command: Command,
    limits: &Limits,
    to: Option<impl Into<Stdio>>,
    from: Option<impl Into<Stdio>>,
) -> Result<belljar::Child> {
    let (Some(to), Some(from)) = (to, from) else { return Err("the interactor has no pipes".into()) };
    command.stdin(from).stdout(to).stderr(Stdio::capture(limits.output));
    // The command goes with its copies of the ends, and then only the submission has them: when it ends, or closes
    // one, the interactor learns of it.
    Ok(plan.spawn(&command)?)
}
