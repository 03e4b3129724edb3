//! What a sandbox leaves behind for a host that reads, writes or mounts there: uppers, changes, results, and the next run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio as HostStdio;
use std::time::{Duration, Instant};

use belljar::{Bytes, Mount, Rootfs, Stdio, Upper};

use crate::attack::{Control, Hosts, Method, Tried};
use crate::attacks;
use crate::calls::secret;
use crate::place::{BY_NAME, IN_ROOT, Place, one_after_the_other_of, overlay, with_usr};
use crate::support::{
    Fail, Result, Role, Scratch, closed, fail, held, own_exe, payload, role_command, run_helper, sh, slack,
};

attacks! {
    link_in_an_upper {
        what: "leaves a link in a persistent upper, where the next run mounts something (CVE-2024-42472)",
        class: &["A31"],
        stopped_by: IN_ROOT,
        needs: &["overlay", "sh"],
        method: Method::Around(|stage, sandbox| {
            let place = Place::new("unused", "")?;
            fs::create_dir(place.root.join("data"))?;
            let (upper, work) = (place.scratch.dir("upper"), place.scratch.dir("work"));
            let root = || Rootfs::overlay([&place.root]).upper(Upper::dir(&upper, &work));
            let plant = format!("rm -r /data; ln -s {} /data", place.canary.display());
            let sandbox = with_usr(sandbox.root());
            let bind = Mount::bind(stage.scratch.join("bait"), "/data/new");
            if !sandbox.clone().rootfs(root()).mount(bind.clone()).status(sh("true"))?.success() {
                return fail("nothing can be mounted there without a link");
            }
            let planted = sandbox.clone().rootfs(root()).output(sh(&plant))?;
            if !planted.outcome.success() || !upper.join("data").is_symlink() {
                return fail(format!("no link was planted: {planted:?}"));
            }
            one_after_the_other_of([bind, Mount::file("/data/file", "pwned")], |mount| {
                place.judge(sandbox.clone().rootfs(root()).mount(mount))
            })
        }),
        control: Control::Other("a program that makes the target in the upper by name", |_| {
            let place = Place::new("data", "")?;
            fs::create_dir(place.root.join("data/new"))?;
            Ok(place.verdict())
        }),
    }
    changes_through_a_link {
        what: "leaves a link in its changes, where the host writes the next ones (CVE-2026-39861)",
        class: &["A32"],
        stopped_by: "changes are applied below a descriptor, and follow nothing",
        needs: &["overlay", "sh"],
        method: Method::Around(|_, sandbox| {
            let place = Place::new("unused", "")?;
            fs::create_dir_all(place.root.join("data/dir"))?;
            let to = place.scratch.dir("target");
            // What the host has there leads out; what the sandbox has written is to come true below.
            symlink(&place.canary, to.join("dir"))?;
            let container = with_usr(sandbox.root()).rootfs(overlay(&place.root)).start()?;
            let script = format!("echo pwned > /data/dir/file; ln -s {}/file /data/link", place.canary.display());
            let output = container.output(sh(&script))?;
            if !output.outcome.success() {
                return fail(format!("nothing was written: {output:?}"));
            }
            let applied = container.apply("/data", &to, Bytes::mib(1));
            // Once more, over the link that came true.
            container.output(sh("rm /data/link; echo pwned > /data/link"))?;
            let again = container.apply("/data", &to, Bytes::mib(1));
            let mut tried = place.verdict();
            if let Tried::Denied(text) = &mut tried {
                *text = format!("{text}; {:?}, {:?}", applied.map(|list| list.len()), again.map(|list| list.len()));
            }
            Ok(tried)
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("data", "")?;
            fs::write(place.root.join("data/file"), "pwned")?;
            Ok(place.verdict())
        }),
    }
    copy_out_of_a_link {
        what: "has the host copy a result that is a link to a file of the host",
        class: &["A11", "A32"],
        stopped_by: "copies are opened inside, by the init",
        needs: &["sh"],
        method: Method::Around(|stage, sandbox| {
            let container = sandbox.start()?;
            let script = format!("ln -s {} /tmp/result", stage.scratch.join("secret").display());
            container.output(sh(&script))?;
            let mut result = Vec::new();
            Ok(match container.copy_out("/tmp/result", &mut result, Bytes::mib(1)) {
                Ok(_) => secret(&result),
                Err(error) => Tried::Denied(error.to_string()),
            })
        }),
        control: Control::Other(BY_NAME, |stage| {
            let place = Place::new("unused", "")?;
            symlink(stage.scratch.join("secret"), place.root.join("result"))?;
            Ok(secret(&fs::read(place.root.join("result"))?))
        }),
    }
    copy_out_of_a_fifo {
        what: "has the host copy a result that is a FIFO, which never ends",
        class: &["A11", "B2"],
        stopped_by: "only regular files are copied",
        needs: &["sh"],
        method: Method::Around(|_, sandbox| {
            let container = sandbox.start()?;
            container.output(sh("mkfifo /tmp/result"))?;
            let start = Instant::now();
            let copied = container.copy_out("/tmp/result", &mut Vec::new(), Bytes::mib(1));
            Ok(match copied {
                Err(error) if start.elapsed() < Duration::from_secs(2) => Tried::Denied(error.to_string()),
                other => Tried::Broke(format!("{other:?} after {:?}", start.elapsed())),
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("unused", "")?;
            let fifo = place.root.join("result");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
            let path = fifo.clone();
            let reader = std::thread::spawn(move || fs::read(path));
            std::thread::sleep(Duration::from_millis(200));
            let hangs = !reader.is_finished();
            drop(fs::File::options().write(true).open(&fifo)?);
            reader.join().ok();
            Ok(if hangs { Tried::Broke("it hangs".into()) } else { Tried::Denied("it ended".into()) })
        }),
    }
    copy_out_of_a_leased_file {
        what: "has the host copy a result on which it has a lease, for whose end it would wait 45 seconds",
        class: &["A11", "B2"],
        stopped_by: "results are opened without waiting",
        method: Method::Around(|_, sandbox| {
            let container = sandbox.start()?;
            let mut command = payload("lease", &["/tmp/result", "w"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let held = held(command, |command| container.spawn(command))?;
            let start = Instant::now();
            let copied = container.copy_out("/tmp/result", &mut Vec::new(), Bytes::mib(1));
            let time = start.elapsed();
            drop(held);
            Ok(match time < Duration::from_secs(5) * slack() {
                true => Tried::Denied(format!("{copied:?}")),
                false => Tried::Broke(format!("{copied:?} after {time:?}")),
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("unused", "")?;
            let path = place.root.join("result");
            let mut command = role_command("lease", &[path.to_str().expect("plain"), "w"]);
            let mut holder = command.stdin(HostStdio::piped()).stdout(HostStdio::piped()).spawn()?;
            std::io::Read::read(holder.stdout.as_mut().expect("piped"), &mut [0; 6])?;
            let reader = std::thread::spawn(move || fs::read(path));
            std::thread::sleep(Duration::from_millis(300));
            let hangs = !reader.is_finished();
            holder.kill()?;
            holder.wait()?;
            reader.join().ok();
            Ok(if hangs { Tried::Broke("it hangs".into()) } else { Tried::Denied("it ended".into()) })
        }),
    }
    copy_into_a_link {
        what: "has a link to a file of the host where the host puts a file (CVE-2024-28185, CVE-2024-28189)",
        class: &["A11", "A32"],
        stopped_by: "copies are opened inside, by the init; a new file replaces what was there",
        needs: &["sh"],
        method: Method::Around(|_, sandbox| {
            let place = Place::new("unused", "")?;
            let dir = place.scratch.dir("box");
            let container = sandbox.mount(Mount::bind_writable(&dir, "/box")).start()?;
            let script = format!("ln -s {}/file /box/script", place.canary.display());
            container.output(sh(&script))?;
            if !dir.join("script").is_symlink() {
                return fail("no link was planted");
            }
            let copied = container.copy_in(&b"pwned"[..], "/box/script", 0o755, Bytes::mib(1));
            Ok(match place.verdict() {
                Tried::Denied(text) => Tried::Denied(format!("{text}; {copied:?}")),
                tried => tried,
            })
        }),
        control: Control::Other(BY_NAME, |_| {
            let place = Place::new("script", "file")?;
            fs::write(place.root.join("script"), "pwned")?;
            Ok(place.verdict())
        }),
    }
    poison_the_next_run {
        what: "changes the program's file, `/tmp` or `/dev/shm` for whoever runs next",
        class: &["A10", "B6"],
        stopped_by: "everything writable is new for each run",
        needs: &["sh"],
        method: Method::Around(|_, sandbox| {
            let script = "for dir in /tmp /dev/shm; do echo left > $dir/left; done; echo left >> /payload";
            sandbox.output(sh(script))?;
            let output = sandbox.output(sh("cat /tmp/left /dev/shm/left; tail -c 5 /payload"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(if text.contains("left") { Tried::Broke("it is there".into()) } else { Tried::Denied("it is gone".into()) })
        }),
        control: Control::Other("a directory of the host that both have", |_| {
            let place = Place::new("unused", "")?;
            let dir = place.scratch.dir("shared");
            let sandbox = closed().mount(Mount::bind_writable(dir, "/tmp"));
            sandbox.output(sh("echo left > /tmp/left"))?;
            let output = sandbox.output(sh("cat /tmp/left"))?;
            Ok(if output.stdout == b"left\n" { Tried::Broke("it is there".into()) } else { Tried::Denied("it is gone".into()) })
        }),
    }
    mount_below_a_read_only_bind {
        what: "writes to a filesystem that is mounted below a directory of the host",
        class: &["A17"],
        stopped_by: "binds are read-only with all that is mounted below",
        needs: &["unshare"],
        method: Method::Around(|_, _| in_own_mounts("write-below-bind")),
        control: Control::Other("a bind that is made read-only without what is below", |_| in_own_mounts("write-below-by-hand")),
        hosts: Hosts::Root,
        control_by: Hosts::Root,
    }
}

pub(crate) const ROLES: &[Role] = &[
    ("write-below-bind", |args| {
        ended(below(args).and_then(|source| {
            let script = "echo x > /bait/inner/new";
            let output = closed().mount(Mount::bind(&source, "/bait")).output(sh(script))?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(if source.join("inner/new").exists() { Tried::Broke(text) } else { Tried::Denied(text) })
        }))
    }),
    ("write-below-by-hand", |args| {
        ended(below(args).and_then(|source| {
            let script = "cd $0 && mkdir bound && mount --rbind source bound && mount -o remount,ro,bind bound \
                          && ! touch bound/new && touch bound/inner/new";
            let dir = source.parent().unwrap_or(Path::new("/"));
            let output = std::process::Command::new("sh").args(["-c", script]).arg(dir).output()?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(if source.join("inner/new").exists() { Tried::Broke(text) } else { Tried::Denied(text) })
        }))
    }),
];

fn ended(tried: Result<Tried>) -> i32 {
    let tried = tried.unwrap_or_else(|Fail(message)| Tried::CouldNot(message));
    println!("{}", tried.text().trim());
    tried.code()
}

/// A directory with a filesystem mounted below it.
fn below(args: &[std::ffi::OsString]) -> Result<PathBuf> {
    let source = Path::new(&args[0]).join("source");
    fs::create_dir_all(source.join("inner"))?;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &source.join("inner"), Some("tmpfs"), flags, Some("mode=777"))?;
    Ok(source)
}

fn in_own_mounts(role: &str) -> Result<Tried> {
    let scratch = Scratch::new();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(own_exe());
    command.args(["--role", role]).arg(scratch.path());
    let helper = run_helper(&mut command, Duration::from_secs(20))?;
    Ok(Tried::of(helper.status.code(), format!("{}{}", helper.stdout, helper.stderr)))
}
