//! Two programs that talk: counts, closings, stalls, floods, and what is left afterwards.
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
#[path = "support/talkers.rs"]
mod talkers;

use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Bytes, Command, Dialogue, ErrorKind, Interaction, InteractionOutcome, Plan, Sandbox, Side, Stdio, Verdict,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use support::{Result, as_nobody, closed, fail, mib, oracle, payload, role_command, run_helper};
use support::{sh, slack, timed, within};
use talkers::{DONE, game, verdicts};

fn main() -> ExitCode {
    let cases = cases![
        guessing_a_number: ["userns"],
        ten_mebibytes_each_way_at_once: ["userns"],
        a_writer_waits_for_its_reader: ["userns"],
        a_side_that_hangs_up: ["userns"],
        all_bytes_of_a_side_that_has_ended_arrive: ["userns"],
        a_side_that_closes_stdout_and_goes_on: ["userns"],
        a_side_that_closes_stdin: ["userns"],
        a_side_that_crashes: ["userns"],
        a_side_that_runs_out_of_memory: ["userns", "cgroup-memory"],
        a_side_that_runs_out_of_time: ["userns"],
        a_side_that_never_answers: ["userns"],
        a_side_that_does_not_read: ["userns"],
        both_wait_for_the_first_word: ["userns"],
        both_write_and_nobody_reads: ["userns"],
        slow_answers_are_no_stall: ["userns"],
        a_flood_is_cut_to_the_byte: ["userns"],
        single_bytes_obey_the_limits: ["userns"],
        the_grace_of_the_one_that_is_left: ["userns"],
        the_transcript_is_bounded: ["userns"],
        captured_stderr: ["userns"],
        killing_and_dropping: ["userns"],
        mistakes_start_nothing: ["userns"],
        fifty_in_a_row_leave_nothing: ["userns"],
        a_side_that_talks_to_itself: ["userns", "sh"],
        odd_hosts: ["userns"],
        an_unprivileged_host: ["userns", "setpriv"],
    ];
    // One at a time: some count what the whole process has and uses.
    support::main_serial(cases, talkers::ROLES)
}

