//! The rules about a bridge and the sandboxes on it.
//!
//! ```text
//! table bridge belljar_NAME                      table inet belljar_NAME
//!   from a port: is it who it says it is?          from the bridge to anywhere else:  established, its own rules; or no
//!   to a port: counted                             from the bridge to this host:      established, its own rules, echo; or no
//!                                                  from anywhere to the bridge:       established, published ports; or no
//!                                                  nat: published ports; masquerade
//! ```
//!
//! A sandbox is known by its port, its Ethernet address and its address, and by the last alone where it is routed: the first
//! table sees to it that no other sandbox has that.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey};

use super::cidr::Cidr;
use super::egress::{Act, Origin, Protocol, Resolved, Service};
use super::nft::{
    Base, Batch, Expression, Family, Field, Header, Holds, NFPROTO_IPV4, NFPROTO_IPV6, Set, Table, Tracked,
    Value, Verdict, are_more_than, counter, decide_by, is, is_for_this_host, is_in, is_more_often_than,
    is_not, is_not_tracked, is_port_of, is_tracked, keep_bits, look_up, masquerade, meta, payload, reject,
    send_to, verdict,
};
use super::protected::{METADATA, OF_THE_WIRE};

/// Chain of each sandbox for what is routed, by its address.
const EGRESS_4: Set = Set { name: "egress4", key: &[Field::Ipv4], holds: Holds::Verdict };
const EGRESS_6: Set = Set { name: "egress6", key: &[Field::Ipv6], holds: Holds::Verdict };
/// And for what is for this host.
const TO_HOST_4: Set = Set { name: "to_host4", key: &[Field::Ipv4], holds: Holds::Verdict };
const TO_HOST_6: Set = Set { name: "to_host6", key: &[Field::Ipv6], holds: Holds::Verdict };
/// Where published ports lead.
pub(super) const PUBLISHED_4: Set = Set {
    name: "published4",
    key: &[Field::Protocol, Field::Port],
    holds: Holds::Value(&[Field::Ipv4, Field::Port]),
};
pub(super) const PUBLISHED_6: Set = Set {
    name: "published6",
    key: &[Field::Protocol, Field::Port],
    holds: Holds::Value(&[Field::Ipv6, Field::Port]),
};
/// Who is at which port.
const WHO_4: Set = Set {
    name: "who4",
    key: &[Field::InterfaceName, Field::EthernetAddress, Field::Ipv4],
    holds: Holds::Verdict,
};
const WHO_6: Set = Set {
    name: "who6",
    key: &[Field::InterfaceName, Field::EthernetAddress, Field::Ipv6],
    holds: Holds::Verdict,
};
/// Who asks who has an address, by the frame and by what is in it.
const WHO_ASKS: Set = Set {
    name: "who_asks",
    key: &[Field::InterfaceName, Field::EthernetAddress, Field::EthernetAddress, Field::Ipv4],
    holds: Holds::Verdict,
};
const PORTS: Set = Set { name: "ports", key: &[Field::InterfaceName], holds: Holds::Nothing };
const RECEIVED: Set = Set { name: "received", key: &[Field::InterfaceName], holds: Holds::Verdict };

/// Headers of IPv6 before others (RFC 7045): hop by hop, routing, fragment, authentication, destination, mobility, HIP, shim6.
const LEADING: [u8; 8] = [0, 43, FRAGMENT, 51, 60, 135, 139, 140];
const FRAGMENT: u8 = 44;

/// How much of the host's room for fragments that wait for others, 4 MiB, one sandbox may take (`ipfrag_high_thresh`; they wait for
/// 30 seconds, and by IPv6 for 60).
const FRAGMENTS: u32 = 1 << 20;

/// The rules about one bridge.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    table: String,
    bridge: String,
    subnets: Vec<Cidr>,
    masquerades: bool,
}

/// A sandbox, as the rules know it.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    /// The bridge's end of its wire.
    pub(super) port: String,
    pub(super) ethernet: [u8; 6],
    /// Its own, of IPv6 its link-local one last.
    pub(super) addresses: Vec<IpAddr>,
}

