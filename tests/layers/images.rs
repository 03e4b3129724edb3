//! Images in all their forms, and sandboxes on them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use belljar::{
    Command, ErrorKind, Image, ImageBuilder, ImportOptions, LayerStore, Mount, Platform, Sandbox, Upper,
};
use serde_json::{Value, json};

use crate::archive::{Entry, Files, Packing, Tar, architecture, config, entry};
use crate::import;
use crate::support::{self, Result, Scratch, fail, mib, own_exe, run_helper, succeed};

fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, name.as_bytes()).end()
}

pub(crate) fn every_form_is_the_same_image() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let layers = [layer("a"), layer("b"), layer("a")];
    let id = belljar::Digest::of(&config(&layers, json!({})));
    let layout = |packing| Files::image(&layers, packing);
    // What `docker save` has written since version 25: both forms in one archive.
    let mut both = layout(Packing::Plain);
    let blob = |layer: &Vec<u8>| format!("blobs/sha256/{}", &belljar::Digest::of(layer).to_string()[7..]);
    let paths: Vec<_> = layers.iter().map(blob).collect();
    let saved = json!([{ "Config": format!("blobs/sha256/{}", &id.to_string()[7..]), "RepoTags": ["x:1"], "Layers": paths }]);
    both.0.insert("manifest.json".into(), saved.to_string().into_bytes());
    let mut only_saved = both.clone();
    only_saved.0.remove("index.json");
    // Before that: a layer that is there twice is a symlink.
    let old = Files::saved(&layers, json!({}));
    let mut linked = Tar::new();
    let twice = format!("{:064}/layer.tar", 2);
    for (name, bytes) in old.0.iter().filter(|(name, _)| **name != twice) {
        linked = linked.file(name, bytes);
    }
    let linked = linked.symlink(&twice, &format!("../{:064}/layer.tar", 0)).end();
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("layout, plain", layout(Packing::Plain).tar()),
        ("layout, gzip", layout(Packing::Gzip).tar()),
        ("layout, zstd", layout(Packing::Zstd).tar()),
        ("layout, compressed as a whole", Packing::Gzip.pack(&layout(Packing::Gzip).tar())),
        ("layout, compressed as a whole by zstd", Packing::Zstd.pack(&layout(Packing::Plain).tar())),
        ("docker save, both", both.tar()),
        ("docker save, new names", only_saved.tar()),
        ("docker save, old", old.tar()),
        ("docker save, old, with a symlink", linked),
    ];
    for (name, bytes) in forms {
        let image = store.import(scratch.file("image.tar", bytes), &ImportOptions::new().name("x"));
        match image {
            Ok(image) if image.id() == id && image.layers().len() == 3 => {}
            other => return fail(format!("{name}: {other:?}")),
        }
    }
    let dir = layout(Packing::Gzip).write(&scratch.dir("layout"))?;
    let image = store.import(dir, &ImportOptions::new())?;
    // Two different layers, whatever the form; and a name from each source.
    if store.layers()?.len() != 2 || image.name() != "test" {
        return fail(format!("{:?} {}", store.layers()?, image.name()));
    }
    let saved = store.import(scratch.file("image.tar", old.tar()), &ImportOptions::new())?;
    if saved.name() != "saved:1" { fail(saved.name()) } else { Ok(()) }
}

/// As many layers as overlayfs takes, and a descriptor for each that is different.
pub(crate) fn as_many_layers_as_can_be_mounted() -> Result {
    let scratch = Scratch::new();
    let layers = |count: usize| -> Vec<_> { (0..count).map(|n| layer(["a", "b"][n % 2])).collect() };
    match crate::import(&scratch, "store", &layers(501)) {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => {}
        other => return fail(format!("{other:?}")),
    }
    let open = || -> Result<usize> { Ok(fs::read_dir("/proc/self/fd")?.count()) };
    let (store, imported) = crate::import(&scratch, "store", &layers(500))?;
    let before = open()?;
    let image = store.image(imported.name())?;
    let descriptors = open()? - before;
    if descriptors != 2 || image.layers().len() != 500 {
        return fail(format!("{descriptors} descriptors for two layers"));
    }
    let more = scratch.dir("more");
    match store.build("more", &belljar::ImageBuilder::on(&image).layer(more)) {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

/// Frames one after another, some of which say nothing, and members of gzip one after another.
pub(crate) fn streams_of_several_parts() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let layer = Tar::new().file("a", &[b'x'; 5000]).end();
    let (one, two) = layer.split_at(3000);
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut blob = Vec::new();
        if packing == Packing::Zstd {
            blob.extend_from_slice(b"\x53\x2a\x4d\x18\x04\0\0\0skip");
        }
        blob.extend_from_slice(&packing.pack(one));
        if packing == Packing::Zstd {
            blob.extend_from_slice(b"\x50\x2a\x4d\x18\x00\0\0\0");
        }
        blob.extend_from_slice(&packing.pack(two));
        let files = Files::layout(&[("x", config(std::slice::from_ref(&layer), json!({})), vec![blob])]);
        let name = format!("{packing:?}");
        store.import(files.write(&scratch.dir(&name))?, &ImportOptions::new().name(name))?;
    }
    Ok(())
}

