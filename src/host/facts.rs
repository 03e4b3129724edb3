//! What the host says of itself, read from `/proc` and `/sys` without changing anything. [`cause`](super::cause) turns
//! a refusal and these facts into words.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::capability;
use crate::feature::Feature;
use crate::sys;

/// Settings and circumstances that decide what this process may do. `None` for what could not be read, or does not
/// exist on this kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// As `uname(2)` has it.
    pub(super) release: String,
    pub(super) uid: u32,
    /// Has `CAP_SYS_ADMIN`.
    pub(super) privileged: bool,
    /// A seccomp filter was installed before this process was started, or by it.
    pub(super) filtered: bool,
    pub(super) chrooted: bool,
    /// This process's own ids are ids of its user namespace.
    pub(super) ids_mapped: bool,
    pub(super) proc: Proc,
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    pub(super) userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, Linux 6.7 and Ubuntu.
    pub(super) apparmor_userns: Option<u64>,
    /// SELinux is there and enforces.
    pub(super) selinux: bool,
    /// `vm.memfd_noexec`, Linux 6.3.
    pub(super) memfd_noexec: Option<u64>,
    /// `user.max_*_namespaces`, as far as they could be read.
    pub(super) most: Vec<(Feature, u64)>,
    /// The program of `kernel.core_pattern`, if it is a pipe.
    pub(super) core_handler: Option<String>,
}

/// The state of `/proc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Proc {
    #[default]
    Whole,
    /// No procfs is mounted there.
    Missing,
    /// Something is mounted over parts of it.
    Masked(Vec<String>),
    /// It is mounted read-only, or shows less than all.
    Reduced(String),
}

/// The sysctl that limits a kind of namespace, below `/proc/sys/user`.
pub(super) fn limit_name(feature: Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::UserNs => "max_user_namespaces",
        Feature::PidNs => "max_pid_namespaces",
        Feature::MountNs => "max_mnt_namespaces",
        Feature::NetNs => "max_net_namespaces",
        Feature::IpcNs => "max_ipc_namespaces",
        Feature::UtsNs => "max_uts_namespaces",
        Feature::CgroupNs => "max_cgroup_namespaces",
        Feature::TimeNs => "max_time_namespaces",
        _ => return None,
    })
}

impl Facts {
    pub(super) fn gather() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let uid = nix::unistd::geteuid().as_raw();
        let most = Feature::ALL.into_iter().filter_map(|feature| {
            let value = number(&format!("/proc/sys/user/{}", limit_name(feature)?))?;
            Some((feature, value))
        });
        Self {
            release: release(),
            uid,
            privileged: sys::effective_capabilities().is_ok_and(|set| set & capability::SYS_ADMIN != 0),
            filtered: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
            chrooted: chrooted(&mounts),
            ids_mapped: maps(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default(), uid),
            proc: if Path::new("/proc/self/status").exists() { proc_state(&mounts) } else { Proc::Missing },
            userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_userns: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            selinux: number("/sys/fs/selinux/enforce") == Some(1),
            memfd_noexec: number("/proc/sys/vm/memfd_noexec"),
            most: most.collect(),
            core_handler: fs::read_to_string("/proc/sys/kernel/core_pattern")
                .ok()
                .and_then(|text| text.trim().strip_prefix('|').map(str::to_owned)),
        }
    }

    /// The number of namespaces of this kind that a user may make.
    pub(super) fn limit(&self, feature: Feature) -> Option<u64> {
        self.most.iter().find(|(known, _)| *known == feature).map(|(_, most)| *most)
    }

    /// Whether the kernel is older than a version. One whose release cannot be read is not.
    pub(super) fn older_than(&self, major: u32, minor: u32) -> bool {
        let mut words = self.release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (words.next(), words.next()) {
            (Some(Ok(a)), Some(Ok(b))) => (a, b) < (major, minor),
            _ => false,
        }
    }
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Whether a map file has this id. An empty one (there is no `/proc`) tells nothing.
pub(super) fn maps(text: &str, id: u32) -> bool {
    let mut ranges = text.lines().map(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
        match (words.next(), words.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => id >= first && id - first < count,
            _ => true,
        }
    });
    text.is_empty() || ranges.any(|has| has)
}

