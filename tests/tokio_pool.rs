//! Pools for tasks: who waits and who is given up, and that neither a container nor a place is ever lost by it.
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

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use belljar::tokio::Child;
use belljar::{Command, ErrorKind, Plan, Pool, PoolMetrics, Stdio, Step, Verdict, WhenEmpty};
use support::features::missing;
use support::ledger::Ledger;
use support::{FewDescriptors, Result, closed, explain, fail, oracle, payload, slack, succeed, within};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

fn main() -> ExitCode {
    let cases = cases![
        programs_find_a_container_ready: ["userns"],
        waiting_keeps_no_thread: ["userns"],
        waiting_has_an_end: ["userns"],
        tasks_and_threads_wait_in_one_queue: ["userns"],
        who_is_given_up_passes_its_call_on: ["userns"],
        two_hundred_of_which_half_are_given_up: ["userns"],
        a_spawn_is_given_up_anywhere: ["userns"],
        a_pool_is_dropped_while_tasks_wait: ["userns"],
        containers_that_die_while_they_wait: ["userns"],
        inits_are_killed_all_the_time: ["userns"],
        programs_that_do_not_start: ["userns"],
        a_host_out_of_descriptors: ["userns"],
        runtimes_end_under_their_programs: ["userns"],
        calls_outside_of_a_runtime: ["userns"],
    ];
    // They count threads, children and cgroups of this process.
    support::main_serial(cases, &[])
}

/// Longer than any test: who waits for so long was forgotten.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
}

fn plan() -> Result<Plan> {
    let limited = missing("cgroup-pids").is_none();
    Ok(if limited { closed().pids_max(32) } else { closed() }.plan()?)
}

/// Runs a test in each kind of runtime, after which nothing may be left of it.
fn in_both<F: Future<Output = Result>>(test: impl Fn() -> F) -> Result {
    // What is made once for all sandboxes stays.
    plan()?.spawn(payload("exit", &["0"]))?.wait()?;
    drop(plan()?.pool().size(1).start()?);
    // So does what a runtime of tokio makes once for signals, where another crate has it do so.
    drop(multi_thread());
    let before = Ledger::now();
    for make in [current_thread, multi_thread] {
        let runtime = make();
        runtime.block_on(test())?;
        drop(runtime);
        // What was given up in the last moment, and threads until they have quite gone.
        within(Duration::from_secs(5) * slack(), || Ledger::now() == before);
        assert_eq!(Ledger::now(), before);
    }
    Ok(())
}

/// Waits for something without keeping the thread.
async fn until(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10) * slack();
    while !what() {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(1)).await;
    }
    true
}

/// Waits until every container is ready, and nothing else is there.
async fn settle(pool: &Pool, size: usize) -> Result {
    let settled = |metrics: PoolMetrics| {
        (metrics.ready, metrics.making, metrics.in_use, metrics.closing) == (size, 0, 0, 0)
    };
    match until(|| settled(pool.metrics())).await {
        true => Ok(()),
        false => fail(format!("{:?}", pool.metrics())),
    }
}

/// A program of a pool that waits for its stdin to end.
async fn hold(pool: &Pool) -> Result<Child> {
    let mut command = payload("hold", &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = pool.spawn_async(&command).await?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).await?;
    assert_eq!(line, "ready\n");
    Ok(child)
}

async fn release(mut child: Child) -> Result {
    assert_eq!(child.wait().await?.verdict, Verdict::Exited(0));
    Ok(())
}

/// As many programs as there may be run at the same time, and not one more.
async fn has_room_for(pool: &Pool, programs: usize) -> Result {
    let mut running = Vec::new();
    for _ in 0..programs {
        running.push(timeout(Duration::from_secs(20) * slack(), hold(pool)).await??);
    }
    let mut more = pin!(pool.spawn_async(payload("exit", &["0"])));
    assert!(once(more.as_mut()).is_pending(), "there is room for more than {programs}");
    for child in running {
        release(child).await?;
    }
    assert!(more.await?.wait().await?.success());
    Ok(())
}

/// Polls a future once.
fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn inits() -> Vec<u32> {
    oracle::children(std::process::id())
}