/// A sandbox that is to be let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission<'a> {
    pub(super) guest: &'a Guest,
    /// By which its rules are known from those of others that had its address.
    pub(super) mark: &'a str,
    pub(super) mtu: u32,
    pub(super) connections_max: u32,
    /// How many it may begin at once, and again in each two minutes: the kernel remembers for so long those that are over.
    pub(super) remembered_max: u32,
    pub(super) otherwise: Act,
    pub(super) rules: &'a [Resolved],
    pub(super) published: &'a [Published],
}

/// A port of the host that leads into a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) protocol: Protocol,
    pub(super) outer: u16,
    pub(super) inner: u16,
}

impl Guest {
    pub(super) fn host_chain(&self) -> String {
        format!("{}-host", self.port)
    }

    pub(super) fn sent_chain(&self) -> String {
        format!("{}-sent", self.port)
    }

    pub(super) fn received_chain(&self) -> String {
        format!("{}-received", self.port)
    }

    /// Through which whatever is allowed goes.
    pub(super) fn begin_chain(&self) -> String {
        format!("{}-begin", self.port)
    }

    pub(super) fn egress_chain(&self) -> &str {
        &self.port
    }

    fn who(&self, address: IpAddr) -> Vec<u8> {
        [interface_name(&self.port), ethernet_key(self.ethernet), octets(address)].concat()
    }

    fn who_asks(&self, address: IpAddr) -> Vec<u8> {
        let ethernet = || ethernet_key(self.ethernet);
        [interface_name(&self.port), ethernet(), ethernet(), octets(address)].concat()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// As it is in registers.
fn ethernet_key(address: [u8; 6]) -> Vec<u8> {
    [&address[..], &[0; 2]].concat()
}

/// As the kernel compares it.
pub(super) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{} as {}/{protocol}", self.outer, self.inner)
    }
}

impl Published {
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = vec![self.protocol.number(), 0, 0, 0];
        key.extend(self.outer.to_be_bytes());
        key.extend([0; 2]);
        key
    }

    fn value(&self, address: IpAddr) -> Vec<u8> {
        let mut value = octets(address);
        value.extend(self.inner.to_be_bytes());
        value.extend([0; 2]);
        value
    }
}

/// Where a published port leads, by its value in the map.
pub(super) fn leads_to(value: &[u8]) -> Option<IpAddr> {
    // The address, the port, and two bytes that make the port a whole register.
    match value.len() {
        8 => value.first_chunk::<4>().map(|address| IpAddr::from(*address)),
        20 => value.first_chunk::<16>().map(|address| IpAddr::from(*address)),
        _ => None,
    }
}

fn published_set(address: IpAddr) -> Set {
    if address.is_ipv4() { PUBLISHED_4 } else { PUBLISHED_6 }
}

impl Firewall {
    pub(super) fn new(bridge: &str, subnets: Vec<Cidr>, masquerades: bool) -> Self {
        Self { table: format!("belljar_{bridge}"), bridge: bridge.to_owned(), subnets, masquerades }
    }

