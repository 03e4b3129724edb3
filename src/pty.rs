//! Pseudo-terminals: the host's end of a program's terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result, Step};
use crate::sys;

/// The size of a terminal.
///
/// # Examples
///
/// ```
/// use belljar::PtySize;
///
/// let size = PtySize::new(40, 120);
/// assert_eq!((size.rows, size.cols), (40, 120));
/// assert_eq!(PtySize::default(), PtySize::new(24, 80));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PtySize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
    /// The width in pixels; 0 says nothing.
    pub pixel_width: u16,
    /// The height in pixels; 0 says nothing.
    pub pixel_height: u16,
}

impl PtySize {
    /// So many rows and columns, and nothing about pixels.
    #[must_use]
    pub const fn new(rows: u16, cols: u16) -> Self {
        Self { rows, cols, pixel_width: 0, pixel_height: 0 }
    }

    /// Its size in pixels as well, for programs that draw.
    #[must_use]
    pub const fn pixels(self, width: u16, height: u16) -> Self {
        Self { pixel_width: width, pixel_height: height, ..self }
    }

    /// That of a terminal of this process, its stdin for instance.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) for what is no terminal.
    ///
    /// # Examples
    ///
    /// ```
    /// use belljar::PtySize;
    ///
    /// let size = PtySize::of(&std::io::stdin()).unwrap_or_default();
    /// # let _ = size;
    /// ```
    pub fn of(terminal: &impl AsFd) -> Result<Self> {
        let [rows, cols, pixel_width, pixel_height] = sys::terminal_size(terminal)
            .map_err(|error| Error::os(Step::Stdio, "reading the size of a terminal", error))?;
        Ok(Self { rows, cols, pixel_width, pixel_height })
    }

    /// As the kernel has it.
    pub(crate) fn words(self) -> [u16; 4] {
        [self.rows, self.cols, self.pixel_width, self.pixel_height]
    }
}

impl Default for PtySize {
    /// 24 rows of 80 columns.
    fn default() -> Self {
        Self::new(24, 80)
    }
}

/// The host's end of a program's terminal, made by [`Command::pty`](crate::Command::pty): what is written to it is typed,
/// and what is read from it was written to the terminal, with line ends as `\r\n` and what was typed as an echo unless
/// the program has changed that.
///
/// It is a blocking descriptor, to be used by any event loop. Reading ends with `Ok(0)` when no process has the terminal
/// open, where the kernel says `EIO`. When the last copy of it is closed the terminal hangs up: the program gets
/// `SIGHUP`, and its streams fail.
///
/// What a program writes are bytes of its choosing. A host that hands them on to a terminal of a user lets the program do
/// what control sequences can do there: change the title and the clipboard, ask questions that the terminal answers as if
/// typed.
///
/// # Examples
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// use belljar::{Command, PtySize, Sandbox};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut child = Sandbox::new().spawn(Command::new("/bin/sh").pty(PtySize::default()))?;
/// let mut pty = child.pty.take().expect("it has one");
/// pty.write_all(b"tty; exit\n")?;
/// let mut text = String::new();
/// pty.read_to_string(&mut text)?;
/// assert!(text.contains("/dev/pts/0"));
/// child.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pty {
    master: File,
}

impl Pty {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self { master: master.into() }
    }

    /// Changes the size; the foreground processes get `SIGWINCH`.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the kernel refuses.
    pub fn resize(&self, size: PtySize) -> Result<()> {
        sys::set_terminal_size(&self.master, size.words())
            .map_err(|error| Error::os(Step::Stdio, "changing the size of a terminal", error))
    }

    /// The size, which the program can change as well.
    ///
    /// # Errors
    ///
    /// [`Setup`](crate::ErrorKind::Setup) when the kernel refuses.
    pub fn size(&self) -> Result<PtySize> {
        PtySize::of(&self.master)
    }

    /// One more descriptor of it, for another thread.
    ///
    /// # Errors
    ///
    /// When there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { master: self.master.try_clone()? })
    }
}

impl Read for &Pty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.master).read(buffer) {
            // Nobody has the other end.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            read => read,
        }
    }
}

impl Write for &Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.master).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl From<Pty> for OwnedFd {
    fn from(pty: Pty) -> Self {
        pty.master.into()
    }
}
