//! The init's only `unsafe`: system calls with typed arguments, and the run-time below them.
//!
//! Every function is safe to call: it takes references, descriptors and plain numbers, and the init has one thread.

#![allow(unsafe_code)]

mod rt;

#[path = "../../sys/raw.rs"]
mod raw;

use core::ffi::CStr;
use core::num::NonZeroI32;
use raw::nr;

/// An errno, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const ENOENT: Self = Self(2);
    pub(crate) const EINTR: Self = Self(4);
    pub(crate) const EBADF: Self = Self(9);
    pub(crate) const EAGAIN: Self = Self(11);
    pub(crate) const EACCES: Self = Self(13);
    pub(crate) const EEXIST: Self = Self(17);
    pub(crate) const ENODEV: Self = Self(19);
    pub(crate) const ENOTDIR: Self = Self(20);
    pub(crate) const EINVAL: Self = Self(22);
    pub(crate) const ERANGE: Self = Self(34);
    pub(crate) const ENAMETOOLONG: Self = Self(36);
    pub(crate) const ENOSYS: Self = Self(38);
    pub(crate) const ELOOP: Self = Self(40);
    pub(crate) const EPROTO: Self = Self(71);
    pub(crate) const EMFILE: Self = Self(24);
    pub(crate) const EOVERFLOW: Self = Self(75);
    pub(crate) const EPERM: Self = Self(1);
}

pub(crate) type Result<T> = core::result::Result<T, Errno>;

fn check(result: isize) -> Result<usize> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// A system call whose every argument is a plain number.
fn plain(number: usize, args: &[usize]) -> Result<usize> {
    let mut six = [0; 6];
    for (slot, arg) in six.iter_mut().zip(args) {
        *slot = *arg;
    }
    // SAFETY: private to this module; every caller below passes numbers, or addresses of live references whose
    // lengths it passes too, to a system call that takes them as such.
    check(unsafe { raw::syscall(number, six) })
}

fn address<T: ?Sized>(reference: &T) -> usize {
    core::ptr::from_ref(reference).cast::<u8>() as usize
}

fn address_mut<T: ?Sized>(reference: &mut T) -> usize {
    core::ptr::from_mut(reference).cast::<u8>() as usize
}

fn text(string: &CStr) -> usize {
    string.as_ptr() as usize
}

// --- descriptors -------------------------------------------------------------------------------------------------

/// A file descriptor number, not owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fd(pub(crate) i32);

impl Fd {
    /// Relative to the current directory (`AT_FDCWD`).
    pub(crate) const CWD: Self = Self(-100);

    fn arg(self) -> usize {
        self.0 as usize
    }
}

/// A file descriptor that is closed when dropped. Kept as its complement, which is negative and so never zero: an
/// `Option` of it is four bytes, and a table of a thousand of them one page.
pub(crate) struct Owned(NonZeroI32);

impl Owned {
    pub(crate) fn fd(&self) -> Fd {
        Fd(!self.0.get())
    }

    /// Takes charge of a descriptor number that nothing else owns.
    pub(crate) fn adopt(number: i32) -> Self {
        Self(NonZeroI32::new(!number).unwrap_or(NonZeroI32::MIN))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // EINTR and EIO leave the descriptor closed on Linux (close(2), NOTES), so the result says nothing of use.
        plain(nr::CLOSE, &[self.fd().arg()]).ok();
    }
}

fn owned(result: Result<usize>) -> Result<Owned> {
    Ok(Owned::adopt(result? as i32))
}

pub(crate) const O_RDONLY: usize = 0;
pub(crate) const O_WRONLY: usize = 1;
pub(crate) const O_CREAT: usize = 0o100;
pub(crate) const O_EXCL: usize = 0o200;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const O_PATH: usize = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: usize = 0o100_000;

pub(crate) fn open(dir: Fd, path: &CStr, flags: usize, mode: u32) -> Result<Owned> {
    owned(plain(nr::OPENAT, &[dir.arg(), text(path), flags | O_CLOEXEC, mode as usize]))
}

pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_BENEATH: u64 = 0x08;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;

