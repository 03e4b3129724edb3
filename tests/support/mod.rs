//! What all test programs share: a registry of cases that knows what the host lacks, an oracle that looks at processes
//! from outside, and roles, which are small programs that this binary becomes when it is executed again.

pub(crate) mod disk;
pub(crate) mod features;
pub(crate) mod ledger;
pub(crate) mod oracle;
pub(crate) mod raw;
pub(crate) mod roles;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use belljar::{Bytes, Child, Command, Mount, Output, Sandbox, Stdio, Verdict};
use libtest_mimic::{Arguments, Failed, Trial};

/// A failed test, with everything an error has to say.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) String);

impl<E: std::error::Error + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        Self(explain(&error))
    }
}

/// An error with its sources and, for ours, kind, step and hint.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    if let Some(error) = error.downcast_ref::<belljar::Error>() {
        text = format!("{text} [{:?} at {:?}, hint {:?}]", error.kind(), error.step(), error.hint());
    }
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(crate) fn fail<T>(message: impl fmt::Display) -> Result<T> {
    Err(Fail(message.to_string()))
}

pub(crate) type Result<T = ()> = std::result::Result<T, Fail>;

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Names of [`features`] without which it cannot be run, "bare" if no mount is made, and "soak" if it takes long.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: fn() -> Result,
    /// Why this host is not the place for it, besides.
    pub(crate) lacks: fn() -> Option<String>,
}

/// A program that this binary becomes when executed with `--role NAME`.
pub(crate) type Role = (&'static str, fn(&[OsString]) -> i32);

/// Makes a table of cases: `cases![name: ["feature"], …]`.
#[macro_export]
macro_rules! cases {
    ($($name:ident: [$($need:literal),*]),* $(,)?) => {
        &[$($crate::support::Case {
            name: stringify!($name),
            needs: &[$($need),*],
            run: $name,
            lacks: || None,
        }),*]
    };
}

/// The main function of a test program.
pub(crate) fn main(cases: &'static [Case], own: &[Role]) -> ExitCode {
    start(cases, own, None)
}

/// The same for cases that measure or count, one at a time.
pub(crate) fn main_serial(cases: &'static [Case], own: &[Role]) -> ExitCode {
    start(cases, own, Some(1))
}

fn start(cases: &'static [Case], own: &[Role], threads: Option<usize>) -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|first| first == "--role") {
        let name = args.next().unwrap_or_default();
        let rest: Vec<OsString> = args.collect();
        let role = own.iter().chain(roles::COMMON).find(|(known, _)| name == *known);
        let code = role.map_or(250, |(_, role)| role(&rest));
        std::io::stdout().flush().ok();
        std::process::exit(code);
    }
    settle();
    let mut arguments = Arguments::from_args();
    if arguments.test_threads.is_none() {
        arguments.test_threads = threads;
    }
    // A sandbox without a root of its own binds the payload over the host's `/payload`, which root makes for that.
    let mount_point = std::path::Path::new("/payload");
    let was_there = mount_point.symlink_metadata().is_ok();
    if !was_there && nix::unistd::geteuid().is_root() {
        std::fs::File::create(mount_point).ok();
    }
    let conclusion = libtest_mimic::run(&arguments, cases.iter().map(trial).collect());
    if !was_there && mount_point.metadata().is_ok_and(|left| left.is_file() && left.len() == 0) {
        std::fs::remove_file(mount_point).ok();
    }
    conclusion.exit_code()
}

/// Spawns once with limits, so that on a version 2 host this process leaves its cgroup to its sandboxes while it is
/// alone there: with the processes that tests start it could not any more. Whether that works is for the tests to find.
fn settle() {
    let sandbox = Sandbox::bare().pids_max(64).memory_max(Bytes::mib(64)).cpu_max(belljar::CpuMax::cpus(1.0));
    let mut command = Command::new(own_exe());
    command.args(["--role", "exit", "0"]);
    sandbox.output(command).ok();
}

