//! Attacks on sandboxes: each is made inside of every closed policy, by a privileged host and by one without privilege,
//! and is first shown to work where its defence is missing. `docs/attacks.md` has the table.

#![allow(
    unsafe_code,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

mod attack;
mod calls;
mod cgroups;
mod classes;
mod endings;
mod filesystem;
mod identity;
mod ipc;
mod leaks;
mod limits;
mod mounts;
mod network;
mod place;
mod processes;
mod results;
mod roots;
mod stage;
#[allow(dead_code, reason = "each test program uses its own part")]
#[path = "../support/mod.rs"]
mod support;
mod syscalls;
mod table;
mod terminal;
mod trial;

use std::process::ExitCode;

use attack::Entry;
use support::{Case, Role};

/// Every attack, by mechanism.
const MECHANISMS: &[(&str, &[Entry])] = &[
    ("Files", filesystem::ATTACKS),
    ("Mounts", mounts::ATTACKS),
    ("Hostile roots", roots::ATTACKS),
    ("What a run leaves behind", results::ATTACKS),
    ("Identity", identity::ATTACKS),
    ("Processes", processes::ATTACKS),
    ("Ends", endings::ATTACKS),
    ("Network", network::ATTACKS),
    ("Objects of the kernel", ipc::ATTACKS),
    ("Terminals", terminal::ATTACKS),
    ("Control groups", cgroups::ATTACKS),
    ("Limits", limits::ATTACKS),
    ("What can be learned", leaks::ATTACKS),
    ("System calls", syscalls::ATTACKS),
];

/// The programs that they need.
const ROLES: &[&[Role]] =
    &[processes::ROLES, endings::ROLES, results::ROLES, network::ROLES, terminal::ROLES, limits::ROLES];

fn main() -> ExitCode {
    let entries = MECHANISMS.iter().flat_map(|(_, entries)| entries.iter());
    let mut cases: Vec<Case> = entries.map(Entry::case).collect();
    cases.extend(table::CASES.iter().copied());
    let mut roles: Vec<Role> = vec![
        ("attack", trial::attack),
        ("lease", trial::lease),
        ("rootless", trial::rootless),
        ("bystander", stage::bystander),
        ("table", table::print),
    ];
    roles.extend(ROLES.iter().flat_map(|more| more.iter()));
    let code = support::main(cases.leak(), &roles);
    trial::close();
    code
}
