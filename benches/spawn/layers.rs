//! What the number of layers costs a spawn: roots that are the same but for the number of layers below, in turn.
//!
//! Every layer is a directory with files of its own, and each of the roots has an upper in memory, as a sandbox over an
//! image has.

use std::path::PathBuf;
use std::time::Instant;

use belljar::{Bytes, Mount, Plan, Rootfs, Sandbox, Upper};

use super::ratio::median;
use super::{quiet, run, with_tiny};

const NUMBERS: [usize; 5] = [1, 10, 50, 100, 500];
const ROUNDS: usize = 300;

pub(crate) fn measure() {
    let layers = Layers::make();
    let plans = NUMBERS.map(|number| layers.over(number));
    let command = quiet("/true");
    let mut times = NUMBERS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (plan, times) in plans.iter().zip(&mut times) {
            let start = Instant::now();
            run(plan, &command);
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let medians = times.map(|mut times| median(&mut times));
    for (number, time) in NUMBERS.iter().zip(medians) {
        println!("{time:7.0} µs  {number:3} layers, {:.2} times that of one", time / medians[0]);
    }
}

struct Layers(PathBuf);

impl Layers {
    fn make() -> Self {
        let layers = Self(std::env::temp_dir().join(format!("belljar-bench-{}", std::process::id())));
        for number in 0..NUMBERS[NUMBERS.len() - 1] {
            let dir = layers.0.join(number.to_string()).join("usr/share").join(number.to_string());
            std::fs::create_dir_all(&dir).expect("a directory can be made");
            std::fs::write(dir.join("file"), "content").expect("a file can be written");
        }
        layers
    }

    fn over(&self, number: usize) -> Plan {
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
