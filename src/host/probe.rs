//! The tries: a throw-away sandbox each.

use std::fs::DirBuilder;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::cause::{self, Explanation, Refusal};
use super::facts::Facts;
use super::{Check, Host, Status};
use crate::cgroup::{BlockDevice, DeviceRules, IoMax, Limits};
use crate::command::Command;
use crate::error::{Error, Result, Step};
use crate::feature::Feature;
use crate::fsimage::{self, Format};
use crate::idmap::{Caller, Ids, MapPlan, UserMap};
use crate::landlock::{self, Landlock, NEWEST_ABI};
use crate::limits::{Bytes, CpuMax};
use crate::lsm::{self, Presence};
use crate::mount::Mount;
use crate::rootfs::{Rootfs, Upper};
use crate::sandbox::Sandbox;
use crate::scheduling::{IoPriority, Scheduler};
use crate::seccomp::Seccomp;
use crate::sys;
use crate::tenants::{self, Cores};

/// Enough for an init and a program that never is.
const MEMORY: Bytes = Bytes::mib(16);
const LONG: Duration = Duration::from_secs(60);

pub(super) fn probe() -> Host {
    let mut probe = Probe { facts: Facts::gather(), checks: Vec::new() };
    probe.check("sandbox", None, || attempt(&Sandbox::new()));
    probe.namespaces();
    probe.identity();
    probe.mounts();
    probe.limits();
    probe.confinement();
    probe.scheduling();
    let Probe { facts, checks } = probe;
    let remarks = facts.core_handler.iter().map(|handler| {
        format!(
            "Core dumps of this host are piped to {handler}, which runs outside every sandbox; programs get a core \
             limit of 1 byte, which keeps the kernel from starting it."
        )
    });
    Host {
        remarks: remarks.collect(),
        kernel: facts.release,
        uid: facts.uid,
        privileged: facts.privileged,
        checks,
    }
}

/// A note about what works, or what does not and why.
type Tried = Result<Option<String>>;

/// Sets a sandbox up to the last step before a program runs: it is told to execute a directory, which every root has
/// and no kernel executes. Needs no program on the host, and nothing foreign ever runs.
fn attempt(sandbox: &Sandbox) -> Tried {
    attempt_as_far_as(sandbox, Step::Exec)
}

/// The same, for a step that all others after it may fail.
fn attempt_as_far_as(sandbox: &Sandbox, enough: Step) -> Tried {
    match sandbox.spawn(Command::new("/")) {
        Ok(child) => {
            drop(child);
            Ok(None)
        }
        Err(error) if error.step() == Step::Exec || error.step() == enough => Ok(None),
        Err(error) => Err(error),
    }
}

struct Probe {
    facts: Facts,
    checks: Vec<Check>,
}

impl Probe {
    /// Carries out a try and explains what came of it.
    fn check(&mut self, name: &'static str, feature: Option<Feature>, attempt: impl FnOnce() -> Tried) {
        let status = match attempt() {
            Ok(note) => Status::Available { note },
            Err(error) => missing(cause::explain(&self.facts, feature, &Refusal::from(&error))),
        };
        self.checks.push(Check { name, feature, status });
    }

    fn feature(&mut self, feature: Feature, attempt: impl FnOnce() -> Tried) {
        self.check(feature.name(), Some(feature), attempt);
    }

    /// A bare sandbox that may do what it is about to be asked.
    fn bare(&self) -> Sandbox {
        if self.facts.privileged { Sandbox::bare() } else { Sandbox::bare().user_ns() }
    }

    fn namespaces(&mut self) {
        self.feature(Feature::UserNs, || attempt(&Sandbox::bare().user_ns()).map(|_| id_map()));
        let bare = self.bare();
        let one_by_one = [
            (Feature::PidNs, bare.clone().pid_ns()),
            (Feature::MountNs, bare.clone().mount_ns()),
            (Feature::NetNs, bare.clone().net_ns()),
            (Feature::IpcNs, bare.clone().ipc_ns()),
            (Feature::UtsNs, bare.clone().hostname("belljar")),
            (Feature::CgroupNs, bare.clone().cgroup_ns()),
            (Feature::TimeNs, bare.monotonic_offset(1).boottime_offset(1)),
        ];
        for (feature, sandbox) in one_by_one {
            self.feature(feature, || attempt(&sandbox));
        }
    }

    fn identity(&mut self) {
        self.check("subids", None, || attempt(&Sandbox::bare().user_map(UserMap::subids())));
        let sandbox = Sandbox::bare().user_ns();
        self.feature(Feature::Groups, || {
            attempt(&sandbox)?;
            let plan = sandbox.plan()?;
            match plan.enforced().skipped().iter().find(|skipped| skipped.feature == Feature::Groups) {
                None => Ok(None),
                Some(skipped) => Err(Error::message(
                    crate::ErrorKind::PermissionDenied,
                    Step::Plan,
                    skipped.reason.clone(),
                )
                .with_hint("map more ids: `UserMap::subids()`, or run the program as root")),
            }
        });
    }

