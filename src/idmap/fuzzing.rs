//! The parsers of this module on any text, for the fuzz target.

use super::block::Geometry;
use super::write::{around, find_range};

/// Reads the input as a map of ids and, behind a NUL byte, as another one; and as `/etc/subuid`.
pub(crate) fn files(text: &str) {
    let (uids, gids) = text.split_once('\0').unwrap_or((text, text));
    let _ = Geometry::from_maps(uids, gids);
    if let Some((first, count)) = find_range(text, &["1000".to_owned(), "user".to_owned()]) {
        for program in [0, 1000, 65_534] {
            let extents = around(program, 1000, first, count.min(65_535));
            let subordinate = extents.iter().skip(1);
            let inside = |id: u32| id >= first && id - first < count;
            assert!(
                subordinate
                    .clone()
                    .all(|extent| inside(extent.outside) && inside(extent.outside + (extent.count - 1))),
                "ids that are not this user's: {extents:?}"
            );
            assert_eq!(subordinate.map(|extent| extent.count).sum::<u32>(), count.min(65_535));
        }
    }
}
