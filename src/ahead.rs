//! What is made of sandboxes before somebody needs them, by a thread of its own: namespaces, and what is mounted in them. It
//! also takes down what is left of the sandboxes of the plan when their programs have ended.
//!
//! ```text
//! Keeper ─▶ an init sets up ─▶ its namespaces by descriptor; it is killed ─▶ ready
//!                                                    Plan::spawn ─▶ another init starts in them: procfs, clocks, program
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result, Step};
use crate::idmap::{self, IdBlock, MapPlan};
use crate::namespace::Namespaces;
use crate::plan::{Plan, SetUp};
use crate::runtime::{self, Purpose, Runtime};
use crate::source;
use crate::sys::{self, Entrance};
use crate::teardown::{Init, Reaper};

/// What is always made ahead: the network namespace, and the user namespace that owns it, if the plan has one.
const NETWORK: Namespaces = Namespaces::USER.union(Namespaces::NET);

/// What an init can leave to another.
const WHOLE: Namespaces = NETWORK.union(Namespaces::MOUNT).union(Namespaces::IPC).union(Namespaces::UTS);

/// The most that are kept for one plan: each takes descriptors of this process, and kernel memory.
const MOST: usize = 1024;

/// How long the thread rests when it could not make one.
const REST: Duration = Duration::from_millis(100);

/// How long no sandbox must have started before one is made. To make one takes processor time and locks of the kernel that a
/// spawn on another processor wants: at the same time both take as long as one after the other.
const LULL: Duration = Duration::from_millis(5);

/// How many sandboxes may wait to be taken down. Whoever comes with one more does it himself: nothing grows.
const MOST_ENDED: usize = 64;

/// How long a lull is waited for.
const PATIENCE: Duration = Duration::from_millis(50);

/// Namespaces that nothing has run in, for one sandbox.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// In the order in which they are entered.
    namespaces: Vec<(Namespaces, OwnedFd)>,
    /// The ids of its map.
    pub(crate) block: Option<IdBlock>,
    /// The box, empty.
    pub(crate) cgroup: Option<Cgroup>,
    /// What was mounted in them.
    sources: Vec<source::Identity>,
}

impl Prepared {
    /// Makes what a launch would make, by the same means.
    fn make(plan: &Plan) -> Result<Self> {
        match plan.0.set_up {
            SetUp::Ahead => Self::set_up(plan),
            SetUp::Anywhere | SetUp::AmongMounts => Self::network(plan),
        }
    }

    /// By an init that ends when it has set everything up.
    fn set_up(plan: &Plan) -> Result<Self> {
        let sources = source::identities(&plan.0.sources)?;
        let runtime = runtime::launch(plan, Purpose::Ahead)?;
        runtime.await_ready()?;
        let namespaces = namespaces_of(runtime.pid, plan.0.namespaces & WHOLE)?;
        let block = runtime.block.lock().unwrap_or_else(PoisonError::into_inner).take();
        runtime.end()?;
        Ok(Self { namespaces, block, cgroup: make_box(plan)?, sources })
    }

    fn network(plan: &Plan) -> Result<Self> {
        let lowered = &*plan.0;
        let block = lowered.maps.as_ref().map(MapPlan::reserve).transpose()?.flatten();
        let maps = lowered.maps.as_ref().map(|maps| maps.maps(block.as_ref(), lowered.program_ids));
        let maps = maps.transpose()?;
        let flags = lowered.namespaces & NETWORK;
        let made = sys::with_new_namespaces(flags.bits(), |pid| {
            if let Some(maps) = &maps {
                idmap::write_maps(pid, maps)?;
            }
            namespaces_of(pid, flags)
        });
        let namespaces = made.map_err(cannot)??;
        Ok(Self { namespaces, block, cgroup: make_box(plan)?, sources: Vec::new() })
    }

    /// Whether what was mounted is still what the plan names.
    fn is_current(&self, plan: &Plan) -> bool {
        plan.0.set_up != SetUp::Ahead
            || source::identities(&plan.0.sources).is_ok_and(|now| now == self.sources)
    }

    pub(crate) fn as_given(&self) -> Vec<Entrance<'_>> {
        let entrances = self.namespaces.iter();
        entrances.map(|(kind, fd)| Entrance { namespace: fd.as_fd(), kind: kind.bits() }).collect()
    }

    /// What a launch into these need not make.
    pub(crate) fn kinds(&self) -> Namespaces {
        self.namespaces.iter().map(|(kind, _)| *kind).collect()
    }
}

fn make_box(plan: &Plan) -> Result<Option<Cgroup>> {
    let (placement, limits) = (&plan.0.placement, &plan.0.limits);
    (!placement.is_empty()).then(|| Cgroup::create(placement, limits)).transpose()
}

