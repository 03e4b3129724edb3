//! Every way that is tried: what it is called, how it is started, and what its isolation lacks or has more.

use std::fs;
use std::path::PathBuf;
use std::process::Command as Process;

use belljar::{Bytes, Command, Mount, Plan, Sandbox, Stdio};

use super::stage::{IDS, Stage, allowed, filter};
use super::statistics::{Times, micros};
use super::way::{Kind, Line, View, Way, find, served};
use super::{bubblewrap, floor, tiny};

/// A way that is not measured, and why.
pub(crate) struct Absent {
    pub(crate) name: &'static str,
    pub(crate) why: String,
}

/// Sets up everything that works here.
pub(crate) fn all(stage: &Stage) -> (Vec<Way<'_>>, Vec<Absent>) {
    let (mut ways, mut absent) = (Vec::new(), Vec::new());
    let peers = peers().iter().map(|peer| peer.way(stage));
    for way in ours(stage).into_iter().chain(libraries()).chain(peers) {
        match way {
            Ok(way) => ways.push(way),
            Err(missing) => absent.push(missing),
        }
    }
    (ways, absent)
}

type Found<'a> = Result<Way<'a>, Absent>;

fn ours(stage: &Stage) -> Vec<Found<'_>> {
    let sandbox = Sandbox::new().mount(Mount::file("/true", tiny::elf()).mode(0o555));
    let limited = sandbox.clone().memory_max(Bytes::mib(256)).pids_max(16);
    let way = |name, kind, difference, run: Result<Box<dyn FnMut() -> f64>, String>| match run {
        Ok(run) => {
            Ok(Way { name, kind, line: None, version: None, difference, run, times: Times::default() })
        }
        Err(why) => Err(Absent { name, why }),
    };
    let floor = floor::Floor::new(&filter()).map(|floor| {
        let run: Box<dyn FnMut() -> f64> = Box::new(move || micros(|| floor.run()));
        run
    });
    let jail = jail().ok_or("not built; `cargo build --release --example jail` builds it".to_owned());
    let jail_args = format!("--memory 256M --pids 16 --ro {}:/true -- /true", stage.path("true").display());
    let jail = jail.map(|jail| Line::new(jail, words(&jail_args))).and_then(Line::measured);
    vec![
        way(
            "posix_spawn",
            Kind::Reference,
            "no isolation",
            Line::new(stage.path("true"), Vec::new()).measured(),
        ),
        way(
            "bare system calls",
            Kind::Reference,
            "the isolation of belljar with limits, and nothing that checks, reports or cleans",
            floor,
        ),
        way(
            "belljar, pool",
            Kind::OursAhead,
            "a fresh sandbox with limits for each run, set up before it",
            pool(&limited),
        ),
        way(
            "belljar, prepared",
            Kind::OursAhead,
            "limits; namespaces, mounts and the cgroup were made before the run",
            prepared(&limited),
        ),
        way(
            "belljar, container",
            Kind::Ours,
            "set up once; each run is a program in it, with limits",
            container(&limited),
        ),
        way("belljar", Kind::Ours, "the default: no limits", library(&sandbox)),
        way("belljar, limits", Kind::Ours, "memory and pids limits", library(&limited)),
        way("belljar, jail command", Kind::OurCommand, "memory and pids limits", jail),
    ]
}

