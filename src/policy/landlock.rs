//! `[landlock]`, which stands for [`Landlock`].

use super::node::Value;
use super::read::{Item, Maker, Table};
use super::write::{Out, list_of, text};
use crate::error::Result;
use crate::landlock::{DEFAULT_ABI, Denial, Landlock, LandlockAccess, PathRule, PortCall};

pub(super) const KEYS: [&str; 15] = [
    "preset",
    "abi",
    "system",
    "read",
    "write",
    "execute",
    "rule",
    "restrict_tcp",
    "bind_tcp",
    "connect_tcp",
    "share_tcp",
    "scope_abstract_sockets",
    "share_abstract_sockets",
    "scope_signals",
    "share_signals",
];
pub(super) const RULE_KEYS: [&str; 3] = ["path", "access", "system"];

pub(super) fn read(item: Item) -> Result<Landlock> {
    let mut table = item.table(&KEYS)?;
    for (one, other) in [
        ("share_tcp", "restrict_tcp"),
        ("share_tcp", "bind_tcp"),
        ("share_tcp", "connect_tcp"),
        ("share_abstract_sockets", "scope_abstract_sockets"),
        ("share_signals", "scope_signals"),
    ] {
        if table.has(one) && table.has(other) {
            return Err(table.contradiction(one, other));
        }
    }
    let makers: [Maker<Landlock>; 2] = [("new", Landlock::new), ("bare", Landlock::bare)];
    let rules = match table.take("preset") {
        Some(item) => item.one_of(&makers)?(),
        None => Landlock::new(),
    };
    let mut rules = table.set(rules, |item| item.number(), &[("abi", Landlock::abi)])?;
    rules = paths(rules, &mut table)?;
    rules = table.each(rules, |port| port.number(), ("bind_tcp", Landlock::bind_tcp))?;
    rules = table.each(rules, |port| port.number(), ("connect_tcp", Landlock::connect_tcp))?;
    table.call(
        rules,
        &[
            ("restrict_tcp", Landlock::restrict_tcp),
            ("scope_abstract_sockets", Landlock::scope_abstract_sockets),
            ("scope_signals", Landlock::scope_signals),
            ("share_tcp", Landlock::share_tcp),
            ("share_abstract_sockets", Landlock::share_abstract_sockets),
            ("share_signals", Landlock::share_signals),
        ],
    )
}

fn paths(rules: Landlock, table: &mut Table) -> Result<Landlock> {
    let mut rules = table.call(rules, &[("system", Landlock::system)])?;
    rules = table.each(rules, Item::path, ("read", Landlock::read))?;
    rules = table.each(rules, Item::path, ("write", Landlock::write))?;
    rules = table.each(rules, Item::path, ("execute", Landlock::execute))?;
    let Some(item) = table.take("rule") else { return Ok(rules) };
    for item in item.some()? {
        let mut rule = item.table(&RULE_KEYS)?;
        let (kind, first) = rule.one(&["path", "system"])?;
        rules = if kind == "system" {
            first.flag()?;
            rules.system()
        } else {
            rules.rule(first.path()?, access(rule.need("access")?)?)
        };
        rule.finish("the rules of the system")?;
    }
    Ok(rules)
}

/// What `read`, `write` and `execute` allow.
fn short() -> [(&'static str, LandlockAccess); 3] {
    [
        ("read", LandlockAccess::READ),
        ("write", LandlockAccess::WRITE),
        ("execute", LandlockAccess::EXECUTE | LandlockAccess::READ),
    ]
}

fn access(item: Item) -> Result<LandlockAccess> {
    let mut all: Option<LandlockAccess> = None;
    for item in item.some()? {
        let one = match item.value() {
            Value::Text(name) => LandlockAccess::named(name),
            _ => None,
        };
        let one = one.ok_or_else(|| {
            item.wrong(
                "is no right of landlock",
                "name those of LandlockAccess in lower case: read_file, make_dir, …",
            )
        })?;
        all = Some(all.map_or(one, |all| all | one));
    }
    // The list was not empty.
    Ok(all.unwrap_or(LandlockAccess::READ))
}

pub(super) fn write(landlock: &Landlock) -> Result<Value> {
    let mut out = Out::default();
    let denials = [landlock.tcp, landlock.abstract_sockets, landlock.signals];
    let new = denials.contains(&Denial::WithTheRest) || (landlock.files && landlock.paths.is_empty());
    out.put("preset", if new { "new" } else { "bare" });
    out.maybe("abi", (landlock.abi != DEFAULT_ABI).then(|| i128::from(landlock.abi)));
    write_paths(&mut out, &landlock.paths)?;
    let ports = |call| {
        let ports = landlock.ports.iter().filter(|rule| rule.call == call);
        ports.map(|rule| i128::from(rule.port).into()).collect::<Vec<Value>>()
    };
    out.flag("restrict_tcp", landlock.tcp == Denial::Asked && landlock.ports.is_empty());
    out.some("bind_tcp", ports(PortCall::Bind));
    out.some("connect_tcp", ports(PortCall::Connect));
    out.flag("share_tcp", new && landlock.tcp == Denial::No);
    out.flag("scope_abstract_sockets", landlock.abstract_sockets == Denial::Asked);
    out.flag("share_abstract_sockets", new && landlock.abstract_sockets == Denial::No);
    out.flag("scope_signals", landlock.signals == Denial::Asked);
    out.flag("share_signals", new && landlock.signals == Denial::No);
    Ok(out.into())
}

/// The rules in the order that they have: by the short keys as long as that is theirs, and all one by one if it is not.
fn write_paths(out: &mut Out, rules: &[PathRule]) -> Result<()> {
    let system = Landlock::bare().system().paths;
    let mut rest = rules;
    if let Some(after) = rest.strip_prefix(system.as_slice()) {
        out.put("system", true);
        rest = after;
    }
    let key = |rule: &PathRule| {
        let at = short().iter().position(|(_, access)| !rule.optional && rule.access == *access);
        at.unwrap_or(short().len())
    };
    if rest.is_sorted_by_key(key) {
        for (at, (name, _)) in short().into_iter().enumerate() {
            let paths = rest.iter().filter(|rule| key(rule) == at);
            let paths = paths.map(|rule| text("landlock", &rule.path)).collect::<Result<Vec<_>>>()?;
            out.some(name, paths);
        }
        rest = &rest[rest.partition_point(|rule| key(rule) < short().len())..];
    }
    let mut listed = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let mut rule = Out::default();
        if let Some(after) = rest.strip_prefix(system.as_slice()) {
            rule.put("system", true);
            rest = after;
        } else {
            let names = first.access.to_string();
            rule.put("path", text("landlock.rule.path", &first.path)?);
            rule.put("access", list_of(names.split(' ').map(Value::from)));
            rest = after;
        }
        listed.push(rule.into());
    }
    out.some("rule", listed);
    Ok(())
}
