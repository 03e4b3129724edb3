//! Looks at a whole tree: how large it is, and a digest of all that is no content.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::SFlag;

use super::digest::{Digest, Hashing};
use super::{dir, storing};
use crate::error::Result;
use crate::sys;

/// What a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Everything below the root.
    pub(crate) entries: u64,
    /// On disk, each file once.
    pub(crate) bytes: u64,
    /// Names, kinds, modes, owners, times, sizes, links and attributes.
    pub(crate) digest: Digest,
}

pub(crate) fn survey(tree: BorrowedFd<'_>) -> Result<Survey> {
    let mut surveyor =
        Surveyor { entries: 0, bytes: 0, linked: HashSet::new(), hash: Hashing::new(std::io::sink()) };
    surveyor.one(tree, Path::new("."))?;
    let (_, digest, _) = surveyor.hash.finish();
    // The root is no entry.
    Ok(Survey { entries: surveyor.entries - 1, bytes: surveyor.bytes, digest })
}

struct Surveyor {
    entries: u64,
    bytes: u64,
    /// Files with more than one name.
    linked: HashSet<u64>,
    hash: Hashing<std::io::Sink>,
}

impl Surveyor {
    fn one(&mut self, parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
        let failed = || storing("looking through a layer");
        let found = dir::look(parent, name).map_err(|errno| failed()(errno.into()))?;
        // It was in the list a moment ago.
        let Some(stat) = found else { return Err(failed()(nix::errno::Errno::ENOENT.into())) };
        self.entries += 1;
        let directory = dir::kind_of(&stat) == SFlag::S_IFDIR;
        if directory || stat.st_nlink == 1 || self.linked.insert(stat.st_ino) {
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        self.field(name.as_os_str().as_bytes())?;
        // The size of a directory is the filesystem's own affair.
        let size = if directory { 0 } else { stat.st_size };
        let numbers = [
            i64::from(stat.st_mode),
            i64::from(stat.st_uid),
            i64::from(stat.st_gid),
            stat.st_mtime,
            stat.st_mtime_nsec,
            size,
            stat.st_rdev as i64,
        ];
        for number in numbers {
            self.field(&number.to_le_bytes())?;
        }
        match dir::kind_of(&stat) {
            SFlag::S_IFLNK => {
                let to = readlinkat(parent, name).map_err(|errno| failed()(errno.into()))?;
                self.field(to.as_bytes())?;
            }
            SFlag::S_IFREG => {
                let fd = dir::open(parent, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
                self.attributes(fd.map_err(|errno| failed()(errno.into()))?.as_fd())?;
            }
            SFlag::S_IFDIR => {
                let fd = dir::open_dir(parent, name).map_err(|errno| failed()(errno.into()))?;
                self.attributes(fd.as_fd())?;
                for name in dir::names(fd.as_fd()).map_err(|errno| failed()(errno.into()))? {
                    self.one(fd.as_fd(), Path::new(&name))?;
                }
                self.field(b"")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn attributes(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let failed = || storing("reading attributes of a layer");
        for name in sys::list_xattrs(fd).map_err(failed())? {
            // Who may see the others changes, and so do their values: labels of security modules.
            if name.as_bytes().starts_with(b"user.") || name.as_bytes() == b"security.capability" {
                self.field(name.as_bytes())?;
                self.field(&sys::get_xattr(fd, &name).map_err(failed())?.unwrap_or_default())?;
            }
        }
        self.field(b"")
    }

    /// With its length, so that two trees never look alike.
    fn field(&mut self, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        let mut write = || {
            self.hash.write_all(&(bytes.len() as u64).to_le_bytes())?;
            self.hash.write_all(bytes)
        };
        write().map_err(storing("hashing a layer"))
    }
}
