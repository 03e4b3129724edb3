//! What an attack is.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use belljar::{Command, Sandbox};

use crate::stage::Stage;
use crate::support::{Case, Result};

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It worked.
    Broke(String),
    /// It was refused, or came to nothing.
    Denied(String),
    /// It could not even be made, which says nothing.
    CouldNot(String),
}

impl Tried {
    /// The exit code of the program that made it.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Broke(_) => 0,
            Self::Denied(_) => 1,
            Self::CouldNot(_) => 2,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Broke(text) | Self::Denied(text) | Self::CouldNot(text) => text,
        }
    }

    pub(crate) fn of(code: Option<i32>, text: String) -> Self {
        match code {
            Some(0) => Self::Broke(text),
            Some(1) => Self::Denied(text),
            _ => Self::CouldNot(text),
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Broke(_) => "broke through",
            Self::Denied(_) => "denied",
            Self::CouldNot(_) => "could not be tried",
        };
        write!(f, "{word}: {}", self.text())
    }
}

/// Where the call that should not succeed is the attack.
impl<T: fmt::Debug> From<io::Result<T>> for Tried {
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Broke(format!("{value:?}")),
            Err(error) => Self::Denied(explain(&error)),
        }
    }
}

/// An error by its number, which the runner looks for.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("errno {number} ({error})"),
        None => error.to_string(),
    }
}

/// What an attacker knows: where the baits of the stage are.
#[derive(Debug, Default)]
pub(crate) struct Facts(HashMap<String, String>);

impl Facts {
    pub(crate) fn from_args(args: &[OsString]) -> Self {
        let pair = |arg: &OsString| {
            let text = arg.to_string_lossy().into_owned();
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Self(args.iter().filter_map(pair).collect())
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.get(key).into()
    }

    pub(crate) fn number(&self, key: &str) -> usize {
        self.get(key).parse().unwrap_or(0)
    }

    /// Processes to get hold of: a bystander of the host, and inside the sandbox its init as well.
    pub(crate) fn victims(&self) -> Vec<usize> {
        self.get("victims").split(',').filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Tries it on each.
    pub(crate) fn any_victim(&self, mut attempt: impl FnMut(usize) -> Tried) -> Tried {
        one_after_the_other(self.victims().into_iter().map(|pid| (format!("process {pid}"), attempt(pid))))
    }
}

/// Stops at the first that worked; says of all others why not.
pub(crate) fn one_after_the_other(attempts: impl IntoIterator<Item = (String, Tried)>) -> Tried {
    let mut denied: Vec<String> = Vec::new();
    for (what, tried) in attempts {
        match tried {
            Tried::Denied(text) if denied.is_empty() => denied.push(format!("{text}, {what}")),
            Tried::Denied(text) => denied.push(format!("{what}: {text}")),
            Tried::Broke(text) => return Tried::Broke(format!("{what}: {text}")),
            Tried::CouldNot(text) => return Tried::CouldNot(format!("{what}: {text}")),
        }
    }
    match denied.is_empty() {
        true => Tried::CouldNot("nothing was tried".into()),
        false => Tried::Denied(denied.join("; ")),
    }
}

/// How it is made.
#[derive(Clone, Copy)]
pub(crate) enum Method {
    /// By a program that is the payload, which says what became of it.
    Inside(fn(&Facts) -> Tried),
    /// By the host around a sandbox: what happens outside decides.
    Around(fn(&Stage, Sandbox) -> Result<Tried>),
    /// By another host process, which gets the name of the policy.
    ByName(fn(&str) -> Result<Tried>),
}

/// How it is shown to work.
#[derive(Clone, Copy)]
pub(crate) enum Control {
    /// The same program as a process of the host.
    Host,
    /// The same, after it has done something to itself.
    HostAfter(&'static str, fn(&Facts) -> io::Result<()>),
    /// In `Sandbox::new()` without one of its defences, without that of the attack.
    Without(&'static str, fn(Sandbox) -> Sandbox),
    /// In another way.
    Other(&'static str, fn(&Stage) -> Result<Tried>),
}

impl Control {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Host => "a process of the host",
            Self::HostAfter(words, _) | Self::Without(words, _) | Self::Other(words, _) => words,
        }
    }
}

/// Which hosts can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Root, and a user without privilege.
    Both,
    /// Root only.
    Root,
    /// The one that runs the tests, whoever that is: the other one has no cgroup.
    Own,
}

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What an attacker does.
    pub(crate) what: &'static str,
    /// The classes of bugs in `docs/attacks.md`, and known cases of them.
    pub(crate) class: &'static [&'static str],
    pub(crate) stopped_by: &'static str,
    /// Names of features, as for [`Case`].
    pub(crate) needs: &'static [&'static str],
    pub(crate) method: Method,
    pub(crate) control: Control,
    /// Whose control can succeed.
    pub(crate) control_by: Hosts,
    /// By which hosts it is made.
    pub(crate) hosts: Hosts,
    /// What the sandbox is given for the attack and its control.
    pub(crate) scene: fn(&Stage, Sandbox) -> Sandbox,
    /// What the command is given, as well.
    pub(crate) command: fn(&Stage, &mut Command),
    /// A limit that is the defence.
    pub(crate) defence: fn(Sandbox) -> Sandbox,
    /// Whether `Sandbox::bare()` must stand it, too.
    pub(crate) bare: bool,
    /// Whether other defences than the filter hold.
    pub(crate) unfiltered: bool,
    /// Whether the kernel can be built without what is attacked.
    pub(crate) may_lack: bool,
}

impl Attack {
    pub(crate) const BASE: Self = Self {
        name: "",
        what: "",
        class: &[],
        stopped_by: "",
        needs: &[],
        method: Method::Inside(|_| Tried::CouldNot("there is no attempt".into())),
        control: Control::Host,
        control_by: Hosts::Both,
        hosts: Hosts::Both,
        scene: |_, sandbox| sandbox,
        command: |_, _| {},
        defence: |sandbox| sandbox,
        bare: false,
        unfiltered: true,
        may_lack: false,
    };
}

/// An attack as a test.
pub(crate) struct Entry {
    pub(crate) attack: Attack,
    pub(crate) run: fn() -> Result,
    pub(crate) lacks: fn() -> Option<String>,
}

impl Entry {
    pub(crate) fn case(&self) -> Case {
        let mut needs = self.attack.needs.to_vec();
        // By `setpriv` root becomes the host without privilege.
        needs.extend(["userns", "setpriv"]);
        if [self.attack.hosts, self.attack.control_by].contains(&Hosts::Root) {
            needs.push("root");
        }
        Case { name: self.attack.name, needs: needs.leak(), run: self.run, lacks: self.lacks }
    }
}

/// A table of attacks: `attacks! { name { field: value, … } … }`.
#[macro_export]
macro_rules! attacks {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        pub(crate) const ATTACKS: &[$crate::attack::Entry] = &[$(
            $crate::attack::Entry {
                attack: $crate::attack::Attack {
                    name: stringify!($name),
                    $($field: $value,)*
                    ..$crate::attack::Attack::BASE
                },
                run: || $crate::trial::run(stringify!($name)),
                lacks: || $crate::trial::lacks(stringify!($name)),
            }
        ),*];
    };
}
