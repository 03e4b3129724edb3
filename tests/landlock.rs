//! Rules of landlock: each right denied and allowed, on every kind of root, and without any namespace.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[path = "support/reach.rs"]
mod reach;
#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Command, ErrorKind, Feature, Host, Landlock, LandlockAccess, Mount, Rootfs, Sandbox, Seccomp, Status,
    Stdio, Step, Upper, Verdict,
};
use support::{Fail, Result, Scratch, closed, fail, own_exe, payload, succeed};

fn main() -> ExitCode {
    let cases = cases![
        each_right_of_files: ["bare", "landlock-5"],
        renaming_to_other_directories: ["bare", "landlock-2"],
        on_every_kind_of_filesystem: ["userns", "landlock-6", "overlay"],
        closed_denies_everything: ["userns", "landlock-6"],
        without_namespaces_and_privilege: ["bare", "setpriv", "landlock-6"],
        children_are_confined: ["bare", "landlock-3"],
        programs_that_may_not_be_executed: ["bare", "landlock-6", "sh"],
        ports: ["bare", "landlock-4"],
        the_network_of_the_host: ["userns", "landlock-4"],
        ways_around_the_rules_of_ports: ["bare", "landlock-4"],
        the_guard_allows_the_rest: ["bare", "landlock-4"],
        a_foreign_abi: ["bare", "landlock-4", "cc"],
        abstract_sockets: ["userns", "landlock-6"],
        signals: ["bare", "landlock-6"],
        programs_of_a_container: ["userns", "landlock-6"],
        sockets_with_a_path: ["bare", "landlock-9"],
        paths_that_are_not_there: ["userns", "landlock-6"],
        symlinks_are_not_followed: ["userns", "landlock-6", "overlay"],
        files_and_the_rights_of_directories: ["bare", "landlock-6"],
        what_is_open_stays_open: ["bare", "landlock-6"],
        an_older_abi_denies_less: ["bare", "landlock-5"],
        a_kernel_without_it: ["bare"],
        a_kernel_with_less: ["bare", "landlock"],
        rules_that_cannot_be: ["bare", "landlock"],
        beside_a_filter_of_ones_own: ["userns", "landlock-6"],
        the_plan_shows_the_rules: ["bare", "landlock-6"],
        the_host_report: ["bare", "landlock"],
    ];
    support::main(
        cases,
        &[
            ("reach", reach::reach),
            ("reach-as-child", reach::reach_as_child),
            ("reach-with-rules-alone", reach::reach_with_rules_alone),
            ("host-without-privilege", host_without_privilege),
            ("host-without-landlock", host_without_landlock),
        ],
    )
}

const EPERM: i32 = libc::EPERM;
const EACCES: i32 = libc::EACCES;
const ENOTTY: i32 = libc::ENOTTY;

/// What came of the attempts, in their order.
fn outcomes(text: &str) -> Result<Vec<i32>> {
    text.lines().map(|line| line.parse().map_err(|_| Fail(format!("the payload said {line:?}")))).collect()
}

/// In a sandbox with a root of its own and this program in it.
fn inside(sandbox: &Sandbox, attempts: &[&str]) -> Result<Vec<i32>> {
    outcomes(&succeed(sandbox.output(payload("reach", attempts))?)?)
}

/// A command by which a sandbox without a root of its own executes this program.
fn here(role: &str, attempts: &[&str]) -> Command {
    let mut command = Command::new(own_exe());
    command.args(["--role", role]).args(attempts);
    command
}

fn on_the_host(sandbox: &Sandbox, attempts: &[&str]) -> Result<Vec<i32>> {
    outcomes(&succeed(sandbox.output(here("reach", attempts))?)?)
}

/// Denies files only, but for what it takes to execute this program.
fn files() -> Landlock {
    Landlock::new().system().execute(own_exe()).share_tcp().share_signals().share_abstract_sockets().abi(5)
}

