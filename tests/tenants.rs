//! Two sandboxes that try to talk: each channel works where it is given away, and not between tenants.
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

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Command, ErrorKind, Feature, Mount, Resource, Sandbox, Seccomp, Stdio, Verdict};
use support::{
    Fail, Result, Scratch, as_nobody, closed, fail, hold, payload, raw, role_command, role_result,
    run_helper, succeed, with_payload,
};

fn main() -> ExitCode {
    let cases = cases![
        a_session_keyring: ["userns"],
        a_lock_on_a_shared_file: ["userns"],
        a_record_lock_on_a_shared_file: ["userns"],
        a_lock_of_an_open_file: ["userns"],
        a_notice_of_a_shared_file: ["userns"],
        pages_of_a_shared_file: ["userns"],
        pages_by_asynchronous_reads: ["userns"],
        an_abstract_socket: ["userns"],
        shared_memory_of_system_v: ["userns"],
        a_posix_queue: ["userns"],
        a_file_in_dev_shm: ["userns", "tmpfs-xattr"],
        a_process: ["userns"],
        calls_that_were_allowed: ["userns"],
        sockets_of_virtual_machines: ["userns"],
        core_dumps: ["userns"],
        the_proc_of_the_machine: ["userns"],
        processors: ["userns"],
        what_gives_a_channel_away: [],
        programs_still_run: ["userns", "sh", "python3"],
        tenants_of_an_unprivileged_host: ["userns", "setpriv"],
    ];
    let roles: &[support::Role] =
        &[("speak", speak), ("listen", listen), ("use-locks", use_locks), ("unprivileged", unprivileged)];
    support::main(cases, roles)
}

/// A file of the host that all tenants see, as they see a shared layer.
const SHARED: &str = "/srv/shared";

struct Channel {
    name: &'static str,
    /// The policy of both ends, in which the channel is open.
    open: fn() -> Sandbox,
    /// The same for tenants.
    closed: fn() -> Sandbox,
}

fn tenant() -> Sandbox {
    closed().cross_tenant()
}

fn calls(names: &[&str]) -> Seccomp {
    Seccomp::new().allow(names.iter().copied())
}

impl Channel {
    /// Talks in the open, and does not between tenants.
    fn is_closed(&self) -> Result {
        let open = self.talk((self.open)())?;
        if !open {
            return fail(format!("{}: not even in the open", self.name));
        }
        if self.talk((self.closed)())? {
            return fail(format!("{}: one tenant hears the other", self.name));
        }
        Ok(())
    }

    /// Whether one sandbox hears the other.
    fn talk(&self, sandbox: Sandbox) -> Result<bool> {
        let scratch = Scratch::new();
        let file = scratch.file("shared", vec![b'x'; 1 << 20]);
        fs::File::open(&file)?.sync_all()?;
        let sandbox = sandbox.mount(Mount::bind(file, SHARED));
        let name = format!("belljar-test-{}", std::process::id());
        let start = |role: &str| {
            let mut command = payload(role, &[self.name, &name]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            sandbox.spawn(&command)
        };
        let line = |child: &mut belljar::Child| -> Result<String> {
            let mut text = String::new();
            let stdout = child.stdout.as_mut().expect("piped");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut text)?;
            Ok(text.trim().to_owned())
        };
        // The listener gets ready, the speaker speaks and stays, and the listener looks.
        let mut listener = start("listen")?;
        let ready = line(&mut listener)?;
        let mut speaker = start("speak")?;
        let spoken = line(&mut speaker)?;
        let heard = if ready == "ready" {
            listener.stdin.take().expect("piped").write_all(b"look\n")?;
            line(&mut listener)?
        } else {
            String::new()
        };
        drop(speaker.stdin.take());
        speaker.wait()?;
        listener.wait()?;
        match (ready.as_str(), heard.as_str()) {
            ("ready", "heard") if spoken == "spoken" => Ok(true),
            ("ready" | "refused", "silence" | "refused" | "") => Ok(false),
            _ => fail(format!("{}: {ready:?}, {spoken:?}, {heard:?}", self.name)),
        }
    }
}

type Io<T> = std::io::Result<T>;

/// What stays open as long as the speaker does.
type Kept = Box<dyn std::any::Any>;