pub(crate) fn open2(dir: Fd, path: &CStr, flags: usize, resolve: u64) -> Result<Owned> {
    let how = [(flags | O_CLOEXEC) as u64, 0, resolve];
    owned(plain(nr::OPENAT2, &[dir.arg(), text(path), address(&how), size_of_val(&how)]))
}

pub(crate) fn read(fd: Fd, into: &mut [u8]) -> Result<usize> {
    plain(nr::READ, &[fd.arg(), address_mut(into), into.len()])
}

pub(crate) fn pread(fd: Fd, into: &mut [u8], offset: u64) -> Result<usize> {
    plain(nr::PREAD64, &[fd.arg(), address_mut(into), into.len(), offset as usize])
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    plain(nr::WRITE, &[fd.arg(), address(bytes), bytes.len()])
}

/// Writes everything, or fails.
pub(crate) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Duplicates to the lowest free number from `minimum`, close-on-exec.
pub(crate) fn duplicate_from(fd: Fd, minimum: i32) -> Result<i32> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    Ok(plain(nr::FCNTL, &[fd.arg(), F_DUPFD_CLOEXEC, minimum as usize])? as i32)
}

/// Makes `to` a copy of `from` that survives exec.
pub(crate) fn duplicate_to(from: Fd, to: i32) -> Result<()> {
    plain(nr::DUP3, &[from.arg(), to as usize, 0]).map(drop)
}

pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    if first > last {
        return Ok(());
    }
    plain(nr::CLOSE_RANGE, &[first as usize, last as usize, 0]).map(drop)
}

pub(crate) fn pipe() -> Result<(Owned, Owned)> {
    let mut ends = [0_i32; 2];
    plain(nr::PIPE2, &[address_mut(&mut ends), O_CLOEXEC])?;
    Ok((Owned::adopt(ends[0]), Owned::adopt(ends[1])))
}

pub(crate) fn set_nonblocking(fd: Fd) -> Result<()> {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    const O_NONBLOCK: usize = 0o4000;
    let flags = plain(nr::FCNTL, &[fd.arg(), F_GETFL])?;
    plain(nr::FCNTL, &[fd.arg(), F_SETFL, flags | O_NONBLOCK]).map(drop)
}

/// What `statx(2)` tells of an open file: mode and device number.
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) rdev: u64,
}

impl Stat {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
    pub(crate) fn is_character_device(&self) -> bool {
        self.mode & 0o170_000 == 0o020_000
    }
}

pub(crate) fn stat(fd: Fd) -> Result<Stat> {
    // struct statx of <linux/stat.h> is the same on every architecture: stx_mode at 28, stx_rdev_major at 128.
    #[repr(C, align(8))]
    struct Statx([u8; 256]);
    #[cfg(target_arch = "x86_64")]
    const STATX: usize = 332;
    #[cfg(target_arch = "aarch64")]
    const STATX: usize = 291;
    const AT_EMPTY_PATH: usize = 0x1000;
    const STATX_BASIC_STATS: usize = 0x7ff;
    let mut buffer = Statx([0; 256]);
    plain(STATX, &[fd.arg(), text(c""), AT_EMPTY_PATH, STATX_BASIC_STATS, address_mut(&mut buffer)])?;
    let b = &buffer.0;
    let word = |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let (major, minor) = (u64::from(word(128)), u64::from(word(132)));
    Ok(Stat { mode: u32::from(u16::from_ne_bytes([b[28], b[29]])), rdev: major << 32 | minor })
}

// --- files and mounts --------------------------------------------------------------------------------------------

pub(crate) fn mkdir(dir: Fd, name: &CStr, mode: u32) -> Result<()> {
    plain(nr::MKDIRAT, &[dir.arg(), text(name), mode as usize]).map(drop)
}

pub(crate) fn symlink(target: &CStr, dir: Fd, name: &CStr) -> Result<()> {
    plain(nr::SYMLINKAT, &[text(target), dir.arg(), text(name)]).map(drop)
}

pub(crate) fn chmod(fd: Fd, mode: u32) -> Result<()> {
    plain(nr::FCHMOD, &[fd.arg(), mode as usize]).map(drop)
}

