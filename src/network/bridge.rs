//! A switch that sandboxes are plugged into: made, adopted, taken down, swept.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attach::PORT_PREFIX;
use super::cidr::Cidr;
use super::firewall::Firewall;
use super::lock::Lock;
use super::nft::{Batch, Failure, Nft};
use super::resolver;
use super::route::{Interface, Routes};
use crate::error::{Error, ErrorKind, Result, Step};

/// How a bridge of ours is known from others: its alias.
const MARK: &str = "belljar";

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

/// A Linux bridge of the host, to which [sandboxes](crate::Network::bridge) are wired: each has an interface `eth0` with an
/// address of the bridge's subnet, and this host as its gateway.
///
/// The bridge does not switch between sandboxes. Its ports are isolated (`bridge link set … isolated on`), so that all
/// that a sandbox sends goes to the host, where `nf_tables` decides about it: to the host itself, to another sandbox, to the
/// outside. See [`Egress`](crate::Egress) for what is allowed. A sandbox can take neither the address nor the Ethernet
/// address of another: frames that say so are dropped at its port.
///
/// The rules are in two tables of the library's own, `inet belljar_NAME` and `bridge belljar_NAME`, which
/// `nft list ruleset` shows; other tables are never touched, and can still forbid what these allow: Docker's, for
/// instance, drops what is forwarded (`DOCKER-USER` is where to allow it).
///
/// Bridge, tables and addresses are removed with the last handle of the last process that uses it; clones are handles of the
/// same. What a killed host has left is removed or taken over by the next [`create`](BridgeBuilder::create) in
/// that network namespace, when the last of its sandboxes is gone.
///
/// Needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, that is a privileged host, and Linux 5.10 with bridge, veth and `nf_tables`. See
/// [bridge(8)](https://man7.org/linux/man-pages/man8/bridge.8.html) and
/// [veth(4)](https://man7.org/linux/man-pages/man4/veth.4.html).
///
/// # Examples
///
/// ```no_run
/// use belljar::{Bridge, Command, Egress, Network, Sandbox};
///
/// let bridge = Bridge::new("belljar0").subnet("10.10.0.0/24").masquerade().enable_forwarding().create()?;
/// let network = Network::bridge(&bridge).egress(Egress::deny_all().allow("10.0.0.5:443"));
/// let output = Sandbox::new().network(network).output(Command::new("/usr/bin/fetch"))?;
/// # drop(output);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bridge(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) subnet: Cidr,
    pub(super) subnet6: Option<Cidr>,
    pub(super) mtu: u32,
    pub(super) dns: Vec<IpAddr>,
    pub(super) firewall: Firewall,
    /// Where the search for an address goes on.
    pub(super) next: AtomicU32,
    /// Held while an address is handed out.
    turn: Mutex<()>,
    /// In the network namespace that the bridge is in. They stay open: the kernel lets go of a socket that has changed rules when
    /// it has freed what was removed, milliseconds later.
    routes: Mutex<Routes>,
    nft: Mutex<Nft>,
    lock: Lock,
    switched_on_forwarding: bool,
    /// The process that made this handle: a forked copy takes nothing down.
    owner: u32,
}

/// A failure of something about a bridge.
pub(super) fn failed(what: impl Into<std::borrow::Cow<'static, str>>, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let errno = error.raw_os_error();
    let told = Error::os(Step::Network, what, error);
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            told.with_hint("bridges need CAP_NET_ADMIN and CAP_SYS_ADMIN; Network::user_mode() needs neither")
        }
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            told.with_kind(ErrorKind::Unsupported).with_hint(
                "the kernel needs CONFIG_BRIDGE, CONFIG_VETH and CONFIG_NF_TABLES with INET, BRIDGE and NAT",
            )
        }
        _ => told,
    }
}

/// The kernel did not take rules.
pub(super) fn not_taken(failure: Failure) -> Error {
    let errno = failure.source.raw_os_error();
    let told = failed(format!("{} of the packet filter", failure.what), failure.source);
    match errno {
        Some(libc::ENOENT) => told.with_kind(ErrorKind::Unsupported).with_hint(
            "the kernel lacks a part of nf_tables: the modules nft_ct, nft_nat, nft_masq, nft_fib_inet, nft_reject_inet, nft_meta_bridge; or \
             somebody has removed the tables of the bridge, as `nft flush ruleset` does",
        ),
        _ => told,
    }
}

impl Bridge {
    /// Begins to describe a bridge: up to 15 letters, digits, `_`, `-` and `.`, as for any interface.
    #[expect(clippy::new_ret_no_self, reason = "a bridge is made by `create`, which can fail")]
    pub fn new(name: impl Into<String>) -> BridgeBuilder {
        BridgeBuilder {
            name: name.into(),
            subnet: None,
            subnet6: None,
            mtu: USUAL_MTU,
            masquerade: false,
            enable_forwarding: false,
            dns: None,
        }
    }

