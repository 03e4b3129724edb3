//! What the forked process does to itself before it becomes the program. It never returns: it executes the program, or
//! leaves the reason in the shared page and exits.

use crate::gate::Barrier;
use crate::label;
use crate::listener;
use crate::sys::{self, Errno, Fd, Image, Owned, Result, SharedPage};
use crate::token;
use crate::wire::{ChildFailure, Confine, MAX_SLOTS, PlanImage, RunHead, line, section, stage, verify};

/// `SECBIT_NOROOT` and its lock, and the lock of `SECBIT_KEEP_CAPS`: user id 0 gains nothing by `execve`. See
/// capabilities(7).
const SECURE_BITS: usize = 0x01 | 0x02 | 0x20;
/// `SECBIT_NO_CAP_AMBIENT_RAISE` and its lock.
const NO_AMBIENT_RAISE: usize = 0x40 | 0x80;

/// How long a program that is open for writing is waited for: each time twice as long as the last, a quarter of a second in
/// all.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LAST_PAUSE_NS: u64 = 128_000_000;

/// Where a step failed.
pub(crate) type Failed = ChildFailure;

/// What a payload leaves in the page it shares with the init, until `execve` takes the page away.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Why it was not executed; stage 0 when it was.
    pub(crate) failure: Failed,
    /// When it was ready to be executed, by the wall clock. The init learns of the `execve` only when it is scheduled, which on a busy
    /// machine is too late to count time from.
    pub(crate) at: u64,
}

/// What a payload becomes.
pub(crate) struct Run<'a> {
    pub(crate) image: &'a mut Image,
    pub(crate) head: RunHead,
    pub(crate) slots: &'a [Option<Owned>],
}

/// The most hierarchies that there are files to join by for.
pub(crate) const MAX_JOINS: usize = 16;

/// Everything the payload needs of its parent's memory (of which it has a copy).
pub(crate) struct Payload<'a> {
    pub(crate) plan: PlanImage<'a>,
    pub(crate) container: &'a [Option<Owned>],
    /// It was forked into its v2 cgroup.
    pub(crate) placed: bool,
    /// The files by which it joins cgroups of its own, in place of those that the plan joins.
    pub(crate) own_joins: &'a [Option<Owned>],
    /// Where it leaves word, and its number there.
    pub(crate) departures: &'a SharedPage<Departure>,
    pub(crate) number: usize,
    /// The write end of the status pipe: closed by `execve`, which is how the init learns of success.
    pub(crate) status: Fd,
    /// What the plan's filter lets its last calls pass by.
    pub(crate) token: u64,
    /// What its own does, once it is installed.
    pub(crate) own_token: u64,
    /// Files by which it joins its cgroup when its command comes.
    pub(crate) joins: [Option<Fd>; MAX_JOINS],
    /// Where it waits for the host, if the plan has something for the host to do.
    pub(crate) gate: Option<Barrier>,
    /// Its terminal, if it gets one.
    pub(crate) terminal: Option<Fd>,
    /// The ruleset of landlock that it shall be confined by.
    pub(crate) ruleset: Option<Fd>,
    /// The procfs by which it sets its label.
    pub(crate) proc: Option<Fd>,
}

