//! What sandboxes have changed, as layers and as archives.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use belljar::{
    Bytes, Change, ChangeKind, Command, Container, ErrorKind, Image, ImageBuilder, ImportOptions, LayerStore,
    Mount, Rootfs, Sandbox, Step, Upper,
};
use tar::EntryType;

use crate::archive::{Entry, Files, Packing, Tar, entry};
use crate::import;
use crate::support::{
    Fail, Result, Scratch, as_nobody, explain, fail, mib, run_helper, slack, succeed, within,
};

/// What is changed below: a directory for each thing that can become of one, with owners and modes of its own.
fn base() -> Vec<u8> {
    let dir = |path, mode, id| Entry { mode, ids: (id, id), ..entry(path, EntryType::Directory) };
    let tar =
        ["usr", "bin", "lib", "lib64", "tmp", "proc"].iter().fold(Tar::new(), |tar, name| tar.dir(*name));
    tar.add(&dir("data", 0o777, 0))
        .add(&dir("data/parent", 0o751, 0))
        .add(&dir("data/parent/inner", 0o1777, 0))
        .file("data/parent/inner/touched", b"before")
        .file("data/parent/inner/still", b"still")
        .file("data/deleted", b"x")
        .dir("data/removed")
        .file("data/removed/x", b"x")
        .dir("data/renewed")
        .file("data/renewed/old", b"old")
        .file("data/renewed/both", b"old")
        .file("data/to-dir", b"a file")
        .dir("data/to-file")
        .file("data/to-file/x", b"x")
        .file("data/to-socket", b"a file")
        .file("data/mode", b"mode")
        .file("data/attribute", b"attribute")
        .dir("data/marked")
        .file("data/marked/x", b"x")
        .symlink("data/link", "nowhere")
        .file("data/opened", b"opened")
        .file("data/shared", b"shared")
        .end()
}

const CHANGE: &str = r"
import os, shutil, socket
os.chdir('/data')
at = lambda path, ns: os.utime(path, ns=(ns, ns), follow_symlinks=False)
open('parent/inner/touched', 'a').write(' and after'); at('parent/inner/touched', 1234567890123456789)
os.remove('deleted'); shutil.rmtree('removed')
shutil.rmtree('renewed'); os.mkdir('renewed'); open('renewed/both', 'w').write('new'); open('renewed/new', 'w')
os.chmod('renewed', 0o2750)
os.remove('to-dir'); os.mkdir('to-dir'); open('to-dir/x', 'w').write('in it')
shutil.rmtree('to-file'); open('to-file', 'w').write('a file now')
os.remove('to-socket'); socket.socket(socket.AF_UNIX).bind('to-socket')
os.chmod('mode', 0o4755); at('mode', 5)
os.setxattr('attribute', 'user.a', b'a\nb\0'); os.setxattr('marked', 'user.dir', b'x' * 300)
os.remove('link'); os.symlink('/data/' + 'far/' * 40, 'link'); at('link', 7 * 10**9)
open('opened', 'r+').close()
open('one', 'w').write('linked'); os.link('one', 'two'); os.mkdir('deep'); os.link('one', 'deep/three')
at('one', -1500000000)
os.mkfifo('fifo', 0o640)
open('x' * 255, 'w').write('long'); open(b'new\nline \xff', 'w').write('odd')
os.makedirs('/'.join(['d' * 60] * 20)); open('/'.join(['d' * 60] * 20) + '/end', 'w').write('end')
open('empty', 'w'); open('zeros', 'w').truncate(100000)
at('parent/inner', 4 * 10**18 + 1); at('.', 99)
";

/// Everything below `/data` but sockets, as a program sees it.
const LOOK: &str = r"
import os, stat
links = {}
for dir, dirs, files in os.walk(b'/data'):
    dirs.sort()
    for name in [b'.'] + sorted(files + [d for d in dirs if os.path.islink(os.path.join(dir, d))]):
        path = os.path.join(dir, name); s = os.lstat(path)
        what = b''
        if stat.S_ISSOCK(s.st_mode): continue
        if stat.S_ISREG(s.st_mode): what = open(path, 'rb').read()
        if stat.S_ISLNK(s.st_mode): what = os.readlink(path)
        same = links.setdefault(s.st_ino, path) if s.st_nlink > 1 and not stat.S_ISDIR(s.st_mode) else None
        plain = stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode)
        names = [n for n in sorted(os.listxattr(path)) if not n.startswith('security.sel')] if plain else []
        attributes = [(n, os.getxattr(path, n)) for n in names]
        print(path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, len(what), what[:200], same, attributes)
