//! Calls that the host answers in place of the kernel: `seccomp_unotify(2)`.
//!
//! `notification` is what a handler sees, `response` what it says, `serve` the thread between the two. The listener
//! comes from the init (`src/init/listener.rs`), which answers itself where a command has no handler.

mod notification;
mod response;
mod serve;

pub use notification::Notification;
pub use response::Response;
pub(crate) use serve::{ByNumber, Denied, Handlers, serve};
