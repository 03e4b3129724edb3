//! An embeddable Linux sandbox: runs a program you do not trust from inside your own, in namespaces, a root filesystem,
//! a cgroup, ids, capabilities and a system call filter of its own, and tells what it did from what the kernel counted.
//!
//! There is no daemon, no setuid helper and no C library to install. A judge, a plugin host, a CI runner or an agent links
//! the crate and calls it with the words of [`std::process`].
//!
//! # Terminology
//!
//! | noun | what it is |
//! |---|---|
//! | [`Sandbox`] | the policy: what may be seen, used and consumed; plain data, reused for thousands of runs |
//! | [`Command`] | one run: program, arguments, environment, directory, streams |
//! | [`Plan`] | a policy, validated against this host and lowered to operations; the one place where a policy fails |
//! | [`Container`] | a sandbox that is set up and waits for programs |
//! | [`Pool`] | containers that are kept ready, each for the next program |
//! | [`Child`] | a program that runs; dropping it kills |
//! | [`Outcome`] | what it did and used, and what was enforced |
//! | [`Interaction`] | two programs that talk to each other |
//! | [`Host`] | what this machine can do, really tried, with the cause and the remedy for what it cannot |
//! | *host* | the program that links this crate, and its machine |
//! | *init* | PID 1 of every sandbox: a tiny program without libc that this crate embeds |
//! | *box* | the cgroup directories of a sandbox with limits |
//!
//! # An example
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use belljar::{Bytes, Command, Mount, Sandbox, Stdio, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The policy, made once.
//! let sandbox = Sandbox::new()
//!     .mount(Mount::bind("/srv/judge/submission", "/submission"))
//!     .memory_max(Bytes::mib(256))
//!     .pids_max(16)
//!     .cpu_time(Duration::from_secs(2))
//!     .wall_time(Duration::from_secs(10));
//! let plan = sandbox.plan()?; // fails here, with a remedy, if this host cannot do it
//!
//! // One run of many.
//! let mut command = Command::new("/submission/main");
//! command.arg("--fast").env("LANG", "C.UTF-8").stdout(Stdio::capture(Bytes::mib(1)));
//! let output = plan.output(&command)?; // fails if it could not be set up or executed
//!
//! // What the program did is not an error.
//! match output.outcome.verdict {
//!     Verdict::Exited(0) => println!("{} bytes", output.stdout.len()),
//!     Verdict::MemoryExceeded => println!("too much memory: {:?}", output.outcome.usage.peak_memory),
//!     other => println!("{other}, after {:?} of CPU time", output.outcome.usage.cpu),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Threat model
//!
//! 1. The program is hostile, and so is everything it leaves behind; the host, its policy and the kernel are trusted.
//! 2. [`Sandbox::new`] is closed. What a `share_`, `keep_`, `inherit_` or `allow_` call names is given away, and no more.
//! 3. What was asked for is required: if it cannot be had the call fails, unless [`Sandbox::best_effort`] names it.
//! 4. Nothing outlives its sandbox: drop, a limit, and the death of the host kill the tree.
//! 5. Bugs of the kernel and side channels are not covered, and resources that no limit names are not limited.
//!
//! # What happens on a spawn
//!
//! ```text
//! host program (many threads, any size)                     the sandbox
//!  Plan: every byte the other side needs, one sealed memfd
//!    │ id block reserved; START(plan, pidfd of the host, mounts the host cloned) waits in the control socket
//!    ├─ clone3(VM|VFORK|PIDFD|NEW*…) ───────────────────▶ a few raw system calls, then
//!    │                                                   execveat(init, from a sealed memfd)
//!    │ goes on at once: its own size and threads never mattered
//!    │                                                   init, PID 1: finds START; names, loopback, clocks, …
//!    ├─ id maps, then GO(mounts that needed them) ────────▶ the operations that need ids: mounts, the root
//!    ├─ cgroup box made meanwhile, BOX(files to join by) ─▶
//!    ├─ RUN(argv, environment, stdio, limits) ────────────▶ (in the same breath when the plan is for one program)
//!    │ ◀────────────────────────────── READY (to a container only) or FAILED(stage, operation, errno)
//!    │                                                     forks: cgroup, descriptors, session, rlimits, ids,
//!    │                                                     capabilities, no_new_privs, directory, seccomp, execve
//!    │ ◀────────────────────────────── STARTED(pidfd) or FAILED(stage, operation, errno)
//!    │ ◀────────────────────────────── EXITED(wait status, usage); the init reaps everything else meanwhile
//!    └─ Outcome = that report + the box's counters; the init exits, the kernel ends the PID namespace, and the box is
//!       removed meanwhile
//! ```
//!
//! `println!("{plan}")` prints every operation of a plan in order. The spawn may come from any thread, and changes
//! nothing of the host: no signal handler, no working directory, no environment. The one exception: on cgroup version 2
//! the first sandbox with limits moves the host into a leaf of its own cgroup (see [`CgroupParent::Auto`]). The init is a
//! child process, so its end sends `SIGCHLD`; a host may ignore that or reap it, nothing here depends on it.
//!
//! # Errors and outcomes
//!
//! They share no number space. An [`Error`] says that a sandbox could not be planned, set up or observed: its
//! [`kind`](Error::kind), the [`step`](Error::step), the [`path`](Error::path), the [errno](Error::raw_os_error), and with
//! [`hint`](Error::hint) what to change. A program that is missing is an error of kind [`ErrorKind::Exec`]. Whatever a
//! program does once it is executed is an [`Outcome`]: its wait status as it is, a [`Verdict`] by written precedence, its
//! [`Usage`], and in [`Enforced`] what was in force.
//!
//! # Features of the crate
//!
//! None is on by default. `oci` brings `LayerStore` and `Image`: a store of filesystem layers, and images of the Open
//! Container Initiative and of Docker in it; and `Container::commit`, which makes a layer of what a sandbox has changed. `systemd` brings `CgroupParent::SystemdScope`, a cgroup of its own for a process that shares its
//! cgroup with others, and with it a D-Bus client. `serde` brings policies as data, `Sandbox::from_toml` and its likes, and
//! `Seccomp::from_json` and `to_json`, for the seccomp profiles of container engines. `tokio` brings the module `tokio`: spawn,
//! wait and streams as futures.
//!
//! # Platform
//!
//! Linux on x86_64 and aarch64 (compiled, not yet run). A root filesystem, which [`Sandbox::new`] has, needs Linux 5.12; an
//! overlay in a user namespace 5.11; the default `/proc` 5.8. An unprivileged host needs unprivileged user namespaces, and
//! a delegated cgroup for tree limits; [`Host::probe`] says what is missing. Building needs a C compiler as a linker, as every Rust program does.
//!
//! # More
//!
//! The repository has documents on the architecture, the threat model, kernel features, the setup of a host and the
//! decisions behind all that (`docs/`), a specification that names the test of every promise, and examples: an online judge, a
//! plugin host, and the library as a command line.

mod ahead;
mod broker;
mod capability;
mod capture;
mod cgroup;
mod changes;
mod child;
mod command;
mod container;
mod control;
mod current;
mod deterministic;
mod device;
mod empty_mounts;
mod entries;
mod error;
mod fallback;
mod feature;
mod files;
mod fsimage;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod grant;
mod host;
mod idmap;
#[cfg(feature = "oci")]
mod image;
#[cfg(any(test, fuzzing))]
#[allow(dead_code, reason = "the init uses it; here it is tested")]
#[path = "init/deadline.rs"]
mod init_deadline;
#[cfg(test)]
#[allow(dead_code, reason = "the init uses it; here it is tested")]
#[path = "init/token.rs"]
mod init_token;
mod interaction;
mod joining;
mod landlock;
#[cfg(feature = "oci")]
mod layer;
mod learn;
mod limits;
mod link;
mod lowering;
mod lsm;
mod merged;
mod mount;
mod mount_template;
mod mountinfo;
mod namespace;
#[cfg(feature = "net")]
mod network;
mod outcome;
mod plan;
#[cfg(feature = "serde")]
mod policy;
mod pool;
mod pty;
mod quota;
mod removal;
mod rootfs;
mod run_image;
mod run_limits;
mod runtime;
mod sandbox;
mod scheduling;
mod seccomp;
mod skeleton;
mod source;
mod spawn;
mod starts;
mod storage;
mod sys;
mod teardown;
mod tenants;
#[cfg(feature = "tokio")]
pub mod tokio;
mod upper;
#[allow(dead_code, reason = "the init uses the other half")]
mod wire;

pub use self::landlock::{Landlock, LandlockAccess};
pub use broker::{Notification, Response};
pub use capability::Capability;
pub use cgroup::{
    BlockDevice, CgroupParent, CpuSet, DeviceAccess, DeviceRules, Event, Events, IoMax, Limits, Oom,
    OomScope, OomVictim, Pressure, PressureShare, PressureStall,
};
pub use changes::{Change, ChangeKind};
pub use child::Child;
pub use command::{Command, Stdio};
pub use container::Container;
pub use error::{Error, ErrorKind, Result, Step};
pub use feature::{Enforced, Feature, Skipped};
pub use host::{Check, Disturbance, Host, Noise, Status};
pub use idmap::UserMap;
#[cfg(feature = "oci")]
pub use image::{Image, ImageBuilder, ImportOptions, Platform};
pub use interaction::{Dialogue, Interaction, InteractionOutcome, Side, SideOutcome, Transcript, Turn};
#[cfg(feature = "oci")]
pub use layer::{Collected, Damage, Digest, LayerInfo, LayerStore, Progress};
pub use learn::{Learned, Need, Needs, NeedsDiff};
pub use limits::{Bytes, CpuMax, Resource};
pub use mount::Mount;
pub use namespace::Namespace;
#[cfg(feature = "net")]
pub use network::{
    Bridge, BridgeBuilder, Bridged, Egress, EgressCount, Network, Traffic, UserMode, UserModeProgram,
};
pub use outcome::{Outcome, Output, Usage, Verdict};
pub use plan::Plan;
pub use pool::{Pool, PoolBuilder, PoolMetrics, Reuse, WhenEmpty};
pub use pty::{Pty, PtySize};
pub use rootfs::{Rootfs, Upper};
pub use sandbox::Sandbox;
pub use scheduling::{IoPriority, Scheduler};
pub use seccomp::{Seccomp, Syscall, SyscallAction, SyscallArg, SyscallCondition};

pub use storage::{Base, Storage, StorageDriver, StorageReport, Workspace};
pub use upper::UpperDir;
