//! Pools: who gets which container, how many there are, what becomes of them, and that nothing stays.
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

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use belljar::{
    Command, ErrorKind, Mount, Plan, Pool, Response, Reuse, Rootfs, Sandbox, Seccomp, Stdio, Step, Upper,
    Verdict, WhenEmpty,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::features::missing;
use support::ledger::Ledger;
use support::{
    Held, Result, Scratch, closed, explain, fail, held, mib, number, oracle, payload, raw, role_command,
    role_result, run_helper, slack, soak, succeed, within,
};

fn main() -> ExitCode {
    let cases = cases![
        programs_find_a_container_ready: ["userns"],
        a_child_is_like_any_other: ["userns"],
        limits_hold: ["userns", "cgroup-memory", "cgroup-pids"],
        handlers_answer: ["userns"],
        what_the_host_sets: ["userns", "sys-nice"],
        containers_serve_once: ["userns"],
        the_tree_is_dead_when_wait_returns: ["userns"],
        never_more_than_allowed: ["userns"],
        waiting_for_room: ["userns"],
        waiting_for_a_container: ["userns"],
        starting_when_none_is_ready: ["userns"],
        containers_that_die_while_they_wait: ["userns"],
        inits_are_killed_all_the_time: ["userns"],
        programs_that_do_not_start: ["userns"],
        children_outlive_the_pool: ["userns"],
        dropped_while_it_refills: ["userns"],
        many_threads: ["userns"],
        a_source_that_vanishes: ["userns"],
        a_host_without_descriptors: ["userns"],
        reuse_after_a_reset: ["userns"],
        reuse_in_fixed_numbers: ["userns"],
        an_idle_pool_does_nothing: ["userns"],
        a_busy_pool_waits_for_a_quiet_moment: ["userns"],
        a_forked_host: ["userns"],
        pools_that_cannot_be: ["userns", "overlay"],
        without_a_pid_namespace: ["userns", "cgroup-pids"],
    ];
    let roles: &[support::Role] = &[("starved", starved), ("forked", forked), ("leave", leave)];
    support::main_serial(cases, roles)
}

fn plan() -> Result<Plan> {
    let limited = missing("cgroup-pids").is_none();
    Ok(if limited { closed().pids_max(32) } else { closed() }.plan()?)
}

/// Waits until every container is ready, and nothing else is there.
fn settle(pool: &Pool, size: usize) -> Result {
    let settled = || {
        let metrics = pool.metrics();
        (metrics.ready, metrics.making, metrics.closing) == (size, 0, 0)
    };
    match within(Duration::from_secs(10) * slack(), settled) {
        true => Ok(()),
        false => fail(format!("{:?}", pool.metrics())),
    }
}

fn inits() -> HashSet<u32> {
    oracle::children(std::process::id()).into_iter().collect()
}

/// Does something with a pool, after which nothing of it may be left.
fn leaves_nothing(f: impl FnOnce() -> Result) -> Result {
    // What is made once for all sandboxes stays.
    plan()?.spawn(payload("exit", &["0"]))?.wait()?;
    drop(plan()?.pool().size(1).start()?);
    let before = Ledger::now();
    f()?;
    // The kernel counts a thread that was joined until it has quite gone.
    assert!(within(Duration::from_secs(2) * slack(), || Ledger::now().threads == before.threads));
    assert_eq!(Ledger::now(), before);
    Ok(())
}

/// A program of a pool that waits for its stdin to end.
fn hold(pool: &Pool) -> Result<Held> {
    let mut command = payload("hold", &[]);
    command.stderr(Stdio::null());
    held(command, |command| pool.spawn(command))
}

fn kill(pid: u32) {
    raw::syscall(libc::SYS_kill, [pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]).ok();
}

fn programs_find_a_container_ready() -> Result {
    fn shareable<T: Send + Sync + 'static>(_: &T) {}
    leaves_nothing(|| {
        let pool = plan()?.pool().size(3).start()?;
        shareable(&pool);
        let metrics = pool.metrics();
        assert_eq!((metrics.ready, metrics.making, metrics.in_use, metrics.closing), (3, 0, 0, 0));
        let waiting = inits();
        assert_eq!(waiting.len(), 3);
        let held = hold(&pool)?;
        // It is one that was there before.
        assert!(waiting.contains(&oracle::parent(held.pid).expect("it has a parent")));
        let metrics = pool.metrics();
        assert_eq!((metrics.in_use, metrics.warm, metrics.cold, metrics.waits), (1, 1, 0, 0));
        // In place of it another is made, while the program runs.
        settle(&pool, 3)?;
        assert_eq!(inits().len(), 4);
        held.release()?;
        settle(&pool, 3)?;
        assert_eq!(inits().len(), 3);
        let metrics = pool.metrics();
        assert_eq!((metrics.in_use, metrics.refills, metrics.failed_refills), (0, 1, 0));
        assert_eq!((metrics.discarded, metrics.refused, metrics.not_removed), (0, 0, 0));
        pool.close()?;
        Ok(())
    })
}

/// What a program is told and may do, and what is told of it.
fn a_child_is_like_any_other() -> Result {
    let sandbox = closed().wall_time(Duration::from_millis(300) * slack()).env("WORD", "yes");
    leaves_nothing(|| {
        let plan = sandbox.plan()?;
        let pool = plan.pool().size(2).start()?;
        assert_eq!(pool.status(payload("exit", &["42"]))?.verdict, Verdict::Exited(42));
        let outcome = pool.status(payload("raise", &[&libc::SIGTERM.to_string()]))?;
        assert_eq!(outcome.verdict, Verdict::Signaled(libc::SIGTERM));
        assert_eq!(outcome.enforced, *plan.enforced());
        // Streams, arguments, environment, directory: the same as without a pool.
        let mut echo = payload("echo", &[]);
        echo.stdin(Stdio::piped()).stdout(Stdio::capture(100_u64));
        let mut child = pool.spawn(&echo)?;
        child.stdin.take().expect("piped").write_all(b"word")?;
        assert_eq!(succeed(child.wait_with_output()?)?, "word");
        let mut env = payload("env", &[]);
        env.env("MORE", "too").current_dir("/tmp");
        assert_eq!(succeed(pool.output(&env)?)?, succeed(plan.output(&env)?)?);
        let mut piped = payload("flood", &["100000"]);
        piped.stdout(Stdio::piped());
        let (warm, cold) = (pool.output(&piped)?, plan.output(&piped)?);
        assert_eq!(warm.stdout.len(), cold.stdout.len());
        let mut budget = payload("flood", &["100000"]);
        budget.stdout(Stdio::capture(1000_u64));
        assert_eq!(pool.output(&budget)?.outcome.verdict, Verdict::OutputExceeded);
        // A limit of time begins with the program, however long its container has waited.
        std::thread::sleep(Duration::from_millis(400) * slack());
        assert_eq!(pool.status(payload("sleep", &["20"]))?.verdict, Verdict::Exited(0));
        let outcome = pool.status(payload("sleep", &["60000"]))?;
        assert_eq!(outcome.verdict, Verdict::WallTimeExceeded);
        assert!(outcome.usage.wall < Duration::from_millis(600) * slack(), "{outcome:?}");
        // The host kills it, or drops it.
        let mut child = pool.spawn(payload("sleep", &["60000"]))?;
        assert!(child.try_wait()?.is_none());
        child.kill()?;
        assert_eq!(child.wait()?.verdict, Verdict::Killed);
        assert_eq!(child.wait()?.verdict, Verdict::Killed);
        let child = pool.spawn(payload("sleep", &["60000"]))?;
        let pid = child.id().expect("it runs");
        drop(child);
        assert!(!oracle::is_alive(pid));
        assert_eq!(pool.metrics().in_use, 0);
        Ok(())
    })
}

fn limits_hold() -> Result {
    leaves_nothing(|| {
        let plan =
            closed().memory_max(mib(24)).pids_max(8).cpu_time(Duration::from_millis(200) * slack()).plan()?;
        let pool = plan.pool().size(2).start()?;
        for _ in 0..2 {
            let outcome = pool.status(payload("alloc", &[&(64 << 20).to_string()]))?;
            assert_eq!(outcome.verdict, Verdict::MemoryExceeded, "{outcome:?}");
            let outcome = pool.status(payload("fork-bomb", &["20"]))?;
            assert!(outcome.usage.pids_denied > Some(0), "{outcome:?}");
            let outcome = pool.status(payload("burn", &["20000"]))?;
            assert_eq!(outcome.verdict, Verdict::CpuTimeExceeded, "{outcome:?}");
            // What others have used is not counted.
            let outcome = pool.status(payload("exit", &["0"]))?;
            assert_eq!(outcome.verdict, Verdict::Exited(0), "{outcome:?}");
            assert_eq!((outcome.usage.oom_kills, outcome.usage.pids_denied), (Some(0), Some(0)));
            assert!(outcome.usage.peak_memory < Some(16 << 20), "{outcome:?}");
            assert!(outcome.usage.cpu < Duration::from_millis(100) * slack(), "{outcome:?}");
        }
        // What is controlled is the program's sandbox.
        let held = hold(&pool)?;
        assert!(held.child.usage()?.pids >= Some(1));
        held.release()?;
        Ok(())
    })
}

fn handlers_answer() -> Result {
    leaves_nothing(|| {
        let plan = closed().seccomp(Seccomp::new().notify(["getppid"])).plan()?;
        let pool = plan.pool().size(1).start()?;
        for errno in [libc::EXDEV, libc::EDOM] {
            let mut command = payload("syscall", &[&libc::SYS_getppid.to_string()]);
            command.on_syscall(["getppid"], move |_| Response::errno(errno));
            let output = pool.output(&command)?;
            assert_eq!(output.stdout, format!("errno {errno}\n").into_bytes(), "{output:?}");
        }
        Ok(())
    })?;
    // The threads that answered go by themselves.
    Ok(())
}

/// By the gate: what the kernel lets only the host do.
fn what_the_host_sets() -> Result {
    leaves_nothing(|| {
        let plan = closed().nice(-5).plan()?;
        let pool = plan.pool().size(1).start()?;
        for _ in 0..2 {
            let held = hold(&pool)?;
            assert_eq!(oracle::schedule(held.pid).nice, -5);
            held.release()?;
        }
        Ok(())
    })
}

fn containers_serve_once() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).start()?;
        let mut seen = HashSet::new();
        for _ in 0..10 {
            let held = hold(&pool)?;
            assert!(seen.insert(oracle::parent(held.pid)), "a second program in one container");
            held.release()?;
            settle(&pool, 2)?;
        }
        assert_eq!(pool.metrics().warm, 10);
        // Nothing of one run is there for the next.
        for _ in 0..5 {
            let output = pool.output(payload("leave", &[]))?;
            assert_eq!(succeed(output)?, "nothing was there\n");
        }
        Ok(())
    })
}

