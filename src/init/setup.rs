//! The setup operations: from the copy of the host's mount tree to the sandbox's own root.

use crate::label;
use crate::landlock::Ruleset;
use crate::path::Places;
use crate::sys::{self, Errno, Fd, Filesystem, Owned, Reach, Result};
use crate::wire::{Setup, Source};
use core::ffi::CStr;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// What is below the root that is being built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldRoot {
    /// The host's, or a part of it, which must not stay.
    Host,
    /// Two empty directories and a procfs of no process. It stays where nobody gets to: the kernel has locked the mounts that
    /// this namespace began with, and no program may change others.
    Empty,
}

/// Which operations an init carries out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// Its network namespace was made before, and is up.
    AllButNetwork,
    /// Those that need not be done by each.
    Ahead,
    /// The others: it is in the namespaces where an init of the first part was.
    Rest,
}

/// What setup operations leave for later ones.
pub(crate) struct Stage {
    part: Part,
    pub(crate) old_root: OldRoot,
    /// A tmpfs that vanishes with the old root.
    scratch: Option<Owned>,
    /// The root that is being built.
    root: Option<Places>,
    /// Where an overlay in memory keeps its changes, to be read by the host.
    pub(crate) upper: Option<Owned>,
    /// What programs are confined by.
    pub(crate) ruleset: Option<Ruleset>,
    /// The procfs by which they set their labels.
    pub(crate) proc: Option<Owned>,
    /// The ids of the host's process in the surrounding user namespace.
    pub(crate) caller: (u32, u32),
    /// The instance of pseudo-terminals that their terminals are made in.
    pub(crate) devpts: Option<Owned>,
}

impl Stage {
    pub(crate) fn new(part: Part) -> Self {
        Self {
            part,
            old_root: OldRoot::Host,
            scratch: None,
            root: None,
            upper: None,
            ruleset: None,
            proc: None,
            caller: (0, 0),
            devpts: None,
        }
    }

    /// Carries one operation out. `slots` are the descriptors that the host sent.
    pub(crate) fn apply(&mut self, operation: &Setup<'_>, slots: &[Option<Owned>]) -> Result<()> {
        match self.part {
            Part::AllButNetwork if matches!(operation, Setup::NetNs {} | Setup::LoopbackUp {}) => Ok(()),
            Part::Ahead if operation.is_for_each_init() => self.make_way_for(operation),
            Part::Rest if !operation.is_for_each_init() => self.take_over(operation),
            _ => self.carry_out(operation, slots),
        }
    }

    /// What another init finds when it carries this out.
    fn make_way_for(&mut self, operation: &Setup<'_>) -> Result<()> {
        match *operation {
            // They own what is made.
            Setup::BecomeIds { .. } => self.carry_out(operation, &[]),
            // The root will be read-only.
            Setup::Filesystem { path, .. } => self.places()?.make_dirs(path).map(drop),
            _ => Ok(()),
        }
    }

