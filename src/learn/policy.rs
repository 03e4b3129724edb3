//! From needs back to a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::address;
use super::arguments::{self, Width};
use super::needs::{Need, Needs};
use crate::capability;
use crate::landlock::{Landlock, LandlockAccess};
use crate::sandbox::Sandbox;
use crate::seccomp::{Seccomp, SyscallAction, SyscallArg};

impl Needs {
    /// A sandbox that has this, and nothing else of what `sandbox` allows: its filter, its rules of landlock and its kept
    /// capabilities are narrowed to [`seccomp`](Self::seccomp), [`landlock`](Self::landlock) and the capabilities among the
    /// needs. What `sandbox` denies stays denied, whatever the needs say. Everything else stays.
    ///
    /// The rules of landlock are for ABI 6, Linux 6.12. On an older kernel planning fails unless
    /// [`best_effort`](Sandbox::best_effort) names [`Feature::Landlock`](crate::Feature::Landlock): then what the kernel can deny is
    /// denied.
    pub fn apply(&self, mut sandbox: Sandbox) -> Sandbox {
        let (mut filter, mut rules) = (self.seccomp(), self.landlock());
        if let Some(own) = sandbox.seccomp.take() {
            filter = filter.within(own);
        }
        if let Some(own) = sandbox.landlock.take() {
            rules = rules.within(&own);
        }
        let own = sandbox.capabilities.as_ref().map_or(Ok(u64::MAX), capability::mask_of);
        // A name that is none stays, and is the error of the plan.
        if let Ok(own) = own {
            let needed = self.iter().filter_map(|need| match need {
                Need::Capability(name) => Some(name),
                _ => None,
            });
            let kept = needed.filter(|name| capability::mask_of([*name]).is_ok_and(|mask| own & mask != 0));
            sandbox.capabilities = Some(kept.cloned().collect());
        }
        sandbox.seccomp(filter).landlock(rules)
    }

    /// A filter that allows these system calls with these arguments; every other one fails with `EPERM`. A call whose
    /// arguments were many is allowed with any, those that the filter it was learned under refuses included;
    /// [`apply`](Self::apply) keeps that filter's conditions.
    pub fn seccomp(&self) -> Seccomp {
        self.seccomp_otherwise(SyscallAction::Errno(libc::EPERM))
    }

    /// The same with another answer to every other call, for instance [`SyscallAction::Kill`], after which the verdict names
    /// the call that was missing.
    pub fn seccomp_otherwise(&self, otherwise: SyscallAction) -> Seccomp {
        let mut calls: BTreeMap<&str, BTreeSet<&[(u8, u64)]>> = BTreeMap::new();
        for need in self.iter() {
            if let Need::Syscall { name, args } = need {
                calls.entry(name).or_default().insert(args);
            }
        }
        let whole = |args: &BTreeSet<&[(u8, u64)]>| args.iter().any(|args| args.is_empty());
        let names = calls.iter().filter(|(_, args)| whole(args)).map(|(name, _)| *name);
        let mut filter = Seccomp::allow_only(names).otherwise(otherwise);
        for (name, combinations) in calls.iter().filter(|(_, args)| !whole(args)) {
            for args in combinations {
                let conditions = args.iter().map(|(index, value)| {
                    let argument = SyscallArg::new(*index);
                    let judged = arguments::judged(name).iter().find(|judged| judged.index == *index);
                    match judged.map(|judged| judged.width) {
                        Some(Width::Low32) => argument.low32().eq(*value),
                        _ => argument.eq(*value),
                    }
                });
                filter = filter.allow_if(*name, conditions.collect::<Vec<_>>());
            }
        }
        filter
    }

    /// Rules that allow these rights of files, and TCP to and from these ports; everything else that landlock knows is denied.
    pub fn landlock(&self) -> Landlock {
        let mut files: BTreeMap<&Path, LandlockAccess> = BTreeMap::new();
        let mut ports = BTreeSet::new();
        let mut rules = Landlock::new();
        for need in self.iter() {
            match need {
                Need::File { access, path } => {
                    let Some(access) = LandlockAccess::single(access) else { continue };
                    files.entry(path).and_modify(|all| *all = *all | access).or_insert(access);
                }
                Need::Connect(address) => ports.extend(address::port_of(address).map(|port| (false, port))),
                Need::Bind(address) => ports.extend(address::port_of(address).map(|port| (true, port))),
                Need::Syscall { .. } | Need::Capability(_) => {}
            }
        }
        for (path, access) in files {
            rules = rules.rule(path, access);
        }
        for (bound, port) in ports {
            rules = if bound { rules.bind_tcp(port) } else { rules.connect_tcp(port) };
        }
        rules
    }
}
