//! Every system call of the setup fails once: an error that names the step, or a sandbox that is complete. Never weaker,
//! never hanging, and nothing is left.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/inject.rs"]
mod inject;
#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Command, Feature, IoPriority, Landlock, Mount, Output, Resource, Sandbox, Scheduler, Seccomp, Verdict,
};
use calls::{call_of, is_left_alone, is_survivable, modern, told_instead};
use inject::Who;
use support::{Result, closed, explain, fail, mib, oracle, payload, run_helper, slack, soak, within};

fn main() -> ExitCode {
    let cases = cases![
        without_a_fault: ["userns", "ptrace", "payload-place"],
        host: ["userns", "ptrace"],
        thread: ["userns", "ptrace", "root"],
        launch: ["userns", "ptrace"],
        init: ["userns", "ptrace"],
        program: ["userns", "ptrace"],
        host_of_a_container: ["userns", "ptrace"],
        init_of_a_container: ["userns", "ptrace"],
        program_in_a_container: ["userns", "ptrace"],
        streams_of_a_prepared_program: ["userns", "ptrace"],
    ];
    support::main(
        cases,
        &[("target", target), ("verify", verify), ("inject", inject), ("try-ptrace", try_ptrace)],
    )
}

/// What a complete sandbox looks like to its program. Exits with 0, or says what is missing and exits with 1.
fn verify(args: &[OsString]) -> i32 {
    let status = oracle::status_of("self");
    let get = |key: &str| status.get(key).map_or("", String::as_str).to_owned();
    let host_is_root = args.get(1).is_some_and(|host| host == "root");
    let mut weak = Vec::new();
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if get(key) != "0000000000000000" {
            weak.push(format!("{key} {}", get(key)));
        }
    }
    // What belongs to the rules of ports is part of it.
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
    if !get("Groups").is_empty() && host_is_root {
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
    let schedule = oracle::schedule(std::process::id());
    let nice = args.get(4).and_then(|nice| nice.to_str()?.parse().ok()).unwrap_or(0);
    if (schedule.policy, schedule.nice, schedule.io, schedule.processors.as_str()) != (3, nice, 0x4006, "0") {
        weak.push(format!("{schedule:?}"));
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
    // Rust's own runtime ignores SIGPIPE.
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
    if u64::from_str_radix(&get("SigIgn"), 16).map_or(true, |ignored| ignored & !SIGPIPE != 0) {
        weak.push(format!("SigIgn {}", get("SigIgn")));
    }
    // Columns: inside, outside, count. An unprivileged host has only its own id to give.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.is_empty() || (host_is_root && map.lines().any(|line| line.split_whitespace().nth(1) == Some("0")))
    {
        weak.push(format!("uid_map {map}"));
    }
    for path in support::roles::text(args, 2).split(',').map(std::path::Path::new) {
        if !path.exists() {
            weak.push(format!("{} is missing", path.display()));
        }
    }
    if support::roles::text(args, 3) == "container" {
        weak.extend(missing_in_container());
    }
    println!("weak: {}", weak.join("; "));
    i32::from(!weak.is_empty())
}

fn scheduled() -> Sandbox {
    closed().scheduler(Scheduler::Batch).io_priority(IoPriority::BestEffort(6)).cpu_affinity([0])
}

fn limited() -> Sandbox {
    let has =
        |name: &str| support::features::controller_dir(name).is_some() && nix::unistd::geteuid().is_root();
    let mut sandbox = scheduled().nice(nice());
    if has("memory") {
        sandbox = sandbox.memory_max(mib(64));
    }
    if has("pids") {
        sandbox = sandbox.pids_max(16);
    }
    sandbox
}

/// Below the host's own, and so by way of the gate, where the host may do that.
fn nice() -> i32 {
    let own = oracle::schedule(std::process::id()).nice;
    if support::features::missing("sys-nice").is_none() { own - 1 } else { own }
}

/// What the system view shows of the host, and what it makes.
const SHOWN: [&str; 8] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ssl/openssl.cnf",
];
const MADE: [&str; 5] = ["/etc/passwd", "/etc/hosts", "/proc/self", "/dev/null", "/tmp"];

