//! Where an image comes from: a directory or a tar archive with blobs in it. Both are hostile.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::decode::{Decoder, is_compressed};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::layer::{Archive, Budget, Kind, LARGEST_DOCUMENT, NoTape, dir, refused, shown, storing};

/// Members of an archive of images.
const MOST_MEMBERS: u64 = 1_000_000;
/// Bytes of all names that the index of an archive keeps. Images have some hundred short ones.
const MOST_NAME_BYTES: usize = 64 << 20;
/// How often one member may lead to another.
const MOST_LINKS: usize = 8;

pub(crate) enum Source {
    Dir(OwnedFd),
    Tar { file: Arc<File>, members: HashMap<PathBuf, Place> },
}

/// Where a member of an archive is.
#[derive(Debug)]
pub(crate) enum Place {
    Range {
        start: u64,
        length: u64,
    },
    /// Old archives have a layer once, and symlinks to it.
    Link(PathBuf),
}

impl Source {
    /// Opens a directory or an archive, which may be compressed: then it is unpacked to a file without a name in `tmp`.
    pub(crate) fn open(path: &Path, tmp: &OwnedFd, budget: &Budget) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::os(Step::Image, format!("opening {}", path.display()), error).with_path(path)
        };
        // A FIFO would make us wait.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(fd);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Self::Dir(file.into()));
        }
        if !metadata.is_file() {
            return Err(refused(format!("{} is no file and no directory", path.display())).with_path(path));
        }
        if is_compressed(&file).map_err(failed)? {
            file = unpacked(file, tmp, budget)?;
        }
        let members = index(&file)?;
        Ok(Self::Tar { file: Arc::new(file), members })
    }

    /// Opens a blob by its path; `None` if there is none.
    pub(crate) fn blob(&self, path: &Path) -> Result<Option<Blob>> {
        match self {
            Self::Dir(dir) => match dir::open_file(dir.as_fd(), path) {
                Ok(file) => {
                    let length = file.metadata().map_err(storing("looking at a blob"))?.len();
                    Ok(Some(Blob { file: Arc::new(file), at: 0, end: length }))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    let what = format!("opening {} of the image", path.display());
                    Err(Error::os(Step::Image, what, error).with_path(path))
                }
            },
            Self::Tar { file, members } => {
                let mut path = path.to_owned();
                for _ in 0..MOST_LINKS {
                    match members.get(&path) {
                        None => return Ok(None),
                        Some(Place::Range { start, length }) => {
                            let (at, end) = (*start, start + length);
                            return Ok(Some(Blob { file: file.clone(), at, end }));
                        }
                        Some(Place::Link(to)) => path.clone_from(to),
                    }
                }
                Err(refused("members of the archive that lead to one another"))
            }
        }
    }

    /// Reads a document; `None` if there is none.
    pub(crate) fn document(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(blob) = self.blob(path)? else { return Ok(None) };
        if blob.len() > LARGEST_DOCUMENT {
            let name = path.display();
            return Err(refused(format!("the document {name} of {} bytes is too large", blob.len())));
        }
        let mut bytes = Vec::new();
        let mut blob = blob.take(LARGEST_DOCUMENT);
        blob.read_to_end(&mut bytes).map_err(storing("reading a document of the image"))?;
        Ok(Some(bytes))
    }
}

/// A part of a file, read from where it is without moving anybody's position.
#[derive(Debug)]
pub(crate) struct Blob {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Blob {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Unpacks a compressed archive into a file that is gone when it is closed.
fn unpacked(file: File, tmp: &OwnedFd, budget: &Budget) -> Result<File> {
    let failed = || storing("unpacking a compressed archive");
    let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::openat(tmp, ".", flags, Mode::from_bits_truncate(0o600))
        .map_err(|errno| failed()(errno.into()))?;
    let mut out = File::from(fd);
    let mut decoder = Decoder::new(BufReader::with_capacity(1 << 16, file))?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = decoder.read(&mut buffer).map_err(crate::layer::reading)?;
        if length == 0 {
            break;
        }
        budget.take_bytes(length as u64)?;
        io::Write::write_all(&mut out, &buffer[..length]).map_err(failed())?;
    }
    out.seek(SeekFrom::Start(0)).map_err(failed())?;
    Ok(out)
}

/// Where the members of an archive are. Their content is jumped over.
fn index(file: &File) -> Result<HashMap<PathBuf, Place>> {
    let end = file.metadata().map_err(storing("looking at an archive"))?.len();
    let copy = file.try_clone().map_err(storing("reading an archive"))?;
    let budget = Budget::new(u64::MAX, MOST_MEMBERS);
    let mut archive = Archive::new(BufReader::new(copy), NoTape, &budget);
    let mut members = HashMap::new();
    let mut name_bytes = 0;
    while let Some(member) = archive.next()? {
        let path = inside(Path::new(""), &member.path)?;
        let place = match member.kind {
            Kind::File if member.sparse.is_none() => {
                Place::Range { start: archive.position()?, length: member.size }
            }
            Kind::Symlink => {
                let parent = path.parent().unwrap_or(Path::new(""));
                Place::Link(inside(parent, &member.link)?)
            }
            Kind::HardLink => Place::Link(inside(Path::new(""), &member.link)?),
            _ => continue,
        };
        if let Place::Range { start, length } = place {
            if start.checked_add(length).is_none_or(|last| last > end) {
                return Err(refused(format!("the archive is cut off in {}", shown(&member.path))));
            }
        }
        archive.seek_over()?;
        name_bytes += path.as_os_str().len();
        if let Place::Link(to) = &place {
            name_bytes += to.as_os_str().len();
        }
        if name_bytes > MOST_NAME_BYTES {
            return Err(refused("the names in the archive are too long together")
                .with_kind(ErrorKind::LimitExceeded)
                .with_hint("import an archive that has nothing but the image"));
        }
        if members.insert(path, place).is_some() {
            return Err(refused(format!("two members of the archive have the name {}", shown(&member.path))));
        }
    }
    // The digests of layers would show a layer that is cut off; which blobs there are nothing else shows.
    if !archive.has_ended() {
        return Err(refused("the archive is cut off"));
    }
    Ok(members)
}

/// A path of an archive, from a directory of it. It is a key, and never looked up in a filesystem.
fn inside(from: &Path, path: &[u8]) -> Result<PathBuf> {
    let mut clean = from.to_owned();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::RootDir => clean = PathBuf::new(),
            Component::ParentDir if clean.pop() => {}
            _ => return Err(refused(format!("the path {} leads out of the archive", shown(path)))),
        }
    }
    Ok(clean)
}

/// A blob that the image names and does not have.
pub(crate) fn missing(path: &Path) -> Error {
    Error::message(ErrorKind::InvalidImage, Step::Image, format!("the image has no {}", path.display()))
        .with_path(path)
}
