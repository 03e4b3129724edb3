//! Learning what a program needs, by watching it.
//!
//! Every system call that the sandbox's filter would let through waits for the host, which writes down what it asks for
//! and lets the kernel go on. `record` is that observer, with `files`, `address` and `arguments` for what calls are about;
//! `needs` is what it has written down, and `policy` the way back to a policy.

mod address;
mod arguments;
mod files;
mod needs;
mod policy;
mod record;

use std::borrow::Borrow;
use std::sync::Arc;

pub use needs::{Need, Needs, NeedsDiff};

use crate::command::Command;
use crate::error::Result;
use crate::outcome::Output;
use crate::sandbox::Sandbox;
use record::Recorder;

/// What [`Sandbox::learn`] has seen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Learned {
    /// How the program ended, and its captured output.
    pub output: Output,
    /// What it needed.
    pub needs: Needs,
}

impl Sandbox {
    /// Runs a program to its end in this sandbox, and returns the least that it needed: system calls (with arguments, where
    /// they are few and the kernel takes them by value), files and what was done with them, addresses, and capabilities of
    /// those that the sandbox [keeps](Sandbox::keep_capability). [`Needs::apply`] makes a policy of it.
    ///
    /// The program runs as the sandbox lets it: what that denies is denied, and is no need. So give it a sandbox that lets it
    /// do all that it may ever do. What a run does not do is not learned: [merge](Needs::merge) several, with the inputs
    /// that matter.
    ///
    /// Learn from programs that you trust, or from a sandbox that you trust to hold them. What is written down of memory
    /// (paths, addresses) is read before the kernel reads it again, and a program can make those two differ. The filter and
    /// the rest of the sandbox hold all the same.
    ///
    /// Each system call waits for the host, which makes a program slower by some tens of microseconds for each. Limits of time go
    /// on meanwhile. A signal that comes between a call and the host's hearing of it makes the call fail with `EINTR` if its
    /// handler has no `SA_RESTART`, even a call that never does so otherwise: on a busy machine a shell may say that it
    /// cannot fork. Learn again where the output is not the usual one.
    ///
    /// # Errors
    ///
    /// As [`output`](Sandbox::output), and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a command with
    /// [handlers](Command::on_syscall), whose calls would not be seen. [`LimitExceeded`](crate::ErrorKind::LimitExceeded)
    /// for a program that names more files and addresses than 16 MiB hold.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let mut command = Command::new("/usr/bin/sort");
    /// command.arg("/etc/passwd");
    /// let sandbox = Sandbox::new();
    /// let learned = sandbox.learn(&command)?;
    /// println!("{}", learned.needs);
    /// // The same program again, with nothing but that.
    /// let output = learned.needs.apply(sandbox).output(&command)?;
    /// assert!(output.outcome.success());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn learn(&self, command: impl Borrow<Command>) -> Result<Learned> {
        let command = command.borrow();
        command.refuse_handlers()?;
        let recorder = Arc::new(Recorder::new(self, command));
        let mut sandbox = self.clone();
        sandbox.seccomp =
            Some(self.seccomp.clone().unwrap_or_else(crate::seccomp::Seccomp::everything).observed());
        let observer = Arc::clone(&recorder);
        let command = command.clone().observed_by(move |call| observer.observe(call));
        let output = sandbox.output(&command)?;
        drop(command);
        Ok(Learned { output, needs: recorder.needs()? })
    }
}
