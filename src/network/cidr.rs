//! Networks as people write them: `10.10.0.0/24`, `fd00::/64`, or one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    /// Whose other bits are zero.
    address: IpAddr,
    prefix: u8,
}

/// How many bits an address has.
pub(super) fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address as a number, in the low bits.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Cidr {
    pub(super) const fn v4(address: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    pub(super) const fn v6(address: [u16; 8], prefix: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = address;
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix }
    }

    pub(super) fn one(address: IpAddr) -> Self {
        Self { address, prefix: bits_of(address) }
    }

    /// Every address of the family of this one.
    pub(super) fn everything_like(address: IpAddr) -> Self {
        Self::around(address, 0)
    }

    /// Those that begin as this one does.
    pub(super) fn around(address: IpAddr, prefix: u8) -> Self {
        let mut cidr = Self { address, prefix: prefix.min(bits_of(address)) };
        let first = number(address) & cidr.mask_number();
        cidr.address = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(first).unwrap_or(0))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(first)),
        };
        cidr
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    pub(super) fn prefix(&self) -> u8 {
        self.prefix
    }

    pub(super) fn is_one(&self) -> bool {
        self.prefix == bits_of(self.address)
    }

    /// The bits that all of them begin with, as a mask of an address.
    pub(super) fn mask(&self) -> Vec<u8> {
        let mask = self.mask_number();
        match self.address {
            IpAddr::V4(_) => mask.to_be_bytes()[12..].to_vec(),
            IpAddr::V6(_) => mask.to_be_bytes().to_vec(),
        }
    }

    fn mask_number(&self) -> u128 {
        let bits = bits_of(self.address);
        let all = u128::MAX >> (128 - u32::from(bits));
        all & !all.checked_shr(u32::from(self.prefix)).unwrap_or(0)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        bits_of(address) == bits_of(self.address)
            && number(address) & self.mask_number() == number(self.address)
    }

    /// Whether every address of another is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// The address of this number, 0 being the first; `None` beyond the last.
    pub(super) fn nth(&self, n: u32) -> Option<IpAddr> {
        let left = bits_of(self.address) - self.prefix;
        if left < 32 && n >> left != 0 {
            return None;
        }
        Some(match self.address {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) | n)),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) | u128::from(n))),
        })
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
        let bits = bits_of(address);
        let prefix = match prefix {
            None => bits,
            Some(prefix) => {
                let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
                let number = prefix.parse::<u8>().ok().filter(|&number| plain && number <= bits);
                number.ok_or_else(|| format!("{prefix:?} is not a number of bits up to {bits}"))?
            }
        };
        let cidr = Self { address, prefix };
        if number(address) & !cidr.mask_number() != 0 {
            return Err(format!("{text} has bits after the first {prefix}"));
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn what_people_write() {
        for text in ["10.10.0.0/24", "0.0.0.0/0", "::/0", "fd00:10::/64", "192.168.1.7/32", "::1/128"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        assert_eq!(cidr("10.0.0.5"), cidr("10.0.0.5/32"));
        assert_eq!(cidr("fe80::1"), cidr("fe80::1/128"));
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.1/24",
            "10.0.0/8",
            "fd00::1/64",
            "::/129",
            "10.0.0.0/8/8",
            "010.0.0.0/8",
            "10.0.0.0/ 8",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_lies_in_what() {
        assert!(cidr("10.0.0.0/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!cidr("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").covers(&cidr("10.1.0.0/16")));
        assert!(!cidr("10.1.0.0/16").covers(&cidr("10.0.0.0/8")));
        assert_eq!(cidr("255.255.255.0/24").mask(), [255, 255, 255, 0]);
        assert_eq!(cidr("0.0.0.0/0").mask(), [0; 4]);
        assert_eq!(cidr("::/0").mask(), [0; 16]);
        assert_eq!(Cidr::around("10.1.2.3".parse().unwrap(), 8), cidr("10.0.0.0/8"));
        assert_eq!(Cidr::around("fd00::5".parse().unwrap(), 64), cidr("fd00::/64"));
        assert_eq!(cidr("10.10.0.0/24").nth(255), Some("10.10.0.255".parse().unwrap()));
        assert_eq!(cidr("10.10.0.0/24").nth(256), None);
        assert_eq!(cidr("fd00::/64").nth(5), Some("fd00::5".parse().unwrap()));
        assert_eq!(cidr("10.0.0.1/32").nth(0), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(cidr("10.0.0.1/32").nth(1), None);
    }

    proptest! {
        #[test]
        fn any_text(text in ".{0,40}") {
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            }
        }

        #[test]
        fn the_nth_is_one_of_them(first in any::<u32>(), prefix in 0_u8..=32, n in any::<u32>()) {
            let first = first & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let cidr = Cidr { address: IpAddr::V4(first.into()), prefix };
            if let Some(address) = cidr.nth(n) {
                prop_assert!(cidr.contains(address));
            }
        }
    }
}
