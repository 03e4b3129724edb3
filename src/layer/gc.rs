//! Removing what nobody uses.

use std::collections::HashSet;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};

use super::claim::{Claim, Hold};
use super::digest::Digest;
use super::progress::Progress;
use super::store::LayerStore;
use super::{dir, storing};
use crate::error::Result;

/// Layers that are locked at the same time, each with a descriptor.
const BATCH: usize = 64;

/// What [`LayerStore::gc`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Layers that no image uses.
    pub layers: usize,
    /// What they took on disk.
    pub bytes: u64,
    /// Layers that no image uses and that are still there, for an `Image` or a sandbox of some process has them.
    pub in_use: usize,
    /// What processes that were killed had half made.
    pub leftovers: usize,
}

impl LayerStore {
    /// Removes layers that no image uses, and what processes that were killed have left.
    ///
    /// A layer that an [`Image`](crate::Image), a [`Rootfs`](crate::Rootfs) made from one, or a sandbox has in use, in
    /// this or any other process, stays.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or changed, or an image in it is damaged: whose layers are not known are not
    /// removed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let store = belljar::LayerStore::open("/var/lib/judge/layers")?;
    /// store.remove_image("debian:12")?;
    /// println!("{} bytes are free again", store.gc()?.bytes);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn gc(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        let used = self.used()?;
        let candidates: Vec<_> = self.ids()?.into_iter().filter(|id| !used.contains(id)).collect();
        for (number, batch) in candidates.chunks(BATCH).enumerate() {
            let mut alone = Vec::new();
            for id in batch {
                match Hold::alone(self.place.layers.as_fd(), &id.hex())? {
                    Some(hold) => alone.push((id, hold)),
                    None => collected.in_use += 1,
                }
            }
            // Who adds an image shares its layers meanwhile. So no image that comes from now on has one of these, and
            // those that came before are seen now.
            let used = self.used()?;
            for (id, hold) in alone {
                if !used.contains(id) {
                    self.remove_layer(id, &mut collected)?;
                }
                drop(hold);
            }
            let done = (number * BATCH + batch.len()).min(candidates.len());
            self.listener.tell(Progress::Collecting { done, total: candidates.len() });
        }
        collected.leftovers = self.sweep()?;
        Ok(collected)
    }

    fn used(&self) -> Result<HashSet<Digest>> {
        Ok(self.records()?.into_iter().flat_map(|image| image.layers).collect())
    }

    /// Moves a layer out of sight at once, and removes it then.
    fn remove_layer(&self, id: &Digest, collected: &mut Collected) -> Result<()> {
        let name = id.hex();
        let bytes = self.record(id).map_or(0, |record| record.bytes);
        // Whoever imports it right now will find it missing, and then it is theirs.
        let Some(claim) = Claim::attempt(self.place.tmp.as_fd(), &name)? else { return Ok(()) };
        let moved = renameat2(
            &self.place.layers,
            name.as_str(),
            claim.tmp(),
            claim.name(),
            RenameFlags::RENAME_NOREPLACE,
        );
        match moved {
            Ok(()) => {
                collected.layers += 1;
                collected.bytes += bytes;
                claim.discard()
            }
            Err(Errno::ENOENT) => Ok(()), // another collector was faster
            Err(errno) => Err(storing("removing a layer")(errno.into())),
        }
    }

    /// Removes what has no living maker.
    fn sweep(&self) -> Result<usize> {
        let tmp = self.place.tmp.as_fd();
        let names = dir::names(tmp).map_err(|errno| storing("listing temporary files")(errno.into()))?;
        let names: HashSet<_> = names
            .iter()
            .filter_map(|name| name.to_str())
            .map(|name| name.strip_suffix(".lock").unwrap_or(name))
            .collect();
        let mut count = 0;
        for name in names {
            if let Some(claim) = Claim::attempt(tmp, name)? {
                count += usize::from(claim.had_leftovers());
                claim.discard()?;
            }
        }
        Ok(count)
    }
}
