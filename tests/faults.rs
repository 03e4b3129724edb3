//! Every system call of the setup fails once, by strace(1): an error, or a sandbox that is complete. Never weaker, never hanging.
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

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Sandbox, Verdict};
use support::{Result, closed, explain, fail, mib, oracle, payload, run_helper, slack, soak, within};

fn main() -> ExitCode {
    let cases = cases![
        without_a_fault: ["userns", "strace", "payload-place"],
        clone_and_init: ["userns", "strace"],
        privileges: ["userns", "strace"],
        mounts: ["userns", "strace"],
        names_and_sessions: ["userns", "strace"],
        descriptors_and_messages: ["userns", "strace"],
        cgroups: ["userns", "strace", "cgroup-pids"],
        waiting: ["userns", "strace"],
    ];
    support::main(cases, &[("target", target), ("verify", verify)])
}

/// What a complete sandbox looks like to its program. Exits with 0, or says what is missing and exits with 1.
fn verify(args: &[OsString]) -> i32 {
    let status = oracle::status_of("self");
    let get = |key: &str| status.get(key).map_or("", String::as_str).to_owned();
    let mut weak = Vec::new();
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if get(key) != "0000000000000000" {
            weak.push(format!("{key} {}", get(key)));
        }
    }
    for (key, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "1")] {
        // Seccomp_filters is there since Linux 5.9.
        if get(key) != value {
            weak.push(format!("{key} {}", get(key)));
        }
    }
    for key in ["Uid", "Gid"] {
        if get(key).split_whitespace().any(|id| id != "1000") {
            weak.push(format!("{key} {}", get(key)));
        }
    }
    if !get("Groups").is_empty() && args.get(1).is_some_and(|root| root == "root") {
        weak.push(format!("Groups {}", get("Groups")));
    }
    if get("SigBlk") != "0000000000000000" {
        weak.push(format!("SigBlk {}", get("SigBlk")));
    }
    // Namespaces of the host, in the order of the table.
    let host = support::roles::text(args, 0);
    for (name, theirs) in oracle::NAMESPACES.iter().zip(host.split(',')) {
        if oracle::namespace("self", name) == theirs {
            weak.push(format!("shares {name}"));
        }
    }
    // 3 where the init first found that it may not fork into the version 2 cgroup of the host.
    if !matches!(std::process::id(), 2 | 3) {
        weak.push(format!("pid {}", std::process::id()));
    }
    let hostname = nix::sys::utsname::uname().map(|names| names.nodename().to_owned()).unwrap_or_default();
    if hostname != "belljar" {
        weak.push(format!("host name {}", hostname.to_string_lossy()));
    }
    for path in ["/root", "/home", "/etc/shadow", "/var"] {
        if std::path::Path::new(path).exists() {
            weak.push(format!("{path} is there"));
        }
    }
    for path in ["/x", "/usr/x", "/etc/x", "/dev/x"] {
        if std::fs::write(path, "x").is_ok() {
            weak.push(format!("{path} can be written"));
        }
    }
    let fds = std::fs::read_dir("/proc/self/fd").map(|entries| entries.flatten().count()).unwrap_or(99);
    // Three, and that of the listing.
    if fds > 4 {
        weak.push(format!("{fds} descriptors"));
    }
    if std::env::vars_os().count() > 0 {
        weak.push("an environment".into());
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap_or_default();
    if !core.split_whitespace().skip(4).take(2).all(|word| word == "0" || word == "1") {
        weak.push(core.to_owned());
    }
    if std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default().contains("belljar-") {
        weak.push("cgroup path is visible".into());
    }
    println!("{}", weak.join("; "));
    i32::from(!weak.is_empty())
}

fn limited() -> Sandbox {
    let has =
        |name: &str| support::features::controller_dir(name).is_some() && nix::unistd::geteuid().is_root();
    let mut sandbox = closed();
    if has("memory") {
        sandbox = sandbox.memory_max(mib(64));
    }
    if has("pids") {
        sandbox = sandbox.pids_max(16);
    }
    sandbox
}

/// The host under strace: prints "complete", "error: …" or "WEAK: …".
fn target(_: &[OsString]) -> i32 {
    let host: Vec<_> = oracle::NAMESPACES.iter().map(|name| oracle::namespace("self", name)).collect();
    let who = if nix::unistd::geteuid().is_root() { "root" } else { "user" };
    let result =
        limited().wall_time(Duration::from_secs(10)).output(payload("verify", &[&host.join(","), who]));
    match result {
        Ok(output) => match output.outcome.verdict {
            Verdict::Exited(0) => println!("complete"),
            // The program itself was hit by the fault, after its start: no success, and no weakness either.
            Verdict::Exited(1) if !output.stdout.is_empty() => {
                println!("WEAK: {}", String::from_utf8_lossy(&output.stdout).trim());
            }
            other => println!("ended: {other:?}"),
        },
        Err(error) => println!("error: {:?} {}", error.step(), explain(&error)),
    }
    0
}

