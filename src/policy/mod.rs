//! Policies as data: a [`Sandbox`] from and to TOML and JSON, behind the feature `serde`.
//!
//! ```text
//!   text ── node ──▶ a tree with lines ── sections: sandbox, limits, mount, rootfs, landlock, seccomp ──▶ setters
//!   text ◀─ node ─── a tree            ◀─ the same sections, the other way ──────────────────────────── fields
//! ```
//!
//! Sections read by the public setters, so that a document can say what a program can, and no more. A key is known or an
//! error; what a value means is checked by the plan, as for any other policy. `read` knows where in the document a value
//! stands, so that every error names the key.

mod difference;
mod landlock;
mod layout;
mod limits;
mod mount;
mod node;
mod read;
mod rootfs;
mod sandbox;
mod seccomp;
#[cfg(test)]
mod tests;
mod units;
mod write;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use toml::de::DeTable;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::learn::Needs;
use crate::sandbox::Sandbox;
use node::Node;

/// The longest document that is read or written.
const MAX_TEXT: usize = 1 << 20;

/// # Policies as data
///
/// Behind the feature `serde`. `docs/policy.md` in the repository lists every key.
impl Sandbox {
    /// Reads a policy in [TOML](https://toml.io/en/v1.0.0), behind the feature `serde`.
    ///
    /// The keys are the names of the setters: those of this type at the top, those of [`Limits`](crate::Limits),
    /// [`Seccomp`](crate::Seccomp), [`Landlock`](crate::Landlock) in tables of that name, each [`Mount`](crate::Mount) in a
    /// table `[[mount]]`. `preset` says what the policy starts from: `new`, which is the default, `bare`, `judge` or
    /// `plugin`. Sizes are numbers of bytes or strings such as `"256MiB"`, times strings such as `"500ms"`.
    ///
    /// Nothing is passed over: a key that is not known or has no effect where it stands is an error. Reading opens no file;
    /// whether paths exist and values mean something is for [`plan`](Sandbox::plan) to say. Relative paths are what they
    /// are in the setters.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) for a text of more than 1 MiB, and otherwise
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), with the line and the path of the key: text that is not TOML,
    /// unknown keys and words, values of a wrong type or out of range, keys that contradict each other.
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for what needs another feature of the crate.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let sandbox = Sandbox::from_toml(r#"
    ///     preset = "judge"
    ///     wall_time = "10s"
    ///     cpu_time = "2s"
    ///
    ///     [limits]
    ///     memory_max = "256MiB"
    ///     pids_max = 16
    ///
    ///     [[mount]]
    ///     bind = "/srv/judge/submission"
    ///     target = "/submission"
    /// "#)?;
    /// # let _ = sandbox;
    /// let error = Sandbox::from_toml("[limits]\nmemory_mx = 1").unwrap_err();
    /// assert_eq!(error.to_string(), "limits.memory_mx (line 2) is no key of a policy");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self> {
        check_length(text)?;
        let table = DeTable::parse(text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
            Error::invalid(format!(
                "the policy is no TOML, line {line}: {}",
                error.message().replace('\n', "; ")
            ))
            .with_hint("see toml.io for the format, and docs/policy.md for the keys")
        })?;
        sandbox::read(node::from_toml(text, table.into_inner()))
    }

    /// Writes the policy in TOML, behind the feature `serde`: the preset that is nearest, and what differs from it.
    ///
    /// [`from_toml`](Sandbox::from_toml) makes a sandbox of it that does the same. What has no effect is not written: an
    /// environment variable that a later one replaces, a map of ids without a user namespace.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for what is no data: names and paths that are not UTF-8, and a root
    /// that holds something for this process, such as that of a [`Workspace`](crate::Workspace) or an image.
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) if the text would be longer than is read.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::{Bytes, Sandbox};
    ///
    /// let sandbox = Sandbox::judge().memory_max(Bytes::mib(256)).hostname("contest");
    /// let text = "preset = \"judge\"\nhostname = \"contest\"\n\n[limits]\nmemory_max = \"256MiB\"\n";
    /// assert_eq!(sandbox.to_toml()?, text);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn to_toml(&self) -> Result<String> {
        let node = difference::write(self)?;
        let text = layout::document(&node).map_err(|error| cannot_write(&error))?;
        check_length(&text).map(|()| text)
    }

    /// Reads a policy in JSON, behind the feature `serde`. The keys are those of [`from_toml`](Sandbox::from_toml).
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Sandbox::from_toml); the line is known for text that is not JSON only.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let sandbox = Sandbox::from_json(r#"{ "preset": "judge", "limits": { "memory_max": "256MiB" } }"#)?;
    /// # let _ = sandbox;
    /// let error = Sandbox::from_json(r#"{ "wall_time": 10 }"#).unwrap_err();
    /// assert_eq!(error.to_string(), "wall_time is an integer, not a duration");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        check_length(text)?;
        let node: Node = serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!("the policy is no JSON: {error}"))
                .with_hint("docs/policy.md lists the keys; each is there once")
        })?;
        sandbox::read(node)
    }

    /// Writes the policy in JSON, behind the feature `serde`, as [`to_toml`](Sandbox::to_toml) does in TOML.
    ///
    /// # Errors
    ///
    /// As [`to_toml`](Sandbox::to_toml).
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Sandbox;
    ///
    /// let text = Sandbox::new().share_net().to_json()?;
    /// assert_eq!(text.replace(char::is_whitespace, ""), r#"{"preset":"new","share":["net"]}"#);
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn to_json(&self) -> Result<String> {
        let node = difference::write(self)?;
        let text = serde_json::to_string_pretty(&node).map_err(|error| cannot_write(&error))?;
        check_length(&text).map(|()| text)
    }
}

