//! Images whose bytes are an enemy's: nothing outside the store is touched, and what comes in is what was said.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{check_error, tar_text};
use crate::image::fuzzing::Decoder;
use crate::layer::Digest;
use crate::{Bytes, ErrorKind, ImportOptions, LayerStore, removal};

/// What one input may unpack to.
const MOST_BYTES: u64 = 4 << 20;
const MOST_ENTRIES: u64 = 500;

/// The first byte of an input: what the rest is.
pub(super) mod form {
    /// A layer, in the short form of [`tar_text`](super::tar_text), in an image that is right.
    pub(in crate::fuzzing) const LAYER: u8 = 0;
    /// The archive of an image, as it is.
    pub(in crate::fuzzing) const ARCHIVE: u8 = 1;
    /// The archive of an image, in the short form.
    pub(in crate::fuzzing) const MEMBERS: u8 = 2;
    /// The blob of a layer, compressed or not, as it is.
    #[cfg(test)]
    pub(in crate::fuzzing) const BLOB: u8 = 3;
    /// Index, manifest and configuration of a layout, with a NUL byte between them. `$x` stands for a digest and `#x` for
    /// a length: of the manifest (`m`), the configuration (`c`), the layer (`l`).
    pub(in crate::fuzzing) const DOCUMENTS: u8 = 4;
    pub(in crate::fuzzing) const COUNT: u8 = 5;
}

/// Imports the input into a new store, which is removed again.
pub fn image(data: &[u8]) {
    is_imported(data);
}

/// Whether it is an image.
pub(super) fn is_imported(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    let place = Place::new();
    let outside = place.outside();
    let source = place.dir.join("image");
    match first % form::COUNT {
        form::LAYER => saved(&source, &tar_text::archive(rest, outside.as_os_str().as_bytes()), None),
        form::ARCHIVE => fs::write(&source, rest).expect("the image can be written"),
        form::MEMBERS => {
            let archive = tar_text::archive(rest, outside.as_os_str().as_bytes());
            fs::write(&source, archive).expect("the image can be written");
        }
        form::DOCUMENTS => documents(&source, rest),
        _ => {
            let mut layer = Vec::new();
            // What cannot be read has no digest that could be right.
            if let Ok(decoder) = Decoder::new(BufReader::new(rest)) {
                decoder.take(MOST_BYTES).read_to_end(&mut layer).ok();
            }
            saved(&source, &layer, Some(rest));
        }
    }
    let before = place.state();
    let is_image = import(&place, &source);
    assert_eq!(place.state(), before, "something outside the store was touched");
    is_image
}

fn import(place: &Place, source: &Path) -> bool {
    let path = place.dir.join("store");
    let store = LayerStore::open(&path).expect("a store can be made");
    let options = ImportOptions::new().max_bytes(Bytes::from(MOST_BYTES)).max_entries(MOST_ENTRIES);
    let imported = store.import(source, &options);
    let is_image = imported.is_ok();
    let damages = store.verify().expect("the store can be read");
    assert!(damages.is_empty(), "what is in the store is not what came in: {damages:?}");
    match imported {
        Ok(image) => {
            assert_eq!(
                image.layers().iter().collect::<std::collections::HashSet<_>>().len(),
                store.ids().expect("ids").len()
            );
            for error in [image.command().err(), image.user().err()].into_iter().flatten() {
                check_error(&error);
            }
            let _ = (image.rootfs(), image.platform().to_string());
            let name = image.name().to_owned();
            drop(image);
            let image = store.image(&name).expect("an image that was imported can be opened");
            drop(image);
            store.remove_image(&name).expect("an image can be removed");
        }
        Err(error) => {
            check_error(&error);
            let kind = error.kind();
            let is_documented = matches!(
                kind,
                ErrorKind::InvalidImage
                    | ErrorKind::LimitExceeded
                    | ErrorKind::Unsupported
                    | ErrorKind::InvalidConfig
            );
            // The machine may not have what an archive wants, and the error then says so.
            assert!(
                is_documented || error.hint().is_some(),
                "an archive is no failure of the machine: {error:?}"
            );
        }
    }
    // A process that another test starts at this moment has a copy of every lock until it executes its program.
    let is_empty = || {
        store.gc().expect("garbage can be collected");
        let half_made = fs::read_dir(path.join("tmp")).expect("a directory").count();
        store.ids().expect("ids").len() + half_made == 0
    };
    let waited = |_| {
        is_empty() || {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
    };
    assert!((0..10_000).any(waited), "layers without an image stay, or what was half made");
    is_image
}

/// An image of one layer, as `docker save` writes it. `blob` is what is there for the layer, if not the layer itself.
fn saved(source: &Path, layer: &[u8], blob: Option<&[u8]>) {
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(layer)
    );
    let config = config.replace("amd64", &crate::Platform::this_machine().architecture);
    let manifest = br#"[{"Config":"config","RepoTags":["fuzzed:1"],"Layers":["layer"]}]"#;
    write(source, "manifest.json", manifest);
    write(source, "config", config.as_bytes());
    write(source, "layer", blob.unwrap_or(layer));
}

