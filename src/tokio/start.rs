//! Starting programs and containers: the choreography of `src/spawn.rs`, for tasks.

use std::borrow::{Borrow, Cow};
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::child::Child;
use super::teardown::Teardown;
use super::threads::in_a_thread;
use super::watch::Watch;
use crate::child::{Asked, Role, refuse_terminal};
use crate::command::Command;
use crate::container::{Container, reset};
use crate::error::{Error, Result, Step};
use crate::outcome::{Outcome, Output};
use crate::plan::Plan;
use crate::run_limits::RunLimits;
use crate::runtime::{self, Purpose, Runtime};
use crate::sandbox::Sandbox;
use crate::teardown::Reaper;
use crate::wire::CONTAINER;

/// A program that is being started. Dropping it takes that back, without waiting.
struct Starting {
    asked: Option<Asked>,
    watch: Arc<Watch>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        let ending = self.asked.as_mut().and_then(|asked| asked.child.end());
        drop(ending.map(|ending| Teardown::new(ending, Arc::clone(&self.watch))));
    }
}

/// A container that is being set up. Dropping it takes it down, without waiting.
struct Unready {
    runtime: Option<Arc<Runtime>>,
    watch: Arc<Watch>,
}

impl Drop for Unready {
    fn drop(&mut self) {
        drop(self.runtime.take().and_then(|runtime| Teardown::of(runtime, &self.watch, None)));
    }
}

fn watch(runtime: &Runtime) -> Result<Arc<Watch>> {
    Watch::new(&runtime.link).map(Arc::new)
}

/// The same command with every connection made that it grants, for which no thread of a task waits.
pub(super) async fn connected(command: &Command) -> Result<Cow<'_, Command>> {
    if command.is_connected() {
        return Ok(Cow::Borrowed(command));
    }
    let command = command.clone();
    in_a_thread(move || command.connected().map(Cow::into_owned)).await.map(Cow::Owned)
}

/// Starts a program in a container of its own, of whose end another may be told.
pub(super) async fn alone(plan: &Plan, command: &Command, reaper: Option<Arc<dyn Reaper>>) -> Result<Child> {
    command.validate()?;
    refuse_terminal(plan, command)?;
    let limits = plan.run_limits(command.own.as_deref())?;
    if let Some(placement) = &limits.placement {
        // Before the init starts in this process's cgroup.
        placement.ready()?;
    }
    let command = &*connected(command).await?;
    let runtime = Arc::new(runtime::launch(plan, Purpose::OneProgram)?);
    let watch = watch(&runtime)?;
    let started = start(&runtime, &watch, CONTAINER, command, limits, Role::Owner, reaper.clone()).await;
    if started.is_err() {
        take_down(runtime, &watch, reaper).await;
    }
    started
}

/// Starts the one program of a sandbox that was set up for it. If that fails, nothing of it is left.
pub(super) async fn in_parked(
    runtime: Arc<Runtime>,
    command: &Command,
    reaper: Arc<dyn Reaper>,
) -> Result<Child> {
    let watch = watch(&runtime)?;
    let limits = refuse_terminal(&runtime.plan, command)
        .and_then(|()| runtime.plan.run_limits(command.own.as_deref()));
    let theirs = Some(Arc::clone(&reaper));
    let started = match limits {
        Ok(limits) => start(&runtime, &watch, CONTAINER, command, limits, Role::Owner, theirs).await,
        Err(error) => Err(error),
    };
    if started.is_err() {
        take_down(runtime, &watch, Some(reaper)).await;
    }
    started
}

/// Starts one more program in a container.
async fn among_others(runtime: &Arc<Runtime>, command: &Command) -> Result<Child> {
    command.validate()?;
    refuse_terminal(&runtime.plan, command)?;
    let limits = runtime.plan.run_limits(command.own.as_deref())?;
    let command = &*connected(command).await?;
    start(runtime, &watch(runtime)?, runtime.next_number(), command, limits, Role::Guest, None).await
}

async fn start(
    runtime: &Arc<Runtime>,
    watch: &Arc<Watch>,
    number: u32,
    command: &Command,
    limits: RunLimits,
    role: Role,
    reaper: Option<Arc<dyn Reaper>>,
) -> Result<Child> {
    let _start = poll_fn(|context| runtime.starts.poll_begin(context)).await;
    let asked = Asked::new(Arc::clone(runtime), number, command, limits, role)?.reaped_by(reaper);
    let mut starting = Starting { asked: Some(asked), watch: Arc::clone(watch) };
    loop {
        let received = poll_fn(|context| watch.poll_receive(&runtime.link, number, context)).await?;
        let Some(asked) = &mut starting.asked else { continue };
        if let ControlFlow::Break(started) = asked.hear(received, command) {
            started?;
            break;
        }
    }
    match starting.asked.take() {
        Some(asked) => Child::new(asked.child, Arc::clone(watch)),
        None => Err(Error::internal(Step::Wait, "a program was started twice")),
    }
}

