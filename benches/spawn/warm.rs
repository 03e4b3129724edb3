//! What is left of the price of a sandbox when it was set up before: a program in a container that lives on, beside
//! plain `posix_spawn` of the same program.

use std::time::Duration;

use belljar::{Container, Pool, Sandbox};

use super::statistics::compare;
use super::{closed, quiet, tiny};

const BLOCK: usize = 20;
const BLOCKS: usize = 100;
/// How many single runs stand for a block: each waits until the pools are full again, which takes long.
const SINGLES: usize = 5;
/// Containers that a pool keeps ready.
const POOL: usize = 4;

pub(crate) fn measure() {
    let host = tiny::File::new();
    let start = |sandbox: Sandbox| sandbox.start().expect("the sandbox works here");
    let limited = start(closed());
    let unlimited = start(super::with_tiny(Sandbox::new()));
    let command = quiet("/true");
    let in_container = |container: &Container| {
        let outcome = container.spawn(&command).and_then(|mut child| child.wait()).expect("it works");
        assert!(outcome.success());
    };
    let plain = || {
        assert!(std::process::Command::new(host.path()).status().expect("it runs").success());
    };
    println!("one after the other:");
    compare(
        BLOCKS,
        BLOCK,
        &|| {},
        &[
            ("posix_spawn", &plain),
            ("container, no limits", &|| in_container(&unlimited)),
            ("container, memory and pids limits", &|| in_container(&limited)),
        ],
    );
    let pool = |sandbox: Sandbox| {
        let plan = sandbox.plan().expect("a valid policy");
        plan.pool().size(POOL).start().expect("the sandbox works here")
    };
    let (limited, unlimited) = (pool(closed()), pool(super::with_tiny(Sandbox::new())));
    let in_pool = |pool: &Pool| {
        let outcome = pool.spawn(&command).and_then(|mut child| child.wait()).expect("it works");
        assert!(outcome.success());
    };
    println!("one by one, when the pools are full again:");
    compare(
        BLOCKS * SINGLES,
        1,
        // What is measured is the way of a program, and not who makes the next container meanwhile.
        &|| {
            while limited.metrics().ready < POOL || unlimited.metrics().ready < POOL {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(2));
        },
        &[
            ("posix_spawn", &plain),
            ("pool, no limits", &|| in_pool(&unlimited)),
            ("pool, memory and pids limits", &|| in_pool(&limited)),
        ],
    );
}
