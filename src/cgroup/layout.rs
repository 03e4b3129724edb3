//! Which cgroup hierarchies are mounted and where in each of them this process sits: `/proc/self/mountinfo` and
//! `/proc/self/cgroup`, parsed without touching anything else.
//!
//! Both files are hostile text: mount points carry octal escapes, and whoever may mount or make cgroups chooses the
//! names in them. A line that does not parse is skipped; what it would have said is then missing, and a limit that
//! needs it is refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::missing::{self, Missing};
use crate::error::{Error, Result, Step};
use crate::mountinfo::unescape;

/// What a limit needs from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    Cpuset,
    Io,
    Hugetlb,
    /// Rules about devices. In version 2 they are a program that is attached to any cgroup.
    Devices,
    /// Stopping and going on. In version 2 every cgroup can.
    Freezer,
    /// How much time is lost by waiting. Every version 2 cgroup tells; version 1 does not.
    Pressure,
    /// Measuring CPU time. A controller of its own in version 1; in version 2 every cgroup has `cpu.stat`, whatever
    /// its controllers.
    CpuAcct,
}

impl Controller {
    /// All of them; those that any version 2 cgroup serves come last.
    pub(crate) const ALL: [Self; 10] = [
        Self::Memory,
        Self::Pids,
        Self::Cpu,
        Self::Cpuset,
        Self::Io,
        Self::Hugetlb,
        Self::Devices,
        Self::Freezer,
        Self::Pressure,
        Self::CpuAcct,
    ];

    /// Its name in version 1, and in the messages to the user.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Io => "blkio",
            Self::Hugetlb => "hugetlb",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Pressure => "pressure",
            Self::CpuAcct => "cpuacct",
        }
    }

    /// Its name in `cgroup.controllers`, if version 2 makes it depend on a controller at all.
    pub(super) fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Io => Some("io"),
            Self::Devices | Self::Freezer | Self::Pressure | Self::CpuAcct => None,
            Self::Memory | Self::Pids | Self::Cpu | Self::Cpuset | Self::Hugetlb => Some(self.name()),
        }
    }
}

/// The two generations of cgroups, closed: nothing else exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// One mount of a cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// The controllers we know that are bound to it; always empty for version 2, which says it per cgroup.
    pub(crate) controllers: Vec<Controller>,
    pub(crate) mount: PathBuf,
    /// The cgroup that the mount point shows. Not `/` for a bind mount of a subtree, as containers have it.
    root: PathBuf,
    pub(crate) read_only: bool,
    /// Our own cgroup as `/proc/self/cgroup` names it, if it does.
    own: Option<PathBuf>,
}

impl Hierarchy {
    /// The directory of our own cgroup.
    pub(crate) fn own_dir(&self) -> Result<PathBuf, Missing> {
        let mount = self.mount.display();
        let Some(own) = &self.own else {
            return Err(Missing::unsupported(
                format!("/proc/self/cgroup does not name our cgroup in the hierarchy mounted at {mount}"),
                missing::MOUNT,
            ));
        };
        // The kernel shows both paths relative to the root of our cgroup namespace, cgroup_namespaces(7), so the
        // root of the mount is a prefix of our own path, or our cgroup is not in what the mount shows.
        match below(&self.root, own) {
            Some(rest) => Ok(self.directory(&rest)),
            None => Err(Missing::unsupported(
                format!(
                    "our own cgroup {} is not visible at {mount}, which shows {}",
                    own.display(),
                    self.root.display()
                ),
                missing::OWN_MOUNT,
            )),
        }
    }

    /// The directory of a cgroup named relative to the mount point.
    pub(crate) fn directory(&self, relative: &Path) -> PathBuf {
        // Joining an empty path would leave a trailing slash in every message.
        if relative.as_os_str().is_empty() { self.mount.clone() } else { self.mount.join(relative) }
    }

