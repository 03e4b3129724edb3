//! Persistent uppers with a limit: project quotas of ext4 and xfs, and hosts that have none.
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
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Bytes, ErrorKind, Rootfs, Sandbox, Step, Upper, UpperDir, Verdict};
use support::disk::{BTRFS, Disk, EXT4, EXT4_COUNTED, EXT4_QUOTA, Format, XFS, XFS_COUNTED, XFS_QUOTA};
use support::raw::{self, ProjectAttributes};
use support::{Result, Scratch, as_nobody, explain, fail, mib, payload, role_result, run_role, succeed};

fn main() -> ExitCode {
    let cases = cases![
        quotas_of_ext4_hold: ["userns", "root", "overlay", "unshare", "project-quota"],
        quotas_of_xfs_hold: ["userns", "root", "overlay", "unshare", "project-quota"],
        projects_cannot_be_left: ["userns", "root", "overlay", "unshare", "project-quota"],
        a_project_for_each_upper: ["userns", "root", "overlay", "unshare", "project-quota"],
        a_host_that_is_root_in_a_namespace: ["userns", "root", "overlay", "unshare", "project-quota"],
        counting_is_not_enough: ["userns", "root", "overlay", "unshare", "project-quota"],
        ext4_without_projects: ["userns", "root", "overlay", "unshare", "loop"],
        xfs_without_projects: ["userns", "root", "overlay", "unshare", "loop", "xfs"],
        btrfs_has_no_projects: ["userns", "root", "overlay", "unshare", "loop", "btrfs"],
        tmpfs_has_no_projects: ["userns", "root", "overlay"],
        quotas_that_cannot_be: ["userns", "root", "overlay"],
        a_kernel_without_the_call: ["root", "bare"],
        a_host_without_privilege: ["userns", "overlay", "setpriv"],
    ];
    support::main(
        cases,
        &[
            ("quota-holds", quota_holds),
            ("fill", fill),
            ("leave", leave),
            ("projects-stay", projects_stay),
            ("own-projects", own_projects),
            ("refused-on", refused_on),
            ("namespace-root", namespace_root),
            ("without-call", without_call),
            ("nobody", nobody),
        ],
    )
}

/// Runs a role that mounts filesystems.
fn in_own_mounts(role: &str, args: &[&str]) -> Result {
    let scratch = Scratch::new();
    let mut all = vec![scratch.path().to_str().expect("plain")];
    all.extend(args);
    support::in_own_mounts(role, &all).map(|text| print!("{text}"))
}

/// The scratch directory that the test has made for its role, and removes.
fn scratch_of(args: &[OsString]) -> Scratch {
    Scratch::below(Path::new(&args[0]))
}

fn over(base: &Path, upper: impl Into<Upper>) -> Sandbox {
    let root = Rootfs::overlay([base]).upper(upper);
    support::with_system(support::with_payload(Sandbox::new().rootfs(root))).root()
}

/// A layer with a file in it that is larger than the quotas here.
fn layer(disk: &Disk) -> Result<PathBuf> {
    disk.dir("base/data")?;
    fs::write(disk.path().join("base/data/big"), vec![7; 2 << 20])?;
    Ok(disk.path().join("base"))
}

fn upper(disk: &Disk, name: &str) -> Result<UpperDir> {
    Ok(Upper::dir(disk.dir(format!("{name}/upper"))?, disk.dir(format!("{name}/work"))?))
}

fn project(path: &Path) -> Result<ProjectAttributes> {
    Ok(raw::project(&fs::File::open(path)?)?)
}

fn give_project(path: &Path, id: u32) -> Result {
    let dir = fs::File::open(path)?;
    let old = raw::project(&dir)?;
    Ok(raw::set_project(&dir, ProjectAttributes { id, flags: old.flags | raw::PROJINHERIT, ..old })?)
}

/// The size that `statfs(2)` shows for a directory with a project: the limit.
fn size_of(dir: &Path) -> Result<u64> {
    let stat = nix::sys::statfs::statfs(dir)?;
    Ok(stat.blocks() * u64::try_from(stat.block_size()).expect("a block has a size"))
}

