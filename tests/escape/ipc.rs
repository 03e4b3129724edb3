//! Objects that have no name in the filesystem.

use std::fs;

use crate::attack::{Control, Method, Tried, explain};
use crate::attacks;
use crate::calls::{at, call, read_secret, secret, text};
use crate::stage::{key, queue, shared_memory_file};
use crate::support::raw;

const IPC: &str = "an IPC namespace";
const SHARED: Control = Control::Without("`share_ipc()`", |sandbox| sandbox.share_ipc());

attacks! {
    shared_memory_of_the_host {
        what: "reads a secret out of System V shared memory of the host",
        class: &["A10"],
        stopped_by: IPC,
        method: Method::Inside(|facts| {
            match call(libc::SYS_shmget, [key(facts.number("owner") as u32), 0, 0]) {
                Ok(id) => match raw::read_shared(id, crate::stage::SECRET.len()) {
                    Ok(bytes) => secret(&bytes),
                    Err(error) => Tried::Denied(explain(&error)),
                },
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: SHARED,
    }
    message_queue_of_the_host {
        what: "opens a System V message queue of the host",
        class: &["A10"],
        stopped_by: IPC,
        method: Method::Inside(|facts| {
            call(libc::SYS_msgget, [key(facts.number("owner") as u32), 0]).into()
        }),
        control: SHARED,
    }
    posix_queue_of_the_host {
        what: "opens a POSIX message queue of the host",
        class: &["A10"],
        stopped_by: IPC,
        method: Method::Inside(|facts| {
            let name = text(queue(facts.number("owner") as u32));
            call(libc::SYS_mq_open, [name, libc::O_RDONLY as usize, 0, 0]).into()
        }),
        control: SHARED,
    }
    objects_that_others_have {
        what: "lists all System V segments of the machine by `SHM_STAT`",
        class: &["A10", "A27"],
        stopped_by: IPC,
        method: Method::Inside(|_| {
            const SHM_INFO: usize = 14;
            let mut info = [0_u64; 8];
            match call(libc::SYS_shmctl, [0, SHM_INFO, at(&mut info)]) {
                Ok(_) if info[0] as u32 == 0 => Tried::Denied("there is none".into()),
                Ok(_) => Tried::Broke(format!("there are {}", info[0] as u32)),
                Err(error) => Tried::Denied(explain(&error)),
            }
        }),
        control: SHARED,
    }
    dev_shm_of_the_host {
        what: "reads a file of the host's `/dev/shm`",
        class: &["A10"],
        stopped_by: "a `/dev` of its own",
        method: Method::Inside(|facts| read_secret(shared_memory_file(facts.number("owner") as u32))),
    }
    temporary_files_of_the_host {
        what: "lists temporary files of the host in `/tmp` and `/var/tmp`",
        class: &["A10", "A27"],
        stopped_by: "an empty `/tmp` of its own",
        method: Method::Inside(|facts| {
            let scratch = facts.path("scratch");
            let there = ["/tmp", "/var/tmp"].iter().any(|dir| {
                let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
                names.into_iter().any(|name| Some(name.as_os_str()) == scratch.file_name())
            });
            if there { Tried::Broke("the scratch directory is there".into()) } else { Tried::Denied("not there".into()) }
        }),
    }
}
