//! Where an entry counts: `includes` and `excludes`, Docker's conditions on the machine and the container.

use super::document::Filter;
use super::import::invalid;
use crate::seccomp::names::Arch;
use crate::{Error, ErrorKind, Result, Step, capability};

/// Where an entry counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    capabilities: u64,
    arches: Vec<String>,
    kernel: Option<(u32, u32)>,
}

impl Scope {
    /// Whether the version of the kernel matters.
    pub(super) fn is_dated(&self) -> bool {
        self.kernel.is_some()
    }

    pub(super) fn read(filter: Option<Filter>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        let arches = filter.arches.unwrap_or_default();
        if let Some(unknown) = arches.iter().find(|arch| !ARCHES.contains(&arch.as_str())) {
            return Err(invalid(format!("unknown architecture {unknown:?} in the seccomp profile"))
                .with_hint(format!("\"arches\" are {}", ARCHES.join(" "))));
        }
        Ok(Self {
            capabilities: capability::mask_of(&filter.caps.unwrap_or_default())?,
            arches,
            kernel: filter.min_kernel.as_deref().map(kernel).transpose()?,
        })
    }

    /// Docker's rule: all that is named must be so for an entry to be included, and any of it excludes.
    pub(super) fn holds(&self, arch: Arch, capabilities: u64, running: (u32, u32), all: bool) -> bool {
        let here = match arch {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        };
        let arches = (!self.arches.is_empty()).then(|| self.arches.iter().any(|arch| arch == here));
        let common = self.capabilities & capabilities;
        let caps = match self.capabilities {
            0 => None,
            named => Some(if all { common == named } else { common != 0 }),
        };
        let kernel = self.kernel.map(|least| running >= least);
        let mut answers = [arches, caps, kernel].into_iter().flatten();
        if all { answers.all(|holds| holds) } else { answers.any(|holds| holds) }
    }
}

/// The architectures of libseccomp, by the names that Docker has for them.
const ARCHES: &[&str] = &[
    "386",
    "x86",
    "amd64",
    "x32",
    "arm",
    "arm64",
    "loong64",
    "loongarch64",
    "m68k",
    "mips",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "mips3l64n32",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "sh",
    "sheb",
];

fn kernel(text: &str) -> Result<(u32, u32)> {
    let number = |text: &str| text.parse::<u8>().ok().map(u32::from);
    let parsed = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    parsed.filter(|&version| version != (0, 0)).ok_or_else(|| {
        invalid(format!("{text:?} in the seccomp profile is no version of the kernel"))
            .with_hint("\"minKernel\" is two numbers with a point, such as \"4.8\"")
    })
}

/// The first two numbers of the release.
pub(super) fn running_kernel() -> Result<(u32, u32)> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| Error::os(Step::Plan, "asking for the kernel's release", errno))?;
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(Error::message(
            ErrorKind::Unsupported,
            Step::Plan,
            format!("the kernel's release {release:?} has no version to compare \"minKernel\" with"),
        )),
    }
}
