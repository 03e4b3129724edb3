//! Whose memory ran out: the same verdicts whether the kernel's log tells of a kill, leaves it out, or cannot be read.
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

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar::{CgroupParent, Command, Oom, OomScope, Outcome, Sandbox, Verdict};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use support::roles::{alloc, big, int, text};
use support::{Fail, Result, closed, fail, hold_with, mib, payload, raw, soak};

fn main() -> ExitCode {
    let cases = cases![
        an_earlier_program_is_not_this_one: ["userns", "root", "cgroup-memory"],
        verdicts_with_the_log: ["userns", "cgroup-memory"],
        verdicts_without_the_log: ["userns", "root", "cgroup-memory"],
        verdicts_of_kills_that_the_log_leaves_out: ["userns", "root", "cgroup-memory"],
        a_program_says_nothing_in_the_kernels_name: ["userns", "root", "cgroup-memory"],
        many_die_at_once: ["userns", "cgroup-memory"],
        memory_of_the_machine_runs_out: ["userns", "cgroup-memory", "starve"],
    ];
    support::main_serial(
        cases,
        &[("victim", victim), ("burst", burst), ("forger", forger), ("volunteer", volunteer), ("eat", eat)],
    )
}

/// `victim NAME BYTES CHILDREN CODE` calls itself so and takes the memory. With children the first of them takes it and
/// the others sleep, and it exits with the code when that one is gone.
fn victim(args: &[OsString]) -> i32 {
    fs::write("/proc/self/comm", text(args, 0)).expect("its own name is its own business");
    let memory = &args[1..2];
    if int(args, 2) == 0 {
        return alloc(memory);
    }
    let taker = raw::fork().expect("fork");
    if taker == 0 {
        // Not before its siblings are there.
        std::thread::sleep(Duration::from_millis(50));
        return alloc(memory);
    }
    for _ in 1..int(args, 2) {
        if raw::fork().expect("fork") == 0 {
            std::thread::sleep(Duration::from_secs(20));
            return 0;
        }
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(taker), None).ok();
    int(args, 3)
}

/// `burst COUNT BYTES`: so many children die of it, one after the other.
fn burst(args: &[OsString]) -> i32 {
    for _ in 0..int(args, 0) {
        let child = raw::fork().expect("fork");
        if child == 0 {
            return alloc(&args[1..]);
        }
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).ok();
    }
    0
}

/// Says that it is there, with 32 MiB, and is the first whom the kernel kills when the machine has no memory left.
fn volunteer(_: &[OsString]) -> i32 {
    fs::write("/proc/self/oom_score_adj", "1000").expect("everybody may do that");
    alloc(&[(32 << 20).to_string().into(), "hold".into()])
}

