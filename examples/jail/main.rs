//! `jail`: the library as a command line, for shells, scripts and tests. `jail --help` says what it takes.
//!
//! Every option is one call of [`belljar::Sandbox`]; `options` is where to look which. The exit code is the program's,
//! or one of the table that `--help` ends with.

mod access;
mod arguments;
mod options;
mod passthrough;
mod policy;
mod report;
mod schedule;
mod value;

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use belljar::{Outcome, Stdio, Verdict};

use options::{Request, Run, USAGE};
use passthrough::Passthrough;

/// The sandbox could not be set up, or the command line is wrong.
const SETUP_FAILED: u8 = 125;
/// A time or output limit, as `timeout(1)` has it.
const LIMIT: u8 = 124;
/// Added to the number of a signal, as shells do.
const SIGNALED: i32 = 128;

fn main() -> ExitCode {
    let result = match options::parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => print(USAGE),
        Ok(Request::Policy(sandbox)) => policy::text(&sandbox).and_then(|text| print(&text)),
        Ok(Request::Run(run)) => run_it(*run),
        Err(message) => Err(message),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "jail: {}", one_line(&message));
            ExitCode::from(SETUP_FAILED)
        }
    }
}

fn run_it(mut run: Run) -> Result<u8, String> {
    let plan = run.sandbox.plan().map_err(explain)?;
    if run.plan_only {
        return print(&format!("{plan}\n"));
    }
    // Opened first: a report that cannot be written should not cost a run.
    let report = match &run.report {
        Some(path) => {
            let file = File::create(path).map_err(|error| cannot_report(path, &error))?;
            Some((path, file))
        }
        None => None,
    };
    let passthrough = match run.output {
        Some(budget) => {
            run.command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let made = Passthrough::new(budget.get());
            Some(made.map_err(|error| format!("preparing to pass output on: {error}"))?)
        }
        None => None,
    };
    let mut child = plan.spawn(&run.command).map_err(explain)?;
    let outcome = match passthrough {
        Some(passthrough) => passthrough.wait(&mut child)?,
        None => child.wait().map_err(explain)?,
    };
    if let Some((path, mut file)) = report {
        report::write(&mut file, &outcome).map_err(|error| cannot_report(path, &error))?;
    }
    Ok(exit_code(&outcome))
}

fn exit_code(outcome: &Outcome) -> u8 {
    let code = match outcome.verdict {
        Verdict::Exited(code) => code,
        Verdict::Signaled(signal) => SIGNALED + signal,
        Verdict::CpuTimeExceeded
        | Verdict::WallTimeExceeded
        | Verdict::IdleExceeded
        | Verdict::OutputExceeded => LIMIT.into(),
        Verdict::SyscallDenied { .. } => SIGNALED + SIGSYS,
        // All that is left ended by SIGKILL: for memory, or from outside.
        _ => SIGNALED + SIGKILL,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;

fn print(text: &str) -> Result<u8, String> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough (`jail --plan … | head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("writing to stdout: {error}")),
        _ => Ok(0),
    }
}

fn cannot_report(path: &std::path::Path, error: &io::Error) -> String {
    format!("writing the report {}: {error}", path.display())
}

/// Message, causes and remedy of a failure.
fn explain(error: belljar::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("; {hint}"));
    }
    text
}

/// Names may hold anything; a message is one line of printable text.
fn one_line(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
