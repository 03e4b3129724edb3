//! What each system call of a spawn is for: the steps at which its failure may be reported, and whether it need be.

use belljar::Step;

use crate::inject::Who;

/// Names of system calls, and the steps that a failure of each may be reported at. A call that is not here fails the
/// test: whoever adds it to the setup says what it is for.
macro_rules! calls {
    ($($who:ident { $($name:ident: [$($step:ident),*],)* })*) => {
        pub(crate) fn call_of(who: Who, number: i64) -> Option<(&'static str, &'static [Step])> {
            $($(if who == Who::$who && number == libc::$name {
                return Some((stringify!($name), &[$(Step::$step),*]));
            })*)*
            None
        }
    };
}

calls! {
    Host {
        SYS_capget: [Plan],
        SYS_openat: [MountSource, Cgroup, Prepare, IdBlock, IdMap, Handshake],
        SYS_open_tree: [MountSource],
        SYS_mount_setattr: [MountSource],
        SYS_move_mount: [MountSource],
        SYS_fsopen: [],
        SYS_fsconfig: [],
        SYS_fsmount: [],
        SYS_fspick: [],
        SYS_mknodat: [],
        SYS_fchmodat: [],
        SYS_symlinkat: [],
        SYS_statx: [MountSource, Cgroup, Prepare],
        // Of the sources of a root that is made once.
        SYS_newfstatat: [MountSource],
        SYS_read: [Cgroup, IdBlock, IdMap, Handshake],
        SYS_pread64: [Cgroup, Prepare],
        SYS_write: [Prepare, IdMap, Cgroup],
        SYS_readlinkat: [MountSource],
        SYS_getdents64: [],
        SYS_faccessat2: [Cgroup],
        SYS_fstatfs: [Cgroup],
        SYS_mkdirat: [Cgroup],
        SYS_unlinkat: [Cgroup],
        SYS_prlimit64: [Rlimit, Plan],
        SYS_getrandom: [Plan],
        SYS_memfd_create: [Prepare],
        // Whether a core can be had alone, which best effort does without.
        SYS_prctl: [],
        SYS_fcntl: [Prepare, IdBlock],
        SYS_socketpair: [Prepare],
        SYS_pidfd_open: [Prepare],
        SYS_pipe2: [Prepare],
        SYS_fchmod: [Prepare],
        SYS_sendmsg: [Handshake],
        SYS_clone3: [Clone],
        SYS_clone: [Clone],
        SYS_recvmsg: [Wait],
        SYS_ppoll: [Wait, Handshake],
        SYS_waitid: [Wait],
        SYS_pidfd_send_signal: [],
        SYS_kill: [],
        SYS_rt_sigprocmask: [],
        // What the C library does for its first thread.
        SYS_rt_sigaction: [],
        SYS_mprotect: [],
        SYS_lseek: [],
        SYS_sched_getaffinity: [Plan],
        SYS_sched_getscheduler: [Plan],
        SYS_sched_getattr: [Plan],
        SYS_getpriority: [Plan],
        SYS_sched_setattr: [Scheduling],
        SYS_setpriority: [Scheduling],
        SYS_sched_setscheduler: [Scheduling],
        SYS_ioprio_set: [Scheduling],
        SYS_landlock_create_ruleset: [Landlock],
    }
    Thread {
        // Of the empty mount namespace, without which sandboxes start in the host's.
        SYS_mount_setattr: [],
        SYS_unshare: [],
        SYS_openat: [],
        SYS_mount: [],
        SYS_move_mount: [],
        SYS_fchdir: [],
        SYS_pivot_root: [],
        SYS_umount2: [],
    }
    Launch {
        // As above.
        SYS_fsopen: [],
        SYS_fsconfig: [],
        SYS_fsmount: [],
        SYS_close: [],
        SYS_setns: [],
        // They always succeed (getresuid(2)), with addresses that are there.
        SYS_getresuid: [],
        SYS_getresgid: [],
        SYS_exit_group: [],
        SYS_clone3: [Clone],
        SYS_capget: [Init],
        SYS_capset: [Init],
        SYS_prctl: [Init],
        SYS_dup3: [Init],
        SYS_close_range: [Init],
        SYS_execveat: [Init],
    }
    Init {
        SYS_rt_sigaction: [Init],
        SYS_rt_sigprocmask: [Init],
        SYS_ppoll: [Handshake, Wait],
        SYS_recvmsg: [Handshake, Seccomp],
        SYS_sendmsg: [Handshake, Seccomp],
        SYS_lseek: [Init, Fork],
        SYS_mmap: [Init, Fork],
        SYS_munmap: [],
        SYS_signalfd4: [Init],
        SYS_setsid: [Init],
        SYS_prctl: [Init],
        SYS_umask: [],
        SYS_sethostname: [Hostname],
        SYS_setdomainname: [Hostname],
        SYS_socket: [Loopback],
        SYS_ioctl: [Loopback, Wait],
        SYS_unshare: [Clone, TimeOffsets],
        SYS_setresuid: [Ids],
        SYS_setresgid: [Ids],
        SYS_mount: [Propagation, Root, Mount],
        SYS_fsopen: [Root, Mount, Mask],
        SYS_fsconfig: [Root, Mount, Mask],
        SYS_fsmount: [Root, Mount, Mask],
        SYS_open_tree: [Root, Mount, Mask, File],
        SYS_mount_setattr: [Root, Mount, Mask, File],
        SYS_move_mount: [Root, Mount, Mask, File],
        SYS_openat: [TimeOffsets, Root, Mount, File, PivotRoot, Landlock],
        SYS_openat2: [Root, Mount, Mask, File, Landlock],
        SYS_mkdirat: [Root, Mount, File],
        SYS_symlinkat: [File],
        SYS_fchmod: [File],
        SYS_statx: [Mount, Mask, Landlock],
        SYS_landlock_create_ruleset: [Landlock],
        SYS_landlock_add_rule: [Landlock],
        SYS_write: [TimeOffsets, File, Wait, Handshake],
        SYS_fchdir: [Root, Mount, PivotRoot],
        SYS_pivot_root: [PivotRoot],
        SYS_chroot: [PivotRoot],
        SYS_umount2: [PivotRoot],
        SYS_getcwd: [PivotRoot],
        SYS_chdir: [PivotRoot, Init],
        SYS_pipe2: [Fork],
        SYS_socketpair: [Fork],
        SYS_clone: [Fork],
        SYS_clone3: [Fork],
        // The host's trees are duplicated: a root that is made once is one of them.
        SYS_fcntl: [Stdio, Root, Mount],
        SYS_read: [Wait, Handshake],
        SYS_close: [],
        SYS_clock_gettime: [],
        SYS_wait4: [],
        SYS_kill: [],
        SYS_getrusage: [],
        SYS_exit_group: [],
    }
    Payload {
        // The gate is a part of the conversation with the host.
        SYS_write: [Join, Handshake],
        SYS_read: [Handshake],
        SYS_unshare: [CgroupNs],
        SYS_fcntl: [Stdio],
        SYS_dup3: [Stdio],
        SYS_close_range: [Stdio, Handshake],
        SYS_setsid: [Session],
        SYS_sched_setattr: [Scheduling],
        SYS_sched_setscheduler: [Scheduling],
        SYS_sched_setaffinity: [Scheduling],
        SYS_sched_getaffinity: [Scheduling, Verify],
        SYS_setpriority: [Scheduling],
        SYS_ioprio_set: [Scheduling],
        SYS_personality: [Addresses],
        SYS_prlimit64: [Rlimit],
        SYS_setgroups: [Ids],
        SYS_setresuid: [Ids],
        SYS_setresgid: [Ids],
        SYS_prctl: [Ids, Capabilities, NoNewPrivs, Verify],
        SYS_capget: [Capabilities, Verify],
        SYS_capset: [Capabilities],
        SYS_getresuid: [Verify],
        SYS_getresgid: [Verify],
        SYS_chdir: [Chdir],
        SYS_getcwd: [Chdir],
        SYS_rt_sigprocmask: [Fork],
        SYS_clock_gettime: [],
        SYS_landlock_restrict_self: [Landlock],
        SYS_seccomp: [Seccomp],
        SYS_getrandom: [Seccomp],
        SYS_keyctl: [Keyring],
        SYS_sendmsg: [Seccomp],
        SYS_execve: [Exec],
    }
}