    pub(super) fn routed(&self) -> Table<'_> {
        Table { family: Family::Inet, name: &self.table }
    }

    pub(super) fn bridged(&self) -> Table<'_> {
        Table { family: Family::Bridge, name: &self.table }
    }

    fn tables(&self) -> [Table<'_>; 2] {
        [self.routed(), self.bridged()]
    }

    /// Takes the tables away, if somebody else has not.
    pub(super) fn remove(&self, batch: &mut Batch) {
        for table in self.tables() {
            // It is there then, and can be removed.
            batch.add_table(table);
            batch.delete_table(table);
        }
    }

    /// Makes the tables anew, whatever was in them.
    pub(super) fn install(&self, batch: &mut Batch) {
        self.remove(batch);
        for table in self.tables() {
            batch.add_table(table);
        }
        self.install_routed(batch);
        self.install_bridged(batch);
    }

    fn install_routed(&self, batch: &mut Batch) {
        let table = self.routed();
        for (id, set) in
            (1..).zip([EGRESS_4, EGRESS_6, TO_HOST_4, TO_HOST_6, PUBLISHED_4, PUBLISHED_6, PORTS])
        {
            batch.add_set(table, set, id);
        }
        let filter = |hook, priority| Some(Base { kind: "filter", hook, priority });
        let nat = |hook, priority| Some(Base { kind: "nat", hook, priority });
        for (name, base) in [
            ("from_bridge_to_host", None),
            ("from_bridge", None),
            ("raw", filter(InetHookNumber::PreRouting, -300)),
            // When it is known where published ports lead, and before it is looked for a way: what goes back by the wire that
            // it has come by would make the kernel send a redirection, after which it sends nobody a refusal (icmp(7),
            // icmp_ratelimit).
            ("sent", filter(InetHookNumber::PreRouting, -50)),
            ("input", filter(InetHookNumber::LocalIn, 0)),
            ("forward", filter(InetHookNumber::Forward, 0)),
            ("output", filter(InetHookNumber::LocalOut, 0)),
            ("prerouting", nat(InetHookNumber::PreRouting, -100)),
            ("dnat_output", nat(InetHookNumber::LocalOut, -100)),
            ("postrouting", nat(InetHookNumber::PostRouting, 100)),
        ] {
            batch.add_chain(table, name, base);
        }
        let mut rule =
            |chain: &str, parts: Vec<Vec<Expression>>| batch.add_rule(table, chain, parts.concat());
        let tracked = |what| is_tracked(what, 0);
        let begins_nothing = || is_not_tracked(Tracked::New, 0);
        let from = || self.comes_from_it();
        let goto = |chain: &str| vec![verdict(Verdict::Goto(chain.to_owned()))];
        let drop = || vec![counter(), verdict(Verdict::Drop)];

        // Frames to some groups do not pass the bridge, but come from the port itself.
        rule("raw", vec![vec![meta(MetaKey::Iifname, 0), is_in(PORTS, 0)], drop()]);

        rule("input", vec![from(), goto("from_bridge_to_host")]);
        rule("from_bridge_to_host", vec![tracked(Tracked::Established), accept()]);
        // How IPv6 finds the gateway: neighbour solicitation and advertisement, of which nothing is tracked.
        for kind in [135, 136] {
            rule("from_bridge_to_host", vec![icmp(Field::Ipv6, kind), accept()]);
        }
        rule("from_bridge_to_host", vec![begins_nothing(), drop()]);
        rule("from_bridge_to_host", vec![source(Field::Ipv4), vec![decide_by(TO_HOST_4, 0)]]);
        rule("from_bridge_to_host", vec![source(Field::Ipv6), vec![decide_by(TO_HOST_6, 0)]]);
        rule("from_bridge_to_host", vec![vec![counter(), reject()]]);

        rule("sent", vec![from(), is_for_this_host(0).to_vec(), accept()]);
        // By IPv6 a neighbour is asked for by a group of the wire, in which this host is.
        for kind in [135, 136] {
            rule("sent", vec![from(), icmp(Field::Ipv6, kind), to_the_wire(), accept()]);
        }
        rule("sent", vec![from(), goto("from_bridge")]);
        rule("from_bridge", vec![tracked(Tracked::Established), accept()]);
        // Errors about a connection would get to whoever they say it was about. And what the kernel does not track would leave with
        // the sandbox's own address.
        rule("from_bridge", vec![begins_nothing(), drop()]);
        // What another bridge publishes is a service of this host.
        rule("from_bridge", vec![tracked(Tracked::SentOn), vec![counter(), reject()]]);
        rule("from_bridge", vec![source(Field::Ipv4), vec![decide_by(EGRESS_4, 0)]]);
        rule("from_bridge", vec![source(Field::Ipv6), vec![decide_by(EGRESS_6, 0)]]);
        rule("from_bridge", vec![drop()]);

        rule("forward", vec![from(), accept()]);
        rule("forward", vec![self.stays_away_from_it(), accept()]);
        rule("forward", vec![tracked(Tracked::Known), accept()]);
        // From outside nobody has such an address: the answer would go to who has it.
        for range in self.protected() {
            rule("forward", vec![comes_from(&range), drop()]);
        }
        rule("forward", vec![tracked(Tracked::SentOn), accept()]);
        rule("forward", vec![vec![counter(), reject()]]);

        // Two sandboxes reach each other by way of this host, which would tell them of a shorter one.
        rule("output", vec![self.goes_to_it(), icmp(Field::Ipv4, 5), vec![verdict(Verdict::Drop)]]);
        rule("output", vec![self.goes_to_it(), icmp(Field::Ipv6, 137), vec![verdict(Verdict::Drop)]]);

        for (family, set) in [(Field::Ipv4, PUBLISHED_4), (Field::Ipv6, PUBLISHED_6)] {
            let to = || {
                vec![
                    meta(MetaKey::L4Proto, 0),
                    payload(Header::Transport, 2, 2, 1),
                    look_up(set, 0, 2),
                    send_to(family, 2, if family == Field::Ipv4 { 3 } else { 6 }),
                ]
            };
            let local = || is_for_this_host(0).to_vec();
            let outside = vec![meta(MetaKey::Iifname, 0), is_not(0, interface_name(&self.bridge))];
            rule("prerouting", vec![of_family(family), outside, local(), to()]);
            // What goes to loopback addresses keeps a source that no interface but that one takes.
            let not_loopback = match family {
                Field::Ipv4 => vec![
                    payload(Header::Network, 16, 4, 0),
                    keep_bits(0, vec![255, 0, 0, 0]),
                    is_not(0, [127, 0, 0, 0]),
                ],
                _ => vec![
                    payload(Header::Network, 24, 16, 0),
                    is_not(0, std::net::Ipv6Addr::LOCALHOST.octets()),
                ],
            };
            rule("dnat_output", vec![of_family(family), not_loopback, local(), to()]);
        }
        if self.masquerades {
            for subnet in &self.subnets {
                let not_to_itself = vec![meta(MetaKey::Oifname, 0), is_not(0, interface_name("lo"))];
                rule(
                    "postrouting",
                    vec![self.stays_away_from_it(), not_to_itself, comes_from(subnet), vec![masquerade()]],
                );
            }
        }
    }

    fn install_bridged(&self, batch: &mut Batch) {
        let table = self.bridged();
        for (id, set) in (1..).zip([WHO_4, WHO_6, WHO_ASKS, PORTS, RECEIVED]) {
            batch.add_set(table, set, id);
        }
        // Before anything else looks at a frame.
        batch.add_chain(
            table,
            "prerouting",
            Some(Base { kind: "filter", hook: InetHookNumber::PreRouting, priority: -300 }),
        );
        batch.add_chain(
            table,
            "postrouting",
            Some(Base { kind: "filter", hook: InetHookNumber::PostRouting, priority: 300 }),
        );
        let mut rule =
            |chain: &str, parts: Vec<Vec<Expression>>| batch.add_rule(table, chain, parts.concat());
        let sender = || vec![meta(MetaKey::Iifname, 0), payload(Header::Link, 6, 6, 4)];
        rule(
            "prerouting",
            vec![
                ethertype(0x0800),
                // Without options, which can say by which way it is to go.
                vec![payload(Header::Network, 0, 1, 0), is(0, [0x45])],
                sender(),
                vec![payload(Header::Network, 12, 4, 6), decide_by(WHO_4, 0)],
            ],
        );
        // Who asks for an address says who it is itself, for Ethernet and IPv4.
        rule(
            "prerouting",
            vec![
                ethertype(0x0806),
                vec![payload(Header::Network, 0, 6, 0), is(0, [0, 1, 8, 0, 6, 4])],
                sender(),
                vec![
                    payload(Header::Network, 8, 6, 6),
                    payload(Header::Network, 14, 4, 8),
                    decide_by(WHO_ASKS, 0),
                ],
            ],
        );
        // Nor with headers that do so, nor with one that others can be behind, but for that of a fragment: there is what follows
        // when the host has put them together.
        let behind_it = vec![is(0, [FRAGMENT]), payload(Header::Network, 40, 1, 0)];
        for behind in [Vec::new(), behind_it] {
            rule(
                "prerouting",
                vec![
                    ethertype(0x86dd),
                    vec![payload(Header::Network, 6, 1, 0)],
                    behind,
                    LEADING.map(|next| is_not(0, [next])).to_vec(),
                    sender(),
                    vec![payload(Header::Network, 8, 16, 6), decide_by(WHO_6, 0)],
                ],
            );
        }
        rule(
            "prerouting",
            vec![vec![meta(MetaKey::Iifname, 0), is_in(PORTS, 0), counter(), verdict(Verdict::Drop)]],
        );
        rule("postrouting", vec![vec![meta(MetaKey::Oifname, 0), decide_by(RECEIVED, 0)]]);
    }

    fn comes_from_it(&self) -> Vec<Expression> {
        vec![meta(MetaKey::Iifname, 0), is(0, interface_name(&self.bridge))]
    }

    fn stays_away_from_it(&self) -> Vec<Expression> {
        vec![meta(MetaKey::Oifname, 0), is_not(0, interface_name(&self.bridge))]
    }

    fn goes_to_it(&self) -> Vec<Expression> {
        vec![meta(MetaKey::Oifname, 0), is(0, interface_name(&self.bridge))]
    }

    /// Lets a sandbox in, in place of whoever had its port before.
    pub(super) fn admit(&self, batch: &mut Batch, admission: &Admission<'_>) {
        let &Admission { guest, mark, otherwise, rules, published, .. } = admission;
        let (routed, bridged) = (self.routed(), self.bridged());
        for (table, chain) in self.chains(guest) {
            batch.add_chain(table, &chain, None);
            batch.flush_chain(table, &chain);
        }
        self.limit_connections(batch, admission);
        let decision = |act| match act {
            Act::Allow => vec![counter(), verdict(Verdict::Goto(guest.begin_chain()))],
            Act::Deny => vec![counter(), reject()],
        };
        for rule in self.in_order(rules) {
            let decided = [fits(&rule), decision(rule.act)].concat();
            batch.add_marked_rule(routed, guest.egress_chain(), mark, decided);
        }
        for rule in Self::about_the_host(rules) {
            let decided = [fits(rule), decision(rule.act)].concat();
            batch.add_marked_rule(routed, &guest.host_chain(), mark, decided);
        }
        batch.add_marked_rule(routed, guest.egress_chain(), mark, decision(otherwise));
        // Is the host there?
        for (family, echo) in [(Field::Ipv4, 8), (Field::Ipv6, 128)] {
            let goto = vec![verdict(Verdict::Goto(guest.begin_chain()))];
            batch.add_rule(routed, &guest.host_chain(), [icmp(family, echo), goto].concat());
        }
        self.limit_fragments(batch, admission);
        for chain in [guest.sent_chain(), guest.received_chain()] {
            batch.add_marked_rule(bridged, &chain, mark, vec![counter(), verdict(Verdict::Accept)]);
        }
        self.each_element(guest, |table, set, key, value| batch.add_element(table, set, &key, value));
        for (address, published) in self.published_of(guest, published) {
            batch.add_new_element(
                routed,
                published_set(address),
                &published.key(),
                Value::Bytes(published.value(address)),
            );
        }
    }

    /// What is allowed may begin a connection as long as there are not too many: of those that are open, and of those that the
    /// kernel remembers.
    fn limit_connections(&self, batch: &mut Batch, admission: &Admission<'_>) {
        let begin = admission.guest.begin_chain();
        let remembered = admission.remembered_max;
        // The kernel goes through a list for the second, to which each that it refuses is added, too: so the first is first.
        for limit in [
            is_more_often_than(remembered.div_ceil(2), MINUTE, remembered),
            are_more_than(admission.connections_max),
        ] {
            let first_of_it = is_not_tracked(Tracked::Noted, 0);
            let too_many = [first_of_it, vec![limit, counter(), reject()]].concat();
            batch.add_marked_rule(self.routed(), &begin, admission.mark, too_many);
        }
        batch.add_rule(self.routed(), &begin, accept());
    }

    /// Fragments wait for each other in room that all of them share, before any rule of that table.
    fn limit_fragments(&self, batch: &mut Batch, admission: &Admission<'_>) {
        // Each takes its bytes, half as many again, and a kilobyte. So many may come at once, and as many in the minute after that.
        let in_a_minute = (FRAGMENTS / 2 / (1024 + admission.mtu * 3 / 2)).max(1);
        let of_4 = vec![payload(Header::Network, 6, 2, 0), keep_bits(0, vec![0x3f, 0xff]), is_not(0, [0, 0])];
        let of_6 = vec![payload(Header::Network, 6, 1, 0), is(0, [FRAGMENT])];
        for fragment in [[ethertype(0x0800), of_4], [ethertype(0x86dd), of_6]] {
            let too_many = vec![is_more_often_than(in_a_minute, MINUTE, in_a_minute), verdict(Verdict::Drop)];
            let chain = admission.guest.sent_chain();
            batch.add_rule(self.bridged(), &chain, [fragment.concat(), too_many].concat());
        }
    }

    /// Takes back what [`admit`](Self::admit) has made, but for published ports, which others may have by now, and but that its port is one: nothing comes from that without the rest.
    pub(super) fn dismiss(&self, batch: &mut Batch, guest: &Guest) {
        self.each_element(guest, |table, set, key, _| {
            if set.name != PORTS.name {
                batch.delete_element(table, set, &key);
            }
        });
        for (table, chain) in self.chains(guest) {
            batch.flush_chain(table, &chain);
            batch.delete_chain(table, &chain);
        }
    }

    /// Takes back a port whose sandbox is gone.
    pub(super) fn withdraw(&self, batch: &mut Batch, set: Set, key: &[u8]) {
        batch.delete_element(self.routed(), set, key);
    }

    /// Each before those that it leads to.
    fn chains(&self, guest: &Guest) -> [(Table<'_>, String); 5] {
        [
            (self.routed(), guest.egress_chain().to_owned()),
            (self.routed(), guest.host_chain()),
            (self.routed(), guest.begin_chain()),
            (self.bridged(), guest.sent_chain()),
            (self.bridged(), guest.received_chain()),
        ]
    }

    fn each_element(&self, guest: &Guest, mut f: impl FnMut(Table<'_>, Set, Vec<u8>, Value)) {
        let goto = |chain: &str| Value::Verdict(Verdict::Goto(chain.to_owned()));
        let jump = |chain: &str| Value::Verdict(Verdict::Jump(chain.to_owned()));
        for &address in &guest.addresses {
            let (egress, to_host, who) = match address {
                IpAddr::V4(_) => (EGRESS_4, TO_HOST_4, WHO_4),
                IpAddr::V6(_) => (EGRESS_6, TO_HOST_6, WHO_6),
            };
            f(self.bridged(), who, guest.who(address), goto(&guest.sent_chain()));
            f(self.routed(), to_host, octets(address), jump(&guest.host_chain()));
            if self.has(address) {
                f(self.routed(), egress, octets(address), goto(guest.egress_chain()));
            }
        }
        for address in guest.addresses.iter().filter(|address| address.is_ipv4()) {
            f(self.bridged(), WHO_ASKS, guest.who_asks(*address), goto(&guest.sent_chain()));
        }
        for table in self.tables() {
            f(table, PORTS, interface_name(&guest.port), Value::Nothing);
        }
        f(self.bridged(), RECEIVED, interface_name(&guest.port), goto(&guest.received_chain()));
    }

    fn published_of<'a>(
        &'a self,
        guest: &'a Guest,
        published: &'a [Published],
    ) -> impl Iterator<Item = (IpAddr, &'a Published)> {
        let own = guest.addresses.iter().filter(|&&address| self.has(address));
        own.flat_map(|&address| published.iter().map(move |published| (address, published)))
    }

    /// Whether this is an address of the bridge's subnets.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Addresses that wide rules do not open.
    fn protected(&self) -> impl Iterator<Item = Cidr> {
        self.subnets.iter().copied().chain(METADATA).chain(OF_THE_WIRE)
    }

    /// The rules that are asked about what is for this host, in order: what allows has to name the one address.
    pub(super) fn about_the_host(rules: &[Resolved]) -> impl Iterator<Item = &Resolved> {
        rules.iter().filter(|rule| rule.act == Act::Deny || rule.is_precise() && rule.addresses.is_one())
    }

    /// The rules in the order in which they are asked: those that open what is protected, its protection, all others.
    pub(super) fn in_order<'a>(&self, rules: &'a [Resolved]) -> Vec<Cow<'a, Resolved>> {
        let protected: Vec<Cidr> = self.protected().collect();
        let (mut within, mut others) = (Vec::new(), Vec::new());
        for rule in rules {
            let is_within = protected.iter().any(|range| range.covers(&rule.addresses));
            if is_within && (rule.act == Act::Deny || rule.is_precise()) {
                within.push(Cow::Borrowed(rule));
                continue;
            }
            // What denies more than a protected range denies that, too: what is opened after it there stays closed.
            let covered =
                protected.iter().filter(|range| rule.act == Act::Deny && rule.addresses.covers(range));
            within.extend(covered.map(|range| Cow::Owned(Resolved { addresses: *range, ..rule.clone() })));
            others.push(Cow::Borrowed(rule));
        }
        let deny = |addresses: &Cidr| {
            Cow::Owned(Resolved {
                act: Act::Deny,
                origin: Origin::Protection,
                addresses: *addresses,
                service: Service::Everything,
            })
        };
        within.into_iter().chain(protected.iter().map(deny)).chain(others).collect()
    }
}

