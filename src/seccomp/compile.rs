//! From verdicts to a program in classic BPF, shaped for the way the kernel uses it.
//!
//! When a filter is installed, the kernel runs it once for every system call number, to note in a bitmap
//! those that are allowed whatever their arguments; later calls of those skip the filter. What an
//! installation costs is thus the length of the *path* to an answer, some 470 times over. A comparison with
//! one number after another has a path of hundreds of instructions. Here the numbers are grouped into ranges
//! of one verdict and found by binary search:
//!
//! ```text
//! the architecture, else kill
//! on x86_64: the number has no x32 bit, else kill
//! number >= middle of the ranges?
//! ├─ … number >= middle of that half?
//! │    ├─ return the verdict, or test the arguments
//! │    …
//! ```
//!
//! Argument tests are compiled by seccompiler and taken out of its program after checking, instruction by
//! instruction, that they are what is expected.
//!
//! The format is that of [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html) and the kernel's
//! `Documentation/networking/filter.rst`.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::names::Arch;
use super::resolve::UNKNOWN;
use super::verdict::{Answer, Case, Condition, Test, Verdict, Width};
use crate::{Error, Result, Step};

/// A filter, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    bytes: Vec<u8>,
}

impl Program {
    /// The instructions as an array of `struct sock_filter`, in the machine's byte order.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of instructions, as `struct sock_fprog` wants it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / INSTRUCTION_SIZE
    }

    pub(super) fn new(instructions: impl Iterator<Item = sock_filter>) -> Self {
        let mut bytes = Vec::new();
        for instruction in instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        Self { bytes }
    }
}

