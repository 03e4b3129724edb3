//! Changing what is mounted: what is hidden or read-only is so by mounts.

use std::fs;
use std::os::fd::AsRawFd;

use belljar::{Mount, Sandbox};

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain, one_after_the_other};
use crate::attacks;
use crate::calls::{at, call, in_child, open_to_write, read_secret, text, tried};
use crate::stage::{Stage, bait};

const STOPPED: &str = "the filter; no capability";
const OPEN: Control = Control::Without("`allow_all_syscalls().keep_capability(\"SYS_ADMIN\")`", |sandbox| {
    sandbox.allow_all_syscalls().keep_capability("SYS_ADMIN")
});

attacks! {
    mount_a_filesystem {
        what: "mounts a filesystem",
        class: &["A14"],
        stopped_by: STOPPED,
        method: Method::Inside(|_| tried(libc::SYS_mount, [text("none"), text("/tmp"), text("tmpfs"), 0, 0])),
        control: OPEN,
    }
    filesystem_context {
        what: "configures a filesystem by `fsopen` and `fsconfig` (CVE-2022-0185)",
        class: &["A14"],
        stopped_by: STOPPED,
        method: Method::Inside(|_| match call(libc::SYS_fsopen, [text("tmpfs"), 0]) {
            Ok(fd) => tried(libc::SYS_fsconfig, [fd as usize, 1, text("size"), text("4096"), 0]),
            Err(error) => Tried::Denied(explain(&error)),
        }),
        control: OPEN,
    }
    overlay_of_its_own {
        what: "mounts an overlay in a user namespace (CVE-2021-3493, CVE-2023-0386)",
        class: &["A14"],
        stopped_by: "the filter",
        needs: &["overlay"],
        method: Method::Inside(|_| in_child(|| {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
            if let Err(error) = call(libc::SYS_unshare, [flags as usize]) {
                return Tried::Denied(explain(&error));
            }
            let options = text("lowerdir=/usr:/etc");
            tried(libc::SYS_mount, [text("none"), text("/tmp"), text("overlay"), 0, options])
        })),
        unfiltered: false,
    }
    make_writable_again {
        what: "makes its read-only root writable, by `mount` and by `mount_setattr`",
        class: &["A17"],
        stopped_by: STOPPED,
        method: Method::Inside(make_writable_again),
        control: OPEN,
    }
    remove_a_mask {
        what: "unmounts what hides a file",
        class: &["A3"],
        stopped_by: STOPPED,
        scene: masked,
        method: Method::Inside(|facts| {
            let path = facts.path("bait").join("masked");
            call(libc::SYS_umount2, [text(&path), libc::MNT_DETACH as usize]).ok();
            read_secret(path)
        }),
        control: OPEN,
    }
    move_a_mask_away {
        what: "moves what hides a file to somewhere else",
        class: &["A3"],
        stopped_by: STOPPED,
        scene: masked,
        method: Method::Inside(|facts| {
            let path = facts.path("bait").join("masked");
            let place = text("/tmp/mask");
            fs::write("/tmp/mask", "").ok();
            call(libc::SYS_mount, [text(&path), place, 0, libc::MS_MOVE as usize, 0]).ok();
            read_secret(path)
        }),
        control: OPEN,
    }
    look_below_a_mask {
        what: "clones a directory without the mounts that hide parts of it (`open_tree`)",
        class: &["A3"],
        stopped_by: STOPPED,
        scene: masked,
        method: Method::Inside(|facts| {
            let here = libc::AT_FDCWD as usize;
            match call(libc::SYS_open_tree, [here, text(facts.path("bait")), 1]) {
                Ok(fd) => read_secret(format!("/proc/self/fd/{fd}/masked")),
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: OPEN,
    }
    read_a_masked_directory {
        what: "reads below a masked directory, by name and past its parent",
        class: &["A3"],
        stopped_by: "an empty filesystem over it",
        scene: masked,
        method: Method::Inside(|facts| {
            let bait = facts.path("bait");
            let paths = ["closed/file", "closed/../closed/file", "closed/./file"];
            one_after_the_other(paths.map(|path| (path.to_owned(), read_secret(bait.join(path)))))
        }),
    }
    read_a_masked_file {
        what: "reads a masked file, and opens it for writing",
        class: &["A3"],
        stopped_by: "`/dev/null` of the host over it",
        scene: masked,
        method: Method::Inside(|facts| read_secret(facts.path("bait").join("masked"))),
    }
    cover_a_file {
        what: "binds a file of its own over one that others trust",
        class: &["A3", "A5"],
        stopped_by: STOPPED,
        method: Method::Inside(|_| {
            fs::write("/tmp/passwd", "").ok();
            tried(libc::SYS_mount, [text("/tmp/passwd"), text("/etc/passwd"), 0, libc::MS_BIND as usize, 0])
        }),
        control: OPEN,
    }
    attach_a_mount {
        what: "attaches a mount by descriptor (`open_tree`, `move_mount`)",
        class: &["A14"],
        stopped_by: STOPPED,
        method: Method::Inside(|_| {
            let here = libc::AT_FDCWD as usize;
            match call(libc::SYS_open_tree, [here, text("/usr"), 1]) {
                Ok(fd) => tried(libc::SYS_move_mount, [fd as usize, text(""), here, text("/tmp"), 4]),
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: OPEN,
    }
    below_the_root {
        what: "takes its root away, in a user namespace of its own too, and enters what was below it",
        class: &["A2"],
        stopped_by: "the filter; the kernel locks the root's mount; nothing of the host is below it",
        method: Method::Inside(|_| in_child(below_the_root)),
        control: Control::HostAfter("a process of the host whose root is mounted over another", |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize])?;
            call(libc::SYS_mount, [0, text("/"), 0, (libc::MS_PRIVATE | libc::MS_REC) as usize, 0])?;
            call(libc::SYS_mount, [text("/"), text("/"), 0, (libc::MS_BIND | libc::MS_REC) as usize, 0])?;
            // The topmost mount there.
            call(libc::SYS_chdir, [text("/..")])?;
            call(libc::SYS_chroot, [text(".")]).map(drop)
        }),
        control_by: Hosts::Root,
    }
    leave_by_mount_propagation {
        what: "makes its mounts shared with the host's, so that its own appear there",
        class: &["A30"],
        stopped_by: "mounts are private; no capability",
        method: Method::Inside(|_| {
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let with_peers = table.lines().find(|line| line.contains(" shared:") || line.contains(" master:"));
            match with_peers {
                Some(line) => Tried::Broke(line.to_owned()),
                None if table.is_empty() => Tried::CouldNot("there is no table".into()),
                None => Tried::Denied("no mount has peers".into()),
            }
        }),
        control: Control::HostAfter("a process of the host with shared mounts", |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize])?;
            let flags = libc::MS_SHARED | libc::MS_REC;
            call(libc::SYS_mount, [0, text("/"), 0, flags as usize, 0]).map(drop)
        }),
        control_by: Hosts::Root,
    }
    core_pattern {
        what: "opens `core_pattern` for writing, by which the host's root runs a program (CVE-2025-52881)",
        class: &["A5", "B5"],
        stopped_by: "a `/proc` with processes only; ids that are not the host's",
        method: Method::Inside(|_| open_to_write("/proc/sys/kernel/core_pattern")),
        control_by: Hosts::Root,
    }
    system_requests {
        what: "opens `/proc/sysrq-trigger` for writing, by which the machine is stopped",
        class: &["A5", "A27"],
        stopped_by: "a `/proc` with processes only; ids that are not the host's",
        method: Method::Inside(|_| open_to_write("/proc/sysrq-trigger")),
        control_by: Hosts::Root,
        may_lack: true,
    }
    kernel_parameters {
        what: "opens any file of `/proc/sys` for writing",
        class: &["A5", "A27"],
        stopped_by: "a `/proc` with processes only; ids that are not the host's",
        method: Method::Inside(kernel_parameters),
        control_by: Hosts::Root,
    }
    helper_of_device_events {
        what: "opens files of `/sys` for writing, such as `uevent_helper`",
        class: &["A27"],
        stopped_by: "there is no `/sys`",
        method: Method::Inside(|_| {
            let paths = ["/sys/kernel/uevent_seqnum", "/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled"];
            one_after_the_other(paths.map(|path| (path.to_owned(), open_to_write(path))))
        }),
        control_by: Hosts::Root,
    }
}

