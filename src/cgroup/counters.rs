//! What the kernel counted about a box: the evidence that verdicts rest on.

use std::time::Duration;

/// The counters of a box. `None` is a counter that this kernel does not have or that no controller was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The most memory it ever held, in bytes. Version 2 has it since Linux 5.19.
    pub(crate) peak_memory: Option<u64>,
    /// Processes in it that an OOM killer has killed: that of its own limit, of a cgroup above it, or of the machine.
    pub(crate) oom_kills: Option<u64>,
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
}

impl Counters {
    /// What was counted since `before`. Peaks are those of the whole life of the box.
    pub(crate) fn since(self, before: &Self) -> Self {
        let events =
            |now: Option<u64>, before: Option<u64>| now.map(|now| now.saturating_sub(before.unwrap_or(0)));
        let time = |now: Option<Duration>, before: Option<Duration>| {
            now.map(|now| now.saturating_sub(before.unwrap_or_default()))
        };
        Self {
            peak_memory: self.peak_memory,
            oom_kills: events(self.oom_kills, before.oom_kills),
            peak_pids: self.peak_pids,
            pids_denied: events(self.pids_denied, before.pids_denied),
            cpu: time(self.cpu, before.cpu),
            user: time(self.user, before.user),
            system: time(self.system, before.system),
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
    fn cpu_stat_is_in_microseconds() {
        let text = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n";
        let (millis, second) = (Duration::from_millis, Duration::from_secs(1));
        assert_eq!(cpu_stat(text), (Some(millis(1500)), Some(second), Some(millis(500))));
        assert_eq!(cpu_stat("nr_periods 0"), (None, None, None));
    }
}
