//! From the document to answers by number.

use super::document::{Argument, Document, Entry};
use super::foreign::FOREIGN;
use super::scope::{Scope, running_kernel};
use crate::seccomp::names;
use crate::seccomp::resolve::Table;
use crate::seccomp::satisfy::witness;
use crate::seccomp::verdict::{Answer, Case, Condition, Test, Verdict, Width};
use crate::seccomp::{Options, SyscallAction};
use crate::{Error, ErrorKind, Result, Step};

/// Docker's profile has 14 KiB.
const MAX_TEXT: usize = 1 << 20;

/// The most entries with conditions for one call. The filter would soon be longer than the kernel takes.
const MAX_ENTRIES: usize = 256;

/// A profile that was read and checked, as far as that can be done without knowing the machine.
#[derive(Debug)]
pub(in crate::seccomp) struct Imported {
    pub(in crate::seccomp) otherwise: Answer,
    /// As it was written.
    pub(in crate::seccomp) text: String,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    names: Vec<String>,
    answer: Answer,
    conditions: Vec<Condition>,
    includes: Scope,
    excludes: Scope,
}

impl Imported {
    pub(super) fn read(text: &str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            let message = format!("the seccomp profile has {} bytes; {MAX_TEXT} are the most", text.len());
            return Err(Error::message(ErrorKind::LimitExceeded, Step::Plan, message)
                .with_hint("that of Docker has 14 KiB; look whether it is one"));
        }
        let document: Document = serde_json::from_str(text).map_err(|error| {
            invalid(format!("the seccomp profile cannot be read: {error}")).with_hint(
                "the format is that of linux.seccomp in the OCI runtime specification, or Docker's",
            )
        })?;
        check_architectures(&document)?;
        if let Some(flag) = document.flags.iter().flatten().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC")
        {
            return Err(invalid(format!("the seccomp profile asks for {flag}, which is not supported"))
                .with_hint(
                    "remove it from \"flags\"; the filter is installed without flags, before any thread",
                ));
        }
        if document.listener_path.is_some() || document.listener_metadata.is_some() {
            return Err(invalid("the seccomp profile names a listener, which is not supported")
                .with_hint("remove \"listenerPath\" and \"listenerMetadata\""));
        }
        let otherwise =
            answer(&document.default_action, document.default_errno_ret, document.default_errno.as_deref())?;
        let rules = document.syscalls.into_iter().flatten().map(Rule::read).collect::<Result<_>>()?;
        Ok(Self { otherwise, text: text.to_owned(), rules })
    }

    /// Fills the table by what counts under these options.
    pub(in crate::seccomp) fn fill(&self, table: &mut Table, options: Options) -> Result<()> {
        let dated = self.rules.iter().any(|rule| rule.includes.is_dated() || rule.excludes.is_dated());
        let kernel = if dated { running_kernel()? } else { (0, 0) };
        self.fill_for(table, options.capabilities, kernel)
    }

    pub(super) fn fill_for(&self, table: &mut Table, capabilities: u64, kernel: (u32, u32)) -> Result<()> {
        let arch = table.arch();
        let counts = |rule: &&Rule| {
            rule.includes.holds(arch, capabilities, kernel, true)
                && !rule.excludes.holds(arch, capabilities, kernel, false)
        };
        let mut said: Vec<(&'static str, Vec<Said<'_>>)> = Vec::new();
        for rule in self.rules.iter().filter(counts) {
            for name in &rule.names {
                let Some(call) = self.call(name, rule.answer)? else { continue };
                let case = Case { conditions: rule.conditions.clone(), answer: rule.answer };
                let entry = Said { rule, case };
                match said.binary_search_by_key(&call, |entry| entry.0) {
                    Ok(at) => add(call, &mut said[at].1, entry)?,
                    Err(at) => said.insert(at, (call, vec![entry])),
                }
            }
        }
        for (call, entries) in said {
            table.set(call, verdict(entries, table.otherwise()));
        }
        Ok(())
    }

    /// The call of this name, if a program here can make it and it matters.
    fn call(&self, name: &str, answer: Answer) -> Result<Option<&'static str>> {
        if let Some(call) = names::known(name) {
            return Ok(Some(call));
        }
        let harmless = answer.lets_through() || !self.otherwise.lets_through();
        if harmless || FOREIGN.binary_search(&name).is_ok() {
            return Ok(None);
        }
        Err(invalid(format!("the seccomp profile refuses \"{name}\", which is no syscall that is known"))
            .with_hint(
                "all that is not refused is allowed, so a mistyped name would allow what it should refuse",
            ))
    }
}

/// What an entry says of one call.
struct Said<'a> {
    rule: &'a Rule,
    case: Case,
}

