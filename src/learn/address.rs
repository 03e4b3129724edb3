//! Addresses of sockets as text.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// An address that is of interest to a policy. `None` for families that have none of ours.
pub(super) fn text(bytes: &[u8]) -> Option<Address> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            let port = port()?;
            Some(Address::Ip { port, text: SocketAddrV4::new(Ipv4Addr::from(ip), port).to_string() })
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let port = port()?;
            Some(Address::Ip { port, text: SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0).to_string() })
        }
        libc::AF_UNIX => match bytes.get(2..)? {
            [] => None,
            [0, name @ ..] => Some(Address::Abstract(String::from_utf8_lossy(name).into_owned())),
            path => {
                let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
                Some(Address::Path(path[..end].to_vec()))
            }
        },
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Ip {
        port: u16,
        text: String,
    },
    /// Of a Unix socket, as the program wrote it.
    Path(Vec<u8>),
    Abstract(String),
}

/// The port at the end of an IP address's text.
pub(super) fn port_of(text: &str) -> Option<u16> {
    if text.starts_with("unix:") || text.starts_with("abstract:") {
        return None;
    }
    text.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(family: i32, rest: &[u8]) -> Option<Address> {
        let family = u16::try_from(family).unwrap().to_ne_bytes();
        text(&[&family, rest].concat())
    }

    #[test]
    fn families_have_their_texts() {
        let ip = |port, text: &str| Some(Address::Ip { port, text: text.into() });
        assert_eq!(address(libc::AF_INET, &[0, 80, 127, 0, 0, 1, 0, 0]), ip(80, "127.0.0.1:80"));
        let mut six = [0; 26];
        six[0..2].copy_from_slice(&[1, 187]);
        six[21] = 1;
        assert_eq!(address(libc::AF_INET6, &six), ip(443, "[::1]:443"));
        assert_eq!(port_of("[::1]:443"), Some(443));
        assert_eq!(address(libc::AF_UNIX, b"/run/x\0junk"), Some(Address::Path(b"/run/x".to_vec())));
        assert_eq!(address(libc::AF_UNIX, b"\0bus"), Some(Address::Abstract("bus".into())));
        assert_eq!(port_of("unix:/run/x:80"), None);
    }

    #[test]
    fn what_is_too_short_or_unknown_is_none() {
        for bytes in
            [&[][..], &[1], &[2, 0], &[2, 0, 0], &[2, 0, 0, 80, 127, 0, 0], &[10, 0, 0, 80, 1], &[1, 0]]
        {
            assert_eq!(text(bytes), None, "{bytes:?}");
        }
        assert_eq!(address(libc::AF_NETLINK, &[0; 10]), None);
    }
}
