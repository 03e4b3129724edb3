//! The figures as tables.

use std::fmt::Write as _;

use super::all::Absent;
use super::machine;
use super::target::{Bound, Target, table};
use super::way::{Kind, Way};

/// What the document says between its markers.
pub(crate) fn text(ways: &[Way<'_>], absent: &[Absent], rounds: usize) -> String {
    let mut text = format!("{}; {rounds} interleaved rounds.\n\n", machine::description());
    let median = |name: &str| ways.iter().find(|way| way.name == name).map(|way| way.times.median());
    let (plain, ours) = (median("posix_spawn"), median("belljar, limits").or_else(|| median("belljar")));
    let ratio =
        |time: f64, base: Option<f64>| base.map_or("-".to_owned(), |base| format!("{:.2}", time / base));
    text += "| | median µs | p99 µs | × `posix_spawn` | × belljar, limits | measured | its isolation |\n";
    text += "|---|---:|---:|---:|---:|---|---|\n";
    for way in ways {
        let time = way.times.median();
        let version = way.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
        // Writing to a String cannot fail.
        writeln!(
            text,
            "| {}{version} | {time:.0} | {:.0} | {} | {} | {} | {} |",
            way.name,
            way.times.p99(),
            ratio(time, plain),
            ratio(time, ours),
            match way.kind {
                Kind::Reference | Kind::Ours | Kind::OursAhead | Kind::Library => "in process",
                Kind::OurCommand | Kind::Program => "whole process",
            },
            way.difference
        )
        .ok();
    }
    text += "\nTheir command lines, where `DIR` has the program, a root directory for it and the filter:\n\n```text\n";
    for line in ways.iter().filter_map(|way| way.line.as_ref()) {
        writeln!(text, "{line}").ok();
    }
    text += "```\n";
    if !absent.is_empty() {
        text += "\nNot measured:\n\n";
        for Absent { name, why } in absent {
            writeln!(text, "- {name}: {why}").ok();
        }
    }
    writeln!(text, "\n{}", table(&targets(ways))).ok();
    text
}

/// What the library shall be faster than.
pub(crate) fn targets(ways: &[Way<'_>]) -> Vec<Target> {
    let median = |name: &str| ways.iter().find(|way| way.name == name).map(|way| way.times.median());
    let against = |ours: &str, theirs: &str, most: f64, what: &str| {
        Some(Target::new(what, Bound::AtMost(most), median(ours)? / median(theirs)?))
    };
    [
        against(
            "belljar",
            "bubblewrap",
            0.4,
            "cold, no limits / bubblewrap (in process against a whole process)",
        ),
        against("belljar, limits", "crun", 0.2, "cold, limits / crun (in process against a whole process)"),
        against(
            "belljar",
            "hakoniwa, library",
            0.25,
            "cold, no limits / the hakoniwa library (both in process)",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
