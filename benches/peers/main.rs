//! Whole spawns of the smallest program, from the call to the reaped exit, beside other ways to isolate it as nearly
//! alike as their options allow. What is not installed is left out.
//!
//! `cargo bench --bench peers` prints medians of interleaved rounds; `cargo bench --bench peers -- --svg FILE` also
//! draws them.

#![expect(clippy::print_stdout, reason = "the medians are the result")]

mod picture;
#[path = "../spawn/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio as ProcessStdio};
use std::time::Instant;

use belljar::{Bytes, Command, Mount, Plan, Sandbox, Stdio};

const ROUNDS: usize = 100;

/// One way to run the program.
struct Row {
    name: &'static str,
    kind: Kind,
    micros: Vec<f64>,
}

enum Kind {
    /// In this process.
    Library { plan: Plan, command: Command },
    /// A command line.
    Program { path: PathBuf, args: Vec<String> },
}

impl Kind {
    fn run(&self) {
        match self {
            Self::Library { plan, command } => {
                let outcome = plan.spawn(command).and_then(|mut child| child.wait()).expect("it works here");
                assert!(outcome.success());
            }
            Self::Program { path, args } => {
                let status = Process::new(path)
                    .args(args)
                    .stdin(ProcessStdio::null())
                    .stdout(ProcessStdio::null())
                    .stderr(ProcessStdio::null())
                    .status()
                    .expect("it was tried before");
                assert!(status.success(), "{}", path.display());
            }
        }
    }
}

fn main() {
    let tiny = tiny::File::new();
    let bundle = Bundle::new();
    let mut rows = rows(tiny.path(), &bundle);
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let start = Instant::now();
            row.kind.run();
            row.micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let medians: Vec<_> = rows.iter_mut().map(|row| (row.name, median(&mut row.micros))).collect();
    for (name, micros) in &medians {
        println!("{name:44} {micros:8.0} µs");
    }
    let mut args = std::env::args().skip_while(|arg| arg != "--svg").skip(1);
    if let Some(file) = args.next() {
        std::fs::write(&file, picture::bars(&medians)).expect("the picture can be written");
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rows(tiny: &str, bundle: &Bundle) -> Vec<Row> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let sandbox = Sandbox::new().mount(Mount::file("/true", tiny::elf()).mode(0o555));
    let limited = sandbox.clone().memory_max(Bytes::mib(256)).pids_max(16);
    let library = |sandbox: &Sandbox| {
        let mut command = Command::new("/true");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        sandbox.plan().ok().map(|plan| Kind::Library { plan, command })
    };
    let program = |name: &str, args: Vec<String>| {
        let kind = Kind::Program { path: find(name)?, args };
        works(&kind).then_some(kind)
    };
    let system = "--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
                  --proc /proc --dev /dev --tmpfs /tmp";
    let bwrap = format!(
        "--unshare-all --new-session --die-with-parent --cap-drop ALL {system} --ro-bind {tiny} /true /true"
    );
    let unshare =
        format!("--user --map-root-user --pid --fork --mount --net --ipc --uts --cgroup --time -- {tiny}");
    let crun = format!("--cgroup-manager=disabled run -b {} belljar-bench-crun", bundle.0.display());
    let jail = format!("--memory 256M --pids 16 --ro {tiny}:/true -- /true");
    let rows = [
        ("posix_spawn, no isolation", program(tiny, Vec::new())),
        ("belljar, library", library(&sandbox)),
        ("belljar, library, memory and pids limits", library(&limited)),
        ("belljar, jail command, memory and pids limits", program("jail", words(&jail))),
        ("unshare, namespaces only", program("unshare", words(&unshare))),
        ("bubblewrap, no filter, no limits", program("bwrap", words(&bwrap))),
        ("crun, no limits", program("crun", words(&crun))),
    ];
    rows.into_iter().filter_map(|(name, kind)| Some(Row { name, kind: kind?, micros: Vec::new() })).collect()
}

/// A program by its path, among this package's examples, or in `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let examples = std::env::current_exe().ok()?.parent()?.parent()?.join("examples").join(name);
    if examples.is_file() {
        return Some(examples);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn works(kind: &Kind) -> bool {
    let Kind::Program { path, args } = kind else { return true };
    let mut process = Process::new(path);
    process.args(args).stdin(ProcessStdio::null()).stdout(ProcessStdio::null()).stderr(ProcessStdio::null());
    process.status().is_ok_and(|status| status.success())
}

/// An OCI bundle whose root holds nothing but the program; removed at the end.
struct Bundle(PathBuf);

impl Bundle {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("belljar-bench-bundle-{}", std::process::id()));
        let bundle = Self(dir);
        // Where crun is missing or refuses, its row is left out.
        bundle.fill().ok();
        bundle
    }

    fn fill(&self) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let root = self.0.join("rootfs");
        std::fs::create_dir_all(&root)?;
        let path: &Path = &root.join("true");
        std::fs::write(path, tiny::elf())?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        let Some(crun) = find("crun") else { return Ok(()) };
        Process::new(crun).arg("spec").current_dir(&self.0).status()?;
        let config = self.0.join("config.json");
        let text = std::fs::read_to_string(&config)?;
        let text = text.replace("\"terminal\": true", "\"terminal\": false").replace("\"sh\"", "\"/true\"");
        std::fs::write(config, text)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