fn open_to_all(path: &Path) -> Result {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// One right, and an attempt that needs this right and no other, but for what every attempt is given.
type Right = (LandlockAccess, &'static str);

const RIGHTS: [Right; 14] = [
    (LandlockAccess::READ_FILE, "read:file"),
    (LandlockAccess::READ_DIR, "list:dir"),
    (LandlockAccess::WRITE_FILE, "write:file"),
    (LandlockAccess::TRUNCATE, "truncate:file"),
    (LandlockAccess::REMOVE_FILE, "unlink:rubbish"),
    (LandlockAccess::REMOVE_DIR, "rmdir:dir"),
    (LandlockAccess::MAKE_REG, "mkreg:new"),
    (LandlockAccess::MAKE_DIR, "mkdir:newdir"),
    (LandlockAccess::MAKE_SYM, "symlink:newlink"),
    (LandlockAccess::MAKE_FIFO, "mkfifo:newfifo"),
    (LandlockAccess::MAKE_SOCK, "mksock:newsock"),
    (LandlockAccess::MAKE_CHAR, "mkchar:newchar"),
    (LandlockAccess::MAKE_BLOCK, "mkblock:newblock"),
    (LandlockAccess::EXECUTE, "exec:program"),
];

/// A directory with what the attempts are about, anew for each of them.
fn arena(scratch: &Scratch, name: &str) -> Result<PathBuf> {
    let dir = scratch.dir(name);
    open_to_all(&dir)?;
    for file in ["file", "rubbish"] {
        fs::write(dir.join(file), "content")?;
    }
    fs::create_dir(dir.join("dir"))?;
    // A script that needs no right of reading but its own.
    fs::copy("/bin/true", dir.join("program"))?;
    Ok(dir)
}

fn attempts_in(dir: &Path) -> Vec<String> {
    let one = |attempt: &str| {
        let (verb, name) = attempt.split_once(':').expect("a verb and a name");
        format!("{verb}:{}", dir.join(name).display())
    };
    RIGHTS.iter().map(|(_, attempt)| one(attempt)).collect()
}

fn each_right_of_files() -> Result {
    let scratch = Scratch::new();
    let root = nix::unistd::geteuid().is_root();
    // Whoever may not make a device is told so once the rules have let it pass.
    let devices = [LandlockAccess::MAKE_CHAR, LandlockAccess::MAKE_BLOCK];
    let allowed = |right| if devices.contains(&right) && !root { EPERM } else { 0 };
    let run = |name: &str, rules: Option<&dyn Fn(&Path) -> Landlock>| {
        let dir = arena(&scratch, name)?;
        let attempts = attempts_in(&dir);
        let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
        let sandbox = match rules {
            Some(rules) => Sandbox::bare().landlock(rules(&dir)),
            None => Sandbox::bare(),
        };
        on_the_host(&sandbox, &attempts)
    };
    // The positive control: all of them work.
    let everything: Vec<i32> = RIGHTS.iter().map(|(right, _)| allowed(*right)).collect();
    assert_eq!(run("control", None)?, everything);
    assert_eq!(run("nothing", Some(&|_| files()))?, [EACCES; RIGHTS.len()]);
    for (n, (right, attempt)) in RIGHTS.into_iter().enumerate() {
        // The kernel reads what it executes.
        let extra = if right == LandlockAccess::EXECUTE { right | LandlockAccess::READ_FILE } else { right };
        let outcomes = run(&n.to_string(), Some(&|dir| files().rule(dir, extra)))?;
        for ((other, _), errno) in RIGHTS.into_iter().zip(outcomes) {
            let given = other == right || (extra != right && other == LandlockAccess::READ_FILE);
            let expected = if given { allowed(other) } else { EACCES };
            assert_eq!(errno, expected, "{other} with a rule for {right} ({attempt})");
        }
    }
    // A device.
    let zero = "ioctl:/dev/zero";
    assert_eq!(on_the_host(&Sandbox::bare(), &[zero])?, [ENOTTY]);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(files()), &[zero])?, [EACCES]);
    let allowed = files().rule("/dev/zero", LandlockAccess::IOCTL_DEV);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(allowed), &[zero])?, [ENOTTY]);
    Ok(())
}

/// Rules about two directories.
type Rules<'a> = &'a dyn Fn(&Path, &Path) -> Landlock;

fn renaming_to_other_directories() -> Result {
    let scratch = Scratch::new();
    let all = LandlockAccess::READ | LandlockAccess::WRITE;
    let run = |name: &str, rules: Option<Rules<'_>>| {
        let (from, to) = (scratch.dir(format!("{name}/from")), scratch.dir(format!("{name}/to")));
        for dir in [&from, &to] {
            open_to_all(dir)?;
        }
        for file in ["one", "two", "three"] {
            fs::write(from.join(file), "content")?;
        }
        let path = |dir: &Path, name: &str| dir.join(name).display().to_string();
        let attempts = [
            format!("rename:{}:{}", path(&from, "one"), path(&to, "one")),
            format!("link:{}:{}", path(&from, "two"), path(&to, "two")),
            format!("rename:{}:{}", path(&from, "three"), path(&from, "four")),
        ];
        let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
        let sandbox = Sandbox::bare();
        let sandbox = match rules {
            Some(rules) => sandbox.landlock(rules(&from, &to)),
            None => sandbox,
        };
        on_the_host(&sandbox, &attempts)
    };
    let without_refer = LandlockAccess::READ
        | LandlockAccess::WRITE_FILE
        | LandlockAccess::MAKE_REG
        | LandlockAccess::REMOVE_FILE;
    assert_eq!(run("control", None)?, [0, 0, 0]);
    let exdev = libc::EXDEV;
    assert_eq!(
        run("denied", Some(&|from, to| files().abi(2).rule(from, without_refer).rule(to, without_refer)))?,
        [exdev, exdev, 0]
    );
    assert_eq!(run("allowed", Some(&|from, to| files().abi(2).rule(from, all).rule(to, all)))?, [0, 0, 0]);
    // The first ABI cannot allow it, and so denies it.
    assert_eq!(
        run("first", Some(&|from, to| files().abi(2).rule(from, all).rule(to, all).abi(1)))?,
        [exdev, exdev, 0]
    );
    // A file would gain the right to be read by going there.
    let blind = LandlockAccess::WRITE;
    assert_eq!(
        run("widened", Some(&|from, to| files().abi(2).rule(from, blind).rule(to, all)))?,
        [exdev, exdev, 0]
    );
    Ok(())
}

