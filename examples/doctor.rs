//! What this machine can do for a sandbox, and what to change for the rest; and what on it makes measurements differ.
//!
//! Exits with 0 if `Sandbox::new()` works here, else with 1.

use std::io::{self, Write};
use std::process::ExitCode;

use belljar::{Host, Status};

fn main() -> io::Result<ExitCode> {
    let host = Host::probe();
    let mut out = io::stdout().lock();
    writeln!(out, "{host}")?;
    writeln!(out, "{}", Host::noise())?;
    if let Status::Missing { remedy, .. } = &host.sandbox().status {
        writeln!(out, "Sandbox::new() does not work here. Remedy: {remedy}")?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "Sandbox::new() works here.")?;
    Ok(ExitCode::SUCCESS)
}
