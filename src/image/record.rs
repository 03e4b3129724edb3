//! Images as the store keeps them: a name and a configuration, which names the layers.

use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::document::{self, Config};
use super::{Holds, Image};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::layer::{Claim, Digest, Hold, LARGEST_DOCUMENT, LayerStore, damaged, dir, storing};

/// An image by its name, as far as the store has to know it.
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    name: String,
    /// Of the configuration, so that a changed one is found.
    id: String,
    config: String,
}

impl LayerStore {
    /// The names of all images, sorted.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or an image in it is damaged.
    pub fn images(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> = self.records()?.into_iter().map(|record| record.name).collect();
        names.sort();
        Ok(names)
    }

    /// The image of a name.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none; [`InvalidImage`](ErrorKind::InvalidImage) if a layer of it
    /// is missing.
    pub fn image(&self, name: &str) -> Result<Image> {
        let record = match self.read_record(&file_of(name))? {
            Some(record) => record,
            None => return Err(no_image(name)),
        };
        let mut holds = Holds::new();
        for id in &record.layers {
            if let Entry::Vacant(entry) = holds.entry(*id) {
                let hold = Hold::share(self.place.layers.as_fd(), &id.hex())?;
                let missing = || damaged(format!("the layer {id} of image {name:?} is missing"));
                entry.insert(Arc::new(hold.ok_or_else(missing)?));
            }
        }
        Image::new(self, record.name, record.config, holds)
    }

    /// Forgets the image of a name. [`gc`](LayerStore::gc) removes its layers when nobody uses them any more.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        match unlinkat(&self.place.images, &file_of(name), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => dir::sync(&self.place.images).map_err(storing("removing an image")),
            Err(nix::errno::Errno::ENOENT) => Err(no_image(name)),
            Err(errno) => Err(storing("removing an image")(errno.into())),
        }
    }

    /// Every image.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let names = dir::names(self.place.images.as_fd())
            .map_err(|errno| storing("listing the images of the store")(errno.into()))?;
        // One that another process has removed meanwhile is left out.
        names.iter().filter_map(|name| self.read_record(Path::new(name)).transpose()).collect()
    }

    fn read_record(&self, file: &Path) -> Result<Option<Record>> {
        let bytes = match dir::read_file(self.place.images.as_fd(), file, 3 * LARGEST_DOCUMENT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(storing("reading an image of the store")(error).with_path(file)),
        };
        let broken = || damaged(format!("the image in {} is damaged", file.display())).with_path(file);
        let document: Document = serde_json::from_slice(&bytes).map_err(|_| broken())?;
        let config = document.config.into_bytes();
        if document.id != Digest::of(&config).to_string() {
            return Err(broken());
        }
        let layers = Config::parse(&config)?.layers()?;
        Ok(Some(Record { name: document.name, config, layers }))
    }

    /// Makes an image visible. Whoever calls this holds its layers.
    pub(crate) fn save_image(&self, name: &str, config: &[u8]) -> Result<()> {
        check_name(name)?;
        let text = std::str::from_utf8(config)
            .map_err(|_| crate::layer::refused("the image's configuration is not UTF-8"))?;
        let document =
            Document { name: name.to_owned(), id: Digest::of(config).to_string(), config: text.to_owned() };
        let bytes = document::write(&document)?;
        let failed = || storing("writing an image to the store");
        let claim =
            Claim::wait(self.place.tmp.as_fd(), &format!("image-{}", Digest::of(name.as_bytes()).hex()))?;
        dir::write_file(claim.tmp(), claim.name(), &bytes).map_err(failed())?;
        renameat2(claim.tmp(), claim.name(), &self.place.images, &file_of(name), RenameFlags::empty())
            .map_err(|errno| failed()(errno.into()))?;
        dir::sync(&self.place.images).map_err(failed())
    }
}

/// The file of an image: its name can have slashes, and a digest of it cannot.
fn file_of(name: &str) -> PathBuf {
    PathBuf::from(OsStr::new(&format!("{}.json", Digest::of(name.as_bytes()).hex())))
}

fn no_image(name: &str) -> Error {
    Error::message(ErrorKind::NotFound, Step::Store, format!("there is no image {name:?} in the store"))
}

/// A name is for people and for other tools.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        let start: String = name.chars().take(80).collect();
        return Err(Error::invalid(format!("{start:?} cannot be the name of an image"))
            .with_hint("use at most 255 letters, digits and ._-:/@+"));
    }
    Ok(())
}