/// Mount point, mount options and filesystem of each line of a `mountinfo` file.
fn mounts(text: &str) -> impl Iterator<Item = (&str, &str, &str, &str)> {
    text.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(4);
        let (point, options) = (words.next()?, words.next()?);
        let mut words = filesystem.split(' ');
        let kind = words.next()?;
        Some((point, options, kind, words.nth(1).unwrap_or("")))
    })
}

/// Whether the root directory is not the root of the mount namespace: then `/` is no mount point, or not the mount that
/// another process of the namespace, if one may look at it, has as its root.
fn chrooted(mountinfo: &str) -> bool {
    if mountinfo.is_empty() {
        return false;
    }
    if !mounts(mountinfo).any(|(point, ..)| point == "/") {
        return true;
    }
    let (Some(own), Ok(namespace)) = (mount_id("/"), fs::read_link("/proc/self/ns/mnt")) else {
        return false;
    };
    [1, std::os::unix::process::parent_id()].into_iter().any(|pid| {
        let same = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|other| other == namespace);
        same && mount_id(&format!("/proc/{pid}/root/")).is_some_and(|other| other != own)
    })
}

/// The number of the mount that a directory is on.
fn mount_id(path: &str) -> Option<u64> {
    let dir = fs::File::open(path).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd())).ok()?;
    field(&info, "mnt_id:")?.parse().ok()
}

/// What of `/proc` would be revealed by mounting a fresh one: the kernel refuses that in a user namespace
/// (`mount_too_revealing` in fs/namespace.c).
pub(super) fn proc_state(mountinfo: &str) -> Proc {
    // Empty directories that exist to be mount points hide nothing.
    const HARMLESS: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];
    let masks: Vec<_> = mounts(mountinfo)
        .map(|(point, ..)| point)
        .filter(|point| point.starts_with("/proc/") && !HARMLESS.contains(point))
        .map(str::to_owned)
        .collect();
    if !masks.is_empty() {
        return Proc::Masked(masks);
    }
    let reductions = mounts(mountinfo)
        .filter(|(point, _, kind, _)| *point == "/proc" && *kind == "proc")
        .flat_map(|(_, options, _, own)| options.split(',').chain(own.split(',')))
        .find(|option| *option == "ro" || option.starts_with("subset="));
    reductions.map_or(Proc::Whole, |option| Proc::Reduced(option.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare() {
        let facts = |release: &str| Facts { release: release.to_owned(), ..Facts::default() };
        assert!(facts("5.10.0-46-cloud-amd64").older_than(5, 12));
        assert!(!facts("5.12.0").older_than(5, 12));
        assert!(!facts("6.1.0").older_than(5, 12));
        assert!(facts("5.4").older_than(5, 10));
        assert!(!facts("unknown").older_than(5, 10));
    }

    #[test]
    fn masks_of_proc_are_found() {
        let docker = "600 590 0:5 / /proc rw,nosuid - proc proc rw\n\
                      601 600 0:6 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw\n";
        assert_eq!(proc_state(docker), Proc::Masked(vec!["/proc/kcore".to_owned()]));
        let plain = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     600 1 0:5 / /proc rw,nosuid - proc proc rw\n\
                     601 600 0:6 / /proc/sys/fs/binfmt_misc rw shared:2 - autofs systemd-1 rw\n";
        assert_eq!(proc_state(plain), Proc::Whole);
        assert_eq!(proc_state("600 1 0:5 / /proc ro - proc proc rw\n"), Proc::Reduced("ro".to_owned()));
        let subset = "600 1 0:5 / /proc rw - proc proc rw,subset=pid\n";
        assert_eq!(proc_state(subset), Proc::Reduced("subset=pid".to_owned()));
    }

    #[test]
    fn a_root_that_is_no_mount_point_is_a_chroot() {
        assert!(chrooted("600 1 0:5 / /proc rw - proc proc rw\n"));
        assert!(!chrooted(""));
    }

    #[test]
    fn maps_have_ids() {
        assert!(maps("         0          0 4294967295\n", 65534));
        assert!(maps("0 1000 1\n5 7 2\n", 6));
        assert!(!maps("0 1000 1\n", 1));
        assert!(maps("", 1));
    }

    #[test]
    fn status_fields() {
        assert_eq!(field("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n", "Seccomp:"), Some("2"));
    }
}
