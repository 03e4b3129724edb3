//! A plan and its failures in words.

use std::fmt;

use super::{Lowered, Plan};
use crate::error::{Error, Step, one_line};
use crate::idmap::MapPlan;
use crate::lowering::Label;
use crate::namespace::Namespaces;
use crate::wire::{line, section};

/// The step, and what failed, at a line of the init; `None` where no system call has, but a promise was broken.
pub(super) fn line_of(index: u32) -> Option<(Step, &'static str)> {
    Some(match index {
        line::UNBLOCK_SIGNALS => (Step::Fork, "unblocking signals for the program"),
        line::TOKEN => (Step::Seccomp, "drawing a random number for the program's filter"),
        line::RUN_IMAGE => (Step::Fork, "mapping the program's arguments in the init"),
        line::LOST_REQUEST => (Step::Handshake, "receiving a request in the init"),
        line::CAPTURE => (Step::Stdio, "preparing a captured stream in the init"),
        line::LISTENER => (Step::Seccomp, "taking the listener of the filter"),
        line::OUTPUT => (Step::Wait, "moving captured output in the init"),
        line::EVENTS => (Step::Wait, "waiting for events in the init"),
        line::SIGNALS => (Step::Init, "resetting the signals of the init"),
        line::START => (Step::Handshake, "receiving the plan in the init"),
        line::PLAN_IMAGE => (Step::Init, "mapping the plan in the init"),
        line::SHARED_PAGE => (Step::Init, "mapping the page that the init shares with programs"),
        line::CHILD_SIGNALS => (Step::Init, "opening the signalfd of the init"),
        line::SESSION => (Step::Init, "starting a session for the init"),
        line::SUBREAPER => (Step::Init, "making the init the parent of orphans"),
        line::AWAIT => (Step::Handshake, "receiving the rest of the setup in the init"),
        line::DIRECTORY => (Step::Init, "leaving the host's working directory"),
        line::UNDUMPABLE => (Step::Init, "making the init undumpable"),
        line::TERMINAL => (Step::Stdio, "making the program's terminal"),
        line::CONTROLLING_TERMINAL => (Step::Stdio, "taking the terminal for the program's session"),
        line::CONNECTIONS => (Step::Stdio, "making the sockets of the program's connections"),
        line::OWN_CGROUP => (Step::Join, "joining the program's own cgroup"),
        _ => return None,
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &*self.0;
        let cloned = Namespaces::from_bits_truncate(plan.clone_flags(Namespaces::empty()));
        let names: Vec<_> = Namespaces::table()
            .into_iter()
            .filter(|(namespace, _, _)| cloned.contains(*namespace))
            .map(|(_, _, name)| name)
            .collect();
        writeln!(f, "host:")?;
        for line in plan.placement.describe() {
            writeln!(f, "  {}", one_line(line))?;
        }
        let unshared = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        if let Some((dir, quota)) = plan.upper.as_ref().and_then(|dir| Some((dir, dir.quota?))) {
            let inodes = match quota.inodes {
                0 => "any number of".to_owned(),
                number => number.to_string(),
            };
            let path = dir.upper.display().to_string();
            writeln!(f, "  limit {} to {} and {inodes} inodes", one_line(path), quota.size)?;
        }
        for (kind, name) in plan.entrances.kinds().filter_map(|kind| Some((kind, kind.file()?))) {
            let whose = if kind == Namespaces::USER {
                "the user namespace that owns those"
            } else {
                "the joined sandbox's"
            };
            writeln!(f, "  enter {whose}: {name}")?;
        }
        writeln!(f, "  clone3 into new namespaces: {unshared}")?;
        match &plan.maps {
            Some(MapPlan::Block) => writeln!(f, "  map ids to a fresh block of host ids")?,
            Some(MapPlan::Fixed(maps)) => {
                for (kind, extents) in [("user", &maps.uids), ("group", &maps.gids)] {
                    for extent in extents {
                        let (inside, outside, count) = (extent.inside, extent.outside, extent.count);
                        writeln!(f, "  map {count} {kind} ids from {inside} to {outside}")?;
                    }
                }
            }
            None => {}
        }
        #[cfg(feature = "net")]
        for line in plan.wire.iter().flat_map(|wire| wire.describe()) {
            writeln!(f, "  {}", one_line(line))?;
        }
        let parts = [
            ("init", section::SETUP),
            ("program, as a fork of the init", section::JOIN),
            ("program, after its descriptors are placed and all others closed", section::CONFINE),
            ("program, in its working directory", section::SEAL),
        ];
        for (title, section) in parts {
            if plan.labels[section].is_empty() {
                continue;
            }
            writeln!(f, "{title}:")?;
            for label in &plan.labels[section] {
                writeln!(f, "  {}", label.what)?;
            }
            if section == section::JOIN && !plan.gate.is_empty() {
                writeln!(f, "host, meanwhile, to the program's process:")?;
                for step in &plan.gate {
                    writeln!(f, "  {}", step.label.what)?;
                }
            }
        }
        writeln!(f, "execve")?;
        let limits = [("wall time", plan.wall_time), ("CPU time", plan.cpu_time)];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                writeln!(f, "kill when {name} exceeds {limit:?}")?;
            }
        }
        if let Some(bytes) = plan.output_max {
            writeln!(f, "kill when captured output exceeds {bytes}")?;
        }
        write!(f, "{}", plan.enforced)
    }
}

