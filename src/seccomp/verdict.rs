//! What the filter answers to a system call: the data that the profile is written in and the dispatch is made
//! from.

/// The answer to one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call is made.
    Allow,
    /// The call is made if at least one of the rules matches; otherwise it fails with `EPERM`.
    AllowIf(&'static [Rule]),
    /// The call is not made and fails with this `errno`.
    Errno(u16),
    /// The whole process is killed by `SIGSYS`.
    Kill,
}

/// Conditions that must all hold.
pub(super) type Rule = &'static [Condition];

/// A test of one argument.
///
/// Only the low 32 bits are compared, because every argument the profile looks at is declared `int`,
/// `unsigned int` or `umode_t` in the kernel, which drops the rest of the register before it looks. A filter
/// that compared all 64 bits could be walked past by setting one that the kernel ignores (CVE-2019-7303).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0.
    pub(super) argument: u8,
    pub(super) test: Test,
}

/// What the low 32 bits of an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u32),
    NotEqual(u32),
    /// None of these bits is set.
    Without(u32),
}

/// The argument equals `value`.
pub(super) const fn equal(argument: u8, value: u32) -> Condition {
    Condition { argument, test: Test::Equal(value) }
}

/// The argument differs from `value`.
pub(super) const fn not_equal(argument: u8, value: u32) -> Condition {
    Condition { argument, test: Test::NotEqual(value) }
}

/// The argument has none of `bits`.
pub(super) const fn without(argument: u8, bits: u32) -> Condition {
    Condition { argument, test: Test::Without(bits) }
}
