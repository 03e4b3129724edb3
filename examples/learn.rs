//! Learns what a program needs, and runs it again with that and nothing else.
//!
//! ```text
//! learn [PROGRAM [ARGUMENT…]]    the needs of a program, /usr/bin/sort /etc/passwd unless another is named
//! learn --cost                   what learning costs each system call
//! ```

#![expect(clippy::print_stdout, reason = "the needs are the result")]

use std::process::ExitCode;
use std::time::Instant;

use belljar::{Command, Needs, Sandbox};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match args.first() {
        Some(first) if first == "--cost" => cost(),
        Some(program) => {
            let mut command = Command::new(program);
            command.args(&args[1..]);
            learn(&command)
        }
        None => {
            let mut command = Command::new("/usr/bin/sort");
            command.arg("/etc/passwd");
            learn(&command)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn learn(command: &Command) -> Result {
    let sandbox = Sandbox::new();
    let learned = sandbox.learn(command)?;
    print!("{}", learned.needs);
    // As if it had been kept in a file.
    let needs: Needs = learned.needs.to_string().parse()?;
    let again = needs.apply(sandbox).output(command)?;
    if (again.outcome.verdict, &again.stdout) != (learned.output.outcome.verdict, &learned.output.stdout) {
        return Err(format!("with that it ended differently: {}", again.outcome.verdict).into());
    }
    println!("# With that and nothing else it ran again: {}", again.outcome.verdict);
    Ok(())
}

fn cost() -> Result {
    const COPIES: u32 = 20_000;
    let mut command = Command::new("/usr/bin/dd");
    command.args(["if=/dev/zero", "of=/dev/null", "bs=1", &format!("count={COPIES}")]);
    let sandbox = Sandbox::new();
    let time = |run: &dyn Fn() -> belljar::Result<bool>| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            if !run()? {
                return Err("dd failed".into());
            }
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    };
    let plain = time(&|| Ok(sandbox.output(&command)?.outcome.success()))?;
    let learning = time(&|| Ok(sandbox.learn(&command)?.output.outcome.success()))?;
    // Each copied byte is a read and a write.
    let each = (learning - plain) / f64::from(2 * COPIES) * 1e6;
    println!(
        "{each:.1} µs more for each system call ({plain:.2} s without learning, {learning:.2} s with it)"
    );
    Ok(())
}
