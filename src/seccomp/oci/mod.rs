//! Profiles in the JSON of the Open Container Initiative and of Docker.
//!
//! `document` is the format as it is written, `import` checks it once, and resolves it for the machine and the
//! capabilities of a plan, of which `scope` is about; `export` writes a policy in the format.

mod document;
mod export;
mod foreign;
mod import;
mod scope;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use export::write;
pub(super) use import::Imported;

use super::{Base, Seccomp};
use crate::Result;

impl Seccomp {
    /// Reads a profile in the JSON of the
    /// [OCI runtime specification](https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp)
    /// or of [Docker](https://docs.docker.com/engine/security/seccomp/), behind the feature `serde`.
    ///
    /// `defaultAction`, `defaultErrnoRet`, `architectures` or `archMap`, and of each entry in `syscalls` `names` (or
    /// `name`), `action`, `errnoRet`, `args`, `includes` and `excludes` mean what they mean there. `caps`, `arches`
    /// and `minKernel` are looked at when the sandbox is planned: the capabilities are those that the program keeps,
    /// the kernel is the one that runs. The words of [`Seccomp`] change the profile as they change any other.
    ///
    /// Where the format leaves room, and where belljar differs from runc, it is stricter:
    ///
    /// - Two entries that give different answers to the same call are an error; runc lets one of them win. If they are
    ///   for different capabilities, architectures or kernels, the strictest counts, as in Podman's profile.
    /// - Two `args` of one entry about the same argument are an error; runc takes them as alternatives.
    /// - `SCMP_ACT_KILL` and `SCMP_ACT_KILL_THREAD` kill the process, not only the thread.
    /// - Calls of sub-architectures (`SCMP_ARCH_X86`, `SCMP_ARCH_X32`, …) are not allowed but kill the process.
    /// - Numbers newer than Linux 6.18 fail with `ENOSYS`, and so does `clone3` unless the profile names it, whatever
    ///   the default action.
    /// - Names that only other architectures have are passed over. Other unknown names are passed over where the entry
    ///   allows or logs, as runc does; in an entry that refuses they are an error if the default action does not.
    ///
    /// Comparisons are of all 64 bits, as in runc. A profile can therefore be walked past where the kernel looks at 32
    /// bits only; see [`SyscallArg`](crate::SyscallArg#how-many-bits), and correct it by
    /// [`deny_if`](Self::deny_if).
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for a text of more than 1 MiB, and otherwise
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig): text that is not JSON or nested too deeply, keys, actions,
    /// operators, architectures or capabilities that are not known, numbers out of range, `SCMP_ACT_NOTIFY` and
    /// `SCMP_ACT_TRACE`, `flags` and `listenerPath`. What depends on the machine and the sandbox (entries that
    /// contradict each other, unknown names) is an error when the sandbox is planned or spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Sandbox, Seccomp};
    ///
    /// let profile = r#"{
    ///     "defaultAction": "SCMP_ACT_ALLOW",
    ///     "syscalls": [
    ///         { "names": ["ptrace", "keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
    ///         { "names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS",
    ///           "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }] }
    ///     ]
    /// }"#;
    /// let sandbox = Sandbox::new().seccomp(Seccomp::from_json(profile)?);
    /// # let _ = sandbox;
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        let imported = Imported::read(text)?;
        Ok(Self { base: Base::Imported(Arc::new(imported)), ..Self::default() })
    }

    /// Writes the policy as a profile of the OCI runtime specification, for this architecture, behind the feature
    /// `serde`.
    ///
    /// [`from_json`](Self::from_json) makes a filter with the same answers of it. So does libseccomp, which runc and crun
    /// use, for the calls that it knows: no two entries that differ can hold at once, so nothing depends on their order.
    /// Conditions that the format has no word for, on the low 32 bits or on one argument twice, are written as several
    /// entries with bit masks.
    /// Conditions on capabilities and the kernel of an imported profile are resolved, for a program without
    /// capabilities on the kernel that runs.
    ///
    /// # Errors
    ///
    /// As [`to_bpf`](Self::to_bpf), and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if the conditions of a call
    /// would take more than 256 entries.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Seccomp;
    ///
    /// let text = Seccomp::judge().to_json()?;
    /// assert!(text.contains("\"defaultAction\": \"SCMP_ACT_ERRNO\""));
    /// assert_eq!(Seccomp::from_json(&text)?.to_json()?, text);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn to_json(&self) -> Result<String> {
        write(self, super::names::Arch::NATIVE)
    }
}
