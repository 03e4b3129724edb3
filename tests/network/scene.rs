//! Where a test plays: a network namespace that is the host's, and one outside, with a wire between them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, Command as HostCommand, Stdio as HostStdio};
use std::time::Duration;

use belljar::{Bridge, BridgeBuilder, Bridged, Command, Network, Sandbox};
use nix::sched::{CloneFlags, unshare};

use crate::support::{self, Result, fail, run_helper};

/// What the outside is called by the host, and the host by the outside.
pub(crate) const OUTSIDE: &str = "192.0.2.2";
pub(crate) const HOST: &str = "192.0.2.1";
pub(crate) const OUTSIDE_6: &str = "2001:db8::2";
pub(crate) const HOST_6: &str = "2001:db8::1";

/// A test, in a process of its own.
pub(crate) type Play = fn(&Scene) -> Result;

/// Makes a table of cases of which each runs its function in a scene.
#[macro_export]
macro_rules! scenes {
    ($($module:ident : $name:ident $(+ $feature:literal)*),* $(,)?) => {{
        const PLAYS: &[(&str, $crate::scene::Play)] = &[$((stringify!($name), $crate::$module::$name)),*];
        $crate::scene::PLAYS.set(PLAYS).ok();
        $(
            #[allow(non_snake_case, reason = "named as its function")]
            fn $name() -> $crate::support::Result {
                $crate::scene::begin(stringify!($name))
            }
        )*
        cases![$($name: ["bridge", "python3" $(, $feature)*]),*]
    }};
}

pub(crate) static PLAYS: std::sync::OnceLock<&'static [(&'static str, Play)]> = std::sync::OnceLock::new();

/// Runs one in a process of its own.
pub(crate) fn begin(name: &str) -> Result {
    let mut command = support::role_command("scene", &[name]);
    run_helper(&mut command, Duration::from_secs(120))?.succeed().map(drop)
}

/// The role of that process.
pub(crate) fn play(args: &[OsString]) -> i32 {
    let name = args.first().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((_, play)) = PLAYS.get().and_then(|plays| plays.iter().find(|(one, _)| *one == name)) else {
        return 2;
    };
    match Scene::set().and_then(|scene| play(&scene)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:?}");
            1
        }
    }
}

/// What both are like, under /proc/sys/net/ipv4.
const SETTINGS: [(&str, &str); 7] = [
    ("ip_forward", "0"),
    ("conf/all/rp_filter", "0"),
    ("conf/default/rp_filter", "0"),
    ("conf/all/arp_ignore", "0"),
    ("conf/default/arp_ignore", "0"),
    ("conf/all/accept_source_route", "0"),
    ("conf/default/accept_source_route", "1"),
];

/// The two namespaces.
pub(crate) struct Scene {
    outside: Process,
}

/// A process of the test, killed at the end.
pub(crate) struct Process(Child);

impl Process {
    /// Ends its input, and waits for its end.
    pub(crate) fn finish(&mut self) -> Result {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { fail(format!("it ended with {status}")) }
    }

    /// What else it says until it ends by itself.
    pub(crate) fn rest(mut self) -> Result<String> {
        let mut text = String::new();
        self.0.stdout.as_mut().expect("piped").read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Scene {
    fn set() -> Result<Self> {
        // Every thread that this one starts is in it as well.
        unshare(CloneFlags::CLONE_NEWNET)?;
        let outside = HostCommand::new("unshare").args(["--net", "sleep", "600"]).spawn()?;
        let scene = Self { outside: Process(outside) };
        let pid = scene.outside.0.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net")?;
        support::within(Duration::from_secs(5), || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other != own)
                && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "sleep")
        });
        // Those of IPv4 are copied from the machine's own. Sources that lead elsewhere and routes in packets are not refused by the
        // kernel itself: that is for the rules.
        for (key, value) in SETTINGS {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value)?;
        }
        let write =
            format!("for key, value in {SETTINGS:?}: open('/proc/sys/net/ipv4/' + key, 'w').write(value)");
        scene.outside_script(&write, &[])?;
        ip("link set lo up")?;
        ip(&format!("link add up0 type veth peer name up1 netns {pid}"))?;
        ip(&format!("addr add {HOST}/24 dev up0"))?;
        ip(&format!("addr add {HOST_6}/64 dev up0 nodad"))?;
        ip("link set up0 up")?;
        scene.outside("ip link set lo up")?;
        scene.outside(&format!("ip addr add {OUTSIDE}/24 dev up1"))?;
        scene.outside(&format!("ip addr add {OUTSIDE_6}/64 dev up1 nodad"))?;
        scene.outside("ip link set up1 up")?;
        name_outside()?;
        // The metadata service of a cloud answers there, as far as the host is concerned.
        ip(&format!("route add 169.254.169.254 via {OUTSIDE}"))?;
        scene.outside("ip addr add 169.254.169.254/32 dev lo")?;
        Ok(scene)
    }

    /// Runs a command outside.
    pub(crate) fn outside(&self, line: &str) -> Result<String> {
        let pid = self.outside.0.id().to_string();
        let mut command = HostCommand::new("nsenter");
        command.args(["--net", "-t", &pid, "--"]).args(line.split_ascii_whitespace());
        run_helper(&mut command, Duration::from_secs(20))?.succeed()
    }

    fn python_outside(&self) -> HostCommand {
        let mut command = HostCommand::new("nsenter");
        command.args(["--net", "-t", &self.outside.0.id().to_string(), "--", "/usr/bin/python3"]);
        command
    }

    /// Starts a script outside, which says "ready".
    pub(crate) fn script_outside(&self, script: &str) -> Result<Process> {
        let mut command = self.python_outside();
        command.args(["-c", script]);
        ready(command)
    }

    /// Runs a script outside to its end.
    pub(crate) fn outside_script(&self, script: &str, args: &[&str]) -> Result<String> {
        run_helper(self.python_outside().args(["-c", script]).args(args), Duration::from_secs(20))?.succeed()
    }

    /// What a client outside hears.
    pub(crate) fn ask(&self, kind: &str, address: &str, port: u16) -> Result<String> {
        let mut command = self.python_outside();
        command.args(["-c", CLIENT, kind, address, &port.to_string()]);
        Ok(run_helper(&mut command, Duration::from_secs(20))?.succeed()?.trim().to_owned())
    }

    /// Starts a server outside, or here, that tells who asks it what address it sees.
    pub(crate) fn serve_outside(&self, address: &str, port: u16) -> Result<Process> {
        serve(self.python_outside(), address, port)
    }
}