fn plan() -> Result<Plan> {
    // So that a defect ends as one and not as a hang.
    Ok(closed().wall_time(Duration::from_secs(60)).plan()?)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Times that are waited for to their end, of which a quarter of the slack is enough: they are many times what it takes to
/// start a program.
fn millis(n: u64) -> Duration {
    Duration::from_millis(n) * slack().div_ceil(4)
}

fn play(talk: &Interaction, first: (&str, &[&str]), second: (&str, &[&str])) -> Result<InteractionOutcome> {
    let plan = plan()?;
    let mut commands = [payload(first.0, first.1), payload(second.0, second.1)];
    commands.iter_mut().for_each(capture_stderr);
    Ok(talk.run((&plan, &commands[0]), (&plan, &commands[1]))?)
}

fn capture_stderr(command: &mut Command) {
    command.stderr(Stdio::capture(Bytes::kib(64)));
}

fn guessing_a_number() -> Result {
    let talk = Interaction::new().stall_time(seconds(20)).transcript(mib(1));
    for secret in [1, 327, 1000] {
        let outcome = play(&talk, ("judge", &[&secret.to_string()]), ("player", &[]))?;
        assert_eq!(verdicts(&outcome), (DONE, DONE));
        let (guesses, answers) = game(secret);
        assert_eq!(
            (outcome.first.sent, outcome.first.received),
            (answers.len() as u64, guesses.len() as u64)
        );
        assert_eq!(
            (outcome.second.sent, outcome.second.received),
            (outcome.first.received, outcome.first.sent)
        );
        assert_eq!(outcome.first_to_stall, None);
        assert!(outcome.transcript.complete);
        let said = |side| -> Vec<u8> {
            let turns = outcome.transcript.turns.iter().filter(|turn| turn.side == side);
            turns.flat_map(|turn| turn.bytes.clone()).collect()
        };
        assert_eq!(said(Side::First), answers.as_bytes());
        assert_eq!(said(Side::Second), guesses.as_bytes());
        // Strictly in turns, the player first, and never back in time.
        let sides: Vec<Side> = outcome.transcript.turns.iter().map(|turn| turn.side).collect();
        let expected = [Side::Second, Side::First].into_iter().cycle().take(2 * guesses.lines().count());
        assert_eq!(sides, expected.collect::<Vec<_>>());
        assert!(outcome.transcript.turns.is_sorted_by_key(|turn| turn.at));
    }
    Ok(())
}

fn ten_mebibytes_each_way_at_once() -> Result {
    let amount = (10_u64 << 20).to_string();
    let outcome = play(&Interaction::new(), ("both-ways", &[&amount]), ("both-ways", &[&amount]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    for side in [&outcome.first, &outcome.second] {
        assert_eq!((side.sent, side.received), (10 << 20, 10 << 20));
    }
    Ok(())
}

fn a_writer_waits_for_its_reader() -> Result {
    let plan = plan()?;
    let mut quiet = payload("count", &["1000"]);
    capture_stderr(&mut quiet);
    let dialogue = Interaction::new().start((&plan, &payload("say", &["1048576"])), (&plan, &quiet))?;
    std::thread::sleep(Duration::from_millis(500));
    dialogue.kill()?;
    let outcome = dialogue.wait()?;
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::Killed));
    // A pipe and at most a buffer: the rest is in the writer's own pipe, or was never written.
    assert_eq!(outcome.second.received, 64 << 10);
    assert!((64 << 10..=128 << 10).contains(&outcome.first.sent), "{}", outcome.first.sent);
    Ok(())
}

fn a_side_that_hangs_up() -> Result {
    for side in [Side::First, Side::Second] {
        let (early, partner): (_, (_, &[&str])) = (("exit", &["3"][..]), ("count", &["0", "100"]));
        let outcome = match side {
            Side::First => play(&Interaction::new(), early, partner)?,
            _ => play(&Interaction::new(), partner, early)?,
        };
        assert_eq!(outcome.side(side).outcome.verdict, Verdict::Exited(3));
        assert_eq!(outcome.side(side.other()).outcome.verdict, DONE);
        assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(side), side));
        assert!(outcome.side(side).ended < outcome.side(side.other()).ended);
        assert!(outcome.side(side).closed() <= Some(outcome.side(side).ended));
        assert_eq!(outcome.first_to_stall, None);
    }
    Ok(())
}

fn all_bytes_of_a_side_that_has_ended_arrive() -> Result {
    // More than a pipe holds, less than all that is between them, so that the speaker is gone when the first is read.
    let amount: u64 = 120 << 10;
    let outcome = play(&Interaction::new(), ("say", &[&amount.to_string(), "0"]), ("count", &["700"]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    assert!(outcome.first.ended < Duration::from_millis(500) * slack(), "{:?}", outcome.first.ended);
    assert_eq!(outcome.second.stderr, amount.to_string().as_bytes());
    assert_eq!((outcome.first.sent, outcome.second.received), (amount, amount));
    // It closed before its last bytes were taken, and that is when it is told to have closed.
    assert!(outcome.first.closed_stdout.is_some_and(|at| at <= outcome.first.ended));
    assert_eq!(outcome.first_to_close, Some(Side::First));
    Ok(())
}

fn a_side_that_closes_stdout_and_goes_on() -> Result {
    let outcome = play(&Interaction::new(), ("close", &["1", "500"]), ("count", &["0"]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::First), Side::Second));
    assert_eq!(outcome.second.stderr, b"0");
    assert!(outcome.first.closed_stdout < Some(outcome.second.ended));
    Ok(())
}

fn a_side_that_closes_stdin() -> Result {
    for (how, verdict) in [("ignored", Verdict::Exited(7)), ("default", Verdict::Signaled(libc::SIGPIPE))] {
        let outcome = play(&Interaction::new(), ("until-refused", &[how]), ("close", &["0", "500"]))?;
        assert_eq!(verdicts(&outcome), (verdict, DONE));
        assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::Second), Side::First));
        assert!(outcome.second.closed_stdin < Some(outcome.first.ended));
    }
    Ok(())
}

