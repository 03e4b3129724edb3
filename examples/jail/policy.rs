//! `--policy` and `--print-policy`, which need the feature `serde` of the library.

use std::ffi::OsStr;

use belljar::{Bytes, Sandbox};

/// A policy as a file has it.
pub(crate) struct Policy {
    pub(crate) sandbox: Sandbox,
    /// What it allows of output, which jail itself counts.
    pub(crate) output_max: Option<Bytes>,
}

#[cfg(feature = "serde")]
pub(crate) fn read(path: &OsStr) -> Result<Policy, String> {
    use std::io::Read as _;

    // One byte more than the library reads, so that it can say so.
    const MOST: u64 = (1 << 20) + 1;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST).read_to_string(&mut text))
        .map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    let is_json = match std::path::Path::new(path).extension().and_then(OsStr::to_str) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    let read = if is_json { Sandbox::from_json(&text) } else { Sandbox::from_toml(&text) };
    let sandbox = read.map_err(|error| format!("{path:?}: {}", crate::explain(error)))?;
    let output_max = output_max(&sandbox)?;
    Ok(Policy { sandbox, output_max })
}

/// Asked of the policy as it is written: a number of bytes, or one with a unit.
#[cfg(feature = "serde")]
fn output_max(sandbox: &Sandbox) -> Result<Option<Bytes>, String> {
    let text = sandbox.to_json().map_err(crate::explain)?;
    let policy: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(match &policy["output_max"] {
        serde_json::Value::String(text) => {
            let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(at);
            let shift = match unit {
                "KiB" => 10,
                "MiB" => 20,
                "GiB" => 30,
                "TiB" => 40,
                _ => 0,
            };
            // "max" has no number, and is no limit.
            Some(number.parse().map_or(Bytes::MAX, |number: u64| Bytes::new(number << shift)))
        }
        number => number.as_u64().map(Bytes::new),
    })
}

#[cfg(feature = "serde")]
pub(crate) fn text(sandbox: &Sandbox) -> Result<String, String> {
    sandbox.to_toml().map_err(crate::explain)
}

#[cfg(not(feature = "serde"))]
const WITHOUT: &str = "is not in this jail; build it with `cargo build --features serde --example jail`";

#[cfg(not(feature = "serde"))]
pub(crate) fn read(_: &OsStr) -> Result<Policy, String> {
    Err(WITHOUT.to_owned())
}

#[cfg(not(feature = "serde"))]
pub(crate) fn text(_: &Sandbox) -> Result<String, String> {
    Err(format!("--print-policy {WITHOUT}"))
}
