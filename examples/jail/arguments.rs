//! Words of a command line: `--name VALUE` or `--name=VALUE` up to `--`, in whatever bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::value::Parsed;

/// The words that are still to be read.
pub(crate) struct Arguments<I> {
    words: I,
    /// The name of the option that was read last, and the value that came with it.
    option: String,
    attached: Option<OsString>,
}

/// One word.
pub(crate) enum Word {
    /// An option, without its dashes.
    Option(String),
    /// `--`: what follows belongs to the program.
    End,
}

impl<I: Iterator<Item = OsString>> Arguments<I> {
    pub(crate) fn new(words: I) -> Self {
        Self { words, option: String::new(), attached: None }
    }

    /// The next option, `None` at the end of the line.
    pub(crate) fn next(&mut self) -> Result<Option<Word>, String> {
        if self.attached.is_some() {
            return Err(format!("--{} takes no value", self.option));
        }
        let Some(word) = self.words.next() else { return Ok(None) };
        let bytes = word.as_bytes();
        let Some(option) = bytes.strip_prefix(b"--") else {
            return Err(format!("unexpected {word:?}; the program comes after --"));
        };
        if option.is_empty() {
            return Ok(Some(Word::End));
        }
        let end = option.iter().position(|byte| *byte == b'=');
        self.attached = end.map(|end| OsStr::from_bytes(&option[end + 1..]).to_owned());
        self.option = String::from_utf8_lossy(&option[..end.unwrap_or(option.len())]).into_owned();
        Ok(Some(Word::Option(self.option.clone())))
    }

    /// The value of the option that was read last. A word of its own that looks like an option is none: its own value
    /// has been forgotten.
    pub(crate) fn value(&mut self) -> Result<OsString, String> {
        let own = |word: &OsString| !word.as_bytes().starts_with(b"--");
        self.attached
            .take()
            .or_else(|| self.words.next().filter(own))
            .ok_or_else(|| "needs a value".to_owned())
    }

    /// The same, understood.
    pub(crate) fn parsed<T>(&mut self, parse: impl FnOnce(&OsStr) -> Parsed<T>) -> Result<T, String> {
        let text = self.value()?;
        parse(&text).map_err(|problem| format!("{text:?} {problem}"))
    }

    /// All that is left.
    pub(crate) fn rest(self) -> I {
        self.words
    }
}
