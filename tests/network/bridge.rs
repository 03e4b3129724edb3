//! The bridge itself, and what a sandbox finds on it.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use belljar::{
    Bridge, BridgeBuilder, Bytes, Capability, Command, Container, Egress, ErrorKind, Network, Output, Step,
    UserMap,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::scene::{
    DENIED, HOST, OUTSIDE, PROHIBITED, Scene, ask, builder, interfaces, ip, on, plain, run, serve_here,
};
use crate::support::{self, Result, explain, fail, succeed};

pub(crate) fn the_gateway_and_nobody_else(_: &Scene) -> Result {
    let bridge = builder().create()?;
    assert_eq!(bridge.gateway().to_string(), "10.10.0.1");
    let _server = serve_here("0.0.0.0", 7000)?;
    // A service of the host is closed at each of its addresses, but for a rule that names the address.
    for address in ["10.10.0.1", HOST] {
        assert_eq!(ask(&plain(&bridge), "tcp", address, 7000)?, DENIED, "{address}");
        assert_eq!(ask(&plain(&bridge), "udp", address, 7000)?, PROHIBITED, "{address}");
        let open = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(format!("{address}:7000"))));
        assert!(ask(&open, "tcp", address, 7000)?.starts_with("10.10.0."), "{address}");
        assert_eq!(ask(&open, "udp", address, 7000)?, PROHIBITED, "{address}");
    }
    let wide = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("0.0.0.0/0")));
    assert_eq!(ask(&wide, "tcp", "10.10.0.1", 7000)?, DENIED);
    Ok(())
}

/// What a program sees of its network.
const LOOK: &str = r#"
import os, socket, struct, fcntl
def address(name):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return socket.inet_ntoa(fcntl.ioctl(s.fileno(), 0x8915, struct.pack('256s', name.encode()))[20:24])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mtu = struct.unpack('16xi', fcntl.ioctl(s.fileno(), 0x8921, struct.pack('16si', b'eth0', 0)))[0]
print(sorted(name for _, name in socket.if_nameindex()), address('eth0'), mtu, open('/etc/resolv.conf').read().split())
"#;

pub(crate) fn an_address_of_its_own(_: &Scene) -> Result {
    let bridge = builder().mtu(1400).dns(["192.0.2.53".parse().expect("an address")]).create()?;
    let both = [plain(&bridge).start()?, plain(&bridge).start()?];
    let mut addresses = Vec::new();
    for container in &both {
        let address = container.addresses()[0].to_string();
        let seen = succeed(container.output(Command::new("/usr/bin/python3").args(["-c", LOOK]))?)?;
        assert_eq!(seen, format!("['eth0', 'lo'] {address} 1400 ['nameserver', '192.0.2.53']\n"));
        addresses.push(address);
    }
    assert_ne!(addresses[0], addresses[1]);
    let there = interfaces()?;
    assert!(
        there.contains_key("belljar0") && there.keys().filter(|name| name.starts_with("bj")).count() == 2
    );
    drop(both);
    drop(bridge);
    let there = interfaces()?;
    assert!(!there.contains_key("belljar0"), "{there:?}");
    assert!(support::within(Duration::from_secs(5), || {
        interfaces().is_ok_and(|all| !all.keys().any(|name| name.starts_with("bj")))
    }));
    Ok(())
}

