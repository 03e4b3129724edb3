//! How much an image may unpack to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result, Step};

/// What is left of a caller's limits, shared by all layers of one image.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
    of: Of,
}

/// Whose limits they are.
#[derive(Debug)]
enum Of {
    Image,
    Archive,
}

impl Budget {
    pub(crate) fn new(bytes: u64, entries: u64) -> Self {
        Self { bytes: bytes.into(), entries: entries.into(), of: Of::Image }
    }

    /// Of one archive that is written.
    pub(crate) fn of_archive(bytes: u64) -> Self {
        Self { of: Of::Archive, ..Self::new(bytes, u64::MAX) }
    }

    pub(crate) fn take_bytes(&self, count: u64) -> Result<()> {
        take(&self.bytes, count).ok_or_else(|| match self.of {
            Of::Image => exceeded("the image unpacks to more bytes than its limit", "`max_bytes`"),
            Of::Archive => exceeded("the archive has more bytes than its limit", "the argument `limit`"),
        })
    }

    pub(crate) fn take_entry(&self) -> Result<()> {
        take(&self.entries, 1)
            .ok_or_else(|| exceeded("the image has more entries than its limit", "`max_entries`"))
    }
}

fn take(left: &AtomicU64, count: u64) -> Option<()> {
    let updated = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count));
    updated.is_ok().then_some(())
}

fn exceeded(what: &'static str, setter: &str) -> Error {
    Error::message(ErrorKind::LimitExceeded, Step::Image, what)
        .with_hint(format!("if it is to be trusted, raise the limit with {setter}"))
}
