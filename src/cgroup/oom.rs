//! Whose memory ran out, and who died of it: what the kernel's log says of a box.
//!
//! The log is hostile text: the name of a process is whatever it called itself. Everything is read from fixed words on
//! either side of it, and a line that does not parse says nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::counters::Counters;
use super::run::LEAF;
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
    /// Its process id in the initial PID namespace, which is the host's unless the host is in a container: that of
    /// [`Child::id`](crate::Child::id) if it was the main program. The kernel does not tell which one it had inside, and
    /// when it tells the process is gone.
    pub pid: u32,
    /// What it had in memory: anonymous, file and shared pages.
    pub memory: Bytes,
}

/// By what the log tells of one box.
#[derive(Debug, Clone)]
pub(crate) struct LogKey {
    /// The name of its cgroup, which no other ever has; of a program with limits of its own, the name inside of the box.
    pub(super) name: String,
    /// The name of the box that it is in.
    pub(super) of_box: Option<String>,
    /// The kernel kills all of it at once, and then says once which group that was.
    pub(super) whole_group: bool,
}

/// What the counters and the log, all of it or what came since some moment, say of the last kills in a box, as many as
/// were counted.
pub(crate) fn read(key: &LogKey, counters: &Counters, since: Option<&Log>) -> Option<Oom> {
    let kills = counters.oom_kills.filter(|kills| *kills > 0)?;
    let kills = usize::try_from(kills).unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    let mut told = Told::default();
    for _ in 0..LOOKS {
        lines.extend(since.map_or_else(|| Log::whole().lines(), Log::lines));
        told = Told::of(lines.iter().map(String::as_str), key, kills);
        if !told.lacks_a_victim {
            break;
        }
        std::thread::sleep(PAUSE);
        if since.is_none() {
            lines.clear();
        }
    }
    Some(told.judge(key.whole_group, kills, counters))
}

/// How often the log is looked at, and the time between: a victim gets its signal before the kernel says which it was,
/// and may be gone by then.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(1);

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
                    lines.extend(about_memory(&text).map(str::to_owned));
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// The message of a record (`PRIORITY,NUMBER,TIME,FLAGS;MESSAGE`), if it is the kernel's and about a kill for memory.
pub(super) fn about_memory(record: &str) -> Option<&str> {
    let (prefix, message) = record.split_once(';')?;
    // What somebody has written into `/dev/kmsg` has a facility other than the kernel's, which is 0.
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let message = message.lines().next()?;
    let wanted = message.starts_with(HEAD) || KILLED.iter().any(|start| message.starts_with(start));
    (priority >> 3 == 0 && wanted).then_some(message)
}

/// What the log tells of the last kills in a box, from pairs of lines:
///
/// ```text
/// oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a/NAME,task_memcg=/a/NAME,task=tail,pid=713,uid=1000
/// Memory cgroup out of memory: Killed process 713 (tail) total-vm:35064kB, anon-rss:32640kB, file-rss:1196kB, shmem-rss:0kB, …
/// ```
///
/// Under many kills the kernel leaves out the first line of a pair and never the second. The victims of a group that is
/// killed at once follow its one head without any other between them, for the kernel kills one group at a time, and are
/// as many as were counted: what comes then is of another sandbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Whose memory it was, for each kill, or for a group that was killed at once.
    scopes: Vec<OomScope>,
    victims: Vec<OomVictim>,
    /// The last kill's first line is there and its second is not.
    lacks_a_victim: bool,
}

impl Told {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>, key: &LogKey, kills: usize) -> Self {
        let mut told = Self::default();
        let mut expected: Option<u32> = None;
        for line in lines {
            if let Some(fields) = line.strip_prefix(HEAD) {
                let head = head(fields, key);
                expected = head.map(|(_, pid)| pid);
                if let Some((scope, _)) = head {
                    if key.whole_group {
                        told = Self::default();
                    }
                    told.scopes.push(scope);
                    told.lacks_a_victim = true;
                }
            } else if let Some(pid) = expected {
                if let Some(victim) = victim(line).filter(|victim| key.whole_group || victim.pid == pid) {
                    told.victims.push(victim);
                    told.lacks_a_victim = key.whole_group && told.victims.len() < kills;
                    expected = expected.filter(|_| key.whole_group);
                }
            }
        }
        if key.whole_group {
            told.victims.truncate(kills);
        } else {
            told.victims.drain(..told.victims.len().saturating_sub(kills));
            told.scopes.drain(..told.scopes.len().saturating_sub(kills));
        }
        told
    }

    /// The log decides where it has all kills. Otherwise it may lack the very one that ended the program, and the counters
    /// decide as they do without it.
    pub(super) fn judge(self, whole_group: bool, kills: usize, counters: &Counters) -> Oom {
        let complete = whole_group || self.scopes.len() == kills;
        let last = self.scopes.last().copied().filter(|_| complete);
        // The kernel kills the first victim of a whole group a second time when it comes to it among the others.
        let mut seen = HashSet::new();
        let victims = self.victims.into_iter().filter(|victim| seen.insert(victim.pid)).collect();
        Oom { scope: last.unwrap_or_else(|| scope(counters)), victims }
    }
}

