//! Files that are copied into running sandboxes and out of them.
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
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Bytes, Container, ErrorKind, Mount, Rootfs, Sandbox, Step, Upper};
use support::{
    Result, Scratch, as_nobody, closed, explain, fail, mib, payload, sh, slack, succeed, timed, within,
};

fn main() -> ExitCode {
    let cases = cases![
        there_and_back: ["userns", "sh"],
        there_and_back_without_privilege: ["userns", "sh", "setpriv"],
        into_an_overlay: ["userns", "overlay", "sh"],
        a_new_file_replaces_what_was_there: ["userns", "sh"],
        links_stay_inside: ["userns", "sh"],
        links_lead_to_nothing_that_is_closed_to_the_program: ["userns", "root", "overlay", "sh"],
        what_is_no_file_is_refused: ["userns", "python3"],
        limits_of_copies: ["userns", "sh"],
        a_full_filesystem_gets_nothing: ["userns"],
        a_program_that_swaps_files_gets_nothing_of_the_host: ["userns", "python3"],
        what_cannot_be: ["userns"],
        a_frozen_container_is_still: ["userns", "cgroup-v2", "sh"],
    ];
    support::main(cases, &[("nobody", nobody)])
}

fn out(container: &Container, path: &str) -> belljar::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    container.copy_out(path, &mut bytes, Bytes::mib(4)).map(|count| {
        assert_eq!(count, bytes.len() as u64);
        bytes
    })
}

#[track_caller]
fn refused(result: belljar::Result<impl std::fmt::Debug>, kind: ErrorKind) {
    let error = result.expect_err("it is refused");
    assert_eq!((error.kind(), error.step()), (kind, Step::Copy), "{}", explain(&error));
    assert!(error.path().is_some(), "{}", explain(&error));
}

fn round_trip(sandbox: &Sandbox) -> Result {
    let container = sandbox.start()?;
    let run = |script: &str| -> Result<String> { succeed(container.output(sh(script))?) };
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(container.copy_in(&content[..], "/tmp/in", 0o640, mib(1))?, 1_000_000);
    assert_eq!(run("id -u; stat -c '%u %g %a %s' /tmp/in")?, "1000\n1000 1000 640 1000000\n");
    assert_eq!(out(&container, "/tmp/in")?, content);
    run("cp /tmp/in /tmp/out && echo more >> /tmp/out && cp /tmp/in /tmp/closed && chmod 0 /tmp/closed")?;
    // No more than the program's user may: it has closed this one to itself.
    refused(out(&container, "/tmp/closed"), ErrorKind::PermissionDenied);
    let copied = out(&container, "/tmp/out")?;
    assert_eq!((copied.len(), &copied[1_000_000..]), (1_000_005, &b"more\n"[..]));
    // A program starts from what was copied.
    container.copy_in(&b"#!/bin/sh\necho it runs\n"[..], "/tmp/program", 0o755, mib(1))?;
    assert_eq!(succeed(container.output(belljar::Command::new("/tmp/program"))?)?, "it runs\n");
    // Nothing at all is something, too.
    assert_eq!(container.copy_in(std::io::empty(), "/tmp/empty", 0o600, 0)?, 0);
    assert_eq!(out(&container, "/tmp/empty")?, b"");
    Ok(())
}

fn there_and_back() -> Result {
    round_trip(&closed())
}

fn there_and_back_without_privilege() -> Result {
    let helper = as_nobody("nobody", &[], Duration::from_secs(30) * slack())?;
    assert_eq!(helper.succeed()?, "ok\n");
    Ok(())
}

fn nobody(_: &[OsString]) -> i32 {
    match round_trip(&closed()) {
        Ok(()) => println!("ok"),
        Err(support::Fail(message)) => println!("{message}"),
    }
    0
}

