//! What the host has. Looked at without belljar, so that a defect of ours does not pass for a poor host.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Why the host does not have a feature; `None` if it does.
pub(crate) fn missing(feature: &str) -> Option<String> {
    static KNOWN: Mutex<Option<HashMap<String, Option<String>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().expect("no panic while probing");
    let known = known.get_or_insert_default();
    known.entry(feature.to_owned()).or_insert_with(|| look(feature)).clone()
}

/// Whether BELLJAR_TEST_REQUIRE names it.
pub(crate) fn is_required(feature: &str) -> bool {
    let list = std::env::var("BELLJAR_TEST_REQUIRE").unwrap_or_default();
    list.split(',').any(|name| {
        let name = name.trim();
        // "cgroup" stands for all of its controllers.
        name == feature || name == "all" || (name == "cgroup" && feature.starts_with("cgroup-"))
    })
}

fn look(feature: &str) -> Option<String> {
    let program = |path: &str| (!Path::new(path).exists()).then(|| format!("{path} is not installed"));
    match feature {
        "root" => match super::oracle::status_of("self").get("CapEff") {
            Some(set) if u64::from_str_radix(set, 16).is_ok_and(|set| set >> 21 & 1 == 1) => None,
            _ => Some("this process has no CAP_SYS_ADMIN".into()),
        },
        "sys-nice" => capability(23, "CAP_SYS_NICE"),
        "sys-resource" => capability(24, "CAP_SYS_RESOURCE"),
        "rt-group" => match controller_dir("cpu") {
            Some(dir) if dir.join("cpu.rt_runtime_us").exists() => None,
            _ => Some(
                "no version 1 cpu controller divides real-time processor time (CONFIG_RT_GROUP_SCHED)".into(),
            ),
        },
        "two-processors" => {
            let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
            (count < 2).then(|| "this process may use one processor only".into())
        }
        "bare" => None,
        "pasta" => program("/usr/bin/pasta").or_else(|| program("/dev/net/tun")),
        "slirp4netns" => program("/usr/bin/slirp4netns").or_else(|| program("/dev/net/tun")),
        "nft" => program("/usr/sbin/nft"),
        "bridge" => missing_one(&["root", "unshare"]).or_else(|| program("/usr/sbin/ip")).or_else(bridge),
        "landlock" => landlock_abi().err(),
        "apparmor" => {
            apparmor().or_else(|| missing_one(&["root"])).or_else(|| program("/sbin/apparmor_parser"))
        }
        "without-apparmor" => apparmor().is_none().then(|| "AppArmor is in force here".into()),
        "selinux" => selinux(),
        "without-selinux" => {
            let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            list.contains("selinuxfs").then(|| "SELinux is switched on here".into())
        }
        "starve" => starve(),
        "payload-place" => (!Path::new("/payload").exists())
            .then(|| "this host has no /payload to bind a program over, and only root makes one".into()),
        "userns" => {
            let mut command = super::role_command("try-unshare", &[&libc::CLONE_NEWUSER.to_string()]);
            match super::run_helper(&mut command, Duration::from_secs(10)) {
                Ok(helper) if helper.status.success() => None,
                Ok(helper) => Some(format!("unshare(CLONE_NEWUSER): {}", helper.stdout.trim())),
                Err(super::Fail(message)) => Some(message),
            }
        }
        "overlay" => match fs::read_to_string("/proc/filesystems") {
            Ok(text) if text.contains("overlay") => None,
            _ => Some("/proc/filesystems has no overlay".into()),
        },
        // Whatever a version 2 cgroup can do without a controller.
        "cgroup-v2" => match unified_dir() {
            Some(dir) => writable(&dir),
            None => Some("no version 2 hierarchy is mounted".into()),
        },
        // The manager that is in charge of this user, and the bus to ask it by.
        "systemd-bus" => {
            let user = || std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus"));
            let bus = match nix::unistd::geteuid().is_root() {
                true => Some(PathBuf::from("/run/dbus/system_bus_socket")),
                false => user(),
            };
            match bus {
                _ if !Path::new("/run/systemd/system").is_dir() => Some("systemd does not run here".into()),
                None => Some("XDG_RUNTIME_DIR is not set".into()),
                Some(bus) => (!bus.exists()).then(|| format!("there is no {}", bus.display())),
            }
        }
        // Limits of projects, on ext4 and on xfs, which the kernel may be built without.
        "project-quota" => {
            let scratch = super::Scratch::new();
            let place = scratch.path().to_str().expect("plain");
            let tried = missing_one(&["root", "unshare", "loop", "xfs"]);
            tried.or_else(|| {
                let tried = super::in_own_mounts("try-project-quotas", &[place]);
                tried.err().map(|super::Fail(message)| message)
            })
        }
        "xfs" | "btrfs" => match fs::read_to_string("/proc/filesystems") {
            Ok(text) if !text.lines().any(|line| line.trim() == feature) => {
                Some(format!("/proc/filesystems has no {feature}"))
            }
            _ => program(&format!("/sbin/mkfs.{feature}")),
        },
        "psi" => match fs::read_to_string("/proc/pressure/cpu") {
            Ok(_) => None,
            Err(error) => Some(format!("/proc/pressure/cpu: {error}")),
        },
        "peak-reset" => {
            let (version, release) = kernel();
            let v1 =
                controller_dir("memory").is_some_and(|dir| dir.join("memory.max_usage_in_bytes").exists());
            (!v1 && version < (6, 12)).then(|| format!("memory.peak cannot be reset on Linux {release}"))
        }
        "loop" => {
            ["/sbin/losetup", "/sbin/mkfs.ext4", "/dev/loop-control"].iter().find_map(|path| program(path))
        }
        "squashfs" => filesystem_image("/usr/bin/mksquashfs", c"squashfs", (6, 2)),
        "erofs" => filesystem_image("/usr/bin/mkfs.erofs", c"erofs", (5, 19)),
        // Since Linux 6.6. Without them an overlay in a user namespace with an upper in memory cannot remove a directory.
        "tmpfs-xattr" => {
            let file = Path::new("/dev/shm").join(format!("belljar-test-{}", std::process::id()));
            let set =
                fs::write(&file, "").and_then(|()| super::raw::set_attribute(&file, "user.belljar", b"y"));
            fs::remove_file(&file).ok();
            set.err().map(|error| format!("user.* attributes on a tmpfs: {error}"))
        }
        "mount-setattr" => match super::raw::syscall(libc::SYS_mount_setattr, [0; 6]) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                Some("this kernel has no mount_setattr (5.12)".into())
            }
            _ => None,
        },
        "unified" => match unified_dir().map(|dir| fs::read_to_string(dir.join("cgroup.controllers"))) {
            Some(Ok(list)) if list.split_whitespace().any(|name| name == "memory") => None,
            _ => Some("memory is not a controller of version 2 here".into()),
        },
        "sh" => program("/bin/sh"),
        "python3" => program("/usr/bin/python3"),
        "cc" => program("/usr/bin/cc"),
        "cxx" => program("/usr/bin/c++"),
        "java" => program("/usr/bin/javac"),
        "tar" => program("/usr/bin/tar"),
        "setpriv" if !nix::unistd::geteuid().is_root() => None,
        "setpriv" => program("/usr/bin/setpriv"),
        "ptrace" => {
            let mut command = super::role_command("try-ptrace", &[]);
            match super::run_helper(&mut command, Duration::from_secs(10)) {
                Ok(helper) if helper.status.success() => None,
                Ok(helper) => Some(format!("ptrace(2): {}", helper.stdout.trim())),
                Err(super::Fail(message)) => Some(message),
            }
        }
        "strace" => program("/usr/bin/strace"),
        // With the packages of a mirror.
        "mmdebstrap" => program("/usr/bin/mmdebstrap").or_else(|| {
            let mut try_it = std::process::Command::new("mmdebstrap");
            try_it.args(["--quiet", "--simulate", "--variant=extract"]).arg(super::debian()).arg("/dev/null");
            match super::run_helper(&mut try_it, Duration::from_secs(60)) {
                Ok(helper) if helper.status.success() => None,
                Ok(helper) => {
                    Some(format!("mmdebstrap: {}", helper.stderr.lines().last().unwrap_or_default()))
                }
                Err(super::Fail(message)) => Some(message),
            }
        }),
        "umoci" => program("/usr/bin/umoci"),
        "skopeo" => program("/usr/bin/skopeo"),
        "unshare" => program("/usr/bin/unshare"),
        "uidmap" => program("/usr/bin/newuidmap"),
        "swap-controller" => {
            let v1 =
                controller_dir("memory").is_some_and(|dir| dir.join("memory.memsw.usage_in_bytes").exists());
            let v2 = unified_dir().is_some_and(|dir| dir.join("memory.swap.max").exists());
            (!v1 && !v2).then(|| "the memory controller does not count swap".into())
        }
        other if other.starts_with("landlock-") => match landlock_abi() {
            Ok(abi) if other["landlock-".len()..].parse().is_ok_and(|needed| abi >= needed) => None,
            Ok(abi) => Some(format!("the kernel's landlock has ABI {abi}")),
            Err(reason) => Some(reason),
        },
        other => match other.strip_prefix("cgroup-") {
            Some(name) => controller(name),
            None => Some(format!("no such feature is known: {other}")),
        },
    }
}

