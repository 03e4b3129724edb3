//! How the processor and the disk are shared, and how addresses are chosen: of this process only.

use super::{Errno, Result, address, address_mut, nr, plain};

/// The calling thread; each call below takes it for "who".
const SELF: usize = 0;

pub(crate) fn set_scheduler(policy: u32, priority: u32) -> Result<()> {
    let parameter = priority; // struct sched_param
    plain(nr::SCHED_SETSCHEDULER, &[SELF, policy as usize, address(&parameter)]).map(drop)
}

pub(crate) fn set_nice(value: i64) -> Result<()> {
    const PRIO_PROCESS: usize = 0;
    plain(nr::SETPRIORITY, &[PRIO_PROCESS, SELF, value as usize]).map(drop)
}

pub(crate) fn set_io_priority(value: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    plain(nr::IOPRIO_SET, &[IOPRIO_WHO_PROCESS, SELF, value as usize]).map(drop)
}

/// Sets exactly these processors: the kernel leaves out, without a word, those that the cpuset lacks.
pub(crate) fn set_affinity(mask: &[u8]) -> Result<()> {
    plain(nr::SCHED_SETAFFINITY, &[SELF, mask.len(), address(mask)])?;
    // Room for 8192 processors, the most a kernel can be built for. What it does not have it does not write.
    let mut got = [0_u64; 128];
    let length = plain(nr::SCHED_GETAFFINITY, &[SELF, size_of_val(&got), address_mut(&mut got)])?;
    let got = core::hint::black_box(got);
    for n in 0..size_of_val(&got) {
        let is = if n < length { got.get(n / 8).map_or(0, |word| word.to_ne_bytes()[n % 8]) } else { 0 };
        if is != mask.get(n).copied().unwrap_or(0) {
            return Err(Errno::ENODEV);
        }
    }
    Ok(())
}

/// Adds `ADDR_NO_RANDOMIZE` to the personality, which `execve` keeps.
pub(crate) fn fix_addresses() -> Result<()> {
    const QUERY: usize = 0xffff_ffff;
    const ADDR_NO_RANDOMIZE: usize = 0x004_0000;
    let now = plain(nr::PERSONALITY, &[QUERY])?;
    plain(nr::PERSONALITY, &[now | ADDR_NO_RANDOMIZE])?;
    // A personality that the kernel did not take is not an error of the call.
    if plain(nr::PERSONALITY, &[QUERY])? & ADDR_NO_RANDOMIZE != 0 { Ok(()) } else { Err(Errno::EPERM) }
}
