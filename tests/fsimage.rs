//! Filesystem images as layers and roots, and what is left of them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as HostCommand, ExitCode, Stdio as HostStdio};
use std::time::Duration;

use belljar::ChangeKind::{Added, Deleted, Metadata, Modified};
use belljar::{Change, ChangeKind, Command, Error, ErrorKind, Mount, Rootfs, Sandbox, Upper};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use support::{
    Result, Scratch, as_nobody, explain, fail, hold, mib, oracle, payload, role_command, run_helper,
    run_role, run_sh, sh, slack, succeed, timed, with_payload, with_system, within,
};

fn main() -> ExitCode {
    let cases = cases![
        runs_on_squashfs: ["userns", "root", "overlay", "squashfs", "sh"],
        runs_on_erofs: ["userns", "root", "overlay", "erofs", "sh"],
        what_is_in_it_tells_the_kind: ["userns", "root", "overlay", "squashfs", "erofs", "sh"],
        images_and_directories_in_one_overlay: ["userns", "root", "overlay", "squashfs", "erofs", "sh"],
        an_image_as_the_whole_root: ["userns", "root", "squashfs", "erofs", "sh"],
        ids_in_an_image_are_ids_inside: ["userns", "root", "overlay", "squashfs", "erofs", "sh"],
        without_a_user_namespace: ["root", "overlay", "squashfs", "sh"],
        set_user_id_files_and_devices_are_dead: ["userns", "root", "overlay", "squashfs", "erofs", "sh", "setpriv"],
        an_upper_in_memory: ["userns", "root", "overlay", "tmpfs-xattr", "squashfs", "erofs", "sh"],
        an_upper_on_disk: ["userns", "root", "overlay", "squashfs", "erofs", "sh"],
        changes_over_images: ["userns", "root", "overlay", "tmpfs-xattr", "squashfs", "erofs", "sh"],
        changes_are_those_to_the_image_that_was_mounted: ["userns", "root", "overlay", "squashfs", "sh"],
        changes_come_true: ["userns", "root", "overlay", "tmpfs-xattr", "squashfs", "erofs", "sh"],
        one_image_is_mounted_once: ["userns", "root", "overlay", "squashfs", "sh"],
        an_image_that_was_changed_is_another_one: ["userns", "root", "overlay", "squashfs", "sh"],
        many_sandboxes_at_once: ["userns", "root", "overlay", "squashfs", "sh"],
        many_images_at_once: ["userns", "root", "overlay", "erofs", "sh"],
        the_price_of_an_image: ["userns", "root", "overlay", "squashfs", "erofs"],
        nothing_is_left: ["userns", "root", "overlay", "squashfs", "erofs"],
        nothing_is_left_of_a_killed_host: ["userns", "root", "overlay", "squashfs", "erofs"],
        each_call_failing_once: ["userns", "root", "overlay", "squashfs", "erofs", "strace"],
        files_that_are_no_images: ["root", "loop"],
        images_that_are_cut_off: ["root", "squashfs", "erofs"],
        images_that_are_damaged: ["root", "squashfs", "erofs"],
        an_image_without_padding: ["userns", "root", "overlay", "squashfs", "sh"],
        images_that_are_missing: ["bare"],
        without_privilege: ["setpriv"],
        without_loop_devices: ["root", "squashfs", "unshare"],
        as_root_of_a_user_namespace: ["userns", "root", "squashfs", "erofs", "unshare"],
    ];
    support::main(
        cases,
        &[
            ("victim", victim),
            ("one-run", one_run),
            ("nobody", nobody),
            ("no-loop", no_loop),
            ("container", container),
        ],
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Squashfs,
    Erofs,
}
use Kind::{Erofs, Squashfs};

/// Makes an image of a directory.
fn pack(kind: Kind, dir: &Path, image: &Path) -> Result {
    let mut command = match kind {
        Squashfs => {
            let mut command = HostCommand::new("mksquashfs");
            command.args([dir, image]).args(["-quiet", "-no-progress", "-noappend"]);
            command
        }
        Erofs => {
            let mut command = HostCommand::new("mkfs.erofs");
            command.args([image, dir]);
            command
        }
    };
    run_helper(&mut command, Duration::from_secs(60))?.succeed().map(drop)
}

/// A directory with a program and some data of two users, and an image of it.
fn image(scratch: &Scratch, kind: Kind, name: &str) -> Result<PathBuf> {
    let dir = format!("{name}-tree");
    for sub in ["data/sub", "tools", "usr", "proc", "dev", "tmp"] {
        scratch.dir(format!("{dir}/{sub}"));
    }
    scratch.file(format!("{dir}/payload"), "");
    fs::copy("/bin/sh", scratch.join(format!("{dir}/tools/sh")))?;
    for link in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), scratch.join(&dir).join(link))?;
    }
    scratch.file(format!("{dir}/data/name"), name);
    let text = "0123456789".repeat(200);
    for file in ["root", "user", "sub/deep", "gone"] {
        scratch.file(format!("{dir}/data/{file}"), format!("{file} {text}"));
    }
    let user = scratch.join(format!("{dir}/data/user"));
    chown(&user, Some(1000), Some(1000))?;
    // Root inside has no capability, and writes to files of others as anybody does.
    fs::set_permissions(&user, fs::Permissions::from_mode(0o666))?;
    let image = scratch.join(name);
    pack(kind, &scratch.join(&dir), &image)?;
    Ok(image)
}

