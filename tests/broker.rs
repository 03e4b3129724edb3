//! System calls that the kernel does not decide alone: those that are killed for, by name, and those that the host answers.
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

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use belljar::{Command, ErrorKind, Notification, Outcome, Response, Sandbox, Seccomp, Stdio, Verdict};
use support::{
    Fail, Result, Scratch, as_nobody, closed, fail, payload, raw, role_command, role_result, run_role, sh,
    slack, within,
};

fn main() -> ExitCode {
    let cases = cases![
        a_killed_call_is_named: ["userns"],
        a_killed_call_of_a_thread_is_named: ["userns"],
        a_killed_call_of_a_child_is_evidence: ["userns", "sh"],
        a_killed_call_in_a_bare_sandbox: ["bare"],
        a_killed_call_leaves_no_core: ["userns"],
        a_killed_call_under_rules_of_ports: ["userns", "landlock-4"],
        killed_calls_of_many_programs: ["userns"],
        a_crowd_that_is_killed: ["userns"],
        a_program_that_ends_beside_a_killed_call: ["userns"],
        a_killed_call_that_is_evaded_is_not_made: ["userns", "sh"],
        a_kill_within_a_listener_is_refused: ["bare"],
        the_call_of_the_main_process_is_the_verdict: ["userns"],
        a_killed_call_after_that_of_the_main_process: ["userns"],
        a_length_of_the_programs_choice_does_not_end_the_host: ["userns"],
        a_program_starts_that_may_execute_none: ["userns"],
        a_program_starts_that_may_do_next_to_nothing: ["userns", "cc"],
        a_token_is_not_to_be_guessed: ["userns"],
        a_token_is_of_one_program: ["userns", "root"],
        the_host_opens_a_file: ["userns"],
        the_host_grants_a_file_later: ["userns"],
        the_host_connects: ["userns"],
        the_host_decides_by_registers: ["userns"],
        what_was_read_is_not_left_to_the_kernel: ["userns"],
        a_changing_path_leads_nowhere_else: ["userns"],
        errors_deny: ["userns"],
        a_call_that_nobody_answers: ["userns"],
        handlers_that_are_never_called: ["userns"],
        addresses_that_are_none: ["userns"],
        killed_calls_where_the_host_listens: ["userns"],
        programs_of_one_container_have_their_own_handlers: ["userns"],
        signals_do_not_disturb: ["userns"],
        many_threads_ask: ["userns"],
        a_host_that_dies_while_it_is_asked: ["userns"],
        a_program_that_is_killed_while_it_asks: ["userns"],
        a_program_that_asks_is_not_frozen: ["userns", "cgroup-v2"],
        floods_of_calls_hold_up_neither_limits_nor_output: ["userns"],
        threads_end_with_their_programs: ["userns"],
        an_unprivileged_host_answers: ["userns", "setpriv"],
        many_spawns_from_many_threads: ["userns"],
    ];
    let roles: &[support::Role] = &[
        ("ask", ask),
        ("thread-call", thread_call),
        ("crowd", crowd),
        ("race", race),
        ("own-filter", own_filter),
        ("interrupted", interrupted),
        ("kill-within", kill_within),
        ("two-calls", two_calls),
        ("flood-asked", flood_asked),
        ("flood-killed", flood_killed),
        ("left-behind", left_behind),
        ("guess", guess),
        ("open-often", open_often),
        ("swap-path", swap_path),
        ("connect-out", connect_out),
        ("bad-addresses", bad_addresses),
        ("ticking", ticking),
        ("threads-ask", threads_ask),
        ("asking-host", asking_host),
        ("unprivileged", unprivileged),
    ];
    support::main(cases, roles)
}

const GETPPID: i64 = libc::SYS_getppid;

/// Makes one call with no arguments, and says what came of it.
fn call(number: i64) -> Command {
    payload("ask", &[&number.to_string()])
}

