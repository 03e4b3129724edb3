//! The bare kernel cost of the same isolation: one `clone3`, one `execve`, and between them exactly the namespaces, id
//! map, mounts, cgroup and filter of the closed sandbox, by raw system calls on prepared arguments. No init, no
//! reports, no checks, no cleanliness: what a C program could do at best.

#![expect(unsafe_code, reason = "a floor is made of raw system calls")]
#![expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "flags and descriptors as registers"
)]

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::tiny;

pub(crate) struct Floor {
    filter: Vec<u8>,
    memory: PathBuf,
    pids: PathBuf,
    elf: Vec<u8>,
    etc: Vec<CString>,
}

/// Below which cgroup this process may make groups: version 1 only.
fn own_v1(controller: &str) -> Result<PathBuf, String> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        (parts.nth(1)?.split(',').any(|name| name == controller)).then(|| parts.next())?
    });
    let path = line.ok_or(format!("no v1 hierarchy with the {controller} controller"))?;
    Ok(Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/')))
}

struct Args<'a> {
    floor: &'a Floor,
    tasks: [i32; 2],
    /// The pipe that says that the id map is written. By a byte: its end would not come as long as a floor of another
    /// thread has a copy.
    wait: i32,
    program: &'a CStr,
}

fn sys(number: libc::c_long, args: [usize; 5]) -> usize {
    // SAFETY: the callers below pass numbers, and addresses of C strings and structures that live long enough.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if result < 0 { fail() } else { result as usize }
}

fn fail() -> ! {
    // SAFETY: ends the process; abort in the child shows as a failed run.
    unsafe { libc::_exit(100) }
}

fn text(string: &CStr) -> usize {
    string.as_ptr() as usize
}

impl Floor {
    pub(crate) fn new(filter: &[u8]) -> Result<Self, String> {
        // SAFETY: no arguments.
        if unsafe { libc::geteuid() } != 0 {
            return Err("it needs root".into());
        }
        let etc = ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/openssl.cnf"];
        let etc = etc.iter().filter(|name| Path::new("/etc").join(name).exists());
        let floor = Self {
            filter: filter.to_vec(),
            memory: own_v1("memory")?,
            pids: own_v1("pids")?,
            elf: tiny::elf(),
            etc: etc.map(|name| CString::new(format!("/etc/{name}")).expect("no NUL")).collect(),
        };
        floor.run();
        Ok(floor)
    }

    pub(crate) fn run(&self) {
        // Of their own for each thread.
        let name = format!("belljar-floor-{}-{}", std::process::id(), nix::unistd::gettid());
        let groups = [&self.memory, &self.pids].map(|dir| dir.join(&name));
        let limits = [("memory.limit_in_bytes", "268435456"), ("pids.max", "16")];
        let mut tasks: Vec<fs::File> = Vec::new();
        for (group, (file, value)) in groups.iter().zip(limits) {
            fs::create_dir(group).expect("the group does not exist yet");
            fs::write(group.join(file), value).expect("the limit is taken");
            tasks.push(fs::File::options().write(true).open(group.join("tasks")).expect("tasks"));
        }
        let (wait, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("descriptors are left");
        let args = Args {
            floor: self,
            tasks: [tasks[0].as_raw_fd(), tasks[1].as_raw_fd()],
            wait: wait.as_raw_fd(),
            program: c"/true",
        };
        let mut stack = Vec::<u8>::with_capacity(64 * 1024);
        let flags = libc::CLONE_VM
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::SIGCHLD;
        // SAFETY: the stack is 64 KiB and 16-aligned at its top; `args` and the stack live until the child was waited
        // for; the child only makes system calls on prepared memory.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(64 * 1024 - 64);
            let top = top.sub(top as usize % 16);
            libc::clone(child, top.cast(), flags, std::ptr::from_ref(&args).cast_mut().cast())
        };
        assert!(pid > 0, "clone works for root");
        let base = 1_879_000_000_u32 / 65_536 * 65_536;
        fs::write(format!("/proc/{pid}/gid_map"), format!("0 {base} 65536")).expect("the map is taken");
        fs::write(format!("/proc/{pid}/uid_map"), format!("0 {base} 65536")).expect("the map is taken");
        assert_eq!(nix::unistd::write(&go, &[0]), Ok(1), "the pipe is empty");
        let mut status = 0;
        // SAFETY: our child, a live status.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!((reaped, status), (pid, 0), "the floor's child ran /true");
        for group in &groups {
            fs::remove_dir(group).expect("the group is empty");
        }
    }

