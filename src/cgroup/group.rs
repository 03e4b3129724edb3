//! One directory of a box: made, limited, read, emptied and removed relative to file descriptors, so that nothing
//! depends on a path that somebody may move meanwhile.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::uio::pread;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat, write};

use super::cpuset::CpuSet;
use super::layout::{Controller, Version};
use super::limits::Limits;
use super::missing;
use super::parent::Parent;
use super::run::is_name;
use super::value::{bounded, page_size};
use super::{CpuFormat, Join};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::{self, BpfInstruction};

/// One value to write into a control file of a fresh group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    pub(super) verify: Verify,
    /// What to do when this kernel does not have the file.
    pub(super) absent: &'static str,
}

/// What the kernel must say when asked for the value it took; `None` is `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verify {
    No,
    /// Bytes, which the kernel rounds down to whole pages.
    Bytes(Option<u64>),
    Count(Option<u64>),
    /// Exactly these numbers, in another file, which says what of a list is in force.
    List(&'static str, CpuSet),
}

#[derive(Debug)]
pub(super) struct Group {
    parent: Arc<Parent>,
    name: String,
    dir: OwnedFd,
    /// Files that stay open once they were read, for a group that is looked at again and again.
    kept: Option<Mutex<Vec<(String, OwnedFd)>>>,
}

/// How many rounds of SIGKILL a group gets where the kernel cannot kill it in one step. With the pauses below they
/// take about a second.
#[cfg(test)]
const KILL_ROUNDS: u32 = 100;

/// The pauses between two looks at a group whose processes are dying.
pub(super) fn pause(round: u32) -> Duration {
    Duration::from_micros(50 << round.min(8)).min(Duration::from_millis(10))
}

impl Group {
    /// Makes the directory; `None` if the name is taken.
    pub(super) fn make(parent: &Arc<Parent>, name: &str) -> Result<Option<Self>> {
        let failed = |what: &str, errno: Errno| {
            Error::os(Step::Cgroup, format!("{what} the cgroup {name}"), errno)
                .with_path(parent.dir.join(name))
        };
        match mkdirat(&parent.fd, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(None),
            Err(errno) => return Err(failed("making", errno)),
        }
        Self::open(parent, name).map(Some).map_err(|errno| {
            let _ = unlinkat(&parent.fd, name, UnlinkatFlags::RemoveDir);
            failed("opening", errno)
        })
    }

