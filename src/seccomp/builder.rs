//! The words of a policy.

use super::profile;
use super::{Base, Change, Seccomp, SyscallAction, SyscallCondition};

impl Seccomp {
    /// The default profile, described [above](Self#the-default-profile).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Sandbox, Seccomp};
    ///
    /// // What Sandbox::new() does anyway; Sandbox::bare() has no filter until it is given one.
    /// let sandbox = Sandbox::bare().seccomp(Seccomp::new());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing but these system calls; all others fail with `EPERM`, or as [`otherwise`](Self::otherwise) says.
    ///
    /// The list is taken as it is. A call that it names has none of the default profile's conditions: `"clone"` in
    /// it allows new namespaces and `"ioctl"` any request; one that it names by a group has them. It must hold all that
    /// the program and its dynamic loader need. The program itself is started [in any case](Self#starting-a-program). Only
    /// `clone3`, when it is not named, fails with `ENOSYS`, without which no C library would fall back to a `clone`
    /// that is.
    ///
    /// # Errors
    ///
    /// An empty list and one with an unknown name are errors when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Seccomp};
    ///
    /// // Enough for a static program that computes on its standard input.
    /// let policy = Seccomp::allow_only(["read", "write", "brk", "mmap", "munmap", "exit_group"]);
    /// let child = Sandbox::new().seccomp(policy).spawn(Command::new("/usr/local/bin/solution"))?;
    /// # drop(child);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn allow_only(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { base: Base::Only(names), ..Self::default() }
    }

    /// The profile for a program that is judged: a compiled solution, or an interpreter that runs one.
    ///
    /// It computes, reads and writes files, starts threads and processes of its own and talks to them by pipes. It has
    /// no sockets, no System V or POSIX queues, no attributes and special files, and cannot choose its processors and
    /// priorities; all that fails with `EPERM`. C, C++, Rust, Python, Java and shell programs run under it. See
    /// `docs/seccomp.md` for each call.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Seccomp, SyscallAction};
    ///
    /// // What is on no list ends the program, with the verdict SyscallDenied.
    /// let policy = Seccomp::judge().otherwise(SyscallAction::Kill);
    /// let outcome = Sandbox::new().seccomp(policy).output(Command::new("/usr/local/bin/solution"))?;
    /// # drop(outcome);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn judge() -> Self {
        Self { base: Base::Profile(&profile::JUDGE), ..Self::default() }
    }

    /// The profile for a plugin: one process that talks to its host over descriptors that it was given.
    ///
    /// It has threads but starts no process and executes no other program, sends and receives on sockets that it has but
    /// makes none but pairs, and reads and writes the files that its root shows. A script whose first line is
    /// `#!/usr/bin/env` executes another program, and does not run under it; one that names its interpreter does. See
    /// `docs/seccomp.md` for each call.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox, Seccomp, Stdio};
    ///
    /// let mut command = Command::new("/usr/lib/host/plugin");
    /// command.stdin(Stdio::piped()).stdout(Stdio::piped());
    /// let child = Sandbox::new().seccomp(Seccomp::plugin()).spawn(command)?;
    /// # drop(child);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn plugin() -> Self {
        Self { base: Base::Profile(&profile::PLUGIN), ..Self::default() }
    }

    /// The profile for a program that computes on its standard streams, and for nothing else; every other call kills.
    ///
    /// One thread, no process, files opened for reading only, because the dynamic loader opens libraries. C, C++ and
    /// Rust programs run under it; a call that is not on its list ends them with the verdict
    /// [`SyscallDenied`](crate::Verdict::SyscallDenied). See `docs/seccomp.md` for each call.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// // A program that may start threads as well.
    /// let policy = Seccomp::strict().on_if(
    ///     "clone",
    ///     [belljar::SyscallArg::new(0).low32().masked_eq(0x1_0000, 0x1_0000)], // CLONE_THREAD
    ///     belljar::SyscallAction::Allow,
    /// );
    /// ```
    pub fn strict() -> Self {
        Self { base: Base::Profile(&profile::STRICT), ..Self::default() }
    }
}

impl Seccomp {
    /// Allows these system calls whatever their arguments, in place of the profile's conditions on them.
    ///
    /// `allow(["clone"])` thus gives away new namespaces, and `allow(["ioctl"])` the terminal that a program
    /// may share with its caller; the members of a group keep such conditions. Where a host directory is shared
    /// writable, the guard against set-user-ID files holds for the allowed calls too.
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// let for_debuggers = Seccomp::new().allow(["ptrace", "process_vm_readv", "process_vm_writev"]);
    /// ```
    pub fn allow(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on(names, SyscallAction::Allow)
    }

