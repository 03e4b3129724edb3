//! From a policy to operations of the program's process, and to steps of the gate for what it may not do itself.

use super::{IDLE, IoPriority, Scheduler, Scheduling};
use crate::capability;
use crate::cgroup::CpuSet;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::gate::{Action, HostStep};
use crate::limits::Resource;
use crate::lowering::Lowering;
use crate::sys;
use crate::wire::{Confine, section};

/// What this process may do to others by the kernel's rules for the initial user namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Power {
    /// Effective capabilities, as far as they count there.
    capabilities: u64,
    /// It has some that do not.
    elsewhere: bool,
    /// Its own policy and nice value, with which a program begins.
    policy: u32,
    nice: i32,
    /// Soft limits, up to which the kernel asks for no capability.
    rtprio: u64,
    nice_ceiling: u64,
}

impl Power {
    pub(crate) fn now() -> Result<Self> {
        let failed =
            |error| Error::os(Step::Plan, "asking for this thread's scheduling and capabilities", error);
        let all = sys::effective_capabilities().map_err(failed)?;
        // The number of the initial user namespace is part of the kernel's interface (PROC_USER_INIT_INO). Where /proc
        // does not tell, the kernel's own answer will.
        let inside = std::fs::read_link("/proc/self/ns/user")
            .is_ok_and(|link| link.as_os_str() != "user:[4026531837]");
        let (policy, nice) = sys::own_scheduling().map_err(failed)?;
        Ok(Self {
            capabilities: if inside { 0 } else { all },
            elsewhere: inside && all != 0,
            policy,
            nice,
            rtprio: sys::soft_rlimit(Resource::Rtprio.number()).map_err(failed)?,
            nice_ceiling: sys::soft_rlimit(Resource::Nice.number()).map_err(failed)?,
        })
    }

    /// Whether a process of ours may take this value itself: setpriority(2).
    fn may_be_nice(&self, nice: i32) -> bool {
        nice >= self.nice || u64::try_from(20 - nice).is_ok_and(|asked| asked <= self.nice_ceiling)
    }

    /// Whether a process of ours may take this policy itself: sched(7), "Privileges and resource limits".
    fn may_schedule(&self, scheduler: Scheduler) -> bool {
        match scheduler {
            Scheduler::Idle => true,
            Scheduler::Other | Scheduler::Batch => {
                self.policy != IDLE || u64::try_from(20 - self.nice).is_ok_and(|own| own <= self.nice_ceiling)
            }
            Scheduler::Fifo(priority) | Scheduler::RoundRobin(priority) => u64::from(priority) <= self.rtprio,
        }
    }

    /// Refuses what this process cannot do either.
    fn require(&self, capability: u64, step: Step, what: &str) -> Result<()> {
        if self.capabilities & capability != 0 {
            return Ok(());
        }
        let name = if capability == capability::SYS_NICE { "CAP_SYS_NICE" } else { "CAP_SYS_RESOURCE" };
        let hint = match (self.elsewhere, capability) {
            (true, _) => "capabilities of a user namespace do not count for this; run the host outside of it",
            (_, capability::SYS_NICE) => {
                "give the host CAP_SYS_NICE (AmbientCapabilities= of its service, or setcap), or raise its RLIMIT_RTPRIO \
                 and RLIMIT_NICE; or allow going without by best_effort(Feature::Scheduling)"
            }
            _ => {
                "give the host CAP_SYS_RESOURCE, or raise its own limit first (ulimit -H, or LimitNOFILE= and the like \
                 of its service)"
            }
        };
        let message = format!("{what} needs {name} in the initial user namespace, which this process lacks");
        Err(Error::message(ErrorKind::PermissionDenied, step, message).with_hint(hint))
    }

    /// The step that raises a hard limit above the host's own.
    pub(crate) fn raise(&self, resource: Resource, soft: u64, hard: u64, own: u64) -> Result<HostStep> {
        let name = resource.name();
        let what = format!("raising the hard limit of {name} from the host's own, {own}, to {hard}");
        self.require(capability::SYS_RESOURCE, Step::Rlimit, &what)?;
        let action = Action::Rlimit { resource: resource.number(), soft, hard };
        Ok(HostStep::new(Step::Rlimit, format!("{what}, and limiting it to {soft},"), action))
    }
}

/// What scheduling came to.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    /// For the host, at the gate.
    pub(crate) steps: Vec<HostStep>,
    /// What could not be had, one reason each.
    pub(crate) refused: Vec<Error>,
}

