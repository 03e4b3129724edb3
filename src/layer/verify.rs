//! Whether what is in the store is still what came in.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::claim::Hold;
use super::damaged;
use super::digest::Digest;
use super::store::LayerStore;
use super::survey::survey;
use crate::error::{ErrorKind, Result, Step};

/// A layer that [`LayerStore::verify`] found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Which layer.
    pub layer: Digest,
    /// What is wrong with it, in words.
    pub what: String,
    /// The file of the layer that is missing or has another size, where it is known.
    pub path: Option<PathBuf>,
}

impl LayerStore {
    /// Reads every layer and finds those that have changed.
    ///
    /// The archive of each layer is put together again and must have the digest that the layer is named by: so the
    /// content of every file is what it was. Names, modes, owners, times, links and attributes must be as they were
    /// written; nothing may be missing or have been added.
    ///
    /// # Errors
    ///
    /// If the store or an image in it cannot be read, or an image uses a layer that is missing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let store = belljar::LayerStore::open("/var/lib/judge/layers")?;
    /// for damage in store.verify()? {
    ///     println!("{}: {}", damage.layer, damage.what);
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn verify(&self) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        for id in self.ids()? {
            let Some(_hold) = Hold::share(self.place.layers.as_fd(), &id.hex())? else { continue };
            match self.verify_layer(&id) {
                Ok(()) => {}
                Err(error) if (error.kind(), error.step()) == (ErrorKind::InvalidImage, Step::Store) => {
                    let path = error.path().map(Into::into);
                    damages.push(Damage { layer: id, what: error.to_string(), path });
                }
                Err(error) => return Err(error),
            }
        }
        let ids = self.ids()?;
        for image in self.records()? {
            if let Some(id) = image.layers.iter().find(|id| !ids.contains(id)) {
                // It may have been removed since, with its layers.
                if self.records()?.iter().any(|now| now.name == image.name) {
                    let what = format!("the layer {id} of image {:?} is missing", image.name);
                    return Err(damaged(what));
                }
            }
        }
        Ok(damages)
    }

    fn verify_layer(&self, id: &Digest) -> Result<()> {
        let record = self.record(id)?;
        self.write_archive(id, &mut std::io::sink())?;
        let tree = self.open_part(id, "tree")?;
        let now = survey(tree.as_fd())?;
        if now.digest.hex() != record.tree {
            let what = if now.entries == record.entries {
                "a name, mode, owner, time, link or attribute in it has changed".to_owned()
            } else {
                format!("it has {} entries and had {}", now.entries, record.entries)
            };
            return Err(damaged(format!("layer {id}: {what}")));
        }
        Ok(())
    }
}