/// The system's programs over a root that has none.
fn on(rootfs: Rootfs) -> Sandbox {
    with_system(with_payload(Sandbox::new().rootfs(rootfs))).mount(Mount::proc("/proc"))
}

fn over<P: AsRef<Path>>(layers: &[P]) -> Rootfs {
    Rootfs::overlay(layers.iter().map(|layer| layer.as_ref().to_path_buf()))
}

fn in_memory() -> Upper {
    Upper::tmpfs(mib(16), 2000)
}

/// The loop devices that have files below a directory.
fn loop_devices(below: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let has = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("loop/backing_file"))
            .is_ok_and(|file| Path::new(file.trim_end()).starts_with(below))
    };
    devices.filter(has).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The kernel takes them away a little after the last process that could see them.
fn all_gone(scratch: &Scratch) -> Result {
    let gone = within(Duration::from_secs(2) * slack(), || loop_devices(scratch.path()).is_empty());
    if gone { Ok(()) } else { fail(format!("{:?} are left", loop_devices(scratch.path()))) }
}

fn runs_on_squashfs() -> Result {
    runs_on(Squashfs)
}

fn runs_on_erofs() -> Result {
    runs_on(Erofs)
}

fn runs_on(kind: Kind) -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, kind, "image")?;
    let sandbox = on(over(&[&image]));
    let script =
        "/tools/sh -c 'cat /data/name; echo; wc -c </data/root'; echo x 2>/dev/null >/data/name; echo $?";
    let mut said = String::new();
    for _ in 0..2 {
        said = run_sh(&sandbox, script)?;
    }
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["image", "2005"], "{said}");
    assert_ne!(lines[2], "0", "it was written to");
    all_gone(&scratch)
}

fn what_is_in_it_tells_the_kind() -> Result {
    let scratch = Scratch::new();
    image(&scratch, Squashfs, "one")?;
    image(&scratch, Erofs, "two")?;
    for (name, wrong) in [("one", "one.erofs"), ("two", "two.squashfs")] {
        fs::rename(scratch.join(name), scratch.join(wrong))?;
        assert_eq!(run_sh(&on(over(&[scratch.join(wrong)])), "cat /data/name")?, name);
        // The caller's own links are followed, as they are to directories.
        symlink(wrong, scratch.join("link"))?;
        assert_eq!(run_sh(&on(over(&[scratch.join("link")])), "cat /data/name")?, name);
        fs::remove_file(scratch.join("link"))?;
    }
    Ok(())
}

fn images_and_directories_in_one_overlay() -> Result {
    let scratch = Scratch::new();
    let below = image(&scratch, Squashfs, "below")?;
    scratch.dir("between/data/sub");
    scratch.file("between/data/name", "between");
    scratch.file("between/data/only", "between");
    scratch.dir("top/data");
    scratch.file("top/data/sub", "no directory any more");
    let top = scratch.join("top.erofs");
    pack(Erofs, &scratch.join("top"), &top)?;
    let sandbox = on(over(&[&top, &scratch.join("between"), &below]));
    let said = run_sh(&sandbox, "cd /data; cat name only sub; ls; /tools/sh -c 'head -c 4 root'")?;
    assert_eq!(said, "betweenbetweenno directory any moregone\nname\nonly\nroot\nsub\nuser\nroot");
    // The same image twice, as the kernel allows it for directories: not at all.
    let twice = on(over(&[&below, &below])).output(sh("cat /data/name"));
    assert_eq!(twice.expect_err("overlayfs refuses it").step(), belljar::Step::Root);
    Ok(())
}

fn an_image_as_the_whole_root() -> Result {
    let scratch = Scratch::new();
    for kind in [Squashfs, Erofs] {
        let image = image(&scratch, kind, &format!("{kind:?}"))?;
        let sandbox = with_payload(Sandbox::new().rootfs(Rootfs::dir(&image)))
            .mount(Mount::bind("/usr", "/usr"))
            .mount(Mount::proc("/proc"))
            .root();
        let said = run_sh(
            &sandbox,
            "cat /data/name; stat -c ' %u:%g' /data/user /; rm -f /data/name 2>/dev/null || echo no",
        )?;
        assert_eq!(said, format!("{kind:?} 1000:1000\n 0:0\nno\n"));
        let error = Sandbox::new().rootfs(Rootfs::dir(&image).writable()).plan().expect_err("read-only");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("upper")), "{}", explain(&error));
        fs::remove_dir_all(scratch.join(format!("{kind:?}-tree")))?;
    }
    all_gone(&scratch)
}

