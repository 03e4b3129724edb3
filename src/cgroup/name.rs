//! The name of a box, which says who owns it: `belljar-<pid namespace>-<pid>-<start time>-<counter>`.
//!
//! A pid alone is reused; a pid with the start time of its process is not, within one pid namespace. The sweep reads
//! these names back, and by then anybody may have written them.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::error::{Error, Result, Step};

const PREFIX: &str = "belljar-";

/// A host process that makes boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The inode of its pid namespace, see namespaces(7).
    pub(super) pid_ns: u64,
    pub(super) pid: u32,
    /// In clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub(super) start: u64,
}

/// The whole name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoxName {
    pub(super) owner: Owner,
    pub(super) counter: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pid_ns, self.pid, self.start)
    }
}

impl fmt::Display for BoxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}", self.owner, self.counter)
    }
}

impl BoxName {
    /// Reads a name back; `None` for everything that is not exactly what [`Display`](fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix(PREFIX)?.split('-');
        let pid_ns = fields.next()?.parse().ok()?;
        let pid = fields.next()?.parse().ok().filter(|&pid| i32::try_from(pid).is_ok_and(|pid| pid > 0))?;
        let start = fields.next()?.parse().ok()?;
        let counter = fields.next()?.parse().ok()?;
        let name = Self { owner: Owner { pid_ns, pid, start }, counter };
        // `parse` also takes `+7` and `007`, and fields may follow.
        (name.to_string() == text).then_some(name)
    }
}

impl Owner {
    /// This process. Read once; a forked copy of the process finds out that it is another one.
    pub(super) fn current() -> Result<Self> {
        static CURRENT: Mutex<Option<Owner>> = Mutex::new(None);
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        match *current {
            Some(owner) if owner.pid == std::process::id() => Ok(owner),
            _ => Ok(*current.insert(Self::read()?)),
        }
    }

    fn read() -> Result<Self> {
        let failed = |path: &'static str, source| {
            Error::os(Step::Cgroup, format!("reading {path}"), source)
                .with_path(path)
                .with_hint("mount proc: `mount -t proc proc /proc`")
        };
        const STAT: &str = "/proc/self/stat";
        const PID_NS: &str = "/proc/self/ns/pid";
        let stat = fs::read(STAT).map_err(|source| failed(STAT, source))?;
        let pid_ns = fs::metadata(PID_NS).map_err(|source| failed(PID_NS, source))?.ino();
        let Some(Stat { start, .. }) = Stat::parse(&stat) else {
            return Err(Error::internal(Step::Cgroup, format!("{STAT} has no start time")).with_path(STAT));
        };
        Ok(Self { pid_ns, pid: std::process::id(), start })
    }

    /// Whether `/proc` numbers processes as our own pid namespace does, so that it can be asked for other owners.
    pub(super) fn proc_is_ours() -> bool {
        fs::read_link("/proc/self").is_ok_and(|target| target == Path::new(&std::process::id().to_string()))
    }

    /// Whether the process still runs. When in doubt it does: the answer decides what gets killed.
    pub(super) fn is_alive(&self) -> bool {
        let Ok(stat) = fs::read(format!("/proc/{}/stat", self.pid)) else {
            // `/proc` mounted with `hidepid` hides the processes of others, proc(5); kill(2) does not.
            let Ok(pid) = i32::try_from(self.pid) else { return false };
            return kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
        };
        match Stat::parse(&stat) {
            None => true,
            Some(stat) if stat.start == self.start => !stat.is_zombie,
            // Another process with the same pid, unless the start times are of different time namespaces: the
            // kernel shows them shifted by the boot time offset of the reader, time_namespaces(7).
            Some(_) => !self.shares_our_time(),
        }
    }

    fn shares_our_time(&self) -> bool {
        match (fs::read_link("/proc/self/ns/time"), fs::read_link(format!("/proc/{}/ns/time", self.pid))) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            // A kernel before 5.6 has no time namespaces.
            (Err(_), _) => true,
            (Ok(_), Err(_)) => false,
        }
    }
}

