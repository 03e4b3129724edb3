//! The store between processes, across deaths, and over time.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use belljar::{Digest, ErrorKind, ImportOptions, LayerStore, Progress, Sandbox};
use serde_json::json;

use crate::archive::{Files, Packing, Tar};
use crate::support::{Result, Scratch, as_nobody, fail, role_command, run_helper};
use crate::{import, tree_of};

fn layer(name: &str) -> Vec<u8> {
    Tar::new().dir("d").file(&format!("d/{name}"), name.as_bytes()).end()
}

fn image(scratch: &Scratch, name: &str, layers: &[Vec<u8>]) -> Result<std::path::PathBuf> {
    Files::image(layers, Packing::Gzip).write(&scratch.dir(name))
}

fn named(name: &str) -> ImportOptions {
    ImportOptions::new().name(name)
}

pub(crate) fn a_layer_is_stored_once() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let base = layer("base");
    let one = store.import(image(&scratch, "1", &[base.clone(), layer("one")])?, &named("one"))?;
    let inode = |id: usize| -> Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::ino(&tree_of(&scratch, "store", &one, id).metadata()?))
    };
    let before = inode(0)?;
    store.import(image(&scratch, "2", &[base.clone(), layer("two")])?, &named("two"))?;
    store.import(image(&scratch, "1", &[base.clone(), layer("one")])?, &named("again"))?;
    let layers = store.layers()?;
    let shared = layers.iter().find(|layer| layer.id == Digest::of(&base));
    let Some(shared) = shared.filter(|_| layers.len() == 3) else { return fail(format!("{layers:?}")) };
    if shared.images != ["again", "one", "two"] && shared.images.len() != 3 || inode(0)? != before {
        return fail(format!("{shared:?}"));
    }
    if shared.entries != 2 || shared.bytes < 4096 || shared.bytes > 64 << 10 {
        return fail(format!("{shared:?}"));
    }
    let mut names = store.images()?;
    names.sort();
    if names == ["again", "one", "two"] { Ok(()) } else { fail(format!("{names:?}")) }
}

/// A layer of a value, a root filesystem or a plan stays; one of nobody goes.
pub(crate) fn what_is_in_use_stays() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let held = store.import(image(&scratch, "i", &[layer("a"), layer("b")])?, &named("i"))?;
    if store.gc()?.layers != 0 {
        return fail("layers of an image were collected");
    }
    store.remove_image("i")?;
    if !matches!(store.remove_image("i"), Err(error) if error.kind() == ErrorKind::NotFound) {
        return fail("an image was removed twice");
    }
    let in_use = |what: &str| -> Result {
        let collected = store.gc()?;
        if (collected.layers, collected.in_use) != (0, 2) {
            fail(format!("{what}: {collected:?}"))
        } else {
            Ok(())
        }
    };
    in_use("an image")?;
    // Another process sees the lock, too.
    let mut command = role_command("collect", &[scratch.join("store").to_str().unwrap_or_default()]);
    if run_helper(&mut command, Duration::from_secs(20))?.succeed()?.trim() != "0 2" {
        return fail("another process has collected what is in use");
    }
    let root = held.rootfs();
    drop(held);
    in_use("a root")?;
    let sandbox = Sandbox::new().rootfs(root);
    in_use("a sandbox")?;
    let plan = sandbox.plan()?;
    drop(sandbox);
    in_use("a plan")?;
    drop(plan);
    let collected = store.gc()?;
    if collected.layers != 2 || collected.bytes == 0 || !store.layers()?.is_empty() {
        return fail(format!("{collected:?}"));
    }
    let left: Vec<_> = fs::read_dir(scratch.join("store/tmp"))?.collect();
    if left.is_empty() { Ok(()) } else { fail(format!("{left:?}")) }
}

/// What a forked copy of the host drops is still in use by the host.
pub(crate) fn a_forked_copy_unlocks_nothing() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let held = store.import(image(&scratch, "i", &[layer("a")])?, &named("i"))?;
    store.remove_image("i")?;
    // SAFETY: the copy drops a value and ends at once, and the C library keeps its allocator usable in it.
    match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()),
        0 => {
            drop(held);
            // SAFETY: the copy ends here, without what the host would do at its end.
            unsafe { libc::_exit(0) }
        }
        child => {
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)?;
        }
    }
    let collected = store.gc()?;
    if (collected.layers, collected.in_use) != (0, 1) {
        return fail(format!("{collected:?}"));
    }
    drop(held);
    let collected = store.gc()?;
    if collected.layers == 1 { Ok(()) } else { fail(format!("{collected:?}")) }
}