fn ids_in_an_image_are_ids_inside() -> Result {
    let scratch = Scratch::new();
    for kind in [Squashfs, Erofs] {
        let image = image(&scratch, kind, &format!("{kind:?}"))?;
        let script = "stat -c '%n %u:%g' /data/root /data/user";
        for sandbox in
            [on(over(&[&image])), on(over(&[&image]).upper(in_memory())), on(over(&[&image])).root()]
        {
            assert_eq!(run_sh(&sandbox, script)?, "/data/root 0:0\n/data/user 1000:1000\n");
        }
        // They are ids inside, and not the host's: the process has none of these.
        let held = hold(&on(over(&[&image])))?;
        let uid = oracle::status(held.pid)["Uid"].split_whitespace().next().map(str::to_owned);
        assert!(uid.is_some_and(|uid| uid != "1000" && uid != "0"));
        held.release()?;
    }
    Ok(())
}

fn without_a_user_namespace() -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, Squashfs, "image")?;
    let sandbox =
        with_system(with_payload(Sandbox::bare().pid_ns().rootfs(over(&[&image]).upper(in_memory()))));
    let container = sandbox.mount(Mount::proc("/proc")).start()?;
    let said = succeed(container.output(sh("stat -c %u /data/user; echo x >>/data/user; rm /data/gone"))?)?;
    assert_eq!(said, "1000\n");
    assert_eq!(
        below_data(&container.changes()?),
        [kind(Deleted, "/data/gone"), kind(Modified, "/data/user")]
    );
    drop(container);
    all_gone(&scratch)
}

fn set_user_id_files_and_devices_are_dead() -> Result {
    let scratch = Scratch::new();
    for pack_as in [Squashfs, Erofs] {
        let name = format!("{pack_as:?}");
        image(&scratch, pack_as, &name)?;
        let tree = scratch.join(format!("{name}-tree"));
        let id = tree.join("tools/id");
        fs::copy("/usr/bin/id", &id)?;
        fs::set_permissions(&id, fs::Permissions::from_mode(0o4755))?;
        let zero = tree.join("tools/zero");
        mknod(&zero, SFlag::S_IFCHR, Mode::empty(), makedev(1, 5))?;
        fs::set_permissions(&zero, fs::Permissions::from_mode(0o666))?;
        // The controls: outside, both are alive.
        let outside = HostCommand::new("setpriv")
            .args(["--reuid", "65534", "--clear-groups"])
            .args([&*id, Path::new("-u")])
            .output()?;
        assert_eq!(outside.stdout, b"0\n");
        fs::File::open(&zero)?;
        let image = scratch.join(&name);
        pack(pack_as, &tree, &image)?;
        let whole = Sandbox::new().rootfs(Rootfs::dir(&image)).mount(Mount::bind("/usr", "/usr"));
        for sandbox in
            [on(over(&[&image])), on(over(&[&image]).upper(in_memory())), whole.clone(), whole.root()]
        {
            let said = run_sh(
                &sandbox,
                "id -u; stat -c %a /tools/id; /tools/id -u; head -c 1 /tools/zero 2>&1; stat -c %t:%T /tools/zero",
            )?;
            let lines: Vec<_> = said.lines().collect();
            assert_eq!(lines[1], "4755");
            assert_eq!(lines[0], lines[2], "another user by a file of the image: {said}");
            assert!(lines[3].contains("Permission denied"), "{said}");
            assert_eq!(lines[4], "1:5");
        }
    }
    Ok(())
}

fn an_upper_in_memory() -> Result {
    let scratch = Scratch::new();
    let squashfs = image(&scratch, Squashfs, "squashfs")?;
    let erofs = image(&scratch, Erofs, "erofs")?;
    let before: Vec<_> = [&squashfs, &erofs].iter().map(|image| fs::read(image).ok()).collect();
    for image in [&squashfs, &erofs] {
        let sandbox = on(over(&[image]).upper(in_memory())).root();
        let script = "cd /data; echo more >>root; rm gone; rm -r sub; mkdir sub; mv name new; ls; tail -n 1 root; ls sub";
        for _ in 0..2 {
            let said = run_sh(&sandbox, script)?;
            assert!(said.starts_with("new\nroot\nsub\nuser\n") && said.ends_with("more\n"), "{said}");
        }
    }
    let after: Vec<_> = [&squashfs, &erofs].iter().map(|image| fs::read(image).ok()).collect();
    assert_eq!(before, after);
    all_gone(&scratch)
}

