//! What the library and the init say to each other, as bytes. Core-only: both programs contain this file.
//!
//! Three kinds of thing cross the border:
//! - **Messages** ([`Request`], [`Reply`]): fixed-size structures on a `SOCK_SEQPACKET` pair, with file descriptors
//!   beside them. One message is one `sendmsg(2)`.
//! - **The plan image**: the operations of a plan, in a sealed memfd, made once per plan.
//! - **The run image**: program paths, argv, environment and descriptor placement of one run, in a memfd as well,
//!   because a sequenced packet refuses 256 KiB and an environment may be larger.
//!
//! The init knows no names. It reports `(stage, index, errno)`; the library still owns the plan and finds the words.

use core::ffi::CStr;

/// First word of both images; changes when the layout does.
pub(crate) const MAGIC: u32 = 0x626a_0001;
/// "No such descriptor".
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// The most file descriptors that one message carries (`SCM_MAX_FD` of the kernel).
pub(crate) const MAX_FDS: usize = 253;
/// The most file descriptors that the init holds for a container, and for one run.
pub(crate) const MAX_SLOTS: usize = 1024;
/// The slot of the first descriptor that comes with `BOX`; those of `START` are below.
pub(crate) const BOX_SLOTS: usize = 480;
/// The slot of the first descriptor that comes with `GO`.
pub(crate) const LATE_SLOTS: usize = 512;

// ---------------------------------------------------------------------------------------------------------------
// Messages
// ---------------------------------------------------------------------------------------------------------------

/// What the host asks. The file descriptors of a request are appended to the init's incoming table; `START` and `RUN`
/// consume the table.
pub(crate) mod request {
    /// Carries descriptors only, for a table longer than one message can hold.
    pub(crate) const FDS: u32 = 1;
    /// Set the container up. Table: plan image, pidfd of the host, then the slots of the plan's operations. Sent
    /// before the init exists, so that it has something to do from its first instruction.
    pub(crate) const START: u32 = 2;
    /// Start a program. Table: run image, then the slots of the run.
    pub(crate) const RUN: u32 = 3;
    /// Kill a program and everything that descends from it.
    pub(crate) const KILL: u32 = 4;
    /// The id maps are written. Table, from [`LATE_SLOTS`](super::LATE_SLOTS): the mounts that had to be made after
    /// that.
    pub(crate) const GO: u32 = 5;
    /// The cgroup is made, which the host does while the init mounts. Table, from [`BOX_SLOTS`](super::BOX_SLOTS): the
    /// files to join it by, then the file that counts its CPU time, if `usage_slot` says so.
    pub(crate) const BOX: u32 = 6;
}

/// Bits of [`Request::flags`].
pub(crate) mod flag {
    /// `START`: the init is PID 1 of a pid namespace of its own; otherwise it becomes a subreaper.
    pub(crate) const PID_NS: u32 = 1;
    /// `RUN`: the container ends with this program.
    pub(crate) const ONE_SHOT: u32 = 2;
    /// `RUN`: the CPU time of the tree is sampled from the processes' clocks, because no cgroup counts it.
    pub(crate) const SAMPLE_CPU: u32 = 4;
    /// `START`: a `BOX` will come.
    pub(crate) const EXPECT_BOX: u32 = 32;
    /// `START`: the container is for one program, which is why nobody waits for a `READY`.
    pub(crate) const QUIET: u32 = 16;
    /// `BOX`: the usage file is v2 `cpu.stat` (microseconds behind a key), not v1 `cpuacct.usage`.
    pub(crate) const CPU_STAT: u32 = 8;
}

