//! Limits of input and output, and the devices they are for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::value::bounded;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Bytes;

/// A disk, named by a path. It is looked up when the sandbox is planned, and when it is given to one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice(PathBuf);

impl BlockDevice {
    /// The disk that a block special file stands for, or the one that a file or directory lies on. Limits are those of
    /// whole disks: of a partition's, for a partition. A filesystem that is on no single disk (tmpfs, overlayfs, btrfs)
    /// is an error of [`Sandbox::plan`](crate::Sandbox::plan).
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    #[cfg(feature = "serde")]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Its number, `MAJOR:MINOR`.
    pub(super) fn number(&self) -> Result<String> {
        let path = &self.0;
        let failed = |error| {
            Error::os(Step::Cgroup, format!("looking for the disk of {}", path.display()), error)
                .with_path(path)
        };
        let metadata = fs::metadata(path).map_err(failed)?;
        let number = if metadata.file_type().is_block_device() { metadata.rdev() } else { metadata.dev() };
        let number = format!("{}:{}", major(number), minor(number));
        let dir = Path::new("/sys/dev/block").join(&number);
        let Ok(dir) = dir.canonicalize() else {
            let message = format!("{} is on no disk that the kernel could limit", path.display());
            return Err(Error::message(ErrorKind::Unsupported, Step::Cgroup, message)
                .with_path(path)
                .with_hint("name the disk itself, as `findmnt` and `lsblk` show it"));
        };
        if !dir.join("partition").exists() {
            return Ok(number);
        }
        // The directory of a partition lies in that of its disk.
        let disk = dir.join("../dev");
        fs::read_to_string(&disk).map(|text| text.trim_end().to_owned()).map_err(failed)
    }
}

/// How fast a device may be used. What is not set is not limited.
///
/// # Examples
///
/// ```
/// use belljar::{Bytes, IoMax};
///
/// let max = IoMax::new().read(Bytes::mib(20)).write(Bytes::mib(5)).read_iops(500);
/// # let _ = max;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct IoMax {
    pub(crate) read_bytes: Option<u64>,
    pub(crate) write_bytes: Option<u64>,
    pub(crate) read_operations: Option<u64>,
    pub(crate) write_operations: Option<u64>,
}

impl IoMax {
    /// No limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes per second that are read. `rbps`.
    pub fn read(mut self, bytes: impl Into<Bytes>) -> Self {
        self.read_bytes = Some(bytes.into().get());
        self
    }

    /// Bytes per second that are written. `wbps`.
    pub fn write(mut self, bytes: impl Into<Bytes>) -> Self {
        self.write_bytes = Some(bytes.into().get());
        self
    }

    /// Read operations per second. `riops`.
    pub fn read_iops(mut self, operations: u64) -> Self {
        self.read_operations = Some(operations);
        self
    }

    /// Write operations per second. `wiops`.
    pub fn write_iops(mut self, operations: u64) -> Self {
        self.write_operations = Some(operations);
        self
    }

    /// The four limits with the version 2 key and the version 1 file of each; the inner `None` is no limit.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<u64>)> + use<> {
        [
            ("rbps", "blkio.throttle.read_bps_device", self.read_bytes),
            ("wbps", "blkio.throttle.write_bps_device", self.write_bytes),
            ("riops", "blkio.throttle.read_iops_device", self.read_operations),
            ("wiops", "blkio.throttle.write_iops_device", self.write_operations),
        ]
        .into_iter()
        .filter_map(|(key, file, value)| value.map(|value| (key, file, bounded(value))))
    }

    pub(super) fn validate(&self, device: &BlockDevice) -> Result<()> {
        let what = device.0.display();
        if self.parts().next().is_none() {
            return Err(Error::invalid(format!("an I/O limit for {what} that limits nothing")));
        }
        if self.parts().any(|(_, _, value)| value == Some(0)) {
            return Err(Error::invalid(format!("an I/O limit of 0 for {what} lets nothing run")));
        }
        // The kernel counts operations in 32 bits and answers EINVAL to version 2, and takes less in version 1.
        let operations = [self.read_operations, self.write_operations];
        match operations
            .into_iter()
            .flatten()
            .find(|count| bounded(*count).is_some_and(|n| n > u32::MAX.into()))
        {
            Some(count) => {
                Err(Error::invalid(format!("{count} I/O operations a second are more than 4294967295")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_without_a_disk_are_told() {
        let error = BlockDevice::at("/proc").number().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some());
        assert_eq!(BlockDevice::at("/no/such/place").number().unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn rates_that_cannot_be() {
        let device = BlockDevice::at("/");
        assert!(IoMax::new().read_iops(1 << 33).validate(&device).is_err());
        assert!(IoMax::new().read_iops(u64::MAX).validate(&device).is_ok(), "no limit");
        assert!(IoMax::new().write(u64::MAX).read(1).validate(&device).is_ok());
    }
}
