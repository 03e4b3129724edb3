//! Bringing an image into the store.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::decode::Decoder;
use super::platform::Platform;
use super::select::{self, FoundLayer};
use super::source::{Source, missing};
use super::{Holds, Image};
use crate::error::{Error, Result, Step};
use crate::layer::{Budget, Hashing, Hold, LayerStore, Listener, Progress, reading, refused};
use crate::limits::Bytes;

/// What to import of an archive or a directory, and how much at most.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, ImportOptions};
///
/// let options = ImportOptions::new().name("judge/python").max_bytes(Bytes::gib(4)).max_entries(200_000);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImportOptions {
    pub(crate) name: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) platform: Option<Platform>,
    max_bytes: Bytes,
    max_entries: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ImportOptions {
    /// The only image of the source, for this machine, under its own name: at most 32 GiB and two million entries.
    pub fn new() -> Self {
        Self {
            name: None,
            reference: None,
            platform: None,
            max_bytes: Bytes::gib(32),
            max_entries: 2_000_000,
        }
    }

    /// The name that the image gets in the store, instead of that in the source or, if there is none, that of the
    /// file. An image that has the name already is replaced.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Which image is meant, if the source has several: its name there.
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// For which machine; for the one that this program was compiled for by default.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// To how many bytes the layers may unpack together, holes included.
    pub fn max_bytes(mut self, max: impl Into<Bytes>) -> Self {
        self.max_bytes = max.into();
        self
    }

    /// How many files, directories and links the layers may have together.
    pub fn max_entries(mut self, max: u64) -> Self {
        self.max_entries = max;
        self
    }

    pub(crate) fn wanted_platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::this_machine)
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.max_bytes.get(), self.max_entries)
    }
}

impl LayerStore {
    /// Brings an image into the store: an OCI image layout, as a directory or a tar archive, or an archive of `docker
    /// save`; an archive may be compressed. Layers may be plain, gzip or zstd.
    ///
    /// Every digest that the source names is checked: of manifests, configuration, blobs, and of each layer when it is
    /// unpacked, also of those that the store has already. Nothing is written outside the store, whatever an archive
    /// says; members that only an attack has are errors.
    ///
    /// - As root, files get the owners of the archive; for another user everything is the caller's own, who can always
    ///   read files and change directories.
    /// - Device nodes are left out and counted. Set-ID bits stay and gain nothing in a sandbox.
    /// - Of the extended attributes those named `user.` stay, but for overlayfs' own, and as root file capabilities.
    ///
    /// Nothing of an image that fails is visible; [`gc`](LayerStore::gc) removes layers of it that were complete.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage) for what is damaged, wrong or hostile, with the path in the
    /// layer; [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for what is too large;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if there is nothing for the platform;
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if several images could be meant.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{ImportOptions, LayerStore};
    ///
    /// let store = LayerStore::open("/var/lib/judge/layers")?;
    /// let image = store.import("python.tar", &ImportOptions::new().name("python"))?;
    /// println!("{} of {} layers", image.id(), image.layers().len());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn import(&self, path: impl AsRef<Path>, options: &ImportOptions) -> Result<Image> {
        let path = path.as_ref();
        let budget = options.budget();
        let source = Source::open(path, &self.place.tmp, &budget)?;
        let found = select::find(&source, options)?;
        let file_name = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = options.name.clone().or(found.name).or_else(file_name).unwrap_or_default();
        super::record::check_name(&name)?;

        let holds = Import { store: self, source: &source, layers: &found.layers, budget: &budget }.run()?;
        self.save_image(&name, &found.config)?;
        Image::new(self, name, found.config, holds)
    }
}

struct Import<'a> {
    store: &'a LayerStore,
    source: &'a Source,
    layers: &'a [FoundLayer],
    budget: &'a Budget,
}

impl Import<'_> {
    /// Brings all layers in, as many at once as there are processors.
    fn run(&self) -> Result<Holds> {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let results = in_parallel(workers, self.layers.len(), |number, stop| {
            self.layer(number, stop).map_err(|error| match error.path() {
                Some(_) => error,
                None => error.with_path(&self.layers[number].blob),
            })
        })?;
        Ok(self.layers.iter().map(|layer| layer.id).zip(results.into_iter().map(Arc::new)).collect())
    }

    fn layer(&self, number: usize, stop: &AtomicBool) -> Result<Hold> {
        let layer = &self.layers[number];
        let blob = self.source.blob(&layer.blob)?.ok_or_else(|| missing(&layer.blob))?;
        if let Some(size) = layer.size.filter(|size| *size != blob.len()) {
            return Err(refused(format!("a layer has {} bytes, and {size} are announced", blob.len())));
        }
        let watched = Watched {
            total: blob.len(),
            inner: blob,
            layer: number + 1,
            layers: self.layers.len(),
            done: 0,
            told: 0,
            listener: &self.store.listener,
        };
        let stream = Decoder::new(BufReader::with_capacity(1 << 16, Hashing::new(watched)))?;
        let go_on = || match stop.load(Ordering::Relaxed) {
            true => Err(Error::internal(Step::Image, "another layer has failed")),
            false => Ok(()),
        };
        let brought = self.store.bring(&layer.id, stream, self.budget, &go_on)?;
        // What the decoder did not need has a part in the blob's digest.
        let mut rest = brought.stream.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(reading)?;
        let (_, digest, _) = rest.into_inner().finish();
        match layer.digest {
            Some(wanted) if wanted != digest => {
                Err(refused(format!("the blob of a layer should be {wanted} and is {digest}")))
            }
            _ => Ok(brought.hold),
        }
    }
}

/// Does numbered work in threads, and returns what came of it in order, or the first failure.
pub(crate) fn in_parallel<T: Send>(
    workers: usize,
    count: usize,
    work: impl Fn(usize, &AtomicBool) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let worker = || {
            let mut own = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                match work(number, &stop) {
                    Ok(result) => own.push((number, result)),
                    Err(error) => {
                        // The others fail because this one did.
                        if !stop.swap(true, Ordering::Relaxed) {
                            *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                        }
                    }
                }
            }
            own
        };
        let threads: Vec<_> = (0..workers.clamp(1, count.max(1))).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// A stream that tells how far it was read.
struct Watched<'a, R> {
    inner: R,
    layer: usize,
    layers: usize,
    done: u64,
    told: u64,
    total: u64,
    listener: &'a Listener,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        /// Bytes between two calls.
        const STEP: u64 = 1 << 20;
        let length = self.inner.read(buffer)?;
        self.done += length as u64;
        if self.done - self.told >= STEP || (length == 0 && self.told < self.done) {
            self.told = self.done;
            let (layer, layers, done, total) = (self.layer, self.layers, self.done, self.total);
            self.listener.tell(Progress::Importing { layer, layers, done, total });
        }
        Ok(length)
    }
}
