//! A sandbox that is set up and waits for programs.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::child::Child;
use crate::command::Command;
use crate::current::{Current, Turn};
use crate::error::{Error, Result};
use crate::feature::Enforced;
use crate::joining::Sharer;
use crate::outcome::{Outcome, Output};
use crate::plan::Plan;
use crate::runtime::{self, Runtime};
use crate::teardown::Init;

/// A running sandbox: its namespaces, its cgroup and its init, set up and waiting. [`spawn`](Container::spawn) starts
/// a program in it, again and again: they share files in its tmpfs, its network and its limits.
///
/// [`reset`](Container::reset) makes it as it was at the start. Dropping it kills everything inside. A program of a
/// container that ends leaves processes it started in the background; in a sandbox of its own
/// ([`Sandbox::spawn`](crate::Sandbox::spawn)), and with [limits of its own](Command::limits), they die with it.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox};
///
/// let container = Sandbox::new().start()?;
/// container.status(Command::new("/bin/sh").args(["-c", "echo hello > /tmp/note"]))?;
/// let output = container.output(Command::new("/bin/cat").arg("/tmp/note"))?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug)]
pub struct Container {
    plan: Plan,
    /// What is running now. A reset puts another in its place, and what begins meanwhile waits for that.
    current: Arc<Current>,
}

impl Container {
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        Ok(Self::of(plan, launch(plan)?))
    }

    /// One that is set up.
    pub(crate) fn of(plan: &Plan, runtime: Arc<Runtime>) -> Self {
        // What is made ahead for others ends with their plan, and not with this container.
        Self { plan: plan.alone(), current: Arc::new(Current::new(runtime)) }
    }

    /// Starts a program inside.
    ///
    /// # Errors
    ///
    /// [`Exec`](crate::ErrorKind::Exec) when it cannot be executed, and any failure to confine it.
    pub fn spawn(&self, command: impl Borrow<Command>) -> Result<Child> {
        Child::among_others(&self.runtime(), command.borrow())
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Container::spawn).
    pub fn status(&self, command: impl Borrow<Command>) -> Result<Outcome> {
        self.spawn(command)?.wait()
    }

    /// Runs a program to its end and captures stdout and stderr, 16 MiB each unless the command says otherwise.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Container::spawn).
    pub fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.spawn(command.borrow().clone().capturing())?.wait_with_output()
    }

    /// Ends everything inside and sets the sandbox up anew: no process, file in memory, IPC object, socket, key, name or
    /// counter of before is there afterwards.
    ///
    /// Nothing is cleaned. The init is killed, and with it every process; when they are gone and the cgroup is removed, a
    /// new init sets the plan up in new namespaces, mounts, a new cgroup and with other ids. So what a program may have
    /// left need not be known, and a reset takes as long as ending a container and starting one. Limits that were
    /// [updated](Container::update) are those of the policy again.
    ///
    /// What the policy shares with the host is the host's, and stays as programs have left it: a writable
    /// [bind](crate::Mount::bind) or [directory](crate::Rootfs::writable), and shared namespaces.
    ///
    /// Other threads may use the container meanwhile. What they call during a reset waits for it and is done in the new
    /// sandbox. What they had begun ends with the old one: a program that ran has the verdict
    /// [`Killed`](crate::Verdict::Killed), and one that was just being started may be an error of kind
    /// [`Setup`](crate::ErrorKind::Setup).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if the root keeps its changes on the host
    /// ([`Upper::dir`](crate::Upper::dir), a [`Workspace`](crate::Workspace)), and in a forked copy of the host; then
    /// nothing was done. [`Setup`](crate::ErrorKind::Setup) if the old sandbox could not be removed, and whatever
    /// [`Plan::start`](crate::Plan::start) may say of the new one. Then the container is ended, and whatever is asked of
    /// it fails, until another reset succeeds.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let container = Sandbox::new().start()?;
    /// container.status(Command::new("/usr/bin/touch").arg("/tmp/here"))?;
    /// container.reset()?;
    /// assert!(!container.status(Command::new("/usr/bin/test").args(["-e", "/tmp/here"]))?.success());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn reset(&self) -> Result<()> {
        self.refuse_reset()?;
        reset(self.current.replace(), &self.plan)
    }

    pub(crate) fn refuse_reset(&self) -> Result<()> {
        if let Some(dir) = self.plan.keeps_changes_in() {
            let message =
                format!("the root keeps its changes in {}, which a reset does not undo", dir.display());
            return Err(Error::invalid(message).with_path(dir).with_hint(
                "give the root an Upper::tmpfs(), or close the container, empty the upper by Rootfs::discard() and start \
                 another",
            ));
        }
        if !self.current.is_ours() {
            return Err(Error::invalid(
                "the container belongs to the process that started it, of which this is a fork",
            )
            .with_hint("start one in this process"));
        }
        Ok(())
    }

    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        self.current.get()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn current(&self) -> &Arc<Current> {
        &self.current
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What others need to be in its namespaces.
    pub(crate) fn sharer(&self) -> Sharer {
        let runtime = self.runtime();
        let lowered = &*runtime.plan.0;
        Sharer {
            init: Arc::clone(runtime.link.init()),
            pid: runtime.pid,
            namespaces: lowered.namespaces | lowered.entrances.kinds().collect(),
            cross_tenant: lowered.cross_tenant,
        }
    }

    /// What is in force.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        self.plan.enforced()
    }

    /// Kills everything inside and waits until nothing is left. Dropping does the same and cannot tell of failures.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when something could not be removed.
    pub fn close(self) -> Result<()> {
        self.runtime().tear_down(Init::Running)
    }
}

fn launch(plan: &Plan) -> Result<Arc<Runtime>> {
    let runtime = runtime::launch(plan, runtime::Purpose::Container)?;
    runtime.await_ready()?;
    Ok(Arc::new(runtime))
}

/// Puts a new sandbox in the place of the one that runs.
pub(crate) fn reset(turn: Turn, plan: &Plan) -> Result<()> {
    // First, so that nothing of before can meet anything of afterwards, and whatever fails leaves nothing that could be
    // used as if it were new.
    turn.old.end()?;
    turn.put(launch(plan)?);
    Ok(())
}

impl Drop for Container {
    fn drop(&mut self) {
        // In a forked copy it is not ours to end, and a reset may have been under way that will never be over.
        if self.current.is_ours() {
            // Children hold the runtime too, and must not keep the sandbox alive. A failure here has nobody to tell.
            self.runtime().tear_down(Init::Running).ok();
        }
    }
}
