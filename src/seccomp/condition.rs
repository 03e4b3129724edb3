//! Conditions on the arguments of a call, in the words of a policy.

use super::verdict::{Condition, Test, Width};
use crate::{Error, Result};

/// An argument of a system call, to be compared with a number.
///
/// A filter sees what is in the six registers, and nothing of what they point to: paths, structures and the flags
/// of `clone3` and `openat2`, which are in memory, cannot be tested.
///
/// # How many bits
///
/// All 64 bits of the register are compared, as an unsigned number. **Where the kernel takes an `int`, an
/// `unsigned int` or a `mode_t`, compare [`low32`](Self::low32)**: it drops the upper half before it looks, and a
/// program can set that half to what it likes. A filter that denies `ioctl` with request `0x5412` and compares 64
/// bits is walked past by `0x1_0000_5412`, which the kernel takes for the same request
/// ([CVE-2019-7303](https://www.cve.org/CVERecord?id=CVE-2019-7303)). The synopsis of the manual page says what is
/// an `int`: descriptors, flags of `open(2)`, modes, domains and types of sockets, commands of `prctl(2)`; requests
/// of `ioctl(2)` and the flags of `clone(2)` are 32 bits in the kernel whatever the page says. Sizes, offsets and
/// addresses are 64 bits.
///
/// Numbers may be of any integer type up to 64 bits. A negative one stands for its two's complement in the compared
/// width: `SyscallArg::new(0).low32().eq(-1)` is true for an `int` of -1.
///
/// # Examples
///
/// ```
/// use belljar::{Seccomp, SyscallArg};
///
/// const AF_INET: i32 = 2;
/// const SOCK_DGRAM: i32 = 2;
/// // Datagrams only: the low four bits are the type, the others are flags.
/// let no_tcp = Seccomp::new().deny(["socket"]).allow_if(
///     "socket",
///     [SyscallArg::new(0).low32().eq(AF_INET), SyscallArg::new(1).low32().masked_eq(0xf, SOCK_DGRAM)],
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct SyscallArg {
    pub(crate) index: u8,
    pub(crate) low32: bool,
}

/// A test that one argument of a system call passes or not, made by the methods of [`SyscallArg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct SyscallCondition {
    pub(crate) argument: SyscallArg,
    pub(crate) operator: Operator,
}

/// Numbers are as the caller gave them; they are checked when compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Equal(i128),
    NotEqual(i128),
    Less(i128),
    AtMost(i128),
    Greater(i128),
    AtLeast(i128),
    Masked { mask: i128, value: i128 },
}

impl SyscallArg {
    /// The argument of this number, from 0 to 5.
    ///
    /// Another number is an error when the sandbox is planned or spawned.
    pub fn new(index: u8) -> Self {
        Self { index, low32: false }
    }

    /// Compares the low 32 bits only, whatever the others are; see [above](Self#how-many-bits).
    pub fn low32(self) -> Self {
        Self { low32: true, ..self }
    }

    /// The argument equals `value`.
    #[doc(alias = "SCMP_CMP_EQ")]
    pub fn eq(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::Equal(value.into()))
    }

    /// The argument differs from `value`.
    #[doc(alias = "SCMP_CMP_NE")]
    pub fn ne(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::NotEqual(value.into()))
    }

    /// The argument is less than `value`, both taken as unsigned.
    #[doc(alias = "SCMP_CMP_LT")]
    pub fn lt(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::Less(value.into()))
    }

    /// The argument is at most `value`, both taken as unsigned.
    #[doc(alias = "SCMP_CMP_LE")]
    pub fn le(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::AtMost(value.into()))
    }

    /// The argument is greater than `value`, both taken as unsigned.
    #[doc(alias = "SCMP_CMP_GT")]
    pub fn gt(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::Greater(value.into()))
    }

    /// The argument is at least `value`, both taken as unsigned.
    #[doc(alias = "SCMP_CMP_GE")]
    pub fn ge(self, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::AtLeast(value.into()))
    }

    /// Of the bits in `mask`, the argument has exactly those of `value`.
    ///
    /// `masked_eq(bits, 0)` is true if none of them is set, `masked_eq(bits, bits)` if all are. A bit in `value` that
    /// is not in `mask` could never be matched, and is an error when the sandbox is planned or spawned.
    #[doc(alias = "SCMP_CMP_MASKED_EQ")]
    pub fn masked_eq(self, mask: impl Into<i128>, value: impl Into<i128>) -> SyscallCondition {
        self.is(Operator::Masked { mask: mask.into(), value: value.into() })
    }

    fn is(self, operator: Operator) -> SyscallCondition {
        SyscallCondition { argument: self, operator }
    }

    /// The number as the register holds it.
    fn number(self, value: i128) -> Result<u64> {
        let bits = if self.low32 { 32 } else { 64 };
        let limit = 1_i128 << bits;
        if value >= limit || value < -(limit / 2) {
            let error = Error::invalid(format!("{value} does not fit into {bits} bits of an argument"));
            return Err(error.with_hint(match self.low32 {
                true => "low32() compares the low 32 bits; leave it out if the kernel looks at all 64",
                false => "a register has 64 bits",
            }));
        }
        let value = if value < 0 { value + limit } else { value };
        u64::try_from(value)
            .map_err(|_| Error::internal(crate::Step::Plan, "a number of a condition is out of range"))
    }
}

impl SyscallCondition {
    /// Checks it.
    pub(super) fn lower(&self) -> Result<Condition> {
        let argument = self.argument;
        if argument.index > 5 {
            let message = format!("system calls have no argument {}", argument.index);
            return Err(Error::invalid(message).with_hint("the six arguments are counted from 0 to 5"));
        }
        let number = |value| argument.number(value);
        let test = match self.operator {
            Operator::Equal(value) => Test::Equal(number(value)?),
            Operator::NotEqual(value) => Test::NotEqual(number(value)?),
            Operator::Less(value) => Test::Less(number(value)?),
            Operator::AtMost(value) => Test::AtMost(number(value)?),
            Operator::Greater(value) => Test::Greater(number(value)?),
            Operator::AtLeast(value) => Test::AtLeast(number(value)?),
            Operator::Masked { mask, value } => Test::Masked { mask: number(mask)?, value: number(value)? },
        };
        let width = if argument.low32 { Width::Low32 } else { Width::Full };
        Ok(Condition { argument: argument.index, width, test }.canonical())
    }
}