    /// Denies these system calls: they fail with `EPERM`.
    ///
    /// Denying one call of several that do the same (`"open"`, but not `"openat"`) denies nothing.
    /// `deny(["execve", "execveat"])` leaves a program that is [started](Self#starting-a-program) and can execute no other.
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// let no_network = Seccomp::new().deny(["socket", "socketpair"]);
    /// ```
    pub fn deny(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.deny_with(names, libc::EPERM)
    }

    /// Denies these system calls: they fail with this `errno`, from 1 to 4095.
    ///
    /// `ENOSYS` (38) makes most programs fall back to another call. See
    /// [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
    ///
    /// # Errors
    ///
    /// An unknown name and a number outside that range are errors when the sandbox is planned or spawned.
    /// Zero is outside: a call that is not made must not look as if it had succeeded.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// const ENOSYS: i32 = 38;
    /// let without_landlock = Seccomp::new().deny_with(["landlock_create_ruleset"], ENOSYS);
    /// ```
    #[doc(alias = "SECCOMP_RET_ERRNO")]
    pub fn deny_with(self, names: impl IntoIterator<Item = impl Into<String>>, errno: i32) -> Self {
        self.on(names, SyscallAction::Errno(errno))
    }

    /// Kills the process, all its threads, when it makes one of these system calls, which is not made.
    ///
    /// If that is the main process, the verdict is [`SyscallDenied`](crate::Verdict::SyscallDenied) with the call's number and
    /// name; the first one of any process of the tree is in [`Outcome::denied`](crate::Outcome::denied). The kernel tells
    /// nobody for which call it killed, so the init does it: the call waits (`SECCOMP_RET_USER_NOTIF`), the init notes it and
    /// sends `SIGKILL`, which is what the wait status then says. There is no core dump and no line in the kernel's log.
    ///
    /// That the call is not made is certain. The end of the process is not, where it does what it can against it: the `errno`
    /// of a filter that it has installed itself comes before ours; a signal that arrives before the init has heard of the
    /// call, from another thread say, makes it fail with `EINTR`; and in a [`Container`](crate::Container) what a program has
    /// left behind when its main process ended gets `ENOSYS`. Then there is no verdict either.
    ///
    /// Such a filter has a listener, and a process can have one such filter only: a program that installs one itself is
    /// refused (`EBUSY`), and so is a sandbox within one.
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned. Where a filter with a listener is on this process
    /// already, spawning fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// let strict = Seccomp::new().kill(["ptrace", "unshare", "mount"]);
    /// ```
    #[doc(alias = "SECCOMP_RET_KILL_PROCESS")]
    pub fn kill(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on(names, SyscallAction::Kill)
    }

    /// Leaves these system calls to the host: the thread that makes one waits until a handler of
    /// [`Command::on_syscall`](crate::Command::on_syscall) has answered, which can act in its place. Where the command has no
    /// handler for it, the call fails with `EPERM`.
    ///
    /// A program is started by `execve` all the same; `notify(["execve"])` is about those that it executes itself. Calls that
    /// every program makes all the time (`close`, `read`, `rt_sigreturn`) are better left alone: each takes two switches to
    /// the host, and the C library does not expect them to fail. Until the host has heard of a call, a signal whose handler
    /// has no `SA_RESTART` makes it fail with `EINTR`.
    ///
    /// One filter of a process can have a listener. A program that installs such a filter itself is refused (`EBUSY`).
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::fs::File;
    ///
    /// use belljar::{Command, Response, Sandbox, Seccomp};
    ///
    /// // Every file that it opens is the same one of the host.
    /// let sandbox = Sandbox::new().seccomp(Seccomp::new().notify(["openat"]));
    /// let mut command = Command::new("/usr/local/bin/static-plugin");
    /// command.on_syscall(["openat"], |_| File::open("/etc/hostname").into());
    /// let child = sandbox.spawn(&command)?;
    /// # drop(child);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    #[doc(alias = "SECCOMP_RET_USER_NOTIF")]
    pub fn notify(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on(names, SyscallAction::Notify)
    }

    /// Makes these system calls, and has the kernel write a line about each; see [`SyscallAction::Log`] for where.
    ///
    /// The members of a group keep the conditions of the profile, as with [`allow`](Self::allow).
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// let watched = Seccomp::new().log(["connect", "bind"]);
    /// ```
    #[doc(alias = "SECCOMP_RET_LOG")]
    pub fn log(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on(names, SyscallAction::Log)
    }

