//! The sandbox's root filesystem.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::idmap::Ids;
use crate::limits::Bytes;
use crate::lowering::{Held, Lowering};
use crate::mount::{Mount, NODEV, NOSUID, RDONLY, RootKind, tmpfs_size};
use crate::skeleton::Skeleton;
use crate::source::Presentation;
use crate::upper::{Durability, UpperDir};
use crate::wire::{Setup, Source};

/// What the program sees as `/`.
///
/// It is read-only unless something writable was asked for, the old root is gone or was empty (`pivot_root(2)`,
/// `chroot(2)`), and whatever the host has mounted later does not appear.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, Rootfs, Sandbox, Upper};
///
/// // Two read-only layers of the host, and 64 MiB of memory for what is written.
/// let root = Rootfs::overlay(["/srv/python", "/srv/debian"]).upper(Upper::tmpfs(Bytes::mib(64), 10_000));
/// let sandbox = Sandbox::new().rootfs(root);
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone)]
pub struct Rootfs {
    kind: Kind,
    /// What must not go away while a sandbox has this root.
    held: Option<Held>,
    /// What is different where names are found by the network.
    names: Option<Names>,
}

/// Files of the system view by which programs find the addresses of names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// `/etc/resolv.conf`
    pub(crate) resolver: String,
    /// `/etc/hosts`
    pub(crate) hosts: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    System,
    Dir { path: PathBuf, writable: bool },
    Overlay { layers: Vec<PathBuf>, upper: Option<Upper> },
    Copy { of: PathBuf, path: PathBuf },
    Empty,
}

/// Where an overlay keeps what is written.
#[derive(Debug, Clone)]
pub struct Upper(UpperKind);

#[derive(Debug, Clone)]
pub(crate) enum UpperKind {
    Tmpfs { size: Bytes, inodes: u64 },
    Dir(UpperDir),
}

impl Upper {
    /// In memory (before Linux 6.6 a directory of a layer cannot be removed with such an upper in a user namespace, it is
    /// `EIO`), gone with the sandbox: at most so many bytes and files; 0 inodes means half of what the kernel
    /// would allow. The merged root belongs to the program's user, who can make files and directories there; what the
    /// layers hold belongs to whom it belongs there.
    #[must_use]
    pub fn tmpfs(size: impl Into<Bytes>, inodes: u64) -> Self {
        Self(UpperKind::Tmpfs { size: size.into(), inodes })
    }

    #[cfg(feature = "serde")]
    pub(crate) fn kind(&self) -> &UpperKind {
        &self.0
    }

    /// In two empty or earlier used directories of the host, on one filesystem and under one common parent: `upper`
    /// gets the changes, `work` is overlayfs' own. One sandbox at a time may use them: it holds a lock (`flock(2)`) on
    /// `upper`, and starting a second one is an error of kind
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted). How much they may take is up to their filesystem, or to
    /// [`UpperDir::quota`]; [`UpperDir::volatile`] saves the time for syncing.
    #[must_use]
    pub fn dir(upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> UpperDir {
        UpperDir::new(upper.into(), work.into())
    }
}

impl From<UpperDir> for Upper {
    fn from(dir: UpperDir) -> Self {
        Self(UpperKind::Dir(dir))
    }
}

/// A root whose changes can be read.
#[derive(Debug, Clone)]
pub(crate) struct Changeable {
    /// The first on top.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) kept: Kept,
}

/// Where changes are.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    /// In the upper of an overlay that only the sandbox has.
    InMemory,
    /// In the upper of an overlay, a directory of the host.
    Upper(PathBuf),
    /// In a copy of the layers, a directory of the host.
    Copy(PathBuf),
}

impl Kept {
    pub(crate) fn dir(&self) -> Option<&Path> {
        match self {
            Self::InMemory => None,
            Self::Upper(dir) | Self::Copy(dir) => Some(dir),
        }
    }
}

