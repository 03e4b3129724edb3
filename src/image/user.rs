//! The user of an image, who may be named.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::Image;
use crate::error::Result;
use crate::layer::{LARGEST_DOCUMENT, dir, refused, storing};

/// Reads `user`, `user:group`, by name or number. A user without a group has the group that `/etc/passwd` says, or 0.
pub(crate) fn look_up(image: &Image, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let unknown = |what: &str, name: &str| {
        let name: String = name.chars().take(80).collect();
        refused(format!("the image {:?} is to run as {what} {name:?}, whom it does not have", image.name()))
    };
    let passwd = || lines(image, "passwd");
    let (uid, own_group) = match (user, user.parse::<u32>()) {
        ("", _) => (0, Some(0)),
        (_, Ok(uid)) => {
            let line = if group.is_some() {
                None
            } else {
                passwd()?.into_iter().find(|line| id(line, 2) == Some(uid))
            };
            (uid, Some(line.and_then(|line| id(&line, 3)).unwrap_or(0)))
        }
        (name, Err(_)) => {
            let line = passwd()?.into_iter().find(|line| line[0] == name);
            let line = line.ok_or_else(|| unknown("user", name))?;
            (id(&line, 2).ok_or_else(|| unknown("user", name))?, id(&line, 3))
        }
    };
    let gid = match group {
        None => own_group.unwrap_or(0),
        Some(name) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let line = lines(image, "group")?.into_iter().find(|line| line[0] == name);
                line.and_then(|line| id(&line, 2)).ok_or_else(|| unknown("group", name))?
            }
        },
    };
    if uid == u32::MAX || gid == u32::MAX {
        return Err(unknown("user", text));
    }
    Ok((uid, gid))
}

fn id(line: &[String], field: usize) -> Option<u32> {
    line.get(field)?.parse().ok()
}

/// The lines of a file in `/etc`, in fields; none if the image has no such file.
fn lines(image: &Image, name: &str) -> Result<Vec<Vec<String>>> {
    let bytes = etc_file(image, name)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

/// Reads a file of `/etc` as an overlay would show it. Symlinks are followed nowhere.
fn etc_file(image: &Image, name: &str) -> Result<Option<Vec<u8>>> {
    let failed = || storing("reading a file of the image");
    for id in &image.visible {
        let tree = image.store.open_part(id, "tree")?;
        let etc = match dir::open_dir(tree.as_fd(), Path::new("etc")) {
            Ok(etc) => etc,
            Err(Errno::ENOENT) => continue,
            // A whiteout, or something else that hides what is below.
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(failed()(errno.into())),
        };
        match dir::look(etc.as_fd(), Path::new(name)).map_err(|errno| failed()(errno.into()))? {
            Some(stat) if dir::kind_of(&stat) == SFlag::S_IFREG => {
                let bytes = dir::read_file(etc.as_fd(), Path::new(name), LARGEST_DOCUMENT);
                return bytes.map(Some).map_err(failed());
            }
            Some(_) => return Ok(None),
            None => {}
        }
        if dir::is_opaque(etc.as_fd()).map_err(failed())? {
            return Ok(None);
        }
    }
    Ok(None)
}
