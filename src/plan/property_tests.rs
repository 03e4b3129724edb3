//! Any policy that can be written, sensible or not: it plans or it is refused, and a plan is what its bytes say.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::Plan;
use crate::wire::{PlanImage, Reply, section};
use crate::{
    BlockDevice, Bytes, CgroupParent, CpuMax, CpuSet, DeviceAccess, DeviceRules, Feature, IoMax, IoPriority,
    Landlock, LandlockAccess, Limits, Mount, Resource, Rootfs, Sandbox, Scheduler, Seccomp, SyscallAction,
    SyscallArg, SyscallCondition, Upper, UserMap, fuzzing,
};

/// Policies by default, and with `BELLJAR_SOAK`.
const POLICIES: [u32; 2] = [1_000, 50_000];

/// One call of the builder.
pub(crate) type Setter = std::sync::Arc<dyn Fn(Sandbox) -> Sandbox + Send + Sync>;

/// What a policy is made of, and the same in words, for the report of a failure.
#[derive(Clone)]
pub(crate) struct Word(pub(crate) &'static str, pub(crate) Setter);

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A call with one argument of some kind.
fn word<T: Clone + Send + Sync + std::fmt::Debug + 'static>(
    name: &'static str,
    argument: impl Strategy<Value = T> + 'static,
    set: impl Fn(Sandbox, T) -> Sandbox + Send + Sync + Clone + 'static,
) -> BoxedStrategy<Word> {
    argument
        .prop_map(move |argument| {
            let set = set.clone();
            Word(name, std::sync::Arc::new(move |sandbox| set(sandbox, argument.clone())))
        })
        .boxed()
}

/// Numbers at which something ends, and others.
fn number() -> BoxedStrategy<u64> {
    let edges = select(vec![0, 1, 2, 1000, 4096, 1 << 20, 1 << 30, u64::from(u32::MAX), 1 << 63, u64::MAX]);
    prop_oneof![4 => 0..100_000_u64, 3 => edges, 1 => any::<u64>()].boxed()
}

fn small() -> BoxedStrategy<u32> {
    prop_oneof![4 => 0..200_u32, 1 => select(vec![1000, 65_534, 65_535, 1 << 31, u32::MAX]), 1 => any::<u32>()].boxed()
}

fn seconds() -> BoxedStrategy<i64> {
    prop_oneof![2 => -100..100_000_i64, 1 => any::<i64>()].boxed()
}

fn time() -> BoxedStrategy<Duration> {
    prop_oneof![
        6 => (1..100_000_u64).prop_map(Duration::from_millis),
        1 => number().prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
    ]
    .boxed()
}

