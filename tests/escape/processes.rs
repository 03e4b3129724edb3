//! Getting hold of processes: those of the host, and the sandbox's init.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::Duration;

use belljar::{Sandbox, Stdio};

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, open_to_write, secret, tried};
use crate::stage::Stage;
use crate::support::{
    self, Result, Role, Scratch, fail, oracle, payload, role_command, run_helper, slack, within,
};

const UNSEEN: &str = "a PID namespace";
const AND_FILTER: &str = "a PID namespace, an init that is not dumpable, the filter";

attacks! {
    signal_a_process_of_the_host {
        what: "signals a process of the host",
        class: &["A8", "A27"],
        stopped_by: UNSEEN,
        method: Method::Inside(|facts| {
            let Some(pid) = facts.victims().pop() else { return Tried::CouldNot("no victim".into()) };
            tried(libc::SYS_kill, [pid, libc::SIGCONT as usize])
        }),
    }
    signal_everybody {
        what: "sends `SIGKILL` to everybody (`kill(-1)`)",
        class: &["B7"],
        stopped_by: UNSEEN,
        method: Method::Around(signal_everybody),
        control: Control::Other("a program beside it in one container", everybody_in_a_container),
    }
    signal_the_process_group {
        what: "signals its process group (`kill(0)`), in which the host may be",
        class: &["B7"],
        stopped_by: "a session of its own",
        method: Method::Inside(|_| {
            // A group outside of the PID namespace is 0.
            let own = i64::from(std::process::id());
            match call(libc::SYS_getpgid, [0]) {
                Ok(group) if group == own => Tried::Denied("the group is its own".into()),
                other => Tried::Broke(format!("its group is {other:?}")),
            }
        }),
        bare: true,
    }
    trace_a_process {
        what: "traces the init or a process of the host (CVE-2016-8659, CVE-2020-5291)",
        class: &["A8", "A33"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            const PTRACE_SEIZE: usize = 0x4206;
            tried(libc::SYS_ptrace, [PTRACE_SEIZE, pid, 0, 0])
        })),
    }
    have_the_init_trace {
        what: "makes the init its tracer, which it would stop for and never end",
        class: &["A22"],
        stopped_by: "the filter",
        method: Method::Inside(|_| tried(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0])),
        unfiltered: false,
    }
    read_memory_of_a_process {
        what: "reads a secret out of the memory of a process by `process_vm_readv`",
        class: &["A8", "A33"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| read_memory(facts, pid))),
    }
    open_memory_of_a_process {
        what: "opens `/proc/PID/mem`",
        class: &["A8", "A27"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            fs::File::open(format!("/proc/{pid}/mem")).map(drop).into()
        })),
    }
    environment_of_a_process {
        what: "reads a secret out of `/proc/PID/environ`",
        class: &["A27"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| match fs::read(format!("/proc/{pid}/environ")) {
            Ok(bytes) => secret(&bytes),
            Err(error) => Tried::Denied(explain(&error)),
        })),
    }
    descriptor_of_a_process {
        what: "takes a descriptor of a process by `pidfd_getfd` (CVE-2026-46333)",
        class: &["A33"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| match call(libc::SYS_pidfd_open, [pid, 0]) {
            Ok(fd) => tried(libc::SYS_pidfd_getfd, [fd as usize, 0, 0]),
            Err(error) => Tried::Denied(explain(&error)),
        })),
    }
    limit_a_process {
        what: "limits the init or a process of the host by `prlimit`; a limit of no time kills",
        class: &["A22", "A28"],
        stopped_by: "a PID namespace, the filter",
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            tried(libc::SYS_prlimit64, [pid, libc::RLIMIT_MSGQUEUE as usize, at(&mut [4096_u64, 819_200]), 0])
        })),
        unfiltered: false,
    }
    starve_by_policy {
        what: "makes the init or a process of the host one that runs when nobody else does",
        class: &["A22"],
        stopped_by: "a PID namespace, the filter",
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            tried(libc::SYS_sched_setscheduler, [pid, libc::SCHED_BATCH as usize, at(&mut [0_u32])])
        })),
        unfiltered: false,
    }
    starve_by_nice_value {
        what: "gives the init or a process of the host the lowest priority",
        class: &["A22"],
        stopped_by: "a PID namespace, the filter",
        method: Method::Inside(|facts| facts.any_victim(|pid| tried(libc::SYS_setpriority, [0, pid, 1]))),
        unfiltered: false,
    }
    starve_by_io_priority {
        what: "gives the init or a process of the host the lowest I/O priority",
        class: &["A22"],
        stopped_by: "a PID namespace, the filter",
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            tried(libc::SYS_ioprio_set, [1, pid, 2 << 13 | 7])
        })),
        unfiltered: false,
    }
    starve_by_processors {
        what: "binds the init or a process of the host to one processor, which it then keeps busy",
        class: &["A22"],
        stopped_by: "a PID namespace, the filter",
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            let mut mask = [0_u64; 16];
            match call(libc::SYS_sched_getaffinity, [pid, 128, at(&mut mask)]) {
                Ok(_) => tried(libc::SYS_sched_setaffinity, [pid, 128, at(&mut mask)]),
                Err(error) => Tried::Denied(explain(&error)),
            }
        })),
        unfiltered: false,
    }
    page_out_a_process {
        what: "has the memory of the init or of a process of the host written out (`process_madvise`)",
        class: &["A22", "A35"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| match call(libc::SYS_pidfd_open, [pid, 0]) {
            Ok(fd) => {
                const MADV_COLD: usize = 20;
                let mut range = [facts.number("address") & !0xfff, 4096];
                tried(libc::SYS_process_madvise, [fd as usize, at(&mut range), 1, MADV_COLD, 0])
            }
            Err(error) => Tried::Denied(explain(&error)),
        })),
        control_by: Hosts::Root,
        may_lack: true,
    }
    compare_kernel_addresses {
        what: "compares kernel objects of processes by `kcmp`",
        class: &["A27", "A33"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            tried(libc::SYS_kcmp, [pid, pid, 0, 0, 0])
        })),
        may_lack: true,
    }
    move_memory_of_a_process {
        what: "moves memory of a process between nodes",
        class: &["A22"],
        stopped_by: AND_FILTER,
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            tried(libc::SYS_move_pages, [pid, 0, 0, 0, 0, 0])
        })),
        may_lack: true,
    }
    real_time_policy {
        what: "gets a real-time policy, which starves all others",
        class: &["A28"],
        stopped_by: "no capability in the initial user namespace",
        method: Method::Inside(|_| {
            tried(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as usize, at(&mut [1_u32])])
        }),
        control_by: Hosts::Root,
        may_lack: true,
    }
    higher_priority {
        what: "raises its own priority",
        class: &["A28"],
        stopped_by: "no capability in the initial user namespace",
        method: Method::Inside(|_| tried(libc::SYS_setpriority, [0, 0, -10_i64 as usize])),
        control_by: Hosts::Root,
    }
    overwrite_the_runtime {
        what: "opens the init's program to overwrite it later (CVE-2019-5736)",
        class: &["A1"],
        stopped_by: "an init that is not dumpable",
        method: Method::Inside(|facts| facts.any_victim(|pid| {
            fs::File::open(format!("/proc/{pid}/exe")).map(drop).into()
        })),
    }
    execute_the_runtime {
        what: "has the host execute the init in its place (a link to `/proc/self/exe`), and opens that for writing from \
               beside (CVE-2019-5736)",
        class: &["A1", "B2"],
        stopped_by: "PID 1 executes it as long as anything inside lives; it is sealed",
        method: Method::Around(execute_the_runtime),
        control: Control::Other("a program that is a file, when it no longer runs", overwrite_a_file),
    }
    overwrite_a_sealed_runtime {
        what: "overwrites the init's program with all privileges, when it no longer runs",
        class: &["A1"],
        stopped_by: "the program is a sealed memfd",
        method: Method::Around(overwrite_the_init),
        control: Control::Other("a program that is a file, by the same steps", overwrite_a_file),
        control_by: Hosts::Root,
        hosts: Hosts::Root,
    }
    namespaces_of_the_init {
        what: "asks a pidfd of the init for its namespaces",
        class: &["A2"],
        stopped_by: "an init that is not dumpable",
        method: Method::Inside(|facts| facts.any_victim(|pid| match call(libc::SYS_pidfd_open, [pid, 0]) {
            Ok(fd) => {
                const PIDFD_GET_NET_NAMESPACE: usize = 0xff04;
                tried(libc::SYS_ioctl, [fd as usize, PIDFD_GET_NET_NAMESPACE, 0])
            }
            Err(error) => Tried::Denied(explain(&error)),
        })),
        may_lack: true,
    }
}

