//! Nothing of one run is there for the next: what a program leaves in a container is found there, and not after a reset.
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
use std::io::Write;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar::{Bytes, Container, ErrorKind, Limits, Mount, Rootfs, Sandbox, Seccomp, Stdio, Upper, Verdict};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::features::missing;
use support::ledger::Ledger;
use support::roles::text;
use support::{
    Fail, Result, Scratch, closed, explain, fail, hold_in, mib, oracle, own_exe, payload, raw, role_command,
    role_result, run_helper, slack, with_payload,
};

fn main() -> ExitCode {
    let cases = cases![
        files_are_gone: ["userns", "overlay", "tmpfs-xattr"],
        ipc_objects_are_gone: ["userns"],
        names_are_as_new: ["userns"],
        keys_are_gone: ["userns"],
        processes_are_gone: ["userns"],
        sockets_and_their_counters_are_gone: ["userns"],
        process_ids_begin_again: ["userns"],
        counters_begin_again: ["userns", "cgroup-memory", "cgroup-pids"],
        limits_are_those_of_the_policy: ["userns", "cgroup-pids"],
        many_programs_at_once_are_killed: ["userns"],
        without_a_pid_namespace: ["userns", "cgroup-pids"],
        spawns_of_other_threads_meet_resets: ["userns"],
        after_the_init_was_killed: ["userns"],
        a_reset_that_fails: ["userns"],
        a_frozen_container: ["userns", "cgroup-v2"],
        an_upper_on_disk: ["userns", "overlay"],
        a_forked_host: ["userns"],
        nothing_stays_after_many: ["userns"],
    ];
    let roles: &[support::Role] =
        &[("mark", mark), ("look", look), ("stay", stay), ("starved", starved), ("forked", forked)];
    support::main_serial(cases, roles)
}

/// The calls that a policy leaves out, for keys and names.
fn generous() -> Sandbox {
    let calls = ["keyctl", "add_key", "request_key", "sethostname", "setdomainname"];
    closed().root().keep_capability("sys_admin").seccomp(Seccomp::new().allow(calls))
}

/// A mark is found by the next program, and after a reset by none.
fn is_gone(sandbox: &Sandbox, channels: &[&str]) -> Result {
    let container = sandbox.start()?;
    // A background process keeps what lives as long as a process, and is left behind.
    for channel in channels {
        expect(&container, "look", channel, "nothing")?;
        expect(&container, "mark", channel, "left")?;
        expect(&container, "look", channel, "found")?;
    }
    container.reset()?;
    for channel in channels {
        expect(&container, "look", channel, "nothing")?;
        // It is as usable as before.
        expect(&container, "mark", channel, "left")?;
        expect(&container, "look", channel, "found")?;
    }
    container.reset()?;
    for channel in channels {
        expect(&container, "look", channel, "nothing")?;
    }
    container.close()?;
    Ok(())
}

fn expect(container: &Container, role: &str, channel: &str, wanted: &str) -> Result {
    let mut command = payload(role, &[channel]);
    command.stdout(Stdio::capture(1000_u64)).stderr(Stdio::capture(10_000_u64));
    let output = container.output(&command)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.trim() != wanted {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return fail(format!(
            "{role} {channel}: {said:?} instead of {wanted:?}, {:?}: {why}",
            output.outcome
        ));
    }
    Ok(())
}

type Io<T> = std::io::Result<T>;

const FILES: [&str; 4] = ["/tmp/mark", "/dev/shm/mark", "/home/mark", "/mark"];
const KEY: usize = 0x6265_6c6c;
const SESSION: usize = -3_isize as usize;
const USER: usize = -4_isize as usize;
const USER_SESSION: usize = -5_isize as usize;

fn key(ring: usize) -> [usize; 6] {
    [c"user".as_ptr().addr(), c"belljar-mark".as_ptr().addr(), c"mark".as_ptr().addr(), 4, ring, 0]
}

fn search(ring: usize) -> [usize; 6] {
    const SEARCH: usize = 10;
    [SEARCH, ring, c"user".as_ptr().addr(), c"belljar-mark".as_ptr().addr(), 0, 0]
}

