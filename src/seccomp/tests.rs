//! The compiled filter against a second, naive reading of the same policy.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::interpreter::{Call, run};
use super::names::{self, Arch};
use super::testing::*;
use super::{
    Filter, Options, Seccomp, SyscallAction, compile as compiling, groups, guard, listen, profile, resolve,
};
use crate::ErrorKind;

/// The members of the groups that the default profile allows.
fn in_default_groups() -> &'static BTreeSet<&'static str> {
    static NAMES: OnceLock<BTreeSet<&str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let names = profile::DEFAULT.words.iter().flat_map(|word| word.names);
        names.filter_map(|name| groups::find(name)).flat_map(|group| group.calls).copied().collect()
    })
}

/// What the default profile is meant to answer, written down a second time and without its condition data.
fn expected(arch: Arch, number: u32, arguments: [u64; 6], options: Options) -> u32 {
    if arch == Arch::X86_64 && number >= 0x4000_0000 {
        return KILL;
    }
    let Some(name) = arch.name(number) else { return ENOSYS };
    let low = |index: usize| arguments[index] & 0xffff_ffff;
    let no_set_id = |index: usize| low(index) & 0o6000 == 0;
    let permitted = match name {
        "clone3" => return ENOSYS,
        "openat2" if options.setuid_guard => return ENOSYS,
        "chmod" | "fchmod" | "mkdir" | "mknod" | "creat" if options.setuid_guard => no_set_id(1),
        "fchmodat" | "fchmodat2" | "mkdirat" | "mknodat" if options.setuid_guard => no_set_id(2),
        "open" if options.setuid_guard => low(1) & 0o20_000_100 == 0 || no_set_id(2),
        "openat" if options.setuid_guard => low(2) & 0o20_000_100 == 0 || no_set_id(3),
        "clone" => [17, 25, 26, 27, 28, 29, 30].iter().all(|bit| low(0) >> bit & 1 == 0),
        "fcntl" => low(1) != 1024,
        "ioctl" => ![0x5412, 0x541c].contains(&low(1)),
        "ioprio_set" => low(0) == 1 && low(1) == 0,
        "personality" => [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].contains(&low(0)),
        "prctl" => low(0) != 62,
        "prlimit64" | "sched_setaffinity" | "sched_setattr" | "sched_setparam" | "sched_setscheduler" => {
            low(0) == 0
        }
        "setpriority" => low(0) == 0 && low(1) == 0,
        "socket" | "socketpair" => [1, 2, 10].contains(&low(0)) || (low(0) == 16 && low(2) == 0),
        _ => in_default_groups().contains(name),
    };
    if permitted { ALLOW } else { EPERM }
}

