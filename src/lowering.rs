//! Where subsystems put their operations: the plan image under construction, with a label for every operation, so that
//! an index that the init reports becomes the name of an act and its object.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, Step, one_line};
use crate::fsimage;
use crate::skeleton::Skeleton;
use crate::source::{HostSource, Origin, Presentation};
use crate::wire::{self, Confine, Setup, Sink, Source, section};

/// What one operation does, in words.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) step: Step,
    /// Reads well before "failed": "mounting tmpfs on /tmp".
    pub(crate) what: String,
    /// The path inside.
    pub(crate) path: Option<PathBuf>,
    /// It is a part of making an overlay, which the kernel refuses for reasons of its own.
    pub(crate) of_overlay: bool,
}

impl Label {
    pub(crate) fn new(step: Step, what: impl Into<String>) -> Self {
        Self { step, what: one_line(what.into()).into_owned(), path: None, of_overlay: false }
    }
}

/// The labels of each section's operations.
pub(crate) type Labels = [Vec<Label>; section::COUNT];

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How sources reach the init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceMode {
    /// The host clones them with its own privileges and sends descriptors.
    Descriptors,
    /// The same, and the ids of their files can be presented through the sandbox's user namespace.
    MappedDescriptors,
    /// The init opens them by path with the caller's ids: an unprivileged host may not clone mounts.
    Paths,
}

/// A plan image under construction.
#[derive(Debug)]
pub(crate) struct Lowering {
    sections: [Vec<u8>; section::COUNT],
    labels: Labels,
    sources: Vec<HostSource>,
    /// What the init looks up in its copy of the host's mounts.
    looked_up: Vec<PathBuf>,
    /// It has no such copy.
    sends_all: bool,
    /// Where filesystems are mounted that each init has to mount for itself.
    of_each_init: Vec<PathBuf>,
    /// Something is made at or below such a place, and so after it.
    follows_init: bool,
    mode: SourceMode,
    files: u32,
    proc: ProcView,
    /// Something was mounted over the old root, and a clone of that would contain it.
    root_covered: bool,
    shares_root: bool,
    held: Vec<Held>,
    has_terminals: bool,
}

/// Something that keeps what a plan names where it is: locks of a store of layers.
pub(crate) type Held = Arc<dyn std::fmt::Debug + Send + Sync>;

/// Where a procfs comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcView {
    /// A fresh one, of the sandbox's own PID namespace.
    Fresh,
    /// The host's, read-only: the sandbox shares the host's PID namespace and is not root there.
    Host,
}

impl Lowering {
    pub(crate) fn new(mode: SourceMode) -> Self {
        Self {
            sections: Default::default(),
            labels: Default::default(),
            sources: Vec::new(),
            looked_up: Vec::new(),
            sends_all: false,
            of_each_init: Vec::new(),
            follows_init: false,
            mode,
            files: 0,
            proc: ProcView::Fresh,
            root_covered: false,
            shares_root: false,
            held: Vec::new(),
            has_terminals: false,
        }
    }

    pub(crate) fn setup(
        &mut self,
        step: Step,
        what: impl Into<String>,
        path: Option<&Path>,
        operation: &Setup<'_>,
    ) {
        self.root_covered |=
            matches!(operation, Setup::Scratch {} | Setup::RootTmpfs { .. } | Setup::RootBind { .. });
        self.has_terminals |= matches!(operation, Setup::Devpts { .. });
        match operation {
            Setup::Filesystem { path, .. } if operation.is_for_each_init() => {
                self.of_each_init.push(Path::new(OsStr::from_bytes(path.to_bytes())).to_path_buf());
            }
            _ => {
                let follows = |path: &Path| self.of_each_init.iter().any(|place| path.starts_with(place));
                self.follows_init |= path.is_some_and(follows);
            }
        }
        operation.encode(&mut self.sections[section::SETUP]);
        let of_overlay = matches!(
            operation,
            Setup::Layer { .. }
                | Setup::LayerBelow { .. }
                | Setup::UpperDir { .. }
                | Setup::RootOverlay { .. }
        );
        let label = Label { path: path.map(Path::to_path_buf), of_overlay, ..Label::new(step, what) };
        self.labels[section::SETUP].push(label);
    }

    /// Adds to one of the sections that the payload carries out.
    pub(crate) fn confine(
        &mut self,
        section: usize,
        step: Step,
        what: impl Into<String>,
        operation: &Confine<'_>,
    ) {
        operation.encode(&mut self.sections[section]);
        self.labels[section].push(Label::new(step, what));
    }