/// A message of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    /// `RUN`, `KILL`: which program, by the host's numbering.
    pub(crate) child: u32,
    /// `BOX`: slot of the directory for `CLONE_INTO_CGROUP`, or [`NO_SLOT`].
    pub(crate) cgroup_slot: u32,
    /// `BOX`: slot of the file that holds the CPU usage of the box, or [`NO_SLOT`].
    pub(crate) usage_slot: u32,
    /// `RUN`: slots of the read ends of captured stdout and stderr, or [`NO_SLOT`].
    pub(crate) pump_from: [u32; 2],
    /// `RUN`: slots of what captured stdout and stderr are written to.
    pub(crate) pump_to: [u32; 2],
    /// `START`: how many processors can use CPU time at once.
    pub(crate) processors: u32,
    /// `RUN`: wall-clock limit in nanoseconds, 0 for none.
    pub(crate) wall_ns: u64,
    /// `RUN`: CPU time limit of the tree in nanoseconds, 0 for none.
    pub(crate) cpu_ns: u64,
    /// `RUN`: bytes that captured stdout and stderr may have.
    pub(crate) budget: [u64; 2],
    /// `RUN`: bytes that both may have together, `u64::MAX` for no such limit.
    pub(crate) budget_sum: u64,
}

/// What the init reports.
pub(crate) mod reply {
    /// The container is set up.
    pub(crate) const READY: u32 = 1;
    /// A step failed: `stage`, `index`, `errno`. After a failed `START` the init ends.
    pub(crate) const FAILED: u32 = 2;
    /// The program was executed; a pidfd of it comes with the message.
    pub(crate) const STARTED: u32 = 3;
    /// The program ended (and in a one-shot container everything else with it).
    pub(crate) const EXITED: u32 = 4;
}

/// Why the init killed a program.
pub(crate) mod cause {
    /// It did not.
    pub(crate) const NONE: u32 = 0;
    /// The wall-clock limit passed.
    pub(crate) const WALL: u32 = 1;
    /// The CPU time limit passed.
    pub(crate) const CPU: u32 = 2;
    /// More output than the budget.
    pub(crate) const OUTPUT: u32 = 3;
    /// The host asked.
    pub(crate) const HOST: u32 = 4;
}

/// A message of the init.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) kind: u32,
    pub(crate) child: u32,
    /// `FAILED`: one of [`stage`].
    pub(crate) stage: u32,
    /// `FAILED`: which operation of that stage.
    pub(crate) index: u32,
    pub(crate) errno: i32,
    /// `EXITED`: the wait status of the program, as `waitpid(2)` gives it.
    pub(crate) status: i32,
    /// `EXITED`: one of [`cause`].
    pub(crate) cause: u32,
    /// `EXITED`: the program's process id inside.
    pub(crate) pid: u32,
    /// `EXITED`: from the successful `execve` to the end of the main process.
    pub(crate) wall_ns: u64,
    /// `EXITED`: user and system time of all processes that were reaped.
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// `EXITED`: CPU time by the usage file or by sampling, in nanoseconds; 0 when neither is in use.
    pub(crate) cpu_ns: u64,
    /// `EXITED`: the largest resident size of any one process, in KiB.
    pub(crate) max_rss_kib: u64,
    /// `EXITED`: bytes that the program wrote to captured stdout and stderr, as far as they were read.
    pub(crate) output: [u64; 2],
}

/// Where a failure happened: the parts of a spawn that have operations of their own.
pub(crate) mod stage {
    /// The init itself: receiving, decoding. `index` is a line of no further meaning.
    pub(crate) const PROTOCOL: u32 = 1;
    /// An operation of [`Setup`](super::Setup).
    pub(crate) const SETUP: u32 = 2;
    /// Creating the payload process.
    pub(crate) const FORK: u32 = 3;
    /// An operation of the plan's [`JOIN`](super::section::JOIN) section.
    pub(crate) const JOIN: u32 = 4;
    /// Placing descriptors.
    pub(crate) const FDS: u32 = 5;
    /// An operation of the plan's [`CONFINE`](super::section::CONFINE) section.
    pub(crate) const CONFINE: u32 = 6;
    /// Entering the working directory.
    pub(crate) const CHDIR: u32 = 7;
    /// An operation of the plan's [`SEAL`](super::section::SEAL) section.
    pub(crate) const SEAL: u32 = 8;
    /// `execve`.
    pub(crate) const EXEC: u32 = 9;
    /// Only in the host: between `clone3` and `execveat` of the init.
    pub(crate) const LAUNCH: u32 = 10;
}

