//! Cgroups: the limits of a sandbox and the evidence of what it used.
//!
//! A box is one directory per cgroup hierarchy that its limits need. It holds the limits and the processes of the
//! sandboxed program and nothing else: the init of the sandbox stays in the cgroup of the host, because it shares the
//! host's memory for a moment, and an out-of-memory kill in a limited cgroup reaches every process with that memory.
//!
//! Of the two generations of cgroups a host may have either or both, each controller in one of them. Which one is
//! found out per controller (`layout`, `locate`) and kept as a closed enum; what differs is in `v1` and `v2`.
//!
//! ```text
//!   Limits, CgroupParent ── Placement::resolve ──▶ directories, once per plan, nothing changed
//!                                                     │ Cgroup::create, once per spawn
//!                           first time: enable, sweep ┤
//!                                                     ├ mkdir, limits, read back
//!   the forked program ◀───────── joins ──────────────┤
//!   the verdict ◀──────────────── counters ───────────┤
//!                                                     └ kill, remove (or drop)
//! ```

mod control;
mod counters;
mod cpuset;
mod device;
mod enable;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod io;
mod layout;
mod limits;
mod locate;
mod missing;
mod name;
mod oom;
mod parent;
mod placement;
mod pressure;
mod run;
mod sweep;
#[cfg(feature = "systemd")]
mod systemd;
#[cfg(test)]
mod test_lifecycle;
#[cfg(test)]
mod test_limits;
#[cfg(test)]
mod testing;
mod v1;
mod v2;
mod value;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(test)]
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

pub(crate) use self::control::Stopping;
pub(crate) use self::counters::Counters;
pub use self::cpuset::CpuSet;
pub use self::device::{DeviceAccess, DeviceRules};
pub use self::events::{Event, Events};
use self::group::Group;
pub use self::io::{BlockDevice, IoMax};

use self::layout::Controller;
pub(crate) use self::layout::Version;
pub use self::limits::Limits;
use self::name::{BoxName, Owner};
pub(crate) use self::oom::{Log, read as read_oom};
pub use self::oom::{Oom, OomScope, OomVictim};
pub use self::parent::CgroupParent;
use self::parent::Parent;
pub(crate) use self::placement::Placement;
pub use self::pressure::{Pressure, PressureShare, PressureStall};
pub(crate) use self::run::{RunPlacement, ended};
use crate::error::{Error, ErrorKind, Result, Step};

/// How long the last processes of a box may take to die.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many names are tried. They are taken only where somebody wants them to be.
const NAMES: u32 = 4096;

/// A box: the directories, with their limits. Dropping it kills what is inside and removes them.
#[derive(Debug)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
    joins: Vec<Join>,
    cpu: Option<(OwnedFd, CpuFormat)>,
    /// What is in force.
    limits: Limits,
    /// Its processes were stopped.
    frozen: bool,
    /// A version 2 `memory.peak` that was reset.
    peak: Option<OwnedFd>,
    /// Where programs without limits of their own are, if that is not the version 2 group itself.
    leaf: Option<Group>,
    /// Groups of it, by number, as the places of those of programs with limits of their own.
    places: Vec<(usize, Arc<Parent>)>,
    /// The process that made it, and alone removes it.
    host: u32,
}

/// What a forked process needs to place itself in one directory of a box. The permissions are those of the process
/// that opened the files, so it works from inside a user namespace, too.
#[derive(Debug)]
pub(crate) enum Join {
    /// The file `tasks`, open for writing: a process with a single thread writes `0` to it.
    V1Tasks(OwnedFd),
    V2 {
        /// The directory, for `CLONE_INTO_CGROUP`.
        dir: OwnedFd,
        /// The file `cgroup.procs`, open for writing: the process writes `0` to it.
        procs: OwnedFd,
    },
}

impl Join {
    fn try_clone(&self) -> Result<Self> {
        let failed = |source| Error::os(Step::Cgroup, "duplicating a file of a cgroup", source);
        Ok(match self {
            Self::V1Tasks(file) => Self::V1Tasks(file.try_clone().map_err(failed)?),
            Self::V2 { dir, procs } => {
                Self::V2 { dir: dir.try_clone().map_err(failed)?, procs: procs.try_clone().map_err(failed)? }
            }
        })
    }
}

/// An open file with the CPU time that a box has used so far, to be read with pread(2) by whoever has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuUsageFile<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) format: CpuFormat,
}

/// How a [`CpuUsageFile`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CpuFormat {
    /// Version 1 `cpuacct.usage`: nanoseconds, a decimal number and a newline.
    Nanoseconds,
    /// Version 2 `cpu.stat`: microseconds in the line `usage_usec N`.
    CpuStat,
}

impl Cgroup {
    /// Makes a box. What was made is removed again if anything fails.
    ///
    /// # Errors
    ///
    /// If the directories cannot be made, or if the kernel does not take a limit exactly.
    pub(crate) fn create(placement: &Placement, limits: &Limits) -> Result<Self> {
        limits.validate()?;
        let settings = placement.settings_of(limits)?;
        for parent in placement.parents() {
            parent.ready()?;
        }
        let groups = make_groups(placement.parents())?;
        let mut cgroup = Self::empty(limits.clone());
        cgroup.groups = groups;
        for (group, settings) in cgroup.groups.iter().zip(settings.iter()) {
            group.limit(limits, settings)?;
            cgroup.joins.push(group.join()?);
            if limits.cpu_accounting && group.has(Controller::CpuAcct) {
                cgroup.cpu = Some(group.usage_file()?);
            }
        }
        Ok(cgroup)
    }

