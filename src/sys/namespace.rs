//! Namespaces that nothing runs in yet, and how namespaces are related. See `ioctl_ns(2)`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::launch::{self, CLONE_FILES, CLONE_PIDFD, CLONE_VFORK, CLONE_VM, STACK, Stack};
use super::process::{reap_pidfd, send_signal};
use super::raw::{self, nr};

/// Makes namespaces by a process that does nothing else, calls `act` with its id while it is in them, and ends it. In a
/// network namespace the loopback interface is up by then.
///
/// The process shares this one's memory, whose size therefore does not matter, but only makes system calls, on a stack of
/// its own. It ends with this one.
pub(crate) fn with_new_namespaces<T>(flags: u64, act: impl FnOnce(i32) -> T) -> io::Result<T> {
    let (answer, told) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut stack: Stack = Vec::with_capacity(STACK);
    let network = flags & u64::from(libc::CLONE_NEWNET.unsigned_abs()) != 0;
    let mut maker = Box::new(Maker { told: told.as_raw_fd(), network });
    let mut pidfd: i32 = -1;
    let old_mask = launch::block_all_signals();
    let at = (&raw mut *maker).cast();
    let pid = launch::clone_child(flags | CLONE_VM | CLONE_PIDFD, &raw mut pidfd, &mut stack, at, make);
    launch::restore_signals(old_mask);
    drop(told);
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EINVAL)));
    }
    // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd((&raw const pidfd).read_volatile()) };
    let running = Running { pidfd, memory: Some((stack, maker)) };
    // Its end, if something kills it, is the end of the pipe.
    let (mut errno, mut answer) = ([0; 4], File::from(answer));
    answer.read_exact(&mut errno)?;
    match i32::from_ne_bytes(errno) {
        0 => {}
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    let result = act(i32::try_from(pid).unwrap_or(0));
    drop(running);
    Ok(result)
}

/// Makes a user namespace with these maps and returns a descriptor of it. It exists to describe an id map to
/// [`idmap_tree`](super::idmap_tree); nothing runs in it.
pub(crate) fn map_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let flags = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    let file = with_new_namespaces(flags, |pid| {
        std::fs::write(format!("/proc/{pid}/uid_map"), uid_map)
            .and_then(|()| std::fs::write(format!("/proc/{pid}/gid_map"), gid_map))
            .and_then(|()| File::open(format!("/proc/{pid}/ns/user")))
    })??;
    Ok(file.into())
}

/// What the process that makes namespaces is told.
struct Maker {
    told: i32,
    network: bool,
}

/// That process, and the memory that it runs on, which is given up only when it is gone.
struct Running {
    pidfd: OwnedFd,
    memory: Option<(Stack, Box<Maker>)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let ended = send_signal(&self.pidfd, libc::SIGKILL).and_then(|()| reap_pidfd(&self.pidfd));
        if ended.is_err() {
            // Nobody can say that it is gone.
            std::mem::forget(self.memory.take());
        }
    }
}

/// Runs on the host's memory: raw system calls only.
extern "C" fn make(maker: *mut libc::c_void) -> ! {
    // SAFETY: the host keeps it until this process is gone, and does not touch it meanwhile.
    let maker = unsafe { &*maker.cast::<Maker>() };
    let call = |number, arguments| {
        // SAFETY: every call below passes numbers, or addresses of live locals of the right size.
        unsafe { raw::syscall(number, arguments) }
    };
    let told = maker.told.unsigned_abs() as usize;
    // The host's other descriptors are none of our business.
    if told > 0 {
        call(nr::CLOSE_RANGE, [0, told - 1, 0, 0, 0, 0]);
    }
    call(nr::CLOSE_RANGE, [told + 1, u32::MAX as usize, 0, 0, 0, 0]);
    let failed = if maker.network { loopback_up(&call) } else { 0 };
    let errno = i32::try_from(-failed).unwrap_or(libc::EIO);
    let at = std::ptr::from_ref(&errno) as usize;
    call(nr::WRITE, [told, at, size_of_val(&errno), 0, 0, 0]);
    // Until it is killed, or the host is gone: a pipe that nobody reads is an error.
    let pipe = libc::pollfd { fd: maker.told, events: 0, revents: 0 };
    call(nr::PPOLL, [std::ptr::from_ref(&pipe) as usize, 1, 0, 0, 0, 0]);
    launch::exit()
}

