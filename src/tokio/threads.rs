//! Work that blocks.

use ::tokio::task::spawn_blocking;

use crate::error::{Error, Result, Step};

/// Has something done by a thread of the runtime's own for work that blocks, which brings it to its end whatever becomes of
/// the future.
///
/// # Panics
///
/// Outside of a runtime.
pub(super) async fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = spawn_blocking(work).await;
    ended
        .map_err(|_| Error::internal(Step::Wait, "the tokio runtime was shut down, or its thread panicked"))?
}