pub(crate) fn set_umask(mask: u32) {
    // umask(2) cannot fail.
    plain(nr::UMASK, &[mask as usize]).ok();
}

pub(crate) fn fchdir(fd: Fd) -> Result<()> {
    plain(nr::FCHDIR, &[fd.arg()]).map(drop)
}

pub(crate) fn chdir(path: &CStr) -> Result<()> {
    plain(nr::CHDIR, &[text(path)]).map(drop)
}

/// The first byte of the current directory's path: `/`, or `(` of "(unreachable)" when it lies outside the root.
pub(crate) fn cwd_first_byte() -> Result<u8> {
    let mut buffer = [0_u8; 4096];
    plain(nr::GETCWD, &[address_mut(&mut buffer), buffer.len()])?;
    Ok(buffer[0])
}

pub(crate) const MS_REC: usize = 0x4000;
pub(crate) const MS_PRIVATE: usize = 1 << 18;
pub(crate) const MS_NOSUID: usize = 2;
pub(crate) const MS_NODEV: usize = 4;

pub(crate) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: usize, data: &CStr) -> Result<()> {
    plain(nr::MOUNT, &[text(source), text(target), text(kind), flags, text(data)]).map(drop)
}

pub(crate) fn detach(path: &CStr) -> Result<()> {
    const MNT_DETACH: usize = 2;
    plain(nr::UMOUNT2, &[text(path), MNT_DETACH]).map(drop)
}

pub(crate) fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    plain(nr::PIVOT_ROOT, &[text(new), text(old)]).map(drop)
}

const AT_RECURSIVE: usize = 0x8000;
const AT_EMPTY_PATH: usize = 0x1000;

/// Clones the mount tree at `path` (or at `dir` itself when the path is empty) as a detached tree.
pub(crate) fn clone_tree(dir: Fd, path: &CStr) -> Result<Owned> {
    const OPEN_TREE_CLONE: usize = 1;
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH;
    owned(plain(nr::OPEN_TREE, &[dir.arg(), text(path), flags]))
}

/// Attaches a detached tree on top of what `target` refers to.
pub(crate) fn attach(tree: Fd, target: Fd) -> Result<()> {
    const FROM_EMPTY_PATH: usize = 0x04;
    const TO_EMPTY_PATH: usize = 0x40;
    let flags = FROM_EMPTY_PATH | TO_EMPTY_PATH;
    plain(nr::MOVE_MOUNT, &[tree.arg(), text(c""), target.arg(), text(c""), flags]).map(drop)
}

/// Whether a change of mount attributes reaches the mounts below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    One,
    Tree,
}

/// Sets mount attributes (`MOUNT_ATTR_*`); never clears any.
///
/// A whole tree is also made private: a clone of a shared mount is its peer (mount_namespaces(7)), so later mounts of
/// the host would appear in it, those of the sandbox on the host, and `pivot_root(2)` refuses it.
pub(crate) fn set_attributes(mount: Fd, attributes: u64, reach: Reach) -> Result<()> {
    let (recursive, propagation) = match reach {
        Reach::Tree => (AT_RECURSIVE, MS_PRIVATE as u64),
        Reach::One => (0, 0),
    };
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    let attr: [u64; 4] = [attributes, 0, propagation, 0];
    let flags = AT_EMPTY_PATH | recursive;
    plain(nr::MOUNT_SETATTR, &[mount.arg(), text(c""), flags, address(&attr), size_of_val(&attr)]).map(drop)
}

/// A filesystem being configured: `fsopen(2)` until `fsmount(2)`.
pub(crate) struct Filesystem(Owned);

