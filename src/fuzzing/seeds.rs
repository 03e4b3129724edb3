//! Where fuzzing starts: small inputs of each form that a target knows, good and bad. They are made here and checked in
//! below `fuzz/seeds`, beside inputs that once broke something.

use std::ffi::CStr;

use crate::Step;
use crate::command::Command;
use crate::lowering::{Lowering, SourceMode};
use crate::run_image;
use crate::wire::{Confine, Setup, Source, section};

/// Inputs and what they are called.
pub(super) type Seeds = Vec<(&'static str, Vec<u8>)>;

pub(super) fn wire() -> Seeds {
    let path: &CStr = c"/tmp";
    let setup = [
        Setup::BecomeIds { uid: 0, gid: 1000 },
        Setup::Await {},
        Setup::Hostname { name: b"jar" },
        Setup::TimeOffsets { offsets: b"monotonic 1 0\n" },
        Setup::ClocksStart { seconds: -1 },
        Setup::RootBind { source: Source::Slot(512), attributes: 1 },
        Setup::Layer { source: Source::Path(path), number: 3 },
        Setup::RootOverlay { options: c"lowerdir=0", attributes: 7 },
        Setup::BindFile { path, content: b"\0\xff", mode: 0o644, number: 100_001 },
        Setup::Filesystem { kind: c"tmpfs", path, options: c"size=1", attributes: 6 },
        Setup::Devpts { path, attributes: 10 },
        Setup::Mask { path, null: Source::Slot(1) },
        Setup::AllowPath { path, access: 1 << 15, on_file: 4, optional: 1 },
        Setup::Pivot {},
    ];
    let confine = [
        Confine::Join { slot: 8, version: 2 },
        Confine::Rlimit { resource: 7, soft: 64, hard: u64::MAX },
        Confine::Verify { uid: 1, gid: 2, keep: 3, flags: 7 },
        Confine::Nice { value: -20 },
        Confine::Affinity { mask: &[1; 8] },
        Confine::SeccompListened { program: &[6; 8], token: 9, asked: &[0; 8] },
    ];
    let mut lowering = Lowering::new(SourceMode::Descriptors);
    setup.iter().for_each(|operation| lowering.setup(Step::Mount, "x", None, operation));
    for (number, operation) in (0..).zip(&confine) {
        lowering.confine(section::JOIN + number % 3, Step::Session, "x", operation);
    }
    let (plan, ..) = lowering.finish().expect("it is small");
    let operations = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        bytes
    };
    let mut command = Command::new("prog");
    command.args(["a", ""]).env("PATH", "/x::/y").current_dir("/tmp");
    let run = run_image::encode(&command, &[], vec![(1, 0), (2, 7)]).expect("it is small");
    vec![
        ("plan", plan),
        ("setup", operations(&|bytes| setup.iter().for_each(|operation| operation.encode(bytes)))),
        ("confine", operations(&|bytes| confine.iter().for_each(|operation| operation.encode(bytes)))),
        ("run", run),
        ("command", b"prog\nA=1\n/tmp\n\n-x\nA=2\nB=".to_vec()),
        ("usage", b"usage_usec 1234\nuser_usec 1\n".to_vec()),
        ("times", [1_u64, 2, 3, 4, 5, u64::MAX].into_iter().flat_map(u64::to_le_bytes).collect()),
    ]
}

