//! System call filters: what a program may ask of the kernel at all.
//!
//! [`Seccomp`] is the vocabulary. `profile` holds the default profile as data, `resolve` turns names into
//! answers by number, and `compile` turns those into the program that the init installs last, just before
//! `execve`.

mod compile;
mod listen;
mod names;
mod profile;
mod resolve;
mod syscall;
mod verdict;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;

pub(crate) use compile::Program;
pub use syscall::Syscall;

use crate::{Error, Result, Step, sys};
use names::Arch;

/// Which system calls a program may make, and what happens when it makes another.
///
/// The kernel runs the filter before every system call of the program, of the threads and processes it
/// starts, and of whatever they execute; it cannot be taken off again, and a program can only add filters
/// that tighten it. See [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html). What is used here
/// works on every kernel that belljar supports, from 5.10 on.
///
/// Every sandbox from `Sandbox::new()` has the default profile; a value of this type replaces it:
///
/// - [`Seccomp::new`] is the default profile, and [`allow`](Self::allow), [`deny`](Self::deny),
///   [`deny_with`](Self::deny_with) and [`kill`](Self::kill) change it call by call;
/// - [`Seccomp::allow_only`] starts from nothing.
///
/// Where the same call is named twice, the later word counts. The methods only take notes: unknown names and
/// other mistakes are reported, with a hint, when the sandbox is planned or spawned, as errors of the kind
/// [`InvalidConfig`](crate::ErrorKind::InvalidConfig).
///
/// # Names
///
/// A name is that of the system call, in Linux up to 6.18 (`"newfstatat"`, `"clone3"`, `"prlimit64"`), which
/// is not always the name of the C function. A name that exists on another architecture only (`"open"` on
/// aarch64) is accepted and has no effect, so that one policy serves both x86_64 and aarch64.
///
/// A call newer than that, or a number that means nothing, fails with `ENOSYS` under every filter, as on an
/// older kernel, so that programs fall back to the older call. A system call of another architecture (a
/// 32-bit program, or `int 0x80`) and, on x86_64, one of the x32 interface kill the process: their numbers
/// mean other calls.
///
/// # Starting a program
///
/// The filter is the last that the init installs before it executes the program, so that nothing of ours runs between the
/// two. The few calls that this takes (`execve`, and for a listener `sendmsg`) are recognised by a random number of 64
/// bits in their sixth argument, which these calls do not have, and allowed whatever the policy says of them. The program
/// cannot know that number: `execve` takes away the memory that held it. So a policy may deny `execve` altogether.
///
/// # The default profile
///
/// An allow-list in the spirit of those of container engines, for a container without capabilities. Ordinary
/// programs, compilers and language runtimes run under it. Denied, with `EPERM` unless said otherwise:
///
/// - New namespaces (`unshare`, `setns`, `clone` with such a flag; `clone3` fails with `ENOSYS`), mounts,
///   `chroot` and `pivot_root`: they make large and privileged parts of the kernel reachable.
/// - `bpf`, `perf_event_open`, `userfaultfd`, `io_uring_*`, `modify_ldt`, `fanotify_init`: they have a record
///   of privilege escalations, and io_uring also makes calls that no filter sees.
/// - `ptrace`, `process_vm_*`, `process_madvise`, `pidfd_getfd`, `kcmp`: they reach into other processes. A
///   debugger needs `.allow(["ptrace"])`.
/// - `prlimit64`, `sched_setaffinity`, `sched_setattr`, `sched_setparam`, `sched_setscheduler`, `setpriority`
///   and `ioprio_set` for any process but 0, the caller: they could starve or kill the sandbox's init. This
///   also denies `pthread_setaffinity_np` and its like, which name the thread by its id. `sched_setaffinity` and
///   `ioprio_set` altogether where [`cpu_affinity`](crate::Sandbox::cpu_affinity) and
///   [`io_priority`](crate::Sandbox::io_priority) have chosen, unless a call by [`allow`](Seccomp::allow) names them.
/// - `prctl(PR_SCHED_CORE)`: it takes processor time from others that no limit counts.
/// - `keyctl`, `add_key`, `request_key`: keyrings are shared by all sandboxes of one user.
/// - Sockets other than `AF_UNIX`, `AF_INET`, `AF_INET6` and `AF_NETLINK` with `NETLINK_ROUTE`: rare
///   protocols have a record too, and `AF_VSOCK` leaves the network namespace.
/// - `ioctl` with `TIOCSTI` or `TIOCLINUX`: they type into the terminal that started the sandbox.
/// - `personality` other than `PER_LINUX` and `PER_LINUX32`, with or without `UNAME26`: it weakens the layout
///   of the address space.
/// - `mincore`, `cachestat`: they tell what others read of a shared file.
/// - `open_by_handle_at`, `name_to_handle_at`: they name files past the root directory.
/// - `mbind`, `set_mempolicy`, `set_mempolicy_home_node`, `move_pages`, `migrate_pages`: placing memory is
///   the host's business.
/// - Modules, `kexec_*`, `reboot`, swap, quotas, `acct`, `syslog`, setting the clock or the host name, I/O
///   ports, `vhangup`, `lsm_*`: the machine is not the sandbox's.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox, Seccomp};
///
/// // The default profile, but a debugger may work and sockets are an immediate end.
/// let policy = Seccomp::new().allow(["ptrace", "process_vm_readv"]).kill(["socket", "socketpair"]);
/// let child = Sandbox::new().seccomp(policy).spawn(Command::new("/usr/bin/gdb"))?;
/// # drop(child);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Seccomp {
    base: Base,
    /// In the order of the calls; later ones win.
    changes: Vec<Change>,
}

