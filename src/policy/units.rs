//! Sizes, durations and numbers as text.

use std::time::Duration;

use super::node::Value;
use crate::limits::Bytes;

/// No limit.
pub(super) const MAX: &str = "max";

const SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// The largest first; each in nanoseconds.
const TIMES: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

fn digits<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// `64`, `64KiB`, `256 MiB`, `max`.
pub(super) fn size(text: &str) -> Option<Bytes> {
    if text == MAX {
        return Some(Bytes::MAX);
    }
    for (unit, factor) in SIZES {
        if let Some(number) = text.strip_suffix(unit) {
            let number: u64 = digits(number.strip_suffix(' ').unwrap_or(number))?;
            return number.checked_mul(factor).map(Bytes::new);
        }
    }
    digits(text).map(Bytes::new)
}

/// With the largest unit that leaves a whole number.
pub(super) fn of_size(size: Bytes) -> Value {
    match size.get() {
        u64::MAX => MAX.into(),
        0 => 0.into(),
        bytes => match SIZES.into_iter().find(|(_, factor)| bytes % factor == 0) {
            Some((unit, factor)) => format!("{}{unit}", bytes / factor).into(),
            None => i128::from(bytes).into(),
        },
    }
}

pub(super) fn of_count(count: u64) -> Value {
    if count == u64::MAX { MAX.into() } else { i128::from(count).into() }
}

/// `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let (_, factor) = TIMES.into_iter().find(|(name, _)| *name == unit)?;
    let nanoseconds = digits::<u128>(number)?.checked_mul(factor)?;
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanoseconds % 1_000_000_000).ok()?))
}

/// With seconds, or the largest smaller unit that leaves a whole number.
pub(super) fn of_duration(time: Duration) -> Value {
    let nanoseconds = time.as_nanos();
    let whole = TIMES.into_iter().skip(2).find(|(_, factor)| nanoseconds % factor == 0);
    let (unit, factor) = whole.unwrap_or(("ns", 1));
    format!("{}{unit}", nanoseconds / factor).into()
}

/// `-1`, `0x1f`.
pub(super) fn integer(text: &str) -> Option<i128> {
    if let Some(hex) = text.strip_prefix("0x") {
        let plain = hex.starts_with(|c: char| c.is_ascii_hexdigit());
        return i128::from_str_radix(hex, 16).ok().filter(|_| plain);
    }
    let number = text.strip_prefix('-').unwrap_or(text);
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// `0755`, octal.
pub(super) fn mode(text: &str) -> Option<u32> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|bits| plain && *bits <= 0o7777)
}

pub(super) fn of_mode(bits: u32) -> Value {
    format!("{bits:04o}").into()
}

/// Bytes as hexadecimal digits; blanks between them are passed over.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut pairs = digits.chunks_exact(2);
    let bytes = pairs.by_ref().map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect();
    if pairs.remainder().is_empty() { bytes } else { None }
}

pub(super) fn of_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value) -> String {
        match value {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sizes_are_read_back() {
        for bytes in
            [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 3 << 30, 1 << 40, 1 << 63, u64::MAX - 1, u64::MAX]
        {
            let said = text(of_size(Bytes::new(bytes)));
            assert_eq!(size(&said), Some(Bytes::new(bytes)), "{said}");
        }
        assert_eq!(text(of_size(Bytes::mib(256))), "256MiB");
        assert_eq!(size("3 MiB"), Some(Bytes::mib(3)));
        for wrong in [
            "",
            "MiB",
            "1.5MiB",
            "-1",
            "+1",
            "1  MiB",
            "1mb",
            "1M",
            "Max",
            "18446744073709551616",
            "99999999TiB",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_back() {
        let times = [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1500), Duration::MAX];
        for time in times {
            let said = text(of_duration(time));
            assert_eq!(duration(&said), Some(time), "{said}");
        }
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        for wrong in ["", "s", "2", "2 s", "-1s", "1.5s", "2d", "18446744073709551616s", "1s2"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_modes_and_bytes() {
        assert_eq!(integer("-1"), Some(-1));
        assert_eq!(integer("0xffffffffffffffff"), Some(u64::MAX.into()));
        for wrong in ["", "-", "0x", "0x-1", "0x+1", "+1", "1 ", "1e3"] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
        assert_eq!((mode("0755"), mode("644")), (Some(0o755), Some(0o644)));
        assert_eq!(text(of_mode(0o1777)), "1777");
        for wrong in ["", "0o755", "789", "17777", "+755", "000755"] {
            assert_eq!(mode(wrong), None, "{wrong}");
        }
        assert_eq!(hex(&of_hex(&[0, 0xab, 0xff])), Some(vec![0, 0xab, 0xff]));
        assert_eq!(hex("00 AB\nff"), Some(vec![0, 0xab, 0xff]));
        assert_eq!((hex("0"), hex("zz"), hex("+1")), (None, None, None));
    }
}
