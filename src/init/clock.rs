//! The CPU time of everything inside.

use crate::deadline::{Sampler, parse_usage};
use crate::sys::{self, Fd};

/// Where the CPU time of the tree is read.
pub(crate) struct CpuClock {
    pub(crate) usage: Option<Fd>,
    pub(crate) is_cpu_stat: bool,
    pub(crate) sampler: Option<Sampler>,
}

/// What a usage file says, in nanoseconds.
pub(crate) fn read_usage(file: Fd, is_cpu_stat: bool) -> u64 {
    let mut text = [0_u8; 64];
    let count = sys::pread(file, &mut text, 0).unwrap_or(0);
    parse_usage(text.get(..count).unwrap_or(&[]), is_cpu_stat).unwrap_or(0)
}

impl CpuClock {
    /// Whether nothing counts.
    pub(crate) fn is_idle(&self) -> bool {
        self.usage.is_none() && self.sampler.is_none()
    }

    /// Counts by samples from now on, unless something counts already.
    pub(crate) fn sample(&mut self) {
        if self.is_idle() {
            self.sampler = Some(Sampler::new());
        }
    }

    /// Nanoseconds; 0 when nothing counts.
    pub(crate) fn read(&mut self) -> u64 {
        if let Some(usage) = self.usage {
            return read_usage(usage, self.is_cpu_stat);
        }
        match &mut self.sampler {
            Some(sampler) => {
                let reaped = sys::children_usage();
                let sampled = sampler.sample(|pid| sys::process_cpu(pid).ok());
                sampled.max((reaped.user_us + reaped.system_us) * 1000)
            }
            None => 0,
        }
    }
}
