//! The `jail` example, driven as an outside program would.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[path = "jail/policy.rs"]
mod policy;
#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Case, Result, Scratch, fail, number, oracle, own_exe, raw, slack, soak, timed, within};

fn main() -> ExitCode {
    let cases: &[Case] = cases![
        exit_codes: ["userns", "sh"],
        signals: ["userns", "sh"],
        help: ["bare"],
        wrong_usage: ["bare"],
        setup_failures: ["userns", "sh"],
        a_failed_setup_leaves_the_report_empty: ["bare", "userns"],
        a_report_that_cannot_be_written_costs_no_run: ["userns", "sh"],
        a_plan_runs_nothing: ["bare", "userns", "sh"],
        the_report_is_whole: ["userns", "sh"],
        idle_time: ["userns", "cgroup-cpuacct"],
        wall_time: ["userns", "sh"],
        cpu_time: ["userns", "sh", "cgroup-cpuacct"],
        cpu_time_without_a_cgroup: ["userns", "sh", "setpriv"],
        output_to_the_byte: ["userns", "sh"],
        output_of_a_flood: ["userns", "sh"],
        output_whose_reader_leaves: ["userns", "sh"],
        memory: ["userns", "cgroup-memory"],
        pids: ["userns", "sh", "cgroup-pids"],
        rlimits: ["userns", "sh"],
        scheduling: ["userns"],
        a_denied_system_call: ["userns", "sh"],
        standard_streams: ["userns", "sh"],
        closed_standard_streams: ["userns", "sh"],
        descriptors: ["userns", "sh"],
        environment_and_directory: ["userns", "sh"],
        names_of_any_bytes: ["userns", "sh"],
        mounts: ["userns", "sh"],
        an_empty_root: ["userns"],
        a_directory_as_root: ["userns"],
        overlays: ["userns", "overlay"],
        namespaces: ["userns"],
        rules_of_landlock: ["bare", "landlock-6", "sh"],
        ids: ["userns", "sh"],
        ids_by_map: ["root", "sh"],
        bare: ["bare", "userns", "sh"],
        capabilities_and_filter: ["userns"],
        best_effort: ["userns", "setpriv"],
        nobody: ["userns", "sh", "setpriv"],
        nothing_survives_a_signal: ["userns", "sh"],
        many_at_once: ["userns", "sh"],
    ];
    let cases: &'static [Case] = Box::leak([cases, policy::CASES].concat().into_boxed_slice());
    support::main_serial(cases, &[])
}

// ---- driving it ----

/// What a jail that has ended left.
struct Ended {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// The example, which cargo puts next to the directory of the test programs.
fn program() -> PathBuf {
    let profile = own_exe().ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
    let path = profile.join("examples/jail");
    assert!(path.exists(), "{} is missing: cargo build --example jail", path.display());
    path
}

fn jail(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null());
    command
}

fn ended(output: Output) -> Result<Ended> {
    let Some(code) = output.status.code() else { return fail(format!("jail was killed: {}", output.status)) };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Ended { code, stdout: output.stdout, stderr })
}

fn run(args: &[&str]) -> Result<Ended> {
    ended(jail(args).output()?)
}

/// Runs a shell script inside, behind these options.
fn run_sh(options: &[&str], script: &str) -> Result<Ended> {
    run(&[options, &["--", "/bin/sh", "-c", script]].concat())
}

/// Standard output of a run that must have succeeded.
fn out(options: &[&str], script: &str) -> Result<String> {
    let ended = run_sh(options, script)?;
    match ended.code {
        0 => Ok(ended.text()),
        code => fail(format!("{options:?} {script:?}: exit {code}: {}{}", ended.text(), ended.stderr)),
    }
}

/// Runs a jail with a report.
fn run_reported(scratch: &Scratch, args: &[&str]) -> Result<(Ended, Value)> {
    let path = scratch.join("report.json");
    let report = path.to_str().expect("a plain path");
    let ended = run(&[&["--report", report], args].concat())?;
    Ok((ended, read_report(&path)?))
}

fn read_report(path: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

fn milliseconds(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field} is a number: {report}"))
}

fn has(report: &Value, list: &str, name: &str) -> bool {
    let all = report[list].as_array().expect("a list");
    all.iter().any(|one| one == name || one["feature"] == name)
}

/// A failure before there was a program: exit code 125, nothing on stdout, one line on stderr that has all of this.
fn refused(ended: &Ended, says: &[&str]) {
    let Ended { code, stdout, stderr } = ended;
    assert_eq!((*code, stdout.as_slice()), (125, &b""[..]), "{stderr}");
    assert!(stderr.starts_with("jail: ") && stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
    for part in says {
        assert!(stderr.contains(part), "{stderr:?} does not say {part:?}");
    }
}

/// A jail for a user without any privilege.
struct Nobody {
    scratch: Scratch,
}

impl Nobody {
    fn new() -> Result<Self> {
        let scratch = Scratch::new();
        let copy = scratch.join("jail");
        support::copy_program(program(), &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        let report = scratch.file("report.json", "");
        fs::set_permissions(report, fs::Permissions::from_mode(0o666))?;
        Ok(Self { scratch })
    }

    fn run(&self, args: &[&str]) -> Result<(Ended, Value)> {
        let report = self.scratch.join("report.json");
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]);
            command.arg(self.scratch.join("jail"));
            command
        } else {
            Command::new(program())
        };
        command.arg("--report").arg(&report).args(args).current_dir("/").stdin(Stdio::null());
        let ended = ended(command.output()?)?;
        let report = if ended.code == 125 { Value::Null } else { read_report(&report)? };
        Ok((ended, report))
    }
}

// ---- exit codes and reports ----

fn exit_codes() -> Result {
    for code in [0, 1, 7, 124, 125, 137, 255] {
        assert_eq!(run_sh(&[], &format!("exit {code}"))?.code, code);
    }
    Ok(())
}

fn signals() -> Result {
    let scratch = Scratch::new();
    for (name, number) in [("SEGV", 11), ("TERM", 15), ("KILL", 9), ("RTMAX", 64)] {
        let script = format!("kill -{name} $$");
        let (ended, report) = run_reported(&scratch, &["--", "/bin/sh", "-c", &script])?;
        assert_eq!(ended.code, 128 + number);
        assert_eq!(report["verdict"], "signaled");
        assert_eq!(report["signal"], number);
        assert_eq!(report["exit_code"], Value::Null);
    }
    Ok(())
}

