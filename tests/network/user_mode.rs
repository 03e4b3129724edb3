//! Sandboxes whose network is a program of the host: pasta, slirp4netns.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as HostCommand, Stdio as HostStdio};
use std::time::Duration;

use belljar::{
    Capability, Command, Container, ErrorKind, Network, Sandbox, Step, UserMode, UserModeProgram, Verdict,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::filter::{NAME_SERVER, PATIENT};
use crate::scene::{DENIED, HOST, HOST_6, OUTSIDE, OUTSIDE_6, SERVER, Scene, ask, ask_here, client, ip, run};
use crate::support::{self, Result, Scratch, explain, fail, succeed, within};

const PROGRAMS: [UserModeProgram; 2] = [UserModeProgram::Pasta, UserModeProgram::Slirp4netns];
const METADATA: &str = "169.254.169.254";

/// What a user's machine has: a way to the outside, and a device that everybody may open.
fn set() -> Result {
    ip(&format!("route add default via {OUTSIDE}"))?;
    ip(&format!("-6 route add default via {OUTSIDE_6}"))?;
    let scratch = Scratch::new();
    let (place, tun) = (scratch.path().display().to_string(), scratch.join("tun").display().to_string());
    run(&format!("mount -t tmpfs tmpfs {place}"))?;
    run(&format!("mknod -m 666 {tun} c 10 200"))?;
    run(&format!("mount --bind {tun} /dev/net/tun"))?;
    run(&format!("umount {place}")).or_else(|_| run(&format!("umount --lazy {place}"))).map(drop)
}

fn by(program: UserModeProgram) -> UserMode {
    Network::user_mode().program(program)
}

fn on(network: UserMode) -> Sandbox {
    support::closed().network(network)
}

/// Processes that are the network of a sandbox of this scene: they are in its network, and name another.
fn helpers() -> Vec<u32> {
    let own = fs::read_link("/proc/self/ns/net").expect("it is there");
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let is_here = match fs::read_link(format!("/proc/{pid}/ns/net")) {
                Ok(network) => network == own,
                // It is in the user namespace of its sandbox, which only root may look into.
                Err(_) => is_below_this(*pid),
            };
            is_here
                && fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains("/ns/net"))
        })
        .collect()
}

/// Whether a process descends from this one.
fn is_below_this(pid: u32) -> bool {
    let parent =
        |pid: u32| -> Option<u32> { support::oracle::status_of(&pid.to_string()).get("PPid")?.parse().ok() };
    std::iter::successors(parent(pid), |&pid| parent(pid)).any(|one| one == std::process::id())
}

fn no_helper_is_left() -> bool {
    within(Duration::from_secs(5), || helpers().is_empty())
}

/// What every host can do: root in the first test, nobody in another.
fn from_outside_it_is_the_host(program: UserModeProgram) -> Result {
    let sandbox = on(by(program));
    for kind in ["tcp", "udp"] {
        assert_eq!(ask(&sandbox, kind, OUTSIDE, 8000)?, HOST, "{program} {kind}");
    }
    let heard = ask(&sandbox, "tcp", OUTSIDE_6, 8006)?;
    match program {
        UserModeProgram::Pasta => assert_eq!(heard, HOST_6),
        _ => assert_eq!(heard, "ENETUNREACH"),
    }
    let container = sandbox.start()?;
    let addresses: Vec<String> = container.addresses().iter().map(ToString::to_string).collect();
    match program {
        UserModeProgram::Pasta => assert_eq!(addresses, [HOST, HOST_6]),
        _ => assert_eq!(addresses, ["10.0.2.100"]),
    }
    let [helper] = helpers()[..] else { return fail(format!("{program}: {:?}", helpers())) };
    drop(container);
    assert!(!std::path::Path::new(&format!("/proc/{helper}")).exists(), "{program}");
    Ok(())
}

