//! Writes a directory as the archive of a layer. Overlayfs' whiteouts become those of archives.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag};
use tar::{EntryType, Header};

use crate::error::{Error, Result, Step};
use crate::layer::{BLOCK, Budget, DEEPEST, Owner, dir, push_record, shown};
use crate::sys;

/// Attributes of overlayfs, with a user's privileges and with the host's.
const OPAQUE: [&CStr; 2] = [c"user.overlay.opaque", c"trusted.overlay.opaque"];
const WHITEOUT: [&CStr; 2] = [c"user.overlay.whiteout", c"trusted.overlay.whiteout"];
/// What they mean depends on lower layers, and no archive can say it.
const MEANS_LOWER: [&CStr; 4] = [
    c"user.overlay.redirect",
    c"trusted.overlay.redirect",
    c"user.overlay.metacopy",
    c"trusted.overlay.metacopy",
];

pub(crate) struct Packer<'a, W> {
    out: W,
    budget: &'a Budget,
    owner: Owner,
    /// The first name of files that have several.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(out: W, budget: &'a Budget) -> Self {
        Self { out, budget, owner: Owner::of_this_process(), linked: HashMap::new() }
    }

    /// Writes everything below a directory, sorted by name, and the end of the archive.
    pub(crate) fn pack(mut self, root: BorrowedFd<'_>) -> Result<W> {
        self.directory(root, Path::new(""))?;
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn directory(&mut self, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
        if path.components().count() > DEEPEST {
            return Err(failed(path)(nix::errno::Errno::ELOOP.into()));
        }
        if has_any(fd, &OPAQUE, path)?.as_deref() == Some(b"y") {
            self.whiteout(&path.join(".wh..wh..opq"))?;
        }
        for name in dir::names(fd).map_err(|errno| failed(path)(errno.into()))? {
            self.one(fd, Path::new(&name), &path.join(&name))?;
        }
        Ok(())
    }

    fn one(&mut self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<()> {
        let found = dir::look(parent, name).map_err(|errno| failed(path)(errno.into()))?;
        let stat = found.ok_or_else(|| failed(path)(nix::errno::Errno::ENOENT.into()))?;
        self.budget.take_entry()?;
        if dir::is_whiteout(&stat) {
            return self.hidden(name, path);
        }
        if name.as_os_str().as_bytes().starts_with(b".wh.") {
            return Err(Error::invalid(format!(
                "{} would be a whiteout in an archive",
                shown(path.as_os_str().as_bytes())
            ))
            .with_path(path)
            .with_hint("rename it"));
        }
        let failed = |errno: nix::errno::Errno| failed(path)(errno.into());
        match dir::kind_of(&stat) {
            SFlag::S_IFDIR => {
                let fd = dir::open_dir(parent, name).map_err(failed)?;
                let pax = attributes(fd.as_fd(), path)?;
                self.member(path, EntryType::Directory, &stat, b"", 0, pax)?;
                self.directory(fd.as_fd(), path)
            }
            SFlag::S_IFREG => self.file(parent, name, path, &stat),
            SFlag::S_IFLNK => {
                let to = readlinkat(parent, name).map_err(failed)?;
                self.member(path, EntryType::Symlink, &stat, to.as_bytes(), 0, Vec::new())
            }
            SFlag::S_IFIFO => self.member(path, EntryType::Fifo, &stat, b"", 0, Vec::new()),
            // A socket means nothing without its process, and a device nothing in a sandbox.
            _ => Ok(()),
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &Path, path: &Path, stat: &FileStat) -> Result<()> {
        let fd = dir::open(parent, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .map_err(|errno| failed(path)(errno.into()))?;
        if stat.st_size == 0 && has_any(fd.as_fd(), &WHITEOUT, path)?.is_some() {
            return self.hidden(name, path);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let first = first.as_os_str().as_bytes().to_vec();
                return self.member(path, EntryType::Link, stat, &first, 0, Vec::new());
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.budget.take_bytes(size)?;
        let pax = attributes(fd.as_fd(), path)?;
        self.member(path, EntryType::Regular, stat, b"", size, pax)?;
        let mut content = std::fs::File::from(fd).take(size);
        let copied = std::io::copy(&mut content, &mut self.out).map_err(failed(path))?;
        if copied != size {
            return Err(Error::message(
                crate::ErrorKind::Setup,
                Step::Image,
                format!("the file {} changes while it is packed", shown(path.as_os_str().as_bytes())),
            )
            .with_path(path));
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)])
    }

    fn hidden(&mut self, name: &Path, path: &Path) -> Result<()> {
        let mut whiteout = std::ffi::OsString::from(".wh.");
        whiteout.push(name);
        self.whiteout(&path.with_file_name(whiteout))
    }

    fn whiteout(&mut self, path: &Path) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        self.emit(header, path.as_os_str().as_bytes(), b"", Vec::new())
    }

    fn member(
        &mut self,
        path: &Path,
        kind: EntryType,
        stat: &FileStat,
        link: &[u8],
        size: u64,
        pax: Vec<u8>,
    ) -> Result<()> {
        // To an ordinary user's sandbox, who has one id, its files are those of whoever runs in it.
        let (uid, gid) = match self.owner {
            Owner::Archive => (stat.st_uid, stat.st_gid),
            Owner::Caller => (0, 0),
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        self.emit(header, &name, link, pax)
    }

    /// Writes a header, after an extended one for what does not fit.
    fn emit(&mut self, mut header: Header, path: &[u8], link: &[u8], mut pax: Vec<u8>) -> Result<()> {
        let mut fit = |field: &mut [u8; 100], key: &[u8], value: &[u8]| {
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
            if length < value.len() {
                push_record(&mut pax, key, value);
            }
        };
        fit(&mut header.as_old_mut().name, b"path", path);
        fit(&mut header.as_old_mut().linkname, b"linkpath", link);
        if !pax.is_empty() {
            let mut extended = Header::new_ustar();
            extended.as_old_mut().name[..3].copy_from_slice(b"pax");
            extended.set_entry_type(EntryType::XHeader);
            extended.set_mode(0o600);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_size(pax.len() as u64);
            extended.set_cksum();
            self.write(extended.as_bytes())?;
            pax.resize(pax.len().next_multiple_of(BLOCK), 0);
            self.write(&pax)?;
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| Error::os(Step::Image, "writing the archive of a layer", error))
    }
}

/// The attributes that belong into a layer, as records.
fn attributes(fd: BorrowedFd<'_>, path: &Path) -> Result<Vec<u8>> {
    if has_any(fd, &MEANS_LOWER, path)?.is_some() {
        return Err(Error::message(
            crate::ErrorKind::Unsupported,
            Step::Image,
            format!("{} refers to a lower layer", shown(path.as_os_str().as_bytes())),
        )
        .with_path(path)
        .with_hint("mount the overlay with redirect_dir=off and metacopy=off"));
    }
    let mut pax = Vec::new();
    for name in sys::list_xattrs(fd).map_err(failed(path))? {
        let bytes = name.as_bytes();
        let user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        if user || bytes == b"security.capability" {
            let value = sys::get_xattr(fd, &name).map_err(failed(path))?.unwrap_or_default();
            push_record(&mut pax, &[b"SCHILY.xattr.", bytes].concat(), &value);
        }
    }
    Ok(pax)
}

/// The value of the first of some attributes that is there.
fn has_any(fd: BorrowedFd<'_>, names: &[&CStr], path: &Path) -> Result<Option<Vec<u8>>> {
    for name in names {
        if let Some(value) = sys::get_xattr(fd, name).map_err(failed(path))? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let what = format!("packing {}", shown(path.as_os_str().as_bytes()));
        Error::os(Step::Image, what, error).with_path(&path)
    }
}
