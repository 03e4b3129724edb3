//! Joining: sandboxes that share chosen namespaces.
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
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Capability, Command, Container, Error, ErrorKind, Feature, Mount, Namespace, Sandbox, Seccomp, Stdio,
    Step, UserMap,
};
use support::oracle::{NAMESPACES, namespace};
use support::roles::{int, text};
use support::{
    Held, Result, as_nobody, closed, explain, fail, held, oracle, payload, raw, role_result, run_role, slack,
    within,
};

fn main() -> ExitCode {
    let cases = cases![
        exactly_the_chosen_namespaces_are_shared: ["userns"],
        a_network_is_shared: ["userns"],
        three_sandboxes_in_one_network: ["userns"],
        ipc_objects_are_shared: ["userns"],
        names_are_shared: ["userns"],
        process_ids_are_not_shared: ["userns"],
        killing_one_leaves_the_other: ["userns"],
        what_is_joined_outlives_its_maker: ["userns"],
        a_container_that_is_gone: ["userns"],
        a_process_id_that_is_used_again: ["userns", "root"],
        the_last_call_counts: ["userns"],
        what_cannot_work_is_refused: ["userns"],
        what_is_the_hosts_is_not_joined: ["root"],
        without_a_user_namespace: ["root"],
        nothing_of_the_other_can_be_changed: ["userns"],
        an_unprivileged_host: ["userns"],
        where_a_filter_knows_no_clone3: ["root"],
        where_a_filter_refuses_setns: ["root"],
        the_plan_says_so: ["userns"],
        nothing_is_left_behind: ["userns"],
    ];
    support::main(
        cases,
        &[
            ("serve-tcp", serve_tcp),
            ("connect-tcp", connect_tcp),
            ("serve-abstract", serve_abstract),
            ("connect-abstract", connect_abstract),
            ("make-queue", make_queue),
            ("make-memory", make_memory),
            ("read-memory", read_memory),
            ("nobody", |_| role_result(nobody())),
            ("join-bare", |_| role_result(join_bare())),
        ],
    )
}

/// Listens on a port, says "ready", and greets whoever connects until stdin ends.
fn serve_tcp(args: &[OsString]) -> i32 {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, int(args, 0) as u16)).expect("the port is free here");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.and_then(|mut stream| stream.write_all(b"hello")).ok();
        }
    });
    support::roles::hold(&[])
}

fn greeting(mut from: impl std::io::Read) -> i32 {
    let mut said = String::new();
    from.read_to_string(&mut said).ok();
    println!("{said}");
    i32::from(said != "hello")
}

fn connect_tcp(args: &[OsString]) -> i32 {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, int(args, 0) as u16)) {
        Ok(stream) => greeting(stream),
        Err(error) => {
            println!("errno {}", error.raw_os_error().unwrap_or(-1));
            1
        }
    }
}

fn serve_abstract(args: &[OsString]) -> i32 {
    let address = SocketAddr::from_abstract_name(text(args, 0)).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("the name is free here");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.and_then(|mut stream| stream.write_all(b"hello")).ok();
        }
    });
    support::roles::hold(&[])
}

fn connect_abstract(args: &[OsString]) -> i32 {
    let address = SocketAddr::from_abstract_name(text(args, 0)).expect("a name");
    match UnixStream::connect_addr(&address) {
        Ok(stream) => greeting(stream),
        Err(error) => {
            println!("errno {}", error.raw_os_error().unwrap_or(-1));
            1
        }
    }
}

const KEY: usize = 0x626a_0001;

fn make_queue(_: &[OsString]) -> i32 {
    raw::syscall(libc::SYS_msgget, [KEY, 0o1666, 0, 0, 0, 0]).expect("a queue can be made");
    support::roles::hold(&[])
}

fn make_memory(_: &[OsString]) -> i32 {
    let id = raw::syscall(libc::SYS_shmget, [KEY, 4096, 0o1666, 0, 0, 0]).expect("memory can be made");
    raw::write_shared(id, b"in memory").expect("it can be written");
    support::roles::hold(&[])
}

