//! Terminals of programs.
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
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use belljar::{
    Bytes, Child, Command, Container, ErrorKind, Interaction, Limits, Mount, Pty, PtySize, Rootfs, Sandbox,
    Seccomp, Stdio, Upper, Verdict,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use support::oracle::{is_alive, processes_with};
use support::{
    Fail, Result, Scratch, closed, explain, fail, mib, own_exe, payload, role_result, sh, slack, succeed,
    with_payload, within,
};

fn main() -> ExitCode {
    let cases = cases![
        a_terminal: ["userns", "sh"],
        of_the_programs_user: ["userns", "sh"],
        without_privilege: ["userns", "sh", "setpriv"],
        streams_that_are_none: ["userns", "sh"],
        bytes_both_ways: ["userns", "sh"],
        the_size_changes: ["userns", "sh"],
        control_c_reaches_the_foreground: ["userns", "sh"],
        hanging_up: ["userns", "sh"],
        reading_ends_with_the_program: ["userns", "sh"],
        two_at_once: ["userns", "sh"],
        from_a_pool: ["userns", "sh"],
        in_a_container_again_and_again: ["userns", "sh"],
        with_limits_and_handlers: ["userns", "cgroup-pids", "sh"],
        nothing_of_the_host: ["bare", "userns"],
        the_hosts_devpts_is_not_taken: ["root", "userns", "sh"],
        what_programs_put_in_its_place: ["userns", "sh"],
        hostile_roots: ["root", "overlay", "sh"],
        what_goes_not_together: ["userns"],
        a_program_that_is_not_there: ["userns"],
        a_host_without_room: ["userns", "sh"],
    ];
    support::main(cases, &[("unprivileged", unprivileged), ("no-room", no_room)])
}

/// How long a program may take to say something.
fn patience() -> Duration {
    Duration::from_secs(20) * slack()
}

fn on_terminal(script: &str) -> Command {
    let mut command = sh(script);
    command.pty(PtySize::new(50, 132));
    command
}

fn terminal_of(child: &mut Child) -> Result<Pty> {
    child.pty.take().ok_or_else(|| Fail("it has no terminal".into()))
}

/// Whatever the program writes until it ends; it must end with 0.
fn all_of(mut child: Child) -> Result<String> {
    let mut text = String::new();
    terminal_of(&mut child)?.read_to_string(&mut text)?;
    match child.wait()?.verdict {
        Verdict::Exited(0) => Ok(text.replace("\r\n", "\n")),
        verdict => fail(format!("{verdict:?}: {text}")),
    }
}

/// Reads until a text was seen.
fn read_until(pty: &mut Pty, wanted: &str) -> Result<String> {
    let deadline = Instant::now() + patience();
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let mut set = [PollFd::new(pty.as_fd(), PollFlags::POLLIN)];
        if poll(&mut set, PollTimeout::from(100_u8))? == 0 {
            if Instant::now() > deadline {
                return fail(format!("never saw {wanted:?}, but {seen:?}"));
            }
            continue;
        }
        let mut buffer = [0; 4096];
        let count = pty.read(&mut buffer)?;
        if count == 0 {
            return fail(format!("it ended without {wanted:?}: {seen:?}"));
        }
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(seen)
}

/// The terminals of the host.
fn of_the_host() -> BTreeSet<String> {
    let entries = fs::read_dir("/dev/pts").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn a_terminal() -> Result {
    let before = of_the_host();
    let script = "tty; stty size; for n in 0 1 2; do test -t $n && echo $n; done; echo x > /dev/tty; \
                  read _ _ _ _ _ session terminal _ < /proc/self/stat; echo $session $terminal; cat /dev/null; read line; \
                  echo got $line";
    let mut child = closed().spawn(on_terminal(script))?;
    let mut pty = terminal_of(&mut child)?;
    assert_eq!(pty.size()?, PtySize::new(50, 132));
    let seen = read_until(&mut pty, "34816")?.replace("\r\n", "\n");
    // Major 136, minor 0. Session 2: after PID 1 the first.
    assert_eq!(seen.trim(), "/dev/pts/0\n50 132\n0\n1\n2\nx\n2 34816");
    assert_eq!(of_the_host(), before, "no number of the host's is taken");
    pty.write_all(b"words\n")?;
    let seen = read_until(&mut pty, "got")?;
    assert!(seen.contains("words\r\n"), "an echo: {seen:?}");
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    Ok(())
}

fn of_the_programs_user() -> Result {
    let script = "stat -c '%F %u:%g %a %t' $(tty); test -w $(tty) && echo writable";
    for (sandbox, owner) in
        [(closed(), "1000:1000"), (closed().root(), "0:0"), (closed().root().keep_capability("CHOWN"), "0:0")]
    {
        let seen = all_of(sandbox.spawn(on_terminal(script))?)?;
        assert_eq!(seen, format!("character special file {owner} 620 88\nwritable\n"));
    }
    Ok(())
}

fn without_privilege() -> Result {
    let helper = support::as_nobody("unprivileged", &[], Duration::from_secs(60))?;
    helper.succeed().map(drop)
}

fn unprivileged(_: &[OsString]) -> i32 {
    role_result((|| {
        let seen = all_of(Sandbox::new().spawn(on_terminal("tty; stat -c %u:%g $(tty)"))?)?;
        assert_eq!(seen, "/dev/pts/0\n1000:1000\n");
        Ok(())
    })())
}

/// A stream that was set to something else is that, and the terminal is there all the same.
fn streams_that_are_none() -> Result {
    let script = "for n in 0 1 2; do test -t $n && echo $n; done; echo error >&2; echo x > /dev/tty";
    let mut command = on_terminal(script);
    command.stderr(Stdio::piped());
    let mut child = closed().spawn(&command)?;
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors)?;
    assert_eq!(errors, "error\n");
    assert_eq!(all_of(child)?, "0\n1\nx\n");

    let (reader, writer) = nix::unistd::pipe()?;
    let script = "read kept <&7; for n in 0 1 2; do test -t $n && echo $n; done; echo $kept > /dev/tty";
    let mut command = on_terminal(script);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).keep_fd(&reader, 7);
    fs::File::from(writer).write_all(b"kept\n")?;
    // No process has it open at times, and then there is nothing to be read yet.
    let mut child = closed().spawn(&command)?;
    let mut pty = terminal_of(&mut child)?;
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    let mut seen = String::new();
    pty.read_to_string(&mut seen)?;
    assert_eq!(seen, "kept\r\n");

    let mut command = on_terminal("test -t 1 && echo terminal; cat");
    command.stdin(Stdio::piped());
    let mut child = closed().spawn(&command)?;
    child.stdin.take().expect("piped").write_all(b"piped\n")?;
    assert_eq!(all_of(child)?, "terminal\npiped\n");
    Ok(())
}

