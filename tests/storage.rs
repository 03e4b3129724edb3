//! Writable roots on disk: every driver on every filesystem that is made for it here.
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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use belljar::ChangeKind::{Added, Deleted, Metadata, Modified};
use belljar::{
    Base, ChangeKind, Command, ErrorKind, Host, Rootfs, Sandbox, Step, Storage, StorageDriver, Workspace,
};
use support::{
    Result, Scratch, as_nobody, explain, fail, payload, role_command, run_helper, sh, slack, succeed, timed,
};

fn main() -> ExitCode {
    let cases = cases![
        drivers_on_ext4: ["userns", "root", "overlay", "loop", "sh"],
        drivers_on_xfs: ["userns", "root", "overlay", "loop", "xfs", "sh"],
        drivers_on_btrfs: ["userns", "root", "overlay", "loop", "btrfs", "sh"],
        a_copy_is_what_the_layers_are: ["userns", "root", "overlay", "python3"],
        a_workspace_lasts_as_long_as_it_is_used: ["userns", "root", "sh"],
        a_named_one_stays: ["userns", "root", "overlay", "sh"],
        what_a_killed_host_leaves: ["userns", "root", "sh"],
        whatever_programs_leave: ["userns", "root", "python3"],
        forged_marks_are_nothing: ["userns", "root", "python3"],
        a_base_is_made_once: ["userns", "root", "sh"],
        what_is_mounted_below_a_layer: ["userns", "root", "sh"],
        a_forked_host_holds_no_lock: ["userns", "root"],
        where_no_overlay_can_be: ["userns", "root", "overlay", "setpriv", "python3"],
        without_privilege: ["userns", "overlay", "python3", "setpriv"],
        what_is_refused: ["userns", "root"],
    ];
    support::main(
        cases,
        &[
            ("drivers", drivers),
            ("make-base", make_base),
            ("host-to-kill", host_to_kill),
            ("nobody", nobody),
            ("mounted-below", mounted_below),
            ("over-overlay", over_overlay),
            ("nobody-there", nobody_there),
        ],
    )
}

const BIG: usize = 8 << 20;

/// A layer with programs to change it, and one below.
fn layers(scratch: &Path) -> Rootfs {
    let dir = |name: &str| {
        let path = scratch.join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        path
    };
    let (top, bottom) = (dir("top"), dir("bottom"));
    for name in ["top/data", "bottom/data/dir", "bottom/data/hidden"] {
        dir(name);
    }
    for (name, content) in [
        ("top/data/a", "top"),
        ("bottom/data/a", "bottom"),
        ("bottom/data/dir/b", "b"),
        ("bottom/data/c", "c"),
    ] {
        fs::write(scratch.join(name), content).expect("a file can be written");
    }
    // Nothing that a filesystem would compress or share by itself.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(BIG)
    .collect();
    fs::write(bottom.join("data/big"), noise).expect("a file can be written");
    Rootfs::overlay([top, bottom])
}

fn sandbox(workspace: &Workspace) -> Sandbox {
    support::with_system(support::with_payload(Sandbox::new().rootfs(workspace.rootfs())))
        .mount(belljar::Mount::proc("/proc"))
        .mount(belljar::Mount::dev("/dev"))
        .root()
}

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]);
    command
}

fn below_data(changes: &[belljar::Change]) -> Vec<(ChangeKind, String)> {
    let data = changes.iter().filter(|change| change.path.starts_with("/data"));
    data.map(|change| (change.kind, change.path.display().to_string())).collect()
}

fn told(kinds: &[(ChangeKind, &str)]) -> Vec<(ChangeKind, String)> {
    kinds.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect()
}