/// Calls of x86-64 for which other machines only have a younger one.
#[cfg(target_arch = "x86_64")]
pub(crate) fn modern(number: i64) -> i64 {
    match number {
        libc::SYS_readlink => libc::SYS_readlinkat,
        libc::SYS_poll => libc::SYS_ppoll,
        other => other,
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn modern(number: i64) -> i64 {
    number
}

/// Calls that are left alone.
pub(crate) fn is_left_alone(who: Who, call: i64) -> bool {
    // The allocator of the host, for which Rust aborts.
    const MEMORY: [i64; 5] =
        [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_madvise];
    // These always succeed (credentials(7)), so nobody can be told that they did not.
    // Nothing can be wrong with a pause, and std panics where something is.
    // So it does where a thread cannot be waited for.
    const CERTAIN: [i64; 5] =
        [libc::SYS_getpid, libc::SYS_geteuid, libc::SYS_getegid, libc::SYS_clock_nanosleep, libc::SYS_futex];
    // What else a thread does is the C library's.
    if who == Who::Thread {
        return call_of(who, call).is_none();
    }
    // No descriptor of the host can fail to close; std panics where that of a directory does.
    who == Who::Host && (MEMORY.contains(&call) || CERTAIN.contains(&call) || call == libc::SYS_close)
}

/// Whether a sandbox may be complete although the call failed: there is another way, the call is tried again, or what it
/// was for is not needed.
pub(crate) fn is_survivable(kind: &str, who: Who, call: i64, nth: u32, errno: i32) -> bool {
    match (who, call) {
        // Hints of a file's size; whether the init can open a source by its path; sweeping for others; giving an id
        // block back; how the C library counts processors; the last look at an init that has reported.
        (
            Who::Host,
            libc::SYS_statx
            | libc::SYS_read
            | libc::SYS_openat
            | libc::SYS_readlinkat
            | libc::SYS_faccessat2
            | libc::SYS_fcntl
            | libc::SYS_ppoll,
        ) => true,
        // A host that cannot make devices binds its own, and a mount that cannot be cloned is made anew.
        (
            Who::Host,
            libc::SYS_fsopen
            | libc::SYS_fsconfig
            | libc::SYS_fsmount
            | libc::SYS_fspick
            | libc::SYS_mknodat
            | libc::SYS_mkdirat
            | libc::SYS_fchmodat
            | libc::SYS_symlinkat,
        ) => true,
        // A root that is made once for all sandboxes of a plan is used whole or not at all: whatever fails while the plan
        // is made, each sandbox has its root made by its own init, as on a host that cannot share one. When a sandbox is
        // started, the same calls are errors, but for a clone from another mount namespace, which is made anew.
        (
            Who::Host,
            libc::SYS_open_tree | libc::SYS_mount_setattr | libc::SYS_move_mount | libc::SYS_newfstatat,
        ) => true,
        // The files of that root come first, one write each: four of the system, and one more of the container. Later
        // writes are those of limits and id maps, which must not go unnoticed.
        (Who::Host, libc::SYS_write) => nth <= if kind == "container" { 5 } else { 4 },
        // A look for a prepared payload, which need not be there: then the command goes by way of the init. An error while
        // a reply is waited for is reported.
        (Who::Host, libc::SYS_recvmsg) => true,
        // Kernels before 6.3 do not know the flag against execution.
        (Who::Host, libc::SYS_memfd_create) => errno == libc::EINVAL,
        // Filters of container engines. The first two of a privileged host are those of the procfs and of the thread of an empty
        // mount namespace.
        (Who::Host, libc::SYS_clone3) => {
            errno == libc::ENOSYS || (kind == "program" && nth <= 2 && nix::unistd::geteuid().is_root())
        }
        (Who::Launch, libc::SYS_clone3) => errno == libc::ENOSYS,
        // The children that are dead before they are waited for: that of the procfs, and the first of two.
        (Who::Host, libc::SYS_waitid) => kind == "program" && nth <= 2 && nix::unistd::geteuid().is_root(),
        // Into a cgroup of version 2 at once, or else by its file.
        (Who::Init, libc::SYS_clone3) => true,
        // Told twice; the wake-up says the same again.
        (Who::Init, libc::SYS_sendmsg | libc::SYS_read) => true,
        // A container that waits to be closed has told all its results; then it may end by itself as well.
        (Who::Init, libc::SYS_ppoll) => kind == "container",
        // What the kernel says of a mount that is no longer there, and of a capability that it does not know.
        (Who::Init, libc::SYS_umount2) | (Who::Payload, libc::SYS_prctl) => errno == libc::EINVAL,
        // A kernel before 5.19, for which a listener is made without one of its flags.
        (Who::Payload, libc::SYS_seccomp) => kind == "container" && errno == libc::EINVAL,
        _ => false,
    }
}

/// The errno that an error carries, where it is not that of the call.
pub(crate) fn told_instead(who: Who, call: i64, errno: i32) -> Option<i32> {
    match (who, call) {
        // An answer and not a failure: "not writable", with the errno in the words.
        (Who::Host, libc::SYS_faccessat2) => Some(0),
        // It looks as if the old root were gone, and then it is not.
        (Who::Init, libc::SYS_umount2) if errno == libc::EINVAL => Some(libc::EBUSY),
        _ => None,
    }
}