const INSTRUCTION_SIZE: usize = size_of::<sock_filter>();

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Load a word of `struct seccomp_data`: `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_ALU | BPF_XOR | BPF_K`, `BPF_ALU | BPF_OR | BPF_X`, `BPF_MISC | BPF_TAX`: for a [token](token_tests).
const EXCLUSIVE_OR: u16 = 0xa4;
const OR_X: u16 = 0x4c;
const TO_X: u16 = 0x07;
/// Jump always: `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// Jump if equal: `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_EQUAL: u16 = 0x15;
/// Jump if greater, unsigned: `BPF_JMP | BPF_JGT | BPF_K`.
const JUMP_GREATER: u16 = 0x25;
/// Jump if greater or equal, unsigned: `BPF_JMP | BPF_JGE | BPF_K`.
const JUMP_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`: the number, the architecture, and the first of six 64-bit arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const DATA_SIZE: u32 = 64;

/// Set in the numbers of the x32 interface, which reach the same calls past a filter that only knows the
/// others.
const X32: u32 = 0x4000_0000;

/// Compiles the answers to the numbers from 0 on; beyond them it is [`UNKNOWN`].
pub(super) fn program(verdicts: &[Verdict], arch: Arch) -> Result<Program> {
    let mut assembler = Assembler::new(arch);
    let root = assembler.search(&ranges(verdicts))?;
    assembler.head(root)?;
    let instructions = assembler.backwards;
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(format!(
            "the seccomp filter has {} instructions; the kernel takes at most {MAX_INSTRUCTIONS}",
            instructions.len()
        ))
        .with_hint("name fewer system calls"));
    }
    Ok(Program::new(instructions.into_iter().rev()))
}

/// Consecutive numbers of one verdict, up to the start of the next range.
struct Range {
    start: u32,
    verdict: Verdict,
}

fn ranges(verdicts: &[Verdict]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (start, verdict) in (0..).zip(verdicts.iter().chain([&UNKNOWN.into()])) {
        if ranges.last().is_none_or(|last| last.verdict != *verdict) {
            ranges.push(Range { start, verdict: verdict.clone() });
        }
    }
    ranges
}

/// A place to jump to: how many instructions there are from it to the end of the program, itself included.
type Label = usize;

/// Builds a program from its end to its start. Jumps only lead forward, so whatever is jumped to is there
/// already, and an answer that is near enough is used again instead of written again.
struct Assembler {
    arch: Arch,
    backwards: Vec<sock_filter>,
    answers: Vec<(Verdict, Label)>,
}

impl Assembler {
    fn new(arch: Arch) -> Self {
        Self { arch, backwards: Vec::new(), answers: Vec::new() }
    }

    fn push(&mut self, instruction: sock_filter) -> Label {
        self.backwards.push(instruction);
        self.backwards.len()
    }

    /// How many instructions the next one has to skip to arrive at `label`.
    fn distance(&self, label: Label) -> usize {
        self.backwards.len() - label
    }

    /// Leads to the verdict of the range that the accumulator is in.
    fn search(&mut self, ranges: &[Range]) -> Result<Label> {
        let (below, above) = ranges.split_at(ranges.len() / 2);
        match (below, above) {
            ([], [only]) => self.answer(&only.verdict),
            (_, [first, ..]) => {
                let high = self.search(above)?;
                let low = self.search(below)?;
                // Coming within reach may itself take an instruction, which moves the other one away by one.
                let high = self.within_reach(high, 1)?;
                let low = self.within_reach(low, 0)?;
                let (high, low) = (self.short(high)?, self.short(low)?);
                Ok(self.push(sock_filter { code: JUMP_AT_LEAST, jt: high, jf: low, k: first.start }))
            }
            (_, []) => Err(internal("a search among no ranges")),
        }
    }

    /// Leads to the answers of `verdict`.
    fn answer(&mut self, verdict: &Verdict) -> Result<Label> {
        let known = self.answers.iter().rev().find(|answer| answer.0 == *verdict).map(|answer| answer.1);
        if let Some(label) = known.filter(|&label| self.distance(label) <= REUSE) {
            return Ok(label);
        }
        self.push(answer(verdict.otherwise));
        for case in verdict.cases.iter().rev() {
            self.push(answer(case.answer));
            self.backwards.extend(compile_tests(case, self.arch)?.into_iter().rev());
        }
        let label = self.backwards.len();
        self.answers.push((verdict.clone(), label));
        Ok(label)
    }

    /// A conditional jump reaches 255 instructions far, an unconditional one anywhere: put one of the latter
    /// in between if `label` would be out of reach once `more` instructions have been added.
    fn within_reach(&mut self, label: Label, more: usize) -> Result<Label> {
        if self.distance(label) + more <= usize::from(u8::MAX) {
            return Ok(label);
        }
        let distance =
            u32::try_from(self.distance(label)).map_err(|_| internal("a jump over 2^32 instructions"))?;
        Ok(self.push(statement(JUMP, distance)))
    }

    fn short(&self, label: Label) -> Result<u8> {
        u8::try_from(self.distance(label))
            .map_err(|_| internal("a conditional jump over more than 255 instructions"))
    }

    /// What comes before the search.
    fn head(&mut self, root: Label) -> Result<()> {
        if self.distance(root) != 0 {
            return Err(internal("the search does not start where the head ends"));
        }
        if matches!(self.arch, Arch::X86_64) {
            self.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
            self.push(sock_filter { code: JUMP_AT_LEAST, jt: 0, jf: 1, k: X32 });
        }
        self.push(statement(LOAD, NUMBER));
        // Numbers mean other calls on another architecture (on x86_64: a 32-bit program, or `int 0x80`).
        self.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
        self.push(sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: audit_arch(self.arch) });
        self.push(statement(LOAD, ARCHITECTURE));
        Ok(())
    }
}

/// How far away an answer may be to be used again. Less than a conditional jump can reach, because there may
/// be other things to put in between before the jump is written.
const REUSE: usize = 160;

/// The tests of one case: they go on to the instruction after them, which is its answer, if all hold, and skip
/// that one if not.
fn compile_tests(case: &Case, arch: Arch) -> Result<Vec<sock_filter>> {
    if let [Condition { argument, test: Test::Token(token), .. }] = *case.conditions {
        return Ok(token_tests(argument, token).to_vec());
    }
    let rule = seccomp_rule(&case.conditions).map_err(seccompiler_error)?;
    let filter =
        SeccompFilter::new([(PLACEHOLDER.into(), vec![rule])].into(), UNMATCHED, MATCHED, target(arch))
            .map_err(seccompiler_error)?;
    let program = BpfProgram::try_from(filter).map_err(seccompiler_error)?;
    tests_of(&program, arch).map(<[sock_filter]>::to_vec)
}

/// Whether an argument is a token, with one branch for all of it. Two comparisons, one after the other, take longer where the
/// first half is right, and a program that measures that has two numbers of 32 bits to guess. The init knows the token by
/// these exclusive-ors, of which there are no others.
fn token_tests(argument: u8, token: u64) -> [sock_filter; 7] {
    let low = ARGUMENTS + 8 * u32::from(argument);
    let [a, b, c, d, e, f, g, h] = token.to_be_bytes();
    let (high_half, low_half) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    [
        statement(LOAD, low + 4),
        statement(EXCLUSIVE_OR, high_half),
        statement(TO_X, 0),
        statement(LOAD, low),
        statement(EXCLUSIVE_OR, low_half),
        statement(OR_X, 0),
        sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: 0 },
    ]
}

/// seccompiler wants a number to compile a rule for, and two answers; the comparison with the one and the others
/// are cut off.
const PLACEHOLDER: u32 = 0;
const MATCHED: SeccompAction = SeccompAction::Allow;
const UNMATCHED: SeccompAction = SeccompAction::Trap;

pub(super) fn seccomp_rule(conditions: &[Condition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

fn condition(condition: &Condition) -> Result<SeccompCondition, BackendError> {
    let width = match condition.width {
        Width::Low32 => SeccompCmpArgLen::Dword,
        Width::Full => SeccompCmpArgLen::Qword,
    };
    let (operator, value) = match condition.test {
        Test::Equal(value) | Test::Token(value) => (SeccompCmpOp::Eq, value),
        Test::NotEqual(value) => (SeccompCmpOp::Ne, value),
        Test::Less(value) => (SeccompCmpOp::Lt, value),
        Test::AtMost(value) => (SeccompCmpOp::Le, value),
        Test::Greater(value) => (SeccompCmpOp::Gt, value),
        Test::AtLeast(value) => (SeccompCmpOp::Ge, value),
        Test::Masked { mask, value } => (SeccompCmpOp::MaskedEq(mask), value),
    };
    SeccompCondition::new(condition.argument, width, operator, value)
}

/// Cuts the tests out of what seccompiler made of a filter with one call and one rule, after checking that
/// all of it is as expected: a version that builds filters in another way must lead to an error and not to a
/// weaker filter.
fn tests_of(program: &[sock_filter], arch: Arch) -> Result<&[sock_filter]> {
    let unexpected = || internal("seccompiler built a filter of an unexpected shape");
    let tests =
        program.len().checked_sub(END).and_then(|end| program.get(START..end)).ok_or_else(unexpected)?;
    let past_the_rule = u32::try_from(tests.len() + 2).map_err(|_| unexpected())?;
    let start: [_; START] = [
        statement(LOAD, ARCHITECTURE),
        sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: audit_arch(arch) },
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
        sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: PLACEHOLDER },
        statement(JUMP, 1),
        statement(JUMP, past_the_rule),
    ];
    let end: [_; END] = [
        statement(RETURN, MATCHED.into()),
        statement(RETURN, UNMATCHED.into()),
        statement(RETURN, UNMATCHED.into()),
    ];
    let contained = tests.iter().enumerate().all(|(index, test)| match test.code {
        LOAD => (ARGUMENTS..DATA_SIZE).contains(&test.k),
        AND => true,
        // At most to the instruction after the answer that follows the tests.
        JUMP_EQUAL | JUMP_GREATER | JUMP_AT_LEAST => usize::from(test.jt.max(test.jf)) <= tests.len() - index,
        _ => false,
    });
    if !contained || !program.starts_with(&start) || !program.ends_with(&end) {
        return Err(unexpected());
    }
    Ok(tests)
}

/// Instructions of a filter with one call and one rule before and after the tests.
const START: usize = 7;
const END: usize = 3;

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn answer(answer: Answer) -> sock_filter {
    let value = match answer {
        Answer::Allow => libc::SECCOMP_RET_ALLOW,
        Answer::Log => libc::SECCOMP_RET_LOG,
        Answer::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Answer::Trap => libc::SECCOMP_RET_TRAP,
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Answer::Notify => libc::SECCOMP_RET_USER_NOTIF,
    };
    statement(RETURN, value)
}

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`: the ELF machine, 64-bit, little-endian.
fn audit_arch(arch: Arch) -> u32 {
    let machine = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
    };
    machine | 0x8000_0000 | 0x4000_0000
}

