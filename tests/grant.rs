//! Connections that a program is granted: they work without a network, end when they should, and cannot be left.
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
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use belljar::{Command, ErrorKind, Landlock, Seccomp, Stdio, Step, Verdict};
use support::{Result, closed, explain, payload, raw, roles, sh, slack, succeed, timed, within};

fn main() -> ExitCode {
    let cases = cases![
        a_program_without_a_network_talks: ["userns"],
        a_shell_talks: ["userns", "sh"],
        what_is_kept_can_be_led_elsewhere: ["userns"],
        what_is_granted_cannot: ["userns"],
        every_way_to_a_program: ["userns"],
        profiles_and_landlock_allow_it: ["userns"],
        an_unprivileged_host: ["userns"],
        each_spawn_has_its_own: ["userns", "sh"],
        the_last_at_a_number_counts: ["userns", "sh"],
        as_many_as_there_may_be: ["userns"],
        an_address_of_version_six: ["userns", "sh"],
        nobody_listens: ["userns"],
        nobody_answers: ["userns", "soak"],
        a_name_that_nobody_has: ["userns"],
        addresses_that_are_none: ["bare"],
        it_ends_with_the_program: ["userns", "sh"],
        it_ends_with_the_container: ["userns", "sh"],
        each_direction_ends_by_itself: ["userns", "sh"],
        a_peer_that_resets: ["userns", "sh"],
        ten_mebibytes_both_ways: ["userns"],
        the_last_words_are_delivered: ["userns"],
        a_peer_that_never_reads: ["userns", "soak"],
        bytes_out_of_band: ["userns"],
        nothing_is_left_of_a_spawn_that_fails: ["userns"],
    ];
    // They count threads of this process.
    support::main_serial(
        cases,
        &[
            ("talk", talk),
            ("lead", lead),
            ("pump", pump),
            ("blurt", blurt),
            ("urgent", urgent),
            ("grant", grant),
        ],
    )
}

/// The number of the connection inside.
const FD: usize = 3;

fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// Serves one connection.
fn serve<T: Send + 'static>(
    listener: TcpListener,
    act: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    std::thread::spawn(move || act(listener.accept()?.0))
}

/// Says hello to whoever connects, and returns what they say until they end.
fn greet(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"hello\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> Result<T> {
    Ok(thread.join().expect("no panic")?)
}

/// How many threads move bytes.
fn relays() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("proc is mounted").flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name == "belljar-grant\n").count()
}

fn no_relay_is_left() {
    assert!(within(Duration::from_secs(3) * slack(), || relays() == 0), "{} threads are left", relays());
}

fn granted(mut command: Command, address: &str) -> Command {
    command.grant_tcp(address, FD as u32);
    command
}

/// A system call about the connection.
fn call(number: i64, a: usize, b: usize, c: usize) -> io::Result<usize> {
    raw::syscall(number, [FD, a, b, c, 0, 0]).map(|result| result as usize)
}

fn put(bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[call(libc::SYS_write, rest.as_ptr() as usize, rest.len(), 0)?..];
    }
    Ok(())
}

fn take(buffer: &mut [u8]) -> io::Result<usize> {
    call(libc::SYS_read, buffer.as_mut_ptr() as usize, buffer.len(), 0)
}

fn said(what: io::Result<()>) -> String {
    what.map_or_else(|error| error.to_string(), |()| "done".to_owned())
}

/// Reads a line, answers, and tries to connect to the same address itself.
fn talk(args: &[OsString]) -> i32 {
    let mut line = [0; 100];
    let count = take(&mut line).expect("there is a line");
    print!("{}", String::from_utf8_lossy(&line[..count]));
    put(b"from inside").expect("it takes bytes");
    let own = TcpStream::connect(roles::text(args, 0));
    println!("{}", own.map_or_else(|error| format!("{:?}", error.kind()), |_| "connected".to_owned()));
    0
}

