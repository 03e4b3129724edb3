//! From a policy to operations, in the order in which they are carried out.

use std::ffi::OsString;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::capability;
use crate::cgroup::{Cgroup, Limits, Placement, Version};
use crate::deterministic;
use crate::empty_mounts;
use crate::error::{Error, Result, Step};
use crate::fallback::StandIn;
use crate::feature::{Enforced, Feature};
use crate::gate::HostStep;
use crate::idmap::{Caller, Ids, MapPlan};
use crate::joining::{self, Entrances};
use crate::landlock;
use crate::limits::Resource;
use crate::lowering::{Lowering, SourceMode};
use crate::lsm;
use crate::mount::{Mount, RootKind};
use crate::mount_template::MountTemplate;
use crate::namespace::Namespaces;
use crate::quota;
use crate::rootfs::{Rootfs, UserNs};
use crate::sandbox::{Base, Sandbox};
use crate::scheduling::{self, Power, Scheduling};
use crate::seccomp::{Filter, Options, Refused};
use crate::sys;
use crate::tenants;
use crate::upper::UpperDir;
use crate::wire::{Confine, Setup, section, verify};

use super::{Lowered, SetUp, Warmth};

/// The slot of the first file to join the cgroup by.
#[expect(clippy::cast_possible_truncation, reason = "there are 1024 slots")]
const BOX_SLOT: u32 = crate::wire::BOX_SLOTS as u32;

/// The program's ids in a user namespace, unless others are asked for.
const DEFAULT_IDS: Ids = Ids { uid: 1000, gid: 1000 };

