//! Resets of containers by tasks: what waits for them, and that one which is given up is brought to its end.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use belljar::{Container, ErrorKind, Mount, Stdio, Verdict};
use support::ledger::Ledger;
use support::{Result, Scratch, closed, explain, fail, oracle, payload, slack, within};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

fn main() -> ExitCode {
    let cases = cases![
        nothing_of_before_is_there: ["userns"],
        starts_wait_and_keep_no_thread: ["userns"],
        one_that_is_given_up_comes_to_its_end: ["userns"],
        a_container_is_dropped_under_it: ["userns"],
        tasks_and_threads_meet_resets: ["userns"],
        one_that_fails: ["userns"],
        runtimes_end_under_it: ["userns"],
        calls_outside_of_a_runtime: ["userns"],
    ];
    // They count threads, children and cgroups of this process.
    support::main_serial(cases, &[])
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
}

/// Does something, after which nothing may be left of it.
fn leaves_nothing(f: impl FnOnce() -> Result) -> Result {
    // What is made once for all sandboxes stays.
    drop(closed().start()?);
    // So does what a runtime of tokio makes once for signals, where another crate has it do so.
    drop(multi_thread());
    let before = Ledger::now();
    f()?;
    // What was given up in the last moment, and threads until they have quite gone.
    within(Duration::from_secs(5) * slack(), || Ledger::now() == before);
    assert_eq!(Ledger::now(), before);
    Ok(())
}

fn in_both<F: Future<Output = Result>>(test: impl Fn() -> F) -> Result {
    [current_thread, multi_thread].into_iter().try_for_each(|make| leaves_nothing(|| make().block_on(test())))
}

/// Polls a future once.
fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn inits() -> Vec<u32> {
    oracle::children(std::process::id())
}

/// The only one.
fn init() -> u32 {
    let inits = inits();
    assert_eq!(inits.len(), 1, "{inits:?}");
    inits[0]
}

async fn works(container: &Container) -> Result {
    let outcome = timeout(Duration::from_secs(20) * slack(), container.status_async(payload("exit", &["3"])));
    assert_eq!(outcome.await??.verdict, Verdict::Exited(3));
    Ok(())
}