    /// Opens a directory that is there already.
    pub(super) fn open(parent: &Arc<Parent>, name: &str) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(&parent.fd, name, flags, Mode::empty())?;
        Ok(Self { parent: Arc::clone(parent), name: name.to_owned(), dir, kept: None })
    }

    pub(super) fn version(&self) -> Version {
        self.parent.version
    }

    /// Whether it serves a controller that was asked for.
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.parent.controllers.contains(&controller)
    }

    /// What undoes a setting that is going to be made: the file with what it says now.
    pub(super) fn before(&self, setting: &Setting) -> Result<Option<Setting>> {
        let file = &*setting.file;
        let Some(text) = self.read_all(file)? else { return Ok(None) };
        let value = match setting.value.split_once(' ') {
            // One line for each device; without one there is no limit.
            Some((device, _)) if file == "io.max" || file.starts_with("blkio.throttle.") => {
                let line = text.lines().find(|line| line.split(' ').next() == Some(device));
                let none = if file == "io.max" { "rbps=max wbps=max riops=max wiops=max" } else { "0" };
                line.map_or_else(|| format!("{device} {none}"), str::to_owned)
            }
            // Nothing at all cannot be written, an empty line can.
            _ => text.lines().next().filter(|line| !line.is_empty()).unwrap_or("\n").to_owned(),
        };
        Ok(Some(Setting { value, verify: Verify::No, ..setting.clone() }))
    }

    /// Writes a control file as it is.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        let fd = self.open_file(file, OFlag::O_WRONLY)?;
        write_whole(&fd, value)
            .map_err(|errno| refused(self.failed(&format!("writing {value} to"), file, errno), file, errno))
    }

    pub(super) fn parent(&self) -> &Parent {
        &self.parent
    }

    /// The name of the directory.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        self.parent.dir.join(&self.name)
    }

    /// A second descriptor of the directory, good for `CLONE_INTO_CGROUP` (clone(2) takes `O_PATH` ones).
    pub(super) fn directory(&self) -> Result<OwnedFd> {
        self.dir
            .try_clone()
            .map_err(|source| Error::os(Step::Cgroup, "duplicating a cgroup directory", source))
    }

    pub(super) fn open_file(&self, file: &str, flags: OFlag) -> Result<OwnedFd> {
        self.try_open(file, flags).map_err(|errno| self.failed("opening", file, errno))
    }

    fn try_open(&self, file: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(&self.dir, file, flags | OFlag::O_CLOEXEC, Mode::empty())
    }

    fn failed(&self, what: &str, file: &str, errno: Errno) -> Error {
        Error::os(Step::Cgroup, format!("{what} {file}"), errno).with_path(self.path().join(file))
    }

    /// Writes a limit, and reads it back where the kernel may have taken something else.
    pub(super) fn set(&self, setting: &Setting) -> Result<()> {
        let Setting { file, value, verify, absent } = setting;
        let same_file = matches!(verify, Verify::Bytes(_) | Verify::Count(_));
        let mode = if same_file { OFlag::O_RDWR } else { OFlag::O_WRONLY };
        let fd = match self.try_open(file, mode) {
            Err(Errno::ENOENT) => {
                let error = self.failed("opening", file, Errno::ENOENT);
                return Err(error.with_kind(ErrorKind::Unsupported).with_hint(*absent));
            }
            opened => opened.map_err(|errno| self.failed("opening", file, errno))?,
        };
        write_whole(&fd, value).map_err(|errno| {
            refused(self.failed(&format!("writing {value} to"), file, errno), file, errno)
        })?;
        let fd = match verify {
            Verify::No => return Ok(()),
            Verify::Bytes(_) | Verify::Count(_) => fd,
            Verify::List(effective, _) => self.open_file(effective, OFlag::O_RDONLY)?,
        };
        let mut buffer = [0; 4096];
        let length = pread(&fd, &mut buffer, 0).map_err(|errno| self.failed("reading back", file, errno))?;
        let taken = str::from_utf8(&buffer[..length]).unwrap_or_default().trim_end();
        if verify.holds(taken) {
            return Ok(());
        }
        let message = format!("the kernel made {taken:?} of the {value} written to {file}");
        Err(Error::message(ErrorKind::Setup, Step::Cgroup, message).with_path(self.path().join(&**file)))
    }

    /// Gives a fresh group its limits.
    pub(super) fn limit(&self, limits: &Limits, settings: &[Setting]) -> Result<()> {
        if self.version() == Version::V1 && self.has(Controller::Cpuset) {
            // A fresh group has neither processors nor memory, and takes no process before it has both.
            self.inherit("cpuset.cpus", "cpuset.effective_cpus")?;
            self.inherit("cpuset.mems", "cpuset.effective_mems")?;
        }
        if let Some(rules) = limits.devices.as_ref().filter(|_| self.version() == Version::V2) {
            if self.has(Controller::Devices) {
                self.attach_device_program(&rules.program())?;
            }
        }
        settings.iter().try_for_each(|setting| self.set(setting))
    }

    /// What a process needs to place itself in it.
    pub(super) fn join(&self) -> Result<Join> {
        Ok(match self.version() {
            Version::V1 => Join::V1Tasks(self.open_file("tasks", OFlag::O_WRONLY)?),
            Version::V2 => {
                Join::V2 { dir: self.directory()?, procs: self.open_file("cgroup.procs", OFlag::O_WRONLY)? }
            }
        })
    }

    /// The file with the CPU time that it has used.
    pub(super) fn usage_file(&self) -> Result<(OwnedFd, CpuFormat)> {
        let (file, format) = match self.version() {
            Version::V1 => ("cpuacct.usage", CpuFormat::Nanoseconds),
            Version::V2 => ("cpu.stat", CpuFormat::CpuStat),
        };
        Ok((self.open_file(file, OFlag::O_RDONLY)?, format))
    }

    /// Writes what a control file of the parent says into the same file here.
    pub(super) fn inherit(&self, file: &str, effective: &str) -> Result<()> {
        let mut buffer = [0; 4096];
        let failed = |errno| {
            let path = self.parent.dir.join(effective);
            Error::os(Step::Cgroup, format!("reading {}", path.display()), errno).with_path(path)
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = openat(&self.parent.fd, effective, flags, Mode::empty()).map_err(failed)?;
        let length = pread(&fd, &mut buffer, 0).map_err(failed)?;
        let value = str::from_utf8(&buffer[..length]).unwrap_or_default().trim_end().to_owned();
        let file = Cow::Owned(file.to_owned());
        self.set(&Setting { file, value, verify: Verify::No, absent: missing::KERNEL })
    }

    /// Has the kernel ask about every use of a device in it. Version 2.
    pub(super) fn attach_device_program(&self, program: &[BpfInstruction]) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&self.parent.fd, self.name.as_str(), flags, Mode::empty());
        let dir = dir.map_err(|errno| self.failed("opening", "", errno))?;
        sys::attach_device_program(&dir, program).map_err(|error| {
            Error::os(Step::Cgroup, "attaching the program of the device rules to the cgroup", error)
                .with_path(self.path())
                .with_hint("device rules of version 2 are a program, which takes CAP_SYS_ADMIN to attach: run as root")
        })
    }

    /// The text of a small control file; `None` if this kernel does not have it.
    pub(super) fn read<'b>(&self, file: &str, buffer: &'b mut [u8; 4096]) -> Result<Option<&'b str>> {
        let mut kept = self.kept.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner));
        let place = kept.as_ref().and_then(|kept| kept.iter().position(|(name, _)| name == file));
        let found = kept.as_ref().zip(place).and_then(|(kept, place)| kept.get(place));
        // One read is enough: kernfs hands out a whole file that fits the buffer, and all we read do.
        let read = if let Some((_, fd)) = found {
            pread(fd, buffer, 0)
        } else {
            let fd = match self.try_open(file, OFlag::O_RDONLY) {
                Err(Errno::ENOENT) => return Ok(None),
                opened => opened.map_err(|errno| self.failed("opening", file, errno))?,
            };
            let read = pread(&fd, buffer, 0);
            if let Some(kept) = &mut kept {
                kept.push((file.to_owned(), fd));
            }
            read
        };
        match read {
            Ok(length) => Ok(str::from_utf8(&buffer[..length]).ok()),
            // memory.peak and its like are there but not supported for some groups.
            Err(Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.failed("reading", file, errno)),
        }
    }

    /// From now on files that are read stay open.
    pub(super) fn keep_open(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The text of a control file that has a line for each device of the machine; `None` if this kernel does not have it.
    pub(super) fn read_all(&self, file: &str) -> Result<Option<String>> {
        let fd = match self.try_open(file, OFlag::O_RDONLY) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(|errno| self.failed("opening", file, errno))?,
        };
        let mut text = String::new();
        match File::from(fd).read_to_string(&mut text) {
            Ok(_) => Ok(Some(text)),
            Err(source) => {
                let path = self.path().join(file);
                Err(Error::os(Step::Cgroup, format!("reading {file}"), source).with_path(path))
            }
        }
    }

    /// A control file that holds one number.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>> {
        let mut buffer = [0; 4096];
        Ok(self.read(file, &mut buffer)?.and_then(|text| text.trim_end().parse().ok()))
    }

    /// The processes in it. A group that is gone has none.
    fn pids(&self) -> Result<Vec<Pid>, Errno> {
        let fd = match self.try_open("cgroup.procs", OFlag::O_RDONLY) {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut text = String::new();
        match File::from(fd).read_to_string(&mut text) {
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => return Ok(Vec::new()),
            Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
            Ok(_) => {}
        }
        Ok(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect())
    }

    /// Sends SIGKILL to what is in it now and says how many processes that were. Processes that fork meanwhile may
    /// get away: look again until there are none.
    pub(super) fn kill_round(&self) -> Result<usize, Errno> {
        let pids = self.pids()?;
        let mut result = Ok(pids.len());
        for pid in pids {
            // 0 stands for a process that our pid namespace cannot see, and would signal our own process group,
            // kill(2). Init and ourselves can only be here by mistake.
            if pid.as_raw() <= 1 || pid == Pid::this() {
                continue;
            }
            match kill(pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => result = Err(errno),
            }
        }
        result
    }

    /// The groups of programs in it. What others may have made there is not ours to remove.
    fn inner(&self) -> Vec<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut dir) = Dir::openat(&self.dir, ".", flags, Mode::empty()) else { return Vec::new() };
        let directories = dir.iter().flatten().filter(|entry| entry.file_type() == Some(Type::Directory));
        let names = directories.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let names: Vec<String> = names.filter(|name| is_name(name)).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let Ok(place) = Parent::of_group(self, Vec::new()) else { return Vec::new() };
        names.iter().filter_map(|name| Self::open(&place, name).ok()).collect()
    }

    /// Kills what is in it, and removes the groups of programs in it that are empty by now.
    pub(super) fn empty(&self) {
        self.kill_and_thaw();
        for inner in self.inner() {
            inner.kill_and_thaw();
            let _ = unlinkat(&inner.parent.fd, inner.name.as_str(), UnlinkatFlags::RemoveDir);
        }
    }

    fn kill_and_thaw(&self) {
        if self.kill_at_once().is_some() {
            return;
        }
        let _ = self.kill_round();
        if self.version() == Version::V1 {
            // Absent but in the freezer's hierarchy.
            let _ = self.write("freezer.state", "THAWED");
        }
    }

    /// Since Linux 5.14 a version 2 cgroup is killed in one step that no fork escapes; `None` if this one cannot.
    fn kill_at_once(&self) -> Option<Result<(), Errno>> {
        if self.version() == Version::V1 {
            return None;
        }
        match self.try_open("cgroup.kill", OFlag::O_WRONLY) {
            Ok(fd) => match write_whole(&fd, "1") {
                // Removed meanwhile: nothing is left in it.
                Err(Errno::ENODEV) => Some(Ok(())),
                written => Some(written),
            },
            Err(Errno::ENOENT) => None,
            Err(errno) => Some(Err(errno)),
        }
    }

    /// SIGKILL to every process in it. When it returns without error, nothing in it can go on running user code.
    #[cfg(test)]
    pub(super) fn kill(&self) -> Result<()> {
        if let Some(killed) = self.kill_at_once() {
            return killed.map_err(|errno| self.failed("writing 1 to", "cgroup.kill", errno));
        }
        // There is no race-free way in version 1, and no pidfd either: between reading a pid and killing it, the pid
        // could only be reused if the host ran through all its pids, which are handed out in turn, within microseconds.
        let mut left = 0;
        for round in 0..KILL_ROUNDS {
            left = self
                .kill_round()
                .map_err(|errno| self.failed("killing the processes in", "cgroup.procs", errno))?;
            if left == 0 {
                return Ok(());
            }
            sleep(pause(round));
        }
        let message = format!("{left} processes are still alive after {KILL_ROUNDS} rounds of SIGKILL");
        Err(Error::message(ErrorKind::Setup, Step::Cgroup, message).with_path(self.path()))
    }

    /// Kills what is in it and waits until that is gone.
    pub(super) fn finish(&self, patience: Duration) -> Result<()> {
        let failed = |errno| self.failed("killing the processes in", "cgroup.procs", errno);
        let deadline = Instant::now() + patience;
        for round in 0.. {
            // Of version 1 it says how many there are, and kills them.
            let left = match self.version() {
                Version::V1 => self.kill_round().map_err(failed)?,
                Version::V2 => self.pids().map_err(failed)?.len(),
            };
            if left == 0 {
                break;
            }
            if Instant::now() > deadline {
                let message = format!("{left} processes of a program that has ended do not die");
                return Err(Error::message(ErrorKind::Setup, Step::Cgroup, message)
                    .with_path(self.path())
                    .with_hint(
                        "they are frozen, or wait in the kernel for a device: `ps -eo pid,stat,wchan,comm`",
                    ));
            }
            if self.version() == Version::V2 && self.kill_at_once().is_none() {
                self.kill_round().map_err(failed)?;
            }
            sleep(pause(round));
        }
        Ok(())
    }

    /// Removes the directory, killing whatever holds it for at most `patience`. One that is gone is fine.
    pub(super) fn remove(&self, patience: Duration) -> Result<()> {
        let mut deadline = None;
        for round in 0.. {
            match self.try_remove() {
                Err(busy)
                    if is_busy(&busy)
                        && *deadline.get_or_insert_with(|| Instant::now() + patience) > Instant::now() =>
                {
                    self.empty();
                    sleep(pause(round));
                }
                done => return done,
            }
        }
        Ok(())
    }

    /// Removes the directory if nobody holds it. One that is gone is fine.
    pub(super) fn try_remove(&self) -> Result<()> {
        match unlinkat(&self.parent.fd, self.name.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os(Step::Cgroup, "removing a cgroup", errno).with_path(self.path())),
        }
    }
}

