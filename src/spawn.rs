//! The choreography of a spawn.
//!
//! ```text
//! host program (many threads, any size)                     the sandbox
//!  Plan: every byte the other side needs, one sealed memfd
//!    │ id block reserved; START(plan, pidfd of the host) waits in the control socket
//!    ├─ clone3(VM|VFORK|PIDFD|NEW*…) ───────────────────▶ a few raw system calls, then
//!    │                                                   execveat(init, from a sealed memfd)
//!    │ goes on at once: its own size and threads never mattered
//!    │                                                   init, PID 1: finds START; names, loopback, clocks, …
//!    ├─ id maps, mount trees; GO(trees) ──────────────────▶ the operations that need ids: mounts, the root
//!    ├─ cgroup box made meanwhile, BOX(files to join by) ─▶
//!    ├─ RUN(argv, environment, stdio, limits) ────────────▶ (in the same breath when the plan is for one program)
//!    │ ◀────────────────────────────── READY (to a container only) or FAILED(stage, operation, errno)
//!    │                                                     forks: cgroup, descriptors, session, rlimits, ids,
//!    │                                                     capabilities, no_new_privs, label, directory, landlock,
//!    │                                                     seccomp, execve
//!    │ ◀── PARKED(pidfd), PASS ──▶ only if the plan needs it: after its cgroup it waits for what only the host may do to it
//!    │ ◀────────────────────────────── STARTED(pidfd) or FAILED(stage, operation, errno)
//!    │ ◀────────────────────────────── EXITED(wait status, usage); the init reaps everything else meanwhile
//!    └─ Outcome = that report + the box's counters; the init exits, the kernel ends the PID namespace, and the box is
//!       removed meanwhile
//! ```
//!
//! Requests are sent ahead of the replies, so a cold spawn costs the host one wait for the start and one for the end.

use std::borrow::Borrow;
use std::sync::Arc;

use crate::ahead::Keeper;
use crate::child::Child;
use crate::command::Command;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::namespace::{Namespace, Namespaces};
use crate::outcome::{Outcome, Output};
use crate::plan::Plan;
use crate::sandbox::Sandbox;

impl Sandbox {
    /// Starts a program in a sandbox of its own. Standard streams are inherited unless the command says otherwise,
    /// except stdin, which is `/dev/null`.
    ///
    /// # Errors
    ///
    /// Whatever [`plan`](Sandbox::plan) may say, any failure of the setup with its [`step`](crate::Error::step), and
    /// [`Exec`](crate::ErrorKind::Exec) when the program itself cannot be executed. Nothing is left behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let mut child = Sandbox::new().spawn(Command::new("/usr/bin/make"))?;
    /// println!("process {:?} of the host", child.id());
    /// println!("{}", child.wait()?.verdict);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn spawn(&self, command: impl Borrow<Command>) -> Result<Child> {
        self.plan()?.spawn(command)
    }

    /// Runs a program to its end and captures stdout and stderr, 16 MiB each unless the command says otherwise.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let output = Sandbox::new().output(Command::new("/usr/bin/id"))?;
    /// assert!(output.stdout.starts_with(b"uid=1000"));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.plan()?.output(command)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Verdict};
    ///
    /// let outcome = Sandbox::new().status(Command::new("/bin/false"))?;
    /// assert_eq!(outcome.verdict, Verdict::Exited(1));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn status(&self, command: impl Borrow<Command>) -> Result<Outcome> {
        self.spawn(command)?.wait()
    }

    /// Sets a sandbox up without a program, to start programs in it later.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Sandbox::spawn), apart from those of the program.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let container = Sandbox::new().start()?;
    /// container.status(Command::new("/usr/bin/touch").arg("/tmp/here"))?;
    /// assert!(container.status(Command::new("/usr/bin/test").args(["-e", "/tmp/here"]))?.success());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn start(&self) -> Result<Container> {
        self.plan()?.start()
    }
}

