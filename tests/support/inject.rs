//! A tracer by `ptrace(2)` that makes one system call of one process fail, and sees every process to its end.
//!
//! strace(1) can inject too, but counts for each process on its own: "the second `prctl`" is then the second of the host,
//! *and* the second of the init, *and* the second of the program's process. That is more than one fault, and the first
//! of them hides the others: many calls of the program's process could not be reached at all.
#![expect(unsafe_code, reason = "ptrace has no safe wrapper here")]

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// No kernel has this system call: the host makes it where belljar's part begins and ends.
pub(crate) const MARK: i64 = 0x000b_e111;

/// The processes of a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The program that uses the crate, between the marks.
    Host,
    /// A thread that it starts for its mounts.
    Thread,
    /// The child of `clone3` that shares the host's memory, until it has executed the init.
    Launch,
    Init,
    /// The process that becomes the program, until it has.
    Payload,
    /// A process of the host that is none of these.
    Helper,
    /// The program. Nothing fails there: it is not ours.
    Program,
}

impl Who {
    pub(crate) const ALL: [Self; 7] =
        [Self::Host, Self::Thread, Self::Launch, Self::Init, Self::Payload, Self::Helper, Self::Program];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|who| format!("{who:?}") == text)
    }
}

/// The one call that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) who: Who,
    pub(crate) call: i64,
    /// Which of its calls with this number, counted from 1.
    pub(crate) nth: u32,
    pub(crate) errno: i32,
}

/// What a traced run has shown.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The process id of the host.
    pub(crate) host: i32,
    /// Its wait status.
    pub(crate) status: i32,
    pub(crate) hit: bool,
    /// Every call that could have failed, in order.
    pub(crate) calls: Vec<(Who, i64)>,
    /// Processes that were still there when the host had been gone for a while.
    pub(crate) left: Vec<(Who, i32)>,
}

struct Tracee {
    /// Not known yet when its first stop is seen before the event of its parent.
    who: Option<Who>,
    stopped: bool,
    /// The call it is in is the one that fails.
    failing: bool,
}

/// How long what the host leaves may take to die.
const GRACE: Duration = Duration::from_secs(3);

fn ptrace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<i64> {
    // SAFETY: the callers pass numbers, or the address of a live buffer with its length, as the request takes them.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether a process may trace its children here.
pub(crate) fn works() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--role", "exit", "0"]);
    let trace = run(&mut command, None)?;
    if trace.status == 0 { Ok(()) } else { Err(io::Error::other(format!("status {}", trace.status))) }
}

/// Runs a command as the host, with one fault or none. The calling process must have no other children.
pub(crate) fn run(command: &mut Command, fault: Option<Fault>) -> io::Result<Trace> {
    // SAFETY: between fork and exec only ptrace(2) is called, which allocates nothing.
    unsafe { command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop)) };
    let child = command.spawn()?;
    let host = i32::try_from(child.id()).unwrap_or(-1);
    let mut tracer = Tracer {
        fault,
        marked: false,
        counts: HashMap::new(),
        tracees: HashMap::new(),
        trace: Trace { host, ..Trace::default() },
    };
    let mut status = 0;
    // SAFETY: a live integer.
    if unsafe { libc::waitpid(host, &raw mut status, libc::__WALL) } != host || !libc::WIFSTOPPED(status) {
        return Err(io::Error::other("the host did not stop at its first instruction"));
    }
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, host, 0, options.unsigned_abs() as usize)?;
    tracer.tracees.insert(host, Tracee { who: Some(Who::Host), stopped: false, failing: false });
    tracer.go_on(host, 0);
    tracer.follow()?;
    Ok(tracer.trace)
}

struct Tracer {
    fault: Option<Fault>,
    /// The host is between the marks.
    marked: bool,
    counts: HashMap<(Who, i64), u32>,
    tracees: HashMap<i32, Tracee>,
    trace: Trace,
}

