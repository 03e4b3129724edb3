//! The run-time that a program without libc needs: the entry point, the panic handler, and the five memory functions
//! to which the compiler lowers copies and comparisons (`compiler_builtins` exports none of them on linux-gnu).

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "and $-16, %rsp",
    "call {main}",
    "ud2",
    main = sym super::super::start,
    options(att_syntax),
);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "bl {main}", "brk #1", main = sym super::super::start);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::exit(255)
}

/// The precompiled `core` names this function in its unwinding tables, which nothing ever reads: panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// # Safety
///
/// As C `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: both regions are `length` bytes by the caller's contract. One string instruction, which processors carry
    // out in whole cache lines; and no loop that the compiler could turn into a call of this very function.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
                         options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: both regions are `length` bytes by the caller's contract.
    unsafe {
        copy_forward(to, from, length)
    };
    to
}

/// Words while both sides are aligned, then bytes. Volatile, so that it does not become a call of `memcpy`.
///
/// # Safety
///
/// As C `memcpy`.
#[cfg(target_arch = "aarch64")]
unsafe fn copy_forward(to: *mut u8, from: *const u8, length: usize) {
    let mut i = 0;
    if (to as usize | from as usize) % 8 == 0 {
        while i + 8 <= length {
            // SAFETY: inside both regions, and aligned because the starts and `i` are multiples of 8.
            unsafe { to.add(i).cast::<u64>().write_volatile(from.add(i).cast::<u64>().read()) };
            i += 8;
        }
    }
    while i < length {
        // SAFETY: inside both regions.
        unsafe { to.add(i).write_volatile(from.add(i).read()) };
        i += 1;
    }
}

/// # Safety
///
/// As C `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: the target does not start inside the source, so a forward copy never reads what it wrote.
        return unsafe { memcpy(to, from, length) };
    }
    let mut i = length;
    while i > 0 {
        i -= 1;
        // SAFETY: both regions are `length` bytes by the caller's contract, and i < length.
        unsafe { to.add(i).write_volatile(from.add(i).read()) };
    }
    to
}

/// # Safety
///
/// As C `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: the region is `length` bytes by the caller's contract.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") byte as u8,
                         options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let word = u64::from(byte as u8) * 0x0101_0101_0101_0101;
        let mut i = 0;
        while to as usize % 8 == 0 && i + 8 <= length {
            // SAFETY: inside the region, and aligned because its start and `i` are multiples of 8.
            unsafe { to.add(i).cast::<u64>().write_volatile(word) };
            i += 8;
        }
        while i < length {
            // SAFETY: inside the region.
            unsafe { to.add(i).write_volatile(byte as u8) };
            i += 1;
        }
    }
    to
}

/// # Safety
///
/// As C `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    let mut i = 0;
    while i < length {
        // SAFETY: both regions are `length` bytes by the caller's contract, and i < length.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        i += 1;
    }
    0
}

/// # Safety
///
/// As C `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the contract is that of memcmp.
    unsafe { memcmp(a, b, length) }
}
