//! What sandboxes change in their roots, read from outside.
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

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use belljar::ChangeKind::{Added, Deleted, Metadata, Modified, Opaque, TypeChanged};
use belljar::{Change, ChangeKind, Command, Container, ErrorKind, Rootfs, Sandbox, Step, Upper};
use support::{Result, Scratch, as_nobody, closed, explain, fail, mib, sh, slack, succeed, timed};

fn main() -> ExitCode {
    let cases = cases![
        every_kind_of_change: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        every_kind_of_change_without_privilege: ["userns", "overlay", "tmpfs-xattr", "python3", "setpriv"],
        layers_are_merged_as_the_kernel_does: ["userns", "root", "overlay", "sh"],
        a_persistent_upper: ["userns", "root", "overlay", "sh"],
        an_upper_is_emptied: ["userns", "root", "overlay", "python3"],
        an_upper_belongs_to_one_sandbox: ["userns", "root", "overlay", "sh"],
        nothing_is_followed_out: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        programs_stand_still_meanwhile: ["userns", "root", "overlay", "cgroup-v2", "sh"],
        too_deep_is_an_error: ["userns", "root", "overlay", "python3"],
        marks_of_both_kinds: ["root"],
        attributes_alone_are_a_change: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        a_file_with_more_names: ["userns", "root", "overlay", "python3"],
        what_lies_elsewhere_in_a_layer_is_refused: ["root"],
        changes_come_true_on_the_host: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        changes_come_true_without_privilege: ["userns", "overlay", "tmpfs-xattr", "python3", "setpriv"],
        nothing_outside_of_the_target_is_written: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        the_directory_itself_is_replaced: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
        mounts_are_not_entered: ["userns", "root", "overlay", "python3"],
        closed_directories_come_true: ["userns", "overlay", "python3", "setpriv"],
        owners_stay: ["userns", "root", "overlay", "python3"],
        marks_that_a_program_has_forged: ["root", "overlay", "python3"],
        a_forked_host_keeps_the_lock: ["userns", "root", "overlay"],
        reading_and_freezing_do_not_meet: ["userns", "root", "overlay", "cgroup-v2"],
        names_without_end: ["userns", "root", "overlay", "python3"],
        what_cannot_come_true: ["userns", "root", "overlay", "python3"],
        without_an_upper_there_are_none: ["userns", "overlay"],
    ];
    support::main(
        cases,
        &[("nobody", nobody), ("nobody-applies", nobody_applies), ("nobody-closes", nobody_closes)],
    )
}

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]);
    command
}

/// The system's programs and a layer to be changed over them.
fn over(layers: &[&Path], upper: impl Into<Upper>) -> Sandbox {
    let layers = layers.iter().map(|layer| layer.to_path_buf());
    support::with_system(support::with_payload(Sandbox::new().rootfs(Rootfs::overlay(layers).upper(upper))))
        .mount(belljar::Mount::proc("/proc"))
        .root()
}

fn in_memory() -> Upper {
    Upper::tmpfs(mib(16), 2000)
}

/// The changes below `/data`: what the mounts need is made in the upper, too.
fn below_data(changes: &[Change]) -> Vec<(ChangeKind, String)> {
    let data = changes.iter().filter(|change| change.path.starts_with("/data"));
    data.map(|change| (change.kind, change.path.display().to_string())).collect()
}

fn expect(container: &Container, wanted: &[(ChangeKind, &str)]) -> Result {
    let changes = container.changes()?;
    let wanted: Vec<_> = wanted.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect();
    assert_eq!(below_data(&changes), wanted);
    Ok(())
}

fn lower(scratch: &Scratch) -> std::path::PathBuf {
    for dir in [
        "base/data",
        "base/data/dir",
        "base/data/gone",
        "base/data/dir/deep",
        "base/data/renewed",
        "base/data/turned",
    ] {
        scratch.dir(dir);
    }
    for file in
        ["a", "same", "opened", "mode", "dir/b", "dir/deep/c", "gone/d", "renewed/e", "turned/f", "becomes"]
    {
        scratch.file(format!("base/data/{file}"), file);
    }
    std::os::unix::fs::symlink("a", scratch.join("base/data/link")).expect("a link");
    scratch.join("base")
}

