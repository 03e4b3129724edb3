//! Passing controllers on to the children of a version 2 cgroup, and the one rule that is in the way.
//!
//! cgroups(7), "no internal processes": a cgroup other than the root must not hold processes while it passes
//! controllers on to its children. Our own cgroup holds at least us, so we move into a leaf below it,
//! `belljar-host`, and make the boxes beside that. We never move anybody else.
//!
//! The kernel enforces the rule with `EBUSY` for domain controllers such as memory only. Threaded ones (cpu, pids)
//! can be enabled in an occupied cgroup, and then every child silently becomes `domain invalid` and refuses
//! processes. So nothing here relies on `EBUSY`: we look first.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::layout::Controller;
use super::missing::{self, Missing};
use crate::error::{Error, ErrorKind, Result, Step};

/// The leaf for this process beside the boxes.
pub(super) const HOST_GROUP: &str = "belljar-host";

const PROCS: &str = "cgroup.procs";
const SUBTREE: &str = "cgroup.subtree_control";

/// What a cgroup is like at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// `cgroup.type`, which the real root alone does not have.
    kind: Option<String>,
    /// The names in `cgroup.subtree_control`.
    enabled: Vec<String>,
    holds_us: bool,
    /// Processes in it that are not us, those of other pid namespaces (listed as 0) included.
    others: usize,
}

/// What is to be done before boxes can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    MoveOurselves,
    /// The text for `cgroup.subtree_control`.
    Enable(String),
}

/// Whether [`enable`] can be expected to succeed. Changes nothing.
pub(super) fn check(dir: &Path, needed: &[Controller], may_move: bool) -> Result<(), Missing> {
    for act in acts(dir, &State::read(dir)?, needed, may_move)? {
        match act {
            Act::MoveOurselves => writable(dir, PROCS)?,
            Act::Enable(_) => writable(dir, SUBTREE)?,
        }
    }
    Ok(())
}

/// Makes children of `dir` have the needed controllers. `may_move` says whether this process may be moved into the
/// leaf below `dir` for that.
pub(super) fn enable(dir: &Path, needed: &[Controller], may_move: bool) -> Result<()> {
    for act in acts(dir, &State::read(dir)?, needed, may_move)? {
        match act {
            Act::MoveOurselves => move_ourselves(dir)?,
            Act::Enable(text) => write(&dir.join(SUBTREE), &text)?,
        }
    }
    // A process that came in between, the child of another thread for instance, may have undone the first step.
    match acts(dir, &State::read(dir)?, needed, may_move)?.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("{} did not stay empty while its controllers were enabled", dir.display());
            Err(Error::message(ErrorKind::Setup, Step::Cgroup, message)
                .with_path(dir)
                .with_hint(missing::ALONE))
        }
    }
}

fn acts(dir: &Path, state: &State, needed: &[Controller], may_move: bool) -> Result<Vec<Act>, Missing> {
    let mut acts = Vec::new();
    let lacking: Vec<&str> = needed
        .iter()
        .filter_map(|controller| controller.v2_name())
        .filter(|name| !state.enabled.iter().any(|enabled| enabled == name))
        .collect();
    // The rule binds only a cgroup that passes something on; and the root is exempt.
    let passes_on = !lacking.is_empty() || !state.enabled.is_empty();
    if let Some(kind) = state.kind.as_deref().filter(|_| passes_on) {
        let dir = dir.display();
        if kind != "domain" {
            let reason = format!("{dir} is a threaded cgroup (its cgroup.type is `{kind}`)");
            return Err(Missing::unsupported(reason, missing::ALONE));
        }
        if state.others > 0 || (state.holds_us && !may_move) {
            let count = state.others + usize::from(state.holds_us);
            let reason = format!(
                "{dir} holds {count} processes, and a cgroup that holds processes cannot pass controllers on to others"
            );
            return Err(Missing::new(ErrorKind::Setup, reason, missing::ALONE));
        }
        if state.holds_us {
            acts.push(Act::MoveOurselves);
        }
    }
    if !lacking.is_empty() {
        acts.push(Act::Enable(format!("+{}", lacking.join(" +"))));
    }
    Ok(acts)
}

fn move_ourselves(dir: &Path) -> Result<()> {
    let leaf = dir.join(HOST_GROUP);
    match fs::create_dir(&leaf) {
        // Of an earlier host in the same cgroup.
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(|source| {
            Error::os(Step::Cgroup, "making the cgroup of the host", source).with_path(&leaf)
        })?,
    }
    // 0 is the writing process, with all its threads.
    write(&leaf.join(PROCS), "0")
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|source| {
            Error::os(Step::Cgroup, format!("writing {text} to {}", file.display()), source)
                .with_path(file)
                .with_hint(missing::DELEGATE)
        })
}

