//! Rules of landlock, one for each time that the option is given.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use belljar::Landlock;

use crate::value::{self, Parsed};

/// Adds `read:PATH`, `connect:PORT` and their like to what was allowed before.
pub(crate) fn rule(rules: Landlock, text: &OsStr) -> Parsed<Landlock> {
    const WRONG: &str = "is none of nothing, system, read:PATH, write:PATH, exec:PATH, bind:PORT, connect:PORT, tcp, \
                         sockets, signals and abi:N";
    let bytes = text.as_bytes();
    let (word, object) = match bytes.iter().position(|byte| *byte == b':') {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    let path = || object.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).ok_or(WRONG);
    let number = || object.ok_or(WRONG).map(OsStr::from_bytes);
    Ok(match (word, object) {
        (b"nothing", None) => rules,
        (b"system", None) => rules.system(),
        (b"tcp", None) => rules.share_tcp(),
        (b"sockets", None) => rules.share_abstract_sockets(),
        (b"signals", None) => rules.share_signals(),
        (b"read", _) => rules.read(path()?),
        (b"write", _) => rules.write(path()?),
        (b"exec", _) => rules.execute(path()?),
        (b"bind", _) => rules.bind_tcp(value::number(number()?)?),
        (b"connect", _) => rules.connect_tcp(value::number(number()?)?),
        (b"abi", _) => rules.abi(value::number(number()?)?),
        _ => return Err(WRONG),
    })
}
