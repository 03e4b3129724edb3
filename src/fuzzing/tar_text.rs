//! Archives from a shorter form, so that a change of one byte makes another archive and not a wrong checksum.

use std::io::Write;

use tar::{EntryType, Header};

use super::Input;

/// Stands for the path of a directory outside, which an archive must not reach.
pub(super) const OUTSIDE: u8 = 1;

/// Bits of the first byte of a member.
pub(super) mod is {
    pub(in crate::fuzzing) const LINKED: u8 = 1;
    pub(in crate::fuzzing) const LARGE: u8 = 2;
    pub(in crate::fuzzing) const SIZED: u8 = 4;
    pub(in crate::fuzzing) const EXTENDED: u8 = 8;
    pub(in crate::fuzzing) const OWNED: u8 = 16;
    pub(in crate::fuzzing) const GNU: u8 = 32;
    pub(in crate::fuzzing) const RAW: u8 = 64;
    pub(in crate::fuzzing) const CUT: u8 = 128;
}

/// The archive that the input describes.
///
/// A member is a byte of flags, a type, a mode, a name, and what the flags announce: a link, a size that is not that of
/// the content, records of an extended header, ids and a time, bytes for the whole header. The content is last, behind two bytes with its
/// length.
pub(super) fn archive(data: &[u8], outside: &[u8]) -> Vec<u8> {
    let mut input = Input::new(data);
    let mut tar = Vec::new();
    while !input.is_empty() {
        let flags = input.byte();
        let kind = EntryType::new(input.byte());
        let mode = input.take(2).iter().fold(0, |mode, byte| mode << 8 | u32::from(*byte));
        let name = with_outside(input.text(), outside);
        let mut header = if flags & is::GNU == 0 { Header::new_ustar() } else { Header::new_gnu() };
        fill(&mut header.as_old_mut().name, &name);
        header.set_entry_type(kind);
        header.set_mode(mode);
        for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
            set(&mut header, if flags & is::OWNED == 0 { 0 } else { input.number() });
        }
        if flags & is::LINKED != 0 {
            fill(&mut header.as_old_mut().linkname, &with_outside(input.text(), outside));
        }
        if flags & is::EXTENDED != 0 {
            extended(&mut tar, &mut input, outside);
        }
        let size = (flags & is::SIZED != 0).then(|| input.number());
        if flags & is::RAW != 0 {
            // Some bytes of the header as they come: behind the checksum, where sparse maps and the rest of long names are.
            let at = usize::from(input.byte()) * 2 % 500;
            let bytes = input.text();
            let end = (at + bytes.len()).min(512);
            header.as_mut_bytes()[at..end].copy_from_slice(&bytes[..end - at]);
        }
        let length = u16::from_le_bytes([input.byte(), input.byte()]);
        let mut content = with_outside(input.take(usize::from(length)), outside);
        if flags & is::LARGE != 0 {
            content = content.repeat(16);
        }
        header.set_size(size.unwrap_or(content.len() as u64));
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(&content);
        if flags & is::CUT == 0 {
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A header with records before a member, as many as the first byte says.
fn extended(tar: &mut Vec<u8>, input: &mut Input<'_>, outside: &[u8]) {
    let mut records = Vec::new();
    for _ in 0..input.byte() % 8 {
        let (key, value) = (input.text(), with_outside(input.text(), outside));
        crate::layer::push_record(&mut records, key, &value);
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.write_all(&records).expect("memory takes everything");
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn with_outside(text: &[u8], outside: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    for byte in text {
        match *byte {
            OUTSIDE => whole.extend_from_slice(outside),
            byte => whole.push(byte),
        }
    }
    whole
}

fn fill(field: &mut [u8; 100], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}
