//! What a policy consists of, for those who write it down.

use super::{Base, Change, Seccomp, SyscallAction};

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
    pub(crate) fn origin(&self) -> Origin<'_> {
        match &self.base {
            Base::Profile(profile) => Origin::Profile(profile.name),
            Base::Only(names) => Origin::Only(names),
            Base::Imported(imported) => Origin::Imported(&imported.text),
        }
    }

    /// In the order in which they were said.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn answer_otherwise(&self) -> Option<SyscallAction> {
        self.otherwise
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observed
    }

    /// The name of the profile that it is, and nothing else.
    pub(crate) fn unchanged_profile(&self) -> Option<&'static str> {
        let changed = !self.changes.is_empty() || self.otherwise.is_some() || self.observed;
        match self.origin() {
            Origin::Profile(name) if !changed => Some(name),
            _ => None,
        }
    }
}