/// The same on the host.
pub(crate) fn serve_here(address: &str, port: u16) -> Result<Process> {
    serve(HostCommand::new("/usr/bin/python3"), address, port)
}

fn serve(mut command: HostCommand, address: &str, port: u16) -> Result<Process> {
    command.args(["-c", SERVER, address, &port.to_string()]);
    ready(command)
}

pub(crate) fn ready(mut command: HostCommand) -> Result<Process> {
    let mut process = Process(command.stdout(HostStdio::piped()).spawn()?);
    // Byte by byte: what comes after the line is for whoever asks for the rest.
    let mut line = Vec::new();
    let stdout = process.0.stdout.as_mut().expect("piped");
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        if stdout.read(&mut byte)? == 0 {
            break;
        }
        line.extend(byte);
    }
    if line != b"ready\n" {
        return fail(format!("it said {:?}", String::from_utf8_lossy(&line)));
    }
    Ok(process)
}

/// In this process's mounts, /etc/hosts has the name of the outside.
fn name_outside() -> Result {
    unshare(CloneFlags::CLONE_NEWNS)?;
    run("mount --make-rprivate /")?;
    let scratch = support::Scratch::new();
    let hosts = scratch.file("hosts", format!("127.0.0.1 localhost\n{OUTSIDE} outside.test\n"));
    // The smallest systems have none.
    std::fs::OpenOptions::new().append(true).create(true).open("/etc/hosts")?;
    run(&format!("mount --bind {} /etc/hosts", hosts.display()))?;
    Ok(())
}

pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_ascii_whitespace();
    let mut command = HostCommand::new(words.next().unwrap_or_default());
    run_helper(command.args(words), Duration::from_secs(20))?.succeed()
}

pub(crate) fn nft(line: &str) -> Result<String> {
    run(&format!("nft {line}"))
}

/// By TCP and UDP: says the address that it sees.
pub(crate) const SERVER: &str = r#"
import socket, sys, threading
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
tcp = socket.socket(family, socket.SOCK_STREAM)
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind((address, port))
tcp.listen(64)
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.bind((address, port))
def datagrams():
    while True:
        data, who = udp.recvfrom(100)
        udp.sendto(who[0].encode(), who)
threading.Thread(target=datagrams, daemon=True).start()
print('ready', flush=True)
while True:
    connection, who = tcp.accept()
    connection.sendall(who[0].encode())
    connection.close()
"#;

/// What a client hears that is denied: by TCP the same as where nobody listens, so somebody does wherever that is looked for.
pub(crate) const DENIED: &str = "ECONNREFUSED";
/// By UDP, and outside.
pub(crate) const PROHIBITED: &str = "EHOSTUNREACH";
pub(crate) const PROHIBITED_6: &str = "EACCES";

/// Asks such a server, by "udp", "tcp" or "tcp-first", where the client speaks first; and prints what it says, or the name of what went wrong.
pub(crate) const CLIENT: &str = r#"
import errno, socket, sys
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
try:
    s = socket.socket(family, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
    s.settimeout(3)
    s.connect((address, port))
    if kind != 'tcp': s.send(b'who')
    print(s.recv(100).decode())
except socket.timeout:
    print('timeout')
except OSError as e:
    print(errno.errorcode[e.errno])
"#;

pub(crate) fn client(kind: &str, address: &str, port: u16) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", CLIENT, kind, address, &port.to_string()]);
    command
}

/// What a client in a sandbox hears.
pub(crate) fn ask(sandbox: &Sandbox, kind: &str, address: &str, port: u16) -> Result<String> {
    Ok(support::succeed(sandbox.output(client(kind, address, port))?)?.trim().to_owned())
}

/// What a client on the host hears.
pub(crate) fn ask_here(kind: &str, address: &str, port: u16) -> Result<String> {
    let mut command = HostCommand::new("/usr/bin/python3");
    command.args(["-c", CLIENT, kind, address, &port.to_string()]);
    Ok(run_helper(&mut command, Duration::from_secs(20))?.succeed()?.trim().to_owned())
}

pub(crate) fn ip(line: &str) -> Result<String> {
    run(&format!("ip {line}"))
}

/// The bridge of most tests.
pub(crate) fn builder() -> BridgeBuilder {
    Bridge::new("belljar0").subnet("10.10.0.0/24")
}

pub(crate) fn on(network: Bridged) -> Sandbox {
    support::closed().network(network)
}

pub(crate) fn plain(bridge: &Bridge) -> Sandbox {
    on(Network::bridge(bridge))
}

/// Interfaces by name, as ip(8) sees them.
pub(crate) fn interfaces() -> Result<BTreeMap<String, String>> {
    let text = ip("-o link show")?;
    let names = text.lines().filter_map(|line| {
        let name = line.split(": ").nth(1)?;
        Some((name.split('@').next()?.to_owned(), line.to_owned()))
    });
    Ok(names.collect())
}
