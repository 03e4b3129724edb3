//! Who may talk to whom.

use std::time::Duration;

use belljar::{Capability, Command, Container, Egress, ErrorKind, Network, Outcome, Sandbox, Seccomp, Step};

use crate::scene::{
    CLIENT, DENIED, HOST, HOST_6, OUTSIDE, OUTSIDE_6, PROHIBITED, PROHIBITED_6, SERVER, Scene, ask, ask_here,
    builder, client, nft, on, plain,
};
use crate::support::{self, Result, explain, fail, succeed};

pub(crate) fn outside_by_masquerade(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    assert!(bridge.switched_on_forwarding());
    for kind in ["tcp", "udp"] {
        assert_eq!(ask(&plain(&bridge), kind, OUTSIDE, 8000)?, HOST, "{kind}");
    }
    // What the host says to itself is none of that.
    let _service = crate::scene::serve_here("0.0.0.0", 7000)?;
    assert_eq!(ask_here("tcp", "10.10.0.1", 7000)?, "10.10.0.1");
    drop(bridge);
    // Without it the outside, which knows no way back, hears the sandbox's own address.
    let bridge = builder().create()?;
    assert!(!bridge.switched_on_forwarding());
    assert_eq!(ask(&plain(&bridge), "tcp", OUTSIDE, 8000)?, "timeout");
    scene.outside(&format!("ip route add 10.10.0.0/24 via {HOST}"))?;
    assert!(ask(&plain(&bridge), "tcp", OUTSIDE, 8000)?.starts_with("10.10.0."));
    Ok(())
}

pub(crate) fn outside_by_ipv6(scene: &Scene) -> Result {
    let _server = scene.serve_outside("::", 8000)?;
    let bridge = builder().subnet6("fd00:10::/64").masquerade().enable_forwarding().create()?;
    assert_eq!(bridge.gateway6().map(|address| address.to_string()).as_deref(), Some("fd00:10::1"));
    for kind in ["tcp", "udp"] {
        assert_eq!(ask(&plain(&bridge), kind, OUTSIDE_6, 8000)?, HOST_6, "{kind}");
    }
    let none = on(Network::bridge(&bridge).egress(Egress::deny_all()));
    assert_eq!(ask(&none, "tcp", OUTSIDE_6, 8000)?, DENIED);
    let rule = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("[2001:db8::]/64:8000")));
    assert_eq!(ask(&rule, "tcp", OUTSIDE_6, 8000)?, HOST_6);
    assert_eq!(ask(&rule, "udp", OUTSIDE_6, 8000)?, PROHIBITED_6);
    // Its own addresses are not the host's, nor another sandbox's.
    let container = plain(&bridge).start()?;
    let server = serving(&container, "::", 9000)?;
    let there = server.0.addresses()[1].to_string();
    assert_eq!(ask(&plain(&bridge), "tcp", &there, 9000)?, DENIED);
    let friend = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(format!("[{there}]:9000"))));
    assert!(ask(&friend, "tcp", &there, 9000)?.starts_with("fd00:10::"));
    Ok(())
}

/// A container in which the server of the scene runs.
struct Serving<'a>(
    &'a Container,
    #[expect(dead_code, reason = "it runs as long as it is there")] belljar::Child,
);

fn serving<'a>(container: &'a Container, address: &str, port: u16) -> Result<Serving<'a>> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", SERVER, address, &port.to_string()]);
    let child = container.spawn(&command)?;
    let there = container.addresses()[usize::from(address.contains(':'))].to_string();
    let is_there = support::within(Duration::from_secs(5), || {
        ask_here("tcp", &there, port).is_ok_and(|heard| heard != "ECONNREFUSED")
    });
    if is_there { Ok(Serving(container, child)) } else { fail("the server in the sandbox does not answer") }
}

pub(crate) fn sandboxes_are_apart(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let container = plain(&bridge).start()?;
    let server = serving(&container, "0.0.0.0", 8000)?;
    let there = server.0.addresses()[0].to_string();
    // The host reaches it, another sandbox does not.
    assert_eq!(ask_here("tcp", &there, 8000)?, "10.10.0.1");
    for (kind, denied) in [("tcp", DENIED), ("udp", PROHIBITED)] {
        assert_eq!(ask(&plain(&bridge), kind, &there, 8000)?, denied);
    }
    for wide in ["0.0.0.0/0", "10.0.0.0/8"] {
        let client = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(wide)));
        assert_eq!(ask(&client, "tcp", &there, 8000)?, DENIED, "{wide}");
    }
    // But for one that may.
    for narrow in [format!("{there}:8000"), "10.10.0.0/24".to_owned()] {
        let client = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(&*narrow))).start()?;
        let own = client.addresses()[0].to_string();
        assert_eq!(succeed(client.output(self::client("tcp", &there, 8000))?)?.trim(), own, "{narrow}");
        // That is no way back.
        let _server = serving(&client, "0.0.0.0", 8000)?;
        assert_eq!(succeed(container.output(self::client("tcp", &own, 8000))?)?.trim(), DENIED);
    }
    Ok(())
}

pub(crate) fn the_first_rule_that_fits_decides(scene: &Scene) -> Result {
    let _servers = [scene.serve_outside("0.0.0.0", 8000)?, scene.serve_outside("0.0.0.0", 8001)?];
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let closed = "closed";
    let cases: Vec<(Egress, [&str; 4])> = vec![
        (Egress::allow_all(), [HOST; 4]),
        (Egress::deny_all(), [closed; 4]),
        (Egress::deny_all().allow("192.0.2.2:8000"), [HOST, closed, closed, closed]),
        (Egress::deny_all().allow("192.0.2.0/24:8000-8001"), [HOST, HOST, closed, closed]),
        (Egress::deny_all().allow("192.0.2.0/24:8001/udp"), [closed, closed, closed, HOST]),
        (Egress::deny_all().allow("192.0.2.2"), [HOST; 4]),
        (Egress::deny_all().allow("0.0.0.0/0/udp"), [closed, closed, HOST, HOST]),
        (Egress::allow_all().deny("192.0.2.0/24:8000"), [closed, HOST, HOST, HOST]),
        (Egress::deny_all().deny("192.0.2.2:8001").allow("192.0.2.0/24/tcp"), [HOST, closed, closed, closed]),
        (Egress::deny_all().allow("192.0.2.3").allow("outside.test:8001"), [closed, HOST, closed, closed]),
    ];
    for (egress, wanted) in cases {
        let sandbox = on(Network::bridge(&bridge).egress(egress.clone()));
        let asked = [("tcp", 8000), ("tcp", 8001), ("udp", 8000), ("udp", 8001)];
        for ((kind, port), wanted) in asked.into_iter().zip(wanted) {
            let heard = ask(&sandbox, kind, OUTSIDE, port)?;
            let heard = match (kind, heard.as_str()) {
                ("tcp", DENIED) | ("udp", PROHIBITED) => closed,
                (_, heard) => heard,
            };
            assert_eq!(heard, wanted, "{egress:?}: {kind} {port}");
        }
    }
    let sandbox = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("no.such.name.invalid:1")));
    let error = sandbox.spawn(client("tcp", OUTSIDE, 8000)).expect_err("no such name");
    assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::Network), "{}", explain(&error));
    Ok(())
}