#[test]
fn default_profile_answers_every_number_as_written() {
    for arch in BOTH {
        for options in [UNGUARDED, GUARDED] {
            let program = compile(&Seccomp::new(), arch, options);
            let mut stream = Arguments(0x9e37_79b9_7f4a_7c15);
            let far =
                [0x3fff_ffff, 0x4000_0000, 0x4000_0200, 0x4000_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
            let x32 = (0..=600).map(|number| number | 0x4000_0000);
            for number in (0..=600).chain(x32).chain(far) {
                for arguments in [[0; 6], [u64::MAX; 6], stream.six()] {
                    let wanted = expected(arch, number, arguments, options);
                    let found = answer(&program, arch, number, arguments);
                    assert_eq!(found, wanted, "{arch:?} {number} {arguments:#x?}");
                }
            }
        }
    }
}

#[test]
fn conditions_hold_for_random_arguments() {
    let conditional = groups::CONDITIONAL.iter().chain(guard::GUARDED).map(|entry| entry.0);
    let names: Vec<&str> = conditional.chain(["openat2", "clone3"]).collect();
    for arch in BOTH {
        for options in [UNGUARDED, GUARDED] {
            let program = compile(&Seccomp::new(), arch, options);
            let mut stream = Arguments(0x2545_f491_4f6c_dd1d);
            for &name in &names {
                let Some(number) = arch.number(name) else { continue };
                let mut seen = Vec::new();
                for _ in 0..4000 {
                    let arguments = stream.six();
                    let found = answer(&program, arch, number, arguments);
                    assert_eq!(
                        found,
                        expected(arch, number, arguments, options),
                        "{arch:?} {name} {arguments:#x?}"
                    );
                    seen.push(found);
                }
                let guarded = options.setuid_guard || groups::CONDITIONAL.iter().any(|entry| entry.0 == name);
                if guarded && !["openat2", "clone3"].contains(&name) {
                    assert!(
                        seen.contains(&ALLOW) && seen.contains(&EPERM),
                        "{name} was tried on one side only"
                    );
                }
            }
        }
    }
}

/// Whatever the policy says: numbers mean other calls there.
#[test]
fn foreign_architectures_are_killed() {
    let policies = [
        Seccomp::new(),
        Seccomp::strict(),
        Seccomp::new().otherwise(SyscallAction::Allow),
        Seccomp::allow_only(["read"]).otherwise(SyscallAction::Log),
        #[cfg(feature = "serde")]
        Seccomp::from_json(include_str!("../../tests/fixtures/docker-seccomp.json")).unwrap(),
    ];
    for native in policies.map(|policy| compile(&policy, Arch::X86_64, UNGUARDED)) {
        // i386, arm, aarch64, riscv64, and nothing at all.
        for arch in [0x4000_0003, 0x4000_0028, 0xc000_00b7, 0xc000_00f3, 0] {
            for number in 0..=600 {
                let call = Call { number, arch, arguments: [0; 6] };
                assert_eq!(run(native.as_bytes(), &call), (KILL, 3), "{arch:#x} {number}");
            }
        }
        for number in (0..=600).map(|number| number | 0x4000_0000) {
            assert_eq!(answer(&native, Arch::X86_64, number, [0; 6]), KILL, "x32 {number:#x}");
        }
    }
}

/// What must be denied is denied, not merely absent from a list by today's wording of it.
#[test]
fn dangerous_calls_are_denied() {
    let denied = "unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount \
         open_tree open_tree_attr mount_setattr quotactl quotactl_fd keyctl add_key request_key bpf \
         perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register ptrace \
         process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp kexec_load kexec_file_load \
         init_module finit_module delete_module create_module open_by_handle_at name_to_handle_at acct \
         swapon swapoff reboot settimeofday clock_settime clock_adjtime adjtimex syslog vhangup iopl \
         ioperm lookup_dcookie nfsservctl mincore cachestat fanotify_init mbind move_pages set_mempolicy \
         set_mempolicy_home_node migrate_pages sethostname setdomainname modify_ldt lsm_set_self_attr \
         uselib _sysctl";
    for arch in BOTH {
        let program = compile(&Seccomp::new(), arch, UNGUARDED);
        for name in denied.split_whitespace() {
            assert!(names::known(name).is_some(), "{name}");
            let found = by_name(&program, arch, name, [0; 6]);
            assert!(matches!(found, Some(EPERM) | None), "{arch:?} {name}: {found:x?}");
        }
    }
}

#[test]
fn what_the_sandbox_chose_stays_so_unless_named() {
    let options = Options { fixed_processors: true, fixed_io_priority: true, ..UNGUARDED };
    for arch in BOTH {
        for (name, arguments) in [("sched_setaffinity", [0; 6]), ("ioprio_set", [1, 0, 0, 0, 0, 0])] {
            let answer =
                |policy: &Seccomp, options| by_name(&compile(policy, arch, options), arch, name, arguments);
            assert_eq!(answer(&Seccomp::new(), UNGUARDED), Some(ALLOW));
            assert_eq!(answer(&Seccomp::new(), options), Some(EPERM));
            assert_eq!(answer(&Seccomp::new().allow([name]), options), Some(ALLOW));
            assert_eq!(answer(&Seccomp::allow_only(["execve", name]), options), Some(ALLOW));
        }
    }
}

#[test]
fn every_call_is_in_one_group() {
    let mut grouped: Vec<&str> = groups::GROUPS.iter().flat_map(|group| group.calls).copied().collect();
    grouped.sort_unstable();
    assert_eq!(grouped, names::all().collect::<Vec<_>>());
    let mut group_names: Vec<&str> = groups::GROUPS.iter().map(|group| group.name).collect();
    group_names.sort_unstable();
    group_names.dedup();
    assert_eq!(group_names.len(), groups::GROUPS.len());
    for group in groups::GROUPS {
        assert!(group.name.starts_with('@') && group.calls.is_sorted(), "{}", group.name);
    }
}

#[test]
fn names_of_profiles_and_rules_exist() {
    let words = profile::ALL.iter().flat_map(|profile| profile.words).flat_map(|word| word.names);
    let ruled = groups::CONDITIONAL.iter().chain(guard::GUARDED).map(|entry| &entry.0);
    for name in words.chain(ruled).chain(guard::UNREADABLE).chain([&groups::CLONE3]) {
        assert!(names::known(name).is_some() || groups::find(name).is_some(), "{name}");
    }
}

/// CVE-2019-7303: the kernel takes the request from the low half of the register.
#[test]
fn high_bits_do_not_hide_a_terminal_request() {
    for arch in BOTH {
        let program = compile(&Seccomp::new(), arch, UNGUARDED);
        for request in [0x5412, 0x541c] {
            for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
                assert_eq!(by_name(&program, arch, "ioctl", [0, request | high, 0, 0, 0, 0]), Some(EPERM));
            }
        }
        assert_eq!(by_name(&program, arch, "ioctl", [0, 0x5401 | 1 << 32, 0, 0, 0, 0]), Some(ALLOW));
    }
}