pub(crate) fn what_cannot_be(_: &Scene) -> Result {
    let config = |builder: BridgeBuilder| {
        let error = builder.create().expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some(), "{}", explain(&error));
        error.to_string()
    };
    for name in
        ["", "a-name-of-sixteen", "with space", "../up", "a/b", "bj0a0a0002", ".", "all", "ümlaut", "nul\0"]
    {
        config(Bridge::new(name).subnet("10.10.0.0/24"));
    }
    config(Bridge::new("belljar0"));
    for subnet in [
        "",
        "10.10.0.0",
        "10.10.0.1/24",
        "10.10.0.0/31",
        "10.0.0.0/7",
        "127.0.0.0/24",
        "169.254.0.0/16",
        "224.0.0.0/8",
        "0.0.0.0/8",
        "fd00::/64",
        "x",
    ] {
        config(Bridge::new("belljar0").subnet(subnet));
    }
    for subnet in ["10.10.1.0/24", "fe80::/64", "fd00::/97", "ff00::/64", "::/0"] {
        config(builder().enable_forwarding().subnet6(subnet));
    }
    config(builder().mtu(575));
    config(builder().mtu(65536));
    assert!(config(builder().masquerade()).contains("forwards"));
    assert!(config(builder().subnet6("fd00:10::/64")).contains("forwards"));
    // An interface of that name that is none, and a subnet that is in use.
    ip("link add taken type veth peer name other")?;
    assert!(config(Bridge::new("taken").subnet("10.10.0.0/24")).contains("taken"));
    for subnet in ["192.0.2.0/24", "192.0.2.128/25", "192.0.0.0/16"] {
        assert!(config(Bridge::new("belljar0").subnet(subnet)).contains("overlaps"), "{subnet}");
    }
    assert!(!interfaces()?.contains_key("belljar0"));
    let bridge = builder().create()?;
    let plan = |network: belljar::Bridged| {
        let error = on(network).plan().expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some() || error.to_string().contains("port"), "{}", explain(&error));
    };
    plan(Network::bridge(&bridge).egress(Egress::deny_all().allow("10.0.0.5:0")));
    plan(Network::bridge(&bridge).egress(Egress::deny_all().deny("nonsense rule")));
    plan(Network::bridge(&bridge).publish(0, 1));
    plan(Network::bridge(&bridge).publish(1, 2).publish(1, 3));
    plan(Network::bridge(&bridge).ingress_max(Bytes::new(10)));
    plan(Network::bridge(&bridge).connections_max(0));
    plan(Network::bridge(&bridge).connections_max(u32::MAX));
    let keeps = on(Network::bridge(&bridge).egress_max(Bytes::mib(1))).keep_capability(Capability::NetRaw);
    assert_eq!(keeps.plan().expect_err("it could undo it").kind(), ErrorKind::InvalidConfig);
    drop(keeps);
    // Without the bridge nothing starts, nor without its rules.
    ip("link del belljar0")?;
    let error = plain(&bridge).start().expect_err("it is gone");
    assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::Network), "{}", explain(&error));
    drop(bridge);
    let bridge = builder().create()?;
    assert!(plain(&bridge).status(Command::new("/bin/true"))?.success());
    run("nft delete table inet belljar_belljar0")?;
    let error = plain(&bridge).start().expect_err("its rules are gone");
    assert_eq!(error.step(), Step::Network, "{}", explain(&error));
    // What somebody else has removed does not keep the rest from being removed.
    drop(bridge);
    assert!(!run("nft list ruleset")?.contains("belljar"));
    assert!(!interfaces()?.contains_key("belljar0"));
    assert!(support::within(Duration::from_secs(5), || {
        interfaces().is_ok_and(|all| !all.keys().any(|name| name.starts_with("bj")))
    }));
    Ok(())
}

pub(crate) fn every_address_is_in_use(_: &Scene) -> Result {
    let bridge = Bridge::new("belljar0").subnet("10.10.0.0/29").create()?;
    let mut all: Vec<Container> = (0..5).map(|_| plain(&bridge).start()).collect::<belljar::Result<_>>()?;
    let mut addresses: Vec<String> = all.iter().map(|one| one.addresses()[0].to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["10.10.0.2", "10.10.0.3", "10.10.0.4", "10.10.0.5", "10.10.0.6"]);
    let error = plain(&bridge).start().expect_err("there is no sixth");
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::ResourceExhausted, Step::Network),
        "{}",
        explain(&error)
    );
    // One that is given back is there again at once, though the kernel takes its time with it.
    all.remove(2);
    let again = plain(&bridge).start()?;
    assert_eq!(again.addresses()[0].to_string(), addresses_without(&all));
    for _ in 0..10 {
        assert!(all.pop().is_some() || all.is_empty());
        assert!(plain(&bridge).status(Command::new("/bin/true"))?.success());
    }
    Ok(())
}

