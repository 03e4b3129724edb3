//! Modes, owners, times and extended attributes of what is unpacked.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::archive::{Kind, Member, shown};
use super::unpack::{Unpacker, dot, making};
use super::{Time, dir, refused, storing};
use crate::entries::is_kept;
use crate::error::Result;
use crate::sys;

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whom the archive says: for root.
    Archive,
    /// The caller, who can always read and change it.
    Caller,
}

impl Owner {
    /// What this process may do.
    pub(crate) fn of_this_process() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Archive } else { Self::Caller }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
}

impl<R: Read> Unpacker<'_, R> {
    pub(super) fn attributes(&self, member: &Member) -> Result<Attributes> {
        let id = |id: u64| {
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| refused(format!("the id {id}")))
        };
        let mode = match (self.owner, member.kind) {
            (Owner::Archive, _) => member.mode,
            (Owner::Caller, Kind::Directory) => member.mode | 0o700,
            (Owner::Caller, _) => member.mode | 0o400,
        };
        Ok(Attributes { mode, uid: id(member.uid)?, gid: id(member.gid)?, mtime: member.mtime })
    }

    pub(super) fn set_owner(
        &self,
        dir: &OwnedFd,
        name: &Path,
        attributes: &Attributes,
        path: &Path,
    ) -> Result<()> {
        if self.owner == Owner::Caller {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        fchownat(dir, name, Some(uid), Some(gid), flags).map_err(|errno| {
            let error = making(path)(errno);
            match errno {
                Errno::EINVAL => {
                    error.with_hint("the image has owners that this user namespace does not map")
                }
                _ => error,
            }
        })
    }

    pub(super) fn set_mode_and_time(&self, fd: &OwnedFd, attributes: &Attributes, path: &Path) -> Result<()> {
        nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(attributes.mode)).map_err(making(path))?;
        let time = attributes.mtime.spec();
        nix::sys::stat::futimens(fd, &time, &time).map_err(making(path))
    }

    /// Keeps a user's attributes, and capabilities if they can be of use. Those of overlayfs are never the archive's to
    /// set: they lead lookups elsewhere.
    pub(super) fn set_xattrs(&self, fd: &OwnedFd, member: &Member) -> Result<()> {
        for (name, value) in &member.xattrs {
            let kept = is_kept(name) && (self.owner == Owner::Archive || name != b"security.capability");
            if !kept || !matches!(member.kind, Kind::File | Kind::Directory) {
                continue;
            }
            let name = CString::new(name.as_slice())
                .map_err(|_| refused("an extended attribute whose name has a NUL byte"))?;
            match sys::set_xattr(fd.as_fd(), &name, value) {
                // Root of a user namespace may not set capabilities of files that are not its own.
                Err(error)
                    if error.raw_os_error() == Some(libc::EPERM) && name == *c"security.capability" => {}
                other => other.map_err(|error| match error.raw_os_error() {
                    // No name, one that is too long, too large a value, capabilities that are none.
                    Some(libc::EINVAL | libc::ERANGE | libc::E2BIG) => {
                        let name = shown(name.as_bytes());
                        refused(format!("the extended attribute {name} is one that no file can have"))
                    }
                    Some(libc::ENOSPC) => storing("setting an extended attribute")(error).with_hint(
                        "the store's filesystem keeps no more attributes of one file (ext4: about a block), or is full",
                    ),
                    _ => storing("setting an extended attribute")(error),
                })?,
            }
        }
        Ok(())
    }

    /// No file is made any more, so the times stay. The last member of a name counts.
    pub(super) fn finish_dirs(&mut self) -> Result<()> {
        for (path, attributes) in std::mem::take(&mut self.dirs) {
            let fd = dir::open_dir(self.tree.as_fd(), dot(&path)).map_err(making(&path))?;
            self.set_owner(&fd, Path::new(""), &attributes, &path)?;
            self.set_mode_and_time(&fd, &attributes, &path)?;
        }
        Ok(())
    }
}

impl Time {
    pub(super) fn spec(self) -> TimeSpec {
        TimeSpec::new(self.seconds, self.nanos)
    }
}
