//! Compressed streams. What they are is told by their first bytes, whatever a document says.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::Result;
use crate::layer::reading;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Frames that decoders pass over: `0x184D2A50` and the 15 numbers after it, least byte first.
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

pub(crate) enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(MultiGzDecoder<R>),
    Zstd(Box<Zstd<R>>),
}

impl<R: BufRead> Decoder<R> {
    pub(crate) fn new(mut stream: R) -> Result<Self> {
        let start = stream.fill_buf().map_err(reading)?;
        if start.starts_with(GZIP) {
            Ok(Self::Gzip(MultiGzDecoder::new(stream)))
        } else if is_zstd(start) {
            Ok(Self::Zstd(Box::new(Zstd { stream, frame: FrameDecoder::new(), within: false })))
        } else {
            Ok(Self::Plain(stream))
        }
    }

    /// The stream, which may have bytes left that the decoder did not need.
    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::Plain(stream) => stream,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.stream,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Frames of zstd one after another.
pub(crate) struct Zstd<R> {
    stream: R,
    frame: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.within = true;
            }
            while self.frame.can_collect() < buffer.len() && !self.frame.is_finished() {
                let more = BlockDecodingStrategy::UptoBytes(buffer.len() - self.frame.can_collect());
                self.frame.decode_blocks(&mut self.stream, more).map_err(io::Error::other)?;
            }
            match self.frame.read(buffer)? {
                0 if self.frame.is_finished() => self.within = false,
                0 => return Err(io::Error::other("a zstd stream makes no progress")),
                length => return Ok(length),
            }
        }
    }

    /// Begins the next frame, if there is one; passes over frames that say nothing.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.stream.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.init(&mut self.stream) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.stream.by_ref().take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

fn is_zstd(start: &[u8]) -> bool {
    start.starts_with(ZSTD)
        || (start.get(1..4) == Some(SKIPPABLE) && start.first().is_some_and(|byte| byte & 0xf0 == 0x50))
}

/// Whether a file is compressed, by its first bytes.
pub(crate) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut start = [0; 4];
    let length = file.read_at(&mut start, 0)?;
    Ok(start[..length].starts_with(GZIP) || is_zstd(&start[..length]))
}