pub(crate) const ROLES: &[Role] = &[
    ("kill-everybody", |_| {
        call(libc::SYS_kill, [usize::MAX, libc::SIGKILL as usize]).ok();
        0
    }),
    ("overwrite-init", overwriting),
    ("grab-runtime", grab_runtime),
];

fn read_memory(facts: &Facts, pid: usize) -> Tried {
    let mut buffer = [0_u8; crate::stage::SECRET.len()];
    let mut local = [at(&mut buffer), buffer.len()];
    let mut remote = [facts.number("address"), buffer.len()];
    match call(libc::SYS_process_vm_readv, [pid, at(&mut local), 1, at(&mut remote), 1, 0]) {
        Ok(_) => secret(&buffer),
        Err(error) => Tried::Denied(explain(&error)),
    }
}

fn signal_everybody(stage: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let outcome = sandbox.status(payload("kill-everybody", &[]))?;
    Ok(match oracle::is_alive(stage.bystander()) {
        true if outcome.success() => Tried::Denied("everybody else is alive".into()),
        true => Tried::CouldNot(format!("{:?}", outcome.verdict)),
        false => Tried::Broke("the bystander is dead".into()),
    })
}

/// In a container of its own there is somebody to kill.
fn everybody_in_a_container(_: &Stage) -> Result<Tried> {
    let container = support::closed().start()?;
    let held = support::hold_in(&container)?;
    container.status(payload("kill-everybody", &[]))?;
    let gone = within(Duration::from_secs(2) * slack(), || !oracle::is_alive(held.pid));
    Ok(if gone {
        Tried::Broke("the program beside it is dead".into())
    } else {
        Tried::Denied("it lives".into())
    })
}