pub(crate) fn a_user_mode_network_leads_outside(scene: &Scene) -> Result {
    set()?;
    let _servers = [scene.serve_outside("0.0.0.0", 8000)?, scene.serve_outside("::", 8006)?];
    PROGRAMS.into_iter().try_for_each(from_outside_it_is_the_host)
}

pub(crate) fn a_user_mode_program_has_nothing_of_the_host(_: &Scene) -> Result {
    set()?;
    // It would be inherited.
    let (open, _other) = nix::unistd::pipe()?;
    let name =
        |pid: &str, number: &str| fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
    let ours = name("self", &open.as_raw_fd().to_string());
    assert!(ours.to_string_lossy().starts_with("pipe:"));
    for program in PROGRAMS {
        let container = on(by(program)).start()?;
        let [pid] = helpers()[..] else { return fail(format!("{program}: {:?}", helpers())) };
        assert_eq!(fs::read(format!("/proc/{pid}/environ"))?, b"", "{program}");
        let numbers = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
        let names: Vec<_> =
            numbers.filter_map(|entry| Some(name(&pid.to_string(), entry.file_name().to_str()?))).collect();
        assert!(names.len() > 3 && !names.contains(&ours), "{program}: {names:?}");
        assert_eq!(name(&pid.to_string(), "0"), std::path::Path::new("/dev/null"), "{program}");
        // What it may is about the sandbox, or binding to low ports.
        let own_users = fs::read_link("/proc/self/ns/user")?;
        let is_powerless = support::oracle::status_of(&pid.to_string())
            .get("CapEff")
            .and_then(|set| u64::from_str_radix(set, 16).ok())
            .is_some_and(|set| set & !(1 << 10) == 0);
        assert!(is_powerless || fs::read_link(format!("/proc/{pid}/ns/user"))? != own_users, "{program}");
        for output in ["1", "2"] {
            assert_ne!(name(&pid.to_string(), output), name("self", output), "{program}");
        }
        drop(container);
    }
    Ok(())
}

/// Tells whatever comes to the loopback interface, in a second; and answers.
const LOOPBACK: &str = r#"
import select, socket
all = []
for family, address in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, 8000))
    tcp.listen(16)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, 8000))
    all += [tcp, udp]
print('ready', flush=True)
heard = set()
while True:
    for s in select.select(all, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            connection, who = s.accept()
            connection.close()
            heard.add('tcp ' + s.getsockname()[0])
        else:
            text, who = s.recvfrom(100)
            if text == b'end':
                print(*sorted(heard), sep=',', flush=True)
                raise SystemExit
            heard.add('udp ' + s.getsockname()[0])
"#;

/// Tries every address by which a program may mean the host itself, by the routes and past them.
const INTRUDE: &str = r#"
import socket, sys, threading
def attack(address, kind, bound, port):
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, kind)
    s.settimeout(1)
    try:
        if bound: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
        # The kernel may give the same port to a socket that is bound and to one that is not, and pasta of 2023 never returns
        # from two connections that are the same to it.
        s.bind(('', port))
        s.connect((address, 8000))
        s.send(b'hello')
    except OSError:
        pass
attacks = []
for address in sys.argv[1:]:
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        for bound in False, True:
            attacks.append(threading.Thread(target=attack, args=(address, kind, bound, 20000 + len(attacks))))
for attack in attacks: attack.start()
for attack in attacks: attack.join()
"#;

/// What the host's loopback interface hears of an attack.
fn heard_on_loopback(sandbox: &Sandbox, addresses: &[&str]) -> Result<String> {
    let mut listener =
        HostCommand::new("/usr/bin/python3").args(["-c", LOOPBACK]).stdout(HostStdio::piped()).spawn()?;
    let mut lines = BufReader::new(listener.stdout.take().expect("piped"));
    let mut line = String::new();
    lines.read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", INTRUDE]).args(addresses);
    succeed(sandbox.output(&command)?)?;
    std::net::UdpSocket::bind("127.0.0.1:0")?.send_to(b"end", "127.0.0.1:8000")?;
    let mut heard = String::new();
    lines.read_to_string(&mut heard)?;
    listener.wait()?;
    Ok(heard.trim().to_owned())
}

