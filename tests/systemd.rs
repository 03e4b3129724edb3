//! Scopes of systemd: with the manager of a machine that runs it, and with buses that no machine should have.
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

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio as HostStdio};
use std::time::{Duration, Instant};

use belljar::{CgroupParent, ErrorKind, Sandbox, Step, Verdict};
use support::{
    Result, Scratch, closed, explain, hold, mib, oracle, payload, raw, role_command, run_helper, slack,
    within,
};

fn main() -> ExitCode {
    let cases = cases![
        a_user_gets_a_scope: ["systemd-bus"],
        many_threads_get_one_scope: ["systemd-bus"],
        a_forked_host_gets_a_scope_of_its_own: ["systemd-bus"],
        a_host_in_an_asynchronous_runtime_gets_a_scope: ["systemd-bus"],
        a_killed_host_leaves_no_scope: ["systemd-bus"],
        a_machine_without_systemd_says_so: ["root", "unshare"],
        a_machine_without_a_bus_says_so: ["root", "unshare"],
        a_bus_that_is_far_away_is_refused: ["root", "unshare"],
        a_bus_that_is_silent_is_given_up: ["root", "unshare"],
        a_bus_that_talks_nonsense_is_an_error: ["root", "unshare"],
        a_manager_that_is_not_there_is_an_error: ["root", "unshare"],
        a_manager_that_only_promises_is_an_error: ["root", "unshare"],
    ];
    let roles: &[support::Role] = &[
        ("in-scope", in_scope),
        ("threads", threads),
        ("forks", forks),
        ("asynchronous", asynchronous),
        ("victim", victim),
        ("refused", refused),
    ];
    support::main_serial(cases, roles)
}

fn sandbox() -> Sandbox {
    closed().memory_max(mib(64)).pids_max(16).cgroup_parent(CgroupParent::SystemdScope)
}

fn finish(result: Result<String>) -> i32 {
    match result {
        Ok(text) => {
            println!("{text}");
            0
        }
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

/// The directory that a process is in, in systemd's own hierarchy.
fn group(pid: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a running process");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2 is there");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("proc is mounted");
    let mount = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[2] == "cgroup2").then(|| words[1].to_owned())
    });
    Path::new(&mount.expect("it is mounted")).join(path.trim_start_matches('/'))
}

/// The scope that this process is in, if it is one of ours.
fn scope() -> Option<PathBuf> {
    let own = group("self");
    own.ancestors().find(|dir| dir.extension().is_some_and(|kind| kind == "scope")).map(Path::to_owned)
}

/// Runs a role as the host. It says which scopes it had, and those must be gone soon.
fn scopes_of(role: &str) -> Result<Vec<PathBuf>> {
    let helper = run_helper(&mut role_command(role, &[]), Duration::from_secs(60) * slack())?;
    let scopes: Vec<_> = helper.succeed()?.lines().map(PathBuf::from).collect();
    for scope in &scopes {
        assert!(within(Duration::from_secs(5) * slack(), || !scope.exists()), "{} stays", scope.display());
    }
    Ok(scopes)
}

fn a_user_gets_a_scope() -> Result {
    assert_eq!(scopes_of("in-scope")?.len(), 1);
    Ok(())
}

fn in_scope(_: &[OsString]) -> i32 {
    let run = || {
        // With a process beside us, our cgroup is not ours to divide: that is what the scope is for.
        let mut other = std::process::Command::new(support::own_exe())
            .args(["--role", "sleep", "60000"])
            .stdin(HostStdio::null())
            .spawn()?;
        let before = group("self");
        let error = sandbox().cgroup_parent(CgroupParent::Auto).plan().expect_err("we are not alone");
        assert!(error.hint().is_some_and(|hint| hint.contains("systemd-run")), "{}", explain(&error));
        assert_eq!(group("self"), before, "nothing was moved");

        let plan = sandbox().plan()?;
        let scope = scope().expect("planning enters the scope");
        let name = scope.file_name().expect("it has one").to_string_lossy().into_owned();
        let pid = std::process::id();
        assert!(name.starts_with("belljar-") && name.contains(&format!("-{pid}-")), "{name}");
        assert_eq!(group(&other.id().to_string()), before, "nobody else was moved");
        other.kill()?;
        other.wait()?;

        let held = hold(&sandbox())?;
        let inside = group(&held.pid.to_string());
        assert_eq!(inside.parent(), Some(scope.as_path()));
        assert_eq!(fs::read_to_string(inside.join("memory.max"))?, format!("{}\n", 64 << 20));
        assert_eq!(fs::read_to_string(inside.join("pids.max"))?, "16\n");
        assert_eq!(group("self"), scope.join("belljar-host"));
        held.release()?;

        for (role, argument, verdict) in [
            ("exit", "3", Verdict::Exited(3)),
            ("alloc", "268435456", Verdict::MemoryExceeded),
            ("exit", "4", Verdict::Exited(4)),
        ] {
            assert_eq!(sandbox().status(payload(role, &[argument]))?.verdict, verdict, "{role} {argument}");
        }
        assert_eq!(plan.spawn(payload("exit", &["5"]))?.wait()?.verdict, Verdict::Exited(5));
        // A cgroup that passes controllers on may be named, too.
        let named = sandbox().cgroup_parent(CgroupParent::Path(scope.clone()));
        assert_eq!(named.status(payload("exit", &["6"]))?.verdict, Verdict::Exited(6));
        Ok(scope.display().to_string())
    };
    finish(run())
}

