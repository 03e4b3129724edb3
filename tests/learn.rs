//! Learning what a program needs, and running it with that and nothing else.
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
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use belljar::{
    Command, ErrorKind, Feature, Landlock, Learned, Mount, Need, Needs, Output, Response, Rootfs, Sandbox,
    Seccomp, SyscallAction, Upper, Verdict,
};
use support::{Fail, Result, Scratch, as_nobody, closed, fail, payload, raw, role_result, sh};

fn main() -> ExitCode {
    let cases = cases![
        what_was_learned_is_enough: ["userns", "landlock"],
        and_nothing_else_is_allowed: ["userns", "landlock-6"],
        a_shell_and_its_children: ["userns", "landlock", "sh"],
        a_python_program: ["userns", "landlock", "python3"],
        a_compiler: ["userns", "landlock", "cc"],
        files_that_the_program_makes: ["userns", "landlock"],
        files_on_an_overlay: ["root", "landlock", "overlay"],
        threads_and_signals: ["userns", "landlock"],
        addresses: ["userns", "landlock-6"],
        capabilities: ["userns", "landlock"],
        arguments_are_those_that_were_seen: ["userns"],
        what_is_denied_is_no_need: ["userns"],
        runs_are_merged_and_compared: ["userns", "landlock-6"],
        a_policy_is_never_wider_than_the_sandbox: ["userns", "landlock-6"],
        a_policy_keeps_the_conditions_of_the_filter: ["userns", "landlock-6"],
        files_without_a_name: ["userns", "landlock-6"],
        files_that_lost_their_name: ["userns", "landlock-6"],
        what_is_remembered_has_a_bound: ["userns"],
        a_bare_sandbox: ["bare", "landlock"],
        commands_that_cannot_be_learned_from: ["userns"],
        a_program_that_is_not_there: ["userns"],
        limits_hold_meanwhile: ["userns"],
        paths_that_end_nowhere: ["userns", "landlock"],
        paths_while_others_rename: ["userns", "landlock"],
        an_unprivileged_host: ["userns", "landlock-6", "setpriv"],
    ];
    let roles: &[support::Role] = &[
        ("make-files", make_files),
        ("threads", threads),
        ("many-arguments", many_arguments),
        ("unnamed", unnamed),
        ("flood", flood),
        ("talk", talk),
        ("bind", bind),
        ("odd-paths", odd_paths),
        ("upwards", upwards),
        ("unlinked", unlinked),
        ("chatter", chatter),
        ("unprivileged", unprivileged),
    ];
    support::main(cases, roles)
}

/// Learns from a program, and runs it again with what was learned: the same output and verdict.
fn again(sandbox: &Sandbox, command: &Command) -> Result<Needs> {
    let plain = sandbox.output(command)?;
    // A child's end, in a shell, takes back the fork that the host has not heard of yet: `EINTR`, as documented.
    let forks = |learned: &Learned| !String::from_utf8_lossy(&learned.output.stderr).contains("Cannot fork");
    let mut learned = sandbox.learn(command)?;
    for _ in 0..5 {
        if forks(&learned) {
            break;
        }
        learned = sandbox.learn(command)?;
    }
    same(&plain, &learned.output, &learned.needs)?;
    // By its text, as it would be kept in a file.
    let needs: Needs = learned.needs.to_string().parse()?;
    assert_eq!(needs, learned.needs);
    // An older kernel denies less.
    let confined = needs.apply(sandbox.clone()).best_effort(Feature::Landlock);
    same(&plain, &confined.output(command)?, &needs)?;
    Ok(needs)
}

fn same(wanted: &Output, found: &Output, needs: &Needs) -> Result {
    let parts = |output: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.outcome.verdict, text(&output.stdout), text(&output.stderr))
    };
    if parts(wanted) == parts(found) {
        return Ok(());
    }
    fail(format!("{:?} instead of {:?} with\n{needs}", parts(found), parts(wanted)))
}

fn file(access: &str, path: &str) -> Need {
    Need::File { access: access.into(), path: path.into() }
}

fn call(name: &str, args: &[(u8, u64)]) -> Need {
    Need::Syscall { name: name.into(), args: args.to_vec() }
}

fn cat(path: &str) -> Command {
    payload("cat", &[path])
}