impl Filesystem {
    pub(crate) fn open(kind: &CStr) -> Result<Self> {
        const FSOPEN_CLOEXEC: usize = 1;
        Ok(Self(owned(plain(nr::FSOPEN, &[text(kind), FSOPEN_CLOEXEC]))?))
    }

    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> Result<()> {
        const FSCONFIG_SET_STRING: usize = 1;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_SET_STRING, text(key), text(value), 0]).map(drop)
    }

    pub(crate) fn flag(&self, key: &CStr) -> Result<()> {
        const FSCONFIG_SET_FLAG: usize = 0;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_SET_FLAG, text(key), 0, 0]).map(drop)
    }

    /// Creates the superblock and a detached mount of it.
    pub(crate) fn mount(self, attributes: u64) -> Result<Owned> {
        const FSCONFIG_CMD_CREATE: usize = 6;
        const FSMOUNT_CLOEXEC: usize = 1;
        plain(nr::FSCONFIG, &[self.0.fd().arg(), FSCONFIG_CMD_CREATE, 0, 0, 0])?;
        owned(plain(nr::FSMOUNT, &[self.0.fd().arg(), FSMOUNT_CLOEXEC, attributes as usize]))
    }
}

// --- namespaces, ids, privileges ---------------------------------------------------------------------------------

pub(crate) const CLONE_NEWTIME: usize = 0x80;
pub(crate) const CLONE_NEWCGROUP: usize = 0x0200_0000;

pub(crate) fn unshare(flags: usize) -> Result<()> {
    plain(nr::UNSHARE, &[flags]).map(drop)
}

pub(crate) fn set_hostname(name: &[u8]) -> Result<()> {
    plain(nr::SETHOSTNAME, &[address(name), name.len()]).map(drop)
}

pub(crate) fn set_domain_name(name: &[u8]) -> Result<()> {
    plain(nr::SETDOMAINNAME, &[address(name), name.len()]).map(drop)
}

/// Sets the `IFF_UP` flag of `lo`. See netdevice(7).
pub(crate) fn loopback_up() -> Result<()> {
    const AF_INET: usize = 2;
    const SOCK_DGRAM_CLOEXEC: usize = 2 | 0o2_000_000;
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP_RUNNING: u8 = 0x41;
    let socket = owned(plain(nr::SOCKET, &[AF_INET, SOCK_DGRAM_CLOEXEC, 0]))?;
    let mut request = [0_u8; 40]; // struct ifreq: 16 bytes of name, then the flags as a short
    request[0] = b'l';
    request[1] = b'o';
    request[16] = IFF_UP_RUNNING;
    plain(nr::IOCTL, &[socket.fd().arg(), SIOCSIFFLAGS, address_mut(&mut request)]).map(drop)
}

pub(crate) fn set_uid(uid: u32) -> Result<()> {
    plain(nr::SETRESUID, &[uid as usize; 3]).map(drop)
}

pub(crate) fn set_gid(gid: u32) -> Result<()> {
    plain(nr::SETRESGID, &[gid as usize; 3]).map(drop)
}

pub(crate) fn clear_groups() -> Result<()> {
    plain(nr::SETGROUPS, &[0, 0]).map(drop)
}

/// Real, effective and saved user id, then the same of the group.
pub(crate) fn ids() -> Result<[u32; 6]> {
    let mut ids = [0_u32; 6];
    let base = address_mut(&mut ids);
    plain(nr::GETRESUID, &[base, base + 4, base + 8])?;
    plain(nr::GETRESGID, &[base + 12, base + 16, base + 20])?;
    Ok(ids)
}

pub(crate) const PR_SET_DUMPABLE: usize = 4;
pub(crate) const PR_SET_KEEPCAPS: usize = 8;
pub(crate) const PR_CAPBSET_READ: usize = 23;
pub(crate) const PR_CAPBSET_DROP: usize = 24;
pub(crate) const PR_SET_SECUREBITS: usize = 28;
pub(crate) const PR_SET_CHILD_SUBREAPER: usize = 36;
pub(crate) const PR_SET_NO_NEW_PRIVS: usize = 38;
pub(crate) const PR_GET_NO_NEW_PRIVS: usize = 39;
pub(crate) const PR_CAP_AMBIENT: usize = 47;
pub(crate) const PR_CAP_AMBIENT_IS_SET: usize = 1;
pub(crate) const PR_CAP_AMBIENT_RAISE: usize = 2;
pub(crate) const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;