/// What we need of `/proc/<pid>/stat`, proc_pid_stat(5).
pub(super) struct Stat {
    start: u64,
    /// It has ended and waits to be reaped. A process whose first thread alone has ended is listed as a zombie, too,
    /// but with threads left.
    is_zombie: bool,
}

impl Stat {
    pub(super) fn parse(stat: &[u8]) -> Option<Self> {
        // The second field is the name of the program in parentheses, and a program may put spaces and parentheses
        // of its own in it; nothing after it has any.
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = str::from_utf8(&stat[end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let (state, threads) = (field(3)?, field(20)?.parse::<u64>().ok()?);
        Some(Self { start: field(22)?.parse().ok()?, is_zombie: matches!(state, "Z" | "X") && threads <= 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let owner = Owner { pid_ns: 4026531836, pid: 1234, start: 987654321 };
        let name = BoxName { owner, counter: u64::MAX };
        assert_eq!(name.to_string(), "belljar-4026531836-1234-987654321-18446744073709551615");
        assert_eq!(BoxName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn hostile_names_are_none_of_ours() {
        for name in [
            "",
            "belljar",
            "belljar-",
            "belljar-host",
            "belljar-1-2-3",
            "belljar-1-2-3-",
            "belljar-1-2-3-4-5",
            "belljar-1-2-3-4 ",
            " belljar-1-2-3-4",
            "belljar-+1-2-3-4",
            "belljar-01-2-3-4",
            "belljar-1-0-3-4",
            "belljar-1--2-3-4",
            "belljar-1-2147483648-3-4",
            "belljar-1-4294967296-3-4",
            "belljar-1-2-3-18446744073709551616",
            "belljar-1-2-3-4\n",
            "belljar-1-2-3-٤",
            "belljar-1-2-3-4/..",
            "Belljar-1-2-3-4",
        ] {
            assert_eq!(BoxName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn start_time_is_found_behind_a_hostile_program_name() {
        let stat = |name: &str, state: &str, threads: u32| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 {threads} 0 4242 1 2 3\n")
        };
        for name in ["sh", "a b", ") Z 9 9 9", "x) R 1 (y", ""] {
            let parsed = Stat::parse(stat(name, "S", 1).as_bytes()).expect("parses");
            assert_eq!((parsed.start, parsed.is_zombie), (4242, false), "{name:?}");
        }
        assert!(Stat::parse(stat("sh", "Z", 1).as_bytes()).expect("parses").is_zombie);
        assert!(!Stat::parse(stat("sh", "Z", 2).as_bytes()).expect("parses").is_zombie);
        for garbage in [
            "",
            "7",
            "7 (sh",
            "7 (sh)",
            "7 (sh) S 1 2 3",
            ")",
            "7 (sh) S x x x x x x x x x x x x x x x x x x x x",
        ] {
            assert!(Stat::parse(garbage.as_bytes()).is_none(), "{garbage:?}");
        }
    }

    #[test]
    fn we_are_alive_and_a_reused_pid_is_not_us() {
        let owner = Owner::current().expect("proc is mounted");
        assert!(owner.is_alive());
        assert!(!Owner { start: owner.start + 1, ..owner }.is_alive());
        // The largest pid there can be, plus one.
        assert!(!Owner { pid: 1 << 22, ..owner }.is_alive());
    }

    #[test]
    fn an_unreaped_owner_is_dead() {
        super::super::testing::settle();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let stat = fs::read(format!("/proc/{}/stat", child.id())).expect("it runs");
        let start = Stat::parse(&stat).expect("parses").start;
        let owner = Owner { pid: child.id(), start, ..Owner::current().expect("proc is mounted") };
        assert!(owner.is_alive());
        child.kill().expect("we may kill it");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while owner.is_alive() {
            assert!(std::time::Instant::now() < deadline, "a zombie counts as alive");
            std::thread::yield_now();
        }
        child.wait().expect("it is our child");
        assert!(!owner.is_alive());
    }
}
