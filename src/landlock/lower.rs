//! From rules to operations, for what the kernel has.

use std::io;

use ::landlock::{ABI, Access, AccessFs, AccessNet, Scope};

use super::{Denial, Landlock, PathRule, PortCall, guard};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::{Enforced, Feature};
use crate::lowering::{Lowering, inside};
use crate::wire::{Confine, Setup, section};

/// The newest ABI that a policy can be for.
pub(crate) const NEWEST_ABI: u32 = 9;
const TCP_ABI: u32 = 4;
const SCOPES_ABI: u32 = 6;

/// What came with an ABI, and with which Linux.
const CAME_WITH: [(u32, &str, &str); 6] = [
    (2, "refer", "5.19"),
    (3, "truncate", "6.2"),
    (TCP_ABI, "TCP", "6.7"),
    (5, "ioctl_dev", "6.10"),
    (SCOPES_ABI, "scopes", "6.12"),
    (9, "resolve_unix", "7.1"),
];

/// What a policy denies, as the kernel wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handled {
    pub(super) files: u64,
    pub(super) ports: u64,
    pub(super) scopes: u64,
}

/// What is in force of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Files are denied.
    pub(crate) files: bool,
    /// TCP is restricted: what its rules do not see a filter is to refuse, that of the policy or, without one, [`refuse_detours`].
    pub(crate) ports: bool,
}

/// The sets of rights of an ABI, by the crate of the kernel's maintainer.
fn abi(number: u32) -> ABI {
    ABI::from(i32::try_from(number.min(NEWEST_ABI)).unwrap_or(0))
}

/// What of all that a policy can deny a kernel of this ABI cannot.
pub(crate) fn missing_in(kernel: u32) -> Vec<&'static str> {
    CAME_WITH.into_iter().filter(|(since, ..)| *since > kernel).map(|(_, what, _)| what).collect()
}

impl Landlock {
    fn validate(&self) -> Result<()> {
        if !(1..=NEWEST_ABI).contains(&self.abi) {
            return Err(Error::invalid(format!("{} is no ABI of landlock that rules can be for", self.abi))
                .with_hint(format!("give one from 1 to {NEWEST_ABI}")));
        }
        let named = [
            (self.tcp, TCP_ABI, "TCP"),
            (self.abstract_sockets, SCOPES_ABI, "abstract sockets"),
            (self.signals, SCOPES_ABI, "signals"),
        ];
        for (denial, since, what) in named {
            if denial == Denial::Asked && since > self.abi {
                return Err(Error::invalid(format!("{what} cannot be denied by rules for ABI {}", self.abi))
                    .with_hint(format!("give abi({since}) or leave the restriction out")));
            }
        }
        let handled = self.handled();
        if handled.files == 0 && handled.ports == 0 && handled.scopes == 0 {
            return Err(Error::invalid("the landlock rules deny nothing")
                .with_hint("begin with Landlock::new(), or name what is to be denied"));
        }
        for PathRule { path, access, .. } in &self.paths {
            inside(path)?;
            if access.bits() & handled.files == 0 {
                let message =
                    format!("{access} on {} is unknown to rules for ABI {}", path.display(), self.abi);
                return Err(Error::invalid(message)
                    .with_path(path)
                    .with_hint("give the abi() that LandlockAccess tells for it, or leave the rule out"));
            }
        }
        Ok(())
    }

    /// What the policy denies on a kernel that has its ABI.
    pub(super) fn handled(&self) -> Handled {
        self.handled_by(self.abi)
    }

    /// What of it a kernel of some ABI denies.
    fn handled_by(&self, kernel: u32) -> Handled {
        let abi = abi(kernel.min(self.abi));
        let is = |denial: Denial| denial != Denial::No;
        let scopes = [(self.abstract_sockets, Scope::AbstractUnixSocket), (self.signals, Scope::Signal)];
        let scopes: u64 =
            scopes.into_iter().filter(|(denial, _)| is(*denial)).map(|(_, scope)| scope as u64).sum();
        // Newer rights of ports are of UDP, for which there is no vocabulary.
        let tcp = AccessNet::BindTcp | AccessNet::ConnectTcp;
        Handled {
            files: if self.files { AccessFs::from_all(abi).bits() } else { 0 },
            ports: if is(self.tcp) { (AccessNet::from_all(abi) & tcp).bits() } else { 0 },
            scopes: scopes & Scope::from_all(abi).bits(),
        }
    }

    /// What the policy denies and a kernel of this ABI does not: names, and the Linux for all of them.
    fn lacking(&self, kernel: u32) -> Option<(String, &'static str)> {
        let (wanted, had) = (self.handled(), self.handled_by(kernel));
        let lacks = |since: u32| match since {
            TCP_ABI => wanted.ports != had.ports,
            SCOPES_ABI => wanted.scopes != had.scopes,
            since => {
                let new = AccessFs::from_all(abi(since)) & !AccessFs::from_all(abi(since - 1));
                (wanted.files & !had.files) & new.bits() != 0
            }
        };
        let lacking: Vec<_> = CAME_WITH.into_iter().filter(|(since, ..)| lacks(*since)).collect();
        let (_, _, linux) = lacking.last()?;
        let names = lacking.iter().map(|(since, what, _)| format!("{what} (ABI {since})"));
        Some((names.collect::<Vec<_>>().join(", "), linux))
    }
}