/// The `/etc/hosts` of the system view.
pub(crate) const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The most lower layers that overlayfs takes (`OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;
/// Directories of `/` that a program of the system needs: binaries and libraries, and their aliases.
pub(crate) const SYSTEM_DIRS: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"];
/// Files and directories of `/etc` without which dynamic programs and compilers do not work, none of which says
/// anything of the host's users.
pub(crate) const SYSTEM_ETC: [&str; 6] =
    ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "ssl/openssl.cnf"];

impl Rootfs {
    fn of(kind: Kind) -> Self {
        Self { kind, held: None, names: None }
    }

    /// A system view that finds names by the network.
    #[cfg(feature = "net")]
    pub(crate) fn finding_names(mut self, names: Names) -> Self {
        self.names = Some(names);
        self
    }

    /// Keeps something until no sandbox has this root any more.
    pub(crate) fn holding(mut self, held: Held) -> Self {
        self.held = Some(held);
        self
    }

    /// A read-only view of the host's system: `/usr`, `/bin`, `/sbin`, `/lib*` and the few files of `/etc` that
    /// dynamic programs need; a `/etc/passwd` and `/etc/group` of its own; a fresh `/proc`, a minimal `/dev`, an empty
    /// `/tmp` of 256 MiB. Nothing else of the host. The default of [`Sandbox::new`](crate::Sandbox::new).
    #[must_use]
    pub fn system() -> Self {
        Self::of(Kind::System)
    }

    /// A directory of the host with everything mounted below it, read-only.
    ///
    /// Nothing is created in it: what [`Sandbox::mount`](crate::Sandbox::mount) puts below must find its target there. A
    /// regular file is a filesystem image, as for [`overlay`](Rootfs::overlay).
    #[must_use]
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Dir { path: path.into(), writable: false })
    }

    /// Layers of the host, the first on top, merged by overlayfs (in a user namespace: Linux 5.11). Without an
    /// [`upper`](Rootfs::upper) the result is read-only. See the kernel's
    /// [overlayfs document](https://docs.kernel.org/filesystems/overlayfs.html).
    ///
    /// A layer that is a regular file is a filesystem image: squashfs or erofs, told by what is in it and not by its name,
    /// mounted by a loop device (`loop(4)`, Linux 5.8) as long as there is a plan or a sandbox over it. Only a host with
    /// `CAP_SYS_ADMIN` in the initial user namespace can do that, and with a user namespace the kernel must map ids of it
    /// (erofs 5.19, squashfs 6.2). The kernel parses it: **an image that is not trusted attacks the kernel**, and so does
    /// whoever can write to one that is mounted. Replace it by renaming another one over it.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Rootfs, Upper};
    ///
    /// // A project over an image that was made with `mksquashfs /srv/debian /srv/debian.squashfs`.
    /// let layers = ["/srv/project", "/srv/debian.squashfs"];
    /// let root = Rootfs::overlay(layers).upper(Upper::tmpfs(Bytes::mib(64), 10_000));
    /// # let _ = root;
    /// ```
    #[must_use]
    pub fn overlay<P: Into<PathBuf>>(layers: impl IntoIterator<Item = P>) -> Self {
        Self::of(Kind::Overlay { layers: layers.into_iter().map(Into::into).collect(), upper: None })
    }

    /// Nothing: an empty read-only tmpfs, to be filled by [`Sandbox::mount`](crate::Sandbox::mount).
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    /// Where an [`overlay`](Rootfs::overlay) keeps changes; with one, the root is writable. Without effect on other
    /// roots.
    #[must_use]
    pub fn upper(mut self, new: impl Into<Upper>) -> Self {
        if let Kind::Overlay { upper, .. } = &mut self.kind {
            *upper = Some(new.into());
        }
        self
    }

    /// Lets the program write to the [`dir`](Rootfs::dir) on the host, which is no image then. Without effect on other roots.
    #[must_use]
    pub fn writable(mut self) -> Self {
        if let Kind::Dir { writable, .. } = &mut self.kind {
            *writable = true;
        }
        self
    }

    /// Whether the program can write to directories of the host through it.
    pub(crate) fn is_writable_on_host(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Dir { writable: true, .. }
                | Kind::Copy { .. }
                | Kind::Overlay { upper: Some(Upper(UpperKind::Dir(_))), .. }
        )
    }

    /// Where its changes can be read.
    pub(crate) fn changeable(&self) -> Option<Changeable> {
        match &self.kind {
            Kind::Overlay { layers, upper: Some(Upper(upper)) } => {
                let kept = match upper {
                    UpperKind::Tmpfs { .. } => Kept::InMemory,
                    UpperKind::Dir(dir) => Kept::Upper(dir.upper.clone()),
                };
                Some(Changeable { layers: layers.clone(), kept })
            }
            Kind::Copy { of, path } => {
                Some(Changeable { layers: vec![of.clone()], kept: Kept::Copy(path.clone()) })
            }
            _ => None,
        }
    }

    /// The layers of an overlay, the first on top.
    pub(crate) fn layers(&self) -> Option<&[PathBuf]> {
        match &self.kind {
            Kind::Overlay { layers, .. } => Some(layers),
            _ => None,
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What it keeps.
    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// A writable copy, which [`storage`](crate::storage) has made of a directory with the ids that that has.
    pub(crate) fn copy(of: PathBuf, path: PathBuf) -> Self {
        Self::of(Kind::Copy { of, path })
    }

    /// The directories of the host that it keeps its changes in.
    pub(crate) fn upper_dir(&self) -> Option<&UpperDir> {
        match &self.kind {
            Kind::Overlay { upper: Some(Upper(UpperKind::Dir(dir))), .. } => Some(dir),
            _ => None,
        }
    }

    pub(crate) fn is_system(&self) -> bool {
        matches!(self.kind, Kind::System)
    }

    fn root_kind(&self) -> RootKind {
        match self.kind {
            Kind::System | Kind::Empty => RootKind::Ours,
            Kind::Dir { .. } | Kind::Overlay { .. } | Kind::Copy { .. } => RootKind::Foreign,
        }
    }

    /// What files can be created on, where `mount` goes: not on the root if a bind covers it there.
    fn kind_at(&self, mount: &Mount, mounts: &[Mount]) -> RootKind {
        if mounts.iter().any(|other| other.shows_host_at(mount)) {
            RootKind::Foreign
        } else {
            self.root_kind()
        }
    }

    /// Adds the operations that build this root with `mounts` below it and make it the root.
    pub(crate) fn lower(
        &self,
        lowering: &mut Lowering,
        mounts: &[Mount],
        user: UserNs,
        program: Ids,
    ) -> Result<()> {
        if let Some(held) = &self.held {
            lowering.hold(held.clone());
        }
        let system = if self.is_system() { system_mounts(self.names.as_ref())? } else { Vec::new() };
        if self.is_system() && lowering.may_share_root() {
            if let Some((skeleton, rest)) = Skeleton::new(&system, mounts) {
                return self.lower_shared(lowering, skeleton, &rest);
            }
        }
        let overlay = matches!(self.kind, Kind::Overlay { .. });
        let bound = |mount: &Mount| mount.is_file() && self.kind_at(mount, mounts) == RootKind::Foreign;
        if overlay || mounts.iter().any(bound) {
            lowering.setup(Step::Root, "mounting the scratch tmpfs", None, &Setup::Scratch {});
        }
        let sealed = match &self.kind {
            Kind::System | Kind::Empty => {
                let operation = Setup::RootTmpfs { size: Bytes::mib(16).get(), inodes: 4096 };
                lowering.setup(Step::Root, "mounting tmpfs as the root", None, &operation);
                true
            }
            Kind::Dir { path, writable } => {
                let (presentation, attributes) = match writable {
                    true => (Presentation::Owner, NOSUID | NODEV),
                    false => (Presentation::AsIs, NOSUID | NODEV | RDONLY),
                };
                lower_dir(lowering, path, presentation, attributes)?;
                false // a read-only one is so from the start
            }
            Kind::Copy { path, .. } => {
                lower_dir(lowering, path, Presentation::Inside, NOSUID | NODEV)?;
                false
            }
            Kind::Overlay { layers, upper } => {
                lower_overlay(lowering, layers, upper.as_ref(), user, program)?;
                upper.is_none()
            }
        };
        for mount in &system {
            mount.lower(lowering, RootKind::Ours)?;
        }
        for mount in mounts {
            mount.lower(lowering, self.kind_at(mount, mounts))?;
        }
        if sealed {
            let seal = Setup::Seal { path: c"/", attributes: RDONLY };
            lowering.setup(Step::Root, "making the root read-only", Some(Path::new("/")), &seal);
        }
        lowering.setup(
            Step::PivotRoot,
            "making the new root the root",
            Some(Path::new("/")),
            &Setup::Pivot {},
        );
        Ok(())
    }
}

impl Rootfs {
    /// The same for a root of which most is made already.
    fn lower_shared(&self, lowering: &mut Lowering, skeleton: Skeleton, rest: &[Mount]) -> Result<()> {
        if rest.iter().any(|mount| mount.is_file() && self.kind_at(mount, rest) == RootKind::Foreign) {
            lowering.setup(Step::Root, "mounting the scratch tmpfs", None, &Setup::Scratch {});
        }
        let paths: Vec<_> = skeleton.paths().map(|path| path.display().to_string()).collect();
        let what = format!("attaching a root that is made once, with {}", paths.join(" "));
        lowering.skeleton(Arc::new(skeleton), |lowering, source| {
            let operation = Setup::RootBind { source, attributes: NOSUID | NODEV | RDONLY };
            lowering.setup(Step::Root, what, Some(Path::new("/")), &operation);
            Ok(())
        })?;
        for mount in rest {
            mount.lower(lowering, self.kind_at(mount, rest))?;
        }
        lowering.setup(
            Step::PivotRoot,
            "making the new root the root",
            Some(Path::new("/")),
            &Setup::Pivot {},
        );
        Ok(())
    }
}

/// Whether mounts are made inside a user namespace, where overlayfs keeps its marks in `user.*` attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserNs {
    Own,
    Host,
}

