//! The filter in the running kernel. It is installed in a thread, which ends with the test, or in a child
//! between `fork` and `execve`, where the init installs it too.
#![expect(unsafe_code, reason = "a filter is installed, and denied calls are made, by raw system calls")]

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::verdict::{Answer, Case};
use super::{Options, Program, Seccomp, SyscallAction, compile, names::Arch};

fn default_program() -> Program {
    Seccomp::new().compile_for(Arch::NATIVE, Options::default()).unwrap()
}

/// Installs the filter in the calling thread, for good.
fn install(bytes: &[u8]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(bytes.len() / 8).unwrap(),
        filter: bytes.as_ptr().cast_mut().cast(),
    };
    // SAFETY: no_new_privs takes no pointer. The kernel copies `len` instructions of 8 bytes from `filter`,
    // which lie in `bytes`, and keeps no reference to them.
    let result = unsafe {
        match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) {
            0 => libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program),
            _ => -1,
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `test` in a thread of its own under the filter.
fn under<T: Send>(program: &Program, test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            install(program.as_bytes()).unwrap();
            test()
        });
        thread.join().unwrap()
    })
}

/// Makes a system call whose arguments are numbers, or pointers that are null.
fn call(number: libc::c_long, arguments: [u64; 5]) -> Result<libc::c_long, i32> {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the callers pass no address, so the kernel can read and write nothing of this process.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
    if result == -1 { Err(io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

/// Starts a program whose child installs the filter just before `execve`, after `before` was called under it.
fn command(program: &Program, name: &str, before: fn()) -> Command {
    let bytes = program.as_bytes().to_vec();
    let mut command = Command::new(name);
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            install(&bytes)?;
            before();
            Ok(())
        });
    }
    command
}

#[test]
fn default_profile_installs_and_ordinary_work_goes_on() {
    under(&default_program(), || {
        let path = std::env::temp_dir().join(format!("belljar-seccomp-{}", std::process::id()));
        std::fs::write(&path, "text").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        std::fs::remove_file(&path).unwrap();
        let large = vec![1_u8; 64 << 20];
        assert_eq!(large.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 64 << 20);
        // glibc asks for clone3 first and must fall back to clone.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::os::unix::net::UnixStream::pair().unwrap();
    });
}

#[test]
fn default_profile_denies() {
    let terminal_request = |high: u64| call(libc::SYS_ioctl, [u64::MAX, 0x5412 | high, 0, 0, 0]);
    let lease = |high: u64| call(libc::SYS_fcntl, [u64::MAX, 1024 | high, 0, 0, 0]);
    let limit = |process: u64| call(libc::SYS_prlimit64, [process, 0, 0, 0, 0]);
    let own = u64::from(std::process::id());
    // The controls: outside, the same calls get past the point where the filter would answer. (In a container,
    // the engine's filter answers to some of the others itself.)
    assert_eq!(terminal_request(1 << 32), Err(libc::EBADF));
    assert_eq!(lease(1 << 32), Err(libc::EBADF));
    assert_eq!(limit(own), Ok(0));
    under(&default_program(), || {
        assert_eq!(call(libc::SYS_unshare, [0; 5]), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0]), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_clone, [0x1000_0011, 0, 0, 0, 0]), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_clone3, [0; 5]), Err(libc::ENOSYS));
        assert_eq!(call(libc::SYS_socket, [40, 1, 0, 0, 0]), Err(libc::EPERM), "AF_VSOCK");
        assert_eq!(call(libc::SYS_socket, [16, 3, 12, 0, 0]), Err(libc::EPERM), "NETLINK_NETFILTER");
        assert_eq!(terminal_request(0), Err(libc::EPERM));
        assert_eq!(terminal_request(1 << 32), Err(libc::EPERM));
        assert_eq!(lease(0), Err(libc::EPERM));
        assert_eq!(lease(1 << 32), Err(libc::EPERM));
        assert_eq!(limit(1), Err(libc::EPERM));
        assert_eq!(limit(own), Err(libc::EPERM));
        assert_eq!(limit(0), Ok(0));
        assert_eq!(call(libc::SYS_keyctl, [0; 5]), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_io_uring_setup, [0; 5]), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_bpf, [0; 5]), Err(libc::EPERM));
        assert_eq!(call(600, [0; 5]), Err(libc::ENOSYS));
    });
    assert_eq!(limit(own), Ok(0), "the filter stayed in its thread");
}

#[test]
fn setuid_guard_denies_only_setuid_modes() {
    let program = Seccomp::new()
        .compile_for(Arch::NATIVE, Options { setuid_guard: true, ..Options::default() })
        .unwrap();
    // A descriptor that is not open: what the kernel says of it shows that the filter let the call through.
    let fchmod = |mode: u64| call(libc::SYS_fchmod, [u64::MAX, mode, 0, 0, 0]);
    under(&program, || {
        assert_eq!(fchmod(0o755), Err(libc::EBADF));
        assert_eq!(fchmod(0o4755), Err(libc::EPERM));
        assert_eq!(fchmod(0o2755), Err(libc::EPERM));
        assert_eq!(call(libc::SYS_openat2, [0; 5]), Err(libc::ENOSYS));
        std::fs::File::open("/proc/self/status").unwrap();
    });
}