const SCRIPT: &str = "
import os, shutil
os.chdir('/data')
open('a', 'a').write('more')                         # modified
open('new', 'w').write('12345'); os.mkdir('made'); open('made/x', 'w')
open('same', 'w').write('same')                      # written, with what it had
open('opened', 'r+').close()                         # copied up, for nothing
os.chmod('mode', 0o600)
os.remove('dir/deep/c')
shutil.rmtree('gone')
shutil.rmtree('renewed'); os.mkdir('renewed'); open('renewed/g', 'w')
shutil.rmtree('turned'); open('turned', 'w')
os.remove('becomes'); os.mkdir('becomes'); open('becomes/h', 'w')
os.remove('link'); os.symlink('b', 'link')
os.chmod('dir', 0o700)
os.mkfifo('fifo')
open('temporary', 'w'); os.remove('temporary')       # never was
";

const CHANGES: [(ChangeKind, &str); 17] = [
    (Modified, "/data/a"),
    (TypeChanged, "/data/becomes"),
    (Added, "/data/becomes/h"),
    (Metadata, "/data/dir"),
    (Deleted, "/data/dir/deep/c"),
    (Added, "/data/fifo"),
    (Deleted, "/data/gone"),
    (Modified, "/data/link"),
    (Added, "/data/made"),
    (Added, "/data/made/x"),
    (Metadata, "/data/mode"),
    (Added, "/data/new"),
    (Opaque, "/data/renewed"),
    (Added, "/data/renewed/g"),
    (Metadata, "/data/same"),
    (TypeChanged, "/data/turned"),
    // Only a place that is not there is none.
    (Added, "/data/zuletzt"),
];

fn all_kinds(base: &Path, upper: impl Into<Upper>) -> Result {
    let container = over(&[base], upper).start()?;
    expect(&container, &[])?;
    succeed(container.output(python(SCRIPT))?)?;
    succeed(container.output(python("open('/data/zuletzt', 'w').write('x' * 7)"))?)?;
    expect(&container, &CHANGES)?;
    // Again, for nothing is used up.
    expect(&container, &CHANGES)?;
    let changes = container.changes()?;
    let size = |path: &str| {
        changes.iter().find(|change| change.path == Path::new(path)).map(|found| found.size.get())
    };
    assert_eq!((size("/data/new"), size("/data/zuletzt"), size("/data/gone")), (Some(5), Some(7), Some(0)));
    Ok(())
}

fn every_kind_of_change() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    // Root inside owns the files of the layer, which are root's on disk.
    all_kinds(&base, in_memory())?;
    let (upper, work) = (scratch.dir("upper"), scratch.dir("work"));
    all_kinds(&base, Upper::dir(upper, work))
}

