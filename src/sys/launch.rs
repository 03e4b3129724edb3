//! From the host program to the init: one `clone3(2)` that borrows the host's memory, one `execveat(2)`.
//!
//! The child shares the host's memory (`CLONE_VM`) while the calling thread sleeps (`CLONE_VFORK`), so the cost does
//! not depend on how large the host is. In exchange, between the two calls:
//! - only raw system calls, on memory that was prepared before: no allocation, no lock, no libc, no thread-local;
//! - a stack of its own;
//! - every signal blocked, 32 and 33 of the C library too, so that no handler of the host runs in the child.

use super::raw::{self, nr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An init that was executed, waiting on its control socket.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Which of the two calls failed.
#[derive(Debug)]
pub(crate) enum LaunchFailure {
    /// `clone3` (or `clone`): no process was made.
    Clone(io::Error),
    /// A step of the child; it is gone again.
    Child { step: &'static str, source: io::Error },
}

/// Enough for the few frames of `child`, unoptimised.
const STACK: usize = 32 * 1024;
const CLONE_VM: u64 = libc::CLONE_VM as u64;
const CLONE_VFORK: u64 = libc::CLONE_VFORK as u64;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Steps of the child, as indices into [`STEPS`].
const STEPS: [&str; 5] = [
    "reading capabilities",
    "making capabilities inheritable",
    "raising ambient capabilities",
    "placing the control socket",
    "executing the init from a memfd",
];

/// What the child reads and writes, in the parent's frame.
#[repr(C)]
struct Shared {
    control: i32,
    init: i32,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    /// Written by the child when it fails: errno, and an index into `STEPS`.
    errno: i32,
    step: usize,
}

/// Starts the init in new namespaces. `control` becomes its descriptor 0 (and, as placeholders, 1 and 2); everything
/// else of the host is closed.
///
/// Both descriptors must be above 3, where the child does not overwrite one with the other.
pub(crate) fn launch(
    namespaces: u64,
    control: BorrowedFd<'_>,
    init: BorrowedFd<'_>,
) -> Result<Launched, LaunchFailure> {
    if control.as_raw_fd() < 4 || init.as_raw_fd() < 4 {
        return Err(LaunchFailure::Clone(io::Error::from_raw_os_error(libc::EBADF)));
    }
    let argv = [c"belljar-init".as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    let mut shared = Shared {
        control: control.as_raw_fd(),
        init: init.as_raw_fd(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        errno: 0,
        step: 0,
    };
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
    let mut pidfd: i32 = -1;
    let flags = namespaces | CLONE_VM | CLONE_VFORK | CLONE_PIDFD;

    let old_mask = block_all_signals();
    // exit_signal 0: nothing to tell anybody before the exec, which resets it to SIGCHLD.
    let mut result = clone3(flags | CLONE_CLEAR_SIGHAND, 0, &mut pidfd, &mut stack, &mut shared);
    if result == -(libc::ENOSYS as isize) {
        // Filters of container engines answer ENOSYS; the old call has all we need but CLONE_CLEAR_SIGHAND, for which
        // the blocked signals stand in.
        result = clone(flags, &mut pidfd, &mut stack, &mut shared);
    }
    restore_signals(old_mask);

    if result < 0 {
        let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
        return Err(LaunchFailure::Clone(io::Error::from_raw_os_error(errno)));
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(result).unwrap_or(0);
    // SAFETY: `shared` lives in this frame; the child that wrote it is past exec or dead, for CLONE_VFORK let us go on.
    let (errno, step) =
        unsafe { ((&raw const shared.errno).read_volatile(), (&raw const shared.step).read_volatile()) };
    if errno != 0 {
        super::process::reap_pidfd(&pidfd).ok();
        let step = STEPS.get(step).copied().unwrap_or("starting the init");
        return Err(LaunchFailure::Child { step, source: io::Error::from_raw_os_error(errno) });
    }
    Ok(Launched { pid, pidfd })
}

/// Tries clone flags in a throw-away child that exits at once.
///
/// As [`launch`] does, it falls back to `clone(2)` where a filter answers `ENOSYS` to `clone3(2)`, and like the init it
/// unshares a time namespace in the child, because `clone(2)` has no flag for it.
pub(crate) fn try_clone(flags: u64) -> io::Result<()> {
    const CLONE_NEWTIME: u64 = libc::CLONE_NEWTIME as u64;
    let exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    let unshared = flags & CLONE_NEWTIME;
    let flags = flags & !CLONE_NEWTIME;
    let args: [u64; 8] = [flags, 0, 0, 0, exit_signal, 0, 0, 0];
    let word = |flags: u64| usize::try_from(flags).unwrap_or(usize::MAX);
    let (clone_flags, unshared) = (word(flags | exit_signal), word(unshared));
    let old_mask = block_all_signals();
    // SAFETY: without CLONE_VM and a stack this is fork(2): the child has its own copy of everything, and makes two
    // raw system calls.
    let mut pid = unsafe {
        raw::syscall(nr::CLONE3, [std::ptr::from_ref(&args) as usize, size_of_val(&args), 0, 0, 0, 0])
    };
    if pid == -(libc::ENOSYS as isize) {
        // SAFETY: as above.
        pid = unsafe { raw::syscall(nr::CLONE, [clone_flags, 0, 0, 0, 0, 0]) };
    }
    if pid == 0 {
        // SAFETY: unshare and exit_group take numbers. An errno fits into the exit code.
        unsafe {
            let result = match unshared {
                0 => 0,
                flags => raw::syscall(nr::UNSHARE, [flags, 0, 0, 0, 0, 0]),
            };
            loop {
                raw::syscall(nr::EXIT_GROUP, [result.unsigned_abs(), 0, 0, 0, 0, 0]);
            }
        }
    }
    restore_signals(old_mask);
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EINVAL)));
    }
    let mut status = 0;
    loop {
        // SAFETY: waitpid with a live status; our own child, by its number, which nobody else reaps in between unless
        // the host reaps everything, and then ECHILD is as good.
        let result = unsafe { libc::waitpid(i32::try_from(pid).unwrap_or(-1), &raw mut status, 0) };
        if result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
            continue;
        }
        return match libc::WEXITSTATUS(status) {
            errno if result >= 0 && libc::WIFEXITED(status) && errno != 0 => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        };
    }
}

