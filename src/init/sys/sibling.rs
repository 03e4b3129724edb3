//! Processes beside this one: children of its parent, which share its memory until they execute a program.
//!
//! Such a fork copies nothing: it costs a third of one that does, and the `execve` that follows has nothing to take down. In
//! exchange each has a room of its own in that memory, with its stack, and touches nothing outside of it but what nobody
//! writes to.

use super::{Image, Result, SIGCHLD, nr, plain, raw};
use crate::wire::INLINE_IMAGE;
use core::mem::ManuallyDrop;

/// For the frames of a payload that takes a command: the largest are a path and the descriptors of a message.
const STACK: usize = 32 << 10;
const ROOM: usize = INLINE_IMAGE + STACK;

/// Memory for so many siblings.
pub(crate) struct Rooms {
    base: usize,
    count: usize,
}

/// What a sibling begins with, at the end of its room.
#[repr(C, align(16))]
struct Start<T> {
    value: T,
    run: fn(T, ManuallyDrop<Image>, i32) -> !,
    image: ManuallyDrop<Image>,
    pid: i32,
}

impl Rooms {
    /// Maps them. A page of it is taken when it is written to.
    pub(crate) fn new(count: usize) -> Result<Self> {
        const PROT_READ_WRITE: usize = 3;
        const MAP_PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
        let none = -1_isize as usize;
        let flags = MAP_PRIVATE_ANONYMOUS_NORESERVE;
        let base = plain(nr::MMAP, &[0, count * ROOM, PROT_READ_WRITE, flags, none, 0])?;
        Ok(Self { base, count })
    }

    /// Forks a child of the parent of this process, which is the one that hears of its end. It calls `run` with `value`, a
    /// place for an image, and its process id, in the room of this number, which must be free: the last one that had it has
    /// executed a program or ended.
    pub(crate) fn fork<T>(&self, number: usize, value: T, run: fn(T, ManuallyDrop<Image>, i32) -> !) -> Result<()> {
        const { assert!(align_of::<T>() <= 16 && size_of::<Start<T>>() <= STACK / 4) };
        const CLONE_VM: usize = 0x100;
        const CLONE_PARENT: usize = 0x8000;
        const CLONE_PARENT_SETTID: usize = 0x10_0000;
        if number >= self.count {
            return Err(super::Errno::EINVAL);
        }
        let room = self.base + number * ROOM;
        let image = ManuallyDrop::new(Image::in_room(room));
        let start = (room + ROOM - size_of::<Start<T>>()) as *mut Start<T>;
        // SAFETY: the room is mapped, writable and this long; its base and size are multiples of 16, as is that of
        // `Start`; nobody uses it, by the contract of this function.
        let pid = unsafe {
            start.write(Start { value, run, image, pid: 0 });
            &raw mut (*start).pid
        };
        let flags = CLONE_VM | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD as usize;
        // SAFETY: the stack begins below `start`, and has the rest of the room; `start` stays as it is until the child has
        // taken it; the kernel writes the child's id to `pid` before either of the two goes on.
        super::check(unsafe { clone(flags, start, pid as usize, begin::<T>) }).map(drop)
    }
}

/// The child.
extern "C" fn begin<T>(start: *mut Start<T>) -> ! {
    // SAFETY: written by `Rooms::fork` for this process, which is the only one that reads it, once.
    let Start { value, run, image, pid } = unsafe { start.read_volatile() };
    run(value, image, pid)
}

/// clone(2), whose child begins at `begin` with `start`, on the stack below that.
///
/// # Safety
///
/// `start` is 16-aligned, and there is a stack below it that nobody else uses.
#[cfg(target_arch = "x86_64")]
unsafe fn clone<T>(
    flags: usize,
    start: *mut Start<T>,
    pid: usize,
    begin: extern "C" fn(*mut Start<T>) -> !,
) -> isize {
    let result: isize;
    // SAFETY: in the parent a plain system call. The child has rax = 0 and the new stack pointer, and calls `begin`, which
    // never returns, so nothing of this frame is used twice. r12 and r13 are preserved by the kernel.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") nr::CLONE => result,
            in("rdi") flags,
            in("rsi") start,
            in("rdx") pid,
            in("r10") 0,
            in("r8") 0,
            in("r12") start,
            in("r13") begin,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// clone(2), whose child begins at `begin` with `start`, on the stack below that.
///
/// # Safety
///
/// `start` is 16-aligned, and there is a stack below it that nobody else uses.
#[cfg(target_arch = "aarch64")]
unsafe fn clone<T>(
    flags: usize,
    start: *mut Start<T>,
    pid: usize,
    begin: extern "C" fn(*mut Start<T>) -> !,
) -> isize {
    let result: isize;
    // SAFETY: as for x86-64, with x0 = 0 in the child; x20 and x21 are preserved by the kernel.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") nr::CLONE,
            inlateout("x0") flags => result,
            in("x1") start,
            in("x2") pid,
            in("x3") 0,
            in("x4") 0,
            in("x20") start,
            in("x21") begin,
        );
    }
    result
}
