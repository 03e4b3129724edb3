//! The default profile, as data: what a program may call when its sandbox says nothing about system calls.
//!
//! It is an allow-list in the spirit of those that container engines ship for a container without
//! capabilities, and tighter where a sandbox for untrusted programs has no use for a call. What is on no list
//! here fails with `EPERM`:
//!
//! - namespaces (`unshare`, `setns`), mounts through the old and the new interface, `chroot`, `pivot_root`: a
//!   user namespace of its own gives a program every capability inside it, and with them the parts of the
//!   kernel in which most privilege escalations were found (file system contexts, netfilter, overlay);
//! - `bpf`, `perf_event_open`, `userfaultfd`, `io_uring_*`, `modify_ldt`, `fanotify_init`: large interfaces
//!   with a history, and for io_uring one that makes system calls no filter sees;
//! - `ptrace`, `process_vm_*`, `process_madvise`, `pidfd_getfd`, `kcmp`: reach into other processes, the
//!   sandbox's own init included;
//! - `keyctl`, `add_key`, `request_key`: keyrings belong to the user id, not to any namespace, and so connect
//!   sandboxes that share one;
//! - `mincore`, `cachestat`: tell which pages of a shared file others have read;
//! - `open_by_handle_at`, `name_to_handle_at`: files by handle, past the root directory;
//! - `mbind`, `set_mempolicy*`, `move_pages`, `migrate_pages`: placing memory is the host's business;
//! - `lsm_*`: labels are chosen by the sandbox;
//! - modules, `kexec_*`, `reboot`, swap, quotas, accounting, `syslog`, setting the clock or the host name,
//!   I/O ports, `vhangup`: the machine is not the sandbox's;
//! - calls that the kernel has dropped or never had (`uselib`, `create_module`, `tuxcall`, …).

use super::verdict::{Condition, Rule, equal, not_equal, without};

