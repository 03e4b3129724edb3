//! The end of a sandbox as a future.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::runtime::Handle;
use ::tokio::time::{Sleep, sleep, sleep_until};

use super::watch::Watch;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::teardown::{Ending, Init, Reaper, Wait};

/// A sandbox that is being taken down. If it is dropped on the way, a task of the runtime goes on with it.
#[derive(Debug)]
pub(super) struct Teardown {
    drive: Option<Drive>,
    watch: Arc<Watch>,
}

/// The same, of which nothing is left when it is dropped: the thread that drops it does the rest.
#[derive(Debug)]
struct Drive {
    ending: Ending<Arc<Runtime>>,
    wait: Option<Wait>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Drive {
    fn go_on(&mut self, init_ended: bool, watch: &Watch) {
        self.wait = self.ending.advance(init_ended);
        // The caller may be no task.
        let _context = watch.handle().enter();
        self.timer = self.wait.map(|wait| match wait {
            Wait::Init(until) => Box::pin(sleep_until(until.into())),
            Wait::Pause(pause) => Box::pin(sleep(pause)),
        });
    }

    fn poll(&mut self, watch: &Watch, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let (Some(wait), Some(timer)) = (self.wait, &mut self.timer) {
            let mut init_ended = false;
            if let Wait::Init(_) = wait {
                if let Poll::Ready(ended) = watch.poll_init(self.ending.runtime(), context) {
                    ended?;
                    init_ended = true;
                }
            }
            if !init_ended {
                ready!(timer.as_mut().poll(context));
            }
            self.go_on(init_ended, watch);
        }
        Poll::Ready(self.ending.result())
    }
}

impl Teardown {
    /// What has to be killed is killed already.
    pub(super) fn new(ending: Ending<Arc<Runtime>>, watch: Arc<Watch>) -> Self {
        let mut drive = Drive { ending, wait: None, timer: None };
        drive.go_on(false, &watch);
        Self { drive: Some(drive), watch }
    }

    /// Kills whatever is inside, at once, takes the sandbox down and then tells the other one. `None` in a forked copy of
    /// the host.
    pub(super) fn of(
        runtime: Arc<Runtime>,
        watch: &Arc<Watch>,
        reaper: Option<Arc<dyn Reaper>>,
    ) -> Option<Self> {
        let ending = Ending::begin(runtime, Init::Running)?.for_reaper(reaper);
        Some(Self::new(ending, Arc::clone(watch)))
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(drive) = &mut self.drive else { return Poll::Ready(Ok(())) };
        let result = ready!(drive.poll(&self.watch, context));
        self.drive = None;
        Poll::Ready(result)
    }

    pub(super) async fn wait(mut self) -> Result<()> {
        poll_fn(|context| self.poll(context)).await
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        let Some(mut drive) = self.drive.take() else { return };
        let watch = Arc::clone(&self.watch);
        match Handle::try_current() {
            // A runtime that is shutting down drops the task at once.
            Ok(handle) => drop(handle.spawn(async move {
                // A failure has nobody to tell.
                poll_fn(|context| drive.poll(&watch, context)).await.ok();
            })),
            Err(_) => drop(drive.ending.run()),
        }
    }
}
