//! Facts about processes and the machine, read from outside the sandbox.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The fields of `/proc/<pid>/status`.
pub(crate) fn status_of(pid: &str) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    fields(&text)
}

pub(crate) fn status(pid: u32) -> HashMap<String, String> {
    status_of(&pid.to_string())
}

/// Lines of the form `Key: value`.
pub(crate) fn fields(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The file names below `/proc/<pid>/ns`.
pub(crate) const NAMESPACES: [&str; 8] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];

/// The identity of a namespace of a process.
pub(crate) fn namespace(pid: impl std::fmt::Display, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}"))
        .map(|link| link.display().to_string())
        .unwrap_or_else(|error| format!("{name}: {error}"))
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountLine {
    pub(crate) root: String,
    pub(crate) point: String,
    pub(crate) options: String,
    pub(crate) kind: String,
    pub(crate) super_options: String,
}

/// The mounts that a process sees, in order.
pub(crate) fn mounts(pid: impl std::fmt::Display) -> Vec<MountLine> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let front: Vec<_> = front.split(' ').collect();
            let back: Vec<_> = back.split(' ').collect();
            Some(MountLine {
                root: (*front.get(3)?).to_owned(),
                point: (*front.get(4)?).to_owned(),
                options: (*front.get(5)?).to_owned(),
                kind: (*back.first()?).to_owned(),
                super_options: (*back.get(2)?).to_owned(),
            })
        })
        .collect()
}

/// How the kernel schedules a process: see `proc_pid_stat(5)` and `ioprio_get(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) policy: u32,
    pub(crate) priority: u32,
    pub(crate) nice: i32,
    pub(crate) io: u32,
    pub(crate) processors: String,
}

pub(crate) fn schedule(pid: u32) -> Schedule {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A name may hold anything, and ends with the last parenthesis; the field after it is the third.
    let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or("?");
    let io = super::raw::syscall(libc::SYS_ioprio_get, [1, pid as usize, 0, 0, 0, 0]);
    Schedule {
        policy: field(41).parse().unwrap_or(u32::MAX),
        priority: field(40).parse().unwrap_or(u32::MAX),
        nice: field(19).parse().unwrap_or(i32::MAX),
        io: io.map_or(u32::MAX, |value| value as u32),
        processors: status(pid).get("Cpus_allowed_list").cloned().unwrap_or_default(),
    }
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    status(pid).get("PPid")?.parse().ok()
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    status(pid).get("State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// All processes whose command line has this text.
pub(crate) fn processes_with(needle: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(needle.len()).any(|window| window == needle.as_bytes()) && is_alive(*pid)
        })
        .collect()
}

/// All processes that are children of another.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| parent(*child) == Some(pid))
        .collect()
}

/// Cgroup directories of sandboxes of this owner, in every hierarchy.
pub(crate) fn boxes_of(owner: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for line in mounts("self") {
        if line.kind.starts_with("cgroup") && !seen.contains(&line.point) {
            walk(Path::new(&line.point), 4, &format!("-{owner}-"), &mut found);
            seen.push(line.point);
        }
    }
    found
}

fn walk(dir: &Path, depth: u32, needle: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("belljar-") && name.contains(needle) {
            found.push(entry.path());
        } else if depth > 0 {
            walk(&entry.path(), depth - 1, needle, found);
        }
    }
}

/// The numbers of this process's open descriptors.
pub(crate) fn open_fds() -> Vec<i32> {
    let entries = fs::read_dir("/proc/self/fd").expect("proc is mounted");
    let mut numbers: Vec<i32> = entries
        .flatten()
        // The descriptor of the listing itself is gone by the time its link is read again below.
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.retain(|number| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    numbers.sort_unstable();
    numbers
}

/// Everything below a directory with type, mode, owner, size and content, to see whether anything changed.
pub(crate) fn snapshot(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(path) = stack.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let content = if meta.is_file() {
            fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        } else if meta.is_symlink() {
            fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default()
        } else {
            String::new()
        };
        let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
        let times = (meta.mtime(), meta.mtime_nsec());
        lines.push(format!("{} {mode:o} {uid}:{gid} {times:?} {content}", path.display()));
        if meta.is_dir() {
            stack.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    lines.sort();
    lines
}
