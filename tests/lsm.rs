//! Labels of security modules: the program has it, the host and the init have not.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
#[path = "support/inject.rs"]
mod inject;
#[allow(dead_code, reason = "no test program uses all of it")]
#[path = "support/reach.rs"]
mod reach;
#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Command, ErrorKind, Feature, Host, Resource, Rootfs, Sandbox, Step, Upper};
use support::{Held, Result, Scratch, closed, own_exe, payload, succeed};

fn main() -> ExitCode {
    let cases = cases![
        a_profile: ["bare", "apparmor", "userns", "mount-setattr"],
        a_profile_without_privilege: ["apparmor", "setpriv", "userns", "mount-setattr"],
        a_profile_in_a_container: ["apparmor", "userns"],
        a_proc_of_the_roots_own_making: ["apparmor", "userns"],
        no_fault_leaves_the_label_out: ["bare", "apparmor", "ptrace"],
        a_profile_of_a_confined_host: ["bare", "apparmor"],
        profiles_that_cannot_be: ["bare", "apparmor"],
        a_context: ["selinux", "userns"],
        a_context_without_privilege: ["selinux", "setpriv", "userns"],
        contexts_that_cannot_be: ["selinux", "root"],
        a_host_that_does_not_enforce: ["selinux", "root"],
        a_kernel_without_apparmor: ["bare", "without-apparmor"],
        a_kernel_without_selinux: ["bare", "without-selinux"],
        names_that_are_none: ["bare"],
    ];
    support::main_serial(
        cases,
        &[
            ("reach", reach::reach),
            ("nobody-with-profile", nobody_with_profile),
            ("nobody-with-context", nobody_with_context),
            ("confined-host", confined_host),
            ("try-ptrace", try_ptrace),
            ("fault-target", fault_target),
            ("fault-inject", fault_inject),
        ],
    )
}

const EACCES: i32 = libc::EACCES;
const APPARMOR: &str = "attr/apparmor/current";
const CURRENT: &str = "attr/current";
const CONTEXT: &str = "u:r:jail_t:s0:c1,c2";

/// What a process is labelled with, looked at from outside.
fn label(pid: &str, file: &str) -> String {
    let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end_matches(['\n', '\0']).to_owned()
}

/// A profile that is loaded as long as there is this value.
struct Profile {
    name: String,
    scratch: Scratch,
}

impl Profile {
    fn load(name: &str, flags: &str, rules: &str) -> Result<Self> {
        let name = format!("belljar-test-{}-{name}", std::process::id());
        let scratch = Scratch::new();
        scratch.file("profile", format!("profile {name} flags=({flags}) {{\n{rules}\n}}\n"));
        let profile = Self { name, scratch };
        profile.parse("--replace")?;
        Ok(profile)
    }

    fn parse(&self, how: &str) -> Result {
        let mut command = std::process::Command::new("apparmor_parser");
        command.args([how, "--skip-cache"]).arg(self.scratch.join("profile"));
        support::run_helper(&mut command, Duration::from_secs(60))?.succeed().map(drop)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(support::Fail(message)) = self.parse("--remove") {
            eprintln!("leaving the profile {} behind: {message}", self.name);
        }
    }
}

/// Everything but reading one file and writing below one directory.
const RULES: &str = "file, signal, unix, deny /etc/passwd r, deny /tmp/** w,";

fn here(role: &str, args: &[&str]) -> Command {
    let mut command = Command::new(own_exe());
    command.args(["--role", role]).args(args);
    command
}

/// The program that waits, in a sandbox with a root of its own or without.
fn hold_one(sandbox: &Sandbox, has_root: bool) -> Result<Held> {
    if has_root { support::hold(sandbox) } else { support::hold_with(sandbox, here("hold", &[])) }
}

fn try_in(sandbox: &Sandbox, has_root: bool, attempts: &[&str]) -> Result<Vec<i32>> {
    let command = if has_root { payload("reach", attempts) } else { here("reach", attempts) };
    let text = succeed(sandbox.output(command)?)?;
    Ok(text.lines().map(|line| line.parse().unwrap_or(-1)).collect())
}

