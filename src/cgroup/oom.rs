//! Whose memory ran out, and who died of it: what the kernel's log says of a box.
//!
//! The log is hostile text: the name of a process is whatever it called itself. Everything is read from fixed words on
//! either side of it, and a line that does not parse says nothing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use super::counters::Counters;
use crate::limits::Bytes;

/// What is known of kills for memory in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oom {
    /// Whose memory had run out.
    pub scope: OomScope,
    /// Who was killed, in order, as far as the kernel's log can be read (`/dev/kmsg`, for root) and still has it: under many
    /// kills at once the kernel leaves lines out.
    pub victims: Vec<OomVictim>,
}

/// Whose memory had run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OomScope {
    /// The sandbox had reached its own limit.
    Sandbox,
    /// A cgroup above the sandbox, or the whole machine, had none left: the sandbox was within its limit.
    Host,
}

/// A process that was killed for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OomVictim {
    /// What it called itself (`PR_SET_NAME` of `prctl(2)`), at most 15 bytes. It may be anything.
    pub name: String,
    /// Its process id in the initial PID namespace, which is the host's unless the host is in a container.
    pub pid: u32,
    /// What it had in memory: anonymous, file and shared pages.
    pub memory: Bytes,
}

/// By what the log tells of one box.
#[derive(Debug, Clone)]
pub(crate) struct LogKey {
    /// The name of its cgroup, which no other ever has.
    pub(super) name: String,
    /// The kernel kills all of it at once, and then says once which group that was.
    pub(super) whole_group: bool,
}

/// What the counters and the log, all of it or what came since some moment, say of the last kills in a box, as many as
/// were counted.
pub(crate) fn read(key: &LogKey, counters: &Counters, since: Option<&Log>) -> Option<Oom> {
    counters.oom_kills.filter(|kills| *kills > 0)?;
    let lines = since.map_or_else(|| Log::whole().lines(), Log::lines);
    Some(judge(lines.iter().map(String::as_str), key, counters))
}

/// The log decides where it has all kills. Otherwise it may lack the very one that ended the program, and the counters
/// decide as they do without it.
fn judge<'a>(lines: impl Iterator<Item = &'a str>, key: &LogKey, counters: &Counters) -> Oom {
    let kills = counters.oom_kills.and_then(|kills| usize::try_from(kills).ok()).unwrap_or(usize::MAX);
    let told = victims(lines, key, kills);
    let scope = match told.last() {
        Some((scope, _)) if told.len() == kills => *scope,
        _ => scope(counters),
    };
    Oom { scope, victims: told.into_iter().map(|(_, victim)| victim).collect() }
}

/// Without a word of the log: did the box run into its own limit at all?
pub(super) fn scope(counters: &Counters) -> OomScope {
    match counters.oom {
        Some(0) if !counters.reached_swap_limit => OomScope::Host,
        _ => OomScope::Sandbox,
    }
}

/// The kernel's log, from some moment on; `None` where it may not be read.
#[derive(Debug)]
pub(crate) struct Log(Option<File>);

impl Log {
    /// With all that it still has.
    pub(crate) fn whole() -> Self {
        let options =
            File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/kmsg");
        Self(options.ok())
    }

    /// With what comes from now on: what it told of the same box before is about others.
    pub(crate) fn from_now() -> Self {
        Self(Self::whole().0.filter(|mut file| file.seek(SeekFrom::End(0)).is_ok()))
    }

