//! Scheduling and limits of another process, by its id, and of this thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The id, in our PID namespace, of the process behind a pidfd; `None` once it was reaped. See `proc_pid_fdinfo(5)`.
pub(crate) fn pid_of(pidfd: &impl AsFd) -> io::Result<Option<u32>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i64>().ok());
    // -1: reaped; 0: in another PID namespace than the /proc we read.
    Ok(pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0))
}

/// See `sched_setscheduler(2)`. The raw call: that of musl refuses to do anything.
pub(crate) fn set_scheduler(pid: u32, policy: u32, priority: u32) -> io::Result<()> {
    let priority = i32::try_from(priority).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: two numbers and a live struct sched_param, which is one int.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, policy, &raw const priority) }).map(drop)
}

/// See `setpriority(2)`.
pub(crate) fn set_nice(pid: u32, nice: i32) -> io::Result<()> {
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, pid, nice) }).map(drop)
}

/// See `ioprio_set(2)`.
pub(crate) fn set_io_priority(pid: u32, value: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: three numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) }).map(drop)
}

/// See `prlimit(2)`.
pub(crate) fn set_rlimit(pid: u32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    let old = std::ptr::null::<u64>();
    // SAFETY: two numbers, a live struct rlimit64, which is two u64, and null for the old limit.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), old) }).map(drop)
}

/// The policy of this thread, by the kernel's number, and its nice value: what a process that it makes begins with.
pub(crate) fn own_scheduling() -> io::Result<(u32, i32)> {
    const SCHED_RESET_ON_FORK: libc::c_long = 0x4000_0000;
    // SAFETY: a number.
    let policy = check(unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) })?;
    // SAFETY: two numbers. The raw call answers 20 - nice, so that no answer looks like an error.
    let nice = check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) })?;
    let odd = |_| io::Error::from_raw_os_error(libc::EOVERFLOW);
    let policy = u32::try_from(policy & !SCHED_RESET_ON_FORK).map_err(odd)?;
    Ok((policy, i32::try_from(20 - nice).map_err(odd)?))
}

/// The processors that this thread may use, by number. See `sched_getaffinity(2)`.
pub(crate) fn own_processors() -> io::Result<Vec<u32>> {
    // Room for 8192 processors, the most a kernel can be built for.
    let mut mask = [0_u8; 1024];
    // SAFETY: a number, and a live buffer with its length.
    let length =
        check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, mask.len(), mask.as_mut_ptr()) })?;
    let length = usize::try_from(length).unwrap_or(0);
    let bits =
        (0_u32..).zip(mask.iter().take(length).flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)));
    Ok(bits.filter(|(_, bit)| *bit == 1).map(|(number, _)| number).collect())
}

/// The soft limit of a resource of this process; 0 where the kernel does not say.
pub(crate) fn soft_rlimit(resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live struct; an unknown resource answers EINVAL and leaves it alone.
    let result = unsafe { libc::getrlimit(resource as libc::__rlimit_resource_t, &raw mut limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(limit.rlim_cur) }
}
