//! Unpacks the members of a layer's archive into a directory, and never leaves it.
//!
//! Every member is made by its last name in a directory that is held open. The directories above are looked up by the
//! kernel below the layer's own, without following symlinks; one that is in the way, as old archives have them, is
//! followed as if the layer were the root. A name is never opened for writing: what is there makes way first.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mkdirat, mknodat, utimensat};
use nix::unistd::{linkat, symlinkat};

use super::archive::{Archive, Extents, Kind, Member, shown};
use super::attributes::{Attributes, Owner};
use super::place::{Place, check_depth};
use super::skeleton::SkeletonWriter;
use super::{dir, refused, storing};
use crate::error::{Error, Result, Step};
use crate::removal;
use crate::sys;

/// How content travels.
const CHUNK: usize = 128 * 1024;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other files of AUFS' own, which mean nothing in a layer.
const AUFS: &[u8] = b".wh..wh.";

/// What an archive had.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    /// Device nodes, which are left out.
    pub(crate) devices: u64,
}

pub(crate) struct Unpacker<'a, R> {
    pub(super) archive: Archive<'a, R, SkeletonWriter>,
    pub(super) tree: OwnedFd,
    spare: OwnedFd,
    pub(super) owner: Owner,
    /// The directory that was used last: most members are in the one of the member before.
    pub(super) last: Option<(PathBuf, Place)>,
    /// Modes and times of directories, set at the end: making a file in one changes its time. By path, so that a
    /// directory takes its place once, however many members it has, and those below it follow it.
    pub(super) dirs: BTreeMap<PathBuf, Attributes>,
    counts: Counts,
    buffer: Vec<u8>,
}

impl<'a, R: Read> Unpacker<'a, R> {
    pub(crate) fn new(
        archive: Archive<'a, R, SkeletonWriter>,
        tree: OwnedFd,
        spare: OwnedFd,
        owner: Owner,
    ) -> Self {
        let buffer = vec![0; CHUNK];
        Self {
            archive,
            tree,
            spare,
            owner,
            last: None,
            dirs: BTreeMap::new(),
            counts: Counts::default(),
            buffer,
        }
    }

    /// Unpacks everything. `go_on` is asked before each member.
    pub(crate) fn run(mut self, go_on: &dyn Fn() -> Result<()>) -> Result<(R, SkeletonWriter, Counts)> {
        while let Some(member) = self.archive.next()? {
            go_on()?;
            self.member(&member).map_err(|error| match error.path() {
                Some(_) => error,
                None => error.with_path(OsStr::from_bytes(&member.path)),
            })?;
        }
        self.finish_dirs()?;
        let (stream, skeleton) = self.archive.finish()?;
        Ok((stream, skeleton, self.counts))
    }

    fn member(&mut self, member: &Member) -> Result<()> {
        let path = clean(&member.path)?;
        let Some(name) = path.file_name() else {
            // The root of the layer itself.
            return match member.kind {
                Kind::Directory => {
                    let attributes = self.attributes(member)?;
                    self.set_xattrs(&self.open_tree()?, member)?;
                    self.dirs.insert(PathBuf::new(), attributes);
                    Ok(())
                }
                _ => Err(refused("the root of a layer is no directory")),
            };
        };
        let above = path.parent().unwrap_or(Path::new(""));
        if member.kind == Kind::Device {
            self.counts.devices += 1;
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(member, above, name.as_bytes(), hidden);
        }
        let parent = self.parent(above)?;
        let place = Target { parent: &parent.fd, name: Path::new(name), path: parent.path.join(name) };
        let result = match member.kind {
            Kind::Directory => self.directory(&place, member),
            Kind::File => self.file(&place, member),
            Kind::Symlink => self.symlink(&place, member),
            Kind::HardLink => self.hard_link(&place, member),
            Kind::Fifo => self.fifo(&place, member),
            Kind::Device => Ok(()),
        };
        self.last = Some((above.to_owned(), parent));
        result
    }

    fn directory(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        check_depth(&target.path)?;
        let found = target.look()?;
        let hidden = found.as_ref().is_some_and(dir::is_whiteout);
        if found.is_none_or(|stat| dir::kind_of(&stat) != SFlag::S_IFDIR) {
            self.clear(target)?;
            mkdirat(target.parent, target.name, Mode::from_bits_truncate(0o700)).map_err(target.making())?;
        }
        if hidden {
            self.make_opaque(target.parent, target.name)?;
        }
        if !member.xattrs.is_empty() {
            let fd = dir::open_dir(target.parent.as_fd(), target.name).map_err(target.making())?;
            self.set_xattrs(&fd, member)?;
        }
        let attributes = self.attributes(member)?;
        self.dirs.insert(target.path.clone(), attributes);
        Ok(())
    }

