//! Groups of single programs, for those with limits of their own.
//!
//! ```text
//! version 2                              version 1, each hierarchy
//!   BOX        limits of the sandbox       BOX      limits of the sandbox; programs without limits of their own
//!   ├─ run     programs without            └─ N     program N and its limits
//!   └─ N       program N and its limits
//! ```
//!
//! In version 2 a group that passes controllers on holds no processes itself (cgroups(7)). So the box of a container has
//! a leaf for its programs from the beginning; what it passes on is settled with the first program that has limits.
//!
//! Where the box has a group, the program's is in it, so that both limit; in a hierarchy that only the program's limits
//! need, it is beside the boxes.

use std::path::Path;
use std::sync::Arc;

use super::group::Group;
use super::layout::{Controller, Layout, Version};
use super::limits::Limits;
use super::locate::Location;
use super::missing;
use super::parent::Parent;
use super::placement::{Placement, check_protection, check_swap};
use super::{Cgroup, PATIENCE, make_groups, v1, v2};
use crate::error::{Error, ErrorKind, Result, Step};

/// The group of those programs of a box that have no limits of their own, where they cannot be in the box itself.
pub(super) const LEAF: &str = "run";

/// Whether a group in a box has such a name.
pub(super) fn is_name(name: &str) -> bool {
    name == LEAF || name.parse::<u32>().is_ok_and(|number| number.to_string() == name)
}

/// Where the groups of a program with some limits go.
#[derive(Debug)]
pub(crate) struct RunPlacement {
    limits: Limits,
    /// In groups of the box, by their numbers there; the directory is that of the box.
    within: Vec<(usize, Arc<Parent>)>,
    /// In hierarchies that the box does not use.
    beside: Vec<Arc<Parent>>,
}

impl RunPlacement {
    /// Finds a hierarchy for each limit. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Placement::resolve`], and for what a group inside of the box cannot have.
    pub(crate) fn resolve(limits: &Limits, sandbox: &Placement) -> Result<Self> {
        let mut within: Vec<Option<Vec<Controller>>> = sandbox
            .parents()
            .iter()
            .map(|parent| counts(parent).then(|| parent.controllers.clone()))
            .collect();
        let mut beside: Vec<(Location, Vec<Controller>)> = Vec::new();
        let mut layout = None;
        for controller in limits.controllers() {
            let serves = |parent: &Arc<Parent>| {
                let any_v2 = parent.version == Version::V2 && controller == Controller::CpuAcct;
                parent.controllers.contains(&controller) || any_v2
            };
            let index = match sandbox.parents().iter().position(serves) {
                Some(index) => index,
                None => {
                    let layout = match &mut layout {
                        Some(layout) => layout,
                        none => {
                            sandbox.parent().enter()?;
                            none.insert(Layout::discover()?)
                        }
                    };
                    let location = layout.locate(controller, sandbox.parent())?;
                    let is_there = |parent: &Arc<Parent>| is_at(parent, &location);
                    match sandbox.parents().iter().position(is_there) {
                        Some(index) => index,
                        None => {
                            match beside.iter_mut().find(|(other, _)| *other == location) {
                                Some((_, controllers)) => controllers.push(controller),
                                None => beside.push((location, vec![controller])),
                            }
                            continue;
                        }
                    }
                }
            };
            let Some((place, parent)) = within.get_mut(index).zip(sandbox.parents().get(index)) else {
                continue;
            };
            let controllers = place.get_or_insert_with(|| parent.controllers.clone());
            if !controllers.contains(&controller) {
                controllers.push(controller);
            }
        }
        let mut placement = Self { limits: limits.clone(), within: Vec::new(), beside: Vec::new() };
        for (index, (controllers, parent)) in within.into_iter().zip(sandbox.parents()).enumerate() {
            let Some(controllers) = controllers else { continue };
            refuse_flat(parent, &controllers)?;
            check_swap(parent, limits)?;
            let parent = if controllers == parent.controllers {
                Arc::clone(parent)
            } else {
                let parent = parent.with(controllers)?;
                parent.check()?;
                parent
            };
            placement.within.push((index, parent));
        }
        check_protection_within(&placement, sandbox, limits)?;
        for (Location { version, dir }, controllers) in beside {
            let parent = Parent::open(version, &dir, controllers, sandbox.parent())?;
            parent.check()?;
            check_swap(&parent, limits)?;
            check_protection(&parent, limits)?;
            placement.beside.push(parent);
        }
        Ok(placement)
    }