/// Whether a directory could not be removed because somebody is alive in it, or has just died: the kernel lets go of a
/// process a little after its parent could reap it.
pub(super) fn is_busy(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

impl Verify {
    fn holds(&self, taken: &str) -> bool {
        if let Self::List(_, wanted) = self {
            return taken.parse::<CpuSet>().is_ok_and(|taken| taken == *wanted);
        }
        let taken = match taken.parse() {
            Ok(number) => bounded(number),
            Err(_) if taken == "max" => None,
            Err(_) => return false,
        };
        match self {
            Self::No | Self::List(..) => true,
            Self::Count(wanted) => taken == *wanted,
            Self::Bytes(wanted) => match (wanted, taken) {
                (Some(wanted), Some(taken)) => taken <= *wanted && wanted - taken < page_size(),
                (None, None) => true,
                _ => false,
            },
        }
    }
}

/// What an errno means for some files.
fn refused(error: Error, file: &str, errno: Errno) -> Error {
    let hint = match (file, errno) {
        ("cpuset.cpus" | "cpuset.mems", Errno::EINVAL | Errno::EACCES | Errno::ENOSPC | Errno::ERANGE) => {
            "it is not among those that the cgroup above may use: see `nproc --all`, /sys/devices/system/cpu/online and \
             /sys/devices/system/node/online"
        }
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Errno::EBUSY) => {
            "more is in use than the new limit, and version 1 could not reclaim it"
        }
        ("devices.allow" | "devices.deny", Errno::EPERM) => {
            "the cgroup above does not allow the device itself, or the caller is not root"
        }
        (_, Errno::ENODEV) if file.starts_with("io.") || file.starts_with("blkio.") => {
            "limits are those of whole disks: see `lsblk`"
        }
        ("cpu.rt_runtime_us", Errno::EINVAL) => {
            "the cgroup above must have as much real-time runtime: write it to its cpu.rt_runtime_us first"
        }
        _ => return error,
    };
    error.with_hint(hint)
}

