//! Sizes as people write them: `512m`, `1.5g`, `64MiB`, `1048576`.

/// The number of bytes; -1 passes, for "unlimited".
///
/// # Errors
/// What is wrong with the text.
pub fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_ascii_lowercase();
    if lower == "-1" {
        return Ok(-1);
    }
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let wrong = || format!("{text:?} is no size; write bytes, or a number with k, m or g");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().trim_end_matches("ib").trim_end_matches('b');
    // Docker's units are powers of 1024, whatever they are called.
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|u| *u == unit).ok_or_else(wrong)?;
    let size = number * 1024f64.powi(power as i32);
    if size < i64::MAX as f64 { Ok(size as i64) } else { Err(format!("{text:?} is too large")) }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("1.5G"), Ok(3 << 29));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!(bytes("10 kb"), Ok(10240));
        assert_eq!(bytes("-1"), Ok(-1));
        for wrong in ["", "m", "12x", "--", "-5", "9999999999p", "1..2"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