fn what_was_learned_is_enough() -> Result {
    let needs = again(&closed(), &cat("/etc/passwd"))?;
    for need in [
        file("read_file", "/etc/passwd"),
        file("execute", "/payload"),
        call("read", &[]),
        call("exit_group", &[]),
    ] {
        assert!(needs.contains(&need), "{need} is not among\n{needs}");
    }
    let text = needs.to_string();
    assert!(!text.contains("socket") && !text.contains("connect") && !text.contains("capability"), "{text}");
    assert!(!text.contains("syscall execve"), "it was started by it, and executes nothing itself: {text}");
    Ok(())
}

fn and_nothing_else_is_allowed() -> Result {
    let needs = closed().learn(cat("/etc/passwd"))?.needs;
    let confined = needs.apply(closed());
    assert_eq!(
        closed().output(cat("/etc/hosts"))?.outcome.verdict,
        Verdict::Exited(0),
        "the positive control"
    );
    assert_eq!(confined.output(cat("/etc/hosts"))?.stdout, format!("errno {}\n", libc::EACCES).into_bytes());
    // By landlock alone, and by the filter alone.
    let files = closed().landlock(needs.landlock());
    assert_eq!(files.output(cat("/etc/hosts"))?.stdout, format!("errno {}\n", libc::EACCES).into_bytes());
    let unlike = |filter: Seccomp| {
        closed().seccomp(filter).output(payload("syscall", &[&libc::SYS_getppid.to_string()]))
    };
    assert_eq!(unlike(needs.seccomp())?.stdout, b"errno 1\n");
    let outcome = unlike(needs.seccomp_otherwise(SyscallAction::Kill))?.outcome;
    let Verdict::SyscallDenied { syscall: Some(missing) } = outcome.verdict else {
        return fail(format!("{:?}", outcome.verdict));
    };
    assert_eq!(missing.name(), Some("getppid"));
    Ok(())
}

fn a_shell_and_its_children() -> Result {
    let script = "cd /usr; for i in 1 2 3; do echo $i; done | sort -r | head -2; ls / | wc -l; test -e /nothing || echo no";
    let needs = again(&closed(), &sh(script))?;
    let executed = needs.iter().filter(|need| need.to_string().starts_with("execute ")).count();
    assert!(executed >= 4, "sh, sort, head, ls, wc: {needs}");
    assert!(needs.contains(&file("read_dir", "/")), "{needs}");
    // It may not execute what it has not executed.
    let output = needs.apply(closed()).best_effort(Feature::Landlock).output(sh("uname"))?;
    assert!(!output.outcome.success());
    Ok(())
}

fn a_python_program() -> Result {
    let code = "import json, os, threading\n\
                t = threading.Thread(target=lambda: print(json.dumps({'pid': os.getpid() > 0})))\n\
                t.start(); t.join()\n\
                open('/tmp/x', 'w').write('hello')\n\
                print(open('/tmp/x').read())";
    let mut command = Command::new("python3");
    command.args(["-c", code]);
    let needs = again(&closed(), &command)?;
    assert!(needs.contains(&file("make_reg", "/tmp")), "{needs}");
    Ok(())
}

fn a_compiler() -> Result {
    let scratch = Scratch::new();
    scratch.file("main.c", "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n");
    let sandbox = closed().mount(Mount::bind(scratch.path(), "/src"));
    again(&sandbox, &sh("cc -O1 -o /tmp/main /src/main.c && /tmp/main"))?;
    Ok(())
}

