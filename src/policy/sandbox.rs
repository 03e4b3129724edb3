//! The document itself, which stands for [`Sandbox`].

use std::time::Duration;

use super::node::{Node, Value};
use super::read::{Item, Maker, Setter, Table};
use super::{landlock, limits, mount, rootfs, seccomp};
use crate::cgroup::CgroupParent;
use crate::error::Result;
use crate::feature::Feature;
use crate::limits::Resource;
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;
use crate::scheduling::{IoPriority, Scheduler};

pub(super) const KEYS: [&str; 36] = [
    "preset",
    "unshare",
    "share",
    "user_map",
    "user",
    "root",
    "rootfs",
    "mount",
    "hostname",
    "domain_name",
    "monotonic_offset",
    "boottime_offset",
    "deterministic",
    "limits",
    "cgroup_parent",
    "wall_time",
    "cpu_time",
    "idle_time",
    "extra_time",
    "output_max",
    "rlimit",
    "scheduler",
    "nice",
    "io_priority",
    "cpu_affinity",
    "drop_capabilities",
    "keep_capability",
    "seccomp",
    "allow_all_syscalls",
    "landlock",
    "apparmor",
    "selinux",
    "cross_tenant",
    "env",
    "inherit_env",
    "best_effort",
];
pub(super) const USER_KEYS: [&str; 2] = ["uid", "gid"];
pub(super) const PARENT_KEYS: [&str; 1] = ["path"];
pub(super) const RLIMIT_KEYS: [&str; 2] = ["soft", "hard"];
pub(super) const SCHEDULER_KEYS: [&str; 2] = ["fifo", "round_robin"];
pub(super) const IO_PRIORITY_KEYS: [&str; 2] = ["real_time", "best_effort"];

pub(super) type Share = fn(Sandbox) -> Sandbox;

pub(super) const PRESETS: [Maker<Sandbox>; 4] =
    [("new", Sandbox::new), ("bare", Sandbox::bare), ("judge", Sandbox::judge), ("plugin", Sandbox::plugin)];

/// What can be unshared, and how it is shared again; a mount namespace cannot.
pub(super) const NAMESPACES: [(&str, Namespaces, Share, Option<Share>); 8] = [
    ("user", Namespaces::USER, Sandbox::user_ns, Some(Sandbox::share_user)),
    ("pid", Namespaces::PID, Sandbox::pid_ns, Some(Sandbox::share_pid)),
    ("mount", Namespaces::MOUNT, Sandbox::mount_ns, None),
    ("net", Namespaces::NET, Sandbox::net_ns, Some(Sandbox::share_net)),
    ("ipc", Namespaces::IPC, Sandbox::ipc_ns, Some(Sandbox::share_ipc)),
    ("uts", Namespaces::UTS, Sandbox::uts_ns, Some(Sandbox::share_uts)),
    ("cgroup", Namespaces::CGROUP, Sandbox::cgroup_ns, Some(Sandbox::share_cgroup)),
    ("time", Namespaces::TIME, Sandbox::time_ns, Some(Sandbox::share_time)),
];

pub(super) fn read(node: Node) -> Result<Sandbox> {
    let mut table = Item::document(node).table(&KEYS)?;
    let preset = match table.take("preset") {
        Some(item) => item.one_of(&PRESETS)?,
        None => Sandbox::new,
    };
    let namespaces = Wanted::take(&mut table)?;
    // First, because what else is said overrides what it does.
    let mut sandbox = table.call(preset(), &[("deterministic", Sandbox::deterministic)])?;
    sandbox = identity(sandbox, &mut table)?;
    sandbox = view(sandbox, &mut table)?;
    sandbox = resources(sandbox, &mut table)?;
    sandbox = scheduling(sandbox, &mut table)?;
    sandbox = protection(sandbox, &mut table)?;
    sandbox = environment(sandbox, &mut table)?;
    sandbox = table.each(sandbox, feature, ("best_effort", Sandbox::best_effort))?;
    table.finish("a policy")?;
    Ok(namespaces.apply(sandbox))
}

fn feature(item: Item) -> Result<Feature> {
    let feature = match item.value() {
        Value::Text(name) => Feature::from_name(name),
        _ => None,
    };
    let hint = "the names are those of Feature::name: memory_max, net_ns, …";
    feature.ok_or_else(|| item.wrong("names no feature", hint))
}

/// The namespaces that are named.
struct Wanted {
    unshare: Vec<Share>,
    share: Vec<Share>,
}

