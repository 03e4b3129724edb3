//! Namespaces that are made ahead: as good as fresh ones, used once, and gone with the plan.
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
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Capability, Command, ErrorKind, Mount, Namespace, Plan, PtySize, Sandbox, Seccomp};
use support::oracle::{NAMESPACES, namespace};
use support::{
    Held, Result, as_nobody, closed, explain, fail, held, oracle, payload, raw, role_result, slack, within,
};

fn main() -> ExitCode {
    let cases = cases![
        what_was_made_ahead_is_used: ["userns"],
        what_was_mounted_ahead_is_used: ["userns", "root", "sh"],
        a_source_that_is_replaced: ["userns", "root"],
        a_source_that_changes_hands: ["userns", "root", "mount-setattr", "sh"],
        what_depends_on_proc_is_not_mounted_ahead: ["userns", "root", "sh"],
        terminals: ["userns", "root", "sh"],
        boxes_are_made_ahead: ["userns", "cgroup-pids"],
        no_two_share_one: ["userns"],
        a_program_cannot_tell: ["userns"],
        root_inside_cannot_tell: ["userns"],
        without_a_user_namespace: ["root"],
        containers_are_made_so_too: ["userns"],
        many_at_once: ["userns"],
        a_forked_host_makes_its_own: ["userns"],
        what_cannot_be_made_ahead: ["userns"],
        a_host_that_may_not_make_any: ["bare"],
        the_tree_is_dead_when_wait_returns: ["userns"],
        nothing_stays: ["userns"],
        an_unprivileged_host: ["userns"],
    ];
    support::main_serial(
        cases,
        &[
            ("survey", survey),
            ("fork", |_| role_result(forked())),
            ("refused", |_| role_result(refused())),
            ("nobody", |_| role_result(nobody())),
        ],
    )
}

/// The namespaces of a kind that this process holds by descriptors.
fn kept(kind: &str) -> BTreeSet<String> {
    let links =
        oracle::open_fds().into_iter().filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok());
    links
        .map(|link| link.display().to_string())
        .filter(|link| link.starts_with(&format!("{kind}:[")))
        .collect()
}

/// Waits until so many are ready.
fn full(count: usize) -> Result<BTreeSet<String>> {
    match within(Duration::from_secs(20) * slack(), || kept("net").len() == count) {
        true => Ok(kept("net")),
        false => fail(format!("{} of {count} are ready", kept("net").len())),
    }
}

fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "belljar-ahead").count()
}

fn hold(plan: &Plan) -> Result<Held> {
    held(payload("hold", &[]), |command| plan.spawn(command))
}

fn what_was_made_ahead_is_used() -> Result {
    let plan = closed().plan()?.prepare_ahead(3)?;
    let ready = full(3)?;
    let programs = [hold(&plan)?, hold(&plan)?, hold(&plan)?];
    for program in &programs {
        assert!(ready.contains(&namespace(program.pid, "net")), "{ready:?}");
        for name in NAMESPACES {
            assert_ne!(namespace(program.pid, name), namespace("self", name), "{name} is the host's");
        }
    }
    // They are replaced, and not kept by anybody but their sandboxes.
    assert!(full(3)?.is_disjoint(&ready));
    programs.into_iter().try_for_each(|program| program.release().map(drop))
}

fn what_was_mounted_ahead_is_used() -> Result {
    let plan = closed().hostname("ahead").plan()?.prepare_ahead(2)?;
    full(2)?;
    let ready = ["mnt", "ipc", "uts"].map(|kind| (kind, kept(kind)));
    let programs = [hold(&plan)?, hold(&plan)?];
    for program in &programs {
        for (kind, ready) in &ready {
            assert!(ready.contains(&namespace(program.pid, kind)), "{kind}: {ready:?}");
        }
        // Its own processes and no others.
        let seen = fs::read_dir(format!("/proc/{}/root/proc", program.pid))?.flatten();
        let numbers = seen.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
        assert_eq!(numbers.count(), 2);
    }
    programs.into_iter().try_for_each(|program| program.release().map(drop))?;
    assert_eq!(plan.output(support::sh("uname -n"))?.stdout, b"ahead\n");
    Ok(())
}