/// Lowers everything that can be had; what needs a capability that the host lacks is refused, each for itself.
pub(crate) fn lower(scheduling: &Scheduling, power: &Power, lowering: &mut Lowering) -> Result<Lowered> {
    let mut lowered = Lowered::default();
    let mut own = |what: String, operation: &Confine<'_>| {
        lowering.confine(section::CONFINE, Step::Scheduling, what, operation);
    };
    let mut gate = |what: String, action| match power.require(capability::SYS_NICE, Step::Scheduling, &what) {
        Ok(()) => lowered.steps.push(HostStep::new(Step::Scheduling, what, action)),
        Err(error) => lowered.refused.push(error),
    };
    if let Some(nice) = scheduling.nice {
        let what = format!("setting the nice value {nice}");
        if power.may_be_nice(nice) {
            own(what, &Confine::Nice { value: nice.into() });
        } else {
            gate(what, Action::Nice(nice));
        }
    }
    if let Some(io) = scheduling.io {
        let what = format!("setting the I/O priority {}", io.describe());
        if matches!(io, IoPriority::RealTime(_)) {
            gate(what, Action::IoPriority(io.packed()));
        } else {
            own(what, &Confine::IoPriority { value: io.packed() });
        }
    }
    if let Some(processors) = &scheduling.processors {
        own(
            format!("allowing processors {processors} only"),
            &Confine::Affinity { mask: &mask(processors)? },
        );
    }
    // Last, so that a program that idles or runs in real time has its other settings by then.
    if let Some(scheduler) = scheduling.scheduler {
        let what = format!("setting the policy {}", scheduler.describe());
        let (policy, priority) = scheduler.numbers();
        if power.may_schedule(scheduler) {
            own(what, &Confine::Scheduler { policy, priority });
        } else {
            gate(what, Action::Scheduler { policy, priority });
        }
    }
    Ok(lowered)
}

/// A bit for each processor, in the kernel's words of 8 bytes.
fn mask(processors: &CpuSet) -> Result<Vec<u8>> {
    let online = online()?;
    if let Some(missing) = processors.iter().find(|processor| !online.contains(*processor)) {
        return Err(Error::invalid(format!("there is no processor {missing} online"))
            .with_hint(format!("processors are numbered from 0; these are online: {online}")));
    }
    let words = processors.iter().last().map_or(0, |last| last as usize / 64 + 1);
    let mut mask = vec![0_u8; words * 8];
    for processor in processors.iter() {
        // The words have the machine's byte order, which on both architectures is little-endian.
        if let Some(byte) = mask.get_mut(processor as usize / 8) {
            *byte |= 1 << (processor % 8);
        }
    }
    Ok(mask)
}

/// The processors that run. Without `/sys`, those that this thread may use.
fn online() -> Result<CpuSet> {
    std::fs::read_to_string("/sys/devices/system/cpu/online")
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .filter(|online: &CpuSet| !online.is_empty())
        .map_or_else(own_processors, Ok)
}

/// The processors that this thread may use.
pub(crate) fn own_processors() -> Result<CpuSet> {
    sys::own_processors()
        .map(CpuSet::from_iter)
        .map_err(|error| Error::os(Step::Plan, "asking for this thread's processors", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lowering::SourceMode;

    const NONE: Power =
        Power { capabilities: 0, elsewhere: false, policy: 0, nice: 0, rtprio: 0, nice_ceiling: 0 };

    fn lowered(scheduling: &Scheduling, power: &Power) -> Lowered {
        lower(scheduling, power, &mut Lowering::new(SourceMode::Paths)).unwrap()
    }

    #[test]
    fn only_what_needs_the_host_goes_through_the_gate() {
        let power = Power { capabilities: capability::SYS_NICE, ..NONE };
        let own = Scheduling {
            scheduler: Some(Scheduler::Batch),
            nice: Some(5),
            io: Some(IoPriority::Idle),
            processors: Some([0].into()),
        };
        assert!(lowered(&own, &power).steps.is_empty());
        let hosts = Scheduling {
            scheduler: Some(Scheduler::Fifo(7)),
            nice: Some(-5),
            io: Some(IoPriority::RealTime(0)),
            processors: None,
        };
        let actions: Vec<_> = lowered(&hosts, &power).steps.iter().map(|step| step.action).collect();
        let expected =
            [Action::Nice(-5), Action::IoPriority(0x2000), Action::Scheduler { policy: 1, priority: 7 }];
        assert_eq!(actions, expected);
    }

    #[test]
    fn a_missing_capability_is_named() {
        let asked = Scheduling { scheduler: Some(Scheduler::RoundRobin(1)), ..Scheduling::default() };
        let refused = lowered(&asked, &NONE).refused;
        assert!(refused[0].to_string().contains("CAP_SYS_NICE"), "{}", refused[0]);
        assert_eq!(refused[0].kind(), ErrorKind::PermissionDenied);
        let error = NONE.raise(Resource::Nofile, 1, 2, 1).unwrap_err();
        assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
    }

    #[test]
    fn limits_of_the_host_do_without_the_gate() {
        let power = Power { rtprio: 10, nice_ceiling: 25, ..NONE };
        assert!(power.may_schedule(Scheduler::Fifo(10)) && !power.may_schedule(Scheduler::Fifo(11)));
        assert!(power.may_be_nice(-5) && !power.may_be_nice(-6));
        let idle = Power { policy: IDLE, ..NONE };
        assert!(!idle.may_schedule(Scheduler::Other), "SCHED_IDLE is not left without a right to");
    }

    #[test]
    fn masks_are_the_kernels() {
        assert_eq!(mask(&[0].into()).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        for missing in [4096, u32::MAX] {
            let error = mask(&[0, missing].into()).unwrap_err();
            assert!(error.to_string().contains(&missing.to_string()), "{error}");
        }
    }
}
