//! What this machine has and has not, found out once, by trying it in sandboxes like those of the submissions.

use std::collections::BTreeMap;
use std::path::Path;

use belljar::{Enforced, ErrorKind, Mount, Skipped};

use crate::language::{Language, RUST_HOME};
use crate::problem_set::{Need, ProblemSet, Submission};
use crate::{Result, policy, report};

#[derive(Debug)]
pub(crate) struct Machine {
    tools: BTreeMap<Language, Vec<Mount>>,
    missing: BTreeMap<Language, String>,
    enforced: Enforced,
}

impl Machine {
    /// # Errors
    ///
    /// When no sandbox can be had at all.
    pub(crate) fn examine(set: &ProblemSet) -> Result<Self> {
        let mut tools = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for language in set.languages() {
            let mounts = mounts(language);
            if let Some(reason) = lacks(language, &mounts)? {
                missing.insert(language, reason);
            }
            tools.insert(language, mounts);
        }
        let enforced = policy::sandbox(&policy::COMPILER).plan()?.enforced().clone();
        Ok(Self { tools, missing, enforced })
    }

    /// What the tools of a language need besides the system view.
    pub(crate) fn tools(&self, language: Language) -> &[Mount] {
        self.tools.get(&language).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, language: Language) -> bool {
        !self.missing.contains_key(&language)
    }

    /// Each tool that is missing, and why.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.values().map(String::as_str)
    }

    /// Each protection that is not in force here, and why.
    pub(crate) fn skipped(&self) -> &[Skipped] {
        self.enforced.skipped()
    }

    /// Why a submission cannot be judged here, if it cannot.
    pub(crate) fn obstacle(&self, submission: &Submission) -> Option<String> {
        let language = submission.languages().find_map(|language| self.missing.get(&language));
        let limit = || submission.needs.iter().find_map(|need| self.without(*need));
        language.cloned().or_else(limit)
    }

    /// Why there is no such limit, if there is none.
    fn without(&self, need: Need) -> Option<String> {
        let what = match need {
            Need::Memory => "no memory limit",
            Need::Processes => "no limit on processes",
            Need::Cpu => "no exact count of CPU time",
        };
        let skipped = self.skipped().iter().find(|skipped| skipped.feature == need.feature())?;
        Some(format!("{what} here: {}", skipped.reason))
    }
}

/// What the tools of a language need besides the system view, as far as this machine has it.
fn mounts(language: Language) -> Vec<Mount> {
    match language {
        // Most have it from rustup, below a home directory that no sandbox sees.
        Language::Rust => rust_sysroot().map(|path| Mount::bind(path, RUST_HOME)).into_iter().collect(),
        // Debian's Java has links from /usr to its settings.
        Language::Java => {
            let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
            let java = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"java"));
            java.map(|entry| Mount::bind(entry.path(), entry.path())).collect()
        }
        _ => Vec::new(),
    }
}

fn rust_sysroot() -> Option<String> {
    let output = std::process::Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    Path::new(&path).join("bin/rustc").is_file().then_some(path)
}

/// Why a language cannot be used, if it cannot.
fn lacks(language: Language, tools: &[Mount]) -> Result<Option<String>> {
    let plan = policy::with_tools(policy::sandbox(&policy::COMPILER), tools).plan()?;
    let (tool, packages) = (language.tool(), language.packages());
    let why = match plan.output(language.probe()) {
        Ok(output) if output.outcome.success() => return Ok(None),
        Ok(output) => format!("it does not run: {}", output.outcome.verdict),
        // A program that is not there is an error of its own kind, and never exit code 127.
        Err(error) if error.kind() == ErrorKind::Exec => report::causes(&error),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(format!("no {tool} ({why}); on Debian: apt-get install {packages}")))
}
