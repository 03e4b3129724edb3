//! Verdicts: what a program did, told from evidence and never from what it says.
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

use std::process::ExitCode;
use std::time::Duration;

use belljar::{Bytes, Command, Container, Resource, Sandbox, Seccomp, Stdio, Verdict};
use support::{Result, closed, fail, hold, oracle, payload, sh, timed, with_payload, within};

fn main() -> ExitCode {
    let cases = cases![
        every_exit_code: ["userns"],
        every_exit_code_in_its_own_sandbox_at_the_edges: ["userns"],
        every_fatal_signal: ["userns"],
        codes_that_imitate_signals: ["userns", "sh"],
        a_denied_call_that_kills: ["userns"],
        a_foreign_abi_kills: ["userns", "cc"],
        a_sigsys_that_no_filter_sent: ["userns"],
        the_host_kills: ["userns"],
        the_host_signals: ["userns"],
        the_init_is_killed: ["userns", "root"],
        a_program_cannot_hurt_its_init: ["userns"],
        a_daemon_is_killed_with_its_sandbox: ["userns"],
        a_daemon_does_not_delay_the_end: ["userns"],
        a_daemon_of_a_bare_sandbox_is_killed: ["root", "cgroup-pids"],
        a_program_that_closes_stdio: ["userns"],
        a_program_that_stops_itself: ["userns"],
        a_main_process_whose_thread_executes: ["userns", "python3"],
        rlimit_signals_have_verdicts: ["userns"],
        the_status_is_the_main_process: ["userns", "sh"],
    ];
    support::main(cases, &[("forge", forge), ("attack-init", attack_init)])
}

fn container() -> Result<Container> {
    Ok(closed().start()?)
}