impl Sandbox {
    /// Uses namespaces of a container in place of own ones: the same network, for instance, and different process ids.
    ///
    /// The [plan](Sandbox::plan) takes them by descriptor from the init of the container, which has to be there at that
    /// moment; a process id that is used again is not mistaken for it. From then on they exist as long as the plan, its
    /// clones and its sandboxes do: what has joined a network goes on with it when the container is dropped, which ends the
    /// container's programs and nobody else's.
    ///
    /// What belongs to a namespace is the container's: the interfaces, whether and how they are up, the host name. Ids
    /// are not shared: where sandboxes have host ids of their own, a System V object that is for the others has to be open to
    /// all (mode 666). Capabilities that are [kept](Sandbox::keep_capability) are not over what is joined.
    /// [`Plan::enforced`](crate::Plan::enforced) lists a joined namespace as skipped, because it is not the sandbox's own.
    ///
    /// The last call counts, of those about the same namespace: [`net_ns`](Sandbox::net_ns) or
    /// [`share_net`](Sandbox::share_net) afterwards take it back.
    ///
    /// Without `CAP_SYS_ADMIN` nobody has power over a namespace but from the user namespace that owns it. The sandbox then
    /// has its user namespace within that of the container, which needs one, and must map the caller's id.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`NotFound`](crate::ErrorKind::NotFound) for a container that is gone, and
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a namespace that the container itself shares with the host,
    /// together with [`cross_tenant`](Sandbox::cross_tenant) on either side, and for what cannot work in a namespace of
    /// another sandbox: [`Mount::mqueue`](crate::Mount::mqueue), capabilities over the network.
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), where the caller lacks `CAP_SYS_ADMIN`, for a sandbox without a
    /// user namespace of its own or with more than one id.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Namespace, Sandbox};
    ///
    /// let database = Sandbox::new().start()?;
    /// let server = database.spawn(Command::new("/usr/bin/python3").args(["-m", "http.server", "8000"]))?;
    /// let client = Sandbox::new().join(&database, [Namespace::Net]);
    /// let output = client.output(Command::new("/usr/bin/curl").arg("http://127.0.0.1:8000/"))?;
    /// # drop((server, output));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn join(self, container: &Container, namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        let namespaces = namespaces.into_iter().fold(Namespaces::empty(), |all, one| all | one.into());
        self.join_namespaces(Arc::new(container.sharer()), namespaces)
    }
}

impl Plan {
    /// The same plan with the slowest part of a spawn made ahead, by a thread, for `count` sandboxes that may start at about the
    /// same time: a network namespace, loopback up, with the user namespace that owns it, its id map written, and the cgroup
    /// with its limits. For a plan of a privileged host that can change nothing of its root later, that is without a writable
    /// layer and without `CAP_SYS_ADMIN`, the mounts are made as well, all but `/proc`, in their mount, IPC and UTS namespaces.
    /// A sandbox takes what no program has run in, and makes its own where none is left. The rest of it is as fresh as ever: its
    /// PID namespace, its init, its processes. A program cannot tell the difference but by the order of its mounts.
    ///
    /// What a bind shows is looked up when it is mounted. Before a sandbox takes it, each path is looked at again: where another
    /// file or directory has that name by now, or another owner, what was made ahead is thrown away. What the host mounts below a bound
    /// directory meanwhile does not appear.
    ///
    /// The thread also removes what is left when a program has ended: [`Child::wait`] returns when every process of it is
    /// dead, and does not wait for the removal of namespaces and cgroup.
    ///
    /// What is ready is shared by the clones of this plan; the last to be dropped ends the thread and waits for it, and for
    /// what it has to remove. Each of
    /// the ready ones takes up to ten descriptors of this process, a block of host ids if the host is privileged, a cgroup, and
    /// some kernel memory. A network namespace has the kernel's defaults as they were when it was made.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a plan without a network namespace of its own or with
    /// [joined](Sandbox::join) ones, and for a `count` of 0 or more than 1024; and whatever a spawn would say about
    /// namespaces and ids, because the first is made before this returns.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let plan = Sandbox::new().plan()?.prepare_ahead(4)?;
    /// let output = plan.output(Command::new("/usr/bin/id"))?;
    /// # drop(output);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn prepare_ahead(&self, count: usize) -> Result<Self> {
        let lowered = &*self.0;
        if !lowered.namespaces.contains(Namespaces::NET) {
            return Err(Error::invalid(
                "nothing of this plan can be made ahead: it makes no network namespace",
            )
            .with_hint("add net_ns(), or spawn from the plan as it is"));
        }
        if !lowered.entrances.is_empty() {
            return Err(Error::invalid("namespaces cannot be made ahead for a sandbox that joins another")
                .with_hint("spawn from the plan as it is"));
        }
        Ok(Self(Arc::clone(&self.0), Some(Arc::new(Keeper::start(self.alone(), count)?))))
    }

    /// Starts a program in a sandbox of its own. See [`Sandbox::spawn`].
    ///
    /// # Errors
    ///
    /// Any failure of the setup with its [`step`](crate::Error::step), and [`Exec`](crate::ErrorKind::Exec) when the program
    /// itself cannot be executed.
    pub fn spawn(&self, command: impl Borrow<Command>) -> Result<Child> {
        Child::alone(self, command.borrow())
    }

    /// Runs a program to its end and captures its output. See [`Sandbox::output`].
    ///
    /// # Errors
    ///
    /// As [`spawn`](Plan::spawn).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let plan = Sandbox::new().plan()?;
    /// let output = plan.output(Command::new("/usr/bin/uname").arg("-n"))?;
    /// assert_eq!(output.stdout, b"belljar\n");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.spawn(command.borrow().clone().capturing())?.wait_with_output()
    }

    /// Sets a sandbox up without a program. See [`Sandbox::start`].
    ///
    /// # Errors
    ///
    /// As [`spawn`](Plan::spawn), apart from those of the program.
    pub fn start(&self) -> Result<Container> {
        Container::start(self)
    }
}
