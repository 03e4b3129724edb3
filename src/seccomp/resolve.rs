//! From names to numbers: what a [`Seccomp`] answers to each system call number.

use super::groups::{self, CLONE3};
use super::names::{self, Arch};
use super::profile::{DENIED, Profile};
use super::satisfy::witness;
use super::verdict::{Answer, Condition, Verdict};
use super::{Base, Change, Options, Seccomp, guard};
use crate::{Error, Result};

/// The answer to a number that has no name here, as an older kernel would give it: a libc that probes for a
/// newer call then falls back to the one it replaced, which it would not do on `EPERM`.
pub(super) const UNKNOWN: Answer = Answer::Errno(38); // ENOSYS

/// The most conditions of one word: more than there are arguments and bounds to set for them.
const MAX_CONDITIONS: usize = 16;

/// The answers to the numbers from 0 to the highest known one; beyond them it is [`UNKNOWN`].
pub(super) fn verdicts(seccomp: &Seccomp, options: Options, arch: Arch) -> Result<Vec<Verdict>> {
    Ok(table(seccomp, options, arch)?.into_verdicts())
}

/// The same, with the answer that they differ from.
pub(super) fn table(seccomp: &Seccomp, options: Options, arch: Arch) -> Result<Table> {
    let otherwise = seccomp.otherwise.map(super::SyscallAction::answer).transpose()?;
    let mut table = match &seccomp.base {
        Base::Profile(profile) => from_profile(profile, otherwise, arch)?,
        Base::Only(names) => from_list(names, otherwise, arch)?,
        #[cfg(feature = "serde")]
        Base::Imported(imported) => {
            let mut table = Table::new(arch, otherwise.unwrap_or(imported.otherwise));
            imported.fill(&mut table, options)?;
            table
        }
    };
    for change in &seccomp.changes {
        say(&mut table, change)?;
    }
    if let Some(outer) = &seccomp.outer {
        table.narrow_to(&self::table(outer, options, arch)?);
    }
    // A list of the caller's own says all that it means, and so does a call that was named.
    if matches!(seccomp.base, Base::Profile(_)) {
        let fixed =
            [(options.fixed_processors, "sched_setaffinity"), (options.fixed_io_priority, "ioprio_set")];
        for (_, name) in fixed.into_iter().filter(|(is, _)| *is) {
            if seccomp.changes.iter().all(|change| change.name != name) {
                table.change(name, |verdict| verdict.refuse(DENIED));
            }
        }
    }
    if options.setuid_guard {
        guard::narrow(&mut table);
    }
    guard::refuse(&mut table, options.refused);
    Ok(table.finish())
}

fn from_profile(profile: &Profile, otherwise: Option<Answer>, arch: Arch) -> Result<Table> {
    let mut table = Table::new(arch, otherwise.unwrap_or(profile.otherwise));
    for word in profile.words {
        for name in word.names {
            for call in calls(name, arch)? {
                let verdict = match word.rules {
                    [] => table.alone(name, call, word.answer),
                    rules => Verdict::by_rules(rules, word.answer, table.otherwise),
                };
                table.set(call, verdict);
            }
        }
    }
    Ok(table)
}

fn from_list(names: &[String], otherwise: Option<Answer>, arch: Arch) -> Result<Table> {
    if names.is_empty() {
        return Err(Error::invalid("the list of allowed system calls is empty").with_hint(
            "name the system calls the program needs, or use Seccomp::new() for the default profile",
        ));
    }
    let mut table = Table::new(arch, otherwise.unwrap_or(DENIED));
    for name in names {
        for call in calls(name, arch)? {
            table.set(call, table.alone(name, call, Answer::Allow));
        }
    }
    Ok(table)
}

/// Lets one word of the caller's own count.
fn say(table: &mut Table, change: &Change) -> Result<()> {
    let answer = change.action.answer()?;
    let Some(conditions) = &change.conditions else {
        for call in calls(&change.name, table.arch)? {
            table.set(call, table.alone(&change.name, call, answer));
        }
        return Ok(());
    };
    let conditions = lower(&change.name, conditions)?;
    for call in calls(&change.name, table.arch)? {
        if answer == Answer::Allow && table.get(call).is_some_and(|verdict| *verdict == Answer::Allow.into())
        {
            return Err(Error::invalid(format!(
                "conditions under which \"{call}\" is allowed change nothing"
            ))
            .with_hint(format!(
                "it is allowed whatever its arguments; to allow nothing else, deny(\"{call}\") comes first"
            )));
        }
        // A member of a group is let through only where its own conditions hold as well.
        let member = change.name.starts_with('@') && answer.lets_through();
        match groups::conditions(call).filter(|_| member) {
            Some(rules) => {
                for rule in rules {
                    let both = conditions.iter().chain(*rule).copied().collect();
                    table.change(call, |verdict| verdict.answer_if(both, answer));
                }
            }
            None if member && call == CLONE3 => {}
            None => table.change(call, |verdict| verdict.answer_if(conditions.clone(), answer)),
        }
    }
    Ok(())
}