fn every_exit_code() -> Result {
    let container = container()?;
    for code in 0..=255 {
        let outcome = container.status(payload("exit", &[&code.to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::Exited(code));
        assert_eq!(outcome.status.code(), Some(code));
        assert_eq!(outcome.success(), code == 0);
    }
    Ok(())
}

fn every_exit_code_in_its_own_sandbox_at_the_edges() -> Result {
    for code in [0, 1, 124, 125, 126, 127, 128, 137, 139, 255] {
        let outcome = closed().status(payload("exit", &[&code.to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::Exited(code));
    }
    Ok(())
}

fn every_fatal_signal() -> Result {
    use libc::*;
    let fatal = [
        SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV,
        SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGPWR,
        SIGSYS, 34, 64,
    ];
    let container = container()?;
    for signal in fatal {
        use std::os::unix::process::ExitStatusExt;
        let outcome = container.status(payload("raise", &[&signal.to_string()]))?;
        assert_eq!(outcome.status.signal(), Some(signal), "{:?}", outcome.verdict);
        // A SIGSYS under a filter cannot be told from the filter's own, which `a_sigsys_that_no_filter_sent` covers.
        let denied = Verdict::SyscallDenied { syscall: None };
        let expected = if signal == SIGSYS { denied } else { Verdict::Signaled(signal) };
        assert_eq!(outcome.verdict, expected);
    }
    for signal in [SIGSEGV, SIGKILL, SIGTERM] {
        let outcome = closed().status(payload("raise", &[&signal.to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::Signaled(signal));
    }
    Ok(())
}

fn codes_that_imitate_signals() -> Result {
    // A shell reports a child that died of SIGSEGV as 139; the shell itself exited.
    let outcome = closed().output(sh("/payload --role raise 11; exit $?"))?.outcome;
    assert_eq!(outcome.verdict, Verdict::Exited(139));
    let outcome = closed().memory_limit_if_any().status(payload("exit", &["137"]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(137));
    Ok(())
}

trait MemoryIfAny {
    fn memory_limit_if_any(self) -> Self;
}

impl MemoryIfAny for Sandbox {
    fn memory_limit_if_any(self) -> Self {
        match support::features::missing("cgroup-memory") {
            None => self.memory_max(Bytes::mib(64)),
            Some(_) => self,
        }
    }
}

fn a_denied_call_that_kills() -> Result {
    let getppid = [libc::SYS_getppid.to_string()];
    let args = [getppid[0].as_str()];
    let killing = closed().seccomp(Seccomp::new().kill(["getppid"]));
    let outcome = killing.status(payload("syscall", &args))?;
    let Verdict::SyscallDenied { syscall: Some(syscall) } = outcome.verdict else {
        return fail(format!("{:?}", outcome.verdict));
    };
    assert_eq!((syscall.number(), syscall.name()), (libc::SYS_getppid as u32, Some("getppid")));
    let denying = closed().seccomp(Seccomp::new().deny(["getppid"]));
    let output = denying.output(payload("syscall", &args))?;
    assert_eq!((output.stdout.as_slice(), output.outcome.verdict), (&b"errno 1\n"[..], Verdict::Exited(1)));
    let output = closed().output(payload("syscall", &args))?;
    assert_eq!(output.outcome.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

fn a_foreign_abi_kills() -> Result {
    if cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let scratch = support::Scratch::new();
    // getpid by the 32-bit table, and getpid of x32.
    let source = "int main(int c, char **v) { long r; \
                  if (c > 1) __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(0x40000000 + 39) : \"rcx\", \"r11\", \"memory\"); \
                  else __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20) : \"memory\"); return 0; }";
    let program = support::compile(&scratch, "foreign", source, &[])?;
    let sandbox = Sandbox::new().mount(belljar::Mount::bind(&program, "/foreign"));
    for args in [&[][..], &["x32"][..]] {
        let mut command = Command::new("/foreign");
        command.args(args);
        let denied = Verdict::SyscallDenied { syscall: None };
        assert_eq!(sandbox.status(&command)?.verdict, denied, "{args:?}");
    }
    let open = sandbox.allow_all_syscalls();
    assert_eq!(open.status(Command::new("/foreign"))?.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

fn a_sigsys_that_no_filter_sent() -> Result {
    let sandbox = closed().allow_all_syscalls();
    let outcome = sandbox.status(payload("raise", &[&libc::SIGSYS.to_string()]))?;
    assert_eq!(outcome.verdict, Verdict::Signaled(libc::SIGSYS));
    Ok(())
}

fn the_host_kills() -> Result {
    let mut held = hold(&closed())?;
    held.child.kill()?;
    let (outcome, time) = timed(|| held.child.wait());
    assert_eq!(outcome?.verdict, Verdict::Killed);
    assert!(time < Duration::from_millis(250) * support::slack(), "{time:?}");
    assert!(within(Duration::from_secs(1), || !oracle::is_alive(held.pid)));
    // Once more is harmless, and the answer stays.
    held.child.kill()?;
    assert_eq!(held.child.wait()?.verdict, Verdict::Killed);
    assert_eq!(held.child.id(), None);
    // A program that ended before it could be killed did end by itself.
    let mut child = closed().spawn(payload("exit", &["7"]))?;
    std::thread::sleep(Duration::from_millis(300));
    child.kill()?;
    assert_eq!(child.wait()?.verdict, Verdict::Exited(7));
    Ok(())
}

fn the_host_signals() -> Result {
    let mut held = hold(&closed())?;
    held.child.signal(libc::SIGTERM)?;
    assert_eq!(held.child.wait()?.verdict, Verdict::Signaled(libc::SIGTERM));
    // Gone: nothing to do, and no error.
    held.child.signal(libc::SIGTERM)?;
    for wrong in [0, -1, 65, i32::MAX] {
        assert_eq!(
            held.child.signal(wrong).expect_err("no signal").kind(),
            belljar::ErrorKind::InvalidConfig
        );
    }
    Ok(())
}

fn the_init_is_killed() -> Result {
    for limited in [false, true] {
        let sandbox = if limited { closed().memory_limit_if_any() } else { closed() };
        let mut held = hold(&sandbox)?;
        let init = oracle::parent(held.pid).expect("it has a parent");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init as i32), nix::sys::signal::Signal::SIGKILL)?;
        let (outcome, time) = timed(|| held.child.wait());
        assert_eq!(outcome?.verdict, Verdict::InitKilled);
        assert!(time < Duration::from_secs(1) * support::slack(), "{time:?}");
        assert!(within(Duration::from_secs(1), || !oracle::is_alive(held.pid)));
    }
    Ok(())
}

fn a_program_cannot_hurt_its_init() -> Result {
    // Every way by which a process of the same user id could: each must be refused or do nothing. With `root()` the
    // program has the id of the init itself.
    for sandbox in [closed(), closed().root()] {
        let output = sandbox.output(payload("attack-init", &[]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.outcome.verdict, Verdict::Exited(0), "{text}");
        assert!(text.lines().count() >= 8 && text.lines().all(|line| line.ends_with("refused")), "{text}");
    }
    // The positive control: without the filter some of them work.
    let output = closed().root().allow_all_syscalls().output(payload("attack-init", &[]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.outcome.verdict == Verdict::InitKilled || text.contains("WORKED"), "{text}");
    Ok(())
}

/// Signals, limits, priorities and memory of PID 1.
fn attack_init(_: &[std::ffi::OsString]) -> i32 {
    let limit = [0_u64, 0];
    let at = limit.as_ptr() as usize;
    let parameter = [0_u32; 2];
    let parameter_at = parameter.as_ptr() as usize;
    let attempts: [(&str, i64, [usize; 6]); 9] = [
        ("prlimit", libc::SYS_prlimit64, [1, libc::RLIMIT_CPU as usize, at, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, 1, 0, 0, 0, 0]),
        ("sched_setscheduler", libc::SYS_sched_setscheduler, [1, 5, parameter_at, 0, 0, 0]),
        ("setpriority", libc::SYS_setpriority, [0, 1, 19, 0, 0, 0]),
        ("ioprio_set", libc::SYS_ioprio_set, [1, 1, 3 << 13, 0, 0, 0]),
        ("sched_setaffinity", libc::SYS_sched_setaffinity, [1, 8, at, 0, 0, 0]),
        ("kcmp", libc::SYS_kcmp, [1, 1, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]),
        ("migrate_pages", libc::SYS_migrate_pages, [1, 0, 0, 0, 0, 0]),
    ];
    for (name, number, args) in attempts {
        let refused = support::raw::syscall(number, args).is_err();
        println!("{name} {}", if refused { "refused" } else { "WORKED" });
    }
    let readable = std::fs::File::open("/proc/1/mem").is_ok();
    println!("/proc/1/mem {}", if readable { "WORKED" } else { "refused" });
    // PID 1 ignores what it has no handler for; SIGKILL and SIGSTOP from inside do nothing.
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGTERM, libc::SIGCHLD] {
        support::raw::syscall(libc::SYS_kill, [1, signal as usize, 0, 0, 0, 0]).ok();
    }
    0
}

fn find(mark: &str) -> Vec<u32> {
    oracle::processes_with(mark)
}

fn a_daemon_is_killed_with_its_sandbox() -> Result {
    let mark = format!("mark-a-{}", std::process::id());
    let outcome = closed().status(payload("daemon", &[&mark]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    assert_eq!(find(&mark), [0; 0]);
    // In a container it stays until the container ends: the positive control.
    let container = container()?;
    assert!(container.status(payload("daemon", &[&mark]))?.success());
    assert!(!find(&mark).is_empty(), "the daemon role makes no daemon");
    container.close()?;
    assert!(within(Duration::from_secs(1), || find(&mark).is_empty()));
    Ok(())
}

fn a_daemon_does_not_delay_the_end() -> Result {
    let mark = format!("mark-b-{}", std::process::id());
    // Its stdout is captured, and the daemon keeps it open.
    let (output, time) = timed(|| closed().output(payload("daemon", &[&mark])));
    assert_eq!(output?.outcome.verdict, Verdict::Exited(0));
    assert!(time < Duration::from_secs(2) * support::slack(), "{time:?}");
    assert_eq!(find(&mark), [0; 0]);
    let mut command = payload("daemon", &[&mark]);
    command.stdout(Stdio::piped());
    let (output, time) = timed(|| closed().spawn(&command).and_then(|child| child.wait_with_output()));
    assert_eq!(output?.outcome.verdict, Verdict::Exited(0));
    assert!(time < Duration::from_secs(2) * support::slack(), "{time:?}");
    Ok(())
}

fn a_daemon_of_a_bare_sandbox_is_killed() -> Result {
    let mark = format!("mark-c-{}", std::process::id());
    let sandbox = with_payload(Sandbox::bare()).pids_max(32);
    let outcome = sandbox.status(payload("daemon", &[&mark]))?;
    assert_eq!(outcome.verdict, Verdict::Exited(0));
    assert!(outcome.enforced.contains(belljar::Feature::TreeKill));
    assert!(within(Duration::from_millis(500), || find(&mark).is_empty()), "{:?}", find(&mark));
    Ok(())
}

fn a_program_that_closes_stdio() -> Result {
    // Everybody has closed stdout, yet the program runs on and its own end counts.
    let (output, time) =
        timed(|| closed().output(sh("exec 0<&- 1>&- 2>&-; /payload --role sleep 300; exit 9")));
    assert_eq!(output?.outcome.verdict, Verdict::Exited(9));
    assert!(time >= Duration::from_millis(300), "{time:?}");
    Ok(())
}

fn a_program_that_stops_itself() -> Result {
    let limit = Duration::from_millis(300);
    let (outcome, time) =
        timed(|| closed().wall_time(limit).status(payload("raise", &[&libc::SIGSTOP.to_string()])));
    let outcome = outcome?;
    assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
    assert!(time < Duration::from_secs(2) * support::slack(), "{time:?}");
    Ok(())
}

fn a_main_process_whose_thread_executes() -> Result {
    // execve from another thread: the process keeps its id, and the status is that of what was executed.
    let script = "import threading, os, time\n\
                  threading.Thread(target=lambda: os.execv('/payload', ['/payload', '--role', 'exit', '42'])).start()\n\
                  time.sleep(30)\n";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]);
    assert_eq!(closed().status(&command)?.verdict, Verdict::Exited(42));
    Ok(())
}

fn rlimit_signals_have_verdicts() -> Result {
    let outcome = closed().rlimit(Resource::Cpu, 1, 2).status(payload("burn", &["5000"]))?;
    assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded);
    // Without the limit the same signals mean nothing in particular.
    for signal in [libc::SIGXCPU, libc::SIGXFSZ] {
        let outcome = closed().status(payload("raise", &[&signal.to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::Signaled(signal));
    }
    let mut command = sh("exec head -c 100000 /dev/zero > /tmp/file");
    command.stderr(Stdio::null());
    let outcome = closed().rlimit(Resource::Fsize, 4096, 4096).status(&command)?;
    assert_eq!(outcome.verdict, Verdict::OutputExceeded);
    Ok(())
}

fn the_status_is_the_main_process() -> Result {
    // A grandchild that outlives its parent and prints what looks like reports changes nothing.
    let outcome = closed().output(sh("(sleep 0.2; exit 3) & (/payload --role raise 9) & exit 5"))?.outcome;
    assert_eq!(outcome.verdict, Verdict::Exited(5));
    let outcome = closed().output(payload("forge", &[]))?.outcome;
    match outcome.verdict {
        Verdict::Exited(6) => Ok(()),
        other => fail(format!("forged into {other:?}")),
    }
}

/// Writes zeroes and what might be reports into every descriptor there is.
fn forge(_: &[std::ffi::OsString]) -> i32 {
    for fd in 0..1024_usize {
        for length in [4_usize, 64, 128, 184, 256] {
            let bytes = [0_u8; 256];
            support::raw::syscall(libc::SYS_write, [fd, bytes.as_ptr() as usize, length, 0, 0, 0]).ok();
            let send = [fd, bytes.as_ptr() as usize, length, libc::MSG_NOSIGNAL as usize, 0, 0];
            support::raw::syscall(libc::SYS_sendto, send).ok();
        }
    }
    6
}
