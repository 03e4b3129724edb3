//! The directories that boxes are made in.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};

use super::enable::{self, HOST_GROUP};
use super::group::Group;
use super::layout::{Controller, Hierarchy, Layout, Version};
use super::missing::{self, Missing};
use super::sweep;
use crate::error::{Error, ErrorKind, Result, Step};

/// Where the cgroups of sandboxes are made.
///
/// A sandbox with limits gets one directory of its own in every cgroup hierarchy that its limits need: one in all on
/// a host with cgroup version 2, one per controller with version 1. This says below which directory.
///
/// # Examples
///
/// ```
/// use belljar::{CgroupParent, Sandbox};
///
/// let sandbox = Sandbox::new().pids_max(16).cgroup_parent(CgroupParent::Path("judge/boxes".into()));
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupParent {
    /// Below the cgroup that this process is in, so that the limits of this process hold for its sandboxes, too.
    ///
    /// On version 2 a cgroup that passes limits on to others must not hold processes itself (cgroups(7), "no internal
    /// processes"). When the first sandbox with limits is spawned, this process therefore moves itself, once, into
    /// the cgroup `belljar-host` below its own, and the sandboxes are made beside that. It never moves any other
    /// process: if others share its cgroup, spawning fails with an error that says how to get a cgroup of one's own.
    #[default]
    Auto,
    /// Below this directory, which must exist. On version 2 it must not hold processes.
    ///
    /// A relative path is meant from the mount point of each hierarchy that is needed: `judge/boxes` is
    /// `/sys/fs/cgroup/judge/boxes` on a host with version 2, and on one with version 1 it is
    /// `/sys/fs/cgroup/memory/judge/boxes`, `/sys/fs/cgroup/pids/judge/boxes`, and so on.
    ///
    /// An absolute path must lie below the mount point of a hierarchy. It names that very directory there, and what
    /// follows the mount point names the directory in every other hierarchy that is needed, so
    /// `/sys/fs/cgroup/memory/judge` is `/sys/fs/cgroup/pids/judge` for the pids controller.
    ///
    /// `..` is refused.
    Path(PathBuf),
    /// Below a scope that systemd makes for this process: needs no set-up of the host for an ordinary user who is logged
    /// in, and gives a process that shares its cgroup with others one of its own.
    ///
    /// The first plan of a sandbox with limits, which may be its first spawn, asks the manager of systemd over D-Bus: root
    /// that of the system, anybody else that of the user. It makes the unit `belljar-….scope` with `Delegate=yes` and
    /// **moves this process into it**, with all its threads and without its children; from then on everything is as with
    /// [`Auto`](Self::Auto). The limits of the cgroup that it was in no longer hold for it, and those that systemd gives
    /// every scope do (`systemctl show -p DefaultTasksMax`). A forked copy of this process gets a scope of its own when it
    /// plans a sandbox. Systemd removes the scope when the last process in it has ended, whatever that was.
    ///
    /// A user's scope has the controllers that the user's manager was given, often only memory, pids and cpu; a limit
    /// that needs another is an error that says how to get it. Where systemd does not run, where the bus does not answer
    /// within 10 seconds or the manager refuses, planning fails and the [hint](Error::hint) says what to run instead.
    ///
    /// Needs the feature `systemd`; seen to work with systemd 252. See systemd.scope(5), org.freedesktop.systemd1(5).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{CgroupParent, Command, Sandbox};
    ///
    /// let sandbox = Sandbox::new().memory_max(256 << 20).cgroup_parent(CgroupParent::SystemdScope);
    /// let outcome = sandbox.spawn(Command::new("/bin/true"))?.wait()?;
    /// # let _ = outcome;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    #[cfg(feature = "systemd")]
    SystemdScope,
}

impl CgroupParent {
    /// Sees to it that there is such a place, before anything is looked for in it.
    pub(super) fn enter(&self) -> Result<()> {
        match self {
            Self::Auto | Self::Path(_) => Ok(()),
            #[cfg(feature = "systemd")]
            Self::SystemdScope => super::systemd::enter(),
        }
    }

    /// Whether it is our own cgroup, which we may leave for the leaf beside the boxes.
    pub(super) fn is_our_own(&self) -> bool {
        !matches!(self, Self::Path(_))
    }

