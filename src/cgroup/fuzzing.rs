//! The parsers of this module on any text, for the fuzz target.

use std::os::unix::ffi::OsStrExt;
use std::path::Component;

use super::layout::{Controller, Hierarchy, Layout};
use super::name::{BoxName, Stat};
use super::oom::{LogKey, Told, about_memory};
use super::{Counters, counters, pressure};

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
    kernel_log(text);
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

/// Records as `/dev/kmsg` has them, and their messages alone. No more victims come of them than were counted.
fn kernel_log(text: &str) {
    let records: Vec<_> = text.lines().filter_map(about_memory).collect();
    for lines in [records, text.lines().collect()] {
        for (whole_group, kills) in [(false, 1), (false, 2), (true, 1), (true, 3)] {
            let key = LogKey { name: "belljar-1-2-3-4".to_owned(), of_box: None, whole_group };
            let counters = Counters { oom_kills: Some(kills), oom: Some(kills), ..Counters::default() };
            let kills = usize::try_from(kills).unwrap_or(usize::MAX);
            let oom = Told::of(lines.iter().copied(), &key, kills).judge(whole_group, kills, &counters);
            assert!(oom.victims.len() <= kills, "more victims than were counted: {:?}", oom.victims);
        }
    }
}