impl Said<'_> {
    /// Both can hold for the same call, and do not say the same.
    fn differs(&self, other: &Self) -> bool {
        self.case.answer != other.case.answer
            && witness(self.case.conditions.iter().chain(&other.case.conditions)).is_some()
    }

    fn same_scope(&self, other: &Self) -> bool {
        self.rule.includes == other.rule.includes && self.rule.excludes == other.rule.excludes
    }
}

/// Adds what an entry says of a call to what others said.
fn add<'a>(call: &str, entries: &mut Vec<Said<'a>>, entry: Said<'a>) -> Result<()> {
    if entries.iter().any(|other| other.case == entry.case) {
        return Ok(());
    }
    if entries.len() == MAX_ENTRIES {
        return Err(invalid(format!(
            "the seccomp profile has more than {MAX_ENTRIES} entries for \"{call}\""
        ))
        .with_hint("the filter would be longer than the kernel takes: use ranges or masks"));
    }
    if entries.iter().any(|other| other.same_scope(&entry) && other.differs(&entry)) {
        return Err(invalid(format!("two entries of the seccomp profile answer \"{call}\" differently"))
            .with_hint("give them conditions that cannot hold at once, or remove one of them"));
    }
    entries.push(entry);
    Ok(())
}

/// All that is said of a call. Entries for different capabilities or kernels may differ, and do in the profile of Podman;
/// the strictest of them counts, as with several filters of one process.
fn verdict(mut entries: Vec<Said<'_>>, otherwise: Answer) -> Verdict {
    let order_matters = |entries: &[Said<'_>]| {
        entries
            .iter()
            .enumerate()
            .any(|(at, entry)| entries.iter().take(at).any(|other| other.differs(entry)))
    };
    if order_matters(&entries) {
        entries.sort_by_key(|entry| leniency(entry.case.answer));
    }
    let mut cases = Vec::new();
    for Said { case, .. } in entries {
        if case.conditions.is_empty() {
            // What comes after it cannot differ, or is more lenient.
            return Verdict { cases, otherwise: case.answer };
        }
        cases.push(case);
    }
    Verdict { cases, otherwise }
}

/// The order of the kernel: seccomp(2).
fn leniency(answer: Answer) -> u8 {
    match answer {
        Answer::Kill => 0,
        Answer::Trap => 1,
        Answer::Errno(_) => 2,
        Answer::Notify => 3,
        Answer::Log => 4,
        Answer::Allow => 5,
    }
}

impl Rule {
    fn read(entry: Entry) -> Result<Self> {
        let names = match (entry.name, entry.names) {
            (Some(name), None) => vec![name],
            (None, Some(names)) if !names.is_empty() => names,
            (Some(_), Some(_)) => {
                return Err(invalid("an entry of the seccomp profile has both \"name\" and \"names\"")
                    .with_hint("put all of them into \"names\""));
            }
            _ => {
                return Err(invalid("an entry of the seccomp profile has no names")
                    .with_hint("\"names\" is a list of system calls"));
            }
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if let Some(name) = names.iter().find(|name| name.is_empty() || !name.bytes().all(plain)) {
            return Err(invalid(format!("{name:?} in the seccomp profile is no name of a system call"))
                .with_hint(
                    "names have small letters, digits and underscores; groups are not part of the format",
                ));
        }
        let arguments = entry.args.unwrap_or_default();
        let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>>>()?;
        let about = names.first().map_or("", String::as_str);
        for (at, condition) in conditions.iter().enumerate() {
            if conditions.iter().take(at).any(|other| other.argument == condition.argument) {
                let argument = condition.argument;
                return Err(invalid(format!(
                    "an entry for \"{about}\" in the seccomp profile has two conditions on argument {argument}"
                ))
                .with_hint("runc and crun take them as alternatives: write an entry for each"));
            }
        }
        if witness(&conditions).is_none() {
            return Err(invalid(format!(
                "the conditions on \"{about}\" in the seccomp profile can never hold"
            ))
            .with_hint("look at \"value\" and, with a mask, at \"valueTwo\", which must lie within it"));
        }
        Ok(Self {
            names,
            answer: answer(&entry.action, entry.errno_ret, entry.errno.as_deref())?,
            conditions,
            includes: Scope::read(entry.includes)?,
            excludes: Scope::read(entry.excludes)?,
        })
    }
}

fn condition(argument: &Argument) -> Result<Condition> {
    let Argument { index, value, value_two, ref op } = *argument;
    if index > 5 {
        return Err(invalid(format!(
            "system calls have no argument {index}, which the seccomp profile names"
        ))
        .with_hint("\"index\" is from 0 to 5"));
    }
    let test = match op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(value),
        "SCMP_CMP_NE" => Test::NotEqual(value),
        "SCMP_CMP_LT" => Test::Less(value),
        "SCMP_CMP_LE" => Test::AtMost(value),
        "SCMP_CMP_GT" => Test::Greater(value),
        "SCMP_CMP_GE" => Test::AtLeast(value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: value, value: value_two.unwrap_or(0) },
        _ => {
            return Err(invalid(format!("unknown operator {op:?} in the seccomp profile"))
                .with_hint("\"op\" is SCMP_CMP_ with EQ, NE, LT, LE, GT, GE or MASKED_EQ"));
        }
    };
    // Docker writes a zero there whatever the operator.
    if value_two.is_some_and(|two| two != 0) && !matches!(test, Test::Masked { .. }) {
        return Err(invalid(format!("{op} in the seccomp profile takes no \"valueTwo\""))
            .with_hint("SCMP_CMP_MASKED_EQ takes the mask as \"value\" and the value as \"valueTwo\""));
    }
    Ok(Condition { argument: index, width: Width::Full, test }.canonical())
}