/// `/data/open` may be written to and `/data/shut` not, and reading is for `/data/open` alone.
fn on_every_kind_of_filesystem() -> Result {
    let scratch = Scratch::new();
    let rules = || Landlock::new().system().execute("/payload").read("/data/open").write("/data/open");
    let attempts = [
        "create:/data/open/file",
        "read:/data/open/file",
        "list:/data/open",
        "create:/data/shut/file",
        "list:/data/shut",
        "list:/data",
        "create:/data/file",
    ];
    let places = |name: &str| -> Result<PathBuf> {
        for dir in ["open", "shut"] {
            open_to_all(&scratch.dir(format!("{name}/data/{dir}")))?;
        }
        open_to_all(&scratch.join(format!("{name}/data")))?;
        Ok(scratch.join(name))
    };
    let bind = closed().mount(Mount::bind_writable(places("bind")?.join("data"), "/data"));
    let tmpfs = closed()
        .mount(Mount::tmpfs("/data"))
        .mount(Mount::dir("/data/open").mode(0o777))
        .mount(Mount::dir("/data/shut").mode(0o777));
    let layers = || -> Result<[PathBuf; 2]> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let top = scratch.dir(format!("top{number}"));
        scratch.dir(format!("top{number}/etc"));
        Ok([top, places(&format!("layer{number}"))?])
    };
    let upper = || Upper::tmpfs(support::mib(4), 100);
    let over = |rootfs: Rootfs| support::with_payload(support::with_system(Sandbox::new().rootfs(rootfs)));
    let overlay = |rootfs: Rootfs| over(rootfs);
    for (name, sandbox) in [
        ("bind", bind),
        ("tmpfs", tmpfs),
        ("overlay in memory", overlay(Rootfs::overlay(layers()?).upper(upper()))),
        (
            "overlay on disk",
            overlay(Rootfs::overlay(layers()?).upper(Upper::dir(scratch.dir("upper"), scratch.dir("work")))),
        ),
    ] {
        let read_only = LandlockAccess::READ | LandlockAccess::EXECUTE;
        let rules = rules().rule("/usr", read_only);
        let confined = sandbox.clone().landlock(rules);
        assert_eq!(inside(&confined, &attempts)?, [0, 0, 0, EACCES, EACCES, EACCES, EACCES], "{name}");
        // The positive control: nothing else is in the way. Where the directory outlives the sandbox, so does the file.
        let errno = inside(&sandbox, &attempts)?;
        assert_eq!(errno[1..], [0; 6], "{name}");
    }
    Ok(())
}

fn closed_denies_everything() -> Result {
    let secret = "read:/etc/passwd";
    let attempts =
        [secret, "list:/", "list:/proc", "create:/tmp/file", "bind:0", "own-abstract:own", "kill-child"];
    // What it takes to be executed, and nothing else: not even the names of users.
    let rules = Landlock::new().execute("/payload").execute("/usr").read("/etc/ld.so.cache");
    assert_eq!(inside(&closed(), &attempts)?, [0; 7]);
    assert_eq!(
        inside(&closed().landlock(rules), &attempts)?,
        [EACCES, EACCES, EACCES, EACCES, EACCES, 0, 0],
        "its own sockets and children are in the scope"
    );
    Ok(())
}

/// The whole of it on a host that can do nothing else.
fn without_namespaces_and_privilege() -> Result {
    let scratch = Scratch::new();
    open_to_all(&scratch.dir("out"))?;
    scratch.file("secret", "secret");
    let helper =
        support::as_nobody("host-without-privilege", &[text(scratch.path())], Duration::from_secs(30))?;
    helper.succeed()?;
    assert!(scratch.join("out/file").exists());
    Ok(())
}

