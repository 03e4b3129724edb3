//! What a sandbox has changed in its root: the upper directory of an overlay, or a copy, read beside the layers below it.
//!
//! Overlayfs copies what is written to from the layers into the upper, and marks there what was deleted. So what is in the
//! upper is what was touched, and only a comparison with the layers tells what became of it. Both are walked by
//! descriptors, following no symlink: names and contents of the upper are the program's.

mod apply;
mod attributes;
mod walk;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use self::apply::Target;
pub(crate) use self::walk::View;
use self::walk::{Scope, Walk};
use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::control::START_PATIENCE;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::fsimage::{self, FsImage};
use crate::idmap::MapPlan;
use crate::limits::Bytes;
use crate::merged::{Layers, Marks};
use crate::removal;
use crate::rootfs::{Changeable, Kept, Rootfs};
use crate::runtime::Runtime;
use crate::source::Origin;
use crate::sys;
use crate::upper::UpperDir;
use crate::wire::{Request, request};

/// One difference between a root as it is and as its layers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The path inside, from `/`.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
    /// How large a regular file is now; zero for everything else.
    pub size: Bytes,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// A file or symbolic link has another content.
    Modified,
    /// It is gone, a directory with all that was in it.
    Deleted,
    /// It is of another type: a file where a directory was, for instance. What is in a new directory is
    /// [`Added`](Self::Added).
    TypeChanged,
    /// A directory that was replaced by another one: what was in it is gone, and what is in it is [`Added`](Self::Added).
    Opaque,
    /// Only permissions, owner, times or extended attributes are other ones, or it has more names. Of attributes those named
    /// `user.` count, but for overlayfs' own, and capabilities of files; times not those of directories.
    Metadata,
}

impl Container {
    /// What has changed in the root since the container started: with an [`Upper::tmpfs`](crate::Upper::tmpfs), or since
    /// the [`Upper::dir`](crate::Upper::dir) was empty. In the order of a directory tree, each directory's entries by
    /// name. Mounts of the sandbox (`/tmp`, binds) are not part of its root.
    ///
    /// Programs are stopped for the time this takes if the container is [`freezable`](crate::Sandbox::freezable);
    /// otherwise what they change meanwhile may be in the list, or not. Whatever they do, nothing else is read.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the root is no overlay with an upper,
    /// [`Unsupported`](ErrorKind::Unsupported) for an upper that was mounted with `redirect_dir` or `metacopy`,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) for a directory that the program has closed to an unprivileged
    /// host, [`LimitExceeded`](ErrorKind::LimitExceeded) for directories that are more than 500 deep and
    /// names of more than 64 MiB in all, and
    /// failures to read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, ChangeKind, Command, Rootfs, Sandbox, Upper};
    ///
    /// let root = Rootfs::overlay(["/srv/debian"]).upper(Upper::tmpfs(Bytes::mib(64), 10_000));
    /// let container = Sandbox::new().rootfs(root).start()?;
    /// container.status(Command::new("/bin/sh").args(["-c", "rm /etc/motd; echo hello > /note"]))?;
    /// for change in container.changes()? {
    ///     println!("{:?} {}", change.kind, change.path.display());
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.runtime().read_upper(|_, _, changes| Ok(changes))
    }

    /// Writes the changes below a directory of the sandbox to a directory of the host, and returns those that were left
    /// out: of what is no file, directory or symbolic link, or cannot be read by an unprivileged host.
    ///
    /// `to` becomes what `below` is inside, if it is what the layers have there: what was deleted is removed, what was
    /// written is written. If `below` itself was deleted or replaced, `to` is emptied, and is not removed. No symbolic
    /// link is followed, neither one that the program has made nor one below `to`, and no mount below `to` is entered.
    /// A file is replaced as a whole. Permissions are those inside without set-user-id bits. A file stays its owner's,
    /// and what is new belongs to the owner of its directory, if the host may give files away. `limit` is for the bytes
    /// of all files together.
    ///
    /// # Errors
    ///
    /// As [`changes`](Container::changes), and [`NotFound`](ErrorKind::NotFound) if `to` or a directory in it is not
    /// there, [`LimitExceeded`](ErrorKind::LimitExceeded) for more bytes than `limit`, and failures to write. What
    /// was written until then stays.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Bytes, Command, Rootfs, Sandbox, Upper};
    ///
    /// // /srv/agent/project/… is a project. What is done to it is looked at before it comes true.
    /// let root = Rootfs::overlay(["/srv/agent", "/srv/debian"]).upper(Upper::tmpfs(Bytes::mib(64), 10_000));
    /// let container = Sandbox::new().rootfs(root).start()?;
    /// container.status(Command::new("/bin/sh").args(["-c", "cd /project && make"]))?;
    /// if container.changes()?.len() < 100 {
    ///     container.apply("/project", "/srv/agent/project", Bytes::mib(64))?;
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn apply(
        &self,
        below: impl AsRef<Path>,
        to: impl AsRef<Path>,
        limit: impl Into<Bytes>,
    ) -> Result<Vec<Change>> {
        let (below, limit) = (absolute(below.as_ref())?, limit.into());
        self.runtime()
            .read_upper(|upper, _, changes| Target::open(upper, &below, to.as_ref(), limit)?.apply(changes))
    }
}

