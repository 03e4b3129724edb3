//! What a host has that an attacker wants: a secret file, a process, sockets, shared memory.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use belljar::{Command, Mount, Sandbox};

use crate::calls::{call, text};
use crate::support::{self, Result, Scratch, raw, role_command};

/// What is in every bait.
pub(crate) const SECRET: &str = "the host's secret";
/// What the bystander has in its environment.
pub(crate) const VARIABLE: &str = "BELLJAR_BAIT";

/// The baits of one host process.
pub(crate) struct Stage {
    pub(crate) scratch: Scratch,
    /// Programs that only root can make.
    pub(crate) shared: Option<PathBuf>,
    bystander: Child,
    address: String,
    tcp: TcpListener,
    pub(crate) udp: UdpSocket,
    _sockets: [UnixListener; 2],
    memory: i64,
    messages: i64,
    secret_key: i64,
    pub(crate) stray: OwnedFd,
}

impl Stage {
    pub(crate) fn new(shared: Option<PathBuf>) -> Result<Self> {
        let scratch = Scratch::new();
        scratch.file("secret", SECRET);
        scratch.dir("bait");
        // Which everybody may write to, so that nothing but the mount is in the way.
        let file = scratch.file("bait/file", "what is shown\n");
        fs::set_permissions(file, fs::Permissions::from_mode(0o666))?;
        scratch.file("bait/leased", "what is shown\n");
        scratch.file("bait/masked", SECRET);
        scratch.dir("bait/closed");
        scratch.file("bait/closed/file", SECRET);
        scratch.dir("jail");
        let (bystander, address) = start_bystander()?;
        let name = SocketAddr::from_abstract_name(abstract_name(std::process::id()))?;
        let sockets = [UnixListener::bind_addr(&name)?, UnixListener::bind(scratch.join("socket"))?];
        fs::set_permissions(scratch.join("socket"), fs::Permissions::from_mode(0o777))?;
        let key = key(std::process::id());
        let memory = call(libc::SYS_shmget, [key, 4096, 0o666 | libc::IPC_CREAT as usize])?;
        raw::write_shared(memory, SECRET.as_bytes())?;
        let messages = call(libc::SYS_msgget, [key, 0o666 | libc::IPC_CREAT as usize])?;
        fs::write(shared_memory_file(std::process::id()), SECRET)?;
        let user = -4_i64 as usize;
        let (name, value) = (text(key_name(std::process::id())), text(SECRET));
        let secret_key =
            call(libc::SYS_add_key, [text("user"), name, value, SECRET.len(), user]).unwrap_or(-1);
        make_queue(std::process::id())?;
        // Without close-on-exec, as careless hosts have them.
        let stray = fs::File::open(scratch.path())?;
        call(libc::SYS_fcntl, [stray.as_raw_fd() as usize, libc::F_SETFD as usize, 0])?;
        Ok(Self {
            scratch,
            shared,
            bystander,
            address,
            tcp: TcpListener::bind("127.0.0.1:0")?,
            udp: UdpSocket::bind("127.0.0.1:0")?,
            _sockets: sockets,
            memory,
            messages,
            secret_key,
            stray: stray.into(),
        })
    }

    /// The process that does nothing but be attacked.
    pub(crate) fn bystander(&self) -> u32 {
        self.bystander.id()
    }

    /// What a program knows of it all.
    pub(crate) fn facts(&self, inside: bool) -> Vec<String> {
        let own = std::process::id();
        let victims = match inside {
            true => format!("1,{}", self.bystander()),
            false => self.bystander().to_string(),
        };
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.map_or(0, |address| address.port()).to_string()
        };
        let disk = fs::metadata("/").map_or(0, |meta| std::os::unix::fs::MetadataExt::dev(&meta));
        let names = nix::sys::utsname::uname().map(|names| names.nodename().to_owned());
        [
            ("scratch", self.scratch.path().display().to_string()),
            ("secret", self.scratch.join("secret").display().to_string()),
            ("bait", if inside { "/bait".into() } else { self.scratch.join("bait").display().to_string() }),
            (
                "shared",
                self.shared.as_ref().map_or(String::new(), |path| match inside {
                    true => "/shared".into(),
                    false => path.display().to_string(),
                }),
            ),
            ("victims", victims),
            ("address", self.address.clone()),
            ("tcp", port(self.tcp.local_addr())),
            ("udp", port(self.udp.local_addr())),
            ("owner", own.to_string()),
            ("handle", crate::calls::handle_of(&self.scratch.join("secret"))),
            ("uid", nix::unistd::geteuid().to_string()),
            ("disk", disk.to_string()),
            ("mount-namespace", mount_namespace()),
            ("hostname", names.unwrap_or_default().to_string_lossy().into_owned()),
            ("mounts", fs::read_link("/proc/self/ns/mnt").unwrap_or_default().display().to_string()),
        ]
        .map(|(key, value)| format!("{key}={value}"))
        .to_vec()
    }

    /// The role that makes an attack, with all that it may know.
    pub(crate) fn payload(&self, program: &Path, attack: &str) -> Command {
        let mut command = Command::new(program);
        // A sandbox without a root of its own runs the test program from where it is, and sees what the host sees.
        let inside = program == Path::new("/payload");
        command.args(["--role", "attack", attack]).args(self.facts(inside));
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bystander.kill().ok();
        self.bystander.wait().ok();
        call(libc::SYS_shmctl, [self.memory as usize, libc::IPC_RMID as usize, 0]).ok();
        call(libc::SYS_msgctl, [self.messages as usize, libc::IPC_RMID as usize, 0]).ok();
        fs::remove_file(shared_memory_file(std::process::id())).ok();
        const KEYCTL_UNLINK: usize = 9;
        call(libc::SYS_keyctl, [KEYCTL_UNLINK, self.secret_key as usize, -4_i64 as usize]).ok();
        call(libc::SYS_mq_unlink, [text(queue(std::process::id()))]).ok();
    }
}

