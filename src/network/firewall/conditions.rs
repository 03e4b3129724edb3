//! What of a packet a rule looks at, and how that is written.

use std::net::IpAddr;

use netlink_packet_netfilter::nftables::MetaKey;

use crate::network::cidr::Cidr;
use crate::network::egress::{Resolved, Service};
use crate::network::nft::{
    Expression, Field, Header, NFPROTO_IPV4, NFPROTO_IPV6, Verdict, is, is_port_of, keep_bits, meta, payload,
    verdict,
};

pub(super) const FRAGMENT: u8 = 44;

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// As it is in registers.
pub(super) fn ethernet_key(address: [u8; 6]) -> Vec<u8> {
    [&address[..], &[0; 2]].concat()
}

/// As the kernel compares it.
pub(in crate::network) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

pub(super) fn family_of(address: IpAddr) -> Field {
    if address.is_ipv4() { Field::Ipv4 } else { Field::Ipv6 }
}

pub(super) fn accept() -> Vec<Expression> {
    vec![verdict(Verdict::Accept)]
}

/// Whether a frame is of this kind.
pub(super) fn ethertype(number: u16) -> Vec<Expression> {
    vec![payload(Header::Link, 12, 2, 0), is(0, number.to_be_bytes())]
}

pub(super) fn of_family(family: Field) -> Vec<Expression> {
    let protocol = if family == Field::Ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
    vec![meta(MetaKey::Nfproto, 0), is(0, [protocol])]
}

/// Whether a packet comes from one of these addresses.
pub(super) fn comes_from(range: &Cidr) -> Vec<Expression> {
    let mut expressions = source(family_of(range.address()));
    expressions.extend([keep_bits(0, range.mask()), is(0, octets(range.address()))]);
    expressions
}

/// Loads the source address.
pub(super) fn source(family: Field) -> Vec<Expression> {
    let (offset, length) = if family == Field::Ipv6 { (8, 16) } else { (12, 4) };
    let mut load = of_family(family);
    load.push(payload(Header::Network, offset, length, 0));
    load
}

/// Whether a packet goes to a group of IPv6 on the wire that it is on.
pub(super) fn to_the_wire() -> Vec<Expression> {
    vec![payload(Header::Network, 24, 2, 0), is(0, [0xff, 0x02])]
}

pub(super) fn icmp(family: Field, kind: u8) -> Vec<Expression> {
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
pub(in crate::network) fn fits(rule: &Resolved) -> Vec<Expression> {
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