fn require_dir(path: &Path, what: &str) -> Result<()> {
    let looked = std::fs::metadata(path);
    let error = match looked {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => std::io::Error::from_raw_os_error(libc::ENOTDIR),
        Err(error) => error,
    };
    Err(Error::os(Step::MountSource, format!("looking at {what} {}", path.display()), error).with_path(path))
}

fn lower_dir(
    lowering: &mut Lowering,
    path: &Path,
    presentation: Presentation,
    attributes: u64,
) -> Result<()> {
    let bind = |lowering: &mut Lowering, source: Source<'_>| {
        let what = format!("binding {} as the root", path.display());
        lowering.setup(Step::Root, what, Some(path), &Setup::RootBind { source, attributes });
        Ok(())
    };
    if path.is_file() {
        if attributes & RDONLY == 0 {
            return Err(Error::invalid(format!(
                "{} is a file, and cannot be a writable root",
                path.display()
            ))
            .with_path(path)
            .with_hint("a filesystem image is read-only: make it a layer of Rootfs::overlay(..).upper(..)"));
        }
        return lowering.image(path, bind);
    }
    require_dir(path, "root directory")?;
    lowering.source(path, presentation, bind)
}

fn lower_overlay(
    lowering: &mut Lowering,
    layers: &[PathBuf],
    upper: Option<&Upper>,
    user: UserNs,
    program: Ids,
) -> Result<()> {
    if layers.is_empty() {
        return Err(Error::invalid("an overlay needs at least one layer"));
    }
    if layers.len() > MAX_LAYERS {
        return Err(Error::message(
            ErrorKind::Unsupported,
            Step::Plan,
            format!("an overlay of {} layers; the kernel takes {MAX_LAYERS}", layers.len()),
        )
        .with_hint("merge layers"));
    }
    let common = CommonParent::of(layers);
    if let Some(CommonParent { path, .. }) = &common {
        lowering.source(path, Presentation::Layer, |lowering, source| {
            let what = format!("attaching the directory of the layers, {}", path.display());
            lowering.setup(Step::Root, what, Some(path), &Setup::Layer { source, number: COMMON });
            Ok(())
        })?;
    }
    for (number, layer) in layers.iter().enumerate() {
        let number = u32::try_from(number).map_err(|_| Error::invalid("too many layers"))?;
        if let Some(target) = common.as_ref().and_then(|common| common.target(layer)) {
            let what = format!("pointing layer {number} to {}", layer.display());
            lowering.setup(Step::Root, what, Some(layer), &Setup::LayerBelow { target: &target, number });
            continue;
        }
        let attach = |lowering: &mut Lowering, source: Source<'_>| {
            let what = format!("attaching layer {number}, {}", layer.display());
            lowering.setup(Step::Root, what, Some(layer), &Setup::Layer { source, number });
            Ok(())
        };
        if layer.is_file() {
            lowering.image(layer, attach)?;
            continue;
        }
        require_dir(layer, "layer")?;
        lowering.source(layer, Presentation::Layer, attach)?;
    }
    // Without an upper the program cannot write, but mount points must be made.
    let own = Upper::tmpfs(Bytes::mib(1), 4096);
    let (upper_name, work_name) = match &upper.unwrap_or(&own).0 {
        UpperKind::Tmpfs { size, inodes } => {
            let size = tmpfs_size(Some(*size), *size)?;
            let Ids { uid, gid } = program;
            let operation = Setup::UpperTmpfs { size, inodes: *inodes, uid, gid };
            lowering.setup(Step::Root, "mounting tmpfs as the upper layer", None, &operation);
            ("u/upper".to_owned(), "u/work".to_owned())
        }
        UpperKind::Dir(dir) => lower_upper_dir(lowering, &dir.upper, &dir.work)?,
    };
    let numbers: Vec<_> = (0..layers.len()).map(|number| number.to_string()).collect();
    // With userxattr both of the others are off.
    let marks = if user == UserNs::Own { ",userxattr" } else { ",redirect_dir=off,metacopy=off" };
    let volatile = match upper.map(|upper| &upper.0) {
        Some(UpperKind::Dir(dir)) if dir.durability == Durability::Volatile => ",volatile",
        _ => "",
    };
    let options =
        format!("lowerdir={},upperdir={upper_name},workdir={work_name}{marks}{volatile}", numbers.join(":"));
    let options =
        CString::new(options).map_err(|_| Error::internal(Step::Plan, "overlay options with a NUL byte"))?;
    let operation = Setup::RootOverlay { options: &options, attributes: NOSUID | NODEV };
    lowering.setup(Step::Root, format!("mounting an overlay of {} layers", layers.len()), None, &operation);
    Ok(())
}