fn read_memory(_: &[OsString]) -> i32 {
    let read = raw::syscall(libc::SYS_shmget, [KEY, 0, 0, 0, 0, 0]).and_then(|id| raw::read_shared(id, 9));
    match read {
        Ok(bytes) => println!("{}", String::from_utf8_lossy(&bytes)),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
    0
}

fn start(container: &Container, role: &str, args: &[&str]) -> Result<Held> {
    held(payload(role, args), |command| container.spawn(command))
}

fn says(sandbox: &Sandbox, role: &str, args: &[&str]) -> Result<String> {
    let output = sandbox.output(payload(role, args))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn joins(container: &Container, namespaces: &[Namespace]) -> Sandbox {
    closed().join(container, namespaces.iter().copied())
}

const ALL: [(Namespace, &str, Feature); 3] = [
    (Namespace::Net, "net", Feature::NetNs),
    (Namespace::Ipc, "ipc", Feature::IpcNs),
    (Namespace::Uts, "uts", Feature::UtsNs),
];

/// Of two programs, exactly these namespaces are the same, and none is the host's.
fn expect_same(one: &Held, other: &Held, same: &[&str]) -> Result {
    for name in NAMESPACES {
        let (a, b) = (namespace(one.pid, name), namespace(other.pid, name));
        if !a.starts_with(name) || !b.starts_with(name) {
            return fail(format!("cannot read {a} or {b}"));
        }
        if (a == b) != same.contains(&name) {
            return fail(format!("{same:?} should be shared, and {name} is {a} and {b}"));
        }
        let hosts = namespace("self", name);
        if a == hosts || b == hosts {
            return fail(format!("{name} is the host's"));
        }
    }
    Ok(())
}

fn exactly_the_chosen_namespaces_are_shared() -> Result {
    let container = closed().start()?;
    let first = start(&container, "hold", &[])?;
    let sets: [&[usize]; 5] = [&[0], &[1], &[2], &[0, 1], &[0, 1, 2]];
    for set in sets {
        let wanted: Vec<Namespace> = set.iter().map(|n| ALL[*n].0).collect();
        let names: Vec<&str> = set.iter().map(|n| ALL[*n].1).collect();
        let sandbox = joins(&container, &wanted);
        let second = support::hold_with(&sandbox, payload("hold", &[]))?;
        expect_same(&first, &second, &names)?;
        let outcome = second.release()?;
        for (n, (_, _, feature)) in ALL.into_iter().enumerate() {
            let joined = set.contains(&n);
            assert_eq!(outcome.enforced.contains(feature), !joined, "{}", outcome.enforced);
            let skipped = outcome.enforced.skipped().iter().any(|skipped| skipped.feature == feature);
            assert_eq!(skipped, joined, "{}", outcome.enforced);
        }
    }
    // Nothing is joined by joining nothing.
    let apart = support::hold_with(&joins(&container, &[]), payload("hold", &[]))?;
    expect_same(&first, &apart, &[])?;
    apart.release()?;
    first.release().map(drop)
}

fn a_network_is_shared() -> Result {
    let container = closed().start()?;
    let tcp = start(&container, "serve-tcp", &["4000"])?;
    let name = start(&container, "serve-abstract", &["belljar-join"])?;
    let (joined, apart) = (joins(&container, &[Namespace::Net]), closed());
    assert_eq!(says(&joined, "connect-tcp", &["4000"])?, "hello");
    assert_eq!(says(&joined, "connect-abstract", &["belljar-join"])?, "hello");
    let refused = format!("errno {}", libc::ECONNREFUSED);
    assert_eq!(says(&apart, "connect-tcp", &["4000"])?, refused);
    assert_eq!(says(&apart, "connect-abstract", &["belljar-join"])?, refused);
    // The network is that of the container, up, and nobody asks for more.
    assert_eq!(says(&joined, "loopback", &[])?, "ok");
    tcp.release()?;
    name.release().map(drop)
}

fn three_sandboxes_in_one_network() -> Result {
    let first = closed().start()?;
    let second = joins(&first, &[Namespace::Net]).start()?;
    // One that has joined can be joined.
    let third = joins(&second, &[Namespace::Net]).start()?;
    let servers = [
        start(&first, "serve-tcp", &["4001"])?,
        start(&second, "serve-tcp", &["4002"])?,
        start(&third, "serve-tcp", &["4003"])?,
    ];
    for container in [&first, &second, &third] {
        for port in ["4001", "4002", "4003"] {
            let output = container.output(payload("connect-tcp", &[port]))?;
            assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
        }
    }
    expect_same(&servers[0], &servers[1], &["net"])?;
    expect_same(&servers[1], &servers[2], &["net"])?;
    servers.into_iter().try_for_each(|server| server.release().map(drop))
}

fn ipc_objects_are_shared() -> Result {
    let container = closed().start()?;
    let memory = start(&container, "make-memory", &[])?;
    let queue = start(&container, "make-queue", &[])?;
    let (joined, apart) = (joins(&container, &[Namespace::Ipc]), closed());
    let missing = format!("errno {}", libc::ENOENT);
    let (number, key) = (libc::SYS_msgget.to_string(), KEY.to_string());
    assert_eq!(says(&joined, "read-memory", &[])?, "in memory");
    assert_eq!(says(&apart, "read-memory", &[])?, missing);
    assert_eq!(says(&joined, "syscall", &[&number, &key, "0"])?, "ok");
    assert_eq!(says(&apart, "syscall", &[&number, &key, "0"])?, missing);
    memory.release()?;
    queue.release().map(drop)
}

fn names_are_shared() -> Result {
    let container = closed().hostname("the-first").domain_name("of-them").start()?;
    let names = |sandbox: &Sandbox| -> Result<(String, String)> {
        let facts = oracle::fields(&says(sandbox, "facts", &[])?);
        Ok((facts["hostname"].clone(), facts["domainname"].clone()))
    };
    let first = ("the-first".to_owned(), "of-them".to_owned());
    assert_eq!(names(&joins(&container, &[Namespace::Uts]))?, first);
    assert_eq!(names(&closed())?.0, "belljar");
    // A name of its own is a namespace of its own, and leaves the other alone.
    let own = joins(&container, &[Namespace::Uts]).hostname("the-second");
    assert_eq!(names(&own)?.0, "the-second");
    let again = String::from_utf8_lossy(&container.output(payload("facts", &[]))?.stdout).into_owned();
    assert_eq!(oracle::fields(&again)["hostname"], "the-first");
    Ok(())
}

/// The processes that a program sees.
const LIST: &str = "cd /proc && echo [0-9]*";

fn process_ids_are_not_shared() -> Result {
    let container = closed().start()?;
    let first = start(&container, "hold", &[])?;
    let sandbox = joins(&container, &[Namespace::Net, Namespace::Ipc, Namespace::Uts]);
    let second = sandbox.start()?;
    let held = start(&second, "hold", &[])?;
    let list = |container: &Container| -> Result<Vec<u32>> {
        let output = container.output(Command::new("/bin/sh").args(["-c", LIST]))?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect())
    };
    // What is held and the shell, in each; its init is hidden.
    assert_eq!((list(&container)?.len(), list(&second)?.len()), (2, 2));
    // No number of either is one of the other's processes: from inside, a signal reaches nobody there.
    for pid in [first.pid, held.pid] {
        let number = libc::SYS_kill.to_string();
        let output = second.output(payload("syscall", &[&number, &pid.to_string(), "0"]))?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("errno {}\n", libc::ESRCH));
    }
    held.release()?;
    first.release().map(drop)
}

