//! The zone of the local clock.
//!
//! See it: `date +%z`. Read: localtime(3), tzset(3).

/// Seconds by which the local clock is ahead of UTC at a moment (seconds since 1970).
pub fn local_offset(moment: i64) -> i64 {
    // SAFETY: tzset and localtime_r read the environment, which no thread of ours writes; `parts` is a plain struct of ours, all zeros
    // being a valid value, and outlives the call.
    unsafe {
        unsafe extern "C" {
            fn tzset();
        }
        tzset();
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&moment, &mut parts).is_null() { 0 } else { parts.tm_gmtoff }
    }
}
