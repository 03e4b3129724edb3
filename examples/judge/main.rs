//! An online judge in small: compiles and runs untrusted submissions, each in a sandbox of its own, and says what became
//! of them.
//!
//! ```text
//! cargo run --release --example judge [DIRECTORY]
//! ```
//!
//! DIRECTORY holds a `manifest.toml` like the one in `examples/judge/problems`, which is the default. One line for each
//! run goes to stderr while the judge works, the table to stdout. The exit code is 0 when every verdict is the one the
//! manifest expects, 1 when one is not, and 2 when nothing could be judged.
//!
//! Where to look: `policy.rs` has the sandboxes, `judge.rs` runs programs in them, `machine.rs` finds out what this host
//! cannot do. The rest would be the same without a sandbox.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks")]

mod judge;
mod language;
mod machine;
mod policy;
mod problem_set;
mod report;
mod verdict;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use machine::Machine;
use problem_set::ProblemSet;
use report::{Progress, Row};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("judge: {}", report::explain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

/// Whether every verdict was as expected.
fn run() -> Result<bool> {
    let set = ProblemSet::load(&directory()?)?;
    let machine = Machine::examine()?;
    report::problems(&set);
    report::machine(&machine);

    let mut rows = Vec::with_capacity(set.submissions.len());
    for (number, submission) in set.submissions.iter().enumerate() {
        let progress = Progress::new(number + 1, set.submissions.len(), submission);
        let result = match machine.obstacle(submission) {
            Some(reason) => Err(reason),
            None => Ok(judge::judge(submission, &progress)),
        };
        rows.push(Row { submission, result });
    }
    Ok(report::table(&rows))
}

fn directory() -> Result<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next();
    match (directory, arguments.next()) {
        (None, _) => Ok([env!("CARGO_MANIFEST_DIR"), "examples", "judge", "problems"].iter().collect()),
        (Some(directory), None) if !directory.as_encoded_bytes().starts_with(b"-") => Ok(directory.into()),
        _ => Err("usage: judge [DIRECTORY]".into()),
    }
}
