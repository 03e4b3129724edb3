//! What one program may use, beside what all programs of its sandbox may together.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::cgroup::{Cgroup, Limits, RunPlacement};
use crate::error::{Error, Result};
use crate::feature::{Enforced, Feature};
use crate::limits::Bytes;
use crate::plan::Plan;

/// What a command says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) limits: Option<Limits>,
    pub(crate) wall_time: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle_time: Option<Duration>,
    pub(crate) output_max: Option<Bytes>,
}

/// What is in force for a program.
#[derive(Debug)]
pub(crate) struct RunLimits {
    pub(crate) wall_time: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle_time: Option<Duration>,
    pub(crate) output_max: Option<Bytes>,
    /// CPU time is sampled for want of a cgroup that counts it.
    pub(crate) sampled: bool,
    /// Where it has cgroups of its own.
    pub(crate) placement: Option<Arc<RunPlacement>>,
    /// What it says beside what the plan says.
    pub(crate) enforced: Option<Enforced>,
}

impl Wanted {
    /// Checks what does not depend on a plan.
    pub(crate) fn validate(&self) -> Result<()> {
        for (what, limit) in
            [("a wall time", self.wall_time), ("a CPU time", self.cpu_time), ("an idle time", self.idle_time)]
        {
            if limit == Some(Duration::ZERO) {
                return Err(Error::invalid(format!("{what} limit of zero lets nothing run")));
            }
        }
        let Some(limits) = &self.limits else { return Ok(()) };
        if let Some(feature) =
            limits.features().find(|feature| matches!(feature, Feature::Freezer | Feature::Pressure))
        {
            return Err(Error::invalid(format!("{feature} is not for a single program"))
                .with_hint("set it for the sandbox, whose programs are frozen and looked at together"));
        }
        limits.validate()
    }

    /// Whether it takes cgroups of its own.
    fn takes_cgroups(&self) -> bool {
        self.limits.is_some() || self.cpu_time.is_some() || self.idle_time.is_some()
    }
}

/// The stricter of what two say.
fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Plan {
    /// What will be in force for a program that wants this.
    ///
    /// # Errors
    ///
    /// If a limit cannot be had.
    pub(crate) fn run_limits(&self, wanted: Option<&Wanted>) -> Result<RunLimits> {
        let lowered = &*self.0;
        let mut run = RunLimits {
            wall_time: lowered.wall_time,
            cpu_time: lowered.cpu_time,
            idle_time: lowered.idle_time,
            output_max: lowered.output_max,
            sampled: lowered.sample_cpu,
            placement: None,
            enforced: None,
        };
        let Some(wanted) = wanted else { return Ok(run) };
        run.wall_time = least(run.wall_time, wanted.wall_time);
        run.cpu_time = least(run.cpu_time, wanted.cpu_time);
        run.idle_time = least(run.idle_time, wanted.idle_time);
        run.output_max = least(run.output_max, wanted.output_max);
        let mut enforced = lowered.enforced.clone();
        for (feature, is_set) in
            [(Feature::WallTime, wanted.wall_time.is_some()), (Feature::Output, wanted.output_max.is_some())]
        {
            if is_set {
                enforced.add(feature);
            }
        }
        if wanted.takes_cgroups() {
            self.place(wanted, &mut run, &mut enforced)?;
        }
        run.enforced = Some(enforced);
        Ok(run)
    }

    /// Finds places for the cgroups of a program.
    fn place(&self, wanted: &Wanted, run: &mut RunLimits, enforced: &mut Enforced) -> Result<()> {
        let lowered = &*self.0;
        let best = |feature: &Feature| lowered.best_effort.contains(feature);
        let mut limits = wanted.limits.clone().unwrap_or_default();
        limits.suit_idle_time(run.idle_time)?;
        lowered.limits.suit_idle_time(run.idle_time)?;
        for feature in limits.features().filter(best) {
            if let Err(error) = Cgroup::try_out(&limits.only(feature), lowered.placement.parent()) {
                limits.clear(feature);
                enforced.skip(feature, error.to_string());
            }
        }
        limits.features().for_each(|feature| enforced.add(feature));
        let times = [(Feature::CpuTime, wanted.cpu_time), (Feature::IdleTime, wanted.idle_time)];
        let times = times.into_iter().filter(|(_, limit)| limit.is_some()).map(|(feature, _)| feature);
        limits.cpu_accounting = lowered.limits.cpu_accounting;
        for feature in times {
            match self.try_accounting(best(&feature)) {
                Ok(()) => {
                    limits.cpu_accounting = true;
                    enforced.add(feature);
                }
                Err(error) if feature == Feature::CpuTime => {
                    run.sampled = true;
                    enforced.skip(feature, format!("sampled from the processes' clocks instead: {error}"));
                }
                Err(error) => {
                    run.idle_time = lowered.idle_time;
                    enforced.skip(feature, error.to_string());
                }
            }
        }
        let mut last = lowered.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        let placement = match &*last {
            Some(last) if *last.limits() == limits => Arc::clone(last),
            _ => Arc::clone(last.insert(Arc::new(RunPlacement::resolve(&limits, &lowered.placement)?))),
        };
        run.placement = Some(placement);
        Ok(())
    }

    /// Whether a group can be had that counts CPU time. Who does not ask to go without is told when it is looked for in
    /// earnest.
    fn try_accounting(&self, may_be_skipped: bool) -> Result<()> {
        let accounting = Limits { cpu_accounting: true, ..Limits::default() };
        match may_be_skipped {
            true => Cgroup::try_out(&accounting, self.0.placement.parent()),
            false => Ok(()),
        }
    }
}
