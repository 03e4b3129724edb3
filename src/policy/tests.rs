//! What cannot be seen from outside: that the schema and its document are the same, and what no key can say.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::bool;
use proptest::collection::vec;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::namespace::Namespaces;
use crate::plan::property_tests::{Word, any_word};
use crate::{Bytes, ErrorKind, Mount, Rootfs, Seccomp, SyscallArg};

/// The keys of the document are those of the schema, each with what it stands for.
#[test]
fn the_document_has_every_key() {
    let path = |table: &str, key: &&str| match table {
        "" => (*key).to_owned(),
        table => format!("{table}.{key}"),
    };
    let schema: BTreeSet<String> =
        SCHEMA.iter().flat_map(|(table, keys)| keys.iter().map(|key| path(table, key))).collect();
    let mut document = BTreeSet::new();
    for row in include_str!("../../docs/policy.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(!cells[1].is_empty() && !cells[3].is_empty(), "{row}");
        assert!(document.insert(cells[0].trim_matches('`').to_owned()), "twice: {row}");
    }
    let missing: Vec<_> = schema.difference(&document).collect();
    let unknown: Vec<_> = document.difference(&schema).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/policy.md lacks {missing:?} and invents {unknown:?}"
    );
}

/// A root that holds something cannot be written, whoever holds it.
#[test]
fn a_root_that_is_held_is_no_data() {
    let held = Rootfs::dir("/usr").holding(std::sync::Arc::new(()));
    let copy = Rootfs::copy("/a".into(), "/b".into());
    for root in [held, copy] {
        let error = Sandbox::new().rootfs(root).to_toml().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.hint().is_some_and(|hint| hint.contains("rootfs")), "{error}");
    }
}

#[test]
fn what_is_not_utf_8_is_no_data() {
    let name = OsStr::from_bytes(b"/a\xff");
    for sandbox in [
        Sandbox::new().mount(Mount::bind(name, "/a")),
        Sandbox::new().mount(Mount::bind("/a", name)),
        Sandbox::new().mount(Mount::symlink(name, "/a")),
        Sandbox::new().rootfs(Rootfs::dir(name)),
        Sandbox::new().rootfs(Rootfs::overlay([name])),
        Sandbox::new().hostname(name),
        Sandbox::new().domain_name(name),
        Sandbox::new().env(name, "x"),
        Sandbox::new().env("x", name),
        Sandbox::new().cgroup_parent(crate::CgroupParent::Path(name.into())),
        Sandbox::new().landlock(crate::Landlock::new().read(name)),
        Sandbox::new().landlock(crate::Landlock::new().rule(name, crate::LandlockAccess::REFER)),
        Sandbox::new().io_max(crate::BlockDevice::at(name), crate::IoMax::new().read(1)),
    ] {
        for error in [sandbox.to_toml().unwrap_err(), sandbox.to_json().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains("is not UTF-8") && error.hint().is_some(), "{error}");
        }
        assert!(serde_json::to_string(&sandbox).unwrap_err().to_string().contains("not UTF-8"));
    }
    // What is in a file need not be text.
    let bytes = Sandbox::new().mount(Mount::file("/a", b"\0\xff".as_slice()));
    assert!(bytes.to_toml().unwrap().contains("content_hex = \"00ff\""));
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let long = Sandbox::new().mount(Mount::file("/a", "x".repeat(MAX_TEXT)));
    for error in [long.to_toml().unwrap_err(), long.to_json().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
    for sandbox in [
        Sandbox::new().cpu_affinity([u32::MAX]),
        Sandbox::new().cpuset_cpus([1 << 16]),
        Sandbox::bare().deterministic().share_uts().uts_ns(),
        Sandbox::new().seccomp(Seccomp::new().observed()),
        Sandbox::new().seccomp((0..17).fold(Seccomp::new(), |outer, _| Seccomp::new().within(outer))),
    ] {
        assert!(sandbox.to_toml().is_err(), "{:?}", sandbox.to_toml());
    }
}