/// The keyring of that name, with all rights to it, which a link from the session's gives.
fn possessed(name: &str) -> Io<usize> {
    const LINK: usize = 8;
    let ring = match name {
        "user-keyring" => USER,
        "user-session-keyring" => USER_SESSION,
        _ => return Ok(SESSION),
    };
    raw::syscall(libc::SYS_keyctl, [LINK, ring, SESSION, 0, 0, 0])?;
    Ok(ring)
}

/// Goes on in the background, for as long as nobody kills it.
fn daemon(work: impl FnOnce() -> Io<()>) -> Io<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    if raw::fork()? != 0 {
        drop(theirs);
        let mut word = String::new();
        std::io::Read::read_to_string(&mut ours, &mut word)?;
        return if word == "ok" { Ok(()) } else { Err(std::io::Error::other(word)) };
    }
    drop(ours);
    raw::syscall(libc::SYS_setsid, [0; 6])?;
    let word = work().map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    (&theirs).write_all(word.as_bytes())?;
    drop(theirs);
    (0..3).for_each(raw::close);
    std::thread::sleep(Duration::from_secs(60));
    std::process::exit(0)
}

/// Leaves a mark.
fn mark(args: &[OsString]) -> i32 {
    let channel = text(args, 0);
    let left: Io<()> = (|| match channel.as_str() {
        path if path.starts_with('/') => fs::write(path, "mark"),
        "removed" => fs::remove_file("/present"),
        "shared-memory" => raw::syscall(libc::SYS_shmget, [KEY, 4096, 0o1666, 0, 0, 0]).map(drop),
        "semaphore" => raw::syscall(libc::SYS_semget, [KEY, 1, 0o1666, 0, 0, 0]).map(drop),
        "messages" => raw::syscall(libc::SYS_msgget, [KEY, 0o1666, 0, 0, 0, 0]).map(drop),
        "queue" => {
            let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
            let path = c"belljar-mark".as_ptr().addr();
            raw::syscall(libc::SYS_mq_open, [path, flags, 0o666, 0, 0, 0]).map(drop)
        }
        "hostname" => raw::syscall(libc::SYS_sethostname, [c"mark".as_ptr().addr(), 4, 0, 0, 0, 0]).map(drop),
        "domain" => raw::syscall(libc::SYS_setdomainname, [c"mark".as_ptr().addr(), 4, 0, 0, 0, 0]).map(drop),
        name if name.ends_with("keyring") => {
            let ring = possessed(name)?;
            let key = raw::syscall(libc::SYS_add_key, key(ring))?;
            const SETPERM: usize = 5;
            raw::syscall(libc::SYS_keyctl, [SETPERM, key as usize, 0x3f3f_3f3f, 0, 0, 0]).map(drop)
        }
        "process" => daemon(|| {
            let name = c"belljar-mark".as_ptr().addr();
            raw::syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, name, 0, 0, 0, 0]).map(drop)
        }),
        "abstract" => daemon(|| {
            let name = SocketAddr::from_abstract_name("belljar-mark")?;
            std::mem::forget(UnixListener::bind_addr(&name)?);
            Ok(())
        }),
        "port" => daemon(|| {
            std::mem::forget(UdpSocket::bind("127.0.0.1:4242")?);
            Ok(())
        }),
        "loopback" => {
            let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
            one.send_to(b"mark", other.local_addr()?).map(drop)
        }
        "connection" => {
            // Who closes first has it in TIME_WAIT for a minute.
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            let client = std::net::TcpStream::connect(listener.local_addr()?)?;
            let (server, _) = listener.accept()?;
            drop(client);
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut &server, &mut rest)?;
            Ok(())
        }
        other => Err(std::io::Error::other(other.to_owned())),
    })();
    match left {
        Ok(()) => println!("left"),
        Err(error) => println!("refused: {error}"),
    }
    if text(args, 1) == "look" {
        return look(args);
    }
    0
}