fn into_an_overlay() -> Result {
    let scratch = Scratch::new();
    scratch.dir("base/etc");
    scratch.file("base/etc/lower", "from below");
    let root = Rootfs::overlay([scratch.join("base")]).upper(Upper::tmpfs(mib(4), 100));
    // What is root's on disk is the program's to replace when it is root inside.
    let container = support::with_payload(Sandbox::new().rootfs(root)).root().start()?;
    assert_eq!(out(&container, "/etc/lower")?, b"from below");
    container.copy_in(&b"from outside"[..], "/etc/lower", 0o644, mib(1))?;
    container.copy_in(&b"at the top"[..], "top", 0o644, mib(1))?;
    assert_eq!(out(&container, "/etc/lower")?, b"from outside");
    assert_eq!(out(&container, "//./top")?, b"at the top");
    let mut lower = String::new();
    std::fs::File::open(scratch.join("base/etc/lower"))?.read_to_string(&mut lower)?;
    assert_eq!(lower, "from below");
    Ok(())
}

fn a_new_file_replaces_what_was_there() -> Result {
    let container = closed().start()?;
    let run = |script: &str| -> Result<String> { succeed(container.output(sh(script))?) };
    run("cd /tmp && echo old > old && ln -s old link && ln old hard && mkdir directory")?;
    for name in ["link", "hard"] {
        container.copy_in(&b"new"[..], format!("/tmp/{name}"), 0o644, mib(1))?;
    }
    assert_eq!(run("cat /tmp/old /tmp/link /tmp/hard")?, "old\nnewnew");
    refused(container.copy_in(&b"new"[..], "/tmp/directory", 0o644, mib(1)), ErrorKind::InvalidConfig);
    Ok(())
}

fn links_stay_inside() -> Result {
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "of the host");
    let secret = secret.to_str().expect("plain");
    let container = closed().start()?;
    let script = format!(
        "cd /tmp && ln -s {secret} a && ln -s / root && ln -s ../../../../../../.. up && mkdir d && echo in > d/f"
    );
    succeed(container.output(sh(&script))?)?;
    for path in [
        secret,
        "/tmp/a",
        &format!("/tmp/root{secret}"),
        &format!("/tmp/up{secret}"),
        &format!("/../..{secret}"),
    ] {
        refused(out(&container, path), ErrorKind::NotFound);
        refused(container.copy_in(&b"x"[..], format!("{path}/x"), 0o644, mib(1)), ErrorKind::NotFound);
    }
    // The same links lead to what is inside.
    for path in ["/tmp/root/tmp/d/f", "/tmp/up/tmp/d/f", "../tmp/d/../d/f"] {
        assert_eq!(out(&container, path)?, b"in\n", "{path}");
    }
    container.copy_in(&b"new"[..], "/tmp/up/tmp/root/tmp/d/g", 0o644, mib(1))?;
    assert_eq!(out(&container, "/tmp/d/g")?, b"new");
    assert_eq!(std::fs::read(scratch.join("secret"))?, b"of the host");
    Ok(())
}

fn what_is_no_file_is_refused() -> Result {
    let container = closed().start()?;
    let script = "import os, socket
os.chdir('/tmp'); os.mkfifo('fifo'); os.mkdir('dir')
socket.socket(socket.AF_UNIX).bind('socket')
os.symlink('loop', 'loop'); os.symlink('/proc/self/mem', 'mem'); os.symlink('/proc/self/fd/0', 'fd')";
    let mut python = belljar::Command::new("/usr/bin/python3");
    python.args(["-c", script]);
    succeed(container.output(python)?)?;
    let paths = [
        "/tmp/fifo",
        "/tmp/dir",
        "/tmp/socket",
        "/tmp/loop",
        "/tmp/fd",
        "/dev/zero",
        "/dev/tty",
        "/",
        "",
        "/proc/self/environ",
        "/proc/1/mem",
        "/proc/1/root/etc/passwd",
        "/tmp/mem",
    ];
    for path in paths {
        let (result, took) = timed(|| out(&container, path));
        assert!(took < Duration::from_secs(2) * slack(), "{path}: {took:?}");
        let error = result.expect_err(path);
        assert_eq!(error.step(), Step::Copy, "{path}: {}", explain(&error));
    }
    // A place in /proc is none for a new file, whatever leads there.
    for path in ["/proc/self/mem", "/proc/1/oom_score_adj", "/proc/new", "/dev/zero/x", "/", ".", "..", ""] {
        container.copy_in(&b"1"[..], path, 0o644, mib(1)).expect_err(path);
    }
    // One that leads there is replaced.
    container.copy_in(&b"1"[..], "/tmp/mem", 0o644, mib(1))?;
    assert_eq!(out(&container, "/tmp/mem")?, b"1");
    container.copy_in(&b"1"[..], "/tmp/fifo", 0o644, mib(1))?;
    assert_eq!(out(&container, "/tmp/fifo")?, b"1");
    Ok(())
}

