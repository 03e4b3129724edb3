//! What can be done with a box while its programs run.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;

use super::counters::keyed;
use super::events::Events;
use super::group::{Group, Setting};
use super::layout::{Controller, Version};
use super::limits::Limits;
use super::oom::LogKey;
use super::pressure::{self, Pressure};
use super::{Cgroup, v1, v2};
use crate::error::{Error, ErrorKind, Result, Step};

/// What became of a request to stop every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    Done,
    NotYet,
    /// Somebody has let them go on since.
    No,
}

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
        let mut written = Vec::new();
        match self.write(&wanted, new, &mut written) {
            Ok(()) => {
                self.limits = wanted;
                Ok(())
            }
            Err(error) => Err(self.restore(written, error)),
        }
    }

    /// Writes those of `limits` that `changed` sets too, and notes what each file said before.
    fn write(&self, limits: &Limits, changed: &Limits, written: &mut Vec<(usize, Setting)>) -> Result<()> {
        let mut all = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            let controllers: Vec<_> =
                changed.controllers().filter(|controller| group.has(*controller)).collect();
            if group.version() == Version::V2 && controllers.contains(&Controller::Devices) {
                return Err(Error::message(
                    ErrorKind::Unsupported,
                    Step::Cgroup,
                    "device rules of version 2 cannot be changed while programs run",
                )
                .with_hint("start another sandbox with the new rules"));
            }
            let settings = match group.version() {
                Version::V1 => {
                    let mut settings = v1::settings(limits, &controllers)?;
                    v1::order_for_update(group, &mut settings)?;
                    settings
                }
                Version::V2 => v2::settings(limits, &controllers)?,
            };
            all.extend(settings.into_iter().map(|setting| (index, setting)));
        }
        // Less memory than is in use is the death of somebody, which nothing undoes: when it is written, nothing else is
        // left that could be refused.
        all.sort_by_key(|(_, setting)| setting.file.starts_with("memory."));
        for (index, setting) in all {
            let Some(group) = self.groups.get(index) else { continue };
            // First, for a value may be in force and not be the one that was meant.
            if setting.file == v1::DENY_DEVICES {
                // There is no saying what was told the kernel about devices: it is told again.
                let before = v1::settings(&self.limits, &[Controller::Devices])?;
                written.extend(before.into_iter().rev().map(|before| (index, before)));
            } else if setting.file != v1::ALLOW_DEVICES {
                written.extend(group.before(&setting)?.into_iter().map(|before| (index, before)));
            }
            group.set(&setting)?;
        }
        Ok(())
    }

    /// Puts back what was in force, last first, and returns why.
    fn restore(&self, written: Vec<(usize, Setting)>, error: Error) -> Error {
        let mut failure = None;
        for (index, setting) in written.into_iter().rev() {
            if let Some(group) = self.groups.get(index) {
                failure = failure.or(group.set(&setting).err());
            }
        }
        match failure {
            None => error,
            Some(failure) => {
                let message =
                    format!("{error}, and then not all limits from before could be restored: {failure}");
                Error::message(ErrorKind::Setup, Step::Cgroup, message).with_hint(
                    "set the limits anew, or end the sandbox: it may have more than either set of them",
                )
            }
        }
    }

    /// Has every process in it stopped. When the last has, [`has_stopped`](Self::has_stopped) says so.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        let group = self.freezer()?;
        match group.version() {
            Version::V1 => group.write("freezer.state", "FROZEN")?,
            Version::V2 => group.write("cgroup.freeze", "1")?,
        }
        self.frozen = true;
        Ok(())
    }

    /// How far the kernel is with stopping every process. Version 2 tells since Linux 5.2.
    pub(crate) fn stopping(&self) -> Result<Stopping> {
        let group = self.freezer()?;
        let mut buffer = [0; 4096];
        // The init thaws what it has to kill, and does not ask.
        let (asked, done) = match group.version() {
            Version::V1 => {
                let state = group.read("freezer.state", &mut buffer)?.map_or("", str::trim_end);
                (state != "THAWED", state == "FROZEN")
            }
            Version::V2 => {
                let asked = group.number("cgroup.freeze")? == Some(1);
                let events = group.read("cgroup.events", &mut buffer)?;
                (asked, events.and_then(|text| keyed(text, "frozen")) == Some(1))
            }
        };
        Ok(match (self.frozen && asked, done) {
            (false, _) => Stopping::No,
            (true, false) => Stopping::NotYet,
            (true, true) => Stopping::Done,
        })
    }

    /// Lets every process in it go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.frozen = false;
        let group = self.freezer()?;
        match group.version() {
            Version::V1 => group.write("freezer.state", "THAWED"),
            Version::V2 => group.write("cgroup.freeze", "0"),
        }
    }

    /// Whether it can be frozen: on version 2 every group can.
    pub(crate) fn can_freeze(&self) -> bool {
        self.freezer().is_ok()
    }

    /// Whether it was frozen and not thawed.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Kills what was frozen and lets it go on so that it dies: version 1 does not kill what it has frozen.
    pub(crate) fn let_die(&mut self) {
        if !self.frozen {
            return;
        }
        if let Some(group) = self.freezer().ok().filter(|group| group.version() == Version::V1) {
            // Nothing of it runs before it is thawed, so one round reaches all.
            group.kill_round().ok();
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

    /// By what the kernel's log tells of kills for memory in it.
    pub(crate) fn log_key(&self) -> Option<LogKey> {
        let memory = self.groups.iter().find(|group| group.has(Controller::Memory));
        let group = memory.or(self.groups.first())?;
        Some(LogKey {
            name: group.name().to_owned(),
            of_box: group.parent().of_box.clone(),
            whole_group: self.limits.oom_group,
        })
    }

    /// What happens in it from now on.
    pub(crate) fn events(&self, init: OwnedFd) -> Result<Events> {
        if self.groups.is_empty() {
            return Err(Error::message(ErrorKind::InvalidConfig, Step::Cgroup, "the sandbox has no cgroup")
                .with_hint("add a limit to it, or freezable()"));
        }
        Events::watch(&self.groups, init)
    }
}
