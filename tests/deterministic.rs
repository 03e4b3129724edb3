//! Runs that repeat, and runs that do not.
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
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Mount, Sandbox};
use support::{Result, Scratch, closed, hold, oracle, raw, run_role, slack};

fn main() -> ExitCode {
    let cases = cases![
        two_runs_are_the_same: ["userns"],
        two_runs_of_a_c_program_are_the_same: ["userns", "cc"],
        what_is_fixed_is_what_is_said: ["userns"],
        later_calls_override: ["userns"],
        the_processor_is_one_of_the_cpuset: ["userns", "cgroup-cpuset", "two-processors"],
        without_privilege: ["userns", "setpriv"],
        in_an_open_sandbox: ["root", "payload-place"],
    ];
    support::main_serial(cases, &[("tell-all", tell_all), ("unprivileged", unprivileged)])
}

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).unwrap_or_default()
}

/// Everything that tends to differ from run to run.
fn tell_all(_: &[OsString]) -> i32 {
    let local = 0_u8;
    let heap = Box::new(0_u8);
    let mapping = vec![0_u8; 8 << 20];
    println!("stack: {:p}", &raw const local);
    println!("heap: {:p}", &raw const *heap);
    println!("mapping: {:p}", mapping.as_ptr());
    println!("code: {:p}", tell_all as *const ());
    println!("pid: {}", std::process::id());
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    println!("uptime: {}", uptime.split('.').next().unwrap_or_default());
    println!("monotonic: {}", raw::clock(libc::CLOCK_MONOTONIC) as u64);
    println!("boottime: {}", raw::clock(libc::CLOCK_BOOTTIME) as u64);
    println!("processors: {}", std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get));
    println!("umask: {}", oracle::status_of("self").get("Umask").cloned().unwrap_or_default());
    let names = nix::sys::utsname::uname().expect("uname works");
    println!("host: {}", names.nodename().to_string_lossy());
    for (key, value) in std::env::vars() {
        println!("env {key}: {value}");
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines() {
        println!("map: {}", line.split(' ').next().unwrap_or_default());
    }
    0
}

fn two_runs_are_the_same() -> Result {
    let plan = closed().deterministic().plan()?;
    let run = || support::succeed(plan.output(support::payload("tell-all", &[]))?);
    let first = run()?;
    assert_eq!(first, run()?);
    // Another plan, which has another processor where there are two.
    assert_eq!(first, run_role(&closed().deterministic(), "tell-all", &[])?);
    // The positive control: without it they differ, in each of these.
    let (one, other) = (run_role(&closed(), "tell-all", &[])?, run_role(&closed(), "tell-all", &[])?);
    for key in ["stack", "heap", "mapping", "code"] {
        assert_ne!(line(&one, key), line(&other, key), "{key}");
    }
    assert_ne!(line(&first, "boottime"), line(&one, "boottime"));
    Ok(())
}

/// The same of a program that has another C runtime than ours.
fn two_runs_of_a_c_program_are_the_same() -> Result {
    const SOURCE: &str = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        #include <time.h>
        #include <unistd.h>
        extern char **environ;
        int main(int argc, char **argv) {
            int local;
            struct timespec up;
            clock_gettime(CLOCK_BOOTTIME, &up);
            printf("%p %p %p %p %p %d %ld\n", (void *)&local, malloc(10), malloc(1 << 22), (void *)main, (void *)argv,
                   getpid(), (long)up.tv_sec);
            for (char **e = environ; *e; e++)
                puts(*e);
            return 0;
        }
    "#;
    let scratch = Scratch::new();
    let program = support::compile(&scratch, "tell", SOURCE, &["-pie", "-fPIE"])?;
    let sandbox = Sandbox::new().mount(Mount::bind(&program, "/tell"));
    let run = |sandbox: &Sandbox| support::succeed(sandbox.output(belljar::Command::new("/tell"))?);
    let fixed = sandbox.clone().deterministic();
    let first = run(&fixed)?;
    assert!(first.ends_with(" 2 1000\nLANG=C\nTZ=UTC\nPATH=/usr/local/bin:/usr/bin:/bin\n"), "{first}");
    for _ in 0..5 {
        assert_eq!(first, run(&fixed)?);
    }
    assert_ne!(run(&sandbox)?, run(&sandbox)?, "the positive control");
    Ok(())
}