/// Looks for it.
fn look(args: &[OsString]) -> i32 {
    let channel = text(args, 0);
    let is_so = |result: Io<i64>| result.map_or(Ok(false), |_| Ok(true));
    let found: Io<bool> = (|| match channel.as_str() {
        path if path.starts_with('/') => Ok(fs::read_to_string(path).is_ok()),
        "removed" => Ok(fs::metadata("/present").is_err()),
        "shared-memory" => is_so(raw::syscall(libc::SYS_shmget, [KEY, 0, 0, 0, 0, 0])),
        "semaphore" => is_so(raw::syscall(libc::SYS_semget, [KEY, 0, 0, 0, 0, 0])),
        "messages" => is_so(raw::syscall(libc::SYS_msgget, [KEY, 0, 0, 0, 0, 0])),
        "queue" => is_so(raw::syscall(libc::SYS_mq_open, [c"belljar-mark".as_ptr().addr(), 0, 0, 0, 0, 0])),
        "hostname" => Ok(nix::sys::utsname::uname()?.nodename() == "mark"),
        "domain" => Ok(nix::sys::utsname::uname()?.domainname() == "mark"),
        name if name.ends_with("keyring") => is_so(raw::syscall(libc::SYS_keyctl, search(possessed(name)?))),
        "process" => Ok(fs::read_dir("/proc")?.flatten().any(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == "belljar-mark")
        })),
        "abstract" => {
            let name = SocketAddr::from_abstract_name("belljar-mark")?;
            Ok(UnixStream::connect_addr(&name).is_ok())
        }
        "port" => Ok(UdpSocket::bind("127.0.0.1:4242").is_err()),
        "loopback" => {
            let text = fs::read_to_string("/proc/net/dev")?;
            let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
            let packets = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("?");
            Ok(packets != "0")
        }
        "connection" => {
            const TIME_WAIT: &str = "06";
            let table = fs::read_to_string("/proc/net/tcp")?;
            Ok(table.lines().skip(1).any(|line| line.split_whitespace().nth(3) == Some(TIME_WAIT)))
        }
        other => Err(std::io::Error::other(other.to_owned())),
    })();
    match found {
        Ok(true) => println!("found"),
        Ok(false) => println!("nothing"),
        Err(error) => println!("refused: {error}"),
    }
    0
}

fn files_are_gone() -> Result {
    let scratch = Scratch::new();
    scratch.dir("lower/home");
    scratch.dir("lower/tmp");
    scratch.dir("lower/dev");
    scratch.dir("lower/proc");
    fs::copy(own_exe(), scratch.join("lower/payload"))?;
    scratch.file("lower/present", "");
    let root = Rootfs::overlay([scratch.join("lower")]).upper(Upper::tmpfs(mib(16), 1000));
    let overlay = Sandbox::new()
        .root()
        .rootfs(root)
        .mount(Mount::bind("/usr", "/usr"))
        .mount(Mount::symlink("usr/lib", "/lib"))
        .mount(Mount::symlink("usr/lib64", "/lib64"))
        .mount(Mount::proc("/proc"))
        .mount(Mount::dev("/dev"))
        .mount(Mount::tmpfs("/tmp"));
    let channels: Vec<&str> = FILES.into_iter().chain(["removed"]).collect();
    is_gone(&overlay, &channels)?;
    // Of an upper in memory the host can tell what has changed, of the one that is there now.
    let container = overlay.start()?;
    expect(&container, "mark", "/mark", "left")?;
    let changed = |container: &Container| -> Result<bool> {
        Ok(container.changes()?.iter().any(|change| change.path == std::path::Path::new("/mark")))
    };
    assert!(changed(&container)?);
    container.reset()?;
    assert!(!changed(&container)?);
    container.copy_in(&b"new"[..], "/mark", 0o644, Bytes::kib(1))?;
    assert!(changed(&container)?);
    // The system view.
    is_gone(&closed(), &FILES[..2])
}

fn ipc_objects_are_gone() -> Result {
    is_gone(&closed(), &["shared-memory", "semaphore", "messages", "queue"])
}

fn names_are_as_new() -> Result {
    is_gone(&generous(), &["hostname", "domain"])
}