pub(super) fn lower(sandbox: &Sandbox) -> Result<Lowered> {
    let caller = Caller::now()?;
    let mut enforced = Enforced::default();
    let (namespaces, stand_in) = available_namespaces(sandbox, caller.uid, &mut enforced)?;
    let in_user_ns = namespaces.contains(Namespaces::USER);
    let entrances = Entrances::open(&sandbox.joins, &caller)?;
    sandbox.joins.tell(&mut enforced);
    let mode = match (caller.may_mount(), in_user_ns) {
        (false, _) => SourceMode::Paths,
        (true, false) => SourceMode::Descriptors,
        (true, true) => SourceMode::MappedDescriptors,
    };
    let mut lowering = Lowering::new(mode);
    let program_ids = sandbox.user.unwrap_or(if in_user_ns {
        DEFAULT_IDS
    } else {
        Ids { uid: caller.uid, gid: caller.gid }
    });
    let maps = match (in_user_ns, entrances.is_nested()) {
        (true, false) => Some(MapPlan::resolve(&sandbox.user_map, program_ids, &caller)?),
        (true, true) => Some(MapPlan::resolve(&sandbox.user_map, program_ids, &caller)?.written_inside()?),
        (false, false) => None,
        (false, true) => return Err(joining::needs_user_ns()),
    };

    if let Some(maps) = &maps {
        let root = Ids { uid: 0, gid: 0 };
        let may_mount = match &sandbox.capabilities {
            Some(names) => capability::mask_of(names)? & capability::SYS_ADMIN != 0,
            None => true,
        };
        if maps.setup_ids(program_ids) == root && !may_mount {
            lowering.allow_shared_root();
        }
    }

    let security = lsm::wanted(sandbox, &mut enforced)?;
    let can_send_all = mode == SourceMode::MappedDescriptors
        && entrances.is_empty()
        && security.is_empty()
        && needs_no_mount_of_host(sandbox, namespaces)?;
    if can_send_all {
        lowering.send_all_sources();
    }
    if !security.is_empty() {
        lowering.setup(Step::Label, "keeping the host's /proc", None, &Setup::KeepProc {});
    }
    #[cfg(feature = "net")]
    let wire = sandbox.wire.as_ref().map(|wire| wire.lower(sandbox, namespaces)).transpose()?;
    // What needs no ids comes first: the init does it while the host writes the id maps.
    lower_names(sandbox, namespaces, &mut lowering);
    #[cfg(feature = "net")]
    if let Some(batch) = wire.as_ref().and_then(|wire| wire.own_rules()) {
        let what = "installing the rules of the sandbox's own packet filter";
        lowering.setup(Step::Network, what, None, &Setup::PacketFilter { batch });
    }
    if namespaces.contains(Namespaces::MOUNT) {
        lowering.setup(Step::Propagation, "making all mounts private", None, &Setup::MakePrivate {});
    }
    let waits = maps.is_some() || namespaces.contains(Namespaces::MOUNT);
    if waits {
        lowering.setup(Step::Handshake, "waiting for the host's part", None, &Setup::Await {});
    }
    if entrances.is_nested() {
        let Ids { uid, gid } = program_ids;
        let what = format!("mapping user id {uid} and group id {gid} to the caller's in the joined sandbox");
        lowering.setup(Step::IdMap, what, None, &Setup::MapIds { uid, gid });
    }
    if let Some(maps) = &maps {
        let Ids { uid, gid } = maps.setup_ids(program_ids);
        let what = format!("taking user id {uid} and group id {gid} for the setup");
        lowering.setup(Step::Ids, what, None, &Setup::BecomeIds { uid, gid });
    }
    if namespaces.contains(Namespaces::MOUNT) {
        lower_root(sandbox, namespaces, program_ids, &mut lowering)?;
    }
    // Its rules are about what is there when everything is mounted. Lowered here, the program is confined by it before the
    // filter is installed.
    let landlock = match stand_in.landlock.as_ref().or(sandbox.landlock.as_ref()) {
        None => landlock::InForce::default(),
        Some(policy) => {
            let best_effort = sandbox.best_effort.contains(&Feature::Landlock);
            landlock::lower(policy, sys::landlock_abi(), best_effort, &mut lowering, &mut enforced)?
        }
    };
    let upper = upper_dir(sandbox, in_user_ns, &caller)?;

    let (limits, placement, times) = available_limits(sandbox, &mut enforced)?;
    for (slot, version) in (BOX_SLOT..).zip(placement.versions()) {
        let version = match version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        let operation = Confine::Join { slot, version };
        lowering.confine(section::JOIN, Step::Join, "joining the cgroup", &operation);
    }
    if namespaces.contains(Namespaces::CGROUP) {
        lowering.confine(
            section::JOIN,
            Step::CgroupNs,
            "unsharing the cgroup namespace",
            &Confine::UnshareCgroup {},
        );
    }

    let scheduling = deterministic::with_processor(sandbox, &limits)?;
    let mut gate = lower_scheduling(sandbox, &scheduling, &mut lowering, &mut enforced)?;
    if sandbox.fixed_addresses {
        let what = "turning address randomisation off";
        lowering.confine(section::CONFINE, Step::Addresses, what, &Confine::FixAddresses {});
    }
    lowering.confine(section::CONFINE, Step::Session, "starting a session", &Confine::Session {});
    lower_rlimits(sandbox, &mut lowering, &mut gate)?;
    if !gate.is_empty() {
        lowering.confine(
            section::JOIN,
            Step::Handshake,
            "waiting for the host at the gate",
            &Confine::Park {},
        );
    }
    let may_set_groups = match &maps {
        Some(maps) => maps.may_set_groups(),
        None => caller.capabilities & capability::SETGID != 0 && sandbox.user.is_some(),
    };
    lower_identity(sandbox, &caller, program_ids, in_user_ns, may_set_groups, &mut lowering, &mut enforced)?;
    security.iter().for_each(|label| label.lower(&mut lowering));
    if sandbox.cross_tenant {
        tenants::lower(sandbox, &mut lowering, &mut enforced)?;
    }
    let mut keys = true;
    let (asked, inheritable) = match &sandbox.seccomp {
        None => {
            if landlock.ports {
                landlock::refuse_detours(&mut lowering);
            }
            (None, true)
        }
        Some(_) => {
            let guard = sandbox.mounts.iter().any(Mount::is_writable_bind)
                || sandbox.rootfs.as_ref().is_some_and(Rootfs::is_writable_on_host);
            let options = Options {
                setuid_guard: guard,
                fixed_processors: scheduling.processors.is_some(),
                fixed_io_priority: scheduling.io.is_some(),
                refused: Refused {
                    channels: sandbox.cross_tenant,
                    // Not by a filter beside this one: of two answers the kernel takes an errno before a listener, and
                    // what the policy kills for would only fail.
                    detours: landlock.ports,
                    ..stand_in.refused
                },
                #[cfg(feature = "serde")]
                capabilities: match &sandbox.capabilities {
                    Some(names) => capability::mask_of(names)?,
                    None if in_user_ns => u64::MAX,
                    None => caller.capabilities,
                },
            };
            let Filter { program, token, asked, inheritable, keys: filtered } =
                compile_filter(sandbox, options)?;
            keys = filtered;
            let what = format!("installing a seccomp filter of {} instructions", program.len());
            let numbers: Vec<u8> = asked.iter().flatten().flat_map(|number| number.to_ne_bytes()).collect();
            let program = program.as_bytes();
            let operation = match asked {
                Some(_) => Confine::SeccompListened { program, token, asked: &numbers },
                None => Confine::Seccomp { program, token },
            };
            lowering.confine(section::SEAL, Step::Seccomp, what, &operation);
            enforced.add(Feature::Seccomp);
            (asked, inheritable)
        }
    };
    // The keyrings of users belong to the user namespace. That of the session would be the host's, whose keys could be read
    // and in which keys could be left.
    let own_keyring = keys && in_user_ns && !sandbox.cross_tenant && sys::knows_keys();
    if own_keyring {
        tenants::own_keyring(&mut lowering);
    }
    let each_its_own = own_keyring || sandbox.cross_tenant || !security.is_empty();
    let warmth = match gate.is_empty() {
        false => Warmth::Cold,
        true => warmth(sandbox, maps.as_ref(), inheritable && !each_its_own, &placement),
    };
    note_run_limits(sandbox, &mut enforced);
    if namespaces.contains(Namespaces::PID) || !placement.is_empty() {
        enforced.add(Feature::TreeKill);
    } else {
        enforced.skip(
            Feature::TreeKill,
            "without a PID namespace and without a cgroup a process can leave the tree",
        );
    }

    let changeable = sandbox.rootfs.as_ref().and_then(Rootfs::changeable);
    // What a root is changed by has a lock that its init holds, and is read by way of it.
    let set_up = match can_send_all {
        false => SetUp::AmongMounts,
        true if lowering.can_be_done_ahead() && changeable.is_none() => SetUp::Ahead,
        true => SetUp::Anywhere,
    };
    let held = lowering.take_held();
    let has_terminals = lowering.has_terminals();
    let has_root = namespaces.contains(Namespaces::MOUNT) && sandbox.rootfs.is_some();
    // Another way into namespaces that exist, and for a process with power over those of the host.
    let mount_template = (has_root && mode != SourceMode::Paths && entrances.is_empty())
        .then(|| MountTemplate::new(lowering.take_looked_up()));
    let (image, labels, sources) = lowering.finish()?;
    let image = sys::sealed_memfd(c"belljar-plan", &image)
        .map_err(|error| Error::os(Step::Prepare, "making the plan's memfd", error))?;
    let set = |resource| sandbox.rlimits.iter().any(|(set, soft, _)| *set == resource && *soft != u64::MAX);
    Ok(Lowered {
        held,
        image,
        labels,
        sources,
        gate,
        waits,
        namespaces,
        #[cfg(feature = "net")]
        wire,
        entrances,
        cross_tenant: sandbox.cross_tenant,
        maps,
        program_ids,
        has_root,
        has_terminals,
        mount_template,
        set_up,
        changeable,
        upper,
        presents_ids: mode == SourceMode::MappedDescriptors,
        placement,
        warmth,
        last_run: Mutex::default(),
        best_effort: sandbox.best_effort.iter().copied().collect(),
        limits,
        wall_time: sandbox.wall_time,
        cpu_time: times.cpu,
        idle_time: times.idle,
        extra_time: sandbox.extra_time,
        output_max: sandbox.output_max,
        sample_cpu: times.sampled,
        environment: environment(sandbox),
        rlimit_cpu: set(Resource::Cpu),
        rlimit_fsize: set(Resource::Fsize),
        filter: sandbox.seccomp.is_some() || landlock.ports,
        asked: asked.unwrap_or_default(),
        landlocked: landlock.files,
        labelled: !security.is_empty(),
        enforced,
    })
}

