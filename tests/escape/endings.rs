//! Living on past the end, and lying about it.

use std::time::{Duration, Instant};

use belljar::{Sandbox, Stdio, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attack::{Control, Method, Tried};
use crate::attacks;
use crate::calls::call;
use crate::stage::Stage;
use crate::support::{
    Result, Role, fail, oracle, payload, raw, role_command, roles, run_helper, slack, within,
};

attacks! {
    kill_the_init {
        what: "kills or stops the init with every signal, to live on past its deadline",
        class: &["A22"],
        stopped_by: "PID 1 takes no signal from inside",
        method: Method::Around(kill_the_init),
        control: Control::Other("the same signals to a process of the host", kill_a_bystander),
    }
    survive_as_a_daemon {
        what: "leaves a process behind that has forked twice",
        class: &["A18", "B4"],
        stopped_by: "the end of the PID namespace",
        method: Method::Around(survive),
        control: Control::Other("a process of the host", survive_on_host),
    }
    hold_the_output_open {
        what: "ends, and leaves a process that holds its output open, so that the host waits",
        class: &["A22", "B2"],
        stopped_by: "the end of the main process is the end of the output",
        method: Method::Around(hold_the_output_open),
        control: Control::Other("a process of the host", hold_on_host),
    }
    spoof_the_exit_status {
        what: "has a grandchild that ends with 0 after the program has failed",
        class: &["B8"],
        stopped_by: "the init reports the main process only",
        method: Method::Around(spoof),
        control: Control::Other("a process that takes what `waitpid(-1)` says last", spoof_on_host),
    }
    stop_instead_of_ending {
        what: "stops itself, to outlive its time",
        class: &["A28"],
        stopped_by: "the init's deadline kills",
        method: Method::Around(stop_itself),
        control: Control::Other("a process of the host stays", stop_on_host),
    }
}

pub(crate) const ROLES: &[Role] = &[
    ("signal-init", signal_init),
    ("two-ends", |_| two_ends()),
    ("reap-last", |_| reap_last()),
    ("holder", holder),
];

const SIGNALS: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGSEGV,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGUSR1,
    libc::SIGALRM,
];

/// Sends each signal in each way, and then lives on.
fn signal_init(args: &[std::ffi::OsString]) -> i32 {
    let pid = roles::int(args, 0) as usize;
    let pidfd = call(libc::SYS_pidfd_open, [pid, 0]);
    for signal in SIGNALS.map(|signal| signal as usize) {
        call(libc::SYS_kill, [pid, signal]).ok();
        call(libc::SYS_tgkill, [pid, pid, signal]).ok();
        if let Ok(fd) = pidfd {
            call(libc::SYS_pidfd_send_signal, [fd as usize, signal, 0, 0]).ok();
        }
    }
    std::thread::sleep(Duration::from_secs(10));
    0
}

fn kill_the_init(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let sandbox = sandbox.wall_time(Duration::from_millis(300));
    let start = Instant::now();
    let outcome = sandbox.status(payload("signal-init", &["1"]))?;
    let time = start.elapsed();
    Ok(match outcome.verdict {
        Verdict::WallTimeExceeded if time < Duration::from_secs(3) * slack() => {
            Tried::Denied("the deadline came".into())
        }
        other => Tried::Broke(format!("{other:?} after {time:?}")),
    })
}

fn kill_a_bystander(_: &Stage) -> Result<Tried> {
    let mut victim = role_command("sleep", &["30000"]).spawn()?;
    let mut attacker = role_command("signal-init", &[&victim.id().to_string()]).spawn()?;
    let dead =
        within(Duration::from_secs(5) * slack(), || victim.try_wait().is_ok_and(|status| status.is_some()));
    attacker.kill()?;
    attacker.wait()?;
    victim.kill().ok();
    victim.wait()?;
    Ok(if dead { Tried::Broke("it is dead".into()) } else { Tried::Denied("it lives".into()) })
}

