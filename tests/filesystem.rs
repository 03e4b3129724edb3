//! The root filesystem and what is mounted below it, with hostile roots and hostile names.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Command, ErrorKind, Mount, Rootfs, Sandbox, Upper, UpperDir, Verdict};
use support::{
    Result, Scratch, as_nobody, closed, explain, hold, hold_in, hold_with, in_own_mounts, mib, oracle,
    payload, role_result, run_role, run_sh, sh, succeed, with_payload,
};

fn main() -> ExitCode {
    let cases = cases![
        the_system_view: ["userns", "sh"],
        interpreters_and_compilers_work: ["userns", "python3", "cc"],
        the_system_view_is_read_only: ["userns", "sh"],
        the_old_root_is_gone: ["userns"],
        the_old_root_is_gone_under_a_directory: ["userns", "sh"],
        the_old_root_is_gone_under_an_overlay: ["userns", "overlay", "sh"],
        no_descriptor_leads_to_the_host: ["userns", "sh"],
        later_mounts_of_the_host_do_not_appear: ["root", "unshare"],
        a_minimal_dev: ["userns", "sh"],
        the_devices_cannot_be_changed: ["userns", "root", "sh"],
        devices_of_a_sandbox_of_the_hosts_root: ["root", "sh"],
        pseudo_terminals: ["userns"],
        proc_shows_little: ["userns", "sh"],
        proc_in_full: ["userns", "sh"],
        message_queues: ["userns", "sh"],
        a_directory_as_root: ["userns", "sh"],
        a_writable_directory_as_root: ["root", "sh"],
        an_empty_root: ["userns"],
        overlays: ["root", "overlay", "sh"],
        an_overlay_of_many_layers: ["root", "overlay", "sh"],
        many_layers_of_every_kind: ["root", "overlay", "unshare", "sh"],
        many_layers_without_privilege: ["userns", "overlay", "setpriv", "sh"],
        too_many_layers: ["bare"],
        an_upper_in_memory_is_limited: ["userns", "overlay", "python3"],
        an_upper_in_memory_belongs_to_the_program: ["userns", "overlay", "python3"],
        an_upper_on_disk_persists: ["root", "overlay", "sh"],
        an_upper_that_is_not_synced: ["userns", "root", "overlay", "sh"],
        an_upper_that_is_not_synced_without_privilege: ["userns", "overlay", "sh", "setpriv"],
        uppers_that_cannot_be: ["root", "overlay"],
        read_only_binds_are_so_recursively: ["root", "unshare", "sh"],
        writable_binds_belong_to_their_owner: ["root", "sh"],
        no_setuid_file_in_a_writable_bind: ["root", "sh"],
        binds_of_files: ["userns", "sh"],
        a_bind_of_the_whole_host: ["root", "sh"],
        a_bind_of_the_whole_host_without_privilege: ["userns", "setpriv", "sh"],
        tmpfs_has_its_limits: ["userns", "python3"],
        files_directories_and_symlinks: ["userns", "sh"],
        masks: ["userns", "sh"],
        paths_made_read_only: ["userns", "sh"],
        nothing_is_setuid_or_a_device: ["userns"],
        sources_that_are_missing: ["bare"],
        targets_that_are_relative: ["bare"],
        hostile_links_at_proc_dev_tmp: ["root", "overlay"],
        hostile_targets: ["root", "overlay"],
        hostile_names: ["root", "overlay", "sh"],
        a_readonly_root_lacks_targets: ["userns"],
        mounts_without_a_root: ["userns", "sh"],
        what_a_mount_covers_is_not_the_working_directory: ["bare", "userns", "sh"],
    ];
    support::main(
        cases,
        &[
            ("bind-recursive", bind_recursive),
            ("not-synced", not_synced),
            ("many-layers", many_layers),
            ("late-mount", late_mount),
            ("bind-host", bind_host),
        ],
    )
}

/// What the shell in a directory-as-root needs of the host, with mount points for the rest.
fn bare_root(scratch: &Scratch, name: &str) -> PathBuf {
    let root = scratch.dir(name);
    for dir in ["usr", "bin", "lib", "lib64", "sbin", "proc", "dev", "tmp", "etc"] {
        let host = Path::new("/").join(dir);
        match fs::read_link(&host) {
            Ok(to) => symlink(to, root.join(dir)).expect("a symlink can be made"),
            Err(_) => drop(scratch.dir(format!("{name}/{dir}"))),
        }
    }
    scratch.file(format!("{name}/payload"), "");
    root
}

/// A sandbox with such a root and the host's programs in it.
fn on(rootfs: Rootfs) -> Sandbox {
    let mut sandbox = Sandbox::new().rootfs(rootfs).mount(Mount::bind("/usr", "/usr"));
    for dir in ["/bin", "/lib", "/lib64", "/sbin"] {
        if fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
            sandbox = sandbox.mount(Mount::bind(dir, dir));
        }
    }
    sandbox.mount(Mount::proc("/proc")).mount(Mount::dev("/dev")).mount(Mount::tmpfs("/tmp"))
}

fn exit_code(sandbox: &Sandbox, script: &str) -> Result<i32> {
    let output = sandbox.output(sh(script))?;
    match output.outcome.verdict {
        Verdict::Exited(code) => Ok(code),
        other => support::fail(format!("{other:?}")),
    }
}

fn the_system_view() -> Result {
    let names = run_sh(&closed(), "cd /; echo * .[!.]*")?;
    let allowed = [
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "libo32", "payload", "proc", "sbin", "tmp",
        "usr",
    ];
    for name in names.split_whitespace().filter(|name| *name != ".[!.]*") {
        assert!(allowed.contains(&name), "/{name}");
    }
    for path in
        ["/root", "/home", "/var", "/run", "/sys", "/boot", "/etc/shadow", "/etc/ssh", "/etc/hostname"]
    {
        let code = exit_code(&closed(), &format!("test -e {path}"))?;
        assert_eq!(code, 1, "{path} is there");
    }
    let users = run_sh(&closed(), "cat /etc/passwd; id -un")?;
    assert!(users.ends_with("sandbox\n") && users.lines().count() <= 4, "{users}");
    assert!(fs::read_to_string("/etc/passwd")? != users);
    Ok(())
}

fn interpreters_and_compilers_work() -> Result {
    let mut python = Command::new("/usr/bin/python3");
    python.args([
        "-c",
        "import ssl, json, subprocess, hashlib; print(subprocess.check_output(['id','-u']).decode())",
    ]);
    assert_eq!(succeed(Sandbox::new().output(&python)?)?.trim(), "1000");
    let script = "cd /tmp && echo 'int main(void){return 7;}' > a.c && cc -o a a.c && ./a; echo $?";
    assert_eq!(run_sh(&Sandbox::new().env("PATH", "/usr/bin:/bin"), script)?, "7\n");
    Ok(())
}

fn the_system_view_is_read_only() -> Result {
    for path in ["/x", "/usr/x", "/etc/x", "/etc/passwd", "/dev/x", "/proc/x", "/usr/bin/true", "/payload"] {
        // As the root of the sandbox, too, whose id owns the files of an unprivileged or id-mapped view.
        for sandbox in [closed(), closed().root()] {
            assert_ne!(
                exit_code(&sandbox, &format!("true 2>/dev/null >> {path}"))?,
                0,
                "{path} could be written"
            );
        }
    }
    for path in ["/tmp/x", "/dev/shm/x"] {
        assert_eq!(exit_code(&closed(), &format!("echo x > {path}"))?, 0, "{path}, the positive control");
    }
    let held = hold(&closed())?;
    for mount in oracle::mounts(held.pid) {
        let writable = mount.options.split(',').any(|option| option == "rw");
        let may_be = ["/tmp", "/dev/shm", "/dev/pts", "/proc"].contains(&mount.point.as_str())
            || mount.point.starts_with("/dev/");
        assert!(!writable || may_be, "{mount:?}");
    }
    held.release().map(drop)
}

