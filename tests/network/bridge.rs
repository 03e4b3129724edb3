//! The bridge itself, and what a sandbox finds on it.

use std::time::Duration;

use belljar::{Command, Egress, Network};

use crate::scene::{HOST, Scene, ask, builder, interfaces, on, plain, serve_here};
use crate::support::{self, Result, succeed};

pub(crate) fn the_gateway_and_nobody_else(_: &Scene) -> Result {
    let bridge = builder().create()?;
    assert_eq!(bridge.gateway().to_string(), "10.10.0.1");
    let _server = serve_here("0.0.0.0", 7000)?;
    // A service of the host is closed at each of its addresses, but for a rule that names the address.
    for address in ["10.10.0.1", HOST] {
        assert_eq!(ask(&plain(&bridge), "tcp", address, 7000)?, "EHOSTUNREACH", "{address}");
        assert_eq!(ask(&plain(&bridge), "udp", address, 7000)?, "EHOSTUNREACH", "{address}");
        let open = on(Network::bridge(&bridge).egress(Egress::deny_all().allow(format!("{address}:7000"))));
        assert!(ask(&open, "tcp", address, 7000)?.starts_with("10.10.0."), "{address}");
        assert_eq!(ask(&open, "udp", address, 7000)?, "EHOSTUNREACH", "{address}");
    }
    let wide = on(Network::bridge(&bridge).egress(Egress::deny_all().allow("0.0.0.0/0")));
    assert_eq!(ask(&wide, "tcp", "10.10.0.1", 7000)?, "EHOSTUNREACH");
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
