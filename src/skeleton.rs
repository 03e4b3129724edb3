//! The part of a root that is the same in every sandbox of a plan: made once by a host that can, in a read-only tmpfs that
//! is mounted nowhere, of which each sandbox gets a clone.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat, stat};
use nix::unistd::symlinkat;

use crate::mount::{Kind, Mount};
use crate::sys::{self, Reach};

/// One thing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Dir {
        path: PathBuf,
        mode: u32,
    },
    File {
        path: PathBuf,
        content: Vec<u8>,
        mode: u32,
    },
    Link {
        path: PathBuf,
        to: OsString,
    },
    /// What the host has there, read-only.
    Show {
        source: PathBuf,
        path: PathBuf,
        place: Place,
    },
    /// For the init to mount something on.
    Empty {
        path: PathBuf,
        place: Place,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Dir,
    File,
}

/// A root without what is different in each sandbox.
#[derive(Debug)]
pub(crate) struct Skeleton {
    parts: Vec<Part>,
    made: Mutex<Arc<Made>>,
}

/// The tree, and what its sources were.
#[derive(Debug)]
struct Made {
    tree: OwnedFd,
    sources: Vec<(u64, u64)>,
}

impl Skeleton {
    /// Makes one of the system's part of a root and what goes on top of it. What is left is for the init to do, in order.
    /// `None` where this host or its kernel cannot do it, or where the mounts meet in a way that is not looked through here.
    pub(crate) fn new(system: &[Mount], mounts: &[Mount]) -> Option<(Self, Vec<Mount>)> {
        let (parts, rest) = divide(system, mounts)?;
        let made = Made::new(&parts).ok()?;
        sys::clone_detached(&made.tree, Reach::Tree).ok()?;
        Some((Self { parts, made: Mutex::new(Arc::new(made)) }, rest))
    }

    /// For one sandbox.
    pub(crate) fn tree(&self) -> io::Result<OwnedFd> {
        let mut made = Arc::clone(&self.made.lock().unwrap_or_else(PoisonError::into_inner));
        // Packages are updated, and files replaced by others of the same name.
        if made.sources != identities(&self.parts)? {
            made = Arc::new(Made::new(&self.parts)?);
            *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&made);
        }
        match sys::clone_detached(&made.tree, Reach::Tree) {
            // The host has entered another mount namespace.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Made::new(&self.parts)?.tree),
            cloned => cloned,
        }
    }

    /// What its sources are at this moment.
    pub(crate) fn identities(&self) -> io::Result<Vec<(u64, u64)>> {
        identities(&self.parts)
    }

    /// The paths in it, for messages.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| match part {
            Part::Dir { path, .. }
            | Part::File { path, .. }
            | Part::Link { path, .. }
            | Part::Show { path, .. }
            | Part::Empty { path, .. } => path.as_path(),
        })
    }
}

/// What the sources are at this moment.
fn identities(parts: &[Part]) -> io::Result<Vec<(u64, u64)>> {
    let sources = parts.iter().filter_map(|part| match part {
        Part::Show { source, .. } => Some(source),
        _ => None,
    });
    sources.map(|source| Ok(stat(source).map(|found| (found.st_dev, found.st_ino))?)).collect()
}

