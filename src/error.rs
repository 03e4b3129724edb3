//! The one error type of the crate: what failed, at which step, on which object, and what to do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a sandbox could not be planned, set up, or observed.
///
/// An `Error` never describes what the program inside did: that is an [`Outcome`](crate::Outcome). The two share
/// no number space, so a missing program is an error of kind [`ErrorKind::Exec`] and never "exit code 127".
///
/// The text is lowercase, names the object, and does not repeat its [`source`](std::error::Error::source);
/// [`hint`](Error::hint) says what to run or change. Both are one line each: control characters in a name are escaped.
///
/// # Examples
///
/// ```
/// use belljar::{Command, ErrorKind, Sandbox};
///
/// let error = Sandbox::new().spawn(Command::new("/no/such/program")).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Exec);
/// assert_eq!(error.raw_os_error(), Some(2)); // ENOENT
/// ```
#[expect(clippy::error_impl_error, reason = "the one error of a crate, named as std::io names its own")]
pub struct Error(Box<Repr>);

/// What class of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The policy or the command contradicts itself or names something that does not exist; nothing was started.
    InvalidConfig,
    /// The kernel, or the way it is configured, lacks a feature that was required.
    Unsupported,
    /// The kernel has the feature but this process may not use it.
    PermissionDenied,
    /// A file, directory or program of the host that the policy names does not exist, a name has no address, or a sandbox that
    /// is joined has ended.
    NotFound,
    /// The host ran out of file descriptors, processes, memory or ids.
    ResourceExhausted,
    /// A step of the setup failed for another reason; [`Error::step`] says which.
    Setup,
    /// Everything was set up but the program could not be executed.
    Exec,
    /// An image or an archive is damaged, does not have the digest that it is named by, or holds what no layer may.
    InvalidImage,
    /// An image, a copy, a directory or a list is larger than the caller allows, or than is ever read.
    LimitExceeded,
    /// belljar itself broke a promise: a malformed message, a helper that vanished. Please report it.
    Internal,
}

