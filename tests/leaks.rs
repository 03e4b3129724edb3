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

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use belljar::{
    BlockDevice, Command, Container, CpuMax, CpuSet, DeviceAccess, DeviceRules, Feature, IoMax, Mount,
    OomScope, Sandbox, Seccomp, Stdio, Syscall, Verdict,
};
use support::features::{directory_of, missing, unified_dir_of};
use support::ledger::Ledger;
use support::roles::{self, int, text};
use support::{
    Fail, Held, Result, closed, explain, fail, held, hold, mib, number, oracle, payload, raw, slack, soak,
    within,
};

fn main() -> ExitCode {
    let cases = cases![
        pid_1_is_small: ["userns"],
        sandboxes_in_sequence: ["userns"],
        failures_in_sequence: ["userns"],
        dropped_children_in_sequence: ["userns"],
        containers_at_once: ["userns"],
        programs_with_limits_at_once: ["userns", "cgroup-memory", "cgroup-pids"],
    ];
    support::main_serial(cases, &[("fated", fated)])
}

fn limited() -> Sandbox {
    let has = |feature| missing(feature).is_none();
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
    // What is made once for all sandboxes stays.
    drop(plan.start()?);
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
    assert!(within(Duration::from_secs(2) * slack(), || Ledger::now().children == before.children));
    assert_eq!(Ledger::now(), before);
    Ok(())
}

/// `fated FATE ARGUMENT`: says that it is ready, waits until its stdin ends, and meets its fate.
fn fated(args: &[OsString]) -> i32 {
    roles::hold(&[]);
    let rest = &args[1..];
    match text(args, 0).as_str() {
        "alloc" => roles::alloc(rest),
        "alloc-child" => roles::alloc_child(rest),
        "burn" => roles::burn(rest),
        "raise" => roles::raise(rest),
        "fork" => match (0..int(rest, 0)).map(|_| raw::fork()).find(|forked| !matches!(forked, Ok(1..))) {
            // A child stays until it is killed with the rest.
            Some(Ok(_)) => roles::sleep(&["60000".into()]),
            Some(Err(_)) => 3,
            None => 4,
        },
        "flood" => {
            eprint!("{}", "x".repeat(5000));
            roles::sleep(&["60000".into()])
        }
        "call" => {
            raw::syscall(libc::SYS_getppid, [0; 6]).ok();
            0
        }
        _ => int(rest, 0),
    }
}

/// What becomes of a program, and what must be said of it.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Verdict(Verdict),
    /// The host kills it while it is frozen.
    Frozen,
    /// The host drops it.
    Dropped,
}

const MEMORY: u64 = 12 << 20;

/// One of many, with limits that no other has, so that they cannot be confused.
#[derive(Debug)]
struct One {
    number: u32,
    memory: u64,
    pids: u64,
    weight: u32,
    processor: u32,
    reads: u64,
}

impl One {
    fn new(number: u32, processors: &[u32]) -> Self {
        let n = u64::from(number);
        Self {
            number,
            memory: MEMORY + n * 4096,
            pids: 4 + n % 20,
            weight: 100 + number,
            processor: processors[number as usize % processors.len()],
            reads: (1 << 20) + n * 4096,
        }
    }

    /// With every limit for which this host has a controller.
    fn sandbox(&self, disk: Option<&BlockDevice>) -> Sandbox {
        let has = |feature| missing(feature).is_none();
        let mut sandbox = closed().memory_max(self.memory).pids_max(self.pids);
        if has("cgroup-cpu") {
            sandbox = sandbox.cpu_weight(self.weight).cpu_max(CpuMax::cpus(0.5));
        }
        if has("cgroup-cpuacct") {
            sandbox = sandbox.cpu_time(match self.fate().0 {
                "burn" => Duration::from_millis(50) * slack(),
                _ => Duration::from_secs(20) * slack(),
            });
        }
        if has("cgroup-cpuset") {
            sandbox = sandbox.cpuset_cpus(CpuSet::from_iter([self.processor]));
        }
        if has("cgroup-hugetlb") {
            sandbox = sandbox.hugetlb_max(mib(2), mib(4));
        }
        if has("cgroup-v2") {
            sandbox = sandbox.freezable();
        }
        if has("root") {
            sandbox =
                sandbox.devices(DeviceRules::minimal().allow_char(10, 200 + self.number, DeviceAccess::READ));
        }
        if let Some(disk) = disk {
            sandbox = sandbox.io_max(disk.clone(), IoMax::new().read(self.reads));
        }
        if self.fate().0 == "call" {
            sandbox = sandbox.seccomp(Seccomp::new().kill(["getppid"]));
        }
        sandbox
    }

