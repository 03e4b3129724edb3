//! Figures in a document: what stands between two markers is replaced, everything else is left as it was written.

use std::path::{Path, PathBuf};

/// A file of this package's `docs`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Replaces what stands between `<!-- begin NAME … -->` and `<!-- end NAME -->` in `docs/benchmarks.md`.
pub(crate) fn replace(name: &str, text: &str) -> std::io::Result<PathBuf> {
    let path = path("benchmarks.md");
    let old = std::fs::read_to_string(&path)?;
    let missing = || std::io::Error::other(format!("{} has no section {name}", path.display()));
    let begin = old.find(&format!("<!-- begin {name}")).ok_or_else(missing)?;
    let begin = begin + old[begin..].find("-->\n").ok_or_else(missing)? + "-->\n".len();
    let end = begin + old[begin..].find(&format!("<!-- end {name} -->")).ok_or_else(missing)?;
    std::fs::write(&path, format!("{}\n{}\n{}", &old[..begin], text.trim(), &old[end..]))?;
    Ok(path)
}
