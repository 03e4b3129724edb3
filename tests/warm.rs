//! Programs of a container are forked from one that was confined before: they begin as any other does, each of them runs once,
//! and what lies ready is not counted, not seen and not to be had.
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

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{Command, Container, Resource, Sandbox, Seccomp, Stdio, Verdict};
use support::roles::text;
use support::{Result, closed, explain, hold_in, payload, raw, slack, succeed, within};

fn main() -> ExitCode {
    let cases = cases![
        programs_begin_alike: ["userns"],
        programs_begin_alike_with_a_policy: ["userns", "landlock"],
        what_waits_is_not_counted: ["userns", "cgroup-pids", "cgroup-memory"],
        what_waits_cannot_be_had: ["userns"],
        limits_and_kills_are_exact: ["userns", "cgroup-memory", "cgroup-pids"],
        each_runs_once_beside_a_killer: ["userns"],
        each_runs_once_beside_one_who_stops: ["userns"],
        each_runs_once_beside_root: ["userns"],
        many_threads: ["userns"],
        large_commands: ["userns"],
        commands_that_cannot_be: ["userns"],
        policies_that_have_no_template: ["userns"],
        little_room_for_descriptors: ["userns"],
    ];
    let roles: &[support::Role] =
        &[("looks", looks), ("marks", marks), ("kills", kills), ("stops", stops), ("grasps", grasps)];
    support::main_serial(cases, roles)
}

/// What a program can see of how it begins, but for what is its own: ids of processes, times, addresses.
fn looks(_: &[OsString]) -> i32 {
    let own = ["Pid", "Tgid", "NSpid", "NStgid", "NSpgid", "NSsid", "PPid"];
    let status = fs::read_to_string("/proc/self/status").expect("it has a status");
    for line in status.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let counted = name.starts_with("Vm") || name.starts_with("Rss") || name.contains("ctxt_switches");
        if !own.contains(&name) && !counted && name != "SpeculationIndirectBranch" {
            println!("{line}");
        }
    }
    print!("{}", fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    print!("{}", fs::read_to_string("/proc/self/limits").expect("it has limits"));
    for number in 0..64 {
        let ask = |what| raw::syscall(libc::SYS_fcntl, [number, what, 0, 0, 0, 0]);
        if let (Ok(own), Ok(shared)) = (ask(libc::F_GETFD as usize), ask(libc::F_GETFL as usize)) {
            println!("descriptor {number}: {own} {shared}");
        }
    }
    let call = |number| raw::syscall(number, [0; 6]).unwrap_or(-1);
    let pid = call(libc::SYS_getpid);
    let (leads, group) = (call(libc::SYS_getsid) == pid, call(libc::SYS_getpgid) == pid);
    let umask = call(libc::SYS_umask);
    println!("leads its session {leads}, its group {group}, umask {umask:o}");
    println!("directory {:?}", std::env::current_dir());
    println!("arguments {:?}", std::env::args_os().skip(1).collect::<Vec<_>>());
    println!("variables {:?}", std::env::vars_os().collect::<BTreeMap<_, _>>());
    0
}

fn looking() -> Command {
    let mut command = payload("looks", &["one", "", "three"]);
    command.env("A", "1").current_dir("/tmp").stdin(Stdio::null());
    command
}

fn alike(sandbox: &Sandbox) -> Result {
    let alone = succeed(sandbox.output(looking())?)?;
    let container = sandbox.start()?;
    let mut descriptors = 0;
    for round in 0..8 {
        let seen = succeed(container.output(looking())?)?;
        assert_eq!(seen, alone, "round {round}");
        descriptors = seen.lines().filter(|line| line.starts_with("descriptor ")).count();
    }
    assert_eq!(descriptors, 3, "{alone}");
    let pool = sandbox.plan()?.pool().size(2).start()?;
    for round in 0..4 {
        assert_eq!(succeed(pool.output(looking())?)?, alone, "round {round} of the pool");
    }
    Ok(())
}

fn programs_begin_alike() -> Result {
    alike(&closed())?;
    alike(&closed().allow_all_syscalls())?;
    if support::features::missing("cgroup-pids").is_none() {
        alike(&closed().pids_max(8))?;
    }
    alike(&closed().rlimit(Resource::Nofile, 64, 64).rlimit(Resource::Stack, 1 << 20, 1 << 20))
}

fn programs_begin_alike_with_a_policy() -> Result {
    alike(&closed().landlock(belljar::Landlock::new().read("/").execute("/").write("/tmp")))?;
    alike(&closed().seccomp(Seccomp::new().kill(["ptrace"])))?;
    alike(&closed().seccomp(Seccomp::new().deny(["recvmsg", "chdir", "setsid", "close_range"])))
}

