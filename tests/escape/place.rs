//! Roots that an attacker has made.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use belljar::{Bytes, Command, Mount, Rootfs, Sandbox, Stdio, Upper};

use crate::attack::Tried;
use crate::calls::{call, text};
use crate::stage::SECRET;
use crate::support::{Result, Scratch, fail, oracle, sh, slack};

/// What stops links, and how they work.
pub(crate) const IN_ROOT: &str =
    "targets are resolved by `openat2` below the root, and attached by descriptor";
pub(crate) const BY_NAME: &str = "a program that uses the path by name";

/// A root that an attacker has made, and a directory of the host that must stay as it is.
pub(crate) struct Place {
    pub(crate) scratch: Scratch,
    pub(crate) root: PathBuf,
    pub(crate) canary: PathBuf,
    before: Vec<String>,
}

impl Place {
    /// With a link in it, to the canary or to something in that.
    pub(crate) fn new(link: &str, to: &str) -> Result<Self> {
        let place = Self::harmless(link, to)?;
        let path = place.root.join(link);
        match path.is_dir() {
            true => fs::remove_dir(&path)?,
            false => fs::remove_file(&path)?,
        }
        symlink(place.canary.join(to), path)?;
        Ok(place)
    }

    /// The same with something real in place of the link.
    pub(crate) fn harmless(link: &str, to: &str) -> Result<Self> {
        let scratch = Scratch::new();
        let root = scratch.dir("root");
        for dir in ["usr", "dev", "proc", "tmp", "etc"] {
            scratch.dir(format!("root/{dir}"));
        }
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
        scratch.file("root/payload", "");
        match to {
            "" => drop(scratch.dir(format!("root/{link}"))),
            _ => drop(scratch.file(format!("root/{link}"), "")),
        }
        let canary = scratch.dir("canary");
        // Nothing but the sandbox is in the way.
        for path in [&canary, &root] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        }
        let file = scratch.file("canary/file", "untouched");
        fs::set_permissions(file, fs::Permissions::from_mode(0o666))?;
        let program = scratch.file("canary/program", format!("#!/bin/sh\necho \"{SECRET}\"\n"));
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
        let before = oracle::snapshot(&canary);
        Ok(Self { scratch, root, canary, before })
    }

    /// What has become of the canary.
    pub(crate) fn verdict(&self) -> Tried {
        match oracle::snapshot(&self.canary) == self.before {
            true => Tried::Denied("the host is as before".into()),
            false => Tried::Broke("the host has changed".into()),
        }
    }

    /// The same after a run, which may fail.
    pub(crate) fn judge(&self, sandbox: Sandbox) -> Result<Tried> {
        let result = with_usr(sandbox).status(quiet("true"));
        Ok(match self.verdict() {
            Tried::Denied(text) => Tried::Denied(match result {
                Ok(outcome) => format!("{text}; {}", outcome.verdict),
                Err(error) => format!("{text}; {error}"),
            }),
            tried => tried,
        })
    }

    /// Does something again and again while a directory and a link take turns at one name: for so long, and until it has
    /// met the directory, which it says; ends early if it broke through.
    pub(crate) fn while_swapping(&self, time: Duration, mut act: impl FnMut() -> bool) -> Result<Tried> {
        let stop = AtomicBool::new(false);
        let (path, parked) = (self.root.join("data"), self.root.join("parked"));
        fs::create_dir(&parked)?;
        fs::set_permissions(&parked, fs::Permissions::from_mode(0o777))?;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (path, parked) = (text(&path), text(&parked));
                let here = libc::AT_FDCWD as usize;
                while !stop.load(Ordering::Relaxed) {
                    const RENAME_EXCHANGE: usize = 2;
                    call(libc::SYS_renameat2, [here, path, here, parked, RENAME_EXCHANGE]).ok();
                }
            });
            let (start, patience) = (Instant::now(), time + Duration::from_secs(20) * slack());
            let (mut rounds, mut met) = (0, 0);
            let mut tried = self.verdict();
            while !matches!(tried, Tried::Broke(_))
                && (start.elapsed() < time || (met == 0 || rounds < 20) && start.elapsed() < patience)
            {
                met += i32::from(act());
                rounds += 1;
                tried = self.verdict();
            }
            stop.store(true, Ordering::Relaxed);
            Ok(match tried {
                Tried::Denied(_) if met == 0 => {
                    Tried::CouldNot(format!("none of {rounds} met the directory"))
                }
                Tried::Denied(text) => Tried::Denied(format!("{text}, {met} of {rounds} met the directory")),
                tried => tried,
            })
        })
    }

    /// A root with a file to hide, and a `/dev/null` that leads to a secret.
    pub(crate) fn hostile_null(&self) -> Result<PathBuf> {
        self.scratch.file("root/hidden", "not so secret");
        self.scratch.file("root/etc/secret", SECRET);
        symlink("../etc/secret", self.root.join("dev/null"))?;
        Ok(self.root.clone())
    }
}

/// The system's programs, to which the links of these roots lead.
pub(crate) fn with_usr(sandbox: Sandbox) -> Sandbox {
    sandbox.mount(Mount::bind("/usr", "/usr"))
}

/// A sandbox over a harmless root, where it must run, and over one with the link.
pub(crate) fn hostile(link: &str, to: &str, sandbox: impl Fn(&Path) -> Sandbox) -> Result<Tried> {
    let place = Place::harmless(link, to)?;
    let outcome = with_usr(sandbox(&place.root)).status(quiet("true"))?;
    if !outcome.success() {
        return fail(format!("without a link: {}", outcome.verdict));
    }
    let place = Place::new(link, to)?;
    place.judge(sandbox(&place.root))
}

/// Each of several variants.
pub(crate) fn one_after_the_other_of<T>(variants: [T; 2], act: impl Fn(T) -> Result<Tried>) -> Result<Tried> {
    let [first, second] = variants;
    match act(first)? {
        Tried::Denied(one) => Ok(match act(second)? {
            Tried::Denied(other) => Tried::Denied(format!("{one}; {other}")),
            tried => tried,
        }),
        tried => Ok(tried),
    }
}

pub(crate) fn overlay(root: &Path) -> Rootfs {
    Rootfs::overlay([root]).upper(Upper::tmpfs(Bytes::mib(1), 100))
}

impl Drop for Place {
    fn drop(&mut self) {
        // What overlayfs has closed to its owner can be removed then.
        for dir in ["work", "work/work"] {
            fs::set_permissions(self.scratch.join(dir), fs::Permissions::from_mode(0o700)).ok();
        }
    }
}

fn quiet(script: &str) -> Command {
    let mut command = sh(script);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}
