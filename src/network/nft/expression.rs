//! The steps of a rule. What they compare is put into registers of 4 bytes each first, which are told by their numbers.

use std::ops::RangeInclusive;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload, Register,
};

use super::{Expression, Field, Set, Verdict};

/// The 32-bit register of this number.
fn register(number: u32) -> Register {
    // NFT_REG32_00
    Register::from(8 + number)
}

fn other(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

fn word(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(in crate::network) fn meta(key: MetaKey, to: u32) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register(to))]).into()
}

#[derive(Debug, Clone, Copy)]
pub(in crate::network) enum Header {
    Link,
    Network,
    Transport,
}

pub(in crate::network) fn payload(header: Header, offset: u32, length: u32, to: u32) -> Expression {
    let base = match header {
        Header::Link => 0,
        Header::Network => 1,
        Header::Transport => 2,
    };
    Expressions::Payload(vec![
        Payload::DestinationRegister(register(to)),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(from: u32, operator: Operator, with: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(register(from)),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(with)),
    ])
    .into()
}

pub(in crate::network) fn is(from: u32, value: impl Into<Vec<u8>>) -> Expression {
    compare(from, Operator::Equal, value.into())
}

pub(in crate::network) fn is_not(from: u32, value: impl Into<Vec<u8>>) -> Expression {
    compare(from, Operator::NotEqual, value.into())
}

/// In the byte order of the network.
pub(in crate::network) fn is_port_of(from: u32, range: &RangeInclusive<u16>) -> Vec<Expression> {
    if range.start() == range.end() {
        return vec![is(from, range.start().to_be_bytes())];
    }
    vec![
        compare(from, Operator::GreaterThan, range.start().saturating_sub(1).to_be_bytes().to_vec()),
        compare(from, Operator::LessThanEqual, range.end().to_be_bytes().to_vec()),
    ]
}

/// Keeps some bits of what is in a register.
pub(in crate::network) fn keep_bits(of: u32, mask: Vec<u8>) -> Expression {
    let length = u32::try_from(mask.len()).unwrap_or(0);
    let nothing = vec![0; mask.len()];
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register(of)),
        Bitwise::DestinationRegister(register(of)),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(nothing)),
    ])
    .into()
}

/// Goes on if what begins in a register is in a set.
pub(in crate::network) fn is_in(set: Set, from: u32) -> Expression {
    Expressions::Lookup(vec![Lookup::Set(set.name.to_owned()), Lookup::SourceRegister(register(from))]).into()
}

/// Looks something up in a map, and puts its value where it says.
pub(in crate::network) fn look_up(set: Set, from: u32, to: u32) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(set.name.to_owned()),
        Lookup::SourceRegister(register(from)),
        Lookup::DestinationRegister(register(to)),
    ])
    .into()
}

/// Looks something up in a map of verdicts, and does what it says.
pub(in crate::network) fn decide_by(set: Set, from: u32) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(set.name.to_owned()),
        Lookup::SourceRegister(register(from)),
        Lookup::DestinationRegister(Register::Verdict),
    ])
    .into()
}

pub(in crate::network) fn verdict(verdict: Verdict) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(verdict.data()),
    ])
    .into()
}

pub(in crate::network) fn counter() -> Expression {
    other("counter", Vec::new())
}

/// The attribute of "reject" that says by what.
const REJECT_BY: u16 = 1;

/// Answers "administratively prohibited", of IPv4 or IPv6.
pub(in crate::network) fn reject() -> Expression {
    const CODE: u16 = 2;
    const ICMPX_UNREACH: u32 = 2;
    const ICMPX_ADMIN_PROHIBITED: u8 = 3;
    let code = DefaultNla::new(CODE, vec![ICMPX_ADMIN_PROHIBITED]);
    other("reject", vec![word(REJECT_BY, ICMPX_UNREACH), code])
}

/// Answers a segment of TCP by a reset.
pub(in crate::network) fn reset() -> Expression {
    const TCP_RST: u32 = 1;
    other("reject", vec![word(REJECT_BY, TCP_RST)])
}

