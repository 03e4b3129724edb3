//! What a pool tells of itself.

/// What a [`Pool`](crate::Pool) has, and what has become of its containers since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Containers that wait for a program, now.
    pub ready: usize,
    /// Containers that are being set up, now.
    pub making: usize,
    /// Programs that run, or have ended and were not yet waited for, now.
    pub in_use: usize,
    /// Sandboxes that were used and are being removed, now.
    pub closing: usize,
    /// Programs that found a container ready.
    pub warm: u64,
    /// Programs whose sandbox was started for them, because none was ready.
    pub cold: u64,
    /// Calls that had to wait, for a container or for room.
    pub waits: u64,
    /// Calls that were refused, because none could be had.
    pub refused: u64,
    /// Containers that the pool's thread has set up.
    pub refills: u64,
    /// Containers that it could not set up.
    pub failed_refills: u64,
    /// Containers that died while they waited.
    pub discarded: u64,
    /// Sandboxes of which something could not be removed. It is tried again when another process of this machine uses the
    /// library.
    pub not_removed: u64,
}