/// Why this is not the host or the occasion for a test.
fn missing(need: &str) -> Option<String> {
    match need {
        "soak" => (!soak()).then(|| "it takes longer than a change can wait, set BELLJAR_SOAK".into()),
        // Which no host with version 2 alone has, so it is none of those that "cgroup" stands for.
        "freezer" => features::missing("cgroup-freezer"),
        need => features::missing(need),
    }
}

fn trial(case: &'static Case) -> Trial {
    // What most tests start has a root filesystem, or a bind at least.
    let mounts = if case.needs.contains(&"bare") { "bare" } else { "mount-setattr" };
    let missing =
        case.needs.iter().chain([&mounts]).find_map(|need| missing(need).map(|reason| (*need, reason)));
    let Some((feature, reason)) = missing else {
        return match (case.lacks)() {
            None => Trial::test(case.name, move || guarded(case)),
            Some(reason) => Trial::test(case.name, || Ok(())).with_kind(reason).with_ignored_flag(true),
        };
    };
    let reason = format!("needs {feature}: {reason}");
    if features::is_required(feature) {
        return Trial::test(case.name, move || Err(Failed::from(format!("BELLJAR_TEST_REQUIRE: {reason}"))));
    }
    Trial::test(case.name, || Ok(())).with_kind(reason).with_ignored_flag(true)
}

/// Runs a case with an end to its patience: a hang is a failure, not a stop of the whole suite.
fn guarded(case: &'static Case) -> std::result::Result<(), Failed> {
    let patience = Duration::from_secs(u64::from(number("BELLJAR_TEST_TIMEOUT", 180)));
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name(case.name.to_owned()).spawn(move || {
        sender.send((case.run)()).ok();
    })?;
    match receiver.recv_timeout(patience) {
        Ok(Ok(())) => thread.join().map_err(|_| Failed::from("panicked after its end")),
        Ok(Err(Fail(message))) => Err(Failed::from(message)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failed::from("panicked; see its message above")),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(Failed::from(format!("hangs: no end after {patience:?}")))
        }
    }
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether the long versions of tests are wanted.
pub(crate) fn soak() -> bool {
    std::env::var_os("BELLJAR_SOAK").is_some()
}

/// How much slower than promised things may be here: emulated guests are.
pub(crate) fn slack() -> u32 {
    number("BELLJAR_TEST_SLACK", 1).max(1)
}

/// Wraps a closure's time.
pub(crate) fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = f();
    (value, start.elapsed())
}

/// Looks again and again until something is true.
pub(crate) fn within(patience: Duration, mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if look() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A directory of this test, removed at the end. Everybody may look into it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/var/tmp"))
    }

    pub(crate) fn below(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("belljar-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a temporary directory can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// A directory inside, open to all.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }

    /// A file inside, readable by all.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !nix::unistd::geteuid().is_root() {
            open_directories(&self.0);
        }
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("leaving {} behind: {error}", self.0.display());
        }
    }
}

/// Lets the owner into directories, among them those that overlayfs makes for its own use, which are closed to all.
fn open_directories(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).ok();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_directories(&entry.path());
        }
    }
}

/// A cgroup of this test, removed at the end.
pub(crate) struct TestGroup(PathBuf);