/// Goes on if there are more connections than that of those which have come to this rule and are not over.
pub(in crate::network) fn are_more_than(connections: u32) -> Expression {
    const COUNT: u16 = 1;
    const FLAGS: u16 = 2;
    const OVER: u32 = 1; // NFT_CONNLIMIT_F_INV
    other("connlimit", vec![word(COUNT, connections), word(FLAGS, OVER)])
}

/// Goes on if packets come to this rule more often than that, but for so many at once.
pub(in crate::network) fn is_more_often_than(times: u32, in_seconds: u64, at_once: u32) -> Expression {
    const RATE: u16 = 1;
    const UNIT: u16 = 2;
    const BURST: u16 = 3;
    const FLAGS: u16 = 5;
    const OVER: u32 = 1; // NFT_LIMIT_F_INV
    let long = |kind, value: u64| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    let rate = [long(RATE, times.into()), long(UNIT, in_seconds)];
    other("limit", rate.into_iter().chain([word(BURST, at_once), word(FLAGS, OVER)]).collect())
}

pub(in crate::network) fn masquerade() -> Expression {
    other("masq", Vec::new())
}

/// Sends a packet to the address and the port in these registers.
pub(in crate::network) fn send_to(family: Field, address: u32, port: u32) -> Expression {
    const TYPE: u16 = 1;
    const DNAT: u32 = 1;
    const FAMILY: u16 = 2;
    const ADDRESS: u16 = 3;
    const PORT: u16 = 5;
    let protocol = if family == Field::Ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
    other(
        "nat",
        vec![
            word(TYPE, DNAT),
            word(FAMILY, u32::from(protocol)),
            word(ADDRESS, register(address).into()),
            word(PORT, register(port).into()),
        ],
    )
}

pub(in crate::network) const NFPROTO_IPV4: u8 = 2;
pub(in crate::network) const NFPROTO_IPV6: u8 = 10;

/// Goes on if the destination is an address of this host.
pub(in crate::network) fn is_for_this_host(scratch: u32) -> [Expression; 2] {
    const REGISTER: u16 = 1;
    const RESULT: u16 = 2;
    const FLAGS: u16 = 3;
    const ADDRESS_TYPE: u32 = 3;
    const OF_DESTINATION: u32 = 2;
    const LOCAL: u32 = 2; // RTN_LOCAL
    let fib = vec![
        word(REGISTER, register(scratch).into()),
        word(RESULT, ADDRESS_TYPE),
        word(FLAGS, OF_DESTINATION),
    ];
    [other("fib", fib), is(scratch, LOCAL.to_ne_bytes())]
}

/// What connection tracking knows of a packet.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) enum Tracked {
    /// It could begin a connection. What could not, belongs to none.
    New,
    /// It is in the table: not the first of its connection.
    Noted,
    /// It belongs to a connection that both sides know.
    Established,
    /// It does, or is an error about one.
    Known,
    /// It goes where a published port leads.
    SentOn,
}

fn tracked(as_what: Tracked, scratch: u32) -> [Expression; 2] {
    const REGISTER: u16 = 1;
    const KEY: u16 = 2;
    const STATE: u32 = 0;
    const STATUS: u32 = 2;
    let (key, bits) = match as_what {
        // NF_CT_STATE_BIT of IP_CT_NEW, IP_CT_ESTABLISHED and IP_CT_RELATED.
        Tracked::New => (STATE, 8_u32),
        Tracked::Established => (STATE, 2),
        Tracked::Known => (STATE, 2 | 4),
        // IPS_CONFIRMED and IPS_DST_NAT.
        Tracked::Noted => (STATUS, 1 << 3),
        Tracked::SentOn => (STATUS, 1 << 5),
    };
    [
        other("ct", vec![word(REGISTER, register(scratch).into()), word(KEY, key)]),
        keep_bits(scratch, bits.to_ne_bytes().to_vec()),
    ]
}

/// Goes on if that is so.
pub(in crate::network) fn is_tracked(as_what: Tracked, scratch: u32) -> Vec<Expression> {
    [&tracked(as_what, scratch)[..], &[is_not(scratch, 0_u32.to_ne_bytes())]].concat()
}

/// Goes on if it is not.
pub(in crate::network) fn is_not_tracked(as_what: Tracked, scratch: u32) -> Vec<Expression> {
    [&tracked(as_what, scratch)[..], &[is(scratch, 0_u32.to_ne_bytes())]].concat()
}
