//! SHA-256 digests, as names of layers and as what a stream must have.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result, Step};

/// The SHA-256 digest of a layer's uncompressed archive, of a blob, or of an image's configuration.
///
/// # Examples
///
/// ```
/// use belljar::Digest;
///
/// let empty: Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(empty, Digest::of(b""));
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without `sha256:`.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads `sha256:` and 64 lowercase hexadecimal digits, the only algorithm there is here.
    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| {
            // What is wrong may be as long as an archive.
            let start: String = text.chars().take(80).collect();
            Error::message(ErrorKind::InvalidImage, Step::Image, format!("{start:?} is no SHA-256 digest"))
        })
    }
}

/// A stream that is hashed and counted on its way.
pub(crate) struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// The stream itself, the digest of what went through, and how many bytes that was.
    pub(crate) fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest(self.hash.finalize().into()), self.count)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.count += length as u64;
        Ok(length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.hash.update(&buffer[..length]);
        self.count += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_is_a_digest() {
        let good = Digest::of(b"x").to_string();
        assert_eq!(good.parse::<Digest>().unwrap(), Digest::of(b"x"));
        let bad =
            ["", "sha256:", "sha512:00", &good[7..], &good.to_uppercase(), &good[..70], "sha256:../../x"];
        for text in bad {
            assert_eq!(text.parse::<Digest>().unwrap_err().kind(), ErrorKind::InvalidImage, "{text}");
        }
        assert!(format!("{good}0").parse::<Digest>().is_err());
    }

    #[test]
    fn a_stream_has_the_digest_of_its_bytes() {
        let mut reader = Hashing::new(&b"hello"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (_, digest, count) = reader.finish();
        assert_eq!((digest, count), (Digest::of(b"hello"), 5));
    }
}
