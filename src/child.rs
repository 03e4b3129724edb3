//! A program that runs.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::broker::{self, ByNumber, Denied};
use crate::capture::{self, PipeReader, Streams};
use crate::cgroup::{self, Cgroup, Counters, Log, Oom};
use crate::command::Command;
use crate::error::{Error, Result, Step};
use crate::link::{Forgotten, Received};
use crate::outcome::{Cause, Evidence, Outcome, Output, Usage, Verdict};
use crate::plan::Plan;
use crate::pty::Pty;
use crate::run_limits::RunLimits;
use crate::runtime::{self, Progress, Purpose, Runtime, Start, Started, Tries};
use crate::seccomp::Syscall;
use crate::sys;
use crate::teardown::{Ending, Init, Reaper};
use crate::wire::{CONTAINER, Reply, cause, reply};

/// One program in a sandbox, with the names of [`std::process::Child`].
///
/// Dropping it kills the program: when it was made by [`Sandbox::spawn`](crate::Sandbox::spawn) or by
/// [`Pool::spawn`](crate::Pool::spawn), with everything in its sandbox, before `drop` returns; when it was made by [`Container::spawn`](crate::Container::spawn), with its
/// process group. It outlives the thread that made it.
///
/// # Examples
///
/// ```no_run
/// use std::io::Write;
/// use belljar::{Command, Sandbox, Stdio};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut command = Command::new("/usr/bin/sort");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped());
/// let mut child = Sandbox::new().spawn(&command)?;
/// child.stdin.take().unwrap().write_all(b"b\na\n")?;
/// assert_eq!(child.wait_with_output()?.stdout, b"a\nb\n");
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
    /// The host's end of the program's [terminal](crate::Command::pty). The terminal hangs up when it is dropped, with this
    /// handle if it was not taken.
    pub pty: Option<Pty>,
    captured: [Option<fs::File>; 2],
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) number: u32,
    pidfd: Option<OwnedFd>,
    role: Role,
    /// What the init has still to say of it; `None` if dropping this ends nothing.
    held: Option<Forgotten>,
    /// What is in force for this program.
    limits: RunLimits,
    /// Its own cgroups, if it has limits of its own.
    cgroup: Option<Cgroup>,
    /// Who takes the sandbox down when the program has ended, if that is not for the one who waits.
    reaper: Option<Arc<dyn Reaper>>,
    /// What the box had counted before the program started: the counters go on from program to program.
    before: Counters,
    /// The kernel's log since then, if processes of this box had been killed for memory already.
    log: Option<Log>,
    /// What the init told of the end, in case putting the outcome together has to be tried again.
    pub(crate) report: Option<Reply>,
    pub(crate) outcome: Option<Outcome>,
    /// The host killed it through this handle.
    killed: bool,
    /// What a process was killed for, where the host answers system calls.
    denied: Option<Arc<Denied>>,
    /// It wrote more to a pipe than [`wait_with_output`](Child::wait_with_output) takes.
    pub(crate) flooded: bool,
}

/// Whose the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It ends with this program.
    Owner,
    /// It goes on.
    Guest,
}

/// A program that the init was asked to start. Dropping it takes that back.
pub(crate) struct Asked {
    pub(crate) child: Child,
    handlers: Option<ByNumber>,
    tries: Tries,
    progress: Progress,
}

/// A terminal is made in what the sandbox has of its own, or not at all.
pub(crate) fn refuse_terminal(plan: &Plan, command: &Command) -> Result<()> {
    if command.pty.is_none() || plan.0.has_terminals {
        return Ok(());
    }
    Err(Error::invalid("the sandbox has no pseudo-terminals of its own")
        .with_hint("give it a root with Mount::dev(\"/dev\") or Mount::devpts(\"/dev/pts\")"))
}

/// How much of a piped stream [`Child::wait_with_output`] takes without another limit.
const DEFAULT_PIPED: u64 = 16 << 20;

