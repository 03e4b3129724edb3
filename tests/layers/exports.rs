//! Images that are made here, and what other tools make of them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use belljar::{
    Digest, ErrorKind, Image, ImageBuilder, ImportOptions, LayerStore, Platform, Sandbox, Step, Upper,
};
use serde_json::{Value, json};

use crate::archive::{Entry, Files, Packing, Tar, architecture, entry};
use crate::support::{Result, Scratch, fail, run_helper, run_sh};
use crate::{import, tree_of};

/// A layer with one of everything.
fn rich() -> Vec<u8> {
    Tar::new()
        .add(&Entry { mode: 0o750, mtime: 77, ids: (10, 20), ..entry("dir/", tar::EntryType::Directory) })
        .add(&Entry {
            mode: 0o4711,
            ids: (1, 2),
            content: b"content",
            ..entry("dir/file", tar::EntryType::Regular)
        })
        .file("dir/twice", b"first")
        .file("dir/twice", b"second")
        .hard_link("link", "dir/file")
        .symlink("symlink", "/dir/../nowhere")
        .file(&vec!["long"; 60].join("/"), b"long")
        .file(b"\xc3\xa9\xc3\xa8", b"accents")
        .end()
}

pub(crate) fn an_export_is_the_same_image() -> Result {
    let scratch = Scratch::new();
    let upper = Tar::new().file(".wh.link", b"").file("dir/.wh..wh..opq", b"").file("dir/new", b"").end();
    let run = json!({ "Cmd": ["x"], "Labels": { "unknown": "kept" } });
    let files = Files::image_with(&[rich(), upper, rich()], Packing::Zstd, run);
    let store = LayerStore::open(scratch.join("store"))?;
    let image = store.import(files.write(&scratch.dir("in"))?, &ImportOptions::new())?;
    let out = scratch.join("out");
    store.export(&image, &out)?;
    let other = LayerStore::open(scratch.join("other"))?;
    let again = other.import(&out, &ImportOptions::new())?;
    if (again.id(), again.layers(), again.name()) != (image.id(), image.layers(), image.name()) {
        return fail(format!("{again:?} is not {image:?}"));
    }
    if !matches!(other.export(&image, scratch.join("x")), Err(error) if error.kind() == ErrorKind::InvalidConfig)
    {
        return fail("an image of another store was exported");
    }
    // What is there stays, and nothing is left of what fails.
    let before = fs::read(out.join("index.json"))?;
    if store.export(&image, &out).is_ok() || fs::read(out.join("index.json"))? != before {
        return fail("an export has replaced another");
    }
    fs::write(tree_of(&scratch, "store", &image, 0).join("dir/file"), "changed")?;
    match store.export(&image, scratch.join("damaged")) {
        Err(error) if (error.kind(), error.step()) == (ErrorKind::InvalidImage, Step::Store) => {}
        other => return fail(format!("a damaged layer was exported: {other:?}")),
    }
    let mut names: Vec<_> = fs::read_dir(scratch.path())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    if names == ["in", "other", "out", "store"] { Ok(()) } else { fail(format!("{names:?}")) }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: C strings, and a slice with its length.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
}

/// The members of the topmost layer, by name.
fn members(scratch: &Scratch, store: &LayerStore, image: &Image) -> Result<BTreeMap<String, String>> {
    let out = scratch.join(format!("members-{}", &image.id().to_string()[7..20]));
    store.export(image, &out)?;
    let blob = |digest: &Value| out.join("blobs/sha256").join(&digest.as_str().unwrap_or_default()[7..]);
    let document = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let index = document(out.join("index.json"))?;
    let manifest = document(blob(&index["manifests"][0]["digest"]))?;
    let layer = manifest["layers"].as_array().and_then(|layers| layers.last()).cloned().unwrap_or_default();
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(blob(&layer["digest"]))?));
    let mut members = BTreeMap::new();
    for member in archive.entries()? {
        let member = member?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let link = String::from_utf8_lossy(&member.link_name_bytes().unwrap_or_default()).into_owned();
        let kind = char::from(member.header().entry_type().as_byte());
        members.insert(name, format!("{kind} {:o} {link}", member.header().mode()?));
    }
    Ok(members)
}

