//! What can be done with a box while its programs run.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::counters::{Counters, keyed};
use super::events::Events;
use super::group::{Group, within};
use super::layout::{Controller, Version};
use super::limits::Limits;
use super::oom::{self, Oom};
use super::pressure::{self, Pressure};
use super::{Cgroup, v1, v2};
use crate::error::{Error, ErrorKind, Result, Step};

/// How long the kernel may take to stop every process of a box.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Changes the limits that are set in `new`; the others stay. Either all are in force afterwards, or those from before.
    pub(crate) fn update(&mut self, new: &Limits) -> Result<()> {
        new.validate()?;
        let placed = |wanted: Controller| self.groups.iter().any(|group| group.has(wanted));
        if let Some(controller) = new.controllers().find(|controller| !placed(*controller)) {
            let message = format!(
                "the sandbox was made without the {} controller, which cannot be added to a running one",
                controller.name()
            );
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Cgroup, message)
                .with_hint("set the limit when the sandbox is made; the largest value limits nothing"));
        }
        let mut wanted = self.limits.clone();
        wanted.merge(new);
        let old = self.limits.clone();
        match self.write(&wanted, new) {
            Ok(()) => {
                self.limits = wanted;
                Ok(())
            }
            Err(error) => {
                // What was in force could be written once, so it can again, unless more is in use by now.
                self.write(&old, &old).ok();
                Err(error)
            }
        }
    }

    /// Writes those of `limits` that `changed` sets too.
    fn write(&self, limits: &Limits, changed: &Limits) -> Result<()> {
        for group in &self.groups {
            let controllers: Vec<_> =
                changed.controllers().filter(|controller| group.has(*controller)).collect();
            let mut settings = match group.version() {
                Version::V1 => v1::settings(limits, &controllers)?,
                Version::V2 => v2::settings(limits, &controllers)?,
            };
            if group.version() == Version::V2 && controllers.contains(&Controller::Devices) {
                return Err(Error::message(
                    ErrorKind::Unsupported,
                    Step::Cgroup,
                    "device rules of version 2 cannot be changed while programs run",
                )
                .with_hint("start another sandbox with the new rules"));
            }
            // The limit of memory and swap together must never be below that of memory: which of the two is written first
            // depends on which way they go.
            if settings.iter().any(|setting| setting.file == v1::MEMSW)
                && group.number(v1::MEMSW)?.is_some_and(|now| limits.memory_max.is_some_and(|max| max > now))
            {
                settings.reverse();
            }
            for setting in &settings {
                group.set(setting)?;
            }
        }
        Ok(())
    }

    /// Stops every process in it, and waits until the last has stopped.
    pub(crate) fn freeze(&self) -> Result<()> {
        let group = self.freezer()?;
        match group.version() {
            Version::V1 => {
                group.write("freezer.state", "FROZEN")?;
                let mut buffer = [0; 4096];
                let stopped = within(FREEZE_PATIENCE, || {
                    Ok(group
                        .read("freezer.state", &mut buffer)?
                        .is_some_and(|text| text.trim_end() == "FROZEN"))
                });
                stopped.and_then(|stopped| if stopped { Ok(()) } else { Err(self.still_running(group)) })
            }
            Version::V2 => {
                group.write("cgroup.freeze", "1")?;
                let stopped = within(FREEZE_PATIENCE, || is_frozen(group));
                stopped.and_then(|stopped| if stopped { Ok(()) } else { Err(self.still_running(group)) })
            }
        }
    }

    fn still_running(&self, group: &Group) -> Error {
        self.thaw().ok();
        let message = "a process of the sandbox did not stop: it waits in the kernel for a device";
        Error::message(ErrorKind::Setup, Step::Cgroup, message).with_path(group.path())
    }

    /// Lets every process in it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        let group = self.freezer()?;
        match group.version() {
            Version::V1 => group.write("freezer.state", "THAWED"),
            Version::V2 => group.write("cgroup.freeze", "0"),
        }
    }

    /// Lets what was frozen go on so that it can die: version 1 does not kill what it has frozen.
    pub(crate) fn thaw_to_kill(&self) {
        if self.freezer().is_ok_and(|group| group.version() == Version::V1) {
            self.thaw().ok();
        }
    }

    /// The file by which the init thaws what the host has frozen and can thaw no more. Only version 1 needs it.
    pub(crate) fn thaw_file(&self) -> Result<Option<OwnedFd>> {
        match self.freezer() {
            Ok(group) if group.version() == Version::V1 => {
                group.open_file("freezer.state", OFlag::O_WRONLY).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn freezer(&self) -> Result<&Group> {
        let can = |group: &&Group| group.version() == Version::V2 || group.has(Controller::Freezer);
        self.groups.iter().find(can).ok_or_else(|| {
            Error::message(ErrorKind::InvalidConfig, Step::Cgroup, "the sandbox was not made to be frozen")
                .with_hint("add freezable() to it")
        })
    }

    /// How much time was lost by waiting.
    pub(crate) fn pressure(&self) -> Result<Pressure> {
        let Some(group) = self.groups.iter().find(|group| group.version() == Version::V2) else {
            return Err(Error::message(
                ErrorKind::InvalidConfig,
                Step::Cgroup,
                "the sandbox has no version 2 cgroup, which alone tells pressure",
            )
            .with_hint("add pressure() to it"));
        };
        pressure::read(group)
    }

    /// Lets the memory peak start again from what is in use now.
    pub(crate) fn reset_peak(&mut self) -> Result<()> {
        let Some(group) = self.groups.iter().find(|group| group.has(Controller::Memory)) else {
            return Err(Error::message(
                ErrorKind::InvalidConfig,
                Step::Cgroup,
                "the sandbox has no memory cgroup",
            )
            .with_hint("add a memory limit to it; Bytes::MAX limits nothing"));
        };
        match group.version() {
            Version::V1 => group.write("memory.max_usage_in_bytes", "0"),
            Version::V2 => {
                // Written to, an open file tells the peak since then; every other one, that since the beginning.
                let file = group.open_file("memory.peak", OFlag::O_RDWR).map_err(|error| {
                    error
                        .with_kind(ErrorKind::Unsupported)
                        .with_hint("resetting memory.peak needs Linux 6.12")
                })?;
                nix::unistd::write(&file, b"0").map_err(|errno| {
                    Error::os(Step::Cgroup, "resetting memory.peak", errno)
                        .with_kind(ErrorKind::Unsupported)
                        .with_hint("it needs Linux 6.12")
                })?;
                self.peak = Some(file);
                Ok(())
            }
        }
    }

    /// What is known of kills for memory, of which there were `earlier` before those in question.
    pub(crate) fn oom(&self, counters: &Counters, earlier: u64) -> Option<Oom> {
        oom::read(&self.groups, counters, earlier)
    }

    /// What happens in it from now on.
    pub(crate) fn events(&self) -> Result<Events> {
        if self.groups.is_empty() {
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Cgroup, "the sandbox has no cgroup")
                .with_hint("add a limit to it, or freezable()"));
        }
        Events::watch(&self.groups)
    }
}

/// Whether every process has stopped. Since Linux 5.2.
pub(super) fn is_frozen(group: &Group) -> Result<bool> {
    let mut buffer = [0; 4096];
    Ok(group.read("cgroup.events", &mut buffer)?.and_then(|text| keyed(text, "frozen")) == Some(1))
}