impl Tracer {
    /// Until every process is gone, or the host is and the others do not follow.
    fn follow(&mut self) -> io::Result<()> {
        let mut alone_since = None;
        while !self.tracees.is_empty() {
            let mut status = 0;
            let flags = libc::__WALL | if alone_since.is_some() { libc::WNOHANG } else { 0 };
            // SAFETY: a live integer.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
            if pid < 0 {
                match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EINTR) => continue,
                    error if error.raw_os_error() == Some(libc::ECHILD) => break,
                    error => return Err(error),
                }
            }
            if pid == 0 {
                if alone_since.is_some_and(|since: Instant| since.elapsed() > GRACE) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.tracees.remove(&pid);
                if pid == self.trace.host {
                    self.trace.status = status;
                    alone_since = Some(Instant::now());
                }
                continue;
            }
            self.stopped(pid, status);
        }
        let left = self.tracees.iter().map(|(pid, tracee)| (tracee.who.unwrap_or(Who::Helper), *pid));
        self.trace.left = left.collect();
        Ok(())
    }

    fn stopped(&mut self, pid: i32, status: i32) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            // A new process, before the event of its parent.
            self.tracees.insert(pid, Tracee { who: None, stopped: true, failing: false });
            return;
        };
        let Some(who) = tracee.who else { return };
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let mut child = 0_u64;
                let child_at = (&raw mut child) as usize;
                if ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, child_at).is_ok() {
                    let role = match who {
                        // The second of two children, which becomes the init, is cloned by the first.
                        Who::Host | Who::Launch if event == libc::PTRACE_EVENT_VFORK => Who::Launch,
                        Who::Host if event == libc::PTRACE_EVENT_CLONE => Who::Thread,
                        Who::Init => Who::Payload,
                        Who::Program => Who::Program,
                        _ => Who::Helper,
                    };
                    // SAFETY of meaning: the kernel wrote the number; the compiler cannot know.
                    let child = i32::try_from(std::hint::black_box(child)).unwrap_or(-1);
                    let new = self.tracees.entry(child).or_insert(Tracee {
                        who: None,
                        stopped: false,
                        failing: false,
                    });
                    new.who = Some(role);
                    if new.stopped {
                        self.go_on(child, 0);
                    }
                }
                self.go_on(pid, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                tracee.who = Some(match who {
                    Who::Launch => Who::Init,
                    Who::Payload => Who::Program,
                    other => other,
                });
                self.go_on(pid, 0);
            }
            _ if signal == libc::SIGTRAP | 0x80 => {
                self.call(pid, who);
                self.go_on(pid, 0);
            }
            // The first stop of a new process, and those of its image: not signals of anybody.
            _ if signal == libc::SIGSTOP || signal == libc::SIGTRAP => self.go_on(pid, 0),
            _ => self.go_on(pid, signal),
        }
    }

    /// At the entry or the exit of a system call.
    fn call(&mut self, pid: i32, who: Who) {
        const ENTRY: u64 = 1;
        const EXIT: u64 = 2;
        // struct ptrace_syscall_info: the first byte is the kind of stop; the number of the call is at 24.
        let mut info = [0_u64; 16];
        let info_at = (&raw mut info) as usize;
        if ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), info_at).is_err() {
            return;
        }
        let info = std::hint::black_box(info);
        let kind = u64::from(info[0].to_ne_bytes()[0]);
        if kind == EXIT {
            let failing =
                self.tracees.get_mut(&pid).is_some_and(|tracee| std::mem::take(&mut tracee.failing));
            if let (true, Some(fault)) = (failing, self.fault) {
                registers::answer(pid, fault.errno).ok();
            }
            return;
        }
        if kind != ENTRY {
            return;
        }
        let Ok(call) = i64::try_from(info[3]) else { return };
        if call == MARK {
            self.marked = !self.marked;
            return;
        }
        if who == Who::Program || (matches!(who, Who::Host | Who::Thread) && !self.marked) {
            return;
        }
        self.trace.calls.push((who, call));
        let count = self.counts.entry((who, call)).or_default();
        *count += 1;
        if self.fault.is_some_and(|fault| fault.who == who && fault.call == call && fault.nth == *count) {
            // The kernel lets go of a descriptor before it answers, whatever it answers (close(2), NOTES): a close that does
            // nothing is no fault that could happen.
            if call == libc::SYS_close || registers::skip(pid, call).is_ok() {
                self.trace.hit = true;
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.failing = true;
                }
            }
        }
    }

    /// Lets a process run to its next system call; the program runs to its end.
    fn go_on(&mut self, pid: i32, signal: i32) {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return };
        tracee.stopped = false;
        let request = if tracee.who == Some(Who::Program) { libc::PTRACE_CONT } else { libc::PTRACE_SYSCALL };
        // It may have been killed meanwhile, of which waitpid tells.
        ptrace(request, pid, 0, signal.unsigned_abs() as usize).ok();
    }
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use std::io;

    fn change(pid: i32, f: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        super::ptrace(libc::PTRACE_GETREGS, pid, 0, (&raw mut registers) as usize)?;
        f(&mut registers);
        super::ptrace(libc::PTRACE_SETREGS, pid, 0, (&raw const registers) as usize).map(drop)
    }

    /// Makes the kernel carry nothing out. A program's filter sees the number of the call, and may kill for one that it
    /// does not know; `execve`, `sendmsg` and `seccomp` therefore stay what they are, with an address that is nowhere or an
    /// operation that is none.
    pub(super) fn skip(pid: i32, call: i64) -> io::Result<()> {
        change(pid, |registers| match call {
            libc::SYS_execve => registers.rdi = 1,
            libc::SYS_sendmsg => registers.rsi = 1,
            libc::SYS_seccomp => registers.rdi = 99,
            _ => registers.orig_rax = u64::MAX,
        })
    }

    /// Gives the answer of the call that was skipped.
    pub(super) fn answer(pid: i32, errno: i32) -> io::Result<()> {
        change(pid, |registers| registers.rax = -i64::from(errno) as u64)
    }
}

#[cfg(target_arch = "aarch64")]
mod registers {
    use std::io;

    const NT_PRSTATUS: usize = 1;
    const NT_ARM_SYSTEM_CALL: usize = 0x404;

    fn change(pid: i32, f: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let mut vector =
            libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of_val(&registers) };
        super::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, (&raw mut vector) as usize)?;
        f(&mut registers);
        super::ptrace(libc::PTRACE_SETREGSET, pid, NT_PRSTATUS, (&raw const vector) as usize).map(drop)
    }

    /// Makes the kernel carry nothing out. A program's filter sees the number of the call, and may kill for one that it
    /// does not know; `execve`, `sendmsg` and `seccomp` therefore stay what they are, with an address that is nowhere or an
    /// operation that is none.
    pub(super) fn skip(pid: i32, call: i64) -> io::Result<()> {
        match call {
            libc::SYS_execve => return change(pid, |registers| registers.regs[0] = 1),
            libc::SYS_sendmsg => return change(pid, |registers| registers.regs[1] = 1),
            libc::SYS_seccomp => return change(pid, |registers| registers.regs[0] = 99),
            _ => {}
        }
        let mut number = -1_i32;
        let vector = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: size_of_val(&number) };
        super::ptrace(libc::PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, (&raw const vector) as usize).map(drop)
    }

    /// Gives the answer of the call that was skipped.
    pub(super) fn answer(pid: i32, errno: i32) -> io::Result<()> {
        change(pid, |registers| registers.regs[0] = -i64::from(errno) as u64)
    }
}
