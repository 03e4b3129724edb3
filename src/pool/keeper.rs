//! The thread of a pool: sets containers up, and removes those that were used or have died.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::parked::Parked;
use super::state::Shared;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::runtime::Runtime;
use crate::sys;
use crate::teardown::Init;

/// How many are set up at the same time: the init of one works while the next is launched.
const AT_ONCE: usize = 2;

/// How long one may take to be set up.
const SETUP_PATIENCE: Duration = Duration::from_secs(60);

/// How long an init may take to exit after its program.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// How long it is until a set-up that failed is tried again: twice as long each time, from the first to the last of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    making: Vec<Making>,
    closing: Vec<Closing>,
    /// After a failure.
    retry_at: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
struct Making {
    parked: Parked,
    until: Instant,
}

#[derive(Debug)]
struct Closing {
    runtime: Arc<Runtime>,
    init: Init,
    /// When its init is killed, if it has not ended by then.
    until: Option<Instant>,
}

impl Closing {
    fn new((runtime, init): (Arc<Runtime>, Init)) -> Self {
        Self { runtime, init, until: Some(Instant::now() + EXIT_PATIENCE) }
    }
}

/// What there is news of, by the order in which it was waited for.
struct News {
    making: Vec<bool>,
    closing: Vec<bool>,
    parked: Vec<bool>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, making: Vec::new(), closing: Vec::new(), retry_at: None, pause: PAUSES[0] }
    }

    /// Works until the pool is stopped, and then removes what there is. Tells the first failure of that.
    pub(super) fn run(&mut self) -> Result<()> {
        loop {
            let (parked, missing, put_off) = {
                let mut state = self.shared.lock();
                if state.stopping {
                    break;
                }
                self.closing.extend(state.ended.drain(..).map(Closing::new));
                let missing = self.shared.missing(&state);
                let put_off = self.shared.put_off(&mut state, missing > 0 || !self.closing.is_empty());
                (state.ready.clone(), if put_off.is_some() { 0 } else { missing }, put_off)
            };
            let more = self.set_up(missing);
            let deadline = if more { Some(Instant::now()) } else { self.next_deadline(missing) };
            let deadline = deadline.into_iter().chain(put_off).min();
            let news = self.wait(&parked, deadline, put_off.is_none());
            self.remove(&news.closing);
            self.finish(&news.making);
            self.discard(parked, &news.parked);
        }
        self.drain()
    }

    /// Launches one container of those that are missing, and says whether another is to follow at once.
    fn set_up(&mut self, missing: usize) -> bool {
        let may = |making: usize| missing > 0 && making < AT_ONCE;
        if !may(self.making.len()) || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match Parked::launch(&self.shared.plan) {
            Ok(parked) => {
                self.shared.lock().count.making += 1;
                self.making.push(Making { parked, until: Instant::now() + SETUP_PATIENCE });
                missing > 1 && may(self.making.len())
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSES[1]);
        self.shared.fail(error);
    }

    /// When there is something to do even if nothing happens.
    fn next_deadline(&self, missing: usize) -> Option<Instant> {
        let making = self.making.iter().map(|making| making.until);
        let closing = self.closing.iter().filter_map(|closing| closing.until);
        let retry = self.retry_at.filter(|_| missing > 0 && self.making.len() < AT_ONCE);
        making.chain(closing).chain(retry).min()
    }

    /// Waits for news until the deadline: of what is closing only if it is to be removed now.
    fn wait(&self, parked: &[Parked], deadline: Option<Instant>, removes: bool) -> News {
        let entry = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let closing = if removes { &*self.closing } else { &[] };
        let mut set = vec![entry(self.shared.bell())];
        set.extend(
            self.making.iter().flat_map(|making| [making.parked.news(), making.parked.init()]).map(entry),
        );
        set.extend(closing.iter().map(|closing| entry(closing.runtime.link.init().as_fd())));
        set.extend(parked.iter().map(|parked| entry(parked.init())));
        // Rounded up: polling for 0 ms while a fraction is left would spin.
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let polled = poll(&mut set, timeout);
        // Without an answer everything is looked at.
        let all = polled.is_err_and(|errno| errno != Errno::EINTR);
        if all {
            std::thread::sleep(PAUSES[0]);
        }
        let mut is_new = set.iter().map(|fd| all || fd.any().unwrap_or(true));
        if is_new.next() == Some(true) {
            self.shared.unring();
        }
        let mut next = || is_new.next().unwrap_or(false);
        News {
            making: self.making.iter().map(|_| next() | next()).collect(),
            closing: closing.iter().map(|_| next()).collect(),
            parked: parked.iter().map(|_| next()).collect(),
        }
    }

    /// Removes sandboxes whose init has ended, and kills inits that take too long for it.
    fn remove(&mut self, is_new: &[bool]) {
        let now = Instant::now();
        let mut is_new = is_new.iter();
        self.closing.retain_mut(|closing| {
            if is_new.next() == Some(&true) && closing.runtime.is_gone() {
                let removed = closing.runtime.tear_down(closing.init);
                self.shared.closed(removed.is_ok());
                return false;
            }
            if closing.until.is_some_and(|at| at <= now) {
                closing.until = None;
                sys::send_signal(closing.runtime.link.init(), libc::SIGKILL).ok();
            }
            true
        });
    }

    /// Takes over what has become ready.
    fn finish(&mut self, is_new: &[bool]) {
        let now = Instant::now();
        let mut is_new = is_new.iter();
        for making in std::mem::take(&mut self.making) {
            let ready = match is_new.next() {
                Some(true) => making.parked.is_ready(Some(now)),
                _ => Ok(false),
            };
            match ready {
                Ok(true) => {
                    (self.retry_at, self.pause) = (None, PAUSES[0]);
                    self.shared.park(making.parked);
                }
                Ok(false) if now < making.until => self.making.push(making),
                Ok(false) => self.give_up(&making.parked, slow()),
                Err(error) => self.give_up(&making.parked, error),
            }
        }
    }

    fn give_up(&mut self, parked: &Parked, error: Error) {
        // The reason is the one of the set-up.
        parked.runtime().tear_down(Init::Running).ok();
        self.shared.lock().count.making -= 1;
        self.fail(error);
    }

    /// Puts away what has died while it waited, unless somebody has taken it meanwhile.
    fn discard(&self, parked: Vec<Parked>, is_new: &[bool]) {
        for (dead, _) in
            parked.into_iter().zip(is_new).filter(|(parked, is_new)| **is_new && parked.is_dead())
        {
            let mut state = self.shared.lock();
            if let Some(place) = state.ready.iter().position(|parked| parked.is(&dead)) {
                state.ready.remove(place);
                self.shared.discard(&mut state, &dead);
            }
        }
    }

    /// Removes everything. Who comes later does so himself.
    fn drain(&mut self) -> Result<()> {
        let mut all: Vec<(Arc<Runtime>, Init)> = Vec::new();
        {
            let mut state = self.shared.lock();
            all.extend(state.ready.drain(..).map(|parked| (Arc::clone(parked.runtime()), Init::Running)));
            all.append(&mut state.ended);
        }
        all.extend(self.making.drain(..).map(|making| (Arc::clone(making.parked.runtime()), Init::Running)));
        all.extend(self.closing.drain(..).map(|closing| (closing.runtime, closing.init)));
        // All of them first, so that the kernel takes them down at the same time.
        for (runtime, init) in &all {
            if *init == Init::Running {
                runtime.begin_end();
            }
        }
        all.into_iter().map(|(runtime, init)| runtime.tear_down(init)).fold(Ok(()), Result::and)
    }
}

fn slow() -> Error {
    let message = format!("a container of the pool was not set up within {SETUP_PATIENCE:?}");
    Error::message(ErrorKind::Setup, Step::Pool, message)
        .with_hint("a filesystem that it mounts may not answer; try Plan::start()")
}