fn every_kind_of_change_without_privilege() -> Result {
    let helper = as_nobody("nobody", &[], Duration::from_secs(60) * slack())?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn nobody(_: &[OsString]) -> i32 {
    let run = || {
        let scratch = Scratch::below(&std::env::temp_dir());
        let base = lower(&scratch);
        all_kinds(&base, in_memory())?;
        // What the program closes to its own user is closed to a host that is no more than that.
        let container = over(&[&base], in_memory()).start()?;
        succeed(container.output(python(
            "import os; os.mkdir('/data/closed'); open('/data/closed/x', 'w'); os.chmod('/data/closed', 0)",
        ))?)?;
        let error = container.changes().expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
        assert_eq!(error.path(), Some(Path::new("/data/closed")));
        assert!(error.hint().is_some());
        Ok(())
    };
    match run() {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

/// Three layers, the upper ones with marks of their own.
fn layers_are_merged_as_the_kernel_does() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    for dir in ["middle/data/dir", "middle/data/renewed", "top/data/dir/deep"] {
        scratch.dir(dir);
    }
    scratch.file("middle/data/dir/b", "of the middle");
    scratch.file("middle/data/renewed/e", "anew");
    let mark = |path: &str| {
        let device = nix::sys::stat::makedev(0, 0);
        nix::sys::stat::mknod(
            &scratch.join(path),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::empty(),
            device,
        )
    };
    mark("middle/data/gone")?;
    mark("top/data/a")?;
    support::raw::set_attribute(&scratch.join("middle/data/renewed"), "user.overlay.opaque", b"y")?;
    let (middle, top) = (scratch.join("middle"), scratch.join("top"));
    let container = over(&[&top, &middle, &base], in_memory()).start()?;
    let run = |script: &str| -> Result<String> { succeed(container.output(sh(script))?) };
    assert_eq!(
        run("cd /data && cat dir/b renewed/e && ls -d a gone 2>/dev/null || true")?,
        "of the middleanew"
    );
    // All of these are compared with what the layers have together.
    run(
        "cd /data && echo back > a && mkdir gone && echo d > gone/d && touch dir/b && echo e > renewed/e && echo f > renewed/f && rm dir/deep/c",
    )?;
    expect(
        &container,
        &[
            (Added, "/data/a"),
            (Metadata, "/data/dir/b"),
            (Deleted, "/data/dir/deep/c"),
            (Added, "/data/gone"),
            (Added, "/data/gone/d"),
            (Modified, "/data/renewed/e"),
            (Added, "/data/renewed/f"),
        ],
    )
}

fn a_persistent_upper() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let upper = || Upper::dir(scratch.dir("upper"), scratch.dir("work"));
    let root = Rootfs::overlay([&base]).upper(upper());
    assert_eq!(root.changes()?, []);
    let outcome = over(&[&base], upper()).status(sh("echo x > /data/a; rm /data/same"))?;
    assert!(outcome.success(), "{outcome:?}");
    let wanted = [(Modified, "/data/a".to_owned()), (Deleted, "/data/same".to_owned())];
    assert_eq!(below_data(&root.changes()?), wanted);
    // The next sandbox over it goes on from there.
    over(&[&base], upper()).status(sh("echo same > /data/same; rm /data/a"))?;
    let wanted = [(Deleted, "/data/a".to_owned()), (Modified, "/data/same".to_owned())];
    assert_eq!(below_data(&root.changes()?), wanted);
    Ok(())
}

fn an_upper_is_emptied() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let (upper, work, outside) = (scratch.dir("upper"), scratch.dir("work"), scratch.dir("outside"));
    scratch.file("outside/file", "stays");
    let root = Rootfs::overlay([&base]).upper(Upper::dir(&upper, &work));
    let sandbox = over(&[&base], Upper::dir(&upper, &work));
    let script = format!(
        "
import os
os.chdir('/data'); os.remove('a'); os.symlink({outside:?}, 'way'); os.mkdir('closed'); os.mkdir('closed/in')
os.chmod('closed', 0)
for i in range(1500): os.mkdir('d' * 50); os.chdir('d' * 50)
"
    );
    let container = sandbox.start()?;
    succeed(container.output(python(&script))?)?;
    let error = root.discard().expect_err("a sandbox uses it");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
    container.close()?;
    root.discard()?;
    for dir in [&upper, &work] {
        assert_eq!(fs::read_dir(dir)?.count(), 0, "{}", dir.display());
    }
    assert_eq!(fs::read_to_string(outside.join("file"))?, "stays");
    assert_eq!(root.changes()?, []);
    assert_eq!(succeed(sandbox.output(sh("cat /data/a"))?)?, "a");
    for root in [Rootfs::system(), Rootfs::overlay([&base]), Rootfs::overlay([&base]).upper(in_memory())] {
        let error = root.discard().expect_err("it keeps nothing");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    }
    Ok(())
}

fn an_upper_belongs_to_one_sandbox() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let upper = || Upper::dir(scratch.dir("upper"), scratch.dir("work"));
    let container = over(&[&base], upper()).start()?;
    let error = over(&[&base], upper()).start().expect_err("it is in use");
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::ResourceExhausted, Step::MountSource),
        "{}",
        explain(&error)
    );
    assert!(error.path().is_some() && error.hint().is_some());
    let error = Rootfs::overlay([&base]).upper(upper()).changes().expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
    assert_eq!(below_data(&container.changes()?), []);
    container.close()?;
    over(&[&base], upper()).start()?.close()?;
    Ok(())
}

/// Links to the host, and names that are hard to write.
fn nothing_is_followed_out() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let secret = scratch.dir("secret");
    scratch.file("secret/file", "of the host");
    let container = over(&[&base], in_memory()).start()?;
    let script = format!(
        "import os, shutil
os.chdir(b'/data')
os.symlink('{0}', 'out'); shutil.rmtree('dir'); os.symlink('{0}', 'dir')
open(b'new\\nline', 'w'); open(b'\\xff\\xfe', 'w'); open('x' * 255, 'w')",
        secret.display()
    );
    succeed(container.output(python(&script))?)?;
    let changes = container.changes()?;
    assert!(changes.iter().all(|change| !change.path.ends_with("file")), "{changes:?}");
    let kinds: Vec<_> = below_data(&changes).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [TypeChanged, Added, Added, Added, Added]);
    assert!(fs::read(secret.join("file"))? == b"of the host");
    Ok(())
}

