//! Programs that talk, for the tests of interactive runs.

use std::ffi::OsString;
use std::io::{BufRead, Read, Write};
use std::time::Duration;

use belljar::{Interaction, InteractionOutcome, Verdict};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::roles::{big, int, text};
use crate::support::{self, Result, closed, payload, raw};

pub(crate) const ROLES: &[support::Role] = &[
    ("judge", judge),
    ("player", player),
    ("both-ways", both_ways),
    ("say", say),
    ("count", count),
    ("mute", mute),
    ("turns", turns),
    ("close", close),
    ("until-refused", until_refused),
    ("drip", drip),
    ("host", host),
];

pub(crate) const DONE: Verdict = Verdict::Exited(0);

pub(crate) fn verdicts(outcome: &InteractionOutcome) -> (Verdict, Verdict) {
    (outcome.first.outcome.verdict, outcome.second.outcome.verdict)
}

/// Answers guesses until one is right: `judge SECRET`.
fn judge(args: &[OsString]) -> i32 {
    for line in std::io::stdin().lock().lines() {
        let guess: i32 = line.ok().and_then(|line| line.parse().ok()).unwrap_or(-1);
        let answer = match guess.cmp(&int(args, 0)) {
            std::cmp::Ordering::Less => "higher",
            std::cmp::Ordering::Greater => "lower",
            std::cmp::Ordering::Equal => "right",
        };
        println!("{answer}");
        if answer == "right" {
            return 0;
        }
    }
    1
}

/// Guesses a number from 1 to 1000.
fn player(_: &[OsString]) -> i32 {
    let (mut low, mut high) = (1, 1000);
    while low <= high {
        let guess = (low + high) / 2;
        println!("{guess}");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok();
        match answer.trim_end() {
            "higher" => low = guess + 1,
            "lower" => high = guess - 1,
            "right" => return 0,
            _ => return 1,
        }
    }
    2
}

/// Says so many bytes and hears so many at the same time.
fn both_ways(args: &[OsString]) -> i32 {
    let expected = big(args, 0);
    let speaker = std::thread::spawn(move || {
        let said = write_bytes(expected);
        raw::close(1);
        said
    });
    let heard = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).unwrap_or(0);
    i32::from(!speaker.join().unwrap_or(false) || heard != expected)
}

fn write_bytes(mut left: u64) -> bool {
    let chunk = [b'x'; 4096];
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let size = left.min(4096);
        if out.write_all(&chunk[..size as usize]).is_err() {
            return false;
        }
        left -= size;
    }
    out.flush().is_ok()
}

/// Says so many bytes and then does nothing for a while: `say BYTES MILLISECONDS`.
fn say(args: &[OsString]) -> i32 {
    let said = write_bytes(big(args, 0));
    std::thread::sleep(Duration::from_millis(big(args, 1)));
    i32::from(!said)
}

/// Does nothing for a while, reads to the end, tells stderr how much there was, and stays for another while: `count
/// MILLISECONDS MILLISECONDS`.
fn count(args: &[OsString]) -> i32 {
    std::thread::sleep(Duration::from_millis(big(args, 0)));
    let mut bytes = Vec::new();
    let read = std::io::stdin().read_to_end(&mut bytes);
    eprint!("{}", bytes.len());
    std::thread::sleep(Duration::from_millis(big(args, 1)));
    i32::from(read.is_err())
}

/// Reads a line and never answers.
fn mute(_: &[OsString]) -> i32 {
    std::io::stdin().read_line(&mut String::new()).ok();
    std::thread::sleep(Duration::from_secs(60));
    0
}

/// Plays a list of turns, "say", "hear" or a number of milliseconds to sleep.
fn turns(args: &[OsString]) -> i32 {
    for n in 0..args.len() {
        match text(args, n).as_str() {
            "say" => println!("word"),
            "hear" => {
                let mut line = String::new();
                if !std::io::stdin().read_line(&mut line).is_ok_and(|count| count > 0) {
                    return 1;
                }
            }
            _ => std::thread::sleep(Duration::from_millis(big(args, n))),
        }
    }
    0
}

/// Closes a descriptor and goes on for a while: `close NUMBER MILLISECONDS`.
fn close(args: &[OsString]) -> i32 {
    raw::close(int(args, 0));
    std::thread::sleep(Duration::from_millis(big(args, 1)));
    0
}

/// Writes until that fails, with SIGPIPE ignored, as Rust programs do, or with `default`.
fn until_refused(args: &[OsString]) -> i32 {
    if text(args, 0) == "default" {
        raw::disposition(libc::SIGPIPE, false);
    }
    let mut out = std::io::stdout().lock();
    loop {
        if let Err(error) = out.write_all(b"x\n") {
            return if error.raw_os_error() == Some(libc::EPIPE) { 7 } else { 8 };
        }
    }
}

/// Writes single bytes until the end.
fn drip(_: &[OsString]) -> i32 {
    let mut out = std::io::stdout().lock();
    while out.write_all(b".").and_then(|()| out.flush()).is_ok() {}
    0
}

/// What the player of `guessing_a_number` says and hears.
pub(crate) fn game(secret: i32) -> (String, String) {
    let (mut guesses, mut answers) = (String::new(), String::new());
    let (mut low, mut high) = (1, 1000);
    loop {
        let guess = (low + high) / 2;
        guesses += &format!("{guess}\n");
        match guess.cmp(&secret) {
            std::cmp::Ordering::Less => (low, answers) = (guess + 1, answers + "higher\n"),
            std::cmp::Ordering::Greater => (high, answers) = (guess - 1, answers + "lower\n"),
            std::cmp::Ordering::Equal => return (guesses, answers + "right\n"),
        }
    }
}

/// A host that has done strange things: what it asserts is in its exit code.
fn host(args: &[OsString]) -> i32 {
    raw::disposition(libc::SIGPIPE, false);
    if text(args, 0) == "no-stdio" {
        (0..3).for_each(raw::close);
    }
    if text(args, 0) == "ignores-children" {
        raw::disposition(libc::SIGCHLD, true);
    }
    let run = || -> Result<bool> {
        let plan = closed().wall_time(Duration::from_secs(60)).plan()?;
        let talk = Interaction::new().stall_time(Duration::from_secs(20));
        let outcome = talk.run((&plan, &payload("judge", &["327"])), (&plan, &payload("player", &[])))?;
        let expected = (Verdict::Signaled(libc::SIGPIPE), DONE);
        // The host finds the closed end by poll or, in some of the rounds, by its own write.
        for _ in 0..if text(args, 0) == "plain" { 40 } else { 1 } {
            let (writer, deaf) = (payload("until-refused", &["default"]), payload("close", &["0", "10"]));
            let outcome = talk.run((&plan, &writer), (&plan, &deaf))?;
            if verdicts(&outcome) != expected {
                return support::fail(format!("{:?}", verdicts(&outcome)));
            }
        }
        if text(args, 0) == "forks" {
            let dialogue =
                talk.start((&plan, &payload("hold", &[])), (&plan, &payload("sleep", &["300"])))?;
            // The copy has the handle and not the thread: dropping it does nothing.
            let pid = raw::fork()?;
            if pid == 0 {
                drop(dialogue);
                std::process::exit(0);
            }
            let status = waitpid(Pid::from_raw(pid), None)?;
            return Ok(status == WaitStatus::Exited(Pid::from_raw(pid), 0)
                && verdicts(&dialogue.wait()?) == (DONE, DONE));
        }
        Ok(verdicts(&outcome) == (DONE, DONE) && outcome.second.sent == game(327).0.len() as u64)
    };
    match run() {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("{}", error.0);
            2
        }
    }
}