/// The program has the label, its init and this process have that of this process, and it denies something.
fn labelled(sandbox: &Sandbox, plain: &Sandbox, has_root: bool, file: &str, expected: &str) -> Result {
    let own = label("self", file);
    let held = hold_one(sandbox, has_root)?;
    assert_eq!(label(&held.pid.to_string(), file), expected);
    let parent = support::oracle::status_of(&held.pid.to_string()).get("PPid").cloned().unwrap_or_default();
    assert_eq!(label(&parent, file), own, "the init");
    held.release()?;
    assert_eq!(label("self", file), own);
    let attempts: &[&str] = match file {
        APPARMOR => &["read:/etc/passwd", "create:/tmp/belljar-test-label", "read:/etc/group"],
        _ => &["create:/tmp/belljar-test-label", "mkdir:/tmp/belljar-test-label", "read:/etc/group"],
    };
    assert_eq!(try_in(sandbox, has_root, attempts)?, [EACCES, EACCES, 0]);
    // The positive control.
    let errno =
        try_in(plain, has_root, &["read:/etc/passwd", attempts[1], "unlink:/tmp/belljar-test-label"])?;
    fs::remove_dir("/tmp/belljar-test-label").ok();
    assert_eq!(errno[..2], [0, 0]);
    Ok(())
}

fn a_profile() -> Result {
    let profile = Profile::load("plain", "attach_disconnected", RULES)?;
    let expected = format!("{} (enforce)", profile.name);
    for (sandbox, has_root) in [
        (closed(), true),
        (closed().share_user(), true),
        (closed().share_pid(), true),
        (Sandbox::bare(), false),
        (Sandbox::bare().user_ns().pid_ns(), false),
    ] {
        labelled(&sandbox.clone().apparmor(&profile.name), &sandbox, has_root, APPARMOR, &expected)?;
        let plan = sandbox.apparmor(&profile.name).plan()?;
        assert!(plan.enforced().contains(Feature::AppArmor));
        assert!(plan.to_string().contains(&format!("setting apparmor profile {} for execve", profile.name)));
    }
    assert!(Host::current().has(Feature::AppArmor), "{}", Host::current());
    Ok(())
}

fn a_profile_without_privilege() -> Result {
    let profile = Profile::load("nobody", "attach_disconnected", RULES)?;
    support::as_nobody("nobody-with-profile", &[&profile.name], Duration::from_secs(30))?.succeed().map(drop)
}

fn nobody_with_profile(args: &[OsString]) -> i32 {
    support::role_result((|| {
        let name = support::roles::text(args, 0);
        let expected = format!("{name} (enforce)");
        for (sandbox, has_root) in [(closed(), true), (Sandbox::bare(), false)] {
            labelled(&sandbox.clone().apparmor(&name), &sandbox, has_root, APPARMOR, &expected)?;
        }
        Ok(())
    })())
}

fn a_profile_in_a_container() -> Result {
    let profile = Profile::load("container", "attach_disconnected", RULES)?;
    let container = closed().apparmor(&profile.name).start()?;
    let expected = format!("{} (enforce)", profile.name);
    let (one, other) = (support::hold_in(&container)?, support::hold_in(&container)?);
    for held in [&one, &other] {
        assert_eq!(label(&held.pid.to_string(), APPARMOR), expected);
    }
    one.release()?;
    other.release()?;
    container.close()?;
    Ok(())
}

/// What a hostile root has in place of a procfs is not what the label is written to.
fn a_proc_of_the_roots_own_making() -> Result {
    let profile = Profile::load("root", "attach_disconnected", RULES)?;
    let scratch = Scratch::new();
    let fake = ["self", "thread-self", "1", "2"].map(|dir| {
        scratch.dir(format!("root/proc/{dir}/attr/apparmor"));
        scratch.file(format!("root/proc/{dir}/attr/apparmor/exec"), "fake")
    });
    for file in &fake {
        fs::set_permissions(file, fs::Permissions::from_mode(0o666))?;
    }
    let root = Rootfs::overlay([scratch.join("root")]).upper(Upper::tmpfs(support::mib(4), 100));
    let sandbox = support::with_payload(support::with_system(Sandbox::new().rootfs(root)));
    let held = support::hold(&sandbox.clone().apparmor(&profile.name))?;
    assert_eq!(label(&held.pid.to_string(), APPARMOR), format!("{} (enforce)", profile.name));
    held.release()?;
    // That is what the program sees there, and could write to.
    let attempts = ["write:/proc/self/attr/apparmor/exec", "read:/proc/self/status"];
    assert_eq!(try_in(&sandbox, true, &attempts)?, [0, libc::ENOENT]);
    for file in fake {
        assert_eq!(fs::read_to_string(file)?, "fake");
    }
    Ok(())
}

fn try_ptrace(_: &[OsString]) -> i32 {
    support::role_result(inject::works().map_err(support::Fail::from))
}