/// A control file takes its value in a single write(2).
fn write_whole(fd: &OwnedFd, value: &str) -> Result<(), Errno> {
    loop {
        match write(fd, value.as_bytes()) {
            // Version 1 gives up a memory limit when a signal is pending.
            Err(Errno::EINTR) => {}
            Ok(length) if length == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_page_rounding_is_accepted_of_bytes() {
        let holds = |wanted, taken: &str| Verify::Bytes(wanted).holds(taken);
        assert!(holds(Some(1 << 20), "1048576"));
        assert!(holds(Some((1 << 20) + 1), "1048576"));
        assert!(!holds(Some((1 << 20) + page_size()), "1048576"));
        assert!(!holds(Some((1 << 20) - 1), "1048576"), "more than was asked for");
        assert!(holds(None, "max"));
        assert!(holds(None, "9223372036854771712"), "how version 1 writes it");
        assert!(!holds(None, "1048576"));
        assert!(!holds(Some(1 << 20), "max"));
        assert!(!holds(Some(1 << 20), ""));
        assert!(!holds(None, "-1"));
    }

    #[test]
    fn counts_are_taken_exactly() {
        assert!(Verify::Count(Some(7)).holds("7"));
        assert!(!Verify::Count(Some(7)).holds("6"));
        assert!(!Verify::Count(Some(7)).holds("max"));
        assert!(Verify::Count(None).holds("max"));
    }
}
