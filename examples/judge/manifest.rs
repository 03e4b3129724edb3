//! The manifest, and the files it names, all read before anything runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use belljar::Bytes;
use serde::Deserialize;

use crate::Result;
use crate::language::Language;
use crate::problem_set::{Grading, Limits, Need, Problem, ProblemSet, Source, Submission, Test};
use crate::verdict::Code;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    problem: Vec<ProblemEntry>,
    submission: Vec<SubmissionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProblemEntry {
    name: String,
    task: String,
    tests: Vec<String>,
    limits: LimitsEntry,
    checker: Option<ProgramEntry>,
    interactor: Option<ProgramEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramEntry {
    file: String,
    language: Language,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsEntry {
    cpu_ms: u64,
    wall_ms: u64,
    memory_mib: u64,
    processes: u64,
    output_kib: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmissionEntry {
    problem: String,
    file: String,
    language: Language,
    expect: String,
    #[serde(default)]
    needs: Vec<Need>,
}

pub(crate) fn load(directory: &Path) -> Result<ProblemSet> {
    let path = directory.join("manifest.toml");
    let text = String::from_utf8(read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let problems = manifest
        .problem
        .into_iter()
        .map(|entry| problem(entry, directory).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    let submissions = manifest
        .submission
        .into_iter()
        .map(|entry| submission(entry, &problems, directory))
        .collect::<Result<Vec<_>>>()?;
    Ok(ProblemSet { problems, submissions })
}

fn problem(entry: ProblemEntry, directory: &Path) -> Result<Problem> {
    let directory = directory.join(&entry.name);
    let grading = match (entry.checker, entry.interactor) {
        (None, None) => Grading::Answer,
        (Some(checker), None) => Grading::Checker(source(checker, &directory)?),
        (None, Some(interactor)) => Grading::Interactor(source(interactor, &directory)?),
        (Some(_), Some(_)) => {
            return Err(format!("{} has both a checker and an interactor", entry.name).into());
        }
    };
    let load = |name: String| -> Result<Test> {
        let part = |extension: &str| read(&directory.join("tests").join(format!("{name}.{extension}")));
        let answer = if matches!(grading, Grading::Answer) { part("out")? } else { Vec::new() };
        Ok(Test { input: part("in")?, answer, name })
    };
    let tests = entry.tests.into_iter().map(load).collect::<Result<Vec<_>>>()?;
    Ok(Problem { name: entry.name, task: entry.task, limits: entry.limits.into(), grading, tests })
}

fn submission(entry: SubmissionEntry, problems: &[Arc<Problem>], directory: &Path) -> Result<Submission> {
    let SubmissionEntry { problem, file, language, expect, mut needs } = entry;
    let problem = problems
        .iter()
        .find(|known| known.name == problem)
        .ok_or_else(|| format!("{file} is for the problem `{problem}`, which is not in the manifest"))?;
    let expected = expected(&expect, problem.tests.len())
        .map_err(|error| format!("what {}/{file} is expected to do: {error}", problem.name))?;
    if expected.contains(&Code::Memory) {
        // It will take what it can get.
        needs.push(Need::Memory);
    }
    let directory = directory.join(&problem.name).join("submissions");
    let source = source(ProgramEntry { file, language }, &directory)?;
    Ok(Submission { problem: Arc::clone(problem), source, expected, needs })
}

fn source(entry: ProgramEntry, directory: &Path) -> Result<Source> {
    let text = read(&directory.join(&entry.file))?;
    Ok(Source { file: entry.file, language: entry.language, text })
}

/// One code for each of the tests; one word counts for all.
fn expected(words: &str, tests: usize) -> Result<Vec<Code>, String> {
    let codes = words.split_whitespace().map(str::parse).collect::<Result<Vec<Code>, _>>()?;
    match codes.as_slice() {
        [Code::Compile] => Ok(codes),
        [code] => Ok(vec![*code; tests]),
        codes if codes.contains(&Code::Compile) => Err("CE stands alone".to_owned()),
        codes if codes.len() != tests => Err(format!("{} verdicts for {tests} tests", codes.len())),
        _ => Ok(codes),
    }
}

impl From<LimitsEntry> for Limits {
    fn from(entry: LimitsEntry) -> Self {
        Self {
            cpu: Duration::from_millis(entry.cpu_ms),
            wall: Duration::from_millis(entry.wall_ms),
            memory: Bytes::mib(entry.memory_mib),
            processes: entry.processes,
            output: Bytes::kib(entry.output_kib),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}
