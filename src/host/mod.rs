//! What this machine can do, really tried, with the cause and the remedy for what it cannot.
//!
//! ```text
//!   probe: a throw-away sandbox per check ──▶ Ok, or an Error
//!                                                 │
//!   facts: sysctls, /proc, capabilities ──────────┴─▶ cause: cause and remedy ──▶ Check
//! ```

mod cause;
mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod noise;
mod probe;

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::Result;
use crate::feature::Feature;
use crate::storage::StorageReport;

pub use noise::{Disturbance, Noise};

/// What this machine lets this process do, and for what it does not, why and what to do about it.
///
/// [`Display`](fmt::Display) prints it as a report, one line per check.
///
/// # Examples
///
/// Ask before the first sandbox, and tell the administrator what to change:
///
/// ```
/// use belljar::{Feature, Host, Status};
///
/// let host = Host::probe();
/// println!("{host}");
/// if let Some(Status::Missing { cause, remedy, .. }) = host.get(Feature::MemoryMax).map(|check| &check.status) {
///     println!("no memory limits: {cause}\n{remedy}");
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Host {
    kernel: String,
    uid: u32,
    privileged: bool,
    checks: Vec<Check>,
    remarks: Vec<String>,
}

/// One thing that was tried.
///
/// # Examples
///
/// ```
/// use belljar::{Host, Status};
///
/// for check in Host::current().checks() {
///     match &check.status {
///         Status::Available { .. } => println!("{} works", check.name),
///         Status::Missing { cause, remedy, .. } => println!("{}: {cause}\n  {remedy}", check.name),
///         _ => {}
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What it is called in the report: the [`name`](Feature::name) of the feature, if it is one.
    pub name: &'static str,
    /// The feature it is about, if it is about one that [`Sandbox::best_effort`](crate::Sandbox::best_effort) knows.
    pub feature: Option<Feature>,
    /// What came of it.
    pub status: Status,
}

/// What came of a [`Check`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It works.
    #[non_exhaustive]
    Available {
        /// In what form, where there are several.
        note: Option<String>,
    },
    /// It does not work.
    #[non_exhaustive]
    Missing {
        /// Why, as specifically as can be found out, with what the kernel answered.
        cause: String,
        /// What to run or to change.
        remedy: String,
    },
}

impl Check {
    /// Whether it works.
    #[must_use]
    pub fn is_available(&self) -> bool {
        matches!(self.status, Status::Available { .. })
    }
}

impl Host {
    /// Tries everything, each in a throw-away sandbox, which takes some tens of milliseconds.
    ///
    /// It never fails, and leaves no process, file, descriptor or cgroup behind. Trying the limits does to this
    /// process what the first sandbox with limits does: see [`CgroupParent::Auto`](crate::CgroupParent::Auto).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Host;
    ///
    /// let host = Host::probe();
    /// assert!(!host.checks().is_empty());
    /// ```
    #[must_use]
    pub fn probe() -> Self {
        probe::probe()
    }

    /// The result of [`probe`](Host::probe), made once in this process and kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Feature, Host, Sandbox};
    ///
    /// let mut sandbox = Sandbox::new();
    /// if Host::current().has(Feature::PidsMax) {
    ///     sandbox = sandbox.pids_max(32);
    /// }
    /// # let _ = sandbox;
    /// ```
    #[must_use]
    pub fn current() -> &'static Self {
        static CURRENT: OnceLock<Host> = OnceLock::new();
        CURRENT.get_or_init(Self::probe)
    }

    /// Which [drivers](crate::StorageDriver) work for writable roots in a directory, and which one
    /// [`Storage::auto`](crate::Storage::auto) takes there, with the reason. It is the directory's filesystem that
    /// decides, so there is no answer for the whole machine. Each is tried in a directory that is made in it and removed
    /// again.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) and [`PermissionDenied`](crate::ErrorKind::PermissionDenied) for a
    /// directory that is not there or that this process may not write to.
    ///
    /// # Examples
    ///
    /// ```
    /// let report = belljar::Host::storage(std::env::temp_dir())?;
    /// print!("{report}");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn storage(dir: impl AsRef<Path>) -> Result<StorageReport> {
        crate::storage::survey_dir(dir.as_ref())
    }

    /// Whether [`Sandbox::new`](crate::Sandbox::new) works here as it is, without limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Host;
    ///
    /// let sandbox = Host::current().sandbox();
    /// if !sandbox.is_available() {
    ///     println!("no sandbox on this machine: {:?}", sandbox.status);
    /// }
    /// ```
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the probe puts this check first, whatever comes of it")]
    pub fn sandbox(&self) -> &Check {
        &self.checks[0]
    }

    /// Everything that was tried, in the order of the report.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check of a feature. There is one for each of [`Feature::ALL`].
    #[must_use]
    pub fn get(&self, feature: Feature) -> Option<&Check> {
        self.checks.iter().find(|check| check.feature == Some(feature))
    }

    /// Whether a feature works here.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.get(feature).is_some_and(Check::is_available)
    }

    /// The kernel's release, as `uname -r` prints it.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// What is worth knowing and neither works nor fails, a sentence each.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = if self.privileged { "with CAP_SYS_ADMIN" } else { "without CAP_SYS_ADMIN" };
        writeln!(f, "Linux {}, user {} {power}", self.kernel, self.uid)?;
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut told: Vec<&Check> = Vec::new();
        for check in &self.checks {
            write!(f, "{:width$}  ", check.name)?;
            match &check.status {
                Status::Available { note: None } => writeln!(f, "ok")?,
                Status::Available { note: Some(note) } => writeln!(f, "ok       {note}")?,
                Status::Missing { cause, remedy } => {
                    // The same trouble with many names is told once.
                    if let Some(earlier) = told.iter().find(|earlier| earlier.status == check.status) {
                        writeln!(f, "missing  as {}", earlier.name)?;
                        continue;
                    }
                    writeln!(f, "missing  {cause}")?;
                    writeln!(f, "{:width$}           remedy: {remedy}", "")?;
                    told.push(check);
                }
            }
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, status: Status) -> Check {
        Check { name, feature: Feature::from_name(name), status }
    }

    fn missing() -> Status {
        Status::Missing { cause: "CAUSE".to_owned(), remedy: "REMEDY".to_owned() }
    }

    #[test]
    fn the_report_tells_each_trouble_once() {
        let host = Host {
            kernel: "6.1.0".to_owned(),
            uid: 1000,
            privileged: false,
            checks: vec![
                check("sandbox", missing()),
                check("user_ns", missing()),
                check("pid_ns", Status::Available { note: None }),
                check("landlock", Status::Available { note: Some("ABI 7".to_owned()) }),
            ],
            remarks: vec!["a remark".to_owned()],
        };
        let report = "Linux 6.1.0, user 1000 without CAP_SYS_ADMIN\n\
                      sandbox   missing  CAUSE\n                   remedy: REMEDY\n\
                      user_ns   missing  as sandbox\n\
                      pid_ns    ok\n\
                      landlock  ok       ABI 7\n\
                      a remark\n";
        assert_eq!(host.to_string(), report);
        assert!(host.has(Feature::PidNs) && !host.has(Feature::UserNs) && !host.has(Feature::NetNs));
        assert!(!host.sandbox().is_available());
    }
}
