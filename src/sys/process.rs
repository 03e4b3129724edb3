//! Processes by pidfd, and what this process may do.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The core scheduling cookie of this thread, 0 for none. `ENODEV` where no processor has siblings, `EINVAL` where the kernel
/// does not know. See `PR_SCHED_CORE` in `prctl(2)`.
pub(crate) fn core_cookie() -> io::Result<u64> {
    const PR_SCHED_CORE: libc::c_int = 62;
    const GET: libc::c_ulong = 0;
    let mut cookie = 0_u64;
    // SAFETY: GET writes one u64 to a live variable; pid 0 and scope 0 are this thread.
    let result = unsafe { libc::prctl(PR_SCHED_CORE, GET, 0_u64, 0_u64, &raw mut cookie) };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// A number that nobody can guess. See `getrandom(2)`.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the kernel writes at most the length of the buffer, which is given.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Eight bytes come whole once the generator is ready (getrandom(2)), and until then the call waits.
    if usize::try_from(count) == Ok(bytes.len()) {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A pidfd of a process. See `pidfd_open(2)`.
pub(crate) fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and returns a new descriptor.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe {
        OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?)
    })
}

/// Sends a signal by pidfd: never to another process that was given the same number. See `pidfd_send_signal(2)`.
pub(crate) fn send_signal(pidfd: &impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a descriptor, a number, a null siginfo, no flags.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// The process that a thread belongs to: by a descriptor, if there can be one, so that it is never another that was given
/// the same number.
#[derive(Debug)]
pub(crate) enum ProcessOf {
    Held(OwnedFd),
    /// Before Linux 6.9, and when there are too many descriptors.
    Number(u32),
}

impl ProcessOf {
    pub(crate) fn thread(thread: u32) -> Self {
        const PIDFD_THREAD: libc::c_uint = 0o200;
        // SAFETY: pidfd_open takes two numbers and returns a new descriptor.
        let opened = check(unsafe { libc::syscall(libc::SYS_pidfd_open, thread, PIDFD_THREAD) });
        match opened.ok().and_then(|fd| i32::try_from(fd).ok()) {
            // SAFETY: the kernel just made this descriptor for us.
            Some(fd) => Self::Held(unsafe { OwnedFd::from_raw_fd(fd) }),
            None => Self::Number(thread),
        }
    }

    /// Kills all of its threads.
    pub(crate) fn kill(&self) -> io::Result<()> {
        const PIDFD_SIGNAL_THREAD_GROUP: libc::c_uint = 2;
        let result = match self {
            Self::Held(pidfd) => {
                let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
                let (call, flags) = (libc::SYS_pidfd_send_signal, PIDFD_SIGNAL_THREAD_GROUP);
                // SAFETY: a descriptor, a number, a null siginfo, flags.
                unsafe { libc::syscall(call, fd, libc::SIGKILL, info, flags) }
            }
            // 0 would mean this process's own group.
            Self::Number(0) => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
            // The signal is for the whole process of a thread, whichever has the number.
            // SAFETY: the call takes two numbers.
            Self::Number(thread) => unsafe { libc::syscall(libc::SYS_kill, *thread, libc::SIGKILL) },
        };
        check(result).map(drop)
    }
}

/// Waits for the end of a child and reaps it. A child that is gone already (a host that ignores SIGCHLD, or that reaps
/// everything itself) is fine.
pub(crate) fn reap_pidfd(pidfd: &impl AsFd) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd().unsigned_abs();
    loop {
        // SAFETY: zero is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: a descriptor, a live siginfo_t, flags. __WALL also finds a child without an exit signal.
        let result = unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, libc::WEXITED | libc::__WALL) };
        if result == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
            error if error.raw_os_error() == Some(libc::EINTR) => {}
            error => return Err(error),
        }
    }
}

/// The effective capability set of this thread, as a bit mask. See `capget(2)`.
pub(crate) fn effective_capabilities() -> io::Result<u64> {
    let mut header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: a version-3 header and the two data records it calls for, 24 bytes.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    Ok(u64::from(sets[0]) | u64::from(sets[3]) << 32)
}

/// Whether this thread may make calls about keys: the kernel may have none, and a filter around this process may refuse them,
/// which whatever it starts then inherits. See `keyctl(2)`. It asks for the keyring of this process, of which there need be none:
/// a session keyring would be given to a process that asks for its own and has none.
pub(crate) fn knows_keys() -> bool {
    const GET_KEYRING_ID: libc::c_int = 0;
    const OF_PROCESS: libc::c_int = -2;
    // SAFETY: three numbers; the last says that no keyring is to be made.
    let result = check(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, OF_PROCESS, 0) });
    !result.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)))
}

/// The hard limit of a resource of this process; `u64::MAX` for none.
pub(crate) fn hard_rlimit(resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct; an unknown resource answers EINVAL and leaves it alone.
    let result = unsafe { libc::getrlimit(resource as libc::__rlimit_resource_t, &raw mut limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(limit.rlim_max) }
}

/// The version of landlock that the kernel offers. See `landlock_create_ruleset(2)`.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the attribute must be null and its size 0; the call makes nothing and returns a number.
    let version = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    })?;
    u32::try_from(version).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeping() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_killed_by_any_of_its_threads() {
        let mut child = sleeping();
        ProcessOf::thread(child.id()).kill().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
            Some(libc::SIGKILL)
        );
        assert!(ProcessOf::thread(0).kill().is_err(), "not this process's own group");
    }

    /// The number of what was held is given to another process, by who may say which number comes next.
    #[test]
    fn a_process_with_the_number_of_another_is_not_killed() {
        let first = sleeping();
        let (id, held) = (first.id(), ProcessOf::thread(first.id()));
        end(first);
        if let ProcessOf::Number(_) = held {
            return; // Before Linux 6.9.
        }
        let mut reused = false;
        for _ in 0..100 {
            if reused || std::fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).is_err() {
                break;
            }
            let mut other = sleeping();
            if other.id() == id {
                assert_eq!(held.kill().unwrap_err().raw_os_error(), Some(libc::ESRCH));
                assert!(other.try_wait().unwrap().is_none(), "a stranger was killed");
                reused = true;
            }
            end(other);
        }
        assert_eq!(held.kill().unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