    /// The name of its interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The host's address on it, which is the gateway of sandboxes.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        gateway(&self.0.subnet)
    }

    /// The same of IPv6.
    #[must_use]
    pub fn gateway6(&self) -> Option<IpAddr> {
        self.0.subnet6.as_ref().map(gateway)
    }

    /// Whether [`create`](BridgeBuilder::create) has switched on that this host forwards packets, which stays so.
    #[must_use]
    pub fn switched_on_forwarding(&self) -> bool {
        self.0.switched_on_forwarding
    }

    /// What a sandbox on it keeps, so that the bridge stays as long as the sandbox.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.0.lock.as_fd()
    }
}

impl BridgeBuilder {
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

    /// Makes the bridge, or takes the one of that name that another process has made or a killed one has left. First removes what
    /// killed hosts have left in this network namespace.
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
        if let Some(subnet) = subnet6
            && (!subnet.address().is_ipv6() || subnet.prefix() > 96 || !is_usable(subnet.address()))
        {
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

/// A description that can be.
struct Config {
    name: String,
    subnet: Cidr,
    subnet6: Option<Cidr>,
    mtu: u32,
    masquerade: bool,
    enable_forwarding: bool,
    dns: Option<Vec<IpAddr>>,
}

fn gateway(subnet: &Cidr) -> IpAddr {
    subnet.nth(1).unwrap_or(subnet.address())
}

impl Config {
    /// What must be the same for all that use the bridge.
    fn words(&self) -> String {
        let subnet6 = self.subnet6.map_or(String::new(), |subnet| format!(" {subnet}"));
        let masquerade = if self.masquerade { " masquerade" } else { "" };
        format!("{}{subnet6} mtu {}{masquerade}", self.subnet, self.mtu)
    }

    fn subnets(&self) -> impl Iterator<Item = Cidr> {
        [Some(self.subnet), self.subnet6].into_iter().flatten()
    }

    fn firewall(&self) -> Firewall {
        Firewall::new(&self.name, self.subnets().collect(), self.masquerade)
    }

    /// Makes all of it. Nobody else uses it, so that what is there is a stranger's or left over. Says whether forwarding was
    /// switched on.
    fn set_up(&self, routes: &mut Routes) -> Result<bool> {
        let name = &self.name;
        let about = |what: &str, error| failed(format!("{what} the bridge {name}"), error);
        let switched_on = self.forwarding()?;
        let mut found = routes.interface(name).map_err(|error| about("looking for", error))?;
        if let Some(other) = found.as_ref().filter(|found| !found.is_bridge) {
            let message = format!("the interface {} is there, and is no bridge", other.name);
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                .with_hint("give the bridge another name"));
        }
        if found.is_none() {
            self.refuse_used_subnet(routes)?;
            let ethernet = super::attach::ethernet_address(gateway(&self.subnet));
            routes.make_bridge(name, self.mtu, ethernet, MARK).map_err(|error| about("making", error))?;
            found = routes.interface(name).map_err(|error| about("looking for", error))?;
        }
        let Some(found) = found else {
            return Err(Error::message(
                ErrorKind::NotFound,
                Step::Network,
                format!("the bridge {name} has vanished"),
            ));
        };
        if found.alias.as_deref() != Some(MARK) {
            let message = format!("there is a bridge {name} that is not the library's");
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message).with_hint(
                "its other ports would be cut off from the host, and would reach sandboxes past the rules: choose another name",
            ));
        }
        // Nobody has its lock, and yet there is a sandbox on it: of a host that sees another /run.
        let all = routes.interfaces().map_err(|error| about("looking for ports of", error))?;
        if all.iter().any(|port| port.bridge == Some(found.index)) {
            let message = format!("the bridge {name} still has sandboxes of another host");
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                .with_hint("wait for their end, or choose another name"));
        }
        let made = self.configure(routes, &found);
        if made.is_err() {
            remove_bridge(routes, &found).ok();
            Nft::open().and_then(|mut nft| remove_tables(&mut nft, &self.firewall())).ok();
        }
        made.map(|()| switched_on)
    }

    fn configure(&self, routes: &mut Routes, found: &Interface) -> Result<()> {
        let name = &self.name;
        let about = |what: &str, error| failed(format!("{what} the bridge {name}"), error);
        routes.set_up(found.index, Some(self.mtu)).map_err(|error| about("bringing up", error))?;
        // Whatever the host does with other interfaces: what comes from this one may be sent on, if the rules say so.
        set(&format!("ipv4/conf/{name}/forwarding"), "1")?;
        if self.subnet6.is_some() {
            set(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
            set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        }
        let mut batch = Batch::default();
        self.firewall().install(&mut batch);
        let mut nft = Nft::open().map_err(|error| failed("opening a netlink socket", error))?;
        nft.commit(batch).map_err(not_taken)?;
        let subnets: Vec<Cidr> = self.subnets().collect();
        forget_connections(&mut nft, |address| subnets.iter().any(|subnet| subnet.contains(address)))?;
        for subnet in self.subnets() {
            let address = gateway(&subnet);
            routes
                .add_address(found.index, address, subnet.prefix())
                .map_err(|error| about(&format!("giving the address {address} to"), error))?;
        }
        Ok(())
    }

    /// A second interface with these addresses would take the first one's traffic, or lose its own.
    fn refuse_used_subnet(&self, routes: &mut Routes) -> Result<()> {
        let used = routes.addresses().map_err(|error| failed("looking at this host's addresses", error))?;
        for subnet in self.subnets() {
            if let Some((address, prefix)) = used.iter().find(|(address, prefix)| {
                let theirs = Cidr::around(*address, *prefix);
                subnet.covers(&theirs) || theirs.covers(&subnet)
            }) {
                let message = format!("this host has {address}/{prefix}, which overlaps {subnet}");
                return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                    .with_hint("choose a subnet that is on none of this host's networks"));
            }
        }
        Ok(())
    }

    /// Sees to it that the host forwards, if that is needed; says whether it has switched it on.
    fn forwarding(&self) -> Result<bool> {
        let mut switched_on = false;
        let v4 = (self.masquerade || self.enable_forwarding).then_some("ipv4/ip_forward");
        let v6 = self.subnet6.is_some().then_some("ipv6/conf/all/forwarding");
        for key in [v4, v6].into_iter().flatten() {
            let path = sysctl(key);
            let value = fs::read_to_string(&path)
                .map_err(|error| failed(format!("reading {}", path.display()), error).with_path(&path))?;
            if value.trim() != "0" {
                continue;
            }
            if !self.enable_forwarding {
                let message = format!(
                    "the bridge {} needs a host that forwards packets, and this one does not",
                    self.name
                );
                return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                    .with_path(path)
                    .with_hint("add enable_forwarding(), which switches it on for all interfaces, or set net.ipv4.ip_forward \
                                and net.ipv6.conf.all.forwarding yourself"));
            }
            set(key, "1")?;
            switched_on = true;
        }
        Ok(switched_on)
    }

    fn into_bridge(self, mut routes: Routes, lock: Lock, switched_on_forwarding: bool) -> Result<Bridge> {
        let found = routes
            .interface(&self.name)
            .map_err(|error| failed(format!("looking for the bridge {}", self.name), error))?
            .ok_or_else(|| gone(&self.name))?;
        let dns = match self.dns.clone() {
            Some(servers) => servers,
            None => resolver::servers_of_host(),
        };
        Ok(Bridge(Arc::new(Inner {
            index: found.index,
            subnet: self.subnet,
            subnet6: self.subnet6,
            mtu: self.mtu,
            dns,
            firewall: self.firewall(),
            next: AtomicU32::new(0),
            turn: Mutex::new(()),
            routes: Mutex::new(routes),
            nft: Mutex::new(Nft::open().map_err(|error| failed("opening a netlink socket", error))?),
            lock,
            switched_on_forwarding,
            owner: std::process::id(),
            name: self.name,
        })))
    }
}