fn for_platform(platform: &str, word: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let layers = vec![layer(word)];
    let mut config: Value = serde_json::from_slice(&config(&layers, json!({}))).expect("it is JSON");
    let (os, architecture) = platform.split_once('/').expect("it has a slash");
    config["os"] = json!(os);
    config["architecture"] = json!(architecture);
    (config.to_string().into_bytes(), layers)
}

pub(crate) fn the_right_one_of_several() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let own = format!("linux/{}", architecture());
    let images: Vec<_> = [own.as_str(), "linux/s390x", "windows/amd64"]
        .iter()
        .map(|platform| {
            let (config, layers) = for_platform(platform, &platform.replace('/', "-"));
            ("multi", config, layers)
        })
        .collect();
    let path = Files::layout(&images).write(&scratch.dir("multi"))?;
    let has = |image: &Image, word: &str| {
        crate::tree_of(&scratch, "store", image, 0).join(word.replace('/', "-")).exists()
    };
    let image = store.import(&path, &ImportOptions::new())?;
    if !has(&image, &own) || image.platform().to_string() != own {
        return fail(format!("{image:?}"));
    }
    let other = ImportOptions::new().platform("linux/s390x".parse()?).name("other");
    if !has(&store.import(&path, &other)?, "linux/s390x") {
        return fail("another platform was imported");
    }
    let kind =
        |path: &Path, options: &ImportOptions| store.import(path, options).err().map(|error| error.kind());
    let riscv = ImportOptions::new().platform("linux/riscv64".parse::<Platform>()?);
    if kind(&path, &riscv) != Some(ErrorKind::Unsupported) {
        return fail("a platform that is not there");
    }
    // One without a platform in its index is found out by its configuration.
    let (config, layers) = for_platform("linux/s390x", "x");
    let single = Files::layout(&[("x", config, layers)]).write(&scratch.dir("single"))?;
    if kind(&single, &ImportOptions::new()) != Some(ErrorKind::Unsupported) {
        return fail("an image of another platform");
    }
    // Several images need a choice.
    let two: Vec<_> = ["one", "two"]
        .iter()
        .map(|name| {
            let (config, layers) = for_platform(&own, name);
            (*name, config, layers)
        })
        .collect();
    let two = Files::layout(&two).write(&scratch.dir("two"))?;
    let chosen = store.import(&two, &ImportOptions::new().reference("two"))?;
    if kind(&two, &ImportOptions::new()) != Some(ErrorKind::InvalidConfig)
        || kind(&two, &ImportOptions::new().reference("three")) != Some(ErrorKind::NotFound)
        || !has(&chosen, "two")
        || chosen.name() != "two"
    {
        return fail("the choice between two images");
    }
    let bad_name = ImportOptions::new().name("a b");
    if kind(&single, &bad_name.platform("linux/s390x".parse()?)) != Some(ErrorKind::InvalidConfig) {
        return fail("a name with a space");
    }
    Ok(())
}

/// This program with all that it needs, as files of a layer.
fn program() -> Result<Tar> {
    let mut command = std::process::Command::new("ldd");
    command.arg(own_exe());
    let listed = run_helper(&mut command, std::time::Duration::from_secs(20))?.stdout;
    let mut tar = Tar::new();
    let executable = |path: &str, content: &[u8], tar: Tar| {
        tar.add(&Entry { mode: 0o755, content, ..entry(path, tar::EntryType::Regular) })
    };
    for word in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        tar = executable(word, &fs::read(word)?, tar);
    }
    Ok(executable("payload", &fs::read(own_exe())?, tar))
}

