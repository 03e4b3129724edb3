//! The part of a root that is made once for all sandboxes of a plan: as it would be in each, and nobody's to change.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

#[allow(dead_code, reason = "no test program uses all of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use belljar::{Capability, Mount, Plan, Sandbox};
use support::features::missing;
use support::{Result, Scratch, closed, fail, in_own_mounts, oracle, role_result, run_sh, sh, succeed};

fn main() -> ExitCode {
    let cases = cases![
        it_is_as_a_root_of_ones_own: ["userns", "root", "sh"],
        it_is_shared_where_nobody_may_mount: ["userns", "root", "sh"],
        nobody_can_change_it: ["userns", "root", "sh", "unshare"],
        mounts_that_are_not_looked_through: ["userns", "root", "sh"],
        a_source_that_is_replaced: ["userns", "root", "unshare", "sh"],
        a_host_in_another_mount_namespace: ["userns", "root", "unshare", "sh"],
    ];
    support::main(cases, &[("replace", replace), ("leave", leave)])
}

/// The root's own filesystem, with what is in its files.
const SURVEY: &str = "cd /; find . -xdev -printf '%p %y %m %U %G %l\\n' | sort; \
                      find . -xdev -type f -size -64k -readable -printf '%p:\\n' -exec cat {} +; \
                      df / | tail -1 | awk '{print $2}'; (touch /x; echo x > /etc/passwd) 2>&1; true";

/// A program that may mount has a root of its own: that of this sandbox differs in nothing else that is looked at.
fn unshared(sandbox: &Sandbox) -> Sandbox {
    sandbox.clone().keep_capability(Capability::SysAdmin)
}

/// Whether this kernel can do it: told by two sandboxes of one plan that have the same root.
fn is_shared(plan: &Plan) -> Result<bool> {
    let device = || succeed(plan.output(sh("stat -c %d /"))?);
    let held = support::held(support::payload("hold", &[]), |command| plan.spawn(command))?;
    // While another sandbox is there, a filesystem of its own has a number of its own.
    let first = fs::metadata(format!("/proc/{}/root", held.pid))
        .map(|root| std::os::unix::fs::MetadataExt::dev(&root))?;
    let second: u64 = device()?.trim().parse().unwrap_or(0);
    held.release()?;
    Ok(first == second)
}

fn with_mounts(sandbox: Sandbox, scratch: &Scratch) -> Sandbox {
    let file = scratch.file("file", "of the host");
    sandbox
        .mount(Mount::file("/deep/below/file", "content").mode(0o604))
        .mount(Mount::dir("/deep/dir").mode(0o1777))
        .mount(Mount::symlink("../below", "/deep/dir/link"))
        .mount(Mount::bind(scratch.path(), "/deep/bound"))
        .mount(Mount::bind(&file, "/etc/bound"))
        .mount(Mount::bind(&file, "/etc/hosts"))
        .mount(Mount::tmpfs("/scratch/tmp"))
        .mount(Mount::dir("/scratch/tmp/inside"))
        .mount(Mount::file("/tmp/file", "in a tmpfs"))
        .mount(Mount::mask("/etc/alternatives"))
        .mount(Mount::dir("/etc").mode(0o775))
}

fn it_is_as_a_root_of_ones_own() -> Result {
    let scratch = Scratch::new();
    for sandbox in [closed(), closed().root(), with_mounts(closed(), &scratch)] {
        let (shared, own) = (run_sh(&sandbox, SURVEY)?, run_sh(&unshared(&sandbox), SURVEY)?);
        assert!(shared.contains("./etc/passwd f 444 0 0") && shared.contains(". d 755 0 0"), "{shared}");
        if let Some((shared, own)) = shared.lines().zip(own.lines()).find(|(shared, own)| shared != own) {
            return fail(format!("shared: {shared}\nits own: {own}"));
        }
        assert_eq!(shared.lines().count(), own.lines().count());
        let mounts = |sandbox: &Sandbox| -> Result<Vec<String>> {
            let held = support::hold(sandbox)?;
            let mut mounts: Vec<_> = oracle::mounts(held.pid)
                .into_iter()
                .map(|mount| {
                    format!(
                        "{} {} {} {}",
                        mount.point,
                        mount.root,
                        mount.options.replace(",idmapped", ""),
                        mount.kind
                    )
                })
                .collect();
            mounts.sort();
            held.release()?;
            Ok(mounts)
        };
        assert_eq!(mounts(&sandbox)?, mounts(&unshared(&sandbox))?);
    }
    let text = run_sh(&with_mounts(closed(), &scratch), "cat /deep/dir/link/../below/file /etc/bound /etc/hosts /tmp/file; ls -d /scratch/tmp/inside; ls /etc/alternatives | wc -l; touch /scratch/tmp/x /deep/dir/x")
        .expect_err("the last one cannot be made");
    assert!(
        text.0.contains("contentof the hostof the hostin a tmpfs/scratch/tmp/inside\\n0\\n"),
        "{}",
        text.0
    );
    assert!(text.0.contains("/deep/dir/x") && !text.0.contains("'/scratch/tmp/x'"), "{}", text.0);
    Ok(())
}

