//! Rules that no single subsystem can check, one function each.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::joining;
use crate::limits::Resource;
use crate::sandbox::Sandbox;
use crate::tenants;

pub(super) fn validate(sandbox: &Sandbox) -> Result<()> {
    names(sandbox)?;
    ids(sandbox)?;
    sandbox.limits.validate()?;
    times(sandbox)?;
    rlimits(sandbox)?;
    sandbox.scheduling.check()?;
    joining::validate(sandbox)?;
    if sandbox.cross_tenant {
        tenants::validate(sandbox)?;
    }
    environment(sandbox)
}

/// `__NEW_UTS_LEN` of the kernel.
const UTS_LENGTH: usize = 64;

fn names(sandbox: &Sandbox) -> Result<()> {
    for (what, name) in [("host name", &sandbox.hostname), ("domain name", &sandbox.domain_name)] {
        let Some(name) = name else { continue };
        if name.len() > UTS_LENGTH || name.is_empty() || name.as_bytes().contains(&0) {
            return Err(Error::invalid(format!(
                "the {what} {name:?} is empty, longer than 64 bytes, or contains NUL"
            )));
        }
    }
    Ok(())
}

fn ids(sandbox: &Sandbox) -> Result<()> {
    match sandbox.user {
        // setresuid(2) takes it for "leave as it is".
        Some(ids) if ids.uid == u32::MAX || ids.gid == u32::MAX => {
            Err(Error::invalid("4294967295 is no user or group id"))
        }
        _ => Ok(()),
    }
}

fn times(sandbox: &Sandbox) -> Result<()> {
    let limits = [
        ("a wall time", sandbox.wall_time),
        ("a CPU time", sandbox.cpu_time),
        ("an idle time", sandbox.idle_time),
    ];
    for (what, limit) in limits {
        if limit == Some(Duration::ZERO) {
            return Err(Error::invalid(format!("{what} limit of zero lets nothing run")));
        }
    }
    sandbox.limits.suit_idle_time(sandbox.idle_time)
}

fn rlimits(sandbox: &Sandbox) -> Result<()> {
    for (resource, soft, hard) in &sandbox.rlimits {
        let name = resource.name();
        if soft > hard {
            return Err(Error::invalid(format!(
                "the soft limit of {name}, {soft}, is above the hard one, {hard}"
            )));
        }
        if *resource == Resource::Nofile && *soft < 4 {
            return Err(Error::invalid(format!(
                "a {name} limit of {soft} leaves no descriptor to execute a program"
            )));
        }
    }
    Ok(())
}

fn environment(sandbox: &Sandbox) -> Result<()> {
    for (key, _) in &sandbox.environment.variables {
        if key.is_empty() || key.as_bytes().contains(&b'=') || key.as_bytes().contains(&0) {
            return Err(Error::invalid(format!("{key:?} is no name for an environment variable")));
        }
    }
    Ok(())
}
