//! Work for several threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What becomes of each item, in the order of the items. Each thread takes the next one that nobody has begun.
pub(crate) fn map<T: Sync, R: Send + Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let take = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        Some((number, items.get(number)?))
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, item)) = take() {
                    results[number].get_or_init(|| work(number, item));
                }
            });
        }
    });
    // The scope has waited for all of them, and would have panicked with one that did.
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}