fn loopback_is_closed(program: UserModeProgram) -> Result {
    let known = ["127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.8.0.1", "localhost"];
    let special = ["10.0.2.2", "10.0.2.3", OUTSIDE, OUTSIDE_6, HOST, HOST_6];
    let all = [known.as_slice(), special.as_slice()].concat();
    let open = by(program).host_loopback().metadata_services();
    let both = "tcp 127.0.0.1,udp 127.0.0.1";
    let of_both_families = "tcp 127.0.0.1,tcp ::1,udp 127.0.0.1,udp ::1";
    // The addresses of the program's own: what is asked for.
    let at_gateway = heard_on_loopback(&on(open.clone()), &special)?;
    match program {
        UserModeProgram::Pasta => assert_eq!(at_gateway, of_both_families),
        _ => assert_eq!(at_gateway, both),
    }
    // The attack by which no program of the two keeps anybody from it, where nothing of ours stands in the way.
    let attack = heard_on_loopback(&on(open), &known)?;
    for word in both.split(',') {
        assert!(attack.split(',').any(|heard| heard == word), "{program}: {attack}");
    }
    // Closed.
    assert_eq!(heard_on_loopback(&on(by(program)), &all)?, "", "{program}");
    assert_eq!(heard_on_loopback(&on(by(program).metadata_services()), &all)?, "", "{program}");
    // Open at the gateway, and only there.
    assert_eq!(heard_on_loopback(&on(by(program).host_loopback()), &special)?, at_gateway);
    assert_eq!(heard_on_loopback(&on(by(program).host_loopback()), &known)?, "");
    Ok(())
}

pub(crate) fn user_mode_closes_the_hosts_loopback(_: &Scene) -> Result {
    set()?;
    PROGRAMS.into_iter().try_for_each(loopback_is_closed)
}

/// Past the routes, as well.
const BOUND: &str = r#"
import socket, sys
s = socket.socket()
s.settimeout(3)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
try:
    s.connect((sys.argv[1], 80))
    print(s.recv(100).decode())
except OSError as e:
    print('no')
"#;

fn metadata_is_closed(program: UserModeProgram) -> Result {
    let bound = |sandbox: &Sandbox| -> Result<String> {
        let mut command = Command::new("/usr/bin/python3");
        Ok(succeed(sandbox.output(command.args(["-c", BOUND, METADATA]))?)?.trim().to_owned())
    };
    let open = on(by(program).metadata_services());
    for kind in ["tcp", "udp"] {
        assert_eq!(ask(&open, kind, METADATA, 80)?, HOST, "{program}");
    }
    assert_eq!(bound(&open)?, HOST);
    let closed = on(by(program));
    assert_ne!(ask(&closed, "tcp", METADATA, 80)?, HOST);
    assert_ne!(ask(&closed, "udp", METADATA, 80)?, HOST);
    let mut patient = Command::new("/usr/bin/python3");
    patient.args(["-c", PATIENT, METADATA]);
    assert_eq!(succeed(closed.output(&patient)?)?, format!("{DENIED} at once\n"));
    assert_eq!(bound(&closed)?, "no");
    // But for a name server.
    let closed = on(by(program).dns([METADATA.parse().expect("an address")]));
    assert_eq!(ask(&closed, "udp", METADATA, 53)?, HOST);
    assert_ne!(ask(&closed, "tcp", METADATA, 80)?, HOST);
    Ok(())
}