impl TestGroup {
    /// Below a directory, or beside the leaf in it that version 2 makes this process move to.
    pub(crate) fn make_in(own: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let above = own.ancestors().find(|dir| !dir.ends_with("belljar-host")).unwrap_or(own);
        let path = above.join(format!("belljar-test-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// This program.
pub(crate) fn own_exe() -> PathBuf {
    std::env::current_exe().expect("/proc/self/exe can be read")
}

/// A command that runs one of our roles, where the sandbox has `/payload`.
pub(crate) fn payload(role: &str, args: &[&str]) -> Command {
    let mut command = Command::new("/payload");
    command.args(["--role", role]).args(args);
    command
}

/// The closed sandbox with this program in it.
pub(crate) fn closed() -> Sandbox {
    with_payload(Sandbox::new())
}

pub(crate) fn with_payload(sandbox: Sandbox) -> Sandbox {
    sandbox.mount(Mount::bind(own_exe(), "/payload"))
}

/// The system's programs over a root that has none.
pub(crate) fn with_system(sandbox: Sandbox) -> Sandbox {
    sandbox
        .mount(Mount::bind("/usr", "/usr"))
        .mount(Mount::symlink("usr/bin", "/bin"))
        .mount(Mount::symlink("usr/lib", "/lib"))
        .mount(Mount::symlink("usr/lib64", "/lib64"))
}

/// A command for a shell.
pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// Runs a role inside; it must exit with 0.
pub(crate) fn run_role(sandbox: &Sandbox, role: &str, args: &[&str]) -> Result<String> {
    succeed(sandbox.output(payload(role, args))?)
}

/// Runs a shell script inside; it must exit with 0.
pub(crate) fn run_sh(sandbox: &Sandbox, script: &str) -> Result<String> {
    succeed(sandbox.output(sh(script))?)
}

/// The standard output of a program that must have succeeded.
pub(crate) fn succeed(output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.outcome.verdict != Verdict::Exited(0) {
        let errors = String::from_utf8_lossy(&output.stderr);
        return fail(format!("{:?}; stdout {text:?}, stderr {errors:?}", output.outcome.verdict));
    }
    Ok(text)
}

/// A program that is running and waits for its stdin to be closed.
pub(crate) struct Held {
    pub(crate) child: Child,
    pub(crate) pid: u32,
}

/// Starts the role that waits, and returns when it runs.
pub(crate) fn hold(sandbox: &Sandbox) -> Result<Held> {
    hold_with(sandbox, payload("hold", &[]))
}

pub(crate) fn hold_with(sandbox: &Sandbox, mut command: Command) -> Result<Held> {
    // Not the test's own stderr, which may be a file of the host.
    command.stderr(Stdio::null());
    held(command, |command| sandbox.spawn(command))
}

/// The same in a container.
pub(crate) fn hold_in(container: &belljar::Container) -> Result<Held> {
    let mut command = payload("hold", &[]);
    command.stderr(Stdio::null());
    held(command, |command| container.spawn(command))
}

/// The same, however it is started; its stderr is the command's.
pub(crate) fn held(
    mut command: Command,
    spawn: impl FnOnce(&Command) -> belljar::Result<Child>,
) -> Result<Held> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = spawn(&command)?;
    let stdout = child.stdout.as_mut().expect("stdout is piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line != "ready\n" {
        return fail(format!("the payload said {line:?} and ended as {:?}", child.wait()?.verdict));
    }
    let Some(pid) = child.id() else { return fail("a running program has no id") };
    Ok(Held { child, pid })
}

impl Held {
    /// Lets it end, which must be with 0.
    pub(crate) fn release(mut self) -> Result<belljar::Outcome> {
        let outcome = self.child.wait()?;
        if outcome.verdict != Verdict::Exited(0) {
            return fail(format!("the payload ended as {:?}", outcome.verdict));
        }
        Ok(outcome)
    }
}

/// What a helper process of the host said and how it ended.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Helper {
    pub(crate) fn succeed(self) -> Result<String> {
        match self.status.success() {
            true => Ok(self.stdout),
            false => fail(format!("the helper ended with {}: {}{}", self.status, self.stdout, self.stderr)),
        }
    }
}

/// A command of the host that runs one of our roles there.
pub(crate) fn role_command(role: &str, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(own_exe());
    command.args(["--role", role]).args(args);
    command
}

/// Runs a command of the host to its end; kills it when that does not come, for which a slow machine has its slack.
pub(crate) fn run_helper(command: &mut std::process::Command, patience: Duration) -> Result<Helper> {
    use std::io::Read;
    use std::process::Stdio as HostStdio;
    let mut child =
        command.stdin(HostStdio::null()).stdout(HostStdio::piped()).stderr(HostStdio::piped()).spawn()?;
    let mut pipes = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipes.0.read_to_end(&mut text).ok();
        text
    });
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipes.1.read_to_end(&mut text).ok();
        text
    });
    let mut status = None;
    let ended = within(patience * slack(), || {
        status = child.try_wait().unwrap_or(Some(ExitStatus::from_raw(0xff00)));
        status.is_some()
    });
    if !ended {
        child.kill()?;
        child.wait()?;
    }
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    // A helper that was killed may leave its pipes in the hands of others; those are given up with their readers.
    let Some(status) = status else { return fail(format!("the helper {command:?} hangs")) };
    Ok(Helper { status, stdout: text(reader), stderr: text(errors) })
}

