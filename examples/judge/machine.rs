//! What this machine cannot do, found out once, by trying it in a sandbox like those of the submissions.

use belljar::{Command, ErrorKind, Feature, Plan, Result, Skipped};

use crate::language::Language;
use crate::policy;
use crate::problem_set::Submission;
use crate::report;
use crate::verdict::Code;

#[derive(Debug)]
pub(crate) struct Machine {
    missing: Vec<(Language, String)>,
    skipped: Vec<Skipped>,
}

impl Machine {
    /// # Errors
    ///
    /// When no sandbox can be had at all.
    pub(crate) fn examine() -> Result<Self> {
        let plan = policy::sandbox(&policy::COMPILER).plan()?;
        let mut missing = Vec::new();
        for language in Language::ALL {
            if let Some(reason) = lacks(&plan, language)? {
                missing.push((language, reason));
            }
        }
        Ok(Self { missing, skipped: plan.enforced().skipped().to_vec() })
    }

    /// Each tool that is missing, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(|(_, reason)| reason.as_str())
    }

    /// Each protection that is not in force here, and why.
    pub(crate) fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Why a submission cannot be judged here, if it cannot.
    pub(crate) fn obstacle(&self, submission: &Submission) -> Option<String> {
        if let Some((_, reason)) = self.missing.iter().find(|(language, _)| *language == submission.language)
        {
            return Some(reason.clone());
        }
        // It will take what it can get: not without a limit.
        let needs_memory = submission.expected.contains(&Code::Memory);
        let limit = self.skipped.iter().find(|skipped| skipped.feature == Feature::MemoryMax)?;
        needs_memory.then(|| format!("no memory limit here: {}", limit.reason))
    }
}

/// Why a language cannot be used, if it cannot.
fn lacks(plan: &Plan, language: Language) -> Result<Option<String>> {
    let (tool, packages) = (language.tool(), language.packages());
    let why = match plan.output(Command::new(tool).arg("--version")) {
        Ok(output) if output.outcome.success() => return Ok(None),
        Ok(output) => format!("`{tool} --version`: {}", output.outcome.verdict),
        // A program that is not there is an error of its own kind, and never exit code 127.
        Err(error) if error.kind() == ErrorKind::Exec => report::causes(&error),
        Err(error) => return Err(error),
    };
    Ok(Some(format!("no {tool} ({why}); on Debian: apt-get install {packages}")))
}
