//! The profiles, as data: lists of words that are said one after the other, as the methods of a policy say them.
//!
//! They are allow-lists in the spirit of those that container engines ship for a container without capabilities,
//! and tighter where a sandbox for untrusted programs has no use for a call. docs/seccomp.md has them as tables,
//! made from this data.

use super::verdict::{Answer, Rule, equal, with, without};

/// A named policy.
#[derive(Debug)]
#[cfg_attr(not(any(test, feature = "serde")), expect(dead_code, reason = "the name is for documents"))]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) words: &'static [Word],
    /// The answer to every known call that no word is about, or to one whose conditions do not hold.
    pub(super) otherwise: Answer,
}

/// What becomes of some calls; a later word about the same call replaces it.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the reason is for the documentation"))]
pub(super) struct Word {
    /// Calls and groups.
    pub(super) names: &'static [&'static str],
    /// The answer is given if one of them matches, or always if there are none.
    pub(super) rules: &'static [Rule],
    pub(super) answer: Answer,
    pub(super) why: &'static str,
}

const fn allow(names: &'static [&'static str], why: &'static str) -> Word {
    Word { names, rules: &[], answer: Answer::Allow, why }
}

const fn deny(names: &'static [&'static str], why: &'static str) -> Word {
    Word { names, rules: &[], answer: DENIED, why }
}

/// The default answer to a call that exists but is on no list: the program sees a permission it lacks.
pub(super) const DENIED: Answer = Answer::Errno(1); // EPERM

#[cfg(test)]
pub(super) const ALL: [&Profile; 4] = [&DEFAULT, &JUDGE, &PLUGIN, &STRICT];

#[rustfmt::skip] // one name a line would hide the groups
pub(super) static DEFAULT: Profile = Profile {
    name: "new",
    words: &[
        allow(
            &[
                "@default", "@memory", "@memlock", "@basic-io", "@file-system", "@chown", "@sync", "@aio", "@io-event",
                "@ipc", "@network-io", "@process", "@signal", "@timer", "@setuid", "@resources", "@sandbox",
            ],
            "Ordinary programs, compilers and language runtimes run with these. What bounds them is the rest of the \
             sandbox: its mounts, namespaces, ids and limits.",
        ),
    ],
    otherwise: DENIED,
};

