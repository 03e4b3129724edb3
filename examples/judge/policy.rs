//! What a submission may use: the sandboxes of the judge.

use std::time::Duration;

use belljar::{Bytes, Feature, Mount, Sandbox};

use crate::problem_set::Limits;

/// What a compiler may use. More than a solution may, and still not the host's: a few lines of C can make it take hours
/// and gigabytes, or print a file that it was told to include.
pub(crate) const COMPILER: Limits = Limits {
    cpu: Duration::from_secs(10),
    wall: Duration::from_secs(60),
    memory: Bytes::mib(512),
    processes: 32,
    output: Bytes::mib(8),
};

/// The closed sandbox, under limits: the compilers and libraries of the host to read, an empty `/tmp` to write, no
/// network.
///
/// The limits that need a cgroup are set as far as this host can: whoever tries an example has rarely been delegated
/// one. `machine.rs` reports which are missing, and what is after memory is then not run at all. A judge that matters
/// would rather fail than do without: it leaves the `best_effort` calls out.
pub(crate) fn sandbox(limits: &Limits) -> Sandbox {
    Sandbox::new()
        .cpu_time(limits.cpu)
        .wall_time(limits.wall)
        .memory_max(limits.memory)
        .swap_max(0)
        .pids_max(limits.processes)
        .output_max(limits.output)
        .best_effort(Feature::CpuTime)
        .best_effort(Feature::MemoryMax)
        .best_effort(Feature::SwapMax)
        .best_effort(Feature::PidsMax)
}

/// Where a compiler finds the source.
pub(crate) fn with_source(sandbox: Sandbox, path: &str, source: &[u8]) -> Sandbox {
    sandbox.mount(Mount::file(path, source))
}

/// Where a run finds the program. It comes as bytes and not as a path: the host never opens a file that a submission or
/// its compiler could have replaced by something else.
pub(crate) fn with_program(sandbox: Sandbox, path: &str, program: &[u8]) -> Sandbox {
    sandbox.mount(Mount::file(path, program).mode(0o755))
}
