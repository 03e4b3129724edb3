//! Classes of bugs that sandboxes had, and what looks for each here.

/// One class: its number, what went wrong, and tests elsewhere that look for it.
pub(crate) struct Class {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) tests: &'static [&'static str],
    /// Why there is nothing to look for.
    pub(crate) absent: Option<&'static str>,
}

const fn class(id: &'static str, what: &'static str, tests: &'static [&'static str]) -> Class {
    Class { id, what, tests, absent: None }
}

/// `A` are bugs that were found, `B` what odd hosts and half-failed setups do.
#[rustfmt::skip] // one class a line
pub(crate) const CLASSES: &[Class] = &[
    class("A1", "the runtime's own program is overwritten from inside", &[]),
    class("A2", "a descriptor, a directory or a namespace of the host is left within reach", &["tests/filesystem.rs::the_old_root_is_gone", "tests/filesystem.rs::no_descriptor_leads_to_the_host", "tests/spawn.rs::working_directories"]),
    class("A3", "what hides a file is replaced, removed, or put somewhere else", &["tests/filesystem.rs::masks"]),
    class("A4", "devices and terminals are made through links of a hostile root", &["tests/filesystem.rs::hostile_links_at_proc_dev_tmp"]),
    class("A5", "writes to `/proc` are led to another file of it", &["tests/filesystem.rs::hostile_links_at_proc_dev_tmp"]),
    class("A6", "mount targets follow links out of a hostile root", &["tests/filesystem.rs::hostile_targets", "tests/filesystem.rs::hostile_names"]),
    class("A7", "text is typed into the terminal of the caller", &[]),
    class("A8", "a helper with privileges can be traced or misused during the setup", &["tests/identity.rs::the_init_is_not_dumpable"]),
    class("A9", "work on files is done with other ids than the caller's, or any filesystem can be mounted", &["tests/filesystem.rs::no_setuid_file_in_a_writable_bind", "tests/filesystem.rs::nothing_is_setuid_or_a_device"]),
    class("A10", "programs talk to each other by keyrings, shared memory, virtual machine sockets", &["tests/namespaces.rs::ipc_objects_are_not_shared"]),
    class("A11", "the host writes or reads by name where untrusted code has been", &["tests/files.rs::links_stay_inside", "tests/files.rs::a_program_that_swaps_files_gets_nothing_of_the_host"]),
    class(
        "A12",
        "the network is there by default",
        &[
            "tests/namespaces.rs::the_hosts_network_is_out_of_reach",
            "tests/grant.rs::what_is_granted_cannot",
            "tests/network/filter.rs::the_metadata_service_is_closed",
        ],
    ),
    class("A13", "cgroups are mounted or written from inside", &[]),
    class("A14", "bugs of the kernel that only a user namespace or a rare call reaches", &["tests/identity.rs::new_user_namespaces_are_refused"]),
    class("A15", "calls of a foreign architecture pass the filter", &["tests/verdicts.rs::a_foreign_abi_kills"]),
    class("A16", "a supervisor of system calls decides on memory that changes", &["tests/broker.rs::a_changing_path_leads_nowhere_else", "tests/broker.rs::what_was_read_is_not_left_to_the_kernel", "tests/broker.rs::errors_deny", "tests/broker.rs::signals_do_not_disturb"]),
    class("A17", "a read-only bind is writable below, or again", &["tests/filesystem.rs::read_only_binds_are_so_recursively", "tests/filesystem.rs::paths_made_read_only"]),
    class("A18", "programs survive the host", &["tests/hosts.rs::is_killed_while_the_program_runs", "tests/hosts.rs::is_killed_during_setup", "tests/spawn.rs::the_child_outlives_its_thread"]),
    class("A19", "groups and maps of ids", &["tests/identity.rs::supplementary_groups_are_dropped", "tests/identity.rs::maps_that_cannot_be"]),
    class("A20", "inheritable capabilities are left", &["tests/identity.rs::no_capability_is_left"]),
    class("A21", "a library that expects one thread is used after `fork`", &["tests/hosts.rs::forks_while_it_spawns", "tests/hosts.rs::spawns_from_many_threads"]),
    class("A22", "PID 1 is hurt, or is no init", &["tests/verdicts.rs::a_program_cannot_hurt_its_init", "tests/verdicts.rs::a_daemon_is_killed_with_its_sandbox"]),
    class("A23", "core dumps run a program of the host", &["tests/limits.rs::no_core_dumps"]),
    class("A24", "cgroups of version 2: the wrong parent, memory that is not counted, leftovers", &["tests/limits.rs::limits_are_set_where_the_kernel_looks", "tests/limits.rs::memory_in_a_tmpfs_counts"]),
    class("A25", "names become options of a mount", &["tests/filesystem.rs::hostile_names"]),
    class("A26", "sockets of the host by path or abstract name", &[]),
    class("A27", "`/proc`, `/sys` and the environment tell secrets, or are weapons", &["tests/filesystem.rs::proc_shows_little", "tests/filesystem.rs::proc_in_full"]),
    class("A28", "a limit or a protection is left out in silence", &["tests/limits.rs::unknown_names", "tests/namespaces.rs::a_namespace_that_is_missing_fails_or_is_skipped"]),
    class("A29", "an allow-list of destinations is walked around", &[]),
    class("A30", "mounts of one sandbox appear in another", &["tests/filesystem.rs::later_mounts_of_the_host_do_not_appear"]),
    class("A31", "what a sandbox has written is mounted through the next time", &[]),
    class("A32", "the host carries out changes, and follows a link that was planted", &["tests/changes.rs::nothing_outside_of_the_target_is_written", "tests/changes.rs::nothing_is_followed_out"]),
    class("A33", "descriptors are stolen from a process with more rights", &[]),
    class("A34", "an error after `fork` returns into a second copy of the host", &["tests/hosts.rs::panics", "tests/faults.rs::launch"]),
    class("A35", "the cache of pages tells what others read", &[]),
    class("B1", "a step of the setup fails, and the sandbox goes on weaker", &["tests/faults.rs::init", "tests/faults.rs::program"]),
    class("B2", "a step of the setup fails, and the sandbox hangs", &["tests/faults.rs::host", "tests/faults.rs::init"]),
    class("B3", "the host ignores `SIGCHLD`, has no streams, or is out of descriptors", &["tests/hosts.rs::ignores_sigchld", "tests/hosts.rs::has_no_stdio", "tests/hosts.rs::is_out_of_descriptors"]),
    class("B4", "the host is killed", &["tests/hosts.rs::is_killed_while_the_program_runs", "tests/hosts.rs::leaves_boxes_that_the_next_sweeps"]),
    class("B5", "the host's root is mapped", &["tests/identity.rs::host_root_is_never_mapped"]),
    class("B6", "a file that was given for reading is written", &[]),
    class("B7", "signals reach a process group that crosses namespaces", &["tests/namespaces.rs::the_payload_is_not_pid_1_and_leads_a_session"]),
    class("B8", "the exit status is that of the wrong process", &["tests/verdicts.rs::the_status_is_the_main_process"]),
    class("B9", "one of several calls to the same thing is filtered", &[]),
    class("B10", "limits of each process are taken for limits of all", &["tests/limits.rs::cpu_time_of_the_tree", "tests/limits.rs::a_fork_bomb_ends"]),
    class("B11", "in a container the sandbox runs without isolation", &["tests/hosts.rs::is_in_a_container_without_proc_of_its_own", "tests/namespaces.rs::a_namespace_that_is_missing_fails_or_is_skipped"]),
    class("B12", "a host with both versions of cgroups is refused", &["tests/resources.rs::each_knob_is_set_or_names_its_hierarchy"]),
    class("B13", "what is frozen does not die", &["tests/control.rs::a_frozen_sandbox_can_be_killed", "tests/control.rs::what_version_1_has_frozen_can_be_killed"]),
    class("B14", "an overlay over the whole host cannot be", &["tests/filesystem.rs::a_bind_of_the_whole_host", "tests/storage.rs::what_is_mounted_below_a_layer"]),
    class("B15", "`execve` drops every capability where the user is not mapped", &["tests/identity.rs::root_inside"]),
];