fn help() -> Result {
    let ended = run(&["--help"])?;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let text = ended.text();
    let options = [
        "bare",
        "rootfs",
        "overlay",
        "upper",
        "work",
        "empty",
        "ro",
        "rw",
        "tmpfs",
        "proc",
        "share",
        "uid",
        "gid",
        "map",
        "root",
        "hostname",
        "chdir",
        "env",
        "keep-env",
        "keep-fd",
        "memory",
        "swap",
        "pids",
        "cpus",
        "cpu-time",
        "wall",
        "output",
        "rlimit",
        "cap",
        "seccomp",
        "best-effort",
        "plan",
        "report",
    ];
    for option in options {
        assert!(text.contains(&format!("--{option} ")), "--{option} is not in the help");
        let ended = run(&[&format!("--{option}")])?;
        assert!(!ended.stderr.contains("is no option"), "{}", ended.stderr);
    }
    Ok(())
}

fn wrong_usage() -> Result {
    let before: &[(&[&str], &str)] = &[
        (&[], "no program"),
        (&["--"], "no program"),
        (&["--wall", "1s"], "no program"),
        (&["/bin/true"], "after --"),
        (&["-v", "--", "x"], "after --"),
        (&["--memory"], "--memory needs a value"),
        (&["--memory", "--", "x"], "--memory needs a value"),
        (&["--report", "--plan", "--", "x"], "--report needs a value"),
        (&["--plan=yes", "--", "x"], "--plan takes no value"),
        (&["--nosuch", "--", "x"], "--nosuch is no option"),
        (&["--new\nline", "--", "x"], "--new\\nline is no option"),
    ];
    for &(args, says) in before {
        refused(&run(args)?, &[says]);
    }
    let wrong: &[(&[&str], &str)] = &[
        (&["--memory", "lots"], "\"lots\" is not a size"),
        (&["--memory", "-1"], "is not a size"),
        (&["--memory", "1.5G"], "is not a size"),
        (&["--memory", "17179869184G"], "is not a size"),
        (&["--swap", ""], "is not a size"),
        (&["--output", "5T"], "is not a size"),
        (&["--pids", "many"], "is not a number"),
        (&["--pids", "18446744073709551616"], "is not a number"),
        (&["--uid", "4294967296"], "is not a number"),
        (&["--gid", "-1"], "is not a number"),
        (&["--cpus", "nan"], "is not a decimal"),
        (&["--cpus", "-1"], "is not a decimal"),
        (&["--wall", "soon"], "is not a duration"),
        (&["--wall", "1h"], "is not a duration"),
        (&["--wall", "1e3"], "is not a duration"),
        (&["--cpu-time", "-1s"], "is not a duration"),
        (&["--share", "mount"], "is none of net"),
        (&["--map", "0:1"], "is not INSIDE:OUTSIDE:COUNT"),
        (&["--map", "0:1:2:3"], "is not INSIDE:OUTSIDE:COUNT"),
        (&["--env", "NAME"], "is not NAME=VALUE"),
        (&["--rlimit", "nofile"], "is not NAME=SOFT"),
        (&["--rlimit", "nofile=few"], "is not NAME=SOFT"),
        (&["--rlimit", "nofile=1:2:3"], "is not NAME=SOFT"),
        (&["--rlimit", "luck=7"], "names no resource"),
        (&["--seccomp", "strict"], "neither default nor none"),
        (&["--landlock", "reed:/x"], "is none of nothing, system"),
        (&["--landlock", "read"], "is none of nothing, system"),
        (&["--landlock", "bind:65536"], "is not a number in range"),
        (&["--best-effort", "luck"], "names no feature"),
        (&["--keep-fd", "77"], "is no open descriptor"),
        (&["--keep-fd", "-1"], "is no open descriptor"),
        (&["--keep-fd", "0"], "cannot be kept"),
        (&["--tmpfs", "/x:lots"], "ends in no size"),
        (&["--tmpfs", "x"], "not an absolute path"),
        (&["--ro", ""], "is not a path"),
        (&["--overlay", "/usr::/etc"], "empty path"),
        (&["--overlay", "/usr", "--upper", "/tmp"], "needs --work"),
        (&["--overlay", "/usr", "--upper", "tmpfs:x"], "ends in no size"),
        (&["--overlay", "/usr", "--work", "/tmp"], "--work goes with"),
        (&["--upper", "tmpfs"], "goes with --overlay"),
        (&["--rootfs", "/", "--empty"], "second root"),
        (&["--overlay", "/usr", "--overlay", "/etc"], "second root"),
        (&["--root", "--uid", "5"], "--root is --uid 0"),
        (&["--share", "user", "--root"], "contradicts"),
        (&["--share", "uts", "--hostname", "x"], "contradicts"),
        // What the library itself refuses comes out in the same way.
        (&["--memory", "0"], "0 bytes"),
        (&["--pids", "0"], "0 processes"),
        (&["--cpus", "0"], "0 µs"),
        (&["--wall", "0"], "zero"),
        (&["--cpu-time", "0s"], "zero"),
        (&["--tmpfs", "/x:0"], "0 bytes"),
        (&["--rlimit", "nofile=9:8"], "above the hard one"),
        (&["--cap", "LUCK"], "unknown capability"),
        (&["--hostname", ""], "host name"),
        (&["--chdir", "tmp"], "not absolute"),
        (&["--env", "=x"], "no name"),
        (&["--uid", "4294967295"], "no user or group id"),
        (&["--map", "5:100000:1"], "not in the user map"),
    ];
    for &(options, says) in wrong {
        refused(&run(&[options, &["--", "/bin/true"]].concat())?, &[says]);
    }
    Ok(())
}

