//! The document of a [`Sandbox`]: the preset that is nearest, and what differs from it.

use std::collections::HashSet;
use std::ffi::OsString;

use super::node::{Node, Value};
use super::sandbox::{NAMESPACES, PRESETS, counts_bytes, read};
use super::write::{Out, list_of, text};
use super::{landlock, limits, mount, rootfs, seccomp, units};
use crate::cgroup::CgroupParent;
use crate::error::{Error, Result};
use crate::namespace::{Namespaces, TimeOffsets};
use crate::sandbox::{Base, Environment, Sandbox};
use crate::scheduling::{IoPriority, Scheduler, Scheduling};

/// Writes the keys by which a policy differs from a preset.
pub(super) fn write(sandbox: &Sandbox) -> Result<Node> {
    // A field that is not written would be lost: each must have its name here.
    let Sandbox {
        namespaces: _,
        joins,
        #[cfg(feature = "net")]
        wire,
        user_map: _,
        user: _,
        rootfs: _,
        mounts: _,
        hostname: _,
        domain_name: _,
        time_offsets: _,
        limits: _,
        cgroup_parent: _,
        wall_time: _,
        cpu_time: _,
        idle_time: _,
        extra_time: _,
        output_max: _,
        rlimits: _,
        scheduling: Scheduling { scheduler: _, nice: _, io: _, processors: _ },
        fixed_addresses: _,
        capabilities: _,
        apparmor: _,
        selinux: _,
        landlock: _,
        seccomp: _,
        cross_tenant: _,
        environment: Environment { base: _, variables: _ },
        best_effort: _,
    } = sandbox;
    if !joins.namespaces().is_empty() {
        return Err(Error::invalid(
            "a policy that joins a sandbox is no data: that sandbox is a running process",
        )
        .with_hint("write the policy without join(), and join when it has been read"));
    }
    #[cfg(feature = "net")]
    if wire.is_some() {
        return Err(Error::invalid(
            "a policy with a network of its own to the outside is no data: it is a handle of this process",
        )
        .with_hint("write the policy without network(), and call it when it has been read"));
    }
    let preset = preset_of(sandbox);
    let closed = preset != "bare";
    let mut base =
        PRESETS.iter().find(|(name, _)| *name == preset).map_or_else(Sandbox::new, |(_, make)| make());
    if sandbox.fixed_addresses {
        base = base.deterministic();
    }
    let mut out = Out::default();
    out.put("preset", preset);
    write_view(&mut out, sandbox, &base)?;
    write_resources(&mut out, sandbox)?;
    write_protection(&mut out, sandbox, closed)?;
    out.flag("inherit_env", matches!(sandbox.environment.base, Base::Host));
    let (variables, implied) = (merged(&sandbox.environment.variables), merged(&base.environment.variables));
    let mut env = Out::default();
    for (key, value) in variables.strip_prefix(implied.as_slice()).unwrap_or(&variables) {
        let key = key.to_str().ok_or_else(|| unsayable("the name of an environment variable", key))?;
        env.put(key, text(&format!("env.{key}"), value)?);
    }
    if !env.is_empty() {
        out.put("env", env);
    }
    out.some("best_effort", sandbox.best_effort.iter().map(|feature| feature.name().into()).collect());
    let mut table = Value::from(out);
    // What the keys imply is not said again.
    let implied = read(table.clone().into())?.namespaces;
    let difference = |more: Namespaces, less: Namespaces| {
        let names = NAMESPACES.iter().filter(|(_, flag, ..)| (more - less).contains(*flag));
        list_of(names.map(|(name, ..)| (*name).into()))
    };
    let said = [
        ("share", difference(implied, sandbox.namespaces)),
        ("unshare", difference(sandbox.namespaces, implied)),
    ];
    if let Value::Table(entries) = &mut table {
        for (key, names) in said.into_iter().filter(|(_, names)| *names != list_of([])) {
            entries.insert(1, (key.to_owned(), names.into()));
        }
    }
    Ok(table.into())
}

/// The preset that has most of it.
fn preset_of(sandbox: &Sandbox) -> &'static str {
    // What `new` has cannot be taken away by any key.
    let closed = sandbox.rootfs.is_some()
        && sandbox.capabilities.is_some()
        && (sandbox.hostname.is_some() || !sandbox.namespaces.contains(Namespaces::UTS));
    match sandbox.seccomp.as_ref().and_then(|filter| filter.unchanged_profile()) {
        _ if !closed => "bare",
        Some("judge") => "judge",
        Some("plugin") => "plugin",
        _ => "new",
    }
}

fn unsayable(what: &str, text: &std::ffi::OsStr) -> Error {
    Error::invalid(format!("{what} is not UTF-8: {text:?}"))
        .with_hint("TOML and JSON have no other text: rename it, or say this in the program")
}

/// Of variables that are set twice, the last, where it stands.
fn merged(variables: &[(OsString, OsString)]) -> Vec<&(OsString, OsString)> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = variables.iter().rev().filter(|(key, _)| seen.insert(key)).collect();
    last.reverse();
    last
}

