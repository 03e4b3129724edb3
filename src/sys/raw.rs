//! Raw system calls, without libc: no `errno` in thread-local storage, no cancellation points, no locks.
//!
//! Core-only, because two programs contain this file: the library (for the few instructions between `clone3(2)` and
//! `execveat(2)` that run on the host's memory) and the freestanding init.

use core::arch::asm;

/// Makes a system call and returns what the kernel left in the result register: a negative errno on failure.
///
/// # Safety
///
/// The arguments must satisfy the contract of system call `number`: pointers point to memory that is valid for what
/// the kernel does with it, and the effect must not break an invariant of the calling program.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 Linux convention: number in rax, arguments in rdi rsi rdx r10 r8 r9; the instruction itself
    // overwrites only rax, rcx and r11. What the kernel does with the arguments is the caller's contract.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
             in("r10") args[3], in("r8") args[4], in("r9") args[5], out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

/// Makes a system call and returns what the kernel left in the result register: a negative errno on failure.
///
/// # Safety
///
/// The arguments must satisfy the contract of system call `number`: pointers point to memory that is valid for what
/// the kernel does with it, and the effect must not break an invariant of the calling program.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the AArch64 Linux convention: number in x8, arguments in x0..x5, result in x0; nothing else changes.
    // What the kernel does with the arguments is the caller's contract.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
             in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("belljar supports x86_64 and aarch64 Linux");

/// System call numbers, from the kernel's `unistd.h` of each architecture.
#[allow(dead_code, reason = "each of the two programs that contain this file uses its own part of the table")]
pub(crate) mod nr {
    macro_rules! numbers {
        ($($name:ident = $x86:literal, $arm:literal;)*) => {
            $(
                #[cfg(target_arch = "x86_64")]
                pub(crate) const $name: usize = $x86;
                #[cfg(target_arch = "aarch64")]
                pub(crate) const $name: usize = $arm;
            )*
        };
    }
    numbers! {
        READ = 0, 63; WRITE = 1, 64; CLOSE = 3, 57; FSTAT = 5, 80; MMAP = 9, 222; MUNMAP = 11, 215;
        RT_SIGACTION = 13, 134; RT_SIGPROCMASK = 14, 135; IOCTL = 16, 29; PREAD64 = 17, 67;
        GETPID = 39, 172; SOCKET = 41, 198; SENDMSG = 46, 211; RECVMSG = 47, 212; CLONE = 56, 220;
        EXECVE = 59, 221; EXIT = 60, 93; WAIT4 = 61, 260; KILL = 62, 129; FCNTL = 72, 25; FCHDIR = 81, 50;
        CHDIR = 80, 49; GETCWD = 79, 17; UMASK = 95, 166; GETRUSAGE = 98, 165; SETSID = 112, 157;
        SETGROUPS = 116, 159; SETRESUID = 117, 147; GETRESUID = 118, 148; SETRESGID = 119, 149;
        GETRESGID = 120, 150; GETGROUPS = 115, 158; CAPGET = 125, 90; CAPSET = 126, 91; PIVOT_ROOT = 155, 41;
        CHROOT = 161, 51; PRCTL = 157, 167; MOUNT = 165, 40; UMOUNT2 = 166, 39; SETHOSTNAME = 170, 161; SETDOMAINNAME = 171, 162;
        CLOCK_GETTIME = 228, 113; EXIT_GROUP = 231, 94; OPENAT = 257, 56; MKDIRAT = 258, 34; SYMLINKAT = 266, 36;
        PPOLL = 271, 73; UNSHARE = 272, 97; SIGNALFD4 = 289, 74; DUP3 = 292, 24; PIPE2 = 293, 59;
        PRLIMIT64 = 302, 261; SECCOMP = 317, 277; EXECVEAT = 322, 281; OPEN_TREE = 428, 428; MOVE_MOUNT = 429, 429;
        FSOPEN = 430, 430; FSCONFIG = 431, 431; FSMOUNT = 432, 432; CLONE3 = 435, 435; CLOSE_RANGE = 436, 436;
        OPENAT2 = 437, 437; MOUNT_SETATTR = 442, 442; FCHMOD = 91, 52; FCHOWNAT = 260, 54; READLINKAT = 267, 78;
        PIDFD_SEND_SIGNAL = 424, 424; PIDFD_OPEN = 434, 434; SETPRIORITY = 141, 140; LSEEK = 8, 62;
        SCHED_SETSCHEDULER = 144, 119; SCHED_SETAFFINITY = 203, 122; SCHED_GETAFFINITY = 204, 123;
        IOPRIO_SET = 251, 30; PERSONALITY = 135, 92; UNLINKAT = 263, 35; RENAMEAT2 = 316, 276;
        SETFSUID = 122, 151; SETFSGID = 123, 152; SOCKETPAIR = 53, 199; TGKILL = 234, 131; KEYCTL = 250, 219;
        LANDLOCK_CREATE_RULESET = 444, 444; LANDLOCK_ADD_RULE = 445, 445; LANDLOCK_RESTRICT_SELF = 446, 446;
        FSTATFS = 138, 44; GETRANDOM = 318, 278; SETNS = 308, 268;
    }
}
