//! Everything that the library was built to reach, measured in one command.

use std::time::{Duration, Instant};

use belljar::Sandbox;

use super::document;
use super::host::Host;
use super::memory;
use super::serve::{Kind, floor, raise_descriptors};
use super::statistics::{Times, median};
use super::target::{Bound, Target, table};
use super::{closed, layers, machine, with_tiny};

const BLOCKS: usize = 40;
const SETTLE: Duration = Duration::from_millis(30);
const PARKED: usize = 1000;
const PARKED_BUBBLEWRAPS: usize = 200;

/// Adds what it measured.
type Group = fn(&mut Vec<Target>);

const GROUPS: [(&str, Group); 7] = [
    ("paths", paths),
    ("sizes", sizes),
    ("mounts", mounts),
    ("live", live),
    ("spawners", spawners),
    ("layers", by_layers),
    ("parked", parked),
];

/// Measures and prints, and writes into the document if it shall. `names` are those of some groups, or none for all.
pub(crate) fn measure(names: &[String], write: Write) {
    raise_descriptors();
    let start = Instant::now();
    let mut targets = Vec::new();
    for (name, group) in GROUPS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            group(&mut targets);
        }
    }
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

fn by_layers(targets: &mut Vec<Target>) {
    for (number, ratio) in layers::ratios() {
        targets.push(Target::new(format!("cold, {number} layers / 1 layer"), Bound::None, ratio));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Nothing,
    Document,
}

/// Lets the kernel and the threads of the last block finish what they do behind its back, so that the next does not pay.
fn settle() {
    std::thread::sleep(SETTLE);
}

/// Blocks of several ways in turn.
fn interleaved<const N: usize>(blocks: usize, mut ways: [(&mut Host, &str); N]) -> [Times; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..blocks {
        for ((host, what), times) in ways.iter_mut().zip(&mut times) {
            settle();
            times.extend(host.block(what));
        }
    }
    times.map(|values| {
        let mut times = Times::default();
        times.extend(values);
        times
    })
}

/// The ways to a program: each in a host of its own, so that what one keeps ready is not made in another's time. For the
/// same reason these ways have pauses before each run, and so have those that they are compared with.
fn paths(targets: &mut Vec<Target>) {
    let mut hosts = [const { Kind::Small }; 11].map(Kind::start);
    let [a, b, c, d, e, f, g, h, i, j, k] = &mut hosts;
    let what_floor = if floor().is_ok() { "floor" } else { "cold" };
    let ways = [
        (a, "posix_spawn"),
        (b, what_floor),
        (c, "cold"),
        (d, "warm"),
        (e, "posix_spawn paced"),
        (f, "cold paced"),
        (g, "prepared paced"),
        (h, "one-shot paced"),
        (i, "reset paced"),
        (j, "warm-unlimited"),
        (k, "one-shot-unlimited paced"),
    ];
    let [plain, floor, cold, warm, paced, paced_cold, prepared, one_shot, reset, free, free_once] =
        interleaved(BLOCKS, ways);
    for (what, times) in [
        ("`posix_spawn`", &plain),
        ("the floor", &floor),
        ("cold", &cold),
        ("prepared cold, `Plan::prepare_ahead`, paced", &prepared),
        ("warm, one-shot `Pool::spawn`, no limits, paced", &free_once),
        ("warm, one-shot `Pool::spawn`, limits, paced", &one_shot),
        ("warm, `Pool::spawn` with reset, paced", &reset),
        ("warm, `Container::spawn`, no limits", &free),
        ("warm, `Container::spawn`, limits", &warm),
        ("`posix_spawn`, paced", &paced),
        ("cold, paced", &paced_cold),
    ] {
        targets.push(Target::new(format!("{what}, median"), Bound::None, times.median()).unit("µs"));
    }
    let mut ratio = |what: &str, bound, value: f64| targets.push(Target::new(what, bound, value));
    let tail = |times: &Times| times.p99() / times.median();
    ratio("`posix_spawn`, p99 / its median", Bound::None, tail(&plain));
    ratio("cold / the floor", Bound::AtMost(1.15), cold.median() / floor.median());
    ratio("cold, p99 / its median", Bound::None, tail(&cold));
    ratio("prepared cold / cold", Bound::AtMost(0.6), prepared.median() / paced_cold.median());
    ratio("prepared cold, p99 / its median", Bound::AtMost(4.0), tail(&prepared));
    for (limits, times) in [("no limits", &free_once), ("limits", &one_shot)] {
        let what = format!("warm, one-shot `Pool::spawn`, {limits}");
        ratio(&format!("{what} / `posix_spawn`"), Bound::AtMost(1.5), times.median() / paced.median());
        ratio(&format!("{what}, p99 / its median"), Bound::None, tail(times));
    }
    ratio("warm, `Pool::spawn` with reset / `posix_spawn`", Bound::None, reset.median() / paced.median());
    for (limits, times) in [("no limits", &free), ("limits", &warm)] {
        let what = format!("warm, `Container::spawn`, {limits}");
        ratio(&format!("{what} / `posix_spawn`"), Bound::AtMost(1.2), times.median() / plain.median());
        ratio(&format!("{what}, p99 / its median"), Bound::AtMost(3.0), tail(times));
    }
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
    let ways = if floor().is_ok() { vec!["cold", "warm", "floor"] } else { vec!["cold", "warm"] };
    let numbers = [1, 100, 1000];
    let mut times = vec![[const { Vec::new() }; 3]; ways.len()];
    for _ in 0..2 {
        for (n, number) in numbers.into_iter().enumerate() {
            let _alive = Kind::Alive(number).start_ready();
            for _ in 0..BLOCKS / 2 {
                for (way, times) in ways.iter().zip(&mut times) {
                    settle();
                    times[n].extend(host.block(way));
                }
            }
        }
    }
    for (way, mut times) in ways.into_iter().zip(times) {
        let [one, hundred, thousand] = &mut times;
        let one = median(one);
        for (number, times, bound) in [("100", hundred, Bound::None), ("1,000", thousand, Bound::AtMost(1.5))]
        {
            let bound = if way == "cold" { bound } else { Bound::None };
            let what = format!("{way}, beside {number} live sandboxes / beside 1");
            targets.push(Target::new(what, bound, median(times) / one));
        }
    }
}

/// How much two spawners at once get done, each with a container of its own if it is warm; and what the kernel allows. One keeps more than one processor busy: the host works while the init does, and
/// the kernel tidies up behind both.
fn spawners(targets: &mut Vec<Target>) {
    let mut host = Kind::Small.start();
    // The floor tells what the kernel allows: its locks are the same for everybody.
    let ways = [("floor", Bound::None), ("cold", Bound::AtLeast(1.6)), ("warm", Bound::AtLeast(1.6))];
    let without_floor = usize::from(floor().is_err());
    for (what, bound) in ways.into_iter().skip(without_floor) {
        let mut runs = [Times::default(), Times::default()];
        let mut busy = [(0.0, 0.0); 2];
        for _ in 0..BLOCKS {
            for (n, runs) in runs.iter_mut().enumerate() {
                settle();
                let before = processor_time();
                runs.extend(host.block(&format!("{what} {}", n + 1)));
                let after = processor_time();
                busy[n].0 += after.0 - before.0;
                busy[n].1 += after.1 - before.1;
            }
        }
        let [one, two] = runs.map(|runs| runs.median());
        let cores = &busy.map(|(busy, all)| busy / all * processors());
        let what = format!(
            "{what}, runs in a second of two spawners / of one ({:.2} / {:.2} processors busy)",
            cores[1], cores[0]
        );
        targets.push(Target::new(what, bound, two / one));
    }
}

/// What all processors together did and could have done since they were started.
fn processor_time() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    // Idle, and waiting for a disk.
    (all - ticks.get(3).unwrap_or(&0.0) - ticks.get(4).unwrap_or(&0.0), all)
}

fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |number| number.get() as f64)
}

fn parked(targets: &mut Vec<Target>) {
    let limited = memory::containers(PARKED, &closed());
    let ours = memory::containers(PARKED, &with_tiny(Sandbox::new()));
    let what = format!("parked container, its processes, of {PARKED}");
    targets.push(Target::new(what, Bound::AtMost(300.0), limited.user).unit("KiB"));
    let theirs = memory::bubblewraps(PARKED_BUBBLEWRAPS);
    let most = theirs.as_ref().map_or(Bound::None, |theirs| Bound::AtMost(theirs.all));
    let what = format!("parked container without limits, all told, of {PARKED} (at most that of bubblewrap)");
    targets.push(Target::new(what, most, ours.all).unit("KiB"));
    let what = format!("parked container with memory and pids limits, all told, of {PARKED}");
    targets.push(Target::new(what, Bound::None, limited.all).unit("KiB"));
    if let Some(theirs) = theirs {
        let what = format!("`sleep` in bubblewrap, its processes, of {PARKED_BUBBLEWRAPS}");
        targets.push(Target::new(what, Bound::None, theirs.user).unit("KiB"));
        let what = format!("`sleep` in bubblewrap, all told, of {PARKED_BUBBLEWRAPS}");
        targets.push(Target::new(what, Bound::None, theirs.all).unit("KiB"));
    }
}