/// A file of the same name is another, as it is for a plain plan.
fn a_source_that_is_replaced() -> Result {
    let scratch = support::Scratch::new();
    let file = scratch.file("file", "before");
    let plan = closed().mount(Mount::bind(&file, "/file")).plan()?.prepare_ahead(2)?;
    full(2)?;
    let read = || support::succeed(plan.output(payload("cat", &["/file"]))?);
    assert_eq!(read()?, "before");
    fs::rename(scratch.file("new", "after"), &file)?;
    for _ in 0..3 {
        assert_eq!(read()?, "after");
    }
    full(2)?;
    assert_eq!(read()?, "after");
    fs::remove_file(&file)?;
    let error = plan.output(payload("cat", &["/file"])).expect_err("it is gone");
    assert_eq!(error.path(), Some(&*file), "{}", explain(&error));
    Ok(())
}

/// A writable bind presents its owner as the program's user: who owns it when the program starts, not who did before.
fn a_source_that_changes_hands() -> Result {
    let scratch = support::Scratch::new();
    let dir = scratch.dir("dir");
    let plan = closed().mount(Mount::bind_writable(&dir, "/dir")).plan()?.prepare_ahead(2)?;
    full(2)?;
    for uid in [0, 1234, 0] {
        std::os::unix::fs::chown(&dir, Some(uid), Some(uid))?;
        for _ in 0..3 {
            let script = "touch /dir/x; stat -c %u /dir /dir/x";
            assert_eq!(support::succeed(plan.output(support::sh(script))?)?, "1000\n1000\n");
            assert_eq!(fs::metadata(dir.join("x"))?.uid(), uid);
            fs::remove_file(dir.join("x"))?;
        }
        full(2)?;
    }
    Ok(())
}

/// What is hidden in a procfs can be so only when that is there.
fn what_depends_on_proc_is_not_mounted_ahead() -> Result {
    let mounts = [Mount::mask("/proc/self"), Mount::tmpfs("/proc/sys")];
    for mount in mounts {
        let full_proc = Mount::proc("/proc").full();
        let plan = closed().mount(full_proc).mount(mount.clone()).plan()?;
        let ahead = plan.prepare_ahead(1)?;
        full(1)?;
        let survey = |plan: &Plan| plan.output(support::sh("ls -la /proc/sys /proc/self/; cat /proc/mounts"));
        let (fresh, prepared) = (survey(&plan), survey(&ahead));
        match (fresh, prepared) {
            (Ok(fresh), Ok(prepared)) => {
                assert_eq!(fresh.outcome.verdict, prepared.outcome.verdict, "{mount:?}");
            }
            (Err(fresh), Err(prepared)) => assert_eq!(fresh.kind(), prepared.kind()),
            (fresh, prepared) => return fail(format!("{mount:?}: {fresh:?} and {prepared:?}")),
        }
    }
    Ok(())
}

/// They are made in an instance that was mounted before.
fn terminals() -> Result {
    let plan = closed().plan()?.prepare_ahead(2)?;
    full(2)?;
    let ready = kept("mnt");
    let mut command = support::sh("tty; readlink /proc/self/ns/mnt");
    command.pty(PtySize::new(24, 80));
    let mut child = plan.spawn(&command)?;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.pty.take().expect("it has a terminal"), &mut said)?;
    assert!(child.wait()?.success());
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("/dev/pts/0"));
    assert!(lines.next().is_some_and(|namespace| ready.contains(namespace)), "{said}");
    Ok(())
}

fn boxes_are_made_ahead() -> Result {
    let own = std::process::id();
    let before = oracle::boxes_of(own);
    let plan = closed().pids_max(20).plan()?.prepare_ahead(2)?;
    full(2)?;
    let ready = oracle::boxes_of(own);
    assert_eq!(ready.len(), before.len() + 2, "{ready:?}");
    let program = hold(&plan)?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", program.pid))?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(ready.iter().any(|path| cgroup.contains(&name(path))), "{cgroup}");
    program.release()?;
    drop(plan);
    assert_eq!(oracle::boxes_of(own), before);
    Ok(())
}