const ERRNOS: [&str; 4] = ["EPERM", "EINVAL", "ENOMEM", "ENOSYS"];

/// Runs the target with one fault and judges what it says.
fn inject(call: &str, errno: &str, when: u32) -> Result<String> {
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error={errno}:when={when}")]);
    command.arg(support::own_exe()).args(["--role", "target"]);
    let what = format!("{call} number {when} fails with {errno}");
    let helper = match run_helper(&mut command, Duration::from_secs(20) * slack()) {
        Ok(helper) => helper,
        Err(support::Fail(message)) => return fail(format!("{what}: {message}")),
    };
    if helper.stdout.contains("WEAK") {
        return fail(format!("{what}: {}", helper.stdout.trim()));
    }
    // A host whose own start was hit (its loader, its allocator) says nothing; nothing of ours ran then.
    if helper.stdout.is_empty() && !helper.stderr.contains("panicked at src") {
        return Ok("nothing".into());
    }
    if helper.stderr.contains("panicked at src") {
        return fail(format!("{what}: {}", helper.stderr));
    }
    Ok(helper.stdout.trim().to_owned())
}

/// All faults of some system calls; `most` is how often each may be hit, one fault a run.
fn matrix(calls: &[&str], most: u32) -> Result {
    let most = if soak() { 40 } else { most };
    let (mut errors, mut complete) = (0, 0);
    let mut wrong = Vec::new();
    for call in calls {
        for (n, errno) in ERRNOS.iter().enumerate() {
            for when in 1..=most {
                // By default each position meets two of the four, in turn.
                if !soak() && (n as u32 + when) % 2 == 1 {
                    continue;
                }
                match inject(call, errno, when) {
                    Ok(said) if said.starts_with("error") => errors += 1,
                    Ok(said) if said == "complete" => complete += 1,
                    Ok(_) => {}
                    Err(support::Fail(message)) => wrong.push(message),
                }
            }
        }
    }
    if !wrong.is_empty() {
        return fail(wrong.join("\n"));
    }
    assert!(errors > 0, "no fault had any effect ({complete} runs were complete)");
    let orphans = || {
        let inits = oracle::processes_with("belljar-init");
        inits.into_iter().filter(|pid| oracle::parent(*pid) == Some(1)).collect::<Vec<_>>()
    };
    assert!(within(Duration::from_secs(2) * slack(), || orphans().is_empty()), "left: {:?}", orphans());
    Ok(())
}

fn without_a_fault() -> Result {
    // The positive control: strace alone changes nothing, and the verifying program finds a missing piece.
    assert_eq!(inject("acct", "EPERM", 1)?, "complete");
    let weak = support::with_payload(Sandbox::bare().user_ns()).output(payload("verify", &["", "user"]))?;
    assert_eq!(weak.outcome.verdict, Verdict::Exited(1));
    let text = String::from_utf8_lossy(&weak.stdout).into_owned();
    assert!(text.contains("Seccomp") && text.contains("host name"), "{text}");
    Ok(())
}

fn clone_and_init() -> Result {
    matrix(&["clone3", "clone", "execveat", "execve", "memfd_create"], 2)
}

fn privileges() -> Result {
    let calls = [
        "capset",
        "capget",
        "prctl",
        "seccomp",
        "setgroups",
        "setresuid",
        "setresgid",
        "prlimit64",
        "setrlimit",
    ];
    matrix(&calls, 3)?;
    // The init raises ambient capabilities one by one, the program's process then drops the bounding set.
    let mut wrong = Vec::new();
    for when in (4..140).step_by(if soak() { 1 } else { 3 }) {
        match inject("prctl", ERRNOS[when as usize % 4], when) {
            Ok(said) if said.starts_with("error") || said == "complete" => {}
            Ok(said) => wrong.push(format!("{when}: {said}")),
            Err(support::Fail(message)) => wrong.push(message),
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

fn mounts() -> Result {
    let calls = [
        "mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "openat2",
        "mkdirat",
        "symlinkat",
        "pivot_root",
        "umount2",
    ];
    matrix(&calls, 14)
}

fn names_and_sessions() -> Result {
    matrix(&["sethostname", "unshare", "setsid", "chdir", "fchdir", "umask"], 2)
}

fn descriptors_and_messages() -> Result {
    matrix(&["dup3", "close_range", "fcntl", "sendmsg", "recvmsg", "pipe2", "socketpair", "pidfd_open"], 10)
}

fn cgroups() -> Result {
    matrix(&["mkdirat", "openat", "pread64"], 2)
}

fn waiting() -> Result {
    matrix(&["ppoll", "poll", "waitid", "wait4", "signalfd4"], 7)
}