fn refused(sandbox: &Sandbox, kind: ErrorKind) -> Result<belljar::Error> {
    let error = sandbox.status(payload("exit", &["0"])).expect_err("it cannot be limited");
    if error.kind() != kind || error.path().is_none() || error.hint().is_none() {
        return fail(format!("{kind:?} was to be: {}", explain(&error)));
    }
    Ok(error)
}

const LIMIT: u64 = 1 << 20;
const INODES: u64 = 200;

fn quotas_of_ext4_hold() -> Result {
    in_own_mounts("quota-holds", &["ext4", &libc::EDQUOT.to_string()])
}

fn quotas_of_xfs_hold() -> Result {
    in_own_mounts("quota-holds", &["xfs", &libc::ENOSPC.to_string()])
}

fn limited_format(name: &str) -> Format {
    if name == "xfs" { XFS_QUOTA } else { EXT4_QUOTA }
}

/// Every way to fill an upper that we know.
fn quota_holds(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let (scratch, name, full) = (scratch_of(args), support::roles::text(args, 1), args[2].to_str());
        let full = full.expect("a number");
        let disk = Disk::mount(&scratch, "disk", limited_format(&name))?;
        let base = layer(&disk)?;
        // Of another project, which what is copied up from it must not be.
        give_project(&base.join("data"), 99)?;
        let free = disk.free()?;
        // What is not a byte of an upper: blocks of the quotas' own files, and of the directories that uppers are in.
        const BESIDE: u64 = 64 << 10;
        for how in ["one", "many", "links", "preallocated", "sparse", "mapped", "copied", "unnamed", "empty"]
        {
            let dir = upper(&disk, how)?.quota(Bytes::new(LIMIT), INODES);
            let began = disk.free()?;
            let container = over(&base, dir).start()?;
            let mut command = payload("fill", &[how]);
            command.stdout(belljar::Stdio::capture(1000));
            let output = container.output(&command)?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            // While what has no name is still there.
            let taken = began.saturating_sub(disk.free()?);
            println!("{name}: {how}: {said:?}, {taken} bytes");
            // Overlays of a user namespace have no O_TMPFILE in some kernels (seen on 6.1).
            if how == "unnamed" && said == format!("0 errno {}\n", libc::EOPNOTSUPP) {
                continue;
            }
            match how {
                "mapped" => assert_eq!(output.outcome.verdict, Verdict::Signaled(libc::SIGBUS), "{said}"),
                _ => assert!(said.ends_with(&format!(" errno {full}\n")), "{how}: {said:?}"),
            }
            assert!(taken <= LIMIT + BESIDE, "{how}: {taken}");
            // What was refused is the last bit of it, where bytes run out.
            if !["empty", "copied", "preallocated", "unnamed"].contains(&how) {
                assert!(taken >= LIMIT / 4 * 3, "{how}: {taken}");
            }
            let count = said.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            if how == "empty" {
                assert!(count.is_some_and(|count| count > INODES / 2 && count < INODES), "{said:?}");
            }
            if how == "unnamed" {
                assert!(count.is_some_and(|bytes| bytes > LIMIT / 2 && bytes <= LIMIT), "{said:?}");
            }
            container.close()?;
        }
        // What the host copies in, which alone it may write beyond a limit of ext4.
        let began = disk.free()?;
        let container = over(&base, upper(&disk, "host")?.quota(Bytes::new(LIMIT), INODES)).start()?;
        let big = vec![7_u8; 2 << 20];
        let error = container.copy_in(&*big, "/data/in", 0o644, mib(8)).expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", explain(&error));
        assert_eq!(error.raw_os_error().map(|errno| errno.to_string()).as_deref(), Some(full));
        assert!(began.saturating_sub(disk.free()?) <= LIMIT + BESIDE);
        container.close()?;
        // The positive control: without a quota there is room.
        let text = run_role(&over(&base, upper(&disk, "unlimited")?), "fill", &["twice"])?;
        assert_eq!(text, format!("{} errno 0\n", 2 * LIMIT));
        assert!(free - disk.free()? > 2 * LIMIT);
        Ok(())
    };
    role_result(run())
}

