//! Reads a tar archive member by member. The `tar` crate reads the fixed headers; what is put together from several
//! (long names, extended headers, sparse maps) is put together here, with a limit on each.

use std::io::{Read, Seek, SeekFrom};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::limits::Budget;
use super::pax::{self, Pax};
use super::{Time, reading, refused};
use crate::error::Result;

pub(crate) const BLOCK: usize = 512;
/// Some writers pad the names in headers of their own.
const LONGEST_NAME: u64 = 16 * 1024;
/// No longer path can be made (`PATH_MAX`). Readers keep the paths of all members.
pub(crate) const LONGEST_PATH: usize = 4096;
/// Extended headers carry attributes of at most 64 KiB each.
pub(crate) const LONGEST_PAX: u64 = 1024 * 1024;
/// Extents of one sparse file.
const MOST_EXTENTS: usize = 1 << 20;

/// What gets the bytes of an archive that are not the content of a file.
pub(crate) trait Tape {
    fn raw(&mut self, bytes: &[u8]) -> Result<()>;
}

/// An archive whose headers go to a tape while it is read.
pub(crate) struct Archive<'a, R, T> {
    inner: R,
    pub(crate) tape: T,
    budget: &'a Budget,
    /// Bytes of the current member that were not read yet.
    left: u64,
    padding: u64,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    Device,
}

/// What an archive says of one file.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Time,
    /// Bytes in the archive.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the bytes belong in a file with holes.
    pub(crate) sparse: Option<Extents>,
}

#[derive(Debug)]
pub(crate) struct Extents {
    pub(crate) real_size: u64,
    /// Offset and length, ascending.
    pub(crate) list: Vec<(u64, u64)>,
}

impl<'a, R: Read, T: Tape> Archive<'a, R, T> {
    pub(crate) fn new(inner: R, tape: T, budget: &'a Budget) -> Self {
        Self { inner, tape, budget, left: 0, padding: 0, ended: false }
    }

