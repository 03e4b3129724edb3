//! Ratios that decide: the closed sandbox against the bare kernel cost of the same isolation, and hosts that are large
//! or busy against one that is neither.
//!
//! Each kind of host is a process of its own, this program executed again, and all of them are asked for short blocks
//! of runs in turn, so that a machine whose speed drifts gives the same ratios. Sixteen threads that allocate take
//! processor time from whoever runs beside them; what they cost a spawn *because they share its address space* is the
//! ratio to a host beside whose process the same threads run in another one.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as HostCommand, Stdio as HostStdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use belljar::{Plan, Seccomp};

use super::{closed, floor, quiet, run};

/// Runs in each block, and blocks of each kind.
const BLOCK: usize = 20;
const BLOCKS: usize = 40;
/// The argument that makes this program a host of the kind that follows.
pub(crate) const HOST: &str = "--host";
const SMALL: &str = "small";
const LARGE: &str = "large";
const THREADS: &str = "threads";

/// Measures and prints the ratios.
pub(crate) fn measure() {
    if let Err(reason) = floor() {
        println!("no floor here: {reason}");
        return;
    }
    let mut small = Host::start(SMALL);
    let mut large = Host::start(LARGE);
    let mut threads = Host::start(THREADS);
    let mut rows: [(&str, Vec<f64>); 6] = [
        ("floor", Vec::new()),
        ("small host", Vec::new()),
        ("floor, 2 GiB resident", Vec::new()),
        ("host with 2 GiB resident", Vec::new()),
        ("small host, 16 threads allocate in another process", Vec::new()),
        ("host in which 16 threads allocate", Vec::new()),
    ];
    for _ in 0..BLOCKS {
        rows[0].1.extend(small.block("floor"));
        rows[1].1.extend(small.block("sandbox"));
        rows[2].1.extend(large.block("floor"));
        rows[3].1.extend(large.block("sandbox"));
        rows[4].1.extend(while_threads_allocate(|| small.block("sandbox")));
        rows[5].1.extend(threads.block("sandbox"));
    }
    let medians = rows.map(|(name, mut values)| {
        let median = median(&mut values);
        println!("{median:7.0} µs  {name}");
        median
    });
    let [floor, small, large_floor, large, beside, threads] = medians;
    println!("sandbox / floor: {:.2}", small / floor);
    println!("sandbox / floor, 2 GiB resident: {:.2}", large / large_floor);
    println!("2 GiB resident / small: {:.2}", large / small);
    println!("16 threads allocating in the host / in another process: {:.2}", threads / beside);
}

fn floor() -> Result<floor::Floor, String> {
    floor::Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles"))
}

/// A host of its own process.
struct Host {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Host {
    fn start(kind: &str) -> Self {
        let mut child = HostCommand::new(std::env::current_exe().expect("a program knows its file"))
            .args([HOST, kind])
            .stdin(HostStdio::piped())
            .stdout(HostStdio::piped())
            .spawn()
            .expect("this program can be executed again");
        let requests = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, requests, answers }
    }

    /// One block of runs, in microseconds.
    fn block(&mut self, what: &str) -> Vec<f64> {
        writeln!(self.requests, "{what}").expect("the host reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the host answers");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The life of a host: blocks of runs, as they are asked for, until nobody asks.
pub(crate) fn serve(kind: &str) {
    let floor = floor().expect("it was there a moment ago");
    let plan = closed().plan().expect("a valid policy");
    let resident = vec![1_u8; if kind == LARGE { 2 << 30 } else { 0 }];
    for line in std::io::stdin().lines() {
        let line = line.expect("lines of text");
        let block = || -> Vec<f64> {
            let one = || if line == "floor" { floor.run() } else { run_closed(&plan) };
            (0..BLOCK).map(|_| micros(one)).collect()
        };
        let values = if kind == THREADS { while_threads_allocate(block) } else { block() };
        println!("{}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    }
    drop(black_box(resident));
}

fn run_closed(plan: &Plan) {
    run(plan, &quiet("/true"));
}

fn while_threads_allocate<T>(f: impl FnOnce() -> T) -> T {
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
        let result = f();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn micros(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e6
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
