//! Identity: who a program is, inside and outside, and what it may do.
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

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Command, ErrorKind, Feature, Mount, Sandbox, Step, UserMap, Verdict};
use support::{
    Result, Scratch, as_nobody, closed, explain, hold, oracle, payload, run_helper, run_role, succeed,
    with_payload,
};

fn main() -> ExitCode {
    let cases = cases![
        a_root_host_gives_a_fresh_block: ["root"],
        two_sandboxes_never_share_a_host_id: ["root"],
        blocks_come_back: ["root"],
        an_unprivileged_host: ["userns", "setpriv"],
        an_explicit_map: ["root"],
        a_user_of_ones_choice: ["root"],
        a_user_without_a_user_namespace: ["root"],
        root_inside: ["userns"],
        supplementary_groups_are_dropped: ["root", "setpriv"],
        no_capability_is_left: ["userns"],
        a_capability_is_kept: ["root"],
        a_kept_capability_works: ["userns"],
        capabilities_of_a_bare_sandbox: ["root"],
        no_new_privileges: ["userns", "payload-place"],
        a_setuid_program_gains_nothing: ["root"],
        host_ids_mean_nothing_inside: ["root"],
        subordinate_ids: ["root", "uidmap", "setpriv", "unshare"],
        subordinate_ids_that_nobody_gave: ["bare", "userns", "setpriv"],
        maps_that_cannot_be: [],
        host_root_is_never_mapped: ["bare", "root"],
        ids_that_are_not_mapped: ["bare", "root"],
        new_user_namespaces_are_refused: ["userns"],
        the_init_is_not_dumpable: ["root"],
    ];
    support::main(cases, &[("unprivileged", unprivileged), ("subids", subids), ("no-subids", no_subids)])
}

/// First and last id of systemd's container range.
const RANGE: std::ops::RangeInclusive<u32> = 524_288..=1_879_048_191;

fn numbers(status: &HashMap<String, String>, key: &str) -> Vec<u32> {
    status[key].split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

/// The ids of a process as the host sees them: real, effective, saved, filesystem.
fn outside(pid: u32) -> (Vec<u32>, Vec<u32>) {
    let status = oracle::status(pid);
    (numbers(&status, "Uid"), numbers(&status, "Gid"))
}

fn inside(sandbox: &Sandbox) -> Result<HashMap<String, String>> {
    Ok(oracle::fields(&run_role(sandbox, "status", &[])?))
}

fn a_root_host_gives_a_fresh_block() -> Result {
    let held = hold(&closed())?;
    let (uids, gids) = outside(held.pid);
    assert!(uids.iter().chain(&gids).all(|id| *id == uids[0]), "{uids:?} {gids:?}");
    assert!(RANGE.contains(&uids[0]), "{}", uids[0]);
    assert_eq!(uids[0] % 65_536, 1000, "the ids inside are the lower half");
    let map = fs::read_to_string(format!("/proc/{}/uid_map", held.pid))?;
    let words: Vec<u32> = map.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(words, [0, uids[0] - 1000, 65_536]);
    let init = oracle::parent(held.pid).expect("it has a parent");
    assert!(
        outside(init).0.iter().all(|id| *id == uids[0] - 1000),
        "the init is root of the sandbox, never the host's"
    );
    held.release()?;
    let status = inside(&closed())?;
    assert_eq!((numbers(&status, "Uid"), numbers(&status, "Gid")), (vec![1000; 4], vec![1000; 4]));
    Ok(())
}

fn two_sandboxes_never_share_a_host_id() -> Result {
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(hold(&closed())?);
    }
    // And those of another process.
    let mut other = support::role_command("unprivileged", &["hold"]);
    other.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut other = other.spawn()?;
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(other.stdout.as_mut().expect("piped")),
        &mut line,
    )?;
    let theirs: u32 = line.trim().parse().map_err(|_| support::Fail(line.clone()))?;
    let mut blocks: Vec<u32> = held.iter().map(|held| outside(held.pid).0[0]).collect();
    blocks.push(theirs);
    blocks.sort_unstable();
    assert!(blocks.windows(2).all(|pair| pair[1] - pair[0] >= 65_536), "{blocks:?}");
    drop(other.stdin.take());
    other.wait()?;
    for held in held {
        held.release()?;
    }
    Ok(())
}