fn an_upper_on_disk() -> Result {
    let scratch = Scratch::new();
    for pack_as in [Squashfs, Erofs] {
        let name = format!("{pack_as:?}");
        let image = image(&scratch, pack_as, &name)?;
        let (upper, work) = (scratch.dir(format!("{name}-up/upper")), scratch.dir(format!("{name}-up/work")));
        let rootfs = over(&[&image]).upper(Upper::dir(&upper, &work));
        let sandbox = on(rootfs.clone()).root();
        run_sh(&sandbox, "echo more >>/data/user; rm -r /data/sub; chmod 600 /data/root")?;
        assert_eq!(
            run_sh(&sandbox, "tail -n 1 /data/user; ls /data")?.split('9').next_back(),
            Some("more\ngone\nname\nroot\nuser\n")
        );
        // Owners on disk are those inside.
        assert_eq!(fs::metadata(upper.join("data/user"))?.uid(), 1000);
        assert_eq!(fs::metadata(upper.join("data/root"))?.uid(), 0);
        all_gone(&scratch)?;
        let changes = rootfs.changes()?;
        let wanted = [kind(Metadata, "/data/root"), kind(Deleted, "/data/sub"), kind(Modified, "/data/user")];
        assert_eq!(below_data(&changes), wanted);
        all_gone(&scratch)?;
    }
    Ok(())
}

fn kind(kind: ChangeKind, path: &str) -> (ChangeKind, String) {
    (kind, path.to_owned())
}

/// The changes below `/data`: what the mounts need is made in the upper, too.
fn below_data(changes: &[Change]) -> Vec<(ChangeKind, String)> {
    let data = changes.iter().filter(|change| change.path.starts_with("/data"));
    data.map(|change| (change.kind, change.path.display().to_string())).collect()
}

fn changes_over_images() -> Result {
    let scratch = Scratch::new();
    let below = image(&scratch, Squashfs, "below")?;
    scratch.dir("top/data");
    scratch.file("top/data/user", "from the top");
    chown(scratch.join("top/data/user"), Some(1000), Some(1000))?;
    fs::set_permissions(scratch.join("top/data/user"), fs::Permissions::from_mode(0o666))?;
    let top = scratch.join("top.erofs");
    pack(Erofs, &scratch.join("top"), &top)?;
    let container = on(over(&[&top, &below]).upper(in_memory())).root().start()?;
    assert_eq!(below_data(&container.changes()?), []);
    let script = "cd /data
        exec 3<>root; exec 4<>user; exec 5<>sub/deep  # copied up, with owners, for nothing
        echo x >>name; rm gone; echo y >new; chmod 600 sub/deep";
    succeed(container.output(sh(script))?)?;
    let wanted = [
        kind(Deleted, "/data/gone"),
        kind(Modified, "/data/name"),
        kind(Added, "/data/new"),
        kind(Metadata, "/data/sub/deep"),
    ];
    assert_eq!(below_data(&container.changes()?), wanted);
    assert_eq!(below_data(&container.changes()?), wanted);
    drop(container);
    all_gone(&scratch)
}

fn changes_are_those_to_the_image_that_was_mounted() -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, Squashfs, "image")?;
    let container = on(over(&[&image]).upper(in_memory())).root().start()?;
    succeed(container.output(sh("echo new >/data/name; exec 3<>/data/user"))?)?;
    // Another one has taken its place, in which that is nothing new.
    scratch.file("image-tree/data/name", "new\n");
    scratch.file("image-tree/data/user", "other");
    pack(Squashfs, &scratch.join("image-tree"), &scratch.join("next"))?;
    fs::rename(scratch.join("next"), &image)?;
    assert_eq!(below_data(&container.changes()?), [kind(Modified, "/data/name")]);
    let of_next = on(over(&[&image]));
    assert_eq!(run_sh(&of_next, "cat /data/user")?, "other");
    assert_eq!(succeed(container.output(sh("head -c 4 /data/user"))?)?, "user");
    // And when there is none any more.
    fs::remove_file(&image)?;
    assert_eq!(below_data(&container.changes()?), [kind(Modified, "/data/name")]);
    drop(container);
    all_gone(&scratch)
}

