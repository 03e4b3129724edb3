//! A block of host ids for each sandbox of a privileged host, so that no two sandboxes share an id and none is root.
//!
//! Blocks come from the range that systemd's "Users, Groups, UIDs and GIDs" document sets aside for containers. A
//! byte-range lock (`F_OFD_SETLK`, fcntl(2)) on one file, a byte a block, keeps hosts apart; it ends with the last
//! copy of the descriptor, and every init holds one, so a block outlives a killed host for as long as its sandboxes.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Extent, Ids, Maps, Writer};
use crate::error::{Error, Result, Step};
use crate::sys;

const LOCK_FILE: &str = "/run/belljar.ids";
/// systemd: "Container UID Range".
const FIRST: u32 = 524_288;
const LAST: u32 = 1_879_048_191;
const SIZE: u32 = 65_536;
/// How many single ids are used when our own map has no room for whole blocks.
const SINGLES: u32 = 4096;

/// How the ids of this process are cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    first: u32,
    size: u32,
    count: u32,
}

impl Geometry {
    /// From `/proc/self/uid_map` (and gid_map, which must agree): whole blocks where the container range is ours,
    /// else single ids from the top of the largest range, else nothing.
    pub(super) fn from_maps(uid_map: &str, gid_map: &str) -> Option<Self> {
        let largest = |text: &str| -> Option<(u32, u32)> {
            let ranges = text.lines().filter_map(|line| {
                let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
                let (inside, _, count) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
                Some((inside, count))
            });
            ranges.max_by_key(|(_, count)| *count)
        };
        let (uids, gids) = (largest(uid_map)?, largest(gid_map)?);
        let start = uids.0.max(gids.0);
        let end = uids.0.saturating_add(uids.1).min(gids.0.saturating_add(gids.1));
        if start <= FIRST && end > LAST {
            return Some(Self { first: FIRST, size: SIZE, count: (LAST - FIRST + 1) / SIZE });
        }
        let spare = end.checked_sub(start)?.saturating_sub(1);
        let count = (spare / 2).min(SINGLES);
        (count > 0).then(|| Self { first: end - count, size: 1, count })
    }
}

/// Read once. A map that cannot be read is an error and not a process without spare ids: for such a process its own id
/// is mapped, and that may be root's.
fn geometry() -> Result<Option<Geometry>> {
    static GEOMETRY: OnceLock<Option<Geometry>> = OnceLock::new();
    if let Some(known) = GEOMETRY.get() {
        return Ok(*known);
    }
    let read = |path: &'static str| {
        std::fs::read_to_string(path).map_err(|error| {
            Error::os(Step::IdMap, format!("reading {path}"), error)
                .with_path(path)
                .with_hint("mount proc: `mount -t proc proc /proc`")
        })
    };
    let read = Geometry::from_maps(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?);
    Ok(*GEOMETRY.get_or_init(|| read))
}

/// Whether this process has ids to give away at all.
pub(super) fn has_spare_ids() -> Result<bool> {
    Ok(geometry()?.is_some())
}

/// How many ids a block has; 1 where this process has no room for more.
pub(super) fn size() -> Result<u32> {
    Ok(geometry()?.map_or(0, |geometry| geometry.size))
}

struct Pool {
    /// The process that opened the file: a forked copy of it must take locks of its own, through an open file
    /// description of its own, and start with none.
    owner: u32,
    file: File,
    used: BTreeSet<u32>,
    next: u32,
    /// Ranges that `/etc/subuid` and `/etc/subgid` promise to somebody.
    promised: Vec<(u32, u32)>,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// A block in use; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct IdBlock {
    /// The process that reserved it, and alone gives it back.
    owner: u32,
    number: u32,
    base: u32,
    size: u32,
    /// Keeps the lock while any sandbox lives.
    lock: File,
}

