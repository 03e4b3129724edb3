//! Who uses a bridge: a lock file for each, held by hosts and by the inits of their sandboxes, so that a bridge is taken down
//! by the last of them, and one that nobody uses is known to be left over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Step};
use crate::sys;

const DIRECTORY: &str = "/run";
const PREFIX: &str = "belljar.bridge.";

/// The bytes of the file that are locked: by those who use the bridge, and by whoever hands addresses out.
const USE: i64 = 0;
const TURN: i64 = 1;

/// A lock of a bridge of this network namespace, by locks of an open file: they end with the last copy of the descriptor.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    pub(super) fn open(bridge: &str) -> Result<Self> {
        // Bridges of different network namespaces may have the same name.
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(|error| {
            Error::os(Step::Network, "looking at this thread's network namespace", error)
                .with_hint("mount proc: `mount -t proc proc /proc`")
        })?;
        Self::at(Path::new(DIRECTORY).join(format!("{PREFIX}{}.{bridge}", namespace.ino())))
    }

    fn at(path: PathBuf) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::os(Step::Network, format!("opening {}", path.display()), error).with_path(&path).with_hint(
                "bridges are for a privileged host with a writable /run; Network::user_mode() is for others",
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        let file = sys::above_stdio(file.into()).map_err(failed)?;
        Ok(Self { file: file.into(), path })
    }

    /// Removes the files of bridges that nobody uses, in whatever namespace they are or were.
    pub(super) fn sweep() {
        for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let Ok(lock) = Self::at(entry.path()) else { continue };
            if lock.take_alone().unwrap_or(false) && lock.is_current().unwrap_or(false) {
                lock.forget();
            }
        }
    }

    /// Whether nobody else had it; nobody else gets it then. Where somebody has it, this one keeps what it had.
    pub(super) fn take_alone(&self) -> Result<bool> {
        sys::try_lock_byte(&self.file, USE, libc::F_WRLCK)
            .map_err(|errno| self.failed("locking", errno.into()))
    }

    /// Gives it up, and takes it alone if nobody else has it. Of several that end at the same time one is the last.
    pub(super) fn is_last(&self) -> Result<bool> {
        if self.take_alone()? {
            return Ok(true);
        }
        // Another one that ends just now may have found this one's, and would be the last without it.
        sys::try_lock_byte(&self.file, USE, libc::F_UNLCK)
            .map_err(|errno| self.failed("unlocking", errno.into()))?;
        Ok(self.take_alone()? && self.is_current()?)
    }

    /// Waits until nobody has it alone.
    pub(super) fn share(&self) -> Result<()> {
        sys::lock_byte(&self.file, USE, libc::F_RDLCK).map_err(|errno| self.failed("locking", errno.into()))
    }

    /// Whether the file is still the one of that name: whoever takes a bridge down removes its file.
    pub(super) fn is_current(&self) -> Result<bool> {
        let own = self.file.metadata().map_err(|error| self.failed("examining", error))?;
        let there = fs::symlink_metadata(&self.path);
        Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
    }

    /// Waits for a turn among the processes that share it, which ends with what is returned. Not for threads of one process.
    pub(super) fn turn(&self) -> Result<Turn<'_>> {
        self.await_turn()?;
        Ok(Turn(Held::Shared(self)))
    }

    /// The same, of a lock that is there for that alone.
    pub(super) fn into_turn<'a>(self) -> Result<Turn<'a>> {
        self.await_turn()?;
        Ok(Turn(Held::Own(self)))
    }

    fn await_turn(&self) -> Result<()> {
        sys::lock_byte(&self.file, TURN, libc::F_WRLCK).map_err(|errno| self.failed("locking", errno.into()))
    }

    /// What those who share it have agreed on.
    pub(super) fn words(&self) -> Result<String> {
        let mut words = String::new();
        let mut file = &self.file;
        file.rewind()
            .and_then(|()| file.take(4096).read_to_string(&mut words))
            .map_err(|error| self.failed("reading", error))?;
        Ok(words)
    }

    pub(super) fn set_words(&self, words: &str) -> Result<()> {
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(words.as_bytes()))
            .map_err(|error| self.failed("writing", error))
    }

    /// The file is of no more use.
    pub(super) fn forget(&self) {
        fs::remove_file(&self.path).ok();
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::os(Step::Network, format!("{what} {}", self.path.display()), error).with_path(&self.path)
    }
}

/// A turn, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(Held<'a>);

#[derive(Debug)]
enum Held<'a> {
    Shared(&'a Lock),
    Own(Lock),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lock = match &self.0 {
            Held::Shared(lock) => lock,
            Held::Own(lock) => lock,
        };
        sys::try_lock_byte(&lock.file, TURN, libc::F_UNLCK).ok();
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
