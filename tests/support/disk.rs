//! Filesystems of the tests' own, in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Result, Scratch, fail, run_helper};

/// What a filesystem is made by, and mounted with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) mkfs: &'static [&'static str],
    pub(crate) options: &'static str,
}

pub(crate) const EXT4: Format =
    Format { mkfs: &["/sbin/mkfs.ext4", "-q", "-O", "^has_journal"], options: "" };
pub(crate) const XFS: Format = Format { mkfs: &["/sbin/mkfs.xfs", "-q"], options: "" };
pub(crate) const BTRFS: Format = Format { mkfs: &["/sbin/mkfs.btrfs", "-q"], options: "" };
/// With limits of projects.
pub(crate) const EXT4_QUOTA: Format = Format { options: ",prjquota", ..EXT4_COUNTED };
pub(crate) const XFS_QUOTA: Format = Format { options: ",prjquota", ..XFS };
/// Which count what projects have, and limit nothing.
pub(crate) const EXT4_COUNTED: Format =
    Format { mkfs: &["/sbin/mkfs.ext4", "-q", "-O", "quota,project"], options: "" };
pub(crate) const XFS_COUNTED: Format = Format { options: ",pqnoenforce", ..XFS };

/// A filesystem in a file, mounted until this is dropped, or its mount namespace ends; the loop device goes with the mount.
/// For roles that have a mount namespace of their own.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(scratch: &Scratch, name: &str, format: Format) -> Result<Self> {
        let image = scratch.join(format!("{name}.image"));
        // The least that mkfs.xfs makes; nothing of it is written.
        fs::File::create(&image)?.set_len(300 << 20)?;
        let run = |command: &mut Command| run_helper(command, Duration::from_secs(120))?.succeed();
        run(Command::new(format.mkfs[0]).args(&format.mkfs[1..]).arg(&image))?;
        let dir = scratch.dir(name);
        run(Command::new("/bin/mount")
            .args(["-o", &format!("loop{}", format.options)])
            .arg(&image)
            .arg(&dir))?;
        let disk = Self(dir);
        fs::set_permissions(&disk.0, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A directory on it, open to all.
    pub(crate) fn dir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }

    /// Bytes that are free, when all that was written has its place.
    pub(crate) fn free(&self) -> Result<u64> {
        let dir = fs::File::open(&self.0)?;
        nix::unistd::syncfs(&dir)?;
        let stat = nix::sys::statfs::fstatfs(&dir)?;
        Ok(stat.blocks_free() * u64::try_from(stat.block_size()).expect("a block has a size"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

/// Why this host has no project quotas. In a role with a mount namespace of its own.
pub(crate) fn try_project_quotas(place: &Path) -> Result {
    let scratch = Scratch::below(place);
    for (name, format) in [("ext4", EXT4_QUOTA), ("xfs", XFS_QUOTA)] {
        if let Err(super::Fail(message)) = Disk::mount(&scratch, name, format) {
            return fail(format!("no {name} with prjquota: {}", message.lines().next().unwrap_or_default()));
        }
    }
    Ok(())
}
