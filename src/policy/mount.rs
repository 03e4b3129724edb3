//! `[[mount]]` and what stands for [`Mount`].

use std::ffi::OsString;

use super::node::Value;
use super::read::{Item, Table};
use super::units;
use super::write::{Out, text};
use crate::error::Result;
use crate::mount::{Kind, Mount, ProcVisibility};

pub(super) const KEYS: &[&str] = &[
    "bind",
    "bind_writable",
    "tmpfs",
    "proc",
    "dev",
    "devpts",
    "mqueue",
    "file",
    "dir",
    "symlink",
    "mask",
    "read_only",
    "target",
    "content",
    "content_hex",
    "size",
    "inodes",
    "mode",
    "full",
];

/// What it is, by the name of the function that makes it. The value is what that takes first.
const KINDS: &[&str] = KEYS.split_at(12).0;

pub(super) fn read(item: Item) -> Result<Mount> {
    let mut table = item.table(KEYS)?;
    let (kind, first) = table.one(KINDS)?;
    let first = first.path()?;
    let mount = match kind {
        "bind" => Mount::bind(first, table.need("target")?.path()?),
        "bind_writable" => Mount::bind_writable(first, table.need("target")?.path()?),
        "symlink" => Mount::symlink(OsString::from(first), table.need("target")?.path()?),
        "tmpfs" => tmpfs(Mount::tmpfs(first), &mut table)?,
        "proc" => table.call(Mount::proc(first), &[("full", Mount::full)])?,
        "dev" => Mount::dev(first),
        "devpts" => Mount::devpts(first),
        "mqueue" => Mount::mqueue(first),
        "file" => with_mode(Mount::file(first, content(&mut table)?), &mut table)?,
        "dir" => with_mode(Mount::dir(first), &mut table)?,
        "mask" => Mount::mask(first),
        _ => Mount::read_only(first),
    };
    table.finish(&format!("a mount of kind {kind}"))?;
    Ok(mount)
}

fn tmpfs(mount: Mount, table: &mut Table) -> Result<Mount> {
    let mut mount = table.set(mount, |item| item.size(), &[("size", Mount::size)])?;
    mount = table.set(mount, |item| item.count(), &[("inodes", Mount::inodes)])?;
    with_mode(mount, table)
}

fn with_mode(mount: Mount, table: &mut Table) -> Result<Mount> {
    let bits = |item: Item| {
        let bits = match item.value() {
            Value::Text(text) => units::mode(text),
            _ => None,
        };
        bits.ok_or_else(|| item.wrong("is no permission bits", "write it in octal, as a string: \"0755\""))
    };
    table.set(mount, bits, &[("mode", Mount::mode)])
}

fn content(table: &mut Table) -> Result<Vec<u8>> {
    match table.only(&["content", "content_hex"])? {
        Some(("content", item)) => item.text().map(String::into_bytes),
        Some((_, item)) => {
            let bytes = match item.value() {
                Value::Text(text) => units::hex(text),
                _ => None,
            };
            bytes.ok_or_else(|| {
                item.wrong("is no bytes", "write two hexadecimal digits for each, as a string; `xxd -p` does")
            })
        }
        None => Err(table.wrong("has no content", "add content = \"…\"; an empty one for an empty file")),
    }
}

pub(super) fn write(mount: &Mount) -> Result<Value> {
    let mut out = Out::default();
    let target = text("mount.target", mount.target())?;
    match mount.kind() {
        Kind::Bind { source, writable } => {
            let kind = if *writable { "bind_writable" } else { "bind" };
            out.put(kind, text("mount.bind", source)?);
            out.put("target", target);
        }
        Kind::Symlink { to } => {
            out.put("symlink", text("mount.symlink", to)?);
            out.put("target", target);
        }
        Kind::Tmpfs { size, inodes, mode } => {
            out.put("tmpfs", target);
            out.maybe("size", size.map(units::of_size));
            out.maybe("inodes", inodes.map(units::of_count));
            out.maybe("mode", (*mode != 0o1777).then(|| units::of_mode(*mode)));
        }
        Kind::Proc { visibility } => {
            out.put("proc", target);
            out.flag("full", *visibility == ProcVisibility::Full);
        }
        Kind::Dev => out.put("dev", target),
        Kind::Devpts => out.put("devpts", target),
        Kind::Mqueue => out.put("mqueue", target),
        Kind::File { content, mode } => {
            out.put("file", target);
            match std::str::from_utf8(content) {
                Ok(content) => out.put("content", content),
                Err(_) => out.put("content_hex", units::of_hex(content)),
            }
            out.maybe("mode", (*mode != 0o444).then(|| units::of_mode(*mode)));
        }
        Kind::Dir { mode } => {
            out.put("dir", target);
            out.maybe("mode", (*mode != 0o755).then(|| units::of_mode(*mode)));
        }
        Kind::Mask => out.put("mask", target),
        Kind::ReadOnly => out.put("read_only", target),
    }
    Ok(out.into())
}