/// Why there is no AppArmor.
fn apparmor() -> Option<String> {
    let path = "/proc/self/attr/apparmor/current";
    fs::read(path).err().map(|error| format!("{path}: {error}"))
}

/// Why there is no SELinux with the policy of the tests, `tests/vm/selinux.cil`.
fn selinux() -> Option<String> {
    match fs::read_to_string("/sys/fs/selinux/enforce") {
        Ok(text) if text.trim() == "1" => {}
        Ok(_) => return Some("SELinux does not enforce".into()),
        Err(error) => return Some(format!("/sys/fs/selinux/enforce: {error}")),
    }
    // The kernel looks a context up that is written there.
    fs::write("/sys/fs/selinux/context", "u:r:jail_t:s0:c1,c2")
        .err()
        .map(|error| format!("the policy is not that of the tests: {error}"))
}

/// The ABI of landlock, or why there is none.
pub(crate) fn landlock_abi() -> Result<u32, String> {
    const VERSION: usize = 1;
    super::raw::syscall(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0])
        .map(|abi| abi as u32)
        .map_err(|error| format!("landlock_create_ruleset(2): {error}"))
}

/// Why the host does not have one of these.
fn missing_one(features: &[&str]) -> Option<String> {
    features.iter().find_map(|feature| look(feature))
}

