//! Images: the layout of the memfds, and the checks before anything in them is believed.

use super::operation::{Confine, Cursor, Field, Operations, Setup};

/// First word of both images; changes when the layout does.
pub(crate) const MAGIC: u32 = 0x626a_0005;

/// The sections of a plan image, in their order in it: what is needed for each program comes first, so that of a large plan
/// the init comes to have a few pages only.
pub(crate) mod section {
    /// [`Confine`](super::Confine) operations before descriptors are placed.
    pub(crate) const JOIN: usize = 0;
    /// [`Confine`](super::Confine) operations after that.
    pub(crate) const CONFINE: usize = 1;
    /// [`Confine`](super::Confine) operations after the working directory was entered: the last.
    pub(crate) const SEAL: usize = 2;
    /// [`Setup`](super::Setup) operations.
    pub(crate) const SETUP: usize = 3;
    pub(crate) const COUNT: usize = 4;
}

/// The head of a plan image; the sections follow it back to back.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanHead {
    pub(crate) magic: u32,
    /// Bytes of each section.
    pub(crate) lengths: [u32; section::COUNT],
}

pub(crate) const PLAN_HEAD: usize = size_of::<PlanHead>();
const _: () = assert!(PLAN_HEAD == 20);

/// A plan image, checked.
#[derive(Clone, Copy)]
pub(crate) struct PlanImage<'a> {
    sections: [&'a [u8]; section::COUNT],
}

impl<'a> PlanImage<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if u32::decode(&mut cursor)? != MAGIC {
            return None;
        }
        let mut lengths = [0_u32; section::COUNT];
        for length in &mut lengths {
            *length = u32::decode(&mut cursor)?;
        }
        let mut sections = [&[][..]; section::COUNT];
        for (section, length) in sections.iter_mut().zip(lengths) {
            *section = cursor.take(length as usize)?;
        }
        // Operations that belong to no section would be carried out by nobody.
        cursor.is_empty().then_some(Self { sections })
    }

    pub(crate) fn setup(&self) -> Operations<'a, Setup<'a>> {
        Operations::new(self.sections[section::SETUP])
    }

    /// The operations of a section other than [`section::SETUP`].
    pub(crate) fn confine(&self, section: usize) -> Operations<'a, Confine<'a>> {
        Operations::new(self.sections.get(section).copied().unwrap_or(&[]))
    }
}

/// A vector of C strings in a run image: `count` offsets of 8 bytes at `at` (8-aligned), then one zero. The init turns
/// the offsets into pointers in its private copy, so that they can be handed to `execve` without an allocator.
/// Descriptors have a vector, too, of pairs and without the zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) at: u32,
    pub(crate) count: u32,
}

impl Vector {
    /// Where its slots of 8 bytes begin and end, with `more` slots behind those that count; `None` beyond all numbers.
    fn range(self, more: usize) -> Option<(usize, usize)> {
        let slots = (self.count as usize).checked_add(more)?;
        let start = self.at as usize;
        Some((start, start.checked_add(slots.checked_mul(8)?)?))
    }

    /// Turns the offsets into pointers for an image that is mapped at `base`; `None` if one leads out of it.
    pub(crate) fn relocate(self, image: &mut [u8], base: u64) -> Option<()> {
        let (length, (start, end)) = (image.len() as u64, self.range(0)?);
        for slot in image.get_mut(start..end)?.chunks_exact_mut(8) {
            let offset = u64::from_ne_bytes((&*slot).try_into().ok()?);
            if offset >= length {
                return None;
            }
            slot.copy_from_slice(&base.checked_add(offset)?.to_ne_bytes());
        }
        Some(())
    }
}

/// The head of a run image. Offsets are from the start of the image; the image ends with a NUL byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunHead {
    pub(crate) magic: u32,
    /// Offset of the working directory's path, 0 to stay in `/`.
    pub(crate) cwd: u32,
    /// Pairs of `u32` (slot, descriptor number), ascending by number.
    pub(crate) fds: Vector,
    /// Candidate paths of the program, tried in order.
    pub(crate) paths: Vector,
    pub(crate) argv: Vector,
    pub(crate) envp: Vector,
}

pub(crate) const RUN_HEAD: usize = size_of::<RunHead>();
const _: () = assert!(RUN_HEAD == 40);

impl RunHead {
    /// Reads the head of an image and checks that every offset in it stays inside, and that every vector ends.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.last() != Some(&0) {
            return None;
        }
        let mut cursor = Cursor::new(bytes);
        let mut word = || u32::decode(&mut cursor);
        let head = Self {
            magic: word()?,
            cwd: word()?,
            fds: Vector { at: word()?, count: word()? },
            paths: Vector { at: word()?, count: word()? },
            argv: Vector { at: word()?, count: word()? },
            envp: Vector { at: word()?, count: word()? },
        };
        if head.magic != MAGIC || head.cwd as usize >= bytes.len() {
            return None;
        }
        // One behind the other: the offsets of a vector become pointers while those of the next are still to be read.
        let mut free = RUN_HEAD;
        for vector in [head.paths, head.argv, head.envp] {
            let (start, end) = vector.range(1)?;
            if start < free || start % 8 != 0 {
                return None;
            }
            let (offsets, terminator) = bytes.get(start..end)?.split_at_checked(end - 8 - start)?;
            let leads_out = |slot: &[u8]| {
                slot.try_into().map_or(true, |slot| u64::from_ne_bytes(slot) >= bytes.len() as u64)
            };
            if terminator != [0; 8] || offsets.chunks_exact(8).any(leads_out) {
                return None;
            }
            free = end;
        }
        let (start, end) = head.fds.range(0)?;
        (start >= free && start % 4 == 0 && end <= bytes.len()).then_some(head)
    }

    /// The `n`th (slot, descriptor number) pair.
    pub(crate) fn fd_pair(&self, bytes: &[u8], n: usize) -> Option<(u32, u32)> {
        let at = (self.fds.at as usize).checked_add(n.checked_mul(8)?)?;
        let mut cursor = Cursor::new(bytes.get(at..at.checked_add(8)?)?);
        Some((u32::decode(&mut cursor)?, u32::decode(&mut cursor)?))
    }
}