fn the_old_root_is_gone() -> Result {
    let held = hold(&closed())?;
    let mounts = oracle::mounts(held.pid);
    let points: Vec<_> = mounts.iter().map(|mount| mount.point.as_str()).collect();
    let allowed = [
        "/",
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/dev",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/pts",
        "/dev/shm",
        "/tmp",
        "/payload",
    ];
    for point in &points {
        assert!(
            allowed.contains(point) || point.starts_with("/etc/") || point.starts_with("/usr/"),
            "{point}"
        );
    }
    assert_eq!(points.iter().filter(|point| **point == "/").count(), 1, "{points:?}");
    let root = mounts.iter().find(|mount| mount.point == "/").expect("there is a root");
    assert_eq!(root.kind, "tmpfs", "{root:?}");
    let inside = fs::metadata(format!("/proc/{}/root/", held.pid))?;
    let ours = fs::metadata("/")?;
    assert_ne!((inside.dev(), inside.ino()), (ours.dev(), ours.ino()));
    let init = oracle::parent(held.pid).expect("it has a parent");
    let root_of_init = fs::metadata(format!("/proc/{init}/root/"));
    // An init that is not dumpable may refuse; if it can be looked at, it has the new root as well.
    assert!(root_of_init.is_err() || root_of_init.is_ok_and(|meta| meta.dev() == inside.dev()));
    held.release()?;
    // No number of ".." and no chdir leads out.
    let up = "cd /; for i in 1 2 3 4 5 6; do cd ..; done; pwd; test -e root";
    let output = closed().output(sh(up))?;
    assert_eq!((output.stdout.as_slice(), output.outcome.verdict), (&b"/\n"[..], Verdict::Exited(1)));
    Ok(())
}

/// Nothing of the host is stacked on the root, where a lookup of "/.." would find it. `covered` is how many mounts the
/// sandbox itself asked for there.
fn root_is_alone(sandbox: &Sandbox, scratch: &Scratch, covered: usize) -> Result {
    // The control: it exists, and the program's user could write to it.
    let marker = scratch.dir("open");
    fs::set_permissions(&marker, fs::Permissions::from_mode(0o777))?;
    let held = hold_with(sandbox, sh("echo ready; read line || true"))?;
    let mounts = oracle::mounts(held.pid);
    let stacked: Vec<_> = mounts.iter().filter(|mount| mount.point == "/").collect();
    assert_eq!(stacked.len(), 1 + covered, "{stacked:#?}");
    held.release()?;
    let script = format!("cd /..; ! echo x 2>/dev/null > /..{0}/escaped; test ! -e /..{0}", marker.display());
    assert_eq!(exit_code(sandbox, &script)?, 0, "{sandbox:?}");
    assert!(!marker.join("escaped").exists());
    Ok(())
}

fn the_old_root_is_gone_under_a_directory() -> Result {
    let scratch = Scratch::new();
    let root = bare_root(&scratch, "root");
    scratch.file("root/motd", "");
    let plain = on(Rootfs::dir(&root));
    root_is_alone(&plain, &scratch, 0)?;
    // A file with given content is made aside, on a mount of its own.
    let file = plain.mount(Mount::file("/motd", "hello"));
    root_is_alone(&file, &scratch, 0)?;
    root_is_alone(&file.mount(Mount::tmpfs("/")), &scratch, 1)
}

fn the_old_root_is_gone_under_an_overlay() -> Result {
    let scratch = Scratch::new();
    let layers = [bare_root(&scratch, "layer")];
    let plain = on(Rootfs::overlay(&layers));
    root_is_alone(&plain, &scratch, 0)?;
    root_is_alone(&plain.mount(Mount::tmpfs("/")), &scratch, 1)?;
    root_is_alone(&on(Rootfs::overlay(&layers).upper(Upper::tmpfs(mib(1), 100))), &scratch, 0)
}

fn no_descriptor_leads_to_the_host() -> Result {
    let held = hold(&closed())?;
    let root = fs::metadata(format!("/proc/{}/root/", held.pid))?.dev();
    let entries = fs::read_dir(format!("/proc/{}/fd", held.pid))?;
    let mut count = 0;
    for entry in entries.flatten() {
        let target = fs::read_link(entry.path())?;
        let fine = target == Path::new("/dev/null") || target.to_string_lossy().starts_with("pipe:");
        assert!(fine, "{} (root is on {root})", target.display());
        count += 1;
    }
    assert!(count <= 3 && count > 0, "{count}");
    held.release().map(drop)
}

fn mount_tmpfs(at: &Path) {
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(at).status();
    assert!(status.expect("mount runs").success());
}

fn later_mounts_of_the_host_do_not_appear() -> Result {
    let scratch = Scratch::new();
    scratch.dir("source/late");
    in_own_mounts("late-mount", &[scratch.path().to_str().expect("plain")]).map(drop)
}

fn late_mount(args: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result {
        let source = Path::new(&args[0]).join("source");
        // Shared, as systemd makes all mounts of a host.
        mount_tmpfs(&source);
        fs::create_dir(source.join("late"))?;
        let made = std::process::Command::new("mount").args(["--make-rshared", "/"]).status()?;
        assert!(made.success());
        let ours = oracle::mounts("self");
        let sandbox = closed().mount(Mount::bind(&source, "/x")).mount(Mount::tmpfs("/x/late"));
        assert!(sandbox.status(payload("exit", &["0"]))?.success());
        let scratch = Path::new(&args[0]).join("root");
        fs::create_dir(&scratch)?;
        fs::create_dir(scratch.join("proc"))?;
        for rootfs in [Rootfs::dir(&scratch), Rootfs::dir(&scratch).writable()] {
            let container = Sandbox::new().rootfs(rootfs).mount(Mount::proc("/proc")).start()?;
            assert_eq!(oracle::mounts("self"), ours, "a mount of the sandbox appeared on the host");
            container.close()?;
        }
        let sandbox = closed().mount(Mount::bind(&source, "/x"));
        let container = sandbox.start()?;
        mount_tmpfs(&source.join("late"));
        fs::write(source.join("late/file"), "x")?;
        let output = container.output(sh("test -e /x/late/file"))?;
        assert_eq!(output.outcome.verdict, Verdict::Exited(1), "a later mount of the host appeared");
        let output = closed().mount(Mount::bind(&source, "/x")).output(sh("test -e /x/late/file"))?;
        assert_eq!(output.outcome.verdict, Verdict::Exited(0), "the positive control");
        Ok(())
    };
    role_result(run())
}

fn a_minimal_dev() -> Result {
    let names = run_sh(&closed(), "cd /dev; echo *")?;
    let names: Vec<_> = names.split_whitespace().collect();
    let expected = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(names, expected);
    let script = "echo x > /dev/null && head -c 4 /dev/zero | od -An -tx1 && head -c 3 /dev/urandom | wc -c \
                  && head -c 3 /dev/random | wc -c; echo x > /dev/full || echo full; echo y > /dev/shm/y && cat /dev/shm/y";
    let mut command = sh(script);
    command.stderr(belljar::Stdio::null());
    assert_eq!(succeed(closed().output(&command)?)?, " 00 00 00 00\n3\n3\nfull\ny\n");
    Ok(())
}