pub(crate) fn the_metadata_service_is_closed(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 80)?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    assert_eq!(ask_here("tcp", "169.254.169.254", 80)?, HOST, "the host reaches it");
    for egress in [
        Egress::allow_all(),
        Egress::deny_all().allow("0.0.0.0/0"),
        Egress::deny_all().allow("168.0.0.0/6:80"),
        Egress::deny_all().allow("outside.test"),
    ] {
        let sandbox = on(Network::bridge(&bridge).egress(egress.clone()));
        assert_eq!(ask(&sandbox, "tcp", "169.254.169.254", 80)?, DENIED, "{egress:?}");
    }
    let open = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("169.254.169.254:80")));
    assert_eq!(ask(&open, "tcp", "169.254.169.254", 80)?, HOST);
    Ok(())
}

pub(crate) fn metadata_services_by_ipv6_are_closed(scene: &Scene) -> Result {
    let bridge = builder().subnet6("fd00:10::/64").masquerade().enable_forwarding().create()?;
    let _server = scene.serve_outside("::", 80)?;
    let services = [
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:100::100:200",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
    ];
    let closed = plain(&bridge).start()?;
    let rules =
        services.iter().fold(Egress::deny_all(), |rules, service| rules.allow(format!("[{service}]:80")));
    let open = on(Network::bridge(&bridge).egress(rules)).start()?;
    let hears = |container: &Container, service| -> Result<String> {
        Ok(succeed(container.output(client("tcp", service, 80))?)?.trim().to_owned())
    };
    for service in services {
        crate::scene::ip(&format!("-6 route add {service} via {OUTSIDE_6}"))?;
        scene.outside(&format!("ip addr add {service}/128 dev lo"))?;
        assert_eq!(ask_here("tcp", service, 80)?, HOST_6, "the host reaches it");
        assert_eq!(hears(&closed, service)?, DENIED, "{service}");
        assert_eq!(hears(&open, service)?, HOST_6, "{service}");
    }
    Ok(())
}

/// Connects to each address and waits as long as it takes, as most programs do. An error by ICMP that comes while the call that
/// sends the first packet still has the socket is put aside, and heard after the second packet, which is a second later.
pub(crate) const PATIENT: &str = r#"
import errno, socket, sys
def again():
    names, values = [line.split() for line in open('/proc/self/net/netstat') if line.startswith('TcpExt:')]
    return int(values[names.index('TCPSynRetrans')])
for address in sys.argv[1:]:
    before = again()
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        s.connect((address, 8000))
        print('connected', end=' ')
    except OSError as e:
        print(errno.errorcode[e.errno], end=' ')
    print('at once' if again() == before else 'later')
"#;

/// Connections that the host remembers.
fn noted() -> Result<i64> {
    Ok(std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?.trim().parse()?)
}

pub(crate) fn who_is_denied_does_not_wait(_: &Scene) -> Result {
    let bridge = builder().subnet6("fd00:10::/64").masquerade().enable_forwarding().create()?;
    let neighbour = plain(&bridge).start()?;
    let [neighbour_4, neighbour_6] = [0, 1].map(|index| neighbour.addresses()[index].to_string());
    let denied = [OUTSIDE, OUTSIDE_6, "10.10.0.1", "fd00:10::1", HOST, HOST_6, &neighbour_4, &neighbour_6];
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PATIENT]).args(denied);
    let closed = on(Network::bridge(&bridge).egress(Egress::deny_all())).start()?;
    let known = noted()?;
    for _ in 0..25 {
        let told = succeed(closed.output(&command)?)?;
        assert_eq!(told, format!("{DENIED} at once\n").repeat(denied.len()), "{denied:?}");
    }
    // Nor does the host remember what it has denied and answered 200 times.
    assert!(noted()? <= known, "{} and {known}", noted()?);
    Ok(())
}

/// Answers one name.
pub(crate) const NAME_SERVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 53))
print('ready', flush=True)
while True:
    asked, who = s.recvfrom(512)
    end = asked.index(b'\0', 12) + 5
    kind = asked[end - 4:end - 2]
    known = asked[12:end - 4] == b'\x07service\x04test\0' and kind == b'\0\1'
    flags = b'\x81\x80' if known or b'service' in asked else b'\x81\x83'
    answer = b'\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4' + socket.inet_aton('192.0.2.2') if known else b''
    s.sendto(asked[:2] + flags + b'\0\1' + (b'\0\1' if known else b'\0\0') + b'\0\0\0\0' + asked[12:end] + answer, who)
"#;

