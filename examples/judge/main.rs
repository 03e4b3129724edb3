//! An online judge in small: compiles and runs untrusted submissions, each in a sandbox of its own, and says what became
//! of them.
//!
//! ```text
//! cargo run --release --example judge -- [--only NAME]... [--repeat N] [--jobs N] [DIRECTORY]
//! ```
//!
//! DIRECTORY holds a `manifest.toml` like the one in `examples/judge/problems`, which is the default. `--only` picks a
//! problem, a file or one submission (`primes/nap.c`), `--repeat` judges each submission so many times, `--jobs` says
//! how many at once: twice as many as there are processors by default. One line for each run goes to stderr while the
//! judge works, the table to stdout. The exit code is 0 when every verdict is the one the manifest expects, 1 when one
//! is not, and 2 when nothing could be judged.
//!
//! Where to look: `policy.rs` has the sandboxes, `program.rs` compiles and runs programs in them, `interaction.rs` lets
//! two of them talk, `verdict.rs` makes the judge's words of the library's, `machine.rs` finds out what this host cannot
//! do. The rest would be the same without a sandbox.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks")]

mod grader;
mod interaction;
mod judge;
mod language;
mod machine;
mod manifest;
mod options;
mod policy;
mod problem_set;
mod program;
mod report;
mod run;
mod verdict;
mod workers;

use std::error::Error;
use std::process::ExitCode;

use judge::Judge;
use machine::Machine;
use options::Options;
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
    let options = Options::parse()?;
    let mut set = manifest::load(&options.directory)?;
    set.retain(|submission| options.selects(submission));
    if set.submissions.is_empty() {
        return Err("the manifest has no such submission".into());
    }
    let machine = Machine::examine(&set)?;
    report::problems(&set);
    report::machine(&machine);
    let judge = Judge::new(&set, &machine)?;

    let row = |submission| Row { submission, result: machine.obstacle(submission).map_or(Ok(vec![]), Err) };
    let mut rows: Vec<_> = set.submissions.iter().map(row).collect();
    let possible = rows.iter().enumerate().filter(|(_, row)| row.result.is_ok());
    let turns = possible.map(|(number, _)| number).collect::<Vec<_>>().repeat(options.repeat);
    let judged = workers::map(options.jobs, &turns, |turn, row| {
        let submission = &set.submissions[*row];
        judge.judge(submission, &Progress::new(turn + 1, turns.len(), submission))
    });
    for (row, runs) in turns.iter().zip(judged) {
        if let Ok(times) = &mut rows[*row].result {
            times.push(runs);
        }
    }
    Ok(report::table(&rows))
}
