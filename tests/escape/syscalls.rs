//! Calls by which kernels were broken into, or that the machine is not the sandbox's for.

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, in_child, reached, text, tried};
use crate::support::raw;

const FILTER: &str = "the default filter";
const OPEN: Control = Control::Without("`allow_all_syscalls()`", |sandbox| sandbox.allow_all_syscalls());

attacks! {
    thirty_two_bit_call {
        what: "calls by the table of 32-bit programs (`int 0x80`)",
        class: &["A15"],
        stopped_by: "the filter kills foreign architectures",
        unfiltered: false,
        method: Method::Inside(thirty_two_bit_call),
        may_lack: true,
    }
    x32_call {
        what: "calls by a number of the x32 interface",
        class: &["A15"],
        stopped_by: "the filter kills foreign interfaces",
        unfiltered: false,
        method: Method::Inside(x32_call),
        control: OPEN,
        may_lack: true,
    }
    bpf_map {
        what: "makes a BPF map",
        class: &["A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(bpf_map),
        control_by: Hosts::Root,
    }
    performance_event {
        what: "opens a performance event (CVE-2013-2094)",
        class: &["A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(performance_event),
        control_by: Hosts::Root,
    }
    user_fault_descriptor {
        what: "handles its own page faults, which widens races in the kernel",
        class: &["A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(|_| {
            const UFFD_USER_MODE_ONLY: usize = 1;
            tried(libc::SYS_userfaultfd, [UFFD_USER_MODE_ONLY])
        }),
        may_lack: true,
    }
    io_uring {
        what: "makes an io_uring, whose calls no filter sees",
        class: &["A10", "A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(|_| tried(libc::SYS_io_uring_setup, [1, at(&mut [0_u64; 15])])),
        may_lack: true,
    }
    local_descriptor_table {
        what: "changes its local descriptor table",
        class: &["A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(local_descriptor_table),
        may_lack: true,
    }
    executable_personality {
        what: "makes all memory executable and turns off random addresses by its personality",
        class: &["A14"],
        stopped_by: "the filter looks at the argument",
        unfiltered: false,
        method: Method::Inside(|_| {
            const READ_IMPLIES_EXEC: usize = 0x40_0000;
            const ADDR_NO_RANDOMIZE: usize = 0x4_0000;
            tried(libc::SYS_personality, [READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE])
        }),
    }
    virtual_machine_socket {
        what: "talks to the hypervisor over `AF_VSOCK`, which has no namespace",
        class: &["A10"],
        stopped_by: "the filter allows four families of sockets",
        unfiltered: false,
        method: Method::Inside(|_| tried(libc::SYS_socket, [libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize, 0])),
        may_lack: true,
    }
    crypto_socket {
        what: "opens the kernel's crypto interface `AF_ALG` (CVE-2026-31431)",
        class: &["A14"],
        stopped_by: "the filter allows four families of sockets",
        unfiltered: false,
        method: Method::Inside(|_| {
            tried(libc::SYS_socket, [libc::AF_ALG as usize, libc::SOCK_SEQPACKET as usize, 0])
        }),
        may_lack: true,
    }
    netfilter_socket {
        what: "talks to nf_tables (CVE-2022-25636, CVE-2023-32233, CVE-2024-1086)",
        class: &["A14"],
        stopped_by: "the filter allows one protocol of netlink",
        unfiltered: false,
        method: Method::Inside(|_| netlink(12)),
        may_lack: true,
    }
    uevent_socket {
        what: "listens to the kernel's device events",
        class: &["A14", "A27"],
        stopped_by: "the filter allows one protocol of netlink",
        unfiltered: false,
        method: Method::Inside(|_| netlink(15)),
    }
    unshare_network {
        what: "makes a network namespace, whose firewall and devices it could then configure",
        class: &["A14"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(|_| {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
            in_child(|| tried(libc::SYS_unshare, [flags as usize]))
        }),
    }
    clone_user_namespace {
        what: "makes a user namespace by `clone`",
        class: &["A14"],
        stopped_by: "the filter looks at the flags",
        unfiltered: false,
        method: Method::Inside(clone_user_namespace),
    }
    clone3_user_namespace {
        what: "makes a user namespace by `clone3`, whose flags no filter can read",
        class: &["A14"],
        stopped_by: "the filter answers `ENOSYS`",
        unfiltered: false,
        method: Method::Inside(clone3_user_namespace),
    }
    enter_a_namespace {
        what: "enters a namespace by a descriptor of `/proc/self/ns`",
        class: &["A2", "A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| match std::fs::File::open("/proc/self/ns/uts") {
            Ok(file) => tried(libc::SYS_setns, [std::os::fd::AsRawFd::as_raw_fd(&file) as usize, 0]),
            Err(error) => Tried::CouldNot(explain(&error)),
        }),
        control_by: Hosts::Root,
    }
    file_access_events {
        what: "listens to what others do with files by fanotify",
        class: &["A14", "A35"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(|_| {
            const FAN_REPORT_FID: usize = 0x200;
            tried(libc::SYS_fanotify_init, [FAN_REPORT_FID, 0])
        }),
        may_lack: true,
    }
    pages_others_have_read {
        what: "asks which pages of a shared file others have read (`mincore`, CVE-2019-5489)",
        class: &["A35"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(|_| {
            let mut page = [0_u8; 1];
            let start = text("anything") & !0xfff;
            tried(libc::SYS_mincore, [start, 4096, at(&mut page)])
        }),
    }
    cache_statistics {
        what: "asks for the same by `cachestat`",
        class: &["A35"],
        stopped_by: FILTER,
        unfiltered: false,
        method: Method::Inside(cache_statistics),
        scene: crate::stage::bait,
        may_lack: true,
    }
    kernel_log {
        what: "reads the kernel's log by `syslog`",
        class: &["A27"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| {
            const SYSLOG_ACTION_READ_ALL: usize = 3;
            tried(libc::SYS_syslog, [SYSLOG_ACTION_READ_ALL, at(&mut [0_u8; 64]), 64])
        }),
        control_by: Hosts::Root,
    }
    another_kernel {
        what: "loads another kernel",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| reached(libc::SYS_kexec_load, [0, 1000, 0, 0])),
        control_by: Hosts::Root,
        may_lack: true,
    }
    kernel_module {
        what: "loads a module into the kernel",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| reached(libc::SYS_finit_module, [usize::MAX, text(""), 0])),
        control_by: Hosts::Root,
        may_lack: true,
    }
    process_accounting {
        what: "writes a record of all processes of the machine to a file of its choice",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| reached(libc::SYS_acct, [text("/no/such/file")])),
        control_by: Hosts::Root,
        may_lack: true,
    }
    swap_file {
        what: "has the machine swap to a file of its choice",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| reached(libc::SYS_swapon, [text("/no/such/file"), 0])),
        control_by: Hosts::Root,
        may_lack: true,
    }
    disk_quota {
        what: "changes disk quotas",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        unfiltered: false,
        method: Method::Inside(|_| {
            // Without the filter the kernel looks for the file before it looks at the permission.
            const Q_QUOTAON: usize = 0x80_0002 << 8;
            reached(libc::SYS_quotactl, [Q_QUOTAON, text("/no/such/file"), 0, 0])
        }),
        control_by: Hosts::Root,
        may_lack: true,
    }
    reboot {
        what: "reboots",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        // The magic numbers are wrong, which the kernel looks at after the permission.
        method: Method::Inside(|_| reached(libc::SYS_reboot, [0, 0, 0, 0])),
        control_by: Hosts::Root,
    }
    machine_clock {
        what: "sets the machine's clock",
        class: &["A14"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(machine_clock),
        control_by: Hosts::Root,
    }
    machine_name {
        what: "renames the machine",
        class: &["A14"],
        stopped_by: "the filter; a UTS namespace; no capability",
        method: Method::Inside(|_| tried(libc::SYS_sethostname, [text("pwned"), 5])),
        control: Control::HostAfter("a process of the host in a UTS namespace of its own", |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWUTS as usize]).map(drop)
        }),
        control_by: Hosts::Root,
    }
    another_root_by_pivot {
        what: "changes the root of its mount namespace",
        class: &["A2"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| reached(libc::SYS_pivot_root, [text("/no/such"), text("/no/such")])),
        control_by: Hosts::Root,
    }
    file_by_handle {
        what: "opens a file by its handle, past the root directory (the \"shocker\" of 2014)",
        class: &["A2"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(file_by_handle),
        control_by: Hosts::Root,
    }
    core_scheduling {
        what: "keeps others from its processor core by a scheduling cookie",
        class: &["A14"],
        stopped_by: "the filter looks at the argument",
        unfiltered: false,
        method: Method::Inside(|_| {
            const PR_SCHED_CORE: usize = 62;
            match call(libc::SYS_prctl, [PR_SCHED_CORE, 1, 0, 0, 0]) {
                // What a kernel says that does not know it.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    Tried::Denied("absent from this kernel".into())
                }
                result => result.into(),
            }
        }),
        control: OPEN,
        may_lack: true,
    }
    paste_to_the_console {
        what: "pastes a selection into a virtual console (`TIOCLINUX`)",
        class: &["A7"],
        stopped_by: "the filter looks at the argument",
        unfiltered: false,
        method: Method::Inside(|_| reached(libc::SYS_ioctl, [0, 0x541c, at(&mut [0_u8; 16])])),
        control: OPEN,
    }
}