/// `leave`: looks for what an earlier run has left, and leaves something.
fn leave(_: &[OsString]) -> i32 {
    const KEY: usize = 0x6265_6c6c;
    let found = fs::metadata("/tmp/mark").is_ok()
        || fs::metadata("/dev/shm/mark").is_ok()
        || raw::syscall(libc::SYS_shmget, [KEY, 0, 0, 0, 0, 0]).is_ok();
    let left = fs::write("/tmp/mark", "").is_ok()
        && fs::write("/dev/shm/mark", "").is_ok()
        && raw::syscall(libc::SYS_shmget, [KEY, 4096, 0o1666, 0, 0, 0]).is_ok();
    match (found, left) {
        (false, true) => println!("nothing was there"),
        (_, true) => println!("something was there"),
        (_, false) => println!("nothing can be left"),
    }
    0
}

/// The removal of a sandbox is put off, the death of what runs in it is not.
fn the_tree_is_dead_when_wait_returns() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).start()?;
        let mark = format!("belljar-pool-{}", std::process::id());
        // The positive control: in a container that goes on it stays.
        let container = plan()?.start()?;
        container.status(payload("daemon", &[&mark, "close"]))?;
        assert_eq!(oracle::processes_with(&mark).len(), 1);
        drop(container);
        for _ in 0..5 {
            assert!(pool.status(payload("daemon", &[&mark, "close"]))?.success());
            assert_eq!(oracle::processes_with(&mark), Vec::<u32>::new());
        }
        let mut child = pool.spawn(payload("daemon", &[&mark, "close"]))?;
        assert!(within(Duration::from_secs(5), || oracle::processes_with(&mark).len() > 1));
        child.kill()?;
        child.wait()?;
        assert_eq!(oracle::processes_with(&mark), Vec::<u32>::new());
        Ok(())
    })
}