fn host_without_privilege(args: &[OsString]) -> i32 {
    let dir = PathBuf::from(&args[0]);
    support::role_result((|| {
        // No namespace can be made from here on.
        nix::sys::prctl::set_no_new_privs()?;
        support::raw::make_unknown(libc::SYS_unshare)?;
        assert_eq!(support::roles::try_unshare(&["268435456".into()]), 1, "a user namespace");
        let path = |name: &str| dir.join(name).display().to_string();
        let attempts = [
            format!("read:{}", path("secret")),
            format!("create:{}", path("out/file")),
            format!("read:{}", path("out/file")),
            "list:/".to_owned(),
            "list:/proc".to_owned(),
            "bind:0".to_owned(),
            "kill-parent".to_owned(),
        ];
        let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
        let rules = Landlock::new().system().execute(own_exe()).write(dir.join("out"));
        let confined = on_the_host(&Sandbox::bare().landlock(rules), &attempts)?;
        assert_eq!(confined, [EACCES, 0, EACCES, EACCES, EACCES, EACCES, EPERM]);
        fs::remove_file(dir.join("out/file"))?;
        assert_eq!(on_the_host(&Sandbox::bare(), &attempts)?, [0; 7]);
        // The same namespaces as those of this process.
        let own: Vec<String> =
            support::oracle::NAMESPACES.iter().map(|name| support::oracle::namespace("self", name)).collect();
        let theirs = succeed(Sandbox::bare().landlock(files().read("/proc")).output(here("ns", &[]))?)?;
        assert_eq!(theirs.lines().collect::<Vec<_>>(), own);
        Ok(())
    })())
}

fn children_are_confined() -> Result {
    let scratch = Scratch::new();
    let file = scratch.file("file", "content");
    let read = format!("read:{}", file.display());
    let as_child = |sandbox: &Sandbox| outcomes(&succeed(sandbox.output(here("reach-as-child", &[&read]))?)?);
    assert_eq!(as_child(&Sandbox::bare())?, [0]);
    let rules = files().abi(3).read("/proc");
    assert_eq!(as_child(&Sandbox::bare().landlock(rules.clone()))?, [EACCES]);
    assert_eq!(as_child(&Sandbox::bare().landlock(rules.read(&file)))?, [0]);
    Ok(())
}

fn programs_that_may_not_be_executed() -> Result {
    let scratch = Scratch::new();
    let refused = |rules: Landlock, command: Command| {
        let error = Sandbox::bare().landlock(rules).output(command).expect_err("it may not be executed");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(EACCES)), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("landlock must allow execute")), "{error:?}");
    };
    let run = LandlockAccess::EXECUTE | LandlockAccess::READ;
    // The program itself; its loader, below /usr or where /lib64 is no symlink; and the interpreter of a script.
    refused(Landlock::new().system(), here("exit", &["0"]));
    refused(Landlock::new().rule(own_exe(), run), here("exit", &["0"]));
    refused(Landlock::new().system().rule(own_exe(), LandlockAccess::EXECUTE), here("exit", &["0"]));
    let script = scratch.file("script", "#!/bin/sh\nexit 0\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    refused(Landlock::new().rule(&script, run), Command::new(&script));
    // The positive controls.
    succeed(
        Sandbox::bare().landlock(Landlock::new().system().execute(own_exe())).output(here("exit", &["0"]))?,
    )?;
    succeed(
        Sandbox::bare().landlock(Landlock::new().system().execute(&script)).output(Command::new(&script))?,
    )?;
    // Without rules about files the hint is the usual one.
    let plain = scratch.file("plain", "");
    let rules = Landlock::bare().scope_signals();
    let error = Sandbox::bare().landlock(rules).output(Command::new(plain)).expect_err("no program");
    assert!(error.hint().is_some_and(|hint| !hint.contains("landlock")), "{error:?}");
    Ok(())
}

/// Two ports at which somebody listens, for as long as they are held.
fn listeners() -> Result<([TcpListener; 2], [u16; 2])> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let ports = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
    Ok((listeners, ports))
}

/// A port at which nobody listens, most likely.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ports() -> Result {
    let (_listeners, [one, other]) = listeners()?;
    let (free, free_too) = (free_port()?, free_port()?);
    let attempts = [
        format!("connect:{one}"),
        format!("connect-mapped:{one}"),
        format!("connect:{other}"),
        format!("connect-mapped:{other}"),
        format!("bind:{free}"),
        format!("bind:{free_too}"),
        "bind:0".to_owned(),
    ];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let run = |rules: Landlock| on_the_host(&Sandbox::bare().landlock(rules), &attempts);
    assert_eq!(on_the_host(&Sandbox::bare(), &attempts)?, [0; 7]);
    assert_eq!(run(Landlock::bare().restrict_tcp())?, [EACCES; 7]);
    assert_eq!(run(Landlock::bare().connect_tcp(one))?, [0, 0, EACCES, EACCES, EACCES, EACCES, EACCES]);
    assert_eq!(run(Landlock::bare().bind_tcp(free))?, [EACCES, EACCES, EACCES, EACCES, 0, EACCES, EACCES]);
    assert_eq!(run(Landlock::bare().bind_tcp(0).connect_tcp(other))?[2..], [0, 0, EACCES, EACCES, 0]);
    // What landlock does not look at, so that nobody takes it for denied.
    let beyond = [format!("udp:{one}"), "listen-unbound".to_owned()];
    let beyond: Vec<&str> = beyond.iter().map(String::as_str).collect();
    assert_eq!(on_the_host(&Sandbox::bare().landlock(Landlock::bare().restrict_tcp()), &beyond)?, [0, 0]);
    Ok(())
}