fn stack_top(stack: &mut Vec<MaybeUninit<u8>>) -> (usize, usize) {
    let base = stack.as_mut_ptr() as usize;
    let top = (base + stack.capacity()) & !15;
    (base, top - base)
}

fn clone3(
    flags: u64,
    exit_signal: u64,
    pidfd: &mut i32,
    stack: &mut Vec<MaybeUninit<u8>>,
    shared: &mut Shared,
) -> isize {
    let (base, size) = stack_top(stack);
    // struct clone_args of <linux/sched.h>: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let pidfd_at = std::ptr::from_mut(pidfd) as u64;
    let args: [u64; 8] = [flags, pidfd_at, 0, 0, exit_signal, base as u64, size as u64, 0];
    // SAFETY: `args` is a valid clone_args; the stack and `shared` outlive the child's use of them, because CLONE_VFORK
    // suspends this thread until the child has executed the init or exited.
    unsafe { trampoline(nr::CLONE3, [std::ptr::from_ref(&args) as usize, size_of_val(&args), 0], shared) }
}

fn clone(flags: u64, pidfd: &mut i32, stack: &mut Vec<MaybeUninit<u8>>, shared: &mut Shared) -> isize {
    let (base, size) = stack_top(stack);
    let flags = usize::try_from(flags).unwrap_or(0);
    // SAFETY: as in `clone3`; the second argument is the top of the stack, and with CLONE_PIDFD the third is where the
    // descriptor goes.
    unsafe { trampoline(nr::CLONE, [flags, base + size, std::ptr::from_mut(pidfd) as usize], shared) }
}

/// Makes the call; in the child, switches to calling [`child`] with `shared`, which never returns.
///
/// # Safety
///
/// The arguments must describe a child that shares memory, has a stack of its own, and suspends the caller.
#[cfg(target_arch = "x86_64")]
unsafe fn trampoline(number: usize, args: [usize; 3], shared: &mut Shared) -> isize {
    let result: isize;
    // SAFETY: in the parent the asm is a plain system call. In the child, which has rax = 0 and the new stack pointer
    // (16-aligned), it calls `child`; that never returns, so nothing of this frame is popped twice. r12 and r13 are
    // preserved by the kernel. Fourth and fifth argument (child_tid, tls) are zero.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") 0,
            in("r8") 0,
            in("r12") std::ptr::from_mut(shared),
            in("r13") child as extern "C" fn(*mut Shared) -> !,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Makes the call; in the child, switches to calling [`child`] with `shared`, which never returns.
///
/// # Safety
///
/// The arguments must describe a child that shares memory, has a stack of its own, and suspends the caller.
#[cfg(target_arch = "aarch64")]
unsafe fn trampoline(number: usize, args: [usize; 3], shared: &mut Shared) -> isize {
    let result: isize;
    // SAFETY: as for x86-64, with x0 = 0 in the child; x20 and x21 are preserved by the kernel.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") 0,
            in("x4") 0,
            in("x20") std::ptr::from_mut(shared),
            in("x21") child as extern "C" fn(*mut Shared) -> !,
        );
    }
    result
}

