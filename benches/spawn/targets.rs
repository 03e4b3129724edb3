//! Everything that the library was built to reach, measured in one command.

use std::time::Instant;

use super::document;
use super::host::Host;
use super::memory;
use super::serve::{Kind, floor, raise_descriptors};
use super::statistics::Times;
use super::target::{Bound, Target, table};
use super::{layers, machine};

const BLOCKS: usize = 40;
const PARKED: usize = 1000;
const PARKED_BUBBLEWRAPS: usize = 200;

/// Measures, prints, and writes into the document if it shall.
pub(crate) fn measure(write: Write) {
    raise_descriptors();
    let start = Instant::now();
    let mut targets = Vec::new();
    paths(&mut targets);
    sizes(&mut targets);
    mounts(&mut targets);
    live(&mut targets);
    spawners(&mut targets);
    for (number, ratio) in layers::ratios() {
        targets.push(Target::new(format!("cold, {number} layers / 1 layer"), Bound::None, ratio));
    }
    parked(&mut targets);
    let text = format!(
        "{}; measured in {:.0} seconds.\n\n{}",
        machine::description(),
        start.elapsed().as_secs_f64(),
        table(&targets)
    );
    println!("{text}");
    if write == Write::Document {
        let path = document::replace("targets", &text).expect("the document has the section");
        println!("written to {}", path.display());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Nothing,
    Document,
}

/// Blocks of several ways in turn.
fn interleaved<const N: usize>(blocks: usize, mut ways: [(&mut Host, &str); N]) -> [Times; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..blocks {
        for ((host, what), times) in ways.iter_mut().zip(&mut times) {
            times.extend(host.block(what));
        }
    }
    times.map(|values| {
        let mut times = Times::default();
        times.extend(values);
        times
    })
}

/// The ways to a program, each against its floor.
fn paths(targets: &mut Vec<Target>) {
    let mut hosts = [const { Kind::Small }; 4].map(Kind::start);
    let [a, b, c, d] = &mut hosts;
    let what_floor = if floor().is_ok() { "floor" } else { "cold" };
    let [plain, floor, cold, warm] =
        interleaved(BLOCKS, [(a, "posix_spawn"), (b, what_floor), (c, "cold"), (d, "warm")]);
    let told = |what: &str, times: &Times| Target::new(what, Bound::None, times.median()).unit("µs");
    targets.push(told("`posix_spawn`, median", &plain));
    targets.push(told("floor, median", &floor));
    targets.push(told("cold, median", &cold));
    targets.push(told("warm, `container.spawn`, median", &warm));
    targets.push(Target::new("cold / floor", Bound::AtMost(1.15), cold.median() / floor.median()));
    targets.push(Target::new("cold, p99 / its median", Bound::None, cold.p99() / cold.median()));
    let ratio = warm.median() / plain.median();
    targets.push(Target::new("warm, `container.spawn` / `posix_spawn`", Bound::AtMost(1.2), ratio));
    let tail = warm.p99() / warm.median();
    targets.push(Target::new("warm, `container.spawn`, p99 / its median", Bound::AtMost(3.0), tail));
}

/// How large the host is.
fn sizes(targets: &mut Vec<Target>) {
    let mut hosts = [10, 1024, 4096].map(|mib| Kind::Resident(mib).start());
    let [small, middle, large] = &mut hosts;
    let [small, middle, large] = interleaved(BLOCKS, [(small, "cold"), (middle, "cold"), (large, "cold")]);
    let ratio = |times: &Times| times.median() / small.median();
    targets.push(Target::new("cold, host with 1 GiB resident / 10 MiB", Bound::None, ratio(&middle)));
    targets.push(Target::new("cold, host with 4 GiB resident / 10 MiB", Bound::AtMost(1.1), ratio(&large)));
}

/// How many mounts it has.
fn mounts(targets: &mut Vec<Target>) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut hosts = [Kind::Small, Kind::Mounts(30), Kind::Mounts(1000)].map(Kind::start);
    let [none, few, many] = &mut hosts;
    let [none, few, many] = interleaved(BLOCKS, [(none, "cold"), (few, "cold"), (many, "cold")]);
    let ratio = |times: &Times| times.median() / none.median();
    targets.push(Target::new("cold, 30 host mounts more / none", Bound::None, ratio(&few)));
    targets.push(Target::new("cold, 1,000 host mounts more / none", Bound::AtMost(1.5), ratio(&many)));
}

/// How many sandboxes are alive. They are alive for the whole machine, so the hosts cannot take turns: between two
/// blocks of the one with few, they are made and ended.
fn live(targets: &mut Vec<Target>) {
    let mut host = Kind::Small.start();
    let mut times = [1, 100, 1000].map(|number| (number, Times::default()));
    for _ in 0..2 {
        for (number, times) in &mut times {
            let _alive = Kind::Alive(*number).start_ready();
            for _ in 0..BLOCKS / 2 {
                times.extend(host.block("cold"));
            }
        }
    }
    let [(_, one), (_, hundred), (_, thousand)] = &times;
    let ratio = |times: &Times| times.median() / one.median();
    targets.push(Target::new("cold, beside 100 live sandboxes / beside 1", Bound::None, ratio(hundred)));
    targets.push(Target::new(
        "cold, beside 1,000 live sandboxes / beside 1",
        Bound::AtMost(1.5),
        ratio(thousand),
    ));
}

fn spawners(targets: &mut Vec<Target>) {
    let mut host = Kind::Small.start();
    for what in ["cold", "warm"] {
        let mut runs = [Times::default(), Times::default()];
        for _ in 0..BLOCKS {
            for (n, runs) in runs.iter_mut().enumerate() {
                runs.extend(host.block(&format!("{what} {}", n + 1)));
            }
        }
        let [one, two] = runs.map(|runs| runs.median());
        let what = format!("{what}, runs in a second of two spawners / of one");
        targets.push(Target::new(what, Bound::AtLeast(1.6), two / one));
    }
}

fn parked(targets: &mut Vec<Target>) {
    let ours = memory::containers(PARKED);
    let what = format!("parked container, its processes, of {PARKED}");
    targets.push(Target::new(what, Bound::AtMost(300.0), ours.user).unit("KiB"));
    let theirs = memory::bubblewraps(PARKED_BUBBLEWRAPS);
    let most = theirs.as_ref().map_or(Bound::None, |theirs| Bound::AtMost(theirs.all));
    let what = format!("parked container, all told, of {PARKED}");
    targets.push(Target::new(what, most, ours.all).unit("KiB"));
    if let Some(theirs) = theirs {
        let what = format!("`sleep` in bubblewrap, its processes, of {PARKED_BUBBLEWRAPS}");
        targets.push(Target::new(what, Bound::None, theirs.user).unit("KiB"));
        let what = format!("`sleep` in bubblewrap, all told, of {PARKED_BUBBLEWRAPS}");
        targets.push(Target::new(what, Bound::None, theirs.all).unit("KiB"));
    }
}