fn bytes_both_ways() -> Result {
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut command = on_terminal(&format!("stty raw -echo; echo ready; head -c {}", bytes.len()));
    command.stderr(Stdio::null());
    let mut child = closed().spawn(&command)?;
    let mut pty = terminal_of(&mut child)?;
    read_until(&mut pty, "ready\n")?;
    let mut typist = pty.try_clone()?;
    let mut seen = Vec::new();
    std::thread::scope(|scope| -> Result {
        let writer = scope.spawn(|| typist.write_all(&bytes));
        pty.read_to_end(&mut seen)?;
        writer.join().expect("no panic")?;
        Ok(())
    })?;
    assert!(seen == bytes, "{} bytes of {} came back", seen.len(), bytes.len());
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    Ok(())
}

fn the_size_changes() -> Result {
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut child = closed().spawn(on_terminal(script))?;
    let mut pty = terminal_of(&mut child)?;
    read_until(&mut pty, "ready")?;
    for (rows, cols) in [(40, 100), (7, 200)] {
        pty.resize(PtySize::new(rows, cols).pixels(800, 600))?;
        read_until(&mut pty, &format!("{rows} {cols}\r\n"))?;
        assert_eq!(pty.size()?, PtySize::new(rows, cols).pixels(800, 600));
    }
    child.kill()?;
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    Ok(())
}

