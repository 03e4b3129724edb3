//! Where a sandbox may send: rules in the words of those who write them, and what they come to.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::cidr::Cidr;
use super::protected::METADATA;
use crate::error::{Error, ErrorKind, Result, Step};

/// Where a sandbox on a [`Bridge`](crate::Bridge) may send, and who may answer: rules of which the first that fits decides,
/// and what holds for everything else.
///
/// A rule names its destination as `HOST[:PORT[-PORT]][/PROTOCOL]`:
///
/// | rule | what it fits |
/// |---|---|
/// | `10.0.0.5:443` | TCP to that port of that address |
/// | `10.0.0.0/8` | everything to these addresses |
/// | `10.0.0.53:53/udp` | UDP to that port |
/// | `10.0.0.0/8:8000-8999` | TCP to one of these ports |
/// | `10.0.0.5/tcp` | TCP to any port |
/// | `[fd00::5]:443`, `[fd00::]/64:443`, `fd00::/64` | the same of IPv6 |
/// | `example.org:443` | TCP to that port of what the host resolves the name to when the sandbox starts |
///
/// What a rule allows may be answered.
///
/// # Protected addresses
///
/// - those of the bridge itself, that is other sandboxes and the host;
/// - `169.254.0.0/16` and `fe80::/10`, link-local ones, among them those where most clouds have their metadata services, which
///   hand out credentials; and `64:ff9b::a9fe:0/112`, the same by a translator of addresses;
/// - `168.63.129.16`, `192.0.0.192`, `100.100.100.200`, `fd00:ec2::/32`, `fd20:ce::254`, `fd00:c1::a9fe:a9fe`,
///   `fd00:100::100:200`, `fd00:42::42` and `fd00:a9fe:a9fe::1`, where the others have them;
/// - multicast, broadcast and what is reserved, `224.0.0.0/3` and `ff00::/8`.
///
/// They are denied whatever the rules say of wider networks: a rule opens one of them only by addresses all of which are in
/// that range, and not by a name, whose owner says which addresses it has. Other addresses that the host itself has are
/// services of the host, and are denied, too, but for a rule that names the one address. With [`allow_all`](Self::allow_all)
/// the sandbox's name servers may be asked though they are in such a range, where clouds have theirs.
///
/// The kernel decides by `nf_tables`. A program that is denied a connection by TCP hears `ECONNREFUSED` at once, by a reset, as
/// where nobody listens. Anything else, and what is on or published by another bridge, is answered by ICMP "administratively
/// prohibited", `EHOSTUNREACH` and by IPv6 `EACCES`, as often as the kernel sends such (`icmp_ratelimit`, icmp(7)); a program
/// that waits in `connect` hears it a second later. [`Outcome::egress`](crate::Outcome::egress) tells what was denied. See
/// [nft(8)](https://man7.org/linux/man-pages/man8/nft.8.html).
///
/// # Examples
///
/// ```
/// use belljar::Egress;
///
/// let one_service = Egress::deny_all().allow("10.0.0.5:443").allow("10.0.0.53:53/udp");
/// let the_world = Egress::allow_all().deny("10.0.0.0/8").deny("192.168.0.0/16");
/// # let _ = (one_service, the_world);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Egress {
    otherwise: Act,
    rules: Vec<(Act, String)>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Allow,
    Deny,
}

impl Egress {
    /// Nothing but what rules allow.
    pub fn deny_all() -> Self {
        Self { otherwise: Act::Deny, rules: Vec::new() }
    }

    /// Everything but what rules deny, and what is protected.
    pub fn allow_all() -> Self {
        Self { otherwise: Act::Allow, rules: Vec::new() }
    }

    /// Adds a rule that allows. What is wrong with it, the [plan](crate::Sandbox::plan) says.
    pub fn allow(mut self, destination: impl Into<String>) -> Self {
        self.rules.push((Act::Allow, destination.into()));
        self
    }

    /// Adds a rule that denies. What is wrong with it, the [plan](crate::Sandbox::plan) says.
    pub fn deny(mut self, destination: impl Into<String>) -> Self {
        self.rules.push((Act::Deny, destination.into()));
        self
    }

