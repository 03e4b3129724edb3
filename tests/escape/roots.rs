//! What a hostile root makes of the host that works with it: links where mounts and files are to go.

use std::fs;
use std::path::Path;
use std::time::Duration;

use belljar::{Command, Mount, Rootfs};

use crate::attack::{Control, Method, Tried};
use crate::attacks;
use crate::calls::secret;
use crate::place::{BY_NAME, IN_ROOT, Place, hostile, one_after_the_other_of, overlay, with_usr};
use crate::support::sh;

attacks! {
    dev_is_a_link {
        what: "has a root whose `/dev` is a link to the host (CVE-2025-52565, CVE-2026-41579)",
        class: &["A4", "A6"],
        stopped_by: IN_ROOT,
        method: Method::Around(|_, sandbox| {
            hostile("dev", "", |root| sandbox.clone().rootfs(Rootfs::dir(root)).mount(Mount::dev("/dev")))
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("dev", "")?;
            fs::create_dir(place.root.join("dev/pts"))?;
            Ok(place.verdict())
        }),
    }
    proc_is_a_link {
        what: "has a root whose `/proc` is a link to the host (CVE-2023-27561)",
        class: &["A5", "A6"],
        stopped_by: IN_ROOT,
        method: Method::Around(|_, sandbox| {
            hostile("proc", "", |root| sandbox.clone().rootfs(Rootfs::dir(root)).mount(Mount::proc("/proc")))
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("proc", "")?;
            fs::create_dir(place.root.join("proc/self"))?;
            Ok(place.verdict())
        }),
    }
    target_is_a_link {
        what: "has a link to the host where a directory is bound, and where its parents are made (CVE-2024-45310)",
        class: &["A6"],
        stopped_by: IN_ROOT,
        method: Method::Around(|stage, sandbox| {
            let source = stage.scratch.join("bait");
            one_after_the_other_of(["/data", "/data/new/deeper"], |target| {
                let bind = |root: &Path| sandbox.clone().rootfs(overlay(root)).mount(Mount::bind(&source, target));
                hostile("data", "", bind)
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("data", "")?;
            fs::create_dir_all(place.root.join("data/new/deeper"))?;
            Ok(place.verdict())
        }),
    }
    file_is_a_link {
        what: "has a link to a file of the host where a file is written (CVE-2024-28185)",
        class: &["A6", "A11"],
        stopped_by: IN_ROOT,
        method: Method::Around(|_, sandbox| {
            let kinds: [fn(&Path) -> Rootfs; 2] = [overlay, |root| Rootfs::dir(root).writable()];
            one_after_the_other_of(kinds, |kind| {
                let write = |root: &Path| sandbox.clone().rootfs(kind(root)).mount(Mount::file("/script", "pwned"));
                hostile("script", "file", write)
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("script", "file")?;
            fs::write(place.root.join("script"), "pwned")?;
            Ok(place.verdict())
        }),
    }
    link_that_comes_and_goes {
        what: "swaps a directory for a link while it is being mounted on (CVE-2021-30465)",
        class: &["A6", "A30"],
        stopped_by: IN_ROOT,
        method: Method::Around(|_, sandbox| {
            let place = Place::new("data", "")?;
            let mount = Mount::dir("/data/new").mode(0o777);
            // Whose user owns the root of the host.
            let sandbox = sandbox.root();
            place.while_swapping(Duration::from_millis(150), || {
                let sandbox = sandbox.clone().rootfs(Rootfs::dir(&place.root).writable()).mount(mount.clone());
                let result = with_usr(sandbox).status(sh("true"));
                for name in ["parked/new", "data/new"] {
                    fs::remove_dir(place.root.join(name)).ok();
                }
                result.is_ok_and(|outcome| outcome.success())
            })
        }),
        control: Control::Other("a program that looks first, and then uses the path by name", |_| {
            let place = Place::new("data", "")?;
            let path = place.root.join("data");
            place.while_swapping(Duration::from_secs(10), || {
                let looked = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
                let made = looked && fs::create_dir(path.join("new")).is_ok();
                // What was made in the right place does not count.
                fs::remove_dir(place.root.join("parked/new")).ok();
                made
            })
        }),
    }
    null_is_a_link {
        what: "has a root whose `/dev/null`, by which files are hidden, is a link (CVE-2025-31133, CVE-2025-62161)",
        class: &["A3"],
        stopped_by: "masks are the host's own `/dev/null`, by descriptor",
        method: Method::Around(|_, sandbox| {
            let place = Place::new("unused", "")?;
            let path = place.hostile_null()?;
            let shown = with_usr(sandbox.rootfs(Rootfs::dir(&path)).mount(Mount::mask("/hidden")));
            Ok(secret(&shown.output(sh("cat /hidden"))?.stdout))
        }),
        control: Control::Other("a program that binds the root's `/dev/null` by name", |_| {
            let place = Place::new("unused", "")?;
            let path = place.hostile_null()?;
            let script = format!("mount --bind {0}/dev/null {0}/hidden && cat {0}/hidden", path.display());
            let mut command = std::process::Command::new("unshare");
            command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
            Ok(secret(&command.output()?.stdout))
        }),
        needs: &["unshare", "sh"],
    }
    mask_target_is_a_link {
        what: "has a link where a file is hidden, to have a file of the host covered instead (CVE-2025-52881)",
        class: &["A3", "A5"],
        stopped_by: IN_ROOT,
        method: Method::Around(|_, sandbox| {
            hostile("hidden", "file", |root| sandbox.clone().rootfs(Rootfs::dir(root)).mount(Mount::mask("/hidden")))
        }),
        control: Control::Other("a program that binds over the path by name, and then writes to it", |_| {
            let place = Place::new("hidden", "file")?;
            fs::write(place.root.join("hidden"), "")?;
            Ok(place.verdict())
        }),
    }
    program_is_a_link {
        what: "has a link to a program of the host where a program is executed",
        class: &["A6"],
        stopped_by: "programs are executed by path inside of the new root",
        method: Method::Around(|_, sandbox| {
            let place = Place::new("program", "program")?;
            Ok(match with_usr(sandbox.rootfs(Rootfs::dir(&place.root))).output(Command::new("/program")) {
                Ok(output) => secret(&output.stdout),
                Err(error) => Tried::Denied(error.to_string()),
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("program", "program")?;
            Ok(secret(&std::process::Command::new(place.root.join("program")).output()?.stdout))
        }),
    }
}