/// `collect STORE`
pub(crate) fn collect(args: &[OsString]) -> i32 {
    match LayerStore::open(&args[0]).and_then(|store| store.gc()) {
        Ok(collected) => {
            println!("{} {}", collected.layers, collected.in_use);
            0
        }
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

pub(crate) fn what_has_changed_is_found() -> Result {
    type Change = fn(&Path) -> std::io::Result<()>;
    let changes: [(&str, Change); 9] = [
        ("content of the same size", |tree| {
            let path = tree.join("d/a");
            let time = path.metadata()?.modified()?;
            fs::write(&path, "b")?;
            fs::File::options().write(true).open(&path)?.set_modified(time)
        }),
        ("more content", |tree| fs::write(tree.join("d/a"), "aa")),
        ("a file that is gone", |tree| fs::remove_file(tree.join("d/a"))),
        ("a file that is new", |tree| {
            let time = tree.join("d").metadata()?.modified()?;
            fs::write(tree.join("d/new"), "")?;
            fs::File::open(tree.join("d"))?.set_modified(time)
        }),
        ("a mode", |tree| fs::set_permissions(tree.join("d/a"), fs::Permissions::from_mode(0o4755))),
        ("a time", |tree| fs::File::open(tree.join("d"))?.set_modified(std::time::UNIX_EPOCH)),
        ("a symlink instead", |tree| {
            fs::rename(tree.join("d/a"), tree.join("../a"))?;
            std::os::unix::fs::symlink("../../a", tree.join("d/a"))
        }),
        ("a skeleton", |tree| fs::write(tree.join("../skeleton.gz"), "")),
        ("a record", |tree| fs::write(tree.join("../layer.json"), "{}")),
    ];
    for (name, change) in changes {
        let scratch = Scratch::new();
        let (store, image) = import(&scratch, "store", &[layer("a"), layer("b")])?;
        if !store.verify()?.is_empty() {
            return fail("a new layer is damaged");
        }
        change(&tree_of(&scratch, "store", &image, 0))?;
        let damages = store.verify()?;
        if damages.len() != 1 || damages[0].layer != image.layers()[0] {
            return fail(format!("{name}: {damages:?}"));
        }
        let named = damages[0].path.as_deref() == Some(Path::new("d/a"));
        if !named && matches!(name, "more content" | "a file that is gone" | "a symlink instead") {
            return fail(format!("{name}: the path is not told in {damages:?}"));
        }
        // The list has all the same the layers, and says of which it knows nothing.
        let layers = store.layers()?;
        let unknown: Vec<_> = layers.iter().filter(|layer| layer.damaged).map(|layer| layer.id).collect();
        let expected = if name == "a record" { &image.layers()[..1] } else { &[] };
        if layers.len() != 2 || unknown != expected {
            return fail(format!("{name}: {layers:?}"));
        }
    }
    Ok(())
}

/// A layer that takes a while.
fn slow_layer() -> Vec<u8> {
    (0..3000).fold(Tar::new(), |tar, number| tar.file(&format!("d{}/{number}", number % 50), b"x")).end()
}

/// `import STORE IMAGE NAME`
pub(crate) fn import_role(args: &[OsString]) -> i32 {
    let options = named(&args[2].to_string_lossy());
    let store = LayerStore::open(&args[0]);
    match store.and_then(|store| store.import(Path::new(&args[1]), &options)) {
        Ok(image) => {
            println!("{}", image.id());
            0
        }
        Err(error) => {
            println!("{}", crate::support::explain(&error));
            1
        }
    }
}

fn import_command(scratch: &Scratch, image: &Path, name: &str) -> std::process::Command {
    let store = scratch.join("store");
    let path = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    role_command("import", &[&path(&store), &path(image), name])
}

pub(crate) fn processes_import_the_same_at_once() -> Result {
    let scratch = Scratch::new();
    let path = image(&scratch, "i", &[slow_layer(), layer("a"), layer("b")])?;
    let mut children = Vec::new();
    for number in 0..4 {
        let mut command = import_command(&scratch, &path, &format!("image-{number}"));
        children.push(command.stdout(std::process::Stdio::piped()).spawn()?);
    }
    // And somebody collects all the while.
    let store = LayerStore::open(scratch.join("store"))?;
    let mut outputs = Vec::new();
    for child in children {
        store.gc()?;
        outputs.push(child.wait_with_output()?);
    }
    if let Some(bad) = outputs.iter().find(|output| !output.status.success()) {
        return fail(String::from_utf8_lossy(&bad.stdout));
    }
    let (images, layers) = (store.images()?, store.layers()?);
    if images.len() != 4 || layers.len() != 3 || layers.iter().any(|layer| layer.images.len() != 4) {
        return fail(format!("{images:?} {layers:?}"));
    }
    store.gc()?;
    let left: Vec<_> = fs::read_dir(scratch.join("store/tmp"))?.collect();
    if !left.is_empty() || !store.verify()?.is_empty() { fail(format!("{left:?}")) } else { Ok(()) }
}

/// Killed at twenty different moments, the store shows nothing that is not complete, and the next import works.
pub(crate) fn a_process_killed_in_the_middle() -> Result {
    let scratch = Scratch::new();
    let path = image(&scratch, "i", &[slow_layer(), layer("a")])?;
    let store = LayerStore::open(scratch.join("store"))?;
    let (mut cut_short, mut leftovers) = (0, 0);
    for round in 0..20 {
        let mut child = import_command(&scratch, &path, "i").stdout(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(10 + 25 * round));
        child.kill()?;
        if !child.wait()?.success() {
            cut_short += 1;
        }
        if !store.verify()?.is_empty() {
            return fail("a torn layer is visible");
        }
        if store.images()?.is_empty() == store.image("i").is_ok() {
            return fail("an image is there without its layers");
        }
        if round % 2 == 0 {
            leftovers += store.gc()?.leftovers;
        }
        if !store.images()?.is_empty() {
            store.remove_image("i")?;
            store.gc()?;
        }
    }
    if cut_short == 0 || leftovers == 0 {
        return fail(format!(
            "{cut_short} imports were cut short, {leftovers} left something: the test is too slow"
        ));
    }
    // Over the remains of the last one.
    let imported = store.import(&path, &named("i"))?;
    if fs::read_dir(tree_of(&scratch, "store", &imported, 0))?.count() != 50 {
        return fail("the layer is not complete");
    }
    store.gc()?;
    let left: Vec<_> = fs::read_dir(scratch.join("store/tmp"))?.collect();
    if left.is_empty() { Ok(()) } else { fail(format!("{left:?}")) }
}

pub(crate) fn a_store_of_others_is_refused() -> Result {
    let scratch = Scratch::new();
    LayerStore::open(scratch.join("store"))?;
    for dir in ["store", "store/layers", "store/images", "store/tmp"] {
        fs::set_permissions(scratch.join(dir), fs::Permissions::from_mode(0o755))?;
        match LayerStore::open(scratch.join("store")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && error.hint().is_some() => {}
            other => return fail(format!("{dir}: {other:?}")),
        }
        fs::set_permissions(scratch.join(dir), fs::Permissions::from_mode(0o700))?;
    }
    fs::write(scratch.join("store/format"), "something else")?;
    match LayerStore::open(scratch.join("store")) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        other => return fail(format!("{other:?}")),
    }
    let file = scratch.file("file", "");
    if LayerStore::open(file).is_ok() { fail("a file is no store") } else { Ok(()) }
}

/// For an ordinary user everything is the user's own, and can be read and removed.
pub(crate) fn an_ordinary_user() -> Result {
    let scratch = Scratch::new();
    let place = scratch.dir("place");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777))?;
    let closed = crate::archive::Entry {
        mode: 0o000,
        ids: (7, 8),
        content: b"closed",
        ..crate::archive::entry("d/closed", tar::EntryType::Regular)
    };
    let sealed =
        crate::archive::Entry { mode: 0o555, ..crate::archive::entry("d", tar::EntryType::Directory) };
    let archive =
        Tar::new().add(&sealed).add(&closed).file(".wh.hidden", b"").file("d/.wh..wh..opq", b"").end();
    let path = scratch.file("image.tar", Files::image(&[archive], Packing::Gzip).tar());
    let store = place.join("store");
    let args = [store.to_str().unwrap_or_default(), path.to_str().unwrap_or_default()];
    let text = as_nobody("whole-life", &args, Duration::from_secs(60))?.succeed()?;
    if text.trim() == "600 755 intact 1" || text.trim() == "400 755 intact 1" { Ok(()) } else { fail(text) }
}