/// One filesystem of devices serves every sandbox of a host that can make one: none of them may change it, whatever
/// capabilities it was given.
fn the_devices_cannot_be_changed() -> Result {
    let sandbox = closed().root().keep_capability("SYS_ADMIN").keep_capability("DAC_OVERRIDE");
    let script = "mount -o remount,bind,rw /dev && mount -o remount,bind,rw /tmp && touch /tmp/x && echo remounted; \
                  for act in 'touch /dev/x' 'rm /dev/null' 'chmod 0 /dev/null' 'mknod /dev/y c 1 3' \
                  'mv /dev/zero /dev/null' 'ln -sf /tmp/x /dev/null'; do $act 2> /tmp/why && echo $act; done; true";
    assert_eq!(run_sh(&sandbox.allow_all_syscalls(), script)?, "remounted\n");
    let script = "stat -c %t:%T:%a /dev/null /dev/zero && echo x > /dev/null";
    assert_eq!(run_sh(&closed(), script)?, "1:3:666\n1:5:666\n");
    Ok(())
}

/// Without a user namespace the program is the host's root, and can do to its `/dev` what it wants; it is its own.
fn devices_of_a_sandbox_of_the_hosts_root() -> Result {
    let sandbox = Sandbox::bare().mount_ns().pid_ns().rootfs(Rootfs::system());
    let script = "mount -o remount,rw /dev && umount -q /dev/null /dev/full; \
                  rm /dev/null /dev/full && echo secret > /dev/null && echo done";
    assert_eq!(run_sh(&sandbox, script)?, "done\n");
    for next in [closed(), sandbox] {
        let script = "stat -c %t:%T:%F /dev/null /dev/full";
        let kind = "character special file";
        assert_eq!(run_sh(&next, script)?, format!("1:3:{kind}\n1:7:{kind}\n"));
    }
    Ok(())
}

fn pseudo_terminals() -> Result {
    assert_eq!(run_role(&closed(), "openpty", &[])?, "ok\n");
    let sandbox = with_payload(Sandbox::new().mount(Mount::devpts("/tmp/pts")));
    assert_eq!(run_sh(&sandbox, "cd /tmp/pts; echo *")?, "ptmx\n", "an instance of its own");
    Ok(())
}

fn proc_shows_little() -> Result {
    let names = run_sh(&closed(), "cd /proc; echo *")?;
    for name in names.split_whitespace() {
        let known = name.parse::<u32>().is_ok() || ["self", "thread-self"].contains(&name);
        assert!(known, "/proc/{name}");
    }
    let held = hold(&closed())?;
    let proc =
        oracle::mounts(held.pid).into_iter().find(|mount| mount.point == "/proc").expect("it is mounted");
    assert!(proc.super_options.contains("subset=pid"), "{proc:?}");
    assert!(proc.super_options.contains("hidepid=invisible"), "{proc:?}");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(proc.options.contains(option), "{proc:?}");
    }
    held.release().map(drop)
}

fn proc_in_full() -> Result {
    let sandbox = Sandbox::new().mount(Mount::proc("/proc").full());
    let names = run_sh(&sandbox, "test -e /proc/meminfo && test -e /proc/cpuinfo && echo fine")?;
    assert_eq!(names, "fine\n");
    // Nothing of the system can be changed through it.
    for path in ["sysrq-trigger", "sys/kernel/core_pattern", "sys/kernel/hostname", "sys/vm/drop_caches"] {
        let code = exit_code(&sandbox.clone().root(), &format!("echo x 2>/dev/null > /proc/{path}"))?;
        assert_ne!(code, 0, "{path}");
    }
    Ok(())
}

fn message_queues() -> Result {
    let sandbox = closed().mount(Mount::mqueue("/tmp/mqueue"));
    let text = run_sh(&sandbox, "cd /tmp/mqueue && ls -a | wc -l")?;
    assert_eq!(text.trim(), "2");
    let held = hold(&sandbox)?;
    assert!(
        oracle::mounts(held.pid).iter().any(|mount| mount.kind == "mqueue" && mount.point == "/tmp/mqueue")
    );
    held.release().map(drop)
}

fn a_directory_as_root() -> Result {
    let scratch = Scratch::new();
    let root = bare_root(&scratch, "root");
    scratch.file("root/etc/marker", "of this root");
    let before = oracle::snapshot(&root);
    let sandbox = with_payload(on(Rootfs::dir(&root)));
    assert_eq!(run_sh(&sandbox, "cat /etc/marker; echo; echo /*")?.lines().next(), Some("of this root"));
    assert_ne!(exit_code(&sandbox, "echo x 2>/dev/null > /etc/new")?, 0);
    assert_ne!(exit_code(&sandbox.clone().root(), "rm -f /etc/marker 2>/dev/null")?, 0);
    assert_eq!(exit_code(&sandbox, "test -e /etc/passwd")?, 1);
    assert_eq!(oracle::snapshot(&root), before);
    for (path, errno) in [("/no/such/root", libc::ENOENT), ("/dev/null", libc::ENOTDIR)] {
        let error = Sandbox::new().rootfs(Rootfs::dir(path)).plan().expect_err("no root");
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::NotFound, Some(errno)),
            "{}",
            explain(&error)
        );
        assert_eq!(error.path(), Some(Path::new(path)));
    }
    Ok(())
}

fn a_writable_directory_as_root() -> Result {
    let scratch = Scratch::new();
    let root = bare_root(&scratch, "root");
    std::os::unix::fs::chown(&root, Some(4321), Some(4322))?;
    let sandbox = on(Rootfs::dir(&root).writable());
    run_sh(&sandbox, "echo new > /new && mkdir /newdir")?;
    let meta = fs::metadata(root.join("new"))?;
    assert_eq!((meta.uid(), meta.gid()), (4321, 4322), "what is written belongs to the directory's owner");
    assert_eq!(fs::read_to_string(root.join("new"))?, "new\n");
    Ok(())
}

fn an_empty_root() -> Result {
    // Nothing in it but what is put there: no loader, so only a static program could run.
    let error = with_payload(Sandbox::new().rootfs(Rootfs::empty())).spawn(payload("exit", &["0"]));
    assert_eq!(error.expect_err("no loader").raw_os_error(), Some(libc::ENOENT));
    let mut sandbox = with_payload(Sandbox::new().rootfs(Rootfs::empty()));
    for path in ["/usr", "/bin", "/lib", "/lib64"] {
        sandbox = match fs::read_link(path) {
            Ok(to) => sandbox.mount(Mount::symlink(to, path)),
            Err(_) => sandbox.mount(Mount::bind(path, path)),
        };
    }
    let names = run_sh(&sandbox, "echo /*")?;
    assert_eq!(names, "/bin /lib /lib64 /payload /usr\n");
    assert_ne!(exit_code(&sandbox.root(), "echo x 2>/dev/null > /x")?, 0);
    Ok(())
}

