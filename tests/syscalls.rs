//! The system call filter from the public interface: words, profiles, imported profiles, with real programs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[cfg(feature = "serde")]
#[path = "syscalls/engines.rs"]
mod engines;
#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Command, ErrorKind, Mount, Sandbox, Seccomp, Stdio, Syscall, SyscallAction, SyscallArg, Verdict,
};
use support::{Case, Result, Scratch, closed, fail, payload, run_role, run_sh, sh, succeed};

fn main() -> ExitCode {
    let cases: &'static [Case] = cases![
        every_action: ["userns"],
        a_trapped_call_reaches_its_handler: ["userns", "cc"],
        a_comparison_of_64_bits_is_walked_past_and_one_of_32_is_not: ["userns"],
        conditions_of_64_bits_look_at_all_of_them: ["userns"],
        alternatives_and_exceptions: ["userns"],
        a_policy_that_cannot_be_is_an_error_of_the_plan: ["bare"],
        c_and_cpp_run_under_every_profile: ["userns", "cc", "cxx"],
        rust_runs_under_every_profile: ["userns"],
        python_runs_under_judge_and_plugin: ["userns", "python3"],
        java_runs_under_judge_and_plugin: ["userns", "java"],
        shells_run_under_judge: ["userns", "sh"],
        judge_denies_what_no_solution_needs: ["userns"],
        plugin_talks_over_what_it_was_given: ["userns", "python3"],
        plugin_has_threads_and_no_processes: ["userns", "cc"],
        strict_kills_at_the_first_call_that_is_not_computing: ["userns"],
        strict_tells_a_crash_from_a_denied_call: ["userns", "cc"],
    ];
    #[cfg(feature = "serde")]
    let cases: &'static [Case] = Box::leak([cases, engines::CASES].concat().into_boxed_slice());
    support::main(cases, &[])
}