/// Allowed whatever the arguments are. Names an architecture lacks are skipped there.
#[rustfmt::skip] // one name a line would hide the groups
pub(super) const ALLOWED: &[&[&str]] = &[
    // Reading and writing what is open already: bounded by the descriptors the sandbox was given.
    &[
        "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "fadvise64", "fallocate", "fcntl",
        "fdatasync", "flock", "fsync", "ftruncate", "lseek", "pread64", "preadv", "preadv2", "pwrite64",
        "pwritev", "pwritev2", "read", "readahead", "readv", "sendfile", "splice", "sync", "sync_file_range",
        "syncfs", "tee", "vmsplice", "write", "writev",
    ],
    // Files by name: bounded by the mount namespace, and by permissions as seen from the user namespace.
    &[
        "access", "chdir", "chmod", "chown", "creat", "faccessat", "faccessat2", "fchdir", "fchmod",
        "fchmodat", "fchmodat2", "fchown", "fchownat", "file_getattr", "file_setattr", "fstat", "fstatfs",
        "futimesat", "getcwd", "getdents", "getdents64", "lchown", "link", "linkat", "lstat", "mkdir",
        "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "readlink", "readlinkat",
        "rename", "renameat", "renameat2", "rmdir", "stat", "statfs", "statx", "symlink", "symlinkat",
        "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes",
    ],
    // Extended attributes. Those of the security and trusted namespaces need capabilities, which a sandbox
    // lacks.
    &[
        "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
        "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr", "removexattrat",
        "setxattr", "setxattrat",
    ],
    // Reading the mount table of the own namespace, as `/proc/self/mountinfo` shows it.
    &["listmount", "statmount"],
    // Memory of the process itself. `memfd_secret` is charged like locked memory.
    &[
        "brk", "get_mempolicy", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret",
        "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock",
        "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    ],
    // Making, replacing, ending and awaiting processes. `clone` has conditions below, `clone3` an answer of
    // its own.
    &["execve", "execveat", "exit", "exit_group", "fork", "process_mrelease", "vfork", "wait4", "waitid"],
    // Signals reach only what the pid namespace shows.
    &[
        "kill", "pause", "pidfd_open", "pidfd_send_signal", "restart_syscall", "rt_sigaction",
        "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
        "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack", "signalfd", "signalfd4", "tgkill", "tkill",
    ],
    // Threads. The kernel itself plants `uretprobe` and `uprobe` in programs that the host's root traces; a
    // program that makes them on its own is refused there.
    &[
        "arch_prctl", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
        "getcpu", "gettid", "rseq", "set_robust_list", "set_tid_address", "uprobe", "uretprobe",
    ],
    // Waiting for events.
    &[
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd",
        "eventfd2", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "pipe", "pipe2",
        "poll", "ppoll", "pselect6", "select",
    ],
    // The older asynchronous I/O, which makes no system calls on the program's behalf and so hides none.
    &["io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit"],
    // Sockets that exist. `socket` and `socketpair`, which make them, have conditions below.
    &[
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
        "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    ],
    // System V and POSIX queues, semaphores and shared memory: objects of the IPC namespace.
    &[
        "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl",
        "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt",
        "shmget",
    ],
    // Reading clocks, sleeping, timers. Nothing that sets a clock.
    &[
        "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep",
        "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
        "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    ],
    // Own identity. Without capabilities, and under no_new_privs, these can only give up privileges.
    &[
        "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpid",
        "getppid", "getresgid", "getresuid", "getsid", "getuid", "setfsgid", "setfsuid", "setgid",
        "setgroups", "setpgid", "setregid", "setresgid", "setresuid", "setreuid", "setsid", "setuid",
    ],
    // Limits and priorities: reading anyone's, setting one's own. `setrlimit` has no process argument.
    &[
        "getpriority", "getrlimit", "getrusage", "ioprio_get", "sched_get_priority_max",
        "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
        "sched_getscheduler", "sched_rr_get_interval", "sched_yield", "setrlimit",
    ],
    // What every program asks about the machine.
    &["getrandom", "sysinfo", "times", "uname"],
    // Confining oneself further: filters and Landlock rulesets stack and only ever tighten.
    &["landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"],
];

/// Allowed when one of the rules matches the arguments; otherwise `EPERM`.
pub(super) const CONDITIONAL: &[(&str, &[Rule])] = &[
    ("clone", &[&[without(0, NEW_NAMESPACES)]]),
    ("ioctl", &[&[not_equal(1, TIOCSTI), not_equal(1, TIOCLINUX)]]),
    // A best-effort class or level for another process slows it down, the sandbox's init included.
    ("ioprio_set", &[&[equal(0, IOPRIO_WHO_PROCESS), OWN_SECOND]]),
    // The bits beyond these change how addresses are laid out and checked (READ_IMPLIES_EXEC,
    // MMAP_PAGE_ZERO).
    (
        "personality",
        &[
            &[equal(0, PER_LINUX)],
            &[equal(0, PER_LINUX32)],
            &[equal(0, UNAME26)],
            &[equal(0, UNAME26 | PER_LINUX32)],
            &[equal(0, PERSONALITY_QUERY)],
        ],
    ),
    ("prctl", &[&[not_equal(0, PR_SCHED_CORE)]]),
    ("prlimit64", OWN_FIRST),
    ("sched_setaffinity", OWN_FIRST),
    ("sched_setattr", OWN_FIRST),
    ("sched_setparam", OWN_FIRST),
    ("sched_setscheduler", OWN_FIRST),
    ("setpriority", &[&[equal(0, PRIO_PROCESS), OWN_SECOND]]),
    ("socket", SOCKETS),
    ("socketpair", SOCKETS),
];

/// Answers `ENOSYS`: its flags are in memory, where a filter cannot read them, and every libc then falls back
/// to `clone`, whose flags are an argument.
pub(super) const CLONE3: &str = "clone3";

/// The calls that can make a set-user-ID or set-group-ID file, each allowed only without those mode bits. On
/// a directory that the host shares writable, such a file would run with the payload's host ids for whoever
/// starts it outside, where no `no_new_privs` holds.
pub(super) const SETUID_GUARD: &[(&str, &[Rule])] = &[
    ("chmod", &[&[without(1, SET_ID)]]),
    ("creat", &[&[without(1, SET_ID)]]),
    ("fchmod", &[&[without(1, SET_ID)]]),
    ("fchmodat", &[&[without(2, SET_ID)]]),
    ("fchmodat2", &[&[without(2, SET_ID)]]),
    ("mkdir", &[&[without(1, SET_ID)]]),
    ("mkdirat", &[&[without(2, SET_ID)]]),
    ("mknod", &[&[without(1, SET_ID)]]),
    ("mknodat", &[&[without(2, SET_ID)]]),
    // Without a flag that creates, the mode is whatever the register held.
    ("open", &[&[without(1, CREATES)], &[without(2, SET_ID)]]),
    ("openat", &[&[without(2, CREATES)], &[without(3, SET_ID)]]),
];

/// Answer `ENOSYS` under the guard, so that callers fall back to `openat`: the flags and mode of `openat2`
/// are in memory, and what is asked of an io_uring no filter sees at all.
pub(super) const SETUID_GUARD_ENOSYS: &[&str] = &["io_uring_setup", "openat2"];

/// The first argument is the process; zero means the caller. Aimed at the sandbox's init, which has the
/// payload's user id so that the kernel permits it, these calls kill (`RLIMIT_CPU` 0) or starve it.
const OWN_FIRST: &[Rule] = &[&[equal(0, 0)]];

/// The second argument is the process; zero means the caller. The same reason.
const OWN_SECOND: Condition = equal(1, 0);

/// Local and internet sockets, and the netlink protocol by which libcs list interfaces. Every other family is
/// a protocol module that the call itself would load (`AF_ALG`, `AF_PACKET`, …), or leaves the network
/// namespace (`AF_VSOCK`).
const SOCKETS: &[Rule] = &[
    &[equal(0, AF_UNIX)],
    &[equal(0, AF_INET)],
    &[equal(0, AF_INET6)],
    &[equal(0, AF_NETLINK), equal(2, NETLINK_ROUTE)],
];

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`. `CLONE_NEWTIME` (0x80) is
/// not among them because `clone` takes its low byte as the exit signal and cannot be given that flag.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Puts a byte into the terminal's input, as if typed at the shell that started the sandbox (CVE-2017-5226).
const TIOCSTI: u32 = 0x5412;
/// Pastes a selection on a virtual console, to the same effect.
const TIOCLINUX: u32 = 0x541c;

/// Gives a process, also another one, a core scheduling cookie: no task without it then runs on the same
/// core's other threads, which takes CPU time that no limit counts.
const PR_SCHED_CORE: u32 = 62;

const IOPRIO_WHO_PROCESS: u32 = 1;
const PRIO_PROCESS: u32 = 0;

const PER_LINUX: u32 = 0;
const PER_LINUX32: u32 = 0x8;
const UNAME26: u32 = 0x2_0000;
/// Changes nothing and returns the current value.
const PERSONALITY_QUERY: u32 = 0xffff_ffff;

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u32 = 0o6000;

/// `O_CREAT`, and the bit of `O_TMPFILE` that is not `O_DIRECTORY`; the same on both architectures.
const CREATES: u32 = 0o100 | 0o20_000_000;