fn never_more_than_allowed() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).max(3).patience(Duration::ZERO).start()?;
        let mut running = Vec::new();
        for _ in 0..3 {
            running.push(hold(&pool)?);
        }
        let error = pool.spawn(payload("exit", &["0"])).map(drop).expect_err("there is no room");
        assert_eq!((error.kind(), error.step()), (ErrorKind::ResourceExhausted, Step::Pool));
        assert!(error.hint().is_some_and(|hint| hint.contains("max()")), "{}", explain(&error));
        let metrics = pool.metrics();
        assert_eq!((metrics.in_use, metrics.refused, metrics.waits), (3, 1, 1));
        settle(&pool, 2)?;
        assert_eq!(inits().len(), 5);
        // A program that has ended is in use until somebody knows of it.
        let mut child = running.pop().expect("three").child;
        drop(child.stdin.take());
        assert!(pool.spawn(payload("exit", &["0"])).is_err());
        child.wait()?;
        assert!(within(Duration::from_secs(5) * slack(), || pool.metrics().closing == 0));
        assert!(pool.status(payload("exit", &["0"]))?.success());
        running.into_iter().try_for_each(|held| held.release().map(drop))?;
        settle(&pool, 2)?;
        assert_eq!(inits().len(), 2);
        Ok(())
    })
}