/// In a sandbox that was given the network and is closed otherwise.
fn the_network_of_the_host() -> Result {
    let (_listeners, [one, other]) = listeners()?;
    let attempts = [format!("connect:{one}"), format!("connect:{other}")];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let shared = closed().share_net();
    assert_eq!(inside(&shared, &attempts)?, [0, 0]);
    let rules = Landlock::bare().connect_tcp(other);
    assert_eq!(inside(&shared.landlock(rules), &attempts)?, [EACCES, 0]);
    // One of its own has nobody who listens there.
    let own = closed().landlock(Landlock::bare().connect_tcp(other));
    assert_eq!(inside(&own, &attempts)?, [EACCES, libc::ECONNREFUSED]);
    Ok(())
}

fn ways_around_the_rules_of_ports() -> Result {
    let (_listeners, [one, _]) = listeners()?;
    let attacks = ["fastopen-to", "fastopen-high", "fastopen-message", "fastopen-messages", "mptcp"];
    let attempts: Vec<String> = attacks.iter().map(|attack| format!("{attack}:{one}")).collect();
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    // The attacks: with the rules of landlock alone, on a kernel that has not closed these ways, each is a connection.
    let connect = format!("connect:{one}");
    let alone: Vec<&str> = [connect.as_str()].into_iter().chain(attempts.iter().copied()).collect();
    let mut command = support::role_command("reach-with-rules-alone", &alone);
    let text = support::run_helper(&mut command, Duration::from_secs(20))?.succeed()?;
    let outcomes = outcomes(&text)?;
    assert_eq!(outcomes[0], EACCES, "the rules are in force");
    let no_such_way = [libc::EPROTONOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP];
    for (attack, errno) in attacks.iter().zip(&outcomes[1..]) {
        // Linux 6.18 has all of them open; 7.3, and the 6.12 of Debian 13, MPTCP alone.
        println!("with the rules of landlock alone {attack} is {errno}");
        assert!([0, EACCES].contains(errno) || no_such_way.contains(errno), "{attack}: {errno}");
    }
    // Under the guard none is, whether it is alone or part of a policy that allows them.
    let guarded = Sandbox::bare().landlock(Landlock::bare().restrict_tcp());
    let (refused, no_protocol) = (libc::EOPNOTSUPP, libc::EPROTONOSUPPORT);
    let allowing = belljar::Seccomp::new().allow(["socket", "io_uring_setup"]);
    for guarded in [guarded.clone(), guarded.seccomp(allowing)] {
        assert_eq!(on_the_host(&guarded, &attempts)?, [refused, refused, refused, refused, no_protocol]);
        assert_eq!(
            on_the_host(&guarded, &["smc", "af-smc", "io-uring"])?,
            [no_protocol, libc::EAFNOSUPPORT, libc::ENOSYS]
        );
    }
    // Nor where the port is allowed: programs fall back to what is.
    let allowed = Sandbox::bare().landlock(Landlock::bare().connect_tcp(one));
    assert_eq!(on_the_host(&allowed, &["io-uring", attempts[0], &connect])?, [libc::ENOSYS, refused, 0]);
    Ok(())
}

fn the_guard_allows_the_rest() -> Result {
    let guarded = Sandbox::bare().landlock(Landlock::bare().restrict_tcp());
    assert_eq!(on_the_host(&guarded, &["send", "own-abstract:x", "kill-child", "list:/"])?, [0; 4]);
    let status = succeed(guarded.output(here("status", &[]))?)?;
    assert!(status.contains("Seccomp_filters:\t1"), "{status}");
    // No rule of ports, no filter.
    let plain = Sandbox::bare().landlock(Landlock::bare().read("/").execute("/"));
    let status = succeed(plain.output(here("status", &[]))?)?;
    assert!(status.contains("Seccomp:\t0"), "{status}");
    Ok(())
}