/// What can be done for the programs of a sandbox before their commands come.
fn warmth(sandbox: &Sandbox, maps: Option<&MapPlan>, inheritable: bool, placement: &Placement) -> Warmth {
    // A template would be one of its user's processes.
    if !inheritable || sandbox.rlimits.iter().any(|(resource, _, _)| *resource == Resource::Nproc) {
        return Warmth::Alone;
    }
    // Entering a cgroup of version 2 can take milliseconds where nobody else does it (an RCU grace period). Without ids of its
    // own the init may fork into it, which does not.
    let forks_into =
        placement.versions().any(|version| version == Version::V2) && maps != Some(&MapPlan::Block);
    if forks_into { Warmth::Alone } else { Warmth::Template }
}

/// Whether the init can do its part where nothing of the host is mounted, if it gets the mount sources. What it starts with
/// stays below the root, where a program with power over mounts would find it.
fn needs_no_mount_of_host(sandbox: &Sandbox, namespaces: Namespaces) -> Result<bool> {
    let may_mount = match &sandbox.capabilities {
        Some(names) => capability::mask_of(names)? & capability::SYS_ADMIN != 0,
        None => true,
    };
    // The init's own files in the procfs that it finds are needed for the clocks. Without a PID namespace that procfs is
    // shown to the program.
    let reads_proc = namespaces.contains(Namespaces::TIME)
        && (sandbox.time_offsets.start.is_some() || !sandbox.time_offsets.to_text().is_empty());
    Ok(!may_mount
        && !reads_proc
        && namespaces.contains(Namespaces::PID | Namespaces::MOUNT)
        && sandbox.rootfs.is_some()
        && sandbox.mounts.len() <= empty_mounts::MOST_MOUNTS)
}