/// Lines of [`stage::PROTOCOL`] that the host tells apart, because a caller can do something about them.
pub(crate) mod line {
    /// The container runs as many programs as it has room for.
    pub(crate) const FULL: u32 = 11;
    /// More descriptors came than the table holds.
    pub(crate) const TOO_MANY_FDS: u32 = 12;
    /// A request could not be received; the init ends.
    pub(crate) const LOST_REQUEST: u32 = 13;
}

/// The record that a payload process leaves in the page it shares with the init when it could not be executed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChildFailure {
    pub(crate) stage: u32,
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

const _: () = assert!(size_of::<Request>() == 80 && align_of::<Request>() == 8);
const _: () = assert!(size_of::<Reply>() == 88 && align_of::<Reply>() == 8);
const _: () = assert!(size_of::<ChildFailure>() == 12);

// ---------------------------------------------------------------------------------------------------------------
// Fields: how one value becomes bytes and back
// ---------------------------------------------------------------------------------------------------------------

/// Where encoded bytes go. The library implements it for `Vec<u8>`; the init never encodes.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Reads encoded fields front to back; every read is bounds-checked.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        Some(head)
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A value that an operation may carry.
pub(crate) trait Field<'a>: Sized {
    #[cfg_attr(belljar_init, allow(dead_code, reason = "the init only decodes"))]
    fn encode(&self, sink: &mut impl Sink);
    fn decode(cursor: &mut Cursor<'a>) -> Option<Self>;
}

macro_rules! integer_fields {
    ($($type:ty),*) => {$(
        impl<'a> Field<'a> for $type {
            fn encode(&self, sink: &mut impl Sink) {
                sink.put(&self.to_ne_bytes());
            }
            fn decode(cursor: &mut Cursor<'a>) -> Option<Self> {
                Some(<$type>::from_ne_bytes(cursor.take(size_of::<$type>())?.try_into().ok()?))
            }
        }
    )*};
}
integer_fields!(u32, u64, i64);

impl<'a> Field<'a> for &'a [u8] {
    fn encode(&self, sink: &mut impl Sink) {
        // A plan image is far below 4 GiB: the library refuses larger ones before it encodes.
        #[allow(clippy::cast_possible_truncation)]
        (self.len() as u32).encode(sink);
        sink.put(self);
    }
    fn decode(cursor: &mut Cursor<'a>) -> Option<Self> {
        let length = u32::decode(cursor)?;
        cursor.take(length as usize)
    }
}

impl<'a> Field<'a> for &'a CStr {
    fn encode(&self, sink: &mut impl Sink) {
        self.to_bytes_with_nul().encode(sink);
    }
    fn decode(cursor: &mut Cursor<'a>) -> Option<Self> {
        CStr::from_bytes_with_nul(<&[u8]>::decode(cursor)?).ok()
    }
}

/// Where a mount comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// A detached mount tree that the host cloned with its own privileges, in this slot of the container's table.
    Slot(u32),
    /// A path of the host, which the init resolves in its copy of the mount namespace with the host's own ids.
    Path(&'a CStr),
}

