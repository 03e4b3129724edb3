//! Documents and what they stand for, and documents that stand for nothing.

use std::time::Duration;

use belljar::{
    BlockDevice, Bytes, CgroupParent, CpuMax, CpuSet, DeviceAccess, DeviceRules, Feature, IoMax, IoPriority,
    Landlock, LandlockAccess, Limits, Mount, Needs, Resource, Rootfs, Sandbox, Scheduler, Seccomp,
    SyscallAction, SyscallArg, Upper, UserMap,
};

/// Each with the calls that it stands for.
pub(crate) fn all() -> Vec<(&'static str, Sandbox)> {
    let mut all = basics();
    all.extend(roots());
    all.extend(limits());
    all.extend(filters());
    all.extend(rules());
    all
}

fn basics() -> Vec<(&'static str, Sandbox)> {
    vec![
        ("", Sandbox::new()),
        ("preset = 'new'", Sandbox::new()),
        ("preset = 'bare'", Sandbox::bare()),
        ("preset = 'judge'", Sandbox::judge()),
        ("preset = 'plugin'", Sandbox::plugin()),
        (
            "share = ['net', 'pid', 'ipc', 'uts', 'cgroup', 'time', 'user']",
            Sandbox::new()
                .share_net()
                .share_pid()
                .share_ipc()
                .share_uts()
                .share_cgroup()
                .share_time()
                .share_user(),
        ),
        (
            "preset = 'bare'\nunshare = ['user', 'pid', 'mount', 'net', 'ipc', 'uts', 'cgroup', 'time']",
            Sandbox::bare().user_ns().pid_ns().mount_ns().net_ns().ipc_ns().uts_ns().cgroup_ns().time_ns(),
        ),
        ("root = true", Sandbox::new().root()),
        ("preset = 'bare'\nuser = { uid = 1, gid = 4294967294 }", Sandbox::bare().user(1, u32::MAX - 1)),
        ("user_map = 'subids'", Sandbox::new().user_map(UserMap::subids())),
        ("preset = 'bare'\nuser_map = 'auto'", Sandbox::bare().user_map(UserMap::auto())),
        (
            "[user_map]\nids = [{ inside = 0, outside = 100000, count = 1000 }]\n\
             gids = [{ inside = 5000, outside = 200000, count = 1 }]",
            Sandbox::new().user_map(UserMap::new().ids(0, 100_000, 1000).gids(5000, 200_000, 1)),
        ),
        (
            "user_map = { uids = [{ inside = 0, outside = 1, count = 2 }] }",
            Sandbox::new().user_map(UserMap::new().uids(0, 1, 2)),
        ),
        (
            "hostname = 'häuschen'\ndomain_name = 'example.org'",
            Sandbox::new().hostname("häuschen").domain_name("example.org"),
        ),
        (
            "monotonic_offset = -5\nboottime_offset = '9223372036854775807'",
            Sandbox::new().monotonic_offset(-5).boottime_offset(i64::MAX),
        ),
        ("deterministic = true", Sandbox::new().deterministic()),
        (
            "preset = 'bare'\ndeterministic = true\nmonotonic_offset = 0\nhostname = 'a'\ninherit_env = true\n\
             [env]\nTZ = 'CET'\nLANG = 'C'\nPATH = '/bin'",
            Sandbox::bare()
                .deterministic()
                .monotonic_offset(0)
                .hostname("a")
                .inherit_env()
                // A variable that is set again counts where it is set last, which is how it is written.
                .env("TZ", "CET")
                .env("LANG", "C")
                .env("PATH", "/bin"),
        ),
        (
            "inherit_env = true\n[env]\nB = ''\nA = \"two\\nlines and \\u0001\"\n\"odd name\" = 'ü'",
            Sandbox::new().inherit_env().env("B", "").env("A", "two\nlines and \u{1}").env("odd name", "ü"),
        ),
        (
            "wall_time = '90s'\ncpu_time = '1500ms'\nidle_time = '1us'\nextra_time = '1ns'\noutput_max = '1MiB'",
            Sandbox::new()
                .wall_time(Duration::from_secs(90))
                .cpu_time(Duration::from_millis(1500))
                .idle_time(Duration::from_micros(1))
                .extra_time(Duration::from_nanos(1))
                .output_max(Bytes::mib(1)),
        ),
        ("wall_time = '2h'\ncpu_time = '3m'\noutput_max = 'max'", {
            let time = Sandbox::new().wall_time(Duration::from_secs(7200)).cpu_time(Duration::from_secs(180));
            time.output_max(Bytes::MAX)
        }),
        (
            "[rlimit]\nnofile = 64\nstack = { soft = '8MiB', hard = 'max' }\ncore = 'max'\nnice = 20\nas = 1000",
            Sandbox::new()
                .rlimit(Resource::Nofile, 64, 64)
                .rlimit(Resource::Stack, 8 << 20, u64::MAX)
                .rlimit(Resource::Core, u64::MAX, u64::MAX)
                .rlimit(Resource::Nice, 20, 20)
                .rlimit(Resource::As, 1000, 1000),
        ),
        (
            "scheduler = { fifo = 99 }\nnice = -20\nio_priority = { real_time = 7 }\ncpu_affinity = '0-2,8'",
            Sandbox::new()
                .scheduler(Scheduler::Fifo(99))
                .nice(-20)
                .io_priority(IoPriority::RealTime(7))
                .cpu_affinity([0, 1, 2, 8]),
        ),
        (
            "scheduler = { round_robin = 1 }\nio_priority = { best_effort = 0 }",
            Sandbox::new().scheduler(Scheduler::RoundRobin(1)).io_priority(IoPriority::BestEffort(0)),
        ),
        (
            "scheduler = 'idle'\nio_priority = 'idle'",
            Sandbox::new().scheduler(Scheduler::Idle).io_priority(IoPriority::Idle),
        ),
        ("scheduler = 'batch'", Sandbox::new().scheduler(Scheduler::Batch)),
        ("scheduler = 'other'", Sandbox::new().scheduler(Scheduler::Other)),
        ("preset = 'bare'\ndrop_capabilities = true", Sandbox::bare().drop_capabilities()),
        (
            "keep_capability = ['NET_BIND_SERVICE', 'cap_chown']",
            Sandbox::new().keep_capability("NET_BIND_SERVICE").keep_capability("cap_chown"),
        ),
        (
            "apparmor = 'a-profile'\nselinux = 'system_u:system_r:container_t:s0:c1,c2'",
            Sandbox::new().apparmor("a-profile").selinux("system_u:system_r:container_t:s0:c1,c2"),
        ),
        ("cross_tenant = true", Sandbox::new().cross_tenant()),
        ("preset = 'bare'\ncross_tenant = true", Sandbox::bare().cross_tenant()),
        (
            "best_effort = ['memory_max', 'net_ns']",
            Sandbox::new().best_effort_all([Feature::NetNs, Feature::MemoryMax]),
        ),
    ]
}

