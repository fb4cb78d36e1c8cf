//! PAX records: what an entry's header has no room for, as text in an entry before it. A value is as long as its record says, and may
//! hold any byte, also a newline.
//!
//! See it: `xxd ARCHIVE | less` after `tar --format=pax --xattrs -cf ARCHIVE …`. Read: pax(1) "pax Extended Header".

use std::io::Result;

use super::tar_reader::{invalid, text};

/// What comes before an entry and is about it.
#[derive(Default)]
pub struct Description {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub size: Option<u64>,
    pub time: Option<(i64, u32)>,
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
    pub sparse_map: Vec<u64>,
    pub sparse_is_in_content: bool,
}

impl Description {
    /// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of the record.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        let malformed = || invalid("a PAX header is malformed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&b| b == b' ').filter(|at| *at < 20).ok_or_else(malformed)?;
            let length: usize = text(&bytes[..space]).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
            let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(malformed)?;
            if let Some(key) = text(&record[..equals]) {
                self.record(key, &record[equals + 1..])?;
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let whole = || text(value).and_then(|text| text.parse().ok()).ok_or_else(|| invalid(format!("the PAX record {key} is no number")));
        match key {
            "path" => self.name = Some(name_of(key, value)?),
            "linkpath" => self.link = Some(name_of(key, value)?),
            "uid" => self.uid = Some(whole()?),
            "gid" => self.gid = Some(whole()?),
            "size" => self.size = Some(whole()?),
            "mtime" => self.time = text(value).and_then(pax_time),
            "GNU.sparse.name" => self.sparse_name = Some(name_of(key, value)?),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.sparse_size = Some(whole()?),
            "GNU.sparse.major" => self.sparse_is_in_content = value == b"1",
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => self.sparse_map.push(whole()?),
            "GNU.sparse.map" => {
                let numbers =
                    text(value).unwrap_or_default().split(',').map(|number| number.parse().map_err(|_| invalid("a sparse file's map is no numbers")));
                self.sparse_map = numbers.collect::<Result<_>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.").filter(|name| !name.is_empty() && !name.contains('\0')) {
                    self.xattrs.retain(|(other, _)| other != name);
                    self.xattrs.push((name.into(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn name_of(key: &str, value: &[u8]) -> Result<Vec<u8>> {
    if value.contains(&0) { Err(invalid(format!("the PAX record {key} has a NUL in it"))) } else { Ok(value.to_vec()) }
}

/// `1700000000.123`
fn pax_time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    // Before 1970 the fraction counts backwards.
    match whole.starts_with('-') && nanoseconds > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        false => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        let mut about = Description::default();
        for record in ["5 a=b\n", "99 a=b\n", "0 a=b\n", "6 ab\n\n", "-6 a=b\n", "18446744073709551615 a=b\n"] {
            assert!(about.read(record.as_bytes()).is_err(), "{record:?}");
        }
        about.read(b"6 a=b\n").unwrap();
    }

    #[test]
    fn a_fraction_before_1970_counts_backwards() {
        assert_eq!((pax_time("1.5"), pax_time("-0.25")), (Some((1, 500_000_000)), Some((-1, 750_000_000))));
    }
}