/// A procfs, mounted nowhere, of a PID namespace in which nothing runs and nothing will. See `pid_namespaces(7)`.
pub(crate) fn empty_procfs() -> io::Result<OwnedFd> {
    let newpid = u64::from(libc::CLONE_NEWPID.unsigned_abs());
    // The child's new descriptor arrives in this process's table.
    let flags = newpid | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_FILES;
    let mut stack: Stack = Vec::with_capacity(STACK);
    let mut pidfd: i32 = -1;
    // 0: it was killed before it could say anything.
    let mut result = Box::new(0_isize);
    let old_mask = launch::block_all_signals();
    let at = (&raw mut *result).cast();
    let pid = launch::clone_child(flags, &raw mut pidfd, &mut stack, at, mount_procfs);
    launch::restore_signals(old_mask);
    let failed = |result: isize| io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL));
    if pid < 0 {
        return Err(failed(pid));
    }
    // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd((&raw const pidfd).read_volatile()) };
    reap_pidfd(&pidfd).ok();
    // SAFETY: it lives here, and the child that wrote it is dead: CLONE_VFORK let us go on.
    let result = unsafe { (&raw const *result).read_volatile() };
    match i32::try_from(result) {
        // SAFETY: the child's fsmount returned a new descriptor in the table that it shared.
        Ok(fd) if fd > 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(0) => Err(io::Error::from_raw_os_error(libc::EINTR)),
        _ => Err(failed(result)),
    }
}

/// Runs on the host's memory: raw system calls only.
extern "C" fn mount_procfs(result: *mut libc::c_void) -> ! {
    const FSOPEN_CLOEXEC: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    const FSMOUNT_CLOEXEC: usize = 1;
    const NOSUID_NODEV_NOEXEC: usize = 0xe;
    let call = |number, arguments| {
        // SAFETY: every call below passes numbers, or the address of a constant.
        unsafe { raw::syscall(number, arguments) }
    };
    let mount = || {
        let context = call(nr::FSOPEN, [c"proc".as_ptr() as usize, FSOPEN_CLOEXEC, 0, 0, 0, 0]);
        if context < 0 {
            return context;
        }
        let context = context.unsigned_abs();
        let mut mount = call(nr::FSCONFIG, [context, FSCONFIG_CMD_CREATE, 0, 0, 0, 0]);
        if mount == 0 {
            mount = call(nr::FSMOUNT, [context, FSMOUNT_CLOEXEC, NOSUID_NODEV_NOEXEC, 0, 0, 0]);
        }
        call(nr::CLOSE, [context, 0, 0, 0, 0, 0]);
        mount
    };
    let mounted = mount();
    // SAFETY: the host keeps it until this process is gone, and does not touch it meanwhile.
    unsafe { result.cast::<isize>().write_volatile(mounted) };
    launch::exit()
}

/// 0, or what the kernel says against it.
fn loopback_up(call: &impl Fn(usize, [usize; 6]) -> isize) -> isize {
    const SIOCSIFFLAGS: usize = 0x8914;
    const IFF_UP_RUNNING: u8 = 0x41;
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).unsigned_abs() as usize;
    let socket = call(nr::SOCKET, [libc::AF_INET.unsigned_abs() as usize, kind, 0, 0, 0, 0]);
    if socket < 0 {
        return socket;
    }
    // struct ifreq: 16 bytes of name, then the flags as a short.
    let mut request = [0_u8; 40];
    request[0] = b'l';
    request[1] = b'o';
    request[16] = IFF_UP_RUNNING;
    call(nr::IOCTL, [socket.unsigned_abs(), SIOCSIFFLAGS, std::ptr::from_ref(&request) as usize, 0, 0, 0])
}

/// The user namespace that owns a namespace. `EPERM` if it is not within this process's own.
pub(crate) fn owner_of_namespace(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    related(namespace, NS_GET_USERNS)
}

/// The user namespace that a user namespace was made in. `EPERM` if it is not within this process's own.
pub(crate) fn parent_of_namespace(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    related(namespace, NS_GET_PARENT)
}

fn related(namespace: &OwnedFd, request: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: both requests take no argument and return a new descriptor, with close-on-exec set.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), request as libc::Ioctl) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