fn setup_failures() -> Result {
    let scratch = Scratch::new();
    let text = scratch.file("a text", "no program");
    let text = text.to_str().expect("a plain path");
    for (args, says) in [
        (&["--", "/no/such"][..], &["executing /no/such", "No such file", "inside the sandbox"][..]),
        (&["--", "nosuchprogram"], &["executing nosuchprogram", "No such file"]),
        (&["--", "/no\nsuch"], &["executing /no\\nsuch"]),
        (&["--", "/usr"], &["executing /usr", "Permission denied"]),
        (&["--", "/etc/passwd"], &["executing /etc/passwd", "Permission denied"]),
        (&["--", ""], &["empty"]),
        (&["--env", "PATH=/nowhere", "--", "true"], &["executing true"]),
        (&["--chdir", "/no/where", "--", "/bin/true"], &["working directory", "/no/where"]),
        (&["--ro", "/no/source", "--", "/bin/true"], &["/no/source", "No such file"]),
        (&["--rw", "/no/source", "--", "/bin/true"], &["/no/source", "No such file"]),
        (&["--rootfs", "/no/root", "--", "/bin/true"], &["/no/root", "No such file"]),
        (&["--rootfs", text, "--", "/bin/true"], &[text, "neither a directory nor a filesystem image"]),
        (&["--overlay", "/no/layer", "--", "/bin/true"], &["/no/layer", "No such file"]),
        (&["--report", "/no/dir/report", "--", "/bin/true"], &["/no/dir/report"]),
        (&["--report", "/", "--", "/bin/true"], &["Is a directory"]),
    ] {
        refused(&run(args)?, says);
    }
    Ok(())
}

fn a_failed_setup_leaves_the_report_empty() -> Result {
    let scratch = Scratch::new();
    let report = scratch.file("report", "of an earlier run");
    let path = report.to_str().expect("a plain path");
    refused(&run(&["--report", path, "--", "/no/such"])?, &[]);
    assert_eq!(fs::read_to_string(report)?, "");
    Ok(())
}

fn a_report_that_cannot_be_written_costs_no_run() -> Result {
    let scratch = Scratch::new();
    let dir = scratch.dir("seen");
    let bind = format!("{}:/seen", dir.display());
    let ended = run_sh(&["--rw", &bind, "--report", "/no/dir/report"], "echo ran > /seen/ran")?;
    refused(&ended, &["/no/dir/report"]);
    assert!(!dir.join("ran").exists());
    // The control: it would have been there.
    out(&["--rw", &bind], "echo ran > /seen/ran")?;
    assert!(dir.join("ran").exists());
    Ok(())
}

fn a_plan_runs_nothing() -> Result {
    let scratch = Scratch::new();
    let dir = scratch.dir("seen");
    let report = scratch.join("report");
    let bind = format!("{}:/seen", dir.display());
    let options = ["--plan", "--rw", &bind, "--wall", "90s", "--report", report.to_str().expect("plain")];
    let plan = out(&options, "echo ran > /seen/ran")?;
    for line in [
        "execve",
        "binding",
        "making the new root",
        "seccomp",
        "kill when wall time exceeds 90s",
        "enforced:",
    ] {
        assert!(plan.contains(line), "{plan}");
    }
    assert!(!dir.join("ran").exists() && !report.exists());
    refused(&run(&["--plan", "--ro", "/no/source", "--", "/bin/true"])?, &["/no/source"]);
    Ok(())
}