/// How many bytes of a filesystem are in use, once everything is written.
fn used(dir: &Path) -> Result<i64> {
    let file = fs::File::open(dir)?;
    // What was deleted is given back by a thread of the filesystem: btrfs and xfs take their time.
    let mut last = i64::MIN;
    for _ in 0..50 {
        nix::unistd::syncfs(&file)?;
        let stat = nix::sys::statvfs::fstatvfs(&file)?;
        let now = (stat.blocks() - stat.blocks_free()) as i64 * stat.fragment_size() as i64;
        if now == last {
            return Ok(now);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(last)
}

fn in_its_own_filesystem(kind: &str, chosen: StorageDriver) -> Result {
    let mut command = role_command("drivers", &[kind, chosen.name()]);
    run_helper(&mut command, Duration::from_secs(120))?.succeed().map(|text| print!("{text}"))
}

fn drivers_on_ext4() -> Result {
    in_its_own_filesystem("ext4", StorageDriver::Overlay)
}

fn drivers_on_xfs() -> Result {
    in_its_own_filesystem("xfs", StorageDriver::Overlay)
}

fn drivers_on_btrfs() -> Result {
    in_its_own_filesystem("btrfs", StorageDriver::Snapshot)
}

/// A host with a filesystem of its own, in a mount namespace of its own, so that it is gone with it.
fn drivers(args: &[OsString]) -> i32 {
    let word = |number: usize| args.get(number).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let (kind, chosen) = (word(0), word(1));
    let run = || -> Result {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none)?;
        let scratch = Scratch::new();
        let image = scratch.join("image");
        fs::File::create(&image)?.set_len(512 << 20)?;
        let mut make = std::process::Command::new(format!("/sbin/mkfs.{kind}"));
        run_helper(make.arg("-q").arg(&image), Duration::from_secs(60))?.succeed()?;
        let data = scratch.dir("data");
        let mut mount = std::process::Command::new("/bin/mount");
        // The device of such a mount goes with it.
        mount.args(["-t", &kind, "-o", "loop"]).arg(&image).arg(&data);
        run_helper(&mut mount, Duration::from_secs(60))?.succeed()?;
        let result = on(&data, &kind, &chosen);
        nix::mount::umount(&data)?;
        result
    };
    match run() {
        Ok(()) => 0,
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

fn on(dir: &Path, kind: &str, chosen: &str) -> Result {
    let report = Host::storage(dir)?;
    assert!(count(dir) <= 1, "more than lost+found");
    print!("{report}");
    assert_eq!(report.chosen().map(StorageDriver::name), Some(chosen));
    assert!(report.to_string().contains(kind), "{report}");
    assert_eq!(Storage::auto(dir.join("survey"))?.driver().name(), chosen);
    assert!(report.reason().starts_with(chosen), "{}", report.reason());
    let works = |driver: StorageDriver| match driver {
        StorageDriver::Snapshot => kind == "btrfs",
        StorageDriver::Reflink => kind != "ext4",
        _ => true,
    };
    let elsewhere = Scratch::new();
    let cases = [
        (StorageDriver::Snapshot, "snapshot", layers(dir)),
        (StorageDriver::Overlay, "overlay", layers(dir)),
        (StorageDriver::Overlay, "overlay, layers elsewhere", layers(elsewhere.path())),
        (StorageDriver::Reflink, "reflink", layers(dir)),
        (StorageDriver::Copy, "copy", layers(dir)),
    ];
    for (driver, case, root) in cases {
        let place = dir.join(driver.name());
        assert_eq!(report.cause(driver).is_none(), works(driver), "{driver}: {report}");
        if !works(driver) {
            let error = Storage::open(&place, driver).expect_err("it does not work here");
            let what = (error.kind(), error.step());
            assert_eq!(what, (ErrorKind::Unsupported, Step::Storage), "{}", explain(&error));
            continue;
        }
        let storage = Storage::open(&place, driver)?;
        let base = storage.base("base", &root)?;
        let before = used(dir)?;
        let (workspace, time) = timed(|| base.workspace());
        let workspace = workspace?;
        let start = used(dir)? - before;
        run_and_compare(&workspace)?;
        let written = used(dir)? - before - start;
        println!(
            "{kind} | {case} | {time:.1?} and {} KiB to start | {} KiB for 4 KiB of 8 MiB",
            start >> 10,
            written >> 10
        );
        // What a filesystem notes of it is small beside that.
        let whole = |bytes: i64| bytes >= BIG as i64;
        let little = |bytes: i64| bytes < BIG as i64 / 8;
        let as_it_should = match case {
            // Overlayfs, too, lets the file that it copies share blocks, if it is on the same filesystem.
            "overlay" if kind != "ext4" => little(start) && little(written),
            "overlay" | "overlay, layers elsewhere" => little(start) && whole(written),
            "copy" if kind == "ext4" => whole(start) && little(written),
            "copy" => little(written),
            _ => little(start) && little(written),
        };
        assert!(as_it_should, "{kind} {case}: {start} {written}");
        // The next one starts as the first did.
        let other = base.workspace()?;
        let text = succeed(sandbox(&other).output(sh("cat /data/a /data/c; ls /data"))?)?;
        assert_eq!(text, "topca\nbig\nc\ndir\nhidden\n");
        drop((workspace, other));
        assert_eq!(count(place.join("runs")), 0);
        if kind == "btrfs" && driver != StorageDriver::Overlay {
            programs_make_subvolumes(&base)?;
        }
        if driver != StorageDriver::Overlay {
            let error = storage.remove_base("base").expect_err("it is in use");
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
        }
        drop(base);
        storage.remove_base("base")?;
        assert_eq!(count(place.join("bases")), 0);
    }
    Ok(())
}

/// 4 KiB in the middle of 8 MiB, and the rest that can happen to files.
fn run_and_compare(workspace: &Workspace) -> Result {
    let container = sandbox(workspace).start()?;
    assert_eq!(below_data(&container.changes()?), []);
    let script = "cd /data && dd if=/dev/zero of=big bs=4096 seek=1000 count=1 conv=notrunc 2>/dev/null &&
        rm c && echo new > dir/new && chmod 700 dir/b && rm -r hidden && mkdir hidden && sync big";
    succeed(container.output(sh(&script.replace("/dev/zero", "/proc/self/mountinfo")))?)?;
    let mut wanted = vec![
        (Modified, "/data/big"),
        (Deleted, "/data/c"),
        (Metadata, "/data/dir/b"),
        (Added, "/data/dir/new"),
    ];
    let changes = below_data(&container.changes()?);
    // An overlay knows that the directory is another one; a copy is what it is.
    if changes.iter().any(|(_, path)| path == "/data/hidden") {
        wanted.push((ChangeKind::Opaque, "/data/hidden"));
    }
    assert_eq!(changes, told(&wanted));
    container.close()?;
    assert_eq!(below_data(&workspace.changes()?), told(&wanted));
    Ok(())
}

/// On btrfs anybody may make subvolumes in a directory of his own, and make them read-only.
fn programs_make_subvolumes(base: &Base) -> Result {
    let workspace = base.workspace()?;
    let script = "
import fcntl, os, struct
def make(name):
    d = os.open('.', os.O_RDONLY)
    fcntl.ioctl(d, 0x5000940e, bytearray(struct.pack('q', 0) + name.encode().ljust(4088, b'\\0')))
    os.close(d)
os.chdir('/data')
make('one'); os.chdir('one'); open('file', 'w').write('x'); make('two'); os.chdir('two'); open('file', 'w')
for name in ['.', '..']:
    d = os.open(name, os.O_RDONLY)
    fcntl.ioctl(d, 0x4008941a, struct.pack('Q', 2))
try: open('more', 'w'); print('not read-only')
except OSError as e: print(e.errno)
";
    let text = succeed(sandbox(&workspace).output(python(script))?)?;
    assert_eq!(text.trim(), "30", "a program cannot do what this test is about");
    let path = workspace.path();
    workspace.discard()?;
    assert!(!path.exists());
    Ok(())
}

/// Storage in a directory of the test.
fn storage(scratch: &Scratch, driver: StorageDriver) -> Result<Storage> {
    Ok(Storage::open(scratch.join("storage"), driver)?)
}

fn a_copy_is_what_the_layers_are() -> Result {
    let scratch = Scratch::new();
    let script = "
import os, sys
def make(layer, acts):
    os.makedirs(layer); os.chdir(layer); acts()
def bottom():
    os.makedirs('d/gone'); os.makedirs('d/renewed/old'); os.makedirs('closed')
    open('d/gone/x', 'w').write('x'); open('d/hidden', 'w').write('x')
    open('suid', 'w').write('s'); os.chown('suid', 3, 4); os.chmod('suid', 0o6755)
    open('one', 'w').write('linked'); os.link('one', 'd/two')
    os.symlink('/etc/passwd', 'link'); os.lchown('link', 7, 8)
    os.mkfifo('fifo', 0o640); os.mknod('null', 0o20666, os.makedev(1, 3))
    with open('holes', 'w') as f: f.truncate(1 << 30); f.seek(1 << 29); f.write('middle')
    os.utime('one', ns=(1, 1234567890123456789)); os.setxattr('one', 'user.mark', b'kept')
    os.setxattr('one', 'security.capability', b'\\x01\\0\\0\\x02\\0\\4\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0')
    open('closed/file', 'w').write('c'); os.chmod('closed', 0o500); os.utime('closed', ns=(5, 5))
    os.chmod('.', 0o751); os.chown('.', 11, 12)
def top():
    os.makedirs('d/renewed'); open('d/renewed/new', 'w').write('n')
    os.mknod('d/gone', 0o20000, os.makedev(0, 0)); os.mknod('d/hidden', 0o20000, os.makedev(0, 0))
    os.setxattr('d/renewed', 'trusted.overlay.opaque', b'y'); os.setxattr('d/renewed', 'user.overlay.opaque', b'y'); os.chmod('d', 0o710)
    os.chmod('.', 0o755); os.chown('.', 13, 14)
make(sys.argv[1] + '/bottom', bottom); make(sys.argv[1] + '/top', top)
";
    let mut make = std::process::Command::new("/usr/bin/python3");
    run_helper(make.args(["-c", script]).arg(scratch.path()), Duration::from_secs(20))?.succeed()?;
    let root = Rootfs::overlay([scratch.join("top"), scratch.join("bottom")]);
    for driver in [StorageDriver::Copy, StorageDriver::Overlay] {
        let storage = storage(&scratch, driver)?;
        let base = storage.base("base", &root)?;
        let workspace = base.workspace()?;
        let show = "
import os
os.chdir('/')
def tell(path):
    s = os.lstat(path)
    print(path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink if not os.path.isdir(path) else '-', s.st_size if os.path.isfile(path) else '-')
for top, dirs, files in os.walk('.'):
    dirs[:] = sorted(d for d in dirs if d not in ('usr', 'proc', 'dev', 'bin', 'lib', 'lib64'))
    for name in sorted(dirs + files):
        if name not in ('null', 'payload', 'bin', 'lib', 'lib64'): tell(os.path.join(top, name))
tell('.')
print(open('one').read(), os.lstat('one').st_mtime_ns, os.getxattr('one', 'user.mark'), os.listxattr('one'))
print(os.readlink('link'), os.lstat('closed').st_mtime_ns)
with open('holes') as f: f.seek(1 << 29); print(f.read(6), os.stat('holes').st_blocks * 512 < 1 << 20)
";
        let text = succeed(sandbox(&workspace).output(python(show))?)?;
        println!("{text}");
        let wanted = "./closed 0o40500 0 0 - -
./d 0o40710 0 0 - -
./fifo 0o10640 0 0 1 -
./holes 0o100644 0 0 1 1073741824
./link 0o120777 7 8 1 -
./one 0o100644 0 0 2 6
./suid 0o106755 3 4 1 1
./closed/file 0o100644 0 0 1 1
./d/renewed 0o40755 0 0 - -
./d/two 0o100644 0 0 2 6
./d/renewed/new 0o100644 0 0 1 1
. 0o40755 13 14 - -
linked 1234567890123456789 b'kept' ['user.mark', 'security.capability']
/etc/passwd 5
middle True
";
        // A device is left out of a copy, and dead in an overlay.
        assert!(!workspace.path().join("null").exists());
        assert_eq!(
            text.replace("['security.capability', 'user.mark']", "['user.mark', 'security.capability']"),
            wanted,
            "{driver}"
        );
    }
    Ok(())
}

fn count(dir: impl AsRef<Path>) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn a_workspace_lasts_as_long_as_it_is_used() -> Result {
    let scratch = Scratch::new();
    let storage = storage(&scratch, StorageDriver::Copy)?;
    let runs = scratch.join("storage/runs");
    let base = storage.base("base", &layers(scratch.path()))?;
    let workspace = base.workspace()?;
    let container = sandbox(&workspace).start()?;
    assert_eq!(count(&runs), 1);
    let other = sandbox(&workspace).start().expect_err("it has one");
    assert_eq!(other.kind(), ErrorKind::ResourceExhausted, "{}", explain(&other));
    drop(workspace);
    // The sandbox goes on, and another process does not sweep it away.
    let mut command = role_command("make-base", &[]);
    run_helper(command.arg(scratch.path()), Duration::from_secs(60))?.succeed()?;
    assert_eq!(count(&runs), 1);
    succeed(container.output(sh("cat /data/a && echo more > /data/more"))?)?;
    drop(container);
    assert_eq!(count(&runs), 0);

    let workspace = base.workspace()?;
    let container = sandbox(&workspace).start()?;
    let error = workspace.discard().expect_err("it is in use");
    assert_eq!(
        (error.kind(), error.step()),
        (ErrorKind::ResourceExhausted, Step::Storage),
        "{}",
        explain(&error)
    );
    container.close()?;
    assert_eq!(count(&runs), 0);
    Ok(())
}

fn a_named_one_stays() -> Result {
    let scratch = Scratch::new();
    for driver in [StorageDriver::Copy, StorageDriver::Overlay] {
        let storage = storage(&scratch, driver)?;
        let base = storage.base("base", &layers(scratch.path()))?;
        let name = driver.name();
        let workspace = base.named(name)?;
        let error = base.named(name).expect_err("it is taken");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
        succeed(sandbox(&workspace).output(sh("echo session > /data/note"))?)?;
        drop(workspace);
        assert_eq!(count(scratch.join("storage/runs")), 0);

        let workspace = base.named(name)?;
        assert_eq!(succeed(sandbox(&workspace).output(sh("cat /data/note"))?)?, "session\n");
        assert_eq!(below_data(&workspace.changes()?), told(&[(Added, "/data/note")]));
        let path = workspace.path();
        workspace.discard()?;
        assert!(!path.exists());
        assert_eq!(below_data(&base.named(name)?.changes()?), []);
    }
    let copies = storage(&scratch, StorageDriver::Copy)?;
    let error =
        copies.base("base", &layers(scratch.path()))?.named("overlay").expect_err("of another driver");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    Ok(())
}

/// Opens the storage of another process, which sweeps it.
fn make_base(args: &[OsString]) -> i32 {
    let dir = PathBuf::from(args.first().expect("a directory"));
    let storage = Storage::open(dir.join("storage"), StorageDriver::Copy).expect("it opens");
    storage.base("base", &layers_of(&dir)).expect("it is there or made");
    0
}

/// Those that the test has made.
fn layers_of(dir: &Path) -> Rootfs {
    Rootfs::overlay([dir.join("top"), dir.join("bottom")])
}

fn host_to_kill(args: &[OsString]) -> i32 {
    let dir = PathBuf::from(args.first().expect("a directory"));
    let storage = Storage::open(dir.join("storage"), StorageDriver::Copy).expect("it opens");
    let base = storage.base("base", &layers_of(&dir)).expect("it is there or made");
    let workspace = base.workspace().expect("it is made");
    let _child = sandbox(&workspace).spawn(payload("wait", &[])).expect("it starts");
    println!("{}", workspace.path().display());
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn what_a_killed_host_leaves() -> Result {
    use std::io::BufRead;
    let scratch = Scratch::new();
    let root = layers(scratch.path());
    let mut command = role_command("host-to-kill", &[]);
    let mut host = command.arg(scratch.path()).stdout(std::process::Stdio::piped()).spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(host.stdout.take().expect("piped")).read_line(&mut line)?;
    let left = PathBuf::from(line.trim_end());
    let alive = left.join("data/big").exists();
    host.kill()?;
    host.wait()?;
    assert!(alive && left.exists(), "{line}");
    // Its init needs a moment to find out.
    let gone = support::within(Duration::from_secs(10) * slack(), || {
        storage(&scratch, StorageDriver::Copy).expect("it opens");
        !left.exists()
    });
    assert!(gone, "{} stays", left.display());
    // What was there before is nobody's.
    fs::create_dir_all(scratch.join("storage/runs/experiment-1"))?;
    // And what it had half made: a base that nobody finished, and a base is none without its list.
    fs::create_dir_all(scratch.join("storage/bases/.other/tree/some"))?;
    let storage = storage(&scratch, StorageDriver::Copy)?;
    let other = storage.base("other", &root)?;
    assert!(scratch.join("storage/runs/experiment-1").exists());
    assert!(!scratch.join("storage/bases/.other").exists());
    let workspace = other.workspace()?;
    assert!(!workspace.path().join("some").exists());
    Ok(())
}

fn whatever_programs_leave() -> Result {
    let scratch = Scratch::new();
    let outside = scratch.dir("outside");
    scratch.file("outside/file", "stays");
    for driver in [StorageDriver::Copy, StorageDriver::Overlay] {
        let storage = storage(&scratch, driver)?;
        let base = storage.base("base", &layers(scratch.path()))?;
        let workspace = base.workspace()?;
        let script = format!(
            "
import os
os.chdir('/data')
os.symlink({outside:?}, 'link'); os.mkfifo('fifo')
os.mkdir('closed'); open('closed/file', 'w'); os.chmod('closed', 0)
open(b'\\xff\\n', 'w')
for i in range(3000): os.mkdir('d' * 100); os.chdir('d' * 100)
"
        );
        succeed(sandbox(&workspace).output(python(&script))?)?;
        let error = workspace.changes().expect_err("it is too deep");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{}", explain(&error));
        let path = workspace.path();
        workspace.discard()?;
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(outside.join("file"))?, "stays");
    }
    Ok(())
}

/// In a copy a device 0:0 is a device, and an attribute of overlayfs is one like others.
fn forged_marks_are_nothing() -> Result {
    let scratch = Scratch::new();
    let base = storage(&scratch, StorageDriver::Copy)?.base("base", &layers(scratch.path()))?;
    let workspace = base.workspace()?;
    let script = "
import os
os.chdir('/data')
os.remove('a'); os.mknod('a', 0o20000, 0)
os.setxattr('dir', 'user.overlay.opaque', b'y')
open('c', 'w'); os.setxattr('c', 'user.overlay.whiteout', b'y')
";
    let container = sandbox(&workspace).start()?;
    succeed(container.output(python(script))?)?;
    let wanted = told(&[(ChangeKind::TypeChanged, "/data/a"), (Modified, "/data/c")]);
    assert_eq!(below_data(&container.changes()?), wanted);
    let host = scratch.dir("host");
    fs::create_dir_all(host.join("dir"))?;
    for name in ["a", "c", "dir/b", "big"] {
        fs::write(host.join(name), "host")?;
    }
    let left_out = container.apply("/data", &host, belljar::Bytes::mib(1))?;
    assert_eq!(left_out.len(), 1);
    assert_eq!(fs::read_to_string(host.join("dir/b"))?, "host");
    assert_eq!(fs::read_to_string(host.join("c"))?, "");
    Ok(())
}

fn a_base_is_made_once() -> Result {
    let scratch = Scratch::new();
    layers(scratch.path());
    let mut hosts = Vec::new();
    for _ in 0..4 {
        hosts.push(role_command("make-base", &[]).arg(scratch.path()).spawn()?);
    }
    let storage = storage(&scratch, StorageDriver::Copy)?;
    let root = layers_of(scratch.path());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (storage, root) = (&storage, &root);
                scope.spawn(move || -> Result {
                    for _ in 0..3 {
                        let workspace = storage.base("base", root)?.workspace()?;
                        let script =
                            format!("cat /data/a && echo {number} > /data/a && sleep 0.01 && cat /data/a");
                        assert_eq!(
                            succeed(sandbox(&workspace).output(sh(&script))?)?,
                            format!("top{number}\n")
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    for mut host in hosts {
        assert!(host.wait()?.success());
    }
    let names: Vec<_> =
        fs::read_dir(scratch.join("storage/bases"))?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["base"]);
    assert_eq!(count(scratch.join("storage/runs")), 0);
    Ok(())
}

/// Overlayfs does not show it, so a copy does not have it.
fn what_is_mounted_below_a_layer() -> Result {
    let mut command = role_command("mounted-below", &[]);
    let text = run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    assert_eq!(text, "ok\n");
    Ok(())
}

fn mounted_below(_: &[OsString]) -> i32 {
    let run = || -> Result {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none)?;
        let scratch = Scratch::new();
        let root = layers(scratch.path());
        let below = scratch.join("bottom/data/hidden");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), flags, none)?;
        let made = fs::write(below.join("secret"), "of the host");
        let look = || -> Result<String> {
            let workspace = storage(&scratch, StorageDriver::Copy)?.base("base", &root)?.workspace()?;
            succeed(sandbox(&workspace).output(sh("ls -A /data/hidden"))?)
        };
        let seen = look();
        nix::mount::umount(&below)?;
        made?;
        assert_eq!(seen?, "");
        Ok(())
    };
    match run() {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

/// As a server that forks its workers: they have copies of all descriptors.
fn a_forked_host_holds_no_lock() -> Result {
    let scratch = Scratch::new();
    let storage = storage(&scratch, StorageDriver::Copy)?;
    let base = storage.base("base", &layers(scratch.path()))?;
    let workspace = base.named("session")?;
    let pid = support::raw::fork()?;
    if pid == 0 {
        // Until it is killed.
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    drop(workspace);
    let again = base.named("session").map(drop);
    drop(base);
    let removed = storage.remove_base("base");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    nix::sys::wait::waitpid(pid, None)?;
    again?;
    removed?;
    Ok(())
}

fn where_no_overlay_can_be() -> Result {
    let mut command = role_command("over-overlay", &[]);
    let text = run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    assert_eq!(text, "ok\n");
    Ok(())
}

/// Overlayfs does not take a directory of its own as an upper.
fn over_overlay(_: &[OsString]) -> i32 {
    let run = || -> Result<String> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none)?;
        let scratch = Scratch::new();
        let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| scratch.dir(name));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str()))?;
        fs::set_permissions(&merged, fs::Permissions::from_mode(0o777))?;
        let dir = merged.to_str().expect("UTF-8");
        let helper = as_nobody("nobody-there", &[dir], Duration::from_secs(60));
        nix::mount::umount(&merged)?;
        helper?.succeed()
    };
    match run() {
        Ok(text) => print!("{text}"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

fn nobody_there(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let dir = PathBuf::from(args.first().expect("a directory"));
        let storage = Storage::auto(dir.join("storage"))?;
        assert_eq!(storage.driver(), StorageDriver::Copy);
        assert!(storage.reason().contains("no overlay: mounting an overlay"), "{}", storage.reason());
        let workspace = storage.base("base", &layers(&dir))?.workspace()?;
        let script = "print(open('/data/a', 'r+').read()); open('/data/a', 'w').write('mine')";
        assert_eq!(succeed(sandbox(&workspace).output(python(script))?)?, "top\n");
        assert_eq!(below_data(&workspace.changes()?), told(&[(Modified, "/data/a")]));
        drop((workspace, storage));
        for entry in fs::read_dir(&dir)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    };
    match run() {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

fn without_privilege() -> Result {
    let helper = as_nobody("nobody", &[], Duration::from_secs(60))?;
    assert_eq!(helper.stdout, "ok\n", "{}", helper.stderr);
    Ok(())
}

fn nobody(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let scratch = Scratch::below(&std::env::temp_dir());
        let root = layers(scratch.path());
        for driver in [StorageDriver::Copy, StorageDriver::Overlay] {
            let storage = storage(&scratch, driver)?;
            let base = storage.base("base", &root)?;
            let workspace = base.workspace()?;
            let script =
                "import os; open('/data/new', 'w'); os.remove('/data/c'); print(os.stat('/data/a').st_uid)";
            let uid = succeed(sandbox(&workspace).output(python(script))?)?;
            assert_eq!(uid, "0\n");
            let changes = below_data(&workspace.changes()?);
            assert_eq!(changes, told(&[(Deleted, "/data/c"), (Added, "/data/new")]), "{driver}");
            workspace.discard()?;
        }
        let chosen = Storage::auto(scratch.join("storage"))?;
        assert!(
            [StorageDriver::Overlay, StorageDriver::Snapshot].contains(&chosen.driver()),
            "{}",
            chosen.reason()
        );
        Ok(())
    };
    match run() {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

fn what_is_refused() -> Result {
    let scratch = Scratch::new();
    let expect = |error: belljar::Error, kind: ErrorKind| {
        assert_eq!((error.kind(), error.step()), (kind, Step::Storage), "{}", explain(&error));
        assert!(error.hint().is_some() || error.raw_os_error().is_some(), "{}", explain(&error));
    };
    expect(Storage::auto(scratch.dir("open")).expect_err("others may enter"), ErrorKind::PermissionDenied);
    expect(Storage::auto(scratch.file("file", "")).expect_err("no directory"), ErrorKind::Setup);
    expect(Host::storage(scratch.join("missing")).expect_err("no directory"), ErrorKind::NotFound);
    let storage = storage(&scratch, StorageDriver::Copy)?;
    let root = layers(scratch.path());
    for name in ["", "..", ".x", "a/b", "a\0b", &"x".repeat(201)] {
        expect(storage.base(name, &root).expect_err("a bad name"), ErrorKind::InvalidConfig);
        expect(storage.remove_base(name).expect_err("a bad name"), ErrorKind::InvalidConfig);
    }
    for root in
        [Rootfs::system(), Rootfs::dir("/srv"), Rootfs::empty(), Rootfs::overlay(Vec::<PathBuf>::new())]
    {
        expect(storage.base("x", &root).expect_err("no layers"), ErrorKind::InvalidConfig);
    }
    let missing = Rootfs::overlay([scratch.join("missing")]);
    expect(storage.base("x", &missing).expect_err("no such layer"), ErrorKind::NotFound);
    // What a mark says lies elsewhere would be holes in a copy.
    fs::create_dir_all(scratch.join("marked"))?;
    fs::write(scratch.join("marked/file"), "")?;
    support::raw::set_attribute(&scratch.join("marked/file"), "trusted.overlay.metacopy", b"")?;
    let marked = Rootfs::overlay([scratch.join("marked")]);
    expect(storage.base("marked", &marked).expect_err("it is not whole"), ErrorKind::Unsupported);
    let base = storage.base("base", &root)?;
    let other = Rootfs::overlay([scratch.join("bottom")]);
    expect(storage.base("base", &other).expect_err("other layers"), ErrorKind::InvalidConfig);
    expect(base.named("../x").expect_err("a bad name"), ErrorKind::InvalidConfig);
    assert_eq!(fs::metadata(scratch.join("storage"))?.mode() & 0o777, 0o700);
    // A symbolic link in the place of one of its directories leads nowhere.
    let linked = scratch.dir("linked");
    fs::set_permissions(&linked, fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::symlink("/var/tmp", linked.join("runs")).expect("a link");
    expect(Storage::auto(&linked).expect_err("a link"), ErrorKind::PermissionDenied);
    if count(scratch.join("storage/bases")) != 1 {
        return fail("something was made for what was refused");
    }
    Ok(())
}
