//! Files of the sandbox that the host asks for: opened here, where the sandbox's root is, and sent as descriptors. So no
//! path of the sandbox is ever looked up by the host.
//!
//! Links on the way are the program's, and so is what is allowed on it: files are opened with the ids of the program's user
//! and without a capability. Otherwise a link would lead to what is closed to the program.

use crate::failed;
use crate::handshake::{Container, Table};
use crate::path::Places;
use crate::setup::Decimal;
use crate::sys::{self, Errno, Fd, Image, Owned, Result};
use crate::wire::{ChildFailure, Reply, Request, reply, request, stage};
use core::ffi::CStr;

impl Container {
    /// Answers a request for a file; `false` for any other.
    pub(crate) fn serves_file(&self, message: &Request, incoming: &mut Table) -> bool {
        let opened = match message.kind {
            request::OPEN_FILE => with_path(message, incoming, Places::read),
            request::MAKE_FILE => with_path(message, incoming, |root, path| make(root, path, message.mode)),
            request::OPEN_UPPER => self.upper.as_ref().ok_or(Errno::ENOENT).and_then(|upper| {
                // The host reads it from the beginning, each time.
                sys::open(upper.fd(), c".", sys::O_RDONLY | sys::O_DIRECTORY, 0)
            }),
            _ => return false,
        };
        *incoming = Table::new();
        let told = opened.and_then(|file| {
            let message = Reply { kind: reply::FILE, child: message.child, ..Reply::default() };
            sys::tell(self.control, &message, Some(file.fd()))
        });
        if let Err(errno) = told {
            let failure = ChildFailure { stage: stage::FILE, index: 0, errno: errno.0 };
            sys::tell(self.control, &failed(message.child, failure), None).ok();
        }
        true
    }
}

fn with_path(
    message: &Request,
    incoming: &Table,
    act: impl FnOnce(&Places, &CStr) -> Result<Owned>,
) -> Result<Owned> {
    let file = incoming.slots[0].as_ref().ok_or(Errno::EPROTO)?.fd();
    let image = Image::map(file, Image::size_of_file(file)?)?;
    let path = CStr::from_bytes_until_nul(image.bytes()).map_err(|_| Errno::EPROTO)?;
    let root = Places::new(sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?);
    as_the_program(message.uid, message.gid, || act(&root, path))
}

/// Does something with no more rights on files than the program has.
fn as_the_program<T>(uid: u32, gid: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let [effective, permitted, inheritable] = sys::capabilities()?;
    let own = sys::set_file_ids(uid, gid)?;
    let done = sys::set_effective(0, permitted, inheritable).and_then(|()| act());
    // In this order: other ids take a capability.
    let back = sys::set_effective(effective, permitted, inheritable)
        .and_then(|()| sys::set_file_ids(own[0], own[1]).map(drop))
        .and_then(|()| sys::set_effective(effective, permitted, inheritable));
    match back {
        Ok(()) => done,
        // Half an init is none.
        Err(_) => sys::exit(250),
    }
}

/// A new file in place of one that may be there: that may be a link to another, or held open by a program.
fn make(root: &Places, path: &CStr, mode: u32) -> Result<Owned> {
    root.in_existing_parent(path, |parent, name| {
        let mut temporary = *b".belljar-00000000000000000000\0";
        let number = Decimal::new(sys::monotonic());
        let digits = number.text().to_bytes();
        let end = temporary.len() - 1;
        let place = temporary.get_mut(end - digits.len()..end).ok_or(Errno::EOVERFLOW)?;
        place.copy_from_slice(digits);
        let temporary = CStr::from_bytes_until_nul(&temporary).map_err(|_| Errno::EINVAL)?;
        let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW;
        let file = sys::open(parent, temporary, flags, 0o600)?;
        let placed = sys::chmod(file.fd(), mode).and_then(|()| sys::rename(parent, temporary, name));
        if placed.is_err() {
            sys::unlink(parent, temporary).ok();
        }
        placed.map(|()| file)
    })
}