fn changes_come_true() -> Result {
    let scratch = Scratch::new();
    for pack_as in [Squashfs, Erofs] {
        let name = format!("{pack_as:?}");
        let image = image(&scratch, pack_as, &name)?;
        let target = scratch.join(format!("{name}-tree/data"));
        let container = on(over(&[&image]).upper(in_memory())).root().start()?;
        succeed(
            container.output(sh("cd /data; echo new >user; rm -r gone sub; mkdir made; echo z >made/z"))?,
        )?;
        let left_out = container.apply("/data", &target, mib(1))?;
        assert_eq!(left_out, []);
        assert_eq!(fs::read_to_string(target.join("user"))?, "new\n");
        assert_eq!(fs::metadata(target.join("user"))?.uid(), 1000);
        assert_eq!(fs::read_to_string(target.join("made/z"))?, "z\n");
        let names: BTreeSet<_> = fs::read_dir(&target)?.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["made", "name", "root", "user"].map(OsString::from).into());
    }
    all_gone(&scratch)
}

fn one_image_is_mounted_once() -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, Squashfs, "image")?;
    symlink("image", scratch.join("other-name"))?;
    let sandbox = on(over(&[&image]).upper(in_memory()));
    let plan = sandbox.plan()?;
    let device = loop_devices(scratch.path());
    assert_eq!(device.len(), 1, "{device:?}");
    let read_only = fs::read_to_string(format!("/sys/block/{}/ro", device[0]))?;
    let autoclear = fs::read_to_string(format!("/sys/block/{}/loop/autoclear", device[0]))?;
    assert_eq!((read_only.trim(), autoclear.trim()), ("1", "1"));
    let containers = [plan.start()?, sandbox.start()?, on(over(&[scratch.join("other-name")])).start()?];
    let reader = plan.start()?;
    reader.changes()?;
    assert_eq!(loop_devices(scratch.path()), device);
    // The sandboxes keep it, and not the plan.
    drop(plan);
    assert_eq!(loop_devices(scratch.path()), device);
    for container in &containers {
        assert_eq!(succeed(container.output(sh("cat /data/name"))?)?, "image");
    }
    drop(containers);
    drop(reader);
    all_gone(&scratch)
}

fn an_image_that_was_changed_is_another_one() -> Result {
    let scratch = Scratch::new();
    let path = image(&scratch, Squashfs, "image")?;
    let old = on(over(&[&path])).plan()?;
    let modified = fs::metadata(&path)?.modified()?;
    scratch.file("image-tree/data/name", "other");
    pack(Squashfs, &scratch.join("image-tree"), &scratch.join("next"))?;
    assert_eq!(fs::metadata(scratch.join("next"))?.len(), fs::metadata(&path)?.len());
    // Of the same name, size and time.
    fs::rename(scratch.join("next"), &path)?;
    fs::File::options().write(true).open(&path)?.set_modified(modified)?;
    let new = on(over(&[&path])).plan()?;
    let read = |plan: &belljar::Plan| succeed(plan.output(sh("cat /data/name"))?);
    assert_eq!((read(&old)?.as_str(), read(&new)?.as_str()), ("image", "other"));
    assert_eq!(loop_devices(scratch.path()).len(), 2);
    drop((old, new));
    all_gone(&scratch)
}

fn many_sandboxes_at_once() -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, Squashfs, "image")?;
    let run = |number: usize| -> Result {
        let sandbox = on(over(&[&image]).upper(in_memory())).root();
        let script = format!(
            "cat /data/name; echo {number} >/data/name; cat /data/name; cat /data/* 2>/dev/null | wc -c"
        );
        let said = run_sh(&sandbox, &script)?;
        if said.starts_with(&format!("image{number}\n")) { Ok(()) } else { fail(said) }
    };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let most = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let one = || -> Result {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= 30 {
                    return Ok(());
                }
                run(number)?;
                most.fetch_max(loop_devices(scratch.path()).len(), std::sync::atomic::Ordering::Relaxed);
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    // One more may still be on its way out.
    assert!(most.into_inner() <= 2);
    // And 30 that live at the same time.
    let sandbox = on(over(&[&image]));
    let containers: Vec<_> = (0..30).map(|_| sandbox.start()).collect::<belljar::Result<_>>()?;
    assert_eq!(loop_devices(scratch.path()).len(), 1);
    drop(containers);
    all_gone(&scratch)
}

/// Threads and processes that look for a free loop device at the same time.
fn many_images_at_once() -> Result {
    let scratch = Scratch::new();
    image(&scratch, Erofs, "image")?;
    let images: Vec<_> = (0..12).map(|number| scratch.join(format!("image-{number}"))).collect();
    for copy in &images {
        fs::copy(scratch.join("image"), copy)?;
    }
    let helpers: Vec<_> = (0..3)
        .map(|_| role_command("victim", &["--brief"]).args(&images).stdout(HostStdio::piped()).spawn())
        .collect::<std::io::Result<_>>()?;
    let plans = std::thread::scope(|scope| {
        let threads: Vec<_> =
            images.iter().map(|copy| scope.spawn(move || on(over(&[copy])).plan())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<belljar::Result<Vec<_>>>()
    })?;
    for plan in &plans {
        assert_eq!(succeed(plan.output(sh("cat /data/name"))?)?, "image");
    }
    for helper in helpers {
        let output = helper.wait_with_output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "12\n");
    }
    assert_eq!(loop_devices(scratch.path()).len(), 12);
    // All of them as layers of one.
    let names = run_sh(&on(over(&images)), "cat /data/name")?;
    assert_eq!(names, "image");
    drop(plans);
    all_gone(&scratch)
}