    /// What is needed of something that another init has carried out.
    fn take_over(&mut self, operation: &Setup<'_>) -> Result<()> {
        match *operation {
            Setup::Devpts { path, .. } => {
                let devpts = self.places()?.find(path)?;
                self.keep_devpts(path, devpts);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, operation: &Setup<'_>, slots: &[Option<Owned>]) -> Result<()> {
        match *operation {
            Setup::BecomeIds { uid, gid } => {
                sys::set_gid(gid)?;
                sys::set_uid(uid)
            }
            // Handled by the container, which has the socket.
            Setup::Await {} => Err(Errno::EPROTO),
            Setup::MakePrivate {} => sys::mount(c"", c"/", c"", sys::MS_REC | sys::MS_PRIVATE, c""),
            Setup::Hostname { name } => sys::set_hostname(name),
            Setup::DomainName { name } => sys::set_domain_name(name),
            Setup::NetNs {} => sys::unshare(sys::CLONE_NEWNET),
            Setup::LoopbackUp {} => sys::loopback_up(),
            Setup::PacketFilter { batch } => sys::change_packet_filter(batch),
            Setup::TimeOffsets { offsets } => time_offsets(offsets),
            Setup::ClocksStart { seconds } => clocks_start(seconds),
            Setup::Scratch {} => {
                let scratch = tmpfs(0, 0, 0o700, NOSUID | NODEV)?;
                self.scratch = Some(match self.old_root {
                    OldRoot::Host => over_root(scratch)?,
                    OldRoot::Empty => {
                        let place = sys::open(Fd::CWD, c"/scratch", sys::O_PATH | sys::O_DIRECTORY, 0)?;
                        sys::attach(scratch.fd(), place.fd())?;
                        scratch
                    }
                });
                Ok(())
            }
            Setup::RootTmpfs { size, inodes } => {
                self.root = Some(Places::new(over_root(tmpfs(size, inodes, 0o755, NOSUID | NODEV)?)?));
                Ok(())
            }
            Setup::RootBind { source, attributes } => {
                let tree = tree_of(source, slots, Reach::Tree)?;
                sys::set_attributes(tree.fd(), attributes, Reach::Tree)?;
                self.root = Some(Places::new(over_root(tree)?));
                Ok(())
            }
            Setup::Layer { source, number } => {
                let tree = tree_of(source, slots, Reach::One)?;
                sys::set_attributes(tree.fd(), RDONLY, Reach::Tree)?;
                self.attach_in_scratch(&tree, Decimal::new(u64::from(number)).text())
            }
            Setup::LayerBelow { target, number } => {
                sys::symlink(target, self.scratch()?, Decimal::new(u64::from(number)).text())
            }
            Setup::UpperTmpfs { size, inodes, uid, gid } => {
                let upper = tmpfs(size, inodes, 0o700, NOSUID | NODEV)?;
                self.attach_in_scratch(&upper, c"u")?;
                // Mode and owner of the upper directory become those of the merged root.
                sys::mkdir(upper.fd(), c"upper", 0o755)?;
                sys::chown(upper.fd(), c"upper", uid, gid)?;
                sys::mkdir(upper.fd(), c"work", 0o700)?;
                let flags = sys::O_RDONLY | sys::O_DIRECTORY;
                self.upper = Some(sys::open2(upper.fd(), c"upper", flags, sys::RESOLVE_BENEATH)?);
                Ok(())
            }
            Setup::UpperDir { source } => {
                let tree = tree_of(source, slots, Reach::Tree)?;
                sys::set_attributes(tree.fd(), NOSUID | NODEV, Reach::Tree)?;
                self.attach_in_scratch(&tree, c"u")
            }
            Setup::RootOverlay { options, attributes } => self.overlay(options, attributes),
            Setup::RootHere {} => {
                self.root = Some(Places::new(sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?));
                Ok(())
            }
            Setup::Dir { path, mode } => {
                let dir = self.places()?.make_dirs(path)?;
                // An O_PATH descriptor cannot be chmodded; reopen it, itself, as a directory.
                let dir = sys::open2(dir.fd(), c".", sys::O_RDONLY | sys::O_DIRECTORY, sys::RESOLVE_BENEATH)?;
                sys::chmod(dir.fd(), mode)
            }
            Setup::Symlink { target, path } => {
                self.places()?.in_parent(path, |parent, name| match sys::symlink(target, parent, name) {
                    // Of an earlier sandbox over the same upper directory.
                    Err(Errno::EEXIST) if sys::links_to(parent, name, target) => Ok(()),
                    made => made,
                })
            }
            Setup::File { path, content, mode } => {
                self.places()?.in_parent(path, |parent, name| new_file(parent, name, content, mode).map(drop))
            }
            Setup::BindFile { path, content, mode, number } => self.bind_file(path, content, mode, number),
            Setup::Bind { source, path, attributes } => {
                let tree = tree_of(source, slots, Reach::Tree)?;
                sys::set_attributes(tree.fd(), attributes, Reach::Tree)?;
                let target = self.target_like(&tree, path)?;
                self.attach(&tree, &target)
            }
            Setup::Device { source, path, rdev } => {
                let tree = character_device(tree_of(source, slots, Reach::Tree)?, rdev)?;
                // Devices are written to all the same. What is not to be changed is the node, which may be the machine's own.
                sys::set_attributes(tree.fd(), RDONLY | NOSUID | NOEXEC, Reach::Tree)?;
                let target = self.places()?.make_file(path)?;
                sys::attach(tree.fd(), target.fd())
            }
            Setup::Filesystem { kind, path, options, attributes } => {
                let target = self.places()?.make_dirs(path)?;
                // Mounting on "." is mounting on a descriptor: nothing is looked up. The low attribute bits have the
                // values of mount(2)'s flags.
                sys::fchdir(target.fd())?;
                sys::mount(kind, c".", kind, attributes as usize, options)?;
                self.places()?.forget();
                Ok(())
            }
            Setup::Devpts { path, attributes } => {
                let target = self.places()?.make_dirs(path)?;
                let filesystem = Filesystem::open(c"devpts")?;
                filesystem.set(c"ptmxmode", c"0666")?;
                filesystem.set(c"mode", c"0620")?;
                let devpts = filesystem.mount(attributes)?;
                self.attach(&devpts, &target)?;
                self.keep_devpts(path, devpts);
                Ok(())
            }
            Setup::Mask { path, null } => self.mask(path, null, slots),
            Setup::ReadOnly { path } => {
                let target = self.places()?.find(path)?;
                let tree = sys::clone_tree(target.fd(), c"", Reach::Tree)?;
                sys::set_attributes(tree.fd(), RDONLY, Reach::Tree)?;
                self.attach(&tree, &target)
            }
            Setup::Seal { path, attributes } => {
                let target = self.places()?.find(path)?;
                sys::set_attributes(target.fd(), attributes, Reach::One)
            }
            Setup::Pivot {} if self.old_root == OldRoot::Empty => {
                if self.scratch.take().is_some() {
                    sys::detach(c"/scratch")?;
                }
                sys::fchdir(self.places()?.root())?;
                sys::chroot(c".")
            }
            Setup::Pivot {} => {
                let old = sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?;
                sys::fchdir(self.places()?.root())?;
                // pivot_root(".", ".") stacks the old root on the new one; see pivot_root(2).
                sys::pivot_root(c".", c".")?;
                sys::fchdir(old.fd())?;
                leave_behind()?;
                sys::chdir(c"/")?;
                self.scratch = None;
                Ok(())
            }
            Setup::Ruleset { files, ports, scopes } => {
                self.ruleset = Some(Ruleset::new(files, ports, scopes)?);
                Ok(())
            }
            Setup::AllowPath { path, access, on_file, optional } => {
                self.ruleset()?.allow_path(path, access, on_file, optional == 1)
            }
            Setup::AllowPort { port, access } => self.ruleset()?.allow_port(port, access),
            Setup::MapIds { uid, gid } => map_ids((uid, gid), self.caller),
            Setup::KeepProc {} => {
                self.proc = Some(label::keep_proc()?);
                Ok(())
            }
            Setup::Never(never, _) => match never {},
        }
    }

    fn places(&mut self) -> Result<&mut Places> {
        if self.part == Part::Rest && self.root.is_none() {
            self.root = Some(Places::new(sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?));
        }
        self.root.as_mut().ok_or(Errno::EPROTO)
    }

    /// Of several the one at its usual place, or the first.
    fn keep_devpts(&mut self, path: &CStr, devpts: Owned) {
        if self.devpts.is_none() || path.to_bytes().ends_with(b"dev/pts") {
            self.devpts = Some(devpts);
        }
    }

    fn ruleset(&self) -> Result<&Ruleset> {
        self.ruleset.as_ref().ok_or(Errno::EPROTO)
    }

    fn scratch(&self) -> Result<Fd> {
        self.scratch.as_ref().map(Owned::fd).ok_or(Errno::EPROTO)
    }

    /// A place of the same kind (directory or not) as the tree's root, made if missing.
    fn target_like(&mut self, tree: &Owned, path: &CStr) -> Result<Owned> {
        if sys::stat(tree.fd())?.is_dir() {
            self.places()?.make_dirs(path)
        } else {
            self.places()?.make_file(path)
        }
    }

    /// Attaches a tree below the root; what was looked up before may now be covered.
    fn attach(&mut self, tree: &Owned, target: &Owned) -> Result<()> {
        sys::attach(tree.fd(), target.fd())?;
        self.places()?.forget();
        Ok(())
    }

    fn attach_in_scratch(&self, tree: &Owned, name: &CStr) -> Result<()> {
        let scratch = self.scratch()?;
        sys::mkdir(scratch, name, 0o700)?;
        let target = sys::open2(scratch, name, sys::O_PATH | sys::O_DIRECTORY, sys::RESOLVE_BENEATH)?;
        sys::attach(tree.fd(), target.fd())
    }

    /// Mounts the overlay by the classic call: one string takes any number of layers, where `fsconfig` takes 256
    /// bytes or, since 6.7 only, one layer at a time. All names in it are relative to scratch: our own numbers, and those
    /// of the upper directories, which the library has checked for characters that mean something to overlayfs.
    fn overlay(&mut self, options: &CStr, attributes: u64) -> Result<()> {
        let scratch = self.scratch()?;
        sys::mkdir(scratch, c"m", 0o700)?;
        sys::fchdir(scratch)?;
        sys::mount(c"overlay", c"m", c"overlay", sys::MS_NOSUID | sys::MS_NODEV, options)?;
        let merged = sys::open2(scratch, c"m", sys::O_PATH | sys::O_DIRECTORY, 0)?;
        if attributes != 0 {
            sys::set_attributes(merged.fd(), attributes, Reach::One)?;
        }
        self.root = Some(Places::new(match self.old_root {
            OldRoot::Host => merged,
            OldRoot::Empty => over_root(merged)?,
        }));
        Ok(())
    }

    fn bind_file(&mut self, path: &CStr, content: &[u8], mode: u32, number: u32) -> Result<()> {
        let name = Decimal::new(u64::from(number));
        let file = new_file(self.scratch()?, name.text(), content, mode)?;
        let tree = sys::clone_tree(file.fd(), c"", Reach::Tree)?;
        sys::set_attributes(tree.fd(), RDONLY | NOSUID | NODEV, Reach::Tree)?;
        let target = self.places()?.make_file(path)?;
        sys::attach(tree.fd(), target.fd())
    }

    fn mask(&mut self, path: &CStr, null: Source<'_>, slots: &[Option<Owned>]) -> Result<()> {
        const NULL: u64 = 1 << 32 | 3;
        let target = match self.places()?.find(path) {
            // Nothing to see, nothing to hide.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            found => found?,
        };
        let cover = if sys::stat(target.fd())?.is_dir() {
            tmpfs(4096, 2, 0o555, RDONLY | NOSUID | NODEV | NOEXEC)?
        } else {
            let tree = character_device(tree_of(null, slots, Reach::Tree)?, NULL)?;
            sys::set_attributes(tree.fd(), RDONLY | NOSUID | NOEXEC, Reach::Tree)?;
            tree
        };
        self.attach(&cover, &target)
    }
}

/// The source as a detached tree: the host's clone (used up by attaching it), or one made here by path.
fn tree_of(source: Source<'_>, slots: &[Option<Owned>], reach: Reach) -> Result<Owned> {
    match source {
        // The table keeps its own descriptor; both refer to the same tree until it is attached. The host cloned it from
        // mounts that may be shared: nothing of ours may propagate back, or later mounts of the host into it.
        Source::Slot(slot) => {
            let tree = slots.get(slot as usize).and_then(Option::as_ref).ok_or(Errno::EPROTO)?;
            let tree = Owned::adopt(sys::duplicate_from(tree.fd(), 3)?);
            sys::set_attributes(tree.fd(), 0, Reach::Tree)?;
            Ok(tree)
        }
        Source::Path(path) => sys::clone_tree(Fd::CWD, path, reach),
    }
}

/// The tree, if it is this device and nothing that was put in its place.
fn character_device(tree: Owned, rdev: u64) -> Result<Owned> {
    let stat = sys::stat(tree.fd())?;
    if !stat.is_character_device() || stat.rdev != rdev {
        return Err(Errno::ENODEV);
    }
    Ok(tree)
}

/// Attaches a tree on top of the present root directory. Lookups that start at `/` keep finding the old root, whose
/// mount the process still holds as its root; the tree is reached by descriptor until the pivot.
fn over_root(tree: Owned) -> Result<Owned> {
    let old = sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?;
    sys::attach(tree.fd(), old.fd())?;
    Ok(tree)
}

/// Detaches the mount of the current directory, the old root, with all that is stacked on it: scratch, and whatever the
/// new root was mounted over. A lookup of "." finds the topmost of the stack, so the old root itself goes last.
fn leave_behind() -> Result<()> {
    /// More than setup ever stacks on the old root.
    const MOST: usize = 8;
    for _ in 0..MOST {
        match sys::detach(c".") {
            Ok(()) => {}
            // What "." is on is no longer a mount of this namespace.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    // getcwd(2) begins with "(unreachable)" once it is gone.
    if sys::cwd_first_byte()? == b'/' { Err(Errno::EBUSY) } else { Ok(()) }
}

/// A detached tmpfs; 0 for size or inodes leaves the kernel's default.
fn tmpfs(size: u64, inodes: u64, mode: u32, attributes: u64) -> Result<Owned> {
    let filesystem = Filesystem::open(c"tmpfs")?;
    if size != 0 {
        filesystem.set(c"size", Decimal::new(size).text())?;
    }
    if inodes != 0 {
        filesystem.set(c"nr_inodes", Decimal::new(inodes).text())?;
    }
    filesystem.set(c"mode", Decimal::octal(mode).text())?;
    filesystem.mount(attributes)
}

fn new_file(dir: Fd, name: &CStr, content: &[u8], mode: u32) -> Result<Owned> {
    let file = sys::open(dir, name, sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW, mode)?;
    sys::write_all(file.fd(), content)?;
    Ok(file)
}

/// Maps one user and one group id, which anybody may do for oneself (user_namespaces(7)).
fn map_ids(inside: (u32, u32), outside: (u32, u32)) -> Result<()> {
    let write = |path, content: &[u8]| {
        let file = sys::open(Fd::CWD, path, sys::O_WRONLY, 0)?;
        sys::write_all(file.fd(), content)
    };
    let map = |path, inside: u32, outside: u32| {
        let mut line = [0_u8; 64];
        let mut length = 0;
        for part in [Decimal::new(u64::from(inside)).text().to_bytes(), b" ", Decimal::new(u64::from(outside)).text().to_bytes(), b" 1\n"] {
            line.get_mut(length..length + part.len()).ok_or(Errno::EOVERFLOW)?.copy_from_slice(part);
            length += part.len();
        }
        write(path, line.get(..length).ok_or(Errno::EOVERFLOW)?)
    };
    write(c"/proc/self/setgroups", b"deny")?;
    map(c"/proc/self/gid_map", inside.1, outside.1)?;
    map(c"/proc/self/uid_map", inside.0, outside.0)
}

/// Writes the offsets before any process entered the namespace; afterwards the kernel refuses (time_namespaces(7)).
fn time_offsets(offsets: &[u8]) -> Result<()> {
    sys::unshare(sys::CLONE_NEWTIME)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let file = sys::open(Fd::CWD, c"/proc/self/timens_offsets", sys::O_WRONLY, 0)?;
    match sys::write(file.fd(), offsets) {
        Ok(count) if count == offsets.len() => Ok(()),
        Ok(_) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

/// Makes both clocks begin at this many seconds. The kernel takes offsets from the clocks of the initial namespace, and
/// ours are those unless the host is in a time namespace itself.
fn clocks_start(seconds: i64) -> Result<()> {
    const SECOND: i128 = 1_000_000_000;
    let mut text = [0_u8; 128];
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        let end = length + bytes.len();
        text.get_mut(length..end).ok_or(Errno::EOVERFLOW)?.copy_from_slice(bytes);
        length = end;
        Ok::<(), Errno>(())
    };
    for (name, now) in [(&b"monotonic "[..], sys::monotonic()), (&b"boottime "[..], sys::boottime())] {
        let offset = i128::from(seconds) * SECOND - i128::from(now);
        // The nanoseconds count upwards, whatever the sign of the seconds.
        let (whole, rest) = (offset.div_euclid(SECOND), offset.rem_euclid(SECOND));
        put(name)?;
        if whole < 0 {
            put(b"-")?;
        }
        put(Decimal::new(whole.unsigned_abs() as u64).text().to_bytes())?;
        put(b" ")?;
        put(Decimal::new(rest as u64).text().to_bytes())?;
        put(b"\n")?;
    }
    time_offsets(text.get(..length).ok_or(Errno::EOVERFLOW)?)
}

/// A number as a C string, without an allocator.
pub(crate) struct Decimal {
    bytes: [u8; 24],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(value: u64) -> Self {
        Self::in_base(value, 10)
    }

    fn octal(value: u32) -> Self {
        Self::in_base(u64::from(value), 8)
    }

    fn in_base(mut value: u64, base: u64) -> Self {
        let mut bytes = [0; 24];
        let mut start = bytes.len() - 1;
        loop {
            start -= 1;
            bytes[start] = b'0' + (value % base) as u8;
            value /= base;
            if value == 0 {
                return Self { bytes, start };
            }
        }
    }

    pub(crate) fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes[self.start..]).unwrap_or(c"0")
    }
}