/// A sandbox over an image sees what the layers say together, and runs its command.
pub(crate) fn a_sandbox_on_an_image() -> Result {
    let scratch = Scratch::new();
    let passwd = b"root:x:0:0::/:\njudge:x:1234:5678::/:\n";
    let base = program()?
        .dir("tmp")
        .file("etc/passwd", passwd)
        .file("etc/group", b"judges:x:99:\n")
        .file("gone", b"1")
        .file("dir/lower", b"1")
        .file("opaque/lower", b"1")
        .file("replaced/lower", b"1")
        .file("changed", b"lower")
        .end();
    let middle = Tar::new()
        .file(".wh.gone", b"")
        .file("dir/.wh.lower", b"")
        .file("dir/upper", b"2")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/upper", b"2")
        .file("replaced", b"a file now")
        .file("changed", b"upper")
        .end();
    let run = json!({
        "Env": ["WORD=from the image", "PATH=/", "NOTHING"], "Entrypoint": ["payload", "--role"],
        "Cmd": ["describe", "/"], "WorkingDir": "/dir", "User": "judge:judges",
    });
    // The same layer again, as builders make it.
    let layers = [base, middle.clone(), layer("top"), middle];
    let path = Files::image_with(&layers, Packing::Gzip, run).write(&scratch.dir("image"))?;
    let store = LayerStore::open(scratch.join("store"))?;
    let image = store.import(path, &ImportOptions::new())?;
    let (uid, gid) = image.user()?;
    if (uid, gid) != (1234, 99) {
        return fail(format!("user {uid}, group {gid}"));
    }
    let sandbox = Sandbox::new().rootfs(image.rootfs().upper(Upper::tmpfs(mib(16), 1000))).user(uid, gid);
    let text = succeed(sandbox.output(image.command()?)?)?;
    let expected = "cwd=/dir word=from the image changed=upper dir=upper opaque=upper \
                    replaced=file gone=no top=yes";
    if text.trim() != expected {
        return fail(format!("{text:?}"));
    }
    let mut command = image.command_for("/payload");
    command.args(["--role", "describe", "/"]).env("WORD", "the caller's").current_dir("/");
    let text = succeed(Sandbox::new().rootfs(image.rootfs()).output(command)?)?;
    if !text.starts_with("cwd=/ word=the caller's changed=upper") {
        return fail(format!("{text:?}"));
    }
    // The store has seen none of it.
    if store.verify()?.is_empty() { Ok(()) } else { fail(format!("{:?}", store.verify()?)) }
}