fn ask(args: &[OsString]) -> i32 {
    let answer = raw::syscall(i64::from(support::roles::int(args, 0)), [0; 6]);
    match &answer {
        Ok(value) => println!("ok {value}"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
    i32::from(answer.is_err())
}

#[track_caller]
fn assert_denied(outcome: &Outcome, name: &str) {
    let Verdict::SyscallDenied { syscall: Some(syscall) } = outcome.verdict else {
        panic!("{:?} instead of the name of a call", outcome.verdict)
    };
    assert_eq!(syscall.name(), Some(name));
    assert_eq!(outcome.denied, Some(syscall));
}

fn killing(names: &[&str]) -> Sandbox {
    closed().seccomp(Seccomp::new().kill(names.iter().copied()))
}

fn asking(names: &[&str]) -> Sandbox {
    closed().seccomp(Seccomp::new().notify(names.iter().copied()))
}

fn a_killed_call_is_named() -> Result {
    let outcome = killing(&["getppid"]).status(call(GETPPID))?;
    assert_denied(&outcome, "getppid");
    assert_eq!(outcome.status.signal(), Some(libc::SIGKILL));
    assert!(outcome.verdict.to_string().contains("getppid"), "{}", outcome.verdict);
    // Another call of the same filter, and the same call of another.
    assert_eq!(killing(&["getppid"]).status(call(libc::SYS_getpid))?.verdict, Verdict::Exited(0));
    let outcome = killing(&["getsid"]).status(call(GETPPID))?;
    assert_eq!((outcome.verdict, outcome.denied), (Verdict::Exited(0), None));
    Ok(())
}

fn thread_call(_: &[OsString]) -> i32 {
    std::thread::spawn(|| raw::syscall(GETPPID, [0; 6]).ok()).join().ok();
    0
}

fn a_killed_call_of_a_thread_is_named() -> Result {
    assert_denied(&killing(&["getppid"]).status(payload("thread-call", &[]))?, "getppid");
    assert_eq!(
        closed().status(payload("thread-call", &[]))?.verdict,
        Verdict::Exited(0),
        "the positive control"
    );
    Ok(())
}

fn a_killed_call_of_a_child_is_evidence() -> Result {
    let script = format!("/payload --role ask {GETPPID}; echo $?; exit 7");
    let output = killing(&["getppid"]).output(sh(&script))?;
    // The shell asks for its parent's id itself: dash does, when it starts.
    if let Verdict::SyscallDenied { .. } = output.outcome.verdict {
        return Ok(());
    }
    assert_eq!(output.outcome.verdict, Verdict::Exited(7));
    assert_eq!(output.stdout, b"137\n");
    assert_eq!(output.outcome.denied.and_then(belljar::Syscall::name), Some("getppid"));
    Ok(())
}

fn a_killed_call_in_a_bare_sandbox() -> Result {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "ask", &GETPPID.to_string()]).stdout(Stdio::null());
    let sandbox = Sandbox::bare().seccomp(Seccomp::new().kill(["getppid"]));
    assert_denied(&sandbox.status(&command)?, "getppid");
    assert_eq!(Sandbox::bare().status(&command)?.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

fn a_killed_call_leaves_no_core() -> Result {
    let outcome = killing(&["getppid"]).status(call(GETPPID))?;
    assert!(!outcome.status.core_dumped());
    Ok(())
}

/// The filter that goes with rules of ports has errors for some calls, and the kernel takes an error before a listener.
fn a_killed_call_under_rules_of_ports() -> Result {
    let rules = || belljar::Landlock::bare().restrict_tcp();
    let sandbox = killing(&["io_uring_setup"]).landlock(rules());
    assert_denied(&sandbox.status(call(libc::SYS_io_uring_setup))?, "io_uring_setup");
    let output = closed().allow_all_syscalls().landlock(rules()).output(call(libc::SYS_io_uring_setup))?;
    assert_eq!(output.stdout, format!("errno {}\n", libc::ENOSYS).into_bytes(), "the positive control");
    Ok(())
}

fn killed_calls_of_many_programs() -> Result {
    let container = killing(&["getppid", "getsid"]).start()?;
    for (number, name) in [(GETPPID, "getppid"), (libc::SYS_getsid, "getsid"), (GETPPID, "getppid")] {
        assert_denied(&container.status(call(number))?, name);
        assert_eq!(container.status(call(libc::SYS_getpid))?.verdict, Verdict::Exited(0));
    }
    let mut children = Vec::new();
    for n in 0..8 {
        children.push((n, container.spawn(call(if n % 2 == 0 { GETPPID } else { libc::SYS_getpid }))?));
    }
    for (n, mut child) in children {
        let outcome = child.wait()?;
        match n % 2 {
            0 => assert_denied(&outcome, "getppid"),
            _ => assert_eq!((outcome.verdict, outcome.denied), (Verdict::Exited(0), None)),
        }
    }
    Ok(())
}

/// Many processes that make the call at once, while the main process waits for all of them.
fn crowd(_: &[OsString]) -> i32 {
    let mut pids = Vec::new();
    for _ in 0..200 {
        match raw::fork() {
            Ok(0) => {
                raw::syscall(GETPPID, [0; 6]).ok();
                std::process::exit(9)
            }
            Ok(pid) => pids.push(pid),
            Err(_) => return 2,
        }
    }
    let mut killed = 0;
    for pid in pids {
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        killed += i32::from(matches!(
            status,
            Ok(nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _))
        ));
    }
    println!("{killed}");
    0
}

fn a_crowd_that_is_killed() -> Result {
    let output = killing(&["getppid"]).output(payload("crowd", &[]))?;
    assert_eq!(output.stdout, b"200\n");
    assert_eq!(output.outcome.verdict, Verdict::Exited(0));
    assert_eq!(output.outcome.denied.and_then(belljar::Syscall::name), Some("getppid"));
    Ok(())
}

/// One thread makes the call, the other ends the process.
fn race(args: &[OsString]) -> i32 {
    let thread = std::thread::spawn(|| raw::syscall(GETPPID, [0; 6]).ok());
    std::thread::sleep(Duration::from_micros(u64::from(support::roles::int(args, 0).unsigned_abs())));
    drop(thread);
    std::process::exit(5)
}

fn a_program_that_ends_beside_a_killed_call() -> Result {
    let plan = killing(&["getppid"]).plan()?;
    for pause in (0..200).step_by(10) {
        let outcome = plan.status_of(payload("race", &[&pause.to_string()]))?;
        // Whoever was first: but a kill without a call, or an exit after a kill, there is not.
        match outcome.verdict {
            Verdict::SyscallDenied { syscall: Some(_) } => {
                assert_eq!(outcome.status.signal(), Some(libc::SIGKILL))
            }
            Verdict::Exited(5) => {}
            other => return fail(format!("{other:?}")),
        }
    }
    Ok(())
}

/// Has a filter of its own answer the call.
fn own_filter(_: &[OsString]) -> i32 {
    #[repr(C)]
    struct Line(u16, u8, u8, u32);
    #[repr(C)]
    struct Program(u16, *const Line);
    let fails = libc::SECCOMP_RET_ERRNO | libc::ENOTTY as u32;
    let lines = [
        Line(0x20, 0, 0, 0),
        Line(0x15, 0, 1, GETPPID as u32),
        Line(0x06, 0, 0, fails),
        Line(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = Program(4, lines.as_ptr());
    let installed = raw::syscall(libc::SYS_seccomp, [1, 0, std::ptr::from_ref(&program).addr(), 0, 0, 0]);
    let answer = raw::syscall(GETPPID, [0; 6]).map_err(|error| error.raw_os_error());
    i32::from(installed.is_err() || answer != Err(Some(libc::ENOTTY)))
}

/// Makes calls while another thread sends signals without a pause.
fn interrupted(_: &[OsString]) -> i32 {
    raw::interrupt_by(libc::SIGUSR1);
    let id = std::process::id() as usize;
    std::thread::spawn(move || {
        loop {
            raw::syscall(libc::SYS_tgkill, [id, id, libc::SIGUSR1 as usize, 0, 0, 0]).ok();
        }
    });
    let other = |answer: std::io::Result<i64>| match answer {
        Err(error) => error.raw_os_error() != Some(libc::EINTR),
        Ok(_) => true,
    };
    i32::from((0..1000).any(|_| other(raw::syscall(GETPPID, [0; 6]))))
}

fn a_killed_call_that_is_evaded_is_not_made() -> Result {
    let outcome = killing(&["getppid"]).status(payload("own-filter", &[]))?;
    assert_eq!((outcome.verdict, outcome.denied), (Verdict::Exited(0), None));
    for _ in 0..10 {
        match killing(&["getppid"]).status(payload("interrupted", &[]))?.verdict {
            Verdict::SyscallDenied { syscall: Some(_) } | Verdict::Exited(0) => {}
            other => return fail(format!("{other:?}")),
        }
    }
    let container = killing(&["getsid"]).start()?;
    let number = libc::SYS_getsid;
    // It waits until the main process has been reaped.
    let script = format!("(while kill -0 $$; do :; done; exec /payload --role ask {number}) 2>/dev/null &");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).stdout(Stdio::piped());
    let mut child = container.spawn(&shell)?;
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    let mut text = String::new();
    child.stdout.take().ok_or(Fail("no pipe".to_owned()))?.read_to_string(&mut text)?;
    assert_eq!(text, format!("errno {}\n", libc::ENOSYS));
    Ok(())
}

/// A sandbox in a sandbox.
fn kill_within(_: &[OsString]) -> i32 {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "ask", &GETPPID.to_string()]);
    let status = |policy| Sandbox::bare().seccomp(policy).status(&command);
    role_result((|| {
        let error = status(Seccomp::new().kill(["getppid"])).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("listener")), "{:?}", error.hint());
        let outcome = status(Seccomp::new().trap(["getppid"]))?;
        assert_eq!(outcome.verdict, Verdict::SyscallDenied { syscall: None }, "what the hint says");
        Ok(())
    })())
}

