//! Operations: each set is declared once, with both directions of its encoding.

use core::ffi::CStr;

use super::message::NO_SLOT;

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

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        Some(head)
    }

    pub(super) fn is_empty(&self) -> bool {
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
        /// Wait until the host has written the id maps and made its mount trees.
        29 => Await {},
        /// Stop mount events from and to the host, for the whole tree.
        2 => MakePrivate {},
        3 => Hostname { name: &'a [u8] },
        4 => DomainName { name: &'a [u8] },
        5 => LoopbackUp {},
        /// Unshare the network namespace.
        32 => NetNs {},
        /// Have the packet filter make changes, by one batch of requests of the library's, of which the last is acknowledged.
        45 => PacketFilter { batch: &'a [u8] },
        /// Unshare the time namespace (for children) and write its offsets.
        6 => TimeOffsets { offsets: &'a [u8] },
        /// Unshare the time namespace (for children); its monotonic and boot-time clocks begin here.
        30 => ClocksStart { seconds: i64 },
        /// A private tmpfs, out of sight after the pivot, for layers and bound files.
        7 => Scratch {},
        /// The new root is an empty tmpfs.
        8 => RootTmpfs { size: u64, inodes: u64 },
        /// The new root is a clone of a tree of the host.
        9 => RootBind { source: Source<'a>, attributes: u64 },
        /// Attach a lower layer as the scratch directory named by its number.
        10 => Layer { source: Source<'a>, number: u32 },
        /// A lower layer below one that was attached: a symlink of this number in scratch.
        31 => LayerBelow { target: &'a CStr, number: u32 },
        /// The upper layer: a tmpfs, whose root belongs to these ids.
        11 => UpperTmpfs { size: u64, inodes: u64, uid: u32, gid: u32 },
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
        /// An instance of pseudo-terminals, which terminals for programs are made in.
        22 => Devpts { path: &'a CStr, attributes: u64 },
        /// Hide a path: `/dev/null` (from the host) over a file, an empty read-only tmpfs over a directory.
        25 => Mask { path: &'a CStr, null: Source<'a> },
        26 => ReadOnly { path: &'a CStr },
        /// Set attributes on the mount at the path, not on those below it.
        27 => Seal { path: &'a CStr, attributes: u64 },
        /// Make the new root `/` and let go of the old one.
        28 => Pivot {},
        /// Begin a ruleset of landlock that handles these rights: of files, of ports, and scopes.
        40 => Ruleset { files: u64, ports: u64, scopes: u64 },
        /// Allow these rights on a place and below it; those of `on_file` alone if it is no directory.
        /// If `optional` is 1, a path that is not there, or that has a symlink in it, is passed over.
        41 => AllowPath { path: &'a CStr, access: u64, on_file: u64, optional: u32 },
        42 => AllowPort { port: u32, access: u64 },
        /// Map these ids to the caller's, whose numbers in the surrounding user namespace came with `GO`.
        44 => MapIds { uid: u32, gid: u32 },
        /// Keep the host's procfs, for programs to set their label by.
        43 => KeepProc {},
    }
}

impl Setup<'_> {
    /// Whether it is about the init that does it, or about what no other init can make for it: a procfs of its PID namespace,
    /// its clocks, the ruleset of its programs. All else can be done in its namespaces before it is there.
    pub(crate) fn is_for_each_init(&self) -> bool {
        match self {
            Self::Filesystem { kind, .. } => kind.to_bytes() == b"proc",
            Self::BecomeIds { .. }
            | Self::Await {}
            | Self::TimeOffsets { .. }
            | Self::ClocksStart { .. }
            | Self::Ruleset { .. }
            | Self::AllowPath { .. }
            | Self::AllowPort { .. }
            | Self::MapIds { .. }
            | Self::KeepProc {} => true,
            _ => false,
        }
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
        /// The last thing: from here on, calls with this number as their sixth argument are allowed where `token` is not 0.
        11 => Seccomp { program: &'a [u8], token: u64 },
        /// Wait until the host has done to this process what only the host may.
        12 => Park {},
        /// A policy of sched(7) by the kernel's number, and its real-time priority, 0 for the others.
        13 => Scheduler { policy: u32, priority: u32 },
        14 => Nice { value: i64 },
        /// Class and level as `ioprio_set(2)` packs them.
        15 => IoPriority { value: u32 },
        /// A bit for each processor, from the lowest; a multiple of 8 bytes.
        16 => Affinity { mask: &'a [u8] },
        /// No address of the program is chosen at random.
        17 => FixAddresses {},
        /// A session keyring that nobody else has.
        25 => Keyring {},
        /// A core scheduling cookie that nobody else has, for this process and what descends from it.
        26 => CoreCookie {},
        /// In place of `Seccomp`: a filter that leaves some calls to a listener, which is sent to the init through the
        /// status channel. `asked` has the numbers, 4 bytes each, of those that the host answers; what else the listener
        /// is told of ends the process that made it.
        24 => SeccompListened { program: &'a [u8], token: u64, asked: &'a [u8] },
        /// Enforce the ruleset of the container.
        18 => Landlock {},
        /// Have a security module take this label for what is executed next, by this file of the procfs that was kept. If
        /// `enforcing` is not empty, the module must say that it is the label, and that it denies something.
        20 => Label { file: &'a CStr, label: &'a [u8], enforcing: &'a [u8] },
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