fn roots() -> Vec<(&'static str, Sandbox)> {
    vec![
        ("preset = 'bare'\nrootfs = 'system'", Sandbox::bare().rootfs(Rootfs::system())),
        ("rootfs = 'empty'", Sandbox::new().rootfs(Rootfs::empty())),
        (
            "[rootfs]\ndir = '/srv/root'\nwritable = true",
            Sandbox::new().rootfs(Rootfs::dir("/srv/root").writable()),
        ),
        ("rootfs = { overlay = ['/a', '/b'] }", Sandbox::new().rootfs(Rootfs::overlay(["/a", "/b"]))),
        (
            "[rootfs]\noverlay = ['/a']\nupper = { tmpfs = '64MiB', inodes = 0 }",
            Sandbox::new().rootfs(Rootfs::overlay(["/a"]).upper(Upper::tmpfs(Bytes::mib(64), 0))),
        ),
        (
            "[rootfs]\noverlay = ['/a']\n[rootfs.upper]\ndir = '/up'\nwork = '/work'\nvolatile = true\n\
             [rootfs.upper.quota]\nsize = '1GiB'\ninodes = 5",
            Sandbox::new().rootfs(
                Rootfs::overlay(["/a"]).upper(Upper::dir("/up", "/work").quota(Bytes::gib(1), 5).volatile()),
            ),
        ),
        (
            "mount = [{ bind = '/usr', target = '/opt' }, { bind_writable = '/tmp', target = '/out' }]",
            Sandbox::new().mount(Mount::bind("/usr", "/opt")).mount(Mount::bind_writable("/tmp", "/out")),
        ),
        (
            "[[mount]]\ntmpfs = '/a'\n[[mount]]\ntmpfs = '/b'\nsize = '1KiB'\ninodes = 'max'\nmode = '0700'",
            Sandbox::new()
                .mount(Mount::tmpfs("/a"))
                .mount(Mount::tmpfs("/b").size(1024).inodes(u64::MAX).mode(0o700)),
        ),
        (
            "preset = 'bare'\n[[mount]]\nproc = '/proc'\nfull = true\n[[mount]]\nproc = '/p'\n[[mount]]\ndev = '/dev'\n\
             [[mount]]\ndevpts = '/pts'\n[[mount]]\nmqueue = '/mq'",
            Sandbox::bare()
                .mount(Mount::proc("/proc").full())
                .mount(Mount::proc("/p"))
                .mount(Mount::dev("/dev"))
                .mount(Mount::devpts("/pts"))
                .mount(Mount::mqueue("/mq")),
        ),
        (
            "[[mount]]\nfile = '/f'\ncontent = \"\"\"\nline\n\"\"\"\nmode = '0755'\n\
             [[mount]]\nfile = '/g'\ncontent_hex = '00 FF'\n[[mount]]\nfile = '/h'\ncontent = ''",
            Sandbox::new()
                .mount(Mount::file("/f", "line\n").mode(0o755))
                .mount(Mount::file("/g", [0, 0xff]))
                .mount(Mount::file("/h", "")),
        ),
        (
            "[[mount]]\ndir = '/d'\nmode = '1777'\n[[mount]]\nsymlink = '../x'\ntarget = '/l'\n[[mount]]\nmask = '/m'\n\
             [[mount]]\nread_only = '/r'",
            Sandbox::new()
                .mount(Mount::dir("/d").mode(0o1777))
                .mount(Mount::symlink("../x", "/l"))
                .mount(Mount::mask("/m"))
                .mount(Mount::read_only("/r")),
        ),
    ]
}

