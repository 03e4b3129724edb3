//! A sandbox of bubblewrap that is as nearly that of `Sandbox::new()` as its options allow.

use std::path::Path;

/// The arguments before the program, which is at `/true` inside.
pub(crate) fn arguments(program: &Path) -> Vec<String> {
    let line = format!(
        "--unshare-all --hostname belljar --new-session --die-with-parent --cap-drop ALL --clearenv \
         --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib \
         --symlink usr/lib64 /lib64 --dir /etc --ro-bind /etc/passwd /etc/passwd --ro-bind /etc/group /etc/group \
         --proc /proc --dev /dev --tmpfs /tmp --ro-bind {} /true --remount-ro /",
        program.display()
    );
    line.split_whitespace().map(str::to_owned).collect()
}