/// Deletions come in two encodings, and both become those of archives.
pub(crate) fn a_layer_of_an_upper_directory() -> Result {
    let scratch = Scratch::new();
    let upper = scratch.dir("upper");
    scratch.dir("upper/opaque");
    scratch.file("upper/opaque/kept", "x");
    scratch.file("upper/by-attribute", "");
    scratch.file("upper/file", "content");
    fs::hard_link(upper.join("file"), upper.join("second"))?;
    symlink("somewhere/else", upper.join("symlink"))?;
    scratch.dir(format!("upper/{}", vec!["long"; 40].join("/")));
    use nix::sys::stat::{Mode, SFlag, mknod};
    mknod(&upper.join("by-device"), SFlag::S_IFCHR, Mode::empty(), 0)?;
    nix::unistd::mkfifo(&upper.join("fifo"), Mode::from_bits_truncate(0o600))?;
    drop(std::os::unix::net::UnixListener::bind(upper.join("socket"))?);
    set_xattr(&upper.join("opaque"), "user.overlay.opaque", b"y")?;
    set_xattr(&upper.join("by-attribute"), "user.overlay.whiteout", b"y")?;
    set_xattr(&upper.join("file"), "user.mine", b"a\nb")?;
    set_xattr(&upper.join("file"), "user.overlay.origin", b"x")?;

    let store = LayerStore::open(scratch.join("store"))?;
    let platform: Platform = format!("linux/{}", architecture()).parse()?;
    let builder = ImageBuilder::empty(&platform).layer(&upper).env("A", "1").env("A", "2").cmd(["/file"]);
    let image = store.build("built", &builder)?;
    let members = members(&scratch, &store, &image)?;
    for (name, expected) in [
        (".wh.by-device", "0 600 "),
        (".wh.by-attribute", "0 600 "),
        ("opaque/", "5 755 "),
        ("opaque/.wh..wh..opq", "0 600 "),
        ("opaque/kept", "0 644 "),
        ("file", "0 644 "),
        ("second", "1 644 file"),
        ("symlink", "2 777 somewhere/else"),
        ("fifo", "6 600 "),
    ] {
        if members.get(name).map(String::as_str) != Some(expected) {
            return fail(format!("{name} is not {expected:?} in {members:?}"));
        }
    }
    if members.len() != 9 + 40 {
        return fail(format!("{members:?}"));
    }
    let tree = tree_of(&scratch, "store", &image, 0);
    if crate::raw_xattrs(&tree.join("file"))? != [("user.mine".to_owned(), b"a\nb".to_vec())] {
        return fail("the attributes are not those of the file");
    }
    if image.command()?.get_program() != "/file" || store.build("again", &builder)?.id() != image.id() {
        return fail("the same was built twice and differs");
    }
    // A base stays below, and what is said twice counts last.
    let on_top = store.build("top", &ImageBuilder::on(&image).layer(&upper).cmd(["/other"]).user("3:4"))?;
    let command = on_top.command()?;
    if on_top.layers() != [image.layers()[0]; 2]
        || command.get_program() != "/other"
        || on_top.user()? != (3, 4)
    {
        return fail(format!("{on_top:?}"));
    }
    Ok(())
}

