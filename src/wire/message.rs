//! Messages: fixed-size structures, and the numbers in them.

/// "No such descriptor".
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// The most file descriptors that one message carries (`SCM_MAX_FD` of the kernel).
pub(crate) const MAX_FDS: usize = 253;
/// The most bytes of an image that follow a message.
pub(crate) const INLINE_IMAGE: usize = 8192;
/// The most file descriptors that the init holds for a container, and for one run.
pub(crate) const MAX_SLOTS: usize = 1024;
/// The slot of the first descriptor that comes with `BOX`; those of `START` are below.
pub(crate) const BOX_SLOTS: usize = 8;
/// The slot of a run's terminal, which the init makes.
pub(crate) const TERMINAL_SLOT: usize = MAX_SLOTS - 1;
/// The most connections that one run is granted.
pub(crate) const MAX_CONNECTIONS: usize = 32;
/// The slot of the first of a run's granted connections, whose sockets the init makes.
pub(crate) const CONNECTION_SLOTS: usize = TERMINAL_SLOT - MAX_CONNECTIONS;
/// The slot of the first mount tree, which come with `GO`.
pub(crate) const TREE_SLOTS: usize = 512;

/// What the host asks. The file descriptors of a request are appended to the init's incoming table; `START` and `RUN`
/// consume the table.
pub(crate) mod request {
    /// Carries descriptors only, for a table longer than one message can hold.
    pub(crate) const FDS: u32 = 1;
    /// Set the container up. Table: plan image, pidfd of the host, then what shall live as long as the init. Sent before
    /// the init exists, so that it has something to do from its first instruction.
    pub(crate) const START: u32 = 2;
    /// Start a program. Table: the standard streams, what else it gets, and what the init needs for it. Its image follows the
    /// message, if `image_slot` does not say where it is.
    pub(crate) const RUN: u32 = 3;
    /// Kill a program and everything that descends from it.
    pub(crate) const KILL: u32 = 4;
    /// The id maps are written. Table, from [`TREE_SLOTS`](super::TREE_SLOTS): the mount trees that the host made
    /// meanwhile.
    pub(crate) const GO: u32 = 5;
    /// The cgroup is made, which the host does while the init mounts. Table, from [`BOX_SLOTS`](super::BOX_SLOTS): the
    /// files to join it by, then the file that counts its CPU time, if `usage_slot` says so.
    pub(crate) const BOX: u32 = 6;
    /// The host did its part at the gate, or refuses with [`REFUSED`](super::flag::REFUSED): the parked payload of
    /// `child` goes on, or ends.
    pub(crate) const PASS: u32 = 7;
    /// Open a file of the sandbox for reading. Table: a file with the path.
    pub(crate) const OPEN_FILE: u32 = 8;
    /// Make a file in the sandbox, with `mode` and an owner, in place of one that may be there. Table: a file with the
    /// path.
    pub(crate) const MAKE_FILE: u32 = 9;
    /// Send the directory that an overlay in memory keeps its changes in.
    pub(crate) const OPEN_UPPER: u32 = 10;
}

