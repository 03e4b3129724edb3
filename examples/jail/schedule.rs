//! The values of `--sched`, `--ioprio` and `--cpu-list`.

use std::ffi::OsStr;

use belljar::{CpuSet, IoPriority, Scheduler};

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
pub(crate) fn processors(text: &OsStr) -> Parsed<CpuSet> {
    let set = text.to_str().and_then(|text| text.parse().ok()).filter(|set: &CpuSet| !set.is_empty());
    set.ok_or("is no list of processors like 0-2,5")
}