/// The name in scratch of a directory that many layers are in, above all numbers of layers.
const COMMON: u32 = 99_999;

/// A directory that many layers are in, in one mount with all of them: attached once instead of each of them, which is
/// most of what a layer costs (`cargo bench --bench spawn -- --layers`).
struct CommonParent {
    path: PathBuf,
    /// The layers by their paths as they were given, and where they are below it.
    below: HashMap<PathBuf, CString>,
}

impl CommonParent {
    /// So few can as well be attached each.
    const FEWEST: usize = 9;

    fn of(layers: &[PathBuf]) -> Option<Self> {
        let real: Vec<(&PathBuf, PathBuf)> = layers
            .iter()
            .filter(|layer| layer.is_dir())
            .filter_map(|layer| Some((layer, layer.canonicalize().ok()?)))
            .collect();
        if real.len() < Self::FEWEST {
            return None;
        }
        let mut path = real.first()?.1.parent()?.to_owned();
        while !real.iter().all(|(_, layer)| layer.starts_with(&path) && *layer != path) {
            path = path.parent()?.to_owned();
        }
        // The root cannot be cloned once it is covered.
        path.parent()?;
        let dir = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut below = HashMap::new();
        for (layer, real) in real {
            let rest = real.strip_prefix(&path).ok()?;
            let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
            // One that is a mount, or below one, is attached by itself.
            if openat2(&dir, rest, how).is_err() {
                continue;
            }
            let mut target = format!("{COMMON}/").into_bytes();
            target.extend_from_slice(rest.as_os_str().as_bytes());
            below.insert(layer.clone(), CString::new(target).ok()?);
        }
        (below.len() >= Self::FEWEST).then_some(Self { path, below })
    }