/// The host's root itself opens the init's program and, when that has ended, opens the same file for writing. In a process
/// of its own: nobody can execute what somebody has open for writing, and all sandboxes of a process share
/// that program.
fn overwrite_the_init(_: &Stage, _: Sandbox) -> Result<Tried> {
    let helper = run_helper(&mut role_command("overwrite-init", &[]), Duration::from_secs(20))?;
    Ok(Tried::of(helper.status.code(), helper.stdout))
}

fn overwriting(_: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result<Tried> {
        let held = support::hold(&support::closed())?;
        let Some(init) = oracle::parent(held.pid) else { return fail("it has no parent") };
        let program = fs::File::open(format!("/proc/{init}/exe"))?;
        held.release()?;
        overwrite(&program)
    };
    let tried = run().unwrap_or_else(|support::Fail(message)| Tried::CouldNot(message));
    println!("{}", tried.text());
    tried.code()
}

fn overwrite_a_file(_: &Stage) -> Result<Tried> {
    let scratch = Scratch::new();
    let copy = scratch.join("runtime");
    let mut cp = std::process::Command::new("cp");
    run_helper(cp.arg("/usr/bin/sleep").arg(&copy), Duration::from_secs(10))?.succeed()?;
    let mut child = std::process::Command::new(&copy).arg("60").spawn()?;
    let path = format!("/proc/{}/exe", child.id());
    // A parent may go on a moment before its child has become the program.
    within(Duration::from_secs(5) * slack(), || fs::read_link(&path).is_ok_and(|program| program == copy));
    let program = fs::File::open(path);
    child.kill()?;
    child.wait()?;
    overwrite(&program?)
}

fn overwrite(program: &fs::File) -> Result<Tried> {
    use std::io::Write;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let opened = || fs::File::options().write(true).open(&path);
    // Who ends is still running for a moment.
    let mut writable = opened();
    within(Duration::from_secs(2) * slack(), || {
        let busy = writable.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ETXTBSY));
        if busy {
            writable = opened();
        }
        !busy
    });
    Ok(writable.and_then(|mut file| file.write_all(b"pwned")).into())
}

/// One program plants the link and waits; the other one is the link.
fn execute_the_runtime(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let container = sandbox.start()?;
    let mut command = payload("grab-runtime", &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let held = support::held(command, |command| container.spawn(command))?;
    let mut command = belljar::Command::new("/tmp/program");
    // The init takes its stdin for the socket of its host, and waits for a message.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let other = container.spawn(&command)?;
    let mut grabber = held.child;
    let mut rest = String::new();
    grabber.stdout.as_mut().expect("piped").read_to_string(&mut rest)?;
    let outcome = grabber.wait()?;
    drop(other);
    Ok(Tried::of(outcome.status.code(), rest.trim().to_owned()))
}

/// Plants a link to whatever executes it, and waits for the process that has executed its own program then.
fn grab_runtime(_: &[std::ffi::OsString]) -> i32 {
    std::os::unix::fs::symlink("/proc/self/exe", "/tmp/program").ok();
    println!("ready");
    let own = std::process::id();
    // Ids near its own; a lower one may have been prepared before.
    let others = || (2..own + 16).filter(|pid| *pid != own);
    let find = || others().find_map(|pid| fs::File::open(format!("/proc/{pid}/exe")).ok());
    let mut found = None;
    within(Duration::from_secs(5) * slack(), || {
        found = found.take().or_else(find);
        found.is_some()
    });
    let tried = match found {
        None => Tried::CouldNot("there is no such process".into()),
        Some(program) => {
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            let mut tried = open_to_write(&path);
            within(Duration::from_millis(50), || {
                tried = open_to_write(&path);
                matches!(tried, Tried::Broke(_))
            });
            tried
        }
    };
    println!("{}", tried.text());
    tried.code()
}