fn killing_one_leaves_the_other() -> Result {
    let first = closed().start()?;
    let server = start(&first, "serve-tcp", &["4000"])?;
    let second = joins(&first, &[Namespace::Net]).start()?;
    let (held, third) = (start(&second, "hold", &[])?, joins(&first, &[Namespace::Net]).start()?);
    let pid = held.pid;
    second.close()?;
    assert!(!oracle::is_alive(pid), "what was in the container is gone with it");
    assert!(oracle::is_alive(server.pid));
    let output = third.output(payload("connect-tcp", &["4000"]))?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    drop(held);
    server.release().map(drop)
}

fn what_is_joined_outlives_its_maker() -> Result {
    let first = closed().start()?;
    let server = start(&first, "hold", &[])?;
    let net = namespace(server.pid, "net");
    let plan = joins(&first, &[Namespace::Net]).plan()?;
    let second = plan.start()?;
    let listening = start(&second, "serve-tcp", &["4000"])?;
    first.close()?;
    assert!(!oracle::is_alive(server.pid));
    drop(server);
    // One that was running, one more in it, and one that starts only now: all in the network that its maker left.
    assert_eq!(namespace(listening.pid, "net"), net);
    let output = second.output(payload("connect-tcp", &["4000"]))?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    let output = plan.output(payload("connect-tcp", &["4000"]))?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    listening.release()?;
    // With nobody in it, the plan alone keeps it.
    second.close()?;
    let late = held(payload("hold", &[]), |command| plan.spawn(command))?;
    assert_eq!(namespace(late.pid, "net"), net);
    late.release().map(drop)
}

fn refusal<T>(result: belljar::Result<T>) -> Error {
    result.err().expect("it must be refused")
}

