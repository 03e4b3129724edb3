//! Profiles against a second, naive reading of their JSON; what is exported against what it came of.

use serde_json::Value;

use crate::seccomp::names::Arch;
use crate::seccomp::testing::*;
use crate::seccomp::{
    Options, Program, Seccomp, SyscallAction, SyscallArg, SyscallCondition, compile, profile, resolve,
};
use crate::{Error, ErrorKind, capability};

const DOCKER: &str = include_str!("../../../tests/fixtures/docker-seccomp.json");

const PODMAN: &str = include_str!("../../../tests/fixtures/podman-seccomp.json");

const NO_CAPABILITIES: u64 = 0;

fn imported(text: &str) -> Seccomp {
    Seccomp::from_json(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn compile_with(text: &str, arch: Arch, capabilities: u64, kernel: (u32, u32)) -> Result<Program, Error> {
    let imported = super::Imported::read(text)?;
    let mut table = resolve::Table::new(arch, imported.otherwise);
    imported.fill_for(&mut table, capabilities, kernel)?;
    compile::program(&table.finish().into_verdicts(), arch)
}

/// The answer of a profile, read from its JSON for this one call: the strictest of those that count and match.
fn naive(document: &Value, call: &str, arguments: [u64; 6], here: (&str, u64, (u64, u64))) -> u32 {
    let (arch, capabilities, running) = here;
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let has = |name: &String| capability::mask_of([name]).unwrap() & capabilities != 0;
    let since = |value: &Value| {
        let (major, minor) = value.as_str()?.split_once('.')?;
        Some(running >= (major.parse().ok()?, minor.parse().ok()?))
    };
    let answer = |action: &str, errno: &Value| match action {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | u32::try_from(errno.as_u64().unwrap_or(1)).unwrap(),
        _ => KILL,
    };
    let test = |arg: &Value| {
        let argument = arguments[usize::try_from(arg["index"].as_u64().unwrap()).unwrap()];
        let value = arg["value"].as_u64().unwrap();
        match arg["op"].as_str().unwrap() {
            "SCMP_CMP_EQ" => argument == value,
            "SCMP_CMP_NE" => argument != value,
            "SCMP_CMP_LT" => argument < value,
            "SCMP_CMP_LE" => argument <= value,
            "SCMP_CMP_GT" => argument > value,
            "SCMP_CMP_GE" => argument >= value,
            "SCMP_CMP_MASKED_EQ" => argument & value == arg["valueTwo"].as_u64().unwrap_or(0),
            _ => unreachable!(),
        }
    };
    let strictness = [KILL, 0x0003_0000, 0x0005_0000, 0x7ffc_0000, ALLOW];
    let rank = |answer: &u32| strictness.iter().position(|kind| kind >> 16 == answer >> 16).unwrap();
    let mut matching = Vec::new();
    for entry in document["syscalls"].as_array().unwrap() {
        let (includes, excludes) = (&entry["includes"], &entry["excludes"]);
        let arches = list(&includes["arches"]);
        let counts = list(&includes["caps"]).iter().all(has)
            && !list(&excludes["caps"]).iter().any(has)
            && (arches.is_empty() || arches.iter().any(|name| name == arch))
            && !list(&excludes["arches"]).iter().any(|name| name == arch)
            && since(&includes["minKernel"]) != Some(false)
            && since(&excludes["minKernel"]) != Some(true);
        let named = list(&entry["names"]).iter().any(|name| name == call);
        if counts && named && entry["args"].as_array().into_iter().flatten().all(test) {
            matching.push(answer(entry["action"].as_str().unwrap(), &entry["errnoRet"]));
        }
    }
    if let Some(strictest) = matching.into_iter().min_by_key(rank) {
        return strictest;
    }
    match call {
        "clone3" if !named_at_all(document, call) => ENOSYS,
        _ => answer(document["defaultAction"].as_str().unwrap(), &document["defaultErrnoRet"]),
    }
}

fn named_at_all(document: &Value, call: &str) -> bool {
    let entries = document["syscalls"].as_array().unwrap();
    entries.iter().any(|entry| entry["names"].as_array().unwrap().iter().any(|name| name == call))
}

#[test]
fn profiles_of_engines_answer_as_they_read() {
    for text in [DOCKER, PODMAN] {
        answers_as_it_reads(text);
    }
}

fn answers_as_it_reads(text: &str) {
    let document: Value = serde_json::from_str(text).unwrap();
    let some = capability::mask_of(&["SYS_ADMIN".to_owned(), "SYS_TIME".to_owned()]).unwrap();
    let mut stream = Arguments(0x00d0_c4e2_1234_5678);
    for (arch, name) in [(Arch::X86_64, "amd64"), (Arch::Aarch64, "arm64")] {
        for (capabilities, kernel) in [(0, (4, 7)), (0, (6, 18)), (some, (6, 18)), (u64::MAX >> 23, (5, 10))]
        {
            let program = compile_with(text, arch, capabilities, kernel).unwrap();
            for number in 0..=600 {
                for arguments in [[0; 6], [u64::MAX; 6], stream.six(), stream.six(), stream.six()] {
                    let running = (kernel.0.into(), kernel.1.into());
                    let wanted = arch.name(number).map_or(ENOSYS, |call| {
                        naive(&document, call, arguments, (name, capabilities, running))
                    });
                    let found = answer(&program, arch, number, arguments);
                    assert_eq!(found, wanted, "{name} {:?} {arguments:x?}", arch.name(number));
                }
            }
        }
    }
}

#[test]
fn conditions_on_capabilities_and_kernels_are_of_the_plan() {
    let ask = |capabilities, kernel, call| {
        let program = compile_with(DOCKER, Arch::X86_64, capabilities, kernel).unwrap();
        by_name(&program, Arch::X86_64, call, [0; 6]).unwrap()
    };
    let admin = capability::SYS_ADMIN;
    assert_eq!((ask(0, (6, 1), "mount"), ask(admin, (6, 1), "mount")), (EPERM, ALLOW));
    assert_eq!((ask(0, (6, 1), "clone3"), ask(admin, (6, 1), "clone3")), (ENOSYS, ALLOW));
    assert_eq!((ask(0, (4, 7), "ptrace"), ask(0, (4, 8), "ptrace")), (EPERM, ALLOW));
    // The same value by its public way, where options say which capabilities are kept.
    let policy = imported(DOCKER);
    let with = |capabilities| {
        let program = compile(&policy, Arch::X86_64, Options { capabilities, ..UNGUARDED });
        by_name(&program, Arch::X86_64, "mount", [0; 6]).unwrap()
    };
    assert_eq!((with(0), with(admin)), (EPERM, ALLOW));
}

#[test]
fn words_change_an_imported_profile() {
    let policy = imported(DOCKER)
        .kill(["ptrace"])
        .deny_if("socket", [SyscallArg::new(0).low32().eq(40)])
        .otherwise(SyscallAction::Trap);
    let program = compile(&policy, Arch::X86_64, GUARDED);
    let ask = |name, arguments| by_name(&program, Arch::X86_64, name, arguments).unwrap();
    assert_eq!(ask("ptrace", [0; 6]), KILL);
    assert_eq!(ask("mount", [0; 6]), 0x0003_0000);
    assert_eq!(ask("fchmod", [0, 0o4755, 0, 0, 0, 0]), EPERM, "the guard of writable directories holds too");
    // Docker's profile compares 64 bits, and the kernel takes 32.
    let vsock = [1 << 32 | 40, 1, 0, 0, 0, 0];
    let docker = compile(&imported(DOCKER), Arch::X86_64, UNGUARDED);
    assert_eq!(by_name(&docker, Arch::X86_64, "socket", vsock), Some(ALLOW));
    assert_eq!(ask("socket", vsock), EPERM);
}

fn profile(default: &str, entries: &str) -> String {
    format!(r#"{{"defaultAction": "{default}", "syscalls": [{entries}]}}"#)
}

/// Random profiles of many entries on few calls: those without a contradiction answer as they read.
#[test]
fn random_profiles_answer_as_they_read() {
    const ACTIONS: [&str; 6] = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_KILL",
    ];
    const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    const NAMES: [&str; 5] = ["read", "clone", "clone3", "socket", "ioctl"];
    let mut stream = Arguments(0x1020_3040_5060_7080);
    let pick = |list: &[&'static str], stream: &mut Arguments| {
        list[usize::try_from(stream.next() % list.len() as u64).unwrap()]
    };
    let (mut compiled, mut refused) = (0, 0);
    for _ in 0..600 {
        let mut entries = vec![r#"{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}"#.to_owned()];
        for _ in 0..1 + stream.next() % 5 {
            let args: Vec<String> = (0..stream.next() % 3)
                .map(|index| {
                    let (op, mask, value) = (pick(&OPERATORS, &mut stream), stream.argument(), stream.argument());
                    match op {
                        "MASKED_EQ" => {
                            let value = value & mask;
                            format!(r#"{{"index": {index}, "value": {mask}, "valueTwo": {value}, "op": "SCMP_CMP_{op}"}}"#)
                        }
                        _ => format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_{op}"}}"#),
                    }
                })
                .collect();
            let (name, action) = (pick(&NAMES, &mut stream), pick(&ACTIONS, &mut stream));
            entries.push(format!(
                r#"{{"names": ["{name}"], "action": "{action}", "args": [{}]}}"#,
                args.join(", ")
            ));
        }
        let text = profile(pick(&ACTIONS, &mut stream), &entries.join(", "));
        let document: Value = serde_json::from_str(&text).unwrap();
        match compile_with(&text, Arch::X86_64, NO_CAPABILITIES, (6, 1)) {
            Ok(program) => {
                compiled += 1;
                for name in NAMES.into_iter().chain(["execve", "getpid"]) {
                    for _ in 0..40 {
                        let arguments = stream.six();
                        let found = by_name(&program, Arch::X86_64, name, arguments).unwrap();
                        let wanted = naive(&document, name, arguments, ("amd64", 0, (6, 1)));
                        assert_eq!(found, wanted, "{name} {arguments:x?} {text}");
                    }
                }
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            }
        }
    }
    assert!(compiled > 150 && refused > 50, "{compiled} and {refused}");
}

/// Both programs answer the same, whatever is asked of them.
fn same_answers(one: &Seccomp, other: &Seccomp, what: &str) {
    let (first, second) = (compile(one, Arch::NATIVE, UNGUARDED), compile(other, Arch::NATIVE, UNGUARDED));
    let verdicts = resolve::verdicts(one, UNGUARDED, Arch::NATIVE).unwrap();
    let mut stream = Arguments(0x4242_1111_9999_3333);
    for number in 0..600_u32 {
        for round in 0..30 {
            let arguments = match verdicts.get(number as usize) {
                Some(verdict) if round > 4 => near(verdict, &mut stream),
                _ => stream.six(),
            };
            let ask = |program| answer(program, Arch::NATIVE, number, arguments);
            assert_eq!(ask(&first), ask(&second), "{what}: {:?} {arguments:x?}", Arch::NATIVE.name(number));
        }
    }
}

#[test]
fn what_is_exported_has_the_same_answers() {
    let arg = SyscallArg::new;
    let policies = profile::ALL
        .map(|profile| Seccomp { base: crate::seccomp::Base::Profile(profile), ..Seccomp::default() })
        .into_iter()
        .chain([
            Seccomp::new()
                .otherwise(SyscallAction::Log)
                .kill(["@mount"])
                .log(["read"])
                .deny_with(["write"], 77),
            Seccomp::allow_only(["@default", "@network-io"]).allow(["clone3"]),
            Seccomp::new().deny(["clone3"]),
            // Cases whose order matters, ranges of 32 bits, and an answer of last resort that is not the default one.
            Seccomp::new()
                .deny(["socket"])
                .allow_if("socket", [arg(0).low32().lt(17)])
                .on_if(
                    "socket",
                    [arg(0).low32().ge(3), arg(1).low32().masked_eq(0xf, 5)],
                    SyscallAction::Kill,
                )
                .on_if(
                    "read",
                    [arg(2).gt(0x1_2345_6789_u64), arg(2).le(0x7_0000_0000_u64)],
                    SyscallAction::Trap,
                ),
            imported(DOCKER),
            imported(PODMAN),
        ]);
    for (number, policy) in policies.enumerate() {
        let text = policy.to_json().unwrap();
        let again = imported(&text);
        same_answers(&policy, &again, &format!("policy {number}"));
        assert_eq!(again.to_json().unwrap(), text, "policy {number}");
    }
}

/// Where each condition has a word in the format, not only the answers are the same but every instruction.
#[test]
fn what_is_exported_as_it_is_compiles_to_the_same_program() {
    let mut stream = Arguments(0x0808_6502_6801_0e0a);
    let mut conditional = 0;
    for _ in 0..60 {
        let mut policy = Seccomp::allow_only(["execve"]);
        for (name, _) in Arch::NATIVE.calls().filter(|call| !["execve", "clone3"].contains(&call.0)) {
            let argument = SyscallArg::new(u8::try_from(stream.next() % 6).unwrap());
            let value = stream.argument();
            let conditions: Option<[SyscallCondition; 1]> = match stream.next() % 40 {
                0 => Some([argument.eq(value)]),
                1 => Some([argument.ge(value)]),
                2 => Some([argument.low32().eq(value & 0xffff_ffff)]),
                3 => Some([argument.masked_eq(value, value)]),
                4 => Some([argument.ne(value)]),
                _ => None,
            };
            policy = match (stream.next() % 8, conditions) {
                (0..=3, Some(some)) => policy.allow_if(name, some),
                (0..=2, None) => policy.allow([name]),
                (3, None) => policy.log([name]),
                (4, None) => policy.trap([name]),
                (5, None) => policy.kill([name]),
                (6, None) => policy.deny_with([name], 1 + i32::try_from(stream.next() % 50).unwrap()),
                (_, Some(some)) => policy.on_if(name, some, SyscallAction::Kill),
                _ => policy,
            };
            conditional += u32::from(conditions.is_some());
        }
        let again = imported(&policy.to_json().unwrap());
        assert_eq!(policy.to_bpf().unwrap(), again.to_bpf().unwrap());
    }
    assert!(conditional > 1000);
}

#[test]
fn what_cannot_be_exported_is_an_error() {
    let low = |index| SyscallArg::new(index).low32().lt(0x5555_5555);
    let policy = Seccomp::new().on_if("read", [low(0), low(1), low(2)], SyscallAction::Kill);
    let error = policy.to_json().unwrap_err();
    assert_eq!(error.to_string(), "the conditions on \"read\" would take more than 256 entries");
    assert!(error.hint().is_some());
    let error = Seccomp::new().notify(["openat"]).to_json().unwrap_err();
    assert_eq!(error.to_string(), "calls that a handler of the host answers cannot be written as a profile");
    assert!(error.hint().is_some());
}

#[test]
fn hostile_and_mistaken_profiles_are_errors() {
    let allow = |entries: &str| profile("SCMP_ACT_ALLOW", entries);
    let args = |args: &str| {
        allow(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{args}]}}"#))
    };
    let read = r#""names": ["read"]"#;
    let deny = r#""action": "SCMP_ACT_ERRNO""#;
    let cases = [
        ("".to_owned(), "cannot be read: EOF"),
        ("[]".to_owned(), "cannot be read"),
        ("{}".to_owned(), "cannot be read: missing field `defaultAction`"),
        (format!("{} x", allow("")), "cannot be read: trailing characters"),
        ("[".repeat(100_000), "cannot be read"),
        (format!(r#"{{"defaultAction": {}"#, "[".repeat(300)), "cannot be read"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_KILL"}"#.to_owned(), "duplicate field"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}"#.to_owned(), "unknown field `syscall`"),
        (r#"{"defaultAction": "ALLOW"}"#.to_owned(), "unknown action \"ALLOW\""),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(), "SCMP_ACT_NOTIFY in the seccomp profile is not supported"),
        (r#"{"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 5}"#.to_owned(), "SCMP_ACT_TRACE in the seccomp profile is not supported"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5}"#.to_owned(), "SCMP_ACT_ALLOW in the seccomp profile takes no errno"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0}"#.to_owned(), "0 is not an errno"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.to_owned(), "4096 is not an errno"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4294967295}"#.to_owned(), "is not an errno"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}"#.to_owned(), "cannot be read: invalid value"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOWHERE"}"#.to_owned(), "unknown errno \"ENOWHERE\""),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM", "defaultErrnoRet": 2}"#.to_owned(), "EPERM in the seccomp profile is not errno 2"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}"#.to_owned(), "unknown architecture \"SCMP_ARCH_Z80\""),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86_64"]}"#.to_owned(), "unknown architecture \"X86_64\""),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null}]}"#.to_owned(), "both \"architectures\" and \"archMap\""),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#.to_owned(), "asks for SECCOMP_FILTER_FLAG_LOG"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}"#.to_owned(), "names a listener"),
        (allow(&format!("{{{read}}}")), "missing field `action`"),
        (allow(&format!("{{{deny}}}")), "has no names"),
        (allow(&format!(r#"{{"names": [], {deny}}}"#)), "has no names"),
        (allow(&format!(r#"{{"name": "read", {read}, {deny}}}"#)), "both \"name\" and \"names\""),
        (allow(&format!(r#"{{"names": [""], {deny}}}"#)), "\"\" in the seccomp profile is no name"),
        (allow(&format!(r#"{{"names": ["@mount"], {deny}}}"#)), "\"@mount\" in the seccomp profile is no name"),
        (allow(&format!(r#"{{"names": ["Read"], {deny}}}"#)), "\"Read\" in the seccomp profile is no name"),
        (allow(&format!(r#"{{{read}, {deny}, "if": true}}"#)), "unknown field `if`"),
        (args(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#), "system calls have no argument 6"),
        (args(r#"{"index": 300, "value": 0, "op": "SCMP_CMP_EQ"}"#), "invalid value"),
        (args(r#"{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}"#), "invalid value"),
        (args(r#"{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}"#), "invalid type"),
        (args(r#"{"index": 0, "value": 0, "op": "=="}"#), "unknown operator \"==\""),
        (args(r#"{"index": 0, "value": 0}"#), "missing field `op`"),
        (args(r#"{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}"#), "takes no \"valueTwo\""),
        (args(r#"{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}"#), "can never hold"),
        (args(r#"{"index": 0, "value": 0, "op": "SCMP_CMP_LT"}"#), "can never hold"),
        (args(r#"{"index": 0, "value": 1, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 5, "op": "SCMP_CMP_LE"}"#), "two conditions on argument 0"),
        (allow(&format!(r#"{{{read}, {deny}, "includes": {{"caps": ["CAP_EVERYTHING"]}}}}"#)), "unknown capability"),
        (allow(&format!(r#"{{{read}, {deny}, "includes": {{"arches": ["amd46"]}}}}"#)), "unknown architecture \"amd46\""),
        (allow(&format!(r#"{{{read}, {deny}, "excludes": {{"minKernel": "5"}}}}"#)), "\"5\" in the seccomp profile is no version"),
        (allow(&format!(r#"{{{read}, {deny}, "excludes": {{"minKernel": "5.4.1"}}}}"#)), "is no version"),
    ];
    for (text, wanted) in cases {
        let error = Seccomp::from_json(&text).err().unwrap_or_else(|| panic!("{text:.200} was read"));
        assert!(error.to_string().contains(wanted), "{error}, and not {wanted}: {text:.200}");
        assert_eq!((error.kind(), error.hint().is_some()), (ErrorKind::InvalidConfig, true), "{error}");
    }
    let error = Seccomp::from_json(&" ".repeat(100 << 20)).unwrap_err();
    assert_eq!((error.kind(), error.hint().is_some()), (ErrorKind::LimitExceeded, true));
}

/// What only the machine, the sandbox or the whole of the entries shows.
#[test]
fn contradictions_and_unknown_names_are_errors_of_the_plan() {
    let entry = |name: &str, action: &str, rest: &str| {
        format!(
            r#"{{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}}, {{"names": ["{name}"], "action": "SCMP_ACT_{action}"{rest}}}"#
        )
    };
    let more = |first: &str, second: &str| format!("{first}, {second}");
    let at_0 = |value| format!(r#", "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]"#);
    let plan = |default: &str, entries: &str| {
        let policy = Seccomp::from_json(&profile(default, entries)).unwrap();
        policy.compile_for(Arch::X86_64, UNGUARDED)
    };
    let refused = |default: &str, entries: &str, text: &str| {
        let error = plan(default, entries).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidConfig, text));
    };
    let (allow, errno) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    let differ = "two entries of the seccomp profile answer \"read\" differently";
    refused(errno, &more(&entry("read", "ALLOW", ""), &entry("read", "KILL", "")), differ);
    refused(errno, &more(&entry("read", "ALLOW", ""), &entry("read", "KILL", &at_0(3))), differ);
    refused(errno, &more(&entry("read", "ALLOW", &at_0(3)), &entry("read", "KILL", &at_0(3))), differ);
    let masked = r#", "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]"#;
    refused(errno, &more(&entry("read", "ALLOW", &at_0(3)), &entry("read", "KILL", masked)), differ);
    // The controls: the same answer twice, and conditions that cannot hold at once.
    plan(errno, &more(&entry("read", "ALLOW", ""), &entry("read", "ALLOW", &at_0(3)))).unwrap();
    plan(errno, &more(&entry("read", "ALLOW", &at_0(4)), &entry("read", "KILL", masked))).unwrap();
    // For different capabilities entries may differ: the strictest counts, whichever comes first.
    let scoped = r#", "excludes": {"caps": ["CAP_SYS_ADMIN"]}"#;
    for entries in [
        more(&entry("read", "ALLOW", ""), &entry("read", "KILL", scoped)),
        more(&entry("read", "KILL", scoped), &entry("read", "ALLOW", "")),
        more(&entry("read", "KILL", ""), &entry("read", "ALLOW", scoped)),
    ] {
        let program = plan(errno, &entries).unwrap();
        assert_eq!(by_name(&program, Arch::X86_64, "read", [0; 6]), Some(KILL), "{entries}");
    }
    let program =
        plan(errno, &more(&entry("read", "ALLOW", ""), &entry("read", "TRAP", &(at_0(3) + scoped)))).unwrap();
    let read = |argument| by_name(&program, Arch::X86_64, "read", [argument, 0, 0, 0, 0, 0]);
    assert_eq!((read(3), read(4)), (Some(0x0003_0000), Some(ALLOW)));
    // A name that nobody knows.
    refused(
        allow,
        &entry("ptarce", "ERRNO", ""),
        "the seccomp profile refuses \"ptarce\", which is no syscall that is known",
    );
    plan(errno, &entry("ptarce", "KILL", "")).unwrap();
    plan(errno, &entry("ptarce", "ALLOW", "")).unwrap();
    plan(allow, &entry("clock_settime64", "ERRNO", "")).unwrap();
    // Thousands of entries for one call end soon.
    let many: Vec<String> = (0..8000)
        .map(|value| format!(r#"{{"name": "read", "action": "SCMP_ACT_LOG"{}}}"#, at_0(value)))
        .collect();
    let text = profile(allow, &many.join(", "));
    let error = Seccomp::from_json(&text).unwrap().compile_for(Arch::X86_64, UNGUARDED).unwrap_err();
    assert_eq!(error.to_string(), "the seccomp profile has more than 256 entries for \"read\"");
}

/// Whatever becomes of the text of a profile, it is read or refused.
#[test]
fn damaged_profiles_do_no_harm() {
    let mut stream = Arguments(0x600d_f00d_dead_beef);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut bytes = DOCKER.as_bytes().to_vec();
        for _ in 0..=stream.next() % 3 {
            let at = usize::try_from(stream.next()).unwrap() % bytes.len();
            match stream.next() % 4 {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..bytes.len().min(at + 9))),
                2 => bytes[at] = b"[]{},:\"0-e "[usize::try_from(stream.next() % 11).unwrap()],
                _ => bytes[at] = b'a' + u8::try_from(stream.next() % 26).unwrap(),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match Seccomp::from_json(&text).and_then(|policy| policy.compile_for(Arch::X86_64, UNGUARDED)) {
            Ok(_) => read += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 10 && refused > 100, "{read} and {refused}");
}

#[test]
fn foreign_names_are_sorted_and_foreign() {
    let names = super::foreign::FOREIGN;
    assert!(names.is_sorted());
    assert!(names.iter().all(|name| crate::seccomp::names::known(name).is_none()));
}
