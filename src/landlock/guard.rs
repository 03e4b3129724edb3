//! Ways to a TCP connection that landlock does not look at, closed by a filter of system calls.
//!
//! `connect(2)` and `bind(2)` are all that the rules of ports are about. A segment with data and `MSG_FASTOPEN` connects
//! as well, and so do the protocols that fall back to TCP when the other side has nothing better: MPTCP and SMC. The
//! request of an io_uring is a system call that no filter sees.

use seccompiler::sock_filter;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, the same with `JGE` and `JSET`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`: number, architecture, and the low half of the argument of this index.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
/// Numbers from here on are of x32; no other architecture has such large ones.
const X32: u32 = 0x4000_0000;

const MSG_FASTOPEN: u32 = 0x2000_0000;
const AF_SMC: u32 = 43;
const IPPROTO_SMC: u32 = 256;
const IPPROTO_MPTCP: u32 = 262;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers are small and positive")]
const fn number(call: libc::c_long) -> u32 {
    call as u32
}

const fn fails_with(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// The filter, as the init installs it. Programs fall back to `connect(2)`, plain TCP and no io_uring, as on a kernel that
/// has nothing else.
pub(super) fn program() -> Vec<u8> {
    let line = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let lines = [
        line(LOAD, 0, 0, ARCHITECTURE),
        // A foreign ABI has other numbers, and calls with their arguments in memory.
        line(EQUAL, 0, 22, NATIVE),
        line(LOAD, 0, 0, NUMBER),
        line(AT_LEAST, 20, 0, X32),
        line(EQUAL, 5, 0, number(libc::SYS_sendto)),
        line(EQUAL, 4, 0, number(libc::SYS_sendmmsg)),
        line(EQUAL, 5, 0, number(libc::SYS_sendmsg)),
        line(EQUAL, 6, 0, number(libc::SYS_socket)),
        line(EQUAL, 14, 0, number(libc::SYS_io_uring_setup)),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        // 10: flags of sendto and sendmmsg
        line(LOAD, 0, 0, argument(3)),
        line(ANY_BIT, 8, 7, MSG_FASTOPEN),
        // 12: flags of sendmsg
        line(LOAD, 0, 0, argument(2)),
        line(ANY_BIT, 6, 5, MSG_FASTOPEN),
        // 14: family and protocol of socket
        line(LOAD, 0, 0, argument(0)),
        line(EQUAL, 5, 0, AF_SMC),
        line(LOAD, 0, 0, argument(2)),
        line(EQUAL, 4, 0, IPPROTO_MPTCP),
        line(EQUAL, 3, 0, IPPROTO_SMC),
        // 19: the answers
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(RETURN, 0, 0, fails_with(libc::EOPNOTSUPP)),
        line(RETURN, 0, 0, fails_with(libc::EAFNOSUPPORT)),
        line(RETURN, 0, 0, fails_with(libc::EPROTONOSUPPORT)),
        line(RETURN, 0, 0, fails_with(libc::ENOSYS)),
        line(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    lines.iter().flat_map(bytes).collect()
}

fn bytes(line: &sock_filter) -> [u8; 8] {
    let [c0, c1] = line.code.to_ne_bytes();
    let [k0, k1, k2, k3] = line.k.to_ne_bytes();
    [c0, c1, line.jt, line.jf, k0, k1, k2, k3]
}
