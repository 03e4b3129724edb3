//! Seccomp profiles, which come with images and from the net.

use crate::ErrorKind;

/// Reads the input as a profile.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = crate::seccomp::fuzzing::profile(text) {
        super::check_error(&error);
        let is_refusal = matches!(error.kind(), ErrorKind::InvalidConfig | ErrorKind::LimitExceeded);
        assert!(is_refusal, "a profile is no failure of the machine: {error:?}");
    }
}
