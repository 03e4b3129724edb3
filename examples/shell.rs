//! A shell for looking into a sandbox while something runs in it: `cargo run --example shell`, and `exit` to leave.
//!
//! On a terminal it connects that to a terminal inside, in raw mode, so that Ctrl-C and the size of the window are the
//! shell's. Otherwise it runs the command of its arguments there and prints what that writes:
//! `cargo run --example shell -- cat /tmp/ticks < /dev/null`.
//!
//! What is written inside goes to the terminal as it is, control sequences included: attach to programs that you trust
//! with your terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line program")]

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use belljar::{Child, Command, Pty, PtySize, Sandbox, Stdio};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, SetArg, Termios};

/// What the shell is there to look at.
const SERVICE: &str = "n=0; while :; do n=$((n + 1)); echo $n > /tmp/ticks; sleep 0.1; done";
const DEFAULT_COMMAND: [&str; 3] =
    ["/bin/sh", "-c", "tty; until test -s /tmp/ticks; do :; done; echo \"ticks: $(cat /tmp/ticks)\""];

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let container = Sandbox::new().start()?;
    let mut service = Command::new("/bin/sh");
    service.args(["-c", SERVICE]).stdout(Stdio::null()).stderr(Stdio::null());
    let _service = container.spawn(&service)?;

    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let stdin = io::stdin();
    let outcome = if stdin.is_terminal() && arguments.is_empty() {
        eprintln!("a process inside counts in /tmp/ticks; `exit` leaves");
        let mut shell = Command::new("/bin/sh");
        shell.arg("-i").env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()));
        let mut child = container.spawn(shell.pty(PtySize::of(&stdin)?))?;
        attach(&mut child)?;
        child.wait()?
    } else {
        let words =
            if arguments.is_empty() { DEFAULT_COMMAND.map(OsString::from).to_vec() } else { arguments };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).pty(PtySize::default());
        let mut child = container.spawn(&command)?;
        let mut text = Vec::new();
        child.pty.take().ok_or("there is no terminal")?.read_to_end(&mut text)?;
        io::stdout().write_all(&text)?;
        child.wait()?
    };
    println!("{}", outcome.verdict);
    Ok(if outcome.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Moves what is typed in and what is written out, until no process inside has the terminal any more.
fn attach(child: &mut Child) -> Result<(), Box<dyn std::error::Error>> {
    let mut pty: Pty = child.pty.take().ok_or("there is no terminal")?;
    let (stdin, mut stdout) = (io::stdin(), io::stdout());
    let _raw = Raw::enter(&stdin)?;
    let mut size = pty.size()?;
    let mut buffer = [0; 4096];
    loop {
        let mut set =
            [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(pty.as_fd(), PollFlags::POLLIN)];
        // The pause is for noticing that the window has another size.
        match poll(&mut set, PollTimeout::from(200_u8)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [typed, written] = set.map(|entry| entry.any().unwrap_or(false));
        let now = PtySize::of(&stdin)?;
        if now != size {
            pty.resize(now)?;
            size = now;
        }
        if typed {
            // By its descriptor: what `Stdin` keeps in its buffer, poll does not see.
            let count = nix::unistd::read(&stdin, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            pty.write_all(&buffer[..count])?;
        }
        if written {
            let count = pty.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            stdout.write_all(&buffer[..count])?;
            stdout.flush()?;
        }
    }
}

/// A terminal that hands on every key as it is, until this is dropped.
struct Raw {
    terminal: io::Stdin,
    before: Termios,
}

impl Raw {
    fn enter(terminal: &io::Stdin) -> nix::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { terminal: io::stdin(), before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting back.
        termios::tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before).ok();
    }
}