fn blocks_come_back() -> Result {
    // Far more sandboxes one after the other than could be if blocks were lost with them is for the soak; here that the
    // lock of a block is free again at once.
    let held = hold(&closed())?;
    let block = (outside(held.pid).0[0] - *RANGE.start()) / 65_536;
    let locks = || fs::read_to_string("/proc/locks").unwrap_or_default();
    let has = |text: &str| {
        let ranges = text.lines().filter(|line| line.contains("OFDLCK") && line.contains("WRITE"));
        // Locks of one open file that touch are shown as one.
        ranges
            .filter_map(|line| {
                let mut ends = line.rsplit(' ').map(|word| word.parse::<u32>().ok());
                let (last, first) = (ends.next()??, ends.next()??);
                Some(first..=last)
            })
            .any(|range| range.contains(&block))
    };
    assert!(has(&locks()), "block {block} is not locked:\n{}", locks());
    held.release()?;
    assert!(support::within(Duration::from_secs(1), || !has(&locks())), "block {block} is still locked");
    Ok(())
}

fn an_unprivileged_host() -> Result {
    let helper = as_nobody("unprivileged", &["check"], Duration::from_secs(60))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

/// With "hold": holds a sandbox and says its host id. With "check": looks at everything from a host without privilege.
fn unprivileged(args: &[OsString]) -> i32 {
    let run = || -> Result {
        if args[0] == "hold" {
            let held = hold(&closed())?;
            println!("{}", outside(held.pid).0[0]);
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut std::io::stdin(), &mut rest)?;
            return held.release().map(drop);
        }
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let held = hold(&closed())?;
        assert_eq!(outside(held.pid), (vec![uid; 4], vec![gid; 4]));
        let map = fs::read_to_string(format!("/proc/{}/uid_map", held.pid))?;
        let words: Vec<u32> = map.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(words, [1000, uid, 1]);
        let outcome = held.release()?;
        // setgroups(2) is denied in such a namespace, and that is said.
        assert!(outcome.enforced.skipped().iter().any(|skipped| skipped.feature == Feature::Groups));
        let status = inside(&closed())?;
        assert_eq!(numbers(&status, "Uid"), [1000; 4]);
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[key], "0000000000000000", "{key}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(numbers(&inside(&closed().root())?, "Uid"), [0; 4]);
        assert_eq!(numbers(&inside(&closed().user(7, 8))?, "Gid"), [8; 4]);
        // A map of one's own id, in one's own words.
        let own = closed().user_map(UserMap::new().uids(5, uid, 1).gids(6, gid, 1)).user(5, 6);
        assert_eq!(numbers(&inside(&own)?, "Uid"), [5; 4]);
        // What is not ours needs newuidmap, which needs a range in /etc/subuid.
        let error =
            closed().user_map(UserMap::new().ids(0, 500_000, 1000)).user(0, 0).spawn(payload("exit", &["0"]));
        let error = error.expect_err("somebody else's ids");
        assert_eq!(error.step(), Step::IdMap, "{}", explain(&error));
        // Writable binds belong to the caller, too.
        let scratch = Scratch::new();
        let dir = scratch.dir("x");
        support::run_sh(&closed().mount(Mount::bind_writable(&dir, "/x")), "echo x > /x/file")?;
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join("file"))?), uid);
        println!("ok");
        Ok(())
    };
    finish(run())
}

