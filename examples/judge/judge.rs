//! Judging one submission: compile it in a sandbox, take what that printed, and run it in a fresh sandbox for each test.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use belljar::{Command, Output, Plan, Stdio, Usage};

use crate::problem_set::{Limits, Submission, Test};
use crate::report::{self, Progress};
use crate::verdict::{self, Code};
use crate::{Result, policy};

/// What became of one run, be it of the compiler or of a test.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Code,
    pub(crate) cpu: Duration,
    /// In bytes.
    pub(crate) peak: u64,
    /// For people.
    pub(crate) remark: String,
}

/// One run for each test, or the one run after which there was nothing to test.
pub(crate) fn judge(submission: &Submission, progress: &Progress) -> Vec<Run> {
    let (program, run) = compile(submission);
    progress.compiled(&run);
    let Some(program) = program else { return vec![run] };

    // One plan for every test: it holds the program, and is validated and laid out once.
    let Submission { language, problem, .. } = submission;
    let sandbox = policy::sandbox(&problem.limits);
    let plan = policy::with_program(sandbox, language.program(), &program).plan();
    let judge_test = |test: &Test| {
        let run = match &plan {
            Ok(plan) => attempt(plan, submission, test),
            Err(error) => Run::failed(error),
        };
        progress.tested(&test.name, &run);
        run
    };
    problem.tests.iter().map(judge_test).collect()
}

fn attempt(plan: &Plan, submission: &Submission, test: &Test) -> Run {
    match execute(plan, submission.language.run(), &test.input, &submission.problem.limits) {
        Ok(output) => Run::new(verdict::of_program(&output, &test.answer), &output.outcome.usage),
        Err(error) => Run::failed(error.as_ref()),
    }
}

/// The program, if the submission has one.
fn compile(submission: &Submission) -> (Option<Vec<u8>>, Run) {
    let language = submission.language;
    let sandbox = policy::sandbox(&policy::COMPILER);
    let sandbox = policy::with_source(sandbox, language.source(), &submission.source);
    let output = match sandbox.plan() {
        Ok(plan) => execute(&plan, language.compile(), &[], &policy::COMPILER),
        Err(error) => Err(error.into()),
    };
    match output {
        Ok(output) => {
            let run = Run::new(verdict::of_compiler(&output), &output.outcome.usage);
            (output.outcome.success().then_some(output.stdout), run)
        }
        Err(error) => (None, Run::failed(error.as_ref())),
    }
}

/// Runs a command in a sandbox of its own, to its end.
///
/// An error is always about the sandbox. Whatever the program does is in the outcome.
fn execute(plan: &Plan, mut command: Command, input: &[u8], limits: &Limits) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::capture(limits.output)).stderr(Stdio::capture(limits.output));
    let mut child = plan.spawn(&command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // This cannot hang. The sandbox's init takes the output away while we write, and a program that does not read
        // its input dies of its limits, which the init watches too. Then, or if it simply did not need all of it, the
        // pipe is broken, and that is the program's business.
        match stdin.write_all(input) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    Ok(child.wait_with_output()?)
}

impl Run {
    fn new((code, remark): (Code, String), usage: &Usage) -> Self {
        // Without a memory cgroup the largest process has to stand for all.
        Self { code, cpu: usage.cpu, peak: usage.peak_memory.unwrap_or(usage.max_rss), remark }
    }

    fn failed(error: &(dyn Error + 'static)) -> Self {
        Self { code: Code::Judge, cpu: Duration::ZERO, peak: 0, remark: report::explain(error) }
    }
}
