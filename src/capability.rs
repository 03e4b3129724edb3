//! Capabilities by name. See `capabilities(7)`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Declares the capabilities in the order of their numbers (`<linux/capability.h>`).
macro_rules! capabilities {
    ($($name:literal => $variant:ident, $doc:literal;)*) => {
        /// A capability, by the name that [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html) has for
        /// it. In a user namespace it is a power over what that namespace owns, and over nothing of the host.
        ///
        /// Where a name is taken, a `Capability` can be given.
        ///
        /// # Examples
        ///
        /// ```
        /// use belljar::{Capability, Sandbox};
        ///
        /// let sandbox = Sandbox::new().keep_capability(Capability::NetBindService);
        /// # let _ = sandbox;
        /// assert_eq!("CAP_NET_RAW".parse::<Capability>()?, Capability::NetRaw);
        /// # Ok::<(), belljar::Error>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Capability {
            $(#[doc = $doc] $variant,)*
        }

        impl Capability {
            /// All of them, up to Linux 6.18.
            pub const ALL: [Self; NAMES.len()] = [$(Self::$variant),*];

            /// Its name, without `CAP_`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

capabilities! {
    "CHOWN" => Chown, "Changing the owner of any file.";
    "DAC_OVERRIDE" => DacOverride, "Reading, writing and executing any file, whatever its mode says.";
    "DAC_READ_SEARCH" => DacReadSearch, "Reading any file and searching any directory; `open_by_handle_at(2)`.";
    "FOWNER" => Fowner, "What only the owner of a file may do, with any file.";
    "FSETID" => Fsetid, "Keeping set-user-ID and set-group-ID bits of files that are changed.";
    "KILL" => Kill, "Signals to any process.";
    "SETGID" => Setgid, "Taking any group id, and any supplementary groups.";
    "SETUID" => Setuid, "Taking any user id.";
    "SETPCAP" => Setpcap, "Changing capability sets and secure bits.";
    "LINUX_IMMUTABLE" => LinuxImmutable, "The append-only and immutable attributes of files.";
    "NET_BIND_SERVICE" => NetBindService, "Binding sockets to ports below 1024.";
    "NET_BROADCAST" => NetBroadcast, "Unused by the kernel.";
    "NET_ADMIN" => NetAdmin, "Configuring the network.";
    "NET_RAW" => NetRaw, "Raw and packet sockets.";
    "IPC_LOCK" => IpcLock, "Locking memory, and huge pages.";
    "IPC_OWNER" => IpcOwner, "Any object of System V IPC.";
    "SYS_MODULE" => SysModule, "Loading and removing kernel modules.";
    "SYS_RAWIO" => SysRawio, "I/O ports and raw devices.";
    "SYS_CHROOT" => SysChroot, "`chroot(2)`, and other mount namespaces.";
    "SYS_PTRACE" => SysPtrace, "Tracing any process.";
    "SYS_PACCT" => SysPacct, "Process accounting.";
    "SYS_ADMIN" => SysAdmin, "Mounting, and much of the rest of administration.";
    "SYS_BOOT" => SysBoot, "Rebooting, and another kernel.";
    "SYS_NICE" => SysNice, "Priorities, scheduling policies and processors of any process.";
    "SYS_RESOURCE" => SysResource, "Limits beyond the hard ones, quotas, reserved space.";
    "SYS_TIME" => SysTime, "Setting the clock.";
    "SYS_TTY_CONFIG" => SysTtyConfig, "Virtual consoles, and `vhangup(2)`.";
    "MKNOD" => Mknod, "Making device nodes.";
    "LEASE" => Lease, "Leases on any file.";
    "AUDIT_WRITE" => AuditWrite, "Writing to the audit log.";
    "AUDIT_CONTROL" => AuditControl, "Configuring the audit subsystem.";
    "SETFCAP" => Setfcap, "Giving files capabilities.";
    "MAC_OVERRIDE" => MacOverride, "Overriding the policy of Smack.";
    "MAC_ADMIN" => MacAdmin, "Changing the policy of Smack and AppArmor.";
    "SYSLOG" => Syslog, "The kernel's log, and its addresses.";
    "WAKE_ALARM" => WakeAlarm, "Timers that wake the machine.";
    "BLOCK_SUSPEND" => BlockSuspend, "Keeping the machine from suspending.";
    "AUDIT_READ" => AuditRead, "Reading the audit log. Linux 3.16.";
    "PERFMON" => Perfmon, "Performance events of others. Linux 5.8.";
    "BPF" => Bpf, "BPF programs and maps. Linux 5.8.";
    "CHECKPOINT_RESTORE" => CheckpointRestore, "Checkpointing and restoring processes. Linux 5.9.";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.name().to_owned()
    }
}

impl FromStr for Capability {
    type Err = Error;

    /// Takes the name with or without `CAP_`, in any case.
    fn from_str(name: &str) -> Result<Self> {
        let number = number_of(name)?;
        Ok(Self::ALL[number])
    }
}

/// The number of a capability by its name.
fn number_of(name: &str) -> Result<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).ok_or_else(|| {
        Error::invalid(format!("unknown capability {name:?}"))
            .with_hint("use a name of capabilities(7), such as NET_BIND_SERVICE")
    })
}

