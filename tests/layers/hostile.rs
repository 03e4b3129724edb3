//! Archives that want out, want everything, or are not what they say.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use belljar::{Bytes, Digest, ErrorKind, Image, ImportOptions, LayerStore};
use serde_json::json;
use tar::EntryType;

use crate::archive::{Entry, Files, Packing, Tar, entry, header, unpack_naively};
use crate::support::{Result, Scratch, fail, soak, timed};
use crate::{import, import_with, tree_of};

/// What an attack may not touch.
struct Outside {
    dir: PathBuf,
}

impl Outside {
    fn new(scratch: &Scratch, name: &str) -> Self {
        let dir = scratch.dir(name);
        scratch.file(format!("{name}/victim"), "untouched");
        scratch.dir(format!("{name}/victims"));
        scratch.file(format!("{name}/victims/one"), "untouched");
        Self { dir }
    }

    /// Everything that is there, with content, mode and number of names.
    fn state(&self) -> Result<Vec<String>> {
        let mut state = Vec::new();
        let mut left = vec![self.dir.clone()];
        while let Some(path) = left.pop() {
            let metadata = path.symlink_metadata()?;
            let mut line = format!("{} {:o} {}", path.display(), metadata.mode(), metadata.uid());
            if metadata.is_dir() {
                left.extend(
                    fs::read_dir(&path)?
                        .map(|entry| entry.map(|entry| entry.path()))
                        .collect::<std::io::Result<Vec<_>>>()?,
                );
            } else if metadata.is_symlink() {
                line += &format!(" {:?}", fs::read_link(&path)?);
            } else {
                line += &format!(" {} {:?}", metadata.nlink(), fs::read_to_string(&path)?);
            }
            state.push(line);
        }
        state.sort();
        Ok(state)
    }
}

/// An attack, given the directory outside.
type Attack = fn(&str) -> Tar;

const ESCAPES: &[(&str, Attack)] = &[
    ("an absolute path", |out| Tar::new().file(&format!("{out}/new"), b"x")),
    ("an absolute path to what is there", |out| Tar::new().file(&format!("{out}/victim"), b"x")),
    ("dots", |_| Tar::new().dir("a").file("a/../../outside-naive/new", b"x")),
    ("a symlink, and a file through it", |out| Tar::new().symlink("a", out).file("a/new", b"x")),
    ("a symlink that goes up", |_| Tar::new().symlink("a", "../outside-naive").file("a/new", b"x")),
    ("two symlinks", |out| Tar::new().symlink("a", out).symlink("b", "a/victims").file("b/new", b"x")),
    ("a symlink where a file comes", |out| Tar::new().symlink("a", &format!("{out}/victim")).file("a", b"x")),
    ("a symlink, and a directory through it", |out| Tar::new().symlink("a", out).dir("a/new")),
    ("a symlink, and a symlink through it", |out| Tar::new().symlink("a", out).symlink("a/new", "x")),
    ("a hard link to a file outside", |out| {
        Tar::new().hard_link("a", &format!("{out}/victim")).file("a", b"x")
    }),
    ("a hard link upwards", |_| Tar::new().hard_link("a", "../outside-naive/victim").file("a", b"x")),
    ("a hard link through a symlink", |out| {
        Tar::new().symlink("a", out).hard_link("b", "a/victim").file("b", b"x")
    }),
    ("a whiteout through a symlink", |out| Tar::new().symlink("a", out).file("a/.wh.victim", b"")),
    ("a whiteout of a directory through a symlink", |out| {
        Tar::new().symlink("a", out).file("a/.wh.victims", b"")
    }),
    ("a whiteout outside", |out| Tar::new().file(&format!("{out}/.wh.victim"), b"")),
];

/// Each is carried out by a naive unpacker first, and must do harm there.
pub(crate) fn no_member_gets_out() -> Result {
    let scratch = Scratch::new();
    for (number, (name, attack)) in ESCAPES.iter().enumerate() {
        let naive = Outside::new(&scratch, "outside-naive");
        let before = naive.state()?;
        let archive = attack(naive.dir.to_str().unwrap_or_default()).end();
        unpack_naively(&archive, &scratch.dir(format!("naive-{number}"))).ok();
        if naive.state()? == before {
            return fail(format!("{name} is harmless even for a naive unpacker"));
        }
        fs::remove_dir_all(&naive.dir)?;

        let outside = Outside::new(&scratch, "outside-naive");
        let before = outside.state()?;
        let result = import(&scratch, &format!("store-{number}"), &[archive]);
        if outside.state()? != before {
            return fail(format!("{name} has changed {:?} to {:?}", before, outside.state()?));
        }
        if let Err(error) = &result {
            if error.kind() != ErrorKind::InvalidImage {
                return fail(format!("{name}: {error} ({:?})", error.kind()));
            }
        }
        fs::remove_dir_all(&outside.dir)?;
    }
    Ok(())
}

