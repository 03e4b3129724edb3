//! Runs that repeat: what a sandbox can keep from differing between two of them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cgroup::Limits;
use crate::error::{Error, Result};
use crate::namespace::TimeOffsets;
use crate::run_image::DEFAULT_PATH;
use crate::sandbox::{Base, Sandbox};
use crate::scheduling::{self, Scheduling};

/// What the monotonic and the boot-time clock show when the sandbox is made. Not 0: programs subtract from it.
const START_SECONDS: i64 = 1000;

impl Sandbox {
    /// Fixes what can be fixed, so that a program that is run again behaves the same again: for measurements, for
    /// reproducing a crash, for builds.
    ///
    /// | fixed | to | how |
    /// |---|---|---|
    /// | addresses of code, stack, heap, mappings | the kernel's defaults | `ADDR_NO_RANDOMIZE`, [personality(2)](https://man7.org/linux/man-pages/man2/personality.2.html) |
    /// | processors | one | [`cpu_affinity`](Sandbox::cpu_affinity); the caller's if set, else those of the host, or those of them in [`cpuset_cpus`](Sandbox::cpuset_cpus), in turn, one for each plan |
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
    /// [`plan`](Sandbox::plan) as for the calls above, and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) where the host
    /// may use no processor of [`cpuset_cpus`](Sandbox::cpuset_cpus). A spawn says [`Step::Addresses`](crate::Step::Addresses) where a
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

/// What the policy asks of scheduling, with a processor chosen if one is to be. `limits` are those that are in force.
pub(crate) fn with_processor<'a>(sandbox: &'a Sandbox, limits: &Limits) -> Result<Cow<'a, Scheduling>> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let asked = &sandbox.scheduling;
    if !sandbox.fixed_addresses || asked.processors.is_some() {
        return Ok(Cow::Borrowed(asked));
    }
    let own = scheduling::own_processors()?;
    let in_set = |one: &u32| limits.cpuset_cpus.as_ref().is_none_or(|set| set.contains(*one));
    let usable: Vec<u32> = own.iter().filter(in_set).collect();
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % usable.len().max(1);
    let Some(chosen) = usable.get(turn) else {
        return Err(Error::invalid("deterministic() finds no processor of cpuset_cpus that the host may use")
            .with_hint(format!(
                "name some of {own} in cpuset_cpus, widen the host's own list (`taskset -p`), or choose with cpu_affinity"
            )));
    };
    Ok(Cow::Owned(Scheduling { processors: Some([*chosen].into()), ..asked.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuSet, ErrorKind};

    #[test]
    fn what_the_caller_set_stays() {
        let sandbox = Sandbox::new().env("TZ", "CET").hostname("mine").cpu_affinity([3]).deterministic();
        let variables = &sandbox.environment.variables;
        assert_eq!(variables.iter().filter(|(key, _)| key == "TZ").count(), 1);
        assert!(variables.contains(&("TZ".into(), "CET".into())));
        assert_eq!(sandbox.hostname.as_deref(), Some("mine".as_ref()));
        assert_eq!(chosen(&sandbox), Some([3].into()));
    }

    fn chosen(sandbox: &Sandbox) -> Option<CpuSet> {
        with_processor(sandbox, &sandbox.limits).unwrap().processors.clone()
    }

    #[test]
    fn one_processor_is_chosen_in_turn() {
        let sandbox = Sandbox::new().deterministic();
        let own = scheduling::own_processors().unwrap();
        let turns: Vec<_> = (0..2 * own.iter().count()).map(|_| chosen(&sandbox).unwrap()).collect();
        assert!(turns.iter().all(|set| set.iter().count() == 1 && set.iter().all(|one| own.contains(one))));
        assert!(own.iter().all(|one| turns.contains(&[one].into())), "{turns:?} of {own:?}");
        assert_eq!(chosen(&Sandbox::new()), None);
    }

    #[test]
    fn it_is_one_of_the_cpuset() {
        let own = scheduling::own_processors().unwrap();
        let last = own.iter().last().unwrap();
        // No machine has so many.
        let sandbox = Sandbox::new().deterministic().cpuset_cpus([last, 65_000]);
        for _ in 0..8 {
            assert_eq!(chosen(&sandbox), Some([last].into()));
        }
        let elsewhere = Sandbox::new().deterministic().cpuset_cpus([65_000]);
        let error = with_processor(&elsewhere, &elsewhere.limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.hint().is_some_and(|hint| hint.contains(&own.to_string())), "{error}");
        // The set is not in force, so it does not bind.
        assert!(with_processor(&elsewhere, &Limits::new()).is_ok());
    }
}
