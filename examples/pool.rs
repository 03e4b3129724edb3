//! A host that serves functions: each request is a run of an untrusted program in a sandbox of its own.
//!
//! The function is this same program, executed again inside: it reads a request and writes the answer. The same requests
//! are served cold, where each has its sandbox set up first, and by a pool that has some ready. Then many come at once.
//! The example exits with 1 if an answer is wrong.

#![expect(clippy::print_stdout, reason = "what happens is to be seen")]

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{Bytes, Child, Command, Feature, Mount, Plan, Pool, Sandbox, Stdio, Verdict, WhenEmpty};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const REQUESTS: usize = 100;
/// How many sandboxes are kept ready, and how many requests come at once in the end.
const SIZE: usize = 8;
const CALLERS: usize = 16;
/// A request every so often, which leaves the pool the time to get the next sandbox ready.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let is_function = std::env::args_os().nth(1).is_some_and(|word| word == "function");
    let result = if is_function { function() } else { host() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("unexpected: {error}");
            ExitCode::FAILURE
        }
    }
}

fn host() -> Result {
    let plan = policy()?.plan()?;
    for skipped in plan.enforced().skipped() {
        println!("Without {}: {}", skipped.feature, skipped.reason);
    }
    let pool = plan.pool().size(SIZE).max(CALLERS).when_empty(WhenEmpty::Start).start()?;

    println!("{REQUESTS} requests, one every {PAUSE:?}:");
    let mut cold = Latencies::default();
    let mut warm = Latencies::default();
    for number in 0..REQUESTS {
        // In turns, so that whatever else this machine does meets both.
        cold.measure(|| serve(Host::Cold(&plan), number))?;
        std::thread::sleep(PAUSE);
        warm.measure(|| serve(Host::Warm(&pool), number))?;
        std::thread::sleep(PAUSE);
    }
    println!("  cold: {cold}");
    println!("  warm: {warm}");

    println!("{REQUESTS} requests from {CALLERS} callers at once:");
    let start = Instant::now();
    std::thread::scope(|scope| {
        let pool = &pool;
        let serve_some = move |caller| -> Result {
            (caller..REQUESTS).step_by(CALLERS).try_for_each(|number| serve(Host::Warm(pool), number))
        };
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || serve_some(caller))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller panicked")?)
    })?;
    println!("  {:.0?} in all", start.elapsed());

    let metrics = pool.metrics();
    println!(
        "{} found a sandbox ready, for {} one was started; {} calls waited; {} sandboxes were made ready meanwhile.",
        metrics.warm, metrics.cold, metrics.waits, metrics.refills
    );
    Ok(pool.close()?)
}

/// Closed, with this program in it and limits.
fn policy() -> Result<Sandbox> {
    Ok(Sandbox::new()
        .mount(Mount::bind(std::env::current_exe()?, "/function"))
        .memory_max(Bytes::mib(64))
        .best_effort(Feature::MemoryMax)
        .pids_max(4)
        .best_effort(Feature::PidsMax)
        .wall_time(Duration::from_secs(10)))
}

#[derive(Clone, Copy)]
enum Host<'a> {
    Cold(&'a Plan),
    Warm(&'a Pool),
}

fn serve(host: Host<'_>, number: usize) -> Result {
    let request = format!("request {number}");
    let mut command = Command::new("/function");
    command.arg("function").stdin(Stdio::piped()).stdout(Stdio::capture(Bytes::kib(64)));
    let mut child: Child = match host {
        Host::Cold(plan) => plan.spawn(&command)?,
        Host::Warm(pool) => pool.spawn(&command)?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(request.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    match output.outcome.verdict {
        Verdict::Exited(0) if output.stdout == request.to_uppercase().as_bytes() => Ok(()),
        other => Err(format!("{other}: {}", String::from_utf8_lossy(&output.stdout)).into()),
    }
}

/// What runs inside.
fn function() -> Result {
    let mut request = String::new();
    std::io::stdin().read_to_string(&mut request)?;
    std::io::stdout().write_all(request.to_uppercase().as_bytes())?;
    Ok(())
}

/// How long requests took.
#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn measure(&mut self, serve: impl FnOnce() -> Result) -> Result {
        let start = Instant::now();
        serve()?;
        self.0.push(start.elapsed());
        Ok(())
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
        write!(f, "median {:.1?}, 90 % within {:.1?}", at(50), at(90))
    }
}
