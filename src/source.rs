//! Mount trees that the host makes for a sandbox, with its own rights, and whose ids they show.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::device;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::fsimage::FsImage;
use crate::idmap::{Extent, Ids, Maps};
use crate::skeleton::Skeleton;
use crate::sys::{self, Reach};

/// Whose ids a source's files are presented with, when the host can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presentation {
    /// As they are: ids that the sandbox does not map show as 65534.
    AsIs,
    /// Ids on disk are ids inside: persistent uppers.
    Inside,
    /// The same without what is mounted below, where overlayfs does not look: layers.
    Layer,
    /// The owner on disk is the program's user inside: writable binds.
    Owner,
    /// Ids of the topmost mount are ids inside, and what is mounted below is as it is.
    Top,
}

/// A mount tree that the host makes for each spawn.
#[derive(Debug, Clone)]
pub(crate) struct HostSource {
    pub(crate) origin: Origin,
    pub(crate) presentation: Presentation,
}

/// What the tree is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A clone of what is at a path of the host.
    Path(CString),
    /// The [devices](crate::device) of a minimal `/dev`.
    Devices,
    /// A root with what is the same in every sandbox of the plan.
    Skeleton(Arc<Skeleton>),
    /// A filesystem image, mounted as long as this is here.
    Image(FsImage),
}

/// The user namespace that trees are presented to.
#[derive(Debug)]
pub(crate) struct Viewer<'a> {
    /// A process in it.
    pub(crate) pid: i32,
    /// `None`: the sandbox has the host's user namespace, and every tree is shown as it is.
    pub(crate) maps: Option<&'a Maps>,
    pub(crate) program: Ids,
}

/// Makes the trees, in order.
pub(crate) fn open_all(sources: &[HostSource], viewer: &Viewer<'_>) -> Result<Vec<OwnedFd>> {
    let mut inside = None;
    sources
        .iter()
        .map(|source| {
            let tree = source.open()?;
            let Some(maps) = viewer.maps else { return Ok(tree) };
            match source.presentation {
                Presentation::AsIs => {}
                Presentation::Owner => {
                    source.present(&tree, owner_namespace(&tree, source, maps, viewer.program)?.as_fd())?;
                }
                Presentation::Inside | Presentation::Layer | Presentation::Top => {
                    let namespace = match inside.take() {
                        Some(namespace) => namespace,
                        None => std::fs::File::open(format!("/proc/{}/ns/user", viewer.pid))
                            .map_err(source.failed("opening the user namespace to map"))?,
                    };
                    source.present(&tree, namespace.as_fd())?;
                    inside = Some(namespace);
                }
            }
            Ok(tree)
        })
        .collect()
}

/// What tells a source from another of the same name: device and inode, and the owner, whom the mount may present as the
/// program's user.
pub(crate) type Identity = ((u64, u64), (u32, u32));

/// What the sources are at this moment.
pub(crate) fn identities(sources: &[HostSource]) -> Result<Vec<Identity>> {
    let mut all = Vec::new();
    for source in sources {
        let failed = source.failed("looking at");
        match &source.origin {
            Origin::Path(_) => {
                let found = std::fs::metadata(source.path()).map_err(failed)?;
                all.push(((found.dev(), found.ino()), (found.uid(), found.gid())));
            }
            // What it shows is shown as it is, whoever owns it.
            Origin::Skeleton(skeleton) => {
                all.extend(skeleton.identities().map_err(failed)?.into_iter().map(|file| (file, (0, 0))));
            }
            Origin::Devices | Origin::Image(_) => {}
        }
    }
    Ok(all)
}

impl HostSource {
    /// The path, for messages.
    fn path(&self) -> &Path {
        match &self.origin {
            Origin::Path(path) => Path::new(OsStr::from_bytes(path.to_bytes())),
            Origin::Devices => Path::new("/dev"),
            Origin::Skeleton(_) => Path::new("/"),
            Origin::Image(image) => image.path(),
        }
    }

    fn failed(&self, what: &str) -> impl Fn(std::io::Error) -> Error {
        let path = self.path().to_path_buf();
        let what = format!("{what} {}", path.display());
        move |error| Error::os(Step::MountSource, what.clone(), error).with_path(&path)
    }

    fn open(&self) -> Result<OwnedFd> {
        let reach = if self.presentation == Presentation::Layer { Reach::One } else { Reach::Tree };
        let tree = match &self.origin {
            Origin::Path(path) => sys::clone_tree(path, reach),
            Origin::Devices => device::tree(),
            Origin::Skeleton(skeleton) => skeleton.tree(),
            Origin::Image(image) => image.tree(),
        };
        let what = match &self.origin {
            // Its sources are looked at, and it may have to be made again.
            Origin::Skeleton(_) => "cloning or making again the shared root for",
            _ => "cloning the mount at",
        };
        tree.and_then(sys::above_stdio).map_err(self.failed(what))
    }

    fn present(&self, tree: &OwnedFd, namespace: BorrowedFd<'_>) -> Result<()> {
        let reach = if self.presentation == Presentation::Top { Reach::One } else { Reach::Tree };
        sys::idmap_tree(tree, namespace, reach).map_err(|error| {
            if let Origin::Image(image) = &self.origin {
                return image.not_presented(error);
            }
            let refused = error.raw_os_error() == Some(libc::EINVAL);
            let error = self.failed("id-mapping the mount of")(error).with_hint(
                "id-mapped mounts need Linux 5.12 (layers of an overlay 5.19) and a filesystem that supports them: \
                 ext4, xfs, btrfs; tmpfs from Linux 6.3",
            );
            if refused { error.with_kind(ErrorKind::Unsupported) } else { error }
        })
    }
}

/// A user namespace whose map presents the owner of a tree as the program's user. The tree is looked at, not its path,
/// where there may be something else by now.
fn owner_namespace(tree: &OwnedFd, source: &HostSource, maps: &Maps, program: Ids) -> Result<OwnedFd> {
    let looked = nix::sys::stat::fstat(tree).map_err(|errno| source.failed("looking at")(errno.into()))?;
    let outside = |extents: &[Extent], id: u32| {
        let extent = extents.iter().find(|extent| id >= extent.inside && id - extent.inside < extent.count);
        extent.map(|extent| extent.outside + (id - extent.inside))
    };
    let (Some(uid), Some(gid)) = (outside(&maps.uids, program.uid), outside(&maps.gids, program.gid)) else {
        return Err(Error::internal(Step::MountSource, "the program's ids are not mapped"));
    };
    let line = |on_disk: u32, shown: u32| format!("{on_disk} {shown} 1\n");
    sys::map_namespace(&line(looked.st_uid, uid), &line(looked.st_gid, gid)).map_err(|error| {
        Error::os(Step::MountSource, "making a user namespace for the owner's id map", error)
    })
}
