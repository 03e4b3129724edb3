//! Judging one submission: compile it in a sandbox, take what that printed, and run it in a fresh sandbox for each test.

use std::collections::BTreeMap;

use belljar::Plan;

use crate::grader::Grader;
use crate::machine::Machine;
use crate::problem_set::{ProblemSet, Submission, Test};
use crate::program::{Program, execute};
use crate::report::Progress;
use crate::run::Run;
use crate::{Result, interaction, verdict};

#[derive(Debug)]
pub(crate) struct Judge<'a> {
    machine: &'a Machine,
    /// By the names of the problems.
    graders: BTreeMap<&'a str, Grader<'a>>,
}

impl<'a> Judge<'a> {
    /// Compiles what grades the problems.
    ///
    /// # Errors
    ///
    /// When a checker or an interactor does not compile, although its language is there.
    pub(crate) fn new(set: &'a ProblemSet, machine: &'a Machine) -> Result<Self> {
        let mut graders = BTreeMap::new();
        for problem in &set.problems {
            if problem.grading.source().is_none_or(|source| machine.has(source.language)) {
                graders.insert(problem.name.as_str(), Grader::prepare(problem, machine)?);
            }
        }
        Ok(Self { machine, graders })
    }

    /// One run for each test, or the one run after which there was nothing to test.
    pub(crate) fn judge(&self, submission: &Submission, progress: &Progress) -> Vec<Run> {
        let (program, run) = Program::compile(&submission.source, self.machine);
        progress.compiled(&run);
        let Some(program) = program else { return vec![run] };

        // One plan for every test: it holds the program, and is validated and laid out once.
        let problem = &submission.problem;
        let plan = program.sandbox(&problem.limits).plan();
        let judge_test = |test: &Test| {
            let run = match &plan {
                Ok(plan) => self.attempt(plan, submission, &program, test),
                Err(error) => Run::failed(error),
            };
            progress.tested(&test.name, &run);
            run
        };
        problem.tests.iter().map(judge_test).collect()
    }

    fn attempt(&self, plan: &Plan, submission: &Submission, program: &Program<'_>, test: &Test) -> Run {
        let limits = &submission.problem.limits;
        let played = match self.graders.get(submission.problem.name.as_str()) {
            Some(Grader::Interactor(interactor)) => {
                interaction::play(plan, program.command(), limits, interactor, test)
            }
            Some(grader) => execute(plan, program.command(), &test.input, limits)
                .and_then(|output| Ok((grader.grade(&output, test)?, output))),
            None => Err("nobody grades this problem".into()),
        };
        match played {
            Ok((finding, output)) => {
                Run::new(verdict::for_want_of_memory(finding, &output.outcome), &output.outcome.usage)
            }
            Err(error) => Run::failed(error.as_ref()),
        }
    }
}