/// `whole-life STORE IMAGE`
pub(crate) fn whole_life(args: &[OsString]) -> i32 {
    let run = || -> Result<String> {
        use std::os::unix::fs::MetadataExt;
        let store = LayerStore::open(&args[0])?;
        let image = store.import(Path::new(&args[1]), &named("i"))?;
        let id = image.layers()[0].to_string();
        let tree = Path::new(&args[0]).join("layers").join(&id[7..]).join("tree");
        let (closed, dir) = (tree.join("d/closed").metadata()?, tree.join("d").metadata()?);
        if closed.uid() != nix::unistd::geteuid().as_raw() || fs::read(tree.join("d/closed"))? != b"closed" {
            return fail("the file is not the user's");
        }
        let intact = if store.verify()?.is_empty() { "intact" } else { "damaged" };
        drop(image);
        store.remove_image("i")?;
        let collected = store.gc()?.layers;
        Ok(format!("{:o} {:o} {intact} {collected}", closed.mode() & 0o7777, dir.mode() & 0o7777))
    };
    match run() {
        Ok(text) => {
            println!("{text}");
            0
        }
        Err(error) => {
            println!("{}", error.0);
            1
        }
    }
}

pub(crate) fn progress_is_told() -> Result {
    let scratch = Scratch::new();
    let big = Tar::new().file("big", &vec![b'x'; 3 << 20]).end();
    let path = Files::image(&[big, layer("a")], Packing::Plain).write(&scratch.dir("i"))?;
    let told = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::new(AtomicU64::new(0));
    let (log, count) = (told.clone(), calls.clone());
    let store = LayerStore::open(scratch.join("store"))?.on_progress(move |progress| {
        count.fetch_add(1, Ordering::Relaxed);
        log.lock().expect("nobody panics").push(progress);
    });
    let image = store.import(path, &named("i"))?;
    store.export(&image, scratch.join("out"))?;
    drop(image);
    store.remove_image("i")?;
    store.gc()?;
    let told = told.lock().expect("nobody panics");
    let ends = |wanted: usize| {
        told.iter().any(|progress| {
            matches!(progress, Progress::Importing { layer, layers: 2, done, total } if layer == &wanted && done == total)
        })
    };
    let written = |wanted: usize| {
        told.iter().any(|progress| {
            matches!(progress, Progress::Exporting { layer, layers: 2, done, total } if layer == &wanted && done == total)
        })
    };
    let collected = told.contains(&Progress::Collecting { done: 2, total: 2 });
    let calls = calls.load(Ordering::Relaxed);
    if ends(1) && ends(2) && written(1) && written(2) && collected && calls < 20 {
        Ok(())
    } else {
        fail(format!("{calls}: {told:?}"))
    }
}

