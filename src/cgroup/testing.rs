//! What the tests on the real kernel share. They run where the machine lets them and print the reason where not.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::parent::Parent;
use super::{Cgroup, CgroupParent, Join, Limits, Placement};
use crate::error::{Error, Result};
use crate::limits::CpuMax;

/// Long enough for an emulated guest under load.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Makes this process leave a version 2 cgroup of its own once, before any test has started a process in it: with
/// company it could not any more.
pub(super) fn settle() {
    static SETTLED: OnceLock<()> = OnceLock::new();
    SETTLED.get_or_init(|| {
        let cpu_max = Some(CpuMax::cpus(1.0));
        let limits = Limits { memory_max: Some(1 << 30), pids_max: Some(100), cpu_max, ..Limits::default() };
        let dropped = Placement::resolve(&limits, &CgroupParent::Auto)
            .and_then(|placement| Cgroup::create(&placement, &limits));
        if let Err(error) = dropped {
            skipped("the first box", &error);
        }
    });
}

#[expect(
    clippy::print_stderr,
    reason = "libtest cannot ignore a test at run time, so the reason is at least shown"
)]
fn skipped(what: &str, error: &Error) {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    eprintln!("SKIPPED {what}: {error}{source}; {}", error.hint().unwrap_or("no remedy known"));
}

/// The same for what is not an error.
#[expect(clippy::print_stderr, reason = "as above")]
pub(super) fn skipped_for(what: &str) {
    eprintln!("SKIPPED for want of {what}");
}

/// The placement for some limits, or `None` and the reason on stderr.
pub(super) fn placement(limits: &Limits) -> Option<Placement> {
    settle();
    let resolved = Placement::resolve(limits, &CgroupParent::Auto);
    resolved.map_err(|error| skipped("a test that needs these limits", &error)).ok()
}

/// A box with some limits, or `None` and the reason on stderr. A machine that can place a box must make it.
pub(super) fn cgroup(limits: &Limits) -> Option<Cgroup> {
    let placement = placement(limits)?;
    Some(Cgroup::create(&placement, limits).expect("the box was placed, so it can be made"))
}

/// A directory below our own cgroup for one test, removed at the end.
pub(super) struct Scratch {
    pub(super) dir: PathBuf,
    pub(super) parent: Arc<Parent>,
}

impl Scratch {
    /// In the hierarchy that `limits` are served by; its controllers are not passed on to the directory.
    pub(super) fn new(name: &str, limits: &Limits) -> Option<Self> {
        let placement = placement(limits)?;
        let [above] = placement.parents() else { panic!("these limits need one hierarchy") };
        let dir = above.dir.join(format!("belljar-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).expect("the directory above was found writable");
        let parent =
            Parent::open(above.version, &dir, above.controllers.clone(), &CgroupParent::Path(dir.clone()));
        Some(Self { parent: parent.expect("it was just made"), dir })
    }

    pub(super) fn entries(&self) -> Vec<String> {
        let entries =
            fs::read_dir(&self.dir).expect("it is there").map(|entry| entry.expect("it is readable"));
        let directories = entries.filter(|entry| entry.file_type().expect("it has a type").is_dir());
        directories.map(|entry| entry.file_name().into_string().expect("our names are ASCII")).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for entry in self.entries() {
            let _ = fs::remove_dir(self.dir.join(entry));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Starts a shell that first puts itself into the box, through the very files a forked program gets: they become its
/// first three descriptors.
pub(super) fn spawn_in(cgroup: &Cgroup, script: &str) -> Child {
    let mut files = cgroup.joins().iter().map(|join| match join {
        Join::V1Tasks(file) | Join::V2 { procs: file, .. } => {
            file.try_clone().expect("there are descriptors left")
        }
    });
    let prefix = match cgroup.joins().len() {
        0 => "",
        1 => "echo 0 && ",
        2 => "echo 0 && echo 0 >&2 && ",
        3 => "echo 0 && echo 0 >&2 && echo 0 >&0 && ",
        _ => panic!("more hierarchies than descriptors"),
    };
    let mut stdio = || files.next().map_or_else(Stdio::null, |file: OwnedFd| Stdio::from(file));
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{prefix}exec </dev/null >/dev/null 2>&1 || exit 99\n{script}"))
        .stdout(stdio())
        .stderr(stdio())
        .stdin(stdio())
        .spawn()
        .expect("there is a shell")
}

pub(super) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the child ends", || {
        status = child.try_wait().expect("it is our child");
        status.is_some()
    });
    status.expect("until() saw it")
}

pub(super) fn run_in(cgroup: &Cgroup, script: &str) -> ExitStatus {
    let status = wait(&mut spawn_in(cgroup, script));
    assert_ne!(status.code(), Some(99), "the program could not join its box");
    status
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(2));
    }
}

/// The processes in a directory, read behind the back of the code under test.
pub(super) fn processes(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).expect("it is a cgroup");
    text.lines().map(str::to_owned).collect()
}

/// The only directory of a box.
pub(super) fn only_path(cgroup: &Cgroup) -> PathBuf {
    let paths: Vec<_> = cgroup.paths().collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths[0].clone()
}

/// The text of a control file of whichever directory of the box has it.
pub(super) fn control(cgroup: &Cgroup, file: &str) -> Option<String> {
    cgroup
        .paths()
        .find_map(|path| fs::read_to_string(path.join(file)).ok())
        .map(|text| text.trim_end().to_owned())
}

/// That a call failed, with the error.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>) -> Error {
    result.expect_err("it had to fail")
}
