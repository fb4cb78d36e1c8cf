//! Seccomp profiles.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(profile) = serde_json::from_slice(data) {
        let _ = onggi::runtime::seccomp::compile(&profile);
    }
});