fn overlays() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    scratch.file("base/etc/a", "base");
    scratch.file("base/etc/b", "base");
    scratch.dir("top/etc");
    scratch.file("top/etc/a", "top");
    let layers = || [scratch.join("top"), scratch.join("base")];
    let before = oracle::snapshot(scratch.path());
    let sandbox = on(Rootfs::overlay(layers()));
    assert_eq!(run_sh(&sandbox, "cat /etc/a /etc/b")?, "topbase", "the first layer is on top");
    assert_ne!(exit_code(&sandbox, "echo x 2>/dev/null > /etc/x")?, 0, "without an upper it is read-only");
    assert_ne!(exit_code(&sandbox.root(), "rm /etc/a 2>/dev/null")?, 0);
    let sandbox = on(Rootfs::overlay(layers()).upper(Upper::tmpfs(mib(8), 1000)));
    let script = "echo new > /etc/a && rm /etc/b && mkdir /etc/dir && cat /etc/a && ls /etc";
    assert_eq!(run_sh(&sandbox.root(), script)?, "new\na\ndir\n");
    assert_eq!(oracle::snapshot(scratch.path()), before, "layers never change");
    // One layer.
    assert_eq!(run_sh(&on(Rootfs::overlay([scratch.join("base")])), "cat /etc/a")?, "base");
    Ok(())
}

fn an_overlay_of_many_layers() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    let mut layers = Vec::new();
    for n in 0..99 {
        // Long names: the options would not fit a page.
        let name = format!("{n}-{}", "long".repeat(30));
        layers.push(scratch.dir(&name));
        scratch.dir(format!("{name}/etc"));
        scratch.file(format!("{name}/etc/{n}"), n.to_string());
        scratch.file(format!("{name}/etc/top"), n.to_string());
    }
    layers.push(scratch.join("base"));
    let sandbox = on(Rootfs::overlay(layers).upper(Upper::tmpfs(mib(1), 100)));
    assert_eq!(run_sh(&sandbox, "cat /etc/98 /etc/top; ls /etc | wc -l")?, "980100\n");
    Ok(())
}

fn many_layers_of_every_kind() -> Result {
    assert_eq!(in_own_mounts("many-layers", &["mounts"])?, "ok\n");
    Ok(())
}

fn many_layers_without_privilege() -> Result {
    assert_eq!(as_nobody("many-layers", &[], Duration::from_secs(60))?.succeed()?, "ok\n");
    Ok(())
}

/// Many in a directory that nobody else may enter, some by links, some deeper, some of names that overlayfs gives a
/// meaning, and, where that can be, one that is a mount and one in another filesystem.
fn many_layers(args: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result {
        let scratch = Scratch::new();
        let private = scratch.dir("private");
        let mut layers = vec![bare_root(&scratch, "private/base")];
        let names = ["a,b", "c:d", "e\\f", "g h", "deep/er", "upperdir=x", "m", "n", "o", "p", "q", "r"];
        for name in names {
            let layer = scratch.dir(format!("private/{name}"));
            scratch.dir(format!("private/{name}/etc"));
            scratch.file(format!("private/{name}/etc/{}", name.replace('/', "-")), name);
            layers.insert(0, layer);
        }
        symlink("r", scratch.join("private/link")).expect("a link");
        layers[0] = scratch.join("private/link");
        let none: Option<&str> = None;
        let mounted = scratch.join("private/n");
        if !args.is_empty() {
            // Not a tmpfs, which cannot be id-mapped before Linux 6.3.
            let other = scratch.dir("other");
            nix::mount::mount(Some(&other), &mounted, none, nix::mount::MsFlags::MS_BIND, none)?;
            fs::create_dir(mounted.join("etc"))?;
            fs::write(mounted.join("etc/mounted"), "mounted")?;
            // What is mounted below a layer is not part of it.
            let below = scratch.join("private/o/etc");
            nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), nix::mount::MsFlags::empty(), none)?;
            fs::write(below.join("secret"), "secret")?;
        }
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700))?;
        let sandbox = on(Rootfs::overlay(&layers).upper(Upper::tmpfs(mib(1), 100))).root();
        let names = run_sh(&sandbox, "cd /etc && ls | tr '\\n' ' '");
        if !args.is_empty() {
            nix::mount::umount(&scratch.join("private/o/etc"))?;
            nix::mount::umount(&mounted)?;
        }
        let wanted = match args.is_empty() {
            true => "a,b c:d deep-er e\\f g h m n o p q r upperdir=x ",
            false => "a,b c:d deep-er e\\f g h m mounted o p q r upperdir=x ",
        };
        assert_eq!(names?, wanted);
        println!("ok");
        Ok(())
    };
    support::role_result(run())
}

fn too_many_layers() -> Result {
    let error = Sandbox::new().rootfs(Rootfs::overlay(vec!["/usr"; 501])).plan().expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", explain(&error));
    assert!(error.hint().is_some());
    let error = Sandbox::new().rootfs(Rootfs::overlay(Vec::<PathBuf>::new())).plan().expect_err("none");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let error = Sandbox::new().rootfs(Rootfs::overlay(["/usr", "/no/such"])).plan().expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    Ok(())
}

/// Writes until it cannot, and makes files until it cannot: prints bytes, errno, files, errno.
const FILL: &str = "import sys,os\n\
    d=sys.argv[1]; n=0; e=0\n\
    try:\n\
    \x20with open(d+'/big','wb',0) as f:\n\
    \x20 for _ in range(4096): n+=f.write(b'x'*65536)\n\
    except OSError as x: e=x.errno\n\
    try: os.unlink(d+'/big')\n\
    except OSError: pass\n\
    k=0; e2=0\n\
    try:\n\
    \x20for k in range(100000): open(d+'/'+str(k),'w').close()\n\
    except OSError as x: e2=x.errno\n\
    print(n,e,k,e2)\n";

fn fill(sandbox: &Sandbox, dir: &str) -> Result<[u64; 4]> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", FILL, dir]);
    let text = succeed(sandbox.output(&command)?)?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| support::Fail(text))
}

fn an_upper_in_memory_belongs_to_the_program() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    let sandbox = on(Rootfs::overlay([scratch.join("base")]).upper(Upper::tmpfs(mib(4), 200)));
    for sandbox in [sandbox.clone(), sandbox.clone().user(7, 8), sandbox.root()] {
        let script = "mkdir /own && echo x > /own/x && cat /own/x && stat -c %u:%g:%a /";
        let shown = run_sh(&sandbox, script)?;
        let ids = run_sh(&sandbox, "echo $(id -u):$(id -g)")?;
        assert_eq!(shown, format!("x\n{}:755\n", ids.trim()));
    }
    Ok(())
}

fn an_upper_in_memory_is_limited() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    let sandbox = on(Rootfs::overlay([scratch.join("base")]).upper(Upper::tmpfs(mib(4), 200))).root();
    let [bytes, errno, files, errno2] = fill(&sandbox, "/etc")?;
    assert_eq!((errno, errno2), (28, 28), "ENOSPC");
    assert!((3 << 20..=4 << 20).contains(&bytes), "{bytes}");
    assert!(files <= 200 && files > 100, "{files}");
    Ok(())
}

fn an_upper_on_disk_persists() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    scratch.file("base/etc/old", "old");
    fs::set_permissions(scratch.join("base/etc"), fs::Permissions::from_mode(0o777))?;
    let (upper, work) = (scratch.dir("upper"), scratch.dir("work"));
    let sandbox = on(Rootfs::overlay([scratch.join("base")]).upper(Upper::dir(&upper, &work)));
    // As the user, and as root inside: ids on disk are the ids inside, whatever block a sandbox has.
    run_sh(&sandbox, "echo user > /etc/user")?;
    run_sh(&sandbox.clone().root(), "echo root > /etc/root && rm /etc/old && chmod 600 /etc/root")?;
    let owner = |name: &str| fs::metadata(upper.join(name)).map(|meta| (meta.uid(), meta.gid()));
    assert_eq!(owner("etc/user")?, (1000, 1000));
    assert_eq!(owner("etc/root")?, (0, 0));
    // Another sandbox, with another block of ids, finds and may change what was written.
    assert_eq!(run_sh(&sandbox, "cat /etc/user && echo more >> /etc/user && ls /etc")?, "user\nroot\nuser\n");
    assert_eq!(run_sh(&sandbox.clone().root(), "cat /etc/root")?, "root\n");
    assert_ne!(exit_code(&sandbox, "cat /etc/root 2>/dev/null")?, 0, "mode 600 of another user");
    assert_eq!(fs::read_to_string(upper.join("etc/user"))?, "user\nmore\n");
    assert_eq!(fs::read_to_string(scratch.join("base/etc/old"))?, "old", "layers never change");
    Ok(())
}

