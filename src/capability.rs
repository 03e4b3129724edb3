//! Capabilities by name. See `capabilities(7)`.

use crate::error::{Error, Result};

/// Names in the order of their numbers (`<linux/capability.h>`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Turns names (`NET_BIND_SERVICE` or `CAP_NET_BIND_SERVICE`, any case) into a bit mask.
pub(crate) fn mask_of<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<u64> {
    let mut mask = 0;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let Some(number) = NAMES.iter().position(|known| *known == bare) else {
            return Err(Error::invalid(format!("unknown capability {name:?}"))
                .with_hint("use a name of capabilities(7), such as NET_BIND_SERVICE"));
        };
        mask |= 1 << number;
    }
    Ok(mask)
}

/// The names in a bit mask.
pub(crate) fn names_of(mask: u64) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(number, _)| mask & 1 << number != 0).map(|(_, name)| *name).collect()
}

/// Bits that decide what the host can do for a sandbox.
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
/// `CAP_SYS_NICE`.
pub(crate) const SYS_NICE: u64 = 1 << 23;
/// `CAP_SYS_RESOURCE`.
pub(crate) const SYS_RESOURCE: u64 = 1 << 24;
/// `CAP_SETUID`.
pub(crate) const SETUID: u64 = 1 << 7;
/// `CAP_SETGID`.
pub(crate) const SETGID: u64 = 1 << 6;

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
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = mask(&["CAP_FLY"]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("CAP_FLY"));
    }
}
