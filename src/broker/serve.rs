//! The thread that answers: one for each program whose command has handlers. It ends when no process has the filter any more.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::notification::Notification;
use super::response::{Kind, Place, Response};
use crate::error::{Error, Result, Step};
use crate::seccomp::{self, Syscall};
use crate::sys::{self, ProcessOf};

type Handler = dyn Fn(&Notification<'_>) -> Response + Send + Sync;

/// Looks at every call that is left to the host, which the kernel then makes.
type Observer = dyn Fn(&Notification<'_>) + Send + Sync;

/// The handlers of a command, by the names of calls; or one that only looks.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    named: Vec<(Vec<String>, Arc<Handler>)>,
    observer: Option<Arc<Observer>>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named.iter().map(|(names, _)| names)).finish()
    }
}

impl Handlers {
    pub(crate) fn add(&mut self, names: Vec<String>, handler: Arc<Handler>) {
        self.named.push((names, handler));
    }

    pub(crate) fn observe(&mut self, observer: Arc<Observer>) {
        self.observer = Some(observer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.observer.is_none()
    }

    /// The handlers by number. Every name must be one that the plan's filter leaves to the host: a handler that is never
    /// called would be a protection that is not there.
    pub(crate) fn by_number(&self, asked: &[u32]) -> Result<ByNumber> {
        let mut table = BTreeMap::new();
        for (names, handler) in &self.named {
            for name in names {
                for number in seccomp::numbers_of(name)? {
                    if !asked.contains(&number) {
                        return Err(Error::invalid(format!(
                            "there is a handler for {name}, which the filter does not leave to the host"
                        ))
                        .with_hint(format!(
                            "add Seccomp::notify([\"{name}\"]) to the sandbox; if it is there, the rest of the sandbox \
                             refuses the call before anybody is asked, as a writable bind does openat2"
                        )));
                    }
                    table.insert(number, Arc::clone(handler));
                }
            }
        }
        Ok(ByNumber { asked: asked.to_vec(), table, observer: self.observer.clone() })
    }
}

/// Who answers which call.
pub(crate) struct ByNumber {
    asked: Vec<u32>,
    table: BTreeMap<u32, Arc<Handler>>,
    observer: Option<Arc<Observer>>,
}

/// What processes were killed for, noted before they are.
#[derive(Debug, Default)]
pub(crate) struct Denied(Mutex<Calls>);

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calls {
    /// The first one of any process.
    pub(crate) first: Option<Syscall>,
    /// That of the main process.
    pub(crate) main: Option<Syscall>,
}

impl Denied {
    pub(crate) fn get(&self) -> Calls {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, syscall: Syscall, is_main: bool) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.first.get_or_insert(syscall);
        if is_main {
            calls.main = Some(syscall);
        }
    }
}

/// Answers the calls of one program in a thread of its own. `main` is the program's pidfd.
pub(crate) fn serve(
    listener: OwnedFd,
    handlers: ByNumber,
    main: &OwnedFd,
    denied: Arc<Denied>,
) -> Result<()> {
    let failed =
        |error: io::Error| Error::os(Step::Seccomp, "starting the thread that answers system calls", error);
    let id = sys::pid_of(main).map_err(failed)?;
    let main = Main { pidfd: main.try_clone().map_err(failed)?, id };
    let answering = Answering { listener, handlers, main, denied };
    let thread = std::thread::Builder::new().name("belljar-broker".to_owned());
    thread.spawn(move || answering.run()).map(drop).map_err(failed)
}

/// The main process.
struct Main {
    pidfd: OwnedFd,
    /// If it was still there, and has one here.
    id: Option<u32>,
}

impl Main {
    fn has_thread(&self, thread: u32) -> bool {
        // As long as it can be signalled, its id has not been given to another.
        self.id.is_some_and(|id| sys::has_thread(id, thread)) && sys::send_signal(&self.pidfd, 0).is_ok()
    }
}

struct Answering {
    listener: OwnedFd,
    handlers: ByNumber,
    main: Main,
    denied: Arc<Denied>,
}

impl Answering {
    fn run(&self) {
        let listener = self.listener.as_fd();
        loop {
            let mut set = [PollFd::new(listener, PollFlags::POLLIN)];
            match poll(&mut set, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                // Closing the listener lets every call fail that waits or will come.
                Err(_) => return,
                Ok(_) => {}
            }
            let events = set[0].revents().unwrap_or(PollFlags::POLLERR);
            if !events.contains(PollFlags::POLLIN) {
                return;
            }
            match sys::receive_notification(listener) {
                Ok(told) => self.answer(&Notification::new(listener, told)),
                // The thread was killed before it was heard.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
                Err(_) => return,
            }
        }
    }

    fn answer(&self, call: &Notification<'_>) {
        let number = call.syscall().number();
        if !self.handlers.asked.contains(&number) {
            return self.kill(call);
        }
        if let Some(observer) = &self.handlers.observer {
            // A look that fails is one that was not had; whether the call may be made the sandbox has decided.
            catch_unwind(AssertUnwindSafe(|| observer(call))).ok();
            sys::continue_notification(self.listener.as_fd(), call.id()).ok();
            return;
        }
        let response = match self.handlers.table.get(&number) {
            // A handler that panics has not said that the call may be made.
            Some(handler) => catch_unwind(AssertUnwindSafe(|| handler(call))).unwrap_or_else(|_| refused()),
            None => refused(),
        };
        let response = match response.0 {
            Kind::Proceed if call.memory_was_read() => refused(),
            _ => response,
        };
        let listener = self.listener.as_fd();
        if let Err(error) = carry_out(listener, call.id(), &response) {
            // ENOENT: the program no longer waits. For all else it gets the reason, and the call is not made.
            let errno = error.raw_os_error().filter(|errno| *errno != libc::EINVAL).unwrap_or(libc::EPERM);
            sys::answer_notification(listener, call.id(), 0, errno).ok();
        }
    }

    /// A call for which the filter is to kill.
    fn kill(&self, call: &Notification<'_>) {
        let thread = call.thread_id();
        let is_main = self.main.has_thread(thread);
        let process = ProcessOf::thread(thread);
        // If the thread waits even now, its id had not been given to another when the process was taken hold of.
        if !call.is_waiting() {
            return;
        }
        self.denied.note(call.syscall(), is_main);
        let killed = match process.kill() {
            Ok(()) => true,
            // It has gone by itself.
            Err(error) => error.raw_os_error() == Some(libc::ESRCH) && thread != 0,
        };
        if !killed {
            sys::answer_notification(self.listener.as_fd(), call.id(), 0, libc::EPERM).ok();
        }
    }
}

fn refused() -> Response {
    Response::errno(libc::EPERM)
}

fn carry_out(listener: BorrowedFd<'_>, id: u64, response: &Response) -> io::Result<()> {
    match &response.0 {
        Kind::Errno(errno) => sys::answer_notification(listener, id, 0, *errno),
        Kind::Value(value) => sys::answer_notification(listener, id, *value, 0),
        Kind::Fd { fd, place: Place::Free, close_on_exec } => {
            sys::answer_with_fd(listener, id, fd, *close_on_exec)
        }
        Kind::Fd { fd, place: Place::Number(number), close_on_exec } => {
            sys::replace_fd(listener, id, fd, *number, *close_on_exec)?;
            sys::answer_notification(listener, id, 0, 0)
        }
        Kind::Proceed => sys::continue_notification(listener, id),
    }
}
