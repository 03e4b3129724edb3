//! Where the boxes of a plan go: worked out once, then used for every spawn.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::group::Setting;
use super::layout::{Controller, Layout, Version};
use super::limits::Limits;
use super::locate::Location;
use super::missing;
use super::parent::{CgroupParent, Parent};
use super::value::page_size;
use super::{v1, v2};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::Feature;

/// The directories that boxes with some limits are made in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    limits: Limits,
    parent: CgroupParent,
    parents: Vec<Arc<Parent>>,
    /// What to write into each group, in the order of `parents`.
    settings: Vec<Vec<Setting>>,
}

impl Placement {
    /// Finds a hierarchy for every limit. Changes nothing but to enter a scope of systemd where that is the parent; what
    /// version 2 needs changed is done for the first box.
    ///
    /// # Errors
    ///
    /// If a limit makes no sense, if its controller cannot be used here, or if the hierarchy that has it cannot
    /// express it.
    pub(crate) fn resolve(limits: &Limits, parent: &CgroupParent) -> Result<Self> {
        limits.validate()?;
        let mut placement = Self {
            limits: limits.clone(),
            parent: parent.clone(),
            parents: Vec::new(),
            settings: Vec::new(),
        };
        let mut found: Vec<(Location, Vec<Controller>)> = Vec::new();
        let mut controllers = limits.controllers().peekable();
        if controllers.peek().is_none() {
            return Ok(placement);
        }
        parent.enter()?;
        let layout = Layout::discover()?;
        for controller in controllers {
            // A version 2 group that is made anyway can be frozen, and tells pressure and CPU time.
            let made_anyway = found.iter().position(|(location, _)| location.version == Version::V2);
            let any = [Controller::Freezer, Controller::Pressure, Controller::CpuAcct].contains(&controller);
            if let Some(index) = made_anyway.filter(|_| any) {
                found[index].1.push(controller);
                continue;
            }
            let location = layout.locate(controller, parent)?;
            match found.iter_mut().find(|(other, _)| *other == location) {
                Some((_, controllers)) => controllers.push(controller),
                None => found.push((location, vec![controller])),
            }
        }
        for (Location { version, dir }, controllers) in found {
            let parent = Parent::open(version, &dir, controllers, parent)?;
            // The controllers were checked one by one; together they may still break the rule of version 2.
            parent.check()?;
            check_swap(&parent, limits)?;
            check_protection(&parent, limits)?;
            placement.parents.push(parent);
        }
        placement.settings = placement.settings(limits)?;
        Ok(placement)
    }

    /// A placement in directories that a test has chosen.
    #[cfg(test)]
    pub(super) fn in_parents(limits: &Limits, parents: Vec<Arc<Parent>>) -> Self {
        let parent = CgroupParent::Auto;
        let mut placement = Self { limits: limits.clone(), parent, parents, settings: Vec::new() };
        placement.settings = placement.settings(limits).expect("a test knows its hierarchies");
        placement
    }

    /// Whether the limits need no cgroup at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The hierarchies in which every program is placed, in the order of the box's joins.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        self.parents.iter().map(|parent| parent.version)
    }

    /// What it comes to, for a dry run: the directories, and the files written in each box.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (parent, settings) in self.parents.iter().zip(&self.settings) {
            let version = match parent.version {
                Version::V1 => "version 1",
                Version::V2 => "version 2",
            };
            let names: Vec<_> = parent.controllers.iter().map(|controller| controller.name()).collect();
            lines.push(format!("cgroup {version} ({}) below {}", names.join(", "), parent.dir.display()));
            lines.extend(settings.iter().map(|setting| format!("  {} = {}", setting.file, setting.value)));
        }
        lines
    }

    /// Prepares the directories before anything is started for a box in them: on version 2 this process leaves its
    /// cgroup to the boxes, and must be alone there to do so. Does nothing the second time.
    pub(crate) fn ready(&self) -> Result<()> {
        self.parents.iter().try_for_each(Parent::ready)
    }

    /// The files by which a process goes to the cgroup of this one, in the order of the joins. `None` if one cannot be
    /// written to.
    pub(crate) fn ways_out(&self) -> Option<Vec<BorrowedFd<'_>>> {
        self.parents.iter().map(|parent| parent.way_out()).collect()
    }

    pub(super) fn parents(&self) -> &[Arc<Parent>] {
        &self.parents
    }

    /// Where boxes are to be made.
    pub(crate) fn parent(&self) -> &CgroupParent {
        &self.parent
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What to write into each of the groups for some limits: for those that it was made for, what was worked out then.
    pub(super) fn settings_of(&self, limits: &Limits) -> Result<Cow<'_, [Vec<Setting>]>> {
        if *limits == self.limits {
            Ok(Cow::Borrowed(&self.settings))
        } else {
            self.settings(limits).map(Cow::Owned)
        }
    }

    fn settings(&self, limits: &Limits) -> Result<Vec<Vec<Setting>>> {
        let placed = |wanted| self.parents.iter().any(|parent| parent.controllers.contains(&wanted));
        if let Some(controller) = limits.controllers().find(|&controller| !placed(controller)) {
            let message =
                format!("a box was not placed for the {} controller that its limits need", controller.name());
            return Err(Error::internal(Step::Cgroup, message));
        }
        let of = |parent: &Arc<Parent>| match parent.version {
            Version::V1 => v1::settings(limits, &parent.controllers),
            Version::V2 => v2::settings(limits, &parent.controllers),
        };
        self.parents.iter().map(of).collect()
    }
}