    fn same_hierarchy(&self, other: &Self) -> bool {
        self.version == other.version && self.controllers == other.controllers
    }

    /// Which of several mounts of one hierarchy serves best.
    fn rank(&self) -> u8 {
        u8::from(self.own_dir().is_ok()) * 2 + u8::from(!self.read_only)
    }
}

/// All cgroup mounts of this mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    mounts: Vec<Hierarchy>,
}

impl Layout {
    /// Reads the two files of this process.
    pub(crate) fn discover() -> Result<Self> {
        let read = |path: &str| {
            std::fs::read(path).map_err(|source| {
                Error::os(Step::Cgroup, format!("reading {path}"), source)
                    .with_path(path)
                    .with_hint("mount proc: `mount -t proc proc /proc`")
            })
        };
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    pub(crate) fn parse(mountinfo: &[u8], cgroup: &[u8]) -> Self {
        let own: Vec<Membership> = lines(cgroup).filter_map(membership).collect();
        let mounts = lines(mountinfo)
            .filter_map(cgroup_mount)
            .map(|mut mount| {
                mount.own = own.iter().find(|line| line.is_in(&mount)).map(|line| line.path.clone());
                mount
            })
            .collect();
        Self { mounts }
    }

    pub(crate) fn mounts(&self) -> &[Hierarchy] {
        &self.mounts
    }

    pub(crate) fn v2(&self) -> Option<&Hierarchy> {
        self.best(|mount| mount.version == Version::V2)
    }

    pub(crate) fn v1(&self, controller: Controller) -> Option<&Hierarchy> {
        self.best(|mount| mount.version == Version::V1 && mount.controllers.contains(&controller))
    }

    /// The best mount of the hierarchy that `mount` is a mount of.
    pub(crate) fn best_mount_of<'a>(&'a self, mount: &'a Hierarchy) -> &'a Hierarchy {
        self.best(|other| other.same_hierarchy(mount)).unwrap_or(mount)
    }

    fn best(&self, wanted: impl Fn(&Hierarchy) -> bool) -> Option<&Hierarchy> {
        // `max_by_key` keeps the last of equals: a later mount on the same mount point hides the earlier one.
        self.mounts.iter().filter(|mount| wanted(mount)).max_by_key(|mount| mount.rank())
    }
}

/// One line of `/proc/self/cgroup`, cgroups(7): `hierarchy-id:controllers:path`, and `0::path` for version 2.
struct Membership {
    version: Version,
    controllers: Vec<Controller>,
    path: PathBuf,
}

impl Membership {
    fn is_in(&self, mount: &Hierarchy) -> bool {
        match self.version {
            Version::V2 => mount.version == Version::V2,
            Version::V1 => mount.version == Version::V1 && self.controllers == mount.controllers,
        }
    }
}

fn membership(line: &[u8]) -> Option<Membership> {
    // The path is last and may hold colons of its own.
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
    if !path.starts_with(b"/") || id.is_empty() || !id.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    if names.is_empty() {
        return (id == b"0").then_some(Membership { version: Version::V2, controllers: Vec::new(), path });
    }
    let controllers = controllers_in(names);
    // Named hierarchies (`name=systemd`) and controllers we never ask for.
    (!controllers.is_empty()).then_some(Membership { version: Version::V1, controllers, path })
}

/// One line of `/proc/self/mountinfo`, proc_pid_mountinfo(5):
/// `36 35 98:0 ROOT MOUNTPOINT OPTIONS [optional fields] - TYPE SOURCE SUPER-OPTIONS`.
fn cgroup_mount(line: &[u8]) -> Option<Hierarchy> {
    // Fields are separated by exactly one space; an empty source leaves two in a row, so runs are not merged.
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let mount = fields.next()?;
    let options = fields.next()?;
    fields.by_ref().find(|&field| field == b"-")?;
    let (kind, _source, super_options) = (fields.next()?, fields.next()?, fields.next()?);

    let (version, controllers) = match kind {
        b"cgroup2" => (Version::V2, Vec::new()),
        b"cgroup" => (Version::V1, controllers_in(super_options)),
        _ => return None,
    };
    if version == Version::V1 && controllers.is_empty() {
        return None;
    }
    let (root, mount) = (unescape(root), unescape(mount));
    if !root.has_root() || !mount.has_root() {
        return None;
    }
    let is_ro = |options: &[u8]| options.split(|&byte| byte == b',').any(|option| option == b"ro");
    let read_only = is_ro(options) || is_ro(super_options);
    Some(Hierarchy { version, controllers, mount, root, read_only, own: None })
}

/// The controllers we know in a comma-separated list, in a fixed order so that lists can be compared.
fn controllers_in(list: &[u8]) -> Vec<Controller> {
    let listed = |controller: &Controller| {
        list.split(|&byte| byte == b',').any(|name| name == controller.name().as_bytes())
    };
    Controller::ALL.into_iter().filter(listed).collect()
}

/// `path` relative to `root`, if it is below it. A `..` in either means a cgroup outside of our cgroup namespace,
/// whose name the kernel does not tell.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let plain = |path: &Path| path.components().all(|part| part != Component::ParentDir);
    if !plain(root) || !plain(path) {
        return None;
    }
    path.strip_prefix(root).ok().map(Path::to_path_buf)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:3 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids ro,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID_OWN: &str = "\
9:name=systemd:/init.scope
8:pids:/
4:memory:/process_api/ca91:76
2:cpu,cpuacct:/user
0::/user.slice
";

