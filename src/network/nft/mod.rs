//! Tables, chains, sets and rules of the packet filter, by the netlink of nftables (nft(8)).

mod expression;

use std::io;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Hook, HookNumber, InetHookNumber,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;

pub(super) use self::expression::{
    Header, NFPROTO_IPV4, NFPROTO_IPV6, Tracked, are_more_than, counter, decide_by, is, is_for_this_host,
    is_in, is_more_often_than, is_not, is_not_tracked, is_port_of, is_tracked, keep_bits, look_up,
    masquerade, meta, payload, reject, reset, send_to, verdict,
};
use super::netlink::{Netlink, Raw, Refused, frames};

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames that a bridge handles.
    Bridge,
}

/// A table of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) family: Family,
    pub(super) name: &'a str,
}

/// Where packets enter a chain by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub(super) kind: &'static str,
    pub(super) hook: InetHookNumber,
    pub(super) priority: i32,
}

/// A part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    InterfaceName,
    EthernetAddress,
    Ipv4,
    Ipv6,
    Protocol,
    Port,
}

impl Field {
    /// As nft(8) counts its types, which lets it list what is ours.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::EthernetAddress => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
        }
    }

    /// In registers, of 4 bytes each.
    fn length(self) -> usize {
        match self {
            Self::InterfaceName | Self::Ipv6 => 16,
            Self::EthernetAddress => 8,
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
        }
    }
}

fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | field.number())
}

#[expect(clippy::cast_possible_truncation, reason = "of a few fields")]
fn length_of(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length()).sum::<usize>() as u32
}

/// What an element has beside its key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Nothing,
    /// What becomes of the packet.
    Verdict,
    Value(&'static [Field]),
}

/// A set of ours, or a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: &'static [Field],
    pub(super) holds: Holds,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
}

impl Verdict {
    fn data(&self) -> DataAttribute {
        use netlink_packet_netfilter::nftables::Verdict as Code;
        let (code, chain) = match self {
            Self::Drop => (Code::Other(0), None),
            Self::Accept => (Code::Other(1), None),
            Self::Jump(chain) => (Code::Jump, Some(chain)),
            Self::Goto(chain) => (Code::Goto, Some(chain)),
        };
        let mut attributes = vec![VerdictAttribute::Code(code)];
        attributes.extend(chain.cloned().map(VerdictAttribute::Chain));
        DataAttribute::Verdict(attributes)
    }
}

/// The value of an element.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Nothing,
    Verdict(Verdict),
    Bytes(Vec<u8>),
}

/// One step of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// Packets, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// Changes that are made together or not at all.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<(NetfilterMessage, u16)>,
    /// What each of them does.
    what: Vec<&'static str>,
}

