//! Becoming somebody else: set-user-ID programs, capabilities, groups, keyrings, user namespaces.

use std::fs;

use belljar::Sandbox;

use crate::attack::{Control, Facts, Hosts, Method, Tried, explain, one_after_the_other};
use crate::attacks;
use crate::calls::{at, call, in_child, text, tried};
use crate::stage::{Stage, shared};
use crate::support::{Result, oracle};

const NO_CAPABILITY: &str = "all five capability sets are empty";
const KEPT: fn(Sandbox) -> Sandbox = |sandbox| sandbox.keep_capability("NET_BIND_SERVICE");

attacks! {
    set_user_id_program {
        what: "executes a set-user-ID program of the host's root",
        class: &["A8", "A28"],
        stopped_by: "`no_new_privs`, `nosuid` mounts, ids that are not mapped",
        needs: &["root", "setpriv"],
        scene: shared,
        method: Method::Inside(|facts| {
            let program = facts.path("shared").join("id");
            match std::process::Command::new(program).output() {
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    if text.contains("euid=0") { Tried::Broke(text) } else { Tried::Denied(text) }
                }
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: Control::Other("a process of user 65534", |stage| as_nobody(stage, "id", &[], "euid=0")),
        control_by: Hosts::Root,
        bare: true,
    }
    program_with_capabilities {
        what: "executes a program with file capabilities",
        class: &["A20", "A28"],
        stopped_by: "`no_new_privs`, `nosuid` mounts, an empty bounding set",
        needs: &["root", "setpriv"],
        scene: shared,
        method: Method::Inside(|facts| {
            let program = facts.path("shared").join("cat");
            match std::process::Command::new(program).arg("/proc/self/status").output() {
                Ok(output) => {
                    let status = oracle::fields(&String::from_utf8_lossy(&output.stdout));
                    match status.get("CapEff").map(String::as_str) {
                        Some("0000000000000000") => Tried::Denied("it has no capability".into()),
                        Some(set) => Tried::Broke(format!("it has {set}")),
                        None => Tried::CouldNot(format!("{output:?}")),
                    }
                }
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: Control::Other("a process of user 65534", |stage| {
            as_nobody(stage, "cat", &["/proc/self/status"], "CapEff:\t0000000000000400")
        }),
        control_by: Hosts::Root,
    }
    capabilities_at_the_start {
        what: "has a capability in any set, such as the inheritable one (CVE-2022-29162, CVE-2022-24769)",
        class: &["A20", "B1"],
        stopped_by: NO_CAPABILITY,
        method: Method::Inside(|_| {
            let status = oracle::status_of("self");
            let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
            let held: Vec<_> = sets.iter().filter(|set| status.get(**set).is_none_or(|set| set.contains(|c| c != '0'))).collect();
            if held.is_empty() { Tried::Denied("all are empty".into()) } else { Tried::Broke(format!("{held:?}")) }
        }),
        control: Control::Without("`keep_capability(..)`", KEPT),
    }
    raise_a_capability {
        what: "raises capabilities by `capset` and into the ambient set",
        class: &["A20"],
        stopped_by: NO_CAPABILITY,
        method: Method::Inside(raise_a_capability),
        control_by: Hosts::Root,
    }
    unlock_secure_bits {
        what: "changes the secure bits, by which root's ids give capabilities",
        class: &["A20"],
        stopped_by: "the bits are locked; no capability",
        method: Method::Inside(|_| {
            const PR_SET_SECUREBITS: usize = 28;
            in_child(|| tried(libc::SYS_prctl, [PR_SET_SECUREBITS, 0]))
        }),
        control_by: Hosts::Root,
    }
    user_zero {
        what: "becomes user 0 and looks for capabilities",
        class: &["B5", "B15"],
        stopped_by: "no capability; user 0 of the host is not mapped",
        method: Method::Inside(|_| {
            let was_root = nix::unistd::geteuid().is_root();
            let result = call(libc::SYS_setresuid, [0, 0, 0]);
            let set = oracle::status_of("self").remove("CapEff").unwrap_or_default();
            match result {
                Err(error) => Tried::Denied(explain(&error)),
                Ok(_) if was_root && !set.contains(|c| c != '0') => Tried::Denied("it means nothing".into()),
                Ok(_) => Tried::Broke(format!("its capabilities are {set}")),
            }
        }),
        control_by: Hosts::Root,
    }
    host_root_is_mapped {
        what: "looks for the host's user 0 in its map of ids",
        class: &["B5"],
        stopped_by: "a root host maps a block that nobody has",
        method: Method::Inside(|_| {
            let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            let starts_at_zero = |line: &str| line.split_whitespace().nth(1) == Some("0");
            match text.lines().any(starts_at_zero) {
                true => Tried::Broke(text),
                false if text.is_empty() => Tried::CouldNot("there is no map".into()),
                false => Tried::Denied(text),
            }
        }),
    }
    drop_a_group_that_denies {
        what: "drops its groups, of which one may be what a file denies (CVE-2014-8989)",
        class: &["A19"],
        stopped_by: "no capability",
        method: Method::Inside(|_| tried(libc::SYS_setgroups, [0, 0])),
        control_by: Hosts::Root,
    }
    map_ids_anew {
        what: "makes a user namespace, is root there, and mounts a filesystem",
        class: &["A14", "A19"],
        stopped_by: "the filter",
        method: Method::Inside(|_| in_child(|| {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
            if let Err(error) = call(libc::SYS_unshare, [flags as usize]) {
                return Tried::Denied(explain(&error));
            }
            tried(libc::SYS_mount, [text("none"), text("/tmp"), text("tmpfs"), 0, 0])
        })),
        unfiltered: false,
    }
    change_the_map {
        what: "writes its own map of ids once more",
        class: &["A19"],
        stopped_by: "a map is written once, by the host",
        method: Method::Inside(|facts| {
            fs::write("/proc/self/uid_map", format!("0 {} 1\n", facts.get("uid"))).into()
        }),
        control: Control::HostAfter("a process that has just made its user namespace", |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize]).map(drop)
        }),
    }
    session_keyring {
        what: "joins a keyring by a name that others know",
        class: &["A10", "B9"],
        stopped_by: "the filter",
        method: Method::Inside(|facts| {
            const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
            let name = text(format!("belljar-{}", facts.get("owner")));
            tried(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, name])
        }),
        may_lack: true,
        unfiltered: false,
    }
    key_for_others {
        what: "leaves a key in its user's keyring, which every process of that id can read",
        class: &["A10", "B9"],
        stopped_by: "the filter",
        method: Method::Inside(|facts| {
            let user = -4_i64 as usize;
            let name = text(format!("belljar-left-{}", facts.get("owner")));
            let added = call(libc::SYS_add_key, [text("user"), name, text("x"), 1, user]);
            if let Ok(key) = added {
                const KEYCTL_UNLINK: usize = 9;
                call(libc::SYS_keyctl, [KEYCTL_UNLINK, key as usize, user]).ok();
            }
            added.into()
        }),
        may_lack: true,
        unfiltered: false,
    }
    key_of_the_host {
        what: "looks for a key that the host's user has",
        class: &["A10", "B9"],
        stopped_by: "the filter; keyrings of a user namespace",
        method: Method::Inside(|facts| {
            let name = text(crate::stage::key_name(facts.number("owner") as u32));
            match call(libc::SYS_request_key, [text("user"), name, 0, 0]) {
                Ok(key) => {
                    const KEYCTL_READ: usize = 11;
                    let mut buffer = [0_u8; 32];
                    match call(libc::SYS_keyctl, [KEYCTL_READ, key as usize, at(&mut buffer), 32]) {
                        Ok(_) => crate::calls::secret(&buffer),
                        Err(error) => Tried::Broke(format!("found, not read: {}", explain(&error))),
                    }
                }
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        may_lack: true,
    }
}

/// Runs a program that root has made, as somebody else, and looks for a text in what it says.
fn as_nobody(stage: &Stage, program: &str, args: &[&str], needle: &str) -> Result<Tried> {
    let path = stage.shared.as_ref().map(|dir| dir.join(program)).unwrap_or_default();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"])
        .arg(path)
        .args(args);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(if text.contains(needle) { Tried::Broke(text) } else { Tried::Denied(text) })
}

/// The one that the control has, and others.
fn raise_a_capability(_: &Facts) -> Tried {
    const NET_BIND_SERVICE: usize = 10;
    const PR_CAP_AMBIENT: usize = 47;
    let attempts = [NET_BIND_SERVICE, 21, 7].map(|capability| {
        // `_LINUX_CAPABILITY_VERSION_3`, this process; effective, permitted and inheritable, low and high.
        let mut header = [0x2008_0522_u32, 0];
        let set = 1 << capability;
        let mut data = [set, set, set, 0, 0, 0_u32];
        let tried = match call(libc::SYS_capset, [at(&mut header), at(&mut data)]) {
            Ok(_) => tried(libc::SYS_prctl, [PR_CAP_AMBIENT, 2, capability, 0, 0]),
            Err(error) => Tried::Denied(explain(&error)),
        };
        (format!("capability {capability}"), tried)
    });
    one_after_the_other(attempts)
}
