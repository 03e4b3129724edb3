//! The smallest program: an ELF file with one `exit(0)`, written here byte by byte, so that no compiler is needed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05]; // xor edi,edi; mov eax,60; syscall
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]; // mov x0,0; mov x8,93; svc 0
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

const BASE: u64 = 0x40_0000;
const HEAD: u64 = 64 + 56;

/// One header, one loadable segment, the code.
pub(crate) fn elf() -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = HEAD + CODE.len() as u64;
    for word in [2_u16, MACHINE] {
        file.extend(word.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEAD, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, section headers
    }
    file.extend(0_u32.to_le_bytes());
    for word in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // PT_LOAD
    file.extend(5_u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

/// The program as a file on the host, removed at the end.
pub(crate) struct File(std::path::PathBuf);

impl File {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("belljar-bench-true-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("the temporary directory is writable");
        file.write_all(&elf()).expect("the temporary directory is writable");
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("it is our file");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