fn programs_stand_still_meanwhile() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let container = over(&[&base], in_memory()).freezable().start()?;
    // Of each pair one is there at any moment.
    let script = "cd /data; : > one; while :; do mv one other; mv other one; done";
    let mut child = container.spawn(sh(script))?;
    for _ in 0..50 {
        let changes = below_data(&container.changes()?);
        let pair = changes.iter().filter(|(_, path)| path == "/data/one" || path == "/data/other").count();
        if pair != 1 && !changes.is_empty() {
            return fail(format!("{changes:?}"));
        }
    }
    // And they go on afterwards.
    assert!(child.try_wait()?.is_none());
    let before = container.usage()?.cpu;
    assert!(support::within(Duration::from_secs(5) * slack(), || container
        .usage()
        .is_ok_and(|usage| usage.cpu > before)));
    // What the host has frozen stays frozen.
    container.freeze()?;
    container.changes()?;
    let before = container.usage()?.cpu;
    std::thread::sleep(Duration::from_millis(100));
    // The kernel may account for what went before a little later.
    let used = container.usage()?.cpu - before;
    assert!(used < Duration::from_millis(20), "{used:?}");
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn too_deep_is_an_error() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let container = over(&[&base], in_memory()).start()?;
    let deep = |depth: u32| {
        format!("import os\nos.chdir('/data')\nfor n in range({depth}):\n  os.mkdir('d'); os.chdir('d')")
    };
    succeed(container.output(python(&deep(400)))?)?;
    assert_eq!(container.changes()?.iter().filter(|change| change.path.ends_with("d")).count(), 400);
    let container = over(&[&base], in_memory()).start()?;
    succeed(container.output(python(&deep(1500)))?)?;
    let (error, took) = timed(|| container.changes().expect_err("it is too deep"));
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{}", explain(&error));
    assert!(took < Duration::from_secs(10) * slack(), "{took:?}");
    Ok(())
}

/// An upper as other kernels and other tools leave it.
fn marks_of_both_kinds() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    scratch.dir("upper/data/dir");
    scratch.dir("upper/data/renewed");
    let device = nix::sys::stat::makedev(0, 0);
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&scratch.join("upper/data/a"), kind, nix::sys::stat::Mode::empty(), device)?;
    for (name, attribute) in [("same", "user.overlay.whiteout"), ("mode", "trusted.overlay.whiteout")] {
        let file = scratch.file(format!("upper/data/{name}"), "");
        support::raw::set_attribute(&file, attribute, b"")?;
    }
    // Without the mark it is an empty file, and with content it is none of the marks.
    scratch.file("upper/data/opened", "");
    let file = scratch.file("upper/data/becomes", "x");
    support::raw::set_attribute(&file, "user.overlay.whiteout", b"")?;
    support::raw::set_attribute(&scratch.join("upper/data/renewed"), "trusted.overlay.opaque", b"y")?;
    // What was never there cannot be gone.
    nix::sys::stat::mknod(&scratch.join("upper/data/never"), kind, nix::sys::stat::Mode::empty(), device)?;
    fs::set_permissions(scratch.join("upper/data"), fs::Permissions::from_mode(0o755))?;
    let root = Rootfs::overlay([&base]).upper(Upper::dir(scratch.join("upper"), scratch.dir("work")));
    let changes = below_data(&root.changes()?);
    let wanted = [
        (Deleted, "/data/a"),
        (Modified, "/data/becomes"),
        (Deleted, "/data/mode"),
        (Modified, "/data/opened"),
        (Opaque, "/data/renewed"),
        (Deleted, "/data/same"),
    ];
    assert_eq!(changes, wanted.map(|(kind, path)| (kind, path.to_owned())));
    Ok(())
}

/// Attributes that a layer keeps, alone: added, removed, or with another value; on files and on directories.
fn attributes_alone_are_a_change() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let set = |path: &str, name: &str, value: &[u8]| {
        support::raw::set_attribute(&base.join("data").join(path), name, value)
    };
    for path in ["a", "same", "mode", "opened", "dir", "gone"] {
        set(path, "user.kept", b"value")?;
    }
    set("renewed", "user.overlay.origin", b"y")?;
    // Effective, with CAP_NET_BIND_SERVICE permitted.
    let capability = [[1, 0, 0, 2, 0, 4, 0, 0].as_slice(), &[0; 12]].concat();
    set("dir/b", "security.capability", &capability)?;
    let sandbox = |upper| over(&[&base], upper).keep_capability("CAP_SETFCAP");
    let script = "
import os
os.chdir('/data')
os.removexattr('a', 'user.kept')
os.setxattr('same', 'user.kept', b'valuf')
os.setxattr('mode', 'user.new', b'')
os.setxattr('gone', 'user.kept', b'other'); os.setxattr('turned', 'user.new', b'x')
# The same as before, of files that were copied for that.
for path in ['opened', 'dir']: os.setxattr(path, 'user.kept', b'x'); os.setxattr(path, 'user.kept', b'value')
for path in ['renewed', 'dir/deep/c']:
    os.setxattr(path, 'user.new', b'x'); os.removexattr(path, 'user.new')