pub(crate) fn names_are_found(scene: &Scene) -> Result {
    let _name_server = scene.script_outside(NAME_SERVER)?;
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let server = OUTSIDE.parse().expect("an address");
    let bridge = builder().masquerade().enable_forwarding().dns([server]).create()?;
    let script = "import socket\ntry: print(socket.gethostbyname('service.test'))\nexcept OSError as e: print(type(e).__name__)";
    let find = |egress| -> Result<String> {
        let sandbox = on(Network::bridge(&bridge).egress(egress));
        succeed(sandbox.output(Command::new("/usr/bin/python3").args(["-c", script]))?)
    };
    assert_eq!(find(Egress::allow_all())?, "192.0.2.2\n");
    let script = "import socket; print(socket.gethostbyname(socket.gethostname()))";
    let own = plain(&bridge).output(Command::new("/usr/bin/python3").args(["-c", script]))?;
    assert_eq!(succeed(own)?, "127.0.1.1\n");
    assert_eq!(find(Egress::deny_all().allow("192.0.2.2:53/udp"))?, "192.0.2.2\n");
    assert_eq!(find(Egress::deny_all().allow("192.0.2.2:8000"))?, "gaierror\n");
    Ok(())
}

pub(crate) fn what_went_over_the_wire_is_counted(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let egress = Egress::deny_all().deny("192.0.2.9").allow("192.0.2.2:8000").allow("192.0.2.3");
    let sandbox = on(Network::bridge(&bridge).egress(egress));
    let script = format!(
        "{CLIENT}\nfor n in range(2):\n  u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  u.sendto(b'x' * 72, ('192.0.2.7', 9))\n\
         u.close()\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nu.sendto(b'x', ('169.254.1.1', 9))\n"
    );
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &script, "tcp", OUTSIDE, "8000"]);
    let output = sandbox.output(&command)?;
    let outcome: Outcome = output.outcome.clone();
    assert_eq!(succeed(output)?.trim(), HOST);
    let counted: Vec<(&str, u64)> =
        outcome.egress.iter().map(|one| (&*one.rule, one.traffic.packets)).collect();
    assert_eq!(
        counted,
        [
            ("deny 192.0.2.9", 0),
            ("allow 192.0.2.2:8000", 1),
            ("allow 192.0.2.3", 0),
            ("deny protected", 1),
            ("deny otherwise", 2),
            ("deny more than 4096 connections", 0),
        ]
    );
    assert_eq!(outcome.egress[4].traffic.bytes, 200, "two packets of 20, 8 and 72 bytes");
    let (sent, received) = (outcome.usage.sent.expect("counted"), outcome.usage.received.expect("counted"));
    // Address, handshake, goodbye, four datagrams; and what answers them.
    assert!(sent.packets >= 7 && sent.bytes >= 300 && sent.bytes < 2000, "{sent:?}");
    assert!(received.packets >= 4 && received.bytes >= 200 && received.bytes < 2000, "{received:?}");
    let alone = support::closed().output(Command::new("/bin/true"))?.outcome;
    assert!(alone.usage.sent.is_none() && alone.egress.is_empty());
    Ok(())
}

/// What scripts make frames with: the wire, this end's own addresses, and packets with their sums.
const FRAMES: &str = r#"
import fcntl, socket, struct, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('eth0', 0))
name = b'eth0'.ljust(256, b'\0')
hardware = fcntl.ioctl(wire.fileno(), 0x8927, name)[18:24]
own = fcntl.ioctl(wire.fileno(), 0x8915, name)[20:24]
gateway, gateway_hardware = socket.inet_aton('10.10.0.1'), bytes.fromhex('02620a0a0001')
def four(text): return socket.inet_aton(text)
def six(text): return socket.inet_pton(socket.AF_INET6, text)
def checksum(b):
    total = sum(struct.unpack('>%dH' % (len(b) // 2), b))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def udp(to_port, text): return struct.pack('>HHHH', 1000, to_port, 8 + len(text), 0) + text
def ipv4(source, to, protocol, data, options=b''):
    words = 5 + len(options) // 4
    head = struct.pack('>BBHHHBBH4s4s', 0x40 + words, 0, 4 * words + len(data), 1, 0, 64, protocol, 0, source, to) + options
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + data
def ipv6(source, to, kind, data): return struct.pack('>IHBB', 6 << 28, len(data), kind, 255) + source + to + data
def icmp6(source, to, body):
    total = checksum(source + to + struct.pack('>II', len(body), 58) + body)
    return body[:2] + struct.pack('>H', total) + body[4:]
def send4(packet, to=gateway_hardware, source=hardware): wire.send(to + source + b'\x08\0' + packet)
def send6(packet, to=gateway_hardware): wire.send(to + hardware + b'\x86\xdd' + packet)
"#;

/// A sandbox in which one may make frames.
fn framing(sandbox: Sandbox) -> Sandbox {
    sandbox.keep_capability(Capability::NetRaw).seccomp(Seccomp::new().allow(["socket"]))
}

/// A program that runs such a script.
fn frames(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &format!("{FRAMES}{script}")]).args(args);
    command
}

/// Takes the address of another, and what it takes to be believed; then sends.
const SPOOF: &str = r#"
other, outside = four(sys.argv[1]), four(sys.argv[2])
def tell(source, sender, text): send4(ipv4(sender, outside, 17, udp(9, text)), source=source)
tell(hardware, other, b'address')
tell(bytes([2, 98]) + other, other, b'both')
tell(bytes([2, 98]) + other, own, b'hardware')
# A tag of a VLAN before the packet.
wire.send(gateway_hardware + hardware + b'\x81\0\0\x01\x08\0' + b'\0' * 40)
tell(hardware, own, b'honest')
"#;

/// Tells every datagram that comes.
const LISTEN: &str = r#"
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 9))
s.settimeout(2 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1))
print('ready', flush=True)
try:
    while True:
        text, who = s.recvfrom(100)
        print(text.decode(), flush=True)
        s.sendto(b'heard', who)
except socket.timeout:
    pass
"#;

pub(crate) fn nobody_has_the_address_of_another(scene: &Scene) -> Result {
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let victim = plain(&bridge).start()?;
    let there = victim.addresses()[0].to_string();
    let attack = |attacker: &Container| -> Result<String> {
        let listener = scene.script_outside(LISTEN)?;
        succeed(attacker.output(frames(SPOOF, &[&there, OUTSIDE]))?)?;
        listener.rest()
    };
    // The attacker may send itself, or "honest" would say nothing.
    let attacker =
        framing(on(Network::bridge(&bridge).egress(Egress::deny_all().allow("192.0.2.2:9/udp")))).start()?;
    assert_eq!(attack(&attacker)?, "honest\n");
    // What the attack does where nothing looks at who sends.
    nft("delete table bridge belljar_belljar0")?;
    assert_eq!(attack(&attacker)?, "address\nboth\nhardware\nhonest\n");
    Ok(())
}