pub(crate) fn user_mode_closes_the_metadata_service(scene: &Scene) -> Result {
    set()?;
    let _servers = [scene.serve_outside(METADATA, 80)?, scene.serve_outside(METADATA, 53)?];
    assert_eq!(ask_here("tcp", METADATA, 80)?, HOST, "the host reaches it");
    PROGRAMS.into_iter().try_for_each(metadata_is_closed)?;
    for capability in [Capability::NetAdmin, Capability::NetRaw] {
        let open = Network::user_mode().host_loopback().metadata_services();
        on(open).keep_capability(capability).plan()?;
        for network in [
            Network::user_mode(),
            Network::user_mode().host_loopback(),
            Network::user_mode().metadata_services(),
        ] {
            let error = on(network).keep_capability(capability).plan().expect_err("it could be undone");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        }
    }
    Ok(())
}

pub(crate) fn user_mode_finds_names(scene: &Scene) -> Result {
    set()?;
    let _name_server = scene.script_outside(NAME_SERVER)?;
    let script = "import socket\ntry: print(socket.gethostbyname('service.test'))\nexcept OSError as e: print(type(e).__name__)";
    let find = |network: UserMode| -> Result<String> {
        succeed(on(network).output(Command::new("/usr/bin/python3").args(["-c", script]))?)
    };
    let scratch = Scratch::new();
    for program in PROGRAMS {
        let asks = by(program).dns([OUTSIDE.parse().expect("an address")]);
        assert_eq!(find(asks)?, "192.0.2.2\n", "{program}");
        // The host's own, but for those on its loopback interface.
        let list = scratch.file("resolv.conf", format!("nameserver 127.0.0.1\nnameserver {OUTSIDE}\n"));
        run(&format!("mount --bind {} /etc/resolv.conf", list.display()))?;
        let found = find(by(program));
        let text = support::run_sh(&on(by(program)), "cat /etc/resolv.conf")?;
        run("umount /etc/resolv.conf")?;
        assert_eq!((found?.as_str(), text.as_str()), ("192.0.2.2\n", "nameserver 192.0.2.2\n"), "{program}");
    }
    Ok(())
}

pub(crate) fn user_mode_publishes_ports(scene: &Scene) -> Result {
    set()?;
    let network = by(UserModeProgram::Pasta).publish(8080, 8000).publish(8081, 8001).publish_udp(5353, 8000);
    let container = on(network.clone()).start()?;
    let mut command = Command::new("/usr/bin/python3");
    // pasta of 2023 tells the sandbox of a connection when the client has said something.
    let server = SERVER.replace("    connection.sendall", "    connection.recv(3)\n    connection.sendall");
    let _server = container.spawn(command.args(["-c", &server, "0.0.0.0", "8000"]))?;
    let ask = || scene.ask("tcp-first", HOST, 8080);
    assert!(within(Duration::from_secs(5), || ask().is_ok_and(|heard| heard == OUTSIDE)), "{:?}", ask()?);
    assert_eq!(scene.ask("udp", HOST, 5353)?, OUTSIDE);
    // What goes from the host's loopback interface comes by that of the sandbox.
    assert_eq!(ask_here("tcp-first", "127.0.0.1", 8080)?, "127.0.0.1");
    for port in [8000, 5353] {
        assert_eq!(scene.ask("tcp", HOST, port)?, "ECONNREFUSED", "{port}");
    }
    let error = on(network).start().expect_err("the ports are taken");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Setup, Step::Network), "{}", explain(&error));
    assert!(error.to_string().contains("8080"), "{}", explain(&error));
    drop(container);
    assert_eq!(scene.ask("tcp", HOST, 8080)?, "ECONNREFUSED");
    let error = on(by(UserModeProgram::Slirp4netns).publish(1, 1)).plan().expect_err("it cannot");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    let error = on(Network::user_mode().publish(80, 1).publish(80, 2)).plan().expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    Ok(())
}