fn a_program_without_a_network_talks() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener.try_clone()?, greet);
    let command = granted(payload("talk", &[&address]), &address);
    assert_eq!(succeed(closed().output(&command)?)?, "hello\nConnectionRefused\n");
    assert_eq!(joined(peer)?, "from inside");
    // The positive control: that connection can be made in the host's network.
    let both = std::thread::spawn(move || greet(listener.accept()?.0).and(listener.accept()));
    assert_eq!(succeed(closed().share_net().output(&command)?)?, "hello\nconnected\n");
    both.join().expect("no panic")?;
    no_relay_is_left();
    Ok(())
}

fn a_shell_talks() -> Result {
    let (listener, _) = listen()?;
    let mut address = format!("localhost:{}", listener.local_addr()?.port());
    if std::net::ToSocketAddrs::to_socket_addrs(&address).is_err() {
        // There are hosts that know no name at all.
        address = listener.local_addr()?.to_string();
    }
    let peer = serve(listener, greet);
    let command = granted(sh("read line <&3; echo \"$line\"; echo answer >&3"), &address);
    assert_eq!(succeed(closed().output(&command)?)?, "hello\n");
    assert_eq!(joined(peer)?, "answer\n");
    Ok(())
}

fn sockaddr(port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    bytes
}

/// Leaves the connection for another port of the same address, and then makes of the socket one that listens.
fn lead(args: &[OsString]) -> i32 {
    let with =
        |number, address: [u8; 16]| said(call(number, address.as_ptr() as usize, address.len(), 0).map(drop));
    let port = |n| sockaddr(roles::int(args, n) as u16);
    let nowhere = [0; 16];
    println!("disconnect: {}", with(libc::SYS_connect, nowhere));
    println!("connect: {}", with(libc::SYS_connect, port(0)));
    println!("write: {}", said(put(b"stranger")));
    println!("disconnect: {}", with(libc::SYS_connect, nowhere));
    println!("bind: {}", with(libc::SYS_bind, port(1)));
    println!("listen: {}", said(call(libc::SYS_listen, 1, 0, 0).map(drop)));
    // SIOCGIFNAME: a number in, a name out. Loopback is the first of every network.
    let mut interfaces = 0;
    for number in 1_i32..100_000 {
        let mut request = [0; 40];
        request[16..20].copy_from_slice(&number.to_ne_bytes());
        interfaces += usize::from(call(libc::SYS_ioctl, 0x8910, request.as_mut_ptr() as usize, 0).is_ok());
    }
    println!("interfaces: {interfaces}");
    0
}

