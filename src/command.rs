//! One run: a program, its arguments, environment, directory and streams, in the words of `std::process`.
//!
//! | | `std::process::Command` | [`Command`] |
//! |---|---|---|
//! | environment | the host's | empty, or what the sandbox says |
//! | stdin | inherited | `/dev/null` |
//! | a plain name | searched in the host's `PATH` | searched in the command's `PATH` inside, `/usr/local/bin:/usr/bin:/bin` by default |
//! | a relative path with a slash | platform-specific | from the working directory inside |
//! | working directory | the host's | `/` |
//! | a missing program | an error | an error |
//! | other descriptors | those without close-on-exec | those kept with [`keep_fd`](Command::keep_fd), and [`grant_tcp`](Command::grant_tcp) |

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Handlers, Notification, Response};
use crate::cgroup::Limits;
use crate::error::{Error, Result, Step};
use crate::grant::Grant;
use crate::limits::Bytes;
use crate::pty::PtySize;
use crate::run_limits::Wanted;
use crate::wire::MAX_CONNECTIONS;

/// A program to run, and how.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, Command, Stdio};
///
/// let mut command = Command::new("cc");
/// command.args(["-O2", "-o", "/tmp/main", "/tmp/main.c"]).env("LANG", "C").stderr(Stdio::capture(Bytes::kib(64)));
/// ```
#[derive(Debug, Clone)]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) arg0: Option<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) stdio: [Option<Stdio>; 3],
    /// It gets a terminal of this size.
    pub(crate) pty: Option<PtySize>,
    pub(crate) kept: Vec<(u32, Kept)>,
    pub(crate) handlers: Handlers,
    /// Limits of its own, if it has some.
    pub(crate) own: Option<Box<Wanted>>,
    /// The first setter that could not duplicate what it was given.
    pub(crate) deferred: Option<Arc<Error>>,
}

/// What the program finds at a number of its own.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    Fd(Arc<OwnedFd>),
    Connection(Grant),
}

/// How much of stdout and of stderr `output` captures unless the command says otherwise.
const DEFAULT_CAPTURE: Bytes = Bytes::mib(16);

/// What a standard stream of the program is connected to.
#[derive(Debug, Clone)]
pub struct Stdio(pub(crate) StdioKind);

#[derive(Debug, Clone)]
pub(crate) enum StdioKind {
    Null,
    Inherit,
    Piped,
    Capture(Bytes),
    Fd(Arc<OwnedFd>),
}

impl Stdio {
    /// `/dev/null` of the host.
    #[must_use]
    pub fn null() -> Self {
        Self(StdioKind::Null)
    }

    /// The same stream of the host. A file that is inherited for reading can be opened anew for writing through
    /// `/proc/self/fd` if the program's user may write it; pass a pipe to a program you do not trust.
    #[must_use]
    pub fn inherit() -> Self {
        Self(StdioKind::Inherit)
    }

    /// A pipe whose other end is in [`Child`](crate::Child). A program that fills it waits until the host reads.
    #[must_use]
    pub fn piped() -> Self {
        Self(StdioKind::Piped)
    }

    /// Up to so many bytes are kept for [`wait_with_output`](crate::Child::wait_with_output); the program is killed
    /// when it writes more ([`OutputExceeded`](crate::Verdict::OutputExceeded)). The sandbox's init does the reading,
    /// so the program never waits for the host. For stdout and stderr; on stdin it is `/dev/null`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Sandbox, Stdio, Verdict};
    ///
    /// let mut command = Command::new("/usr/bin/yes");
    /// command.stdout(Stdio::capture(Bytes::kib(64)));
    /// let output = Sandbox::new().spawn(&command)?.wait_with_output()?;
    /// assert_eq!(output.outcome.verdict, Verdict::OutputExceeded);
    /// assert_eq!(output.stdout.len(), 64 * 1024);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    #[must_use]
    pub fn capture(budget: impl Into<Bytes>) -> Self {
        Self(StdioKind::Capture(budget.into()))
    }
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    /// A file, socket or pipe end of the host.
    fn from(fd: T) -> Self {
        Self(StdioKind::Fd(Arc::new(fd.into())))
    }
}