capability = os.getxattr('dir/b', 'security.capability')
os.setxattr('dir/b', 'security.capability', capability)
os.setxattr('gone/d', 'security.capability', capability)";
    let wanted = [
        (Metadata, "/data/a"),
        (Metadata, "/data/gone"),
        (Metadata, "/data/gone/d"),
        (Metadata, "/data/mode"),
        (Metadata, "/data/same"),
        (Metadata, "/data/turned"),
    ];
    let container = sandbox(in_memory()).start()?;
    succeed(container.output(python(script))?)?;
    expect(&container, &wanted)?;
    let container = sandbox(Upper::dir(scratch.dir("upper"), scratch.dir("work")).into()).start()?;
    succeed(container.output(python(script))?)?;
    expect(&container, &wanted)
}

/// A new name of a file that is as it was: the two would not be one file if only the new one counted.
fn a_file_with_more_names() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    fs::hard_link(base.join("data/same"), base.join("data/twin"))?;
    let container = over(&[&base], in_memory()).start()?;
    // One name of two is copied for nothing, and that is no change.
    let script = "import os; os.chdir('/data'); os.link('a', 'new'); open('twin', 'r+').close()";
    succeed(container.output(python(script))?)?;
    expect(&container, &[(Metadata, "/data/a"), (Added, "/data/new")])
}

/// Uppers of overlays that were mounted otherwise.
fn what_lies_elsewhere_in_a_layer_is_refused() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    for (mark, refused) in [
        ("trusted.overlay.redirect", true),
        ("trusted.overlay.metacopy", true),
        // Which no kernel makes, and any program may.
        ("user.overlay.redirect", false),
        ("user.overlay.metacopy", false),
    ] {
        let name = format!("upper-{mark}");
        scratch.dir(format!("{name}/data"));
        let path = match mark.ends_with("redirect") {
            true => scratch.dir(format!("{name}/data/elsewhere")),
            false => scratch.file(format!("{name}/data/elsewhere"), "x"),
        };
        support::raw::set_attribute(&path, mark, b"/data/dir")?;
        let root = Rootfs::overlay([&base]).upper(Upper::dir(scratch.join(name), scratch.dir("work")));
        match root.changes() {
            Ok(changes) if !refused => {
                assert_eq!(below_data(&changes), [(Added, "/data/elsewhere".to_owned())]);
            }
            Err(error) if refused && error.kind() == ErrorKind::Unsupported => {
                assert_eq!(error.path(), Some(Path::new("/data/elsewhere")), "{}", explain(&error));
                assert!(error.hint().is_some());
            }
            other => return fail(format!("{mark}: {other:?}")),
        }
    }
    Ok(())
}

fn without_an_upper_there_are_none() -> Result {
    for sandbox in
        [closed(), Sandbox::bare(), support::with_payload(Sandbox::new().rootfs(Rootfs::overlay(["/usr"])))]
    {
        let error = sandbox.start()?.changes().expect_err("nothing is kept");
        assert_eq!((error.kind(), error.step()), (ErrorKind::InvalidConfig, Step::Changes));
        assert!(error.hint().is_some());
    }
    for root in [Rootfs::system(), Rootfs::overlay(["/usr"]).upper(in_memory()), Rootfs::dir("/usr")] {
        let error = root.changes().expect_err("nothing is kept");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    let root = Rootfs::overlay(["/usr"]).upper(Upper::dir("/no/such/upper", "/no/such/work"));
    assert_eq!(root.changes().expect_err("it is not there").kind(), ErrorKind::NotFound);
    Ok(())
}

/// What is below a directory: type, permissions, content or target.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir_now) = left.pop() {
        for entry in fs::read_dir(&dir_now).expect("it can be read").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("it is there"));
            let name = path.strip_prefix(dir).expect("below").display().to_string();
            let mode = metadata.permissions().mode() & 0o7777;
            let kind = metadata.file_type();
            found.push(if kind.is_dir() {
                left.push(path);
                format!("{name}/ {mode:o}")
            } else if kind.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).expect("a link").display())
            } else {
                format!("{name} {mode:o} {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()))
            });
        }
    }
    found.sort();
    found
}