/// The options of what is mounted as `/` of a process.
fn root_options(pid: u32) -> Result<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    let options = root.and_then(|line| line.rsplit(' ').next());
    options.map(str::to_owned).ok_or_else(|| support::Fail(format!("no root in {table}")))
}

/// As a kernel says it, or a newer one.
fn is_volatile(options: &str) -> bool {
    options.split(',').any(|option| matches!(option, "volatile" | "fsync=volatile"))
}

fn an_upper_that_is_not_synced() -> Result {
    for share in [false, true] {
        let scratch = Scratch::new();
        bare_root(&scratch, "base");
        let upper = || Upper::dir(scratch.dir("upper"), scratch.dir("work"));
        let root = |upper: UpperDir| Rootfs::overlay([scratch.join("base")]).upper(upper);
        let sandbox = |upper| {
            let sandbox = with_payload(on(root(upper))).root();
            if share { sandbox.share_user() } else { sandbox }
        };
        let held = hold(&sandbox(upper()))?;
        assert!(!is_volatile(&root_options(held.pid)?), "it must be asked for");
        held.release()?;
        let container = sandbox(upper().volatile()).start()?;
        let held = hold_in(&container)?;
        let options = root_options(held.pid)?;
        assert!(is_volatile(&options), "{options}");
        held.release()?;
        succeed(container.output(sh("echo first > /etc/first"))?)?;
        container.close()?;
        // What was written can be read, and is not used a second time, with or without syncing.
        assert!(root(upper()).changes()?.iter().any(|change| change.path == Path::new("/etc/first")));
        for again in [upper(), upper().volatile()] {
            let error = sandbox(again).spawn(sh("true")).expect_err("it may be incomplete");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
            assert_eq!(error.path(), Some(&*scratch.join("upper")));
            assert!(error.hint().is_some_and(|hint| hint.contains("empty")), "{}", explain(&error));
        }
        for dir in ["upper", "work"] {
            fs::remove_dir_all(scratch.join(dir))?;
        }
        run_sh(&sandbox(upper().volatile()), "echo new > /etc/new && sync")?;
        assert_eq!(fs::read_to_string(scratch.join("upper/etc/new"))?, "new\n");
    }
    Ok(())
}

fn an_upper_that_is_not_synced_without_privilege() -> Result {
    assert_eq!(as_nobody("not-synced", &[], Duration::from_secs(60))?.succeed()?, "ok\n");
    Ok(())
}

/// A work directory whose contents, which overlayfs closes to its owner, can be removed at the end.
struct Opened(PathBuf);

impl Drop for Opened {
    fn drop(&mut self) {
        for dir in ["work", "work/incompat", "work/incompat/volatile"] {
            fs::set_permissions(self.0.join(dir), fs::Permissions::from_mode(0o700)).ok();
        }
    }
}

fn not_synced(_: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result {
        let scratch = Scratch::below(&std::env::temp_dir());
        bare_root(&scratch, "base");
        let upper = Upper::dir(scratch.dir("upper"), scratch.dir("work")).volatile();
        let _opened = Opened(scratch.join("work"));
        let sandbox = with_payload(on(Rootfs::overlay([scratch.join("base")]).upper(upper)));
        let held = hold(&sandbox)?;
        let options = root_options(held.pid)?;
        assert!(is_volatile(&options), "{options}");
        held.release()?;
        // The host cannot look where overlayfs has its mark, and says what the kernel may mean.
        let error = sandbox.spawn(sh("true")).expect_err("it may be incomplete");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("volatile()")), "{}", explain(&error));
        println!("ok");
        Ok(())
    };
    role_result(run())
}

fn uppers_that_cannot_be() -> Result {
    let scratch = Scratch::new();
    bare_root(&scratch, "base");
    scratch.dir("upper/inner");
    let (upper, work) = (scratch.join("upper"), scratch.dir("work"));
    let with = |upper: &Path, work: &Path| {
        let root = Rootfs::overlay([scratch.join("base")]).upper(Upper::dir(upper, work));
        on(root).status(Command::new("/bin/true")).expect_err("it cannot be")
    };
    assert_eq!(with(&upper, &upper.join("inner")).kind(), ErrorKind::InvalidConfig);
    assert_eq!(with(&upper, &upper).kind(), ErrorKind::InvalidConfig);
    assert_eq!(with(&scratch.join("missing"), &work).kind(), ErrorKind::NotFound);
    assert_eq!(with(&upper, &scratch.join("missing")).kind(), ErrorKind::NotFound);
    for size in [0, u64::MAX] {
        let root = Rootfs::overlay([scratch.join("base")]).upper(Upper::tmpfs(size, 0));
        let result = on(root).status(Command::new("/bin/true"));
        match size {
            0 => assert_eq!(result.expect_err("nothing fits").kind(), ErrorKind::InvalidConfig),
            _ => assert!(result?.success()),
        }
    }
    Ok(())
}

fn read_only_binds_are_so_recursively() -> Result {
    let scratch = Scratch::new();
    scratch.dir("source/inner");
    in_own_mounts("bind-recursive", &[scratch.path().to_str().expect("plain")]).map(drop)
}

fn bind_recursive(args: &[std::ffi::OsString]) -> i32 {
    let run = || -> Result {
        let source = Path::new(&args[0]).join("source");
        mount_tmpfs(&source.join("inner"));
        for dir in [source.clone(), source.join("inner")] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        }
        fs::write(source.join("inner/file"), "below a mount")?;
        let sandbox = closed().mount(Mount::bind(&source, "/x"));
        assert_eq!(run_sh(&sandbox, "cat /x/inner/file")?, "below a mount", "it is recursive");
        for path in ["/x/new", "/x/inner/new", "/x/inner/file"] {
            assert_ne!(exit_code(&sandbox, &format!("echo x 2>/dev/null > {path}"))?, 0, "{path}");
        }
        let held = hold(&sandbox)?;
        let lines: Vec<_> =
            oracle::mounts(held.pid).into_iter().filter(|line| line.point.starts_with("/x")).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in lines {
            for option in ["ro", "nosuid", "nodev"] {
                assert!(line.options.split(',').any(|have| have == option), "{line:?} lacks {option}");
            }
        }
        held.release()?;
        let sandbox = closed().share_user().mount(Mount::bind_writable(&source, "/x"));
        assert_eq!(exit_code(&sandbox, "echo x > /x/inner/new")?, 0, "the positive control");
        Ok(())
    };
    role_result(run())
}

