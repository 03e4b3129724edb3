//! Memory: mapped images, and the page shared with payloads.

use core::ffi::CStr;

use super::{Errno, Fd, Result, nr, plain};
use crate::wire::Vector;

/// Bytes of a plan or a command: a file mapped privately, so that writes stay in this process, or memory for what a message
/// brings.
pub(crate) struct Image {
    base: usize,
    mapped: usize,
    /// How many of the bytes count.
    length: usize,
}

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;

impl Image {
    pub(crate) fn map(fd: Fd, length: usize) -> Result<Self> {
        const MAP_PRIVATE: usize = 2;
        let base = plain(nr::MMAP, &[0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.arg(), 0])?;
        Ok(Self { base, mapped: length, length })
    }

    /// Memory of this size for a message to come. It takes a page when one is written to.
    pub(crate) fn space(mapped: usize) -> Result<Self> {
        const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
        let none = -1_isize as usize;
        let base = plain(nr::MMAP, &[0, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, none, 0])?;
        Ok(Self { base, mapped, length: 0 })
    }

    /// A place for the image of a command at the beginning of a [room](super::Rooms). It must not be dropped: the room stays.
    pub(super) fn in_room(base: usize) -> Self {
        Self { base, mapped: crate::wire::INLINE_IMAGE, length: 0 }
    }

    /// All of the memory, to be written to.
    pub(crate) fn all(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, private and writable, lives as long as `self`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.base as *mut u8, self.mapped) }
    }

    /// How many of the bytes count, from the first on.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.min(self.mapped);
    }

    /// The size of a file, by seeking to its end.
    pub(crate) fn size_of_file(fd: Fd) -> Result<usize> {
        const SEEK_END: usize = 2;
        plain(nr::LSEEK, &[fd.arg(), 0, SEEK_END])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is at least `length` bytes long, lives as long as `self`, and is written only through
        // `relocate` and `all`, which borrow `self` exclusively. The file behind it is sealed against shrinking by the host.
        unsafe { core::slice::from_raw_parts(self.base as *const u8, self.length) }
    }

    /// Turns the offsets of a vector into pointers and returns its address.
    pub(crate) fn relocate(&mut self, vector: Vector) -> Result<usize> {
        // SAFETY: as for `bytes`; the mapping is private and writable, and `self` is borrowed exclusively.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.base as *mut u8, self.length) };
        vector.relocate(bytes, self.base as u64).ok_or(Errno::EPROTO)?;
        Ok(self.base + vector.at as usize)
    }

    /// The pointer in slot `n` of a vector that was relocated, as the address of a C string inside the image.
    pub(crate) fn pointer(&self, at: usize, n: usize) -> Option<usize> {
        let bytes = self.bytes().get(at + n * 8..at + n * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?) as usize)
    }

    /// The C string at an offset.
    pub(crate) fn string(&self, at: usize) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.bytes().get(at..)?).ok()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        plain(nr::MUNMAP, &[self.base, self.mapped]).ok();
    }
}

/// A page that this process and the payloads it forks share until they execute: where they leave why they failed.
/// A store needs no system call, so no seccomp filter can keep a failure from being reported.
pub(crate) struct SharedPage<T> {
    base: *mut T,
    count: usize,
}

impl<T: Copy + Default> SharedPage<T> {
    pub(crate) fn new(count: usize) -> Result<Self> {
        const MAP_SHARED_ANONYMOUS: usize = 0x21;
        let length = count * size_of::<T>();
        let base = plain(nr::MMAP, &[0, length, PROT_READ | PROT_WRITE, MAP_SHARED_ANONYMOUS, -1_isize as usize, 0])?;
        Ok(Self { base: base as *mut T, count })
    }

    pub(crate) fn store(&self, n: usize, value: T) {
        if n < self.count {
            // SAFETY: inside the mapping, which is never unmapped; volatile, because another process reads it.
            unsafe { self.base.add(n).write_volatile(value) }
        }
    }

    pub(crate) fn load(&self, n: usize) -> T {
        if n < self.count {
            // SAFETY: inside the mapping; `T` is a plain integer record of ours, valid for all bit patterns, and the
            // writer is gone (its status pipe was closed) before we read.
            unsafe { self.base.add(n).read_volatile() }
        } else {
            T::default()
        }
    }
}
