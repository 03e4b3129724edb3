//! The programs, and what they are told.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::UserMode;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::network::egress::Protocol;

/// Where they are looked for. The caller's `PATH` is nothing that a sandbox should depend on.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];

/// What a sandbox calls its interface.
pub(super) const INNER: &str = "eth0";

/// Where slirp4netns says that it is ready.
pub(super) const READY_FD: u32 = 3;

/// A program that makes a [user-mode network](UserMode), looked for in `/usr/bin`, `/usr/local/bin` and `/bin`.
///
/// # Examples
///
/// ```
/// use belljar::{Network, Sandbox, UserModeProgram};
///
/// let sandbox = Sandbox::new().network(Network::user_mode().program(UserModeProgram::Slirp4netns));
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UserModeProgram {
    /// `pasta`, of the Debian package `passt`.
    Pasta,
    /// `slirp4netns`, of the package of the same name, 1.1.0 or later.
    Slirp4netns,
}

impl fmt::Display for UserModeProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The program that was asked for, or the first that is installed and can do what is wanted.
pub(super) fn find(asked: Option<UserModeProgram>, must_publish: bool) -> Result<(UserModeProgram, PathBuf)> {
    use UserModeProgram::{Pasta, Slirp4netns};
    let absent = |what: &str, hint: &'static str| {
        let message = format!("{what} is not installed, which a user-mode network needs");
        Err(Error::message(ErrorKind::Unsupported, Step::Network, message).with_hint(hint))
    };
    match asked {
        Some(Slirp4netns) if must_publish => {
            Err(Error::invalid("slirp4netns publishes no ports here")
                .with_hint("UserModeProgram::Pasta does"))
        }
        Some(program) => match program.installed() {
            Some(path) => Ok((program, path)),
            None => absent(program.name(), program.hint()),
        },
        None => {
            let others = (!must_publish).then_some(Slirp4netns);
            let found =
                [Pasta].into_iter().chain(others).find_map(|program| Some((program, program.installed()?)));
            match found {
                Some(found) => Ok(found),
                None if must_publish => absent("pasta", Pasta.hint()),
                None => absent(
                    "neither pasta nor slirp4netns",
                    "install the Debian package passt, or slirp4netns: `apt install passt`",
                ),
            }
        }
    }
}

impl UserModeProgram {
    fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Pasta => "install the Debian package passt: `apt install passt`",
            Self::Slirp4netns => "install the Debian package slirp4netns: `apt install slirp4netns`",
        }
    }

    fn installed(self) -> Option<PathBuf> {
        let paths = DIRECTORIES.iter().map(|directory| Path::new(directory).join(self.name()));
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        paths.into_iter().find(is_program)
    }

    /// What is the same for all sandboxes of a plan.
    pub(super) fn arguments(self, wanted: &UserMode) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
        match self {
            Self::Pasta => {
                add(&["--foreground", "--quiet", "--config-net", "--ns-ifname", INNER]);
                // It writes that when it is ready, to its standard output: later versions close all other descriptors first.
                add(&["--pid", "/proc/self/fd/1"]);
                // The interface is configured from outside, and names are none of its business.
                add(&["--no-dhcp", "--no-dhcpv6", "--no-ra", "--dns", "none"]);
                // By default it leads from the loopback interface inside to that of the host.
                add(&["--tcp-ns", "none", "--udp-ns", "none"]);
                add(&["--tcp-ports", &wanted.ports(Protocol::Tcp)]);
                add(&["--udp-ports", &wanted.ports(Protocol::Udp)]);
                if !wanted.host_loopback {
                    add(&["--no-map-gw"]);
                }
                // By default root becomes nobody, who cannot enter what is root's.
                if nix::unistd::geteuid().is_root() {
                    add(&["--runas", "0"]);
                }
                if let Some(mtu) = wanted.mtu {
                    add(&["--mtu", &mtu.to_string()]);
                }
            }
            Self::Slirp4netns => {
                add(&["--configure", "--netns-type=path", &format!("--ready-fd={READY_FD}")]);
                // Its name server asks those of the host, on the loopback interface as well.
                add(&["--disable-dns"]);
                if !wanted.host_loopback {
                    add(&["--disable-host-loopback"]);
                }
                // Root would stay root, with everything that it may.
                if nix::unistd::geteuid().is_root() {
                    add(&["--enable-sandbox"]);
                }
                if let Some(mtu) = wanted.mtu {
                    add(&[&format!("--mtu={mtu}")]);
                }
            }
        }
        arguments
    }

    /// What says which sandbox it is. The paths are those that Debian's profile of AppArmor lets pasta open. The process that
    /// they name is a child of this one, and not reaped: its number is nobody else's.
    pub(super) fn target(self, init: i32) -> Vec<String> {
        let (network, users) = (format!("/proc/{init}/ns/net"), format!("/proc/{init}/ns/user"));
        match self {
            Self::Pasta => vec!["--userns".to_owned(), users, "--netns".to_owned(), network],
            Self::Slirp4netns => vec![format!("--userns-path={users}"), network, INNER.to_owned()],
        }
    }
}