pub(crate) fn a_published_port(scene: &Scene) -> Result {
    let bridge = builder().create()?;
    let error =
        on(Network::bridge(&bridge).publish(8080, 8000)).plan().expect_err("the host does not forward");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("enable_forwarding")));
    drop(bridge);
    let bridge = builder().subnet6("fd00:10::/64").enable_forwarding().create()?;
    let network = Network::bridge(&bridge).publish(8080, 8000).publish_udp(5353, 8000);
    let container = on(network.clone()).start()?;
    let _server = serving(&container, "::", 8000)?;
    // From outside, whose address the sandbox sees, and from the host itself by the same way.
    assert_eq!(scene.ask("tcp", HOST, 8080)?, format!("::ffff:{OUTSIDE}"));
    assert_eq!(scene.ask("udp", HOST, 5353)?, format!("::ffff:{OUTSIDE}"));
    assert_eq!(scene.ask("tcp", HOST_6, 8080)?, OUTSIDE_6);
    assert_eq!(scene.ask("udp", HOST_6, 5353)?, OUTSIDE_6);
    assert_eq!(ask_here("tcp", HOST, 8080)?, format!("::ffff:{HOST}"));
    assert_eq!(ask_here("tcp", HOST_6, 8080)?, HOST_6);
    assert_eq!(scene.ask("tcp", HOST, 8000)?, "ECONNREFUSED");
    scene.outside(&format!("ip route add 10.10.0.0/24 via {HOST}"))?;
    let own = container.addresses()[0].to_string();
    assert_eq!(scene.ask("tcp", &own, 8000)?, PROHIBITED, "nobody outside reaches it by its own address");
    let error = on(network.clone()).start().expect_err("it is taken");
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::InvalidConfig, Step::Network),
        "{}",
        explain(&error)
    );
    assert!(error.to_string().contains("8080") || error.to_string().contains("5353"), "{}", explain(&error));
    drop(_server);
    drop(container);
    assert_eq!(scene.ask("tcp", HOST, 8080)?, "ECONNREFUSED");
    // It is free again.
    let container = on(network).start()?;
    let _server = serving(&container, "::", 8000)?;
    assert_eq!(scene.ask("tcp", HOST, 8080)?, format!("::ffff:{OUTSIDE}"));
    Ok(())
}

/// A frame to everybody on the wire.
const SHOUT: &str = r#"
for n in range(5): wire.send(b'\xff' * 6 + hardware + b'\x88\xb5' + b'hello, neighbour'.ljust(50))
"#;
const OVERHEAR: &str = "
import socket, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
wire.settimeout(3)
open('/tmp/ready', 'w').close()
try: print(wire.recv(100)[14:30].decode())
except socket.timeout: print('silence')
";

pub(crate) fn frames_do_not_reach_a_neighbour(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let sandbox = framing(plain(&bridge));
    let [speaker, listener] = [sandbox.start()?, sandbox.start()?];
    let hear = || -> Result<String> {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", OVERHEAR]).stdout(belljar::Stdio::piped());
        listener.status(Command::new("/bin/rm").args(["-f", "/tmp/ready"]))?;
        let child = listener.spawn(&command)?;
        support::within(Duration::from_secs(5), || {
            listener
                .status(Command::new("/usr/bin/test").args(["-e", "/tmp/ready"]))
                .is_ok_and(|outcome| outcome.success())
        });
        succeed(speaker.output(frames(SHOUT, &[]))?)?;
        succeed(child.wait_with_output()?)
    };
    assert_eq!(hear()?, "silence\n");
    // Two things stand in the way: the rules about frames, and the isolation of ports.
    nft("delete table bridge belljar_belljar0")?;
    assert_eq!(hear()?, "silence\n");
    for port in crate::scene::interfaces()?.keys().filter(|name| name.starts_with("bj")) {
        crate::scene::run(&format!("bridge link set dev {port} isolated off bcast_flood on mcast_flood on"))?;
    }
    assert_eq!(hear()?, "hello, neighbour\n");
    Ok(())
}

/// Sends a datagram from a port that is known, and waits for an answer.
const SEND: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 2000))
s.settimeout(0.5)
try:
    s.sendto(sys.argv[2].encode(), (sys.argv[1], 9))
    s.recv(100)
except OSError: pass
";

/// Asks from a port that is known.
const CONNECT: &str = "
import errno, os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 3000))
s.settimeout(1 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1))
try:
    s.connect((sys.argv[1], 8080))
    s.send(b'who')
    print(s.recv(100).decode())
except socket.timeout: print('timeout')
except OSError as e: print(errno.errorcode[e.errno])
";

pub(crate) fn nobody_goes_on_with_the_connections_of_another(scene: &Scene) -> Result {
    // One address, which each sandbox gets after the other.
    let bridge =
        belljar::Bridge::new("belljar0").subnet("10.10.0.0/30").masquerade().enable_forwarding().create()?;
    let send = |egress: Egress, text: &str| -> Result {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", SEND, OUTSIDE, text]);
        succeed(on(Network::bridge(&bridge).egress(egress)).output(&command)?).map(drop)
    };
    let listener = scene.script_outside(LISTEN)?;
    send(Egress::allow_all(), "allowed")?;
    send(Egress::deny_all(), "denied")?;
    send(Egress::deny_all().allow("192.0.2.2:9/udp"), "allowed again")?;
    assert_eq!(listener.rest()?, "allowed\nallowed again\n");
    // Nor with those that others have begun.
    let connect = || scene.outside_script(CONNECT, &[HOST]);
    let container = on(Network::bridge(&bridge).publish_udp(8080, 8000)).start()?;
    let server = serving(&container, "0.0.0.0", 8000)?;
    assert_eq!(connect()?, format!("{OUTSIDE}\n"));
    drop(server);
    drop(container);
    let container = on(Network::bridge(&bridge).egress(Egress::deny_all())).start()?;
    let _server = serving(&container, "0.0.0.0", 8000)?;
    assert_eq!(connect()?, "ECONNREFUSED\n");
    Ok(())
}