fn a_side_that_crashes() -> Result {
    let outcome = play(&Interaction::new(), ("count", &["0", "100"]), ("raise", &["11"]))?;
    assert_eq!(verdicts(&outcome), (DONE, Verdict::Signaled(libc::SIGSEGV)));
    assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::Second), Side::Second));
    Ok(())
}

fn a_side_that_runs_out_of_memory() -> Result {
    let small = closed().memory_max(mib(32)).wall_time(seconds(60)).plan()?;
    let (hog, mut waiter) = (payload("alloc", &["268435456"]), payload("count", &["0", "100"]));
    capture_stderr(&mut waiter);
    let outcome = Interaction::new().run((&small, &hog), (&plan()?, &waiter))?;
    assert_eq!(verdicts(&outcome), (Verdict::MemoryExceeded, DONE));
    assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::First), Side::First));
    assert!(outcome.first.outcome.usage.oom_kills.is_some_and(|kills| kills > 0));
    Ok(())
}

fn a_side_that_runs_out_of_time() -> Result {
    let short = closed().wall_time(millis(300)).plan()?;
    let mut waiter = payload("count", &["0", "100"]);
    capture_stderr(&mut waiter);
    let outcome = Interaction::new().run((&plan()?, &waiter), (&short, &payload("sleep", &["60000"])))?;
    assert_eq!(verdicts(&outcome), (DONE, Verdict::WallTimeExceeded));
    assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::Second), Side::Second));
    Ok(())
}

fn a_side_that_never_answers() -> Result {
    let talk = Interaction::new().stall_time(millis(300));
    let asks: (_, &[&str]) = ("turns", &["say", "hear"]);
    let silent: (_, &[&str]) = ("mute", &[]);
    for side in [Side::First, Side::Second] {
        let (outcome, time) = timed(|| match side {
            Side::First => play(&talk, silent, asks),
            _ => play(&talk, asks, silent),
        });
        let outcome = outcome?;
        assert_eq!(outcome.first_to_stall, Some(side));
        assert_eq!(outcome.side(side).outcome.verdict, Verdict::IdleExceeded);
        assert_eq!(outcome.side(side.other()).outcome.verdict, Verdict::Killed);
        assert_eq!(outcome.first_to_close, None, "nobody closed by itself");
        assert!(time >= millis(300) && time < millis(300) + seconds(1) * slack(), "{time:?}");
    }
    Ok(())
}

fn a_side_that_does_not_read() -> Result {
    let talk = Interaction::new().stall_time(millis(400));
    // The second had the last word, but has not read what it was told: the first waits for it.
    let outcome = play(&talk, ("turns", &["say", "hear", "hear"]), ("turns", &["100", "say", "60000"]))?;
    assert_eq!(outcome.first_to_stall, Some(Side::Second));
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::IdleExceeded));
    // The same with a first that is blocked in its own write.
    let outcome = play(&talk, ("say", &["1048576", "0"]), ("turns", &["100", "say", "60000"]))?;
    assert_eq!(outcome.first_to_stall, Some(Side::Second));
    Ok(())
}

fn a_side_that_talks_to_itself() -> Result {
    let talk = Interaction::new().stall_time(millis(300));
    let plan = plan()?;
    // It may open its own streams again, in the other direction; that is no word to its partner.
    let busy = sh("exec 3<>/proc/self/fd/0; while :; do echo x >&3; read -r line; done");
    let (outcome, time) = timed(|| talk.run((&plan, &payload("turns", &["say", "hear"])), (&plan, &busy)));
    let outcome = outcome?;
    assert_eq!(outcome.first_to_stall, Some(Side::Second));
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::IdleExceeded));
    assert_eq!((outcome.second.sent, outcome.second.received), (0, 5));
    assert!(time < millis(300) + seconds(1) * slack(), "{time:?}");
    Ok(())
}