fn a_kill_within_a_listener_is_refused() -> Result {
    let mut command = Command::new(support::own_exe());
    command.args(["--role", "kill-within"]);
    let around = Sandbox::bare().seccomp(Seccomp::new().kill(["getsid"]));
    assert_eq!(around.status(&command)?.verdict, Verdict::Exited(0));
    Ok(())
}

/// A process of the tree makes one call, and then the main process another.
fn two_calls(_: &[OsString]) -> i32 {
    match raw::fork() {
        Ok(0) => {
            raw::syscall(GETPPID, [0; 6]).ok();
            std::process::exit(9)
        }
        Ok(pid) => drop(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)),
        Err(_) => return 2,
    }
    raw::syscall(libc::SYS_getsid, [0; 6]).ok();
    3
}

fn the_call_of_the_main_process_is_the_verdict() -> Result {
    let sandbox = closed().seccomp(Seccomp::new().kill(["getppid", "getsid"]).notify(["getpgid"]));
    let by_init = payload("two-calls", &[]);
    let mut by_host = by_init.clone();
    by_host.on_syscall(["getpgid"], |_| Response::proceed());
    for command in [by_init, by_host] {
        let outcome = sandbox.status(&command)?;
        let Verdict::SyscallDenied { syscall: Some(syscall) } = outcome.verdict else {
            return fail(format!("{:?}", outcome.verdict));
        };
        assert_eq!(syscall.name(), Some("getsid"));
        assert_eq!(outcome.denied.and_then(belljar::Syscall::name), Some("getppid"), "the first of the tree");
    }
    assert_eq!(
        closed().status(payload("two-calls", &[]))?.verdict,
        Verdict::Exited(3),
        "the positive control"
    );
    Ok(())
}

/// The main process makes a call, and when it has gone a process of a session of its own makes another.
fn left_behind(_: &[OsString]) -> i32 {
    let Ok((read, write)) = nix::unistd::pipe() else { return 2 };
    match raw::fork() {
        Ok(0) => {
            nix::unistd::setsid().ok();
            drop(write);
            File::from(read).read_to_end(&mut Vec::new()).ok();
            raw::syscall(GETPPID, [0; 6]).ok();
            std::process::exit(9)
        }
        Ok(_) => {}
        Err(_) => return 2,
    }
    raw::syscall(libc::SYS_getsid, [0; 6]).ok();
    drop(write);
    3
}

fn a_killed_call_after_that_of_the_main_process() -> Result {
    let filter = Seccomp::new().kill(["getppid", "getsid"]).notify(["getpgid"]);
    let container = closed().seccomp(filter).start()?;
    for _ in 0..5 {
        let mut command = payload("left-behind", &[]);
        command.on_syscall(["getpgid"], |_| Response::proceed());
        let mut child = container.spawn(&command)?;
        // By then the other call has been made as well.
        std::thread::sleep(Duration::from_millis(200) * slack());
        assert_denied(&child.wait()?, "getsid");
    }
    Ok(())
}

fn a_length_of_the_programs_choice_does_not_end_the_host() -> Result {
    for length in [1 << 46, u64::MAX, 1 << 40, 1 << 33] {
        let mut command = call(GETPPID);
        command.on_syscall(["getppid"], move |call| {
            match call.read_bytes(0x1000, usize::try_from(length).unwrap_or(usize::MAX)) {
                Ok(_) => Response::value(0),
                Err(error) => error.into(),
            }
        });
        let output = asking(&["getppid"]).output(&command)?;
        assert_eq!(output.stdout, format!("errno {}\n", libc::E2BIG).into_bytes(), "{length:#x}");
    }
    Ok(())
}

trait StatusOf {
    fn status_of(&self, command: Command) -> belljar::Result<Outcome>;
}

impl StatusOf for belljar::Plan {
    fn status_of(&self, command: Command) -> belljar::Result<Outcome> {
        self.spawn(&command)?.wait()
    }
}

