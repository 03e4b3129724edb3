//! Sandboxes in a program that uses tokio, with the names of `tokio::process`. Feature `tokio`.
//!
//! | for a thread | for a task |
//! |---|---|
//! | [`Sandbox::spawn`], [`output`](crate::Sandbox::output), [`status`](crate::Sandbox::status), [`start`](crate::Sandbox::start) | [`Sandbox::spawn_async`], [`output_async`](crate::Sandbox::output_async), [`status_async`](crate::Sandbox::status_async), [`start_async`](crate::Sandbox::start_async) |
//! | [`Plan::spawn`], [`output`](crate::Plan::output), [`start`](crate::Plan::start) | [`Plan::spawn_async`], [`output_async`](crate::Plan::output_async), [`start_async`](crate::Plan::start_async) |
//! | [`Container::spawn`], [`output`](crate::Container::output), [`status`](crate::Container::status), [`reset`](crate::Container::reset), [`close`](crate::Container::close) | [`Container::spawn_async`], [`output_async`](crate::Container::output_async), [`status_async`](crate::Container::status_async), [`reset_async`](crate::Container::reset_async), [`close_async`](crate::Container::close_async) |
//! | [`Pool::spawn`], [`output`](crate::Pool::output), [`status`](crate::Pool::status), [`close`](crate::Pool::close), [`PoolBuilder::start`] | [`Pool::spawn_async`], [`output_async`](crate::Pool::output_async), [`status_async`](crate::Pool::status_async), [`close_async`](crate::Pool::close_async), [`PoolBuilder::start_async`] |
//! | [`Child`](crate::Child) | [`tokio::Child`](Child); [`into_async`](crate::Child::into_async) makes one of the other |
//! | [`wait_timeout`](crate::Child::wait_timeout) | `tokio::time::timeout` around [`wait`](Child::wait) |
//!
//! [`Sandbox::spawn`]: crate::Sandbox::spawn
//! [`Sandbox::spawn_async`]: crate::Sandbox::spawn_async
//! [`Plan::spawn`]: crate::Plan::spawn
//! [`Plan::spawn_async`]: crate::Plan::spawn_async
//! [`Container::spawn`]: crate::Container::spawn
//! [`Container::spawn_async`]: crate::Container::spawn_async
//! [`Pool::spawn`]: crate::Pool::spawn
//! [`Pool::spawn_async`]: crate::Pool::spawn_async
//! [`PoolBuilder::start`]: crate::PoolBuilder::start
//! [`PoolBuilder::start_async`]: crate::PoolBuilder::start_async
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use belljar::{Bytes, Command, Sandbox};
//! use tokio::time::timeout;
//!
//! # async fn tool() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Sandbox::new().memory_max(Bytes::mib(256)).pids_max(16).plan()?;
//! let mut command = Command::new("/usr/bin/sort");
//! command.arg("/etc/passwd");
//! match timeout(Duration::from_secs(5), plan.output_async(&command)).await {
//!     Ok(output) => println!("{} bytes", output?.stdout.len()),
//!     Err(_) => println!("too slow; it is killed already"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **No thread for a child and no signal handler.** A task is woken by the sandbox's control socket and by the pidfd of
//!   its init. The exceptions are a command with [`on_syscall`](crate::Command::on_syscall), whose handlers have a thread, and one
//!   with [`grant_tcp`](crate::Command::grant_tcp), each of whose connections has one.
//! - **Any number of tasks and threads** may wait for programs of one [`Container`](crate::Container) at the same time.
//! - **Cancelling is safe anywhere.** A spawn, start or output that is dropped on its way kills what it started and leaves
//!   nothing. A [`wait`](Child::wait) that is dropped loses nothing and can be called again.
//! - **What `wait` tells is whole**: the program has ended, and a sandbox of its own is gone, with its cgroup and its ids.
//!
//! # What keeps the thread
//!
//! Nothing here waits for a program or for the init in the thread of a task, with this exception: the launch itself is made of
//! system calls that are not waits, one after the other (`clone3`, which returns when the init is executed, the id maps, the
//! mounts that the host clones, the cgroup). It is about as long as the launch of [`Plan::spawn`] and is done in place, for a
//! thread of the blocking pool would cost a thread for each launch that is under way at once. A host for which that is too
//! long takes them from a [`Pool`](crate::Pool), or launches in `spawn_blocking(move || plan.spawn(command))` and goes on with
//! [`into_async`](crate::Child::into_async). Programs in a container cost far less. `cargo bench --features tokio --bench spawn --
//! --tasks` measures all of them.
//!
//! A thread of the blocking pool resolves the name and makes the connection of a [`grant_tcp`](crate::Command::grant_tcp), before
//! the launch. It goes on for its ten seconds at most when the future is dropped, and what comes of it is closed then.
//!
//! Three times the launch does wait for others: an unprivileged host with subordinate ids runs `newuidmap` and `newgidmap`, and the
//! first launch of a process may have to enable the controllers of its cgroup, or to ask systemd for a scope. A sandbox with a
//! user-mode network (feature `net`) waits for its program, 20 ms for `pasta` and 6 ms for `slirp4netns`, and some 30 ms for its end.
//!
//! [`Sandbox::plan`](crate::Sandbox::plan) reads the host's files, so make the plan once. Reading captured output copies memory.
//! [`freeze`](Child::freeze), [`copy_in`](crate::Container::copy_in), [`copy_out`](crate::Container::copy_out) and
//! [`changes`](crate::Container::changes) wait in their thread: they belong in `spawn_blocking`. During a
//! [`reset_async`](crate::Container::reset_async) they, [`usage`](crate::Container::usage) and whatever else is not a future wait
//! for that, too, which another thread brings to its end. Of a program with [limits of its own](crate::Command::limits), what it
//! has left behind is killed in place when it has ended.
//!
//! # Dropping
//!
//! Dropping a [`Child`], or a future on its way, sends `SIGKILL` to PID 1 of the sandbox (for a program of a container: to its
//! process group, by the init) and does not wait for the kernel. In a task of any runtime, another task of that runtime waits
//! for the end, removes the cgroup and gives the ids back. Elsewhere, and where a runtime is shutting down, the thread that
//! drops does it before `drop` returns. [`Child::kill`] returns when all of that is done.
//!
//! A [`Container`](crate::Container) is for threads and tasks, and its `drop` waits; [`close_async`](crate::Container::close_async)
//! is the one for tasks. The same goes for a [`Pool`](crate::Pool).
//!
//! # Which runtimes
//!
//! Those with one thread and with many, if both I/O and time are enabled (`enable_all`). In others, and outside of any, the
//! first call panics as tokio's own do, and leaves nothing behind. A child goes on in the runtime that it was made in: once that
//! is gone it cannot be waited for any more, and dropping it still kills.

mod child;
mod pool;
mod start;
mod stdio;
mod teardown;
mod threads;
mod watch;

pub use self::child::Child;
pub use self::stdio::{ChildStderr, ChildStdin, ChildStdout};
