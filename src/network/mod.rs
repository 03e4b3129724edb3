//! The network of a sandbox: none, the host's, another sandbox's, or one of its own with a wire to somewhere.
//!
//! ```text
//! Network ─▶ Sandbox ─▶ Wire (of the plan) ─▶ Wired (of a running sandbox)
//!              Bridge: attach ─▶ route (interfaces, addresses), firewall ─▶ nft (rules) ─▶ netlink
//!              UserMode: a program of the host, and nft (rules) for the sandbox itself
//! ```

mod attach;
mod bridge;
mod bridged;
mod cidr;
mod conntrack;
mod egress;
mod firewall;
mod lock;
mod netlink;
mod nft;
mod protected;
mod resolver;
mod route;
mod user_mode;

use std::borrow::Cow;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use self::attach::{EgressCount, Traffic};
pub use self::bridge::{Bridge, BridgeBuilder};
pub use self::bridged::Bridged;
pub use self::egress::Egress;
pub use self::user_mode::{UserMode, UserModeProgram};
use crate::capability;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::joining::Sharer;
use crate::namespace::Namespaces;
use crate::rootfs::Names;
use crate::sandbox::Sandbox;

/// What network a sandbox has. See [`Sandbox::network`].
///
/// # Examples
///
/// ```
/// use belljar::{Network, Sandbox};
///
/// let alone = Sandbox::new().network(Network::none());
/// # let _ = alone;
/// ```
#[derive(Debug, Clone)]
pub struct Network(Kind);

#[derive(Debug, Clone)]
enum Kind {
    None,
    Host,
    Join(Arc<Sharer>),
    Bridge(Box<Bridged>),
    UserMode(Box<UserMode>),
}

impl Network {
    /// A network of its own with nothing but a loopback interface: what [`Sandbox::new`] has. The safest way to give a
    /// program of it one connection is to hand it in ([`Command::grant_tcp`](crate::Command::grant_tcp)).
    #[must_use]
    pub fn none() -> Self {
        Self(Kind::None)
    }

    /// The host's network, as [`Sandbox::share_net`].
    #[must_use]
    pub fn host() -> Self {
        Self(Kind::Host)
    }

    /// That of a container, as [`Sandbox::join`] with [`Namespace::Net`](crate::Namespace::Net).
    #[must_use]
    pub fn join(container: &Container) -> Self {
        Self(Kind::Join(Arc::new(container.sharer())))
    }

    /// A network of its own with a wire to a bridge of the host. Each sandbox has an address of the bridge's subnet, as long as
    /// it exists.
    pub fn bridge(bridge: &Bridge) -> Bridged {
        Bridged::new(bridge)
    }

    /// A network of its own that a program of the host leads to the outside, which needs no privilege. The sandbox reaches what
    /// the host reaches, but not its loopback interface.
    pub fn user_mode() -> UserMode {
        UserMode::default()
    }
}

impl From<Bridged> for Network {
    fn from(bridged: Bridged) -> Self {
        Self(Kind::Bridge(Box::new(bridged)))
    }
}

impl From<UserMode> for Network {
    fn from(user_mode: UserMode) -> Self {
        Self(Kind::UserMode(Box::new(user_mode)))
    }
}

/// Where a wire of a sandbox leads to, in its policy.
#[derive(Debug, Clone)]
pub(crate) enum WireTo {
    Bridge(Box<Bridged>),
    UserMode(Box<UserMode>),
}

impl Sandbox {
    /// What network the sandbox has; the last call counts, also of [`net_ns`](Sandbox::net_ns),
    /// [`share_net`](Sandbox::share_net) and [`join`](Sandbox::join).
    ///
    /// With a wire to somewhere, the system view ([`Rootfs::system`](crate::Rootfs::system)) has an `/etc/resolv.conf` with
    /// name servers; other roots have what they have, or what [`Mount::file`](crate::Mount::file) puts there.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bridge, Egress, Network, Sandbox};
    ///
    /// let bridge = Bridge::new("belljar0").subnet("10.10.0.0/24").create()?;
    /// let server = Sandbox::new().network(Network::bridge(&bridge).egress(Egress::deny_all())).start()?;
    /// println!("it has {:?}", server.addresses());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn network(self, network: impl Into<Network>) -> Self {
        match network.into().0 {
            Kind::None => {
                let mut sandbox = self.net_ns();
                sandbox.wire = None;
                sandbox
            }
            Kind::Host => self.share_net(),
            Kind::Join(sharer) => self.join_namespaces(sharer, Namespaces::NET),
            Kind::Bridge(bridged) => self.wired_to(WireTo::Bridge(bridged)),
            Kind::UserMode(user_mode) => self.wired_to(WireTo::UserMode(user_mode)),
        }
    }

    fn wired_to(self, wire: WireTo) -> Self {
        let mut sandbox = self.net_ns();
        sandbox.wire = Some(wire);
        sandbox
    }

    /// Whether it keeps one of these capabilities.
    fn keeps_any_of(&self, mask: u64) -> Result<bool> {
        match &self.capabilities {
            Some(names) => Ok(capability::mask_of(names)? & mask != 0),
            None => Ok(true),
        }
    }
}

