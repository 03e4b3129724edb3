//! What a bridge is to be like, in the words of those who want one.

use std::net::IpAddr;

use super::config::{Config, sweep};
use super::{Bridge, failed};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::network::attach::PORT_PREFIX;
use crate::network::cidr::Cidr;
use crate::network::lock::Lock;
use crate::network::route::Routes;

/// What an Ethernet carries unless somebody says otherwise.
const USUAL_MTU: u32 = 1500;

/// What a bridge is to be like. Made by [`Bridge::new`].
#[derive(Debug, Clone)]
#[must_use = "nothing is made before `create`"]
pub struct BridgeBuilder {
    name: String,
    subnet: Option<String>,
    subnet6: Option<String>,
    mtu: u32,
    masquerade: bool,
    enable_forwarding: bool,
    dns: Option<Vec<IpAddr>>,
}

impl BridgeBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            subnet: None,
            subnet6: None,
            mtu: USUAL_MTU,
            masquerade: false,
            enable_forwarding: false,
            dns: None,
        }
    }

    /// The addresses of IPv4, as `10.10.0.0/24`: /8 to /30. The first is the host's, the last is not used.
    pub fn subnet(mut self, subnet: impl Into<String>) -> Self {
        self.subnet = Some(subnet.into());
        self
    }

    /// Addresses of IPv6 as well, as `fd00:10::/64`: up to /96. A sandbox has the same number in it as in the other subnet.
    pub fn subnet6(mut self, subnet: impl Into<String>) -> Self {
        self.subnet6 = Some(subnet.into());
        self
    }

    /// How many bytes a packet may have, 576 to 65535 (with IPv6 from 1280); 1500 by default.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = bytes;
        self
    }

    /// What sandboxes send to the outside has an address of the host as its source. Without it the outside has to know a way
    /// back to the subnet.
    pub fn masquerade(mut self) -> Self {
        self.masquerade = true;
        self
    }

    /// Switches on that this host forwards packets, if it does not: `net.ipv4.ip_forward`, and with a
    /// [`subnet6`](Self::subnet6) `net.ipv6.conf.all.forwarding`. That concerns **all** interfaces of the host and stays on
    /// afterwards; with IPv6 the host no longer heeds router advertisements where `accept_ra` is 1.
    /// [`Bridge::switched_on_forwarding`] says whether that was done. Without it what sandboxes send by IPv4 is forwarded, for the
    /// bridge's own interface forwards, but answers from outside are not: they reach each other, and the host.
    pub fn enable_forwarding(mut self) -> Self {
        self.enable_forwarding = true;
        self
    }

    /// The name servers in the `/etc/resolv.conf` of sandboxes. By default those of the host's which are not on its loopback
    /// interface, where no sandbox can reach them.
    pub fn dns(mut self, servers: impl IntoIterator<Item = IpAddr>) -> Self {
        self.dns = Some(servers.into_iter().collect());
        self
    }

    /// Makes the bridge, or takes the one of that name that another process has made. First removes what killed hosts have left in
    /// this network namespace; for a bridge of that name it waits up to two seconds for the end of their sandboxes.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for names and subnets that cannot be, an interface of that name that
    /// is no bridge or not the library's, a bridge that another process uses with another configuration, and with
    /// [`masquerade`](Self::masquerade) or [`subnet6`](Self::subnet6) a host that does not forward;
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) without the capabilities;
    /// [`Unsupported`](ErrorKind::Unsupported) where the kernel lacks a part.
    pub fn create(self) -> Result<Bridge> {
        let config = self.validate()?;
        let mut routes = Routes::open().map_err(|error| failed("opening a netlink socket", error))?;
        sweep(&mut routes)?;
        loop {
            let lock = Lock::open(&config.name)?;
            let is_alone = lock.take_alone()?;
            if is_alone {
                if lock.is_current()? {
                    let made = config.set_up(&mut routes);
                    let switched_on = made.inspect_err(|_| lock.forget())?;
                    lock.set_words(&config.words())?;
                    lock.share()?;
                    if lock.is_current()? && lock.words()? == config.words() {
                        return config.into_bridge(routes, lock, switched_on);
                    }
                }
                // Another was quicker.
                continue;
            }
            lock.share()?;
            if !lock.is_current()? {
                continue;
            }
            let words = lock.words()?;
            if words == config.words() {
                return config.into_bridge(routes, lock, false);
            }
            if words.is_empty() {
                // Whoever made it did not come to the end.
                drop(lock);
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            let message = format!("another process uses the bridge {} differently: {words}", config.name);
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                .with_hint("give this one another name, or the same configuration"));
        }
    }

    fn validate(self) -> Result<Config> {
        let name = self.name;
        let is_name = |name: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=15).contains(&name.len()) && name.bytes().all(good) && !name.starts_with(['.', '-'])
        };
        let is_port = name
            .strip_prefix(PORT_PREFIX)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !is_name(&name) || is_port || matches!(&*name, "all" | "default") {
            return Err(Error::invalid(format!("{name:?} is no name for a bridge"))
                .with_hint("up to 15 letters, digits, _, - and ., like belljar0"));
        }
        let parse = |text: &str| -> Result<Cidr> {
            text.parse().map_err(|what: String| {
                Error::invalid(format!("the subnet of {name}: {what}"))
                    .with_hint("subnets are written like 10.10.0.0/24")
            })
        };
        let Some(subnet) = &self.subnet else {
            return Err(Error::invalid(format!("the bridge {name} has no subnet")).with_hint(
                "add subnet(\"10.10.0.0/24\"), or another that is not used on this host's networks",
            ));
        };
        let subnet = parse(subnet)?;
        let is_usable = |address: IpAddr| {
            !(address.is_loopback() || address.is_multicast() || address.is_unspecified())
                && match address {
                    IpAddr::V4(address) => {
                        !address.is_link_local() && address.octets()[0] != 0 && address.octets()[0] < 224
                    }
                    IpAddr::V6(address) => address.segments()[0] & 0xffc0 != 0xfe80,
                }
        };
        if !subnet.address().is_ipv4() || !(8..=30).contains(&subnet.prefix()) || !is_usable(subnet.address())
        {
            return Err(Error::invalid(format!("{subnet} cannot be the subnet of a bridge"))
                .with_hint("it must be of IPv4, /8 to /30, of addresses that hosts can have"));
        }
        let subnet6 = self.subnet6.as_deref().map(parse).transpose()?;
        let is_unfit = |subnet: &Cidr| {
            !subnet.address().is_ipv6() || subnet.prefix() > 96 || !is_usable(subnet.address())
        };
        if let Some(subnet) = subnet6.filter(is_unfit) {
            return Err(Error::invalid(format!("{subnet} cannot be the second subnet of a bridge"))
                .with_hint("it must be of IPv6, up to /96, like fd00:10::/64"));
        }
        let least = if subnet6.is_some() { 1280 } else { 576 };
        if !(least..=65535).contains(&self.mtu) {
            return Err(Error::invalid(format!("packets of {} bytes cannot be", self.mtu))
                .with_hint(format!("an MTU is {least} to 65535")));
        }
        Ok(Config {
            name,
            subnet,
            subnet6,
            mtu: self.mtu,
            masquerade: self.masquerade,
            enable_forwarding: self.enable_forwarding,
            dns: self.dns,
        })
    }
}
