//! Namespaces: each alone, all together, and each given away.
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

use std::process::ExitCode;

use belljar::{Command, Feature, Sandbox, Seccomp, UserMap};
use support::oracle::{NAMESPACES, namespace};
use support::{Result, closed, fail, hold, oracle, payload, run_role, sh, succeed, with_payload};

fn main() -> ExitCode {
    let cases = cases![
        alone_as_root: ["bare", "root"],
        alone_in_a_user_namespace: ["bare", "userns"],
        all_together: ["userns"],
        each_given_away: ["root"],
        the_user_namespace_given_away: ["root"],
        bare_shares_everything: ["bare"],
        loopback_is_up_and_alone: ["userns"],
        the_hosts_network_is_out_of_reach: ["userns"],
        names_are_the_sandboxes_own: ["userns"],
        names_that_are_no_names: ["bare"],
        clocks_are_shifted: ["userns"],
        clocks_that_would_be_negative: ["bare", "userns", "payload-place"],
        the_cgroup_is_the_root: ["userns", "cgroup-pids"],
        ipc_objects_are_not_shared: ["userns", "root"],
        the_mission_chain: ["userns", "cgroup-memory"],
        the_payload_is_not_pid_1_and_leads_a_session: ["userns"],
        host_processes_are_not_seen: ["userns", "sh"],
        a_namespace_that_is_missing_fails_or_is_skipped: ["bare", "userns"],
    ];
    support::main(cases, &[("without-namespaces", without_namespaces)])
}

type Setter = fn(Sandbox) -> Sandbox;

/// The setters, in the order of [`NAMESPACES`].
const UNSHARE: [(&str, Setter); 8] = [
    ("user", Sandbox::user_ns),
    ("pid", Sandbox::pid_ns),
    ("mnt", Sandbox::mount_ns),
    ("net", Sandbox::net_ns),
    ("ipc", Sandbox::ipc_ns),
    ("uts", Sandbox::uts_ns),
    ("cgroup", Sandbox::cgroup_ns),
    ("time", Sandbox::time_ns),
];

/// Runs a payload and compares its namespaces with ours, from outside.
fn expect_own(sandbox: &Sandbox, program: Command, own: &[&str]) -> Result {
    let held = support::hold_with(sandbox, program)?;
    for name in NAMESPACES {
        let (theirs, ours) = (namespace(held.pid, name), namespace("self", name));
        if !theirs.starts_with(name) {
            return fail(format!("cannot read {theirs}"));
        }
        if (theirs != ours) != own.contains(&name) {
            return fail(format!("with {own:?} of its own, {name} is {theirs} inside and {ours} outside"));
        }
    }
    held.release().map(drop)
}

/// On the host's root our own program is where it always is.
fn here() -> Command {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "hold"]);
    command
}

fn alone_as_root() -> Result {
    for (name, unshare) in UNSHARE {
        // A caller without a user namespace of its own keeps its ids: nothing else changes.
        expect_own(&unshare(Sandbox::bare()), here(), &[name])?;
    }
    Ok(())
}

fn alone_in_a_user_namespace() -> Result {
    for (name, unshare) in &UNSHARE[1..] {
        expect_own(&unshare(Sandbox::bare().user_ns()), here(), &["user", name])?;
    }
    Ok(())
}

fn all_together() -> Result {
    expect_own(&closed(), payload("hold", &[]), &NAMESPACES)
}

fn each_given_away() -> Result {
    let share: [(&str, Setter); 6] = [
        ("pid", Sandbox::share_pid),
        ("net", Sandbox::share_net),
        ("ipc", Sandbox::share_ipc),
        ("uts", Sandbox::share_uts),
        ("cgroup", Sandbox::share_cgroup),
        ("time", Sandbox::share_time),
    ];
    for (name, share) in share {
        let others: Vec<_> = NAMESPACES.into_iter().filter(|other| *other != name).collect();
        expect_own(&share(closed()), payload("hold", &[]), &others)?;
    }
    Ok(())
}

fn the_user_namespace_given_away() -> Result {
    expect_own(&closed().share_user(), payload("hold", &[]), &NAMESPACES[1..])
}

fn bare_shares_everything() -> Result {
    let sandbox = Sandbox::bare();
    expect_own(&sandbox, here(), &[])?;
    let plan = sandbox.plan()?;
    assert!(!plan.enforced().contains(Feature::TreeKill), "{}", plan.enforced());
    assert!(plan.enforced().skipped().iter().any(|skipped| skipped.feature == Feature::TreeKill));
    Ok(())
}

fn loopback_is_up_and_alone() -> Result {
    assert_eq!(run_role(&closed(), "loopback", &[])?, "ok\n");
    let held = hold(&closed())?;
    let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", held.pid))?;
    let names: Vec<_> =
        devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert_eq!(names, ["lo"]);
    held.release().map(drop)
}