fn a_program_starts_that_may_execute_none() -> Result {
    let script = ["-c", "/payload --role exit 3; echo $?"];
    let mut shell = Command::new("/bin/sh");
    shell.args(script);
    let output = closed().output(&shell)?;
    assert_eq!(output.stdout, b"3\n", "the positive control");
    for filter in [
        Seccomp::new().deny(["execve", "execveat"]),
        Seccomp::new().deny_with(["execve", "execveat"], libc::ENOSYS),
    ] {
        let output = closed().seccomp(filter).output(&shell)?;
        assert_eq!(output.outcome.verdict, Verdict::Exited(0));
        assert_ne!(output.stdout, b"3\n");
    }
    let outcome = killing(&["execve"]).status(&shell)?;
    assert_eq!(outcome.denied.and_then(belljar::Syscall::name), Some("execve"));
    // What cannot be executed is an error as ever, and nothing hangs that may not even exit.
    for filter in [
        Seccomp::new().deny(["execve", "exit_group"]),
        Seccomp::new().kill(["execve", "exit_group", "sendmsg"]),
    ] {
        let error = closed().seccomp(filter).status(Command::new("/nothing")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exec);
    }
    Ok(())
}

fn a_program_starts_that_may_do_next_to_nothing() -> Result {
    let scratch = Scratch::new();
    let source = "void _start(void) { register long n __asm__(EXIT_REGISTER) = EXIT_GROUP; register long c __asm__(CODE_REGISTER) = 6; \
                  __asm__ volatile(TRAP :: \"r\"(n), \"r\"(c)); __builtin_unreachable(); }";
    let flags = if cfg!(target_arch = "x86_64") {
        [
            "-DEXIT_REGISTER=\"rax\"",
            "-DEXIT_GROUP=231",
            "-DCODE_REGISTER=\"rdi\"",
            "-DTRAP=\"syscall\"",
            "-static",
            "-nostdlib",
        ]
    } else {
        [
            "-DEXIT_REGISTER=\"x8\"",
            "-DEXIT_GROUP=94",
            "-DCODE_REGISTER=\"x0\"",
            "-DTRAP=\"svc 0\"",
            "-static",
            "-nostdlib",
        ]
    };
    let program = support::compile(&scratch, "tiny", source, &flags)?;
    let sandbox = Sandbox::new().mount(belljar::Mount::bind(program, "/tiny"));
    let outcome =
        sandbox.clone().seccomp(Seccomp::allow_only(["exit_group"])).status(Command::new("/tiny"))?;
    assert_eq!(outcome.verdict, Verdict::Exited(6));
    let outcome = sandbox
        .seccomp(Seccomp::allow_only(["getpid"]).kill(["exit_group"]))
        .status(Command::new("/tiny"))?;
    assert_denied(&outcome, "exit_group");
    Ok(())
}

/// Tries tokens: 0, what registers may hold, numbers near to addresses of its own.
fn guess(_: &[OsString]) -> i32 {
    let near = std::ptr::from_ref(&GETPPID).addr();
    let candidates = (0..4096).chain((near - 4096)..(near + 4096)).chain([usize::MAX, 1 << 63]);
    for token in candidates {
        // A path that is not there: ENOENT would say that the filter let it pass.
        let result = raw::syscall(libc::SYS_execve, [c"/nothing".as_ptr().addr(), 0, 0, 0, 0, token]);
        if result.map_err(|error| error.raw_os_error()) != Err(Some(libc::EPERM)) {
            println!("passed with {token}");
            return 1;
        }
    }
    0
}

fn a_token_is_not_to_be_guessed() -> Result {
    run_role(&closed().seccomp(Seccomp::new().deny(["execve"])), "guess", &[])?;
    let output = closed().output(payload("guess", &[]))?;
    assert_eq!(output.stdout, b"passed with 0\n", "the positive control");
    // Two plans of one policy have different tokens.
    let sandbox = closed().seccomp(Seccomp::new().deny(["execve"]));
    assert_eq!(sandbox.plan()?.status_of(payload("exit", &["4"]))?.verdict, Verdict::Exited(4));
    Ok(())
}

/// The filter that a process has, which nobody in a sandbox may read: ptrace(2), `PTRACE_SECCOMP_GET_FILTER`.
fn filter_of(pid: u32) -> Result<Vec<u8>> {
    const SEIZE: usize = 0x4206;
    const INTERRUPT: usize = 0x4207;
    const GET_FILTER: usize = 0x420c;
    const DETACH: usize = 17;
    let mut filter = vec![0_u8; 4096 * 8];
    let ptrace = |request, data| raw::syscall(libc::SYS_ptrace, [request, pid as usize, 0, data, 0, 0]);
    ptrace(SEIZE, 0)?;
    ptrace(INTERRUPT, 0)?;
    raw::syscall(libc::SYS_wait4, [pid as usize, 0, libc::__WALL as usize, 0, 0, 0])?;
    let count = ptrace(GET_FILTER, filter.as_mut_ptr().addr());
    ptrace(DETACH, 0)?;
    filter.truncate(usize::try_from(count?).unwrap_or(0) * 8);
    Ok(filter)
}

/// The token is in a register while a program is executed, and `/proc/<pid>/syscall` then tells it to other programs of the
/// container: it must be of no use to them.
fn a_token_is_of_one_program() -> Result {
    let plan = closed().seccomp(Seccomp::new().deny(["execve"])).plan()?;
    let container = plan.start()?;
    let children = [container.spawn(payload("sleep", &["60"]))?, container.spawn(payload("sleep", &["60"]))?];
    let mut filters = Vec::new();
    for child in &children {
        filters.push(filter_of(child.id().ok_or(Fail("it has ended".to_owned()))?)?);
    }
    assert_eq!(filters[0].len(), filters[1].len());
    let differing = filters[0].chunks(8).zip(filters[1].chunks(8)).filter(|(one, other)| one != other);
    let codes: HashSet<_> = differing.map(|(one, _)| u16::from_ne_bytes([one[0], one[1]])).collect();
    assert_eq!(codes, HashSet::from([0xa4]), "the exclusive-ors of the token, and nothing else");
    Ok(())
}