";

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]);
    command
}

/// Root, over a root whose programs are the host's.
fn over(root: Rootfs) -> Sandbox {
    let sandbox = ["/usr", "/bin", "/lib", "/lib64"]
        .iter()
        .fold(Sandbox::new().rootfs(root), |sandbox, dir| sandbox.mount(Mount::bind(dir, dir)));
    sandbox.mount(Mount::proc("/proc")).root()
}

fn in_memory() -> Upper {
    Upper::tmpfs(mib(32), 20_000)
}

fn start(image: &Image) -> Result<Container> {
    Ok(over(image.rootfs().upper(in_memory())).start()?)
}

fn run(container: &Container, script: &str) -> Result<String> {
    succeed(container.output(python(script))?)
}

/// What a program sees that can change nothing.
fn look_at(image: &Image) -> Result<String> {
    succeed(over(image.rootfs()).output(python(LOOK))?)
}

fn same(what: &str, one: &str, other: &str) -> Result {
    let differ = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    match one == other && one.lines().count() > 10 {
        true => Ok(()),
        false => fail(format!("{what}: {differ:?} in {one}\nand {other}")),
    }
}

/// A store with something in it, and a way to see that nothing was added.
struct Store {
    path: PathBuf,
    store: LayerStore,
    base: Image,
}

impl Store {
    fn new(scratch: &Scratch) -> Result<Self> {
        let (store, base) = import(scratch, "store", &[base()])?;
        Ok(Self { path: scratch.join("store"), store, base })
    }

    fn is_untouched(&self) -> Result {
        let left: Vec<_> = fs::read_dir(self.path.join("tmp"))?.collect();
        let (images, layers) = (self.store.images()?, self.store.layers()?);
        match (left.is_empty(), images.len(), layers.len()) {
            (true, 1, 1) => Ok(()),
            _ => fail(format!("{left:?} {images:?} {layers:?}")),
        }
    }

    fn commit(&self, container: &Container, name: &str) -> belljar::Result<Image> {
        container.commit(&self.store, name, &ImageBuilder::on(&self.base).cmd(["/bin/true"]))
    }
}

fn archive(container: &Container) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    container.export_tar(&mut archive, Bytes::mib(64))?;
    Ok(archive)
}

/// The members of an archive: name, type, mode, owner.
fn members(archive: &[u8]) -> Result<Vec<(String, char, u32, u64)>> {
    let mut found = Vec::new();
    for member in tar::Archive::new(archive).entries()? {
        let member = member?;
        let header = member.header();
        found.push((
            String::from_utf8_lossy(&member.path_bytes()).into_owned(),
            char::from(header.entry_type().as_byte()),
            header.mode()?,
            header.uid()?,
        ));
    }
    Ok(found)
}

fn names(archive: &[u8]) -> Result<Vec<String>> {
    Ok(members(archive)?.into_iter().map(|(name, ..)| name).collect())
}

/// Everything that can become of a root, committed, and looked at again.
fn life_of(scratch: &Scratch) -> Result {
    let store = Store::new(scratch)?;
    let container = start(&store.base)?;
    run(&container, CHANGE)?;
    let before = run(&container, LOOK)?;
    let image = store.commit(&container, "committed")?;
    assert_eq!(image.layers().len(), 2);
    assert_eq!(image.command()?.get_program(), "/bin/true");
    same("a committed root", &before, &look_at(&image)?)?;
    // Whoever goes on from there finds it, and nothing that has changed.
    let again = start(&image)?;
    same("a container on it", &before, &run(&again, LOOK)?)?;
    let changes = again.changes()?;
    assert!(changes.iter().all(|change| !change.path.starts_with("/data")), "{changes:?}");
    // The container itself goes on as well, and the same changes are the same layer and the same image.
    assert_eq!(store.commit(&container, "again")?.id(), image.id());
    assert_eq!(belljar::Digest::of(&archive(&container)?), image.layers()[1]);
    assert!(store.store.verify()?.is_empty());
    // More changes are one more layer, and what was new is gone again.
    run(
        &again,
        "import os; os.remove('/data/one'); os.remove('/data/renewed/both'); open('/data/last', 'w'); os.remove('/data/' + 'x' * 255); os.link('/data/shared', '/data/with-this')",
    )?;
    let builder = ImageBuilder::on(&image);
    let stacked = again.commit(&store.store, "stacked", &builder)?;
    assert_eq!((stacked.layers().len(), &stacked.layers()[..2]), (3, image.layers()));
    let listed = succeed(over(stacked.rootfs()).output(python(
        "import os; print(sorted(n for n in os.listdir('/data') if len(n) < 6), os.listdir('/data/renewed'), os.path.exists('/data/' + 'x' * 255), os.path.samefile('/data/shared', '/data/with-this'))",
    ))?)?;
    assert_eq!(
        listed,
        "['deep', 'empty', 'fifo', 'last', 'link', 'mode', 'two', 'zeros'] ['new'] False True\n"
    );
    container.close()?;
    again.close()?;
    Ok(())
}