/// The only address of the five that none of these has.
fn addresses_without(all: &[Container]) -> String {
    let used: Vec<String> = all.iter().map(|one| one.addresses()[0].to_string()).collect();
    (2..=6).map(|n| format!("10.10.0.{n}")).find(|address| !used.contains(address)).unwrap_or_default()
}

pub(crate) fn two_hundred_on_one_bridge(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let plan = plain(&bridge).plan()?;
    let start = std::time::Instant::now();
    let all: Vec<Container> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).map(|_| plan.start()).collect::<belljar::Result<Vec<_>>>()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<belljar::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    eprintln!("200 in {:?}", start.elapsed());
    let addresses: std::collections::BTreeSet<_> = all.iter().map(|one| one.addresses()[0]).collect();
    assert_eq!(addresses.len(), 200);
    let _server = serve_here("0.0.0.0", 7000)?;
    for container in all.iter().step_by(40) {
        assert_eq!(
            succeed(container.output(crate::scene::client("tcp", "10.10.0.1", 7000))?)?.trim(),
            DENIED
        );
    }
    drop(all);
    let rules = run("nft list ruleset")?;
    // Only that they are ports is never taken back.
    assert!(
        !rules.contains("chain bj") && !rules.contains("goto bj") && !rules.contains("jump bj"),
        "{rules}"
    );
    Ok(())
}

/// A host that leaves a bridge and a sandbox behind.
pub(crate) fn crash(_: &[std::ffi::OsString]) -> i32 {
    let Ok(bridge) = builder().create() else { return 1 };
    let Ok(container) = on(Network::bridge(&bridge)).start() else { return 2 };
    println!("{}", container.addresses()[0]);
    kill(nix::unistd::getpid(), Signal::SIGKILL).ok();
    3
}

pub(crate) fn a_killed_host_is_swept_up_after(_: &Scene) -> Result {
    let killed = support::run_helper(&mut support::role_command("crash", &[]), Duration::from_secs(20))?;
    assert_eq!(killed.stdout, "10.10.0.2\n", "{}", killed.stderr);
    assert!(interfaces()?.contains_key("belljar0"), "it is left behind");
    assert!(run("nft list ruleset")?.contains("belljar_belljar0"));
    // Its sandboxes end by themselves, and their wires with them.
    assert!(support::within(Duration::from_secs(5), || {
        interfaces().is_ok_and(|all| !all.keys().any(|name| name.starts_with("bj")))
    }));
    // Any other bridge takes it away.
    let other = Bridge::new("other0").subnet("10.11.0.0/24").create()?;
    assert!(support::within(Duration::from_secs(5), || {
        drop(Bridge::new("other1").subnet("10.12.0.0/24").create());
        interfaces().is_ok_and(|all| !all.contains_key("belljar0"))
    }));
    let rules = run("nft list ruleset")?;
    assert!(!rules.contains("belljar_belljar0") && rules.contains("belljar_other0"), "{rules}");
    drop(other);
    // And one of the same name takes it over, with other words.
    support::run_helper(&mut support::role_command("crash", &[]), Duration::from_secs(20))?;
    let mut bridge = None;
    support::within(Duration::from_secs(5), || {
        bridge = builder().mtu(1400).create().ok();
        bridge.is_some()
    });
    let bridge = bridge.expect("its sandboxes have ended");
    assert!(plain(&bridge).status(Command::new("/bin/true"))?.success());
    drop(bridge);
    assert!(!run("nft list ruleset")?.contains("belljar"));
    let left: Vec<_> = std::fs::read_dir("/run")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("belljar.bridge.") && name.contains(&own_namespace()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

fn own_namespace() -> String {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/net").map_or(String::new(), |metadata| metadata.ino().to_string())
}

/// Another host that uses the bridge, until its input ends.
pub(crate) fn neighbour(args: &[std::ffi::OsString]) -> i32 {
    let builder = if args.is_empty() { builder() } else { builder().mtu(1000) };
    match builder.create() {
        Ok(bridge) => match on(Network::bridge(&bridge)).start() {
            Ok(container) => {
                println!("ready");
                std::io::stdin().read_to_end(&mut Vec::new()).ok();
                drop(container);
                0
            }
            Err(_) => 2,
        },
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

pub(crate) fn two_hosts_share_a_bridge(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let own = plain(&bridge).start()?;
    let mut command = support::role_command("neighbour", &[]);
    command.stdin(std::process::Stdio::piped());
    let mut other = crate::scene::ready(command)?;
    assert_eq!(interfaces()?.keys().filter(|name| name.starts_with("bj")).count(), 2);
    // A third has other ideas.
    let third =
        support::run_helper(&mut support::role_command("neighbour", &["other"]), Duration::from_secs(20))?;
    assert!(third.status.code() == Some(1) && third.stdout.contains("differently"), "{}", third.stdout);
    drop(own);
    drop(bridge);
    assert!(interfaces()?.contains_key("belljar0"), "the other one still uses it");
    other.finish()?;
    assert!(!interfaces()?.contains_key("belljar0"));
    assert!(!run("nft list ruleset")?.contains("belljar"));
    Ok(())
}

/// The kernel takes the wires of ended sandboxes away when it comes to that; so the last one may go just when its bridge does.
pub(crate) fn a_wire_goes_while_its_bridge_does(_: &Scene) -> Result {
    // With the namespaces of others to be taken down it takes the kernel longer.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    run("unshare --net true").expect("root may");
                }
            });
        }
        let left = (0..30).try_for_each(|_| -> Result {
            let bridge = builder().create()?;
            // The first wire is on its way when the second one's namespace comes to the kernel.
            let containers = [plain(&bridge).start()?, plain(&bridge).start()?];
            for container in containers {
                drop(container);
                interfaces()?;
            }
            drop(bridge);
            if interfaces()?.contains_key("belljar0") { fail("the bridge is still there") } else { Ok(()) }
        });
        is_over.store(true, Ordering::Relaxed);
        left
    })
}

