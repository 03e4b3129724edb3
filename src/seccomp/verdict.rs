//! What the filter answers to a system call: the data that policies are lowered to and the dispatch is made
//! from.

use super::satisfy::witness;

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is made.
    Allow,
    /// It is made, and the kernel writes it to the audit log.
    Log,
    /// It is not made and fails with this `errno`.
    Errno(u16),
    /// It is not made, and the thread gets a `SIGSYS` that it may handle.
    Trap,
    /// It is not made, and the whole process is killed by `SIGSYS`.
    Kill,
    /// The thread waits until the listener of the filter has answered.
    Notify,
}

impl Answer {
    /// Whether the call may be made after all.
    pub(super) fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Notify)
    }
}

/// The answers to one system call: that of the first case whose conditions all hold, or else the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) cases: Vec<Case>,
    pub(super) otherwise: Answer,
}

/// An answer that is given if all of the conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) conditions: Vec<Condition>,
    pub(super) answer: Answer,
}

impl From<Answer> for Verdict {
    fn from(otherwise: Answer) -> Self {
        Self { cases: Vec::new(), otherwise }
    }
}

impl Verdict {
    /// `answer` if one of the rules matches, else `otherwise`.
    pub(super) fn by_rules(rules: &[Rule], answer: Answer, otherwise: Answer) -> Self {
        let cases = rules.iter().map(|rule| Case { conditions: rule.to_vec(), answer }).collect();
        Self { cases, otherwise }
    }

    /// `answer` if all conditions hold, and else what it was.
    pub(super) fn answer_if(mut self, conditions: Vec<Condition>, answer: Answer) -> Self {
        self.cases.insert(0, Case { conditions, answer });
        self
    }

    /// Leaves out the last cases where they answer what would be answered without them.
    pub(super) fn simplify(&mut self) {
        while self.cases.last().is_some_and(|last| last.answer == self.otherwise) {
            self.cases.pop();
        }
    }

    /// The answer to a call with these arguments.
    pub(super) fn answer_to(&self, arguments: [u64; 6]) -> Answer {
        let fits = |case: &&Case| case.conditions.iter().all(|condition| condition.holds(arguments));
        self.cases.iter().find(fits).map_or(self.otherwise, |case| case.answer)
    }

    /// Every answer that it can give.
    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> {
        self.cases.iter().map(|case| case.answer).chain([self.otherwise])
    }

    pub(super) fn answers_mut(&mut self) -> impl Iterator<Item = &mut Answer> {
        self.cases.iter_mut().map(|case| &mut case.answer).chain([&mut self.otherwise])
    }

    /// Lets through only what one of the rules matches as well; all else that it let through gets the answer
    /// `refusal`. What it did not let through stays as it is.
    pub(super) fn narrow(self, rules: &[Rule], refusal: Answer) -> Self {
        let mut cases = Vec::new();
        let whole = Case { conditions: Vec::new(), answer: self.otherwise };
        for case in self.cases.into_iter().chain([whole]) {
            if case.answer.lets_through() {
                cases.extend(rules.iter().map(|rule| Case {
                    conditions: case.conditions.iter().chain(*rule).copied().collect(),
                    answer: case.answer,
                }));
                cases.push(Case { answer: refusal, ..case });
            } else {
                cases.push(case);
            }
        }
        // The last one has no conditions: it is what was `otherwise`, or the refusal of that.
        let otherwise = cases.pop().map_or(refusal, |last| last.answer);
        Self { cases, otherwise }
    }

    /// What is let through gets the answer of `outer`, whatever that is. What is not stays as it is.
    pub(super) fn within(self, outer: &Self) -> Self {
        let with_the_rest = |verdict: &Self| {
            let whole = Case { conditions: Vec::new(), answer: verdict.otherwise };
            verdict.cases.iter().cloned().chain([whole]).collect::<Vec<_>>()
        };
        let outer = with_the_rest(outer);
        let mut cases = Vec::new();
        for case in with_the_rest(&self) {
            if !case.answer.lets_through() {
                cases.push(case);
                continue;
            }
            let both = outer.iter().map(|outer| Case {
                conditions: case.conditions.iter().chain(&outer.conditions).copied().collect(),
                answer: outer.answer,
            });
            cases.extend(both.filter(|both| witness(&both.conditions).is_some()));
        }
        // The last one has no conditions: it is the rest of both.
        let otherwise = cases.pop().map_or(self.otherwise, |last| last.answer);
        Self { cases, otherwise }
    }

