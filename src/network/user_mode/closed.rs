//! What a sandbox does not reach, although the program would: rules for the packet filter of its own network namespace, which its
//! init installs before there is an interface.

use std::net::IpAddr;

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey};

use crate::network::cidr::Cidr;
use crate::network::egress::{Act, Origin, Protocol, Resolved, Service};
use crate::network::firewall::{add_refusal, fits, interface_name, refuse};
use crate::network::nft::{Base, Batch, Family, Table, Verdict, is_not, meta, verdict};
use crate::network::protected::METADATA;

const TABLE: Table<'_> = Table { family: Family::Inet, name: "belljar" };
const CHAIN: &str = "closed";

/// What the program takes for the host's own. By a socket that is bound to an interface, the kernel sends it there.
const LOOPBACK: [Cidr; 3] = [
    Cidr::v4([127, 0, 0, 0], 8),
    Cidr::v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    // The same of IPv4, and everything else of it, in the words of IPv6.
    Cidr::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
];

/// Makes a table that closes the loopback interface of the host, and metadata services but for name servers there.
pub(super) fn rules(metadata_services: bool, servers: &[IpAddr]) -> Batch {
    let to = |addresses, service| {
        fits(&Resolved { act: Act::Deny, origin: Origin::Protection, addresses, service })
    };
    let mut batch = Batch::default();
    batch.add_table(TABLE);
    add_refusal(&mut batch, TABLE);
    // Routes would not do: by a socket that is bound to an interface, the kernel sends where none leads.
    let base = Base { kind: "filter", hook: InetHookNumber::LocalOut, priority: 0 };
    batch.add_chain(TABLE, CHAIN, Some(base));
    let mut rule = |mut parts: Vec<_>, end| {
        parts.extend(end);
        batch.add_rule(TABLE, CHAIN, parts);
    };
    let leaves = || vec![meta(MetaKey::Oifname, 0), is_not(0, interface_name("lo"))];
    for addresses in LOOPBACK {
        rule(leaves(), [to(addresses, Service::Everything), vec![refuse()]].concat());
    }
    if !metadata_services {
        // Some clouds have their name server there.
        for &server in servers.iter().filter(|&&server| METADATA.iter().any(|range| range.contains(server))) {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let ask = to(Cidr::one(server), Service::Ports(protocol, 53..=53));
                rule(ask, vec![verdict(Verdict::Accept)]);
            }
        }
        for addresses in METADATA {
            rule(to(addresses, Service::Everything), vec![refuse()]);
        }
    }
    batch
}
