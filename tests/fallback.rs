//! Hosts on which nobody may make a namespace: what is said, and what stands in for them.
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
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Command, ErrorKind, Feature, Host, Landlock, Mount, Outcome, Rootfs, Sandbox, Seccomp, Status, Verdict,
};
use support::{
    Fail, Result, Scratch, as_nobody, closed, fail, own_exe, payload, raw, role_result, run_helper, succeed,
    within,
};

fn main() -> ExitCode {
    let cases = cases![
        in_a_container: ["userns", "landlock-6"],
        in_a_container_without_landlock: ["userns", "landlock-6"],
        where_user_namespaces_are_limited_to_none: ["userns", "landlock-6", "unshare", "setpriv"],
        what_cannot_stand_in: ["userns", "landlock-6"],
        rules_of_ones_own: ["userns", "landlock-6"],
        single_namespaces: ["userns", "landlock-6"],
        the_tree_is_killed: ["userns", "landlock-6"],
        a_host_with_namespaces_has_them: ["userns"],
        without_best_effort_it_is_an_error: ["userns"],
        tenants_need_their_namespaces: ["userns", "landlock-6"],
        a_host_that_is_root: ["userns", "landlock-6", "unshare"],
    ];
    let roles: &[support::Role] = &[
        ("reach", reach),
        ("host", |_| role_result(host())),
        ("landless-host", |_| role_result(landless_host())),
        ("narrow-host", |_| role_result(narrow_host())),
        ("own-rules-host", |_| role_result(own_rules_host())),
        ("single-host", |_| role_result(single_host())),
        ("killing-host", |_| role_result(killing_host())),
        ("tenants-host", |_| role_result(tenants_host())),
        ("root-host", |_| role_result(root_host())),
        ("strict-host", |_| role_result(strict_host())),
        ("full-host", |_| role_result(full_host())),
        ("leave-a-daemon", leave_a_daemon),
    ];
    support::main(cases, roles)
}

/// Runs a host in a closed sandbox, as in a container whose filter refuses namespaces. It has a `/tmp` of its own.
fn contained(role: &str) -> Result {
    contained_by(closed(), role)
}

fn contained_by(container: Sandbox, role: &str) -> Result {
    succeed(container.output(payload(role, &[]))?).map(drop)
}

/// The policy, which is that of any other host.
fn policy() -> Sandbox {
    Sandbox::new().mount(Mount::bind(own_exe(), own_exe())).best_effort_all(Feature::NAMESPACES)
}

