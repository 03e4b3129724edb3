//! What holds for one sandbox.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::Firewall;
use super::conditions::{FRAGMENT, accept, ethernet_key, ethertype, fits, icmp, interface_name, octets};
use super::refusal::refuse;
use super::{
    EGRESS_4, EGRESS_6, PORTS, PUBLISHED_4, PUBLISHED_6, RECEIVED, TO_HOST_4, TO_HOST_6, WHO_4, WHO_6,
    WHO_ASKS,
};
use crate::network::cidr::Cidr;
use crate::network::egress::{Act, Origin, Protocol, Resolved, Service};
use crate::network::nft::{
    Batch, Field, Header, Set, Table, Tracked, Value, Verdict, are_more_than, counter, is,
    is_more_often_than, is_not, is_not_tracked, keep_bits, payload, verdict,
};

/// How much of the host's room for fragments that wait for others, 4 MiB, one sandbox may take (`ipfrag_high_thresh`; they wait for
/// 30 seconds, and by IPv6 for 60).
const FRAGMENTS: u32 = 1 << 20;

/// In seconds.
const MINUTE: u64 = 60;

/// A sandbox, as the rules know it.
#[derive(Debug, Clone)]
pub(in crate::network) struct Guest {
    /// The bridge's end of its wire.
    pub(in crate::network) port: String,
    pub(in crate::network) ethernet: [u8; 6],
    /// Its own, of IPv6 its link-local one last.
    pub(in crate::network) addresses: Vec<IpAddr>,
}

/// A sandbox that is to be let in.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) struct Admission<'a> {
    pub(in crate::network) guest: &'a Guest,
    /// By which its rules are known from those of others that had its address.
    pub(in crate::network) mark: &'a str,
    pub(in crate::network) mtu: u32,
    pub(in crate::network) connections_max: u32,
    /// How many it may begin at once, and again in each two minutes: the kernel remembers for so long those that are over.
    pub(in crate::network) remembered_max: u32,
    pub(in crate::network) otherwise: Act,
    pub(in crate::network) rules: &'a [Resolved],
    pub(in crate::network) published: &'a [Published],
}

/// A port of the host that leads into a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::network) struct Published {
    pub(in crate::network) protocol: Protocol,
    pub(in crate::network) outer: u16,
    pub(in crate::network) inner: u16,
}

impl Guest {
    pub(in crate::network) fn host_chain(&self) -> String {
        format!("{}-host", self.port)
    }

    pub(in crate::network) fn sent_chain(&self) -> String {
        format!("{}-sent", self.port)
    }

    pub(in crate::network) fn received_chain(&self) -> String {
        format!("{}-received", self.port)
    }

    /// Through which whatever is allowed goes.
    pub(in crate::network) fn begin_chain(&self) -> String {
        format!("{}-begin", self.port)
    }

    pub(in crate::network) fn egress_chain(&self) -> &str {
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
    pub(in crate::network) fn key(&self) -> Vec<u8> {
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
pub(in crate::network) fn leads_to(value: &[u8]) -> Option<IpAddr> {
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
    /// Lets a sandbox in, in place of whoever had its port before.
    pub(in crate::network) fn admit(&self, batch: &mut Batch, admission: &Admission<'_>) {
        let &Admission { guest, mark, otherwise, rules, published, .. } = admission;
        let (routed, bridged) = (self.routed(), self.bridged());
        for (table, chain) in self.chains(guest) {
            batch.add_chain(table, &chain, None);
            batch.flush_chain(table, &chain);
        }
        self.limit_connections(batch, admission);
        let decision = |act| match act {
            Act::Allow => vec![counter(), verdict(Verdict::Goto(guest.begin_chain()))],
            Act::Deny => vec![counter(), refuse()],
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
            let too_many = [first_of_it, vec![limit, counter(), refuse()]].concat();
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

    /// Takes back what [`admit`](Self::admit) has made, but for published ports, which others may have by now, and but that its
    /// port is one: nothing comes from that without the rest.
    pub(in crate::network) fn dismiss(&self, batch: &mut Batch, guest: &Guest) {
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
    pub(in crate::network) fn withdraw(&self, batch: &mut Batch, set: Set, key: &[u8]) {
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

    /// The rules that are asked about what is for this host, in order: what allows has to name the one address.
    pub(in crate::network) fn about_the_host(rules: &[Resolved]) -> impl Iterator<Item = &Resolved> {
        rules.iter().filter(|rule| rule.act == Act::Deny || rule.is_precise() && rule.addresses.is_one())
    }

    /// The rules in the order in which they are asked: those that open what is protected, its protection, all others.
    pub(in crate::network) fn in_order<'a>(&self, rules: &'a [Resolved]) -> Vec<Cow<'a, Resolved>> {
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
