//! What a sandbox costs in memory while it waits: of its processes, and all told, kernel and host included.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use belljar::Sandbox;

use super::bubblewrap;
use super::machine::meminfo;
use super::tiny;

/// KiB of one that is parked.
pub(crate) struct Parked {
    /// The proportional share of the memory of its processes.
    pub(crate) user: f64,
    /// The fall of `MemAvailable` over all of them, divided.
    pub(crate) all: f64,
}

/// Containers of this process.
pub(crate) fn containers(number: usize, sandbox: &Sandbox) -> Parked {
    let plan = sandbox.plan().expect("a valid policy");
    // What the first one makes for all of them is not the price of one more.
    drop(plan.start().expect("the sandbox works here"));
    parked(number, || plan.start().expect("one more works"))
}

/// Sandboxes of bubblewrap in which a program sleeps.
pub(crate) fn bubblewraps(number: usize) -> Option<Parked> {
    let tiny = tiny::File::new();
    let sleeper = || {
        let mut process = Command::new("bwrap");
        process.args(bubblewrap::arguments(tiny.path().as_ref())).args([
            "/bin/sh",
            "-c",
            "echo; exec sleep 1000",
        ]);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = process.spawn()?;
        // It is set up as soon as its program says so.
        child.stdout.take().expect("it is piped").read_exact(&mut [0])?;
        std::io::Result::Ok(Sleeper(child))
    };
    drop(sleeper().ok()?);
    Some(parked(number, || sleeper().expect("one more works")))
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It has `--die-with-parent`, and so has all of it.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn parked<T>(number: usize, make: impl Fn() -> T) -> Parked {
    let before = settled();
    let own = share("self");
    let all: Vec<T> = (0..number).map(|_| make()).collect();
    let user = descendants(std::process::id()).iter().map(|pid| share(&pid.to_string())).sum::<u64>();
    let own = share("self").saturating_sub(own);
    let after = settled();
    drop(all);
    let again = settled();
    let each = |kib: u64| kib as f64 / number as f64;
    println!("({:.1} KiB of each in the host process itself)", each(own));
    // What others took or gave back meanwhile is in one of the two ways only.
    let all = u64::midpoint(before, again).saturating_sub(after);
    Parked { user: each(user), all: each(all) }
}

/// `MemAvailable` in KiB, when what was given back has arrived: it is the same for one and a half seconds.
fn settled() -> u64 {
    const NOISE: u64 = 2048;
    let patience = Instant::now() + Duration::from_secs(12);
    let (mut last, mut same) = (meminfo("MemAvailable"), 0);
    while same < 3 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(500));
        let now = meminfo("MemAvailable");
        same = if now.abs_diff(last) < NOISE { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// KiB of a process, of what it shares with others its part.
fn share(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").expect("procfs is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may have anything in it: the state, and the parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let (mut found, mut next) = (Vec::new(), vec![ancestor]);
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}