    fn mounts(&self) {
        let (bind, none) = (libc::MS_BIND | libc::MS_REC, 0);
        let mount = |source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong, data: &CStr| {
            sys(libc::SYS_mount, [text(source), text(target), text(kind), flags as usize, text(data)]);
        };
        let dir = |path: &CStr| sys(libc::SYS_mkdirat, [libc::AT_FDCWD as usize, text(path), 0o755, 0, 0]);
        let link = |to: &CStr, path: &CStr| {
            sys(libc::SYS_symlinkat, [text(to), libc::AT_FDCWD as usize, text(path), 0, 0])
        };
        let file = |path: &CStr, content: &[u8], mode: usize| {
            let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as usize;
            let fd = sys(libc::SYS_openat, [libc::AT_FDCWD as usize, text(path), flags, mode, 0]);
            if !content.is_empty() {
                sys(libc::SYS_write, [fd, content.as_ptr() as usize, content.len(), 0, 0]);
            }
            sys(libc::SYS_close, [fd, 0, 0, 0, 0]);
        };
        let attributes = |path: &CStr, set: u64, recursive: bool| {
            let attr = [set, 0, 0, 0];
            let flags = if recursive { 0x8000 } else { 0 };
            sys(
                libc::SYS_mount_setattr,
                [libc::AT_FDCWD as usize, text(path), flags, attr.as_ptr() as usize, 32],
            );
        };
        mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"");
        mount(
            c"t",
            c"/tmp",
            c"tmpfs",
            libc::MS_NOSUID | libc::MS_NODEV,
            c"size=16777216,nr_inodes=4096,mode=755",
        );
        sys(libc::SYS_chdir, [text(c"/tmp"), 0, 0, 0, 0]);
        dir(c"usr");
        mount(c"/usr", c"usr", c"", bind, c"");
        attributes(c"usr", 7, true);
        for (to, path) in
            [(c"usr/bin", c"bin"), (c"usr/sbin", c"sbin"), (c"usr/lib", c"lib"), (c"usr/lib64", c"lib64")]
        {
            link(to, path);
        }
        dir(c"etc");
        dir(c"etc/ssl");
        link(c"/usr/share/zoneinfo/Etc/UTC", c"etc/localtime");
        for source in &self.etc {
            let target = CStr::from_bytes_with_nul(&source.as_bytes_with_nul()[1..]).expect("as it was");
            if Path::new(source.to_str().expect("plain")).is_dir() {
                dir(target);
            } else {
                file(target, b"", 0o644);
            }
            mount(source, target, c"", bind, c"");
            attributes(target, 7, true);
        }
        for path in [c"etc/passwd", c"etc/group", c"etc/nsswitch.conf", c"etc/hosts"] {
            file(path, b"root:x:0:0:root:/:/bin/sh\n", 0o444);
        }
        dir(c"proc");
        mount(
            c"p",
            c"proc",
            c"proc",
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"hidepid=invisible,subset=pid",
        );
        dir(c"dev");
        mount(c"t", c"dev", c"tmpfs", libc::MS_NOSUID | libc::MS_NOEXEC, c"size=65536,nr_inodes=64,mode=755");
        let devices = [
            (c"/dev/null", c"dev/null"),
            (c"/dev/zero", c"dev/zero"),
            (c"/dev/full", c"dev/full"),
            (c"/dev/random", c"dev/random"),
            (c"/dev/urandom", c"dev/urandom"),
            (c"/dev/tty", c"dev/tty"),
        ];
        for (source, target) in devices {
            file(target, b"", 0o644);
            mount(source, target, c"", bind, c"");
            attributes(target, 10, true);
        }
        for (to, path) in [
            (c"/proc/self/fd", c"dev/fd"),
            (c"/proc/self/fd/0", c"dev/stdin"),
            (c"/proc/self/fd/1", c"dev/stdout"),
            (c"/proc/self/fd/2", c"dev/stderr"),
            (c"pts/ptmx", c"dev/ptmx"),
        ] {
            link(to, path);
        }
        dir(c"dev/pts");
        mount(
            c"d",
            c"dev/pts",
            c"devpts",
            libc::MS_NOSUID | libc::MS_NOEXEC,
            c"newinstance,ptmxmode=0666,mode=0620",
        );
        dir(c"dev/shm");
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        mount(
            c"t",
            c"dev/shm",
            c"tmpfs",
            flags | libc::MS_NOEXEC,
            c"size=67108864,nr_inodes=65536,mode=1777",
        );
        attributes(c"dev", 1, false);
        dir(c"tmp");
        mount(c"t", c"tmp", c"tmpfs", flags, c"size=268435456,nr_inodes=65536,mode=1777");
        file(c"true", &self.elf, 0o555);
        attributes(c".", 1, false);
        sys(libc::SYS_pivot_root, [text(c"."), text(c"."), 0, 0, 0]);
        sys(libc::SYS_umount2, [text(c"."), libc::MNT_DETACH as usize, 0, 0, 0]);
        sys(libc::SYS_chdir, [text(c"/"), none, 0, 0, 0]);
    }
}