    /// The rules as they are meant.
    pub(super) fn parse(&self) -> Result<Policy> {
        let rule = |(act, text): &(Act, String)| {
            let destination = text.parse().map_err(|what: String| {
                Error::invalid(format!("the egress rule {text:?} is none: {what}")).with_hint(
                    "a destination is HOST[:PORT[-PORT]][/PROTOCOL], like 10.0.0.5:443 or [fd00::]/64:53/udp",
                )
            })?;
            Ok(Rule { act: *act, text: text.clone(), destination })
        };
        Ok(Policy { otherwise: self.otherwise, rules: self.rules.iter().map(rule).collect::<Result<_>>()? })
    }
}

impl Default for Egress {
    /// [`Egress::allow_all`].
    fn default() -> Self {
        Self::allow_all()
    }
}

/// Rules that were understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) otherwise: Act,
    pub(super) rules: Vec<Rule>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) act: Act,
    /// As it was written.
    pub(super) text: String,
    destination: Destination,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    host: Host,
    service: Service,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Addresses(Cidr),
    Name(String),
}

/// What of a host is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    Everything,
    Ports(Protocol, RangeInclusive<u16>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As IP has it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// What a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The rule of this number of those that were written.
    Rule(usize),
    /// Such a rule by a name: whoever has the name says which addresses it has.
    Name(usize),
    /// A range is protected.
    Protection,
    /// A name server of the sandbox is in such a range.
    NameServer,
}

/// A rule about addresses, names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) act: Act,
    pub(super) origin: Origin,
    pub(super) addresses: Cidr,
    pub(super) service: Service,
}

impl Resolved {
    /// Whether it may be about what is protected: by an address, or to deny.
    pub(super) fn is_precise(&self) -> bool {
        self.act == Act::Deny || !matches!(self.origin, Origin::Name(_))
    }
}

impl Policy {
    /// Looks the names up, as a program of the host would. Name servers may be asked where nothing else is said.
    pub(super) fn resolve(&self, servers: &[IpAddr]) -> Result<Vec<Resolved>> {
        let mut resolved = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let (origin, all) = match &rule.destination.host {
                Host::Addresses(cidr) => (Origin::Rule(number), vec![*cidr]),
                Host::Name(name) => {
                    (Origin::Name(number), look_up(name)?.into_iter().map(Cidr::one).collect())
                }
            };
            let service = &rule.destination.service;
            resolved.extend(all.into_iter().map(|addresses| Resolved {
                act: rule.act,
                origin,
                addresses,
                service: service.clone(),
            }));
        }
        // Clouds have theirs where the metadata service is.
        let in_range = |server: &&IpAddr| METADATA.iter().any(|range| range.contains(**server));
        for server in servers.iter().filter(in_range).filter(|_| self.otherwise == Act::Allow) {
            resolved.extend([Protocol::Udp, Protocol::Tcp].map(|protocol| Resolved {
                act: Act::Allow,
                origin: Origin::NameServer,
                addresses: Cidr::one(*server),
                service: Service::Ports(protocol, 53..=53),
            }));
        }
        Ok(resolved)
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs().map_err(|error| {
        Error::message(ErrorKind::NotFound, Step::Network, format!("the host cannot resolve {name}: {error}"))
            .with_hint("the name of an egress rule is looked up by the host when a sandbox starts")
    })?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
            Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
            Some((_, word)) if word.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                return Err(format!("{word:?} is neither tcp nor udp"));
            }
            _ => (text, None),
        };
        let (host, ports) = if let Some(rest) = rest.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
            let (length, ports) = match rest.split_once(':') {
                Some((length, ports)) => (length, Some(ports)),
                None => (rest, None),
            };
            let cidr: Cidr = format!("{address}{length}").parse()?;
            if !cidr.address().is_ipv6() {
                return Err("brackets are for addresses of IPv6".to_owned());
            }
            (Host::Addresses(cidr), ports)
        } else if rest.matches(':').count() > 1 {
            (Host::Addresses(rest.parse()?), None)
        } else {
            match rest.split_once(':') {
                Some((host, ports)) => (host.parse()?, Some(ports)),
                None => (rest.parse()?, None),
            }
        };
        let service = match (ports, protocol) {
            (None, None) => Service::Everything,
            (None, Some(protocol)) => Service::Ports(protocol, 0..=u16::MAX),
            (Some(ports), protocol) => Service::Ports(protocol.unwrap_or(Protocol::Tcp), port_range(ports)?),
        };
        Ok(Self { host, service })
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        // What ends with a number is meant as an address (RFC 3696, 2): 10.0.0 and 1.2.3.4.5 are no names.
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or("");
        if text.contains('/') || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Addresses);
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_label) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(format!("{text:?} is neither an address nor a name"))
    }
}

