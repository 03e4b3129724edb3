//! Making an image of layers and a configuration.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::document;
use super::import::ImportOptions;
use super::pack::Packer;
use super::platform::Platform;
use super::select::{MOST_LAYERS, too_many_layers};
use super::{Holds, Image, record};
use crate::changes::{Change, View};
use crate::error::{Error, Result, Step};
use crate::layer::{Budget, Digest, Hashing, LayerStore, storing};
use crate::limits::Bytes;

/// A new image: another one with more layers on top, or one from nothing.
///
/// # Examples
///
/// ```no_run
/// use belljar::{ImageBuilder, LayerStore};
///
/// let store = LayerStore::open("/var/lib/judge/layers")?;
/// let base = store.image("debian:12")?;
/// // What a sandbox has written to its upper directory becomes a layer.
/// let builder = ImageBuilder::on(&base).layer("/srv/build/upper").cmd(["/usr/bin/judge", "--serve"]);
/// let image = store.build("judge:1", &builder)?;
/// store.export(&image, "/srv/build/judge-1.oci")?;
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImageBuilder {
    config: Value,
    holds: Holds,
    ids: Vec<Digest>,
    base: Option<Image>,
    layers: Vec<PathBuf>,
    limits: ImportOptions,
}

impl ImageBuilder {
    /// With the layers and the configuration of another image, whatever is in it.
    pub fn on(base: &Image) -> Self {
        let mut builder = Self::empty(base.platform());
        // It was read before, so it is JSON.
        builder.config = serde_json::from_slice(&base.config).unwrap_or(builder.config);
        builder.ids.extend_from_slice(base.layers());
        builder.holds.clone_from(&base.holds);
        builder.base = Some(base.clone());
        builder
    }

    /// With nothing.
    pub fn empty(platform: &Platform) -> Self {
        let mut config = json!({ "os": platform.os, "architecture": platform.architecture });
        if let Some(variant) = &platform.variant {
            config["variant"] = json!(variant);
        }
        Self {
            config,
            holds: Holds::new(),
            ids: Vec::new(),
            base: None,
            layers: Vec::new(),
            limits: ImportOptions::new(),
        }
    }

    /// Adds a layer on top: what is in a directory. In an upper directory of an overlay, deleted files and opaque
    /// directories are those of the layer; of attributes those stay that an [import](LayerStore::import) keeps.
    /// Sockets and devices are left out. [`Container::commit`](crate::Container::commit) and
    /// [`Rootfs::commit`](crate::Rootfs::commit) leave out what overlayfs has copied for nothing, too.
    ///
    /// Nothing should write to the directory meanwhile; a file that changes is an error. As root, files keep
    /// their owners; those of another user belong to 0 in the image.
    pub fn layer(mut self, dir: impl Into<PathBuf>) -> Self {
        self.layers.push(dir.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let start = format!("{}=", key.as_ref());
        let mut variables = match self.config["config"]["Env"].take() {
            Value::Array(variables) => variables,
            _ => Vec::new(),
        };
        variables.retain(|variable| !variable.as_str().is_some_and(|set| set.starts_with(&start)));
        variables.push(json!(format!("{start}{}", value.as_ref())));
        self.set("Env", Value::Array(variables))
    }

    /// Sets the program that is always run, with its first arguments.
    pub fn entrypoint<T: Into<String>>(self, words: impl IntoIterator<Item = T>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.set("Entrypoint", json!(words))
    }

    /// Sets the arguments of the entry point; without one, the program and its arguments.
    pub fn cmd<T: Into<String>>(self, words: impl IntoIterator<Item = T>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.set("Cmd", json!(words))
    }

    /// Sets the working directory.
    pub fn working_dir(self, dir: impl Into<String>) -> Self {
        self.set("WorkingDir", json!(dir.into()))
    }

    /// Sets the user: `user` or `user:group`, by name or number.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.set("User", json!(user.into()))
    }

    /// How many bytes the archives of the new layers may have together, holes included; 32 GiB by default.
    pub fn max_bytes(mut self, max: impl Into<Bytes>) -> Self {
        self.limits = self.limits.max_bytes(max);
        self
    }

    /// How many entries the new layers may have together; two million by default.
    pub fn max_entries(mut self, max: u64) -> Self {
        self.limits = self.limits.max_entries(max);
        self
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        if !self.config["config"].is_object() {
            self.config["config"] = json!({});
        }
        self.config["config"][key] = value;
        self
    }
}