pub(crate) fn a_committed_root_is_the_same() -> Result {
    life_of(&Scratch::new())
}

pub(crate) fn a_committed_root_is_the_same_without_privilege() -> Result {
    let helper = as_nobody("nobody-commits", &[], Duration::from_secs(120) * slack())?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

/// `nobody-commits`
pub(crate) fn nobody_commits(_: &[OsString]) -> i32 {
    let run_all = || -> Result {
        let scratch = Scratch::below(&std::env::temp_dir());
        life_of(&scratch)?;
        // What the program closes to its own user is closed to this host, and nothing is half made of it.
        let scratch = Scratch::below(&std::env::temp_dir());
        let store = Store::new(&scratch)?;
        let container = start(&store.base)?;
        run(&container, "import os; open('/data/closed', 'w').write('x'); os.chmod('/data/closed', 0)")?;
        for error in [
            store.commit(&container, "closed").expect_err("it is closed"),
            container.export_tar(std::io::sink(), mib(1)).expect_err("it is closed"),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
            assert_eq!(error.path(), Some(Path::new("data/closed")));
            assert!(error.hint().is_some());
        }
        store.is_untouched()?;
        // Everything is 0 there, whoever it belongs to.
        run(&container, "import os; os.chmod('/data/closed', 0o600)")?;
        assert!(members(&archive(&container)?)?.iter().all(|(_, _, _, uid)| *uid == 0));
        Ok(())
    };
    match run_all() {
        Ok(()) => println!("ok"),
        Err(Fail(message)) => println!("{message}"),
    }
    0
}

/// A finished upper on disk is read without its sandbox.
pub(crate) fn a_persistent_upper_is_committed() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let (upper, work) = (scratch.dir("upper"), scratch.dir("work"));
    let root = || store.base.rootfs().upper(Upper::dir(&upper, &work));
    let builder = ImageBuilder::on(&store.base);
    let container = over(root()).start()?;
    // The filter lets no program set such a bit on a disk of the host.
    run(&container, &CHANGE.replace("0o2750", "0o750").replace("0o4755", "0o755"))?;
    let before = run(&container, LOOK)?;
    let image = container.commit(&store.store, "running", &builder)?;
    let error = root().commit(&store.store, "x", &builder).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
    container.close()?;
    assert_eq!(root().commit(&store.store, "finished", &builder)?.id(), image.id());
    let mut archive = Vec::new();
    let left_out = root().export_tar(&mut archive, mib(64))?;
    assert_eq!(belljar::Digest::of(&archive), image.layers()[1]);
    assert_eq!(paths(&left_out), ["/data/to-socket"]);
    same("a committed root", &before, &look_at(&image)?)?;
    // A plain directory does not tell what was copied for nothing.
    let raw = store.store.build("raw", &ImageBuilder::on(&store.base).layer(&upper))?;
    let has = |image| crate::tree_of(&scratch, "store", image, 1).join("data/opened").exists();
    assert!(has(&raw) && !has(&image));
    Ok(())
}

fn paths(changes: &[Change]) -> Vec<&str> {
    changes.iter().filter_map(|change| change.path.to_str()).collect()
}