fn quiet() -> Command {
    let mut command = Command::new("/true");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn library(sandbox: &Sandbox) -> Result<Box<dyn FnMut() -> f64>, String> {
    let plan: Plan = sandbox.plan().map_err(|error| error.to_string())?;
    let command = quiet();
    let run = move || plan.spawn(&command).and_then(|mut child| child.wait());
    run().map_err(|error| error.to_string())?;
    Ok(Box::new(move || {
        micros(|| {
            assert!(run().expect("it worked before").success());
        })
    }))
}

/// Its network namespaces are made ahead.
fn prepared(sandbox: &Sandbox) -> Result<Box<dyn FnMut() -> f64>, String> {
    let plan = sandbox.plan().and_then(|plan| plan.prepare_ahead(4)).map_err(|error| error.to_string())?;
    let command = quiet();
    Ok(Box::new(move || {
        micros(|| {
            let outcome = plan.spawn(&command).and_then(|mut child| child.wait());
            assert!(outcome.expect("it works here").success());
        })
    }))
}

/// Each program has a container of its own, which was ready.
fn pool(sandbox: &Sandbox) -> Result<Box<dyn FnMut() -> f64>, String> {
    let pool =
        sandbox.plan().and_then(|plan| plan.pool().size(4).start()).map_err(|error| error.to_string())?;
    let command = quiet();
    Ok(Box::new(move || {
        micros(|| {
            assert!(pool.status(&command).expect("it works here").success());
        })
    }))
}

fn container(sandbox: &Sandbox) -> Result<Box<dyn FnMut() -> f64>, String> {
    let container = sandbox.start().map_err(|error| error.to_string())?;
    let command = quiet();
    Ok(Box::new(move || {
        micros(|| {
            assert!(container.status(&command).expect("it worked before").success());
        })
    }))
}

/// Among this package's examples.
fn jail() -> Option<PathBuf> {
    let jail = std::env::current_exe().ok()?.parent()?.parent()?.join("examples/jail");
    jail.is_file().then_some(jail)
}

/// A program of somebody else.
struct Peer {
    name: &'static str,
    program: &'static str,
    kind: Kind,
    difference: &'static str,
    make: fn(PathBuf, &Stage) -> Result<Line, String>,
}

fn peers() -> &'static [Peer] {
    &[
        Peer {
            name: "unshare",
            program: "unshare",
            kind: Kind::Program,
            difference: "namespaces only: no root of its own, no devices, no filter, no limits, all capabilities",
            make: |program, stage| {
                let options =
                    "--user --map-root-user --pid --fork --mount --net --ipc --uts --cgroup --time --";
                Ok(Line::new(program, words(&format!("{options} {}", stage.path("true").display()))))
            },
        },
        Peer {
            name: "bubblewrap",
            program: "bwrap",
            kind: Kind::Program,
            difference: "no limits, no time namespace; the same filter",
            make: |program, stage| {
                let mut args = bubblewrap::arguments(&stage.path("true"));
                args.push("/true".to_owned());
                Ok(Line::new(program, args).with_filter("--seccomp", &stage.path("filter.bpf")))
            },
        },
        Peer {
            name: "minijail",
            program: "minijail0",
            kind: Kind::Program,
            difference: "no user namespace (it fails with its own `/proc` and `/dev`) but ids of its own; no limits; the same \
                         filter",
            make: |program, stage| {
                let options = format!(
                    "-T static -n -v -p -r -l -N -e --uts=belljar -d -t256M -k proc,/proc,proc,0xe -k \
                     /usr,/usr,none,0x1001 -u {IDS} -g {IDS} -c 0 --ambient --seccomp-bpf-binary={} -P {} -- /true",
                    stage.path("filter.bpf").display(),
                    stage.path("root").display(),
                );
                Ok(Line::new(program, words(&options)))
            },
        },
        Peer {
            name: "nsjail",
            program: "nsjail",
            kind: Kind::Program,
            difference: "the same calls allowed, compiled at each start; memory and pids limits where cgroups of version 1 are",
            make: |program, stage| {
                let calls: Vec<String> =
                    allowed().iter().map(|(number, _)| format!("SYSCALL[{number}]")).collect();
                let options = format!(
                    "-Mo -Q -u 1000:{IDS}:1 -g 1000:{IDS}:1 -c {} -R /usr -T /tmp -R /dev/null -R /dev/zero -R \
                     /dev/full -R /dev/random -R /dev/urandom -R /dev/tty {}",
                    stage.path("root").display(),
                    nsjail_limits(),
                );
                let mut args = words(&options);
                args.extend([
                    "--seccomp_string".into(),
                    format!("ALLOW {{ {} }} DEFAULT ERRNO(1)", calls.join(", ")),
                ]);
                args.extend(words("-- /true"));
                Ok(Line::new(program, args))
            },
        },
        Peer {
            name: "crun",
            program: "crun",
            kind: Kind::Program,
            difference: "memory and pids limits; the same calls allowed; started where the second version's hierarchy is hidden, \
                         if there are both, which it refuses",
            make: |program, stage| oci(program, stage, View::WithoutUnified),
        },
        Peer {
            name: "runc",
            program: "runc",
            kind: Kind::Program,
            difference: "memory and pids limits; the same calls allowed",
            make: |program, stage| oci(program, stage, View::AsItIs),
        },
        Peer {
            name: "hakoniwa",
            program: "hakoniwa",
            kind: Kind::Program,
            difference: "no limits, one id mapped, its own filter (`podman`), no time namespace",
            make: |program, stage| {
                let options = format!(
                    "run --unshare-all --rootfs {} -b /usr:/usr --symlink usr/bin:/bin --symlink usr/sbin:/sbin \
                     --symlink usr/lib:/lib --symlink usr/lib64:/lib64 -b {}:/true --devfs /dev --tmpfs /tmp \
                     --hostname belljar -- /true",
                    stage.path("empty").display(),
                    stage.path("true").display(),
                );
                Ok(Line::new(program, words(&options)))
            },
        },
        Peer {
            name: "firejail",
            program: "firejail",
            kind: Kind::Program,
            difference: "the host's root with parts hidden, no user namespace, its own filter (a deny-list), `RLIMIT_NPROC` in \
                         place of limits",
            make: |program, stage| {
                let options = format!(
                    "--quiet --noprofile --net=none --private-dev --caps.drop=all --nonewprivs --seccomp \
                     --ipc-namespace --hostname=belljar --read-only=/ --rlimit-nproc=16 -- {}",
                    stage.path("true").display(),
                );
                Ok(Line::new(program, words(&options)))
            },
        },
        Peer {
            name: "systemd-nspawn",
            program: "systemd-nspawn",
            kind: Kind::Program,
            difference: "an init beside the program, its own filter, no limits (they are a unit's), `/sys` and `/run` as well",
            make: |program, stage| {
                let options = format!(
                    "-q --register=no --keep-unit --timezone=off --resolv-conf=off --read-only --private-network \
                     --private-users={IDS}:65536 --private-users-ownership=off --drop-capability=all \
                     --no-new-privileges=yes --bind-ro=/usr --tmpfs=/tmp --console=pipe --as-pid2 -D {} /true",
                    stage.path("root").display(),
                );
                Ok(Line::new(program, words(&options)))
            },
        },
    ]
}