impl LayerStore {
    /// Makes an image, and a layer of each directory, under a name. An image that has the name already is replaced.
    ///
    /// The same directories and words make the same image, whenever and wherever: its id does not depend on the time.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) for a directory that is missing;
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for what is too large;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an upper directory with references to lower layers;
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a base of another store.
    pub fn build(&self, name: &str, builder: &ImageBuilder) -> Result<Image> {
        Draft::start(self, name, builder, 0)?.finish()
    }
}

/// An image that is being made: the layers of its builder, and those that come on top.
pub(crate) struct Draft<'a> {
    store: &'a LayerStore,
    name: &'a str,
    builder: &'a ImageBuilder,
    budget: Budget,
    ids: Vec<Digest>,
    holds: Holds,
}

/// The archive of a layer, in a file without a name.
pub(crate) struct Packed {
    file: std::fs::File,
    id: Digest,
    size: u64,
}

impl<'a> Draft<'a> {
    /// With the layers of the builder, and room for so many more.
    pub(crate) fn start(
        store: &'a LayerStore,
        name: &'a str,
        builder: &'a ImageBuilder,
        more: usize,
    ) -> Result<Self> {
        record::check_name(name)?;
        if let Some(base) = &builder.base {
            base.belongs_to(store)?;
        }
        let count = builder.ids.len() + builder.layers.len() + more;
        if count > MOST_LAYERS {
            return Err(too_many_layers(count));
        }
        let budget = builder.limits.budget();
        let (ids, holds) = (builder.ids.clone(), builder.holds.clone());
        let mut draft = Self { store, name, builder, budget, ids, holds };
        for dir in &builder.layers {
            let packed = draft.pack_dir(dir)?;
            draft = draft.with(packed)?;
        }
        Ok(draft)
    }

    fn pack_dir(&self, dir: &Path) -> Result<Packed> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(dir, flags, Mode::empty()).map_err(|errno| {
            Error::os(Step::Image, format!("opening {}", dir.display()), errno).with_path(dir)
        })?;
        self.pack(|out| Packer::new(out, &self.budget, &View::AsOnDisk).pack(root.as_fd()))
    }

    /// Packs what has changed in a root; what has no place in a layer is left out.
    pub(crate) fn pack_changes(&self, root: &OwnedFd, ids: &View, changes: Vec<Change>) -> Result<Packed> {
        self.pack(|out| {
            let packed = Packer::new(out, &self.budget, ids).pack_changes(root, changes);
            packed.map(|(out, _)| out)
        })
    }

    /// The digest of a layer is known when it is packed.
    fn pack(&self, pack: impl FnOnce(Out) -> Result<Out>) -> Result<Packed> {
        let failed = || storing("packing a layer");
        let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let file: OwnedFd = nix::fcntl::openat(&self.store.place.tmp, ".", flags, mode)
            .map_err(|errno| failed()(errno.into()))?;
        let mut out = pack(Hashing::new(BufWriter::with_capacity(1 << 16, std::fs::File::from(file))))?;
        out.flush().map_err(failed())?;
        let (out, id, size) = out.finish();
        let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
        Ok(Packed { file, id, size })
    }

    /// Brings a layer into the store, on top of the others.
    pub(crate) fn with(mut self, packed: Packed) -> Result<Self> {
        let Packed { mut file, id, size } = packed;
        file.seek(SeekFrom::Start(0)).map_err(storing("packing a layer"))?;
        // What was packed was counted already.
        let own = Budget::new(u64::MAX, u64::MAX);
        let brought = self.store.bring(&id, file.take(size), &own, &|| Ok(()))?;
        self.ids.push(id);
        self.holds.insert(id, Arc::new(brought.hold));
        Ok(self)
    }

    /// Makes the image visible.
    pub(crate) fn finish(self) -> Result<Image> {
        let new = self.ids.len() - self.builder.ids.len();
        let mut config = self.builder.config.clone();
        let ids: Vec<_> = self.ids.iter().map(Digest::to_string).collect();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": ids });
        // Where there is a history, each layer has its line in it.
        if let Some(history) = config["history"].as_array_mut() {
            history.extend((0..new).map(|_| json!({ "created_by": "belljar" })));
        } else if let Some(config) = config.as_object_mut() {
            config.remove("history");
        }
        let config = document::write(&config)?;
        self.store.save_image(self.name, &config)?;
        Image::new(self.store, self.name.to_owned(), config, self.holds)
    }
}

type Out = Hashing<BufWriter<std::fs::File>>;

/// A number that no other export of this process has.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