fn the_report_is_whole() -> Result {
    let scratch = Scratch::new();
    let (ended, report) =
        run_reported(&scratch, &["--wall", "30s", "--", "/bin/sh", "-c", "sleep 0.2; exit 3"])?;
    assert_eq!(ended.code, 3);
    let object = report.as_object().expect("an object");
    let mut fields: Vec<_> = object.keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut all = [
        "verdict",
        "exit_code",
        "signal",
        "wall_ms",
        "cpu_ms",
        "user_ms",
        "system_ms",
        "peak_memory_bytes",
        "peak_pids",
        "oom_kills",
        "output_bytes",
        "enforced",
        "skipped",
    ];
    all.sort_unstable();
    assert_eq!(fields, all);
    assert_eq!(report["verdict"], "exited");
    assert_eq!(report["exit_code"], 3);
    assert_eq!(report["signal"], Value::Null);
    let wall = milliseconds(&report, "wall_ms");
    assert!((200.0..200.0 + 100.0 * f64::from(slack())).contains(&wall), "{report}");
    assert!(milliseconds(&report, "cpu_ms") < 100.0 * f64::from(slack()), "{report}");
    assert!(milliseconds(&report, "user_ms") >= 0.0 && milliseconds(&report, "system_ms") >= 0.0);
    assert!(report["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 100 << 10), "{report}");
    assert_eq!(report["output_bytes"], 0);
    for name in
        ["user_ns", "pid_ns", "mount_ns", "net_ns", "wall_time", "seccomp", "no_new_privs", "tree_kill"]
    {
        assert!(has(&report, "enforced", name), "{report}");
    }
    for skipped in report["skipped"].as_array().expect("a list") {
        assert!(skipped["feature"].is_string() && skipped["reason"].is_string(), "{report}");
    }
    Ok(())
}

// ---- limits, in figures ----

fn idle_time() -> Result {
    let ended = run(&["--idle", "300ms", "--wall", "20s", "--", "/bin/sleep", "20"])?;
    assert_eq!(ended.code, 124, "{}", ended.stderr);
    Ok(())
}

fn wall_time() -> Result {
    let scratch = Scratch::new();
    for script in ["sleep 60", "sleep 60 & sleep 60 & wait", "trap '' TERM INT HUP; sleep 60"] {
        let args = ["--wall", "300ms", "--", "/bin/sh", "-c", script];
        let (result, took) = timed(|| run_reported(&scratch, &args));
        let (ended, report) = result?;
        assert_eq!(ended.code, 124);
        assert_eq!(report["verdict"], "wall_time_exceeded");
        let wall = milliseconds(&report, "wall_ms");
        assert!((300.0..=300.0 + 100.0 * f64::from(slack())).contains(&wall), "{report}");
        // What is promised of the limit and of the return, and what it takes to start.
        assert!(took < Duration::from_millis(300 + 100 + 250 + 100) * slack(), "{took:?}");
    }
    Ok(())
}

const BURN: &str = "while :; do :; done";
const BURN_IN_THREE: &str = "(while :; do :; done) & (while :; do :; done) & while :; do :; done";

fn cpu_time() -> Result {
    let scratch = Scratch::new();
    for script in [BURN, BURN_IN_THREE] {
        let args = ["--cpu-time", "200ms", "--wall", "30s", "--", "/bin/sh", "-c", script];
        let (ended, report) = run_reported(&scratch, &args)?;
        assert_eq!(ended.code, 124);
        assert_eq!(report["verdict"], "cpu_time_exceeded");
        assert!(has(&report, "enforced", "cpu_time"), "{report}");
        let cpu = milliseconds(&report, "cpu_ms");
        assert!((200.0..=200.0 + 50.0 * f64::from(slack())).contains(&cpu), "{report}");
    }
    Ok(())
}

fn cpu_time_without_a_cgroup() -> Result {
    let nobody = Nobody::new()?;
    for script in [BURN, BURN_IN_THREE] {
        let args = [
            "--cpu-time",
            "200ms",
            "--best-effort",
            "cpu_time",
            "--wall",
            "30s",
            "--",
            "/bin/sh",
            "-c",
            script,
        ];
        let (ended, report) = nobody.run(&args)?;
        assert_eq!(ended.code, 124, "{}", ended.stderr);
        assert_eq!(report["verdict"], "cpu_time_exceeded");
        let cpu = milliseconds(&report, "cpu_ms");
        assert!((200.0..=200.0 + 50.0 * f64::from(slack())).contains(&cpu), "{report}");
    }
    Ok(())
}

fn output_to_the_byte() -> Result {
    let scratch = Scratch::new();
    let (ended, report) = run_reported(&scratch, &["--output", "6", "--", "/bin/echo", "hello"])?;
    assert_eq!((ended.code, ended.text().as_str()), (0, "hello\n"));
    assert_eq!((&report["verdict"], &report["output_bytes"]), (&"exited".into(), &6.into()));
    assert!(has(&report, "enforced", "output"), "{report}");

    let (ended, report) = run_reported(&scratch, &["--output", "5", "--", "/bin/echo", "hello"])?;
    assert_eq!((ended.code, ended.text().as_str()), (124, "hello"));
    assert_eq!((&report["verdict"], &report["output_bytes"]), (&"output_exceeded".into(), &6.into()));

    // Both streams draw on one budget.
    let ended = run_sh(&["--output", "8"], "echo out; sleep 0.1; echo err >&2; sleep 0.1; echo more")?;
    assert_eq!((ended.code, ended.text().as_str(), ended.stderr.as_str()), (124, "out\n", "err\n"));
    let ended = run_sh(&["--output", "0"], "echo x")?;
    assert_eq!((ended.code, ended.text().as_str()), (124, ""));
    let ended = run_sh(&["--output", "0"], "exit 4")?;
    assert_eq!(ended.code, 4);
    Ok(())
}

fn output_of_a_flood() -> Result {
    let scratch = Scratch::new();
    for script in ["exec yes", "exec yes >&2", "yes & yes >&2 & wait"] {
        let args = ["--output", "100K", "--wall", "30s", "--", "/bin/sh", "-c", script];
        let (ended, report) = run_reported(&scratch, &args)?;
        assert_eq!(ended.code, 124);
        assert_eq!(ended.stdout.len() + ended.stderr.len(), 100 << 10, "{script}");
        assert_eq!(report["verdict"], "output_exceeded");
        assert_eq!(report["signal"], 9, "{report}");
        let read = report["output_bytes"].as_u64().expect("a number");
        assert!(((100 << 10) + 1..=(100 << 10) + (64 << 10)).contains(&read), "{report}");
    }
    Ok(())
}

fn output_whose_reader_leaves() -> Result {
    for options in [&["--wall", "30s"][..], &["--wall", "30s", "--output", "1G"]] {
        let mut child =
            jail(&[options, &["--", "/bin/sh", "-c", "exec yes"]].concat()).stdout(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        assert_eq!(child.wait()?.code(), Some(128 + 13), "it dies of SIGPIPE, as it would outside");
    }
    Ok(())
}

fn memory() -> Result {
    let scratch = Scratch::new();
    // tail(1) keeps the line that never ends.
    let args = ["--memory", "16M", "--swap", "0", "--best-effort", "swap_max", "--wall", "60s"];
    let (ended, report) = run_reported(&scratch, &[&args[..], &["--", "tail", "/dev/zero"]].concat())?;
    assert_eq!(ended.code, 137, "{}", ended.stderr);
    assert_eq!(report["verdict"], "memory_exceeded");
    assert_eq!(report["oom_kills"], 1);
    let peak = report["peak_memory_bytes"].as_u64().expect("a number");
    assert!(((15 << 20)..=(16 << 20)).contains(&peak), "{report}");
    // So little that even execve does not fit is the same verdict.
    let (ended, report) = run_reported(&scratch, &["--memory", "4K", "--", "/bin/true"])?;
    assert_eq!((ended.code, &report["verdict"]), (137, &"memory_exceeded".into()));
    let (_, report) = run_reported(&scratch, &["--memory", "18446744073709551615", "--", "/bin/true"])?;
    assert_eq!((&report["verdict"], &report["oom_kills"]), (&"exited".into(), &0.into()));
    Ok(())
}

fn pids() -> Result {
    let scratch = Scratch::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3 & done; wait";
    let (ended, report) = run_reported(&scratch, &["--pids", "4", "--", "/bin/sh", "-c", script])?;
    assert_ne!(ended.code, 0, "{}", ended.stderr);
    let peak = &report["peak_pids"]; // Linux 6.1
    assert!(*peak == 4 || peak.is_null(), "{report}");
    let (ended, report) = run_reported(&scratch, &["--pids", "10", "--", "/bin/sh", "-c", script])?;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(report["peak_pids"] == 10 || report["peak_pids"].is_null(), "{report}");
    Ok(())
}

fn rlimits() -> Result {
    assert_eq!(out(&["--rlimit", "nofile=64"], "ulimit -Sn; ulimit -Hn")?, "64\n64\n");
    assert_eq!(out(&["--rlimit", "RLIMIT_NOFILE=32:64"], "ulimit -Sn; ulimit -Hn")?, "32\n64\n");
    assert_eq!(out(&["--rlimit", "stack=4M:8M"], "ulimit -Ss; ulimit -Hs")?, "4096\n8192\n");
    let unlimited = run_sh(&["--rlimit", "cpu=unlimited"], "ulimit -t")?;
    assert!(unlimited.text() == "unlimited\n" || unlimited.code == 125, "{}", unlimited.stderr);
    let ended = run_sh(&["--rlimit", "fsize=4K"], "exec head -c 8K /dev/zero > /tmp/large")?;
    assert_eq!(ended.code, 124);
    Ok(())
}

fn scheduling() -> Result {
    let stat = |options: &[&str]| -> Result<Vec<String>> {
        let ended = run(&[options, &["--", "/bin/cat", "/proc/self/stat"]].concat())?;
        assert_eq!(ended.code, 0, "{options:?}: {}", ended.stderr);
        let text = ended.text();
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        Ok(fields.split_whitespace().map(str::to_owned).collect())
    };
    // The 19th and the 41st of proc_pid_stat(5), of which the third is the first here.
    let fields = stat(&["--nice", "19", "--sched", "batch", "--ioprio", "be:7", "--cpu-list", "0"])?;
    assert_eq!((fields[16].as_str(), fields[38].as_str()), ("19", "3"));
    assert_eq!(stat(&["--sched", "idle", "--ioprio=idle"])?[38], "5");
    // The 28th, where the stack begins.
    assert_eq!(stat(&["--deterministic"])?[25], stat(&["--deterministic"])?[25]);
    let wrong: &[&[&str]] = &[
        &["--nice", "100"],
        &["--nice", "x"],
        &["--sched", "fifo"],
        &["--sched", "fifo:0"],
        &["--sched", "rr:200"],
        &["--sched", "batch:1"],
        &["--sched", "deadline"],
        &["--ioprio", "be"],
        &["--ioprio", "be:8"],
        &["--ioprio", "idle:1"],
        &["--cpu-list", ""],
        &["--cpu-list", "1-0"],
        &["--cpu-list", "0-99999999999"],
        &["--cpu-list", "4096"],
    ];
    for options in wrong {
        let ended = run(&[options, &["--", "/bin/true"][..]].concat())?;
        assert_eq!((ended.code, ended.stderr.lines().count()), (125, 1), "{options:?}: {}", ended.stderr);
    }
    Ok(())
}

fn a_denied_system_call() -> Result {
    let scratch = Scratch::new();
    let (ended, report) = run_reported(&scratch, &["--", "/bin/sh", "-c", "kill -SYS $$"])?;
    assert_eq!((ended.code, &report["verdict"]), (128 + 31, &"syscall_denied".into()));
    Ok(())
}

// ---- what is passed on ----

fn standard_streams() -> Result {
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for options in [&[][..], &["--output", "4M"]] {
        let mut command = jail(&[options, &["--", "/bin/cat"]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().expect("piped");
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                stdin.write_all(&data).expect("cat reads all");
                drop(stdin);
            });
            child.wait_with_output()
        })?;
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout == data, "{} of {} bytes came through", output.stdout.len(), data.len());
        let ended = run_sh(options, "echo out; echo err >&2; cat; exit 5")?;
        assert_eq!((ended.code, ended.text().as_str(), ended.stderr.as_str()), (5, "out\n", "err\n"));
    }
    Ok(())
}