fn writable_binds_belong_to_their_owner() -> Result {
    let scratch = Scratch::new();
    for owner in [0, 1000, 54321] {
        let dir = scratch.dir(format!("of-{owner}"));
        std::os::unix::fs::chown(&dir, Some(owner), Some(owner))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let sandbox = closed().mount(Mount::bind_writable(&dir, "/x"));
        for sandbox in [sandbox.clone(), sandbox.clone().root(), sandbox.user(7, 8)] {
            run_sh(&sandbox, "echo x > /x/file && mkdir -p /x/dir && stat -c %u /x/file && id -u")?;
            for name in ["file", "dir"] {
                let meta = fs::metadata(dir.join(name))?;
                assert_eq!((meta.uid(), meta.gid()), (owner, owner), "{name}");
            }
            fs::remove_file(dir.join("file"))?;
            fs::remove_dir(dir.join("dir"))?;
        }
    }
    // A file.
    let file = scratch.file("file", "before");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    run_sh(&closed().mount(Mount::bind_writable(&file, "/file")), "cat /file && echo after > /file")?;
    assert_eq!(fs::read_to_string(&file)?, "after\n");
    Ok(())
}

fn no_setuid_file_in_a_writable_bind() -> Result {
    let scratch = Scratch::new();
    let dir = scratch.dir("x");
    let sandbox = closed().mount(Mount::bind_writable(&dir, "/x"));
    for script in [
        "cp /bin/true /x/a && chmod 4755 /x/a",
        "cp /bin/true /x/a && chmod 2755 /x/a",
        "install -m 6755 /bin/true /x/a",
    ] {
        exit_code(&sandbox, &format!("({script}) 2>/dev/null"))?;
        let mode = fs::metadata(dir.join("a")).map_or(0, |meta| meta.mode());
        assert_eq!(mode & 0o6000, 0, "{script} made {mode:o} on the host");
        fs::remove_file(dir.join("a")).ok();
    }
    // The positive control: where nothing of the host is shared the bit may be set, and means nothing.
    assert_eq!(exit_code(&closed(), "cp /bin/true /tmp/a && chmod 4755 /tmp/a && test -u /tmp/a")?, 0);
    Ok(())
}

fn binds_of_files() -> Result {
    let scratch = Scratch::new();
    let file = scratch.file("file", "content");
    symlink(&file, scratch.join("link"))?;
    let sandbox = closed()
        .mount(Mount::bind(&file, "/deep/er/file"))
        .mount(Mount::bind(scratch.join("link"), "/through-link"))
        .mount(Mount::bind(&file, "/etc/passwd"))
        .mount(Mount::bind(scratch.path(), "/dir"));
    assert_eq!(
        run_sh(&sandbox, "cat /deep/er/file /through-link /etc/passwd /dir/file")?,
        "contentcontentcontentcontent",
        "a trusted source may be reached through a symlink"
    );
    Ok(())
}

/// The new root is mounted over the old one, and must not be taken for a part of it.
fn a_bind_of_the_whole_host() -> Result {
    let scratch = Scratch::new();
    let marker = scratch.file("marker", "of the host");
    for source in ["/", "/usr/.."] {
        let sandbox = Sandbox::new().mount(Mount::bind(source, "/host"));
        assert_eq!(run_sh(&sandbox, &format!("cat /host{}", marker.display()))?, "of the host");
        assert_eq!(exit_code(&sandbox, "test -e /host/host")?, 1);
    }
    Ok(())
}

