//! What a program tries to reach: files, sockets and processes, one attempt after the other.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Error};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::support::raw;

/// `VERB[:OBJECT[:OBJECT]]`, each; says for each what became of it: 0, or the errno.
pub(crate) fn reach(attempts: &[OsString]) -> i32 {
    for attempt in attempts {
        let attempt = attempt.to_string_lossy();
        println!("{}", outcome(&attempt));
    }
    0
}

/// The same in a child that executes this program anew.
pub(crate) fn reach_as_child(attempts: &[OsString]) -> i32 {
    let mut command = std::process::Command::new("/proc/self/exe");
    // Without `/proc` by the name that this program was executed by.
    if !std::path::Path::new("/proc/self/exe").exists() {
        command = std::process::Command::new(std::env::args_os().next().expect("a program has a name"));
    }
    match command.args(["--role", "reach"]).args(attempts).status() {
        Ok(status) => status.code().unwrap_or(99),
        Err(error) => {
            println!("no child: {error}");
            98
        }
    }
}

fn outcome(attempt: &str) -> i32 {
    let mut words = attempt.splitn(3, ':');
    let verb = words.next().unwrap_or_default();
    let (one, other) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match try_to(verb, one, other) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

fn try_to(verb: &str, one: &str, other: &str) -> io::Result<()> {
    let device = |kind, device| Ok(mknod(one, kind, Mode::from_bits_truncate(0o600), device)?);
    match verb {
        "read" => fs::read(one).map(drop),
        "list" => fs::read_dir(one).map(drop),
        "stat" => fs::metadata(one).map(drop),
        "write" => File::options().write(true).open(one).map(drop),
        "truncate" => Ok(nix::unistd::truncate(one, 0)?),
        "empty" => File::options().write(true).truncate(true).open(one).map(drop),
        "create" => File::options().write(true).create_new(true).open(one).map(drop),
        "mkdir" => fs::create_dir(one),
        "rmdir" => fs::remove_dir(one),
        "unlink" => fs::remove_file(one),
        "symlink" => std::os::unix::fs::symlink("to", one),
        "mkfifo" => Ok(nix::unistd::mkfifo(one, Mode::S_IRWXU)?),
        "mksock" => UnixListener::bind(one).map(drop),
        "mkreg" => device(SFlag::S_IFREG, 0),
        // Not that of a whiteout, which everybody may make and landlock of Linux 7 takes for a regular file.
        "mkchar" => device(SFlag::S_IFCHR, makedev(1, 3)),
        "mkblock" => device(SFlag::S_IFBLK, makedev(7, 200)),
        "rename" => fs::rename(one, other),
        "link" => fs::hard_link(one, other),
        "exec" => std::process::Command::new(one).args(["--role", "exit", "0"]).status().map(drop),
        // No terminal: ENOTTY, once the request has come so far.
        "ioctl" => {
            let file = File::open(one)?;
            let mut buffer = [0_usize; 16];
            let request = [file.as_raw_fd() as usize, libc::TCGETS as usize, address(&mut buffer), 0, 0, 0];
            raw::syscall(libc::SYS_ioctl, request).map(drop)
        }
        "unix" => UnixStream::connect(one).map(drop),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(one.as_bytes())?).map(drop),
        // From there to there, in this process.
        "own-abstract" => {
            let name = SocketAddr::from_abstract_name(one.as_bytes())?;
            let _listener = UnixListener::bind_addr(&name)?;
            UnixStream::connect_addr(&name).map(drop)
        }
        "kill" => raw::syscall(libc::SYS_kill, [number(one), 0, 0, 0, 0, 0]).map(drop),
        "kill-parent" => {
            let parent = std::os::unix::process::parent_id() as usize;
            raw::syscall(libc::SYS_kill, [parent, 0, 0, 0, 0, 0]).map(drop)
        }
        "kill-child" => {
            let child = raw::fork()?;
            if child == 0 {
                std::thread::sleep(std::time::Duration::from_secs(5));
                std::process::exit(0);
            }
            raw::syscall(libc::SYS_kill, [child as usize, libc::SIGKILL as usize, 0, 0, 0, 0])?;
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)?;
            Ok(())
        }
        "seize" => {
            const PTRACE_SEIZE: usize = 0x4206;
            raw::syscall(libc::SYS_ptrace, [PTRACE_SEIZE, number(one), 0, 0, 0, 0]).map(drop)
        }
        "read-fd" => raw::read_to_end(number(one) as i32).map(drop),
        _ => net(verb, number(one) as u16),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(0)
}