/// Whether all memory of this machine may be used up: it is one that was made for that, and says so.
fn starve() -> Option<String> {
    const MOST_KIB: u64 = 4 << 20;
    if std::env::var_os("BELLJAR_TEST_STARVE").is_none() {
        return Some("BELLJAR_TEST_STARVE does not say that this machine may run out of memory".into());
    }
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = super::oracle::fields(&text).remove("MemTotal").unwrap_or_default();
    let kib = total.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(u64::MAX);
    (kib > MOST_KIB)
        .then(|| format!("with {total} of memory this is no guest that was made to run out of it"))
}

/// The version of the kernel, and what it calls itself.
fn kernel() -> ((u32, u32), String) {
    let release = nix::sys::utsname::uname().map(|names| names.release().to_owned()).unwrap_or_default();
    let release = release.to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    ((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)), release)
}

/// Whether images of a filesystem can be made and mounted with the ids of a user namespace, which is since a version of
/// the kernel: the tool, the kernel's part, and loop devices.
fn filesystem_image(tool: &str, kind: &std::ffi::CStr, since: (u32, u32)) -> Option<String> {
    if !Path::new(tool).exists() {
        return Some(format!("{tool} is not installed"));
    }
    let (version, release) = kernel();
    if version < since {
        return Some(format!("{} has no id-mapped mounts on Linux {release}", kind.to_string_lossy()));
    }
    // Which loads a module as mounting does.
    match super::raw::syscall(libc::SYS_fsopen, [kind.as_ptr() as usize, 1, 0, 0, 0, 0]) {
        Ok(context) => super::raw::close(context as i32),
        Err(error) => return Some(format!("fsopen of {}: {error}", kind.to_string_lossy())),
    }
    let control = fs::File::options().read(true).write(true).open("/dev/loop-control");
    control.err().map(|error| format!("/dev/loop-control: {error}"))
}

fn capability(number: u32, name: &str) -> Option<String> {
    let status = super::oracle::status_of("self");
    let set = status.get("CapEff").and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0);
    (set >> number & 1 == 0).then(|| format!("this process has no {name}"))
}

fn controller(name: &str) -> Option<String> {
    match controller_dir(name) {
        Some(dir) => writable(&dir),
        None => Some(format!("no hierarchy with the {name} controller is mounted")),
    }
}

fn writable(dir: &Path) -> Option<String> {
    use nix::unistd::{AccessFlags, access};
    match access(dir, AccessFlags::W_OK) {
        Ok(()) => None,
        Err(errno) => Some(format!("{}: {errno}", dir.display())),
    }
}

/// Whether the kernel makes a bridge, a wire and tables in a network namespace.
fn bridge() -> Option<String> {
    let script = "ip link add b0 type bridge && ip link add v0 master b0 type veth && \
                  { command -v nft >/dev/null || exit 0; } && nft add table bridge t && nft add table inet t";
    let output = std::process::Command::new("unshare").args(["--net", "sh", "-ec", script]).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no bridge here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Where this process is in the hierarchy of a controller, version 1 first.
pub(crate) fn controller_dir(name: &str) -> Option<PathBuf> {
    directory_of("self", name)
}

/// Where a process is in the hierarchy of a controller.
pub(crate) fn directory_of(pid: &str, name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let v1 = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[2] == "cgroup" && words[3].split(',').any(|option| option == name))
            .then(|| PathBuf::from(words[1]))
    });
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if let Some(mount) = v1 {
        let path = own.lines().find_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            let controllers = words.next()?;
            controllers.split(',').any(|one| one == name).then(|| words.next())?
        })?;
        return Some(mount.join(path.trim_start_matches('/')));
    }
    // CPU time is counted by every version 2 cgroup.
    let dir = unified_of(&own)?;
    let name = if name == "blkio" { "io" } else { name };
    let offered = fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
    (name == "cpuacct" || offered.split_whitespace().any(|one| one == name)).then_some(dir)
}

pub(crate) fn unified_dir() -> Option<PathBuf> {
    unified_dir_of("self")
}

/// Where a process is in the version 2 hierarchy.
pub(crate) fn unified_dir_of(pid: &str) -> Option<PathBuf> {
    unified_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn unified_of(own: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[2] == "cgroup2").then(|| PathBuf::from(words[1]))
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    // The leaf beside the boxes, to which a host moves itself, has the controllers that it has passed on so far.
    let path = path.strip_suffix("/belljar-host").unwrap_or(path);
    Some(mount.join(path.trim_start_matches('/')))
}