/// The namespaces to unshare: all that were asked for, less those that may be skipped and cannot be had.
fn available_namespaces(
    sandbox: &Sandbox,
    caller: u32,
    enforced: &mut Enforced,
) -> Result<(Namespaces, StandIn)> {
    let mut namespaces = sandbox.namespaces;
    let mut lost = Vec::new();
    for (namespace, feature, _) in Namespaces::table() {
        if !namespaces.contains(namespace) {
            continue;
        }
        if sandbox.best_effort.contains(&feature) {
            if let Err(error) = namespaces.try_one(namespace) {
                if sandbox.cross_tenant {
                    return Err(tenants::not_apart(feature, error));
                }
                namespaces -= namespace;
                lost.push((feature, error));
                continue;
            }
        }
        enforced.add(feature);
    }
    if lost.is_empty() {
        return Ok((namespaces, StandIn::default()));
    }
    let stand_in =
        StandIn::new(sandbox, sandbox.namespaces - namespaces, sys::landlock_abi().unwrap_or(0), caller)?;
    for (feature, error) in lost {
        enforced.skip(
            feature,
            match stand_in.words(feature) {
                Some(words) => format!("{error}; {words}"),
                None => error.to_string(),
            },
        );
    }
    Ok((namespaces, stand_in))
}

