//! Tables and items of a document, with the path that each has in it, so that an error can name it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::node::{Node, Value};
use super::units;
use crate::error::{Error, Result};
use crate::limits::Bytes;

/// One value, and where it is.
#[derive(Debug)]
pub(super) struct Item {
    /// `limits.memory_max`; empty for the document itself.
    path: String,
    node: Node,
}

/// A table of which each key is known. Each is taken once.
#[derive(Debug)]
pub(super) struct Table {
    path: String,
    line: Option<usize>,
    entries: Vec<(String, Node)>,
}

/// A key, and the call that its value goes to.
pub(super) type Setter<T, V> = (&'static str, fn(T, V) -> T);

/// A key that stands for a call without arguments.
pub(super) type Call<T> = (&'static str, fn(T) -> T);

/// A word, and what it makes.
pub(super) type Maker<T> = (&'static str, fn() -> T);

/// Where something is, for messages.
struct At<'a>(&'a str, Option<usize>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.0.is_empty() { "the policy" } else { self.0 };
        match self.1 {
            Some(line) => write!(f, "{path} (line {line})"),
            None => f.write_str(path),
        }
    }
}

impl Item {
    pub(super) fn document(node: Node) -> Self {
        Self { path: String::new(), node }
    }

    /// An error that says where: `what` follows the path, "is no size".
    pub(super) fn wrong(&self, what: impl fmt::Display, hint: impl Into<String>) -> Error {
        Error::invalid(format!("{} {what}", At(&self.path, self.node.line))).with_hint(hint.into())
    }

    /// The same for a value of another type than the one that is wanted.
    fn not(&self, wanted: &str, hint: impl Into<String>) -> Error {
        self.wrong(format_args!("is {}, not {wanted}", self.node.value.describe()), hint)
    }

    /// Says of an error that is about this value where that is.
    pub(super) fn explain(&self, error: &Error) -> Error {
        let hint = error.hint().unwrap_or("docs/policy.md says what belongs there").to_owned();
        self.wrong(format_args!("is wrong: {error}"), hint).with_kind(error.kind())
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn value(&self) -> &Value {
        &self.node.value
    }

    pub(super) fn text(self) -> Result<String> {
        match self.node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.not("a string", "write it in quotes")),
        }
    }

    pub(super) fn path(self) -> Result<PathBuf> {
        self.text().map(PathBuf::from)
    }

    /// A call without arguments.
    pub(super) fn flag(&self) -> Result<()> {
        match self.node.value {
            Value::Flag(true) => Ok(()),
            Value::Flag(false) => Err(self.wrong(
                "is false, which says nothing",
                "it stands for a call without arguments: write true, or leave the key out",
            )),
            _ => {
                Err(self
                    .not("true", "it stands for a call without arguments: write true, or leave the key out"))
            }
        }
    }

    /// A whole number; as a string if it is too large for the format.
    fn integer(&self) -> Result<i128> {
        let number = match &self.node.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => units::integer(text),
            _ => return Err(self.not("a whole number", "write it without quotes, point or unit")),
        };
        number.ok_or_else(|| self.wrong("is no whole number", "write digits, or 0x and hexadecimal digits"))
    }

    pub(super) fn number<N: TryFrom<i128>>(&self) -> Result<N> {
        let number = self.integer()?;
        N::try_from(number).map_err(|_| {
            let bits = size_of::<N>() * 8;
            self.wrong(format_args!("is out of range: {number}"), format!("it is a number of {bits} bits"))
        })
    }

    /// A number, or "max" for no limit.
    pub(super) fn count(&self) -> Result<u64> {
        match &self.node.value {
            Value::Text(text) if text == units::MAX => Ok(u64::MAX),
            _ => self.number(),
        }
    }

    pub(super) fn size(&self) -> Result<Bytes> {
        const HINT: &str = "write a number of bytes, or one with a unit, such as \"64KiB\", \"256MiB\", \"2GiB\"; \
                            \"max\" is no limit";
        match &self.node.value {
            Value::Integer(bytes) => u64::try_from(*bytes)
                .map(Bytes::new)
                .map_err(|_| self.wrong(format_args!("is out of range: {bytes}"), HINT)),
            Value::Text(text) => units::size(text)
                .ok_or_else(|| self.wrong(format_args!("is no size, or too large: {text:?}"), HINT)),
            _ => Err(self.not("a size", HINT)),
        }
    }

    pub(super) fn duration(&self) -> Result<Duration> {
        const HINT: &str = "write a whole number with a unit, such as \"500ms\", \"2s\", \"5m\"";
        match &self.node.value {
            Value::Text(text) => units::duration(text)
                .ok_or_else(|| self.wrong(format_args!("is no duration, or too large: {text:?}"), HINT)),
            _ => Err(self.not("a duration", HINT)),
        }
    }

    pub(super) fn list(self) -> Result<Vec<Self>> {
        match self.node.value {
            Value::List(nodes) => {
                let path = self.path;
                let item = |(index, node)| Self { path: format!("{path}[{index}]"), node };
                Ok(nodes.into_iter().enumerate().map(item).collect())
            }
            _ => Err(self.not("a list", "write it in brackets; tables in a list as [[…]]")),
        }
    }

    /// A list of which an empty one would say nothing.
    pub(super) fn some(self) -> Result<Vec<Self>> {
        if matches!(&self.node.value, Value::List(nodes) if nodes.is_empty()) {
            return Err(self.wrong("is an empty list", "name something, or leave the key out"));
        }
        self.list()
    }

    /// Each of a list of strings.
    pub(super) fn texts(self) -> Result<Vec<String>> {
        self.list()?.into_iter().map(Self::text).collect()
    }

    /// One of the words that stand for something.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let hint = || {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("it is one of {}", words.join(", "))
        };
        let Value::Text(text) = &self.node.value else { return Err(self.not("one of the words", hint())) };
        let found = words.iter().find(|(word, _)| word == text);
        found.map(|(_, value)| *value).ok_or_else(|| self.wrong(format_args!("is unknown: {text:?}"), hint()))
    }

    /// A table that may have these keys.
    pub(super) fn table(self, keys: &[&str]) -> Result<Table> {
        let entries = match self.node.value {
            Value::Table(entries) => entries,
            _ => return Err(self.not("a table", format!("its keys are {}", keys.join(", ")))),
        };
        let table = Table { path: self.path, line: self.node.line, entries };
        match table.entries.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            None => Ok(table),
            Some((key, node)) => {
                let path = table.below(key);
                let error = Error::invalid(format!("{} is no key of a policy", At(&path, node.line)));
                Err(error.with_hint(match nearest(key, keys) {
                    Some(near) => format!("did you mean {near}? docs/policy.md lists the keys"),
                    None => format!("the keys there are {}", keys.join(", ")),
                }))
            }
        }
    }

    /// A table whose keys are names, in the order of the document.
    pub(super) fn entries(self) -> Result<Vec<(String, Self)>> {
        match self.node.value {
            Value::Table(entries) => {
                let path = self.path;
                let item =
                    |(key, node): (String, Node)| (key.clone(), Self { path: join(&path, &key), node });
                Ok(entries.into_iter().map(item).collect())
            }
            _ => Err(self.not("a table", "write NAME = VALUE below it")),
        }
    }
}