const LOOK: &str = "
import os, stat
found = []
for dir, dirs, files in os.walk('/data'):
    for name in dirs + files:
        path = os.path.join(dir, name); s = os.lstat(path); mode = stat.S_IMODE(s.st_mode); rel = os.path.relpath(path, '/data')
        if stat.S_ISDIR(s.st_mode): found.append('%s/ %o' % (rel, mode))
        elif stat.S_ISLNK(s.st_mode): found.append('%s -> %s' % (rel, os.readlink(path)))
        elif stat.S_ISREG(s.st_mode): found.append('%s %o \"%s\"' % (rel, mode, open(path).read()))
print('\\n'.join(sorted(found)))";

/// The layer itself becomes what the program sees.
fn come_true(scratch: &Scratch) -> Result {
    let base = lower(scratch);
    let container = over(&[&base], in_memory()).start()?;
    succeed(container.output(python(SCRIPT))?)?;
    let left_out = container.apply("/data", base.join("data"), mib(1))?;
    assert_eq!(below_data(&left_out), [(Added, "/data/fifo".to_owned())]);
    let inside = succeed(container.output(python(LOOK))?)?;
    let wanted: Vec<_> = inside.lines().map(str::to_owned).collect();
    assert_eq!(tree(&base.join("data")), wanted);
    assert!(wanted.len() > 15, "{wanted:?}");
    // There is nothing left to be done, and doing it again does nothing.
    let again = tree(&base.join("data"));
    container.apply("/data/", base.join("data"), mib(1))?;
    assert_eq!(tree(&base.join("data")), again);
    Ok(())
}

fn changes_come_true_on_the_host() -> Result {
    come_true(&Scratch::new())
}

fn changes_come_true_without_privilege() -> Result {
    let helper = as_nobody("nobody-applies", &[], Duration::from_secs(60) * slack())?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn nobody_applies(_: &[OsString]) -> i32 {
    match come_true(&Scratch::below(&std::env::temp_dir())) {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

/// Links on either side, and what a program would like to be on the host.
fn nothing_outside_of_the_target_is_written() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let outside = scratch.dir("outside");
    scratch.file("outside/a", "of the host");
    let to = scratch.dir("to");
    // The target is not what the layer is: links lie where the program has files and directories.
    std::os::unix::fs::symlink(&outside, to.join("dir"))?;
    std::os::unix::fs::symlink(outside.join("a"), to.join("a"))?;
    let container = over(&[&base], in_memory()).start()?;
    let script = "
import os
os.chdir('/data')
open('a', 'w').write('new'); os.chmod('a', 0o4755)
os.symlink('/etc/passwd', 'passwd'); os.symlink('..', 'up')
";
    succeed(container.output(python(script))?)?;
    assert_eq!(container.apply("/data", &to, mib(1))?, []);
    // The link itself was replaced, what it leads to was not.
    assert_eq!(fs::read_to_string(outside.join("a"))?, "of the host");
    let metadata = fs::symlink_metadata(to.join("a"))?;
    assert!(metadata.is_file() && metadata.permissions().mode() & 0o7777 == 0o755, "{metadata:?}");
    assert_eq!(fs::read_link(to.join("passwd"))?, Path::new("/etc/passwd"));
    // A directory that is a link there is not entered.
    succeed(container.output(python("open('/data/dir/a', 'w').write('x')"))?)?;
    let error = container.apply("/data", &to, mib(1)).expect_err("a link is in the way");
    assert_eq!(
        (error.step(), error.path()),
        (Step::Changes, Some(to.join("dir/a").as_path())),
        "{}",
        explain(&error)
    );
    assert!(error.hint().is_some());
    assert_eq!(fs::read_dir(&outside)?.count(), 1);
    assert_eq!(fs::read_to_string(outside.join("a"))?, "of the host");
    // Deleting what is a link there deletes the link.
    let container = over(&[&base], in_memory()).start()?;
    succeed(container.output(python("import shutil; shutil.rmtree('/data/dir')"))?)?;
    container.apply("/data", &to, mib(1))?;
    assert!(!to.join("dir").exists() && outside.join("a").exists());
    assert!(
        fs::read_dir(&to)?.flatten().all(|entry| !entry.file_name().to_string_lossy().contains("belljar"))
    );
    Ok(())
}

fn what_cannot_come_true() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let to = scratch.dir("to");
    let container = over(&[&base], in_memory()).start()?;
    let script = "
import os
f = open('/data/huge', 'w'); os.truncate('/data/huge', 1 << 40); open('/data/a', 'w').write('x' * 1000)";
    succeed(container.output(python(script))?)?;
    let (error, took) = timed(|| container.apply("/data", &to, mib(1)).expect_err("it is too much"));
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{}", explain(&error));
    assert_eq!(error.path(), Some(Path::new("/data/huge")));
    assert!(took < Duration::from_secs(5) * slack(), "{took:?}");
    // What came before is there, and nothing of what was too large.
    assert_eq!(fs::read_to_string(to.join("a"))?.len(), 1000);
    assert_eq!(fs::read_dir(&to)?.count(), 1);
    for below in ["data", "/data/../etc", ""] {
        let error = container.apply(below, &to, mib(1)).expect_err(below);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    }
    let error = container.apply("/data", scratch.join("no/such"), mib(1)).expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // What is below another directory has no changes.
    assert_eq!(container.apply("/srv", &to, mib(1))?, []);
    Ok(())
}

/// What became of the directory that is written to, or of one above it.
fn the_directory_itself_is_replaced() -> Result {
    for (script, left) in [
        ("shutil.rmtree('/data'); os.mkdir('/data'); open('/data/new', 'w')", &["new"][..]),
        ("shutil.rmtree('/data')", &[]),
        ("shutil.rmtree('/data'); open('/data', 'w')", &[]),
        (
            "os.remove('/data/a')",
            &["becomes", "dir", "gone", "link", "mode", "opened", "renewed", "same", "turned"],
        ),
    ] {
        let scratch = Scratch::new();
        let base = lower(&scratch);
        let container = over(&[&base], in_memory()).start()?;
        succeed(container.output(python(&format!("import os, shutil; {script}")))?)?;
        container.apply("/data", base.join("data"), mib(1))?;
        let mut names: Vec<_> =
            fs::read_dir(base.join("data"))?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, left, "{script}");
    }
    // One above it.
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let container = over(&[&base], in_memory()).start()?;
    succeed(container.output(python(
        "import os, shutil; shutil.rmtree('/data'); os.makedirs('/data/dir'); open('/data/dir/z', 'w')",
    ))?)?;
    container.apply("/data/dir", base.join("data/dir"), mib(1))?;
    assert_eq!(tree(&base.join("data/dir")), ["z 644 \"\""]);
    Ok(())
}

