//! Landlock: what a program may access, by rules that need no privilege and no namespace.
//!
//! [`Landlock`] is the vocabulary, `lower` turns it into the operations by which the init makes a ruleset when all mounts
//! are there, and each program is confined by it before the filter is installed. `guard` closes what the rules of ports
//! leave open, `within` puts rules inside of others.

mod access;
mod guard;
mod lower;
mod within;

use std::path::PathBuf;

pub use access::LandlockAccess;
pub(crate) use lower::{InForce, NEWEST_ABI, lower, missing_in, refuse_detours};

use crate::device::DEVICES;
use crate::rootfs::{SYSTEM_DIRS, SYSTEM_ETC};

/// Files of `/etc` that [`Landlock::system`] reads in addition to those of the system view, which has its own of them.
const NAMES_ETC: [&str; 3] = ["passwd", "group", "nsswitch.conf"];

/// What a program may access, by [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html).
///
/// The kernel checks the rules in addition to everything else: modes, owners, mounts, namespaces. They hold for the program
/// and all that it starts, and nobody can take them off again. Landlock needs no privilege and no namespace, which makes
/// it the confinement for a host where namespaces are forbidden; in a sandbox with a root filesystem of its own the rules
/// are about that.
///
/// [`Landlock::new`] is closed: no file, no TCP, no abstract socket and no process outside can be reached. Each call
/// allows something. [`Landlock::bare`] is open, and each call denies something or allows it again. What is allowed twice
/// is allowed; no rule takes away what another gives.
///
/// # Paths
///
/// They are paths inside the sandbox, looked up once for each sandbox, when its mounts are made and before a program runs.
/// A rule is for the file or directory that is there then, and for all below it, whatever it is called later. A path that
/// is not there is an error of kind [`NotFound`](crate::ErrorKind::NotFound) when the sandbox is spawned.
///
/// No symlink is followed, neither at the end of a path nor in it, and one is an error: in a directory that programs write
/// to, it would be a program that decides what the next one may access. Name what it leads to. A rule for `/usr` is
/// enough for `/bin/sh` where `/bin` is a symlink into it.
///
/// # What is not denied
///
/// Landlock looks at the opening of files and not at descriptors that are open: streams and
/// [kept descriptors](crate::Command::keep_fd) go on working. No ABI denies looking at names and modes (`stat(2)`,
/// `readlink(2)`, `access(2)`, `chdir(2)`), changing modes, owners, times and attributes of files that the program owns, or
/// locks; a Unix socket with a path is out of reach from ABI 9 on only. Of the network, TCP is all that it knows: `listen(2)`
/// on a socket that is not bound still gets a port, and UDP is as free as it was. A [network namespace] has no such gaps.
///
/// Where TCP is restricted, a filter goes with the rules, as part of that of [`Sandbox::seccomp`](crate::Sandbox::seccomp) or
/// without one alone, for landlock does not see all ways to connect:
/// `MSG_FASTOPEN`, MPTCP, SMC and io_uring fail as on a kernel that lacks them, and a system call of a foreign ABI kills
/// the process.
///
/// # ABI
///
/// What landlock can deny depends on the kernel. A policy is for one [ABI](Landlock::abi), and denies the same on every
/// kernel that has it. An older kernel is an error when the sandbox is planned, unless
/// [`best_effort`](crate::Sandbox::best_effort) names [`Feature::Landlock`](crate::Feature::Landlock): then what the kernel
/// has is in force, and [`Outcome::enforced`](crate::Outcome::enforced) lists the feature as skipped, with what is missing.
///
/// [network namespace]: crate::Sandbox::net_ns
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Landlock, Sandbox};
///
/// // May use the system's programs, read its job, write its result and ask one server.
/// let rules = Landlock::new().system().read("/srv/job").write("/srv/job/out").connect_tcp(5432);
/// let outcome = Sandbox::bare().landlock(rules).status(Command::new("/srv/job/run"))?;
/// # drop(outcome);
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "rules do nothing until a Sandbox has them"]
pub struct Landlock {
    pub(crate) abi: u32,
    /// Files are denied where no rule allows them.
    pub(crate) files: bool,
    pub(crate) tcp: Denial,
    pub(crate) abstract_sockets: Denial,
    pub(crate) signals: Denial,
    pub(crate) paths: Vec<PathRule>,
    pub(crate) ports: Vec<PortRule>,
}