fn what_waits_is_not_counted() -> Result {
    let container = closed().pids_max(1).memory_max(support::mib(64)).start()?;
    for _ in 0..20 {
        assert_eq!(container.usage()?.pids, Some(0));
        let held = hold_in(&container)?;
        let usage = container.usage()?;
        assert_eq!((usage.pids, usage.peak_pids), (Some(1), Some(1)), "the program and nothing else");
        let outcome = held.release()?;
        assert_eq!(outcome.usage.pids_denied, Some(0), "{outcome:?}");
    }
    Ok(())
}

/// `PTRACE_SEIZE`.
const SEIZE: usize = 0x4206;

fn signal(pid: i64, signal: i32) -> std::io::Result<i64> {
    raw::syscall(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0])
}

/// Whom a program finds by their ids, and what it can do to them.
fn grasps(_: &[OsString]) -> i32 {
    let me = i64::from(std::process::id());
    for pid in (2..me + 8).filter(|pid| *pid != me) {
        if signal(pid, 0).is_err() {
            continue;
        }
        println!("alive");
        for file in ["mem", "environ", "maps", "fd", "syscall"] {
            let path = format!("/proc/{pid}/{file}");
            let opened = if file == "fd" {
                fs::read_dir(&path).map(|entries| entries.count()).map(drop)
            } else {
                fs::read(&path).map(drop)
            };
            if opened.is_ok() {
                println!("opened {path}");
            }
        }
        if raw::syscall(libc::SYS_ptrace, [SEIZE, pid as usize, 0, 0, 0, 0]).is_ok() {
            println!("attached to {pid}");
        }
    }
    0
}

fn what_waits_cannot_be_had() -> Result {
    let policy = Seccomp::new().allow(["ptrace"]);
    let proc = belljar::Mount::proc("/proc").full();
    let container = closed().mount(proc).seccomp(policy).start()?;
    let mut met = 0;
    for _ in 0..10 {
        let seen = succeed(container.output(payload("grasps", &[]))?)?;
        met += seen.lines().filter(|line| *line == "alive").count();
        assert!(seen.lines().all(|line| line == "alive"), "{seen}");
    }
    assert!(met > 0, "there is something to be met");
    // Of a program it is otherwise.
    let held = hold_in(&container)?;
    let seen = succeed(container.output(payload("grasps", &[]))?)?;
    assert!(seen.contains("attached to"), "{seen}");
    held.release().map(drop)
}