fn control_c_reaches_the_foreground() -> Result {
    let mark = 86_000_000 + std::process::id();
    let mut command = Command::new("/bin/sh");
    command.arg("-i").env("PS1", "prompt> ").env("ENV", "").pty(PtySize::default());
    let mut child = closed().spawn(&command)?;
    let mut pty = terminal_of(&mut child)?;
    read_until(&mut pty, "prompt> ")?;
    writeln!(pty, "sleep {mark}1 &")?;
    read_until(&mut pty, "prompt> ")?;
    writeln!(pty, "sleep {mark}2")?;
    let running = |n: u8| processes_with(&format!("sleep\0{mark}{n}")).len();
    assert!(within(patience(), || (running(1), running(2)) == (1, 1)));
    pty.write_all(b"\x03")?;
    assert!(within(patience(), || running(2) == 0), "the foreground is interrupted");
    writeln!(pty, "echo $((40 + 2)); jobs")?;
    let seen = read_until(&mut pty, "unning")?;
    assert!(seen.contains("42\r\n") && !seen.contains("can't access tty"), "{seen}");
    assert_eq!(running(1), 1, "and neither the background nor the shell");
    // Stopped and continued, as well.
    writeln!(pty, "sleep {mark}3")?;
    assert!(within(patience(), || running(3) == 1));
    pty.write_all(b"\x1a")?;
    read_until(&mut pty, "topped")?;
    // The first time it may remind of a stopped job, whose end it did not see yet.
    writeln!(pty, "kill -9 %1 %2; wait; exit 5\nexit 5")?;
    let mut rest = String::new();
    pty.read_to_string(&mut rest)?;
    assert_eq!(child.wait()?.verdict, Verdict::Exited(5), "{rest}");
    assert!(within(patience(), || running(1) + running(3) == 0));
    Ok(())
}

fn hanging_up() -> Result {
    const SIGHUP: i32 = 1;
    let container = closed().start()?;
    let mut command = payload("sleep", &["60000"]);
    command.pty(PtySize::default());
    let mut child = container.spawn(&command)?;
    let pty = terminal_of(&mut child)?;
    let other = pty.try_clone()?;
    drop(pty);
    assert!(child.wait_timeout(Duration::from_millis(200))?.is_none(), "there is one more copy");
    drop(OwnedFd::from(other));
    assert_eq!(child.wait()?.verdict, Verdict::Signaled(SIGHUP));
    // A program that does not want to go is told by its streams.
    let script = "trap '' HUP; echo ready; read line && exit 1; exit 9";
    let mut child = container.spawn(on_terminal(script))?;
    let mut pty = terminal_of(&mut child)?;
    read_until(&mut pty, "ready")?;
    drop(pty);
    assert_eq!(child.wait()?.verdict, Verdict::Exited(9));
    // With its handle.
    let mut child = container.spawn(on_terminal("echo ready; sleep 1000"))?;
    let pid = child.id().expect("it runs");
    read_until(child.pty.as_mut().expect("it has one"), "ready")?;
    drop(child);
    assert!(within(patience(), || !is_alive(pid)));
    Ok(())
}

fn reading_ends_with_the_program() -> Result {
    let container = closed().start()?;
    // More than a terminal holds.
    let mut child = container.spawn(on_terminal("head -c 100000 /dev/zero | tr '\\0' x; exit 3"))?;
    let mut text = String::new();
    terminal_of(&mut child)?.read_to_string(&mut text)?;
    assert_eq!(text.len(), 100_000);
    assert_eq!(child.wait()?.verdict, Verdict::Exited(3));
    // What somebody left behind holds the terminal open, but not beyond the sandbox.
    let mut child = closed().spawn(on_terminal("(trap '' HUP; sleep 1000) & echo left"))?;
    let mut pty = terminal_of(&mut child)?;
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    let mut text = String::new();
    pty.read_to_string(&mut text)?;
    assert_eq!(text, "left\r\n", "what was written before the end can be read after it");
    Ok(())
}