/// Its calls have their arguments where the guard does not look.
fn a_foreign_abi() -> Result {
    if cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let scratch = Scratch::new();
    let source = "int main(void) { long r; \
                  __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20) : \"memory\"); return 0; }";
    let program = support::compile(&scratch, "foreign", source, &[])?;
    let run = |rules: Landlock| Sandbox::bare().landlock(rules).status(Command::new(&program));
    assert_eq!(run(Landlock::bare().restrict_tcp())?.verdict, Verdict::SyscallDenied { syscall: None });
    assert_eq!(
        run(Landlock::bare().read("/").execute("/"))?.verdict,
        Verdict::Exited(0),
        "no rules of ports"
    );
    Ok(())
}

fn abstract_sockets() -> Result {
    let name = format!("belljar-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?;
    let attempts = [format!("abstract:{name}"), "own-abstract:belljar-test-own".to_owned()];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let shared = closed().share_net();
    assert_eq!(inside(&shared, &attempts)?, [0, 0]);
    let rules = Landlock::bare().scope_abstract_sockets();
    assert_eq!(inside(&shared.landlock(rules.clone()), &attempts)?, [EPERM, 0]);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(rules), &attempts)?, [EPERM, 0]);
    Ok(())
}

fn signals() -> Result {
    let mut sleeper = support::role_command("sleep", &["20000"]).spawn()?;
    let attempts = [format!("kill:{}", sleeper.id()), "kill-parent".to_owned(), "kill-child".to_owned()];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let checked = (|| {
        assert_eq!(on_the_host(&Sandbox::bare(), &attempts)?, [0, 0, 0]);
        let rules = Landlock::bare().scope_signals();
        assert_eq!(on_the_host(&Sandbox::bare().landlock(rules), &attempts)?, [EPERM, EPERM, 0]);
        // Tracing is denied by any rules: it would be a way out of them.
        let seize = format!("seize:{}", sleeper.id());
        let rules = Landlock::bare().scope_abstract_sockets();
        assert_eq!(on_the_host(&Sandbox::bare().landlock(rules), &[&seize])?, [EPERM]);
        if support::features::missing("root").is_none() {
            assert_eq!(on_the_host(&Sandbox::bare(), &[&seize])?, [0]);
        }
        Ok(())
    })();
    sleeper.kill()?;
    sleeper.wait()?;
    checked
}

fn programs_of_a_container() -> Result {
    let scratch = Scratch::new();
    open_to_all(&scratch.dir("data"))?;
    open_to_all(&scratch.dir("data/out"))?;
    let all = LandlockAccess::READ | LandlockAccess::WRITE;
    let rules = Landlock::new().system().execute("/payload").rule("/data", all);
    let rules = rules.rule("/data/out", all);
    let sandbox = closed().mount(Mount::bind_writable(scratch.join("data"), "/data")).landlock(rules);
    let container = sandbox.start()?;
    let run = |attempts: &[&str]| outcomes(&succeed(container.output(payload("reach", attempts))?)?);
    // The first one puts a symlink where a rule leads; what that leads to is not allowed to the second.
    assert_eq!(run(&["rename:/data/out:/data/moved", "symlink:/data/link"])?, [0, 0]);
    assert_eq!(run(&["create:/data/moved/file", "read:/etc/passwd", "list:/"])?, [0, 0, EACCES]);
    // Each is in a scope of its own.
    let other = support::hold_in(&container)?;
    let pid = succeed(container.output(payload("facts", &[]))?)?;
    let pid: u32 = pid.lines().find_map(|line| line.strip_prefix("pid: ")?.parse().ok()).unwrap_or_default();
    // The one that holds was started just before.
    assert_eq!(run(&[&format!("kill:{}", pid - 1), "kill:1"])?, [EPERM, EPERM]);
    other.release()?;
    container.close()?;
    Ok(())
}

fn sockets_with_a_path() -> Result {
    let scratch = Scratch::new();
    open_to_all(scratch.path())?;
    let path = scratch.join("socket");
    let _listener = UnixListener::bind(&path)?;
    open_to_all(&path)?;
    let attempt = format!("unix:{}", path.display());
    let rules = files().read(scratch.path());
    // Before ABI 9 the rules are silent about it.
    assert_eq!(on_the_host(&Sandbox::bare().landlock(rules.clone()), &[&attempt])?, [0]);
    let rules = rules.abi(9);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(rules.clone()), &[&attempt])?, [EACCES]);
    let rules = rules.rule(&path, LandlockAccess::RESOLVE_UNIX);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(rules), &[&attempt])?, [0]);
    Ok(())
}

fn paths_that_are_not_there() -> Result {
    for (path, errno) in [("/no/such", libc::ENOENT), ("/payload/below", libc::ENOTDIR)] {
        let error = closed().landlock(Landlock::new().system().read(path)).spawn(payload("exit", &["0"]));
        let error = error.expect_err("the path is not there");
        assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::Landlock), "{error:?}");
        assert_eq!((error.path(), error.raw_os_error()), (Some(Path::new(path)), Some(errno)));
        assert!(error.to_string().contains(path) && error.hint().is_some_and(|hint| hint.contains("inside")));
    }
    Ok(())
}

