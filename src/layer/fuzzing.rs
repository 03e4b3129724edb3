//! The reader of archives on any bytes, without a store, for the fuzz target.

use super::archive::{Archive, Kind, LONGEST_PATH, NoTape};
use super::limits::Budget;
use super::pax::{Pax, push_record, push_time};
use crate::error::Result;

/// What one input may unpack to.
const MOST_BYTES: u64 = 1 << 20;
const MOST_ENTRIES: u64 = 300;

/// Reads an archive to its end: no member is longer than it says, has parts that overlap or more than the budget.
///
/// # Errors
///
/// What it is refused for.
pub(crate) fn archive(data: &[u8]) -> Result<()> {
    let budget = Budget::new(MOST_BYTES, MOST_ENTRIES);
    let mut archive = Archive::new(data, NoTape, &budget);
    let (mut members, mut bytes) = (0, 0);
    let mut buffer = [0; 4096];
    while let Some(member) = archive.next()? {
        members += 1;
        assert!(member.path.len() <= LONGEST_PATH && member.link.len() <= LONGEST_PATH);
        assert!(member.mode <= 0o7777 && (member.kind == Kind::File || member.size == 0));
        if let Some(extents) = &member.sparse {
            let mut end = 0;
            for (offset, length) in &extents.list {
                assert!(*offset >= end, "parts that overlap");
                end = offset + length;
            }
            assert!(end <= extents.real_size && extents.real_size <= MOST_BYTES);
        }
        // Half of the members are passed over, as those of an index are.
        let mut is_read = members % 2 == 0;
        while is_read {
            let length = archive.read(&mut buffer)?;
            bytes += length as u64;
            is_read = length > 0;
        }
    }
    assert!(members <= MOST_ENTRIES && bytes <= MOST_BYTES, "more than the budget");
    archive.finish().map(drop)
}

/// Reads the data of an extended header; what is written of it is read as the same.
///
/// # Errors
///
/// What it is refused for.
pub(crate) fn extended(data: &[u8]) -> Result<()> {
    let pax = Pax::parse(data)?;
    let mut written = Vec::new();
    for (key, value) in [(&b"path"[..], &pax.path), (b"linkpath", &pax.link)] {
        value.iter().for_each(|value| push_record(&mut written, key, value));
    }
    for (name, value) in &pax.xattrs {
        push_record(&mut written, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    pax.mtime.iter().for_each(|time| push_time(&mut written, b"mtime", *time));
    let again = Pax::parse(&written).expect("what is written can be read");
    assert_eq!((&again.path, &again.link, &again.xattrs), (&pax.path, &pax.link, &pax.xattrs));
    assert_eq!(again.mtime, pax.mtime);
    Ok(())
}