impl Asked {
    /// Asks for it.
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        number: u32,
        command: &Command,
        limits: RunLimits,
        role: Role,
    ) -> Result<Self> {
        let before = match role {
            Role::Owner => Counters::default(),
            Role::Guest => {
                runtime.refuse_if_frozen()?;
                runtime.counters_of_many()?
            }
        };
        let cgroup =
            limits.placement.as_ref().map(|placement| runtime.make_run(placement, number)).transpose()?;
        let log = before.oom_kills.filter(|kills| *kills > 0).map(|_| Log::from_now());
        let handlers = match command.handlers.is_empty() {
            true => None,
            false => Some(command.handlers.by_number(&runtime.plan.0.asked)?),
        };
        // One that is dropped before its end stays counted: nobody looks when it ends.
        runtime.running.fetch_add(1, Ordering::AcqRel);
        let streams = runtime.request_run(number, command, &limits, cgroup.as_ref(), Tries::First);
        let Streams { stdin, stdout, stderr, captured } = streams.inspect_err(|_| {
            runtime.running.fetch_sub(1, Ordering::AcqRel);
        })?;
        let child = Child {
            stdin,
            stdout,
            stderr,
            pty: None,
            captured,
            runtime,
            number,
            pidfd: None,
            role,
            held: Some(Forgotten::Asked),
            limits,
            cgroup,
            reaper: None,
            before,
            log,
            report: None,
            outcome: None,
            killed: false,
            denied: None,
            flooded: false,
        };
        Ok(Self { child, handlers, tries: Tries::First, progress: Progress::default() })
    }

    /// The same, and from now on another takes the sandbox down, or is told that it was taken down.
    #[cfg(feature = "tokio")]
    pub(crate) fn reaped_by(mut self, reaper: Option<Arc<dyn Reaper>>) -> Self {
        self.child.reaper = reaper;
        self
    }

    /// One word of the init. After the last one it runs, or is nothing that could be dropped any more.
    pub(crate) fn hear(&mut self, received: Received, command: &Command) -> ControlFlow<Result<()>> {
        let (child, progress) = (&mut self.child, &mut self.progress);
        let last = child.runtime.heard_of_start(received, progress, child.number, command);
        let ControlFlow::Break(started) = last else { return ControlFlow::Continue(()) };
        // Nothing of it is left that dropping could end, until it has been asked for again or runs.
        child.held = None;
        match started {
            Ok(Start::Executed(started)) => ControlFlow::Break(self.run(started, command)),
            Ok(Start::Lost) => match self.ask_again(command) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Err(error)),
            },
            Err(error) => {
                child.runtime.running.fetch_sub(1, Ordering::AcqRel);
                ControlFlow::Break(Err(error))
            }
        }
    }

    /// One that was prepared and is lost has not begun, so it is asked for once more.
    fn ask_again(&mut self, command: &Command) -> Result<()> {
        if self.tries == Tries::Again {
            return Err(Error::internal(Step::Fork, "a program was lost that was not prepared"));
        }
        self.tries = Tries::Again;
        let child = &mut self.child;
        let (limits, own) = (&child.limits, child.cgroup.as_ref());
        let streams = child.runtime.request_run(child.number, command, limits, own, self.tries)?;
        Streams {
            stdin: child.stdin,
            stdout: child.stdout,
            stderr: child.stderr,
            captured: child.captured,
        } = streams;
        child.held = Some(Forgotten::Asked);
        Ok(())
    }

    fn run(&mut self, started: Started, command: &Command) -> Result<()> {
        let Started { pidfd, listener, terminal, connections } = started;
        let child = &mut self.child;
        child.pty = terminal.map(Pty::new);
        // From here on, dropping it ends the program, which without a thread that answers would wait for ever.
        child.held = Some(Forgotten::Started);
        if let (Some(handlers), Some(listener)) = (self.handlers.take(), listener) {
            let denied = Arc::new(Denied::default());
            broker::serve(listener, handlers, &pidfd, Arc::clone(&denied))?;
            child.denied = Some(denied);
        }
        if connections.len() != command.grants().count() {
            return Err(Error::internal(
                Step::Stdio,
                "the init made another number of connections than was asked for",
            ));
        }
        for (grant, end) in command.grants().zip(connections) {
            grant.serve(end)?;
        }
        child.pidfd = Some(pidfd);
        Ok(())
    }
}

