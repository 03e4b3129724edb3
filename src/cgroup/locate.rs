//! Which hierarchy serves a controller, and which directory of it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::enable;
use super::layout::{Controller, Hierarchy, Layout, Version};
use super::missing::{self, Missing};
use super::parent::CgroupParent;
use crate::error::ErrorKind;

/// The directory that boxes needing some controller are to be made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) version: Version,
    pub(crate) dir: PathBuf,
}

impl Layout {
    /// Finds the hierarchy for one controller. Changes nothing.
    ///
    /// A controller is bound to one hierarchy at a time, so at most one of the versions has it; on hybrid hosts they
    /// share the work.
    pub(crate) fn locate(&self, controller: Controller, parent: &CgroupParent) -> Result<Location, Missing> {
        if self.mounts().is_empty() {
            return Err(Missing::unsupported("no cgroup hierarchy is mounted", missing::MOUNT));
        }
        match controller {
            // A process joins a version 1 group much faster than one of version 2.
            Controller::CpuAcct | Controller::Devices => {
                self.locate_in([self.v1(controller), self.v2()], controller, parent)
            }
            // Version 1 cannot kill what it has frozen.
            Controller::Freezer => self.locate_in([self.v2(), self.v1(controller)], controller, parent),
            Controller::Pressure => self.locate_in([self.v2(), None], controller, parent),
            Controller::Memory
            | Controller::Pids
            | Controller::Cpu
            | Controller::Cpuset
            | Controller::Io
            | Controller::Hugetlb => self.locate_controller(controller, parent),
        }
    }

    fn locate_controller(&self, controller: Controller, parent: &CgroupParent) -> Result<Location, Missing> {
        let name = controller.v2_name().unwrap_or(controller.name());
        let mut why_not_v2 = None;
        if let Some(v2) = self.v2() {
            match parent.directory(self, v2) {
                Ok(dir) if offers(&dir, name) => return usable(v2, dir, controller, parent),
                Ok(dir) => {
                    if offers(&v2.mount, name) {
                        why_not_v2 = Some(not_passed_on(&dir, name));
                    }
                }
                Err(missing) => why_not_v2 = Some(missing),
            }
        }
        if let Some(v1) = self.v1(controller) {
            return usable(v1, parent.directory(self, v1)?, controller, parent);
        }
        Err(why_not_v2.unwrap_or_else(|| {
            Missing::unsupported(
                format!("no mounted cgroup hierarchy has the {name} controller"),
                missing::KERNEL,
            )
        }))
    }

    /// The first of two hierarchies that can be used, for what any version 2 cgroup has. If neither can, the first that
    /// is there says why.
    fn locate_in(
        &self,
        hierarchies: [Option<&Hierarchy>; 2],
        controller: Controller,
        parent: &CgroupParent,
    ) -> Result<Location, Missing> {
        let mut why_not = None;
        for hierarchy in hierarchies.into_iter().flatten() {
            match parent.directory(self, hierarchy).and_then(|dir| usable(hierarchy, dir, controller, parent))
            {
                Err(missing) => why_not = why_not.or(Some(missing)),
                found => return found,
            }
        }
        Err(why_not.unwrap_or_else(|| {
            let what = match controller {
                Controller::CpuAcct => "measures CPU time",
                Controller::Freezer => "can stop processes",
                Controller::Pressure => "tells pressure, which takes version 2",
                _ => "has rules about devices",
            };
            Missing::unsupported(format!("no mounted cgroup hierarchy {what}"), missing::MOUNT)
        }))
    }
}

/// Why a controller that the hierarchy has is not offered in one directory of it.
fn not_passed_on(dir: &Path, name: &str) -> Missing {
    // A directory that is not there offers nothing either, and that is another mistake.
    match enable::writable(dir, "") {
        Err(missing) if missing.kind == ErrorKind::NotFound => return missing,
        _ => {}
    }
    // What systemd gives root's units is not held back by a user manager.
    let hint = if geteuid().is_root() { missing::DELEGATE } else { missing::DELEGATE_CONTROLLER };
    Missing::denied(format!("the {name} controller is not passed on to {}", dir.display()), hint)
}

/// Whether `cgroup.controllers` of a cgroup lists a controller.
fn offers(dir: &Path, name: &str) -> bool {
    let listed = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    listed.split_ascii_whitespace().any(|listed| listed == name)
}

