//! Files of the host: reading them, writing them, and files that give privileges.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio as HostStdio;
use std::time::Duration;

use belljar::{Mount, Sandbox, Stdio};

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, open_to_write, read_secret, secret, text, tried};
use crate::stage::{Stage, bait, shared};
use crate::support::{Result, held, payload, raw, role_command, slack, within};

attacks! {
    path_of_the_host {
        what: "reads a file of the host by its path",
        class: &["A2"],
        stopped_by: "a mount namespace with a root of its own",
        method: Method::Inside(|facts| read_secret(facts.get("secret"))),
    }
    passwords_of_the_host {
        what: "reads the host's `/etc/shadow`",
        class: &["A8"],
        stopped_by: "a root that has few files of `/etc`",
        method: Method::Inside(|_| fs::read("/etc/shadow").map(|bytes| bytes.len()).into()),
        control_by: Hosts::Root,
    }
    out_of_a_second_root {
        what: "leaves its root by `chroot` into a directory while it is in another one",
        class: &["A2"],
        stopped_by: "there is nothing of the host above the root; the filter",
        method: Method::Inside(out_of_a_second_root),
        control: Control::HostAfter("a process of the host that only `chroot` confines", |facts| {
            call(libc::SYS_chroot, [text(facts.path("scratch"))])?;
            call(libc::SYS_chdir, [text("/")]).map(drop)
        }),
        control_by: Hosts::Root,
    }
    root_of_a_process {
        what: "reads a file of the host below `/proc/PID/root` or `/proc/PID/cwd` of every process",
        class: &["A2", "A27"],
        stopped_by: "a PID namespace, an init that is not dumpable, the old root detached",
        method: Method::Inside(root_of_a_process),
    }
    descriptor_of_the_host {
        what: "reads a file of the host by a directory that the host has left open (CVE-2024-21626)",
        class: &["A2"],
        stopped_by: "`close_range` over all that was not given",
        method: Method::Inside(descriptor_of_the_host),
        bare: true,
    }
    directory_of_the_host {
        what: "starts in a directory that the host has left open, by `/proc/self/fd` (CVE-2024-21626)",
        class: &["A2"],
        stopped_by: "the working directory is entered last, and verified",
        method: Method::Around(directory_of_the_host),
        control: Control::Other("a process of the host", directory_on_host),
    }
    descriptors_beyond_the_streams {
        what: "has any descriptor but its three streams, such as the init's socket",
        class: &["A2", "A33"],
        stopped_by: "`close_range` over all that was not given",
        method: Method::Inside(|_| {
            let beyond: Vec<i32> = crate::support::oracle::open_fds().into_iter().filter(|fd| *fd > 2).collect();
            match beyond.is_empty() {
                true => Tried::Denied("there is none".into()),
                false => Tried::Broke(format!("{beyond:?}")),
            }
        }),
        bare: true,
    }
    stdin_opened_for_writing {
        what: "opens a file that it has as stdin for reading anew, for writing",
        class: &["B6"],
        stopped_by: "another user id than the file's",
        method: Method::Inside(|_| open_to_write("/proc/self/fd/0")),
        command: |stage, command| {
            if let Ok(file) = fs::File::open(stage.scratch.join("secret")) {
                command.stdin(file);
            }
        },
        control: Control::Other("a process of the host", stdin_on_host),
        hosts: Hosts::Root,
    }
    bind_opened_for_writing {
        what: "opens a file of a read-only bind for writing, and anew by `/proc/self/fd`",
        class: &["A17", "B6"],
        stopped_by: "a read-only mount",
        scene: bait,
        method: Method::Inside(|facts| match fs::File::open(facts.path("bait").join("file")) {
            Ok(file) => match open_to_write(facts.path("bait").join("file")) {
                Tried::Denied(_) => open_to_write(format!("/proc/self/fd/{}", file.as_raw_fd())),
                tried => tried,
            },
            Err(error) => Tried::CouldNot(explain(&error)),
        }),
    }
    attributes_of_a_bind {
        what: "changes mode, times and attributes of a file of a read-only bind",
        class: &["A17"],
        stopped_by: "a read-only mount",
        scene: bait,
        method: Method::Inside(attributes_of_a_bind),
    }
    system_opened_for_writing {
        what: "writes to the programs and libraries that it shares with the host",
        class: &["A17"],
        stopped_by: "read-only mounts",
        method: Method::Inside(|_| {
            let mut last = Tried::CouldNot("there are none".into());
            for path in ["/usr/bin/env", "/usr/bin", "/etc/passwd", "/etc", "/"] {
                last = match fs::metadata(path).map(|meta| meta.is_dir()) {
                    // `O_TMPFILE` makes a file without a name, and so nothing on a host that permits it.
                    Ok(true) => tried(libc::SYS_openat, [
                        libc::AT_FDCWD as usize,
                        text(path),
                        (libc::O_TMPFILE | libc::O_WRONLY) as usize,
                        0o600,
                    ]),
                    Ok(false) => open_to_write(path),
                    Err(error) => Tried::CouldNot(explain(&error)),
                };
                if !matches!(last, Tried::Denied(_)) {
                    return last;
                }
            }
            last
        }),
        control_by: Hosts::Root,
    }
    link_out_of_a_bind {
        what: "links a file of the host to where it may write",
        class: &["A31"],
        stopped_by: "links do not cross mounts",
        scene: |stage, sandbox| {
            let out = stage.scratch.dir("links");
            fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).ok();
            bait(stage, sandbox).mount(Mount::bind_writable(out, "/out"))
        },
        method: Method::Inside(|facts| {
            let inside = Path::new("/out").is_dir();
            let to: PathBuf = if inside { "/out".into() } else { facts.path("scratch").join("links") };
            let new = to.join(format!("link-{}", std::process::id()));
            let linked = fs::hard_link(facts.path("bait").join("file"), &new);
            fs::remove_file(new).ok();
            linked.into()
        }),
        control: Control::Other("a process of the host", |stage| {
            let from = stage.scratch.join("bait/file");
            let to = stage.scratch.join("link");
            let linked = fs::hard_link(from, &to);
            fs::remove_file(to).ok();
            Ok(linked.into())
        }),
    }
    set_user_id_file_for_the_host {
        what: "leaves a set-user-ID program in a writable bind, for somebody outside to run",
        class: &["A9"],
        stopped_by: "the filter looks at modes",
        scene: writable,
        method: Method::Inside(set_user_id_file),
        control: Control::Without("`allow_all_syscalls()`", |sandbox| sandbox.allow_all_syscalls()),
        unfiltered: false,
    }
    capable_file_for_the_host {
        what: "leaves a program with file capabilities in a writable bind",
        class: &["A9", "A20"],
        stopped_by: "no capability",
        scene: writable,
        method: Method::Inside(|facts| {
            let path = new_file(facts);
            let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let set = raw::set_attribute(&path, "security.capability", &bytes);
            fs::remove_file(path).ok();
            set.into()
        }),
        control_by: Hosts::Root,
    }
    make_a_device {
        what: "makes a node for the disk that the host's root is on",
        class: &["A4", "A9"],
        stopped_by: "a user namespace",
        method: Method::Inside(|facts| {
            let disk = facts.number("disk");
            let path = std::env::temp_dir().join(format!("belljar-disk-{}", std::process::id()));
            let made = call(libc::SYS_mknod, [text(&path), libc::S_IFBLK as usize | 0o600, disk]);
            fs::remove_file(path).ok();
            made.into()
        }),
        control_by: Hosts::Root,
    }
    lease_on_a_file_of_the_host {
        what: "takes a lease on a file of a read-only bind, for whose end everybody waits who opens it for writing",
        class: &["A17", "B2"],
        stopped_by: "the filter looks at the argument",
        scene: bait,
        method: Method::Around(|stage, sandbox| {
            let mut command = payload("lease", &["/bait/leased", "r"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let held = held(command, |command| sandbox.spawn(command))?;
            let tried = waits(&stage.scratch.join("bait/leased"), || drop(held));
            Ok(tried)
        }),
        control: Control::Other("a process of the host", |stage| {
            let path = stage.scratch.join("bait/leased");
            let mut command = role_command("lease", &[path.to_str().expect("plain"), "r"]);
            let mut holder = command.stdin(HostStdio::piped()).stdout(HostStdio::piped()).spawn()?;
            holder.stdout.as_mut().expect("piped").read_exact(&mut [0; 6])?;
            Ok(waits(&path, || {
                holder.kill().ok();
                holder.wait().ok();
            }))
        }),
        unfiltered: false,
    }
    device_in_a_bind {
        what: "opens a device node that is in a directory of the host",
        class: &["A9"],
        stopped_by: "mounts are `nodev`",
        needs: &["root"],
        scene: shared,
        method: Method::Inside(|facts| fs::File::open(facts.path("shared").join("zero")).map(drop).into()),
    }
    devices_of_the_host {
        what: "opens any device of `/dev` but the six harmless ones and pseudo-terminals",
        class: &["A4", "A27"],
        stopped_by: "a `/dev` of its own",
        method: Method::Inside(devices_of_the_host),
    }
    link_to_the_host {
        what: "plants symbolic links to the host where it may write, and follows them",
        class: &["A6"],
        stopped_by: "a root of its own",
        method: Method::Inside(|facts| {
            let link = std::env::temp_dir().join(format!("belljar-link-{}", std::process::id()));
            let mut last = Tried::CouldNot("no link".into());
            let up = format!("{}{}", "../".repeat(40), facts.get("secret").trim_start_matches('/'));
            for target in [facts.get("secret").to_owned(), up, format!("/proc/self/root{}", facts.get("secret"))] {
                fs::remove_file(&link).ok();
                if let Err(error) = std::os::unix::fs::symlink(&target, &link) {
                    return Tried::CouldNot(explain(&error));
                }
                last = read_secret(&link);
                if matches!(last, Tried::Broke(_)) {
                    break;
                }
            }
            fs::remove_file(&link).ok();
            last
        }),
    }
    file_of_another_mount_namespace {
        what: "asks for the mounts of the host by the number of their namespace (`listmount`)",
        class: &["A27"],
        stopped_by: "no capability in the namespace of the host",
        method: Method::Inside(|facts| {
            let mut request = [32_u64, u64::MAX, 0, facts.get("mount-namespace").parse().unwrap_or(0)];
            request[1] = u64::MAX; // LSMT_ROOT
            let mut mounts = [0_u64; 64];
            const LISTMOUNT: i64 = 458;
            match call(LISTMOUNT, [at(&mut request), at(&mut mounts), 64, 0]) {
                Ok(0) => Tried::Denied("an empty list".into()),
                result => result.into(),
            }
        }),
        control_by: Hosts::Root,
        may_lack: true,
    }
}

/// Whether whoever opens a file for writing waits until something has been done.
fn waits(path: &Path, release: impl FnOnce()) -> Tried {
    let path = path.to_owned();
    let writer = std::thread::spawn(move || open_to_write(path));
    let waiting = !within(Duration::from_millis(300) * slack(), || writer.is_finished());
    release();
    match writer.join() {
        Ok(Tried::Broke(_)) if waiting => Tried::Broke("the host waits".into()),
        Ok(Tried::Broke(_)) => Tried::Denied("the host does not wait".into()),
        other => Tried::CouldNot(format!("{other:?}")),
    }
}

fn out_of_a_second_root(facts: &Facts) -> Tried {
    // In a jail by `chroot` this is the directory of the stage; elsewhere one that anybody may use.
    let inner = if Path::new("/jail").is_dir() { "/jail" } else { "/tmp" };
    let start = fs::File::open("/");
    call(libc::SYS_chroot, [text(inner)]).ok();
    if let Ok(start) = start {
        call(libc::SYS_fchdir, [start.as_raw_fd() as usize]).ok();
    }
    for _ in 0..64 {
        call(libc::SYS_chdir, [text("..")]).ok();
    }
    read_secret(facts.get("secret").trim_start_matches('/'))
}

fn root_of_a_process(facts: &Facts) -> Tried {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<usize> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.extend(facts.victims());
    let mut last = Tried::CouldNot("there is no process".into());
    let flat = facts.get("secret").trim_start_matches('/');
    for pid in pids {
        for path in [format!("root/{flat}"), format!("cwd/{}{flat}", "../".repeat(40))] {
            last = read_secret(format!("/proc/{pid}/{path}"));
            if matches!(last, Tried::Broke(_)) {
                return last;
            }
        }
    }
    last
}

fn descriptor_of_the_host(facts: &Facts) -> Tried {
    let mut last = Tried::Denied("no descriptor".into());
    let up = format!("{}{}", "../".repeat(40), facts.get("secret").trim_start_matches('/'));
    for fd in 0..64 {
        let opened = call(libc::SYS_openat, [fd, text(&up), libc::O_RDONLY as usize, 0]);
        if let Ok(file) = opened {
            last = raw::read_to_end(file as i32)
                .map_or_else(|error| Tried::CouldNot(explain(&error)), |bytes| secret(&bytes));
            // The directory that it starts in is that of whoever runs it.
            if matches!(last, Tried::Broke(_)) {
                return last;
            }
        }
    }
    last
}

/// What a program finds that starts in each of the host's descriptors.
fn directory_of_the_host(stage: &Stage, sandbox: Sandbox) -> Result<Tried> {
    let mut refused = 0;
    let numbers = (3..12).chain([stage.stray.as_raw_fd()]);
    for number in numbers {
        let mut command = payload("cat", &["secret"]);
        command.current_dir(format!("/proc/self/fd/{number}"));
        match sandbox.output(command) {
            Ok(output) => match secret(&output.stdout) {
                Tried::Denied(_) => {}
                tried => return Ok(tried),
            },
            Err(_) => refused += 1,
        }
    }
    Ok(Tried::Denied(format!("{refused} were refused, and no other led to the host")))
}

fn directory_on_host(stage: &Stage) -> Result<Tried> {
    let mut command = std::process::Command::new("/bin/cat");
    command.arg("secret").current_dir(format!("/proc/self/fd/{}", stage.stray.as_raw_fd()));
    Ok(secret(&command.output()?.stdout))
}

fn stdin_on_host(stage: &Stage) -> Result<Tried> {
    let file = fs::File::open(stage.scratch.join("secret"))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(open_to_write(path))
}

fn attributes_of_a_bind(facts: &Facts) -> Tried {
    let path = facts.path("bait").join("file");
    let Ok(meta) = fs::metadata(&path) else { return Tried::CouldNot("there is no file".into()) };
    let changed = [
        fs::set_permissions(&path, meta.permissions()),
        raw::set_attribute(&path, "user.belljar", b"x"),
        call(libc::SYS_utimensat, [libc::AT_FDCWD as usize, text(&path), 0, 0]).map(drop),
        call(libc::SYS_truncate, [text(&path), meta.len() as usize]).map(drop),
    ];
    let mut last = Tried::CouldNot("nothing was tried".into());
    for change in changed {
        last = change.into();
        if matches!(last, Tried::Broke(_)) {
            break;
        }
    }
    last
}

/// A directory of the host that the program may write to.
fn writable(stage: &Stage, sandbox: Sandbox) -> Sandbox {
    sandbox.mount(Mount::bind_writable(stage.scratch.dir("out"), "/out"))
}

/// A new file in it.
fn new_file(facts: &Facts) -> PathBuf {
    let dir = if Path::new("/out").is_dir() { "/out".into() } else { facts.path("scratch") };
    let path = dir.join(format!("file-{}", std::process::id()));
    fs::write(&path, "").ok();
    path
}

/// In every way that makes or changes a mode.
fn set_user_id_file(facts: &Facts) -> Tried {
    use libc::*;
    let path = new_file(facts);
    let name = text(&path);
    let here = AT_FDCWD as usize;
    let file = fs::File::open(&path).map_or(usize::MAX, |file| {
        use std::os::fd::IntoRawFd;
        file.into_raw_fd() as usize
    });
    let new = text(path.with_extension("new"));
    let mut how = [(O_CREAT | O_WRONLY) as u64, 0o4755, 0];
    let ways: [(&str, i64, [usize; 6]); 7] = [
        ("fchmod", SYS_fchmod, [file, 0o4755, 0, 0, 0, 0]),
        ("fchmodat", SYS_fchmodat, [here, name, 0o4755, 0, 0, 0]),
        ("fchmodat2", 452, [here, name, 0o4755, 0, 0, 0]),
        ("openat", SYS_openat, [here, new, (O_CREAT | O_WRONLY) as usize, 0o4755, 0, 0]),
        ("openat2", SYS_openat2, [here, new, at(&mut how), 24, 0, 0]),
        ("mknodat", SYS_mknodat, [here, new, S_IFREG as usize | 0o4755, 0, 0, 0]),
        ("mknod", SYS_mknodat, [here, new, S_IFREG as usize | 0o2755, 0, 0, 0]),
    ];
    let mut tried = Tried::CouldNot("nothing was tried".into());
    for (way, number, arguments) in ways {
        let result = call(number, arguments);
        let made = [&path, &path.with_extension("new")]
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o6000 != 0));
        if made {
            tried = Tried::Broke(format!("by {way}"));
            break;
        }
        tried = Tried::Denied(format!("{way}: {result:?}"));
    }
    fs::remove_file(&path).ok();
    fs::remove_file(path.with_extension("new")).ok();
    tried
}

fn devices_of_the_host(_: &Facts) -> Tried {
    let harmless: [(u64, u64); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0)];
    let mut seen = 0;
    let mut stack = vec![PathBuf::from("/dev")];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
            let kind = meta.file_type();
            if kind.is_dir() {
                stack.push(entry.path());
            } else if kind.is_block_device() || kind.is_char_device() {
                seen += 1;
                let number = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
                if !harmless.contains(&number) {
                    return Tried::Broke(format!("{} is {number:?}", entry.path().display()));
                }
            }
        }
    }
    match seen {
        0 => Tried::CouldNot("there is no device".into()),
        _ => Tried::Denied(format!("{seen} devices, all harmless")),
    }
}
