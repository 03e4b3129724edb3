//! The policy: what may be seen, used and consumed. Pure data; nothing happens before a plan is made.

mod resources;
mod scheduling;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::{CgroupParent, Limits};
use crate::feature::Feature;
use crate::idmap::{Ids, UserMap};
use crate::joining::{Joins, Sharer};
use crate::landlock::Landlock;
use crate::limits::{Bytes, Resource};
use crate::mount::Mount;
use crate::namespace::{Namespaces, TimeOffsets};
use crate::rootfs::Rootfs;
use crate::scheduling::Scheduling;
use crate::seccomp::Seccomp;
use crate::tenants;

/// A policy: what a program may see, use and consume.
///
/// A `Sandbox` is a value: cheap to clone, `Send + Sync`, reused for thousands of runs. Its setters cannot fail and do
/// nothing but remember; [`plan`](Sandbox::plan) validates everything at once, and [`spawn`](Sandbox::spawn) makes
/// that plan and carries it out.
///
/// [`Sandbox::new`] is closed, [`Sandbox::bare`] open; each call adds one isolation or, when its name begins with
/// `share_`, `keep_`, `inherit_` or `allow_`, gives one away.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Bytes, Command, Sandbox, UserMap};
///
/// # fn main() -> belljar::Result<()> {
/// let mut command = Command::new("/usr/bin/python3");
/// command.args(["-c", "print(6 * 7)"]);
/// let sandbox = Sandbox::new().pid_ns().user_map(UserMap::auto()).memory_max(Bytes::mib(256));
/// let output = sandbox.output(&command)?;
/// assert_eq!(output.stdout, b"42\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a Sandbox does nothing until it spawns a Command"]
pub struct Sandbox {
    pub(crate) namespaces: Namespaces,
    /// Other namespaces, of other sandboxes.
    pub(crate) joins: Joins,
    /// Where its network leads to.
    #[cfg(feature = "net")]
    pub(crate) wire: Option<crate::network::WireTo>,
    pub(crate) user_map: UserMap,
    pub(crate) user: Option<Ids>,
    pub(crate) rootfs: Option<Rootfs>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) hostname: Option<OsString>,
    pub(crate) domain_name: Option<OsString>,
    pub(crate) time_offsets: TimeOffsets,
    pub(crate) limits: Limits,
    pub(crate) cgroup_parent: CgroupParent,
    pub(crate) wall_time: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle_time: Option<Duration>,
    pub(crate) extra_time: Duration,
    pub(crate) output_max: Option<Bytes>,
    pub(crate) rlimits: Vec<(Resource, u64, u64)>,
    pub(crate) scheduling: Scheduling,
    /// No address is chosen at random.
    pub(crate) fixed_addresses: bool,
    /// `None`: capabilities are left alone. Names otherwise.
    pub(crate) capabilities: Option<Vec<String>>,
    /// A profile of AppArmor.
    pub(crate) apparmor: Option<String>,
    /// A context of SELinux.
    pub(crate) selinux: Option<String>,
    pub(crate) landlock: Option<Landlock>,
    pub(crate) seccomp: Option<Seccomp>,
    /// Other sandboxes are kept out of reach as well.
    pub(crate) cross_tenant: bool,
    pub(crate) environment: Environment,
    pub(crate) best_effort: BTreeSet<Feature>,
}