fn make_files(args: &[OsString]) -> i32 {
    let dir = std::path::PathBuf::from(support::roles::text(args, 0));
    let result = (|| -> std::io::Result<()> {
        let made = dir.join("made");
        fs::create_dir(&made)?;
        fs::write(made.join("a"), "a")?;
        fs::rename(made.join("a"), dir.join("b"))?;
        fs::hard_link(dir.join("b"), made.join("c"))?;
        std::os::unix::fs::symlink("made", dir.join("link"))?;
        fs::write(dir.join("link/d"), "through a link")?;
        fs::File::options().write(true).truncate(true).open(dir.join("made/d"))?;
        print!("{}", fs::read_to_string(made.join("c"))?);
        let mut names: Vec<_> = fs::read_dir(&made)?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        println!("{names:?}");
        fs::remove_dir_all(&made)?;
        fs::remove_file(dir.join("b"))?;
        fs::remove_file(dir.join("link"))?;
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket"))?;
        fs::remove_file(dir.join("socket"))
    })();
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

fn files_that_the_program_makes() -> Result {
    let needs = again(&closed(), &payload("make-files", &["/tmp"]))?;
    let text = needs.to_string();
    for right in [
        "make_dir",
        "make_reg",
        "make_sym",
        "make_sock",
        "remove_dir",
        "remove_file",
        "refer",
        "truncate",
        "read_dir",
    ] {
        assert!(needs.contains(&file(right, "/tmp")), "{right}:\n{text}");
    }
    let inside = text.lines().find(|line| line.contains("/tmp/") && !line.starts_with("bind "));
    assert_eq!(
        inside, None,
        "nothing in it was there before the program:
{text}"
    );
    assert!(
        needs.iter().any(|need| matches!(need, Need::Bind(address) if address == "unix:/tmp/socket")),
        "{text}"
    );
    Ok(())
}

fn files_on_an_overlay() -> Result {
    let scratch = Scratch::new();
    let layer = scratch.dir("layer");
    for dir in ["made", "data", "usr", "tmp"] {
        fs::create_dir(layer.join(dir))?;
    }
    fs::write(layer.join("data/input"), "from the layer")?;
    std::os::unix::fs::symlink("/data/input", layer.join("made/alias"))?;
    let rootfs = Rootfs::overlay([&layer]).upper(Upper::tmpfs(1 << 24, 0));
    let sandbox = support::with_system(support::with_payload(Sandbox::new().rootfs(rootfs))).root();
    again(&sandbox, &payload("make-files", &["/made"]))?;
    let needs = again(&sandbox, &cat("/made/alias"))?;
    assert!(needs.contains(&file("read_file", "/data/input")), "a symlink is no place for a rule: {needs}");
    Ok(())
}

fn threads(_: &[OsString]) -> i32 {
    raw::tick(Duration::from_millis(1));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let text: u64 =
                    (0..20).map(|m| fs::read("/etc/passwd").map_or(0, |bytes| bytes.len() as u64) * m).sum();
                text + n
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    println!("{}", sum > 0);
    0
}

fn threads_and_signals() -> Result {
    again(&closed(), &payload("threads", &[]))?;
    Ok(())
}

/// A server and a client of its own, by TCP and by an abstract socket.
fn talk(_: &[OsString]) -> i32 {
    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    let result = (|| -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:4711")?;
        let mut client = TcpStream::connect("127.0.0.1:4711")?;
        listener.accept()?.0.write_all(b"by tcp")?;
        let mut text = [0; 6];
        client.read_exact(&mut text)?;
        let name = SocketAddr::from_abstract_name("talk")?;
        let listener = UnixListener::bind_addr(&name)?;
        let mut client = UnixStream::connect_addr(&name)?;
        listener.accept()?.0.write_all(b" and abstract")?;
        let mut more = String::new();
        client.read_to_string(&mut more)?;
        Ok(String::from_utf8_lossy(&text).into_owned() + &more)
    })();
    println!("{result:?}");
    i32::from(result.is_err())
}

fn addresses() -> Result {
    let needs = again(&closed(), &payload("talk", &[]))?;
    for need in [
        Need::Bind("127.0.0.1:4711".into()),
        Need::Connect("127.0.0.1:4711".into()),
        Need::Bind("abstract:talk".into()),
        Need::Connect("abstract:talk".into()),
    ] {
        assert!(needs.contains(&need), "{need} is not among\n{needs}");
    }
    // No other port.
    let other = closed().landlock(needs.landlock()).output(payload("bind", &["4712"]))?;
    assert_eq!(other.stdout, format!("errno {}\n", libc::EACCES).into_bytes());
    assert_eq!(closed().output(payload("bind", &["4712"]))?.stdout, b"ok\n", "the positive control");
    Ok(())
}

