//! Containers that are kept ready, so that a program finds its sandbox set up.
//!
//! ```text
//! callers, any number of threads             the pool's thread
//!   spawn ── takes one that is ready ─▶ Child   ┌─▶ launches what is missing ─▶ making ─▶ ready
//!     │      none ready: starts one itself,     │
//!     │      or waits for one                   │
//!   the program's end: every process of it is   │
//!   dead, and what is left goes to the thread ──┴─▶ closing: waits for the init's exit, removes the cgroup
//! ```
//!
//! The thread waits for a quiet moment, in which no call comes, while at least half of the containers are ready and not more
//! than half as many are closing.
//!
//! What is ready and in the making is never more than the size of the pool, what is in use and closing never more than its
//! maximum: callers that come faster than their sandboxes can be removed wait.

mod builder;
mod claim;
mod keeper;
mod metrics;
mod parked;
mod state;
mod waiters;

use std::borrow::Borrow;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use self::builder::{PoolBuilder, Reuse, WhenEmpty};
pub(crate) use self::claim::{Claim, Taken};
pub use self::metrics::PoolMetrics;
pub(crate) use self::state::Shared;
use crate::child::Child;
use crate::command::Command;
use crate::error::{Error, Result, Step};
use crate::outcome::{Outcome, Output};
use crate::plan::Plan;

/// Containers of one [`Plan`] that are set up ahead of time and wait, each for one program. Made by [`Plan::pool`].
///
/// [`spawn`](Pool::spawn) takes one that is ready. What comes of it is the [`Child`] that
/// [`Plan::spawn`](crate::Plan::spawn) would make, with the same limits, verdicts and usage, and everything that the
/// program leaves inside dies with it. No container serves a second program. A thread of the pool's own sets up the next ones, and removes
/// those that were used: [`wait`](Child::wait) returns when every process of the program is dead, and does not wait for
/// the removal of namespaces and cgroups.
///
/// All of it is for many threads at once. Dropping the pool removes what waits and ends its thread before `drop` returns.
/// Children outlive it: their programs run on, and removing their sandboxes is for who waits for them or drops them.
///
/// A program gets from its host what belongs to a thread (processors, nice value and scheduling policy, where the plan sets
/// none) from the thread that started the pool. A copy of the host that was forked off cannot use the pool, and does it no
/// harm.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox};
///
/// let pool = Sandbox::new().pids_max(16).plan()?.pool().size(8).start()?;
/// for _ in 0..1000 {
///     let output = pool.output(Command::new("/bin/date"))?;
///     assert!(output.outcome.success());
/// }
/// println!("{:?}", pool.metrics());
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Until it was told to stop.
    keeper: Option<JoinHandle<Result<()>>>,
}

impl Pool {
    /// Starts a program in a container that is ready.
    ///
    /// A container that has died while it waited is never taken. If none is ready the pool does what
    /// [`when_empty`](PoolBuilder::when_empty) says.
    ///
    /// # Errors
    ///
    /// [`Exec`](crate::ErrorKind::Exec) when the program cannot be executed, and any failure to confine it. When none is
    /// ready: what [`Plan::spawn`] may say, or with [`WhenEmpty::Wait`] the reason why no container could be made, as soon
    /// as there is one. [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if there was none within the
    /// [`patience`](PoolBuilder::patience), or as many programs as [`max`](PoolBuilder::max) were in use all the time.
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) in a forked copy of the host.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Verdict};
    ///
    /// let pool = Sandbox::new().plan()?.pool().start()?;
    /// let mut child = pool.spawn(Command::new("/bin/false"))?;
    /// assert_eq!(child.wait()?.verdict, Verdict::Exited(1));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn spawn(&self, command: impl Borrow<Command>) -> Result<Child> {
        let command = command.borrow();
        // What is seen to be wrong costs no container.
        command.validate()?;
        let command = &*command.connected()?;
        let Taken { parked, place } = Claim::new(&self.shared)?.wait()?;
        // Whatever fails drops the place, and so gives it back.
        let child = match parked {
            Some(parked) => parked.run(command),
            None => Child::alone(&self.shared.plan, command),
        }?;
        self.shared.started();
        Ok(child.reaped_by(place))
    }

    /// Runs a program to its end and captures stdout and stderr, 16 MiB each unless the command says otherwise.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Pool::spawn).
    pub fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.spawn(command.borrow().clone().capturing())?.wait_with_output()
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Pool::spawn).
    pub fn status(&self, command: impl Borrow<Command>) -> Result<Outcome> {
        self.spawn(command)?.wait()
    }

    /// What the pool has, and what has become of its containers so far. All zero in a forked copy of the host.
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        self.shared.metrics()
    }

    /// Removes everything that waits, and ends the pool's thread. Dropping does the same and cannot tell of failures.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when something could not be removed.
    pub fn close(mut self) -> Result<()> {
        self.stop()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn stop(&mut self) -> Result<()> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        if !self.shared.is_ours() {
            // A forked copy of the host has the handle, and no such thread.
            std::mem::forget(keeper);
            return Ok(());
        }
        self.shared.stop();
        keeper.join().map_err(|_| Error::internal(Step::Pool, "the pool's thread panicked"))?
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A failure here has nobody to tell; the next use on this machine sweeps what is left.
        self.stop().ok();
    }
}

impl Plan {
    /// A pool of containers of this plan, to be [started](PoolBuilder::start).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let pool = Sandbox::new().plan()?.pool().size(4).start()?;
    /// assert!(pool.status(Command::new("/bin/true"))?.success());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn pool(&self) -> PoolBuilder {
        PoolBuilder::new(self)
    }
}