/// Runs a role in a mount namespace of its own, so that its mounts vanish with it.
pub(crate) fn in_own_mounts(role: &str, args: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(own_exe()).args(["--role", role]).args(args);
    run_helper(&mut command, Duration::from_secs(60))?.succeed()
}

/// What a role that is a host of its own ends with; why it failed is what it says.
pub(crate) fn role_result(result: Result) -> i32 {
    match result {
        Ok(()) => 0,
        Err(Fail(message)) => {
            println!("{message}");
            1
        }
    }
}

/// Runs a role as user 65534 without any privilege: by setpriv(1) when we are root, directly when we are nobody special
/// ourselves. The program is copied to where that user can read it.
pub(crate) fn as_nobody(role: &str, args: &[&str], patience: Duration) -> Result<Helper> {
    if !nix::unistd::geteuid().is_root() {
        return run_helper(&mut role_command(role, args), patience);
    }
    let scratch = Scratch::new();
    run_helper(&mut nobody_command(&scratch, role, args)?, patience)
}

/// Copies a program that the host is to execute. By another process: one that a thread of ours is just starting could have the
/// copy open for writing, and then it cannot be executed.
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result {
    let mut cp = std::process::Command::new("cp");
    run_helper(cp.arg(from.as_ref()).arg(to.as_ref()), Duration::from_secs(60))?.succeed().map(drop)
}

/// A command that root runs as that user, with the program copied to a directory.
pub(crate) fn nobody_command(scratch: &Scratch, role: &str, args: &[&str]) -> Result<std::process::Command> {
    let copy = scratch.join("test");
    copy_program(own_exe(), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]);
    command.arg(&copy).args(["--role", role]).args(args).current_dir("/");
    Ok(command)
}

/// What this release of Debian is called; empty on anything else.
pub(crate) fn debian() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match value("ID") {
        Some("debian") => value("VERSION_CODENAME").unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// Compiles a small C program into a directory.
pub(crate) fn compile(scratch: &Scratch, name: &str, source: &str, flags: &[&str]) -> Result<PathBuf> {
    let code = scratch.file(format!("{name}.c"), source);
    let program = scratch.join(name);
    let mut command = std::process::Command::new("cc");
    command.arg("-O1").args(flags).arg("-o").arg(&program).arg(&code);
    run_helper(&mut command, Duration::from_secs(60))?.succeed()?;
    Ok(program)
}

pub(crate) fn mib(n: u64) -> Bytes {
    Bytes::mib(n)
}

/// An address where nobody answers, because its queue of connections is full as long as the first two live.
pub(crate) fn silent_peer() -> Result<(std::net::TcpListener, Vec<std::net::TcpStream>, String)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    // Listening again only changes the length of the queue.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1)?)?;
    let address = listener.local_addr()?;
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        waiting.push(stream);
    }
    Ok((listener, waiting, address.to_string()))
}

/// Gives its limit of descriptors back.
pub(crate) struct FewDescriptors(u64, u64);

impl FewDescriptors {
    /// So many more can be opened.
    pub(crate) fn now(more: usize) -> Result<Self> {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let open = oracle::open_fds();
        let mut free = (0..).filter(|number| !open.contains(number));
        let limit = free.nth(more).expect("there are many numbers");
        setrlimit(Resource::RLIMIT_NOFILE, limit as u64, hard)?;
        Ok(Self(soft, hard))
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        use nix::sys::resource::{Resource, setrlimit};
        setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1).expect("it was so before");
    }
}