fn a_container_that_is_gone() -> Result {
    let container = closed().start()?;
    let sandbox = joins(&container, &[Namespace::Net]);
    sandbox.plan()?;
    container.close()?;
    let command = payload("exit", &["0"]);
    for error in [refusal(sandbox.plan()), refusal(sandbox.spawn(&command)), refusal(sandbox.start())] {
        assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::JoinNs), "{}", explain(&error));
        assert!(error.to_string().contains("net") && error.hint().is_some(), "{}", explain(&error));
    }
    // One whose init was killed by somebody else, and which its owner still has.
    let container = closed().start()?;
    let program = start(&container, "hold", &[])?;
    let init = oracle::parent(program.pid).expect("it has a parent");
    let sandbox = joins(&container, &[Namespace::Net]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init as i32), nix::sys::signal::Signal::SIGKILL)?;
    assert!(within(Duration::from_secs(10) * slack(), || !oracle::is_alive(program.pid)));
    let error = refusal(sandbox.plan());
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
    Ok(())
}

/// Another process that has the number of the init is not taken for it.
fn a_process_id_that_is_used_again() -> Result {
    let container = closed().start()?;
    let program = start(&container, "hold", &[])?;
    let init = oracle::parent(program.pid).expect("it has a parent");
    let sandbox = joins(&container, &[Namespace::Net]);
    container.close()?;
    drop(program);
    let mut reused = false;
    for _ in 0..200 {
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (init - 1).to_string()).is_err() {
            break;
        }
        let mut other = std::process::Command::new("sleep").arg("60").spawn()?;
        reused = other.id() == init;
        if reused {
            // Whose network is that of the host.
            assert_eq!(namespace(init, "net"), namespace("self", "net"));
            let error = refusal(sandbox.plan());
            assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
        }
        other.kill()?;
        other.wait()?;
        if reused {
            break;
        }
    }
    match reused {
        true => Ok(()),
        false => fail("no process got the number again"),
    }
}

fn the_last_call_counts() -> Result {
    let (first, other) = (closed().start()?, closed().start()?);
    let (a, b) = (start(&first, "hold", &[])?, start(&other, "hold", &[])?);
    let same = |sandbox: &Sandbox, with_a: &[&str], with_b: &[&str]| -> Result {
        let held = support::hold_with(sandbox, payload("hold", &[]))?;
        expect_same(&a, &held, with_a)?;
        expect_same(&b, &held, with_b)?;
        held.release().map(drop)
    };
    let both = joins(&first, &[Namespace::Net, Namespace::Ipc]);
    same(&both, &["net", "ipc"], &[])?;
    same(&both.clone().net_ns(), &["ipc"], &[])?;
    same(&both.clone().cross_tenant(), &[], &[])?;
    // Later ones take over. Apart from each other, the two belong to different user namespaces.
    if nix::unistd::geteuid().is_root() {
        same(&both.clone().join(&other, [Namespace::Ipc]), &["net"], &["ipc"])?;
    } else {
        let error = refusal(both.clone().join(&other, [Namespace::Ipc]).plan());
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
    }
    same(&both.clone().join(&other, [Namespace::Net, Namespace::Ipc]), &[], &["net", "ipc"])?;
    let held = support::hold_with(&both.share_net(), payload("hold", &[]))?;
    assert_eq!(namespace(held.pid, "net"), namespace("self", "net"));
    assert_eq!(namespace(held.pid, "ipc"), namespace(a.pid, "ipc"));
    held.release()?;
    a.release()?;
    b.release().map(drop)
}

fn what_cannot_work_is_refused() -> Result {
    let container = closed().start()?;
    let tenant = closed().cross_tenant().start()?;
    let refused = [
        joins(&tenant, &[Namespace::Net]),
        closed().cross_tenant().join(&container, [Namespace::Ipc]),
        joins(&container, &[Namespace::Ipc]).mount(Mount::mqueue("/tmp/queues")),
        joins(&container, &[Namespace::Net]).keep_capability(Capability::NetBindService),
        joins(&container, &[Namespace::Net]).root().keep_capability("cap_net_admin"),
    ];
    for (n, sandbox) in refused.iter().enumerate() {
        let error = refusal(sandbox.plan());
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{n}: {}", explain(&error));
        assert!(error.hint().is_some(), "{n}: {}", explain(&error));
    }
    // The same without what is in the way.
    let fine = [
        closed().cross_tenant(),
        joins(&container, &[Namespace::Net]).mount(Mount::mqueue("/tmp/queues")),
        joins(&container, &[Namespace::Ipc]).keep_capability(Capability::NetBindService),
        joins(&container, &[Namespace::Net]).keep_capability(Capability::Kill),
    ];
    for sandbox in fine {
        run_role(&sandbox, "exit", &["0"])?;
    }
    Ok(())
}

