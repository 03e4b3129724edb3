//! From answers by number to the document.
//!
//! An entry of the format has one condition an argument, on all 64 bits, and entries have no order: runc lets an entry
//! without conditions win over those with, and otherwise whichever its library happens to ask first. What is written is
//! therefore the same in any order: no two entries that answer differently can hold at once. Where the conditions of a
//! policy are not like that, they are taken apart into *cubes*, sets of numbers that have given values at given bits,
//! each of which is an entry with masks.

use super::document::{Argument, Document, Entry};
use crate::seccomp::names::Arch;
use crate::seccomp::verdict::{Answer, Case, Condition, Test, Verdict, Width};
use crate::seccomp::{Options, Seccomp, groups, resolve};
use crate::{Error, Result, Step};

/// The most entries that the conditions of one call may take.
const MAX_ENTRIES: usize = 256;

pub(in crate::seccomp) fn write(seccomp: &Seccomp, arch: Arch) -> Result<String> {
    let table = resolve::table(seccomp, Options::default(), arch)?;
    let otherwise = table.otherwise();
    let mut said: Vec<(&Verdict, Vec<String>)> = Vec::new();
    for (call, _) in arch.calls() {
        let Some(verdict) = table.get(call) else { continue };
        // What nobody names has the default answer, except for this.
        if *verdict == otherwise.into() && call != groups::CLONE3 {
            continue;
        }
        match said.iter_mut().find(|entry| entry.0 == verdict) {
            Some((_, names)) => names.push(call.to_owned()),
            None => said.push((verdict, vec![call.to_owned()])),
        }
    }
    let mut entries = Vec::new();
    for (verdict, names) in said {
        for (arguments, answer) in alternatives(verdict, otherwise, &names)? {
            let (action, errno_ret) = action(answer)?;
            let args = (!arguments.is_empty()).then_some(arguments);
            entries.push(Entry { names: Some(names.clone()), action, errno_ret, args, ..Entry::default() });
        }
    }
    let (default_action, default_errno_ret) = action(otherwise)?;
    let native = match arch {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    let document = Document {
        default_action,
        default_errno_ret,
        default_errno: None,
        architectures: Some(vec![native.to_owned()]),
        arch_map: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(entries),
    };
    serde_json::to_string_pretty(&document)
        .map_err(|_| Error::internal(Step::Plan, "a seccomp profile cannot be written"))
}

fn action(answer: Answer) -> Result<(String, Option<u32>)> {
    let (action, errno) = match answer {
        Answer::Allow => ("SCMP_ACT_ALLOW", None),
        Answer::Log => ("SCMP_ACT_LOG", None),
        Answer::Errno(errno) => ("SCMP_ACT_ERRNO", Some(errno.into())),
        Answer::Trap => ("SCMP_ACT_TRAP", None),
        Answer::Kill => ("SCMP_ACT_KILL_PROCESS", None),
        Answer::Notify => {
            return Err(Error::invalid(
                "calls that a handler of the host answers cannot be written as a profile",
            )
            .with_hint("say another word for them before to_json()"));
        }
    };
    Ok((action.to_owned(), errno))
}

/// The entries for a verdict, in which the default answer needs none.
fn alternatives(
    verdict: &Verdict,
    otherwise: Answer,
    names: &[String],
) -> Result<Vec<(Vec<Argument>, Answer)>> {
    if verdict.cases.is_empty() {
        return Ok(vec![(Vec::new(), verdict.otherwise)]);
    }
    if let Some(entries) = as_they_are(verdict, otherwise) {
        return Ok(entries);
    }
    let whole = Case { conditions: Vec::new(), answer: verdict.otherwise };
    let mut entries = Vec::new();
    let mut before: Vec<Cube> = Vec::new();
    for case in verdict.cases.iter().chain([&whole]) {
        let too_many = || {
            let name = names.first().map_or("", String::as_str);
            Error::invalid(format!("the conditions on \"{name}\" would take more than {MAX_ENTRIES} entries"))
                .with_hint(
                    "the format has one condition an argument, on all 64 bits; use fewer ranges and low32()",
                )
        };
        let cubes = cubes(&case.conditions).ok_or_else(too_many)?;
        let rest = subtract(cubes.clone(), &before).ok_or_else(too_many)?;
        if case.answer != otherwise {
            entries.extend(rest.iter().map(|cube| (cube.arguments(), case.answer)));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(too_many());
        }
        before.extend(cubes);
    }
    Ok(entries)
}

/// Each case as one entry, if their order does not matter and each condition has a word.
fn as_they_are(verdict: &Verdict, otherwise: Answer) -> Option<Vec<(Vec<Argument>, Answer)>> {
    let same = verdict.cases.iter().all(|case| case.answer == verdict.cases[0].answer);
    if verdict.otherwise != otherwise || !same {
        return None;
    }
    let entry = |case: &Case| {
        let mut arguments: Vec<Argument> = case.conditions.iter().map(argument).collect::<Option<_>>()?;
        arguments.sort_by_key(|argument| argument.index);
        let twice = arguments.windows(2).any(|pair| pair[0].index == pair[1].index);
        (!twice).then_some((arguments, case.answer))
    };
    verdict.cases.iter().map(entry).collect()
}

fn argument(condition: &Condition) -> Option<Argument> {
    let (op, value, value_two) = match (condition.width, condition.test) {
        (Width::Low32, Test::Equal(value)) => ("MASKED_EQ", LOW32, Some(value)),
        (_, Test::Masked { mask, value }) => ("MASKED_EQ", mask, Some(value)),
        (Width::Low32, _) => return None,
        (Width::Full, Test::Equal(value) | Test::Token(value)) => ("EQ", value, None),
        (Width::Full, Test::NotEqual(value)) => ("NE", value, None),
        (Width::Full, Test::Less(value)) => ("LT", value, None),
        (Width::Full, Test::AtMost(value)) => ("LE", value, None),
        (Width::Full, Test::Greater(value)) => ("GT", value, None),
        (Width::Full, Test::AtLeast(value)) => ("GE", value, None),
    };
    Some(Argument { index: condition.argument, value, value_two, op: format!("SCMP_CMP_{op}") })
}

const LOW32: u64 = 0xffff_ffff;

/// Arguments that have the bits of `value` where `mask` has ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cube {
    mask: [u64; 6],
    value: [u64; 6],
}

