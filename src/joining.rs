//! Namespaces of another sandbox to run in: remembered by the policy, opened when a plan is made, entered at the launch.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::capability;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::{Enforced, Feature};
use crate::idmap::Caller;
use crate::mount::Mount;
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;
use crate::sys::{self, Entrance};

/// A running sandbox, as others see it that want to be in its namespaces.
#[derive(Debug)]
pub(crate) struct Sharer {
    /// Its init, which is in all of them.
    pub(crate) init: Arc<OwnedFd>,
    pub(crate) pid: i32,
    /// Those that are not the host's.
    pub(crate) namespaces: Namespaces,
    pub(crate) cross_tenant: bool,
}

/// Which namespaces of which sandboxes a policy is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joins(Vec<Join>);

#[derive(Debug, Clone)]
struct Join {
    sharer: Arc<Sharer>,
    namespaces: Namespaces,
}

impl Joins {
    /// Those of the sharer, whatever was said of them before.
    pub(crate) fn add(&mut self, sharer: Arc<Sharer>, namespaces: Namespaces) {
        self.forget(namespaces);
        if !namespaces.is_empty() {
            self.0.push(Join { sharer, namespaces });
        }
    }

    /// These are not joined any more.
    pub(crate) fn forget(&mut self, namespaces: Namespaces) {
        for join in &mut self.0 {
            join.namespaces -= namespaces;
        }
        self.0.retain(|join| !join.namespaces.is_empty());
    }

    pub(crate) fn namespaces(&self) -> Namespaces {
        self.0.iter().fold(Namespaces::empty(), |all, join| all | join.namespaces)
    }

    /// Each namespace alone: its sharer, itself, its feature and its file.
    fn each(&self) -> impl Iterator<Item = (&Sharer, Namespaces, Feature, &'static str)> {
        self.0.iter().flat_map(|join| {
            let own = Namespaces::table().into_iter().filter(|(one, ..)| join.namespaces.contains(*one));
            own.map(|(one, feature, file)| (&*join.sharer, one, feature, file))
        })
    }

    /// Says of each that it is not the sandbox's own.
    pub(crate) fn tell(&self, enforced: &mut Enforced) {
        for (sharer, _, feature, _) in self.each() {
            enforced.skip(feature, format!("it is that of the sandbox whose init is process {}", sharer.pid));
        }
    }
}

/// Refuses what cannot work in namespaces that belong to another sandbox.
pub(crate) fn validate(sandbox: &Sandbox) -> Result<()> {
    let joined = sandbox.joins.namespaces();
    for (sharer, namespace, _, name) in sandbox.joins.each() {
        if !sharer.namespaces.contains(namespace) {
            return Err(Error::invalid(format!("the {name} namespace of the sandbox to join is the host's"))
                .with_hint(format!("give that sandbox one by {name}_ns(), or say share_{name}() here too")));
        }
        if sharer.cross_tenant || sandbox.cross_tenant {
            return Err(Error::invalid(format!(
                "a joined {name} namespace is a way from one tenant to another"
            ))
            .with_hint("do without join(), or leave cross_tenant() out"));
        }
    }
    // Without a user namespace of its own the sandbox has the host's capabilities, over all of them.
    if !sandbox.namespaces.contains(Namespaces::USER) {
        return Ok(());
    }
    if joined.contains(Namespaces::IPC) && sandbox.mounts.iter().any(Mount::is_mqueue) {
        return Err(Error::invalid("the message queues of a joined ipc namespace cannot be mounted")
            .with_hint("mq_open(3) finds them without the mount; mount it in the sandbox that is joined"));
    }
    if joined.contains(Namespaces::NET) {
        let kept = sandbox.capabilities.iter().flatten();
        let over_network = |name: &&String| {
            capability::mask_of(std::slice::from_ref(*name))
                .is_ok_and(|one| one & capability::OVER_NETWORK != 0)
        };
        if let Some(name) = kept.into_iter().find(over_network) {
            return Err(Error::invalid(format!("{name} is of no use in a joined net namespace")).with_hint(
                "a capability is over the sandbox's own namespaces: keep it in the sandbox that is joined",
            ));
        }
    }
    Ok(())
}

/// The namespaces that the init of a plan starts in. They exist as long as this, with or without a process in them.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    /// In the order in which they are entered.
    namespaces: Vec<(Namespaces, OwnedFd)>,
}