impl Rootfs {
    /// What is different in a persistent upper, [`Upper::dir`](crate::Upper::dir), when no sandbox uses it. As
    /// [`Container::changes`], with ids as they are on disk. It is not known which sandbox has left it: a program of one
    /// without a user namespace can set attributes that look like marks of what was deleted.
    ///
    /// # Errors
    ///
    /// As [`Container::changes`]; [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no such upper, too, and
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) while a sandbox uses it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Rootfs, Upper};
    ///
    /// let root = Rootfs::overlay(["/srv/debian"]).upper(Upper::dir("/srv/run/upper", "/srv/run/work"));
    /// println!("{} changes", root.changes()?.len());
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.read_kept(|_, _, changes| Ok(changes))
    }

    /// The same as [`Runtime::read_upper`] for a persistent upper.
    pub(crate) fn read_kept<T>(
        &self,
        act: impl FnOnce(&OwnedFd, &View, Vec<Change>) -> Result<T>,
    ) -> Result<T> {
        let changeable = self.changeable();
        let Some((upper, changeable)) =
            changeable.as_ref().and_then(|changeable| Some((changeable.kept.dir()?, changeable)))
        else {
            return Err(
                nothing_kept().with_hint("give it Upper::dir(); one in memory is asked for by its Container")
            );
        };
        let lock = lock_upper(upper, UpperUse::Reading)?;
        let ids = View::AsOnDisk;
        let done = fsimage::mount_all(&changeable.layers)
            .and_then(|images| read(&lock, changeable, &images, Marks::Either, &ids, &ids))
            .and_then(|changes| act(&lock, &ids, changes));
        unlock_upper(&lock);
        done
    }

    /// Throws away what is in a persistent upper, [`Upper::dir`](crate::Upper::dir), when no sandbox uses it: empties both
    /// of its directories, however deep, closed or read-only their contents are. No symbolic link is followed and no
    /// mount entered. What an upper in memory has is gone with its sandbox.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no such upper,
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) while a sandbox uses it, and failures to remove.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Rootfs, Upper};
    ///
    /// let root = Rootfs::overlay(["/srv/debian"]).upper(Upper::dir("/srv/run/upper", "/srv/run/work"));
    /// if root.changes()?.len() > 1000 {
    ///     root.discard()?;
    /// }
    /// # Ok::<(), belljar::Error>(())
    /// ```
    pub fn discard(&self) -> Result<()> {
        let Some(UpperDir { upper, work, .. }) = self.upper_dir() else {
            return Err(nothing_kept().with_hint("only what Upper::dir() keeps outlasts its sandbox"));
        };
        let failed = |path: &Path, error: std::io::Error| {
            Error::os(Step::Changes, format!("emptying {}", path.display()), error).with_path(path)
        };
        let lock = lock_upper(upper, UpperUse::Writing)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let emptied = open(work, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|work| removal::empty(work.as_fd()))
            .map_err(|error| failed(work, error))
            .and_then(|()| removal::empty(lock.as_fd()).map_err(|error| failed(upper, error)));
        unlock_upper(&lock);
        emptied
    }
}

/// A path inside, from `/`.
fn absolute(path: &Path) -> Result<PathBuf> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if path.is_absolute() && path.components().all(plain) {
        return Ok(path.components().collect());
    }
    let message = format!("{} is not a plain path from /", path.display());
    Err(Error::message(ErrorKind::InvalidConfig, Step::Changes, message)
        .with_path(path)
        .with_hint("name a directory of the sandbox as a program in it would, without `..`"))
}

