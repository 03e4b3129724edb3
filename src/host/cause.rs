//! Why a try was refused, and the command that cures it. Pure: a refusal and facts in, words out.

use std::error::Error as _;

use super::facts::{Facts, Proc, limit_name};
use crate::error::{Error, Step};
use crate::feature::Feature;

/// A refused try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) step: Step,
    pub(super) errno: i32,
    /// What failed, with the kernel's word for it.
    pub(super) what: String,
    /// What the step that failed would advise.
    pub(super) hint: Option<String>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let what = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self {
            step: error.step(),
            errno: error.raw_os_error().unwrap_or(0),
            what,
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// A cause and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) cause: String,
    pub(super) remedy: String,
}

const UNKNOWN: &str =
    "unknown; the kernel's log (`dmesg`) and the audit log may tell which policy refused it";

/// Explains a refusal of `feature` (`None`: of something that has no name in [`Feature`]).
pub(super) fn explain(facts: &Facts, feature: Option<Feature>, refusal: &Refusal) -> Explanation {
    let found = match refusal.step {
        // The cgroup module and the labels know their causes, and the plan's errors are about the policy.
        Step::Cgroup | Step::Plan | Step::Label => None,
        Step::Clone => namespace_limit(facts, feature, refusal).or_else(|| denied(facts, refusal)),
        Step::Init => init(facts, refusal),
        _ => missing_proc(facts, refusal)
            .or_else(|| too_old(facts, refusal))
            .or_else(|| not_built(refusal))
            .or_else(|| masked_proc(facts, refusal))
            .or_else(|| denied(facts, refusal)),
    };
    match found {
        Some((cause, remedy)) => Explanation { cause: format!("{cause} ({})", refusal.what), remedy },
        None => Explanation {
            cause: refusal.what.clone(),
            remedy: refusal.hint.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        },
    }
}

type Found = Option<(String, String)>;

fn is_denial(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EACCES)
}

/// A setting for now, and for every boot from now on.
pub(super) fn sysctl(name: &str, value: &str) -> String {
    format!(
        "as root: `sysctl -w {name}={value}`, and put `{name} = {value}` in a file in /etc/sysctl.d to keep it"
    )
}

/// `user.max_*_namespaces`: ENOSPC, or EUSERS before Linux 4.9.
fn namespace_limit(facts: &Facts, feature: Option<Feature>, refusal: &Refusal) -> Found {
    if !matches!(refusal.errno, libc::ENOSPC | libc::EUSERS) {
        return None;
    }
    // A try of one namespace may have needed a user namespace around it, and a whole sandbox needs them all.
    let suspects = match feature.filter(|feature| limit_name(*feature).is_some()) {
        Some(feature) => vec![feature, Feature::UserNs],
        None => Feature::ALL.to_vec(),
    };
    let limits = suspects.into_iter().filter_map(|kind| Some((limit_name(kind)?, facts.limit(kind)?)));
    let known: Vec<_> = limits.collect();
    let lowest = known.iter().find(|(_, most)| *most == 0).or(known.first());
    Some(match lowest {
        Some((name, 0)) => {
            (format!("user.{name} is 0: nobody may make one"), sysctl(&format!("user.{name}"), "15000"))
        }
        Some((name, most)) => (
            format!("user.{name} is {most} and all are in use, or namespaces are nested 32 deep"),
            sysctl(&format!("user.{name}"), &most.saturating_mul(4).max(1000).to_string()),
        ),
        None => (
            "the limit of namespaces is reached".to_owned(),
            "as root: raise the limits that `sysctl -a -r '^user.max_.*_namespaces'` shows".to_owned(),
        ),
    })
}