fn it_is_shared_where_nobody_may_mount() -> Result {
    let shared = is_shared(&closed().plan()?)?;
    // The kernel clones what is mounted nowhere since Linux 6.15.
    let version = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let mut numbers = version.split(['.', '-']).filter_map(|number| number.parse::<u32>().ok());
    let can = (numbers.next(), numbers.next()) >= (Some(6), Some(15));
    assert_eq!(shared, can, "on Linux {version}");
    for own in [unshared(&closed()), closed().share_user()] {
        assert!(!is_shared(&own.plan()?)?);
    }
    // Another plan has another.
    let (one, other) = (closed().plan()?, closed().plan()?);
    let held = support::held(support::payload("hold", &[]), |command| one.spawn(command))?;
    let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(format!("/proc/{}/root", held.pid))?);
    assert_ne!(succeed(other.output(sh("stat -c %d /"))?)?.trim(), device.to_string());
    held.release().map(drop)
}

/// With every capability but the one to mount, as root, and in a user namespace of its own within the sandbox.
fn nobody_can_change_it() -> Result {
    let all = Capability::ALL.into_iter().filter(|one| *one != Capability::SysAdmin);
    let strong = all.fold(closed().root().allow_all_syscalls(), |sandbox, one| sandbox.keep_capability(one));
    let acts = "for act in 'touch /x' 'mkdir /etc/x' 'rm /etc/passwd' 'rm /bin' 'chmod 777 /' 'chmod 666 /etc/passwd' \
                'chown 1000 /etc/passwd' 'touch -d 2000-01-01 /etc/passwd' 'mv /etc/passwd /etc/y' 'ln -s /tmp /etc/z' \
                'mount -o remount,rw /' 'mount -o remount,bind,rw /' 'mount -o remount,bind,rw /usr' 'umount -l /usr' \
                'umount -l /etc/ld.so.cache' 'touch /proc/self/root/x' 'truncate -s 0 /etc/group'; \
                do $act 2> /tmp/why && echo $act; done\n";
    let first = format!(
        "touch /tmp/can && chmod 777 /tmp/can && chown 1000 /tmp/can && rm /tmp/can && echo it can\n{acts}\
         unshare --user --map-root-user --mount /bin/sh /second\n"
    );
    let second = format!("mount -t tmpfs none /tmp && echo it can mount\n{acts}true\n");
    let plan = strong.mount(Mount::file("/first", first)).mount(Mount::file("/second", second)).plan()?;
    assert!(is_shared(&plan)? || !is_shared(&closed().plan()?)?);
    let before = succeed(plan.output(sh(SURVEY))?)?;
    assert_eq!(succeed(plan.output(sh(". /first"))?)?, "it can\nit can mount\n");
    assert_eq!(succeed(plan.output(sh(SURVEY))?)?, before);
    Ok(())
}

/// They work as they always did, in a root of the sandbox's own.
fn mounts_that_are_not_looked_through() -> Result {
    let sandbox = closed()
        .mount(Mount::dir("/real"))
        .mount(Mount::symlink("/real", "/link"))
        .mount(Mount::file("/link/file", "through a link"))
        .mount(Mount::file("/real/./other", "and a dot"));
    assert_eq!(run_sh(&sandbox, "cat /real/file /real/other")?, "through a linkand a dot");
    assert!(!is_shared(&sandbox.plan()?)?);
    Ok(())
}

fn a_source_that_is_replaced() -> Result {
    let scratch = Scratch::new();
    in_own_mounts("replace", &[scratch.path().to_str().expect("plain")]).map(drop)
}

fn bind(source: &std::path::Path, target: &str) -> Result {
    use nix::mount::{MsFlags, mount};
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// In a mount namespace of its own: files of the system are others from one sandbox to the next.
fn replace(args: &[OsString]) -> i32 {
    let dir = std::path::PathBuf::from(&args[0]);
    let replaced = || -> Result {
        let (first, second) = (dir.join("first"), dir.join("second"));
        fs::write(&first, "first")?;
        fs::write(&second, "second")?;
        let target = "/etc/ld.so.conf";
        bind(&first, target)?;
        let plan = closed().plan()?;
        let read = || succeed(plan.output(sh("cat /etc/ld.so.conf"))?);
        assert_eq!(read()?, "first");
        // In place, by another mount, and back.
        fs::write(&first, "changed")?;
        assert_eq!(read()?, "changed");
        bind(&second, target)?;
        assert_eq!(read()?, "second");
        assert_eq!(read()?, "second");
        nix::mount::umount(target)?;
        assert_eq!(read()?, "changed");
        if missing("userns").is_none() {
            assert!(is_shared(&plan)? || !is_shared(&closed().plan()?)?, "it goes on to be shared");
        }
        Ok(())
    };
    role_result(replaced())
}

fn a_host_in_another_mount_namespace() -> Result {
    in_own_mounts("leave", &[]).map(drop)
}

/// Makes a plan, and enters another mount namespace before it spawns. Its umask takes everything from everybody.
fn leave(_: &[OsString]) -> i32 {
    let left = || -> Result {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777));
        let plan = closed().plan()?;
        let before = succeed(plan.output(sh(SURVEY))?)?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        assert_eq!(succeed(plan.output(sh(SURVEY))?)?, before);
        assert!(before.contains("./etc/passwd f 444 0 0"), "{before}");
        Ok(())
    };
    role_result(left())
}
