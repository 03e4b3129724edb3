//! Addresses that a sandbox does not reach by accident.

use super::cidr::Cidr;

/// Where clouds have services that hand out credentials of the machine to whoever asks it from there.
pub(super) const METADATA: [Cidr; 12] = [
    // Link-local: most of them.
    Cidr::v4([169, 254, 0, 0], 16),
    // Alibaba.
    Cidr::v4([100, 100, 100, 200], 32),
    // The agent of Azure.
    Cidr::v4([168, 63, 129, 16], 32),
    // Oracle.
    Cidr::v4([192, 0, 0, 192], 32),
    // All services of Amazon: ::254 has the machine's credentials, ::23 those of a node of EKS.
    Cidr::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
    // Google.
    Cidr::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    // Oracle.
    Cidr::v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    // Alibaba.
    Cidr::v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
    // Scaleway.
    Cidr::v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
    // Akamai, that is Linode.
    Cidr::v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128),
    // OpenStack, and Akamai.
    Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    // Link-local ones of IPv4 by a translator of addresses (RFC 6052).
    Cidr::v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0], 112),
];

/// Multicast and broadcast, what is reserved, and what is on the wire only.
pub(super) const OF_THE_WIRE: [Cidr; 3] = [
    Cidr::v4([224, 0, 0, 0], 3),
    Cidr::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
];
