//! What is mounted or made below the sandbox's root, and how that becomes operations.

use std::ffi::{CStr, CString, OsString};
use std::path::{Path, PathBuf};

use crate::device::{self, DEVICES, LINKS};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::landlock::LandlockAccess;
use crate::limits::Bytes;
use crate::lowering::{Lowering, ProcView, c_string, inside};
use crate::source::Presentation;
use crate::wire::Setup;

pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;

/// Something below the root of a sandbox: a mount, a file, a directory, a symlink, or a path that is hidden.
///
/// Mounts are made in the order in which they were added, after those of the root filesystem. Targets are resolved
/// below the new root only (`openat2(2)` with `RESOLVE_IN_ROOT`), so a hostile root cannot lead them outside. Every
/// mount is `nosuid`.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, Mount, Sandbox};
///
/// let sandbox = Sandbox::new()
///     .mount(Mount::bind("/opt/toolchain", "/opt/toolchain")) // read-only, with everything mounted below
///     .mount(Mount::tmpfs("/scratch").size(Bytes::mib(64)))
///     .mount(Mount::file("/etc/motd", "hello\n"));
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone)]
pub struct Mount {
    target: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Bind { source: PathBuf, writable: bool },
    Tmpfs { size: Option<Bytes>, inodes: Option<u64>, mode: u32 },
    Proc { visibility: ProcVisibility },
    Dev,
    Devpts,
    Mqueue,
    File { content: Vec<u8>, mode: u32 },
    Dir { mode: u32 },
    Symlink { to: OsString },
    Mask,
    ReadOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcVisibility {
    /// `hidepid=invisible,subset=pid`.
    OwnProcesses,
    Full,
}

impl Mount {
    fn new(target: impl Into<PathBuf>, kind: Kind) -> Self {
        Self { target: target.into(), kind }
    }

    /// A procfs that shows more than the sandbox's own processes.
    pub(crate) fn is_full_proc(&self) -> bool {
        matches!(self.kind, Kind::Proc { visibility: ProcVisibility::Full })
    }

    pub(crate) fn is_mqueue(&self) -> bool {
        matches!(self.kind, Kind::Mqueue)
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What may be done with a directory or file of the host that is shown where it is; `None` for everything else.
    pub(crate) fn in_place(&self) -> Option<LandlockAccess> {
        let Kind::Bind { source, writable } = &self.kind else { return None };
        let read = LandlockAccess::READ | LandlockAccess::EXECUTE;
        let access = if *writable { read | LandlockAccess::WRITE } else { read };
        (*source == self.target).then_some(access)
    }

    /// Shows a file or directory of the host, with everything mounted below it, read-only (`mount_setattr(2)` with
    /// `AT_RECURSIVE`, Linux 5.12), `nosuid` and `nodev`. The target is made if it is missing.
    #[must_use]
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Bind { source: source.into(), writable: false })
    }

