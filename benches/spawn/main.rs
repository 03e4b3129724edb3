//! What a spawn costs, as a ladder, and against the bare kernel cost of the same isolation.
//!
//! `cargo bench --bench spawn` runs the ladder under criterion; `cargo bench --bench spawn -- --ratio` measures the
//! closed sandbox and the floor in alternating blocks, so that a machine whose speed drifts gives the same ratio, in a
//! small host, in one with 2 GiB resident, and in one with 16 threads that allocate.

#![expect(clippy::print_stdout, reason = "the ratios are the result")]

mod floor;
mod tiny;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use belljar::{Bytes, Command, Mount, Plan, Sandbox, Seccomp, Stdio};
use criterion::Criterion;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.any(|arg| arg == "--ratio") {
        ratios();
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    ladder(&mut criterion);
    criterion.final_summary();
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The closed sandbox of the promise: `Sandbox::new()` with memory and pids limits.
fn closed() -> Sandbox {
    with_tiny(Sandbox::new()).memory_max(Bytes::mib(256)).pids_max(16)
}

fn with_tiny(sandbox: Sandbox) -> Sandbox {
    sandbox.mount(Mount::file("/true", tiny::elf()).mode(0o555))
}

fn run(plan: &Plan, command: &Command) {
    let outcome = plan.spawn(command).and_then(|mut child| child.wait()).expect("the sandbox works here");
    assert!(black_box(outcome).success());
}

fn ladder(criterion: &mut Criterion) {
    let host = tiny::File::new();
    let mut group = criterion.benchmark_group("spawn");
    group.bench_function("0 posix_spawn", |bench| {
        bench.iter(|| std::process::Command::new(host.path()).status().expect("it runs"));
    });
    let bare = Sandbox::bare();
    let steps = [
        ("1 bare", bare.clone()),
        ("2 +user", bare.clone().user_ns()),
        ("3 +pid", bare.clone().user_ns().pid_ns()),
        ("4 +mount", bare.clone().user_ns().pid_ns().mount_ns()),
        ("5 +ipc +uts", bare.clone().user_ns().pid_ns().mount_ns().ipc_ns().uts_ns()),
        ("6 +net", bare.user_ns().pid_ns().mount_ns().ipc_ns().uts_ns().net_ns()),
    ];
    for (name, sandbox) in steps {
        let plan = sandbox.plan().expect("a valid policy");
        let command = quiet(host.path());
        group.bench_function(name, |bench| bench.iter(|| run(&plan, &command)));
    }
    let inside = quiet("/true");
    let open = with_tiny(Sandbox::new()).allow_all_syscalls();
    for (name, sandbox) in [
        ("7 all, system view", open.clone()),
        ("8 all +seccomp", with_tiny(Sandbox::new())),
        ("9 all +seccomp +cgroup", closed()),
    ] {
        let plan = sandbox.plan().expect("a valid policy");
        group.bench_function(name, |bench| bench.iter(|| run(&plan, &inside)));
    }
    let floor = floor::Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles"));
    match floor {
        Ok(floor) => {
            group.bench_function("9 floor: the same by raw system calls", |bench| bench.iter(|| floor.run()));
        }
        Err(reason) => println!("no floor here: {reason}"),
    }
    group.finish();
}

/// Runs in each block, and blocks of each kind.
const BLOCK: usize = 20;
const BLOCKS: usize = 40;

fn ratios() {
    let floor = match floor::Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles")) {
        Ok(floor) => floor,
        Err(reason) => {
            println!("no floor here: {reason}");
            return;
        }
    };
    let plan = closed().plan().expect("a valid policy");
    let command = quiet("/true");
    compare("small host", &plan, &command, &floor);

    let resident = resident(2 << 30);
    let large = compare("host with 2 GiB resident", &plan, &command, &floor);
    drop(black_box(resident));

    let small = median_of(BLOCKS / 2, || run(&plan, &command));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    black_box(vec![1_u8; 1 << 16]);
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        let busy = median_of(BLOCKS / 2, || run(&plan, &command));
        println!("16 threads allocating / quiet: {:.2}", busy / small);
        stop.store(true, Ordering::Relaxed);
    });
    println!("2 GiB resident / small: {:.2}", large / small);
}

fn resident(bytes: usize) -> Vec<u8> {
    vec![1_u8; bytes]
}

/// Alternating blocks; prints the medians and returns that of the sandbox, in microseconds.
fn compare(name: &str, plan: &Plan, command: &Command, floor: &floor::Floor) -> f64 {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        ours.extend((0..BLOCK).map(|_| micros(|| run(plan, command))));
        theirs.extend((0..BLOCK).map(|_| micros(|| floor.run())));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!("{name}: sandbox {ours:.0} µs, floor {theirs:.0} µs, ratio {:.2}", ours / theirs);
    ours
}

fn median_of(blocks: usize, mut f: impl FnMut()) -> f64 {
    median(&mut (0..blocks * BLOCK).map(|_| micros(&mut f)).collect::<Vec<_>>())
}

fn micros(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
