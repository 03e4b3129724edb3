//! What the targets are about, one by one, under criterion: `cargo bench --bench spawn -- live/1000`.
//!
//! What a benchmark needs is made when its turn has come, for a filter may leave it out, and is gone before the next one's.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};

use super::host::Host;
use super::layers::Layers;
use super::serve::{Kind, floor};
use super::{quiet, run};

/// By which way the spawns of a host that is unlike others go.
const WAY: &str = "cold";

pub(crate) fn all(criterion: &mut Criterion) {
    paths(criterion);
    let resident = [("10MiB", 10), ("1GiB", 1024), ("4GiB", 4096)];
    hosts(criterion, "resident", resident.map(|(name, mib)| (name, Kind::Resident(mib))));
    // They are made in a mount namespace of the host's own, which takes root.
    if nix::unistd::geteuid().is_root() {
        let mounts = [("0", Kind::Small), ("30", Kind::Mounts(30)), ("1000", Kind::Mounts(1000))];
        hosts(criterion, "mounts", mounts);
    }
    live(criterion);
    layers(criterion);
    spawners(criterion);
}

/// Few samples: what is compared are medians of thousands of microseconds, and what is around them takes long to make.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

/// The time of so many runs, of which a host makes whole blocks.
fn timed(host: &mut Host, way: &str, runs: u64) -> Duration {
    let mut times = Vec::new();
    while (times.len() as u64) < runs {
        times.extend(host.block(way));
    }
    let each = times.iter().sum::<f64>() / times.len() as f64;
    Duration::from_secs_f64(each * runs as f64 / 1e6)
}

/// The ways to a program. Those for which something is kept ready have the pause in which that is made again.
fn paths(criterion: &mut Criterion) {
    let mut group = group(criterion, "paths");
    let mut ways = vec![
        ("posix_spawn", "posix_spawn"),
        ("cold", "cold"),
        ("warm", "warm"),
        ("pool", "one-shot paced"),
        ("pool, reset", "reset paced"),
        ("prepared", "prepared paced"),
        ("posix_spawn, paced", "posix_spawn paced"),
        ("cold, paced", "cold paced"),
    ];
    if floor().is_ok() {
        ways.push(("floor", "floor"));
    }
    for (name, way) in ways {
        let mut host = None;
        group.bench_function(name, |bench| {
            let host = host.get_or_insert_with(|| Kind::Small.start_ready());
            bench.iter_custom(|runs| timed(host, way, runs));
        });
    }
    group.finish();
}

/// Hosts that are unlike others.
fn hosts<const N: usize>(criterion: &mut Criterion, name: &str, kinds: [(&str, Kind); N]) {
    let mut group = group(criterion, name);
    for (name, kind) in kinds {
        let mut host = None;
        group.bench_function(name, |bench| {
            let host = host.get_or_insert_with(|| kind.start_ready());
            bench.iter_custom(|runs| timed(host, WAY, runs));
        });
    }
    group.finish();
}

/// Beside sandboxes that are alive, in another host.
fn live(criterion: &mut Criterion) {
    let mut group = group(criterion, "live");
    for number in [1, 100, 1000] {
        let mut hosts = None;
        group.bench_function(number.to_string(), |bench| {
            let (host, _) =
                hosts.get_or_insert_with(|| (Kind::Small.start_ready(), Kind::Alive(number).start_ready()));
            bench.iter_custom(|runs| timed(host, WAY, runs));
        });
    }
    group.finish();
}

/// Roots of so many layers.
fn layers(criterion: &mut Criterion) {
    let mut group = group(criterion, "layers");
    for number in [1, 10, 50, 100] {
        let (mut made, command) = (None, quiet("/true"));
        group.bench_function(number.to_string(), |bench| {
            let (_, plan) = made.get_or_insert_with(|| {
                let layers = Layers::make(number);
                let plan = layers.over(number);
                (layers, plan)
            });
            bench.iter(|| run(plan, &command));
        });
    }
    group.finish();
}

/// So many threads of one host that spawn at once. The time is that of all of them for one run.
fn spawners(criterion: &mut Criterion) {
    let mut group = group(criterion, "spawners");
    for number in [1, 2] {
        let mut host = None;
        group.bench_function(number.to_string(), |bench| {
            let host = host.get_or_insert_with(|| Kind::Small.start_ready());
            bench.iter_custom(|runs| {
                let in_a_second = host.block(&format!("{WAY} {number}"));
                Duration::from_secs_f64(runs as f64 / in_a_second[0])
            });
        });
    }
    group.finish();
}