/// A layer that hides all that is below it, which overlayfs does not do by itself.
/// Debian's own packages, by Debian's own tool: what no test thought of.
pub(crate) fn a_root_of_mmdebstrap() -> Result {
    let scratch = Scratch::new();
    let (archive, root) = (scratch.join("root.tar"), scratch.join("root"));
    let mut make = std::process::Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=extract", "--include=busybox-static,base-files"]);
    run_helper(make.arg(support::debian()).arg(&archive), Duration::from_secs(120))?.succeed()?;
    let archive = fs::read(&archive)?;
    // As a layer of an image, byte for byte.
    let (store, image) = import(&scratch, "store", &[archive])?;
    assert_eq!(store.verify()?, []);
    let run = |image: &Image, script: &str| -> Result<String> {
        let sandbox = Sandbox::new().root().rootfs(image.rootfs()).mount(Mount::proc("/proc"));
        let mut command = Command::new("/bin/busybox");
        support::succeed(sandbox.output(command.args(["sh", "-c", script]))?)
    };
    let name = "/bin/busybox grep ^ID= /etc/os-release";
    assert_eq!(run(&image, name)?, "ID=debian\n");
    // And as a directory that became one.
    std::fs::create_dir(&root)?;
    let mut unpack = std::process::Command::new("tar");
    unpack.args(["--xattrs", "--xattrs-include=*", "--same-owner", "-pxC"]).arg(&root).arg("-f");
    run_helper(unpack.arg(scratch.join("root.tar")), Duration::from_secs(60))?.succeed()?;
    let built = store.build("debian", &ImageBuilder::empty(image.platform()).layer(&root))?;
    assert_eq!(run(&built, name)?, "ID=debian\n");
    let find = "cd /; /bin/busybox find . -path ./proc -prune -o -name partial -prune -o -exec /bin/busybox stat -c '%n %a %u %g %F' {} +";
    let sorted = |text: String| -> Vec<String> {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (imported, packed) = (sorted(run(&image, find)?), sorted(run(&built, find)?));
    assert!(imported.len() > 300, "{}", imported.len());
    assert_eq!(imported, packed);
    Ok(())
}

pub(crate) fn a_layer_that_hides_all_others() -> Result {
    let scratch = Scratch::new();
    let base = Tar::new()
        .file("etc/passwd", b"judge:x:1:2::/:\n")
        .file("changed", b"removed by the author")
        .file("dir/removed", b"1")
        .file("top", b"1")
        .end();
    let fresh = program()?.file("./.wh..wh..opq", b"").file("dir/kept", b"2").dir("tmp").end();
    let run = json!({ "Entrypoint": ["/payload", "--role", "describe", "/"] });
    for layers in [
        vec![base.clone(), fresh.clone(), layer("gone")],
        // The lower one of the two equal layers is out of sight, and so is what is between them.
        vec![fresh.clone(), base.clone(), fresh.clone(), layer("gone")],
    ] {
        let name = format!("store-{}", layers.len());
        let path = Files::image_with(&layers, Packing::Gzip, run.clone())
            .write(&scratch.dir(format!("{name}-image")))?;
        let store = LayerStore::open(scratch.join(&name))?;
        let imported = store.import(path, &ImportOptions::new())?;
        for image in [&imported, &store.image(imported.name())?] {
            let text = succeed(Sandbox::new().rootfs(image.rootfs()).output(image.command()?)?)?;
            if text.trim() != "cwd=/ word= changed= dir=kept opaque= replaced=no file gone=yes top=no" {
                return fail(format!("{text:?}"));
            }
            if image.layers().len() != layers.len() {
                return fail("a layer is missing in the list");
            }
        }
        // Nor is anybody known there any more.
        let judge = store.build("judge", &belljar::ImageBuilder::on(&imported).user("judge"))?;
        if judge.user().is_ok() {
            return fail("a user of a hidden layer");
        }
        if !store.verify()?.is_empty() {
            return fail(format!("{:?}", store.verify()?));
        }
    }
    Ok(())
}

/// `describe ROOT`: what is there, on one line.
pub(crate) fn describe(args: &[std::ffi::OsString]) -> i32 {
    let root = Path::new(&args[0]);
    let names = |path: &str| -> String {
        let read = fs::read_dir(root.join(path)).map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        });
        read.unwrap_or_default().join(",")
    };
    let yes = |path: &str| if root.join(path).symlink_metadata().is_ok() { "yes" } else { "no" };
    let kind = if root.join("replaced").is_file() { "file" } else { "no file" };
    println!(
        "cwd={} word={} changed={} dir={} opaque={} replaced={kind} gone={} top={}",
        std::env::current_dir().unwrap_or_default().display(),
        std::env::var("WORD").unwrap_or_default(),
        fs::read_to_string(root.join("changed")).unwrap_or_default(),
        names("dir"),
        names("opaque"),
        yes("gone"),
        yes("top"),
    );
    0
}

pub(crate) fn users_of_images() -> Result {
    let passwd =
        Tar::new().file("etc/passwd", b"a:x:1:2::/:\nb:x:3:4::/:\nbroken\n").file("etc/group", b"g:x:9:a\n");
    let hidden = Tar::new().file("etc/.wh.group", b"");
    let cases: [(&str, Option<(u32, u32)>); 12] = [
        ("", Some((0, 0))),
        ("0", Some((0, 0))),
        ("1", Some((1, 2))),
        ("77", Some((77, 0))),
        ("77:88", Some((77, 88))),
        ("a", Some((1, 2))),
        ("b:g", None),
        ("b:4", Some((3, 4))),
        ("nobody", None),
        ("broken", None),
        ("-1", None),
        ("4294967295", None),
    ];
    for (text, expected) in cases {
        let scratch = Scratch::new();
        let layers = [passwd.clone().end(), hidden.clone().end()];
        let path =
            Files::image_with(&layers, Packing::Plain, json!({ "User": text })).write(&scratch.dir("i"))?;
        let image = LayerStore::open(scratch.join("store"))?.import(path, &ImportOptions::new())?;
        let found = image.user().ok();
        if found != expected {
            return fail(format!("{text:?} is {found:?} and not {expected:?}"));
        }
    }
    Ok(())
}

pub(crate) fn an_image_without_a_command() -> Result {
    let scratch = Scratch::new();
    let (_, image) = import(&scratch, "store", &[layer("a")])?;
    match image.command() {
        Err(error) if error.kind() == ErrorKind::InvalidImage && error.hint().is_some() => Ok(()),
        other => fail(format!("{other:?}")),
    }
}
