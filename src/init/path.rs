//! Finding and making places below the new root, whose contents are hostile: every lookup is confined by
//! `openat2(2)`, and what comes out is a descriptor, never a path that is resolved again.

use crate::sys::{self, Errno, Fd, Owned, Result};
use core::ffi::CStr;

/// `RESOLVE_IN_ROOT`: absolute paths, `..` and symlinks all stay below the root descriptor.
const CONFINED: u64 = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;
/// openat2(2) answers EAGAIN when a rename or mount raced with `..`; it is rare, and hostile beyond this many.
const RACES: usize = 128;
const PATH_MAX: usize = 4096;

/// Opens an existing place (`O_PATH`), following symlinks only inside the root.
fn find(root: Fd, path: &CStr) -> Result<Owned> {
    open(root, path, sys::O_PATH, CONFINED)
}

fn open(root: Fd, path: &CStr, flags: usize, resolve: u64) -> Result<Owned> {
    let mut last = Errno::EAGAIN;
    for _ in 0..RACES {
        match sys::open2(root, path, flags, resolve) {
            Err(Errno::EAGAIN) => last = Errno::EAGAIN,
            other => return other,
        }
    }
    Err(last)
}

/// A path under construction, NUL-terminated after every step.
struct Prefix {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Prefix {
    fn new() -> Self {
        Self { bytes: [0; PATH_MAX], length: 0 }
    }

    fn push(&mut self, component: &[u8]) -> Result<()> {
        let end = self.length + 1 + component.len();
        if end >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes[self.length] = b'/';
        self.bytes[self.length + 1..end].copy_from_slice(component);
        self.bytes[end] = 0;
        self.length = end;
        Ok(())
    }

    fn text(&self) -> Result<&CStr> {
        if self.length == 0 {
            return Ok(c"/");
        }
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::EINVAL)
    }

    /// The last component alone.
    fn name(&self, component: usize) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes[self.length - component..]).map_err(|_| Errno::EINVAL)
    }
}

fn components(path: &CStr) -> impl Iterator<Item = &[u8]> + Clone {
    path.to_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The new root, and the directory in it that was needed last: operations come in runs that share one.
pub(crate) struct Places {
    root: Owned,
    parent: Option<Owned>,
    parent_path: Prefix,
}

impl Places {
    pub(crate) fn new(root: Owned) -> Self {
        Self { root, parent: None, parent_path: Prefix::new() }
    }

    pub(crate) fn root(&self) -> Fd {
        self.root.fd()
    }

    /// To be called after every mount: it may cover the directory that was needed last.
    pub(crate) fn forget(&mut self) {
        self.parent = None;
    }

    /// Opens an existing place.
    pub(crate) fn find(&self, path: &CStr) -> Result<Owned> {
        find(self.root(), path)
    }

    /// Opens an existing place by its own name: a symlink anywhere in the path is ELOOP.
    pub(crate) fn find_exactly(&self, path: &CStr) -> Result<Owned> {
        open(self.root(), path, sys::O_PATH, CONFINED | sys::RESOLVE_NO_SYMLINKS)
    }

    /// Opens an existing file for reading. Whatever it is, nobody is waited for.
    pub(crate) fn read(&self, path: &CStr) -> Result<Owned> {
        open(self.root(), path, sys::O_RDONLY | sys::O_NONBLOCK | sys::O_NOCTTY, CONFINED)
    }

    /// Opens a directory, making what is missing of its path. Most targets are missing, so that is tried first.
    pub(crate) fn make_dirs(&mut self, path: &CStr) -> Result<Owned> {
        // A path that ends in `..` names something that is there, or nothing.
        if components(path).last().is_none_or(|last| last == b"..") {
            return self.find(path);
        }
        let made = self.in_parent(path, |parent, name| {
            sys::mkdir(parent, name, 0o755)?;
            let flags = sys::O_PATH | sys::O_DIRECTORY | sys::O_NOFOLLOW;
            sys::open2(parent, name, flags, sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS)
        });
        match made {
            Err(Errno::EEXIST) => self.existing(path),
            other => other,
        }
    }

    /// Opens an existing file, or makes an empty one, as a place to mount a file on.
    pub(crate) fn make_file(&mut self, path: &CStr) -> Result<Owned> {
        let made = self.in_parent(path, |parent, name| {
            sys::open(parent, name, sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW, 0o644)
        });
        match made {
            Err(Errno::EEXIST) => self.existing(path),
            other => other,
        }
    }

    /// What is there under a name that could not be made because it exists. A symlink that leads nowhere is an error:
    /// making its target would be making what a hostile root chose.
    fn existing(&self, path: &CStr) -> Result<Owned> {
        match self.find(path) {
            Err(Errno::ENOENT) => Err(Errno::ELOOP),
            found => found,
        }
    }

    /// Calls `f` with the directory that holds the last component of `path`, and that component, which is never `..`, `.`
    /// or empty.
    pub(crate) fn in_existing_parent<T>(
        &self,
        path: &CStr,
        f: impl FnOnce(Fd, &CStr) -> Result<T>,
    ) -> Result<T> {
        let total = components(path).count();
        let Some(last) = components(path).last().filter(|last| *last != b"..") else {
            return Err(Errno::EINVAL);
        };
        let (mut name, mut parent) = (Prefix::new(), Prefix::new());
        name.push(last)?;
        components(path).take(total - 1).try_for_each(|part| parent.push(part))?;
        f(self.find(parent.text()?)?.fd(), name.name(last.len())?)
    }

    /// Calls `f` with the directory that shall hold the last component of `path` (made if missing), and that
    /// component, which is never `..`, `.` or empty.
    pub(crate) fn in_parent<T>(&mut self, path: &CStr, f: impl FnOnce(Fd, &CStr) -> Result<T>) -> Result<T> {
        let total = components(path).count();
        let Some(last) = components(path).last() else { return Err(Errno::EINVAL) };
        if last == b".." {
            return Err(Errno::EINVAL);
        }
        let mut name = Prefix::new();
        name.push(last)?;
        let name = name.name(last.len())?;
        if total == 1 {
            return f(self.root(), name);
        }
        let parts = components(path).take(total - 1);
        let mut wanted = Prefix::new();
        parts.clone().try_for_each(|part| wanted.push(part))?;
        if self.parent.is_none() || self.parent_path.text()? != wanted.text()? {
            self.parent = Some(walk(self.root(), parts)?);
            self.parent_path = wanted;
        }
        let parent = self.parent.as_ref().map(Owned::fd).ok_or(Errno::EPROTO)?;
        f(parent, name)
    }
}

/// Opens the directory with these components below the root, making what is missing.
fn walk<'a>(root: Fd, parts: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Owned> {
    let mut whole = Prefix::new();
    parts.clone().try_for_each(|part| whole.push(part))?;
    match find(root, whole.text()?) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    let mut prefix = Prefix::new();
    let mut here = find(root, c"/")?;
    for part in parts {
        prefix.push(part)?;
        here = match find(root, prefix.text()?) {
            Err(Errno::ENOENT) => {
                let name = prefix.name(part.len())?;
                match sys::mkdir(here.fd(), name, 0o755) {
                    Err(Errno::EEXIST) => return Err(Errno::ELOOP),
                    made => made?,
                }
                sys::open2(
                    here.fd(),
                    name,
                    sys::O_PATH | sys::O_DIRECTORY | sys::O_NOFOLLOW,
                    sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS,
                )?
            }
            found => found?,
        };
    }
    Ok(here)
}
