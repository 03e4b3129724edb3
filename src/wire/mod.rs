//! What the library and the init say to each other, as bytes. Core-only: both programs contain this module.
//!
//! Three kinds of thing cross the border:
//! - **Messages** ([`Request`], [`Reply`]): fixed-size structures on a `SOCK_SEQPACKET` pair, with file descriptors
//!   beside them. One message is one `sendmsg(2)`.
//! - **The plan image**: the operations of a plan, in a sealed memfd, made once per plan.
//! - **The run image**: program paths, argv, environment and descriptor placement of one run, in a memfd as well,
//!   because a sequenced packet refuses 256 KiB and an environment may be larger.
//!
//! The init knows no names. It reports `(stage, index, errno)`; the library still owns the plan and finds the words.

mod image;
mod message;
mod operation;

pub(crate) use image::*;
pub(crate) use message::*;
pub(crate) use operation::*;