impl UserMode {
    /// As pasta has it.
    fn ports(&self, protocol: Protocol) -> String {
        let of_it = self.published.iter().filter(|one| one.protocol == protocol);
        let ports: Vec<String> = of_it.map(|one| format!("{}:{}", one.outer, one.inner)).collect();
        if ports.is_empty() { "none".to_owned() } else { ports.join(",") }
    }
}

/// The addresses that the network of a process has, but for loopback and link-local ones: as the kernel lists them to everybody,
/// without entering it.
pub(super) fn addresses_of(process: i32) -> Vec<IpAddr> {
    let text =
        |name: &str| std::fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap_or_default();
    let mut addresses = addresses_in_fib_trie(&text("fib_trie"));
    addresses.extend(addresses_in_if_inet6(&text("if_inet6")));
    addresses
}

/// The local table has each of its addresses as a leaf, `|-- 10.0.2.100`, with a line below that says what it is.
fn addresses_in_fib_trie(text: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut leaf = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<IpAddr>().ok();
        } else if line == "/32 host LOCAL" {
            let is_another = |address: &IpAddr| !address.is_loopback() && !addresses.contains(address);
            let another = leaf.filter(is_another);
            addresses.extend(another);
        }
    }
    addresses
}

/// `20010db8000000000000000000000001 02 40 00 82 eth0`: the fourth word is the scope, of which 0 is global.
fn addresses_in_if_inet6(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[address, _, _, "00", ..] = words.as_slice() else { return None };
        u128::from_str_radix(address, 16).ok().map(|address| IpAddr::V6(address.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lists() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.2.100\n        \
                    /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.2.255\n        \
                    /32 link BROADCAST\nLocal:\n     |-- 10.0.2.100\n        /32 host LOCAL\n";
        assert_eq!(addresses_in_fib_trie(trie), ["10.0.2.100".parse::<IpAddr>().unwrap()]);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    20010db8000000000000000000000001 02 40 00 82     eth0\n\
                    fe80000000000000a8163efffe33315b 02 40 20 80     eth0\n";
        let found: Vec<_> = addresses_in_if_inet6(list).collect();
        assert_eq!(found, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_pasta_is_told() {
        let plain = UserModeProgram::Pasta.arguments(&UserMode::default());
        assert!(plain.iter().any(|word| word == "--no-map-gw"));
        let published =
            UserMode::default().publish(8080, 80).publish(8443, 443).publish_udp(5353, 53).mtu(1500);
        let words = UserModeProgram::Pasta.arguments(&published.host_loopback()).join(" ");
        assert!(words.contains("--tcp-ports 8080:80,8443:443 --udp-ports 5353:53"), "{words}");
        assert!(words.contains("--mtu 1500") && !words.contains("--no-map-gw"), "{words}");
    }
}