fn limits() -> Vec<(&'static str, Sandbox)> {
    vec![
        (
            "[limits]\nmemory_max = '256MiB'\nmemory_high = 1000\nmemory_low = '1TiB'\nmemory_min = '18446744073709551614'\n\
             memory_soft = 'max'\nswappiness = 200\nswap_max = 0\noom_group = true\npids_max = 'max'\ncpu_max = 0.5\n\
             cpu_weight = 10000\ncpu_rt = { quota = '50ms', period = '1s' }\ncpuset_cpus = '0,2-3'\ncpuset_mems = '0'\n\
             io_weight = 1\nfreezable = true\npressure = true",
            Sandbox::new().limits(
                Limits::new()
                    .memory_max(Bytes::mib(256))
                    .memory_high(1000)
                    .memory_low(Bytes::gib(1024))
                    .memory_min(u64::MAX - 1)
                    .memory_soft(Bytes::MAX)
                    .swappiness(200)
                    .swap_max(0)
                    .oom_group()
                    .pids_max(u64::MAX)
                    .cpu_max(CpuMax::cpus(0.5))
                    .cpu_weight(10_000)
                    .cpu_rt(CpuMax::new(Duration::from_millis(50), Duration::from_secs(1)))
                    .cpuset_cpus([0, 2, 3])
                    .cpuset_mems(CpuSet::from([0]))
                    .io_weight(1)
                    .freezable()
                    .pressure(),
            ),
        ),
        ("[limits]\ncpu_max = 2", Sandbox::new().cpu_max(CpuMax::cpus(2.0))),
        ("[limits]\ncpu_max = 0.333", Sandbox::new().cpu_max(CpuMax::cpus(0.333))),
        (
            "[limits]\ncpu_max = { quota = 'max', period = '10ms' }",
            Sandbox::new().cpu_max(CpuMax::new(Duration::MAX, Duration::from_millis(10))),
        ),
        (
            "[[limits.io_max]]\ndevice = '/srv'\nread = '10MiB'\nwrite_iops = 'max'\n\
             [[limits.io_max]]\ndevice = '/dev/sda'\nwrite = 5\nread_iops = 7",
            Sandbox::new()
                .io_max(BlockDevice::at("/srv"), IoMax::new().read(Bytes::mib(10)).write_iops(u64::MAX))
                .io_max(BlockDevice::at("/dev/sda"), IoMax::new().write(5).read_iops(7)),
        ),
        (
            "[limits]\nhugetlb_max = [{ page_size = '1GiB', bytes = 0 }, { page_size = '2MiB', bytes = '4MiB' }]",
            Sandbox::new().hugetlb_max(Bytes::gib(1), 0).hugetlb_max(Bytes::mib(2), Bytes::mib(4)),
        ),
        ("[limits.devices]", Sandbox::new().devices(DeviceRules::none())),
        (
            "[limits.devices]\nminimal = true\nallow = ['c 10:232 rw', 'b 7:* rwm']",
            Sandbox::new().devices(
                DeviceRules::minimal()
                    .allow_char(10, 232, DeviceAccess::READ | DeviceAccess::WRITE)
                    .allow_block(7, None, DeviceAccess::ALL),
            ),
        ),
        ("cgroup_parent = 'auto'", Sandbox::new()),
        (
            "cgroup_parent = { path = 'judge/boxes' }",
            Sandbox::new().cgroup_parent(CgroupParent::Path("judge/boxes".into())),
        ),
    ]
}

