//! System calls as attackers make them.

use std::ffi::CString;
use std::io;
use std::path::Path;

use crate::attack::{Tried, explain};
use crate::support::raw;

/// The address of a value that the kernel reads or writes while it is borrowed.
pub(crate) fn at<T: ?Sized>(value: &mut T) -> usize {
    std::ptr::from_mut(value).cast::<u8>().expose_provenance()
}

/// A string for the kernel, which lives as long as the process: there are few.
pub(crate) fn text(text: impl AsRef<Path>) -> usize {
    use std::os::unix::ffi::OsStrExt;
    let string = CString::new(text.as_ref().as_os_str().as_bytes()).expect("no zero in it");
    string.into_raw().expose_provenance()
}

/// A call with up to six arguments.
pub(crate) fn call<const N: usize>(number: i64, args: [usize; N]) -> io::Result<i64> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    raw::syscall(number, all)
}

/// A call that is the attack when it succeeds.
pub(crate) fn tried<const N: usize>(number: i64, args: [usize; N]) -> Tried {
    call(number, args).into()
}

/// A call that the program must not be able to bring before the kernel at all. Its arguments make no sense, so that it
/// does nothing where it is permitted: any answer but that there is no permission is the kernel's own.
pub(crate) fn reached<const N: usize>(number: i64, args: [usize; N]) -> Tried {
    match call(number, args) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            Tried::Denied(explain(&error))
        }
        Err(error) => Tried::Broke(format!("permitted, and then {}", explain(&error))),
        Ok(value) => Tried::Broke(format!("{value}")),
    }
}

/// Runs something in a child, whose end says what became of it; for what a process does to itself.
pub(crate) fn in_child(attempt: impl FnOnce() -> Tried) -> Tried {
    use std::io::Write;
    match raw::fork() {
        Ok(0) => {
            let tried = attempt();
            println!("{}", tried.text());
            std::io::stdout().flush().ok();
            std::process::exit(tried.code());
        }
        Ok(pid) => {
            let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            match status {
                Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => {
                    Tried::of(Some(code), "what the child said".into())
                }
                other => Tried::Denied(format!("the child ended as {other:?}")),
            }
        }
        Err(error) => Tried::CouldNot(explain(&error)),
    }
}

/// Whether what was read is the host's secret.
pub(crate) fn secret(bytes: &[u8]) -> Tried {
    let text = String::from_utf8_lossy(bytes);
    match text.contains(crate::stage::SECRET) {
        true => Tried::Broke("it has read the host's secret".into()),
        false => {
            Tried::Denied(format!("that is not the secret: {:?}", text.chars().take(60).collect::<String>()))
        }
    }
}

/// Reads a file that may be the host's secret.
pub(crate) fn read_secret(path: impl AsRef<Path>) -> Tried {
    match std::fs::read(path) {
        Ok(bytes) => secret(&bytes),
        Err(error) => Tried::Denied(explain(&error)),
    }
}

/// Opens a file for writing, and writes nothing.
pub(crate) fn open_to_write(path: impl AsRef<Path>) -> Tried {
    std::fs::File::options().write(true).open(path).map(drop).into()
}

/// The handle of a file, in hexadecimal digits.
pub(crate) fn handle_of(path: &Path) -> String {
    let mut handle = [0_u8; 136];
    handle[0] = 128;
    let mut mount = 0_i32;
    let arguments = [libc::AT_FDCWD as usize, text(path), at(&mut handle), at(&mut mount), 0];
    match call(libc::SYS_name_to_handle_at, arguments) {
        Ok(_) => handle.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}