/// What comes of that, and what the other service heard.
fn led(give: impl FnOnce(&mut Command, &str)) -> Result<(String, String)> {
    let (listener, address) = listen()?;
    let (other, elsewhere) = listen()?;
    let port = |address: &str| address.rsplit(':').next().expect("it has a port").to_owned();
    let free = listen()?.1;
    let mut command = payload("lead", &[&port(&elsewhere), &port(&free)]);
    let first = serve(listener, |mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    give(&mut command, &address);
    let text = succeed(closed().output(&command)?)?;
    // The command may have a copy of the connection.
    drop(command);
    // Leaving it resets it.
    joined(first).ok();
    other.set_nonblocking(true)?;
    let mut heard = Vec::new();
    if let Ok((mut stream, _)) = other.accept() {
        stream.set_nonblocking(false)?;
        // That one is left, too.
        stream.read_to_end(&mut heard).ok();
    }
    Ok((text, String::from_utf8_lossy(&heard).into_owned()))
}

/// The attack that `grant_tcp` is there to prevent works with the socket itself: the program has the host's network.
fn what_is_kept_can_be_led_elsewhere() -> Result {
    let (text, heard) = led(|command, address| {
        command.keep_fd(TcpStream::connect(address).expect("it listens"), FD as u32);
    })?;
    let done = "disconnect: done\nconnect: done\nwrite: done\ndisconnect: done\nbind: done\nlisten: done\n";
    assert!(text.starts_with(done), "{text}");
    assert_eq!(heard, "stranger");
    let all = fs::read_dir("/sys/class/net")?;
    let own = all.flatten().filter(|entry| entry.path().join("ifindex").exists()).count();
    assert_eq!(text.lines().last(), Some(format!("interfaces: {own}").as_str()), "those of the host");
    Ok(())
}

fn what_is_granted_cannot() -> Result {
    let (text, heard) = led(|command, address| {
        command.grant_tcp(address, FD as u32);
    })?;
    // EINVAL for the kind of address, and for a socket that is connected.
    let invalid = io::Error::from_raw_os_error(libc::EINVAL);
    let refused = format!(
        "disconnect: {invalid}\nconnect: {invalid}\nwrite: done\ndisconnect: {invalid}\nbind: {invalid}\n\
         listen: {invalid}\ninterfaces: 1\n"
    );
    assert_eq!(text, refused);
    assert_eq!(heard, "");
    Ok(())
}

/// A listener whose address is granted to the command of a role that talks.
fn talking() -> Result<(JoinHandle<io::Result<String>>, Command)> {
    let (listener, address) = listen()?;
    let command = granted(payload("talk", &[&address]), &address);
    Ok((serve(listener, greet), command))
}

fn every_way_to_a_program() -> Result {
    let plan = closed().plan()?;
    let container = plan.start()?;
    let pool = plan.pool().size(1).start()?;
    type Way<'a> = &'a dyn Fn(&Command) -> belljar::Result<belljar::Output>;
    let ways: [Way<'_>; 6] = [
        &|command| closed().output(command),
        &|command| plan.output(command),
        &|command| container.output(command),
        &|command| container.output(command.clone().wall_time(Duration::from_secs(60))),
        &|command| pool.output(command),
        &|command| {
            let mut command = command.clone();
            // One that does not fit into a message.
            command.arg("x".repeat(20_000));
            plan.output(command)
        },
    ];
    for (n, way) in ways.iter().enumerate() {
        let (peer, command) = talking()?;
        assert_eq!(succeed(way(&command)?)?, "hello\nConnectionRefused\n", "way {n}");
        assert_eq!(joined(peer)?, "from inside", "way {n}");
    }
    no_relay_is_left();
    Ok(())
}

fn profiles_and_landlock_allow_it() -> Result {
    let mut sandboxes = vec![closed().seccomp(Seccomp::plugin()), closed().seccomp(Seccomp::judge())];
    if support::features::missing("landlock-6").is_none() {
        sandboxes.push(closed().landlock(Landlock::new().read("/").execute("/")));
    }
    for sandbox in sandboxes {
        let (listener, address) = listen()?;
        let peer = serve(listener, greet);
        let text = succeed(sandbox.output(granted(payload("talk", &["-"]), &address))?)?;
        assert!(text.starts_with("hello\n"), "{text}");
        assert_eq!(joined(peer)?, "from inside");
    }
    Ok(())
}

fn an_unprivileged_host() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener, greet);
    let helper = support::as_nobody("grant", &[&address], Duration::from_secs(30))?;
    assert_eq!(helper.succeed()?, "hello\nConnectionRefused\n");
    assert_eq!(joined(peer)?, "from inside");
    Ok(())
}

/// A host whose program talks to the address.
fn grant(args: &[OsString]) -> i32 {
    let address = roles::text(args, 0);
    let command = granted(payload("talk", &[&address]), &address);
    support::role_result((|| {
        print!("{}", succeed(closed().output(&command)?)?);
        Ok(())
    })())
}

fn each_spawn_has_its_own() -> Result {
    let (listener, address) = listen()?;
    let peers = std::thread::spawn(move || {
        let mut ports = Vec::new();
        for _ in 0..3 {
            let (mut stream, peer) = listener.accept()?;
            stream.write_all(format!("{}\n", ports.len()).as_bytes())?;
            ports.push(peer.port());
        }
        Ok(ports)
    });
    let command = granted(sh("cat <&3"), &address);
    let container = closed().start()?;
    let texts = [
        succeed(closed().output(&command)?)?,
        succeed(container.output(&command)?)?,
        succeed(container.output(&command)?)?,
    ];
    assert_eq!(texts, ["0\n", "1\n", "2\n"]);
    let ports = joined(peers)?;
    assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
    Ok(())
}