    /// Shows a file or directory of the host and lets the program write to it.
    ///
    /// What it writes belongs to the owner of the source: an unprivileged caller is that owner; for a privileged one
    /// the mount is id-mapped (Linux 5.12, and a filesystem that can do it), so that the program's user inside and
    /// the owner on disk are the same. With the default filter no file can be given a set-user-id bit there.
    #[must_use]
    pub fn bind_writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Bind { source: source.into(), writable: true })
    }

    /// An empty filesystem in memory, mode 1777, `nosuid` and `nodev`. Without [`size`](Mount::size) and
    /// [`inodes`](Mount::inodes) it may hold 64 MiB and 65536 files. What is in it is charged to the sandbox's memory
    /// cgroup, if it has one. See `tmpfs(5)`.
    #[must_use]
    pub fn tmpfs(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Tmpfs { size: None, inodes: None, mode: 0o1777 })
    }

    /// A procfs of the sandbox's PID namespace that shows the program's own processes and nothing of the system
    /// (`hidepid=invisible,subset=pid`, Linux 5.8). See `proc(5)`.
    #[must_use]
    pub fn proc(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Proc { visibility: ProcVisibility::OwnProcesses })
    }

    /// A minimal `/dev`: `null`, `zero`, `full`, `random`, `urandom` and `tty` of the host (checked to be those
    /// devices), `fd`, `stdin`, `stdout` and `stderr`, a private `pts` with `ptmx`, and an empty `shm` of 64 MiB.
    #[must_use]
    pub fn dev(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Dev)
    }

    /// A private instance of pseudo-terminals. See `pts(4)`.
    #[must_use]
    pub fn devpts(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Devpts)
    }

    /// The POSIX message queues of the sandbox's IPC namespace. See `mq_overview(7)`.
    #[must_use]
    pub fn mqueue(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Mqueue)
    }

    /// A read-only file with this content, mode 0444.
    #[must_use]
    pub fn file(target: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self::new(target, Kind::File { content: content.into(), mode: 0o444 })
    }

    /// A directory, mode 0755, with its parents. It must lie on a filesystem that is writable during setup: the
    /// system view, an empty root, an overlay, a tmpfs.
    #[must_use]
    pub fn dir(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Dir { mode: 0o755 })
    }

    /// A symbolic link at `target` that points `to` there.
    #[must_use]
    pub fn symlink(to: impl Into<OsString>, target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Symlink { to: to.into() })
    }

    /// Hides a path: a file behind the host's `/dev/null`, a directory behind an empty read-only tmpfs. A path that
    /// does not exist needs no hiding.
    #[must_use]
    pub fn mask(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::Mask)
    }

    /// Makes what is at a path, and everything mounted below it, read-only.
    #[must_use]
    pub fn read_only(target: impl Into<PathBuf>) -> Self {
        Self::new(target, Kind::ReadOnly)
    }

    /// The most bytes a [`tmpfs`](Mount::tmpfs) holds; writing more is `ENOSPC`. Without effect on other mounts.
    #[must_use]
    pub fn size(mut self, bytes: impl Into<Bytes>) -> Self {
        if let Kind::Tmpfs { size, .. } = &mut self.kind {
            *size = Some(bytes.into());
        }
        self
    }

    /// The most files and directories a [`tmpfs`](Mount::tmpfs) holds. Without effect on other mounts.
    #[must_use]
    pub fn inodes(mut self, count: u64) -> Self {
        if let Kind::Tmpfs { inodes, .. } = &mut self.kind {
            *inodes = Some(count);
        }
        self
    }

    /// The permission bits of a [`tmpfs`](Mount::tmpfs)' root, a [`file`](Mount::file) or a [`dir`](Mount::dir).
    /// Without effect on other mounts.
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Self {
        if let Kind::Tmpfs { mode, .. } | Kind::File { mode, .. } | Kind::Dir { mode } = &mut self.kind {
            *mode = bits & 0o7777;
        }
        self
    }

    /// Shows the whole of a [`proc`](Mount::proc), with the system's files and the processes of other users of the
    /// sandbox. Without effect on other mounts.
    #[must_use]
    pub fn full(mut self) -> Self {
        if let Kind::Proc { visibility } = &mut self.kind {
            *visibility = ProcVisibility::Full;
        }
        self
    }

    /// Whether it lets the program write to a directory of the host.
    pub(crate) fn is_writable_bind(&self) -> bool {
        matches!(self.kind, Kind::Bind { writable: true, .. })
    }

    /// Whether it is a file, which may have to be bound from scratch.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// Whether it shows a part of the host at or above where `other` goes.
    pub(crate) fn shows_host_at(&self, other: &Self) -> bool {
        matches!(self.kind, Kind::Bind { .. }) && other.target.starts_with(&self.target)
    }

    /// Adds the operations that make it.
    pub(crate) fn lower(&self, lowering: &mut Lowering, root: RootKind) -> Result<()> {
        let path = inside(&self.target)?;
        let at = Some(self.target.as_path());
        let shown = self.target.display().to_string();
        match &self.kind {
            Kind::Bind { source, writable } => lower_bind(lowering, source, &self.target, *writable),
            Kind::Tmpfs { size, inodes, mode } => {
                let size = tmpfs_size(*size, Bytes::mib(64))?;
                let options = tmpfs_options(size, inodes.unwrap_or(65_536), *mode)?;
                lower_filesystem(lowering, c"tmpfs", &self.target, &options, NOSUID | NODEV)
            }
            Kind::Proc { .. } if lowering.proc() == ProcView::Host => {
                lower_bind(lowering, Path::new("/proc"), &self.target, false)
            }
            Kind::Proc { visibility } => {
                let options = match visibility {
                    ProcVisibility::OwnProcesses => c"hidepid=invisible,subset=pid",
                    ProcVisibility::Full => c"",
                };
                lower_filesystem(lowering, c"proc", &self.target, options, NOSUID | NODEV | NOEXEC)
            }
            Kind::Dev => lower_dev(lowering, &self.target),
            Kind::Devpts => lower_devpts(lowering, &self.target),
            Kind::Mqueue => lower_filesystem(lowering, c"mqueue", &self.target, c"", NOSUID | NODEV | NOEXEC),
            Kind::File { content, mode } => {
                let what = format!("writing {shown}");
                if root == RootKind::Ours {
                    let operation = Setup::File { path: &path, content, mode: *mode };
                    lowering.setup(Step::File, what, at, &operation);
                } else {
                    let number = lowering.next_file();
                    let operation = Setup::BindFile { path: &path, content, mode: *mode, number };
                    lowering.setup(Step::File, what, at, &operation);
                }
                Ok(())
            }
            Kind::Dir { mode } => {
                let operation = Setup::Dir { path: &path, mode: *mode };
                lowering.setup(Step::File, format!("making directory {shown}"), at, &operation);
                Ok(())
            }
            Kind::Symlink { to } => {
                let to = c_string(to, "a symlink's target")?;
                let operation = Setup::Symlink { target: &to, path: &path };
                lowering.setup(Step::File, format!("making symlink {shown}"), at, &operation);
                Ok(())
            }
            Kind::Mask => lowering.source(Path::new("/dev/null"), Presentation::AsIs, |lowering, null| {
                lowering.setup(
                    Step::Mask,
                    format!("masking {shown}"),
                    at,
                    &Setup::Mask { path: &path, null },
                );
                Ok(())
            }),
            Kind::ReadOnly => {
                let operation = Setup::ReadOnly { path: &path };
                lowering.setup(Step::Mask, format!("making {shown} read-only"), at, &operation);
                Ok(())
            }
        }
    }
}

