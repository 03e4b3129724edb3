//! A layer's archive without the content of its files, which are in the tree: both together give the archive back byte
//! for byte, so that it has its digest when it is exported or verified.
//!
//! A record is a type, a length and as many bytes: raw bytes of the archive, or the path of a file whose content comes
//! next, with its size in front.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::archive::{Tape, shown};
use super::dir;
use super::{damaged, refused, storing};
use crate::error::Result;

const RAW: u8 = 0;
const FILE: u8 = 1;
/// Raw bytes are kept back until there are so many.
const CHUNK: usize = 64 * 1024;
/// Members that replace another one of the same archive. Archives that somebody appended to have some.
const MOST_MOVED: usize = 10_000;

/// Something that was in the tree and had to make way for another member of the same name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// Where it was.
    path: Vec<u8>,
    /// Its name among the spare files.
    spare: u32,
    /// Files that came before it made way are found there.
    before: u64,
}

pub(crate) struct SkeletonWriter {
    out: GzEncoder<BufWriter<File>>,
    raw: Vec<u8>,
    files: u64,
    moved: Vec<Moved>,
}

impl SkeletonWriter {
    pub(crate) fn new(file: File) -> Self {
        let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Self { out, raw: Vec::with_capacity(2 * CHUNK), files: 0, moved: Vec::new() }
    }

    /// The content of a file comes next.
    pub(crate) fn file(&mut self, path: &Path, size: u64) -> Result<()> {
        self.flush()?;
        let path = path.as_os_str().as_bytes();
        let mut data = size.to_le_bytes().to_vec();
        data.extend_from_slice(path);
        self.record(FILE, &data)?;
        self.files += 1;
        Ok(())
    }

    /// What is at `path` makes way; the name that it gets.
    pub(crate) fn make_way(&mut self, path: &Path) -> Result<u32> {
        if self.moved.len() == MOST_MOVED {
            return Err(refused(format!(
                "more than {MOST_MOVED} members have the name of another one before"
            ))
            .with_hint("make the archive anew instead of appending to it"));
        }
        let spare = u32::try_from(self.moved.len()).unwrap_or(u32::MAX);
        let path = path.as_os_str().as_bytes().to_vec();
        self.moved.push(Moved { path, spare, before: self.files });
        Ok(spare)
    }

    fn record(&mut self, kind: u8, data: &[u8]) -> Result<()> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut write = || -> std::io::Result<()> {
            self.out.write_all(&[kind])?;
            self.out.write_all(&length.to_le_bytes())?;
            self.out.write_all(data)
        };
        write().map_err(storing("writing a layer's skeleton"))
    }

    fn flush(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        if !raw.is_empty() {
            self.record(RAW, &raw)?;
        }
        self.raw = raw;
        self.raw.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<Moved>> {
        self.flush()?;
        self.out.finish().and_then(|mut file| file.flush()).map_err(storing("writing a layer's skeleton"))?;
        Ok(self.moved)
    }
}

impl Tape for SkeletonWriter {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw.extend_from_slice(bytes);
        if self.raw.len() >= CHUNK { self.flush() } else { Ok(()) }
    }
}

/// Writes the archive of a layer.
///
/// # Errors
///
/// A file that is missing or has another size, with its path; its content is for the caller to hash.
pub(crate) fn rebuild(
    skeleton: File,
    moved: &[Moved],
    tree: BorrowedFd<'_>,
    spare: BorrowedFd<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let mut by_path: HashMap<&Path, Vec<&Moved>> = HashMap::new();
    for moved in moved {
        by_path.entry(Path::new(OsStr::from_bytes(&moved.path))).or_default().push(moved);
    }
    let mut input = BufReader::new(GzDecoder::new(BufReader::new(skeleton)));
    let mut files = 0;
    let mut head = [0; 5];
    let mut data = Vec::new();
    let writing = || storing("writing a layer's archive");
    while read_head(&mut input, &mut head)? {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        data.clear();
        let got = input.by_ref().take(u64::from(length)).read_to_end(&mut data);
        if got.map_err(|_| broken())? != length as usize {
            return Err(broken());
        }
        match (head[0], data.split_first_chunk::<8>()) {
            (RAW, _) => out.write_all(&data).map_err(writing())?,
            (FILE, Some((size, path))) => {
                let path = Path::new(OsStr::from_bytes(path));
                copy_file(
                    path,
                    u64::from_le_bytes(*size),
                    &place(path, files, &by_path),
                    (tree, spare),
                    out,
                )?;
                files += 1;
            }
            _ => return Err(broken()),
        }
    }
    Ok(())
}

fn broken() -> crate::Error {
    damaged("a layer's skeleton is damaged")
}

fn read_head(input: &mut impl Read, head: &mut [u8; 5]) -> Result<bool> {
    let mut length = 0;
    while length < head.len() {
        match input.read(&mut head[length..]) {
            Ok(0) if length == 0 => return Ok(false),
            Ok(0) | Err(_) => return Err(broken()),
            Ok(more) => length += more,
        }
    }
    Ok(true)
}

/// Where the content of a file is.
enum Place {
    Tree,
    Spare(PathBuf),
}

/// The file number `number` at `path` is still there, or in what made way first after it came: the file itself, or a
/// directory above it.
fn place(path: &Path, number: u64, moved: &HashMap<&Path, Vec<&Moved>>) -> Place {
    let hits = path.ancestors().filter_map(|above| {
        // What made way at one path is in the order in which it did.
        let all = moved.get(above)?;
        let first = all.get(all.partition_point(|moved| moved.before <= number))?;
        Some((first.spare, path.strip_prefix(above).ok()?))
    });
    hits.min_by_key(|(spare, _)| *spare).map_or(Place::Tree, |(spare, rest)| {
        let name = PathBuf::from(spare.to_string());
        Place::Spare(if rest.as_os_str().is_empty() { name } else { name.join(rest) })
    })
}

fn copy_file(
    path: &Path,
    size: u64,
    place: &Place,
    (tree, spare): (BorrowedFd<'_>, BorrowedFd<'_>),
    out: &mut impl Write,
) -> Result<()> {
    let name = shown(path.as_os_str().as_bytes());
    let opened = match place {
        Place::Tree => dir::open_file(tree, path),
        Place::Spare(path) => dir::open_file(spare.as_fd(), path),
    };
    let file = opened.map_err(|error| {
        damaged(format!("the file {name} of a layer cannot be read: {error}")).with_path(path)
    })?;
    // One byte more shows a file that has grown.
    let copied =
        std::io::copy(&mut file.take(size + 1), out).map_err(storing("writing a layer's archive"))?;
    if copied != size {
        return Err(
            damaged(format!("the file {name} of a layer has another size than {size} bytes")).with_path(path)
        );
    }
    Ok(())
}