fn target(arch: Arch) -> TargetArch {
    match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    }
}

fn internal(message: &'static str) -> Error {
    Error::internal(Step::Plan, message)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn seccompiler_error(error: BackendError) -> Error {
    Error::internal(Step::Plan, format!("seccompiler refused a rule: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::seccomp::verdict::{Rule, equal, without};

    fn instructions(program: &Program) -> Vec<(u16, u8, u8, u32)> {
        let decode = |bytes: &[u8]| {
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            (code, bytes[2], bytes[3], u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
        };
        program.as_bytes().chunks_exact(INSTRUCTION_SIZE).map(decode).collect()
    }

    /// Every instruction of a small filter, so that a change of what is emitted is seen and meant.
    #[test]
    fn golden_program() {
        const RULES: &[Rule] = &[&[equal(1, 7), without(2, 0o6000)]];
        let tested = Verdict::by_rules(RULES, Answer::Allow, Answer::Errno(1));
        let verdicts = [Answer::Allow.into(), Answer::Allow.into(), tested, Answer::Kill.into()];
        let found = program(&verdicts, Arch::X86_64).unwrap();
        let wanted = [
            (0x20, 0, 0, 4),           //  0: A = architecture
            (0x15, 1, 0, 0xc000_003e), //  1: x86_64 ? 3 : 2
            (0x06, 0, 0, 0x8000_0000), //  2: kill
            (0x20, 0, 0, 0),           //  3: A = number
            (0x35, 0, 1, 0x4000_0000), //  4: x32 ? 5 : 6
            (0x06, 0, 0, 0x8000_0000), //  5: kill
            (0x35, 9, 0, 3),           //  6: from 3 on ? 16 : 7
            (0x35, 1, 0, 2),           //  7: 2 ? 9 : 8
            (0x06, 0, 0, 0x7fff_0000), //  8: allow
            (0x20, 0, 0, 32),          //  9: A = low half of argument 2
            (0x54, 0, 0, 0o6000),      // 10: A &= 06000
            (0x15, 0, 3, 0),           // 11: 0 ? 12 : 15
            (0x20, 0, 0, 24),          // 12: A = low half of argument 1
            (0x15, 0, 1, 7),           // 13: 7 ? 14 : 15
            (0x06, 0, 0, 0x7fff_0000), // 14: allow
            (0x06, 0, 0, 0x0005_0001), // 15: EPERM
            (0x35, 1, 0, 4),           // 16: from 4 on ? 18 : 17
            (0x06, 0, 0, 0x8000_0000), // 17: kill
            (0x06, 0, 0, 0x0005_0026), // 18: ENOSYS
        ];
        assert_eq!(instructions(&found), wanted);
        assert_eq!(found.len(), wanted.len());
    }

    fn built_by_seccompiler() -> BpfProgram {
        let rule = seccomp_rule(&[equal(0, 5)]).unwrap();
        let filter =
            SeccompFilter::new([(0, vec![rule])].into(), UNMATCHED, MATCHED, TargetArch::x86_64).unwrap();
        BpfProgram::try_from(filter).unwrap()
    }

    #[test]
    fn tests_are_cut_out_of_what_seccompiler_builds() {
        let program = built_by_seccompiler();
        let wanted = [statement(LOAD, 16), sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: 5 }];
        assert_eq!(tests_of(&program, Arch::X86_64).unwrap(), wanted);
    }

    /// Whatever a later seccompiler might change is an error, never a filter with other jumps.
    #[test]
    fn any_change_of_what_seccompiler_builds_is_an_error() {
        let original = built_by_seccompiler();
        let refused = |program: &[sock_filter]| {
            let error = tests_of(program, Arch::X86_64).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{program:?}");
        };
        for index in 0..original.len() {
            let mut shorter = original.clone();
            shorter.remove(index);
            refused(&shorter);
            let mut longer = original.clone();
            longer.insert(index, statement(JUMP, 0));
            refused(&longer);
            let mut other = original.clone();
            other[index].code ^= 0x40;
            refused(&other);
        }
        for index in (0..START).chain(original.len() - END..original.len()) {
            let mut other = original.clone();
            other[index].k ^= 1;
            refused(&other);
        }
        let mut beyond = original.clone();
        beyond[START + 1].jf = 2;
        refused(&beyond);
        refused(&[]);
    }
}
