//! What on this machine makes two measurements of the same program differ. Read from `/proc` and `/sys`; nothing is
//! changed or tried.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::Host;
use super::cause::sysctl;
use crate::limits::Bytes;

/// What on this machine makes measurements differ from run to run: the clock of the processors, what shares them, and
/// what the kernel decides at random.
///
/// Each field is what the machine says of itself, and `None` (or empty) where it does not: a virtual machine often
/// shows neither the governor nor turbo, and the machine below it has them all the same.
/// [`disturbances`](Noise::disturbances) says what is worth changing, and [`Display`](fmt::Display) prints a report of
/// everything.
///
/// # Examples
///
/// ```
/// use belljar::Host;
///
/// for disturbance in Host::noise().disturbances() {
///     println!("{}: {}; {}", disturbance.name, disturbance.meaning, disturbance.remedy);
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Noise {
    /// What chooses the clock rate of the processors, each name once: `performance`, `powersave`, `schedutil`, …
    /// `scaling_governor` of cpufreq.
    pub governors: Vec<String>,
    /// Whether processors may run above their nominal rate. `no_turbo` of `intel_pstate`, else `boost` of cpufreq.
    pub turbo: Option<bool>,
    /// Whether processors share cores: simultaneous multithreading is active. `smt/active`.
    pub smt: Option<bool>,
    /// Who gets transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// How much swap is in use. `/proc/swaps`.
    pub swap_used: Option<Bytes>,
    /// How much of the address space is laid out at random: 0, 1 or 2. `kernel.randomize_va_space`.
    pub randomize_va_space: Option<u32>,
    /// Where core dumps go; a program's name behind `|` is started for each. `kernel.core_pattern`.
    pub core_pattern: Option<String>,
    /// How many tasks wanted to run in the last minute, on average. `/proc/loadavg`.
    pub load: Option<f64>,
}

/// Something that makes measurements differ, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disturbance {
    /// What it is called in the report.
    pub name: &'static str,
    /// What it does to measurements.
    pub meaning: String,
    /// What to run or to call.
    pub remedy: String,
}

impl Host {
    /// What on this machine makes measurements differ. It takes well below a millisecond, never fails, and is read
    /// anew by each call.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::Host;
    ///
    /// let noise = Host::noise();
    /// println!("{noise}");
    /// if noise.smt == Some(true) {
    ///     println!("two programs may share a core");
    /// }
    /// ```
    #[must_use]
    pub fn noise() -> Noise {
        Noise::below(Path::new("/"))
    }
}

