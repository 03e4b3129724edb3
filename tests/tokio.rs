//! Spawn and wait as futures: tasks and threads at once, cancellation at every point, and nothing left behind.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use belljar::tokio::Child;
use belljar::{Bytes, Command, Container, ErrorKind, Plan, Response, Sandbox, Seccomp, Stdio, Verdict};
use support::{FewDescriptors, Result, closed, explain, mib, oracle, payload, sh, slack, succeed, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

fn main() -> ExitCode {
    let cases = cases![
        a_program_to_its_end: ["userns", "sh"],
        a_missing_program: ["userns"],
        a_command_that_is_none: ["userns"],
        streams: ["userns", "sh"],
        ten_mebibytes_both_ways: ["userns"],
        both_streams_at_once: ["userns", "sh"],
        too_much_output: ["userns"],
        output_after_the_end_is_not_waited_for: ["userns", "sh"],
        waiting_in_every_way: ["userns"],
        waiting_is_given_up_and_taken_up_again: ["userns"],
        killing: ["userns"],
        limits_have_their_verdicts: ["userns", "cgroup-memory"],
        dropping_kills: ["userns"],
        dropping_outside_of_a_runtime_kills: ["userns"],
        a_spawn_is_cancelled_anywhere: ["userns"],
        a_start_of_a_container_is_cancelled_anywhere: ["userns"],
        a_spawn_in_a_container_is_cancelled: ["userns"],
        a_spawn_at_the_gate_is_cancelled: ["root", "sys-nice"],
        containers: ["userns", "sh"],
        many_tasks_wait_for_one_container: ["userns"],
        threads_and_tasks_wait_for_one_container: ["userns"],
        a_container_ends_under_its_tasks: ["userns"],
        an_init_that_is_killed: ["userns"],
        a_host_out_of_descriptors: ["userns"],
        a_frozen_container_starts_nothing: ["userns", "freezer"],
        two_hundred_at_once_on_one_thread: ["userns"],
        runtimes_end_under_their_children: ["userns"],
        runtimes_that_cannot_wait: ["userns"],
        a_child_becomes_one_for_tasks: ["userns"],
        handlers_answer: ["userns"],
        granted_connections: ["userns", "sh"],
        connecting_keeps_no_thread: ["userns"],
        a_tree_without_a_pid_namespace: ["bare"],
        no_signal_handler_is_installed: ["userns"],
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

/// Runs a test in each kind of runtime, and looks whether it has left anything.
fn in_both<F: Future<Output = Result> + Send + 'static>(test: impl Fn() -> F) -> Result {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(test())?;
        // As a task, which the workers have, too.
        runtime.block_on(runtime.spawn(test())).expect("no panic")?;
        drop(runtime);
        nothing_is_left();
    }
    Ok(())
}

/// Nothing is a child of this process, and it has no cgroup.
fn nothing_is_left() {
    let own = std::process::id();
    let left = || (oracle::children(own), oracle::boxes_of(own));
    let gone = within(Duration::from_secs(5) * slack(), || left() == (vec![], vec![]));
    assert!(gone, "left behind: {:?}", left());
}

/// Polls a future once.
fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A sandbox with a box, where there can be one.
fn plan() -> Result<Plan> {
    let limited = closed().memory_max(mib(256)).best_effort(belljar::Feature::MemoryMax);
    Ok(limited.plan()?)
}

/// A program that waits, and its pid, once it has said that it runs.
async fn hold(plan: &Plan) -> Result<(Child, u32)> {
    held(plan.spawn_async(&holding()).await?).await
}

fn holding() -> Command {
    let mut command = payload("hold", &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

async fn held(mut child: Child) -> Result<(Child, u32)> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).await?;
    assert_eq!(line, "ready\n");
    let pid = child.id().expect("it runs");
    Ok((child, pid))
}

fn a_program_to_its_end() -> Result {
    in_both(|| async {
        let sandbox = closed();
        let mut child = sandbox.spawn_async(payload("exit", &["7"])).await?;
        assert_eq!(child.wait().await?.verdict, Verdict::Exited(7));
        assert_eq!(child.wait().await?.verdict, Verdict::Exited(7), "the result stays");
        assert_eq!(child.id(), None);
        assert_eq!(sandbox.status_async(payload("exit", &["3"])).await?.verdict, Verdict::Exited(3));
        assert_eq!(succeed(sandbox.output_async(sh("echo hello")).await?)?, "hello\n");
        let plan = plan()?;
        let output = plan.output_async(sh("echo out; echo err >&2; exit 4")).await?;
        assert_eq!(output.outcome.verdict, Verdict::Exited(4));
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        Ok(())
    })
}

fn a_missing_program() -> Result {
    in_both(|| async {
        let error = plan()?.spawn_async(Command::new("/no/such")).await.expect_err("missing");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)));
        // All of it is gone by then.
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
        let container = closed().start_async().await?;
        for _ in 0..50 {
            let error = container.spawn_async(Command::new("/no/such")).await.expect_err("missing");
            assert_eq!(error.kind(), ErrorKind::Exec, "{}", explain(&error));
        }
        assert!(container.status_async(payload("exit", &["0"])).await?.success());
        Ok(container.close_async().await?)
    })
}

