//! Files of the sandbox that the host asks for: opened here, where the sandbox's root is, and sent as descriptors. So no
//! path of the sandbox is ever looked up by the host.

use crate::failed;
use crate::handshake::{Container, Table};
use crate::path::Places;
use crate::sys::{self, Errno, Fd, Image, Owned, Result};
use crate::wire::{ChildFailure, Reply, Request, reply, request, stage};
use core::ffi::CStr;

impl Container {
    /// Answers a request for a file; `false` for any other.
    pub(crate) fn serves_file(&self, message: &Request, incoming: &mut Table) -> bool {
        let opened = match message.kind {
            request::OPEN_FILE => with_path(incoming, |root, path| root.read(path)),
            request::MAKE_FILE => with_path(incoming, |root, path| make(root, path, message)),
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

fn with_path(incoming: &Table, act: impl FnOnce(&Places, &CStr) -> Result<Owned>) -> Result<Owned> {
    let file = incoming.slots[0].as_ref().ok_or(Errno::EPROTO)?.fd();
    let image = Image::map(file, Image::size_of_file(file)?)?;
    let path = CStr::from_bytes_until_nul(image.bytes()).map_err(|_| Errno::EPROTO)?;
    let root = Places::new(sys::open(Fd::CWD, c"/", sys::O_PATH | sys::O_DIRECTORY, 0)?);
    act(&root, path)
}

/// A new file, never one that is there: that may be a link to another, or held open by a program.
fn make(root: &Places, path: &CStr, message: &Request) -> Result<Owned> {
    root.in_existing_parent(path, |parent, name| {
        match sys::unlink(parent, name) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW;
        let file = sys::open(parent, name, flags, 0o600)?;
        sys::chown_open(file.fd(), message.uid, message.gid)?;
        sys::chmod(file.fd(), message.mode)?;
        Ok(file)
    })
}