/// `eat BYTES SECONDS` takes so much memory step by step. It is the second whom the kernel kills, by its size.
fn eat(args: &[OsString]) -> i32 {
    const STEP: usize = 2 << 20;
    let end = Instant::now() + Duration::from_secs(big(args, 1));
    let mut eaten = Vec::new();
    while Instant::now() < end {
        if (eaten.len() * STEP) as u64 >= big(args, 0) {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let mut step = vec![0_u8; STEP];
        step.chunks_mut(4096).for_each(|page| page[0] = 1);
        eaten.push(step);
        std::thread::sleep(Duration::from_millis(2));
    }
    0
}

/// A victim of this name.
fn named(name: &str, megabytes: u64, children: u32, code: u32) -> Command {
    let [bytes, children, code] = [megabytes << 20, children.into(), code.into()].map(|n: u64| n.to_string());
    payload("victim", &[name, &bytes, &children, &code])
}

/// It takes 40 MiB by itself.
fn alone() -> Command {
    named("alone", 40, 0, 0)
}

/// Its child takes 40 MiB.
fn parent(code: u32) -> Command {
    named("parent", 40, 2, code)
}

/// A cgroup above sandboxes. With less memory than they may have it stands for a machine that has none left.
struct Above(support::TestGroup);

impl Above {
    fn new(megabytes: u64) -> Result<Self> {
        let own = support::features::controller_dir("memory").expect("the case needs it");
        // The controller is passed on by the first sandbox.
        closed().memory_max(mib(64)).status(payload("exit", &["0"]))?;
        let above = Self(support::TestGroup::make_in(&own)?);
        above.limit(megabytes)?;
        Ok(above)
    }

    fn limit(&self, megabytes: u64) -> Result {
        let file = ["memory.max", "memory.limit_in_bytes"].map(|file| self.0.path().join(file));
        let file = file.iter().find(|file| file.exists()).expect("the controller is passed on");
        Ok(fs::write(file, (megabytes << 20).to_string())?)
    }

    fn sandbox(&self) -> Sandbox {
        closed().cgroup_parent(CgroupParent::Path(self.0.path().to_owned()))
    }
}

/// One way to be killed for memory, and what must be said of it.
struct Fate {
    name: &'static str,
    needs: &'static str,
    run: fn() -> Result<Outcome>,
    verdict: Verdict,
    scope: OomScope,
}

const FATES: [Fate; 14] = {
    use OomScope::{Host, Sandbox};
    use Verdict::{Exited, HostOutOfMemory, MemoryExceeded};
    const fn fate(
        name: &'static str,
        needs: &'static str,
        run: fn() -> Result<Outcome>,
        verdict: Verdict,
        scope: OomScope,
    ) -> Fate {
        Fate { name, needs, run, verdict, scope }
    }
    [
        fate("own limit", "bare", || own_limit(alone()), MemoryExceeded, Sandbox),
        fate("own limit, a child", "bare", || own_limit(parent(0)), Exited(0), Sandbox),
        fate(
            "own limit, a child whose parent fails",
            "bare",
            || own_limit(parent(3)),
            MemoryExceeded,
            Sandbox,
        ),
        fate("limit above", "bare", || limit_above(alone()), HostOutOfMemory, Host),
        fate("limit above, a child", "bare", || limit_above(parent(0)), Exited(0), Host),
        fate(
            "limit above, a child whose parent fails",
            "bare",
            || limit_above(parent(3)),
            HostOutOfMemory,
            Host,
        ),
        fate("limit above, and no memory limit", "bare", limit_above_alone, HostOutOfMemory, Host),
        fate("swap limit", "swap-controller", || swap_limit(alone()), MemoryExceeded, Sandbox),
        fate(
            "swap limit, a child whose parent fails",
            "swap-controller",
            || swap_limit(parent(3)),
            MemoryExceeded,
            Sandbox,
        ),
        fate("limit above, and a swap limit", "swap-controller", swap_limit_above, HostOutOfMemory, Host),
        fate("whole group", "unified", || whole_group(parent(0)), MemoryExceeded, Sandbox),
        fate("whole group, limit above", "unified", whole_group_above, HostOutOfMemory, Host),
        fate(
            "first by its own limit, then by the one above",
            "bare",
            first_own_then_above,
            HostOutOfMemory,
            Host,
        ),
        fate(
            "first by the limit above, then by its own",
            "bare",
            first_above_then_own,
            MemoryExceeded,
            Sandbox,
        ),
    ]
};

fn own_limit(command: Command) -> Result<Outcome> {
    Ok(closed().memory_max(mib(16)).status(command)?)
}

fn limit_above(command: Command) -> Result<Outcome> {
    let above = Above::new(16)?;
    Ok(above.sandbox().memory_max(mib(300)).status(command)?)
}

/// There is a memory cgroup, and no limit in it.
fn limit_above_alone() -> Result<Outcome> {
    let above = Above::new(16)?;
    Ok(above.sandbox().memory_max(belljar::Bytes::MAX).status(alone())?)
}

fn swap_limit(command: Command) -> Result<Outcome> {
    Ok(closed().memory_max(mib(16)).swap_max(0).status(command)?)
}

fn swap_limit_above() -> Result<Outcome> {
    let above = Above::new(16)?;
    Ok(above.sandbox().memory_max(mib(300)).swap_max(0).status(alone())?)
}

fn whole_group(command: Command) -> Result<Outcome> {
    Ok(closed().memory_max(mib(16)).oom_group().status(command)?)
}

fn whole_group_above() -> Result<Outcome> {
    let above = Above::new(16)?;
    Ok(above.sandbox().memory_max(mib(300)).oom_group().status(parent(0))?)
}

/// Two programs of one container: the second dies of less memory than the container may have.
fn first_own_then_above() -> Result<Outcome> {
    let above = Above::new(300)?;
    let container = above.sandbox().memory_max(mib(24)).start()?;
    let first = container.status(alone())?;
    told(&first, Verdict::MemoryExceeded, OomScope::Sandbox)?;
    above.limit(12)?;
    let second = container.status(named("second", 20, 0, 0))?;
    not_of(&first, &second)?;
    Ok(second)
}

fn first_above_then_own() -> Result<Outcome> {
    let above = Above::new(12)?;
    let container = above.sandbox().memory_max(mib(24)).start()?;
    let first = container.status(named("first", 20, 0, 0))?;
    told(&first, Verdict::HostOutOfMemory, OomScope::Host)?;
    above.limit(300)?;
    let second = container.status(alone())?;
    not_of(&first, &second)?;
    Ok(second)
}

fn victims(outcome: &Outcome) -> Vec<(String, u32)> {
    let victims = outcome.oom.iter().flat_map(|oom| &oom.victims);
    victims.map(|victim| (victim.name.clone(), victim.pid)).collect()
}

/// No process dies twice.
fn not_of(first: &Outcome, second: &Outcome) -> Result {
    let dead = victims(first);
    match victims(second).iter().find(|victim| dead.contains(victim)) {
        Some(again) => fail(format!("{again:?} was killed by the first already: {second:?}")),
        None => Ok(()),
    }
}

fn told(outcome: &Outcome, verdict: Verdict, scope: OomScope) -> Result {
    let said = (outcome.verdict, outcome.oom.as_ref().map(|oom: &Oom| oom.scope));
    if said == (verdict, Some(scope)) {
        return Ok(());
    }
    fail(format!("{said:?} instead of {verdict:?} and {scope:?}: {outcome:?}"))
}

/// Every fate that this host can deal out, each checked.
fn suffer(mut check: impl FnMut(&Fate) -> Result) -> Result {
    for fate in FATES.iter().filter(|fate| support::features::missing(fate.needs).is_none()) {
        check(fate).map_err(|Fail(message)| Fail(format!("{}: {message}", fate.name)))?;
    }
    Ok(())
}

fn meet(fate: &Fate) -> Result<Outcome> {
    let outcome = (fate.run)()?;
    told(&outcome, fate.verdict, fate.scope)?;
    Ok(outcome)
}

/// As far as this user may read it, and it tells.
fn verdicts_with_the_log() -> Result {
    suffer(|fate| meet(fate).map(drop))
}

fn verdicts_without_the_log() -> Result {
    no_log()?;
    suffer(|fate| {
        let outcome = meet(fate)?;
        assert_eq!(victims(&outcome), [], "nobody can know them");
        Ok(())
    })
}

/// Each case has a thread of its own, and this one from now on a mount namespace, where the log is empty.
fn no_log() -> Result {
    const NONE: Option<&str> = None;
    if !Path::new("/dev/kmsg").exists() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    Ok(mount(Some("/dev/null"), "/dev/kmsg", NONE, MsFlags::MS_BIND, NONE)?)
}

/// The kernel says whose limit it was ten times in five seconds, whoever died, and then leaves it out.
fn exhaust_the_log() -> Result {
    let bytes = (8_u64 << 20).to_string();
    let outcome = closed().memory_max(mib(4)).status(payload("burst", &["12", &bytes]))?;
    assert_eq!(outcome.usage.oom_kills, Some(12), "{outcome:?}");
    Ok(())
}

/// How often to try what the kernel's clock may come in between of.
const TRIES: u32 = 40;

fn verdicts_of_kills_that_the_log_leaves_out() -> Result {
    suffer(|fate| {
        for _ in 0..TRIES {
            exhaust_the_log()?;
            // Every one of these has to be right, and one of them unknown to the log.
            if victims(&meet(fate)?).is_empty() {
                return Ok(());
            }
        }
        fail("the log leaves nothing out")
    })
}

/// The log told of the first program of a container and left out the second, which then was said to be the first one.
fn an_earlier_program_is_not_this_one() -> Result {
    for _ in 0..TRIES {
        let above = Above::new(300)?;
        let container = above.sandbox().memory_max(mib(24)).start()?;
        let first = container.status(alone())?;
        told(&first, Verdict::MemoryExceeded, OomScope::Sandbox)?;
        exhaust_the_log()?;
        above.limit(12)?;
        let second = container.status(named("second", 20, 0, 0))?;
        told(&second, Verdict::HostOutOfMemory, OomScope::Host)?;
        if !victims(&first).is_empty() && victims(&second).is_empty() {
            return Ok(());
        }
        // Until the kernel says something again.
        std::thread::sleep(Duration::from_millis(700));
    }
    fail("the log never told of the first alone")
}

/// Each of them is named, or nobody is: never one for another. Whole groups among them where the host kills such.
fn many_die_at_once() -> Result {
    let groups = support::features::missing("unified").is_none();
    let above = Above::new(20)?;
    let count: u32 = if soak() { 200 } else { 40 };
    let next = AtomicU32::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || -> Result {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let name = format!("bomb-{number}");
            let whole_group = |sandbox: Sandbox| if groups { sandbox.oom_group() } else { sandbox };
            let own = closed().memory_max(mib(16));
            let exceeded = (Verdict::MemoryExceeded, OomScope::Sandbox);
            // Without whole groups the others of a group go on, and their parent fails.
            let (sandbox, children, code, expected) = match number % 4 {
                0 => (whole_group(own), 4, 1, exceeded),
                1 => {
                    let sandbox = whole_group(above.sandbox().memory_max(mib(300)));
                    (sandbox, 3, 1, (Verdict::HostOutOfMemory, OomScope::Host))
                }
                2 => (own, 2, 0, (Verdict::Exited(0), OomScope::Sandbox)),
                _ => (own, 0, 0, exceeded),
            };
            let outcome = sandbox.status(named(&name, 40, children, code))?;
            told(&outcome, expected.0, expected.1)
                .map_err(|Fail(message)| Fail(format!("{name}: {message}")))?;
            outcomes.lock().expect("no panic").push((name, outcome));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let mut dead = Vec::new();
    for (name, outcome) in outcomes.into_inner().expect("no panic") {
        for (victim, pid) in victims(&outcome) {
            assert_eq!(victim, name, "{outcome:?}");
            dead.push(pid);
        }
        let kills = outcome.usage.oom_kills.unwrap_or(0);
        assert!(victims(&outcome).len() as u64 <= kills, "{outcome:?}");
    }
    let distinct: HashSet<_> = dead.iter().collect();
    assert_eq!(distinct.len(), dead.len(), "somebody died twice: {dead:?}");
    println!("{count} programs died at once, and the log tells of {} processes", dead.len());
    Ok(())
}

/// Its child runs out of memory, and then it has the kernel say that it was the machine, and somebody else.
fn forger(_: &[OsString]) -> i32 {
    let own = fs::read_to_string("/proc/self/cgroup").expect("proc is mounted");
    let path = own.lines().find(|line| line.contains(":memory:") || line.starts_with("0::"));
    let own_box = path.and_then(|line| line.rsplit('/').next()).expect("it is in a box").to_owned();
    let run = |body: &dyn Fn()| {
        let child = raw::fork().expect("fork");
        if child == 0 {
            body();
            std::process::exit(0);
        }
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).ok();
    };
    run(&|| {
        alloc(&[(64 << 20).to_string().into()]);
    });
    run(&|| {
        fs::write("/proc/self/comm", "oom-kill:").expect("its own name is its own business");
        raw::fault_in(&format!("/,oom_memcg=up,task_memcg={own_box},task=x,pid=713,uid=5"));
    });
    run(&|| {
        let sizes = "total-vm:1kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB";
        raw::fault_in(&format!("/Killed process 713 (innocent) {sizes}"));
    });
    1
}

fn a_program_says_nothing_in_the_kernels_name() -> Result {
    let outcome = closed().share_cgroup().memory_max(mib(32)).status(payload("forger", &[]))?;
    let Some(oom) = outcome.oom else { return fail("nobody was killed for memory") };
    assert_eq!(oom.scope, OomScope::Sandbox);
    assert!(oom.victims.iter().all(|victim| victim.name != "innocent"), "{oom:?}");
    assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
    Ok(())
}

/// The size of the machine, in bytes.
fn whole_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("proc is mounted");
    let total = support::oracle::fields(&text).remove("MemTotal").unwrap_or_default();
    total.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).expect("it is a number") << 10
}

