//! A call that waits for its answer.

use std::cell::Cell;
use std::ffi::{CString, OsString};
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::seccomp::Syscall;
use crate::sys::{self, SeccompNotification};

/// A system call of the program that waits for the host's answer. See
/// [seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html).
///
/// The arguments are those of the registers and cannot change any more. What a *pointer* among them points to is the program's
/// memory, and another thread of it can change that at any time. So what is read here must be used, and not looked at and
/// then left to the kernel, who would read it a second time: after a read,
/// [`Response::proceed`](crate::Response::proceed) is taken for a refusal.
#[derive(Debug)]
pub struct Notification<'a> {
    listener: BorrowedFd<'a>,
    told: SeccompNotification,
    /// Its memory was read.
    read: Cell<bool>,
}

/// The most bytes of one read.
const MOST: usize = 16 << 20;
/// `PATH_MAX`: longer paths are refused by the kernel as well.
const PATH_MAX: usize = 4096;

impl<'a> Notification<'a> {
    pub(super) fn new(listener: BorrowedFd<'a>, told: SeccompNotification) -> Self {
        Self { listener, told, read: Cell::new(false) }
    }

    /// Which call it is.
    #[must_use]
    pub fn syscall(&self) -> Syscall {
        Syscall::new(self.told.number)
    }

    /// The six registers that arguments are passed in, of which the call uses as many as its manual page says. An `int` is in
    /// the low 32 bits of its register; what is in the others the kernel ignores, and so must a handler.
    #[must_use]
    pub fn args(&self) -> [u64; 6] {
        self.told.args
    }

    /// The thread that makes the call, by its id on the host.
    #[must_use]
    pub fn thread_id(&self) -> u32 {
        self.told.thread
    }

    /// Whether the program still waits for the answer. A signal can have ended it meanwhile.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        sys::is_notification_valid(self.listener, self.told.id)
    }

    /// Copies so many bytes of the program's memory, 16 MiB at most.
    ///
    /// A length among the arguments is the program's word, and what it asks for is the host's memory: take no more than the
    /// call needs.
    ///
    /// # Errors
    ///
    /// `E2BIG` for a larger length, `EFAULT` when they are not all mapped, `ENOENT` when the program no longer waits, and `EPERM` when a security module
    /// of the host (Yama) keeps this process from reading another's memory.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use belljar::{Command, Response};
    ///
    /// // connect(2): what address would it be?
    /// let mut command = Command::new("/usr/bin/curl");
    /// command.on_syscall(["connect"], |call| {
    ///     let [_, address, length, ..] = call.args();
    ///     match call.read_bytes(address, usize::try_from(length).unwrap_or(0).min(128)) {
    ///         Ok(bytes) => println!("it wants to connect to {bytes:?}"),
    ///         Err(error) => return error.into(),
    ///     }
    ///     Response::errno(111) // ECONNREFUSED
    /// });
    /// ```
    pub fn read_bytes(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        // An allocation that fails would end the host.
        if length > MOST {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let mut bytes = vec![0; length];
        let count = self.read_into(address, &mut bytes)?;
        if count < length {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        Ok(bytes)
    }

    /// Copies a string that ends with a NUL byte, which is not part of the result, of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes), and `ENAMETOOLONG` for a longer one.
    pub fn read_c_string(&self, address: u64, most: usize) -> io::Result<CString> {
        /// A read must not go beyond the page that the string ends in: the next one may not be mapped.
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        while text.len() <= most {
            let at = address.wrapping_add(text.len() as u64);
            let mut chunk = vec![0; usize::try_from(PAGE - at % PAGE).unwrap_or(1)];
            let count = self.read_into(at, &mut chunk)?;
            chunk.truncate(count);
            if chunk.is_empty() {
                return Err(io::Error::from_raw_os_error(libc::EFAULT));
            }
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                if text.len() > most {
                    break;
                }
                return CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT));
            }
            text.extend_from_slice(&chunk);
        }
        Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }

    /// Copies a path, as the program wrote it: it is the program's word, relative to its directory and its root. Never open
    /// it as it is on the host; compare it with what was granted, or resolve it below a directory with
    /// [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html).
    ///
    /// # Errors
    ///
    /// As [`read_c_string`](Self::read_c_string).
    pub fn read_path(&self, address: u64) -> io::Result<PathBuf> {
        let path = self.read_c_string(address, PATH_MAX - 1)?;
        Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
    }

    fn read_into(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        self.read.set(true);
        let base = usize::try_from(address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
        let thread =
            i32::try_from(self.told.thread).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        let remote = [RemoteIoVec { base, len: into.len() }];
        let count = process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(into)], &remote);
        // Whose memory it was is certain only if the thread waits even now: its id cannot have been given to another.
        if !self.is_waiting() {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        Ok(count?)
    }

    pub(super) fn id(&self) -> u64 {
        self.told.id
    }

    pub(super) fn memory_was_read(&self) -> bool {
        self.read.get()
    }
}