fn finish(result: Result) -> i32 {
    match result {
        Ok(()) => 0,
        Err(support::Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

fn an_explicit_map() -> Result {
    let map = UserMap::new().uids(0, 700_000, 100).uids(1000, 800_000, 10).gids(0, 900_000, 2000);
    let sandbox = closed().user_map(map).user(1003, 1004);
    let held = hold(&sandbox)?;
    assert_eq!(outside(held.pid), (vec![800_003; 4], vec![901_004; 4]));
    held.release()?;
    let status = inside(&sandbox)?;
    assert_eq!((numbers(&status, "Uid"), numbers(&status, "Gid")), (vec![1003; 4], vec![1004; 4]));
    Ok(())
}

fn a_user_of_ones_choice() -> Result {
    for (uid, gid) in [(1, 2), (65_534, 65_534), (65_535, 0), (0, 65_535)] {
        let held = hold(&closed().user(uid, gid))?;
        let (uids, gids) = outside(held.pid);
        assert_eq!((uids[0] % 65_536, gids[0] % 65_536), (uid, gid));
        held.release()?;
    }
    Ok(())
}

fn a_user_without_a_user_namespace() -> Result {
    let held = hold(&with_payload(Sandbox::bare()).user(64_001, 64_002))?;
    assert_eq!(outside(held.pid), (vec![64_001; 4], vec![64_002; 4]));
    assert_eq!(oracle::status(held.pid)["Groups"], "");
    held.release().map(drop)
}

fn root_inside() -> Result {
    let held = hold(&closed().root())?;
    assert!(outside(held.pid).0.iter().all(|id| *id != 0), "host root");
    held.release()?;
    let status = inside(&closed().root())?;
    assert_eq!(numbers(&status, "Uid"), [0; 4]);
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[key], "0000000000000000", "root inside gains {key}");
    }
    Ok(())
}

fn supplementary_groups_are_dropped() -> Result {
    // A host with groups.
    let mut command = std::process::Command::new("setpriv");
    command.args(["--groups", "27,44,100"]).arg(support::own_exe()).args(["--role", "unprivileged", "hold"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.as_mut().expect("piped")),
        &mut line,
    )?;
    let host_groups = oracle::status(child.id())["Groups"].clone();
    let init = oracle::children(child.id());
    let payload = oracle::children(*init.first().expect("there is an init"));
    let groups = oracle::status(*payload.first().expect("there is a payload"))["Groups"].clone();
    drop(child.stdin.take());
    child.wait()?;
    assert_eq!(host_groups, "27 44 100", "the positive control");
    assert_eq!(groups, "");
    Ok(())
}

fn no_capability_is_left() -> Result {
    let held = hold(&closed())?;
    let status = oracle::status(held.pid);
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[key], "0000000000000000", "{key}");
    }
    assert_eq!(status["Seccomp"], "2");
    let outcome = held.release()?;
    assert!(
        outcome.enforced.contains(Feature::Capabilities) && outcome.enforced.contains(Feature::NoNewPrivs)
    );
    Ok(())
}

fn a_capability_is_kept() -> Result {
    for (name, bit) in [("NET_BIND_SERVICE", 10), ("cap_chown", 0), ("CAP_CHECKPOINT_RESTORE", 40)] {
        for sandbox in [closed(), closed().root()] {
            let held = hold(&sandbox.keep_capability(name))?;
            let status = oracle::status(held.pid);
            for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(status[key], format!("{:016x}", 1_u64 << bit), "{name} {key}");
            }
            held.release()?;
        }
    }
    Ok(())
}

fn a_kept_capability_works() -> Result {
    if support::features::missing("python3").is_some() {
        return Ok(());
    }
    let script = "import socket\ns=socket.socket()\ntry:\n s.bind(('127.0.0.1',80)); print('bound')\nexcept OSError as e: print(e.errno)";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]);
    let with = succeed(closed().keep_capability("NET_BIND_SERVICE").output(&command)?)?;
    assert_eq!(with, "bound\n");
    assert_eq!(succeed(closed().output(&command)?)?, "13\n", "without it, EACCES");
    Ok(())
}

fn capabilities_of_a_bare_sandbox() -> Result {
    let ours = oracle::status_of("self")["CapEff"].clone();
    assert_ne!(ours, "0000000000000000");
    let held = hold(&with_payload(Sandbox::bare()))?;
    assert_eq!(oracle::status(held.pid)["CapEff"], ours, "bare() leaves them alone");
    held.release()?;
    let held = hold(&with_payload(Sandbox::bare()).drop_capabilities())?;
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(oracle::status(held.pid)[key], "0000000000000000", "{key}");
    }
    held.release().map(drop)
}

fn no_new_privileges() -> Result {
    for sandbox in [closed(), closed().allow_all_syscalls(), with_payload(Sandbox::bare().user_ns())] {
        let held = hold(&sandbox)?;
        assert_eq!(oracle::status(held.pid)["NoNewPrivs"], "1");
        held.release()?;
    }
    Ok(())
}