    fn layout(mountinfo: &str, cgroup: &str) -> Layout {
        Layout::parse(mountinfo.as_bytes(), cgroup.as_bytes())
    }

    fn own_dir(hierarchy: Option<&Hierarchy>) -> Result<PathBuf, Missing> {
        hierarchy.expect("the hierarchy is mounted").own_dir()
    }

    #[test]
    fn hybrid_host_has_a_directory_per_controller() {
        let layout = layout(HYBRID_MOUNTS, HYBRID_OWN);
        assert_eq!(layout.mounts().len(), 4, "the named hierarchy is none of ours");
        let dir = |controller| own_dir(layout.v1(controller)).unwrap();
        assert_eq!(dir(Controller::Memory), Path::new("/sys/fs/cgroup/memory/process_api/ca91:76"));
        assert_eq!(dir(Controller::Pids), Path::new("/sys/fs/cgroup/pids"));
        assert_eq!(dir(Controller::Cpu), Path::new("/sys/fs/cgroup/cpu,cpuacct/user"));
        assert_eq!(dir(Controller::CpuAcct), dir(Controller::Cpu));
        assert_eq!(own_dir(layout.v2()).unwrap(), Path::new("/sys/fs/cgroup/unified/user.slice"));
        assert!(layout.v1(Controller::Pids).unwrap().read_only);
        assert!(!layout.v1(Controller::Memory).unwrap().read_only);
    }

