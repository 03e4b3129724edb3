//! `[seccomp]`, which stands for [`Seccomp`].

use super::node::Value;
use super::read::{Item, Maker};
use super::write::{Out, list_of};
use crate::error::{Error, Result, Step};
use crate::seccomp::{Change, Operator, Origin, Parts, Seccomp, SyscallAction, SyscallArg, SyscallCondition};

pub(super) const KEYS: [&str; 6] = ["profile", "allow_only", "from_json", "on", "otherwise", "within"];
pub(super) const WORD_KEYS: [&str; 3] = ["calls", "action", "conditions"];
pub(super) const ACTION_KEYS: [&str; 1] = ["errno"];
pub(super) const CONDITION_KEYS: [&str; 9] =
    ["arg", "low32", "eq", "ne", "lt", "le", "gt", "ge", "masked_eq"];
pub(super) const MASK_KEYS: [&str; 2] = ["mask", "value"];

const ACTIONS: [(&str, SyscallAction); 5] = [
    ("allow", SyscallAction::Allow),
    ("log", SyscallAction::Log),
    ("trap", SyscallAction::Trap),
    ("kill", SyscallAction::Kill),
    ("notify", SyscallAction::Notify),
];

/// How many filters can be within each other. Formats end at some depth, and no two at the same.
const MOST_WITHIN: usize = 16;

pub(super) fn read(item: Item) -> Result<Seccomp> {
    read_within(item, 0)
}

fn read_within(item: Item, depth: usize) -> Result<Seccomp> {
    if depth > MOST_WITHIN {
        return Err(item.wrong("is within too many others", TOO_MANY));
    }
    let mut table = item.table(&KEYS)?;
    let mut filter = match table.only(&["profile", "allow_only", "from_json"])? {
        None => Seccomp::new(),
        Some(("profile", item)) => {
            let makers: [Maker<Seccomp>; 4] = [
                ("new", Seccomp::new),
                ("judge", Seccomp::judge),
                ("plugin", Seccomp::plugin),
                ("strict", Seccomp::strict),
            ];
            item.one_of(&makers)?()
        }
        Some(("allow_only", item)) => Seccomp::allow_only(item.texts()?),
        Some((_, item)) => imported(&item)?,
    };
    if let Some(item) = table.take("on") {
        for item in item.some()? {
            filter = word(filter, item)?;
        }
    }
    filter = table.set(filter, action, &[("otherwise", Seccomp::otherwise)])?;
    table.set(filter, |item| read_within(item, depth + 1), &[("within", Seccomp::within)])
}

/// The profile of a container engine, as its text or as the document itself.
fn imported(item: &Item) -> Result<Seccomp> {
    let text = match item.value() {
        Value::Text(text) => text.clone(),
        Value::Table(_) => serde_json::to_string(item.node()).map_err(|error| {
            item.wrong(format_args!("is no JSON: {error}"), "write the profile as a string")
        })?,
        _ => return Err(item.wrong("is no seccomp profile", "write the JSON of the profile as a string")),
    };
    Seccomp::from_json(&text).map_err(|error| item.explain(&error))
}

fn word(filter: Seccomp, item: Item) -> Result<Seccomp> {
    let mut table = item.table(&WORD_KEYS)?;
    let calls: Vec<String> =
        table.need("calls")?.some()?.into_iter().map(Item::text).collect::<Result<_>>()?;
    let action = action(table.need("action")?)?;
    let Some(item) = table.take("conditions") else { return Ok(filter.on(calls, action)) };
    let conditions: Vec<SyscallCondition> = item.list()?.into_iter().map(condition).collect::<Result<_>>()?;
    Ok(calls.into_iter().fold(filter, |filter, call| filter.on_if(call, conditions.iter().copied(), action)))
}

fn action(item: Item) -> Result<SyscallAction> {
    if let Value::Table(_) = item.value() {
        let mut table = item.table(&ACTION_KEYS)?;
        return errno(&table.need("errno")?).map(SyscallAction::Errno);
    }
    item.one_of(&ACTIONS)
        .map_err(|error| error.with_hint("it is allow, log, trap, kill, notify, or { errno = \"EPERM\" }"))
}

fn errno(item: &Item) -> Result<i32> {
    match item.value() {
        Value::Text(name) => number_of(name).ok_or_else(|| {
            item.wrong(format_args!("is no errno: {name:?}"), "write a name of errno(3), or its number")
        }),
        _ => item.number(),
    }
}