impl Batch {
    /// As somebody else sends it to the kernel.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut numbers = 1..;
        frames(bounds(), self.messages, || numbers.next().unwrap_or_default())
    }

    fn push(&mut self, family: Family, message: NfTablesMessage, flags: u16, what: &'static str) {
        self.messages.push((message_of(family, message), flags));
        self.what.push(what);
    }

    pub(super) fn add_table(&mut self, table: Table<'_>) {
        let message = TableMessage { attributes: vec![TableAttribute::Name(table.name.to_owned())] };
        self.push(table.family, NfTablesMessage::NewTable(message), NLM_F_CREATE, "making a table");
    }

    /// It must be there.
    pub(super) fn delete_table(&mut self, table: Table<'_>) {
        let message = TableMessage { attributes: vec![TableAttribute::Name(table.name.to_owned())] };
        self.push(table.family, NfTablesMessage::DeleteTable(message), 0, "removing a table");
    }

    pub(super) fn add_chain(&mut self, table: Table<'_>, name: &str, base: Option<Base>) {
        let mut attributes =
            vec![ChainAttribute::Table(table.name.to_owned()), ChainAttribute::Name(name.to_owned())];
        if let Some(base) = base {
            attributes.extend([
                ChainAttribute::Hook(vec![
                    Hook::Number(HookNumber::Inet(base.hook)),
                    Hook::Priority(u32::from_ne_bytes(base.priority.to_ne_bytes())),
                ]),
                ChainAttribute::Type(base.kind.to_owned()),
            ]);
        }
        self.push(
            table.family,
            NfTablesMessage::NewChain(ChainMessage { attributes }),
            NLM_F_CREATE,
            "making a chain",
        );
    }

    pub(super) fn delete_chain(&mut self, table: Table<'_>, name: &str) {
        let attributes =
            vec![ChainAttribute::Table(table.name.to_owned()), ChainAttribute::Name(name.to_owned())];
        let message = NfTablesMessage::DeleteChain(ChainMessage { attributes });
        self.push(table.family, message, 0, "removing a chain");
    }

    /// Takes every rule out of a chain.
    pub(super) fn flush_chain(&mut self, table: Table<'_>, chain: &str) {
        let attributes =
            vec![RuleAttribute::Table(table.name.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let message = NfTablesMessage::DeleteRule(RuleMessage { attributes });
        self.push(table.family, message, 0, "emptying a chain");
    }

    pub(super) fn add_rule(&mut self, table: Table<'_>, chain: &str, expressions: Vec<Expression>) {
        self.push_rule(table, chain, expressions, Vec::new());
    }

    /// With a mark, by which it is known whose it is. nft(8) shows it as a comment.
    pub(super) fn add_marked_rule(
        &mut self,
        table: Table<'_>,
        chain: &str,
        mark: &str,
        expressions: Vec<Expression>,
    ) {
        self.push_rule(table, chain, expressions, vec![RuleAttribute::UserData(comment(mark))]);
    }

    fn push_rule(
        &mut self,
        table: Table<'_>,
        chain: &str,
        expressions: Vec<Expression>,
        more: Vec<RuleAttribute>,
    ) {
        let mut attributes = vec![
            RuleAttribute::Table(table.name.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        attributes.extend(more);
        let message = NfTablesMessage::NewRule(RuleMessage { attributes });
        self.push(table.family, message, NLM_F_CREATE | NLM_F_APPEND, "adding a rule");
    }

    pub(super) fn add_set(&mut self, table: Table<'_>, set: Set, id: u32) {
        let mut attributes = vec![
            SetAttribute::Table(table.name.to_owned()),
            SetAttribute::Name(set.name.to_owned()),
            SetAttribute::KeyType(type_of(set.key)),
            SetAttribute::KeyLen(length_of(set.key)),
            // The kernel wants one, and sets are named here.
            SetAttribute::Id(id),
        ];
        let mut flags = SetFlags::empty();
        match set.holds {
            Holds::Nothing => {}
            Holds::Verdict => {
                flags |= SetFlags::Map;
                attributes.push(SetAttribute::DataType(DATA_VERDICT));
            }
            Holds::Value(fields) => {
                flags |= SetFlags::Map;
                attributes.extend([
                    SetAttribute::DataType(type_of(fields)),
                    SetAttribute::DataLen(length_of(fields)),
                ]);
            }
        }
        attributes.push(SetAttribute::Flags(flags));
        if set.key == [Field::InterfaceName] {
            // How nft(8) is to write the key: as this machine does.
            const KEY_BYTE_ORDER: [u8; 2] = [0, 4];
            const OF_THE_HOST: u32 = 1;
            attributes
                .push(SetAttribute::UserData([&KEY_BYTE_ORDER[..], &OF_THE_HOST.to_ne_bytes()].concat()));
        }
        self.push(
            table.family,
            NfTablesMessage::NewSet(SetMessage { attributes }),
            NLM_F_CREATE,
            "making a set",
        );
    }

    /// An element that is there already must have the same value.
    pub(super) fn add_element(&mut self, table: Table<'_>, set: Set, key: &[u8], value: Value) {
        let message = NfTablesMessage::NewSetElement(element(table, set, key, value));
        self.push(table.family, message, NLM_F_CREATE, "adding an element to a set");
    }

    /// It must not be there already.
    pub(super) fn add_new_element(&mut self, table: Table<'_>, set: Set, key: &[u8], value: Value) {
        let message = NfTablesMessage::NewSetElement(element(table, set, key, value));
        self.push(table.family, message, NLM_F_CREATE | NLM_F_EXCL, ADDING_A_NEW_ELEMENT);
    }

    pub(super) fn delete_element(&mut self, table: Table<'_>, set: Set, key: &[u8]) {
        let message = NfTablesMessage::DeleteSetElement(element(table, set, key, Value::Nothing));
        self.push(table.family, message, 0, "removing an element of a set");
    }
}

/// What is before a batch, and after it.
fn bounds() -> [NetfilterMessage; 2] {
    [ControlMessage::BatchBegin, ControlMessage::BatchEnd].map(|control| {
        NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM), control)
    })
}

/// What [`Failure::what`] says of an element that must be new.
pub(super) const ADDING_A_NEW_ELEMENT: &str = "adding a new element to a set";

/// A change that the kernel did not make.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) what: &'static str,
    pub(super) source: io::Error,
}

/// The packet filter of one network namespace.
#[derive(Debug)]
pub(super) struct Nft(Netlink);