    fn fate(&self) -> (&'static str, String, Fate) {
        use Fate::{Dropped, Frozen, Verdict as Told};
        let code = self.number % 200;
        let exit = ("exit", code.to_string(), Told(Verdict::Exited(code as i32)));
        match self.number % 10 {
            1 => ("alloc", (MEMORY * 4).to_string(), Told(Verdict::MemoryExceeded)),
            2 => ("alloc-child", (MEMORY * 4).to_string(), Told(Verdict::Exited(0))),
            3 => ("raise", libc::SIGTERM.to_string(), Told(Verdict::Signaled(libc::SIGTERM))),
            4 => ("fork", "100".to_owned(), Told(Verdict::Exited(3))),
            5 => ("flood", String::new(), Told(Verdict::OutputExceeded)),
            6 if missing("cgroup-v2").is_none() => ("hold", String::new(), Frozen),
            7 => ("hold", String::new(), Dropped),
            8 => (
                "call",
                String::new(),
                Told(Verdict::SyscallDenied { syscall: Syscall::from_name("getppid") }),
            ),
            // They take a second of the processors each.
            9 if self.number % 50 == 9 && missing("cgroup-cpuacct").is_none() => {
                ("burn", "20000".to_owned(), Told(Verdict::CpuTimeExceeded))
            }
            _ => exit,
        }
    }

    fn start(&self, disk: Option<&BlockDevice>) -> Result<Held> {
        let (fate, argument, _) = self.fate();
        let mut command = payload("fated", &[fate, &argument]);
        command.stderr(Stdio::capture(1000_u64));
        held(command, |command| self.sandbox(disk).spawn(command))
    }

    /// What the control files of its cgroups say of it, read from outside.
    fn inspect(&self, pid: u32, disk: Option<&BlockDevice>) -> Result {
        let pid = pid.to_string();
        let files = [
            ("memory", "memory.max", "memory.limit_in_bytes", self.memory.to_string()),
            ("pids", "pids.max", "pids.max", self.pids.to_string()),
            ("cpu", "cpu.weight", "cpu.shares", self.weight.to_string()),
            ("cpu", "cpu.max", "cpu.cfs_quota_us", "50000".to_owned()),
            ("cpuset", "cpuset.cpus", "cpuset.cpus", self.processor.to_string()),
            ("hugetlb", "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes", (4 << 20).to_string()),
            ("blkio", "io.max", "blkio.throttle.read_bps_device", self.reads.to_string()),
            ("devices", "", "devices.list", format!("c 10:{} r", 200 + self.number)),
        ];
        for (controller, v2, v1, wanted) in files {
            let asked = match controller {
                "blkio" => disk.is_some(),
                "devices" => missing("root").is_none(),
                _ => missing(&format!("cgroup-{controller}")).is_none(),
            };
            let Some(dir) = directory_of(&pid, controller).filter(|_| asked) else {
                // Rules of version 2 are a program, which has no file.
                assert!(!asked || controller == "devices", "{controller} of {self:?}");
                continue;
            };
            assert!(dir.to_string_lossy().contains("/belljar-"), "{} of {self:?}", dir.display());
            let text = fs::read_to_string(dir.join(v2)).or_else(|_| fs::read_to_string(dir.join(v1)))?;
            // 100 in version 2 is 1024 shares in version 1.
            let shares = (u64::from(self.weight) * 1024 / 100).to_string();
            let is_so = match v1 {
                "devices.list" => text.lines().any(|line| line == wanted) && !text.contains("a *:*"),
                "blkio.throttle.read_bps_device" => text.contains(&wanted),
                "cpu.shares" => text.trim() == wanted || text.trim() == shares,
                _ => text.split_whitespace().next() == Some(&wanted),
            };
            assert!(is_so, "{controller} of {self:?}: {text:?}");
        }
        Ok(())
    }

