//! Files that calls are about: which paths, which rights, and what they really are inside.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};

use crate::broker::Notification;

use super::needs::Needs;

/// What is remembered between calls: what the program made itself. Rules are for what is there before it starts, so the
/// directories above stand for such files.
#[derive(Debug, Default)]
pub(super) struct Files {
    made: BTreeSet<PathBuf>,
    /// How many of them are new, and their bytes, since that was asked last.
    growth: (usize, usize),
}

/// How a call names a file: by a directory's descriptor and a path.
struct Name {
    dir: u64,
    path: u64,
}

/// `AT_FDCWD`, as the low half of a register.
const AT_CWD: u64 = 0xffff_ff9c;

const TRIES: usize = 128;
/// As many links one after the other as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

const ACCESS_MODE: u64 = 0o3;
const WRITE_ONLY: u64 = 0o1;
const READ_WRITE: u64 = 0o2;
const CREATE: u64 = 0o100;
const TRUNCATE: u64 = 0o1000;
/// `O_PATH`: nothing is read or written, and landlock does not look.
const PATH_ONLY: u64 = 0o10_000_000;
/// The bit of `O_TMPFILE` that is not `O_DIRECTORY`.
const UNNAMED: u64 = 0o20_000_000;
/// `AT_REMOVEDIR`.
const REMOVE_DIR: u64 = 0x200;

impl Files {
    fn remember(&mut self, path: PathBuf) {
        let bytes = path.as_os_str().len();
        if self.made.insert(path) {
            self.growth = (self.growth.0 + 1, self.growth.1 + bytes);
        }
    }

    /// The bytes that were remembered since this was asked last, and so many for each path.
    pub(super) fn take_growth(&mut self, each: usize) -> usize {
        let (count, bytes) = std::mem::take(&mut self.growth);
        count * each + bytes
    }

    /// Notes what the call does to files.
    pub(super) fn note(&mut self, call: &Notification<'_>, needs: &mut Needs) -> io::Result<()> {
        let args = call.args();
        let cwd = |path| Name { dir: AT_CWD, path };
        let at = |dir, path| Name { dir, path };
        match call.syscall().name().unwrap_or_default() {
            "open" => self.open(call, &cwd(args[0]), args[1], needs),
            "creat" => self.open(call, &cwd(args[0]), WRITE_ONLY | CREATE | TRUNCATE, needs),
            "openat" => self.open(call, &at(args[0], args[1]), args[2], needs),
            "openat2" => {
                let how = call.read_bytes(args[2], 8)?;
                let flags = u64::from_ne_bytes(how.try_into().unwrap_or_default());
                self.open(call, &at(args[0], args[1]), flags, needs)
            }
            "execve" => self.existing(call, &cwd(args[0]), &["execute", "read_file"], needs),
            "execveat" => self.existing(call, &at(args[0], args[1]), &["execute", "read_file"], needs),
            "truncate" => self.existing(call, &cwd(args[0]), &["truncate"], needs),
            "ftruncate" => self.open_file(call, args[0], "truncate", needs),
            "mkdir" => self.make(call, &cwd(args[0]), "make_dir", needs),
            "mkdirat" => self.make(call, &at(args[0], args[1]), "make_dir", needs),
            "symlink" => self.make(call, &cwd(args[1]), "make_sym", needs),
            "symlinkat" => self.make(call, &at(args[1], args[2]), "make_sym", needs),
            "mknod" => self.make(call, &cwd(args[0]), kind_of_node(args[1]), needs),
            "mknodat" => self.make(call, &at(args[0], args[1]), kind_of_node(args[2]), needs),
            "unlink" => self.remove(call, &cwd(args[0]), "remove_file", needs),
            "rmdir" => self.remove(call, &cwd(args[0]), "remove_dir", needs),
            "unlinkat" => {
                let right = if args[2] & REMOVE_DIR == 0 { "remove_file" } else { "remove_dir" };
                self.remove(call, &at(args[0], args[1]), right, needs)
            }
            "rename" => self.rename(call, &cwd(args[0]), &cwd(args[1]), needs),
            "renameat" | "renameat2" => {
                self.rename(call, &at(args[0], args[1]), &at(args[2], args[3]), needs)
            }
            "link" => self.link(call, &cwd(args[0]), &cwd(args[1]), needs),
            "linkat" => self.link(call, &at(args[0], args[1]), &at(args[2], args[3]), needs),
            "ioctl" => self.device(call, args[0], needs),
            _ => Ok(()),
        }
    }

