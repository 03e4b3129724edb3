//! Leaving limits by the control groups themselves.

use std::fs;
use std::path::PathBuf;

use belljar::Sandbox;

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain, one_after_the_other};
use crate::attacks;
use crate::calls::{call, in_child, open_to_write, text};
use crate::support::features;

const LIMITED: fn(Sandbox) -> Sandbox = |sandbox| sandbox.pids_max(32);

attacks! {
    agent_of_version_1 {
        what: "mounts a version 1 hierarchy and opens its `release_agent` for writing (CVE-2022-0492)",
        class: &["A13"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(agent_of_version_1),
        control: Control::HostAfter("a process of the host in a mount namespace of its own", own_mounts),
        control_by: Hosts::Root,
        may_lack: true,
    }
    mount_the_cgroups {
        what: "mounts the cgroups, to change its limits",
        class: &["A13", "A24"],
        stopped_by: "the filter; no capability",
        method: Method::Inside(|_| in_child(|| {
            let mounted = call(libc::SYS_mount, [text("none"), text("/tmp"), text("cgroup2"), 0, 0]);
            match mounted {
                Ok(_) => open_to_write("/tmp/cgroup.procs"),
                Err(error) => Tried::Denied(explain(&error)),
            }
        })),
        control: Control::HostAfter("a process of the host in a mount namespace of its own", own_mounts),
        control_by: Hosts::Root,
        hosts: Hosts::Own,
        needs: &["cgroup-pids"],
        defence: LIMITED,
    }
    mount_the_cgroups_in_a_namespace {
        what: "makes user, mount and cgroup namespaces, and mounts the cgroups there (CVE-2022-0492)",
        class: &["A13", "A14"],
        stopped_by: "the filter",
        method: Method::Inside(|_| in_child(|| {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
            if let Err(error) = call(libc::SYS_unshare, [flags as usize]) {
                return Tried::Denied(explain(&error));
            }
            call(libc::SYS_mount, [text("none"), text("/tmp"), text("cgroup2"), 0, 0]).into()
        })),
        unfiltered: false,
    }
    leave_its_cgroup {
        what: "opens any list of the processes of a cgroup for writing, to move there",
        class: &["A13", "A24"],
        stopped_by: "no cgroup is mounted",
        method: Method::Inside(leave_its_cgroup),
        control_by: Hosts::Root,
        hosts: Hosts::Own,
        needs: &["cgroup-pids"],
        defence: LIMITED,
    }
}

fn own_mounts(_: &Facts) -> std::io::Result<()> {
    call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize])?;
    let flags = libc::MS_PRIVATE | libc::MS_REC;
    call(libc::SYS_mount, [0, text("/"), 0, flags as usize, 0]).map(drop)
}

/// Every controller that a version 1 hierarchy may have. Nothing is written.
fn agent_of_version_1(_: &Facts) -> Tried {
    let controllers = ["memory", "pids", "cpu", "freezer", "devices", "rdma", "misc"];
    one_after_the_other(controllers.map(|name| {
        let mounted = call(libc::SYS_mount, [text("none"), text("/tmp"), text("cgroup"), 0, text(name)]);
        let tried = match mounted {
            Ok(_) => {
                let tried = open_to_write("/tmp/release_agent");
                call(libc::SYS_umount2, [text("/tmp"), libc::MNT_DETACH as usize]).ok();
                tried
            }
            Err(error) => Tried::Denied(explain(&error)),
        };
        (name.to_owned(), tried)
    }))
}

fn leave_its_cgroup(_: &Facts) -> Tried {
    let own = ["pids", "memory", "cpu"].iter().filter_map(|name| features::controller_dir(name));
    let mut places: Vec<PathBuf> =
        vec!["/sys/fs/cgroup".into(), "/sys/fs/cgroup/pids".into(), "/sys/fs/cgroup/unified".into()];
    places.extend(own);
    places.retain(|place| place.is_dir());
    if places.is_empty() {
        let none = fs::read_dir("/sys/fs/cgroup").map(drop);
        return none
            .map_err(|error| std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)))
            .into();
    }
    one_after_the_other(places.iter().flat_map(|place| {
        ["cgroup.procs", "tasks"]
            .map(|file| (place.join(file).display().to_string(), open_to_write(place.join(file))))
    }))
}
