//! Ways to run the program, and how each of them is measured.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio as ProcessStdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::host::Host;
use super::statistics::{Times, micros};

/// One way to run the program.
pub(crate) struct Way<'a> {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The command line, as the document shows it.
    pub(crate) line: Option<String>,
    pub(crate) version: Option<String>,
    /// What its isolation lacks or has more.
    pub(crate) difference: &'static str,
    pub(crate) run: Box<dyn FnMut() -> f64 + 'a>,
    pub(crate) times: Times,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No isolation at all, or no more than the system calls it takes.
    Reference,
    /// This library, called.
    Ours,
    /// This library, called, with something made ready before and made again afterwards.
    OursAhead,
    /// This library as a command line.
    OurCommand,
    /// Another library, called.
    Library,
    /// Another program, from its start to its end.
    Program,
}

/// A stream that may be given away: some change the owner of their streams to that of the program, which must not be that of
/// the machine's `/dev/null`.
fn empty() -> ProcessStdio {
    let (read, write) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .expect("descriptors are left");
    drop(write);
    read.into()
}

/// A command line that is started again and again.
pub(crate) struct Line {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// A file that it reads from the descriptor of this number on.
    pub(crate) filter: Option<File>,
    pub(crate) view: View,
}

/// What a command line sees of `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    AsItIs,
    /// Without the second version's hierarchy beside those of the first.
    WithoutUnified,
}

impl Line {
    pub(crate) fn new(program: PathBuf, args: Vec<String>) -> Self {
        Self { program, args, filter: None, view: View::AsItIs }
    }

    /// Runs it; its last words if it fails.
    pub(crate) fn try_out(&mut self) -> Result<(), String> {
        self.lend_filter(true);
        let mut process = self.process();
        process.stderr(ProcessStdio::piped());
        let mut child = process.spawn().map_err(|error| error.to_string())?;
        let mut words = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_end(&mut words).ok();
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        self.lend_filter(false);
        if status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().rfind(|line| !line.trim().is_empty()).map(str::trim);
        Err(last.map_or_else(|| format!("it ended with {status} and said nothing"), str::to_owned))
    }

    fn time(&mut self) -> f64 {
        self.lend_filter(true);
        let mut process = self.process();
        let mut success = false;
        let time = micros(|| success = process.status().is_ok_and(|status| status.success()));
        assert!(success, "{} worked before", self.program.display());
        self.lend_filter(false);
        time
    }

    fn process(&self) -> Process {
        let mut process = Process::new(&self.program);
        process.args(&self.args).stdin(empty()).stdout(empty()).stderr(empty());
        process
    }

    /// Lets the next process inherit the filter, from its beginning.
    fn lend_filter(&mut self, lend: bool) {
        let Some(file) = &mut self.filter else { return };
        file.rewind().expect("it is a file");
        let flags = if lend { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        fcntl(&*file, FcntlArg::F_SETFD(flags)).expect("it is open");
    }

    /// Adds options that take the number of a descriptor.
    pub(crate) fn with_filter(mut self, option: &str, path: &Path) -> Self {
        let file = File::open(path).expect("the stage is set");
        self.args.splice(0..0, [option.to_owned(), file.as_raw_fd().to_string()]);
        self.filter = Some(file);
        self
    }

    pub(crate) fn measured(mut self) -> Result<Box<dyn FnMut() -> f64>, String> {
        match self.view {
            View::AsItIs => {
                self.try_out()?;
                Ok(Box::new(move || self.time()))
            }
            View::WithoutUnified => Elsewhere::start(self).map(|mut place| {
                let run: Box<dyn FnMut() -> f64> = Box::new(move || place.time());
                run
            }),
        }
    }
}

/// A thread with a mount namespace of its own, in which a command line is started.
struct Elsewhere {
    requests: Sender<()>,
    answers: Receiver<Result<f64, String>>,
}

impl Elsewhere {
    fn start(mut line: Line) -> Result<Self, String> {
        let (requests, asked) = channel();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            let ready = leave_unified_hierarchy().and_then(|()| line.try_out()).map(|()| 0.0);
            answer.send(ready).ok();
            while asked.recv().is_ok() {
                answer.send(Ok(line.time())).ok();
            }
        });
        let place = Self { requests, answers };
        place.answers.recv().expect("the thread answers")?;
        Ok(place)
    }

    fn time(&mut self) -> f64 {
        self.requests.send(()).expect("the thread waits");
        self.answers.recv().expect("the thread answers").expect("it worked before")
    }
}

fn leave_unified_hierarchy() -> Result<(), String> {
    let unified = "/sys/fs/cgroup/unified";
    if !Path::new(unified).exists() {
        return Ok(());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| umount2(unified, MntFlags::MNT_DETACH))
        .map_err(|errno| format!("hiding {unified} from it: {errno}"))
}

/// Another program's library: see `benches/peers-library`.
pub(crate) fn served(program: &Path, kind: &str) -> Result<Box<dyn FnMut() -> f64>, String> {
    let mut host = Host::start(program, [kind]).map_err(|error| error.to_string())?;
    let mut time = move || {
        let line = host.ask("run")?;
        line.trim().parse::<f64>().ok()
    };
    time().ok_or("it ended at once")?;
    Ok(Box::new(move || time().expect("it worked before")))
}

/// A program by its name, in `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