/// Opens a file of the host for every path that starts with `/host/`, and leaves no other call to the kernel.
fn opening(dir: &Path) -> impl Fn(&Notification<'_>) -> Response + Send + Sync + 'static {
    let dir = dir.to_owned();
    move |call| {
        let path = match call.read_path(call.args()[1]) {
            Ok(path) => path,
            Err(error) => return error.into(),
        };
        match path.strip_prefix("/host") {
            Ok(name) if name.components().count() == 1 => File::open(dir.join(name)).into(),
            // The program's loader and the C library open files as well, of the sandbox's root, which is the host's here.
            _ => File::open(Path::new("/").join(path.strip_prefix("/").unwrap_or(&path))).into(),
        }
    }
}

fn cat(path: &str) -> Command {
    payload("cat", &[path])
}

fn the_host_opens_a_file() -> Result {
    let scratch = Scratch::new();
    scratch.file("note", "from the host\n");
    let sandbox = asking(&["openat"]);
    let mut command = cat("/host/note");
    command.on_syscall(["openat"], opening(scratch.path()));
    let output = sandbox.output(&command)?;
    assert_eq!(
        (output.stdout.as_slice(), output.outcome.verdict),
        (&b"from the host\n"[..], Verdict::Exited(0))
    );
    // The file is open for reading, and for nothing else.
    let mut missing = cat("/host/none");
    missing.on_syscall(["openat"], opening(scratch.path()));
    assert_eq!(sandbox.output(&missing)?.stdout, b"errno 2\n");
    let output = closed().output(cat("/host/note"))?;
    assert_eq!(output.stdout, b"errno 2\n", "it is not there without the host");
    Ok(())
}

/// Opens a path again and again until it can, and says so.
fn open_often(args: &[OsString]) -> i32 {
    let path = support::roles::text(args, 0);
    println!("ready");
    let opened = within(Duration::from_secs(60), || File::open(&path).is_ok());
    println!("{}", fs::read_to_string(&path).unwrap_or_default());
    i32::from(!opened)
}

fn the_host_grants_a_file_later() -> Result {
    let scratch = Scratch::new();
    let file = scratch.file("granted", "at last");
    let granted = Arc::new(RwLock::new(HashSet::<PathBuf>::new()));
    let refused = Arc::new(AtomicU32::new(0));
    let mut command = payload("open-often", &[&file.display().to_string()]);
    let (grants, count) = (Arc::clone(&granted), Arc::clone(&refused));
    let prefix = scratch.path().to_owned();
    command.on_syscall(["openat"], move |call| match call.read_path(call.args()[1]) {
        Ok(path)
            if !path.starts_with(&prefix) || grants.read().is_ok_and(|grants| grants.contains(&path)) =>
        {
            File::open(path).into()
        }
        Ok(_) => {
            count.fetch_add(1, Ordering::Relaxed);
            Response::errno(libc::EACCES)
        }
        Err(error) => error.into(),
    });
    command.stdout(Stdio::piped());
    let mut child = asking(&["openat"]).spawn(&command)?;
    assert!(within(Duration::from_secs(30), || refused.load(Ordering::Relaxed) > 3));
    granted.write().expect("nobody panicked").insert(file);
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text)?;
    assert_eq!(text, "ready\nat last\n");
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0));
    Ok(())
}

fn connect_out(args: &[OsString]) -> i32 {
    let address = support::roles::text(args, 0);
    match TcpStream::connect(&address) {
        Ok(mut stream) => {
            let mut text = String::new();
            stream.read_to_string(&mut text).ok();
            println!("{text}");
            0
        }
        Err(error) => {
            println!("errno {}", error.raw_os_error().unwrap_or(-1));
            1
        }
    }
}

/// The IPv4 address of a `struct sockaddr_in`.
fn address(call: &Notification<'_>) -> std::io::Result<std::net::SocketAddrV4> {
    let bytes = call.read_bytes(call.args()[1], 16)?;
    if call.args()[2] != 16 || u16::from_ne_bytes([bytes[0], bytes[1]]) != libc::AF_INET as u16 {
        return Err(std::io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
    }
    let ip = [bytes[4], bytes[5], bytes[6], bytes[7]].into();
    Ok(std::net::SocketAddrV4::new(ip, u16::from_be_bytes([bytes[2], bytes[3]])))
}

fn the_host_connects() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let allowed = listener.local_addr()?;
    let serving = std::thread::spawn(move || listener.accept()?.0.write_all(b"through the host"));
    let handler = move |call: &Notification<'_>| match address(call) {
        Ok(wanted) if std::net::SocketAddr::V4(wanted) == allowed => match TcpStream::connect(allowed) {
            Ok(stream) => Response::replace_fd(call.args()[0] as u32, stream).keep_on_exec(),
            Err(error) => error.into(),
        },
        Ok(_) => Response::errno(libc::EACCES),
        Err(error) => error.into(),
    };
    let sandbox = asking(&["connect"]);
    let mut command = payload("connect-out", &["127.0.0.1:1"]);
    command.on_syscall(["connect"], handler);
    assert_eq!(sandbox.output(&command)?.stdout, format!("errno {}\n", libc::EACCES).into_bytes());
    let alone = closed().output(payload("connect-out", &[&allowed.to_string()]))?;
    assert_eq!(
        alone.stdout,
        format!("errno {}\n", libc::ECONNREFUSED).into_bytes(),
        "its own network has no such server"
    );
    let mut command = payload("connect-out", &[&allowed.to_string()]);
    command.on_syscall(["connect"], handler);
    assert_eq!(sandbox.output(&command)?.stdout, b"through the host\n");
    serving.join().map_err(|_| Fail("the server panicked".to_owned()))??;
    Ok(())
}

