//! What keeps sandboxes from talking to each other, beyond what keeps them from the host: checked when a policy is planned.

use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::{Enforced, Feature};
use crate::limits::Resource;
use crate::lowering::Lowering;
use crate::mount::Mount;
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;
use crate::sys;
use crate::wire::{Confine, section};

/// The namespaces in which tenants would meet.
pub(crate) const SEPARATED: Namespaces = Namespaces::USER
    .union(Namespaces::PID)
    .union(Namespaces::MOUNT)
    .union(Namespaces::NET)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::CGROUP)
    .union(Namespaces::TIME);

/// Refuses what would open a channel after all.
pub(crate) fn validate(sandbox: &Sandbox) -> Result<()> {
    let open = |what: &str, hint: &str| {
        Err(Error::invalid(format!("{what} is a way from one tenant to another"))
            .with_hint(format!("{hint}, or leave cross_tenant() out")))
    };
    let shared = SEPARATED - sandbox.namespaces;
    if let Some((_, feature, _)) = Namespaces::table().into_iter().find(|(one, ..)| shared.contains(*one)) {
        let name = feature.name().trim_end_matches("_ns").to_owned();
        return open(&format!("a shared {name} namespace"), &format!("do without share_{name}()"));
    }
    if sandbox.rootfs.is_none() {
        return open("the host's own root", "give it a root by rootfs()");
    }
    if sandbox.seccomp.is_none() {
        return open("a program without a filter", "do without allow_all_syscalls()");
    }
    if sandbox.mounts.iter().any(Mount::is_full_proc) {
        return open("the whole of /proc, which tells of the machine,", "use Mount::proc() without full()");
    }
    // core(5): the program of core_pattern runs on the host, for everybody's dumps, unless the limit is 1.
    if sandbox.rlimits.iter().any(|(resource, _, hard)| *resource == Resource::Core && *hard > 1) {
        return open("a core dump", "do without a limit of Resource::Core");
    }
    Ok(())
}

/// The error of a host that cannot make a namespace: nothing stands in for those of tenants, whatever is best effort.
pub(crate) fn not_apart(feature: Feature, error: std::io::Error) -> Error {
    Error::os(Step::Clone, format!("keeping tenants apart by {feature}"), error)
        .with_kind(ErrorKind::Unsupported)
        .with_hint("run on a host with namespaces, which Host::probe describes, or leave cross_tenant() out")
}

/// What a program does to itself: a session keyring of its own, and a cookie for the scheduler where processors share a core.
pub(crate) fn lower(sandbox: &Sandbox, lowering: &mut Lowering, enforced: &mut Enforced) -> Result<()> {
    own_keyring(lowering);
    match cores() {
        Cores::OneThreadEach => enforced.skip(Feature::CoreScheduling, ONE_THREAD_EACH),
        Cores::Shared => {
            let what = "giving the program a core scheduling cookie of its own";
            lowering.confine(section::CONFINE, Step::CoreScheduling, what, &Confine::CoreCookie {});
            enforced.add(Feature::CoreScheduling);
        }
        Cores::SharedByAll(error) if sandbox.best_effort.contains(&Feature::CoreScheduling) => {
            enforced.skip(Feature::CoreScheduling, format!("{SHARED_CORES}: {error}"));
        }
        Cores::SharedByAll(error) => return Err(shared_cores(error)),
    }
    Ok(())
}

/// Of two programs of one host, each would have the session keyring that the host has.
pub(crate) fn own_keyring(lowering: &mut Lowering) {
    let what = "joining a session keyring of its own";
    lowering.confine(section::CONFINE, Step::Keyring, what, &Confine::Keyring {});
}

pub(crate) const ONE_THREAD_EACH: &str = "each core has one thread here, which nobody shares";
const SHARED_CORES: &str = "the kernel cannot keep tenants off each other's cores";

/// The error of a host whose kernel cannot tell tenants apart.
pub(crate) fn shared_cores(error: std::io::Error) -> Error {
    Error::os(Step::CoreScheduling, SHARED_CORES, error).with_kind(ErrorKind::Unsupported).with_hint(
        "boot a kernel with CONFIG_SCHED_CORE (5.14), or with `nosmt`; or take it as it is by \
         best_effort(Feature::CoreScheduling)",
    )
}

/// Who runs beside whom on the threads of a core.
pub(crate) enum Cores {
    OneThreadEach,
    /// A cookie decides it.
    Shared,
    /// The kernel does not look.
    SharedByAll(std::io::Error),
}

pub(crate) fn cores() -> Cores {
    match sys::core_cookie() {
        Ok(_) => Cores::Shared,
        // prctl(2): no processor here has siblings.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Cores::OneThreadEach,
        Err(error) => match std::fs::read_to_string("/sys/devices/system/cpu/smt/active") {
            Ok(active) if active.trim() == "0" => Cores::OneThreadEach,
            _ => Cores::SharedByAll(error),
        },
    }
}
