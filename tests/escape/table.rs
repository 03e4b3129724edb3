//! `docs/attacks.md` and the registry are one: the tables there are made of it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write;

use crate::MECHANISMS;
use crate::attack::{Attack, Hosts};
use crate::classes::CLASSES;
use crate::support::{Case, Result, fail};

const DOCUMENT: &str = include_str!("../../docs/attacks.md");

pub(crate) const CASES: &[Case] = crate::cases![
    the_document_is_the_registry: ["bare"],
    every_class_is_looked_for: ["bare"],
];

fn all() -> impl Iterator<Item = &'static Attack> {
    MECHANISMS.iter().flat_map(|(_, entries)| entries.iter().map(|entry| &entry.attack))
}

/// The part of the document that is made.
fn tables() -> String {
    let mut text = String::new();
    for (mechanism, entries) in MECHANISMS {
        writeln!(text, "### {mechanism}\n").ok();
        text.push_str("| attack | what the program does | class | stopped by | shown to work in |\n|---|---|---|---|---|\n");
        for entry in *entries {
            let attack = &entry.attack;
            let who = if attack.hosts == Hosts::Root { " (root hosts)" } else { "" };
            writeln!(
                text,
                "| `{}` | {} | {} | {}{who} | {} |",
                attack.name,
                attack.what,
                attack.class.join(", "),
                attack.stopped_by,
                attack.control.words()
            )
            .ok();
        }
        text.push('\n');
    }
    text.push_str(
        "## Classes of bugs\n\n| class | what went wrong | attacks | other tests |\n|---|---|---|---|\n",
    );
    for class in CLASSES {
        let attacks: Vec<String> = all()
            .filter(|attack| attack.class.contains(&class.id))
            .map(|attack| format!("`{}`", attack.name))
            .collect();
        let tests: Vec<String> = class.tests.iter().map(|test| format!("`{test}`")).collect();
        let attacks = class.absent.map_or_else(|| attacks.join(", "), str::to_owned);
        writeln!(text, "| {} | {} | {attacks} | {} |", class.id, class.what, tests.join(", ")).ok();
    }
    text
}

/// Prints what the document must have: `escape --role table`.
pub(crate) fn print(_: &[OsString]) -> i32 {
    print!("{}", tables());
    0
}

fn the_document_is_the_registry() -> Result {
    let tables = tables();
    if let Some(line) = tables.lines().find(|line| !DOCUMENT.lines().any(|have| have == *line)) {
        return fail(format!(
            "docs/attacks.md lacks the line {line:?}; the tables are what `--role table` prints"
        ));
    }
    match DOCUMENT.ends_with(&tables) {
        true => Ok(()),
        false => fail("docs/attacks.md has more than, or another order than, what `--role table` prints"),
    }
}

fn every_class_is_looked_for() -> Result {
    let known: HashSet<_> = CLASSES.iter().map(|class| class.id).collect();
    let mut names = HashSet::new();
    for attack in all() {
        assert!(names.insert(attack.name), "two attacks are called {}", attack.name);
        assert!(
            !attack.class.is_empty() && !attack.what.is_empty() && !attack.stopped_by.is_empty(),
            "{}",
            attack.name
        );
        for class in attack.class {
            assert!(known.contains(class), "{} is of no class {class}", attack.name);
        }
    }
    for (letter, last) in [('A', 35), ('B', 15)] {
        for number in 1..=last {
            let id = format!("{letter}{number}");
            let Some(class) = CLASSES.iter().find(|class| class.id == id) else {
                return fail(format!("no class {id}"));
            };
            let attacks = all().filter(|attack| attack.class.contains(&class.id)).count();
            let looked_for = attacks + class.tests.len() > 0;
            assert!(looked_for != class.absent.is_some(), "{id}: {attacks} attacks");
        }
    }
    assert!(names.len() >= 80, "{} attacks", names.len());
    Ok(())
}