/// Makes one call inside, and says "ok" or the errno; nothing if it was killed.
fn ask(sandbox: &Sandbox, number: libc::c_long, arguments: &[i64]) -> Result<(String, Verdict)> {
    let words: Vec<String> =
        std::iter::once(number).chain(arguments.iter().copied()).map(|n| n.to_string()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = sandbox.output(payload("syscall", &words))?;
    Ok((String::from_utf8_lossy(&output.stdout).trim().to_owned(), output.outcome.verdict))
}

/// The same, of a call that returns.
fn answer(sandbox: &Sandbox, number: libc::c_long, arguments: &[i64]) -> Result<String> {
    let (text, verdict) = ask(sandbox, number, arguments)?;
    match verdict {
        Verdict::Exited(_) => Ok(text),
        verdict => fail(format!("call {number} {arguments:?}: {verdict:?}")),
    }
}

fn under(policy: Seccomp) -> Sandbox {
    closed().seccomp(policy)
}

fn unfiltered() -> Sandbox {
    closed().allow_all_syscalls()
}

fn killed(name: &str) -> Verdict {
    Verdict::SyscallDenied { syscall: Syscall::from_name(name) }
}

const EPERM: &str = "errno 1";

fn every_action() -> Result {
    let getppid = libc::SYS_getppid;
    let with = |action| under(Seccomp::new().on(["getppid"], action));
    let cases = [
        (SyscallAction::Allow, "ok", Verdict::Exited(0)),
        (SyscallAction::Log, "ok", Verdict::Exited(0)),
        (SyscallAction::Errno(77), "errno 77", Verdict::Exited(1)),
        (SyscallAction::Errno(4095), "errno 4095", Verdict::Exited(1)),
        (SyscallAction::Trap, "", Verdict::SyscallDenied { syscall: None }),
        (SyscallAction::Kill, "", killed("getppid")),
    ];
    for (action, text, verdict) in cases {
        assert_eq!(ask(&with(action), getppid, &[])?, (text.to_owned(), verdict), "{action:?}");
        // The same for a call that no word is about, of an address that is not one of a page.
        let mincore = |sandbox: Sandbox| ask(&sandbox, libc::SYS_mincore, &[1, 1, 0]);
        let made = mincore(unfiltered())?;
        assert_eq!(made.0, "errno 22", "the control");
        let wanted = if text == "ok" { made.0 } else { text.to_owned() };
        assert_eq!(mincore(under(Seccomp::new().otherwise(action)))?.0, wanted, "otherwise {action:?}");
    }
    Ok(())
}

/// What `SyscallAction::Trap` promises: a handler sees the number of the call, and the program goes on.
fn a_trapped_call_reaches_its_handler() -> Result {
    let source = r#"
        #define _GNU_SOURCE
        #include <signal.h>
        #include <stdio.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static volatile int number = -1;
        static void handler(int signal, siginfo_t *info, void *context) { number = info->si_syscall; }
        int main(void) {
            struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
            sigaction(SIGSYS, &action, 0);
            syscall(SYS_getppid);
            printf("%d\n", number == SYS_getppid);
            return 0;
        }"#;
    let scratch = Scratch::new();
    let program = support::compile(&scratch, "trapped", source, &[])?;
    let sandbox = |policy| under(policy).mount(Mount::bind(&program, "/program"));
    let run = |policy| succeed(sandbox(policy).output(Command::new("/program"))?);
    assert_eq!(run(Seccomp::new().trap(["getppid"]))?, "1\n");
    assert_eq!(run(Seccomp::new())?, "0\n", "the control");
    Ok(())
}

/// CVE-2019-7303, with a call whose argument is an `int` as well: the kernel looks at the low half of the register.
fn a_comparison_of_64_bits_is_walked_past_and_one_of_32_is_not() -> Result {
    const AF_UNIX: i64 = 1;
    let hidden = 1 << 32 | AF_UNIX;
    let socket = |policy, domain| answer(&under(policy), libc::SYS_socket, &[domain, 1, 0]);
    let full = Seccomp::new().deny_if("socket", [SyscallArg::new(0).eq(AF_UNIX)]);
    assert_eq!(socket(full.clone(), AF_UNIX)?, EPERM);
    assert_eq!(socket(full, hidden)?, "ok", "the attack");
    let low = Seccomp::new().deny_if("socket", [SyscallArg::new(0).low32().eq(AF_UNIX)]);
    assert_eq!(socket(low.clone(), AF_UNIX)?, EPERM);
    assert_eq!(socket(low, hidden)?, EPERM);
    Ok(())
}

/// An offset is 64 bits in the kernel: a comparison of 32 would deny what it should not.
fn conditions_of_64_bits_look_at_all_of_them() -> Result {
    // lseek(-1, offset, SEEK_SET): EBADF tells that the filter let it through.
    let seek = |condition, offset| {
        let policy = Seccomp::new().deny_if("lseek", [condition]);
        answer(&under(policy), libc::SYS_lseek, &[-1, offset, 0])
    };
    let offset = || SyscallArg::new(1);
    let large = 5_i64 << 32 | 7;
    assert_eq!(seek(offset().eq(large), large)?, EPERM);
    assert_eq!(seek(offset().eq(large), 7)?, "errno 9");
    assert_eq!(seek(offset().gt(large), large)?, "errno 9");
    assert_eq!(seek(offset().gt(large), 6 << 32)?, EPERM);
    assert_eq!(seek(offset().lt(large), large - 1)?, EPERM);
    assert_eq!(seek(offset().masked_eq(3_i64 << 32, 1_i64 << 32), large)?, EPERM);
    assert_eq!(seek(offset().masked_eq(3_i64 << 32, 1_i64 << 32), 2 << 32)?, "errno 9");
    Ok(())
}

fn alternatives_and_exceptions() -> Result {
    let domain = || SyscallArg::new(0).low32();
    let kind = || SyscallArg::new(1).low32();
    let policy = Seccomp::new()
        .deny(["socket"])
        .allow_if("socket", [domain().eq(libc::AF_UNIX)])
        .allow_if("socket", [domain().eq(libc::AF_INET)])
        .on_if(
            "socket",
            [domain().eq(libc::AF_INET), kind().masked_eq(0xf, libc::SOCK_STREAM)],
            SyscallAction::Errno(13),
        );
    let sandbox = under(policy);
    let socket =
        |domain: i32, kind: i32| answer(&sandbox, libc::SYS_socket, &[domain.into(), kind.into(), 0]);
    assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM)?, "ok");
    assert_eq!(socket(libc::AF_INET, libc::SOCK_DGRAM)?, "ok");
    assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?, "errno 13");
    assert_eq!(socket(libc::AF_INET6, libc::SOCK_DGRAM)?, EPERM);
    assert_eq!(answer(&unfiltered(), libc::SYS_socket, &[10, 2, 0])?, "ok", "the control");
    Ok(())
}