fn lower_names(sandbox: &Sandbox, namespaces: Namespaces, lowering: &mut Lowering) {
    use std::os::unix::ffi::OsStrExt;
    if namespaces.contains(Namespaces::UTS) {
        if let Some(name) = &sandbox.hostname {
            let what = format!("setting the host name to {}", name.to_string_lossy());
            lowering.setup(Step::Hostname, what, None, &Setup::Hostname { name: name.as_bytes() });
        }
        if let Some(name) = &sandbox.domain_name {
            let what = format!("setting the domain name to {}", name.to_string_lossy());
            lowering.setup(Step::Hostname, what, None, &Setup::DomainName { name: name.as_bytes() });
        }
    }
    if namespaces.contains(Namespaces::NET) {
        #[cfg(feature = "net")]
        let is_wired = sandbox.wire.is_some();
        #[cfg(not(feature = "net"))]
        let is_wired = false;
        if !is_wired {
            lowering.setup(Step::Clone, "unsharing the network namespace", None, &Setup::NetNs {});
        }
        lowering.setup(Step::Loopback, "bringing up the loopback interface", None, &Setup::LoopbackUp {});
    }
    if namespaces.contains(Namespaces::TIME) {
        let what = "unsharing the time namespace";
        if let Some(seconds) = sandbox.time_offsets.start {
            let what = format!("{what}, its clocks at {seconds} s,");
            lowering.setup(Step::TimeOffsets, what, None, &Setup::ClocksStart { seconds });
        } else {
            let offsets = sandbox.time_offsets.to_text();
            let what = match offsets.as_str() {
                "" => what,
                _ => "unsharing the time namespace and setting its clocks",
            };
            let operation = Setup::TimeOffsets { offsets: offsets.as_bytes() };
            lowering.setup(Step::TimeOffsets, what, None, &operation);
        }
    }
}

fn lower_root(
    sandbox: &Sandbox,
    namespaces: Namespaces,
    program: Ids,
    lowering: &mut Lowering,
) -> Result<()> {
    if !namespaces.contains(Namespaces::PID) && namespaces.contains(Namespaces::USER) {
        // The kernel mounts a procfs of the host's PID namespace for the host's root only.
        lowering.show_proc_of_host();
    }
    let user = if namespaces.contains(Namespaces::USER) { UserNs::Own } else { UserNs::Host };
    match &sandbox.rootfs {
        Some(rootfs) => rootfs.lower(lowering, &sandbox.mounts, user, program),
        None => {
            if sandbox.mounts.iter().any(Mount::is_file) {
                lowering.setup(Step::Root, "mounting the scratch tmpfs", None, &Setup::Scratch {});
            }
            lowering.setup(Step::Root, "keeping the host's root", None, &Setup::RootHere {});
            sandbox.mounts.iter().try_for_each(|mount| mount.lower(lowering, RootKind::Foreign))
        }
    }
}

/// The persistent upper, with the limits that this host can keep.
fn upper_dir(sandbox: &Sandbox, in_user_ns: bool, caller: &Caller) -> Result<Option<UpperDir>> {
    let Some(dir) = sandbox.rootfs.as_ref().and_then(Rootfs::upper_dir) else { return Ok(None) };
    let dir = dir.real()?;
    if let Some(limits) = dir.quota {
        // In the initial one the owner of a file may change its project id (`fileattr_set_prepare` of the kernel).
        if !in_user_ns {
            return Err(Error::invalid(
                "a program outside of a user namespace can leave the quota of its upper",
            )
            .with_path(&dir.upper)
            .with_hint("add user_ns(), or use Upper::tmpfs"));
        }
        quota::check(&dir, limits, caller)?;
    }
    Ok(Some(dir))
}

/// What this process could raise a limit to.
fn hard_rlimit(resource: Resource) -> Result<u64> {
    sys::hard_rlimit(resource.number())
        .map_err(|error| Error::os(Step::Rlimit, format!("reading the limit of {}", resource.name()), error))
}

/// Whatever can be had of scheduling; the steps that the host must do.
fn lower_scheduling(
    sandbox: &Sandbox,
    asked: &Scheduling,
    lowering: &mut Lowering,
    enforced: &mut Enforced,
) -> Result<Vec<HostStep>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let lowered = scheduling::lower(asked, &Power::now()?, lowering)?;
    if lowered.refused.is_empty() {
        enforced.add(Feature::Scheduling);
    }
    for error in lowered.refused {
        if !sandbox.best_effort.contains(&Feature::Scheduling) {
            return Err(error);
        }
        enforced.skip(Feature::Scheduling, error.to_string());
    }
    Ok(lowered.steps)
}