fn waiting_for_room() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(1).max(1).patience(Duration::from_secs(30) * slack()).start()?;
        let running = hold(&pool)?;
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..4).map(|_| scope.spawn(|| pool.status(payload("exit", &["3"])))).collect();
            assert!(within(Duration::from_secs(5) * slack(), || pool.metrics().waits == 4));
            assert!(inits().len() <= 2);
            assert!(!waiting.iter().any(std::thread::ScopedJoinHandle::is_finished));
            running.release()?;
            for thread in waiting {
                assert_eq!(thread.join().expect("no panic")?.verdict, Verdict::Exited(3));
            }
            Ok(())
        })
    })
}

fn waiting_for_a_container() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(1).when_empty(WhenEmpty::Wait).start()?;
        for n in 0..10 {
            assert_eq!(pool.status(payload("exit", &[&n.to_string()]))?.verdict, Verdict::Exited(n));
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.warm, metrics.cold), (10, 0), "{metrics:?}");
        drop(pool);
        // Not for ever: no container can be made while the only one runs and the pool may have one in all.
        let builder = plan()?.pool().size(1).reuse(Reuse::AfterReset).when_empty(WhenEmpty::Wait);
        let pool = builder.patience(Duration::from_millis(50)).start()?;
        let running = hold(&pool)?;
        let start = Instant::now();
        let error = pool.spawn(payload("exit", &["0"])).map(drop).expect_err("there is none");
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert_eq!((error.kind(), error.step()), (ErrorKind::ResourceExhausted, Step::Pool));
        assert!(error.hint().is_some_and(|hint| hint.contains("size()")), "{}", explain(&error));
        running.release()?;
        Ok(())
    })
}

fn starting_when_none_is_ready() -> Result {
    leaves_nothing(|| {
        // None is made in place of the one that is in use.
        let pool = plan()?.pool().size(1).reuse(Reuse::AfterReset).start()?;
        let mut running = Vec::new();
        for _ in 0..6 {
            running.push(hold(&pool)?);
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.warm, metrics.cold, metrics.in_use), (1, 5, 6), "{metrics:?}");
        for held in running {
            assert_eq!(held.release()?.verdict, Verdict::Exited(0));
        }
        settle(&pool, 1)
    })
}

