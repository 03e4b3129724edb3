//! What narrows whatever a policy says: the guard of writable host directories, and calls that are refused.

use super::profile::DENIED;
use super::resolve::{Table, UNKNOWN};
use super::verdict::{Answer, Rule, at_least, at_most, not_equal, without};
use super::{Refused, groups};

/// Narrows whatever would let a set-user-ID file be made, and never widens: what is denied stays denied.
pub(super) fn narrow(table: &mut Table) {
    for &(name, rules) in GUARDED {
        table.change(name, |verdict| verdict.narrow(rules, DENIED));
    }
    for name in UNREADABLE {
        table.change(name, |verdict| verdict.refuse(UNKNOWN));
    }
}

/// Refuses groups of calls.
pub(super) fn refuse(table: &mut Table, refused: Refused) {
    let groups = [
        (refused.sockets, &["socket"][..], &[("socketpair", WITHOUT_DATAGRAMS)][..]),
        (refused.ipc, IPC, &[]),
        (refused.signals, SIGNALS, &[("fcntl", NO_OWNER), ("ioctl", NO_OWNER_OF_SOCKET)]),
        (refused.metadata, METADATA, &[("ioctl", NO_FLAGS)]),
        (refused.truncation, &["truncate"], &[]),
    ];
    for (_, names, narrowed) in groups.into_iter().filter(|(is, ..)| *is) {
        for name in names {
            table.change(name, |verdict| verdict.refuse(DENIED));
        }
        for (name, rules) in narrowed {
            table.change(name, |verdict| verdict.narrow(rules, DENIED));
        }
    }
    if refused.channels {
        close_channels(table);
    }
    if refused.detours {
        close_detours(table);
    }
    // What is asked of it no filter sees.
    if refused != Refused::default() {
        table.change("io_uring_setup", |verdict| verdict.refuse(UNKNOWN));
    }
}

/// What `src/landlock/guard.rs` refuses where there is no policy, with the same errors.
fn close_detours(table: &mut Table) {
    // EPROTONOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT, on both architectures.
    const NO_PROTOCOL: Answer = Answer::Errno(93);
    const NOT_SUPPORTED: Answer = Answer::Errno(95);
    const NO_FAMILY: Answer = Answer::Errno(97);
    for (name, rules) in [("sendto", FLAGS_FOURTH), ("sendmmsg", FLAGS_FOURTH), ("sendmsg", FLAGS_THIRD)] {
        table.change(name, |verdict| verdict.narrow(rules, NOT_SUPPORTED));
    }
    table.change("socket", |verdict| verdict.narrow(NOT_BY_TCP, NO_PROTOCOL).narrow(NOT_SMC, NO_FAMILY));
}

const MSG_FASTOPEN: u32 = 0x2000_0000;
const AF_SMC: u32 = 43;
const IPPROTO_SMC: u32 = 256;
const IPPROTO_MPTCP: u32 = 262;

const FLAGS_THIRD: &[Rule] = &[&[without(2, MSG_FASTOPEN)]];
const FLAGS_FOURTH: &[Rule] = &[&[without(3, MSG_FASTOPEN)]];
const NOT_SMC: &[Rule] = &[&[not_equal(0, AF_SMC)]];
/// No protocol that falls back to TCP.
const NOT_BY_TCP: &[Rule] = &[&[not_equal(2, IPPROTO_MPTCP), not_equal(2, IPPROTO_SMC)]];

/// Streams and sequenced packets go to the other end of the pair. One end of a pair of datagrams (`SOCK_DGRAM` is 2, and
/// `SOCK_RAW`, 3, is the same here) sends and connects to whoever has a name.
const WITHOUT_DATAGRAMS: &[Rule] = &[&[without(1, 2)]];

/// Queues, semaphores and shared memory: opening them, and whatever takes the number of one that others have opened. Those of
/// System V are small and can be guessed.
const IPC: &[&str] = &[
    "mq_open",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmget",
];

const SIGNALS: &[&str] =
    &["kill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill"];

/// Without `F_SETOWN` and `F_SETOWN_EX`: the kernel sends the owner of a descriptor the signal that `F_SETSIG` names.
const NO_OWNER: &[Rule] = &[&[not_equal(1, 8), not_equal(1, 15)]];

/// The same of sockets: without `FIOSETOWN` and `SIOCSPGRP`.
const NO_OWNER_OF_SOCKET: &[Rule] = &[&[not_equal(1, 0x8901), not_equal(1, 0x8902)]];

