//! Which filesystem a file has in it, by what is in it. Pure: bytes in, a kind out.

use std::ffi::CStr;

/// A filesystem that images may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Squashfs,
    Erofs,
}

/// What the head of an image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) format: Format,
    /// How many bytes the filesystem has. The kernel does not compare it with the size of every kind: of an erofs that was
    /// cut off, files could not be read, at some time.
    pub(super) bytes: u64,
}

/// So much of a file tells what it is.
pub(super) const HEAD: usize = 2048;

/// Where erofs has its superblock.
const EROFS: usize = 1024;
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
/// The bytes of a superblock of squashfs.
const SQUASHFS_HEAD: u64 = 96;

impl Format {
    pub(crate) const ALL: [Self; 2] = [Self::Squashfs, Self::Erofs];

    /// Its name for the kernel.
    pub(crate) fn kind(self) -> &'static CStr {
        match self {
            Self::Squashfs => c"squashfs",
            Self::Erofs => c"erofs",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    /// The smallest image of it: a root directory with nothing in it.
    pub(crate) fn smallest(self) -> Vec<u8> {
        const SIZE: usize = 4096;
        let mut image = match self {
            Self::Squashfs => smallest_squashfs(),
            Self::Erofs => smallest_erofs(),
        };
        image.resize(SIZE, 0);
        image
    }
}

/// What a file is that begins with these bytes, at most [`HEAD`]; `None`: no image.
pub(super) fn identify(head: &[u8]) -> Option<Head> {
    if head.starts_with(b"hsqs") {
        let bytes = at(head, 40).map_or(SQUASHFS_HEAD, u64::from_le_bytes);
        return Some(Head { format: Format::Squashfs, bytes });
    }
    if at(head, EROFS).map(u32::from_le_bytes) == Some(EROFS_MAGIC) {
        let [bits] = at(head, EROFS + 12).unwrap_or_default();
        let blocks = at(head, EROFS + 36).map_or(u32::MAX, u32::from_le_bytes);
        let block = 1_u64.checked_shl(u32::from(bits));
        let bytes = block.and_then(|block| block.checked_mul(u64::from(blocks)));
        return Some(Head { format: Format::Erofs, bytes: bytes.unwrap_or(u64::MAX) });
    }
    None
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Nothing in it is compressed. See the kernel's `Documentation/filesystems/squashfs.rst`.
fn smallest_squashfs() -> Vec<u8> {
    const NOWHERE: u64 = u64::MAX;
    /// The flag of a block of metadata that is stored as it is.
    const PLAIN: u16 = 0x8000;
    let (inodes, directories, ids, end) = (96_u64, 130_u64, 136_u64, 144_u64);
    let mut image = b"hsqs".to_vec();
    // Inodes, time, size of a block, fragments.
    [1_u32, 0, 1 << 17, 0].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    // zlib, the logarithm of the size, nothing compressed and no attributes, one id, version 4.0.
    [1_u16, 17, 0x21b, 1, 4, 0].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    // The root's inode, the end, and the tables: ids, attributes, inodes, directories, fragments, for NFS.
    [0, end, ids, NOWHERE, inodes, directories, NOWHERE, NOWHERE]
        .into_iter()
        .for_each(|field| image.extend(field.to_le_bytes()));
    // The root, a directory with mode 755 and the first id.
    [PLAIN | 32, 1, 0o755, 0, 0].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    // Time, number, block of its listing, links; a size of 3 is that of none.
    [0_u32, 1, 0, 2].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    [3_u16, 0].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    image.extend(2_u32.to_le_bytes());
    // The ids: root's. They begin where the listings end, of which there are none.
    image.extend((PLAIN | 4).to_le_bytes());
    image.extend(0_u32.to_le_bytes());
    image.extend(directories.to_le_bytes());
    image
}

/// See the kernel's `fs/erofs/erofs_fs.h`.
fn smallest_erofs() -> Vec<u8> {
    /// The slot of 32 bytes behind the superblock.
    const ROOT: u16 = 36;
    let mut image = vec![0; EROFS];
    image.extend(EROFS_MAGIC.to_le_bytes());
    // Checksum and features: none.
    image.extend([0; 8]);
    // The logarithm of the size of a block.
    image.extend([12, 0]);
    image.extend(ROOT.to_le_bytes());
    image.extend(1_u64.to_le_bytes());
    // Time.
    image.extend([0; 12]);
    // Blocks, of which there is one.
    image.extend(1_u32.to_le_bytes());
    image.resize(usize::from(ROOT) * 32, 0);
    // The root, an uncompressed directory of size 0 with mode 755 and two links.
    [0_u16, 0, 0o40755, 2].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    // Size, reserved, place, number, ids, reserved.
    [0_u32, 0, 0, 1, 0, 0].into_iter().for_each(|field| image.extend(field.to_le_bytes()));
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_tells() {
        for format in Format::ALL {
            let image = format.smallest();
            let head = identify(&image[..HEAD]).unwrap();
            assert_eq!(head.format, format);
            assert!(head.bytes > 0 && head.bytes <= image.len() as u64, "{head:?}");
        }
        let mut ext4 = vec![0; HEAD];
        ext4[1080..1082].copy_from_slice(&[0x53, 0xef]);
        for other in [&b""[..], b"hsq", b"#!/bin/sh\n", b"sqsh", &ext4] {
            assert_eq!(identify(other), None, "{other:?}");
        }
    }

    #[test]
    fn heads_that_are_cut_off_need_more_than_there_is() {
        for format in Format::ALL {
            let image = format.smallest();
            for length in 0..144 {
                let cut = &image[..length];
                assert!(identify(cut).is_none_or(|head| head.bytes > length as u64), "{format:?} {length}");
            }
        }
        let erofs = Format::Erofs.smallest();
        assert_eq!(identify(&erofs[..EROFS + 4]).unwrap().bytes, u64::from(u32::MAX));
    }

    #[test]
    fn sizes_beyond_all_measure() {
        let mut image = Format::Erofs.smallest();
        for bits in [33, 63, 64, 255] {
            image[EROFS + 12] = bits;
            image[EROFS + 36..EROFS + 40].fill(0xff);
            assert_eq!(identify(&image).unwrap().bytes, u64::MAX);
        }
    }
}