fn kept(value: impl std::any::Any) -> Io<Kept> {
    Ok(Box::new(value))
}

/// Leaves a trace of itself in the channel.
fn speak(args: &[OsString]) -> i32 {
    let name = support::roles::text(args, 1);
    let open = || fs::File::open(SHARED);
    let result: Io<Kept> = (|| match support::roles::text(args, 0).as_str() {
        "keyring" => {
            let args = [
                c"user".as_ptr().addr(),
                c"belljar-word".as_ptr().addr(),
                c"word".as_ptr().addr(),
                4,
                SESSION,
                0,
            ];
            let key = raw::syscall(libc::SYS_add_key, args)?;
            // Everybody who has it may read it.
            raw::syscall(libc::SYS_keyctl, [5, key as usize, 0x3f3f_3f3f, 0, 0, 0])?;
            kept(key)
        }
        "flock" => {
            let file = open()?;
            raw::syscall(libc::SYS_flock, [file.as_raw_fd() as usize, libc::LOCK_EX as usize, 0, 0, 0, 0])?;
            kept(file)
        }
        "record" => {
            let file = open()?;
            record_lock(&file, libc::F_SETLK, libc::F_RDLCK)?;
            kept(file)
        }
        "open-file" => {
            let file = open()?;
            record_lock(&file, libc::F_OFD_SETLK, libc::F_RDLCK)?;
            kept(file)
        }
        "inotify" => kept(open()?),
        "hint" => {
            let file = open()?;
            hint(&file, SET_HINT, 3)?;
            kept(file)
        }
        "pages" | "asynchronous" => {
            let mut text = Vec::new();
            open()?.read_to_end(&mut text)?;
            kept(text)
        }
        "abstract" => kept(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?),
        "system-v" => {
            let id = raw::syscall(libc::SYS_shmget, [0x6265_6c6c, 4096, 0o1666, 0, 0, 0])?;
            kept(Segment(id as usize))
        }
        "queue" => {
            let path = std::ffi::CString::new(name)?;
            let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
            let queue = raw::syscall(libc::SYS_mq_open, [path.as_ptr().addr(), flags, 0o666, 0, 0, 0])?;
            kept(Queue(queue, path))
        }
        "shm" => {
            fs::write(format!("/dev/shm/{name}"), "word")?;
            kept(OnDisk(format!("/dev/shm/{name}")))
        }
        "process" => {
            raw::syscall(
                libc::SYS_prctl,
                [libc::PR_SET_NAME as usize, c"belljar-speaks".as_ptr().addr(), 0, 0, 0, 0],
            )?;
            kept(())
        }
        other => Err(std::io::Error::other(other.to_owned())),
    })();
    match &result {
        Ok(_) => println!("spoken"),
        Err(error) => println!("refused {}", error.raw_os_error().unwrap_or(-1)),
    }
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    drop(result);
    0
}

struct Segment(usize);

impl Drop for Segment {
    fn drop(&mut self) {
        raw::syscall(libc::SYS_shmctl, [self.0, libc::IPC_RMID as usize, 0, 0, 0, 0]).ok();
    }
}

struct Queue(i64, std::ffi::CString);

impl Drop for Queue {
    fn drop(&mut self) {
        raw::syscall(libc::SYS_mq_unlink, [self.1.as_ptr().addr(), 0, 0, 0, 0, 0]).ok();
        raw::close(self.0 as i32);
    }
}

struct OnDisk(String);