/// Writes until it is refused, and says how much it was and why.
fn fill(args: &[OsString]) -> i32 {
    let chunk = vec![1_u8; 64 << 10];
    let write = |mut file: fs::File, most: u64| -> (u64, std::io::Result<()>) {
        let mut done = 0;
        while done < most {
            match file.write(&chunk) {
                Ok(count) => done += count as u64,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, file.sync_all())
    };
    let (count, result) = match support::roles::text(args, 0).as_str() {
        "one" => fs::File::create("/data/one").map(|file| write(file, 64 << 20)),
        "twice" => fs::File::create("/data/one").map(|file| write(file, 2 * LIMIT)),
        "many" => Ok(repeat(|n| fs::write(format!("/data/{n}"), &chunk))),
        "empty" => Ok(repeat(|n| fs::File::create(format!("/data/{n}")).map(drop))),
        "links" => fs::write("/data/file", "x").map(|()| {
            let mut made = 0;
            loop {
                // Up to EMLINK, in directories of their own.
                let dir = format!("/data/{}", made / 5000);
                let link = || {
                    fs::create_dir_all(&dir)?;
                    fs::hard_link("/data/file", format!("{dir}/{made:0200}"))
                };
                if let Err(error) = link() {
                    return (made, Err(error));
                }
                made += 1;
            }
        }),
        "preallocated" => fs::File::create("/data/file").map(|file| {
            let done = nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 64 << 20);
            (0, done.map_err(Into::into))
        }),
        "sparse" => fs::File::create("/data/file").and_then(|file| {
            file.set_len(64 << 30)?;
            Ok(repeat(|n| file.write_at(&chunk[..4096], n << 20).map(drop)))
        }),
        "mapped" => {
            fs::File::options().create_new(true).read(true).write(true).open("/data/file").and_then(|file| {
                file.set_len(64 << 20)?;
                raw::touch_pages(&file, 64 << 20)?;
                Ok((0, file.sync_all()))
            })
        }
        "copied" => Ok((0, fs::File::options().append(true).open("/data/big").map(drop))),
        "unnamed" => {
            let options = fs::File::options().write(true).custom_flags(libc::O_TMPFILE).open("/data");
            options.map(|file| write(file, 64 << 20))
        }
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    }
    .unwrap_or_else(|error| (0, Err(error)));
    println!("{count} errno {}", result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
    0
}

/// Does something until it fails, at most 16384 times.
fn repeat(mut act: impl FnMut(u64) -> std::io::Result<()>) -> (u64, std::io::Result<()>) {
    for n in 0..16384 {
        if let Err(error) = act(n) {
            return (n, Err(error));
        }
    }
    (16384, Ok(()))
}

fn projects_cannot_be_left() -> Result {
    in_own_mounts("projects-stay", &[])
}

/// An attack: a program that has every capability of its namespace moves its files out of the project, or what will be
/// made in its directories.
fn projects_stay(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let scratch = scratch_of(args);
        for name in ["ext4", "xfs"] {
            let disk = Disk::mount(&scratch, name, limited_format(name))?;
            let base = layer(&disk)?;
            let dir = upper(&disk, "mapped")?.quota(Bytes::new(LIMIT), INODES);
            let sandbox = over(&base, dir);
            let powers = [
                "CAP_SYS_ADMIN",
                "CAP_SYS_RESOURCE",
                "CAP_FOWNER",
                "CAP_LINUX_IMMUTABLE",
                "CAP_DAC_OVERRIDE",
            ];
            let powerful =
                powers.into_iter().fold(sandbox.clone(), |sandbox, name| sandbox.keep_capability(name));
            for sandbox in [&sandbox, &powerful] {
                let said = run_role(sandbox, "leave", &[])?;
                assert_eq!(said, "22 ".repeat(8), "{name}: EINVAL of the kernel's, and no other way");
            }
            let own = project(&disk.path().join("mapped/upper"))?;
            for path in ["data", "data/own", "data/dir", "data/dir/later"] {
                let found = project(&disk.path().join("mapped/upper").join(path))?;
                assert_eq!(found.id, own.id, "{name}: {path}");
            }
            let said = run_role(&powerful, "fill", &["one"])?;
            assert!(!said.ends_with(" errno 0\n"), "{name}: {said}");

            // The positive control, and why a quota needs a user namespace: in the host's own the owner of a file is free
            // to do so.
            let dir = upper(&disk, "host")?;
            for path in ["host/upper", "host/work"] {
                give_project(&disk.path().join(path), 77)?;
            }
            let sandbox = over(&base, dir.clone()).share_user();
            assert_eq!(run_role(&sandbox, "leave", &[])?, "0 ".repeat(8), "{name}");
            assert_eq!(project(&disk.path().join("host/upper/data/own"))?.id, 0);
            let limited = over(&base, dir.quota(Bytes::new(LIMIT), 0)).share_user();
            assert_eq!(limited.plan().expect_err("it would be none").kind(), ErrorKind::InvalidConfig);
        }
        Ok(())
    };
    role_result(run())
}

