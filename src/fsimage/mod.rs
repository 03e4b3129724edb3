//! Filesystem images: files of the host that have a read-only filesystem in them, as layers and roots.
//!
//! A file becomes a block device by a loop device, that is mounted once, nowhere, and each sandbox gets a mount of its own
//! of the same filesystem. Nothing has to be undone: the kernel takes the loop device away with the last mount, whoever
//! had it.

mod format;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub(crate) use self::format::Format;
use self::format::{HEAD, Head, identify};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys;

/// An image that is mounted as long as there is one of these.
#[derive(Debug, Clone)]
pub(crate) struct FsImage {
    path: PathBuf,
    mounted: Arc<Mounted>,
}

/// A filesystem on a loop device.
#[derive(Debug)]
struct Mounted {
    file: Identity,
    format: Format,
    /// The loop device's, which is ours as long as its filesystem is mounted.
    device: CString,
    /// Keeps the filesystem, and what the kernel has cached of it, from one sandbox to the next.
    _mount: OwnedFd,
}

/// Which file it is, and that it was not changed. The change time says so, for the caller may set the other one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// A file that says that it is an image.
#[derive(Debug)]
pub(crate) struct Candidate {
    path: PathBuf,
    file: File,
    identity: Identity,
    format: Format,
}

impl Candidate {
    /// Looks at a file, which is trusted, wherever its path leads.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |what: &str| {
            let what = format!("{what} {}", path.display());
            move |error: io::Error| Error::os(Step::MountSource, what, error).with_path(path)
        };
        // Whatever is there by now must not keep us waiting.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = opened.map_err(failed("opening the filesystem image"))?;
        let file = File::from(sys::above_stdio(file.into()).map_err(failed("opening the filesystem image"))?);
        let metadata = file.metadata().map_err(failed("looking at"))?;
        if !metadata.is_file() {
            return Err(not_an_image(path));
        }
        let mut head = [0; HEAD];
        let length = read_head(&file, &mut head).map_err(failed("reading"))?;
        let Some(Head { format, bytes }) = identify(head.get(..length).unwrap_or_default()) else {
            return Err(not_an_image(path));
        };
        // A loop device has whole sectors only.
        if bytes > metadata.size() / SECTOR * SECTOR {
            let message = format!(
                "{} is cut off: its {} has {bytes} bytes, and the file has {}",
                path.display(),
                format.name(),
                metadata.size()
            );
            return Err(Error::message(ErrorKind::InvalidImage, Step::MountSource, message)
                .with_path(path)
                .with_hint(
                    "make or copy it again; one that was made without padding (`-nopad`) needs \
                     `truncate -s %4096`",
                ));
        }
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok(Self { path: path.to_path_buf(), file, identity, format })
    }

    /// The error for a host that has no power over mounts.
    pub(crate) fn refused(&self) -> Error {
        let what = format!("the {} image {}", self.format.name(), self.path.display());
        refused(self.format, &what).with_path(&self.path)
    }

    /// Mounts it, or shares the mount of somebody else in this process.
    pub(crate) fn mount(self) -> Result<FsImage> {
        static MOUNTED: Mutex<Vec<Weak<Mounted>>> = Mutex::new(Vec::new());
        // Held until it is mounted, so that many sandboxes at once take one loop device.
        let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        mounted.retain(|one| one.strong_count() > 0);
        let known = mounted.iter().filter_map(Weak::upgrade).find(|one| one.file == self.identity);
        if let Some(known) = known {
            return Ok(FsImage { path: self.path, mounted: known });
        }
        let (device, number) = self.attach()?;
        let name = CString::new(loop_device(number))
            .map_err(|_| Error::internal(Step::MountSource, "a loop device's name with a NUL byte"))?;
        let mount = sys::detached_from_device(self.format.kind(), &name).and_then(sys::above_stdio);
        let mount = mount.map_err(|error| self.not_mounted(error))?;
        // From here on the filesystem keeps it.
        drop(device);
        let one = Arc::new(Mounted { file: self.identity, format: self.format, device: name, _mount: mount });
        mounted.push(Arc::downgrade(&one));
        Ok(FsImage { path: self.path, mounted: one })
    }

    /// Finds a loop device for it. The kernel takes that away when the descriptor is closed, unless it was mounted.
    fn attach(&self) -> Result<(OwnedFd, u32)> {
        /// Everybody on this machine takes from the same devices.
        const TRIES: u32 = 200;
        let control = File::options().read(true).write(true).open("/dev/loop-control");
        let control = control.map_err(|error| self.no_loop_device("opening /dev/loop-control", error))?;
        let mut last = io::Error::from_raw_os_error(libc::EBUSY);
        for attempt in 0..TRIES {
            let number = sys::free_loop_device(control.as_fd())
                .map_err(|error| self.no_loop_device("finding a free loop device", error))?;
            let device = File::open(loop_device(number)).map(OwnedFd::from).and_then(sys::above_stdio);
            let attached = device.and_then(|device| {
                sys::attach_to_loop_device(device.as_fd(), self.file.as_fd())?;
                Ok(device)
            });
            match attached {
                Ok(device) => return Ok((device, number)),
                // Somebody else was faster, or has removed it.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENXIO)) => last = error,
                Err(error) => {
                    let what = format!("attaching {} to {}", self.path.display(), loop_device(number));
                    return Err(self.no_loop_device(&what, error));
                }
            }
            if attempt > 8 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Err(self
            .no_loop_device("finding a loop device that is free", last)
            .with_kind(ErrorKind::ResourceExhausted))
    }

    fn no_loop_device(&self, what: &str, error: io::Error) -> Error {
        let error = Error::os(Step::MountSource, what.to_owned(), error).with_path(&self.path);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                error.with_kind(ErrorKind::Unsupported).with_hint(
                    "as root: `modprobe loop`; a container needs /dev/loop-control and the loop devices of its host",
                )
            }
            Some(libc::EPERM | libc::EACCES) => error.with_hint(unpack(self.format)),
            _ => error,
        }
    }

    fn not_mounted(&self, error: io::Error) -> Error {
        let name = self.format.name();
        let what = format!("mounting the {name} image {}", self.path.display());
        let error = Error::os(Step::MountSource, what, error).with_path(&self.path);
        match error.raw_os_error() {
            Some(libc::ENODEV) => error.with_hint(format!(
                "as root: `modprobe {name}`; if there is no such module, a kernel that was built with it, or an image \
                 that is unpacked"
            )),
            Some(libc::EPERM | libc::EACCES) => error.with_hint(unpack(self.format)),
            Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EBADMSG | libc::EUCLEAN) => {
                error.with_kind(ErrorKind::InvalidImage).with_hint(
                    "it is damaged, or made in a way that this kernel does not know (a compression, for instance): the \
                     kernel's log (`dmesg`) says which",
                )
            }
            _ => error,
        }
    }
}