impl Drop for OnDisk {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn record_lock(file: &fs::File, command: i32, kind: i32) -> Io<i32> {
    let mut lock = [0_u64; 4]; // struct flock: type and whence in the first word, start, length, pid
    lock[0] = kind as u64;
    lock[2] = 1;
    let args = [file.as_raw_fd() as usize, command as usize, lock.as_mut_ptr().addr(), 0, 0, 0];
    raw::syscall(libc::SYS_fcntl, args)?;
    Ok((std::hint::black_box(lock)[0] & 0xffff) as i32)
}

/// `F_GET_RW_HINT` and `F_SET_RW_HINT`: how long what is written to a file is expected to live, which is kept with the
/// inode. A descriptor that is open for reading is enough.
const GET_HINT: usize = 1035;
const SET_HINT: usize = 1036;

fn hint(file: &fs::File, command: usize, hint: u64) -> Io<u64> {
    let mut value = [hint];
    let args = [file.as_raw_fd() as usize, command, value.as_mut_ptr().addr(), 0, 0, 0];
    raw::syscall(libc::SYS_fcntl, args)?;
    Ok(std::hint::black_box(value)[0])
}

/// Whether a byte can be read without waiting for the disk, by an asynchronous request with `RWF_NOWAIT`: its flags are in
/// memory.
fn read_at_once(file: &fs::File, offset: u64) -> Io<bool> {
    let mut context = [0_usize];
    raw::syscall(libc::SYS_io_setup, [1, context.as_mut_ptr().addr(), 0, 0, 0, 0])?;
    let context = std::hint::black_box(context)[0];
    let mut byte = [0_u8];
    // struct iocb: data, key and flags, a read of the descriptor, buffer, length, offset.
    let flags = (libc::RWF_NOWAIT as u64) << 32;
    let fd = (file.as_raw_fd() as u64) << 32;
    let request = [0_u64, flags, fd, byte.as_mut_ptr().addr() as u64, 1, offset, 0, 0];
    let list = [std::ptr::from_ref(&request).addr()];
    let mut event = [0_i64; 4];
    let submitted = raw::syscall(libc::SYS_io_submit, [context, 1, list.as_ptr().addr(), 0, 0, 0])
        .and_then(|_| raw::syscall(libc::SYS_io_getevents, [context, 1, 1, event.as_mut_ptr().addr(), 0, 0]));
    raw::syscall(libc::SYS_io_destroy, [context, 0, 0, 0, 0, 0]).ok();
    submitted?;
    match std::hint::black_box(event)[2] {
        1 => Ok(true),
        other if other == -i64::from(libc::EAGAIN) => Ok(false),
        other => Err(std::io::Error::other(format!("a result of {other}"))),
    }
}

/// Looks for what the speaker leaves.
fn listen(args: &[OsString]) -> i32 {
    let name = support::roles::text(args, 1);
    let open = || fs::File::open(SHARED);
    let look: Io<Box<dyn FnOnce() -> Io<bool>>> = (|| {
        Ok::<Box<dyn FnOnce() -> Io<bool>>, std::io::Error>(match support::roles::text(args, 0).as_str() {
            "keyring" => Box::new(|| {
                const SEARCH: usize = 10;
                let args = [SEARCH, SESSION, c"user".as_ptr().addr(), c"belljar-word".as_ptr().addr(), 0, 0];
                Ok(raw::syscall(libc::SYS_keyctl, args).is_ok())
            }),
            "flock" => Box::new(move || {
                let how = (libc::LOCK_EX | libc::LOCK_NB) as usize;
                match raw::syscall(libc::SYS_flock, [open()?.as_raw_fd() as usize, how, 0, 0, 0, 0]) {
                    Ok(_) => Ok(false),
                    Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(true),
                    Err(error) => Err(error),
                }
            }),
            "record" => {
                Box::new(move || Ok(record_lock(&open()?, libc::F_GETLK, libc::F_WRLCK)? != libc::F_UNLCK))
            }
            "open-file" => {
                Box::new(
                    move || Ok(record_lock(&open()?, libc::F_OFD_GETLK, libc::F_WRLCK)? != libc::F_UNLCK),
                )
            }
            "inotify" => {
                let flags = nix::sys::inotify::InitFlags::IN_NONBLOCK;
                let watch = nix::sys::inotify::Inotify::init(flags)?;
                watch.add_watch(SHARED, nix::sys::inotify::AddWatchFlags::IN_OPEN)?;
                Box::new(move || Ok(watch.read_events().is_ok_and(|events| !events.is_empty())))
            }
            "hint" => Box::new(move || Ok(hint(&open()?, GET_HINT, 0)? == 3)),
            "asynchronous" => {
                let file = open()?;
                file.sync_all()?;
                let evict = [file.as_raw_fd() as usize, 0, 0, libc::POSIX_FADV_DONTNEED as usize, 0, 0];
                raw::syscall(libc::SYS_fadvise64, evict)?;
                if read_at_once(&file, 1 << 19)? {
                    return Err(std::io::Error::other("it cannot be thrown out"));
                }
                Box::new(move || read_at_once(&file, 1 << 19))
            }
            "pages" => {
                // Nobody else has read it, and what was written was thrown out of the cache by the one who listens.
                let file = open()?;
                file.sync_all()?;
                let evict = [file.as_raw_fd() as usize, 0, 0, libc::POSIX_FADV_DONTNEED as usize, 0, 0];
                raw::syscall(libc::SYS_fadvise64, evict)?;
                // In the middle of the file, which is read ahead of nobody.
                if raw::is_cached(&file, 1 << 19)? {
                    return Err(std::io::Error::other("it cannot be thrown out"));
                }
                Box::new(move || raw::is_cached(&file, 1 << 19))
            }
            "abstract" => {
                Box::new(
                    move || Ok(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name)?).is_ok()),
                )
            }
            "system-v" => {
                Box::new(|| Ok(raw::syscall(libc::SYS_shmget, [0x6265_6c6c, 4096, 0, 0, 0, 0]).is_ok()))
            }
            "queue" => Box::new(move || {
                let path = std::ffi::CString::new(name)?;
                let queue = raw::syscall(libc::SYS_mq_open, [path.as_ptr().addr(), 0, 0, 0, 0, 0]);
                Ok(queue.is_ok())
            }),
            "shm" => Box::new(move || Ok(fs::read(format!("/dev/shm/{name}")).is_ok())),
            "process" => Box::new(|| {
                let found = fs::read_dir("/proc")?.flatten().any(|entry| {
                    fs::read_to_string(entry.path().join("comm"))
                        .is_ok_and(|name| name.trim() == "belljar-speaks")
                });
                Ok(found)
            }),
            other => return Err(std::io::Error::other(other.to_owned())),
        })
    })();
    let look = match look {
        Ok(look) => look,
        Err(error) => {
            println!("refused");
            eprintln!("{error}");
            return 0;
        }
    };
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).ok();
    match look() {
        Ok(true) => println!("heard"),
        Ok(false) => println!("silence"),
        Err(_) => println!("refused"),
    }
    0
}