impl State {
    fn read(dir: &Path) -> Result<Self, Missing> {
        let read = |name: &str| match fs::read_to_string(dir.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let reason = format!("reading {} failed: {error}", dir.join(name).display());
                Err(Missing::denied(reason, missing::DELEGATE))
            }
        };
        let kind = read("cgroup.type")?.map(|text| text.trim_end().to_owned());
        let enabled =
            read(SUBTREE)?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        let (mut holds_us, mut others) = (false, 0);
        // Reading the processes of a threaded cgroup is refused (EOPNOTSUPP), and the root may have many.
        if kind.as_deref() == Some("domain") {
            let own = std::process::id().to_string();
            for line in read(PROCS)?.unwrap_or_default().lines() {
                if line == own { holds_us = true } else { others += 1 }
            }
        }
        Ok(Self { kind, enabled, holds_us, others })
    }
}

/// Whether we, with the ids that count for opening files, may write to `dir/name`, or into `dir` for an empty name.
pub(super) fn writable(dir: &Path, name: &str) -> Result<(), Missing> {
    let (path, wanted) = match name {
        "" => (dir.to_owned(), AccessFlags::W_OK | AccessFlags::X_OK),
        name => (dir.join(name), AccessFlags::W_OK),
    };
    let shown = path.display();
    match faccessat(AT_FDCWD, &path, wanted, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        Err(Errno::EROFS) => {
            Err(Missing::denied(format!("{shown} is on a read-only mount"), missing::WRITABLE_MOUNT))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => {
            Err(Missing::new(ErrorKind::NotFound, format!("{shown} does not exist"), missing::MAKE_PARENT))
        }
        Err(errno) => Err(Missing::denied(
            format!("{shown} is not writable for this user ({})", errno.desc()),
            missing::DELEGATE,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Controller::{Cpu, CpuAcct, Memory, Pids};

    fn state(kind: Option<&str>, enabled: &[&str], holds_us: bool, others: usize) -> State {
        let enabled = enabled.iter().map(|&name| name.to_owned()).collect();
        State { kind: kind.map(str::to_owned), enabled, holds_us, others }
    }

    fn acts_for(state: &State, needed: &[Controller], may_move: bool) -> Result<Vec<Act>, Missing> {
        acts(Path::new("/c"), state, needed, may_move)
    }

    fn enabling(text: &str) -> Act {
        Act::Enable(text.to_owned())
    }

    #[test]
    fn the_root_passes_on_whatever_it_holds() {
        let root = state(None, &["cpu"], false, 0);
        assert_eq!(
            acts_for(&root, &[Memory, Pids, Cpu, CpuAcct], true).unwrap(),
            [enabling("+memory +pids")]
        );
        assert_eq!(acts_for(&root, &[Cpu], true).unwrap(), []);
    }

    #[test]
    fn we_move_out_of_our_own_cgroup_first() {
        let ours = state(Some("domain"), &[], true, 0);
        assert_eq!(acts_for(&ours, &[Memory], true).unwrap(), [Act::MoveOurselves, enabling("+memory")]);
        assert_eq!(acts_for(&ours, &[CpuAcct], true).unwrap(), [], "nothing passed on, nothing to do");
        let moved = state(Some("domain"), &["memory"], false, 0);
        assert_eq!(acts_for(&moved, &[Memory], true).unwrap(), []);
        assert_eq!(acts_for(&moved, &[Memory, Pids], true).unwrap(), [enabling("+pids")]);
    }

    #[test]
    fn nobody_else_is_moved() {
        for (state, may_move) in [
            (state(Some("domain"), &[], true, 1), true),
            (state(Some("domain"), &[], false, 3), true),
            (state(Some("domain"), &[], true, 0), false),
            // The kernel would let us enable pids here, and break every child.
            (state(Some("domain"), &["pids"], false, 1), true),
        ] {
            let missing = acts_for(&state, &[Pids], may_move).unwrap_err();
            assert!(missing.reason.contains("holds"), "{missing:?}");
            assert!(missing.hint.contains("systemd-run"), "{missing:?}");
        }
    }

    #[test]
    fn threaded_cgroups_are_refused() {
        for kind in ["threaded", "domain threaded", "domain invalid"] {
            assert!(acts_for(&state(Some(kind), &[], false, 0), &[Pids], true).is_err(), "{kind}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_ours_is_told_apart() {
        let missing = writable(Path::new("/no/such/cgroup"), "").unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound);
        assert_eq!(missing.hint, missing::MAKE_PARENT);
        assert!(writable(&std::env::temp_dir(), "").is_ok());
    }
}