    /// Whether the init can no longer clone what is at this path, because it is `/` and covered, and no host does it.
    pub(crate) fn is_out_of_reach(&self, path: &Path) -> bool {
        self.mode == SourceMode::Paths
            && self.root_covered
            && path.canonicalize().is_ok_and(|real| real == Path::new("/"))
    }

    /// Registers a mount source and calls `f` with the way the init finds it.
    pub(crate) fn source(
        &mut self,
        path: &Path,
        presentation: Presentation,
        f: impl FnOnce(&mut Self, Source<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = c_path(&std::path::absolute(path).map_err(|error| {
            Error::os(Step::Plan, format!("making {} absolute", path.display()), error).with_path(path)
        })?)?;
        let as_is = presentation == Presentation::AsIs || self.mode != SourceMode::MappedDescriptors;
        if self.mode == SourceMode::Paths || (as_is && !self.sends_all && is_reachable_by_others(&path)) {
            self.looked_up.push(Path::new(OsStr::from_bytes(path.to_bytes())).to_path_buf());
            return f(self, Source::Path(&path));
        }
        self.add_source(HostSource { origin: Origin::Path(path), presentation }, f)
    }

    /// Mounts a filesystem image, for as long as there is the plan, and registers it. Ids in it are ids inside.
    pub(crate) fn image(
        &mut self,
        path: &Path,
        f: impl FnOnce(&mut Self, Source<'_>) -> Result<()>,
    ) -> Result<()> {
        let image = fsimage::Candidate::open(path)?;
        if self.mode == SourceMode::Paths {
            return Err(image.refused());
        }
        let origin = Origin::Image(image.mount()?);
        self.add_source(HostSource { origin, presentation: Presentation::Layer }, f)
    }

    /// Registers the [devices](crate::device) of a minimal `/dev`, which the host has.
    pub(crate) fn devices(&mut self, f: impl FnOnce(&mut Self, Source<'_>) -> Result<()>) -> Result<()> {
        self.add_source(HostSource { origin: Origin::Devices, presentation: Presentation::AsIs }, f)
    }

    /// Registers a root that is made once for all sandboxes of the plan.
    pub(crate) fn skeleton(
        &mut self,
        skeleton: Arc<Skeleton>,
        f: impl FnOnce(&mut Self, Source<'_>) -> Result<()>,
    ) -> Result<()> {
        let source = HostSource { origin: Origin::Skeleton(skeleton), presentation: Presentation::Top };
        self.add_source(source, f)
    }

    /// Sandboxes of the plan may share the part of their root that is the same: their root user owns what is made for all,
    /// and none of them may change mounts.
    pub(crate) fn allow_shared_root(&mut self) {
        self.shares_root = self.mode == SourceMode::MappedDescriptors;
    }

    /// Nothing is looked up by the init, which starts where nothing of the host is.
    pub(crate) fn send_all_sources(&mut self) {
        self.sends_all = true;
    }

    /// Whether what an init mounts for itself can come last.
    pub(crate) fn can_be_done_ahead(&self) -> bool {
        !self.follows_init
    }

    pub(crate) fn may_share_root(&self) -> bool {
        self.shares_root
    }

    /// Whether a host that makes mounts gives the sandbox a user namespace of its own. Without one, a program that keeps
    /// capabilities has power over filesystems that others use as well.
    pub(crate) fn has_user_namespace(&self) -> bool {
        self.mode == SourceMode::MappedDescriptors
    }

    fn add_source(
        &mut self,
        source: HostSource,
        f: impl FnOnce(&mut Self, Source<'_>) -> Result<()>,
    ) -> Result<()> {
        let slot = wire::TREE_SLOTS + self.sources.len();
        if slot >= wire::MAX_SLOTS {
            return Err(
                Error::invalid("more mounts than the init can hold").with_hint("bind a common parent")
            );
        }
        self.sources.push(source);
        f(self, Source::Slot(u32::try_from(slot).unwrap_or(wire::NO_SLOT)))
    }

    /// A fresh number for a file in scratch, above all layer numbers.
    pub(crate) fn next_file(&mut self) -> u32 {
        self.files += 1;
        100_000 + self.files
    }

    pub(crate) fn show_proc_of_host(&mut self) {
        self.proc = ProcView::Host;
    }

    /// Whether the sandbox has an instance of pseudo-terminals.
    pub(crate) fn has_terminals(&self) -> bool {
        self.has_terminals
    }

    pub(crate) fn proc(&self) -> ProcView {
        self.proc
    }

    /// Keeps something as long as there is the plan.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// What the init looks up by path, in places where anybody may.
    pub(crate) fn take_looked_up(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.looked_up)
    }

    pub(crate) fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    /// The finished image, the labels of its operations, and the sources to clone.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, Labels, Vec<HostSource>)> {
        let mut image =
            Vec::with_capacity(wire::PLAN_HEAD + self.sections.iter().map(Vec::len).sum::<usize>());
        image.put(&wire::MAGIC.to_ne_bytes());
        for section in &self.sections {
            let length = u32::try_from(section.len()).map_err(|_| {
                Error::invalid("the plan is larger than 4 GiB").with_hint("bind large files instead")
            })?;
            image.put(&length.to_ne_bytes());
        }
        for section in &self.sections {
            image.put(section);
        }
        Ok((image, self.labels, self.sources))
    }
}

/// Whether any user can look the path up, so that the init can with the sandbox's own ids. Then the host need not
/// clone the mount and pass a descriptor: the lookup in the init's copy of the mount namespace finds the same, unless
/// it is `/`, which the new root is mounted over.
fn is_reachable_by_others(path: &CString) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS_EXECUTE: u32 = 0o001;
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    // A symlink may lead through directories that are not looked at here.
    let Ok(real) = path.canonicalize() else { return false };
    real == path
        && path != Path::new("/")
        && path.ancestors().skip(1).all(|dir| {
            std::fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_EXECUTE != 0)
        })
}

/// A string for the kernel; a NUL inside is the caller's mistake.
pub(crate) fn c_string(text: &OsStr, what: &str) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::invalid(format!("{what} contains a NUL byte: {:?}", text.to_string_lossy())))
}