    /// Lets it meet its fate.
    fn end(&self, mut held: Held) -> Result {
        let wanted = match self.fate().2 {
            Fate::Verdict(verdict) => verdict,
            Fate::Dropped => return Ok(()),
            Fate::Frozen => {
                held.child.freeze()?;
                let dir = unified_dir_of(&held.pid.to_string()).expect("it was made to be frozen");
                let events = fs::read_to_string(dir.join("cgroup.events"))?;
                assert!(events.contains("frozen 1"), "{events:?}");
                held.child.kill()?;
                Verdict::Killed
            }
        };
        let outcome = held.child.wait()?;
        assert_eq!(outcome.verdict, wanted, "{self:?}: {outcome:?}");
        let scope = outcome.oom.as_ref().map(|oom| oom.scope);
        let kills = matches!(self.fate().0, "alloc" | "alloc-child");
        assert_eq!(scope, kills.then_some(OomScope::Sandbox), "{self:?}: {outcome:?}");
        assert_eq!(outcome.usage.pids_denied > Some(0), self.fate().0 == "fork", "{self:?}: {outcome:?}");
        assert!(outcome.enforced.contains(Feature::MemoryMax) && outcome.enforced.contains(Feature::PidsMax));
        Ok(())
    }
}

/// Does something for each of many, from sixteen threads.
fn from_threads<T: Send>(items: Vec<T>, f: impl Fn(T) -> Result + Sync) -> Result {
    let items = Mutex::new(items.into_iter());
    let work = || {
        loop {
            let Some(item) = items.lock().expect("no panic").next() else { return Ok(()) };
            f(item)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// Programs that all run at the same time, each with every limit that the host has.
fn programs_with_limits_at_once() -> Result {
    let count = number("BELLJAR_TEST_CONTAINERS", if soak() { 500 } else { 100 });
    let allowed = oracle::status_of("self").remove("Cpus_allowed_list").unwrap_or_default();
    let processors: Vec<u32> = allowed.parse::<CpuSet>()?.iter().collect();
    // The host may have its files on no disk that can be limited.
    let disk = BlockDevice::at("/var/tmp");
    let disk = Some(&disk).filter(|disk| {
        let limited = closed().io_max((*disk).clone(), IoMax::new().read(mib(1)));
        missing("cgroup-blkio").is_none() && limited.status(payload("exit", &["0"])).is_ok()
    });
    let all: Vec<One> = (0..count).map(|number| One::new(number, &processors)).collect();
    // One of each fate: what is made once for all sandboxes stays.
    for one in all.iter().take(10) {
        one.end(one.start(disk)?)?;
    }
    let before = Ledger::now();
    let start = Instant::now();
    let running = Mutex::new(Vec::new());
    from_threads(all, |one| {
        let held = one.start(disk).map_err(|Fail(message)| Fail(format!("{one:?}: {message}")))?;
        running.lock().expect("no panic").push((one, held));
        Ok(())
    })?;
    let running = running.into_inner().expect("no panic");
    let started = start.elapsed();
    let full = Ledger::now();
    assert_eq!(full.children - before.children, count as usize, "one init each");
    let dirs: Vec<_> =
        running.iter().filter_map(|(_, held)| directory_of(&held.pid.to_string(), "memory")).collect();
    let distinct: std::collections::HashSet<_> = dirs.iter().collect();
    assert_eq!(distinct.len() as u32, count, "a cgroup each");
    for (one, held) in running.iter().step_by((count as usize / 50).max(1)) {
        assert!(oracle::is_alive(held.pid), "{one:?}");
        one.inspect(held.pid, disk)?;
    }
    let inspected = start.elapsed();
    from_threads(running, |(one, held)| one.end(held))?;
    let ended = start.elapsed();
    assert!(within(Duration::from_secs(2) * slack(), || Ledger::now().children == before.children));
    println!(
        "{count} programs: started in {started:?}, inspected in {:?}, ended in {:?}; {} descriptors and {} cgroups each",
        inspected - started,
        ended - inspected,
        (full.fds - before.fds) / count as usize,
        (full.boxes - before.boxes) / count as usize,
    );
    assert_eq!(Ledger::now(), before);
    Ok(())
}