const ENGINE: &str = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": null, "syscalls": [] }"#;

fn filters() -> Vec<(&'static str, Sandbox)> {
    let engine = Seccomp::from_json(ENGINE).expect("it is a profile");
    let inline =
        Seccomp::from_json(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38}"#).expect("it is one");
    vec![
        ("allow_all_syscalls = true", Sandbox::new().allow_all_syscalls()),
        ("preset = 'bare'\n[seccomp]", Sandbox::bare().seccomp(Seccomp::new())),
        ("preset = 'plugin'\n[seccomp]\nprofile = 'new'", Sandbox::plugin().seccomp(Seccomp::new())),
        ("[seccomp]\nprofile = 'strict'\notherwise = 'log'", {
            Sandbox::new().seccomp(Seccomp::strict().otherwise(SyscallAction::Log))
        }),
        ("[seccomp]\nallow_only = ['read', '@basic-io']\notherwise = { errno = 'ENOSYS' }", {
            let only = Seccomp::allow_only(["read", "@basic-io"]);
            Sandbox::new().seccomp(only.otherwise(SyscallAction::Errno(38)))
        }),
        (
            "[[seccomp.on]]\ncalls = ['ptrace', 'bpf']\naction = 'allow'\n\
             [[seccomp.on]]\ncalls = ['socket']\naction = 'kill'\n\
             [[seccomp.on]]\ncalls = ['connect']\naction = 'notify'\n\
             [[seccomp.on]]\ncalls = ['bind']\naction = 'trap'\n\
             [[seccomp.on]]\ncalls = ['listen']\naction = { errno = 4095 }\n\
             [[seccomp.on]]\ncalls = ['accept']\naction = { errno = 'EAGAIN' }",
            Sandbox::new().seccomp(
                Seccomp::new()
                    .allow(["ptrace", "bpf"])
                    .kill(["socket"])
                    .notify(["connect"])
                    .trap(["bind"])
                    .deny_with(["listen"], 4095)
                    .deny_with(["accept"], 11),
            ),
        ),
        (
            "[seccomp]\nprofile = 'judge'\n\
             [[seccomp.on]]\ncalls = ['socket', 'socketpair']\naction = 'allow'\n\
             conditions = [{ arg = 0, low32 = true, eq = 1 }, { arg = 1, ne = -1 }]\n\
             [[seccomp.on]]\ncalls = ['read']\naction = { errno = 'EPERM' }\n\
             conditions = [{ arg = 2, lt = 1 }, { arg = 2, le = 2 }, { arg = 2, gt = 3 }, { arg = 2, ge = 0x10 }, \
             { arg = 0, masked_eq = { mask = '0xffffffffffffffff', value = 5 } }]",
            {
                let of_unix = || [SyscallArg::new(0).low32().eq(1), SyscallArg::new(1).ne(-1)];
                let arg = || SyscallArg::new(2);
                let odd = [
                    arg().lt(1),
                    arg().le(2),
                    arg().gt(3),
                    arg().ge(16),
                    SyscallArg::new(0).masked_eq(u64::MAX, 5),
                ];
                Sandbox::new().seccomp(
                    Seccomp::judge()
                        .allow_if("socket", of_unix())
                        .allow_if("socketpair", of_unix())
                        .deny_if("read", odd),
                )
            },
        ),
        (
            "[seccomp]\nfrom_json = '''{ \"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": null, \"syscalls\": [] }'''\n\
             [[seccomp.on]]\ncalls = ['ptrace']\naction = { errno = 1 }",
            Sandbox::new().seccomp(engine.deny(["ptrace"])),
        ),
        (
            "[seccomp]\nallow_only = ['read', 'socket']\notherwise = { errno = 'EPERM' }\n[seccomp.within]\nprofile = 'judge'\n\
             [landlock]\n[[landlock.rule]]\npath = '/usr/bin'\naccess = ['read_file']\noptional = true\n\
             [[landlock.rule]]\nconnect_tcp = 80\n[[landlock.rule]]\nbind_tcp = 8080",
            narrowed(),
        ),
        // In the document itself, which is the same profile.
        (
            "[seccomp.from_json]\ndefaultAction = 'SCMP_ACT_ERRNO'\ndefaultErrnoRet = 38",
            Sandbox::new().seccomp(inline),
        ),
    ]
}