/// Runs a jail behind a shell redirection.
fn redirected(redirection: &str, args: &[&str]) -> Result<Ended> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]).arg(program()).args(args);
    ended(command.stdin(Stdio::null()).output()?)
}

fn closed_standard_streams() -> Result {
    for options in [&[][..], &["--output", "1G"]] {
        let script = [options, &["--", "/bin/sh", "-c", "cat; echo out; echo err >&2; exit 3"]].concat();
        for redirection in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            let ended = redirected(redirection, &script)?;
            assert_eq!(ended.code, 3, "{redirection}: {}", ended.stderr);
            assert_eq!(
                ended.text().is_empty(),
                redirection.contains(" >&-") || redirection.starts_with(">&-")
            );
        }
        // The one sees its own writes fail, the other that nobody reads its pipe.
        let insist = ["--", "/bin/sh", "-c", "while echo x; do :; done; exit 3"];
        let ended = redirected(">/dev/full", &[options, &insist].concat())?;
        assert_eq!(ended.code, if options.is_empty() { 3 } else { 128 + 13 }, "{}", ended.stderr);
    }
    assert_eq!(redirected("<&- >&- 2>&-", &["--nosuch"])?.code, 125);
    assert_eq!(redirected(">/dev/full", &["--plan", "--", "/bin/true"])?.code, 125);
    Ok(())
}

fn descriptors() -> Result {
    let scratch = Scratch::new();
    let file = scratch.file("a", "content\n");
    let open = format!("7<{0} 9<{0} 5<{0}", file.display());
    let list = ["--", "/bin/sh", "-c", "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"];
    let numbers = |ended: Ended| -> Vec<u32> {
        let text = ended.text();
        text.lines().filter_map(|line| line.parse().ok()).filter(|number| (3..10).contains(number)).collect()
    };
    // The shell itself may have one open while it lists; 5, 7 and 9 it does not choose.
    let stray = numbers(redirected(&open, &list)?);
    assert!(!stray.iter().any(|number| [5, 7, 9].contains(number)), "{stray:?}");
    let kept = numbers(redirected(&open, &[&["--keep-fd", "7", "--keep-fd=9"], &list[..]].concat())?);
    assert!(kept.contains(&7) && kept.contains(&9) && !kept.contains(&5), "{kept:?}");
    let ended = redirected(&open, &["--keep-fd", "7", "--", "/bin/sh", "-c", "cat <&7"])?;
    assert_eq!(ended.text(), "content\n");
    Ok(())
}

fn environment_and_directory() -> Result {
    let env = |args: &[&str]| -> Result<String> {
        let mut command = jail(&[args, &["--", "/usr/bin/env"]].concat());
        command.env_clear().env("SECRET", "of the host");
        let mut lines: Vec<_> = ended(command.output()?)?.text().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        Ok(lines.join(" "))
    };
    assert_eq!(env(&[])?, "");
    assert_eq!(env(&["--env", "A=b=c", "--env", "B="])?, "A=b=c B=");
    assert_eq!(env(&["--env", "A=1", "--env", "A=2"])?, "A=2");
    assert_eq!(env(&["--keep-env", "--env=A=1"])?, "A=1 SECRET=of the host");
    assert_eq!(out(&[], "pwd")?, "/\n");
    assert_eq!(out(&["--chdir", "/tmp"], "pwd")?, "/tmp\n");
    assert_eq!(out(&["--hostname", "ward-7"], "uname -n")?, "ward-7\n");
    assert_eq!(out(&["--hostname=--plan"], "uname -n")?, "--plan\n");
    Ok(())
}