/// The number of a name of errno(3), by the names that the kernel's numbers have.
fn number_of(name: &str) -> Option<i32> {
    (1..=HIGHEST).find(|number| name_of(*number).as_deref() == Some(name))
}

/// `EHWPOISON`.
const HIGHEST: i32 = 133;

fn name_of(number: i32) -> Option<String> {
    let errno = nix::errno::Errno::from_raw(number);
    (errno != nix::errno::Errno::UnknownErrno).then(|| format!("{errno:?}"))
}

fn of_action(action: SyscallAction) -> Value {
    if let SyscallAction::Errno(number) = action {
        let mut out = Out::default();
        let name = (1..=HIGHEST).contains(&number).then(|| name_of(number)).flatten();
        out.put("errno", name.map_or_else(|| i128::from(number).into(), Value::from));
        return out.into();
    }
    let word = ACTIONS.iter().find(|(_, known)| *known == action);
    word.map_or(Value::Null, |(word, _)| (*word).into())
}

fn condition(item: Item) -> Result<SyscallCondition> {
    const TESTS: [&str; 7] = ["eq", "ne", "lt", "le", "gt", "ge", "masked_eq"];
    let mut table = item.table(&CONDITION_KEYS)?;
    let mut argument = SyscallArg::new(table.need("arg")?.number()?);
    if let Some(item) = table.take("low32") {
        item.flag()?;
        argument = argument.low32();
    }
    let (test, item) = table.one(&TESTS)?;
    if test == "masked_eq" {
        let mut masked = item.table(&MASK_KEYS)?;
        let (mask, value): (i128, i128) = (masked.need("mask")?.number()?, masked.need("value")?.number()?);
        return Ok(argument.masked_eq(mask, value));
    }
    let value: i128 = item.number()?;
    Ok(match test {
        "eq" => argument.eq(value),
        "ne" => argument.ne(value),
        "lt" => argument.lt(value),
        "le" => argument.le(value),
        "gt" => argument.gt(value),
        _ => argument.ge(value),
    })
}

fn of_condition(condition: &SyscallCondition) -> Value {
    let mut out = Out::default();
    out.put("arg", i128::from(condition.argument.index));
    out.flag("low32", condition.argument.low32);
    let (test, value) = match condition.operator {
        Operator::Equal(value) => ("eq", value),
        Operator::NotEqual(value) => ("ne", value),
        Operator::Less(value) => ("lt", value),
        Operator::AtMost(value) => ("le", value),
        Operator::Greater(value) => ("gt", value),
        Operator::AtLeast(value) => ("ge", value),
        Operator::Masked { mask, value } => {
            let mut masked = Out::default();
            masked.put("mask", mask);
            masked.put("value", value);
            out.put("masked_eq", masked);
            return out.into();
        }
    };
    out.put(test, value);
    out.into()
}

const TOO_MANY: &str = "say with one or two filters what these say together";

pub(super) fn write(filter: &Seccomp) -> Result<Value> {
    write_within(filter, 0)
}

fn write_within(filter: &Seccomp, depth: usize) -> Result<Value> {
    if depth > MOST_WITHIN {
        return Err(Error::invalid("a filter of the policy is within too many others").with_hint(TOO_MANY));
    }
    let Parts { origin, changes, otherwise, observed, outer } = filter.parts();
    if observed {
        return Err(Error::internal(Step::Plan, "a filter that learns is no policy"));
    }
    let mut out = Out::default();
    match origin {
        Origin::Profile(name) => out.put("profile", name),
        Origin::Only(names) => {
            out.put("allow_only", list_of(names.iter().map(|name| name.as_str().into())));
        }
        Origin::Imported(text) => out.put("from_json", text),
    }
    let mut words = Vec::new();
    let mut rest = changes;
    while let Some(first) = rest.first() {
        let same = |change: &&Change| change.action == first.action && change.conditions == first.conditions;
        let (said, after) = rest.split_at(rest.iter().take_while(same).count());
        let mut word = Out::default();
        word.put("calls", list_of(said.iter().map(|change| change.name.as_str().into())));
        word.put("action", of_action(first.action));
        if let Some(conditions) = &first.conditions {
            word.put("conditions", list_of(conditions.iter().map(of_condition)));
        }
        words.push(word.into());
        rest = after;
    }
    out.some("on", words);
    out.maybe("otherwise", otherwise.map(of_action));
    if let Some(outer) = outer {
        out.put("within", write_within(outer, depth + 1)?);
    }
    Ok(out.into())
}