    fn file(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        self.clear(target)?;
        let mode = Mode::from_bits_truncate(0o600);
        let mut file = dir::create_file(target.parent.as_fd(), target.name, mode).map_err(target.making())?;
        let failed = |error| storing("writing a file of the layer")(error).with_path(&target.path);
        match &member.sparse {
            Some(extents) => self.fill_sparse(&mut file, extents).map_err(|error| error.or(failed))?,
            None => {
                if member.size > 0 {
                    self.archive.tape.file(&target.path, member.size)?;
                }
                loop {
                    let length = self.archive.read(&mut self.buffer)?;
                    if length == 0 {
                        break;
                    }
                    file.write_all(&self.buffer[..length]).map_err(failed)?;
                }
            }
        }
        let fd = OwnedFd::from(file);
        let attributes = self.attributes(member)?;
        self.set_owner(&fd, Path::new(""), &attributes, &target.path)?;
        // After the owner, whose change drops capabilities and set-ID bits.
        self.set_xattrs(&fd, member)?;
        self.set_mode_and_time(&fd, &attributes, &target.path)
    }

    /// Writes the parts where they belong. Their bytes stay in the skeleton too: there is no telling from the file
    /// alone which of its holes were holes.
    fn fill_sparse(&mut self, file: &mut File, extents: &Extents) -> std::result::Result<(), Either> {
        for (offset, length) in &extents.list {
            file.seek(SeekFrom::Start(*offset)).map_err(Either::Disk)?;
            let mut left = *length;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let length = self.archive.read_taped(&mut self.buffer[..most]).map_err(Either::Archive)?;
                file.write_all(&self.buffer[..length]).map_err(Either::Disk)?;
                left -= length as u64;
            }
        }
        file.set_len(extents.real_size).map_err(Either::Disk)
    }

    fn symlink(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        self.clear(target)?;
        let to = CString::new(member.link.as_slice()).ok().filter(|to| !to.is_empty());
        let to = to.ok_or_else(|| refused("a symlink to nothing, or with a NUL byte"))?;
        symlinkat(to.as_c_str(), target.parent, target.name).map_err(target.making())?;
        self.finish_unopened(target, member)
    }

    fn fifo(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        self.clear(target)?;
        let mode = Mode::from_bits_truncate(0o600);
        mknodat(target.parent, target.name, SFlag::S_IFIFO, mode, 0).map_err(target.making())?;
        let attributes = self.attributes(member)?;
        self.finish_unopened(target, member)?;
        let fd = dir::open(target.parent.as_fd(), target.name, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        self.set_mode_and_time(&fd.map_err(target.making())?, &attributes, &target.path)
    }

    /// Owner and time of what is not opened.
    fn finish_unopened(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        let attributes = self.attributes(member)?;
        self.set_owner(target.parent, target.name, &attributes, &target.path)?;
        let time = attributes.mtime.spec();
        utimensat(target.parent, target.name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(target.making())
    }

    /// One more name for a file of this layer.
    fn hard_link(&mut self, target: &Target<'_>, member: &Member) -> Result<()> {
        let missing = || refused(format!("a hard link to {}, no file of this layer", shown(&member.link)));
        let path = clean(&member.link)?;
        let name = Path::new(path.file_name().ok_or_else(missing)?);
        let above = dot(path.parent().unwrap_or(Path::new("")));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let parent = match dir::open(self.tree.as_fd(), above, flags) {
            Ok(parent) => parent,
            Err(Errno::ELOOP | Errno::ENOTDIR) => self.follow(above)?,
            Err(_) => return Err(missing()),
        };
        let found = dir::look(parent.as_fd(), name).map_err(target.making())?.ok_or_else(missing)?;
        if !matches!(dir::kind_of(&found), SFlag::S_IFREG | SFlag::S_IFLNK | SFlag::S_IFIFO) {
            return Err(missing());
        }
        // Two names of one file already: making way would remove what is to be linked.
        let here = target.look()?;
        if here.is_some_and(|here| here.st_ino == found.st_ino) {
            return Ok(());
        }
        self.clear(target)?;
        // Without AT_SYMLINK_FOLLOW a link to a symlink is one more name of the symlink.
        linkat(&parent, name, target.parent, target.name, AtFlags::empty()).map_err(|errno| match errno {
            Errno::ENOENT => missing(),
            errno => target.making()(errno),
        })
    }

    fn whiteout(&mut self, member: &Member, above: &Path, name: &[u8], hidden: &[u8]) -> Result<()> {
        if member.kind != Kind::File && member.kind != Kind::HardLink {
            return Err(refused(format!("the whiteout {} is no file", shown(&member.path))));
        }
        if name.starts_with(AUFS) && name != OPAQUE {
            return Ok(());
        }
        let parent = self.parent(above)?;
        let result = if name == OPAQUE {
            self.make_opaque(&parent.fd, Path::new("."))
        } else if matches!(hidden, b"" | b"." | b"..") {
            Err(refused(format!("the whiteout {} hides no name", shown(&member.path))))
        } else {
            self.hide(&parent, Path::new(OsStr::from_bytes(hidden)))
        };
        self.last = Some((above.to_owned(), parent));
        result
    }

    /// Hides what lower layers have. What this layer has under that name stays, wherever in the archive it is.
    fn hide(&self, parent: &Place, name: &Path) -> Result<()> {
        let path = parent.path.join(name);
        match dir::look(parent.fd.as_fd(), name).map_err(making(&path))? {
            None => mknodat(&parent.fd, name, SFlag::S_IFCHR, Mode::empty(), 0).map_err(|errno| {
                making(&path)(errno)
                    .with_hint("whiteouts are character devices 0:0, which any user may make since Linux 5.8")
            }),
            Some(stat) if dir::kind_of(&stat) == SFlag::S_IFDIR => self.make_opaque(&parent.fd, name),
            Some(_) => Ok(()),
        }
    }

    /// Hides what lower layers have in a directory.
    pub(super) fn make_opaque(&self, parent: &OwnedFd, name: &Path) -> Result<()> {
        let fd = dir::open_dir(parent.as_fd(), name).map_err(making(name))?;
        let failed = |error| {
            storing("marking a directory opaque")(error)
                .with_hint("the store needs a filesystem with user extended attributes: ext4, xfs, btrfs; tmpfs from Linux 6.6")
        };
        // Overlays are mounted in user namespaces, with userxattr. The other one is for the rest of the world, and only
        // the host's root may set it.
        sys::set_xattr(fd.as_fd(), c"user.overlay.opaque", b"y").map_err(failed)?;
        match sys::set_xattr(fd.as_fd(), c"trusted.overlay.opaque", b"y") {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                Err(failed(error))
            }
            _ => Ok(()),
        }
    }

    /// Moves away what has the name of a new member. It is kept, because the archive cannot be written again without.
    fn clear(&mut self, target: &Target<'_>) -> Result<()> {
        let Some(found) = target.look()? else { return Ok(()) };
        if dir::is_whiteout(&found) {
            return removal::remove(target.parent.as_fd(), target.name.as_os_str())
                .map_err(storing("removing a whiteout"));
        }
        if dir::kind_of(&found) == SFlag::S_IFDIR {
            self.forget_dirs(&target.path);
        }
        let spare = self.archive.tape.make_way(&target.path)?.to_string();
        renameat2(target.parent, target.name, &self.spare, spare.as_str(), RenameFlags::RENAME_NOREPLACE)
            .map_err(target.making())
    }

    /// Forgets a directory that is no longer there, and those below it. Paths are ordered name by name, so these follow
    /// one another.
    fn forget_dirs(&mut self, gone: &Path) {
        loop {
            match self.dirs.range::<Path, _>((Bound::Included(gone), Bound::Unbounded)).next() {
                Some((path, _)) if path.starts_with(gone) => {
                    let path = path.clone();
                    self.dirs.remove(&path);
                }
                _ => return,
            }
        }
    }

    pub(super) fn open_tree(&self) -> Result<OwnedFd> {
        dir::open_dir(self.tree.as_fd(), Path::new(".")).map_err(making(Path::new("")))
    }
}