impl Table {
    fn below(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _)| known == key)
    }

    /// Takes the value of a key, if it is there.
    pub(super) fn take(&mut self, key: &str) -> Option<Item> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        let (_, node) = self.entries.remove(at);
        Some(Item { path: self.below(key), node })
    }

    pub(super) fn need(&mut self, key: &str) -> Result<Item> {
        self.take(key).ok_or_else(|| {
            self.wrong(
                format_args!("lacks {key}"),
                format!("add {key} = …; docs/policy.md says what it takes"),
            )
        })
    }

    /// Calls the setters of the keys that are there.
    pub(super) fn set<T, V>(
        &mut self,
        to: T,
        read: impl Fn(Item) -> Result<V>,
        setters: &[Setter<T, V>],
    ) -> Result<T> {
        setters.iter().try_fold(to, |to, (key, set)| match self.take(key) {
            Some(item) => read(item).map(|value| set(to, value)),
            None => Ok(to),
        })
    }

    /// The same for calls without arguments.
    pub(super) fn call<T>(&mut self, to: T, calls: &[Call<T>]) -> Result<T> {
        calls.iter().try_fold(to, |to, (key, call)| match self.take(key) {
            Some(item) => item.flag().map(|()| call(to)),
            None => Ok(to),
        })
    }

    /// Calls the setter of a key for each item of its list, which has some.
    pub(super) fn each<T, V>(
        &mut self,
        to: T,
        read: impl Fn(Item) -> Result<V>,
        (key, set): Setter<T, V>,
    ) -> Result<T> {
        let items = self.take(key).map_or(Ok(Vec::new()), Item::some)?;
        items.into_iter().try_fold(to, |to, item| read(item).map(|value| set(to, value)))
    }

    /// Takes the one of these keys that is there.
    pub(super) fn only(&mut self, keys: &[&'static str]) -> Result<Option<(&'static str, Item)>> {
        let mut found = keys.iter().filter(|key| self.has(key));
        let (first, second) = (found.next().copied(), found.next().copied());
        match (first, second) {
            (Some(first), Some(second)) => Err(self.contradiction(first, second)),
            (Some(first), None) => Ok(self.take(first).map(|item| (first, item))),
            _ => Ok(None),
        }
    }

    /// The same where one must be there.
    pub(super) fn one(&mut self, keys: &[&'static str]) -> Result<(&'static str, Item)> {
        self.only(keys)?.ok_or_else(|| {
            self.wrong("does not say what it is", format!("it needs one of {}", keys.join(", ")))
        })
    }

    pub(super) fn contradiction(&self, one: &str, other: &str) -> Error {
        self.wrong(
            format_args!("has both {one} and {other}, which contradict each other"),
            "leave out one of them",
        )
    }

    pub(super) fn wrong(&self, what: impl fmt::Display, hint: impl Into<String>) -> Error {
        Error::invalid(format!("{} {what}", At(&self.path, self.line))).with_hint(hint.into())
    }

    /// Refuses keys that were not taken: they belong to another kind of the same table.
    pub(super) fn finish(self, what: &str) -> Result<()> {
        match self.entries.first() {
            None => Ok(()),
            Some((key, node)) => {
                let path = self.below(key);
                Err(Error::invalid(format!("{} has no effect on {what}", At(&path, node.line)))
                    .with_hint("leave it out"))
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    // A hostile key must not fill a terminal.
    let shown: String = key.chars().take(64).collect();
    let key = if plain { shown } else { format!("{shown:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The key that begins like this one, for whoever mistyped it.
fn nearest<'a>(key: &str, keys: &[&'a str]) -> Option<&'a str> {
    let common = |other: &str| key.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    keys.iter().copied().max_by_key(|other| common(other)).filter(|other| common(other) >= 3)
}
