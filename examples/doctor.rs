//! What this machine can do for a sandbox, and what to change for the rest; and what on it makes measurements differ.
//! With a directory as its argument it also says how writable roots can be kept there.
//!
//! ```sh
//! cargo run --release --example doctor
//! cargo run --release --example doctor -- /var/tmp
//! ```
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
    if let Some(dir) = std::env::args_os().nth(1) {
        match Host::storage(dir) {
            Ok(report) => writeln!(out, "{report}")?,
            Err(error) => writeln!(out, "{error}\n")?,
        }
    }
    if let Status::Missing { remedy, .. } = &host.sandbox().status {
        writeln!(out, "Sandbox::new() does not work here. Remedy: {remedy}")?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "Sandbox::new() works here.")?;
    Ok(ExitCode::SUCCESS)
}
