//! References, digests, manifests and image configs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use onggi::image::{digest, manifest, reference};
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(reference) = reference::Reference::parse(text) {
            assert_eq!(reference::Reference::parse(&reference.familiar()).unwrap(), reference);
        }
        let _ = digest::Digest::parse(text);
    }
    let _ = serde_json::from_slice::<manifest::Manifest>(data);
    let _ = serde_json::from_slice::<manifest::Index>(data);
    let _ = serde_json::from_slice::<manifest::ImageConfig>(data);
});