fn both_wait_for_the_first_word() -> Result {
    let talk = Interaction::new().stall_time(millis(300));
    let waits: (_, &[&str]) = ("turns", &["hear", "say"]);
    // Nobody was to begin, so nobody is named, and both have idled.
    let outcome = play(&talk, waits, waits)?;
    assert_eq!(outcome.first_to_stall, None);
    assert_eq!(verdicts(&outcome), (Verdict::IdleExceeded, Verdict::IdleExceeded));
    let outcome = play(&talk.clone().opener(Side::Second), waits, waits)?;
    assert_eq!(outcome.first_to_stall, Some(Side::Second));
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::IdleExceeded));
    // After a word, the one that was spoken to is named, whoever was to begin.
    let outcome =
        play(&talk.opener(Side::Second), ("turns", &["say", "hear"]), ("turns", &["hear", "hear"]))?;
    assert_eq!(outcome.first_to_stall, Some(Side::Second));
    let outcome = play(
        &Interaction::new().stall_time(millis(300)),
        ("turns", &["say", "hear", "hear"]),
        ("turns", &["hear", "say", "hear"]),
    )?;
    assert_eq!(outcome.first_to_stall, Some(Side::First));
    assert_eq!(verdicts(&outcome), (Verdict::IdleExceeded, Verdict::Killed));
    Ok(())
}

fn both_write_and_nobody_reads() -> Result {
    let talk = Interaction::new().stall_time(millis(300));
    let outcome = play(&talk, ("say", &["1048576", "0"]), ("say", &["1048576", "0"]))?;
    let Some(side) = outcome.first_to_stall else { return fail("both have said something") };
    assert_eq!(outcome.side(side).outcome.verdict, Verdict::IdleExceeded);
    assert_eq!(outcome.side(side.other()).outcome.verdict, Verdict::Killed);
    for side in [&outcome.first, &outcome.second] {
        assert_eq!(side.received, 64 << 10);
        assert!((64 << 10..=128 << 10).contains(&side.sent), "{}", side.sent);
    }
    Ok(())
}

fn slow_answers_are_no_stall() -> Result {
    let talk = Interaction::new().stall_time(millis(500));
    // Longer in all than the stall time, each word within it; then the end of the one, which is none either.
    let slow: &[&str] = &["200", "say", "hear", "200", "say", "hear", "200", "say", "hear"];
    let answers: &[&str] = &["hear", "200", "say", "hear", "200", "say", "hear", "200", "say", "700"];
    let outcome = play(&talk, ("turns", slow), ("turns", answers))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    assert_eq!(outcome.first_to_stall, None);
    Ok(())
}