/// The host that is traced: prints "complete", "error …", "ended …" or "WEAK …".
fn target(args: &[OsString]) -> i32 {
    let kind = support::roles::text(args, 0);
    let host: Vec<_> = oracle::NAMESPACES.iter().map(|name| oracle::namespace("self", name)).collect();
    let who = if nix::unistd::geteuid().is_root() { "root" } else { "user" };
    let shown = SHOWN.into_iter().filter(|path| std::path::Path::new(path).exists());
    let there: Vec<_> = shown.chain(MADE).collect();
    let own_nice = oracle::schedule(std::process::id()).nice;
    // One that needs the host for its program, or counts its CPU time, hands no command to a prepared payload.
    let (sandbox, nice) = match kind.as_str() {
        PREPARED => (scheduled(), own_nice),
        _ => (limited(), nice()),
    };
    let command = payload("verify", &[&host.join(","), who, &there.join(","), &kind, &nice.to_string()]);
    let sandbox = sandbox.wall_time(Duration::from_secs(10));
    // It must not come through to the program.
    support::raw::disposition(libc::SIGUSR1, true);
    // A look that no fault shall spoil.
    let sandbox = match kind.as_str() {
        "container" if has_landlock() => sandbox.landlock(Landlock::new().execute("/").bind_tcp(0)),
        _ => sandbox,
    };
    support::raw::syscall(inject::MARK, [0; 6]).ok();
    let result = run(&kind, &sandbox, command);
    support::raw::syscall(inject::MARK, [0; 6]).ok();
    match result {
        Ok(output) => match output.outcome.verdict {
            Verdict::Exited(0) if output.stdout == b"weak: \n" => println!("said complete"),
            Verdict::Exited(0) => println!("said LOST {:?}", String::from_utf8_lossy(&output.stdout)),
            Verdict::Exited(1) => println!("said WEAK {}", String::from_utf8_lossy(&output.stdout).trim()),
            other => println!("said ended {other:?}"),
        },
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            println!("said error {:?} {errno} {:?} {}", error.step(), error.kind(), explain(&error));
        }
    }
    0
}

/// The kinds of sandboxes that are set up.
const KINDS: [&str; 2] = ["program", "container"];

/// A container whose payload waits for its command when that comes.
const PREPARED: &str = "prepared";

/// A sandbox for one program, or a container with all that a sandbox can be given in addition.
fn run(kind: &str, sandbox: &Sandbox, mut command: Command) -> belljar::Result<Output> {
    if kind == PREPARED {
        let container = sandbox.start()?;
        std::thread::sleep(Duration::from_millis(200) * slack());
        let output = container.output(command)?;
        container.close()?;
        return Ok(output);
    }
    if kind != "container" {
        return sandbox.output(command);
    }
    let more = sandbox
        .clone()
        .domain_name("jar")
        .monotonic_offset(1000)
        .mount(Mount::file("/opt/given", "content"))
        .mount(Mount::dir("/srv/made"))
        .mount(Mount::symlink("given", "/opt/link"))
        .mount(Mount::mask("/usr/share"))
        .mount(Mount::mask("/etc/hosts"))
        .mount(Mount::read_only("/tmp"))
        .rlimit(Resource::Nofile, 20, 20)
        .cross_tenant()
        .best_effort(Feature::CoreScheduling)
        .seccomp(Seccomp::new().kill(["swapon"]));
    command.current_dir("/usr");
    let container = more.start()?;
    let output = container.output(command)?;
    container.close()?;
    Ok(output)
}

/// The kernel has all of landlock that there are calls for.
fn has_landlock() -> bool {
    support::features::landlock_abi().is_ok_and(|abi| abi >= 6)
}

