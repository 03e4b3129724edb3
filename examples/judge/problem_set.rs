//! The problem set: the manifest, and the files it names, all read before anything runs.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use belljar::Bytes;
use serde::Deserialize;

use crate::Result;
use crate::language::Language;
use crate::verdict::Code;

#[derive(Debug)]
pub(crate) struct ProblemSet {
    pub(crate) problems: Vec<Rc<Problem>>,
    pub(crate) submissions: Vec<Submission>,
}

#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) name: String,
    pub(crate) task: String,
    pub(crate) limits: Limits,
    pub(crate) tests: Vec<Test>,
}

#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) input: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) problem: Rc<Problem>,
    pub(crate) file: String,
    pub(crate) language: Language,
    pub(crate) source: Vec<u8>,
    /// A code for each test, or CE alone.
    pub(crate) expected: Vec<Code>,
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

/// The manifest as it is written.
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
}

impl ProblemSet {
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("manifest.toml");
        let text = String::from_utf8(read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let problems = manifest
            .problem
            .into_iter()
            .map(|entry| Problem::load(entry, directory).map(Rc::new))
            .collect::<Result<Vec<_>>>()?;
        let submissions = manifest
            .submission
            .into_iter()
            .map(|entry| Submission::load(entry, &problems, directory))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { problems, submissions })
    }
}

impl Problem {
    fn load(entry: ProblemEntry, directory: &Path) -> Result<Self> {
        let tests = directory.join(&entry.name).join("tests");
        let load = |name: String| -> Result<Test> {
            let input = read(&tests.join(format!("{name}.in")))?;
            let answer = read(&tests.join(format!("{name}.out")))?;
            Ok(Test { name, input, answer })
        };
        let tests = entry.tests.into_iter().map(load).collect::<Result<Vec<_>>>()?;
        Ok(Self { name: entry.name, task: entry.task, limits: entry.limits.into(), tests })
    }
}

impl Submission {
    fn load(entry: SubmissionEntry, problems: &[Rc<Problem>], directory: &Path) -> Result<Self> {
        let SubmissionEntry { problem, file, language, expect } = entry;
        let problem = problems
            .iter()
            .find(|known| known.name == problem)
            .ok_or_else(|| format!("{file} is for the problem `{problem}`, which is not in the manifest"))?;
        let expected = expected(&expect, problem.tests.len())
            .map_err(|error| format!("what {}/{file} is expected to do: {error}", problem.name))?;
        let source = read(&directory.join(&problem.name).join("submissions").join(&file))?;
        Ok(Self { problem: Rc::clone(problem), file, language, source, expected })
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.problem.name, self.file)
    }
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
