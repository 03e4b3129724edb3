//! A store of filesystem layers on disk, shared by images, sandboxes and processes.
//!
//! ```text
//! store/
//!   format                what this is
//!   layers/<diff id>/     one layer: appears by rename when it is complete, disappears by rename
//!     tree/               its files, a lower layer of overlays
//!     spare/              files that another member of the same archive replaced
//!     skeleton.gz         the archive without the files
//!     layer.json          sizes, a digest of the tree's metadata
//!   images/<name>.json    an image: its configuration, which names its layers
//!   tmp/                  what is being made, each name under a lock of its maker
//! ```

mod archive;
mod attributes;
mod claim;
mod digest;
pub(crate) mod dir;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gc;
mod limits;
mod pax;
mod place;
mod progress;
mod skeleton;
mod store;
mod survey;
mod unpack;
mod verify;

pub use digest::Digest;
pub use gc::Collected;
pub use progress::Progress;
pub use store::{LayerInfo, LayerStore};
pub use verify::Damage;

pub(crate) use archive::{Archive, BLOCK, Kind, LONGEST_PATH, LONGEST_PAX, NoTape, shown};
pub(crate) use attributes::Owner;
pub(crate) use claim::{Claim, Hold};
pub(crate) use digest::Hashing;
pub(crate) use limits::Budget;
pub(crate) use pax::{push_record, push_time};
pub(crate) use place::DEEPEST;
pub(crate) use progress::Listener;
pub(crate) use store::LARGEST_DOCUMENT;

use std::borrow::Cow;
use std::io;

use crate::error::{Error, ErrorKind, Step};

/// A point in time: seconds since 1970, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: i64,
}

/// An image or archive that is not what it should be.
pub(crate) fn refused(message: impl Into<Cow<'static, str>>) -> Error {
    Error::message(ErrorKind::InvalidImage, Step::Image, message)
}

/// A layer in the store that is not what it was.
pub(crate) fn damaged(message: impl Into<Cow<'static, str>>) -> Error {
    Error::message(ErrorKind::InvalidImage, Step::Store, message)
        .with_hint("remove the images that use the layer, collect garbage, and import them again")
}

/// A failure of the machine while the store is used.
pub(crate) fn storing(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::os(Step::Store, what, error)
}

/// A failure to read an archive: the machine's, or the archive's own.
pub(crate) fn reading(error: io::Error) -> Error {
    let broken = error.raw_os_error().is_none();
    let error = Error::os(Step::Image, "reading an archive", error);
    if broken { error.with_kind(ErrorKind::InvalidImage) } else { error }
}