fn a_setuid_program_gains_nothing() -> Result {
    // /var/tmp is not mounted nosuid on most hosts; the control says whether it would work at all.
    let scratch = Scratch::new();
    let copy = scratch.join("id");
    support::copy_program(support::own_exe(), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755))?;
    let mut control = std::process::Command::new("setpriv");
    control.args(["--reuid", "65534", "--clear-groups"]).arg(&copy).args(["--role", "status"]);
    let control = oracle::fields(&run_helper(&mut control, Duration::from_secs(10))?.succeed()?);
    assert_eq!(numbers(&control, "Uid")[1], 0, "the positive control");
    let mut command = Command::new("/id");
    command.args(["--role", "status"]);
    let sandbox = Sandbox::new().mount(Mount::bind(&copy, "/id"));
    let status = oracle::fields(&succeed(sandbox.output(&command)?)?);
    assert_eq!(numbers(&status, "Uid"), [1000; 4]);
    // A user without a namespace, so that the owner of the file means the host's root.
    let mut direct = Command::new(&copy);
    direct.args(["--role", "status"]);
    let status = oracle::fields(&succeed(Sandbox::bare().user(65_534, 65_534).output(&direct)?)?);
    assert_eq!(numbers(&status, "Uid"), [65_534; 4], "no_new_privs alone is enough");
    Ok(())
}

fn host_ids_mean_nothing_inside() -> Result {
    // A file that only host root may read, shown inside: neither user 1000 nor root of the sandbox may.
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    for sandbox in [closed(), closed().root(), closed().root().keep_capability("DAC_OVERRIDE")] {
        let output = sandbox.mount(Mount::bind(&secret, "/secret")).output(payload("cat", &["/secret"]))?;
        assert_eq!(output.stdout, b"errno 13\n");
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644))?;
    let text = run_role(&closed().mount(Mount::bind(&secret, "/secret")), "cat", &["/secret"])?;
    assert_eq!(text, "secret", "the positive control");
    Ok(())
}