    /// The directory it means in one hierarchy.
    pub(super) fn directory(&self, layout: &Layout, hierarchy: &Hierarchy) -> Result<PathBuf, Missing> {
        let path = match self {
            Self::Path(path) => path,
            _ => {
                let own = hierarchy.own_dir()?;
                // We, or the host that started us, have moved here to leave the parent free.
                let moved =
                    hierarchy.version == Version::V2 && own.ends_with(HOST_GROUP) && own != hierarchy.mount;
                return Ok(own.parent().filter(|_| moved).map_or_else(|| own.clone(), Path::to_path_buf));
            }
        };
        let bad = |what: &str| {
            let reason = format!("the cgroup parent {} {what}", path.display());
            Missing::new(ErrorKind::InvalidConfig, reason, missing::MAKE_PARENT)
        };
        if path.as_os_str().is_empty() {
            return Err(bad("is empty"));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(bad("contains `..`"));
        }
        if path.is_relative() {
            return Ok(hierarchy.directory(path));
        }
        // `/sys/fs/cgroup/cpu` is a symbolic link to `cpu,cpuacct` on many hosts.
        let path = fs::canonicalize(path).map_err(|error| {
            Missing::new(
                ErrorKind::NotFound,
                bad(&format!("cannot be found: {error}")).reason,
                missing::MAKE_PARENT,
            )
        })?;
        let mount = layout
            .mounts()
            .iter()
            .filter(|mount| path.starts_with(&mount.mount))
            .max_by_key(|mount| mount.mount.as_os_str().len())
            .ok_or_else(|| bad("is not below the mount point of a cgroup hierarchy"))?;
        if layout.best_mount_of(mount) == layout.best_mount_of(hierarchy) {
            return Ok(path);
        }
        let relative = path.strip_prefix(&mount.mount).unwrap_or(&path);
        Ok(hierarchy.directory(relative))
    }
}

/// A directory that boxes are made in, open and ready.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) version: Version,
    pub(super) dir: PathBuf,
    pub(super) fd: OwnedFd,
    /// What boxes need from this hierarchy.
    pub(super) controllers: Vec<Controller>,
    /// Whether it is our own cgroup, which we may leave for the leaf beside the boxes.
    may_move: bool,
    ready: AtomicBool,
    /// The file by which a process goes to the cgroup of this one.
    way_out: OnceLock<Option<OwnedFd>>,
    /// The name of the box that it is, if programs of that have groups of their own in it.
    pub(super) of_box: Option<String>,
}

