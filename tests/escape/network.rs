//! Networks and what listens there.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use belljar::Sandbox;

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, tried};
use crate::stage::Stage;
use crate::support::{Result, Role, payload, raw};

const NETWORK: &str = "a network namespace";
const SHARED: Control = Control::Without("`share_net()`", |sandbox| sandbox.share_net());

attacks! {
    service_of_the_host {
        what: "connects to a service on the host's loopback (CVE-2024-29021)",
        class: &["A12"],
        stopped_by: NETWORK,
        method: Method::Inside(|facts| {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, facts.number("tcp") as u16);
            TcpStream::connect(address).map(drop).into()
        }),
        control: SHARED,
    }
    datagram_to_the_host {
        what: "sends a datagram to the host's loopback",
        class: &["A12", "A29"],
        stopped_by: NETWORK,
        method: Method::Around(datagram_to_the_host),
        control: SHARED,
    }
    abstract_socket_of_the_host {
        what: "connects to an abstract Unix socket of the host (CVE-2020-15257)",
        class: &["A26"],
        stopped_by: NETWORK,
        method: Method::Inside(|facts| {
            let name = crate::stage::abstract_name(facts.number("owner") as u32);
            let connected = SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name));
            connected.map(drop).into()
        }),
        control: SHARED,
    }
    socket_of_the_host_by_path {
        what: "connects to a Unix socket of the host by its path, as that of D-Bus or of a container engine",
        class: &["A26"],
        stopped_by: "a root of its own, without `/run`",
        method: Method::Inside(|facts| UnixStream::connect(facts.path("scratch").join("socket")).map(drop).into()),
    }
    metadata_service {
        what: "connects to the metadata service of a cloud (169.254.169.254)",
        class: &["A12", "A29"],
        stopped_by: "a network namespace without a route",
        method: Method::Inside(|_| {
            // A datagram socket that is connected has found a route; nothing is sent.
            let socket = UdpSocket::bind("0.0.0.0:0");
            socket.and_then(|socket| socket.connect("169.254.169.254:80")).into()
        }),
        control: SHARED,
        may_lack: true,
    }
    interfaces_of_the_host {
        what: "lists the host's network interfaces, and with them its hardware addresses",
        may_lack: true,
        class: &["A27"],
        stopped_by: NETWORK,
        method: Method::Inside(|_| {
            let other: Vec<String> = (2..40).filter_map(raw::interface_name).filter(|name| name != "lo").collect();
            match (raw::interface_name(1), other.is_empty()) {
                (None, _) => Tried::CouldNot("there is no loopback".into()),
                (Some(_), true) => Tried::Denied("absent: loopback is alone".into()),
                (Some(_), false) => Tried::Broke(format!("{other:?}")),
            }
        }),
        control: SHARED,
    }
    raw_packets {
        what: "opens a raw internet socket",
        class: &["A14"],
        stopped_by: "no capability",
        method: Method::Inside(|_| tried(libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_RAW as usize, 1])),
        control: Control::Without("`keep_capability(\"NET_RAW\")`", |sandbox| sandbox.keep_capability("NET_RAW")),
    }
    packets_of_an_interface {
        what: "opens a packet socket (CVE-2016-8655, CVE-2020-14386)",
        class: &["A14"],
        stopped_by: "the filter allows four families of sockets; no capability",
        method: Method::Inside(|_| tried(libc::SYS_socket, [libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0])),
        control_by: Hosts::Root,
        may_lack: true,
    }
    configure_the_network {
        what: "takes an interface down",
        class: &["A14"],
        stopped_by: "no capability",
        method: Method::Inside(configure_the_network),
        control: Control::Without("`keep_capability(\"NET_ADMIN\")`", |sandbox| sandbox.keep_capability("NET_ADMIN")),
    }
    identity_over_a_socket {
        what: "claims another process and user by the credentials of a message",
        class: &["A8"],
        stopped_by: "no capability",
        method: Method::Inside(|_| match raw::send_credentials(1, 0) {
            Ok(()) => Tried::Broke("it is process 1".into()),
            Err(error) => Tried::Denied(explain(&error)),
        }),
        control_by: Hosts::Root,
    }
}

pub(crate) const ROLES: &[Role] = &[("datagram", |args| {
    let port = crate::support::roles::int(args, 0) as u16;
    let sent =
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"pwned", ("127.0.0.1", port)));
    i32::from(sent.is_err())
})];

/// Each has its own port, since attacks are made at the same time.
fn datagram_to_the_host(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let listener = UdpSocket::bind("127.0.0.1:0")?;
    listener.set_read_timeout(Some(Duration::from_millis(50)))?;
    let port = listener.local_addr()?.port().to_string();
    sandbox.status(payload("datagram", &[&port]))?;
    Ok(match listener.recv(&mut [0; 16]) {
        Ok(_) => Tried::Broke("it has arrived".into()),
        Err(error) => Tried::Denied(explain(&error)),
    })
}

fn configure_the_network(_: &Facts) -> Tried {
    // `struct ifreq`: a name of 16 bytes, and the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let socket = call(libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_DGRAM as usize, 0]);
    match socket {
        Ok(fd) => tried(libc::SYS_ioctl, [fd as usize, 0x8914, at(&mut request)]),
        Err(error) => Tried::CouldNot(explain(&error)),
    }
}