/// What a program can reach from inside: one word for each, which of a program without any sandbox are all "yes".
fn reach(args: &[OsString]) -> i32 {
    let word = |n| support::roles::text(args, n);
    let (dir, port, parent) = (word(0), word(1), word(2).parse().unwrap_or(0));
    let tcp = || TcpStream::connect(format!("127.0.0.1:{port}")).map(drop);
    let udp = || UdpSocket::bind("127.0.0.1:0").map(drop);
    let by_path = || UnixStream::connect(Path::new(&dir).join("socket")).map(drop);
    let by_name = || {
        let name = SocketAddr::from_abstract_name(format!("belljar-test-{parent}"))?;
        UnixStream::connect_addr(&name).map(drop)
    };
    let call = |number: i64, args: [usize; 6]| raw::syscall(number, args).map(drop);
    let secret = std::ffi::CString::new(format!("{dir}/secret")).expect("a path");
    let (segment, victim): (usize, usize) = (word(3).parse().unwrap_or(0), word(4).parse().unwrap_or(0));
    let attempts: [(&str, &dyn Fn() -> std::io::Result<()>); 17] = [
        ("read", &|| fs::read(Path::new(&dir).join("secret")).map(drop)),
        ("write", &|| fs::write(Path::new(&dir).join("made"), "x")),
        ("proc", &|| fs::read("/proc/self/status").map(drop)),
        ("tcp", &tcp),
        ("udp", &udp),
        ("path", &by_path),
        ("abstract", &by_name),
        ("signal", &|| call(libc::SYS_kill, [parent, 0, 0, 0, 0, 0])),
        ("ipc", &|| {
            let id = raw::syscall(libc::SYS_shmget, [0, 4096, 0o600, 0, 0, 0])?;
            call(libc::SYS_shmctl, [id as usize, 0, 0, 0, 0, 0])
        }),
        ("system", &|| fs::read("/etc/passwd").map(drop)),
        ("pair", &|| UnixStream::pair().map(drop)),
        // A segment by its number, which is small and can be guessed.
        ("segment", &|| call(libc::SYS_shmat, [segment, 0, libc::SHM_RDONLY as usize, 0, 0, 0])),
        // One end of a pair of datagrams sends to whom it likes.
        ("datagram", &|| UnixDatagram::pair()?.0.send_to(b"x", Path::new(&dir).join("log")).map(drop)),
        ("mode", &|| fs::set_permissions(Path::new(&dir).join("secret"), fs::Permissions::from_mode(0o4700))),
        ("times", &|| call(libc::SYS_utimensat, [AT_CWD, secret.as_ptr().addr(), 0, 0, 0, 0])),
        ("attribute", &|| {
            let (name, value) = (c"user.belljar".as_ptr().addr(), c"x".as_ptr().addr());
            call(libc::SYS_setxattr, [secret.as_ptr().addr(), name, value, 1, 0, 0])
        }),
        ("length", &|| call(libc::SYS_truncate, [secret.as_ptr().addr(), 1, 0, 0, 0, 0])),
    ];
    signal_by_readiness(victim).ok();
    let words = attempts.map(|(name, attempt)| match attempt() {
        Ok(()) => format!("{name}=yes"),
        Err(_) => format!("{name}=no"),
    });
    println!("{}", words.join(" "));
    0
}

const AT_CWD: usize = libc::AT_FDCWD as usize;

/// Has the kernel send `SIGKILL` to whom a descriptor belongs, as soon as something can be read from it.
fn signal_by_readiness(victim: usize) -> std::io::Result<()> {
    const SET_SIGNAL: usize = 10; // F_SETSIG
    let (one, other) = UnixStream::pair()?;
    let fcntl = |command: usize, value: usize| {
        raw::syscall(libc::SYS_fcntl, [one.as_raw_fd() as usize, command, value, 0, 0, 0]).map(drop)
    };
    fcntl(libc::F_SETOWN as usize, victim)?;
    fcntl(SET_SIGNAL, libc::SIGKILL as usize)?;
    fcntl(libc::F_SETFL as usize, libc::O_ASYNC as usize)?;
    (&other).write_all(b"x")
}

/// What is there to be reached.
struct Surroundings {
    scratch: Scratch,
    port: u16,
    segment: i64,
    _kept: (TcpListener, UnixListener, UnixListener, UnixDatagram),
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        let args = [self.segment as usize, libc::IPC_RMID as usize, 0, 0, 0, 0];
        raw::syscall(libc::SYS_shmctl, args).ok();
    }
}

impl Surroundings {
    fn new() -> Result<Self> {
        let scratch = Scratch::below(&std::env::temp_dir());
        scratch.file("secret", "of the host");
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let port = tcp.local_addr()?.port();
        let by_path = UnixListener::bind(scratch.join("socket"))?;
        let name = SocketAddr::from_abstract_name(format!("belljar-test-{}", std::process::id()))?;
        let by_name = UnixListener::bind_addr(&name)?;
        let log = UnixDatagram::bind(scratch.join("log"))?;
        let segment = raw::syscall(libc::SYS_shmget, [libc::IPC_PRIVATE as usize, 4096, 0o600, 0, 0, 0])?;
        Ok(Self { scratch, port, segment, _kept: (tcp, by_path, by_name, log) })
    }

