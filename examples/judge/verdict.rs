//! The codes of the table, and how the evidence becomes one of them.

use std::fmt;
use std::str::FromStr;

use belljar::{OomScope, Outcome, Output, Verdict};

/// What became of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Accepted,
    Wrong,
    Compile,
    Exit(i32),
    Signal(i32),
    Cpu,
    Wall,
    Memory,
    Output,
    Syscall,
    /// The judge could not tell. No manifest expects it.
    Judge,
}

/// Every code and what it means, for people.
pub(crate) const LEGEND: [(&str, &str); 11] = [
    ("AC", "accepted"),
    ("WA", "wrong answer"),
    ("CE", "compile error"),
    ("EXIT:n", "ended with exit code n"),
    ("SIG:n", "killed by signal n (11: segmentation fault)"),
    ("CPU", "CPU time exceeded"),
    ("WALL", "wall time exceeded"),
    ("MLE", "memory limit exceeded"),
    ("OLE", "output limit exceeded"),
    ("SYS", "forbidden system call"),
    ("JE", "judge error"),
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.pad("AC"),
            Self::Wrong => f.pad("WA"),
            Self::Compile => f.pad("CE"),
            Self::Exit(code) => f.pad(&format!("EXIT:{code}")),
            Self::Signal(signal) => f.pad(&format!("SIG:{signal}")),
            Self::Cpu => f.pad("CPU"),
            Self::Wall => f.pad("WALL"),
            Self::Memory => f.pad("MLE"),
            Self::Output => f.pad("OLE"),
            Self::Syscall => f.pad("SYS"),
            Self::Judge => f.pad("JE"),
        }
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|error| format!("`{word}`: {error}"));
        match word.split_once(':').unwrap_or((word, "")) {
            ("AC", "") => Ok(Self::Accepted),
            ("WA", "") => Ok(Self::Wrong),
            ("CE", "") => Ok(Self::Compile),
            ("EXIT", code) => number(code).map(Self::Exit),
            ("SIG", signal) => number(signal).map(Self::Signal),
            ("CPU", "") => Ok(Self::Cpu),
            ("WALL", "") => Ok(Self::Wall),
            ("MLE", "") => Ok(Self::Memory),
            ("OLE", "") => Ok(Self::Output),
            ("SYS", "") => Ok(Self::Syscall),
            _ => Err(format!("`{word}` is no verdict to expect")),
        }
    }
}

/// What became of a run, with a remark for people.
pub(crate) type Finding = (Code, String);

/// What became of a program. Whether its answer is right is another question.
pub(crate) fn of_program(output: &Output) -> Finding {
    match of_verdict(output.outcome.verdict) {
        Code::Accepted => (Code::Accepted, String::new()),
        code => (code, remark(output)),
    }
}

/// What became of a compiler: whatever stopped it, the submission is to blame.
pub(crate) fn of_compiler(output: &Output) -> Finding {
    match of_program(output) {
        (code @ (Code::Accepted | Code::Judge), remark) => (code, remark),
        (_, remark) => (Code::Compile, remark),
    }
}

/// A run that came to nothing and in which the kernel killed a process for memory came to nothing for that, however it
/// shows: a shell whose command was killed exits with 137, a parent waits for ever for the child that it lost, or adds
/// up too few parts. One that is accepted all the same could spare that process.
pub(crate) fn for_want_of_memory((code, remark): Finding, outcome: &Outcome) -> Finding {
    let killed = outcome.usage.oom_kills.unwrap_or(0);
    match (code, outcome.oom.as_ref().map(|oom| oom.scope)) {
        (Code::Accepted | Code::Memory | Code::Judge, _) | (_, None) => (code, remark),
        (_, Some(OomScope::Sandbox)) => (Code::Memory, format!("{killed} killed for memory; {remark}")),
        // The machine had none left, which is not the program's doing.
        (_, Some(_)) => (Code::Judge, format!("{killed} killed for the host's memory; {remark}")),
    }
}

fn of_verdict(verdict: Verdict) -> Code {
    match verdict {
        Verdict::Exited(0) => Code::Accepted,
        Verdict::Exited(code) => Code::Exit(code),
        Verdict::Signaled(signal) => Code::Signal(signal),
        Verdict::CpuTimeExceeded => Code::Cpu,
        Verdict::WallTimeExceeded => Code::Wall,
        Verdict::MemoryExceeded => Code::Memory,
        Verdict::OutputExceeded => Code::Output,
        Verdict::SyscallDenied { .. } => Code::Syscall,
        // Killed from outside, or something that this example does not know yet: not the program's doing.
        _ => Code::Judge,
    }
}

/// What the library says, and what the program said.
pub(crate) fn remark(output: &Output) -> String {
    match telling_line(&output.stderr) {
        line if line.is_empty() => output.outcome.verdict.to_string(),
        line => format!("{}: {line}", output.outcome.verdict),
    }
}

/// Compares line by line; white space at the end of a line and empty lines at the end do not count.
pub(crate) fn compare(printed: &[u8], answer: &[u8]) -> Finding {
    let (printed, answer) = (lines(printed), lines(answer));
    let length = printed.len().max(answer.len());
    let show =
        |line: Option<&&[u8]>| line.map_or("the end".to_owned(), |line| format!("\"{}\"", harmless(line)));
    match (0..length).find(|&n| printed.get(n) != answer.get(n)) {
        None => (Code::Accepted, String::new()),
        Some(n) => {
            let remark = format!("line {}: {}, not {}", n + 1, show(printed.get(n)), show(answer.get(n)));
            (Code::Wrong, remark)
        }
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.trim_ascii_end().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect()
}

/// The line of a program's stderr that says most: the first that speaks of an error, or the last.
pub(crate) fn telling_line(stderr: &[u8]) -> String {
    let lines = lines(stderr);
    let error = lines.iter().find(|line| line.to_ascii_lowercase().windows(5).any(|word| word == b"error"));
    harmless(error.or(lines.last()).copied().unwrap_or_default())
}

/// What a program printed is as hostile as the program: no control characters reach the terminal, and no novels.
fn harmless(line: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