/// The step of a spawn, or of work on layers and images, at which an [`Error`] arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Checking and lowering the policy, before anything was started.
    Plan,
    /// Reserving a block of host user ids.
    IdBlock,
    /// Making, limiting, reading or removing the cgroup.
    Cgroup,
    /// Preparing file descriptors, sockets and memfds in the host.
    Prepare,
    /// Creating the namespaces with `clone3(2)`.
    Clone,
    /// Making the sandbox's network: its interface, its addresses, its rules.
    Network,
    /// Entering namespaces of another sandbox with `setns(2)`.
    JoinNs,
    /// Executing the sandbox's init program, and what that does for itself before anything of the plan.
    Init,
    /// Writing the user and group id maps.
    IdMap,
    /// Opening or cloning the source of a mount.
    MountSource,
    /// Talking to the sandbox's init.
    Handshake,
    /// Making the mounts of the new namespace private.
    Propagation,
    /// Mounting the new root.
    Root,
    /// Mounting something below the new root.
    Mount,
    /// Creating a file, directory or symlink below the new root.
    File,
    /// Masking a path or making it read-only.
    Mask,
    /// Making the new root the root, and letting go of the old one.
    PivotRoot,
    /// Setting the host name or domain name.
    Hostname,
    /// Bringing up the loopback interface.
    Loopback,
    /// Setting the clock offsets of the time namespace.
    TimeOffsets,
    /// Unsharing the cgroup namespace.
    CgroupNs,
    /// Creating the process that becomes the program.
    Fork,
    /// Placing the program in its cgroup.
    Join,
    /// Making the program the leader of a session of its own.
    Session,
    /// Setting a resource limit.
    Rlimit,
    /// Fixing the addresses that the kernel chooses at random.
    Addresses,
    /// Setting policy, nice value, I/O priority or processors.
    Scheduling,
    /// Setting user, group and supplementary group ids.
    Ids,
    /// Dropping or keeping capabilities.
    Capabilities,
    /// Setting `no_new_privs`.
    NoNewPrivs,
    /// Reading the final privileges back.
    Verify,
    /// Placing stdin, stdout, stderr and kept file descriptors.
    Stdio,
    /// Entering the working directory.
    Chdir,
    /// Closing every other file descriptor.
    CloseFds,
    /// Setting the label of a security module.
    Label,
    /// Making a ruleset of landlock, and confining the program by it.
    Landlock,
    /// The session keyring.
    Keyring,
    /// Core scheduling.
    CoreScheduling,
    /// Installing the seccomp filter.
    Seccomp,
    /// `execve(2)` of the program.
    Exec,
    /// Waiting for a container of a pool.
    Pool,
    /// Waiting for the program.
    Wait,
    /// Sending a signal.
    Signal,
    /// Copying a file into a running sandbox or out of it.
    Copy,
    /// Reading what a sandbox has changed in its root filesystem.
    Changes,
    /// Reading or changing the store of layers.
    Store,
    /// Reading, unpacking or writing an image.
    Image,
    /// Making, finding or removing a writable root in a storage.
    Storage,
}

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("{message}")]
    Message {
        kind: ErrorKind,
        step: Step,
        message: Cow<'static, str>,
        path: Option<PathBuf>,
        hint: Option<Cow<'static, str>>,
    },
    #[error("{what} failed")]
    Os {
        kind: ErrorKind,
        step: Step,
        what: Cow<'static, str>,
        path: Option<PathBuf>,
        hint: Option<Cow<'static, str>>,
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match *self.0 {
            Repr::Message { kind, .. } | Repr::Os { kind, .. } => kind,
        }
    }

    /// The step at which it arose.
    #[must_use]
    pub fn step(&self) -> Step {
        match *self.0 {
            Repr::Message { step, .. } | Repr::Os { step, .. } => step,
        }
    }

    /// The path it is about, if it is about one. For steps inside the sandbox it is the path inside.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &*self.0 {
            Repr::Message { path, .. } | Repr::Os { path, .. } => path.as_deref(),
        }
    }

    /// The `errno` of the system call that failed, if one did. See `errno(3)`.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match &*self.0 {
            Repr::Message { .. } => None,
            Repr::Os { source, .. } => source.raw_os_error(),
        }
    }

    /// What to run or change so that it works, where that is known.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Sandbox};
    ///
    /// if let Err(error) = Sandbox::new().memory_max(Bytes::mib(64)).plan() {
    ///     println!("{error}");
    ///     if let Some(hint) = error.hint() {
    ///         println!("to mend it: {hint}");
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match &*self.0 {
            Repr::Message { hint, .. } | Repr::Os { hint, .. } => hint.as_deref(),
        }
    }

    /// A policy or command that contradicts itself.
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::message(ErrorKind::InvalidConfig, Step::Plan, message)
    }

    /// A promise of our own that was broken.
    pub(crate) fn internal(step: Step, message: impl Into<Cow<'static, str>>) -> Self {
        Self::message(ErrorKind::Internal, step, message)
    }

    pub(crate) fn message(kind: ErrorKind, step: Step, message: impl Into<Cow<'static, str>>) -> Self {
        let message = one_line(message.into());
        Self(Box::new(Repr::Message { kind, step, message, path: None, hint: None }))
    }

    /// A system call that failed; the kind follows from the errno. `what` names the act and its object
    /// ("mounting tmpfs on /tmp") and reads well before " failed".
    pub(crate) fn os(step: Step, what: impl Into<Cow<'static, str>>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let (kind, what) = (kind_of(&source), one_line(what.into()));
        Self(Box::new(Repr::Os { kind, step, what, path: None, hint: None, source }))
    }

    /// The same error once more, for another who has to be told.
    pub(crate) fn again(&self) -> Self {
        Self(Box::new(match &*self.0 {
            Repr::Message { kind, step, message, path, hint } => Repr::Message {
                kind: *kind,
                step: *step,
                message: message.clone(),
                path: path.clone(),
                hint: hint.clone(),
            },
            Repr::Os { kind, step, what, path, hint, source } => Repr::Os {
                kind: *kind,
                step: *step,
                what: what.clone(),
                path: path.clone(),
                hint: hint.clone(),
                source: match source.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
        }))
    }

    pub(crate) fn with_kind(mut self, new: ErrorKind) -> Self {
        match &mut *self.0 {
            Repr::Message { kind, .. } | Repr::Os { kind, .. } => *kind = new,
        }
        self
    }

    pub(crate) fn with_path(mut self, new: impl Into<PathBuf>) -> Self {
        match &mut *self.0 {
            Repr::Message { path, .. } | Repr::Os { path, .. } => *path = Some(new.into()),
        }
        self
    }

    pub(crate) fn with_hint(mut self, new: impl Into<Cow<'static, str>>) -> Self {
        match &mut *self.0 {
            Repr::Message { hint, .. } | Repr::Os { hint, .. } => *hint = Some(one_line(new.into())),
        }
        self
    }
}

