//! Whether conditions can all hold at once, decided exactly: a condition that can never hold is a mistake, and two
//! cases that can never hold together do not contradict each other.

use super::verdict::{Condition, Test, Width};

/// Six arguments for which all conditions hold, if there are any.
pub(super) fn witness<'a>(conditions: impl IntoIterator<Item = &'a Condition> + Clone) -> Option<[u64; 6]> {
    let mut arguments = [0; 6];
    for (index, argument) in (0..).zip(&mut arguments) {
        let mut set = Set::everything();
        for condition in conditions.clone().into_iter().filter(|condition| condition.argument == index) {
            set.intersect(*condition)?;
        }
        *argument = set.member()?;
    }
    Some(arguments)
}

/// Numbers of 64 bits that pass some tests, which are kept apart by what they are about: the whole number, its low
/// half, single bits, single numbers.
struct Set {
    whole: (u64, u64),
    low: (u32, u32),
    mask: u64,
    value: u64,
    not_whole: Vec<u64>,
    not_low: Vec<u32>,
}

impl Set {
    fn everything() -> Self {
        Self {
            whole: (0, u64::MAX),
            low: (0, u32::MAX),
            mask: 0,
            value: 0,
            not_whole: Vec::new(),
            not_low: Vec::new(),
        }
    }

    /// Leaves what passes the test as well, or none if it is seen at once that nothing does.
    fn intersect(&mut self, condition: Condition) -> Option<()> {
        let full = condition.width == Width::Full;
        let (least, most) = match condition.test {
            Test::Equal(value) | Test::Token(value) => (value, value),
            Test::Less(value) => (0, value.checked_sub(1)?),
            Test::AtMost(value) => (0, value),
            Test::Greater(value) => (value.checked_add(1)?, u64::MAX),
            Test::AtLeast(value) => (value, u64::MAX),
            Test::NotEqual(value) => {
                if full {
                    self.not_whole.push(value);
                } else {
                    self.not_low.push(low(value));
                }
                return Some(());
            }
            Test::Masked { mask, value } => {
                if value & !mask != 0 || (value ^ self.value) & mask & self.mask != 0 {
                    return None;
                }
                self.mask |= mask;
                self.value |= value;
                return Some(());
            }
        };
        if full {
            self.whole = (self.whole.0.max(least), self.whole.1.min(most));
            return Some(());
        }
        let least = u32::try_from(least).ok()?;
        self.low = (self.low.0.max(least), self.low.1.min(u32::try_from(most).unwrap_or(u32::MAX)));
        Some(())
    }

    /// One of the numbers.
    fn member(&self) -> Option<u64> {
        let (least, most) = self.whole;
        if least > most {
            return None;
        }
        // The low half depends on the high one at the two ends only.
        let (first, last) = (high(least), high(most));
        let ends = if first == last {
            vec![((first, last), (low(least), low(most)))]
        } else {
            let mut ends = vec![((first, first), (low(least), u32::MAX))];
            if last - first > 1 {
                ends.push(((first + 1, last - 1), (0, u32::MAX)));
            }
            ends.push(((last, last), (0, low(most))));
            ends
        };
        ends.into_iter().find_map(|(highs, lows)| self.pair(highs, lows))
    }

    fn pair(&self, highs: (u32, u32), lows: (u32, u32)) -> Option<u64> {
        let lows = (lows.0.max(self.low.0), lows.1.min(self.low.1));
        // With one more of either half than there are numbers to leave out, one of the pairs remains.
        let enough = self.not_whole.len() + 1;
        let highs: Vec<u32> = matching(highs, high(self.mask), high(self.value)).take(enough).collect();
        let lows =
            matching(lows, low(self.mask), low(self.value)).filter(|half| !self.not_low.contains(half));
        let mut numbers = lows
            .take(enough)
            .flat_map(|low| highs.iter().map(move |&high| u64::from(high) << 32 | u64::from(low)));
        numbers.find(|number| !self.not_whole.contains(number))
    }
}

