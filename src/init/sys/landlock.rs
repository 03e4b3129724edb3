//! Rulesets of landlock. See landlock(7).

use super::{Fd, Owned, Result, address, nr, owned, plain};

/// A ruleset that denies these rights of files and ports and has these scopes, with no exception yet.
pub(crate) fn create_ruleset(files: u64, ports: u64, scopes: u64) -> Result<Owned> {
    // struct landlock_ruleset_attr. A kernel that knows less of it takes it as long as the rest is zero.
    let handled = [files, ports, scopes];
    owned(plain(nr::LANDLOCK_CREATE_RULESET, &[address(&handled), size_of_val(&handled), 0]))
}

/// Allows rights on a file, or on a directory and all below.
pub(crate) fn allow_path(ruleset: Fd, place: Fd, access: u64) -> Result<()> {
    const PATH_BENEATH: usize = 1;
    // struct landlock_path_beneath_attr, which is packed.
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        place: i32,
    }
    let rule = PathBeneath { access, place: place.0 };
    plain(nr::LANDLOCK_ADD_RULE, &[ruleset.arg(), PATH_BENEATH, address(&rule), 0]).map(drop)
}

/// Allows rights on a port.
pub(crate) fn allow_port(ruleset: Fd, port: u32, access: u64) -> Result<()> {
    const NET_PORT: usize = 2;
    let rule = [access, u64::from(port)]; // struct landlock_net_port_attr
    plain(nr::LANDLOCK_ADD_RULE, &[ruleset.arg(), NET_PORT, address(&rule), 0]).map(drop)
}

/// Enforces a ruleset on this process and all that it starts, for ever.
pub(crate) fn restrict_self(ruleset: Fd) -> Result<()> {
    plain(nr::LANDLOCK_RESTRICT_SELF, &[ruleset.arg(), 0]).map(drop)
}
