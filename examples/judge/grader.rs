//! Who says whether an answer is right: the judge by comparing, or a program of the problem's. That runs in a sandbox
//! too: it reads what a submission wrote to break it.

use belljar::{Output, Verdict};

use crate::machine::Machine;
use crate::policy::{self, HELPER};
use crate::problem_set::{Grading, Problem, Source, Test};
use crate::program::{Program, execute};
use crate::verdict::{self, Code, Finding};
use crate::{Result, verdict::telling_line};

#[derive(Debug)]
pub(crate) enum Grader<'a> {
    Answer,
    /// Is given the paths of the test's input and of the answer, and exits with 0 if that is right and with 1 if it is
    /// wrong.
    Checker(Program<'a>),
    /// See `interaction.rs`.
    Interactor(Program<'a>),
}

/// Where a checker and an interactor find the input of the test.
pub(crate) const INPUT: &str = "/box/input";
/// Where a checker finds what the submission printed.
const OUTPUT: &str = "/box/output";

impl<'a> Grader<'a> {
    pub(crate) fn prepare(problem: &Problem, machine: &'a Machine) -> Result<Self> {
        let compile = |source: &Source| {
            let (program, run) = Program::compile(source, machine);
            program.ok_or_else(|| format!("{}/{}: {}", problem.name, source.file, run.remark))
        };
        Ok(match &problem.grading {
            Grading::Answer => Self::Answer,
            Grading::Checker(source) => Self::Checker(compile(source)?),
            Grading::Interactor(source) => Self::Interactor(compile(source)?),
        })
    }

    /// What a program's run is worth. What it printed matters only if it succeeded.
    pub(crate) fn grade(&self, output: &Output, test: &Test) -> Result<Finding> {
        match (verdict::of_program(output), self) {
            ((Code::Accepted, _), Self::Checker(checker)) => check(checker, test, &output.stdout),
            ((Code::Accepted, _), _) => Ok(verdict::compare(&output.stdout, &test.answer)),
            (finding, _) => Ok(finding),
        }
    }
}

fn check(checker: &Program<'_>, test: &Test, printed: &[u8]) -> Result<Finding> {
    let sandbox = policy::with_file(checker.sandbox(&HELPER), INPUT, &test.input);
    let plan = policy::with_file(sandbox, OUTPUT, printed).plan()?;
    let mut command = checker.command();
    command.args([INPUT, OUTPUT]);
    let said = execute(&plan, command, &[], &HELPER)?;
    Ok(match said.outcome.verdict {
        Verdict::Exited(0) => (Code::Accepted, String::new()),
        Verdict::Exited(1) => (Code::Wrong, telling_line(&said.stderr)),
        _ => (Code::Judge, format!("the checker: {}", verdict::remark(&said))),
    })
}