fn containers_that_die_while_they_wait() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(3).start()?;
        // One is noticed although nobody asks for it.
        let before = inits();
        kill(*before.iter().next().expect("three"));
        assert!(within(Duration::from_secs(5) * slack(), || pool.metrics().discarded == 1));
        settle(&pool, 3)?;
        assert_eq!(before.intersection(&inits()).count(), 2);
        // All at once, and a program right afterwards.
        for _ in 0..10 {
            inits().into_iter().for_each(kill);
            let outcome = pool.status(payload("exit", &["5"]));
            match outcome {
                Ok(outcome) => assert_eq!(outcome.verdict, Verdict::Exited(5)),
                // Killed, and not yet dead when it was taken.
                Err(error) => assert!(error.to_string().contains("init was killed"), "{}", explain(&error)),
            }
            settle(&pool, 3)?;
        }
        // Dead for sure, it is never taken.
        for _ in 0..10 {
            let parked = inits();
            parked.iter().copied().for_each(kill);
            assert!(within(Duration::from_secs(5), || parked.iter().all(|pid| !oracle::is_alive(*pid))));
            assert_eq!(pool.status(payload("exit", &["5"]))?.verdict, Verdict::Exited(5));
            settle(&pool, 3)?;
        }
        Ok(())
    })
}

/// Somebody kills inits, whatever they are for, while many threads use the pool.
fn inits_are_killed_all_the_time() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(4).start()?;
        let done = std::sync::atomic::AtomicBool::new(false);
        let ordering = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                while !done.load(ordering) {
                    inits().into_iter().take(1).for_each(kill);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| -> Result {
                        for _ in 0..30 {
                            match pool.status(payload("exit", &["9"])) {
                                Ok(outcome) => match outcome.verdict {
                                    Verdict::Exited(9) | Verdict::InitKilled => {}
                                    other => return fail(format!("{other:?}")),
                                },
                                Err(error) if error.kind() == ErrorKind::Setup => {}
                                Err(error) => return fail(explain(&error)),
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            let result = threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"));
            done.store(true, ordering);
            killer.join().expect("no panic");
            result
        })?;
        settle(&pool, 4)?;
        assert_eq!(pool.status(payload("exit", &["9"]))?.verdict, Verdict::Exited(9));
        Ok(())
    })
}

fn programs_that_do_not_start() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).start()?;
        for _ in 0..5 {
            let error = pool.spawn(Command::new("/no/such/program")).map(drop).expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::Exec, "{}", explain(&error));
            assert_eq!(pool.metrics().in_use, 0);
        }
        settle(&pool, 2)?;
        // What is seen to be wrong with a command costs no container.
        let before = pool.metrics();
        let mut command = payload("exit", &["0"]);
        command.current_dir("not/absolute");
        assert_eq!(
            pool.spawn(&command).map(drop).expect_err("it is relative").kind(),
            ErrorKind::InvalidConfig
        );
        assert_eq!(pool.metrics(), before);
        // What shows later costs one.
        let mut command = payload("exit", &["0"]);
        command.arg("a\0b");
        assert_eq!(
            pool.spawn(&command).map(drop).expect_err("it has a zero").kind(),
            ErrorKind::InvalidConfig
        );
        settle(&pool, 2)?;
        assert!(pool.status(payload("exit", &["0"]))?.success());
        Ok(())
    })
}

fn children_outlive_the_pool() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).start()?;
        let (first, second, third) = (hold(&pool)?, hold(&pool)?, hold(&pool)?);
        let mut ended = pool.spawn(payload("exit", &["4"]))?;
        pool.close()?;
        assert!([&first, &second, &third].iter().all(|held| oracle::is_alive(held.pid)));
        assert_eq!(ended.wait()?.verdict, Verdict::Exited(4));
        assert_eq!(inits().len(), 3);
        first.release()?;
        assert_eq!(inits().len(), 2);
        let pid = second.pid;
        drop(second);
        assert!(!oracle::is_alive(pid));
        let mut child = third.child;
        child.kill()?;
        assert_eq!(child.wait()?.verdict, Verdict::Killed);
        Ok(())
    })
}

fn dropped_while_it_refills() -> Result {
    leaves_nothing(|| {
        for round in 0..20 {
            let pool = plan()?.pool().size(4).start()?;
            let mut children = Vec::new();
            for _ in 0..4 {
                children.push(pool.spawn(payload("exit", &["0"]))?);
            }
            if round % 2 == 0 {
                children.clear();
            }
            std::thread::sleep(Duration::from_micros(300 * round));
            drop(pool);
            assert_eq!(inits().len(), children.len());
            for child in &mut children {
                assert!(child.wait()?.success());
            }
        }
        Ok(())
    })
}

