//! The values that options take, from whatever bytes the caller passed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use belljar::{Bytes, Resource};

/// A value, or what is wrong with the text: "is not a size", to be put behind the option and the text.
pub(crate) type Parsed<T> = Result<T, &'static str>;

/// A name.
pub(crate) fn text(text: &OsStr) -> Parsed<String> {
    text.to_str().map(str::to_owned).ok_or("is not UTF-8")
}

/// A whole number.
pub(crate) fn number<N: std::str::FromStr>(text: &OsStr) -> Parsed<N> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or("is not a number in range")
}

/// `123`, `64K`, `256M`, `2G`.
pub(crate) fn size(text: &OsStr) -> Parsed<Bytes> {
    bytes(text).map(Bytes::new).ok_or("is not a size: a number of bytes, or one with K, M or G")
}

fn bytes(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?;
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `500ms`, `1.5s`, `2m`, or plain seconds.
pub(crate) fn duration(text: &OsStr) -> Parsed<Duration> {
    let parse = || {
        let text = text.to_str()?;
        let (digits, unit_ms) = [("ms", 1), ("s", 1000), ("m", 60_000)]
            .into_iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
            .unwrap_or((text, 1000));
        // A float has no room for the largest whole numbers.
        match digits.parse() {
            Ok(whole) if unit_ms == 1 => Some(Duration::from_millis(whole)),
            Ok(whole) => Some(Duration::from_secs(whole.checked_mul(unit_ms / 1000)?)),
            Err(_) => {
                let seconds = decimal(OsStr::new(digits)).ok()? * unit_ms as f64 / 1000.0;
                Duration::try_from_secs_f64(seconds).ok()
            }
        }
    };
    parse().ok_or("is not a duration: seconds, or a number with ms, s or m")
}

/// Digits, with a point among them if need be: none of the other forms that floats have.
pub(crate) fn decimal(text: &OsStr) -> Parsed<f64> {
    let plain = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    plain.and_then(|text| text.parse().ok()).ok_or("is not a decimal number")
}

/// `KEY=VALUE`.
pub(crate) fn variable(text: &OsStr) -> Parsed<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let equals = bytes.iter().position(|byte| *byte == b'=').ok_or("is not NAME=VALUE")?;
    let part = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Ok((part(&bytes[..equals]), part(&bytes[equals + 1..])))
}

/// `INSIDE:OUTSIDE:COUNT`.
pub(crate) fn extent(text: &OsStr) -> Parsed<(u32, u32, u32)> {
    let parse = || {
        let mut numbers = text.to_str()?.split(':').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let extent = (next()?, next()?, next()?);
        numbers.next().is_none().then_some(extent)
    };
    parse().ok_or("is not INSIDE:OUTSIDE:COUNT in numbers")
}

/// `NAME=SOFT[:HARD]`.
pub(crate) fn rlimit(text: &OsStr) -> Parsed<(Resource, u64, u64)> {
    let usage = "is not NAME=SOFT[:HARD]";
    let (name, values) = text.to_str().and_then(|text| text.split_once('=')).ok_or(usage)?;
    let resource = Resource::from_name(name).ok_or("names no resource of setrlimit(2)")?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { bytes(OsStr::new(text)) };
    Ok((resource, value(soft).ok_or(usage)?, value(hard).ok_or(usage)?))
}

/// A path of the host, made absolute without following links.
pub(crate) fn host_path(text: &OsStr) -> Parsed<PathBuf> {
    std::path::absolute(text).map_err(|_| "is not a path")
}

/// `SRC[:DST]`. The colon is the last one before a slash, as `DST` is absolute; `\:` is a colon of the path.
pub(crate) fn bind(text: &OsStr) -> Parsed<(PathBuf, PathBuf)> {
    let bytes = text.as_bytes();
    let colon = colons(bytes).into_iter().rev().find(|at| bytes.get(at + 1) == Some(&b'/'));
    let source = host_path(&unescape(&bytes[..colon.unwrap_or(bytes.len())]))?;
    let target = match colon {
        Some(at) => unescape(&bytes[at + 1..]).into(),
        None => source.clone(),
    };
    Ok((source, target))
}

/// `DST[:SIZE]`, split at the last colon; `\:` is a colon of the path.
pub(crate) fn sized(text: &OsStr) -> Parsed<(OsString, Option<Bytes>)> {
    let bytes = text.as_bytes();
    match colons(bytes).last() {
        Some(at) => {
            let size = size(OsStr::from_bytes(&bytes[at + 1..]))
                .map_err(|_| "ends in no size; a colon in a path is written \\:")?;
            Ok((unescape(&bytes[..*at]), Some(size)))
        }
        None => Ok((unescape(bytes), None)),
    }
}

/// `PATH[:PATH…]`; `\:` is a colon of a path.
pub(crate) fn host_paths(text: &OsStr) -> Parsed<Vec<PathBuf>> {
    let bytes = text.as_bytes();
    let mut ends = colons(bytes);
    ends.push(bytes.len());
    let mut start = 0;
    let mut paths = Vec::new();
    for end in ends {
        paths.push(host_path(&unescape(&bytes[start..end])).map_err(|_| "contains an empty path")?);
        start = end + 1;
    }
    Ok(paths)
}

/// Where the colons are that separate.
fn colons(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b':' => found.push(at),
            _ => {}
        }
        at += 1;
    }
    found
}

/// Takes the backslash before colons and backslashes away; any other one is part of the name.
fn unescape(bytes: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [next @ (b':' | b'\\'), after @ ..]) => {
                out.push(*next);
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    OsString::from_vec(out)
}
