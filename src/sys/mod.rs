//! The library's only `unsafe`: the launch of the init, the few system calls that nix lacks, and descriptors that
//! arrive in messages.

#![allow(unsafe_code)]

mod bpf;
mod btrfs;
mod fd;
#[cfg(feature = "net")]
mod interface;
mod launch;
mod listener;
mod loop_device;
mod memfd;
mod mount;
mod namespace;
mod pipe;
mod process;
mod quota;
mod raw;
mod schedule;
mod socket;
mod terminal;
mod xattr;

pub(crate) use bpf::{BpfInstruction, attach_device_program, code as bpf_code};
pub(crate) use btrfs::{
    create_subvolume, destroy_subvolume, make_subvolume_writable, share_content, snapshot_subvolume,
};
#[cfg(feature = "net")]
pub(crate) use fd::lock_byte;
pub(crate) use fd::{above_stdio, is_inheritable, lock, try_lock_byte};
#[cfg(feature = "net")]
pub(crate) use interface::interface_number;
pub(crate) use launch::{Entrance, LaunchFailure, Launched, launch, try_clone};
pub(crate) use listener::{
    SeccompNotification, answer_notification, answer_with_fd, continue_notification, has_thread,
    is_notification_valid, receive_notification, replace_fd,
};
pub(crate) use loop_device::{attach_to_loop_device, free_loop_device};
pub(crate) use memfd::{memfd, program_memfd, sealed_memfd};
pub(crate) use mount::{
    MountPart, Reach, attach_tree, clone_detached, clone_tree, detached_from_device, detached_tmpfs,
    idmap_tree, make_filesystem_read_only, make_tree_read_only, namespace_of_mounts,
};
pub(crate) use namespace::{
    empty_procfs, map_namespace, owner_of_namespace, parent_of_namespace, with_new_namespaces,
};
pub(crate) use pipe::unread;
pub(crate) use process::{
    ProcessOf, core_cookie, effective_capabilities, hard_rlimit, knows_keys, landlock_abi, open_pidfd,
    random, reap_pidfd, send_signal,
};
pub(crate) use quota::{
    LIMIT_BLOCK, LimitKinds, Project, ProjectQuota, ProjectQuotas, limit_project, project_of, project_quota,
    project_quotas, set_project,
};
pub(crate) use schedule::{
    own_processors, own_scheduling, pid_of, set_io_priority, set_nice, set_rlimit, set_scheduler, soft_rlimit,
};
pub(crate) use socket::{pair, receive, send};
pub(crate) use terminal::{set_terminal_size, terminal_size};
pub(crate) use xattr::{attribute, get_xattr, list_xattrs, set_xattr};