/// The kernel walks the path to each answer once per number when the filter is installed.
#[test]
fn paths_and_programs_stay_short() {
    for (arch, options) in BOTH.into_iter().flat_map(|arch| [(arch, UNGUARDED), (arch, GUARDED)]) {
        let program = compile(&Seccomp::new(), arch, options);
        let steps =
            |number| run(program.as_bytes(), &Call { number, arch: audit(arch), arguments: [0; 6] }).1;
        let total: usize = (0..470).map(steps).sum();
        assert!(program.len() < 300, "{arch:?} {options:?}: {} instructions", program.len());
        assert!(total < 470 * 16, "{arch:?} {options:?}: {total} steps in all");
    }
}

#[test]
fn later_words_win() {
    let policy = Seccomp::new()
        .deny(["read"])
        .allow(["read", "mount", "prlimit64"])
        .kill(["write"])
        .deny_with(["getpid"], 38);
    let program = compile(&policy, Arch::X86_64, UNGUARDED);
    let ask = |name| by_name(&program, Arch::X86_64, name, [1; 6]);
    assert_eq!(ask("read"), Some(ALLOW));
    assert_eq!(ask("mount"), Some(ALLOW));
    assert_eq!(ask("prlimit64"), Some(ALLOW), "allow replaces the condition on the process");
    assert_eq!(ask("write"), Some(KILL));
    assert_eq!(ask("getpid"), Some(ENOSYS));
    let reversed = compile(&policy.kill(["read"]).deny(["mount"]), Arch::X86_64, UNGUARDED);
    assert_eq!(by_name(&reversed, Arch::X86_64, "read", [0; 6]), Some(KILL));
    assert_eq!(by_name(&reversed, Arch::X86_64, "mount", [0; 6]), Some(EPERM));
}

#[test]
fn allow_only_allows_only() {
    let listed = ["execve", "read", "clone", "exit_group"];
    for arch in BOTH {
        let program = compile(&Seccomp::allow_only(listed), arch, UNGUARDED);
        for number in 0..=600 {
            let wanted = match arch.name(number) {
                None | Some("clone3") => ENOSYS,
                Some(name) if listed.contains(&name) => ALLOW,
                Some(_) => EPERM,
            };
            assert_eq!(answer(&program, arch, number, [u64::MAX; 6]), wanted, "{arch:?} {number}");
        }
    }
}

#[test]
fn guard_narrows_what_is_allowed_and_widens_nothing() {
    let create_setuid = [0, 0, 0o100, 0o4755, 0, 0];
    let policy =
        Seccomp::allow_only(["execve"]).allow(["openat", "chmod", "io_uring_setup"]).kill(["openat2"]);
    let program = compile(&policy, Arch::X86_64, GUARDED);
    let ask = |name, arguments| by_name(&program, Arch::X86_64, name, arguments);
    assert_eq!(ask("openat", create_setuid), Some(EPERM));
    assert_eq!(ask("openat", [0; 6]), Some(ALLOW));
    assert_eq!(ask("chmod", [0, 0o4755, 0, 0, 0, 0]), Some(EPERM));
    assert_eq!(ask("io_uring_setup", [0; 6]), Some(ENOSYS), "an io_uring makes files no filter sees");
    assert_eq!(ask("openat2", [0; 6]), Some(KILL));
    assert_eq!(ask("fchmod", [0; 6]), Some(EPERM), "not on the list");
}

/// Many verdicts that alternate make a search too large for the 255 instructions a conditional jump can
/// cross.
#[test]
fn long_programs_still_reach_their_answers() {
    for arch in BOTH {
        let names: Vec<&str> = arch.calls().map(|call| call.0).filter(|&name| name != "execve").collect();
        let mut policy = Seccomp::new();
        for (errno, name) in (1..).zip(&names) {
            policy = policy.deny_with([*name], errno);
        }
        let program = compile(&policy, arch, UNGUARDED);
        assert!(program.len() > 600, "{}", program.len());
        for (errno, name) in (1_u32..).zip(&names) {
            assert_eq!(by_name(&program, arch, name, [0; 6]), Some(0x0005_0000 | errno), "{arch:?} {name}");
        }
        assert_eq!(by_name(&program, arch, "execve", [0; 6]), Some(ALLOW));
        assert_eq!(answer(&program, arch, 470, [0; 6]), ENOSYS);
    }
}

