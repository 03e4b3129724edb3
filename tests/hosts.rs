//! Odd hosts: each is a process of its own.
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
use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio as HostStdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar::{Bytes, ErrorKind, Feature, Sandbox, Stdio, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{
    Result, as_nobody, closed, explain, hold, mib, number, oracle, payload, role_command, run_helper, slack,
    succeed, timed, within,
};

fn main() -> ExitCode {
    let cases = cases![
        ignores_sigchld: ["userns"],
        has_no_stdio: ["userns"],
        has_no_stdio_and_inherits: ["userns"],
        is_out_of_descriptors: ["userns"],
        reaps_everything: ["userns"],
        is_killed_while_the_program_runs: ["userns"],
        is_killed_during_setup: ["userns"],
        leaves_boxes_that_the_next_sweeps: ["userns", "cgroup-pids"],
        has_a_forked_child_when_killed: ["userns"],
        has_no_privilege: ["userns", "setpriv"],
        spawns_from_many_threads: ["userns"],
        has_many_busy_threads: ["userns"],
        is_large: ["userns"],
        is_in_a_container_without_proc_of_its_own: ["root", "unshare"],
        has_a_strange_umask_and_directory: ["userns"],
        has_many_mounts: ["root"],
        forks_while_it_spawns: ["userns"],
        has_a_forked_child_that_drops_its_copies: ["userns"],
        panics: ["userns"],
        replaces_itself: ["userns", "cgroup-pids"],
    ];
    let roles: &[support::Role] = &[
        ("ignoring", ignoring),
        ("closed-stdio", closed_stdio),
        ("few-fds", few_fds),
        ("reaper", reaper),
        ("victim", victim),
        ("victim-setup", victim_setup),
        ("victim-fork", victim_fork),
        ("sweeper", sweeper),
        ("nobody", nobody),
        ("threads", threads),
        ("large", large),
        ("plain", plain),
        ("umask", umask),
        ("mounter", mounter),
        ("forker", forker),
        ("dropper", dropper),
        ("panicker", panicker),
        ("replacing", replacing),
    ];
    support::main_serial(cases, roles)
}

fn finish(result: Result) -> i32 {
    match result {
        Ok(()) => {
            println!("ok");
            0
        }
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

/// Runs a role as the host; it must say "ok".
fn expect_ok(role: &str, args: &[&str], seconds: u64) -> Result {
    let helper = run_helper(&mut role_command(role, args), Duration::from_secs(seconds))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

/// What any host expects to work.
fn works() -> Result {
    for code in [0, 3] {
        let output = closed().output(payload("exit", &[&code.to_string()]))?;
        assert_eq!(output.outcome.verdict, Verdict::Exited(code));
    }
    assert_eq!(closed().status(payload("raise", &["11"]))?.verdict, Verdict::Signaled(11));
    let outcome = closed().wall_time(Duration::from_millis(100)).status(payload("sleep", &["60000"]))?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    let output = closed().output(payload("flood", &["100000"]))?;
    assert_eq!(output.stdout.len(), 100_000);
    drop(hold(&closed())?);
    let container = closed().start()?;
    assert_eq!(container.status(payload("exit", &["4"]))?.verdict, Verdict::Exited(4));
    Ok(())
}

fn ignores_sigchld() -> Result {
    expect_ok("ignoring", &[], 30)
}

fn ignoring(_: &[OsString]) -> i32 {
    support::raw::disposition(libc::SIGCHLD, true);
    finish(works())
}

fn has_no_stdio() -> Result {
    for which in ["0", "1", "2", "01", "12", "012"] {
        closed_stdio_case(which, "output")?;
    }
    Ok(())
}

/// What the program inherits in place of streams that the host has closed must be /dev/null, and nothing of ours.
fn has_no_stdio_and_inherits() -> Result {
    for which in ["0", "1", "2", "01", "12", "012"] {
        closed_stdio_case(which, "inherit")?;
    }
    Ok(())
}

fn closed_stdio_case(which: &str, how: &str) -> Result {
    let scratch = support::Scratch::new();
    let report = scratch.file("report", "");
    let mut command = role_command("closed-stdio", &[which, how, report.to_str().expect("plain")]);
    run_helper(&mut command, Duration::from_secs(30))?;
    let text = fs::read_to_string(&report)?;
    assert_eq!(text, "ok", "closed {which}, {how}");
    Ok(())
}

fn closed_stdio(args: &[OsString]) -> i32 {
    let (which, how, report) =
        (support::roles::text(args, 0), support::roles::text(args, 1), support::roles::text(args, 2));
    // Made before there is room for it among the standard streams.
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    let (reader, writer) = (fs::File::from(reader), fs::File::from(writer));
    for digit in which.chars() {
        support::raw::close(digit as i32 - '0' as i32);
    }
    let run = move || -> Result {
        let mut limited = closed();
        for (feature, set) in [
            ("cgroup-memory", (|sandbox: Sandbox| sandbox.memory_max(mib(64))) as fn(Sandbox) -> Sandbox),
            ("cgroup-pids", |sandbox| sandbox.pids_max(20)),
        ] {
            // Looked at without starting a helper: its own pipes would land on the closed numbers.
            let name = feature.trim_start_matches("cgroup-");
            if support::features::controller_dir(name).is_some() && nix::unistd::geteuid().is_root() {
                limited = set(limited);
            }
        }
        if how == "output" {
            let output = limited.output(payload("fds", &[]))?;
            let text = succeed(output)?;
            let fine = text.lines().count() == 3 && text.starts_with("0 /dev/null\n1 pipe:");
            return if fine { Ok(()) } else { support::fail(text) };
        }
        // Inherited streams: the program tells over a kept pipe what it has.
        let mut command = belljar::Command::new("/bin/sh");
        // Read before anything is redirected: some shells redirect in themselves and then fork.
        let script = "for n in 0 1 2; do t=$(readlink /proc/$$/fd/$n) || t=none; echo \"$t\" >&3; done";
        command.args(["-c", script]);
        command.stdin(Stdio::inherit()).keep_fd(&writer, 3);
        drop(writer);
        let outcome = limited.status(&command)?;
        drop(command);
        if !outcome.success() {
            return support::fail(format!("{:?}", outcome.verdict));
        }
        let lines: Vec<String> = BufReader::new(reader).lines().collect::<std::io::Result<_>>()?;
        // A panic would print to what is closed.
        if lines.len() != 3 {
            return support::fail(format!("{lines:?}"));
        }
        for digit in which.chars() {
            let line = &lines[digit as usize - '0' as usize];
            if line != "/dev/null" {
                return support::fail(format!("stream {digit} is {line}, of {lines:?}"));
            }
        }
        Ok(())
    };
    let text = match run() {
        Ok(()) => "ok".to_owned(),
        Err(support::Fail(message)) => message,
    };
    fs::write(report, text).ok();
    0
}

fn is_out_of_descriptors() -> Result {
    expect_ok("few-fds", &[], 60)
}

/// Every limit of open files from nothing to enough: a clear error or success, and nothing is lost.
fn few_fds(_: &[OsString]) -> i32 {
    use nix::sys::resource::{Resource, setrlimit};
    // Whoever started us may have left some open.
    support::raw::syscall(libc::SYS_close_range, [3, u32::MAX as usize, 0, 0, 0, 0]).ok();
    let run = || -> Result {
        let sandbox = closed();
        let plan = sandbox.plan()?;
        plan.output(payload("exit", &["0"]))?;
        let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
        let before = oracle::open_fds();
        let highest = *before.last().expect("some are open") as u64;
        let (mut failed, mut worked, mut enough) = (0, 0, 0);
        for limit in highest + 1..highest + 80 {
            // More than enough is the same again.
            if enough == 10 {
                break;
            }
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
            let (results, time) =
                timed(|| [plan.output(payload("exit", &["0"])), sandbox.output(payload("exit", &["0"]))]);
            setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard)?;
            let good = results.iter().flatten().filter(|output| output.outcome.success()).count();
            enough = if good == results.len() { enough + 1 } else { 0 };
            for result in results {
                match result {
                    Ok(output) => {
                        worked += 1;
                        // The program itself may lack descriptors for its loader.
                        let verdict = output.outcome.verdict;
                        assert!(matches!(verdict, Verdict::Exited(0 | 127)), "{limit}: {verdict:?}");
                    }
                    Err(error) => {
                        failed += 1;
                        let clear = error.kind() == ErrorKind::ResourceExhausted
                            || error.raw_os_error() == Some(libc::EMFILE)
                            || error.kind() == ErrorKind::Exec;
                        assert!(clear, "{limit}: {}", explain(&error));
                    }
                }
            }
            assert!(time < Duration::from_secs(5) * slack(), "{limit}: {time:?}");
            assert_eq!(oracle::open_fds(), before, "{limit}");
            assert_eq!(oracle::children(std::process::id()), [0_u32; 0], "{limit}");
        }
        assert!(failed > 3 && worked > 3, "{failed} failed, {worked} worked");
        Ok(())
    };
    finish(run())
}

fn reaps_everything() -> Result {
    expect_ok("reaper", &[], 30)
}

fn reaper(_: &[OsString]) -> i32 {
    static STOP: AtomicBool = AtomicBool::new(false);
    static REAPED: AtomicU32 = AtomicU32::new(0);
    let thread = std::thread::spawn(|| {
        while !STOP.load(Ordering::Relaxed) {
            match nix::sys::wait::waitpid(Pid::from_raw(-1), Some(nix::sys::wait::WaitPidFlag::__WALL)) {
                Ok(_) => drop(REAPED.fetch_add(1, Ordering::Relaxed)),
                Err(_) => std::thread::sleep(Duration::from_micros(50)),
            }
        }
    });
    let result = (0..10).try_for_each(|_| works());
    STOP.store(true, Ordering::Relaxed);
    thread.join().ok();
    if REAPED.load(Ordering::Relaxed) == 0 {
        println!("nothing was reaped, so nothing was tested");
        return 1;
    }
    finish(result)
}

/// Starts a host that holds a sandbox; it says the pids of init and payload.
fn start_victim(role: &str) -> Result<(std::process::Child, u32, u32)> {
    let mut command = role_command(role, &[]);
    let mut host = command.stdin(HostStdio::piped()).stdout(HostStdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(host.stdout.as_mut().expect("piped")).read_line(&mut line)?;
    let mut words = line.split_whitespace().filter_map(|word| word.parse().ok());
    match (words.next(), words.next()) {
        (Some(init), Some(pid)) => Ok((host, init, pid)),
        _ => support::fail(format!("the host said {line:?}")),
    }
}

fn say_and_wait(sandbox: &Sandbox) -> Result {
    let held = hold(sandbox)?;
    println!("{} {}", oracle::parent(held.pid).unwrap_or(0), held.pid);
    std::io::stdout().flush()?;
    std::thread::sleep(Duration::from_secs(60));
    drop(held);
    Ok(())
}

fn victim(_: &[OsString]) -> i32 {
    finish(say_and_wait(&limited()))
}

fn limited() -> Sandbox {
    let has = |feature| support::features::missing(feature).is_none();
    let mut sandbox = closed();
    if has("cgroup-memory") {
        sandbox = sandbox.memory_max(mib(64));
    }
    if has("cgroup-pids") {
        sandbox = sandbox.pids_max(20);
    }
    sandbox
}

fn is_killed_while_the_program_runs() -> Result {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let (mut host, init, pid) = start_victim("victim")?;
        assert!(oracle::is_alive(init) && oracle::is_alive(pid));
        kill(Pid::from_raw(host.id() as i32), signal)?;
        let gone =
            within(Duration::from_secs(1) * slack(), || !oracle::is_alive(init) && !oracle::is_alive(pid));
        host.wait()?;
        assert!(gone, "init {init} or payload {pid} outlives a host that got {signal}");
    }
    Ok(())
}

fn is_killed_during_setup() -> Result {
    // At moments that move through the setup: from before the first call to well after the init is there, which takes
    // as long as it takes on this machine now. The host says a line when it begins, and one after each sandbox.
    let mark = format!("belljar-setup-{}", std::process::id());
    let start = || -> Result<_> {
        let mut host = role_command("victim-setup", &[&mark]).stdout(HostStdio::piped()).spawn()?;
        let mut said = BufReader::new(host.stdout.take().expect("piped")).lines();
        said.next();
        Ok((host, said))
    };
    let mut setup = Duration::ZERO;
    // The first fills caches, which those that are killed below find full.
    for _ in 0..2 {
        let (mut host, mut said) = start()?;
        let (line, took) = timed(|| said.next());
        host.kill()?;
        host.wait()?;
        assert!(line.is_some(), "a host without a sandbox");
        setup = took;
    }
    let kills = number("BELLJAR_TEST_ROUNDS", 60);
    let mut during = 0;
    for n in 0..kills {
        let (mut host, mut said) = start()?;
        std::thread::sleep(setup * 3 * n / kills);
        host.kill()?;
        let before = Instant::now();
        host.wait()?;
        let gone = within(Duration::from_secs(1) * slack(), || oracle::processes_with(&mark).is_empty());
        assert!(gone, "{n}: {:?} after {:?}", oracle::processes_with(&mark), before.elapsed());
        during += u32::from(said.next().is_none());
    }
    assert!(during > 0 && during < kills, "{during} of {kills} hosts were killed before they had a sandbox");
    let inits = || {
        let all = oracle::processes_with("belljar-init");
        all.into_iter().filter(|pid| oracle::parent(*pid) == Some(1)).count()
    };
    assert!(within(Duration::from_secs(1) * slack(), || inits() == 0), "inits without a host");
    Ok(())
}

/// Spawns as fast as it can, until it is killed.
fn victim_setup(args: &[OsString]) -> i32 {
    let mark = support::roles::text(args, 0);
    let sandbox = limited();
    println!("go");
    std::io::stdout().flush().ok();
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let mut command = payload("sleep", &["60000", &mark]);
        command.stdout(Stdio::null());
        match sandbox.spawn(&command) {
            Ok(child) => drop(child),
            Err(_) => return 1,
        }
        println!("a sandbox");
        std::io::stdout().flush().ok();
    }
    0
}

fn leaves_boxes_that_the_next_sweeps() -> Result {
    let (mut host, init, pid) = start_victim("victim")?;
    let owner = host.id();
    assert!(!oracle::boxes_of(owner).is_empty(), "the positive control");
    host.kill()?;
    host.wait()?;
    assert!(within(Duration::from_secs(1) * slack(), || !oracle::is_alive(init) && !oracle::is_alive(pid)));
    // The boxes of a host that lives stay as they are.
    let (mut other, _, _) = start_victim("victim")?;
    let others = oracle::boxes_of(other.id());
    expect_ok("sweeper", &[], 20)?;
    let left = oracle::boxes_of(owner);
    assert!(left.is_empty(), "not swept: {left:?}");
    assert_eq!(oracle::boxes_of(other.id()), others, "swept what is in use");
    other.kill()?;
    other.wait()?;
    expect_ok("sweeper", &[], 20)?;
    assert!(oracle::boxes_of(other.id()).is_empty(), "not swept");
    Ok(())
}

/// The next use on this machine.
fn sweeper(_: &[OsString]) -> i32 {
    finish(limited().status(payload("exit", &["0"])).map(drop).map_err(support::Fail::from))
}

fn has_a_forked_child_when_killed() -> Result {
    // A forked copy of the host holds the control socket open: its end is not seen there.
    let (mut host, init, pid) = start_victim("victim-fork")?;
    host.kill()?;
    host.wait()?;
    let gone = within(Duration::from_secs(1) * slack(), || !oracle::is_alive(init) && !oracle::is_alive(pid));
    for copy in oracle::processes_with("victim-fork") {
        kill(Pid::from_raw(copy as i32), Signal::SIGKILL).ok();
    }
    assert!(gone, "the sandbox lives on with a copy of its host");
    Ok(())
}

fn victim_fork(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let held = hold(&closed())?;
        let init = oracle::parent(held.pid).unwrap_or(0);
        if support::raw::fork()? == 0 {
            std::thread::sleep(Duration::from_secs(10));
            std::process::exit(0);
        }
        println!("{init} {}", held.pid);
        std::io::stdout().flush()?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    };
    finish(run())
}

fn has_no_privilege() -> Result {
    let helper = as_nobody("nobody", &[], Duration::from_secs(60))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn nobody(_: &[OsString]) -> i32 {
    let run = || -> Result {
        assert_ne!(nix::unistd::geteuid().as_raw(), 0);
        works()?;
        // Limits of a tree need a cgroup: given, or refused with a remedy, or skipped where that was allowed.
        let limits: [(Feature, Sandbox); 4] = [
            (Feature::MemoryMax, closed().memory_max(mib(64))),
            (Feature::PidsMax, closed().pids_max(20)),
            (Feature::CpuMax, closed().cpu_max(belljar::CpuMax::cpus(0.5))),
            (Feature::CpuTime, closed().cpu_time(Duration::from_secs(5))),
        ];
        for (feature, sandbox) in limits {
            match sandbox.status(payload("exit", &["0"])) {
                Ok(outcome) => assert!(outcome.enforced.contains(feature)),
                Err(error) => {
                    let kinds = [ErrorKind::PermissionDenied, ErrorKind::Unsupported];
                    assert!(kinds.contains(&error.kind()), "{feature}: {}", explain(&error));
                    assert!(
                        error.hint().is_some_and(|hint| !hint.is_empty()),
                        "{feature}: {}",
                        explain(&error)
                    );
                    let outcome = sandbox.best_effort(feature).status(payload("exit", &["0"]))?;
                    assert!(outcome.success() && !outcome.enforced.contains(feature));
                    let skipped = outcome.enforced.skipped();
                    assert!(
                        skipped
                            .iter()
                            .any(|skipped| skipped.feature == feature && !skipped.reason.is_empty()),
                        "{feature}: {skipped:?}"
                    );
                }
            }
        }
        // A mapped single id, overlay, tmpfs and binds: everything that needs no privilege.
        let root = belljar::Rootfs::overlay(["/usr"]).upper(belljar::Upper::tmpfs(Bytes::mib(4), 100));
        let container = Sandbox::new().rootfs(root).mount(belljar::Mount::proc("/local")).start()?;
        container.close()?;
        Ok(())
    };
    finish(run())
}

fn spawns_from_many_threads() -> Result {
    let (spawners, each) = (number("BELLJAR_TEST_THREADS", 16), number("BELLJAR_TEST_SPAWNS", 100));
    expect_ok("threads", &["4", &spawners.to_string(), &each.to_string()], 150)
}

/// A host that hangs in a lock which another thread held when it forked is what this waits for.
fn has_many_busy_threads() -> Result {
    let spawns = number("BELLJAR_TEST_ROUNDS", if support::soak() { 10_000 } else { 240 });
    let patience = if support::soak() { 1800 } else { 150 };
    expect_ok("threads", &["64", "4", &(spawns / 4).to_string()], patience)
}

/// Threads that spawn, while others allocate and take locks.
fn threads(args: &[OsString]) -> i32 {
    let count = |n| support::roles::int(args, n).unsigned_abs();
    let (noisy, spawners, each) = (count(0), count(1), count(2));
    static STOP: AtomicBool = AtomicBool::new(false);
    let noise: Vec<_> = (0..noisy)
        .map(|n| {
            std::thread::spawn(move || {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                while !STOP.load(Ordering::Relaxed) {
                    kept.push(vec![n as u8; 1 << (kept.len() % 16)]);
                    if kept.len() > 200 {
                        kept.clear();
                    }
                    // stdout's lock, the environment's, the allocator's.
                    drop(std::io::stdout().lock());
                    std::hint::black_box(std::env::var_os("PATH"));
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let sandbox = limited();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..spawners)
            .map(|n| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let mut failures = Vec::new();
                    for round in 0..each {
                        let code = ((n * 31 + round) % 200) as i32;
                        let mut command = belljar::Command::new("/bin/sh");
                        command.args(["-c", &format!("exit {code}")]);
                        match sandbox.status(&command) {
                            Ok(outcome) if outcome.verdict == Verdict::Exited(code) => {}
                            Ok(outcome) => failures.push(format!("{:?} for {code}", outcome.verdict)),
                            Err(error) => failures.push(explain(&error)),
                        }
                    }
                    failures
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    STOP.store(true, Ordering::Relaxed);
    noise.into_iter().for_each(|thread| drop(thread.join()));
    if failures.is_empty() {
        let children = oracle::children(std::process::id());
        let boxes = oracle::boxes_of(std::process::id());
        if !children.is_empty() || !boxes.is_empty() {
            return finish(support::fail(format!("left: {children:?} {boxes:?}")));
        }
        return finish(Ok(()));
    }
    let count = failures.len();
    let first: Vec<_> = failures.into_iter().take(5).collect();
    finish(support::fail(format!("{count} of {} failed: {first:?}", spawners * each)))
}

fn is_large() -> Result {
    expect_ok("large", &[], 60)
}

/// The cost of a spawn does not depend on the host's size.
fn large(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let plan = closed().plan()?;
        let measure = || -> Result<Duration> {
            let mut best = Duration::MAX;
            for _ in 0..15 {
                let (outcome, time) =
                    timed(|| plan.spawn(payload("exit", &["0"])).and_then(|mut child| child.wait()));
                assert!(outcome?.success());
                best = best.min(time);
            }
            Ok(best)
        };
        measure()?;
        let small = measure()?;
        let mut ballast = vec![0_u8; 1 << 30];
        ballast.chunks_mut(4096).for_each(|page| page[0] = 1);
        let big = measure()?;
        std::hint::black_box(&ballast);
        works()?;
        // fork(2) of such a host takes 30 ms and more.
        assert!(big < small * 2 + Duration::from_millis(5), "{small:?} before, {big:?} with 1 GiB resident");
        Ok(())
    };
    finish(run())
}

fn is_in_a_container_without_proc_of_its_own() -> Result {
    // A PID namespace whose /proc is still the outer one: whatever happens, it is not silent.
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount", "--propagation", "private"]);
    command.arg(support::own_exe()).args(["--role", "plain"]);
    let helper = run_helper(&mut command, Duration::from_secs(30))?;
    let fine = helper.stdout == "ok\n" || helper.stdout.contains("error");
    assert!(fine, "{helper:?}");
    // With one of its own it works.
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(support::own_exe()).args(["--role", "plain"]);
    assert_eq!(run_helper(&mut command, Duration::from_secs(30))?.succeed()?, "ok\n");
    Ok(())
}

fn plain(_: &[OsString]) -> i32 {
    match closed().status(payload("exit", &["0"])) {
        Ok(outcome) if outcome.success() => finish(Ok(())),
        Ok(outcome) => finish(support::fail(format!("{:?}", outcome.verdict))),
        Err(error) => finish(support::fail(format!("error: {}", explain(&error)))),
    }
}

fn has_a_strange_umask_and_directory() -> Result {
    expect_ok("umask", &[], 30)
}

fn umask(_: &[OsString]) -> i32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777));
    let gone = std::env::temp_dir().join(format!("belljar-test-gone-{}", std::process::id()));
    fs::create_dir(&gone).expect("a directory");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&gone, fs::Permissions::from_mode(0o700)).expect("ours");
    std::env::set_current_dir(&gone).expect("ours");
    fs::remove_dir(&gone).expect("empty");
    finish(works())
}

fn has_many_mounts() -> Result {
    expect_ok("mounter", &[], 60)
}

/// Inits of such a host start from a template of its mounts, from the third on. Whatever the host does to its mounts and
/// files between two runs is seen by the next.
fn mounter(_: &[OsString]) -> i32 {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    const NONE: Option<&str> = None;
    let on_host = |path: &str| format!("/mnt/{path}");
    let bind = |source: &str, target: &str| -> Result {
        mount(Some(on_host(source).as_str()), on_host(target).as_str(), NONE, MsFlags::MS_BIND, NONE)?;
        Ok(())
    };
    let run = || -> Result {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        mount(Some("test"), "/mnt", Some("tmpfs"), MsFlags::empty(), NONE)?;
        for (dir, content) in [("shown/deep", "below"), ("over", "above"), ("other", "other")] {
            fs::create_dir_all(on_host(dir))?;
            fs::write(on_host(dir) + "/file", content)?;
        }
        for _ in 0..200 {
            bind("other", "other")?;
        }
        let plan = closed().mount(belljar::Mount::bind("/mnt/shown", "/shown")).plan()?;
        let sees = |content: &str| -> Result {
            // Twice for the host to be found as it was, and once more in the template.
            for _ in 0..3 {
                let output = plan.output(payload("cat", &["/shown/deep/file"]))?;
                assert_eq!((output.stdout.as_slice(), output.outcome.success()), (content.as_bytes(), true));
            }
            Ok(())
        };
        sees("below")?;
        bind("over", "shown/deep")?;
        sees("above")?;
        umount2(on_host("shown/deep").as_str(), MntFlags::empty())?;
        sees("below")?;
        fs::write(on_host("shown/new"), "renamed")?;
        fs::rename(on_host("shown/new"), on_host("shown/deep/file"))?;
        sees("renamed")?;
        // With namespaces made ahead, which come after the template.
        let ahead = plan.prepare_ahead(4)?;
        for _ in 0..4 {
            let output = ahead.output(payload("cat", &["/shown/deep/file"]))?;
            assert_eq!(output.stdout, b"renamed");
        }
        // Nothing that the policy does not name came with the template.
        let output = plan.output(payload("cat", &["/proc/self/mounts"]))?;
        let mounts = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!mounts.contains("/mnt") && !mounts.contains("other"), "{mounts}");
        // A thread of the host that has other mounts shows those.
        std::thread::scope(|scope| {
            let elsewhere = || -> Result {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
                bind("over", "shown/deep")?;
                sees("above")
            };
            scope.spawn(elsewhere).join().expect("no panic")
        })?;
        sees("renamed")?;
        works()
    };
    finish(run())
}

fn forks_while_it_spawns() -> Result {
    expect_ok("forker", &[], 60)
}

/// Other threads run ordinary programs meanwhile: no descriptor of ours may get into them, or keep ours open.
fn forker(_: &[OsString]) -> i32 {
    support::raw::syscall(libc::SYS_close_range, [3, u32::MAX as usize, 0, 0, 0, 0]).ok();
    let run = || -> Result {
        static STOP: AtomicBool = AtomicBool::new(false);
        let other = std::thread::spawn(|| -> std::io::Result<Vec<String>> {
            let mut strange = Vec::new();
            while !STOP.load(Ordering::Relaxed) {
                let output = role_command("fds", &[]).stdin(HostStdio::null()).output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                if text.lines().count() != 3 {
                    strange.push(text);
                }
            }
            Ok(strange)
        });
        for _ in 0..number("BELLJAR_TEST_ROUNDS", 100) {
            assert!(closed().output(payload("exit", &["0"]))?.outcome.success());
        }
        STOP.store(true, Ordering::Relaxed);
        let strange = other.join().expect("no panic")?;
        assert_eq!(strange, [""; 0]);
        Ok(())
    };
    finish(run())
}

fn panics() -> Result {
    let helper = run_helper(&mut role_command("panicker", &[]), Duration::from_secs(20))?;
    let pid: u32 = helper.stdout.trim().parse().map_err(|_| support::Fail(format!("{helper:?}")))?;
    assert!(!helper.status.success());
    assert!(
        within(Duration::from_secs(1) * slack(), || !oracle::is_alive(pid)),
        "the program outlives a panic"
    );
    Ok(())
}

fn panicker(_: &[OsString]) -> i32 {
    let held = hold(&closed()).expect("it runs");
    println!("{}", held.pid);
    std::io::stdout().flush().ok();
    panic!("as planned");
}

fn has_a_forked_child_that_drops_its_copies() -> Result {
    expect_ok("dropper", &[], 30)
}

fn dropper(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let mut held = hold(&closed())?;
        let container = closed().start()?;
        if support::raw::fork()? == 0 {
            drop(held);
            drop(container);
            std::process::exit(0);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(held.child.try_wait()?.is_none(), "the copy ended it");
        assert!(container.status(support::payload("exit", &["0"]))?.success(), "the copy ended it");
        Ok(())
    };
    finish(run())
}

/// It keeps its pid and its start time, and must not use the name of a box again: the kernel's log may tell of the first.
fn replaces_itself() -> Result {
    let helper = run_helper(&mut role_command("replacing", &["3"]), Duration::from_secs(30) * slack())?;
    let said = helper.succeed()?;
    let names: std::collections::BTreeSet<_> = said.lines().collect();
    assert_eq!(names.len(), 3, "{said}");
    Ok(())
}

/// `replacing COUNT`
fn replacing(args: &[OsString]) -> i32 {
    use std::os::unix::process::CommandExt;
    let run = || {
        let held = hold(&closed().pids_max(8))?;
        let dir = support::features::directory_of(&held.pid.to_string(), "pids").expect("it is in a box");
        println!("{}", dir.file_name().expect("it has one").to_string_lossy());
        held.release()?;
        Ok(())
    };
    if let Err(support::Fail(message)) = run() {
        println!("{message}");
        return 1;
    }
    let left = support::roles::int(args, 0) - 1;
    if left == 0 {
        return 0;
    }
    std::io::stdout().flush().ok();
    println!("{}", role_command("replacing", &[&left.to_string()]).exec());
    1
}