fn what_is_fixed_is_what_is_said() -> Result {
    let held = hold(&closed().deterministic())?;
    let personality = fs::read_to_string(format!("/proc/{}/personality", held.pid))?;
    assert_eq!(personality.trim(), "00040000");
    let processors = oracle::schedule(held.pid).processors;
    assert!(processors.parse::<usize>().is_ok(), "one: {processors}");
    held.release()?;
    let text = run_role(&closed().deterministic(), "tell-all", &[])?;
    for clock in ["monotonic", "boottime"] {
        let seconds: u64 = line(&text, clock).parse().unwrap_or(0);
        assert!((1000..1000 + 2 * u64::from(slack())).contains(&seconds), "{clock}: {seconds}");
    }
    let rest =
        ["pid", "processors", "umask", "host", "env LANG", "env TZ", "env PATH"].map(|key| line(&text, key));
    assert_eq!(rest, ["2", "1", "0022", "belljar", "C", "UTC", "/usr/local/bin:/usr/bin:/bin"]);
    // The positive control.
    let held = hold(&closed())?;
    assert_eq!(fs::read_to_string(format!("/proc/{}/personality", held.pid))?.trim(), "00000000");
    held.release().map(drop)
}

fn later_calls_override() -> Result {
    let sandbox = closed().deterministic().env("LANG", "C.UTF-8").hostname("other").cpu_affinity([0]);
    let held = hold(&sandbox)?;
    assert_eq!(oracle::schedule(held.pid).processors, "0");
    held.release()?;
    let text = run_role(&sandbox.clone().monotonic_offset(5_000_000), "tell-all", &[])?;
    assert_eq!([line(&text, "env LANG"), line(&text, "host")], ["C.UTF-8", "other"]);
    let ahead: u64 = line(&text, "monotonic").parse().unwrap_or(0);
    assert!(ahead > 5_000_000, "{ahead}");
    let shared = run_role(&sandbox.share_time(), "tell-all", &[])?;
    let host = raw::clock(libc::CLOCK_MONOTONIC) as u64;
    let inside: u64 = line(&shared, "monotonic").parse().unwrap_or(0);
    assert!(host.abs_diff(inside) < 10 * u64::from(slack()), "{host} and {inside}");
    Ok(())
}

/// Whichever turn it is, the one processor is among those that the cpuset leaves.
fn the_processor_is_one_of_the_cpuset() -> Result {
    let own = oracle::schedule(std::process::id()).processors;
    let own: belljar::CpuSet = own.parse()?;
    for processor in own.iter() {
        let sandbox = closed().deterministic().cpuset_cpus([processor]);
        for _ in 0..2 * own.iter().count() {
            let held = hold(&sandbox)?;
            assert_eq!(oracle::schedule(held.pid).processors, processor.to_string());
            held.release()?;
        }
    }
    let error = closed().deterministic().cpuset_cpus([65_000]).plan().expect_err("nobody has so many");
    assert_eq!(error.kind(), belljar::ErrorKind::InvalidConfig, "{}", support::explain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains(&own.to_string())), "{}", support::explain(&error));
    Ok(())
}

fn without_privilege() -> Result {
    let helper = support::as_nobody("unprivileged", &[], Duration::from_secs(60))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn unprivileged(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let sandbox = closed().deterministic();
        let first = run_role(&sandbox, "tell-all", &[])?;
        assert_eq!(first, run_role(&sandbox, "tell-all", &[])?);
        assert_eq!(line(&first, "boottime"), "1000");
        Ok(())
    };
    match run() {
        Ok(()) => {
            println!("ok");
            0
        }
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

fn in_an_open_sandbox() -> Result {
    let sandbox = support::with_payload(Sandbox::bare()).deterministic();
    let first = run_role(&sandbox, "tell-all", &[])?;
    assert_eq!(first, run_role(&sandbox, "tell-all", &[])?);
    // Here there is a whole /proc.
    assert_eq!([line(&first, "host"), line(&first, "uptime")], ["belljar", "1000"]);
    Ok(())
}
