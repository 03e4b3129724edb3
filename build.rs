//! Compiles the init: a freestanding program (`src/init/`) that the library embeds and executes from a memfd.
//!
//! The same `rustc` builds it, with options of its own: the flags a user sets for their program (sanitizers,
//! `-C target-cpu`, other linkers) must not reach a program that has no libc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/init");
    println!("cargo::rerun-if-changed=src/wire");
    println!("cargo::rerun-if-changed=src/sys/raw.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("init");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let linkers = [Linker::RustLld, Linker::Cc];
    let mut failures = String::new();
    for linker in linkers {
        match compile(&out, &target, linker) {
            Ok(()) => return,
            Err(text) => failures.push_str(&format!("--- linking with {linker:?} ---\n{text}\n")),
        }
    }
    panic!("the init of belljar could not be compiled for {target}:\n{failures}");
}

#[derive(Clone, Copy, Debug)]
enum Linker {
    /// Comes with rustup's toolchains and needs nothing of the system.
    RustLld,
    /// The system's C compiler as a linker, for toolchains of distributions.
    Cc,
}

fn compile(out: &Path, target: &str, linker: Linker) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let mut command = Command::new(rustc);
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["--edition=2024", "--crate-name=belljar_init", "--crate-type=bin", "--cfg=belljar_init"])
        .args(["--target", target])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Clto=fat", "-Ccodegen-units=1", "-Cstrip=symbols"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static", "-Cforce-unwind-tables=no"]);
    match linker {
        // Two segments instead of four: each costs a mapping and page faults in every spawn.
        Linker::RustLld => command
            .args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Clink-arg=-static"])
            .args(["-Crelro-level=off", "-Clink-arg=--no-rosegment"]),
        Linker::Cc => {
            let cc = env::var("BELLJAR_INIT_LINKER").unwrap_or_else(|_| "cc".into());
            command.arg(format!("-Clinker={cc}")).args([
                "-Clink-arg=-nostartfiles",
                "-Clink-arg=-nostdlib",
                "-Clink-arg=-static",
                "-Clink-arg=-no-pie",
                "-Clink-arg=-Wl,--build-id=none",
            ])
        }
    };
    let output = command
        .arg("-o")
        .arg(out)
        .arg("src/init/main.rs")
        .output()
        .map_err(|error| format!("running rustc failed: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