    /// The path of a socket that is bound.
    pub(super) fn bind(&mut self, call: &Notification<'_>, path: &Path, needs: &mut Needs) -> io::Result<()> {
        let lexical = base(call, AT_CWD)?.join(path);
        self.made(call, &lexical, "make_sock", needs)
    }

    fn open(
        &mut self,
        call: &Notification<'_>,
        name: &Name,
        flags: u64,
        needs: &mut Needs,
    ) -> io::Result<()> {
        if flags & PATH_ONLY != 0 {
            return Ok(());
        }
        let lexical = lexical(call, name)?;
        let mut rights = Vec::new();
        match flags & ACCESS_MODE {
            WRITE_ONLY => rights.push("write_file"),
            READ_WRITE => rights.extend(["read_file", "write_file"]),
            _ => rights.push("read_file"),
        }
        match resolve(call, &lexical) {
            Ok(found) => {
                // A file without a name is a file in that directory.
                if found.is_dir && flags & UNNAMED == 0 {
                    rights = vec!["read_dir"];
                }
                if flags & TRUNCATE != 0 {
                    rights.push("truncate");
                }
                self.all(&found.path, &rights, needs);
                Ok(())
            }
            Err(error) if flags & CREATE != 0 && error.raw_os_error() == Some(libc::ENOENT) => {
                let path = self.made_at(call, &lexical)?;
                rights.push("make_reg");
                self.all(&path, &rights, needs);
                Ok(())
            }
            // What is not there needs no right to be missed.
            Err(_) => Ok(()),
        }
    }

    fn existing(
        &self,
        call: &Notification<'_>,
        name: &Name,
        rights: &[&str],
        needs: &mut Needs,
    ) -> io::Result<()> {
        let lexical = lexical(call, name)?;
        if let Ok(found) = resolve(call, &lexical) {
            self.all(&found.path, rights, needs);
        }
        Ok(())
    }

    /// A program that is started: itself, its interpreters, and what they map to be executed.
    pub(super) fn started(&self, call: &Notification<'_>, program: &Path, needs: &mut Needs) {
        let thread = call.thread_id();
        if let Ok(found) = resolve(call, program) {
            self.all(&found.path, &["execute", "read_file"], needs);
        }
        if let Ok(exe) = std::fs::read_link(format!("/proc/{thread}/exe")) {
            if has_a_name(&exe) {
                self.all(&exe, &["execute", "read_file"], needs);
            }
        }
        // The loader is mapped by execve itself, from a file that nobody opens.
        let maps = std::fs::read_to_string(format!("/proc/{thread}/maps")).unwrap_or_default();
        for line in maps.lines() {
            // Range, mode, offset, device, inode; the name of anonymous memory is the program's own word.
            let mut words = line.split(' ').skip(1);
            let is_executable = words.next().is_some_and(|mode| mode.contains('x'));
            let is_file = words.nth(2).is_some_and(|inode| inode != "0");
            let path = line.find('/').map(|start| Path::new(&line[start..]));
            if let Some(path) = path.filter(|path| is_executable && is_file && has_a_name(path)) {
                self.all(path, &["execute", "read_file"], needs);
            }
        }
    }

    fn open_file(&self, call: &Notification<'_>, fd: u64, right: &str, needs: &mut Needs) -> io::Result<()> {
        let path = target(call, fd)?;
        if !path.is_absolute() || path.as_os_str().as_bytes().starts_with(b"/memfd:") {
            return Ok(());
        }
        match has_a_name(&path) {
            true => self.all(&path, &[right], needs),
            // It will not be there when a rule for it is made: its directory stands for it.
            false => self.above(&path, &[right], needs),
        }
        Ok(())
    }

    fn device(&self, call: &Notification<'_>, fd: u64, needs: &mut Needs) -> io::Result<()> {
        let path = target(call, fd)?;
        let link = format!("/proc/{}/fd/{}", call.thread_id(), fd & 0xffff_ffff);
        let kind = std::fs::metadata(link)?.file_type();
        if path.is_absolute() && (kind.is_char_device() || kind.is_block_device()) {
            self.all(&path, &["ioctl_dev"], needs);
        }
        Ok(())
    }