fn keys_are_gone() -> Result {
    // A keyring that the programs of this thread inherit, as those of a login do.
    raw::syscall(libc::SYS_keyctl, [1, 0, 0, 0, 0, 0])?;
    // One at a time: each can be reached by the other.
    is_gone(&generous(), &["user-keyring"])?;
    is_gone(&generous(), &["user-session-keyring"])?;
    // That of the session is each program's own, and not the one that other programs of this thread inherit.
    let mut command = role_command("mark", &["session-keyring", "look"]);
    assert_eq!(run_helper(&mut command, Duration::from_secs(10))?.succeed()?, "left\nfound\n");
    let on_host = || run_helper(&mut role_command("look", &["session-keyring"]), Duration::from_secs(10));
    assert_eq!(on_host()?.succeed()?, "found\n");
    for sandbox in [generous(), closed().allow_all_syscalls()] {
        let container = sandbox.start()?;
        for _ in 0..2 {
            expect(&container, "look", "session-keyring", "nothing")?;
            let output = container.output(payload("mark", &["session-keyring", "look"]))?;
            assert_eq!(support::succeed(output)?, "left\nfound\n");
            expect(&container, "look", "session-keyring", "nothing")?;
            container.reset()?;
        }
    }
    Ok(())
}

fn processes_are_gone() -> Result {
    let container = closed().start()?;
    expect(&container, "mark", "process", "left")?;
    let held = hold_in(&container)?;
    let init = oracle::parent(held.pid).expect("it has a parent");
    let inside = oracle::children(init);
    assert!(inside.len() >= 2, "{inside:?}");
    let mut child = held.child;
    container.reset()?;
    // Before it returns, and whoever they belong to.
    for pid in inside.iter().chain([&init]) {
        assert!(!oracle::is_alive(*pid), "{pid} of {inside:?}");
    }
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    drop(container);
    is_gone(&closed(), &["process"])
}

fn sockets_and_their_counters_are_gone() -> Result {
    // One at a time: they use the same interface.
    let sandbox = closed().mount(Mount::proc("/proc").full());
    for channel in ["loopback", "connection", "abstract", "port"] {
        is_gone(&sandbox, &[channel])?;
    }
    Ok(())
}