/// Sets a sandbox up without a program.
async fn container(plan: &Plan) -> Result<Container> {
    let runtime = Arc::new(runtime::launch(plan, Purpose::Container)?);
    let watch = watch(&runtime)?;
    let mut unready = Unready { runtime: Some(Arc::clone(&runtime)), watch: Arc::clone(&watch) };
    let received = poll_fn(|context| watch.poll_receive(&runtime.link, CONTAINER, context)).await;
    let ready = received.and_then(|received| runtime.says_ready(received));
    unready.runtime = None;
    match ready {
        Ok(_) => Ok(Container::of(plan, runtime)),
        Err(error) => {
            take_down(runtime, &watch, None).await;
            Err(error)
        }
    }
}

/// What runs in a container, after whoever resets it.
async fn settled(container: &Container) -> Arc<Runtime> {
    poll_fn(|context| container.current().poll_get(context)).await
}

/// Takes down what has failed. Why it did is the error that counts.
async fn take_down(runtime: Arc<Runtime>, watch: &Arc<Watch>, reaper: Option<Arc<dyn Reaper>>) {
    if let Some(teardown) = Teardown::of(runtime, watch, reaper) {
        teardown.wait().await.ok();
    }
}

impl Sandbox {
    /// [`spawn`](Sandbox::spawn) for a task. Making the plan for it reads files of the host and is not waited for: make it
    /// once, and use [`Plan::spawn_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one without I/O or time: see [`belljar::tokio`](crate::tokio).
    pub async fn spawn_async(&self, command: impl Borrow<Command>) -> Result<Child> {
        self.plan()?.spawn_async(command).await
    }

    /// [`output`](Sandbox::output) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn).
    ///
    /// # Panics
    ///
    /// As [`spawn_async`](Sandbox::spawn_async).
    pub async fn output_async(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.plan()?.output_async(command).await
    }

    /// [`status`](Sandbox::status) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn).
    ///
    /// # Panics
    ///
    /// As [`spawn_async`](Sandbox::spawn_async).
    pub async fn status_async(&self, command: impl Borrow<Command>) -> Result<Outcome> {
        self.spawn_async(command).await?.wait().await
    }

    /// [`start`](Sandbox::start) for a task. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`start`](Sandbox::start).
    ///
    /// # Panics
    ///
    /// As [`spawn_async`](Sandbox::spawn_async).
    pub async fn start_async(&self) -> Result<Container> {
        self.plan()?.start_async().await
    }
}

impl Plan {
    /// [`spawn`](Plan::spawn) for a task.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Plan::spawn).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn spawn_async(&self, command: impl Borrow<Command>) -> Result<Child> {
        alone(self, command.borrow(), None).await
    }

    /// [`output`](Plan::output) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Plan::spawn).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// # async fn name() -> belljar::Result<()> {
    /// let plan = Sandbox::new().plan()?;
    /// let output = plan.output_async(Command::new("/usr/bin/uname").arg("-n")).await?;
    /// assert_eq!(output.stdout, b"belljar\n");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn output_async(&self, command: impl Borrow<Command>) -> Result<Output> {
        let command = command.borrow().clone().capturing();
        alone(self, &command, None).await?.wait_with_output().await
    }

    /// [`start`](Plan::start) for a task. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`start`](Plan::start).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn start_async(&self) -> Result<Container> {
        container(self).await
    }
}

impl Container {
    /// [`spawn`](Container::spawn) for a task. Any number of tasks and threads may wait for programs of one container.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the program, if it was started already.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Container::spawn).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn spawn_async(&self, command: impl Borrow<Command>) -> Result<Child> {
        among_others(&settled(self).await, command.borrow()).await
    }

    /// [`status`](Container::status) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Container::spawn).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn status_async(&self, command: impl Borrow<Command>) -> Result<Outcome> {
        self.spawn_async(command).await?.wait().await
    }

    /// [`output`](Container::output) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Container::spawn).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn output_async(&self, command: impl Borrow<Command>) -> Result<Output> {
        let command = command.borrow().clone().capturing();
        among_others(&settled(self).await, &command).await?.wait_with_output().await
    }

    /// [`reset`](Container::reset) for a task, in a thread of the runtime for work that blocks. What other tasks ask of
    /// the container meanwhile waits, and keeps no thread.
    ///
    /// # Cancel safety
    ///
    /// Once it has begun, the reset goes on to its end, whatever becomes of the future; what is asked of the container, and
    /// dropping it, wait for that.
    ///
    /// # Errors
    ///
    /// As [`reset`](Container::reset).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime; then nothing was done.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// # async fn tenants() -> belljar::Result<()> {
    /// let container = Sandbox::new().start_async().await?;
    /// for tenant in ["/bin/date", "/usr/bin/id"] {
    ///     container.status_async(Command::new(tenant)).await?;
    ///     container.reset_async().await?;
    /// }
    /// container.close_async().await
    /// # }
    /// ```
    pub async fn reset_async(&self) -> Result<()> {
        self.refuse_reset()?;
        let turn = poll_fn(|context| self.current().poll_replace(context)).await;
        let plan = self.plan().clone();
        in_a_thread(move || reset(turn, &plan)).await
    }

    /// [`close`](Container::close) for a task. Dropping the container does the same in its thread, which waits.
    ///
    /// # Errors
    ///
    /// As [`close`](Container::close).
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`].
    pub async fn close_async(self) -> Result<()> {
        let runtime = settled(&self).await;
        let watch = watch(&runtime)?;
        match Teardown::of(runtime, &watch, None) {
            Some(teardown) => teardown.wait().await,
            None => Ok(()),
        }
    }
}