impl Peer {
    fn way<'a>(&self, stage: &'a Stage) -> Found<'a> {
        let absent = |why: String| Absent { name: self.name, why };
        let program = find(self.program)
            .ok_or_else(|| absent(format!("not found: no `{}` in `PATH`", self.program)))?;
        let line = (self.make)(program.clone(), stage).map_err(absent)?;
        let shown = shown(self.program, &line.args, stage);
        let run = line.measured().map_err(|words| absent(format!("found, but refused: `{words}`")))?;
        Ok(Way {
            name: self.name,
            kind: self.kind,
            line: Some(shown),
            version: version(&program),
            difference: self.difference,
            run,
            times: Times::default(),
        })
    }
}

/// A library of somebody else, in a program of its own that is not built with this package.
fn libraries<'a>() -> Vec<Found<'a>> {
    let name = "hakoniwa, library";
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/peers-library/target/release/peers-library");
    let run = if program.is_file() {
        served(&program, "hakoniwa")
    } else {
        Err("not built; `cargo build --release --manifest-path benches/peers-library/Cargo.toml` builds it"
            .into())
    };
    vec![
        run.map(|run| Way {
            name,
            kind: Kind::Library,
            line: None,
            version: None,
            difference: "no limits, one id mapped, the same calls allowed, no time namespace",
            run,
            times: Times::default(),
        })
        .map_err(|why| Absent { name, why }),
    ]
}

fn oci(program: PathBuf, stage: &Stage, view: View) -> Result<Line, String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = format!(
        "--root {} run --bundle {} belljar-peers-{}",
        stage.path(&name).display(),
        stage.path("bundle").display(),
        std::process::id()
    );
    let mut line = Line::new(program, words(&args));
    line.view = view;
    Ok(line)
}

/// Below the groups of this process, where those of version 1 are.
fn nsjail_limits() -> String {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let parent = |controller: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers
                .split(',')
                .any(|name| name == controller)
                .then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match (parent("memory"), parent("pids")) {
        (Some(memory), Some(pids)) => format!(
            "--cgroup_mem_max 268435456 --cgroup_mem_parent /{memory} --cgroup_pids_max 16 --cgroup_pids_parent \
             /{pids}"
        ),
        _ => String::new(),
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A line as a reader can follow it: without the place where it was run, and without long lists.
fn shown(program: &str, args: &[String], stage: &Stage) -> String {
    let dir = stage.dir().to_string_lossy().into_owned();
    let word = |arg: &String| {
        let arg = arg.replace(&dir, "DIR").replace(&std::process::id().to_string(), "PID");
        if arg.contains("SYSCALL[") {
            return "'ALLOW { … } DEFAULT ERRNO(1)'".to_owned();
        }
        if arg.contains(' ') { format!("'{arg}'") } else { arg }
    };
    let mut shown = vec![program.to_owned()];
    let mut parent = false;
    for arg in args {
        // Where this process happens to be.
        shown.push(if parent { "GROUP".to_owned() } else { word(arg) });
        parent = arg.ends_with("_parent");
    }
    shown.join(" ")
}

fn version(program: &std::path::Path) -> Option<String> {
    let output =
        Process::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.trim();
    let number = line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(number.trim_end_matches(',').to_owned())
}