impl Payload<'_> {
    /// Does what it is there for. If it comes back from that, it leaves the reason, and goes.
    pub(crate) fn leave(mut self, act: impl FnOnce(&mut Self) -> Failed) -> ! {
        let failure = act(&mut self);
        self.departures.store(self.number, Departure { failure, at: 0 });
        sys::exit(127)
    }

    /// Becomes the program, or says why not.
    pub(crate) fn become_program(&mut self, mut run: Run<'_>) -> Failed {
        match self.prepare(&run) {
            Ok(()) => self.execute(&mut run),
            Err(failed) => failed,
        }
    }

    fn prepare(&mut self, run: &Run<'_>) -> core::result::Result<(), Failed> {
        for file in self.own_joins {
            let joined = file.as_ref().ok_or(Errno::EPROTO).and_then(|file| sys::write_all(file.fd(), b"0"));
            joined.map_err(|errno| at(stage::PROTOCOL, line::OWN_CGROUP, errno))?;
        }
        self.confine(section::JOIN, stage::JOIN)?;
        if let Some(terminal) = self.terminal {
            // While its descriptor is where it came: it need not be one of the streams.
            let taken = sys::set_session().and_then(|()| sys::control_terminal(terminal));
            taken.map_err(|errno| at(stage::PROTOCOL, line::CONTROLLING_TERMINAL, errno))?;
        }
        self.place_descriptors(run).map_err(|errno| at(stage::FDS, 0, errno))?;
        self.confine(section::CONFINE, stage::CONFINE)?;
        enter_directory(run).map_err(|errno| at(stage::CHDIR, 0, errno))?;
        sys::unblock_signals().map_err(|errno| at(stage::PROTOCOL, line::UNBLOCK_SIGNALS, errno))?;
        self.depart();
        self.seal()
    }

    /// Leaves word that it is executed now.
    pub(crate) fn depart(&self) {
        // The clock says 0 when it cannot be read, and 0 is no word: the init would take a program that runs for a payload
        // that was lost, and start it once more.
        let at = sys::wall_clock().max(1);
        self.departures.store(self.number, Departure { at, ..Departure::default() });
    }

    /// Installs the filter. From here on its last calls have the token that it looks for.
    pub(crate) fn seal(&mut self) -> core::result::Result<(), Failed> {
        if self.token != 0 {
            self.own_token = sys::random().map_err(|errno| at(stage::PROTOCOL, line::TOKEN, errno))?;
            sys::carry(self.own_token);
        }
        self.confine(section::SEAL, stage::SEAL)
    }

    pub(crate) fn confine(&self, section: usize, stage: u32) -> core::result::Result<(), Failed> {
        for (index, operation) in self.plan.confine(section).enumerate() {
            let index = index as u32;
            let Some(operation) = operation else { return Err(at(stage::PROTOCOL, line::MALFORMED, Errno::EPROTO)) };
            self.apply(&operation).map_err(|errno| at(stage, index, errno))?;
        }
        Ok(())
    }

    fn apply(&self, operation: &Confine<'_>) -> Result<()> {
        match *operation {
            Confine::Join { .. } if !self.own_joins.is_empty() => Ok(()),
            Confine::Join { version: 2, .. } if self.placed => Ok(()),
            Confine::Join { slot, .. } => {
                let file = self.container.get(slot as usize).and_then(Option::as_ref).ok_or(Errno::EPROTO)?;
                sys::write_all(file.fd(), b"0")
            }
            Confine::UnshareCgroup {} => sys::unshare(sys::CLONE_NEWCGROUP),
            Confine::Session {} if self.terminal.is_some() => Ok(()),
            Confine::Session {} => sys::set_session(),
            Confine::Rlimit { resource, soft, hard } => sys::set_rlimit(resource, soft, hard),
            Confine::Groups {} => sys::clear_groups(),
            Confine::Ids { uid, gid } => {
                // Leaving user id 0 would clear the permitted set, and with it the right to drop the bounding set.
                sys::prctl(sys::PR_SET_KEEPCAPS, 1, 0)?;
                sys::set_gid(gid)?;
                sys::set_uid(uid)
            }
            Confine::Capabilities { keep } => capabilities(keep),
            Confine::NoNewPrivs {} => sys::prctl(sys::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop),
            Confine::Verify { uid, gid, keep, flags } => read_back(uid, gid, keep, flags),
            Confine::Umask { mask } => {
                sys::set_umask(mask);
                Ok(())
            }
            Confine::Seccomp { program, token } => {
                self.with_own_token(program, token, sys::install_filter)
            }
            Confine::SeccompListened { program, token, .. } => {
                self.with_own_token(program, token, |program| listener::install(program, self.status))
            }
            Confine::Park {} => self.gate.ok_or(Errno::EPROTO)?.wait(self.status),
            Confine::Scheduler { policy, priority } => sys::set_scheduler(policy, priority),
            Confine::Nice { value } => sys::set_nice(value),
            Confine::IoPriority { value } => sys::set_io_priority(value),
            Confine::Affinity { mask } => sys::set_affinity(mask),
            Confine::FixAddresses {} => sys::fix_addresses(),
            Confine::Keyring {} => sys::join_keyring(),
            Confine::CoreCookie {} => sys::make_core_cookie(),
            Confine::Label { file, label, enforcing } => {
                label::set(self.proc.ok_or(Errno::EPROTO)?, file, label, enforcing)
            }
            Confine::Landlock {} => sys::restrict_self(self.ruleset.ok_or(Errno::EPROTO)?),
            Confine::Never(never, _) => match never {},
        }
    }

    /// Hands on a filter that looks for this payload's own token. Never a part of its caller: the init would touch the
    /// pages of the copy when it forks.
    #[inline(never)]
    fn with_own_token(
        &self,
        program: &[u8],
        token: u64,
        install: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if token == 0 {
            return install(program);
        }
        let mut copy = [0; token::MOST];
        install(token::replace(program, token, self.own_token, &mut copy).ok_or(Errno::EPROTO)?)
    }

    /// Puts the given descriptors at their numbers and closes every other one.
    ///
    /// All sources are first lifted above the highest target, so that no placement overwrites a source that is still
    /// to be placed.
    fn place_descriptors(&mut self, run: &Run<'_>) -> Result<()> {
        let count = run.head.fds.count as usize;
        let mut lifted = [0_i32; MAX_SLOTS];
        if count > lifted.len() {
            return Err(Errno::EBADF);
        }
        let mut highest = 2;
        for n in 0..count {
            highest = highest.max(run.pair(n)?.1);
        }
        let above = i32::try_from(highest).ok().and_then(|n| n.checked_add(1)).ok_or(Errno::EBADF)?;
        self.lift(above)?;
        for (n, copy) in lifted.iter_mut().enumerate().take(count) {
            let (slot, _) = run.pair(n)?;
            let source = run.slots.get(slot as usize).and_then(Option::as_ref).ok_or(Errno::EPROTO)?;
            *copy = sys::duplicate_from(source.fd(), above)?;
        }
        let mut next_open = 0;
        for (n, copy) in lifted.iter().enumerate().take(count) {
            let (_, target) = run.pair(n)?;
            sys::duplicate_to(Fd(*copy), target as i32)?;
            // Targets ascend, so what lies between two of them is nobody's.
            if target > next_open {
                sys::close_range(next_open, target - 1)?;
            }
            next_open = target + 1;
        }
        self.close_from(next_open)
    }

    /// Tries the candidates in the way of execvp(3): what is not there or not ours to execute is passed over, and the
    /// first refusal that says more than "not there" is what is reported.
    pub(crate) fn execute(&self, run: &mut Run<'_>) -> Failed {
        let vectors = [run.head.paths, run.head.argv, run.head.envp];
        let mut addresses = [0; 3];
        for (vector, address) in vectors.iter().zip(&mut addresses) {
            match run.image.relocate(*vector) {
                Ok(at) => *address = at,
                Err(errno) => return at_exec(0, errno),
            }
        }
        let mut failed = at_exec(0, Errno::ENOENT);
        for n in 0..run.head.paths.count {
            let Some(path) = run.image.pointer(run.head.paths.at as usize, n as usize) else { break };
            match self.execute_when_written(path, addresses[1], addresses[2]) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => failed = at_exec(n, Errno::EACCES),
                errno => return at_exec(n, errno),
            }
        }
        failed
    }

    /// Executes a program, and waits a little for one that is open for writing. Most often it was written a moment ago, and
    /// what has the descriptor is a process that another thread of the writer has forked: until its own `execve`.
    fn execute_when_written(&self, path: usize, argv: usize, envp: usize) -> Errno {
        let mut pause = FIRST_PAUSE_NS;
        loop {
            let errno = sys::execve(path, argv, envp);
            if errno != Errno::ETXTBSY || pause > LAST_PAUSE_NS || sys::poll(&mut [], Some(pause)).is_err() {
                return errno;
            }
            pause *= 2;
            // What it has waited is not the program's time.
            self.depart();
        }
    }

    /// What it needs of descriptors itself. All of them are closed by `execve`.
    fn own(&mut self) -> impl Iterator<Item = &mut Fd> {
        let Self { status, ruleset, proc, joins, .. } = self;
        core::iter::once(status).chain(ruleset).chain(proc).chain(joins.iter_mut().flatten())
    }

    /// Moves them to numbers from `above` on.
    pub(crate) fn lift(&mut self, above: i32) -> Result<()> {
        for own in self.own() {
            *own = Fd(sys::duplicate_from(*own, above)?);
        }
        Ok(())
    }

    /// Closes every descriptor from this one on but those. They ascend: each got the lowest number that was free.
    pub(crate) fn close_from(&mut self, mut next_open: u32) -> Result<()> {
        for own in self.own() {
            let number = own.0 as u32;
            sys::close_range(next_open, number - 1)?;
            next_open = number + 1;
        }
        sys::close_range(next_open, u32::MAX)
    }
}