/// A text that no other process has.
fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("escape-mark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn survivors(mark: &str) -> Tried {
    let left = oracle::processes_with(mark);
    for pid in &left {
        kill(Pid::from_raw(*pid as i32), Signal::SIGKILL).ok();
    }
    match left.is_empty() {
        true => Tried::Denied("nobody is left".into()),
        false => Tried::Broke(format!("{left:?} live on")),
    }
}

fn survive(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let mark = mark();
    let outcome = sandbox.status(payload("daemon", &[&mark]))?;
    match outcome.success() {
        true => Ok(survivors(&mark)),
        false => fail(format!("{:?}", outcome.verdict)),
    }
}

fn survive_on_host(_: &Stage) -> Result<Tried> {
    let mark = mark();
    let mut command = role_command("daemon", &[&mark, "close"]);
    run_helper(&mut command, Duration::from_secs(10))?;
    Ok(survivors(&mark))
}

/// How long an output is held open.
fn held_for() -> Duration {
    Duration::from_secs(2) * slack()
}

/// A child keeps stdout for so many milliseconds, its parent does not wait for it.
fn holder(args: &[std::ffi::OsString]) -> i32 {
    if raw::fork().expect("fork") == 0 {
        roles::sleep(args);
    }
    0
}

fn hold_the_output_open(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let mut command = payload("holder", &[&held_for().as_millis().to_string()]);
    command.stdout(Stdio::piped());
    let start = Instant::now();
    let output = sandbox.spawn(&command)?.wait_with_output()?;
    judge_time(output.outcome.success(), start)
}

fn hold_on_host(_: &Stage) -> Result<Tried> {
    let start = Instant::now();
    let output = role_command("holder", &[&held_for().as_millis().to_string()])
        .stdin(std::process::Stdio::null())
        .output()?;
    judge_time(output.status.success(), start)
}

fn judge_time(success: bool, start: Instant) -> Result<Tried> {
    let time = start.elapsed();
    Ok(match success {
        _ if time >= held_for().mul_f64(0.95) => Tried::Broke(format!("the host waited for {time:?}")),
        true => Tried::Denied("the host did not wait".into()),
        false => Tried::CouldNot("it failed".into()),
    })
}

/// Fails at once; what it leaves behind ends with 0 a little later.
fn two_ends() -> i32 {
    match raw::fork() {
        Ok(0) => {
            std::thread::sleep(Duration::from_millis(100));
            0
        }
        _ => 7,
    }
}

fn spoof(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let outcome = sandbox.status(payload("two-ends", &[]))?;
    Ok(match outcome.verdict {
        Verdict::Exited(7) => Tried::Denied("it is the main process's".into()),
        other => Tried::Broke(format!("{other:?}")),
    })
}

/// What an init does that reports the last one it has reaped.
fn reap_last() -> i32 {
    nix::sys::prctl::set_child_subreaper(true).ok();
    if raw::fork().expect("fork") == 0 {
        return two_ends();
    }
    let mut last = 0;
    while let Ok(status) = nix::sys::wait::waitpid(None, None) {
        if let nix::sys::wait::WaitStatus::Exited(_, code) = status {
            last = code;
        }
    }
    last
}

fn spoof_on_host(_: &Stage) -> Result<Tried> {
    let helper = run_helper(&mut role_command("reap-last", &[]), Duration::from_secs(10))?;
    Ok(match helper.status.code() {
        Some(0) => Tried::Broke("the failure is gone".into()),
        other => Tried::Denied(format!("{other:?}")),
    })
}

fn stop_itself(_: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let sandbox = sandbox.wall_time(Duration::from_millis(300));
    let outcome = sandbox.status(payload("raise", &[&libc::SIGSTOP.to_string()]))?;
    Ok(match outcome.verdict {
        Verdict::WallTimeExceeded => Tried::Denied("the deadline came".into()),
        other => Tried::Broke(format!("{other:?}")),
    })
}

fn stop_on_host(_: &Stage) -> Result<Tried> {
    let mut child = role_command("raise", &[&libc::SIGSTOP.to_string()]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let there = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(if there { Tried::Broke("it is still there".into()) } else { Tried::Denied("it ended".into()) })
}
