//! The wire format: what the init reads is well formed, or refused, and means one thing only.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

use super::Input;
use crate::command::Command;
use crate::init_deadline::{Limits, parse_usage};
use crate::run_image;
use crate::wire::{Confine, MAGIC, Operations, PlanImage, RunHead, Setup, Sink, Vector, section};

/// Reads the input as a plan image, as bare operations, as a run image and as a command, and the numbers in it as limits.
pub fn wire(data: &[u8]) {
    plan_image(data);
    let setup: Vec<_> = Operations::<Setup<'_>>::new(data).collect();
    comes_back(data, &setup, |operation, bytes| operation.encode(bytes));
    let confine: Vec<_> = Operations::<Confine<'_>>::new(data).collect();
    comes_back(data, &confine, |operation, bytes| operation.encode(bytes));
    run(data);
    command(data);
    limits(data);
    for is_cpu_stat in [false, true] {
        let _ = parse_usage(data, is_cpu_stat);
    }
}

/// Operations are what their bytes say and nothing more: encoded again, they are the same bytes. `None` is the last.
fn comes_back<O>(data: &[u8], operations: &[Option<O>], encode: impl Fn(&O, &mut Vec<u8>)) {
    let mut bytes = Vec::new();
    operations.iter().flatten().for_each(|operation| encode(operation, &mut bytes));
    let whole = operations.iter().all(Option::is_some);
    assert!(data.starts_with(&bytes), "operations that encode to other bytes");
    assert_eq!(whole, bytes.len() == data.len(), "bytes that are passed over in silence");
    assert!(operations.iter().rev().skip(1).all(Option::is_some), "malformed bytes are the end");
}

/// The image that these operations make, if all of them are well formed.
pub(crate) fn encoded_again(image: PlanImage<'_>) -> Option<Vec<u8>> {
    let mut sections: [Vec<u8>; section::COUNT] = Default::default();
    for operation in image.setup() {
        operation?.encode(&mut sections[section::SETUP]);
    }
    for number in [section::JOIN, section::CONFINE, section::SEAL] {
        for operation in image.confine(number) {
            operation?.encode(&mut sections[number]);
        }
    }
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    for section in &sections {
        bytes.put(&u32::try_from(section.len()).ok()?.to_ne_bytes());
    }
    sections.iter().for_each(|section| bytes.put(section));
    Some(bytes)
}

fn plan_image(data: &[u8]) {
    let Some(image) = PlanImage::parse(data) else { return };
    if let Some(bytes) = encoded_again(image) {
        assert_eq!(bytes, data, "a plan that encodes to other bytes");
    }
}

/// What the init does with a run image: every descriptor is found, every vector is one that `execve` can read.
fn run(data: &[u8]) {
    const BASE: u64 = 0x7f00_0000_0000;
    let Some(head) = RunHead::parse(data) else { return };
    for n in 0..head.fds.count as usize {
        assert!(head.fd_pair(data, n).is_some(), "a descriptor beyond the end");
    }
    assert!(CStr::from_bytes_until_nul(&data[head.cwd as usize..]).is_ok());
    let mut image = data.to_vec();
    for vector in [head.paths, head.argv, head.envp] {
        assert!(vector.relocate(&mut image, BASE).is_some(), "a vector that was checked cannot be relocated");
    }
    for vector in [head.paths, head.argv, head.envp] {
        let (at, count) = (vector.at as usize, vector.count as usize);
        for n in 0..count {
            let offset = usize::try_from(slot(&image, vector, n) - BASE).expect("a pointer below the image");
            assert!(CStr::from_bytes_until_nul(&image[offset..]).is_ok(), "a string without an end");
        }
        assert_eq!(slot(&image, vector, count), 0, "no end of the vector at {at}");
    }
}

fn slot(image: &[u8], vector: Vector, n: usize) -> u64 {
    let at = vector.at as usize + n * 8;
    u64::from_ne_bytes(image[at..at + 8].try_into().expect("8 bytes"))
}

/// A command is refused, or comes out of its image as it went in.
fn command(data: &[u8]) {
    let mut words = data.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    let mut command = Command::new(words.next().unwrap_or_default());
    let mut fds = Vec::new();
    for word in words {
        let bytes = word.as_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                command.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]));
            }
            None if bytes.starts_with(b"/") => {
                command.current_dir(word);
            }
            None => {
                command.arg(word);
            }
        }
        fds.push((u32::try_from(fds.len()).unwrap_or(0), u32::try_from(bytes.len()).unwrap_or(0)));
    }
    let image = match run_image::encode(&command, &[], fds.clone()) {
        Ok(image) => image,
        Err(error) => return super::check_error(&error),
    };
    let head = RunHead::parse(&image).expect("what is encoded can be read");
    let pairs: Option<Vec<_>> = (0..fds.len()).map(|n| head.fd_pair(&image, n)).collect();
    assert_eq!(pairs, Some(fds));
    let strings = |vector: Vector| -> Vec<&[u8]> {
        let offsets = (0..vector.count as usize).map(|n| slot(&image, vector, n));
        let text = |offset| CStr::from_bytes_until_nul(&image[usize::try_from(offset).ok()?..]).ok();
        offsets.map(|offset| text(offset).expect("a string").to_bytes()).collect()
    };
    let argv = strings(head.argv);
    assert_eq!(argv[0], command.program.as_bytes());
    assert!(argv[1..].iter().copied().eq(command.args.iter().map(|arg| arg.as_bytes())));
    let mut seen = std::collections::HashSet::new();
    // A later value replaces an earlier one.
    for (key, value) in command.env.iter().rev().filter(|(key, _)| seen.insert(key)) {
        let both = [key.as_bytes(), b"=", value.as_bytes()].concat();
        assert!(strings(head.envp).contains(&both.as_slice()), "a variable is lost");
    }
    run(&image);
}

/// No time overflows, and what is looked at again is looked at later.
fn limits(data: &[u8]) {
    let mut input = Input::new(data);
    let mut limits = Limits::new(input.number(), input.number(), input.number(), input.number());
    while !input.is_empty() {
        let (now, used, processors) = (input.number(), input.number(), u64::from(input.byte()));
        let _ = (limits.look(now, used, processors), limits.wall_passed(now));
        assert!(limits.next().is_none() || limits.watches_cpu() || limits.wall_at.is_some());
    }
}