pub(crate) fn uppers_that_are_no_layers() -> Result {
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    let platform = Platform::this_machine();
    let kind = |builder: ImageBuilder| store.build("x", &builder).err().map(|error| error.kind());
    let fresh = |name: &str| (scratch.dir(name), scratch.file(format!("{name}/file"), "content"));

    let (dir, file) = fresh("metacopy");
    if store.build("control", &ImageBuilder::empty(&platform).layer(&dir)).is_err() {
        return fail("a plain directory is no layer");
    }
    set_xattr(&file, "user.overlay.metacopy", b"")?;
    let (redirect, _) = fresh("redirect");
    scratch.dir("redirect/d");
    set_xattr(&redirect.join("d"), "user.overlay.redirect", b"/etc")?;
    let (whiteout, _) = fresh("whiteout");
    scratch.file("whiteout/.wh.file", "");
    let (large, file) = fresh("large");
    fs::File::options().write(true).open(file)?.set_len(1 << 42)?;
    let builder = || ImageBuilder::empty(&platform);
    let found = [
        kind(builder().layer(dir)),
        kind(builder().layer(redirect)),
        kind(builder().layer(whiteout)),
        kind(builder().layer(large)),
        kind(builder().layer(scratch.join("missing"))),
    ];
    let expected = [
        ErrorKind::Unsupported,
        ErrorKind::Unsupported,
        ErrorKind::InvalidConfig,
        ErrorKind::LimitExceeded,
        ErrorKind::NotFound,
    ];
    if found != expected.map(Some) {
        return fail(format!("{found:?}"));
    }
    let left: Vec<_> = fs::read_dir(scratch.join("store/tmp"))?.collect();
    if left.is_empty() && store.images()? == ["control"] { Ok(()) } else { fail(format!("{left:?}")) }
}

/// What a program does to a writable root is in the image that is built of it.
pub(crate) fn what_a_sandbox_wrote_becomes_an_image() -> Result {
    let scratch = Scratch::new();
    let base = Tar::new()
        .dir("tmp")
        .dir("usr")
        .dir("lib")
        .dir("lib64")
        .dir("bin")
        .add(&Entry { ids: (1000, 1000), mode: 0o777, ..entry("work", tar::EntryType::Directory) })
        .add(&Entry { ids: (1000, 1000), ..entry("work/delete", tar::EntryType::Regular) })
        .add(&Entry { ids: (1000, 1000), mode: 0o777, ..entry("work/again", tar::EntryType::Directory) })
        .add(&Entry { ids: (1000, 1000), ..entry("work/again/old", tar::EntryType::Regular) })
        .add(&Entry { ids: (1000, 1000), content: b"1\n", ..entry("work/append", tar::EntryType::Regular) })
        .end();
    let (store, image) = import(&scratch, "store", &[base])?;
    let dirs = (scratch.dir("up/upper"), scratch.dir("up/work"));
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(1000), Some(1000));
    if nix::unistd::geteuid().is_root() {
        own(&dirs.0)?;
    }
    let host = |root: belljar::Rootfs| {
        ["/usr", "/bin", "/lib", "/lib64"]
            .iter()
            .fold(Sandbox::new().rootfs(root), |sandbox, dir| sandbox.mount(belljar::Mount::bind(dir, dir)))
    };
    let script =
        "cd /work && rm delete && rm -r again && mkdir again && echo new > again/new && echo 2 >> append";
    run_sh(&host(image.rootfs().upper(Upper::dir(&dirs.0, &dirs.1))), script)?;
    // Overlayfs leaves a directory of mode 0 there, which an ordinary user's test could not remove.
    fs::set_permissions(dirs.1.join("work"), fs::Permissions::from_mode(0o700))?;
    let built = store.build("built", &ImageBuilder::on(&image).layer(&dirs.0))?;
    let look = "cd /work && ls -A . again | tr '\\n' ' ' && cat append | tr '\\n' ' '";
    let text = run_sh(&host(built.rootfs()), look)?;
    let expected = ".: again append  again: new 1 2 ";
    if text != expected { fail(format!("{text:?}")) } else { Ok(()) }
}

