//! What holds for all sandboxes of a bridge.

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey};

use super::Firewall;
use super::conditions::{
    FRAGMENT, accept, comes_from, ethertype, icmp, interface_name, of_family, source, to_the_wire,
};
use super::refusal::{add_refusal, refuse};
use super::{
    EGRESS_4, EGRESS_6, PORTS, PUBLISHED_4, PUBLISHED_6, RECEIVED, TO_HOST_4, TO_HOST_6, WHO_4, WHO_6,
    WHO_ASKS,
};
use crate::network::nft::{
    Base, Batch, Expression, Field, Header, Tracked, Verdict, counter, decide_by, is, is_for_this_host,
    is_in, is_not, is_not_tracked, is_tracked, keep_bits, look_up, masquerade, meta, payload, reject,
    send_to, verdict,
};

/// Headers of IPv6 before others (RFC 7045): hop by hop, routing, fragment, authentication, destination, mobility, HIP, shim6.
const LEADING: [u8; 8] = [0, 43, FRAGMENT, 51, 60, 135, 139, 140];

impl Firewall {
    /// Makes the tables anew, whatever was in them.
    pub(in crate::network) fn install(&self, batch: &mut Batch) {
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
        add_refusal(batch, table);
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
        rule("from_bridge_to_host", vec![vec![counter(), refuse()]]);

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
        // What another bridge publishes is a service of this host. A reset does not get back to who asked for its address.
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
        // A reset would be from the sandbox's own address.
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
}