/// `prctl(2)` with plain numbers: none of the options above takes a pointer.
pub(crate) fn prctl(option: usize, a: usize, b: usize) -> Result<usize> {
    plain(nr::PRCTL, &[option, a, b, 0, 0])
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets permitted and effective to `keep` and inheritable to `inheritable`.
pub(crate) fn set_capabilities(keep: u64, inheritable: u64) -> Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let (low, high) = (keep as u32, (keep >> 32) as u32);
    let data = [low, low, inheritable as u32, high, high, (inheritable >> 32) as u32]; // effective, permitted, inheritable, twice
    plain(nr::CAPSET, &[address(&header), address(&data)]).map(drop)
}

/// The effective, permitted and inheritable sets.
pub(crate) fn capabilities() -> Result<[u64; 3]> {
    let mut header = [CAPABILITY_VERSION_3, 0];
    let mut data = [0_u32; 6];
    plain(nr::CAPGET, &[address_mut(&mut header), address_mut(&mut data)])?;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok([join(data[0], data[3]), join(data[1], data[4]), join(data[2], data[5])])
}

pub(crate) fn set_session() -> Result<()> {
    plain(nr::SETSID, &[]).map(drop)
}

pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    plain(nr::PRLIMIT64, &[0, resource as usize, address(&limit), 0]).map(drop)
}

/// Installs a filter for this task. The bytes are whole `struct sock_filter`s.
pub(crate) fn install_filter(program: &[u8]) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const INSTRUCTION: usize = 8;
    #[repr(C)]
    struct Fprog {
        length: u16,
        filter: usize,
    }
    let count = program.len() / INSTRUCTION;
    if count == 0 || program.len() % INSTRUCTION != 0 {
        return Err(Errno::EINVAL);
    }
    let fprog = Fprog { length: u16::try_from(count).map_err(|_| Errno::EINVAL)?, filter: address(program) };
    plain(nr::SECCOMP, &[SECCOMP_SET_MODE_FILTER, 0, address(&fprog)]).map(drop)
}

// --- processes and signals ---------------------------------------------------------------------------------------

pub(crate) fn exit(code: i32) -> ! {
    loop {
        plain(nr::EXIT_GROUP, &[code as usize]).ok();
        // A filter that answers exit_group with an errno must not make the process go on.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: raises SIGILL, whose default action ends the process.
        unsafe {
            core::arch::asm!("ud2", options(noreturn, nostack))
        };
        #[cfg(target_arch = "aarch64")]
        // SAFETY: raises SIGTRAP, whose default action ends the process.
        unsafe {
            core::arch::asm!("brk #1", options(noreturn, nostack))
        };
    }
}

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGCHLD: i32 = 17;

/// The two sides of a fork.
pub(crate) enum Fork {
    Child,
    /// Process id of the child, and a pidfd of it.
    Parent(i32, Owned),
}

/// Forks with memory of its own, into a v2 cgroup when one is given.
pub(crate) fn fork(cgroup: Option<Fd>) -> Result<Fork> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd = -1_i32;
    let result = if let Some(cgroup) = cgroup {
        let args: [u64; 11] = [
            CLONE_PIDFD | CLONE_INTO_CGROUP,
            address_mut(&mut pidfd) as u64,
            0,
            0,
            SIGCHLD as u64,
            0,
            0,
            0,
            0,
            0,
            cgroup.0 as u64,
        ];
        plain(nr::CLONE3, &[address(&args), size_of_val(&args)])
    } else {
        // With CLONE_PIDFD the old call stores the descriptor where CLONE_PARENT_SETTID would store the pid. A stack
        // of 0 means: go on with a copy of this one. The order of the last two arguments differs by architecture,
        // and both are 0.
        plain(nr::CLONE, &[CLONE_PIDFD as usize | SIGCHLD as usize, 0, address_mut(&mut pidfd), 0, 0])
    };
    match result? {
        0 => Ok(Fork::Child),
        // SAFETY of meaning, not of memory: the kernel wrote the descriptor before it returned in the parent. The
        // compiler cannot know, so the value is read as the kernel left it.
        pid => Ok(Fork::Parent(pid as i32, Owned::adopt(core::hint::black_box(pidfd)))),
    }
}