pub(crate) fn user_mode_names_the_package(_: &Scene) -> Result {
    set()?;
    let refused = |network: UserMode| {
        let error = on(network).plan().expect_err("it is not installed");
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::Unsupported, Step::Network),
            "{}",
            explain(&error)
        );
        error.hint().unwrap_or_default().to_owned()
    };
    on(Network::user_mode().publish(8080, 80)).plan()?;
    for (program, package) in
        [(UserModeProgram::Pasta, "passt"), (UserModeProgram::Slirp4netns, "slirp4netns")]
    {
        on(Network::user_mode()).plan()?;
        run(&format!("mount --bind /dev/null /usr/bin/{program}"))?;
        let hint = refused(by(program));
        assert!(hint.contains(&format!("Debian package {package}:")), "{hint}");
    }
    let hint = refused(Network::user_mode());
    assert!(hint.contains("passt") && hint.contains("slirp4netns"), "{hint}");
    let hint = refused(Network::user_mode().publish(8080, 80));
    assert!(hint.contains("passt"), "{hint}");
    Ok(())
}

pub(crate) fn user_mode_tells_what_went_wrong(_: &Scene) -> Result {
    // No default route; no device.
    let error = on(by(UserModeProgram::Pasta)).start().expect_err("there is no way out");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Setup, Step::Network), "{}", explain(&error));
    assert!(error.to_string().contains("routable interface"), "{}", explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("default route")));
    set()?;
    run("mount --bind /dev/null /dev/net/tun")?;
    for program in PROGRAMS {
        let error = on(by(program)).start().expect_err("there is no device");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Setup, Step::Network), "{}", explain(&error));
        assert!(!error.to_string().contains("without a word"), "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("/dev/net/tun")));
    }
    let error = Sandbox::bare().network(Network::user_mode()).plan().expect_err("the program enters it");
    assert!(error.hint().is_some_and(|hint| hint.contains("user_ns()")), "{}", explain(&error));
    for mtu in [0, 1279, 65521] {
        let error = on(Network::user_mode().mtu(mtu)).plan().expect_err("no such MTU");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    }
    assert!(no_helper_is_left(), "{:?}", helpers());
    Ok(())
}

fn a_killed_program(program: UserModeProgram) -> Result {
    let container = on(by(program)).start()?;
    let asks = |container: &Container| -> Result<String> {
        Ok(succeed(container.output(client("tcp", OUTSIDE, 8000))?)?.trim().to_owned())
    };
    assert_eq!(asks(&container)?, HOST);
    let [pid] = helpers()[..] else { return fail(format!("{:?}", helpers())) };
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    assert!(no_helper_is_left());
    // The interface goes with it, and nothing else does.
    assert_eq!(asks(&container)?, "ENETUNREACH", "{program}");
    assert_eq!(support::run_sh(&on(by(program)), "echo fine")?, "fine\n");
    container.close()?;
    // So is whoever is to end it.
    let container = on(by(program)).start()?;
    let [pid] = helpers()[..] else { return fail(format!("{:?}", helpers())) };
    let keeper = support::oracle::status_of(&pid.to_string()).remove("PPid").unwrap_or_default();
    kill(Pid::from_raw(keeper.parse()?), Signal::SIGKILL)?;
    drop(container);
    let is_gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(within(Duration::from_secs(5), is_gone), "{program}");
    Ok(())
}

pub(crate) fn a_user_mode_program_is_killed(scene: &Scene) -> Result {
    set()?;
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    PROGRAMS.into_iter().try_for_each(a_killed_program)
}

/// Two connections that are the same to whoever sees the packets alone: the kernel tells the sockets apart by what one is bound to.
const SAME: &str = r#"
import errno, socket, time
sockets = [socket.socket() for _ in range(2)]
sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
for s in sockets:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setblocking(False)
    s.bind(('', 20000))
for s in sockets:
    assert s.connect_ex(('10.0.2.2', 8000)) == errno.EINPROGRESS
time.sleep(60)
"#;

