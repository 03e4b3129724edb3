//! What this machine can do for a sandbox, and what to change for the rest.
//!
//! Exits with 0 if `Sandbox::new()` works here, else with 1.

use std::process::ExitCode;

use belljar::{Host, Status};

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn main() -> ExitCode {
    let host = Host::probe();
    print!("{host}");
    println!();
    match &host.sandbox().status {
        Status::Missing { remedy, .. } => {
            println!("Sandbox::new() does not work here. Remedy: {remedy}");
            ExitCode::FAILURE
        }
        _ => {
            println!("Sandbox::new() works here.");
            ExitCode::SUCCESS
        }
    }
}