/// Executes a program; returns only on failure.
///
/// `argv` and `envp` are offsets of pointer vectors in `image`, which [`Image::relocate`] checked and filled.
pub(crate) fn execve(path: usize, argv: usize, envp: usize) -> Errno {
    match plain(nr::EXECVE, &[path, argv, envp]) {
        Ok(_) => Errno::EPROTO,
        Err(errno) => errno,
    }
}

/// What `wait4(2)` says of one process that ended.
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) status: i32,
    pub(crate) usage: Usage,
}

/// What `struct rusage` tells.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// The largest resident size of any one process.
    pub(crate) max_rss_kib: u64,
}

/// Two timevals, then `ru_maxrss` and 13 more longs.
type RawUsage = [u64; 18];

impl Usage {
    fn from_raw(raw: RawUsage) -> Self {
        Self {
            user_us: raw[0] * 1_000_000 + raw[1],
            system_us: raw[2] * 1_000_000 + raw[3],
            max_rss_kib: raw[4],
        }
    }
}

/// Reaps one child that already ended, or any one, waiting, when `wait` says so. `None`: nothing to reap now.
pub(crate) fn reap(wait: Wait) -> Result<Option<Reaped>> {
    const WNOHANG: usize = 1;
    const __WALL: usize = 0x4000_0000;
    let mut status = 0_i32;
    let flags = __WALL | if wait == Wait::No { WNOHANG } else { 0 };
    let mut usage: RawUsage = [0; 18];
    match plain(nr::WAIT4, &[-1_isize as usize, address_mut(&mut status), flags, address_mut(&mut usage)])? {
        0 => Ok(None),
        pid => Ok(Some(Reaped {
            pid: pid as i32,
            status: core::hint::black_box(status),
            usage: Usage::from_raw(core::hint::black_box(usage)),
        })),
    }
}

/// Whether [`reap`] blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

/// The usage of all children that were reaped.
pub(crate) fn children_usage() -> Usage {
    const RUSAGE_CHILDREN: usize = -1_isize as usize;
    let mut usage: RawUsage = [0; 18];
    // getrusage(2) with this argument and a valid buffer cannot fail.
    plain(nr::GETRUSAGE, &[RUSAGE_CHILDREN, address_mut(&mut usage)]).ok();
    Usage::from_raw(core::hint::black_box(usage))
}

pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    plain(nr::KILL, &[pid as isize as usize, signal as usize]).map(drop)
}

/// Blocks every signal.
pub(crate) fn block_signals() -> Result<()> {
    signal_mask(!0)
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() -> Result<()> {
    signal_mask(0)
}

fn signal_mask(mask: u64) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    plain(nr::RT_SIGPROCMASK, &[SIG_SETMASK, address(&mask), 0, size_of::<u64>()]).map(drop)
}

/// Gives every signal its default action: an ignored one would stay ignored across `execve`.
pub(crate) fn default_signals() {
    let action = [0_u64; 4]; // struct kernel_sigaction: SIG_DFL, no flags, no restorer, empty mask
    for signal in 1..=64_usize {
        // SIGKILL and SIGSTOP answer EINVAL: their action cannot be anything but the default.
        plain(nr::RT_SIGACTION, &[signal, address(&action), 0, size_of::<u64>()]).ok();
    }
}

/// A descriptor that becomes readable when a child changes state.
pub(crate) fn child_signal_fd() -> Result<Owned> {
    const SFD_CLOEXEC_NONBLOCK: usize = 0o2_000_000 | 0o4000;
    let mask = 1_u64 << (SIGCHLD - 1);
    owned(plain(nr::SIGNALFD4, &[-1_isize as usize, address(&mask), size_of::<u64>(), SFD_CLOEXEC_NONBLOCK]))
}

/// One entry for [`poll`]: descriptor, requested events, returned events.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

/// Waits until one of them is ready or the time is over. Interrupted counts as ready for nothing.
pub(crate) fn poll(set: &mut [PollFd], timeout_ns: Option<u64>) -> Result<()> {
    let timeout = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let pointer = timeout.as_ref().map_or(0, |value| address(value));
    match plain(nr::PPOLL, &[address_mut(set), set.len(), pointer, 0, 0]) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Nanoseconds of the clock that no one can set.
pub(crate) fn monotonic() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    clock(CLOCK_MONOTONIC).unwrap_or(0)
}

