//! What a spawn costs, as a ladder, and against the bare kernel cost of the same isolation.
//!
//! `cargo bench --bench spawn` runs the ladder under criterion, and hosts and machines that are unlike others: see
//! `groups.rs`; `cargo bench --bench spawn -- --ratio` measures the
//! closed sandbox and the floor in alternating blocks: see `ratio.rs`; with `--layers` roots of 1 to 500 layers: see
//! `layers.rs`; with `--landlock` sandboxes with and without rules: see `rules.rs`; with `--warm` programs in a container
//! that lives on: see `warm.rs`; with `--tasks`, behind the feature `tokio`, the same in tasks: see `tasks.rs`; with
//! `--prepared` sandboxes whose namespaces were made ahead: see `prepared.rs`; with `--targets` everything that the library
//! was built to reach, with `--write` into `docs/benchmarks.md`, and with names of groups (`paths sizes mounts live spawners
//! layers parked`) those alone: see `targets.rs`.

#![expect(clippy::print_stdout, reason = "the ratios are the result")]

#[path = "../peers/bubblewrap.rs"]
mod bubblewrap;
mod document;
mod floor;
mod groups;
mod host;
mod layers;
#[expect(dead_code, reason = "the other benchmark draws")]
mod machine;
mod memory;
mod prepared;
mod ratio;
mod rules;
mod serve;
mod statistics;
mod target;
mod targets;
#[cfg(feature = "tokio")]
mod tasks;
mod tiny;
mod warm;

use std::hint::black_box;
use std::time::Duration;

use belljar::{Bytes, Command, Mount, Plan, Sandbox, Seccomp, Stdio};
use criterion::Criterion;

use targets::Write;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [host, kind] if host == serve::HOST => return serve::serve(kind),
        args if args.iter().any(|arg| arg == "--targets") => {
            let write = args.iter().any(|arg| arg == "--write");
            let names: Vec<String> = args.iter().filter(|arg| !arg.starts_with("--")).cloned().collect();
            return targets::measure(&names, if write { Write::Document } else { Write::Nothing });
        }
        args if args.iter().any(|arg| arg == "--ratio") => return ratio::measure(),
        args if args.iter().any(|arg| arg == "--layers") => return layers::measure(),
        args if args.iter().any(|arg| arg == "--landlock") => return rules::measure(),
        args if args.iter().any(|arg| arg == "--prepared") => return prepared::measure(),
        args if args.iter().any(|arg| arg == "--warm") => return warm::measure(),
        #[cfg(feature = "tokio")]
        args if args.iter().any(|arg| arg == "--tasks") => return tasks::measure(),
        _ => {}
    }
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    ladder(&mut criterion);
    groups::all(&mut criterion);
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
