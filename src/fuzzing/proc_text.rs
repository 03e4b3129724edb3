//! Text of `/proc` and `/sys`: whoever may mount, make cgroups or name a program chooses words in it.

use super::check_error;
use crate::{cgroup, host, idmap};

/// Reads the input as each of those files.
pub fn proc_text(data: &[u8]) {
    cgroup::fuzzing::files(data);
    let text = String::from_utf8_lossy(data);
    host::fuzzing::files(&text);
    idmap::fuzzing::files(&text);
    // A list of some kilobytes can have as many numbers as there are, again and again.
    if text.len() <= 64 {
        match text.parse::<crate::CpuSet>() {
            Ok(set) => assert_eq!(set.to_string().parse::<crate::CpuSet>().ok(), Some(set)),
            Err(error) => check_error(&error),
        }
    }
}
