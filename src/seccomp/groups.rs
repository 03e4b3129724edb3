//! Groups of system calls, by names in the style of systemd.exec(5): every call is in exactly one of them.
//!
//! The default profile allows a group as a whole or not at all; the calls of an allowed group that need
//! conditions have them here, and keep them wherever the group is allowed.

use super::verdict::{Condition, Rule, equal, not_equal, without};

/// System calls that belong together.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "what they are is for the documentation"))]
pub(super) struct Group {
    /// With the `@` in front.
    pub(super) name: &'static str,
    pub(super) calls: &'static [&'static str],
    /// What they are, and what bounds them or makes them dangerous.
    pub(super) what: &'static str,
}

/// The group of this name, which starts with `@`.
pub(super) fn find(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// The rules for a call when it is allowed as a member of its group.
pub(super) fn conditions(call: &str) -> Option<&'static [Rule]> {
    CONDITIONAL.iter().find(|entry| entry.0 == call).map(|entry| entry.1)
}

/// In the order of the documentation: first what the default profile allows.
#[rustfmt::skip] // one name a line would hide the groups
pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "@default",
        calls: &[
            "arch_prctl", "clock_getres", "clock_gettime", "clock_nanosleep", "execve", "execveat", "exit",
            "exit_group", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
            "get_robust_list", "getcpu", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp",
            "getpid", "getppid", "getrandom", "getresgid", "getresuid", "getsid", "gettid", "gettimeofday",
            "getuid", "membarrier", "nanosleep", "pause", "restart_syscall", "rseq", "rt_sigreturn",
            "sched_yield", "set_robust_list", "set_tid_address", "sysinfo", "time", "times", "uname", "uprobe",
            "uretprobe",
        ],
        what: "What every program does: it starts and ends, waits for its threads, asks who and where it is and what \
               time it is. The kernel itself plants `uprobe` and `uretprobe` in programs that the host's root traces; \
               a program that makes them on its own is refused there.",
    },
    Group {
        name: "@memory",
        calls: &[
            "brk", "get_mempolicy", "madvise", "map_shadow_stack", "mmap", "mprotect", "mremap", "mseal", "munmap",
            "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
        ],
        what: "Memory of the process itself.",
    },
    Group {
        name: "@memlock",
        calls: &["memfd_secret", "mlock", "mlock2", "mlockall", "munlock", "munlockall"],
        what: "Memory that is not swapped out. All of it is charged against `RLIMIT_MEMLOCK`.",
    },
    Group {
        name: "@basic-io",
        calls: &[
            "close", "close_range", "dup", "dup2", "dup3", "fcntl", "ioctl", "lseek", "pread64", "preadv",
            "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv", "sendfile", "splice",
            "tee", "vmsplice", "write", "writev",
        ],
        what: "Reading and writing what is open already: bounded by the descriptors that the program was given.",
    },
    Group {
        name: "@file-system",
        calls: &[
            "access", "chdir", "chmod", "copy_file_range", "creat", "faccessat", "faccessat2", "fadvise64",
            "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fgetxattr", "file_getattr",
            "file_setattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "ftruncate",
            "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "getxattrat", "inotify_add_watch",
            "inotify_init", "inotify_init1", "inotify_rm_watch", "lgetxattr", "link", "linkat", "listmount",
            "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "lstat", "mkdir", "mkdirat",
            "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "readlink", "readlinkat",
            "removexattr", "removexattrat", "rename", "renameat", "renameat2", "rmdir", "setxattr",
            "setxattrat", "stat", "statfs", "statmount", "statx", "symlink", "symlinkat", "truncate", "umask",
            "unlink", "unlinkat", "utime", "utimensat", "utimes",
        ],
        what: "Files and directories: bounded by the mount namespace, and by permissions as seen from the user \
               namespace. Attributes of the `security` and `trusted` kinds need capabilities. `listmount` and \
               `statmount` tell what `/proc/self/mountinfo` tells.",
    },
    Group {
        name: "@chown",
        calls: &["chown", "fchown", "fchownat", "lchown"],
        what: "Owners of files: only ids that the user namespace maps.",
    },
    Group {
        name: "@sync",
        calls: &["fdatasync", "fsync", "msync", "sync", "sync_file_range", "syncfs"],
        what: "Having files written to the disk.",
    },
    Group {
        name: "@aio",
        calls: &["io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit"],
        what: "The older asynchronous I/O, which makes no system calls on the program's behalf and so hides none.",
    },
    Group {
        name: "@io-event",
        calls: &[
            "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
            "eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select",
        ],
        what: "Waiting for events.",
    },
    Group {
        name: "@ipc",
        calls: &[
            "memfd_create", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend",
            "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "semctl", "semget", "semop",
            "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
        ],
        what: "Pipes, files in memory, and the queues, semaphores and shared memory of System V and POSIX: objects of \
               the IPC namespace.",
    },
    Group {
        name: "@network-io",
        calls: &[
            "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
            "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
            "socket", "socketpair",
        ],
        what: "Sockets: bounded by the network namespace.",
    },
    Group {
        name: "@process",
        calls: &[
            "capget", "capset", "clone", "clone3", "fork", "kill", "personality", "pidfd_open",
            "pidfd_send_signal", "prctl", "process_mrelease", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
            "setpgid", "setsid", "tgkill", "tkill", "vfork", "wait4", "waitid",
        ],
        what: "Starting processes and threads, signalling them and waiting for them. Signals reach only what the PID \
               namespace shows; `capset` can only give capabilities up.",
    },
    Group {
        name: "@signal",
        calls: &[
            "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigsuspend", "rt_sigtimedwait",
            "sigaltstack", "signalfd", "signalfd4",
        ],
        what: "Handling signals.",
    },
    Group {
        name: "@timer",
        calls: &[
            "alarm", "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun",
            "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
        ],
        what: "Timers.",
    },
    Group {
        name: "@setuid",
        calls: &[
            "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid",
            "setuid",
        ],
        what: "Changing one's ids. Without capabilities, and under `no_new_privs`, these can only give up privileges.",
    },
    Group {
        name: "@resources",
        calls: &[
            "getpriority", "getrlimit", "getrusage", "ioprio_get", "ioprio_set", "prlimit64",
            "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
            "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
            "sched_setattr", "sched_setparam", "sched_setscheduler", "setpriority", "setrlimit",
        ],
        what: "Limits and priorities: reading anyone's, setting one's own.",
    },
    Group {
        name: "@sandbox",
        calls: &["landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"],
        what: "Confining oneself further: filters and Landlock rulesets stack and only ever tighten.",
    },
    Group {
        name: "@namespace",
        calls: &["setns", "unshare"],
        what: "New namespaces. A user namespace of its own gives a program every capability inside it, and with them the \
               parts of the kernel in which most privilege escalations were found.",
    },
    Group {
        name: "@mount",
        calls: &[
            "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount",
            "open_tree", "open_tree_attr", "pivot_root", "umount2",
        ],
        what: "Mounts, through the old and the new interface, and other roots.",
    },
    Group {
        name: "@handle",
        calls: &["fanotify_init", "fanotify_mark", "name_to_handle_at", "open_by_handle_at"],
        what: "Files by handle, past the root directory, and watching whole filesystems.",
    },
    Group {
        name: "@debug",
        calls: &[
            "cachestat", "kcmp", "lookup_dcookie", "mincore", "perf_event_open", "pidfd_getfd",
            "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
        ],
        what: "Reaching into other processes, the sandbox's init included, and watching what they do: `mincore` and \
               `cachestat` tell which pages of a shared file others have read.",
    },
    Group {
        name: "@bpf",
        calls: &["bpf", "userfaultfd"],
        what: "Large interfaces with a record of privilege escalations.",
    },
    Group {
        name: "@io-uring",
        calls: &["io_uring_enter", "io_uring_register", "io_uring_setup"],
        what: "A large interface with a record, which also makes system calls that no filter sees.",
    },
    Group {
        name: "@keyring",
        calls: &["add_key", "keyctl", "request_key"],
        what: "Keyrings belong to the user id, not to any namespace, and so connect sandboxes that share one.",
    },
    Group {
        name: "@numa",
        calls: &[
            "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node",
        ],
        what: "Placing memory is the host's business.",
    },
    Group {
        name: "@clock",
        calls: &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"],
        what: "Setting the clock of the machine.",
    },
    Group {
        name: "@cpu-emulation",
        calls: &["get_thread_area", "modify_ldt", "set_thread_area"],
        what: "Segments of 16-bit and 32-bit programs; `modify_ldt` has a record.",
    },
    Group {
        name: "@raw-io",
        calls: &["ioperm", "iopl"],
        what: "I/O ports.",
    },
    Group {
        name: "@module",
        calls: &["delete_module", "finit_module", "init_module"],
        what: "Modules of the kernel.",
    },
    Group {
        name: "@reboot",
        calls: &["kexec_file_load", "kexec_load", "reboot"],
        what: "Another kernel, or none.",
    },
    Group {
        name: "@swap",
        calls: &["swapoff", "swapon"],
        what: "Swap.",
    },
    Group {
        name: "@admin",
        calls: &[
            "acct", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "quotactl", "quotactl_fd",
            "setdomainname", "sethostname", "syslog", "vhangup",
        ],
        what: "Accounting, quotas, the kernel's log, names and labels: the machine is not the sandbox's.",
    },
    Group {
        name: "@obsolete",
        calls: &[
            "_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms",
            "getpmsg", "nfsservctl", "putpmsg", "query_module", "security", "sysfs", "tuxcall", "uselib",
            "ustat", "vserver",
        ],
        what: "Calls that the kernel has dropped or never had, and some that nothing uses any more.",
    },
];