fn thirty_two_bit_call(_: &Facts) -> Tried {
    #[cfg(target_arch = "x86_64")]
    {
        if raw::getpid_of_i386() == i64::from(std::process::id()) {
            return Tried::Broke("it knew our id".into());
        }
        Tried::Denied("absent on this architecture".into())
    }
    #[cfg(not(target_arch = "x86_64"))]
    Tried::Denied("absent on this architecture".into())
}

/// The kernel may not have that interface. What counts is that its number reached it.
fn x32_call(_: &Facts) -> Tried {
    const GETPID: i64 = 0x4000_0000 + 39;
    if cfg!(target_arch = "x86_64") {
        return Tried::Broke(format!("it was let through: {:?}", call(GETPID, [])));
    }
    Tried::Denied("absent on this architecture".into())
}

fn bpf_map(_: &Facts) -> Tried {
    // BPF_MAP_CREATE of an array of one element.
    let mut attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tried(libc::SYS_bpf, [0, at(&mut attributes), 72])
}

fn performance_event(_: &Facts) -> Tried {
    // `struct perf_event_attr`: a software event, the clock of this task, without the kernel's part.
    let mut attributes = [0_u64; 16];
    attributes[0] = 1 | 128 << 32;
    attributes[1] = 1;
    attributes[5] = 1 << 5 | 1 << 6;
    tried(libc::SYS_perf_event_open, [at(&mut attributes), 0, usize::MAX, usize::MAX, 0])
}

