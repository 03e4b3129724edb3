//! The parsers of this module on any text, for the fuzz target.

use std::os::unix::ffi::OsStrExt;
use std::path::Component;

use super::layout::{Controller, Hierarchy, Layout};
use super::name::{BoxName, Stat};
use super::{counters, pressure};

/// Reads the input as `mountinfo` and, behind a NUL byte, as `cgroup`; as other files; as the name of a box.
pub(crate) fn files(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (mountinfo, own) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let layout = Layout::parse(mountinfo, own);
    layout.mounts().iter().for_each(stays_below_its_mount);
    layout.v2().into_iter().for_each(stays_below_its_mount);
    for controller in Controller::ALL {
        layout.v1(controller).into_iter().for_each(stays_below_its_mount);
    }

    let _ = Stat::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = BoxName::parse(text) {
        assert_eq!(name.to_string(), text, "a directory that is not ours is removed");
    }
    let _ = (counters::cpu_stat(text), counters::io_stat(text), pressure::parse(text));
    #[cfg(feature = "systemd")]
    let _ = super::systemd::names(text, "belljar-1-2-3.scope");
}

/// Our own cgroup is below the mount, by every name that a cgroup can have.
fn stays_below_its_mount(hierarchy: &Hierarchy) {
    let Ok(dir) = hierarchy.own_dir() else { return };
    let rest = dir.strip_prefix(&hierarchy.mount).expect("a directory that is not below the mount");
    let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
    assert!(plain, "a way out of the mount: {}", dir.display());
    assert!(hierarchy.mount.is_absolute() && !dir.as_os_str().as_bytes().is_empty());
}
