//! The terminal of whoever started the sandbox. A host that has one leads a session of its own, and so is another process
//! than the one that runs the tests.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::attack::{Control, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, tried};
use crate::support::{Fail, Result, Role, raw, role_command, roles, run_helper};
use crate::trial;

const OWN_SESSION: &str = "a session of its own";

attacks! {
    type_into_the_terminal {
        what: "types a command into the terminal that is its stdin (`TIOCSTI`, CVE-2017-5226)",
        class: &["A7"],
        stopped_by: "the filter looks at the argument; a session of its own",
        method: Method::ByName(|policy| host_with_terminal(policy, "type")),
        control: Control::Other("a process of root's session", |_| host_with_terminal("", "type")),
        control_by: Hosts::Root,
    }
    type_with_high_bits {
        what: "takes a terminal that no session has, and types with a request that is `TIOCSTI` in its lower 32 bits \
               only (CVE-2019-7303)",
        class: &["A7"],
        stopped_by: "the filter compares the 32 bits that the kernel looks at",
        method: Method::ByName(|policy| host_with_terminal(policy, "take-and-type")),
        control: Control::Other("`allow_all_syscalls()`", |_| {
            host_with_terminal("new().allow_all_syscalls()", "take-and-type")
        }),
        unfiltered: false,
        may_lack: true,
    }
    open_the_terminal {
        what: "opens the terminal of the host's session by `/dev/tty`",
        class: &["A7"],
        stopped_by: OWN_SESSION,
        method: Method::ByName(|policy| host_with_terminal(policy, "open")),
        control: Control::Other("a process of the host's session", |_| host_with_terminal("", "open")),
        bare: true,
    }
    steal_the_terminal {
        what: "makes the terminal that is its stdin, and that of the host's session, its own",
        class: &["A7"],
        stopped_by: "no capability in the initial user namespace",
        method: Method::ByName(|policy| host_with_terminal(policy, "steal")),
        control: Control::Other("a process of root in a session of its own", |_| host_with_terminal("", "steal")),
        control_by: Hosts::Root,
    }
}

pub(crate) const ROLES: &[Role] = &[("terminal", use_terminal), ("host-with-terminal", has_terminal)];

/// Runs a host whose session has a terminal: for a policy, or for a process of its own.
fn host_with_terminal(policy: &str, action: &str) -> Result<Tried> {
    let helper =
        run_helper(&mut role_command("host-with-terminal", &[action, policy]), Duration::from_secs(20))?;
    Ok(Tried::of(helper.status.code(), format!("{}{}", helper.stdout.trim(), helper.stderr.trim())))
}

fn has_terminal(args: &[std::ffi::OsString]) -> i32 {
    let (action, policy) = (roles::text(args, 0), roles::text(args, 1));
    // When the other end is closed, the session gets `SIGHUP`: it must stay to the end.
    let (_other_end, terminal) = match raw::terminal_pair() {
        Ok(pair) => pair,
        Err(error) => {
            println!("no terminal: {error}");
            return 2;
        }
    };
    let taken = if action == "take-and-type" { Ok(()) } else { raw::take_terminal(&terminal) };
    let tried = taken.map_err(Fail::from).and_then(|()| attempt(&action, &policy, terminal));
    let tried = tried.unwrap_or_else(|Fail(message)| Tried::CouldNot(message));
    println!("{}", tried.text());
    std::io::stdout().flush().ok();
    std::process::exit(tried.code())
}

fn attempt(action: &str, policy: &str, terminal: OwnedFd) -> Result<Tried> {
    if policy.is_empty() {
        let mut command = role_command("terminal", &[action, "host"]);
        let output = command.stdin(std::process::Stdio::from(terminal)).output()?;
        return Ok(Tried::of(
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        ));
    }
    let (sandbox, program) = trial::policy(policy)?;
    let mut command = belljar::Command::new(program);
    command.args(["--role", "terminal", action]).stdin(terminal);
    let output = sandbox.output(command)?;
    let code = output.outcome.status.code();
    Ok(Tried::of(code, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// What a program does that has a terminal as its stdin.
fn use_terminal(args: &[std::ffi::OsString]) -> i32 {
    const TIOCSTI: usize = 0x5412;
    let mut byte = [b'x'];
    let tried = match roles::text(args, 0).as_str() {
        "type" => tried(libc::SYS_ioctl, [0, TIOCSTI, at(&mut byte)]),
        "take-and-type" => match call(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0]) {
            Ok(_) => tried(libc::SYS_ioctl, [0, 1 << 32 | TIOCSTI, at(&mut byte)]),
            Err(error) => Tried::CouldNot(explain(&error)),
        },
        "steal" => {
            // Who has no session of its own makes one for it.
            if roles::text(args, 1) == "host" {
                call(libc::SYS_setsid, []).ok();
            }
            tried(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 1])
        }
        _ => fs::File::open("/dev/tty").map(drop).into(),
    };
    println!("{}", tried.text());
    tried.code()
}