/// What to do about a program that could not be executed.
pub(super) fn of_exec(error: Error, errno: i32, plan: &Lowered) -> Error {
    if plan.labelled && matches!(errno, libc::EACCES | libc::EPERM) {
        return error.with_hint(
            "the security module may not let its label execute this: a profile of AppArmor needs rules for the program and \
             its libraries; a policy of SELinux needs process { transition } and process2 { nnp_transition \
             nosuid_transition } for the host and entrypoint for the program's file. The kernel's log (dmesg, ausearch -m \
             avc) has the rule",
        );
    }
    if plan.landlocked && errno == libc::EACCES {
        return error.with_hint(
            "landlock must allow execute on the program, its loader or the interpreter that #! names, as \
             Landlock::execute or Landlock::system do; or it is not an executable file for the program's user, or its \
             mount is noexec",
        );
    }
    with_hint(error, Step::Exec, errno)
}

/// What to do about namespaces that could not be made.
pub(crate) fn of_namespaces(error: Error, errno: i32, namespaces: Namespaces) -> Error {
    let hint = match errno {
        libc::EPERM if namespaces.contains(Namespaces::USER) => {
            "user namespaces are refused here: check kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns, and the seccomp profile of the container this runs in"
        }
        libc::EPERM => "without root this needs a user namespace; add user_ns()",
        libc::ENOSPC | libc::EUSERS => {
            "the limit of namespaces is reached: raise user.max_user_namespaces and its siblings"
        }
        libc::EINVAL => "this kernel lacks one of the namespaces; see Host::probe()",
        _ => return error,
    };
    error.with_hint(hint)
}

/// What to do about an operation that failed.
pub(super) fn of_operation(error: Error, label: &Label, errno: i32, namespaces: Namespaces) -> Error {
    if label.step == Step::Clone {
        return of_namespaces(error, errno, namespaces);
    }
    if label.of_overlay && errno == libc::EINVAL {
        return error.with_hint(
            "overlayfs refuses this combination in a user namespace: a layer that contains a mount point, an upper \
             directory in use or once used with volatile(), or more layers than the kernel takes",
        );
    }
    with_hint(error, label.step, errno)
}

