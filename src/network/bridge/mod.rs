//! A switch that sandboxes are plugged into: what is shared by all that is done about it, and its end.

mod builder;
mod config;

use std::io;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::builder::BridgeBuilder;
pub(super) use self::config::forwards;
use self::config::gateway;
use super::cidr::Cidr;
use super::firewall::Firewall;
use super::lock::Lock;
use super::nft::{Batch, Failure, Nft};
use super::route::{Interface, Routes};
use crate::error::{Error, ErrorKind, Result, Step};

/// How a bridge of ours is known from others: its alias.
const MARK: &str = "belljar";

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
/// same. What a killed host has left is removed by the next [`create`](BridgeBuilder::create) in
/// that network namespace, when the last of its sandboxes is gone.
///
/// Needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, that is a privileged host, and bridge, veth and `nf_tables` of the kernel, tried from Linux 6.1 on. See
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
        Some(libc::EMSGSIZE) => told.with_hint("there are too many rules for one sandbox: use wider ranges"),
        Some(libc::ENOENT) => told.with_kind(ErrorKind::Unsupported).with_hint(
            "the kernel lacks a part of nf_tables: the modules nft_ct, nft_nat, nft_masq, nft_fib_inet, nft_reject_inet, nft_connlimit, nft_limit, nft_meta_bridge; or \
             somebody has removed the tables of the bridge, as `nft flush ruleset` does",
        ),
        _ => told,
    }
}

impl Bridge {
    /// Begins to describe a bridge: up to 15 letters, digits, `_`, `-` and `.`, as for any interface.
    #[expect(clippy::new_ret_no_self, reason = "a bridge is made by `create`, which can fail")]
    pub fn new(name: impl Into<String>) -> BridgeBuilder {
        BridgeBuilder::new(name.into())
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
        if self.owner != std::process::id() || !self.lock.is_last().unwrap_or(false) {
            return;
        }
        let (Ok(mut routes), Ok(mut nft)) = (self.routes(), self.nft()) else { return };
        let found = routes.interface(&self.name).ok().flatten();
        if let Some(found) = found.filter(|found| found.index == self.index) {
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