impl Runtime {
    /// Reads what has changed, and does something with that while nothing else happens to it: with the directory that has
    /// it, whose ids the host sees there, and the changes.
    pub(crate) fn read_upper<T>(
        &self,
        act: impl FnOnce(&OwnedFd, &View, Vec<Change>) -> Result<T>,
    ) -> Result<T> {
        let lowered = &*self.plan.0;
        let Some(changeable) = lowered.changeable.as_ref().filter(|_| lowered.has_root) else {
            return Err(nothing_kept().with_hint("make it Rootfs::overlay(..).upper(..)"));
        };
        let maps = match (&lowered.maps, &*self.block()) {
            (None, _) => None,
            (Some(MapPlan::Fixed(maps)), _) => Some(maps.clone()),
            (Some(MapPlan::Block), block) => block.as_ref().map(|block| block.maps(lowered.program_ids)),
        };
        let marks = if lowered.maps.is_some() { Marks::User } else { Marks::Trusted };
        let by_map = || maps.clone().map_or(View::AsOnDisk, View::Mapped);
        // Layers and directories of the host are presented to the sandbox with the ids that they have on disk, if the host
        // can do that; what is in memory has those of the sandbox.
        let on_disk = || if lowered.presents_ids { View::AsOnDisk } else { by_map() };
        // Nothing starts, nobody freezes and nobody else reads until this is done.
        let _alone = self.starts.alone(START_PATIENCE)?;
        let stopped = self.stop_for_reading()?.then(|| Stopped(self));
        let (upper, view) = match &self.upper {
            Some(lock) => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let again = openat(lock, ".", flags, Mode::empty());
                (
                    again.map_err(|errno| Error::os(Step::Changes, "opening the upper directory", errno)),
                    on_disk(),
                )
            }
            None => {
                let message = Request { kind: request::OPEN_UPPER, ..Request::default() };
                (self.ask(message, None, Step::Changes, "opening the upper directory".into()), by_map())
            }
        };
        // Those that the sandbox has, whatever is at their paths by now.
        let images = lowered.sources.iter().filter_map(|source| match &source.origin {
            Origin::Image(image) => Some(image.clone()),
            Origin::Path(_) | Origin::Devices | Origin::Skeleton(_) => None,
        });
        let images: Vec<_> = images.collect();
        let read = |upper: &OwnedFd| read(upper, changeable, &images, marks, &view, &on_disk());
        let done = upper.and_then(|upper| act(&upper, &view, read(&upper)?));
        if let Some(stopped) = stopped {
            std::mem::forget(stopped);
            self.with_cgroup(Cgroup::thaw)?;
        }
        done
    }

    /// Stops the programs, if that can be done and was not; whether they are to go on afterwards.
    fn stop_for_reading(&self) -> Result<bool> {
        let can = |cgroup: &mut Cgroup| Ok(cgroup.can_freeze() && !cgroup.is_frozen());
        if self.plan.0.placement.is_empty() || !self.with_cgroup(can)? {
            return Ok(false);
        }
        self.stop().map(|()| true)
    }
}

/// Programs go on if the caller's writer panics, too.
struct Stopped<'a>(&'a Runtime);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.with_cgroup(Cgroup::thaw).ok();
    }
}

fn nothing_kept() -> Error {
    Error::message(ErrorKind::InvalidConfig, Step::Changes, "the root keeps no changes")
}

/// Opens the directory that an overlay keeps its changes in, and locks it: for a sandbox alone, or to be read. The lock
/// lasts as long as any copy of the descriptor.
pub(crate) fn lock_upper(upper: &Path, how: UpperUse) -> Result<OwnedFd> {
    let failed = |what: &str, error: std::io::Error| {
        Error::os(Step::MountSource, format!("{what} the upper directory {}", upper.display()), error)
            .with_path(upper)
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = open(upper, flags, Mode::empty()).map_err(|errno| failed("opening", errno.into()))?;
    let how = match how {
        UpperUse::Writing => libc::LOCK_EX,
        UpperUse::Reading => libc::LOCK_SH,
    };
    // Not a guard that unlocks: a forked copy of the host drops its values, too, and the lock is the same.
    match sys::lock(dir.as_fd(), how | libc::LOCK_NB) {
        Ok(()) => Ok(dir),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let message = format!("the upper directory {} is in use by a sandbox", upper.display());
            Err(Error::message(ErrorKind::ResourceExhausted, Step::MountSource, message)
                .with_path(upper)
                .with_hint("wait for the end of the other one, or give each a directory of its own"))
        }
        Err(error) => Err(failed("locking", error)),
    }
}

/// Unlocks it at once. A process that somebody else is just starting may have a copy of the descriptor for a moment longer
/// than we do.
pub(crate) fn unlock_upper(upper: &OwnedFd) {
    // The last close does it in any case.
    sys::lock(upper.as_fd(), libc::LOCK_UN).ok();
}

/// What the upper directory of an overlay is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpperUse {
    /// By a sandbox, alone.
    Writing,
    Reading,
}

fn read(
    upper: &OwnedFd,
    changeable: &Changeable,
    images: &[FsImage],
    marks: Marks,
    upper_ids: &View,
    layer_ids: &View,
) -> Result<Vec<Change>> {
    let (scope, marks) = match changeable.kept {
        Kept::InMemory | Kept::Upper(_) => (Scope::Touched, marks),
        // A program can make what looks like a mark, and it is none.
        Kept::Copy(_) => (Scope::Whole, Marks::None),
    };
    let layers = Layers::of(&changeable.layers, images, marks)?;
    Walk::new(&layers, scope, upper_ids, layer_ids).all(upper)
}