#[rustfmt::skip]
pub(super) static JUDGE: Profile = Profile {
    name: "judge",
    words: &[
        allow(
            &[
                "@default", "@memory", "@basic-io", "@file-system", "@io-event", "@process", "@signal", "@timer",
                "@resources",
            ],
            "A compiled program, or an interpreter with its threads and processes, that reads files and writes a result.",
        ),
        allow(
            &["pipe", "pipe2", "memfd_create"],
            "Shells and interpreters talk to their own processes by pipes; virtual machines keep code in such a file.",
        ),
        allow(&["msync"], "The C library calls it on mappings that are its own; it makes nothing else durable."),
        deny(
            &[
                "fremovexattr", "fsetxattr", "lremovexattr", "lsetxattr", "removexattr", "removexattrat", "setxattr",
                "setxattrat", "file_setattr", "mknod", "mknodat",
            ],
            "Nothing that is judged needs attributes or special files.",
        ),
        deny(
            &["inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "listmount", "statmount"],
            "There is nobody to watch.",
        ),
        deny(
            &[
                "ioprio_set", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
                "setpriority",
            ],
            "How its time is measured is the judge's choice.",
        ),
        deny(&["capset", "personality", "process_mrelease", "execveat"], "No runtime that is judged makes them."),
    ],
    otherwise: DENIED,
};

#[rustfmt::skip]
pub(super) static PLUGIN: Profile = Profile {
    name: "plugin",
    words: &[
        allow(
            &[
                "@default", "@memory", "@basic-io", "@file-system", "@io-event", "@process", "@signal", "@timer",
                "@resources",
            ],
            "One process with its threads, which reads and writes the files that it is shown.",
        ),
        allow(&["@sync"], "What it stores may have to be durable."),
        allow(
            &["pipe", "pipe2", "memfd_create"],
            "Threads wake each other up by pipes, and large messages go by files in memory.",
        ),
        allow(
            &[
                "getpeername", "getsockname", "getsockopt", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg",
                "sendto", "shutdown",
            ],
            "Talking over the sockets that the host gave. Descriptors can be sent and received.",
        ),
        Word {
            names: &["setsockopt"],
            rules: &[&[equal(1, SOL_SOCKET)]],
            answer: Answer::Allow,
            why: "Timeouts and buffers. The options of protocols are large interfaces with a record.",
        },
        Word {
            names: &["socketpair"],
            rules: &[&[equal(0, AF_UNIX)]],
            answer: Answer::Allow,
            why: "Event loops wake themselves up by a pair. It leads nowhere.",
        },
        Word {
            names: &["clone"],
            rules: &[&[with(0, CLONE_THREAD), without(0, super::groups::NEW_NAMESPACES)]],
            answer: Answer::Allow,
            why: "Threads, and no other process.",
        },
        deny(
            &["fork", "vfork", "execve", "execveat"],
            "A plugin is one process, and stays the program that it was started as.",
        ),
        deny(
            &["mknod", "mknodat", "capset", "personality", "process_mrelease"],
            "No plugin makes special files, or changes how it is run.",
        ),
    ],
    otherwise: DENIED,
};

#[rustfmt::skip]
pub(super) static STRICT: Profile = Profile {
    name: "strict",
    words: &[
        allow(&["exit", "exit_group"], "It ends."),
        allow(
            &["read", "readv", "pread64", "write", "writev", "lseek", "close", "fstat"],
            "Its streams, and the files that the dynamic loader opens.",
        ),
        Word {
            names: &["open"],
            rules: &[&[without(1, NOT_READING)]],
            answer: Answer::Allow,
            why: "The dynamic loader opens libraries. Files are opened for reading only, and none is made.",
        },
        Word {
            names: &["openat"],
            rules: &[&[without(2, NOT_READING)]],
            answer: Answer::Allow,
            why: "The same.",
        },
        allow(
            &["access", "faccessat", "newfstatat", "stat", "readlink", "readlinkat"],
            "The loader looks whether files are there, and which.",
        ),
        allow(
            &["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"],
            "Memory of the process itself.",
        ),
        allow(
            &["arch_prctl", "get_robust_list", "rseq", "set_robust_list", "set_tid_address", "futex"],
            "The C library sets its one thread up, and locks.",
        ),
        Word {
            names: &["prlimit64"],
            rules: &[&[equal(0, 0)]],
            answer: Answer::Allow,
            why: "The C library asks for the limit of the stack. Only the caller's own.",
        },
        allow(
            &["getrandom", "getrlimit", "sched_getaffinity", "uname", "getpid", "gettid"],
            "What runtimes ask when they start. `getpid` and `gettid` are how `abort` finds itself.",
        ),
        Word {
            names: &["tgkill"],
            rules: &[&[equal(2, SIGABRT)]],
            answer: Answer::Allow,
            why: "How `abort` ends a program; a failed assertion is not a denied call.",
        },
        allow(
            &["clock_getres", "clock_gettime", "gettimeofday", "time"],
            "Where the kernel has no clock that is read without a call.",
        ),
        allow(
            &["rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"],
            "Handlers of its own faults, such as that of a stack that has overflowed.",
        ),
        allow(&["poll", "ppoll"], "The Rust runtime looks whether its streams are open."),
        Word {
            names: &["ioctl"],
            rules: &[&[equal(1, TCGETS)]],
            answer: Answer::Allow,
            why: "The C library asks whether its output is a terminal.",
        },
        Word {
            names: &["fcntl"],
            rules: &[&[equal(1, F_GETFD)], &[equal(1, F_GETFL)]],
            answer: Answer::Allow,
            why: "The Rust runtime looks whether its streams are open.",
        },
    ],
    otherwise: Answer::Kill,
};

const AF_UNIX: u32 = 1;
const SOL_SOCKET: u32 = 1;
const CLONE_THREAD: u32 = 0x1_0000;
const SIGABRT: u32 = 6;
const TCGETS: u32 = 0x5401;
const F_GETFD: u32 = 1;
const F_GETFL: u32 = 3;
/// `O_WRONLY`, `O_RDWR`, `O_CREAT`, `O_TRUNC`, and the bit of `O_TMPFILE` that is not `O_DIRECTORY`.
const NOT_READING: u32 = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20_000_000;
