//! Labels of security modules for the program: a profile of AppArmor, a context of SELinux.
//!
//! A process writes the label of what it executes next to a file of its own in procfs. The kernel applies it at `execve(2)`,
//! or fails that.

use std::ffi::CStr;
use std::fs;
use std::io;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::feature::{Enforced, Feature};
use crate::lowering::Lowering;
use crate::sandbox::Sandbox;
use crate::wire::{Confine, section};

/// More than any profile or context has, and less than the page of which the kernel takes no more in one write.
const LONGEST: usize = 1024;

/// A label that the program gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    what: String,
    /// Below a procfs.
    file: &'static CStr,
    text: String,
    /// What the module must say that it enforces; empty where it does not say it there.
    enforcing: String,
}

/// What a security module does on this host.
#[derive(Debug)]
pub(crate) enum Presence {
    Enforces,
    /// It takes labels, and denies nothing.
    Permits,
    /// Why it takes none.
    Absent(Error),
}

/// The labels that a sandbox asks for and this host can give.
pub(crate) fn wanted(sandbox: &Sandbox, enforced: &mut Enforced) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    if let Some(profile) = &sandbox.apparmor {
        check_profile(profile)?;
        if is_to_be_set(sandbox, Feature::AppArmor, apparmor(), enforced)? {
            labels.push(Label::profile(profile, is_confined()?));
        }
    }
    if let Some(context) = &sandbox.selinux {
        check_context(context)?;
        if is_to_be_set(sandbox, Feature::SeLinux, selinux(), enforced)? {
            labels.push(Label::context(context));
        }
    }
    Ok(labels)
}

fn is_to_be_set(
    sandbox: &Sandbox,
    feature: Feature,
    presence: Presence,
    enforced: &mut Enforced,
) -> Result<bool> {
    let (error, is_set) = match presence {
        Presence::Enforces => {
            enforced.add(feature);
            return Ok(true);
        }
        Presence::Permits => {
            let message = "selinux is permissive here and denies nothing";
            let hint = "as root: `setenforce 1`, and SELINUX=enforcing in /etc/selinux/config to keep it";
            (Error::message(ErrorKind::Unsupported, Step::Label, message).with_hint(hint), true)
        }
        Presence::Absent(error) => (error, false),
    };
    if !sandbox.best_effort.contains(&feature) {
        return Err(error);
    }
    enforced.skip(feature, error.to_string());
    Ok(is_set)
}

fn absent(message: &'static str, hint: &'static str) -> Presence {
    Presence::Absent(Error::message(ErrorKind::Unsupported, Step::Label, message).with_hint(hint))
}

const OWN_PROFILE: &str = "/proc/self/attr/apparmor/current";

/// What AppArmor does here. The directory of its files is there with the module, and only one that is on answers.
pub(crate) fn apparmor() -> Presence {
    match fs::read(OWN_PROFILE) {
        Ok(_) => Presence::Enforces,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => absent(
            "apparmor is built into this kernel and was not switched on",
            "boot with `apparmor` in the list of `lsm=`, before other modules that label",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => absent(
            "this kernel has no apparmor",
            "a kernel with CONFIG_SECURITY_APPARMOR; since Linux 5.8 its files are in /proc/self/attr/apparmor",
        ),
        Err(error) => Presence::Absent(unreadable(OWN_PROFILE, error)),
    }
}

fn unreadable(path: &str, error: io::Error) -> Error {
    Error::os(Step::Label, format!("reading {path}"), error).with_path(path)
}

/// Whether this process has a profile itself.
fn is_confined() -> Result<bool> {
    let own = fs::read_to_string(OWN_PROFILE).map_err(|error| unreadable(OWN_PROFILE, error))?;
    Ok(own.trim_end() != "unconfined")
}

/// What SELinux does here. Its filesystem is there where it was switched on.
pub(crate) fn selinux() -> Presence {
    const FILESYSTEMS: &str = "/proc/filesystems";
    const ENFORCE: &str = "/sys/fs/selinux/enforce";
    match fs::read_to_string(FILESYSTEMS) {
        Ok(list) if list.lines().any(|line| line.trim_start_matches("nodev").trim() == "selinuxfs") => {}
        Ok(_) => {
            return absent(
                "selinux is not switched on in this kernel",
                "boot with `selinux` in the list of `lsm=`, before other modules that label, and load a policy",
            );
        }
        Err(error) => return Presence::Absent(unreadable(FILESYSTEMS, error)),
    }
    match fs::read_to_string(ENFORCE) {
        Ok(text) if text.trim() == "1" => Presence::Enforces,
        Ok(_) => Presence::Permits,
        Err(error) => {
            Presence::Absent(unreadable(ENFORCE, error).with_kind(ErrorKind::Unsupported).with_hint(
                "mount selinuxfs on /sys/fs/selinux: without it nobody can tell whether selinux enforces",
            ))
        }
    }
}

/// The text becomes a command to the kernel, `exec NAME`: it must be one name and no more.
fn check_profile(name: &str) -> Result<()> {
    let refuse = |why: &str, hint: &'static str| {
        Err(Error::invalid(format!("{name:?} is no profile of apparmor: {why}")).with_hint(hint))
    };
    const NAME: &str = "give the name that `aa-status` shows";
    match name {
        "" => refuse("it is empty", NAME),
        "unconfined" => refuse("it confines nothing", "leave apparmor() out"),
        name if !is_plain(name) => refuse("it has blanks or control characters", NAME),
        name if name.len() > LONGEST => refuse("it is longer than 1024 bytes", NAME),
        name if name.contains("//&") => {
            refuse("it is several, stacked", "give one; it is stacked on the host's own")
        }
        name if name.starts_with([':', '&']) => refuse("it leads to another namespace of policies", NAME),
        _ => Ok(()),
    }
}