fn many_threads() -> Result {
    let spawns = number("BELLJAR_TEST_ROUNDS", if soak() { 5000 } else { 200 });
    leaves_nothing(|| {
        for when_empty in [WhenEmpty::Start, WhenEmpty::Wait] {
            let pool = plan()?.pool().size(4).max(12).when_empty(when_empty).start()?;
            let numbers = Mutex::new(0..spawns);
            let most = Mutex::new(0);
            std::thread::scope(|scope| {
                let work = || -> Result {
                    while let Some(n) = { numbers.lock().expect("no panic").next() } {
                        let code = n % 200;
                        let mut command = payload("exit", &[&code.to_string()]);
                        command.stdout(Stdio::null()).stderr(Stdio::null());
                        let outcome = pool.status(&command)?;
                        assert_eq!(outcome.verdict, Verdict::Exited(code as i32), "{outcome:?}");
                        let metrics = pool.metrics();
                        assert!(metrics.in_use + metrics.closing <= 12, "{metrics:?}");
                        assert!(metrics.ready + metrics.making <= 4, "{metrics:?}");
                        let mut most = most.lock().expect("no panic");
                        *most = metrics.in_use.max(*most);
                    }
                    Ok(())
                };
                let threads: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
                threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
            })?;
            let metrics = pool.metrics();
            println!("{when_empty:?}: {metrics:?}, up to {} in use", most.into_inner().expect("no panic"));
            assert_eq!(metrics.warm + metrics.cold, u64::from(spawns));
            assert_eq!((metrics.refused, metrics.failed_refills, metrics.discarded), (0, 0, 0));
            assert_eq!(metrics.cold == 0, when_empty == WhenEmpty::Wait, "{metrics:?}");
            settle(&pool, 4)?;
        }
        Ok(())
    })
}

/// A container cannot be made any more, and then it can again.
fn a_source_that_vanishes() -> Result {
    let scratch = Scratch::new();
    let data = scratch.file("data", "x");
    let sandbox = closed().mount(Mount::bind(&data, "/data"));
    leaves_nothing(|| {
        let pool = sandbox.plan()?.pool().size(2).when_empty(WhenEmpty::Wait).start()?;
        fs::remove_file(&data)?;
        // Those that are ready still have it.
        let running = [hold(&pool)?, hold(&pool)?];
        let start = Instant::now();
        let error = pool.spawn(payload("exit", &["0"])).map(drop).expect_err("none can be made");
        assert!(start.elapsed() < Duration::from_secs(5) * slack(), "{:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
        assert!(error.to_string().contains(&*data.to_string_lossy()), "{}", explain(&error));
        // The thread tries again and again, and not all the time.
        let before = pool.metrics().failed_refills;
        std::thread::sleep(Duration::from_millis(1500));
        let tries = pool.metrics().failed_refills - before;
        assert!((1..=12).contains(&tries), "{tries} tries");
        assert!(pool.spawn(payload("exit", &["0"])).is_err());
        fs::write(&data, "y")?;
        settle(&pool, 2)?;
        let output = pool.output(payload("cat", &["/data"]))?;
        assert_eq!(succeed(output)?, "y");
        running.into_iter().try_for_each(|held| held.release().map(drop))?;
        drop(pool);

        // One that starts sandboxes by itself has the reason at first hand.
        let pool = sandbox.plan()?.pool().size(1).start()?;
        fs::remove_file(&data)?;
        let running = hold(&pool)?;
        let error = pool.spawn(payload("exit", &["0"])).map(drop).expect_err("none can be made");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
        fs::write(&data, "z")?;
        assert!(pool.status(payload("exit", &["0"]))?.success());
        running.release()?;
        settle(&pool, 1)?;
        Ok(())
    })
}

/// In a process of its own, whose limits it changes.
fn a_host_without_descriptors() -> Result {
    run_helper(&mut role_command("starved", &[]), Duration::from_secs(60))?.succeed().map(drop)
}

fn starved(_: &[OsString]) -> i32 {
    role_result((|| {
        let pool = plan()?.pool().size(2).when_empty(WhenEmpty::Wait).start()?;
        let running = [hold(&pool)?, hold(&pool)?];
        settle(&pool, 2)?;
        let more = [hold(&pool)?, hold(&pool)?];
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, 8, hard)?;
        // What was being made when the limit came may have become ready.
        let mut refused = None;
        for _ in 0..10 {
            if let Err(error) = pool.spawn(payload("exit", &["0"])) {
                refused = Some(error);
                if pool.metrics().failed_refills > 0 {
                    break;
                }
            }
        }
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        let error = refused.expect("there are no descriptors");
        assert!(
            matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::Setup),
            "{}",
            explain(&error)
        );
        settle(&pool, 2)?;
        assert!(pool.status(payload("exit", &["0"]))?.success());
        running.into_iter().chain(more).try_for_each(|held| held.release().map(drop))?;
        settle(&pool, 2)?;
        assert_eq!(inits().len(), 2);
        drop(pool);
        assert_eq!(inits().len(), 0);
        Ok(())
    })())
}

