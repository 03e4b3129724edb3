//! Which ids inside are which ids outside. See `user_namespaces(7)`.

mod block;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod write;

pub(crate) use block::IdBlock;
pub(crate) use write::write_maps;

use crate::capability;
use crate::error::{Error, ErrorKind, Result, Step};

/// How user and group ids inside the sandbox map to ids of the host.
///
/// # Examples
///
/// ```
/// use belljar::{Sandbox, UserMap};
///
/// // 0..1000 inside are 100000..101000 outside, for users and groups alike.
/// let sandbox = Sandbox::new().user_map(UserMap::new().ids(0, 100_000, 1000)).user(0, 0);
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMap(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Auto,
    SubIds,
    Explicit { uids: Vec<Extent>, gids: Vec<Extent> },
}

/// `count` ids from `inside` are the ids from `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

impl UserMap {
    /// What suits the host, and the default: for an unprivileged one a single id, the program's id inside being the
    /// caller outside; for a privileged one 65536 ids inside, backed by a block of host ids that no other sandbox and
    /// no user has. Host root is never mapped.
    #[must_use]
    pub fn auto() -> Self {
        Self(Kind::Auto)
    }

    /// The caller's id for the program, and the caller's subordinate ids (`/etc/subuid`, `/etc/subgid`) for all
    /// others, written by `newuidmap(1)` and `newgidmap(1)` (Debian package `uidmap`).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Sandbox, UserMap};
    ///
    /// // As root inside, with other ids to give files to: what package managers want.
    /// let sandbox = Sandbox::new().user_map(UserMap::subids()).root();
    /// # let _ = sandbox;
    /// ```
    #[must_use]
    pub fn subids() -> Self {
        Self(Kind::SubIds)
    }

    /// An empty map, to be filled by [`ids`](UserMap::ids), [`uids`](UserMap::uids) and [`gids`](UserMap::gids).
    #[must_use]
    #[expect(clippy::new_without_default, reason = "an empty map is no sensible default")]
    pub fn new() -> Self {
        Self(Kind::Explicit { uids: Vec::new(), gids: Vec::new() })
    }

    /// Maps `count` user ids and group ids from `inside` to those from `outside`.
    #[must_use]
    pub fn ids(self, inside: u32, outside: u32, count: u32) -> Self {
        self.uids(inside, outside, count).gids(inside, outside, count)
    }

    /// Maps `count` user ids from `inside` to those from `outside`.
    #[must_use]
    pub fn uids(self, inside: u32, outside: u32, count: u32) -> Self {
        self.with(|uids, _| uids.push(Extent { inside, outside, count }))
    }

    /// Maps `count` group ids from `inside` to those from `outside`.
    #[must_use]
    pub fn gids(self, inside: u32, outside: u32, count: u32) -> Self {
        self.with(|_, gids| gids.push(Extent { inside, outside, count }))
    }

    #[cfg(feature = "serde")]
    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    fn with(self, f: impl FnOnce(&mut Vec<Extent>, &mut Vec<Extent>)) -> Self {
        let (mut uids, mut gids) = match self.0 {
            Kind::Explicit { uids, gids } => (uids, gids),
            Kind::Auto | Kind::SubIds => (Vec::new(), Vec::new()),
        };
        f(&mut uids, &mut gids);
        Self(Kind::Explicit { uids, gids })
    }
}

/// Who may write a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Anybody: one entry of one's own id, with `setgroups` denied first.
    Own,
    /// A process with `CAP_SETUID` and `CAP_SETGID` in the parent namespace.
    Privileged,
    /// `newuidmap(1)` and `newgidmap(1)`.
    Helpers,
    /// The init, in a user namespace within that of another sandbox, where the caller's ids have other numbers.
    Init,
}

/// Maps that are ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) uids: Vec<Extent>,
    pub(crate) gids: Vec<Extent>,
    pub(crate) writer: Writer,
}

/// What is decided once per plan; a block is reserved per spawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MapPlan {
    /// A fresh block, of this many ids from 0 inside, or of the program's single id.
    Block,
    Fixed(Maps),
}

/// Ids of the program inside, and of the init while it sets up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The caller, as far as maps are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) capabilities: u64,
}

impl Caller {
    /// # Errors
    ///
    /// If the capabilities cannot be read. They decide whose ids a sandbox gets, so they are not guessed.
    pub(crate) fn now() -> Result<Self> {
        Ok(Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            capabilities: crate::sys::effective_capabilities()
                .map_err(|error| Error::os(Step::Plan, "reading the capabilities of this process", error))?,
        })
    }

    /// May write any map whose outside ids it has itself.
    pub(crate) fn may_map(&self) -> Result<bool> {
        let both = capability::SETUID | capability::SETGID;
        Ok(self.capabilities & both == both && block::has_spare_ids()?)
    }

    /// May clone mounts of its own mount namespace.
    pub(crate) fn may_mount(&self) -> bool {
        self.capabilities & capability::SYS_ADMIN != 0
    }
}

