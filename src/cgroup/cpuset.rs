//! Sets of processors and memory nodes, in the kernel's list format: `0-3,8`. See `cpuset(7)`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A set of processors, or of memory nodes, by number.
///
/// Setters take `impl Into<CpuSet>`, so an array of numbers works too.
///
/// # Examples
///
/// ```
/// use belljar::CpuSet;
///
/// let set: CpuSet = "0-2,7".parse()?;
/// assert_eq!(set, CpuSet::from([0, 1, 2, 7]));
/// assert_eq!(set.to_string(), "0-2,7");
/// # Ok::<(), belljar::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

/// More than any kernel can be built for.
const MOST: u32 = 1 << 16;

impl CpuSet {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this number is in it.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl<const N: usize> From<[u32; N]> for CpuSet {
    fn from(numbers: [u32; N]) -> Self {
        Self::from_iter(numbers)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(numbers: T) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::invalid(format!("{text:?} is no list of numbers")).with_hint("write it like 0-3,8");
        let number = |word: &str| {
            let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            word.parse().ok().filter(|number| digits && *number < MOST).ok_or_else(bad)
        };
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            match part.split_once('-') {
                None => {
                    set.insert(number(part)?);
                }
                Some((first, last)) => {
                    let (first, last): (u32, u32) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(bad());
                    }
                    set.extend(first..=last);
                }
            }
        }
        Ok(Self(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip() {
        for text in ["", "0", "0-3", "0,2,4", "0-1,3,5-7,65535"] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), text);
        }
        assert_eq!("3,1,2,2".parse::<CpuSet>().unwrap().to_string(), "1-3");
        assert_eq!(CpuSet::from_iter([5, 4]).to_string(), "4-5");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            ",",
            "1,",
            "-",
            "1-",
            "-1",
            "3-1",
            "a",
            "0x1",
            " 1",
            "1 ",
            "+1",
            "65536",
            "0-99999999999",
            "1--2",
        ] {
            assert!(text.parse::<CpuSet>().is_err(), "{text:?}");
        }
    }
}
