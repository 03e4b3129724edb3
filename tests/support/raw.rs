//! The few raw system calls that roles and oracles make.
#![expect(unsafe_code, reason = "system calls that nix does not wrap")]

use std::io;

/// Any system call with up to six numbers. Only for calls whose arguments are numbers or deliberately bad pointers.
pub(crate) fn syscall(number: i64, args: [usize; 6]) -> io::Result<i64> {
    // SAFETY: the callers pass numbers, null pointers, or addresses that the kernel refuses or that stay alive; the
    // kernel checks every pointer that it follows.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `fork(2)` for roles. Where there are other threads, the copy may wait for ever for a lock that one of them has.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: it takes nothing. Where roles have one thread the copy may do whatever the parent may; where a test is about others, it
    // uses what fork(3) of the C library keeps whole, and locks that it is the test's to find free.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// Seconds of a clock.
pub(crate) fn clock(id: i32) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    #[expect(clippy::cast_precision_loss, reason = "seconds since boot")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

/// Sets the disposition of a signal to ignore or default.
pub(crate) fn disposition(signal: i32, ignore: bool) {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither disposition runs a handler.
    unsafe { libc::signal(signal, action) };
}

/// Closes a descriptor whoever owns it, as careless hosts do.
pub(crate) fn close(fd: i32) {
    // SAFETY: roles close stdio or descriptors they opened raw.
    unsafe { libc::close(fd) };
}

/// `openpty(3)`: whether a pair can be made and carries a byte.
pub(crate) fn openpty_works() -> io::Result<()> {
    let (mut main, mut other) = (-1, -1);
    // SAFETY: live integers; null for name, termios and window size.
    let result = unsafe {
        libc::openpty(
            &raw mut main,
            &raw mut other,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: one byte of a live buffer.
    let written = unsafe { libc::write(main, b"x\n".as_ptr().cast(), 2) };
    let mut byte = 0_u8;
    // SAFETY: one byte of a live buffer.
    let read = unsafe { libc::read(other, (&raw mut byte).cast(), 1) };
    if written == 2 && read == 1 && byte == b'x' { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a descriptor by its number, whoever owns it.
pub(crate) fn read_to_end(fd: i32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: a live buffer of that length.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(count) {
            Err(_) => return Err(io::Error::last_os_error()),
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Ends by a fault in a file of this name, which the kernel's log then has at the end of a line, after ours at its
/// beginning.
pub(crate) fn fault_in(name: &str) -> ! {
    let name = std::ffi::CString::new(name).expect("no zero in it");
    // SAFETY: memfd_create(2) and mmap(2) take these values, and the mapping is new. What is called is not executable, so
    // the call ends the process, which is what it is for.
    unsafe {
        let fd = libc::memfd_create(name.as_ptr(), 0);
        libc::ftruncate(fd, 4096);
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
        let function: extern "C" fn() -> ! = std::mem::transmute(page);
        function()
    }
}

/// Sets an extended attribute of a file.
pub(crate) fn set_attribute(path: &std::path::Path, name: &str, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let name = std::ffi::CString::new(name)?;
    // SAFETY: both strings end with a zero byte, and the value has as many bytes as is said.
    let set = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `FS_XFLAG_PROJINHERIT`: what is made in the directory gets its project.
pub(crate) const PROJINHERIT: u32 = 0x200;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProjectAttributes {
    pub(crate) flags: u32,
    pub(crate) extents: [u32; 2],
    pub(crate) id: u32,
    pub(crate) rest: [u32; 3],
}

/// The project of an open file or directory.
pub(crate) fn project(file: &std::fs::File) -> io::Result<ProjectAttributes> {
    let mut attributes = ProjectAttributes::default();
    attribute_call(file, 0x801c_581f, &mut attributes)?;
    Ok(attributes)
}

pub(crate) fn set_project(file: &std::fs::File, mut attributes: ProjectAttributes) -> io::Result<()> {
    attribute_call(file, 0x401c_5820, &mut attributes)
}

/// `FS_IOC_FSGETXATTR` or `FS_IOC_FSSETXATTR`.
fn attribute_call(file: &std::fs::File, command: u32, attributes: &mut ProjectAttributes) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor, and a live struct of the size that is in the command.
    let result =
        unsafe { libc::syscall(libc::SYS_ioctl, file.as_raw_fd(), command, std::ptr::from_mut(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes to each page of a file by a shared mapping. A page for which there is no room is `SIGBUS`.
pub(crate) fn touch_pages(file: &std::fs::File, length: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a new mapping of an open file, and writes inside of it.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        for offset in (0..length).step_by(4096) {
            start.cast::<u8>().add(offset).write_volatile(1);
        }
    }
    Ok(())
}

/// Makes a system call of this process answer `ENOSYS` from now on, as a kernel does that does not have it.
pub(crate) fn make_unknown(number: i64) -> io::Result<()> {
    let number = u32::try_from(number).map_err(io::Error::other)?;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut lines = [
        line(0x20, 0, 0, 0), // the number
        line(0x15, 0, 1, number),
        line(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        line(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: lines.as_mut_ptr() };
    // SAFETY: a live program of as many instructions as it says.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Interrupts this process again and again, by a signal that does nothing else.
pub(crate) fn tick(pause: std::time::Duration) {
    extern "C" fn nothing(_: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: zero is a valid struct sigaction; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
    }
    let every = libc::timeval { tv_sec: 0, tv_usec: pause.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a live itimerval; nobody asks for the old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

/// Lets a signal do nothing but interrupt.
pub(crate) fn interrupt_by(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: zero is a valid struct sigaction; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Writes to a segment of System V shared memory.
pub(crate) fn write_shared(id: i64, bytes: &[u8]) -> io::Result<()> {
    with_shared(id, |start| {
        // SAFETY: segments have a page at least, and what is written fits.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len().min(4096)) };
    })
}

/// Reads the beginning of one.
pub(crate) fn read_shared(id: i64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(4096)];
    with_shared(id, |start| {
        // SAFETY: segments have a page at least.
        unsafe { std::ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), bytes.len()) };
    })?;
    Ok(bytes)
}

fn with_shared(id: i64, act: impl FnOnce(*mut u8)) -> io::Result<()> {
    let id = i32::try_from(id).map_err(io::Error::other)?;
    // SAFETY: the kernel chooses the address; `act` stays within a page of it, and nobody keeps it.
    unsafe {
        let start = libc::shmat(id, std::ptr::null(), 0);
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        act(start.cast());
        libc::shmdt(start);
    }
    Ok(())
}

/// `getpid(2)` by the table of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_of_i386() -> i64 {
    let result: i64;
    // SAFETY: a call without arguments; what it overwrites is named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

/// The name of a network interface by its number.
pub(crate) fn interface_name(number: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: a live buffer of the length that the call needs.
    let found = unsafe { libc::if_indextoname(number, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

/// Sends itself a message with credentials that say it is somebody else.
pub(crate) fn send_credentials(pid: i32, uid: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (from, _to) = std::os::unix::net::UnixStream::pair()?;
    let credentials = libc::ucred { pid, uid, gid: 0 };
    // `struct cmsghdr`, aligned as the kernel wants it, and the credentials.
    let length = size_of::<libc::cmsghdr>() + size_of::<libc::ucred>();
    let mut control = [0_u64; 8];
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeros is a value of this type, and every pointer in it leads to what lives until the call returns. The
    // header and the credentials fit in the buffer, which is aligned for both.
    unsafe {
        let header = control.as_mut_ptr().cast::<libc::cmsghdr>();
        (*header).cmsg_len = length;
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_CREDENTIALS;
        libc::CMSG_DATA(header).cast::<libc::ucred>().write_unaligned(credentials);
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = length;
        if libc::sendmsg(from.as_raw_fd(), &raw const message, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes a terminal the controlling one of this process, which leads a session of its own then.
pub(crate) fn take_terminal(terminal: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    // SAFETY: calls with numbers only.
    unsafe {
        libc::setsid();
        if libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A new pair of pseudo-terminal ends, the terminal last.
pub(crate) fn terminal_pair() -> io::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut main, mut other) = (-1, -1);
    // SAFETY: live integers; null for name, termios and window size. The descriptors are new and nobody else's.
    unsafe {
        let null = std::ptr::null_mut();
        if libc::openpty(&raw mut main, &raw mut other, null, std::ptr::null_mut(), std::ptr::null_mut()) < 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(main), OwnedFd::from_raw_fd(other)))
    }
}

/// Writes to each page of a segment of System V shared memory.
pub(crate) fn touch_shared(id: i64, length: usize) -> io::Result<()> {
    with_shared(id, |start| {
        for offset in (0..length).step_by(4096) {
            // SAFETY: inside of the segment, which is as long as the caller has made it.
            unsafe { start.add(offset).write_volatile(1) };
        }
    })
}

/// Writes so many bytes, each so far from the one before, to memory of its own.
pub(crate) fn touch_sparsely(count: usize, distance: usize) -> io::Result<()> {
    // SAFETY: a new mapping, and writes inside of it.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            count * distance,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Not huge ones, of which one would be enough.
        libc::madvise(start, count * distance, libc::MADV_NOHUGEPAGE);
        for n in 0..count {
            start.cast::<u8>().add(n * distance).write_volatile(1);
        }
        libc::munmap(start, count * distance);
    }
    Ok(())
}

/// Whether a byte of a file is in memory, by a read that does not wait (`RWF_NOWAIT` of `preadv2(2)`).
pub(crate) fn is_cached(file: &std::fs::File, offset: i64) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let mut byte = 0_u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: one live byte to read into.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
    match count {
        1 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}

/// The core scheduling cookie of a process, 0 for this one.
pub(crate) fn core_cookie(pid: u32) -> io::Result<u64> {
    let mut cookie = 0_u64;
    // SAFETY: PR_SCHED_CORE_GET writes one u64 to a live variable.
    let result = unsafe { libc::prctl(62, 0_u64, u64::from(pid), 0_u64, &raw mut cookie) };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