/// What [`run`] has added, looked at by the program.
fn missing_in_container() -> Vec<String> {
    use std::fs;
    let names = nix::sys::utsname::uname().map(|names| names.domainname().to_owned()).unwrap_or_default();
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let checks = [
        ("domain name", names == "jar"),
        ("time offset", offsets.lines().any(|line| line.split_whitespace().eq(["monotonic", "1000", "0"]))),
        ("file", fs::read_to_string("/opt/given").is_ok_and(|text| text == "content")),
        ("directory", fs::metadata("/srv/made").is_ok_and(|metadata| metadata.is_dir())),
        ("symlink", fs::read_link("/opt/link").is_ok_and(|to| to == std::path::Path::new("given"))),
        ("mask of a directory", fs::read_dir("/usr/share").is_ok_and(|mut entries| entries.next().is_none())),
        ("mask of a file", fs::read("/etc/hosts").is_ok_and(|bytes| bytes.is_empty())),
        ("read-only mount", fs::write("/tmp/x", "x").is_err()),
        ("limit", limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 20 "))),
        (
            "directory of the program",
            std::env::current_dir().is_ok_and(|dir| dir == std::path::Path::new("/usr")),
        ),
    ];
    let denied = |result: std::io::Result<()>, errno| {
        result.err().and_then(|error| error.raw_os_error()) == Some(errno)
    };
    let kill_init = support::raw::syscall(libc::SYS_kill, [1, 0, 0, 0, 0, 0]).map(drop);
    let landlock = [
        ("rule of files", denied(fs::write("/dev/shm/x", "x"), libc::EACCES)),
        ("rule of ports", denied(std::net::TcpStream::connect("127.0.0.1:1").map(drop), libc::EACCES)),
        ("exception of ports", std::net::TcpListener::bind("127.0.0.1:0").is_ok()),
        ("scope of signals", denied(kill_init, libc::EPERM)),
    ];
    let landlock = landlock.into_iter().filter(|_| has_landlock());
    checks
        .into_iter()
        .chain(landlock)
        .filter(|(_, fine)| !fine)
        .map(|(what, _)| format!("no {what}"))
        .collect()
}

/// Whether this host lets a process trace its children.
fn try_ptrace(_: &[OsString]) -> i32 {
    match inject::works() {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

/// Traces a target; the arguments are those of the fault, or none.
fn inject(args: &[OsString]) -> i32 {
    let fault = (args.len() > 1).then(|| inject::Fault {
        who: Who::parse(&support::roles::text(args, 1)).expect("a name of a process"),
        call: support::roles::big(args, 2) as i64,
        nth: support::roles::int(args, 3) as u32,
        errno: support::roles::int(args, 4),
    });
    let kind = support::roles::text(args, 0);
    let trace = match inject::run(&mut support::role_command("target", &[&kind]), fault) {
        Ok(trace) => trace,
        Err(error) => {
            eprintln!("tracing failed: {error}");
            return 1;
        }
    };
    println!("host {} {}", trace.host, trace.status);
    println!("hit {}", trace.hit);
    for (who, pid) in trace.left {
        println!("left {who:?} {pid}");
    }
    if fault.is_none() {
        for (who, call) in trace.calls {
            println!("call {who:?} {call}");
        }
    }
    0
}

const ERRNOS: [i32; 4] = [libc::EPERM, libc::EINVAL, libc::ENOMEM, libc::ENOSYS];

fn trace(kind: &str, fault: &[&str]) -> Result<String> {
    let mut args = vec![kind];
    args.extend(fault);
    let helper = run_helper(&mut support::role_command("inject", &args), Duration::from_secs(30))?;
    if helper.stderr.contains("panicked") || helper.stderr.contains("tracing failed") {
        return fail(helper.stderr);
    }
    Ok(helper.stdout)
}

/// Runs the target with one fault and judges what it says: `Ok(false)` when the fault did not come to pass.
fn judge(kind: &str, who: Who, call: i64, nth: u32, errno: i32) -> Result<bool> {
    let [number, n, code] = [call.to_string(), nth.to_string(), errno.to_string()];
    let text = trace(kind, &[&format!("{who:?}"), &number, &n, &code])?;
    let line = |key: &str| text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).next();
    let said = line("said").unwrap_or("nothing");
    let Some((host, status)) = line("host").and_then(|line| line.split_once(' ')) else {
        return fail(format!("the tracer said {text:?}"));
    };
    if status != "0" {
        return fail(format!("the host ended with wait status {status}: {said}"));
    }
    if let Some(left) = line("left") {
        return fail(format!("a process is left: {left}; {said}"));
    }
    let boxes = oracle::boxes_of(host.parse().unwrap_or(0));
    if !boxes.is_empty() {
        return fail(format!("left: {boxes:?}; {said}"));
    }
    if line("hit") != Some("true") {
        return if said == "complete" { Ok(false) } else { fail(format!("without any fault: {said}")) };
    }
    let Some((_, steps)) = call_of(who, modern(call)) else {
        return fail(format!("the table of calls and steps does not have it; {said}"));
    };
    if said == "complete" {
        // A call whose failure is nobody's business has no steps.
        let fine = steps.is_empty() || is_survivable(kind, who, modern(call), nth, errno);
        return if fine { Ok(true) } else { fail("nobody noticed") };
    }
    let mut words = said.splitn(5, ' ');
    if words.next() != Some("error") {
        return fail(said);
    }
    let step = words.next().unwrap_or_default();
    if !steps.iter().any(|allowed| format!("{allowed:?}") == step) {
        return fail(format!("the step is none of {steps:?}: {said}"));
    }
    let carried = words.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
    if carried != errno && told_instead(who, modern(call), errno) != Some(carried) {
        return fail(format!("the error carries errno {carried}: {said}"));
    }
    if said.contains("of the init, line") {
        return fail(format!("these words help nobody: {said}"));
    }
    Ok(true)
}

/// What sandboxes could leave on the host beside processes and cgroups.
fn leftovers() -> Vec<String> {
    // Somebody else on this machine may mount something meanwhile, below directories that no sandbox here has.
    let foreign =
        |point: &str| ["/root/", "/home/", "/var/", "/mnt/"].iter().any(|dir| point.starts_with(dir));
    let mounts = oracle::mounts("self").into_iter().filter(|mount| !foreign(&mount.point));
    let mut found: Vec<_> = mounts.map(|mount| format!("mount {mount:?}")).collect();
    for dir in ["/tmp", "/var/tmp", "/run", "/dev/shm"] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        // Scratch directories of other tests come and go.
        let ours = entries.map(|entry| entry.path().display().to_string());
        found.extend(ours.filter(|path| path.contains("belljar") && !path.contains("belljar-test")));
    }
    // Its length: a byte of it is locked for each block in use, and none is ever written.
    let locks = std::fs::metadata("/run/belljar.ids").map_or(0, |metadata| metadata.len());
    found.push(format!("{locks} bytes of id locks"));
    found.sort();
    found
}

/// Each call of one of the processes fails once. By default a call that is made again and again meets one of the four
/// errnos each time, in turn, and where it is made very often not every time.
fn matrix(kind: &str, who: Who) -> Result {
    // The lock file is made by the first use.
    let recorded = trace(kind, &[])?;
    assert!(recorded.contains("said complete"), "{recorded}");
    let before = leftovers();
    let prefix = format!("call {who:?} ");
    let calls = recorded.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse::<i64>().ok());
    let mut seen = std::collections::BTreeMap::new();
    let (mut tried, mut missed) = (0, 0);
    let mut wrong = Vec::new();
    for call in calls.filter(|call| !is_left_alone(who, *call)) {
        let nth = seen.entry(call).or_insert(0_u32);
        *nth += 1;
        for (n, errno) in ERRNOS.into_iter().enumerate() {
            let often = *nth > 8 && *nth % 3 != 0;
            let in_turn = *nth > 1 || kind != KINDS[0];
            if !soak() && (often || (in_turn && n != *nth as usize % ERRNOS.len())) {
                continue;
            }
            tried += 1;
            // How often the init wakes up, and what the host has to sweep, is not the same each time.
            let mut result = Ok(false);
            for _ in 0..3 {
                result = judge(kind, who, call, *nth, errno);
                if !matches!(result, Ok(false)) {
                    break;
                }
            }
            match result {
                Ok(hit) => missed += u32::from(!hit),
                Err(support::Fail(message)) => {
                    let name = call_of(who, modern(call)).map_or("SYS_?", |(name, _)| name);
                    let what = std::io::Error::from_raw_os_error(errno);
                    wrong.push(format!("{who:?}: {name} ({call}) number {nth} fails with {what}: {message}"));
                }
            }
        }
    }
    if !wrong.is_empty() {
        return fail(wrong.join("\n"));
    }
    println!("{kind} {who:?}: {tried} faults, {missed} of them never reached");
    assert!(tried > 5 && missed * 10 < tried, "{missed} of {tried} faults never came to pass");
    let new = || leftovers().into_iter().filter(|one| !before.contains(one)).collect::<Vec<_>>();
    assert!(within(Duration::from_secs(2) * slack(), || new().is_empty()), "left: {:?}", new());
    Ok(())
}

