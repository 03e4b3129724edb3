//! What programs may use: the sandboxes of the judge.

use std::time::Duration;

use belljar::{Bytes, Feature, Mount, Sandbox};

use crate::problem_set::Limits;

/// What a compiler may use. More than a solution may, and still not the host's: a few lines of C can make it take hours
/// and gigabytes, or print a file that it was told to include.
pub(crate) const COMPILER: Limits = Limits {
    cpu: Duration::from_secs(10),
    wall: Duration::from_secs(60),
    memory: Bytes::mib(512),
    processes: 64,
    output: Bytes::mib(8),
};

/// What a checker or an interactor may use. The judge's own program, but it reads what a submission wrote. Its wall time
/// is beyond that of every submission, so that it sees how a submission ended that it talks to.
pub(crate) const HELPER: Limits = Limits {
    cpu: Duration::from_secs(5),
    wall: Duration::from_secs(60),
    memory: Bytes::mib(64),
    processes: 16,
    output: Bytes::kib(64),
};

/// The closed sandbox, under limits: the compilers and libraries of the host to read, an empty `/tmp` to write, no
/// network.
///
/// The limits that need a cgroup are set as far as this host can: whoever tries an example has rarely been delegated
/// one. `machine.rs` reports which are missing, and what is after one of them is then not run at all. A judge that
/// matters would rather fail than do without: it leaves the `best_effort` calls out.
pub(crate) fn sandbox(limits: &Limits) -> Sandbox {
    Sandbox::new()
        .cpu_time(limits.cpu)
        .wall_time(limits.wall)
        .memory_max(limits.memory)
        .swap_max(0)
        .pids_max(limits.processes)
        .output_max(limits.output)
        // Files in memory are memory. With as much room as that limit allows, the one who fills it has exceeded the
        // memory limit, and is not told of a disk that is full or killed by SIGBUS.
        .mount(Mount::tmpfs("/tmp").size(limits.memory))
        .mount(Mount::tmpfs("/dev/shm").size(limits.memory))
        .best_effort(Feature::CpuTime)
        .best_effort(Feature::MemoryMax)
        .best_effort(Feature::SwapMax)
        .best_effort(Feature::PidsMax)
}

/// With a file to read: a source, or what a checker is to look at. It comes as bytes and not as a path: the host never
/// opens a file that a submission or its compiler could have replaced by something else.
pub(crate) fn with_file(sandbox: Sandbox, path: &str, content: &[u8]) -> Sandbox {
    sandbox.mount(Mount::file(path, content))
}

/// With the program to run, as bytes too.
pub(crate) fn with_program(sandbox: Sandbox, path: &str, program: &[u8]) -> Sandbox {
    sandbox.mount(Mount::file(path, program).mode(0o755))
}

/// With what the tools of a language need besides the system.
pub(crate) fn with_tools(sandbox: Sandbox, tools: &[Mount]) -> Sandbox {
    tools.iter().cloned().fold(sandbox, Sandbox::mount)
}