impl Container {
    /// Its addresses on the [bridge](Network::bridge) that it is wired to, of IPv4 and IPv6; after a
    /// [`reset`](Container::reset) they are others. Of a [user-mode network](Network::user_mode) those that it has inside, where
    /// nobody else reaches it. None without either.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.runtime().wired().as_ref().map(Wired::addresses).unwrap_or_default()
    }
}

/// A wire that every sandbox of a plan gets.
#[derive(Debug)]
pub(crate) enum Wire {
    Bridge(Box<attach::Wanted>),
    UserMode(Box<user_mode::Wanted>),
}

/// The wire of a running sandbox. Dropping it takes it away.
#[derive(Debug)]
pub(crate) enum Wired {
    Bridge(Box<attach::Attachment>),
    UserMode(Box<user_mode::Attachment>),
}

impl WireTo {
    /// Understands and checks what was said.
    pub(crate) fn lower(&self, sandbox: &Sandbox, namespaces: Namespaces) -> Result<Wire> {
        if !namespaces.contains(Namespaces::NET) {
            return Err(Error::invalid(
                "a wire needs a network namespace, which is best effort here and cannot be had",
            )
            .with_hint("take best_effort(Feature::NetNs) away"));
        }
        match self {
            Self::Bridge(bridged) => Ok(Wire::Bridge(Box::new(bridged.lower(sandbox)?))),
            Self::UserMode(user_mode) => Ok(Wire::UserMode(Box::new(user_mode.lower(sandbox, namespaces)?))),
        }
    }
}

impl Wire {
    /// What the init keeps open, so that what the wire leads to outlives a host that is killed.
    pub(crate) fn lock(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Bridge(wanted) => Some(wanted.bridge().lock()),
            Self::UserMode(_) => None,
        }
    }

    /// What it is, for a dry run.
    pub(crate) fn describe(&self) -> Vec<String> {
        match self {
            Self::Bridge(wanted) => wanted.describe(),
            Self::UserMode(wanted) => vec![wanted.describe()],
        }
    }

    /// What the init has the kernel do about the packet filter of the sandbox's own network namespace.
    pub(crate) fn own_rules(&self) -> Option<&[u8]> {
        match self {
            Self::Bridge(_) => None,
            Self::UserMode(wanted) => wanted.closed(),
        }
    }

    /// Wires a sandbox, by its init and its network namespace.
    pub(crate) fn attach(&self, init: i32, namespace: &OwnedFd) -> Result<Wired> {
        match self {
            Self::Bridge(wanted) => Ok(Wired::Bridge(Box::new(wanted.attach(namespace)?))),
            Self::UserMode(wanted) => Ok(Wired::UserMode(Box::new(wanted.attach(init)?))),
        }
    }
}

impl Wired {
    fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Bridge(attachment) => attachment.addresses().collect(),
            Self::UserMode(attachment) => attachment.addresses().to_vec(),
        }
    }

    /// What was sent and received.
    pub(crate) fn traffic(&self) -> Option<[Traffic; 2]> {
        match self {
            Self::Bridge(attachment) => attachment.traffic(),
            Self::UserMode(_) => None,
        }
    }

    /// What rules have decided.
    pub(crate) fn egress_counts(&self) -> Vec<EgressCount> {
        match self {
            Self::Bridge(attachment) => attachment.egress_counts(),
            Self::UserMode(_) => Vec::new(),
        }
    }
}

/// The sandbox with a root that finds the names of others, if it is the system view and wired to where they are.
pub(crate) fn with_name_service(sandbox: &Sandbox) -> Cow<'_, Sandbox> {
    let (Some(wire), Some(rootfs)) = (&sandbox.wire, sandbox.rootfs.as_ref().filter(|root| root.is_system()))
    else {
        return Cow::Borrowed(sandbox);
    };
    let servers = match wire {
        WireTo::Bridge(bridged) => Cow::Borrowed(bridged.servers()),
        WireTo::UserMode(user_mode) => user_mode.servers(),
    };
    let own = sandbox.hostname.as_ref().and_then(|name| name.to_str());
    let names = Names { resolver: resolver::resolv_conf(&servers), hosts: resolver::hosts(own) };
    let rootfs = rootfs.clone().finding_names(names);
    Cow::Owned(Sandbox { rootfs: Some(rootfs), ..sandbox.clone() })
}
