//! The tables of docs/seccomp.md are made from the data, so that they cannot drift from it.

use std::fmt::Write as _;

use super::names::Arch;
use super::profile::{self, Profile, Word};
use super::testing::{BOTH, UNGUARDED};
use super::verdict::{Answer, Condition, Rule, Test, Verdict, Width};
use super::{Seccomp, groups, resolve};

fn code(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
}

fn test(condition: &Condition) -> String {
    let argument = format!(
        "{}argument {}",
        if condition.width == Width::Low32 { "low half of " } else { "" },
        condition.argument
    );
    match condition.test {
        Test::Equal(value) | Test::Token(value) => format!("{argument} = {value:#x}"),
        Test::NotEqual(value) => format!("{argument} ≠ {value:#x}"),
        Test::Less(value) => format!("{argument} < {value:#x}"),
        Test::AtMost(value) => format!("{argument} ≤ {value:#x}"),
        Test::Greater(value) => format!("{argument} > {value:#x}"),
        Test::AtLeast(value) => format!("{argument} ≥ {value:#x}"),
        Test::Masked { mask, value } => format!("{argument} & {mask:#x} = {value:#x}"),
    }
}

fn rules(rules: &[Rule]) -> String {
    let rule = |rule: &Rule| rule.iter().map(test).collect::<Vec<_>>().join(" and ");
    rules.iter().map(rule).collect::<Vec<_>>().join("; or ")
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::Allow => "allowed".to_owned(),
        Answer::Log => "logged".to_owned(),
        Answer::Errno(1) => "`EPERM`".to_owned(),
        Answer::Errno(38) => "`ENOSYS`".to_owned(),
        Answer::Errno(number) => format!("errno {number}"),
        Answer::Trap => "`SIGSYS`".to_owned(),
        Answer::Kill => "killed".to_owned(),
        Answer::Notify => "asked about".to_owned(),
    }
}

fn group_table() -> String {
    let in_default: Vec<&str> = profile::DEFAULT.words.iter().flat_map(|word| word.names).copied().collect();
    let mut table =
        String::from("| group | in the default profile | calls | what they are |\n|---|---|---|---|\n");
    for group in groups::GROUPS {
        let allowed = if in_default.contains(&group.name) { "yes" } else { "no" };
        let (calls, what) = (code(group.calls), group.what);
        writeln!(table, "| `{}` | {allowed} | {calls} | {what} |", group.name).unwrap();
    }
    table
}

fn condition_table() -> String {
    let mut table = String::from("| call | allowed if |\n|---|---|\n");
    for (name, alternatives) in groups::CONDITIONAL {
        writeln!(table, "| `{name}` | {} |", rules(alternatives)).unwrap();
    }
    table
}

fn profile_table(profile: &'static Profile) -> String {
    let mut table = String::from("| calls | answer | why |\n|---|---|---|\n");
    for Word { names, rules: alternatives, answer: given, why } in profile.words {
        let given = match alternatives {
            [] => answer(*given),
            some => format!("{} if {}", answer(*given), rules(some)),
        };
        writeln!(table, "| {} | {given} | {why} |", code(names)).unwrap();
    }
    writeln!(table, "| all others | {} | |", answer(profile.otherwise)).unwrap();
    let policy = Seccomp { base: super::Base::Profile(profile), ..Seccomp::default() };
    for arch in BOTH {
        let verdicts = resolve::verdicts(&policy, UNGUARDED, arch).unwrap();
        let verdict = |number: u32| &verdicts[number as usize];
        let through = |verdict: &Verdict| verdict.answers().any(Answer::lets_through);
        let calls: Vec<(&str, u32)> = arch.calls().filter(|call| through(verdict(call.1))).collect();
        let tested = calls.iter().filter(|call| !verdict(call.1).cases.is_empty()).count();
        let name = if arch == Arch::X86_64 { "x86_64" } else { "aarch64" };
        let names: Vec<String> = calls
            .iter()
            .map(|call| format!("`{}`{}", call.0, if verdict(call.1).cases.is_empty() { "" } else { "*" }))
            .collect();
        let count = calls.len();
        write!(
            table,
            "\n{count} calls of {name} are let through, {tested} of them under conditions (*): {}.\n",
            names.join(" ")
        )
        .unwrap();
    }
    table
}

/// With `BELLJAR_WRITE_DOCS` set, writes the tables instead.
#[test]
fn the_document_has_the_tables_of_the_data() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seccomp.md");
    let mut document = std::fs::read_to_string(path).unwrap();
    let mut tables = vec![("groups".to_owned(), group_table()), ("conditions".to_owned(), condition_table())];
    tables.extend(profile::ALL.iter().map(|profile| (profile.name.to_owned(), profile_table(profile))));
    let written = document.clone();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- table: {name} -->\n"), "<!-- end -->\n");
        let start =
            document.find(&begin).unwrap_or_else(|| panic!("no place for the table {name}")) + begin.len();
        let length = document[start..].find(end).expect("the table has an end");
        document.replace_range(start..start + length, &table);
    }
    if std::env::var_os("BELLJAR_WRITE_DOCS").is_some() {
        std::fs::write(path, document).unwrap();
        return;
    }
    assert!(
        document == written,
        "docs/seccomp.md differs from the data: run this test with BELLJAR_WRITE_DOCS=1"
    );
}