/// Paths from the root stay in the layer, and a symlink is a way inside it.
pub(crate) fn paths_are_those_of_the_layer() -> Result {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .dir("usr/lib/real")
        .symlink("lib", "/usr/lib")
        .symlink("usr/lib/loop", "real")
        .file("/etc/absolute", b"1")
        .file("lib/loop/through", b"2")
        .file("./././dots", b"3")
        .hard_link("linked", "/lib/loop/through")
        .end();
    let (_, image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    for (path, content) in
        [("etc/absolute", "1"), ("usr/lib/real/through", "2"), ("dots", "3"), ("linked", "2")]
    {
        if fs::read_to_string(tree.join(path))? != content {
            return fail(format!("{path} is not what it should be"));
        }
    }
    // The archive can still be put together: the file is found where it really is.
    expect_intact(&scratch, "store")
}

fn expect_intact(scratch: &Scratch, store: &str) -> Result {
    let damages = LayerStore::open(scratch.join(store))?.verify()?;
    if damages.is_empty() { Ok(()) } else { fail(format!("damaged: {damages:?}")) }
}

/// Imports a layer that must be refused, and returns the words.
fn refused(archive: Vec<u8>, kind: ErrorKind) -> Result<String> {
    refused_files(&Files::image(&[archive], Packing::Gzip), &ImportOptions::new(), kind)
}

fn refused_files(files: &Files, options: &ImportOptions, kind: ErrorKind) -> Result<String> {
    let scratch = Scratch::new();
    let path = files.write(&scratch.dir("image"))?;
    let store = LayerStore::open(scratch.join("store"))?;
    let error = match store.import(path, options) {
        Ok(_) => return fail("the image was taken"),
        Err(error) => error,
    };
    if error.kind() != kind {
        return fail(format!("{error}: {:?} and not {kind:?}", error.kind()));
    }
    if !store.images()?.is_empty() {
        return fail("a refused image is in the store");
    }
    // Nothing of the failed one is left under way either.
    let tmp: Vec<_> = fs::read_dir(scratch.join("store/tmp"))?.collect();
    if !tmp.is_empty() {
        return fail(format!("left in the store: {tmp:?}"));
    }
    Ok(error.to_string())
}

pub(crate) fn members_that_only_an_attack_has() -> Result {
    let bad = |kind| Entry { link: b"x", ..entry("a", kind) };
    let cases: Vec<(&str, Tar)> = vec![
        ("a parent that is a file", Tar::new().file("a", b"").file("a/b", b"")),
        ("a parent that leads nowhere", Tar::new().symlink("a", "nowhere").file("a/b", b"")),
        ("a parent that leads to itself", Tar::new().symlink("a", "a").file("a/b", b"")),
        ("a parent that is a link to a file", Tar::new().file("f", b"").symlink("a", "f").file("a/b", b"")),
        ("a link to nothing", Tar::new().hard_link("a", "nothing")),
        ("a link to a directory", Tar::new().dir("d").hard_link("a", "d")),
        ("a link to itself", Tar::new().hard_link("a", "a")),
        ("a link to a whiteout", Tar::new().file(".wh.w", b"").hard_link("a", "w")),
        ("a symlink to nothing", Tar::new().symlink("a", "")),
        ("an empty name", Tar::new().file("", b"")),
        ("a file as the root", Tar::new().file(".", b"")),
        ("a symlink as the root", Tar::new().symlink("./", "/etc")),
        ("a whiteout of no name", Tar::new().file(".wh.", b"")),
        ("a whiteout of the directory itself", Tar::new().dir("d").file("d/.wh..", b"")),
        ("a whiteout of what is above", Tar::new().dir("d").file("d/.wh...", b"")),
        ("a whiteout that is a directory", Tar::new().dir("d/.wh.x")),
        ("a symlink with content", Tar::new().add(&Entry { content: b"x", ..bad(EntryType::Symlink) })),
        ("a directory with content", Tar::new().add(&Entry { content: b"x", ..bad(EntryType::Directory) })),
        ("an unknown type", Tar::new().add(&bad(EntryType::new(b'Z')))),
        (
            "an id beyond all",
            Tar::new().add(&Entry { pax: vec![("uid", b"4294967295")], ..bad(EntryType::Fifo) }),
        ),
        (
            "a name with a NUL byte",
            Tar::new().add(&Entry { pax: vec![("path", b"a\0b")], ..bad(EntryType::Fifo) }),
        ),
        ("a name that is too long", Tar::new().file(&vec![b'x'; 256], b"")),
        // Nobody looks at what these lead to, so only their length is wrong.
        ("a path that is too long", Tar::new().file(&[b"./".repeat(2048), b"a".to_vec()].concat(), b"")),
        ("a link that is too long", Tar::new().dir("d").symlink("d/a", &vec![b'x'; 4097])),
        ("a device's path that is too long", Tar::new().add(&entry(&vec![b'x'; 4097], EntryType::Char))),
        ("a malformed record", {
            let mut tar = Tar::new();
            tar.0.extend_from_slice(header(&entry("x", EntryType::XHeader), 9).as_bytes());
            tar.content(b"99 a=b\n\0\0");
            tar.file("a", b"")
        }),
        ("an extended header of 1 GiB", {
            let mut tar = Tar::new();
            tar.0.extend_from_slice(header(&entry("x", EntryType::XHeader), 1 << 30).as_bytes());
            tar
        }),
        ("a long name of 1 GiB", {
            let mut tar = Tar::new();
            tar.0.extend_from_slice(header(&entry("x", EntryType::GNULongName), 1 << 30).as_bytes());
            tar
        }),
        ("an extended header and nothing after it", {
            let mut tar = Tar::new();
            tar.0.extend_from_slice(header(&entry("x", EntryType::XHeader), 0).as_bytes());
            tar
        }),
        ("no archive", Tar(b"this is no archive".repeat(100))),
        ("a header that was changed", {
            let mut tar = Tar::new().file("a", b"");
            tar.0[0] = b'b';
            tar
        }),
    ];
    for (name, tar) in cases {
        refused(tar.end(), ErrorKind::InvalidImage)
            .map_err(|error| crate::support::Fail(format!("{name}: {}", error.0)))?;
    }
    Ok(())
}

pub(crate) fn sizes_that_cannot_be() -> Result {
    let sized = |size: &'static [u8]| Entry { pax: vec![("size", size)], ..entry("a", EntryType::Regular) };
    refused(Tar::new().add(&sized(b"-1")).end(), ErrorKind::InvalidImage)?;
    refused(Tar::new().add(&sized(b"18446744073709551615")).end(), ErrorKind::InvalidImage)?;
    refused(Tar::new().add(&sized(b"9223372036854775807")).end(), ErrorKind::InvalidImage)?;
    refused(Tar::new().add(&sized(b"0x10")).end(), ErrorKind::InvalidImage)?;
    // A number in base 256 that is negative.
    let mut negative = header(&entry("a", EntryType::Regular), 0);
    negative.as_old_mut().size = [0xff; 12];
    negative.set_cksum();
    refused(Tar(negative.as_bytes().to_vec()).end(), ErrorKind::InvalidImage)?;
    // No number.
    let mut none = header(&entry("a", EntryType::Regular), 0);
    none.as_old_mut().size = *b"not a size!\0";
    none.set_cksum();
    refused(Tar(none.as_bytes().to_vec()).end(), ErrorKind::InvalidImage)?;
    Ok(())
}

/// A header of old GNU tar for a file with one part at its start and a hole after it.
fn sparse(real_size: u64) -> Tar {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..4].copy_from_slice(b"hole");
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(5);
    let gnu = header.as_gnu_mut().expect("it is one of GNU tar");
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(5);
    gnu.sparse[1].set_offset(real_size);
    gnu.sparse[1].set_length(0);
    gnu.set_real_size(real_size);
    header.set_cksum();
    let mut tar = Tar(header.as_bytes().to_vec());
    tar.content(b"start");
    tar
}