/// Makes the kernel forget connections of sandboxes that have ended.
pub(super) fn forget_connections(nft: &mut Nft, is_one: impl Fn(IpAddr) -> bool) -> Result<()> {
    nft.forget_connections(is_one).map_err(|error| {
        failed("forgetting the connections of earlier sandboxes", error)
            .with_hint("the kernel needs CONFIG_NF_CT_NETLINK: modprobe nf_conntrack_netlink")
    })
}

/// Somebody has removed the bridge.
pub(super) fn gone(name: &str) -> Error {
    Error::message(ErrorKind::NotFound, Step::Network, format!("the bridge {name} is gone"))
        .with_hint("somebody has removed it: drop every handle of it, and create it again")
}

/// Whether the host forwards what comes by IPv4.
pub(super) fn forwards() -> bool {
    fs::read_to_string(sysctl("ipv4/ip_forward")).is_ok_and(|value| value.trim() != "0")
}

fn sysctl(key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(key)
}

fn set(key: &str, value: &str) -> Result<()> {
    let path = sysctl(key);
    fs::write(&path, value)
        .map_err(|error| failed(format!("writing {value} to {}", path.display()), error).with_path(&path))
}

/// Removes what hosts that are no more have left in this network namespace: bridges of ours that nobody uses.
fn sweep(routes: &mut Routes) -> Result<()> {
    let all = routes.interfaces().map_err(|error| failed("listing the interfaces", error))?;
    let is_left = |one: &&Interface| {
        let has_ports = all.iter().any(|port| port.bridge == Some(one.index));
        one.is_bridge && one.alias.as_deref() == Some(MARK) && !has_ports
    };
    for bridge in all.iter().filter(is_left) {
        // One that cannot be looked at is no reason not to make another.
        let Ok(lock) = Lock::open(&bridge.name) else { continue };
        if lock.take_alone().unwrap_or(false) && lock.is_current().unwrap_or(false) {
            remove_bridge(routes, bridge).ok();
            let firewall = Firewall::new(&bridge.name, Vec::new(), false);
            Nft::open().and_then(|mut nft| remove_tables(&mut nft, &firewall)).ok();
            lock.forget();
        }
    }
    Lock::sweep();
    Ok(())
}

