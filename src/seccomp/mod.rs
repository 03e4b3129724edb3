//! System call filters: what a program may ask of the kernel at all.
//!
//! [`Seccomp`] is the vocabulary, with `action` and `condition`. `profile` and `groups` hold the named policies and
//! groups as data, `resolve` turns names into answers by number, and `compile` turns those into the program that the
//! init installs last, just before `execve`.

mod action;
mod builder;
mod compile;
mod condition;
mod groups;
mod guard;
mod listen;
mod names;
#[cfg(feature = "serde")]
mod oci;
#[cfg(feature = "serde")]
mod parts;
mod profile;
mod resolve;
mod satisfy;
mod syscall;
mod verdict;

#[cfg(test)]
mod document_tests;
#[cfg(all(any(test, fuzzing), feature = "serde"))]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdict_tests;
#[cfg(test)]
mod word_tests;

pub use action::SyscallAction;
pub(crate) use compile::Program;
#[cfg(feature = "serde")]
pub(crate) use condition::Operator;
pub use condition::{SyscallArg, SyscallCondition};
pub(crate) use listen::UNOBSERVED;
#[cfg(feature = "serde")]
pub(crate) use parts::{Origin, Parts};
pub use syscall::Syscall;

use crate::{Error, Result, Step, sys};
use names::Arch;
use profile::Profile;

/// Which system calls a program may make, and what happens when it makes another.
///
/// The kernel runs the filter before every system call of the program, of the threads and processes it
/// starts, and of whatever they execute; it cannot be taken off again, and a program can only add filters
/// that tighten it. See [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html). What is used here
/// works on every kernel that belljar supports, from 5.10 on.
///
/// Every sandbox from `Sandbox::new()` has the default profile; a value of this type replaces it. It starts from
///
/// - a profile: [`Seccomp::new`], the default one, or [`judge`](Self::judge), [`plugin`](Self::plugin) or
///   [`strict`](Self::strict), each for a narrower purpose,
/// - nothing: [`Seccomp::allow_only`], or
/// - a file: `Seccomp::from_json`, behind the feature `serde`, reads the profiles of container engines,
///
/// and is changed word by word: [`allow`](Self::allow), [`deny`](Self::deny), [`deny_with`](Self::deny_with),
/// [`log`](Self::log), [`trap`](Self::trap), [`kill`](Self::kill) and, for any action, [`on`](Self::on) say what
/// becomes of some calls; [`allow_if`](Self::allow_if), [`deny_if`](Self::deny_if) and [`on_if`](Self::on_if) say it
/// for some arguments; [`otherwise`](Self::otherwise) says what becomes of all other calls.
///
/// The methods only take notes: unknown names and other mistakes are reported, with a hint, when the sandbox is
/// planned or spawned, as errors of the kind [`InvalidConfig`](crate::ErrorKind::InvalidConfig). So is a policy under
/// which no program could be started, because it never lets `execve` through.
///
/// # Which word counts
///
/// **The last word that matches a call decides.** A word without conditions matches every call of its name, and so
/// replaces all that was said about it before, the conditions of the profile included. A word with conditions matches
/// when all of them hold; where they do not, what was said before stands. Alternatives are words of their own:
///
/// ```
/// use belljar::{Seccomp, SyscallArg};
///
/// let domain = || SyscallArg::new(0).low32();
/// let local_only = Seccomp::new()
///     .deny(["socket"]) // whatever the profile said
///     .allow_if("socket", [domain().eq(1)]) // but AF_UNIX
///     .allow_if("socket", [domain().eq(16), SyscallArg::new(2).low32().eq(0)]); // or netlink for routes
/// ```
///
/// [`otherwise`](Self::otherwise) answers the calls that no word matches, wherever it is said.
///
/// # Names
///
/// A name is that of the system call, in Linux up to 6.18 (`"newfstatat"`, `"clone3"`, `"prlimit64"`), which
/// is not always the name of the C function. A name that exists on another architecture only (`"open"` on
/// aarch64) is accepted and has no effect, so that one policy serves both x86_64 and aarch64.
///
/// A name that starts with `@` is a group, in the style of
/// [systemd.exec(5)](https://man7.org/linux/man-pages/man5/systemd.exec.5.html#SYSTEM_CALL_FILTERING): `"@basic-io"`,
/// `"@file-system"`, `"@network-io"`, `"@process"`, `"@ipc"`, … Every call is in exactly one of them;
/// `docs/seccomp.md` lists them. A group can stand wherever a name can. *Allowed as a member of its group*, a call
/// keeps the conditions that the default profile has for it: `allow(["@network-io"])` makes no `AF_VSOCK` socket
/// possible, and `allow(["@process"])` no namespace. *Named itself*, it has none.
///
/// # What no policy changes
///
/// A call newer than Linux 6.18, or a number that means nothing, fails with `ENOSYS` under every filter, as on an
/// older kernel, so that programs fall back to the older call. `clone3` fails so too unless it is named, because its
/// flags are in memory where no filter can look at them; C libraries then use `clone`.
///
/// A system call of another architecture (a 32-bit program, or `int 0x80`) and, on x86_64, one of the x32 interface
/// kill the process: their numbers mean other calls. There is no way to allow them.
///
/// # Starting a program
///
/// The filter is the last that the init installs before it executes the program, so that nothing of ours runs between the
/// two but what starts the program. The few calls that this takes are recognised by a random number of 64 bits in their
/// sixth argument, which these calls do not have, and allowed whatever the policy says of them: `execve`, `exit_group` if
/// it fails, `sendmsg` for a listener, and, where a program's process waits for its command under the filter already,
/// `recvmsg`, `close_range`, `chdir`, `getcwd`, `clock_gettime` and `ppoll`. The program cannot know that number, which each program
/// has its own of: `execve` takes away the memory that held it. So a policy may deny `execve` altogether.
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
/// - `fcntl` with `F_SETLEASE`: whoever opens the file outside would wait for the end of the lease.
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
    /// In the order in which they were said; the last one that matches a call decides.
    changes: Vec<Change>,
    /// What replaces the base's own answer to calls that nothing matches.
    otherwise: Option<SyscallAction>,
    /// The host looks at every call that is let through.
    observed: bool,
    /// Lets nothing through that this does not.
    outer: Option<Box<Seccomp>>,
}

