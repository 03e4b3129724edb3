//! What stands in for namespaces that cannot be had: on a host where nobody may make one (a container, a hardened
//! machine), and a policy that names them in `best_effort`, what they would hide is denied instead.
//!
//! | lost | stands in |
//! |---|---|
//! | mounts | rules of landlock for what the root would show of the host; the filter: no mode, owner, time or attribute changes |
//! | network | the filter: no socket is made but pairs that lead to each other; landlock: no TCP, no abstract socket outside |
//! | PID | landlock: no signal to a process outside; without that the filter: no signal at all |
//! | IPC | the filter: no queue, semaphore or shared memory is opened or used |

use crate::error::{Error, Result};
use crate::feature::Feature;
use crate::landlock::Landlock;
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;
use crate::seccomp::Refused;

/// The ABI of landlock with which emptying files by their path came.
const TRUNCATE_ABI: u32 = 3;
/// That with which the ports of TCP came, and that with abstract sockets and signals.
const TCP_ABI: u32 = 4;
const SCOPES_ABI: u32 = 6;

/// What is in force in place of what was lost.
#[derive(Debug, Default)]
pub(crate) struct StandIn {
    /// In place of the policy's own rules, which are part of it.
    pub(crate) landlock: Option<Landlock>,
    /// What the filter refuses besides.
    pub(crate) refused: Refused,
    /// Files are out of reach by landlock.
    files_hidden: bool,
    /// Signals are kept inside by landlock.
    signals_scoped: bool,
    has_filter: bool,
    /// The program is, if it has no user namespace.
    is_root: bool,
}

impl StandIn {
    /// `kernel` is the ABI of landlock, 0 without it.
    pub(crate) fn new(sandbox: &Sandbox, lost: Namespaces, kernel: u32, caller: u32) -> Result<Self> {
        let is_root = sandbox.user.map_or(caller, |ids| ids.uid) == 0;
        let hidden =
            lost.contains(Namespaces::MOUNT) && (sandbox.rootfs.is_some() || !sandbox.mounts.is_empty());
        let kept_inside = scopes(lost, kernel);
        let stands_in = if hidden {
            Some(files(sandbox, kept_inside)?)
        } else {
            (kept_inside != Landlock::bare()).then_some(kept_inside)
        };
        let abi = kernel.clamp(1, SCOPES_ABI);
        // The policy's own rules were made for what the root would show, and are for no more than that.
        let rules = stands_in.map(|rules| rules.abi(abi)).map(|rules| match &sandbox.landlock {
            Some(own) => own.clone().within(&rules),
            None => rules,
        });
        let in_force = rules.as_ref().or(sandbox.landlock.as_ref());
        let signals_scoped = kernel >= SCOPES_ABI && in_force.is_some_and(Landlock::scopes_signals);
        let refused = Refused {
            sockets: lost.contains(Namespaces::NET),
            ipc: lost.contains(Namespaces::IPC),
            signals: lost.contains(Namespaces::PID) && !signals_scoped,
            metadata: hidden,
            truncation: hidden && kernel < TRUNCATE_ABI,
            ..Refused::default()
        };
        let has_filter = sandbox.seccomp.is_some();
        Ok(Self {
            landlock: rules,
            refused,
            files_hidden: hidden && kernel != 0,
            signals_scoped,
            has_filter,
            is_root,
        })
    }

    /// What it is like to be without this, for the list of what is enforced.
    pub(crate) fn words(&self, lost: Feature) -> Option<&'static str> {
        Some(match lost {
            Feature::MountNs if self.files_hidden => {
                if self.has_filter {
                    "rules of landlock stand in: of the host's files only what the root would show can be accessed; \
                     the filter: no mode, owner, time or attribute of a file can be changed"
                } else {
                    "rules of landlock stand in: of the host's files only what the root would show can be accessed, but \
                     modes, owners, times and attributes of the user's files can be changed"
                }
            }
            Feature::MountNs => {
                "the host's files are in reach, as far as modes and landlock go, and by /proc the memory of the user's \
                 other processes"
            }
            Feature::NetNs if self.has_filter => {
                "the filter stands in: no socket can be made but pairs that lead to each other"
            }
            Feature::NetNs => "the host's network is in reach",
            Feature::PidNs if self.signals_scoped => {
                "landlock stands in: no process outside can be signalled, but they can be seen where there is a /proc"
            }
            Feature::PidNs if self.has_filter => "the filter stands in: no process can be signalled",
            Feature::PidNs => "the user's processes outside can be signalled",
            Feature::IpcNs if self.has_filter => {
                "the filter stands in: no queue, semaphore or shared memory can be opened or used"
            }
            Feature::IpcNs => "the host's queues, semaphores and shared memory are in reach",
            Feature::UserNs if self.is_root => {
                "the program is root of the host, without capabilities, and owns what root owns of the files that it sees"
            }
            Feature::UserNs => "the program has the caller's own ids",
            _ => return None,
        })
    }
}

/// Rules for the files that the root would show, in addition to others.
fn files(sandbox: &Sandbox, rules: Landlock) -> Result<Landlock> {
    let rules = match &sandbox.rootfs {
        None => return Err(needs_mounts("mounts over the host's own root")),
        Some(rootfs) if rootfs.is_system() => rules.system(),
        Some(_) => return Err(needs_mounts("a root filesystem of its own")),
    };
    sandbox.mounts.iter().try_fold(rules, |rules, mount| match mount.in_place() {
        Some(access) => Ok(rules.rule(mount.target(), access)),
        None => Err(needs_mounts(format!("what is to be at {}", mount.target().display()))),
    })
}

fn needs_mounts(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{what} cannot be had without a mount namespace")).with_hint(
        "rules of landlock can stand in for the system view and for binds under the path that they have on the host; \
         use only those, or leave the mount namespace out of best_effort",
    )
}

/// What landlock does for a network or processes that are shared, if it can.
fn scopes(lost: Namespaces, kernel: u32) -> Landlock {
    let mut rules = Landlock::bare();
    if lost.contains(Namespaces::NET) && kernel >= TCP_ABI {
        rules = rules.restrict_tcp();
    }
    if lost.contains(Namespaces::NET) && kernel >= SCOPES_ABI {
        rules = rules.scope_abstract_sockets();
    }
    if lost.contains(Namespaces::PID) && kernel >= SCOPES_ABI {
        rules = rules.scope_signals();
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sandbox: &Sandbox, lost: Namespaces, kernel: u32) -> Refused {
        StandIn::new(sandbox, lost, kernel, 1000).unwrap().refused
    }

    #[test]
    fn files_are_not_emptied_where_landlock_does_not_look() {
        let truncation = |sandbox: &Sandbox, kernel| refused(sandbox, Namespaces::MOUNT, kernel).truncation;
        let usual = Sandbox::new();
        assert!(truncation(&usual, 0) && truncation(&usual, 2));
        assert!(!truncation(&usual, 3) && !truncation(&usual, 7));
        let old_rules = Sandbox::new().landlock(Landlock::new().abi(2).system());
        let rules = StandIn::new(&old_rules, Namespaces::MOUNT, 7, 1000).unwrap().landlock;
        assert_eq!(rules.as_ref(), Some(&Landlock::new().abi(2).system().within(&Landlock::bare().system())));
        assert!(!refused(&usual, Namespaces::NET, 0).truncation);
    }
}