fn local_descriptor_table(_: &Facts) -> Tried {
    #[cfg(target_arch = "x86_64")]
    {
        let mut entry = [0_u32, 0, 0, 0b11_1000];
        tried(libc::SYS_modify_ldt, [1, at(&mut entry), 16])
    }
    #[cfg(not(target_arch = "x86_64"))]
    Tried::Denied("absent on this architecture".into())
}

fn netlink(protocol: usize) -> Tried {
    tried(libc::SYS_socket, [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, protocol])
}

/// `clone` without shared memory is a fork; the child ends at once.
fn clone_user_namespace(_: &Facts) -> Tried {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    ended(call(libc::SYS_clone, [flags as usize, 0, 0, 0, 0]))
}

fn clone3_user_namespace(_: &Facts) -> Tried {
    let mut arguments = [0_u64; 8];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    ended(call(libc::SYS_clone3, [at(&mut arguments), 64]))
}

/// In the child of a call that is a fork there is nothing more to do.
fn ended(result: std::io::Result<i64>) -> Tried {
    if result.as_ref().is_ok_and(|pid| *pid == 0) {
        std::process::exit(0);
    }
    result.into()
}

fn cache_statistics(facts: &Facts) -> Tried {
    const CACHESTAT: i64 = 451;
    match std::fs::File::open(facts.path("bait").join("file")) {
        Ok(file) => {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file) as usize;
            tried(CACHESTAT, [fd, at(&mut [0_u64, 0]), at(&mut [0_u64; 5]), 0])
        }
        Err(error) => Tried::CouldNot(explain(&error)),
    }
}

/// A length of the tick that is out of range, which the kernel looks at after the permission.
fn machine_clock(_: &Facts) -> Tried {
    const ADJ_TICK: u32 = 0x4000;
    let mut timex = [0_u64; 26];
    timex[0] = u64::from(ADJ_TICK);
    reached(libc::SYS_adjtimex, [at(&mut timex)])
}

/// The handle of the host's secret is known to the attacker, who could as well have guessed it.
fn file_by_handle(facts: &Facts) -> Tried {
    let hex = facts.get("handle");
    let mut handle: Vec<u8> =
        (0..hex.len() / 2).filter_map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()).collect();
    // Any mount of that filesystem serves, and `/usr` is one.
    let Ok(mount) = std::fs::File::open("/usr") else { return Tried::CouldNot("there is no /usr".into()) };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&mount) as usize;
    match call(libc::SYS_open_by_handle_at, [fd, at(handle.as_mut_slice()), libc::O_RDONLY as usize]) {
        Ok(fd) => match raw::read_to_end(fd as i32) {
            Ok(bytes) => crate::calls::secret(&bytes),
            Err(error) => Tried::CouldNot(explain(&error)),
        },
        Err(error) => Tried::Denied(explain(&error)),
    }
}