impl<'a> Field<'a> for Source<'a> {
    fn encode(&self, sink: &mut impl Sink) {
        match self {
            Self::Slot(slot) => slot.encode(sink),
            Self::Path(path) => {
                NO_SLOT.encode(sink);
                path.encode(sink);
            }
        }
    }
    fn decode(cursor: &mut Cursor<'a>) -> Option<Self> {
        match u32::decode(cursor)? {
            NO_SLOT => Some(Self::Path(<&CStr>::decode(cursor)?)),
            slot => Some(Self::Slot(slot)),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Operations
// ---------------------------------------------------------------------------------------------------------------

/// Declares a set of operations once, with both directions of their encoding.
macro_rules! operations {
    ($(#[$meta:meta])* enum $name:ident { $($(#[$variant_meta:meta])* $tag:literal => $variant:ident { $($field:ident: $type:ty),* $(,)? },)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "the payload of the phantom variant is never read")]
        pub(crate) enum $name<'a> {
            $($(#[$variant_meta])* $variant { $($field: $type),* },)*
            /// Never encoded; uses the lifetime in sets that borrow nothing.
            #[doc(hidden)]
            Never(core::convert::Infallible, &'a ()),
        }

        impl<'a> $name<'a> {
            /// Appends the operation to a section.
            #[cfg_attr(belljar_init, allow(dead_code, reason = "the init only decodes"))]
            pub(crate) fn encode(&self, sink: &mut impl Sink) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        let tag: u32 = $tag;
                        tag.encode(sink);
                        $($field.encode(sink);)*
                    })*
                    Self::Never(never, _) => match *never {},
                }
            }

            /// Takes the next operation; `None` when the bytes are malformed.
            fn decode(cursor: &mut Cursor<'a>) -> Option<Self> {
                match u32::decode(cursor)? {
                    $($tag => Some(Self::$variant { $($field: <$type>::decode(cursor)?),* }),)*
                    _ => None,
                }
            }
        }

        impl<'a> Operation<'a> for $name<'a> {
            fn next(cursor: &mut Cursor<'a>) -> Option<Self> {
                Self::decode(cursor)
            }
        }
    };
}

/// What [`Operations`] can iterate over.
pub(crate) trait Operation<'a>: Sized {
    fn next(cursor: &mut Cursor<'a>) -> Option<Self>;
}

