//! Removing what programs have made: however deep, closed to its owner or read-only it is, and whatever its names are.
//!
//! It takes one descriptor, whatever the depth: the way up is `..`, and is checked to lead where it came from. Nobody may
//! use the tree meanwhile.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::entries::kind_of;
use crate::sys;

/// A directory on the way down.
struct Above {
    /// Of the directory that the one below is in.
    parent: (u64, u64),
    /// Of the one below.
    name: OsString,
}

/// So many names are read at once: a program chooses how many there are.
const BATCH: usize = 1000;

/// Removes what has this name, a directory with all that is in it. Nothing there is fine.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let dir = openat(parent, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    match remove_or_enter(&dir, name)? {
        Some(below) => {
            remove_all(below)?;
            remove_dir(&dir, name)
        }
        None => Ok(()),
    }
}

/// Removes all that is in a directory.
pub(crate) fn empty(dir: BorrowedFd<'_>) -> io::Result<()> {
    remove_all(openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn remove_all(mut dir: OwnedFd) -> io::Result<()> {
    let mut above: Vec<Above> = Vec::new();
    loop {
        let mut went_down = false;
        let names = some_names(dir.as_fd())?;
        for name in &names {
            let Some(below) = remove_or_enter(&dir, name)? else { continue };
            above.push(Above { parent: identity(&fstat(&dir)?), name: name.clone() });
            dir = below;
            went_down = true;
            break;
        }
        if went_down || !names.is_empty() {
            continue;
        }
        let Some(up) = above.pop() else { return Ok(()) };
        dir = parent_of(&dir, up.parent)?;
        remove_dir(&dir, &up.name)?;
    }
}

/// Removes what can be removed at once. A directory is opened instead, to be emptied first.
fn remove_or_enter(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        stat => stat?,
    };
    if kind_of(&stat) != SFlag::S_IFDIR {
        return Ok(unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).map(|()| None)?);
    }
    if is_subvolume(&stat) && destroy_subvolume(dir, name) {
        return Ok(None);
    }
    enter(dir, name).map(Some)
}

/// The first names in a directory.
fn some_names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

/// Opens a directory to remove what is in it. No symlink is followed and no mount entered.
pub(crate) fn enter(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let open = |flags: OFlag| {
        let how = OpenHow::new().flags(flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(CONFINED);
        openat2(parent, name, how)
    };
    let place = open(OFlag::O_PATH)?;
    if fstat(&place)?.st_mode & 0o700 != 0o700 {
        // By way of the descriptor: an O_PATH one cannot be changed itself. If it is not ours, opening it tells.
        let path = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).ok();
    }
    Ok(open(OFlag::O_RDONLY)?)
}

const CONFINED: ResolveFlag =
    ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS).union(ResolveFlag::RESOLVE_NO_XDEV);

/// The directory that this one was found in, if it is still there.
fn parent_of(dir: &OwnedFd, expected: (u64, u64)) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV);
    let parent = openat2(dir, "..", how)?;
    if identity(&fstat(&parent)?) != expected {
        // Somebody moves directories. Whatever this is, it is not ours to remove.
        return Err(Errno::ESTALE.into());
    }
    Ok(parent)
}

fn remove_dir(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The root of each subvolume of a btrfs has this number; elsewhere it is one like others.
fn is_subvolume(stat: &FileStat) -> bool {
    const FIRST_FREE_OBJECTID: u64 = 256;
    stat.st_ino == FIRST_FREE_OBJECTID
}

/// Removes a subvolume at once. A program may have made it, and made it read-only. `false` if that cannot be done, as where
/// there is another one in it.
fn destroy_subvolume(parent: &OwnedFd, name: &OsStr) -> bool {
    let Ok(text) = CString::new(name.as_bytes()) else { return false };
    if let Ok(dir) = enter(parent, name) {
        sys::make_subvolume_writable(&dir).ok();
    }
    sys::destroy_subvolume(parent, &text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn whatever_is_there() {
        let root = std::env::temp_dir().join(format!("belljar-removal-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let outside = root.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "stays").unwrap();
        let tree = root.join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/b/file"), "goes").unwrap();
        nix::unistd::mkfifo(&tree.join("fifo"), Mode::S_IRUSR).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        // Deeper than there are descriptors, and than a path may be long.
        let mut dir = open(&tree);
        let mut deep = 0;
        while deep < 3000 {
            nix::sys::stat::mkdirat(&dir, "directory", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, "directory", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
            deep += 1;
        }
        drop(dir);

        empty(open(&tree).as_fd()).unwrap();
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
        remove(open(&root).as_fd(), OsStr::new("tree")).unwrap();
        remove(open(&root).as_fd(), OsStr::new("tree")).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "stays");
        fs::remove_dir_all(&root).unwrap();
    }
}