/// EPERM and EACCES, by who could have said so; the most specific first.
fn denied(facts: &Facts, refusal: &Refusal) -> Found {
    if !is_denial(refusal.errno) {
        return None;
    }
    if !facts.privileged {
        if facts.userns_clone == Some(0) {
            return Some((
                "kernel.unprivileged_userns_clone is 0: only root may make user namespaces".to_owned(),
                sysctl("kernel.unprivileged_userns_clone", "1"),
            ));
        }
        if facts.apparmor_userns == Some(1) {
            return Some((
                "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes all capabilities from unprivileged \
                 user namespaces"
                    .to_owned(),
                format!(
                    "{}; or give the program an AppArmor profile with the rule `userns,`",
                    sysctl("kernel.apparmor_restrict_unprivileged_userns", "0")
                ),
            ));
        }
    }
    if facts.chrooted && refusal.step == Step::Clone {
        return Some((
            "this process runs in a chroot, where the kernel refuses user namespaces".to_owned(),
            "enter the directory with pivot_root instead, as `systemd-nspawn -D DIR` and `bwrap --bind DIR /` do"
                .to_owned(),
        ));
    }
    if !facts.ids_mapped && refusal.step == Step::Clone {
        return Some((
            format!(
                "this process's own user id {} is not mapped in the user namespace it runs in",
                facts.uid
            ),
            "map it in the outer container, or run as a user that is mapped there".to_owned(),
        ));
    }
    if facts.filtered {
        return Some((
            "a seccomp filter is on this process (a container engine's, most likely), and the settings of the kernel \
             would allow it"
                .to_owned(),
            "run the outer container with `--security-opt seccomp=unconfined` (Docker, Podman) or \
             `seccompProfile: {type: Unconfined}` (Kubernetes), or with a profile that allows clone3, clone, unshare, \
             mount, fsopen, fsconfig, fsmount, open_tree, move_mount, mount_setattr, pivot_root and umount2"
                .to_owned(),
        ));
    }
    if facts.selinux {
        return Some((
            "SELinux enforces a policy here that may forbid it".to_owned(),
            "as root: `ausearch -m avc -ts recent` shows the rule; `audit2allow -M belljar -l` makes a module that \
             permits it"
                .to_owned(),
        ));
    }
    None
}

/// Executing the init from memory.
fn init(facts: &Facts, refusal: &Refusal) -> Found {
    if is_denial(refusal.errno) && facts.memfd_noexec == Some(2) {
        return Some((
            "vm.memfd_noexec is 2: programs in memory cannot be executed".to_owned(),
            sysctl("vm.memfd_noexec", "1"),
        ));
    }
    denied(facts, refusal)
}

/// What cannot be written, or opened, because of the state of `/proc`.
fn missing_proc(facts: &Facts, refusal: &Refusal) -> Found {
    let needs_it = matches!(
        refusal.step,
        Step::IdMap | Step::MountSource | Step::TimeOffsets | Step::Prepare | Step::Capabilities
    );
    match (&facts.proc, refusal.errno) {
        (Proc::Missing, libc::ENOENT) if needs_it => Some((
            "no procfs is mounted on /proc".to_owned(),
            "as root: `mount -t proc proc /proc`".to_owned(),
        )),
        (Proc::Reduced(_), libc::EROFS) if needs_it => Some((
            "/proc is mounted read-only".to_owned(),
            "as root: `mount -o remount,rw /proc`; or run the outer container with a writable /proc"
                .to_owned(),
        )),
        _ => None,
    }
}

/// System calls and abilities that came with a version.
fn too_old(facts: &Facts, refusal: &Refusal) -> Found {
    let (call, major, minor) = match (refusal.step, refusal.errno) {
        (Step::Mount | Step::Mask, libc::ENOSYS) => ("read-only binds (mount_setattr)", 5, 12),
        (Step::MountSource, libc::ENOSYS) => ("id-mapped mounts (mount_setattr)", 5, 12),
        (Step::Root, libc::ENOSYS) => ("read-only roots and layers (mount_setattr)", 5, 12),
        (Step::Root, libc::EPERM) => ("overlayfs in a user namespace", 5, 11),
        (Step::MountSource, libc::EINVAL) => ("id-mapped layers of an overlay", 5, 19),
        (Step::TimeOffsets, libc::EINVAL | libc::ENOSYS) => ("a time namespace", 5, 6),
        (Step::CloseFds, libc::ENOSYS) => ("close_range", 5, 9),
        _ => return None,
    };
    facts.older_than(major, minor).then(|| {
        (
            format!("{call}: needs Linux {major}.{minor}, this is {}", facts.release),
            format!("boot a kernel of version {major}.{minor} or later"),
        )
    })
}

