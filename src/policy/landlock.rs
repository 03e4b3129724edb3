//! `[landlock]`, which stands for [`Landlock`].

use super::node::Value;
use super::read::{Item, Maker, Table};
use super::write::{Out, list_of, text};
use crate::error::Result;
use crate::landlock::{DEFAULT_ABI, Denial, Landlock, LandlockAccess, PathRule, PortCall, PortRule};

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
pub(super) const RULE_KEYS: [&str; 6] = ["path", "access", "optional", "system", "bind_tcp", "connect_tcp"];

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
        let (kind, first) = rule.one(&["path", "system", "bind_tcp", "connect_tcp"])?;
        rules = match kind {
            "system" => first.flag().map(|()| rules.system())?,
            "bind_tcp" => rules.bind_tcp(first.number()?),
            "connect_tcp" => rules.connect_tcp(first.number()?),
            _ => {
                let rules = rules.rule(first.path()?, access(rule.need("access")?)?);
                rule.call(rules, &[("optional", Landlock::last_is_optional)])?
            }
        };
        rule.finish(&format!("a rule of kind {kind}"))?;
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
    // A field that is not written would be lost: each must have its name here.
    let Landlock { abi, files, tcp, abstract_sockets, signals, paths, ports } = landlock;
    let mut out = Out::default();
    let new =
        [tcp, abstract_sockets, signals].contains(&&Denial::WithTheRest) || (*files && paths.is_empty());
    out.put("preset", if new { "new" } else { "bare" });
    out.maybe("abi", (*abi != DEFAULT_ABI).then(|| i128::from(*abi)));
    let mut listed = write_paths(&mut out, paths)?;
    out.flag("restrict_tcp", *tcp == Denial::Asked && ports.is_empty());
    let is_connect = |rule: &PortRule| rule.call == PortCall::Connect;
    if ports.is_sorted_by_key(is_connect) {
        let (bind, connect) = ports.split_at(ports.partition_point(|rule| !is_connect(rule)));
        let numbers = |rules: &[PortRule]| rules.iter().map(|rule| i128::from(rule.port).into()).collect();
        out.some("bind_tcp", numbers(bind));
        out.some("connect_tcp", numbers(connect));
    } else {
        listed.extend(ports.iter().map(|rule| {
            let mut of_port = Out::default();
            of_port.put(if is_connect(rule) { "connect_tcp" } else { "bind_tcp" }, i128::from(rule.port));
            of_port.into()
        }));
    }
    out.some("rule", listed);
    for (denial, scope, share) in [
        (tcp, None, "share_tcp"),
        (abstract_sockets, Some("scope_abstract_sockets"), "share_abstract_sockets"),
        (signals, Some("scope_signals"), "share_signals"),
    ] {
        out.flag(share, new && *denial == Denial::No);
        if let Some(scope) = scope {
            out.flag(scope, *denial == Denial::Asked);
        }
    }
    Ok(out.into())
}

/// The rules in the order that they have: by the short keys as long as that is theirs, and all one by one if it is not.
/// Returns those that are to be listed.
fn write_paths(out: &mut Out, rules: &[PathRule]) -> Result<Vec<Value>> {
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
            rule.flag("optional", first.optional);
            rest = after;
        }
        listed.push(rule.into());
    }
    Ok(listed)
}
