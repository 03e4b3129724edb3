//! Processes, signals, readiness and clocks.

use super::{Errno, Fd, Owned, Result, address, address_mut, nr, owned, plain};

pub(crate) fn exit(code: i32) -> ! {
    loop {
        plain(nr::EXIT_GROUP, &[code as usize]).ok();
        // A filter that answers exit_group with an errno must not make the process go on.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: raises SIGILL, whose default action ends the process.
        unsafe {
            core::arch::asm!("ud2", options(noreturn, nostack))
        };
        #[cfg(target_arch = "aarch64")]
        // SAFETY: raises SIGTRAP, whose default action ends the process.
        unsafe {
            core::arch::asm!("brk #1", options(noreturn, nostack))
        };
    }
}

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGCHLD: i32 = 17;

/// The two sides of a fork.
pub(crate) enum Fork {
    Child,
    /// Process id of the child, and a pidfd of it.
    Parent(i32, Owned),
}

/// Forks with memory of its own, into a v2 cgroup when one is given.
pub(crate) fn fork(cgroup: Option<Fd>) -> Result<Fork> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd = -1_i32;
    let result = if let Some(cgroup) = cgroup {
        let args: [u64; 11] = [
            CLONE_PIDFD | CLONE_INTO_CGROUP,
            address_mut(&mut pidfd) as u64,
            0,
            0,
            SIGCHLD as u64,
            0,
            0,
            0,
            0,
            0,
            cgroup.0 as u64,
        ];
        plain(nr::CLONE3, &[address(&args), size_of_val(&args)])
    } else {
        // With CLONE_PIDFD the old call stores the descriptor where CLONE_PARENT_SETTID would store the pid. A stack
        // of 0 means: go on with a copy of this one. The order of the last two arguments differs by architecture,
        // and both are 0.
        plain(nr::CLONE, &[CLONE_PIDFD as usize | SIGCHLD as usize, 0, address_mut(&mut pidfd), 0, 0])
    };
    match result? {
        0 => Ok(Fork::Child),
        // SAFETY of meaning, not of memory: the kernel wrote the descriptor before it returned in the parent. The
        // compiler cannot know, so the value is read as the kernel left it.
        pid => Ok(Fork::Parent(pid as i32, Owned::adopt(core::hint::black_box(pidfd)))),
    }
}

pub(crate) fn process_id() -> i32 {
    // getpid(2) cannot fail.
    plain(nr::GETPID, &[]).map_or(0, |pid| pid as i32)
}

/// A descriptor of a process by its id.
pub(crate) fn open_pidfd(pid: i32) -> Result<Owned> {
    owned(plain(nr::PIDFD_OPEN, &[pid as usize, 0]))
}

/// Executes a program; returns only on failure.
///
/// `argv` and `envp` are offsets of pointer vectors in `image`, which [`Image::relocate`] checked and filled.
pub(crate) fn execve(path: usize, argv: usize, envp: usize) -> Errno {
    match plain(nr::EXECVE, &[path, argv, envp]) {
        Ok(_) => Errno::EPROTO,
        Err(errno) => errno,
    }
}

/// What `wait4(2)` says of one process that ended.
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) status: i32,
    pub(crate) usage: Usage,
}

/// What `struct rusage` tells.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// The largest resident size of any one process.
    pub(crate) max_rss_kib: u64,
}

/// Two timevals, then `ru_maxrss` and 13 more longs.
type RawUsage = [u64; 18];

impl Usage {
    fn from_raw(raw: RawUsage) -> Self {
        Self {
            user_us: raw[0] * 1_000_000 + raw[1],
            system_us: raw[2] * 1_000_000 + raw[3],
            max_rss_kib: raw[4],
        }
    }
}

/// Reaps one child that already ended, or any one, waiting, when `wait` says so. `None`: nothing to reap now.
pub(crate) fn reap(wait: Wait) -> Result<Option<Reaped>> {
    const WNOHANG: usize = 1;
    const __WALL: usize = 0x4000_0000;
    let mut status = 0_i32;
    let flags = __WALL | if wait == Wait::No { WNOHANG } else { 0 };
    let mut usage: RawUsage = [0; 18];
    match plain(nr::WAIT4, &[-1_isize as usize, address_mut(&mut status), flags, address_mut(&mut usage)])? {
        0 => Ok(None),
        pid => Ok(Some(Reaped {
            pid: pid as i32,
            status: core::hint::black_box(status),
            usage: Usage::from_raw(core::hint::black_box(usage)),
        })),
    }
}

/// Whether [`reap`] blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

/// The usage of all children that were reaped.
pub(crate) fn children_usage() -> Usage {
    const RUSAGE_CHILDREN: usize = -1_isize as usize;
    let mut usage: RawUsage = [0; 18];
    // getrusage(2) with this argument and a valid buffer cannot fail.
    plain(nr::GETRUSAGE, &[RUSAGE_CHILDREN, address_mut(&mut usage)]).ok();
    Usage::from_raw(core::hint::black_box(usage))
}

pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // It would be the init's own process group (kill(2)).
    if pid == 0 {
        return Err(Errno::ESRCH);
    }
    plain(nr::KILL, &[pid as isize as usize, signal as usize]).map(drop)
}