fn many_threads_get_one_scope() -> Result {
    assert_eq!(scopes_of("threads")?.len(), 1);
    Ok(())
}

fn threads(_: &[OsString]) -> i32 {
    let run = || {
        let seen: Vec<Result<PathBuf>> = std::thread::scope(|threads| {
            let started: Vec<_> = (0..16)
                .map(|code| {
                    threads.spawn(move || {
                        let outcome = sandbox().status(payload("exit", &[&code.to_string()]))?;
                        assert_eq!(outcome.verdict, Verdict::Exited(code));
                        Ok(scope().expect("we are in it"))
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let seen = seen.into_iter().collect::<Result<BTreeSet<_>>>()?;
        let shown: Vec<_> = seen.iter().map(|scope| scope.display().to_string()).collect();
        Ok(shown.join("\n"))
    };
    finish(run())
}

fn a_forked_host_gets_a_scope_of_its_own() -> Result {
    let scopes: BTreeSet<_> = scopes_of("forks")?.into_iter().collect();
    assert_eq!(scopes.len(), 2, "{scopes:?}");
    Ok(())
}

fn forks(_: &[OsString]) -> i32 {
    let run = || {
        sandbox().status(payload("exit", &["0"]))?;
        let ours = scope().expect("we are in it");
        let (mut reader, mut writer) = UnixStream::pair()?;
        let pid = raw::fork()?;
        if pid == 0 {
            let run = || {
                assert_eq!(sandbox().status(payload("exit", &["7"]))?.verdict, Verdict::Exited(7));
                Ok(scope().expect("it is in one").display().to_string())
            };
            let said = run().unwrap_or_else(|support::Fail(message)| message);
            write!(writer, "{said}").ok();
            std::process::exit(0);
        }
        drop(writer);
        let mut theirs = String::new();
        reader.read_to_string(&mut theirs)?;
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
        Ok(format!("{}\n{theirs}", ours.display()))
    };
    finish(run())
}

fn a_host_in_an_asynchronous_runtime_gets_a_scope() -> Result {
    assert_eq!(scopes_of("asynchronous")?.len(), 1);
    Ok(())
}

fn asynchronous(_: &[OsString]) -> i32 {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { sandbox().status(payload("exit", &["0"])) })?;
        Ok(scope().expect("we are in it").display().to_string())
    };
    finish(run())
}

fn a_killed_host_leaves_no_scope() -> Result {
    let mut host = role_command("victim", &[]).stdout(HostStdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(host.stdout.take().expect("piped")).read_line(&mut line)?;
    host.kill()?;
    host.wait()?;
    let (scope, pid) = line.trim_end().split_once(' ').expect("the host says where it was");
    let pid = pid.parse().expect("a number");
    let patience = Duration::from_secs(5) * slack();
    assert!(within(patience, || !oracle::is_alive(pid)), "the program lives on");
    assert!(within(patience, || !Path::new(scope).exists()), "{scope} stays");
    Ok(())
}

fn victim(_: &[OsString]) -> i32 {
    let run = || {
        let held = hold(&sandbox())?;
        println!("{} {}", scope().expect("we are in it").display(), held.pid);
        std::thread::sleep(Duration::from_secs(600));
        Ok(String::new())
    };
    finish(run())
}

/// Runs the host where it sees a `/run` of its own, with or without the mark of systemd, and with a bus at `address`.
/// Planning must fail; returns what it says.
fn refusal(marked: bool, address: &str) -> Result<String> {
    let mark = if marked { "mkdir -p /run/systemd/system &&" } else { "" };
    let script = format!("mount -t tmpfs tmpfs /run && {mark} exec \"$0\" --role refused");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(support::own_exe());
    command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
    run_helper(&mut command, Duration::from_secs(60) * slack())?.succeed()
}

/// Says why planning is refused, and checks what holds for every refusal.
fn refused(_: &[OsString]) -> i32 {
    let run = || {
        let before = fs::read_to_string("/proc/self/cgroup")?;
        let error = match sandbox().plan() {
            Ok(_) => return support::fail("it was planned"),
            Err(error) => error,
        };
        assert_eq!(error.step(), Step::Cgroup);
        assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Setup), "{:?}", error.kind());
        let hint = error.hint().expect("a remedy is named");
        assert!(hint.contains('`'), "an exact command: {hint}");
        assert_eq!(fs::read_to_string("/proc/self/cgroup")?, before);
        // What needs no cgroup needs no systemd.
        let free = closed().cgroup_parent(CgroupParent::SystemdScope);
        assert_eq!(free.status(payload("exit", &["3"]))?.verdict, Verdict::Exited(3));
        Ok(format!("{error}; {hint}"))
    };
    finish(run())
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}

fn a_machine_without_systemd_says_so() -> Result {
    says(&refusal(false, "unix:path=/nonexistent")?, &["does not run systemd", "mkdir", "chown"]);
    Ok(())
}

fn a_machine_without_a_bus_says_so() -> Result {
    says(&refusal(true, "unix:path=/nonexistent")?, &["D-Bus", "No such file", "systemctl start dbus"]);
    says(&refusal(true, "nonsense")?, &["D-Bus"]);
    says(&refusal(true, "")?, &["D-Bus"]);
    Ok(())
}

fn a_bus_that_is_far_away_is_refused() -> Result {
    // A listener shows that it is not even tried.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = format!("tcp:host=127.0.0.1,port={}", listener.local_addr()?.port());
    says(&refusal(true, &address)?, &["not a Unix socket"]);
    assert!(listener.accept().is_err(), "somebody connected");
    // This one would run a program.
    let scratch = Scratch::new();
    let touched = scratch.join("touched");
    let address = format!("unixexec:path=/usr/bin/touch,argv1={}", touched.display());
    says(&refusal(true, &address)?, &["not a Unix socket"]);
    assert!(!touched.exists());
    Ok(())
}

/// A bus in this process: every connection is handed to `serve`.
fn with_bus(serve: fn(UnixStream)) -> Result<String> {
    let scratch = Scratch::new();
    let path = scratch.join("bus");
    let listener = UnixListener::bind(&path)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    refusal(true, &format!("unix:path={}", path.display()))
}

fn a_bus_that_is_silent_is_given_up() -> Result {
    let start = Instant::now();
    says(
        &with_bus(|mut stream| drop(stream.read_to_end(&mut Vec::new())))?,
        &["none after 10 s", "systemd-run"],
    );
    assert!(start.elapsed() < Duration::from_secs(20) * slack());
    Ok(())
}

fn a_bus_that_talks_nonsense_is_an_error() -> Result {
    // A line of more than any.
    says(&with_bus(|mut stream| drop(stream.write_all(&[b'x'; 100_000])))?, &["D-Bus"]);
    says(
        &with_bus(|mut stream| {
            stream.write_all(b"REJECTED EXTERNAL\r\n").ok();
            stream.read_to_end(&mut Vec::new()).ok();
        })?,
        &["D-Bus"],
    );
    // It lets us in, and what it says afterwards is no message.
    says(&with_bus(|stream| drop(bus::greet(&stream).and_then(|()| (&stream).write_all(&[0xff; 64]))))?, &[]);
    // A message that claims to have 2 GiB.
    says(&with_bus(|stream| drop(bus::greet(&stream).and_then(|()| bus::claim(&stream, 0x7fff_ffff))))?, &[]);
    Ok(())
}

fn a_manager_that_is_not_there_is_an_error() -> Result {
    let said = with_bus(|stream| {
        bus::serve(&stream, |call| {
            bus::error(call, "org.freedesktop.DBus.Error.ServiceUnknown", "nobody has that name")
        });
    })?;
    says(&said, &["made no scope", "nobody has that name", "journalctl"]);
    Ok(())
}

/// It says that there is a job, and then that there is none any more; but we were never moved.
fn a_manager_that_only_promises_is_an_error() -> Result {
    let said = with_bus(|stream| {
        bus::serve(&stream, |call| match call.member.as_str() {
            "StartTransientUnit" => bus::answer(call, "o", &bus::string("/org/freedesktop/systemd1/job/1")),
            _ => bus::error(call, "org.freedesktop.DBus.Error.UnknownObject", "no such job"),
        });
    })?;
    says(&said, &["made no scope", "the job failed"]);
    Ok(())
}

/// As much of a bus as the tests need: little endian, and no more than a string in a body.
mod bus {
    use super::{BufRead, BufReader, Read, UnixStream, Write};

    pub(super) struct Call {
        serial: u32,
        pub(super) member: String,
    }

    /// The handshake, whatever the client says in it.
    pub(super) fn greet(stream: &UnixStream) -> std::io::Result<()> {
        let mut reader = BufReader::with_capacity(1, stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line);
            match line.trim_matches(['\0', '\r', '\n']) {
                "BEGIN" => return Ok(()),
                "NEGOTIATE_UNIX_FD" => (&*stream).write_all(b"AGREE_UNIX_FD\r\n")?,
                _ => (&*stream).write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?,
            }
        }
    }

    /// Answers calls until the client goes: its greeting by a name, everything else by `reply`.
    pub(super) fn serve(mut stream: &UnixStream, reply: impl Fn(&Call) -> Vec<u8>) {
        if greet(stream).is_err() {
            return;
        }
        while let Some(call) = read(stream) {
            let message = match call.member.as_str() {
                "Hello" => answer(&call, "s", &string(":1.1")),
                _ => reply(&call),
            };
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    }

    fn read(mut stream: &UnixStream) -> Option<Call> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four of them"));
        let mut head = [0; 16];
        stream.read_exact(&mut head).ok()?;
        assert_eq!(head[0], b'l', "the client is little endian, too");
        let (body, serial, fields) = (number(&head[4..8]), number(&head[8..12]), number(&head[12..16]));
        let mut rest = vec![0; (fields.next_multiple_of(8) + body) as usize];
        stream.read_exact(&mut rest).ok()?;
        // The field with the method's name: code 3, a variant of the type `s`, the length, the text.
        let at = rest.windows(4).position(|bytes| bytes == [3, 1, b's', 0])?;
        let length = number(&rest[at + 4..at + 8]) as usize;
        let member = String::from_utf8_lossy(&rest[at + 8..at + 8 + length]).into_owned();
        Some(Call { serial, member })
    }

    pub(super) fn string(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).expect("a short one");
        [&length.to_le_bytes(), text.as_bytes(), &[0]].concat()
    }

    pub(super) fn answer(call: &Call, signature: &str, body: &[u8]) -> Vec<u8> {
        message(2, call, &[(8, "g", signature)], body)
    }

    pub(super) fn error(call: &Call, name: &str, text: &str) -> Vec<u8> {
        message(3, call, &[(4, "s", name), (8, "g", "s")], &string(text))
    }

    /// The head of a message whose body is said to be so long.
    pub(super) fn claim(mut stream: &UnixStream, length: u32) -> std::io::Result<()> {
        let mut bytes = message(2, &Call { serial: 1, member: String::new() }, &[(8, "g", "s")], &[]);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        stream.write_all(&bytes)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn message(kind: u8, call: &Call, strings: &[(u8, &str, &str)], body: &[u8]) -> Vec<u8> {
        let mut fields = vec![5, 1, b'u', 0];
        fields.extend(call.serial.to_le_bytes());
        for (code, kind, text) in strings {
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend([*code, 1, kind.as_bytes()[0], 0]);
            match *kind {
                // A signature has a short length.
                "g" => fields.push(u8::try_from(text.len()).expect("a short one")),
                _ => fields.extend(u32::try_from(text.len()).expect("a short one").to_le_bytes()),
            }
            fields.extend(text.as_bytes());
            fields.push(0);
        }
        let number = |length: usize| u32::try_from(length).expect("a short one").to_le_bytes();
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.extend([number(body.len()), number(7), number(fields.len())].concat());
        fields.resize(fields.len().next_multiple_of(8), 0);
        bytes.extend(fields);
        bytes.extend(body);
        bytes
    }
}