fn reuse_after_a_reset() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(1).reuse(Reuse::AfterReset).when_empty(WhenEmpty::Wait).start()?;
        for _ in 0..10 {
            let output = pool.output(payload("leave", &[]))?;
            assert_eq!(succeed(output)?, "nothing was there\n");
            assert!(inits().len() <= 2);
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.warm, metrics.cold), (10, 0));
        settle(&pool, 1)
    })
}

fn reuse_in_fixed_numbers() -> Result {
    leaves_nothing(|| {
        let pool = plan()?.pool().size(2).reuse(Reuse::AfterReset).start()?;
        let (first, second) = (hold(&pool)?, hold(&pool)?);
        // Nothing is made in place of what is in use.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(inits().len(), 2);
        assert_eq!(pool.metrics().refills, 0);
        // One more is started for who needs it, and does not become one of the pool's.
        let third = hold(&pool)?;
        assert_eq!((pool.metrics().cold, inits().len()), (1, 3));
        third.release()?;
        assert!(within(Duration::from_secs(5) * slack(), || pool.metrics().closing == 0));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!((pool.metrics().ready, inits().len()), (0, 2));
        first.release()?;
        settle(&pool, 1)?;
        drop(second);
        settle(&pool, 2)?;
        assert_eq!(inits().len(), 2);
        // One that does not start its program comes back, too.
        assert!(pool.spawn(Command::new("/no/such/program")).is_err());
        settle(&pool, 2)
    })
}

fn an_idle_pool_does_nothing() -> Result {
    let pool = plan()?.pool().size(2).start()?;
    assert!(pool.status(payload("exit", &["0"]))?.success());
    settle(&pool, 2)?;
    let thread = fs::read_dir("/proc/self/task")?
        .flatten()
        .map(|entry| entry.path())
        .find(|dir| fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.trim() == "belljar-pool"));
    let thread = thread.expect("the pool has a thread");
    let switches = || {
        let text = fs::read_to_string(thread.join("status")).unwrap_or_default();
        oracle::fields(&text)["voluntary_ctxt_switches"].clone()
    };
    // It may just be going to sleep.
    std::thread::sleep(Duration::from_millis(100) * slack());
    let before = switches();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(switches(), before);
    Ok(())
}