extern "C" fn child(args: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passed an `Args` that lives until this process has executed or ended.
    let args = unsafe { &*args.cast::<Args<'_>>() };
    let mut byte = 0_u8;
    sys(libc::SYS_read, [args.wait as usize, (&raw mut byte) as usize, 1, 0, 0]);
    sys(libc::SYS_setresgid, [0; 5]);
    sys(libc::SYS_setresuid, [0; 5]);
    sys(libc::SYS_sethostname, [text(c"floor"), 5, 0, 0, 0]);
    loopback();
    sys(libc::SYS_unshare, [libc::CLONE_NEWTIME as usize, 0, 0, 0, 0]);
    args.floor.mounts();
    for tasks in args.tasks {
        sys(libc::SYS_write, [tasks as usize, text(c"0"), 1, 0, 0]);
    }
    sys(libc::SYS_unshare, [libc::CLONE_NEWCGROUP as usize, 0, 0, 0, 0]);
    sys(libc::SYS_setsid, [0; 5]);
    let prctl = |option: libc::c_int, a: usize| sys(libc::SYS_prctl, [option as usize, a, 0, 0, 0]);
    for capability in 0..41 {
        prctl(libc::PR_CAPBSET_DROP, capability);
    }
    sys(libc::SYS_setgroups, [0; 5]);
    sys(libc::SYS_setresgid, [1000, 1000, 1000, 0, 0]);
    sys(libc::SYS_setresuid, [1000, 1000, 1000, 0, 0]);
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1);
    sys(libc::SYS_close_range, [3, u32::MAX as usize, 0, 0, 0]);
    let filter = &args.floor.filter;
    let program =
        libc::sock_fprog { len: (filter.len() / 8) as u16, filter: filter.as_ptr().cast_mut().cast() };
    sys(libc::SYS_seccomp, [1, 0, (&raw const program) as usize, 0, 0]);
    let argv = [args.program.as_ptr(), std::ptr::null()];
    sys(libc::SYS_execve, [text(args.program), argv.as_ptr() as usize, (&raw const argv[1]) as usize, 0, 0]);
    fail()
}

fn loopback() {
    let socket = sys(libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_DGRAM as usize, 0, 0, 0]);
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 0x41;
    sys(libc::SYS_ioctl, [socket, 0x8914, request.as_mut_ptr() as usize, 0, 0]);
}