fn a_policy_that_cannot_be_is_an_error_of_the_plan() -> Result {
    let arg = SyscallArg::new;
    let mistakes = [
        (Seccomp::new().deny(["@networkio"]), "unknown group of syscalls \"@networkio\""),
        (Seccomp::judge().deny_if("read", [arg(7).eq(1)]), "system calls have no argument 7"),
        (
            Seccomp::plugin().deny_if("read", [arg(0).lt(3), arg(0).gt(4)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::strict().allow_if("read", [arg(0).eq(0)]),
            "conditions under which \"read\" is allowed change nothing",
        ),
    ];
    for (policy, text) in mistakes {
        let error = Sandbox::bare().seccomp(policy).plan().err().ok_or_else(|| support::Fail(text.into()))?;
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidConfig, text));
        assert!(error.hint().is_some(), "{text}");
    }
    Ok(())
}

const NUMBERS: &[u8] = include_bytes!("../examples/judge/problems/sum/tests/few.in");
const SUM: &str = include_str!("../examples/judge/problems/sum/tests/few.out");

/// Runs a program that adds numbers.
fn adds(sandbox: &Sandbox, command: &mut Command) -> Result {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::capture(support::mib(1)))
        .stderr(Stdio::capture(support::mib(1)));
    let mut child = sandbox.spawn(&*command)?;
    child.stdin.take().ok_or_else(|| support::Fail("no stdin".into()))?.write_all(NUMBERS)?;
    assert_eq!(succeed(child.wait_with_output()?)?.trim(), SUM.trim());
    Ok(())
}

fn compile_with(compiler: &str, scratch: &Scratch, name: &str, source: &str) -> Result<PathBuf> {
    let code = scratch.file(name, source);
    let program = scratch.join(format!("{name}.out"));
    let mut command = std::process::Command::new(compiler);
    command.arg("-O2").arg("-o").arg(&program).arg(&code);
    support::run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    Ok(program)
}

fn profiles() -> [Seccomp; 4] {
    [Seccomp::new(), Seccomp::judge(), Seccomp::plugin(), Seccomp::strict()]
}

fn c_and_cpp_run_under_every_profile() -> Result {
    let scratch = Scratch::new();
    let programs = [
        compile_with(
            "cc",
            &scratch,
            "add.c",
            include_str!("../examples/judge/problems/sum/submissions/add.c"),
        )?,
        compile_with(
            "c++",
            &scratch,
            "add.cpp",
            include_str!("../examples/judge/problems/sum/submissions/add.cpp"),
        )?,
    ];
    for (policy, program) in
        profiles().iter().flat_map(|policy| programs.iter().map(move |program| (policy, program)))
    {
        let sandbox = under(policy.clone()).mount(Mount::bind(program, "/program"));
        adds(&sandbox, &mut Command::new("/program"))?;
    }
    Ok(())
}

fn rust_runs_under_every_profile() -> Result {
    for policy in profiles() {
        assert_eq!(run_role(&under(policy), "burn", &["20"])?, "");
    }
    Ok(())
}

fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-c", script]);
    command
}

fn python_runs_under_judge_and_plugin() -> Result {
    let add = include_str!("../examples/judge/problems/sum/submissions/add.py");
    let threads = "import threading\nt = [threading.Thread(target=print, args=(n,)) for n in range(3)]\n\
                   for one in t: one.start(); one.join()";
    let loops =
        "import asyncio\nasync def main(): await asyncio.sleep(0.01); print('done')\nasyncio.run(main())";
    let processes =
        "import subprocess; print(subprocess.run(['/bin/echo', 'hello'], capture_output=True).stdout)";
    for policy in [Seccomp::judge(), Seccomp::plugin()] {
        adds(&under(policy.clone()), &mut python(add))?;
        assert_eq!(succeed(under(policy).output(python(threads))?)?, "0\n1\n2\n");
    }
    // Its event loop has a pair of sockets, which a solution has no use for.
    assert_eq!(succeed(under(Seccomp::plugin()).output(python(loops))?)?, "done\n");
    let judged = under(Seccomp::judge()).output(python(loops))?;
    assert!(
        String::from_utf8_lossy(&judged.stderr).contains("PermissionError"),
        "{:?}",
        judged.outcome.verdict
    );
    assert_eq!(succeed(under(Seccomp::judge()).output(python(processes))?)?, "b'hello\\n'\n");
    let alone = under(Seccomp::plugin()).output(python(processes))?;
    assert!(
        String::from_utf8_lossy(&alone.stderr).contains("PermissionError"),
        "{:?}",
        alone.outcome.verdict
    );
    Ok(())
}