    fn reach_from(&self, sandbox: &Sandbox) -> Result<(String, Outcome)> {
        let mut command = Command::new(own_exe());
        let own = std::process::id().to_string();
        let mut victim = std::process::Command::new("/bin/sleep").arg("300").spawn()?;
        command.args(["--role", "reach"]).arg(self.scratch.path()).args([&self.port.to_string(), &own]);
        command.args([self.segment.to_string(), victim.id().to_string()]);
        let output = sandbox.output(&command);
        // The kernel tells the sender nothing.
        let killed = within(Duration::from_millis(300), || matches!(victim.try_wait(), Ok(Some(_))));
        victim.kill()?;
        victim.wait()?;
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.outcome.verdict != Verdict::Exited(0) {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            return fail(format!(
                "{:?}: {text} {errors}; {}",
                output.outcome.verdict, output.outcome.enforced
            ));
        }
        Ok((format!("{text} killed={}", if killed { "yes" } else { "no" }), output.outcome))
    }
}

const ALL: &str = "read=yes write=yes proc=yes tcp=yes udp=yes path=yes abstract=yes signal=yes ipc=yes system=yes pair=yes \
    segment=yes datagram=yes mode=yes times=yes attribute=yes length=yes killed=yes";
const NOTHING: &str = "read=no write=no proc=no tcp=no udp=no path=no abstract=no signal=no ipc=no system=yes pair=yes \
     segment=no datagram=no mode=no times=no attribute=no length=no killed=no";

fn host() -> Result {
    let around = Surroundings::new()?;
    let (open, _) = around.reach_from(&Sandbox::bare())?;
    assert_eq!(open, ALL, "the positive control");
    let (confined, outcome) = around.reach_from(&policy())?;
    assert_eq!(confined, NOTHING);
    let skipped = outcome.enforced.skipped();
    for feature in Feature::NAMESPACES {
        assert!(!outcome.enforced.contains(feature), "{feature}");
        assert!(skipped.iter().any(|one| one.feature == feature), "{feature}: {}", outcome.enforced);
    }
    for feature in [Feature::Landlock, Feature::Seccomp, Feature::Capabilities, Feature::NoNewPrivs] {
        assert!(outcome.enforced.contains(feature), "{feature}: {}", outcome.enforced);
    }
    for (feature, word) in [
        (Feature::MountNs, "landlock stand in"),
        (Feature::NetNs, "no socket can be made"),
        (Feature::PidNs, "no process outside can be signalled"),
        (Feature::IpcNs, "shared memory can be opened or used"),
    ] {
        let reason = skipped.iter().find(|one| one.feature == feature).map(|one| one.reason.as_str());
        assert!(reason.is_some_and(|reason| reason.contains(word)), "{reason:?}");
    }
    // The host report says the same, and why.
    let report = Host::probe();
    let missing = report
        .checks()
        .iter()
        .any(|check| check.name.contains("user") && matches!(check.status, Status::Missing { .. }));
    assert!(missing, "{report}");
    // What it is to work on can be shown, where it is.
    let dir = around.scratch.path();
    let (some, _) = around.reach_from(&policy().mount(Mount::bind(dir, dir)))?;
    assert!(some.starts_with("read=yes write=no"), "{some}");
    let (more, _) = around.reach_from(&policy().mount(Mount::bind_writable(dir, dir)))?;
    assert!(more.starts_with("read=yes write=yes"), "{more}");
    Ok(())
}

fn in_a_container() -> Result {
    contained("host")
}

fn landless_host() -> Result {
    let around = Surroundings::new()?;
    let error = around.reach_from(&policy()).err().map(|Fail(message)| message).unwrap_or_default();
    assert!(error.contains("landlock"), "it is required: {error}");
    let (found, outcome) = around.reach_from(&policy().best_effort(Feature::Landlock))?;
    // The filter still stands in for what it can, and the list says what is open.
    assert_eq!(
        found,
        "read=yes write=yes proc=yes tcp=no udp=no path=no abstract=no signal=no ipc=no system=yes pair=yes \
         segment=no datagram=no mode=no times=no attribute=no length=no killed=no"
    );
    let reason = outcome.enforced.skipped().iter().find(|one| one.feature == Feature::MountNs);
    assert!(reason.is_some_and(|one| one.reason.contains("files are in reach")), "{}", outcome.enforced);
    let skipped: Vec<_> = outcome.enforced.skipped().iter().map(|one| one.feature).collect();
    assert!(
        skipped.contains(&Feature::Landlock) && skipped.contains(&Feature::MountNs),
        "{}",
        outcome.enforced
    );
    Ok(())
}