    /// The records that are about memory and were not read yet.
    fn lines(&self) -> Vec<String> {
        /// More than the largest log has.
        const MOST: usize = 1 << 17;
        let Some(mut file) = self.0.as_ref() else { return Vec::new() };
        let mut lines = Vec::new();
        // One read gives one record, at most 8 KiB; EPIPE says that some were overwritten meanwhile.
        let mut record = vec![0; 8192];
        for _ in 0..MOST {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    let message = text.split_once(';').map_or("", |(_, message)| message);
                    let message = message.lines().next().unwrap_or_default();
                    if message.starts_with("oom-kill:") || message.contains("Killed process ") {
                        lines.push(message.to_owned());
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// The last `kills` victims in a box, from pairs of lines:
///
/// ```text
/// oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a/NAME,task_memcg=/a/NAME,task=tail,pid=713,uid=1000
/// Memory cgroup out of memory: Killed process 713 (tail) total-vm:35064kB, anon-rss:32640kB, file-rss:1196kB, shmem-rss:0kB, …
/// ```
///
/// Under many kills the kernel leaves out the first line of a pair and never the second. The victims of a group that is
/// killed at once follow its one head without any other between them, and as many as were counted: what comes then is
/// of another sandbox.
fn victims<'a>(
    lines: impl Iterator<Item = &'a str>,
    key: &LogKey,
    kills: usize,
) -> Vec<(OomScope, OomVictim)> {
    let mut found = Vec::new();
    let mut expected: Option<(OomScope, u32)> = None;
    for line in lines {
        if let Some(fields) = line.strip_prefix("oom-kill:") {
            expected = head(fields, &key.name);
            if key.whole_group && expected.is_some() {
                found.clear();
            }
        } else if let Some((scope, pid)) = expected {
            if let Some(victim) = victim(line).filter(|victim| key.whole_group || victim.pid == pid) {
                found.push((scope, victim));
                expected = expected.filter(|_| key.whole_group);
            }
        }
    }
    if key.whole_group {
        found.truncate(kills);
    } else {
        found.drain(..found.len().saturating_sub(kills));
    }
    found
}

/// The scope and the victim's id, if the victim was in the group of this name.
fn head(fields: &str, name: &str) -> Option<(OomScope, u32)> {
    // The names of groups come before that of the process, and ours have no comma.
    let group = |key: &str| {
        let (_, rest) = fields.split_once(key)?;
        rest.split(',').next()
    };
    let is_ours = |path: &str| path.rsplit('/').next() == Some(name);
    if !group(",task_memcg=").is_some_and(is_ours) {
        return None;
    }
    let scope = match group(",oom_memcg=") {
        Some(path) if is_ours(path) => OomScope::Sandbox,
        _ => OomScope::Host,
    };
    // The name of the process may hold anything, so what follows it is found from the end.
    let (rest, _uid) = fields.rsplit_once(",uid=")?;
    let (_, pid) = rest.rsplit_once(",pid=")?;
    Some((scope, pid.parse().ok()?))
}

fn victim(line: &str) -> Option<OomVictim> {
    let (_, rest) = line.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let (name, sizes) = rest.rsplit_once(") total-vm:")?;
    let kib = |key: &str| -> Option<u64> {
        let (_, rest) = sizes.split_once(key)?;
        rest.split_once("kB")?.0.parse().ok()
    };
    let pages = ["anon-rss:", "file-rss:", "shmem-rss:"].into_iter().map(|key| kib(key).unwrap_or(0));
    Some(OomVictim {
        name: unescape(name),
        pid: pid.parse().ok()?,
        memory: Bytes::kib(pages.fold(0, u64::saturating_add)),
    })
}

/// Undoes the escapes (`\xc3`) that the log has for what is not printable, the backslash included.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match tail {
            [b'x', digits @ ..] if first == b'\\' => {
                let digits = digits.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "belljar-4026531836-7705-461278-0";

    fn pair(group: &str, comm: &str, pid: u32) -> [String; 2] {
        [
            format!(
                "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={group},\
                 task_memcg=/a/{NAME},task={comm},pid={pid},uid=1000"
            ),
            format!(
                "Memory cgroup out of memory: Killed process {pid} ({comm}) total-vm:35064kB, anon-rss:32640kB, \
                 file-rss:1196kB, shmem-rss:4kB, UID:1000 pgtables:108kB oom_score_adj:0"
            ),
        ]
    }

    fn told(lines: &[String]) -> Vec<(OomScope, OomVictim)> {
        victims(
            lines.iter().map(String::as_str),
            &LogKey { name: NAME.into(), whole_group: false },
            usize::MAX,
        )
    }

    #[test]
    fn the_victim_and_whose_limit_it_was() {
        let ours = told(&pair(&format!("/a/{NAME}"), "tail", 713));
        let victim = OomVictim { name: "tail".into(), pid: 713, memory: Bytes::kib(32_640 + 1196 + 4) };
        assert_eq!(ours, [(OomScope::Sandbox, victim.clone())]);
        assert_eq!(told(&pair("/a", "tail", 713)), [(OomScope::Host, victim)]);
        let mut global = pair("", "tail", 7);
        global[0] =
            global[0].replace("CONSTRAINT_MEMCG", "CONSTRAINT_NONE").replace(",oom_memcg=,", ",global_oom,");
        assert_eq!(told(&global)[0].0, OomScope::Host);
    }

    #[test]
    fn names_of_processes_prove_nothing() {
        for comm in [
            ",pid=1,uid=0",
            ") total-vm:1kB",
            "a,task_memcg=/x",
            "x (y) z",
            "",
            "Killed process",
            ",oom_memcg=",
        ] {
            let ours = told(&pair(&format!("/a/{NAME}"), comm, 713));
            assert_eq!(ours.len(), 1, "{comm:?}");
            assert_eq!((ours[0].0, ours[0].1.pid, ours[0].1.name.as_str()), (OomScope::Sandbox, 713, comm));
        }
    }

    #[test]
    fn escapes_are_undone_and_bad_ones_kept() {
        for (text, name) in
            [("a\\xc3\\xa9b", "aéb"), ("\\x5cx41", "\\x41"), ("\\x", "\\x"), ("\\xzz", "\\xzz"), ("", "")]
        {
            assert_eq!(unescape(text), name);
        }
    }

    #[test]
    fn a_group_that_is_killed_at_once_has_one_head() {
        let [head, first] = pair(&format!("/a/{NAME}"), "one", 713);
        let [_, second] = pair("/a", "two", 714);
        let lines =
            [head, first, second, "oom-kill:constraint=…".to_owned(), pair("/a", "x", 715)[1].clone()];
        let pids = |lines: &[String], kills| -> Vec<u32> {
            let key = LogKey { name: NAME.into(), whole_group: true };
            let told = victims(lines.iter().map(String::as_str), &key, kills);
            told.into_iter().map(|(_, victim)| victim.pid).collect()
        };
        assert_eq!(pids(&lines, 2), [713, 714]);
        // The kernel left out the head of another sandbox's victim.
        let mut busy = lines[..3].to_vec();
        busy.push(pair("/a", "foreign", 900)[1].clone());
        assert_eq!(pids(&busy, 2), [713, 714]);
    }

    /// What the kernel leaves out of its log changes no verdict.
    #[test]
    fn whose_memory_it_was_whatever_the_log_says() {
        use OomScope::{Host, Sandbox};
        let own = pair(&format!("/a/{NAME}"), "tail", 713);
        let above = pair("/a", "tail", 713);
        let other = pair("/a", "other", 714).map(|line| line.replace(NAME, "belljar-1-2-3-4"));
        let [v1, v2] = [
            // A charge fails more than once before it ends in a kill.
            |kills, oom| Counters { oom_kills: Some(kills), oom: Some(oom * 7), ..Counters::default() },
            |kills, oom| Counters { oom_kills: Some(kills), oom: Some(oom), ..Counters::default() },
        ];
        let swap = |kills| Counters { reached_swap_limit: true, ..v1(kills, 0) };
        let unknown = Counters { oom_kills: Some(1), ..Counters::default() };
        let both = |first: &[String; 2], second: &[String; 2]| [&first[..], &second[..]].concat();
        let without_head = |lines: &[String]| lines[1..].to_vec();
        let group = [&own[..], &[own[1].replace("713", "714")]].concat();
        type Row = (&'static str, bool, Vec<String>, Counters, OomScope, usize);
        let table: [Row; 22] = [
            ("own limit", false, own.to_vec(), v2(1, 1), Sandbox, 1),
            ("own limit, left out", false, without_head(&own), v2(1, 1), Sandbox, 0),
            ("own limit, no log", false, vec![], v2(1, 1), Sandbox, 0),
            ("own limit of v1, left out", false, without_head(&own), v1(1, 1), Sandbox, 0),
            ("above", false, above.to_vec(), v2(1, 0), Host, 1),
            ("above, left out", false, without_head(&above), v2(1, 0), Host, 0),
            ("above, no log", false, vec![], v2(1, 0), Host, 0),
            ("above in v1, left out", false, without_head(&above), v1(1, 0), Host, 0),
            ("above, the own one had been touched", false, above.to_vec(), v1(1, 1), Host, 1),
            ("swap limit", false, own.to_vec(), swap(1), Sandbox, 1),
            ("swap limit, left out", false, without_head(&own), swap(1), Sandbox, 0),
            ("above, the swap limit had been touched", false, above.to_vec(), swap(1), Host, 1),
            ("only another's line", false, other.to_vec(), v2(1, 0), Host, 0),
            (
                "another's line and ours left out",
                false,
                both(&other, &own)[..2].to_vec(),
                v2(1, 1),
                Sandbox,
                0,
            ),
            ("two kills", false, both(&own, &own), v2(2, 2), Sandbox, 2),
            ("above, then the own one", false, both(&above, &own), v2(2, 1), Sandbox, 2),
            ("above, then the own one, left out", false, above.to_vec(), v2(2, 1), Sandbox, 1),
            ("above twice, one left out", false, above.to_vec(), v2(2, 0), Host, 1),
            ("no counter of attempts", false, above.to_vec(), unknown, Host, 1),
            ("a group", true, group.clone(), v2(2, 1), Sandbox, 2),
            ("a group, left out", true, without_head(&group), v2(2, 1), Sandbox, 0),
            ("a group from above, left out", true, without_head(&group), v2(2, 0), Host, 0),
        ];
        for (what, whole_group, lines, counters, scope, victims) in table {
            let key = LogKey { name: NAME.into(), whole_group };
            let oom = judge(lines.iter().map(String::as_str), &key, &counters);
            assert_eq!((oom.scope, oom.victims.len()), (scope, victims), "{what}");
        }
    }

    #[test]
    fn other_groups_and_broken_lines_say_nothing() {
        let mut other = pair("/a/other", "tail", 713);
        other[0] = other[0].replace(&format!("task_memcg=/a/{NAME}"), "task_memcg=/a/belljar-1-2-3-4");
        assert_eq!(told(&other), []);
        // A process that calls itself like our group is none of ours.
        other[0] = other[0].replace("task=tail", &format!("task=/{NAME}"));
        assert_eq!(told(&other), []);
        let [head, tail] = pair(&format!("/a/{NAME}"), "tail", 713);
        assert_eq!(told(&[tail.clone(), head.clone()]), []);
        assert_eq!(told(&[head.clone(), tail.replace("713", "714")]), []);
        for end in 0..head.len() {
            let _ = told(&[head[..end].to_owned(), tail.clone()]);
        }
        for end in 0..tail.len() {
            let _ = told(&[head.clone(), tail[..end].to_owned()]);
        }
    }
}