fn family_of(address: IpAddr) -> Field {
    if address.is_ipv4() { Field::Ipv4 } else { Field::Ipv6 }
}

fn accept() -> Vec<Expression> {
    vec![verdict(Verdict::Accept)]
}

/// In seconds.
const MINUTE: u64 = 60;

/// Whether a frame is of this kind.
fn ethertype(number: u16) -> Vec<Expression> {
    vec![payload(Header::Link, 12, 2, 0), is(0, number.to_be_bytes())]
}

fn of_family(family: Field) -> Vec<Expression> {
    let protocol = if family == Field::Ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
    vec![meta(MetaKey::Nfproto, 0), is(0, [protocol])]
}

/// Whether a packet comes from one of these addresses.
fn comes_from(range: &Cidr) -> Vec<Expression> {
    let mut expressions = source(family_of(range.address()));
    expressions.extend([keep_bits(0, range.mask()), is(0, octets(range.address()))]);
    expressions
}

/// Loads the source address.
fn source(family: Field) -> Vec<Expression> {
    let (offset, length) = if family == Field::Ipv6 { (8, 16) } else { (12, 4) };
    let mut load = of_family(family);
    load.push(payload(Header::Network, offset, length, 0));
    load
}

/// Whether a packet goes to a group of IPv6 on the wire that it is on.
fn to_the_wire() -> Vec<Expression> {
    vec![payload(Header::Network, 24, 2, 0), is(0, [0xff, 0x02])]
}