/// Random policies against the same policy kept in a map.
#[test]
fn random_policies_answer_as_written() {
    let mut stream = Arguments(0x0123_4567_89ab_cdef);
    for round in 0..60 {
        let arch = BOTH[round % 2];
        let mut policy = Seccomp::allow_only(["execve"]);
        let mut wanted = std::collections::BTreeMap::from([("execve", ALLOW), ("clone3", ENOSYS)]);
        for (name, _) in arch.calls().filter(|call| call.0 != "execve") {
            let verdict = match stream.next() % 6 {
                0 | 1 => ALLOW,
                2 => KILL,
                3 => 0x0005_0000 | (1 + u32::try_from(stream.next() % 3).unwrap()),
                _ => continue,
            };
            policy = match verdict {
                ALLOW => policy.allow([name]),
                KILL => policy.kill([name]),
                errno => policy.deny_with([name], i32::try_from(errno & 0xffff).unwrap()),
            };
            wanted.insert(name, verdict);
        }
        let program = compile(&policy, arch, UNGUARDED);
        for number in 0..=600 {
            let verdict = arch.name(number).map_or(ENOSYS, |name| *wanted.get(name).unwrap_or(&EPERM));
            assert_eq!(
                answer(&program, arch, number, stream.six()),
                verdict,
                "round {round}, {arch:?} {number}"
            );
        }
    }
}

#[test]
fn mistakes_are_errors_with_a_hint() {
    let empty: [&str; 0] = [];
    let mistakes = [
        (Seccomp::new().allow(["no_such_call"]), "unknown syscall \"no_such_call\""),
        (Seccomp::new().deny([""]), "unknown syscall \"\""),
        (Seccomp::new().kill(["sys_read"]), "unknown syscall \"sys_read\""),
        (Seccomp::allow_only(["execve", "READ"]), "unknown syscall \"READ\""),
        (Seccomp::allow_only(empty), "the list of allowed system calls is empty"),
        (Seccomp::allow_only(empty).allow(["execve"]), "the list of allowed system calls is empty"),
        (Seccomp::new().deny_with(["read"], 0), "0 is not an errno that a system call can fail with"),
        (Seccomp::new().deny_with(["read"], -1), "-1 is not an errno that a system call can fail with"),
        (Seccomp::new().deny_with(["read"], 4096), "4096 is not an errno that a system call can fail with"),
        (Seccomp::new().deny_with(["read"], 65537), "65537 is not an errno that a system call can fail with"),
    ];
    for (policy, text) in mistakes {
        let error = policy.compile(Options::default()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidConfig, text));
        assert!(error.hint().is_some(), "{text}");
    }
    let error = Seccomp::new().allow(["59"]).compile_for(Arch::X86_64, UNGUARDED).unwrap_err();
    assert_eq!(error.hint(), Some("system calls go by their names; number 59 is \"execve\""));
}

#[test]
fn names_of_another_architecture_have_no_effect() {
    let policy = Seccomp::new().deny(["open", "read"]);
    let program = compile(&policy, Arch::Aarch64, UNGUARDED);
    assert_eq!(by_name(&program, Arch::Aarch64, "read", [0; 6]), Some(EPERM));
    assert_eq!(by_name(&program, Arch::Aarch64, "openat", [0; 6]), Some(ALLOW));
}