fn port_range(text: &str) -> std::result::Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|&port| plain && port != 0).ok_or(format!("{text:?} is not a port"))
    };
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err(format!("{text} ends before it begins")) } else { Ok(range) }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn destination(text: &str) -> Destination {
        text.parse().unwrap()
    }

    fn net(text: &str) -> Host {
        Host::Addresses(text.parse().unwrap())
    }

    #[test]
    fn destinations() {
        use Protocol::{Tcp, Udp};
        use Service::{Everything, Ports};
        for (text, host, service) in [
            ("10.0.0.5:443", net("10.0.0.5"), Ports(Tcp, 443..=443)),
            ("10.0.0.5", net("10.0.0.5"), Everything),
            ("10.0.0.0/8", net("10.0.0.0/8"), Everything),
            ("10.0.0.53:53/udp", net("10.0.0.53"), Ports(Udp, 53..=53)),
            ("10.0.0.0/8:8000-8999", net("10.0.0.0/8"), Ports(Tcp, 8000..=8999)),
            ("10.0.0.0/8/tcp", net("10.0.0.0/8"), Ports(Tcp, 0..=65535)),
            ("[fd00::5]:443", net("fd00::5"), Ports(Tcp, 443..=443)),
            ("[fd00::]/64:443/udp", net("fd00::/64"), Ports(Udp, 443..=443)),
            ("[::1]", net("::1"), Everything),
            ("fd00::/64", net("fd00::/64"), Everything),
            ("fd00::5/udp", net("fd00::5"), Ports(Udp, 0..=65535)),
            ("example.org:443", Host::Name("example.org".to_owned()), Ports(Tcp, 443..=443)),
            ("localhost", Host::Name("localhost".to_owned()), Everything),
        ] {
            assert_eq!(destination(text), Destination { host, service }, "{text}");
        }
        for text in [
            "",
            ":",
            ":443",
            "10.0.0.5:",
            "10.0.0.5:0",
            "10.0.0.5:65536",
            "10.0.0.5:+1",
            "10.0.0.5:2-1",
            "10.0.0.5:1-",
            "10.0.0.5/icmp",
            "10.0.0.5:1/sctp",
            "10.0.0.1/8",
            "10.0.0",
            "1.2.3.4.5",
            "[10.0.0.5]:1",
            "[fd00::5:1",
            "[fd00::5]x",
            "a..b:1",
            "exa mple:1",
            "fd00::5:443:zz",
            "*:443",
            "*.example.org",
            "10.0.0.5:http",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn name_servers_of_clouds_may_be_asked() {
        let servers = ["169.254.169.253", "192.0.2.53"].map(|text| text.parse().unwrap());
        let resolved = Egress::allow_all().parse().unwrap().resolve(&servers).unwrap();
        assert_eq!(resolved.len(), 2);
        assert!(
            resolved.iter().all(|rule| rule.addresses == Cidr::one(servers[0]) && rule.act == Act::Allow)
        );
        assert_eq!(Egress::deny_all().parse().unwrap().resolve(&servers).unwrap(), []);
    }

    #[test]
    fn a_wrong_rule_is_told_with_its_text() {
        let error = Egress::deny_all().allow("10.0.0.5:0").parse().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("\"10.0.0.5:0\""), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn names_are_looked_up_late() {
        let policy = Egress::deny_all().allow("no.such.name.invalid:1").parse().unwrap();
        let error = policy.resolve(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let policy = Egress::deny_all().allow("10.1.0.0/16").deny("localhost:80").parse().unwrap();
        let resolved = policy.resolve(&[]).unwrap();
        assert_eq!(resolved[0].origin, Origin::Rule(0));
        assert!(resolved[1..].iter().all(|rule| rule.origin == Origin::Name(1) && rule.addresses.is_one()));
        assert!(resolved[1..].iter().any(|rule| rule.addresses.address().is_loopback()));
    }

    proptest! {
        #[test]
        fn any_text(text in "[\\[\\]a-z0-9:/.*-]{0,30}") {
            let _ = text.parse::<Destination>();
        }
    }
}