/// What the changes start from.
#[derive(Debug, Clone)]
enum Base {
    Profile(&'static Profile),
    Only(Vec<String>),
    #[cfg(feature = "serde")]
    Imported(std::sync::Arc<oci::Imported>),
}

impl Default for Base {
    fn default() -> Self {
        Self::Profile(&profile::DEFAULT)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Of a call or of a group.
    pub(crate) name: String,
    pub(crate) conditions: Option<Vec<SyscallCondition>>,
    pub(crate) action: SyscallAction,
}

impl Seccomp {
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
        matches!(self.base, Base::Profile(profile) if std::ptr::eq(profile, &profile::DEFAULT))
            && self.changes.is_empty()
            && self.otherwise.is_none()
            && !self.observed
            && self.outer.is_none()
    }

    /// Lets every call through.
    pub(crate) fn everything() -> Self {
        Self {
            base: Base::Only(Arch::NATIVE.calls().map(|(name, _)| name.to_owned()).collect()),
            ..Self::default()
        }
    }

    /// What this policy refuses stays refused; what it lets through gets the answer of `outer`. So a log or a question to the
    /// host of this one counts only where `outer` has it too.
    pub(crate) fn within(self, outer: Self) -> Self {
        Self { outer: Some(Box::new(outer)), ..self }
    }

    /// The same policy, with everything that it lets through left to the host.
    pub(crate) fn observed(self) -> Self {
        Self { observed: true, ..self }
    }

    /// Checks the policy and lowers it to the program that the init installs.
    pub(crate) fn compile(&self, options: Options) -> Result<Filter> {
        let arch = Arch::NATIVE;
        let mut verdicts = resolve::verdicts(self, options, arch)?;
        if self.observed {
            listen::observe(&mut verdicts, arch);
        }
        let asked = listen::listen(&mut verdicts);
        let inheritable = asked.is_none() && listen::is_inheritable(&verdicts, arch);
        let keys = ["add_key", "keyctl", "request_key"].into_iter().filter_map(|name| arch.number(name)).any(
            |number| {
                let verdict = usize::try_from(number).ok().and_then(|number| verdicts.get(number));
                verdict.is_some_and(|verdict| verdict.answers().any(verdict::Answer::lets_through))
            },
        );
        let token = listen::exempt(&mut verdicts, arch, new_token)?;
        Ok(Filter { program: compile::program(&verdicts, arch)?, token, asked, inheritable, keys })
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
    /// A payload can be forked by one that is under it already.
    pub(crate) inheritable: bool,
    /// It lets calls about keys through.
    pub(crate) keys: bool,
}

/// Random, and not 0.
fn new_token() -> Result<u64> {
    let random = sys::random().map_err(|error| Error::os(Step::Plan, "drawing a random number", error))?;
    Ok(random.max(1))
}

/// The numbers that a name or a group stands for on this machine: none if only another architecture has it.
pub(crate) fn numbers_of(name: &str) -> Result<Vec<u32>> {
    let calls = resolve::calls(name, Arch::NATIVE)?;
    Ok(calls.into_iter().filter_map(|call| Arch::NATIVE.number(call)).collect())
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
    /// What is refused, whatever the policy says.
    pub(crate) refused: Refused,
    /// The capabilities that the program keeps, as a mask.
    #[cfg(feature = "serde")]
    pub(crate) capabilities: u64,
}

impl Options {
    /// Whether the default profile is compiled to the same filter for both: it does not look at capabilities.
    pub(crate) fn is_like(&self, other: Self) -> bool {
        // Named one by one, so that a new one is not forgotten.
        let unlike = |options: Self| {
            let Self {
                setuid_guard,
                fixed_processors,
                fixed_io_priority,
                refused,
                #[cfg(feature = "serde")]
                    capabilities: _,
            } = options;
            (setuid_guard, fixed_processors, fixed_io_priority, refused)
        };
        unlike(*self) == unlike(other)
    }
}

/// Groups of calls that are refused whatever the policy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Making sockets. Pairs that are connected to each other, and to nobody else, stay.
    pub(crate) sockets: bool,
    /// Opening and using queues, semaphores and shared memory of System V and POSIX.
    pub(crate) ipc: bool,
    /// Sending signals.
    pub(crate) signals: bool,
    /// Changing modes, owners, times and attributes of files.
    pub(crate) metadata: bool,
    /// Shortening files by their path.
    pub(crate) truncation: bool,
    /// What two sandboxes that share files, a kernel or a processor could talk by.
    pub(crate) channels: bool,
    /// Ways to TCP that the rules of landlock do not see.
    pub(crate) detours: bool,
}
