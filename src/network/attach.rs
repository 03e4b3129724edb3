//! From a bridge to a sandbox: the wire between them, its ends' addresses, what is allowed on it, and what went over it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::bridge::{Bridge, Turn, failed, forget_connections, gone, not_taken};
use super::cidr::{Cidr, bits_of};
use super::egress::{Origin, Policy, Resolved};
use super::firewall::{Admission, Firewall, Guest, PUBLISHED_4, PUBLISHED_6, Published, leads_to};
use super::nft::{ADDING_A_NEW_ELEMENT, Batch, Count, Element, Nft};
use super::route::{Mark, Routes, Wire};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;

/// How the bridge's ends of wires are called: this, and the address of the sandbox in hexadecimal digits. The kernel lets no two
/// interfaces have one name, and takes a wire away with the sandbox that has its other end: so the names say which
/// addresses are in use, also when a host was killed.
pub(super) const PORT_PREFIX: &str = "bj";

/// What a sandbox calls its end.
const INNER: &str = "eth0";

/// How long a wire is waited for whose sandbox has ended: the kernel takes network namespaces down in the background.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(super) bridge: Bridge,
    pub(super) policy: Policy,
    pub(super) published: Vec<Published>,
    pub(super) connections_max: u32,
    pub(super) remembered_max: u32,
    /// Bytes a second.
    pub(super) ingress_max: Option<Bytes>,
    pub(super) egress_max: Option<Bytes>,
}

/// A sandbox's place on a bridge. Dropping it gives that up.
#[derive(Debug)]
pub(crate) struct Attachment {
    wanted: Wanted,
    guest: Guest,
    /// The number of its port, which no other ever has.
    port: u32,
    /// The rules as they were resolved.
    rules: Vec<Resolved>,
    owner: u32,
}

/// What went over the wire of a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets. What the sender's kernel leaves to the interface to cut into packets is one.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// What a rule about a sandbox's egress has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EgressCount {
    /// The rule as it was written, after `allow` or `deny`; `deny protected` for all that is protected,
    /// `allow otherwise` or `deny otherwise` for what no rule was about, and `deny more than … connections` for what was too much.
    pub rule: String,
    /// What began by it: of a connection that is allowed the first packet, of what is denied each. What was too much counts at the
    /// rule that allowed it, too.
    pub traffic: Traffic,
}

impl From<Count> for Traffic {
    fn from(count: Count) -> Self {
        Self { packets: count.packets, bytes: count.bytes }
    }
}

/// An Ethernet address of this machine alone, made from one of IPv4.
pub(super) fn ethernet_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    // The second lowest bit of the first byte: administered locally.
    [0x02, b'b', a, b, c, d]
}

/// The number in a subnet of the sandbox at a port.
pub(super) fn number_of(subnet: &Cidr, port: &str) -> Option<u32> {
    let own = u32::from_str_radix(port.strip_prefix(PORT_PREFIX)?, 16).ok()?;
    let IpAddr::V4(first) = subnet.address() else { return None };
    subnet.contains(IpAddr::V4(own.into())).then(|| own - u32::from(first))
}

/// The address that the kernel gives an interface by itself (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

impl Bridge {
    /// How many sandboxes can be on it. The first address names the network, the second is the host's, the last is for
    /// broadcasts.
    fn room(&self) -> u32 {
        (1_u32 << (32 - self.0.subnet.prefix())) - 3
    }

    fn guest(&self, number: u32) -> Option<Guest> {
        let own = self.0.subnet.nth(number + 2)?;
        let IpAddr::V4(v4) = own else { return None };
        let ethernet = ethernet_address(v4);
        let mut addresses = vec![own];
        if let Some(subnet) = &self.0.subnet6 {
            addresses.extend([subnet.nth(number + 2)?, IpAddr::V6(link_local(ethernet))]);
        }
        Some(Guest { port: format!("{PORT_PREFIX}{:08x}", u32::from(v4)), ethernet, addresses })
    }