fn the_last_at_a_number_counts() -> Result {
    let (listener, address) = listen()?;
    let (unused, wrong) = listen()?;
    let peer = serve(listener, greet);
    let mut command = sh("read line <&3; echo $line");
    command.grant_tcp("no such address", 3).grant_tcp(wrong, 3).keep_fd(fs::File::open("/dev/null")?, 3);
    command.grant_tcp(address, 3);
    assert_eq!(succeed(closed().output(&command)?)?, "hello\n");
    joined(peer)?;
    command.keep_fd(fs::File::open("/dev/null")?, 3);
    assert_eq!(succeed(closed().output(&command)?)?, "\n");
    unused.set_nonblocking(true)?;
    assert!(unused.accept().is_err(), "nobody has connected");
    Ok(())
}

fn as_many_as_there_may_be() -> Result {
    let (listener, address) = listen()?;
    let peers = std::thread::spawn(move || {
        let streams: Vec<_> = (0..32).map(|_| listener.accept()).collect::<io::Result<_>>()?;
        for (n, (stream, _)) in streams.iter().enumerate() {
            let mut stream = stream;
            stream.write_all(format!("{n} ").as_bytes())?;
        }
        Ok(())
    });
    // Descriptors between them, and numbers that do not ascend.
    let numbers: Vec<u32> = (0..32).map(|n| 1000 - 20 * n).collect();
    let texts: Vec<String> = numbers.iter().map(u32::to_string).collect();
    let mut command = payload("read-fd", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    for number in &numbers {
        command.grant_tcp(&*address, *number).keep_fd(fs::File::open("/dev/null")?, number + 1);
    }
    let expected: String = (0..32).map(|n| format!("{n} ")).collect();
    assert_eq!(succeed(closed().output(&command)?)?, expected);
    joined(peers)?;
    command.grant_tcp(address, 3);
    let error = closed().spawn(&command).expect_err("one too many");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{}", explain(&error));
    no_relay_is_left();
    Ok(())
}

fn an_address_of_version_six() -> Result {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return Ok(()) };
    let address = format!("[::1]:{}", listener.local_addr()?.port());
    let peer = serve(listener, greet);
    assert_eq!(succeed(closed().output(granted(sh("read line <&3; echo $line"), &address))?)?, "hello\n");
    joined(peer)?;
    Ok(())
}

fn nobody_listens() -> Result {
    let address = listen()?.1;
    let plan = closed().plan()?;
    let container = plan.start()?;
    let pool = plan.pool().size(1).start()?;
    let command = granted(payload("exit", &["0"]), &address);
    for spawned in [plan.spawn(&command), container.spawn(&command), pool.spawn(&command)] {
        let error = spawned.expect_err("nobody listens");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Setup, Step::Prepare), "{}", explain(&error));
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(error.to_string(), format!("connecting to {address} failed"));
        assert!(error.hint().is_some());
    }
    // It has cost none of them.
    assert_eq!(pool.metrics().ready, 1);
    assert_eq!(container.status(payload("exit", &["7"]))?.verdict, Verdict::Exited(7));
    no_relay_is_left();
    Ok(())
}

/// A peer whose queue of connections is full, so that another is never answered.
fn nobody_answers() -> Result {
    let (_listener, _waiting, address) = support::silent_peer()?;
    let (result, time) = timed(|| closed().spawn(granted(payload("exit", &["0"]), &address)));
    let error = result.expect_err("nobody answers");
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (ErrorKind::Setup, Some(libc::ETIMEDOUT)),
        "{}",
        explain(&error)
    );
    assert!((9..12 * u64::from(slack())).contains(&time.as_secs()), "{time:?}");
    Ok(())
}

fn a_name_that_nobody_has() -> Result {
    let error = closed()
        .spawn(granted(payload("exit", &["0"]), "no.such.name.invalid:80"))
        .expect_err("a domain that there never is");
    assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, Step::Prepare), "{}", explain(&error));
    assert!(error.to_string().contains("no.such.name.invalid:80"), "{error}");
    assert!(error.hint().is_some());
    Ok(())
}

fn addresses_that_are_none() -> Result {
    for address in
        ["", "localhost", "localhost:", ":80", "localhost:0", "localhost:65536", "localhost:http", "::1:80"]
    {
        let error = closed().spawn(granted(payload("exit", &["0"]), address)).expect_err("no address");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{address}: {}", explain(&error));
        assert!(error.hint().is_some());
    }
    for number in [0, 1, 2, (1 << 20) + 1] {
        let mut command = payload("exit", &["0"]);
        command.grant_tcp("localhost:80", number);
        let error = closed().spawn(&command).expect_err("a number that cannot be given");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{number}");
    }
    Ok(())
}