fn leave(_: &[OsString]) -> i32 {
    fs::create_dir_all("/data/dir").expect("it is ours");
    fs::write("/data/own", "x").expect("it is ours");
    for path in ["/data/own", "/data/dir", "/data"] {
        let file = fs::File::open(path).expect("it is ours");
        let old = raw::project(&file).expect("it has one");
        let say = |result: std::io::Result<()>| {
            print!("{} ", result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
            // What there was is there again for the next attempt, if that is allowed.
            raw::set_project(&file, old).ok();
        };
        say(raw::set_project(&file, ProjectAttributes { id: 0, ..old }));
        say(raw::set_project(&file, ProjectAttributes { id: 78, ..old }));
        if path != "/data/own" {
            let flags = old.flags ^ raw::PROJINHERIT;
            say(raw::set_project(&file, ProjectAttributes { flags, ..old }));
        }
    }
    let file = fs::File::open("/data/own").expect("it is ours");
    let old = raw::project(&file).expect("it has one");
    raw::set_project(&file, ProjectAttributes { id: 0, ..old }).ok();
    fs::write("/data/dir/later", "x").expect("it is ours");
    0
}

fn a_project_for_each_upper() -> Result {
    in_own_mounts("own-projects", &[])
}

fn own_projects(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let scratch = scratch_of(args);
        for name in ["ext4", "xfs"] {
            let disk = Disk::mount(&scratch, name, limited_format(name))?;
            let base = layer(&disk)?;
            let at = |path: &str| disk.path().join(path);
            let exit = |dir: UpperDir, size: u64| -> Result {
                succeed(over(&base, dir.quota(Bytes::new(size), 0)).output(payload("exit", &["0"]))?)
                    .map(drop)
            };
            // Both directories get one id, in which things are made; the limit is what was asked for, less a bit of a block.
            exit(upper(&disk, "first")?, LIMIT + 1000)?;
            let first = project(&at("first/upper"))?;
            assert!(first.id >= 1 << 30 && first.flags & raw::PROJINHERIT != 0, "{first:?}");
            assert_eq!(project(&at("first/work"))?.id, first.id);
            assert_eq!(size_of(&at("first/upper"))?, LIMIT);
            // It stays theirs, with another limit; also with one below what is there.
            run_role(&over(&base, upper(&disk, "first")?.quota(Bytes::new(2 * LIMIT), 0)), "fill", &["one"])?;
            assert_eq!(size_of(&at("first/upper"))?, 2 * LIMIT);
            let less = over(&base, upper(&disk, "first")?.quota(Bytes::new(LIMIT), 0));
            let shown = format!("limit {} to 1 MiB and any number of inodes", at("first/upper").display());
            assert!(less.plan()?.to_string().contains(&shown), "{}", less.plan()?);
            assert_eq!(size_of(&at("first/upper"))?, 2 * LIMIT, "nothing was started yet");
            let said = run_role(&less, "fill", &["many"])?;
            assert!(said.starts_with("0 errno ") && !said.starts_with("0 errno 0"), "{said}");
            assert_eq!(project(&at("first/upper"))?.id, first.id);
            // Another pair has another one.
            exit(upper(&disk, "second")?.volatile(), LIMIT)?;
            assert_ne!(project(&at("second/upper"))?.id, first.id);
            // One that it has been given is kept, and goes to an empty work directory.
            let given = upper(&disk, "given")?;
            give_project(&at("given/upper"), 77)?;
            exit(given, LIMIT)?;
            assert_eq!((project(&at("given/upper"))?.id, project(&at("given/work"))?.id), (77, 77));

            // Files that would not be counted, on either side; nothing is changed.
            for side in ["upper", "work"] {
                let dir = upper(&disk, side)?;
                fs::write(at(&format!("{side}/{side}/file")), "old")?;
                let error = refused(&over(&base, dir.quota(Bytes::new(LIMIT), 0)), ErrorKind::InvalidConfig)?;
                assert_eq!(error.path(), Some(&*at(&format!("{side}/{side}"))), "{}", explain(&error));
                assert_eq!(error.step(), Step::MountSource);
                assert_eq!(project(&at(&format!("{side}/{side}")))?.id, 0, "{name}");
            }
            // Used by a sandbox without a quota.
            let used = upper(&disk, "used")?;
            succeed(over(&base, used.clone()).output(payload("exit", &["0"]))?)?;
            refused(&over(&base, used.quota(Bytes::new(LIMIT), 0)), ErrorKind::InvalidConfig)?;
            // The id of what they are in.
            disk.dir("project")?;
            give_project(&at("project"), 55)?;
            let inside = upper(&disk, "project/run")?;
            assert_eq!(project(&at("project/run/upper"))?.id, 55, "it is inherited");
            refused(&over(&base, inside.quota(Bytes::new(LIMIT), 0)), ErrorKind::InvalidConfig)?;
            // Less than a block, of a filesystem that has larger ones.
            let tiny = upper(&disk, "tiny")?.quota(Bytes::new(700), 0);
            refused(&over(&base, tiny), ErrorKind::InvalidConfig)?;
        }
        Ok(())
    };
    role_result(run())
}