    fn target(&self, layer: &Path) -> Option<CString> {
        self.below.get(layer).cloned()
    }
}

/// Overlayfs wants upper and work in one mount, so their common parent is attached, out of the program's sight.
fn lower_upper_dir(lowering: &mut Lowering, upper: &Path, work: &Path) -> Result<(String, String)> {
    require_dir(upper, "upper directory")?;
    require_dir(work, "work directory")?;
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| {
            Error::os(Step::MountSource, format!("resolving {}", path.display()), error).with_path(path)
        })
    };
    let (upper, work) = (real(upper)?, real(work)?);
    if upper.starts_with(&work) || work.starts_with(&upper) {
        return Err(Error::invalid("the upper and the work directory of an overlay lie in one another")
            .with_path(&upper)
            .with_hint("make two directories side by side"));
    }
    let common: PathBuf =
        upper.components().zip(work.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let name = |path: &Path| -> Result<String> {
        let rest = path.strip_prefix(&common).unwrap_or(path).to_str().unwrap_or("");
        // A comma would end the option, a colon or backslash is special to overlayfs.
        let plain = !rest.is_empty() && !rest.contains([',', ':', '\\', '"', '\n']);
        if !plain {
            return Err(Error::invalid(
                "an overlay directory's name has a character that overlayfs gives a meaning",
            )
            .with_path(path)
            .with_hint("rename it without , : \\ and quotes"));
        }
        Ok(format!("u/{rest}"))
    };
    let names = (name(&upper)?, name(&work)?);
    lowering.source(&common, Presentation::Inside, |lowering, source| {
        let what = format!("attaching the upper directory below {}", common.display());
        lowering.setup(Step::Root, what, Some(&common), &Setup::UpperDir { source });
        Ok(())
    })?;
    Ok(names)
}