    fn make(
        &mut self,
        call: &Notification<'_>,
        name: &Name,
        right: &str,
        needs: &mut Needs,
    ) -> io::Result<()> {
        let lexical = lexical(call, name)?;
        self.made(call, &lexical, right, needs)
    }

    fn made(
        &mut self,
        call: &Notification<'_>,
        lexical: &Path,
        right: &str,
        needs: &mut Needs,
    ) -> io::Result<()> {
        let path = self.made_at(call, lexical)?;
        self.all(&path, &[right], needs);
        Ok(())
    }

    /// Remembers that the program makes this, and returns its path without symlinks.
    fn made_at(&mut self, call: &Notification<'_>, lexical: &Path) -> io::Result<PathBuf> {
        let path = parent_resolved(call, lexical)?;
        if resolve(call, lexical).is_err() {
            self.remember(path.clone());
        }
        Ok(path)
    }

    fn remove(&self, call: &Notification<'_>, name: &Name, right: &str, needs: &mut Needs) -> io::Result<()> {
        let path = parent_resolved(call, &lexical(call, name)?)?;
        self.above(&path, &[right], needs);
        Ok(())
    }

    fn rename(
        &mut self,
        call: &Notification<'_>,
        from: &Name,
        to: &Name,
        needs: &mut Needs,
    ) -> io::Result<()> {
        let (old, new) = (lexical(call, from)?, lexical(call, to)?);
        let is_dir = resolve(call, &old).is_ok_and(|found| found.is_dir);
        let (remove, make) = if is_dir { ("remove_dir", "make_dir") } else { ("remove_file", "make_reg") };
        let (source, target) = (parent_resolved(call, &old)?, parent_resolved(call, &new)?);
        self.above(&source, &[remove], needs);
        let mut rights = vec![make];
        if resolve(call, &new).is_ok() {
            rights.push(remove);
        }
        self.above(&target, &rights, needs);
        self.refer(&source, &target, needs);
        self.remember(target);
        Ok(())
    }

    fn link(&mut self, call: &Notification<'_>, from: &Name, to: &Name, needs: &mut Needs) -> io::Result<()> {
        let (source, target) =
            (parent_resolved(call, &lexical(call, from)?)?, parent_resolved(call, &lexical(call, to)?)?);
        self.above(&target, &["make_reg"], needs);
        self.refer(&source, &target, needs);
        self.remember(target);
        Ok(())
    }

    fn refer(&self, source: &Path, target: &Path, needs: &mut Needs) {
        if source.parent() != target.parent() {
            self.above(source, &["refer"], needs);
            self.above(target, &["refer"], needs);
        }
    }

    /// Rights that a directory has for what is in it.
    fn above(&self, path: &Path, rights: &[&str], needs: &mut Needs) {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let place = self.before_the_program(dir);
        rights.iter().for_each(|right| needs.insert_file(right, &place));
    }

    /// Rights of a file, or of the directory that stands for it. Those about entries are always a directory's.
    fn all(&self, path: &Path, rights: &[&str], needs: &mut Needs) {
        for right in rights {
            if right.starts_with("make_") {
                self.above(path, &[right], needs);
            } else {
                needs.insert_file(right, &self.before_the_program(path));
            }
        }
    }

    /// The path, or the first directory above it that the program has not made. What is in `/proc` comes and goes with
    /// processes.
    fn before_the_program(&self, path: &Path) -> PathBuf {
        if path.starts_with("/proc") {
            return "/proc".into();
        }
        if path.starts_with("/dev/pts") {
            return "/dev/pts".into();
        }
        // The outermost of what was made: everything inside of it was made as well.
        let ancestors: Vec<&Path> = path.ancestors().collect();
        let made = ancestors.iter().rposition(|dir| self.made.contains(*dir));
        let place = made.and_then(|made| ancestors.get(made + 1)).unwrap_or(&path);
        place.to_path_buf()
    }
}

fn kind_of_node(mode: u64) -> &'static str {
    match u32::try_from(mode & 0o170_000).unwrap_or(0) {
        libc::S_IFCHR => "make_char",
        libc::S_IFBLK => "make_block",
        libc::S_IFIFO => "make_fifo",
        libc::S_IFSOCK => "make_sock",
        _ => "make_reg",
    }
}

/// The path as the program sees it, with `.` and nothing else taken out of it.
fn lexical(call: &Notification<'_>, name: &Name) -> io::Result<PathBuf> {
    let path = call.read_path(name.path)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Ok(base(call, name.dir)?.join(path))
}

