//! Which namespaces are unshared. See `namespaces(7)`.

use bitflags::bitflags;

use crate::feature::Feature;
use crate::sys;

bitflags! {
    /// A set of namespaces, by the kernel's clone flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Namespaces: u64 {
        const TIME = 0x80;
        const MOUNT = 0x0002_0000;
        const CGROUP = 0x0200_0000;
        const UTS = 0x0400_0000;
        const IPC = 0x0800_0000;
        const USER = 0x1000_0000;
        const PID = 0x2000_0000;
        const NET = 0x4000_0000;
    }
}

/// A namespace of one sandbox that another can [join](crate::Sandbox::join).
///
/// There are no others. What shares mounts or process ids with a sandbox runs in it: see
/// [`Container::spawn`](crate::Container::spawn). Ids, the cgroup and the clocks are always a sandbox's own: two
/// sandboxes never share an id of the host.
///
/// # Examples
///
/// ```
/// use belljar::Namespace;
///
/// assert_eq!(Namespace::Net.to_string(), "net");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Namespace {
    /// Interfaces, addresses, ports, abstract Unix sockets. See
    /// [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
    Net,
    /// System V IPC and POSIX message queues. See
    /// [ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html).
    Ipc,
    /// Host name and domain name. See
    /// [uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html).
    Uts,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        })
    }
}

impl From<Namespace> for Namespaces {
    fn from(namespace: Namespace) -> Self {
        match namespace {
            Namespace::Net => Self::NET,
            Namespace::Ipc => Self::IPC,
            Namespace::Uts => Self::UTS,
        }
    }
}

impl Namespaces {
    /// What `clone3` makes. The init unshares the network namespace itself, which takes the kernel longest, while the host
    /// goes on; the time namespace, because its offsets must be written before a process enters it; and each program the
    /// cgroup namespace, because its root is the cgroup one is in at that moment.
    pub(crate) fn clone_flags(self) -> u64 {
        (self - Self::NET - Self::TIME - Self::CGROUP).bits()
    }

    /// Whether one of these namespaces can be made by this process, really tried in a throw-away child; with a user
    /// namespace around it when the set has one.
    pub(crate) fn try_one(self, namespace: Self) -> std::io::Result<()> {
        // The kernel makes the user namespace first, whatever the order of the bits.
        sys::try_clone((namespace | (self & Self::USER)).bits())
    }

    /// The file name of a single namespace.
    pub(crate) fn file(self) -> Option<&'static str> {
        Self::table().into_iter().find_map(|(one, _, file)| (one == self).then_some(file))
    }

    /// The feature of a single namespace, and its file name below `/proc/<pid>/ns`.
    pub(crate) fn table() -> [(Self, Feature, &'static str); 8] {
        [
            (Self::USER, Feature::UserNs, "user"),
            (Self::PID, Feature::PidNs, "pid"),
            (Self::MOUNT, Feature::MountNs, "mnt"),
            (Self::NET, Feature::NetNs, "net"),
            (Self::IPC, Feature::IpcNs, "ipc"),
            (Self::UTS, Feature::UtsNs, "uts"),
            (Self::CGROUP, Feature::CgroupNs, "cgroup"),
            (Self::TIME, Feature::TimeNs, "time"),
        ]
    }
}

/// Offsets of the clocks that a time namespace shifts. See `time_namespaces(7)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimeOffsets {
    /// Seconds added to `CLOCK_MONOTONIC`.
    pub(crate) monotonic: i64,
    /// Seconds added to `CLOCK_BOOTTIME`.
    pub(crate) boottime: i64,
    /// What both clocks shall show when the sandbox is made, instead.
    pub(crate) start: Option<i64>,
}

impl TimeOffsets {
    /// The text for `/proc/self/timens_offsets`; empty when both offsets are zero.
    pub(crate) fn to_text(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        format!("monotonic {} 0\nboottime {} 0\n", self.monotonic, self.boottime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_kernels() {
        let flags = [
            (Namespaces::USER, libc::CLONE_NEWUSER),
            (Namespaces::PID, libc::CLONE_NEWPID),
            (Namespaces::MOUNT, libc::CLONE_NEWNS),
            (Namespaces::NET, libc::CLONE_NEWNET),
            (Namespaces::IPC, libc::CLONE_NEWIPC),
            (Namespaces::UTS, libc::CLONE_NEWUTS),
            (Namespaces::CGROUP, libc::CLONE_NEWCGROUP),
            (Namespaces::TIME, libc::CLONE_NEWTIME),
        ];
        for (namespace, flag) in flags {
            assert_eq!(namespace.bits(), u64::from(flag.unsigned_abs()));
        }
        assert_eq!(Namespaces::all().clone_flags() & 0x80, 0);
    }

    #[test]
    fn zero_offsets_write_nothing() {
        assert_eq!(TimeOffsets::default().to_text(), "");
        let text = TimeOffsets { monotonic: -5, boottime: 7, start: None }.to_text();
        assert_eq!(text, "monotonic -5 0\nboottime 7 0\n");
    }
}
