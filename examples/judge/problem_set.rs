//! The problem set: problems with their limits and tests, and submissions with what is expected of them.

use std::sync::Arc;
use std::time::Duration;

use belljar::{Bytes, Feature};
use serde::Deserialize;

use crate::language::Language;
use crate::verdict::Code;

#[derive(Debug)]
pub(crate) struct ProblemSet {
    pub(crate) problems: Vec<Arc<Problem>>,
    pub(crate) submissions: Vec<Submission>,
}

#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) name: String,
    pub(crate) task: String,
    pub(crate) limits: Limits,
    pub(crate) grading: Grading,
    pub(crate) tests: Vec<Test>,
}

/// Who says whether an answer is right.
#[derive(Debug)]
pub(crate) enum Grading {
    /// There is one right answer, which is compared with.
    Answer,
    /// There are many; this program looks at the answer.
    Checker(Source),
    /// The answer is a conversation; this program leads it.
    Interactor(Source),
}

#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) input: Vec<u8>,
    /// Empty where a checker or an interactor grades.
    pub(crate) answer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) problem: Arc<Problem>,
    pub(crate) source: Source,
    /// A code for each test, or CE alone.
    pub(crate) expected: Vec<Code>,
    /// Limits without which it is not run.
    pub(crate) needs: Vec<Need>,
}

/// A program as it was written.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) language: Language,
    pub(crate) text: Vec<u8>,
}

/// A limit that not every host can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    Memory,
    Processes,
    Cpu,
}

/// What one run may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) memory: Bytes,
    pub(crate) processes: u64,
    /// Of stdout and stderr together.
    pub(crate) output: Bytes,
}

impl ProblemSet {
    /// Leaves out the submissions that are not wanted, and the problems that nobody solves then.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&Submission) -> bool) {
        self.submissions.retain(wanted);
        let is_solved =
            |problem: &Arc<Problem>| self.submissions.iter().any(|s| Arc::ptr_eq(&s.problem, problem));
        self.problems.retain(is_solved);
    }

    /// The languages of the submissions and of what grades them, each once.
    pub(crate) fn languages(&self) -> Vec<Language> {
        let mut languages: Vec<_> = self.submissions.iter().flat_map(Submission::languages).collect();
        languages.sort_unstable();
        languages.dedup();
        languages
    }
}

impl Grading {
    /// The program that grades, if one does.
    pub(crate) fn source(&self) -> Option<&Source> {
        match self {
            Self::Answer => None,
            Self::Checker(source) | Self::Interactor(source) => Some(source),
        }
    }
}

impl Submission {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.problem.name, self.source.file)
    }

    /// The languages without which it cannot be judged.
    pub(crate) fn languages(&self) -> impl Iterator<Item = Language> + '_ {
        let sources = std::iter::once(&self.source).chain(self.problem.grading.source());
        sources.flat_map(|source| source.language.needs())
    }
}

impl Need {
    pub(crate) fn feature(self) -> Feature {
        match self {
            Self::Memory => Feature::MemoryMax,
            Self::Processes => Feature::PidsMax,
            Self::Cpu => Feature::CpuTime,
        }
    }
}
