//! The options: nearly each is one call of [`Sandbox`].

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;

use belljar::{
    Bytes, Command, CpuMax, Feature, Landlock, Mount, Rootfs, Sandbox, Seccomp, Stdio, Upper, UserMap,
};

use crate::access;
use crate::arguments::{Arguments, Word};
use crate::policy::{self, Policy};
use crate::schedule;
use crate::value::{self, Parsed};

pub(crate) const USAGE: &str = include_str!("usage.txt");

/// What a tmpfs upper layer holds unless a size is given, and how many files it holds.
const UPPER_SIZE: Bytes = Bytes::mib(256);
const UPPER_INODES: u64 = 65_536;

/// What the command line asks for.
pub(crate) enum Request {
    Help,
    /// Print the policy, and do nothing.
    Policy(Box<Sandbox>),
    Run(Box<Run>),
}

pub(crate) struct Run {
    pub(crate) sandbox: Sandbox,
    pub(crate) command: Command,
    /// The budget of stdout and stderr together.
    pub(crate) output: Option<Bytes>,
    pub(crate) report: Option<PathBuf>,
    /// Print what would be done, and do nothing.
    pub(crate) plan_only: bool,
}

/// A call that an option stands for.
type Setting = Box<dyn FnOnce(Sandbox) -> Sandbox>;

/// Options as they come; what depends on several of them is put together at the end.
#[derive(Default)]
struct Options {
    bare: bool,
    policy: Option<Policy>,
    print_policy: bool,
    root: Option<Root>,
    upper: Option<OsString>,
    work: Option<PathBuf>,
    share: Vec<Share>,
    map: Option<UserMap>,
    uid: Option<u32>,
    gid: Option<u32>,
    root_user: bool,
    hostname: Option<OsString>,
    landlock: Option<Landlock>,
    /// Everything that stands for itself, in the order of the command line.
    settings: Vec<Setting>,
    chdir: Option<OsString>,
    keep_fds: Vec<RawFd>,
    output: Option<Bytes>,
    report: Option<PathBuf>,
    plan_only: bool,
}

enum Root {
    Dir(PathBuf),
    Overlay(Vec<PathBuf>),
    Empty,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    Net,
    Pid,
    Ipc,
    Uts,
    Cgroup,
    Time,
    User,
}

/// Reads a command line, without the program's own name; an error is one line for whoever wrote it.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = Arguments::new(words);
    let mut options = Options::default();
    while let Some(word) = arguments.next()? {
        match word {
            Word::Option(name) if name == "help" => return Ok(Request::Help),
            Word::Option(name) => {
                options.take(&name, &mut arguments).map_err(|problem| format!("--{name} {problem}"))?;
            }
            Word::End => {
                let mut rest = arguments.rest();
                let program = rest.next().ok_or("no program after --")?;
                let mut command = Command::new(program);
                command.args(rest).stdin(Stdio::inherit());
                let print = options.print_policy;
                let run = options.finish(command)?;
                return Ok(match print {
                    true => Request::Policy(Box::new(run.sandbox)),
                    false => Request::Run(Box::new(run)),
                });
            }
        }
    }
    if options.print_policy {
        // A policy is for any program.
        return Ok(Request::Policy(Box::new(options.finish(Command::new("/"))?.sandbox)));
    }
    Err("no program; it comes after --".to_owned())
}

