//! Archives and compressed streams in memory, without what importing them costs.

use std::io::Read;

use super::{check_error, tar_text};
use crate::ErrorKind;
use crate::image::fuzzing::Decoder;
use crate::layer::fuzzing::{archive as read, extended};

/// A stream may not become longer.
const MOST: u64 = 1 << 20;

/// Reads the input as an archive, in its short form too, as an extended header, and as a compressed archive.
pub fn archive(data: &[u8]) {
    let short = tar_text::archive(data, b"/outside");
    let mut unpacked = Vec::new();
    let decoded =
        Decoder::new(data).is_ok_and(|decoder| decoder.take(MOST).read_to_end(&mut unpacked).is_ok());
    let compressed = if decoded { read(&unpacked) } else { Ok(()) };
    for refused in [read(data), read(&short), extended(data), compressed].into_iter().filter_map(Result::err)
    {
        check_error(&refused);
        assert!(
            matches!(refused.kind(), ErrorKind::InvalidImage | ErrorKind::LimitExceeded),
            "an archive is no failure of the machine: {refused:?}"
        );
    }
}