/// A program with a terminal, or with limits of its own, cannot be one that was prepared: it is started all the same.
fn from_a_pool() -> Result {
    let pool = closed().plan()?.pool().size(1).start()?;
    for _ in 0..3 {
        assert!(all_of(pool.spawn(on_terminal("tty"))?)?.starts_with("/dev/pts/0"));
        let mut limited = on_terminal("tty; sleep 1000 & sleep 1000 & sleep 1000 & wait");
        if support::features::missing("cgroup-pids").is_none() {
            limited.limits(Limits::new().pids_max(3));
            let mut child = pool.spawn(&limited)?;
            read_until(child.pty.as_mut().expect("it has one"), "fork")?;
        }
    }
    Ok(())
}

fn two_at_once() -> Result {
    let container = closed().start()?;
    let script = "tty; read line; echo got $line; ls /dev/pts";
    let mut first = container.spawn(on_terminal(script))?;
    let mut second = container.spawn(on_terminal(script))?;
    let (mut one, mut two) = (terminal_of(&mut first)?, terminal_of(&mut second)?);
    read_until(&mut one, "/dev/pts/0")?;
    read_until(&mut two, "/dev/pts/1")?;
    two.write_all(b"second\n")?;
    one.write_all(b"first\n")?;
    assert!(!read_until(&mut one, "got first")?.contains("second"));
    assert!(!read_until(&mut two, "got second")?.contains("first"));
    for child in [&mut first, &mut second] {
        assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    }
    drop((one, two));
    // In another sandbox they have the same names and nothing else.
    assert!(all_of(closed().spawn(on_terminal("tty; ls /dev/pts"))?)?.starts_with("/dev/pts/0\n0"));
    Ok(())
}