fn in_a_container_without_landlock() -> Result {
    let filter = Seccomp::new().deny_with(["landlock_create_ruleset"], libc::ENOSYS);
    contained_by(closed().seccomp(filter), "landless-host")
}

fn where_user_namespaces_are_limited_to_none() -> Result {
    // A user namespace in which nobody may make another, and a user in it without any capability.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all \"$0\" --role host";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(own_exe());
    run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    Ok(())
}

fn refused(sandbox: &Sandbox, word: &str) -> Result {
    let error = sandbox.plan().err().ok_or_else(|| Fail(format!("{word} was taken")))?;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
    Ok(())
}

fn narrow_host() -> Result {
    refused(&policy().rootfs(Rootfs::empty()), "root filesystem")?;
    refused(&policy().rootfs(Rootfs::dir("/usr")), "root filesystem")?;
    refused(&policy().mount(Mount::tmpfs("/scratch")), "/scratch")?;
    refused(&policy().mount(Mount::file("/etc/motd", "x")), "/etc/motd")?;
    refused(&policy().mount(Mount::bind("/usr", "/opt")), "/opt")?;
    refused(&policy().mount(Mount::mask("/usr/share")), "/usr/share")?;
    let over_the_host = Sandbox::bare().mount(Mount::bind("/usr", "/usr")).best_effort(Feature::MountNs);
    refused(&over_the_host, "mounts over the host's own root")
}

fn what_cannot_stand_in() -> Result {
    contained("narrow-host")
}

fn own_rules_host() -> Result {
    let around = Surroundings::new()?;
    let dir = around.scratch.path();
    let rules = || Landlock::new().system().execute(own_exe());
    // They are rules for what the root shows, and the host's files are not in it.
    for all in [rules().read("/").write("/"), rules().read(dir).write(dir), Landlock::bare().restrict_tcp()] {
        let (found, _) = around.reach_from(&policy().landlock(all))?;
        assert!(found.starts_with("read=no write=no proc=no tcp=no"), "{found}");
    }
    refused(&policy().rootfs(Rootfs::dir("/usr")).landlock(rules().read("/")), "root filesystem")?;
    let shown = || policy().mount(Mount::bind_writable(dir, dir));
    let (found, outcome) = around.reach_from(&shown().landlock(rules().read(dir)))?;
    assert!(found.starts_with("read=yes write=no proc=no tcp=no"), "{found}");
    assert!(outcome.enforced.contains(Feature::Landlock));
    let (found, _) = around.reach_from(&shown())?;
    assert!(found.starts_with("read=yes write=yes"), "the positive control: {found}");
    Ok(())
}

fn rules_of_ones_own() -> Result {
    contained("own-rules-host")
}

fn single_host() -> Result {
    let around = Surroundings::new()?;
    let bare = || Sandbox::bare().seccomp(Seccomp::new());
    for (sandbox, feature, gone) in [
        (bare().net_ns(), Feature::NetNs, ["tcp=no", "udp=no", "abstract=no", "datagram=no"].as_slice()),
        (bare().pid_ns(), Feature::PidNs, &["signal=no", "killed=no"]),
        (bare().ipc_ns(), Feature::IpcNs, &["ipc=no", "segment=no"]),
    ] {
        let (found, _) = around.reach_from(&sandbox.best_effort(feature))?;
        assert!(gone.iter().all(|word| found.contains(word)), "{feature}: {found}");
        assert!(found.contains("read=yes"), "{feature}: {found}");
    }
    // Without a filter there is none to stand in, and the list says so.
    let (found, outcome) = around.reach_from(&Sandbox::bare().net_ns().best_effort(Feature::NetNs))?;
    assert!(found.contains("udp=yes") && found.contains("tcp=no"), "landlock knows TCP: {found}");
    let reason = outcome.enforced.skipped().iter().find(|one| one.feature == Feature::NetNs);
    assert!(reason.is_some_and(|one| one.reason.contains("in reach")), "{}", outcome.enforced);
    Ok(())
}