/// What the host has mounted below the directory is no part of any layer.
fn mounts_are_not_entered() -> Result {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let precious = scratch.dir("precious");
    scratch.file("precious/file", "of the host");
    let point = scratch.dir("base/data/mnt");
    mount(Some(&precious), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    // Whatever fails, nothing of this stays mounted.
    let run = || -> Result {
        for script in ["os.rmdir('/data/mnt')", "open('/data/mnt/x', 'w')"] {
            let container = over(&[&base], in_memory()).start()?;
            succeed(container.output(python(&format!("import os; {script}")))?)?;
            match container.apply("/data", base.join("data"), mib(1)) {
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) && error.hint().is_some() => {}
                Err(error) => return fail(explain(&error)),
                Ok(left_out) => return fail(format!("{script} came true: {left_out:?}")),
            }
        }
        Ok(())
    };
    let result = run();
    umount2(&point, MntFlags::MNT_DETACH)?;
    result?;
    assert_eq!(fs::read_dir(&precious)?.count(), 1);
    Ok(())
}

/// As package managers leave them: nobody may write there, not even who made it.
fn closed_directories_come_true() -> Result {
    let helper = as_nobody("nobody-closes", &[], Duration::from_secs(60) * slack())?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn nobody_closes(_: &[OsString]) -> i32 {
    let run = || {
        let scratch = Scratch::below(&std::env::temp_dir());
        let base = lower(&scratch);
        let container = over(&[&base], in_memory()).start()?;
        let script = "
import os
os.mkdir('/data/cache'); os.mkdir('/data/cache/in'); open('/data/cache/in/f', 'w'); open('/data/dir/new', 'w')
for path in ['/data/cache/in', '/data/cache', '/data/dir']: os.chmod(path, 0o555)
open('/data/unreadable', 'w').write('x'); os.chmod('/data/unreadable', 0)";
        succeed(container.output(python(script))?)?;
        for _ in 0..2 {
            let left_out = container.apply("/data", base.join("data"), mib(1))?;
            assert_eq!(below_data(&left_out), [(Added, "/data/unreadable".to_owned())]);
            let mode = |path: &str| {
                fs::metadata(base.join("data").join(path)).map(|found| found.permissions().mode() & 0o777)
            };
            assert_eq!((mode("cache")?, mode("cache/in")?, mode("dir")?), (0o555, 0o555, 0o555));
            assert!(base.join("data/cache/in/f").exists() && base.join("data/dir/new").exists());
        }
        for dir in ["cache", "cache/in", "dir"] {
            fs::set_permissions(base.join("data").join(dir), fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    match run() {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

/// A file that is written to stays its owner's; a new one belongs to the owner of its directory.
fn owners_stay() -> Result {
    use std::os::unix::fs::{MetadataExt, chown};
    let scratch = Scratch::new();
    let base = lower(&scratch);
    chown(base.join("data/a"), Some(1234), Some(1234))?;
    chown(base.join("data/dir"), Some(2345), Some(2345))?;
    let container = over(&[&base], in_memory()).start()?;
    let script = "import os; os.remove('/data/a'); open('/data/a', 'w').write('x'); os.remove('/data/dir/b'); open('/data/dir/n', 'w')";
    // Root inside has no capability, so it replaces where it may not write.
    let output = container.output(python(script))?;
    if output.outcome.verdict == belljar::Verdict::Exited(0) {
        container.apply("/data", base.join("data"), mib(1))?;
        assert_eq!(fs::metadata(base.join("data/a"))?.uid(), 1234);
        assert_eq!(fs::metadata(base.join("data/dir/n"))?.uid(), 2345);
    } else {
        succeed(
            container.output(python("import os; os.remove('/data/a'); open('/data/a', 'w').write('x')"))?,
        )?;
        container.apply("/data", base.join("data"), mib(1))?;
        assert_eq!(fs::metadata(base.join("data/a"))?.uid(), 1234);
    }
    Ok(())
}

/// Without a user namespace the attributes of a user mean nothing to overlayfs, and a program may set them.
fn marks_that_a_program_has_forged() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let root = Rootfs::overlay([&base]).upper(in_memory());
    let container =
        support::with_system(support::with_payload(Sandbox::bare().mount_ns().rootfs(root))).start()?;
    let script = "
import os
open('/data/dir/new', 'w')
os.setxattr('/data/dir', 'user.overlay.opaque', b'y')
open('/data/a', 'w'); os.setxattr('/data/a', 'user.overlay.whiteout', b'')
print(sorted(os.listdir('/data/dir')), os.path.exists('/data/a'))";
    let output = container.output(python(script))?;
    if output.outcome.verdict != belljar::Verdict::Exited(0) {
        // A tmpfs before Linux 6.6 has no such attributes.
        assert!(String::from_utf8_lossy(&output.stderr).contains("not supported"), "{output:?}");
        return Ok(());
    }
    assert_eq!(output.stdout, b"['b', 'deep', 'new'] True\n");
    expect(&container, &[(Modified, "/data/a"), (Added, "/data/dir/new")])
}

/// The forked copy of a host drops its values, and the lock of the original stays.
fn a_forked_host_keeps_the_lock() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let upper = || Upper::dir(scratch.dir("upper"), scratch.dir("work"));
    let container = over(&[&base], upper()).start()?;
    let pid = support::raw::fork()?;
    if pid == 0 {
        drop(container);
        std::process::exit(0);
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
    let error = over(&[&base], upper()).start().expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
    container.close()?;
    over(&[&base], upper()).start()?.close()?;
    Ok(())
}

/// Reading stops the programs for a moment, and thaws nothing that the host has frozen, and refuses no program.
fn reading_and_freezing_do_not_meet() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let container = over(&[&base], in_memory()).freezable().start()?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| -> Result {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        container.changes()?;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Ok(())
                })
            })
            .collect();
        let run = || -> Result {
            let mut burner = container.spawn(support::payload("burn", &["600000"]))?;
            for _ in 0..10 {
                if !container.status(support::payload("exit", &["0"]))?.success() {
                    return fail("it was refused");
                }
                container.freeze()?;
                // What has just ended is counted a little later.
                let before = container.usage()?.cpu;
                std::thread::sleep(Duration::from_millis(20) * slack());
                let used = container.usage()?.cpu - before;
                container.thaw()?;
                if used > Duration::from_millis(5) * slack() {
                    return fail(format!("frozen, it used {used:?}"));
                }
            }
            burner.kill()?;
            burner.wait()?;
            Ok(())
        };
        let result = run();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no panic")?;
        }
        result
    })
}

/// Long names in deep directories, of which the list would have hundreds of megabytes.
fn names_without_end() -> Result {
    let scratch = Scratch::new();
    let base = lower(&scratch);
    let container = over(&[&base], Upper::tmpfs(mib(64), 4000)).start()?;
    let script = "
import os
os.chdir('/data')
for n in range(300): os.mkdir('d' * 250); os.chdir('d' * 250)
try:
    for n in range(3000): open('%d' % n, 'w').close()
except OSError: pass";
    succeed(container.output(python(script))?)?;
    let error = container.changes().expect_err("it is too much");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{}", explain(&error));
    Ok(())
}