fn bind(args: &[OsString]) -> i32 {
    match TcpListener::bind(format!("127.0.0.1:{}", support::roles::text(args, 0))) {
        Ok(_) => println!("ok"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
    0
}

fn capabilities() -> Result {
    let sandbox =
        closed().keep_capability("NET_BIND_SERVICE").keep_capability("SYS_TIME").keep_capability("CHOWN");
    let capability = |name: &str| Need::Capability(name.into());
    let needs = again(&sandbox, &payload("bind", &["80"]))?;
    assert!(needs.contains(&capability("NET_BIND_SERVICE")), "{needs}");
    assert!(!needs.contains(&capability("SYS_TIME")) && !needs.contains(&capability("CHOWN")), "{needs}");
    let needs = again(&sandbox, &payload("bind", &["8080"]))?;
    assert!(!needs.to_string().contains("capability"), "{needs}");
    // One whose use leaves no trace is not taken away.
    let needs = again(&closed().keep_capability("DAC_OVERRIDE"), &payload("bind", &["8080"]))?;
    assert!(needs.contains(&capability("DAC_OVERRIDE")), "{needs}");
    // What the sandbox does not keep is no need of the program.
    let needs = again(&closed(), &payload("bind", &["80"]))?;
    assert!(!needs.to_string().contains("capability"), "{needs}");
    Ok(())
}

fn arguments_are_those_that_were_seen() -> Result {
    let needs = closed().learn(payload("bind", &["8080"]))?.needs;
    let stream = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64;
    assert!(needs.contains(&call("socket", &[(0, libc::AF_INET as u64), (1, stream), (2, 0)])), "{needs}");
    let filter = needs.seccomp();
    let socket = |family: i32| {
        let args = [libc::SYS_socket, family.into(), stream as i64, 0].map(|arg| arg.to_string());
        payload("syscall", &args.each_ref().map(String::as_str))
    };
    let sandbox = closed().seccomp(filter);
    assert_eq!(sandbox.output(socket(libc::AF_INET))?.stdout, b"ok\n");
    assert_eq!(sandbox.output(socket(libc::AF_INET6))?.stdout, b"errno 1\n");
    assert_eq!(closed().output(socket(libc::AF_INET6))?.stdout, b"ok\n", "the positive control");
    Ok(())
}

fn what_is_denied_is_no_need() -> Result {
    let sandbox = closed().seccomp(Seccomp::new().deny(["socket"]));
    let learned = sandbox.learn(payload("bind", &["8080"]))?;
    assert_eq!(learned.output.stdout, b"errno 1\n");
    assert!(!learned.needs.to_string().contains("socket"), "{}", learned.needs);
    let sandbox = closed().seccomp(Seccomp::new().kill(["socket"]));
    let learned = sandbox.learn(payload("bind", &["8080"]))?;
    assert_eq!(learned.output.outcome.denied.and_then(belljar::Syscall::name), Some("socket"));
    assert!(!learned.needs.to_string().contains("socket"), "{}", learned.needs);
    Ok(())
}

fn runs_are_merged_and_compared() -> Result {
    let one = closed().learn(cat("/etc/passwd"))?.needs;
    let other = closed().learn(cat("/etc/hosts"))?.needs;
    assert_eq!(other.diff(&one).to_string(), "+ read_file /etc/hosts\n- read_file /etc/passwd\n");
    let mut both = one.clone();
    both.merge(&other);
    let confined = both.apply(closed());
    for path in ["/etc/passwd", "/etc/hosts"] {
        assert_eq!(confined.output(cat(path))?.outcome.verdict, Verdict::Exited(0));
    }
    assert!(closed().learn(cat("/etc/passwd"))?.needs.diff(&one).is_empty(), "the same each time");
    Ok(())
}

/// Tries to read what it may not, and then as much as it likes.
fn a_policy_is_never_wider_than_the_sandbox() -> Result {
    let scratch = Scratch::new();
    let open = closed().mount(Mount::bind(scratch.file("secret", "secret"), "/srv/secret"));
    assert_eq!(open.output(cat("/srv/secret"))?.outcome.verdict, Verdict::Exited(0), "the positive control");
    let rules = Landlock::new().system().execute("/payload").connect_tcp(80);
    let sandbox = open.landlock(rules);
    let denied = format!("errno {}\n", libc::EACCES).into_bytes();
    let learned = sandbox.learn(cat("/srv/secret"))?;
    assert_eq!(learned.output.stdout, denied);
    assert_eq!(learned.needs.apply(sandbox.clone()).output(cat("/srv/secret"))?.stdout, denied);
    // A port that was denied.
    let learned = sandbox.learn(payload("bind", &["8080"]))?;
    assert_eq!(learned.output.stdout, denied);
    assert_eq!(learned.needs.apply(sandbox.clone()).output(payload("bind", &["8080"]))?.stdout, denied);
    // What was allowed and needed still is.
    let learned = sandbox.learn(cat("/etc/passwd"))?;
    assert_eq!(learned.output.outcome.verdict, Verdict::Exited(0));
    let output = learned.needs.apply(sandbox).output(cat("/etc/passwd"))?;
    assert_eq!(output.outcome.verdict, Verdict::Exited(0));
    Ok(())
}

/// Makes calls with more arguments than are few, and one that the default filter allows about the caller only.
fn many_arguments(_: &[OsString]) -> i32 {
    for request in 0..30 {
        raw::syscall(libc::SYS_ioctl, [0, 0x9900 + request, 0, 0, 0, 0]).ok();
    }
    raw::syscall(libc::SYS_sched_setparam, [0, 0, 0, 0, 0, 0]).ok();
    println!("done");
    0
}

fn a_policy_keeps_the_conditions_of_the_filter() -> Result {
    let needs = closed().learn(payload("many-arguments", &[]))?.needs;
    assert!(needs.contains(&call("ioctl", &[])) && needs.contains(&call("sched_setparam", &[])), "{needs}");
    let calls = |sandbox: &Sandbox, args: [i64; 3]| {
        let args = args.map(|arg| arg.to_string());
        sandbox.output(payload("syscall", &args.each_ref().map(String::as_str)))
    };
    const TIOCSTI: i64 = 0x5412;
    let tame = needs.apply(closed());
    let wild = needs.apply(closed().allow_all_syscalls());
    for denied in [[libc::SYS_ioctl, 0, TIOCSTI], [libc::SYS_sched_setparam, 1, 0]] {
        assert_eq!(calls(&tame, denied)?.stdout, b"errno 1\n", "{denied:?}");
        assert_ne!(calls(&wild, denied)?.stdout, b"errno 1\n", "the positive control");
    }
    Ok(())
}

/// `tmpfile(3)`.
fn unnamed(_: &[OsString]) -> i32 {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let result = (|| -> std::io::Result<String> {
        let mut options = fs::File::options();
        let mut file = options.read(true).write(true).custom_flags(libc::O_TMPFILE).open("/tmp")?;
        file.write_all(b"text")?;
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    })();
    println!("{result:?}");
    0
}

fn files_without_a_name() -> Result {
    let needs = again(&closed(), &payload("unnamed", &[]))?;
    assert!(needs.contains(&file("write_file", "/tmp")), "{needs}");
    assert_eq!(needs.apply(closed()).output(payload("unnamed", &[]))?.stdout, b"Ok(\"text\")\n");
    Ok(())
}

/// A file that lost its name while it was open.
fn unlinked(_: &[OsString]) -> i32 {
    let result = (|| -> std::io::Result<()> {
        let file = fs::File::create("/tmp/gone")?;
        fs::remove_file("/tmp/gone")?;
        file.set_len(10)
    })();
    println!("{result:?}");
    0
}

fn files_that_lost_their_name() -> Result {
    let needs = again(&closed(), &payload("unlinked", &[]))?;
    assert!(needs.contains(&file("truncate", "/tmp")), "{needs}");
    assert!(!needs.to_string().contains("deleted"), "{needs}");
    Ok(())
}

/// Has as much written down as there are system calls.
fn flood(_: &[OsString]) -> i32 {
    let deep = format!("/tmp{}", format!("/{}", "x".repeat(200)).repeat(18));
    fs::create_dir_all(&deep).expect("there is a /tmp");
    for n in 0..6_000_usize {
        let path = std::ffi::CString::new(format!("{deep}/{n}")).expect("a path");
        raw::syscall(libc::SYS_mkdir, [path.as_ptr().addr(), 0o700, 0, 0, 0, 0]).ok();
        raw::syscall(libc::SYS_rmdir, [path.as_ptr().addr(), 0, 0, 0, 0, 0]).ok();
        raw::syscall(libc::SYS_prctl, [0x9900 + n, 0, 0, 0, 0, 0]).ok();
    }
    0
}

fn what_is_remembered_has_a_bound() -> Result {
    let resident = || -> Result<u64> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(u64::MAX))
    };
    let before = resident()?;
    let result = closed().learn(payload("flood", &[]));
    let grown = resident()?.saturating_sub(before);
    println!("{grown} kB");
    let error = result.err().ok_or_else(|| Fail("all of it was remembered".into()))?;
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    Ok(())
}

