//! From the host program to the init: one `clone3(2)` that borrows the host's memory, one `execveat(2)`.
//!
//! The child shares the host's memory (`CLONE_VM`) while the calling thread sleeps (`CLONE_VFORK`), so the cost does
//! not depend on how large the host is. In exchange, between the two calls:
//! - only raw system calls, on memory that was prepared before: no allocation, no lock, no libc, no thread-local;
//! - a stack of its own;
//! - every signal blocked, 32 and 33 of the C library too, so that no handler of the host runs in the child.
//!
//! An init that starts in namespaces that exist takes two children: the first enters them by `setns(2)`, which this process
//! could not do for one of its threads, and clones the second, which is the init, as a child of this process
//! (`CLONE_PARENT`). It shares the table of descriptors, so that the pidfd of the init arrives here.

use super::raw::{self, nr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An init that was executed, waiting on its control socket.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// This process's effective ids as the user namespace sees them that the init's own is within.
    pub(crate) seen_as: (u32, u32),
}

/// A namespace that the init starts in: a descriptor of it, and its kind as a clone flag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrance<'a> {
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) kind: u64,
}

/// Which of the calls failed.
#[derive(Debug)]
pub(crate) enum LaunchFailure {
    /// `setns` into the entrance of this number: no process was made.
    Enter { number: usize, source: io::Error },
    /// `clone3` (or `clone`): no process was made.
    Clone(io::Error),
    /// A step of the child; it is gone again.
    Child { step: &'static str, source: io::Error },
}

/// Enough for the few frames of `child`, unoptimised.
pub(super) const STACK: usize = 32 * 1024;
pub(super) const CLONE_VM: u64 = libc::CLONE_VM as u64;
pub(super) const CLONE_VFORK: u64 = libc::CLONE_VFORK as u64;
pub(super) const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(super) const CLONE_FILES: u64 = libc::CLONE_FILES as u64;
const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// Steps of the child, as indices into [`STEPS`].
const STEPS: [&str; 5] = [
    "reading capabilities",
    "making capabilities inheritable",
    "raising ambient capabilities",
    "placing the control socket",
    "executing the init from a memfd",
];

pub(super) type Stack = Vec<MaybeUninit<u8>>;

/// What the children read and write, each its own part.
#[repr(C)]
struct Shared {
    passage: Passage,
    execution: Execution,
}

/// What the init's process reads and writes.
#[repr(C)]
struct Execution {
    control: i32,
    init: i32,
    argv: [*const libc::c_char; 2],
    envp: [*const libc::c_char; 1],
    /// Written by the init's process when it fails: errno, and an index into `STEPS`.
    errno: i32,
    step: usize,
}

/// What the first of two children reads and writes.
#[repr(C)]
struct Passage {
    entrances: *const Entrance<'static>,
    count: usize,
    /// How many of them it has entered.
    entered: usize,
    /// Why it could not enter the next.
    refused: i32,
    flags: u64,
    stack: Stack,
    uids: [u32; 3],
    gids: [u32; 3],
    /// What its `clone3` returned; 0 before.
    result: isize,
    pidfd: i32,
    /// It came to its end, and the init's process is past its exec or dead.
    done: bool,
}

/// Starts the init in new namespaces, within those of the entrances, which are entered in order. `control` becomes its
/// descriptor 0 (and, as placeholders, 1 and 2); everything else of the host is closed.
///
/// Both descriptors must be above 3, where the child does not overwrite one with the other.
pub(crate) fn launch(
    namespaces: u64,
    entrances: &[Entrance<'_>],
    control: BorrowedFd<'_>,
    init: BorrowedFd<'_>,
) -> Result<Launched, LaunchFailure> {
    if control.as_raw_fd() < 4 || init.as_raw_fd() < 4 {
        return Err(LaunchFailure::Clone(io::Error::from_raw_os_error(libc::EBADF)));
    }
    let mut stack: Stack = Vec::with_capacity(STACK);
    let mut pidfd: i32 = -1;
    let flags = namespaces | CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
    let mut shared = Box::new(Shared {
        execution: Execution {
            control: control.as_raw_fd(),
            init: init.as_raw_fd(),
            argv: [c"belljar-init".as_ptr(), std::ptr::null()],
            envp: [std::ptr::null()],
            errno: 0,
            step: 0,
        },
        passage: Passage {
            entrances: entrances.as_ptr().cast(),
            count: entrances.len(),
            entered: 0,
            refused: 0,
            flags: flags | CLONE_PARENT,
            stack: Vec::with_capacity(if entrances.is_empty() { 0 } else { STACK }),
            uids: [0; 3],
            gids: [0; 3],
            result: 0,
            pidfd: -1,
            done: false,
        },
    });
    let (first_flags, entry): (u64, Entry) = match entrances {
        [] => (flags, child),
        _ => (CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_FILES, enter),
    };

    let old_mask = block_all_signals();
    let result = clone_child(first_flags, &raw mut pidfd, &mut stack, (&raw mut *shared).cast(), entry);
    restore_signals(old_mask);

    let mut result = made(result)?;
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there, which nobody else owns.
    let mut pidfd = unsafe { OwnedFd::from_raw_fd((&raw const pidfd).read_volatile()) };
    // SAFETY (of all reads of `shared` below): it lives here; the child that wrote it is past exec or dead, for
    // CLONE_VFORK let us go on. The volatile reads make the compiler take what another process wrote.
    macro_rules! written {
        ($($field:ident).+) => {
            // SAFETY: as above; the field is initialised and of a plain type.
            unsafe { (&raw const shared.$($field).+).read_volatile() }
        };
    }
    let mut seen_as = (0, 0);
    if !entrances.is_empty() {
        super::process::reap_pidfd(&pidfd).ok();
        if !written!(passage.done) {
            // Somebody killed the first child, for which nothing but this call waited. The second may still be on its way
            // to its exec, on this memory, which therefore stays; its socket is at an end, and so it ends.
            Box::leak(shared);
            return Err(LaunchFailure::Clone(io::Error::from_raw_os_error(libc::EINTR)));
        }
        if written!(passage.refused) != 0 {
            let source = io::Error::from_raw_os_error(written!(passage.refused));
            return Err(LaunchFailure::Enter { number: written!(passage.entered), source });
        }
        result = made(written!(passage.result))?;
        let inner = written!(passage.pidfd);
        // SAFETY: the child's clone3 succeeded with CLONE_PIDFD in the table of descriptors that it shared, so the kernel
        // stored a new descriptor there, which nobody else owns.
        pidfd = unsafe { OwnedFd::from_raw_fd(inner) };
        // The effective ids are the second of three.
        seen_as = (written!(passage.uids)[1], written!(passage.gids)[1]);
    }
    let (errno, step) = (written!(execution.errno), written!(execution.step));
    if errno != 0 {
        super::process::reap_pidfd(&pidfd).ok();
        let step = STEPS.get(step).copied().unwrap_or("starting the init");
        return Err(LaunchFailure::Child { step, source: io::Error::from_raw_os_error(errno) });
    }
    Ok(Launched { pid: result, pidfd, seen_as })
}

/// The process id that a clone returned.
fn made(result: isize) -> Result<i32, LaunchFailure> {
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => {
            let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
            Err(LaunchFailure::Clone(io::Error::from_raw_os_error(errno)))
        }
    }
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

fn stack_top(stack: &mut Stack) -> (usize, usize) {
    let base = stack.as_mut_ptr() as usize;
    let top = (base + stack.capacity()) & !15;
    (base, top - base)
}

/// What a child does, on memory that it shares with its parent.
pub(super) type Entry = extern "C" fn(*mut libc::c_void) -> !;

/// Clones a child with these flags, which share memory, by `clone3` or what there is of it. The stack, and what `shared`
/// points to, must outlive the child's use of them: by `CLONE_VFORK`, or because the caller waits for its end.
///
/// It is called on the host's memory by a child, too: raw system calls only.
pub(super) fn clone_child(
    flags: u64,
    pidfd: *mut i32,
    stack: &mut Stack,
    shared: *mut libc::c_void,
    entry: Entry,
) -> isize {
    let (base, size) = stack_top(stack);
    // struct clone_args of <linux/sched.h>: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    // exit_signal 0: nothing to tell anybody before the exec, which resets it to SIGCHLD.
    let args: [u64; 8] = [flags | CLONE_CLEAR_SIGHAND, pidfd as u64, 0, 0, 0, base as u64, size as u64, 0];
    // SAFETY: `args` is a valid clone_args; that the stack and `shared` outlive the child's use of them is the caller's
    // promise.
    let result = unsafe {
        trampoline(nr::CLONE3, [std::ptr::from_ref(&args) as usize, size_of_val(&args), 0], shared, entry)
    };
    if result != -(libc::ENOSYS as isize) {
        return result;
    }
    // Filters of container engines answer ENOSYS; the old call has all we need but CLONE_CLEAR_SIGHAND, for which the
    // blocked signals stand in.
    let flags = usize::try_from(flags).unwrap_or(0);
    // SAFETY: as above; the second argument is the top of the stack, and with CLONE_PIDFD the third is where the
    // descriptor goes.
    unsafe { trampoline(nr::CLONE, [flags, base + size, pidfd as usize], shared, entry) }
}

/// Makes the call; in the child, switches to calling `entry` with `shared`, which never returns.
///
/// # Safety
///
/// The arguments must describe a child that shares memory and has a stack of its own; both must outlive its use of them.
#[cfg(target_arch = "x86_64")]
unsafe fn trampoline(number: usize, args: [usize; 3], shared: *mut libc::c_void, entry: Entry) -> isize {
    let result: isize;
    // SAFETY: in the parent the asm is a plain system call. In the child, which has rax = 0 and the new stack pointer
    // (16-aligned), it calls `entry`; that never returns, so nothing of this frame is popped twice. r12 and r13 are
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
            in("r12") shared,
            in("r13") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Makes the call; in the child, switches to calling `entry` with `shared`, which never returns.
///
/// # Safety
///
/// The arguments must describe a child that shares memory and has a stack of its own; both must outlive its use of them.
#[cfg(target_arch = "aarch64")]
unsafe fn trampoline(number: usize, args: [usize; 3], shared: *mut libc::c_void, entry: Entry) -> isize {
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
            in("x20") shared,
            in("x21") entry,
        );
    }
    result
}

/// The first of two children: enters the namespaces and clones the second. Runs on the host's memory: raw system calls
/// only.
extern "C" fn enter(shared: *mut libc::c_void) -> ! {
    let shared: *mut Shared = shared.cast();
    // SAFETY: the parent holds `Shared` and is suspended until we exit; nobody else uses this part of it meanwhile.
    let passage = unsafe { &mut (*shared).passage };
    while passage.entered < passage.count {
        // SAFETY: the parent's frame has this many entrances there.
        let entrance = unsafe { passage.entrances.add(passage.entered).read() };
        let fd = entrance.namespace.as_raw_fd().unsigned_abs() as usize;
        let arguments = [fd, usize::try_from(entrance.kind).unwrap_or(usize::MAX), 0, 0, 0, 0];
        // SAFETY: a descriptor and a number; what changes are the namespaces of this child only, which shares neither a
        // thread group nor the root and working directory with anybody.
        let result = unsafe { raw::syscall(nr::SETNS, arguments) };
        if result < 0 {
            passage.refused = i32::try_from(-result).unwrap_or(libc::EINVAL);
            break;
        }
        passage.entered += 1;
    }
    if passage.refused == 0 {
        let three = |number, ids: &mut [u32; 3]| {
            let at = ids.as_mut_ptr() as usize;
            // SAFETY: the call writes three numbers to the three fields, and cannot fail then.
            unsafe { raw::syscall(number, [at, at + 4, at + 8, 0, 0, 0]) };
        };
        three(nr::GETRESUID, &mut passage.uids);
        three(nr::GETRESGID, &mut passage.gids);
        let pidfd = &raw mut passage.pidfd;
        passage.result = clone_child(passage.flags, pidfd, &mut passage.stack, shared.cast(), child);
    }
    // Not before what it says is true: the second child has written to `Shared` for the last time.
    // SAFETY: a live field.
    unsafe { (&raw mut passage.done).write_volatile(true) };
    exit()
}

pub(super) fn exit() -> ! {
    loop {
        // SAFETY: exit_group of this child only (CLONE_VM without CLONE_THREAD); it touches no memory.
        unsafe { raw::syscall(nr::EXIT_GROUP, [1, 0, 0, 0, 0, 0]) };
    }
}

/// The init's process. Runs on the host's memory: raw system calls only.
extern "C" fn child(shared: *mut libc::c_void) -> ! {
    let shared: *mut Shared = shared.cast();
    // SAFETY: the parent holds `Shared` and is suspended until we execute or exit; nobody else uses this part of it
    // meanwhile.
    let shared = unsafe { &mut (*shared).execution };
    let (step, errno) = match steps(shared) {
        Ok(()) => (4, libc::EIO),
        Err(failure) => failure,
    };
    shared.step = step;
    shared.errno = errno;
    exit()
}

fn steps(shared: &Execution) -> Result<(), (usize, i32)> {
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
    call(
        4,
        nr::EXECVEAT,
        [3, empty, shared.argv.as_ptr() as usize, shared.envp.as_ptr() as usize, flags, 0],
    )?;
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