/// Adds what to do about a failure inside, where that is known.
fn with_hint(error: Error, step: Step, errno: i32) -> Error {
    let hint = match (step, errno) {
        (Step::Mount | Step::File | Step::Root, libc::EROFS) => {
            "the target does not exist on a read-only root; make it there, or use Rootfs::overlay"
        }
        (Step::Mount | Step::File, libc::ELOOP) => {
            "the target is a dangling symlink in the root; remove it there"
        }
        (Step::Mount, libc::EPERM) => {
            "mounting proc in a container whose own /proc is masked is refused by the kernel; give the outer container \
             an unmasked /proc"
        }
        (Step::Mount | Step::Root | Step::Mask, libc::ENOSYS) => "mount_setattr(2) needs Linux 5.12",
        (Step::MountSource | Step::Mount | Step::Root, libc::EACCES) => {
            "the caller may not read the source; an unprivileged caller can show only what it can reach itself"
        }
        (Step::Scheduling, libc::EPERM | libc::EACCES) => {
            "the host's policy, nice value or limits have changed since the plan was made, or the program's cgroup has no \
             real-time processor time (cpu.rt_runtime_us)"
        }
        (Step::Seccomp, libc::EBUSY) => {
            "a filter on this process has a listener already, as that of a sandbox or container around it may, and the kernel \
             allows one: a policy without kill() and notify() needs none, such as one that says deny() or trap() instead"
        }
        (Step::Addresses, libc::EPERM) => {
            "a filter on this process denies personality(2) with ADDR_NO_RANDOMIZE; run the outer container with \
             `--security-opt seccomp=unconfined`"
        }
        (Step::Scheduling, libc::ENODEV | libc::EINVAL) => {
            "the cpuset of the program lacks a processor of cpu_affinity(); /proc/self/status of the host has the list, in \
             Cpus_allowed_list"
        }
        (Step::Rlimit, libc::EPERM) => "a hard limit cannot be raised above the host's own",
        (Step::Ids, libc::EINVAL) => "the id is not mapped in the user namespace",
        (Step::Ids | Step::Capabilities, libc::EPERM) => {
            "without a user namespace this needs root; add user_ns()"
        }
        (Step::Hostname | Step::CgroupNs | Step::TimeOffsets | Step::Propagation, libc::EPERM) => {
            "without root this needs a user namespace; add user_ns()"
        }
        (Step::Network, libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT | libc::EINVAL) => {
            "the kernel needs CONFIG_NF_TABLES with INET and REJECT; without, UserMode::host_loopback() and metadata_services() \
             open what it would close"
        }
        (Step::TimeOffsets, libc::ERANGE) => "a clock would become negative, or larger than 146 years",
        (Step::Label, libc::ENOENT) => {
            "there is no such profile of AppArmor; load it as root with `apparmor_parser -r FILE`, `aa-status` lists them"
        }
        (Step::Label, libc::EOPNOTSUPP) => {
            "the profile is not in enforce mode and denies nothing; `aa-enforce` changes that, as root"
        }
        (Step::Label, libc::EINVAL) => {
            "the loaded policy of SELinux has no such context: user, role, type and level must be in it and go together"
        }
        (Step::Label, libc::EACCES | libc::EPERM) => {
            "the host's own profile or context does not allow it to set one: change_profile of AppArmor, process { setexec } \
             of SELinux"
        }
        (Step::Label, libc::ENODEV | libc::EXDEV) => {
            "a procfs must be mounted on the host's /proc, with nothing over /proc/self/attr"
        }
        (Step::Landlock, libc::ENOENT | libc::ENOTDIR) => {
            "paths of landlock rules are looked up inside the sandbox, when its mounts are made"
        }
        (Step::Landlock, libc::ELOOP) => "landlock rules follow no symlink: name the place that it leads to",
        (Step::Landlock, libc::EINVAL) => "it is a file, and the rule has no right that files can have",
        (Step::Landlock, libc::EACCES) => {
            "the sandbox's init may not look the path up; an unprivileged caller can name only what it can reach itself"
        }
        (Step::Landlock, libc::E2BIG) => {
            "this process is confined by 16 rulesets of landlock itself, and the kernel takes no more"
        }
        (Step::Exec, libc::ENOENT) => {
            "the path is looked up inside the sandbox; a script also needs its interpreter, a dynamic program its \
             loader there"
        }
        (Step::Exec, libc::EACCES) => {
            "it is not an executable file for the program's user, or its mount is noexec"
        }
        (Step::Exec, libc::ENOEXEC) => {
            "it is neither a binary of this architecture nor a script that begins with #!"
        }
        (Step::Exec, libc::ETXTBSY) => {
            "somebody has it open for writing, and a quarter of a second did not change that: close it before the program \
             is started"
        }
        _ => return error,
    };
    error.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowering::{Lowering, SourceMode};
    use crate::wire::{Setup, Source};

    #[test]
    fn only_an_overlay_is_explained_by_overlayfs() {
        let source = Source::Slot(0);
        let operations = [
            (Setup::RootOverlay { options: c"lowerdir=0", attributes: 0 }, true),
            (Setup::Layer { source, number: 0 }, true),
            (Setup::UpperDir { source }, true),
            // A root that is made once for all sandboxes of a plan, or a directory of the host.
            (Setup::RootBind { source, attributes: 0 }, false),
            (Setup::RootTmpfs { size: 0, inodes: 0 }, false),
        ];
        let mut lowering = Lowering::new(SourceMode::Descriptors);
        for (operation, _) in &operations {
            lowering.setup(Step::Root, "making the root", None, operation);
        }
        let (_, labels, _) = lowering.finish().unwrap();
        for (label, (operation, of_overlay)) in labels[section::SETUP].iter().zip(&operations) {
            let source = std::io::Error::from_raw_os_error(libc::EINVAL);
            let error = of_operation(
                Error::os(label.step, label.what.clone(), source),
                label,
                libc::EINVAL,
                Namespaces::all(),
            );
            let told = error.hint().is_some_and(|hint| hint.contains("overlayfs"));
            assert_eq!(told, *of_overlay, "{operation:?}");
        }
    }
}