fn check_context(context: &str) -> Result<()> {
    let parts = context.split(':').filter(|part| !part.is_empty()).count();
    if context.len() > LONGEST || !is_plain(context) || !(3..=5).contains(&parts) {
        return Err(Error::invalid(format!("{context:?} is no context of selinux"))
            .with_hint("it has the form user:role:type:level, without blanks; `ps -Z` shows some"));
    }
    Ok(())
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl Label {
    /// Under `no_new_privs` a confined host can only narrow what it has, so there the profile is stacked on its own.
    fn profile(name: &str, host_is_confined: bool) -> Self {
        let (verb, how) = match host_is_confined {
            true => ("stack", "stacking apparmor profile"),
            false => ("exec", "setting apparmor profile"),
        };
        Self {
            what: format!("{how} {name} for execve"),
            file: c"self/attr/apparmor/exec",
            text: format!("{verb} {name}"),
            enforcing: name.to_owned(),
        }
    }

    fn context(context: &str) -> Self {
        Self {
            what: format!("setting selinux context {context} for execve"),
            file: c"self/attr/exec",
            text: context.to_owned(),
            enforcing: String::new(),
        }
    }

    pub(crate) fn lower(&self, lowering: &mut Lowering) {
        let operation = Confine::Label {
            file: self.file,
            label: self.text.as_bytes(),
            enforcing: self.enforcing.as_bytes(),
        };
        lowering.confine(section::CONFINE, Step::Label, self.what.as_str(), &operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_profiles() {
        for name in ["my-plugin", "/usr/bin/plugin", "docker-default", "parent//child", "snap.x.y", "größe"]
        {
            assert!(check_profile(name).is_ok(), "{name}");
        }
        let long = "x".repeat(LONGEST + 1);
        for name in [
            "",
            "unconfined",
            "a b",
            "a\nexec unconfined",
            "a\0b",
            "a\tb",
            "a//&unconfined",
            "&a",
            ":ns:a",
            "a\u{85}b",
            "a\u{a0}b",
            &long,
        ] {
            let error = check_profile(name).unwrap_err();
            assert_eq!((error.kind(), error.hint().is_some()), (ErrorKind::InvalidConfig, true), "{name:?}");
        }
    }

    #[test]
    fn contexts() {
        for context in ["u:r:t", "u:r:t:s0", "system_u:system_r:container_t:s0:c1,c2", "u:r:t:s0-s0:c0.c1023"]
        {
            assert!(check_context(context).is_ok(), "{context}");
        }
        let long = format!("u:r:{}", "t".repeat(LONGEST));
        for context in ["", "t", "u:r", "u::t", "u:r:t s0", "u:r:t\n", "u:r:t\0", "a:b:c:d:e:f", &long] {
            let error = check_context(context).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{context:?}");
        }
    }

    #[test]
    fn a_confined_host_stacks() {
        assert_eq!(Label::profile("x", false).text, "exec x");
        assert_eq!(Label::profile("x", true).text, "stack x");
    }

    #[test]
    fn a_module_that_is_missing_is_an_error_or_told() {
        let missing = || absent("it is not there", "bring it");
        let mut enforced = Enforced::default();
        let strict = Sandbox::bare();
        let error = is_to_be_set(&strict, Feature::AppArmor, missing(), &mut enforced).unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Label));
        assert!(is_to_be_set(&strict, Feature::SeLinux, Presence::Permits, &mut enforced).is_err());
        assert!(is_to_be_set(&strict, Feature::SeLinux, Presence::Enforces, &mut enforced).unwrap());
        assert!(enforced.contains(Feature::SeLinux) && enforced.skipped().is_empty());
        let mut enforced = Enforced::default();
        let lax = Sandbox::bare().best_effort(Feature::AppArmor).best_effort(Feature::SeLinux);
        assert!(!is_to_be_set(&lax, Feature::AppArmor, missing(), &mut enforced).unwrap());
        // The label is worth something to whoever looks at it.
        assert!(is_to_be_set(&lax, Feature::SeLinux, Presence::Permits, &mut enforced).unwrap());
        assert_eq!(enforced.skipped().len(), 2);
        assert!(!enforced.contains(Feature::SeLinux));
    }
}