fn a_command_that_is_none() -> Result {
    in_both(|| async {
        for command in [Command::new(""), Command::new("a\0b")] {
            let error = plan()?.spawn_async(&command).await.expect_err("no command");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        }
        Ok(())
    })
}

fn streams() -> Result {
    in_both(|| async {
        let mut command = sh("read line; echo \"$line\" >&2; cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = closed().spawn_async(&command).await?;
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        stdin.write_all(b"first\n").await?;
        let mut line = String::new();
        stderr.read_line(&mut line).await?;
        assert_eq!(line, "first\n");
        // Nothing more comes, and the thread is free meanwhile.
        assert!(timeout(Duration::from_millis(50), stderr.read_line(&mut line)).await.is_err());
        stdin.write_all(b"rest").await?;
        stdin.shutdown().await?;
        drop(stdin);
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await?;
        assert_eq!(rest, b"rest");
        assert!(child.wait().await?.success());
        // The end of one program's pipe is the beginning of another's.
        let mut first = payload("flood", &["100000"]);
        let mut first = closed().spawn_async(first.stdout(Stdio::piped())).await?;
        let mut second = sh("wc -c");
        second.stdin(Stdio::from(first.stdout.take().expect("piped").into_owned_fd()?));
        let counted = succeed(closed().output_async(&second).await?)?;
        assert_eq!(counted.trim(), "100000");
        assert!(first.wait().await?.success());
        // A stdin that nobody takes is closed by whoever waits.
        let mut command = payload("echo", &[]);
        let mut child = closed().spawn_async(command.stdin(Stdio::piped())).await?;
        assert!(timeout(Duration::from_secs(20), child.wait()).await.expect("it ends")?.success());
        Ok(())
    })
}

fn ten_mebibytes_both_ways() -> Result {
    in_both(|| async {
        let mut command = payload("echo", &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = closed().spawn_async(&command).await?;
        let sent: Vec<u8> = (0..10_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut stdin = child.stdin.take().expect("piped");
        let writing = async {
            stdin.write_all(&sent).await?;
            drop(stdin);
            Ok::<_, support::Fail>(())
        };
        let (written, output) = tokio::join!(writing, child.wait_with_output());
        written?;
        let output = output?;
        assert!(output.outcome.success());
        assert!(output.stdout == sent, "what came back is not what was sent");
        Ok(())
    })
}

fn both_streams_at_once() -> Result {
    in_both(|| async {
        // More than a pipe holds to each, in turn: whoever reads one of them to its end first would wait for ever.
        let script =
            "i=0; while [ $i -lt 300 ]; do printf '%01000d' 1; printf '%01000d' 2 >&2; i=$((i+1)); done";
        let mut piped = sh(script);
        piped.stdout(Stdio::piped()).stderr(Stdio::piped());
        for command in [piped, sh(script)] {
            let output = closed().output_async(&command).await?;
            assert_eq!(output.outcome.verdict, Verdict::Exited(0));
            assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
            assert!(output.stdout.ends_with(b"1") && output.stderr.ends_with(b"2"));
        }
        Ok(())
    })
}

fn too_much_output() -> Result {
    in_both(|| async {
        for stream in [Stdio::piped(), Stdio::capture(Bytes::kib(100))] {
            let mut command = payload("flood", &["100000000"]);
            command.stdout(stream).stderr(Stdio::null());
            let output =
                closed().output_max(Bytes::kib(100)).spawn_async(&command).await?.wait_with_output().await?;
            assert_eq!(output.outcome.verdict, Verdict::OutputExceeded);
            assert_eq!(output.stdout.len(), 100 << 10);
        }
        Ok(())
    })
}

fn output_after_the_end_is_not_waited_for() -> Result {
    in_both(|| async {
        let container = closed().start_async().await?;
        // The process that is left behind holds the pipe.
        let mut command = sh("echo here; sleep 60 &");
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = container.spawn_async(&command).await?;
        let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.expect("it ends")?;
        assert_eq!(output.stdout, b"here\n");
        Ok(container.close_async().await?)
    })
}

fn waiting_in_every_way() -> Result {
    in_both(|| async {
        let (mut child, pid) = hold(&plan()?).await?;
        assert!(child.try_wait()?.is_none());
        assert_eq!(child.id(), Some(pid));
        drop(child.stdin.take());
        // Without the help of the runtime, which this keeps from running.
        let mut outcome = None;
        assert!(within(Duration::from_secs(10) * slack(), || {
            outcome = child.try_wait().expect("it can be waited for");
            outcome.is_some()
        }));
        assert_eq!(outcome.map(|outcome| outcome.verdict), Some(Verdict::Exited(0)));
        // Its sandbox is gone by then.
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
        assert_eq!(child.try_wait()?.map(|outcome| outcome.verdict), Some(Verdict::Exited(0)));
        assert_eq!(child.wait_with_output().await?.outcome.verdict, Verdict::Exited(0));
        Ok(())
    })
}

fn waiting_is_given_up_and_taken_up_again() -> Result {
    in_both(|| async {
        let (mut child, _) = hold(&plan()?).await?;
        let stdin = child.stdin.take();
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(20), child.wait()).await.is_err());
        }
        tokio::select! {
            _ = child.wait() => panic!("it runs"),
            () = sleep(Duration::from_millis(20)) => {}
        }
        drop(stdin);
        // Given up again and again while it ends and is taken down.
        let mut outcome = None;
        while outcome.is_none() {
            let mut waiting = pin!(child.wait());
            outcome = match once(waiting.as_mut()) {
                Poll::Ready(outcome) => Some(outcome?),
                Poll::Pending => None,
            };
            tokio::task::yield_now().await;
        }
        assert_eq!(outcome.map(|outcome| outcome.verdict), Some(Verdict::Exited(0)));
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new(), "it is gone when wait says so");
        Ok(())
    })
}

