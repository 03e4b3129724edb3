//! What is left of the price of a sandbox when it was set up before: a program in a container that lives on, beside
//! plain `posix_spawn` of the same program.

use std::time::Instant;

use belljar::{Container, Sandbox};

use super::statistics::median;
use super::{closed, quiet, tiny};

const BLOCK: usize = 20;
const BLOCKS: usize = 100;

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
    let ways: [(&str, &dyn Fn()); 3] = [
        ("posix_spawn", &plain),
        ("container, no limits", &|| in_container(&unlimited)),
        ("container, memory and pids limits", &|| in_container(&limited)),
    ];
    let mut times = ways.map(|_| Vec::new());
    for _ in 0..BLOCKS {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            for _ in 0..BLOCK {
                let start = Instant::now();
                way();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let plain = median(&mut times[0]);
    for ((name, _), mut times) in ways.iter().zip(times) {
        let median = median(&mut times);
        let p99 = times[times.len() * 99 / 100];
        println!(
            "{median:7.0} µs  {name}: {:.2} times posix_spawn, p99 {:.1} times its median",
            median / plain,
            p99 / median
        );
    }
}