/// `KEY_SPEC_SESSION_KEYRING`.
const SESSION: usize = -3_isize as usize;

const KEYS: [&str; 3] = ["keyctl", "add_key", "request_key"];

fn a_session_keyring() -> Result {
    // A keyring that the programs of this thread inherit.
    raw::syscall(libc::SYS_keyctl, [1, 0, 0, 0, 0, 0])?;
    let key =
        [c"user".as_ptr().addr(), c"belljar-word".as_ptr().addr(), c"word".as_ptr().addr(), 4, SESSION, 0];
    let key = raw::syscall(libc::SYS_add_key, key)?;
    raw::syscall(libc::SYS_keyctl, [5, key as usize, 0x3f3f_3f3f, 0, 0, 0])?;
    let mut outside = role_command("listen", &["keyring", "word"]);
    assert_eq!(run_helper(&mut outside, Duration::from_secs(10))?.succeed()?, "ready\nheard\n");
    for sandbox in [closed(), tenant()] {
        let said = succeed(sandbox.seccomp(calls(&KEYS)).output(payload("listen", &["keyring", "word"]))?)?;
        assert!(!said.contains("heard"), "{said:?}");
    }
    // And not even one sandbox another.
    let channel = Channel { name: "keyring", open: closed, closed: tenant };
    assert!(!channel.talk(closed().seccomp(calls(&KEYS)))?);
    assert!(!channel.talk(tenant().seccomp(calls(&KEYS)))?);
    // The calls are refused, and it is another one all the same.
    assert!(tenant().best_effort(Feature::CoreScheduling).plan()?.to_string().contains("session keyring"));
    Ok(())
}

fn a_lock_on_a_shared_file() -> Result {
    Channel { name: "flock", open: closed, closed: tenant }.is_closed()
}

fn a_record_lock_on_a_shared_file() -> Result {
    Channel { name: "record", open: closed, closed: tenant }.is_closed()
}

