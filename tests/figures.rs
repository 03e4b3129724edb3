//! Promises with large figures: what must hold each of many times. With `BELLJAR_SOAK` as often as the specification says,
//! otherwise less often where that takes long.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio as HostStdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar::{Mount, Rootfs, Sandbox, Stdio};
use support::{
    Result, Scratch, closed, fail, mib, number, oracle, payload, raw, role_command, slack, soak, timed,
    with_system, within,
};

fn main() -> ExitCode {
    let cases = cases![
        swaps_in_a_hostile_root: ["userns"],
        starts_of_which_a_third_loses_its_host: ["userns"],
    ];
    support::main_serial(cases, &[("victim", victim)])
}

/// Everything about a file that a sandbox could change: mode, owner, inode and content.
type Content = (u32, u32, u64, Vec<u8>);

/// The files of a directory.
fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, Content>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                rest.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
                Vec::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path)?.into_os_string().into_encoded_bytes(),
            _ => fs::read(&path)?,
        };
        found.insert(path, (meta.mode(), meta.uid(), meta.ino(), content));
    }
    Ok(found)
}

/// Names in the root that are mounted on, written or hidden: directories and files.
const DIRS: [&str; 5] = ["data", "tmp", "proc", "dev", "etc"];
const FILES: [&str; 3] = ["file", "hidden", "bound"];

/// A root in which every target takes turns with a link that leads out of it, and out of every root.
struct Swapped {
    scratch: Scratch,
    pairs: Vec<(CString, CString)>,
}

