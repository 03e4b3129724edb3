//! Imports an image, shows its layers, and runs its command in a sandbox over it.
//!
//! ```sh
//! cargo run --release --features oci --example image -- debian.tar
//! cargo run --release --features oci --example image -- debian.tar -- /bin/sh -c 'cat /etc/os-release'
//! ```
//!
//! The store is in the directory that `BELLJAR_STORE` names, or else in the user's cache, and keeps what was imported:
//! the second time the layers are checked and not unpacked again.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an example for the terminal"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use belljar::{Bytes, Command, Image, ImportOptions, LayerStore, Progress, Sandbox, Stdio, Upper, Verdict};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(archive) = args.next() else {
        eprintln!("usage: image ARCHIVE [-- PROGRAM [ARGUMENTS]]");
        return ExitCode::FAILURE;
    };
    let words: Vec<_> = args.skip_while(|word| word == "--").collect();
    let run = || -> belljar::Result<Verdict> {
        let store = LayerStore::open(store_dir())?.on_progress(bar());
        let start = Instant::now();
        let image = store.import(&archive, &ImportOptions::new())?;
        eprintln!("\r{:60}", format!("imported in {:.1?}", start.elapsed()));
        show(&store, &image)?;
        let command = match words.split_first() {
            Some((program, args)) => {
                let mut command = image.command_for(program);
                command.args(args);
                command
            }
            None => image.command()?,
        };
        run_in(&image, command)
    };
    match run() {
        Ok(Verdict::Exited(0)) => ExitCode::SUCCESS,
        Ok(verdict) => {
            eprintln!("{verdict}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            let source = std::error::Error::source(&error);
            source.iter().for_each(|source| eprintln!("because: {source}"));
            error.hint().iter().for_each(|hint| eprintln!("to mend it: {hint}"));
            ExitCode::FAILURE
        }
    }
}

fn store_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("BELLJAR_STORE").unwrap_or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        cache.unwrap_or_else(|| PathBuf::from("/var/tmp")).join("belljar-layers")
    })
}

/// A bar for all layers together: how much of each was read.
fn bar() -> impl Fn(Progress) + Send + Sync + 'static {
    const WIDTH: usize = 40;
    let read = Mutex::new(Vec::new());
    move |progress| {
        let Progress::Importing { layer, layers, done, total } = progress else { return };
        let mut read = read.lock().expect("nobody panics with it");
        read.resize(layers, 0.0);
        read[layer - 1] = done as f64 / total.max(1) as f64;
        let share = read.iter().sum::<f64>() / layers as f64;
        let full = (share * WIDTH as f64) as usize;
        eprint!("\r[{:WIDTH$}] {:3.0} % of {layers} layers", "#".repeat(full), share * 100.0);
        std::io::stderr().flush().ok();
    }
}

fn show(store: &LayerStore, image: &Image) -> belljar::Result<()> {
    println!("{} ({}), {}", image.name(), image.id(), image.platform());
    let layers = store.layers()?;
    for id in image.layers() {
        for layer in layers.iter().filter(|layer| layer.id == *id) {
            let shared = match layer.images.len() {
                1 => String::new(),
                images => format!(", shared by {images} images"),
            };
            println!(
                "  {} {:8.1} MiB {:7} entries{shared}",
                &id.to_string()[7..19],
                layer.bytes as f64 / (1 << 20) as f64,
                layer.entries
            );
        }
    }
    Ok(())
}

/// Writes go to memory and are gone afterwards; the layers stay as they are.
fn run_in(image: &Image, mut command: Command) -> belljar::Result<Verdict> {
    let (uid, gid) = image.user()?;
    let root = image.rootfs().upper(Upper::tmpfs(Bytes::mib(256), 100_000));
    command.stdin(Stdio::inherit());
    let sandbox = Sandbox::new()
        .rootfs(root)
        .mount(belljar::Mount::proc("/proc"))
        .mount(belljar::Mount::dev("/dev"))
        .user(uid, gid);
    Ok(sandbox.spawn(&command)?.wait()?.verdict)
}
