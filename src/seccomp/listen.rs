//! What a sandbox adds to a filter that its init installs: the calls by which a program is started, and a listener for
//! what the kernel itself does not tell.

use super::names::Arch;
use super::verdict::{Answer, Case, Condition, Test, Verdict, Width};
use crate::Result;

/// The last calls that the init makes for a program, under the filter already. None has six arguments.
const LAST_CALLS: [&str; 9] = [
    "chdir",
    "clock_gettime",
    "close_range",
    "execve",
    "exit_group",
    "getcwd",
    "ppoll",
    "recvmsg",
    "sendmsg",
];

/// What else a payload does under the filter that it has inherited, and one that forks such payloads.
const MORE_CALLS: [&str; 3] = ["close", "setsid", "write"];

/// The first argument of `clone`: `CLONE_PARENT_SETTID | CLONE_PARENT | CLONE_VM | SIGCHLD`.
const FORK: u64 = 0x0010_0000 | 0x8000 | 0x100 | 17;

/// The register of the sixth argument.
const SIXTH: u8 = 5;

/// The calls by which a thread comes back from a signal or goes. They are let through without a look at them: asked for, one
/// could not be undone by the next signal, and the others have nobody who would wait for an answer.
pub(crate) const UNOBSERVED: [&str; 4] = ["exit", "exit_group", "restart_syscall", "rt_sigreturn"];

/// Leaves every call that is let through to the listener.
pub(super) fn observe(verdicts: &mut [Verdict], arch: Arch) {
    let unobserved = UNOBSERVED.map(|name| arch.number(name));
    for (number, verdict) in (0..).zip(verdicts) {
        if !unobserved.contains(&Some(number)) {
            for answer in verdict.answers_mut().filter(|answer| answer.lets_through()) {
                *answer = Answer::Notify;
            }
        }
    }
}

/// What the filter leaves to its listener: the numbers that the host answers. All others that it hears of are to be killed
/// for. `None`: there is no need for one.
pub(super) fn listen(verdicts: &mut [Verdict]) -> Option<Vec<u32>> {
    let has = |verdict: &Verdict, answer| verdict.answers().any(|given| given == answer);
    let asked: Vec<u32> = (0..)
        .zip(&*verdicts)
        .filter(|(_, verdict)| has(verdict, Answer::Notify))
        .map(|(number, _)| number)
        .collect();
    let mut needed = !asked.is_empty();
    for verdict in verdicts.iter_mut() {
        // The listener is told the number only: of a call that is sometimes for the host, it could not say when to kill.
        if has(verdict, Answer::Kill) && !has(verdict, Answer::Notify) {
            needed = true;
            for answer in verdict.answers_mut().filter(|answer| **answer == Answer::Kill) {
                *answer = Answer::Notify;
            }
        }
    }
    needed.then_some(asked)
}

/// Whether payloads can inherit the filter from one that forks them: it lets all of them through that this takes. A token
/// would be everybody's then, and a listener could not tell whose program has made a call.
pub(super) fn is_inheritable(verdicts: &[Verdict], arch: Arch) -> bool {
    let answer = |name, arguments| {
        let number = arch.number(name).and_then(|number| usize::try_from(number).ok())?;
        Some(verdicts.get(number)?.answer_to(arguments))
    };
    let passes = |answer| matches!(answer, Some(Answer::Allow | Answer::Log));
    let fork = answer("clone", [FORK, 0, 0, 0, 0, 0]);
    passes(fork)
        && LAST_CALLS.iter().chain(&MORE_CALLS).all(|name| {
            let number = arch.number(name).and_then(|number| verdicts.get(usize::try_from(number).ok()?));
            number.is_some_and(|verdict| verdict.answers().all(|answer| passes(Some(answer))))
        })
}

/// Lets the calls that start a program pass with a token as a sixth argument, and returns that; 0 if they pass anyway. The
/// init puts another in its place for each program (`src/init/token.rs`), which that program cannot know: `execve` takes the
/// memory away in which it was.
pub(super) fn exempt(
    verdicts: &mut [Verdict],
    arch: Arch,
    new_token: impl Fn() -> Result<u64>,
) -> Result<u64> {
    let mut token = 0;
    for name in LAST_CALLS {
        let Some(verdict) = arch.number(name).and_then(|number| verdicts.get_mut(number as usize)) else {
            continue;
        };
        if verdict.answers().all(|answer| matches!(answer, Answer::Allow | Answer::Log)) {
            continue;
        }
        if token == 0 {
            token = new_token()?;
        }
        let condition = Condition { argument: SIXTH, width: Width::Full, test: Test::Token(token) };
        verdict.cases.insert(0, Case { conditions: vec![condition], answer: Answer::Allow });
    }
    Ok(token)
}
