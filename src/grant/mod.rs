//! Connections that the host makes for a program.
//!
//! ```text
//! the sandbox                               the host
//!  program ── pair of Unix sockets of the ──▶ a thread that ── TCP, in the ──▶ the peer
//!             sandbox's own network            moves bytes     host's network
//! ```
//!
//! A socket is of the network that it was made in, and one of TCP can be disconnected and connected anew: a program that had
//! the connection itself would have the host's network. The pair is made by the init, so that it belongs to the sandbox.

mod relay;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys;
use relay::Relay;

/// How long connecting may take, however many addresses a name has.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that a program is granted.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// `host:port`, as it was given.
    address: String,
    /// Once it is made.
    stream: Option<Arc<TcpStream>>,
}

impl Grant {
    pub(crate) fn new(address: String) -> Self {
        Self { address, stream: None }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Checks what can be checked without the network.
    pub(crate) fn validate(&self) -> Result<()> {
        self.parts().map(drop)
    }

    /// Host and port.
    fn parts(&self) -> Result<(&str, u16)> {
        split(&self.address).ok_or_else(|| {
            Error::invalid(format!("{:?} is no address to connect to", self.address))
                .with_hint("write \"host:port\", and an address of IPv6 in brackets: \"[::1]:80\"")
        })
    }

    /// Makes the connection, if it is not made.
    pub(crate) fn connect(&mut self) -> Result<()> {
        if self.stream.is_some() {
            return Ok(());
        }
        let found: Vec<SocketAddr> = match self.parts()?.to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(error) => return Err(self.unresolved(error)),
        };
        let end = Instant::now() + PATIENCE;
        let mut failed = None;
        for (tried, peer) in found.iter().enumerate() {
            // One that does not answer leaves time for the others.
            let left = end.saturating_duration_since(Instant::now())
                / u32::try_from(found.len() - tried).unwrap_or(1);
            match TcpStream::connect_timeout(peer, left.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    // The program cannot ask for it, and what comes to the relay at once goes out at once.
                    stream.set_nodelay(true).ok();
                    let stream =
                        sys::above_stdio(stream.into()).map_err(|error| self.refused(*peer, error))?;
                    self.stream = Some(Arc::new(stream.into()));
                    return Ok(());
                }
                Err(error) => failed = Some(self.refused(*peer, error)),
            }
        }
        Err(failed.unwrap_or_else(|| self.unresolved(io::ErrorKind::NotFound.into())))
    }

    /// Moves bytes between the connection and the host's end of what the program has, in a thread of its own.
    pub(crate) fn serve(&self, end: OwnedFd) -> Result<()> {
        let Some(stream) = &self.stream else {
            return Err(Error::internal(Step::Prepare, "a program was started without its connection"));
        };
        let failed =
            |error| Error::os(Step::Prepare, format!("relaying the connection to {}", self.address), error);
        let relay =
            sys::above_stdio(end).and_then(|end| Relay::new(end, Arc::clone(stream))).map_err(failed)?;
        let thread = std::thread::Builder::new().name("belljar-grant".to_owned());
        thread.spawn(move || relay.run()).map(drop).map_err(failed)
    }

    fn unresolved(&self, error: io::Error) -> Error {
        Error::os(Step::Prepare, format!("looking up the address of {}", self.address), error)
            .with_kind(ErrorKind::NotFound)
            .with_hint(
                "the host looks the name up, not the sandbox: try getent ahosts, or give the address itself",
            )
    }

    fn refused(&self, peer: SocketAddr, error: io::Error) -> Error {
        // The standard library has no number for this.
        let error = match error.kind() {
            io::ErrorKind::TimedOut => io::Error::from_raw_os_error(libc::ETIMEDOUT),
            _ => error,
        };
        let peer = peer.to_string();
        let what = match peer == self.address {
            true => format!("connecting to {peer}"),
            false => format!("connecting to {} at {peer}", self.address),
        };
        Error::os(Step::Prepare, what, error).with_hint(
            "the host connects, not the sandbox: see that the service runs and the host can reach it",
        )
    }
}

/// Host and port. A colon of the host is one of IPv6, which has brackets: without, its end could be taken for a port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.contains(':'))?,
        None if host.contains(':') => return None,
        None => host,
    };
    let is_name = |c: char| !c.is_control() && !c.is_whitespace() && !"[]/@".contains(c);
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port != 0 && is_number)?;
    (!host.is_empty() && host.chars().all(is_name)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        for (address, parts) in [
            ("db.example:5432", ("db.example", 5432)),
            ("127.0.0.1:1", ("127.0.0.1", 1)),
            ("[::1]:80", ("::1", 80)),
            ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
        ] {
            assert_eq!(split(address), Some(parts), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in [
            "",
            ":",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:65536",
            "host:+80",
            "host:-1",
            "host:http",
            "host: 80",
            "::1:80",
            "::1",
            "[::1]",
            "[::1]80",
            "[]:80",
            "[host]:80",
            "[::1:80",
            "::1]:80",
            "ho st:80",
            "ho\0st:80",
            "http://host:80",
            "user@host:80",
            "host:80\n",
        ] {
            assert_eq!(split(address), None, "{address:?}");
            let error = Grant::new(address.to_owned()).validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.hint().is_some());
        }
    }
}
