//! A sandbox on a bridge, in its policy.

use std::net::IpAddr;

use super::attach::Wanted;
use super::bridge::{self, Bridge};
use super::conntrack;
use super::egress::{Egress, Protocol};
use super::firewall::Published;
use crate::capability;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;
use crate::sandbox::Sandbox;

/// A wire to a [`Bridge`]: what may be sent on it, what leads to it, how fast it is. Made by
/// [`Network::bridge`](crate::Network::bridge).
///
/// # Examples
///
/// ```no_run
/// use belljar::{Bridge, Bytes, Egress, Network, Sandbox};
///
/// let bridge = Bridge::new("belljar0").subnet("10.10.0.0/24").masquerade().create()?;
/// let network = Network::bridge(&bridge)
///     .egress(Egress::deny_all().allow("10.10.0.2:5432"))
///     .publish(8080, 80)
///     .ingress_max(Bytes::mib(10))
///     .egress_max(Bytes::mib(1));
/// let container = Sandbox::new().network(network).start()?;
/// # drop(container);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Bridged {
    bridge: Bridge,
    egress: Egress,
    published: Vec<Published>,
    connections_max: Option<u32>,
    ingress_max: Option<Bytes>,
    egress_max: Option<Bytes>,
}

/// The least bytes a second: a packet of 1500 bytes then takes a second and a half.
const LEAST_RATE: u64 = 1000;

/// The kernel goes through a list of them at a new one, in the midst of everything else.
const MOST_CONNECTIONS: u32 = 1 << 15;

/// Refuses ports that cannot be published.
pub(super) fn check_published(published: &[Published]) -> Result<()> {
    for (n, one) in published.iter().enumerate() {
        if one.outer == 0 || one.inner == 0 {
            return Err(Error::invalid("port 0 cannot be published"));
        }
        if published[..n].iter().any(|other| other.key() == one.key()) {
            return Err(Error::invalid(format!("the port {} is published twice", one.outer)));
        }
    }
    Ok(())
}

impl Bridged {
    pub(super) fn new(bridge: &Bridge) -> Self {
        Self {
            bridge: bridge.clone(),
            egress: Egress::default(),
            published: Vec::new(),
            connections_max: None,
            ingress_max: None,
            egress_max: None,
        }
    }

    /// Where it may send; [`Egress::allow_all`] by default, which is everything outside but not the host and not other
    /// sandboxes.
    pub fn egress(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// Whatever comes by TCP to this port of the host, at any address but loopback ones, goes to a port of the sandbox: from
    /// outside and from the host itself, not from sandboxes, for which it is a service of the host. A port is published once: a
    /// second sandbox that publishes it does not start. Nobody needs that on the host itself, which reaches every sandbox by its
    /// [address](crate::Container::addresses). The host must [forward](crate::BridgeBuilder::enable_forwarding).
    pub fn publish(mut self, outer: u16, inner: u16) -> Self {
        self.published.push(Published { protocol: Protocol::Tcp, outer, inner });
        self
    }

    /// The same by UDP.
    pub fn publish_udp(mut self, outer: u16, inner: u16) -> Self {
        self.published.push(Published { protocol: Protocol::Udp, outer, inner });
        self
    }

    /// How many connections it may have that it has begun, 1 to 32768, with services of the host and its `ping` included. Beyond
    /// that a program is answered as where a rule [denies](crate::Egress). By default that is 4096, or a sixteenth of
    /// `net.netfilter.nf_conntrack_max` if it is less: the kernel remembers every connection that it routes, in a table of that
    /// size, which is one for the machine, and whoever fills it cuts off everybody.
    ///
    /// It remembers one of TCP for two minutes after its end. So a sandbox may begin no more than the default, or as many as this
    /// if it is more, at once, and as many again in each two minutes; attempts that are refused for this limit count. One of UDP is
    /// over when nothing was sent for 30 seconds (`net.netfilter.nf_conntrack_udp_timeout`), or for two minutes where it was
    /// much. What comes by a [published port](Self::publish) is not counted. [`Outcome::egress`](crate::Outcome::egress) says how
    /// much was refused.
    pub fn connections_max(mut self, connections: u32) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// How many bytes a second it may receive, headers counted: a token bucket at the bridge's end of the wire (tc-tbf(8)). More
    /// waits for 50 ms at most, and is dropped then, at which TCP slows down.
    pub fn ingress_max(mut self, bytes_per_second: impl Into<Bytes>) -> Self {
        self.ingress_max = Some(bytes_per_second.into());
        self
    }

    /// How many bytes a second it may send: the same at its own end. Not for a sandbox that keeps `CAP_NET_ADMIN`, which could
    /// take it away, or `CAP_NET_RAW`, which sends past it (`PACKET_QDISC_BYPASS`, packet(7)).
    pub fn egress_max(mut self, bytes_per_second: impl Into<Bytes>) -> Self {
        self.egress_max = Some(bytes_per_second.into());
        self
    }

    pub(super) fn servers(&self) -> &[IpAddr] {
        &self.bridge.0.dns
    }

    pub(super) fn lower(&self, sandbox: &Sandbox) -> Result<Wanted> {
        check_published(&self.published)?;
        if !self.published.is_empty() && !bridge::forwards() {
            return Err(Error::message(
                ErrorKind::InvalidConfig,
                Step::Network,
                "published ports need a host that forwards packets",
            )
            .with_hint(
                "make the bridge with enable_forwarding(), which switches it on for all interfaces, or set \
                            net.ipv4.ip_forward yourself",
            ));
        }
        for (what, rate) in [("received", self.ingress_max), ("sent", self.egress_max)] {
            if rate.is_some_and(|rate| rate.get() < LEAST_RATE) {
                return Err(Error::invalid(format!(
                    "a limit of what is {what} that is below {LEAST_RATE} bytes a second"
                ))
                .with_hint("rates are in bytes a second; to let nothing out, use Egress::deny_all()"));
            }
        }
        let fair_share = conntrack::fair_share();
        let connections_max = self.connections_max.unwrap_or(fair_share);
        if !(1..=MOST_CONNECTIONS).contains(&connections_max) {
            return Err(Error::invalid(format!("{connections_max} connections cannot be a limit"))
                .with_hint(format!(
                    "it is 1 to {MOST_CONNECTIONS}; to let nothing out, use Egress::deny_all()"
                )));
        }
        if self.egress_max.is_some() && sandbox.keeps_any_of(capability::NET_ADMIN | capability::NET_RAW)? {
            return Err(Error::invalid(
                "a sandbox that keeps CAP_NET_ADMIN or CAP_NET_RAW could get past egress_max()",
            )
            .with_hint("take the capability away, or the limit"));
        }
        Ok(Wanted {
            bridge: self.bridge.clone(),
            policy: self.egress.parse()?,
            published: self.published.clone(),
            connections_max,
            remembered_max: connections_max.max(fair_share),
            ingress_max: self.ingress_max,
            egress_max: self.egress_max,
        })
    }
}
