//! What the fuzz targets in `fuzz/` call: one function for each parser of bytes that somebody else chooses. They are here
//! because those parsers are private, and stay so: this module is compiled for unit tests and by `cargo fuzz` only.
//!
//! A function returns for every input, or panics where a promise is broken. That the promise is kept for the seeds and
//! for some thousand changes of them is an ordinary test (`tests.rs`).

#[cfg(feature = "oci")]
mod archive;
#[cfg(feature = "oci")]
mod image;
#[cfg(all(test, feature = "oci"))]
mod image_seeds;
#[cfg(feature = "serde")]
mod policy;
mod proc_text;
#[cfg(feature = "serde")]
mod profile;
#[cfg(test)]
mod seeds;
#[cfg(feature = "oci")]
mod tar_text;
#[cfg(test)]
mod tests;
mod wire;

#[cfg(feature = "oci")]
pub use archive::archive;
#[cfg(feature = "oci")]
pub use image::image;
#[cfg(feature = "serde")]
pub use policy::policy;
pub use proc_text::proc_text;
#[cfg(feature = "serde")]
pub use profile::profile;
#[cfg(test)]
pub(crate) use wire::encoded_again;
pub use wire::wire;

/// The parts of an input: what a target takes from the front.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte, 0 at the end.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// As many bytes as there still are of a number.
    fn number(&mut self) -> u64 {
        self.take(8).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Bytes behind a byte with their length.
    #[cfg(feature = "oci")]
    fn text(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(usize::from(length))
    }
}

/// What every error must be, whatever it is about.
pub(crate) fn check_error(error: &crate::Error) {
    let text = error.to_string();
    assert!(error.kind() != crate::ErrorKind::Internal, "a promise was broken: {text}");
    assert!(!text.is_empty() && error.hint() != Some(""), "an error without words");
    assert!(!text.contains(char::is_control), "more than one line: {text:?}");
}