/// Limits that the program's process sets, and steps for those that only the host may.
fn lower_rlimits(sandbox: &Sandbox, lowering: &mut Lowering, gate: &mut Vec<HostStep>) -> Result<()> {
    let mut rlimits = sandbox.rlimits.clone();
    let is_set =
        |rlimits: &[(Resource, u64, u64)], resource| rlimits.iter().any(|(set, _, _)| *set == resource);
    if sandbox.scheduling.scheduler.is_some() || sandbox.scheduling.nice.is_some() {
        // The host's own limits might let the program take back what it was given.
        for resource in [Resource::Nice, Resource::Rtprio] {
            if !is_set(&rlimits, resource) {
                rlimits.push((resource, 0, 0));
            }
        }
    }
    if !is_set(&rlimits, Resource::Core) {
        // core(5): with a core_pattern that is a pipe, a limit of 0 still runs the handler, on the host; 1 does not.
        let most = hard_rlimit(Resource::Core)?.min(1);
        rlimits.push((Resource::Core, most, most));
    }
    for (resource, soft, hard) in rlimits {
        let own = hard_rlimit(resource)?;
        let name = resource.name();
        if hard > own {
            gate.push(Power::now()?.raise(resource, soft, hard, own)?);
            continue;
        }
        let what = format!("limiting {name} to {soft}, hard {hard}");
        let operation = Confine::Rlimit { resource: resource.number(), soft, hard };
        lowering.confine(section::CONFINE, Step::Rlimit, what, &operation);
    }
    Ok(())
}

fn lower_identity(
    sandbox: &Sandbox,
    caller: &Caller,
    ids: Ids,
    in_user_ns: bool,
    may_set_groups: bool,
    lowering: &mut Lowering,
    enforced: &mut Enforced,
) -> Result<()> {
    let mut flags = verify::NO_NEW_PRIVS;
    let changes_ids = in_user_ns || sandbox.user.is_some();
    if may_set_groups {
        lowering.confine(section::CONFINE, Step::Ids, "dropping supplementary groups", &Confine::Groups {});
        enforced.add(Feature::Groups);
    } else if changes_ids {
        enforced
            .skip(Feature::Groups, "the kernel denies setgroups(2) where only the caller's own id is mapped");
    }
    let Ids { uid, gid } = ids;
    if changes_ids {
        let what = format!("becoming user {uid} and group {gid}");
        lowering.confine(section::CONFINE, Step::Ids, what, &Confine::Ids { uid, gid });
        flags |= verify::IDS;
    }
    let mut keep = 0;
    if let Some(names) = &sandbox.capabilities {
        keep = capability::mask_of(names)?;
        // A caller without any cannot drop the bounding set, and has nothing to drop; no_new_privs does the rest.
        if in_user_ns || caller.capabilities != 0 {
            let kept = capability::names_of(keep);
            let what = match kept.as_slice() {
                [] => "dropping all capabilities".to_owned(),
                kept => format!("dropping all capabilities but {}", kept.join(" ")),
            };
            lowering.confine(section::CONFINE, Step::Capabilities, what, &Confine::Capabilities { keep });
            flags |= verify::CAPABILITIES;
        } else if keep != 0 {
            return Err(Error::invalid("capabilities cannot be kept by a caller that has none")
                .with_hint("add user_ns(): they are then capabilities over the sandbox's own namespaces"));
        }
        enforced.add(Feature::Capabilities);
    }
    lowering.confine(section::CONFINE, Step::NoNewPrivs, "setting no_new_privs", &Confine::NoNewPrivs {});
    enforced.add(Feature::NoNewPrivs);
    let operation = Confine::Verify { uid, gid, keep, flags };
    lowering.confine(section::CONFINE, Step::Verify, "reading ids and privileges back", &operation);
    Ok(())
}

