//! A sandbox that is set up and waits for programs.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::child::Child;
use crate::command::Command;
use crate::error::Result;
use crate::feature::Enforced;
use crate::outcome::{Outcome, Output};
use crate::plan::Plan;
use crate::runtime::{self, Runtime};
use crate::teardown::Init;

/// A running sandbox: its namespaces, its cgroup and its init, set up and waiting. [`spawn`](Container::spawn) starts
/// a program in it, again and again: they share files in its tmpfs, its network and its limits.
///
/// Dropping it kills everything inside. A program of a container that ends leaves processes it started in the
/// background; in a sandbox of its own ([`Sandbox::spawn`](crate::Sandbox::spawn)) they die with it.
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
    runtime: Arc<Runtime>,
}

impl Container {
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let runtime = runtime::launch(plan, runtime::Purpose::Container)?;
        runtime.await_ready()?;
        Ok(Self::of(Arc::new(runtime)))
    }

    /// One that is set up.
    pub(crate) fn of(runtime: Arc<Runtime>) -> Self {
        Self { runtime }
    }

    /// Starts a program inside.
    ///
    /// # Errors
    ///
    /// [`Exec`](crate::ErrorKind::Exec) when it cannot be executed, and any failure to confine it.
    pub fn spawn(&self, command: impl Borrow<Command>) -> Result<Child> {
        Child::among_others(&self.runtime, command.borrow())
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

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared_runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// What is in force.
    #[must_use]
    pub fn enforced(&self) -> &Enforced {
        self.runtime.plan.enforced()
    }

    /// Kills everything inside and waits until nothing is left. Dropping does the same and cannot tell of failures.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when something could not be removed.
    pub fn close(self) -> Result<()> {
        self.runtime.tear_down(Init::Running)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Children hold the runtime too, and must not keep the sandbox alive. A failure here has nobody to tell.
        self.runtime.tear_down(Init::Running).ok();
    }
}