fn a_flood_is_cut_to_the_byte() -> Result {
    let talk = Interaction::new().bytes_max(100_000_u64);
    let outcome = play(&talk, ("flood", &["1000000000"]), ("count", &["0", "100"]))?;
    assert_eq!(verdicts(&outcome), (Verdict::OutputExceeded, DONE));
    assert_eq!((outcome.first.sent, outcome.second.received), (100_000, 100_000));
    assert_eq!(outcome.second.stderr, b"100000");
    assert_eq!((outcome.first_to_close, outcome.first_to_end), (Some(Side::First), Side::First));
    // The limit itself is none, and it is for each direction alone.
    let outcome = play(&talk, ("both-ways", &["100000"]), ("both-ways", &["100000"]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    // One byte more is one, even for a program that ends before it is found.
    let outcome = play(&talk, ("say", &["100001", "0"]), ("count", &["200"]))?;
    assert_eq!(verdicts(&outcome), (Verdict::OutputExceeded, DONE));
    assert_eq!(outcome.second.stderr, b"100000");
    Ok(())
}

fn single_bytes_obey_the_limits() -> Result {
    let talk = Interaction::new().bytes_max(20_000_u64).transcript(Bytes::kib(1));
    let outcome = play(&talk, ("drip", &[]), ("count", &["0"]))?;
    assert_eq!(verdicts(&outcome), (Verdict::OutputExceeded, DONE));
    assert_eq!((outcome.first.sent, outcome.second.stderr), (20_000, b"20000".to_vec()));

    // Both at once, without an end of their own: the wall time ends them, and one thread is all that the host spent.
    let brief = closed().wall_time(Duration::from_secs(1)).plan()?;
    let own = |at: nix::sys::resource::Usage| {
        Duration::from_micros((at.user_time() + at.system_time()).num_microseconds() as u64)
    };
    let before = own(getrusage(UsageWho::RUSAGE_SELF)?);
    let talk = Interaction::new().bytes_max(Bytes::MAX).stall_time(seconds(5)).transcript(Bytes::kib(64));
    let (sink, drip) = (payload("echo", &[]), payload("drip", &[]));
    let (outcome, time) = timed(|| talk.run((&brief, &drip), (&brief, &sink)));
    let outcome = outcome?;
    let spent = own(getrusage(UsageWho::RUSAGE_SELF)?) - before;
    assert_eq!(outcome.first.outcome.verdict, Verdict::WallTimeExceeded);
    assert!(time < seconds(3) * slack(), "{time:?}");
    assert!(spent <= time, "{spent:?} of processor time in {time:?}");
    let memory: usize = outcome.transcript.turns.iter().map(|turn| 64 + turn.bytes.len()).sum();
    assert!(memory <= 64 << 10, "{memory}");
    Ok(())
}

fn the_grace_of_the_one_that_is_left() -> Result {
    let talk = Interaction::new().grace_time(millis(300)).stall_time(millis(200));
    let (outcome, time) = timed(|| play(&talk, ("exit", &["0"]), ("sleep", &["60000"])));
    let outcome = outcome?;
    assert_eq!(verdicts(&outcome), (DONE, Verdict::Killed));
    assert_eq!((outcome.first_to_end, outcome.first_to_stall), (Side::First, None));
    assert!(time >= millis(300) && time < millis(300) + seconds(1) * slack(), "{time:?}");
    // It may use its grace.
    let outcome = play(&talk.clone().grace_time(seconds(20)), ("exit", &["0"]), ("sleep", &["500"]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    let outcome = play(&talk.grace_time(Duration::ZERO), ("sleep", &["60000"]), ("exit", &["5"]))?;
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::Exited(5)));
    Ok(())
}

fn the_transcript_is_bounded() -> Result {
    let talk = Interaction::new().transcript(1000_u64);
    let outcome = play(&talk, ("say", &["5000000", "0"]), ("count", &["0"]))?;
    assert_eq!(verdicts(&outcome), (DONE, DONE));
    assert!(!outcome.transcript.complete);
    assert_eq!(outcome.transcript.turns.len(), 1);
    assert_eq!(outcome.transcript.turns[0].bytes, [b'x'; 1000 - 64]);
    let outcome = play(&Interaction::new(), ("judge", &["5"]), ("player", &[]))?;
    assert!(outcome.transcript.turns.is_empty() && !outcome.transcript.complete);
    Ok(())
}

fn captured_stderr() -> Result {
    let plan = plan()?;
    let mut counts = payload("count", &["0"]);
    capture_stderr(&mut counts);
    let outcome = Interaction::new().run((&plan, &payload("say", &["77", "0"])), (&plan, &counts))?;
    assert_eq!((outcome.first.stderr.as_slice(), outcome.second.stderr.as_slice()), (&b""[..], &b"77"[..]));
    Ok(())
}

fn start(mark: &str) -> Result<Dialogue> {
    let plan = plan()?;
    let commands = [payload("sleep", &["60000", mark]), payload("hold", &[mark])];
    let dialogue = Interaction::new().start((&plan, &commands[0]), (&plan, &commands[1]))?;
    assert_eq!(oracle::processes_with(mark).len(), 2);
    assert!(!dialogue.is_finished());
    Ok(dialogue)
}

fn killing_and_dropping() -> Result {
    let mark = format!("talk-{}", std::process::id());
    let dialogue = start(&mark)?;
    drop(dialogue);
    assert_eq!(oracle::processes_with(&mark), [0_u32; 0]);

    let dialogue = start(&mark)?;
    dialogue.kill()?;
    dialogue.kill()?;
    assert!(within(seconds(5), || dialogue.is_finished()));
    assert_eq!(oracle::processes_with(&mark), [0_u32; 0]);
    assert_eq!(verdicts(&dialogue.wait()?), (Verdict::Killed, Verdict::Killed));

    // The handle works in another thread, and after the end of the one that made it.
    let made = std::thread::spawn({
        let mark = mark.clone();
        move || start(&mark)
    });
    let Ok(dialogue) = made.join() else { return fail("the thread panicked") };
    let dialogue = dialogue?;
    let outcome = std::thread::spawn(move || dialogue.kill().and_then(|()| dialogue.wait()));
    let Ok(outcome) = outcome.join() else { return fail("the thread panicked") };
    assert_eq!(verdicts(&outcome?), (Verdict::Killed, Verdict::Killed));
    assert_eq!(oracle::processes_with(&mark), [0_u32; 0]);
    Ok(())
}

fn mistakes_start_nothing() -> Result {
    let plan = plan()?;
    let mark = format!("mistaken-{}", std::process::id());
    let (good, missing) = (payload("sleep", &["60000", &mark]), Command::new("/no/such/program"));
    for (first, second) in [(&good, &missing), (&missing, &good)] {
        let error = Interaction::new().start((&plan, first), (&plan, second)).expect_err("one is missing");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)));
        assert_eq!(oracle::processes_with(&mark), [0_u32; 0]);
    }
    let mut set = good.clone();
    set.stdin(Stdio::null());
    for (talk, second) in [(Interaction::new(), &set), (Interaction::new().stall_time(Duration::ZERO), &good)]
    {
        let error = talk.start((&plan, &good), (&plan, second)).expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(oracle::processes_with(&mark), [0_u32; 0]);
    }
    Ok(())
}

