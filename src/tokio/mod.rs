//! Sandboxes in a program that uses tokio.

mod child;
mod start;
mod stdio;
mod teardown;
mod watch;

pub use self::child::Child;
pub use self::stdio::{ChildStderr, ChildStdin, ChildStdout};