/// Something that was learned, under a sandbox that allows less of some of it.
fn narrowed() -> Sandbox {
    let needs =
        "syscall read\nsyscall socket\nread_file /usr/bin\nconnect 127.0.0.1:80\nbind 127.0.0.1:8080\n";
    let needs: Needs = needs.parse().expect("these are needs");
    needs.apply(Sandbox::judge().landlock(Landlock::new().system().connect_tcp(80).bind_tcp(8080)))
}

fn rules() -> Vec<(&'static str, Sandbox)> {
    vec![
        ("[landlock]", Sandbox::new().landlock(Landlock::new())),
        (
            "preset = 'bare'\n[landlock]\npreset = 'bare'\nrestrict_tcp = true\nscope_abstract_sockets = true\n\
             scope_signals = true",
            Sandbox::bare()
                .landlock(Landlock::bare().restrict_tcp().scope_abstract_sockets().scope_signals()),
        ),
        (
            "[landlock]\nabi = 4\nsystem = true\nread = ['/a', '/b']\nwrite = ['/c']\nexecute = ['/d']\n\
             bind_tcp = [80, 443]\nconnect_tcp = [0]\n\
             [[landlock.rule]]\npath = '/e'\naccess = ['read_file', 'write', 'ioctl_dev']",
            Sandbox::new().landlock(
                Landlock::new()
                    .abi(4)
                    .system()
                    .read("/a")
                    .read("/b")
                    .write("/c")
                    .execute("/d")
                    .rule("/e", LandlockAccess::READ_FILE | LandlockAccess::WRITE | LandlockAccess::IOCTL_DEV)
                    .bind_tcp(80)
                    .bind_tcp(443)
                    .connect_tcp(0),
            ),
        ),
        (
            "[landlock]\nshare_tcp = true\nshare_abstract_sockets = true\nshare_signals = true",
            Sandbox::new().landlock(Landlock::new().share_tcp().share_abstract_sockets().share_signals()),
        ),
        // Rules in another order than that of the short keys.
        (
            "[[landlock.rule]]\npath = '/w'\naccess = ['write']\n[[landlock.rule]]\nsystem = true\n\
             [[landlock.rule]]\npath = '/r'\naccess = ['read']",
            Sandbox::new().landlock(Landlock::new().write("/w").system().read("/r")),
        ),
    ]
}