fn java_runs_under_judge_and_plugin() -> Result {
    let scratch = Scratch::new();
    let source =
        scratch.file("Main.java", include_str!("../examples/judge/problems/sum/submissions/add.java"));
    let classes = scratch.dir("classes");
    let mut compiler = std::process::Command::new("javac");
    compiler.arg("-d").arg(&classes).arg(source);
    support::run_helper(&mut compiler, Duration::from_secs(120))?.succeed()?;
    for policy in [Seccomp::judge(), Seccomp::plugin()] {
        let mut sandbox = under(policy).mount(Mount::bind(&classes, "/classes"));
        for entry in std::fs::read_dir("/etc")?.flatten() {
            // Debian's Java has links from /usr to its settings.
            if entry.file_name().as_encoded_bytes().starts_with(b"java") {
                sandbox = sandbox.mount(Mount::bind(entry.path(), entry.path()));
            }
        }
        let mut command = Command::new("/usr/bin/java");
        command.args(["-XX:+UseSerialGC", "-Xmx64m", "-cp", "/classes", "Main"]);
        adds(&sandbox, &mut command)?;
    }
    Ok(())
}

fn shells_run_under_judge() -> Result {
    let sandbox = under(Seccomp::judge());
    adds(&sandbox, &mut sh(include_str!("../examples/judge/problems/sum/submissions/add.sh")))?;
    let script =
        "cd /tmp && echo one > a && cat a | tr o 0 > b && sort a b && ls | wc -l && (exit 3) || echo $?";
    assert_eq!(run_sh(&sandbox, script)?.split_whitespace().collect::<Vec<_>>(), ["0ne", "one", "2", "3"]);
    Ok(())
}

/// Each is denied under the profile, and the same call reaches the kernel without a filter.
fn denied(policy: &Seccomp, attempts: &[(&str, libc::c_long, &[i64])]) -> Result {
    let (filtered, open) = (under(policy.clone()), unfiltered());
    for &(what, number, arguments) in attempts {
        assert_eq!(answer(&filtered, number, arguments)?, EPERM, "{what}");
        assert_ne!(answer(&open, number, arguments)?, EPERM, "the control: {what}");
    }
    Ok(())
}

fn judge_denies_what_no_solution_needs() -> Result {
    denied(
        &Seccomp::judge(),
        &[
            ("a local socket", libc::SYS_socket, &[1, 1, 0]),
            ("an internet socket", libc::SYS_socket, &[2, 1, 0]),
            ("one of 64 bits", libc::SYS_socket, &[1 << 32 | 2, 1, 0]),
            ("shared memory", libc::SYS_shmget, &[0, 4096, 0o1600]),
            ("a message queue", libc::SYS_msgget, &[0, 0o1600]),
            ("watching files", libc::SYS_inotify_init1, &[0]),
            ("a namespace", libc::SYS_unshare, &[0x1000_0000]),
            ("another processor", libc::SYS_sched_setaffinity, &[0, 0, 0]),
            ("another priority", libc::SYS_setpriority, &[0, 0, 5]),
            ("an asynchronous context", libc::SYS_io_setup, &[1, 0]),
            ("a ring", libc::SYS_io_uring_setup, &[1, 0]),
            ("a keyring", libc::SYS_keyctl, &[0, -3, 0]),
            ("locking memory", libc::SYS_mlockall, &[1]),
        ],
    )?;
    // The verdict that a judge may want instead.
    let killing = under(Seccomp::judge().otherwise(SyscallAction::Kill));
    assert_eq!(ask(&killing, libc::SYS_socket, &[2, 1, 0])?.1, killed("socket"));
    Ok(())
}

fn plugin_talks_over_what_it_was_given() -> Result {
    let script = "import socket\nhost = socket.socket(fileno=3)\nhost.settimeout(20)\n\
                  while data := host.recv(100): host.sendall(data.upper())";
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = python(script);
    command.keep_fd(&theirs, 3).stderr(Stdio::capture(support::mib(1)));
    let child = under(Seccomp::plugin()).spawn(&command)?;
    drop((command, theirs));
    ours.set_read_timeout(Some(Duration::from_secs(60)))?;
    ours.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(&ours).read_line(&mut line)?;
    assert_eq!(line, "HELLO\n");
    ours.shutdown(std::net::Shutdown::Write)?;
    ours.read_to_string(&mut line)?;
    succeed(child.wait_with_output()?)?;
    denied(
        &Seccomp::plugin(),
        &[
            ("a socket", libc::SYS_socket, &[1, 1, 0]),
            ("connecting", libc::SYS_connect, &[0, 0, 0]),
            ("listening", libc::SYS_listen, &[0, 0]),
            ("an option of a protocol", libc::SYS_setsockopt, &[0, 0, 64, 0, 0]),
            ("shared memory", libc::SYS_shmget, &[0, 4096, 0o1600]),
            ("another program", libc::SYS_execve, &[0, 0, 0]),
            ("one by descriptor", libc::SYS_execveat, &[-1, 0, 0, 0, 0]),
        ],
    )
}