impl Noise {
    /// Reads the files below a root, so that a test can have one of its own.
    fn below(root: &Path) -> Self {
        let text = |path: &str| read(&root.join(path));
        let cpu = |path: &str| text(&format!("sys/devices/system/cpu/{path}"));
        let turbo = match cpu("intel_pstate/no_turbo").as_deref().and_then(parse_switch) {
            Some(is_off) => Some(!is_off),
            None => cpu("cpufreq/boost").as_deref().and_then(parse_switch),
        };
        Self {
            governors: governors(&root.join("sys/devices/system/cpu/cpufreq")),
            turbo,
            smt: cpu("smt/active").as_deref().and_then(parse_switch),
            transparent_huge_pages: text("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| parse_choice(&text)),
            swap_used: text("proc/swaps").and_then(|text| parse_swaps(&text)),
            randomize_va_space: text("proc/sys/kernel/randomize_va_space")
                .and_then(|text| text.trim().parse().ok()),
            core_pattern: text("proc/sys/kernel/core_pattern").and_then(|text| word(&text)),
            load: text("proc/loadavg").and_then(|text| parse_load(&text)),
        }
    }

    /// What is worth changing before measuring; empty on a quiet machine. What the machine does not show is not
    /// among it.
    #[must_use]
    pub fn disturbances(&self) -> Vec<Disturbance> {
        self.lines().into_iter().filter_map(|line| line.disturbance).collect()
    }

    fn lines(&self) -> Vec<Line> {
        vec![
            self.governor(),
            Line::new("turbo", self.turbo.map(on_or_off)).disturbed_if(
                self.turbo == Some(true),
                "the first work after a pause runs faster than what follows, and one busy core slows the others down",
                "as root: `echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo`, or where that is missing \
                 `echo 0 > /sys/devices/system/cpu/cpufreq/boost`"
                    .to_owned(),
            ),
            Line::new("smt", self.smt.map(on_or_off)).disturbed_if(
                self.smt == Some(true),
                "what runs on the other thread of a core takes up to half of it",
                "as root: `echo off > /sys/devices/system/cpu/smt/control`; or leave one thread of each core idle \
                 with `Sandbox::cpu_affinity`"
                    .to_owned(),
            ),
            Line::new("transparent_huge_pages", self.transparent_huge_pages.clone()).disturbed_if(
                self.transparent_huge_pages.as_deref() == Some("always"),
                "whether memory comes in huge pages depends on what else is in memory",
                "as root: `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`".to_owned(),
            ),
            Line::new("swap", self.swap_used.map(|used| format!("{used} in use"))).disturbed_if(
                self.swap_used.is_some_and(|used| used.get() > 0),
                "a program may wait for the disk to give it its own memory back",
                "`Sandbox::swap_max(0)` for the program; as root, with enough free memory: `swapoff -a`"
                    .to_owned(),
            ),
            Line::new("aslr", self.randomize_va_space.map(|how| how.to_string())).disturbed_if(
                self.randomize_va_space.is_some_and(|how| how > 0),
                "each run has other addresses, and with them other conflicts in caches and branch predictors",
                format!(
                    "`Sandbox::deterministic()` for the program; or {}",
                    sysctl("kernel.randomize_va_space", "0")
                ),
            ),
            Line::new("core_pattern", self.core_pattern.clone()).disturbed_if(
                self.core_pattern.as_deref().is_some_and(|pattern| pattern.starts_with('|')),
                "a crash of a program of the host starts a handler that competes with what is measured (a crash in a \
                 sandbox does not)",
                sysctl("kernel.core_pattern", "core"),
            ),
            Line::new("load", self.load.map(|load| format!("{load:.2}"))).disturbed_if(
                self.load.is_some_and(|load| load >= 0.5),
                "others use the processors as well",
                "wait until they are done, or keep them off the processors that you measure on: `taskset`, cpusets, \
                 `isolcpus=`"
                    .to_owned(),
            ),
        ]
    }

    fn governor(&self) -> Line {
        let found = (!self.governors.is_empty()).then(|| self.governors.join(", "));
        Line::new("governor", found).disturbed_if(
            self.governors.iter().any(|name| name != "performance"),
            "the clock rate follows the load, so the same work takes longer when it begins on an idle processor",
            "as root: `cpupower frequency-set -g performance`".to_owned(),
        )
    }
}

fn on_or_off(is: bool) -> String {
    if is { "on".to_owned() } else { "off".to_owned() }
}

/// A line of the report.
struct Line {
    name: &'static str,
    found: Option<String>,
    disturbance: Option<Disturbance>,
}

impl Line {
    fn new(name: &'static str, found: Option<String>) -> Self {
        Self { name, found, disturbance: None }
    }

    fn disturbed_if(mut self, is: bool, meaning: &str, remedy: String) -> Self {
        self.disturbance = is.then(|| Disturbance { name: self.name, meaning: meaning.to_owned(), remedy });
        self
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
        writeln!(f, "What makes measurements differ on this machine:")?;
        for Line { name, found, disturbance } in lines {
            match (found, disturbance) {
                (None, _) => writeln!(f, "{name:width$}  unknown  this machine does not show it")?,
                (Some(found), None) => writeln!(f, "{name:width$}  quiet    {found}")?,
                (Some(found), Some(Disturbance { meaning, remedy, .. })) => {
                    writeln!(f, "{name:width$}  noisy    {found}: {meaning}")?;
                    writeln!(f, "{:width$}           remedy: {remedy}", "")?;
                }
            }
        }
        Ok(())
    }
}

/// A small file as text, in whatever bytes; `None` if it cannot be read.
fn read(path: &Path) -> Option<String> {
    // None of these files is larger, unless somebody wants to fill our memory.
    const MOST: u64 = 64 << 10;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The governors of all policies, each once.
fn governors(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| word(&read(&entry.path().join("scaling_governor"))?));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Printable text on one line; `None` if nothing is left.
fn word(text: &str) -> Option<String> {
    let word: String = text
        .trim()
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .take(200)
        .collect();
    (!word.is_empty()).then_some(word)
}

/// `0` or `1`.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn parse_choice(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    word(rest.split_once(']')?.0)
}

/// The sum of the column `Used`, which is in KiB, the fourth behind a name that has its blanks escaped.
pub(super) fn parse_swaps(text: &str) -> Option<Bytes> {
    let mut lines = text.lines();
    lines.next().filter(|head| head.starts_with("Filename"))?;
    let mut sum = 0_u64;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let used: u64 = line.split_ascii_whitespace().nth(3)?.parse().ok()?;
        sum = sum.saturating_add(used);
    }
    Some(Bytes::kib(sum))
}

/// The average of the last minute.
pub(super) fn parse_load(text: &str) -> Option<f64> {
    let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then_some(load)
}

#[cfg(test)]
#[path = "noise_tests.rs"]
mod tests;
