//! How a tree is laid out as TOML for people: sections under headers, and what is small on one line.

use serde::Serialize;
use toml::ser::{Error, ValueSerializer};

use super::node::{Node, Value};

/// Tables that get a header. All others are written in line.
const SECTIONS: [&str; 6] = ["rootfs", "limits", "rlimit", "seccomp", "landlock", "env"];

/// The document of a table.
pub(super) fn document(document: &Node) -> Result<String, Error> {
    let Value::Table(entries) = &document.value else { return Ok(String::new()) };
    let (sections, simple): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, node)| {
        tables(node).is_some() || (SECTIONS.contains(&key.as_str()) && matches!(node.value, Value::Table(_)))
    });
    let mut text = String::new();
    for (key, node) in simple {
        text += &line(key, node)?;
    }
    for (key, node) in sections {
        section(&mut text, key, node)?;
    }
    Ok(text)
}

/// A table with its header, or each of a list of them.
fn section(text: &mut String, path: &str, node: &Node) -> Result<(), Error> {
    if let Some(list) = tables(node) {
        for entries in list {
            *text += &format!("\n[[{path}]]\n");
            for (key, node) in entries {
                *text += &line(key, node)?;
            }
        }
        return Ok(());
    }
    let Value::Table(entries) = &node.value else { return Ok(()) };
    let (lists, simple): (Vec<_>, Vec<_>) = entries.iter().partition(|(_, node)| tables(node).is_some());
    // The header can be left out where a list below has one, unless the table is empty.
    if !simple.is_empty() || lists.is_empty() {
        *text += &format!("\n[{path}]\n");
    }
    for (key, node) in simple {
        *text += &line(key, node)?;
    }
    for (key, node) in lists {
        section(text, &format!("{path}.{key}"), node)?;
    }
    Ok(())
}

/// The tables of a list that has nothing else.
fn tables(node: &Node) -> Option<Vec<&Vec<(String, Node)>>> {
    let Value::List(list) = &node.value else { return None };
    let tables = list.iter().map(|node| match &node.value {
        Value::Table(entries) => Some(entries),
        _ => None,
    });
    tables.collect::<Option<Vec<_>>>().filter(|tables| !tables.is_empty())
}

fn line(key: &str, node: &Node) -> Result<String, Error> {
    match &node.value {
        Value::Table(_) | Value::List(_) => {
            let mut buffer = String::new();
            node.serialize(ValueSerializer::new(&mut buffer))?;
            Ok(format!("{key} = {buffer}\n"))
        }
        // This quotes keys where they need it, and writes text of several lines on several lines.
        _ => toml::to_string_pretty(&Node::from(Value::Table(vec![(key.to_owned(), node.clone())]))),
    }
}
