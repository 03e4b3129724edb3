//! How much time a tree loses by waiting, as version 2 tells it. See the kernel's Documentation/accounting/psi.rst.

use std::time::Duration;

use super::group::Group;
use super::missing;
use crate::error::{Error, ErrorKind, Result, Step};

/// How much time the processes of a sandbox lost by waiting for what was contended, or held back by a limit.
///
/// `None` is a resource that this kernel does not tell: `io` without `CONFIG_PSI` support of its devices, for instance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// Waiting for a processor, its bandwidth limit included. `cpu.pressure`.
    pub cpu: Option<PressureStall>,
    /// Waiting for memory: reclaim, swap, throttling above [`memory_high`](crate::Limits::memory_high).
    /// `memory.pressure`.
    pub memory: Option<PressureStall>,
    /// Waiting for devices. `io.pressure`.
    pub io: Option<PressureStall>,
}

/// Time lost on one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct PressureStall {
    /// While at least one process waited.
    pub some: PressureShare,
    /// While all that had something to do waited. For the CPU the kernel tells it since Linux 5.13.
    pub full: PressureShare,
}

/// A share of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct PressureShare {
    /// Of the last 10 seconds, in percent.
    pub avg10: f32,
    /// Of the last 60 seconds, in percent.
    pub avg60: f32,
    /// Of the last 300 seconds, in percent.
    pub avg300: f32,
    /// In all, since the sandbox was made.
    pub total: Duration,
}

pub(super) fn read(group: &Group) -> Result<Pressure> {
    let mut buffer = [0; 4096];
    let mut stall = |file| -> Result<_> { Ok(group.read(file, &mut buffer)?.and_then(parse)) };
    let pressure = Pressure {
        cpu: stall("cpu.pressure")?,
        memory: stall("memory.pressure")?,
        io: stall("io.pressure")?,
    };
    if pressure == Pressure::default() {
        let message = "this kernel tells no pressure of cgroups";
        return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message).with_hint(missing::PSI));
    }
    Ok(pressure)
}

/// Lines of the form `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
pub(super) fn parse(text: &str) -> Option<PressureStall> {
    let share = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let word = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some(PressureShare {
            avg10: word("avg10")?.parse().ok()?,
            avg60: word("avg60")?.parse().ok()?,
            avg300: word("avg300")?.parse().ok()?,
            total: Duration::from_micros(word("total")?.parse().ok()?),
        })
    };
    Some(PressureStall { some: share("some")?, full: share("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234567\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=89\n";
        let stall = parse(text).unwrap();
        assert!((stall.some.avg10 - 1.5).abs() < 1e-6);
        assert_eq!(stall.some.total, Duration::from_micros(1_234_567));
        assert_eq!(stall.full.total, Duration::from_micros(89));
        let old = parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n").unwrap();
        assert_eq!(old.full, PressureShare::default(), "before Linux 5.13 the CPU has no such line");
    }

    #[test]
    fn other_text_is_nothing() {
        for text in [
            "",
            "some",
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=0",
            "some avg10=x avg60=0 avg300=0 total=0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
