//! The words of policies against a second, naive reading: the last word that matches decides.

use super::names::Arch;
use super::testing::*;
use super::{Seccomp, SyscallAction, SyscallArg, SyscallCondition, groups, profile};
use crate::ErrorKind;

const LOG: u32 = 0x7ffc_0000;
const TRAP: u32 = 0x0003_0000;

fn arg(index: u8) -> SyscallArg {
    SyscallArg::new(index)
}

/// The raw answer of an action.
fn raw(action: SyscallAction) -> u32 {
    match action {
        SyscallAction::Allow => ALLOW,
        SyscallAction::Log => LOG,
        SyscallAction::Errno(errno) => 0x0005_0000 | errno.unsigned_abs(),
        SyscallAction::Trap => TRAP,
        SyscallAction::Kill => KILL,
        SyscallAction::Notify => NOTIFY,
    }
}

/// A policy as it was said, and read without tables.
struct Said {
    words: Vec<(Vec<&'static str>, Vec<SyscallCondition>, SyscallAction)>,
    otherwise: SyscallAction,
}

impl Said {
    fn answer(&self, arch: Arch, number: u32, arguments: [u64; 6]) -> u32 {
        if arch == Arch::X86_64 && number >= 0x4000_0000 {
            return KILL;
        }
        let Some(name) = arch.name(number) else { return ENOSYS };
        let group = groups::GROUPS.iter().find(|group| group.calls.contains(&name)).unwrap().name;
        for (names, conditions, action) in self.words.iter().rev() {
            let through = matches!(action, SyscallAction::Allow | SyscallAction::Log | SyscallAction::Notify);
            let mut all = conditions.iter().map(|condition| condition.lower().unwrap());
            if !all.all(|condition| condition.holds(arguments)) {
                continue;
            }
            if names.contains(&name) {
                return raw(*action);
            }
            if !names.contains(&group) {
                continue;
            }
            let rules = groups::conditions(name).filter(|_| through);
            let kept = rules.is_none_or(|rules| {
                rules.iter().any(|rule| rule.iter().all(|condition| condition.holds(arguments)))
            });
            // A word without conditions replaces what was said before even where it does not let a member through.
            match (kept, name == "clone3" && through, conditions.is_empty()) {
                (true, false, _) => return raw(*action),
                (_, true, true) => return ENOSYS,
                (false, _, true) => return raw(self.otherwise),
                _ => {}
            }
        }
        if name == "clone3" { ENOSYS } else { raw(self.otherwise) }
    }
}

fn random_action(stream: &mut Arguments) -> SyscallAction {
    match stream.next() % 6 {
        0 | 1 => SyscallAction::Allow,
        2 => SyscallAction::Log,
        3 => SyscallAction::Errno(1 + i32::try_from(stream.next() % 4095).unwrap()),
        4 => SyscallAction::Trap,
        _ => SyscallAction::Kill,
    }
}

fn random_test(stream: &mut Arguments) -> SyscallCondition {
    let low32 = stream.next() % 2 == 0;
    let limit = if low32 { 0xffff_ffff } else { u64::MAX };
    let index = arg(u8::try_from(stream.next() % 3).unwrap());
    let argument = if low32 { index.low32() } else { index };
    let value = stream.argument() & limit;
    match stream.next() % 7 {
        0 => argument.eq(value),
        1 => argument.ne(value),
        2 => argument.lt(value.max(1)),
        3 => argument.le(value),
        4 => argument.gt(value.min(limit - 1)),
        5 => argument.ge(value),
        _ => {
            let mask = stream.argument() & limit;
            argument.masked_eq(mask, value & mask)
        }
    }
}

/// Random policies of every word, on calls and groups, against the naive reading, for numbers and arguments all over.
#[test]
fn the_last_word_that_matches_decides() {
    const NAMES: [&str; 12] = [
        "read",
        "clone",
        "clone3",
        "socket",
        "ioctl",
        "prlimit64",
        "mount",
        "@process",
        "@network-io",
        "@basic-io",
        "@mount",
        "@resources",
    ];
    let mut stream = Arguments(0x0f1e_2d3c_4b5a_6978);
    let mut compiled = 0;
    for round in 0..200 {
        let arch = BOTH[round % 2];
        let otherwise = random_action(&mut stream);
        let mut policy = Seccomp::allow_only(["execve"]).otherwise(otherwise);
        let mut said = Said { words: vec![(vec!["execve"], vec![], SyscallAction::Allow)], otherwise };
        for _ in 0..1 + stream.next() % 8 {
            let name = NAMES[usize::try_from(stream.next() % 12).unwrap()];
            let action = random_action(&mut stream);
            let conditions: Vec<_> = (0..stream.next() % 3).map(|_| random_test(&mut stream)).collect();
            policy = match (conditions.as_slice(), action) {
                ([], SyscallAction::Allow) => policy.allow([name]),
                ([], SyscallAction::Log) => policy.log([name]),
                ([], SyscallAction::Errno(errno)) => policy.deny_with([name], errno),
                ([], SyscallAction::Trap) => policy.trap([name]),
                ([], SyscallAction::Kill) => policy.kill([name]),
                ([], SyscallAction::Notify) => policy.notify([name]),
                (some, SyscallAction::Allow) => policy.allow_if(name, some.to_vec()),
                (some, action) => policy.on_if(name, some.to_vec(), action),
            };
            said.words.push((vec![name], conditions, action));
        }
        // Conditions that contradict each other, and words that change nothing, are errors of their own.
        let Ok(program) = policy.compile_for(arch, UNGUARDED) else { continue };
        compiled += 1;
        let watched = NAMES.iter().filter_map(|name| arch.number(name)).chain([450, 470, 600]);
        let elsewhere: Vec<u32> = (0..24).map(|_| u32::try_from(stream.next() % 480).unwrap()).collect();
        for number in watched.chain(elsewhere) {
            for _ in 0..8 {
                let arguments = stream.six();
                let (found, wanted) =
                    (answer(&program, arch, number, arguments), said.answer(arch, number, arguments));
                let name = arch.name(number);
                assert_eq!(
                    found, wanted,
                    "round {round}: {arch:?} {name:?} {arguments:#x?} {:#?}",
                    said.words
                );
            }
        }
    }
    assert!(compiled > 100, "only {compiled} of the policies were without a mistake");
}

#[test]
fn a_condition_leaves_what_was_said_before() {
    let policy = Seccomp::new().deny(["socket"]).allow_if("socket", [arg(0).low32().eq(1)]).on_if(
        "socket",
        [arg(0).low32().eq(1), arg(1).low32().masked_eq(0xf, 5)],
        SyscallAction::Kill,
    );
    for arch in BOTH {
        let program = compile(&policy, arch, UNGUARDED);
        let ask = |domain, kind| by_name(&program, arch, "socket", [domain, kind, 0, 0, 0, 0]);
        assert_eq!(ask(1, 1), Some(ALLOW));
        assert_eq!(ask(1 << 40 | 1, 1), Some(ALLOW), "the kernel drops the upper half");
        assert_eq!(ask(1, 0o2_000_005), Some(KILL));
        assert_eq!(ask(2, 5), Some(EPERM));
        // A later word without conditions replaces them all.
        let program = compile(&policy.clone().trap(["socket"]), arch, UNGUARDED);
        assert_eq!(by_name(&program, arch, "socket", [1, 1, 0, 0, 0, 0]), Some(TRAP));
    }
}

#[test]
fn operands_have_64_bits_unless_low32() {
    let value = 0x1234_5678_9abc_def0_u64;
    let cases = [
        (arg(1).eq(value), value, value ^ 1 << 40),
        (arg(1).gt(value), value + (1 << 32), value),
        (arg(1).le(value), value, value + 1),
        (arg(1).eq(-1), u64::MAX, 0xffff_ffff),
        (arg(1).low32().eq(-1), 0xffff_ffff, 0xffff_fffe),
        (arg(1).low32().eq(-1), u64::MAX, 1 << 32),
        (arg(1).low32().lt(5), 7 << 32 | 4, 5),
        (arg(1).masked_eq(1_u64 << 63, 1_u64 << 63), 1 << 63, 1),
    ];
    for (condition, matching, other) in cases {
        let program =
            compile(&Seccomp::new().on_if("read", [condition], SyscallAction::Kill), Arch::X86_64, UNGUARDED);
        let ask = |argument| by_name(&program, Arch::X86_64, "read", [0, argument, 0, 0, 0, 0]);
        assert_eq!((ask(matching), ask(other)), (Some(KILL), Some(ALLOW)), "{condition:?}");
    }
}

#[test]
fn groups_keep_the_conditions_of_their_members() {
    let policies = [
        Seccomp::judge().allow(["@network-io", "@process", "@basic-io"]),
        Seccomp::allow_only(["@default", "@network-io", "@process", "@basic-io"]),
        Seccomp::strict().log(["@network-io", "@process", "@basic-io"]),
    ];
    for (policy, arch) in policies.iter().flat_map(|policy| BOTH.map(|arch| (policy, arch))) {
        let program = compile(policy, arch, UNGUARDED);
        let through = |name, arguments| {
            let found = by_name(&program, arch, name, arguments).unwrap();
            found == ALLOW || found == LOG
        };
        assert!(through("socket", [1, 0, 0, 0, 0, 0]) && !through("socket", [40, 0, 0, 0, 0, 0]));
        assert!(through("clone", [17, 0, 0, 0, 0, 0]) && !through("clone", [0x1000_0011, 0, 0, 0, 0, 0]));
        assert!(through("ioctl", [0, 0x5401, 0, 0, 0, 0]) && !through("ioctl", [0, 0x5412, 0, 0, 0, 0]));
        assert_eq!(by_name(&program, arch, "clone3", [0; 6]), Some(ENOSYS));
    }
    // The control: a call that is named has no conditions.
    let named = compile(&Seccomp::judge().allow(["socket", "clone3"]), Arch::X86_64, UNGUARDED);
    assert_eq!(by_name(&named, Arch::X86_64, "socket", [40, 0, 0, 0, 0, 0]), Some(ALLOW));
    assert_eq!(by_name(&named, Arch::X86_64, "clone3", [0; 6]), Some(ALLOW));
    // Conditions of the caller's come on top.
    let both = Seccomp::judge().allow_if("@network-io", [arg(1).low32().eq(5)]);
    let program = compile(&both, Arch::X86_64, UNGUARDED);
    let ask = |domain, kind| by_name(&program, Arch::X86_64, "socket", [domain, kind, 0, 0, 0, 0]);
    assert_eq!((ask(1, 5), ask(1, 4), ask(40, 5)), (Some(ALLOW), Some(EPERM), Some(EPERM)));
}

#[test]
fn otherwise_answers_what_nothing_matches() {
    for (policy, listed) in [
        (Seccomp::new(), "read"),
        (Seccomp::judge(), "pipe2"),
        (Seccomp::allow_only(["execve", "read"]), "read"),
    ] {
        for action in [SyscallAction::Kill, SyscallAction::Trap, SyscallAction::Errno(7), SyscallAction::Log]
        {
            let program = compile(&policy.clone().otherwise(action), Arch::X86_64, UNGUARDED);
            let ask = |name| by_name(&program, Arch::X86_64, name, [9; 6]);
            assert_eq!(ask(listed), Some(ALLOW));
            assert_eq!(ask("mount"), Some(raw(action)));
            assert_eq!(ask("socket"), Some(raw(action)), "a condition that does not hold is no match");
            assert_eq!(ask("clone3"), Some(ENOSYS));
            assert_eq!(answer(&program, Arch::X86_64, 600, [0; 6]), ENOSYS);
        }
    }
}

/// What each profile is for, and what it is against.
#[test]
fn profiles_allow_and_deny_what_they_say() {
    let cases = [
        (
            Seccomp::judge(),
            "read write execve openat mmap futex pipe2 wait4 exit_group unlink",
            EPERM,
            "socketpair connect shmget mq_open mknodat fsetxattr inotify_init1 ptrace mount setuid fsync seccomp io_setup",
        ),
        (
            Seccomp::plugin(),
            "read write openat mmap futex pipe2 recvmsg sendmsg fsync exit_group",
            EPERM,
            "execve execveat connect bind accept4 shmget mq_open mknodat ptrace mount setuid seccomp io_setup",
        ),
        (
            Seccomp::strict(),
            "read write mmap brk exit_group futex close",
            KILL,
            "clone connect pipe2 unlinkat mkdirat getdents64 wait4 kill ptrace mount setuid memfd_create execve execveat",
        ),
    ];
    for (policy, allowed, refusal, refused) in cases {
        for arch in BOTH {
            let program = compile(&policy, arch, UNGUARDED);
            let ask = |name| by_name(&program, arch, name, [0; 6]);
            for name in allowed.split_whitespace() {
                assert!(matches!(ask(name), Some(ALLOW) | None), "{arch:?} {name} {policy:?}");
            }
            for name in refused.split_whitespace() {
                assert_eq!(ask(name), Some(refusal), "{arch:?} {name} {policy:?}");
            }
        }
    }
    let plugin = compile(&Seccomp::plugin(), Arch::X86_64, UNGUARDED);
    let clone = |flags| by_name(&plugin, Arch::X86_64, "clone", [flags, 0, 0, 0, 0, 0]);
    assert_eq!(clone(0x1_0f00), Some(ALLOW), "CLONE_VM | FS | FILES | SIGHAND | THREAD");
    assert_eq!((clone(17), clone(0x1001_0f00), clone(17 | 1 << 48)), (Some(EPERM), Some(EPERM), Some(EPERM)));
    let strict = compile(&Seccomp::strict(), Arch::X86_64, UNGUARDED);
    let open = |flags| by_name(&strict, Arch::X86_64, "openat", [0, 0, flags, 0, 0, 0]);
    assert_eq!(open(0o2_000_000), Some(ALLOW), "O_RDONLY | O_CLOEXEC");
    for flags in [1, 2, 3, 0o100, 0o1000, 0o20_200_000] {
        assert_eq!(open(flags), Some(KILL), "{flags:#o}");
    }
}

/// A profile is never wider than the default one, whatever is asked.
#[test]
fn no_profile_allows_what_the_default_one_denies() {
    let mut stream = Arguments(0x7777_1234_abcd_0001);
    for arch in BOTH {
        let default = compile(&Seccomp::new(), arch, UNGUARDED);
        for profile in profile::ALL {
            let policy = Seccomp { base: super::Base::Profile(profile), ..Seccomp::default() };
            let program = compile(&policy, arch, UNGUARDED);
            for number in 0..600 {
                for _ in 0..30 {
                    let arguments = stream.six();
                    let here = answer(&program, arch, number, arguments);
                    if here == ALLOW {
                        let there = answer(&default, arch, number, arguments);
                        assert_eq!(there, ALLOW, "{} {:?} {arguments:x?}", profile.name, arch.name(number));
                    }
                }
            }
        }
    }
}

#[test]
fn mistaken_words_are_errors_with_a_hint() {
    let none: [SyscallCondition; 0] = [];
    let mistakes = [
        (Seccomp::new().allow(["@no-such-group"]), "unknown group of syscalls \"@no-such-group\""),
        (Seccomp::new().deny(["@"]), "unknown group of syscalls \"@\""),
        (Seccomp::allow_only(["@Process"]), "unknown group of syscalls \"@Process\""),
        (Seccomp::new().deny_if("nothing", [arg(0).eq(0)]), "unknown syscall \"nothing\""),
        (Seccomp::new().deny_if("read", none), "the list of conditions on \"read\" is empty"),
        (Seccomp::new().deny_if("read", [arg(0).eq(1); 17]), "17 conditions on \"read\" are too many"),
        (Seccomp::new().deny_if("read", [arg(6).eq(1)]), "system calls have no argument 6"),
        (
            Seccomp::new().deny_if("read", [arg(0).eq(1_i128 << 64)]),
            "18446744073709551616 does not fit into 64 bits of an argument",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).low32().eq(1_u64 << 32)]),
            "4294967296 does not fit into 32 bits of an argument",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).low32().eq(-2_147_483_649_i64)]),
            "-2147483649 does not fit into 32 bits of an argument",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).eq(1), arg(0).eq(2)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).lt(0)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).gt(u64::MAX)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).masked_eq(3, 4)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::new().deny_if("read", [arg(0).ge(8), arg(0).low32().lt(8), arg(0).lt(1_u64 << 32)]),
            "the conditions on \"read\" can never hold together",
        ),
        (
            Seccomp::new().allow_if("read", [arg(0).eq(0)]),
            "conditions under which \"read\" is allowed change nothing",
        ),
        (
            Seccomp::new().otherwise(SyscallAction::Errno(0)),
            "0 is not an errno that a system call can fail with",
        ),
        (
            Seccomp::new().on(["read"], SyscallAction::Errno(4096)),
            "4096 is not an errno that a system call can fail with",
        ),
    ];
    for (policy, text) in mistakes {
        let error = policy.compile(super::Options::default()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidConfig, text));
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn a_filter_within_another_lets_through_what_both_do() {
    let outers = [
        Seccomp::new(),
        Seccomp::strict(),
        Seccomp::new().kill(["ioctl"]).log(["openat"]),
        Seccomp::everything(),
    ];
    let inner = Seccomp::allow_only(["ioctl", "prlimit64", "ptrace", "openat", "clone3"])
        .allow_if("clone", [SyscallArg::new(0).eq(17)])
        .deny_with(["openat"], 13)
        .allow_if("openat", [SyscallArg::new(2).low32().eq(0)]);
    for arch in BOTH {
        for outer in &outers {
            let both = compile(&inner.clone().within(outer.clone()), arch, UNGUARDED);
            let (inner, outer) = (compile(&inner, arch, UNGUARDED), compile(outer, arch, UNGUARDED));
            let mut stream = Arguments(0x2545_f491_4f6c_dd1d);
            for name in ["ioctl", "prlimit64", "ptrace", "openat", "clone", "clone3", "read"] {
                let number = arch.number(name).unwrap();
                for _ in 0..2000 {
                    let arguments = stream.six();
                    let [inner, outer, both] =
                        [&inner, &outer, &both].map(|program| answer(program, arch, number, arguments));
                    let wanted = if inner == ALLOW { outer } else { inner };
                    assert_eq!(both, wanted, "{arch:?} {name} {arguments:#x?}");
                }
            }
        }
    }
}
