//! Copying files into a running sandbox and out of it, by descriptors that its init opens: the host looks up no path that a
//! program could have made.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;
use crate::link::{Forgotten, Received};
use crate::runtime::Runtime;
use crate::sys;
use crate::wire::{Request, reply, request};

/// How long the init may take to open a file. It waits for nobody but a filesystem of the host.
const PATIENCE: Duration = Duration::from_secs(30);

const CHUNK: usize = 64 << 10;

impl Container {
    /// Copies a file of the sandbox to `to`, and returns how many bytes that were.
    ///
    /// The path is looked up inside, below the sandbox's root and through its mounts, whatever links there are
    /// (`openat2(2)` with `RESOLVE_IN_ROOT`), with the rights of the program's user: a link leads to nothing that the
    /// program could not read. Only a regular file is copied, and nothing of `/proc` or `/sys`. A program may write to it
    /// meanwhile; [`freeze`](Container::freeze) the container for a copy of one moment.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is no such file,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if the program's user may not read it,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is
    /// not a regular one or the sandbox has no root filesystem of its own,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) if it has more than `limit` bytes, of which `to` then has got
    /// as many, and failures to read or to write.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Sandbox};
    ///
    /// let container = Sandbox::new().start()?;
    /// container.status(Command::new("/bin/sh").args(["-c", "echo hello > /tmp/note"]))?;
    /// let mut note = Vec::new();
    /// container.copy_out("/tmp/note", &mut note, Bytes::kib(64))?;
    /// assert_eq!(note, b"hello\n");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn copy_out(
        &self,
        from: impl AsRef<Path>,
        mut to: impl Write,
        limit: impl Into<Bytes>,
    ) -> Result<u64> {
        let (from, limit) = (from.as_ref(), limit.into());
        let file = self.runtime().ask_for_file(request::OPEN_FILE, from, None)?;
        let mut file = regular(file, from)?;
        copy(&mut file, &mut to, limit, from)
    }

    /// Copies what `from` has, to its end, into a file of the sandbox, and returns how many bytes that were.
    ///
    /// The file is a new one, in place of one that may be there; the directory must exist, and is looked up inside as for
    /// [`copy_out`](Container::copy_out). It belongs to the program's user and has the permissions `mode` (as `0o644` or
    /// `0o755`; no more than those bits). It can be seen while it is written: copy before the program starts that is to
    /// find it whole.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the directory does not exist,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) on a read-only filesystem and where the program's user could not
    /// make it,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for other bits in `mode`, for a path that names a directory, or if the
    /// sandbox has no root filesystem of its own, [`LimitExceeded`](ErrorKind::LimitExceeded) if `from` has more than
    /// `limit` bytes, [`ResourceExhausted`](ErrorKind::ResourceExhausted) if the filesystem is full; then the file is left empty. And failures to read or to write.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Sandbox};
    ///
    /// let container = Sandbox::new().start()?;
    /// container.copy_in(&b"print(6 * 7)"[..], "/tmp/answer.py", 0o644, Bytes::kib(64))?;
    /// let output = container.output(Command::new("/usr/bin/python3").arg("/tmp/answer.py"))?;
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn copy_in(
        &self,
        mut from: impl Read,
        to: impl AsRef<Path>,
        mode: u32,
        limit: impl Into<Bytes>,
    ) -> Result<u64> {
        let (to, limit) = (to.as_ref(), limit.into());
        if mode & !0o777 != 0 {
            return Err(refused(format!("{mode:o} has more than permissions"), to)
                .with_hint("a set-user-id bit would gain nothing inside"));
        }
        let file = self.runtime().ask_for_file(request::MAKE_FILE, to, Some(mode))?;
        let mut file = regular(file, to)?;
        let copied = copy(&mut from, &mut file, limit, to);
        if copied.is_err() {
            // Half a file is worse than none.
            file.set_len(0).ok();
        }
        copied
    }
}