impl IdBlock {
    /// Takes a block that neither this nor another process has.
    pub(crate) fn reserve() -> Result<Self> {
        let Some(geometry) = geometry()? else {
            return Err(Error::internal(Step::IdBlock, "no host ids to give away"));
        };
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match &mut *pool {
            Some(pool) if pool.owner == std::process::id() => pool,
            other => other.insert(Pool::open(geometry)?),
        };
        for _ in 0..geometry.count {
            let number = pool.next % geometry.count;
            pool.next = number + 1;
            let base = geometry.first + number * geometry.size;
            let end = base + geometry.size;
            let promised =
                geometry.size > 1 && pool.promised.iter().any(|(first, last)| base < *last && *first < end);
            if promised || pool.used.contains(&number) || !lock(&pool.file, number, libc::F_WRLCK)? {
                continue;
            }
            let lock = pool
                .file
                .try_clone()
                .map_err(|error| Error::os(Step::IdBlock, "keeping the id lock", error))?;
            pool.used.insert(number);
            return Ok(Self { owner: pool.owner, number, base, size: geometry.size, lock });
        }
        Err(Error::message(
            crate::ErrorKind::ResourceExhausted,
            Step::IdBlock,
            format!("all {} blocks of host ids are in use", geometry.count),
        ))
    }

    /// The maps that use this block.
    pub(crate) fn maps(&self, program: Ids) -> Maps {
        let extent = |id| {
            let inside = if self.size == 1 { id } else { 0 };
            vec![Extent { inside, outside: self.base, count: self.size }]
        };
        Maps { uids: extent(program.uid), gids: extent(program.gid), writer: Writer::Privileged }
    }

    /// A descriptor that holds the lock.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for IdBlock {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pool.as_mut().filter(|pool| pool.owner == self.owner) {
            pool.used.remove(&self.number);
            if self.owner == std::process::id() {
                // A lock that stays costs one block until this process ends; there is nobody to tell.
                lock(&pool.file, self.number, libc::F_UNLCK).ok();
            }
        }
    }
}

impl Pool {
    fn open(geometry: Geometry) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(LOCK_FILE)
            .map_err(|error| {
                Error::os(Step::IdBlock, format!("opening {LOCK_FILE}"), error)
                    .with_path(LOCK_FILE)
                    .with_hint("a root host locks its id blocks there; make /run writable or give a UserMap of your own")
            })?;
        let mut ranges = promised("/etc/subuid")?;
        ranges.extend(promised("/etc/subgid")?);
        // Hosts start at different places, so that they seldom meet.
        let next = std::process::id().wrapping_mul(7919) % geometry.count;
        Ok(Self { owner: std::process::id(), file, used: BTreeSet::new(), next, promised: ranges })
    }
}

/// The ranges of a subordinate-id file. See subuid(5). Without the file nothing is promised; one that cannot be read may
/// promise anything.
fn promised(path: &'static str) -> Result<Vec<(u32, u32)>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => {
            read.map_err(|error| Error::os(Step::IdBlock, format!("reading {path}"), error).with_path(path))?
        }
    };
    let ranges = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(':').skip(1).map(|word| word.trim().parse::<u32>());
            let (first, count) = (words.next()?.ok()?, words.next()?.ok()?);
            Some((first, first.saturating_add(count)))
        })
        .collect();
    Ok(ranges)
}

/// Locks or unlocks the byte of a block. `Ok(false)`: another process has it.
fn lock(file: &File, block: u32, kind: libc::c_int) -> Result<bool> {
    sys::try_lock_byte(file, i64::from(block), kind)
        .map_err(|errno| Error::os(Step::IdBlock, format!("locking {LOCK_FILE}"), errno).with_path(LOCK_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";

    #[test]
    fn geometry_of_the_initial_namespace() {
        let geometry = Geometry::from_maps(ALL, ALL).unwrap();
        assert_eq!(geometry, Geometry { first: FIRST, size: SIZE, count: 28_664 });
    }

    #[test]
    fn geometry_inside_a_container() {
        let map = "0 100000 65536\n";
        let geometry = Geometry::from_maps(map, map).unwrap();
        assert_eq!(geometry, Geometry { first: 65_536 - 4096, size: 1, count: 4096 });
    }

    #[test]
    fn one_id_cannot_be_shared_out() {
        assert_eq!(Geometry::from_maps("0 1000 1\n", "0 1000 1\n"), None);
        assert_eq!(Geometry::from_maps("", ALL), None);
        assert_eq!(Geometry::from_maps("garbage\n", ALL), None);
    }
}