fn killing() -> Result {
    in_both(|| async {
        let (mut child, pid) = hold(&plan()?).await?;
        let init = oracle::parent(pid).expect("it has a parent");
        child.kill().await?;
        assert!(!std::path::Path::new(&format!("/proc/{init}")).exists(), "the init is left");
        assert_eq!(child.wait().await?.verdict, Verdict::Killed);
        child.kill().await?;
        let (mut child, _) = hold(&plan()?).await?;
        child.signal(libc::SIGTERM)?;
        let stdin = child.stdin.take();
        assert_eq!(child.wait().await?.verdict, Verdict::Signaled(libc::SIGTERM));
        drop(stdin);
        let (mut child, _) = hold(&plan()?).await?;
        let stdin = child.stdin.take();
        child.start_kill()?;
        assert_eq!(child.wait_with_output().await?.outcome.verdict, Verdict::Killed);
        drop(stdin);
        Ok(())
    })
}

fn limits_have_their_verdicts() -> Result {
    in_both(|| async {
        let slow = closed().wall_time(Duration::from_millis(200));
        let outcome = slow.status_async(payload("sleep", &["60000"])).await?;
        assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
        let small =
            closed().memory_max(mib(16)).swap_max(Bytes::kib(0)).best_effort(belljar::Feature::SwapMax);
        let outcome = small.status_async(payload("alloc", &["100000000"])).await?;
        assert_eq!(outcome.verdict, Verdict::MemoryExceeded);
        assert!(outcome.oom.is_some());
        Ok(())
    })
}

