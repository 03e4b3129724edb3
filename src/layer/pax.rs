//! Records of extended headers: "LENGTH KEY=VALUE\n", where the value may be any bytes.

use super::{Time, refused};
use crate::error::Result;

/// What extended headers say of the next member.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// Name and value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// A sparse file in the format 1.0 of GNU tar, whose map is at the start of the data.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: u64,
}

impl Pax {
    /// Reads the data of an extended header.
    pub(crate) fn parse(data: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or_else(|| refused("a malformed extended header"))?;
            rest = after;
            pax.set(key, value)?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            let sparse = self.sparse.get_or_insert_default();
            match name {
                b"major" => sparse.major = number(value)?,
                b"minor" => sparse.minor = number(value)?,
                b"realsize" => sparse.real_size = number(value)?,
                b"name" => sparse.name = Some(value.to_vec()),
                _ => {} // of the formats 0.0 and 0.1, which are refused for their number
            }
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// The first record: key, value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let (line, rest) = (data.get(space + 1..length)?, data.get(length..)?);
    let (line, [b'\n']) = line.split_at_checked(line.len().checked_sub(1)?)? else { return None };
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..], rest))
}

pub(crate) fn number(text: &[u8]) -> Result<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or_else(|| refused("a number in an extended header that is none, or too large"))
}

/// Seconds since 1970 with a fraction, perhaps before.
fn time(text: &[u8]) -> Result<Time> {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(number(parts.next().unwrap_or_default())?)
        .map_err(|_| refused("a time in an extended header that is too large"))?;
    let mut nanos = 0;
    let fraction = parts.next().unwrap_or_default();
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(refused("a time in an extended header that is none"));
        }
        nanos = nanos * 10 + i64::from(digit - b'0');
    }
    // The nanoseconds count forwards, also before 1970.
    let (seconds, nanos) =
        if sign < 0 && nanos > 0 { (-whole - 1, 1_000_000_000 - nanos) } else { (sign * whole, nanos) };
    Ok(Time { seconds, nanos })
}

/// Appends a record, whose length counts its own digits.
pub(crate) fn push_record(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    data.extend_from_slice(format!("{length} ").as_bytes());
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

/// Appends a time, as [`time`] reads it.
pub(crate) fn push_time(data: &mut Vec<u8>, key: &[u8], time: Time) {
    let Time { seconds, nanos } = time;
    // The one below cannot be read again: a number and its sign are read one after the other.
    let seconds = seconds.max(i64::MIN + 1);
    let (sign, whole, nanos) = match seconds {
        0.. => ("", seconds.unsigned_abs(), nanos),
        _ if nanos > 0 => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        _ => ("-", seconds.unsigned_abs(), 0),
    };
    push_record(data, key, format!("{sign}{whole}.{nanos:09}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_any_bytes_come_back() {
        let mut data = Vec::new();
        let long = vec![b'x'; 993];
        for value in [&b""[..], b"a=b\nc", b"\xff\0\n", &long] {
            push_record(&mut data, b"SCHILY.xattr.user.a", value);
        }
        push_record(&mut data, b"mtime", b"-1.25");
        let pax = Pax::parse(&data).unwrap();
        let values: Vec<_> = pax.xattrs.iter().map(|(_, value)| value.as_slice()).collect();
        assert_eq!(values, [&b""[..], b"a=b\nc", b"\xff\0\n", &long]);
        assert_eq!(pax.mtime, Some(Time { seconds: -2, nanos: 750_000_000 }));
    }

    #[test]
    fn times_come_back() {
        for (seconds, nanos) in
            [(0, 0), (1, 5), (-1, 0), (-1, 999_999_999), (-2, 750_000_000), (i64::MAX, 1), (i64::MIN + 1, 1)]
        {
            let mut data = Vec::new();
            push_time(&mut data, b"mtime", Time { seconds, nanos });
            assert_eq!(Pax::parse(&data).unwrap().mtime, Some(Time { seconds, nanos }));
        }
        // The earliest of all is a second later.
        let mut data = Vec::new();
        push_time(&mut data, b"mtime", Time { seconds: i64::MIN, nanos: 0 });
        assert_eq!(Pax::parse(&data).unwrap().mtime, Some(Time { seconds: i64::MIN + 1, nanos: 0 }));
    }

    #[test]
    fn malformed_records_are_refused() {
        let bad: [&[u8]; 12] = [
            b"x",
            b"4 a=\n",
            b"6 a=b",
            b"99 a=b\n",
            b"0 a=b\n",
            b"-1 a=b\n",
            b"1 \n",
            b"5 ab\n",
            b"18446744073709551615 a=b\n",
            b"10 size=-1\n",
            b"28 size=18446744073709551616\n",
            b"11 mtime=x\n",
        ];
        for data in bad {
            assert!(Pax::parse(data).is_err(), "{}", String::from_utf8_lossy(data));
        }
    }
}