/// Says that the gateway's neighbours are here, by ARP and by IPv6's neighbour advertisement.
const POISON: &str = r#"
other, other6, own6, gateway6 = four(sys.argv[1]), six(sys.argv[2]), six(sys.argv[3]), six('fd00:10::1')
victim = bytes([2, 98]) + other
def arp(frame, sender, ip):
    body = struct.pack('>HHBBH', 1, 0x800, 6, 4, 2) + sender + ip + gateway_hardware + gateway
    wire.send(gateway_hardware + frame + b'\x08\x06' + body)
arp(hardware, hardware, other)
arp(victim, victim, other)
# A frame of the victim, so that the switch learns where it is.
arp(victim, hardware, own)
arp(hardware, victim, own)
def advertise(source):
    body = b'\x88\0\0\0' + b'\x60\0\0\0' + other6 + b'\x02\x01' + hardware
    send6(ipv6(source, gateway6, 58, icmp6(source, gateway6, body)))
advertise(own6)
advertise(b'\xfe\x80' + bytes(6) + bytes([hardware[0] ^ 2]) + hardware[1:3] + b'\xff\xfe' + hardware[3:])
"#;

pub(crate) fn nobody_says_where_another_is(_: &Scene) -> Result {
    let bridge = builder().subnet6("fd00:10::/64").enable_forwarding().create()?;
    let victim = plain(&bridge).start()?;
    let server = serving(&victim, "::", 8000)?;
    let [v4, v6] = [0, 1].map(|n| victim.addresses()[n].to_string());
    let attacker = framing(plain(&bridge)).start()?;
    let own6 = attacker.addresses()[1].to_string();
    let poison = || -> Result { succeed(attacker.output(frames(POISON, &[&v4, &v6, &own6]))?).map(drop) };
    let reach = || -> Result<[String; 2]> { Ok([ask_here("tcp", &v4, 8000)?, ask_here("tcp", &v6, 8000)?]) };
    let fine = ["::ffff:10.10.0.1".to_owned(), "fd00:10::1".to_owned()];
    poison()?;
    assert_eq!(reach()?, fine);
    // Where neither the rules nor what the host was told is there, both of them lead to the attacker.
    nft("delete table bridge belljar_belljar0")?;
    crate::scene::ip("neigh flush all nud permanent")?;
    crate::scene::ip("-6 neigh flush all nud permanent")?;
    assert_eq!(reach()?, fine);
    // What was heard within a second counts more (arp(7), locktime).
    std::thread::sleep(Duration::from_millis(1500));
    poison()?;
    let poisoned = reach()?;
    assert!(
        poisoned.iter().all(|heard| heard == "timeout" || heard == "EHOSTUNREACH" || heard == "ECONNREFUSED"),
        "{poisoned:?}"
    );
    drop(server);
    Ok(())
}

/// Frames to a group that no bridge sends on by itself: past its rules, unless something is done about that.
const GROUPS: &str = r#"
port, victim = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
packet = ipv4(own, gateway, 17, udp(port, b'hell'))
source, group = six('fe80::66'), six('ff02::1')
body = struct.pack('>BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + b'\1\1' + hardware
advertisement = ipv6(source, group, 58, icmp6(source, group, body))
for n in (0, 2, 3, 0xe):
    to = bytes.fromhex('0180c20000') + bytes([n])
    send4(packet, to)
    send6(advertisement, to)
    wire.send(to + victim + b'\x88\xcc' + bytes(46))
"#;

pub(crate) fn frames_to_groups_are_no_way_around(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let victim = plain(&bridge).start()?;
    let server = serving(&victim, "0.0.0.0", 8000)?;
    let there = victim.addresses()[0].to_string();
    let std::net::IpAddr::V4(address) = victim.addresses()[0] else { return fail("an address of IPv4") };
    let hardware: String =
        [2, 98].iter().chain(&address.octets()).map(|byte| format!("{byte:02x}")).collect();
    let attacker = framing(on(Network::bridge(&bridge).egress(Egress::deny_all()))).start()?;
    let mut listener = std::process::Command::new("/usr/bin/python3");
    listener.args(["-c", LISTEN]);
    let listener = crate::scene::ready(listener)?;
    succeed(attacker.output(frames(GROUPS, &["9", &hardware]))?)?;
    assert_eq!(listener.rest()?, "", "a service of the host");
    assert_eq!(ask_here("tcp", &there, 8000)?, "10.10.0.1", "the switch knows where the victim is");
    let routes = crate::scene::ip("-6 route show default")?;
    assert_eq!(routes, "", "nobody is a router of the host");
    drop(server);
    Ok(())
}

pub(crate) fn a_name_opens_nothing_that_is_protected(scene: &Scene) -> Result {
    let _outside = scene.serve_outside("0.0.0.0", 80)?;
    let _here = crate::scene::serve_here("0.0.0.0", 7000)?;
    // Whoever has the name says which addresses it has.
    std::fs::write(
        "/etc/hosts",
        format!("10.10.0.1 evil.test\n{HOST} evil.test\n169.254.169.254 evil.test\n"),
    )?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let sandbox = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("evil.test")));
    for (address, port) in [("10.10.0.1", 7000), (HOST, 7000), ("169.254.169.254", 80)] {
        assert_eq!(ask(&sandbox, "tcp", address, port)?, DENIED, "{address}");
    }
    Ok(())
}

pub(crate) fn what_is_denied_is_denied_of_the_host_as_well(_: &Scene) -> Result {
    let _server = crate::scene::serve_here("0.0.0.0", 7000)?;
    let bridge = builder().create()?;
    for (denied, allowed, address) in [
        ("10.10.0.0/24:7000", "10.10.0.1", "10.10.0.1"),
        ("192.0.2.0/24", HOST, HOST),
        ("0.0.0.0/0:7000", HOST, HOST),
    ] {
        let sandbox = on(Network::bridge(&bridge).egress(Egress::deny_all().deny(denied).allow(allowed)));
        assert_eq!(ask(&sandbox, "tcp", address, 7000)?, DENIED, "{denied}");
        let sandbox = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(allowed).deny(denied)));
        assert!(ask(&sandbox, "tcp", address, 7000)?.starts_with("10.10.0."), "{denied}");
    }
    Ok(())
}