/// How calls are allowed that are dangerous with some arguments: when one of the rules matches them.
pub(super) const CONDITIONAL: &[(&str, &[Rule])] = &[
    ("clone", &[&[without(0, NEW_NAMESPACES)]]),
    ("fcntl", &[&[not_equal(1, F_SETLEASE), not_equal(1, F_SETDELEG)]]),
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

/// Answers `ENOSYS` unless it is named: its flags are in memory, where a filter cannot read them, and every libc
/// then falls back to `clone`, whose flags are an argument.
pub(super) const CLONE3: &str = "clone3";

/// The first argument is the process; zero means the caller. Aimed at the sandbox's init, which has the
/// payload's user id so that the kernel permits it, these calls kill (`RLIMIT_CPU` 0) or starve it.
const OWN_FIRST: &[Rule] = &[&[equal(0, 0)]];

/// The second argument is the process; zero means the caller. The same reason.
const OWN_SECOND: Condition = equal(1, 0);

/// Local and internet sockets, and the netlink protocol by which libcs list interfaces. Every other family is
/// a protocol module that the call itself would load (`AF_ALG`, `AF_PACKET`, …), or leaves the network
/// namespace (`AF_VSOCK`).
pub(super) const SOCKETS: &[Rule] = &[
    &[equal(0, AF_UNIX)],
    &[equal(0, AF_INET)],
    &[equal(0, AF_INET6)],
    &[equal(0, AF_NETLINK), equal(2, NETLINK_ROUTE)],
];

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`. `CLONE_NEWTIME` (0x80) is
/// not among them because `clone` takes its low byte as the exit signal and cannot be given that flag.
pub(super) const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// A lease on a file that is shown read-only has whoever opens it outside wait, for 45 seconds by default. The owner of
/// a file can take one, which a program of an unprivileged host is for all files of that host's user.
const F_SETLEASE: u32 = 1024;

/// The same of a directory, for whoever makes or removes something in it. Linux 6.19.
const F_SETDELEG: u32 = 1040;

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