/// The text with its control characters escaped. Names of files and words of documents are somebody else's: they must not
/// make a second line of a log, or say something to a terminal.
pub(crate) fn one_line<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if !text.contains(char::is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

fn kind_of(source: &io::Error) -> ErrorKind {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::EROFS) => ErrorKind::PermissionDenied,
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENODEV) => ErrorKind::Unsupported,
        Some(libc::ENOENT | libc::ENOTDIR) => ErrorKind::NotFound,
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::EAGAIN
            | libc::ENOSPC
            | libc::EDQUOT
            | libc::EUSERS
            | libc::ENOBUFS,
        ) => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Setup,
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_word_and_thread_safe() {
        fn shareable<T: Send + Sync + 'static>() {}
        shareable::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn text_never_repeats_the_source() {
        let error =
            Error::os(Step::Mount, "mounting tmpfs on /tmp", io::Error::from_raw_os_error(libc::EPERM))
                .with_path("/tmp")
                .with_hint("run as root");
        assert_eq!(error.to_string(), "mounting tmpfs on /tmp failed");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.step(), Step::Mount);
        assert_eq!(error.path(), Some(Path::new("/tmp")));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(error.hint(), Some("run as root"));
        let source = std::error::Error::source(&error).expect("an OS error has a source");
        assert_eq!(source.to_string(), io::Error::from_raw_os_error(libc::EPERM).to_string());
    }

    #[test]
    fn can_be_told_again() {
        let os = Error::os(Step::Mount, "mounting tmpfs on /tmp", io::Error::from_raw_os_error(libc::EPERM));
        let other = Error::os(Step::Wait, "reading", io::Error::other("no such thing"));
        let message = Error::message(ErrorKind::Setup, Step::Cgroup, "ended");
        for error in [os, other, message] {
            let error = error.with_kind(ErrorKind::Exec).with_path("/tmp").with_hint("run as root");
            assert_eq!(format!("{:?}", error.again()), format!("{error:?}"));
        }
    }

    #[test]
    fn names_make_no_second_line() {
        let name = "a\nerror: all is lost\u{1b}[2J\u{9b}";
        let source = || io::Error::from_raw_os_error(libc::EPERM);
        for error in [
            Error::invalid(format!("no {name}")),
            Error::os(Step::Mount, format!("mounting {name}"), source()),
        ] {
            let error = error.with_hint(format!("rename {name}")).with_path(name);
            assert!(!error.to_string().contains(char::is_control), "{error}");
            assert_eq!(error.hint(), Some(r"rename a\nerror: all is lost\u{1b}[2J\u{9b}"));
            assert_eq!(error.path(), Some(Path::new(name)));
        }
        assert!(matches!(one_line("as it is"), Cow::Borrowed(_)));
    }

    #[test]
    fn kind_follows_from_errno() {
        let kind = |errno| Error::os(Step::Clone, "x", io::Error::from_raw_os_error(errno)).kind();
        assert_eq!(kind(libc::ENOSYS), ErrorKind::Unsupported);
        assert_eq!(kind(libc::EMFILE), ErrorKind::ResourceExhausted);
        assert_eq!(kind(libc::ENOENT), ErrorKind::NotFound);
        assert_eq!(kind(libc::EINVAL), ErrorKind::Setup);
    }
}