fn dropping_kills() -> Result {
    in_both(|| async {
        let (child, pid) = hold(&plan()?).await?;
        let init = oracle::parent(pid).expect("it has a parent");
        drop(child);
        // A task of the runtime does the rest.
        let gone = || !std::path::Path::new(&format!("/proc/{init}")).exists() && !oracle::is_alive(pid);
        for _ in 0..5000 * slack() {
            if gone() && oracle::boxes_of(std::process::id()).is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(1)).await;
        }
        support::fail("the program outlives its handle")
    })
}

fn dropping_outside_of_a_runtime_kills() -> Result {
    let runtime = multi_thread();
    for _ in 0..3 {
        let (child, pid) = runtime.block_on(async { hold(&plan()?).await })?;
        drop(child);
        assert!(!oracle::is_alive(pid), "dropping returned before the program was dead");
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
        assert_eq!(oracle::boxes_of(std::process::id()), Vec::<std::path::PathBuf>::new());
    }
    // The runtime that it was made in is gone.
    let (child, pid) = runtime.block_on(async { hold(&plan()?).await })?;
    runtime.shutdown_background();
    assert!(oracle::is_alive(pid));
    let mut child = child;
    let other = current_thread();
    let stdin = child.stdin.take();
    let error = other.block_on(child.wait()).expect_err("nobody wakes it any more");
    assert_eq!(error.step(), belljar::Step::Wait, "{}", explain(&error));
    assert!(oracle::is_alive(pid));
    other.block_on(async { drop(child) });
    drop((stdin, other));
    nothing_is_left();
    Ok(())
}

/// Gives a future up after a growing time, until it comes to its end by itself, and between any two polls.
async fn cancel_everywhere<T, F: Future<Output = belljar::Result<T>>>(make: impl Fn() -> F) -> Result {
    for step in 0..5000 {
        if let Ok(result) = timeout(Duration::from_micros(step * 300), make()).await {
            drop(result?);
            break;
        }
    }
    let mut on_its_way = 0;
    for round in 0..300 {
        let mut future = Box::pin(make());
        for _ in 0..=round % 20 {
            if once(future.as_mut()).is_ready() {
                break;
            }
            on_its_way += 1;
            sleep(Duration::from_micros(100)).await;
        }
        if on_its_way > 100 {
            return Ok(());
        }
    }
    assert!(on_its_way > 0, "it never waits");
    Ok(())
}

fn a_spawn_is_cancelled_anywhere() -> Result {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async {
            let plan = plan()?;
            cancel_everywhere(|| plan.output_async(payload("exit", &["0"]))).await?;
            cancel_everywhere(|| plan.spawn_async(payload("sleep", &["60000"]))).await
        })?;
        drop(runtime);
        nothing_is_left();
    }
    Ok(())
}

fn a_start_of_a_container_is_cancelled_anywhere() -> Result {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async {
            let plan = plan()?;
            cancel_everywhere(|| plan.start_async()).await
        })?;
        drop(runtime);
        nothing_is_left();
    }
    Ok(())
}

/// How many milliseconds a program sleeps that can be found by that.
const LONG: &str = "86400017";

/// Starts and gives up more programs than a container has room for.
async fn start_and_give_up(container: &Container, what: &Command) -> Result {
    for round in 0..100 {
        let mut starting = Box::pin(container.spawn_async(what));
        let polled = once(starting.as_mut());
        if round % 2 == 1 && polled.is_pending() {
            sleep(Duration::from_micros(round * 20)).await;
            drop(once(starting.as_mut()));
        }
        drop(starting);
    }
    // All of them die.
    for _ in 0..5000 * slack() {
        if oracle::processes_with(LONG).is_empty() {
            assert!(container.status_async(payload("exit", &["0"])).await?.success());
            return Ok(());
        }
        sleep(Duration::from_millis(1)).await;
    }
    support::fail("a program that nobody has runs on")
}

fn a_spawn_in_a_container_is_cancelled() -> Result {
    in_both(|| async {
        let container = closed().start_async().await?;
        start_and_give_up(&container, payload("sleep", &[LONG]).stdout(Stdio::null())).await?;
        // Its descriptors have not stayed either. The container itself may have one more: the way to a prepared payload.
        let before = oracle::open_fds().len();
        for _ in 0..2 {
            start_and_give_up(&container, payload("sleep", &[LONG]).stdout(Stdio::null())).await?;
        }
        let after = oracle::open_fds().len();
        assert!(after <= before + 1, "{before} descriptors, then {after}");
        Ok(container.close_async().await?)
    })
}

