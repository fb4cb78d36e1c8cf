//! Signals by the names that people write.
//!
//! Read: signal(7), kill(1).

use crate::error::{Error, Result};

/// `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
///
/// # Errors
/// Invalid.
pub fn number(text: &str) -> Result<i32> {
    let name = text.to_ascii_uppercase();
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time =
        |rest: &str, base: i32, sign: i32| if rest.is_empty() { Some(base) } else { rest[1..].parse::<i32>().ok().map(|n| base + sign * n) };
    let number = if let Ok(number) = short.parse::<i32>() {
        Some(number)
    } else if let Some(rest) = short.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        real_time(rest, libc::SIGRTMIN(), 1)
    } else if let Some(rest) = short.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        real_time(rest, libc::SIGRTMAX(), -1)
    } else {
        format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
    };
    match number {
        Some(number) if (1..=libc::SIGRTMAX()).contains(&number) => Ok(number),
        _ => Err(Error::invalid(format!("use the signal {text:?}"), "there is no such signal; see signal(7)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_many_names() {
        for name in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(number(name).unwrap(), libc::SIGTERM);
        }
        assert_eq!(number("RTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        assert!(number("0").is_err() && number("SIGNONE").is_err() && number("").is_err());
    }
}