/// An error about a connection of somebody else, with a secret in what it quotes.
const LEAK: &str = r#"
outside, host = four(sys.argv[1]), four(sys.argv[2])
quoted = ipv4(outside, host, 17, struct.pack('>HHHH', 9, 4000, 40, 0) + b'a secret of the sandbox, quoted.')
body = struct.pack('>BBHI', 3, 1, 0, 0) + quoted
body = body[:2] + struct.pack('>H', checksum(body)) + body[4:]
for n in range(3): send4(ipv4(own, outside, 1, body))
"#;

/// Hears errors.
const ERRORS: &str = r#"
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(2 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1))
print('ready', flush=True)
try:
    while True:
        if b'a secret' in s.recv(500): print('leaked', flush=True)
except socket.timeout: pass
"#;

pub(crate) fn errors_about_connections_of_others_are_not_sent(scene: &Scene) -> Result {
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let answers = scene.script_outside(LISTEN)?;
    // A connection of the host, which the kernel tracks.
    let script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 4000)); s.settimeout(3); \
                  s.sendto(b'x', ('192.0.2.2', 9)); s.recv(10)";
    let mut talk = std::process::Command::new("/usr/bin/python3");
    support::run_helper(talk.args(["-c", script]), Duration::from_secs(10))?.succeed()?;
    let attacker = framing(on(Network::bridge(&bridge).egress(Egress::deny_all()))).start()?;
    let listener = scene.script_outside(ERRORS)?;
    succeed(attacker.output(frames(LEAK, &[OUTSIDE, HOST]))?)?;
    assert_eq!(listener.rest()?, "");
    drop(answers);
    Ok(())
}

/// From outside, as if it were from where a sandbox may not send to.
const BORROW: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
source, to = (socket.inet_aton(a) for a in sys.argv[1:3])
data = struct.pack('>HHHH', 9, 8080, 11, 0) + b'who'
s.sendto(struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(data), 1, 0, 64, 17, 0, source, to) + data, (sys.argv[2], 0))
"#;

pub(crate) fn a_published_port_answers_nobody_it_may_not_ask(scene: &Scene) -> Result {
    let bridge = builder().enable_forwarding().create()?;
    let victim = plain(&bridge).start()?;
    let there = victim.addresses()[0].to_string();
    let network = Network::bridge(&bridge).egress(Egress::deny_all()).publish_udp(8080, 8000);
    let container = on(network).start()?;
    let _server = serving(&container, "0.0.0.0", 8000)?;
    // A real one first.
    assert_eq!(scene.ask("udp", HOST, 8080)?, OUTSIDE);
    scene.outside_script(BORROW, &[&there, HOST])?;
    scene.outside_script(BORROW, &["169.254.169.254", HOST])?;
    std::thread::sleep(Duration::from_millis(300));
    let dropped = nft("list chain inet belljar_belljar0 forward")?;
    // Counted where they were dropped, before any answer.
    let counts: Vec<&str> =
        dropped.lines().filter(|line| line.contains("drop") && !line.contains("packets 0")).collect();
    assert_eq!(counts.len(), 2, "{dropped}");
    Ok(())
}

pub(crate) fn what_another_bridge_publishes_is_of_the_host(scene: &Scene) -> Result {
    let bridge = builder().enable_forwarding().create()?;
    let other = belljar::Bridge::new("other0").subnet("10.11.0.0/24").masquerade().create()?;
    let container = on(Network::bridge(&bridge).publish(8080, 8000)).start()?;
    let _server = serving(&container, "0.0.0.0", 8000)?;
    assert_eq!(scene.ask("tcp", HOST, 8080)?, OUTSIDE);
    for address in [HOST, "10.10.0.1", "10.11.0.1"] {
        assert_eq!(ask(&plain(&other), "tcp", address, 8080)?, PROHIBITED, "{address}");
    }
    Ok(())
}

/// Begins as many connections as it is told, with a datagram from a new port each.
const MANY: &str = "
import socket, sys
for n in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: s.sendto(b'x', ('192.0.2.2', 9))
    except OSError: pass
    s.close()
";

/// Opens connections by TCP until one is refused, and says how many that were; again, when they are closed.
const OPEN: &str = "
import errno, socket, sys, time
def fill():
    open, told = [], None
    while told is None and len(open) < 50:
        s = socket.socket()
        s.settimeout(2)
        try:
            s.connect((sys.argv[1], int(sys.argv[2])))
            s.recv(100)
            open.append(s)
        except socket.timeout: told = 'timeout'
        except OSError as e: told = errno.errorcode[e.errno]
    print(len(open), told, flush=True)
    for s in open: s.close()
fill()
time.sleep(0.5)
fill()
";

pub(crate) fn connections_are_limited(scene: &Scene) -> Result {
    let _server = scene.serve_outside("0.0.0.0", 8000)?;
    let _service = crate::scene::serve_here("0.0.0.0", 7000)?;
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let many = |network: belljar::Bridged, number: u32| -> Result<Outcome> {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", MANY, &number.to_string()]);
        let output = on(network).output(&command)?;
        let outcome = output.outcome.clone();
        succeed(output)?;
        Ok(outcome)
    };
    let before = noted()?;
    // Unless somebody says otherwise: the table of this machine would have room for more.
    let outcome = many(Network::bridge(&bridge), 6000)?;
    let beyond = outcome.egress.last().expect("a rule");
    assert_eq!(beyond.rule, "deny more than 4096 connections");
    // Ports are chosen by chance, so that some come twice.
    assert!(beyond.traffic.packets >= 1000, "{beyond:?}");
    assert!((4000..=4100).contains(&(noted()? - before)), "{} and {before}", noted()?);
    // Those are forgotten with time, but not while this test counts.
    let before = noted()?;
    many(Network::bridge(&bridge).connections_max(10), 100)?;
    assert!((1..=10).contains(&(noted()? - before)), "{} and {before}", noted()?);
    // Those that are over do not count.
    let network =
        Network::bridge(&bridge).egress(Egress::allow_all().allow("10.10.0.1:7000")).connections_max(10);
    for (address, port) in [(OUTSIDE, "8000"), ("10.10.0.1", "7000")] {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", OPEN, address, port]);
        let told = succeed(on(network.clone()).output(&command)?)?;
        assert_eq!(told, "10 ECONNREFUSED\n10 ECONNREFUSED\n", "{address}");
    }
    Ok(())
}

