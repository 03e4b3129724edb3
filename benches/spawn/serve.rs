//! The life of a host that is asked for blocks of runs: this program executed again, of one of several kinds.

use std::hint::black_box;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use belljar::{Container, Reuse, Sandbox, Seccomp};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::floor::Floor;
use super::host::Host;
use super::statistics::micros;
use super::{closed, quiet, run, tiny, with_tiny};

/// Runs in each block.
const BLOCK: usize = 20;
/// Runs before each, not measured: the processors of a machine that rested wake up slowly for a while.
const WARM_UP: usize = 5;
/// Before each run of a paced block: what is kept ready is made again meanwhile, and in nobody's time.
const PACE: Duration = Duration::from_millis(5);
const PACED: &str = "paced";
/// The argument that makes this program a host of the kind that follows.
pub(crate) const HOST: &str = "--host";

/// What a host is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    /// So many MiB are resident.
    Resident(usize),
    /// Sixteen threads allocate in it.
    Threads,
    /// So many mounts more are in its mount namespace, which is its own.
    Mounts(usize),
    /// So many containers are alive in it.
    Alive(usize),
}

impl Kind {
    fn word(self) -> String {
        match self {
            Self::Small => "small".into(),
            Self::Resident(mib) => format!("resident={mib}"),
            Self::Threads => "threads".into(),
            Self::Mounts(number) => format!("mounts={number}"),
            Self::Alive(number) => format!("alive={number}"),
        }
    }

    fn from_word(word: &str) -> Self {
        let (name, number) = word.split_once('=').unwrap_or((word, "0"));
        let number = number.parse().expect("a number");
        match name {
            "small" => Self::Small,
            "resident" => Self::Resident(number),
            "threads" => Self::Threads,
            "mounts" => Self::Mounts(number),
            "alive" => Self::Alive(number),
            _ => panic!("there is no kind {word}"),
        }
    }

    pub(crate) fn start(self) -> Host {
        let program = std::env::current_exe().expect("a program knows its file");
        Host::start(&program, [HOST, &self.word()]).expect("this program can be executed again")
    }

    /// Waits until it has become what it is.
    pub(crate) fn start_ready(self) -> Host {
        let mut host = self.start();
        host.block("posix_spawn");
        host
    }
}

pub(crate) fn floor() -> Result<Floor, String> {
    Floor::new(&Seccomp::default().to_bpf().expect("the default profile compiles"))
}

/// Blocks of runs, as they are asked for, until nobody asks.
pub(crate) fn serve(word: &str) {
    let kind = Kind::from_word(word);
    raise_descriptors();
    if let Kind::Mounts(number) = kind {
        make_mounts(number);
    }
    let floor = floor().ok();
    let host = tiny::File::new();
    let plan = closed().plan().expect("a valid policy");
    let alive = if let Kind::Alive(number) = kind { number } else { 0 };
    let alive: Vec<Container> = (0..alive).map(|_| plan.start().expect("one more works")).collect();
    // One for each spawner.
    let warm = [0, 1].map(|_| plan.start().expect("the sandbox works here"));
    let ahead = OnceLock::new();
    let pools = [Reuse::Never, Reuse::AfterReset].map(|reuse| (reuse, OnceLock::new()));
    let unlimited = with_tiny(Sandbox::new()).plan().expect("a valid policy");
    let (container, pool) = (OnceLock::new(), OnceLock::new());
    let resident = if let Kind::Resident(mib) = kind { mib << 20 } else { 0 };
    let resident = vec![1_u8; resident];
    let once = |what: &str, spawner: usize| match what {
        "posix_spawn" => {
            assert!(std::process::Command::new(host.path()).status().expect("it runs").success());
        }
        "floor" => floor.as_ref().expect("it is asked for only where it works").run(),
        "cold" => run(&plan, &quiet("/true")),
        "warm" => assert!(warm[spawner].status(quiet("/true")).expect("it works").success()),
        "warm-unlimited" => {
            let container = container.get_or_init(|| unlimited.start().expect("it works here"));
            assert!(container.status(quiet("/true")).expect("it works").success());
        }
        "one-shot-unlimited" => {
            let pool = pool.get_or_init(|| unlimited.pool().size(4).start().expect("it works here"));
            assert!(pool.status(quiet("/true")).expect("it works").success());
        }
        "prepared" => {
            run(ahead.get_or_init(|| plan.prepare_ahead(4).expect("it works here")), &quiet("/true"));
        }
        "one-shot" | "reset" => {
            let (reuse, pool) = &pools[usize::from(what == "reset")];
            let pool = pool.get_or_init(|| plan.pool().size(4).reuse(*reuse).start().expect("it works here"));
            assert!(pool.status(quiet("/true")).expect("it works").success());
        }
        _ => panic!("there is no way {what}"),
    };
    for line in std::io::stdin().lines() {
        let line = line.expect("lines of text");
        let block = || -> Vec<f64> {
            match line.split_once(' ') {
                None => {
                    (0..WARM_UP).for_each(|_| once(&line, 0));
                    (0..BLOCK).map(|_| micros(|| once(&line, 0))).collect()
                }
                Some((what, PACED)) => {
                    let paced = |_| {
                        std::thread::sleep(PACE);
                        micros(|| once(what, 0))
                    };
                    (0..BLOCK).map(paced).collect()
                }
                Some((what, spawners)) => {
                    vec![throughput(spawners.parse().expect("a number"), |spawner| once(what, spawner))]
                }
            }
        };
        let values = if kind == Kind::Threads { while_threads_allocate(block) } else { block() };
        println!("{}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    }
    drop(black_box(resident));
    drop(alive);
}

/// Runs in a second, by so many threads at once.
fn throughput(spawners: usize, once: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for spawner in 0..spawners {
            let once = &once;
            scope.spawn(move || (0..BLOCK).for_each(|_| once(spawner)));
        }
    });
    (spawners * BLOCK) as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn while_threads_allocate<T>(f: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    black_box(vec![1_u8; 1 << 16]);
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        let result = f();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Mounts in a mount namespace of this process, which go with it.
fn make_mounts(number: usize) {
    let none = None::<&str>;
    let here = std::env::temp_dir();
    unshare(CloneFlags::CLONE_NEWNS).expect("it needs root");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("it is our copy");
    mount(Some("bench"), &here, Some("tmpfs"), MsFlags::empty(), none).expect("it is our copy");
    let source = here.join("source");
    std::fs::create_dir(&source).expect("it is empty");
    for n in 0..number {
        let target: &Path = &here.join(n.to_string());
        std::fs::create_dir(target).expect("it is empty");
        mount(Some(&source), target, none, MsFlags::MS_BIND, none).expect("fs.mount-max is larger");
    }
}

/// A live sandbox takes several descriptors of its host.
pub(crate) fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it is readable");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
}