impl Nft {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_NETFILTER).map(Self)
    }

    /// Forgets the connections of some addresses.
    pub(super) fn forget_connections(&mut self, is_one: impl Fn(std::net::IpAddr) -> bool) -> io::Result<()> {
        super::conntrack::forget(&mut self.0, is_one)
    }

    /// Makes the changes.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<(), Failure> {
        let what = batch.what;
        if what.is_empty() {
            return Ok(());
        }
        self.0.batch(bounds(), batch.messages).map_err(|Refused { number, source }| Failure {
            what: number.and_then(|number| what.get(number).copied()).unwrap_or("changing the packet filter"),
            source,
        })
    }

    /// What the rules of a chain have counted, in order; of those that have this mark, and count.
    pub(super) fn rule_counts(
        &mut self,
        table: Table<'_>,
        chain: &str,
        mark: &str,
    ) -> io::Result<Vec<Count>> {
        let mark = comment(mark);
        let attributes =
            vec![RuleAttribute::Table(table.name.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let asked = NfTablesMessage::GetRule(RuleMessage { attributes });
        let rules: Vec<Raw> = self.0.dump_as(message_of(table.family, asked))?;
        let mut counts = Vec::new();
        for Raw(rule) in rules {
            // Behind the family, the version and the number of a table.
            let attributes = || nested(rule.get(4..).unwrap_or_default());
            if !attributes().any(|part| part == (RULE_USERDATA, &mark)) {
                continue;
            }
            for (_, expressions) in attributes().filter(|(kind, _)| *kind == RULE_EXPRESSIONS) {
                counts.extend(nested(expressions).find_map(|(_, expression)| count_of(expression)));
            }
        }
        Ok(counts)
    }

    /// The elements of a set or map.
    pub(super) fn elements(&mut self, table: Table<'_>, set: Set) -> io::Result<Vec<Element>> {
        let attributes =
            vec![SetElementList::Table(table.name.to_owned()), SetElementList::Set(set.name.to_owned())];
        let asked = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
        let lists = self.0.dump(message_of(table.family, asked))?;
        let mut elements = Vec::new();
        for list in lists {
            let netlink_packet_netfilter::NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(
                list,
            )) = list.inner
            else {
                continue;
            };
            for attribute in list.attributes {
                let SetElementList::Elements(found) = attribute else { continue };
                elements.extend(found.iter().filter_map(element_of));
            }
        }
        Ok(elements)
    }
}

/// An element as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// Of a map of values.
    pub(super) value: Vec<u8>,
}

fn element_of(found: &ListAttribute<SetElementAttribute>) -> Option<Element> {
    let ListAttribute::Element(attributes) = found else { return None };
    let mut element = Element::default();
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => element.key.clone_from(key),
            SetElementAttribute::Data(DataAttribute::Value(value)) => element.value.clone_from(value),
            _ => {}
        }
    }
    Some(element)
}

const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const DATA_VERDICT: u32 = 0xffff_ff00;
/// The bits of an attribute's type that are not flags.
const KIND: u16 = 0x3fff;

fn message_of(family: Family, message: NfTablesMessage) -> NetfilterMessage {
    let family = match family {
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Bridge => NetfilterProtoFamily::Bridge,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

fn element(table: Table<'_>, set: Set, key: &[u8], value: Value) -> SetElementMessage {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))];
    match value {
        Value::Nothing => {}
        Value::Verdict(verdict) => attributes.push(SetElementAttribute::Data(verdict.data())),
        Value::Bytes(bytes) => attributes.push(SetElementAttribute::Data(DataAttribute::Value(bytes))),
    }
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.name.to_owned()),
            SetElementList::Set(set.name.to_owned()),
            SetElementList::Elements(vec![ListAttribute::Element(attributes)]),
        ],
    }
}

/// The attributes within one.
fn nested(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]])).checked_sub(4)?;
        let value = rest.get(..length)?;
        bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([head[2], head[3]]) & KIND, value))
    })
}

fn count_in(data: &[u8]) -> Count {
    let mut count = Count::default();
    for (kind, value) in nested(data) {
        let number = value.try_into().map_or(0, u64::from_be_bytes);
        match kind {
            COUNTER_BYTES => count.bytes = number,
            COUNTER_PACKETS => count.packets = number,
            _ => {}
        }
    }
    count
}

// <linux/netfilter/nf_tables.h>
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// A comment as nft(8) writes it: its kind, its length, and a text that ends with a zero.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text.as_bytes(), &[0]].concat()
}

/// What an expression has counted, if it is one that counts.
fn count_of(expression: &[u8]) -> Option<Count> {
    let is_counter = nested(expression).any(|part| part == (EXPRESSION_NAME, b"counter\0"));
    let (_, data) = nested(expression).find(|(kind, _)| *kind == EXPRESSION_DATA)?;
    is_counter.then(|| count_in(data))
}