/// What the system's tar makes of an archive, and what our own importer does.
pub(crate) fn an_archive_for_other_tools() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let container = start(&store.base)?;
    run(&container, CHANGE)?;
    let mut archive = Vec::new();
    assert_eq!(paths(&container.export_tar(&mut archive, mib(64))?), ["/data/to-socket"]);
    let file = scratch.file("changes.tar", &archive);
    // A program cannot be shown a longer name than 255 bytes, which the whiteout of one of 255 would be; there is none.
    let out = scratch.dir("out");
    let mut command = std::process::Command::new("tar");
    command.args(["--xattrs", "--numeric-owner", "-xpf"]).arg(&file).arg("-C").arg(&out);
    run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let stat = |path: &str| out.join("data").join(path).symlink_metadata();
    assert_eq!(fs::read(out.join("data/parent/inner/touched"))?, b"before and after");
    let touched = stat("parent/inner/touched")?;
    assert_eq!((touched.mtime(), touched.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!((stat("one")?.mtime(), stat("one")?.mtime_nsec()), (-2, 500_000_000));
    assert_eq!((stat("one")?.ino(), stat("one")?.nlink()), (stat("deep/three")?.ino(), 3));
    assert_eq!((stat("parent")?.mode() & 0o7777, stat("parent/inner")?.mode() & 0o7777), (0o751, 0o1777));
    assert!(stat("fifo")?.file_type().is_fifo());
    assert_eq!(crate::raw_xattrs(&out.join("data/attribute"))?, [("user.a".to_owned(), b"a\nb\0".to_vec())]);
    for whiteout in [".wh.deleted", ".wh.removed", ".wh.to-socket", "renewed/.wh..wh..opq"] {
        assert_eq!(stat(whiteout)?.len(), 0, "{whiteout}");
    }
    // What was only copied is not there, and no mark of overlayfs is.
    for missing in ["opened", "parent/inner/still", "marked/x", "to-socket", "deleted", "to-dir/.wh..wh..opq"]
    {
        assert!(stat(missing).is_err(), "{missing}");
    }
    assert!(!archive.windows(9).any(|bytes| bytes == b".overlay."), "a mark is in the archive");
    // Over the same base it is the same root, as image of another store.
    let before = run(&container, LOOK)?;
    let image = Files::image(&[base(), archive], Packing::Plain).write(&scratch.dir("image"))?;
    let other = LayerStore::open(scratch.join("other"))?.import(image, &ImportOptions::new())?;
    same("an imported archive", &before, &look_at(&other)?)
}

/// Files of many owners, in an upper whose files have ids of the host that are no others'.
pub(crate) fn ids_are_those_inside() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let container = over(store.base.rootfs().upper(in_memory()))
        .keep_capability("CAP_CHOWN")
        .keep_capability("CAP_SETFCAP")
        .start()?;
    let script = "
import os
os.chdir('/data')
open('seven', 'w'); os.chown('seven', 7, 8); os.mkdir('high'); os.chown('high', 65534, 65535)
os.chown('parent/inner/still', 1000, 1000); os.symlink('x', 'own'); os.lchown('own', 12, 13)
open('capable', 'w'); os.setxattr('capable', 'security.capability', bytes([1,0,0,2, 0,4,0,0] + [0] * 12))
print(os.getxattr('capable', 'security.capability').hex())";
    let capability = run(&container, script)?;
    let found = members(&archive(&container)?)?;
    let owner = |path: &str| found.iter().find(|(name, ..)| name == path).map(|(_, _, _, uid)| *uid);
    for (path, uid) in [
        ("data/seven", 7),
        ("data/high/", 65534),
        ("data/own", 12),
        ("data/parent/inner/still", 1000),
        ("data/", 0),
    ] {
        assert_eq!(owner(path), Some(uid), "{path} in {found:?}");
    }
    let image = store.commit(&container, "owners")?;
    let look = "
import os
os.chdir('/data')
for p in ['seven', 'high', 'own', 'parent/inner/still', 'parent', 'parent/inner']: print(p, os.lstat(p).st_uid, os.lstat(p).st_gid)
print(os.getxattr('capable', 'security.capability').hex())";
    let expected = "seven 7 8\nhigh 65534 65535\nown 12 13\nparent/inner/still 1000 1000\nparent 0 0\nparent/inner 0 0\n";
    // For whoever runs on it they are capabilities of its root.
    let text = succeed(over(image.rootfs()).output(python(look))?)?;
    assert_eq!(text, format!("{expected}{capability}"));
    assert!(capability.starts_with("01000002") && capability.len() == 41, "{capability}");
    let tree = crate::tree_of(&scratch, "store", &image, 1);
    let on_disk = crate::raw_xattrs(&tree.join("data/capable"))?;
    assert_eq!((on_disk.len(), on_disk[0].1.len()), (1, 20), "{on_disk:?}");
    Ok(())
}

/// In a sandbox without a user namespace the attributes of a user mean nothing to overlayfs, and a program may set them.
pub(crate) fn marks_that_a_program_has_forged_are_nothing() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let root = store.base.rootfs().upper(in_memory());
    let sandbox = ["/usr", "/bin", "/lib", "/lib64"]
        .iter()
        .fold(Sandbox::bare().mount_ns().rootfs(root), |sandbox, dir| sandbox.mount(Mount::bind(dir, dir)));
    let container = sandbox.start()?;
    let script = "