    /// Sends `SIGSYS` to the thread that makes one of these system calls, instead of making it; see
    /// [`SyscallAction::Trap`].
    ///
    /// # Errors
    ///
    /// An unknown name is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// // The program has a handler that emulates these.
    /// let emulated = Seccomp::new().trap(["socket", "connect"]);
    /// ```
    #[doc(alias = "SECCOMP_RET_TRAP")]
    pub fn trap(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.on(names, SyscallAction::Trap)
    }

    /// Says what becomes of these system calls, whatever their arguments.
    ///
    /// # Errors
    ///
    /// An unknown name and an `errno` outside 1 to 4095 are errors when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Seccomp, SyscallAction};
    ///
    /// let policy = Seccomp::judge().on(["@debug", "@mount"], SyscallAction::Kill);
    /// ```
    pub fn on(mut self, names: impl IntoIterator<Item = impl Into<String>>, action: SyscallAction) -> Self {
        let change = |name: String| Change { name, conditions: None, action };
        self.changes.extend(names.into_iter().map(|name| change(name.into())));
        self
    }

    /// Allows this system call if all of the conditions hold; if not, what was said before stands.
    ///
    /// On a call that is allowed anyway that would change nothing, and is an error: to allow a call *only* under
    /// conditions, [`deny`](Self::deny) it first.
    ///
    /// # Errors
    ///
    /// As [`on_if`](Self::on_if), and the one above.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Seccomp, SyscallArg};
    ///
    /// // Writing to standard output and standard error, and nowhere else.
    /// let policy = Seccomp::new()
    ///     .deny(["write", "writev", "pwrite64", "pwritev", "pwritev2"])
    ///     .allow_if("write", [SyscallArg::new(0).low32().le(2)]);
    /// ```
    pub fn allow_if(
        self,
        name: impl Into<String>,
        conditions: impl IntoIterator<Item = SyscallCondition>,
    ) -> Self {
        self.on_if(name, conditions, SyscallAction::Allow)
    }

    /// Denies this system call, with `EPERM`, if all of the conditions hold; if not, what was said before stands.
    ///
    /// # Errors
    ///
    /// As [`on_if`](Self::on_if).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Seccomp, SyscallArg};
    ///
    /// // PROT_EXEC is 4: no mapping can be executed that is made after the start of the program.
    /// let policy = Seccomp::new().deny_if("mprotect", [SyscallArg::new(2).masked_eq(4, 4)]);
    /// ```
    pub fn deny_if(
        self,
        name: impl Into<String>,
        conditions: impl IntoIterator<Item = SyscallCondition>,
    ) -> Self {
        self.on_if(name, conditions, SyscallAction::Errno(libc::EPERM))
    }

    /// Says what becomes of this system call if all of the conditions hold; if not, what was said before stands.
    ///
    /// # Errors
    ///
    /// An unknown name, an empty list of conditions, more than 16 of them, conditions that can never hold together, an
    /// argument above 5 and a number that the compared bits cannot hold are errors when the sandbox is planned or
    /// spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Seccomp, SyscallAction, SyscallArg};
    ///
    /// // SIGKILL and SIGSTOP are answered by an end of the one who sends them.
    /// let signal = || SyscallArg::new(1).low32();
    /// let policy = Seccomp::new()
    ///     .on_if("kill", [signal().eq(9)], SyscallAction::Kill)
    ///     .on_if("kill", [signal().eq(19)], SyscallAction::Kill);
    /// ```
    pub fn on_if(
        mut self,
        name: impl Into<String>,
        conditions: impl IntoIterator<Item = SyscallCondition>,
        action: SyscallAction,
    ) -> Self {
        let conditions = Some(conditions.into_iter().collect());
        self.changes.push(Change { name: name.into(), conditions, action });
        self
    }

    /// Says what becomes of the known system calls that no word of the profile or list and none of these matches.
    ///
    /// The profiles and [`allow_only`](Self::allow_only) deny them with `EPERM`, [`strict`](Self::strict) kills. It
    /// makes no difference when this is said, except that of two such words the later counts. Unknown numbers,
    /// `clone3` and foreign ABIs keep [their own answers](Self#what-no-policy-changes).
    ///
    /// # Errors
    ///
    /// An `errno` outside 1 to 4095 is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Seccomp, SyscallAction};
    ///
    /// let policy = Seccomp::new().otherwise(SyscallAction::Kill);
    /// ```
    pub fn otherwise(mut self, action: SyscallAction) -> Self {
        self.otherwise = Some(action);
        self
    }
}