fn the_host_decides_by_registers() -> Result {
    let seen = Arc::new(AtomicU64::new(0));
    let args = Arc::new(Mutex::new([0; 6]));
    let mut command = call(libc::SYS_getpgid);
    let (count, noted) = (Arc::clone(&seen), Arc::clone(&args));
    command.on_syscall(["getpgid"], move |call| {
        count.fetch_add(1, Ordering::Relaxed);
        assert_eq!(call.syscall().name(), Some("getpgid"));
        assert!(call.is_waiting());
        *noted.lock().expect("nobody panicked") = call.args();
        Response::proceed()
    });
    let output = asking(&["getpgid"]).output(&command)?;
    assert_eq!(output.outcome.verdict, Verdict::Exited(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(args.lock().expect("nobody panicked")[0], 0);
    let mut command = call(GETPPID);
    command.on_syscall(["getppid"], |_| Response::value(4711));
    let output = asking(&["getppid"]).output(&command)?;
    assert_eq!(output.stdout, b"ok 4711\n");
    Ok(())
}

fn what_was_read_is_not_left_to_the_kernel() -> Result {
    let mut command = cat("/etc/passwd");
    command.on_syscall(["openat"], |call| {
        call.read_path(call.args()[1]).ok();
        Response::proceed()
    });
    let output = asking(&["openat"]).output(&command)?;
    // Not even its libraries can be opened.
    assert_ne!(output.outcome.verdict, Verdict::Exited(0));
    let mut command = cat("/etc/passwd");
    command.on_syscall(["openat"], |_| Response::proceed());
    assert_eq!(
        asking(&["openat"]).output(&command)?.outcome.verdict,
        Verdict::Exited(0),
        "the positive control"
    );
    Ok(())
}

/// Opens a path that another thread keeps changing between two of the same length, and says what it got to read.
fn swap_path(args: &[OsString]) -> i32 {
    use std::sync::atomic::AtomicU8;
    static PATH: [AtomicU8; 16] = [const { AtomicU8::new(0) }; 16];
    let paths: Vec<String> = (0..2).map(|n| support::roles::text(args, n)).collect();
    let put = |text: &str| {
        for (byte, cell) in text.bytes().zip(&PATH) {
            cell.store(byte, Ordering::Relaxed);
        }
    };
    put(&paths[0]);
    let (first, second) = (paths[0].clone(), paths[1].clone());
    std::thread::spawn(move || {
        let put =
            |text: &str| text.bytes().zip(&PATH).for_each(|(byte, cell)| cell.store(byte, Ordering::Relaxed));
        loop {
            put(&second);
            put(&first);
        }
    });
    let mut found = HashSet::new();
    for _ in 0..support::roles::int(args, 2) {
        let at_cwd = libc::AT_FDCWD as usize;
        let Ok(fd) = raw::syscall(libc::SYS_openat, [at_cwd, PATH.as_ptr().addr(), 0, 0, 0, 0]) else {
            continue;
        };
        found.insert(String::from_utf8_lossy(&raw::read_to_end(fd as i32).unwrap_or_default()).into_owned());
        raw::close(fd as i32);
        // Nothing else is to be found.
        if found.len() == 2 {
            break;
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort();
    println!("{}", found.join(","));
    0
}

fn a_changing_path_leads_nowhere_else() -> Result {
    let scratch = Scratch::new();
    let public = scratch.file("public", "public");
    let secret = scratch.file("secret", "secret");
    let sandbox = asking(&["openat"])
        .mount(belljar::Mount::bind(&public, "/p"))
        .mount(belljar::Mount::bind(&secret, "/s"));
    let args = ["/p", "/s", "3000"];
    // As often as it takes: both threads may share a processor.
    let control = payload("swap-path", &["/p", "/s", "100000000"]);
    let output = sandbox.clone().allow_all_syscalls().output(control)?;
    assert_eq!(
        output.stdout, b"public,secret\n",
        "the positive control: both paths are there, and it swaps them"
    );
    let mut command = payload("swap-path", &args);
    let by_host = public.clone();
    command.on_syscall(["openat"], move |call| match call.read_path(call.args()[1]) {
        Ok(path) if path == Path::new("/p") => File::open(&by_host).into(),
        Ok(path) if path == Path::new("/s") => Response::errno(libc::EACCES),
        Ok(path) => File::open(path).into(),
        Err(error) => error.into(),
    });
    let output = sandbox.output(&command)?;
    assert_eq!(output.stdout, b"public\n");
    Ok(())
}

fn errors_deny() -> Result {
    type Handler = fn(&Notification<'_>) -> Response;
    let answers: [(&str, Handler, i32); 6] = [
        ("an errno", |_| Response::errno(libc::ENODEV), libc::ENODEV),
        ("no errno", |_| Response::errno(0), libc::EPERM),
        ("an errno out of range", |_| Response::errno(5000), libc::EPERM),
        ("an error", |_| std::io::Error::from_raw_os_error(libc::ENOTTY).into(), libc::ENOTTY),
        ("an error without errno", |_| std::io::Error::other("no").into(), libc::EPERM),
        (
            "a number that no process can have",
            |_| match File::open("/dev/null") {
                Ok(file) => Response::replace_fd(u32::MAX - 1, file),
                Err(error) => error.into(),
            },
            libc::EBADF,
        ),
    ];
    for (what, handler, errno) in answers {
        let mut command = call(GETPPID);
        command.on_syscall(["getppid"], handler);
        let output = asking(&["getppid"]).output(&command)?;
        assert_eq!(output.stdout, format!("errno {errno}\n").into_bytes(), "{what}");
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut command = call(GETPPID);
    command.on_syscall(["getppid"], |_| panic!("a handler that panics"));
    let output = asking(&["getppid"]).output(&command);
    std::panic::set_hook(hook);
    assert_eq!(output?.stdout, b"errno 1\n");
    Ok(())
}

fn a_call_that_nobody_answers() -> Result {
    let sandbox = asking(&["getppid", "getpgid"]);
    assert_eq!(sandbox.output(call(GETPPID))?.stdout, b"errno 1\n", "the init answers");
    let mut command = call(GETPPID);
    command.on_syscall(["getpgid"], |_| Response::proceed());
    assert_eq!(sandbox.output(&command)?.stdout, b"errno 1\n", "the host answers");
    assert_eq!(closed().output(call(GETPPID))?.outcome.verdict, Verdict::Exited(0), "the positive control");
    Ok(())
}

fn handlers_that_are_never_called() -> Result {
    for (name, sandbox) in
        [("openat", closed()), ("openat", asking(&["connect"])), ("openat", closed().allow_all_syscalls())]
    {
        let mut command = call(GETPPID);
        command.on_syscall([name], |_| Response::proceed());
        let error = sandbox.status(&command).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.to_string().contains(name) && error.hint().is_some_and(|hint| hint.contains("notify")),
            "{error}"
        );
    }
    let mut command = call(GETPPID);
    command.on_syscall(["opennat"], |_| Response::proceed());
    let error = asking(&["openat"]).status(&command).unwrap_err();
    assert!(error.to_string().contains("opennat"), "{error}");
    // It is refused beside a bind that is writable, and then the hint must not ask for what is there.
    let scratch = Scratch::new();
    let bound = asking(&["openat2"]).mount(belljar::Mount::bind_writable(scratch.path(), "/w"));
    let mut command = call(GETPPID);
    command.on_syscall(["openat2"], |_| Response::errno(1));
    let error = bound.status(&command).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("writable bind")), "{error}");
    let error = asking(&["opennat"]).plan().unwrap_err();
    assert!(error.to_string().contains("opennat"), "{error}");
    Ok(())
}

/// Calls with addresses that lead nowhere, or have no end.
fn bad_addresses(_: &[OsString]) -> i32 {
    let long = "a".repeat(10_000);
    let open = |at: usize| {
        raw::syscall(libc::SYS_openat, [libc::AT_FDCWD as usize, at, 0, 0, 0, 0])
            .map_err(|error| error.raw_os_error().unwrap_or(0))
            .map_or_else(|errno| errno, |_| 0)
    };
    let text = std::ffi::CString::new(long).expect("no NUL");
    let errnos = [0, 1, usize::MAX, usize::MAX - 4095, 1 << 63, text.as_ptr().addr()].map(open);
    println!("{errnos:?}");
    0
}

fn addresses_that_are_none() -> Result {
    let mut command = payload("bad-addresses", &[]);
    command.on_syscall(["openat"], |call| match call.read_path(call.args()[1]) {
        Ok(path) => File::open(path).into(),
        Err(error) => error.into(),
    });
    let text = run_succeed(&asking(&["openat"]), &command)?;
    let fault = libc::EFAULT;
    assert_eq!(text, format!("[{fault}, {fault}, {fault}, {fault}, {fault}, {}]\n", libc::ENAMETOOLONG));
    Ok(())
}

fn run_succeed(sandbox: &Sandbox, command: &Command) -> Result<String> {
    support::succeed(sandbox.output(command)?)
}

fn killed_calls_where_the_host_listens() -> Result {
    let filter = Seccomp::new().notify(["getpgid"]).kill(["getppid"]);
    let sandbox = closed().seccomp(filter);
    let mut command = call(GETPPID);
    command.on_syscall(["getpgid"], |_| Response::proceed());
    assert_denied(&sandbox.status(&command)?, "getppid");
    let mut command = payload("thread-call", &[]);
    command.on_syscall(["getpgid"], |_| Response::proceed());
    assert_denied(&sandbox.status(&command)?, "getppid");
    let mut command = payload("crowd", &[]);
    command.on_syscall(["getpgid"], |_| Response::proceed());
    let output = sandbox.output(&command)?;
    assert_eq!((output.stdout.as_slice(), output.outcome.verdict), (&b"200\n"[..], Verdict::Exited(0)));
    assert_eq!(output.outcome.denied.and_then(belljar::Syscall::name), Some("getppid"));
    Ok(())
}

fn programs_of_one_container_have_their_own_handlers() -> Result {
    let container = asking(&["getppid"]).start()?;
    let mut children = Vec::new();
    for n in 0..10 {
        let mut command = call(GETPPID);
        command.on_syscall(["getppid"], move |_| Response::value(1000 + n)).stdout(Stdio::capture(1000_u64));
        children.push((n, container.spawn(&command)?));
    }
    for (n, child) in children {
        let output = child.wait_with_output()?;
        assert_eq!(output.stdout, format!("ok {}\n", 1000 + n).into_bytes());
    }
    // And none.
    assert_eq!(container.output(call(GETPPID))?.stdout, b"errno 1\n");
    Ok(())
}

/// Makes calls while a timer interrupts it a thousand times a second.
fn ticking(_: &[OsString]) -> i32 {
    raw::tick(Duration::from_millis(1));
    for _ in 0..500 {
        match raw::syscall(GETPPID, [0; 6]) {
            Ok(4711) => {}
            other => {
                println!("{other:?}");
                return 1;
            }
        }
    }
    0
}

fn signals_do_not_disturb() -> Result {
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    let mut command = payload("ticking", &[]);
    command.on_syscall(["getppid"], move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(1500));
        Response::value(4711)
    });
    run_succeed(&asking(&["getppid"]), &command)?;
    assert_eq!(heard.load(Ordering::Relaxed), 500, "none was taken back after it had been heard");
    Ok(())
}

fn threads_ask(_: &[OsString]) -> i32 {
    let threads: Vec<_> = (0..16)
        .map(|_| {
            std::thread::spawn(|| {
                (0..200).all(|_| raw::syscall(GETPPID, [0; 6]).is_ok_and(|value| value == 4711))
            })
        })
        .collect();
    i32::from(!threads.into_iter().all(|thread| thread.join().unwrap_or(false)))
}

fn many_threads_ask() -> Result {
    let seen = Arc::new(AtomicU32::new(0));
    let mut command = payload("threads-ask", &[]);
    let count = Arc::clone(&seen);
    command.on_syscall(["getppid"], move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Response::value(4711)
    });
    run_succeed(&asking(&["getppid"]), &command)?;
    assert_eq!(seen.load(Ordering::Relaxed), 3200);
    Ok(())
}