fn kill(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).ok();
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn programs_find_a_container_ready() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(3).start_async().await?;
        let waiting = inits();
        assert_eq!(waiting.len(), 3);
        let child = hold(&pool).await?;
        let init = oracle::parent(child.id().expect("it runs")).expect("it has a parent");
        assert!(waiting.contains(&init), "it is one that was there before");
        assert_eq!((pool.metrics().in_use, pool.metrics().warm, pool.metrics().cold), (1, 1, 0));
        release(child).await?;
        settle(&pool, 3).await?;
        assert_eq!(pool.status_async(payload("exit", &["7"])).await?.verdict, Verdict::Exited(7));
        let mut env = payload("env", &[]);
        env.env("WORD", "yes");
        assert!(succeed(pool.output_async(&env).await?)?.contains("WORD=yes"));
        // The future is one's own, and can be a task.
        let task = tokio::spawn(pool.status_async(payload("exit", &["8"])));
        assert_eq!(task.await.expect("no panic")?.verdict, Verdict::Exited(8));
        // Killed by the host, and dropped.
        let mut child = hold(&pool).await?;
        child.kill().await?;
        assert_eq!(child.wait().await?.verdict, Verdict::Killed);
        let child = hold(&pool).await?;
        let pid = child.id().expect("it runs");
        drop(child);
        settle(&pool, 3).await?;
        assert!(!oracle::is_alive(pid));
        // Children outlive the pool.
        let child = hold(&pool).await?;
        pool.close_async().await?;
        assert_eq!(inits().len(), 1);
        release(child).await
    })
}

fn waiting_keeps_no_thread() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(1).max(1).patience(FOR_EVER).start()?;
        let running = hold(&pool).await?;
        settle_ready(&pool, 1).await?;
        let before = threads();
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            waiting.spawn(pool.status_async(payload("exit", &["3"])));
        }
        assert!(until(|| pool.metrics().waits == 100).await);
        // Others go on meanwhile, in the same thread.
        for _ in 0..20 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((waiting.len(), waiting.try_join_next().is_none()), (100, true));
        assert_eq!(threads(), before, "waiting makes threads");
        assert_eq!(pool.metrics().in_use, 1);
        release(running).await?;
        while let Some(ended) = timeout(Duration::from_secs(60) * slack(), waiting.join_next()).await? {
            assert_eq!(ended.expect("no panic")?.verdict, Verdict::Exited(3));
        }
        settle(&pool, 1).await
    })
}

/// Waits until so many are ready, whatever else runs.
async fn settle_ready(pool: &Pool, ready: usize) -> Result {
    match until(|| pool.metrics().ready == ready).await {
        true => Ok(()),
        false => fail(format!("{:?}", pool.metrics())),
    }
}

fn waiting_has_an_end() -> Result {
    in_both(|| async {
        let patience = Duration::from_millis(50);
        for when_empty in [WhenEmpty::Start, WhenEmpty::Wait] {
            let pool =
                plan()?.pool().size(1).max(1).when_empty(when_empty).patience(patience).start_async().await?;
            let running = hold(&pool).await?;
            let start = Instant::now();
            let error = pool.spawn_async(payload("exit", &["0"])).await.expect_err("there is no room");
            assert!(start.elapsed() >= patience);
            assert_eq!((error.kind(), error.step()), (ErrorKind::ResourceExhausted, Step::Pool));
            assert!(error.hint().is_some_and(|hint| hint.contains("max()")), "{}", explain(&error));
            assert_eq!((pool.metrics().refused, pool.metrics().in_use), (1, 1));
            release(running).await?;
            settle(&pool, 1).await?;
            assert!(pool.status_async(payload("exit", &["0"])).await?.success());
        }
        Ok(())
    })
}

fn tasks_and_threads_wait_in_one_queue() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(2).max(2).when_empty(WhenEmpty::Wait).patience(FOR_EVER);
        let pool = Arc::new(pool.start_async().await?);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || -> belljar::Result<()> {
                    for n in 0..25 {
                        let outcome = pool.status(payload("exit", &[&n.to_string()]))?;
                        assert_eq!(outcome.verdict, Verdict::Exited(n));
                    }
                    Ok(())
                })
            })
            .collect();
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let pool = Arc::clone(&pool);
            tasks.spawn(async move {
                for n in 0..25 {
                    let outcome = pool.status_async(payload("exit", &[&n.to_string()])).await?;
                    assert_eq!(outcome.verdict, Verdict::Exited(n));
                    let metrics = pool.metrics();
                    assert!(metrics.in_use + metrics.closing <= 2, "{metrics:?}");
                    assert!(metrics.ready + metrics.making <= 2, "{metrics:?}");
                }
                Ok::<_, belljar::Error>(())
            });
        }
        while let Some(ended) = timeout(Duration::from_secs(120) * slack(), tasks.join_next()).await? {
            ended.expect("no panic")?;
        }
        assert!(until(|| threads.iter().all(std::thread::JoinHandle::is_finished)).await);
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))?;
        settle(&pool, 2).await?;
        let metrics = pool.metrics();
        assert_eq!((metrics.warm, metrics.cold, metrics.refused), (200, 0, 0), "{metrics:?}");
        Ok(())
    })
}