/// A number that nobody can guess, and not 0. See getrandom(2).
pub(crate) fn random() -> Result<u64> {
    let mut number = 0_u64;
    // Eight bytes come whole (getrandom(2)).
    match plain(nr::GETRANDOM, &[address_mut(&mut number), size_of::<u64>(), 0])? {
        8 => Ok(core::hint::black_box(number).max(1)),
        _ => Err(Errno::EAGAIN),
    }
}

/// The process that a thread belongs to: by a descriptor, if there can be one, so that it is never another that was given
/// the same number.
pub(crate) enum ProcessOf {
    Held(Owned),
    /// Before Linux 6.9, and when there are too many descriptors.
    Number(i32),
}

impl ProcessOf {
    pub(crate) fn thread(thread: i32) -> Self {
        const PIDFD_THREAD: usize = 0o200;
        match plain(nr::PIDFD_OPEN, &[thread as usize, PIDFD_THREAD]) {
            Ok(fd) => Self::Held(Owned::adopt(fd as i32)),
            Err(_) => Self::Number(thread),
        }
    }

    /// Kills all of its threads.
    pub(crate) fn kill(&self) -> Result<()> {
        const PIDFD_SIGNAL_THREAD_GROUP: usize = 2;
        match self {
            Self::Held(fd) => {
                let call = [fd.fd().arg(), SIGKILL as usize, 0, PIDFD_SIGNAL_THREAD_GROUP];
                plain(nr::PIDFD_SEND_SIGNAL, &call).map(drop)
            }
            // The signal is for the whole process of a thread, whichever has the number.
            Self::Number(thread) => kill(*thread, SIGKILL),
        }
    }
}

/// Whether the process has a thread of this id.
pub(crate) fn has_thread(process: i32, thread: i32) -> bool {
    plain(nr::TGKILL, &[process as usize, thread as usize, 0]).is_ok()
}

/// Blocks every signal.
pub(crate) fn block_signals() -> Result<()> {
    signal_mask(!0)
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() -> Result<()> {
    signal_mask(0)
}

fn signal_mask(mask: u64) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    plain(nr::RT_SIGPROCMASK, &[SIG_SETMASK, address(&mask), 0, size_of::<u64>()]).map(drop)
}

/// Gives every signal its default action: an ignored one would stay ignored across `execve`.
pub(crate) fn default_signals() -> Result<()> {
    const SIGSTOP: i32 = 19;
    let action = [0_u64; 4]; // struct kernel_sigaction: SIG_DFL, no flags, no restorer, empty mask
    // The action of these two cannot be anything but the default, and the kernel refuses to set it.
    for signal in (1..=64).filter(|signal| ![SIGKILL, SIGSTOP].contains(signal)) {
        plain(nr::RT_SIGACTION, &[signal as usize, address(&action), 0, size_of::<u64>()])?;
    }
    Ok(())
}

/// A descriptor that becomes readable when a child changes state.
pub(crate) fn child_signal_fd() -> Result<Owned> {
    const SFD_CLOEXEC_NONBLOCK: usize = 0o2_000_000 | 0o4000;
    let mask = 1_u64 << (SIGCHLD - 1);
    owned(plain(nr::SIGNALFD4, &[-1_isize as usize, address(&mask), size_of::<u64>(), SFD_CLOEXEC_NONBLOCK]))
}

/// One entry for [`poll`]: descriptor, requested events, returned events.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

/// Waits until one of them is ready or the time is over. Interrupted counts as ready for nothing.
pub(crate) fn poll(set: &mut [PollFd], timeout_ns: Option<u64>) -> Result<()> {
    let timeout = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let pointer = timeout.as_ref().map_or(0, |value| address(value));
    match plain(nr::PPOLL, &[address_mut(set), set.len(), pointer, 0, 0]) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Nanoseconds of the clock that no one can set. Without it no limit could be kept, and another number would be a lie
/// about time: then the init ends, and the sandbox with it.
pub(crate) fn monotonic() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    match clock(CLOCK_MONOTONIC).or_else(|_| clock(CLOCK_MONOTONIC)) {
        Ok(now) => now,
        Err(_) => exit(249),
    }
}

/// Nanoseconds since the machine was started, sleep included.
pub(crate) fn boottime() -> u64 {
    const CLOCK_BOOTTIME: usize = 7;
    clock(CLOCK_BOOTTIME).unwrap_or(0)
}

/// Nanoseconds of the wall clock: the only one that a time namespace does not shift (time_namespaces(7)), so the one by
/// which the init and a program in such a namespace can agree on a moment.
pub(crate) fn wall_clock() -> u64 {
    const CLOCK_REALTIME: usize = 0;
    clock(CLOCK_REALTIME).unwrap_or(0)
}

/// CPU time of a process with all its threads, dead ones included, in nanoseconds (clock_getcpuclockid(3)).
pub(crate) fn process_cpu(pid: u32) -> Result<u64> {
    const CPUCLOCK_SCHED: u32 = 2;
    clock((!pid << 3 | CPUCLOCK_SCHED) as i32 as isize as usize)
}

fn clock(id: usize) -> Result<u64> {
    let mut time = [0_u64; 2];
    plain(nr::CLOCK_GETTIME, &[id, address_mut(&mut time)])?;
    let time = core::hint::black_box(time);
    Ok(time[0] * 1_000_000_000 + time[1])
}