/// The directory that a relative path starts from.
fn base(call: &Notification<'_>, dir: u64) -> io::Result<PathBuf> {
    if dir & 0xffff_ffff == AT_CWD {
        return std::fs::read_link(format!("/proc/{}/cwd", call.thread_id()));
    }
    target(call, dir)
}

/// What a descriptor of the program leads to.
fn target(call: &Notification<'_>, fd: u64) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{}/fd/{}", call.thread_id(), fd & 0xffff_ffff))
}

/// Whether what procfs says of an open file still leads to one (proc(5)).
fn has_a_name(path: &Path) -> bool {
    !path.as_os_str().as_bytes().ends_with(b" (deleted)")
}

struct Found {
    /// Without symlinks, as the program sees it.
    path: PathBuf,
    is_dir: bool,
}

/// `openat2(2)` asks for another try where anything on the machine was renamed or mounted while it went up a `..`. This
/// many are enough for others' renames, and the program cannot hold us up with its own.
fn open_in(root: &File, path: &Path, how: OpenHow) -> nix::Result<OwnedFd> {
    let mut opened = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        opened = openat2(root, path, how);
        if !matches!(opened, Err(Errno::EAGAIN)) {
            break;
        }
    }
    opened
}

/// The same for a link that we may not follow though the program may: where `fs.protected_symlinks` is on (proc(5)), a
/// link at the end of a path in a sticky directory, as `/tmp` is, leads only those who own it.
fn follow(root: &File, path: &Path, how: OpenHow, flags: OFlag) -> nix::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match open_in(root, &path, how.flags(flags)) {
            Err(Errno::EACCES) => {}
            other => return other,
        }
        let link = open_in(root, &path, how.flags(flags | OFlag::O_NOFOLLOW))?;
        let target = readlinkat(&link, "").map_err(|_| Errno::EACCES)?;
        path = path.parent().ok_or(Errno::EACCES)?.join(target);
    }
    Err(Errno::ELOOP)
}

/// Follows a path in the program's root, and no further than that.
fn resolve(call: &Notification<'_>, path: &Path) -> io::Result<Found> {
    let root = File::open(format!("/proc/{}/root", call.thread_id()))?;
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let how = OpenHow::new().resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let is_plain = path.components().all(|component| component != Component::ParentDir);
    if path.starts_with("/proc") && is_plain {
        // Names of processes in it are those of another PID namespace, in which we are not.
        openat2(&root, "/proc/self", how.flags(flags | OFlag::O_NOFOLLOW))?;
        return Ok(Found { path: path.to_owned(), is_dir: false });
    }
    let file = File::from(follow(&root, path, how, flags)?);
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let is_dir = file.metadata()?.is_dir();
    let host_root = std::fs::read_link(format!("/proc/{}/root", call.thread_id()))?;
    // Without a root of its own the program has a directory of the host's for one.
    let path = match path.strip_prefix(&host_root) {
        Ok(rest) if host_root != Path::new("/") => Path::new("/").join(rest),
        _ => path,
    };
    Ok(Found { path, is_dir })
}

/// The last component stays, for it is what is made or removed; what is above it is followed.
fn parent_resolved(call: &Notification<'_>, path: &Path) -> io::Result<PathBuf> {
    let mut components = path.components();
    let name = components.next_back();
    let parent = resolve(call, components.as_path())?;
    match name {
        Some(Component::Normal(name)) => Ok(parent.path.join(name)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_above_stands_for_what_was_made() {
        let mut files = Files::default();
        for path in ["/tmp/a", "/tmp/a/b", "/srv/x/y"] {
            files.made.insert(path.into());
        }
        let place = |path: &str| files.before_the_program(Path::new(path)).display().to_string();
        assert_eq!(place("/tmp/a"), "/tmp");
        assert_eq!(place("/tmp/a/b/c"), "/tmp");
        assert_eq!(place("/tmp/other"), "/tmp/other");
        assert_eq!(place("/srv/x/y"), "/srv/x");
        assert_eq!(place("/proc/12/status"), "/proc");
        assert_eq!(place("/dev/pts/3"), "/dev/pts");
        let mut needs = Needs::default();
        files.all(Path::new("/tmp/a/b"), &["write_file", "make_reg"], &mut needs);
        assert_eq!(needs.to_string(), "make_reg /tmp\nwrite_file /tmp\n");
    }
}
