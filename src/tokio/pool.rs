//! Programs of a pool, for tasks.

use std::borrow::Borrow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ::tokio::time::{Sleep, sleep_until};

use super::child::Child;
use super::start::{alone, connected, in_parked};
use super::threads::in_a_thread;
use crate::command::Command;
use crate::error::Result;
use crate::outcome::{Outcome, Output};
use crate::pool::{Claim, Pool, PoolBuilder, Shared, Taken};

/// Waits for a container, or leave to start a sandbox. Whoever is dropped meanwhile leaves both to the others.
async fn claim(shared: &Arc<Shared>) -> Result<Taken> {
    let mut claim = Claim::new(shared)?;
    // Most calls need not wait, and no timer.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let claimed = poll_fn(|context| {
        if let Poll::Ready(taken) = claim.poll(context) {
            return Poll::Ready(Some(taken));
        }
        let Some(deadline) = claim.deadline() else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        timer.as_mut().poll(context).map(|()| None)
    });
    match claimed.await {
        Some(taken) => taken,
        None => Err(claim.give_up()),
    }
}

async fn spawn(shared: Arc<Shared>, command: impl Borrow<Command>) -> Result<Child> {
    let command = command.borrow();
    // What is seen to be wrong costs no container.
    command.validate()?;
    let command = &*connected(command).await?;
    let Taken { parked, place } = claim(&shared).await?;
    // From here on the place is given back with what is dropped, when the sandbox is gone.
    let child = match parked {
        Some(parked) => in_parked(Arc::clone(parked.runtime()), command, place).await,
        None => alone(&shared.plan, command, Some(place)).await,
    }?;
    shared.started();
    Ok(child)
}

impl Pool {
    /// [`spawn`](Pool::spawn) for a task: a wait for a container, or for room, keeps no thread.
    ///
    /// Threads and tasks wait in one queue, for the [`patience`](PoolBuilder::patience) of the pool. The future does not
    /// borrow the pool, so that `tokio::spawn` takes it. Nothing happens before it is polled, and one that waits for a
    /// container has to be polled when it is woken, or what it was woken for waits with it. Where
    /// [`WhenEmpty::Start`](crate::WhenEmpty::Start) makes it launch a sandbox, that is done in place; see
    /// [the module](crate::tokio#what-keeps-the-thread).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind. One that waited passes on what it was just woken for. One that had a container
    /// already kills everything inside; its place among the programs [in use](PoolBuilder::max) is free when
    /// the sandbox is gone, for which a task of the runtime waits.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Pool::spawn). [`Setup`](crate::ErrorKind::Setup) if the pool is closed or dropped before there was a
    /// container; a program that has one is started all the same.
    ///
    /// # Panics
    ///
    /// As [`Sandbox::spawn_async`](crate::Sandbox::spawn_async); then the container is gone, and its place is free.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use belljar::{Command, Sandbox, WhenEmpty};
    /// use tokio::time::timeout;
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let plan = Sandbox::judge().plan()?;
    /// let pool = plan.pool().size(4).max(4).when_empty(WhenEmpty::Wait).start_async().await?;
    /// let runs: Vec<_> = (0..100).map(|_| tokio::spawn(pool.output_async(Command::new("/bin/date")))).collect();
    /// for run in runs {
    ///     let output = timeout(Duration::from_secs(60), run).await???;
    ///     println!("{}", output.outcome.verdict);
    /// }
    /// pool.close_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_async<C: Borrow<Command>>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<Child>> + use<C> {
        spawn(Arc::clone(self.shared()), command)
    }

    /// [`output`](Pool::output) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Pool::spawn_async).
    ///
    /// # Panics
    ///
    /// As [`spawn_async`](Pool::spawn_async).
    pub fn output_async<C: Borrow<Command>>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<Output>> + use<C> {
        let shared = Arc::clone(self.shared());
        async move {
            let command = command.borrow().clone().capturing();
            spawn(shared, command).await?.wait_with_output().await
        }
    }

    /// [`status`](Pool::status) for a task. Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Pool::spawn_async).
    ///
    /// # Panics
    ///
    /// As [`spawn_async`](Pool::spawn_async).
    pub fn status_async<C: Borrow<Command>>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<Outcome>> + use<C> {
        let shared = Arc::clone(self.shared());
        async move { spawn(shared, command).await?.wait().await }
    }

    /// [`close`](Pool::close) for a task, in a thread of the runtime for work that blocks. Dropping the pool does the same in
    /// its thread, which waits.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, the pool is closed to its end, whatever becomes of the future.
    ///
    /// # Errors
    ///
    /// As [`close`](Pool::close).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn close_async(self) -> Result<()> {
        in_a_thread(move || self.close()).await
    }
}

impl PoolBuilder {
    /// [`start`](PoolBuilder::start) for a task, in a thread of the runtime for work that blocks.
    ///
    /// # Cancel safety
    ///
    /// Once it was polled, the containers are set up, and removed again if the future is gone by then.
    ///
    /// # Errors
    ///
    /// As [`start`](PoolBuilder::start).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start_async(self) -> Result<Pool> {
        in_a_thread(move || self.start()).await
    }
}
