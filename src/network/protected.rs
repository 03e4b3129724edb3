//! Addresses that a sandbox does not reach by accident.

use super::cidr::Cidr;

/// Where clouds have services that hand out credentials of the machine to whoever asks it from there: link-local addresses
/// with most of them, one of Alibaba's, those of Azure's and Oracle's agents, by IPv6 those of Amazon, Google, Scaleway and
/// OpenStack; and link-local ones by a translator of addresses (RFC 6052).
pub(super) const METADATA: [Cidr; 9] = [
    Cidr::v4([169, 254, 0, 0], 16),
    Cidr::v4([100, 100, 100, 200], 32),
    Cidr::v4([168, 63, 129, 16], 32),
    Cidr::v4([192, 0, 0, 192], 32),
    Cidr::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    Cidr::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    Cidr::v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    Cidr::v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0], 112),
];

/// Multicast and broadcast, what is reserved, and what is on the wire only.
pub(super) const OF_THE_WIRE: [Cidr; 3] = [
    Cidr::v4([224, 0, 0, 0], 3),
    Cidr::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
];