import os
os.chdir('/data')
open('marked/new', 'w'); os.setxattr('marked', 'user.overlay.opaque', b'y')
open('empty', 'w'); os.setxattr('empty', 'user.overlay.whiteout', b''); os.setxattr('empty', 'user.mine', b'1')
open('mode', 'w'); os.setxattr('mode', 'user.overlay.whiteout', b'')
os.mkdir('led'); os.setxattr('led', 'user.overlay.redirect', b'/data/renewed')
os.setxattr('attribute', 'user.overlay.metacopy', b'')
os.mknod('device', 0o20666, os.makedev(1, 3)); os.remove('opened'); os.mknod('opened', 0o20666, os.makedev(1, 3))";
    run(&container, script)?;
    let mut archive = Vec::new();
    assert_eq!(paths(&container.export_tar(&mut archive, mib(1))?), ["/data/device", "/data/opened"]);
    let text = String::from_utf8_lossy(&archive);
    assert!(!text.contains("overlay.") && text.contains("SCHILY.xattr.user.mine"));
    let found = names(&archive)?;
    let of_data: Vec<_> = found.iter().filter(|name| name.starts_with("data/")).map(String::as_str).collect();
    let wanted = [
        "data/",
        "data/empty",
        "data/led/",
        "data/marked/",
        "data/marked/new",
        "data/mode",
        "data/.wh.opened",
    ];
    assert_eq!(of_data, wanted);
    let image = store.commit(&container, "forged")?;
    let look = "import os; os.chdir('/data'); print(sorted(os.listdir('marked')), os.listdir('led'), os.stat('mode').st_size, os.path.exists('opened'))";
    assert_eq!(succeed(over(image.rootfs()).output(python(look))?)?, "['new', 'x'] [] 0 False\n");
    // A sandbox of a user namespace may not set them at all, or sets others.
    let container = start(&store.base)?;
    run(
        &container,
        "
import os
open('/data/marked/new', 'w')
try: os.setxattr('/data/marked', 'user.overlay.opaque', b'y')
except OSError: pass",
    )?;
    let image = store.commit(&container, "closed")?;
    let look = "import os; print(sorted(os.listdir('/data/marked')))";
    assert_eq!(succeed(over(image.rootfs()).output(python(look))?)?, "['new', 'x']\n");
    Ok(())
}

/// Whatever a program makes, an error says what it is, and the store is as before.
pub(crate) fn what_is_no_layer_leaves_nothing() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let on_base = || ImageBuilder::on(&store.base);
    let long = "d/".repeat(16).replace('d', &"d".repeat(255));
    let cases: [(&str, ImageBuilder, ErrorKind); 9] = [
        ("open('.wh.x', 'w')", on_base(), ErrorKind::InvalidConfig),
        ("os.mkdir('.wh..wh..opq')", on_base(), ErrorKind::InvalidConfig),
        (
            "open('big', 'w').write('x' * 100000)",
            on_base().max_bytes(Bytes::kib(64)),
            ErrorKind::LimitExceeded,
        ),
        ("open('hole', 'w').truncate(1 << 40)", on_base(), ErrorKind::LimitExceeded),
        ("for n in range(200): open('%d' % n, 'w')", on_base().max_entries(100), ErrorKind::LimitExceeded),
        ("for n in range(300): os.mkdir('d'); os.chdir('d')", on_base(), ErrorKind::LimitExceeded),
        (
            &format!("for n in '{long}'.split('/')[:-1]: os.mkdir(n); os.chdir(n)"),
            on_base(),
            ErrorKind::LimitExceeded,
        ),
        (
            "for n in range(25): os.setxattr('attribute', 'user.%d' % n, b'x' * 60000)",
            on_base(),
            ErrorKind::LimitExceeded,
        ),
        (
            "for n in range(20): os.setxattr('attribute', 'user.%d' % n, b'x' * 40000)",
            on_base().max_bytes(Bytes::kib(256)),
            ErrorKind::LimitExceeded,
        ),
    ];
    for (script, builder, kind) in cases {
        let container = start(&store.base)?;
        run(&container, &format!("import os; os.chdir('/data')\n{script}"))?;
        let began = Instant::now();
        let error = container.commit(&store.store, "x", &builder).expect_err(script);
        assert_eq!((error.kind(), error.step()), (kind, Step::Image), "{script:.50}: {}", explain(&error));
        assert!(
            error.hint().is_some() && began.elapsed() < Duration::from_secs(20) * slack(),
            "{script:.50}"
        );
        store.is_untouched().map_err(|error| Fail(format!("{script:.50}: {}", error.0)))?;
    }
    // The deepest and the longest that can be are in.
    let container = start(&store.base)?;
    run(
        &container,
        "import os; os.chdir('/data')\nfor n in range(199): os.mkdir('d'); os.chdir('d')\nopen('f', 'w')",
    )?;
    store.commit(&container, "deep")?;
    store.store.remove_image("deep")?;
    store.store.gc()?;
    store.is_untouched()?;
    // An archive has no more bytes than it may.
    run(&container, "open('/data/big', 'w').write('x' * 100000)")?;
    let whole = archive(&container)?.len() as u64;
    assert_eq!(container.export_tar(std::io::sink(), whole)?, []);
    let mut cut = Vec::new();
    let error = container.export_tar(&mut cut, whole - 1).expect_err("one byte is missing");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{}", explain(&error));
    assert!(error.hint().is_some() && cut.len() as u64 <= whole);
    Ok(())
}

