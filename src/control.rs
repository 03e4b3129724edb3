//! What a host can do with a sandbox while it runs.

use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, Events, Limits, Pressure, Stopping};
use crate::child::Child;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::outcome::Usage;
use crate::runtime::Runtime;
#[cfg(feature = "tokio")]
use crate::tokio::Child as TaskChild;

/// How long the kernel may take to stop every process of a sandbox.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a program may take to be executed that somebody is just starting.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(5);

impl Runtime {
    fn freeze(&self) -> Result<()> {
        // A program that is being started must not be stopped before it can say that it was.
        let _nothing_starts = self.starts.alone(START_PATIENCE)?;
        self.stop()
    }

    /// For who has seen to it that nothing is being started.
    pub(crate) fn stop(&self) -> Result<()> {
        self.with_cgroup(Cgroup::freeze)?;
        let failed = |message, hint| Error::message(ErrorKind::Setup, Step::Cgroup, message).with_hint(hint);
        let stuck = match self.await_stop() {
            Ok(Stopping::Done) => return Ok(()),
            // Whoever has thawed it may have it frozen again by now.
            Ok(Stopping::No) => {
                return Err(failed(
                    "the sandbox was thawed while it was being frozen",
                    "another thread has called thaw(), or a program of it was killed: freeze it again",
                ));
            }
            Ok(Stopping::NotYet) => failed(
                "a process of the sandbox did not stop: it waits in the kernel, for a device or the answer of a handler",
                "freeze it again when the device or the handler has answered, or kill it",
            ),
            Err(error) => error,
        };
        self.with_cgroup(Cgroup::thaw).ok();
        Err(stuck)
    }

    /// Others may use the box between the looks.
    fn await_stop(&self) -> Result<Stopping> {
        let deadline = Instant::now() + FREEZE_PATIENCE;
        let mut pause = Duration::from_micros(50);
        loop {
            let state = self.with_cgroup(|cgroup| cgroup.stopping())?;
            if state != Stopping::NotYet || Instant::now() > deadline {
                return Ok(state);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn events(&self) -> Result<Events> {
        let init = self.link.init().try_clone();
        let init = init.map_err(|error| Error::os(Step::Cgroup, "duplicating the init's pidfd", error))?;
        self.with_cgroup(|cgroup| cgroup.events(init))
    }

    fn usage(&self) -> Result<Usage> {
        self.with_cgroup(|cgroup| cgroup.counters()).map(|counters| Usage::counted(&counters))
    }
}

/// Declares the same methods for the two handles of a running sandbox.
macro_rules! live_control {
    ($type:ident, $whose:literal) => {
        /// # While it runs
        ///
        #[doc = $whose]
        impl $type {
            /// Changes the limits that are set in `limits`; the others stay. A limit whose controller the sandbox was
            /// made without cannot be added. On version 2 less memory than is in use makes the kernel reclaim and then
            /// kill; new device rules of version 1 are in force one by one.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a limit that makes no sense, that the sandbox was
            /// not made for, or under which a busy program could be taken for an [idle](crate::Sandbox::idle_time) one,
            /// [`Unsupported`](crate::ErrorKind::Unsupported) for one that the hierarchy does not have, and
            /// [`Setup`](crate::ErrorKind::Setup) when the kernel refuses (version 1: less memory than is in use). Then
            /// the limits from before are in force.
            pub fn update(&self, limits: &Limits) -> Result<()> {
                let runtime = self.runtime();
                limits.suit_idle_time(runtime.plan.0.idle_time)?;
                runtime.with_cgroup(|cgroup| cgroup.update(limits))
            }

            /// Stops every process, and returns when the last has stopped. Wall time and idle time go on, and no program
            /// can be started meanwhile.
            ///
            /// Version 1 kills nothing that is frozen: killing one program of a frozen container, by its handle or by a
            /// limit, lets the others go on there.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a sandbox that is not
            /// [`freezable`](crate::Sandbox::freezable), [`Setup`](crate::ErrorKind::Setup) when a process does not
            /// stop within five seconds, after which all go on, when a program that is just being started is not executed
            /// within as many, when somebody thaws it meanwhile, and when the sandbox has ended.
            pub fn freeze(&self) -> Result<()> {
                self.runtime().freeze()
            }

            /// Lets every process go on.
            ///
            /// # Errors
            ///
            /// As [`freeze`](Self::freeze).
            pub fn thaw(&self) -> Result<()> {
                self.runtime().with_cgroup(Cgroup::thaw)
            }

            /// What the tree has used so far, as far as the cgroup counts it: CPU time, memory and processes now and at
            /// their peaks, what was denied and killed. Wall time, `max_rss` and output are zero until the end.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a sandbox without a cgroup,
            /// [`Setup`](crate::ErrorKind::Setup) when it has ended: the [`Outcome`](crate::Outcome) has its usage.
            pub fn usage(&self) -> Result<Usage> {
                self.runtime().usage()
            }

            /// How much time the tree has lost by waiting for processors, memory and devices.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a sandbox without
            /// [`pressure`](crate::Sandbox::pressure), [`Unsupported`](crate::ErrorKind::Unsupported) on a kernel without
            /// `CONFIG_PSI`, [`Setup`](crate::ErrorKind::Setup) when it has ended.
            pub fn pressure(&self) -> Result<Pressure> {
                self.runtime().with_cgroup(|cgroup| cgroup.pressure())
            }

            /// What happens from now on: kills for memory, the high mark, refused forks, freezing. To be waited for, in an
            /// event loop too, instead of asking again and again.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a sandbox without a cgroup,
            /// [`Setup`](crate::ErrorKind::Setup) when it has ended,
            /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) when this user has too many of them: on version 2
            /// each is an inotify instance (`fs.inotify.max_user_instances`).
            pub fn events(&self) -> Result<Events> {
                self.runtime().events()
            }

            /// Lets the peak of memory start again from what is in use now. Version 1, and version 2 since Linux 6.12; no
            /// kernel can do it for the peak of processes.
            ///
            /// # Errors
            ///
            /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) without a memory cgroup,
            /// [`Unsupported`](crate::ErrorKind::Unsupported) on an older kernel.
            pub fn reset_peak_memory(&self) -> Result<()> {
                self.runtime().with_cgroup(|cgroup| cgroup.reset_peak())
            }
        }
    };
}

live_control!(Container, "Everything here is about all programs of the container together.");
live_control!(
    Child,
    "Everything here is about the whole sandbox: for a program of a [`Container`](crate::Container), about all of its programs."
);
#[cfg(feature = "tokio")]
live_control!(
    TaskChild,
    "Everything here is about the whole sandbox: for a program of a [`Container`](crate::Container), about all of its programs. \
     It is done in the thread of the task: [`freeze`](Self::freeze) is the one that may take long, and belongs in \
     `tokio::task::spawn_blocking`."
);
