//! How much was sent from here, and how much had to be fetched for it: the difference didn't go over the line outside.
//!
//! See it: the page at `/`, and what `onggi registry serve` says at its end.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of blobs and manifests since the start.
#[derive(Debug, Default)]
pub struct Counts {
    served: AtomicU64,
    fetched: AtomicU64,
    received: AtomicU64,
}

impl Counts {
    pub fn served(&self, bytes: usize) {
        self.served.fetch_add(bytes as u64, Relaxed);
    }

    pub fn fetched(&self, bytes: usize) {
        self.fetched.fetch_add(bytes as u64, Relaxed);
    }

    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// (sent to clients, received from them, fetched from the registry outside, what they were spared)
    pub fn all(&self) -> [u64; 4] {
        let [served, received, fetched] = [&self.served, &self.received, &self.fetched].map(|count| count.load(Relaxed));
        [served, received, fetched, served.saturating_sub(fetched)]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [served, received, fetched, saved] = self.all().map(size);
        write!(f, "{served} served, {received} received, {fetched} fetched from outside: {saved} saved")
    }
}

/// A number of bytes as Docker writes it: `1.23MB`, in steps of 1000.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1000.0 && unit + 1 < units.len() {
        number /= 1000.0;
        unit += 1;
    }
    let digits = match number {
        _ if unit == 0 => 0,
        n if n < 10.0 => 2,
        n if n < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_without_being_fetched_is_saved() {
        let counts = Counts::default();
        counts.served(3_000_000);
        counts.fetched(100_000);
        assert_eq!(counts.to_string(), "3.00MB served, 0B received, 100kB fetched from outside: 2.90MB saved");
        assert_eq!(size(u64::MAX), "18.4EB");
    }
}
