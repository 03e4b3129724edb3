//! The hakoniwa library with the isolation of `belljar::Sandbox::new()` as nearly as it has it: one run for each line
//! that is read, answered with its microseconds.

#[path = "../../../src/seccomp/interpreter.rs"]
mod interpreter;
#[path = "../../../src/seccomp/names.rs"]
#[expect(dead_code, reason = "the library needs more of it")]
mod names;
#[path = "../../spawn/tiny.rs"]
mod tiny;

use std::fs::File;
use std::time::Instant;

use hakoniwa::seccomp::{Action, Filter};
use hakoniwa::{Container, Namespace};

fn main() -> Result<(), hakoniwa::Error> {
    let kind = std::env::args().nth(1);
    if kind.as_deref() != Some("hakoniwa") {
        eprintln!("usage: peers-library hakoniwa");
        std::process::exit(2);
    }
    let program = tiny::File::new();
    let container = container(program.path());
    for _ in std::io::stdin().lines() {
        let start = Instant::now();
        let mut command = container.command("/true");
        let null = || File::options().read(true).write(true).open("/dev/null").expect("every host has it");
        command.stdin(null()).stdout(null()).stderr(null());
        let status = command.status()?;
        let micros = start.elapsed().as_secs_f64() * 1e6;
        assert!(status.success(), "{}", status.reason);
        println!("{micros}");
    }
    Ok(())
}

fn container(program: &str) -> Container {
    // It starts with mount, user and PID namespaces.
    let mut container = Container::new();
    for namespace in [Namespace::Cgroup, Namespace::Ipc, Namespace::Network, Namespace::Uts] {
        container.unshare(namespace);
    }
    container.bindmount_ro("/usr", "/usr").bindmount_ro(program, "/true");
    for name in ["bin", "sbin", "lib", "lib64"] {
        container.symlink(&format!("usr/{name}"), &format!("/{name}"));
    }
    container.dir("/etc", 0o755);
    for name in ["/etc/passwd", "/etc/group"] {
        container.file(name, "root:x:0:0:root:/:/bin/sh\n");
    }
    container.devfsmount("/dev").tmpfsmount("/tmp").hostname("belljar").seccomp_filter(filter());
    container
}

/// The calls that belljar's default filter allows when their arguments are zero.
fn filter() -> Filter {
    let program = belljar::Seccomp::default().to_bpf().expect("the default profile compiles");
    let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut filter = Filter::new(Action::Errno(1));
    // Its C library knows no newer ones.
    for number in 0..435 {
        let Some(name) = names::Arch::NATIVE.name(number) else { continue };
        let call = interpreter::Call { number, arch, arguments: [0; 6] };
        if interpreter::run(&program, &call).0 == 0x7fff_0000 {
            filter.add_rule(Action::Allow, name);
        }
    }
    filter
}
