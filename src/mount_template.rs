//! Where inits start on hosts with many mounts: a mount namespace that has no more of the host's mounts than a plan needs.
//!
//! A new mount namespace begins as a copy of the one it is made in, mount by mount, and ends by taking the copy apart.
//! An init that starts in a template has a copy of that, which is small. Files are still looked up by path, in the
//! host's own filesystems: what is renamed or replaced there is seen at once. Of what is mounted and unmounted the kernel
//! tells, and a template of what was before is not used any more.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::mountinfo;
use crate::sys::{self, MountPart};

/// From so many mounts on, a second child that enters a template costs less than what it saves.
const WORTHWHILE: usize = 100;
/// The init needs a procfs: it is led to its own files by it, and the kernel lets it mount another only where one is
/// seen whole.
const PROC: &str = "/proc";

/// What a plan's inits look up by path, and the namespace that was made of it.
#[derive(Debug)]
pub(crate) struct MountTemplate {
    paths: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nothing is known of the host's mounts.
    New,
    /// They have not changed since.
    Watched(Table),
    /// And they are many.
    Made(Table, Arc<OwnedFd>),
    /// It was tried in vain.
    Unavailable,
}

impl MountTemplate {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, state: Mutex::new(State::New) }
    }

    /// The namespace to start in, or `None` if that of the host is as good.
    ///
    /// One is made only after the mounts were the same at two launches in a row, so that a host that mounts all the time
    /// does not make templates all the time.
    pub(crate) fn namespace(&self) -> Option<Arc<OwnedFd>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match std::mem::replace(&mut *state, State::New) {
            State::New => Table::open().map_or(State::Unavailable, State::Watched),
            State::Watched(table) | State::Made(table, _) if table.has_changed() => {
                Table::open().map_or(State::Unavailable, State::Watched)
            }
            State::Watched(table) if table.few => State::Watched(table),
            State::Watched(table) => self.make(table).unwrap_or(State::Unavailable),
            made_or_unavailable => made_or_unavailable,
        };
        let namespace = match &next {
            State::Made(_, namespace) => Some(namespace.clone()),
            _ => None,
        };
        *state = next;
        namespace
    }

    /// The kernel does not let this process use it.
    pub(crate) fn give_up(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Unavailable;
    }

    fn make(&self, mut table: Table) -> io::Result<State> {
        let mut text = Vec::new();
        table.file.read_to_end(&mut text)?;
        let lines = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let mut kept: Vec<PathBuf> =
            lines().filter_map(mountinfo::mount_point).filter(|point| self.needs(point)).collect();
        // Those above come first. Of several at one place the topmost is seen.
        kept.sort();
        kept.dedup();
        if lines().count() < WORTHWHILE.max(2 * kept.len()) {
            table.few = true;
            return Ok(State::Watched(table));
        }
        let part = |point: &PathBuf| {
            let path = CString::new(point.as_os_str().as_bytes())?;
            Ok(MountPart { tree: sys::clone_tree(&path, sys::Reach::One)?, path })
        };
        let parts = kept.iter().map(part).collect::<io::Result<Vec<_>>>()?;
        let namespace = sys::namespace_of_mounts(parts).and_then(sys::above_stdio)?;
        Ok(State::Made(table, Arc::new(namespace)))
    }

    /// Whether a lookup goes over this mount, or what is looked up has it below.
    fn needs(&self, point: &Path) -> bool {
        let paths = self.paths.iter().map(PathBuf::as_path);
        paths.chain([Path::new(PROC)]).any(|path| path.starts_with(point) || point.starts_with(path))
    }
}

/// The mounts of the calling thread's namespace, as they were when this was opened.
#[derive(Debug)]
struct Table {
    file: File,
    namespace: (u64, u64),
    root: (u64, u64),
    /// Too few for a template to be of use.
    few: bool,
}

impl Table {
    fn open() -> io::Result<Self> {
        let (namespace, root) = (identity("/proc/thread-self/ns/mnt")?, identity("/")?);
        Ok(Self { file: File::open("/proc/thread-self/mountinfo")?, namespace, root, few: false })
    }

    /// Whether there are other mounts by now, or this thread sees others.
    fn has_changed(&self) -> bool {
        // The kernel says so once to each that has the file open. See proc_pid_mounts(5).
        let mut changed = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        let same = |path, before| identity(path).is_ok_and(|now| now == before);
        poll(&mut changed, PollTimeout::ZERO) != Ok(0)
            || !same("/proc/thread-self/ns/mnt", self.namespace)
            || !same("/", self.root)
    }
}

