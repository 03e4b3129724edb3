//! A policy, validated against this host and lowered to operations: the single gate at which a wrong policy fails.

mod explain;
mod lower;
#[cfg(test)]
pub(crate) mod property_tests;
mod validate;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use self::explain::of_namespaces;
use crate::ahead::{Keeper, Prepared};
use crate::cgroup::{Limits, Placement, RunPlacement};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::{Enforced, Feature};
use crate::gate::HostStep;
use crate::idmap::{Ids, MapPlan};
use crate::joining::Entrances;
use crate::limits::Bytes;
use crate::lowering::{Held, Labels};
use crate::mount_template::MountTemplate;
use crate::namespace::Namespaces;
use crate::rootfs::Changeable;
use crate::sandbox::Sandbox;
use crate::source::HostSource;
use crate::teardown::Reaper;
use crate::upper::UpperDir;
use crate::wire::{Reply, line, section, stage};

/// A validated policy: everything the sandbox's init needs, in one sealed memfd, made once and used for any number of
/// spawns.
///
/// [`Display`](fmt::Display) prints it as a dry run: every operation in order.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox};
///
/// let plan = Sandbox::new().pids_max(32).plan()?;
/// for _ in 0..1000 {
///     plan.spawn(Command::new("/bin/true"))?.wait()?;
/// }
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Clone)]
pub struct Plan(
    pub(crate) Arc<Lowered>,
    /// What is made ahead for it.
    pub(crate) Option<Arc<Keeper>>,
);

/// What can be done for a program before its command comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// Nothing: the host has a part in it.
    Cold,
    /// One payload can be prepared at a time, each by itself.
    Alone,
    /// A template can fork one after the other.
    Template,
}

/// Where an init can set its sandbox up, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetUp {
    /// Where the host's mounts are, some of which it looks up.
    AmongMounts,
    /// Anywhere: every mount source is sent.
    Anywhere,
    /// And what need not be done by each init can be done before it is there.
    Ahead,
}

/// What a plan consists of.
#[derive(Debug)]
pub(crate) struct Lowered {
    /// The sealed image of the operations.
    pub(crate) image: OwnedFd,
    pub(crate) labels: Labels,
    /// The mount trees that the host makes for each spawn.
    pub(crate) sources: Vec<HostSource>,
    /// What must not go away while there is the plan, and a sandbox of it has the plan.
    #[expect(dead_code, reason = "it is there to be dropped with the plan")]
    pub(crate) held: Vec<Held>,
    /// What the host does to each program's process at the gate.
    pub(crate) gate: Vec<HostStep>,
    /// The init waits for the host in its setup.
    pub(crate) waits: bool,
    pub(crate) namespaces: Namespaces,
    /// The wire that each sandbox gets.
    #[cfg(feature = "net")]
    pub(crate) wire: Option<crate::network::Wire>,
    /// The namespaces of other sandboxes that it starts in.
    pub(crate) entrances: Entrances,
    /// The mount namespace that it starts in, if that can be another than the host's.
    pub(crate) mount_template: Option<MountTemplate>,
    pub(crate) set_up: SetUp,
    pub(crate) cross_tenant: bool,
    /// `None`: no user namespace.
    pub(crate) maps: Option<MapPlan>,
    pub(crate) program_ids: Ids,
    /// The program has a root filesystem of its own.
    pub(crate) has_root: bool,
    /// Programs can have terminals.
    pub(crate) has_terminals: bool,
    /// Where the changes to its root are kept, if they are.
    pub(crate) changeable: Option<Changeable>,
    /// The directories of the host that they are kept in, if they are.
    pub(crate) upper: Option<UpperDir>,
    /// Layers and directories of the host show the ids inside that they have on disk.
    pub(crate) presents_ids: bool,
    pub(crate) placement: Placement,
    pub(crate) warmth: Warmth,
    /// Where the last program with limits of its own was placed: the next may have the same.
    pub(crate) last_run: Mutex<Option<Arc<RunPlacement>>>,
    pub(crate) best_effort: Vec<Feature>,
    pub(crate) limits: Limits,
    pub(crate) wall_time: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle_time: Option<Duration>,
    /// How much later than at a limit of time the program is killed.
    pub(crate) extra_time: Duration,
    pub(crate) output_max: Option<Bytes>,
    /// CPU time is sampled for want of a cgroup that counts it.
    pub(crate) sample_cpu: bool,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) rlimit_cpu: bool,
    pub(crate) rlimit_fsize: bool,
    pub(crate) filter: bool,
    /// The numbers of the system calls that the filter leaves to the host.
    pub(crate) asked: Vec<u32>,
    /// Landlock denies files that no rule allows.
    pub(crate) landlocked: bool,
    /// The program is executed with a label of a security module.
    pub(crate) labelled: bool,
    pub(crate) enforced: Enforced,
}

