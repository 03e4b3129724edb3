//! Programs that run inside sandboxes (or outside, as their own positive controls).

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::Role;
use super::raw;

pub(crate) const COMMON: &[Role] = &[
    ("hold", hold),
    ("exit", |args| int(args, 0)),
    ("raise", raise),
    ("status", |_| cat("/proc/self/status")),
    ("cat", |args| cat(&text(args, 0))),
    ("read-fd", read_fd),
    ("fds", fds),
    ("ns", ns),
    ("facts", facts),
    ("syscall", syscall),
    ("open", open),
    ("burn", burn),
    ("burn-tree", burn_tree),
    ("sleep", sleep),
    ("alloc", alloc),
    ("alloc-child", alloc_child),
    ("flood", flood),
    ("fork-bomb", fork_bomb),
    ("daemon", daemon),
    ("echo", echo),
    ("loopback", loopback),
    ("openpty", |_| report(raw::openpty_works())),
    ("try-project-quotas", try_project_quotas),
    ("try-unshare", try_unshare),
    ("env", env),
];

pub(crate) fn text(args: &[OsString], n: usize) -> String {
    args.get(n).map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn int(args: &[OsString], n: usize) -> i32 {
    text(args, n).parse().unwrap_or(0)
}

pub(crate) fn big(args: &[OsString], n: usize) -> u64 {
    text(args, n).parse().unwrap_or(0)
}

fn report(result: std::io::Result<()>) -> i32 {
    match result {
        Ok(()) => {
            println!("ok");
            0
        }
        Err(error) => {
            println!("errno {}", error.raw_os_error().unwrap_or(-1));
            1
        }
    }
}

/// Says "ready" and waits until stdin ends.
pub(crate) fn hold(_: &[OsString]) -> i32 {
    println!("ready");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).ok();
    0
}

/// Kills itself with a signal.
pub(crate) fn raise(args: &[OsString]) -> i32 {
    let signal = int(args, 0);
    raw::disposition(signal, false);
    let pid = std::process::id();
    raw::syscall(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0]).ok();
    std::thread::sleep(Duration::from_millis(200));
    0
}

fn cat(path: &str) -> i32 {
    match fs::read(path) {
        Ok(bytes) => i32::from(std::io::stdout().write_all(&bytes).is_err()),
        Err(error) => {
            println!("errno {}", error.raw_os_error().unwrap_or(-1));
            1
        }
    }
}

/// Copies what descriptors hold to stdout.
fn read_fd(args: &[OsString]) -> i32 {
    for n in 0..args.len() {
        match raw::read_to_end(int(args, n)) {
            Ok(bytes) => drop(std::io::stdout().write_all(&bytes)),
            Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(-1)),
        }
    }
    0
}

