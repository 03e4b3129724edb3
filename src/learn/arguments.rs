//! Which arguments say what a call does, and which capabilities a call may need.

use crate::broker::Notification;

/// An argument that a filter can judge: the kernel takes it by value, and few values occur.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) index: u8,
    pub(super) width: Width,
}

/// How much of the register the kernel looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Low32,
    Full,
}

const fn int(index: u8) -> Judged {
    Judged { index, width: Width::Low32 }
}

const fn long(index: u8) -> Judged {
    Judged { index, width: Width::Full }
}

/// More combinations than this of a call's arguments are not few.
pub(super) const FEW: usize = 12;

/// The arguments of each call that are judged. Those declared `int` or `unsigned int` in the kernel by their low half.
pub(super) fn judged(name: &str) -> &'static [Judged] {
    const TABLE: &[(&str, &[Judged])] = &[
        ("arch_prctl", &[int(0)]),
        ("clone", &[long(0)]),
        ("fcntl", &[int(1)]),
        ("getsockopt", &[int(1), int(2)]),
        ("ioctl", &[int(1)]),
        ("ioprio_set", &[int(0), int(1)]),
        ("memfd_create", &[int(1)]),
        ("mmap", &[long(2), long(3)]),
        ("mprotect", &[long(2)]),
        ("open", &[int(1)]),
        ("openat", &[int(2)]),
        ("personality", &[int(0)]),
        ("prctl", &[int(0)]),
        ("prlimit64", &[int(0), int(1)]),
        ("sched_setaffinity", &[int(0)]),
        ("setpriority", &[int(0), int(1)]),
        ("setrlimit", &[int(0)]),
        ("setsockopt", &[int(1), int(2)]),
        ("shutdown", &[int(1)]),
        ("socket", &[int(0), int(1), int(2)]),
        ("socketpair", &[int(0), int(1), int(2)]),
        ("unshare", &[long(0)]),
    ];
    TABLE.iter().find(|(call, _)| *call == name).map_or(&[], |(_, judged)| judged)
}

/// The values of the judged arguments.
pub(super) fn values(name: &str, args: [u64; 6]) -> Vec<(u8, u64)> {
    let value = |judged: &Judged| {
        let value = args[usize::from(judged.index)];
        match judged.width {
            Width::Low32 => value & 0xffff_ffff,
            Width::Full => value,
        }
    };
    judged(name).iter().map(|one| (one.index, value(one))).collect()
}

/// Capabilities whose use shows in the call: the call fails without them, or may fail. All others a program can exercise
/// without a trace (`DAC_OVERRIDE` by opening a file, `KILL` by a signal).
pub(super) const VISIBLE: &[(&str, &[&str])] = &[
    ("BPF", &["bpf"]),
    ("CHOWN", &["chown", "fchown", "lchown", "fchownat"]),
    ("IPC_LOCK", &["mlock", "mlock2", "mlockall", "shmctl", "shmget", "memfd_create", "mmap"]),
    ("MKNOD", &["mknod", "mknodat"]),
    ("NET_BIND_SERVICE", &["bind"]),
    ("NET_RAW", &["socket"]),
    ("PERFMON", &["perf_event_open", "bpf"]),
    ("SETGID", &["setgid", "setregid", "setresgid", "setfsgid", "setgroups"]),
    ("SETPCAP", &["capset", "prctl"]),
    ("SETUID", &["setuid", "setreuid", "setresuid", "setfsuid"]),
    ("SYSLOG", &["syslog"]),
    (
        "SYS_ADMIN",
        &[
            "mount",
            "umount2",
            "pivot_root",
            "setns",
            "unshare",
            "clone",
            "clone3",
            "sethostname",
            "setdomainname",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "quotactl",
            "quotactl_fd",
            "swapon",
            "swapoff",
            "bpf",
            "perf_event_open",
            "seccomp",
            "ioctl",
            "fanotify_init",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "setxattrat",
            "keyctl",
            "prctl",
            "ioprio_set",
        ],
    ),
    ("SYS_BOOT", &["reboot", "kexec_load", "kexec_file_load"]),
    ("SYS_CHROOT", &["chroot", "setns"]),
    ("SYS_MODULE", &["init_module", "finit_module", "delete_module"]),
    (
        "SYS_NICE",
        &[
            "setpriority",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
            "sched_setaffinity",
            "ioprio_set",
            "migrate_pages",
            "move_pages",
            "mbind",
        ],
    ),
    ("SYS_PACCT", &["acct"]),
    (
        "SYS_PTRACE",
        &["ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"],
    ),
    ("SYS_RAWIO", &["iopl", "ioperm", "ioctl"]),
    ("SYS_RESOURCE", &["setrlimit", "prlimit64", "fcntl", "prctl", "ioctl", "mq_open", "msgctl"]),
    ("SYS_TIME", &["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"]),
    ("SYS_TTY_CONFIG", &["vhangup", "ioctl"]),
];

/// Whether a call can be one that needs the capability, by what its registers say.
pub(super) fn may_need(capability: &str, call: &Notification<'_>, bound_port: Option<u16>) -> bool {
    const NAMESPACES: u64 = 0x7e02_0080;
    const TYPE: u64 = 0xf;
    let Some(name) = call.syscall().name() else { return false };
    let args = call.args();
    let listed = VISIBLE.iter().any(|(known, calls)| *known == capability && calls.contains(&name));
    if !listed {
        return false;
    }
    match (capability, name) {
        // Below 1024, unless the network namespace says another port (ip_unprivileged_port_start).
        ("NET_BIND_SERVICE", _) => bound_port.is_some_and(|port| (1..1024).contains(&port)),
        ("NET_RAW", _) => {
            args[1] & TYPE == u64::from(libc::SOCK_RAW.unsigned_abs())
                || args[0] & 0xffff_ffff == u64::from(libc::AF_PACKET.unsigned_abs())
        }
        ("SYS_ADMIN", "clone" | "unshare") => args[0] & NAMESPACES != 0,
        ("SYS_RESOURCE", "prlimit64") => args[2] != 0,
        ("IPC_LOCK", "mmap") => {
            args[3] & u64::from((libc::MAP_LOCKED | libc::MAP_HUGETLB).unsigned_abs()) != 0
        }
        ("IPC_LOCK", "memfd_create") => args[1] & u64::from(libc::MFD_HUGETLB) != 0,
        ("MKNOD", "mknod") => is_device(args[1]),
        ("MKNOD", _) => is_device(args[2]),
        _ => true,
    }
}

fn is_device(mode: u64) -> bool {
    let kind = mode & u64::from(libc::S_IFMT);
    kind == u64::from(libc::S_IFCHR) || kind == u64::from(libc::S_IFBLK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_calls_and_capabilities_that_exist() {
        for (capability, calls) in VISIBLE {
            assert!(crate::capability::mask_of([&(*capability).to_owned()]).is_ok(), "{capability}");
            for call in *calls {
                assert!(crate::seccomp::numbers_of(call).is_ok(), "{call}");
            }
        }
        assert!(VISIBLE.is_sorted_by_key(|(capability, _)| *capability));
    }

    #[test]
    fn values_are_as_wide_as_the_kernel_looks() {
        let high = 0xdead_0000_0000_5401;
        assert_eq!(values("ioctl", [3, high, 0, 0, 0, 0]), [(1, 0x5401)]);
        assert_eq!(values("mmap", [0, 0, high, 1, 0, 0]), [(2, high), (3, 1)]);
        assert_eq!(values("read", [1; 6]), []);
    }
}