/// What files can be created on, at the root itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootKind {
    /// A tmpfs of this sandbox: a file can simply be written.
    Ours,
    /// Something that must not be written to: files are bound over what is there.
    Foreign,
}

/// The tmpfs limit in bytes; 0 in the message would mean "no limit", so a limit of 0 is refused.
pub(crate) fn tmpfs_size(size: Option<Bytes>, default: Bytes) -> Result<u64> {
    match size.unwrap_or(default) {
        Bytes::MAX => Ok(0),
        size if size.get() == 0 => {
            Err(Error::invalid("a tmpfs of 0 bytes holds nothing").with_hint("give it a size"))
        }
        // The kernel parses sizes as signed; what is above does not exist anyway.
        size => Ok(size.get().min(i64::MAX.unsigned_abs())),
    }
}

fn lower_bind(lowering: &mut Lowering, source: &Path, target: &Path, writable: bool) -> Result<()> {
    // Existence is checked now, so that the error comes before anything was started; the source is trusted and may be
    // reached through symlinks.
    std::fs::metadata(source).map_err(|error| {
        Error::os(Step::MountSource, format!("looking at mount source {}", source.display()), error)
            .with_path(source)
    })?;
    if lowering.is_out_of_reach(source) {
        return Err(Error::message(
            ErrorKind::Unsupported,
            Step::MountSource,
            format!("an unprivileged caller cannot bind the whole of {}", source.display()),
        )
        .with_path(source)
        .with_hint("bind its directories one by one, or make it the root with Rootfs::dir"));
    }
    let path = inside(target)?;
    let (presentation, attributes, how) = if writable {
        (Presentation::Owner, NOSUID | NODEV, "writable")
    } else {
        (Presentation::AsIs, NOSUID | NODEV | RDONLY, "read-only")
    };
    lowering.source(source, presentation, |lowering, tree| {
        let what = format!("binding {} on {} ({how})", source.display(), target.display());
        lowering.setup(
            Step::Mount,
            what,
            Some(target),
            &Setup::Bind { source: tree, path: &path, attributes },
        );
        Ok(())
    })
}