impl MapPlan {
    /// Decides and validates the maps for a program with these ids.
    pub(crate) fn resolve(map: &UserMap, program: Ids, caller: &Caller) -> Result<Self> {
        match &map.0 {
            Kind::Auto if caller.may_map()? => {
                let most = block::size()?;
                if most > 1 && program.uid.max(program.gid) >= most {
                    return Err(Error::invalid(format!(
                        "the program's ids {}:{} are beyond the {most} ids of a sandbox",
                        program.uid, program.gid
                    ))
                    .with_hint("choose smaller ones with Sandbox::user, or map these with UserMap::ids"));
                }
                Ok(Self::Block)
            }
            Kind::Auto | Kind::SubIds if caller.uid == 0 && block::has_spare_ids()? => Err(Error::message(
                ErrorKind::PermissionDenied,
                Step::IdMap,
                "the caller's own id is root's, which is never mapped",
            )
            .with_hint(
                "keep CAP_SETUID and CAP_SETGID and use UserMap::auto(), or spawn as an unprivileged user",
            )),
            Kind::Auto => Ok(Self::Fixed(Maps {
                uids: vec![Extent { inside: program.uid, outside: caller.uid, count: 1 }],
                gids: vec![Extent { inside: program.gid, outside: caller.gid, count: 1 }],
                writer: Writer::Own,
            })),
            Kind::SubIds => Ok(Self::Fixed(Maps {
                uids: write::subordinate("/etc/subuid", "user", program.uid, caller.uid)?,
                gids: write::subordinate("/etc/subgid", "group", program.gid, caller.gid)?,
                writer: Writer::Helpers,
            })),
            Kind::Explicit { uids, gids } => {
                validate(uids, "user")?;
                validate(gids, "group")?;
                require_mapped(uids, program.uid, "user")?;
                require_mapped(gids, program.gid, "group")?;
                if caller.uid == 0 || caller.may_map()? {
                    refuse_root(uids, "user")?;
                    refuse_root(gids, "group")?;
                }
                let own = |extents: &[Extent], id| matches!(extents, [only] if only.outside == id && only.count == 1);
                let writer = if caller.may_map()? {
                    Writer::Privileged
                } else if own(uids, caller.uid) && own(gids, caller.gid) {
                    Writer::Own
                } else {
                    Writer::Helpers
                };
                Ok(Self::Fixed(Maps { uids: uids.clone(), gids: gids.clone(), writer }))
            }
        }
    }

    /// The block that a sandbox needs for its maps.
    pub(crate) fn reserve(&self) -> Result<Option<IdBlock>> {
        match self {
            Self::Block => IdBlock::reserve().map(Some),
            Self::Fixed(_) => Ok(None),
        }
    }

    /// The maps of a sandbox that was given this block.
    pub(crate) fn maps(&self, block: Option<&IdBlock>, program: Ids) -> Result<Maps> {
        match (self, block) {
            (Self::Fixed(maps), _) => Ok(maps.clone()),
            (Self::Block, Some(block)) => Ok(block.maps(program)),
            (Self::Block, None) => Err(Error::internal(Step::IdBlock, "a block of ids was not reserved")),
        }
    }

    /// The ids that the init takes to set up: 0 where it is mapped, because then it owns the root's files; else the
    /// program's.
    pub(crate) fn setup_ids(&self, program: Ids) -> Ids {
        let root = |extents: &[Extent], other: u32| if is_mapped(extents, 0) { 0 } else { other };
        match self {
            Self::Block if block::size().is_ok_and(|size| size == 1) => program,
            Self::Block => Ids { uid: 0, gid: 0 },
            Self::Fixed(maps) => {
                Ids { uid: root(&maps.uids, program.uid), gid: root(&maps.gids, program.gid) }
            }
        }
    }

    /// The same where the init has to write the maps.
    pub(crate) fn written_inside(self) -> Result<Self> {
        match self {
            Self::Fixed(maps) if maps.writer == Writer::Own => {
                Ok(Self::Fixed(Maps { writer: Writer::Init, ..maps }))
            }
            _ => Err(Error::message(
                ErrorKind::PermissionDenied,
                Step::IdMap,
                "a sandbox that joins another maps one id, the caller's own",
            )
            .with_hint("use UserMap::auto(), or join with CAP_SYS_ADMIN")),
        }
    }

    /// Whether supplementary groups can be dropped inside: not with `setgroups` denied.
    pub(crate) fn may_set_groups(&self) -> bool {
        match self {
            Self::Block => true,
            Self::Fixed(maps) => !matches!(maps.writer, Writer::Own | Writer::Init),
        }
    }
}

