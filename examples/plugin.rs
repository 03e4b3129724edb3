//! A host that talks to an untrusted plugin over an inherited socketpair.
//!
//! The plugin is this same program, executed again inside, with one end of the socketpair as descriptor 3 and nothing
//! else of the host. They exchange lines. Some requests make the plugin misbehave, to show what becomes of it; the
//! example exits with 1 when anything goes otherwise than expected.

#![expect(clippy::print_stdout, reason = "what happens is to be seen")]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use belljar::{Bytes, Child, Command, Feature, Mount, Plan, Resource, Sandbox, Stdio, Verdict};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The number of the plugin's end of the socketpair.
const CHANNEL: u32 = 3;
/// What a plugin may use.
const MEMORY: Bytes = Bytes::mib(64);
/// What a process may map, which is all there is to hold it where the user has no cgroup.
const ADDRESS_SPACE: Bytes = Bytes::mib(512);
/// How long the host waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let is_plugin = std::env::args_os().nth(1).is_some_and(|word| word == "serve");
    let result = if is_plugin { serve() } else { host() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("unexpected: {error}");
            ExitCode::FAILURE
        }
    }
}

fn host() -> Result {
    let plan = policy()?.plan()?;
    for skipped in plan.enforced().skipped() {
        println!("Without {}: {}", skipped.feature, skipped.reason);
    }

    println!("A plugin that does its work:");
    let mut plugin = Plugin::start(&plan)?;
    plugin.expect("upper hello", "HELLO")?;
    plugin.expect("sum 1 2 3", "6")?;

    println!("It tries what works out here:");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    TcpStream::connect(address)?;
    plugin.expect(&format!("connect {address}"), "error: Connection refused (os error 111)")?;
    plugin.expect("connect 192.0.2.1:80", "error: Network is unreachable (os error 101)")?;
    std::fs::metadata("/etc/shadow")?;
    plugin.expect("read /etc/shadow", "error: No such file or directory (os error 2)")?;
    plugin.expect("write /note", "error: Read-only file system (os error 30)")?;
    plugin.expect("write /tmp/note", "done")?;

    println!("It is told to stop:");
    plugin.channel.get_mut().shutdown(Shutdown::Write)?;
    plugin.expect_end(Verdict::Exited(0))?;

    println!("A plugin that takes too much memory:");
    let mut plugin = Plugin::start(&plan)?;
    plugin.expect_silence("hog")?;
    // With a cgroup the kernel kills it; without one, an allocation fails and the program aborts.
    let limited = plan.enforced().contains(Feature::MemoryMax);
    plugin.expect_end(if limited { Verdict::MemoryExceeded } else { Verdict::Signaled(SIGABRT) })?;

    println!("A plugin that does not answer:");
    let mut plugin = Plugin::start(&plan)?;
    plugin.expect_silence("hang")?;
    plugin.child.kill()?;
    plugin.expect_end(Verdict::Killed)?;

    println!("A new plugin, which finds nothing of the others:");
    let mut plugin = Plugin::start(&plan)?;
    plugin.expect("read /tmp/note", "error: No such file or directory (os error 2)")?;
    plugin.channel.get_mut().shutdown(Shutdown::Write)?;
    plugin.expect_end(Verdict::Exited(0))
}

const SIGABRT: i32 = 6;

/// Closed, with this program in it and limits.
fn policy() -> Result<Sandbox> {
    Ok(Sandbox::new()
        .mount(Mount::bind(std::env::current_exe()?, "/plugin"))
        .memory_max(MEMORY)
        .best_effort(Feature::MemoryMax)
        .swap_max(0)
        .best_effort(Feature::SwapMax)
        .pids_max(8)
        .best_effort(Feature::PidsMax)
        .rlimit(Resource::As, ADDRESS_SPACE.get(), ADDRESS_SPACE.get())
        .wall_time(Duration::from_secs(30)))
}

/// A plugin that runs, and the host's end of the socketpair.
struct Plugin {
    child: Child,
    channel: BufReader<UnixStream>,
}

impl Plugin {
    fn start(plan: &Plan) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let mut command = Command::new("/plugin");
        // What a plugin prints is of no interest here; a host would capture it, with a budget.
        command.arg("serve").keep_fd(&theirs, CHANNEL).stdout(Stdio::null()).stderr(Stdio::null());
        let child = plan.spawn(&command)?;
        // `theirs` and the command's copy of it are closed here, so the plugin's end is the last one: when the plugin
        // dies, the host reads the end of the stream.
        Ok(Self { child, channel: BufReader::new(ours) })
    }

    fn send(&mut self, request: &str) -> io::Result<()> {
        println!("  > {request}");
        writeln!(self.channel.get_mut(), "{request}")
    }

    /// One line; an empty string when the plugin is gone.
    fn receive(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.channel.read_line(&mut line)?;
        Ok(line)
    }

    fn expect(&mut self, request: &str, answer: &str) -> Result {
        self.send(request)?;
        let line = self.receive()?;
        print!("  < {line}");
        if line == format!("{answer}\n") { Ok(()) } else { Err(format!("not {answer:?}").into()) }
    }

    /// To this request no answer comes: the plugin dies, or the host's patience ends.
    fn expect_silence(&mut self, request: &str) -> Result {
        self.send(request)?;
        match self.receive() {
            Ok(line) if line.is_empty() => println!("  < (gone)"),
            // Its end of the socketpair was closed with something unread in it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => println!("  < (gone)"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => println!("  < (nothing)"),
            other => return Err(format!("{other:?} instead of silence").into()),
        }
        Ok(())
    }

    fn expect_end(mut self, expected: Verdict) -> Result {
        let outcome = self.child.wait()?;
        let (verdict, usage) = (outcome.verdict, outcome.usage);
        println!("  {verdict}; {:.0?} of CPU time in {:.0?}", usage.cpu, usage.wall);
        if verdict == expected { Ok(()) } else { Err(format!("not {expected:?}").into()) }
    }
}

// What follows runs inside.

fn serve() -> Result {
    let number = i32::try_from(CHANNEL)?;
    // SAFETY: the host keeps this descriptor open for the plugin, and nothing else in this process knows of it.
    #[expect(unsafe_code, reason = "the standard library has no safe way to take an inherited descriptor")]
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut answers = channel.try_clone()?;
    for request in BufReader::new(channel).lines() {
        let request = request?;
        let (verb, rest) = request.split_once(' ').unwrap_or((&request, ""));
        match answer(verb, rest) {
            Ok(text) => writeln!(answers, "{text}")?,
            Err(error) => writeln!(answers, "error: {error}")?,
        }
    }
    Ok(())
}

fn answer(verb: &str, rest: &str) -> Result<String> {
    match verb {
        "upper" => Ok(rest.to_uppercase()),
        "sum" => {
            let numbers = rest.split_whitespace().map(str::parse::<i64>);
            Ok(numbers.sum::<std::result::Result<i64, _>>()?.to_string())
        }
        "connect" => Ok(format!("connected to {}", TcpStream::connect(rest)?.peer_addr()?)),
        "read" => Ok(format!("{} bytes", std::fs::read(rest)?.len())),
        "write" => {
            std::fs::File::options().write(true).create(true).truncate(false).open(rest)?.write_all(b"!")?;
            Ok("done".to_owned())
        }
        "hog" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
            }
        }
        "hang" => loop {
            std::thread::park();
        },
        other => Err(format!("no such request: {other}").into()),
    }
}