    /// Makes a wire for a sandbox, with the first address that is free. It goes with the sandbox's namespace. Also returns the
    /// number of its port, and the turn, to be held until the rules about it are there.
    fn wire(&self, namespace: &OwnedFd) -> Result<(Guest, u32, Turn<'_>)> {
        let room = self.room();
        let since = Instant::now();
        loop {
            let turn = self.0.turn()?;
            for _ in 0..room {
                let Some(guest) = self.guest(self.0.next_number() % room) else { continue };
                let wire = Wire {
                    port: &guest.port,
                    bridge: self.0.index,
                    mtu: self.0.mtu,
                    inner: INNER,
                    inner_address: guest.ethernet,
                    namespace,
                };
                // Not for longer: whoever waits for an address must not keep others from giving theirs back.
                let made = self.0.routes()?.make_wire(&wire);
                match made {
                    Ok(()) => {
                        let found = self.0.routes()?.number(&guest.port);
                        let found = found.map_err(|error| self.explain("looking for a wire to", error))?;
                        let port = found.ok_or_else(|| gone(&self.0.name))?;
                        return Ok((guest, port, turn));
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                    Err(error) => return Err(self.explain("making a wire to", error)),
                }
            }
            if since.elapsed() > PATIENCE {
                let message = format!("all {room} addresses of {} are in use", self.0.subnet);
                return Err(Error::message(ErrorKind::ResourceExhausted, Step::Network, message)
                    .with_hint("end a sandbox, or give the bridge a larger subnet"));
            }
            drop(turn);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Notes in the kernel that an address is used. If it was used before, the kernel may still know connections of that time:
    /// then it is made to forget those of every address that was used and is not.
    fn mark(&self, guest: &Guest) -> Result<()> {
        let bridge = &self.0;
        let own: Vec<IpAddr> = self.in_subnets(guest).collect();
        let told = |error| failed("telling the host of its neighbour", error);
        let mark = |mark| -> Result<bool> {
            let mut routes = bridge.routes()?;
            for &address in &guest.addresses {
                // Link-local ones are none that anything is tracked of.
                let mark = if own.contains(&address) { mark } else { Mark::NewOrNot };
                match routes.set_neighbour(bridge.index, address, guest.ethernet, mark) {
                    Err(error) if mark == Mark::New && error.raw_os_error() == Some(libc::EEXIST) => {
                        return Ok(false);
                    }
                    made => made.map_err(told)?,
                }
            }
            Ok(true)
        };
        if mark(Mark::New)? {
            return Ok(());
        }
        let mut routes = bridge.routes()?;
        let ports = routes.interfaces().map_err(|error| failed("listing the interfaces", error))?;
        let mut used = routes.neighbours(bridge.index).map_err(told)?;
        drop(routes);
        used.retain(|address| {
            let is_free = !ports.iter().any(|port| bridge.is_at(*address, &port.name));
            own.contains(address) || bridge.firewall.has(*address) && is_free
        });
        forget_connections(&mut *bridge.nft()?, |address| used.contains(&address))?;
        let mut routes = bridge.routes()?;
        for address in used.into_iter().filter(|address| !own.contains(address)) {
            routes.remove_neighbour(bridge.index, address).map_err(told)?;
        }
        drop(routes);
        mark(Mark::NewOrNot).map(drop)
    }

    /// Which of its addresses are routed.
    fn in_subnets(&self, guest: &Guest) -> impl Iterator<Item = IpAddr> {
        guest.addresses.iter().copied().filter(|&address| self.0.firewall.has(address))
    }

    /// Why something about the bridge failed: it may be gone.
    fn explain(&self, what: &str, error: std::io::Error) -> Error {
        let name = &self.0.name;
        match self.0.routes().map(|mut routes| routes.interface(name)) {
            Ok(Ok(found)) if found.as_ref().is_none_or(|found| found.index != self.0.index) => gone(name),
            _ => failed(format!("{what} the bridge {name}"), error),
        }
    }
}

impl Wanted {
    /// Wires the sandbox that has this network namespace to the bridge.
    pub(crate) fn attach(&self, namespace: &OwnedFd) -> Result<Attachment> {
        let rules = self.policy.resolve(&self.bridge.0.dns)?;
        let (guest, port, turn) = self.bridge.wire(namespace)?;
        // From here on it is taken back when something fails, for which there must be no turn.
        let attachment = Attachment { wanted: self.clone(), guest, port, rules, owner: std::process::id() };
        let admitted = attachment.admit();
        drop(turn);
        admitted?;
        attachment.configure(namespace)?;
        attachment.open()?;
        Ok(attachment)
    }

    /// In words, a line for each rule.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!("wire {INNER} to the bridge {}", self.bridge.0.name)];
        for (what, rate) in [("receive", self.ingress_max), ("send", self.egress_max)] {
            lines.extend(rate.map(|rate| format!("  {what} at most {rate} a second")));
        }
        lines.push(format!("  {}", self.beyond()));
        lines.extend(self.published.iter().map(|one| format!("  publish {one}")));
        lines.extend(self.policy.rules.iter().map(|rule| format!("  {} {}", rule.act, rule.text)));
        lines.push(format!("  {} otherwise, of what is not protected", self.policy.otherwise));
        lines
    }

    /// The rule about connections, before all others.
    fn beyond(&self) -> String {
        format!("deny more than {} connections", self.connections_max)
    }

    pub(crate) fn bridge(&self) -> &Bridge {
        &self.bridge
    }
}

impl Attachment {
    /// Puts the rules about it in place, before anything can come from it or get to it.
    fn admit(&self) -> Result<()> {
        let bridge = &self.wanted.bridge.0;
        // First nothing leads to it any more, then nothing of before is known.
        self.clear(&mut *bridge.nft()?)?;
        self.wanted.bridge.mark(&self.guest)?;
        let mut batch = Batch::default();
        bridge.firewall.admit(
            &mut batch,
            &Admission {
                guest: &self.guest,
                mark: &self.mark(),
                mtu: bridge.mtu,
                connections_max: self.wanted.connections_max,
                remembered_max: self.wanted.remembered_max,
                otherwise: self.wanted.policy.otherwise,
                rules: &self.rules,
                published: &self.wanted.published,
            },
        );
        match bridge.nft()?.commit(batch) {
            Err(failure)
                if failure.what == ADDING_A_NEW_ELEMENT
                    && failure.source.raw_os_error() == Some(libc::EEXIST) =>
            {
                let ports = self.wanted.published.iter().map(|one| one.outer.to_string());
                let ports = ports.collect::<Vec<_>>().join(" or ");
                let message = format!("the port {ports} is published for another sandbox already");
                Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                    .with_hint("publish another port, or end the sandbox that has it"))
            }
            made => made.map_err(not_taken),
        }
    }

    /// Removes what a sandbox with this address, or with ports that this one publishes, has left: one that ended, whose host
    /// may have been killed.
    fn clear(&self, nft: &mut Nft) -> Result<()> {
        let bridge = &self.wanted.bridge.0;
        let routed = bridge.firewall.routed();
        let mut stale = Batch::default();
        let mut ports = None;
        for set in [PUBLISHED_4, PUBLISHED_6] {
            let listed =
                nft.elements(routed, set).map_err(|error| failed("listing the published ports", error))?;
            for element in listed {
                let Some(to) = leads_to(&element.value) else { continue };
                // No other sandbox has this address.
                let is_own = self.is_led_to(&element);
                let is_wanted = self.wanted.published.iter().any(|own| own.key() == element.key);
                if is_wanted && !is_own && ports.is_none() {
                    let all = bridge.routes()?.interfaces();
                    ports = Some(all.map_err(|error| failed("listing the interfaces", error))?);
                }
                let is_used = || ports.iter().flatten().any(|port| bridge.is_at(to, &port.name));
                if is_own || is_wanted && !is_used() {
                    bridge.firewall.withdraw(&mut stale, set, &element.key);
                }
            }
        }
        nft.commit(stale).map_err(not_taken)
    }

    /// Whether a published port leads to it.
    fn is_led_to(&self, published: &Element) -> bool {
        leads_to(&published.value).is_some_and(|to| self.addresses().any(|own| own == to))
    }

    /// By which its rules are known: the kernel may have taken the wire away by itself, and given the address to the next, whose rules
    /// have the same places.
    fn mark(&self) -> String {
        format!("port {}", self.port)
    }

    /// What is to be done inside: addresses, ways out, how much may be sent.
    fn configure(&self, namespace: &OwnedFd) -> Result<()> {
        let bridge = &self.wanted.bridge.0;
        let inside =
            |what: &str, error: std::io::Error| failed(format!("{what} the sandbox's {INNER}"), error);
        let mut routes = Routes::open_in(namespace).map_err(|error| inside("reaching", error))?;
        let own = routes.interface(INNER).map_err(|error| inside("looking for", error))?;
        let index = own.ok_or_else(|| Error::internal(Step::Network, "a wire without an end"))?.index;
        routes.set_up(index, None).map_err(|error| inside("bringing up", error))?;
        let subnets = [Some(bridge.subnet), bridge.subnet6].into_iter().flatten();
        for (subnet, &address) in subnets.zip(&self.guest.addresses) {
            let whole = bits_of(address);
            let gateway = subnet.nth(1).unwrap_or(subnet.address());
            // Its address is all of the network that is on its wire; everything else, its neighbours too, is beyond the
            // gateway.
            routes
                .add_address(index, address, whole)
                .and_then(|()| routes.add_route(Cidr::one(gateway), None, index))
                .and_then(|()| routes.add_route(Cidr::everything_like(address), Some(gateway), index))
                .map_err(|error| inside(&format!("giving {address} to"), error))?;
        }
        if let Some(rate) = self.wanted.egress_max {
            routes
                .limit_rate(index, rate.get(), bridge.mtu)
                .map_err(|error| inside("limiting the rate of", error))?;
        }
        Ok(())
    }

    /// Lets frames through.
    fn open(&self) -> Result<()> {
        let bridge = &self.wanted.bridge;
        let port = &self.guest.port;
        let mut routes = bridge.0.routes()?;
        if let Some(rate) = self.wanted.ingress_max {
            routes
                .limit_rate(self.port, rate.get(), bridge.0.mtu)
                .map_err(|error| failed(format!("limiting the rate of {port}"), error))?;
        }
        let opened = routes.open_port(self.port, port, self.guest.ethernet);
        drop(routes);
        opened.map_err(|error| bridge.explain("opening a port of", error))
    }

    /// Its address on the bridge, and that of IPv6.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.wanted.bridge.in_subnets(&self.guest)
    }