/// Bits of [`Request::flags`].
pub(crate) mod flag {
    /// `START`: the init is PID 1 of a pid namespace of its own; otherwise it becomes a subreaper.
    pub(crate) const PID_NS: u32 = 1;
    /// `RUN`: the container ends with this program.
    pub(crate) const ONE_SHOT: u32 = 2;
    /// `RUN`: the CPU time of the tree is sampled from the processes' clocks, because no cgroup counts it.
    pub(crate) const SAMPLE_CPU: u32 = 4;
    /// `START`: a `BOX` will come.
    pub(crate) const EXPECT_BOX: u32 = 32;
    /// `START`: the container is for one program, which is why nobody waits for a `READY`.
    pub(crate) const QUIET: u32 = 16;
    /// `BOX`, `RUN`: the usage file is v2 `cpu.stat` (microseconds behind a key), not v1 `cpuacct.usage`.
    pub(crate) const CPU_STAT: u32 = 8;
    /// `RUN`: the payload parks at the gate, and a `PASS` will come.
    pub(crate) const GATE: u32 = 64;
    /// `PASS`: the host could not do its part.
    pub(crate) const REFUSED: u32 = 128;
    /// `START`: the network namespace was made ahead, and its loopback interface is up.
    pub(crate) const LOOPBACK_IS_UP: u32 = 512;
    /// `RUN`: the listener of the program's filter goes to the host.
    pub(crate) const HOST_LISTENS: u32 = 256;
    /// `START`: a payload is prepared before its command comes.
    pub(crate) const PREPARE: u32 = 2048;
    /// `START`: payloads are forked from one that is prepared, again and again.
    pub(crate) const TEMPLATE: u32 = 1024;
    /// `RUN`: the prepared payload with this `ticket` gets its command from the host itself, and with that its image and its
    /// streams.
    pub(crate) const DIRECT: u32 = 16384;
    /// `RUN`: a prepared payload may become the program.
    pub(crate) const WARM: u32 = 4096;
    /// `START`: another init will come into the namespaces when this one is gone, and do what each does for itself.
    pub(crate) const SETS_UP_AHEAD: u32 = 65536;
    /// `START`: another init has done what need not be done by each.
    pub(crate) const IS_SET_UP: u32 = 131_072;
    /// `GO`: the init is in a mount namespace that has nothing of the host.
    pub(crate) const EMPTY_MOUNTS: u32 = 32768;
    /// `RUN`: the program gets a new terminal.
    pub(crate) const TERMINAL: u32 = 8192;
}

/// A message of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    /// `RUN`, `KILL`: which program, by the host's numbering. For files: what the answer is to be told by.
    pub(crate) child: u32,
    /// `BOX`, and `RUN` of a program with limits of its own: slot of the directory for `CLONE_INTO_CGROUP`, or [`NO_SLOT`].
    pub(crate) cgroup_slot: u32,
    /// The same: slot of the file that holds the CPU usage of what is in the cgroup, or [`NO_SLOT`].
    pub(crate) usage_slot: u32,
    /// `BOX`: slot of the file that a frozen version 1 box is thawed by, or [`NO_SLOT`].
    pub(crate) thaw_slot: u32,
    /// `BOX`: slot of the first of the files by which a process leaves the box again, in the order in which it was joined, or
    /// [`NO_SLOT`].
    pub(crate) leave_slot: u32,
    /// `RUN`: which payload has got its command.
    pub(crate) ticket: u32,
    /// `RUN`: slot of the image, or [`NO_SLOT`] if it follows the message.
    pub(crate) image_slot: u32,
    /// `RUN`: slots of the files by which the program joins its cgroups in place of those of the box, and how many they are;
    /// none of a program without limits of its own. That of a `cgroup_slot` comes last.
    pub(crate) join_slot: u32,
    pub(crate) join_count: u32,
    /// `RUN`: slots of the read ends of captured stdout and stderr, or [`NO_SLOT`].
    pub(crate) pump_from: [u32; 2],
    /// `RUN`: slots of what captured stdout and stderr are written to.
    pub(crate) pump_to: [u32; 2],
    /// `START`: how many processors can use CPU time at once.
    pub(crate) processors: u32,
    /// `MAKE_FILE`: permissions.
    pub(crate) mode: u32,
    /// `MAKE_FILE`: owner. `RUN`: of the terminal. `GO`: the caller's ids as the user namespace has them that the init's is
    /// within.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `RUN`: how many connections the program is granted.
    pub(crate) connections: u32,
    /// `RUN`: rows and columns of the terminal, its width and height in pixels.
    pub(crate) terminal_size: [u16; 4],
    /// `RUN`: wall-clock limit in nanoseconds, 0 for none.
    pub(crate) wall_ns: u64,
    /// `RUN`: CPU time limit of the tree in nanoseconds, 0 for none.
    pub(crate) cpu_ns: u64,
    /// `RUN`: how long the tree may use no CPU time, in nanoseconds, 0 for no such limit.
    pub(crate) idle_ns: u64,
    /// `RUN`: bytes that captured stdout and stderr may have.
    pub(crate) budget: [u64; 2],
    /// `RUN`: bytes that both may have together, `u64::MAX` for no such limit.
    pub(crate) budget_sum: u64,
}