fn no_two_share_one() -> Result {
    // More than were made ahead.
    let plan = closed().plan()?.prepare_ahead(2)?;
    full(2)?;
    let programs = (0..8).map(|_| hold(&plan)).collect::<Result<Vec<_>>>()?;
    for name in ["net", "user", "pid", "ipc", "mnt", "uts"] {
        let all: BTreeSet<_> = programs.iter().map(|program| namespace(program.pid, name)).collect();
        assert_eq!(all.len(), programs.len(), "{name}: {all:?}");
    }
    if nix::unistd::geteuid().is_root() {
        let uids: BTreeSet<_> =
            programs.iter().map(|program| oracle::status(program.pid)["Uid"].clone()).collect();
        assert_eq!(uids.len(), programs.len(), "two sandboxes share a host id: {uids:?}");
    }
    programs.into_iter().try_for_each(|program| program.release().map(drop))
}

/// Everything that a program sees of its namespaces, apart from what differs from sandbox to sandbox.
fn survey(_: &[OsString]) -> i32 {
    for file in ["uid_map", "gid_map", "setgroups", "status", "mountinfo", "limits", "cgroup"] {
        let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let same = |line: &&str| {
            ![
                "ctxt",
                "Vm",
                "Rss",
                "Cpus_allowed",
                "Mems_allowed",
                "FDSize",
                "HugetlbPages",
                "nonvol",
                "RssFile",
            ]
            .iter()
            .any(|key| line.contains(key))
        };
        let mut lines: Vec<String> = text
            .lines()
            .filter(same)
            .map(|line| match file {
                // Without the numbers of mounts and devices, and the ids that the host gave it.
                "mountinfo" => {
                    let words = line.split([' ', ',']).skip(3);
                    let same = |word: &&str| !word.starts_with("uid=") && !word.starts_with("gid=");
                    words.filter(same).collect::<Vec<_>>().join(" ")
                }
                "uid_map" | "gid_map" => {
                    let words: Vec<_> = line.split_whitespace().collect();
                    format!("{} {}", words[0], words[2])
                }
                _ => line.to_owned(),
            })
            .collect();
        if file == "mountinfo" {
            // In whichever order they were mounted.
            lines.sort();
        }
        println!("{file}:\n{}", lines.join("\n"));
    }
    let mut settings = Vec::new();
    walk(Path::new("/proc/sys/net"), &mut settings);
    walk(Path::new("/proc/sys/user"), &mut settings);
    for directory in ["/proc/net", "/proc/self/ns"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            settings.push(entry.path().display().to_string());
        }
    }
    settings.sort();
    println!("{}", settings.join("\n"));
    println!("{}", fs::read_to_string("/proc/net/route").unwrap_or_default());
    println!("{}", fs::read_to_string("/proc/net/if_inet6").unwrap_or_default());
    for port in [80, 0] {
        let bound = std::net::TcpListener::bind(("127.0.0.1", port)).map(drop);
        println!("port {port}: {:?}", bound.map_err(|error| error.raw_os_error()));
    }
    let setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    println!("set: {:?}", fs::write(setting, "70").map_err(|error| error.raw_os_error()));
    let raw_socket = raw::syscall(libc::SYS_socket, [2, 3, 1, 0, 0, 0]).map(drop);
    println!("raw socket: {:?}", raw_socket.map_err(|error| error.raw_os_error()));
    let name = b"a-name";
    let named =
        raw::syscall(libc::SYS_sethostname, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]).map(drop);
    println!("host name: {:?}", named.map_err(|error| error.raw_os_error()));
    let unshared = raw::syscall(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0, 0]).map(drop);
    println!("unshare: {:?}", unshared.map_err(|error| error.raw_os_error()));
    0
}

fn walk(path: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let value = fs::read_to_string(entry.path()).unwrap_or_else(|error| error.to_string());
        // Counters of the machine, and what adapts itself to it.
        let value = if entry.path().starts_with("/proc/sys/net/netfilter") { "" } else { value.trim() };
        found.push(format!("{} {mode:o} {uid} {gid} {value}", entry.path().display()));
        if metadata.is_dir() {
            walk(&entry.path(), found);
        }
    }
}

