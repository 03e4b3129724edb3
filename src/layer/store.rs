//! The store itself: what is in it, and how a layer comes into it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::attributes::Owner;
use super::claim::{Claim, Hold};
use super::digest::{Digest, Hashing};
use super::limits::Budget;
use super::progress::{Listener, Progress};
use super::skeleton::{Moved, SkeletonWriter};
use super::survey::survey;
use super::unpack::Unpacker;
use super::{damaged, dir, reading, refused, storing};
use crate::error::{Error, ErrorKind, Result, Step};

const FORMAT: &[u8] = b"belljar layer store 1\n";
/// Documents of the store, and of images, are smaller.
pub(crate) const LARGEST_DOCUMENT: u64 = 4 << 20;

/// A directory of filesystem layers, each stored once under the SHA-256 digest of its archive, and of images made of
/// them.
///
/// Any number of threads and processes may use one store at once. A layer or an image is there completely or not at
/// all, whenever a process is killed or the power fails; what was half made is removed by [`gc`](LayerStore::gc).
///
/// The store belongs to one user, and nobody else may enter it: it holds files with the owners and set-user-ID bits of
/// hostile images. A store of root's has files with the owners that their archives say, and
/// [`Rootfs`](crate::Rootfs) presents them to each sandbox by an id-mapped mount. In a store of another user everything
/// belongs to that user, who can always read files and change directories. The filesystem must have user extended
/// attributes.
///
/// # Examples
///
/// ```no_run
/// use belljar::{ImportOptions, LayerStore, Sandbox};
///
/// let store = LayerStore::open("/var/lib/judge/layers")?;
/// let image = store.import("debian.tar", &ImportOptions::new())?;
/// let output = Sandbox::new().rootfs(image.rootfs()).output(image.command()?)?;
/// # let _ = output;
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerStore {
    pub(crate) place: Arc<Place>,
    pub(crate) listener: Listener,
}

/// The directories, held open.
#[derive(Debug)]
pub(crate) struct Place {
    /// For overlays, which take paths.
    pub(crate) path: PathBuf,
    pub(crate) layers: OwnedFd,
    pub(crate) images: OwnedFd,
    pub(crate) tmp: OwnedFd,
}

/// A layer of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInfo {
    /// The digest of its uncompressed archive.
    pub id: Digest,
    /// What its files take on disk. A file with several names counts once.
    pub bytes: u64,
    /// Files, directories, links and whiteouts.
    pub entries: u64,
    /// Device nodes of the archive that were left out.
    pub skipped_devices: u64,
    /// Whether the record of these numbers cannot be read, and they are 0 for that. Other damage is found by
    /// [`verify`](LayerStore::verify).
    pub damaged: bool,
    /// The names of the images that it is part of, sorted; with more than one, what it takes is shared.
    pub images: Vec<String>,
}

/// What is kept of a layer beside its files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) skipped_devices: u64,
    /// Of the uncompressed archive.
    pub(crate) archive_bytes: u64,
    pub(crate) tree: String,
    pub(crate) moved: Vec<Moved>,
}

