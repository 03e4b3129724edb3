//! What the tests of the filter share: a stream of arguments, and a naive reading of verdicts.

use super::interpreter::{Call, run};
use super::names::Arch;
use super::verdict::{Answer, Case, Condition, Test, Verdict, Width};
use super::{Options, Program, Refused, Seccomp};

pub(super) const BOTH: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
pub(super) const UNGUARDED: Options = Options {
    setuid_guard: false,
    fixed_processors: false,
    fixed_io_priority: false,
    refused: Refused {
        sockets: false,
        ipc: false,
        signals: false,
        metadata: false,
        truncation: false,
        channels: false,
        detours: false,
    },
    #[cfg(feature = "serde")]
    capabilities: 0,
};
pub(super) const GUARDED: Options = Options { setuid_guard: true, ..UNGUARDED };

pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const KILL: u32 = 0x8000_0000;
pub(super) const EPERM: u32 = 0x0005_0001;
pub(super) const ENOSYS: u32 = 0x0005_0026;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;

pub(super) fn audit(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0xc000_003e,
        Arch::Aarch64 => 0xc000_00b7,
    }
}

pub(super) fn answer(program: &Program, arch: Arch, number: u32, arguments: [u64; 6]) -> u32 {
    run(program.as_bytes(), &Call { number, arch: audit(arch), arguments }).0
}

/// The answer by name, or none if the architecture has no such call.
pub(super) fn by_name(program: &Program, arch: Arch, name: &str, arguments: [u64; 6]) -> Option<u32> {
    Some(answer(program, arch, arch.number(name)?, arguments))
}

pub(super) fn compile(policy: &Seccomp, arch: Arch, options: Options) -> Program {
    policy.compile_for(arch, options).unwrap()
}

/// A repeatable stream of arguments: values that the conditions are about, single bits, noise, and noise
/// above bit 31.
pub(super) struct Arguments(pub(super) u64);

impl Arguments {
    pub(super) fn next(&mut self) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn argument(&mut self) -> u64 {
        const SPECIAL: [u64; 24] = [
            0,
            1,
            2,
            3,
            8,
            10,
            16,
            17,
            40,
            62,
            0x11,
            0x80,
            0o100,
            0o2000,
            0o4000,
            0o6000,
            0o644,
            0o20_200_000,
            0x5412,
            0x541c,
            0x2_0000,
            0x2_0008,
            0xffff_ffff,
            0x7e02_0000,
        ];
        let low = match self.next() % 4 {
            0 | 1 => SPECIAL[(self.next() % 24) as usize],
            2 => 1 << (self.next() % 32),
            _ => self.next() & 0xffff_ffff,
        };
        let high = if self.next() % 2 == 0 { 0 } else { self.next() << 32 };
        low | high
    }

    pub(super) fn six(&mut self) -> [u64; 6] {
        std::array::from_fn(|_| self.argument())
    }
}

pub(super) fn read(verdict: &Verdict, arguments: [u64; 6]) -> u32 {
    match verdict.answer_to(arguments) {
        Answer::Allow => ALLOW,
        Answer::Log => 0x7ffc_0000,
        Answer::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Answer::Trap => 0x0003_0000,
        Answer::Kill => KILL,
        Answer::Notify => 0x7fc0_0000,
    }
}

pub(super) fn random_answer(stream: &mut Arguments) -> Answer {
    match stream.next() % 7 {
        0 | 1 => Answer::Allow,
        2 => Answer::Log,
        3 => Answer::Errno(1 + u16::try_from(stream.next() % 4095).unwrap()),
        4 => Answer::Trap,
        5 => Answer::Kill,
        _ => Answer::Notify,
    }
}

pub(super) fn random_condition(stream: &mut Arguments) -> Condition {
    let argument = u8::try_from(stream.next() % 6).unwrap();
    let width = if stream.next() % 2 == 0 { Width::Low32 } else { Width::Full };
    let limit = if width == Width::Low32 { 0xffff_ffff } else { u64::MAX };
    let value = stream.argument() & limit;
    let test = match stream.next() % 7 {
        0 => Test::Equal(value),
        1 => Test::NotEqual(value),
        2 => Test::Less(value),
        3 => Test::AtMost(value),
        4 => Test::Greater(value),
        5 => Test::AtLeast(value),
        _ => {
            let mask = stream.argument() & limit;
            Test::Masked { mask, value: value & mask }
        }
    };
    Condition { argument, width, test }
}

pub(super) fn random_verdict(stream: &mut Arguments) -> Verdict {
    let cases = (0..stream.next() % 4)
        .map(|_| Case {
            conditions: (0..=stream.next() % 3).map(|_| random_condition(stream)).collect(),
            answer: random_answer(stream),
        })
        .collect();
    Verdict { cases, otherwise: random_answer(stream) }
}

/// Arguments next to what the conditions compare with: a carry between the two halves is where a comparison of
/// 64 bits by instructions of 32 goes wrong.
pub(super) fn near(verdict: &Verdict, stream: &mut Arguments) -> [u64; 6] {
    let mut arguments = stream.six();
    for condition in verdict.cases.iter().flat_map(|case| &case.conditions) {
        let (Test::Equal(value)
        | Test::Token(value)
        | Test::NotEqual(value)
        | Test::Less(value)
        | Test::AtMost(value)
        | Test::Greater(value)
        | Test::AtLeast(value)
        | Test::Masked { value, .. }) = condition.test;
        let argument = &mut arguments[usize::from(condition.argument)];
        match stream.next() % 8 {
            0 => *argument = value,
            1 => *argument = value.wrapping_add(1),
            2 => *argument = value.wrapping_sub(1),
            3 => *argument = value ^ 1 << (stream.next() % 64),
            4 => *argument = value & 0xffff_ffff | *argument << 32,
            5 => *argument = value & !0xffff_ffff | *argument & 0xffff_ffff,
            _ => {}
        }
    }
    arguments
}
