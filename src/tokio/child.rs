//! A program that runs, for tasks.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::stdio::{ChildStderr, ChildStdin, ChildStdout, Collector};
use super::teardown::Teardown;
use super::watch::Watch;
use crate::error::Result;
use crate::outcome::{Outcome, Output};
use crate::pty::Pty;
use crate::runtime::Runtime;

/// One program in a sandbox, with the names of `tokio::process::Child`.
///
/// Dropping it kills the program: when it was made by [`Sandbox::spawn_async`](crate::Sandbox::spawn_async), with
/// everything in its sandbox; when it was made by [`Container::spawn_async`](crate::Container::spawn_async), with its
/// process group. See [the module](super#dropping) for what is left to be done then, and by whom.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox, Stdio};
/// use tokio::io::AsyncWriteExt;
///
/// # async fn sort() -> Result<(), Box<dyn std::error::Error>> {
/// let mut command = Command::new("/usr/bin/sort");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped());
/// let mut child = Sandbox::new().spawn_async(&command).await?;
/// child.stdin.take().unwrap().write_all(b"b\na\n").await?;
/// assert_eq!(child.wait_with_output().await?.stdout, b"a\nb\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Child {
    /// The writing end of a [piped](crate::Stdio::piped) stdin.
    pub stdin: Option<ChildStdin>,
    /// The reading end of a piped stdout.
    pub stdout: Option<ChildStdout>,
    /// The reading end of a piped stderr.
    pub stderr: Option<ChildStderr>,
    /// The host's end of the program's [terminal](crate::Command::pty). Reading and writing it waits, so that belongs in
    /// `spawn_blocking`.
    pub pty: Option<Pty>,
    inner: crate::Child,
    watch: Arc<Watch>,
    /// Its sandbox is being taken down.
    teardown: Option<Teardown>,
}

impl crate::Child {
    /// The same program for a task. The pipes that were not taken go along.
    ///
    /// # Errors
    ///
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) when there are too many descriptors. The program is killed
    /// then, as when this is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one without I/O or time: see [`belljar::tokio`](crate::tokio).
    pub fn into_async(self) -> Result<Child> {
        let watch = Arc::new(Watch::new(&self.runtime().link)?);
        Child::new(self, watch)
    }
}

impl Child {
    pub(super) fn new(mut inner: crate::Child, watch: Arc<Watch>) -> Result<Self> {
        Ok(Self {
            stdin: ChildStdin::new(inner.stdin.take())?,
            stdout: ChildStdout::new(inner.stdout.take())?,
            stderr: ChildStderr::new(inner.stderr.take())?,
            pty: inner.pty.take(),
            inner,
            watch,
            teardown: None,
        })
    }

    /// The process id as the host sees it; `None` once it was reaped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.inner.id()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.inner.runtime()
    }

    /// Waits for the end. A piped stdin that was not taken is closed first.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, in `select!` or by `tokio::time::timeout` for instance, and this be called again: nothing
    /// is lost, and the program goes on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) or [`Setup`](crate::ErrorKind::Setup) when the sandbox could not be
    /// observed or removed; never because of what the program did.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use belljar::{Command, Sandbox};
    /// use tokio::time::timeout;
    ///
    /// # async fn patient() -> belljar::Result<()> {
    /// let mut child = Sandbox::new().spawn_async(Command::new("/usr/bin/sleep").arg("60")).await?;
    /// if timeout(Duration::from_secs(1), child.wait()).await.is_err() {
    ///     child.kill().await?;
    /// }
    /// println!("{}", child.wait().await?.verdict); // "killed by the host"
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(&mut self) -> Result<Outcome> {
        self.stdin.take();
        poll_fn(|context| self.poll_wait(context)).await
    }

    /// Looks whether the program has ended and its sandbox is gone, without waiting.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> Result<Option<Outcome>> {
        match self.poll_wait(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<Result<Outcome>> {
        loop {
            if let Some(teardown) = &mut self.teardown {
                let result = ready!(teardown.poll(context));
                self.teardown = None;
                result?;
            }
            if let Some(outcome) = &self.inner.outcome {
                return Poll::Ready(Ok(outcome.clone()));
            }
            if self.inner.report.is_none() {
                let (link, number) = (&self.inner.runtime().link, self.inner.number);
                let received = ready!(self.watch.poll_receive(link, number, context))?;
                self.inner.hear_of_end(received)?;
            }
            let (_, ending) = self.inner.settle()?;
            self.teardown = ending.map(|ending| Teardown::new(ending, Arc::clone(&self.watch)));
        }
    }

    /// Waits for the end and returns what was captured or piped; both pipes are read meanwhile. At most 16 MiB (or
    /// [`output_max`](crate::Sandbox::output_max)) of each piped stream are taken; a program that writes more is
    /// killed, with the verdict [`OutputExceeded`](crate::Verdict::OutputExceeded). Dropping the future kills the program.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    pub async fn wait_with_output(mut self) -> Result<Output> {
        self.stdin.take();
        let most = self.inner.most_piped();
        let mut stdout = Collector::new(self.stdout.take(), most);
        let mut stderr = Collector::new(self.stderr.take(), most);
        let outcome = poll_fn(|context| {
            stdout.poll(context)?;
            stderr.poll(context)?;
            if (stdout.flooded || stderr.flooded) && !self.inner.flooded {
                self.inner.flooded = true;
                self.inner.kill()?;
            }
            self.poll_wait(context)
        });
        let outcome = outcome.await?;
        stdout.finish()?;
        stderr.finish()?;
        self.inner.flooded |= stdout.flooded || stderr.flooded;
        self.inner.output(outcome, [stdout.bytes, stderr.bytes])
    }

    /// Kills the program with `SIGKILL`: in a sandbox of its own together with everything else inside, in a
    /// [`Container`](crate::Container) together with its process group; and waits until it is gone, with its sandbox if that
    /// is its own. [`wait`](Child::wait) then returns [`Killed`](crate::Verdict::Killed). A program that has ended is left
    /// alone.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the sandbox's init cannot be reached, and as [`wait`](Child::wait).
    pub async fn kill(&mut self) -> Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Kills the program and does not wait.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the sandbox's init cannot be reached.
    pub fn start_kill(&mut self) -> Result<()> {
        self.inner.kill()
    }

    /// Sends a signal to the main process, by its pidfd. A program that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.inner.signal(signal)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(ending) = self.inner.end() {
            drop(Teardown::new(ending, Arc::clone(&self.watch)));
        }
    }
}