pub(crate) fn holes_stay_holes_and_count() -> Result {
    refused(sparse(1 << 60).end(), ErrorKind::LimitExceeded)?;
    let scratch = Scratch::new();
    let size = 1 << 30;
    let map = b"2\n0\n5\n1073741824\n0\n";
    let mut modern = map.to_vec();
    modern.resize(512, 0);
    modern.extend_from_slice(b"start");
    let pax: Vec<(&str, &[u8])> = vec![
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"modern"),
        ("GNU.sparse.realsize", b"1073741824"),
    ];
    let modern = Entry { content: &modern, pax, ..entry("GNUSparseFile.0/modern", EntryType::Regular) };
    let (_, image) = import(&scratch, "store", &[sparse(size).add(&modern).end()])?;
    for name in ["hole", "modern"] {
        let path = tree_of(&scratch, "store", &image, 0).join(name);
        let metadata = path.metadata()?;
        let mut start = [0; 8];
        std::io::Read::read_exact(&mut fs::File::open(&path)?, &mut start)?;
        if metadata.len() != size || metadata.blocks() * 512 > 1 << 20 || &start != b"start\0\0\0" {
            return fail(format!("{name}: {} bytes, {} on disk", metadata.len(), metadata.blocks() * 512));
        }
    }
    expect_intact(&scratch, "store")
}

pub(crate) fn sparse_maps_that_lie() -> Result {
    let with = |map: &str, real: &str| {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        content.extend_from_slice(b"start");
        let pax: Vec<(&str, &[u8])> = vec![
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", real.as_bytes()),
        ];
        Tar::new().add(&Entry { content: &content, pax, ..entry("a", EntryType::Regular) }).end()
    };
    // The control: a map that is right is taken.
    import(&Scratch::new(), "store", &[with("1\n0\n5\n", "5")])?;
    for (map, real) in [
        ("1\n0\n5\n", "4"),
        ("1\n0\n6\n", "6"),
        ("2\n0\n5\n3\n0\n", "5"),
        ("1\n18446744073709551615\n5\n", "5"),
        ("99999999\n", "5"),
        ("x\n", "5"),
        ("-1\n", "5"),
        ("1\n0\n", "5"),
    ] {
        refused(with(map, real), ErrorKind::InvalidImage)?;
    }
    let old: Vec<(&str, &[u8])> = vec![("GNU.sparse.size", b"5"), ("GNU.sparse.numblocks", b"0")];
    refused(
        Tar::new().add(&Entry { pax: old, ..entry("a", EntryType::Regular) }).end(),
        ErrorKind::InvalidImage,
    )?;
    Ok(())
}