impl Cube {
    const EVERYTHING: Self = Self { mask: [0; 6], value: [0; 6] };

    fn of(argument: u8, mask: u64, value: u64) -> Self {
        let mut cube = Self::EVERYTHING;
        cube.mask[usize::from(argument)] = mask;
        cube.value[usize::from(argument)] = value & mask;
        cube
    }

    /// What is in both, if anything is.
    fn intersect(&self, other: &Self) -> Option<Self> {
        let mut both = *self;
        for index in 0..6 {
            if (self.value[index] ^ other.value[index]) & self.mask[index] & other.mask[index] != 0 {
                return None;
            }
            both.mask[index] |= other.mask[index];
            both.value[index] |= other.value[index];
        }
        Some(both)
    }

    /// What is in this and not in the other, as cubes that do not overlap: they differ from the other at its first bit,
    /// or agree with it there and differ at its second, and so on.
    fn without(&self, other: &Self) -> Vec<Self> {
        if self.intersect(other).is_none() {
            return vec![*self];
        }
        let mut agreeing = *self;
        let mut pieces = Vec::new();
        for index in 0..6 {
            for bit in (0..64).rev().map(|bit| 1_u64 << bit) {
                if other.mask[index] & bit != 0 && self.mask[index] & bit == 0 {
                    agreeing.mask[index] |= bit;
                    agreeing.value[index] |= other.value[index] & bit;
                    let mut differing = agreeing;
                    differing.value[index] ^= bit;
                    pieces.push(differing);
                }
            }
        }
        pieces
    }

    fn arguments(&self) -> Vec<Argument> {
        let tested = (0..6_u8).zip(self.mask.iter().zip(&self.value)).filter(|(_, (mask, _))| **mask != 0);
        tested
            .map(|(index, (&value, &value_two))| Argument {
                index,
                value,
                value_two: Some(value_two),
                op: "SCMP_CMP_MASKED_EQ".to_owned(),
            })
            .collect()
    }
}

/// The cubes of what passes all conditions, or none if there are too many.
fn cubes(conditions: &[Condition]) -> Option<Vec<Cube>> {
    let mut all = vec![Cube::EVERYTHING];
    for condition in conditions {
        let passing = passing(condition);
        all = all.iter().flat_map(|cube| passing.iter().filter_map(|other| cube.intersect(other))).collect();
        if all.len() > MAX_ENTRIES {
            return None;
        }
    }
    Some(all)
}

/// What is in some of the cubes and in none of the others, or none if that takes too many.
fn subtract(mut cubes: Vec<Cube>, others: &[Cube]) -> Option<Vec<Cube>> {
    for other in others {
        cubes = cubes.iter().flat_map(|cube| cube.without(other)).collect();
        if cubes.len() > MAX_ENTRIES {
            return None;
        }
    }
    Some(cubes)
}

/// The cubes of what passes one condition; they do not overlap.
fn passing(condition: &Condition) -> Vec<Cube> {
    let (argument, bits) = (condition.argument, if condition.width == Width::Low32 { 32 } else { 64 });
    let limit = if bits == 32 { LOW32 } else { u64::MAX };
    match condition.test {
        Test::Equal(value) | Test::Token(value) => vec![Cube::of(argument, limit, value)],
        Test::Masked { mask, value } => vec![Cube::of(argument, mask, value)],
        Test::NotEqual(value) => Cube::EVERYTHING.without(&Cube::of(argument, limit, value)),
        Test::Less(value) => below(argument, bits, value),
        Test::AtMost(value) if value >= limit => vec![Cube::EVERYTHING],
        Test::AtMost(value) => below(argument, bits, value + 1),
        Test::Greater(value) => above(argument, bits, value),
        Test::AtLeast(0) => vec![Cube::EVERYTHING],
        Test::AtLeast(value) => above(argument, bits, value - 1),
    }
}

/// What is less than `value`: the same above a bit that is one in `value`, and zero there.
fn below(argument: u8, bits: u32, value: u64) -> Vec<Cube> {
    first_difference(argument, bits, value, true)
}

/// What is greater than `value`: the same above a bit that is zero in `value`, and one there.
fn above(argument: u8, bits: u32, value: u64) -> Vec<Cube> {
    first_difference(argument, bits, value, false)
}

fn first_difference(argument: u8, bits: u32, value: u64, one: bool) -> Vec<Cube> {
    let limit = if bits == 32 { LOW32 } else { u64::MAX };
    let differs = |bit: u64| (value & bit != 0) == one;
    let cube = |bit: u64| Cube::of(argument, limit & !(bit - 1), value ^ bit);
    (0..bits).rev().map(|bit| 1 << bit).filter(|&bit| differs(bit)).map(cube).collect()
}
