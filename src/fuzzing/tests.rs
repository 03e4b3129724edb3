//! The targets on stable Rust: the seeds, what is checked in, and some thousand changes of both, the same in every run.

use std::fs;
use std::path::Path;

use super::seeds::{self, Seeds};

/// How many times as many changed inputs a target gets with `BELLJAR_SOAK`.
const SOAK: usize = 50;

#[test]
fn any_bytes_are_a_message_or_refused() {
    run("wire", seeds::wire(), 60_000, super::wire);
}

#[test]
fn any_text_of_proc_is_read() {
    run("proc_text", seeds::proc_text(), 40_000, super::proc_text);
}

#[cfg(feature = "serde")]
#[test]
fn any_text_is_a_profile_or_refused() {
    run("profile", seeds::profile(), 4_000, super::profile);
}

#[cfg(feature = "oci")]
#[test]
fn any_bytes_are_an_archive_or_refused() {
    run("archive", super::image_seeds::archive(), 20_000, super::archive);
}

#[cfg(feature = "serde")]
#[test]
fn any_text_is_a_policy_or_refused() {
    run("policy", seeds::policy(), 4_000, super::policy);
}

#[cfg(feature = "oci")]
#[test]
fn any_bytes_are_an_image_or_refused() {
    run("image", super::image_seeds::image(), 1_000, super::image);
}

/// Changes of what is refused at once would find nothing.
#[cfg(feature = "oci")]
#[test]
fn seeds_of_images_are_images() {
    let imported = |(name, bytes): (&'static str, Vec<u8>)| super::image::is_imported(&bytes).then_some(name);
    let names: Vec<_> = super::image_seeds::image().into_iter().filter_map(imported).collect();
    let wanted = [
        "plain",
        "fifo-device",
        "whiteouts",
        "opaque-root",
        "same-name",
        "out-absolute",
        "owned",
        "large",
        "extended",
        "overlay-attributes",
        "sparse-1.0",
        "sparse-old",
        "long-name",
        "global",
        "gzip",
        "zstd",
        "skippable",
        "documents",
    ];
    assert_eq!(names, wanted);
}

fn run(name: &str, seeds: Seeds, changes: usize, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    if std::env::var_os("BELLJAR_WRITE_SEEDS").is_some() {
        fs::create_dir_all(&dir).unwrap();
        seeds.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
    }
    let mut inputs: Vec<_> = seeds.iter().map(|(_, bytes)| bytes.clone()).collect();
    // A package does not have them.
    if dir.is_dir() {
        for (name, bytes) in &seeds {
            let written = fs::read(dir.join(name)).unwrap_or_default();
            assert!(written == *bytes, "{name} is not as it is made; write it with BELLJAR_WRITE_SEEDS=1");
        }
        let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        inputs.extend(paths.iter().map(|path| fs::read(path).unwrap()));
    }
    let changes = if std::env::var_os("BELLJAR_SOAK").is_some() { changes * SOAK } else { changes };
    inputs.iter().for_each(|input| target(input));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..changes {
        let input = random.changed(&inputs);
        let held = std::panic::catch_unwind(|| target(&input));
        assert!(held.is_ok(), "change {number} of {name} breaks it: {}", input.escape_ascii());
    }
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % end.max(1)
    }

    /// One of the inputs with one to four changes.
    fn changed(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        /// Numbers at which something ends.
        const EDGES: [u64; 10] =
            [0, 1, 0x7f, 0xff, 0x100, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 if at < end => drop(bytes.drain(at..end)),
                2 if at < end => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                3 => {
                    let other = &inputs[self.below(inputs.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
                4 => {
                    let edge = EDGES[self.below(EDGES.len())].to_ne_bytes();
                    let width = [1, 4, 8][self.below(3)].min(bytes.len() - at);
                    bytes[at..at + width].copy_from_slice(&edge[..width]);
                }
                5 => bytes.insert(at, self.below(256).to_le_bytes()[0]),
                _ if at < end => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}