/// No cgroup stands for the machine here: it has no memory left.
fn memory_of_the_machine_runs_out() -> Result {
    let whole = whole_memory();
    starve(whole, &closed().memory_max(whole * 2))?;
    if support::features::missing("unified").is_none() {
        starve(whole, &closed().memory_max(whole * 2).oom_group())?;
    }
    // The kernel's log is not what decides.
    if support::features::missing("root").is_none() {
        no_log()?;
        starve(whole, &closed().memory_max(whole * 2))?;
    }
    Ok(())
}

/// Three ways to run out of it: by what is no sandbox, by one that has no limit, and by one that is within its limit.
fn starve(whole: u64, sandbox: &Sandbox) -> Result {
    // Nobody waits forever for a kernel that kills others.
    let patience = Duration::from_secs(120);
    let sandbox = &sandbox.clone().wall_time(patience);
    let eaten = [whole, patience.as_secs()].map(|number| number.to_string());
    let eaten = eaten.each_ref().map(String::as_str);

    let mut held = hold_with(sandbox, payload("volunteer", &[]))?;
    // Waiting would close it, which lets the volunteer go.
    let _stdin = held.child.stdin.take();
    let mut eater = support::role_command("eat", &eaten).spawn()?;
    let outcome = held.child.wait();
    eater.kill()?;
    eater.wait()?;
    starved(&outcome?, "by a process")?;

    let mut held = hold_with(sandbox, payload("volunteer", &[]))?;
    let _stdin = held.child.stdin.take();
    let eater = closed().spawn(payload("eat", &eaten))?;
    let outcome = held.child.wait();
    drop(eater);
    starved(&outcome?, "by a sandbox without a limit")?;

    let outcome = sandbox.status(payload("alloc", &[&whole.to_string()]))?;
    starved(&outcome, "by itself")
}

fn starved(outcome: &Outcome, how: &str) -> Result {
    println!("starved {how}: {:?}, {:?}", outcome.verdict, outcome.oom);
    told(outcome, Verdict::HostOutOfMemory, OomScope::Host)
}
