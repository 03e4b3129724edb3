//! Writing an image for other tools.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};

use super::Image;
use super::build::unique;
use super::document::{self, CONFIG, Descriptor, INDEX, Index, LAYER, MANIFEST, Manifest, REFERENCE};
use super::import::in_parallel;
use crate::error::{Error, Result, Step};
use crate::layer::{Digest, Hashing, LayerStore, Listener, Progress, dir};

impl LayerStore {
    /// Writes an image as an OCI image layout: a new directory, with layers compressed by gzip, that other tools read.
    ///
    /// Every layer is checked meanwhile. Layers and configuration are byte for byte those that were imported, so the
    /// image has the same id everywhere. The directory appears by rename when it is complete and on disk.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) if there is something at the path already; an error of kind
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage) and step [`Store`](crate::Step::Store) if a layer is damaged;
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for an image of another store.
    pub fn export(&self, image: &Image, path: impl AsRef<Path>) -> Result<()> {
        image.belongs_to(self)?;
        let path = path.as_ref();
        let failed = |error: io::Error| {
            Error::os(Step::Image, format!("writing {}", path.display()), error).with_path(path)
        };
        let name = path.file_name().ok_or_else(|| failed(nix::errno::Errno::EINVAL.into()))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{}", std::process::id(), unique()));
        let half = HalfMade(path.with_file_name(hidden));
        std::fs::create_dir(&half.0).map_err(failed)?;
        let root = OwnedFd::from(std::fs::File::open(&half.0).map_err(failed)?);

        Layout { store: self, root: &root, image }.write()?;
        nix::unistd::syncfs(&root).map_err(|errno| failed(errno.into()))?;
        renameat2(AT_FDCWD, &half.0, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| failed(errno.into()))
    }
}

/// A directory that is gone if it was not renamed.
struct HalfMade(std::path::PathBuf);

impl Drop for HalfMade {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

struct Layout<'a> {
    store: &'a LayerStore,
    root: &'a OwnedFd,
    image: &'a Image,
}

impl Layout<'_> {
    fn write(&self) -> Result<()> {
        let make = |name: &str| {
            mkdirat(self.root, name, Mode::from_bits_truncate(0o777)).map_err(|errno| failed(errno.into()))
        };
        make("blobs")?;
        make("blobs/sha256")?;
        let blobs = dir::open_dir(self.root.as_fd(), Path::new("blobs/sha256"))
            .map_err(|errno| failed(errno.into()))?;

        let mut unique: Vec<Digest> = self.image.layers().to_vec();
        unique.sort();
        unique.dedup();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let written = in_parallel(workers, unique.len(), |number, _| {
            self.layer(&blobs, &unique[number], number + 1, unique.len())
        })?;
        let layer_of = |id: &Digest| written[unique.binary_search(id).unwrap_or(0)].clone();
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.into(),
            config: self.blob(&blobs, &self.image.config, CONFIG)?,
            layers: self.image.layers().iter().map(layer_of).collect(),
        };
        let mut manifest = self.blob(&blobs, &document::write(&manifest)?, MANIFEST)?;
        manifest.platform = Some(self.image.platform().clone());
        manifest.annotations = Some(BTreeMap::from([(REFERENCE.into(), self.image.name().into())]));
        let index = Index { schema_version: 2, media_type: INDEX.into(), manifests: vec![manifest] };
        write_file(self.root, Path::new("index.json"), &document::write(&index)?)?;
        write_file(self.root, Path::new("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn layer(&self, blobs: &OwnedFd, id: &Digest, layer: usize, layers: usize) -> Result<Descriptor> {
        let temporary = format!("layer-{layer}");
        let file = dir::create_file(blobs.as_fd(), Path::new(&temporary), Mode::from_bits_truncate(0o666))
            .map_err(|errno| failed(errno.into()))?;
        let out = Hashing::new(BufWriter::with_capacity(1 << 18, file));
        let mut watched = Watched {
            inner: GzEncoder::new(out, Compression::default()),
            layer,
            layers,
            done: 0,
            told: 0,
            total: self.store.record(id)?.archive_bytes,
            listener: &self.store.listener,
        };
        self.store.write_archive(id, &mut watched)?;
        let (out, digest, size) = watched.inner.finish().map_err(failed)?.finish();
        out.into_inner().map_err(|error| failed(error.into_error()))?;
        renameat2(blobs, temporary.as_str(), blobs, digest.hex().as_str(), RenameFlags::RENAME_NOREPLACE)
            .map_err(|errno| failed(errno.into()))?;
        Ok(describe(digest, size, LAYER))
    }

    fn blob(&self, blobs: &OwnedFd, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        write_file(blobs, Path::new(&digest.hex()), bytes)?;
        Ok(describe(digest, bytes.len() as u64, media_type))
    }
}

fn write_file(dir: &OwnedFd, name: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = dir::create_file(dir.as_fd(), name, Mode::from_bits_truncate(0o666))
        .map_err(|errno| failed(errno.into()))?;
    file.write_all(bytes).map_err(failed)
}

fn describe(digest: Digest, size: u64, media_type: &str) -> Descriptor {
    let (media_type, digest) = (media_type.to_owned(), digest.to_string());
    Descriptor { media_type, digest, size, platform: None, annotations: None }
}

fn failed(error: io::Error) -> Error {
    Error::os(Step::Image, "writing an image layout", error)
}

/// A stream that tells how much was written to it.
struct Watched<'a, W> {
    inner: W,
    layer: usize,
    layers: usize,
    done: u64,
    told: u64,
    total: u64,
    listener: &'a Listener,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        /// Bytes between two calls.
        const STEP: u64 = 1 << 20;
        let length = self.inner.write(buffer)?;
        self.done += length as u64;
        if self.done - self.told >= STEP || (self.done == self.total && self.told < self.total) {
            self.told = self.done;
            let (layer, layers, done, total) = (self.layer, self.layers, self.done, self.total);
            self.listener.tell(Progress::Exporting { layer, layers, done, total });
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