fn the_hosts_network_is_out_of_reach() -> Result {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let name = format!("belljar-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let script = format!(
        "import socket,sys\n\
         def t(f,a):\n\
         \x20 s=socket.socket(f); s.settimeout(3)\n\
         \x20 try: s.connect(a); print('connected')\n\
         \x20 except OSError as e: print('errno', e.errno)\n\
         t(socket.AF_INET, ('127.0.0.1', {port}))\n\
         t(socket.AF_UNIX, '\\0{name}')\n"
    );
    if support::features::missing("python3").is_some() {
        return Ok(());
    }
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &script]);
    let inside = succeed(Sandbox::new().output(&command)?)?;
    assert_eq!(inside, "errno 111\nerrno 111\n");
    let outside = succeed(Sandbox::new().share_net().output(&command)?)?;
    assert_eq!(outside, "connected\nconnected\n", "the positive control");
    Ok(())
}

fn names_are_the_sandboxes_own() -> Result {
    let sandbox = closed().hostname("jar").domain_name("glass.example");
    let facts = oracle::fields(&run_role(&sandbox, "facts", &[])?);
    assert_eq!(facts["hostname"], "jar");
    assert_eq!(facts["domainname"], "glass.example");
    let facts = oracle::fields(&run_role(&closed(), "facts", &[])?);
    assert_eq!(facts["hostname"], "belljar");
    let ours = nix::sys::utsname::uname()?;
    assert_ne!(ours.nodename(), "jar");
    let shared = oracle::fields(&run_role(&closed().share_uts(), "facts", &[])?);
    assert_eq!(shared["hostname"], ours.nodename().to_string_lossy());
    // The longest name there is.
    let long = "n".repeat(64);
    let facts = oracle::fields(&run_role(&closed().hostname(&long), "facts", &[])?);
    assert_eq!(facts["hostname"], long);
    Ok(())
}

fn names_that_are_no_names() -> Result {
    for name in ["", "a\0b", &"n".repeat(65)] {
        for sandbox in [Sandbox::new().hostname(name), Sandbox::new().domain_name(name)] {
            let error = sandbox.plan().expect_err("a bad name");
            assert_eq!(error.kind(), belljar::ErrorKind::InvalidConfig, "{name:?}: {error}");
        }
    }
    Ok(())
}

fn clocks_are_shifted() -> Result {
    let offsets = [(86_400_i64, 172_800_i64), (0, 5000), (-1, 0)];
    for (monotonic, boottime) in offsets {
        let before = (support::raw::clock(libc::CLOCK_MONOTONIC), support::raw::clock(libc::CLOCK_BOOTTIME));
        let sandbox = closed().monotonic_offset(monotonic).boottime_offset(boottime);
        let facts = oracle::fields(&run_role(&sandbox, "facts", &[])?);
        let close = |key: &str, ours: f64, offset: i64| {
            let inside: f64 = facts[key].parse().expect("a number");
            let difference = inside - ours;
            let offset = offset as f64;
            assert!(
                difference >= offset && difference < offset + 20.0,
                "{key}: {difference}, offset {offset}"
            );
        };
        close("monotonic", before.0, monotonic);
        close("boottime", before.1, boottime);
    }
    // /proc/uptime shows the boot-time clock of the reader.
    let sandbox =
        with_payload(Sandbox::new().mount(belljar::Mount::proc("/proc").full())).boottime_offset(1_000_000);
    let uptime = run_role(&sandbox, "cat", &["/proc/uptime"])?;
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).expect("seconds");
    assert!(seconds > 1_000_000.0, "{uptime}");
    Ok(())
}

fn clocks_that_would_be_negative() -> Result {
    for offset in [-1_000_000_000, i64::MIN, i64::MAX] {
        let error =
            closed().monotonic_offset(offset).spawn(payload("exit", &["0"])).expect_err("a negative clock");
        assert_eq!(error.step(), belljar::Step::TimeOffsets, "{offset}: {error:?}");
        assert!(error.hint().is_some(), "{offset}: {error:?}");
    }
    Ok(())
}

fn the_cgroup_is_the_root() -> Result {
    let sandbox = closed().pids_max(16);
    let inside = run_role(&sandbox, "cat", &["/proc/self/cgroup"])?;
    let held = hold(&sandbox)?;
    let outside = std::fs::read_to_string(format!("/proc/{}/cgroup", held.pid))?;
    assert!(outside.contains("/belljar-"), "{outside}");
    for line in inside.lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
    held.release()?;
    let shared = run_role(&sandbox.share_cgroup(), "cat", &["/proc/self/cgroup"])?;
    assert!(shared.contains("/belljar-"), "the positive control: {shared}");
    Ok(())
}