/// While calls come one after the other, and at least half of the containers are left, none is set up in place of those
/// that were taken.
fn a_busy_pool_waits_for_a_quiet_moment() -> Result {
    const QUIET: Duration = Duration::from_millis(2);
    const ROUNDS: usize = 50;
    leaves_nothing(|| {
        let pool = plan()?.pool().size(8).max(8).start()?;
        let mut without_a_pause = 0;
        for _ in 0..ROUNDS {
            let before = pool.metrics().refills;
            let mut running = Vec::new();
            let mut longest = Duration::ZERO;
            let mut last = Instant::now();
            for _ in 0..4 {
                running.push(pool.spawn(payload("sleep", &["60000"]))?);
                (longest, last) = (longest.max(last.elapsed()), Instant::now());
            }
            // Looked at before the time: if it is over by then, the moment was quiet.
            let metrics = pool.metrics();
            let is_busy = longest.max(last.elapsed()) < QUIET;
            if is_busy {
                without_a_pause += 1;
                let made = (metrics.making, metrics.refills - before);
                assert_eq!((metrics.ready, made), (4, (0, 0)), "made while calls came: {metrics:?}");
            }
            // Then comes a quiet moment, while the programs run on.
            let is_full = || (pool.metrics().ready, pool.metrics().making) == (8, 0);
            assert!(within(Duration::from_secs(10) * slack(), is_full), "{:?}", pool.metrics());
            assert_eq!(pool.metrics().refills, before + 4);
            drop(running);
            settle(&pool, 8)?;
            // The calls of the last round are not those of the next.
            std::thread::sleep(2 * QUIET);
        }
        println!("{without_a_pause} of {ROUNDS} rounds without a pause");
        // Nothing was seen on a machine on which every start takes so long.
        assert!(without_a_pause > 0 || slack() > 1, "every round had a pause of {QUIET:?}");
        Ok(())
    })
}

/// A copy of the host that was forked off cannot use its pool, nor harm it.
fn a_forked_host() -> Result {
    run_helper(&mut role_command("forked", &[]), Duration::from_secs(60))?.succeed().map(drop)
}

fn forked(_: &[OsString]) -> i32 {
    role_result((|| {
        let pool = plan()?.pool().size(2).start()?;
        let held = hold(&pool)?;
        settle(&pool, 2)?;
        let copy = raw::fork()?;
        if copy == 0 {
            let refused = pool
                .spawn(payload("exit", &["0"]))
                .is_err_and(|error| error.kind() == ErrorKind::InvalidConfig && error.hint().is_some());
            let empty = pool.metrics().ready == 0;
            drop(held);
            drop(pool);
            std::process::exit(i32::from(!(refused && empty)));
        }
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(copy), None)?;
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        assert_eq!(pool.metrics().ready, 2);
        held.release()?;
        for n in 0..5 {
            assert_eq!(pool.status(payload("exit", &[&n.to_string()]))?.verdict, Verdict::Exited(n));
        }
        settle(&pool, 2)?;
        assert_eq!(pool.metrics().discarded, 0);
        Ok(())
    })())
}

fn pools_that_cannot_be() -> Result {
    let plan = plan()?;
    for builder in [plan.pool().size(0), plan.pool().max(0)] {
        let error = builder.start().map(drop).expect_err("it has no room");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    let scratch = Scratch::new();
    let (lower, upper, work) = (scratch.dir("lower"), scratch.dir("upper"), scratch.dir("work"));
    let root = Rootfs::overlay([lower]).upper(Upper::dir(&upper, work));
    let error =
        Sandbox::new().rootfs(root).plan()?.pool().start().map(drop).expect_err("it keeps its changes");
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::InvalidConfig, Some(&*upper)),
        "{}",
        explain(&error)
    );
    // What no container can be made of fails at the start, and leaves nothing.
    let data = scratch.file("data", "x");
    leaves_nothing(|| {
        let plan = closed().mount(Mount::bind(&data, "/data")).plan()?;
        fs::remove_file(&data)?;
        let error = plan.pool().size(3).start().map(drop).expect_err("its bind is gone");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", explain(&error));
        Ok(())
    })
}

/// There the init finds and kills what is inside, and the cgroup has the rest.
fn without_a_pid_namespace() -> Result {
    let sandbox = support::with_payload(Sandbox::bare().user_ns().mount_ns()).pids_max(16);
    leaves_nothing(|| {
        let pool = sandbox.plan()?.pool().size(2).start()?;
        let mark = format!("belljar-pool-bare-{}", std::process::id());
        for _ in 0..3 {
            assert!(pool.status(payload("daemon", &[&mark, "close"]))?.success());
            assert_eq!(oracle::processes_with(&mark), Vec::<u32>::new());
        }
        let init = *inits().iter().next().expect("two");
        kill(init);
        assert!(within(Duration::from_secs(5), || !oracle::is_alive(init)));
        assert!(pool.status(payload("exit", &["0"]))?.success());
        settle(&pool, 2)
    })
}
