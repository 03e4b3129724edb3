//! What the number of layers costs a spawn: roots that are the same but for the number of layers below, in turn.
//!
//! Every layer is a directory with files of its own, and each of the roots has an upper in memory, as a sandbox over an
//! image has.

use std::path::PathBuf;

use belljar::{Bytes, Mount, Plan, Rootfs, Sandbox, Upper};

use super::statistics::Times;
use super::{quiet, run, with_tiny};

const NUMBERS: [usize; 5] = [1, 10, 50, 100, 500];
const ROUNDS: usize = 300;

pub(crate) fn measure() {
    let medians = medians(&NUMBERS, ROUNDS);
    for (number, time) in NUMBERS.iter().zip(&medians) {
        println!("{time:7.0} µs  {number:3} layers, {:.2} times that of one", time / medians[0]);
    }
}

/// What 10, 50 and 100 layers cost, in times of what one does.
pub(crate) fn ratios() -> impl Iterator<Item = (usize, f64)> {
    let numbers = &NUMBERS[..4];
    let medians = medians(numbers, ROUNDS / 2);
    numbers.iter().copied().zip(medians.clone().into_iter().map(move |time| time / medians[0])).skip(1)
}

fn medians(numbers: &[usize], rounds: usize) -> Vec<f64> {
    let layers = Layers::make(*numbers.iter().max().expect("some numbers"));
    let plans: Vec<Plan> = numbers.iter().map(|number| layers.over(*number)).collect();
    let command = quiet("/true");
    let mut times = vec![Times::default(); numbers.len()];
    for _ in 0..rounds {
        for (plan, times) in plans.iter().zip(&mut times) {
            times.time(|| run(plan, &command));
        }
    }
    times.iter().map(Times::median).collect()
}

/// Directories, until it is dropped.
pub(crate) struct Layers(PathBuf);

impl Layers {
    pub(crate) fn make(most: usize) -> Self {
        let layers = Self(std::env::temp_dir().join(format!("belljar-bench-{}", std::process::id())));
        for number in 0..most {
            let dir = layers.0.join(number.to_string()).join("usr/share").join(number.to_string());
            std::fs::create_dir_all(&dir).expect("a directory can be made");
            std::fs::write(dir.join("file"), "content").expect("a file can be written");
        }
        layers
    }

    /// A sandbox over so many of them.
    pub(crate) fn over(&self, number: usize) -> Plan {
        let layers = (0..number).map(|number| self.0.join(number.to_string()));
        let root = Rootfs::overlay(layers).upper(Upper::tmpfs(Bytes::mib(16), 1000));
        let sandbox =
            with_tiny(Sandbox::new().rootfs(root).mount(Mount::proc("/proc")).mount(Mount::dev("/dev")));
        sandbox.memory_max(Bytes::mib(256)).pids_max(16).plan().expect("a valid policy")
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