fn limits_of_copies() -> Result {
    let container = closed().start()?;
    succeed(container.output(sh(
        "head -c 100000 /dev/zero > /tmp/large; truncate -s 8E /tmp/sparse || truncate -s 1T /tmp/sparse",
    ))?)?;
    for (path, limit) in [("/tmp/large", 99_999), ("/tmp/large", 0), ("/tmp/sparse", 1 << 20)] {
        let mut bytes = Vec::new();
        refused(container.copy_out(path, &mut bytes, Bytes::new(limit)), ErrorKind::LimitExceeded);
        assert_eq!(bytes.len() as u64, limit);
    }
    let mut bytes = Vec::new();
    assert_eq!(container.copy_out("/tmp/large", &mut bytes, Bytes::new(100_000))?, 100_000);
    let endless = || std::io::repeat(b'x');
    refused(container.copy_in(endless(), "/tmp/in", 0o644, mib(1)), ErrorKind::LimitExceeded);
    assert_eq!(out(&container, "/tmp/in")?, b"", "half a file is worse than none");
    // A program that writes for ever.
    let mut writer = container.spawn(sh("while :; do echo more; done > /tmp/growing"))?;
    let has_begun = || out(&container, "/tmp/growing").is_ok();
    assert!(within(Duration::from_secs(5) * slack(), has_begun));
    let (result, took) = timed(|| container.copy_out("/tmp/growing", std::io::sink(), Bytes::kib(256)));
    assert!(took < Duration::from_secs(10) * slack(), "{took:?}");
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
    writer.kill()?;
    writer.wait()?;
    Ok(())
}

fn a_full_filesystem_gets_nothing() -> Result {
    let container = closed().mount(Mount::tmpfs("/small").size(Bytes::kib(64)).inodes(4)).start()?;
    let large = vec![1; 100_000];
    refused(container.copy_in(&large[..], "/small/a", 0o644, mib(1)), ErrorKind::ResourceExhausted);
    assert_eq!(out(&container, "/small/a")?, b"");
    let made =
        (0..10).take_while(|n| container.copy_in(&b"x"[..], format!("/small/{n}"), 0o644, mib(1)).is_ok());
    assert!(made.count() < 4, "there are four inodes");
    Ok(())
}

/// It exchanges a file, a link to a file of the host and a directory, as fast as it can.
fn a_program_that_swaps_files_gets_nothing_of_the_host() -> Result {
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "of the host");
    let container = closed().start()?;
    let script = format!(
        "import os
os.chdir('/tmp'); os.mkdir('d'); open('d/f', 'w').write('inside')
os.symlink('{}', 'link'); open('file', 'w').write('inside'); os.symlink('/', 'up')
while True:
    os.rename('file', 'x'); os.rename('link', 'file'); os.rename('file', 'link'); os.rename('x', 'file')
    os.rename('d', 'y'); os.rename('up', 'd'); os.rename('d', 'up'); os.rename('y', 'd')",
        secret.display()
    );
    let mut python = belljar::Command::new("/usr/bin/python3");
    python.args(["-c", &script]);
    let mut child = container.spawn(&python)?;
    let mut read = 0;
    for _ in 0..300 {
        for path in ["/tmp/file", "/tmp/d/f", "/tmp/d/../../../../tmp/d/f"] {
            if let Ok(bytes) = out(&container, path) {
                // At first it is there and has nothing yet.
                assert!(bytes == b"inside" || bytes.is_empty(), "{path}: {bytes:?}");
                read += usize::from(!bytes.is_empty());
            }
        }
        container.copy_in(&b"inside"[..], "/tmp/d/new", 0o644, mib(1)).ok();
    }
    assert!(read > 0, "it never got a whole file");
    child.kill()?;
    child.wait()?;
    assert_eq!(std::fs::read(&secret)?, b"of the host");
    assert!(!std::path::Path::new("/new").exists());
    Ok(())
}