/// Whoever is woken and dropped before it has looked does not keep what it was woken for.
fn who_is_given_up_passes_its_call_on() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(1).max(1).when_empty(WhenEmpty::Wait).patience(FOR_EVER);
        let pool = Arc::new(pool.start_async().await?);
        for next_is_a_thread in [false, true] {
            let running = hold(&pool).await?;
            settle_ready(&pool, 1).await?;
            let waits = pool.metrics().waits;
            let command = payload("exit", &["5"]);
            let mut first = Box::pin(pool.spawn_async(&command));
            let mut second = Box::pin(pool.spawn_async(&command));
            assert!(once(first.as_mut()).is_pending() && once(second.as_mut()).is_pending());
            let theirs = Arc::clone(&pool);
            let next = match next_is_a_thread {
                false => tokio::spawn(pool.status_async(payload("exit", &["6"]))),
                true => tokio::task::spawn_blocking(move || theirs.status(payload("exit", &["6"]))),
            };
            assert!(until(|| pool.metrics().waits == waits + 3).await);
            release(running).await?;
            // There is a container and there is room, and nobody has looked but who is not polled any more.
            assert!(until(|| (pool.metrics().ready, pool.metrics().closing) == (1, 0)).await);
            sleep(Duration::from_millis(20)).await;
            assert!(!next.is_finished(), "the positive control: it is not its turn");
            drop(first);
            drop(second);
            let ended = timeout(Duration::from_secs(20) * slack(), next).await?;
            assert_eq!(ended.expect("no panic")?.verdict, Verdict::Exited(6));
            settle(&pool, 1).await?;
        }
        Ok(())
    })
}

fn two_hundred_of_which_half_are_given_up() -> Result {
    in_both(|| async {
        for when_empty in [WhenEmpty::Wait, WhenEmpty::Start] {
            let pool = plan()?.pool().size(4).max(6).when_empty(when_empty).patience(FOR_EVER);
            let pool = pool.start_async().await?;
            settle(&pool, 4).await?;
            let mut numbers = Numbers(26);
            let mut tasks = JoinSet::new();
            for n in 0..200_u64 {
                // Some are given up before they are polled for the second time, and some when their program runs.
                let patience = Duration::from_micros(numbers.below(if n % 4 == 0 { 2_000 } else { 300_000 }));
                let run = pool.output_async(payload("exit", &[&(n % 100).to_string()]));
                tasks.spawn(async move {
                    if n % 2 == 1 {
                        return (n, Some(run.await));
                    }
                    (n, timeout(patience, run).await.ok())
                });
            }
            let (mut ended, mut given_up) = (0, 0);
            while let Some(task) = timeout(Duration::from_secs(60) * slack(), tasks.join_next()).await? {
                match task.expect("no panic") {
                    (n, Some(output)) => {
                        assert_eq!(output?.outcome.verdict, Verdict::Exited((n % 100) as i32));
                        ended += 1;
                    }
                    (_, None) => given_up += 1,
                }
                let metrics = pool.metrics();
                assert!(metrics.in_use + metrics.closing <= 6, "{metrics:?}");
            }
            println!("{when_empty:?}: {ended} ended, {given_up} given up, {:?}", pool.metrics());
            assert!(ended >= 100 && given_up >= 20, "{ended} ended, {given_up} given up");
            settle(&pool, 4).await?;
            assert_eq!(pool.metrics().refused, 0);
            // Not a place is lost.
            has_room_for(&pool, 6).await?;
            settle(&pool, 4).await?;
            assert_eq!(inits().len(), 4);
            pool.close_async().await?;
        }
        Ok(())
    })
}

