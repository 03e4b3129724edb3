//! `Host::probe` on this machine, as this user and as others, from outside.

#![expect(clippy::print_stdout, reason = "one of these tests is the program that the others run")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use belljar::{Feature, Host, Sandbox, Seccomp, Status, Stdio};

/// What is left behind is counted for the whole process, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Not a test: prints a line for each check, for the tests that run this very program in other circumstances.
#[test]
#[ignore = "run by the other tests"]
fn report() {
    for check in Host::probe().checks() {
        match &check.status {
            Status::Missing { cause, remedy, .. } => println!("@{}\tmissing\t{cause}\t{remedy}", check.name),
            _ => println!("@{}\tok\t\t", check.name),
        }
    }
}

/// Not a test: tells whether a network and a time namespace can be had, without making a sandbox of them.
#[test]
#[ignore = "run by the other tests"]
fn best_effort() {
    let bare = Sandbox::bare().net_ns().time_ns();
    let plan = bare.best_effort(Feature::NetNs).best_effort(Feature::TimeNs).plan().unwrap();
    println!("@{}", plan.enforced());
}

const REPORT: [&str; 4] = ["report", "--exact", "--ignored", "--nocapture"];

/// One line of [`report`].
#[derive(Debug)]
struct Line {
    name: String,
    available: bool,
    cause: String,
    remedy: String,
}

fn parse(stdout: &[u8]) -> Vec<Line> {
    let text = String::from_utf8_lossy(stdout);
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| {
            // The harness may print before our first line.
            let mut words = line.split_once('@')?.1.split('\t');
            let (name, status) = (words.next()?, words.next()?);
            let (cause, remedy) = (words.next()?.to_owned(), words.next()?.to_owned());
            Some(Line { name: name.to_owned(), available: status == "ok", cause, remedy })
        })
        .collect();
    assert!(lines.len() > 20, "no report in {text:?}");
    lines
}

fn line<'a>(report: &'a [Line], name: &str) -> &'a Line {
    report.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("{name} is not in {report:?}"))
}

/// A copy of this program where every user can reach it.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let dir = Path::new("/var/tmp").join(format!("belljar-host-test-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let copy = Self(dir);
        // By another process: one that another thread is just starting could have it open for writing, and then it cannot be
        // executed.
        let mut cp = std::process::Command::new("cp");
        assert!(cp.arg(std::env::current_exe().unwrap()).arg(copy.program()).status().unwrap().success());
        for path in [&copy.0, &copy.program()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        copy
    }

    fn program(&self) -> PathBuf {
        self.0.join("host")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Processes whose parent is this one.
fn children() -> Vec<String> {
    let own = format!("PPid:\t{}", std::process::id());
    let is_child = |pid: &String| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.lines().any(|line| line == own))
    };
    names("/proc").into_iter().filter(is_child).collect()
}

/// Directories below `dir` that are boxes of this process.
fn boxes(dir: &Path, found: &mut Vec<PathBuf>) {
    let own = format!("-{}-", std::process::id());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("belljar-") && name.contains(&own) {
                found.push(entry.path());
            }
            boxes(&entry.path(), found);
        }
    }
}

#[test]
fn the_probe_leaves_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What is kept for good (the init in its memfd, the lock file of the ids) is there after the first one.
    let first = Host::probe();
    let state = || (names("/proc/self/fd").len(), fs::read_to_string("/proc/self/mountinfo").unwrap());
    let before = state();
    let second = Host::probe();
    assert_eq!(state(), before, "descriptors and mounts");
    let works = |host: &Host| host.checks().iter().map(belljar::Check::is_available).collect::<Vec<_>>();
    assert_eq!(works(&first), works(&second));
    assert_eq!(children(), [""; 0]);
    let mut found = Vec::new();
    boxes(Path::new("/sys/fs/cgroup"), &mut found);
    assert_eq!(found, [""; 0].map(PathBuf::from));
    let own = format!("belljar-probe-{}-", std::process::id());
    let temporary = names(&std::env::temp_dir().to_string_lossy());
    assert!(!temporary.iter().any(|name| name.starts_with(&own)), "{temporary:?}");
}

#[test]
fn the_report_mentions_every_check() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let host = Host::current();
    let report = host.to_string();
    assert!(report.contains(host.kernel()));
    for check in host.checks() {
        let of_it = |line: &str| line.split_whitespace().next() == Some(check.name);
        assert_eq!(report.lines().filter(|line| of_it(line)).count(), 1, "{}: {report}", check.name);
        if let Status::Missing { cause, remedy, .. } = &check.status {
            assert!(
                report.contains(cause.as_str()) && report.contains(remedy.as_str()),
                "{check:?}: {report}"
            );
            assert!(!cause.is_empty() && !remedy.is_empty(), "{check:?}");
        }
    }
    for feature in Feature::ALL {
        let check = host.get(feature).unwrap_or_else(|| panic!("{feature} was not tried"));
        assert_eq!(check.name, feature.name());
    }
}