/// What the system's view consists of.
fn system_mounts(names: Option<&Names>) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    let foreign = |error: std::io::Error, path: &Path| {
        Error::os(Step::MountSource, format!("looking at {}", path.display()), error).with_path(path)
    };
    // Only what is not there is left out.
    let looked_at = |path: &Path| match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(foreign(error, path)),
    };
    for name in SYSTEM_DIRS {
        let path = Path::new("/").join(name);
        let Some(metadata) = looked_at(&path)? else { continue };
        if metadata.is_symlink() {
            let to = std::fs::read_link(&path).map_err(|error| foreign(error, &path))?;
            mounts.push(Mount::symlink(to, &path));
        } else if metadata.is_dir() {
            mounts.push(Mount::bind(&path, &path));
        }
    }
    for name in SYSTEM_ETC {
        let path = Path::new("/etc").join(name);
        let Some(metadata) = looked_at(&path)? else { continue };
        if metadata.is_symlink() {
            // One (localtime, often) that leads below /usr works inside as it does outside.
            let to = std::fs::read_link(&path).map_err(|error| foreign(error, &path))?;
            if to.starts_with("/usr") {
                mounts.push(Mount::symlink(to, &path));
            }
        } else if metadata.is_file() || metadata.is_dir() {
            mounts.push(Mount::bind(&path, &path));
        }
    }
    let (sources, hosts) = match names {
        Some(names) => ("files dns", &*names.hosts),
        None => ("files", HOSTS),
    };
    let switch = format!("passwd: files\ngroup: files\nhosts: {sources}\n");
    let files = [
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/etc/nsswitch.conf", &switch),
        ("/etc/hosts", hosts),
    ];
    let resolver = names.map(|names| ("/etc/resolv.conf", &*names.resolver));
    for (path, content) in files.into_iter().chain(resolver) {
        mounts.push(Mount::file(path, content));
    }
    mounts.push(Mount::proc("/proc"));
    mounts.push(Mount::dev("/dev"));
    mounts.push(Mount::tmpfs("/tmp").size(Bytes::mib(256)));
    Ok(mounts)
}

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\n\
                      sandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n";