/// What the changes start from.
#[derive(Debug, Clone, Default)]
enum Base {
    #[default]
    Profile,
    Only(Vec<String>),
}

#[derive(Debug, Clone)]
struct Change {
    name: String,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    /// As the caller gave it; checked when compiled.
    Errno(i32),
    Kill,
    Notify,
}

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

    /// Nothing but these system calls, whatever their arguments; all others fail with `EPERM`.
    ///
    /// The list is taken as it is. It has none of the default profile's conditions: `"clone"` in it allows
    /// new namespaces and `"ioctl"` any request. It must hold all that the program and its dynamic loader
    /// need. The program itself is started [in any case](Self#starting-a-program). Only `clone3`, when it is
    /// not named, fails with `ENOSYS`, without which no C library would fall back to a `clone` that is.
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
        Self { base: Base::Only(names), changes: Vec::new() }
    }

    /// Allows these system calls whatever their arguments, in place of the profile's conditions on them.
    ///
    /// `allow(["clone"])` thus gives away new namespaces, and `allow(["ioctl"])` the terminal that a program
    /// may share with its caller. Where a host directory is shared writable, the guard against
    /// set-user-ID files holds for the allowed calls too.
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
        self.with(names, Action::Allow)
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
        self.with(names, Action::Errno(errno))
    }

    /// Kills the process, all its threads, when it makes one of these system calls, which is not made.
    ///
    /// If that is the main process, the verdict is [`SyscallDenied`](crate::Verdict::SyscallDenied) with the call's number and
    /// name; the first one of any process of the tree is in [`Outcome::denied`](crate::Outcome::denied). The kernel tells
    /// nobody for which call it killed, so the init does it: the call waits (`SECCOMP_RET_USER_NOTIF`), the init notes it and
    /// sends `SIGKILL`, which is what the wait status then says. There is no core dump and no line in the kernel's log.
    ///
    /// Such a filter has a listener, and a process can have one such filter only: a program that installs one itself is
    /// refused (`EBUSY`).
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
    /// let strict = Seccomp::new().kill(["ptrace", "unshare", "mount"]);
    /// ```
    #[doc(alias = "SECCOMP_RET_KILL_PROCESS")]
    pub fn kill(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(names, Action::Kill)
    }

    /// Leaves these system calls to the host: the thread that makes one waits until a handler of
    /// [`Command::on_syscall`](crate::Command::on_syscall) has answered, which can act in its place. Where the command has no
    /// handler for it, the call fails with `EPERM`.
    ///
    /// A program is started by `execve` all the same; `notify(["execve"])` is about those that it executes itself. Calls that
    /// every program makes all the time (`close`, `read`, `rt_sigreturn`) are better left alone: each takes two switches to
    /// the host, and the C library does not expect them to fail.
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
        self.with(names, Action::Notify)
    }

    fn with(mut self, names: impl IntoIterator<Item = impl Into<String>>, action: Action) -> Self {
        self.changes.extend(names.into_iter().map(|name| Change { name: name.into(), action }));
        self
    }

    /// The compiled filter: classic BPF instructions for this architecture, 8 bytes each, as
    /// [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html) takes them. To look at, or to install in a
    /// process that this crate does not spawn.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for an unknown name or an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// let program = belljar::Seccomp::default().to_bpf()?;
    /// assert_eq!(program.len() % 8, 0);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn to_bpf(&self) -> Result<Vec<u8>> {
        Ok(self.compile_for(Arch::NATIVE, Options::default())?.as_bytes().to_vec())
    }

    /// Whether it is the default profile and nothing else, which is worth compiling once only.
    pub(crate) fn is_default(&self) -> bool {
        matches!(self.base, Base::Profile) && self.changes.is_empty()
    }

    /// Checks the policy and lowers it to the program that the init installs.
    pub(crate) fn compile(&self, options: Options) -> Result<Filter> {
        let arch = Arch::NATIVE;
        let mut verdicts = resolve::verdicts(self, options, arch)?;
        let asked = listen::listen(&mut verdicts);
        let token = listen::exempt(&mut verdicts, arch, new_token)?;
        Ok(Filter { program: compile::program(&verdicts, arch)?, token, asked })
    }

    fn compile_for(&self, arch: Arch, options: Options) -> Result<Program> {
        compile::program(&resolve::verdicts(self, options, arch)?, arch)
    }
}

/// A filter as the init installs it.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) program: Program,
    /// What the calls that start a program have as a sixth argument; 0 if they need none.
    pub(crate) token: u64,
    /// The numbers of the calls that a listener leaves to the host; `None` if no listener is needed.
    pub(crate) asked: Option<Vec<u32>>,
}

/// Random, and not 0.
fn new_token() -> Result<u64> {
    let random = sys::random().map_err(|error| Error::os(Step::Plan, "drawing a random number", error))?;
    Ok(random.max(1))
}

/// The numbers that a name stands for on this machine: none if only another architecture has it.
pub(crate) fn numbers_of(name: &str) -> Result<Vec<u32>> {
    resolve::numbers_of(name, Arch::NATIVE)
}

/// What the rest of the sandbox asks of the filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// A host directory is shared writable: no set-user-ID or set-group-ID file may be made in it.
    pub(crate) setuid_guard: bool,
    /// The processors were chosen, and the kernel lets every process choose others.
    pub(crate) fixed_processors: bool,
    /// The I/O priority was chosen, and the kernel lets every process choose another.
    pub(crate) fixed_io_priority: bool,
}