    /// What it has sent and received; `None` if the rules that count are gone, or another's.
    pub(crate) fn traffic(&self) -> Option<[Traffic; 2]> {
        let firewall = &self.wanted.bridge.0.firewall;
        let mark = self.mark();
        let mut nft = self.wanted.bridge.0.nft().ok()?;
        let mut of = |chain: String| {
            let counts = nft.rule_counts(firewall.bridged(), &chain, &mark).ok()?;
            counts.first().copied().map(Traffic::from)
        };
        Some([of(self.guest.sent_chain())?, of(self.guest.received_chain())?])
    }

    /// What its rules have decided.
    pub(crate) fn egress_counts(&self) -> Vec<EgressCount> {
        let wanted = &self.wanted;
        let firewall = &wanted.bridge.0.firewall;
        let mark = self.mark();
        let Ok(mut nft) = wanted.bridge.0.nft() else { return Vec::new() };
        let mut of = |chain: &str| nft.rule_counts(firewall.routed(), chain, &mark);
        let guest = &self.guest;
        let (Ok(counted), Ok(of_host), Ok(of_limits)) =
            (of(guest.egress_chain()), of(&guest.host_chain()), of(&guest.begin_chain()))
        else {
            return Vec::new();
        };
        if of_limits.is_empty() {
            return Vec::new();
        }
        let rules_given = wanted.policy.rules.len();
        let rules = wanted.policy.rules.iter().map(|rule| format!("{} {}", rule.act, rule.text));
        let others =
            ["deny protected".to_owned(), format!("{} otherwise", wanted.policy.otherwise), wanted.beyond()];
        let mut counts: Vec<EgressCount> =
            rules.chain(others).map(|rule| EgressCount { rule, traffic: Traffic::default() }).collect();
        let [protection, otherwise, beyond] = [0, 1, 2].map(|n| rules_given + n);
        let order = firewall.in_order(&self.rules);
        let number = |rule: &Resolved| match rule.origin {
            Origin::Rule(number) | Origin::Name(number) => number,
            Origin::Protection => protection,
            Origin::NameServer => otherwise,
        };
        // As `admit` has made them.
        let in_order = order.iter().map(|rule| number(rule));
        let routed = in_order.chain([otherwise]).zip(counted);
        let to_host = Firewall::about_the_host(&self.rules).map(number).zip(of_host);
        for (number, count) in routed.chain(to_host).chain(of_limits.into_iter().map(|count| (beyond, count)))
        {
            if let Some(sum) = counts.get_mut(number) {
                sum.traffic.packets += count.packets;
                sum.traffic.bytes += count.bytes;
            }
        }
        counts
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // What cannot be removed goes with the table, and is replaced by the next that has the address.
        let bridge = &self.wanted.bridge.0;
        let (Ok(_turn), Ok(mut nft)) = (bridge.turn(), bridge.nft()) else { return };
        let rules = nft.rule_counts(bridge.firewall.routed(), &self.guest.begin_chain(), &self.mark());
        if rules.is_ok_and(|rules| rules.is_empty()) {
            return;
        }
        let mut batch = Batch::default();
        bridge.firewall.dismiss(&mut batch, &self.guest);
        // Its ports may be published for another by now.
        if !self.wanted.published.is_empty() {
            for set in [PUBLISHED_4, PUBLISHED_6] {
                let listed = nft.elements(bridge.firewall.routed(), set).unwrap_or_default();
                for own in listed.iter().filter(|element| self.is_led_to(element)) {
                    bridge.firewall.withdraw(&mut batch, set, &own.key);
                }
            }
        }
        nft.commit(batch).ok();
    }
}