fn icmp(family: Field, kind: u8) -> Vec<Expression> {
    let protocol: u8 = if family == Field::Ipv6 { 58 } else { 1 };
    let mut expressions = of_family(family);
    expressions.extend([
        meta(MetaKey::L4Proto, 0),
        is(0, [protocol]),
        payload(Header::Transport, 0, 1, 0),
        is(0, [kind]),
    ]);
    expressions
}

/// Whether a packet goes where a rule says.
pub(super) fn fits(rule: &Resolved) -> Vec<Expression> {
    let to = rule.addresses;
    let family = family_of(to.address());
    let mut expressions = of_family(family);
    if to.prefix() != 0 {
        let (offset, length) = if family == Field::Ipv6 { (24, 16) } else { (16, 4) };
        expressions.push(payload(Header::Network, offset, length, 0));
        if !to.is_one() {
            expressions.push(keep_bits(0, to.mask()));
        }
        expressions.push(is(0, octets(to.address())));
    }
    if let Service::Ports(protocol, ports) = &rule.service {
        expressions.extend([meta(MetaKey::L4Proto, 0), is(0, [protocol.number()])]);
        if *ports != (0..=u16::MAX) {
            expressions.push(payload(Header::Transport, 2, 2, 0));
            expressions.extend(is_port_of(0, ports));
        }
    }
    expressions
}