fn a_lock_of_an_open_file() -> Result {
    Channel { name: "open-file", open: closed, closed: tenant }.is_closed()
}

fn a_notice_of_a_shared_file() -> Result {
    Channel { name: "inotify", open: closed, closed: tenant }.is_closed()
}

fn pages_of_a_shared_file() -> Result {
    Channel { name: "pages", open: closed, closed: tenant }.is_closed()
}

fn pages_by_asynchronous_reads() -> Result {
    Channel { name: "asynchronous", open: closed, closed: tenant }.is_closed()
}

/// Of a file that belongs to the user of both, who are the caller of an unprivileged host.
fn a_hint_about_a_shared_file() -> Result {
    Channel { name: "hint", open: closed, closed: tenant }.is_closed()
}

fn an_abstract_socket() -> Result {
    Channel { name: "abstract", open: || closed().share_net(), closed: tenant }.is_closed()
}

fn shared_memory_of_system_v() -> Result {
    Channel { name: "system-v", open: || closed().share_ipc(), closed: tenant }.is_closed()
}

fn a_posix_queue() -> Result {
    Channel { name: "queue", open: || closed().share_ipc(), closed: tenant }.is_closed()
}

fn a_file_in_dev_shm() -> Result {
    let shared = || with_payload(Sandbox::new().mount(Mount::bind_writable("/dev/shm", "/dev/shm")));
    Channel { name: "shm", open: shared, closed: tenant }.is_closed()
}

fn a_process() -> Result {
    Channel { name: "process", open: || closed().share_pid(), closed: tenant }.is_closed()
}

fn calls_that_were_allowed() -> Result {
    let names = [
        "io_uring_setup",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "fanotify_init",
        "open_by_handle_at",
        "cachestat",
        "syslog",
    ];
    let answer = |sandbox: &Sandbox, name: &str| -> Result<i32> {
        let number = belljar::Syscall::from_name(name).map_or(0, belljar::Syscall::number);
        let output = sandbox.output(payload("syscall", &[&number.to_string()]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.trim().strip_prefix("errno ").and_then(|errno| errno.parse().ok()).unwrap_or(0))
    };
    for name in names {
        let wanted = if name == "io_uring_setup" { libc::ENOSYS } else { libc::EPERM };
        assert_eq!(answer(&tenant().seccomp(calls(&[name])), name)?, wanted, "{name}");
    }
    // With arguments that are none, the kernel says something else.
    for name in ["io_uring_setup", "cachestat"] {
        let open = answer(&closed().seccomp(calls(&[name])), name)?;
        assert!(![libc::EPERM].contains(&open), "{name}: {open}, the positive control");
    }
    Ok(())
}

fn sockets_of_virtual_machines() -> Result {
    let socket = |sandbox: &Sandbox| {
        let args =
            [libc::SYS_socket, libc::AF_VSOCK.into(), libc::SOCK_STREAM.into(), 0].map(|n| n.to_string());
        sandbox.output(payload("syscall", &args.each_ref().map(String::as_str)))
    };
    assert_eq!(socket(&tenant().seccomp(calls(&["socket"])))?.stdout, b"errno 1\n");
    assert_ne!(socket(&closed().seccomp(calls(&["socket"])))?.stdout, b"errno 1\n", "the positive control");
    Ok(())
}

fn core_dumps() -> Result {
    let held = hold(&tenant())?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", held.pid))?;
    let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap_or_default().to_owned();
    held.release()?;
    assert!(core.split_whitespace().skip(4).take(2).all(|word| word == "0" || word == "1"), "{core}");
    Ok(())
}

fn the_proc_of_the_machine() -> Result {
    let read = |sandbox: &Sandbox, path: &str| sandbox.output(payload("cat", &[path]));
    for path in
        ["/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/keys", "/proc/locks", "/proc/interrupts"]
    {
        assert_eq!(read(&tenant(), path)?.stdout, b"errno 2\n", "{path}");
    }
    let full = closed().mount(Mount::proc("/mnt").full());
    if let Ok(output) = read(&full, "/mnt/loadavg") {
        assert_eq!(output.outcome.verdict, Verdict::Exited(0), "the positive control");
    }
    assert_eq!(read(&tenant(), "/sys/kernel/mm/ksm/run")?.stdout, b"errno 2\n");
    Ok(())
}

fn processors() -> Result {
    let plan = tenant().best_effort(Feature::CoreScheduling).plan()?;
    let skipped = plan.enforced().skipped().iter().find(|one| one.feature == Feature::CoreScheduling);
    match (plan.enforced().contains(Feature::CoreScheduling), skipped) {
        (true, None) => {
            assert!(plan.to_string().contains("cookie"), "{plan}");
            let one = hold(&tenant())?;
            let two = hold(&tenant())?;
            let cookies = (raw::core_cookie(one.pid)?, raw::core_cookie(two.pid)?);
            one.release()?;
            two.release()?;
            assert!(cookies.0 != 0 && cookies.1 != 0 && cookies.0 != cookies.1, "{cookies:?}");
            assert_eq!(raw::core_cookie(0)?, 0, "the host has none");
            println!("cookies {cookies:x?}");
        }
        // The one is a fact of the machine, the other of the kernel.
        (false, Some(skipped)) if skipped.reason.contains("one thread") => {
            println!("{}", skipped.reason);
            assert!(tenant().plan().is_ok());
        }
        (false, Some(_)) => {
            let error = tenant().plan().err().ok_or_else(|| Fail("it was taken".into()))?;
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().is_some());
        }
        other => return fail(format!("{other:?}")),
    }
    Ok(())
}