/// How long a peer waits for the end.
fn waits_for_the_end(listener: TcpListener) -> JoinHandle<io::Result<()>> {
    serve(listener, |mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20) * slack()))?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    })
}

fn it_ends_with_the_program() -> Result {
    let container = closed().start()?;
    // By itself, in a container that goes on.
    let (listener, address) = listen()?;
    let peer = waits_for_the_end(listener);
    assert_eq!(container.status(granted(sh("exit 0"), &address))?.verdict, Verdict::Exited(0));
    joined(peer)?;
    // Killed by the host's dropping it, in one and alone.
    for alone in [false, true] {
        let (listener, address) = listen()?;
        let peer = waits_for_the_end(listener);
        let command = granted(payload("sleep", &["60"]), &address);
        let child = if alone { closed().spawn(&command) } else { container.spawn(&command) }?;
        assert!(within(Duration::from_secs(3) * slack(), || relays() == 1), "it is told of by its name");
        assert!(!peer.is_finished());
        drop(child);
        joined(peer)?;
        no_relay_is_left();
    }
    Ok(())
}

fn it_ends_with_the_container() -> Result {
    let container = closed().start()?;
    let (listener, address) = listen()?;
    let peer = waits_for_the_end(listener);
    // One that the program leaves behind has it as well.
    let mut command = granted(sh("sleep 60 & exit 0"), &address);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(container.status(&command)?.verdict, Verdict::Exited(0));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!peer.is_finished());
    assert_eq!(relays(), 1);
    container.close()?;
    joined(peer)?;
    no_relay_is_left();
    Ok(())
}

fn each_direction_ends_by_itself() -> Result {
    // The program ends what it says, and still hears.
    let (listener, address) = listen()?;
    let peer = serve(listener, |mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        stream.write_all(text.to_uppercase().as_bytes())
    });
    let mut child = closed().spawn(granted(piped(payload("pump", &[])), &address))?;
    child.stdin.take().expect("piped").write_all(b"question\n")?;
    assert_eq!(succeed(child.wait_with_output()?)?, "QUESTION\n");
    joined(peer)?;
    // The peer ends what it says, and still hears.
    let (listener, address) = listen()?;
    let peer = serve(listener, |mut stream| {
        stream.write_all(b"question\n")?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(
        succeed(closed().output(granted(sh("cat <&3; sleep 0.1; echo answer >&3"), &address))?)?,
        "question\n"
    );
    assert_eq!(joined(peer)?, "answer\n");
    no_relay_is_left();
    Ok(())
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Sends stdin through the connection while what comes of it goes to stdout; each end is passed on.
fn pump(_: &[OsString]) -> i32 {
    let reader = std::thread::spawn(|| {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match take(&mut buffer).expect("it can be read") {
                0 => break,
                count => io::stdout().write_all(&buffer[..count]).expect("stdout takes it"),
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::stdin().read(&mut buffer).expect("stdin can be read") {
            0 => break,
            count => put(&buffer[..count]).expect("it takes bytes"),
        }
    }
    call(libc::SYS_shutdown, libc::SHUT_WR as usize, 0, 0).expect("it is a socket");
    reader.join().expect("no panic");
    0
}

fn a_peer_that_resets() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener, |stream| {
        // What it did not read makes its end a reset.
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
        Ok(())
    });
    // SIGPIPE ends the writer, sooner or later.
    let command = granted(
        sh("trap '' PIPE; echo x >&3; cat <&3; while echo x >&3; do sleep 0.01; done 2>/dev/null; echo end"),
        &address,
    );
    assert_eq!(succeed(closed().output(&command)?)?, "end\n");
    joined(peer)?;
    no_relay_is_left();
    Ok(())
}

fn ten_mebibytes_both_ways() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener, |stream| {
        io::copy(&mut &stream, &mut &stream).and_then(|_| stream.shutdown(Shutdown::Write))
    });
    let bytes: Vec<u8> = (0..10 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = closed().spawn(granted(piped(payload("pump", &[])), &address))?;
    let mut stdin = child.stdin.take().expect("piped");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output()?;
    writer.join().expect("no panic")?;
    assert_eq!(output.outcome.verdict, Verdict::Exited(0));
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    joined(peer)?;
    no_relay_is_left();
    Ok(())
}

/// Writes as much as fits and goes.
fn blurt(args: &[OsString]) -> i32 {
    let flags = libc::MSG_DONTWAIT as usize;
    let bytes = vec![b'x'; roles::int(args, 0) as usize];
    let sent = raw::syscall(libc::SYS_sendto, [FD, bytes.as_ptr() as usize, bytes.len(), flags, 0, 0]);
    println!("{}", sent.expect("it takes bytes"));
    0
}

fn the_last_words_are_delivered() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener, |mut stream| {
        std::thread::sleep(Duration::from_millis(300));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    let text = succeed(closed().output(granted(payload("blurt", &["200000"]), &address))?)?;
    assert_eq!(text.trim(), joined(peer)?.to_string());
    no_relay_is_left();
    Ok(())
}

fn a_peer_that_never_reads() -> Result {
    let (listener, address) = listen()?;
    // What the sockets on the way can hold stays less than what is sent.
    nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::RcvBuf, &4096)?;
    let mut child = closed().spawn(granted(piped(payload("pump", &[])), &address))?;
    let (mut stream, _) = listener.accept()?;
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 64 << 20]));
    std::thread::sleep(Duration::from_secs(2));
    drop(child);
    assert!(writer.join().expect("no panic").is_err(), "not all of it has gone");
    assert_eq!(relays(), 1, "it still tries");
    assert!(within(Duration::from_secs(12) * slack(), || relays() == 0), "it gives up");
    // What was cut off does not look whole.
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(!bytes.is_empty());
    Ok(())
}