/// CPU time of a process with all its threads, dead ones included, in nanoseconds (clock_getcpuclockid(3)).
pub(crate) fn process_cpu(pid: u32) -> Result<u64> {
    const CPUCLOCK_SCHED: u32 = 2;
    clock((!pid << 3 | CPUCLOCK_SCHED) as i32 as isize as usize)
}

fn clock(id: usize) -> Result<u64> {
    let mut time = [0_u64; 2];
    plain(nr::CLOCK_GETTIME, &[id, address_mut(&mut time)])?;
    let time = core::hint::black_box(time);
    Ok(time[0] * 1_000_000_000 + time[1])
}

// --- memory ------------------------------------------------------------------------------------------------------

/// A file mapped privately: writes stay in this process.
pub(crate) struct Image {
    base: usize,
    length: usize,
}

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;

impl Image {
    pub(crate) fn map(fd: Fd, length: usize) -> Result<Self> {
        const MAP_PRIVATE: usize = 2;
        let base = plain(nr::MMAP, &[0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.arg(), 0])?;
        Ok(Self { base, length })
    }

    /// The size of a file, by seeking to its end.
    pub(crate) fn size_of_file(fd: Fd) -> Result<usize> {
        const SEEK_END: usize = 2;
        plain(nr::LSEEK, &[fd.arg(), 0, SEEK_END])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `length` bytes long, lives as long as `self`, and is written only through
        // `relocate`, which borrows `self` exclusively. The file behind it is sealed against shrinking by the host.
        unsafe { core::slice::from_raw_parts(self.base as *const u8, self.length) }
    }

    /// Turns `count` 8-byte offsets at `at` into pointers and returns the address of the vector.
    pub(crate) fn relocate(&mut self, at: usize, count: usize) -> Result<usize> {
        let end = count.checked_mul(8).and_then(|bytes| at.checked_add(bytes)).ok_or(Errno::EPROTO)?;
        if end > self.length || at % 8 != 0 {
            return Err(Errno::EPROTO);
        }
        for n in 0..count {
            let slot = (self.base + at + n * 8) as *mut u64;
            // SAFETY: the slot lies inside the private writable mapping (checked above) and is 8-aligned, because the
            // mapping is page-aligned and `at` is a multiple of 8.
            unsafe {
                let offset = slot.read();
                if offset >= self.length as u64 {
                    return Err(Errno::EPROTO);
                }
                slot.write(self.base as u64 + offset);
            }
        }
        Ok(self.base + at)
    }

    /// The pointer in slot `n` of a vector that was relocated, as the address of a C string inside the image.
    pub(crate) fn pointer(&self, at: usize, n: usize) -> Option<usize> {
        let bytes = self.bytes().get(at + n * 8..at + n * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?) as usize)
    }

    /// The C string at an offset.
    pub(crate) fn string(&self, at: usize) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.bytes().get(at..)?).ok()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        plain(nr::MUNMAP, &[self.base, self.length]).ok();
    }
}

/// A page that this process and the payloads it forks share until they execute: where they leave why they failed.
/// A store needs no system call, so no seccomp filter can keep a failure from being reported.
pub(crate) struct SharedPage<T> {
    base: *mut T,
    count: usize,
}

impl<T: Copy + Default> SharedPage<T> {
    pub(crate) fn new(count: usize) -> Result<Self> {
        const MAP_SHARED_ANONYMOUS: usize = 0x21;
        let length = count * size_of::<T>();
        let base = plain(nr::MMAP, &[0, length, PROT_READ | PROT_WRITE, MAP_SHARED_ANONYMOUS, -1_isize as usize, 0])?;
        Ok(Self { base: base as *mut T, count })
    }

    pub(crate) fn store(&self, n: usize, value: T) {
        if n < self.count {
            // SAFETY: inside the mapping, which is never unmapped; volatile, because another process reads it.
            unsafe { self.base.add(n).write_volatile(value) }
        }
    }