/// What the init reports.
pub(crate) mod reply {
    /// The container is set up.
    pub(crate) const READY: u32 = 1;
    /// A step failed: `stage`, `index`, `errno`. After a failed `START` the init ends.
    pub(crate) const FAILED: u32 = 2;
    /// The program was executed; a pidfd of it comes with the message.
    pub(crate) const STARTED: u32 = 3;
    /// The program ended (and in a one-shot container everything else with it).
    pub(crate) const EXITED: u32 = 4;
    /// The program's process waits at the gate for the host's part; a pidfd of it comes with the message.
    pub(crate) const PARKED: u32 = 5;
    /// The file that was asked for comes with the message.
    pub(crate) const FILE: u32 = 6;
    /// The listener of the program's filter comes with the message.
    pub(crate) const LISTENER: u32 = 7;
    /// A payload waits for its command; the channel that it waits at comes with the message, and its ticket is `pid`.
    pub(crate) const PREPARED: u32 = 9;
    /// The host's end of the program's terminal comes with the message.
    pub(crate) const TERMINAL: u32 = 8;
    /// The host's end of a granted connection comes with the message, one after the other in the order of their slots.
    pub(crate) const CONNECTION: u32 = 10;
}

/// Why the init killed a program.
pub(crate) mod cause {
    /// It did not.
    pub(crate) const NONE: u32 = 0;
    /// The wall-clock limit passed.
    pub(crate) const WALL: u32 = 1;
    /// The CPU time limit passed.
    pub(crate) const CPU: u32 = 2;
    /// More output than the budget.
    pub(crate) const OUTPUT: u32 = 3;
    /// The host asked.
    pub(crate) const HOST: u32 = 4;
    /// No CPU time was used for too long.
    pub(crate) const IDLE: u32 = 5;
    /// It made a system call that the filter answers by killing.
    pub(crate) const DENIED: u32 = 6;
}

/// A message of the init.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) kind: u32,
    pub(crate) child: u32,
    /// `FAILED`: one of [`stage`].
    pub(crate) stage: u32,
    /// `FAILED`: which operation of that stage.
    pub(crate) index: u32,
    /// `FAILED`: of the call that failed. `STARTED` without a descriptor: why it could not be sent, if that is so.
    pub(crate) errno: i32,
    /// `EXITED`: the wait status of the program, as `waitpid(2)` gives it.
    pub(crate) status: i32,
    /// `EXITED`: one of [`cause`].
    pub(crate) cause: u32,
    /// `EXITED`: the program's process id inside.
    pub(crate) pid: u32,
    /// `EXITED`: from the successful `execve` to the end of the main process.
    pub(crate) wall_ns: u64,
    /// `EXITED`: user and system time of all processes that were reaped.
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// `EXITED`: CPU time by the usage file or by sampling, in nanoseconds; 0 when neither is in use.
    pub(crate) cpu_ns: u64,
    /// `EXITED`: the largest resident size of any one process, in KiB.
    pub(crate) max_rss_kib: u64,
    /// `EXITED`: bytes that the program wrote to captured stdout and stderr, as far as they were read.
    pub(crate) output: [u64; 2],
    /// `EXITED`: one more than the number of the first system call for which a process of the tree was killed, and of the one
    /// for which the program itself was; 0 if none was.
    pub(crate) denied: [u32; 2],
}

/// Where a failure happened: the parts of a spawn that have operations of their own.
pub(crate) mod stage {
    /// The init itself: receiving, decoding. `index` is one of [`line`](super::line).
    pub(crate) const PROTOCOL: u32 = 1;
    /// An operation of [`Setup`](crate::wire::Setup).
    pub(crate) const SETUP: u32 = 2;
    /// Creating the payload process.
    pub(crate) const FORK: u32 = 3;
    /// An operation of the plan's [`JOIN`](crate::wire::section::JOIN) section.
    pub(crate) const JOIN: u32 = 4;
    /// Placing descriptors.
    pub(crate) const FDS: u32 = 5;
    /// An operation of the plan's [`CONFINE`](crate::wire::section::CONFINE) section.
    pub(crate) const CONFINE: u32 = 6;
    /// Entering the working directory.
    pub(crate) const CHDIR: u32 = 7;
    /// An operation of the plan's [`SEAL`](crate::wire::section::SEAL) section.
    pub(crate) const SEAL: u32 = 8;
    /// `execve`.
    pub(crate) const EXEC: u32 = 9;
    /// The host refused at the gate, and knows why.
    pub(crate) const GATE: u32 = 10;
    /// A file of the sandbox was asked for.
    pub(crate) const FILE: u32 = 11;
}

