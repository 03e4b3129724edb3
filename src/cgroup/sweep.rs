//! Removing the boxes of hosts that were killed before they could.
//!
//! A host that gets SIGKILL leaves its boxes, and in them whatever its sandboxes were running if their init was
//! killed with it. The next host that makes a box below the same parent removes them. It goes by their names alone,
//! see [`BoxName`], and those are hostile input: only a directory with exactly such a name, of our own pid namespace,
//! whose owner certainly no longer runs, is touched.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::group::Group;
use super::name::{BoxName, Owner};
use super::parent::Parent;
#[cfg(test)]
use super::placement::Placement;

/// How long one leftover may resist, and how long all of them together may delay the first spawn.
const PATIENCE: Duration = Duration::from_millis(200);
const BUDGET: Duration = Duration::from_secs(2);

/// What making the first box in the directories of a placement does, for a test to see: removes what dead hosts have
/// left there, once per process and directory. Returns how many directories were removed.
#[cfg(test)]
pub(super) fn sweep(placement: &Placement) -> usize {
    placement.parents().iter().map(|parent| parent.sweep_once()).sum()
}

/// The sweep of one directory. It is a service to others, so what it cannot remove it leaves without an error.
pub(super) fn sweep_parent(parent: &Arc<Parent>) -> usize {
    let Ok(own) = Owner::current() else { return 0 };
    // With the `/proc` of another pid namespace every owner would look dead.
    if !Owner::proc_is_ours() {
        return 0;
    }
    let Ok(entries) = fs::read_dir(&parent.dir) else { return 0 };
    let deadline = Instant::now() + BUDGET;
    let mut removed = 0;
    for entry in entries.flatten() {
        if Instant::now() > deadline {
            break;
        }
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_orphan(name, &own)) else { continue };
        let Ok(group) = Group::open(parent, name) else { continue };
        // Removing kills what is inside: programs whose sandbox has died around them.
        removed += usize::from(group.remove(PATIENCE).is_ok());
    }
    removed
}

fn is_orphan(name: &str, own: &Owner) -> bool {
    // Pids of other namespaces mean nothing here.
    BoxName::parse(name).is_some_and(|BoxName { owner, .. }| owner.pid_ns == own.pid_ns && !owner.is_alive())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_boxes_of_the_dead_in_our_own_pid_namespace_are_orphans() {
        let own = Owner::current().expect("proc is mounted");
        let dead = Owner { pid: 1 << 22, ..own };
        let orphan = |owner| is_orphan(&BoxName { owner, counter: 7 }.to_string(), &own);
        assert!(orphan(dead));
        assert!(orphan(Owner { start: own.start + 1, ..own }), "our pid, but an earlier process");
        assert!(!orphan(own));
        assert!(!orphan(Owner { pid_ns: own.pid_ns + 1, ..dead }));
        assert!(!is_orphan("belljar-host", &own));
        assert!(!is_orphan("belljar-pool-4194304", &own));
    }
}
