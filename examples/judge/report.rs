//! What people see: progress, the table, and errors with their remedies.

use std::error::Error;

use crate::machine::Machine;
use crate::problem_set::{Grading, Limits, ProblemSet, Submission};
use crate::run::Run;
use crate::verdict::{Code, LEGEND};

/// An error and its causes.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

/// An error, its causes, and what to do about it if the library knows.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<belljar::Error>().and_then(belljar::Error::hint) {
        Some(hint) => format!("{}; {hint}", causes(error)),
        None => causes(error),
    }
}

/// Says what is to be solved, and within what.
pub(crate) fn problems(set: &ProblemSet) {
    for problem in &set.problems {
        let Limits { cpu, wall, memory, processes, output } = problem.limits;
        let tests: Vec<_> = problem.tests.iter().map(|test| test.name.as_str()).collect();
        eprintln!("{}: {}", problem.name, problem.task);
        let graded = match &problem.grading {
            Grading::Answer => String::new(),
            Grading::Checker(source) => format!("; graded by {}", source.file),
            Grading::Interactor(source) => format!("; a conversation with {}", source.file),
        };
        eprintln!("  tests: {}{graded}", tests.join(", "));
        eprintln!(
            "  limits: {cpu:?} CPU, {wall:?} wall, {memory}, {processes} processes, {output} of output"
        );
    }
}

/// Says what this machine cannot do.
pub(crate) fn machine(machine: &Machine) {
    for reason in machine.missing() {
        eprintln!("missing: {reason}");
    }
    let skipped = machine.skipped().iter();
    for (reason, features) in
        by_reason(skipped.map(|skipped| (&*skipped.reason, skipped.feature.to_string())))
    {
        eprintln!("weaker here: {}: {reason}", features.join(", "));
    }
}

/// Tells of each run as soon as it has ended.
#[derive(Debug)]
pub(crate) struct Progress {
    prefix: String,
}

impl Progress {
    pub(crate) fn new(number: usize, count: usize, submission: &Submission) -> Self {
        let width = count.to_string().len();
        Self { prefix: format!("[{number:>width$}/{count}] {:<18}", submission.name()) }
    }

    pub(crate) fn compiled(&self, run: &Run) {
        match run.code {
            Code::Accepted => self.line("compile", "ok", run),
            code => self.line("compile", &code.to_string(), run),
        }
    }

    pub(crate) fn tested(&self, test: &str, run: &Run) {
        self.line(test, &run.code.to_string(), run);
    }

    fn line(&self, what: &str, code: &str, run: &Run) {
        let Run { cpu, peak, remark, .. } = run;
        let line = format!(
            "{} {what:<8} {code:<7} {:>5} ms {:>6.1} MiB  {remark}",
            self.prefix,
            cpu.as_millis(),
            mib(*peak)
        );
        // Standard error is not buffered: the line is out now.
        eprintln!("{}", line.trim_end());
    }
}

/// A submission, and each time that it was judged, or why it was not.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) submission: &'a Submission,
    pub(crate) result: Result<Vec<Vec<Run>>, String>,
}

impl Row<'_> {
    fn is_as_expected(&self, runs: &[Run]) -> bool {
        runs.iter().map(|run| run.code).eq(self.submission.expected.iter().copied())
    }

    fn wrong(&self) -> usize {
        self.result.iter().flatten().filter(|runs| !self.is_as_expected(runs)).count()
    }

    /// The first time that it went wrong, or else the first time.
    fn shown(&self) -> Option<&[Run]> {
        let times = self.result.as_ref().ok()?;
        times.iter().find(|runs| !self.is_as_expected(runs)).or(times.first()).map(Vec::as_slice)
    }
}

/// Prints the table and says whether every verdict is as expected.
pub(crate) fn table(rows: &[Row<'_>]) -> bool {
    println!(
        "\n{:<14}{:<9}{:<22}{:>7}{:>10}",
        "submission", "problem", "verdict per test", "CPU ms", "peak MiB"
    );
    rows.iter().for_each(print_row);
    let width = LEGEND.iter().map(|(code, _)| code.len()).max().unwrap_or(0);
    println!();
    for (code, meaning) in LEGEND {
        println!("{code:<width$}  {meaning}");
    }
    println!("CPU time and memory are those of the test that took most; with CE, the compiler's.");

    let skipped = print_skipped(rows);
    let wrong = rows.iter().filter(|row| row.wrong() > 0).count();
    let right = rows.len() - skipped - wrong;
    println!("\n{} submissions: {right} as expected, {wrong} not, {skipped} skipped", rows.len());
    print_repetitions(rows);
    wrong == 0
}

/// Says how it went when everything was judged several times.
fn print_repetitions(rows: &[Row<'_>]) {
    let judged: usize = rows.iter().flat_map(|row| &row.result).map(Vec::len).sum();
    if judged > rows.len() {
        let wrong: usize = rows.iter().map(Row::wrong).sum();
        let runs: usize = rows.iter().flat_map(|row| &row.result).flatten().map(Vec::len).sum();
        println!("judged {judged} times, {runs} verdicts in all: {wrong} times not as expected");
    }
}

fn print_row(row: &Row<'_>) {
    let Submission { problem, source, .. } = row.submission;
    let start = format!("{:<14}{:<9}", source.file, problem.name);
    let Some(runs) = row.shown() else {
        println!("{start}skipped");
        return;
    };
    let cpu = runs.iter().map(|run| run.cpu.as_millis()).max().unwrap_or(0);
    let peak = runs.iter().map(|run| run.peak).max().unwrap_or(0);
    let codes: Vec<_> = runs.iter().map(|run| run.code).collect();
    let line = format!("{start}{:<22}{cpu:>7}{:>10.1}", words(&codes), mib(peak));
    match row.is_as_expected(runs) {
        true => println!("{line}"),
        false => println!("{line}  EXPECTED {}", words(&row.submission.expected)),
    }
}

/// Says which submissions were not judged, and how many they are.
fn print_skipped(rows: &[Row<'_>]) -> usize {
    let skipped: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.result.as_ref().err()?.as_str(), row.submission.name())))
        .collect();
    let count = skipped.len();
    for (reason, names) in by_reason(skipped) {
        println!("\nskipped: {}\n  {reason}", names.join(" "));
    }
    count
}

/// Gathers the names that have the same reason, in their order.
fn by_reason<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Vec<(&'a str, Vec<String>)> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (reason, name) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => groups.push((reason, vec![name])),
        }
    }
    groups
}

fn words(codes: &[Code]) -> String {
    let columns: String = codes.iter().map(|code| format!("{code:<7}")).collect();
    columns.trim_end().to_owned()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