/// The numbers and targets of all open descriptors.
fn fds(_: &[OsString]) -> i32 {
    let mut lines = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten() {
        let target = fs::read_link(entry.path()).map(|to| to.display().to_string()).unwrap_or_default();
        // The listing's own descriptor.
        if !target.ends_with("/fd") {
            lines.push(format!("{} {target}", entry.file_name().to_string_lossy()));
        }
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    0
}

fn ns(_: &[OsString]) -> i32 {
    for name in super::oracle::NAMESPACES {
        println!("{}", super::oracle::namespace("self", name));
    }
    0
}

/// Whatever a process can learn about itself without a path of the host.
fn facts(_: &[OsString]) -> i32 {
    println!("pid: {}", std::process::id());
    println!("ppid: {}", std::os::unix::process::parent_id());
    println!("sid: {}", raw::syscall(libc::SYS_getsid, [0; 6]).unwrap_or(-1));
    println!("pgid: {}", raw::syscall(libc::SYS_getpgid, [0; 6]).unwrap_or(-1));
    println!("cwd: {}", std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default());
    println!("monotonic: {}", raw::clock(libc::CLOCK_MONOTONIC));
    println!("boottime: {}", raw::clock(libc::CLOCK_BOOTTIME));
    let uname = nix::sys::utsname::uname().expect("uname works");
    println!("hostname: {}", uname.nodename().to_string_lossy());
    println!("domainname: {}", uname.domainname().to_string_lossy());
    0
}

/// Makes one system call with numbers for arguments and says what became of it.
fn syscall(args: &[OsString]) -> i32 {
    let mut numbers = [0_usize; 6];
    for (n, number) in numbers.iter_mut().enumerate() {
        *number = text(args, n + 1).parse::<i64>().unwrap_or(0) as usize;
    }
    report(raw::syscall(text(args, 0).parse().unwrap_or(-1), numbers).map(drop))
}

/// Opens a path for reading ("r") or writing ("w").
fn open(args: &[OsString]) -> i32 {
    let write = text(args, 1) == "w";
    report(fs::File::options().read(!write).write(write).open(text(args, 0)).map(drop))
}

fn spin(time: Duration) {
    let start = Instant::now();
    let mut x = 1_u64;
    while start.elapsed() < time {
        for _ in 0..1000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Uses the processor for so many milliseconds of wall time.
pub(crate) fn burn(args: &[OsString]) -> i32 {
    spin(Duration::from_millis(big(args, 0)));
    0
}

/// Children burn while their parent sleeps: `burn-tree CHILDREN MILLISECONDS`.
fn burn_tree(args: &[OsString]) -> i32 {
    for _ in 0..int(args, 0) {
        if raw::fork().expect("fork") == 0 {
            spin(Duration::from_millis(big(args, 1)));
            return 0;
        }
    }
    std::thread::sleep(Duration::from_millis(big(args, 1)));
    0
}

pub(crate) fn sleep(args: &[OsString]) -> i32 {
    std::thread::sleep(Duration::from_millis(big(args, 0)));
    0
}

/// Touches so many bytes of memory, page by page.
pub(crate) fn alloc(args: &[OsString]) -> i32 {
    let mut bytes = vec![0_u8; usize::try_from(big(args, 0)).unwrap_or(usize::MAX)];
    for page in bytes.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&bytes);
    if text(args, 1) == "hold" {
        return hold(&[]);
    }
    0
}

/// A child touches the memory; its parent waits for it and exits with 0.
pub(crate) fn alloc_child(args: &[OsString]) -> i32 {
    let pid = raw::fork().expect("fork");
    if pid == 0 {
        return alloc(args);
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).ok();
    0
}

/// Writes so many bytes to stdout.
fn flood(args: &[OsString]) -> i32 {
    let mut left = big(args, 0);
    let chunk = [b'x'; 4096];
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let count = usize::try_from(left.min(4096)).unwrap_or(4096);
        if out.write_all(&chunk[..count]).is_err() {
            return 1;
        }
        left -= count as u64;
    }
    i32::from(out.flush().is_err())
}

/// Forks up to so many times, children stay; says how many there were.
fn fork_bomb(args: &[OsString]) -> i32 {
    let mut made = 0;
    for _ in 0..int(args, 0) {
        match raw::fork() {
            Ok(0) => {
                std::thread::sleep(Duration::from_secs(20));
                return 0;
            }
            Ok(_) => made += 1,
            Err(error) => {
                println!("{made} errno {}", error.raw_os_error().unwrap_or(-1));
                return 0;
            }
        }
    }
    println!("{made} all");
    0
}

/// Leaves a process behind that has nothing to do with us any more; `daemon MARK` can be found by its mark.
fn daemon(args: &[OsString]) -> i32 {
    if raw::fork().expect("fork") == 0 {
        raw::syscall(libc::SYS_setsid, [0; 6]).ok();
        if raw::fork().expect("fork") == 0 {
            raw::disposition(libc::SIGTERM, true);
            raw::disposition(libc::SIGHUP, true);
            if text(args, 1) == "close" {
                (0..3).for_each(raw::close);
            }
            std::thread::sleep(Duration::from_secs(60));
        }
        return 0;
    }
    std::thread::sleep(Duration::from_millis(100));
    0
}

/// Copies stdin to stdout.
fn echo(_: &[OsString]) -> i32 {
    i32::from(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()).is_err())
}

/// Talks to itself over 127.0.0.1 and ::1.
fn loopback(_: &[OsString]) -> i32 {
    let talk = || -> std::io::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        client.write_all(b"hello")?;
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer)?;
        assert_eq!(&buffer, b"hello");
        Ok(())
    };
    report(talk())
}

fn try_project_quotas(args: &[OsString]) -> i32 {
    super::role_result(super::disk::try_project_quotas(std::path::Path::new(&args[0])))
}

pub(crate) fn try_unshare(args: &[OsString]) -> i32 {
    report(raw::syscall(libc::SYS_unshare, [int(args, 0) as usize, 0, 0, 0, 0, 0]).map(drop))
}

fn env(_: &[OsString]) -> i32 {
    for (key, value) in std::env::vars_os() {
        println!("{}={}", key.to_string_lossy(), value.to_string_lossy());
    }
    0
}
