//! `rootfs` and `user_map`.

use std::path::PathBuf;

use super::node::Value;
use super::read::{Item, Maker, Setter, Table};
use super::units;
use super::write::{Out, list_of, text};
use crate::error::{Error, Result};
use crate::idmap::{self, Extent, UserMap};
use crate::rootfs::{Kind, Rootfs, Upper, UpperKind};
use crate::upper::{Durability, UpperDir};

pub(super) const KEYS: [&str; 4] = ["dir", "overlay", "writable", "upper"];
pub(super) const UPPER_KEYS: [&str; 6] = ["tmpfs", "inodes", "dir", "work", "quota", "volatile"];
pub(super) const QUOTA_KEYS: [&str; 2] = ["size", "inodes"];
pub(super) const MAP_KEYS: [&str; 3] = ["ids", "uids", "gids"];
pub(super) const EXTENT_KEYS: [&str; 3] = ["inside", "outside", "count"];

pub(super) fn read(item: Item) -> Result<Rootfs> {
    if let Value::Text(_) = item.value() {
        let makers: [Maker<Rootfs>; 2] = [("system", Rootfs::system), ("empty", Rootfs::empty)];
        return item.one_of(&makers).map(|make| make());
    }
    let mut table = item.table(&KEYS)?;
    let (kind, first) = table.one(&["dir", "overlay"])?;
    let rootfs = if kind == "dir" {
        table.call(Rootfs::dir(first.path()?), &[("writable", Rootfs::writable)])?
    } else {
        let layers: Vec<PathBuf> = first.list()?.into_iter().map(Item::path).collect::<Result<_>>()?;
        table.set(Rootfs::overlay(layers), upper, &[("upper", Rootfs::upper)])?
    };
    table.finish(&format!("a root of kind {kind}"))?;
    Ok(rootfs)
}

fn upper(item: Item) -> Result<Upper> {
    let mut table = item.table(&UPPER_KEYS)?;
    let (kind, first) = table.one(&["tmpfs", "dir"])?;
    let upper = if kind == "tmpfs" {
        Upper::tmpfs(first.size()?, table.need("inodes")?.count()?)
    } else {
        on_disk(Upper::dir(first.path()?, table.need("work")?.path()?), &mut table)?.into()
    };
    table.finish(&format!("an upper of kind {kind}"))?;
    Ok(upper)
}

fn on_disk(mut dir: UpperDir, table: &mut Table) -> Result<UpperDir> {
    if let Some(item) = table.take("quota") {
        let mut quota = item.table(&QUOTA_KEYS)?;
        dir = dir.quota(quota.need("size")?.size()?, quota.need("inodes")?.count()?);
    }
    table.call(dir, &[("volatile", UpperDir::volatile)])
}

pub(super) fn write(rootfs: &Rootfs) -> Result<Value> {
    if rootfs.held().is_some() || matches!(rootfs.kind(), Kind::Copy { .. }) {
        return Err(Error::invalid("the root of a workspace, a base or an image cannot be written in a policy: it is held for this process")
            .with_hint("write the policy without it, and give the root to the sandbox that was read by rootfs(…)"));
    }
    let mut out = Out::default();
    match rootfs.kind() {
        Kind::System => return Ok("system".into()),
        Kind::Empty => return Ok("empty".into()),
        Kind::Dir { path, writable } => {
            out.put("dir", text("rootfs.dir", path)?);
            out.flag("writable", *writable);
        }
        Kind::Overlay { layers, upper } => {
            let layers: Vec<Value> =
                layers.iter().map(|layer| text("rootfs.overlay", layer)).collect::<Result<_>>()?;
            out.put("overlay", list_of(layers));
            if let Some(upper) = upper {
                out.put("upper", of_upper(upper)?);
            }
        }
        Kind::Copy { .. } => {}
    }
    Ok(out.into())
}

fn of_upper(upper: &Upper) -> Result<Value> {
    let mut out = Out::default();
    match upper.kind() {
        UpperKind::Tmpfs { size, inodes } => {
            out.put("tmpfs", units::of_size(*size));
            out.put("inodes", units::of_count(*inodes));
        }
        UpperKind::Dir(dir) => {
            let UpperDir { upper, work, quota, durability } = dir;
            out.put("dir", text("rootfs.upper.dir", upper)?);
            out.put("work", text("rootfs.upper.work", work)?);
            if let Some(quota) = quota {
                let mut of_quota = Out::default();
                of_quota.put("size", units::of_size(quota.size));
                of_quota.put("inodes", units::of_count(quota.inodes));
                out.put("quota", of_quota);
            }
            out.flag("volatile", *durability == Durability::Volatile);
        }
    }
    Ok(out.into())
}

pub(super) fn read_map(item: Item) -> Result<UserMap> {
    if let Value::Text(_) = item.value() {
        let makers: [Maker<UserMap>; 2] = [("auto", UserMap::auto), ("subids", UserMap::subids)];
        return item.one_of(&makers).map(|make| make());
    }
    let mut table = item.table(&MAP_KEYS)?;
    let setters: [Setter<UserMap, Vec<Extent>>; 3] = [
        ("ids", |map, list| list.iter().fold(map, |map, e| map.ids(e.inside, e.outside, e.count))),
        ("uids", |map, list| list.iter().fold(map, |map, e| map.uids(e.inside, e.outside, e.count))),
        ("gids", |map, list| list.iter().fold(map, |map, e| map.gids(e.inside, e.outside, e.count))),
    ];
    table.set(UserMap::new(), |item| item.list()?.into_iter().map(extent).collect(), &setters)
}

fn extent(item: Item) -> Result<Extent> {
    let mut table = item.table(&EXTENT_KEYS)?;
    let mut number = |key| table.need(key)?.number();
    Ok(Extent { inside: number("inside")?, outside: number("outside")?, count: number("count")? })
}

/// `None` for the default.
pub(super) fn write_map(map: &UserMap) -> Option<Value> {
    let (uids, gids) = match map.kind() {
        idmap::Kind::Auto => return None,
        idmap::Kind::SubIds => return Some("subids".into()),
        idmap::Kind::Explicit { uids, gids } => (uids, gids),
    };
    let list = |extents: &[Extent]| list_of(extents.iter().map(of_extent));
    let mut out = Out::default();
    if uids == gids {
        out.put("ids", list(uids));
    } else {
        out.put("uids", list(uids));
        out.put("gids", list(gids));
    }
    Some(out.into())
}

fn of_extent(extent: &Extent) -> Value {
    let mut out = Out::default();
    out.put("inside", i128::from(extent.inside));
    out.put("outside", i128::from(extent.outside));
    out.put("count", i128::from(extent.count));
    out.into()
}
