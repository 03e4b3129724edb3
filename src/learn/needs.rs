//! What a program needs, as a set of lines.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::landlock::LandlockAccess;
use crate::seccomp::Syscall;

/// One thing that a program needs. Its text is one line, which [`FromStr`] reads back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Need {
    /// A system call: `syscall ioctl 1=0x5401`, with the arguments, counted from 0, that it is needed with.
    Syscall {
        /// The name of the call.
        name: String,
        /// Arguments by their index. Empty: whatever they are.
        args: Vec<(u8, u64)>,
    },
    /// A right of files: `read_file /etc/passwd`, by the names of [`LandlockAccess`].
    File {
        /// The name of a single right.
        access: String,
        /// The path inside, without symlinks. Of what did not exist before the program made it: the directory.
        path: PathBuf,
    },
    /// An address that it connected to, or sent to by `sendto(2)`: `connect 192.0.2.1:443`, `connect unix:/run/x`,
    /// `connect abstract:x`. Addresses of `sendmsg(2)` are not seen, and bytes that are not UTF-8 are shown as U+FFFD.
    Connect(String),
    /// An address that it bound a socket to.
    Bind(String),
    /// A capability that it may have exercised, without `CAP_`: `capability NET_BIND_SERVICE`.
    Capability(String),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syscall { name, args } => {
                write!(f, "syscall {name}")?;
                args.iter().try_for_each(|(index, value)| write!(f, " {index}={value:#x}"))
            }
            Self::File { access, path } => write!(f, "{access} {}", escaped(path.as_os_str().as_bytes())),
            Self::Connect(address) => write!(f, "connect {}", escaped(address.as_bytes())),
            Self::Bind(address) => write!(f, "bind {}", escaped(address.as_bytes())),
            Self::Capability(name) => write!(f, "capability {name}"),
        }
    }
}

impl Need {
    /// How many bytes its names have.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Syscall { name, args } => name.len() + 16 * args.len(),
            Self::File { access, path } => access.len() + path.as_os_str().len(),
            Self::Connect(text) | Self::Bind(text) | Self::Capability(text) => text.len(),
        }
    }
}

/// Characters that end lines, or change how the others of a line are shown to who reads it.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Text on one line: bytes that are not printable, and the backslash, as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() || is_unseen(c) {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|byte| text += &format!("\\x{byte:02x}"));
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    text
}

/// The bytes of an [`escaped`] text.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escape.strip_prefix('x')?.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        rest = escape.get(3..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

impl FromStr for Need {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!("{what}: {line:?}")).with_hint(
                "a line is one that Needs prints, such as \"syscall read\" or \"read_file /etc/passwd\"",
            )
        };
        let (word, rest) = line.split_once(' ').ok_or_else(|| wrong("a need of one word"))?;
        let text = || String::from_utf8(unescaped(rest)?).ok().filter(|text| !text.is_empty());
        match word {
            "syscall" => syscall(rest).ok_or_else(|| wrong("this is no system call with arguments")),
            "connect" => Ok(Self::Connect(text().ok_or_else(|| wrong("this is no address"))?)),
            "bind" => Ok(Self::Bind(text().ok_or_else(|| wrong("this is no address"))?)),
            "capability" => {
                crate::capability::mask_of([&rest.to_owned()])?;
                Ok(Self::Capability(rest.to_owned()))
            }
            access => {
                LandlockAccess::single(access).ok_or_else(|| wrong("there is no need of this kind"))?;
                let path = PathBuf::from(OsString::from_vec(
                    unescaped(rest).ok_or_else(|| wrong("this is no path"))?,
                ));
                let plain = path.is_absolute() && !path.as_os_str().as_bytes().contains(&0);
                if plain {
                    Ok(Self::File { access: access.to_owned(), path })
                } else {
                    Err(wrong("this is no absolute path"))
                }
            }
        }
    }
}

/// `NAME INDEX=VALUE …`, with indices that ascend.
fn syscall(text: &str) -> Option<Need> {
    let mut words = text.split(' ');
    let name = words.next()?.to_owned();
    // Of this architecture or of another.
    crate::seccomp::numbers_of(&name).ok().filter(|_| !name.starts_with('@'))?;
    let mut args = Vec::new();
    for word in words {
        let (index, value) = word.split_once("=0x")?;
        let index = index.parse().ok().filter(|index| *index < 6)?;
        let value = u64::from_str_radix(value, 16).ok().filter(|_| !value.starts_with('+'))?;
        if args.last().is_some_and(|(last, _)| *last >= index) {
            return None;
        }
        args.push((index, value));
    }
    Some(Need::Syscall { name, args })
}

/// What a program needed in one run or in several: a set of [`Need`]s.
///
/// Its text has one line for each, sorted, so that it can be kept beside a program and compared in continuous integration;
/// [`parse`](str::parse) reads it back. Empty lines and lines that begin with `#` are passed over.
///
/// # Examples
///
/// ```
/// use belljar::Needs;
///
/// let before: Needs = "syscall read\nread_file /etc/passwd\n".parse()?;
/// let now: Needs = "syscall read\nsyscall socket 0=0x2 1=0x1 2=0x0\nread_file /etc/passwd\n".parse()?;
/// let diff = now.diff(&before);
/// assert_eq!(diff.to_string(), "+ syscall socket 0=0x2 1=0x1 2=0x0\n");
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(BTreeSet<Need>);