impl Entrances {
    /// Opens what a policy joins.
    ///
    /// A process with `CAP_SYS_ADMIN` enters them from its own user namespace. One without has capabilities over its
    /// sandboxes only, so it enters the user namespace that owns them first.
    pub(crate) fn open(joins: &Joins, caller: &Caller) -> Result<Self> {
        let mut namespaces = Vec::new();
        for (sharer, namespace, _, name) in joins.each() {
            namespaces.push((namespace, sharer.open(name)?));
        }
        if !namespaces.is_empty() && !caller.may_mount() {
            let owner = common_owner(&namespaces)?;
            namespaces.insert(0, (Namespaces::USER, owner));
        }
        Ok(Self { namespaces })
    }

    /// The sandbox's own user namespace is made within another sandbox's.
    pub(crate) fn is_nested(&self) -> bool {
        self.namespaces.first().is_some_and(|(kind, _)| *kind == Namespaces::USER)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = Namespaces> {
        self.namespaces.iter().map(|(kind, _)| *kind)
    }

    pub(crate) fn as_given(&self) -> Vec<Entrance<'_>> {
        let entrances = self.namespaces.iter();
        entrances.map(|(kind, fd)| Entrance { namespace: fd.as_fd(), kind: kind.bits() }).collect()
    }
}

impl Sharer {
    /// A namespace of the init, by its file. What is opened by a process id may be another process's by now; it was the
    /// init's if the init was still there afterwards.
    fn open(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{name}", self.pid);
        let opened = File::open(&path);
        // Readable from its end on; what cannot be polled may as well be gone. Before it ends it has neither memory nor
        // namespaces any more, and the file says so by errors that could mean something else.
        let patience = if opened.is_ok() { PollTimeout::ZERO } else { PollTimeout::from(1000_u16) };
        let mut ended = [PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, patience) != Ok(0) {
            return Err(self.gone(name));
        }
        opened.and_then(|file| sys::above_stdio(file.into())).map_err(|error| {
            Error::os(Step::JoinNs, format!("opening the {name} namespace to join"), error)
                .with_path(path)
                .with_hint("it takes proc on /proc (`mount -t proc proc /proc`), and to be the user that started that sandbox")
        })
    }

    fn gone(&self, name: &str) -> Error {
        let message = format!(
            "the sandbox whose {name} namespace is to be joined has ended: its init was process {}",
            self.pid
        );
        Error::message(ErrorKind::NotFound, Step::JoinNs, message)
            .with_hint("make the plan while that container is there; the plan keeps the namespace then")
    }
}

/// The user namespace of which a process has power over all of these: their owner, or the topmost of their owners.
fn common_owner(namespaces: &[(Namespaces, OwnedFd)]) -> Result<OwnedFd> {
    let failed = |error| Error::os(Step::JoinNs, "finding the user namespace of a namespace to join", error);
    let mut owners = Vec::new();
    for (_, namespace) in namespaces {
        owners.push(sys::owner_of_namespace(namespace).map_err(failed)?);
    }
    for owner in &owners {
        let mut above_all = true;
        for other in &owners {
            above_all &= is_within(other, owner).map_err(failed)?;
        }
        if above_all {
            return owner.try_clone().and_then(sys::above_stdio).map_err(failed);
        }
    }
    Err(Error::message(
        ErrorKind::PermissionDenied,
        Step::JoinNs,
        "the namespaces to join belong to sandboxes that have nothing to do with each other",
    )
    .with_hint("without CAP_SYS_ADMIN join one sandbox, or others that have joined it"))
}

/// Whether a user namespace is another, or descends from it.
fn is_within(inner: &OwnedFd, outer: &OwnedFd) -> io::Result<bool> {
    let identity = |namespace: &OwnedFd| -> io::Result<(u64, u64)> {
        let metadata = File::from(namespace.try_clone()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let outer = identity(outer)?;
    let mut at = inner.try_clone()?;
    loop {
        if identity(&at)? == outer {
            return Ok(true);
        }
        at = match sys::parent_of_namespace(&at) {
            Ok(parent) => parent,
            // Our own has been reached, and what is above is none of our business.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(error) => return Err(error),
        };
    }
}

/// The error of a caller who has no power over namespaces but within a user namespace.
pub(crate) fn needs_user_ns() -> Error {
    Error::message(
        ErrorKind::PermissionDenied,
        Step::JoinNs,
        "a sandbox that joins another needs a user namespace of its own where the caller lacks CAP_SYS_ADMIN",
    )
    .with_hint("add user_ns()")
}