fn ipc_objects_are_not_shared() -> Result {
    // A System V queue with a key of ours, which everybody who shares the namespace can find.
    let key = 0x6265_0000 | (std::process::id() & 0xffff) as usize;
    let queue = support::raw::syscall(libc::SYS_msgget, [key, 0o1666, 0, 0, 0, 0])?;
    let find = |sandbox: Sandbox| -> Result<i32> {
        let number = libc::SYS_msgget.to_string();
        let output = sandbox.output(payload("syscall", &[&number, &key.to_string(), "0"]))?;
        Ok(output.outcome.status.code().unwrap_or(-1))
    };
    let (inside, control) = (find(closed()), find(closed().share_ipc()));
    support::raw::syscall(libc::SYS_msgctl, [queue as usize, libc::IPC_RMID as usize, 0, 0, 0, 0])?;
    assert_eq!(inside?, 1, "the host's queue must not be found");
    assert_eq!(control?, 0, "the positive control");
    Ok(())
}

fn the_mission_chain() -> Result {
    let cmd = Command::new("/bin/true");
    let mut child = Sandbox::new().pid_ns().user_map(UserMap::auto()).memory_max(64 << 20).spawn(cmd)?;
    assert!(child.wait()?.success());
    Ok(())
}

fn the_payload_is_not_pid_1_and_leads_a_session() -> Result {
    let facts = oracle::fields(&run_role(&closed(), "facts", &[])?);
    assert_eq!(facts["pid"], "2");
    assert_eq!(facts["ppid"], "1");
    assert_eq!(facts["sid"], "2");
    assert_eq!(facts["pgid"], "2");
    assert_eq!(facts["cwd"], "/");
    let held = hold(&closed())?;
    let init = oracle::parent(held.pid).expect("it has a parent");
    let inner = |pid| oracle::status(pid).get("NSpid").cloned().unwrap_or_default();
    assert!(inner(held.pid).ends_with("\t2"), "{}", inner(held.pid));
    assert!(inner(init).ends_with("\t1"), "{}", inner(init));
    held.release().map(drop)
}

fn host_processes_are_not_seen() -> Result {
    let own = std::process::id();
    let list = "cd /proc; for p in [0-9]*; do echo $p; done";
    let inside = succeed(closed().output(sh(list))?)?;
    let pids: Vec<u32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(!pids.is_empty() && pids.iter().all(|pid| *pid < 10), "{inside}");
    let kill = |sandbox: Sandbox| {
        sandbox.output(payload("syscall", &[&libc::SYS_kill.to_string(), &own.to_string()]))
    };
    // 0 as a signal only asks whether the process is there.
    assert_eq!(kill(closed())?.outcome.status.code(), Some(1));
    if support::features::missing("root").is_none() {
        let bare = with_payload(Sandbox::bare());
        assert_eq!(kill(bare)?.outcome.status.code(), Some(0), "the positive control");
    }
    Ok(())
}

fn a_namespace_that_is_missing_fails_or_is_skipped() -> Result {
    let helper = support::run_helper(
        &mut support::role_command("without-namespaces", &[]),
        std::time::Duration::from_secs(20),
    )?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

/// A host whose kernel allows no network namespace any more: the limit is set in a user namespace of its own.
fn without_namespaces(_: &[std::ffi::OsString]) -> i32 {
    let flags = (libc::CLONE_NEWUSER) as usize;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if support::raw::syscall(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]).is_err() {
        println!("cannot unshare");
        return 1;
    }
    std::fs::write("/proc/self/setgroups", "deny").ok();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")).expect("a map of one");
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")).expect("a map of one");
    std::fs::write("/proc/sys/user/max_net_namespaces", "0").expect("our own limit");
    let sandbox = Sandbox::bare().user_ns().net_ns();
    let error = sandbox.spawn(Command::new("/bin/true")).expect_err("no network namespace can be had");
    assert_eq!(error.step(), belljar::Step::Clone, "{error:?}");
    assert!(error.hint().is_some());
    let sandbox = sandbox.best_effort(Feature::NetNs).seccomp(Seccomp::new());
    let outcome = match sandbox.status(Command::new("/bin/true")) {
        Ok(outcome) => outcome,
        Err(error) => {
            println!("{}", support::explain(&error));
            return 1;
        }
    };
    assert!(!outcome.enforced.contains(Feature::NetNs));
    assert!(outcome.enforced.contains(Feature::UserNs));
    let skipped = outcome.enforced.skipped();
    assert!(skipped.iter().any(|skipped| skipped.feature == Feature::NetNs && !skipped.reason.is_empty()));
    println!("ok");
    0
}
