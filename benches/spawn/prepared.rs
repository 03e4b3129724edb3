//! Sandboxes whose network namespaces were made ahead, beside plain ones and the bare kernel cost of the same isolation.
//!
//! Two rhythms: bursts of as many sandboxes as were prepared, with a pause before each burst in which the next are made; and
//! one sandbox after the other without a pause, where they are made while others run.

use std::time::Duration;

use belljar::{Plan, Seccomp};

use super::floor::Floor;
use super::statistics::compare;
use super::{closed, quiet, run};

const BURST: usize = 16;
const BURSTS: usize = 40;
/// Enough for the namespaces of a burst, some 20 milliseconds after a lull.
const PAUSE: Duration = Duration::from_millis(60);

pub(crate) fn measure() {
    let floor = Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles"));
    let plain = closed().plan().expect("the sandbox works here");
    let ahead = plain.prepare_ahead(BURST).expect("the sandbox works here");
    let command = quiet("/true");
    let spawn = |plan: &Plan| run(plan, &command);
    let (of_plain, of_ahead) = (|| spawn(&plain), || spawn(&ahead));
    let of_floor = floor.as_ref().map(|floor| move || floor.run());
    let mut ways: Vec<(&str, &dyn Fn())> = vec![("plain", &of_plain), ("prepared", &of_ahead)];
    match &of_floor {
        Ok(floor) => ways.push(("floor", floor)),
        Err(reason) => println!("no floor here: {reason}"),
    }
    for (rhythm, pause) in [("bursts", PAUSE), ("without a pause", Duration::ZERO)] {
        println!("{rhythm}:");
        compare(BURSTS, BURST, &|| std::thread::sleep(pause), &ways);
    }
}