impl LayerStore {
    /// Opens the store in a directory, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if it belongs to another user or others may enter it;
    /// [`Unsupported`](ErrorKind::Unsupported) if it is of another version of this crate.
    ///
    /// # Examples
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("belljar-doc-{}", std::process::id()));
    /// let store = belljar::LayerStore::open(&dir)?;
    /// assert!(store.layers()?.is_empty());
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let failed = |error: io::Error| {
            Error::os(Step::Store, format!("opening the store {}", dir.display()), error).with_path(dir)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let path = dir.canonicalize().map_err(failed)?;
        let root = OwnedFd::from(std::fs::File::open(&path).map_err(failed)?);
        // Who may write to it could put other directories in the place of those that are checked below.
        check_private(&root).map_err(|error| error.with_path(dir))?;
        let open = |name| private_dir(root.as_fd(), Path::new(name)).map_err(|error| error.with_path(dir));
        let place = Place { layers: open("layers")?, images: open("images")?, tmp: open("tmp")?, path };
        check_format(root.as_fd(), &place).map_err(|error| error.with_path(dir))?;
        Ok(Self { place: Arc::new(place), listener: Listener::default() })
    }

    /// Tells how far imports, exports and collections through this value have come. Called often, and by several
    /// threads at once, which wait for it.
    #[must_use]
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// All layers, sorted by id.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or an image in it is damaged.
    pub fn layers(&self) -> Result<Vec<LayerInfo>> {
        let images = self.records()?;
        let mut layers = Vec::new();
        for id in self.ids()? {
            // Another process may have removed it meanwhile.
            let Some(_hold) = Hold::share(self.place.layers.as_fd(), &id.hex())? else { continue };
            // One damaged layer must not hide the others.
            let record = match self.record(&id) {
                Ok(record) => Some(record),
                Err(error) if error.kind() == ErrorKind::InvalidImage => None,
                Err(error) => return Err(error),
            };
            let number = |of: fn(&LayerRecord) -> u64| record.as_ref().map_or(0, of);
            let users = images.iter().filter(|image| image.layers.contains(&id));
            layers.push(LayerInfo {
                id,
                bytes: number(|record| record.bytes),
                entries: number(|record| record.entries),
                skipped_devices: number(|record| record.skipped_devices),
                damaged: record.is_none(),
                images: users.map(|image| image.name.clone()).collect(),
            });
        }
        Ok(layers)
    }

    /// The ids of all layers, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<Digest>> {
        let names = dir::names(self.place.layers.as_fd())
            .map_err(|errno| storing("listing the layers of the store")(errno.into()))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name.to_str()?)).collect())
    }

    pub(crate) fn record(&self, id: &Digest) -> Result<LayerRecord> {
        let path = Path::new(&id.hex()).join("layer.json");
        let bytes = dir::read_file(self.place.layers.as_fd(), &path, LARGEST_DOCUMENT)
            .map_err(|error| damaged(format!("the record of layer {id} cannot be read: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|_| damaged(format!("the record of layer {id} is damaged")))
    }

    /// Where a layer's files are.
    pub(crate) fn tree_path(&self, id: &Digest) -> PathBuf {
        self.place.path.join("layers").join(id.hex()).join("tree")
    }

    /// Opens a part of a layer.
    pub(crate) fn open_part(&self, id: &Digest, part: &str) -> Result<OwnedFd> {
        dir::open_dir(self.place.layers.as_fd(), &Path::new(&id.hex()).join(part))
            .map_err(|errno| damaged(format!("the part {part} of layer {id} cannot be opened: {errno}")))
    }

    pub(crate) fn skeleton(&self, id: &Digest) -> Result<std::fs::File> {
        dir::open_file(self.place.layers.as_fd(), &Path::new(&id.hex()).join("skeleton.gz"))
            .map_err(|error| damaged(format!("the skeleton of layer {id} cannot be read: {error}")))
    }

    /// Writes the archive of a layer, and checks that it is the layer's.
    pub(crate) fn write_archive(&self, id: &Digest, out: &mut impl io::Write) -> Result<()> {
        let record = self.record(id)?;
        let (tree, spare) = (self.open_part(id, "tree")?, self.open_part(id, "spare")?);
        let mut hashing = Hashing::new(out);
        super::skeleton::rebuild(
            self.skeleton(id)?,
            &record.moved,
            tree.as_fd(),
            spare.as_fd(),
            &mut hashing,
        )?;
        let (_, digest, _) = hashing.finish();
        if digest != *id {
            return Err(damaged(format!(
                "the files of layer {id} have changed: its archive is {digest} now"
            )));
        }
        Ok(())
    }

    /// Brings a layer into the store, if it is not there already.
    ///
    /// The archive is read to its end in either case, so that who names a layer must have it.
    pub(crate) fn bring<R: Read>(
        &self,
        id: &Digest,
        stream: R,
        budget: &Budget,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Unpacked<R>> {
        let name = id.hex();
        // One process unpacks it, the others wait and find it there.
        let claim = Claim::wait(self.place.tmp.as_fd(), &name)?;
        let mut stream = Hashing::new(stream);
        if let Some(hold) = Hold::share(self.place.layers.as_fd(), &name)? {
            drop(claim);
            drain(&mut stream, budget, go_on)?;
            let (stream, digest, _) = stream.finish();
            check_id(id, &digest)?;
            return Ok(Unpacked { stream, hold });
        }
        let made = claim.make_dir()?;
        let stream = unpack(&made, stream, id, budget, go_on)?;
        // Shared before anybody can see it, so that no collector takes it before there is an image that uses it.
        let hold = Hold::made(made.try_clone().map_err(storing("locking a layer"))?)?;
        self.publish(&claim, &made, &name)?;
        Ok(Unpacked { stream, hold })
    }

    /// Makes a complete layer visible.
    fn publish(&self, claim: &Claim, made: &OwnedFd, name: &str) -> Result<()> {
        let failed = || storing("writing a layer to disk");
        nix::unistd::syncfs(made).map_err(|errno| failed()(errno.into()))?;
        let layers = &self.place.layers;
        renameat2(claim.tmp(), claim.name(), layers, name, RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| failed()(errno.into()))?;
        dir::sync(layers).map_err(failed())
    }
}

/// Unpacks an archive into a new directory, with everything that belongs to a layer.
fn unpack<R: Read>(
    made: &OwnedFd,
    stream: Hashing<R>,
    id: &Digest,
    budget: &Budget,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<R> {
    let failed = || storing("making a layer");
    let make = |name: &str, mode| {
        mkdirat(made, name, Mode::from_bits_truncate(0o700))?;
        let fd = dir::open_dir(made.as_fd(), Path::new(name))?;
        nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(mode))?;
        Ok(fd)
    };
    // An archive need not say what its root is like.
    let tree: OwnedFd = make("tree", 0o755).map_err(|errno: Errno| failed()(errno.into()))?;
    let spare: OwnedFd = make("spare", 0o700).map_err(|errno: Errno| failed()(errno.into()))?;
    let skeleton = dir::create_file(made.as_fd(), Path::new("skeleton.gz"), Mode::from_bits_truncate(0o600))
        .map_err(|errno| failed()(errno.into()))?;

    let archive = Archive::new(stream, SkeletonWriter::new(skeleton), budget);
    let own = tree.try_clone().map_err(failed())?;
    let (stream, skeleton, counts) =
        Unpacker::new(archive, own, spare, Owner::of_this_process()).run(go_on)?;
    let moved = skeleton.finish()?;
    let (stream, digest, archive_bytes) = stream.finish();
    check_id(id, &digest)?;

    let survey = survey(tree.as_fd())?;
    let record = LayerRecord {
        bytes: survey.bytes,
        entries: survey.entries,
        skipped_devices: counts.devices,
        archive_bytes,
        tree: survey.digest.hex(),
        moved,
    };
    let document = serde_json::to_vec(&record)
        .map_err(|_| Error::internal(Step::Store, "a layer's record cannot be written as JSON"))?;
    // Nobody could read it again.
    if document.len() as u64 > LARGEST_DOCUMENT {
        return Err(refused("the names of members that replace another one are too long together")
            .with_hint("make the archive anew instead of appending to it"));
    }
    dir::write_file(made.as_fd(), Path::new("layer.json"), &document).map_err(failed())?;
    Ok(stream)
}

/// A layer that came into the store, or was there.
pub(crate) struct Unpacked<R> {
    /// What it was read from, at its end.
    pub(crate) stream: R,
    pub(crate) hold: Hold,
}

fn check_id(id: &Digest, digest: &Digest) -> Result<()> {
    match id == digest {
        true => Ok(()),
        false => Err(refused(format!("the layer {id} is {digest} when it is unpacked"))),
    }
}

/// Reads an archive without unpacking it.
fn drain(stream: &mut impl Read, budget: &Budget, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        go_on()?;
        match stream.read(&mut buffer).map_err(reading)? {
            0 => return Ok(()),
            length => budget.take_bytes(length as u64)?,
        }
    }
}

/// Makes or opens a directory that only this user may enter.
fn private_dir(root: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let failed = |errno: Errno| storing("opening a directory of the store")(errno.into());
    match mkdirat(root, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let fd = dir::open_dir(root, name).map_err(failed)?;
    check_private(&fd)?;
    Ok(fd)
}

/// Fails if a directory belongs to another user, or others may enter it.
fn check_private(fd: &OwnedFd) -> Result<()> {
    let stat = fstat(fd).map_err(|errno| storing("looking at a directory of the store")(errno.into()))?;
    if stat.st_uid != nix::unistd::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(Error::message(
            ErrorKind::PermissionDenied,
            Step::Store,
            "the store belongs to another user, or others may enter it",
        )
        .with_hint("use a store of this user's own, whose directories have mode 700"));
    }
    Ok(())
}

fn check_format(root: BorrowedFd<'_>, place: &Place) -> Result<()> {
    let name = Path::new("format");
    let read = || dir::read_file(root, name, 100);
    let found = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let claim = Claim::wait(place.tmp.as_fd(), "format")?;
            dir::write_file(place.tmp.as_fd(), claim.name(), FORMAT).map_err(storing("making a store"))?;
            renameat2(&place.tmp, claim.name(), root, name, RenameFlags::empty())
                .map_err(|errno| storing("making a store")(errno.into()))?;
            read()
        }
        found => found,
    };
    if found.map_err(storing("reading the store's format"))? != FORMAT {
        return Err(Error::message(
            ErrorKind::Unsupported,
            Step::Store,
            "the store was made by another version of belljar",
        )
        .with_hint("use another directory, and import the images again"));
    }
    Ok(())
}