fn is_mapped(extents: &[Extent], id: u32) -> bool {
    extents.iter().any(|extent| id >= extent.inside && id - extent.inside < extent.count)
}

fn require_mapped(extents: &[Extent], id: u32, kind: &str) -> Result<()> {
    if is_mapped(extents, id) {
        return Ok(());
    }
    Err(Error::invalid(format!("the program's {kind} id {id} is not in the {kind} map"))
        .with_hint("map it with UserMap::ids, or choose a mapped one with Sandbox::user"))
}

fn refuse_root(extents: &[Extent], kind: &str) -> Result<()> {
    if extents.iter().any(|extent| extent.outside == 0) {
        return Err(Error::invalid(format!("the {kind} map contains id 0 of the host"))
            .with_hint("a process with root's id can write root's files; map unused ids instead"));
    }
    Ok(())
}

/// The kernel's own conditions on a map, checked here because it answers all of them with EINVAL.
fn validate(extents: &[Extent], kind: &str) -> Result<()> {
    /// `UID_GID_MAP_MAX_EXTENTS` of the kernel since 4.15.
    const MOST: usize = 340;
    if extents.is_empty() {
        return Err(
            Error::invalid(format!("the {kind} map is empty")).with_hint("add a range with UserMap::ids")
        );
    }
    if extents.len() > MOST {
        return Err(Error::invalid(format!("the {kind} map has more than {MOST} ranges")));
    }
    // The kernel takes a map in one write of less than a page.
    if write::to_text(extents).len() >= 4096 {
        return Err(Error::invalid(format!(
            "the {kind} map of {} ranges is longer than 4095 bytes",
            extents.len()
        ))
        .with_hint("merge ranges that lie side by side"));
    }
    for extent in extents {
        // 4294967295 is "no id" for the kernel.
        let fits = |first: u32| first.checked_add(extent.count).is_some_and(|end| end < u32::MAX);
        if extent.count == 0 || !fits(extent.inside) || !fits(extent.outside) {
            return Err(Error::invalid(format!(
                "the range {}:{}:{} of the {kind} map is empty or goes beyond the largest id",
                extent.inside, extent.outside, extent.count
            )));
        }
    }
    for (n, a) in extents.iter().enumerate() {
        for b in &extents[..n] {
            let overlap = |x: u32, y: u32| x < y + b.count && y < x + a.count;
            if overlap(a.inside, b.inside) || overlap(a.outside, b.outside) {
                return Err(Error::invalid(format!(
                    "the ranges {}:{}:{} and {}:{}:{} of the {kind} map overlap",
                    b.inside, b.outside, b.count, a.inside, a.outside, a.count
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Caller = Caller { uid: 65534, gid: 65534, capabilities: 0 };
    const ROOT: Caller = Caller { uid: 0, gid: 0, capabilities: !0 };
    const USER: Ids = Ids { uid: 1000, gid: 1000 };

    #[test]
    fn an_unprivileged_caller_gets_one_entry() {
        let MapPlan::Fixed(maps) = MapPlan::resolve(&UserMap::auto(), USER, &NOBODY).unwrap() else {
            panic!("an unprivileged caller has no block")
        };
        assert_eq!(maps.uids, [Extent { inside: 1000, outside: 65534, count: 1 }]);
        assert_eq!(maps.writer, Writer::Own);
    }

    #[test]
    fn root_that_can_map_nothing_else_is_refused() {
        let weak = Caller { uid: 0, gid: 0, capabilities: 0 };
        if !block::has_spare_ids().unwrap() {
            return; // root of a namespace with one id is an ordinary user outside
        }
        for (map, caller) in [(UserMap::auto(), weak), (UserMap::subids(), weak), (UserMap::subids(), ROOT)] {
            let error = MapPlan::resolve(&map, USER, &caller).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn broken_maps_are_refused() {
        let broken = [
            UserMap::new(),
            UserMap::new().ids(1000, 5000, 0),
            UserMap::new().ids(0, 5000, u32::MAX),
            UserMap::new().ids(1000, 5000, 10).ids(1005, 9000, 10),
            UserMap::new().ids(1000, 5000, 10).ids(2000, 5009, 10),
            UserMap::new().ids(0, 5000, 10),
            UserMap::new().uids(1000, 5000, 10),
        ];
        for map in broken {
            let error = MapPlan::resolve(&map, USER, &ROOT).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig, "{map:?}");
        }
    }

    #[test]
    fn host_root_is_never_mapped_by_root() {
        let map = UserMap::new().ids(1000, 0, 1);
        let error = MapPlan::resolve(&map, USER, &ROOT).unwrap_err();
        assert!(error.to_string().contains("id 0 of the host"), "{error}");
    }
}
