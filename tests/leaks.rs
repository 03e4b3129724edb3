//! Nothing stays: descriptors, processes, cgroups, mounts, files, memory.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Command, Container, Mount, Sandbox, Stdio};
use support::{Result, closed, explain, fail, hold, mib, number, oracle, payload, soak, within};

fn main() -> ExitCode {
    let cases = cases![
        pid_1_is_small: ["userns"],
        sandboxes_in_sequence: ["userns"],
        failures_in_sequence: ["userns"],
        dropped_children_in_sequence: ["userns"],
        containers_at_once: ["userns"],
    ];
    support::main_serial(cases, &[])
}

fn limited() -> Sandbox {
    let has = |feature| support::features::missing(feature).is_none();
    let mut sandbox = closed();
    if has("cgroup-memory") {
        sandbox = sandbox.memory_max(mib(64));
    }
    if has("cgroup-pids") {
        sandbox = sandbox.pids_max(32);
    }
    if has("cgroup-cpuacct") {
        sandbox = sandbox.cpu_time(Duration::from_secs(20));
    }
    sandbox
}

/// What a host can lose to a sandbox.
#[derive(Debug, PartialEq, Eq)]
struct Ledger {
    fds: usize,
    children: usize,
    boxes: usize,
    mounts: usize,
    files: usize,
    threads: String,
}

impl Ledger {
    fn now() -> Self {
        let files = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
        Self {
            fds: oracle::open_fds().len(),
            children: oracle::children(std::process::id()).len(),
            boxes: oracle::boxes_of(std::process::id()).len(),
            mounts: oracle::mounts("self").len(),
            // Others use these directories, too: only what has our name counts.
            files: files
                .iter()
                .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
                .filter(|entry| entry.file_name().to_string_lossy().contains("belljar"))
                .filter(|entry| !entry.file_name().to_string_lossy().starts_with("belljar-test-"))
                .count(),
            threads: oracle::status_of("self")["Threads"].clone(),
        }
    }
}

fn resident_kib(pid: &str) -> u64 {
    let status = oracle::status_of(pid);
    status.get("VmRSS").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Runs something again and again and compares before and after; the first rounds may fill caches.
fn repeat(rounds: u32, mut f: impl FnMut(u32) -> Result) -> Result {
    for n in 0..50.min(rounds) {
        f(n)?;
    }
    let (before, memory) = (Ledger::now(), resident_kib("self"));
    for n in 0..rounds {
        f(n)?;
    }
    let grown = resident_kib("self").saturating_sub(memory);
    let after = Ledger::now();
    assert_eq!(after, before);
    assert!(grown <= 1024, "{grown} KiB more after {rounds} rounds");
    Ok(())
}

fn rounds() -> u32 {
    number("BELLJAR_TEST_ROUNDS", if soak() { 10_000 } else { 300 })
}

fn pid_1_is_small() -> Result {
    for sandbox in [closed(), limited().mount(Mount::file("/big", vec![7; 4 << 20]))] {
        let held = hold(&sandbox)?;
        let init = oracle::parent(held.pid).expect("it has a parent").to_string();
        let kib = resident_kib(&init);
        assert!(kib > 0 && kib <= 256, "PID 1 has {kib} KiB resident:\n{:?}", oracle::status_of(&init));
        held.release()?;
    }
    Ok(())
}

fn sandboxes_in_sequence() -> Result {
    let sandbox = limited();
    repeat(rounds(), |n| {
        let mut command = payload("exit", &[&(n % 200).to_string()]);
        command.stdout(Stdio::capture(1000_u64)).stderr(Stdio::piped());
        let output = sandbox.output(&command)?;
        assert_eq!(output.outcome.status.code(), Some((n % 200) as i32));
        Ok(())
    })
}

fn failures_in_sequence() -> Result {
    let missing = Command::new("/no/such/program");
    let broken = limited().mount(Mount::read_only("/missing"));
    let refused = limited().user(70_000, 70_000);
    repeat(rounds() / 3, |_| {
        assert!(limited().spawn(&missing).is_err());
        assert!(broken.spawn(payload("exit", &["0"])).is_err());
        assert!(broken.start().is_err());
        refused.spawn(payload("exit", &["0"])).map(drop).ok();
        Ok(())
    })
}

fn dropped_children_in_sequence() -> Result {
    let sandbox = limited();
    repeat(rounds() / 3, |n| {
        let mut command = payload("sleep", &["60000"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sandbox.spawn(&command)?;
        if n % 2 == 0 {
            child.kill()?;
        }
        Ok(())
    })
}

fn containers_at_once() -> Result {
    let count = number("BELLJAR_TEST_CONTAINERS", if soak() { 1000 } else { 100 });
    let plan = limited().plan()?;
    let before = Ledger::now();
    let mut containers: Vec<Container> = Vec::new();
    for n in 0..count {
        match plan.start() {
            Ok(container) => containers.push(container),
            Err(error) => return fail(format!("number {n}: {}", explain(&error))),
        }
    }
    let inits = oracle::children(std::process::id());
    assert_eq!(inits.len() as u32, count);
    // Each still works, the first as well as the last.
    for container in containers.iter().step_by((count as usize / 20).max(1)) {
        assert!(container.status(payload("exit", &["0"]))?.success());
    }
    drop(containers);
    assert!(within(Duration::from_secs(2), || Ledger::now().children == before.children));
    assert_eq!(Ledger::now(), before);
    Ok(())
}