/// A host whose handler never answers: it says the id of the program and waits to be killed.
fn asking_host(_: &[OsString]) -> i32 {
    role_result((|| {
        let mut command = call(GETPPID);
        command.on_syscall(["getppid"], |call| {
            println!("{}", call.thread_id());
            std::io::stdout().flush().ok();
            std::thread::sleep(Duration::from_secs(600));
            Response::proceed()
        });
        asking(&["getppid"]).spawn(&command)?.wait()?;
        Ok(())
    })())
}

fn a_host_that_dies_while_it_is_asked() -> Result {
    let mut host = role_command("asking-host", &[]).stdout(std::process::Stdio::piped()).spawn()?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(host.stdout.take().expect("piped")), &mut line)?;
    let pid: u32 = line.trim().parse().map_err(|_| Fail(format!("it said {line:?}")))?;
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    host.kill()?;
    host.wait()?;
    let gone = within(Duration::from_secs(10) * slack(), || !Path::new(&format!("/proc/{pid}")).exists());
    assert!(gone, "the program goes on");
    Ok(())
}

fn a_program_that_asks_is_not_frozen() -> Result {
    let container = asking(&["getppid"]).freezable().start()?;
    let (sender, asked) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let (answer, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let mut command = call(GETPPID);
    command.on_syscall(["getppid"], move |_| {
        sender.lock().expect("nobody panicked").send(()).ok();
        held.lock().expect("nobody panicked").recv().ok();
        Response::value(1)
    });
    let mut child = container.spawn(&command)?;
    asked.recv_timeout(Duration::from_secs(30)).map_err(|error| Fail(error.to_string()))?;
    let error = container.freeze().unwrap_err();
    assert!(error.to_string().contains("handler"), "{error}");
    answer.send(()).ok();
    assert_eq!(child.wait()?.verdict, Verdict::Exited(0), "it goes on");
    Ok(())
}

/// Writes a line a hundred times a second, for ever.
fn write_lines() -> i32 {
    loop {
        println!("here");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Many threads that ask without a pause.
fn flood_asked(_: &[OsString]) -> i32 {
    for _ in 0..500 {
        std::thread::spawn(|| {
            loop {
                raw::syscall(GETPPID, [0; 6]).ok();
            }
        });
    }
    write_lines()
}

/// Many processes that each have one after the other killed.
fn flood_killed(_: &[OsString]) -> i32 {
    for _ in 0..50 {
        let Ok(0) = raw::fork() else { continue };
        loop {
            match raw::fork() {
                Ok(0) => {
                    raw::syscall(GETPPID, [0; 6]).ok();
                    std::process::exit(9)
                }
                Ok(pid) => drop(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)),
                Err(_) => {}
            }
        }
    }
    write_lines()
}

fn floods_of_calls_hold_up_neither_limits_nor_output() -> Result {
    let mut answered = payload("flood-asked", &[]);
    answered.on_syscall(["getppid"], |_| Response::value(1));
    let floods = [
        ("the init refuses", asking(&["getppid"]), payload("flood-asked", &[])),
        ("the host answers", asking(&["getppid"]), answered),
        ("the init kills", killing(&["getppid"]), payload("flood-killed", &[])),
    ];
    for (what, sandbox, mut command) in floods {
        command.stdout(Stdio::capture(1_000_000_u64));
        // A slow machine needs long for the threads alone.
        let limit = Duration::from_secs(2) * slack().isqrt();
        let output = sandbox.wall_time(limit).output(&command)?;
        assert_eq!(output.outcome.verdict, Verdict::WallTimeExceeded, "{what}");
        let late = output.outcome.usage.wall - limit;
        assert!(late < Duration::from_millis(500) * slack(), "{what}: {late:?}");
        let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        assert!(lines > 20, "{what}: {lines} lines");
    }
    Ok(())
}

fn a_program_that_is_killed_while_it_asks() -> Result {
    let (sender, asked) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let mut command = call(GETPPID);
    let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = Arc::clone(&release);
    let waiting = Arc::new(AtomicU32::new(9));
    let noted = Arc::clone(&waiting);
    command.on_syscall(["getppid"], move |call| {
        sender.lock().expect("nobody panicked").send(()).ok();
        let guard = held.0.lock().expect("nobody panicked");
        drop(held.1.wait_while(guard, |released| !*released).expect("nobody panicked"));
        noted.store(u32::from(call.is_waiting()), Ordering::Relaxed);
        Response::value(1)
    });
    let mut child = asking(&["getppid"]).spawn(&command)?;
    asked.recv_timeout(Duration::from_secs(30)).map_err(|error| Fail(error.to_string()))?;
    child.kill()?;
    assert_eq!(child.wait()?.verdict, Verdict::Killed);
    *release.0.lock().expect("nobody panicked") = true;
    release.1.notify_all();
    assert!(within(Duration::from_secs(10), || waiting.load(Ordering::Relaxed) != 9));
    assert_eq!(waiting.load(Ordering::Relaxed), 0, "it no longer waits");
    Ok(())
}

/// The broker threads of this process.
fn broker_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("proc is mounted");
    tasks
        .flatten()
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "belljar-broker")
        })
        .count()
}