    /// What the sandbox's own user namespace lets its init mount.
    fn mounts(&mut self) {
        let with = |mount| Sandbox::bare().user_ns().pid_ns().ipc_ns().rootfs(Rootfs::empty()).mount(mount);
        self.check("tmpfs", None, || attempt_as_far_as(&with(Mount::tmpfs("/tmp")), Step::PivotRoot));
        self.check("pivot_root", None, || attempt(&with(Mount::dir("/empty"))));
        self.check("bind", None, || attempt(&with(Mount::bind("/usr", "/usr"))));
        self.check("bind_writable", None, || {
            let dir = TempDir::new()?;
            attempt(&with(Mount::bind_writable(&dir.0, "/data")))
        });
        self.check("proc", None, || attempt(&with(Mount::proc("/proc"))));
        self.check("devpts", None, || attempt(&with(Mount::devpts("/dev/pts"))));
        self.check("mqueue", None, || attempt(&with(Mount::mqueue("/dev/mqueue"))));
        self.check("overlay", None, || {
            let root = Rootfs::overlay(["/usr"]).upper(Upper::tmpfs(Bytes::mib(1), 64));
            attempt(&Sandbox::bare().user_ns().rootfs(root))
        });
        let privileged = self.facts.privileged;
        for format in Format::ALL {
            self.check(format.name(), None, || match privileged {
                true => mount_image(format),
                false => Err(fsimage::refused(format, &format!("images of {}", format.name()))),
            });
        }
        self.check("system_view", None, || {
            attempt(&Sandbox::bare().user_ns().pid_ns().rootfs(Rootfs::system()))
        });
    }

    fn limits(&mut self) {
        let limits = Limits::new();
        // The one processor and the disk that every machine has.
        let root = BlockDevice::at("/");
        let huge = huge_page_size();
        let limits = [
            (Feature::MemoryMax, limits.clone().memory_max(MEMORY)),
            (Feature::MemoryHigh, limits.clone().memory_high(MEMORY)),
            // Not 0, of which there is enough where the groups above protect nothing; and a page at least.
            (Feature::MemoryLow, limits.clone().memory_low(Bytes::kib(64))),
            (Feature::MemoryMin, limits.clone().memory_min(Bytes::kib(64))),
            (Feature::MemorySoft, limits.clone().memory_soft(MEMORY)),
            (Feature::Swappiness, limits.clone().swappiness(60)),
            (Feature::OomGroup, limits.clone().oom_group()),
            (Feature::SwapMax, limits.clone().memory_max(MEMORY).swap_max(0)),
            (Feature::PidsMax, limits.clone().pids_max(8)),
            (Feature::CpuMax, limits.clone().cpu_max(CpuMax::cpus(1.0))),
            (Feature::CpuWeight, limits.clone().cpu_weight(100)),
            (Feature::CpuRt, limits.clone().cpu_rt(CpuMax::new(Duration::ZERO, Duration::from_secs(1)))),
            (Feature::Cpuset, limits.clone().cpuset_cpus([0])),
            (Feature::IoMax, limits.clone().io_max(root, IoMax::new().read(Bytes::gib(1024)))),
            (Feature::IoWeight, limits.clone().io_weight(100)),
            (Feature::HugetlbMax, limits.clone().hugetlb_max(huge, 0)),
            (Feature::Devices, limits.clone().devices(DeviceRules::minimal())),
            (Feature::Freezer, limits.clone().freezable()),
            (Feature::Pressure, limits.pressure()),
        ]
        .map(|(feature, limits)| (feature, Sandbox::bare().limits(limits)));
        let times = [
            (Feature::CpuTime, Sandbox::bare().cpu_time(LONG)),
            (Feature::IdleTime, Sandbox::bare().idle_time(LONG)),
        ];
        for (feature, sandbox) in limits.into_iter().chain(times) {
            self.feature(feature, || {
                attempt(&sandbox)?;
                Ok(sandbox.plan()?.0.placement.describe().into_iter().next())
            });
        }
        self.feature(Feature::WallTime, || attempt(&Sandbox::bare().wall_time(LONG)));
        self.feature(Feature::Output, || attempt(&Sandbox::bare().output_max(MEMORY)));
        let bare = self.bare();
        self.feature(Feature::TreeKill, || match attempt(&bare.pid_ns()) {
            Ok(_) => Ok(Some("by PID namespace".to_owned())),
            Err(error) => match attempt(&Sandbox::bare().pids_max(8)) {
                Ok(_) => Ok(Some("by cgroup, where there is a limit".to_owned())),
                Err(_) => Err(error),
            },
        });
    }

