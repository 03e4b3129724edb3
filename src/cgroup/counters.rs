//! What the kernel counted about a box: the evidence that verdicts rest on.

use std::time::Duration;

/// The counters of a box. `None` is a counter that this kernel does not have or that no controller was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The memory it holds now, in bytes.
    pub(crate) memory: Option<u64>,
    /// The most memory it ever held, in bytes. Version 2 has it since Linux 5.19.
    pub(crate) peak_memory: Option<u64>,
    /// Processes in it that an OOM killer has killed: that of its own limit, of a cgroup above it, or of the machine.
    pub(crate) oom_kills: Option<u64>,
    /// How often a limit of its own was run into, in a way that can end in a kill.
    pub(crate) oom: Option<u64>,
    /// Whether memory and swap together ever were at their limit in version 1, which does not count that.
    pub(crate) reached_swap_limit: bool,
    /// Processes and threads it holds now.
    pub(crate) pids: Option<u64>,
    /// The most processes and threads it ever held. Since Linux 6.1.
    pub(crate) peak_pids: Option<u64>,
    /// Forks that the process limit refused.
    pub(crate) pids_denied: Option<u64>,
    /// CPU time of all its processes, the dead ones included.
    pub(crate) cpu: Option<Duration>,
    /// The part of it spent in user mode.
    pub(crate) user: Option<Duration>,
    /// The part of it spent in the kernel.
    pub(crate) system: Option<Duration>,
    /// How long it was kept from running by its bandwidth limit.
    pub(crate) throttled: Option<Duration>,
    /// Bytes read from disks. Version 2.
    pub(crate) read_bytes: Option<u64>,
    /// Bytes written to disks. Version 2.
    pub(crate) written_bytes: Option<u64>,
}

impl Counters {
    /// What was counted since `before`. Peaks, and what is known from them, are those of the whole life of the box.
    pub(crate) fn since(self, before: &Self) -> Self {
        let events =
            |now: Option<u64>, before: Option<u64>| now.map(|now| now.saturating_sub(before.unwrap_or(0)));
        let time = |now: Option<Duration>, before: Option<Duration>| {
            now.map(|now| now.saturating_sub(before.unwrap_or_default()))
        };
        Self {
            memory: self.memory,
            peak_memory: self.peak_memory,
            oom_kills: events(self.oom_kills, before.oom_kills),
            oom: events(self.oom, before.oom),
            reached_swap_limit: self.reached_swap_limit,
            pids: self.pids,
            peak_pids: self.peak_pids,
            pids_denied: events(self.pids_denied, before.pids_denied),
            cpu: time(self.cpu, before.cpu),
            user: time(self.user, before.user),
            system: time(self.system, before.system),
            throttled: time(self.throttled, before.throttled),
            read_bytes: events(self.read_bytes, before.read_bytes),
            written_bytes: events(self.written_bytes, before.written_bytes),
        }
    }
}

/// The number behind `key` in a file of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim_end().parse().ok())
}

/// Total, user and system time from the text of a version 2 `cpu.stat`.
pub(super) fn cpu_stat(text: &str) -> (Option<Duration>, Option<Duration>, Option<Duration>) {
    let time = |key| keyed(text, key).map(Duration::from_micros);
    (time("usage_usec"), time("user_usec"), time("system_usec"))
}

/// Bytes read and written on all devices together, from the text of a version 2 `io.stat`. A group that did nothing has
/// an empty file.
pub(super) fn io_stat(text: &str) -> (Option<u64>, Option<u64>) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).fold(0_u64, u64::saturating_add)
    };
    (Some(sum("rbytes=")), Some(sum("wbytes=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_whole_words() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\nmax nonsense\n";
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom_group_kill"), Some(1));
        assert_eq!(keyed(text, "max"), None);
        assert_eq!(keyed(text, "oo"), None);
        assert_eq!(keyed("", "oom"), None);
        assert_eq!(keyed("oom_kill_disable 0\nunder_oom 0\noom_kill 5", "oom_kill"), Some(5));
        assert_eq!(keyed("oom_kill -1", "oom_kill"), None);
    }

    #[test]
    fn io_stat_is_summed_over_devices() {
        let text =
            "254:0 rbytes=4096 wbytes=1 rios=1 wios=0 dbytes=0 dios=0\n7:0 rbytes=10 wbytes=x rios=2\n";
        assert_eq!(io_stat(text), (Some(4106), Some(1)));
        assert_eq!(io_stat(""), (Some(0), Some(0)));
    }

    #[test]
    fn cpu_stat_is_in_microseconds() {
        let text = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n";
        let (millis, second) = (Duration::from_millis, Duration::from_secs(1));
        assert_eq!(cpu_stat(text), (Some(millis(1500)), Some(second), Some(millis(500))));
        assert_eq!(cpu_stat("nr_periods 0"), (None, None, None));
    }
}