/// The options of a tmpfs; 0 for size or inodes means no limit.
fn tmpfs_options(size: u64, inodes: u64, mode: u32) -> Result<CString> {
    CString::new(format!("size={size},nr_inodes={inodes},mode={mode:o}"))
        .map_err(|_| Error::internal(Step::Plan, "tmpfs options with a NUL byte"))
}

fn lower_filesystem(
    lowering: &mut Lowering,
    kind: &CStr,
    target: &Path,
    options: &CStr,
    attributes: u64,
) -> Result<()> {
    let what = format!("mounting {} on {}", kind.to_string_lossy(), target.display());
    let path = inside(target)?;
    let operation = Setup::Filesystem { kind, path: &path, options, attributes };
    lowering.setup(Step::Mount, what, Some(target), &operation);
    Ok(())
}

fn lower_devpts(lowering: &mut Lowering, target: &Path) -> Result<()> {
    let what = format!("mounting devpts on {}", target.display());
    let operation = Setup::Devpts { path: &inside(target)?, attributes: NOSUID | NOEXEC };
    lowering.setup(Step::Mount, what, Some(target), &operation);
    Ok(())
}

/// A minimal `/dev`: the devices, and what is mounted below.
fn lower_dev(lowering: &mut Lowering, target: &Path) -> Result<()> {
    if lowering.has_user_namespace() && device::can_be_made() {
        let path = inside(target)?;
        let attributes = RDONLY | NOSUID | NOEXEC;
        lowering.devices(|lowering, source| {
            let what = format!("attaching the devices on {}", target.display());
            lowering.setup(Step::Mount, what, Some(target), &Setup::Bind { source, path: &path, attributes });
            Ok(())
        })?;
    } else {
        lower_bound_devices(lowering, target)?;
    }
    lower_devpts(lowering, &target.join("pts"))?;
    let options = tmpfs_options(Bytes::mib(64).get(), 65_536, 0o1777)?;
    lower_filesystem(lowering, c"tmpfs", &target.join("shm"), &options, NOSUID | NODEV | NOEXEC)?;
    let seal = Setup::Seal { path: &inside(target)?, attributes: RDONLY };
    lowering.setup(Step::Mount, format!("making {} read-only", target.display()), Some(target), &seal);
    Ok(())
}

/// Devices of a host that cannot make any: its own nodes are bound into a tmpfs, one by one.
fn lower_bound_devices(lowering: &mut Lowering, target: &Path) -> Result<()> {
    let c = |name: &str| inside(&target.join(name));
    lower_filesystem(lowering, c"tmpfs", target, &tmpfs_options(1 << 16, 64, 0o755)?, NOSUID | NOEXEC)?;
    for (name, major, minor) in DEVICES {
        let (node, path) = (Path::new("/dev").join(name), c(name)?);
        let rdev = u64::from(major) << 32 | u64::from(minor);
        lowering.source(&node, Presentation::AsIs, |lowering, source| {
            let what = format!("binding device /dev/{name} on {}", target.join(name).display());
            lowering.setup(Step::Mount, what, Some(&node), &Setup::Device { source, path: &path, rdev });
            Ok(())
        })?;
    }
    for (name, to) in LINKS {
        let path: CString = c(name)?;
        let what = format!("making symlink {}", target.join(name).display());
        lowering.setup(Step::File, what, Some(target), &Setup::Symlink { target: to, path: &path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowering::SourceMode;

    fn lower(mount: &Mount) -> Result<()> {
        mount.lower(&mut Lowering::new(SourceMode::Paths), RootKind::Ours)
    }

    #[test]
    fn bad_targets_and_sources() {
        assert!(lower(&Mount::tmpfs("tmp")).is_err());
        assert!(lower(&Mount::tmpfs("/tmp\0")).is_err());
        assert!(lower(&Mount::tmpfs("/tmp").size(0)).is_err());
        assert!(lower(&Mount::symlink("a\0b", "/x")).is_err());
        let missing = lower(&Mount::bind("/no/such/source", "/x")).unwrap_err();
        assert_eq!(missing.kind(), crate::ErrorKind::NotFound);
        assert_eq!(missing.path(), Some(Path::new("/no/such/source")));
        assert!(lower(&Mount::bind("/usr", "/usr")).is_ok());
    }
}