fn what_gives_a_channel_away() -> Result {
    let shares: [(&str, Sandbox); 11] = [
        ("net", tenant().share_net()),
        ("ipc", tenant().share_ipc()),
        ("pid", tenant().share_pid()),
        ("user", tenant().share_user()),
        ("uts", tenant().share_uts()),
        ("cgroup", tenant().share_cgroup()),
        ("time", tenant().share_time()),
        ("root", Sandbox::bare().seccomp(Seccomp::new()).cross_tenant()),
        ("filter", tenant().allow_all_syscalls()),
        ("/proc", tenant().mount(Mount::proc("/mnt").full())),
        ("core", tenant().rlimit(Resource::Core, 1 << 20, 1 << 20)),
    ];
    for (word, sandbox) in shares {
        let error = sandbox.plan().err().ok_or_else(|| Fail(format!("{word} was taken")))?;
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{word}: {error}");
        assert!(error.to_string().contains(word) && error.hint().is_some(), "{word}: {error}");
    }
    Ok(())
}

/// Locks that a program may take for granted.
fn use_locks(_: &[OsString]) -> i32 {
    let file = fs::File::create("/tmp/own").expect("there is a /tmp");
    let own = file.try_lock_exclusive_or_errno();
    println!("{own}");
    0
}

trait TryLock {
    fn try_lock_exclusive_or_errno(&self) -> i32;
}

impl TryLock for fs::File {
    fn try_lock_exclusive_or_errno(&self) -> i32 {
        let args = [self.as_raw_fd() as usize, libc::LOCK_EX as usize, 0, 0, 0, 0];
        raw::syscall(libc::SYS_flock, args).map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
    }
}

fn programs_still_run() -> Result {
    let output = tenant().output(payload("use-locks", &[]))?;
    assert_eq!(output.stdout, format!("{}\n", libc::ENOLCK).into_bytes(), "an errno that is about locks");
    let text = succeed(tenant().output(support::sh("echo a | sort; ls / > /dev/null; echo $(uname -n)"))?)?;
    assert_eq!(text, "a\nbelljar\n");
    let mut python = Command::new("python3");
    python.args(["-c", "import threading, json, tempfile; print(json.dumps([1]))"]);
    assert_eq!(succeed(tenant().output(&python)?)?, "[1]\n");
    Ok(())
}

fn unprivileged(_: &[OsString]) -> i32 {
    role_result((|| {
        a_session_keyring()?;
        a_lock_on_a_shared_file()?;
        a_notice_of_a_shared_file()?;
        a_hint_about_a_shared_file()?;
        an_abstract_socket()?;
        shared_memory_of_system_v()
    })())
}

fn tenants_of_an_unprivileged_host() -> Result {
    as_nobody("unprivileged", &[], Duration::from_secs(120))?.succeed()?;
    Ok(())
}