/// What a sandbox adds to a filter, asked with the token and without.
#[test]
fn the_last_calls_pass_with_the_token_only() {
    let ask =
        |filter: &Filter, name, sixth| by_name(&filter.program, Arch::NATIVE, name, [0, 0, 0, 0, 0, sixth]);
    let filter = Seccomp::allow_only(["read"]).kill(["exit_group"]).compile(Options::default()).unwrap();
    assert_ne!(filter.token, 0);
    assert_eq!(
        filter.asked.as_deref(),
        Some(&[][..]),
        "a listener for what is killed, and nothing for the host"
    );
    for (name, otherwise) in [("execve", EPERM), ("sendmsg", EPERM), ("ppoll", EPERM), ("exit_group", NOTIFY)]
    {
        assert_eq!(ask(&filter, name, filter.token), Some(ALLOW), "{name}");
        for other in [0, filter.token ^ 1, filter.token ^ 1 << 63, filter.token & 0xffff_ffff, u64::MAX] {
            assert_eq!(ask(&filter, name, other), Some(otherwise), "{name} {other:#x}");
        }
    }
    for name in ["execveat", "sendto", "exit", "write"] {
        assert_eq!(ask(&filter, name, filter.token), Some(EPERM), "{name}");
    }
    let another = Seccomp::allow_only(["read"]).compile(Options::default()).unwrap();
    assert_ne!(another.token, filter.token);
    // A filter that allows them needs no token, which would cost each of them a walk through the filter.
    let usual = Seccomp::new().compile(Options::default()).unwrap();
    assert_eq!((usual.token, usual.asked), (0, None));
    let numbers = |names: [&str; 2]| names.map(|name| Arch::NATIVE.number(name).unwrap()).to_vec();
    let asking =
        Seccomp::new().notify(["openat", "connect"]).kill(["ptrace"]).compile(Options::default()).unwrap();
    let mut asked = asking.asked.clone().unwrap();
    asked.sort_unstable();
    let mut wanted = numbers(["openat", "connect"]);
    wanted.sort_unstable();
    assert_eq!((asking.token, asked), (0, wanted));
    assert_eq!(ask(&asking, "ptrace", 0), Some(NOTIFY));
    assert_eq!(
        by_name(
            &compile(&Seccomp::new().kill(["ptrace"]), Arch::NATIVE, UNGUARDED),
            Arch::NATIVE,
            "ptrace",
            [0; 6]
        ),
        Some(KILL),
        "on its own"
    );
}

fn with_sixth(name: &str, sixth: u64) -> Call {
    let arch = audit(Arch::NATIVE);
    Call { number: Arch::NATIVE.number(name).unwrap(), arch, arguments: [0, 0, 0, 0, 0, sixth] }
}

/// Each program has a token of its own in the place of the plan's, in every call that looks for one.
#[test]
fn a_token_of_ones_own_replaces_that_of_the_plan() {
    use crate::init_token::{MOST, replace};
    for token in [0x0123_4567_89ab_cdef, 1, u64::MAX, 0x5555_5555_5555_5555] {
        let mut verdicts =
            resolve::verdicts(&Seccomp::allow_only(["read"]), Options::default(), Arch::NATIVE).unwrap();
        assert_eq!(listen::exempt(&mut verdicts, Arch::NATIVE, || Ok(token)).unwrap(), token);
        let program = compiling::program(&verdicts, Arch::NATIVE).unwrap();
        let (own, mut copy) = (0xfeed_beef_1234_0001, [0; MOST]);
        let replaced = replace(program.as_bytes(), token, own, &mut copy).unwrap();
        for name in ["execve", "sendmsg", "exit_group"] {
            let ask = |sixth| run(replaced, &with_sixth(name, sixth)).0;
            assert_eq!(ask(own), ALLOW, "{name}");
            for other in [token, 0, own ^ 1, own ^ 1 << 40, own >> 32, own << 32, own & 0xffff_ffff] {
                assert_eq!(ask(other), EPERM, "{name} {other:#x}");
            }
        }
        // Whatever is not such a filter is refused: installed as it is, it would have the plan's token.
        let mut copy = [0; MOST];
        assert!(replace(program.as_bytes(), token ^ 1, own, &mut copy).is_none());
        assert!(replace(&program.as_bytes()[..8], token, own, &mut copy).is_none());
        assert!(replace(&[0; MOST + 8], token, own, &mut copy).is_none());
    }
}

/// The time that a comparison takes must not depend on which part of a token is right.
#[test]
fn a_token_is_compared_at_once() {
    let filter = Seccomp::allow_only(["read"]).compile(Options::default()).unwrap();
    let steps = |sixth| run(filter.program.as_bytes(), &with_sixth("execve", sixth)).1;
    let wrong = steps(!filter.token);
    for half in [0xffff_ffff, 0xffff_ffff_0000_0000] {
        assert_eq!(steps(filter.token ^ half), wrong);
    }
}

#[test]
fn constants_are_those_of_the_kernel() {
    assert_eq!((libc::TIOCSTI, libc::TIOCLINUX, libc::F_SETLEASE), (0x5412, 0x541c, 1024));
    assert_eq!((libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK), (1, 2, 10, 16));
    assert_eq!(libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY), 0o20_000_100);
    assert_eq!(libc::S_ISUID | libc::S_ISGID, 0o6000);
    assert_eq!((libc::PRIO_PROCESS, libc::PR_SCHED_CORE), (0, 62));
    assert_eq!(libc::UNAME26, 0x2_0000);
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    assert_eq!(namespaces, 0x7e02_0000);
}
