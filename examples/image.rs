//! The life of an image: imports it, runs a command in a sandbox over it, shows what that has changed, makes a new image of
//! it, and exports that for other tools.
//!
//! ```sh
//! cargo run --release --features oci --example image -- debian.tar
//! cargo run --release --features oci --example image -- debian.tar -- /bin/sh -c 'cat /etc/os-release'
//! cargo run --release --features oci --example image -- debian.tar --commit mine:1 -- /bin/sh -c 'echo hello > /note'
//! cargo run --release --features oci --example image -- mine:1 --export mine.oci -- /bin/cat /note
//! ```
//!
//! The store is in the directory that `BELLJAR_STORE` names, or else in the user's cache, and keeps what was imported:
//! the second time the layers are checked and not unpacked again. What no image uses any more is removed at the end.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an example for the terminal"
)]

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use belljar::{
    Bytes, Change, ChangeKind, Command, Container, Image, ImageBuilder, ImportOptions, LayerStore, Mount,
    Progress, Result, Sandbox, Stdio, Upper, Verdict,
};

const USAGE: &str = "usage: image ARCHIVE|NAME [--commit NAME] [--export DIRECTORY] [-- PROGRAM [ARGUMENTS]]";

struct Options {
    /// An archive or directory of an image, or the name of one in the store.
    image: OsString,
    commit: Option<String>,
    export: Option<PathBuf>,
    words: Vec<OsString>,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match live(&options) {
        Ok(Verdict::Exited(0)) => ExitCode::SUCCESS,
        Ok(verdict) => {
            eprintln!("{verdict}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\r{:70}\r{error}", "");
            let source = std::error::Error::source(&error);
            source.iter().for_each(|source| eprintln!("because: {source}"));
            error.hint().iter().for_each(|hint| eprintln!("to mend it: {hint}"));
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options { image: args.next()?, commit: None, export: None, words: Vec::new() };
    while let Some(word) = args.next() {
        match word.to_str() {
            Some("--commit") => options.commit = Some(args.next()?.into_string().ok()?),
            Some("--export") => options.export = Some(args.next()?.into()),
            Some("--") => options.words = args.by_ref().collect(),
            _ => return None,
        }
    }
    Some(options)
}

fn live(options: &Options) -> Result<Verdict> {
    let store = LayerStore::open(store_dir())?.on_progress(bar());
    let mut image = timed("opened", || match options.image.to_str() {
        Some(name) if !Path::new(name).exists() => store.image(name),
        _ => store.import(&options.image, &ImportOptions::new()),
    })?;
    show(&store, &image)?;

    let mut command = match options.words.split_first() {
        Some((program, args)) => {
            let mut command = image.command_for(program);
            command.args(args);
            command
        }
        None => image.command()?,
    };
    let container = start(&image)?;
    let verdict = run_in(&container, &mut command)?;
    diff(&container.changes()?);

    if let Some(name) = &options.commit {
        image = timed("committed", || container.commit(&store, name, &ImageBuilder::on(&image)))?;
        show(&store, &image)?;
    }
    if let Some(path) = &options.export {
        timed("exported", || store.export(&image, path))?;
    }
    store.gc()?;
    eprint!("\r{:70}\r", "");
    Ok(verdict)
}

fn store_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("BELLJAR_STORE").unwrap_or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        cache.unwrap_or_else(|| PathBuf::from("/var/tmp")).join("belljar-layers")
    })
}

fn timed<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = act()?;
    eprintln!("\r{:70}", format!("{what} in {:.1?}", start.elapsed()));
    Ok(done)
}

/// One bar for whatever takes long, of all layers together.
fn bar() -> impl Fn(Progress) + Send + Sync + 'static {
    const WIDTH: usize = 40;
    let shown = Mutex::new(("", Vec::new()));
    move |progress| {
        let (what, part, parts, done, total) = match progress {
            Progress::Importing { layer, layers, done, total } => ("importing", layer, layers, done, total),
            Progress::Exporting { layer, layers, done, total } => ("exporting", layer, layers, done, total),
            Progress::Collecting { done, total } => ("collecting", 1, 1, done as u64, total as u64),
            _ => return,
        };
        let mut shown = shown.lock().expect("nobody panics with it");
        if shown.0 != what {
            *shown = (what, Vec::new());
        }
        shown.1.resize(parts, 0.0);
        shown.1[part - 1] = done as f64 / total.max(1) as f64;
        let share = shown.1.iter().sum::<f64>() / parts as f64;
        let full = (share * WIDTH as f64) as usize;
        eprint!("\r[{:WIDTH$}] {:3.0} % {what:14}", "#".repeat(full), share * 100.0);
        std::io::stderr().flush().ok();
    }
}

fn show(store: &LayerStore, image: &Image) -> Result<()> {
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

/// Writes go to memory; the layers stay as they are.
fn start(image: &Image) -> Result<Container> {
    let (uid, gid) = image.user()?;
    let root = image.rootfs().upper(Upper::tmpfs(Bytes::mib(256), 100_000));
    Sandbox::new().rootfs(root).mount(Mount::proc("/proc")).mount(Mount::dev("/dev")).user(uid, gid).start()
}

fn run_in(container: &Container, command: &mut Command) -> Result<Verdict> {
    command.stdin(Stdio::inherit());
    Ok(container.status(&*command)?.verdict)
}

fn diff(changes: &[Change]) {
    const MOST: usize = 40;
    for change in changes.iter().take(MOST) {
        let sign = match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Modified => "modified",
            ChangeKind::Deleted => "deleted",
            ChangeKind::TypeChanged => "of another type",
            ChangeKind::Opaque => "replaced",
            _ => "with other metadata",
        };
        println!("  {} {sign}", change.path.display());
    }
    println!("changes: {}{}", changes.len(), if changes.len() > MOST { ", more than are shown" } else { "" });
}