/// After every number of polls, of programs that end and that do not, with a container and with a launch.
fn a_spawn_is_given_up_anywhere() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(2).max(3).patience(FOR_EVER).start_async().await?;
        let mut on_its_way = 0;
        for round in 0..160_u64 {
            let command = match round % 2 {
                0 => payload("sleep", &["60000"]),
                _ => payload("exit", &["0"]),
            };
            let mut future = Box::pin(pool.output_async(&command));
            for _ in 0..=round % 16 {
                if once(future.as_mut()).is_ready() {
                    break;
                }
                on_its_way += 1;
                sleep(Duration::from_micros(round * 17 % 400)).await;
            }
            drop(future);
            let metrics = pool.metrics();
            assert!(metrics.in_use + metrics.closing <= 3, "{metrics:?}");
        }
        assert!(on_its_way > 100, "it is ready at once");
        settle(&pool, 2).await?;
        has_room_for(&pool, 3).await?;
        settle(&pool, 2).await?;
        assert_eq!(inits().len(), 2);
        Ok(())
    })
}

fn a_pool_is_dropped_while_tasks_wait() -> Result {
    in_both(|| async {
        for is_closed in [true, false] {
            let pool = plan()?.pool().size(1).max(1).when_empty(WhenEmpty::Wait).patience(FOR_EVER);
            let pool = pool.start_async().await?;
            // It has its container by then, and is rarely there already.
            let mut on_its_way = Box::pin(pool.spawn_async(payload("exit", &["4"])));
            let early = once(on_its_way.as_mut());
            assert_eq!(pool.metrics().in_use, 1);
            let mut waiting = JoinSet::new();
            for _ in 0..20 {
                waiting.spawn(pool.status_async(payload("exit", &["0"])));
            }
            assert!(until(|| pool.metrics().waits == 20).await);
            let not_begun = pool.spawn_async(payload("exit", &["0"]));
            match is_closed {
                true => pool.close_async().await?,
                false => drop(pool),
            }
            let told = |error: belljar::Error| {
                assert_eq!((error.kind(), error.step()), (ErrorKind::Setup, Step::Pool));
                assert!(
                    error.to_string().contains("closed") && error.hint().is_some(),
                    "{}",
                    explain(&error)
                );
            };
            while let Some(ended) = timeout(Duration::from_secs(20) * slack(), waiting.join_next()).await? {
                told(ended.expect("no panic").expect_err("there is no pool"));
            }
            told(not_begun.await.map(drop).expect_err("there is no pool"));
            let mut child = match early {
                Poll::Ready(child) => child?,
                Poll::Pending => on_its_way.await?,
            };
            assert_eq!(child.wait().await?.verdict, Verdict::Exited(4));
            assert_eq!(inits(), Vec::<u32>::new());
        }
        Ok(())
    })
}

fn containers_that_die_while_they_wait() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(3).max(3).when_empty(WhenEmpty::Wait).patience(FOR_EVER);
        let pool = pool.start_async().await?;
        for _ in 0..10 {
            let parked = inits();
            parked.iter().copied().for_each(kill);
            assert!(until(|| parked.iter().all(|pid| !oracle::is_alive(*pid))).await);
            assert_eq!(pool.status_async(payload("exit", &["5"])).await?.verdict, Verdict::Exited(5));
            settle(&pool, 3).await?;
        }
        assert!(pool.metrics().discarded > 0);
        // Just before they are taken.
        for _ in 0..10 {
            inits().into_iter().for_each(kill);
            match pool.status_async(payload("exit", &["5"])).await {
                Ok(outcome) => assert_eq!(outcome.verdict, Verdict::Exited(5)),
                // Killed, and not yet dead when it was taken.
                Err(error) => assert!(error.to_string().contains("init was killed"), "{}", explain(&error)),
            }
            settle(&pool, 3).await?;
        }
        has_room_for(&pool, 3).await?;
        settle(&pool, 3).await
    })
}

/// Somebody kills inits, whatever they are for, while many tasks use the pool.
fn inits_are_killed_all_the_time() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(4).max(4).when_empty(WhenEmpty::Wait).patience(FOR_EVER);
        let pool = Arc::new(pool.start_async().await?);
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let pool = Arc::clone(&pool);
            tasks.spawn(async move {
                for _ in 0..20 {
                    match pool.status_async(payload("exit", &["9"])).await {
                        Ok(outcome) => match outcome.verdict {
                            Verdict::Exited(9) | Verdict::InitKilled => {}
                            other => return Err(format!("{other:?}")),
                        },
                        Err(error) if error.kind() == ErrorKind::Setup => {}
                        Err(error) => return Err(explain(&error)),
                    }
                }
                Ok(())
            });
        }
        while !tasks.is_empty() {
            inits().into_iter().take(1).for_each(kill);
            sleep(Duration::from_millis(2)).await;
            while let Some(ended) = tasks.try_join_next() {
                if let Err(what) = ended.expect("no panic") {
                    return fail(what);
                }
            }
        }
        settle(&pool, 4).await?;
        has_room_for(&pool, 4).await?;
        settle(&pool, 4).await
    })
}