fn a_spawn_at_the_gate_is_cancelled() -> Result {
    in_both(|| async {
        let container = closed().nice(-5).start_async().await?;
        let mut child = container.spawn_async(payload("exit", &["0"])).await?;
        assert!(child.wait().await?.success(), "the positive control");
        start_and_give_up(&container, &payload("sleep", &[LONG])).await?;
        Ok(container.close_async().await?)
    })
}

fn containers() -> Result {
    in_both(|| async {
        let container = plan()?.start_async().await?;
        assert!(container.status_async(sh("echo one > /tmp/note")).await?.success());
        // A handle of either kind.
        assert!(container.status(sh("echo two >> /tmp/note"))?.success());
        assert_eq!(succeed(container.output_async(sh("cat /tmp/note")).await?)?, "one\ntwo\n");
        let (child, pid) = held(container.spawn_async(&holding()).await?).await?;
        drop(child);
        for _ in 0..5000 * slack() {
            if !oracle::is_alive(pid) {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!oracle::is_alive(pid), "dropping a program of a container does not kill it");
        assert!(container.status_async(payload("exit", &["0"])).await?.success());
        container.close_async().await?;
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
        assert_eq!(oracle::boxes_of(std::process::id()), Vec::<std::path::PathBuf>::new());
        Ok(())
    })
}

fn many_tasks_wait_for_one_container() -> Result {
    in_both(|| async {
        let container = Arc::new(closed().start_async().await?);
        for _ in 0..5 {
            let mut tasks = JoinSet::new();
            for n in 0..30 {
                let container = Arc::clone(&container);
                tasks.spawn(async move {
                    let mut child = container.spawn_async(payload("exit", &[&n.to_string()])).await?;
                    Ok::<_, belljar::Error>((n, child.wait().await?.verdict))
                });
            }
            let mut seen = 0;
            while let Some(ended) =
                timeout(Duration::from_secs(60), tasks.join_next()).await.expect("no hang")
            {
                let (n, verdict) = ended.expect("no panic")?;
                assert_eq!(verdict, Verdict::Exited(n));
                seen += 1;
            }
            assert_eq!(seen, 30);
        }
        Ok(())
    })
}

fn threads_and_tasks_wait_for_one_container() -> Result {
    in_both(|| async {
        let container = Arc::new(closed().start_async().await?);
        // A thread reads while a task waits, and the other way round, whichever ends first.
        for thread_first in [true, false] {
            let (mut child, _) = held(container.spawn_async(&holding()).await?).await?;
            let mut command = holding();
            let mut theirs = container.spawn(command.stdout(Stdio::null()))?;
            let stdin = theirs.stdin.take();
            let thread = std::thread::spawn(move || theirs.wait());
            let ours = child.stdin.take();
            let early = timeout(Duration::from_millis(50), child.wait()).await;
            assert!(early.is_err(), "neither has ended");
            if thread_first {
                drop(stdin);
                assert!(thread.join().expect("no panic")?.success());
                drop(ours);
                assert!(child.wait().await?.success());
            } else {
                drop(ours);
                assert!(timeout(Duration::from_secs(20), child.wait()).await.expect("no hang")?.success());
                drop(stdin);
                assert!(thread.join().expect("no panic")?.success());
            }
        }
        // All at once.
        let mut tasks = JoinSet::new();
        let threads: Vec<_> = (0..6)
            .map(|n| {
                let container = Arc::clone(&container);
                std::thread::spawn(move || {
                    for round in 0..30 {
                        let code = (n * 30 + round) % 200;
                        let outcome =
                            container.status(payload("exit", &[&code.to_string()])).expect("it runs");
                        assert_eq!(outcome.verdict, Verdict::Exited(code));
                    }
                })
            })
            .collect();
        for n in 0..6 {
            let container = Arc::clone(&container);
            tasks.spawn(async move {
                for round in 0..30 {
                    let code = (n * 30 + round + 7) % 200;
                    let outcome = container.status_async(payload("exit", &[&code.to_string()])).await?;
                    assert_eq!(outcome.verdict, Verdict::Exited(code));
                }
                Ok::<_, belljar::Error>(())
            });
        }
        while let Some(ended) = timeout(Duration::from_secs(120), tasks.join_next()).await.expect("no hang") {
            ended.expect("no panic")?;
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        Ok(())
    })
}

fn a_container_ends_under_its_tasks() -> Result {
    in_both(|| async {
        let container = closed().start_async().await?;
        let (mut child, _) = held(container.spawn_async(&holding()).await?).await?;
        let stdin = child.stdin.take();
        let waiting = tokio::spawn(async move {
            let outcome = child.wait().await;
            drop(stdin);
            outcome
        });
        sleep(Duration::from_millis(20)).await;
        container.close_async().await?;
        let outcome = timeout(Duration::from_secs(20), waiting).await.expect("no hang").expect("no panic")?;
        assert!(matches!(outcome.verdict, Verdict::Killed | Verdict::InitKilled), "{:?}", outcome.verdict);
        Ok(())
    })
}

fn an_init_that_is_killed() -> Result {
    in_both(|| async {
        let (mut child, pid) = hold(&plan()?).await?;
        let stdin = child.stdin.take();
        let init = oracle::parent(pid).expect("it has a parent");
        let waiting = tokio::spawn(async move { child.wait().await });
        sleep(Duration::from_millis(20)).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init as i32), nix::sys::signal::Signal::SIGKILL)?;
        let outcome = timeout(Duration::from_secs(20), waiting).await.expect("no hang").expect("no panic")?;
        assert_eq!(outcome.verdict, Verdict::InitKilled);
        assert_eq!(oracle::children(std::process::id()), Vec::<u32>::new());
        drop(stdin);
        Ok(())
    })
}