impl Parent {
    pub(super) fn open(
        version: Version,
        dir: &Path,
        controllers: Vec<Controller>,
        parent: &CgroupParent,
    ) -> Result<Arc<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let failed = |what: &str, errno| {
            Error::os(Step::Cgroup, format!("{what} the cgroup {}", dir.display()), errno).with_path(dir)
        };
        let fd = open(dir, flags, Mode::empty()).map_err(|errno| failed("opening", errno))?;
        let kind = fstatfs(&fd).map_err(|errno| failed("examining", errno))?.filesystem_type();
        let expected = match version {
            Version::V1 => CGROUP_SUPER_MAGIC,
            Version::V2 => CGROUP2_SUPER_MAGIC,
        };
        // Something else may be mounted over it, and limits written into plain files would limit nothing.
        if kind != expected {
            let message =
                format!("{} is not a cgroup, though a cgroup hierarchy is mounted there", dir.display());
            return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message)
                .with_path(dir)
                .with_hint("unmount what hides the hierarchy, see `findmnt -R /sys/fs/cgroup`"));
        }
        let may_move = parent.is_our_own();
        Ok(Arc::new(Self {
            version,
            dir: dir.to_owned(),
            fd,
            controllers,
            may_move,
            ready: AtomicBool::new(false),
            way_out: OnceLock::new(),
            of_box: None,
        }))
    }

    /// A group as the place of others. On version 2 it must hold no process if it is to pass controllers on.
    pub(super) fn of_group(group: &Group, controllers: Vec<Controller>) -> Result<Arc<Self>> {
        let dir = group.path();
        if group.version() == Version::V2 && !controllers.is_empty() {
            enable::enable(&dir, &controllers, false)?;
        }
        Ok(Arc::new(Self {
            version: group.version(),
            fd: group.directory()?,
            dir,
            controllers,
            may_move: false,
            ready: AtomicBool::new(true),
            way_out: OnceLock::new(),
            of_box: Some(group.name().to_owned()),
        }))
    }

    /// The same directory for boxes that need more of it.
    pub(super) fn with(&self, controllers: Vec<Controller>) -> Result<Arc<Self>> {
        let failed = |source| Error::os(Step::Cgroup, "duplicating a cgroup directory", source);
        Ok(Arc::new(Self {
            version: self.version,
            fd: self.fd.try_clone().map_err(failed)?,
            dir: self.dir.clone(),
            controllers,
            may_move: self.may_move,
            ready: AtomicBool::new(false),
            way_out: OnceLock::new(),
            of_box: None,
        }))
    }

    /// Whether [`ready`](Self::ready) can be expected to succeed. Changes nothing.
    pub(super) fn check(&self) -> Result<(), Missing> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => enable::check(&self.dir, &self.controllers, self.may_move),
        }
    }

    /// The file by which a process goes to where this one was when it was asked first, after [`ready`](Self::ready).
    pub(super) fn way_out(&self) -> Option<BorrowedFd<'_>> {
        let opened = self.way_out.get_or_init(|| {
            let layout = Layout::discover().ok()?;
            let (hierarchy, file) = match self.version {
                Version::V1 => (layout.v1(*self.controllers.first()?)?, "tasks"),
                Version::V2 => (layout.v2()?, "cgroup.procs"),
            };
            let file = hierarchy.own_dir().ok()?.join(file);
            open(&file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
        });
        opened.as_ref().map(AsFd::as_fd)
    }

    /// Prepares the directory when the first box is made in it: passes the controllers on, and removes the boxes
    /// that dead hosts have left.
    pub(super) fn ready(self: &Arc<Self>) -> Result<()> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        // Two threads must not both move the process and enable the controllers.
        static PREPARING: Mutex<()> = Mutex::new(());
        let _preparing = PREPARING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.version == Version::V2 {
            enable::enable(&self.dir, &self.controllers, self.may_move)?;
        }
        self.sweep_once();
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes what dead hosts have left in it, the first time this process asks. Returns how many boxes that were.
    pub(super) fn sweep_once(self: &Arc<Self>) -> usize {
        static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.insert(self.dir.clone()) { sweep::sweep_parent(self) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    fn directory(
        parent: &CgroupParent,
        own: &str,
        pick: impl Fn(&Layout) -> Option<&Hierarchy>,
    ) -> Result<PathBuf, Missing> {
        let layout = Layout::parse(MOUNTS.as_bytes(), own.as_bytes());
        parent.directory(&layout, pick(&layout).expect("it is mounted"))
    }

    #[test]
    fn auto_is_our_own_cgroup_and_not_the_leaf_we_moved_to() {
        let v2 = |own: &str| directory(&CgroupParent::Auto, own, Layout::v2).unwrap();
        assert_eq!(v2("0::/a/b"), Path::new("/sys/fs/cgroup/unified/a/b"));
        assert_eq!(v2("0::/a/belljar-host"), Path::new("/sys/fs/cgroup/unified/a"));
        assert_eq!(v2("0::/belljar-host"), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(v2("0::/a/belljar-hosts"), Path::new("/sys/fs/cgroup/unified/a/belljar-hosts"));
        let v1 = directory(&CgroupParent::Auto, "4:memory:/a/belljar-host", |layout| {
            layout.v1(Controller::Memory)
        });
        assert_eq!(
            v1.unwrap(),
            Path::new("/sys/fs/cgroup/memory/a/belljar-host"),
            "we never move in version 1"
        );
    }

    #[test]
    fn relative_paths_start_at_each_mount_point() {
        let parent = CgroupParent::Path("judge/boxes".into());
        let in_v1 = |controller| directory(&parent, "", |layout| layout.v1(controller)).unwrap();
        assert_eq!(in_v1(Controller::Memory), Path::new("/sys/fs/cgroup/memory/judge/boxes"));
        assert_eq!(in_v1(Controller::Pids), Path::new("/sys/fs/cgroup/pids/judge/boxes"));
        assert_eq!(
            directory(&parent, "", Layout::v2).unwrap(),
            Path::new("/sys/fs/cgroup/unified/judge/boxes")
        );
    }

    #[test]
    fn absolute_paths_name_their_likes_in_other_hierarchies() {
        let base = fs::canonicalize(std::env::temp_dir())
            .unwrap()
            .join(format!("cgroup-parent-{}", std::process::id()));
        let (memory, pids) = (base.join("memory"), base.join("pids"));
        fs::create_dir_all(memory.join("judge")).unwrap();
        let mounts = format!(
            "1 2 0:1 / {} rw - cgroup cgroup rw,memory\n1 2 0:2 / {} rw - cgroup cgroup rw,pids\n",
            memory.display(),
            pids.display()
        );
        let layout = Layout::parse(mounts.as_bytes(), b"");
        let parent = CgroupParent::Path(memory.join("judge"));
        let in_v1 = |controller| parent.directory(&layout, layout.v1(controller).unwrap()).unwrap();
        assert_eq!(in_v1(Controller::Memory), memory.join("judge"));
        assert_eq!(in_v1(Controller::Pids), pids.join("judge"));
        let outside = CgroupParent::Path(base.clone());
        let missing = outside.directory(&layout, layout.v1(Controller::Pids).unwrap()).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::InvalidConfig);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn paths_that_could_mean_anything_are_refused() {
        for path in ["", "..", "a/../b", "/sys/fs/cgroup/../..", "/sys/fs/cgroup/memory/.."] {
            let missing = directory(&CgroupParent::Path(path.into()), "0::/", Layout::v2).unwrap_err();
            assert_eq!(missing.kind, ErrorKind::InvalidConfig, "{path}");
        }
        let missing = directory(&CgroupParent::Path("/no/such/dir".into()), "0::/", Layout::v2).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_plain_directory_is_no_cgroup() {
        let error =
            Parent::open(Version::V2, &std::env::temp_dir(), Vec::new(), &CgroupParent::Auto).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("is not a cgroup"), "{error}");
    }
}