fn high(number: u64) -> u32 {
    low(number >> 32)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(number: u64) -> u32 {
    number as u32
}

/// The numbers of a range that have the bits of `value` where `mask` has ones, in their order.
fn matching((least, most): (u32, u32), mask: u32, value: u32) -> impl Iterator<Item = u32> {
    let from = move |least| next(least, mask, value).filter(|&number| number <= most);
    std::iter::successors(from(least), move |&number| from(number.checked_add(1)?))
}

/// The least number from `least` on that has the bits of `value` where `mask` has ones.
fn next(least: u32, mask: u32, value: u32) -> Option<u32> {
    if least & mask == value {
        return Some(least);
    }
    // It has the upper bits of `least`, then a one where that has a zero, and then as little as may be.
    (0..32).find_map(|bit| {
        let one = 1 << bit;
        let upper = !(one | (one - 1));
        let possible = least & one == 0 && (mask & one == 0 || value & one != 0);
        let same_above = (least ^ value) & mask & upper == 0;
        (possible && same_above).then_some(least & upper | one | value & (one - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(conditions: &[(Width, Test)]) -> Option<u64> {
        let conditions: Vec<_> =
            conditions.iter().map(|&(width, test)| Condition { argument: 3, width, test }).collect();
        witness(&conditions).map(|arguments| arguments[3])
    }

    #[test]
    fn finds_a_number_or_says_that_there_is_none() {
        use Test::*;
        use Width::*;
        assert_eq!(all(&[]), Some(0));
        assert_eq!(all(&[(Full, Equal(5)), (Full, Equal(6))]), None);
        assert_eq!(all(&[(Full, Equal(5)), (Full, NotEqual(5))]), None);
        assert_eq!(all(&[(Full, Less(0))]), None);
        assert_eq!(all(&[(Full, Greater(u64::MAX))]), None);
        assert_eq!(all(&[(Low32, Greater(0xffff_ffff))]), None);
        assert_eq!(all(&[(Full, AtLeast(5)), (Full, AtMost(5))]), Some(5));
        assert_eq!(all(&[(Full, AtLeast(6)), (Full, AtMost(5))]), None);
        assert_eq!(all(&[(Full, Equal(1 << 32 | 7)), (Low32, Equal(7))]), Some(1 << 32 | 7));
        assert_eq!(all(&[(Full, AtMost(u64::from(u32::MAX))), (Low32, Equal(7)), (Full, NotEqual(7))]), None);
        assert_eq!(all(&[(Low32, Equal(7)), (Full, NotEqual(7))]), Some(1 << 32 | 7));
        assert_eq!(all(&[(Full, Masked { mask: 3, value: 4 })]), None);
        assert_eq!(all(&[(Full, Masked { mask: 3, value: 2 }), (Full, Masked { mask: 6, value: 4 })]), None);
        assert_eq!(all(&[(Full, Masked { mask: 3, value: 2 }), (Full, Greater(2)), (Full, Less(6))]), None);
        assert_eq!(
            all(&[(Full, Masked { mask: 3, value: 2 }), (Full, Greater(2)), (Full, Less(7))]),
            Some(6)
        );
    }

    /// Against the naive reading: what is found passes, and where nothing is found nothing passes that was tried.
    #[test]
    fn random_conditions_are_decided_as_they_read() {
        use crate::seccomp::testing::{Arguments, near, random_condition};
        use crate::seccomp::verdict::{Answer, Verdict};
        let mut stream = Arguments(0x5151_abab_3434_cdcd);
        let mut impossible = 0;
        for _ in 0..4000 {
            let mut conditions: Vec<Condition> =
                (0..=stream.next() % 4).map(|_| random_condition(&mut stream)).collect();
            conditions.iter_mut().for_each(|condition| condition.argument %= 2);
            let all = |arguments| conditions.iter().all(|condition| condition.holds(arguments));
            if let Some(found) = witness(&conditions) {
                assert!(all(found), "{conditions:?} {found:x?}");
                continue;
            }
            impossible += 1;
            let verdict = Verdict::from(Answer::Allow).answer_if(conditions.clone(), Answer::Kill);
            for _ in 0..50 {
                let arguments = near(&verdict, &mut stream);
                assert!(!all(arguments), "{conditions:?} {arguments:x?}");
            }
        }
        assert!(impossible > 300, "only {impossible}");
    }

    #[test]
    fn next_is_the_least() {
        for mask in 0..32 {
            for value in (0..32).filter(|value| value & !mask == 0) {
                for least in 0..40 {
                    let searched = (least..80).find(|number| number & mask == value);
                    assert_eq!(next(least, mask, value), searched, "{least} {mask} {value}");
                }
            }
        }
        assert_eq!(next(u32::MAX, 1, 0), None);
    }
}