fn a_looping_program(program: UserModeProgram) -> Result {
    let sandbox = on(by(program)).wall_time(Duration::from_secs(1));
    let mut command = Command::new("/usr/bin/python3");
    let outcome = sandbox.output(command.args(["-c", SAME]))?.outcome;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded, "{program}");
    assert!(no_helper_is_left(), "{program}: {:?}", helpers());
    Ok(())
}

/// pasta of 2023 never comes back from that.
pub(crate) fn a_user_mode_program_loops(_: &Scene) -> Result {
    set()?;
    PROGRAMS.into_iter().try_for_each(a_looping_program)
}

pub(crate) fn twenty_user_mode_networks(scene: &Scene) -> Result {
    set()?;
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    for program in PROGRAMS {
        let sandbox = on(by(program).mtu(1500));
        let containers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| -> Result<Container> {
                        let container = sandbox.start()?;
                        let heard = succeed(container.output(client("tcp", OUTSIDE, 8000))?)?;
                        assert_eq!(heard.trim(), HOST);
                        Ok(container)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        assert_eq!(helpers().len(), 20, "{program}");
        drop(containers);
        assert_eq!(helpers(), [0; 0], "{program}");
    }
    Ok(())
}

/// A host that holds a sandbox of each kind until it is killed.
pub(crate) fn hold(_: &[OsString]) -> i32 {
    let held: belljar::Result<Vec<Container>> =
        PROGRAMS.into_iter().map(|program| on(by(program)).start()).collect();
    match held {
        Ok(_held) => {
            println!("ready");
            std::thread::sleep(Duration::from_secs(600));
            0
        }
        Err(error) => {
            println!("{}", explain(&error));
            1
        }
    }
}

fn killed_host(mut command: HostCommand) -> Result {
    let mut host = command.stdout(HostStdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(host.stdout.take().expect("piped")).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    assert_eq!(helpers().len(), 2);
    host.kill()?;
    assert_eq!(host.wait()?.signal(), Some(9));
    assert!(no_helper_is_left(), "{:?}", helpers());
    Ok(())
}

pub(crate) fn a_user_mode_host_is_killed(_: &Scene) -> Result {
    set()?;
    killed_host(support::role_command("user-mode-hold", &[]))?;
    // While it starts them, as well.
    for milliseconds in (0..100).step_by(7) {
        let mut host = support::role_command("user-mode-hold", &[]).stdout(HostStdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        host.kill()?;
        host.wait()?;
        assert!(no_helper_is_left(), "after {milliseconds} ms: {:?}", helpers());
    }
    let scratch = Scratch::new();
    killed_host(support::nobody_command(&scratch, "user-mode-hold", &[])?)
}

pub(crate) fn an_unprivileged_user_mode_host(scene: &Scene) -> Result {
    set()?;
    let _servers = [
        scene.serve_outside("0.0.0.0", 8000)?,
        scene.serve_outside("::", 8006)?,
        scene.serve_outside(METADATA, 80)?,
        scene.serve_outside(METADATA, 53)?,
    ];
    support::as_nobody("user-mode-nobody", &[], Duration::from_secs(100))?.succeed().map(drop)
}

pub(crate) fn nobody(_: &[OsString]) -> i32 {
    support::role_result(PROGRAMS.into_iter().try_for_each(|program| {
        from_outside_it_is_the_host(program)?;
        loopback_is_closed(program)?;
        metadata_is_closed(program)?;
        a_killed_program(program)
    }))
}

pub(crate) fn a_reset_makes_another_user_mode_network(scene: &Scene) -> Result {
    set()?;
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    for program in PROGRAMS {
        let container = on(by(program)).start()?;
        let before = helpers();
        container.reset()?;
        assert_eq!(succeed(container.output(client("tcp", OUTSIDE, 8000))?)?.trim(), HOST, "{program}");
        let after = helpers();
        assert_eq!((before.len(), after.len()), (1, 1));
        assert_ne!(before, after);
    }
    Ok(())
}
