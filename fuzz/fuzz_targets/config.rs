//! config.json, and the seccomp profile in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(spec) = onggi::runtime::bundle::parse(text, "config.json".as_ref())
        && let Some(seccomp) = spec.linux.and_then(|linux| linux.seccomp)
    {
        let _ = onggi::runtime::seccomp::compile(&seccomp);
    }
});
