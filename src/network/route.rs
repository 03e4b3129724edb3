//! Interfaces, addresses, routes and queues of a network namespace, by rtnetlink(7).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::cidr::Cidr;
use super::netlink::Netlink;

/// Interfaces and routes of one network namespace.
#[derive(Debug)]
pub(super) struct Routes(Netlink);

/// An interface, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    /// What an administrator calls it.
    pub(super) alias: Option<String>,
    pub(super) is_bridge: bool,
    pub(super) is_up: bool,
    pub(super) mtu: u32,
    /// The bridge that it is a port of.
    pub(super) bridge: Option<u32>,
}

/// A pair of interfaces, of which one is a port of a bridge and the other in a sandbox.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    pub(super) port: &'a str,
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) inner: &'a str,
    pub(super) inner_address: [u8; 6],
    pub(super) namespace: &'a OwnedFd,
}

/// Whether something may have been said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    New,
    NewOrNot,
}

impl Routes {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_ROUTE).map(Self)
    }

    pub(super) fn open_in(namespace: &OwnedFd) -> io::Result<Self> {
        Netlink::open_in(namespace, NETLINK_ROUTE).map(Self)
    }

    pub(super) fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let all = self.0.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(all.into_iter().filter_map(interface).collect())
    }

    /// The number of an interface, without waiting for namespaces that are taken down.
    pub(super) fn number(&self, name: &str) -> io::Result<Option<u32>> {
        self.0.interface_number(name)
    }

    pub(super) fn interface(&mut self, name: &str) -> io::Result<Option<Interface>> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let found = self.0.get(RouteNetlinkMessage::GetLink(message))?;
        Ok(found.and_then(interface).filter(|found| found.name == name))
    }

    /// Every address of an interface of this host, with the length of its prefix.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<(IpAddr, u8)>> {
        let all = self.0.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let address = |message| {
            let RouteNetlinkMessage::NewAddress(message) = message else { return None };
            let prefix = message.header.prefix_len;
            message.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some((address, prefix)),
                _ => None,
            })
        };
        Ok(all.into_iter().filter_map(address).collect())
    }

    /// Makes a bridge, which is up from the beginning.
    pub(super) fn make_bridge(
        &mut self,
        name: &str,
        mtu: u32,
        ethernet: [u8; 6],
        alias: &str,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            // Otherwise it would be that of one of its ports, and change with them.
            LinkAttribute::Address(ethernet.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                // Frames to these groups, all but three of them, are like any other. By default they go to the host past the
                // rules about frames, and say where their sender is.
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::GroupFwdMask(0xfff8),
                    // Nor does anybody join a group.
                    InfoBridge::MulticastSnooping(false),
                ])),
            ]),
        ];
        self.0.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        let named = |attributes: Vec<LinkAttribute>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
            message.attributes.extend(attributes);
            message
        };
        // Not heeded when a link is made.
        let marked = named(vec![LinkAttribute::IfAlias(alias.to_owned())]);
        self.0.request(RouteNetlinkMessage::SetLink(marked), 0).inspect_err(|_| {
            // Without it, it would be a stranger's.
            self.0.request(RouteNetlinkMessage::DelLink(named(Vec::new())), 0).ok();
        })
    }

    pub(super) fn set_up(&mut self, index: u32, mtu: Option<u32>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        self.0.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Removes an interface, if it is there: the kernel takes a wire away by itself when the namespace of its other end goes,
    /// in the background.
    pub(super) fn remove(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.0.request(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            removed => removed,
        }
    }

    /// Makes both ends, which are down: neither can be up without the other. Fails with `EEXIST` where there is an interface of
    /// that name.
    pub(super) fn make_wire(&mut self, wire: &Wire<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(wire.inner.to_owned()),
            LinkAttribute::Mtu(wire.mtu),
            LinkAttribute::Address(wire.inner_address.to_vec()),
            LinkAttribute::NetNsFd(wire.namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(wire.port.to_owned()),
            LinkAttribute::Mtu(wire.mtu),
            LinkAttribute::Controller(wire.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.0.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Brings a port up. Frames of it go to the bridge itself, and to no other port that is isolated; frames go to it if they
    /// are for this Ethernet address, and no others. The switch learns nothing by itself.
    pub(super) fn open_port(&mut self, index: u32, name: &str, ethernet: [u8; 6]) -> io::Result<()> {
        let mut message = LinkMessage::default();
        (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            // The host itself has nothing to say there.
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                In6AddrGenMode::None,
            )])]),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::Isolated(true),
                    InfoBridgePort::Learning(false),
                    InfoBridgePort::UnicastFlood(false),
                    InfoBridgePort::MulticastFlood(false),
                    InfoBridgePort::BroadcastFlood(false),
                    // Of the groups, those that a bridge as a whole may not send on, but for that of pauses.
                    InfoBridgePort::GroupFwdMask(0xfffd),
                ])),
            ]),
        ];
        self.0.request(RouteNetlinkMessage::NewLink(message), 0)?;
        // fdb of bridge(8): an entry of the bridge that the port belongs to, which does not age.
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(ethernet.to_vec())];
        self.0.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Gives an interface an address, at once: nothing asks first whether somebody has it.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.header.scope = AddressScope::Universe;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.0.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Says for good which Ethernet address an address of this network has, so that nobody is asked, and nobody can say
    /// otherwise. With [`Mark::New`] it fails with `EEXIST` where that was said already.
    pub(super) fn set_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        ethernet: [u8; 6],
        mark: Mark,
    ) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(neighbour(address)),
            NeighbourAttribute::LinkLayerAddress(ethernet.to_vec()),
        ];
        let flags = match mark {
            Mark::New => NLM_F_EXCL,
            Mark::NewOrNot => NLM_F_REPLACE,
        };
        self.0.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | flags)
    }

    /// Takes that back.
    pub(super) fn remove_neighbour(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.attributes = vec![NeighbourAttribute::Destination(neighbour(address))];
        match self.0.request(RouteNetlinkMessage::DelNeighbour(message), 0) {
            // Somebody else has.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            removed => removed,
        }
    }

    /// The addresses of which that was said.
    pub(super) fn neighbours(&mut self, index: u32) -> io::Result<Vec<IpAddr>> {
        let all = self.0.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        let address = |message| {
            let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
            if message.header.ifindex != index || message.header.state != NeighbourState::Permanent {
                return None;
            }
            message.attributes.into_iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(address)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                    Some(IpAddr::V6(address))
                }
                _ => None,
            })
        };
        Ok(all.into_iter().filter_map(address).collect())
    }

    /// Sends what goes to a network to an interface, and there to a gateway, if there is one.
    pub(super) fn add_route(&mut self, to: Cidr, gateway: Option<IpAddr>, index: u32) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(to.address()),
            destination_prefix_length: to.prefix(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
            kind: RouteType::Unicast,
            flags: RouteFlags::empty(),
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Oif(index)];
        if to.prefix() != 0 {
            message.attributes.push(RouteAttribute::Destination(route_address(to.address())));
        }
        message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(route_address(gateway))));
        self.0.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Lets an interface send so many bytes a second: a token bucket (tc-tbf(8)).
    pub(super) fn limit_rate(&mut self, index: u32, bytes_per_second: u64, mtu: u32) -> io::Result<()> {
        let mut message = TcMessage::default();
        message.header.index = i32::try_from(index).map_err(io::Error::other)?;
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle { major: 1, minor: 0 };
        message.attributes =
            vec![TcAttribute::Kind("tbf".to_owned()), TcAttribute::Options(tbf(bytes_per_second, mtu))];
        self.0.request(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
    }
}