/// Says a byte out of band, and nothing more.
fn urgent(_: &[OsString]) -> i32 {
    let sent = raw::syscall(libc::SYS_sendto, [FD, b"!".as_ptr() as usize, 1, libc::MSG_OOB as usize, 0, 0]);
    // On a Unix socket since Linux 5.15.
    println!("{}", said(sent.map(drop)));
    std::thread::sleep(Duration::from_millis(700));
    0
}

/// A byte out of band goes along, and must not keep the thread from sleeping as long as it is there.
fn bytes_out_of_band() -> Result {
    let (listener, address) = listen()?;
    let peer = serve(listener, |mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    let before = Instant::now();
    let cpu = own_cpu_time();
    let text = succeed(closed().output(granted(payload("urgent", &[]), &address))?)?;
    let (cpu, wall) = (own_cpu_time() - cpu, before.elapsed());
    assert!(cpu < wall / 3, "{cpu:?} of {wall:?}");
    assert_eq!(joined(peer)?, if text == "done\n" { "!" } else { "" }, "{text}");
    Ok(())
}

fn own_cpu_time() -> Duration {
    Duration::from_secs_f64(raw::clock(libc::CLOCK_PROCESS_CPUTIME_ID))
}

fn nothing_is_left_of_a_spawn_that_fails() -> Result {
    let (listener, address) = listen()?;
    let container = closed().start()?;
    for alone in [true, false] {
        let peer = waits_for_the_end(listener.try_clone()?);
        let command = granted(Command::new("/no/such/program"), &address);
        let spawned = if alone { closed().spawn(&command) } else { container.spawn(&command) };
        assert_eq!(spawned.expect_err("there is none").kind(), ErrorKind::Exec);
        joined(peer)?;
        no_relay_is_left();
    }
    // Where a descriptor of it finds no number, whichever it is.
    let mut refusals = 0;
    for more in 0..40 {
        let command = granted(payload("exit", &["0"]), &address);
        let few = support::FewDescriptors::now(more)?;
        let result = closed().status(&command);
        drop(few);
        match result {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Exited(0));
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{more}: {}", explain(&error));
                refusals += 1;
            }
        }
    }
    assert!((3..40).contains(&refusals), "{refusals}");
    no_relay_is_left();
    Ok(())
}