/// How the two lines begin. A line of the kernel's may well begin with the name of a process, as that of a fault does
/// (`NAME[713]: segfault at …`), and have more of the program's choosing at its end; but a name has 15 bytes at most.
const HEAD: &str = "oom-kill:constraint=CONSTRAINT_";
const KILLED: [&str; 3] = [
    "Memory cgroup out of memory: Killed process ",
    "Out of memory: Killed process ",
    "Out of memory (oom_kill_allocating_task): Killed process ",
];

impl LogKey {
    /// Whether a group is this one, or holds those of its programs that have no limits of their own.
    fn is_ours(&self, path: &str) -> bool {
        let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
        let last_above = above.rsplit('/').next();
        match &self.of_box {
            Some(of_box) => last == self.name && last_above == Some(of_box),
            None => last == self.name || last == LEAF && last_above == Some(&self.name),
        }
    }

    /// Whether the limit of a group is one of the sandbox.
    fn is_of_sandbox(&self, path: &str) -> bool {
        self.is_ours(path) || self.of_box.is_some() && path.rsplit('/').next() == self.of_box.as_deref()
    }
}

/// The scope and the victim's id, if the victim was in this group.
fn head(fields: &str, key: &LogKey) -> Option<(OomScope, u32)> {
    const GROUP: &str = ",task_memcg=";
    // Read from the end, for the groups that come first may be called what other users like.
    let (rest, _uid) = fields.rsplit_once(",uid=")?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let (mut rest, mut task) = rest.rsplit_once(GROUP)?;
    // The process may be called so, too: with three bytes more at most, each of which can take four here.
    if rest.rsplit_once(",task=").is_some_and(|(_, begun)| begun.len() <= 12) {
        (rest, task) = rest.rsplit_once(GROUP)?;
    }
    if !task.split(',').next().is_some_and(|path| key.is_ours(path)) {
        return None;
    }
    let scope = match rest.rsplit_once(",oom_memcg=") {
        Some((_, path)) if key.is_of_sandbox(path) => OomScope::Sandbox,
        _ => OomScope::Host,
    };
    Some((scope, pid.parse().ok()?))
}

