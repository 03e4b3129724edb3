//! What sections write their keys into.

use std::ffi::OsStr;
use std::path::Path;

use super::node::{Node, Value};
use crate::error::{Error, Result};

/// A table that is being written, in order.
#[derive(Debug, Default)]
pub(super) struct Out(Vec<(String, Node)>);

impl Out {
    pub(super) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), Node { line: None, value: value.into() }));
    }

    pub(super) fn maybe(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// A call without arguments.
    pub(super) fn flag(&mut self, key: &str, said: bool) {
        if said {
            self.put(key, true);
        }
    }

    /// A list, unless it is empty.
    pub(super) fn some(&mut self, key: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(key, list_of(list));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Out> for Value {
    fn from(out: Out) -> Self {
        Self::Table(out.0)
    }
}

pub(super) fn list_of(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(values.into_iter().map(|value| Node { line: None, value }).collect())
}

/// A name or a path; neither TOML nor JSON can say one that is not UTF-8.
pub(super) fn text(key: &str, text: impl AsRef<OsStr>) -> Result<Value> {
    let text = text.as_ref();
    text.to_str().map(Value::from).ok_or_else(|| {
        Error::invalid(format!("{key} of the policy is not UTF-8: {text:?}"))
            .with_path(Path::new(text))
            .with_hint("TOML and JSON have no other text: rename it, or say this in the program")
    })
}