/// What one run leaves does not decide what the next one may access.
fn symlinks_are_not_followed() -> Result {
    let scratch = Scratch::new();
    for dir in ["base/etc", "base/data/out", "base/private"] {
        open_to_all(&scratch.dir(dir))?;
    }
    open_to_all(&scratch.join("base/data"))?;
    open_to_all(&scratch.file("base/private/key", "key"))?;
    let upper = Upper::dir(scratch.dir("upper"), scratch.dir("work"));
    let root = Rootfs::overlay([scratch.join("base")]).upper(upper);
    let sandbox = support::with_payload(support::with_system(Sandbox::new().rootfs(root)));
    let base = || Landlock::new().execute("/usr").execute("/payload");
    let all = LandlockAccess::READ | LandlockAccess::WRITE;
    let first = sandbox.clone().landlock(base().rule("/data", all));
    let second = sandbox.clone().landlock(base().rule("/data/out", all));
    assert_eq!(inside(&second, &["write:/private/key", "create:/data/out/x"])?, [EACCES, 0]);
    // The first run, which may change all of /data, makes the second's directory lead to where neither may write.
    let link = support::sh("rm -r /data/out && ln -s /private /data/out");
    succeed(first.output(link)?)?;
    let error = second.spawn(payload("exit", &["0"])).expect_err("the path leads through a symlink");
    assert_eq!((error.step(), error.raw_os_error()), (Step::Landlock, Some(libc::ELOOP)), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("no symlink")));
    // In the middle of a path as well.
    let below = sandbox.clone().landlock(base().rule("/data/out/key", all));
    let error = below.spawn(payload("exit", &["0"])).expect_err("the path leads through a symlink");
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    // The positive control: without rules it leads there.
    assert_eq!(inside(&sandbox, &["write:/data/out/key"])?, [0]);
    Ok(())
}

fn files_and_the_rights_of_directories() -> Result {
    let scratch = Scratch::new();
    let (file, other) = (scratch.file("file", "content"), scratch.file("other", "content"));
    for path in [&file, &other] {
        open_to_all(path)?;
    }
    let attempts =
        [&file, &other].map(|path| [format!("empty:{}", path.display()), format!("read:{}", path.display())]);
    let attempts: Vec<&str> = attempts.iter().flatten().map(String::as_str).collect();
    // Of what `write` means, writing and truncating can be had of a file.
    let rules = files().write(&file);
    assert_eq!(on_the_host(&Sandbox::bare().landlock(rules), &attempts)?, [0, EACCES, EACCES, EACCES]);
    assert_eq!(on_the_host(&Sandbox::bare(), &attempts)?, [0; 4]);
    let rules = files().rule(&file, LandlockAccess::MAKE_DIR | LandlockAccess::READ_DIR);
    let error = Sandbox::bare().landlock(rules).spawn(here("exit", &["0"])).expect_err("no right of files");
    assert_eq!((error.step(), error.raw_os_error()), (Step::Landlock, Some(libc::EINVAL)), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("it is a file")));
    Ok(())
}

fn what_is_open_stays_open() -> Result {
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "secret");
    let dir = scratch.dir("work");
    let path = format!("read:{}", secret.display());
    let mut command = here("reach", &["read-fd:5", "read:/proc/self/fd/6/secret", &path, "list:."]);
    command.keep_fd(fs::File::open(&secret)?, 5).keep_fd(fs::File::open(scratch.path())?, 6);
    command.current_dir(&dir).stdin(Stdio::null());
    let output = Sandbox::bare().landlock(files().read("/proc")).output(&command)?;
    let what = "a file, below a directory, its path, the directory it is in";
    assert_eq!(outcomes(&succeed(output)?)?, [0, EACCES, EACCES, EACCES], "{what}");
    assert_eq!(outcomes(&succeed(Sandbox::bare().output(&command)?)?)?, [0, 0, 0, 0], "{what}");
    // The ruleset is not among what the program is given.
    let text = succeed(Sandbox::bare().landlock(files().read("/proc")).output(here("fds", &[]))?)?;
    assert_eq!(text.lines().count(), 3, "{text}");
    Ok(())
}

fn an_older_abi_denies_less() -> Result {
    let scratch = Scratch::new();
    let file = scratch.file("file", "content");
    open_to_all(&file)?;
    let attempts = [format!("truncate:{}", file.display()), "ioctl:/dev/zero".to_owned()];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let run = |abi| on_the_host(&Sandbox::bare().landlock(files().read(&file).abi(abi)), &attempts);
    assert_eq!(run(2)?, [0, ENOTTY]);
    fs::write(&file, "content")?;
    assert_eq!(run(3)?, [EACCES, ENOTTY]);
    assert_eq!(run(5)?, [EACCES, EACCES]);
    assert_eq!(fs::read_to_string(&file)?, "content");
    Ok(())
}

