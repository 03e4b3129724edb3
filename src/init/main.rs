//! The init: PID 1 of every sandbox. A freestanding program of some tens of KiB, executed from a sealed memfd.
//!
//! It sets the container up, forks the programs that the host asks for, reaps whatever ends, enforces deadlines and
//! output budgets by itself, and ends (and with it, in a pid namespace, everything) when the host goes away.

#![no_std]
#![no_main]
#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

#[path = "../wire/mod.rs"]
#[allow(dead_code, reason = "the library uses the other half")]
mod wire;

mod clock;
mod container;
mod deadline;
mod files;
mod gate;
mod handshake;
mod label;
mod landlock;
mod listener;
mod path;
mod payload;
mod prepared;
mod program;
mod pty;
mod pump;
mod setup;
#[allow(dead_code, reason = "constants come in families")]
mod sys;
mod token;
mod warm;

use sys::{Errno, Fd};

/// The control socket, which the launcher placed here (and on 1 and 2, to keep those numbers taken).
const CONTROL: Fd = Fd(0);

/// Called by the entry point in `sys::rt`.
pub(crate) extern "C" fn start() -> ! {
    let signals = sys::default_signals().and_then(|()| sys::block_signals());
    let ready = signals.map_err(|errno| broken(wire::line::SIGNALS, errno));
    match ready.and_then(|()| handshake::Container::receive(CONTROL)) {
        Ok(mut container) => container.run(),
        Err(failed) => {
            // The host reads the reason, or is gone; either way this is the end.
            sys::tell(CONTROL, &failed, None).ok();
            sys::exit(253)
        }
    }
}

/// A failure report.
fn failed(child: u32, failure: wire::ChildFailure) -> wire::Reply {
    wire::Reply {
        kind: wire::reply::FAILED,
        child,
        stage: failure.stage,
        index: failure.index,
        errno: failure.errno,
        ..wire::Reply::default()
    }
}

/// A failure of the init itself.
fn broken(index: u32, errno: Errno) -> wire::Reply {
    failed(wire::CONTAINER, wire::ChildFailure { stage: wire::stage::PROTOCOL, index, errno: errno.0 })
}