operations! {
    /// What the init does, in order, before it is ready.
    enum Setup {
        /// Take these ids in the new user namespace. They own what is created from here on.
        1 => BecomeIds { uid: u32, gid: u32 },
        /// Wait until the host has written the id maps.
        29 => Await {},
        /// Stop mount events from and to the host, for the whole tree.
        2 => MakePrivate {},
        3 => Hostname { name: &'a [u8] },
        4 => DomainName { name: &'a [u8] },
        5 => LoopbackUp {},
        /// Unshare the time namespace (for children) and write its offsets.
        6 => TimeOffsets { offsets: &'a [u8] },
        /// A private tmpfs, out of sight after the pivot, for layers and bound files.
        7 => Scratch {},
        /// The new root is an empty tmpfs.
        8 => RootTmpfs { size: u64, inodes: u64 },
        /// The new root is a clone of a tree of the host.
        9 => RootBind { source: Source<'a>, attributes: u64 },
        /// Attach a lower layer as the scratch directory named by its number.
        10 => Layer { source: Source<'a>, number: u32 },
        /// The upper layer: a tmpfs.
        11 => UpperTmpfs { size: u64, inodes: u64 },
        /// The upper layer: directories of the host below one source (both must be in one mount).
        12 => UpperDir { source: Source<'a> },
        /// Mount the overlay of the layers as the new root. The options name scratch directories only.
        13 => RootOverlay { options: &'a CStr, attributes: u64 },
        /// No new root: operations below work on the present one.
        14 => RootHere {},
        15 => Dir { path: &'a CStr, mode: u32 },
        16 => Symlink { target: &'a CStr, path: &'a CStr },
        /// A regular file on the new root itself.
        17 => File { path: &'a CStr, content: &'a [u8], mode: u32 },
        /// A read-only regular file bound from scratch over the path.
        18 => BindFile { path: &'a CStr, content: &'a [u8], mode: u32, number: u32 },
        19 => Bind { source: Source<'a>, path: &'a CStr, attributes: u64 },
        /// A device node of the host; refused unless it is this character device.
        20 => Device { source: Source<'a>, path: &'a CStr, rdev: u64 },
        /// A filesystem of this kind, which needs no source. The options are ours, never a caller's text.
        21 => Filesystem { kind: &'a CStr, path: &'a CStr, options: &'a CStr, attributes: u64 },
        /// Hide a path: `/dev/null` (from the host) over a file, an empty read-only tmpfs over a directory.
        25 => Mask { path: &'a CStr, null: Source<'a> },
        26 => ReadOnly { path: &'a CStr },
        /// Set attributes on the mount at the path, not on those below it.
        27 => Seal { path: &'a CStr, attributes: u64 },
        /// Make the new root `/` and let go of the old one.
        28 => Pivot {},
    }
}

operations! {
    /// What a payload process does to itself, in order, before it executes the program.
    enum Confine {
        /// Enter a cgroup by writing `0` to this file, opened by the host.
        /// `version` is that of the hierarchy: a process that was forked into the v2 cgroup need not enter it.
        1 => Join { slot: u32, version: u32 },
        /// The cgroup just joined becomes the root of what the program sees.
        2 => UnshareCgroup {},
        3 => Session {},
        4 => Rlimit { resource: u32, soft: u64, hard: u64 },
        /// Supplementary groups are replaced by the empty set first, where the kernel lets us.
        5 => Groups {},
        6 => Ids { uid: u32, gid: u32 },
        /// Bounding, inheritable, permitted, effective and ambient sets become exactly `keep`.
        7 => Capabilities { keep: u64 },
        8 => NoNewPrivs {},
        /// Read back what counts and compare.
        9 => Verify { uid: u32, gid: u32, keep: u64, flags: u32 },
        10 => Umask { mask: u32 },
        11 => Seccomp { program: &'a [u8] },
    }
}

/// Bits of `Confine::Verify::flags`: what to compare.
pub(crate) mod verify {
    /// `no_new_privs` is set.
    pub(crate) const NO_NEW_PRIVS: u32 = 1;
    /// All user and group ids are the given ones.
    pub(crate) const IDS: u32 = 2;
    /// All capability sets are exactly the kept ones.
    pub(crate) const CAPABILITIES: u32 = 4;
}

/// Iterates over the operations of a section.
pub(crate) struct Operations<'a, O> {
    cursor: Cursor<'a>,
    _kind: core::marker::PhantomData<O>,
}

impl<'a, O: Operation<'a>> Operations<'a, O> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(bytes), _kind: core::marker::PhantomData }
    }
}

impl<'a, O: Operation<'a>> Iterator for Operations<'a, O> {
    /// `None` inside: the bytes are malformed and iteration ends.
    type Item = Option<O>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let operation = O::next(&mut self.cursor);
        if operation.is_none() {
            self.cursor = Cursor::new(&[]);
        }
        Some(operation)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Images
// ---------------------------------------------------------------------------------------------------------------

/// The sections of a plan image.
pub(crate) mod section {
    /// [`Setup`](super::Setup) operations.
    pub(crate) const SETUP: usize = 0;
    /// [`Confine`](super::Confine) operations before descriptors are placed.
    pub(crate) const JOIN: usize = 1;
    /// [`Confine`](super::Confine) operations after that.
    pub(crate) const CONFINE: usize = 2;
    /// [`Confine`](super::Confine) operations after the working directory was entered: the last.
    pub(crate) const SEAL: usize = 3;
    pub(crate) const COUNT: usize = 4;
}

/// The head of a plan image; the sections follow it back to back.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanHead {
    pub(crate) magic: u32,
    /// Bytes of each section.
    pub(crate) lengths: [u32; section::COUNT],
}

pub(crate) const PLAN_HEAD: usize = size_of::<PlanHead>();
const _: () = assert!(PLAN_HEAD == 20);

/// A plan image, checked.
#[derive(Clone, Copy)]
pub(crate) struct PlanImage<'a> {
    sections: [&'a [u8]; section::COUNT],
}

impl<'a> PlanImage<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if u32::decode(&mut cursor)? != MAGIC {
            return None;
        }
        let mut lengths = [0_u32; section::COUNT];
        for length in &mut lengths {
            *length = u32::decode(&mut cursor)?;
        }
        let mut sections = [&[][..]; section::COUNT];
        for (section, length) in sections.iter_mut().zip(lengths) {
            *section = cursor.take(length as usize)?;
        }
        Some(Self { sections })
    }

    pub(crate) fn setup(&self) -> Operations<'a, Setup<'a>> {
        Operations::new(self.sections[section::SETUP])
    }

    /// The operations of a section other than [`section::SETUP`].
    pub(crate) fn confine(&self, section: usize) -> Operations<'a, Confine<'a>> {
        Operations::new(self.sections.get(section).copied().unwrap_or(&[]))
    }
}

/// A vector of C strings in a run image: `count` offsets of 8 bytes at `at` (8-aligned), then one zero. The init turns
/// the offsets into pointers in its private copy, so that they can be handed to `execve` without an allocator.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) at: u32,
    pub(crate) count: u32,
}

/// The head of a run image. Offsets are from the start of the image; the image ends with a NUL byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunHead {
    pub(crate) magic: u32,
    /// Offset of the working directory's path, 0 to stay in `/`.
    pub(crate) cwd: u32,
    /// Pairs of `u32` (slot, descriptor number), ascending by number.
    pub(crate) fds: Vector,
    /// Candidate paths of the program, tried in order.
    pub(crate) paths: Vector,
    pub(crate) argv: Vector,
    pub(crate) envp: Vector,
}

pub(crate) const RUN_HEAD: usize = size_of::<RunHead>();
const _: () = assert!(RUN_HEAD == 40);

impl RunHead {
    /// Reads the head of an image and checks that every offset in it stays inside.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.last() != Some(&0) {
            return None;
        }
        let mut cursor = Cursor::new(bytes);
        let mut word = || u32::decode(&mut cursor);
        let head = Self {
            magic: word()?,
            cwd: word()?,
            fds: Vector { at: word()?, count: word()? },
            paths: Vector { at: word()?, count: word()? },
            argv: Vector { at: word()?, count: word()? },
            envp: Vector { at: word()?, count: word()? },
        };
        if head.magic != MAGIC || head.cwd as usize >= bytes.len() {
            return None;
        }
        let fds_end = (head.fds.at as usize).checked_add((head.fds.count as usize).checked_mul(8)?)?;
        if fds_end > bytes.len() || head.fds.at % 4 != 0 {
            return None;
        }
        for vector in [head.paths, head.argv, head.envp] {
            let slots = (vector.count as usize).checked_add(1)?.checked_mul(8)?;
            let end = (vector.at as usize).checked_add(slots)?;
            if end > bytes.len() || vector.at % 8 != 0 || (vector.at as usize) < RUN_HEAD {
                return None;
            }
            for slot in bytes.get(vector.at as usize..end - 8)?.chunks_exact(8) {
                let offset = u64::from_ne_bytes(slot.try_into().ok()?);
                if offset >= bytes.len() as u64 {
                    return None;
                }
            }
        }
        Some(head)
    }

    /// The `n`th (slot, descriptor number) pair.
    pub(crate) fn fd_pair(&self, bytes: &[u8], n: usize) -> Option<(u32, u32)> {
        let at = (self.fds.at as usize).checked_add(n.checked_mul(8)?)?;
        let mut cursor = Cursor::new(bytes.get(at..at.checked_add(8)?)?);
        Some((u32::decode(&mut cursor)?, u32::decode(&mut cursor)?))
    }
}