fn answer(action: &str, number: Option<u32>, name: Option<&str>) -> Result<Answer> {
    if action != "SCMP_ACT_ERRNO" && (number.is_some() || name.is_some()) && action != "SCMP_ACT_TRACE" {
        return Err(invalid(format!("{action} in the seccomp profile takes no errno"))
            .with_hint("SCMP_ACT_ERRNO does; remove \"errnoRet\" or change the action"));
    }
    match action {
        "SCMP_ACT_ALLOW" => Ok(Answer::Allow),
        "SCMP_ACT_LOG" => Ok(Answer::Log),
        "SCMP_ACT_ERRNO" => SyscallAction::Errno(errno(number, name)?).answer(),
        "SCMP_ACT_TRAP" => Ok(Answer::Trap),
        // Of a process that goes on without one of its threads nobody knows what it does.
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => Ok(Answer::Kill),
        "SCMP_ACT_NOTIFY" => Err(invalid("SCMP_ACT_NOTIFY in the seccomp profile is not supported").with_hint(
            "the format names a socket of an agent: say notify() after from_json(), and answer by Command::on_syscall()",
        )),
        "SCMP_ACT_TRACE" => Err(invalid("SCMP_ACT_TRACE in the seccomp profile is not supported")
            .with_hint("there is no tracer: use SCMP_ACT_ERRNO, SCMP_ACT_TRAP or SCMP_ACT_KILL_PROCESS")),
        _ => Err(invalid(format!("unknown action {action:?} in the seccomp profile"))
            .with_hint("actions are SCMP_ACT_ with ALLOW, LOG, ERRNO, TRAP, KILL_PROCESS or KILL")),
    }
}

/// By number, by name, or both if they are the same.
fn errno(number: Option<u32>, name: Option<&str>) -> Result<i32> {
    let number = number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(number.unwrap_or(libc::EPERM)) };
    let named = (1..=4095).find(|&known| format!("{:?}", nix::errno::Errno::from_raw(known)) == name);
    match (named, number) {
        (Some(named), None) => Ok(named),
        (Some(named), Some(number)) if named == number => Ok(number),
        (Some(_), Some(number)) => {
            Err(invalid(format!("{name} in the seccomp profile is not errno {number}"))
                .with_hint("\"errno\" and \"errnoRet\" are two ways to say the same"))
        }
        (None, _) => Err(invalid(format!("unknown errno {name:?} in the seccomp profile"))
            .with_hint("it is a name of errno(3), such as EPERM")),
    }
}

fn check_architectures(document: &Document) -> Result<()> {
    if document.architectures.as_ref().is_some_and(|list| !list.is_empty())
        && document.arch_map.as_ref().is_some_and(|map| !map.is_empty())
    {
        return Err(invalid("the seccomp profile has both \"architectures\" and \"archMap\"")
            .with_hint("remove one of them"));
    }
    let listed = document.architectures.iter().flatten();
    let mapped = document
        .arch_map
        .iter()
        .flatten()
        .flat_map(|map| std::iter::once(&map.architecture).chain(map.sub_architectures.iter().flatten()));
    let known = |name: &str| name.strip_prefix("SCMP_ARCH_").is_some_and(|name| SCMP_ARCHES.contains(&name));
    match listed.chain(mapped).find(|name| !known(name)) {
        None => Ok(()),
        Some(unknown) => Err(invalid(format!("unknown architecture {unknown:?} in the seccomp profile"))
            .with_hint(format!("they are SCMP_ARCH_ with {}", SCMP_ARCHES.join(" ")))),
    }
}

/// The architectures of libseccomp.
const SCMP_ARCHES: &[&str] = &[
    "X86",
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SH",
    "SHEB",
];
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid(message)
}
