//! The values of `--sched`, `--ioprio` and `--cpu-list`.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use belljar::{IoPriority, Scheduler};

use crate::value::Parsed;

/// A word, and a number behind a colon if there is one.
fn named(text: &OsStr) -> Option<(&str, Option<u32>)> {
    match text.to_str()?.split_once(':') {
        Some((name, number)) => Some((name, Some(number.parse().ok()?))),
        None => Some((text.to_str()?, None)),
    }
}

/// `other`, `batch`, `idle`, `fifo:PRIO`, `rr:PRIO`.
pub(crate) fn scheduler(text: &OsStr) -> Parsed<Scheduler> {
    Ok(match named(text) {
        Some(("other", None)) => Scheduler::Other,
        Some(("batch", None)) => Scheduler::Batch,
        Some(("idle", None)) => Scheduler::Idle,
        Some(("fifo", Some(priority))) => Scheduler::Fifo(priority),
        Some(("rr", Some(priority))) => Scheduler::RoundRobin(priority),
        _ => return Err("is none of other, batch, idle, fifo:PRIO and rr:PRIO"),
    })
}

/// `rt:LEVEL`, `be:LEVEL`, `idle`.
pub(crate) fn io_priority(text: &OsStr) -> Parsed<IoPriority> {
    Ok(match named(text) {
        Some(("rt", Some(level))) => IoPriority::RealTime(level),
        Some(("be", Some(level))) => IoPriority::BestEffort(level),
        Some(("idle", None)) => IoPriority::Idle,
        _ => return Err("is none of rt:LEVEL, be:LEVEL and idle"),
    })
}

/// `0-2,5`.
pub(crate) fn processors(text: &OsStr) -> Parsed<BTreeSet<usize>> {
    /// More than any kernel has, so that a range cannot fill the memory.
    const MOST: usize = 1 << 16;
    let wrong = "is no list of processors like 0-2,5";
    let mut found = BTreeSet::new();
    for part in text.to_str().ok_or(wrong)?.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse().ok().filter(|number| *number < MOST).ok_or(wrong);
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong);
        }
        found.extend(first..=last);
    }
    Ok(found)
}