fn victim(line: &str) -> Option<OomVictim> {
    let rest = KILLED.iter().find_map(|start| line.strip_prefix(start))?;
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

    fn told_of(lines: &[String], whole_group: bool, kills: usize) -> Told {
        let key = LogKey { name: NAME.into(), of_box: None, whole_group };
        Told::of(lines.iter().map(String::as_str), &key, kills)
    }

    fn told(lines: &[String]) -> Vec<(OomScope, OomVictim)> {
        let Told { scopes, victims, .. } = told_of(lines, false, usize::MAX);
        scopes.into_iter().zip(victims).collect()
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
            ",task_memcg=/ab",
            "a,task=b",
        ] {
            let ours = told(&pair(&format!("/a/{NAME}"), comm, 713));
            assert_eq!(ours.len(), 1, "{comm:?}");
            assert_eq!((ours[0].0, ours[0].1.pid, ours[0].1.name.as_str()), (OomScope::Sandbox, 713, comm));
        }
    }

    /// Lines that programs can have the kernel say: of a fault, with their name at the beginning and that of a file at the
    /// end, and such as some can write themselves.
    #[test]
    fn lines_of_a_programs_choosing_prove_nothing() {
        let [head, victim] = pair("/a", "innocent", 713);
        for line in [&head, &victim] {
            assert_eq!(about_memory(&format!("6,1,2,-;{line}\n SUBSYSTEM=x\n")), Some(&**line));
            assert_eq!(about_memory(&format!("14,1,2,-;{line}")), None, "from /dev/kmsg");
            let (name, tail) = line.split_at(15);
            for faulted in
                [format!("{name}[713]: segfault at 0 ip 0 sp 0 error 4 in {tail}[7f0,1000]"), tail.to_owned()]
            {
                assert_eq!(about_memory(&format!("6,1,2,-;{faulted}")), None, "{faulted}");
            }
        }
        for record in ["", ";", "6;", "x,1;y", &format!(",;{head}"), &format!("-1,1,2,-;{head}")] {
            assert_eq!(about_memory(record), None, "{record}");
        }
    }

    /// The cpuset of a victim is named before its cgroup, and may be another user's to name.
    #[test]
    fn names_of_other_groups_prove_nothing() {
        for cpuset in [
            format!("/x,oom_memcg=/a/{NAME},task_memcg=/a/{NAME}"),
            format!("/x,task_memcg=/a/{NAME},task=x"),
            format!("/x,oom_memcg=/a/{NAME}"),
        ] {
            let head = |above: &str, group: &str| {
                format!(
                    "{HEAD}MEMCG,nodemask=(null),cpuset={cpuset},mems_allowed=0,oom_memcg={above},\
                     task_memcg={group},task=tail,pid=713,uid=1000"
                )
            };
            let [_, tail] = pair("/a", "tail", 713);
            assert_eq!(told(&[head("/b", "/b/other"), tail.clone()]), [], "{cpuset}");
            let ours = told(&[head("/a", &format!("/a/{NAME}")), tail]);
            assert_eq!(ours[0].0, OomScope::Host, "{cpuset}");
        }
    }

    /// The kernel says who was killed after it has killed.
    #[test]
    fn the_first_line_tells_the_scope() {
        let [head, tail] = pair("/a", "tail", 713);
        let early = told_of(std::slice::from_ref(&head), false, 1);
        assert!(early.lacks_a_victim);
        let touched = Counters { oom_kills: Some(1), oom: Some(7), ..Counters::default() };
        assert_eq!(early.judge(false, 1, &touched), Oom { scope: OomScope::Host, victims: vec![] });
        assert!(!told_of(&[head.clone(), tail.clone()], false, 1).lacks_a_victim);
        assert!(told_of(&[head, tail], true, 2).lacks_a_victim);
    }

    /// Of two programs of a sandbox with limits of their own, each is told its own deaths; the sandbox's limit is as much
    /// theirs as their own.
    #[test]
    fn programs_with_limits_of_their_own_are_told_apart() {
        use OomScope::{Host, Sandbox};
        let lines = |limit: &str, group: &str| {
            pair(limit, "tail", 713)
                .map(|line| line.replace(&format!("task_memcg=/a/{NAME}"), &format!("task_memcg={group}")))
        };
        let scope = |key: &LogKey, lines: &[String]| {
            Told::of(lines.iter().map(String::as_str), key, 1).scopes.first().copied()
        };
        let own = LogKey { name: "7".into(), of_box: Some(NAME.into()), whole_group: false };
        let whole = LogKey { name: NAME.into(), of_box: None, whole_group: false };
        let [sandbox, seven, leaf] = ["", "/7", "/run"].map(|inner| format!("/a/{NAME}{inner}"));
        for (limit, group, told) in [
            (&seven, &seven, [Some(Sandbox), None]),
            (&sandbox, &seven, [Some(Sandbox), None]),
            (&"/a".to_owned(), &seven, [Some(Host), None]),
            (&sandbox, &leaf, [None, Some(Sandbox)]),
            (&sandbox, &sandbox, [None, Some(Sandbox)]),
            (&"/a".to_owned(), &leaf, [None, Some(Host)]),
            (&"/b/7".to_owned(), &"/b/7".to_owned(), [None, None]),
            (&sandbox, &format!("/a/{NAME}/77"), [None, None]),
            (&sandbox, &format!("/a/{NAME}/7/run"), [None, None]),
        ] {
            let lines = lines(limit, group);
            assert_eq!([scope(&own, &lines), scope(&whole, &lines)], told, "{limit} {group}");
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
            told_of(lines, true, kills).victims.into_iter().map(|victim| victim.pid).collect()
        };
        assert_eq!(pids(&lines, 2), [713, 714]);
        // The kernel left out the head of another sandbox's victim.
        let mut busy = lines[..3].to_vec();
        busy.push(pair("/a", "foreign", 900)[1].clone());
        assert_eq!(pids(&busy, 2), [713, 714]);
    }

    /// The kernel tells and counts its second death, too.
    #[test]
    fn the_first_of_a_group_is_named_once() {
        let [head, first] = pair(&format!("/a/{NAME}"), "first", 713);
        let [_, second] = pair("", "second", 714);
        let lines = [head, first.clone(), second, first];
        let counters = Counters { oom_kills: Some(3), oom: Some(0), ..Counters::default() };
        let oom = told_of(&lines, true, 3).judge(true, 3, &counters);
        assert_eq!(oom.scope, OomScope::Sandbox, "the log has all three");
        assert_eq!(oom.victims.iter().map(|victim| victim.pid).collect::<Vec<_>>(), [713, 714]);
    }

    /// What the kernel leaves out of its log changes no verdict.
    #[test]
    fn whose_memory_it_was_whatever_the_log_says() {
        use OomScope::{Host, Sandbox};
        let own = pair(&format!("/a/{NAME}"), "tail", 713);
        let above = pair("/a", "tail", 712);
        let later = pair(&format!("/a/{NAME}"), "tail", 715);
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
            ("two kills", false, both(&own, &later), v2(2, 2), Sandbox, 2),
            ("above, then the own one", false, both(&above, &own), v2(2, 1), Sandbox, 2),
            ("above, then the own one, left out", false, above.to_vec(), v2(2, 1), Sandbox, 1),
            ("above twice, one left out", false, above.to_vec(), v2(2, 0), Host, 1),
            ("no counter of attempts", false, above.to_vec(), unknown, Host, 1),
            ("a group", true, group.clone(), v2(2, 1), Sandbox, 2),
            ("a group, left out", true, without_head(&group), v2(2, 1), Sandbox, 0),
            ("a group from above, left out", true, without_head(&group), v2(2, 0), Host, 0),
        ];
        for (what, whole_group, lines, counters, scope, victims) in table {
            let kills = usize::try_from(counters.oom_kills.expect("there were some")).expect("a few");
            let oom = told_of(&lines, whole_group, kills).judge(whole_group, kills, &counters);
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