#[test]
fn the_report_agrees_with_a_real_sandbox() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ran = Sandbox::new().status(belljar::Command::new("/bin/true"));
    assert_eq!(Host::current().sandbox().is_available(), ran.is_ok(), "{ran:?}");
    let ran = Sandbox::bare().memory_max(64 << 20).status(belljar::Command::new("/bin/true"));
    assert_eq!(Host::current().has(Feature::MemoryMax), ran.is_ok(), "{ran:?}");
}

#[test]
fn a_user_without_a_cgroup_is_told_how_to_get_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() {
        println!("needs root, to become a user without anything");
        return;
    }
    let copy = Copy::new("nobody");
    // `uid` drops supplementary groups and capabilities, too.
    let output = Command::new(copy.program()).args(REPORT).uid(65534).gid(65534).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = parse(&output.stdout);
    for name in ["memory_max", "pids_max", "cpu_max"] {
        let line = line(&report, name);
        assert!(!line.available, "{line:?}");
        assert!(!line.cause.is_empty() && line.remedy.contains('`'), "{line:?}");
    }
    // Namespaces are a matter of this machine's settings; what is missing is explained.
    for line in report.iter().filter(|line| !line.available) {
        assert!(!line.cause.is_empty() && !line.remedy.is_empty(), "{line:?}");
    }
}

#[test]
fn the_filter_of_an_outer_container_is_named() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !Host::current().has(Feature::Seccomp) || !Host::current().has(Feature::UserNs) {
        println!("needs a filter, and user namespaces that it can take away");
        return;
    }
    let mut command = belljar::Command::new(std::env::current_exe().unwrap());
    command.args(REPORT).stderr(Stdio::null());
    // The default filter refuses namespaces as those of container engines do: clone3 with ENOSYS, clone with EPERM.
    let output = Sandbox::bare().seccomp(Seccomp::default()).output(&command).unwrap();
    let report = parse(&output.stdout);
    for name in ["sandbox", "user_ns", "pid_ns", "proc"] {
        let line = line(&report, name);
        assert!(!line.available, "{line:?}");
        assert!(line.cause.contains("a seccomp filter is on this process"), "{line:?}");
        assert!(line.remedy.contains("seccomp=unconfined"), "{line:?}");
    }
    assert!(line(&report, "no_new_privs").available, "a bare sandbox needs no namespace");
}

#[test]
fn best_effort_finds_namespaces_without_clone3() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() || !Host::current().has(Feature::NetNs) || !Host::current().has(Feature::TimeNs) {
        println!("needs root, and namespaces");
        return;
    }
    let mut command = belljar::Command::new(std::env::current_exe().unwrap());
    command.args(["best_effort", "--exact", "--ignored", "--nocapture"]).stderr(Stdio::null());
    // As container engines do for a privileged program: clone3 is unknown, clone and unshare are not.
    let filter = Seccomp::new().allow(["clone", "unshare"]);
    let output = Sandbox::bare().seccomp(filter).output(&command).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let enforced = text.lines().find_map(|line| line.split_once("@enforced:")).map_or("", |(_, rest)| rest);
    assert!(enforced.contains("net_ns time_ns") && !enforced.contains("not net_ns"), "{text}");
    let filter = Seccomp::new().allow(["clone"]);
    let output = Sandbox::bare().seccomp(filter).output(&command).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("not time_ns: Operation not permitted"), "{text}");
}

#[test]
fn a_chroot_is_named() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !Host::current().has(Feature::UserNs) || !is_root() {
        println!("needs root, and user namespaces that a chroot can take away");
        return;
    }
    let copy = Copy::new("chroot");
    let (program, root) = (copy.program(), copy.0.join("root"));
    fs::create_dir(&root).unwrap();
    let script = "mount --rbind / \"$1\" && chroot \"$1\" \"$0\" report --exact --ignored --nocapture";
    let mut command = Command::new("/usr/bin/unshare");
    let output = command
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", script])
        .args([&program, &root])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = parse(&output.stdout);
    let line = line(&report, "user_ns");
    assert!(
        !line.available && line.cause.contains("chroot") && line.remedy.contains("pivot_root"),
        "{line:?}"
    );
}

#[test]
fn the_noise_agrees_with_the_machine() {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let noise = Host::noise();
    let aslr = read("/proc/sys/kernel/randomize_va_space").and_then(|text| text.parse().ok());
    assert_eq!(noise.randomize_va_space, aslr);
    assert_eq!(noise.core_pattern, read("/proc/sys/kernel/core_pattern").filter(|text| !text.is_empty()));
    let smt = read("/sys/devices/system/cpu/smt/active").map(|text| text == "1");
    assert_eq!(noise.smt, smt);
    assert!(noise.load.is_none_or(|load| load >= 0.0));
    let disturbances = noise.disturbances();
    assert_eq!(aslr.is_some_and(|how| how > 0), disturbances.iter().any(|found| found.name == "aslr"));
    let report = noise.to_string();
    for name in ["governor", "turbo", "smt", "transparent_huge_pages", "swap", "aslr", "core_pattern", "load"]
    {
        assert!(report.lines().any(|line| line.starts_with(name)), "{name} is not in {report}");
    }
    assert!(disturbances.iter().all(|found| report.contains(&found.remedy)));
}
