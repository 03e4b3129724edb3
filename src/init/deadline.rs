//! When to look next, and what has been used up. Pure arithmetic, so it is tested with the library.

/// The least pause between two looks at the CPU time of a program: a look costs microseconds, a limit is promised to
/// tens of milliseconds.
const FLOOR_NS: u64 = 2_000_000;

/// A tree that uses less CPU time than this between two looks does nothing. Sampling and reaping cost the tree nothing;
/// a program that is woken by a timer and goes back to sleep uses some tens of microseconds.
const IDLE_NS: u64 = 1_000_000;

/// How long a payload may take from fork to exec. It does what takes microseconds, but what it executes may lie on a
/// filesystem that never answers, and another program of the same user may stop it.
const START_NS: u64 = 60_000_000_000;

/// How long one that was prepared may take, which has only its command to take and to execute. After that the program is
/// started without.
const RELEASE_NS: u64 = 5_000_000_000;

/// How long a template may take to fork a payload. Nothing else is done for the host meanwhile.
pub(crate) const FORK_NS: u64 = 100_000_000;

/// The limits of one program and what is known of its use of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Monotonic time at which the wall-clock limit passes; `None` without one.
    pub(crate) wall_at: Option<u64>,
    /// CPU nanoseconds that the tree may use; `None` without a limit.
    pub(crate) cpu: Option<u64>,
    /// How long the tree may do nothing; `None` without a limit.
    idle: Option<u64>,
    /// CPU time when the tree was last seen to have done something, and when that was.
    busy: (u64, u64),
    /// Monotonic time of the next look at the CPU time.
    pub(crate) look_at: u64,
}

/// What a look at the CPU time found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Fine,
    /// More CPU time than allowed.
    TooMuch,
    /// Nothing was done for too long.
    Idle,
}

impl Limits {
    /// `0` means no limit, as in the message.
    pub(crate) fn new(now: u64, wall_ns: u64, cpu_ns: u64, idle_ns: u64) -> Self {
        let some = |ns: u64| (ns != 0).then_some(ns);
        Self {
            wall_at: some(wall_ns).map(|ns| now.saturating_add(ns)),
            cpu: some(cpu_ns),
            idle: some(idle_ns),
            busy: (0, now),
            look_at: now,
        }
    }

    /// The limits of a payload that is not executed yet: it has this long to get there.
    pub(crate) fn of_start(now: u64) -> Self {
        Self::new(now, START_NS, 0, 0)
    }

    /// The limits of a payload that a template is about to fork.
    pub(crate) fn of_fork(now: u64) -> Self {
        Self::new(now, FORK_NS, 0, 0)
    }

    /// The limits of a payload that was prepared and has got its command.
    pub(crate) fn of_release(now: u64) -> Self {
        Self::new(now, RELEASE_NS, 0, 0)
    }

    pub(crate) fn wall_passed(&self, now: u64) -> bool {
        self.wall_at.is_some_and(|at| now >= at)
    }

    /// Whether the CPU time is of interest.
    pub(crate) fn watches_cpu(&self) -> bool {
        self.cpu.is_some() || self.idle.is_some()
    }

    /// Lets nothing pass any more.
    pub(crate) fn lift(&mut self) {
        *self = Self::default();
    }

    /// Notes how much CPU time was used and says whether that is too much or too little. `processors` bounds how fast a
    /// tree can use what is left.
    pub(crate) fn look(&mut self, now: u64, used: u64, processors: u64) -> Look {
        let mut pause = u64::MAX;
        if let Some(limit) = self.cpu {
            if used >= limit {
                return Look::TooMuch;
            }
            pause = (limit - used) / processors.max(1);
        }
        if let Some(idle) = self.idle {
            let (cpu_then, then) = self.busy;
            if used >= cpu_then.saturating_add(IDLE_NS) || used < cpu_then {
                self.busy = (used, now);
            } else if now.saturating_sub(then) >= idle {
                return Look::Idle;
            }
            // At the end of the time if nothing is done, and often enough not to take a long time for a short one.
            let left = self.busy.1.saturating_add(idle).saturating_sub(now);
            pause = pause.min(left.min(idle / 8));
        }
        self.look_at = now.saturating_add(pause.max(FLOOR_NS));
        Look::Fine
    }

    /// The moment at which something may have to be done.
    pub(crate) fn next(&self) -> Option<u64> {
        let look = self.watches_cpu().then_some(self.look_at);
        match (self.wall_at, look) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Reads the number out of `cpuacct.usage` (nanoseconds) or the first line of `cpu.stat` (`usage_usec N`).
pub(crate) fn parse_usage(text: &[u8], is_cpu_stat: bool) -> Option<u64> {
    let digits = if is_cpu_stat { text.strip_prefix(b"usage_usec ")? } else { text };
    let mut value = None;
    for byte in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        value = Some(value.unwrap_or(0_u64).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?);
    }
    value.and_then(|value| if is_cpu_stat { value.checked_mul(1000) } else { Some(value) })
}

/// CPU time of a tree by sampling the clocks of its processes, for hosts without a cgroup to count it.
///
/// What a process used between the last sample and its death is lost unless somebody waited for it; so this is a
/// fallback that a caller must ask for.
pub(crate) struct Sampler {
    last: [u64; Sampler::PIDS],
    retired: u64,
    highest: usize,
}

impl Sampler {
    /// Process ids beyond this are not sampled.
    const PIDS: usize = 4096;
    /// Ids are handed out in sequence: new processes are found just above the highest that was seen.
    const WINDOW: usize = 256;

    pub(crate) const fn new() -> Self {
        Self { last: [0; Self::PIDS], retired: 0, highest: 0 }
    }

    /// Takes a sample with `clock`, which tells the CPU time of a process id or `None` when there is no such process.
    pub(crate) fn sample(&mut self, clock: impl Fn(u32) -> Option<u64>) -> u64 {
        let mut live = 0;
        let end = (self.highest + Self::WINDOW).min(Self::PIDS);
        // 1 is the init itself.
        for pid in 2..end {
            #[allow(clippy::cast_possible_truncation, reason = "it is less than PIDS")]
            let now = clock(pid as u32);
            let Some(last) = self.last.get_mut(pid) else { break };
            match now {
                Some(now) => {
                    self.highest = self.highest.max(pid);
                    if now < *last {
                        self.retired += *last; // another process under the same id
                    }
                    *last = now;
                    live += now;
                }
                None => self.retired += core::mem::take(last),
            }
        }
        self.retired + live
    }
}

#[cfg(test)]
#[path = "deadline_tests.rs"]
mod tests;