    /// Makes a box with these limits and removes it: some things show only then.
    pub(crate) fn try_out(limits: &Limits, parent: &CgroupParent) -> Result<()> {
        let placement = Placement::resolve(limits, parent)?;
        placement.ready()?;
        Self::create(&placement, limits)?.remove()
    }

    fn empty(limits: Limits) -> Self {
        Self {
            groups: Vec::new(),
            joins: Vec::new(),
            cpu: None,
            limits,
            frozen: false,
            peak: None,
            leaf: None,
            places: Vec::new(),
            host: std::process::id(),
        }
    }

    /// What the program needs to place itself: one entry per directory, all of them to be used.
    pub(crate) fn joins(&self) -> &[Join] {
        &self.joins
    }

    /// The CPU time so far, if it was asked for.
    pub(crate) fn cpu_usage_file(&self) -> Option<CpuUsageFile<'_>> {
        self.cpu.as_ref().map(|(fd, format)| CpuUsageFile { fd: fd.as_fd(), format: *format })
    }

    /// The directories, for messages.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.groups.iter().map(Group::path)
    }

    /// From now on it is looked at often, so the files with its counters stay open.
    pub(crate) fn keep_open(&mut self) {
        self.groups.iter_mut().for_each(Group::keep_open);
    }

    /// What the kernel has counted so far, for all programs. Of use until the box is removed.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::default();
        for group in &self.groups {
            match group.version() {
                Version::V1 => v1::count(group, &mut counters)?,
                Version::V2 => v2::count(group, &mut counters)?,
            }
        }
        if let Some(peak) = &self.peak {
            let mut buffer = [0; 32];
            let length = nix::sys::uio::pread(peak, &mut buffer, 0)
                .map_err(|errno| Error::os(Step::Cgroup, "reading memory.peak", errno))?;
            let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
            counters.peak_memory = text.trim_end().parse().ok();
        }
        Ok(counters)
    }

    /// The same without what programs with limits of their own ran into. Version 1 counts for each group by itself who was
    /// killed and what was refused.
    pub(crate) fn counters_of_others(&self) -> Result<Counters> {
        let mut counters = self.counters()?;
        if let Some(leaf) = &self.leaf {
            let group = self.groups.iter().find(|group| group.version() == Version::V2);
            v2::count_own(group.into_iter().chain([leaf]), &mut counters)?;
        }
        Ok(counters)
    }

    /// Sends SIGKILL to every process in it. When it returns without error, no process in it can run or fork any
    /// more; with version 2 they may take a moment to be gone, and [`remove`](Self::remove) waits for that.
    ///
    /// # Errors
    ///
    /// If a process may not be killed or, with version 1, is still there after about a second.
    #[cfg(test)]
    pub(crate) fn kill(&self) -> Result<()> {
        // All of them, even if one fails: a process that did not get to join them all is in some of them only.
        self.groups.iter().map(Group::kill).fold(Ok(()), Result::and)
    }

    /// Removes the directories, killing whatever is still inside. Doing it again does no harm.
    ///
    /// # Errors
    ///
    /// If a directory cannot be removed within a second. What is left is tried again on drop.
    pub(crate) fn remove(&mut self) -> Result<()> {
        let mut removal = Removal::default();
        while let Some(pause) = self.remove_step(&mut removal)? {
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// The same without waiting: how long to wait before the next step, or that all of it is removed.
    pub(crate) fn remove_step(&mut self, removal: &mut Removal) -> Result<Option<Duration>> {
        self.joins.clear();
        self.cpu = None;
        self.places.clear();
        // Of no use by itself: with the group that it is in, it is tried again.
        if let Some(leaf) = self.leaf.take() {
            leaf.try_remove().ok();
        }
        let (mut busy, mut result) = (false, Ok(None));
        self.groups.retain(|group| {
            let Err(error) = group.try_remove() else { return false };
            busy |= group::is_busy(&error);
            result = Err(error);
            true
        });
        if !busy || *removal.deadline.get_or_insert_with(|| Instant::now() + PATIENCE) <= Instant::now() {
            return result;
        }
        self.groups.iter().for_each(Group::empty);
        removal.round += 1;
        Ok(Some(group::pause(removal.round - 1)))
    }
}

/// How far the removal of a box has come. Between two steps its last processes die.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    round: u32,
    deadline: Option<Instant>,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A forked copy of the host has a copy of this value, and must not kill the sandboxes of the original.
        if self.host == std::process::id() {
            let _ = self.remove();
        }
    }
}

fn nanoseconds_since_boot() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| u64::try_from(Duration::from(now).as_nanos()).unwrap_or(0))
}

/// Makes a directory of the same new name in every parent.
fn make_groups(parents: &[Arc<Parent>]) -> Result<Vec<Group>> {
    // A host that replaces itself by execve(2) has its pid and start time still, and the kernel's log has told of boxes
    // that it made before: it goes on beyond their numbers, for none takes as little as a nanosecond to make.
    static COUNTER: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(nanoseconds_since_boot()));
    let owner = match parents {
        [] => return Ok(Vec::new()),
        _ => Owner::current()?,
    };
    for _ in 0..NAMES {
        let name = BoxName { owner, counter: COUNTER.fetch_add(1, Ordering::Relaxed) }.to_string();
        let mut groups = Vec::with_capacity(parents.len());
        let made = parents.iter().try_for_each(|parent| match Group::make(parent, &name) {
            Ok(Some(group)) => {
                groups.push(group);
                Ok(())
            }
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        });
        let Err(failure) = made else { return Ok(groups) };
        // Fresh and empty, so nothing can hold them.
        for group in &groups {
            let _ = group.remove(Duration::ZERO);
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
    let message = format!("{NAMES} names for a cgroup were all taken");
    Err(Error::message(ErrorKind::ResourceExhausted, Step::Cgroup, message))
}
