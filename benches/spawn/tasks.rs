//! What the same costs in a task: `spawn_async` beside `spawn`, and how long each step keeps the thread of a runtime.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use belljar::tokio::Child;
use belljar::{Command, Container, Plan};
use tokio::runtime::Builder;

use super::statistics::median;
use super::{closed, quiet};

const BLOCKS: usize = 40;
const BLOCK: usize = 5;

/// The time of each way and step, in µs.
struct Times(Vec<(&'static str, Vec<f64>)>);

impl Times {
    fn add(&mut self, name: &'static str, start: Instant) {
        let time = start.elapsed().as_secs_f64() * 1e6;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(time),
            None => self.0.push((name, vec![time])),
        }
    }
}

pub(crate) fn measure() {
    let plan = closed().plan().expect("a valid policy");
    let container = plan.start().expect("the sandbox works here");
    let (short, long) = (quiet("/true"), sleeping());
    let sleeper = closed().plan().expect("a valid policy");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let mut times = Times(Vec::new());
    for _ in 0..BLOCKS {
        for _ in 0..BLOCK {
            blocking(&plan, &container, &short, &mut times);
        }
        for _ in 0..BLOCK {
            runtime.block_on(tasks(&plan, &container, &short, &mut times));
        }
        for _ in 0..BLOCK {
            let child = sleeper.spawn(&long).expect("it works");
            let start = Instant::now();
            drop(child);
            times.add("dropping a program that runs: thread", start);
        }
        for _ in 0..BLOCK {
            runtime.block_on(async {
                let child = sleeper.spawn_async(&long).await.expect("it works");
                let start = Instant::now();
                drop(child);
                times.add("dropping a program that runs: task", start);
            });
        }
    }
    for (name, mut times) in times.0 {
        let median = median(&mut times);
        println!("{median:7.0} µs  {name}, p99 {:.0} µs", times[times.len() * 99 / 100]);
    }
}

/// A program that runs until it is killed.
fn sleeping() -> Command {
    let mut command = quiet("/usr/bin/sleep");
    command.arg("60");
    command
}

fn blocking(plan: &Plan, container: &Container, command: &Command, times: &mut Times) {
    let start = Instant::now();
    assert!(plan.spawn(command).and_then(|mut child| child.wait()).expect("it works").success());
    times.add("a sandbox of its own: thread", start);
    let start = Instant::now();
    assert!(container.spawn(command).and_then(|mut child| child.wait()).expect("it works").success());
    times.add("in a container: thread", start);
}

async fn tasks(plan: &Plan, container: &Container, command: &Command, times: &mut Times) {
    let start = Instant::now();
    let spawning = pin!(plan.spawn_async(command));
    let mut child = first_poll("  of it, the launch in one piece", spawning, times).await.expect("it works");
    assert!(finish(&mut child).await);
    times.add("a sandbox of its own: task", start);
    let start = Instant::now();
    let spawning = pin!(container.spawn_async(command));
    let mut child = first_poll("  of it, the request in one piece", spawning, times).await.expect("it works");
    assert!(finish(&mut child).await);
    times.add("in a container: task", start);
}

/// Polls a future once, which is the piece that is measured, and then to its end.
async fn first_poll<F: Future + Unpin>(name: &'static str, mut future: F, times: &mut Times) -> F::Output {
    let start = Instant::now();
    let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    times.add(name, start);
    match polled {
        Poll::Ready(output) => output,
        Poll::Pending => future.await,
    }
}

async fn finish(child: &mut Child) -> bool {
    child.wait().await.expect("it works").success()
}