/// Where a member goes.
struct Target<'a> {
    parent: &'a OwnedFd,
    name: &'a Path,
    path: PathBuf,
}

impl Target<'_> {
    fn look(&self) -> Result<Option<nix::sys::stat::FileStat>> {
        dir::look(self.parent.as_fd(), self.name).map_err(self.making())
    }

    fn making(&self) -> impl Fn(Errno) -> Error {
        making(&self.path)
    }
}

/// Which side of a copy failed.
enum Either {
    Archive(Error),
    Disk(std::io::Error),
}

impl Either {
    fn or(self, failed: impl Fn(std::io::Error) -> Error) -> Error {
        match self {
            Self::Archive(error) => error,
            Self::Disk(error) => failed(error),
        }
    }
}

pub(super) fn making(path: &Path) -> impl Fn(Errno) -> Error {
    let path = path.to_owned();
    move |errno| {
        let what = format!("making {} of a layer", shown(path.as_os_str().as_bytes()));
        let error = Error::os(Step::Image, what, errno).with_path(&path);
        match errno {
            // No filesystem could have it.
            Errno::ENAMETOOLONG => error.with_kind(crate::ErrorKind::InvalidImage),
            _ => error,
        }
    }
}

pub(super) fn dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The path of a member below the layer's root: a slash in front means that root, and no way leads up.
fn clean(path: &[u8]) -> Result<PathBuf> {
    if path.is_empty() || path.contains(&0) {
        return Err(refused("a path that is empty, or has a NUL byte"));
    }
    let mut clean = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(format!("the path {} leads up", shown(path))));
            }
        }
    }
    Ok(clean)
}