fn threads_end_with_their_programs() -> Result {
    let marker = Arc::new(());
    for n in 0..20 {
        let mut command = payload(if n % 2 == 0 { "exit" } else { "hold" }, &["0"]);
        let held = Arc::clone(&marker);
        command.on_syscall(["getppid"], move |_| {
            let _ = &held;
            Response::proceed()
        });
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = asking(&["getppid"]).spawn(&command)?;
        if n % 4 == 0 {
            child.wait()?;
        }
    }
    let ended = within(Duration::from_secs(10) * slack(), || Arc::strong_count(&marker) == 1);
    assert!(
        ended,
        "{} handlers are held, {} threads go on",
        Arc::strong_count(&marker) - 1,
        broker_threads()
    );
    Ok(())
}

fn unprivileged(_: &[OsString]) -> i32 {
    role_result((|| {
        a_killed_call_is_named()?;
        killed_calls_where_the_host_listens()?;
        the_host_opens_a_file()?;
        the_host_connects()?;
        a_program_starts_that_may_execute_none()
    })())
}

fn an_unprivileged_host_answers() -> Result {
    as_nobody("unprivileged", &[], Duration::from_secs(120))?.succeed()?;
    Ok(())
}

fn many_spawns_from_many_threads() -> Result {
    let asks = asking(&["getppid"]).plan()?;
    let kills = killing(&["getppid"]).plan()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let (asks, kills) = (&asks, &kills);
                scope.spawn(move || -> Result {
                    for round in 0..13 {
                        let value = n * 100 + round;
                        let mut command = call(GETPPID);
                        command.on_syscall(["getppid"], move |_| Response::value(value));
                        let output = asks.output(&command)?;
                        assert_eq!(output.stdout, format!("ok {value}\n").into_bytes());
                        assert_denied(&kills.status_of(call(GETPPID))?, "getppid");
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| Fail("panicked".to_owned()))?)
    })
}