fn a_bind_of_the_whole_host_without_privilege() -> Result {
    let helper = support::as_nobody("bind-host", &[], Duration::from_secs(30))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn bind_host(_: &[std::ffi::OsString]) -> i32 {
    let error = Sandbox::new().mount(Mount::bind("/", "/host")).plan().expect_err("it would be another root");
    assert_eq!((error.kind(), error.path()), (ErrorKind::Unsupported, Some(Path::new("/"))));
    // As the root itself, and where nothing else becomes the root, it can be had.
    for (sandbox, below) in [
        (Sandbox::new().rootfs(Rootfs::dir("/")), ""),
        (Sandbox::bare().user_ns().mount(Mount::bind("/", "/mnt")), "/mnt"),
    ] {
        let output = sandbox.output(sh(&format!("ls {below}/")));
        let names = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        assert!(names.as_ref().is_ok_and(|names| names.contains("var")), "{names:?}");
    }
    println!("ok");
    0
}

fn tmpfs_has_its_limits() -> Result {
    let sandbox =
        closed().mount(Mount::tmpfs("/t").size(mib(2)).inodes(50)).mount(Mount::tmpfs("/s").mode(0o700));
    let [bytes, errno, files, errno2] = fill(&sandbox, "/t")?;
    assert_eq!((bytes, errno, errno2), (2 << 20, 28, 28));
    assert!((40..=50).contains(&files), "{files}");
    let held = hold(&sandbox)?;
    let lines = oracle::mounts(held.pid);
    let line = lines.iter().find(|line| line.point == "/t").expect("it is mounted");
    assert!(
        line.super_options.contains("size=2048k") && line.super_options.contains("nr_inodes=50"),
        "{line:?}"
    );
    assert!(line.options.contains("nosuid") && line.options.contains("nodev"), "{line:?}");
    let meta = fs::metadata(format!("/proc/{}/root/s", held.pid))?;
    assert_eq!(meta.mode() & 0o7777, 0o700);
    held.release()?;
    assert_eq!(
        Sandbox::new().mount(Mount::tmpfs("/t").size(0)).plan().expect_err("0").kind(),
        ErrorKind::InvalidConfig
    );
    assert!(
        Sandbox::new().mount(Mount::tmpfs("/t").size(u64::MAX)).status(Command::new("/bin/true"))?.success()
    );
    Ok(())
}

fn files_directories_and_symlinks() -> Result {
    let content: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let sandbox = closed()
        .mount(Mount::file("/etc/motd", "hello\n"))
        .mount(Mount::file("/opt/big", content.clone()))
        .mount(Mount::file("/opt/tool", "#!/bin/sh\necho tool\n").mode(0o755))
        .mount(Mount::file("/opt/empty", ""))
        .mount(Mount::dir("/srv/a/b").mode(0o750))
        .mount(Mount::symlink("../etc/motd", "/srv/link"))
        .mount(Mount::symlink("/nowhere", "/srv/dangling"));
    assert_eq!(
        run_sh(
            &sandbox,
            "cat /etc/motd /srv/link; /opt/tool; stat -c %a /srv/a/b /etc/motd /opt/tool /srv/a"
        )?,
        "hello\nhello\ntool\n750\n444\n755\n755\n"
    );
    assert_eq!(
        run_sh(&sandbox, "readlink /srv/link /srv/dangling; wc -c < /opt/empty")?,
        "../etc/motd\n/nowhere\n0\n"
    );
    assert_eq!(sandbox.output(payload("cat", &["/opt/big"]))?.stdout, content);
    assert_ne!(exit_code(&sandbox.root(), "echo x 2>/dev/null > /etc/motd")?, 0);
    // On a root that is not ours to write to.
    let scratch = Scratch::new();
    let root = bare_root(&scratch, "root");
    scratch.file("root/etc/motd", "old");
    let before = oracle::snapshot(&root);
    let sandbox = on(Rootfs::dir(&root)).mount(Mount::file("/etc/motd", "new\n").mode(0o644));
    assert_eq!(run_sh(&sandbox, "cat /etc/motd")?, "new\n");
    assert_eq!(oracle::snapshot(&root), before);
    Ok(())
}

fn masks() -> Result {
    let scratch = Scratch::new();
    scratch.file("secret", "secret");
    scratch.dir("dir");
    scratch.file("dir/inner", "secret");
    symlink("secret", scratch.join("link"))?;
    symlink("/x/dir", scratch.join("dirlink"))?;
    let sandbox = |mask: &str| closed().mount(Mount::bind(scratch.path(), "/x")).mount(Mount::mask(mask));
    assert_eq!(run_sh(&sandbox("/x/secret"), "cat /x/secret /x/link | wc -c")?, "0\n");
    assert_eq!(run_sh(&sandbox("/x/dir"), "ls -A /x/dir /x/dirlink/ | grep -c inner || true")?, "0\n");
    // A mask of a symlink hides what it points to, inside.
    assert_eq!(run_sh(&sandbox("/x/link"), "cat /x/secret | wc -c")?, "0\n");
    assert_eq!(run_sh(&sandbox("/x/dirlink"), "ls -A /x/dir")?, "");
    assert_eq!(
        run_sh(&sandbox("/x/missing"), "cat /x/secret")?,
        "secret",
        "what is not there needs no hiding"
    );
    assert_ne!(exit_code(&sandbox("/x/dir").root(), "echo x 2>/dev/null > /x/dir/new")?, 0);
    // Masks cannot be taken off from inside.
    assert_ne!(exit_code(&sandbox("/x/secret").root(), "umount /x/secret 2>/dev/null")?, 0);
    // CVE-2025-31133: the sandbox's own /dev/null is never what masks; here it is something else altogether.
    let root = bare_root(&scratch, "root");
    fs::remove_dir(root.join("dev"))?;
    scratch.dir("root/dev");
    scratch.file("root/dev/null", "not the device");
    scratch.file("root/etc/secret", "secret");
    let sandbox = Sandbox::new()
        .rootfs(Rootfs::dir(&root))
        .mount(Mount::bind("/usr", "/usr"))
        .mount(Mount::proc("/proc"))
        .mount(Mount::mask("/etc/secret"));
    let sandbox = ["/bin", "/lib", "/lib64"].iter().fold(sandbox, |sandbox, dir| match fs::read_link(dir) {
        Ok(_) => sandbox,
        Err(_) => sandbox.mount(Mount::bind(dir, dir)),
    });
    assert_eq!(run_sh(&sandbox, "cat /dev/null; cat /etc/secret")?, "not the device");
    Ok(())
}

fn paths_made_read_only() -> Result {
    let sandbox =
        closed().mount(Mount::tmpfs("/a")).mount(Mount::tmpfs("/a/b")).mount(Mount::read_only("/a"));
    for path in ["/a/x", "/a/b/x"] {
        assert_ne!(exit_code(&sandbox, &format!("echo x 2>/dev/null > {path}"))?, 0, "{path}");
    }
    let open = closed().mount(Mount::tmpfs("/a")).mount(Mount::tmpfs("/a/b"));
    assert_eq!(exit_code(&open, "echo x > /a/b/x && echo x > /a/x")?, 0, "the positive control");
    let error =
        closed().mount(Mount::read_only("/missing")).spawn(payload("exit", &["0"])).expect_err("missing");
    assert_eq!(error.step(), belljar::Step::Mask, "{}", explain(&error));
    assert_eq!(error.path(), Some(Path::new("/missing")));
    Ok(())
}

fn nothing_is_setuid_or_a_device() -> Result {
    let scratch = Scratch::new();
    let sandbox = closed().mount(Mount::bind(scratch.path(), "/x")).mount(Mount::tmpfs("/t"));
    let held = hold(&sandbox)?;
    for line in oracle::mounts(held.pid) {
        let has = |option: &str| line.options.split(',').any(|have| have == option);
        assert!(has("nosuid"), "{line:?}");
        let devices = line.point.starts_with("/dev");
        assert!(devices || has("nodev"), "{line:?}");
    }
    held.release().map(drop)
}

fn sources_that_are_missing() -> Result {
    for mount in
        [Mount::bind("/no/such", "/x"), Mount::bind_writable("/no/such", "/x"), Mount::bind("", "/x")]
    {
        let error = Sandbox::new().mount(mount).plan().expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
    }
    Ok(())
}

fn targets_that_are_relative() -> Result {
    for target in ["", "x", "./x", "../x"] {
        let mounts = [
            Mount::bind("/usr", target),
            Mount::tmpfs(target),
            Mount::file(target, "x"),
            Mount::dir(target),
            Mount::symlink("x", target),
            Mount::mask(target),
            Mount::read_only(target),
            Mount::dev(target),
        ];
        for mount in mounts {
            let error = Sandbox::new().mount(mount.clone()).plan().expect_err("relative");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{mount:?}");
        }
    }
    Ok(())
}

/// A root in which every path that a sandbox mounts something on is a symlink of the attacker's choice.
fn hostile_links_at_proc_dev_tmp() -> Result {
    let scratch = Scratch::new();
    let canary = scratch.dir("canary");
    for name in ["proc", "dev", "tmp", "etc"] {
        scratch.dir(format!("canary/{name}"));
        scratch.file(format!("canary/{name}/file"), "untouched");
    }
    let before = oracle::snapshot(&canary);
    let host_mounts = oracle::mounts("self").len();
    let depth = scratch.path().components().count() + 3;
    let up = "../".repeat(depth);
    let flat = canary.display().to_string();
    let targets = [
        flat.clone(),
        format!("{up}{}", flat.trim_start_matches('/')),
        format!("/proc/self/root{flat}"),
        "/..".into(),
        ".".into(),
        "loop".into(),
    ];
    for (n, target) in targets.iter().enumerate() {
        for name in ["proc", "dev", "tmp"] {
            let root = bare_root(&scratch, &format!("root-{n}-{name}"));
            fs::remove_dir(root.join(name))?;
            symlink(Path::new(target).join(name), root.join(name))?;
            for rootfs in [
                Rootfs::dir(&root),
                Rootfs::overlay([&root]),
                Rootfs::overlay([&root]).upper(Upper::tmpfs(mib(1), 100)),
            ] {
                // Either the links are resolved inside, or it is an error that names the path; never the host's.
                match on(rootfs).status(sh_quiet("echo x > /tmp/x; echo x > /dev/shm/x")) {
                    Ok(_) => {}
                    Err(error) => assert!(error.path().is_some(), "{target}: {}", explain(&error)),
                }
                assert_eq!(oracle::snapshot(&canary), before, "{name} -> {target}");
            }
        }
    }
    assert_eq!(oracle::mounts("self").len(), host_mounts);
    Ok(())
}

fn sh_quiet(script: &str) -> Command {
    let mut command = sh(script);
    command.stdout(belljar::Stdio::null()).stderr(belljar::Stdio::null());
    command
}

fn hostile_targets() -> Result {
    let scratch = Scratch::new();
    let canary = scratch.dir("canary");
    scratch.file("canary/file", "untouched");
    scratch.dir("canary/dir");
    let source = scratch.dir("source");
    scratch.file("source/inner", "inner");
    let before = oracle::snapshot(&canary);
    let flat = canary.display().to_string();
    let up = format!("{}{}", "../".repeat(20), flat.trim_start_matches('/'));
    for (n, target) in [&flat, &up, &flat, &up].into_iter().enumerate() {
        let root = bare_root(&scratch, &format!("root-{n}"));
        let leads_somewhere = n > 1;
        if leads_somewhere {
            // The same path exists inside: there the links lead, and there things may be made.
            let inside = root.join(flat.trim_start_matches('/'));
            fs::create_dir_all(inside.join("dir"))?;
            fs::write(inside.join("file"), "inside")?;
        }
        symlink(target, root.join("parent"))?; // a parent that leads out
        symlink(format!("{target}/file"), root.join("file"))?; // the target itself leads out, to something that exists
        symlink(format!("{target}/dir"), root.join("dir"))?;
        symlink(format!("{target}/new"), root.join("dangling"))?; // and to something that does not
        let mounts = [
            Mount::bind(&source, "/parent/new"),
            Mount::bind(&source, "/dir"),
            Mount::bind(&source, "/dangling"),
            Mount::bind(source.join("inner"), "/file"),
            Mount::bind(source.join("inner"), "/dangling"),
            Mount::bind(source.join("inner"), "/parent/new"),
            Mount::bind(&source, "/../../../../canary"),
            Mount::tmpfs("/parent/new"),
            Mount::tmpfs("/dangling"),
            Mount::tmpfs("/dir"),
            Mount::file("/parent/new", "evil"),
            Mount::file("/file", "evil"),
            Mount::file("/dangling", "evil"),
            Mount::dir("/parent/new"),
            Mount::dir("/dangling").mode(0o777),
            Mount::dir("/dir").mode(0o777),
            Mount::symlink("evil", "/parent/new"),
            Mount::symlink("evil", "/dangling"),
            Mount::symlink("evil", "/file"),
            Mount::proc("/dir"),
            Mount::devpts("/parent/new"),
            Mount::mqueue("/dangling"),
            Mount::dev("/dir"),
            Mount::mask("/file"),
            Mount::mask("/dir"),
            Mount::read_only("/dir"),
            Mount::bind_writable(&source, "/parent/dir"),
        ];
        let roots = [Rootfs::dir(&root), Rootfs::overlay([&root]).upper(Upper::tmpfs(mib(1), 100))];
        let mut fine = 0;
        for rootfs in roots {
            for mount in &mounts {
                let result = on(rootfs.clone()).mount(mount.clone()).status(sh_quiet("true"));
                fine += i32::from(result.as_ref().is_ok_and(belljar::Outcome::success));
                assert_eq!(
                    oracle::snapshot(&canary),
                    before,
                    "{mount:?} below a link to {target}: {result:?}"
                );
            }
        }
        assert!(fine > 20 || !leads_somewhere, "only {fine} worked, so little was tested");
    }
    assert!(canary.join("file").exists(), "the positive control");
    // A writable root that is really the host's: links still do not lead out of it.
    let root = bare_root(&scratch, "writable");
    symlink(&flat, root.join("parent"))?;
    let sandbox = on(Rootfs::dir(&root).writable()).mount(Mount::tmpfs("/parent/new"));
    sandbox.status(sh_quiet("true")).ok();
    assert_eq!(oracle::snapshot(&canary), before);
    Ok(())
}

const NAMES: [&[u8]; 9] = [
    b"comma,ro",
    b"colon:colon",
    b"back\\slash",
    b"back\\,slash\\:",
    b"sp ace",
    b"new\nline",
    b"\xff\xfe\x80",
    b"quote\"'$(x)",
    b"upperdir=,lowerdir=:",
];

fn hostile_names() -> Result {
    let scratch = Scratch::new();
    for (n, bytes) in NAMES.into_iter().enumerate() {
        let name = OsStr::from_bytes(bytes);
        let below = scratch.dir(n.to_string());
        let dir = scratch.dir(below.join(name));
        scratch.file(dir.join("file"), "content");
        // A bind source, and targets of every kind.
        let sandbox = closed()
            .mount(Mount::bind(&dir, Path::new("/b").join(name)))
            .mount(Mount::file(Path::new("/f").join(name), "content"))
            .mount(Mount::tmpfs(Path::new("/t").join(name)))
            .mount(Mount::dir(Path::new("/d").join(name)))
            .mount(Mount::symlink(name, Path::new("/l").join(name)));
        let mut command =
            sh("cat \"/b/$1/file\" \"/f/$1\" && cd \"/t/$1\" && cd \"/d/$1\" && readlink -n \"/l/$1\"");
        command.arg("sh").arg(name);
        let output = sandbox.output(&command)?;
        assert_eq!(
            output.stdout,
            [b"contentcontent", bytes].concat(),
            "{name:?}: {:?}",
            String::from_utf8_lossy(&output.stderr)
        );
        // A working directory.
        let mut command = sh("pwd");
        command.current_dir(Path::new("/t").join(name));
        assert_eq!(sandbox.output(&command)?.stdout, [b"/t/", bytes, b"\n"].concat());
        // A layer, and a whole root.
        bare_root(&scratch, "x");
        let base = below.join("base").join(name);
        fs::create_dir_all(below.join("base"))?;
        fs::rename(scratch.join("x"), &base)?;
        scratch.file(base.join("etc/marker"), "here");
        for rootfs in [Rootfs::overlay([&base]), Rootfs::overlay([&dir, &base]), Rootfs::dir(&base)] {
            assert_eq!(run_sh(&on(rootfs), "cat /etc/marker")?, "here", "{name:?}");
        }
        // An upper directory: it works, or it is refused by name.
        let (upper, work) = (below.join("w").join(name), below.join("w/work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o777))?;
        let sandbox = on(Rootfs::overlay([&base]).upper(Upper::dir(&upper, &work))).root();
        match sandbox.output(sh("echo new > /etc/new")) {
            Ok(output) => {
                succeed(output)?;
                assert_eq!(fs::read_to_string(upper.join("etc/new"))?, "new\n", "{name:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name:?}: {}", explain(&error));
                assert!(error.hint().is_some() && error.path().is_some());
            }
        }
    }
    Ok(())
}

fn a_readonly_root_lacks_targets() -> Result {
    let scratch = Scratch::new();
    let root = bare_root(&scratch, "root");
    let before = oracle::snapshot(&root);
    for mount in [
        Mount::tmpfs("/missing"),
        Mount::bind("/usr", "/missing"),
        Mount::dir("/missing"),
        Mount::file("/missing", ""),
    ] {
        let error = on(Rootfs::dir(&root)).mount(mount.clone()).spawn(sh("true")).expect_err("no target");
        assert_eq!(error.path(), Some(Path::new("/missing")), "{mount:?}: {}", explain(&error));
        assert!(error.hint().is_some(), "{mount:?}: {}", explain(&error));
        assert_eq!(oracle::snapshot(&root), before);
    }
    Ok(())
}

fn mounts_without_a_root() -> Result {
    // bare() with mounts: the host's root stays, with something on top that the host does not see.
    let scratch = Scratch::new();
    let dir = scratch.dir("dir");
    scratch.file("dir/file", "of the host");
    let sandbox =
        Sandbox::bare().user_ns().mount(Mount::tmpfs(&dir)).mount(Mount::file(dir.join("new"), "x"));
    let text = run_sh(&sandbox, &format!("ls {}", dir.display()))?;
    assert_eq!(text, "new\n");
    assert_eq!(fs::read_to_string(dir.join("file"))?, "of the host");
    assert!(!dir.join("new").exists());
    Ok(())
}

fn what_a_mount_covers_is_not_the_working_directory() -> Result {
    let scratch = Scratch::new();
    let dir = scratch.dir("covered");
    scratch.file("covered/secret", "x");
    let sandbox = Sandbox::bare().user_ns().mount(Mount::tmpfs(&dir));
    assert_eq!(run_sh(&sandbox, "pwd; cat secret 2>/dev/null || echo none")?, "/\nnone\n");
    // Nor is that of the host.
    assert_eq!(run_sh(&Sandbox::bare(), "pwd")?, "/\n");
    Ok(())
}