/// The directory with the baits, shown read-only.
pub(crate) fn bait(stage: &Stage, sandbox: Sandbox) -> Sandbox {
    sandbox.mount(Mount::bind(stage.scratch.join("bait"), "/bait"))
}

/// The programs that root has made.
pub(crate) fn shared(stage: &Stage, sandbox: Sandbox) -> Sandbox {
    match &stage.shared {
        Some(path) => sandbox.mount(Mount::bind(path, "/shared")),
        None => sandbox,
    }
}

/// Makes programs that give privileges, and that do no harm with them: one says who it is, one has a capability to
/// listen on low ports and says which it has.
pub(crate) fn make_shared(scratch: &Scratch) -> Result {
    for (program, mode) in [("id", 0o4755), ("cat", 0o755)] {
        let copy = scratch.join(program);
        let original = Path::new("/usr/bin").join(program);
        let mut cp = std::process::Command::new("cp");
        support::run_helper(cp.arg(original).arg(&copy), Duration::from_secs(10))?.succeed()?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
    }
    // `struct vfs_cap_data` of revision 2, effective: permitted and inheritable, twice 32 bits.
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    raw::set_attribute(&scratch.join("cat"), "security.capability", &bytes)?;
    // A device that does nothing.
    let device = scratch.join("zero");
    let all = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFCHR, all, nix::sys::stat::makedev(1, 5))?;
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666))?;
    Ok(())
}

pub(crate) fn abstract_name(owner: u32) -> String {
    format!("belljar-test-{owner}")
}

/// A name for System V objects.
pub(crate) fn key(owner: u32) -> usize {
    0x6265_0000 ^ owner as usize
}

pub(crate) fn shared_memory_file(owner: u32) -> PathBuf {
    format!("/dev/shm/belljar-test-{owner}").into()
}

/// The description of a key.
pub(crate) fn key_name(owner: u32) -> String {
    format!("belljar-test-{owner}")
}

/// As `mq_open(2)` takes it, without the slash of `mq_open(3)`.
pub(crate) fn queue(owner: u32) -> String {
    format!("belljar-test-{owner}")
}

fn make_queue(owner: u32) -> Result {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
    let fd = call(libc::SYS_mq_open, [text(queue(owner)), flags as usize, 0o666, 0])?;
    let mut message = *b"the host's secret";
    call(libc::SYS_mq_timedsend, [fd as usize, crate::calls::at(&mut message), message.len(), 0, 0])?;
    raw::close(fd as i32);
    Ok(())
}

/// The number by which `listmount(2)` knows the mount namespace of the host.
fn mount_namespace() -> String {
    const NS_GET_MNTNS_ID: usize = 0x8008_b705;
    let mut number = 0_u64;
    if let Ok(file) = fs::File::open("/proc/self/ns/mnt") {
        let arguments = [file.as_raw_fd() as usize, NS_GET_MNTNS_ID, crate::calls::at(&mut number)];
        call(libc::SYS_ioctl, arguments).ok();
    }
    number.to_string()
}

/// Starts it, and returns where in its memory the secret is.
fn start_bystander() -> Result<(Child, String)> {
    let mut command = role_command("bystander", &[]);
    command.env(VARIABLE, SECRET).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line)?;
    let address = line.trim().to_owned();
    match address.parse::<usize>() {
        Ok(_) => Ok((child, address)),
        Err(_) => support::fail(format!("the bystander said {line:?}")),
    }
}

/// Says where its secret is, and waits. Whoever may trace it by the rules of the kernel may do so by those of Yama.
pub(crate) fn bystander(_: &[OsString]) -> i32 {
    let secret = SECRET.as_bytes().to_vec();
    const PR_SET_PTRACER: usize = 0x5961_6d61;
    call(libc::SYS_prctl, [PR_SET_PTRACER, usize::MAX]).ok();
    println!("{}", secret.as_ptr().expose_provenance());
    std::io::stdout().flush().ok();
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).ok();
    std::hint::black_box(&secret);
    0
}
