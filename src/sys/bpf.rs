//! Programs that the kernel runs when a process of a cgroup uses a device. See `bpf(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Operation codes, from `<linux/bpf.h>`; the names say whether the second operand is a number.
pub(crate) mod code {
    /// `BPF_LDX | BPF_MEM | BPF_W`
    pub(crate) const LOAD_WORD: u8 = 0x61;
    /// `BPF_ALU64 | BPF_MOV | BPF_X`
    pub(crate) const MOV_REGISTER: u8 = 0xbf;
    /// `BPF_ALU64 | BPF_MOV | BPF_K`
    pub(crate) const MOV: u8 = 0xb7;
    /// `BPF_ALU64 | BPF_AND | BPF_K`
    pub(crate) const AND: u8 = 0x57;
    /// `BPF_ALU64 | BPF_RSH | BPF_K`
    pub(crate) const RSH: u8 = 0x77;
    /// `BPF_JMP32 | BPF_JNE | BPF_K`: of the low 32 bits (Linux 5.1).
    pub(crate) const JNE: u8 = 0x56;
    /// `BPF_JMP | BPF_EXIT`
    pub(crate) const EXIT: u8 = 0x95;
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<BpfInstruction>() == 8);

impl BpfInstruction {
    /// `to = *(u32 *)(from + offset)`
    pub(crate) fn load(code: u8, to: u8, from: u8, offset: i16) -> Self {
        Self { code, registers: to | from << 4, offset, immediate: 0 }
    }

    /// `to = to OP from`
    pub(crate) fn register(code: u8, to: u8, from: u8) -> Self {
        Self { code, registers: to | from << 4, offset: 0, immediate: 0 }
    }

    /// `to = to OP value`
    pub(crate) fn immediate(code: u8, to: u8, value: u32) -> Self {
        Self { code, registers: to, offset: 0, immediate: signed(value) }
    }

    /// Skips so many instructions when `register OP value`.
    pub(crate) fn jump(code: u8, register: u8, value: u32, skip: usize) -> Self {
        let offset = i16::try_from(skip).unwrap_or(i16::MAX);
        Self { code, registers: register, offset, immediate: signed(value) }
    }

    /// Returns register 0.
    pub(crate) fn exit(code: u8) -> Self {
        Self { code, registers: 0, offset: 0, immediate: 0 }
    }
}

/// The field is signed; instructions of 32 bits take its bits as they are.
fn signed(value: u32) -> i32 {
    i32::from_ne_bytes(value.to_ne_bytes())
}

/// The part of `union bpf_attr` that loading takes.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching takes.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: a live structure of the size passed, whose pointers the callers below keep alive during the call; the
    // kernel takes what is beyond it as zeros.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Has the kernel ask a program about each use of a device in a cgroup (version 2). It stays as long as the cgroup.
pub(crate) fn attach_device_program(cgroup: &impl AsFd, program: &[BpfInstruction]) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(PROG_LOAD, &load)?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just made this descriptor for us.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd) };
    let number = |fd: i32| fd.unsigned_abs();
    let attach = Attach {
        target: number(cgroup.as_fd().as_raw_fd()),
        program: number(loaded.as_raw_fd()),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}
