//! Why a controller cannot be used here, and what to do about it.

use crate::error::{Error, ErrorKind, Step};

/// A controller, or the directory to make boxes in, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The class of the error it becomes when the limit was required.
    pub(crate) kind: ErrorKind,
    /// What is the matter, naming the controller or the directory.
    pub(crate) reason: String,
    /// The command or the change that cures it.
    pub(crate) hint: &'static str,
}

/// How an unprivileged user gets a cgroup of its own: systemd makes the scope, gives its files to the user and
/// starts the program alone in it. See systemd.resource-control(5), `Delegate=`.
pub(super) const DELEGATE: &str = "start the program in a delegated cgroup of its own: \
     `systemd-run --user --scope -p Delegate=yes -- PROGRAM` (as root without `--user`), or run it as root";

/// The user manager of systemd passes on only what its own unit was given.
pub(super) const DELEGATE_CONTROLLER: &str = "run `systemctl edit user@.service` as root, add \
     `[Service]` and `Delegate=cpu cpuset io memory pids`, log in again, and start the program with \
     `systemd-run --user --scope -p Delegate=yes -- PROGRAM`";

/// cgroups(7): a version 2 cgroup that hands controllers to its children must not hold processes itself.
pub(super) const ALONE: &str = "start the program alone in its cgroup, before it starts children of its own: \
     `systemd-run --user --scope -p Delegate=yes -- PROGRAM` (as root without `--user`), \
     or name an empty cgroup with `CgroupParent::Path`";

/// Pam_systemd(8) starts a user's manager at login; loginctl(1) starts it without one.
#[cfg(feature = "systemd")]
pub(super) const USER_BUS: &str = "log in by a way that starts the user manager (not `su`), or, as root, \
     `loginctl enable-linger USER`; then set `XDG_RUNTIME_DIR=/run/user/$(id -u)`; or let root start the program: \
     `systemd-run --pipe --wait -p Delegate=yes --uid=USER -- PROGRAM`, and use `CgroupParent::Auto`";

#[cfg(feature = "systemd")]
pub(super) const SYSTEM_BUS: &str = "install and start the system's bus (`apt-get install dbus`, `systemctl start dbus`), or \
     start the program with `systemd-run --scope -p Delegate=yes -- PROGRAM` and use `CgroupParent::Auto`";

#[cfg(feature = "systemd")]
pub(super) const JOURNAL: &str = "see `journalctl -b -n 50` (with `--user` as an ordinary user), or start the program with \
     `systemd-run --user --scope -p Delegate=yes -- PROGRAM` (as root without `--user`) and use `CgroupParent::Auto`";

pub(super) const MOUNT: &str = "as root: `mount -t cgroup2 none /sys/fs/cgroup`";

pub(super) const WRITABLE_MOUNT: &str = "as root: `mount -o remount,rw MOUNTPOINT`; \
     in a container, ask its manager for a writable cgroup mount";

pub(super) const OWN_MOUNT: &str = "enter a cgroup namespace whose root is the mounted one, or mount the hierarchy \
     again from inside: `unshare --cgroup --mount sh -c 'mount -t cgroup2 none /sys/fs/cgroup; exec PROGRAM'`";

pub(super) const KERNEL: &str = "see `cat /proc/cgroups`: a controller that is listed as disabled was switched off with \
     `cgroup_disable=` on the kernel command line; one that is not listed was not built into this kernel";

pub(super) const GIVE_AWAY: &str = "run as root, or let root give the directory away: \
     `mkdir DIRECTORY && chown -R USER DIRECTORY`, and name it with `CgroupParent::Path`";

pub(super) const MAKE_PARENT: &str = "make the directory first (`mkdir`, in every cgroup hierarchy that the limits \
     need), or use `CgroupParent::Auto`";

pub(super) const UNIFIED: &str = "boot with `systemd.unified_cgroup_hierarchy=1` for version 2, or allow to go without \
     with best_effort";

pub(super) const THROTTLE: &str = "this kernel was built without CONFIG_BLK_DEV_THROTTLING";

pub(super) const BFQ: &str = "I/O weights of version 1 need the bfq scheduler: as root, `modprobe bfq`, then write bfq to \
     /sys/block/DISK/queue/scheduler";

pub(super) const IO_WEIGHT: &str = "I/O weights need a kernel with CONFIG_BLK_CGROUP_IOCOST";

pub(super) const PAGE_SIZE: &str =
    "see `ls /sys/kernel/mm/hugepages` for the sizes of huge pages that this machine has";

pub(super) const PSI: &str = "boot a kernel with CONFIG_PSI, and with `psi=1` on the kernel command line where it is off by \
     default";

pub(super) const RT_GROUP: &str = "this kernel was built without CONFIG_RT_GROUP_SCHED";

pub(super) const SWAPACCOUNT: &str = "boot with `swapaccount=1` on the kernel command line";

impl Missing {
    pub(super) fn new(kind: ErrorKind, reason: impl Into<String>, hint: &'static str) -> Self {
        Self { kind, reason: reason.into(), hint }
    }

    pub(super) fn unsupported(reason: impl Into<String>, hint: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, reason, hint)
    }

    pub(super) fn denied(reason: impl Into<String>, hint: &'static str) -> Self {
        Self::new(ErrorKind::PermissionDenied, reason, hint)
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        Self::message(missing.kind, Step::Cgroup, missing.reason).with_hint(missing.hint)
    }
}
