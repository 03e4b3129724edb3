//! What a pool is to be like.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::keeper::Keeper;
use super::parked::Parked;
use super::state::Shared;
use crate::error::{Error, Result, Step};
use crate::plan::Plan;

/// Programs at once in a pool for which nothing else was said.
const USUAL_MAX: usize = 64;

/// How long a call waits where nothing else was said.
const USUAL_PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a container that has served a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reuse {
    /// It is removed, and the next one is set up as soon as it is taken, while its program runs. There are up to
    /// [`size`](PoolBuilder::size) containers that wait and up to [`max`](PoolBuilder::max) in use beside them.
    #[default]
    Never,
    /// It goes back to the pool when its program has ended, [reset](crate::Container::reset): with new kernel objects, so
    /// that nothing of the last program is there for the next. None is set up in place of one that is in use, so that the
    /// pool has [`size`](PoolBuilder::size) containers in all, beside those that callers start when none is ready. For
    /// hosts that would rather have programs wait than more sandboxes.
    AfterReset,
}

/// What [`Pool::spawn`] does when no container is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenEmpty {
    /// It starts a sandbox itself, as [`Plan::spawn`] does: about as long as it takes to set one up, and on as many
    /// processors as there are callers.
    #[default]
    Start,
    /// It waits for the pool's thread to get one ready, for the [`patience`](PoolBuilder::patience) of the pool. If one
    /// could not be set up, the call does not wait, but fails with the reason; the thread tries again after a while,
    /// at most a second.
    Wait,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) size: usize,
    pub(super) max: usize,
    pub(super) reuse: Reuse,
    pub(super) when_empty: WhenEmpty,
    pub(super) patience: Duration,
}

/// What a [`Pool`] is to be like. Made by [`Plan::pool`].
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use belljar::{Command, Sandbox, WhenEmpty};
///
/// let plan = Sandbox::judge().plan()?;
/// // Two programs at once, and none that waits for longer than half a minute.
/// let pool = plan.pool().size(2).max(2).when_empty(WhenEmpty::Wait).patience(Duration::from_secs(30)).start()?;
/// println!("{}", pool.status(Command::new("/bin/true"))?.verdict);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PoolBuilder {
    plan: Plan,
    options: Options,
}

impl PoolBuilder {
    pub(super) fn new(plan: &Plan) -> Self {
        let options = Options {
            size: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            max: USUAL_MAX,
            reuse: Reuse::default(),
            when_empty: WhenEmpty::default(),
            patience: USUAL_PATIENCE,
        };
        Self { plan: plan.clone(), options }
    }

    /// How many containers wait at most, one for each processor that this process may use if nothing else is said. Each is
    /// a process, a few dozen descriptors of the host's and kernel memory. It should be twice what
    /// comes at once: while half of them are left, the pool waits for a quiet moment to set others up, so that it does not
    /// hold back the programs that start. A burst of more programs than that finds the pool empty.
    pub fn size(mut self, containers: usize) -> Self {
        self.options.size = containers;
        self
    }

    /// How many programs are in use at most, 64 if nothing else is said: those whose [`Child`](crate::Child) was not
    /// yet waited for to its end nor dropped, and those whose sandbox is still being removed. Whoever comes then waits.
    pub fn max(mut self, programs: usize) -> Self {
        self.options.max = programs;
        self
    }

    /// What becomes of a container that has served a program: [`Reuse::Never`] if nothing else is said.
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.options.reuse = reuse;
        self
    }

    /// What a call does when no container is ready: [`WhenEmpty::Start`] if nothing else is said.
    pub fn when_empty(mut self, policy: WhenEmpty) -> Self {
        self.options.when_empty = policy;
        self
    }

    /// How long a call waits at most, for a container or for room below [`max`](PoolBuilder::max): 10 seconds if nothing
    /// else is said. With none at all it fails at once.
    pub fn patience(mut self, time: Duration) -> Self {
        self.options.patience = time;
        self
    }

    /// Sets the containers up and starts the pool's thread. When it returns, all of them are ready.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a pool of no container or for no program, and for a root that
    /// keeps its changes on the host ([`Upper::dir`](crate::Upper::dir), a [`Workspace`](crate::Workspace)), which one
    /// sandbox at a time can use; whatever [`Plan::start`] may say of a container. Then nothing is left of it.
    pub fn start(self) -> Result<Pool> {
        let Self { plan, options } = self;
        if options.size == 0 || options.max == 0 {
            return Err(Error::invalid("a pool without room")
                .with_hint("size() and max() are numbers of containers, of at least 1"));
        }
        if let Some(dir) = plan.keeps_changes_in() {
            let message =
                format!("a pool of sandboxes that keep their changes in one place, {}", dir.display());
            return Err(Error::invalid(message).with_path(dir).with_hint("give the root an Upper::tmpfs()"));
        }
        let ready = fill(&plan, options.size)?;
        let shared = Arc::new(Shared::new(plan, options, ready)?);
        let mut keeper = Keeper::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("belljar-pool".to_owned());
        let keeper = thread
            .spawn(move || keeper.run())
            .map_err(|error| Error::os(Step::Pool, "starting the pool's thread", error))?;
        Ok(Pool { shared, keeper: Some(keeper) })
    }
}

/// Sets the first containers up, each while the init of the one before works.
fn fill(plan: &Plan, size: usize) -> Result<Vec<Parked>> {
    let mut ready = Vec::new();
    let mut making = VecDeque::new();
    for _ in 0..size {
        making.push_back(Parked::launch(plan)?);
        if making.len() > 1 {
            ready.extend(await_first(&mut making)?);
        }
    }
    ready.extend(await_first(&mut making)?);
    Ok(ready)
}

fn await_first(making: &mut VecDeque<Parked>) -> Result<Option<Parked>> {
    let Some(first) = making.pop_front() else { return Ok(None) };
    first.is_ready(None)?;
    Ok(Some(first))
}