fn single_namespaces() -> Result {
    contained("single-host")
}

/// Leaves a process of a session of its own behind, and says its id.
fn leave_a_daemon(_: &[OsString]) -> i32 {
    match raw::fork() {
        Ok(0) => {
            raw::syscall(libc::SYS_setsid, [0; 6]).ok();
            match raw::fork() {
                Ok(0) => {
                    println!("{}", std::process::id());
                    std::thread::sleep(Duration::from_secs(300));
                    0
                }
                _ => 0,
            }
        }
        Ok(_) => {
            std::thread::sleep(Duration::from_millis(300));
            0
        }
        Err(_) => 1,
    }
}

fn killing_host() -> Result {
    let mut command = Command::new(own_exe());
    command.args(["--role", "leave-a-daemon"]);
    let output = policy().output(&command)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(output.outcome.verdict, Verdict::Exited(0), "{text}");
    let pid: i32 = text.parse().map_err(|_| Fail(format!("it said {text:?}")))?;
    let gone = within(Duration::from_secs(10), || {
        raw::syscall(libc::SYS_kill, [pid as usize, 0, 0, 0, 0, 0]).is_err()
    });
    assert!(gone, "process {pid} goes on");
    Ok(())
}

fn the_tree_is_killed() -> Result {
    contained("killing-host")
}

fn a_host_with_namespaces_has_them() -> Result {
    full_host()?;
    if support::features::missing("setpriv").is_none() {
        as_nobody("full-host", &[], Duration::from_secs(60))?.succeed()?;
    }
    Ok(())
}

fn full_host() -> Result {
    let outcome = policy().status(Command::new("/bin/true"))?;
    for feature in Feature::NAMESPACES {
        assert!(outcome.enforced.contains(feature), "{feature}: {}", outcome.enforced);
    }
    assert!(!outcome.enforced.contains(Feature::Landlock), "nothing has to stand in");
    Ok(())
}

fn strict_host() -> Result {
    let error = Sandbox::new().status(Command::new("/bin/true")).err().ok_or(Fail("it ran".into()))?;
    assert!(error.hint().is_some(), "{error}");
    Ok(())
}

fn without_best_effort_it_is_an_error() -> Result {
    contained("strict-host")
}

fn tenants_host() -> Result {
    assert!(policy().plan().is_ok(), "the positive control");
    let tenants = policy().best_effort(Feature::CoreScheduling).cross_tenant();
    let error = tenants.plan().err().ok_or_else(|| Fail("they are not kept apart".into()))?;
    assert!(error.to_string().contains("tenant") && error.hint().is_some(), "{error}");
    Ok(())
}

fn tenants_need_their_namespaces() -> Result {
    contained("tenants-host")
}

fn root_host() -> Result {
    let output = policy().output(Command::new("/usr/bin/id").arg("-u"))?;
    let skipped = output.outcome.enforced.skipped();
    let reason = skipped.iter().find(|one| one.feature == Feature::UserNs).map(|one| one.reason.as_str());
    assert_eq!(output.stdout, b"0\n");
    assert!(reason.is_some_and(|reason| reason.contains("root of the host")), "{}", output.outcome.enforced);
    // The machine's own nodes, which root owns. It is the mode that they have.
    let chmod = |sandbox: &Sandbox| sandbox.output(Command::new("/bin/chmod").args(["666", "/dev/null"]));
    let control = chmod(&Sandbox::bare())?;
    assert_eq!(
        control.outcome.verdict,
        Verdict::Exited(0),
        "the positive control: {}",
        String::from_utf8_lossy(&control.stderr)
    );
    let output = chmod(&policy())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Read-only"), "{:?}: {text}", output.outcome.verdict);
    let write = policy()
        .output(Command::new("/bin/sh").args(["-c", "echo x > /dev/null && head -c 1 /dev/zero | wc -c"]))?;
    assert_eq!(write.stdout, b"1\n", "devices are written to all the same");
    Ok(())
}

fn a_host_that_is_root() -> Result {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --role root-host";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(own_exe());
    run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    Ok(())
}