fn what_is_the_hosts_is_not_joined() -> Result {
    let container = closed().share_net().start()?;
    let error = refusal(joins(&container, &[Namespace::Ipc, Namespace::Net]).plan());
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    assert!(error.to_string().contains("net"), "{}", explain(&error));
    joins(&container, &[Namespace::Ipc]).plan()?;
    Ok(())
}

/// On both sides: of the one that is joined, and of the one that joins.
fn without_a_user_namespace() -> Result {
    let bare = Sandbox::bare().pid_ns().net_ns().ipc_ns();
    let mut here = Command::new(support::own_exe());
    here.args(["--role", "hold"]);
    let (open, container) = (bare.start()?, closed().start()?);
    let first = held(here.clone(), |command| open.spawn(command))?;
    let second = start(&container, "hold", &[])?;
    for (container, of) in [(&open, &first), (&container, &second)] {
        for (sandbox, command) in [(bare.clone(), here.clone()), (closed(), payload("hold", &[]))] {
            let joined = held(command, |command| sandbox.join(container, [Namespace::Net]).spawn(command))?;
            assert_eq!(namespace(joined.pid, "net"), namespace(of.pid, "net"));
            assert_ne!(namespace(joined.pid, "ipc"), namespace(of.pid, "ipc"));
            assert_ne!(namespace(joined.pid, "pid"), namespace(of.pid, "pid"));
            joined.release()?;
        }
    }
    first.release()?;
    second.release().map(drop)
}

/// Of what belongs to a namespace that was joined: with every capability that is there to be had, nothing is set in it.
fn nothing_of_the_other_can_be_changed() -> Result {
    let container = closed().start()?;
    let kept = |sandbox: Sandbox| {
        let all = Capability::ALL.into_iter().filter(|one| !one.name().starts_with("NET_"));
        all.fold(sandbox.root().allow_all_syscalls(), |sandbox, one| sandbox.keep_capability(one))
    };
    let name = "try-hostname";
    let set = |sandbox: &Sandbox| -> Result<String> {
        let script = format!(
            "import socket\ntry:\n socket.sethostname('{name}')\n print('ok')\nexcept OSError as e: print('errno', e.errno)"
        );
        let output = sandbox.output(Command::new("/usr/bin/python3").args(["-c", &script]))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(set(&kept(closed().join(&container, [Namespace::Uts])))?, format!("errno {}", libc::EPERM));
    assert_eq!(set(&kept(closed()))?, "ok", "the positive control");
    let facts = String::from_utf8_lossy(&container.output(payload("facts", &[]))?.stdout).into_owned();
    assert_eq!(oracle::fields(&facts)["hostname"], "belljar");
    Ok(())
}

fn an_unprivileged_host() -> Result {
    as_nobody("nobody", &[], Duration::from_secs(120) * slack())?.succeed().map(drop)
}

/// All of this as user 65534, and what differs there.
fn nobody() -> Result {
    exactly_the_chosen_namespaces_are_shared()?;
    a_network_is_shared()?;
    three_sandboxes_in_one_network()?;
    ipc_objects_are_shared()?;
    names_are_shared()?;
    process_ids_are_not_shared()?;
    killing_one_leaves_the_other()?;
    what_is_joined_outlives_its_maker()?;
    a_container_that_is_gone()?;
    the_last_call_counts()?;
    what_cannot_work_is_refused()?;
    nothing_of_the_other_can_be_changed()?;
    nothing_is_left_behind()?;

    // Whoever is root inside, ids are the caller's and no others.
    let container = closed().root().start()?;
    let held = support::hold_with(&joins(&container, &[Namespace::Net]).user(7, 8), payload("hold", &[]))?;
    let status = oracle::status(held.pid);
    let own = oracle::status(std::process::id())["Uid"].clone();
    let first = |ids: &str| ids.split_whitespace().next().map(str::to_owned);
    assert_eq!(first(&status["Uid"]), first(&own), "{status:?}");
    held.release()?;
    let facts = says(&joins(&container, &[Namespace::Net]).user(7, 8), "status", &[])?;
    assert_eq!(oracle::fields(&facts)["Uid"].split_whitespace().collect::<Vec<_>>(), ["7"; 4]);

    // A sandbox that has joined one thing owns the others: whoever wants both enters the upper of the two.
    let second = joins(&container, &[Namespace::Net]).start()?;
    let third = joins(&second, &[Namespace::Net, Namespace::Ipc, Namespace::Uts]);
    let (a, b) = (start(&second, "hold", &[])?, support::hold_with(&third, payload("hold", &[]))?);
    expect_same(&a, &b, &["net", "ipc", "uts"])?;
    b.release()?;
    a.release()?;

    for sandbox in [
        joins(&container, &[Namespace::Net]).share_user(),
        joins(&container, &[Namespace::Net])
            .user_map(UserMap::new().ids(0, 65534, 1).ids(1, 100_000, 10))
            .root(),
    ] {
        let error = refusal(sandbox.plan());
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
        assert!(error.hint().is_some());
    }
    Ok(())
}

/// A host that makes a network namespace and nothing else, and joins it.
fn join_bare() -> Result {
    let mut here = Command::new(support::own_exe());
    here.args(["--role", "hold"]);
    let container = Sandbox::bare().net_ns().start()?;
    let first = held(here.clone(), |command| container.spawn(command))?;
    let fds = oracle::open_fds();
    let children = oracle::children(std::process::id()).len();
    let sandbox = Sandbox::bare().ipc_ns().join(&container, [Namespace::Net]);
    let second = match held(here, |command| sandbox.spawn(command)) {
        Ok(second) => second,
        Err(failure) => {
            assert_eq!(oracle::open_fds(), fds, "of a launch that failed nothing stays");
            assert_eq!(oracle::children(std::process::id()).len(), children);
            return Err(failure);
        }
    };
    assert_eq!(namespace(first.pid, "net"), namespace(second.pid, "net"));
    assert_ne!(namespace(first.pid, "ipc"), namespace(second.pid, "ipc"));
    second.release()?;
    first.release().map(drop)
}

/// That host, in a sandbox without namespaces whose filter allows these calls in addition to the usual ones.
fn join_bare_under(calls: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "join-bare"]);
    let filter = Seccomp::new().allow(calls.iter().copied());
    let output = Sandbox::bare().seccomp(filter).output(&command)?;
    let said = format!(
        "{:?} {}{}",
        output.outcome.verdict,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.outcome.success(), said))
}