fn fifty_in_a_row_leave_nothing() -> Result {
    let plan = plan()?;
    let talk = Interaction::new().stall_time(Duration::from_millis(20)).transcript(Bytes::kib(4));
    let counts = || {
        let own = std::process::id();
        (oracle::open_fds(), oracle::children(own), oracle::boxes_of(own))
    };
    let threads = || oracle::status_of("self")["Threads"].parse().unwrap_or(u32::MAX);
    let round = |n: usize| -> Result {
        let mut second = match n % 4 {
            0 => payload("player", &[]),
            1 => payload("exit", &["1"]),
            2 => payload("mute", &[]),
            _ => payload("flood", &["1000"]),
        };
        let mut first = payload("judge", &["500"]);
        // Some find their partner gone and say so.
        first.stderr(Stdio::null());
        second.stderr(Stdio::null());
        let dialogue = talk.start((&plan, &first), (&plan, &second))?;
        if n % 5 == 0 {
            drop(dialogue)
        } else {
            drop(dialogue.wait()?)
        }
        Ok(())
    };
    (0..5).try_for_each(round)?;
    let (before, few) = (counts(), threads());
    (0..50).try_for_each(round)?;
    assert_eq!(counts(), before);
    // The kernel counts a thread for a moment after it has been joined.
    assert!(within(seconds(2) * slack(), || threads() <= few), "{} threads, and {few} before", threads());
    Ok(())
}

fn odd_hosts() -> Result {
    for kind in ["plain", "no-stdio", "ignores-children", "forks"] {
        // Killed by SIGPIPE it would not succeed.
        run_helper(&mut role_command("host", &[kind]), seconds(60))?.succeed()?;
    }
    // Without a PID namespace, too: the init finds what it has to kill.
    let bare = support::with_payload(Sandbox::new().share_pid()).wall_time(seconds(60)).plan()?;
    let outcome = Interaction::new()
        .stall_time(millis(200))
        .run((&bare, &payload("turns", &["say", "hear"])), (&bare, &payload("mute", &[])))?;
    assert_eq!(verdicts(&outcome), (Verdict::Killed, Verdict::IdleExceeded));
    Ok(())
}

fn an_unprivileged_host() -> Result {
    as_nobody("host", &["plain"], seconds(60))?.succeed().map(drop)
}
