//! The listener of a filter: `struct seccomp_notif` and its ioctls. See seccomp_unotify(2).

use super::{Errno, Fd, Result, address, address_mut, nr, plain};

/// A call that waits for its answer.
pub(crate) struct Told {
    /// By which the call is named, and no other ever is.
    pub(crate) id: u64,
    /// The id of the thread in this PID namespace.
    pub(crate) thread: i32,
    pub(crate) number: u32,
}

/// `struct seccomp_notif` of <linux/seccomp.h>.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}
const _: () = assert!(size_of::<Notification>() == 80);

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}
const _: () = assert!(size_of::<Response>() == 24);

const RECEIVE: usize = 0xc050_2100;
const SEND: usize = 0xc018_2101;
const ID_VALID: usize = 0x4008_2102;

/// Takes the next call. Waits if there is none.
pub(crate) fn receive_call(listener: Fd) -> Result<Told> {
    let mut notification = Notification::default();
    plain(nr::IOCTL, &[listener.arg(), RECEIVE, address_mut(&mut notification)])?;
    let notification = core::hint::black_box(notification);
    Ok(Told {
        id: notification.id,
        thread: notification.pid as i32,
        number: notification.number as u32,
    })
}

/// Lets the call fail.
pub(crate) fn answer_call(listener: Fd, id: u64, errno: Errno) -> Result<()> {
    let response = Response { id, value: 0, error: -errno.0, flags: 0 };
    plain(nr::IOCTL, &[listener.arg(), SEND, address(&response)]).map(drop)
}

/// Whether its thread still waits.
pub(crate) fn is_call_valid(listener: Fd, id: u64) -> bool {
    plain(nr::IOCTL, &[listener.arg(), ID_VALID, address(&id)]).is_ok()
}