    pub(crate) fn load(&self, n: usize) -> T {
        if n < self.count {
            // SAFETY: inside the mapping; `T` is a plain integer record of ours, valid for all bit patterns, and the
            // writer is gone (its status pipe was closed) before we read.
            unsafe { self.base.add(n).read_volatile() }
        } else {
            T::default()
        }
    }
}

// --- messages ----------------------------------------------------------------------------------------------------

#[repr(C)]
struct IoVec {
    base: usize,
    length: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_length: u32,
    iov: usize,
    iov_count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const CONTROL_HEAD: usize = 16;

/// Receives one message and its descriptors. `Ok(None)`: the peer is gone.
///
/// Descriptors are appended to `fds` through `push`.
pub(crate) fn receive<T: Copy + Default>(socket: Fd, mut push: impl FnMut(Owned)) -> Result<Option<T>> {
    const MSG_DONTWAIT: usize = 0x40;
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    const MSG_TRUNC: i32 = 0x20;
    const MSG_CTRUNC: i32 = 0x08;
    #[repr(C, align(8))]
    struct Control([u8; CONTROL_HEAD + super::wire::MAX_FDS * 4 + 4]);
    let mut value = T::default();
    let mut control = Control([0; CONTROL_HEAD + super::wire::MAX_FDS * 4 + 4]);
    let iov = IoVec { base: address_mut(&mut value), length: size_of::<T>() };
    let mut header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(&iov),
        iov_count: 1,
        control: address_mut(&mut control),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let received = plain(nr::RECVMSG, &[socket.arg(), address_mut(&mut header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC])?;
    let header = core::hint::black_box(header);
    let bytes = &core::hint::black_box(&control).0;
    let mut at = 0;
    while at + CONTROL_HEAD <= header.control_length {
        let length = u64::from_ne_bytes(bytes[at..at + 8].try_into().map_err(|_| Errno::EPROTO)?) as usize;
        let level = i32::from_ne_bytes(bytes[at + 8..at + 12].try_into().map_err(|_| Errno::EPROTO)?);
        let kind = i32::from_ne_bytes(bytes[at + 12..at + 16].try_into().map_err(|_| Errno::EPROTO)?);
        if length < CONTROL_HEAD || at + length > header.control_length {
            break;
        }
        if level == SOL_SOCKET && kind == SCM_RIGHTS {
            for number in bytes[at + CONTROL_HEAD..at + length].chunks_exact(4) {
                push(Owned::adopt(i32::from_ne_bytes(number.try_into().map_err(|_| Errno::EPROTO)?)));
            }
        }
        at += length.next_multiple_of(8);
    }
    if received == 0 {
        return Ok(None);
    }
    if header.flags & MSG_CTRUNC != 0 {
        // The space is enough for all that the host may send, so it was our limit of open files.
        return Err(Errno::EMFILE);
    }
    if received != size_of::<T>() || header.flags & MSG_TRUNC != 0 {
        return Err(Errno::EPROTO);
    }
    Ok(Some(core::hint::black_box(value)))
}

/// Sends one message, with one descriptor or none. A full or closed socket is an error; it never raises SIGPIPE.
pub(crate) fn send<T: Copy>(socket: Fd, value: &T, fd: Option<Fd>) -> Result<()> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let iov = IoVec { base: address(value), length: size_of::<T>() };
    let control: [u64; 3] = [
        (CONTROL_HEAD + 4) as u64,
        u64::from(SOL_SOCKET as u32) | u64::from(SCM_RIGHTS as u32) << 32,
        fd.map_or(0, |fd| u64::from(fd.0 as u32)),
    ];
    let header = MsgHdr {
        name: 0,
        name_length: 0,
        iov: address(&iov),
        iov_count: 1,
        control: if fd.is_some() { address(&control) } else { 0 },
        control_length: if fd.is_some() { size_of_val(&control) } else { 0 },
        flags: 0,
    };
    plain(nr::SENDMSG, &[socket.arg(), address(&header), MSG_NOSIGNAL]).map(drop)
}