impl Needs {
    /// Each of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Need> {
        self.0.iter()
    }

    /// Whether this is among them.
    #[must_use]
    pub fn contains(&self, need: &Need) -> bool {
        self.0.contains(need)
    }

    /// Adds what another run needed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Needs, Sandbox};
    ///
    /// let sandbox = Sandbox::new();
    /// let mut needs = Needs::default();
    /// for input in ["a.txt", "b.txt"] {
    ///     needs.merge(&sandbox.learn(Command::new("/usr/bin/sort").arg(input))?.needs);
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn merge(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// What is needed now and was not, and what is needed no longer.
    #[must_use]
    pub fn diff(&self, old: &Self) -> NeedsDiff {
        NeedsDiff {
            added: self.0.difference(&old.0).cloned().collect(),
            removed: old.0.difference(&self.0).cloned().collect(),
        }
    }

    pub(super) fn insert(&mut self, need: Need) {
        self.0.insert(need);
    }

    /// The calls with these arguments, or with any if there are too many of them.
    pub(super) fn insert_call(&mut self, call: Syscall, args: Option<Vec<(u8, u64)>>) {
        if let Some(name) = call.name() {
            self.insert(Need::Syscall { name: name.to_owned(), args: args.unwrap_or_default() });
        }
    }

    pub(super) fn insert_file(&mut self, access: &str, path: &Path) {
        self.insert(Need::File { access: access.to_owned(), path: path.to_owned() });
    }
}

impl IntoIterator for Needs {
    type Item = Need;
    type IntoIter = std::collections::btree_set::IntoIter<Need>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Need> for Needs {
    fn from_iter<T: IntoIterator<Item = Need>>(needs: T) -> Self {
        Self(needs.into_iter().collect())
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|need| writeln!(f, "{need}"))
    }
}

impl FromStr for Needs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::parse).collect()
    }
}

/// How [`Needs`] differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeedsDiff {
    /// What was not needed before.
    pub added: Vec<Need>,
    /// What is needed no longer.
    pub removed: Vec<Need>,
}

impl NeedsDiff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for NeedsDiff {
    /// A line for each: `+` before what is new, `-` before what is gone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.added.iter().try_for_each(|need| writeln!(f, "+ {need}"))?;
        self.removed.iter().try_for_each(|need| writeln!(f, "- {need}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back() {
        let needs: Needs = [
            Need::Syscall { name: "read".into(), args: vec![] },
            Need::Syscall { name: "ioctl".into(), args: vec![(1, 0x5401)] },
            Need::Syscall { name: "socket".into(), args: vec![(0, 1), (1, u64::MAX), (2, 0)] },
            Need::File { access: "read_file".into(), path: "/etc/passwd".into() },
            Need::File { access: "make_reg".into(), path: "/a b\\c\n\u{2028}d".into() },
            Need::File {
                access: "truncate".into(),
                path: OsString::from_vec(b"/\xff\xfe/x".to_vec()).into(),
            },
            Need::File { access: "execute".into(), path: "/\u{202e}dwssap/\u{200b}".into() },
            Need::Connect("127.0.0.1:80".into()),
            Need::Bind("unix:/run/\u{7}x".into()),
            Need::Capability("NET_BIND_SERVICE".into()),
        ]
        .into_iter()
        .collect();
        let text = needs.to_string();
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && !is_unseen(c)), "{text}");
        assert_eq!(text.parse::<Needs>().unwrap(), needs);
        assert_eq!(format!("# a remark\n\n{text}").parse::<Needs>().unwrap(), needs);
    }

    #[test]
    fn other_text_is_refused() {
        for line in [
            "read",
            "syscall",
            "syscall no_such_call",
            "syscall @file-system",
            "syscall read 6=0x1",
            "syscall read 1=0x1 1=0x2",
            "syscall read 1=0x1 0=0x2",
            "syscall read 0=1",
            "syscall read 0=0x+1",
            "syscall read 0=0x10000000000000000",
            "syscall read ",
            "read_file etc/passwd",
            "read_file /a\\x0",
            "read_file /a\\y00",
            "read_file /a\\x00b",
            "read_file /a\\",
            "read_file /a\\xé",
            "read /etc",
            "fly /etc",
            "connect ",
            "capability FLY",
        ] {
            let error = line.parse::<Needs>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig, "{line}");
            assert!(error.hint().is_some(), "{line}");
        }
    }

    #[test]
    fn differences_have_two_sides() {
        let old: Needs = "syscall read\nsyscall write\n".parse().unwrap();
        let mut new: Needs = "syscall read\nconnect 192.0.2.1:80\n".parse().unwrap();
        assert_eq!(new.diff(&old).to_string(), "+ connect 192.0.2.1:80\n- syscall write\n");
        new.merge(&old);
        assert_eq!(new.iter().count(), 3);
        assert!(old.diff(&old).is_empty() && !new.diff(&old).is_empty());
    }
}
