//! One system call, by number and name.

use std::fmt;

use super::names::Arch;

/// A system call of this machine's architecture, as a filter sees it.
///
/// # Examples
///
/// ```no_run
/// use belljar::{Command, Sandbox, Seccomp, Verdict};
///
/// let sandbox = Sandbox::new().seccomp(Seccomp::new().kill(["socket"]));
/// let outcome = sandbox.status(Command::new("/usr/bin/ping").arg("192.0.2.1"))?;
/// if let Verdict::SyscallDenied { syscall: Some(syscall), .. } = outcome.verdict {
///     println!("it tried to call {syscall}"); // "socket (41)" on x86_64
/// }
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall {
    number: u32,
}

impl Syscall {
    pub(crate) fn new(number: u32) -> Self {
        Self { number }
    }

    /// The call of this name; `None` if this architecture has none of that name up to Linux 6.18.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Syscall;
    ///
    /// assert_eq!(Syscall::from_name("openat").and_then(Syscall::name), Some("openat"));
    /// assert_eq!(Syscall::from_name("no_such_call"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Arch::NATIVE.number(name).map(Self::new)
    }

    /// Its number, of the kernel's `unistd.h` for this architecture.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// Its name, as the manual's section 2 and [`Seccomp`](crate::Seccomp) have it; `None` for a number that has none up
    /// to Linux 6.18.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Arch::NATIVE.name(self.number)
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.number),
            None => write!(f, "system call {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_names() {
        let number = Arch::NATIVE.number("mount").unwrap();
        assert_eq!(Syscall::new(number).to_string(), format!("mount ({number})"));
        assert_eq!(Syscall::new(99_999).name(), None);
        assert_eq!(Syscall::new(99_999).to_string(), "system call 99999");
    }
}