/// Filesystems and namespaces that the kernel does not have, and filesystems that cannot do something.
fn not_built(refusal: &Refusal) -> Found {
    match (refusal.step, refusal.errno) {
        (Step::Mount | Step::Root, libc::ENODEV) => {
            let name = ["overlay", "devpts", "mqueue", "proc", "tmpfs"]
                .into_iter()
                .find(|name| refusal.what.contains(name))
                .unwrap_or("the filesystem");
            Some((
                format!("this kernel does not have {name}"),
                format!(
                    "as root: `modprobe {name}`; if there is no such module, a kernel that was built with it"
                ),
            ))
        }
        (Step::MountSource, libc::EINVAL) if refusal.what.contains("id-mapping") => Some((
            "the filesystem there does not support id-mapped mounts".to_owned(),
            "use a directory on ext4, xfs or btrfs (tmpfs from Linux 6.3), for temporary files with `TMPDIR`"
                .to_owned(),
        )),
        (Step::TimeOffsets, libc::EINVAL | libc::ENOSYS) => Some((
            "this kernel was built without time namespaces".to_owned(),
            "a kernel with CONFIG_TIME_NS; or share_time()".to_owned(),
        )),
        _ => None,
    }
}

fn masked_proc(facts: &Facts, refusal: &Refusal) -> Found {
    if refusal.step != Step::Mount || !is_denial(refusal.errno) || !refusal.what.contains("mounting proc") {
        return None;
    }
    let cause = match &facts.proc {
        Proc::Whole => return None,
        Proc::Missing => "no procfs is mounted on /proc, so the kernel refuses a fresh one".to_owned(),
        Proc::Masked(paths) => {
            let more = if paths.len() > 3 { ", …" } else { "" };
            let paths = paths.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "/proc is masked ({paths}{more}), so the kernel refuses a fresh one that would show all of it"
            )
        }
        Proc::Reduced(option) => {
            format!("/proc is mounted with {option}, so the kernel refuses a fresh one that would show more")
        }
    };
    let remedy = "run the outer container with `--security-opt unmask=ALL` (Podman), \
                  `--security-opt systempaths=unconfined` (Docker) or `procMount: Unmasked` (Kubernetes); on a host, as \
                  root: `mount -t proc proc /proc`";
    Some((cause, remedy.to_owned()))
}

/// Why there is no landlock.
pub(super) fn landlock(facts: &Facts, errno: i32) -> Explanation {
    let what = format!("landlock_create_ruleset: {}", std::io::Error::from_raw_os_error(errno));
    let (cause, remedy) = match errno {
        libc::ENOSYS if facts.older_than(5, 13) => (
            format!("landlock needs Linux 5.13, this is {}", facts.release),
            "boot a kernel of version 5.13 or later".to_owned(),
        ),
        libc::ENOSYS => (
            "this kernel was built without landlock".to_owned(),
            "a kernel with CONFIG_SECURITY_LANDLOCK".to_owned(),
        ),
        libc::EOPNOTSUPP => (
            "landlock is built into this kernel but was not switched on at boot".to_owned(),
            "boot with `lsm=landlock,` before the names that `cat /sys/kernel/security/lsm` shows".to_owned(),
        ),
        _ => {
            let refusal = Refusal { step: Step::Landlock, errno, what, hint: None };
            return explain(facts, Some(Feature::Landlock), &refusal);
        }
    };
    Explanation { cause: format!("{cause} ({what})"), remedy }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