/// A copy of a host may be made while a thread, which it has not, hands an address out.
pub(crate) fn a_forked_host_waits_for_no_thread(_: &Scene) -> Result {
    let bridge = builder().create()?;
    // With ids of its own each would lock the file of them, for as short a time as any other lock in a host.
    let sandbox = plain(&bridge).user_map(UserMap::new().ids(0, 1_000_000, 65536));
    let run = || sandbox.status(Command::new("/bin/true")).is_ok_and(|outcome| outcome.success());
    // What is made once in a process is there then.
    assert!(run());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(run());
                }
            });
        }
        let waited = (0..20).try_for_each(|_| -> Result {
            let copy = support::raw::fork()?;
            if copy == 0 {
                std::process::exit(i32::from(!run()));
            }
            let copy = Pid::from_raw(copy);
            let mut status = WaitStatus::StillAlive;
            support::within(Duration::from_secs(20), || {
                status = waitpid(copy, Some(WaitPidFlag::WNOHANG)).unwrap_or(status);
                status != WaitStatus::StillAlive
            });
            if status == WaitStatus::StillAlive {
                kill(copy, Signal::SIGKILL)?;
                waitpid(copy, None)?;
            }
            if status == WaitStatus::Exited(copy, 0) { Ok(()) } else { fail(format!("{status:?}")) }
        });
        is_over.store(true, Ordering::Relaxed);
        waited
    })
}

pub(crate) fn a_bridge_of_the_administrators(_: &Scene) -> Result {
    ip("link add br0 type bridge")?;
    ip("link set br0 up")?;
    let error = Bridge::new("br0").subnet("10.10.0.0/24").create().expect_err("it is not ours");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    assert!(error.hint().is_some());
    assert!(interfaces()?.contains_key("br0"));
    assert!(!run("nft list ruleset")?.contains("belljar"));
    // Nor is one of a host whose locks are elsewhere, as long as there are sandboxes on it.
    ip("link add belljar0 type bridge")?;
    ip("link set belljar0 alias belljar")?;
    ip("link add bj0a0a0002 type veth peer name other")?;
    ip("link set bj0a0a0002 master belljar0")?;
    let error = builder().create().expect_err("there is a sandbox on it");
    assert!(explain(&error).contains("sandboxes of another host"), "{}", explain(&error));
    assert!(interfaces()?.contains_key("bj0a0a0002"));
    ip("link del bj0a0a0002")?;
    drop(builder().create()?);
    assert!(!interfaces()?.contains_key("belljar0"));
    Ok(())
}

