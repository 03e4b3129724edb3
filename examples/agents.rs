//! A host in the way of those that run tools for language models: fifty untrusted tools at once, in one thread.
//!
//! ```sh
//! cargo run --release --features tokio --example agents
//! ```
//!
//! Each tool is a shell script in a closed sandbox of its own, with limits and a time-out of the host. Some do what they are
//! asked to do; others write without end, hang, crash, or look for secrets. A tool that is too slow for the host is killed by
//! giving its future up. The example exits with 1 when anything goes otherwise than expected.

#![expect(clippy::print_stdout, reason = "what happens is to be seen")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{Bytes, Command, Feature, Plan, Sandbox, Stdio, Verdict};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::timeout;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const TOOLS: usize = 50;

/// How long the host waits for a tool.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a tool does, the script for it, and what is expected of it.
const KINDS: [(&str, &str, &str); 5] = [
    ("counts", "seq 1 20000 | sort -rn | head -n 1", "20000"),
    ("floods", "yes", "output limit exceeded"),
    ("hangs", "sleep 600", "timed out"),
    ("crashes", "kill -SEGV $$", "signal 11"),
    ("snoops", "cat /etc/shadow /root/.ssh/id_rsa 2>/dev/null || echo nothing", "nothing"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("unexpected: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    // An ordinary user may have no cgroup to limit memory and processes with.
    let sandbox = Sandbox::new()
        .memory_max(Bytes::mib(64))
        .pids_max(16)
        .best_effort(Feature::MemoryMax)
        .best_effort(Feature::PidsMax)
        .output_max(Bytes::kib(64));
    // Made once for all of them.
    let plan = sandbox.plan()?;
    converse(&plan).await?;

    let start = Instant::now();
    let mut tools = JoinSet::new();
    for n in 0..TOOLS {
        let (plan, (kind, script, expected)) = (plan.clone(), KINDS[n % KINDS.len()]);
        tools.spawn(async move { (kind, expected, answer(&plan, script).await) });
    }
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut as_expected = true;
    while let Some(tool) = tools.join_next().await {
        let (kind, expected, answer) = tool?;
        let answer = answer?;
        as_expected &= answer == expected;
        *seen.entry((kind, answer)).or_default() += 1;
    }
    for ((kind, answer), count) in seen {
        println!("{count:3} that {kind:8} {answer}");
    }
    println!("{TOOLS} tools in {:.1?}", start.elapsed());
    Ok(as_expected)
}

/// What a tool answers, or what became of it.
async fn answer(plan: &Plan, script: &str) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    // When the time is over the future is dropped, and the tool and all that it started are killed with it.
    let Ok(output) = timeout(PATIENCE, plan.output_async(&command)).await else {
        return Ok("timed out".to_owned());
    };
    let output = output?;
    Ok(match output.outcome.verdict {
        Verdict::Exited(0) => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        Verdict::Signaled(signal) => format!("signal {signal}"),
        Verdict::OutputExceeded => "output limit exceeded".to_owned(),
        other => other.to_string(),
    })
}

/// A tool that goes on, and is talked to.
async fn converse(plan: &Plan) -> Result {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "while read line; do echo \"you said $line\"; done"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tool = plan.spawn_async(&command).await?;
    let (Some(mut stdin), Some(stdout)) = (tool.stdin.take(), tool.stdout.take()) else {
        return Err("its streams are piped".into());
    };
    let mut lines = BufReader::new(stdout).lines();
    for word in ["hello", "goodbye"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await?;
        println!("{word}: {}", lines.next_line().await?.unwrap_or_default());
    }
    drop(stdin);
    let outcome = tool.wait().await?;
    if outcome.verdict == Verdict::Exited(0) { Ok(()) } else { Err(outcome.verdict.to_string().into()) }
}