    /// The limits that it was made for.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Prepares the directories that boxes are made in, as [`Placement::ready`] does.
    pub(crate) fn ready(&self) -> Result<()> {
        let within = self.within.iter().map(|(_, parent)| parent);
        within.chain(&self.beside).try_for_each(Parent::ready)
    }
}

/// Whether a group counts something there that is part of a program's usage.
fn counts(parent: &Arc<Parent>) -> bool {
    let counted = [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::CpuAcct];
    parent.version == Version::V2 || counted.iter().any(|controller| parent.controllers.contains(controller))
}

fn is_at(parent: &Parent, location: &Location) -> bool {
    let dir: &Path = &parent.dir;
    parent.version == location.version && dir == location.dir
}

/// Version 1 throttles the disks of each group for itself, wherever it is (`throtl_pd_init` of the kernel): in one of its
/// own, a program would be out of the limits of its sandbox.
fn refuse_flat(parent: &Parent, controllers: &[Controller]) -> Result<()> {
    let limited = parent.controllers.contains(&Controller::Io);
    if parent.version == Version::V2 || !limited || !controllers.contains(&Controller::Io) {
        return Ok(());
    }
    let message =
        "a program cannot have limits on I/O, where its sandbox has some, of the version 1 blkio controller";
    Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message).with_hint(missing::UNIFIED))
}

/// Nothing of what the box does not protect is protected in it.
fn check_protection_within(run: &RunPlacement, sandbox: &Placement, limits: &Limits) -> Result<()> {
    let v2 = |(_, parent): &(usize, Arc<Parent>)| {
        parent.version == Version::V2 && parent.controllers.contains(&Controller::Memory)
    };
    if !run.within.iter().any(v2) {
        return Ok(());
    }
    let (own, outer) = (limits, sandbox.limits());
    for (name, wanted, protected) in
        [("memory_low", own.memory_low, outer.memory_low), ("memory_min", own.memory_min, outer.memory_min)]
    {
        let (wanted, protected) = (wanted.unwrap_or(0), protected.unwrap_or(0));
        if wanted > protected {
            let message = format!(
                "{name} of {wanted} bytes cannot be had by a program in a sandbox that has {protected}: it is protected only \
                 as far as its sandbox is"
            );
            return Err(Error::invalid(message).with_hint(format!("give the sandbox {name} as well")));
        }
    }
    Ok(())
}

impl Cgroup {
    /// Sees to it that programs can have groups in this box. To be called before a program is in it.
    ///
    /// # Errors
    ///
    /// If the leaf cannot be made.
    pub(crate) fn make_room(&mut self) -> Result<()> {
        let Some(index) = self.groups.iter().position(|group| group.version() == Version::V2) else {
            return Ok(());
        };
        let Some(group) = self.groups.get(index) else { return Ok(()) };
        let place = Parent::of_group(group, Vec::new())?;
        let leaf = Group::make(&place, LEAF)?.ok_or_else(|| taken(LEAF))?;
        if let Some(join) = self.joins.get_mut(index) {
            *join = leaf.join()?;
        }
        if let Some(usage) = self.cpu.as_mut().filter(|_| group.has(Controller::CpuAcct)) {
            *usage = leaf.usage_file()?;
        }
        self.leaf = Some(leaf);
        Ok(())
    }

