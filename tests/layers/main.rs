//! The store of layers, and images in it.

#![allow(
    unsafe_code,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test program that is also its own payload"
)]

mod archive;
mod commits;
mod exports;
mod hostile;
mod images;
mod store;
#[allow(dead_code, reason = "each test program uses its own part")]
#[path = "../support/mod.rs"]
mod support;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use archive::{Files, Packing};
use belljar::{Image, ImportOptions, LayerStore};
use commits::*;
use exports::*;
use hostile::*;
use images::*;
use store::*;
use support::{Case, Result, Role, Scratch};

const CASES: &[Case] = cases![
    no_member_gets_out: ["bare"],
    paths_are_those_of_the_layer: ["bare"],
    members_that_only_an_attack_has: ["bare"],
    sizes_that_cannot_be: ["bare"],
    holes_stay_holes_and_count: ["bare"],
    sparse_maps_that_lie: ["bare"],
    bombs_end_at_their_limit: ["bare"],
    many_entries: ["bare"],
    names_of_every_kind: ["bare"],
    devices_are_left_out: ["bare"],
    attributes_that_are_not_the_archives: ["bare"],
    attributes_that_no_file_can_have: ["bare"],
    two_members_of_one_name: ["bare"],
    many_members_of_one_name: ["bare"],
    set_id_bits_stay: ["bare"],
    digests_that_are_wrong: ["bare"],
    documents_that_are_none: ["bare"],
    layers_that_are_not_counted_right: ["bare"],
    indexes_without_end: ["bare"],
    names_without_end: ["bare"],
    archives_that_are_cut_off: ["bare"],
    archives_of_images_that_lead_elsewhere: ["bare"],
    whiteouts_of_every_kind: ["bare"],
    everything_is_as_the_archive_says: ["bare"],
    a_layer_is_stored_once: ["bare"],
    what_is_in_use_stays: ["userns", "overlay"],
    a_forked_copy_unlocks_nothing: ["bare"],
    what_has_changed_is_found: ["bare"],
    processes_import_the_same_at_once: ["bare"],
    a_process_killed_in_the_middle: ["bare"],
    a_store_of_others_is_refused: ["bare"],
    an_ordinary_user: ["bare", "setpriv"],
    progress_is_told: ["bare"],
    images_that_are_damaged: ["bare"],
    every_form_is_the_same_image: ["bare"],
    as_many_layers_as_can_be_mounted: ["bare"],
    streams_of_several_parts: ["bare"],
    the_right_one_of_several: ["bare"],
    a_sandbox_on_an_image: ["userns", "overlay"],
    attributes_that_no_layer_can_have: ["userns", "overlay", "tmpfs-xattr", "python3"],
    what_a_copy_has_changed: ["userns", "overlay", "python3"],
    a_root_of_mmdebstrap: ["root", "userns", "overlay", "mmdebstrap"],
    a_layer_that_hides_all_others: ["userns", "overlay"],
    users_of_images: ["bare"],
    an_image_without_a_command: ["bare"],
    an_export_is_the_same_image: ["bare"],
    a_layer_of_an_upper_directory: ["bare"],
    uppers_that_are_no_layers: ["bare"],
    what_a_sandbox_wrote_becomes_an_image: ["userns", "overlay", "sh"],
    a_committed_root_is_the_same: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
    a_committed_root_is_the_same_without_privilege: ["userns", "overlay", "tmpfs-xattr", "python3", "setpriv"],
    a_persistent_upper_is_committed: ["userns", "root", "overlay", "python3"],
    an_archive_for_other_tools: ["userns", "root", "overlay", "tmpfs-xattr", "python3", "tar"],
    ids_are_those_inside: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
    marks_that_a_program_has_forged_are_nothing: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
    what_is_no_layer_leaves_nothing: ["userns", "root", "overlay", "tmpfs-xattr", "python3"],
    commits_that_cannot_be: ["userns", "root", "overlay", "python3"],
    programs_stand_still_while_a_layer_is_packed: ["userns", "root", "overlay", "cgroup-v2", "python3"],
    a_program_that_swaps_what_is_packed: ["userns", "root", "overlay", "python3"],
    what_changes_while_it_is_packed: ["userns", "root", "overlay", "python3"],
    directories_above_a_change_are_members: ["userns", "root", "overlay", "python3"],
    skopeo_reads_and_writes_the_same: ["bare", "skopeo"],
    umoci_unpacks_the_same_and_we_what_it_packs: ["bare", "umoci", "root"],
];

const ROLES: &[Role] = &[
    ("collect", collect),
    ("import", import_role),
    ("whole-life", whole_life),
    ("describe", describe),
    ("nobody-commits", nobody_commits),
];

fn main() -> ExitCode {
    // One at a time: a process that another test is just starting has copies of the locks for a moment, and a collector
    // leaves what seems to be in use.
    support::main_serial(CASES, ROLES)
}

/// Imports an image of these archives into a new store.
pub(crate) fn import(
    scratch: &Scratch,
    store: &str,
    layers: &[Vec<u8>],
) -> belljar::Result<(LayerStore, Image)> {
    import_with(scratch, store, layers, &ImportOptions::new())
}

pub(crate) fn import_with(
    scratch: &Scratch,
    store: &str,
    layers: &[Vec<u8>],
    options: &ImportOptions,
) -> belljar::Result<(LayerStore, Image)> {
    let dir = scratch.dir(format!("{store}-image"));
    let path = Files::image(layers, Packing::Gzip).write(&dir).expect("the image can be written");
    let store = LayerStore::open(scratch.join(store))?;
    let image = store.import(path, options)?;
    Ok((store, image))
}

/// Where the files of a layer are, the lowest being 0.
pub(crate) fn tree_of(scratch: &Scratch, store: &str, image: &Image, layer: usize) -> PathBuf {
    let id = image.layers()[layer].to_string();
    scratch.join(store).join("layers").join(&id["sha256:".len()..]).join("tree")
}

/// Extended attributes with their values, but for those of other privileges.
pub(crate) fn raw_xattrs(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut names = vec![0_u8; 4096];
    // SAFETY: a C string, and a buffer of the length that is passed.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = usize::try_from(length).map_err(|_| std::io::Error::last_os_error())?;
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let key = CString::new(name)?;
        let mut value = vec![0_u8; 4096];
        // SAFETY: C strings, and a buffer of the length that is passed.
        let length =
            unsafe { libc::lgetxattr(path.as_ptr(), key.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let length = usize::try_from(length).map_err(|_| std::io::Error::last_os_error())?;
        value.truncate(length);
        found.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    found.sort();
    Ok(found)
}