fn process_ids_begin_again() -> Result {
    let container = closed().start()?;
    let own_id = |container: &Container| -> Result<u32> {
        let output = container.output(payload("status", &[]))?;
        let fields = oracle::fields(&String::from_utf8_lossy(&output.stdout));
        Ok(fields.get("Pid").and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    let first = own_id(&container)?;
    for _ in 0..20 {
        container.status(payload("exit", &["0"]))?;
    }
    assert!(own_id(&container)? > first + 20);
    container.reset()?;
    assert_eq!(own_id(&container)?, first);
    Ok(())
}

fn counters_begin_again() -> Result {
    let sandbox = closed().memory_max(mib(128)).pids_max(32);
    let container = sandbox.start()?;
    assert_eq!(container.status(payload("alloc", &[&(48 << 20).to_string()]))?.verdict, Verdict::Exited(0));
    let before = container.usage()?;
    assert!(before.peak_memory > Some(40 << 20), "{before:?}");
    container.reset()?;
    let after = container.usage()?;
    assert!(after.peak_memory < Some(8 << 20), "{after:?}");
    let outcome = container.status(payload("exit", &["0"]))?;
    assert!(outcome.usage.peak_memory < Some(40 << 20), "{outcome:?}");
    Ok(())
}

fn limits_are_those_of_the_policy() -> Result {
    let container = closed().pids_max(20).start()?;
    let room = |container: &Container| -> Result<bool> {
        let outcome = container.status(payload("fork-bomb", &["10"]))?;
        Ok(outcome.usage.pids_denied == Some(0))
    };
    assert!(room(&container)?);
    let mut limits = Limits::new();
    limits = limits.pids_max(4);
    container.update(&limits)?;
    assert!(!room(&container)?);
    container.reset()?;
    assert!(room(&container)?);
    Ok(())
}

fn many_programs_at_once_are_killed() -> Result {
    let container = closed().start()?;
    let mut children = Vec::new();
    for _ in 0..32 {
        children.push(container.spawn(payload("sleep", &["60000"]))?);
    }
    let pids: Vec<u32> = children.iter().filter_map(belljar::Child::id).collect();
    assert_eq!(pids.len(), 32);
    assert!(pids.iter().all(|pid| oracle::is_alive(*pid)));
    container.reset()?;
    assert!(!pids.iter().any(|pid| oracle::is_alive(*pid)));
    for child in &mut children {
        assert_eq!(child.wait()?.verdict, Verdict::Killed);
    }
    // They hold no room.
    let mut again = Vec::new();
    for _ in 0..32 {
        again.push(container.spawn(payload("exit", &["7"]))?);
    }
    // Handles of before say nothing to the programs of now.
    for child in &mut children {
        child.kill()?;
        child.signal(libc::SIGKILL)?;
    }
    drop(children);
    for child in &mut again {
        assert_eq!(child.wait()?.verdict, Verdict::Exited(7));
    }
    Ok(())
}

/// There the init finds and kills what is inside, and the cgroup has the rest.
fn without_a_pid_namespace() -> Result {
    let sandbox = with_payload(Sandbox::bare().user_ns().mount_ns()).pids_max(32);
    let container = sandbox.start()?;
    expect(&container, "mark", "process", "left")?;
    let marked = || {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
        names.filter(|name| name.trim() == "belljar-mark").count()
    };
    assert_eq!(marked(), 1);
    container.reset()?;
    assert_eq!(marked(), 0);
    expect(&container, "look", "process", "nothing")
}

/// Every spawn is a program of the old sandbox, one of the new, or an error that says why; and none hangs.
fn spawns_of_other_threads_meet_resets() -> Result {
    let container = closed().start()?;
    let stop = AtomicBool::new(false);
    let (ended, killed, refused) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let work = |n: usize| -> Result {
        while !stop.load(Ordering::Relaxed) {
            let mut child = match container.spawn(payload("exit", &[&n.to_string()])) {
                Ok(child) => child,
                Err(error) if error.kind() == ErrorKind::Setup && error.to_string().contains("was ended") => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) => return fail(explain(&error)),
            };
            match child.wait()?.verdict {
                Verdict::Exited(code) if code as usize == n => ended.fetch_add(1, Ordering::Relaxed),
                Verdict::Killed => killed.fetch_add(1, Ordering::Relaxed),
                other => return fail(format!("{other:?}")),
            };
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let work = &work;
                scope.spawn(move || work(n))
            })
            .collect();
        let mut result = Ok(());
        for _ in 0..60 {
            result = container.reset().map_err(Fail::from);
            if result.is_err() || threads.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))?;
        result
    })?;
    let numbers = (ended.into_inner(), killed.into_inner(), refused.into_inner());
    println!("{numbers:?} programs ended, were killed, were not started");
    assert!(numbers.0 > 0 && numbers.1 + numbers.2 > 0, "{numbers:?}");
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

fn after_the_init_was_killed() -> Result {
    let container = closed().start()?;
    let held = hold_in(&container)?;
    let init = oracle::parent(held.pid).expect("it has a parent");
    raw::syscall(libc::SYS_kill, [init as usize, libc::SIGKILL as usize, 0, 0, 0, 0])?;
    let mut child = held.child;
    assert_eq!(child.wait()?.verdict, Verdict::InitKilled);
    assert!(container.spawn(payload("exit", &["0"])).is_err());
    container.reset()?;
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

/// The sandboxes of this process: their inits, and how many have a cgroup.
fn sandboxes() -> (usize, usize) {
    let own = std::process::id();
    (oracle::children(own).len(), oracle::boxes_of(own).len())
}

/// In a process of its own, whose limits it changes.
fn a_reset_that_fails() -> Result {
    run_helper(&mut role_command("starved", &[]), Duration::from_secs(60))?.succeed().map(drop)
}

fn starved(_: &[OsString]) -> i32 {
    role_result((|| {
        let limited = missing("cgroup-pids").is_none();
        let sandbox = if limited { closed().pids_max(16) } else { closed() };
        let container = sandbox.start()?;
        let mut held = hold_in(&container)?;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let mut failures = 0;
        // One descriptor more each time, so that each thing that needs one is the first to fail.
        for room in 3..soft.min(200) {
            setrlimit(Resource::RLIMIT_NOFILE, room, hard)?;
            let failed = container.reset();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
            let Err(error) = failed else { break };
            failures += 1;
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::ResourceExhausted | ErrorKind::Setup), "{}", explain(&error));
            // Neither the old one nor half of a new one.
            assert_eq!(sandboxes(), (0, 0));
            assert!(!oracle::is_alive(held.pid));
            let refused = container.spawn(payload("exit", &["0"])).map(drop).expect_err("it is ended");
            assert!(refused.to_string().contains("was ended"), "{}", explain(&refused));
            assert!(refused.hint().is_some_and(|hint| hint.contains("reset it again")));
            assert!(container.copy_out("/etc/passwd", std::io::sink(), mib(1)).is_err());
            if limited {
                assert!(container.usage().is_err());
            }
            assert_eq!(held.child.wait()?.verdict, Verdict::Killed);
            container.reset()?;
            assert!(container.status(payload("exit", &["0"]))?.success());
            assert_eq!(sandboxes().0, 1);
            held = hold_in(&container)?;
        }
        assert!(failures >= 10, "{failures}");
        drop(container);
        assert_eq!(sandboxes(), (0, 0));
        Ok(())
    })())
}

