//! The zone of the local clock.
//!
//! See it: `date '+%z %Z'`. Read: localtime(3), tzset(3).

use std::ffi::CStr;

/// Seconds by which the local clock is ahead of UTC at a moment (seconds since 1970), and the zone's name, such as `KST`.
pub fn local_zone(moment: i64) -> (i64, String) {
    // SAFETY: tzset and localtime_r read the environment, which no thread of ours writes; `parts` is a plain struct of ours, all zeros
    // being a valid value, and outlives the call. tm_zone points to a string that ends with NUL and lives until the next tzset, which
    // comes after it was copied.
    unsafe {
        unsafe extern "C" {
            fn tzset();
        }
        tzset();
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&moment, &mut parts).is_null() || parts.tm_zone.is_null() {
            return (0, "UTC".into());
        }
        (parts.tm_gmtoff, CStr::from_ptr(parts.tm_zone).to_string_lossy().into_owned())
    }
}
