//! The members of a layer's archive, one by one. What is written is held by a descriptor before it is looked at: its
//! directory may be that of a program that runs, and swaps names meanwhile.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, fstat};
use tar::{EntryType, Header};

use crate::changes::View;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::layer::{
    BLOCK, Budget, DEEPEST, LONGEST_PATH, LONGEST_PAX, Owner, Time, dir, push_record, push_time, shown,
};

/// What a name led to when it was looked up.
pub(super) struct Found {
    pub(super) fd: OwnedFd,
    pub(super) stat: FileStat,
}

impl Found {
    pub(super) fn look(parent: BorrowedFd<'_>, name: &OsStr) -> nix::Result<Self> {
        let fd = dir::hold(parent, name)?;
        let stat = fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    pub(super) fn kind(&self) -> SFlag {
        dir::kind_of(&self.stat)
    }
}

pub(super) struct Members<'a, W> {
    out: W,
    budget: &'a Budget,
    owner: Owner,
    ids: &'a View,
    /// The first name of files that have several, and what they were like then.
    linked: HashMap<(u64, u64), (PathBuf, State)>,
}

impl<'a, W: Write> Members<'a, W> {
    pub(super) fn new(out: W, budget: &'a Budget, ids: &'a View) -> Self {
        Self { out, budget, owner: Owner::of_this_process(), ids, linked: HashMap::new() }
    }

    /// Writes one entry, of a directory nothing that is in it. `false` for what has no place in a layer: a socket means
    /// nothing without its process, and a device nothing in a sandbox.
    pub(super) fn add(&mut self, found: &Found, path: &Path) -> Result<bool> {
        check_name(path)?;
        let failed = |errno: nix::errno::Errno| failed(path)(errno.into());
        let stat = &found.stat;
        match found.kind() {
            SFlag::S_IFDIR => {
                if path.components().count() > DEEPEST {
                    return Err(too_much(path, &format!("lies more than {DEEPEST} directories deep")));
                }
                let fd = dir::reopen(found.fd.as_fd()).map_err(failed)?;
                let pax = self.attributes(&fd, path)?;
                self.member(path, EntryType::Directory, stat, b"", 0, pax)?;
            }
            SFlag::S_IFREG => self.file(found, path)?,
            SFlag::S_IFLNK => {
                let to = readlinkat(&found.fd, "").map_err(failed)?;
                self.member(path, EntryType::Symlink, stat, to.as_bytes(), 0, Vec::new())?;
            }
            SFlag::S_IFIFO => self.member(path, EntryType::Fifo, stat, b"", 0, Vec::new())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn file(&mut self, found: &Found, path: &Path) -> Result<()> {
        let stat = &found.stat;
        if stat.st_nlink > 1 {
            if let Some((first, then)) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                // Another file by now may have the number of one that is gone.
                if *then != state(stat) {
                    return Err(changes(path));
                }
                let first = first.as_os_str().as_bytes().to_vec();
                return self.member(path, EntryType::Link, stat, &first, 0, Vec::new());
            }
            self.linked.insert((stat.st_dev, stat.st_ino), (path.to_owned(), state(stat)));
        }
        let fd = dir::reopen(found.fd.as_fd()).map_err(|errno| failed(path)(errno.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.budget.take_bytes(size).map_err(|error| error.with_path(path))?;
        let pax = self.attributes(&fd, path)?;
        self.member(path, EntryType::Regular, stat, b"", size, pax)?;
        let mut content = File::from(fd);
        let copied = std::io::copy(&mut (&mut content).take(size), &mut self.out).map_err(failed(path))?;
        let now = fstat(&content).map_err(|errno| failed(path)(errno.into()))?;
        if copied != size || state(&now) != state(stat) {
            return Err(changes(path));
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)])
    }

    /// Hides what lower layers have at a path.
    pub(super) fn whiteout(&mut self, path: &Path) -> Result<()> {
        check_name(path)?;
        let mut name = OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        self.mark(&path.with_file_name(name))
    }

    /// Hides what lower layers have in a directory.
    pub(super) fn opaque(&mut self, path: &Path) -> Result<()> {
        self.mark(&path.join(".wh..wh..opq"))
    }

    fn mark(&mut self, path: &Path) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        self.emit(header, path.as_os_str().as_bytes(), b"", Vec::new())
    }

