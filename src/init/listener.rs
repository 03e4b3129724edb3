//! The listener of a program's filter: what the kernel tells of calls that the filter does not decide itself (seccomp_unotify(2)).
//!
//! A call for which the filter is to kill goes this way, because the kernel tells nobody which call it was that it killed
//! a process for. The thread waits in the kernel, the number is noted, and the process is killed: the call is never made.
//!
//! ```text
//! payload: installs the filter, which makes the listener, and sends it through the status channel; execve
//! init:    keeps it, or sends it to the host when that has handlers for the program's calls
//! ```

use crate::sys::{self, Errno, Fd, ProcessOf, Result};
use crate::wire::{Confine, PlanImage, section};

/// What a plan says of its filter.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter<'a> {
    /// With this number as the sixth argument, the filter of the plan allows the payload's last calls, and that of a payload with
    /// one of its own; 0 if they are allowed anyway.
    pub(crate) token: u64,
    /// The numbers of the calls that are for the host, if there is a listener at all.
    asked: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    pub(crate) fn of(plan: &PlanImage<'a>) -> Self {
        let mut last = Self::default();
        // That of the policy comes last, and the ones before it let these calls pass.
        for operation in plan.confine(section::SEAL).flatten() {
            match operation {
                Confine::Seccomp { token, .. } => last = Self { token, asked: None },
                Confine::SeccompListened { token, asked, .. } => last = Self { token, asked: Some(asked) },
                _ => {}
            }
        }
        last
    }

    pub(crate) fn has_listener(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether a call is for the host to answer. All others are answered by killing.
    fn is_asked(&self, number: u32) -> bool {
        let numbers = self.asked.unwrap_or(&[]).chunks_exact(4);
        numbers.into_iter().any(|bytes| bytes == number.to_ne_bytes())
    }
}

/// What a payload says in its status channel beside its listener. Any other number is its process id.
pub(crate) const LISTENER: u32 = 0;

/// What came of one look at a listener.
pub(crate) enum Heard {
    /// Nothing that is still to be answered.
    Nothing,
    /// A process is to be killed for a call.
    Denied { process: ProcessOf, thread: i32, call: u32, id: u64 },
    /// The listener is of no use any more. When it is closed, calls that it should hear of fail.
    Over,
}

/// Takes one call off a listener that has one. A call that is for the host has none here who would answer it, so it fails.
pub(crate) fn hear(listener: Fd, filter: &Filter<'_>) -> Heard {
    let told = match sys::receive_call(listener) {
        Ok(told) => told,
        // The thread was killed meanwhile, or by a signal made to start its call again.
        Err(Errno::ENOENT | Errno::EINTR) => return Heard::Nothing,
        Err(_) => return Heard::Over,
    };
    if filter.is_asked(told.number) {
        refuse(listener, told.id);
        return Heard::Nothing;
    }
    let process = ProcessOf::thread(told.thread);
    // If the thread waits even now, its id had not been given to another when the process was taken hold of.
    match sys::is_call_valid(listener, told.id) {
        true => Heard::Denied { process, thread: told.thread, call: told.number, id: told.id },
        false => Heard::Nothing,
    }
}

/// Lets a call fail.
pub(crate) fn refuse(listener: Fd, id: u64) {
    // What fails is the answer to a thread that has gone and needs none.
    sys::answer_call(listener, id, Errno::EPERM).ok();
}

/// The payload's side: installs the filter and sends its listener. After that every call may be one for the listener.
pub(crate) fn install(program: &[u8], status: Fd) -> Result<()> {
    let listener = sys::install_listening_filter(program)?;
    sys::send(status, &LISTENER, Some(listener.fd()))?;
    // Closed by execve(2): closing it here is a call that the filter may not allow.
    core::mem::forget(listener);
    Ok(())
}