/// Modes, owners, times and attributes, which the owner of a file changes without opening it: landlock does not look.
const METADATA: &[&str] = &[
    "chmod",
    "chown",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "file_setattr",
    "fremovexattr",
    "fsetxattr",
    "futimesat",
    "lchown",
    "lremovexattr",
    "lsetxattr",
    "removexattr",
    "removexattrat",
    "setxattr",
    "setxattrat",
    "utime",
    "utimensat",
    "utimes",
];

/// Without `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`, `FS_IOC_ENABLE_VERITY` and `FS_IOC_SET_ENCRYPTION_POLICY`, for which a
/// descriptor is enough that is open for reading.
const NO_FLAGS: &[Rule] = &[&[
    not_equal(1, 0x4008_6602),
    not_equal(1, 0x401c_5820),
    not_equal(1, 0x4080_6685),
    not_equal(1, 0x400c_6613),
]];

/// Whatever two programs can talk by that see the same files and the same kernel.
fn close_channels(table: &mut Table) {
    // ENOLCK and EOPNOTSUPP, on both architectures.
    const NO_LOCK: Answer = Answer::Errno(37);
    const NOT_SUPPORTED: Answer = Answer::Errno(95);
    const INVALID: Answer = Answer::Errno(22);
    for name in ["socket", "socketpair"] {
        table.change(name, |verdict| verdict.narrow(groups::SOCKETS, DENIED));
    }
    for name in ["preadv2", "pwritev2"] {
        table.change(name, |verdict| verdict.narrow(WAITING, NOT_SUPPORTED));
    }
    table.change("fcntl", |verdict| verdict.narrow(NO_LOCKS, NO_LOCK).narrow(OF_DESCRIPTORS, INVALID));
    table.change("flock", |verdict| verdict.refuse(NO_LOCK));
    // The flags of its requests are in memory, `RWF_NOWAIT` among them, and there is one number of them for the machine.
    for name in ["inotify_init", "inotify_init1", "io_setup"] {
        table.change(name, |verdict| verdict.refuse(UNKNOWN));
    }
    for name in CHANNELS {
        table.change(name, |verdict| verdict.refuse(DENIED));
    }
}

/// Denied by the default profile as well, where a policy may have allowed them.
const CHANNELS: &[&str] = &[
    "add_key",
    "bpf",
    "cachestat",
    "fanotify_init",
    "keyctl",
    "mincore",
    "name_to_handle_at",
    "open_by_handle_at",
    "perf_event_open",
    "request_key",
    "syslog",
    "userfaultfd",
];

/// Without `RWF_NOWAIT`: a read that is to fail where it had to wait tells whether others have read that part of a file. The
/// flags are the sixth argument.
const WAITING: &[Rule] = &[&[without(5, 8)]];

/// No lock, lease or notice: `F_GETLK`, `F_SETLK`, `F_SETLKW`, `F_SETLEASE`, `F_GETLEASE`, `F_NOTIFY`, `F_OFD_GETLK`,
/// `F_OFD_SETLK`, `F_OFD_SETLKW`. The same on both architectures.
const NO_LOCKS: &[Rule] = &[&[
    not_equal(1, 5),
    not_equal(1, 6),
    not_equal(1, 7),
    not_equal(1, 1024),
    not_equal(1, 1025),
    not_equal(1, 1026),
    not_equal(1, 36),
    not_equal(1, 37),
    not_equal(1, 38),
]];

/// The commands that are about a descriptor, a pipe or a file in memory, and not about an inode that others see: no hint about
/// the life of what is written, no delegation, and nothing that a newer kernel may have. `F_DUPFD` to `F_SETFL`, `F_SETOWN` to
/// `F_GETSIG`, `F_SETOWN_EX` to `F_GETOWNER_UIDS`, `F_DUPFD_QUERY`, `F_CREATED_QUERY`, `F_DUPFD_CLOEXEC` to `F_GET_SEALS`.
const OF_DESCRIPTORS: &[Rule] = &[
    &[at_most(1, 4)],
    &[at_least(1, 8), at_most(1, 11)],
    &[at_least(1, 15), at_most(1, 17)],
    &[at_least(1, 1027), at_most(1, 1028)],
    &[at_least(1, 1030), at_most(1, 1034)],
];

/// The calls that can make a set-user-ID or set-group-ID file, each allowed only without those mode bits. On
/// a directory that the host shares writable, such a file would run with the payload's host ids for whoever
/// starts it outside, where no `no_new_privs` holds.
pub(super) const GUARDED: &[(&str, &[Rule])] = &[
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
pub(super) const UNREADABLE: &[&str] = &["io_uring_setup", "openat2"];

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u32 = 0o6000;

/// `O_CREAT`, and the bit of `O_TMPFILE` that is not `O_DIRECTORY`; the same on both architectures.
const CREATES: u32 = 0o100 | 0o20_000_000;
