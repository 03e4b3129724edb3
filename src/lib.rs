//! An embeddable Linux sandbox.
#![doc = ""]

mod capability;
mod capture;
mod cgroup;
mod child;
mod command;
mod container;
mod error;
mod feature;
mod host;
mod idmap;
mod limits;
mod link;
mod lowering;
mod mount;
mod namespace;
mod outcome;
mod plan;
mod rootfs;
mod run_image;
mod sandbox;
mod seccomp;
mod spawn;
mod sys;
#[cfg_attr(not(test), allow(dead_code, reason = "the init uses the other half"))]
mod wire;

pub use cgroup::CgroupParent;
pub use child::Child;
pub use command::{Command, Stdio};
pub use container::Container;
pub use error::{Error, ErrorKind, Result, Step};
pub use feature::{Enforced, Feature, Skipped};
pub use host::{Check, Host, Status};
pub use idmap::UserMap;
pub use limits::{Bytes, CpuMax, Resource};
pub use mount::Mount;
pub use outcome::{Outcome, Output, Usage, Verdict};
pub use plan::Plan;
pub use rootfs::{Rootfs, Upper};
pub use sandbox::Sandbox;
pub use seccomp::Seccomp;
