//! The parsers of this module on any text, for the fuzz target.

use super::facts;
use super::noise;

/// Reads the input as each file that the report is made of.
pub(crate) fn files(text: &str) {
    if let facts::Proc::Masked(masks) = facts::proc_state(text) {
        assert!(masks.iter().all(|mask| mask.starts_with("/proc/")));
    }
    for id in [0, 1000, u32::MAX] {
        let _ = facts::maps(text, id);
    }
    let _ = (facts::field(text, "mnt_id:"), facts::field(text, "Seccomp:"));
    let _ = (noise::parse_switch(text), noise::parse_choice(text), noise::parse_swaps(text));
    assert!(noise::parse_load(text).is_none_or(|load| load.is_finite() && load >= 0.0));
    let facts = facts::Facts { release: text.to_owned(), ..facts::Facts::default() };
    let _ = facts.older_than(5, 12);
}