/// What the environment starts from, before the command's own variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) base: Base,
    pub(crate) variables: Vec<(OsString, OsString)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Base {
    #[default]
    Empty,
    Host,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// The closed sandbox: all eight namespaces, no network but loopback, a user without capabilities, `no_new_privs`,
    /// the [default filter](Seccomp), an empty environment, and [`Rootfs::system`] as a read-only root.
    pub fn new() -> Self {
        Self {
            namespaces: Namespaces::all(),
            rootfs: Some(Rootfs::system()),
            hostname: Some("belljar".into()),
            capabilities: Some(Vec::new()),
            seccomp: Some(Seccomp::default()),
            ..Self::bare()
        }
    }

    /// [`new`](Sandbox::new) with the filter for programs that are judged, [`Seccomp::judge`]: they compute, read and write
    /// files, start threads and processes, and make no socket. Limits are the caller's to add.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Sandbox};
    ///
    /// let sandbox = Sandbox::judge().memory_max(Bytes::mib(256)).pids_max(32);
    /// # let _ = sandbox;
    /// ```
    pub fn judge() -> Self {
        Self::new().seccomp(Seccomp::judge())
    }

    /// [`new`](Sandbox::new) with the filter for plugins, [`Seccomp::plugin`]: one process that talks over descriptors that
    /// it was given, starts no other and executes none.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Sandbox};
    ///
    /// let sandbox = Sandbox::plugin().memory_max(Bytes::mib(64));
    /// # let _ = sandbox;
    /// ```
    pub fn plugin() -> Self {
        Self::new().seccomp(Seccomp::plugin())
    }

    /// The open sandbox, for those who add isolation call by call: nothing but `no_new_privs`, closed descriptors,
    /// reset signals, a session of its own and an empty environment. Without a PID namespace and without a cgroup a
    /// program can leave processes behind; [`Outcome::enforced`](crate::Outcome::enforced) then lacks
    /// [`Feature::TreeKill`].
    pub fn bare() -> Self {
        Self {
            namespaces: Namespaces::empty(),
            joins: Joins::default(),
            #[cfg(feature = "net")]
            wire: None,
            user_map: UserMap::auto(),
            user: None,
            rootfs: None,
            mounts: Vec::new(),
            hostname: None,
            domain_name: None,
            time_offsets: TimeOffsets::default(),
            limits: Limits::default(),
            cgroup_parent: CgroupParent::Auto,
            wall_time: None,
            cpu_time: None,
            idle_time: None,
            extra_time: Duration::ZERO,
            output_max: None,
            rlimits: Vec::new(),
            scheduling: Scheduling::default(),
            fixed_addresses: false,
            capabilities: None,
            apparmor: None,
            selinux: None,
            landlock: None,
            seccomp: None,
            cross_tenant: false,
            environment: Environment::default(),
            best_effort: BTreeSet::new(),
        }
    }

    fn unshare(mut self, namespaces: Namespaces) -> Self {
        self.joins.forget(namespaces);
        self.namespaces |= namespaces;
        self
    }

    fn share(mut self, namespaces: Namespaces) -> Self {
        self.joins.forget(namespaces);
        #[cfg(feature = "net")]
        self.wire.take_if(|_| namespaces.contains(Namespaces::NET));
        self.namespaces -= namespaces;
        self
    }

    /// Uses these namespaces of another sandbox.
    pub(crate) fn join_namespaces(mut self, sharer: Arc<Sharer>, namespaces: Namespaces) -> Self {
        if namespaces.contains(Namespaces::UTS) {
            // The names are the other's.
            (self.hostname, self.domain_name) = (None, None);
        }
        self = self.share(namespaces);
        self.joins.add(sharer, namespaces);
        self
    }

    /// Ids, keyrings and capabilities of its own. See
    /// [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html). An unprivileged host needs
    /// it for every other namespace.
    pub fn user_ns(self) -> Self {
        self.unshare(Namespaces::USER)
    }

    /// Process ids of its own; nothing outside can be seen or signalled, and everything inside dies with the sandbox.
    /// See [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).
    pub fn pid_ns(self) -> Self {
        self.unshare(Namespaces::PID)
    }

    /// Mounts of its own. See
    /// [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).
    pub fn mount_ns(self) -> Self {
        self.unshare(Namespaces::MOUNT)
    }

    /// A network of its own, with a loopback interface that is up and nothing else. See
    /// [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
    pub fn net_ns(self) -> Self {
        self.unshare(Namespaces::NET)
    }

    /// System V and POSIX IPC of its own. See
    /// [ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html).
    pub fn ipc_ns(self) -> Self {
        self.unshare(Namespaces::IPC)
    }

    /// A host name of its own. See [uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html).
    pub fn uts_ns(self) -> Self {
        self.unshare(Namespaces::UTS)
    }

    /// `/proc/self/cgroup` shows the sandbox's cgroup as `/`. See
    /// [cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html).
    pub fn cgroup_ns(self) -> Self {
        self.unshare(Namespaces::CGROUP)
    }

    /// Clock offsets of its own. See
    /// [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).
    pub fn time_ns(self) -> Self {
        self.unshare(Namespaces::TIME)
    }

    /// Gives away the user namespace: ids inside are the host's, and the program keeps the caller's.
    pub fn share_user(self) -> Self {
        self.share(Namespaces::USER)
    }

    /// Gives away the PID namespace: the host's processes are visible, and killing the tree needs a cgroup.
    pub fn share_pid(self) -> Self {
        self.share(Namespaces::PID)
    }

    /// Gives away the network: the program uses the host's, abstract Unix sockets of the host included.
    pub fn share_net(self) -> Self {
        self.share(Namespaces::NET)
    }

    /// Gives away the IPC namespace.
    pub fn share_ipc(self) -> Self {
        self.share(Namespaces::IPC)
    }

    /// Gives away the UTS namespace: the program sees the host's name.
    pub fn share_uts(mut self) -> Self {
        self.hostname = None;
        self.domain_name = None;
        self.share(Namespaces::UTS)
    }

    /// Gives away the cgroup namespace: the program sees the path of its cgroup.
    pub fn share_cgroup(self) -> Self {
        self.share(Namespaces::CGROUP)
    }

    /// Gives away the time namespace.
    pub fn share_time(mut self) -> Self {
        self.time_offsets = TimeOffsets::default();
        self.share(Namespaces::TIME)
    }

    /// How ids inside map to ids outside; implies [`user_ns`](Sandbox::user_ns). The default is [`UserMap::auto`].
    pub fn user_map(mut self, map: UserMap) -> Self {
        self.user_map = map;
        self.user_ns()
    }

    /// The program's user and group id. With a user namespace they are ids inside, 1000 and 1000 by default; without
    /// one they are the host's, and setting them needs privilege. Supplementary groups are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let as_nobody = Sandbox::new().user(65534, 65534);
    /// # let _ = as_nobody;
    /// ```
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some(Ids { uid, gid });
        self
    }

    /// The program's user is 0 inside, as package managers and build tools like it; implies
    /// [`user_ns`](Sandbox::user_ns). It gains no capability by that.
    pub fn root(self) -> Self {
        self.user(0, 0).user_ns()
    }

    /// The root filesystem; implies [`mount_ns`](Sandbox::mount_ns).
    pub fn rootfs(mut self, rootfs: Rootfs) -> Self {
        self.rootfs = Some(rootfs);
        self.mount_ns()
    }

    /// Adds a mount, file, directory or mask below the root; implies [`mount_ns`](Sandbox::mount_ns). Without a
    /// [`rootfs`](Sandbox::rootfs) the root is the host's own: a mount point that is missing is made on the host, if
    /// the sandbox's ids may do that, and stays there.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self.mount_ns()
    }

    /// The host name inside, at most 64 bytes; implies [`uts_ns`](Sandbox::uts_ns).
    pub fn hostname(mut self, name: impl Into<OsString>) -> Self {
        self.hostname = Some(name.into());
        self.uts_ns()
    }

    /// The NIS domain name inside, at most 64 bytes; implies [`uts_ns`](Sandbox::uts_ns).
    pub fn domain_name(mut self, name: impl Into<OsString>) -> Self {
        self.domain_name = Some(name.into());
        self.uts_ns()
    }

    /// Seconds to add to `CLOCK_MONOTONIC` inside; implies [`time_ns`](Sandbox::time_ns). The clock must not become
    /// negative.
    pub fn monotonic_offset(mut self, seconds: i64) -> Self {
        self.time_offsets.monotonic = seconds;
        self.time_offsets.start = None;
        self.time_ns()
    }

    /// Seconds to add to `CLOCK_BOOTTIME` (and what `/proc/uptime` shows) inside; implies
    /// [`time_ns`](Sandbox::time_ns).
    pub fn boottime_offset(mut self, seconds: i64) -> Self {
        self.time_offsets.boottime = seconds;
        self.time_offsets.start = None;
        self.time_ns()
    }

    /// Drops all capabilities but those named by [`keep_capability`](Sandbox::keep_capability), from all five sets.
    /// [`new`](Sandbox::new) does this already.
    pub fn drop_capabilities(mut self) -> Self {
        self.capabilities.get_or_insert_default();
        self
    }

    /// Gives the program a capability in its user namespace, as a [`Capability`](crate::Capability) or by the name of
    /// `capabilities(7)` with or without `CAP_`: `keep_capability("NET_BIND_SERVICE")`. It survives `execve` (it is ambient) and nothing else is gained with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Capability, Sandbox};
    ///
    /// // A server on port 80 of the sandbox's own network.
    /// let sandbox = Sandbox::new().keep_capability(Capability::NetBindService);
    /// # let _ = sandbox;
    /// ```
    pub fn keep_capability(mut self, name: impl Into<String>) -> Self {
        self.capabilities.get_or_insert_default().push(name.into());
        self
    }

    /// The AppArmor profile that confines the program from its `execve(2)` on, by its name. See `apparmor(7)`. The host
    /// and the sandbox's init keep theirs. The administrator loads profiles, with `apparmor_parser(8)`.
    ///
    /// A host that is confined itself cannot give its program less confinement than it has: the profile is stacked on the
    /// host's, and both are in force. The host's must allow `change_profile` then.
    ///
    /// Paths in the profile are those inside. What is open already when the program is executed, `/dev/null` as its stdin
    /// as well, has no path inside a root of its own: a profile needs `flags=(attach_disconnected)` to allow it.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`Unsupported`](crate::ErrorKind::Unsupported) where AppArmor is not in force, unless
    /// [`Feature::AppArmor`] is best effort, and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for `unconfined` and for
    /// what is no name of one profile: empty, with blanks, control characters, `//&`, in a policy namespace, or longer than
    /// 1024 bytes. A spawn says [`NotFound`](crate::ErrorKind::NotFound) at [`Step::Label`](crate::Step::Label) for a profile
    /// that is not loaded, and `Unsupported` for one in complain mode, which denies nothing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let output = Sandbox::new().apparmor("my-plugin").output(Command::new("/usr/bin/plugin"))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn apparmor(mut self, profile: impl Into<String>) -> Self {
        self.apparmor = Some(profile.into());
        self
    }

    /// The SELinux context of the program from its `execve(2)` on: `user:role:type:level`. The host and the sandbox's init
    /// keep theirs. See [selinux(8)](https://man7.org/linux/man-pages/man8/selinux.8.html).
    ///
    /// The policy must allow the host's type `process { transition }` and `setexec`, and the program's file `entrypoint`.
    /// Programs of a sandbox have `no_new_privs` and are on mounts that are `nosuid`, so it must also have the capability
    /// `nnp_nosuid_transition` and allow `process2 { nnp_transition nosuid_transition }`, or bound the program's type by the
    /// host's. The policies of Fedora and Red Hat allow that to container engines.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`Unsupported`](crate::ErrorKind::Unsupported) where SELinux is not there or does not
    /// enforce, unless [`Feature::SeLinux`] is best effort, and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for what
    /// is no context. A spawn fails at [`Step::Label`](crate::Step::Label) for a context that the policy does not have, and
    /// with [`Exec`](crate::ErrorKind::Exec) where it does not allow the transition.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let context = "system_u:system_r:container_t:s0:c1,c2";
    /// let output = Sandbox::new().selinux(context).output(Command::new("/usr/bin/plugin"))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn selinux(mut self, context: impl Into<String>) -> Self {
        self.selinux = Some(context.into());
        self
    }

    /// What the program may access of files, TCP, abstract sockets and processes, on top of what namespaces and modes
    /// leave of that: rules that the kernel enforces by
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html), for which nobody needs a privilege or a
    /// namespace. A second call replaces the rules of the first.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) says [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel has no landlock, or too
    /// old an ABI for what is to be denied, unless [`Feature::Landlock`] is best effort, and
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for rules that contradict themselves. A spawn says
    /// [`Step::Landlock`](crate::Step::Landlock) where the path of a rule is not there, or leads through a symlink.
    ///
    /// # Examples
    ///
    /// A program that may use the system and write to one directory, on a host where nobody can make a namespace:
    ///
    /// ```no_run
    /// use belljar::{Command, Landlock, Sandbox};
    ///
    /// let rules = Landlock::new().system().read("/srv/job").write("/srv/job/out");
    /// let output = Sandbox::bare().landlock(rules).output(Command::new("/srv/job/run"))?;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn landlock(mut self, landlock: Landlock) -> Self {
        self.landlock = Some(landlock);
        self
    }

    /// The system call filter.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Sandbox, Seccomp};
    ///
    /// let sandbox = Sandbox::new().seccomp(Seccomp::new().allow(["ptrace"]));
    /// # let _ = sandbox;
    /// ```
    pub fn seccomp(mut self, filter: Seccomp) -> Self {
        self.seccomp = Some(filter);
        self
    }

    /// Keeps this sandbox from talking to others that run beside it for somebody else, by ways that lead past the host: all
    /// eight namespaces, and in addition
    ///
    /// - a session keyring of its own ([keyrings(7)](https://man7.org/linux/man-pages/man7/keyrings.7.html)), and no call
    ///   about keys;
    /// - no lock, lease or change notice on files (`flock`, those commands of `fcntl`, `inotify`, `fanotify`), because the
    ///   files of shared layers and binds are the same inode for all: locks fail with `ENOLCK`, `inotify_init` with `ENOSYS`;
    /// - of `fcntl` only the commands that are about descriptors, pipes and files in memory;
    /// - no word about the page cache that all share (`mincore`, `cachestat`, reads with `RWF_NOWAIT`, the older asynchronous
    ///   I/O), and no `AF_VSOCK`, io_uring, BPF, perf events or
    ///   handles of files, even where the [filter](Sandbox::seccomp) allows them;
    /// - a core scheduling cookie of its own ([`PR_SCHED_CORE`](https://man7.org/linux/man-pages/man2/PR_SCHED_CORE.2const.html),
    ///   Linux 5.14), so that no other tenant runs on the sibling of its processor at the same time. Where the cores are shared
    ///   and the kernel lacks it, planning fails unless [`Feature::CoreScheduling`] is best effort; where each core has one
    ///   thread, it is listed as skipped.
    ///
    /// What gives one of these away is an error when the sandbox is planned: a `share_` call, a namespace that this host cannot
    /// make (whatever is best effort), the host's own root,
    /// [`allow_all_syscalls`](Sandbox::allow_all_syscalls), [`Mount::full`](crate::Mount::full) of `/proc`, core dumps. What
    /// is shared on purpose (a writable bind, a kept descriptor) is not looked at. What is left are the times that caches,
    /// disks and processors take: see the threat model.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let sandbox = Sandbox::new().cross_tenant();
    /// let mut ours = sandbox.spawn(Command::new("/usr/bin/make"))?;
    /// let mut theirs = sandbox.spawn(Command::new("/usr/bin/make"))?;
    /// # drop((ours, theirs));
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn cross_tenant(mut self) -> Self {
        self.cross_tenant = true;
        self.unshare(tenants::SEPARATED)
    }

    /// Gives away the system call filter.
    pub fn allow_all_syscalls(mut self) -> Self {
        self.seccomp = None;
        self
    }

    /// Starts from the host's environment instead of an empty one. It often holds secrets.
    pub fn inherit_env(mut self) -> Self {
        self.environment.base = Base::Host;
        self
    }

    /// Sets an environment variable for every program of this sandbox.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.variables.push((key.into(), value.into()));
        self
    }

    /// Runs without this feature where the host does not have it; [`Outcome::enforced`](crate::Outcome::enforced)
    /// says so. Everything else is required.
    ///
    /// For a namespace that cannot be had, what it would hide is denied instead, as far as landlock and the filter can: see
    /// [`best_effort_all`](Sandbox::best_effort_all).
    ///
    /// It has an effect for namespaces, for the limits that need a cgroup, for [`Feature::CpuTime`], for
    /// [`Feature::Scheduling`], for [`Feature::Landlock`], of which what the kernel has stays in force, and for [`Feature::AppArmor`] and
    /// [`Feature::SeLinux`].
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Feature, Sandbox};
    ///
    /// let sandbox = Sandbox::new().memory_max(Bytes::mib(256)).best_effort(Feature::MemoryMax);
    /// let plan = sandbox.plan()?;
    /// for skipped in plan.enforced().skipped() {
    ///     println!("without {}: {}", skipped.feature, skipped.reason);
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn best_effort(mut self, feature: Feature) -> Self {
        self.best_effort.insert(feature);
        self
    }

    /// Runs without any of these features that the host does not have.
    ///
    /// With [`Feature::NAMESPACES`] a sandbox runs where nobody may make a namespace: in a container whose filter refuses
    /// them, or where `kernel.unprivileged_userns_clone`, `user.max_user_namespaces` or AppArmor does; `Host::probe` says
    /// which. What stands in for each is in the reasons of [`Enforced::skipped`](crate::Enforced::skipped):
    ///
    /// - For mounts, rules of landlock: of the host's files only what [`Rootfs::system`] and binds at the path of their
    ///   source would show can be accessed. There is no `/tmp` and no `/proc`, and what else a policy puts into its root
    ///   (other roots, files, binds elsewhere) is [`InvalidConfig`](crate::ErrorKind::InvalidConfig). Rules of
    ///   [`landlock`](Sandbox::landlock) that a policy has narrow that and never widen it. Landlock itself is required unless it is named, too.
    ///   The filter refuses to change modes, owners, times and attributes, of any file: landlock does not look at those. A
    ///   program that cannot do without (`chmod` after a compiler's link, for instance) needs a host with namespaces.
    /// - For the network, the filter: no socket can be made but connected pairs of streams; and landlock's rules about TCP and abstract
    ///   sockets.
    /// - For processes, landlock: no signal leaves the program's tree; on a kernel without that, the filter refuses signals
    ///   altogether. The default filter refuses tracing anyway, and without `/proc` nobody can be seen.
    /// - For IPC, the filter: no queue, semaphore or shared memory can be opened or used.
    /// - For ids, host name, cgroup and clocks, nothing: the program has the caller's ids, without capabilities.
    ///
    /// With [`allow_all_syscalls`](Sandbox::allow_all_syscalls) there is no filter to stand in. The tree is killed by
    /// walking it, unless there is a cgroup.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Feature, Sandbox};
    ///
    /// let sandbox = Sandbox::new().best_effort_all(Feature::NAMESPACES);
    /// let outcome = sandbox.status(Command::new("/usr/bin/make"))?;
    /// for skipped in outcome.enforced.skipped() {
    ///     eprintln!("without {}: {}", skipped.feature, skipped.reason);
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn best_effort_all(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        self.best_effort.extend(features);
        self
    }
}