fn a_frozen_container() -> Result {
    let container = closed().freezable().start()?;
    let held = hold_in(&container)?;
    container.freeze()?;
    let start = Instant::now();
    container.reset()?;
    assert!(start.elapsed() < Duration::from_secs(4) * slack(), "{:?}", start.elapsed());
    assert!(!oracle::is_alive(held.pid));
    // The new one is not.
    assert!(container.status(payload("exit", &["0"]))?.success());
    Ok(())
}

/// What is there to stay is not undone, and nothing happens to what runs.
fn an_upper_on_disk() -> Result {
    let scratch = Scratch::new();
    let (lower, upper, work) = (scratch.dir("lower"), scratch.dir("upper"), scratch.dir("work"));
    let root = Rootfs::overlay([lower]).upper(Upper::dir(upper, work));
    let container = support::with_system(with_payload(Sandbox::new().rootfs(root).root())).start()?;
    let held = hold_in(&container)?;
    let error = container.reset().expect_err("its upper is there to stay");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("discard")), "{error:?}");
    held.release()?;
    Ok(())
}

/// A copy of the host that was forked off cannot reset its containers, nor harm them.
fn a_forked_host() -> Result {
    run_helper(&mut role_command("forked", &[]), Duration::from_secs(60))?.succeed().map(drop)
}

fn forked(_: &[OsString]) -> i32 {
    role_result((|| {
        let container = closed().start()?;
        let held = hold_in(&container)?;
        let copy = raw::fork()?;
        if copy == 0 {
            let refused = container.reset().is_err_and(|error| error.kind() == ErrorKind::InvalidConfig);
            drop(container);
            std::process::exit(i32::from(!refused));
        }
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(copy), None)?;
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        held.release()?;
        container.reset()?;
        assert!(container.status(payload("exit", &["0"]))?.success());
        Ok(())
    })())
}

/// `stay`: does nothing, in the background too.
fn stay(_: &[OsString]) -> i32 {
    daemon(|| Ok(())).map_or(1, |()| 0)
}

fn nothing_stays_after_many() -> Result {
    let sandbox = if missing("cgroup-pids").is_none() { closed().pids_max(16) } else { closed() };
    let container = sandbox.start()?;
    let round = || -> Result {
        assert!(container.status(payload("stay", &[]))?.success());
        container.reset()?;
        Ok(())
    };
    (0..5).try_for_each(|_| round())?;
    // The descriptor of the payload that waits comes with whatever is heard next, and so one may be there or not: what there is
    // after a few rounds is what there may be after many.
    let before: Vec<Ledger> = (0..10).map(|_| round().map(|()| Ledger::now())).collect::<Result<_>>()?;
    (0..50).try_for_each(|_| round())?;
    let again = || round().is_ok() && before.contains(&Ledger::now());
    assert!((0..10).any(|_| again()), "{:?}, before {before:?}", Ledger::now());
    container.close()?;
    assert_eq!(sandboxes(), (0, 0));
    Ok(())
}