/// Documents that are no policy, and what their error names: the key with its line.
pub(crate) const WRONG: &[(&str, &str)] = &[
    ("colour = 1", "colour (line 1) is no key"),
    ("\n\n[limits]\nmemory_mx = 1", "limits.memory_mx (line 4) is no key"),
    ("[[mount]]\nproc = '/p'\n[[mount]]\nproc = '/q'\nfoo = 1", "mount[1].foo (line 5) is no key"),
    ("[\"a b\"]", "\"a b\" (line 1) is no key"),
    (
        "[rootfs]\noverlay = ['/a']\nupper = { tmpfs = 1, inodes = 1, x = 1 }",
        "rootfs.upper.x (line 3) is no key",
    ),
    ("preset = 'open'", "preset (line 1) is unknown: \"open\""),
    ("preset = true", "preset (line 1) is a boolean"),
    ("preset = ", "line 1"),
    ("nice = 1\nnice = 2", "line 2"),
    ("[limits]\n[limits]", "line 2"),
    ("limits = 1979-05-27", "limits (line 1) is a date or time"),
    ("share = 'net'", "share (line 1) is a string, not a list"),
    ("share = []", "share (line 1) is an empty list"),
    ("share = ['mount']", "share[0] (line 1) is unknown: \"mount\""),
    ("share = ['net', 'net']", "share[1] (line 1) names a namespace for the second time"),
    ("share = ['net']\nunshare = ['net']", "names a namespace for the second time"),
    ("unshare = [7]", "unshare[0] (line 1) is an integer"),
    ("share = ['uts']\nhostname = 'a'", "share = [\"uts\"] and hostname"),
    ("share = ['uts']\ndomain_name = 'a'", "share = [\"uts\"] and domain_name"),
    ("share = ['time']\nboottime_offset = 1", "share = [\"time\"] and boottime_offset"),
    ("share = ['time']\nmonotonic_offset = 1", "share = [\"time\"] and monotonic_offset"),
    ("share = ['user']\nroot = true", "share = [\"user\"] and root"),
    ("share = ['user']\nuser_map = 'auto'", "share = [\"user\"] and user_map"),
    ("root = true\nuser = { uid = 1, gid = 1 }", "both user and root"),
    ("root = false", "root (line 1) is false"),
    ("root = 'yes'", "root (line 1) is a string, not true"),
    ("user = { uid = 1 }", "user (line 1) lacks gid"),
    ("user = { uid = -1, gid = 1 }", "user.uid (line 1) is out of range: -1"),
    ("user = { uid = 4294967296, gid = 1 }", "user.uid (line 1) is out of range"),
    ("user_map = 'all'", "user_map (line 1) is unknown"),
    ("user_map = { ids = [{ inside = 0 }] }", "user_map.ids[0] (line 1) lacks outside"),
    ("hostname = 7", "hostname (line 1) is an integer, not a string"),
    ("monotonic_offset = 9223372036854775808", "monotonic_offset (line 1) is out of range"),
    ("monotonic_offset = 1.0", "monotonic_offset (line 1) is a floating-point number"),
    ("monotonic_offset = '1s'", "monotonic_offset (line 1) is no whole number"),
    ("wall_time = 10", "wall_time (line 1) is an integer, not a duration"),
    ("wall_time = '10'", "wall_time (line 1) is no duration"),
    ("wall_time = '-1s'", "wall_time (line 1) is no duration"),
    ("wall_time = '1.5s'", "wall_time (line 1) is no duration"),
    ("wall_time = '99999999999999999999h'", "wall_time (line 1) is no duration, or too large"),
    ("output_max = '1MB'", "output_max (line 1) is no size"),
    ("output_max = -1", "output_max (line 1) is out of range: -1"),
    ("output_max = 1.0", "output_max (line 1) is a floating-point number"),
    ("output_max = '99999999TiB'", "output_max (line 1) is no size, or too large"),
    ("rootfs = 'host'", "rootfs (line 1) is unknown"),
    ("[rootfs]", "rootfs (line 1) does not say what it is"),
    ("rootfs = { dir = '/', overlay = ['/'] }", "rootfs (line 1) has both dir and overlay"),
    (
        "[rootfs]\ndir = '/'\nupper = { tmpfs = 1, inodes = 1 }",
        "rootfs.upper (line 3) has no effect on a root of kind dir",
    ),
    ("[rootfs]\noverlay = ['/']\nwritable = true", "rootfs.writable (line 3) has no effect"),
    ("[rootfs]\noverlay = ['/']\nupper = { tmpfs = 1 }", "rootfs.upper (line 3) lacks inodes"),
    (
        "[rootfs]\noverlay = ['/']\nupper = { tmpfs = 1, inodes = 1, volatile = true }",
        "has no effect on an upper of kind tmpfs",
    ),
    ("[rootfs]\noverlay = ['/']\nupper = { dir = '/u' }", "rootfs.upper (line 3) lacks work"),
    ("mount = { proc = '/p' }", "mount (line 1) is a table, not a list"),
    ("mount = []", "mount (line 1) is an empty list"),
    ("[[mount]]\ntarget = '/a'", "mount[0] (line 1) does not say what it is"),
    ("[[mount]]\nbind = '/a'", "mount[0] (line 1) lacks target"),
    ("[[mount]]\nbind = '/a'\nbind_writable = '/a'\ntarget = '/a'", "both bind and bind_writable"),
    (
        "[[mount]]\nbind = '/a'\ntarget = '/a'\nsize = 1",
        "mount[0].size (line 4) has no effect on a mount of kind bind",
    ),
    ("[[mount]]\nproc = '/a'\nmode = '0755'", "mount[0].mode (line 3) has no effect"),
    ("[[mount]]\ntmpfs = '/a'\nfull = true", "mount[0].full (line 3) has no effect"),
    ("[[mount]]\nfile = '/a'", "mount[0] (line 1) has no content"),
    ("[[mount]]\nfile = '/a'\ncontent = ''\ncontent_hex = ''", "both content and content_hex"),
    ("[[mount]]\nfile = '/a'\ncontent_hex = '0'", "mount[0].content_hex (line 3) is no bytes"),
    ("[[mount]]\ndir = '/a'\nmode = 755", "mount[0].mode (line 3) is no permission bits"),
    ("[[mount]]\ndir = '/a'\nmode = '0o755'", "mount[0].mode (line 3) is no permission bits"),
    ("limits = []", "limits (line 1) is a list, not a table"),
    ("[limits]\nmemory_max = '1 GB'", "limits.memory_max (line 2) is no size"),
    ("[limits]\nmemory_max = true", "limits.memory_max (line 2) is a boolean, not a size"),
    ("[limits]\npids_max = -1", "limits.pids_max (line 2) is out of range"),
    ("[limits]\npids_max = 'many'", "limits.pids_max (line 2) is no whole number"),
    ("[limits]\ncpu_max = 0", "limits.cpu_max (line 2) is no number of processors"),
    ("[limits]\ncpu_max = -0.5", "limits.cpu_max (line 2) is no number of processors"),
    ("[limits]\ncpu_max = '1'", "limits.cpu_max (line 2) is no share"),
    ("[limits]\ncpu_max = { quota = '1s' }", "limits.cpu_max (line 2) lacks period"),
    ("[limits]\nswappiness = 4294967296", "limits.swappiness (line 2) is out of range"),
    ("[limits]\ncpuset_cpus = '3-1'", "limits.cpuset_cpus (line 2) is wrong: \"3-1\" is no list"),
    ("[limits]\ncpuset_cpus = [1]", "limits.cpuset_cpus (line 2) is no list of numbers in a string"),
    ("[limits]\noom_group = false", "limits.oom_group (line 2) is false"),
    ("[limits]\ndevices = { allow = ['c 1:3'] }", "limits.devices.allow[0] (line 2) is no rule"),
    ("[limits]\nio_max = [{ read = 1 }]", "limits.io_max[0] (line 2) lacks device"),
    ("cgroup_parent = 'none'", "cgroup_parent (line 1) is unknown"),
    ("[rlimit]\nmemory = 1", "rlimit.memory (line 2) is no resource"),
    ("[rlimit]\nNOFILE = 1", "rlimit.NOFILE (line 2) is no resource"),
    ("[rlimit]\nnofile = { soft = 1 }", "rlimit.nofile (line 2) lacks hard"),
    ("[rlimit]\nnofile = '1KiB'", "rlimit.nofile (line 2) is no whole number"),
    ("scheduler = 'fifo'", "scheduler (line 1) is unknown"),
    ("scheduler = { fifo = 1, round_robin = 1 }", "both fifo and round_robin"),
    ("io_priority = {}", "io_priority (line 1) does not say what it is"),
    ("cpu_affinity = '0x1'", "cpu_affinity (line 1) is wrong"),
    ("keep_capability = 'CHOWN'", "keep_capability (line 1) is a string, not a list"),
    ("allow_all_syscalls = true\n[seccomp]", "both seccomp and allow_all_syscalls"),
    (
        "[seccomp]\nprofile = 'judge'\nallow_only = ['read']",
        "seccomp (line 1) has both profile and allow_only",
    ),
    ("[seccomp]\notherwise = 'errno'", "seccomp.otherwise (line 2) is unknown"),
    ("[seccomp]\notherwise = { errno = 'EWHAT' }", "seccomp.otherwise.errno (line 2) is no errno"),
    ("[seccomp]\notherwise = { errno = 1, x = 2 }", "seccomp.otherwise.x (line 2) is no key"),
    (
        "[seccomp]\nfrom_json = '{}'",
        "seccomp.from_json (line 2) is wrong: the seccomp profile cannot be read",
    ),
    ("[seccomp]\nfrom_json = 1", "seccomp.from_json (line 2) is no seccomp profile"),
    ("[[seccomp.on]]\naction = 'kill'", "seccomp.on[0] (line 1) lacks calls"),
    ("[[seccomp.on]]\ncalls = []\naction = 'kill'", "seccomp.on[0].calls (line 2) is an empty list"),
    ("[[seccomp.on]]\ncalls = ['read']", "seccomp.on[0] (line 1) lacks action"),
    (
        "[[seccomp.on]]\ncalls = ['read']\naction = 'kill'\nconditions = [{ eq = 1 }]",
        "seccomp.on[0].conditions[0] (line 4) lacks arg",
    ),
    (
        "[[seccomp.on]]\ncalls = ['read']\naction = 'kill'\nconditions = [{ arg = 1 }]",
        "conditions[0] (line 4) does not say",
    ),
    (
        "[[seccomp.on]]\ncalls = ['read']\naction = 'kill'\nconditions = [{ arg = 1, eq = 1, ne = 2 }]",
        "both eq and ne",
    ),
    (
        "[[seccomp.on]]\ncalls = ['read']\naction = 'kill'\nconditions = [{ arg = 256, eq = 1 }]",
        "conditions[0].arg (line 4) is out of range",
    ),
    ("[landlock]\nread = []", "landlock.read (line 2) is an empty list"),
    ("[landlock]\nbind_tcp = [65536]", "landlock.bind_tcp[0] (line 2) is out of range"),
    ("[landlock]\nshare_tcp = true\nbind_tcp = [1]", "both share_tcp and bind_tcp"),
    ("[landlock]\nshare_signals = true\nscope_signals = true", "both share_signals and scope_signals"),
    ("[[landlock.rule]]\npath = '/a'", "landlock.rule[0] (line 1) lacks access"),
    ("[[landlock.rule]]\npath = '/a'\naccess = ['fly']", "landlock.rule[0].access[0] (line 3) is no right"),
    ("[[landlock.rule]]\nsystem = true\naccess = ['read']", "landlock.rule[0].access (line 3) has no effect"),
    ("[env]\nA = 1", "env.A (line 2) is an integer, not a string"),
    ("env = ['A=1']", "env (line 1) is a list, not a table"),
    ("best_effort = ['memory']", "best_effort[0] (line 1) names no feature"),
];
