//! What stands in options: mounts, volumes, sizes; and the mount table.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let words: Vec<String> = text.split(',').map(str::to_string).collect();
        let _ = onggi::runtime::mount_options::parse(&words, "mounts[0]");
        let _ = onggi::runtime::rootfs::unescape(text);
        let _ = onggi::cli::size::bytes(text);
        let _ = onggi::cli::volume::short(text);
        let _ = onggi::cli::volume::long(text);
        let _ = onggi::cli::volume::tmpfs(text);
    }
});