/// What can be known before is said before anything is stopped or packed.
pub(crate) fn commits_that_cannot_be() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let builder = ImageBuilder::on(&store.base);
    let container = start(&store.base)?;
    let kind = |result: belljar::Result<Image>| result.err().map(|error| error.kind());
    assert_eq!(kind(container.commit(&store.store, "no name", &builder)), Some(ErrorKind::InvalidConfig));
    let other = LayerStore::open(scratch.join("other"))?;
    assert_eq!(kind(container.commit(&other, "x", &builder)), Some(ErrorKind::InvalidConfig));
    for sandbox in [over(store.base.rootfs()), crate::support::closed()] {
        let container = sandbox.start()?;
        let error = container.commit(&store.store, "x", &builder).expect_err("nothing is kept");
        assert_eq!((error.kind(), error.step()), (ErrorKind::InvalidConfig, Step::Changes));
        assert!(error.hint().is_some() && container.export_tar(std::io::sink(), mib(1)).is_err());
    }
    assert_eq!(kind(store.base.rootfs().commit(&store.store, "x", &builder)), Some(ErrorKind::InvalidConfig));
    let failing =
        container.export_tar(std::fs::File::open("/dev/null")?, mib(1)).expect_err("it is read-only");
    assert_eq!(failing.step(), Step::Image, "{}", explain(&failing));
    store.is_untouched()?;
    // Nothing that has changed is an empty layer.
    let image = store.commit(&container, "nothing")?;
    assert_eq!(image.layers().len(), 2);
    same("nothing", &look_at(&store.base)?, &look_at(&image)?)
}

/// Of each pair one is there at any moment, and in each archive.
pub(crate) fn programs_stand_still_while_a_layer_is_packed() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let container = over(store.base.rootfs().upper(in_memory())).freezable().start()?;
    let script = "
