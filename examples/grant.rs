//! A plugin that can open what the host grants it at run time, and nothing else.
//!
//! The plugin is this same program, executed again in a closed sandbox that shows it no data at all. It opens files by
//! `std::fs::File`, as any program does; the filter leaves `openat` to the host, which opens what was granted, read-only,
//! and hands the descriptor in. The example exits with 1 when anything goes otherwise than expected.

#![expect(clippy::print_stdout, reason = "what happens is to be seen")]

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use belljar::{Child, Command, Mount, Notification, Response, Sandbox, Seccomp, Verdict};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const CHANNEL: u32 = 3;
const EACCES: i32 = 13;
/// `O_ACCMODE`, `O_CREAT` and `O_TRUNC` of open(2): none of them is set in an `open` that only reads.
const WRITES: u64 = 0o3 | 0o100 | 0o1000;

fn main() -> ExitCode {
    let is_plugin = std::env::args_os().nth(1).is_some_and(|word| word == "serve");
    match if is_plugin { serve() } else { host() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("unexpected: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a plugin may open. `None`: it is being started, and its libraries are opened in its own root.
#[derive(Debug, Clone, Default)]
struct Grants(Arc<RwLock<Option<HashSet<PathBuf>>>>);

impl Grants {
    /// From here on, only what is granted.
    fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    fn grant(&self, path: impl Into<PathBuf>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(path.into());
    }

    /// What the plugin has opened already it keeps.
    fn revoke(&self, path: impl AsRef<Path>) {
        let mut granted = self.0.write().unwrap_or_else(PoisonError::into_inner);
        granted.get_or_insert_default().remove(path.as_ref());
    }

    fn answer(&self, call: &Notification<'_>) -> Response {
        let granted = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(granted) = &*granted else { return Response::proceed() };
        let [_, path, flags, ..] = call.args();
        match call.read_path(path) {
            // The path is one that the host itself has named, so it can be opened as it is.
            Ok(path) if flags & WRITES == 0 && granted.contains(&path) => File::open(path).into(),
            Ok(_) => Response::errno(EACCES),
            Err(error) => error.into(),
        }
    }
}

fn host() -> Result {
    let dir = std::env::temp_dir().join(format!("belljar-grant-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let result = talk(&dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn talk(dir: &Path) -> Result {
    let (report, secret) = (dir.join("report.txt"), dir.join("secret.txt"));
    fs::write(&report, "all is well")?;
    fs::write(&secret, "not for plugins")?;

    let grants = Grants::default();
    let (mut plugin, mut channel) = start(&grants)?;
    let mut ask = |path: &Path, expected: &str| -> Result {
        writeln!(channel.get_mut(), "{}", path.display())?;
        let mut answer = String::new();
        channel.read_line(&mut answer)?;
        println!("  open {}: {}", path.file_name().unwrap_or_default().to_string_lossy(), answer.trim_end());
        if answer.trim_end() == expected { Ok(()) } else { Err(format!("expected {expected:?}").into()) }
    };
    let denied = "Permission denied (os error 13)";
    println!("Nothing is granted:");
    ask(&report, denied)?;
    ask(Path::new("/etc/passwd"), denied)?;
    println!("The report is granted:");
    grants.grant(&report);
    ask(&report, "all is well")?;
    ask(&secret, denied)?;
    println!("It is taken back:");
    grants.revoke(&report);
    ask(&report, denied)?;

    drop(channel);
    match plugin.wait()?.verdict {
        Verdict::Exited(0) => Ok(()),
        other => Err(format!("the plugin ended: {other}").into()),
    }
}

/// Starts the plugin, and returns when it serves.
fn start(grants: &Grants) -> Result<(Child, BufReader<UnixStream>)> {
    let sandbox = Sandbox::new()
        .seccomp(Seccomp::new().notify(["openat"]).deny(["open", "openat2", "execve", "execveat"]))
        .mount(Mount::bind(std::env::current_exe()?, "/plugin"));
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/plugin");
    let answering = grants.clone();
    command.arg("serve").keep_fd(&theirs, CHANNEL).on_syscall(["openat"], move |call| answering.answer(call));
    let child = sandbox.spawn(&command)?;
    drop(theirs);
    let mut channel = BufReader::new(ours);
    let mut hello = String::new();
    channel.read_line(&mut hello)?;
    grants.close();
    Ok((child, channel))
}

/// The plugin: it reads the files that it is asked for.
fn serve() -> Result {
    // SAFETY: the host has put the channel under this number, and nothing else here uses it.
    #[expect(unsafe_code, reason = "a descriptor that was inherited")]
    let channel = unsafe { OwnedFd::from_raw_fd(i32::try_from(CHANNEL)?) };
    let mut channel = UnixStream::from(channel);
    let reader = BufReader::new(channel.try_clone()?);
    writeln!(channel, "ready")?;
    for path in reader.lines() {
        match fs::read_to_string(path?) {
            Ok(text) => writeln!(channel, "{text}")?,
            Err(error) => writeln!(channel, "{error}")?,
        }
    }
    Ok(())
}