/// The kernel takes any amount, and protects of it what every group above protects too, which by default is nothing.
pub(super) fn check_protection(parent: &Parent, limits: &Limits) -> Result<()> {
    if parent.version == Version::V1 || !parent.controllers.contains(&Controller::Memory) {
        return Ok(());
    }
    for (limit, file, wanted) in [
        (Feature::MemoryLow, "memory.low", limits.memory_low),
        (Feature::MemoryMin, "memory.min", limits.memory_min),
    ] {
        let Some(wanted) = wanted else { continue };
        let Some((above, protected)) = protects_less(&parent.dir, file, wanted)? else { continue };
        let message = format!(
            "{limit} of {wanted} bytes cannot be had of the version 2 memory controller: {} is {protected}, and a group is \
             protected only as far as those above it",
            above.display()
        );
        let hint = format!(
            "as root: `echo {wanted} > {}`, and more for several sandboxes, which share what is protected there",
            above.display()
        );
        return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message)
            .with_path(above)
            .with_hint(hint));
    }
    Ok(())
}

/// The nearest file of this name, from `dir` upwards, with less than `wanted`, and what it says. The root of the hierarchy
/// does not have it and bounds nothing, and neither does what is above the mount point.
fn protects_less(dir: &Path, file: &str, wanted: u64) -> Result<Option<(PathBuf, u64)>> {
    for path in dir.ancestors().map(|dir| dir.join(file)) {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| {
                Error::os(Step::Cgroup, format!("reading {}", path.display()), error).with_path(&path)
            })?,
        };
        // `max` is no number.
        let protected = text.trim_end().parse().unwrap_or(u64::MAX);
        // The kernel rounds down to whole pages.
        if wanted.saturating_sub(protected) >= page_size() {
            return Ok(Some((path, protected)));
        }
    }
    Ok(None)
}

/// Version 1 has the file in every group if swap is accounted at all.
pub(super) fn check_swap(parent: &Parent, limits: &Limits) -> Result<()> {
    let concerned = parent.version == Version::V1 && parent.controllers.contains(&Controller::Memory);
    if limits.swap_max.is_none() || !concerned {
        return Ok(());
    }
    faccessat(&parent.fd, v1::MEMSW, AccessFlags::F_OK, AtFlags::empty()).map_err(|errno| {
        Error::os(Step::Cgroup, "looking for the swap limit of the memory controller", errno)
            .with_kind(ErrorKind::Unsupported)
            .with_path(parent.dir.join(v1::MEMSW))
            .with_hint(missing::SWAPACCOUNT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_protected_group_above_bounds() {
        let base = std::env::temp_dir().join(format!("belljar-protection-{}", std::process::id()));
        let (root, a, b) = (base.join("root"), base.join("root/a"), base.join("root/a/b"));
        fs::create_dir_all(&b).unwrap();
        let less = |wanted| protects_less(&b, "memory.min", wanted).unwrap();
        assert_eq!(less(u64::MAX), None, "this may be the root");
        fs::write(b.join("memory.min"), "max\n").unwrap();
        assert_eq!(less(u64::MAX), None);
        fs::write(a.join("memory.min"), "1048576\n").unwrap();
        assert_eq!(less(1 << 20), None);
        assert_eq!(less((1 << 20) + 1), None, "which is as many pages");
        assert_eq!(less((1 << 20) + page_size()), Some((a.join("memory.min"), 1 << 20)));
        assert_eq!(less(u64::MAX), Some((a.join("memory.min"), 1 << 20)));
        fs::write(root.join("memory.min"), "0\n").unwrap();
        assert_eq!(less(0), None, "nothing is protected by nothing");
        assert_eq!(less(page_size()), Some((root.join("memory.min"), 0)));
        assert_eq!(
            protects_less(&b, "memory.low", 1 << 20).unwrap(),
            None,
            "the other has a file of its own"
        );
        fs::remove_dir_all(base).unwrap();
    }
}