impl Runtime {
    /// Asks the init for a file of the sandbox: to read, or, with permissions, to make.
    fn ask_for_file(&self, kind: u32, path: &Path, mode: Option<u32>) -> Result<OwnedFd> {
        if !self.plan.0.has_root {
            return Err(refused("the sandbox has no root filesystem of its own", path)
                .with_hint("its files are those of the host, which can be opened there"));
        }
        let text = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| refused("a path with a zero byte", path))?;
        let memfd = sys::sealed_memfd(c"belljar-path", text.as_bytes_with_nul())
            .map_err(|error| Error::os(Step::Prepare, "making the memfd of a path", error))?;
        let ids = self.plan.0.program_ids;
        let message =
            Request { kind, mode: mode.unwrap_or(0), uid: ids.uid, gid: ids.gid, ..Request::default() };
        let what = match mode {
            None => format!("opening {} of the sandbox", path.display()),
            Some(_) => format!("making {} in the sandbox", path.display()),
        };
        self.ask(message, Some(&memfd), Step::Copy, what).map_err(|error| {
            let error = error.with_path(path);
            match error.raw_os_error() {
                Some(libc::EISDIR | libc::EINVAL | libc::ELOOP | libc::ENXIO) => {
                    error.with_kind(ErrorKind::InvalidConfig)
                }
                Some(libc::EROFS) => error.with_hint("give the root an upper, or copy to a tmpfs"),
                _ => error,
            }
        })
    }

    /// Asks the init for a descriptor.
    pub(crate) fn ask(
        &self,
        message: Request,
        argument: Option<&OwnedFd>,
        step: Step,
        what: String,
    ) -> Result<OwnedFd> {
        let number = self.next_number();
        let message = Request { child: number, ..message };
        let table: Vec<_> = argument.iter().map(|file| file.as_raw_fd()).collect();
        self.send(&message, &table)?;
        let failed = |errno| Error::os(step, what.clone(), io::Error::from_raw_os_error(errno));
        match self.link.receive(number, Some(Instant::now() + PATIENCE))? {
            Received::Message((told, Some(file))) if told.kind == reply::FILE => Ok(file),
            // It was sent, and there was no number for it here.
            Received::Message((told, None)) if told.kind == reply::FILE => {
                Err(failed(libc::EMFILE).with_hint("raise the host's RLIMIT_NOFILE (ulimit -n)"))
            }
            Received::Message((told, _)) => Err(failed(told.errno)),
            Received::Nothing => {
                self.link.forget(number, Forgotten::Asked);
                Err(failed(libc::ETIMEDOUT))
            }
            Received::Closed => Err(self
                .last_words()
                .unwrap_or_else(|| Error::message(ErrorKind::Setup, step, "the sandbox has ended"))),
        }
    }
}

fn refused(message: impl Into<std::borrow::Cow<'static, str>>, path: &Path) -> Error {
    Error::message(ErrorKind::InvalidConfig, Step::Copy, message).with_path(path)
}

/// The file, if it is one that has its bytes on a filesystem: reading others may never end, and writing may be an act.
fn regular(file: OwnedFd, path: &Path) -> Result<File> {
    let failed =
        |error| Error::os(Step::Copy, format!("examining {}", path.display()), error).with_path(path);
    let kind = fstatfs(&file).map_err(|errno| failed(io::Error::from(errno)))?.filesystem_type();
    let file = File::from(file);
    let is_file = file.metadata().map_err(failed)?.is_file();
    let of_the_kernel =
        [PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&kind);
    if !is_file || of_the_kernel {
        return Err(refused(format!("{} is not a regular file", path.display()), path));
    }
    Ok(file)
}

fn copy(from: &mut impl Read, to: &mut impl Write, limit: Bytes, path: &Path) -> Result<u64> {
    let failed = |what: &str, error| {
        Error::os(Step::Copy, format!("{what} {}", path.display()), error).with_path(path)
    };
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0_u64;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("reading for the copy of", error)),
        };
        let left = limit.get() - copied;
        let fits = usize::try_from(left).map_or(count, |left| count.min(left));
        to.write_all(&buffer[..fits]).map_err(|error| failed("writing the copy of", error))?;
        copied += fits as u64;
        if fits < count {
            let message = format!("{} has more than {} bytes", path.display(), limit.get());
            return Err(Error::message(ErrorKind::LimitExceeded, Step::Copy, message)
                .with_path(path)
                .with_hint("raise the limit of the copy"));
        }
    }
    to.flush().map_err(|error| failed("writing the copy of", error))?;
    Ok(copied)
}