fn tool(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    run_helper(&mut command, Duration::from_secs(120))?.succeed()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// An image with one of everything, exported; and its store.
fn exported(scratch: &Scratch) -> Result<(LayerStore, Image, String)> {
    let (store, image) = import(scratch, "store", &[rich()])?;
    let out = scratch.join("exported");
    store.export(&image, &out)?;
    Ok((store, image, text(&out)))
}

pub(crate) fn skopeo_reads_and_writes_the_same() -> Result {
    let scratch = Scratch::new();
    let (store, image, out) = exported(&scratch)?;
    let told: Value = serde_json::from_str(&tool("skopeo", &["inspect", &format!("oci:{out}")])?)?;
    let config = tool("skopeo", &["inspect", "--config", "--raw", &format!("oci:{out}")])?;
    let layers = told["Layers"].as_array().map(Vec::len);
    if told["Architecture"] != architecture()
        || layers != Some(1)
        || Digest::of(config.as_bytes()) != image.id()
    {
        return fail(format!("{told} {config}"));
    }
    for (number, (to, options)) in [
        ("oci:{}", &["--dest-compress-format", "zstd"][..]),
        ("oci:{}", &["--dest-decompress"]),
        ("oci-archive:{}", &[]),
        ("docker-archive:{}:name:tag", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = text(&scratch.join(format!("copy-{number}")));
        let (from, to) = (format!("oci:{out}"), to.replace("{}", &copy));
        let mut args = vec!["--insecure-policy", "copy", "--quiet"];
        args.extend(options);
        args.extend([from.as_str(), to.as_str()]);
        tool("skopeo", &args)?;
        let again = store.import(&copy, &ImportOptions::new().name("again"))?;
        if again.layers() != image.layers() {
            return fail(format!("{to} has {:?}", again.layers()));
        }
    }
    Ok(())
}

/// Everything below a directory, as far as a layer says it.
fn listing(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            let mut line =
                format!("{:o} {}:{} {}", metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime());
            if metadata.is_dir() {
                // Who makes what no member is for may make it in any way.
                if path.file_name().is_some_and(|name| name == "long") {
                    line.clear();
                }
                left.push(path.clone());
            } else if metadata.is_symlink() {
                line += &format!(" {}", fs::read_link(&path)?.display());
            } else {
                line += &format!(" {} {:?}", metadata.nlink(), fs::read(&path)?);
            }
            found.insert(path.strip_prefix(root)?.to_owned(), line);
        }
    }
    Ok(found)
}

pub(crate) fn umoci_unpacks_the_same_and_we_what_it_packs() -> Result {
    let scratch = Scratch::new();
    let (store, image, out) = exported(&scratch)?;
    let bundle = text(&scratch.join("bundle"));
    tool("umoci", &["unpack", "--image", &format!("{out}:test"), &bundle])?;
    let theirs = listing(&Path::new(&bundle).join("rootfs"))?;
    let ours = listing(&tree_of(&scratch, "store", &image, 0))?;
    if theirs != ours {
        let differ: Vec<_> = theirs.iter().filter(|(path, line)| ours.get(*path) != Some(line)).collect();
        return fail(format!("{differ:?} and not {ours:?}"));
    }
    // A change by its hand is a layer with a deletion.
    let root = Path::new(&bundle).join("rootfs");
    fs::remove_file(root.join("symlink"))?;
    fs::remove_dir_all(root.join("dir"))?;
    fs::write(root.join("added"), "by umoci")?;
    tool("umoci", &["repack", "--image", &format!("{out}:changed"), &bundle])?;
    let changed = store.import(&out, &ImportOptions::new().reference("changed"))?;
    let tree = tree_of(&scratch, "store", &changed, 1);
    let hidden = |name: &str| {
        tree.join(name).symlink_metadata().is_ok_and(|found| found.mode() & libc::S_IFMT == libc::S_IFCHR)
    };
    let added = fs::read_to_string(tree.join("added"))?;
    if changed.layers().len() != 2 || !hidden("symlink") || !hidden("dir") || added != "by umoci" {
        return fail(format!("{:?}", listing(&tree)?));
    }
    Ok(())
}