pub(crate) fn bombs_end_at_their_limit() -> Result {
    // 64 MiB of zeros in a few KiB, as one file and as what follows an archive's end.
    let zeros = vec![0; 64 << 20];
    let inside = Tar::new().file("zeros", &zeros).end();
    let mut behind = Tar::new().file("a", b"").end();
    behind.extend_from_slice(&zeros);
    for archive in [inside, behind] {
        for packing in [Packing::Gzip, Packing::Zstd] {
            let files = Files::image(std::slice::from_ref(&archive), packing);
            let options = ImportOptions::new().max_bytes(Bytes::mib(4));
            let (result, time) = timed(|| refused_files(&files, &options, ErrorKind::LimitExceeded));
            result?;
            if time > std::time::Duration::from_secs(20) {
                return fail(format!("it took {time:?} to find the limit"));
            }
        }
    }
    // The limit is for all layers together.
    let half = |name: &str| Tar::new().file(name, &vec![b'x'; 600 << 10]).end();
    let options = ImportOptions::new().max_bytes(Bytes::mib(1));
    let files = Files::image(&[half("a"), half("b")], Packing::Plain);
    refused_files(&files, &options, ErrorKind::LimitExceeded)?;
    import_with(&Scratch::new(), "store", &[half("a")], &options)?;
    // And for an archive that is compressed as a whole.
    let scratch = Scratch::new();
    let whole = scratch.file("whole", Packing::Gzip.pack(&Tar::new().file("index.json", &zeros).end()));
    match LayerStore::open(scratch.join("store"))?.import(whole, &options) {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

pub(crate) fn many_entries() -> Result {
    let count = if soak() { 1_000_000 } else { 10_000 };
    let mut tar = Tar::new();
    for number in 0..count {
        tar = tar.file(&format!("{:03}/{number}", number % 1000), b"");
    }
    let archive = tar.end();
    let files = Files::image(std::slice::from_ref(&archive), Packing::Gzip);
    refused_files(&files, &ImportOptions::new().max_entries(count - 1), ErrorKind::LimitExceeded)?;
    let scratch = Scratch::new();
    let (store, _) = import_with(&scratch, "store", &[archive], &ImportOptions::new().max_entries(count))?;
    let entries = store.layers()?[0].entries;
    // The directories are implied.
    if entries != count + 1000 { fail(format!("{entries} entries of {count}")) } else { Ok(()) }
}

pub(crate) fn names_of_every_kind() -> Result {
    let scratch = Scratch::new();
    let long_path = vec![vec![b'd'; 200]; 18].join(&b'/');
    let byte_name = b"\xff\xfe\x80latin\xe9";
    let mut gnu = Tar::new();
    let long_name = [vec![b'n'; 255]].concat();
    gnu.0.extend_from_slice(header(&entry("././@LongLink", EntryType::GNULongName), 256).as_bytes());
    gnu.content(&[&long_name[..], b"\0"].concat());
    let archive = gnu
        .file("cut off here", b"gnu")
        .file(&[&long_path[..], b"/end"].concat(), b"pax")
        .file(byte_name, b"bytes")
        .file("new\nline, comma:colon\\", b"signs")
        .file("...", b"three")
        .symlink("link", byte_name)
        .end();
    let (store, image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    let path = |bytes: &[u8]| tree.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
    let expected: [(&[u8], &str); 5] = [
        (&long_name, "gnu"),
        (byte_name, "bytes"),
        (b"link", "bytes"),
        (b"new\nline, comma:colon\\", "signs"),
        (b"...", "three"),
    ];
    for (name, content) in expected {
        if fs::read_to_string(path(name))? != content {
            return fail(String::from_utf8_lossy(name));
        }
    }
    // 18 directories, a file in the deepest, four files more and a link.
    let entries = store.layers()?[0].entries;
    if entries != 18 + 1 + 4 + 1 {
        return fail(format!("{entries} entries"));
    }
    expect_intact(&scratch, "store")?;
    // Nobody could remove what is deeper.
    refused(Tar::new().file(&vec!["d"; 300].join("/"), b"").end(), ErrorKind::InvalidImage)?;
    Ok(())
}

pub(crate) fn devices_are_left_out() -> Result {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .dir("dev")
        .add(&Entry { mode: 0o666, ..entry("dev/disk", EntryType::Block) })
        // A character device 0:0 would hide what lower layers have.
        .add(&Entry { mode: 0o666, ..entry("dev/null", EntryType::Char) })
        .add(&Entry { mode: 0o622, ..entry("dev/pipe", EntryType::Fifo) })
        .end();
    let (store, image) = import(&scratch, "store", &[archive])?;
    let layer = &store.layers()?[0];
    let dev = tree_of(&scratch, "store", &image, 0).join("dev");
    let names: Vec<_> = fs::read_dir(&dev)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<_>>()?;
    let pipe = dev.join("pipe").symlink_metadata()?;
    if names != ["pipe"]
        || layer.skipped_devices != 2
        || !pipe.file_type().is_fifo()
        || pipe.mode() & 0o777 != 0o622
    {
        return fail(format!("{names:?} {layer:?} {:o}", pipe.mode()));
    }
    expect_intact(&scratch, "store")
}

/// Attributes that lead overlayfs' lookups elsewhere, or belong to security modules, are not the archive's to set.
pub(crate) fn attributes_that_are_not_the_archives() -> Result {
    let scratch = Scratch::new();
    let pax: Vec<(&str, &[u8])> = vec![
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
        ("SCHILY.xattr.user.kept", b"any\nbytes\0\xff"),
    ];
    let archive = Tar::new()
        .add(&Entry { pax: pax.clone(), ..entry("d", EntryType::Directory) })
        .add(&Entry { pax, ..entry("f", EntryType::Regular) })
        .end();
    let (_, image) = import(&scratch, "store", &[archive])?;
    for name in ["d", "f"] {
        let path = tree_of(&scratch, "store", &image, 0).join(name);
        let found = crate::raw_xattrs(&path)?;
        let expected = vec![("user.kept".to_owned(), b"any\nbytes\0\xff".to_vec())];
        if found != expected {
            return fail(format!("{name}: {found:?}"));
        }
    }
    Ok(())
}

/// The kernel's refusal is the archive's fault, and not a failure of the machine.
pub(crate) fn attributes_that_no_file_can_have() -> Result {
    let scratch = Scratch::new();
    let long = format!("SCHILY.xattr.user.{}", "x".repeat(300));
    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("SCHILY.xattr.user.", b"x".to_vec()),
        (&long, b"x".to_vec()),
        ("SCHILY.xattr.user.a", vec![1; 70_000]),
    ];
    // Others may not set it, and it is left out.
    if nix::unistd::geteuid().is_root() {
        bad.push(("SCHILY.xattr.security.capability", b"none".to_vec()));
    }
    for (number, (name, value)) in bad.iter().enumerate() {
        let pax = vec![(*name, value.as_slice())];
        let archive = Tar::new().add(&Entry { pax, ..entry("f", EntryType::Regular) }).end();
        match import(&scratch, &format!("store{number}"), &[archive]) {
            Err(error) if error.kind() == ErrorKind::InvalidImage && error.path() == Some(Path::new("f")) => {
            }
            other => return fail(format!("{number}: {:?}", other.map(|(_, image)| image))),
        }
    }
    Ok(())
}

pub(crate) fn two_members_of_one_name() -> Result {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .file("a", b"first")
        .hard_link("kept", "a")
        .file("a", b"second")
        .file("d/inside", b"gone")
        .file("d/deep/inside", b"gone too")
        .symlink("s", "a")
        .file("d", b"now a file")
        .dir("a2")
        .file("a2/x", b"1")
        .file("a2/x", b"2")
        .file("s", b"no link any more")
        .file("a", b"third")
        .dir("d")
        .file("d/inside", b"back")
        .end();
    let id = Digest::of(&archive);
    let (_, image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    let expected =
        [("a", "third"), ("kept", "first"), ("d/inside", "back"), ("a2/x", "2"), ("s", "no link any more")];
    for (path, content) in expected {
        if fs::read_to_string(tree.join(path))? != content {
            return fail(format!("{path} is not the last of its name"));
        }
    }
    if tree.join("d/deep").exists() || tree.join("kept").metadata()?.nlink() != 2 {
        return fail("what made way is still there, or a link with it gone");
    }
    // With what made way the archive is still complete.
    assert_eq!(image.layers(), [id]);
    expect_intact(&scratch, "store")
}

/// What replaces other members is written down, and there is an end to it. None of it takes longer than it should.
pub(crate) fn many_members_of_one_name() -> Result {
    let repeated = |path: &[u8], count: usize| (0..count).fold(Tar::new(), |tar, _| tar.file(path, b"x"));
    let long = [vec![vec![b'd'; 200]; 18].join(&b'/'), b"/a".to_vec()].concat();
    refused(repeated(b"a", 10_002).end(), ErrorKind::InvalidImage)?;
    // Each path is written as numbers, of which 320 are more than a record may have.
    refused(repeated(&long, 320).end(), ErrorKind::InvalidImage)?;

    let scratch = Scratch::new();
    // Directories that are replaced, with something in them, and directories that are there over and over.
    let mut tar = Tar::new();
    for number in 0..1000 {
        let name = format!("d{number}");
        tar = tar.dir(&name).file(&format!("{name}/in/side"), name.as_bytes()).file(&name, b"");
        tar = tar.dir("again").dir(&format!("again/{number}"));
    }
    // What makes way with a directory above it, and before and after that on its own.
    tar = tar.file("x/y/z", b"1").file("x/y/z", b"2").file("x/y", b"3").file("x", b"4");
    tar = tar.file("x", b"5").dir("x").file("x/y", b"6").file("x/y", b"7");
    let archive = tar.end();
    let (result, time) = timed(|| -> Result {
        import(&scratch, "store", std::slice::from_ref(&archive))?;
        expect_intact(&scratch, "store")
    });
    result?;
    if time > std::time::Duration::from_secs(30) { fail(format!("it took {time:?}")) } else { Ok(()) }
}

pub(crate) fn set_id_bits_stay() -> Result {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .add(&Entry { mode: 0o6755, ids: (7, 8), content: b"x", ..entry("su", EntryType::Regular) })
        .add(&Entry { mode: 0o3777, ids: (7, 8), ..entry("d", EntryType::Directory) })
        .end();
    let (_, image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    for (path, mode) in [("su", 0o6755), ("d", 0o3777)] {
        let metadata = tree.join(path).metadata()?;
        let root = nix::unistd::geteuid().is_root();
        let ids =
            if root { (7, 8) } else { (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()) };
        if metadata.mode() & 0o7777 != mode || (metadata.uid(), metadata.gid()) != ids {
            return fail(format!("{path}: {:o}, {} {}", metadata.mode(), metadata.uid(), metadata.gid()));
        }
    }
    // Nobody else gets there: a set-user-ID file of another owner would be theirs to run.
    let mode = scratch.join("store/layers").metadata()?.permissions().mode();
    if mode & 0o077 != 0 { fail(format!("the layers have mode {mode:o}")) } else { Ok(()) }
}

/// A good image of one file, to be spoiled.
fn good() -> Files {
    Files::image(&[Tar::new().file("a", b"content").end()], Packing::Gzip)
}

pub(crate) fn digests_that_are_wrong() -> Result {
    // The control: as it is, it is taken.
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    store.import(good().write(&scratch.dir("good"))?, &ImportOptions::new())?;

    let spoil = |name: String, from: &str, to: &str| {
        let mut files = good();
        let bytes = files.0[&name].clone();
        let text = String::from_utf8_lossy(&bytes).replacen(from, to, 1);
        assert_ne!(text.as_bytes(), bytes, "{name} does not have {from}");
        files.0.insert(name, text.into_bytes());
        files
    };
    let is = |word: &'static str| move |_: &str, bytes: &[u8]| String::from_utf8_lossy(bytes).contains(word);
    let config = good().named(is("diff_ids"));
    let manifest = good().named(is("\"layers\":["));
    let blob = good().named(|_, bytes| bytes.starts_with(&[0x1f, 0x8b]));
    let mut cases = vec![
        ("configuration", spoil(config.clone(), "linux", "Linux")),
        ("manifest", spoil(manifest.clone(), "\"schemaVersion\":2", "\"schemaVersion\":3")),
        ("size of the manifest", spoil("index.json".into(), "\"size\":", "\"size\":1")),
        ("digest of the manifest", spoil("index.json".into(), "sha256:", "sha512:")),
    ];
    // A bit of the blob, in its data and in the time of its gzip header, which only the blob's own digest covers.
    for at in [5, good().0[&blob].len() / 2] {
        let mut files = good();
        files.0.get_mut(&blob).expect("it is there")[at] ^= 1;
        cases.push(("blob", files));
    }
    // More than the blob.
    let mut longer = good();
    longer.0.get_mut(&blob).expect("it is there").push(0);
    cases.push(("length of the blob", longer));
    for missing in [&config, &manifest, &blob] {
        let mut files = good();
        files.0.remove(missing);
        cases.push(("missing", files));
    }
    for (name, files) in cases {
        refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)
            .map_err(|error| crate::support::Fail(format!("{name}: {}", error.0)))?;
    }

    // All digests of blobs are right, and the layer is another one: also when the store has the one that is named.
    let secret = Tar::new().file("a", b"content").end();
    let other = Tar::new().file("b", b"other").end();
    let config = crate::archive::config(&[secret], json!({}));
    let lie = Files::layout(&[("lie", config, vec![Packing::Gzip.pack(&other)])]);
    refused_files(&lie, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    match store.import(lie.write(&scratch.dir("lie"))?, &ImportOptions::new()) {
        Err(error) if error.kind() == ErrorKind::InvalidImage => Ok(()),
        other => fail(format!("a layer was given to who does not have it: {other:?}")),
    }
}

pub(crate) fn documents_that_are_none() -> Result {
    let layer = Tar::new().file("a", b"").end();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let good_config = String::from_utf8(crate::archive::config(std::slice::from_ref(&layer), json!({})))
        .expect("it is JSON");
    let configs = [
        String::new(),
        "{}".into(),
        "null".into(),
        deep.clone(),
        "{\"rootfs\":".repeat(100_000),
        good_config.replace("layers", "btrfs"),
        good_config.replace("sha256:", "sha256:../../"),
        good_config.replace("\"diff_ids\":[", "\"diff_ids\":[\"sha256:00\","),
        good_config.replace("\"config\":{}", "\"config\":{\"Env\":7}"),
    ];
    for config in configs {
        let files = Files::layout(&[("x", config.clone().into_bytes(), vec![layer.clone()])]);
        refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)
            .map_err(|error| crate::support::Fail(format!("{:.60}: {}", config, error.0)))?;
    }
    for index in [
        "",
        "[]",
        "{\"schemaVersion\":2}",
        "\u{0}",
        &deep,
        "{\"schemaVersion\":2,\"manifests\":[{\"size\":-1,\"digest\":\"\"}]}",
    ] {
        let mut files = good();
        files.0.insert("index.json".into(), index.as_bytes().to_vec());
        refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
        let mut files = Files::saved(std::slice::from_ref(&layer), json!({}));
        files.0.insert("manifest.json".into(), index.as_bytes().to_vec());
        refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    }
    // Larger than any document is.
    let mut files = good();
    files.0.insert("index.json".into(), vec![b' '; 5 << 20]);
    refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    // An index that leads to itself has a digest that nobody can make; one that leads to many others ends.
    let mut files = good();
    let mut index = files.0["index.json"].clone();
    for _ in 0..8 {
        let digest = Digest::of(&index).to_string();
        files.0.insert(format!("blobs/sha256/{}", &digest[7..]), index.clone());
        let media = "application/vnd.oci.image.index.v1+json";
        let descriptor = json!({ "mediaType": media, "digest": digest, "size": index.len() });
        index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string().into_bytes();
    }
    files.0.insert("index.json".into(), index);
    refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    Ok(())
}

pub(crate) fn layers_that_are_not_counted_right() -> Result {
    let layer = |name: &str| Tar::new().file(name, b"").end();
    let (a, b) = (layer("a"), layer("b"));
    let config = |layers: &[Vec<u8>]| crate::archive::config(layers, json!({}));
    for (configured, blobs) in [
        (vec![a.clone()], vec![a.clone(), b.clone()]),
        (vec![a.clone(), b.clone()], vec![a.clone()]),
        (vec![], vec![a.clone()]),
        (vec![b.clone(), a.clone()], vec![a, b]),
    ] {
        let files = Files::layout(&[("x", config(&configured), blobs)]);
        refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    }
    Ok(())
}

/// The index of an image's archive is in memory, and has no more names than fit.
pub(crate) fn names_without_end() -> Result {
    let mut tar = Tar::new();
    for number in 0..18_000 {
        tar = tar.file(&format!("{number:05}{}", format!("/{}", "n".repeat(255)).repeat(15)), b"");
    }
    let scratch = Scratch::new();
    let path = scratch.file("image.tar", tar.end());
    match LayerStore::open(scratch.join("store"))?.import(path, &ImportOptions::new()) {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

/// Indexes that lead to indexes: what is looked at has an end, whatever the number of ways through them.
pub(crate) fn indexes_without_end() -> Result {
    let kind = "application/vnd.oci.image.index.v1+json";
    // Each level has the next one 60 times, under one name or under as many.
    let levels = |named: bool| {
        let mut files = Files::default();
        let mut bytes = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
        for _ in 0..4 {
            let next = files.blob(bytes.as_bytes());
            let entry = |number: usize| {
                let mut entry = next.clone();
                entry["mediaType"] = json!(kind);
                if named {
                    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": number.to_string() });
                }
                entry
            };
            let manifests: Vec<_> = (0..60).map(entry).collect();
            bytes = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        }
        files.0.insert("index.json".into(), bytes.into_bytes());
        files
    };
    for (named, kind) in [(false, ErrorKind::InvalidImage), (true, ErrorKind::LimitExceeded)] {
        let (result, time) = timed(|| refused_files(&levels(named), &ImportOptions::new(), kind));
        result?;
        if time > std::time::Duration::from_secs(20) {
            return fail(format!("it took {time:?}"));
        }
    }
    // A name that thousands of manifests would inherit.
    let mut files = good();
    let mut index: serde_json::Value = serde_json::from_slice(&files.0["index.json"])?;
    index["manifests"][0]["annotations"] = json!({ "io.containerd.image.name": "n".repeat(5000) });
    files.0.insert("index.json".into(), index.to_string().into_bytes());
    refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
    Ok(())
}

pub(crate) fn archives_that_are_cut_off() -> Result {
    let layer = Tar::new().file("a", &[b'x'; 3000]).file("b", b"y").end();
    let whole = Files::image(std::slice::from_ref(&layer), Packing::Gzip).tar();
    let scratch = Scratch::new();
    let store = LayerStore::open(scratch.join("store"))?;
    // The end itself, two empty blocks, is not needed by anybody.
    for length in (1..whole.len() - 1024).step_by(257).chain([whole.len() - 1025]) {
        let path = scratch.file("cut.tar", &whole[..length]);
        match store.import(&path, &ImportOptions::new()) {
            Err(error) if error.kind() == ErrorKind::InvalidImage => {}
            other => return fail(format!("cut to {length} of {}: {other:?}", whole.len())),
        }
    }
    // The layer itself, with a configuration that agrees.
    for length in (1..layer.len() - 1024).step_by(131).filter(|length| length % 512 != 0) {
        refused(layer[..length].to_vec(), ErrorKind::InvalidImage)?;
    }
    for packing in [Packing::Gzip, Packing::Zstd] {
        let blob = packing.pack(&layer);
        for length in [1, 3, 5, 11, blob.len() / 2, blob.len() - 1] {
            let config = crate::archive::config(std::slice::from_ref(&layer), json!({}));
            let files = Files::layout(&[("x", config, vec![blob[..length].to_vec()])]);
            refused_files(&files, &ImportOptions::new(), ErrorKind::InvalidImage)?;
        }
    }
    store.import(scratch.file("whole.tar", &whole), &ImportOptions::new())?;
    Ok(())
}

/// Archives of images are hostile too: what is in them is looked up nowhere.
pub(crate) fn archives_of_images_that_lead_elsewhere() -> Result {
    let scratch = Scratch::new();
    let layer = Tar::new().file("a", b"secret").end();
    let secret = scratch.file("secret.tar", &layer);
    let files = Files::saved(&[layer], json!({}));
    let blob = files.named(|name, _| name.ends_with("layer.tar"));
    let rest = || {
        files
            .0
            .iter()
            .filter(|(name, _)| **name != blob)
            .fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes))
    };
    let link = secret.to_str().unwrap_or_default();
    let store = LayerStore::open(scratch.join("store"))?;
    let attacks = [
        rest().symlink(&blob, link),
        rest().hard_link(&blob, link),
        rest().symlink(&blob, "../../../../../../secret.tar"),
        rest().symlink(&blob, &format!("../{blob}")),
        rest().symlink(&blob, "../other").symlink("other", &blob),
        rest().dir(&blob),
        rest(),
    ];
    for (number, attack) in attacks.into_iter().enumerate() {
        let path = scratch.file("attack.tar", attack.end());
        match store.import(&path, &ImportOptions::new()) {
            Err(error) if error.kind() == ErrorKind::InvalidImage => {}
            other => return fail(format!("attack {number}: {other:?}")),
        }
    }
    // The same by way of a directory: a symlink is not followed, and a FIFO keeps nobody waiting.
    let dir = files.write(&scratch.dir("image"))?;
    fs::remove_file(dir.join(&blob))?;
    std::os::unix::fs::symlink(&secret, dir.join(&blob))?;
    if store.import(&dir, &ImportOptions::new()).is_ok() {
        return fail("a symlink of an image was followed");
    }
    fs::remove_file(dir.join(&blob))?;
    nix::unistd::mkfifo(&dir.join(&blob), nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    if store.import(&dir, &ImportOptions::new()).is_ok() {
        return fail("a FIFO was taken for a blob");
    }
    // Two members of one name mean different things to different readers.
    let twice = rest().file(&blob, b"x").file(&blob, b"y").end();
    match store.import(scratch.file("twice.tar", twice), &ImportOptions::new()) {
        Err(error) if error.kind() == ErrorKind::InvalidImage => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

/// Whiteouts are about lower layers only, wherever in the archive they are.
pub(crate) fn whiteouts_of_every_kind() -> Result {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .file(".wh.nothing", b"")
        .file("d/.wh..wh..opq", b"")
        .file("d/kept", b"")
        .file("e/before", b"")
        .file(".wh.e", b"")
        .file(".wh.f", b"")
        .file("f/after", b"")
        .file(".wh.g", b"")
        .file("g", b"file")
        .file("h", b"file")
        .file(".wh.h", b"")
        .file(".wh..wh.plnk", b"")
        .file(".wh.i", b"ignored content")
        .dir("i")
        .end();
    let (_, image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    let opaque = |path: &Path| -> Result<bool> {
        Ok(crate::raw_xattrs(path)?
            .iter()
            .any(|(name, value)| name == "user.overlay.opaque" && value == b"y"))
    };
    for name in ["d", "e", "f", "i"] {
        if !opaque(&tree.join(name))? {
            return fail(format!("{name} is not opaque"));
        }
    }
    let hidden = tree.join("nothing").symlink_metadata()?;
    let kept = ["d/kept", "e/before", "f/after", "g", "h"].iter().all(|path| tree.join(path).is_file());
    if !hidden.file_type().is_char_device() || hidden.rdev() != 0 || !kept || opaque(&tree)? {
        return fail("a whiteout is not what it should be");
    }
    if fs::read_dir(&tree)?
        .any(|entry| entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b".wh.")))
    {
        return fail("a whiteout of the archive is in the tree");
    }
    expect_intact(&scratch, "store")
}

/// What a layer says of its files is on disk.
pub(crate) fn everything_is_as_the_archive_says() -> Result<()> {
    let scratch = Scratch::new();
    let archive = Tar::new()
        .add(&Entry { mode: 0o700, mtime: 5, ..entry("./", EntryType::Directory) })
        .add(&Entry { mode: 0o555, mtime: 12345, ids: (3, 4), ..entry("d/", EntryType::Directory) })
        .add(&Entry {
            mode: 0o640,
            mtime: 99,
            ids: (1, 2),
            content: b"x",
            ..entry("d/f", EntryType::Regular)
        })
        .add(&Entry { pax: vec![("mtime", b"-1.5"), ("uid", b"70000")], ..entry("old", EntryType::Regular) })
        .symlink("d/l", "/anywhere/../at all")
        .hard_link("h", "d/f")
        .end();
    let (_, image): (LayerStore, Image) = import(&scratch, "store", &[archive])?;
    let tree = tree_of(&scratch, "store", &image, 0);
    let look = |path: &str| tree.join(path).symlink_metadata();
    let root = nix::unistd::geteuid().is_root();
    let mode = |mode| if root { mode } else { mode | 0o700 };
    let checks = [
        look("")?.mode() & 0o7777 == 0o700 && look("")?.mtime() == 5,
        look("d")?.mode() & 0o7777 == mode(0o555) && look("d")?.mtime() == 12345,
        look("d/f")?.mode() & 0o7777 == 0o640 && look("d/f")?.mtime() == 99,
        look("old")?.mtime() == -2 && look("old")?.mtime_nsec() == 500_000_000,
        fs::read_link(tree.join("d/l"))? == Path::new("/anywhere/../at all"),
        look("h")?.ino() == look("d/f")?.ino(),
        look("d/l")?.mtime() == 1_000_000_000,
        !root || ((look("d/f")?.uid(), look("d/f")?.gid()) == (1, 2) && look("old")?.uid() == 70000),
    ];
    match checks.iter().position(|check| !check) {
        Some(number) => fail(format!("check {number} of what is on disk")),
        None => expect_intact(&scratch, "store"),
    }
}