fn lower(name: &str, conditions: &[super::SyscallCondition]) -> Result<Vec<Condition>> {
    if conditions.is_empty() {
        return Err(Error::invalid(format!("the list of conditions on \"{name}\" is empty"))
            .with_hint("a word without conditions is said by allow(), deny(), kill() and the like"));
    }
    if conditions.len() > MAX_CONDITIONS {
        let count = conditions.len();
        return Err(Error::invalid(format!("{count} conditions on \"{name}\" are too many"))
            .with_hint(format!("at most {MAX_CONDITIONS} can hold together; say alternatives one by one")));
    }
    let lowered: Vec<Condition> =
        conditions.iter().map(super::SyscallCondition::lower).collect::<Result<_>>()?;
    if witness(&lowered).is_none() {
        return Err(Error::invalid(format!("the conditions on \"{name}\" can never hold together"))
            .with_hint("all conditions of one word must hold; say alternatives one by one"));
    }
    Ok(lowered)
}

/// The calls that a name stands for: its own, or those of the group. A name that only another architecture has is no
/// mistake: there is nothing to allow or deny here, and one policy can serve both.
pub(super) fn calls(name: &str, arch: Arch) -> Result<Vec<&'static str>> {
    if name.starts_with('@') {
        return match groups::find(name) {
            Some(group) => Ok(group.calls.to_vec()),
            None => Err(unknown_group(name)),
        };
    }
    names::known(name).map(|name| vec![name]).ok_or_else(|| unknown(name, arch))
}

/// The answers by number.
pub(super) struct Table {
    arch: Arch,
    /// The answer where no word says another.
    otherwise: Answer,
    /// Indexed by number.
    verdicts: Vec<Verdict>,
}

impl Table {
    /// Everything that has a name gets the same answer.
    pub(super) fn new(arch: Arch, otherwise: Answer) -> Self {
        let mut verdicts = vec![Verdict::from(UNKNOWN); arch.highest() as usize + 1];
        for (name, number) in arch.calls() {
            let answer = if name == CLONE3 { UNKNOWN } else { otherwise };
            verdicts[number as usize] = answer.into();
        }
        Self { arch, otherwise, verdicts }
    }

    /// The verdict of a word without conditions: a call that is allowed as a member of its group keeps the conditions
    /// that make it safe to allow, and one that is named loses them.
    fn alone(&self, name: &str, call: &str, answer: Answer) -> Verdict {
        if !name.starts_with('@') || !answer.lets_through() {
            return answer.into();
        }
        match groups::conditions(call) {
            Some(rules) => Verdict::by_rules(rules, answer, self.otherwise),
            None if call == CLONE3 => UNKNOWN.into(),
            None => answer.into(),
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    #[cfg(feature = "serde")]
    pub(super) fn otherwise(&self) -> Answer {
        self.otherwise
    }

    fn entry(&mut self, name: &str) -> Option<&mut Verdict> {
        self.verdicts.get_mut(self.arch.number(name)? as usize)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.get(self.arch.number(name)? as usize)
    }

    pub(super) fn set(&mut self, name: &str, verdict: Verdict) {
        if let Some(entry) = self.entry(name) {
            *entry = verdict;
        }
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(Verdict) -> Verdict) {
        if let Some(entry) = self.entry(name) {
            *entry = change(std::mem::replace(entry, UNKNOWN.into()));
        }
    }

    /// Lets through only what `outer` lets through as well.
    fn narrow_to(&mut self, outer: &Self) {
        for (verdict, outer) in self.verdicts.iter_mut().zip(&outer.verdicts) {
            let inner = std::mem::replace(verdict, UNKNOWN.into());
            *verdict = inner.within(outer);
        }
    }

    pub(super) fn finish(mut self) -> Self {
        self.verdicts.iter_mut().for_each(Verdict::simplify);
        self
    }

    pub(super) fn into_verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }
}

fn unknown(name: &str, arch: Arch) -> Error {
    let hint = match name.parse().ok().and_then(|number| arch.name(number)) {
        Some(meant) => format!("system calls go by their names; number {name} is \"{meant}\""),
        None => "names are those of the kernel, up to Linux 6.18, such as \"openat\" or \"newfstatat\"; \
                 the function of the C library can have another one, see strace(1)"
            .to_owned(),
    };
    Error::invalid(format!("unknown syscall \"{name}\"")).with_hint(hint)
}

fn unknown_group(name: &str) -> Error {
    let names: Vec<&str> = groups::GROUPS.iter().map(|group| group.name).collect();
    Error::invalid(format!("unknown group of syscalls \"{name}\""))
        .with_hint(format!("there are {}", names.join(" ")))
}