fn programs_that_do_not_start() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(2).max(2).start_async().await?;
        for _ in 0..6 {
            let error =
                pool.spawn_async(Command::new("/no/such/program")).await.expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::Exec, "{}", explain(&error));
            assert_eq!(pool.metrics().in_use, 0, "its sandbox is gone by then");
        }
        settle(&pool, 2).await?;
        // What is seen to be wrong with a command costs no container, what shows later costs one.
        let before = pool.metrics();
        let mut command = payload("exit", &["0"]);
        command.current_dir("not/absolute");
        let error = pool.spawn_async(&command).await.expect_err("it is relative");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        assert_eq!(pool.metrics(), before);
        let mut command = payload("exit", &["0"]);
        command.arg("a\0b");
        let error = pool.spawn_async(&command).await.expect_err("it has a zero");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        settle(&pool, 2).await?;
        has_room_for(&pool, 2).await
    })
}

fn a_host_out_of_descriptors() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(2).max(2).start_async().await?;
        let (mut failed, mut worked) = (0, 0);
        for more in 0..24 {
            settle(&pool, 2).await?;
            let few = FewDescriptors::now(more)?;
            let result = pool.output_async(payload("exit", &["0"])).await;
            drop(few);
            match result {
                Ok(output) => {
                    assert_eq!(output.outcome.verdict, Verdict::Exited(0), "with {more}");
                    worked += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{more}: {}", explain(&error));
                    failed += 1;
                }
            }
        }
        assert!(failed > 0 && worked > 0, "{failed} failed, {worked} worked");
        settle(&pool, 2).await?;
        has_room_for(&pool, 2).await
    })
}

/// A runtime is shut down in which programs run, start and wait to be started. The pool goes on without it.
fn runtimes_end_under_their_programs() -> Result {
    in_both(|| async {
        let pool = plan()?.pool().size(2).max(3).when_empty(WhenEmpty::Start).patience(FOR_EVER);
        let pool = Arc::new(pool.start_async().await?);
        for make in [current_thread, multi_thread] {
            let theirs = Arc::clone(&pool);
            let other = std::thread::spawn(move || -> Result {
                let runtime = make();
                runtime.block_on(async {
                    let mut child = hold(&theirs).await?;
                    tokio::spawn(async move {
                        let stdin = child.stdin.take();
                        child.wait().await.ok();
                        drop(stdin);
                    });
                    for _ in 0..8 {
                        tokio::spawn(theirs.output_async(payload("sleep", &["60000"])));
                    }
                    assert!(until(|| theirs.metrics().in_use == 3).await);
                    Ok::<_, support::Fail>(())
                })?;
                drop(runtime);
                Ok(())
            });
            assert!(until(|| other.is_finished()).await);
            other.join().expect("no panic")?;
            settle(&pool, 2).await?;
            has_room_for(&pool, 3).await?;
            settle(&pool, 2).await?;
        }
        Ok(())
    })
}

fn calls_outside_of_a_runtime() -> Result {
    let pool = plan()?.pool().size(1).max(1).start()?;
    let spawn = || pool.spawn_async(payload("sleep", &["60000"]));
    let without_io = Builder::new_current_thread().enable_time().build()?;
    let panics = |run: &mut dyn FnMut()| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("it cannot work");
        let text = caught.downcast_ref::<String>().cloned();
        text.or_else(|| caught.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    let told = panics(&mut || drop(once(pin!(spawn()))));
    assert!(told.contains("runtime"), "{told}");
    let told = panics(&mut || drop(without_io.block_on(spawn())));
    assert!(told.contains("IO is disabled"), "{told}");
    assert_eq!(pool.metrics().in_use, 0, "a panic keeps a place");
    current_thread().block_on(has_room_for(&pool, 1))?;
    current_thread().block_on(settle(&pool, 1))?;
    assert_eq!(inits().len(), 1);
    drop(pool);
    assert_eq!(inits(), Vec::<u32>::new());
    Ok(())
}
