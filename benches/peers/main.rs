//! Whole spawns of the smallest program, from the call to the reaped exit, beside other ways to isolate it as nearly
//! alike as their options allow. Nothing is installed: what is missing, or refuses this machine, is named.
//!
//! `cargo bench --bench peers` writes the first part of `docs/benchmarks.md` and the picture `docs/latency.svg`. With
//! `-- --print` it writes nothing, and `-- --rounds N` sets how often everything is run.

#![expect(clippy::print_stdout, reason = "the tables are the result")]

mod all;
mod bubblewrap;
#[path = "../spawn/document.rs"]
mod document;
#[path = "../spawn/floor.rs"]
mod floor;
#[path = "../spawn/host.rs"]
#[expect(dead_code, reason = "blocks are for the other benchmark")]
mod host;
#[path = "../../src/seccomp/interpreter.rs"]
mod interpreter;
#[path = "../spawn/machine.rs"]
mod machine;
#[path = "../../src/seccomp/names.rs"]
#[expect(dead_code, unused_imports, reason = "the library needs more of it, and tests it")]
mod names;
mod picture;
mod report;
mod stage;
#[path = "../spawn/statistics.rs"]
#[expect(dead_code, reason = "the other benchmark needs more of it")]
mod statistics;
#[path = "../spawn/target.rs"]
#[expect(dead_code, reason = "the other benchmark has more kinds of targets")]
mod target;
#[path = "../spawn/tiny.rs"]
#[expect(dead_code, reason = "only its bytes are needed here")]
mod tiny;
mod way;

use std::time::Duration;

use way::Kind;

const ROUNDS: usize = 150;
/// Before each run of what keeps something ready, and after the last: it is made again in the background, and in nobody's time.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = args.iter().position(|arg| arg == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS).max(1);
    let stage = stage::Stage::new()?;
    let (mut ways, absent) = all::all(&stage);
    for _ in 0..rounds {
        for ahead in [false, true] {
            for n in 0..ways.len() {
                if (ways[n].kind == Kind::OursAhead) != ahead {
                    continue;
                }
                if ahead {
                    std::thread::sleep(PAUSE);
                }
                if ahead || n == 0 {
                    // What is first after a pause finds sleeping processors: that is nobody's time either.
                    (ways[0].run)();
                }
                let time = (ways[n].run)();
                ways[n].times.extend([time]);
            }
        }
        std::thread::sleep(PAUSE);
    }
    let text = report::text(&ways, &absent, rounds);
    println!("{text}");
    if args.iter().any(|arg| arg == "--print") {
        return Ok(());
    }
    let document = document::replace("peers", &text)?;
    let picture = document::path("latency.svg");
    std::fs::write(&picture, picture::bars(&ways, &machine::short()))?;
    println!("written to {} and {}", document.display(), picture.display());
    Ok(())
}
