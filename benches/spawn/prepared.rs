//! Sandboxes whose network namespaces were made ahead, beside plain ones and the bare kernel cost of the same isolation.
//!
//! Two rhythms: bursts of as many sandboxes as were prepared, with a pause before each burst in which the next are made; and
//! one sandbox after the other without a pause, where they are made while others run.

use std::time::{Duration, Instant};

use belljar::{Plan, Seccomp};

use super::floor::Floor;
use super::statistics::median;
use super::{closed, quiet, run};

const BURST: usize = 16;
const BURSTS: usize = 40;
/// Enough for the namespaces of a burst, some 20 milliseconds after a lull.
const PAUSE: Duration = Duration::from_millis(60);

/// Its name, and one spawn that way.
type Way<'a> = (&'static str, Box<dyn Fn() + 'a>);

pub(crate) fn measure() {
    let floor = Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles"));
    let plain = closed().plan().expect("the sandbox works here");
    let ahead = plain.prepare_ahead(BURST).expect("the sandbox works here");
    let command = quiet("/true");
    let spawn = |plan: &Plan| run(plan, &command);
    let mut ways: Vec<Way<'_>> =
        vec![("plain", Box::new(|| spawn(&plain))), ("prepared", Box::new(|| spawn(&ahead)))];
    match &floor {
        Ok(floor) => ways.push(("floor", Box::new(|| floor.run()))),
        Err(reason) => println!("no floor here: {reason}"),
    }
    for (rhythm, pause) in [("bursts", PAUSE), ("without a pause", Duration::ZERO)] {
        println!("{rhythm}:");
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        for _ in 0..BURSTS {
            for ((_, way), times) in ways.iter().zip(&mut times) {
                std::thread::sleep(pause);
                for _ in 0..BURST {
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
                "{median:7.0} µs  {name}: {:.2} times plain, p99 {:.1} times its median",
                median / plain,
                p99 / median
            );
        }
    }
}