/// What the init does beside the operations of a plan: the lines of [`stage::PROTOCOL`]. The host has words for each.
pub(crate) mod line {
    /// A message or an image is not what the other end makes. No system call of the init has failed.
    pub(crate) const MALFORMED: u32 = 1;
    /// The payload lets signals come again.
    pub(crate) const UNBLOCK_SIGNALS: u32 = 2;
    /// The payload draws a token of its own for its filter.
    pub(crate) const TOKEN: u32 = 3;
    /// The run's image is mapped.
    pub(crate) const RUN_IMAGE: u32 = 10;
    /// The container runs as many programs as it has room for.
    pub(crate) const FULL: u32 = 11;
    /// More descriptors came than the table holds.
    pub(crate) const TOO_MANY_FDS: u32 = 12;
    /// A request could not be received; the init ends.
    pub(crate) const LOST_REQUEST: u32 = 13;
    /// The pipe of a captured stream is made ready.
    pub(crate) const CAPTURE: u32 = 14;
    /// Captured output is moved; the program is killed.
    pub(crate) const OUTPUT: u32 = 15;
    /// The listener of the program's filter is received, or sent to the host.
    pub(crate) const LISTENER: u32 = 17;
    /// A prepared payload that was given the command did not execute it: it was killed before, or stopped. The command may be
    /// sent again.
    pub(crate) const GONE: u32 = 18;
    /// Waiting for events; the init ends.
    pub(crate) const EVENTS: u32 = 16;
    /// The signal actions and the mask that a host may have left.
    pub(crate) const SIGNALS: u32 = 20;
    /// Waiting for the plan and receiving it.
    pub(crate) const START: u32 = 21;
    /// The plan is mapped.
    pub(crate) const PLAN_IMAGE: u32 = 22;
    /// The page in which programs leave why they were not executed.
    pub(crate) const SHARED_PAGE: u32 = 23;
    /// The descriptor that tells of the ends of processes.
    pub(crate) const CHILD_SIGNALS: u32 = 24;
    /// The init's own session.
    pub(crate) const SESSION: u32 = 25;
    /// Orphans come to the init.
    pub(crate) const SUBREAPER: u32 = 26;
    /// Waiting for what the host has to do first, and receiving it.
    pub(crate) const AWAIT: u32 = 27;
    /// The directory that the host happened to be in is left.
    pub(crate) const DIRECTORY: u32 = 28;
    /// Programs of the same user id must not attach.
    pub(crate) const UNDUMPABLE: u32 = 29;
    /// A program with limits of its own joins its cgroups.
    pub(crate) const OWN_CGROUP: u32 = 30;
    /// A terminal is made for a program.
    pub(crate) const TERMINAL: u32 = 31;
    /// The program takes it for its controlling terminal.
    pub(crate) const CONTROLLING_TERMINAL: u32 = 32;
    /// The sockets of granted connections are made.
    pub(crate) const CONNECTIONS: u32 = 33;
}

/// The number under which the init reports on the container itself, and on the program of one that has only one.
pub(crate) const CONTAINER: u32 = 0;

/// The record that a payload process leaves in the page it shares with the init when it could not be executed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChildFailure {
    pub(crate) stage: u32,
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

const _: () = assert!(size_of::<Request>() == 136 && align_of::<Request>() == 8);
const _: () = assert!(size_of::<Reply>() == 96 && align_of::<Reply>() == 8);
const _: () = assert!(size_of::<ChildFailure>() == 12);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    /// Two of a family with one number would be taken for each other.
    #[test]
    fn no_number_is_used_twice() {
        let mut used: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut family = "";
        for line in include_str!("message.rs").lines() {
            if let Some(rest) = line.strip_prefix("pub(crate) mod ") {
                family = rest.trim_end_matches(" {");
            } else if let Some((name, value)) = line
                .strip_prefix("    pub(crate) const ")
                .and_then(|rest| rest.trim_end_matches(';').split_once(": u32 = "))
            {
                let other = used.insert((family, value), name);
                assert_eq!(other, None, "{name} of {family} has the number {value}, too");
            }
        }
        assert!(used.len() > 60, "they are found");
    }
}