    /// The next member, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        self.skip()?;
        let (mut name, mut link, mut extended) = (None, None, None);
        loop {
            let Some(header) = self.header()? else {
                return match (name, link, extended) {
                    (None, None, None) => Ok(None),
                    _ => Err(refused("the archive ends after an extended header")),
                };
            };
            let size = header.entry_size().map_err(reading)?;
            // Two headers of one kind for one member mean different things to different readers.
            let fresh = match header.entry_type() {
                EntryType::GNULongName => name.replace(until_nul(self.whole(size, LONGEST_NAME)?)).is_none(),
                EntryType::GNULongLink => link.replace(until_nul(self.whole(size, LONGEST_NAME)?)).is_none(),
                EntryType::XHeader => {
                    extended.replace(Pax::parse(&self.whole(size, LONGEST_PAX)?)?).is_none()
                }
                EntryType::XGlobalHeader => {
                    self.whole(size, LONGEST_PAX)?;
                    true
                }
                _ => return self.member(&header, size, name, link, extended.unwrap_or_default()).map(Some),
            };
            if !fresh {
                return Err(refused("two extended headers of one kind for one member"));
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        size: u64,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        mut pax: Pax,
    ) -> Result<Member> {
        self.budget.take_entry()?;
        let old = header.as_old();
        let size = pax.size.unwrap_or(size);
        let path = pax.sparse.as_mut().and_then(|sparse| sparse.name.take());
        let path = path.or(pax.path).or(name).unwrap_or_else(|| header.path_bytes().into_owned());
        let header_link = || header.link_name_bytes().unwrap_or_default().into_owned();
        let kind = match header.entry_type() {
            // Before there was a type for directories, a slash at the end said so.
            EntryType::Regular if path.ends_with(b"/") && header.as_ustar().is_none() => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other => {
                return Err(refused(format!("a member of unknown type {:?}", char::from(other.as_byte()))));
            }
        };
        if kind != Kind::File && size != 0 {
            return Err(refused(format!("{} is no file and has content", shown(&path))));
        }
        let mut member = Member {
            link: pax.link.or(link).unwrap_or_else(header_link),
            kind,
            mode: narrow(field(header.mode().map(u64::from), &old.mode)?)? & 0o7777,
            uid: pax.uid.map_or_else(|| field(header.uid(), &old.uid), Ok)?,
            gid: pax.gid.map_or_else(|| field(header.gid(), &old.gid), Ok)?,
            mtime: match pax.mtime {
                Some(time) => time,
                // Times before 1970 are negative numbers in base 256, of which the crate returns the lower half.
                None => Time { seconds: field(header.mtime(), &old.mtime)? as i64, nanos: 0 },
            },
            size,
            xattrs: pax.xattrs,
            sparse: None,
            path,
        };
        if member.path.len() > LONGEST_PATH || member.link.len() > LONGEST_PATH {
            return Err(refused(format!(
                "a path or link of more than {LONGEST_PATH} bytes: {}",
                shown(&member.path)
            )));
        }
        self.left = size;
        self.padding = size.next_multiple_of_block()? - size;
        if header.entry_type() == EntryType::GNUSparse {
            member.sparse = Some(self.old_map(header)?);
        } else if let Some(sparse) = pax.sparse {
            if (sparse.major, sparse.minor) != (1, 0) || kind != Kind::File {
                return Err(refused("a sparse file in an old format of extended headers")
                    .with_hint("make the archive with GNU tar's --sparse-version=1.0, or without --sparse"));
            }
            member.sparse = Some(self.new_map(sparse.real_size)?);
        }
        if let Some(Extents { real_size, list }) = &member.sparse {
            self.budget.take_bytes(*real_size)?;
            let end = list.iter().try_fold(0_u64, |end, (offset, length)| {
                (*offset >= end).then(|| offset.checked_add(*length)).flatten()
            });
            let listed = list.iter().try_fold(0_u64, |sum, (_, length)| sum.checked_add(*length));
            if end.is_none_or(|end| end > *real_size) || listed != Some(self.left) {
                return Err(refused(format!("the map of the sparse file {} is wrong", shown(&member.path))));
            }
        }
        Ok(member)
    }

    /// The map of a sparse file in the format of old GNU tar: in the header, and in blocks behind it.
    fn old_map(&mut self, header: &Header) -> Result<Extents> {
        let gnu = header.as_gnu().ok_or_else(|| refused("a sparse file without a header of GNU tar"))?;
        let mut list = Vec::new();
        let mut add = |blocks: &[GnuSparseHeader]| -> Result<()> {
            for block in blocks.iter().filter(|block| !block.is_empty()) {
                list.push((block.offset().map_err(reading)?, block.length().map_err(reading)?));
            }
            if list.len() > MOST_EXTENTS { Err(refused("a sparse file of too many parts")) } else { Ok(()) }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            block.as_mut_bytes().copy_from_slice(&self.block()?);
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok(Extents { real_size: gnu.real_size().map_err(reading)?, list })
    }

    /// The map in the format 1.0: decimal numbers, a line each, at the start of the content.
    fn new_map(&mut self, real_size: u64) -> Result<Extents> {
        let mut lines = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        while lines.len() < wanted {
            let Some(left) = self.left.checked_sub(BLOCK as u64) else {
                return Err(refused("a sparse file's map is cut off"));
            };
            let block = self.block()?;
            self.left = left;
            for byte in block {
                match byte {
                    _ if lines.len() == wanted => break, // the rest of the block is padding
                    b'\n' => {
                        lines.push(pax::number(&line)?);
                        line.clear();
                        if lines.len() == 1 {
                            let extents = usize::try_from(lines[0]).unwrap_or(usize::MAX);
                            if extents > MOST_EXTENTS {
                                return Err(refused("a sparse file of too many parts"));
                            }
                            wanted = 1 + 2 * extents;
                        }
                    }
                    byte if line.len() < 20 => line.push(byte),
                    _ => return Err(refused("a sparse file's map has a number that is too long")),
                }
            }
        }
        Ok(Extents { real_size, list: lines[1..].chunks(2).map(|pair| (pair[0], pair[1])).collect() })
    }

    /// Reads content of the current member; 0 at its end. It does not go to the tape.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.inner.read(&mut buffer[..most]).map_err(reading)?;
        if length == 0 {
            return Err(refused("the archive is cut off in the middle of a file"));
        }
        self.budget.take_bytes(length as u64)?;
        self.left -= length as u64;
        Ok(length)
    }

    /// Reads content that goes to the tape as well.
    pub(crate) fn read_taped(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = self.read(buffer)?;
        self.tape.raw(&buffer[..length])?;
        Ok(length)
    }

    /// Whether the archive said that it ends, and is not just cut off between two members.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what follows the archive to the end of the stream, and returns the stream and the tape.
    pub(crate) fn finish(mut self) -> Result<(R, T)> {
        let mut buffer = [0; 16 * BLOCK];
        loop {
            let length = self.inner.read(&mut buffer).map_err(reading)?;
            if length == 0 {
                return Ok((self.inner, self.tape));
            }
            self.budget.take_bytes(length as u64)?;
            self.tape.raw(&buffer[..length])?;
        }
    }

    /// Goes to the next header.
    fn skip(&mut self) -> Result<()> {
        let mut buffer = [0; BLOCK];
        while self.read_taped(&mut buffer)? > 0 {}
        self.left = std::mem::take(&mut self.padding);
        while self.read_taped(&mut buffer)? > 0 {}
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let Some(block) = self.block_or_end()? else { return Ok(None) };
        if block == [0; BLOCK] {
            self.ended = true;
            return match self.block_or_end()? {
                Some(second) if second != [0; BLOCK] => Err(refused("the archive goes on after its end")),
                _ => Ok(None),
            };
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        if header.cksum().map_err(reading)? != sum + 8 * 32 {
            return Err(refused("a header's checksum is wrong: this is no tar archive, or it is damaged"));
        }
        Ok(Some(header))
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        self.block_or_end()?.ok_or_else(|| refused("the archive is cut off"))
    }

    fn block_or_end(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut length = 0;
        while length < BLOCK {
            match self.inner.read(&mut block[length..]).map_err(reading)? {
                0 if length == 0 => return Ok(None),
                0 => return Err(refused("the archive is cut off in the middle of a header")),
                more => length += more,
            }
        }
        self.budget.take_bytes(BLOCK as u64)?;
        self.tape.raw(&block)?;
        Ok(Some(block))
    }

    /// The content of an extended header.
    fn whole(&mut self, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            return Err(refused(format!("an extended header of {size} bytes")));
        }
        self.left = size;
        self.padding = size.next_multiple_of_block()? - size;
        let mut data =
            vec![0; usize::try_from(size).map_err(|_| refused("an extended header is too large"))?];
        let mut length = 0;
        while length < data.len() {
            length += self.read_taped(&mut data[length..])?;
        }
        self.skip()?;
        Ok(data)
    }
}

impl<R: Read + Seek, T: Tape> Archive<'_, R, T> {
    /// Where in the stream the content of the current member is.
    pub(crate) fn position(&mut self) -> Result<u64> {
        self.inner.stream_position().map_err(reading)
    }

    /// Jumps over the content of the current member.
    pub(crate) fn seek_over(&mut self) -> Result<()> {
        let length = i64::try_from(std::mem::take(&mut self.left) + std::mem::take(&mut self.padding))
            .map_err(|_| refused("a member beyond all sizes"))?;
        // Relative, because a buffered reader keeps its buffer then.
        self.inner.seek(SeekFrom::Current(length)).map_err(reading)?;
        Ok(())
    }
}

/// Where nothing is kept.
pub(crate) struct NoTape;

impl Tape for NoTape {
    fn raw(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

trait Blocks: Sized {
    fn next_multiple_of_block(self) -> Result<Self>;
}

impl Blocks for u64 {
    fn next_multiple_of_block(self) -> Result<Self> {
        self.checked_next_multiple_of(BLOCK as Self).ok_or_else(|| refused("a size beyond all numbers"))
    }
}

/// A number of a header, whose field may be left empty.
fn field(number: std::io::Result<u64>, bytes: &[u8]) -> Result<u64> {
    match number {
        Err(_) if bytes.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
        other => other.map_err(reading),
    }
}

fn narrow(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| refused("a mode that is too large"))
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

/// A name for a message.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(&path[..path.len().min(200)]);
    format!("{:?}", text)
}