fn address<T: ?Sized>(of: &mut T) -> usize {
    std::ptr::from_mut(of).cast::<u8>() as usize
}

const MSG_FASTOPEN: usize = 0x2000_0000;

fn net(verb: &str, port: u16) -> io::Result<()> {
    let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let socket = |protocol: usize| {
        let fd = raw::syscall(
            libc::SYS_socket,
            [libc::AF_INET as usize, libc::SOCK_STREAM as usize, protocol, 0, 0, 0],
        )?;
        Ok::<usize, Error>(fd as usize)
    };
    // struct sockaddr_in
    let [p0, p1] = port.to_be_bytes();
    let mut name = [libc::AF_INET as u8, 0, p0, p1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut byte = [b'x'];
    let mut vector = [address(&mut byte), 1];
    // struct msghdr, and struct mmsghdr with its count
    let mut message = [address(&mut name), 16, address(&mut vector), 1, 0, 0, 0, 0];
    let call = |number, args| raw::syscall(number, args).map(drop);
    match verb {
        "bind" => std::net::TcpListener::bind(here).map(drop),
        "connect" => TcpStream::connect(here).map(drop),
        "connect-mapped" => TcpStream::connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).map(drop),
        "udp" => std::net::UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", here).map(drop),
        "listen-unbound" => call(libc::SYS_listen, [socket(0)?, 1, 0, 0, 0, 0]),
        "fastopen-to" => {
            call(libc::SYS_sendto, [socket(0)?, address(&mut byte), 1, MSG_FASTOPEN, address(&mut name), 16])
        }
        "fastopen-message" => {
            call(libc::SYS_sendmsg, [socket(0)?, address(&mut message), MSG_FASTOPEN, 0, 0, 0])
        }
        "fastopen-messages" => {
            call(libc::SYS_sendmmsg, [socket(0)?, address(&mut message), 1, MSG_FASTOPEN, 0, 0])
        }
        // With bits set that the kernel does not look at.
        "fastopen-high" => {
            let flags = MSG_FASTOPEN | 1 << 40;
            call(libc::SYS_sendto, [socket(0)?, address(&mut byte), 1, flags, address(&mut name), 16])
        }
        "mptcp" => call(libc::SYS_connect, [socket(262)?, address(&mut name), 16, 0, 0, 0]),
        "smc" => socket(256).map(drop),
        "af-smc" => call(libc::SYS_socket, [43, libc::SOCK_STREAM as usize, 0, 0, 0, 0]),
        "io-uring" => {
            let mut parameters = [0_u8; 120]; // struct io_uring_params
            call(libc::SYS_io_uring_setup, [2, address(&mut parameters), 0, 0, 0, 0])
        }
        "send" => {
            let (one, _other) = UnixStream::pair()?;
            call(libc::SYS_sendto, [one.as_raw_fd() as usize, address(&mut byte), 1, 0, 0, 0])
        }
        _ => Err(Error::from(io::ErrorKind::InvalidInput)),
    }
}

/// Denies TCP with landlock alone, by system calls of its own, and then does as `reach` does.
pub(crate) fn reach_with_rules_alone(attempts: &[OsString]) -> i32 {
    let mut handled = [0_u64, 3, 0];
    let mut confine = || {
        nix::sys::prctl::set_no_new_privs()?;
        let ruleset =
            raw::syscall(libc::SYS_landlock_create_ruleset, [address(&mut handled), 24, 0, 0, 0, 0])?;
        raw::syscall(libc::SYS_landlock_restrict_self, [ruleset as usize, 0, 0, 0, 0, 0])
    };
    match confine() {
        Ok(_) => reach(attempts),
        Err(error) => {
            println!("not confined: {error}");
            97
        }
    }
}