/// The kernel gives an address back when the sandbox is dead, its host when it hears of that.
pub(crate) fn an_end_that_is_heard_late_takes_nothing_from_the_next(_: &Scene) -> Result {
    let bridge = Bridge::new("belljar0").subnet("10.10.0.0/30").create()?;
    let _server = serve_here("0.0.0.0", 7000)?;
    let late = plain(&bridge).spawn(Command::new("/bin/true"))?;
    // The only address is free again although nobody has waited for its program.
    let open = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("10.10.0.1:7000")));
    let mut next = None;
    assert!(support::within(Duration::from_secs(5), || {
        next = open.start().ok();
        next.is_some()
    }));
    let next = next.expect("it has started");
    assert!(late.wait_with_output()?.outcome.success());
    assert_eq!(succeed(next.output(crate::scene::client("tcp", "10.10.0.1", 7000))?)?.trim(), "10.10.0.2");
    Ok(())
}

pub(crate) fn an_end_that_is_heard_late_closes_nobodys_port(scene: &Scene) -> Result {
    let bridge = builder().enable_forwarding().create()?;
    let sandbox = on(Network::bridge(&bridge).publish(8080, 8000));
    let late = sandbox.spawn(Command::new("/bin/true"))?;
    // The port is free again although nobody has waited for its program, and the next sandbox has another address.
    let mut next = None;
    assert!(support::within(Duration::from_secs(5), || {
        next = sandbox.start().ok();
        next.is_some()
    }));
    let next = next.expect("it has started");
    assert_ne!(next.addresses()[0].to_string(), "10.10.0.2");
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", crate::scene::SERVER, "0.0.0.0", "8000"]);
    let _server = next.spawn(&server)?;
    let ask = || {
        support::within(Duration::from_secs(5), || {
            scene.ask("tcp", HOST, 8080).is_ok_and(|heard| heard == OUTSIDE)
        })
    };
    assert!(ask());
    assert!(late.wait_with_output()?.outcome.success());
    assert!(ask());
    Ok(())
}

/// What is counted is its own, and nothing of the next one that has its address.
pub(crate) fn counts_that_are_heard_late_are_of_nobody_else(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let bridge = Bridge::new("belljar0").subnet("10.10.0.0/30").masquerade().enable_forwarding().create()?;
    let ended = || {
        support::within(Duration::from_secs(5), || {
            interfaces().is_ok_and(|all| !all.keys().any(|name| name.starts_with("bj")))
        })
    };
    let late = plain(&bridge).spawn(Command::new("/bin/true"))?;
    assert!(ended());
    // The next has ended, too, before anybody asks.
    let mut command = crate::scene::client("tcp", OUTSIDE, 8000);
    let next = plain(&bridge).spawn(command.stdout(belljar::Stdio::piped()))?;
    assert!(ended());
    let outcome = late.wait_with_output()?.outcome;
    assert!(outcome.usage.sent.is_none() && outcome.egress.is_empty(), "{outcome:?}");
    let output = next.wait_with_output()?;
    assert!(output.outcome.usage.sent.expect("counted").packets > 0);
    assert_eq!(output.outcome.egress[1].traffic.packets, 1, "{:?}", output.outcome.egress);
    assert_eq!(succeed(output)?.trim(), HOST);
    Ok(())
}

pub(crate) fn of_two_that_end_at_once_one_is_the_last(_: &Scene) -> Result {
    for _ in 0..100 {
        let both = [builder().create()?, builder().create()?];
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for bridge in both {
                scope.spawn(|| {
                    together.wait();
                    drop(bridge);
                });
            }
        });
        assert!(!interfaces()?.contains_key("belljar0"));
    }
    Ok(())
}

