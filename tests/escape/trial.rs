//! Making attacks: the control first, then every policy, as the host that we are and, if that is root, as one without
//! privilege.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use belljar::{Feature, Mount, Sandbox, Verdict};

use crate::MECHANISMS;
use crate::attack::{Attack, Control, Facts, Hosts, Method, Tried};
use crate::calls::call;
use crate::stage::Stage;
use crate::support::{self, Fail, Result, Scratch, fail, own_exe, raw, role_command, run_helper, slack};

/// A name, and what makes it.
type Policy = (&'static str, fn() -> Sandbox);

/// What is attacked: every policy that promises to hold.
const POLICIES: &[Policy] = &[
    ("new()", Sandbox::new),
    ("new().root()", || Sandbox::new().root()),
    ("new().cross_tenant()", || Sandbox::new().cross_tenant().best_effort(Feature::CoreScheduling)),
    ("new() with all of /proc", || Sandbox::new().mount(Mount::proc("/proc").full())),
];

/// The presets: `new()` with a filter that allows less, so that many attacks do not get as far as to be tried. Whatever does
/// not break through is denied.
const STRICTER: &[Policy] = &[("judge()", Sandbox::judge), ("plugin()", Sandbox::plugin)];

/// What must be there behind the filter, where there is more than one defence.
const UNFILTERED: &[Policy] = &[
    ("new().allow_all_syscalls()", || Sandbox::new().allow_all_syscalls()),
    ("new().allow_all_syscalls().root()", || Sandbox::new().allow_all_syscalls().root()),
];

/// For attacks that even this must stand.
const BARE: &[Policy] = &[("bare()", Sandbox::bare)];

/// A policy by its name, ready for an attack, and where the test program is then.
pub(crate) fn policy(name: &str) -> Result<(Sandbox, PathBuf)> {
    let mut all = POLICIES.iter().chain(STRICTER).chain(UNFILTERED).chain(BARE);
    let Some((_, make)) = all.find(|(known, _)| *known == name) else {
        return fail(format!("there is no policy {name}"));
    };
    let sandbox = make().wall_time(PATIENCE * slack());
    Ok(match name {
        "bare()" => (sandbox, own_exe()),
        _ => (support::with_payload(sandbox), "/payload".into()),
    })
}

const PATIENCE: Duration = Duration::from_secs(20);

fn find(name: &str) -> Result<&'static Attack> {
    let mut all = MECHANISMS.iter().flat_map(|(_, entries)| entries.iter());
    match all.find(|entry| entry.attack.name == name) {
        Some(entry) => Ok(&entry.attack),
        None => fail(format!("there is no attack {name}")),
    }
}

/// The program that makes an attack: `attack NAME [--after] FACT=VALUE…`.
pub(crate) fn attack(args: &[OsString]) -> i32 {
    let facts = Facts::from_args(args);
    let attack = find(&support::roles::text(args, 0));
    let after = args.iter().any(|arg| arg == "--after");
    let tried = match attack.map(|attack| (attack.method, attack.control)) {
        Ok((Method::Inside(attempt), Control::HostAfter(_, prepare))) if after => match prepare(&facts) {
            Ok(()) => attempt(&facts),
            Err(error) => Tried::CouldNot(format!("to prepare: {error}")),
        },
        Ok((Method::Inside(attempt), _)) => attempt(&facts),
        Ok((Method::Around(_) | Method::ByName(_), _)) => Tried::CouldNot("nothing is done inside".into()),
        Err(Fail(message)) => Tried::CouldNot(message),
    };
    println!("{}", tried.text());
    tried.code()
}

static STAGE: Mutex<Option<Arc<Stage>>> = Mutex::new(None);
/// Where root leaves what an unprivileged host gets.
static SHARED: Mutex<Option<Arc<Scratch>>> = Mutex::new(None);

/// What root has given an unprivileged host.
static GIVEN: OnceLock<PathBuf> = OnceLock::new();

/// The stage of this process, made at the first use.
fn stage() -> Result<Arc<Stage>> {
    let mut stage = STAGE.lock().expect("no panic while it is made");
    if let Some(stage) = &*stage {
        return Ok(Arc::clone(stage));
    }
    let new = Arc::new(Stage::new(shared()?)?);
    *stage = Some(Arc::clone(&new));
    Ok(new)
}