fn names_of_any_bytes() -> Result {
    let scratch = Scratch::new();
    for name in
        ["with space", "comma,colon:quote\"", "back\\slash", "new\nline", "-dash", "%s $HOME `x`", "ünï"]
    {
        let dir = scratch.dir(name);
        fs::write(dir.join("note"), name)?;
        let dir = dir.to_str().expect("UTF-8");
        // Under its own name, and under another one.
        assert_eq!(out(&["--ro", dir, "--chdir", dir], "cat note")?, name);
        assert_eq!(out(&["--ro", &format!("{dir}:/d"), "--chdir", "/d"], "cat note")?, name);
        let inside = format!("/in/{name}");
        assert_eq!(out(&["--ro", &format!("{dir}:{inside}"), "--chdir", &inside], "cat note")?, name);
        assert_eq!(out(&["--env", &format!("N={name}")], "printf %s \"$N\"")?, name);
    }
    // A colon before a slash is written with a backslash.
    let odd = scratch.dir("a:").join("b");
    fs::write(&odd, "odd")?;
    let escaped = odd.to_str().expect("UTF-8").replace(':', "\\:");
    assert_eq!(out(&["--ro", &format!("{escaped}:/x\\:/y")], "cat /x:/y")?, "odd");
    assert_eq!(out(&["--tmpfs", "/t\\:1:1M"], "ls -d /t:1")?, "/t:1\n");
    // No text at all.
    let bytes = OsString::from_vec(vec![b'n', 0xff, 0xfe]);
    let dir = scratch.join(&bytes);
    fs::create_dir(&dir)?;
    let mut command = jail(&["--hostname", "x", "--ro"]);
    command.arg(&dir).arg("--chdir").arg(&dir).args(["--", "/bin/sh", "-c", "printf %s \"$1\"", "sh"]);
    let ended = ended(command.arg(&bytes).output()?)?;
    assert_eq!((ended.code, ended.stdout), (0, bytes.into_vec()), "{}", ended.stderr);
    Ok(())
}

// ---- what is there ----

fn mounts() -> Result {
    let scratch = Scratch::new();
    let dir = scratch.dir("dir");
    let file = scratch.file("file", "x");
    let ro = format!("{}:/d", dir.display());
    assert_ne!(run_sh(&["--ro", &ro], "echo y > /d/new")?.code, 0);
    assert!(!dir.join("new").exists());
    // What is written belongs to whom the directory belongs to.
    out(&["--rw", &ro], "echo y > /d/new")?;
    assert_eq!(fs::read_to_string(dir.join("new"))?, "y\n");
    let owner = |path: &Path| -> Result<u32> {
        use std::os::unix::fs::MetadataExt;
        Ok(fs::metadata(path)?.uid())
    };
    assert_eq!(owner(&dir.join("new"))?, owner(&dir)?);
    // A relative source, and one file.
    let mut command = jail(&["--ro", "file:/f", "--", "/bin/cat", "/f"]);
    let ended = ended(command.current_dir(file.parent().expect("in scratch")).output()?)?;
    assert_eq!((ended.code, ended.text().as_str()), (0, "x"));
    // In the order given: what comes later lies on top.
    assert_ne!(run_sh(&["--ro", &ro, "--tmpfs", "/d"], "cat /d/new")?.code, 0);
    let filled = run_sh(&["--tmpfs", "/t:1M"], "head -c 2M /dev/zero > /t/x")?;
    assert!(filled.code != 0 && filled.stderr.contains("No space"), "{}", filled.stderr);
    out(&["--tmpfs", "/t"], "head -c 2M /dev/zero > /t/x")?;
    assert_ne!(run_sh(&[], "cat /proc/uptime")?.code, 0);
    out(&["--proc"], "cat /proc/uptime")?;
    assert_ne!(run_sh(&[], "cat /etc/shadow")?.code, 0);
    Ok(())
}

/// Options that show this program at `/payload` with all that it is linked to.
fn with_payload() -> Vec<String> {
    let mut options = vec!["--ro".to_owned(), format!("{}:/payload", own_exe().display())];
    for dir in ["/usr", "/lib", "/lib32", "/lib64", "/libx32"] {
        if Path::new(dir).exists() {
            options.extend(["--ro".to_owned(), dir.to_owned()]);
        }
    }
    options
}

/// Runs a role inside, behind these options.
fn role(options: &[&str], role: &[&str]) -> Result<Ended> {
    let payload = with_payload();
    let payload: Vec<_> = payload.iter().map(String::as_str).collect();
    run(&[options, &payload, &["--", "/payload", "--role"], role].concat())
}

fn an_empty_root() -> Result {
    let ended = role(&["--empty", "--proc"], &["exit", "6"])?;
    assert_eq!(ended.code, 6, "{}", ended.stderr);
    assert_eq!(role(&["--empty"], &["cat", "/dev/null"])?.code, 0);
    let ended = role(&["--empty"], &["cat", "/etc/passwd"])?;
    assert!(ended.text().contains("errno 2"), "{}", ended.text());
    Ok(())
}

fn a_directory_as_root() -> Result {
    let scratch = Scratch::new();
    for dir in ["root/dev", "root/usr", "root/lib", "root/lib32", "root/lib64", "root/libx32", "root/proc"] {
        scratch.dir(dir);
    }
    scratch.file("root/payload", "");
    scratch.file("root/note", "of the root");
    let root = scratch.join("root");
    let path = root.to_str().expect("UTF-8");
    assert_eq!(role(&["--rootfs", path], &["cat", "/note"])?.text(), "of the root");
    assert_eq!(role(&["--rootfs", path], &["cat", "/dev/null"])?.code, 0);
    assert_eq!(role(&["--rootfs", path, "--proc"], &["exit", "3"])?.code, 3);
    let before = oracle::snapshot(&root);
    refused(&role(&["--rootfs", path, "--tmpfs", "/missing"], &["exit", "0"])?, &["/missing"]);
    assert_eq!(oracle::snapshot(&root), before);
    // Without a directory for it there is no /dev, and a link is not followed.
    fs::remove_dir(root.join("dev"))?;
    let ended = role(&["--rootfs", path], &["cat", "/dev/null"])?;
    assert!(ended.text().contains("errno 2"), "{}", ended.text());
    std::os::unix::fs::symlink("/proc", root.join("dev"))?;
    assert_eq!(role(&["--rootfs", path], &["exit", "3"])?.code, 3);
    Ok(())
}