impl FsImage {
    /// Where it was found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A mount of its own, nowhere. The ids are those in the image.
    pub(crate) fn tree(&self) -> io::Result<OwnedFd> {
        sys::detached_from_device(self.mounted.format.kind(), &self.mounted.device)
    }

    /// The error for a kernel that does not map ids of this filesystem.
    pub(crate) fn not_presented(&self, error: io::Error) -> Error {
        let what = format!("mapping the ids of the image {}", self.path.display());
        let refused = error.raw_os_error() == Some(libc::EINVAL);
        let error = Error::os(Step::MountSource, what, error).with_path(&self.path).with_hint(format!(
            "a user namespace needs id-mapped mounts, of erofs from Linux 5.19 and of squashfs from 6.2; {}",
            unpacked(self.mounted.format)
        ));
        if refused { error.with_kind(ErrorKind::Unsupported) } else { error }
    }
}

/// The images among these paths.
pub(crate) fn mount_all(paths: &[PathBuf]) -> Result<Vec<FsImage>> {
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| Candidate::open(path)?.mount()).collect()
}

/// What a sector of a block device has.
const SECTOR: u64 = 512;

fn loop_device(number: u32) -> String {
    format!("/dev/loop{number}")
}

fn read_head(file: &File, head: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn not_an_image(path: &Path) -> Error {
    Error::invalid(format!("{} is neither a directory nor a filesystem image", path.display()))
        .with_path(path)
        .with_hint(
            "layers are directories, or images of squashfs or erofs, told by what is in them: `file` says what this is",
        )
}

/// The error for a host that has no power over mounts, about one image or all of a kind.
pub(crate) fn refused(format: Format, what: &str) -> Error {
    let message = format!("an unprivileged caller cannot mount {what}");
    Error::message(ErrorKind::PermissionDenied, Step::MountSource, message).with_hint(unpack(format))
}

fn unpack(format: Format) -> String {
    format!("only the root of the host mounts filesystem images: run as that, or {}", unpacked(format))
}

/// What always works.
fn unpacked(format: Format) -> &'static str {
    match format {
        Format::Squashfs => "unpack it (`unsquashfs -d DIR FILE`) and name DIR",
        Format::Erofs => "unpack it (`fsck.erofs --extract=DIR FILE`) and name DIR",
    }
}