/// An image whose record or layer is gone or changed is an error, and stops the collector.
pub(crate) fn images_that_are_damaged() -> Result {
    let scratch = Scratch::new();
    let (store, image) = import(&scratch, "store", &[layer("a")])?;
    let name = image.name().to_owned();
    drop(image);
    let record = fs::read_dir(scratch.join("store/images"))?.next().expect("there is one")?.path();
    let text = fs::read_to_string(&record)?;
    for bad in
        ["", "{}", &text.replace("linux", "minix"), &text[..text.len() - 1], &json!({"name": 1}).to_string()]
    {
        fs::write(&record, bad)?;
        for error in [store.image(&name).err(), store.gc().err(), store.images().err()] {
            if error.as_ref().map(belljar::Error::kind) != Some(ErrorKind::InvalidImage) {
                return fail(format!("{bad:.40}: {error:?}"));
            }
        }
    }
    fs::write(&record, text)?;
    if store.layers()?.len() != 1 || store.gc()?.layers != 0 {
        return fail("a layer is gone");
    }
    let layer = fs::read_dir(scratch.join("store/layers"))?.next().expect("there is one")?.path();
    fs::remove_dir_all(layer)?;
    match (store.image(&name), store.verify()) {
        (Err(image), Err(verify))
            if image.kind() == ErrorKind::InvalidImage && verify.kind() == image.kind() =>
        {
            Ok(())
        }
        other => fail(format!("{other:?}")),
    }
}
