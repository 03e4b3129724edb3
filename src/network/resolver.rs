//! How programs find the addresses of names: `/etc/resolv.conf` and `/etc/hosts`.

use std::fmt::Write;
use std::net::IpAddr;

use crate::rootfs::HOSTS;

/// The name servers that a sandbox could ask, too: those of the host that are not on its loopback interface. systemd-resolved
/// listens there, and names those that it asks itself in another file.
pub(super) fn servers_of_host() -> Vec<IpAddr> {
    let servers = |path: &str| -> Vec<IpAddr> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        servers_in(&text).into_iter().filter(|server| !server.is_loopback()).collect()
    };
    let usual = servers("/etc/resolv.conf");
    if usual.is_empty() { servers("/run/systemd/resolve/resolv.conf") } else { usual }
}

/// resolv.conf(5).
fn servers_in(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next(), words.next())
    });
    words.filter_map(|(key, server)| (key == Some("nameserver")).then(|| server?.parse().ok())?).collect()
}

pub(super) fn resolv_conf(servers: &[IpAddr]) -> String {
    servers.iter().fold(String::new(), |mut text, server| {
        writeln!(text, "nameserver {server}").ok();
        text
    })
}

/// hosts(5). What address a sandbox will have is not known when its plan is made: its own name leads to its loopback interface,
/// to the address that Debian has for that.
pub(super) fn hosts(own: Option<&str>) -> String {
    let own = own.map_or(String::new(), |own| format!("127.0.1.1 {own}\n"));
    format!("{HOSTS}{own}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 9.9.9.9\n nameserver\tfd00::53 x\nnameserver\n\
                    nameserver fe80::1%eth0\nnameservers 8.8.8.8\n";
        assert_eq!(servers_in(text), ["9.9.9.9", "fd00::53"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(hosts(Some("belljar")), "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 belljar\n");
        assert_eq!(resolv_conf(&servers_in(text)), "nameserver 9.9.9.9\nnameserver fd00::53\n");
    }
}
