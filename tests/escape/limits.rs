//! More memory, processes, time and output than a limit allows.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use belljar::{Bytes, CpuMax, Mount, Resource, Sandbox, Stdio, Verdict};

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, text, tried};
use crate::support::{Role, payload, raw, role_command, run_helper, slack, timed};

const MEMORY: &str = "a memory cgroup";
/// What the limit is, and what the attacks want.
const LIMIT: u64 = 48 << 20;
const WANTED: usize = 160 << 20;
const LIMITED: fn(Sandbox) -> Sandbox = |sandbox| sandbox.memory_max(LIMIT);
const UNLIMITED: Control = Control::Without("without the limit", |sandbox| sandbox);

attacks! {
    memory_in_a_child {
        what: "uses more memory than the limit, divided among children",
        class: &["B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(memory_in_children),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_a_tmpfs {
        what: "uses more memory than the limit by files in `/tmp`",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(|_| fill("/tmp/file")),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_a_memfd {
        what: "uses more memory than the limit by a memfd that nothing maps",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(|_| match call(libc::SYS_memfd_create, [text("x"), 0]) {
            Ok(fd) => fill(&format!("/proc/self/fd/{fd}")),
            Err(error) => Tried::CouldNot(explain(&error)),
        }),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_a_segment {
        what: "uses more memory than the limit by System V shared memory, which outlives its processes",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(memory_in_segments),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_pipes {
        what: "uses more memory than the limit by what is in pipes",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(memory_in_pipes),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_sockets {
        what: "uses more memory than the limit by what is on its way between sockets",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(memory_in_sockets),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    memory_in_mappings {
        what: "uses more memory than the limit by the kernel's own tables: page tables of a sparse mapping",
        class: &["A24", "B10"],
        stopped_by: MEMORY,
        needs: &["cgroup-memory"],
        method: Method::Inside(memory_in_page_tables),
        defence: LIMITED,
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    many_processes {
        what: "makes processes without end",
        class: &["B10"],
        stopped_by: "a pids cgroup",
        needs: &["cgroup-pids"],
        method: Method::Inside(|_| many(|| raw::fork().inspect(|pid| {
            if *pid == 0 {
                std::thread::sleep(Duration::from_secs(20));
                std::process::exit(0);
            }
        }).map(drop))),
        defence: |sandbox| sandbox.pids_max(20),
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    many_threads {
        what: "makes threads without end",
        class: &["B10"],
        stopped_by: "a pids cgroup",
        needs: &["cgroup-pids"],
        method: Method::Inside(|_| many(|| {
            std::thread::Builder::new().stack_size(16 << 10).spawn(|| std::thread::sleep(Duration::from_secs(20))).map(drop)
        })),
        defence: |sandbox| sandbox.pids_max(20),
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    many_files {
        what: "makes files without end in `/tmp`",
        class: &["A28", "B10"],
        stopped_by: "a limit of the filesystem",
        method: Method::Inside(|_| {
            for n in 0..2000 {
                if let Err(error) = std::fs::File::create(format!("/tmp/limited/{n}")) {
                    return Tried::Denied(format!("{}, after {n}", explain(&error)));
                }
            }
            Tried::Broke("2000 files".into())
        }),
        defence: |sandbox| sandbox.mount(Mount::tmpfs("/tmp/limited").inodes(100)),
        control: Control::Without("with a larger limit", |sandbox| sandbox.mount(Mount::tmpfs("/tmp/limited"))),
    }
    large_files {
        what: "writes without end to `/tmp`, as well by reserving space",
        class: &["A28", "B10"],
        stopped_by: "a limit of the filesystem",
        method: Method::Inside(|_| {
            let Ok(file) = std::fs::File::create("/tmp/limited/file") else {
                return Tried::CouldNot("no file".into());
            };
            let fd = file.as_raw_fd() as usize;
            tried(libc::SYS_fallocate, [fd, 0, 0, 4 << 20])
        }),
        defence: |sandbox| sandbox.mount(Mount::tmpfs("/tmp/limited").size(Bytes::mib(1))),
        control: Control::Without("with a larger limit", |sandbox| sandbox.mount(Mount::tmpfs("/tmp/limited"))),
    }
    processor_time_of_short_children {
        what: "uses processor time by many short-lived children, each below the limit",
        class: &["B10"],
        unfiltered: false,
        stopped_by: "the cgroup's counter, which the init looks at",
        needs: &["cgroup-cpuacct"],
        method: Method::Around(|_, sandbox| {
            let outcome = sandbox.status(payload("short-children", &["1200"]))?;
            Ok(match outcome.verdict {
                Verdict::CpuTimeExceeded => Tried::Denied(format!("{:?}", outcome.usage.cpu)),
                Verdict::Exited(0) => Tried::Broke(format!("after {:?}", outcome.usage.cpu)),
                other => Tried::CouldNot(format!("{other:?}")),
            })
        }),
        defence: |sandbox| sandbox.cpu_time(Duration::from_millis(200)),
        control: Control::Without("with a limit of each process (`RLIMIT_CPU`) only", |sandbox| {
            sandbox.rlimit(Resource::Cpu, 1, 1)
        }),
        hosts: Hosts::Own,
    }
    blocked_signals {
        what: "blocks and ignores all signals, to be there when its time is over",
        class: &["A28"],
        unfiltered: false,
        stopped_by: "the init kills",
        method: Method::Around(|_, sandbox| {
            let (outcome, time) = timed(|| sandbox.status(payload("deaf", &[&ms(3000)])));
            Ok(match outcome?.verdict {
                Verdict::WallTimeExceeded if time < Duration::from_millis(2500) * slack() => {
                    Tried::Denied(format!("after {time:?}"))
                }
                other => Tried::Broke(format!("{other:?} after {time:?}")),
            })
        }),
        defence: |sandbox| sandbox.wall_time(Duration::from_millis(200)),
        control: Control::Other("a process of the host that is told to end", |_| {
            let mut child = role_command("deaf", &[&ms(3000)]).spawn()?;
            std::thread::sleep(Duration::from_millis(300));
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGXCPU, libc::SIGALRM] {
                call(libc::SYS_kill, [child.id() as usize, signal as usize])?;
            }
            std::thread::sleep(Duration::from_millis(100));
            let there = child.try_wait()?.is_none();
            child.kill()?;
            child.wait()?;
            Ok(if there { Tried::Broke("it is there".into()) } else { Tried::Denied("it ended".into()) })
        }),
    }
    more_processor_time_than_its_share {
        what: "uses all processors by many processes",
        class: &["B10"],
        unfiltered: false,
        stopped_by: "the quota of a cpu cgroup",
        needs: &["cgroup-cpu", "two-processors"],
        method: Method::Around(|_, sandbox| {
            let outcome = sandbox.status(payload("burn-tree", &["4", "800"]))?;
            let (used, wall) = (outcome.usage.cpu, outcome.usage.wall);
            let text = format!("{used:?} in {wall:?}");
            // Four times the quota, and a start.
            Ok(if used < wall / 5 + Duration::from_millis(20) { Tried::Denied(text) } else { Tried::Broke(text) })
        }),
        defence: |sandbox| sandbox.cpu_max(CpuMax::cpus(0.05)),
        control: UNLIMITED,
        hosts: Hosts::Own,
    }
    output_without_end {
        what: "writes output without end, which the host keeps in memory",
        class: &["A28"],
        unfiltered: false,
        stopped_by: "a budget of the captured output",
        method: Method::Around(|_, sandbox| {
            let mut command = payload("flood", &["8388608"]);
            command.stdout(Stdio::capture(Bytes::kib(64)));
            let output = sandbox.output(command)?;
            Ok(match output.stdout.len() <= 64 << 10 && output.outcome.verdict == Verdict::OutputExceeded {
                true => Tried::Denied(format!("{} bytes", output.stdout.len())),
                false => Tried::Broke(format!("{} bytes, {:?}", output.stdout.len(), output.outcome.verdict)),
            })
        }),
        control: Control::Other("a process of the host", |_| {
            let helper = run_helper(&mut role_command("flood", &["8388608"]), Duration::from_secs(20))?;
            Ok(match helper.stdout.len() {
                8_388_608 => Tried::Broke("all of it".into()),
                count => Tried::Denied(format!("{count} bytes")),
            })
        }),
    }
    raise_its_limits {
        what: "raises its own limits of descriptors",
        class: &["B10"],
        stopped_by: "no capability in the initial user namespace",
        method: Method::Inside(|_| {
            tried(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, at(&mut [512_u64, 512]), 0])
        }),
        defence: |sandbox| sandbox.rlimit(Resource::Nofile, 64, 64),
        control: UNLIMITED,
    }
    core_dump_by_a_pipe {
        what: "raises its limit of core dumps, so that a program of the host is run for one",
        class: &["A23"],
        stopped_by: "a hard limit of 1 byte",
        method: Method::Inside(|_| {
            tried(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, at(&mut [1_u64 << 20, 1 << 20]), 0])
        }),
        control_by: Hosts::Root,
    }
}

pub(crate) const ROLES: &[Role] = &[("short-children", short_children), ("deaf", deaf)];

/// So many milliseconds, of a machine that is not slow.
fn ms(count: u32) -> String {
    (count * slack()).to_string()
}

/// Writes as much as is wanted to a file.
fn fill(path: &str) -> Tried {
    use std::io::Write;
    let chunk = vec![1_u8; 1 << 20];
    let file = std::fs::File::options().write(true).create(true).truncate(false).open(path);
    let result = file.and_then(|mut file| (0..WANTED >> 20).try_for_each(|_| file.write_all(&chunk)));
    result.into()
}

fn memory_in_children(_: &Facts) -> Tried {
    const CHILDREN: usize = 8;
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let (reports, report) = nix::unistd::pipe().expect("a pipe");
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        match raw::fork() {
            Ok(0) => {
                drop(writer);
                let part = std::hint::black_box(vec![1_u8; WANTED / CHILDREN]);
                drop(report);
                // Holds it until all have theirs.
                nix::unistd::read(&reader, &mut [0]).ok();
                drop(part);
                std::process::exit(0);
            }
            Ok(pid) => children.push(pid),
            Err(error) => return Tried::Denied(explain(&error)),
        }
    }
    // Until each has its part or has died for want of it: then the pipe has no other end any more.
    drop(report);
    let told = std::fs::File::from(reports).read_to_end(&mut Vec::new());
    drop(writer);
    let whole = children
        .into_iter()
        .filter(|pid| {
            use nix::sys::wait::{WaitStatus, waitpid};
            matches!(waitpid(nix::unistd::Pid::from_raw(*pid), None), Ok(WaitStatus::Exited(_, 0)))
        })
        .count();
    if let Err(error) = told {
        return Tried::CouldNot(explain(&error));
    }
    match whole {
        CHILDREN => Tried::Broke("all have theirs".into()),
        count => Tried::Denied(format!("{count} of {CHILDREN} live")),
    }
}

fn memory_in_segments(_: &Facts) -> Tried {
    const SEGMENT: usize = 16 << 20;
    for _ in 0..WANTED / SEGMENT {
        let made = call(libc::SYS_shmget, [libc::IPC_PRIVATE as usize, SEGMENT, 0o600]);
        if let Err(error) = made.and_then(|id| raw::touch_shared(id, SEGMENT)) {
            return Tried::Denied(explain(&error));
        }
    }
    Tried::Broke("all of it".into())
}

fn memory_in_pipes(_: &Facts) -> Tried {
    let chunk = [1_u8; 4096];
    let mut pipes = Vec::new();
    let mut held = 0;
    while held < WANTED / 2 {
        let (reader, writer) = match nix::unistd::pipe() {
            Ok(pair) => pair,
            Err(errno) => return Tried::Denied(format!("{} at {held}", explain(&errno.into()))),
        };
        call(libc::SYS_fcntl, [writer.as_raw_fd() as usize, libc::F_SETPIPE_SZ as usize, 1 << 20]).ok();
        let flags = [writer.as_raw_fd() as usize, libc::F_SETFL as usize, libc::O_NONBLOCK as usize];
        call(libc::SYS_fcntl, flags).ok();
        while nix::unistd::write(&writer, &chunk).is_ok() {
            held += chunk.len();
        }
        pipes.push((reader, writer));
    }
    Tried::Broke(format!("{held} bytes in {} pipes", pipes.len()))
}

fn memory_in_sockets(_: &Facts) -> Tried {
    let chunk = vec![1_u8; 64 << 10];
    let mut pairs = Vec::new();
    let mut held = 0;
    while held < WANTED / 2 {
        let pair = match UnixDatagram::pair() {
            Ok(pair) => pair,
            Err(error) => return Tried::Denied(format!("{} at {held}", explain(&error))),
        };
        pair.0.set_nonblocking(true).ok();
        while pair.0.send(&chunk).is_ok() {
            held += chunk.len();
        }
        pairs.push(pair);
    }
    Tried::Broke(format!("{held} bytes in {} pairs", pairs.len()))
}

/// One byte of each two MiB: a page of data and one of the table each.
fn memory_in_page_tables(_: &Facts) -> Tried {
    match raw::touch_sparsely(WANTED / 2 / 8192, 2 << 20) {
        Ok(()) => Tried::Broke("all of it".into()),
        Err(error) => Tried::Denied(explain(&error)),
    }
}

/// As many as nobody needs.
fn many(mut make: impl FnMut() -> std::io::Result<()>) -> Tried {
    for count in 0..100 {
        if let Err(error) = make() {
            return Tried::Denied(format!("{}, after {count}", explain(&error)));
        }
    }
    Tried::Broke("100 of them".into())
}

/// Children of a few milliseconds each, for so many milliseconds together.
fn short_children(args: &[std::ffi::OsString]) -> i32 {
    let end = Instant::now() + Duration::from_millis(crate::support::roles::big(args, 0));
    while Instant::now() < end {
        match raw::fork() {
            Ok(0) => return crate::support::roles::burn(&["5".into()]),
            Ok(pid) => drop(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)),
            Err(_) => return 1,
        }
    }
    0
}

/// Blocks and ignores all signals, and is there for so long.
fn deaf(args: &[std::ffi::OsString]) -> i32 {
    nix::sys::signal::SigSet::all().thread_block().ok();
    (1..65).for_each(|signal| raw::disposition(signal, true));
    crate::support::roles::sleep(args)
}