fn what_cannot_be() -> Result {
    let container = closed().start()?;
    refused(container.copy_in(&b"x"[..], "/tmp/no/such", 0o644, mib(1)), ErrorKind::NotFound);
    refused(container.copy_in(&b"x"[..], "/tmp/x", 0o4755, mib(1)), ErrorKind::InvalidConfig);
    refused(container.copy_in(&b"x"[..], "/tmp/x\0y", 0o644, mib(1)), ErrorKind::InvalidConfig);
    refused(out(&container, "/tmp/nothing"), ErrorKind::NotFound);
    let long = format!("/tmp/{}", "x".repeat(5000));
    out(&container, &long).expect_err("longer than any path");
    let error = container.copy_in(&b"x"[..], "/usr/x", 0o644, mib(1)).expect_err("it is read-only");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", explain(&error));
    // The container is none the worse.
    assert!(container.status(payload("exit", &["0"]))?.success());
    container.copy_in(&b"x"[..], "/tmp/x", 0o644, mib(1))?;
    let bare = Sandbox::bare().start()?;
    refused(out(&bare, "/etc/passwd"), ErrorKind::InvalidConfig);
    refused(bare.copy_in(&b"x"[..], "/tmp/x", 0o644, mib(1)), ErrorKind::InvalidConfig);
    Ok(())
}

fn a_frozen_container_is_still() -> Result {
    let container = closed().freezable().start()?;
    let mut child = container.spawn(sh("while :; do echo x; done > /tmp/growing"))?;
    assert!(within(Duration::from_secs(5) * slack(), || out(&container, "/tmp/growing").is_ok()));
    container.freeze()?;
    let first = out(&container, "/tmp/growing")?;
    std::thread::sleep(Duration::from_millis(50));
    if out(&container, "/tmp/growing")? != first {
        return fail("it grew");
    }
    container.copy_in(&first[..], "/tmp/copy", 0o644, mib(4))?;
    container.thaw()?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A program links to what only root inside may read and write, and the host is asked to copy by the link.
fn links_lead_to_nothing_that_is_closed_to_the_program() -> Result {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let closed_dir = scratch.dir("base/judge");
    let answer = scratch.file("base/judge/answer", "the answer");
    std::fs::set_permissions(&answer, std::fs::Permissions::from_mode(0o600))?;
    scratch.file("base/judge/rules", "of the judge");
    let open_dir = scratch.dir("base/w");
    std::fs::set_permissions(&open_dir, std::fs::Permissions::from_mode(0o1777))?;
    let root = || Rootfs::overlay([scratch.join("base")]).upper(Upper::tmpfs(mib(4), 100));
    let script = "cat /judge/answer 2>/dev/null && exit 1; ln -s /judge/answer /w/out && ln -s /judge /w/d && echo mine > /w/own";
    for sandbox in [
        support::with_system(Sandbox::new().rootfs(root())),
        support::with_system(Sandbox::bare().user_ns().rootfs(root())),
    ] {
        let container = sandbox.start()?;
        succeed(container.output(sh(script))?)?;
        refused(out(&container, "/w/out"), ErrorKind::PermissionDenied);
        refused(container.copy_in(&b"x"[..], "/w/d/rules", 0o644, mib(1)), ErrorKind::PermissionDenied);
        assert_eq!(out(&container, "/judge/rules")?, b"of the judge", "anybody may read it");
        // What is the program's own is copied, and the init has all its powers still.
        assert_eq!(out(&container, "/w/own")?, b"mine\n");
        container.copy_in(&b"x"[..], "/w/own", 0o640, mib(1))?;
        let said = succeed(container.output(sh("id -u; stat -c '%u %g %a' /w/own; ls -A /w"))?)?;
        assert_eq!(said, "1000\n1000 1000 640\nd\nout\nown\n");
    }
    drop(closed_dir);
    Ok(())
}
