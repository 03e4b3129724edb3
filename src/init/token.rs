//! The token by which a program's last calls pass its filter, one for each program.
//!
//! A program's registers can be read while `execve` puts it into the payload's place (`/proc/<pid>/syscall`, by another
//! program of the container with the same user id), and the token is in one of them. So what the plan has is no token of
//! anybody: each payload draws its own, and puts it into its copy of the filter.

/// The most instructions of a filter, 8 bytes each.
pub(crate) const MOST: usize = 4096 * SIZE;
const SIZE: usize = 8;

/// `BPF_ALU | BPF_XOR | BPF_K`. The filter's own (`src/seccomp/compile.rs`) are all of tokens.
const EXCLUSIVE_OR: u16 = 0xa4;

/// Copies a filter with another token in the place of one. `None` if that is not all that it has.
pub(crate) fn replace<'a>(
    program: &[u8],
    token: u64,
    own: u64,
    copy: &'a mut [u8; MOST],
) -> Option<&'a [u8]> {
    let copy = copy.get_mut(..program.len())?;
    copy.copy_from_slice(program);
    let (token, own) = (halves(token), halves(own));
    let (mut high, mut low) = (0_u32, 0_u32);
    for instruction in copy.chunks_exact_mut(SIZE) {
        let (head, half) = instruction.split_at_mut(4);
        if u16::from_ne_bytes([head[0], head[1]]) != EXCLUSIVE_OR {
            continue;
        }
        let is = u32::from_ne_bytes([half[0], half[1], half[2], half[3]]);
        let replaced = if high == low && is == token[0] {
            high += 1;
            own[0]
        } else if high == low + 1 && is == token[1] {
            low += 1;
            own[1]
        } else {
            return None;
        };
        half.copy_from_slice(&replaced.to_ne_bytes());
    }
    (high == low && high != 0).then_some(&*copy)
}

/// In the order in which a filter looks at them.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}
