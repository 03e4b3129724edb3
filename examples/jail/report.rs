//! The report: one JSON object.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use belljar::{Outcome, Verdict};
use serde_json::json;

/// Writes it as one line.
pub(crate) fn write(to: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let Outcome { status, verdict, usage, enforced, .. } = outcome;
    let skipped: Vec<_> = enforced
        .skipped()
        .iter()
        .map(|skipped| json!({ "feature": skipped.feature.name(), "reason": skipped.reason }))
        .collect();
    let report = json!({
        "verdict": verdict_name(*verdict),
        "exit_code": status.code(),
        "signal": status.signal(),
        "wall_ms": milliseconds(usage.wall),
        "cpu_ms": milliseconds(usage.cpu),
        "user_ms": milliseconds(usage.user),
        "system_ms": milliseconds(usage.system),
        "peak_memory_bytes": usage.peak_memory.unwrap_or(usage.max_rss),
        "peak_pids": usage.peak_pids,
        "oom_kills": usage.oom_kills,
        "output_bytes": usage.output_bytes,
        "enforced": enforced.active().map(|feature| feature.name()).collect::<Vec<_>>(),
        "skipped": skipped,
    });
    writeln!(to, "{report}")
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Exited(_) => "exited",
        Verdict::Signaled(_) => "signaled",
        Verdict::CpuTimeExceeded => "cpu_time_exceeded",
        Verdict::WallTimeExceeded => "wall_time_exceeded",
        Verdict::IdleExceeded => "idle_exceeded",
        Verdict::MemoryExceeded => "memory_exceeded",
        Verdict::HostOutOfMemory => "host_out_of_memory",
        Verdict::OutputExceeded => "output_exceeded",
        Verdict::SyscallDenied { .. } => "syscall_denied",
        Verdict::Killed => "killed",
        Verdict::InitKilled => "init_killed",
        // The library may learn of more.
        _ => "unknown",
    }
}