/// The child. Runs on the host's memory: raw system calls only.
extern "C" fn child(shared: *mut Shared) -> ! {
    // SAFETY: the parent's frame holds `Shared` and is suspended until we execute or exit; nobody else touches it.
    let shared = unsafe { &mut *shared };
    let (step, errno) = match steps(shared) {
        Ok(()) => (4, libc::EIO),
        Err(failure) => failure,
    };
    shared.step = step;
    shared.errno = errno;
    loop {
        // SAFETY: exit_group of this child only (CLONE_VM without CLONE_THREAD); it touches no memory.
        unsafe { raw::syscall(nr::EXIT_GROUP, [1, 0, 0, 0, 0, 0]) };
    }
}

fn steps(shared: &Shared) -> Result<(), (usize, i32)> {
    let call = |step: usize, number: usize, args: [usize; 6]| -> Result<usize, (usize, i32)> {
        // SAFETY: every call below passes numbers or addresses of live locals of the right size.
        let result = unsafe { raw::syscall(number, args) };
        usize::try_from(result).map_err(|_| (step, i32::try_from(-result).unwrap_or(libc::EIO)))
    };

    // `execve` in a user namespace with an unmapped user id drops every capability that is not ambient, and ambient
    // ones must be permitted and inheritable (capabilities(7)). Without a capability this does nothing.
    let mut header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0_u32; 6];
    let header_at = std::ptr::from_mut(&mut header) as usize;
    let sets_at = std::ptr::from_mut(&mut sets) as usize;
    call(0, nr::CAPGET, [header_at, sets_at, 0, 0, 0, 0])?;
    // SAFETY: `sets` is a live local; the volatile read makes the compiler take what the kernel wrote.
    let mut sets = unsafe { std::ptr::from_ref(&sets).read_volatile() };
    let permitted = u64::from(sets[1]) | u64::from(sets[4]) << 32;
    if permitted != 0 {
        sets[2] = sets[1];
        sets[5] = sets[4];
        let sets_at = std::ptr::from_ref(&sets) as usize;
        call(1, nr::CAPSET, [header_at, sets_at, 0, 0, 0, 0])?;
        let mut n = 0;
        while n < 64 {
            if permitted & 1 << n != 0 {
                call(
                    2,
                    nr::PRCTL,
                    [libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_RAISE as usize, n, 0, 0, 0],
                )?;
            }
            n += 1;
        }
    }

    let control = shared.control.unsigned_abs() as usize;
    for target in 0..3 {
        call(3, nr::DUP3, [control, target, 0, 0, 0, 0])?;
    }
    let cloexec = libc::O_CLOEXEC as usize;
    call(3, nr::DUP3, [shared.init.unsigned_abs() as usize, 3, cloexec, 0, 0, 0])?;
    call(3, nr::CLOSE_RANGE, [4, u32::MAX as usize, 0, 0, 0, 0])?;
    let empty = c"".as_ptr() as usize;
    let flags = libc::AT_EMPTY_PATH as usize;
    call(4, nr::EXECVEAT, [3, empty, shared.argv as usize, shared.envp as usize, flags, 0])?;
    Ok(())
}

pub(super) fn block_all_signals() -> u64 {
    mask_signals(!0)
}

pub(super) fn restore_signals(old: u64) {
    mask_signals(old);
}

fn mask_signals(new: u64) -> u64 {
    let mut old = 0_u64;
    // The C library's sigprocmask leaves its own signals 32 and 33 alone; the system call does not.
    let args = [
        libc::SIG_SETMASK as usize,
        std::ptr::from_ref(&new) as usize,
        std::ptr::from_mut(&mut old) as usize,
        size_of::<u64>(),
        0,
        0,
    ];
    // SAFETY: both pointers are to live 8-byte locals, the size of the kernel's sigset_t. It cannot fail with a valid
    // `how` and valid pointers.
    unsafe { raw::syscall(nr::RT_SIGPROCMASK, args) };
    // SAFETY: `old` is a live local, read back as the kernel left it.
    unsafe { std::ptr::from_ref(&old).read_volatile() }
}