fn overlays() -> Result {
    let scratch = Scratch::new();
    let layers = [scratch.dir("top,1"), scratch.dir("bot:tom")];
    for (layer, names) in layers.iter().zip([&["a"][..], &["a", "b"]]) {
        for name in names {
            fs::write(layer.join(name), layer.file_name().expect("it has one").as_encoded_bytes())?;
        }
    }
    let list = layers.each_ref().map(|layer| layer.to_str().expect("UTF-8").replace(':', "\\:")).join(":");
    let overlay: &[&str] = &["--overlay", &list];
    assert_eq!(role(overlay, &["cat", "/a"])?.text(), "top,1");
    assert_eq!(role(overlay, &["cat", "/b"])?.text(), "bot:tom");
    assert_eq!(role(overlay, &["cat", "/dev/null"])?.code, 0);
    // As the owner of the layers, which is who may write to them.
    let write = |upper: &[&str]| -> Result<Ended> {
        let script = "echo new > /a && cat /a";
        let sh = ["--ro", "/bin", "--", "/bin/sh", "-c", script];
        let payload = with_payload();
        let payload: Vec<_> = payload.iter().map(String::as_str).collect();
        run(&[overlay, &["--root"], upper, &payload, &sh].concat())
    };
    assert_ne!(write(&[])?.code, 0);
    for upper in ["tmpfs", "tmpfs:8M"] {
        let ended = write(&["--upper", upper])?;
        assert_eq!((ended.code, ended.text().as_str()), (0, "new\n"), "{}", ended.stderr);
    }
    let (upper, work) = (scratch.dir("upper"), scratch.dir("work"));
    let dirs = ["--upper", upper.to_str().expect("UTF-8"), "--work", work.to_str().expect("UTF-8")];
    let ended = write(&dirs)?;
    assert_eq!((ended.code, ended.text().as_str()), (0, "new\n"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(upper.join("a"))?, "new\n");
    assert_eq!(fs::read_to_string(layers[0].join("a"))?, "top,1");
    // Overlayfs leaves a directory without permissions there, which its owner cannot remove.
    fs::set_permissions(work.join("work"), fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn namespaces() -> Result {
    const NAMES: [(&str, &str); 7] = [
        ("net", "net"),
        ("pid", "pid"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
        ("user", "user"),
    ];
    let inside = |options: &[&str], file: &str| -> Result<String> {
        let link = format!("/proc/self/ns/{file}");
        let ended = run(&[options, &["--", "/usr/bin/readlink", &link]].concat())?;
        match ended.code {
            0 => Ok(ended.text().trim().to_owned()),
            _ => fail(ended.stderr),
        }
    };
    for (name, file) in NAMES {
        let own = oracle::namespace("self", file);
        assert_ne!(inside(&[], file)?, own, "{name}");
        if name != "user" || nix::unistd::geteuid().is_root() {
            assert_eq!(inside(&["--share", name], file)?, own, "{name}");
        }
        assert_eq!(inside(&["--bare"], file)?, own, "{name}");
    }
    Ok(())
}

// ---- who runs ----

fn ids() -> Result {
    let id = |options: &[&str]| out(options, "echo $(id -u) $(id -g) $(id -G)");
    assert_eq!(id(&[])?, "1000 1000 1000\n");
    assert_eq!(id(&["--root"])?, "0 0 0\n");
    assert_eq!(id(&["--uid", "5", "--gid", "6"])?, "5 6 6\n");
    assert_eq!(id(&["--uid", "5"])?, "5 1000 1000\n");
    assert_eq!(id(&["--gid", "6"])?, "1000 6 6\n");
    Ok(())
}

fn ids_by_map() -> Result {
    let maps = out(&["--map", "0:500000:10", "--map", "10:600000:5", "--root"], "cat /proc/self/uid_map")?;
    let numbers: Vec<_> = maps.split_whitespace().collect();
    assert_eq!(numbers, ["0", "500000", "10", "10", "600000", "5"]);
    refused(&run_sh(&["--map", "0:0:1", "--root"], "id")?, &["id 0 of the host"]);
    Ok(())
}

fn bare() -> Result {
    // Nothing but what is always there.
    let scratch = Scratch::new();
    let (ended, report) = run_reported(&scratch, &["--bare", "--", "/bin/sh", "-c", "id -u"])?;
    assert_eq!(ended.text().trim(), nix::unistd::geteuid().to_string());
    assert_eq!(report["enforced"], serde_json::json!(["no_new_privs"]));
    assert!(has(&report, "skipped", "tree_kill"), "{report}");
    // And each option adds one thing.
    let (_, report) = run_reported(&scratch, &["--bare", "--root", "--hostname", "x", "--", "/bin/true"])?;
    for name in ["user_ns", "uts_ns"] {
        assert!(has(&report, "enforced", name), "{report}");
    }
    assert!(!has(&report, "enforced", "net_ns"), "{report}");
    // A process that leaves the session does not hold the run up, nor the pipe that it has.
    let left = "setsid sleep 54321 & echo started";
    let (result, took) = timed(|| run_sh(&["--bare", "--output", "1M"], left));
    assert_eq!(result?.text(), "started\n");
    assert!(took < Duration::from_secs(2) * slack(), "{took:?}");
    Ok(())
}

fn capabilities_and_filter() -> Result {
    let field = |options: &[&str], name: &str| -> Result<String> {
        let ended = run(&[options, &["--", "/bin/cat", "/proc/self/status"]].concat())?;
        Ok(oracle::fields(&ended.text()).remove(name).unwrap_or(ended.stderr))
    };
    assert_eq!(field(&[], "CapEff")?, "0000000000000000");
    for name in ["NET_BIND_SERVICE", "cap_net_bind_service"] {
        assert_eq!(field(&["--cap", name], "CapEff")?, "0000000000000400");
    }
    assert_eq!(field(&[], "Seccomp")?, "2");
    assert_eq!(field(&["--seccomp", "none"], "Seccomp")?, "0");
    assert_eq!(field(&["--bare", "--seccomp", "default"], "Seccomp")?, "2");
    assert_eq!(field(&["--bare"], "NoNewPrivs")?, "1");
    Ok(())
}

fn rules_of_landlock() -> Result {
    let scratch = Scratch::new();
    let (out_dir, secret) = (scratch.dir("out"), scratch.file("secret", "secret\n"));
    let write = format!("write:{}", out_dir.display());
    let script = format!(
        "cat {}; echo x > {}/file; cat {}/file",
        secret.display(),
        out_dir.display(),
        out_dir.display()
    );
    let options = ["--bare", "--landlock", "system", "--landlock", &write];
    let ended = run_sh(&options, &script)?;
    assert_eq!((ended.code, ended.stdout.len()), (1, 0), "it may write there, and read nothing");
    assert_eq!(std::fs::read_to_string(out_dir.join("file"))?, "x\n");
    assert_eq!(out(&["--bare"], &script)?, "secret\nx\n");
    refused(&run(&["--bare", "--landlock", "nothing", "--", "/bin/sh"])?, &["landlock must allow execute"]);
    refused(&run(&["--apparmor", "a b", "--", "/bin/sh"])?, &["is no profile of apparmor"]);
    refused(&run(&["--selinux", "a", "--", "/bin/sh"])?, &["is no context of selinux"]);
    Ok(())
}

// ---- other hosts, other days ----

fn best_effort() -> Result {
    let nobody = Nobody::new()?;
    let limits = [
        ("--memory", "64M", "memory_max"),
        ("--pids", "9", "pids_max"),
        ("--cpus", "1", "cpu_max"),
        ("--cpu-time", "9s", "cpu_time"),
    ];
    for (option, value, feature) in limits {
        let (ended, report) = nobody.run(&[option, value, "--", "/bin/true"])?;
        if ended.code == 0 {
            // Somebody has delegated a cgroup to this user.
            assert!(has(&report, "enforced", feature), "{report}");
            continue;
        }
        refused(&ended, &["cgroup", "as root"]);
        let (ended, report) = nobody.run(&[option, value, "--best-effort", feature, "--", "/bin/true"])?;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(has(&report, "skipped", feature) && !has(&report, "enforced", feature), "{report}");
        assert_eq!((&report["oom_kills"], &report["peak_pids"]), (&Value::Null, &Value::Null));
        assert!(report["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 100 << 10), "{report}");
    }
    Ok(())
}

fn nobody() -> Result {
    let nobody = Nobody::new()?;
    let sh =
        |options: &[&str], script: &str| nobody.run(&[options, &["--", "/bin/sh", "-c", script]].concat());
    let (ended, report) = sh(&[], "echo $(id -u) $(id -g); exit 7")?;
    assert_eq!((ended.code, ended.text().as_str()), (7, "1000 1000\n"), "{}", ended.stderr);
    assert!(has(&report, "enforced", "tree_kill"), "{report}");
    assert_eq!(sh(&["--root"], "id -u")?.0.text(), "0\n");
    assert_eq!(sh(&[], "kill -SEGV $$")?.0.code, 139);
    assert_eq!(sh(&["--wall", "200ms"], "sleep 60")?.0.code, 124);
    let (ended, _) = sh(&["--output", "10"], "exec yes")?;
    assert_eq!((ended.code, ended.text().as_str()), (124, "y\ny\ny\ny\ny\n"));
    let dir = nobody.scratch.dir("writable");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    let bind = format!("{}:/w", dir.display());
    assert_eq!(sh(&["--rw", &bind], "echo x > /w/x")?.0.code, 0);
    assert_eq!(fs::read_to_string(dir.join("x"))?, "x\n");
    refused(&nobody.run(&["--share", "user", "--", "/bin/true"])?.0, &["user namespace"]);
    refused(&nobody.run(&["--", "/no/such"])?.0, &["/no/such"]);
    Ok(())
}

fn nothing_survives_a_signal() -> Result {
    let marks = [(Signal::SIGTERM, "71001"), (Signal::SIGKILL, "71002"), (Signal::SIGHUP, "71003")];
    for (signal, mark) in marks {
        // Whoever runs the tests by nohup(1) ignores one of them, and programs inherit that.
        raw::disposition(signal as i32, false);
        for options in [&[][..], &["--output", "1M"], &["--bare"], &["--share", "pid"]] {
            let sleep = format!("sleep {mark}.{}", std::process::id());
            let script = format!("{sleep} & setsid {sleep} & {sleep}");
            let mut child = jail(&[options, &["--", "/bin/sh", "-c", &script]].concat()).spawn()?;
            let alive = || oracle::processes_with(&sleep.replace(' ', "\0")).len();
            assert!(within(Duration::from_secs(5) * slack(), || alive() == 3), "{} of 3 sleepers", alive());
            kill(Pid::from_raw(child.id() as i32), signal)?;
            child.wait()?;
            let (gone, took) = timed(|| within(Duration::from_secs(5) * slack(), || alive() == 0));
            assert!(gone && took < Duration::from_secs(1) * slack(), "{options:?} {signal}: {took:?}");
        }
    }
    Ok(())
}

fn many_at_once() -> Result {
    let count = number("BELLJAR_TEST_CONTAINERS", if soak() { 1000 } else { 100 });
    for options in [&[][..], &["--output", "1K", "--wall", "60s"]] {
        let children: Vec<_> = (0..count)
            .map(|n| {
                let code = (n % 100).to_string();
                let mut command =
                    jail(&[options, &["--", "/bin/sh", "-c", "echo $0; exit $0", &code]].concat());
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
            })
            .collect::<std::io::Result<_>>()?;
        for (n, child) in children.into_iter().enumerate() {
            let ended = ended(child.wait_with_output()?)?;
            let code = n as i32 % 100;
            assert_eq!((ended.code, ended.text()), (code, format!("{code}\n")), "{}", ended.stderr);
        }
    }
    Ok(())
}