fn limits_and_kills_are_exact() -> Result {
    let policy = Seccomp::new();
    let container = closed().seccomp(policy).memory_max(support::mib(24)).pids_max(8).start()?;
    for _ in 0..3 {
        let outcome = container.status(payload("alloc", &[&(64 << 20).to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "{outcome:?}");
        let outcome = container.status(payload("fork-bomb", &["20"]))?;
        assert!(outcome.usage.pids_denied > Some(0), "{outcome:?}");
        let outcome = container.status(payload("exit", &["7"]))?;
        assert_eq!(outcome.verdict, Verdict::Exited(7));
        assert_eq!((outcome.usage.oom_kills, outcome.usage.pids_denied), (Some(0), Some(0)), "{outcome:?}");
        assert!(outcome.usage.wall < Duration::from_secs(1) * slack(), "{outcome:?}");
    }
    Ok(())
}

/// Adds its number to a file.
fn marks(args: &[OsString]) -> i32 {
    let number = text(args, 0);
    let mut file =
        fs::File::options().append(true).create(true).open("/tmp/marks").expect("/tmp is writable");
    file.write_all(format!("{number}\n").as_bytes()).expect("a line is written at once");
    0
}

/// Who kills, and is not killed by that: itself it does not signal.
fn kills(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        signal(-1, libc::SIGKILL).ok();
        std::thread::sleep(Duration::from_micros(300));
    }
    0
}

fn stops(_: &[OsString]) -> i32 {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        for number in [libc::SIGSTOP, libc::SIGCONT, libc::SIGUSR1] {
            signal(-1, number).ok();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    0
}

/// Runs programs beside a hostile one of the same user.
fn once_beside(role: &str, rounds: usize) -> Result {
    let container = closed().start()?;
    let mut hostile = container.spawn(payload(role, &[]))?;
    let mut ended = BTreeMap::new();
    for number in 0..rounds {
        let marked =
            container.spawn(payload("marks", &[&number.to_string()])).and_then(|mut child| child.wait());
        match marked {
            Ok(outcome) => drop(ended.insert(number, outcome.verdict)),
            Err(error) => assert_ne!(error.kind(), belljar::ErrorKind::Internal, "{}", explain(&error)),
        }
    }
    hostile.kill()?;
    hostile.wait()?;
    let marks = succeed(container.output(payload("cat", &["/tmp/marks"]))?)?;
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for line in marks.lines() {
        *counts.entry(line.parse().expect("a number")).or_default() += 1;
    }
    for (number, count) in &counts {
        assert_eq!(*count, 1, "{number} ran {count} times");
    }
    for (number, verdict) in &ended {
        if *verdict == Verdict::Exited(0) {
            assert!(counts.contains_key(number), "{number} ended well and did not run");
        }
    }
    // Afterwards it is as it was.
    for _ in 0..5 {
        assert_eq!(container.status(payload("exit", &["3"]))?.verdict, Verdict::Exited(3));
    }
    assert!(within(Duration::from_secs(5) * slack(), || one_is_quick(&container)));
    Ok(())
}

fn one_is_quick(container: &Container) -> bool {
    let start = Instant::now();
    container.status(payload("exit", &["0"])).is_ok_and(|outcome| outcome.success())
        && start.elapsed() < Duration::from_millis(500) * slack()
}

fn each_runs_once_beside_a_killer() -> Result {
    once_beside("kills", 150)
}

fn each_runs_once_beside_one_who_stops() -> Result {
    once_beside("stops", 40)
}

fn many_threads() -> Result {
    let container = closed().start()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let container = &container;
                scope.spawn(move || -> Result {
                    for n in 0..25 {
                        let code = (thread * 25 + n) % 200;
                        let mut command = payload("exit", &[&code.to_string()]);
                        command.stdout(Stdio::capture(100_u64));
                        assert_eq!(container.status(&command)?.verdict, Verdict::Exited(code));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// On both sides of what fits into a message, and of what is kept for that.
fn large_commands() -> Result {
    let container = closed().start()?;
    for length in [7000, 7800, 8000, 8192, 9000, 100_000] {
        let word = "x".repeat(length);
        let mut command = looking();
        command.arg(&word);
        let seen = succeed(container.output(&command)?)?;
        assert!(seen.contains(&word), "{length}");
    }
    Ok(())
}

fn commands_that_cannot_be() -> Result {
    let container = closed().start()?;
    for _ in 0..20 {
        let error = container.spawn(Command::new("/no/such")).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{}", explain(&error));
        let mut command = payload("exit", &["0"]);
        command.current_dir("/no/such");
        let error = container.spawn(&command).expect_err("there is none");
        assert_eq!((error.step(), error.raw_os_error()), (belljar::Step::Chdir, Some(libc::ENOENT)));
    }
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

/// Where each program is confined by itself, as always: a limit of processes of the user counts what waits, a listener could not
/// tell whose call it hears.
fn policies_that_have_no_template() -> Result {
    let limited = closed().rlimit(Resource::Nproc, 1, 1).start()?;
    let denied = closed().seccomp(Seccomp::new().kill(["getppid"])).start()?;
    let silent = closed().seccomp(Seccomp::new().deny(["execve", "execveat", "clone", "recvmsg"])).start()?;
    let number = libc::SYS_getppid.to_string();
    for _ in 0..5 {
        assert!(limited.status(payload("exit", &["0"]))?.success());
        let outcome = denied.status(payload("syscall", &[&number]))?;
        assert!(matches!(outcome.verdict, Verdict::SyscallDenied { .. }), "{outcome:?}");
        assert!(silent.status(payload("exit", &["0"]))?.success());
    }
    Ok(())
}

fn little_room_for_descriptors() -> Result {
    for most in [4, 8] {
        let container = closed().rlimit(Resource::Nofile, most, most).start()?;
        for _ in 0..4 {
            let outcome = container.status(payload("exit", &["0"]))?;
            assert_eq!(outcome.verdict, Verdict::Exited(0), "{most}");
        }
    }
    Ok(())
}

/// A program with the init's own user id can do more to what waits: the host must not wait for ever for all that.
fn each_runs_once_beside_root() -> Result {
    for role in ["kills", "stops"] {
        let container = closed().root().start()?;
        let mut hostile = container.spawn(payload(role, &[]))?;
        let start = Instant::now();
        for _ in 0..10 {
            container.spawn(payload("exit", &["0"])).and_then(|mut child| child.wait()).ok();
        }
        assert!(start.elapsed() < Duration::from_secs(120) * slack(), "{:?}", start.elapsed());
        hostile.kill()?;
        hostile.wait()?;
        assert!(within(Duration::from_secs(5) * slack(), || one_is_quick(&container)));
    }
    Ok(())
}