    /// Replaces every answer that lets the call through.
    pub(super) fn refuse(mut self, refusal: Answer) -> Self {
        for answer in self.answers_mut().filter(|answer| answer.lets_through()) {
            *answer = refusal;
        }
        self
    }
}

/// Conditions that must all hold.
pub(super) type Rule = &'static [Condition];

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0.
    pub(super) argument: u8,
    pub(super) width: Width,
    pub(super) test: Test,
}

impl Condition {
    /// An argument as the kernel compares it, read without the tricks that instructions of 32 bits need.
    pub(super) fn holds(&self, arguments: [u64; 6]) -> bool {
        let Some(whole) = arguments.get(usize::from(self.argument)) else { return false };
        let (argument, mask_of_width) = match self.width {
            Width::Low32 => (whole & LOW32, LOW32),
            Width::Full => (*whole, u64::MAX),
        };
        match self.test {
            Test::Equal(value) | Test::Token(value) => argument == value,
            Test::NotEqual(value) => argument != value,
            Test::Less(value) => argument < value,
            Test::AtMost(value) => argument <= value,
            Test::Greater(value) => argument > value,
            Test::AtLeast(value) => argument >= value,
            Test::Masked { mask, value } => argument & mask == value & mask & mask_of_width,
        }
    }

    /// The shortest of the ways to say the same: the filter looks at no bit that does not matter.
    pub(super) fn canonical(self) -> Self {
        match (self.width, self.test) {
            (Width::Full, Test::Masked { mask: u64::MAX, value })
            | (Width::Low32, Test::Masked { mask: LOW32, value }) => {
                Self { test: Test::Equal(value), ..self }
            }
            (Width::Full, Test::Masked { mask, value }) if mask | value <= LOW32 => {
                Self { width: Width::Low32, ..self }.canonical()
            }
            _ => self,
        }
    }
}

const LOW32: u64 = 0xffff_ffff;

/// How much of the register is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// The low 32 bits, whatever the others are. Right for an argument that the kernel declares `int`,
    /// `unsigned int` or `umode_t`: it drops the rest of the register before it looks, and a filter that
    /// compared all of it could be walked past by setting a bit that the kernel ignores (CVE-2019-7303).
    Low32,
    /// All 64 bits.
    Full,
}

/// What an argument must be, as an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    AtMost(u64),
    Greater(u64),
    AtLeast(u64),
    /// The bits of `mask` are those of `value`.
    Masked {
        mask: u64,
        value: u64,
    },
    /// Equal to a secret of 64 bits: all of it is compared at once, and how long that takes tells nothing of its parts.
    Token(u64),
}

/// The low half of the argument equals `value`.
pub(super) const fn equal(argument: u8, value: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::Equal(value as u64) }
}

/// The low half of the argument differs from `value`.
pub(super) const fn not_equal(argument: u8, value: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::NotEqual(value as u64) }
}

/// The low half of the argument is no less.
pub(super) const fn at_least(argument: u8, value: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::AtLeast(value as u64) }
}

/// The low half of the argument is no more.
pub(super) const fn at_most(argument: u8, value: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::AtMost(value as u64) }
}

/// The low half of the argument has none of `bits`.
pub(super) const fn without(argument: u8, bits: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::Masked { mask: bits as u64, value: 0 } }
}

/// The low half of the argument has all of `bits`.
pub(super) const fn with(argument: u8, bits: u32) -> Condition {
    Condition { argument, width: Width::Low32, test: Test::Masked { mask: bits as u64, value: bits as u64 } }
}