fn usable(
    hierarchy: &Hierarchy,
    dir: PathBuf,
    controller: Controller,
    parent: &CgroupParent,
) -> Result<Location, Missing> {
    if hierarchy.read_only {
        let reason = format!("the cgroup hierarchy at {} is mounted read-only", hierarchy.mount.display());
        return Err(Missing::denied(reason, missing::WRITABLE_MOUNT));
    }
    enable::writable(&dir, "").map_err(|missing| match (hierarchy.version, missing.hint) {
        // Version 1 cannot be delegated safely, so systemd does not offer it.
        (Version::V1, missing::DELEGATE) => Missing { hint: missing::GIVE_AWAY, ..missing },
        _ => missing,
    })?;
    if hierarchy.version == Version::V2 {
        enable::check(&dir, &[controller], parent.is_our_own())?;
    }
    Ok(Location { version: hierarchy.version, dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory tree that looks like cgroup mounts, as far as reading goes.
    struct Fake {
        base: PathBuf,
    }

    impl Fake {
        fn new(name: &str) -> Self {
            let base = std::env::temp_dir().join(format!("cgroup-locate-{}-{name}", std::process::id()));
            fs::create_dir_all(&base).unwrap();
            Self { base }
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.base.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// `v2` has memory and cpu; `v1` has pids and cpuacct.
        fn layout(&self, options: &str) -> Layout {
            let base = self.base.display();
            let mounts = format!(
                "1 2 0:1 / {base}/v2 rw - cgroup2 none {options}\n\
                 1 2 0:2 / {base}/pids rw - cgroup none {options},pids\n\
                 1 2 0:3 / {base}/cpuacct rw - cgroup none {options},cpuacct\n"
            );
            Layout::parse(mounts.as_bytes(), b"0::/own\n3:pids:/own\n4:cpuacct:/own\n")
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.base);
        }
    }

    fn hybrid(name: &str) -> Fake {
        let fake = Fake::new(name);
        fake.file("v2/cgroup.controllers", "cpu memory\n");
        fake.file("v2/own/cgroup.controllers", "memory\n");
        fake.file("v2/own/cgroup.type", "domain\n");
        fake.file("v2/own/cgroup.subtree_control", "memory\n");
        fake.file("v2/own/cgroup.procs", "");
        fake.file("pids/own/tasks", "");
        fake.file("cpuacct/own/tasks", "");
        fake
    }

    #[test]
    fn each_controller_has_its_hierarchy() {
        let fake = hybrid("each");
        let locate = |controller| fake.layout("rw").locate(controller, &CgroupParent::Auto);
        let found = |version, dir: &str| Ok(Location { version, dir: fake.base.join(dir) });
        assert_eq!(locate(Controller::Memory), found(Version::V2, "v2/own"));
        assert_eq!(locate(Controller::Pids), found(Version::V1, "pids/own"));
        assert_eq!(locate(Controller::CpuAcct), found(Version::V1, "cpuacct/own"));
        let missing = locate(Controller::Cpu).unwrap_err();
        assert!(missing.reason.contains("not passed on"), "{missing:?}");
        assert!(missing.hint.contains("-p Delegate=yes"), "{missing:?}");
        let path = CgroupParent::Path("no/such".into());
        let missing = fake.layout("rw").locate(Controller::Memory, &path).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
    }

    #[test]
    fn accounting_falls_back_to_any_version_2_cgroup() {
        let fake = hybrid("accounting");
        fs::remove_dir_all(fake.base.join("cpuacct/own")).unwrap();
        let found = fake.layout("rw").locate(Controller::CpuAcct, &CgroupParent::Auto).unwrap();
        assert_eq!(found, Location { version: Version::V2, dir: fake.base.join("v2/own") });
        fs::remove_dir_all(fake.base.join("v2")).unwrap();
        let missing = fake.layout("rw").locate(Controller::CpuAcct, &CgroupParent::Auto).unwrap_err();
        assert!(missing.reason.contains("cpuacct"), "{missing:?}");
    }

    #[test]
    fn a_shared_cgroup_is_refused_before_anything_is_done() {
        let fake = hybrid("shared");
        fake.file("v2/own/cgroup.procs", &format!("{}\n1\n", std::process::id()));
        let missing = fake.layout("rw").locate(Controller::Memory, &CgroupParent::Auto).unwrap_err();
        assert!(missing.reason.contains("holds 2 processes"), "{missing:?}");
        fake.file("v2/own/cgroup.procs", &format!("{}\n", std::process::id()));
        fake.layout("rw").locate(Controller::Memory, &CgroupParent::Auto).expect("alone we may move");
        let path = CgroupParent::Path("own".into());
        assert!(
            fake.layout("rw").locate(Controller::Memory, &path).is_err(),
            "not out of a cgroup that was named"
        );
        assert!(!fake.base.join("v2/own/belljar-host").exists());
    }

    #[test]
    fn read_only_mounts_and_missing_hierarchies_say_so() {
        let fake = hybrid("read-only");
        for controller in [Controller::Memory, Controller::Pids, Controller::CpuAcct] {
            let missing = fake.layout("ro").locate(controller, &CgroupParent::Auto).unwrap_err();
            assert_eq!(missing.kind, ErrorKind::PermissionDenied);
            assert!(missing.reason.contains("read-only"), "{missing:?}");
        }
        for controller in Controller::ALL {
            let missing = Layout::default().locate(controller, &CgroupParent::Auto).unwrap_err();
            assert_eq!(missing.kind, ErrorKind::Unsupported);
            assert!(missing.hint.contains("mount -t cgroup2"), "{missing:?}");
        }
        let only_pids = Layout::parse(b"1 2 0:2 / /x rw - cgroup none rw,pids", b"1:pids:/");
        let missing = only_pids.locate(Controller::Memory, &CgroupParent::Auto).unwrap_err();
        assert!(missing.reason.contains("memory controller"), "{missing:?}");
        let missing = only_pids.locate(Controller::CpuAcct, &CgroupParent::Auto).unwrap_err();
        assert!(missing.reason.contains("CPU time"), "{missing:?}");
    }

    #[test]
    fn a_named_parent_must_exist() {
        let fake = hybrid("named");
        let missing =
            fake.layout("rw").locate(Controller::Pids, &CgroupParent::Path("nowhere".into())).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound);
        assert!(missing.hint.contains("mkdir"), "{missing:?}");
    }
}