/// The survey in a plain sandbox and in one whose namespaces were made ahead.
fn same_in_both(sandbox: &Sandbox, expected: &[&str]) -> Result {
    let plain = sandbox.plan()?;
    let ahead = plain.prepare_ahead(2)?;
    let ready = full(2)?;
    let run = |plan: &Plan| -> Result<String> {
        Ok(String::from_utf8_lossy(&support::succeed(plan.output(payload("survey", &[]))?)?.into_bytes())
            .into_owned())
    };
    let (fresh, prepared) = (run(&plain)?, run(&ahead)?);
    let _ = ready;
    for text in expected {
        assert!(fresh.contains(text), "{text} is missing: {fresh}");
    }
    let mut difference = fresh.lines().zip(prepared.lines()).filter(|(a, b)| a != b);
    if let Some((a, b)) = difference.next() {
        return fail(format!("fresh: {a}\nprepared: {b}"));
    }
    assert_eq!(fresh.lines().count(), prepared.lines().count());
    Ok(())
}

fn a_program_cannot_tell() -> Result {
    same_in_both(&closed(), &["host name: Err(Some(1))", "port 80: Err", "lo"])?;
    same_in_both(&closed().user(7, 8).allow_all_syscalls(), &["host name: Err(Some(1))"])
}

/// With every capability, over namespaces that belong to its own user namespace.
fn root_inside_cannot_tell() -> Result {
    let all = |sandbox: Sandbox| {
        Capability::ALL.into_iter().fold(sandbox, |sandbox, one| sandbox.keep_capability(one))
    };
    let expected =
        ["host name: Ok(())", "port 80: Ok(())", "set: Ok(())", "raw socket: Ok(())", "unshare: Ok(())"];
    let full_proc = Mount::proc("/proc").full();
    same_in_both(&all(closed().root().allow_all_syscalls()).mount(full_proc), &expected)
}

fn without_a_user_namespace() -> Result {
    let mut here = Command::new(support::own_exe());
    here.args(["--role", "hold"]);
    let plan = Sandbox::bare().net_ns().pid_ns().plan()?.prepare_ahead(1)?;
    let ready = full(1)?;
    let program = held(here, |command| plan.spawn(command))?;
    assert!(ready.contains(&namespace(program.pid, "net")), "{ready:?}");
    assert_ne!(namespace(program.pid, "pid"), namespace("self", "pid"));
    assert_eq!(namespace(program.pid, "user"), namespace("self", "user"));
    program.release().map(drop)
}

fn containers_are_made_so_too() -> Result {
    let plan = closed().plan()?.prepare_ahead(1)?;
    let ready = full(1)?;
    let container = plan.start()?;
    // The container goes on without the plan, which keeps nothing for it.
    drop(plan);
    none_is_left();
    assert_eq!(kept("net").len(), 0);
    let program = support::hold_in(&container)?;
    assert!(ready.contains(&namespace(program.pid, "net")));
    assert_eq!(container.output(payload("loopback", &[]))?.stdout, b"ok\n");
    // It can be joined as any other.
    let joined = closed().join(&container, [Namespace::Net]).output(payload("loopback", &[]))?;
    assert_eq!(joined.stdout, b"ok\n");
    program.release().map(drop)
}

fn many_at_once() -> Result {
    let plan = closed().plan()?.prepare_ahead(4)?;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let plan = plan.clone();
            std::thread::spawn(move || -> Result<Vec<String>> {
                (0..6)
                    .map(|_| {
                        let output = plan.output(payload("ns", &[]))?;
                        let text = support::succeed(output)?;
                        Ok(text.lines().find(|line| line.starts_with("net:")).unwrap_or_default().to_owned())
                    })
                    .collect()
            })
        })
        .collect();
    for thread in threads {
        let seen = thread.join().expect("no panic")?;
        assert!(seen.iter().all(|net| net.starts_with("net:[") && *net != namespace("self", "net")));
    }
    Ok(())
}

fn a_forked_host_makes_its_own() -> Result {
    support::run_helper(&mut support::role_command("fork", &[]), Duration::from_secs(60) * slack())?
        .succeed()
        .map(drop)
}