#[test]
fn programs_run_under_the_default_profile() {
    let output = command(&default_program(), "/bin/sh", || {})
        .args(["-c", "ls / | sort | wc -l && echo $(uname) && test $(ulimit -n) -gt 0"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Linux"), "{output:?}");
}

#[test]
fn killed_calls_kill_the_process() {
    let program = Seccomp::new().kill(["uname"]).compile_for(Arch::NATIVE, Options::default()).unwrap();
    let status = command(&program, "/bin/uname", || {}).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn x32_calls_kill_the_process() {
    let before = || {
        let _ = call(0x4000_0000 | libc::SYS_getpid, [0; 5]);
    };
    let status = command(&default_program(), "/bin/true", before).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_32_bit_programs_kill_the_process() {
    let before = || {
        // SAFETY: number 20 of i386 is getpid, which touches no memory; the kernel may clear r8 to r11.
        unsafe {
            std::arch::asm!(
                "int 0x80",
                inout("eax") 20 => _,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        };
    };
    let status = command(&default_program(), "/bin/true", before).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
fn an_allow_list_is_enough_to_run_a_program() {
    let names = "execve brk mmap munmap mprotect openat open newfstatat fstat stat read pread64 close access \
         faccessat arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom exit_group";
    let program =
        Seccomp::allow_only(names.split_whitespace()).compile_for(Arch::NATIVE, Options::default()).unwrap();
    let status = command(&program, "/bin/true", || {}).status().unwrap();
    assert!(status.success(), "{status:?}");
}

/// The same policy as seccompiler would emit it: one comparison after another.
fn chain(policy: &Seccomp) -> Vec<u8> {
    let mut rules = std::collections::BTreeMap::new();
    let verdicts = super::resolve::verdicts(policy, Options::default(), Arch::NATIVE).unwrap();
    for (number, verdict) in (0..).zip(verdicts) {
        if verdict == Answer::Allow.into() {
            rules.insert(number, Vec::new());
        } else if !verdict.cases.is_empty() {
            let rule = |case: &Case| compile::seccomp_rule(&case.conditions).unwrap();
            rules.insert(number, verdict.cases.iter().map(rule).collect());
        }
    }
    let target = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(1), SeccompAction::Allow, target).unwrap();
    Program::new(BpfProgram::try_from(filter).unwrap().into_iter()).as_bytes().to_vec()
}

fn median_install(bytes: &[u8]) -> Duration {
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let measure = || {
                let start = Instant::now();
                install(bytes).unwrap();
                start.elapsed()
            };
            std::thread::scope(|scope| scope.spawn(measure).join().unwrap())
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The bound only catches a return of the chain.
#[test]
fn install_time_is_short() {
    let (program, chain) = (default_program(), chain(&Seccomp::new()));
    let (ours, theirs) = (median_install(program.as_bytes()), median_install(&chain));
    assert!(ours < Duration::from_millis(1), "{ours:?}, and {theirs:?} as a chain");
}

/// What one call costs that returns at once, in a thread of its own: the best of many batches, since others use this
/// machine as well.
fn cost_of_a_call(filter: Option<&[u8]>, number: libc::c_long, arguments: [u64; 5]) -> Duration {
    const CALLS: u32 = 5000;
    let measure = || {
        filter.map(install).transpose().unwrap();
        let batch = || {
            let start = Instant::now();
            for _ in 0..CALLS {
                std::hint::black_box(call(number, arguments)).ok();
            }
            start.elapsed() / CALLS
        };
        (0..20).map(|_| batch()).min().unwrap()
    };
    std::thread::scope(|scope| scope.spawn(measure).join().unwrap())
}

/// Prints the table of docs/seccomp.md: `cargo test --release --all-features --lib filters_cost -- --nocapture`.
#[test]
#[expect(clippy::print_stdout, reason = "the measurement is the output")]
fn what_filters_cost() {
    // Always allowed; allowed by its arguments; allowed by a number late in a list.
    let calls =
        [(libc::SYS_getppid, [0; 5]), (libc::SYS_prctl, [3, 0, 0, 0, 0]), (libc::SYS_prlimit64, [0; 5])];
    let costs =
        |filter: Option<&[u8]>| calls.map(|(number, arguments)| cost_of_a_call(filter, number, arguments));
    let row = |name: &str, filter: Option<&[u8]>, install: &str| {
        let length = filter.map_or(0, |bytes| bytes.len() / 8);
        let costs = costs(filter).map(|time| format!("{} ns", time.as_nanos()));
        println!("| {name} | {length} | {install} | {} |", costs.join(" | "));
    };
    row("no filter", None, "");
    #[cfg_attr(not(feature = "serde"), expect(unused_mut, reason = "there is one more with it"))]
    let mut policies = vec![
        ("new", Seccomp::new()),
        ("judge", Seccomp::judge()),
        ("plugin", Seccomp::plugin()),
        // Without the killing, which would end the tests.
        ("strict", Seccomp::strict().otherwise(SyscallAction::Errno(1))),
    ];
    #[cfg(feature = "serde")]
    policies.push((
        "Docker's",
        Seccomp::from_json(include_str!("../../tests/fixtures/docker-seccomp.json")).unwrap(),
    ));
    for (name, policy) in policies {
        let program = policy.compile_for(Arch::NATIVE, Options::default()).unwrap();
        let (search, chain) = (program.as_bytes(), chain(&policy));
        let mut lengths = Vec::new();
        for (kind, bytes) in [("", search), (" as a chain", chain.as_slice())] {
            row(&format!("{name}{kind}"), Some(bytes), &format!("{} µs", median_install(bytes).as_micros()));
            lengths.push(bytes.len());
        }
        assert!(lengths[0] < lengths[1], "{name}: the search is longer than the chain");
    }
}