impl Wanted {
    fn take(table: &mut Table) -> Result<Self> {
        let mut named = Namespaces::empty();
        let mut wanted = Self { unshare: Vec::new(), share: Vec::new() };
        for (key, calls) in [("unshare", &mut wanted.unshare), ("share", &mut wanted.share)] {
            let Some(item) = table.take(key) else { continue };
            let can: Vec<(&str, (Namespaces, &str, Share))> = NAMESPACES
                .iter()
                .filter_map(|(name, flag, unshare, share)| {
                    let call = if key == "share" { (*share)? } else { *unshare };
                    Some((*name, (*flag, *name, call)))
                })
                .collect();
            for item in item.some()? {
                let (flag, name, call) = item.one_of(&can)?;
                if named.contains(flag) {
                    return Err(item.wrong(
                        "names a namespace for the second time",
                        "name it once, in share or in unshare",
                    ));
                }
                named |= flag;
                calls.push(call);
                if key == "share" {
                    agrees(table, flag, name)?;
                }
            }
        }
        Ok(wanted)
    }

    fn apply(self, sandbox: Sandbox) -> Sandbox {
        self.unshare.into_iter().chain(self.share).fold(sandbox, |sandbox, call| call(sandbox))
    }
}

/// Refuses keys that say something of a namespace that is shared: the call would take it back without a word.
fn agrees(table: &Table, shared: Namespaces, name: &str) -> Result<()> {
    let needs = [
        (Namespaces::USER, "user_map"),
        (Namespaces::USER, "root"),
        (Namespaces::UTS, "hostname"),
        (Namespaces::UTS, "domain_name"),
        (Namespaces::TIME, "monotonic_offset"),
        (Namespaces::TIME, "boottime_offset"),
    ];
    match needs.into_iter().find(|(namespace, key)| *namespace == shared && table.has(key)) {
        Some((_, key)) => Err(table.contradiction(&format!("share = [{name:?}]"), key)),
        None => Ok(()),
    }
}

fn identity(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    if table.has("user") && table.has("root") {
        return Err(table.contradiction("user", "root"));
    }
    let mut sandbox = table.set(sandbox, rootfs::read_map, &[("user_map", Sandbox::user_map)])?;
    sandbox = table.call(sandbox, &[("root", Sandbox::root)])?;
    table.set(sandbox, user, &[("user", |sandbox, (uid, gid)| sandbox.user(uid, gid))])
}

fn user(item: Item) -> Result<(u32, u32)> {
    let mut table = item.table(&USER_KEYS)?;
    Ok((table.need("uid")?.number()?, table.need("gid")?.number()?))
}

fn view(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    let names: [Setter<Sandbox, String>; 2] =
        [("hostname", Sandbox::hostname), ("domain_name", Sandbox::domain_name)];
    let offsets: [Setter<Sandbox, i64>; 2] =
        [("monotonic_offset", Sandbox::monotonic_offset), ("boottime_offset", Sandbox::boottime_offset)];
    let mut sandbox = table.set(sandbox, rootfs::read, &[("rootfs", Sandbox::rootfs)])?;
    sandbox = table.each(sandbox, mount::read, ("mount", Sandbox::mount))?;
    sandbox = table.set(sandbox, Item::text, &names)?;
    table.set(sandbox, |item| item.number(), &offsets)
}

fn resources(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    let times: [Setter<Sandbox, Duration>; 4] = [
        ("wall_time", Sandbox::wall_time),
        ("cpu_time", Sandbox::cpu_time),
        ("idle_time", Sandbox::idle_time),
        ("extra_time", Sandbox::extra_time),
    ];
    let mut sandbox = table.set(sandbox, limits::read, &[("limits", Sandbox::limits)])?;
    sandbox = table.set(sandbox, parent, &[("cgroup_parent", Sandbox::cgroup_parent)])?;
    sandbox = table.set(sandbox, |item| item.duration(), &times)?;
    sandbox = table.set(sandbox, |item| item.size(), &[("output_max", Sandbox::output_max)])?;
    let Some(item) = table.take("rlimit") else { return Ok(sandbox) };
    for (name, item) in item.entries()? {
        let known = Resource::ALL.into_iter().find(|resource| resource.name() == name);
        let resource = known.ok_or_else(|| {
            item.wrong(
                "is no resource of setrlimit(2)",
                "the names are those of prlimit(1): nofile, stack, …",
            )
        })?;
        let limit = |item: Item| match counts_bytes(resource) {
            true => item.size().map(|size| size.get()),
            false => item.count(),
        };
        let (soft, hard) = match item.value() {
            Value::Table(_) => {
                let mut both = item.table(&RLIMIT_KEYS)?;
                (limit(both.need("soft")?)?, limit(both.need("hard")?)?)
            }
            _ => limit(item).map(|limit| (limit, limit))?,
        };
        sandbox = sandbox.rlimit(resource, soft, hard);
    }
    Ok(sandbox)
}