/// Packets to the gateway that say they are to go on from there: by an option of IPv4, by a header of IPv6, and by such a
/// header in a fragment.
const DETOUR: &str = r#"
own6, outside, outside6, gateway6 = six(sys.argv[1]), four(sys.argv[2]), six(sys.argv[3]), six('fd00:10::1')
# Loose source and record route.
send4(ipv4(own, gateway, 17, udp(9, b'option'), bytes([131, 7, 4]) + outside + b'\0'))
def route(text):
    # Segments, of which one is left (RFC 8754); and an echo request, which the host takes from everybody.
    echo = icmp6(own6, outside6, struct.pack('>BBHHH', 128, 0, 0, 1, 1) + text)
    return struct.pack('>BBBBBBH', 58, 4, 4, 1, 1, 0, 0) + outside6 + gateway6 + echo
send6(ipv6(own6, gateway6, 43, route(b'header')))
# The first of one.
send6(ipv6(own6, gateway6, 44, struct.pack('>BBHI', 43, 0, 0, 77) + route(b'within')))
"#;

/// Tells what has come by a detour.
const ARRIVED: &str = r#"
import os, select, socket, time
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('0.0.0.0', 9))
i = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
print('ready', flush=True)
end = time.time() + 2 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1)
while time.time() < end:
    for s in select.select([u, i], [], [], 0.1)[0]:
        heard = s.recv(500)
        if s is u or heard[0] == 128: print(heard[-6:].decode(), flush=True)
"#;

pub(crate) fn a_packet_does_not_say_its_way(scene: &Scene) -> Result {
    let bridge = builder().subnet6("fd00:10::/64").enable_forwarding().create()?;
    // Whoever configures a host like that has a use for it; by default no kernel does such a thing.
    let keys =
        ["ipv4/conf/all/accept_source_route", "ipv6/conf/all/seg6_enabled", "ipv6/conf/up1/seg6_enabled"];
    for key in keys {
        let write = format!("open('/proc/sys/net/{key}', 'w').write('1')");
        scene.outside_script(&write, &[])?;
        std::fs::write(format!("/proc/sys/net/{}", key.replace("up1", "belljar0")), "1")?;
    }
    // A sum over the last destination is wrong at the first, for which the kernel would track no connection.
    std::fs::write("/proc/sys/net/netfilter/nf_conntrack_checksum", "0")?;
    let attacker = framing(on(Network::bridge(&bridge).egress(Egress::deny_all()))).start()?;
    let own = attacker.addresses()[1].to_string();
    // So that the host knows where the outside is.
    for address in [HOST, HOST_6] {
        assert_eq!(scene.ask("tcp", address, 9)?, "ECONNREFUSED");
    }
    let attack = || -> Result<String> {
        let listener = scene.script_outside(ARRIVED)?;
        succeed(attacker.output(frames(DETOUR, &[&own, OUTSIDE, OUTSIDE_6]))?)?;
        listener.rest()
    };
    assert_eq!(attack()?, "");
    // What it does where nothing looks for that.
    nft("delete table bridge belljar_belljar0")?;
    assert_eq!(attack()?, "option\nheader\nwithin\n");
    Ok(())
}

pub(crate) fn what_a_rule_denies_stays_denied_where_others_open_it(scene: &Scene) -> Result {
    let _servers = [scene.serve_outside("0.0.0.0", 80)?, scene.serve_outside("0.0.0.0", 81)?];
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let container = plain(&bridge).start()?;
    let server = serving(&container, "0.0.0.0", 8000)?;
    let there = server.0.addresses()[0].to_string();
    let metadata = "169.254.169.254";
    std::fs::write("/etc/hosts", format!("{there} neighbour.test\n"))?;
    let denied = DENIED;
    for (egress, address, port, wanted) in [
        (Egress::allow_all().deny("0.0.0.0/0:80").allow(metadata), metadata, 80, denied),
        (Egress::allow_all().deny("0.0.0.0/0:80").allow(metadata), metadata, 81, HOST),
        (Egress::allow_all().allow(metadata).deny("0.0.0.0/0:80"), metadata, 80, HOST),
        (Egress::deny_all().deny("0.0.0.0/0:8000").allow("10.10.0.0/24"), &there, 8000, denied),
        (Egress::deny_all().deny("neighbour.test").allow("10.10.0.0/24"), &there, 8000, denied),
    ] {
        let sandbox = on(Network::bridge(&bridge).egress(egress.clone()));
        assert_eq!(ask(&sandbox, "tcp", address, port)?, wanted, "{egress:?} {address}:{port}");
    }
    let open = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("10.10.0.0/24")));
    assert!(ask(&open, "tcp", &there, 8000)?.starts_with("10.10.0."));
    Ok(())
}

/// Fragments of datagrams that are never whole, as many as there is room for.
const PIECES: &str = r#"
data = b'x' * (int(sys.argv[1]) - 500 & ~7)
for n in range(6000):
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(data), n, 0x2000, 64, 17, 0, own, gateway)
    send4(head[:10] + struct.pack('>H', checksum(head)) + head[12:] + data)
"#;

/// Hears one datagram that comes in fragments.
const HEAR_LARGE: &str = "
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 9))
s.settimeout(2 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1))
print('ready', flush=True)
try: print(len(s.recv(5000)))
except socket.timeout: print('nothing')
";

const SEND_LARGE: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'x' * 4000, (sys.argv[1], 9))
";

