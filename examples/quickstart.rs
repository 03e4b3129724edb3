//! The README's example: run a program in a closed sandbox and look at what it did.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line program")]

use std::time::Duration;

use belljar::{Bytes, Command, Sandbox, UserMap};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", "print(sum(range(1_000_000)))"]);

    let sandbox = Sandbox::new().pid_ns().user_map(UserMap::auto()).memory_max(Bytes::mib(256)).pids_max(16);
    let output = sandbox.wall_time(Duration::from_secs(5)).output(&command)?;

    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    println!("{}, {:?} of CPU time", output.outcome.verdict, output.outcome.usage.cpu);
    Ok(())
}
