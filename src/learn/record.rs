//! The observer: from one call to what the program needs for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::address::{self, Address};
use super::arguments::{self, FEW};
use super::files::Files;
use super::needs::{Need, Needs};
use crate::broker::Notification;
use crate::capability;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::run_image;
use crate::sandbox::Sandbox;
use crate::seccomp::{self, Syscall};

/// Writes down what the program of one run needs.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Where the program may be.
    candidates: Vec<PathBuf>,
    /// What the sandbox keeps, by name.
    kept: Vec<&'static str>,
    state: Mutex<State>,
}

/// How many bytes of names are remembered: a program that makes names must not fill the host's memory.
const ROOM: usize = 16 << 20;
/// What each of them costs beside its bytes.
const EACH: usize = 64;

#[derive(Debug)]
struct State {
    /// What is left of it. At 0 nothing more is written down, and nothing is learned.
    room: usize,
    needs: Needs,
    files: Files,
    /// The combinations of judged arguments of each call.
    calls: BTreeMap<Syscall, BTreeSet<Vec<(u8, u64)>>>,
    /// Programs that were seen since they were started, by the file.
    started: BTreeSet<PathBuf>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            room: ROOM,
            needs: Needs::default(),
            files: Files::default(),
            calls: BTreeMap::new(),
            started: BTreeSet::new(),
        }
    }
}

impl State {
    fn use_up(&mut self, bytes: usize) {
        self.room = self.room.saturating_sub(bytes + EACH);
    }

    /// Adds what one call has shown.
    fn keep(&mut self, seen: Needs) {
        self.room = self.room.saturating_sub(self.files.take_growth(EACH));
        for need in seen {
            if !self.needs.contains(&need) {
                self.use_up(need.length());
                self.needs.insert(need);
            }
        }
    }
}

impl Recorder {
    pub(super) fn new(sandbox: &Sandbox, command: &Command) -> Self {
        let kept = sandbox.capabilities.iter().flatten();
        let kept = capability::mask_of(kept).map(capability::names_of).unwrap_or_default();
        Self { candidates: run_image::program_paths(command, sandbox), kept, state: Mutex::default() }
    }

    pub(super) fn observe(&self, call: &Notification<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let syscall = call.syscall();
        let name = syscall.name().unwrap_or_default();
        if state.room == 0 {
            return;
        }
        let combinations = state.calls.entry(syscall).or_default();
        // One more than are few says that they are many.
        if combinations.len() <= FEW {
            combinations.insert(arguments::values(name, call.args()));
        }
        let mut seen = Needs::default();
        let started = self.note_program(call, state, &mut seen);
        // A call with a path or an address that cannot be read fails by itself.
        state.files.note(call, &mut seen).ok();
        let port = note_address(call, name, state, &mut seen);
        for kept in self.kept.iter().filter(|kept| arguments::may_need(kept, call, port)) {
            seen.insert(Need::Capability((*kept).to_owned()));
        }
        // Whose /proc it was is certain only if the thread waits even now.
        if call.is_waiting() {
            state.keep(seen);
            if let Some(exe) = started {
                state.use_up(exe.as_os_str().len());
                state.started.insert(exe);
            }
        }
    }

    /// The program that a thread runs, when it is first seen.
    fn note_program(&self, call: &Notification<'_>, state: &State, seen: &mut Needs) -> Option<PathBuf> {
        let exe = std::fs::read_link(format!("/proc/{}/exe", call.thread_id())).ok()?;
        if state.started.contains(&exe) {
            return None;
        }
        for candidate in &self.candidates {
            state.files.started(call, candidate, seen);
        }
        Some(exe)
    }

    /// What was needed until now.
    ///
    /// # Errors
    ///
    /// It was too much to be remembered.
    pub(super) fn needs(&self) -> Result<Needs> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.room == 0 {
            let message = format!("what the program needs is more than {} MiB of names", ROOM >> 20);
            return Err(Error::message(ErrorKind::LimitExceeded, Step::Wait, message)
                .with_hint("learn from a program that ends sooner, or from its parts"));
        }
        let mut needs = state.needs.clone();
        for (call, combinations) in &state.calls {
            match combinations.len() {
                1..=FEW => combinations.iter().for_each(|args| needs.insert_call(*call, Some(args.clone()))),
                _ => needs.insert_call(*call, None),
            }
        }
        // Without these no program gets to its end, and they are never asked about.
        for name in seccomp::UNOBSERVED {
            if let Some(call) = Syscall::from_name(name) {
                needs.insert_call(call, None);
            }
        }
        // Of a capability that leaves no trace nobody can say that it was not exercised.
        let visible = |kept: &&&str| arguments::VISIBLE.iter().any(|(known, _)| known == *kept);
        for kept in self.kept.iter().filter(|kept| !visible(kept)) {
            needs.insert(Need::Capability((*kept).to_owned()));
        }
        Ok(needs)
    }
}

/// The address of a socket, and the port if it is bound to one.
fn note_address(call: &Notification<'_>, name: &str, state: &mut State, seen: &mut Needs) -> Option<u16> {
    let args = call.args();
    let (at, length) = match name {
        "connect" | "bind" => (args[1], args[2]),
        "sendto" => (args[4], args[5]),
        _ => return None,
    };
    if at == 0 {
        return None;
    }
    // `struct sockaddr_storage` is 128 bytes, and nothing longer is an address.
    let length = usize::try_from(length & 0xffff_ffff).unwrap_or(0).min(128);
    let address = address::text(&call.read_bytes(at, length).ok()?)?;
    let (text, port) = match address {
        Address::Ip { port, text } => (text, Some(port)),
        Address::Abstract(name) => (format!("abstract:{name}"), None),
        Address::Path(path) => {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(&path));
            if name == "bind" {
                state.files.bind(call, path, seen).ok();
            }
            (format!("unix:{}", path.display()), None)
        }
    };
    seen.insert(if name == "bind" { Need::Bind(text) } else { Need::Connect(text) });
    port.filter(|_| name == "bind")
}