/// Turns names (`NET_BIND_SERVICE` or `CAP_NET_BIND_SERVICE`, any case) into a bit mask.
pub(crate) fn mask_of<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<u64> {
    let mut mask = 0;
    for name in names {
        mask |= 1 << number_of(name)?;
    }
    Ok(mask)
}

/// The names in a bit mask.
pub(crate) fn names_of(mask: u64) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(number, _)| mask & 1 << number != 0).map(|(_, name)| *name).collect()
}

/// Bits that decide what the host can do for a sandbox.
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
#[cfg(feature = "net")]
pub(crate) const NET_ADMIN: u64 = 1 << 12;
#[cfg(feature = "net")]
pub(crate) const NET_RAW: u64 = 1 << 13;
/// `CAP_SYS_NICE`.
pub(crate) const SYS_NICE: u64 = 1 << 23;
/// `CAP_SYS_RESOURCE`.
pub(crate) const SYS_RESOURCE: u64 = 1 << 24;
/// `CAP_SETUID`.
pub(crate) const SETUID: u64 = 1 << 7;
/// `CAP_SETGID`.
pub(crate) const SETGID: u64 = 1 << 6;
/// `CAP_NET_BIND_SERVICE`, `CAP_NET_BROADCAST`, `CAP_NET_ADMIN` and `CAP_NET_RAW`, which are over a network namespace alone.
pub(crate) const OVER_NETWORK: u64 = 0b1111 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(names: &[&str]) -> Result<u64> {
        mask_of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_with_and_without_prefix() {
        assert_eq!(mask(&["CAP_CHOWN", "sys_admin"]).unwrap(), 1 | SYS_ADMIN);
        assert_eq!(names_of(1 | SYS_ADMIN), ["CHOWN", "SYS_ADMIN"]);
        assert_eq!(mask(&["SETUID", "SETGID"]).unwrap(), SETUID | SETGID);
        assert_eq!(mask(&["SYS_NICE", "SYS_RESOURCE"]).unwrap(), SYS_NICE | SYS_RESOURCE);
        assert_eq!(names_of(OVER_NETWORK), ["NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"]);
    }

    #[test]
    fn every_capability_has_its_name_and_number() {
        for (number, capability) in Capability::ALL.into_iter().enumerate() {
            assert_eq!(capability.name().parse::<Capability>().unwrap(), capability);
            assert_eq!(mask(&[&String::from(capability)]).unwrap(), 1 << number);
        }
        assert_eq!(Capability::CheckpointRestore as usize, 40);
        assert_eq!("cap_sys_admin".parse::<Capability>().unwrap().to_string(), "SYS_ADMIN");
        assert!("CAP_FLY".parse::<Capability>().is_err());
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = mask(&["CAP_FLY"]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("CAP_FLY"));
    }
}