fn in_a_container_again_and_again() -> Result {
    let container = closed().start()?;
    let before = of_the_host();
    for round in 0..50 {
        // The kernel frees the number of one that was closed a little later.
        let name = all_of(container.spawn(on_terminal("tty"))?)?;
        let number = name.trim_end().strip_prefix("/dev/pts/").and_then(|number| number.parse::<u32>().ok());
        assert!(number.is_some_and(|number| number < 20), "round {round}: {name:?}");
    }
    none_is_left(&container)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let container = &container;
                scope.spawn(move || -> Result {
                    for _ in 0..10 {
                        let seen = all_of(container.spawn(on_terminal(&format!("test -t 0 && echo {n}")))?)?;
                        assert_eq!(seen, format!("{n}\n"));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    none_is_left(&container)?;
    drop(container);
    assert_eq!(of_the_host(), before);
    Ok(())
}

fn none_is_left(container: &Container) -> Result {
    let none = || container.output(sh("ls /dev/pts")).is_ok_and(|output| output.stdout == b"ptmx\n");
    match within(patience(), none) {
        true => Ok(()),
        false => fail(succeed(container.output(sh("ls /dev/pts"))?)?),
    }
}

fn with_limits_and_handlers() -> Result {
    let sandbox = closed().seccomp(Seccomp::new().notify(["uname"])).pids_max(64);
    let container = sandbox.start()?;
    let mut command =
        on_terminal("tty; /usr/bin/uname -n; cat /proc/self/cgroup | grep -c ':/$' > /dev/null && echo own");
    command
        .limits(Limits::new().pids_max(8))
        .on_syscall(["uname"], |_| belljar::Response::errno(libc::EPERM));
    command.stderr(Stdio::null());
    let mut child = container.spawn(&command)?;
    let mut text = String::new();
    terminal_of(&mut child)?.read_to_string(&mut text)?;
    assert_eq!(text, "/dev/pts/0\r\nown\r\n");
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    let mut bomb = on_terminal("for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait");
    bomb.limits(Limits::new().pids_max(4));
    let mut child = container.spawn(&bomb)?;
    read_until(child.pty.as_mut().expect("it has one"), "fork")?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A sandbox that has no instance of its own has none to give, whatever it can see.
fn nothing_of_the_host() -> Result {
    let before = of_the_host();
    let mut command = Command::new(own_exe());
    command.args(["--role", "exit", "0"]).pty(PtySize::default());
    let bare = Sandbox::bare();
    let mut sandboxes = vec![bare.clone(), bare.clone().user_ns().pid_ns()];
    if support::features::missing("mount-setattr").is_none() {
        sandboxes.push(with_payload(Sandbox::new().rootfs(Rootfs::empty())));
    }
    for sandbox in sandboxes {
        let error = sandbox.spawn(&command).expect_err("it has none");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("devpts")));
    }
    assert_eq!(of_the_host(), before);
    Ok(())
}

/// Somebody binds the host's own instance over the sandbox's, or gives it alone.
fn the_hosts_devpts_is_not_taken() -> Result {
    let before = of_the_host();
    let with = |sandbox: Sandbox| sandbox.mount(Mount::bind("/dev/pts", "/dev/pts"));
    let alone = with(support::with_system(with_payload(Sandbox::new().rootfs(Rootfs::empty()))));
    assert!(alone.clone().spawn(on_terminal("tty")).is_err(), "that is not its own");
    // The control: the program itself can take a terminal there.
    if before.contains("ptmx") {
        let script = "test -c /dev/pts/ptmx && echo there";
        assert_eq!(succeed(alone.output(sh(script))?)?, "there\n");
    }
    let over = with(closed());
    let mut child = over.spawn(on_terminal("test -t 0 && echo terminal; read line"))?;
    let mut pty = terminal_of(&mut child)?;
    read_until(&mut pty, "terminal")?;
    assert_eq!(of_the_host(), before, "it is of the sandbox's own");
    drop(pty);
    child.wait()?;
    Ok(())
}

/// A program with power over the mounts of its sandbox hides the instance behind something else.
fn what_programs_put_in_its_place() -> Result {
    let strong = || closed().root().keep_capability("SYS_ADMIN").allow_all_syscalls();
    let tried = |container: &Container, script: &str| -> Result<()> {
        succeed(container.output(sh(script))?).map(drop)
    };
    let by_path = "read line < /dev/pts/ptmx && echo $line";
    for (hide, seen) in [
        ("mount -t tmpfs none /dev/pts && echo bait > /dev/pts/ptmx", "bait\n"),
        ("mount -t tmpfs none /dev/pts && echo bait > /tmp/x && ln -s /tmp/x /dev/pts/ptmx", "bait\n"),
    ] {
        let container = strong().start()?;
        tried(&container, hide)?;
        // The attack: whoever opens it by its path has what the program put there.
        assert_eq!(succeed(container.output(sh(by_path))?)?, seen);
        let text = all_of(container.spawn(on_terminal("test -t 0 && echo terminal"))?)?;
        assert_eq!(text, "terminal\n", "{hide}");
    }
    // In the instance itself nothing can be put but a mount, and that is not followed.
    let container = strong().start()?;
    let hide = "echo bait > /tmp/x && mount --bind /tmp/x /dev/pts/ptmx";
    tried(&container, hide)?;
    assert_eq!(succeed(container.output(sh(by_path))?)?, "bait\n");
    let error = container.spawn(on_terminal("tty")).expect_err("it is not what it was");
    assert_eq!(error.step(), belljar::Step::Stdio, "{}", explain(&error));
    assert_eq!(succeed(container.output(sh("echo fine"))?)?, "fine\n", "the container goes on");
    Ok(())
}

/// A root in which the place of the terminals leads elsewhere.
fn hostile_roots() -> Result {
    let scratch = Scratch::new();
    scratch.dir("canary/pts");
    let ptmx = scratch.file("canary/pts/ptmx", "untouched");
    let canary = scratch.join("canary").display().to_string();
    let before = of_the_host();
    let up = "../".repeat(scratch.path().components().count() + 3);
    for (n, target) in [canary.clone(), format!("{up}{}", canary.trim_start_matches('/')), "/dev".into()]
        .into_iter()
        .enumerate()
    {
        for pts_only in [false, true] {
            let name = format!("root-{n}-{pts_only}");
            let root = scratch.dir(&name);
            for dir in ["usr", "proc", "tmp", "etc"] {
                scratch.dir(format!("{name}/{dir}"));
            }
            scratch.file(format!("{name}/payload"), "");
            if pts_only {
                scratch.dir(format!("{name}/dev"));
                symlink(format!("{target}/pts"), root.join("dev/pts"))?;
            } else {
                symlink(&target, root.join("dev"))?;
            }
            for rootfs in [Rootfs::dir(&root), Rootfs::overlay([&root]).upper(Upper::tmpfs(mib(1), 100))] {
                let sandbox = support::with_system(with_payload(Sandbox::new().rootfs(rootfs)));
                let mut command = payload("exit", &["0"]);
                command.pty(PtySize::default());
                // Its own, wherever that is inside, or an error that says what is wrong.
                match sandbox.mount(Mount::devpts("/dev/pts")).spawn(&command) {
                    Ok(mut child) => {
                        let pty = terminal_of(&mut child)?;
                        assert_eq!(pty.size()?, PtySize::default(), "a terminal");
                    }
                    Err(error) => assert!(error.path().is_some(), "{target}: {}", explain(&error)),
                }
                assert_eq!(fs::read_to_string(&ptmx)?, "untouched");
                assert_eq!(of_the_host(), before, "{target}");
            }
        }
    }
    Ok(())
}

fn what_goes_not_together() -> Result {
    let container = closed().start()?;
    let command = || {
        let mut command = payload("exit", &["0"]);
        command.pty(PtySize::default());
        command
    };
    let mut captured = command();
    captured.stderr(Stdio::capture(Bytes::kib(1)));
    let plan = closed().plan()?;
    let errors = [
        container.output(command()).expect_err("captured by default"),
        closed().output(command()).expect_err("captured by default"),
        container.spawn(&captured).expect_err("captured"),
        closed().learn(command()).expect_err("captured by default"),
        Interaction::new()
            .run((&plan, &command()), (&plan, &payload("exit", &["0"])))
            .expect_err("nobody reads it"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some(), "{}", explain(&error));
    }
    Ok(())
}

fn a_program_that_is_not_there() -> Result {
    let container = closed().start()?;
    let mut command = Command::new("/no/such");
    command.pty(PtySize::default());
    for _ in 0..5 {
        assert_eq!(container.spawn(&command).expect_err("it is not there").kind(), ErrorKind::Exec);
        assert_eq!(closed().spawn(&command).expect_err("it is not there").kind(), ErrorKind::Exec);
    }
    let node = fs::metadata("/dev/null")?.file_type();
    assert!(node.is_char_device());
    Ok(())
}

fn a_host_without_room() -> Result {
    let mut command = support::role_command("no-room", &[]);
    support::run_helper(&mut command, Duration::from_secs(60))?.succeed().map(drop)
}

/// The terminal cannot be received: the program is not left without a reader, and the container goes on.
fn no_room(_: &[OsString]) -> i32 {
    role_result((|| {
        let container = closed().start()?;
        let script = "sleep 1000";
        let mut hoard = Vec::new();
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 64, hard)?;
        while let Ok(file) = fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let mut refused = 0;
        // With ever more room the spawn gets farther, until all of its descriptors find a number.
        let mut child = loop {
            match container.spawn(on_terminal(script)) {
                Ok(child) => break child,
                Err(error) => {
                    refused += 1;
                    assert!(
                        error.hint().is_some() || error.step() == belljar::Step::Prepare,
                        "{}",
                        explain(&error)
                    );
                }
            }
            if hoard.pop().is_none() {
                return fail("it never starts");
            }
        };
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard)?;
        assert!(refused > 1, "{refused}");
        assert!(child.pty.is_some());
        child.kill()?;
        child.wait()?;
        drop(child);
        none_is_left(&container)
    })())
}
