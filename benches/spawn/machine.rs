//! Where figures were measured.

use std::fs;
use std::process::Command;

/// One sentence on this machine, and the day.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line =
            text.lines().find(|line| line.split([':', '=']).next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
    };
    let model = field(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let guest = field(&cpu, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = field(&fs::read_to_string("/etc/os-release").unwrap_or_default(), "PRETTY_NAME");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{cores} processors ({model}{}), {} GiB of memory, Linux {}, {}, cgroups {}, as {}, {}",
        if guest { ", a virtual machine" } else { "" },
        meminfo("MemTotal").div_ceil(1 << 20),
        kernel.trim(),
        system.as_deref().unwrap_or("an unknown distribution"),
        cgroups(),
        if nix::unistd::geteuid().is_root() { "root" } else { "an ordinary user" },
        today(),
    )
}

/// A line of `/proc/meminfo`, in KiB.
pub(crate) fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn cgroups() -> &'static str {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match (mounts.contains(" - cgroup "), mounts.contains(" - cgroup2 ")) {
        (true, true) => "of both versions",
        (true, false) => "of version 1",
        (false, true) => "of version 2",
        (false, false) => "not mounted",
    }
}

fn today() -> String {
    let date =
        Command::new("date").args(["-u", "+%F"]).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&date).trim().to_owned()
}

/// The same in few words.
pub(crate) fn short() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = kernel.trim().splitn(3, '.').collect();
    let kernel = kernel.get(..2).unwrap_or(&[]).join(".");
    format!("{cores} processors, Linux {kernel}, {}: cargo bench --bench peers", today())
}