/// Medians of a whole run over a directory and over images of it, in turn: with a plan that is kept, and one for each run.
fn the_price_of_an_image() -> Result {
    const RUNS: usize = 40;
    let scratch = Scratch::new();
    let layers = [
        image(&scratch, Squashfs, "squashfs")?,
        image(&scratch, Erofs, "erofs")?,
        scratch.join("erofs-tree"),
    ];
    let sandboxes = layers.map(|layer| on(over(&[layer])));
    let medians = |run: &dyn Fn(usize) -> belljar::Result<belljar::Output>| -> Result<[Duration; 3]> {
        let mut times = [(); 3].map(|()| Vec::new());
        for _ in 0..RUNS {
            for (n, times) in times.iter_mut().enumerate() {
                let (ran, time) = timed(|| run(n));
                succeed(ran?)?;
                times.push(time);
            }
        }
        Ok(times.map(|mut times| {
            times.sort();
            times[RUNS / 2]
        }))
    };
    let command = payload("exit", &["0"]);
    let anew = medians(&|n| sandboxes[n].output(&command))?;
    let plans: Vec<_> = sandboxes.iter().map(Sandbox::plan).collect::<belljar::Result<_>>()?;
    let kept = medians(&|n| plans[n].output(&command))?;
    for (how, [squashfs, erofs, directory]) in [("plan for each run", anew), ("plan kept", kept)] {
        println!("{how}: squashfs {squashfs:?}, erofs {erofs:?}, directory {directory:?}");
        // Far from what is measured: other tests run beside.
        let most = directory * 2 + Duration::from_millis(20) * slack();
        assert!(squashfs < most && erofs < most);
    }
    Ok(())
}

fn nothing_is_left() -> Result {
    let scratch = Scratch::new();
    let layers = [image(&scratch, Squashfs, "one")?, image(&scratch, Erofs, "two")?];
    let sandbox = on(over(&layers).upper(in_memory()));
    run_role(&sandbox, "exit", &["0"])?;
    all_gone(&scratch)?;
    let before = (oracle::open_fds(), fs::read_to_string("/proc/self/mountinfo")?);
    for _ in 0..20 {
        run_role(&sandbox, "exit", &["0"])?;
        drop(sandbox.plan()?);
        drop(sandbox.start()?);
        // One that fails when all is mounted, and one when half of it is.
        assert!(sandbox.clone().spawn(Command::new("/no/such/program")).is_err());
        let bad = scratch.file("bad", "no image");
        assert!(on(over(&[&layers[0], &bad])).plan().is_err());
    }
    all_gone(&scratch)?;
    // Other tests of this program have descriptors, too.
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    assert_eq!(mountinfo, before.1);
    let own: Vec<_> = oracle::open_fds()
        .into_iter()
        .filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok())
        .filter(|target| target.starts_with(scratch.path()))
        .collect();
    assert_eq!(own, Vec::<PathBuf>::new());
    Ok(())
}

/// A host with a plan and a sandbox over images. `--brief`: plans for each of them, and an end.
fn victim(args: &[OsString]) -> i32 {
    let run = || -> Result {
        if args.first().is_some_and(|first| first == "--brief") {
            let plans: Vec<_> =
                args[1..].iter().map(|path| on(over(&[path])).plan()).collect::<belljar::Result<_>>()?;
            println!("{}", plans.len());
            return Ok(());
        }
        let sandbox = on(over(args).upper(in_memory()));
        let plan = sandbox.plan()?;
        let held = hold(&sandbox)?;
        println!("{}", held.pid);
        std::io::stdout().flush()?;
        std::thread::sleep(Duration::from_secs(60));
        drop((plan, held));
        Ok(())
    };
    if let Err(support::Fail(message)) = run() {
        println!("{message}");
    }
    0
}

fn nothing_is_left_of_a_killed_host() -> Result {
    let scratch = Scratch::new();
    let layers = [image(&scratch, Squashfs, "one")?, image(&scratch, Erofs, "two")?];
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut host = role_command("victim", &[]).args(&layers).stdout(HostStdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(host.stdout.as_mut().expect("piped")).read_line(&mut line)?;
        let Ok(pid) = line.trim().parse() else { return fail(line) };
        assert!(oracle::is_alive(pid));
        assert_eq!(loop_devices(scratch.path()).len(), 2);
        kill(Pid::from_raw(host.id() as i32), signal)?;
        host.wait()?;
        all_gone(&scratch)?;
        assert!(within(Duration::from_secs(1) * slack(), || !oracle::is_alive(pid)));
    }
    // At moments of the setup.
    for delay in 0..30 {
        let mut host = role_command("victim", &[]).args(&layers).stdout(HostStdio::null()).spawn()?;
        std::thread::sleep(Duration::from_micros(500 * delay));
        host.kill()?;
        host.wait()?;
    }
    all_gone(&scratch)
}