/// What a preset has that was given away is said by starting from less.
#[test]
fn the_nearest_preset_is_written() {
    for (sandbox, text) in [
        (Sandbox::new(), "preset = \"new\"\n"),
        (Sandbox::bare(), "preset = \"bare\"\n"),
        (Sandbox::judge(), "preset = \"judge\"\n"),
        (Sandbox::plugin().share_net(), "preset = \"plugin\"\nshare = [\"net\"]\n"),
        (Sandbox::new().share_uts(), "preset = \"new\"\nshare = [\"uts\"]\n"),
        (Sandbox::bare().hostname("a"), "preset = \"bare\"\nhostname = \"a\"\n"),
        (Sandbox::bare().pid_ns(), "preset = \"bare\"\nunshare = [\"pid\"]\n"),
        (Sandbox::new().allow_all_syscalls(), "preset = \"new\"\nallow_all_syscalls = true\n"),
        (Sandbox::judge().seccomp(Seccomp::new()), "preset = \"new\"\n"),
        (Sandbox::bare().seccomp(Seccomp::new()), "preset = \"bare\"\n\n[seccomp]\nprofile = \"new\"\n"),
        (Sandbox::judge().memory_max(Bytes::MAX), "preset = \"judge\"\n\n[limits]\nmemory_max = \"max\"\n"),
        (
            Sandbox::new().share_net().user_map(crate::UserMap::subids()).share_user(),
            "preset = \"new\"\nshare = [\"user\", \"net\"]\n",
        ),
        (
            Sandbox::new().deterministic().env("A", "1"),
            "preset = \"new\"\ndeterministic = true\n\n[env]\nA = \"1\"\n",
        ),
        (
            Sandbox::new().env("A", "1").env("B", "2").env("A", "3"),
            "preset = \"new\"\n\n[env]\nB = \"2\"\nA = \"3\"\n",
        ),
    ] {
        assert_eq!(sandbox.to_toml().unwrap(), text);
    }
    // This has the name of the host at first, and a namespace in which it can be changed.
    let renamed = Sandbox::new().share_uts().uts_ns();
    assert!(renamed.to_toml().unwrap().starts_with("preset = \"bare\"\nunshare = ["));
}

#[test]
fn large_numbers_become_text() {
    let filter =
        Seccomp::new().allow_if("read", [SyscallArg::new(2).ge(u64::MAX), SyscallArg::new(1).ne(i128::MIN)]);
    let text = Sandbox::new().seccomp(filter).to_toml().unwrap();
    assert!(text.contains("ge = \"18446744073709551615\""), "{text}");
    let read = Sandbox::from_toml(&text).unwrap().to_toml().unwrap();
    assert_eq!(read, text);
}

/// Without what has no effect, and is therefore not written.
fn effective(mut sandbox: Sandbox) -> Sandbox {
    if !sandbox.namespaces.contains(Namespaces::USER) {
        sandbox.user_map = crate::UserMap::auto();
    }
    let variables = std::mem::take(&mut sandbox.environment.variables);
    for (key, value) in variables {
        sandbox.environment.variables.retain(|(set, _)| *set != key);
        sandbox.environment.variables.push((key, value));
    }
    sandbox
}

/// Any policy that can be written is read back as it was, down to each field, in both formats.
#[test]
fn any_policy_is_read_back() {
    let soak = std::env::var_os("BELLJAR_SOAK").is_some();
    let config =
        Config { cases: if soak { 20_000 } else { 500 }, failure_persistence: None, ..Config::default() };
    let mut runner = match soak {
        true => TestRunner::new(config),
        false => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let (written, refused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let presets: [fn() -> Sandbox; 4] = [Sandbox::new, Sandbox::bare, Sandbox::judge, Sandbox::plugin];
    let policies = (select(presets.to_vec()), vec(any_word(), 0..8), bool::ANY);
    let needs =
        "syscall read\nsyscall socket 0=0x1\nread_file /usr/bin\nconnect 127.0.0.1:80\nbind [::]:8080\n";
    let needs: Needs = needs.parse().unwrap();
    let result = runner.run(&policies, |(preset, words, learned)| {
        let mut sandbox = words.into_iter().fold(preset(), |sandbox, Word(_, set)| set(sandbox));
        if learned {
            sandbox = needs.apply(sandbox);
        }
        let text = match sandbox.to_toml() {
            Ok(text) => text,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                assert!(error.hint().is_some(), "{error}");
                refused.set(refused.get() + 1);
                return Ok(());
            }
        };
        let expected = format!("{:?}", effective(sandbox.clone()));
        for read in [Sandbox::from_toml(&text), Sandbox::from_json(&sandbox.to_json().unwrap())] {
            let read = read.unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(format!("{:?}", effective(read)) == expected, "other than it was:\n{text}");
        }
        written.set(written.get() + 1);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // Names that are not UTF-8 are many among these.
    assert!(
        written.get() > 100 && refused.get() > 10,
        "{} written, {} refused",
        written.get(),
        refused.get()
    );
}