/// Each call by which a label is set fails once, in a process of its own that traces the host.
fn no_fault_leaves_the_label_out() -> Result {
    let profile = Profile::load("fault", "attach_disconnected", RULES)?;
    for (who, call, name) in [
        ("Init", libc::SYS_openat, "openat"),
        ("Init", libc::SYS_fstatfs, "fstatfs"),
        ("Payload", libc::SYS_openat2, "openat2"),
        ("Payload", libc::SYS_fstatfs, "fstatfs"),
        ("Payload", libc::SYS_write, "write"),
        ("Payload", libc::SYS_pread64, "pread64"),
    ] {
        for errno in [libc::EPERM, libc::EINVAL] {
            let args = [who, &call.to_string(), &errno.to_string(), &profile.name];
            let mut command = support::role_command("fault-inject", &args);
            let text = support::run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
            assert_eq!(text, format!("Label {errno}\nhit\n"), "{name} of {who}");
        }
    }
    Ok(())
}

fn fault_inject(args: &[OsString]) -> i32 {
    support::role_result((|| {
        let fault = inject::Fault {
            who: inject::Who::parse(&support::roles::text(args, 0)).expect("a name of a process"),
            call: support::roles::big(args, 1) as i64,
            nth: 1,
            errno: support::roles::int(args, 2),
        };
        let profile = support::roles::text(args, 3);
        let trace = inject::run(&mut support::role_command("fault-target", &[&profile]), Some(fault))?;
        if !trace.left.is_empty() {
            return support::fail(format!("left: {:?}", trace.left));
        }
        println!("{}", if trace.hit { "hit" } else { "missed" });
        Ok(())
    })())
}

fn fault_target(args: &[OsString]) -> i32 {
    let sandbox = Sandbox::bare().apparmor(support::roles::text(args, 0));
    support::raw::syscall(inject::MARK, [0; 6]).ok();
    let result = sandbox.output(here("cat", &["/proc/self/attr/apparmor/current"]));
    support::raw::syscall(inject::MARK, [0; 6]).ok();
    match result {
        Ok(output) => println!("ran as {}", String::from_utf8_lossy(&output.stdout).trim()),
        Err(error) => println!("{:?} {}", error.step(), error.raw_os_error().unwrap_or(0)),
    }
    0
}

/// Under `no_new_privs` it can narrow what it has, and no more.
fn a_profile_of_a_confined_host() -> Result {
    let profile = Profile::load("narrow", "attach_disconnected", RULES)?;
    let rules = "file, capability, signal, unix, ptrace, network, dbus,";
    let free = Profile::load("host", "attach_disconnected", &format!("{rules} change_profile,"))?;
    let tied = Profile::load("tied", "attach_disconnected", rules)?;
    for host in [&free, &tied] {
        let mut command = std::process::Command::new("aa-exec");
        command.args(["-p", &host.name, "--"]).arg(own_exe()).args([
            "--role",
            "confined-host",
            &profile.name,
        ]);
        let text = support::run_helper(&mut command, Duration::from_secs(30))?.succeed()?;
        let expected = if host.name == free.name { "stacked\n" } else { "refused\n" };
        assert_eq!(text, expected, "{}", host.name);
    }
    Ok(())
}

fn confined_host(args: &[OsString]) -> i32 {
    support::role_result((|| {
        let name = support::roles::text(args, 0);
        let own = label("self", APPARMOR);
        let own = own.trim_end_matches(" (enforce)");
        let sandbox = Sandbox::bare().apparmor(&name);
        match sandbox.output(here("reach", &["read:/etc/passwd", "read:/etc/group"])) {
            Ok(output) => {
                assert_eq!(succeed(output)?, "13\n0\n");
                let held = hold_one(&sandbox, false)?;
                let both = label(&held.pid.to_string(), APPARMOR);
                assert!(
                    both == format!("{own}//&{name} (enforce)")
                        || both == format!("{name}//&{own} (enforce)"),
                    "{both}"
                );
                held.release()?;
                println!("stacked");
            }
            Err(error) => {
                assert_eq!(
                    (error.step(), error.kind()),
                    (Step::Label, ErrorKind::PermissionDenied),
                    "{error:?}"
                );
                assert!(error.hint().is_some_and(|hint| hint.contains("change_profile")));
                println!("refused");
            }
        }
        Ok(())
    })())
}

