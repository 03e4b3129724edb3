//! A sandbox whose network is a program of the host, in its policy.
//!
//! ```text
//! UserMode ─▶ Wanted (of the plan): program, arguments, closed ─▶ Attachment (of a running sandbox): the program's process
//! ```

mod attach;
mod closed;
mod program;

use std::borrow::Cow;
use std::net::IpAddr;

pub(crate) use self::attach::{Attachment, Wanted};
pub use self::program::UserModeProgram;
use super::bridged::check_published;
use super::egress::Protocol;
use super::firewall::Published;
use super::resolver;
use crate::capability;
use crate::error::{Error, Result};
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;

/// A network that a program of the host makes out of its own sockets, which needs no privilege: `pasta` (Debian package
/// `passt`) or `slirp4netns`. Made by [`Network::user_mode`](crate::Network::user_mode).
///
/// The sandbox has an interface `eth0`. Whatever it sends there, the program reads, and does the same by connections and datagrams
/// of the host: so **the sandbox reaches what the host reaches**, its local network and its VPN, too, and is seen there with the
/// host's address. There are no [`Egress`](crate::Egress) rules; a privileged host has them with a
/// [`Bridge`](crate::Bridge). It does not reach
///
/// - the host's loopback interface, unless [`host_loopback`](Self::host_loopback) is called. What the host serves at its other
///   addresses is in reach: with `slirp4netns` at all of them, with `pasta` at all but the one that the sandbox has as well;
/// - the addresses where clouds have their metadata services, which are those that [`Egress`](crate::Egress#protected-addresses)
///   names but for most of `fe80::/10`, unless [`metadata_services`](Self::metadata_services) is called.
///
/// Neither program keeps to the first by itself: a socket that is bound to `eth0` (`SO_BINDTODEVICE`, which needs no privilege)
/// sends to `127.0.0.1` by it, and the program connects there. So both are enforced by a table of `nf_tables` in the network
/// namespace of the sandbox, `inet belljar`, which nobody in it can change. A sandbox that keeps `CAP_NET_ADMIN` or `CAP_NET_RAW`
/// could, or could send past it, and is refused unless both are opened.
///
/// | | `pasta` | `slirp4netns` |
/// |---|---|---|
/// | addresses inside | those of the host's interface with the default route | `10.0.2.100` |
/// | IPv6 | if the host has it | no |
/// | published ports | yes | no |
/// | the host needs | a default route, `/dev/net/tun` | `/dev/net/tun` |
///
/// The program is started with the sandbox, by the user that the host is, with an empty environment and no descriptor of the host,
/// and is killed when the sandbox is taken down or the host dies, of `SIGKILL` as well. It is no part of the sandbox: no limit
/// of that holds for it, and what it costs is in no [`Usage`](crate::Usage). A hostile sandbox can have it use a whole processor
/// until the end, and the `pasta` of Debian 12 with two packets: limit the [time](crate::Sandbox::wall_time). If somebody else
/// kills it, its interface goes, and the sandbox goes on without a network. See
/// [passt(1)](https://passt.top/builds/latest/web/passt.1.html) and
/// [slirp4netns(1)](https://github.com/rootless-containers/slirp4netns/blob/master/slirp4netns.1.md).
///
/// # Errors
///
/// The plan fails with [`Unsupported`](crate::ErrorKind::Unsupported) where no program is installed, with the name of its
/// package in the [`hint`](crate::Error::hint), and with [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for policies without
/// a user namespace, with capabilities that could undo what is closed, and for ports and sizes that cannot be. The start fails
/// with [`Setup`](crate::ErrorKind::Setup) and what the program says where it is not ready within ten seconds, and with
/// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel has no `nf_tables`.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Network, Sandbox};
///
/// let sandbox = Sandbox::new().network(Network::user_mode());
/// let output = sandbox.output(Command::new("/usr/bin/fetch"))?;
/// # drop(output);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct UserMode {
    program: Option<UserModeProgram>,
    host_loopback: bool,
    metadata_services: bool,
    published: Vec<Published>,
    mtu: Option<u32>,
    dns: Option<Vec<IpAddr>>,
}