/// The directory of programs that only root can make; `None` without privilege.
fn shared() -> Result<Option<PathBuf>> {
    if !is_root() {
        return Ok(GIVEN.get().cloned());
    }
    let mut shared = SHARED.lock().expect("no panic while it is made");
    if shared.is_none() {
        let scratch = Scratch::new();
        crate::stage::make_shared(&scratch)?;
        *shared = Some(Arc::new(scratch));
    }
    Ok(shared.as_ref().map(|scratch| scratch.path().to_owned()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ends what was started.
pub(crate) fn close() {
    SERVERS.lock().map(|mut servers| servers.clear()).ok();
    STAGE.lock().map(|mut stage| stage.take()).ok();
    SHARED.lock().map(|mut shared| shared.take()).ok();
}

/// The control of an attack, by this host.
fn control(attack: &Attack, stage: &Stage) -> Result<Tried> {
    match (attack.control, attack.method) {
        (Control::Host, Method::Inside(_)) => on_host(attack, stage, &[]),
        (Control::HostAfter(..), Method::Inside(_)) => on_host(attack, stage, &["--after"]),
        (Control::Without(_, open), _) => {
            let sandbox = open((attack.scene)(stage, support::closed().wall_time(PATIENCE * slack())));
            against(attack, stage, "", sandbox, Path::new("/payload"))
        }
        (Control::Other(_, act), _) => act(stage),
        (Control::Host | Control::HostAfter(..), _) => fail("its control cannot be a process of the host"),
    }
}

fn on_host(attack: &Attack, stage: &Stage, flags: &[&str]) -> Result<Tried> {
    let mut command = role_command("attack", &[attack.name]);
    command.args(flags).args(stage.facts(false));
    let helper = run_helper(&mut command, PATIENCE)?;
    Ok(Tried::of(helper.status.code(), format!("{}{}", helper.stdout.trim(), helper.stderr.trim())))
}

/// Makes an attack on one sandbox.
fn against(attack: &Attack, stage: &Stage, name: &str, sandbox: Sandbox, program: &Path) -> Result<Tried> {
    let attempt = match attack.method {
        Method::ByName(attempt) => return attempt(name),
        Method::Around(attempt) => return attempt(stage, sandbox),
        Method::Inside(_) => {
            let mut command = stage.payload(program, attack.name);
            (attack.command)(stage, &mut command);
            sandbox.output(command)?
        }
    };
    let text = format!("{}{}", attempt.stdout_text(), attempt.stderr_text());
    Ok(match attempt.outcome.verdict {
        Verdict::Exited(code) => Tried::of(Some(code), text),
        // The end of the program is the defence.
        Verdict::SyscallDenied { .. } | Verdict::MemoryExceeded | Verdict::CpuTimeExceeded => {
            Tried::Denied(attempt.outcome.verdict.to_string())
        }
        other => Tried::CouldNot(format!("it ended as {other:?}: {text}")),
    })
}

trait Texts {
    fn stdout_text(&self) -> String;
    fn stderr_text(&self) -> String;
}

impl Texts for belljar::Output {
    fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Everything that this host can say about an attack: what is wrong, or nothing.
fn examine(attack: &'static Attack) -> Vec<String> {
    let mut wrong = Vec::new();
    let stage = match stage() {
        Ok(stage) => stage,
        Err(Fail(message)) => return vec![format!("no stage: {message}")],
    };
    let who = if is_root() { "root" } else { "a user without privilege" };
    let mut expect = |what: String, broken: bool, tried: Result<Tried>| {
        if std::env::var_os("BELLJAR_TEST_VERBOSE").is_some() {
            eprintln!("{}: {who}, {what}: {tried:?}", attack.name);
        }
        match tried {
            Ok(Tried::Broke(_)) if broken => {}
            Ok(Tried::Denied(_)) if !broken => {}
            Ok(tried) => wrong.push(format!("{who}, {what}: {tried}")),
            Err(Fail(message)) => wrong.push(format!("{who}, {what}: {message}")),
        }
    };
    let root = is_root();
    let own = GIVEN.get().is_none();
    let can = |hosts| match hosts {
        Hosts::Both => true,
        Hosts::Root => root,
        Hosts::Own => own,
    };
    if can(attack.hosts) && can(attack.control_by) {
        expect(format!("control ({})", attack.control.words()), true, control(attack, &stage));
    }
    if !can(attack.hosts) {
        return wrong;
    }
    // Where programs start slowly, the first of each kind are enough.
    let count = if slack() > 1 { 1 } else { usize::MAX };
    let unfiltered = UNFILTERED.iter().take(count).filter(|_| attack.unfiltered);
    let bare = BARE.iter().filter(|_| attack.bare);
    for (name, _) in POLICIES.iter().take(count).chain(unfiltered).chain(bare) {
        let tried = policy(name).and_then(|(sandbox, program)| {
            let sandbox = if *name == "bare()" { sandbox } else { (attack.scene)(&stage, sandbox) };
            against(attack, &stage, name, (attack.defence)(sandbox), &program)
        });
        expect((*name).to_owned(), false, tried);
    }
    for (name, _) in STRICTER.iter().take(count) {
        let tried = policy(name).and_then(|(sandbox, program)| {
            let sandbox = (attack.defence)((attack.scene)(&stage, sandbox));
            against(attack, &stage, name, sandbox, &program)
        });
        let tried = match tried {
            Ok(Tried::Broke(text)) => Tried::Broke(text),
            Ok(Tried::Denied(text) | Tried::CouldNot(text)) | Err(Fail(text)) => Tried::Denied(text),
        };
        expect((*name).to_owned(), false, Ok(tried));
    }
    wrong
}

/// One test.
pub(crate) fn run(name: &str) -> Result {
    let attack = find(name)?;
    let mut wrong = examine(attack);
    if is_root() && attack.hosts == Hosts::Both {
        wrong.extend(without_privilege(name)?);
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

/// Why this kernel is not the place for an attack: its control says so.
pub(crate) fn lacks(name: &str) -> Option<String> {
    let attack = find(name).ok().filter(|attack| attack.may_lack)?;
    use libc::*;
    let missing = [ENOSYS, ENOENT, EAFNOSUPPORT, EPROTONOSUPPORT, ENODEV, ENETUNREACH, EIO, ENOTTY];
    match stage().and_then(|stage| control(attack, &stage)) {
        Ok(Tried::Denied(text)) => {
            let known = missing.iter().any(|number| text.starts_with(&format!("errno {number} ")))
                || text.starts_with("absent");
            known.then(|| format!("this host does not have it: {text}"))
        }
        _ => None,
    }
}

/// A host without privilege, which is asked about one attack after the other.
struct Server {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _copy: Scratch,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.questions.take();
        self.child.wait().ok();
    }
}

static SERVERS: Mutex<Vec<Server>> = Mutex::new(Vec::new());

fn start_server() -> Result<Server> {
    let copy = Scratch::new();
    let shared = shared()?.unwrap_or_default().display().to_string();
    let mut command = support::nobody_command(&copy, "rootless", &[&shared])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let questions = child.stdin.take();
    let answers = BufReader::new(child.stdout.take().expect("piped"));
    Ok(Server { child, questions, answers, _copy: copy })
}

/// What an unprivileged host finds wrong.
fn without_privilege(name: &str) -> Result<Vec<String>> {
    let idle = SERVERS.lock().expect("no panic").pop();
    let mut server = match idle {
        Some(server) => server,
        None => start_server()?,
    };
    writeln!(server.questions.as_mut().expect("it is open"), "{name}")?;
    let mut wrong = Vec::new();
    loop {
        let mut line = String::new();
        if server.answers.read_line(&mut line)? == 0 {
            return fail(format!("the host without privilege ended at {name}: {wrong:?}"));
        }
        match line.trim_end() {
            "end" => break,
            line => wrong.push(line.to_owned()),
        }
    }
    SERVERS.lock().expect("no panic").push(server);
    Ok(wrong)
}

/// The host without privilege: answers each name with what is wrong, and "end".
pub(crate) fn rootless(args: &[OsString]) -> i32 {
    GIVEN.get_or_init(|| support::roles::text(args, 0).into());
    for line in std::io::stdin().lines() {
        let Ok(name) = line else { break };
        let wrong = match find(&name) {
            Ok(attack) => examine(attack),
            Err(Fail(message)) => vec![message],
        };
        for line in wrong {
            println!("{}", line.replace('\n', " / "));
        }
        println!("end");
        std::io::stdout().flush().ok();
    }
    close();
    0
}

/// Has a lease on a file, if it gets one, until its stdin ends: `lease PATH r|w`.
pub(crate) fn lease(args: &[OsString]) -> i32 {
    use std::os::fd::AsRawFd;
    // Who waits is told by a signal that ends programs.
    raw::disposition(libc::SIGIO, true);
    let path = support::roles::text(args, 0);
    let (file, kind) = match support::roles::text(args, 1).as_str() {
        "w" => (std::fs::File::create(path), libc::F_WRLCK),
        _ => (std::fs::File::open(path), libc::F_RDLCK),
    };
    let Ok(file) = file else { return 2 };
    call(libc::SYS_fcntl, [file.as_raw_fd() as usize, libc::F_SETLEASE as usize, kind as usize]).ok();
    support::roles::hold(&[])
}