fn subordinate_ids() -> Result {
    // Ranges for 65534, in a mount namespace of their own, so that the host's files stay as they are.
    let scratch = Scratch::new();
    let ids = scratch.file("subids", "65534:200000:65536\nnobody:200000:65536\n");
    let copy = scratch.join("test");
    support::copy_program(support::own_exe(), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let script = format!(
        "touch /etc/subuid /etc/subgid; mount --bind {0} /etc/subuid && mount --bind {0} /etc/subgid && \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups {1} --role subids",
        ids.display(),
        copy.display()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    assert_eq!(run_helper(&mut command, Duration::from_secs(30))?.succeed()?, "ok\n");
    Ok(())
}

fn subids(_: &[OsString]) -> i32 {
    let run = || -> Result {
        let sandbox = closed().user_map(UserMap::subids());
        let held = hold(&sandbox)?;
        assert_eq!(outside(held.pid).0, [65_534; 4], "the program is the caller");
        let map = fs::read_to_string(format!("/proc/{}/uid_map", held.pid))?;
        assert!(map.lines().count() >= 2 && map.contains("200000"), "{map}");
        held.release()?;
        let held = hold(&closed().user_map(UserMap::new().ids(0, 200_000, 1000)).user(0, 0))?;
        assert_eq!(outside(held.pid).0, [200_000; 4]);
        assert_eq!(oracle::status(held.pid)["Groups"], "");
        held.release()?;
        println!("ok");
        Ok(())
    };
    finish(run())
}

fn subordinate_ids_that_nobody_gave() -> Result {
    let helper = as_nobody("no-subids", &[], Duration::from_secs(30))?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn no_subids(_: &[OsString]) -> i32 {
    let run = || -> Result {
        match closed().user_map(UserMap::subids()).spawn(payload("exit", &["0"])) {
            // This user has a range; then it works, or says what is missing.
            Ok(mut child) => assert!(child.wait()?.success()),
            Err(error) => {
                assert_eq!(error.step(), Step::IdMap, "{}", explain(&error));
                assert!(error.hint().is_some_and(|hint| hint.contains("sub")), "{:?}", error.hint());
            }
        }
        println!("ok");
        Ok(())
    };
    finish(run())
}

fn maps_that_cannot_be() -> Result {
    let wrong = [
        ("empty", UserMap::new()),
        ("no groups", UserMap::new().uids(1000, 600_000, 1)),
        ("no users", UserMap::new().gids(1000, 600_000, 1)),
        ("zero", UserMap::new().ids(1000, 600_000, 0)),
        ("overlap inside", UserMap::new().ids(1000, 600_000, 10).ids(1009, 700_000, 10)),
        ("overlap outside", UserMap::new().ids(1000, 600_000, 10).ids(2000, 600_009, 10)),
        ("twice the same", UserMap::new().ids(1000, 600_000, 10).ids(1000, 600_000, 10)),
        ("overflow outside", UserMap::new().ids(1000, u32::MAX - 5, 10)),
        ("overflow inside", UserMap::new().ids(u32::MAX - 5, 600_000, 10)),
        ("everything", UserMap::new().ids(0, 1, u32::MAX)),
        ("too long for one write", (0..339).fold(UserMap::new(), |map, n| map.ids(1000 + n, 600_000 + n, 1))),
        ("too many", (0..341).fold(UserMap::new(), |map, n| map.ids(1000 + n, 600_000 + n, 1))),
    ];
    for (name, map) in wrong {
        let error = Sandbox::new().user_map(map).plan().expect_err("a map that cannot be");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}: {}", explain(&error));
    }
    if support::features::missing("root").is_none() {
        let most = (0..290).fold(UserMap::new(), |map, n| map.ids(1000 + n, 600_000 + 2 * n, 1));
        assert_eq!(closed().user_map(most).status(payload("exit", &["0"]))?.verdict, Verdict::Exited(0));
    }
    Ok(())
}

fn host_root_is_never_mapped() -> Result {
    for map in [
        UserMap::new().ids(1000, 0, 1),
        UserMap::new().ids(0, 0, 65_536).ids(70_000, 100_000, 1),
        UserMap::new().uids(1000, 600_000, 1).gids(1000, 0, 1),
    ] {
        let error = closed().user_map(map.clone()).plan().expect_err("host root");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{map:?}");
        assert!(error.hint().is_some());
    }
    Ok(())
}

fn ids_that_are_not_mapped() -> Result {
    let map = UserMap::new().ids(0, 600_000, 100);
    for (uid, gid) in [(1000, 0), (0, 1000), (100, 0), (u32::MAX, 0)] {
        let error = closed().user_map(map.clone()).user(uid, gid).plan().expect_err("not mapped");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{uid}:{gid}");
    }
    // Beyond what the automatic map has.
    for id in [65_536, 4_000_000_000, u32::MAX] {
        match closed().user(id, 1000).spawn(payload("exit", &["0"])) {
            Ok(_) => return support::fail(format!("user {id} is beyond the map")),
            Err(error) => {
                assert!([Step::Plan, Step::Ids].contains(&error.step()), "{id}: {}", explain(&error))
            }
        }
    }
    Ok(())
}

fn new_user_namespaces_are_refused() -> Result {
    let flags = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET | libc::CLONE_NEWUSER];
    for flag in flags {
        let inside = closed().output(payload("try-unshare", &[&flag.to_string()]))?;
        assert_eq!(inside.stdout, b"errno 1\n", "{flag:#x}");
    }
    let open = closed().allow_all_syscalls().output(payload("try-unshare", &[&flags[0].to_string()]))?;
    assert_eq!(open.stdout, b"ok\n", "the positive control");
    let clone3 = closed().output(payload("syscall", &[&libc::SYS_clone3.to_string(), "0", "0"]))?;
    assert_eq!(clone3.stdout, b"errno 38\n", "ENOSYS, so that the C library falls back");
    Ok(())
}

fn the_init_is_not_dumpable() -> Result {
    // Files below /proc/<pid> of a process that is not dumpable belong to root, whatever its own ids.
    let held = hold(&closed())?;
    let init = oracle::parent(held.pid).expect("it has a parent");
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(format!("/proc/{init}/mem"))?.uid();
    assert_ne!(owner, outside(held.pid).0[0]);
    // Inside, nobody can look at it.
    let output = closed().root().output(payload("open", &["/proc/1/mem", "r"]))?;
    assert_ne!(output.outcome.verdict, Verdict::Exited(0));
    let output = closed().root().output(payload("open", &["/proc/self/mem", "r"]))?;
    assert_eq!(output.outcome.verdict, Verdict::Exited(0), "the positive control");
    held.release().map(drop)
}