import os
os.chdir('/data'); n = 0
open('one', 'w').write('0' * 65536)
while True:
    n += 1
    open('new', 'w').write(('%d' % (n % 10)) * 65536); os.rename('new', 'one')
    os.rename('one', 'other'); os.rename('other', 'one')";
    let mut child = container.spawn(python(script))?;
    assert!(within(Duration::from_secs(20) * slack(), || container
        .changes()
        .is_ok_and(|all| !all.is_empty())));
    for _ in 0..30 {
        let archive = archive(&container)?;
        let found = names(&archive)?;
        let pair = found.iter().filter(|name| matches!(name.as_str(), "data/one" | "data/other")).count();
        assert_eq!(pair, 1, "{found:?}");
    }
    store.commit(&container, "still")?;
    assert!(child.try_wait()?.is_none(), "it goes on afterwards");
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A program that swaps files, directories, links and FIFOs while it is packed gives nothing of the host away, stops
/// nobody, and leaves no archive that cannot be read.
pub(crate) fn a_program_that_swaps_what_is_packed() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    scratch.dir("secret");
    scratch.file("secret/f", "of the host");
    let container = start(&store.base)?;
    // The link leads there from the host's point of view, and from inside to nowhere.
    let script = format!(
        "
import os, random
os.chdir('/data'); os.mkdir('d'); os.mkdir('e'); os.mkdir('e/d'); n = 0
os.symlink('{0}', 'out'); os.symlink('{0}/f', 'file'); os.mkfifo('fifo')
for name in ['d/f', 'e/f', 'grows']: open(name, 'w').write('harmless')
def swap(a, b):
    os.rename(a, 'aside'); os.rename(b, a); os.rename('aside', b)
while True:
    n += 1
    swap('d', 'out'); swap('e/f', 'file'); swap('d', 'out'); swap('e/f', 'fifo'); swap('e/f', 'fifo'); swap('e/f', 'file')
    if n % 7 == 0:
        with open('grows', 'w') as f: f.write('x' * random.randrange(200000))",
        scratch.join("secret").display()
    );
    let mut child = container.spawn(python(&script))?;
    assert!(within(Duration::from_secs(20) * slack(), || container.changes().is_ok_and(|all| all.len() > 5)));
    let (mut made, mut refused) = (0, 0);
    let end = Instant::now() + Duration::from_secs(2) * slack();
    while Instant::now() < end || made == 0 || refused == 0 {
        if Instant::now() > end + Duration::from_secs(60) * slack() {
            return fail(format!("{made} archives and {refused} errors: the program is never in the way"));
        }
        let mut archive = Vec::new();
        match container.export_tar(&mut archive, mib(16)) {
            Ok(_) => {
                made += 1;
                names(&archive)?;
            }
            Err(error) if error.kind() == ErrorKind::Setup => {
                refused += 1;
                assert!(error.hint().is_some(), "{}", explain(&error));
            }
            Err(error) => return fail(explain(&error)),
        }
        assert!(!archive.windows(11).any(|bytes| bytes == b"of the host"), "the host was read");
    }
    for _ in 0..20 {
        match store.commit(&container, "raced") {
            Ok(image) => {
                drop(image);
                store.store.remove_image("raced")?;
                store.store.gc()?;
            }
            Err(error) if error.kind() == ErrorKind::Setup => {}
            Err(error) => return fail(explain(&error)),
        }
        store.is_untouched()?;
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Takes an archive, and lets a program act when the first part of it is there.
struct Nudge {
    archive: Vec<u8>,
    program: Option<belljar::Child>,
}

impl Write for Nudge {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        if let Some(mut program) = self.program.take() {
            // The end of its input is the sign, and its own end the answer.
            let outcome = program.wait().map_err(std::io::Error::other)?;
            assert!(outcome.success(), "{outcome:?}");
        }
        self.archive.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Each change is made when the changes are listed and half of a file is packed.
pub(crate) fn what_changes_while_it_is_packed() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    scratch.dir("secret");
    scratch.file("secret/f", "of the host");
    let secret = scratch.join("secret").display().to_string();
    let swap = |name: &str, to: &str| format!("os.rename('{name}', 'aside'); os.symlink('{to}', '{name}')");
    for (script, refused) in [
        ("open('a', 'a').write('x')", true),
        ("os.truncate('a', 100)", true),
        ("f = open('a', 'r+'); f.seek(199000); f.write('y')", true),
        ("os.chmod('a', 0o600)", true),
        ("os.remove('b')", true),
        ("os.remove('mode')", true),
        ("os.rename('c', 'aside'); open('c', 'w')", true),
        (&swap("c", &secret), true),
        // What is there now is packed, and is nobody else's.
        (&swap("b", &format!("{secret}/f")), false),
        ("os.remove('b'); os.mkfifo('b')", false),
        ("os.remove('b'); os.mkdir('b')", false),
        ("pass", false),
    ] {
        let container = start(&store.base)?;
        run(
            &container,
            "
import os
os.chdir('/data'); open('a', 'w').write('x' * 200000); open('b', 'w').write('harmless')
os.mkdir('c'); open('c/f', 'w').write('harmless'); open('mode', 'w').write('modified')",
        )?;
        let mut command = python(&format!("import os, sys\nos.chdir('/data'); sys.stdin.read()\n{script}"));
        command.stdin(belljar::Stdio::piped());
        let mut out = Nudge { archive: Vec::new(), program: Some(container.spawn(&command)?) };
        match container.export_tar(&mut out, mib(1)) {
            Ok(_) if !refused => drop(names(&out.archive)?),
            Err(error) if refused && (error.kind(), error.step()) == (ErrorKind::Setup, Step::Image) => {
                assert!(error.path().is_some() && error.hint().is_some(), "{script}: {}", explain(&error));
            }
            other => return fail(format!("{script}: {other:?}")),
        }
        assert!(out.program.is_none(), "it has acted");
        assert!(!out.archive.windows(11).any(|bytes| bytes == b"of the host"), "{script}: the host was read");
    }
    Ok(())
}

/// Nothing of a layer's root is a member that was not changed, and those above a change are.
pub(crate) fn directories_above_a_change_are_members() -> Result {
    let scratch = Scratch::new();
    let store = Store::new(&scratch)?;
    let container = start(&store.base)?;
    run(
        &container,
        "import os; os.remove('/data/parent/inner/still'); open('/data/parent/inner/touched', 'a').write('x')",
    )?;
    let changes = container.changes()?;
    let of_data: Vec<_> =
        changes.iter().filter(|change| change.path.starts_with("/data")).map(|change| change.kind).collect();
    assert_eq!(of_data, [ChangeKind::Deleted, ChangeKind::Modified]);
    let found = members(&archive(&container)?)?;
    let of_data: Vec<_> = found
        .iter()
        .filter(|(name, ..)| name.starts_with("data"))
        .map(|(name, kind, mode, ..)| (name.as_str(), *kind, *mode))
        .collect();
    let wanted = [
        ("data/", '5', 0o777),
        ("data/parent/", '5', 0o751),
        ("data/parent/inner/", '5', 0o1777),
        ("data/parent/inner/.wh.still", '0', 0o600),
        ("data/parent/inner/touched", '0', 0o644),
    ];
    assert_eq!(of_data, wanted);
    Ok(())
}

/// A record's key ends at the first `=`; and a program chooses how many attributes there are.
pub(crate) fn attributes_that_no_layer_can_have() -> Result {
    let scratch = Scratch::new();
    let (store, image) = import(&scratch, "store", &[base()])?;
    let many = "[os.setxattr('opened', 'user.%d' % n, b'x' * 200) for n in range(5000)]";
    for (script, kind) in [
        (
            "os.setxattr('opened', 'user.a', b'true'); os.setxattr('opened', 'user.a=b', b'c')",
            ErrorKind::InvalidConfig,
        ),
        (many, ErrorKind::LimitExceeded),
        (
            "[os.setxattr('opened', 'user.%d' % n + 'x' * 200, b'') for n in range(400)]",
            ErrorKind::LimitExceeded,
        ),
    ] {
        let container = start(&image)?;
        run(&container, &format!("import os\nos.chdir('/data')\n{script}"))?;
        let changes = container.changes()?;
        let told = changes.iter().find(|change| change.path == Path::new("/data/opened"));
        assert_eq!(told.map(|change| change.kind), Some(ChangeKind::Metadata), "{script}");
        let error =
            container.commit(&store, "x", &ImageBuilder::on(&image)).expect_err("no layer can have it");
        assert_eq!(error.kind(), kind, "{}", explain(&error));
        let error = container.export_tar(std::io::sink(), mib(64)).expect_err("nor an archive");
        assert_eq!(error.kind(), kind, "{}", explain(&error));
    }
    assert_eq!(store.layers()?.len(), 1);
    Ok(())
}

/// A copy of the layers has no marks, and is the same layer all the same.
pub(crate) fn what_a_copy_has_changed() -> Result {
    use belljar::{Storage, StorageDriver};
    let scratch = Scratch::new();
    let (store, image) = import(&scratch, "store", &[base()])?;
    // What programs can write to on the host gets no set-user-id bits.
    let script = CHANGE.replace("0o2750", "0o750").replace("0o4755", "0o755");
    let mut looks = Vec::new();
    for driver in [StorageDriver::Overlay, StorageDriver::Copy] {
        let storage = Storage::open(scratch.join("storage"), driver)?;
        let workspace = storage.base(&image.id().to_string(), &image.rootfs())?.workspace()?;
        let container = over(workspace.rootfs()).start()?;
        run(&container, &script)?;
        let live = container.commit(&store, "live", &ImageBuilder::on(&image))?;
        container.close()?;
        let kept = workspace.rootfs().commit(&store, "kept", &ImageBuilder::on(&image))?;
        assert_eq!(live.layers(), kept.layers(), "{driver}");
        looks.push(look_at(&kept)?);
        // The image stays as long as the base of it, whoever removes it.
        store.remove_image("live")?;
        store.remove_image("kept")?;
    }
    // What the script does not date has the time of its making.
    let undated = |look: &String| -> Vec<String> {
        let is_now = |word: &str| word.len() == 19 && word.parse::<u64>().is_ok_and(|time| time > 1 << 60);
        let word = |word: &str| if is_now(word) { "now" } else { word }.to_owned();
        look.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect()
    };
    for (overlay, copy) in undated(&looks[0]).iter().zip(undated(&looks[1])) {
        assert_eq!(*overlay, copy);
    }
    assert_eq!(looks[0].lines().count(), looks[1].lines().count());
    Ok(())
}
