//! The ruleset of landlock that all programs of the container get: made once, when the mounts are there and before a
//! program has run, so that no program decides what the rules of the next one are about.

use crate::path::Places;
use crate::sys::{self, Errno, Fd, Owned, Result};
use core::ffi::CStr;

/// A ruleset under construction, and then as it is enforced.
pub(crate) struct Ruleset {
    ruleset: Owned,
    /// What paths are looked up in.
    root: Places,
}

impl Ruleset {
    pub(crate) fn new(files: u64, ports: u64, scopes: u64) -> Result<Self> {
        let root = sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?;
        Ok(Self { ruleset: sys::create_ruleset(files, ports, scopes)?, root: Places::new(root) })
    }

    /// Allows rights on a place. No symlink is followed: one that a program has left there would choose what is allowed.
    pub(crate) fn allow_path(&self, path: &CStr, access: u64, on_file: u64, optional: bool) -> Result<()> {
        let place = match self.root.find_exactly(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) if optional => return Ok(()),
            found => found?,
        };
        // The kernel refuses rights on a file that only directories have.
        let access = if sys::stat(place.fd())?.is_dir() { access } else { on_file };
        if access == 0 {
            return if optional { Ok(()) } else { Err(Errno::EINVAL) };
        }
        sys::allow_path(self.ruleset.fd(), place.fd(), access)
    }

    pub(crate) fn allow_port(&self, port: u32, access: u64) -> Result<()> {
        sys::allow_port(self.ruleset.fd(), port, access)
    }

    /// What is left when all rules are there.
    pub(crate) fn finish(self) -> Owned {
        self.ruleset
    }
}