fn without_a_fault() -> Result {
    // The positive controls: tracing alone changes nothing, and the verifying program finds a missing piece.
    for kind in KINDS {
        let text = trace(kind, &[])?;
        assert!(text.contains("said complete"), "{kind}: {text}");
        let everybody = [Who::Host, Who::Launch, Who::Init, Who::Payload];
        assert!(everybody.iter().all(|who| text.contains(&format!("call {who:?} "))), "{kind}: {text}");
    }
    let weak = support::with_payload(Sandbox::bare().user_ns()).output(payload("verify", &["", "user"]))?;
    assert_eq!(weak.outcome.verdict, Verdict::Exited(1));
    let text = String::from_utf8_lossy(&weak.stdout).into_owned();
    assert!(text.contains("Seccomp") && text.contains("host name"), "{text}");
    Ok(())
}

fn host() -> Result {
    matrix("program", Who::Host)
}

/// That of the mount namespace which inits start in.
fn thread() -> Result {
    matrix("program", Who::Thread)
}

/// The same for every kind.
fn launch() -> Result {
    matrix("program", Who::Launch)
}

fn init() -> Result {
    matrix("program", Who::Init)
}

fn program() -> Result {
    matrix("program", Who::Payload)
}

fn host_of_a_container() -> Result {
    matrix("container", Who::Host)
}

fn init_of_a_container() -> Result {
    matrix("container", Who::Init)
}

fn program_in_a_container() -> Result {
    matrix("container", Who::Payload)
}

/// The payload has its command from the host, and its init cannot do its own part.
fn streams_of_a_prepared_program() -> Result {
    let recorded = trace(PREPARED, &[])?;
    assert!(recorded.contains("said complete"), "{recorded}");
    let call = format!("call {:?} {}", Who::Init, libc::SYS_fcntl);
    let count = recorded.lines().filter(|line| **line == call).count();
    assert!(count > 0, "{recorded}");
    let mut hits = 0;
    for nth in 1..=u32::try_from(count).unwrap_or(0) {
        hits += u32::from(judge(PREPARED, Who::Init, libc::SYS_fcntl, nth, libc::EINVAL)?);
    }
    assert!(hits > 0);
    Ok(())
}