fn profiles_that_cannot_be() -> Result {
    let spawn =
        |name: &str| Sandbox::bare().apparmor(name).spawn(here("exit", &["0"])).expect_err("no such profile");
    let error = spawn("belljar-test-no-such-profile");
    assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::Label), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("apparmor_parser")), "{error:?}");
    let lax = Profile::load("lax", "complain", RULES)?;
    let error = spawn(&lax.name);
    assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Label), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("enforce mode")), "{error:?}");
    // The least number of descriptors that a program can be limited to is enough to set it by.
    let good = Profile::load("good", "attach_disconnected", RULES)?;
    let limited = Sandbox::bare().apparmor(&good.name).rlimit(Resource::Nofile, 4, 4);
    let text = succeed(limited.output(here("cat", &["/proc/self/attr/apparmor/current"]))?);
    // The loader opens one file at a time, and so does the role.
    assert_eq!(text?, format!("{} (enforce)\n", good.name));
    // A prefix of a name is another name.
    let error = spawn(lax.name.trim_end_matches("lax"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    Ok(())
}

fn a_context() -> Result {
    let own = label("self", CURRENT);
    assert!(own.contains(":base_t:"), "{own}");
    for (sandbox, has_root) in [
        (closed(), true),
        (closed().share_pid(), true),
        (Sandbox::bare(), false),
        (Sandbox::bare().user_ns().pid_ns(), false),
    ] {
        labelled(&sandbox.clone().selinux(CONTEXT), &sandbox, has_root, CURRENT, CONTEXT)?;
        assert!(sandbox.selinux(CONTEXT).plan()?.enforced().contains(Feature::SeLinux));
    }
    assert!(Host::current().has(Feature::SeLinux), "{}", Host::current());
    Ok(())
}

fn a_context_without_privilege() -> Result {
    support::as_nobody("nobody-with-context", &[], Duration::from_secs(30))?.succeed().map(drop)
}

fn nobody_with_context(_: &[OsString]) -> i32 {
    support::role_result((|| {
        for (sandbox, has_root) in [(closed(), true), (Sandbox::bare(), false)] {
            labelled(&sandbox.clone().selinux(CONTEXT), &sandbox, has_root, CURRENT, CONTEXT)?;
        }
        Ok(())
    })())
}

fn contexts_that_cannot_be() -> Result {
    let spawn = |context: &str| {
        Sandbox::bare().selinux(context).spawn(here("exit", &["0"])).expect_err("it cannot be")
    };
    for context in ["u:r:no_such_t:s0", "nobody:r:jail_t:s0", "u:r:jail_t:s0:c1,c77", "u:r:jail_t"] {
        let error = spawn(context);
        assert_eq!(
            (error.step(), error.raw_os_error()),
            (Step::Label, Some(libc::EINVAL)),
            "{context}: {error:?}"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("no such context")));
    }
    // The policy does not let it become that under no_new_privs.
    let error = spawn("u:r:stuck_t:s0");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::EPERM)), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("nnp_transition")));
    Ok(())
}

fn a_host_that_does_not_enforce() -> Result {
    let enforce = |text: &str| fs::write("/sys/fs/selinux/enforce", text);
    enforce("0")?;
    let refused = Sandbox::bare().selinux(CONTEXT).plan();
    let best = Sandbox::bare()
        .selinux(CONTEXT)
        .best_effort(Feature::SeLinux)
        .output(here("cat", &["/proc/self/attr/current"]));
    enforce("1")?;
    let error = refused.expect_err("it denies nothing");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Label), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("setenforce")));
    let output = best?;
    assert!(output.outcome.enforced.skipped().iter().any(|skipped| skipped.feature == Feature::SeLinux));
    assert!(!output.outcome.enforced.contains(Feature::SeLinux));
    assert!(succeed(output)?.starts_with(CONTEXT), "labelled all the same");
    Ok(())
}

fn missing(sandbox: Sandbox, feature: Feature) -> Result {
    let error = sandbox.plan().expect_err("the kernel does not have it");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Unsupported, Step::Label), "{error:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
    let outcome = sandbox.best_effort(feature).status(here("exit", &["0"]))?;
    assert!(outcome.enforced.skipped().iter().any(|skipped| skipped.feature == feature));
    assert!(!outcome.enforced.contains(feature) && !Host::current().has(feature));
    Ok(())
}

fn a_kernel_without_apparmor() -> Result {
    missing(Sandbox::bare().apparmor("any"), Feature::AppArmor)
}

fn a_kernel_without_selinux() -> Result {
    missing(Sandbox::bare().selinux(CONTEXT), Feature::SeLinux)
}

/// Whatever the host has: these are not put before the kernel.
fn names_that_are_none() -> Result {
    let plans = ["", "unconfined", "a b", "a\nexec unconfined", "a\0", "a//&b", ":ns:a"]
        .map(|name| Sandbox::bare().apparmor(name).best_effort(Feature::AppArmor).plan())
        .into_iter()
        .chain(
            ["", "jail_t", "u:r:t s0", "u:r:t:s0\n", "u:r:t\0"]
                .map(|context| Sandbox::bare().selinux(context).best_effort(Feature::SeLinux).plan()),
        );
    for plan in plans {
        let error = plan.expect_err("no name");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.hint().is_some());
    }
    Ok(())
}