/// Whoever saves the rules of a machine saves these with them.
pub(crate) fn rules_can_be_saved(_: &Scene) -> Result {
    let bridge = builder().subnet6("fd00:10::/64").masquerade().enable_forwarding().create()?;
    let egress = Egress::allow_all().deny("10.0.0.0/8:80").allow("[2001:db8::]/64:53/udp");
    let network = Network::bridge(&bridge).egress(egress).publish(8080, 80).publish_udp(53, 53);
    let container = on(network).start()?;
    let scratch = support::Scratch::new();
    let rules = run("nft list ruleset")?;
    assert!(rules.contains("comment \"port "), "{rules}");
    let saved = scratch.file("rules", format!("flush ruleset\n{rules}"));
    run(&format!("nft --file {}", saved.display()))?;
    assert!(container.status(Command::new("/bin/true"))?.success());
    Ok(())
}

pub(crate) fn a_thousand_rules(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let many = (0..999)
        .fold(Egress::deny_all(), |egress, n| egress.allow(format!("198.51.{}.{}:443", n / 250, n % 250)));
    let sandbox = on(Network::bridge(&bridge).egress(many.allow(format!("{OUTSIDE}:8000"))));
    let output = sandbox.output(crate::scene::client("tcp", OUTSIDE, 8000))?;
    let counted = output.outcome.egress.clone();
    assert_eq!(succeed(output)?.trim(), HOST);
    assert_eq!(counted.len(), 1003);
    assert_eq!(counted[999].traffic.packets, 1, "{:?}", counted[999]);
    Ok(())
}

/// Somebody who keeps a network namespace keeps the wire in it, and no way to anywhere.
pub(crate) fn a_wire_that_somebody_keeps_leads_nowhere(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let _server = serve_here("0.0.0.0", 7000)?;
    let network = Network::bridge(&bridge).egress(Egress::deny_all().allow("10.10.0.1:7000"));
    let container = on(network).start()?;
    let keeper = support::closed().network(Network::join(&container)).start()?;
    let ask = || -> Result<String> {
        Ok(succeed(keeper.output(crate::scene::client("tcp", "10.10.0.1", 7000))?)?.trim().to_owned())
    };
    assert_eq!(ask()?, "10.10.0.2");
    drop(container);
    assert!(matches!(&*ask()?, "timeout" | "EHOSTUNREACH"));
    // The bridge takes it along, and does not leave it to the host.
    drop(bridge);
    assert!(!interfaces()?.keys().any(|name| name.starts_with("bj")), "{:?}", interfaces()?);
    assert!(matches!(&*ask()?, "ENETUNREACH" | "EHOSTUNREACH"));
    Ok(())
}

/// A host that has lost its power over the network meanwhile is told, and hangs nowhere.
pub(crate) fn powerless(_: &[std::ffi::OsString]) -> i32 {
    let Ok(bridge) = builder().create() else { return 1 };
    let Ok(container) = plain(&bridge).start() else { return 2 };
    let mut header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    let pointers = [header.as_mut_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    if support::raw::syscall(libc::SYS_capget, pointers).is_err() {
        return 3;
    }
    data[0] &= !(1 << 12);
    // The kernel reads it, by its address.
    std::hint::black_box(&data);
    if support::raw::syscall(libc::SYS_capset, pointers).is_err() {
        return 4;
    }
    drop(container);
    match plain(&bridge).start() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => 0,
        Err(error) => {
            println!("{}", explain(&error));
            5
        }
        Ok(_) => 6,
    }
}

pub(crate) fn a_host_that_has_lost_its_power(_: &Scene) -> Result {
    support::run_helper(&mut support::role_command("powerless", &[]), Duration::from_secs(20))?
        .succeed()
        .map(drop)
}