/// Words with any bytes in them.
fn name() -> BoxedStrategy<OsString> {
    prop_oneof![
        4 => "[a-z]{1,12}".prop_map(OsString::from),
        1 => "\\PC{0,70}".prop_map(OsString::from),
        1 => vec(any::<u8>(), 0..80).prop_map(OsString::from_vec),
        1 => select(vec!["", "\n", "a\nb", "a\0b", "=", "A=B", "\x1b[2J", "."]).prop_map(OsString::from),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    name().prop_map(|name| name.to_string_lossy().into_owned()).boxed()
}

/// What is there on every host.
fn source() -> BoxedStrategy<PathBuf> {
    let there =
        select(vec!["/", "/usr", "/usr/bin", "/etc/passwd", "/tmp", "/proc", "/dev/null", "/proc/self"]);
    prop_oneof![6 => there.prop_map(PathBuf::from), 1 => path()].boxed()
}

/// A path of whatever kind.
fn path() -> BoxedStrategy<PathBuf> {
    let odd = select(vec![
        "",
        ".",
        "..",
        "/..",
        "x",
        "a/b",
        "/a/../b",
        "//a//b/",
        "/no/such/file",
        "/a\nb",
        "/a\0b",
    ]);
    prop_oneof![
        6 => "(/[a-z]{1,8}){1,4}".prop_map(PathBuf::from),
        2 => odd.prop_map(PathBuf::from),
        1 => name().prop_map(|name| PathBuf::from("/").join(name)),
        1 => (1..5000_usize).prop_map(|length| PathBuf::from(format!("/{}", "x".repeat(length)))),
    ]
    .boxed()
}

fn mount() -> BoxedStrategy<Mount> {
    let plain = prop_oneof![
        3 => (source(), path()).prop_map(|(source, target)| Mount::bind(source, target)),
        1 => (source(), path()).prop_map(|(source, target)| Mount::bind_writable(source, target)),
        2 => path().prop_map(Mount::tmpfs),
        1 => path().prop_map(Mount::proc),
        1 => path().prop_map(Mount::dev),
        1 => path().prop_map(Mount::devpts),
        1 => path().prop_map(Mount::mqueue),
        2 => (path(), vec(any::<u8>(), 0..50)).prop_map(|(target, content)| Mount::file(target, content)),
        1 => path().prop_map(Mount::dir),
        1 => (name(), path()).prop_map(|(to, target)| Mount::symlink(to, target)),
        1 => path().prop_map(Mount::mask),
        1 => path().prop_map(Mount::read_only),
    ];
    let set = prop_oneof![
        6 => Just(None),
        1 => (0..4_u8, number()).prop_map(Some),
    ];
    (plain, set)
        .prop_map(|(mount, set)| match set {
            None => mount,
            Some((0, number)) => mount.size(number),
            Some((1, number)) => mount.inodes(number),
            #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
            Some((2, number)) => mount.mode(number as u32),
            Some(_) => mount.full(),
        })
        .boxed()
}

fn rootfs() -> BoxedStrategy<Rootfs> {
    let plain = prop_oneof![
        3 => Just(()).prop_map(|()| Rootfs::system()),
        2 => Just(()).prop_map(|()| Rootfs::empty()),
        1 => source().prop_map(Rootfs::dir),
        2 => vec(source(), 0..4).prop_map(Rootfs::overlay),
    ];
    let upper = prop_oneof![
        3 => Just(None),
        2 => (number(), number()).prop_map(|(size, inodes)| Some(Upper::tmpfs(size, inodes))),
        1 => (path(), path()).prop_map(|(upper, work)| Some(Upper::dir(upper, work).volatile().into())),
        1 => (path(), path(), number(), number())
            .prop_map(|(upper, work, size, inodes)| Some(Upper::dir(upper, work).quota(size, inodes).into())),
    ];
    (plain, upper, any::<bool>())
        .prop_map(|(root, upper, writable)| {
            let root = if writable { root.writable() } else { root };
            upper.into_iter().fold(root, Rootfs::upper)
        })
        .boxed()
}

fn limits() -> BoxedStrategy<Limits> {
    type Set = fn(Limits, u64) -> Limits;
    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    const SETTERS: [Set; 16] = [
        |limits, n| limits.memory_max(n),
        |limits, n| limits.memory_high(n),
        |limits, n| limits.memory_low(n),
        |limits, n| limits.memory_min(n),
        |limits, n| limits.memory_soft(n),
        |limits, n| limits.swap_max(n),
        |limits, n| limits.swappiness(n as u32),
        |limits, _| limits.oom_group(),
        |limits, n| limits.pids_max(n),
        |limits, n| limits.cpu_weight(n as u32),
        |limits, n| limits.cpu_max(CpuMax::new(Duration::from_micros(n), Duration::from_millis(100))),
        |limits, n| limits.cpu_rt(CpuMax::new(Duration::from_micros(n), Duration::from_micros(n))),
        |limits, n| limits.io_weight(n as u32),
        |limits, n| limits.hugetlb_max(Bytes::mib(2), n),
        |limits, _| limits.freezable(),
        |limits, _| limits.pressure(),
    ];
    let simple = vec((select(SETTERS.to_vec()), number()), 0..3);
    let processors = prop::option::weighted(0.2, vec(small(), 0..3));
    let device = prop::option::weighted(0.1, (source(), number()));
    let rules = prop::option::weighted(0.2, (small(), prop::option::of(small())));
    (simple, processors, device, rules)
        .prop_map(|(simple, processors, device, rules)| {
            let mut limits = simple.into_iter().fold(Limits::new(), |limits, (set, n)| set(limits, n));
            if let Some(processors) = processors {
                limits = limits.cpuset_cpus(CpuSet::from_iter(processors));
            }
            if let Some((path, n)) = device {
                limits = limits.io_max(BlockDevice::at(path), IoMax::new().read(n).write_iops(n));
            }
            if let Some((major, minor)) = rules {
                limits = limits.devices(DeviceRules::minimal().allow_char(major, minor, DeviceAccess::ALL));
            }
            limits
        })
        .boxed()
}

fn action() -> BoxedStrategy<SyscallAction> {
    use SyscallAction::*;
    prop_oneof![
        4 => select(vec![Allow, Log, Trap, Kill, Notify]),
        1 => prop_oneof![1..200_i32, any::<i32>()].prop_map(Errno),
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<SyscallCondition> {
    let wide = prop_oneof![
        4 => any::<u64>().prop_map(i128::from),
        1 => any::<i64>().prop_map(i128::from),
        1 => any::<i128>(),
    ];
    (0..7_u8, any::<bool>(), 0..7_u8, wide.clone(), wide)
        .prop_map(|(index, low, operator, a, b)| {
            let arg = SyscallArg::new(index);
            let arg = if low { arg.low32() } else { arg };
            match operator {
                0 => arg.eq(a),
                1 => arg.ne(a),
                2 => arg.lt(a),
                3 => arg.le(a),
                4 => arg.gt(a),
                5 => arg.ge(a),
                _ => arg.masked_eq(a, a & b),
            }
        })
        .boxed()
}

fn seccomp() -> BoxedStrategy<Seccomp> {
    const NAMES: [&str; 12] = [
        "read",
        "write",
        "socket",
        "clone",
        "clone3",
        "execve",
        "ioctl",
        "kill",
        "@network-io",
        "@process",
        "@none",
        "no_such_call",
    ];
    let names = || {
        let known = select(NAMES[..10].to_vec()).prop_map(str::to_owned);
        vec(prop_oneof![12 => known, 1 => select(NAMES.to_vec()).prop_map(str::to_owned), 1 => text()], 0..4)
    };
    let base = prop_oneof![
        4 => Just(()).prop_map(|()| Seccomp::new()),
        1 => Just(()).prop_map(|()| Seccomp::judge()),
        1 => Just(()).prop_map(|()| Seccomp::plugin()),
        1 => Just(()).prop_map(|()| Seccomp::strict()),
        1 => names().prop_map(Seccomp::allow_only),
    ];
    let words = vec((names(), prop::option::of(vec(condition(), 0..3)), action()), 0..4);
    (base, words, prop::option::weighted(0.2, action()))
        .prop_map(|(base, words, otherwise)| {
            let filter =
                words.into_iter().fold(base, |filter, (names, conditions, action)| match conditions {
                    None => filter.on(names, action),
                    Some(conditions) => names
                        .into_iter()
                        .fold(filter, |filter, name| filter.on_if(name, conditions.clone(), action)),
                });
            otherwise.into_iter().fold(filter, Seccomp::otherwise)
        })
        .boxed()
}

fn landlock() -> BoxedStrategy<Landlock> {
    use LandlockAccess as Access;
    let access = select(vec![
        Access::READ,
        Access::WRITE,
        Access::EXECUTE,
        Access::TRUNCATE,
        Access::IOCTL_DEV,
        Access::RESOLVE_UNIX,
        Access::READ | Access::MAKE_SOCK,
    ]);
    let abi = prop_oneof![4 => 1..9_u32, 1 => small()];
    (any::<bool>(), prop::option::of(abi), vec((path(), access), 0..4), 0..32_u8, any::<u16>())
        .prop_map(|(bare, abi, rules, bits, port)| {
            let rule = |landlock: Landlock, (path, access)| landlock.rule(path, access);
            let start = if bare { Landlock::bare() } else { Landlock::new() };
            let mut landlock = rules.into_iter().fold(start, rule);
            if let Some(abi) = abi {
                landlock = landlock.abi(abi);
            }
            for bit in (0..5).filter(|bit| bits & 1 << bit != 0) {
                landlock = match bit {
                    0 => landlock.system(),
                    1 => landlock.restrict_tcp(),
                    2 => landlock.bind_tcp(port).connect_tcp(port),
                    3 => landlock.scope_abstract_sockets(),
                    _ => landlock.share_signals(),
                };
            }
            landlock
        })
        .boxed()
}

fn user_map() -> BoxedStrategy<UserMap> {
    let extents = vec((small(), small(), small()), 0..4);
    prop_oneof![
        2 => Just(()).prop_map(|()| UserMap::auto()),
        1 => Just(()).prop_map(|()| UserMap::subids()),
        2 => extents.prop_map(|extents| {
            extents.into_iter().fold(UserMap::new(), |map, (inside, outside, count)| map.ids(inside, outside, count))
        }),
        1 => (small(), small()).prop_map(|(inside, outside)| UserMap::new().uids(inside, outside, 1)),
    ]
    .boxed()
}

/// Calls that take nothing.
type Plain = (&'static str, fn(Sandbox) -> Sandbox);
const PLAIN: [Plain; 23] = [
    ("user_ns", Sandbox::user_ns),
    ("pid_ns", Sandbox::pid_ns),
    ("mount_ns", Sandbox::mount_ns),
    ("net_ns", Sandbox::net_ns),
    ("ipc_ns", Sandbox::ipc_ns),
    ("uts_ns", Sandbox::uts_ns),
    ("cgroup_ns", Sandbox::cgroup_ns),
    ("time_ns", Sandbox::time_ns),
    ("share_user", Sandbox::share_user),
    ("share_pid", Sandbox::share_pid),
    ("share_net", Sandbox::share_net),
    ("share_ipc", Sandbox::share_ipc),
    ("share_uts", Sandbox::share_uts),
    ("share_cgroup", Sandbox::share_cgroup),
    ("share_time", Sandbox::share_time),
    ("root", Sandbox::root),
    ("cross_tenant", Sandbox::cross_tenant),
    ("drop_capabilities", Sandbox::drop_capabilities),
    ("allow_all_syscalls", Sandbox::allow_all_syscalls),
    ("inherit_env", Sandbox::inherit_env),
    ("deterministic", Sandbox::deterministic),
    ("best_effort_all", |sandbox| sandbox.best_effort_all(Feature::NAMESPACES)),
    // Tried where no cgroup can be made: on version 2 a box that is made moves this process.
    ("best_effort_all of limits", |sandbox| {
        sandbox.best_effort_all(Feature::ALL).cgroup_parent(CgroupParent::Path("no/such/parent".into()))
    }),
];

/// Any call of the builder.
pub(crate) fn any_word() -> BoxedStrategy<Word> {
    let plain = select(PLAIN.to_vec()).prop_map(|(name, set)| Word(name, std::sync::Arc::new(set)));
    let scheduler = prop_oneof![
        select(vec![Scheduler::Other, Scheduler::Batch, Scheduler::Idle]),
        prop_oneof![1..100_u32, small()].prop_map(Scheduler::Fifo),
        small().prop_map(Scheduler::RoundRobin),
    ];
    let io = prop_oneof![
        Just(IoPriority::Idle),
        (0..9_u32).prop_map(IoPriority::BestEffort),
        small().prop_map(IoPriority::RealTime)
    ];
    let few = select(vec![
        Feature::Landlock,
        Feature::Scheduling,
        Feature::AppArmor,
        Feature::SeLinux,
        Feature::NetNs,
    ]);
    let capability = prop_oneof![
        3 => select(vec!["NET_BIND_SERVICE", "CAP_CHOWN", "cap_sys_admin"]).prop_map(str::to_owned),
        1 => text(),
    ];
    let rlimit = (select(Resource::ALL.to_vec()), number(), number(), any::<bool>());
    prop_oneof![
        12 => plain,
        1 => word("user_map", user_map(), Sandbox::user_map),
        1 => word("user", (small(), small()), |sandbox, (uid, gid)| sandbox.user(uid, gid)),
        3 => word("rootfs", rootfs(), Sandbox::rootfs),
        5 => word("mount", mount(), Sandbox::mount),
        1 => word("hostname", name(), Sandbox::hostname),
        1 => word("domain_name", name(), Sandbox::domain_name),
        1 => word("monotonic_offset", seconds(), Sandbox::monotonic_offset),
        1 => word("boottime_offset", seconds(), Sandbox::boottime_offset),
        1 => word("keep_capability", capability, Sandbox::keep_capability),
        1 => word("apparmor", text(), Sandbox::apparmor),
        1 => word("selinux", text(), Sandbox::selinux),
        2 => word("landlock", landlock(), Sandbox::landlock),
        2 => word("seccomp", seccomp(), Sandbox::seccomp),
        1 => word("env", (name(), name()), |sandbox, (key, value)| sandbox.env(key, value)),
        1 => word("best_effort", few, Sandbox::best_effort),
        2 => word("limits", limits(), Sandbox::limits),
        1 => word("cgroup_parent", path(), |sandbox, path| sandbox.cgroup_parent(CgroupParent::Path(path))),
        1 => word("wall_time", time(), Sandbox::wall_time),
        1 => word("cpu_time", time(), Sandbox::cpu_time),
        1 => word("idle_time", time(), Sandbox::idle_time),
        1 => word("extra_time", time(), Sandbox::extra_time),
        1 => word("output_max", number(), Sandbox::output_max),
        2 => word("rlimit", rlimit, |sandbox, (resource, a, b, ordered)| match ordered {
            true => sandbox.rlimit(resource, a.min(b), a.max(b)),
            false => sandbox.rlimit(resource, a, b),
        }),
        1 => word("scheduler", scheduler, Sandbox::scheduler),
        1 => word("nice", -25..25_i32, Sandbox::nice),
        1 => word("io_priority", io, Sandbox::io_priority),
        1 => word("cpu_affinity", vec(small(), 0..3), |sandbox, numbers| {
            sandbox.cpu_affinity(CpuSet::from_iter(numbers))
        }),
    ]
    .boxed()
}

/// A plan is what its bytes say: they are read to their end, and written again they are the same.
fn check_plan(plan: &Plan) {
    let file = std::fs::File::from(plan.0.image.try_clone().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let image = PlanImage::parse(&bytes).expect("the bytes of a plan can be read");
    assert!(fuzzing::encoded_again(image) == Some(bytes.clone()), "a plan that encodes to other bytes");

    let shown = plan.to_string();
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    let lines_below = |title: &str| {
        let below = shown.lines().skip_while(|line| *line != title).skip(1);
        below.take_while(|line| line.starts_with("  ")).count()
    };
    let operations = [
        ("init:", section::SETUP, image.setup().count()),
        ("program, as a fork of the init:", section::JOIN, image.confine(section::JOIN).count()),
        (
            "program, after its descriptors are placed and all others closed:",
            section::CONFINE,
            image.confine(section::CONFINE).count(),
        ),
        ("program, in its working directory:", section::SEAL, image.confine(section::SEAL).count()),
    ];
    for (title, section, count) in operations {
        assert_eq!(plan.0.labels[section].len(), count, "{title} {shown}");
        assert_eq!(lines_below(title), count, "{title} {shown}");
    }
    assert_eq!(lines_below("host, meanwhile, to the program's process:"), plan.0.gate.len(), "{shown}");
}

/// Whatever the init reports, there are words for it.
fn check_failures(plan: &Plan) {
    for stage in 0..14 {
        for (index, errno) in [(0, 1), (1, 0), (7, libc::ENOENT), (29, libc::EACCES), (u32::MAX, i32::MIN)] {
            let reply = Reply { stage, index, errno, ..Reply::default() };
            let error = plan.failure(&reply, Path::new("a\nb"), Path::new(""));
            assert!(!error.to_string().is_empty() && !error.to_string().contains(char::is_control));
        }
    }
}

#[test]
fn any_policy_plans_or_is_refused() {
    let soak = std::env::var_os("BELLJAR_SOAK").is_some();
    // An emulated machine gets as many fewer as it is slower.
    let slack = std::env::var("BELLJAR_TEST_SLACK").ok().and_then(|slack| slack.parse().ok()).unwrap_or(1);
    let cases = POLICIES[usize::from(soak)] / u32::max(slack, 1);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same policies in every run, but for long ones.
    let mut runner = match soak {
        true => TestRunner::new(config),
        false => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let (planned, refused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let presets: [fn() -> Sandbox; 4] = [Sandbox::new, Sandbox::bare, Sandbox::judge, Sandbox::plugin];
    let policies = (select(presets.to_vec()), vec(any_word(), 0..8));
    let result = runner.run(&policies, |(preset, words)| {
        let sandbox = words.into_iter().fold(preset(), |sandbox, Word(_, set)| set(sandbox));
        match sandbox.plan() {
            Ok(plan) => {
                check_plan(&plan);
                check_failures(&plan);
                planned.set(planned.get() + 1);
            }
            Err(error) => {
                fuzzing::check_error(&error);
                refused.set(refused.get() + 1);
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let (planned, refused) = (planned.get(), refused.get());
    // Else it would say little about one or the other.
    assert!(planned >= cases / 10 && refused >= cases / 10, "{planned} planned, {refused} refused");
}