/// A path for the kernel.
pub(crate) fn c_path(path: &Path) -> Result<CString> {
    c_string(path.as_os_str(), "a path").map_err(|error| error.with_path(path))
}

/// A path inside the sandbox, which must be absolute.
pub(crate) fn inside(path: &Path) -> Result<CString> {
    if !path.is_absolute() {
        return Err(Error::invalid(format!("{} is not an absolute path inside the sandbox", path.display()))
            .with_path(path)
            .with_hint("paths inside start with /"));
    }
    c_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PlanImage;

    #[test]
    fn an_image_decodes_to_itself() {
        let mut lowering = Lowering::new(SourceMode::MappedDescriptors);
        lowering.setup(Step::Hostname, "naming", None, &Setup::Hostname { name: b"jar" });
        lowering
            .source(Path::new("/usr"), Presentation::Inside, |lowering, source| {
                assert_eq!(source, Source::Slot(512));
                lowering.setup(Step::Mount, "x", None, &Setup::Bind { source, path: c"/usr", attributes: 1 });
                Ok(())
            })
            .unwrap();
        lowering.confine(
            section::SEAL,
            Step::Seccomp,
            "filter",
            &Confine::Seccomp { program: &[1; 8], token: 0 },
        );
        let (image, labels, sources) = lowering.finish().unwrap();
        let image = PlanImage::parse(&image).unwrap();
        let setup: Vec<_> = image.setup().map(Option::unwrap).collect();
        assert_eq!(
            setup,
            [
                Setup::Hostname { name: b"jar" },
                Setup::Bind { source: Source::Slot(512), path: c"/usr", attributes: 1 }
            ]
        );
        let seal: Vec<_> = image.confine(section::SEAL).map(Option::unwrap).collect();
        assert_eq!(seal, [Confine::Seccomp { program: &[1; 8], token: 0 }]);
        assert_eq!(labels[section::SETUP].len(), 2);
        assert_eq!(sources.len(), 1);
    }

    #[test]
    fn bytes_behind_the_last_section_are_refused() {
        let (mut image, ..) = Lowering::new(SourceMode::Paths).finish().unwrap();
        assert!(PlanImage::parse(&image).is_some());
        image.push(0);
        assert!(PlanImage::parse(&image).is_none());
    }

    #[test]
    fn nul_and_relative_paths_are_refused() {
        assert!(inside(Path::new("tmp")).is_err());
        assert!(inside(Path::new("/a\0b")).is_err());
        assert!(inside(Path::new("/tmp")).is_ok());
    }
}