/// The calls that are made for images, each failing once: an error that names the step or a sandbox that works, and nothing
/// is left.
fn each_call_failing_once() -> Result {
    let scratch = Scratch::new();
    let images = [image(&scratch, Squashfs, "one")?, image(&scratch, Erofs, "two")?];
    // How often the host makes each, at least, and how often for the mount namespace that inits start in, without which they
    // start in the host's.
    let calls =
        [("ioctl", 4, 0), ("fsopen", 5, 1), ("fsconfig", 18, 6), ("fsmount", 5, 1), ("mount_setattr", 2, 0)];
    for (call, count, spared) in calls {
        for errno in ["ENOMEM", "EBUSY"] {
            let mut failed = 0;
            for when in 1..=count {
                let mut command = HostCommand::new("strace");
                command.args(["-qq", "-o", "/dev/null", "-e"]);
                command.arg(format!("inject={call}:error={errno}:when={when}"));
                command.arg(support::own_exe()).args(["--role", "one-run"]).args(&images);
                let said = run_helper(&mut command, Duration::from_secs(20))?.succeed()?;
                match said.as_str() {
                    "ran\n" => {}
                    _ if said.contains("at MountSource") && said.contains("failed") => failed += 1,
                    _ => return fail(format!("{call} {when} with {errno}: {said}")),
                }
                all_gone(&scratch)?;
            }
            // A loop device that somebody else has taken is no failure, and there are two of them.
            let least = if (call, errno) == ("ioctl", "EBUSY") { count - 2 } else { count - spared };
            assert_eq!(failed, least, "{call} {errno}");
        }
    }
    Ok(())
}

fn one_run(args: &[OsString]) -> i32 {
    match on(over(args)).output(sh("cat /data/name")) {
        Ok(output) => println!("{}", if output.stdout == b"one" { "ran" } else { "weak" }),
        Err(error) => println!("{}", explain(&error)),
    }
    0
}

/// The error of a plan with this layer, and with this root, which must be the same.
fn refused(path: &Path) -> Error {
    let layer = Sandbox::new().rootfs(over(&[path])).plan().expect_err("no layer");
    let root = Sandbox::new().rootfs(Rootfs::dir(path)).plan().expect_err("no root");
    assert_eq!((layer.kind(), layer.to_string()), (root.kind(), root.to_string()));
    assert_eq!(layer.path(), Some(path), "{}", explain(&layer));
    layer
}

fn files_that_are_no_images() -> Result {
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.squashfs");
    fs::File::create(&ext4)?.set_len(4 << 20)?;
    run_helper(HostCommand::new("/sbin/mkfs.ext4").arg("-q").arg(&ext4), Duration::from_secs(30))?
        .succeed()?;
    let files = [
        scratch.file("text.squashfs", "I am a filesystem, really.\n".repeat(200)),
        scratch.file("empty.erofs", ""),
        scratch.file("three", "hsq"),
        scratch.file("big-endian", b"sqsh\0\0\0\0".repeat(1000)),
        ext4,
    ];
    for file in files {
        let error = refused(&file);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert!(error.to_string().contains("neither a directory nor a filesystem image"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("squashfs or erofs")), "{}", explain(&error));
    }
    // What is neither keeps nobody waiting.
    let fifo = scratch.join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU)?;
    for path in [&fifo, Path::new("/dev/null")] {
        let error = Sandbox::new().rootfs(over(&[path])).plan().expect_err("no layer");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{}", explain(&error));
    }
    assert_eq!(loop_devices(scratch.path()), [""; 0]);
    Ok(())
}

fn images_that_are_cut_off() -> Result {
    let scratch = Scratch::new();
    for kind in [Squashfs, Erofs] {
        let image = image(&scratch, kind, &format!("{kind:?}"))?;
        let whole = fs::metadata(&image)?.len();
        // To the head, within it, and a little before the end.
        for length in [1100, 2048, 4096, whole / 2, whole - 4096] {
            fs::File::options().write(true).open(&image)?.set_len(length)?;
            let error = refused(&image);
            assert_eq!(error.kind(), ErrorKind::InvalidImage, "{length}: {}", explain(&error));
            assert!(error.to_string().contains("cut off"), "{length}: {error}");
            assert!(error.hint().is_some(), "{}", explain(&error));
            pack(kind, &scratch.join(format!("{kind:?}-tree")), &image)?;
        }
    }
    assert_eq!(loop_devices(scratch.path()), [""; 0]);
    Ok(())
}

