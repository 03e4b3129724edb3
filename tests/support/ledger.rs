//! What a host can lose to a sandbox.

use std::fs;

use super::oracle;

/// What this process and the machine have, to be compared with what they had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) fds: usize,
    pub(crate) children: usize,
    pub(crate) boxes: usize,
    pub(crate) mounts: usize,
    pub(crate) files: usize,
    pub(crate) threads: String,
}

impl Ledger {
    pub(crate) fn now() -> Self {
        let files = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
        Self {
            fds: oracle::open_fds().len(),
            children: oracle::children(std::process::id()).len(),
            boxes: oracle::boxes_of(std::process::id()).len(),
            mounts: oracle::mounts("self").len(),
            // Others use these directories, too: only what has our name counts.
            files: files
                .iter()
                .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
                .filter(|entry| entry.file_name().to_string_lossy().contains("belljar"))
                .filter(|entry| !entry.file_name().to_string_lossy().starts_with("belljar-test-"))
                .count(),
            threads: oracle::status_of("self")["Threads"].clone(),
        }
    }
}
