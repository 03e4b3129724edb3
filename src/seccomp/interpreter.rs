//! Classic BPF as the kernel runs it on `struct seccomp_data`, so that a compiled filter can be asked for its
//! answer to any call of any architecture without being installed.

/// What the kernel hands to a filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// The word at `offset` of `struct seccomp_data` on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        assert_eq!(offset % 4, 0, "the kernel refuses unaligned loads");
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => panic!("no filter of ours looks at the instruction pointer"),
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                u32::try_from(if offset % 8 == 0 { argument & 0xffff_ffff } else { argument >> 32 }).unwrap()
            }
        }
    }
}

/// The answer of the filter, and how many instructions it took.
pub(super) fn run(program: &[u8], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut index, mut next, mut steps) = (0_u32, 0_u32, 0_usize, 0_usize);
    loop {
        // Panics beyond the end, which the kernel refuses at installation.
        let bytes = &program[next * 8..next * 8 + 8];
        let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let (jt, jf) = (usize::from(bytes[2]), usize::from(bytes[3]));
        let k = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        next += 1;
        steps += 1;
        let branch = |taken: bool| if taken { jt } else { jf };
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0xa4 => accumulator ^= k,
            0x4c => accumulator |= index,
            0x07 => index = accumulator,
            0x05 => next += k as usize,
            0x15 => next += branch(accumulator == k),
            0x25 => next += branch(accumulator > k),
            0x35 => next += branch(accumulator >= k),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x}"),
        }
    }
}
