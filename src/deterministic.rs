//! Runs that repeat: what a sandbox can keep from differing between two of them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::namespace::TimeOffsets;
use crate::run_image::DEFAULT_PATH;
use crate::sandbox::{Base, Sandbox};
use crate::scheduling;

/// What the monotonic and the boot-time clock show when the sandbox is made. Not 0: programs subtract from it.
const START_SECONDS: i64 = 1000;

impl Sandbox {
    /// Fixes what can be fixed, so that a program that is run again behaves the same again: for measurements, for
    /// reproducing a crash, for builds.
    ///
    /// | fixed | to | how |
    /// |---|---|---|
    /// | addresses of code, stack, heap, mappings | the kernel's defaults | `ADDR_NO_RANDOMIZE`, [personality(2)](https://man7.org/linux/man-pages/man2/personality.2.html) |
    /// | processors | one | [`cpu_affinity`](Sandbox::cpu_affinity); the caller's if set, else those of the host in turn, one for each plan |
    /// | host name | `belljar`, unless set | [`hostname`](Sandbox::hostname) |
    /// | environment | `LANG=C`, `TZ=UTC`, `PATH=/usr/local/bin:/usr/bin:/bin`, and what [`env`](Sandbox::env) sets | an empty one otherwise |
    /// | umask | 022 | as in every sandbox |
    /// | process ids | the first program is 2 | [`pid_ns`](Sandbox::pid_ns) |
    /// | `CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`, `sysinfo(2)`, `/proc/uptime` | 1000 s when the sandbox is made | [`time_ns`](Sandbox::time_ns), [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html) |
    ///
    /// A later call of a setter overrides what this one did. Since Linux 5.6 (time namespaces); without those, name
    /// [`Feature::TimeNs`](crate::Feature::TimeNs) in [`best_effort`](Sandbox::best_effort) or call
    /// [`share_time`](Sandbox::share_time).
    ///
    /// Not fixed: the wall clock, and how long anything takes; the order in which threads and processes run; what
    /// `getrandom(2)` gives, and the 16 random bytes that every program finds on its stack (`AT_RANDOM`), from which
    /// languages seed their hash tables (for Python set `PYTHONHASHSEED`); the kernel, the model of the processor and
    /// its time stamp counter; ids and times of files; and which processor it is. Programs after the first one of a
    /// [`Container`](crate::Container) have later ids and later clocks.
    ///
    /// Without address randomisation a program is easier to exploit, from the inside. The walls of the sandbox do not
    /// rest on it.
    ///
    /// # Errors
    ///
    /// [`plan`](Sandbox::plan) as for the calls above. A spawn says [`Step::Addresses`](crate::Step::Addresses) where a
    /// filter on the host denies the personality, as those of container engines do.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Sandbox};
    ///
    /// let plan = Sandbox::new().deterministic().plan()?;
    /// let run = || plan.output(Command::new("/usr/bin/cat").arg("/proc/self/maps"));
    /// assert_eq!(run()?.stdout, run()?.stdout);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn deterministic(mut self) -> Self {
        self.fixed_addresses = true;
        self.hostname.get_or_insert_with(|| "belljar".into());
        self.time_offsets = TimeOffsets { start: Some(START_SECONDS), ..TimeOffsets::default() };
        self.environment.base = Base::Empty;
        for (key, value) in [("LANG", "C"), ("TZ", "UTC"), ("PATH", DEFAULT_PATH)] {
            if self.environment.variables.iter().all(|(set, _)| set != key) {
                self.environment.variables.push((OsString::from(key), value.into()));
            }
        }
        self.pid_ns().uts_ns().time_ns()
    }
}

/// The policy with a processor chosen, if one is to be.
pub(crate) fn with_processor(sandbox: &Sandbox) -> Result<Cow<'_, Sandbox>> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if !sandbox.fixed_addresses || sandbox.scheduling.processors.is_some() {
        return Ok(Cow::Borrowed(sandbox));
    }
    let own: Vec<u32> = scheduling::own_processors()?.iter().collect();
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % own.len().max(1);
    let chosen = own.get(turn).copied().unwrap_or(0);
    Ok(Cow::Owned(sandbox.clone().cpu_affinity([chosen])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_set_stays() {
        let sandbox = Sandbox::new().env("TZ", "CET").hostname("mine").cpu_affinity([3]).deterministic();
        let variables = &sandbox.environment.variables;
        assert_eq!(variables.iter().filter(|(key, _)| key == "TZ").count(), 1);
        assert!(variables.contains(&("TZ".into(), "CET".into())));
        assert_eq!(sandbox.hostname.as_deref(), Some("mine".as_ref()));
        assert_eq!(with_processor(&sandbox).unwrap().scheduling.processors, Some([3].into()));
    }

    #[test]
    fn one_processor_is_chosen_in_turn() {
        let sandbox = Sandbox::new().deterministic();
        let own = scheduling::own_processors().unwrap();
        let chosen: Vec<_> = (0..2 * own.iter().count())
            .map(|_| with_processor(&sandbox).unwrap().scheduling.processors.clone().unwrap())
            .collect();
        assert!(chosen.iter().all(|set| set.iter().count() == 1 && set.iter().all(|one| own.contains(one))));
        assert!(own.iter().all(|one| chosen.contains(&[one].into())), "{chosen:?} of {own:?}");
        let plain = Sandbox::new();
        assert_eq!(with_processor(&plain).unwrap().scheduling.processors, None);
    }
}
