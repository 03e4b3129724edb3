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

mod admission;
mod conditions;
mod refusal;
mod tables;

use std::net::IpAddr;

use super::cidr::Cidr;
use super::nft::{Batch, Family, Field, Holds, Set, Table};
use super::protected::{METADATA, OF_THE_WIRE};

pub(super) use self::admission::{Admission, Guest, Published, leads_to};
pub(super) use self::conditions::{fits, interface_name};
pub(super) use self::refusal::{add_refusal, refuse};

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

/// The rules about one bridge.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    table: String,
    bridge: String,
    subnets: Vec<Cidr>,
    masquerades: bool,
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

    /// Whether this is an address of the bridge's subnets.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Addresses that wide rules do not open.
    fn protected(&self) -> impl Iterator<Item = Cidr> {
        self.subnets.iter().copied().chain(METADATA).chain(OF_THE_WIRE)
    }
}