pub(super) fn counts_bytes(resource: Resource) -> bool {
    use Resource::{As, Core, Data, Fsize, Memlock, Msgqueue, Rss, Stack};
    matches!(resource, As | Core | Data | Fsize | Memlock | Msgqueue | Rss | Stack)
}

fn parent(item: Item) -> Result<CgroupParent> {
    match item.value() {
        Value::Table(_) => Ok(CgroupParent::Path(item.table(&PARENT_KEYS)?.need("path")?.path()?)),
        #[cfg(feature = "systemd")]
        Value::Text(word) if word == "systemd_scope" => Ok(CgroupParent::SystemdScope),
        #[cfg(not(feature = "systemd"))]
        Value::Text(word) if word == "systemd_scope" => Err(item
            .wrong(
                "is systemd_scope, which this program was built without",
                "build it with the feature systemd",
            )
            .with_kind(crate::error::ErrorKind::Unsupported)),
        _ => item.one_of(&[("auto", ()), ("systemd_scope", ())]).map(|()| CgroupParent::Auto),
    }
}

fn scheduling(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    let mut sandbox = table.set(sandbox, scheduler, &[("scheduler", Sandbox::scheduler)])?;
    sandbox = table.set(sandbox, |item| item.number(), &[("nice", Sandbox::nice)])?;
    sandbox = table.set(sandbox, io_priority, &[("io_priority", Sandbox::io_priority)])?;
    table.set(sandbox, limits::read_set, &[("cpu_affinity", Sandbox::cpu_affinity)])
}

fn scheduler(item: Item) -> Result<Scheduler> {
    match item.value() {
        Value::Table(_) => match item.table(&SCHEDULER_KEYS)?.one(&SCHEDULER_KEYS)? {
            ("fifo", priority) => priority.number().map(Scheduler::Fifo),
            (_, priority) => priority.number().map(Scheduler::RoundRobin),
        },
        _ => item.one_of(&[
            ("other", Scheduler::Other),
            ("batch", Scheduler::Batch),
            ("idle", Scheduler::Idle),
        ]),
    }
}

fn io_priority(item: Item) -> Result<IoPriority> {
    match item.value() {
        Value::Table(_) => match item.table(&IO_PRIORITY_KEYS)?.one(&IO_PRIORITY_KEYS)? {
            ("real_time", level) => level.number().map(IoPriority::RealTime),
            (_, level) => level.number().map(IoPriority::BestEffort),
        },
        _ => item.one_of(&[("idle", IoPriority::Idle)]),
    }
}

fn protection(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    if table.has("seccomp") && table.has("allow_all_syscalls") {
        return Err(table.contradiction("seccomp", "allow_all_syscalls"));
    }
    let labels: [Setter<Sandbox, String>; 2] =
        [("apparmor", Sandbox::apparmor), ("selinux", Sandbox::selinux)];
    let mut sandbox = table.call(
        sandbox,
        &[
            ("drop_capabilities", Sandbox::drop_capabilities),
            ("cross_tenant", Sandbox::cross_tenant),
            ("allow_all_syscalls", Sandbox::allow_all_syscalls),
        ],
    )?;
    sandbox = table.each(sandbox, Item::text, ("keep_capability", Sandbox::keep_capability))?;
    sandbox = table.set(sandbox, seccomp::read, &[("seccomp", Sandbox::seccomp)])?;
    sandbox = table.set(sandbox, landlock::read, &[("landlock", Sandbox::landlock)])?;
    table.set(sandbox, Item::text, &labels)
}

fn environment(sandbox: Sandbox, table: &mut Table) -> Result<Sandbox> {
    let mut sandbox = table.call(sandbox, &[("inherit_env", Sandbox::inherit_env)])?;
    let Some(item) = table.take("env") else { return Ok(sandbox) };
    for (key, item) in item.entries()? {
        sandbox = sandbox.env(key, item.text()?);
    }
    Ok(sandbox)
}
