//! The profiles of container engines, under real programs.

use belljar::{Command, Mount, Sandbox, Seccomp, SyscallAction, SyscallArg, Verdict};

use super::support::{self, Case, Result, Scratch, run_sh, succeed};
use super::{EPERM, adds, answer, compile_with, denied, python, under};
use crate::cases;

pub(super) const CASES: &[Case] = cases![
    programs_run_under_the_profiles_of_engines: ["userns", "sh", "python3", "cc"],
    the_profile_of_docker_denies: ["userns"],
    the_profile_of_docker_kills_for_foreign_calls: ["userns", "cc"],
    the_profile_of_docker_knows_the_capabilities_that_are_kept: ["userns"],
    an_exported_profile_is_enforced_the_same: ["userns"],
];

const DOCKER: &str = include_str!("../fixtures/docker-seccomp.json");
const PODMAN: &str = include_str!("../fixtures/podman-seccomp.json");

fn docker() -> Result<Sandbox> {
    Ok(under(Seccomp::from_json(DOCKER)?))
}

fn programs_run_under_the_profiles_of_engines() -> Result {
    let scratch = Scratch::new();
    let add = include_str!("../../examples/judge/problems/sum/submissions/add.c");
    let program = compile_with("cc", &scratch, "add.c", add)?;
    for profile in [DOCKER, PODMAN] {
        let sandbox = under(Seccomp::from_json(profile)?).mount(Mount::bind(&program, "/program"));
        let script =
            "cd /tmp && echo one > a && cat a | tr o 0 > b && sort a b && ls | wc -l && uname && id -u";
        assert!(run_sh(&sandbox, script)?.contains("Linux"));
        adds(&sandbox, &mut python(include_str!("../../examples/judge/problems/sum/submissions/add.py")))?;
        let server = "import socket, threading\nlistener = socket.create_server(('127.0.0.1', 0))\n\
                      def serve():\n    one, _ = listener.accept(); one.sendall(b'hello')\n\
                      threading.Thread(target=serve).start()\n\
                      print(socket.create_connection(listener.getsockname()).recv(9))";
        assert_eq!(succeed(sandbox.output(python(server))?)?, "b'hello'\n");
        adds(&sandbox, &mut Command::new("/program"))?;
    }
    Ok(())
}

fn the_profile_of_docker_denies() -> Result {
    denied(
        &Seccomp::from_json(DOCKER)?,
        &[
            ("a user namespace", libc::SYS_unshare, &[0x1000_0000]),
            ("one by clone", libc::SYS_clone, &[0x1000_0000 | 0x1_0000, 0, 0, 0, 0]),
            ("a keyring", libc::SYS_keyctl, &[0, -3, 0]),
            ("a socket that leaves the namespace", libc::SYS_socket, &[40, 1, 0]),
            ("a layout of the address space", libc::SYS_personality, &[0x4_0000]),
            ("a ring", libc::SYS_io_uring_setup, &[1, 0]),
        ],
    )?;
    assert_eq!(answer(&docker()?, libc::SYS_clone3, &[0, 0])?, "errno 38");
    // Docker compares all of the register. A word of ours mends it.
    let hidden = 1 << 32 | 40;
    let mended = Seccomp::from_json(DOCKER)?.deny_if("socket", [SyscallArg::new(0).low32().eq(40)]);
    assert_ne!(answer(&docker()?, libc::SYS_socket, &[hidden, 1, 0])?, EPERM);
    assert_eq!(answer(&under(mended), libc::SYS_socket, &[hidden, 1, 0])?, EPERM);
    Ok(())
}

/// It lists 32-bit x86 and x32 as sub-architectures.
fn the_profile_of_docker_kills_for_foreign_calls() -> Result {
    if cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    assert!(DOCKER.contains("SCMP_ARCH_X86") && DOCKER.contains("SCMP_ARCH_X32"));
    let scratch = Scratch::new();
    let source = r#"
        int main(int count, char **words) {
            long result = 0;
            if (count == 2) __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
            if (count == 3) __asm__ volatile("syscall" : "=a"(result) : "a"(0x40000000 + 39) : "rcx", "r11", "memory");
            return 0;
        }"#;
    let program = support::compile(&scratch, "foreign", source, &[])?;
    for (words, verdict) in [
        (&[][..], Verdict::Exited(0)),
        (&["i386"], Verdict::SyscallDenied { syscall: None }),
        (&["x32", "too"], Verdict::SyscallDenied { syscall: None }),
    ] {
        let mut command = Command::new("/program");
        command.args(words);
        let sandbox = docker()?.mount(Mount::bind(&program, "/program"));
        assert_eq!(sandbox.status(&command)?.verdict, verdict, "{words:?}");
        assert_eq!(sandbox.allow_all_syscalls().status(&command)?.verdict, Verdict::Exited(0), "the control");
    }
    Ok(())
}

/// `includes` and `excludes` are looked at when the sandbox is planned.
fn the_profile_of_docker_knows_the_capabilities_that_are_kept() -> Result {
    // sethostname(2) is there for CAP_SYS_ADMIN only, chroot(2) for CAP_SYS_CHROOT.
    let ask = |sandbox: &Sandbox, number| answer(sandbox, number, &[0, 0]);
    let plain = docker()?;
    assert_eq!(
        (ask(&plain, libc::SYS_chroot)?, ask(&plain, libc::SYS_sethostname)?),
        (EPERM.into(), EPERM.into())
    );
    let kept = plain.root().keep_capability("SYS_CHROOT");
    assert_eq!(
        (ask(&kept, libc::SYS_chroot)?, ask(&kept, libc::SYS_sethostname)?),
        ("errno 14".into(), EPERM.into())
    );
    Ok(())
}

fn an_exported_profile_is_enforced_the_same() -> Result {
    let policy =
        Seccomp::plugin().on_if("lseek", [SyscallArg::new(1).low32().gt(8)], SyscallAction::Errno(95));
    let again = Seccomp::from_json(&policy.to_json()?)?;
    let asked: &[(libc::c_long, &[i64])] = &[
        (libc::SYS_getppid, &[]),
        (libc::SYS_socket, &[1, 1, 0]),
        (libc::SYS_socketpair, &[1 << 32 | 1, 1, 0, 0]),
        (libc::SYS_lseek, &[-1, 8, 0]),
        (libc::SYS_lseek, &[-1, 9, 0]),
        (libc::SYS_lseek, &[-1, 1 << 32, 0]),
        (libc::SYS_ioctl, &[-1, 0x5412, 0]),
        (libc::SYS_ioctl, &[-1, 1 << 32 | 0x541c, 0]),
        (libc::SYS_ioctl, &[-1, 0x5401, 0]),
        (libc::SYS_clone3, &[0, 0]),
        (600, &[]),
    ];
    for (number, arguments) in asked {
        let (first, second) = (
            answer(&under(policy.clone()), *number, arguments)?,
            answer(&under(again.clone()), *number, arguments)?,
        );
        assert_eq!(first, second, "{number} {arguments:?}");
    }
    assert_eq!(answer(&under(again), libc::SYS_lseek, &[-1, 9, 0])?, "errno 95");
    Ok(())
}
