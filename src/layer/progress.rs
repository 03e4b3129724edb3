//! What long work tells meanwhile.

use std::fmt;
use std::sync::Arc;

/// How far long work on a [`LayerStore`](crate::LayerStore) has come.
///
/// # Examples
///
/// ```no_run
/// use belljar::{LayerStore, Progress};
///
/// let store = LayerStore::open("/var/lib/judge/layers")?.on_progress(|progress| {
///     if let Progress::Importing { layer, layers, done, total } = progress {
///         eprint!("\rlayer {layer} of {layers}: {done} of {total} bytes");
///     }
/// });
/// # let _ = store;
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A layer of an image is read and unpacked. Several go on at once.
    Importing {
        /// Which one, from 1.
        layer: usize,
        /// How many the image has.
        layers: usize,
        /// Bytes of the archive, as it is compressed, that were read.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// A layer of an image is written. Several go on at once.
    Exporting {
        /// Which one, from 1.
        layer: usize,
        /// How many the image has.
        layers: usize,
        /// Bytes of the archive, before it is compressed, that were written.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// Layers that no image uses are removed.
    Collecting {
        /// How many were looked at.
        done: usize,
        /// Of how many.
        total: usize,
    },
}

/// Whom to tell.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<dyn Fn(Progress) + Send + Sync>>);

impl Listener {
    pub(crate) fn new(listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(listener) = &self.0 {
            listener(progress);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "None" })
    }
}