/// The options of a token bucket, of which `netlink-packet-route` has none.
fn tbf(bytes_per_second: u64, mtu: u32) -> Vec<TcOption> {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    const TC_LINKLAYER_ETHERNET: u8 = 1;
    // What may be sent at once: 10 ms of it, so that a scheduler's tick does not cost rate, and no less than two packets.
    let burst = u32::try_from(bytes_per_second / 100).unwrap_or(u32::MAX).clamp(2 * (mtu + 14), 4 << 20);
    // What may wait: 50 ms more.
    let limit = u32::try_from(bytes_per_second / 20).unwrap_or(u32::MAX).saturating_add(burst);
    // struct tc_tbf_qopt of <linux/pkt_sched.h>: two tc_ratespec, limit, buffer, mtu. The rate table that the kernel used to
    // take is not looked at where the link layer is known; the burst is told in bytes besides.
    let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    let mut parameters = Vec::with_capacity(36);
    // cell_log, linklayer, overhead, cell_align, mpu, rate.
    parameters.extend([0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    parameters.extend(rate.to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(limit.to_ne_bytes());
    parameters.extend([0; 8]);
    let mut options = vec![DefaultNla::new(TCA_TBF_PARMS, parameters)];
    if bytes_per_second > u64::from(u32::MAX) {
        options.push(DefaultNla::new(TCA_TBF_RATE64, bytes_per_second.to_ne_bytes().to_vec()));
    }
    options.push(DefaultNla::new(TCA_TBF_BURST, burst.to_ne_bytes().to_vec()));
    options.into_iter().map(TcOption::Other).collect()
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn neighbour(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn interface(message: RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut interface = Interface {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        ..Interface::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::IfAlias(alias) => interface.alias = Some(alias),
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Controller(bridge) => interface.bridge = Some(bridge),
            LinkAttribute::LinkInfo(infos) => {
                interface.is_bridge =
                    infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)));
            }
            _ => {}
        }
    }
    Some(interface)
}