impl Swapped {
    fn new() -> Result<Self> {
        let scratch = Scratch::new();
        let outside = scratch.dir("outside");
        let root = scratch.dir("root");
        let mut pairs = Vec::new();
        let path = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::from);
        for name in DIRS {
            fs::create_dir(outside.join(name))?;
            fs::write(outside.join(name).join("keep"), name)?;
            fs::create_dir(root.join(name))?;
        }
        for name in FILES {
            fs::write(outside.join(name), "of the host")?;
            fs::write(root.join(name), "of the root")?;
        }
        for name in DIRS.iter().chain(&FILES) {
            let link = root.join(format!("{name}.link"));
            symlink(outside.join(name), &link)?;
            pairs.push((path(root.join(name))?, path(link)?));
            // What is open to the program must be open to whoever would be led there.
            let mode = if DIRS.contains(name) { 0o777 } else { 0o666 };
            for dir in [&outside, &root] {
                fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(Self { scratch, pairs })
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    fn outside(&self) -> PathBuf {
        self.scratch.join("outside")
    }

    /// Swaps one name after the other, and counts.
    fn swap(&self, swaps: &AtomicU32, stop: &AtomicBool) {
        const RENAME_EXCHANGE: usize = 2;
        let here = libc::AT_FDCWD as usize;
        for (name, link) in self.pairs.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let args = [here, name.as_ptr().addr(), here, link.as_ptr().addr(), RENAME_EXCHANGE, 0];
            if raw::syscall(libc::SYS_renameat2, args).is_ok() {
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn swaps_in_a_hostile_root() -> Result {
    let goal = number("BELLJAR_TEST_SWAPS", 100_000);
    let place = Swapped::new()?;
    let (before, mounts) = (contents(&place.outside())?, oracle::mounts("self").len());
    let bare = with_system(Sandbox::new().rootfs(Rootfs::dir(place.root()).writable())).root();
    let bare = bare.wall_time(Duration::from_secs(20));
    let targets = [
        Mount::dir("/data/new"),
        Mount::symlink("elsewhere", "/data/link"),
        Mount::tmpfs("/tmp"),
        Mount::proc("/proc"),
        Mount::dev("/dev"),
        Mount::file("/etc/given", "given"),
        Mount::file("/file", "given"),
        Mount::bind("/bin/true", "/bound"),
        Mount::mask("/hidden"),
        Mount::read_only("/data"),
    ];
    let (swaps, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let (mut starts, mut successes) = (0_usize, 0);
    let caught = std::thread::scope(|scope| -> Result<bool> {
        scope.spawn(|| place.swap(&swaps, &stop));
        let end = Instant::now() + Duration::from_secs(120) * slack();
        while (swaps.load(Ordering::Relaxed) < goal || starts < 200) && Instant::now() < end {
            let mut command = belljar::Command::new("/bin/true");
            command.stdout(Stdio::null()).stderr(Stdio::null());
            // One target, or two, so that every one of them is come to.
            let chosen = [starts % targets.len(), starts / targets.len() % targets.len()];
            let chosen = &chosen[..1 + starts % 2];
            let sandbox = chosen.iter().fold(bare.clone(), |sandbox, n| sandbox.mount(targets[*n].clone()));
            successes += u32::from(sandbox.status(&command).is_ok_and(|outcome| outcome.success()));
            starts += 1;
        }
        // The positive control: who goes by names is led out.
        let caught = within(Duration::from_secs(20) * slack(), || {
            fs::write(place.root().join("data/caught"), "x").ok();
            fs::remove_file(place.outside().join("data/caught")).is_ok()
        });
        stop.store(true, Ordering::Relaxed);
        Ok(caught)
    })?;
    let swaps = swaps.into_inner();
    println!("{swaps} swaps during {starts} starts, {successes} of which succeeded");
    assert!(caught, "nobody is ever led out");
    assert!(successes > 0, "no sandbox was ever complete");
    assert!(swaps >= goal && starts >= 200, "{swaps} swaps, {starts} starts");
    assert_eq!(contents(&place.outside())?, before, "the host's files");
    assert_eq!(oracle::mounts("self").len(), mounts, "the host's mounts");
    Ok(())
}

fn limited() -> Sandbox {
    let has = |feature| support::features::missing(feature).is_none();
    let mut sandbox = closed();
    if has("cgroup-memory") {
        sandbox = sandbox.memory_max(mib(64));
    }
    if has("cgroup-pids") {
        sandbox = sandbox.pids_max(20);
    }
    sandbox
}

/// Spawns until it is killed.
fn victim(args: &[OsString]) -> i32 {
    let mark = support::roles::text(args, 0);
    println!("go");
    std::io::stdout().flush().ok();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let mut command = payload("sleep", &["60000", &mark]);
        command.stdout(Stdio::null());
        if limited().spawn(&command).is_err() {
            return 1;
        }
    }
    0
}

/// Files that are called after us, and are no test's own.
fn files() -> Vec<String> {
    let entries = ["/tmp", "/var/tmp", "/run", "/dev/shm"]
        .into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("belljar"))
        .filter(|name| !["belljar-test-", "belljar-fuzz-"].iter().any(|others| name.starts_with(others)))
        .collect()
}

/// Inits whose host has gone.
fn inits() -> Vec<u32> {
    let all = oracle::processes_with("belljar-init");
    all.into_iter().filter(|pid| oracle::parent(*pid) == Some(1)).collect()
}

fn starts_of_which_a_third_loses_its_host() -> Result {
    let goal = number("BELLJAR_TEST_ROUNDS", if soak() { 10_000 } else { 240 });
    let mark = format!("belljar-figure-{}", std::process::id());
    // What is made once for all sandboxes stays.
    limited().status(payload("exit", &["0"]))?;
    let (fds, mounts, before) = (oracle::open_fds().len(), oracle::mounts("self").len(), files());
    let others = inits();
    let (_, setup) = timed(|| limited().status(payload("exit", &["0"])));
    let mut hosts = Vec::new();
    for n in 0..goal {
        if n % 3 != 0 {
            let outcome = limited().status(payload("exit", &["3"]))?;
            assert_eq!(outcome.status.code(), Some(3));
            continue;
        }
        let mut host = role_command("victim", &[&mark]).stdout(HostStdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(host.stdout.take().expect("piped")).read_line(&mut line)?;
        // A moment that moves through the first starts.
        std::thread::sleep(setup * (n % 31) / 10);
        hosts.push(host.id());
        host.kill()?;
        host.wait()?;
    }
    let gone = within(Duration::from_secs(5) * slack(), || oracle::processes_with(&mark).is_empty());
    assert!(gone, "processes: {:?}", oracle::processes_with(&mark));
    let left = || inits().into_iter().filter(|pid| !others.contains(pid)).collect::<Vec<_>>();
    assert!(
        within(Duration::from_secs(5) * slack(), || left().is_empty()),
        "inits without a host: {:?}",
        left()
    );
    // The next use of a host that has not swept yet: each process does so once.
    let mut next = role_command("victim", &[&mark]).stdout(HostStdio::piped()).spawn()?;
    let boxes = || hosts.iter().flat_map(|host| oracle::boxes_of(*host)).collect::<Vec<_>>();
    let swept = within(Duration::from_secs(30) * slack(), || boxes().is_empty());
    next.kill()?;
    next.wait()?;
    drop(next);
    assert!(swept, "cgroups: {:?}", boxes());
    assert!(within(Duration::from_secs(5) * slack(), || oracle::processes_with(&mark).is_empty()));
    limited().status(payload("exit", &["0"]))?;
    let after = (oracle::open_fds().len(), oracle::mounts("self").len(), files());
    assert_eq!(after, (fds, mounts, before), "descriptors, mounts, files");
    let children = oracle::children(std::process::id());
    if !children.is_empty() {
        return fail(format!("children: {children:?}"));
    }
    println!("{goal} starts, {} hosts killed", hosts.len());
    Ok(())
}