fn forked() -> Result {
    let plan = closed().plan()?.prepare_ahead(2)?;
    let ready = full(2)?;
    let parent = raw::fork()? != 0;
    if !parent {
        // Its copies of what is ready are not used, and dropping the plan waits for no thread.
        let program = hold(&plan)?;
        let own = namespace(program.pid, "net");
        drop(plan);
        program.release()?;
        if ready.contains(&own) {
            println!("{own} was made for the other");
            std::process::exit(1);
        }
        std::process::exit(0);
    }
    let program = hold(&plan)?;
    assert!(ready.contains(&namespace(program.pid, "net")));
    program.release()?;
    match nix::sys::wait::wait()? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        status => fail(format!("the forked host ended as {status:?}")),
    }
}

fn what_cannot_be_made_ahead() -> Result {
    let container = closed().start()?;
    let plain = closed().plan()?;
    let joined = closed().join(&container, [Namespace::Ipc]).plan()?;
    for (plan, count) in [(&closed().share_net().plan()?, 1), (&joined, 1), (&plain, 0), (&plain, 1025)] {
        let error = plan.prepare_ahead(count).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some(), "{}", explain(&error));
    }
    none_is_left();
    Ok(())
}

/// It is told at once.
fn a_host_that_may_not_make_any() -> Result {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "refused"]);
    let output = Sandbox::bare().seccomp(Seccomp::new()).output(&command)?;
    support::succeed(output).map(drop)
}

fn refused() -> Result {
    let sandbox = Sandbox::bare().user_ns().net_ns();
    let plan = sandbox.plan()?;
    let mut fds = Vec::new();
    for _ in 0..3 {
        let error = plan.prepare_ahead(1).expect_err("the filter refuses namespaces");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
        none_is_left();
        fds.push(oracle::open_fds());
    }
    assert_eq!(fds[1], fds[2]);
    Ok(())
}

/// The removal of a sandbox is put off, the death of what runs in it is not; and what waits for removal is bounded.
fn the_tree_is_dead_when_wait_returns() -> Result {
    let plan = closed().plan()?.prepare_ahead(1)?;
    let mark = format!("belljar-prepared-{}", std::process::id());
    for _ in 0..3 {
        assert!(plan.spawn(payload("daemon", &[&mark, "close"]))?.wait()?.success());
        assert_eq!(oracle::processes_with(&mark), Vec::<u32>::new());
    }
    for _ in 0..100 {
        plan.spawn(payload("exit", &["0"]))?.wait()?;
        assert!(oracle::children(std::process::id()).len() <= 66);
    }
    // A program that outlives its plan takes its sandbox down itself.
    let mut last = plan.spawn(payload("sleep", &["300"]))?;
    drop(plan);
    assert_eq!(last.wait()?.verdict, belljar::Verdict::Exited(0));
    assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
    Ok(())
}

/// The kernel counts a thread that was joined until it has quite gone.
fn none_is_left() {
    assert!(within(Duration::from_secs(2) * slack(), || threads() == 0));
}

fn nothing_stays() -> Result {
    // What the library opens once and keeps.
    closed().plan()?.prepare_ahead(1)?.output(payload("exit", &["0"]))?;
    let (fds, children) = (oracle::open_fds(), oracle::children(std::process::id()));
    for _ in 0..5 {
        let plan = closed().plan()?.prepare_ahead(4)?;
        let clone = plan.clone();
        drop(plan);
        // It gives itself its name.
        assert!(within(Duration::from_secs(10) * slack(), || threads() == 1), "a clone keeps it");
        clone.output(payload("exit", &["0"]))?;
        full(4)?;
        drop(clone);
        none_is_left();
        assert_eq!(oracle::open_fds(), fds);
        assert_eq!(oracle::children(std::process::id()), children);
    }
    // Dropped while it makes some.
    for _ in 0..20 {
        drop(closed().plan()?.prepare_ahead(64)?);
        assert_eq!(oracle::open_fds(), fds);
        none_is_left();
    }
    Ok(())
}

fn an_unprivileged_host() -> Result {
    as_nobody("nobody", &[], Duration::from_secs(120) * slack())?.succeed().map(drop)
}

fn nobody() -> Result {
    what_was_made_ahead_is_used()?;
    no_two_share_one()?;
    a_program_cannot_tell()?;
    root_inside_cannot_tell()?;
    containers_are_made_so_too()?;
    what_cannot_be_made_ahead()?;
    nothing_stays()
}