fn identity(path: impl AsRef<OsStr>) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path.as_ref())?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, setns, unshare};

    const NONE: Option<&str> = None;

    /// On a thread with a mount namespace of its own and so many mounts more. Without root nothing is made at all, and before
    /// Linux 5.12 no attribute of a mount is set.
    fn with_mounts(number: usize, act: impl FnOnce(&Path) + Send) {
        let tree = sys::clone_tree(c"/", sys::Reach::One);
        let has_attributes = tree.and_then(|tree| sys::make_tree_read_only(&tree)).is_ok();
        if !nix::unistd::geteuid().is_root() || !has_attributes {
            return;
        }
        std::thread::scope(|scope| {
            let run = move || {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
                let dir = Path::new("/mnt");
                mount(Some("test"), dir, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
                for name in ["wanted/deep", "unwanted"] {
                    fs::create_dir_all(dir.join(name)).unwrap();
                }
                for _ in 0..number {
                    bind(&dir.join("unwanted"), &dir.join("unwanted"));
                }
                act(dir);
            };
            scope.spawn(run).join().unwrap();
        });
    }

    fn bind(source: &Path, target: &Path) {
        mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE).unwrap();
    }

    /// What is mounted in a namespace, as a process in it sees it.
    fn points(namespace: &OwnedFd) -> Vec<PathBuf> {
        std::thread::scope(|scope| {
            let read = || {
                unshare(CloneFlags::CLONE_FS).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNS).unwrap();
                let text = fs::read("/proc/thread-self/mountinfo").unwrap();
                text.split(|&byte| byte == b'\n').filter_map(mountinfo::mount_point).collect()
            };
            scope.spawn(read).join().unwrap()
        })
    }

    #[test]
    fn has_what_is_looked_up_and_nothing_else() {
        with_mounts(WORTHWHILE, |dir| {
            bind(&dir.join("wanted"), &dir.join("wanted/deep"));
            let template = MountTemplate::new(vec![dir.join("wanted")]);
            assert!(template.namespace().is_none());
            let namespace = template.namespace().unwrap();
            let mut points = points(&namespace);
            points.retain(|point| !point.starts_with(PROC));
            points.sort();
            assert_eq!(points, ["/".into(), dir.to_path_buf(), dir.join("wanted/deep")]);
            // And it is kept.
            assert!(Arc::ptr_eq(&namespace, &template.namespace().unwrap()));
        });
    }

    #[test]
    fn is_not_used_after_a_mount_or_an_unmount() {
        with_mounts(WORTHWHILE, |dir| {
            let template = MountTemplate::new(vec![dir.join("wanted")]);
            template.namespace();
            assert!(template.namespace().is_some());
            bind(&dir.join("unwanted"), &dir.join("wanted/deep"));
            assert!(template.namespace().is_none());
            let namespace = template.namespace().unwrap();
            assert!(points(&namespace).contains(&dir.join("wanted/deep")));
            umount2(&dir.join("wanted/deep"), MntFlags::empty()).unwrap();
            assert!(template.namespace().is_none());
            let namespace = template.namespace().unwrap();
            assert!(!points(&namespace).contains(&dir.join("wanted/deep")));
        });
    }

    #[test]
    fn is_not_used_by_a_thread_that_sees_other_mounts() {
        with_mounts(WORTHWHILE, |dir| {
            let template = MountTemplate::new(vec![dir.join("wanted")]);
            template.namespace();
            assert!(template.namespace().is_some());
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            assert!(template.namespace().is_none());
        });
    }

    #[test]
    fn making_one_mounts_nothing_on_the_host() {
        with_mounts(WORTHWHILE, |dir| {
            // As systemd leaves them: what is mounted below one shows up below its copies.
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).unwrap();
            let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let template = MountTemplate::new(vec![dir.join("wanted")]);
            template.namespace();
            let namespace = template.namespace().unwrap();
            assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before);
            // What is unmounted on such a host is not held by the template.
            assert!(points(&namespace).contains(&dir.to_path_buf()));
            umount2(dir, MntFlags::MNT_DETACH).unwrap();
            assert!(!points(&namespace).contains(&dir.to_path_buf()));
        });
    }

    #[test]
    fn few_mounts_need_none() {
        with_mounts(0, |dir| {
            let template = MountTemplate::new(vec![dir.join("wanted")]);
            for _ in 0..3 {
                assert!(template.namespace().is_none());
            }
        });
    }
}
