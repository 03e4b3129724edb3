//! What a program can learn about the machine and its users.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain, one_after_the_other};
use crate::attacks;
use crate::support::oracle;

const PROCESSES_ONLY: &str = "a `/proc` with processes only; no capability";

attacks! {
    environment_of_the_host {
        what: "reads the host's environment, which often has passwords",
        class: &["A27"],
        stopped_by: "an empty environment",
        method: Method::Inside(|_| match std::env::var_os("PATH") {
            Some(value) => Tried::Broke(format!("PATH is {value:?}")),
            None => Tried::Denied("there is no PATH".into()),
        }),
        control: Control::Without("`inherit_env()`", |sandbox| sandbox.inherit_env()),
        bare: true,
    }
    name_of_the_host {
        what: "asks for the machine's name",
        class: &["A27"],
        stopped_by: "a UTS namespace",
        method: Method::Inside(|facts| {
            let name = nix::sys::utsname::uname().map(|names| names.nodename().to_string_lossy().into_owned());
            match name {
                Ok(name) if name == facts.get("hostname") => Tried::Broke(name),
                Ok(name) => Tried::Denied(name),
                Err(error) => Tried::CouldNot(error.to_string()),
            }
        }),
        control: Control::Without("`share_uts()`", |sandbox| sandbox.share_uts()),
    }
    users_of_the_host {
        what: "reads the names of the host's users",
        class: &["A27"],
        stopped_by: "an `/etc/passwd` of its own",
        method: Method::Inside(|_| {
            let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
            match text.lines().any(|line| line.starts_with("daemon:")) {
                true => Tried::Broke("there is a daemon".into()),
                false if text.is_empty() => Tried::CouldNot("there is no file".into()),
                false => Tried::Denied(text.replace('\n', " ")),
            }
        }),
    }
    processes_of_the_host {
        what: "lists the machine's processes with their command lines",
        class: &["A27"],
        stopped_by: "a PID namespace",
        method: Method::Inside(|_| match oracle::processes_with("bystander") {
            pids if pids.is_empty() => Tried::Denied("the bystander is not seen".into()),
            pids => Tried::Broke(format!("{pids:?}")),
        }),
    }
    mounts_of_the_host {
        what: "lists the host's mounts",
        class: &["A27", "A30"],
        stopped_by: "nothing of the host is mounted: the old root was empty, or is detached",
        method: Method::Inside(|_| {
            let points: Vec<String> = oracle::mounts("self").into_iter().map(|line| line.point).collect();
            let of_host = points.iter().find(|point| point.starts_with("/sys") || point.starts_with("/run"));
            let count = points.len();
            match of_host {
                Some(point) => Tried::Broke(format!("{point} is one of {count}")),
                None if points.is_empty() => Tried::CouldNot("there is no list".into()),
                None => Tried::Denied(format!("{count} of its own")),
            }
        }),
    }
    addresses_of_the_kernel {
        what: "reads addresses of the kernel in `/proc/kallsyms`",
        class: &["A27"],
        stopped_by: PROCESSES_ONLY,
        method: Method::Inside(|_| match fs::read_to_string("/proc/kallsyms") {
            Ok(text) => {
                let known = text.lines().any(|line| !line.starts_with("0000000000000000"));
                if known { Tried::Broke("they are there".into()) } else { Tried::Denied("they are all zero".into()) }
            }
            Err(error) => Tried::Denied(explain(&error)),
        }),
        control_by: Hosts::Root,
        may_lack: true,
    }
    memory_of_the_kernel {
        what: "opens the kernel's memory in `/proc/kcore`",
        class: &["A27"],
        stopped_by: PROCESSES_ONLY,
        method: Method::Inside(|_| fs::File::open("/proc/kcore").map(drop).into()),
        control_by: Hosts::Root,
        may_lack: true,
    }
    messages_of_the_kernel {
        what: "reads the kernel's log in `/dev/kmsg` and `/proc/kmsg`",
        class: &["A27"],
        stopped_by: "a `/dev` of its own, a `/proc` with processes only; no capability",
        method: Method::Inside(|_| one_after_the_other(["/dev/kmsg", "/proc/kmsg"].map(|path| {
            (path.to_owned(), fs::File::open(path).map(drop).into())
        }))),
        control_by: Hosts::Root,
    }
    timers_of_the_kernel {
        what: "reads what other processes wait for (`/proc/timer_list`, `/proc/sched_debug`)",
        class: &["A27"],
        stopped_by: PROCESSES_ONLY,
        method: Method::Inside(|_| {
            let paths = ["/proc/timer_list", "/proc/sched_debug", "/sys/kernel/debug/sched/debug", "/proc/vmallocinfo"];
            one_after_the_other(paths.map(|path| (path.to_owned(), fs::File::open(path).map(drop).into())))
        }),
        control_by: Hosts::Root,
    }
    physical_addresses {
        what: "reads where its memory is in the machine's (`/proc/self/pagemap`), as for Rowhammer",
        class: &["A27", "A35"],
        stopped_by: "no capability",
        method: Method::Inside(physical_addresses),
        control_by: Hosts::Root,
    }
    stack_of_the_kernel {
        what: "reads its own stack in the kernel (`/proc/self/stack`)",
        class: &["A27"],
        stopped_by: "no capability",
        method: Method::Inside(|_| match fs::read("/proc/self/stack") {
            Ok(bytes) => Tried::Broke(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Tried::Denied(explain(&error)),
        }),
        control_by: Hosts::Root,
        may_lack: true,
    }
    system_tree {
        what: "reads what the machine is made of in `/sys`",
        class: &["A27"],
        stopped_by: "there is no `/sys`",
        method: Method::Inside(|_| fs::read_dir("/sys/class").map(drop).into()),
    }
    path_of_its_cgroup {
        what: "reads where in the host's cgroups it is",
        class: &["A24", "A27"],
        stopped_by: "a cgroup namespace",
        needs: &["cgroup-pids"],
        method: Method::Inside(|_| {
            let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let known = text.lines().find(|line| line.splitn(3, ':').nth(2).is_some_and(|path| path != "/"));
            match known {
                Some(line) => Tried::Broke(line.to_owned()),
                None if text.is_empty() => Tried::CouldNot("there is no list".into()),
                None => Tried::Denied("it is at the root of all".into()),
            }
        }),
        control: Control::Without("`share_cgroup()`", |sandbox| sandbox.share_cgroup().pids_max(16)),
        control_by: Hosts::Own,
    }
}

fn physical_addresses(_: &Facts) -> Tried {
    let page = Box::new([1_u8; 8192]);
    let address = page.as_ptr().expose_provenance() as u64;
    let Ok(map) = fs::File::open("/proc/self/pagemap") else {
        return Tried::Denied("it cannot be opened".into());
    };
    let mut entry = [0_u8; 8];
    match map.read_exact_at(&mut entry, (address / 4096 + 1) * 8) {
        // The lower 55 bits are the number of the page.
        Ok(()) => match u64::from_le_bytes(entry) & ((1 << 55) - 1) {
            0 => Tried::Denied("the number is hidden".into()),
            number => Tried::Broke(format!("page {number}")),
        },
        Err(error) => Tried::Denied(explain(&error)),
    }
}