impl Child {
    /// Starts a program in a container of its own.
    pub(crate) fn alone(plan: &Plan, command: &Command) -> Result<Self> {
        command.validate()?;
        refuse_terminal(plan, command)?;
        let limits = plan.run_limits(command.own.as_deref())?;
        if let Some(placement) = &limits.placement {
            // Before the init starts in this process's cgroup.
            placement.ready()?;
        }
        let command = &*command.connected()?;
        let runtime = Arc::new(runtime::launch(plan, Purpose::OneProgram)?);
        // The program has the container's number, so that a failure of either is the answer.
        let child = Self::start(runtime, CONTAINER, command, limits, Role::Owner)?;
        Ok(match plan.reaper() {
            Some(reaper) => child.reaped_by(reaper),
            None => child,
        })
    }

    /// Starts the one program of a sandbox that was set up for it. If that fails, nothing of it is left.
    pub(crate) fn in_parked(runtime: &Arc<Runtime>, command: &Command) -> Result<Self> {
        let limits = refuse_terminal(&runtime.plan, command)
            .and_then(|()| runtime.plan.run_limits(command.own.as_deref()));
        let start = |limits| Self::start(Arc::clone(runtime), CONTAINER, command, limits, Role::Owner);
        limits.and_then(start).inspect_err(|_| {
            // Others may hold the sandbox, so that its end is not that of this handle.
            runtime.tear_down(Init::Running).ok();
        })
    }

    /// The same program, whose sandbox another takes down.
    pub(crate) fn reaped_by(mut self, reaper: Arc<dyn Reaper>) -> Self {
        self.reaper = Some(reaper);
        self
    }

    /// Starts one more program in a container.
    pub(crate) fn among_others(runtime: &Arc<Runtime>, command: &Command) -> Result<Self> {
        command.validate()?;
        refuse_terminal(&runtime.plan, command)?;
        let limits = runtime.plan.run_limits(command.own.as_deref())?;
        let command = &*command.connected()?;
        Self::start(Arc::clone(runtime), runtime.next_number(), command, limits, Role::Guest)
    }

    fn start(
        runtime: Arc<Runtime>,
        number: u32,
        command: &Command,
        limits: RunLimits,
        role: Role,
    ) -> Result<Self> {
        let starting = Arc::clone(&runtime);
        let _start = starting.starts.begin();
        let mut asked = Asked::new(runtime, number, command, limits, role)?;
        loop {
            let received = starting.link.receive(number, None)?;
            if let ControlFlow::Break(started) = asked.hear(received, command) {
                return started.map(|()| asked.child);
            }
        }
    }