/// The bait, with a file and a directory of it hidden.
fn masked(stage: &Stage, sandbox: Sandbox) -> Sandbox {
    bait(stage, sandbox).mount(Mount::mask("/bait/masked")).mount(Mount::mask("/bait/closed"))
}

/// Who enters a mount namespace finds the topmost mount as the root.
fn below_the_root() -> Tried {
    // The number of the mount is in it, and none if there is no procfs.
    let root = || {
        let root = fs::File::open("/").ok()?;
        fs::read_to_string(format!("/proc/self/fdinfo/{}", root.as_raw_fd())).ok()
    };
    let attempt = || {
        let before = root();
        let namespace = match fs::File::open("/proc/self/ns/mnt") {
            Ok(namespace) => namespace,
            Err(error) => return Tried::CouldNot(explain(&error)),
        };
        let attempts = [
            call(libc::SYS_mount, [text("/"), text("/tmp"), 0, libc::MS_MOVE as usize, 0]),
            call(libc::SYS_umount2, [text("/"), libc::MNT_DETACH as usize]),
            call(libc::SYS_setns, [namespace.as_raw_fd() as usize, libc::CLONE_NEWNS as usize]),
        ];
        if root() != before {
            return Tried::Broke("another root".into());
        }
        let words = attempts.map(|made| made.map_or_else(|error| explain(&error), |_| "in vain".into()));
        Tried::Denied(words.join(", "))
    };
    let nested = || {
        // There it has every capability over its copies of the mounts.
        match call(libc::SYS_unshare, [(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as usize]) {
            Ok(_) => attempt(),
            Err(error) => Tried::Denied(explain(&error)),
        }
    };
    one_after_the_other([("as it is".into(), attempt()), ("in a user namespace".into(), nested())])
}

/// Nothing is written: the filesystem's flags say what happened.
fn make_writable_again(_: &Facts) -> Tried {
    const MS_REMOUNT_BIND: usize = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
    let here = libc::AT_FDCWD as usize;
    let root = text("/");
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let mut clear = [0_u64, 1, 0, 0];
    let attempts = [
        ("mount", call(libc::SYS_mount, [0, root, 0, MS_REMOUNT_BIND, 0])),
        ("mount_setattr", call(libc::SYS_mount_setattr, [here, root, 0, at(&mut clear), 32])),
    ];
    let flags = nix::sys::statvfs::statvfs("/").map(|found| found.flags());
    match flags {
        Ok(flags) if flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY) => {
            Tried::Denied(format!("{attempts:?}"))
        }
        Ok(_) => Tried::Broke("the root is writable".into()),
        Err(error) => Tried::CouldNot(error.to_string()),
    }
}

fn kernel_parameters(_: &Facts) -> Tried {
    let mut files = 0;
    let mut stack = vec![std::path::PathBuf::from("/proc/sys")];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => stack.push(entry.path()),
                // Everybody may open it; the permission is looked at when it is written.
                Ok(_) if entry.file_name() == "ns_last_pid" => {}
                Ok(_) => {
                    files += 1;
                    if let Tried::Broke(_) = open_to_write(entry.path()) {
                        return Tried::Broke(entry.path().display().to_string());
                    }
                }
                Err(_) => {}
            }
        }
    }
    Tried::Denied(format!("none of {files}"))
}
