//! What the peers are given: the program, a root directory, an OCI bundle, a filter, and the names of the calls that it
//! allows. All of it is in one temporary directory, and removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use belljar::Seccomp;

use super::interpreter::{Call, run};
use super::names::{self, Arch};
use super::tiny;

/// The block of ids that peers map, as the library maps one for each sandbox of a root host.
pub(crate) const IDS: u32 = 1_878_982_656;

pub(crate) struct Stage {
    dir: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> io::Result<Self> {
        let stage = Self { dir: std::env::temp_dir().join(format!("belljar-peers-{}", std::process::id())) };
        for dir in ["usr", "tmp", "proc", "dev", "sys", "etc", "run", "var", "root"] {
            fs::create_dir_all(stage.path("root").join(dir))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), stage.path("root").join(name))?;
        }
        for name in ["passwd", "group"] {
            fs::write(stage.path("root/etc").join(name), "root:x:0:0:root:/:/bin/sh\n")?;
        }
        fs::create_dir(stage.path("empty"))?;
        // Where devices are mounted by those that may not make the files.
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            fs::write(stage.path("root/dev").join(name), "")?;
        }
        for program in ["true", "root/true"] {
            fs::write(stage.path(program), tiny::elf())?;
            fs::set_permissions(stage.path(program), fs::Permissions::from_mode(0o755))?;
        }
        fs::write(stage.path("filter.bpf"), filter())?;
        fs::create_dir(stage.path("bundle"))?;
        fs::write(stage.path("bundle/config.json"), stage.oci_config())?;
        Ok(stage)
    }

    /// A file of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `belljar` sets up, as a configuration of the Open Container Initiative's runtimes.
    fn oci_config(&self) -> String {
        let calls: Vec<String> = allowed().iter().map(|(_, name)| format!("{name:?}")).collect();
        format!(
            r#"{{
"ociVersion": "1.0.2",
"process": {{"terminal": false, "user": {{"uid": 1000, "gid": 1000}}, "args": ["/true"], "env": [], "cwd": "/",
  "capabilities": {{"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []}},
  "noNewPrivileges": true}},
"root": {{"path": "{root}", "readonly": true}},
"hostname": "belljar",
"mounts": [
  {{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "nosuid", "nodev"]}},
  {{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}},
  {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=755", "size=65536k"]}},
  {{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}},
  {{"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}},
  {{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777", "size=256m"]}}],
"linux": {{
  "cgroupsPath": "/belljar-peers-{pid}",
  "resources": {{"memory": {{"limit": 268435456}}, "pids": {{"limit": 16}}}},
  "uidMappings": [{{"containerID": 0, "hostID": {IDS}, "size": 65536}}],
  "gidMappings": [{{"containerID": 0, "hostID": {IDS}, "size": 65536}}],
  "namespaces": [{{"type": "pid"}}, {{"type": "network"}}, {{"type": "ipc"}}, {{"type": "uts"}}, {{"type": "mount"}},
    {{"type": "user"}}, {{"type": "cgroup"}}],
  "seccomp": {{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["{arch}"],
    "syscalls": [{{"names": [{calls}], "action": "SCMP_ACT_ALLOW"}}]}}}}
}}
"#,
            root = self.path("root").display(),
            pid = std::process::id(),
            arch = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" },
            calls = calls.join(", "),
        )
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// The default filter, as the kernel takes it.
pub(crate) fn filter() -> Vec<u8> {
    Seccomp::default().to_bpf().expect("the default profile compiles")
}

/// The calls that the default filter allows whatever their arguments are when these are zero: asked of the filter, since
/// other programs take lists of names or numbers.
pub(crate) fn allowed() -> Vec<(u32, &'static str)> {
    let filter = filter();
    let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let named = names::all().filter_map(|name| Some((Arch::NATIVE.number(name)?, name)));
    let allow = |number| run(&filter, &Call { number, arch, arguments: [0; 6] }).0 == 0x7fff_0000;
    named.filter(|(number, _)| allow(*number)).collect()
}