/// What a container gives for root: it may mount, and the kernel lets it limit nothing.
fn a_host_that_is_root_in_a_namespace() -> Result {
    in_own_mounts("namespace-root", &["ext4"])?;
    in_own_mounts("namespace-root", &["xfs"])
}

fn namespace_root(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let (scratch, name) = (scratch_of(args), support::roles::text(args, 1));
        if name != "inside" {
            let disk = Disk::mount(&scratch, "disk", limited_format(&name))?;
            disk.dir("base")?;
            disk.dir("upper")?;
            disk.dir("work")?;
            let mut command = std::process::Command::new("unshare");
            command.args(["--user", "--map-root-user"]).arg(support::own_exe());
            command.args(["--role", "namespace-root"]).args([disk.path().as_os_str(), "inside".as_ref()]);
            return support::run_helper(&mut command, Duration::from_secs(60))?.succeed().map(drop);
        }
        let disk = Path::new(&args[0]);
        let dir = Upper::dir(disk.join("upper"), disk.join("work"));
        let error = refused(&over(&disk.join("base"), dir.quota(mib(1), 0)), ErrorKind::PermissionDenied)?;
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{}", explain(&error));
        assert_eq!(project(&disk.join("upper"))?.id, 0, "nothing was changed");
        Ok(())
    };
    role_result(run())
}

fn a_kernel_without_the_call() -> Result {
    support::run_helper(&mut support::role_command("without-call", &[]), Duration::from_secs(60))?
        .succeed()
        .map(drop)
}

fn without_call(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let scratch = Scratch::new();
        let dir = Upper::dir(scratch.dir("upper"), scratch.dir("work")).quota(mib(1), 0);
        let sandbox = over(&scratch.dir("base"), dir);
        raw::make_unknown(libc::SYS_quotactl_fd)?;
        let error = sandbox.plan().expect_err("there is no such call");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", explain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("5.14")), "{}", explain(&error));
        Ok(())
    };
    role_result(run())
}

