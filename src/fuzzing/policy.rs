//! Policies as text, which services take from those who use them.

use crate::{ErrorKind, Result, Sandbox};

/// Reads the input as a policy in both formats. What was read is written, and read again.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for read in [Sandbox::from_toml as fn(&str) -> Result<Sandbox>, Sandbox::from_json] {
        let sandbox = match read(text) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                super::check_error(&error);
                let kinds = [ErrorKind::InvalidConfig, ErrorKind::LimitExceeded, ErrorKind::Unsupported];
                assert!(kinds.contains(&error.kind()), "a policy is no failure of the machine: {error:?}");
                continue;
            }
        };
        let written = match sandbox.to_toml() {
            Ok(written) => written,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LimitExceeded, "what was read can be written: {error:?}");
                continue;
            }
        };
        let again = Sandbox::from_toml(&written).expect("what was written can be read");
        assert_eq!(again.to_toml().expect("what was read can be written"), written);
        if let Ok(json) = sandbox.to_json() {
            let again = Sandbox::from_json(&json).expect("what was written can be read");
            assert_eq!(again.to_toml().expect("what was read can be written"), written);
        }
    }
}
