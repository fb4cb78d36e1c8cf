//! Layers: any bytes as a tar archive, unpacked beside a sentinel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("onggi-fuzz-{}", std::process::id()));
    let root = folder.join("layer");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(folder.join("sentinel"), "intact").unwrap();
    let _ = onggi::image::layers::unpack(data, &root, &[]);
    assert_eq!(std::fs::read(folder.join("sentinel")).unwrap(), b"intact");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "something was made beside the layer");
    std::fs::remove_dir_all(&folder).unwrap();
});