    /// Makes the groups of one program with limits of its own, in this box where it has one.
    ///
    /// # Errors
    ///
    /// If a directory cannot be made, or the kernel does not take a limit exactly.
    pub(crate) fn create_run(
        sandbox: Option<&mut Self>,
        placement: &RunPlacement,
        number: u32,
    ) -> Result<Self> {
        placement.ready()?;
        let mut run = Self::empty(placement.limits.clone());
        match sandbox {
            Some(sandbox) => run.enter(sandbox, placement, number)?,
            None if placement.within.is_empty() => {}
            None => {
                return Err(Error::internal(Step::Cgroup, "a program was placed in a box that is not there"));
            }
        }
        for group in make_groups(&placement.beside)? {
            run.add(group)?;
        }
        // A program forked by the init gets into a version 2 group by itself, and need not be told of that one again.
        run.joins.sort_by_key(|join| matches!(join, super::Join::V2 { .. }));
        Ok(run)
    }

    /// Makes those that are in the box, and takes from the box how to join what it has beside them.
    fn enter(&mut self, sandbox: &mut Self, placement: &RunPlacement, number: u32) -> Result<()> {
        if let Some(cpu_max) = sandbox.limits.cpu_max {
            // Version 1 refuses more than the group above has, and version 2 has no use for it.
            let ratio = |max: crate::limits::CpuMax| {
                u128::from(max.quota_us()) * 1_000_000 / u128::from(max.period_us())
            };
            self.limits.cpu_max = self.limits.cpu_max.filter(|own| ratio(*own) < ratio(cpu_max));
        }
        let name = number.to_string();
        for index in 0..sandbox.groups.len() {
            let Some((_, parent)) = placement.within.iter().find(|(at, _)| *at == index) else {
                let join = sandbox.joins.get(index).ok_or_else(ended)?;
                self.joins.push(join.try_clone()?);
                continue;
            };
            let place = sandbox.place(index, &parent.controllers)?;
            self.add(Group::make(&place, &name)?.ok_or_else(|| taken(&name))?)?;
        }
        Ok(())
    }

    /// The group with this number as the place of others, with at least these controllers.
    fn place(&mut self, index: usize, controllers: &[Controller]) -> Result<Arc<Parent>> {
        let group = self.groups.get(index).ok_or_else(ended)?;
        let mut all = controllers.to_vec();
        if let Some((_, place)) = self.places.iter().find(|(at, _)| *at == index) {
            if controllers.iter().all(|controller| place.controllers.contains(controller)) {
                return Ok(Arc::clone(place));
            }
            all.extend(place.controllers.iter().filter(|controller| !controllers.contains(controller)));
        }
        if group.version() == Version::V1 && all.contains(&Controller::Memory) {
            // Before Linux 5.11 a group counted what is in it only where that was asked for.
            if group.number("memory.use_hierarchy")? == Some(0) {
                group.write("memory.use_hierarchy", "1")?;
            }
        }
        let place = Parent::of_group(group, all)?;
        self.places.retain(|(at, _)| *at != index);
        self.places.push((index, Arc::clone(&place)));
        Ok(place)
    }

    /// Limits a group and takes it.
    fn add(&mut self, group: Group) -> Result<()> {
        let settings = match group.version() {
            Version::V1 => v1::settings(&self.limits, &group.parent().controllers),
            Version::V2 => v2::settings(&self.limits, &group.parent().controllers),
        };
        self.groups.push(group);
        let group = self.groups.last().ok_or_else(ended)?;
        group.limit(&self.limits, &settings?)?;
        self.joins.push(group.join()?);
        if group.has(Controller::CpuAcct) && self.cpu.is_none() {
            self.cpu = Some(group.usage_file()?);
        }
        Ok(())
    }

    /// Kills what is in it, and waits until that is gone, so that nothing is counted any more.
    ///
    /// # Errors
    ///
    /// If something does not die: it waits in the kernel for a device, or is frozen.
    pub(crate) fn finish(&self) -> Result<()> {
        self.groups.iter().map(|group| group.finish(PATIENCE)).fold(Ok(()), Result::and)
    }
}

fn taken(name: &str) -> Error {
    Error::internal(Step::Cgroup, format!("the name {name} was taken in a box"))
}

pub(crate) fn ended() -> Error {
    Error::message(ErrorKind::Setup, Step::Cgroup, "the sandbox has ended")
        .with_hint("what it used is in its Outcome")
}