/// Lowers the rules: the ruleset at the end of the setup, where all mounts are there, and the confinement of each program.
/// `kernel` is the ABI that it offers.
pub(crate) fn lower(
    policy: &Landlock,
    kernel: io::Result<u32>,
    best_effort: bool,
    lowering: &mut Lowering,
    enforced: &mut Enforced,
) -> Result<InForce> {
    policy.validate()?;
    let kernel = match kernel {
        Ok(abi) => abi,
        Err(error) => {
            let error = absent(error);
            if !best_effort {
                return Err(error);
            }
            let why = std::error::Error::source(&error).map(|source| format!(": {source}"));
            enforced.skip(Feature::Landlock, format!("{error}{}", why.unwrap_or_default()));
            return Ok(InForce::default());
        }
    };
    match policy.lacking(kernel) {
        None => enforced.add(Feature::Landlock),
        Some((names, linux)) => {
            let message = format!("landlock of this kernel (ABI {kernel}) cannot deny {names}");
            if !best_effort {
                return Err(Error::message(ErrorKind::Unsupported, Step::Landlock, message).with_hint(format!(
                    "boot Linux {linux} or later; or make it rules that do without, by Landlock::abi({kernel}); or take \
                     what there is, by best_effort(Feature::Landlock)"
                )));
            }
            enforced.skip(Feature::Landlock, message);
        }
    }
    let handled = policy.handled_by(kernel);
    if handled == (Handled { files: 0, ports: 0, scopes: 0 }) {
        return Ok(InForce::default());
    }
    lower_rules(policy, handled, kernel, lowering)?;
    Ok(InForce { files: handled.files != 0, ports: handled.ports != 0 })
}

/// Refuses ways to TCP that landlock does not see, where there is no other filter that could.
pub(crate) fn refuse_detours(lowering: &mut Lowering) {
    let what = "refusing ways to TCP that landlock does not see";
    let program = guard::program();
    lowering.confine(section::SEAL, Step::Seccomp, what, &Confine::Seccomp { program: &program, token: 0 });
}

fn lower_rules(policy: &Landlock, handled: Handled, kernel: u32, lowering: &mut Lowering) -> Result<()> {
    let Handled { files, ports, scopes } = handled;
    let denied = [
        (files != 0, "files"),
        (ports != 0, "TCP"),
        (scopes & Scope::AbstractUnixSocket as u64 != 0, "abstract sockets"),
        (scopes & Scope::Signal as u64 != 0, "signals"),
    ];
    let denied: Vec<_> = denied.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    let what = format!("making a landlock ruleset that denies {}", denied.join(", "));
    lowering.setup(Step::Landlock, what, None, &Setup::Ruleset { files, ports, scopes });
    let of_files = AccessFs::from_file(abi(kernel.min(policy.abi))).bits();
    for PathRule { path, access, optional } in &policy.paths {
        let bits = access.bits() & files;
        // Nothing that this kernel denies.
        if bits == 0 {
            continue;
        }
        let place = inside(path)?;
        let (on_file, optional) = (bits & of_files, u32::from(*optional));
        let if_there = if optional == 1 { ", if it is there," } else { "" };
        let what = format!("allowing {access} on {}{if_there}", path.display());
        let operation = Setup::AllowPath { path: &place, access: bits, on_file, optional };
        lowering.setup(Step::Landlock, what, Some(path), &operation);
    }
    for rule in policy.ports.iter().filter(|_| ports != 0) {
        let (access, name) = match rule.call {
            PortCall::Bind => (AccessNet::BindTcp, "binding to"),
            PortCall::Connect => (AccessNet::ConnectTcp, "connecting to"),
        };
        let what = format!("allowing {name} TCP port {}", rule.port);
        let operation = Setup::AllowPort { port: u32::from(rule.port), access: access as u64 };
        lowering.setup(Step::Landlock, what, None, &operation);
    }
    let what = "confining the program by landlock";
    lowering.confine(section::SEAL, Step::Landlock, what, &Confine::Landlock {});
    Ok(())
}

/// The kernel has no landlock.
fn absent(error: io::Error) -> Error {
    let errno = error.raw_os_error();
    let error = Error::os(Step::Landlock, "asking the kernel for landlock", error);
    let hint = match errno {
        Some(libc::EOPNOTSUPP) => {
            "it is built into this kernel and was not switched on: boot with `lsm=landlock,` before the names that \
             /sys/kernel/security/lsm has"
        }
        Some(libc::ENOSYS) => {
            "it needs Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and no filter that hides it"
        }
        Some(libc::EPERM | libc::EACCES) => "a filter on this process denies landlock_create_ruleset(2)",
        _ => return error,
    };
    error.with_hint(hint)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
