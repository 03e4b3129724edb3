//! What the host does to a program's process while it waits at the gate: what the kernel grants to nobody in a user
//! namespace. `src/init/gate.rs` has the other side, and the picture.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, ErrorKind, Result, Step};
use crate::lowering::Label;
use crate::sys;

/// One thing that the host does.
#[derive(Debug, Clone)]
pub(crate) struct HostStep {
    pub(crate) label: Label,
    pub(crate) action: Action,
}

impl HostStep {
    pub(crate) fn new(step: Step, what: impl Into<String>, action: Action) -> Self {
        Self { label: Label::new(step, what), action }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The kernel's number of a policy and its priority.
    Scheduler {
        policy: u32,
        priority: u32,
    },
    Nice(i32),
    IoPriority(u32),
    Rlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
}

/// Carries the steps out on the process behind a pidfd. The calls take a process id, and there are none that take a
/// pidfd; the id stays that process's because the init reaps nothing while it waits for us.
///
/// With a process that has ended meanwhile there is nothing to do: why it did, the init will tell.
pub(crate) fn apply(steps: &[HostStep], pidfd: Option<&OwnedFd>) -> Result<()> {
    let pidfd = pidfd.ok_or_else(|| {
        let no_room = std::io::Error::from_raw_os_error(libc::EMFILE);
        Error::os(Step::Handshake, "receiving the program's pidfd", no_room)
            .with_hint("raise the host's RLIMIT_NOFILE (ulimit -n)")
    })?;
    let failed = |error| Error::os(Step::Handshake, "looking up the program's process", error);
    for HostStep { label, action } in steps {
        // Should the init be killed in this moment, nobody would hold the id: it is looked at before each call.
        let pid = sys::pid_of(pidfd).map_err(failed)?;
        if has_ended(pidfd).map_err(failed)? {
            return Ok(());
        }
        let pid = pid.ok_or_else(|| {
            let why = "the program's process has no id in the PID namespace of /proc";
            Error::message(ErrorKind::Setup, Step::Handshake, why)
                .with_hint("mount the /proc of the host's own PID namespace")
        })?;
        let result = match *action {
            Action::Scheduler { policy, priority } => sys::set_scheduler(pid, policy, priority),
            Action::Nice(nice) => sys::set_nice(pid, nice),
            Action::IoPriority(value) => sys::set_io_priority(pid, value),
            Action::Rlimit { resource, soft, hard } => sys::set_rlimit(pid, resource, soft, hard),
        };
        result.map_err(|error| {
            let hint = hint(*action, error.raw_os_error());
            let error = Error::os(label.step, label.what.clone(), error);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })?;
    }
    Ok(())
}

fn has_ended(pidfd: &OwnedFd) -> std::io::Result<bool> {
    let ready = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)?;
    Ok(ready != 0)
}

fn hint(action: Action, errno: Option<i32>) -> Option<&'static str> {
    Some(match (action, errno?) {
        (Action::Scheduler { .. }, libc::EPERM) => {
            "this process has CAP_SYS_NICE, so it is the program's cgroup: with CONFIG_RT_GROUP_SCHED a new group of the \
             version 1 cpu controller has no real-time processor time (cpu.rt_runtime_us); do without the limits that \
             make one (cpu_max, cpu_weight, and cpu_time where cpu and cpuacct are one hierarchy), or use nice()"
        }
        (Action::IoPriority(_), libc::EPERM) => "on this kernel the real-time class needs CAP_SYS_ADMIN",
        (Action::Rlimit { resource: libc::RLIMIT_NOFILE, .. }, libc::EPERM) => {
            "a limit of open files cannot exceed fs.nr_open: as root, `sysctl -w fs.nr_open=N`"
        }
        (_, libc::EPERM | libc::EACCES) => {
            "the kernel wants CAP_SYS_NICE or CAP_SYS_RESOURCE in the initial user namespace, and a security module or \
             a filter may refuse it besides"
        }
        _ => return None,
    })
}