    #[test]
    fn root_of_a_bound_subtree_is_stripped() {
        let mountinfo = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let memory = |own: &str| own_dir(layout(mountinfo, own).v1(Controller::Memory));
        assert_eq!(memory("4:memory:/docker/abc").unwrap(), Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(memory("4:memory:/docker/abc/x/y").unwrap(), Path::new("/sys/fs/cgroup/memory/x/y"));
        // A prefix of the text is not a prefix of the path.
        assert!(memory("4:memory:/docker/abcdef").unwrap_err().reason.contains("not visible"));
        assert!(memory("4:memory:/").is_err());
    }

    #[test]
    fn cgroups_outside_of_our_namespace_are_not_guessed() {
        let outside = "30 20 0:26 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(own_dir(layout(outside, "0::/").v2()).is_err());
        let inside = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(own_dir(layout(inside, "0::/../sibling").v2()).is_err());
        assert_eq!(own_dir(layout(inside, "0::/").v2()).unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn a_usable_mount_is_preferred_and_the_last_of_equals() {
        let mountinfo = "\
30 20 0:26 /elsewhere /a rw - cgroup2 cgroup2 rw
31 20 0:26 / /b ro - cgroup2 cgroup2 rw
32 20 0:26 / /c rw - cgroup2 cgroup2 rw
33 20 0:26 / /d rw - cgroup2 cgroup2 rw
34 20 0:26 / /e ro - cgroup2 cgroup2 rw
";
        let layout = layout(mountinfo, "0::/x");
        assert_eq!(layout.v2().unwrap().mount, Path::new("/d"));
        assert_eq!(layout.best_mount_of(&layout.mounts()[0]).mount, Path::new("/d"));
    }

    #[test]
    fn octal_escapes_are_undone_and_bad_ones_kept() {
        let path = |text: &[u8]| unescape(text).into_os_string().into_vec();
        assert_eq!(path(br"/a\040b\011c\012d\134e"), b"/a b\tc\nd\\e");
        assert_eq!(path(br"/a\04"), br"/a\04");
        assert_eq!(path(br"/a\"), br"/a\");
        assert_eq!(path(br"/a\999\777\400"), br"/a\999\777\400");
        assert_eq!(path(br"/a\377"), b"/a\xff");
        assert_eq!(path(br"\134040"), br"\040", "an escape is undone once");
        let layout = layout(r"35 31 0:32 / /mnt/my\040cgroups rw - cgroup2 none rw", "0::/x y");
        assert_eq!(own_dir(layout.v2()).unwrap(), Path::new("/mnt/my cgroups/x y"));
    }

    #[test]
    fn hostile_lines_are_skipped() {
        for mountinfo in [
            "",
            "\n\n\n",
            "garbage",
            "35 31 0:32 / /m rw",
            "35 31 0:32 / /m rw - cgroup2",
            "35 31 0:32 / /m rw - cgroup2 none",
            "35 31 0:32 / /m rw shared:1 cgroup2 none rw",
            "35 31 0:32 relative /m rw - cgroup2 none rw",
            "35 31 0:32 / relative rw - cgroup2 none rw",
            "35 31 0:32 / /m rw - tmpfs cgroup2 rw",
            "35 31 0:32 / /m rw - cgroup cgroup rw,name=memory",
            "35 31 0:32 / /m rw - cgroup cgroup rw,memoryx,xpids",
            "- - - - - - - - -",
            "\u{0}\u{0} \u{ff} ~ ~ ~ ~ - cgroup3 x rw",
        ] {
            assert_eq!(layout(mountinfo, "0::/").mounts(), &[], "{mountinfo:?}");
        }
        // An empty source leaves two spaces in a row.
        assert_eq!(layout("35 31 0:32 / /m rw - cgroup2  rw", "0::/").mounts().len(), 1);
        for cgroup in
            ["", "0", "0:", "0::", "0::relative", "x::/", ":memory:/", "1::/", "-1:memory:/a", "4:memory"]
        {
            let layout = layout(HYBRID_MOUNTS, cgroup);
            assert!(own_dir(layout.v2()).is_err(), "{cgroup:?}");
            assert!(own_dir(layout.v1(Controller::Memory)).is_err(), "{cgroup:?}");
        }
    }

    #[test]
    fn every_cut_of_real_text_parses_without_panic() {
        for end in 0..HYBRID_MOUNTS.len() {
            let _ = layout(&HYBRID_MOUNTS[..end], HYBRID_OWN);
            let _ = layout(&HYBRID_MOUNTS[end..], HYBRID_OWN);
        }
        for end in 0..HYBRID_OWN.len() {
            let layout = layout(HYBRID_MOUNTS, &HYBRID_OWN[..end]);
            let _ = own_dir(layout.v2());
        }
    }
}