impl UserMode {
    /// Which program. By default `pasta` if it is installed, or else `slirp4netns`.
    pub fn program(mut self, program: UserModeProgram) -> Self {
        self.program = Some(program);
        self
    }

    /// What listens on the host's `127.0.0.1` can be reached, at the address of the default gateway: with `slirp4netns`
    /// `10.0.2.2`, with `pasta` that which the host has, too (and `::1` at that of IPv6). Services there often trust whoever comes.
    pub fn host_loopback(mut self) -> Self {
        self.host_loopback = true;
        self
    }

    /// The metadata services of clouds can be reached, which hand out credentials of the machine to whoever asks.
    pub fn metadata_services(mut self) -> Self {
        self.metadata_services = true;
        self
    }

    /// Whatever comes by TCP to this port of the host, at any of its addresses, goes to a port of the sandbox. Needs `pasta`, and
    /// for ports below 1024 that the user may bind them (`net.ipv4.ip_unprivileged_port_start`). A client of the host's loopback
    /// interface comes by that of the sandbox. A port that is taken is an error of the start.
    ///
    /// The `pasta` of Debian 12 completes such a connection only when the client has sent something: a server inside must not be
    /// the first to speak.
    pub fn publish(mut self, outer: u16, inner: u16) -> Self {
        self.published.push(Published { protocol: Protocol::Tcp, outer, inner });
        self
    }

    /// The same by UDP.
    pub fn publish_udp(mut self, outer: u16, inner: u16) -> Self {
        self.published.push(Published { protocol: Protocol::Udp, outer, inner });
        self
    }

    /// How many bytes a packet to or from the program may have, 1280 to 65520. By default what the program does: `pasta` 65520,
    /// which is fast, `slirp4netns` 1500.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// The name servers in the `/etc/resolv.conf` of the sandbox. By default those of the host's which are not on its loopback
    /// interface, where no sandbox can reach them; without any, names are not found. `slirp4netns` has a server of its own that
    /// asks those on the loopback interface, too, and is switched off.
    pub fn dns(mut self, servers: impl IntoIterator<Item = IpAddr>) -> Self {
        self.dns = Some(servers.into_iter().collect());
        self
    }

    pub(super) fn servers(&self) -> Cow<'_, [IpAddr]> {
        match &self.dns {
            Some(servers) => Cow::Borrowed(servers),
            None => Cow::Owned(resolver::servers_of_host()),
        }
    }

    pub(super) fn lower(&self, sandbox: &Sandbox, namespaces: Namespaces) -> Result<Wanted> {
        check_published(&self.published)?;
        if self.mtu.is_some_and(|mtu| !(1280..=65520).contains(&mtu)) {
            return Err(Error::invalid("an MTU of a user-mode network that is not from 1280 to 65520"));
        }
        if !namespaces.contains(Namespaces::USER) {
            return Err(Error::invalid(
                "a user-mode network needs a user namespace, which is what the program enters",
            )
            .with_hint("add user_ns(), or use Network::bridge()"));
        }
        let is_open = self.host_loopback && self.metadata_services;
        if !is_open && sandbox.keeps_any_of(capability::NET_ADMIN | capability::NET_RAW)? {
            return Err(Error::invalid(
                "a sandbox that keeps CAP_NET_ADMIN or CAP_NET_RAW could reach the host's loopback interface and metadata \
                 services by a user-mode network",
            )
            .with_hint(
                "take the capabilities away, or open both by UserMode::host_loopback() and metadata_services()",
            ));
        }
        let (program, path) = program::find(self.program, !self.published.is_empty())?;
        let closed = (!is_open).then(|| closed::rules(self.metadata_services, &self.servers()).into_bytes());
        Ok(Wanted { program, path, arguments: program.arguments(self), closed })
    }
}
