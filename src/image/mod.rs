//! Images: a command, and the layers to run it on.

mod build;
mod commit;
mod decode;
mod document;
mod export;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    //! What the fuzz target needs besides an import.
    pub(crate) use super::decode::Decoder;
}
mod import;
mod members;
mod pack;
mod platform;
mod record;
mod select;
mod source;
mod user;

pub use build::ImageBuilder;
pub use import::ImportOptions;
pub use platform::Platform;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use self::document::{Config, Run};
use crate::command::Command;
use crate::error::{Error, Result};
use crate::layer::{Digest, Hold, LayerStore, dir, refused, storing};
use crate::rootfs::Rootfs;

/// What keeps each layer of an image in the store. A layer that is there twice is held once.
pub(crate) type Holds = BTreeMap<Digest, Arc<Hold>>;

/// An image of a [`LayerStore`]: layers, and how to run what is in them.
///
/// While it lives, in whatever process, [`LayerStore::gc`] leaves its layers alone, and so it does for a
/// [`Rootfs`] made from it and for sandboxes and plans with that.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Bytes, LayerStore, Sandbox, Upper};
///
/// let image = LayerStore::open("/var/lib/judge/layers")?.image("python:3")?;
/// let (uid, gid) = image.user()?;
/// let root = image.rootfs().upper(Upper::tmpfs(Bytes::mib(64), 10_000));
/// let mut command = image.command_for("python3");
/// command.args(["-c", "print(6 * 7)"]).env("PYTHONHASHSEED", "0");
/// let output = Sandbox::new().rootfs(root).user(uid, gid).output(command)?;
/// # let _ = output;
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Image {
    store: LayerStore,
    name: String,
    id: Digest,
    config: Arc<[u8]>,
    parsed: Config,
    /// The lowest first.
    layers: Vec<Digest>,
    /// Those that can be seen, the uppermost first and each once.
    visible: Vec<Digest>,
    holds: Holds,
}

impl Image {
    pub(crate) fn new(store: &LayerStore, name: String, config: Vec<u8>, holds: Holds) -> Result<Self> {
        let parsed = Config::parse(&config)?;
        let layers = parsed.layers()?;
        let (store, id) = (store.clone(), Digest::of(&config));
        let visible = visible(&store, &layers)?;
        Ok(Self { store, name, id, config: config.into(), parsed, layers, visible, holds })
    }

    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its configuration, which is what other tools call its id.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The ids of its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// For which machines it is.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.parsed.platform
    }

    /// Its layers as a read-only root filesystem; with [`Rootfs::upper`] it becomes a writable one.
    ///
    /// Layers below one that hides all others, by an opaque mark on its root, are left out.
    #[must_use]
    pub fn rootfs(&self) -> Rootfs {
        let paths: Vec<PathBuf> = self.visible.iter().map(|id| self.store.tree_path(id)).collect();
        Rootfs::overlay(paths).holding(Arc::new(self.holds.clone()))
    }

    /// The command of the image: its entry point, or its command, with its environment and its working directory. All
    /// of it can be changed.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage) if it has none; [`command_for`](Image::command_for) makes one
    /// for a program of the caller's choice.
    pub fn command(&self) -> Result<Command> {
        let run = self.run();
        let words: Vec<_> = run.entrypoint.iter().flatten().chain(run.cmd.iter().flatten()).collect();
        let Some((program, args)) = words.split_first() else {
            return Err(refused(format!("the image {:?} has no command", self.name))
                .with_hint("name a program with `Image::command_for`"));
        };
        let mut command = self.command_for(program);
        command.args(args);
        Ok(command)
    }

    /// A command for a program in the image, with the image's environment and working directory and without its entry
    /// point.
    pub fn command_for(&self, program: impl AsRef<OsStr>) -> Command {
        let run = self.run();
        let mut command = Command::new(program);
        for variable in run.env.iter().flatten() {
            // What has no value is of no use to a program.
            if let Some((key, value)) = variable.split_once('=') {
                command.env(key, value);
            }
        }
        if let Some(dir) = run.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
            command.current_dir(dir);
        }
        command
    }

    /// The user and group id that the image is meant to run with, for [`Sandbox::user`](crate::Sandbox::user); 0 and 0
    /// if it does not say. Names are looked up in `/etc/passwd` and `/etc/group` of the image.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage) for a user or group that the image does not have.
    pub fn user(&self) -> Result<(u32, u32)> {
        user::look_up(self, self.run().user.as_deref().unwrap_or_default())
    }

    fn run(&self) -> &Run {
        static NOTHING: Run = Run { user: None, env: None, entrypoint: None, cmd: None, working_dir: None };
        self.parsed.config.as_ref().unwrap_or(&NOTHING)
    }

    /// Fails if the image is of another store, whose layers are elsewhere.
    pub(crate) fn belongs_to(&self, store: &LayerStore) -> Result<()> {
        match self.store.place.path == store.place.path {
            true => Ok(()),
            false => Err(Error::invalid(format!("the image {:?} is of another store", self.name))),
        }
    }
}

/// The layers of which something can be seen, the uppermost first.
fn visible(store: &LayerStore, layers: &[Digest]) -> Result<Vec<Digest>> {
    let mut seen = HashSet::new();
    let mut visible = Vec::new();
    for id in layers.iter().rev() {
        // Overlayfs takes no directory twice. Whatever is in the lower of two equal layers is in the upper as well.
        if !seen.insert(*id) {
            continue;
        }
        visible.push(*id);
        // Overlayfs heeds the mark of an opaque directory everywhere but on the root of a layer.
        if dir::is_opaque(store.open_part(id, "tree")?.as_fd()).map_err(storing("looking at a layer"))? {
            break;
        }
    }
    Ok(visible)
}
