//! A build in two stages: one sandbox has a compiler and the sources, the other has what came of it and nothing else.
//!
//! ```sh
//! cargo run --release --features oci --example build
//! ```
//!
//! Needs a C compiler on this machine, and no network. The first stage sees the compiler by binds of the host's system, so
//! that it is in no layer. The artefact is copied out of it and into the second stage, over a layer with one empty
//! directory, where it runs. Both stages become images, and the second one a layout that other tools read. All of it is in
//! a temporary directory that is removed at the end.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line program")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use belljar::{
    Bytes, Command, Container, Image, ImageBuilder, LayerStore, Mount, Platform, Rootfs, Sandbox, Upper,
    Verdict,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// A program that tells what it can see.
const MAIN: &str = r#"
#include <stdio.h>
int entries(const char *dir);
int main(void) {
    FILE *compiler = fopen("/usr/bin/cc", "r");
    printf("/ has %d entries and %s compiler\n", entries("/"), compiler ? "a" : "no");
    return compiler != NULL;
}
"#;
const ENTRIES: &str = r#"
#include <dirent.h>
int entries(const char *dir) {
    DIR *open = opendir(dir);
    int count = 0;
    for (struct dirent *entry; open && (entry = readdir(open));) count += entry->d_name[0] != '.';
    return count;
}
"#;

/// What of the host a compiler needs.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache"];

/// More than any artefact here has.
const LIMIT: Bytes = Bytes::mib(64);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            error.source().iter().for_each(|source| eprintln!("because: {source}"));
            let hint = error.downcast_ref::<belljar::Error>().and_then(belljar::Error::hint);
            hint.iter().for_each(|hint| eprintln!("to mend it: {hint}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if !Path::new("/usr/bin/cc").exists() {
        return Err("/usr/bin/cc is missing (Debian: apt-get install gcc libc6-dev)".into());
    }
    let temporary = Temporary::new()?;
    let store = LayerStore::open(temporary.0.join("store"))?;
    let dir = temporary.0.join("base");
    std::fs::create_dir_all(dir.join("tmp"))?;
    let base = store.build("base", &ImageBuilder::empty(&Platform::this_machine()).layer(dir))?;

    let (first, program, libraries) = compile(&store, &base)?;
    let second = release(&store, &base, &program, &libraries)?;
    let layout = temporary.0.join("hello.oci");
    store.export(&second, &layout)?;

    println!("\n{:8} {:>6} {:>7} {:>9}", "stage", "layers", "entries", "size");
    for image in [&first, &second] {
        let (entries, bytes) = size(&store, image)?;
        println!("{:8} {:6} {entries:7} {:>9}", image.name(), image.layers().len(), kib(bytes));
    }
    println!("\nexported: {}, compressed; all of it is removed now", kib(size_of(&layout)?));
    Ok(())
}

/// Files that the second stage gets, by their paths there.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The first stage: compiles, and returns the program and the libraries that it needs.
fn compile(store: &LayerStore, base: &Image) -> Result<(Image, Vec<u8>, Files)> {
    let mut sandbox = within_limits(base.rootfs().upper(Upper::tmpfs(Bytes::mib(256), 10_000)));
    for path in SYSTEM.iter().filter(|path| Path::new(path).exists()) {
        sandbox = sandbox.mount(Mount::bind(path, path));
    }
    let container = sandbox.mount(Mount::dev("/dev")).start()?;
    container.copy_in(MAIN.as_bytes(), "/tmp/main.c", 0o644, LIMIT)?;
    container.copy_in(ENTRIES.as_bytes(), "/tmp/entries.c", 0o644, LIMIT)?;

    let cc = |args: &[&str]| {
        let mut command = Command::new("/usr/bin/cc");
        command.args(args).env("PATH", "/usr/bin:/bin").current_dir("/tmp");
        command
    };
    println!("stage 1: compiling with the host's compiler in a sandbox");
    must(&container, &cc(&["-O2", "-g", "-c", "main.c", "entries.c"]))?;
    // Not every machine has the C library for that.
    let linked = container.output(cc(&["-static", "-s", "-o", "hello", "main.o", "entries.o"]))?;
    let mut libraries = Vec::new();
    if linked.outcome.verdict != Verdict::Exited(0) {
        println!("stage 1: there is no static C library, so the shared ones go along");
        must(&container, &cc(&["-s", "-o", "hello", "main.o", "entries.o"]))?;
        // As ldd(1) does it.
        let mut traced = Command::new("/tmp/hello");
        let listed = must(&container, traced.env("LD_TRACE_LOADED_OBJECTS", "1"))?;
        for path in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            libraries.push((PathBuf::from(path), copy_out(&container, path)?));
        }
    }
    let program = copy_out(&container, "/tmp/hello")?;
    let image = container.commit(store, "build", &ImageBuilder::on(base))?;
    container.close()?;
    Ok((image, program, libraries))
}

/// The second stage: the program alone, which runs once to show that nothing is missing.
fn release(store: &LayerStore, base: &Image, program: &[u8], libraries: &Files) -> Result<Image> {
    let mut sandbox = within_limits(base.rootfs().upper(Upper::tmpfs(Bytes::mib(64), 1000)));
    let above: BTreeSet<_> = libraries.iter().filter_map(|(path, _)| path.parent()).collect();
    for dir in above {
        sandbox = sandbox.mount(Mount::dir(dir));
    }
    let container = sandbox.start()?;
    container.copy_in(program, "/hello", 0o755, LIMIT)?;
    for (path, bytes) in libraries {
        container.copy_in(&**bytes, path, 0o755, LIMIT)?;
    }
    print!("stage 2: {}", must(&container, &Command::new("/hello"))?);
    let image = container.commit(store, "release", &ImageBuilder::on(base).cmd(["/hello"]))?;
    container.close()?;

    // What others get is what was tried.
    let output = within_limits(image.rootfs()).output(image.command()?)?;
    match output.outcome.verdict {
        Verdict::Exited(0) => print!("its image: {}", String::from_utf8_lossy(&output.stdout)),
        verdict => return Err(format!("the image of stage 2 ended: {verdict}").into()),
    }
    Ok(image)
}

fn within_limits(root: Rootfs) -> Sandbox {
    Sandbox::new().rootfs(root).root().wall_time(Duration::from_secs(60))
}

/// Runs a program that has to succeed, and returns what it says.
fn must(container: &Container, command: &Command) -> Result<String> {
    let output = container.output(command)?;
    if output.outcome.verdict == Verdict::Exited(0) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy();
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}\n{errors}", output.outcome.verdict).into())
}

fn copy_out(container: &Container, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    container.copy_out(path, &mut bytes, LIMIT)?;
    Ok(bytes)
}

/// Entries and bytes of all layers.
fn size(store: &LayerStore, image: &Image) -> Result<(u64, u64)> {
    let layers = store.layers()?;
    let own = layers.iter().filter(|layer| image.layers().contains(&layer.id));
    Ok(own.fold((0, 0), |(entries, bytes), layer| (entries + layer.entries, bytes + layer.bytes)))
}

/// What is below a directory of ours.
fn size_of(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

/// A directory that is gone at the end, whatever that is.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let path = Path::new("/var/tmp").join(format!("belljar-build-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("leaving {} behind: {error}", self.0.display());
        }
    }
}