    /// The end of the archive.
    pub(super) fn end(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn member(
        &mut self,
        path: &Path,
        kind: EntryType,
        stat: &FileStat,
        link: &[u8],
        size: u64,
        mut pax: Vec<u8>,
    ) -> Result<()> {
        // To an ordinary user's sandbox, who has one id, its files are those of whoever runs in it.
        let (uid, gid) = match self.owner {
            Owner::Archive => self.ids.inside(stat),
            Owner::Caller => (0, 0),
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size);
        let time = Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec };
        match u64::try_from(time.seconds) {
            Ok(seconds) => header.set_mtime(seconds),
            Err(_) => header.set_mtime(0),
        }
        // A header has whole seconds since 1970.
        if time.seconds < 0 || time.nanos != 0 {
            push_time(&mut pax, b"mtime", time);
        }
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        self.emit(header, &name, link, pax)
    }

    /// Writes a header, after an extended one for what does not fit.
    fn emit(&mut self, mut header: Header, path: &[u8], link: &[u8], mut pax: Vec<u8>) -> Result<()> {
        let named = || Path::new(OsStr::from_bytes(path));
        if path.len() > LONGEST_PATH {
            return Err(too_much(named(), &format!("is a path of more than {LONGEST_PATH} bytes")));
        }
        self.budget.take_entry()?;
        let mut fit = |field: &mut [u8; 100], key: &[u8], value: &[u8]| {
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
            if length < value.len() {
                push_record(&mut pax, key, value);
            }
        };
        fit(&mut header.as_old_mut().name, b"path", path);
        fit(&mut header.as_old_mut().linkname, b"linkpath", link);
        if pax.len() as u64 > LONGEST_PAX {
            return Err(too_much(named(), &format!("has more than {LONGEST_PAX} bytes of attributes")));
        }
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
        self.budget.take_bytes(bytes.len() as u64)?;
        self.out
            .write_all(bytes)
            .map_err(|error| Error::os(Step::Image, "writing the archive of a layer", error))
    }

    /// The attributes that belong into a layer, as records.
    fn attributes(&self, fd: &OwnedFd, path: &Path) -> Result<Vec<u8>> {
        let mut pax = Vec::new();
        let attributes = self.ids.attributes(fd.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => too_much(path, &format!("has more than {LONGEST_PAX} bytes of attributes")),
            _ => failed(path)(error),
        })?;
        for (name, value) in attributes {
            // A record's key ends there, so it would be another attribute.
            if name.as_bytes().contains(&b'=') {
                let message = format!("an attribute of {} has a `=` in its name", path.display());
                return Err(Error::message(ErrorKind::InvalidConfig, Step::Image, message)
                    .with_path(path)
                    .with_hint("remove the attribute; no archive can have it"));
            }
            push_record(&mut pax, &[b"SCHILY.xattr.", name.as_bytes()].concat(), &value);
        }
        Ok(pax)
    }
}

type State = (i64, i64, i64, i64, i64);

/// What changes when a file is written to. Its times alone would not tell of a write within one tick of the clock.
fn state(stat: &FileStat) -> State {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

fn check_name(path: &Path) -> Result<()> {
    if !path.file_name().unwrap_or_default().as_bytes().starts_with(b".wh.") {
        return Ok(());
    }
    let path_shown = shown(path.as_os_str().as_bytes());
    Err(Error::message(
        ErrorKind::InvalidConfig,
        Step::Image,
        format!("{path_shown} would be a whiteout in an archive"),
    )
    .with_path(path)
    .with_hint("rename it"))
}

fn too_much(path: &Path, what: &str) -> Error {
    let message = format!("{} {what}, and no layer may", shown(path.as_os_str().as_bytes()));
    Error::message(ErrorKind::LimitExceeded, Step::Image, message)
        .with_path(path)
        .with_hint("remove what the program has made, or discard the changes")
}

/// Something that is written to, or replaced, at this moment.
pub(super) fn changes(path: &Path) -> Error {
    let message = format!("{} changes while it is packed", shown(path.as_os_str().as_bytes()));
    Error::message(ErrorKind::Setup, Step::Image, message)
        .with_path(path)
        .with_hint("wait until nobody writes there any more, or make the sandbox freezable")
}

pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let what = format!("packing {}", shown(path.as_os_str().as_bytes()));
        let error = Error::os(Step::Image, what, error).with_path(&path);
        match error.kind() {
            ErrorKind::PermissionDenied => error.with_hint(
                "it is closed to this user, perhaps by a program to its own user, which an unprivileged host is: have \
                 the permission given back, or run as root",
            ),
            _ => error,
        }
    }
}
