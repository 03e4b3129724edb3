//! The run image: what a program is called with, as bytes that the init hands to `execve(2)` in place.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::command::Command;
use crate::error::{Error, Result};
use crate::lowering::c_string;
use crate::sandbox::Sandbox;
use crate::wire::{MAGIC, RUN_HEAD, Sink, Vector};

/// Where plain names are looked up when the command has no `PATH` of its own.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// An image under construction. Strings and vectors are appended behind the head, which is written last.
struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn offset(&self) -> Result<u32> {
        u32::try_from(self.bytes.len())
            .map_err(|_| Error::invalid("arguments and environment are larger than 4 GiB"))
    }

    fn string(&mut self, text: &CString) -> Result<u32> {
        let at = self.offset()?;
        self.bytes.put(text.as_bytes_with_nul());
        Ok(at)
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// Strings, then their offsets and a terminating zero.
    fn vector(&mut self, strings: &[CString]) -> Result<Vector> {
        let offsets = strings.iter().map(|text| self.string(text)).collect::<Result<Vec<_>>>()?;
        self.align(8);
        let at = self.offset()?;
        for offset in offsets {
            self.bytes.put(&u64::from(offset).to_ne_bytes());
        }
        self.bytes.put(&0_u64.to_ne_bytes());
        let count = u32::try_from(strings.len()).map_err(|_| Error::invalid("too many arguments"))?;
        Ok(Vector { at, count })
    }
}