/// A layout of three documents and an empty layer.
fn documents(source: &Path, data: &[u8]) {
    let layer = [0; 1024];
    let mut known = vec![(b'l', Digest::of(&layer), layer.len())];
    let parts: Vec<_> = data.splitn(3, |byte| *byte == 0).collect();
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let blob = |bytes: &[u8]| write(source, &format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
    blob(&layer);
    for (name, document) in [(b'c', part(2)), (b'm', part(1))] {
        let document = filled_in(document, &known);
        blob(&document);
        known.push((name, Digest::of(&document), document.len()));
    }
    write(source, "index.json", &filled_in(part(0), &known));
    write(source, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
}

fn filled_in(document: &[u8], known: &[(u8, Digest, usize)]) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = document;
    while let Some((first, tail)) = rest.split_first() {
        let of = tail.first().and_then(|name| known.iter().find(|(known, ..)| known == name));
        rest = match (first, of) {
            (b'$', Some((_, digest, _))) => {
                filled.extend_from_slice(digest.to_string().as_bytes());
                &tail[1..]
            }
            (b'#', Some((_, _, length))) => {
                filled.extend_from_slice(length.to_string().as_bytes());
                &tail[1..]
            }
            _ => {
                filled.push(*first);
                tail
            }
        };
    }
    filled
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("it is below a directory")).expect("a directory can be made");
    fs::write(path, bytes).expect("a file can be written");
}

/// A directory of this run, with victims beside the store.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("belljar-fuzz-{}-{run}", std::process::id()));
        let place = Self { dir };
        write(&place.outside(), "victim", b"untouched");
        write(&place.outside(), "victims/one", b"untouched");
        place
    }

    fn outside(&self) -> PathBuf {
        self.dir.join("outside")
    }

    /// Everything that is there but the store: path, mode, owner, links, time of the last change, content.
    fn state(&self) -> Vec<(PathBuf, [u64; 6], Option<Vec<u8>>)> {
        let mut state = Vec::new();
        let mut left = vec![self.dir.join("image"), self.outside()];
        let top = fs::read_dir(&self.dir).expect("a directory").flatten().map(|entry| entry.path());
        left.extend(top.filter(|path| !path.ends_with("store") && !left.contains(path)).collect::<Vec<_>>());
        while let Some(path) = left.pop() {
            let Ok(stat) = path.symlink_metadata() else { continue };
            let content = stat.is_file().then(|| fs::read(&path).expect("a file"));
            if stat.is_dir() {
                left.extend(fs::read_dir(&path).expect("a directory").flatten().map(|entry| entry.path()));
            }
            let [mode, uid, gid] = [stat.mode(), stat.uid(), stat.gid()].map(u64::from);
            let [seconds, nanos] = [stat.ctime(), stat.ctime_nsec()].map(i64::unsigned_abs);
            state.push((path, [mode, uid, gid, stat.nlink(), seconds, nanos], content));
        }
        state.sort();
        state
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parent = self.dir.parent().expect("it is below a directory");
        let removed = File::open(parent)
            .and_then(|parent| removal::remove(parent.as_fd(), self.dir.file_name().expect("a name")));
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_outside_shows() {
        let attacks: [fn(&Place); 4] = [
            |place| fs::write(place.outside().join("victim"), "touched").unwrap(),
            |place| fs::remove_file(place.outside().join("victims/one")).unwrap(),
            |place| write(&place.dir, "new", b""),
            |place| fs::hard_link(place.outside().join("victim"), place.dir.join("store")).unwrap(),
        ];
        for attack in attacks {
            let place = Place::new();
            let before = place.state();
            assert_eq!(place.state(), before);
            attack(&place);
            assert_ne!(place.state(), before);
        }
    }
}