fn a_kernel_without_it() -> Result {
    let mut command = support::role_command("host-without-landlock", &[]);
    support::run_helper(&mut command, Duration::from_secs(20))?.succeed().map(drop)
}

fn host_without_landlock(_: &[OsString]) -> i32 {
    support::role_result((|| {
        nix::sys::prctl::set_no_new_privs()?;
        support::raw::make_unknown(libc::SYS_landlock_create_ruleset)?;
        let sandbox = Sandbox::bare().landlock(Landlock::new().system());
        let error = sandbox.plan().expect_err("the kernel has no landlock");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Landlock), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("5.13")), "{error:?}");
        let outcome = sandbox.best_effort(Feature::Landlock).status(here("exit", &["0"]))?;
        assert!(!outcome.enforced.contains(Feature::Landlock));
        assert!(outcome.enforced.skipped().iter().any(|skipped| skipped.feature == Feature::Landlock));
        Ok(())
    })())
}

/// On each kernel that has it: the newest policy that it takes, and the first that it does not.
fn a_kernel_with_less() -> Result {
    let abi = support::features::landlock_abi().map_err(Fail)?;
    let newest = Landlock::new().system().execute(own_exe()).abi(abi.min(9));
    let outcome = Sandbox::bare().landlock(newest).status(here("exit", &["0"]))?;
    assert!(outcome.enforced.contains(Feature::Landlock));
    let next = match abi {
        1 => 2,
        2 => 3,
        3 => 4,
        4 => 5,
        5 => 6,
        6..9 => 9,
        // Nothing that there are rules for is missing.
        _ => return Ok(()),
    };
    let sandbox = Sandbox::bare().landlock(Landlock::new().system().execute(own_exe()).abi(next));
    let error = sandbox.plan().expect_err("the kernel has less");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(&format!("(ABI {next})")), "{error}");
    let best = sandbox.best_effort(Feature::Landlock);
    let outcome = best.status(here("exit", &["0"]))?;
    let skipped = outcome.enforced.skipped().iter().find(|skipped| skipped.feature == Feature::Landlock);
    assert!(skipped.is_some_and(|skipped| skipped.reason.contains(&format!("(ABI {next})"))));
    // What it has is in force all the same.
    let scratch = Scratch::new();
    let file = scratch.file("file", "content");
    assert_eq!(on_the_host(&best, &[&format!("read:{}", file.display())])?, [EACCES]);
    Ok(())
}

fn rules_that_cannot_be() -> Result {
    for (rules, text) in [
        (Landlock::bare(), "deny nothing"),
        (Landlock::new().read("relative"), "absolute"),
        (Landlock::new().abi(77), "no ABI"),
        (Landlock::new().abi(2).connect_tcp(80), "TCP cannot be denied"),
    ] {
        let error = Sandbox::bare().landlock(rules).plan().expect_err("contradictory rules");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    Ok(())
}

/// The filter is installed after the rules, so it need not allow what makes them.
fn beside_a_filter_of_ones_own() -> Result {
    let denied = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
    let rules = Landlock::new().system().execute("/payload");
    let sandbox = closed().seccomp(Seccomp::new().deny(denied)).landlock(rules);
    assert_eq!(inside(&sandbox, &["list:/", "bind:0"])?, [EACCES, EACCES]);
    let status = sandbox.status(payload("exit", &["0"]))?;
    assert!(status.enforced.contains(Feature::Landlock) && status.enforced.contains(Feature::Seccomp));
    Ok(())
}

fn the_plan_shows_the_rules() -> Result {
    let rules = Landlock::new().read("/srv").bind_tcp(80).system();
    let text = Sandbox::bare().landlock(rules).plan()?.to_string();
    for line in [
        "making a landlock ruleset that denies files, TCP, abstract sockets, signals",
        "allowing read on /srv",
        "allowing read execute on /usr, if it is there,",
        "allowing binding to TCP port 80",
        "confining the program by landlock",
        "enforced:",
        "landlock",
    ] {
        if !text.contains(line) {
            return fail(format!("no {line:?} in {text}"));
        }
    }
    Ok(())
}

fn the_host_report() -> Result {
    let abi = support::features::landlock_abi().map_err(Fail)?;
    match Host::current().get(Feature::Landlock).map(|check| &check.status) {
        Some(Status::Available { note: Some(note), .. }) if note.starts_with(&format!("ABI {abi}")) => Ok(()),
        other => fail(format!("{other:?} where the ABI is {abi}")),
    }
}
