//! Which devices a tree may use: lines for version 1, a program for version 2.

use crate::sys::{BpfInstruction, bpf_code};

/// The devices that a sandbox may open or make, by number. What is not allowed fails with `EPERM`.
///
/// It is a second line of defence: no mount of a sandbox but its `/dev` shows devices at all.
///
/// # Examples
///
/// ```
/// use belljar::{DeviceAccess, DeviceRules, Limits};
///
/// // /dev/kvm (char device 10:232) besides the usual ones.
/// let rules = DeviceRules::minimal().allow_char(10, 232, DeviceAccess::READ | DeviceAccess::WRITE);
/// let limits = Limits::new().devices(rules);
/// # let _ = limits;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct DeviceRules(Vec<Rule>);

/// What may be done with a device. Added up by `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess(u32);

impl DeviceAccess {
    /// `mknod(2)`.
    pub const MKNOD: Self = Self(1);
    /// Opening for reading.
    pub const READ: Self = Self(2);
    /// Opening for writing.
    pub const WRITE: Self = Self(4);
    /// Everything.
    pub const ALL: Self = Self(7);

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for DeviceAccess {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// In the order of the kernel's own lines.
const LETTERS: [(DeviceAccess, char); 3] =
    [(DeviceAccess::READ, 'r'), (DeviceAccess::WRITE, 'w'), (DeviceAccess::MKNOD, 'm')];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    major: u32,
    /// `None`: all.
    minor: Option<u32>,
    access: DeviceAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

impl DeviceRules {
    /// No device at all.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Those of [`Mount::dev`](crate::Mount::dev): `null`, `zero`, `full`, `random`, `urandom`, `tty`, and
    /// pseudo-terminals.
    pub fn minimal() -> Self {
        let both = DeviceAccess::READ | DeviceAccess::WRITE;
        let rules = crate::device::DEVICES
            .into_iter()
            .fold(Self::none(), |rules, (_, major, minor)| rules.allow_char(major, minor, both));
        const PTMX: (u32, u32) = (5, 2);
        const PTS: u32 = 136; // UNIX98_PTY_SLAVE_MAJOR
        rules.allow_char(PTMX.0, PTMX.1, both).allow_char(PTS, None, both)
    }

    /// Allows a character device; without a minor number, all of that major one.
    pub fn allow_char(self, major: u32, minor: impl Into<Option<u32>>, access: DeviceAccess) -> Self {
        self.allow(Kind::Char, major, minor.into(), access)
    }

    /// Allows a block device; without a minor number, all of that major one.
    pub fn allow_block(self, major: u32, minor: impl Into<Option<u32>>, access: DeviceAccess) -> Self {
        self.allow(Kind::Block, major, minor.into(), access)
    }

    fn allow(mut self, kind: Kind, major: u32, minor: Option<u32>, access: DeviceAccess) -> Self {
        self.0.push(Rule { kind, major, minor, access });
        self
    }

    /// The rule of such a line as version 1 is told, added to these; `None` for a line that is none.
    #[cfg(feature = "serde")]
    pub(crate) fn allow_line(self, line: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| digits)
        };
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "b" => Kind::Block,
            "c" => Kind::Char,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let minor = if minor == "*" { None } else { Some(number(minor)?) };
        let mut access = DeviceAccess(0);
        for letter in words.next()?.chars() {
            let (one, _) = LETTERS.into_iter().find(|(_, known)| *known == letter)?;
            if access.contains(one) {
                return None;
            }
            access = access | one;
        }
        let whole = access.0 != 0 && words.next().is_none();
        whole.then_some(())?;
        Some(self.allow(kind, number(major)?, minor, access))
    }

    /// What version 1 is told in `devices.allow`, after everything was denied.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|rule| {
            let kind = match rule.kind {
                Kind::Block => 'b',
                Kind::Char => 'c',
            };
            let minor = rule.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
            let access: String = LETTERS
                .into_iter()
                .filter(|(bit, _)| rule.access.contains(*bit))
                .map(|(_, letter)| letter)
                .collect();
            format!("{kind} {}:{minor} {access}", rule.major)
        })
    }

    /// What version 2 runs at each access: a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` that returns 1 to allow.
    ///
    /// Its context is `struct bpf_cgroup_dev_ctx`: type in the low and access in the high half of a word, then major and
    /// minor number.
    pub(super) fn program(&self) -> Vec<BpfInstruction> {
        use bpf_code::{AND, EXIT, JNE, LOAD_WORD, MOV, MOV_REGISTER, RSH};
        let (result, context, word, kind, access, major, minor, scratch) = (0, 1, 2, 3, 4, 5, 6, 7);
        let mut program = vec![
            BpfInstruction::load(LOAD_WORD, word, context, 0),
            BpfInstruction::register(MOV_REGISTER, kind, word),
            BpfInstruction::immediate(AND, kind, 0xffff),
            BpfInstruction::register(MOV_REGISTER, access, word),
            BpfInstruction::immediate(RSH, access, 16),
            BpfInstruction::load(LOAD_WORD, major, context, 4),
            BpfInstruction::load(LOAD_WORD, minor, context, 8),
        ];
        for rule in &self.0 {
            const BLOCK: u32 = 1; // BPF_DEVCG_DEV_BLOCK
            const CHAR: u32 = 2; // BPF_DEVCG_DEV_CHAR
            let number = match rule.kind {
                Kind::Block => BLOCK,
                Kind::Char => CHAR,
            };
            let asked_for_more = DeviceAccess::ALL.0 & !rule.access.0;
            let mut checks = vec![(kind, number), (major, rule.major)];
            checks.extend(rule.minor.map(|number| (minor, number)));
            // Each check is one instruction; then come copying, masking and testing the access, and the answer.
            let mut left = checks.len() + 5;
            for (register, value) in checks {
                left -= 1;
                program.push(BpfInstruction::jump(JNE, register, value, left));
            }
            program.extend([
                BpfInstruction::register(MOV_REGISTER, scratch, access),
                BpfInstruction::immediate(AND, scratch, asked_for_more),
                BpfInstruction::jump(JNE, scratch, 0, 2),
                BpfInstruction::immediate(MOV, result, 1),
                BpfInstruction::exit(EXIT),
            ]);
        }
        program.extend([BpfInstruction::immediate(MOV, result, 0), BpfInstruction::exit(EXIT)]);
        program
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_1() {
        let rules = DeviceRules::none()
            .allow_char(1, 3, DeviceAccess::READ | DeviceAccess::WRITE)
            .allow_char(136, None, DeviceAccess::ALL)
            .allow_block(7, 0, DeviceAccess::READ);
        let lines: Vec<_> = rules.lines().collect();
        assert_eq!(lines, ["c 1:3 rw", "c 136:* rwm", "b 7:0 r"]);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn lines_are_read_back() {
        let rules = DeviceRules::minimal().allow_block(7, None, DeviceAccess::ALL);
        let read = rules.lines().try_fold(DeviceRules::none(), |rules, line| rules.allow_line(&line));
        assert_eq!(read, Some(rules));
        for wrong in [
            "",
            "c",
            "c 1:3",
            "c 1:3 ",
            "a *:* rwm",
            "c *:3 r",
            "c 1:3 rx",
            "c 1:3 rr",
            "c 1:3 r m",
            "c +1:3 r",
            "c 1 3 r",
            " c 1:3 r",
            "c 4294967296:0 r",
        ] {
            assert_eq!(DeviceRules::none().allow_line(wrong), None, "{wrong}");
        }
    }
}