/// The limits that are in force, and where they are kept.
fn available_limits(sandbox: &Sandbox, enforced: &mut Enforced) -> Result<(Limits, Placement, Times)> {
    let mut limits = sandbox.limits.clone();
    let best = |feature: &Feature| sandbox.best_effort.contains(feature);
    for feature in limits.features().filter(best) {
        if let Err(error) = Cgroup::try_out(&limits.only(feature), &sandbox.cgroup_parent) {
            limits.clear(feature);
            enforced.skip(feature, reason(&error));
        }
    }
    limits.features().for_each(|feature| enforced.add(feature));
    let mut times = Times { cpu: sandbox.cpu_time, idle: sandbox.idle_time, sampled: false };
    limits.cpu_accounting = times.cpu.is_some() || times.idle.is_some();
    if limits.cpu_accounting && (best(&Feature::CpuTime) || best(&Feature::IdleTime)) {
        if let Err(error) = Cgroup::try_out(&limits.only(Feature::CpuTime), &sandbox.cgroup_parent) {
            times.go_without(best, enforced, &reason(&error));
            limits.cpu_accounting = times.cpu.is_some() && !times.sampled || times.idle.is_some();
        }
    }
    for (feature, limit) in [(Feature::CpuTime, times.cpu), (Feature::IdleTime, times.idle)] {
        if limit.is_some() && !(feature == Feature::CpuTime && times.sampled) {
            enforced.add(feature);
        }
    }
    let placement = Placement::resolve(&limits, &sandbox.cgroup_parent)?;
    Ok((limits, placement, times))
}

/// Limits of time that are kept by counting CPU time.
struct Times {
    cpu: Option<Duration>,
    idle: Option<Duration>,
    /// CPU time is sampled for want of a cgroup that counts it.
    sampled: bool,
}

impl Times {
    /// Without a cgroup that counts. Samples miss what is short-lived, which is good enough for a limit that was to be kept
    /// as well as can be, and not for saying that nothing was done.
    fn go_without(&mut self, best: impl Fn(&Feature) -> bool, enforced: &mut Enforced, reason: &str) {
        if self.cpu.is_some() && best(&Feature::CpuTime) {
            self.sampled = true;
            enforced.skip(Feature::CpuTime, format!("sampled from the processes' clocks instead: {reason}"));
        }
        if self.idle.is_some() && best(&Feature::IdleTime) {
            self.idle = None;
            enforced.skip(Feature::IdleTime, reason);
        }
    }
}

fn reason(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn note_run_limits(sandbox: &Sandbox, enforced: &mut Enforced) {
    if sandbox.wall_time.is_some() {
        enforced.add(Feature::WallTime);
    }
    if sandbox.output_max.is_some() {
        enforced.add(Feature::Output);
    }
}

/// Compiles the filter. The default one is compiled once per process.
fn compile_filter(sandbox: &Sandbox, options: Options) -> Result<Filter> {
    static DEFAULT: [OnceLock<Filter>; 2] = [OnceLock::new(), OnceLock::new()];
    let Some(filter) = &sandbox.seccomp else {
        return Err(Error::internal(Step::Plan, "no filter to compile"));
    };
    let usual = Options { setuid_guard: options.setuid_guard, ..Options::default() };
    if !filter.is_default() || !options.is_like(usual) {
        return filter.compile(options);
    }
    let cell = &DEFAULT[usize::from(options.setuid_guard)];
    if let Some(program) = cell.get() {
        return Ok(program.clone());
    }
    let program = filter.compile(options)?;
    Ok(cell.get_or_init(|| program).clone())
}

fn environment(sandbox: &Sandbox) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = match sandbox.environment.base {
        Base::Empty => Vec::new(),
        Base::Host => std::env::vars_os().collect(),
    };
    for (key, value) in &sandbox.environment.variables {
        variables.retain(|(set, _)| set != key);
        variables.push((key.clone(), value.clone()));
    }
    variables
}
