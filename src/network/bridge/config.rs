//! A bridge that can be: made, with its rules and its addresses; and what others have left.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Bridge, Inner, MARK, failed, forget_connections, gone, not_taken, remove_bridge, remove_tables};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::network::attach::{PATIENCE, ethernet_address};
use crate::network::cidr::Cidr;
use crate::network::firewall::Firewall;
use crate::network::lock::Lock;
use crate::network::nft::{Batch, Nft};
use crate::network::resolver;
use crate::network::route::{Interface, Routes};

/// A description that can be.
pub(super) struct Config {
    pub(super) name: String,
    pub(super) subnet: Cidr,
    pub(super) subnet6: Option<Cidr>,
    pub(super) mtu: u32,
    pub(super) masquerade: bool,
    pub(super) enable_forwarding: bool,
    pub(super) dns: Option<Vec<IpAddr>>,
}

pub(super) fn gateway(subnet: &Cidr) -> IpAddr {
    subnet.nth(1).unwrap_or(subnet.address())
}

impl Config {
    /// What must be the same for all that use the bridge.
    pub(super) fn words(&self) -> String {
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
    pub(super) fn set_up(&self, routes: &mut Routes) -> Result<bool> {
        let name = &self.name;
        let about = |what: &str, error| failed(format!("{what} the bridge {name}"), error);
        let switched_on = self.forwarding()?;
        if let Some(left) = routes.interface(name).map_err(|error| about("looking for", error))? {
            refuse_stranger(&left)?;
            self.await_end_of_sandboxes(routes, &left)?;
            remove_bridge(routes, &left).map_err(|error| about("removing what is left of", error))?;
            Nft::open().and_then(|mut nft| remove_tables(&mut nft, &self.firewall())).ok();
        }
        self.refuse_used_subnet(routes)?;
        let IpAddr::V4(own) = gateway(&self.subnet) else {
            return Err(Error::internal(Step::Network, "a first subnet that is not of IPv4"));
        };
        let ethernet = ethernet_address(own);
        routes.make_bridge(name, self.mtu, ethernet, MARK).map_err(|error| about("making", error))?;
        let found = routes.interface(name).map_err(|error| about("looking for", error))?;
        let found = found.ok_or_else(|| gone(name))?;
        let made = self.configure(routes, &found);
        if made.is_err() {
            remove_bridge(routes, &found).ok();
            Nft::open().and_then(|mut nft| remove_tables(&mut nft, &self.firewall())).ok();
        }
        made.map(|()| switched_on)
    }

    /// Nobody has its lock, and yet there may be a sandbox on it: of a killed host, whose wire the kernel has not come to yet, or
    /// of a host that sees another /run.
    fn await_end_of_sandboxes(&self, routes: &mut Routes, found: &Interface) -> Result<()> {
        let name = &self.name;
        let since = Instant::now();
        loop {
            let all = routes
                .interfaces()
                .map_err(|error| failed(format!("looking for ports of the bridge {name}"), error))?;
            if !all.iter().any(|port| port.bridge == Some(found.index)) {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                let message = format!("the bridge {name} still has sandboxes of another host");
                return Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message)
                    .with_hint("wait for their end, or choose another name"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
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

    pub(super) fn into_bridge(
        self,
        mut routes: Routes,
        lock: Lock,
        switched_on_forwarding: bool,
    ) -> Result<Bridge> {
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

/// Whatever has the bridge's name must be one that the library has made.
fn refuse_stranger(found: &Interface) -> Result<()> {
    let refuse = |message, hint: &'static str| {
        Err(Error::message(ErrorKind::InvalidConfig, Step::Network, message).with_hint(hint))
    };
    let name = &found.name;
    if !found.is_bridge {
        let message = format!("the interface {name} is there, and is no bridge");
        return refuse(message, "give the bridge another name");
    }
    if found.alias.as_deref() != Some(MARK) {
        return refuse(
            format!("there is a bridge {name} that is not the library's"),
            "its other ports would be cut off from the host, and would reach sandboxes past the rules: choose another name",
        );
    }
    Ok(())
}

/// Whether the host forwards what comes by IPv4.
pub(in crate::network) fn forwards() -> bool {
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
pub(super) fn sweep(routes: &mut Routes) -> Result<()> {
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