impl Lowered {
    /// The namespaces that a launch makes with the init's process, when some are there already. The network namespace is
    /// left to the init, unless the host has something to do in it.
    pub(crate) fn clone_flags(&self, there: Namespaces) -> u64 {
        let made = self.namespaces - there;
        #[cfg(feature = "net")]
        if self.wire.is_some() {
            return made.clone_flags() | (made & Namespaces::NET).bits();
        }
        made.clone_flags()
    }
}

impl Sandbox {
    /// Validates the policy against this host and lowers it to operations, to be used again and again.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for contradictions and unknown names,
    /// [`NotFound`](crate::ErrorKind::NotFound) for sources that do not exist, and
    /// [`Unsupported`](crate::ErrorKind::Unsupported) or [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for
    /// what this host cannot do, with a [`hint`](crate::Error::hint).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let plan = Sandbox::new().plan()?;
    /// println!("{plan}");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn plan(&self) -> Result<Plan> {
        Plan::new(self)
    }
}

impl Plan {
    pub(crate) fn new(sandbox: &Sandbox) -> Result<Self> {
        #[cfg(feature = "net")]
        let sandbox = &*crate::network::with_name_service(sandbox);
        validate::validate(sandbox)?;
        Ok(Self(Arc::new(lower::lower(sandbox)?), None))
    }

    /// The plan for its sandboxes, which do not keep namespaces for others.
    pub(crate) fn alone(&self) -> Self {
        Self(Arc::clone(&self.0), None)
    }

    /// Namespaces that are ready for a sandbox.
    pub(crate) fn take_prepared(&self) -> Option<Prepared> {
        self.1.as_ref()?.take()
    }

    /// Who takes its sandboxes down when their programs have ended, if that is not for those who wait.
    pub(crate) fn reaper(&self) -> Option<Arc<dyn Reaper>> {
        self.1.as_ref().map(|keeper| keeper.reaper())
    }

    /// What will be in force.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        &self.0.enforced
    }

    /// The directory of the host that the changes to the root are kept in, if they outlast the sandbox.
    pub(crate) fn keeps_changes_in(&self) -> Option<&Path> {
        self.0.changeable.as_ref()?.kept.dir()
    }

    /// Turns a failure report of the init into words. `program` and `dir` are those of the run that it is about.
    pub(crate) fn failure(&self, reply: &Reply, program: &Path, dir: &Path) -> Error {
        let source = std::io::Error::from_raw_os_error(reply.errno);
        let index = usize::try_from(reply.index).unwrap_or(usize::MAX);
        let section = match reply.stage {
            stage::SETUP => Some(section::SETUP),
            stage::JOIN => Some(section::JOIN),
            stage::CONFINE => Some(section::CONFINE),
            stage::SEAL => Some(section::SEAL),
            _ => None,
        };
        if let Some(label) = section.and_then(|section| self.0.labels[section].get(index)) {
            let error = Error::os(label.step, label.what.clone(), source);
            let error = match &label.path {
                Some(path) => error.with_path(path),
                None => error,
            };
            return explain::of_operation(error, label, reply.errno, self.0.namespaces);
        }
        let error = |step, what: String| Error::os(step, what, source);
        if let (stage::PROTOCOL, Some((step, what))) = (reply.stage, explain::line_of(reply.index)) {
            let error = error(step, what.to_owned());
            return match error.kind() {
                ErrorKind::ResourceExhausted => error.with_hint(
                    "the init has the host's own limits: raise RLIMIT_NOFILE (ulimit -n) and look at free memory",
                ),
                _ => error,
            };
        }
        match reply.stage {
            stage::FORK => error(Step::Fork, "forking the program's process".into()),
            stage::GATE => error(Step::Handshake, "letting the program's process past the gate".into()),
            stage::FDS => error(Step::Stdio, "placing descriptors".into()),
            stage::CHDIR => {
                error(Step::Chdir, format!("entering the working directory {}", dir.display())).with_path(dir)
            }
            stage::EXEC => {
                let error = error(Step::Exec, format!("executing {}", program.display()));
                explain::of_exec(error, reply.errno, &self.0).with_kind(ErrorKind::Exec).with_path(program)
            }
            stage::PROTOCOL if reply.index == line::FULL => Error::message(
                ErrorKind::ResourceExhausted,
                Step::Fork,
                "the container has no room for one more program",
            )
            .with_hint("wait for one of its programs to end, or start another container"),
            stage::PROTOCOL if reply.index == line::TOO_MANY_FDS => {
                Error::invalid("more descriptors than one program can be given")
            }
            other => error(Step::Handshake, format!("stage {other} of the init, line {index},"))
                .with_kind(ErrorKind::Internal),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plan").field(&self.0).finish()
    }
}