#[cfg(feature = "serde")]
pub(super) fn profile() -> Seeds {
    let seed = |text: &str| text.as_bytes().to_vec();
    vec![
        ("empty", seed(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#)),
        (
            "allow-list",
            seed(
                r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
"syscalls":[{"names":["read","write","clone3"],"action":"SCMP_ACT_ALLOW"},{"names":["kill"],"action":"SCMP_ACT_TRAP"}]}"#,
            ),
        ),
        (
            "arguments",
            seed(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
{"names":["socket"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"},{"index":1,"value":4294967296,"op":"SCMP_CMP_LT"}]},
{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"args":[{"index":0,"value":16,"op":"SCMP_CMP_NE"}]},
{"names":["clone"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
{"names":["ioctl"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":21522,"op":"SCMP_CMP_GE"},{"index":1,"value":21533,"op":"SCMP_CMP_LE"},{"index":5,"value":18446744073709551615,"op":"SCMP_CMP_GT"}]}]}"#,
            ),
        ),
        (
            "conditions",
            seed(
                r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
"syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","comment":"x","includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390x"]}},
{"names":["ptrace"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{"minKernel":"4.8"},"excludes":{}}]}"#,
            ),
        ),
        (
            "refused",
            seed(r#"{"defaultAction":"SCMP_ACT_NOTIFY","syscalls":[],"flags":["SECCOMP_FILTER_FLAG_LOG"]}"#),
        ),
    ]
}

pub(super) fn proc_text() -> Seeds {
    let seed = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "hybrid",
            seed(
                "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                 32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:3 - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 /docker/a\\040b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup  rw,xattr,name=systemd\n\
                 41 31 0:38 / /sys/fs/cgroup/uni\\134fied rw - cgroup2 cgroup2 rw,nsdelegate\n\
                 \x009:name=systemd:/init.scope\n4:memory:/docker/a b/x:76\n2:cpu,cpuacct:/user\n0::/user.slice\n",
            ),
        ),
        ("above", seed("1 0 0:1 /.. /sys/fs/cgroup rw - cgroup2 none rw\n\x000::/../../victim\n")),
        (
            "masks",
            seed(
                "600 1 0:5 / /proc rw,nosuid - proc proc rw,subset=pid\n\
                 601 600 0:6 /null /proc/kcore rw - tmpfs tmpfs rw\n",
            ),
        ),
        ("box", seed("belljar-4026531836-1234-987654321-18446744073709551615")),
        (
            "stat",
            seed(
                "1234 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654321 1 1 18446744073709551615\n",
            ),
        ),
        ("counters", seed("oom 3\noom_kill 2\nusage_usec 15\n8:0 rbytes=1 wbytes=2 rios=1\n")),
        (
            "pressure",
            seed(
                "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234567\nfull avg10=0.00 avg60=0 avg300=0 total=89\n",
            ),
        ),
        ("cpus", seed("0-3,8,10-11")),
        ("swaps", seed("Filename\tType\tSize\tUsed\tPriority\n/swap\\040file file 1 2 -2\n")),
        ("choice", seed("always [madvise] never\n")),
        ("load", seed("0.52 0.58 0.59 1/595 12345\n")),
        ("subuid", seed("root:1:1\n1000:4294967290:65536\n")),
        (
            "kernel-log",
            seed(
                "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
                 oom_memcg=/a/belljar-1-2-3-4,task_memcg=/a/belljar-1-2-3-4,task=tail,pid=713,uid=1000\n\
                 3,2,3,-;Memory cgroup out of memory: Killed process 713 (a\\x20) (b) total-vm:35064kB, \
                 anon-rss:32640kB, file-rss:1196kB, shmem-rss:4kB, UID:1000 pgtables:108kB\n",
            ),
        ),
        ("map", seed("         0     100000      65536\n")),
        ("release", seed("6.18.0-rc1-amd64")),
    ]
}

/// The policies of the examples, and one with what they lack, in both formats.
#[cfg(feature = "serde")]
pub(super) fn policy() -> Seeds {
    let many = "preset = 'bare'\nunshare = ['user', 'pid']\nuser_map = { ids = [{ inside = 0, outside = 1, count = 2 }] }\n\
                rootfs = { overlay = ['/a'], upper = { dir = '/u', work = '/w', quota = { size = 1, inodes = 2 } } }\n\
                scheduler = { fifo = 1 }\nio_priority = 'idle'\ncpu_affinity = '0-3,8'\ncgroup_parent = { path = 'x' }\n\
                [[mount]]\nfile = '/f'\ncontent_hex = '00ff'\n[[mount]]\nbind = '/a'\ntarget = '/b'\n[[mount]]\n\
                tmpfs = '/t'\nmode = '0700'\n[limits]\ncpu_rt = { quota = 'max', period = '1s' }\ndevices = { minimal = \
                true, allow = ['c 10:* rw'] }\n[[limits.io_max]]\ndevice = '/'\nread = '1KiB'\n[seccomp]\nallow_only = \
                ['@basic-io']\n[[seccomp.on]]\ncalls = ['read']\naction = { errno = 'EPERM' }\nconditions = [{ arg = 1, \
                masked_eq = { mask = '0xff', value = -1 } }]\n[seccomp.within]\nprofile = 'judge'\n[landlock]\nsystem = \
                true\nread = ['/']\n[[landlock.rule]]\npath = '/a'\naccess = ['read', 'refer']\n";
    let json = crate::Sandbox::from_toml(many).and_then(|sandbox| sandbox.to_json()).expect("it is a policy");
    vec![
        ("judge", include_bytes!("../../examples/policies/judge.toml").to_vec()),
        ("server", include_bytes!("../../examples/policies/server.toml").to_vec()),
        ("unprivileged", include_bytes!("../../examples/policies/unprivileged.toml").to_vec()),
        ("many", many.as_bytes().to_vec()),
        ("json", json.into_bytes()),
    ]
}