pub(crate) fn fragments_of_one_leave_room_for_others(scene: &Scene) -> Result {
    // How long they wait.
    std::fs::write("/proc/sys/net/ipv4/ipfrag_time", "3")?;
    for mtu in [1500, 9000] {
        let bridge = builder().mtu(mtu).create()?;
        let attacker = framing(on(Network::bridge(&bridge).egress(Egress::deny_all()))).start()?;
        let hear = || -> Result<String> {
            succeed(attacker.output(frames(PIECES, &[&mtu.to_string()]))?)?;
            let mut listener = std::process::Command::new("/usr/bin/python3");
            listener.args(["-c", HEAR_LARGE]);
            let listener = crate::scene::ready(listener)?;
            scene.outside_script(SEND_LARGE, &[HOST])?;
            listener.rest()
        };
        assert_eq!(hear()?, "4000\n", "{mtu}");
        // Without the limit there is no room.
        nft("delete table bridge belljar_belljar0")?;
        assert_eq!(hear()?, "nothing\n", "{mtu}");
        drop(attacker);
        drop(bridge);
        std::thread::sleep(Duration::from_millis(3500));
    }
    Ok(())
}

/// What belongs to no connection: a wrong sum, flags that no connection begins with, errors and redirections.
const STRAY: &str = r#"
outside = four(sys.argv[1])
def wrong(text): return udp(9, text)[:6] + b'\1\1' + text
send4(ipv4(own, outside, 17, wrong(b'wrong sum')))
tcp = struct.pack('>HHIIBBHHH', 1000, 9, 0, 0, 0x50, 3, 100, 0, 0)
total = checksum(own + outside + struct.pack('>HH', 6, len(tcp)) + tcp)
send4(ipv4(own, outside, 6, tcp[:16] + struct.pack('>H', total) + tcp[18:]))
for kind in (3, 5):
    body = struct.pack('>BBHI', kind, 1, 0, 0) + ipv4(outside, own, 17, udp(9, b'quoted'))
    send4(ipv4(own, outside, 1, body[:2] + struct.pack('>H', checksum(body)) + body[4:]))
send4(ipv4(own, outside, 17, udp(9, b'good')))
"#;

/// Tells from whom packets have come, of those that are not the host's.
const FROM_WHOM: &str = r#"
import os, socket, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800))
wire.bind(('up1', 0x800))
wire.settimeout(0.1)
print('ready', flush=True)
end, senders = time.time() + 2 * int(os.environ.get('BELLJAR_TEST_SLACK') or 1), {}
while time.time() < end:
    try: packet, who = wire.recvfrom(2000)
    except socket.timeout: continue
    if who[2] != 4:
        sender = socket.inet_ntoa(packet[12:16])
        senders[sender] = senders.get(sender, 0) + 1
print(sorted(senders.items()))
"#;

pub(crate) fn nothing_leaves_with_an_address_of_the_bridge(scene: &Scene) -> Result {
    let bridge = builder().masquerade().enable_forwarding().create()?;
    let attacker = framing(plain(&bridge)).start()?;
    let listener = scene.script_outside(FROM_WHOM)?;
    succeed(attacker.output(frames(STRAY, &[OUTSIDE]))?)?;
    assert_eq!(listener.rest()?, format!("[('{HOST}', 1)]\n"));
    Ok(())
}

/// The host's neighbour table is one for the machine, and who asks for addresses is noted in it.
const ASK_AROUND: &str = r#"
for n in range(100):
    other = bytes([10, 10, 0, 100 + n])
    body = struct.pack('>HHBBH', 1, 0x800, 6, 4, 1) + bytes([2, 98]) + other + other + bytes(6) + gateway
    for group in (0, 2, 3, 0xe):
        to = bytes.fromhex('0180c20000') + bytes([group])
        wire.send(to + hardware + b'\x08\x06' + body)
"#;

pub(crate) fn nobody_is_noted_as_a_neighbour(_: &Scene) -> Result {
    let bridge = builder().create()?;
    let attacker = framing(plain(&bridge)).start()?;
    succeed(attacker.output(frames(ASK_AROUND, &[]))?)?;
    let known = crate::scene::ip("neigh show")?;
    let learned = |known: &str| {
        known.lines().filter(|line| line.contains("10.10.0.1") && !line.contains("PERMANENT")).count()
    };
    assert_eq!(learned(&known), 0, "{known}");
    // Where the port does not send them on, and nothing looks for them.
    nft("delete table bridge belljar_belljar0")?;
    for port in crate::scene::interfaces()?.keys().filter(|name| name.starts_with("bj")) {
        crate::scene::ip(&format!("link set {port} type bridge_slave group_fwd_mask 0"))?;
    }
    succeed(attacker.output(frames(ASK_AROUND, &[]))?)?;
    let known = crate::scene::ip("neigh show")?;
    assert!(learned(&known) > 50, "{known}");
    Ok(())
}

/// Connections with the host's own address on the wire, and whether the gateway is found afterwards.
const CROWD: &str = r#"
gateway6, own6, link = six('fd00:10::1'), six(sys.argv[1]), six(sys.argv[2])
for n in range(300):
    echo = struct.pack('>BBHHH', 128, 0, 0, n, 1)
    for source in (own6, link): send6(ipv6(source, gateway6, 58, icmp6(source, gateway6, echo)))
"#;

pub(crate) fn a_crowd_does_not_lose_its_gateway(_: &Scene) -> Result {
    let _server = crate::scene::serve_here("::", 7000)?;
    let bridge = builder().subnet6("fd00:10::/64").enable_forwarding().create()?;
    let network =
        Network::bridge(&bridge).egress(Egress::deny_all().allow("[fd00:10::1]:7000")).connections_max(20);
    let attacker = framing(on(network)).start()?;
    let [own, own6] = [0, 1].map(|n| attacker.addresses()[n]);
    let std::net::IpAddr::V4(own) = own else { return fail("an address of IPv4") };
    let [a, b, c, d] = own.octets();
    let link = format!("fe80::62:{a:x}ff:fe{b:02x}:{c:x}{d:02x}");
    let before = noted()?;
    let crowd = frames(CROWD, &[&own6.to_string(), &link]);
    succeed(attacker.output(&crowd)?)?;
    let after = noted()?;
    assert!((1..=25).contains(&(after - before)), "{before} {after}");
    // It has no room for more, and still asks where the gateway is.
    assert_eq!(
        succeed(attacker.output(client("tcp", "fd00:10::1", 7000))?)?.trim(),
        DENIED,
        "it has as many as it may"
    );
    drop(attacker);
    Ok(())
}