fn counting_is_not_enough() -> Result {
    in_own_mounts("refused-on", &["ext4-counted", "prjquota"])?;
    in_own_mounts("refused-on", &["xfs-counted", "prjquota"])
}

fn ext4_without_projects() -> Result {
    in_own_mounts("refused-on", &["ext4", "tune2fs -O project,quota"])
}

fn xfs_without_projects() -> Result {
    in_own_mounts("refused-on", &["xfs", "prjquota"])
}

fn btrfs_has_no_projects() -> Result {
    in_own_mounts("refused-on", &["btrfs", "ext4 or xfs"])
}

fn refused_on(args: &[OsString]) -> i32 {
    let run = || -> Result {
        let (scratch, name, hint) =
            (scratch_of(args), support::roles::text(args, 1), support::roles::text(args, 2));
        let format = match name.as_str() {
            "ext4" => EXT4,
            "ext4-counted" => EXT4_COUNTED,
            "xfs" => XFS,
            "xfs-counted" => XFS_COUNTED,
            _ => BTRFS,
        };
        let disk = Disk::mount(&scratch, "disk", format)?;
        let base = disk.dir("base/data").map(|_| disk.path().join("base"))?;
        let dir = upper(&disk, "run")?;
        let error = refused(&over(&base, dir.clone().quota(mib(1), 0)), ErrorKind::Unsupported)?;
        assert!(error.hint().is_some_and(|text| text.contains(&hint)), "{name}: {}", explain(&error));
        assert_eq!(project(&disk.path().join("run/upper"))?.id, 0, "nothing was changed");
        // Without a quota it works.
        succeed(over(&base, dir).output(payload("exit", &["0"]))?).map(drop)
    };
    role_result(run())
}

fn tmpfs_has_no_projects() -> Result {
    let scratch = Scratch::below(Path::new("/dev/shm"));
    let (upper, work) = (scratch.dir("upper"), scratch.dir("work"));
    scratch.dir("base/data");
    let sandbox = over(&scratch.join("base"), Upper::dir(upper, work).quota(mib(1), 10));
    let error = refused(&sandbox, ErrorKind::Unsupported)?;
    assert!(error.hint().is_some_and(|text| text.contains("ext4 or xfs")), "{}", explain(&error));
    Ok(())
}

fn quotas_that_cannot_be() -> Result {
    let scratch = Scratch::new();
    let dir = || Upper::dir(scratch.dir("upper"), scratch.dir("work"));
    let base = scratch.dir("base");
    for (size, inodes) in [(0, 0), (0, 10), (u64::MAX, 0), (1 << 30, u64::MAX)] {
        let error = refused(&over(&base, dir().quota(size, inodes)), ErrorKind::InvalidConfig)?;
        assert_eq!(error.path(), Some(&*scratch.join("upper")), "{}", explain(&error));
    }
    // Whatever the filesystem can do.
    let outside = over(&base, dir().quota(mib(1), 0)).share_user();
    let error = outside.plan().expect_err("there is no user namespace");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    assert!(error.hint().is_some_and(|text| text.contains("user_ns")), "{}", explain(&error));
    Ok(())
}

fn a_host_without_privilege() -> Result {
    let said = as_nobody("nobody", &[], Duration::from_secs(60))?.succeed()?;
    assert_eq!(said, "ok\n");
    Ok(())
}

fn nobody(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let scratch = Scratch::below(&std::env::temp_dir());
        let dir = Upper::dir(scratch.dir("upper"), scratch.dir("work"));
        let base = scratch.dir("base");
        let error = refused(&over(&base, dir.quota(mib(1), 0)), ErrorKind::PermissionDenied)?;
        assert!(error.hint().is_some_and(|text| text.contains("CAP_SYS_ADMIN")), "{}", explain(&error));
        println!("ok");
        Ok(())
    };
    role_result(run())
}