pub(crate) fn every_kind_of_start(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let _server = serve_here("0.0.0.0", 7000)?;
    let network = Network::bridge(&bridge).egress(Egress::deny_all().allow("10.10.0.1:7000"));
    let client = crate::scene::client("tcp", "10.10.0.1", 7000);
    let fine = |output: Output| -> Result {
        let said = succeed(output)?;
        assert!(said.starts_with("10.10.0."), "{said}");
        Ok(())
    };
    let plan = on(network).plan()?;
    fine(plan.output(&client)?)?;
    let ahead = plan.prepare_ahead(2)?;
    for _ in 0..3 {
        fine(ahead.output(&client)?)?;
    }
    let container = plan.start()?;
    fine(container.output(&client)?)?;
    let before = container.addresses();
    container.reset()?;
    fine(container.output(&client)?)?;
    assert_ne!(before, container.addresses());
    // Who joins it has the same wire.
    let guest = support::closed().network(Network::join(&container));
    let heard = succeed(guest.output(&client)?)?;
    assert_eq!(heard.trim(), container.addresses()[0].to_string());
    let pool = plan.pool().size(2).start()?;
    for _ in 0..4 {
        fine(pool.output(&client)?)?;
    }
    let none = support::closed().network(Network::none());
    assert_eq!(ask(&none, "tcp", "10.10.0.1", 7000)?, "ENETUNREACH");
    let host = support::closed().network(Network::host());
    assert_eq!(ask(&host, "tcp", "10.10.0.1", 7000)?, "10.10.0.1");
    // The last call counts.
    let sandbox = plain(&bridge);
    assert_eq!(ask(&sandbox.clone().share_net(), "tcp", "10.10.0.1", 7000)?, "10.10.0.1");
    assert_eq!(ask(&sandbox.network(Network::none()), "tcp", "10.10.0.1", 7000)?, "ENETUNREACH");
    Ok(())
}

pub(crate) fn rates_are_kept(scene: &Scene) -> Result {
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let _sink = scene.script_outside(SINK)?;
    let network = Network::bridge(&bridge).ingress_max(Bytes::mib(4)).egress_max(Bytes::mib(2));
    for (direction, rate) in [("up", 2_u64 << 20), ("down", 4 << 20)] {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", TRANSFER, direction, OUTSIDE]);
        let output = on(network.clone()).output(&command)?;
        let usage = output.outcome.usage;
        let measured: f64 = succeed(output)?.trim().parse().expect("a number");
        let of_limit = measured / rate as f64;
        assert!((0.9..=1.1).contains(&of_limit), "{direction}: {of_limit:.3} of {rate} bytes a second");
        let counted = if direction == "up" { usage.sent } else { usage.received };
        let counted = counted.expect("counted").bytes as f64;
        assert!(counted > measured * 2.9, "{counted} of {measured} a second");
    }
    // And what there is without.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", TRANSFER, "up", OUTSIDE]);
    let free: f64 = succeed(plain(&bridge).output(&command)?)?.trim().parse().expect("a number");
    assert!(free > (4 << 20) as f64, "{free} bytes a second");
    Ok(())
}

/// Takes what it gets, or gives without end.
const SINK: &str = "
import socket, threading
s = socket.socket()
s.bind(('0.0.0.0', 9000)); s.listen(8)
print('ready', flush=True)
def serve(c):
    try:
        if c.recv(1) == b'u':
            while c.recv(65536): pass
        else:
            while True: c.sendall(b'x' * 65536)
    except OSError: pass
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";

/// Three seconds of it, after one to get going; says how many bytes a second.
const TRANSFER: &str = "
import socket, sys, time
s = socket.create_connection((sys.argv[2], 9000))
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
up = sys.argv[1] == 'up'
s.sendall(b'u' if up else b'd')
def some(): return s.send(b'x' * 8192) if up else len(s.recv(65536))
end = time.monotonic() + 1
while time.monotonic() < end: some()
begin = time.monotonic(); total = 0
while time.monotonic() < begin + 3: total += some()
print(total / (time.monotonic() - begin))
";

/// A host that may not make a bridge.
pub(crate) fn nobody(_: &[std::ffi::OsString]) -> i32 {
    match builder().create() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && error.hint().is_some() => 0,
        Err(error) => {
            println!("{}", explain(&error));
            1
        }
        Ok(_) => 2,
    }
}

pub(crate) fn an_unprivileged_host_is_told(_: &Scene) -> Result {
    support::as_nobody("nobody", &[], Duration::from_secs(20))?.succeed().map(drop)
}