impl Command {
    /// A program by its path inside the sandbox, or by a plain name that is searched in `PATH` there.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            arg0: None,
            env: Vec::new(),
            cwd: None,
            stdio: [None, None, None],
            pty: None,
            kept: Vec::new(),
            handlers: Handlers::default(),
            own: None,
            deferred: None,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets argument zero, which is the program otherwise.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Sets an environment variable, besides those of [`Sandbox::env`](crate::Sandbox::env).
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// The working directory inside; `/` by default. It is entered with the program's own ids and checked to lie
    /// below the sandbox's root.
    ///
    /// One that is relative is an error of the spawn, as is one that does not exist inside.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Standard input; `/dev/null` by default.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Standard output; inherited by default, captured by [`output`](crate::Sandbox::output).
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Standard error; inherited by default, captured by [`output`](crate::Sandbox::output).
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// Gives the program a new pseudo-terminal of this size as its controlling terminal, and on those of its three streams
    /// for which nothing else is said. The host's end is [`Child::pty`](crate::Child::pty).
    ///
    /// It is made in the sandbox's own instance of pseudo-terminals, as [`Mount::dev`](crate::Mount::dev) and
    /// [`Mount::devpts`](crate::Mount::devpts) have it and the system view does; no terminal of the host comes near the
    /// program. It belongs to the program's user and has the usual settings: lines, an echo, Ctrl-C for `SIGINT` to the
    /// foreground processes. An interactive shell has job control.
    ///
    /// A program that writes more than the terminal holds, some KiB, waits until the host reads.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) of the spawn in a sandbox without an instance of its own, and
    /// together with [captured](Stdio::capture) streams, as [`output`](crate::Container::output) has them: the host reads
    /// the terminal itself.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::io::Read;
    ///
    /// use belljar::{Command, PtySize, Sandbox, Stdio};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // A terminal on stdin and stdout, and a pipe for errors.
    /// let mut command = Command::new("/usr/bin/stty");
    /// command.arg("size").pty(PtySize::new(50, 132)).stderr(Stdio::piped());
    /// let mut child = Sandbox::new().spawn(&command)?;
    /// let mut text = String::new();
    /// child.pty.take().expect("it has one").read_to_string(&mut text)?;
    /// assert_eq!(text, "50 132\r\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn pty(&mut self, size: PtySize) -> &mut Self {
        self.pty = Some(size);
        self
    }

    /// Gives the program a descriptor of the host under this number, 3 or above. It is duplicated now; the host's own
    /// stays open. A directory descriptor gives access to everything below it, and beyond, to what its filesystem
    /// lets the program's user reach.
    ///
    /// A socket belongs to the network in which it was made, whatever the sandbox's own is. A program that is given a
    /// connected socket of TCP can disconnect it (`connect(2)` to `AF_UNSPEC`) and then connect it to any address of the host's
    /// network, or have it listen there; no filter can tell these calls from others, and one of UDP needs not even be
    /// disconnected. Any socket, of a Unix pair as well, tells the names and hardware addresses of the interfaces of its
    /// network. For one connection there is [`grant_tcp`](Command::grant_tcp), from which nothing leads elsewhere.
    ///
    /// What cannot be duplicated, and a number below 3, is an error of the spawn.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// use belljar::Command;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut command = Command::new("/plugin");
    /// command.keep_fd(&theirs, 3); // the plugin talks on descriptor 3
    /// # drop(ours);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn keep_fd(&mut self, fd: impl AsFd, number: u32) -> &mut Self {
        match fd.as_fd().try_clone_to_owned() {
            Ok(copy) => {
                self.place(Kept::Fd(Arc::new(copy)), number);
            }
            Err(error) => {
                let error = Error::os(Step::Prepare, format!("duplicating kept descriptor {number}"), error);
                self.deferred.get_or_insert(Arc::new(error));
            }
        }
        self
    }

    /// Gives the program one connection of TCP, to `"host:port"`, under this number, 3 or above: the safest way to let a
    /// sandbox without a network talk to one service. An address of IPv6 is in brackets, as in `"[::1]:80"`.
    ///
    /// Each spawn makes a connection of its own. The host resolves the name and connects, in its own network and before the
    /// sandbox is started; that takes ten seconds at most, and what the resolver takes. In a task no thread of the runtime's
    /// waits for it.
    ///
    /// What the program has is not the connection itself but an end of a pair of Unix sockets, which belongs to the sandbox's
    /// own network. A thread of the host, one for each connection, moves the bytes, at most 64 KiB each way at a time, and
    /// passes on the end of either direction. So the program cannot leave the connection: one that has a socket of TCP can
    /// [disconnect it and connect it elsewhere](Command::keep_fd) in the network of the host. Options of TCP and the
    /// addresses of both sides are out of its reach as well, and a connection that the other side resets is one that ends.
    ///
    /// The connection ends with the last process inside that has the socket, at the latest with the sandbox. What the
    /// program wrote last has ten more seconds to go out, if the host lives as long; where that does not suffice the peer sees a
    /// reset.
    ///
    /// # Errors
    ///
    /// Of the spawn, at [`Step::Prepare`](crate::Step::Prepare): [`NotFound`](crate::ErrorKind::NotFound) for a name without an address;
    /// [`Setup`](crate::ErrorKind::Setup) or what else the error of the system stands for, which
    /// [`raw_os_error`](crate::Error::raw_os_error) tells, when nothing answers or the connection is refused.
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for what is no `"host:port"`, for a number below 3, and for more than 32
    /// connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// // There is no network inside; descriptor 3 is the database, and nothing else can be reached.
    /// let mut command = Command::new("/usr/bin/python3");
    /// command.args(["-c", "import socket; socket.socket(fileno=3).sendall(b'PING\r\n')"]);
    /// command.grant_tcp("db.example:6379", 3);
    /// let outcome = Sandbox::new().status(&command)?;
    /// # drop(outcome);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn grant_tcp(&mut self, address: impl Into<String>, number: u32) -> &mut Self {
        self.place(Kept::Connection(Grant::new(address.into())), number);
        self
    }

    /// At one number there is one thing, the last that was put there.
    fn place(&mut self, what: Kept, number: u32) {
        self.kept.retain(|(kept, _)| *kept != number);
        self.kept.push((number, what));
    }

    /// The connections that it grants.
    pub(crate) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.kept.iter().filter_map(|(_, kept)| match kept {
            Kept::Fd(_) => None,
            Kept::Connection(grant) => Some(grant),
        })
    }

    /// Whether every connection that it grants is made.
    pub(crate) fn is_connected(&self) -> bool {
        self.grants().all(Grant::is_connected)
    }

    /// The same with every connection made that it grants. This waits for the network, so it comes before anything that
    /// others could wait for.
    pub(crate) fn connected(&self) -> Result<Cow<'_, Self>> {
        if self.is_connected() {
            return Ok(Cow::Borrowed(self));
        }
        let mut command = self.clone();
        for (_, kept) in &mut command.kept {
            if let Kept::Connection(grant) = kept {
                grant.connect()?;
            }
        }
        Ok(Cow::Owned(command))
    }

    /// Answers these system calls in place of the kernel, where the sandbox's filter leaves them to the host by
    /// [`Seccomp::notify`](crate::Seccomp::notify). The handler sees the [call](Notification), and its
    /// [`Response`] is what the call returns. The last handler for a name counts.
    ///
    /// Handlers run one after the other in a thread of their own for each program, for every process of its tree; a slow one
    /// makes the others wait, and the sandbox's limits go on meanwhile. One that panics denies the call with `EPERM`. A thread
    /// that waits for its answer cannot be frozen.
    ///
    /// # Errors
    ///
    /// An unknown name, and a call that the filter does not leave to the host, are errors of the spawn.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::collections::HashSet;
    /// use std::path::PathBuf;
    /// use std::sync::{Arc, RwLock};
    ///
    /// use belljar::{Command, Response, Sandbox, Seccomp};
    ///
    /// // A plugin that can open what the host has granted, and only for reading.
    /// let granted = Arc::new(RwLock::new(HashSet::<PathBuf>::new()));
    /// let mut command = Command::new("/plugin");
    /// let grants = Arc::clone(&granted);
    /// command.on_syscall(["openat"], move |call| match call.read_path(call.args()[1]) {
    ///     Ok(path) if grants.read().is_ok_and(|grants| grants.contains(&path)) => std::fs::File::open(path).into(),
    ///     Ok(_) => Response::errno(13), // EACCES
    ///     Err(error) => error.into(),
    /// });
    /// let child = Sandbox::new().seccomp(Seccomp::new().notify(["openat"])).spawn(&command)?;
    /// granted.write().unwrap().insert("/srv/data/today.csv".into());
    /// # drop(child);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn on_syscall(
        &mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
        handler: impl Fn(&Notification<'_>) -> Response + Send + Sync + 'static,
    ) -> &mut Self {
        self.handlers.add(names.into_iter().map(Into::into).collect(), Arc::new(handler));
        self
    }

    /// Limits of this program and all that descends from it, inside of those that its sandbox has for all its programs
    /// together: whichever is reached first ends it, and none lets it have more. Calling it again sets the limits that it
    /// sets, and keeps the others.
    ///
    /// The program gets a cgroup of its own, in that of the sandbox. What the [`Outcome`](crate::Outcome) tells of memory,
    /// processes and CPU time is then counted for this program alone, whatever runs beside it, and so is the verdict; an
    /// empty set of limits does just that, where the sandbox has some. What the program leaves in the background is killed
    /// when it has ended and was [waited](crate::Child::wait) for: a cgroup is not removed before.
    ///
    /// A controller that the sandbox has no limit of is taken where the host has it. On version 2 that may need the host's
    /// process to leave its own cgroup, see [`CgroupParent::Auto`](crate::CgroupParent::Auto): a sandbox that is to start
    /// such programs later, and has no limit itself, does well to have one of the largest value.
    ///
    /// # Errors
    ///
    /// Of the spawn: as [`Sandbox::plan`](crate::Sandbox::plan) has for limits;
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for [`freezable`](Limits::freezable) and
    /// [`pressure`](Limits::pressure), which are a sandbox's, and for protected memory that the sandbox has not;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for limits on I/O on version 1 where the sandbox has some as well.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Limits, Sandbox, Verdict};
    ///
    /// let container = Sandbox::new().memory_max(Bytes::gib(1)).pids_max(256).start()?;
    /// let mut compiler = Command::new("/usr/bin/cc");
    /// compiler.args(["-o", "/tmp/main", "/tmp/main.c"]);
    /// container.status(&compiler)?;
    /// let mut program = Command::new("/tmp/main");
    /// program.limits(Limits::new().memory_max(Bytes::mib(64)).pids_max(1));
    /// let outcome = container.status(&program)?;
    /// if outcome.verdict == Verdict::MemoryExceeded {
    ///     println!("more than 64 MiB: {:?}", outcome.usage.peak_memory);
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.own.get_or_insert_default().limits.get_or_insert_default().merge(&limits);
        self
    }

    /// The longest that this program may run, if the [sandbox](crate::Sandbox::wall_time) does not allow less.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use belljar::{Command, Sandbox, Verdict};
    ///
    /// let container = Sandbox::new().start()?;
    /// let outcome = container.status(Command::new("/usr/bin/sleep").arg("60").wall_time(Duration::from_secs(1)))?;
    /// assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn wall_time(&mut self, limit: Duration) -> &mut Self {
        self.own.get_or_insert_default().wall_time = Some(limit);
        self
    }

    /// The most CPU time of this program and all that descends from it, if the [sandbox](crate::Sandbox::cpu_time) does not
    /// allow less. It is counted apart from other programs, in a cgroup as [`limits`](Command::limits) makes it.
    pub fn cpu_time(&mut self, limit: Duration) -> &mut Self {
        self.own.get_or_insert_default().cpu_time = Some(limit);
        self
    }

    /// How long this program may use no CPU time, if the [sandbox](crate::Sandbox::idle_time) does not allow less. Counted
    /// as [`cpu_time`](Command::cpu_time) is.
    pub fn idle_time(&mut self, limit: Duration) -> &mut Self {
        self.own.get_or_insert_default().idle_time = Some(limit);
        self
    }

    /// The most bytes that captured stdout and stderr of this program may have together, if the
    /// [sandbox](crate::Sandbox::output_max) does not allow less.
    pub fn output_max(&mut self, bytes: impl Into<Bytes>) -> &mut Self {
        self.own.get_or_insert_default().output_max = Some(bytes.into());
        self
    }

    /// Has every call of the program looked at that its filter leaves to the host.
    pub(crate) fn observed_by(
        mut self,
        observer: impl Fn(&Notification<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.observe(Arc::new(observer));
        self
    }

    pub(crate) fn refuse_handlers(&self) -> Result<()> {
        if self.handlers.is_empty() {
            return Ok(());
        }
        Err(Error::invalid("a command that answers system calls cannot be learned from")
            .with_hint("learn from a command without on_syscall()"))
    }

    /// The program.
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// The arguments after argument zero.
    pub fn get_args(&self) -> impl Iterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The same with stdout and stderr captured where nothing else was said.
    pub(crate) fn capturing(mut self) -> Self {
        for stream in &mut self.stdio[1..] {
            stream.get_or_insert_with(|| Stdio::capture(DEFAULT_CAPTURE));
        }
        self
    }

    /// Checks what does not depend on a plan.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(error) = &self.deferred {
            return Err(Error::message(error.kind(), error.step(), error.to_string()));
        }
        if self.program.is_empty() {
            return Err(Error::invalid("the program's name is empty"));
        }
        if let Some(cwd) = &self.cwd {
            if !cwd.is_absolute() {
                return Err(Error::invalid(format!(
                    "the working directory {} is not absolute",
                    cwd.display()
                ))
                .with_path(cwd)
                .with_hint("it is a path inside the sandbox and starts with /"));
            }
        }
        let captured = |stdio: &Option<Stdio>| matches!(stdio, Some(Stdio(StdioKind::Capture(_))));
        if self.pty.is_some() && self.stdio.iter().any(captured) {
            return Err(Error::invalid("a program with a terminal cannot have captured streams")
                .with_hint("start it with spawn() and read Child::pty, or give it no terminal"));
        }
        if let Some(own) = &self.own {
            own.validate()?;
        }
        if let Some((number, _)) = self.kept.iter().find(|(number, _)| *number < 3 || *number > 1 << 20) {
            return Err(Error::invalid(format!("descriptor number {number} cannot be kept"))
                .with_hint("use 3 to 1048576; 0 to 2 are stdin, stdout and stderr"));
        }
        if self.grants().count() > MAX_CONNECTIONS {
            return Err(Error::invalid(format!("more than {MAX_CONNECTIONS} connections are granted"))
                .with_hint("let programs share connections, or broker more of them over one socketpair"));
        }
        self.grants().try_for_each(Grant::validate)
    }
}