impl Options {
    /// Takes one option, with its value if it has one.
    fn take<I>(&mut self, name: &str, arguments: &mut Arguments<I>) -> Result<(), String>
    where
        I: Iterator<Item = OsString>,
    {
        match name {
            "bare" => self.bare = true,
            "policy" => self.policy = Some(policy::read(&arguments.value()?)?),
            "print-policy" => self.print_policy = true,
            "rootfs" => self.set_root(Root::Dir(arguments.parsed(value::host_path)?))?,
            "overlay" => self.set_root(Root::Overlay(arguments.parsed(value::host_paths)?))?,
            "empty" => self.set_root(Root::Empty)?,
            "upper" => self.upper = Some(arguments.value()?),
            "work" => self.work = Some(arguments.parsed(value::host_path)?),
            "ro" => {
                let (source, target) = arguments.parsed(value::bind)?;
                self.mount(Mount::bind(source, target));
            }
            "rw" => {
                let (source, target) = arguments.parsed(value::bind)?;
                self.mount(Mount::bind_writable(source, target));
            }
            "tmpfs" => {
                let (target, size) = arguments.parsed(value::sized)?;
                let mount = Mount::tmpfs(target);
                self.mount(match size {
                    Some(size) => mount.size(size),
                    None => mount,
                });
            }
            "proc" => self.mount(Mount::proc("/proc").full()),
            "share" => self.share.push(arguments.parsed(share)?),
            "uid" => self.uid = Some(arguments.parsed(value::number)?),
            "gid" => self.gid = Some(arguments.parsed(value::number)?),
            "map" => {
                let (inside, outside, count) = arguments.parsed(value::extent)?;
                let map = self.map.take().unwrap_or_else(UserMap::new);
                self.map = Some(map.ids(inside, outside, count));
            }
            "root" => self.root_user = true,
            "hostname" => self.hostname = Some(arguments.value()?),
            "chdir" => self.chdir = Some(arguments.value()?),
            "env" => {
                let (key, value) = arguments.parsed(value::variable)?;
                self.set(move |sandbox| sandbox.env(key, value));
            }
            "keep-env" => self.set(Sandbox::inherit_env),
            "keep-fd" => self.keep_fds.push(arguments.parsed(open_descriptor)?),
            "memory" => {
                let size = arguments.parsed(value::size)?;
                self.set(move |sandbox| sandbox.memory_max(size));
            }
            "swap" => {
                let size = arguments.parsed(value::size)?;
                self.set(move |sandbox| sandbox.swap_max(size));
            }
            "pids" => {
                let count = arguments.parsed(value::number)?;
                self.set(move |sandbox| sandbox.pids_max(count));
            }
            "cpus" => {
                let max = CpuMax::cpus(arguments.parsed(value::decimal)?);
                self.set(move |sandbox| sandbox.cpu_max(max));
            }
            "cpu-time" => {
                let limit = arguments.parsed(value::duration)?;
                self.set(move |sandbox| sandbox.cpu_time(limit));
            }
            "wall" => {
                let limit = arguments.parsed(value::duration)?;
                self.set(move |sandbox| sandbox.wall_time(limit));
            }
            "idle" => {
                let limit = arguments.parsed(value::duration)?;
                self.set(move |sandbox| sandbox.idle_time(limit));
            }
            "output" => {
                let budget = arguments.parsed(value::size)?;
                self.output = Some(budget);
                self.set(move |sandbox| sandbox.output_max(budget));
            }
            "rlimit" => {
                let (resource, soft, hard) = arguments.parsed(value::rlimit)?;
                self.set(move |sandbox| sandbox.rlimit(resource, soft, hard));
            }
            "nice" => {
                let nice = arguments.parsed(value::number)?;
                self.set(move |sandbox| sandbox.nice(nice));
            }
            "sched" => {
                let scheduler = arguments.parsed(schedule::scheduler)?;
                self.set(move |sandbox| sandbox.scheduler(scheduler));
            }
            "ioprio" => {
                let priority = arguments.parsed(schedule::io_priority)?;
                self.set(move |sandbox| sandbox.io_priority(priority));
            }
            "cpu-list" => {
                let processors = arguments.parsed(schedule::processors)?;
                self.set(move |sandbox| sandbox.cpu_affinity(processors));
            }
            "deterministic" => self.set(Sandbox::deterministic),
            "cap" => {
                let name = arguments.parsed(value::text)?;
                self.set(move |sandbox| sandbox.keep_capability(name));
            }
            "seccomp" => match arguments.parsed(value::text)?.as_str() {
                "default" => self.set(|sandbox| sandbox.seccomp(Seccomp::new())),
                "none" => self.set(Sandbox::allow_all_syscalls),
                other => return Err(format!("{other:?} is neither default nor none")),
            },
            "landlock" => {
                let rules = self.landlock.take().unwrap_or_default();
                self.landlock = Some(arguments.parsed(|text| access::rule(rules, text))?);
            }
            "apparmor" => {
                let profile = arguments.parsed(value::text)?;
                self.set(move |sandbox| sandbox.apparmor(profile));
            }
            "selinux" => {
                let context = arguments.parsed(value::text)?;
                self.set(move |sandbox| sandbox.selinux(context));
            }
            "best-effort" => {
                let feature = arguments.parsed(feature)?;
                self.set(move |sandbox| sandbox.best_effort(feature));
            }
            "plan" => self.plan_only = true,
            "report" => self.report = Some(arguments.value()?.into()),
            _ => return Err("is no option; see --help".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, setting: impl FnOnce(Sandbox) -> Sandbox + 'static) {
        self.settings.push(Box::new(setting));
    }

    fn mount(&mut self, mount: Mount) {
        self.set(move |sandbox| sandbox.mount(mount));
    }

    fn set_root(&mut self, root: Root) -> Result<(), String> {
        match self.root.replace(root) {
            None => Ok(()),
            Some(_) => Err("is a second root: give one of --rootfs, --overlay and --empty, once".to_owned()),
        }
    }

    /// Puts the sandbox together.
    fn finish(self, mut command: Command) -> Result<Run, String> {
        let own_ids =
            !self.share.contains(&Share::User) && (!self.bare || self.map.is_some() || self.root_user);
        let (mut sandbox, output_max, of_file) = match self.policy {
            Some(_) if self.bare => {
                return Err("--bare contradicts --policy; the file says it by preset = \"bare\"".to_owned());
            }
            Some(Policy { sandbox, output_max }) => (sandbox, output_max, true),
            None if self.bare => (Sandbox::bare(), None, false),
            None => (Sandbox::new(), None, false),
        };
        for share in &self.share {
            sandbox = share.apply(sandbox);
        }
        if self.share.contains(&Share::User) && (self.map.is_some() || self.root_user) {
            return Err("--share user contradicts --map and --root".to_owned());
        }
        if let Some(map) = self.map {
            sandbox = sandbox.user_map(map);
        }
        sandbox = match (self.root_user, self.uid, self.gid) {
            (true, None, None) => sandbox.root(),
            (true, _, _) => return Err("--root is --uid 0 --gid 0; give one or the other".to_owned()),
            (false, None, None) => sandbox,
            // What the other one is by default depends on the file.
            (false, None, _) | (false, _, None) if of_file => {
                return Err("with --policy, --uid and --gid go together".to_owned());
            }
            (false, uid, gid) => {
                let (default_uid, default_gid) = if own_ids {
                    (1000, 1000)
                } else {
                    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
                };
                sandbox.user(uid.unwrap_or(default_uid), gid.unwrap_or(default_gid))
            }
        };
        if let Some(name) = self.hostname {
            if self.share.contains(&Share::Uts) {
                return Err("--share uts contradicts --hostname".to_owned());
            }
            sandbox = sandbox.hostname(name);
        }
        sandbox = with_root(sandbox, self.root, self.upper, self.work)?;
        for setting in self.settings {
            sandbox = setting(sandbox);
        }
        if let Some(rules) = self.landlock {
            sandbox = sandbox.landlock(rules);
        }
        if let Some(dir) = self.chdir {
            command.current_dir(dir);
        }
        for number in self.keep_fds {
            keep_fd(&mut command, number);
        }
        let output = self.output.or(output_max);
        Ok(Run { sandbox, command, output, report: self.report, plan_only: self.plan_only })
    }
}

/// The root filesystem, with a minimal `/dev` where there is a place for it.
fn with_root(
    sandbox: Sandbox,
    root: Option<Root>,
    upper: Option<OsString>,
    work: Option<PathBuf>,
) -> Result<Sandbox, String> {
    let is_overlay = matches!(root, Some(Root::Overlay(_)));
    let (rootfs, has_dev) = match root {
        None => (None, false),
        Some(Root::Empty) => (Some(Rootfs::empty()), true),
        Some(Root::Dir(path)) => {
            // Nothing can be made in a directory of the host, and a link is not followed.
            let has_dev = path.join("dev").symlink_metadata().is_ok_and(|dev| dev.is_dir());
            (Some(Rootfs::dir(path)), has_dev)
        }
        Some(Root::Overlay(layers)) => (Some(Rootfs::overlay(layers)), true),
    };
    let upper = match (upper, work) {
        (None, None) => None,
        (None, Some(_)) => return Err("--work goes with --upper DIR".to_owned()),
        (Some(_), _) if !is_overlay => return Err("--upper goes with --overlay".to_owned()),
        (Some(upper), work) => Some(upper_layer(&upper, work)?),
    };
    let rootfs = match (rootfs, upper) {
        (Some(rootfs), Some(upper)) => Some(rootfs.upper(upper)),
        (rootfs, _) => rootfs,
    };
    let sandbox = match rootfs {
        Some(rootfs) => sandbox.rootfs(rootfs),
        None => sandbox,
    };
    Ok(if has_dev { sandbox.mount(Mount::dev("/dev")) } else { sandbox })
}

/// `tmpfs[:SIZE]`, or a directory with another for overlayfs' own use.
fn upper_layer(text: &OsStr, work: Option<PathBuf>) -> Result<Upper, String> {
    let wrong = |problem| format!("--upper {text:?} {problem}");
    if let Some(work) = work {
        return Ok(Upper::dir(value::host_path(text).map_err(wrong)?, work).into());
    }
    match value::sized(text).map_err(wrong)? {
        (name, size) if name == "tmpfs" => Ok(Upper::tmpfs(size.unwrap_or(UPPER_SIZE), UPPER_INODES)),
        _ => Err(wrong("is not tmpfs[:SIZE]; a directory needs --work DIR")),
    }
}

impl Share {
    fn apply(self, sandbox: Sandbox) -> Sandbox {
        match self {
            Self::Net => sandbox.share_net(),
            Self::Pid => sandbox.share_pid(),
            Self::Ipc => sandbox.share_ipc(),
            Self::Uts => sandbox.share_uts(),
            Self::Cgroup => sandbox.share_cgroup(),
            Self::Time => sandbox.share_time(),
            Self::User => sandbox.share_user(),
        }
    }
}

fn share(text: &OsStr) -> Parsed<Share> {
    Ok(match text.to_str() {
        Some("net") => Share::Net,
        Some("pid") => Share::Pid,
        Some("ipc") => Share::Ipc,
        Some("uts") => Share::Uts,
        Some("cgroup") => Share::Cgroup,
        Some("time") => Share::Time,
        Some("user") => Share::User,
        _ => return Err("is none of net, pid, ipc, uts, cgroup, time and user"),
    })
}

fn feature(text: &OsStr) -> Parsed<Feature> {
    text.to_str().and_then(Feature::from_name).ok_or("names no feature; the report lists them")
}

/// The number of a descriptor that this process was started with.
fn open_descriptor(text: &OsStr) -> Parsed<RawFd> {
    let number: RawFd = value::number(text)?;
    let path = format!("/proc/self/fd/{number}");
    std::fs::symlink_metadata(path).map(|_| number).map_err(|_| "is no open descriptor")
}

fn keep_fd(command: &mut Command, number: RawFd) {
    // SAFETY: `open_descriptor` found it open; it came with the process and nothing here closes it. It is not -1,
    // which is no name below /proc/self/fd.
    #[expect(unsafe_code, reason = "the standard library has no safe way to name an inherited descriptor")]
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    command.keep_fd(fd, number.unsigned_abs());
}