fn check_length(text: &str) -> Result<()> {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    let message = format!("the policy has {} bytes; {MAX_TEXT} are the most", text.len());
    Err(Error::message(ErrorKind::LimitExceeded, Step::Plan, message)
        .with_hint("bind large files into the sandbox, instead of saying what is in them"))
}

fn cannot_write(error: &dyn std::error::Error) -> Error {
    Error::internal(Step::Plan, format!("the policy cannot be written: {error}"))
}

/// With the hint, for errors that become those of another format.
fn whole(error: &Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

/// Behind the feature `serde`, so that a program's own configuration can hold a policy. The keys are those of
/// [`from_toml`](Sandbox::from_toml). The format must tell the type of a value by itself, as TOML, JSON and YAML do.
///
/// # Examples
///
/// ```
/// use belljar::Sandbox;
///
/// #[derive(serde::Deserialize)]
/// struct Plugin {
///     path: String,
///     sandbox: Sandbox,
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let plugin: Plugin = serde_json::from_str(r#"{ "path": "/usr/lib/app/plugin", "sandbox": { "preset": "plugin" } }"#)?;
/// # let _ = (plugin.path, plugin.sandbox);
/// # Ok(())
/// # }
/// ```
impl<'de> Deserialize<'de> for Sandbox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let node = Node::deserialize(deserializer)?;
        sandbox::read(node).map_err(|error| D::Error::custom(whole(&error)))
    }
}

/// Behind the feature `serde`. It fails where [`to_toml`](Sandbox::to_toml) does.
impl Serialize for Sandbox {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let node = difference::write(self).map_err(|error| S::Error::custom(whole(&error)))?;
        node.serialize(serializer)
    }
}

/// As a list of its lines, behind the feature `serde`.
///
/// # Examples
///
/// ```
/// use belljar::Needs;
///
/// let needs: Needs = serde_json::from_str(r#"["syscall read", "read_file /etc/passwd"]"#)?;
/// assert_eq!(serde_json::to_string(&needs)?, r#"["syscall read","read_file /etc/passwd"]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
impl Serialize for Needs {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(ToString::to_string))
    }
}

/// From a list of lines, behind the feature `serde`; each is one need.
impl<'de> Deserialize<'de> for Needs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let lines = Vec::<String>::deserialize(deserializer)?;
        let need = |line: String| line.parse().map_err(|error| D::Error::custom(whole(&error)));
        lines.into_iter().map(need).collect()
    }
}

/// Every table of the schema with its keys, for the test of the document.
#[cfg(test)]
const SCHEMA: [(&str, &[&str]); 24] = [
    ("", &sandbox::KEYS),
    ("user", &sandbox::USER_KEYS),
    ("cgroup_parent", &sandbox::PARENT_KEYS),
    ("rlimit.NAME", &sandbox::RLIMIT_KEYS),
    ("scheduler", &sandbox::SCHEDULER_KEYS),
    ("io_priority", &sandbox::IO_PRIORITY_KEYS),
    ("user_map", &rootfs::MAP_KEYS),
    ("user_map.ids", &rootfs::EXTENT_KEYS),
    ("rootfs", &rootfs::KEYS),
    ("rootfs.upper", &rootfs::UPPER_KEYS),
    ("rootfs.upper.quota", &rootfs::QUOTA_KEYS),
    ("mount", mount::KEYS),
    ("limits", &limits::KEYS),
    ("limits.cpu_max", &limits::CPU_KEYS),
    ("limits.io_max", &limits::IO_KEYS),
    ("limits.hugetlb_max", &limits::HUGETLB_KEYS),
    ("limits.devices", &limits::DEVICES_KEYS),
    ("landlock", &landlock::KEYS),
    ("landlock.rule", &landlock::RULE_KEYS),
    ("seccomp", &seccomp::KEYS),
    ("seccomp.on", &seccomp::WORD_KEYS),
    ("seccomp.on.action", &seccomp::ACTION_KEYS),
    ("seccomp.on.conditions", &seccomp::CONDITION_KEYS),
    ("seccomp.on.conditions.masked_eq", &seccomp::MASK_KEYS),
];
