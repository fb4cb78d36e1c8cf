//! Whether and when a container that has ended is started again.
//!
//! Read: docker run(1), `--restart`.

use std::time::Duration;

use crate::engine::request::Restart;

/// A container that lived this long was well: the waiting begins anew.
const WELL: Duration = Duration::from_secs(10);

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// How long the next wait is.
#[derive(Debug, Default, Clone, Copy)]
pub struct Patience(Option<Duration>);

impl Patience {
    /// The time to wait after a life of this length: twice as long each time, up to a minute.
    pub fn next(&mut self, lived: Duration) -> Duration {
        let wait = match self.0 {
            Some(last) if lived < WELL => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.0 = Some(wait);
        wait
    }
}

/// Whether the policy wants another start.
pub fn wanted(policy: Restart, code: i32, restarts: u32, stopped: bool) -> bool {
    match policy {
        _ if stopped => false,
        Restart::No => false,
        Restart::Always | Restart::UnlessStopped => true,
        Restart::OnFailure(0) => code != 0,
        Restart::OnFailure(most) => code != 0 && restarts < most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew_after_a_good_life() {
        let mut patience = Patience::default();
        let waits: Vec<u128> = (0..12).map(|_| patience.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(patience.next(Duration::from_secs(11)), FIRST);
    }

    #[test]
    fn a_policy_says_when() {
        assert!(!wanted(Restart::No, 1, 0, false) && wanted(Restart::Always, 0, 9, false) && !wanted(Restart::Always, 0, 9, true));
        assert!(wanted(Restart::OnFailure(0), 1, 99, false) && !wanted(Restart::OnFailure(0), 0, 0, false));
        assert!(wanted(Restart::OnFailure(2), 1, 1, false) && !wanted(Restart::OnFailure(2), 1, 2, false));
    }
}