    /// Whatever needs no privilege, and whether the rest may be had.
    fn scheduling(&mut self) {
        self.feature(Feature::Scheduling, || {
            attempt(&Sandbox::bare().scheduler(Scheduler::Batch).nice(19).io_priority(IoPriority::Idle))?;
            let real_time = Sandbox::bare().scheduler(Scheduler::Fifo(1));
            Ok(Some(match attempt(&real_time) {
                Ok(_) => "real-time and negative nice values too".to_owned(),
                Err(error) => format!("but no real-time: {error}"),
            }))
        });
    }

    fn confinement(&mut self) {
        let bare = self.bare();
        self.feature(Feature::Seccomp, || attempt(&Sandbox::bare().seccomp(Seccomp::default())));
        self.feature(Feature::Capabilities, || attempt(&bare.drop_capabilities()));
        self.feature(Feature::NoNewPrivs, || attempt(&Sandbox::bare()));
        // A label that no host has: a module that is there refuses it, and one that is not has no file for it.
        let labels = [
            (Feature::AppArmor, Sandbox::bare().apparmor("belljar-probe-of-a-profile"), lsm::apparmor()),
            (Feature::SeLinux, Sandbox::bare().selinux("belljar:probe:context"), lsm::selinux()),
        ];
        for (feature, sandbox, presence) in labels {
            self.feature(feature, || match presence {
                Presence::Absent(error) => Err(error),
                Presence::Enforces | Presence::Permits => match attempt(&sandbox) {
                    Err(error) if error.step() == Step::Label && is_unknown_label(&error) => Ok(None),
                    other => other,
                },
            });
        }
        self.feature(Feature::CoreScheduling, || match tenants::cores() {
            Cores::Shared => Ok(None),
            Cores::OneThreadEach => Ok(Some(tenants::ONE_THREAD_EACH.to_owned())),
            Cores::SharedByAll(error) => Err(tenants::shared_cores(error)),
        });
        match sys::landlock_abi() {
            Ok(abi) => self.feature(Feature::Landlock, || {
                attempt(&Sandbox::bare().landlock(Landlock::new().abi(abi.min(NEWEST_ABI))))?;
                Ok(Some(match landlock::missing_in(abi).as_slice() {
                    [] => format!("ABI {abi}"),
                    without => format!("ABI {abi}, without {}", without.join(", ")),
                }))
            }),
            Err(error) => {
                let status = missing(cause::landlock(&self.facts, error.raw_os_error().unwrap_or(0)));
                self.checks.push(Check { name: "landlock", feature: Some(Feature::Landlock), status });
            }
        }
    }
}

/// The security module has looked for the label, and does not have it.
fn is_unknown_label(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL))
}

/// Makes the smallest image of this kind the root of a sandbox.
fn mount_image(format: Format) -> Tried {
    let image = sys::sealed_memfd(c"belljar-probe", &format.smallest())
        .map_err(|error| Error::os(Step::Prepare, "making an image in memory", error))?;
    let path = format!("/proc/self/fd/{}", image.as_raw_fd());
    attempt(&Sandbox::bare().user_ns().rootfs(Rootfs::dir(path)))
}

/// The smallest size of huge pages of this machine, or what is usual.
fn huge_page_size() -> Bytes {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let sizes = entries.into_iter().flatten().flatten().filter_map(|entry| {
        entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    sizes.min().map_or(Bytes::mib(2), Bytes::kib)
}

fn missing(Explanation { cause, remedy }: Explanation) -> Status {
    Status::Missing { cause, remedy }
}

/// What [`UserMap::auto`] comes to here.
fn id_map() -> Option<String> {
    let program = Ids { uid: 1000, gid: 1000 };
    let plan = MapPlan::resolve(&UserMap::auto(), program, &Caller::now().ok()?).ok()?;
    let text = match plan {
        MapPlan::Fixed(_) => "one id, the caller's own",
        MapPlan::Block if plan.setup_ids(program).uid == 0 => {
            "65536 ids, a block of its own for each sandbox"
        }
        MapPlan::Block => "one id, a spare one for each sandbox",
    };
    Some(text.to_owned())
}

/// An empty directory for the time of a try.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("belljar-probe-{}-{number}", std::process::id()));
        // An existing one is an error: somebody else made it.
        let made = DirBuilder::new().mode(0o700).create(&path);
        let failed = |error| {
            let what = format!("making the directory {}", path.display());
            Error::os(Step::MountSource, what, error)
                .with_path(&path)
                .with_hint("name a directory that this user can write to in `TMPDIR`")
        };
        made.map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing was put into it; if it is gone already, that is as good.
        std::fs::remove_dir(Path::new(&self.0)).ok();
    }
}
