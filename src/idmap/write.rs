//! Writing id maps from outside, and reading subordinate ids.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

use nix::unistd::{Gid, Group, Uid, User};

use super::{Extent, Maps, Writer};
use crate::error::{Error, ErrorKind, Result, Step};

const USERNS_HINT: &str = "check user.max_user_namespaces, kernel.unprivileged_userns_clone and \
                           kernel.apparmor_restrict_unprivileged_userns";

/// The text of a map file.
pub(crate) fn to_text(extents: &[Extent]) -> String {
    let mut text = String::new();
    for Extent { inside, outside, count } in extents {
        // Writing to a String cannot fail.
        writeln!(text, "{inside} {outside} {count}").ok();
    }
    text
}

/// Writes both maps of the process that waits in its new user namespace.
pub(crate) fn write_maps(pid: i32, maps: &Maps) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{pid}/{name}");
        write_patiently(&path, text).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::ENOENT) => "no procfs is mounted on /proc: as root, `mount -t proc proc /proc`",
                Some(libc::EROFS) => "/proc is read-only: as root, `mount -o remount,rw /proc`",
                _ => USERNS_HINT,
            };
            Error::os(Step::IdMap, format!("writing {name}"), error).with_path(path).with_hint(hint)
        })
    };
    match maps.writer {
        Writer::Own => {
            // Since CVE-2014-8989 a gid map without privilege needs setgroups(2) denied first.
            write("setgroups", "deny")?;
            write("gid_map", &to_text(&maps.gids))?;
            write("uid_map", &to_text(&maps.uids))
        }
        Writer::Privileged => {
            write("gid_map", &to_text(&maps.gids))?;
            write("uid_map", &to_text(&maps.uids))
        }
        Writer::Init => Ok(()),
        Writer::Helpers => {
            helper("newgidmap", pid, &maps.gids)?;
            helper("newuidmap", pid, &maps.uids)
        }
    }
}

/// Writes to a file of a process that may be in the middle of its `execve(2)`.
///
/// A `vfork` parent goes on when the child lets go of the old memory, before the exec is complete. On Linux 7.3 the
/// files of `/proc/<pid>` refuse an unprivileged parent with `EACCES` for a moment then, about once in a hundred spawns
/// [tried], as those of a process that is not dumpable do. A refusal that lasts is one.
fn write_patiently(path: &str, text: &str) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 0..100 {
        match fs::write(path, text) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => thread::sleep(PAUSE),
            written => return written,
        }
    }
    fs::write(path, text)
}

/// Runs one of the setuid helpers, by absolute path and with an empty environment.
fn helper(name: &str, pid: i32, extents: &[Extent]) -> Result<()> {
    const HINT: &str =
        "install the Debian package uidmap and give this user a range in /etc/subuid and /etc/subgid";
    let candidates = [format!("/usr/bin/{name}"), format!("/bin/{name}")];
    let Some(path) = candidates.iter().find(|path| fs::metadata(path).is_ok()) else {
        return Err(Error::message(ErrorKind::Unsupported, Step::IdMap, format!("{name} is not installed"))
            .with_hint(HINT));
    };
    let mut command = Command::new(path);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .arg(pid.to_string());
    for Extent { inside, outside, count } in extents {
        command.args([inside.to_string(), outside.to_string(), count.to_string()]);
    }
    let output = command.output().map_err(|error| {
        Error::os(Step::IdMap, format!("running {name}"), error).with_path(path).with_hint(HINT)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.lines().next().unwrap_or("no message");
    Err(Error::message(ErrorKind::PermissionDenied, Step::IdMap, format!("{name} refused the map: {text}"))
        .with_hint(HINT))
}

/// The map of [`UserMap::subids`](super::UserMap::subids): the program is the caller, all other ids up to 65535 are
/// subordinate ones, as far as they go.
pub(super) fn subordinate(path: &str, kind: &str, program: u32, caller: u32) -> Result<Vec<Extent>> {
    let names = [
        caller.to_string(),
        if kind == "user" {
            User::from_uid(Uid::from_raw(caller)).ok().flatten().map(|user| user.name).unwrap_or_default()
        } else {
            // subgid(5) is keyed by the *user*; a group's own name is tried too.
            let user = User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
            let group = || Group::from_gid(Gid::from_raw(caller)).ok().flatten().map(|group| group.name);
            user.or_else(group).unwrap_or_default()
        },
        nix::unistd::geteuid().to_string(),
    ];
    let text = fs::read_to_string(path).unwrap_or_default();
    let (first, count) = find_range(&text, &names).ok_or_else(|| {
        Error::message(
            ErrorKind::Unsupported,
            Step::IdMap,
            format!("{path} gives this user no subordinate {kind} ids"),
        )
        .with_path(path)
        .with_hint("as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`")
    })?;
    Ok(around(program, caller, first, count.min(65_535)))
}

pub(super) fn find_range(text: &str, names: &[String]) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut words = line.split(':');
        let owner = words.next()?.trim();
        let first: u32 = words.next()?.trim().parse().ok()?;
        let count = words.next()?.trim().parse().ok()?;
        // 4294967295 is no id, so a range that does not end before it gives none.
        let is_range = count > 0 && first.checked_add(count).is_some();
        (!owner.is_empty() && names.iter().any(|name| name == owner) && is_range).then_some((first, count))
    })
}

/// `program` is `caller`; the ids before and after it are subordinate, in order.
pub(super) fn around(program: u32, caller: u32, first: u32, count: u32) -> Vec<Extent> {
    let below = program.min(count);
    let mut extents = vec![Extent { inside: program, outside: caller, count: 1 }];
    if below > 0 {
        extents.push(Extent { inside: 0, outside: first, count: below });
    }
    if count > below {
        extents.push(Extent { inside: program + 1, outside: first + below, count: count - below });
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_go_around_the_program() {
        let extents = around(1000, 501, 100_000, 65_535);
        assert_eq!(
            extents,
            [
                Extent { inside: 1000, outside: 501, count: 1 },
                Extent { inside: 0, outside: 100_000, count: 1000 },
                Extent { inside: 1001, outside: 101_000, count: 64_535 },
            ]
        );
        assert_eq!(around(0, 501, 9, 5)[1], Extent { inside: 1, outside: 9, count: 5 });
    }

    #[test]
    fn subid_lines() {
        let names = ["501".to_owned(), "ann".to_owned()];
        assert_eq!(find_range("bob:1:2\nann:100000:65536\n", &names), Some((100_000, 65_536)));
        assert_eq!(find_range("bob:1:2\n:1:2\nann:x:y\nann:5:0\n", &names), None);
    }

    #[test]
    fn ranges_that_do_not_end_are_none() {
        let names = ["joe".to_owned()];
        assert_eq!(find_range("joe:4294967290:65536\n", &names), None);
        assert_eq!(find_range("joe:4294967290:65536\njoe:100000:65536\n", &names), Some((100_000, 65_536)));
        assert_eq!(find_range("joe:4294967290:5\n", &names), Some((4_294_967_290, 5)));
    }

    #[test]
    fn map_text() {
        assert_eq!(to_text(&[Extent { inside: 0, outside: 5, count: 7 }]), "0 5 7\n");
    }
}