fn write_view(out: &mut Out, sandbox: &Sandbox, base: &Sandbox) -> Result<()> {
    let own_ids = sandbox.namespaces.contains(Namespaces::USER);
    if own_ids {
        // Without a user namespace there is nothing to map.
        out.maybe("user_map", rootfs::write_map(&sandbox.user_map));
    }
    match sandbox.user {
        Some(ids) if own_ids && ids.uid == 0 && ids.gid == 0 => out.put("root", true),
        Some(ids) => {
            let mut user = Out::default();
            user.put("uid", i128::from(ids.uid));
            user.put("gid", i128::from(ids.gid));
            out.put("user", user);
        }
        None => {}
    }
    if let Some(root) = &sandbox.rootfs {
        if base.rootfs.is_none() || !root.is_system() {
            out.put("rootfs", rootfs::write(root)?);
        }
    }
    if sandbox.hostname != base.hostname {
        match &sandbox.hostname {
            Some(name) => out.put("hostname", text("hostname", name)?),
            None if sandbox.namespaces.contains(Namespaces::UTS) => {
                return Err(Error::invalid(
                    "a policy cannot say that the host name of deterministic() was taken back",
                )
                .with_hint("name the host with hostname(…), or share it with share_uts()"));
            }
            None => {}
        }
    }
    if let Some(name) = &sandbox.domain_name {
        out.put("domain_name", text("domain_name", name)?);
    }
    let TimeOffsets { monotonic, boottime, start: _ } = sandbox.time_offsets;
    if sandbox.time_offsets != base.time_offsets && sandbox.namespaces.contains(Namespaces::TIME) {
        out.maybe("monotonic_offset", (monotonic != 0 || boottime == 0).then(|| i128::from(monotonic)));
        out.maybe("boottime_offset", (boottime != 0).then(|| i128::from(boottime)));
    }
    out.flag("deterministic", sandbox.fixed_addresses);
    let mounts = sandbox.mounts.iter().map(mount::write).collect::<Result<Vec<_>>>()?;
    out.some("mount", mounts);
    Ok(())
}

fn write_resources(out: &mut Out, sandbox: &Sandbox) -> Result<()> {
    out.maybe("wall_time", sandbox.wall_time.map(units::of_duration));
    out.maybe("cpu_time", sandbox.cpu_time.map(units::of_duration));
    out.maybe("idle_time", sandbox.idle_time.map(units::of_duration));
    let extra = Some(sandbox.extra_time).filter(|extra| !extra.is_zero());
    out.maybe("extra_time", extra.map(units::of_duration));
    out.maybe("output_max", sandbox.output_max.map(units::of_size));
    let limits = limits::write(&sandbox.limits)?;
    if !limits.is_empty() {
        out.put("limits", limits);
    }
    match &sandbox.cgroup_parent {
        CgroupParent::Auto => {}
        CgroupParent::Path(path) => {
            let mut parent = Out::default();
            parent.put("path", text("cgroup_parent.path", path)?);
            out.put("cgroup_parent", parent);
        }
        #[cfg(feature = "systemd")]
        CgroupParent::SystemdScope => out.put("cgroup_parent", "systemd_scope"),
    }
    let mut rlimits = Out::default();
    for (resource, soft, hard) in &sandbox.rlimits {
        let limit = |limit: u64| match counts_bytes(*resource) {
            true => units::of_size(limit.into()),
            false => units::of_count(limit),
        };
        if soft == hard {
            rlimits.put(resource.name(), limit(*soft));
        } else {
            let mut both = Out::default();
            both.put("soft", limit(*soft));
            both.put("hard", limit(*hard));
            rlimits.put(resource.name(), both);
        }
    }
    if !rlimits.is_empty() {
        out.put("rlimit", rlimits);
    }
    let number = |key: &str, number: u32| {
        let mut out = Out::default();
        out.put(key, i128::from(number));
        Value::from(out)
    };
    out.maybe(
        "scheduler",
        sandbox.scheduling.scheduler.map(|scheduler| match scheduler {
            Scheduler::Other => "other".into(),
            Scheduler::Batch => "batch".into(),
            Scheduler::Idle => "idle".into(),
            Scheduler::Fifo(priority) => number("fifo", priority),
            Scheduler::RoundRobin(priority) => number("round_robin", priority),
        }),
    );
    out.maybe("nice", sandbox.scheduling.nice.map(i128::from));
    out.maybe(
        "io_priority",
        sandbox.scheduling.io.map(|priority| match priority {
            IoPriority::Idle => "idle".into(),
            IoPriority::RealTime(level) => number("real_time", level),
            IoPriority::BestEffort(level) => number("best_effort", level),
        }),
    );
    if let Some(set) = &sandbox.scheduling.processors {
        out.put("cpu_affinity", limits::write_set("cpu_affinity", set)?);
    }
    Ok(())
}

fn write_protection(out: &mut Out, sandbox: &Sandbox, closed: bool) -> Result<()> {
    if let Some(kept) = &sandbox.capabilities {
        out.flag("drop_capabilities", kept.is_empty() && !closed);
        out.some("keep_capability", kept.iter().map(|name| name.as_str().into()).collect());
    }
    match &sandbox.seccomp {
        None => out.flag("allow_all_syscalls", closed),
        // The preset has it.
        Some(filter) if closed && matches!(filter.unchanged_profile(), Some("new" | "judge" | "plugin")) => {}
        Some(filter) => out.put("seccomp", seccomp::write(filter)?),
    }
    if let Some(rules) = &sandbox.landlock {
        out.put("landlock", landlock::write(rules)?);
    }
    out.maybe("apparmor", sandbox.apparmor.as_deref());
    out.maybe("selinux", sandbox.selinux.as_deref());
    out.flag("cross_tenant", sandbox.cross_tenant);
    Ok(())
}