/// Descriptors of these namespaces of a process, in the order in which they are entered.
fn namespaces_of(pid: i32, kinds: Namespaces) -> Result<Vec<(Namespaces, OwnedFd)>> {
    let files = Namespaces::table().into_iter().filter(|(one, ..)| kinds.contains(*one));
    let opened = files.map(|(one, _, file)| {
        let opened = File::open(format!("/proc/{pid}/ns/{file}"));
        Ok((one, opened.and_then(|file| sys::above_stdio(file.into())).map_err(cannot)?))
    });
    opened.collect()
}

fn cannot(error: io::Error) -> Error {
    Error::os(Step::Clone, "making namespaces ahead", error).with_hint(
        "see Host::probe(), the limits user.max_user_namespaces and user.max_net_namespaces, and ulimit -n",
    )
}

/// Keeps namespaces ready for the sandboxes of a plan.
#[derive(Debug)]
pub(crate) struct Keeper {
    plan: Plan,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The process that started it. A forked copy has copies of what is ready, which must not be used twice.
    owner: u32,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    count: usize,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Prepared>,
    /// No program runs in them any more.
    ended: Vec<Arc<Runtime>>,
    /// When the last was asked for.
    asked: Option<Instant>,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody has asked for a while, or for as long as it has patience.
    fn await_lull<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let begin = Instant::now();
        loop {
            let quiet = state.asked.map_or(LULL, |asked| asked.elapsed());
            let left = LULL.saturating_sub(quiet).min(PATIENCE.saturating_sub(begin.elapsed()));
            if state.stopped || left.is_zero() {
                return state;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The life of the thread.
    fn refill(&self, plan: &Plan) {
        let mut state = self.lock();
        loop {
            state = self
                .changed
                .wait_while(state, |state| {
                    !state.stopped && state.ended.is_empty() && state.ready.len() >= self.count
                })
                .unwrap_or_else(PoisonError::into_inner);
            state = self.await_lull(state);
            let ended = std::mem::take(&mut state.ended);
            let (stopped, is_full) = (state.stopped, state.ready.len() >= self.count);
            drop(state);
            for runtime in ended {
                // A failure here has nobody to tell; it is tried again on drop, and swept by the next host.
                runtime.tear_down(Init::Exiting).ok();
            }
            if stopped {
                return;
            }
            if is_full {
                state = self.lock();
                continue;
            }
            let made = Prepared::make(plan);
            state = self.lock();
            match made {
                Ok(prepared) => {
                    state.ready.push_back(prepared);
                }
                // Sandboxes make their own meanwhile, and say what is in the way.
                Err(_) => {
                    let stopped = |state: &mut State| !state.stopped;
                    state = self
                        .changed
                        .wait_timeout_while(state, REST, stopped)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }
}

impl Reaper for Shared {
    fn take_down(&self, runtime: Arc<Runtime>) -> Result<()> {
        if !runtime.is_ours() {
            return Ok(());
        }
        let mut state = self.lock();
        if state.stopped || state.ended.len() >= MOST_ENDED || runtime.reaped.load(Ordering::Relaxed) {
            drop(state);
            return runtime.tear_down(Init::Exiting);
        }
        state.ended.push(runtime);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }
}

impl Keeper {
    /// Who takes sandboxes down when their programs have ended.
    pub(crate) fn reaper(&self) -> Arc<dyn Reaper> {
        Arc::clone(&self.shared) as Arc<dyn Reaper>
    }

    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a count that cannot be kept, and what is in the way of
    /// making the first.
    pub(crate) fn start(plan: Plan, count: usize) -> Result<Self> {
        if count == 0 || count > MOST {
            return Err(Error::invalid(format!("{count} network namespaces cannot be kept ready"))
                .with_hint(format!("keep 1 to {MOST}")));
        }
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), count });
        // What cannot be made is told now, and not by sandboxes that are slow.
        shared.lock().ready.push_back(Prepared::make(&plan)?);
        let (theirs, same) = (Arc::clone(&shared), plan.alone());
        let thread = thread::Builder::new()
            .name("belljar-ahead".to_owned())
            .spawn(move || theirs.refill(&same))
            .map_err(|error| {
                Error::os(Step::Prepare, "starting the thread that makes namespaces ahead", error)
            })?;
        Ok(Self { plan, shared, thread: Some(thread), owner: std::process::id() })
    }

    /// One that is ready.
    pub(crate) fn take(&self) -> Option<Prepared> {
        if self.owner != std::process::id() {
            return None;
        }
        let mut taken = {
            let mut state = self.shared.lock();
            state.asked = Some(Instant::now());
            state.ready.pop_front()
        };
        if taken.as_ref().is_some_and(|taken| !taken.is_current(&self.plan)) {
            // Nor is what else there is. It is dropped where nobody waits for the lock.
            taken = None;
            drop(std::mem::take(&mut self.shared.lock().ready));
        }
        self.shared.changed.notify_one();
        taken
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            // A forked copy has no such thread.
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