impl Made {
    fn new(parts: &[Part]) -> io::Result<Self> {
        let tree =
            sys::detached_tmpfs(&[(c"size", c"16777216"), (c"nr_inodes", c"4096"), (c"mode", c"755")])?;
        let tree = sys::above_stdio(tree)?;
        let sources = identities(parts)?;
        for part in parts {
            match part {
                Part::Dir { path, mode } => {
                    make_dirs(&tree, path)?;
                    fchmodat(&tree, below(path), mode_of(*mode), FchmodatFlags::FollowSymlink)?;
                }
                Part::File { path, content, mode } => make_file(&tree, path, content, *mode)?,
                Part::Link { path, to } => {
                    make_parents(&tree, path)?;
                    symlinkat(to.as_os_str(), &tree, below(path))?;
                }
                Part::Show { source, path, place } => {
                    make_place(&tree, path, *place)?;
                    let shown = sys::clone_tree(&c_string(source)?, Reach::Tree)?;
                    sys::make_tree_read_only(&shown)?;
                    sys::attach_tree(&shown, &tree, &c_string(below(path))?)?;
                }
                Part::Empty { path, place } => make_place(&tree, path, *place)?,
            }
        }
        // Not the mounts alone but the filesystem, which no sandbox could make writable again: all of them share it.
        sys::make_filesystem_read_only(&tree)?;
        sys::make_tree_read_only(&tree)?;
        Ok(Self { tree, sources })
    }
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The path below the root, where nothing but what is made here is met: no link and no other mount is on the way.
fn below(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

fn make_dirs(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let mut dir = PathBuf::new();
    for component in below(path).components() {
        dir.push(component);
        match mkdirat(tree, &dir, mode_of(0o755)) {
            Err(Errno::EEXIST) => {}
            // The host's umask was in the way of the mode.
            made => made.and_then(|()| fchmodat(tree, &dir, mode_of(0o755), FchmodatFlags::FollowSymlink))?,
        }
    }
    Ok(())
}

fn make_parents(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| make_dirs(tree, parent))
}

fn make_file(tree: &OwnedFd, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    make_parents(tree, path)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(tree, below(path), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    std::fs::File::from(file).write_all(content)?;
    Ok(fchmodat(tree, below(path), mode_of(mode), FchmodatFlags::FollowSymlink)?)
}

fn make_place(tree: &OwnedFd, path: &Path, place: Place) -> io::Result<()> {
    match place {
        Place::Dir => make_dirs(tree, path),
        Place::File => make_file(tree, path, &[], 0o644),
    }
}

/// What is where while parts are collected.
#[derive(Default)]
struct Model {
    parts: Vec<Part>,
    dirs: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    /// Where something is mounted: what is below is not in the tree.
    covered: Vec<PathBuf>,
}

impl Model {
    fn is_covered(&self, path: &Path) -> bool {
        self.covered.iter().any(|mount| path.starts_with(mount))
    }

    fn is_taken(&self, path: &Path) -> bool {
        self.dirs.contains(path) || self.files.contains(path) || self.links.contains(path)
    }

    /// The directories above a path; `None` if one of them is none.
    fn enter(&mut self, path: &Path) -> Option<()> {
        for above in path.ancestors().skip(1).filter(|above| *above != Path::new("/")) {
            if self.files.contains(above) || self.links.contains(above) {
                return None;
            }
            self.dirs.insert(above.to_owned());
        }
        Some(())
    }

    /// A place to mount on.
    fn place(&mut self, path: &Path, place: Place) -> Option<()> {
        self.enter(path)?;
        match place {
            _ if self.links.contains(path) => return None,
            Place::Dir if self.files.contains(path) => return None,
            Place::File if self.dirs.contains(path) => return None,
            Place::Dir => self.dirs.insert(path.to_owned()),
            Place::File => self.files.insert(path.to_owned()),
        };
        Some(())
    }
}

/// What can be made once, and what is left.
fn divide(system: &[Mount], mounts: &[Mount]) -> Option<(Vec<Part>, Vec<Mount>)> {
    let mut model = Model::default();
    let mut rest = Vec::new();
    let system_links: Vec<&Path> = system
        .iter()
        .filter(|mount| matches!(mount.kind(), Kind::Symlink { .. }))
        .map(Mount::target)
        .collect();
    for (number, mount) in system.iter().chain(mounts).enumerate() {
        let path = mount.target();
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if path == Path::new("/") || !path.is_absolute() || !path.components().all(plain) {
            return None;
        }
        // Without blanks that `components` passes over, such as a slash at the end.
        let path: PathBuf = path.components().collect();
        // The links of the system lead to what it shows, where nothing can be made.
        if model.is_covered(&path) || system_links.iter().any(|link| path.starts_with(link) && path != **link)
        {
            rest.push(mount.clone());
            continue;
        }
        match mount.kind() {
            Kind::Dir { mode } => {
                model.place(&path, Place::Dir)?;
                model.parts.push(Part::Dir { path, mode: *mode });
                continue;
            }
            Kind::File { .. } | Kind::Symlink { .. } if model.is_taken(&path) => return None,
            Kind::File { content, mode } => {
                model.place(&path, Place::File)?;
                model.parts.push(Part::File { path, content: content.clone(), mode: *mode });
                continue;
            }
            Kind::Symlink { to } => {
                model.enter(&path)?;
                model.links.insert(path.clone());
                model.parts.push(Part::Link { path, to: to.clone() });
                continue;
            }
            Kind::Bind { source, .. } => {
                let place = if std::fs::metadata(source).ok()?.is_dir() { Place::Dir } else { Place::File };
                let taken = model.is_taken(&path);
                model.place(&path, place)?;
                if number < system.len() {
                    if taken && place == Place::File {
                        return None;
                    }
                    model.covered.push(path.clone());
                    model.parts.push(Part::Show { source: source.clone(), path, place });
                    continue;
                }
                if !taken {
                    model.parts.push(Part::Empty { path: path.clone(), place });
                }
            }
            Kind::Tmpfs { .. } | Kind::Proc { .. } | Kind::Dev | Kind::Devpts | Kind::Mqueue => {
                model.place(&path, Place::Dir)?;
                model.parts.push(Part::Empty { path: path.clone(), place: Place::Dir });
            }
            // Of what is there.
            Kind::Mask | Kind::ReadOnly => {}
        }
        model.covered.push(path);
        rest.push(mount.clone());
    }
    Some((model.parts, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(parts: &[Part]) -> Vec<String> {
        let name = |part: &Part| match part {
            Part::Dir { path, .. } => format!("dir {}", path.display()),
            Part::File { path, .. } => format!("file {}", path.display()),
            Part::Link { path, .. } => format!("link {}", path.display()),
            Part::Show { path, .. } => format!("show {}", path.display()),
            Part::Empty { path, .. } => format!("empty {}", path.display()),
        };
        parts.iter().map(name).collect()
    }

    fn system() -> Vec<Mount> {
        vec![
            Mount::bind("/usr", "/usr"),
            Mount::symlink("usr/bin", "/bin"),
            Mount::file("/etc/hosts", "x"),
            Mount::proc("/proc"),
            Mount::tmpfs("/tmp"),
        ]
    }

    const SYSTEM: [&str; 5] = ["show /usr", "link /bin", "file /etc/hosts", "empty /proc", "empty /tmp"];

    #[test]
    fn what_is_the_same_is_divided_from_what_is_not() {
        let mounts = [
            Mount::file("/a/b", "x"),
            Mount::bind("/usr", "/a/c"),
            Mount::file("/tmp/x", "in a tmpfs of each sandbox"),
            Mount::dir("/a/c/d"),
            Mount::file("/bin/tool", "where a link of the system leads"),
            Mount::bind("/etc/passwd", "/etc/hosts"),
            Mount::dir("/etc"),
        ];
        let (parts, rest) = divide(&system(), &mounts).unwrap();
        assert_eq!(paths(&parts), [&SYSTEM[..], &["file /a/b", "empty /a/c", "dir /etc"]].concat());
        let rest: Vec<_> = rest.iter().map(|mount| mount.target().display().to_string()).collect();
        assert_eq!(rest, ["/proc", "/tmp", "/a/c", "/tmp/x", "/a/c/d", "/bin/tool", "/etc/hosts"]);
    }

    #[test]
    fn what_is_not_looked_through_is_left_alone() {
        let strange: [&[Mount]; 9] = [
            &[Mount::dir("/a/../b")],
            &[Mount::tmpfs("/")],
            &[Mount::symlink("/b", "/a"), Mount::dir("/a/c")],
            &[Mount::file("/a", "x"), Mount::dir("/a/b")],
            &[Mount::file("/etc/hosts", "twice")],
            &[Mount::symlink("x", "/etc")],
            &[Mount::tmpfs("/etc/hosts")],
            &[Mount::bind("/no/such/file", "/x")],
            &[Mount::bind("/usr", "/etc/hosts")],
        ];
        for mounts in strange {
            assert!(divide(&system(), mounts).is_none(), "{mounts:?}");
        }
    }
}