/// Removes a bridge of ours, and ports of it whose sandboxes' namespaces somebody keeps.
fn remove_bridge(routes: &mut Routes, bridge: &Interface) -> io::Result<()> {
    for port in routes.interfaces()?.iter().filter(|port| port.bridge == Some(bridge.index)) {
        routes.remove(port.index)?;
    }
    routes.remove(bridge.index)
}

fn remove_tables(nft: &mut Nft, firewall: &Firewall) -> io::Result<()> {
    let mut batch = Batch::default();
    firewall.remove(&mut batch);
    nft.commit(batch).map_err(|failure| failure.source)
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody can be told of a failure; what stays is swept by the next one.
        if self.owner != std::process::id() || !self.lock.take_alone().unwrap_or(false) {
            return;
        }
        let (Ok(mut routes), Ok(mut nft)) = (self.routes(), self.nft()) else { return };
        if let Ok(Some(found)) = routes.interface(&self.name)
            && found.index == self.index
        {
            remove_bridge(&mut routes, &found).ok();
        }
        remove_tables(&mut nft, &self.firewall).ok();
        self.lock.forget();
    }
}

/// The right to hand addresses of a bridge out, until it is dropped.
pub(super) struct Turn<'a> {
    // In this order: whoever waits among the threads then finds it free among the processes.
    _among_processes: super::lock::Turn<'a>,
    _among_threads: Option<MutexGuard<'a, ()>>,
}

/// A socket of a bridge, or one for a forked copy of the process: replies to one would be read by the other.
pub(super) enum Socket<'a, S> {
    Kept(MutexGuard<'a, S>),
    Own(S),
}

impl<S> Deref for Socket<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        match self {
            Self::Kept(socket) => socket,
            Self::Own(socket) => socket,
        }
    }
}

impl<S> DerefMut for Socket<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        match self {
            Self::Kept(socket) => socket,
            Self::Own(socket) => socket,
        }
    }
}

impl Inner {
    fn socket<'a, S>(
        &self,
        kept: &'a Mutex<S>,
        open: impl FnOnce() -> io::Result<S>,
    ) -> Result<Socket<'a, S>> {
        if self.owner == std::process::id() {
            return Ok(Socket::Kept(kept.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        open().map(Socket::Own).map_err(|error| failed("opening a netlink socket", error))
    }

    /// Waits until no other thread or process hands an address of the bridge out.
    pub(super) fn turn(&self) -> Result<Turn<'_>> {
        if self.owner == std::process::id() {
            let among_threads = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(Turn { _among_processes: self.lock.turn()?, _among_threads: Some(among_threads) });
        }
        // A thread that a forked copy does not have may have it for ever; and what a lock is for is the open file.
        let lock = Lock::open(&self.name)?;
        Ok(Turn { _among_processes: lock.into_turn()?, _among_threads: None })
    }

    /// Whether this is an address of its subnets.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) || self.subnet6.is_some_and(|subnet| subnet.contains(address))
    }

    /// Whether this is the address of the sandbox at a port. Both subnets have the same numbers.
    pub(super) fn is_at(&self, address: IpAddr, port: &str) -> bool {
        let Some(number) = super::attach::number_of(&self.subnet, port) else { return false };
        let mut subnets = [Some(self.subnet), self.subnet6].into_iter().flatten();
        subnets.any(|subnet| subnet.nth(number) == Some(address))
    }

    pub(super) fn routes(&self) -> Result<Socket<'_, Routes>> {
        self.socket(&self.routes, Routes::open)
    }

    pub(super) fn nft(&self) -> Result<Socket<'_, Nft>> {
        self.socket(&self.nft, Nft::open)
    }

    /// The number of an address to try next.
    pub(super) fn next_number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