fn where_a_filter_knows_no_clone3() -> Result {
    let (success, said) = join_bare_under(&["clone", "unshare", "setns"])?;
    if success { Ok(()) } else { fail(said) }
}

fn where_a_filter_refuses_setns() -> Result {
    let (success, said) = join_bare_under(&["clone", "unshare"])?;
    assert!(!success, "the filter is of no use: {said}");
    assert!(
        said.contains("entering the net namespace") && said.contains("PermissionDenied at JoinNs"),
        "{said}"
    );
    Ok(())
}

fn the_plan_says_so() -> Result {
    let container = closed().start()?;
    let text = joins(&container, &[Namespace::Net]).plan()?.to_string();
    assert!(text.contains("enter the joined sandbox's: net"), "{text}");
    assert!(!text.contains("bringing up the loopback"), "{text}");
    let cloned = text.lines().find(|line| line.contains("clone3")).unwrap_or_default();
    assert!(!cloned.contains("net") && cloned.contains("ipc"), "{cloned}");
    #[cfg(feature = "serde")]
    {
        let error = refusal(joins(&container, &[Namespace::Net]).to_toml());
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    }
    Ok(())
}

fn nothing_is_left_behind() -> Result {
    let container = closed().start()?;
    let plan = joins(&container, &[Namespace::Net]).plan()?;
    let mut command = payload("exit", &["0"]);
    command.stdout(Stdio::null());
    plan.spawn(&command)?.wait()?;
    let (fds, children) = (oracle::open_fds().len(), oracle::children(std::process::id()).len());
    for _ in 0..20 {
        assert!(plan.spawn(&command)?.wait()?.success());
        let missing = refusal(plan.spawn(Command::new("/no/such/program")));
        assert_eq!(missing.kind(), ErrorKind::Exec, "{}", explain(&missing));
    }
    // Tests run beside this one; where they do, their descriptors and children come and go.
    let quiet = || oracle::open_fds().len() <= fds && oracle::children(std::process::id()).len() <= children;
    match within(Duration::from_secs(60), quiet) {
        true => Ok(()),
        false => fail(format!("{fds} descriptors have become {}", oracle::open_fds().len())),
    }
}
