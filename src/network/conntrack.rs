//! The connections that the kernel tracks: those of whoever had an address before are none of whoever has it next.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::Nla;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::netlink::Netlink;

/// How many connections a sandbox may have unless somebody says otherwise.
const USUAL: u32 = 4096;

/// That, or a small part of what the kernel's table has room for: 262,144 connections on machines with more than 4 GiB of memory,
/// 65,536 with more than 1, and less with less (nf_conntrack_init_start of the kernel).
pub(super) fn fair_share() -> u32 {
    let room = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let room = room.ok().and_then(|text| text.trim().parse::<u32>().ok()).filter(|room| *room > 0);
    room.map_or(USUAL, |room| (room / 16).clamp(1, USUAL))
}

const CTA_ZONE: u16 = 18;

/// Forgets every connection that one of these addresses has begun, and every one that it has answered: what is allowed
/// because it is known is not any more. The kernel goes through all that it tracks for that, which takes milliseconds.
pub(super) fn forget(netlink: &mut Netlink, is_one: impl Fn(IpAddr) -> bool) -> io::Result<()> {
    let all = message_of(NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()));
    for message in netlink.dump(all)? {
        let family = message.header.family;
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(mut attributes)) = message.inner else {
            continue;
        };
        let concerns = attributes.iter().any(|attribute| match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) | ConntrackAttribute::CtaTupleReply(tuple) => {
                source_of(tuple).is_some_and(&is_one)
            }
            _ => false,
        });
        if !concerns {
            continue;
        }
        // An entry is found again by how it was begun, and in which zone.
        attributes.retain(|attribute| match attribute {
            ConntrackAttribute::CtaTupleOrig(_) => true,
            ConntrackAttribute::Other(other) => other.kind() & 0x3fff == CTA_ZONE,
            _ => false,
        });
        match netlink.request(message_of(family, ConntrackMessage::Delete(attributes)), 0) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            // It has ended meanwhile.
            _ => {}
        }
    }
    Ok(())
}

fn source_of(tuple: &[Tuple]) -> Option<IpAddr> {
    let parts = tuple.iter().filter_map(|part| match part {
        Tuple::Ip(addresses) => Some(addresses),
        _ => None,
    });
    parts.flatten().find_map(|address| match address {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
}

fn message_of(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}