    /// The process id as the host sees it; `None` once it was reaped.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        sys::pid_of(self.pidfd.as_ref()?).ok()?
    }

    /// Readable when the main process has ended.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Waits for the end. A piped stdin that was not taken is closed first.
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) or [`Setup`](crate::ErrorKind::Setup) when the sandbox could not be
    /// observed or removed; never because of what the program did.
    pub fn wait(&mut self) -> Result<Outcome> {
        self.stdin.take();
        match self.wait_until(None)? {
            Some(outcome) => Ok(outcome),
            None => Err(Error::internal(Step::Wait, "waiting without a limit ended without a result")),
        }
    }

    /// Looks whether the program has ended, without waiting.
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> Result<Option<Outcome>> {
        self.wait_until(Some(Instant::now()))
    }

    /// Waits for the end, but no longer than this. The program goes on when the time is over; to end it, set
    /// [`wall_time`](crate::Sandbox::wall_time) or call [`kill`](Child::kill).
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use belljar::{Command, Sandbox};
    ///
    /// let mut child = Sandbox::new().spawn(Command::new("/usr/bin/sleep").arg("60"))?;
    /// if child.wait_timeout(Duration::from_secs(1))?.is_none() {
    ///     child.kill()?;
    ///     println!("{}", child.wait()?.verdict); // "killed by the host"
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Outcome>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Waits for the end and returns what was captured or piped. At most 16 MiB (or
    /// [`output_max`](crate::Sandbox::output_max)) of each piped stream are taken; a program that writes more is
    /// killed, with the verdict [`OutputExceeded`](Verdict::OutputExceeded).
    ///
    /// # Errors
    ///
    /// As [`wait`](Child::wait).
    pub fn wait_with_output(mut self) -> Result<Output> {
        self.stdin.take();
        let (outcome, bytes) = if self.stdout.is_some() || self.stderr.is_some() {
            self.wait_reading()?
        } else {
            (self.wait()?, [Vec::new(), Vec::new()])
        };
        self.output(outcome, bytes)
    }

    /// What was captured, and what was read from pipes.
    pub(crate) fn output(&mut self, mut outcome: Outcome, mut bytes: [Vec<u8>; 2]) -> Result<Output> {
        if self.flooded {
            outcome.verdict = Verdict::OutputExceeded;
        }
        for (bytes, file) in bytes.iter_mut().zip(&mut self.captured) {
            if file.is_some() {
                *bytes = capture::read_captured(file.take())?;
            }
        }
        let [stdout, stderr] = bytes;
        Ok(Output { outcome, stdout, stderr })
    }

    /// How much of a piped stream is taken.
    pub(crate) fn most_piped(&self) -> u64 {
        self.limits.output_max.map_or(DEFAULT_PIPED, crate::limits::Bytes::get)
    }

    /// Reads both pipes at once, so that neither fills while the other is waited for, and waits for the end.
    fn wait_reading(&mut self) -> Result<(Outcome, [Vec<u8>; 2])> {
        let most = self.most_piped();
        let (ended, flood) = (AtomicBool::new(false), AtomicBool::new(false));
        let reader = PipeReader { most, ended: &ended, flood: &flood };
        let (stdout, stderr) = (self.stdout.take().map(OwnedFd::from), self.stderr.take().map(OwnedFd::from));
        std::thread::scope(|scope| {
            let threads = [scope.spawn(|| reader.read(stdout)), scope.spawn(|| reader.read(stderr))];
            let outcome = loop {
                // The end wakes us at once; the pause is for noticing a flood.
                match self.wait_timeout(Duration::from_millis(20)) {
                    Ok(None) if flood.load(Ordering::Acquire) && !self.flooded => {
                        self.flooded = true;
                        if let Err(error) = self.kill() {
                            break Err(error);
                        }
                    }
                    Ok(None) => {}
                    Ok(Some(outcome)) => break Ok(outcome),
                    Err(error) => break Err(error),
                }
            };
            ended.store(true, Ordering::Release);
            let mut bytes = [Vec::new(), Vec::new()];
            for (bytes, thread) in bytes.iter_mut().zip(threads) {
                let joined = thread.join();
                *bytes = joined.map_err(|_| Error::internal(Step::Wait, "a reading thread panicked"))??;
            }
            self.flooded |= flood.load(Ordering::Acquire);
            Ok((outcome?, bytes))
        })
    }

    /// Kills the program with `SIGKILL`: in a sandbox of its own together with everything else inside, in a
    /// [`Container`](crate::Container) together with its process group. [`wait`](Child::wait) then returns
    /// [`Killed`](Verdict::Killed). A program that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the sandbox's init cannot be reached.
    pub fn kill(&mut self) -> Result<()> {
        if self.outcome.is_some() {
            return Ok(());
        }
        self.runtime.request_kill(self.number)?;
        // At once, too: a program must not end by itself between this call and the init's turn.
        self.killed = true;
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to the main process, by its pidfd. A program that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a number that is no signal.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Verdict};
    ///
    /// const SIGTERM: i32 = 15;
    /// let mut child = Sandbox::new().spawn(Command::new("/usr/bin/sleep").arg("60"))?;
    /// child.signal(SIGTERM)?;
    /// assert_eq!(child.wait()?.verdict, Verdict::Signaled(SIGTERM));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn signal(&self, signal: i32) -> Result<()> {
        if !(1..=64).contains(&signal) {
            return Err(Error::invalid(format!("{signal} is no signal")).with_hint("signal(7) lists 1 to 64"));
        }
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        match sys::send_signal(pidfd, signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::os(Step::Signal, format!("sending signal {signal}"), error))
            }
            _ => Ok(()),
        }
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<Option<Outcome>> {
        if let Some(outcome) = &self.outcome {
            return Ok(Some(outcome.clone()));
        }
        if self.report.is_none() {
            match self.runtime.link.receive(self.number, deadline)? {
                Received::Nothing => return Ok(None),
                received => self.hear_of_end(received)?,
            }
        }
        let (outcome, ending) = self.settle()?;
        ending.map_or(Ok(()), Ending::run)?;
        Ok(Some(outcome))
    }

    /// The word of the init about the end of the program.
    pub(crate) fn hear_of_end(&mut self, received: Received) -> Result<()> {
        match received {
            Received::Message((report, _)) if report.kind == reply::EXITED => self.report = Some(report),
            // It was killed: something of ours failed that the result depends on.
            Received::Message((failed, _)) if failed.kind == reply::FAILED => {
                return Err(self.runtime.plan.failure(&failed, Path::new(""), Path::new("/")));
            }
            Received::Message((other, _)) => {
                let message = format!("an unexpected message of kind {} from the init", other.kind);
                return Err(Error::internal(Step::Wait, message));
            }
            Received::Nothing | Received::Closed => {
                if let Some(error) = self.runtime.last_words() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// After the last word of the init: the outcome, and what is left to do of a sandbox of its own.
    pub(crate) fn settle(&mut self) -> Result<(Outcome, Option<Ending<Arc<Runtime>>>)> {
        let outcome = self.conclude(self.report)?;
        self.runtime.running.fetch_sub(1, Ordering::AcqRel);
        // It is true whatever comes of the removal, after which nothing could be read again.
        self.outcome = Some(outcome.clone());
        (self.pidfd, self.log, self.held) = (None, None, None);
        let init = match (self.role, self.report) {
            (Role::Guest, _) if self.cgroup.is_none() => return Ok((outcome, None)),
            (Role::Guest, _) => Init::Staying,
            // Nothing runs inside any more.
            (Role::Owner, Some(_)) if self.reaper.is_some() => Init::Staying,
            (Role::Owner, Some(_)) => Init::Exiting,
            (Role::Owner, None) => Init::Running,
        };
        Ok((outcome, self.ending(init)))
    }

    fn ending(&mut self, init: Init) -> Option<Ending<Arc<Runtime>>> {
        let ending = Ending::begin(Arc::clone(&self.runtime), init)?;
        Some(ending.with_own(self.cgroup.take()).for_reaper(self.reaper.take()))
    }

    /// Kills it without waiting, if dropping it is to end something. What is left to do then.
    pub(crate) fn end(&mut self) -> Option<Ending<Arc<Runtime>>> {
        let rest = self.held.take().filter(|_| self.runtime.is_ours())?;
        match self.role {
            // Not by request: the init might be the one that hangs.
            Role::Owner => self.ending(Init::Running),
            Role::Guest => {
                self.runtime.link.forget(self.number, rest);
                self.runtime.request_kill(self.number).ok();
                self.cgroup.is_some().then(|| self.ending(Init::Staying)).flatten()
            }
        }
    }

    /// What was counted in the box, of a program that shares it with others or has it to itself.
    fn count_in_box(&self, report: Option<Reply>) -> Result<(Counters, Option<Oom>)> {
        // After the report of a one-shot container nothing runs inside, so the counters are final, and they must be
        // read before the box is removed.
        let mut counters = self.runtime.counters()?.since(&self.before);
        let oom = match counters.oom_kills {
            None | Some(0) => None,
            Some(_) => self
                .runtime
                .with_cgroup(|cgroup| Ok(cgroup.log_key()))?
                .and_then(|key| cgroup::read_oom(&key, &counters, self.log.as_ref())),
        };
        if self.role == Role::Guest {
            // By now others may have used more; what the init read at the end is this program's.
            let read = report.map_or(0, |told| told.cpu_ns);
            counters.cpu = (read != 0).then(|| Duration::from_nanos(read));
            (counters.user, counters.system) = (None, None);
        }
        Ok((counters, oom))
    }

    /// What was counted in the program's own cgroups, where nobody else is. What it has left there is killed first.
    fn count_own(&self, cgroup: &Cgroup) -> Result<(Counters, Option<Oom>)> {
        // Who does not die cannot be removed either, which is told then.
        cgroup.finish().ok();
        let mut counters = cgroup.counters()?;
        if counters.oom_kills.is_none_or(|kills| kills == 0) {
            return Ok((counters, None));
        }
        if counters.oom == Some(0) {
            // Then it was another limit: that of the box, which is the sandbox's own as well, or one above it.
            counters.oom = self.runtime.counters()?.since(&self.before).oom.or(Some(0));
        }
        let oom = cgroup.log_key().and_then(|key| cgroup::read_oom(&key, &counters, None));
        Ok((counters, oom))
    }

    /// Puts the outcome together.
    fn conclude(&self, report: Option<Reply>) -> Result<Outcome> {
        let (counters, oom) = match &self.cgroup {
            Some(cgroup) => self.count_own(cgroup)?,
            None => self.count_in_box(report)?,
        };
        let by_host = self.runtime.ended_by_host();
        let lowered = &*self.runtime.plan.0;
        let told = report.unwrap_or_default();
        let user = counters.user.unwrap_or(Duration::from_micros(told.user_us));
        let system = counters.system.unwrap_or(Duration::from_micros(told.system_us));
        let sampled = Duration::from_nanos(told.cpu_ns);
        #[cfg(feature = "net")]
        let (traffic, egress) = match &*self.runtime.wired() {
            Some(wired) => (wired.traffic(), wired.egress_counts()),
            None => (None, Vec::new()),
        };
        let usage = Usage {
            wall: Duration::from_nanos(told.wall_ns),
            cpu: counters.cpu.unwrap_or((user + system).max(sampled)),
            user,
            system,
            max_rss: told.max_rss_kib.saturating_mul(1024),
            output_bytes: told.output[0].saturating_add(told.output[1]),
            #[cfg(feature = "net")]
            sent: traffic.map(|[sent, _]| sent),
            #[cfg(feature = "net")]
            received: traffic.map(|[_, received]| received),
            ..Usage::counted(&counters)
        };
        // The init has noted it, or the thread that answers system calls in its place.
        let by_init = told.denied.map(|more| more.checked_sub(1).map(Syscall::new));
        let by_us = self.denied.as_ref().map(|denied| denied.get()).unwrap_or_default();
        let denied = by_init[0].or(by_us.first);
        let was_killed = told.status & 0x7f == libc::SIGKILL;
        let evidence = Evidence {
            status: told.status,
            cause: match told.cause {
                cause::NONE if was_killed && by_us.main.is_some() => Cause::Denied,
                cause::WALL => Cause::Wall,
                cause::CPU => Cause::Cpu,
                cause::IDLE => Cause::Idle,
                cause::OUTPUT => Cause::Output,
                cause::HOST => Cause::Host,
                cause::DENIED => Cause::Denied,
                // The signal was faster than the request.
                cause::NONE if self.killed && was_killed => Cause::Host,
                _ => Cause::Itself,
            },
            oom: oom.as_ref().map(|oom| oom.scope),
            cpu: usage.cpu,
            cpu_limit: self.limits.cpu_time,
            wall: usage.wall,
            wall_limit: self.limits.wall_time,
            rlimit_cpu: lowered.rlimit_cpu,
            rlimit_fsize: lowered.rlimit_fsize,
            filter: lowered.filter,
            denied: by_init[1].or(by_us.main),
        };
        let verdict = match report {
            Some(_) => evidence.verdict(),
            None if by_host => Verdict::Killed,
            None => Verdict::InitKilled,
        };
        let status = ExitStatus::from_raw(if report.is_some() { told.status } else { libc::SIGKILL });
        let enforced = self.limits.enforced.as_ref().unwrap_or(&lowered.enforced).clone();
        Ok(Outcome {
            status,
            verdict,
            usage,
            oom,
            denied,
            #[cfg(feature = "net")]
            egress,
            enforced,
        })
    }
}

impl AsFd for Child {
    /// Readable when [`try_wait`](Child::try_wait) may have news: for event loops. With several programs in one
    /// container it may also be news of another one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.runtime.link.readiness()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(ending) = self.end() {
            // A failure here has nobody to tell.
            ending.run().ok();
        }
    }
}