fn nothing_of_before_is_there() -> Result {
    in_both(|| async {
        let container = closed().start_async().await?;
        let mut command = payload("hold", &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        for _ in 0..3 {
            let before = init();
            let mut child = container.spawn_async(&command).await?;
            let stdin = child.stdin.take();
            container.reset_async().await?;
            assert!(!oracle::is_alive(before) && init() != before);
            assert_eq!(child.wait().await?.verdict, Verdict::Killed);
            drop(stdin);
            works(&container).await?;
        }
        Ok(container.close_async().await?)
    })
}

fn starts_wait_and_keep_no_thread() -> Result {
    in_both(|| async {
        let container = Arc::new(closed().start_async().await?);
        for _ in 0..20 {
            let before = init();
            let mut reset = Box::pin(container.reset_async());
            let pending = once(reset.as_mut()).is_pending();
            let mut tasks = JoinSet::new();
            for _ in 0..10 {
                let container = Arc::clone(&container);
                tasks.spawn(async move {
                    let outcome = container.status_async(payload("exit", &["5"])).await?;
                    // It was not started before the reset was over.
                    Ok::<_, belljar::Error>((outcome.verdict, oracle::is_alive(before)))
                });
            }
            assert!(pending, "a reset is done in the thread of the task");
            // On a runtime of one thread these would not run if any of the others kept it, and the reset that is not
            // polled ends all the same.
            for _ in 0..3 {
                sleep(Duration::from_millis(1)).await;
            }
            while let Some(ended) = timeout(Duration::from_secs(20) * slack(), tasks.join_next()).await? {
                assert_eq!(ended.expect("no panic")?, (Verdict::Exited(5), false));
            }
            reset.await?;
        }
        Ok(())
    })
}

fn one_that_is_given_up_comes_to_its_end() -> Result {
    in_both(|| async {
        let container = closed().start_async().await?;
        let mut given_up = 0;
        for round in 0..40 {
            let before = init();
            let reset = container.reset_async();
            given_up += u32::from(timeout(Duration::from_micros(round * 100), reset).await.is_err());
            works(&container).await?;
            assert_ne!(init(), before, "round {round}");
        }
        // On a busy machine some are over before the task looks at the time.
        assert!(given_up > 0);
        // Again and again, while another one is under way: those had not begun.
        let before = init();
        let mut first = Box::pin(container.reset_async());
        assert!(once(first.as_mut()).is_pending());
        for _ in 0..20 {
            drop(once(pin!(container.reset_async())));
        }
        first.await?;
        works(&container).await?;
        assert_ne!(init(), before);
        Ok(container.close_async().await?)
    })
}

fn a_container_is_dropped_under_it() -> Result {
    in_both(|| async {
        for round in 0..20 {
            let container = closed().start_async().await?;
            {
                let mut reset = Box::pin(container.reset_async());
                assert!(once(reset.as_mut()).is_pending());
                sleep(Duration::from_micros(round * 150)).await;
            }
            match round % 2 {
                0 => drop(container),
                _ => container.close_async().await?,
            }
            assert_eq!(inits(), Vec::<u32>::new(), "round {round}");
        }
        Ok(())
    })
}

fn tasks_and_threads_meet_resets() -> Result {
    in_both(|| async {
        let container = Arc::new(closed().start_async().await?);
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, enough) = (Arc::clone(&container), Arc::clone(&over));
        let thread = std::thread::spawn(move || -> belljar::Result<u32> {
            let mut resets = 0;
            while !enough.load(Ordering::Relaxed) {
                theirs.reset()?;
                resets += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(resets)
        });
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let container = Arc::clone(&container);
            tasks.spawn(async move {
                let mut ended = 0;
                for n in 0..30 {
                    if n % 10 == 9 {
                        container.reset_async().await.map_err(|error| explain(&error))?;
                    }
                    match container.status_async(payload("exit", &["0"])).await {
                        Ok(outcome) => match outcome.verdict {
                            Verdict::Exited(0) => ended += 1,
                            Verdict::Killed => {}
                            other => return Err(format!("{other:?}")),
                        },
                        // It was just being started.
                        Err(error) if error.kind() == ErrorKind::Setup => {}
                        Err(error) => return Err(explain(&error)),
                    }
                }
                Ok(ended)
            });
        }
        let mut ended = 0;
        while let Some(task) = timeout(Duration::from_secs(120) * slack(), tasks.join_next()).await? {
            match task.expect("no panic") {
                Ok(by_themselves) => ended += by_themselves,
                Err(what) => return fail(what),
            }
        }
        over.store(true, Ordering::Relaxed);
        let resets = tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await??;
        println!("{ended} of 120 programs ended by themselves, {resets} resets by the thread");
        assert!(ended > 0 && resets > 0);
        works(&container).await?;
        assert_eq!(inits().len(), 1);
        Ok(())
    })
}

fn one_that_fails() -> Result {
    let scratch = Scratch::new();
    let data = scratch.file("data", "x");
    let sandbox = closed().mount(Mount::bind(&data, "/data"));
    in_both(|| async {
        let container = sandbox.start_async().await?;
        fs::remove_file(&data)?;
        let error = container.reset_async().await.expect_err("its bind is gone");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
        assert_eq!(inits(), Vec::<u32>::new());
        let spawning = container.spawn_async(payload("exit", &["0"]));
        assert!(timeout(Duration::from_secs(20), spawning).await?.is_err(), "it has ended");
        fs::write(&data, "y")?;
        container.reset_async().await?;
        works(&container).await
    })
}

fn runtimes_end_under_it() -> Result {
    for make in [current_thread, multi_thread] {
        for is_in_background in [false, true] {
            leaves_nothing(|| {
                let runtime = make();
                let container = Arc::new(runtime.block_on(closed().start_async())?);
                let before = init();
                let theirs = Arc::clone(&container);
                runtime.block_on(async {
                    tokio::spawn(async move { theirs.reset_async().await });
                    tokio::task::yield_now().await;
                });
                match is_in_background {
                    true => runtime.shutdown_background(),
                    false => drop(runtime),
                }
                // Another runtime, and a thread, are served whether it had begun or not.
                current_thread().block_on(works(&container))?;
                container.reset()?;
                assert_ne!(init(), before);
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn calls_outside_of_a_runtime() -> Result {
    leaves_nothing(|| {
        let container = closed().start()?;
        let before = init();
        let polled = std::panic::AssertUnwindSafe(|| drop(once(pin!(container.reset_async()))));
        std::panic::catch_unwind(polled).expect_err("there is no runtime");
        assert_eq!(init(), before, "nothing was done");
        let start = Instant::now();
        container.reset()?;
        if start.elapsed() > Duration::from_secs(20) * slack() {
            return fail("the panic has kept the turn");
        }
        Ok(())
    })
}