fn a_bare_sandbox() -> Result {
    let scratch = Scratch::new();
    let note = scratch.file("note", "of the host");
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "cat"]).arg(&note);
    let needs = again(&Sandbox::bare(), &command)?;
    assert!(needs.contains(&Need::File { access: "read_file".into(), path: note }), "{needs}");
    let mut other = Command::new(support::own_exe());
    other.args(["--role", "cat", "/etc/passwd"]);
    let output = needs.apply(Sandbox::bare()).best_effort(Feature::Landlock).output(&other)?;
    assert_eq!(output.stdout, format!("errno {}\n", libc::EACCES).into_bytes());
    Ok(())
}

fn commands_that_cannot_be_learned_from() -> Result {
    let mut command = cat("/etc/passwd");
    command.on_syscall(["openat"], |_| Response::proceed());
    let error = closed().seccomp(Seccomp::new().notify(["openat"])).learn(&command).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.hint().is_some());
    Ok(())
}

fn a_program_that_is_not_there() -> Result {
    let error = closed().learn(Command::new("/nothing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exec);
    Ok(())
}

/// Calls and calls.
fn chatter(_: &[OsString]) -> i32 {
    loop {
        raw::syscall(libc::SYS_getppid, [0; 6]).ok();
    }
}

fn limits_hold_meanwhile() -> Result {
    let learned = closed().wall_time(Duration::from_millis(300)).learn(payload("chatter", &[]))?;
    assert_eq!(learned.output.outcome.verdict, Verdict::WallTimeExceeded);
    assert!(learned.needs.contains(&call("getppid", &[])), "{}", learned.needs);
    Ok(())
}

/// Paths that are no paths, lead to themselves, or lead far up.
fn odd_paths(_: &[OsString]) -> i32 {
    let open = |path: usize| {
        let at_cwd = libc::AT_FDCWD as usize;
        raw::syscall(libc::SYS_openat, [at_cwd, path, 0, 0, 0, 0]).ok();
    };
    open(0);
    open(usize::MAX);
    fs::read_to_string("").ok();
    fs::read_to_string("a".repeat(10_000)).ok();
    std::os::unix::fs::symlink("loop", "/tmp/loop").ok();
    fs::read_to_string("/tmp/loop").ok();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", "/tmp/up").ok();
    println!("{}", fs::read_to_string("/tmp/up").is_ok());
    println!("{}", fs::read_to_string("/proc/self/root/etc/hosts").is_ok());
    println!("{}", fs::read_to_string("/dev/fd/99").is_ok());
    0
}

fn paths_that_end_nowhere() -> Result {
    let learned = closed().learn(payload("odd-paths", &[]))?;
    assert_eq!(learned.output.stdout, b"true\ntrue\nfalse\n");
    let text = learned.needs.to_string();
    assert!(learned.needs.contains(&file("read_file", "/etc/passwd")), "{text}");
    assert!(!text.contains("aaaa"), "{text}");
    Ok(())
}

fn upwards(_: &[OsString]) -> i32 {
    std::os::unix::fs::symlink("../../../etc/passwd", "/tmp/up").ok();
    println!("{}", fs::read_to_string("/tmp/up").is_ok());
    0
}

/// The kernel gives up on a `..` while anything at all is renamed on the machine, by anybody.
fn paths_while_others_rename() -> Result {
    let dir = Scratch::new();
    let [a, b] = ["a", "b"].map(|name| dir.join(name));
    fs::write(&a, "")?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::rename(&a, &b).and_then(|()| fs::rename(&b, &a)).ok();
            }
        });
        let learned = (0..20).map(|_| closed().learn(payload("upwards", &[]))).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        for learned in learned {
            let learned = learned?;
            assert_eq!(learned.output.stdout, b"true\n");
            assert!(learned.needs.contains(&file("read_file", "/etc/passwd")), "{}", learned.needs);
        }
        Ok(())
    })
}

fn unprivileged(_: &[OsString]) -> i32 {
    role_result((|| {
        what_was_learned_is_enough()?;
        and_nothing_else_is_allowed()?;
        files_that_the_program_makes()?;
        addresses()?;
        if support::features::missing("sh").is_none() {
            a_shell_and_its_children()?;
        }
        a_bare_sandbox()
    })())
}

fn an_unprivileged_host() -> Result {
    as_nobody("unprivileged", &[], Duration::from_secs(120))?.succeed()?;
    Ok(())
}
