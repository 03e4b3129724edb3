//! A scope of systemd: a cgroup that its manager makes for this process and then leaves alone.
//!
//! A program that a user starts sits in a cgroup that belongs to systemd or that it shares with the rest of the session.
//! Asked over D-Bus, the manager makes a *scope* instead, moves the process into it and hands its subtree over
//! (org.freedesktop.systemd1(5), `StartTransientUnit`; systemd.resource-control(5), `Delegate=`). It is what
//! `systemd-run --scope` does for a program that it starts.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use zbus::Connection;
use zbus::address::{Address, Transport};
use zbus::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, Value};

use super::missing::{self, Missing};
use super::name::Owner;
use crate::error::{ErrorKind, Result};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at where we are.
const PAUSE: Duration = Duration::from_millis(2);

/// Moves this process into a scope of its own, unless it is in it already.
pub(super) fn enter() -> Result<()> {
    // Two threads must not both ask.
    static ENTERING: Mutex<()> = Mutex::new(());
    let _entering = ENTERING.lock().unwrap_or_else(PoisonError::into_inner);
    // A forked copy of this process is another owner, and gets another scope; after execve(2) it is the same one.
    let unit = format!("belljar-{}.scope", Owner::current()?);
    if is_in(&unit) {
        return Ok(());
    }
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Missing::unsupported("this machine does not run systemd", missing::GIVE_AWAY).into());
    }
    // The host may be a task of a runtime already, in which no other can be started; and in a thread of its own
    // everything is gone afterwards.
    let asked = thread::scope(|scope| {
        let asking = thread::Builder::new().name("belljar-systemd".into());
        let asking = asking.spawn_scoped(scope, || ask_for(&unit)).map_err(|error| setup(&unit, &error))?;
        asking.join().unwrap_or_else(|_| Err(setup(&unit, &"the thread that asked for it died")))
    });
    Ok(asked?)
}

fn ask_for(unit: &str) -> Result<(), Missing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| setup(unit, &error))?.block_on(async {
        let seconds = PATIENCE.as_secs();
        tokio::time::timeout(PATIENCE, converse(unit))
            .await
            .unwrap_or_else(|_| Err(setup(unit, &format_args!("there was none after {seconds} s"))))
    })
}

async fn converse(unit: &str) -> Result<(), Missing> {
    let bus = connect().await?;
    let job = start(&bus, unit).await?;
    loop {
        // A job is gone when it has ended, and its end comes after the move.
        let ended = !exists(&bus, &job).await;
        match (is_in(unit), ended) {
            (true, _) => return Ok(()),
            (false, true) => return Err(setup(unit, &"the job failed")),
            (false, false) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Connects to the bus of the manager that is in charge of this user: root's is that of the system.
async fn connect() -> Result<Connection, Missing> {
    let (whose, address, hint) = match geteuid().is_root() {
        true => ("the system", Address::system(), missing::SYSTEM_BUS),
        false => ("the user", Address::session(), missing::USER_BUS),
    };
    let failed = |error: &dyn Display| {
        Missing::unsupported(format!("connecting to the D-Bus of {whose} failed: {error}"), hint)
    };
    let address = address.map_err(|error| failed(&error))?;
    // Through anything else the bus could not tell the manager which process we are.
    if !matches!(address.transport(), Transport::Unix(_)) {
        return Err(failed(&format_args!("`{address}` is not a Unix socket")));
    }
    let builder = Builder::address(address).map_err(|error| failed(&error))?;
    // No more than a message or two are expected, and nobody else may fill our memory.
    builder.max_queued(8).build().await.map_err(|error| failed(&error))
}

/// Asks for the scope. Returns the job that makes it.
async fn start(bus: &Connection, unit: &str) -> Result<OwnedObjectPath, Missing> {
    let properties = [
        ("Description", Value::from("Sandboxes of belljar")),
        // The sender of the message, by what the kernel told the bus. Our own number for it may mean another process
        // to a manager in another PID namespace.
        ("PIDs", Value::from(vec![0_u32])),
        ("Delegate", Value::from(true)),
        // A scope that failed would stay in the manager's list.
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    let auxiliary: [(&str, Vec<(&str, Value<'_>)>); 0] = [];
    let arguments = (unit, "fail", properties.as_slice(), auxiliary.as_slice());
    let manager = Some("org.freedesktop.systemd1.Manager");
    let answer = bus.call_method(Some(SERVICE), OBJECT, manager, "StartTransientUnit", &arguments).await;
    answer.and_then(|answer| answer.body().deserialize()).map_err(|error| match error {
        zbus::Error::MethodError(name, ..) if name.ends_with(".AccessDenied") => {
            let reason = format!("systemd refused to make the scope {unit} for this process: {name}");
            Missing::denied(reason, missing::DELEGATE)
        }
        error => setup(unit, &error),
    })
}

async fn exists(bus: &Connection, job: &OwnedObjectPath) -> bool {
    let state = ("org.freedesktop.systemd1.Job", "State");
    bus.call_method(Some(SERVICE), job, Some("org.freedesktop.DBus.Properties"), "Get", &state).await.is_ok()
}

fn setup(unit: &str, what: &dyn Display) -> Missing {
    let reason = format!("systemd made no scope {unit} for this process: {what}");
    Missing::new(ErrorKind::Setup, reason, missing::JOURNAL)
}

/// Whether this process is in the scope, or in a cgroup below it.
fn is_in(unit: &str) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    names(&own, unit)
}

/// Whether a line of `/proc/<pid>/cgroup` has the unit in its path. A process is in it in systemd's own hierarchy at
/// least, which is version 2 or the one called `name=systemd`.
pub(super) fn names(own: &str, unit: &str) -> bool {
    own.lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .any(|path| Path::new(path).iter().any(|part| part == OsStr::new(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_a_whole_part_of_the_path_of_a_cgroup() {
        let unit = "belljar-1-2-3.scope";
        for inside in [
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/belljar-1-2-3.scope\n",
            "5:cpu:/x\n0::/belljar-1-2-3.scope/belljar-host\n",
            "1:name=systemd:/system.slice/belljar-1-2-3.scope\n0::/\n",
        ] {
            assert!(names(inside, unit), "{inside}");
        }
        for outside in [
            "",
            "0::/\n",
            "0::/belljar-1-2-33.scope\n",
            "0::/xbelljar-1-2-3.scope/a\n",
            "1:belljar-1-2-3.scope:/a\n",
            "belljar-1-2-3.scope",
        ] {
            assert!(!names(outside, unit), "{outside}");
        }
    }
}