/// Encodes a run. `fds` are pairs of slot and descriptor number, ascending by number.
pub(crate) fn encode(
    command: &Command,
    environment: &[(OsString, OsString)],
    fds: Vec<(u32, u32)>,
) -> Result<Vec<u8>> {
    let variables = merged(command, environment);
    let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let paths = candidates(&command.program, path)?;
    let mut argv = vec![c_string(command.arg0.as_ref().unwrap_or(&command.program), "argument 0")?];
    for arg in &command.args {
        argv.push(c_string(arg, "an argument")?);
    }
    let mut envp = Vec::with_capacity(variables.len());
    for (key, value) in &variables {
        if key.is_empty() || key.as_bytes().contains(&b'=') {
            return Err(Error::invalid(format!("{key:?} is no name for an environment variable")));
        }
        let mut both = key.clone();
        both.push("=");
        both.push(value);
        envp.push(c_string(&both, "an environment variable")?);
    }

    let mut encoder = Encoder { bytes: vec![0; RUN_HEAD] };
    let cwd = match &command.cwd {
        Some(cwd) => encoder.string(&c_string(cwd.as_os_str(), "the working directory")?)?,
        None => 0,
    };
    let paths = encoder.vector(&paths)?;
    let argv = encoder.vector(&argv)?;
    let envp = encoder.vector(&envp)?;
    encoder.align(4);
    let fds_at = encoder.offset()?;
    let fds_count = u32::try_from(fds.len()).map_err(|_| Error::invalid("too many descriptors"))?;
    for (slot, number) in fds {
        encoder.bytes.put(&slot.to_ne_bytes());
        encoder.bytes.put(&number.to_ne_bytes());
    }
    encoder.bytes.push(0);

    let words =
        [MAGIC, cwd, fds_at, fds_count, paths.at, paths.count, argv.at, argv.count, envp.at, envp.count];
    for (n, word) in words.into_iter().enumerate() {
        encoder.bytes[n * 4..n * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Ok(encoder.bytes)
}

/// The sandbox's variables, then the command's; a later one replaces an earlier one.
fn merged(command: &Command, environment: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut merged: Vec<(OsString, OsString)> = environment.to_vec();
    for (key, value) in &command.env {
        merged.retain(|(set, _)| set != key);
        merged.push((key.clone(), value.clone()));
    }
    merged
}

/// Where the program of a command may be inside, as absolute paths.
pub(crate) fn program_paths(command: &Command, sandbox: &Sandbox) -> Vec<PathBuf> {
    let variables = merged(command, &sandbox.environment.variables);
    let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let dir = command.cwd.as_deref().unwrap_or(Path::new("/"));
    let paths = candidates(&command.program, path).unwrap_or_default();
    paths.iter().map(|path| dir.join(OsStr::from_bytes(path.as_bytes()))).collect()
}

/// Where the program may be: the path itself if it has a slash, else every directory of `PATH`, as execvp(3) does.
fn candidates(program: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program, "the program's path")?]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let dirs = path.as_bytes().split(|byte| *byte == b':');
    dirs.map(|dir| {
        // An empty element means the working directory, says execvp(3).
        let mut candidate = OsStr::from_bytes(if dir.is_empty() { b"." } else { dir }).to_owned();
        candidate.push("/");
        candidate.push(program);
        c_string(&candidate, "the program's name")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RunHead;

    fn text(image: &[u8], vector: Vector, n: usize) -> &str {
        let at = vector.at as usize + n * 8;
        let offset = usize::try_from(u64::from_ne_bytes(image[at..at + 8].try_into().unwrap())).unwrap();
        std::ffi::CStr::from_bytes_until_nul(&image[offset..]).unwrap().to_str().unwrap()
    }

    #[test]
    fn an_image_decodes_to_itself() {
        let mut command = Command::new("prog");
        command.args(["a", ""]).env("PATH", "/x::/y").env("K", "2").current_dir("/tmp");
        let environment = [("K".into(), "1".into())];
        let image = encode(&command, &environment, vec![(1, 0), (2, 7)]).unwrap();
        let head = RunHead::parse(&image).unwrap();
        assert_eq!(head.argv.count, 3);
        assert_eq!(text(&image, head.argv, 0), "prog");
        assert_eq!(text(&image, head.argv, 2), "");
        let paths: Vec<_> = (0..3).map(|n| text(&image, head.paths, n)).collect();
        assert_eq!(paths, ["/x/prog", "./prog", "/y/prog"]);
        assert_eq!(head.envp.count, 2);
        assert_eq!(text(&image, head.envp, 1), "K=2");
        assert_eq!(head.fd_pair(&image, 1), Some((2, 7)));
        assert_eq!(&image[head.cwd as usize..head.cwd as usize + 5], b"/tmp\0");
    }

    #[test]
    fn every_truncation_is_refused() {
        let image = encode(Command::new("/bin/true").arg("x"), &[], vec![(1, 0)]).unwrap();
        assert!(RunHead::parse(&image).is_some());
        for length in 0..image.len() {
            // A shorter image either does not end in NUL or has an offset beyond its end.
            if let Some(head) = RunHead::parse(&image[..length]) {
                assert!((head.fds.at + head.fds.count * 8) as usize <= length);
            }
        }
    }

    /// `execve` reads pointers until there is a zero, and an offset is turned into a pointer once.
    #[test]
    fn vectors_without_an_end_and_vectors_in_one_another_are_refused() {
        let image = encode(Command::new("/bin/true").arg("x"), &[], vec![(1, 0)]).unwrap();
        let head = RunHead::parse(&image).unwrap();
        let end = (head.argv.at + head.argv.count * 8) as usize;
        let mut endless = image.clone();
        endless[end..end + 8].copy_from_slice(&1_u64.to_ne_bytes());
        assert!(RunHead::parse(&endless).is_none());
        // The words of the head: magic, directory, then place and count of descriptors, paths, argv and envp.
        for (word, at) in [(6, head.paths.at), (8, head.argv.at), (2, head.envp.at), (4, 0)] {
            let mut overlapping = image.clone();
            overlapping[word * 4..word * 4 + 4].copy_from_slice(&at.to_ne_bytes());
            assert!(RunHead::parse(&overlapping).is_none(), "word {word}");
        }
    }

    #[test]
    fn offsets_become_pointers_inside() {
        const BASE: u64 = 0x10_0000;
        let image = encode(Command::new("/bin/true").arg("x"), &[], vec![]).unwrap();
        let argv = RunHead::parse(&image).unwrap().argv;
        let mut relocated = image.clone();
        argv.relocate(&mut relocated, BASE).unwrap();
        let slot = |image: &[u8]| {
            u64::from_ne_bytes(image[argv.at as usize..argv.at as usize + 8].try_into().unwrap())
        };
        assert_eq!(slot(&relocated), BASE + slot(&image));
        // A second time, pointers would be taken for offsets.
        assert!(argv.relocate(&mut relocated, BASE).is_none());
        assert!(Vector { at: u32::MAX, count: u32::MAX }.relocate(&mut relocated, BASE).is_none());
    }

    #[test]
    fn nul_is_refused() {
        assert!(encode(&Command::new("a\0b"), &[], vec![]).is_err());
        assert!(encode(Command::new("a").arg("\0"), &[], vec![]).is_err());
        assert!(encode(Command::new("a").env("K=", "v"), &[], vec![]).is_err());
        assert!(encode(Command::new("a").env("K", "v\0"), &[], vec![]).is_err());
    }
}
