//! Profiles of container engines, for the fuzz target: what is read means the same when it is written and read again.

use super::Seccomp;
use super::interpreter::{Call, run};
use super::names::Arch;
use crate::Error;

/// So many numbers of a profile are tried as arguments.
const MOST_NUMBERS: usize = 24;

/// Reads a profile; writes it and reads it again, if it is one.
///
/// # Errors
///
/// What it is refused for.
pub(crate) fn profile(text: &str) -> Result<(), Error> {
    let filter = Seccomp::from_json(text)?;
    let program = filter.to_bpf()?;
    let written = filter.to_json()?;
    let again = Seccomp::from_json(&written).expect("what is written can be read");
    let same = again.to_bpf().expect("what is written can be compiled");
    assert_eq!(again.to_json().expect("what was written can be written"), written);
    for arguments in arguments(text) {
        for number in (0..=600).chain([u32::MAX, 0x4000_0000]) {
            let call = Call { number, arch: arch(), arguments };
            let (here, there) = (run(&program, &call).0, run(&same, &call).0);
            assert_eq!(
                here, there,
                "call {number} with {arguments:x?} is answered in another way when it was written"
            );
        }
    }
    Ok(())
}

fn arch() -> u32 {
    match Arch::NATIVE {
        Arch::X86_64 => 0xc000_003e,
        Arch::Aarch64 => 0xc000_00b7,
    }
}

/// Arguments at which a condition may change its mind: the numbers of the profile and those beside them.
fn arguments(text: &str) -> Vec<[u64; 6]> {
    let words = text.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).take(MOST_NUMBERS).collect();
    let mut arguments = vec![[0; 6], [u64::MAX; 6]];
    for number in &numbers {
        for value in [*number, number.wrapping_sub(1), number.wrapping_add(1), number ^ 1 << 32] {
            arguments.push([value; 6]);
        }
    }
    for (first, second) in numbers.iter().zip(numbers.iter().skip(1)) {
        arguments.push([*first, *second, *first, *second, *first, *second]);
    }
    arguments
}