fn a_host_out_of_descriptors() -> Result {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async {
            let plan = plan()?;
            let container = plan.start_async().await?;
            let command = payload("exit", &["0"]);
            for alone in [true, false] {
                let (mut failed, mut worked) = (0, 0);
                for more in 0..60 {
                    let few = FewDescriptors::now(more)?;
                    let result = match alone {
                        true => plan.output_async(&command).await,
                        false => container.output_async(&command).await,
                    };
                    drop(few);
                    match result {
                        Ok(output) => {
                            assert_eq!(output.outcome.verdict, Verdict::Exited(0), "with {more}");
                            worked += 1;
                        }
                        Err(error) => {
                            let kind = error.kind();
                            assert_eq!(kind, ErrorKind::ResourceExhausted, "{more}: {}", explain(&error));
                            failed += 1;
                        }
                    }
                }
                assert!(failed > 0 && worked > 0, "{failed} failed, {worked} worked");
            }
            // What was started without its pidfd is not left in the container.
            for _ in 0..40 {
                assert!(container.status_async(&command).await?.success());
            }
            Ok::<_, support::Fail>(container.close_async().await?)
        })?;
        drop(runtime);
        nothing_is_left();
    }
    Ok(())
}

fn a_frozen_container_starts_nothing() -> Result {
    in_both(|| async {
        let container = Arc::new(closed().freezable().start_async().await?);
        let (mut child, _) = held(container.spawn_async(&holding()).await?).await?;
        container.freeze()?;
        let error = container.spawn_async(payload("exit", &["0"])).await.expect_err("frozen");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
        container.thaw()?;
        assert!(child.usage()?.peak_pids.is_none_or(|peak| peak > 0));
        // Frozen and thawed while programs are being started.
        let (theirs, over) = (Arc::clone(&container), Arc::new(AtomicBool::new(false)));
        let enough = Arc::clone(&over);
        let freezing = tokio::task::spawn_blocking(move || {
            let mut rounds = 0;
            while rounds < 10 || !enough.load(Ordering::Relaxed) {
                theirs.freeze()?;
                theirs.thaw()?;
                std::thread::sleep(Duration::from_millis(2));
                rounds += 1;
            }
            Ok::<_, belljar::Error>(())
        });
        let mut started = 0;
        while started < 10 || !freezing.is_finished() {
            match container.status_async(payload("exit", &["0"])).await {
                Ok(outcome) => {
                    assert!(outcome.success());
                    started += 1;
                    over.store(started >= 10, Ordering::Relaxed);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error)),
            }
        }
        freezing.await.expect("no panic")?;
        child.kill().await?;
        Ok(())
    })
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn two_hundred_at_once_on_one_thread() -> Result {
    let runtime = current_thread();
    runtime.block_on(async {
        let plan = plan()?;
        hold(&plan).await?.0.kill().await?;
        let before = threads();
        let mut tasks = JoinSet::new();
        for n in 0..200 {
            let plan = plan.clone();
            tasks.spawn(async move {
                let (mut child, pid) = hold(&plan).await?;
                // All of them run at the same time for a while.
                sleep(Duration::from_millis(500)).await;
                assert!(oracle::is_alive(pid));
                drop(child.stdin.take());
                assert_eq!(child.wait().await?.verdict, Verdict::Exited(0), "program {n}");
                Ok::<_, support::Fail>(())
            });
        }
        let mut most = 0;
        let mut at_once = 0;
        while !tasks.is_empty() {
            while let Some(ended) = tasks.try_join_next() {
                ended.expect("no panic")?;
            }
            most = most.max(threads());
            at_once = at_once.max(oracle::children(std::process::id()).len());
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(most, before, "there are more threads than before");
        assert!(at_once > 10, "{at_once} at once");
        // Given up, all of them: no thread either.
        let mut children = Vec::new();
        for _ in 0..50 {
            children.push(hold(&plan).await?.0);
        }
        drop(children);
        for _ in 0..100 {
            most = most.max(threads());
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(most, before, "dropping makes threads");
        Ok::<_, support::Fail>(())
    })?;
    drop(runtime);
    nothing_is_left();
    Ok(())
}

fn runtimes_end_under_their_children() -> Result {
    for make in [current_thread, multi_thread] {
        for background in [false, true] {
            let runtime = make();
            let plan = plan()?;
            runtime.block_on(async {
                for _ in 0..5 {
                    let (child, _) = hold(&plan).await?;
                    tokio::spawn(async move {
                        let mut child = child;
                        let stdin = child.stdin.take();
                        child.wait().await.ok();
                        drop(stdin);
                    });
                    // Given up just before, so that a task of the runtime is at it.
                    drop(hold(&plan).await?);
                    let plan = plan.clone();
                    tokio::spawn(async move { plan.output_async(payload("sleep", &["60000"])).await.ok() });
                    tokio::task::yield_now().await;
                }
                Ok::<_, support::Fail>(())
            })?;
            assert!(!oracle::children(std::process::id()).is_empty(), "the positive control");
            match background {
                true => runtime.shutdown_background(),
                false => drop(runtime),
            }
            nothing_is_left();
        }
    }
    Ok(())
}

fn runtimes_that_cannot_wait() -> Result {
    let without_time = Builder::new_current_thread().enable_io().build()?;
    let without_io = Builder::new_current_thread().enable_time().build()?;
    let panics = |run: &mut dyn FnMut()| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("it cannot work");
        let text = caught.downcast_ref::<String>().cloned();
        text.or_else(|| caught.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    let plan = plan()?;
    let spawn = || plan.spawn_async(payload("sleep", &["60000"]));
    let told = panics(&mut || drop(without_time.block_on(spawn())));
    assert!(told.contains("timers are disabled"), "{told}");
    nothing_is_left();
    let told = panics(&mut || drop(without_io.block_on(spawn())));
    assert!(told.contains("IO is disabled"), "{told}");
    nothing_is_left();
    let told = panics(&mut || drop(once(pin!(spawn()))));
    assert!(told.contains("runtime"), "{told}");
    nothing_is_left();
    Ok(())
}

fn a_child_becomes_one_for_tasks() -> Result {
    in_both(|| async {
        let mut child = held(plan()?.spawn(holding())?.into_async()?).await?.0;
        drop(child.stdin.take());
        assert_eq!(child.wait_with_output().await?.outcome.verdict, Verdict::Exited(0));
        // One that has ended, and whose pipe was taken.
        let mut command = payload("exit", &["5"]);
        let mut ended = plan()?.spawn(command.stdout(Stdio::piped()))?;
        drop(ended.stdout.take());
        assert_eq!(ended.wait()?.verdict, Verdict::Exited(5));
        assert_eq!(ended.into_async()?.wait().await?.verdict, Verdict::Exited(5));
        // One of a pool, which takes its sandbox down.
        let pool = Arc::new(plan()?.pool().size(2).start()?);
        for _ in 0..4 {
            let theirs = Arc::clone(&pool);
            let spawning = tokio::task::spawn_blocking(move || theirs.spawn(payload("exit", &["6"])));
            let mut child = spawning.await.expect("no panic")?.into_async()?;
            assert_eq!(child.wait().await?.verdict, Verdict::Exited(6));
            drop(pool.spawn(payload("sleep", &["60000"]))?.into_async()?);
        }
        let in_use = || pool.metrics().in_use;
        for _ in 0..5000 * slack() {
            if in_use() == 0 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(in_use(), 0, "a dropped child of a pool is in use for ever");
        Ok(())
    })
}

fn handlers_answer() -> Result {
    in_both(|| async {
        let sandbox = closed().seccomp(Seccomp::new().notify(["getsid"]));
        let number = libc::SYS_getsid.to_string();
        let mut command = payload("syscall", &[&number]);
        command.on_syscall(["getsid"], |_| Response::errno(libc::EXDEV));
        let output = sandbox.output_async(&command).await?;
        assert_eq!(output.stdout, format!("errno {}\n", libc::EXDEV).into_bytes());
        Ok(())
    })
}

/// A command that says what comes over its connection, and the thread of the peer that says hello.
fn greeted() -> Result<(Command, std::thread::JoinHandle<std::io::Result<()>>)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut command = sh("read line <&3; echo \"$line\"");
    command.grant_tcp(listener.local_addr()?.to_string(), 3);
    let greet = move || std::io::Write::write_all(&mut listener.accept()?.0, b"hello\n");
    Ok((command, std::thread::spawn(greet)))
}

fn granted_connections() -> Result {
    in_both(|| async {
        let plan = closed().plan()?;
        let container = plan.start_async().await?;
        let pool = plan.pool().size(1).start_async().await?;
        for way in 0..4 {
            let (command, peer) = greeted()?;
            let output = match way {
                0 => plan.output_async(&command).await?,
                1 => container.output_async(&command).await?,
                2 => pool.output_async(&command).await?,
                _ => closed().output_async(&command).await?,
            };
            assert_eq!(succeed(output)?, "hello\n", "way {way}");
            peer.join().expect("no panic")?;
        }
        container.close_async().await?;
        pool.close_async().await?;
        Ok(())
    })
}

fn connecting_keeps_no_thread() -> Result {
    let (silent, waiting, address) = support::silent_peer()?;
    let mut command = payload("exit", &["0"]);
    command.grant_tcp(address, 3);
    let runtime = current_thread();
    runtime.block_on(async {
        let plan = plan()?;
        let mut never = pin!(plan.spawn_async(&command));
        assert!(once(never.as_mut()).is_pending());
        // The one thread does something else meanwhile.
        let other = timeout(Duration::from_secs(5) * slack(), plan.spawn_async(payload("exit", &["7"])));
        let mut other = other.await.expect("it does not wait for the first")?;
        assert_eq!(other.wait().await?.verdict, Verdict::Exited(7));
        assert!(timeout(Duration::from_millis(50), never).await.is_err());
        Ok::<_, support::Fail>(())
    })?;
    // What is connecting gives up when the address is gone, and the runtime waits for that.
    drop((silent, waiting));
    drop(runtime);
    nothing_is_left();
    Ok(())
}

fn a_tree_without_a_pid_namespace() -> Result {
    in_both(|| async {
        // The init kills what runs, and is waited for.
        let sandbox = Sandbox::bare().best_effort(belljar::Feature::TreeKill);
        let mut command = Command::new(support::own_exe());
        command.args(["--role", "hold"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let (child, pid) = held(sandbox.spawn_async(&command).await?).await?;
        drop(child);
        let (mut child, second) = held(sandbox.spawn_async(&command).await?).await?;
        child.kill().await?;
        assert!(!oracle::is_alive(second));
        for _ in 0..5000 * slack() {
            if !oracle::is_alive(pid) {
                return Ok(());
            }
            sleep(Duration::from_millis(1)).await;
        }
        support::fail("the program outlives its handle")
    })
}

fn no_signal_handler_is_installed() -> Result {
    in_both(|| async {
        assert!(closed().status_async(payload("exit", &["0"])).await?.success());
        let caught = oracle::status_of("self").get("SigCgt").cloned().unwrap_or_default();
        let caught = u64::from_str_radix(&caught, 16)?;
        assert_eq!(caught & (1 << (libc::SIGCHLD - 1)), 0, "{caught:x}");
        Ok(())
    })
}