impl Run<'_> {
    fn pair(&self, n: usize) -> Result<(u32, u32)> {
        self.head.fd_pair(self.image.bytes(), n).ok_or(Errno::EPROTO)
    }
}

pub(crate) fn enter_directory(run: &Run<'_>) -> Result<()> {
    if run.head.cwd == 0 {
        return Ok(());
    }
    sys::chdir(run.image.string(run.head.cwd as usize).ok_or(Errno::EPROTO)?)?;
    // CVE-2024-21626: a directory outside the root is told by getcwd(2) as "(unreachable)…".
    if sys::cwd_first_byte()? == b'/' { Ok(()) } else { Err(Errno::EPERM) }
}

pub(crate) fn at(stage: u32, index: u32, errno: Errno) -> Failed {
    ChildFailure { stage, index, errno: errno.0 }
}

fn at_exec(index: u32, errno: Errno) -> Failed {
    at(stage::EXEC, index, errno)
}

/// `CAP_CHECKPOINT_RESTORE` of Linux 5.9, which nothing here works without.
const KNOWN_CAPABILITY: usize = 40;

/// Calls `f` for every capability that this kernel knows: above the last one it answers EINVAL (capabilities(7)).
fn each_capability(mut f: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for n in 0..64 {
        match f(n) {
            Err(Errno::EINVAL) if n > KNOWN_CAPABILITY => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Bounding set first (dropping needs CAP_SETPCAP), then the process sets, then ambient, then the locks.
fn capabilities(keep: u64) -> Result<()> {
    let permitted = sys::capabilities()?[1];
    sys::set_capabilities(permitted, 0)?;
    each_capability(|n| {
        let call = if keep & 1 << n == 0 { sys::PR_CAPBSET_DROP } else { sys::PR_CAPBSET_READ };
        sys::prctl(call, n, 0).map(drop)
    })?;
    // Locked before CAP_SETPCAP is gone; the bit against raising ambient capabilities comes after they are raised,
    // so the raise is done while permitted and inheritable still hold what is kept.
    let setpcap = 1_u64 << 8;
    sys::prctl(sys::PR_CAP_AMBIENT, sys::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    sys::set_capabilities(keep | setpcap, keep)?;
    for n in 0..64 {
        if keep & 1 << n != 0 {
            sys::prctl(sys::PR_CAP_AMBIENT, sys::PR_CAP_AMBIENT_RAISE, n)?;
        }
    }
    sys::prctl(sys::PR_SET_SECUREBITS, SECURE_BITS | NO_AMBIENT_RAISE, 0)?;
    sys::set_capabilities(keep, keep)
}

fn read_back(uid: u32, gid: u32, keep: u64, flags: u32) -> Result<()> {
    let mut fine = true;
    if flags & verify::NO_NEW_PRIVS != 0 {
        fine &= sys::prctl(sys::PR_GET_NO_NEW_PRIVS, 0, 0)? == 1;
    }
    if flags & verify::IDS != 0 {
        fine &= sys::ids()? == [uid, uid, uid, gid, gid, gid];
    }
    if flags & verify::CAPABILITIES != 0 {
        // What is ambient is also permitted and inheritable, so the ambient set cannot be larger than these.
        fine &= sys::capabilities()? == [keep; 3];
        each_capability(|n| {
            fine &= sys::prctl(sys::PR_CAPBSET_READ, n, 0)? == usize::from(keep & 1 << n != 0);
            Ok(())
        })?;
    }
    if fine { Ok(()) } else { Err(Errno::EPERM) }
}