/// Whether something is denied. The later one is the one that counts when rules are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Denial {
    No,
    /// As everything is, if the ABI of the policy has it.
    WithTheRest,
    /// A call named it.
    Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathRule {
    pub(crate) path: PathBuf,
    pub(crate) access: LandlockAccess,
    /// Not every system has it.
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRule {
    pub(crate) port: u16,
    pub(crate) call: PortCall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortCall {
    Bind,
    Connect,
}

/// What [`Landlock::new`] is a policy for: the ABI that can deny all that the calls below name.
pub(crate) const DEFAULT_ABI: u32 = 6;

impl Default for Landlock {
    fn default() -> Self {
        Self::new()
    }
}

impl Landlock {
    /// Denies everything that ABI 6 can deny: all access to files, TCP, abstract Unix sockets of others, signals to
    /// others. Needs Linux 6.12; [`abi`](Landlock::abi) makes it a policy for less.
    ///
    /// The program itself is executed under the rules, so at least one of them must allow that.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Landlock;
    ///
    /// let nothing_but_the_system = Landlock::new().system();
    /// # let _ = nothing_but_the_system;
    /// ```
    pub fn new() -> Self {
        Self {
            files: true,
            tcp: Denial::WithTheRest,
            abstract_sockets: Denial::WithTheRest,
            signals: Denial::WithTheRest,
            ..Self::bare()
        }
    }

    /// Denies nothing until a call below says so. The first rule about files denies all other access to files.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Landlock, Sandbox};
    ///
    /// // The host's network, but not the abstract sockets that listen there.
    /// let rules = Landlock::bare().scope_abstract_sockets();
    /// let sandbox = Sandbox::new().share_net().landlock(rules);
    /// # let _ = sandbox;
    /// ```
    pub fn bare() -> Self {
        Self {
            abi: DEFAULT_ABI,
            files: false,
            tcp: Denial::No,
            abstract_sockets: Denial::No,
            signals: Denial::No,
            paths: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Makes it a policy for this ABI, 1 to 9: nothing is denied that needs a newer one, not even on a kernel that has it.
    ///
    /// | ABI | Linux | what it can deny, in addition to the one before |
    /// |---|---|---|
    /// | 1 | 5.13 | the rights of [`LandlockAccess`] where nothing else is said; renaming and linking to another directory is always denied |
    /// | 2 | 5.19 | [`REFER`](LandlockAccess::REFER), so that it can be allowed |
    /// | 3 | 6.2 | [`TRUNCATE`](LandlockAccess::TRUNCATE): before, files that may only be read can be emptied |
    /// | 4 | 6.7 | TCP |
    /// | 5 | 6.10 | [`IOCTL_DEV`](LandlockAccess::IOCTL_DEV) |
    /// | 6 | 6.12 | abstract Unix sockets and signals |
    /// | 9 | 7.1 | [`RESOLVE_UNIX`](LandlockAccess::RESOLVE_UNIX) |
    ///
    /// # Errors
    ///
    /// Another number, and one that is too low for a call that names TCP, sockets or signals, are
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) when the sandbox is planned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Landlock;
    ///
    /// // For Debian 12, whose kernel is 6.1: what may be read can be emptied as well, unless modes or mounts forbid it.
    /// let rules = Landlock::new().abi(2).system();
    /// # let _ = rules;
    /// ```
    pub fn abi(mut self, abi: u32) -> Self {
        self.abi = abi;
        self
    }

    /// Allows reading files and listing directories at this path and below.
    pub fn read(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, LandlockAccess::READ)
    }

    /// Allows everything that changes files and directories at this path and below:
    /// [`LandlockAccess::WRITE`]. Reading is not part of it.
    pub fn write(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, LandlockAccess::WRITE)
    }

    /// Allows executing programs at this path and below, and reading, without which the kernel executes nothing.
    pub fn execute(self, path: impl Into<PathBuf>) -> Self {
        self.rule(path, LandlockAccess::EXECUTE | LandlockAccess::READ)
    }

    /// Allows exactly these rights at this path and below. On a file, those count that a file can have.
    ///
    /// # Errors
    ///
    /// A relative path, and rights that the [ABI](Landlock::abi) of the policy cannot deny, are
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) when the sandbox is planned. A path that is not there, that leads
    /// through a symlink, or that is a file and the rights are all of directories, is an error of
    /// [`Step::Landlock`](crate::Step::Landlock) when it is spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Landlock, LandlockAccess};
    ///
    /// let terminal = LandlockAccess::READ | LandlockAccess::WRITE_FILE | LandlockAccess::IOCTL_DEV;
    /// let rules = Landlock::new().system().rule("/dev/tty", terminal);
    /// # let _ = rules;
    /// ```
    pub fn rule(mut self, path: impl Into<PathBuf>, access: LandlockAccess) -> Self {
        self.files = true;
        self.paths.push(PathRule { path: path.into(), access, optional: false });
        self
    }

    /// Allows what dynamic programs need of a system: executing below `/usr`, `/bin`, `/sbin` and `/lib*`, where these are
    /// directories and no symlinks; reading the linker's cache, user names and the few other files of `/etc` that a C
    /// library opens; reading and writing `/dev/null`, `zero`, `full`, `random`, `urandom` and `tty`. What of that a system
    /// lacks is passed over. Neither `/proc` nor `/tmp` is part of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Landlock;
    ///
    /// let rules = Landlock::new().system().read("/proc");
    /// # let _ = rules;
    /// ```
    pub fn system(mut self) -> Self {
        let run = LandlockAccess::EXECUTE | LandlockAccess::READ;
        let use_device = LandlockAccess::READ | LandlockAccess::WRITE_FILE;
        let dirs = SYSTEM_DIRS.iter().map(|name| (format!("/{name}"), run));
        let etc =
            SYSTEM_ETC.iter().chain(&NAMES_ETC).map(|name| (format!("/etc/{name}"), LandlockAccess::READ));
        let devices = DEVICES.iter().map(|(name, ..)| (format!("/dev/{name}"), use_device));
        self.files = true;
        let rules = dirs.chain(etc).chain(devices);
        self.paths.extend(rules.map(|(path, access)| PathRule { path: path.into(), access, optional: true }));
        self
    }

    /// Denies binding and connecting TCP sockets. ABI 4, Linux 6.7.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Landlock;
    ///
    /// let no_tcp = Landlock::bare().restrict_tcp();
    /// # let _ = no_tcp;
    /// ```
    pub fn restrict_tcp(mut self) -> Self {
        self.tcp = Denial::Asked;
        self
    }

    /// Allows binding TCP sockets to this local port, and [denies](Landlock::restrict_tcp) what no such call allows.
    /// 0 is a port that the kernel chooses, whichever it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Landlock;
    ///
    /// let server = Landlock::new().system().bind_tcp(8080);
    /// # let _ = server;
    /// ```
    pub fn bind_tcp(self, port: u16) -> Self {
        self.port(port, PortCall::Bind)
    }

    /// Allows connecting TCP sockets to this port of any host, and [denies](Landlock::restrict_tcp) what no such call
    /// allows.
    pub fn connect_tcp(self, port: u16) -> Self {
        self.port(port, PortCall::Connect)
    }

    fn port(mut self, port: u16, call: PortCall) -> Self {
        self.ports.push(PortRule { port, call });
        self.restrict_tcp()
    }

    /// Denies connecting and sending to abstract Unix sockets (`unix(7)`) that were made outside the sandbox, by another
    /// program of the same container too. ABI 6, Linux 6.12.
    pub fn scope_abstract_sockets(mut self) -> Self {
        self.abstract_sockets = Denial::Asked;
        self
    }

    /// Denies signals to processes that are not descendants of the program, to another program of the same container
    /// too. ABI 6, Linux 6.12.
    pub fn scope_signals(mut self) -> Self {
        self.signals = Denial::Asked;
        self
    }

    pub(crate) fn scopes_signals(&self) -> bool {
        self.signals != Denial::No
    }

    /// Gives away TCP, to all ports.
    pub fn share_tcp(mut self) -> Self {
        self.tcp = Denial::No;
        self.ports.clear();
        self
    }

    /// Gives away abstract Unix sockets.
    pub fn share_abstract_sockets(mut self) -> Self {
        self.abstract_sockets = Denial::No;
        self
    }

    /// Gives away signals.
    pub fn share_signals(mut self) -> Self {
        self.signals = Denial::No;
        self
    }
}
