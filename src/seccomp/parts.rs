//! What a policy consists of, for those who write it down.

use super::{Base, Change, Seccomp, SyscallAction};

/// All of a policy.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) origin: Origin<'a>,
    /// In the order in which they were said.
    pub(crate) changes: &'a [Change],
    pub(crate) otherwise: Option<SyscallAction>,
    pub(crate) observed: bool,
    pub(crate) outer: Option<&'a Seccomp>,
}

/// What the words of a policy change.
#[derive(Debug)]
pub(crate) enum Origin<'a> {
    /// A profile by its name.
    Profile(&'static str),
    Only(&'a [String]),
    /// The text that was imported.
    Imported(&'a str),
}

impl Seccomp {
    pub(crate) fn parts(&self) -> Parts<'_> {
        // A part that is not told would be lost: each must have its name here.
        let Self { base, changes, otherwise, observed, outer } = self;
        let origin = match base {
            Base::Profile(profile) => Origin::Profile(profile.name),
            Base::Only(names) => Origin::Only(names),
            Base::Imported(imported) => Origin::Imported(&imported.text),
        };
        Parts { origin, changes, otherwise: *otherwise, observed: *observed, outer: outer.as_deref() }
    }

    /// The name of the profile that it is, and nothing else.
    pub(crate) fn unchanged_profile(&self) -> Option<&'static str> {
        match self.parts() {
            Parts {
                origin: Origin::Profile(name),
                changes: [],
                otherwise: None,
                observed: false,
                outer: None,
            } => Some(name),
            _ => None,
        }
    }
}