fn plugin_has_threads_and_no_processes() -> Result {
    let source = r#"
        #define _GNU_SOURCE
        #include <errno.h>
        #include <pthread.h>
        #include <sched.h>
        #include <stdio.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static void *thread(void *number) { *(int *)number = 5; return 0; }
        static int refused(long result) {
            if (result == 0) _exit(0);
            return result < 0 ? errno : 0;
        }
        int main(void) {
            pthread_t one;
            int number = 0;
            if (pthread_create(&one, 0, thread, &number) == 0) pthread_join(one, 0);
            printf("%d %d %d\n", number, refused(fork()), refused(syscall(SYS_clone, 17, 0, 0, 0, 0)));
            return 0;
        }"#;
    let scratch = Scratch::new();
    let program = support::compile(&scratch, "threads", source, &["-pthread"])?;
    let run = |policy| {
        succeed(under(policy).mount(Mount::bind(&program, "/program")).output(Command::new("/program"))?)
    };
    assert_eq!(run(Seccomp::plugin())?, "5 1 1\n");
    assert_eq!(run(Seccomp::judge())?, "5 0 0\n", "the control");
    Ok(())
}

fn strict_kills_at_the_first_call_that_is_not_computing() -> Result {
    let sandbox = under(Seccomp::strict());
    let attempts: &[(&str, &[i64])] = &[
        ("socket", &[1, 1, 0]),
        ("clone", &[17, 0, 0, 0, 0]),
        ("execve", &[0, 0, 0]),
        ("unlinkat", &[-100, 0, 0]),
        // Opening for writing, and the same with the upper half set.
        ("openat", &[-100, 0, 1]),
        ("openat", &[-100, 0, 1 << 32 | 2]),
        ("nanosleep", &[0, 0]),
        ("kill", &[1, 0]),
        ("prlimit64", &[1, 0, 0, 0]),
        ("ioctl", &[0, 0x5412, 0]),
    ];
    for (name, arguments) in attempts {
        let number = Syscall::from_name(name).ok_or_else(|| support::Fail((*name).into()))?.number().into();
        let (text, verdict) = ask(&sandbox, number, arguments)?;
        assert_eq!(verdict, killed(name), "{name} {arguments:?}: {text}");
        let control = ask(&unfiltered(), number, arguments)?.1;
        assert!(matches!(control, Verdict::Exited(_)), "the control: {name} {control:?}");
    }
    // A C library falls back from clone3 to clone, which kills.
    assert_eq!(answer(&sandbox, libc::SYS_clone3, &[0, 0])?, "errno 38");
    assert_eq!(ask(&sandbox, libc::SYS_openat, &[-100, 0, 0])?.0, "errno 14", "reading reaches the kernel");
    Ok(())
}

fn strict_tells_a_crash_from_a_denied_call() -> Result {
    let source = r#"
        #include <assert.h>
        #include <stdio.h>
        #include <stdlib.h>
        int main(int count, char **words) {
            switch (words[1][0]) {
            case 'a': abort();
            case 's': *(volatile int *)8 = 1;
            case 'n': assert(count == 0);
            default: return remove("/nothing");
            }
        }"#;
    let scratch = Scratch::new();
    let program = support::compile(&scratch, "crash", source, &["-O0"])?;
    let sandbox = under(Seccomp::strict()).mount(Mount::bind(&program, "/program"));
    let run = |word: &str| -> Result<Verdict> {
        let mut command = Command::new("/program");
        command.arg(word).stderr(Stdio::capture(support::mib(1)));
        Ok(sandbox.status(&command)?.verdict)
    };
    assert_eq!(run("abort")?, Verdict::Signaled(libc::SIGABRT));
    assert_eq!(run("segfault")?, Verdict::Signaled(libc::SIGSEGV));
    assert_eq!(run("no")?, Verdict::Signaled(libc::SIGABRT));
    let removed = if cfg!(target_arch = "x86_64") { "unlink" } else { "unlinkat" };
    assert_eq!(run("remove")?, killed(removed));
    Ok(())
}
