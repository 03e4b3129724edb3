//! From names to numbers: what a [`Seccomp`] answers to each system call number.

use super::names::{self, Arch};
use super::verdict::{Answer, Verdict};
use super::{Action, Base, Options, Seccomp, profile};
use crate::{Error, Result};

/// The default answer to a call that exists but is on no list: the program sees a permission it lacks.
const DENIED: Answer = Answer::Errno(errno(libc::EPERM));

/// The answer to a number that has no name here, as an older kernel would give it: a libc that probes for a
/// newer call then falls back to the one it replaced, which it would not do on `EPERM`.
pub(super) const UNKNOWN: Answer = Answer::Errno(errno(libc::ENOSYS));

/// The largest `errno` that the kernel returns as one.
const MAX_ERRNO: i32 = 4095;

/// The answers to the numbers from 0 to the highest known one; beyond them it is [`UNKNOWN`].
pub(super) fn verdicts(seccomp: &Seccomp, options: Options, arch: Arch) -> Result<Vec<Verdict>> {
    let mut table = Table::new(arch);
    match &seccomp.base {
        Base::Profile => {
            for name in profile::ALLOWED.iter().copied().flatten() {
                table.set(name, Answer::Allow)?;
            }
            for &(name, rules) in profile::CONDITIONAL {
                table.set(name, Verdict::by_rules(rules, Answer::Allow, DENIED))?;
            }
        }
        Base::Only(names) => {
            check_list(names)?;
            for name in names {
                table.set(name, Answer::Allow)?;
            }
        }
    }
    for change in &seccomp.changes {
        table.set(&change.name, answer(change.action)?)?;
    }
    // A list of the caller's own says all that it means, and so does a call that was named.
    if matches!(seccomp.base, Base::Profile) {
        let fixed =
            [(options.fixed_processors, "sched_setaffinity"), (options.fixed_io_priority, "ioprio_set")];
        for (_, name) in fixed.into_iter().filter(|(is, _)| *is) {
            if seccomp.changes.iter().all(|change| change.name != name) {
                table.set(name, DENIED)?;
            }
        }
    }
    if options.setuid_guard {
        guard_setuid(&mut table)?;
    }
    Ok(table.verdicts)
}

fn check_list(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::invalid("the list of allowed system calls is empty").with_hint(
            "name the system calls the program needs, or use Seccomp::new() for the default profile",
        ));
    }
    Ok(())
}

fn answer(action: Action) -> Result<Answer> {
    match action {
        Action::Allow => Ok(Answer::Allow),
        Action::Kill => Ok(Answer::Kill),
        Action::Notify => Ok(Answer::Notify),
        Action::Errno(number) => match u16::try_from(number) {
            Ok(errno) if (1..=MAX_ERRNO).contains(&number) => Ok(Answer::Errno(errno)),
            _ => Err(Error::invalid(format!("{number} is not an errno that a system call can fail with"))
                .with_hint("give one from 1 to 4095, such as libc::EPERM or libc::ENOSYS")),
        },
    }
}

/// Narrows whatever would let a set-user-ID file be made, and never widens: what is denied stays denied.
fn guard_setuid(table: &mut Table) -> Result<()> {
    for &(name, rules) in profile::SETUID_GUARD {
        if let Some(verdict) = table.get(name) {
            table.set(name, verdict.narrow(rules, DENIED))?;
        }
    }
    for name in profile::SETUID_GUARD_ENOSYS {
        if let Some(verdict) = table.get(name) {
            table.set(name, verdict.refuse(UNKNOWN))?;
        }
    }
    Ok(())
}

struct Table {
    arch: Arch,
    /// Indexed by number.
    verdicts: Vec<Verdict>,
}

impl Table {
    /// Everything that has a name is denied.
    fn new(arch: Arch) -> Self {
        let mut verdicts = vec![Verdict::from(UNKNOWN); arch.highest() as usize + 1];
        for (name, number) in arch.calls() {
            let answer = if name == profile::CLONE3 { UNKNOWN } else { DENIED };
            verdicts[number as usize] = answer.into();
        }
        Self { arch, verdicts }
    }

    fn get(&self, name: &str) -> Option<Verdict> {
        self.verdicts.get(self.arch.number(name)? as usize).cloned()
    }

    /// A name that only another architecture has is no mistake: there is nothing to allow or deny here, and
    /// one policy can serve both.
    fn set(&mut self, name: &str, verdict: impl Into<Verdict>) -> Result<()> {
        match self.arch.number(name).and_then(|number| self.verdicts.get_mut(number as usize)) {
            Some(entry) => *entry = verdict.into(),
            None if names::is_known(name) => {}
            None => return Err(unknown(name, self.arch)),
        }
        Ok(())
    }
}

/// The numbers of a name: none if only another architecture has it.
pub(super) fn numbers_of(name: &str, arch: Arch) -> Result<Vec<u32>> {
    match arch.number(name) {
        Some(number) => Ok(vec![number]),
        None if names::is_known(name) => Ok(Vec::new()),
        None => Err(unknown(name, arch)),
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

/// The constants of `libc` are `c_int` and positive.
const fn errno(number: i32) -> u16 {
    assert!(0 < number && number <= MAX_ERRNO);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was just checked")]
    let errno = number as u16;
    errno
}