fn images_that_are_damaged() -> Result {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new();
    // The offset of what the kernel looks at when it mounts: the tables of squashfs; the root's inode of erofs, and the
    // features that an image needs.
    for (kind, offset) in [(Squashfs, 48), (Squashfs, 28), (Erofs, 1024 + 14), (Erofs, 1024 + 80)] {
        let image = image(&scratch, kind, &format!("{kind:?}-{offset}"))?;
        fs::File::options().write(true).open(&image)?.write_all_at(&[0xff; 2], offset)?;
        let error = refused(&image);
        assert_eq!(error.kind(), ErrorKind::InvalidImage, "{kind:?} {offset}: {}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("dmesg")), "{}", explain(&error));
        all_gone(&scratch)?;
    }
    Ok(())
}

fn an_image_without_padding() -> Result {
    let scratch = Scratch::new();
    image(&scratch, Squashfs, "padded")?;
    let image = scratch.join("image");
    let mut command = HostCommand::new("mksquashfs");
    command.args([&scratch.join("padded-tree"), &image]).args(["-quiet", "-no-progress", "-nopad"]);
    run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    let length = fs::metadata(&image)?.len();
    if length % 512 == 0 {
        return fail("the one length in 512 at which there is nothing to see: change the tree");
    }
    let error = refused(&image);
    assert_eq!(error.kind(), ErrorKind::InvalidImage, "{}", explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("truncate")), "{}", explain(&error));
    run_helper(HostCommand::new("truncate").args(["-s", "%4096"]).arg(&image), Duration::from_secs(10))?
        .succeed()?;
    assert_eq!(run_sh(&on(over(&[&image])), "cat /data/name")?, "padded");
    Ok(())
}

fn images_that_are_missing() -> Result {
    let missing = Path::new("/no/such/image.squashfs");
    for rootfs in [over(&[missing]), Rootfs::dir(missing)] {
        let error = Sandbox::new().rootfs(rootfs).plan().expect_err("it is not there");
        assert_eq!((error.kind(), error.path()), (ErrorKind::NotFound, Some(missing)), "{}", explain(&error));
    }
    Ok(())
}

fn without_privilege() -> Result {
    let said = as_nobody("nobody", &[], Duration::from_secs(20))?.succeed()?;
    if said == "ok\n" { Ok(()) } else { fail(said) }
}

fn nobody(_: &[OsString]) -> i32 {
    let scratch = Scratch::below(&std::env::temp_dir());
    let mut erofs = vec![0; 8192];
    erofs[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    let mut squashfs = vec![0; 4096];
    squashfs[..4].copy_from_slice(b"hsqs");
    for (image, hint) in [(squashfs, "unsquashfs"), (erofs, "fsck.erofs")] {
        let error = refused(&scratch.file("image", image));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
        assert!(error.hint().is_some_and(|text| text.contains(hint) && text.contains("root")), "{error:?}");
    }
    let error = refused(&scratch.file("text", "text"));
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    println!("ok");
    0
}

/// As in a container that has none.
fn without_loop_devices() -> Result {
    let scratch = Scratch::new();
    let image = image(&scratch, Squashfs, "image")?;
    let own = support::own_exe();
    let script = "mount -t tmpfs none /dev && exec \"$0\" --role no-loop \"$1\"";
    let mut command = HostCommand::new("unshare");
    command.args(["-m", "sh", "-c", script]).args([&own, &image]);
    let said = run_helper(&mut command, Duration::from_secs(20))?.succeed()?;
    if said == "ok\n" { Ok(()) } else { fail(said) }
}

fn no_loop(args: &[OsString]) -> i32 {
    let path = PathBuf::from(args.first().cloned().unwrap_or_default());
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("modprobe loop")), "{}", explain(&error));
    println!("ok");
    0
}

/// As in a container: it has `CAP_SYS_ADMIN`, but not the host's.
fn as_root_of_a_user_namespace() -> Result {
    let scratch = Scratch::new();
    let images = [image(&scratch, Squashfs, "one")?, image(&scratch, Erofs, "two")?];
    let mut command = HostCommand::new("unshare");
    command.args(["-r", "-m"]).arg(support::own_exe()).args(["--role", "container"]).args(&images);
    let said = run_helper(&mut command, Duration::from_secs(20))?.succeed()?;
    if said != "ok\n" {
        return fail(said);
    }
    all_gone(&scratch)
}

fn container(args: &[OsString]) -> i32 {
    for path in args {
        let error = refused(Path::new(path));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("root of the host")), "{}", explain(&error));
    }
    println!("ok");
    0
}
