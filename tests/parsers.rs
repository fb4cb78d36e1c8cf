//! Whatever is parsed may be anything: no parser panics, and what it refuses it names.
//!
//! The same entrances as in `fuzz/`, asked for a moment by each test run.

use std::path::Path;

use onggi::image::manifest::{ImageConfig, Manifest};
use onggi::image::reference::Reference;
use onggi::image::{digest::Digest, layers};
use onggi::runtime::{bundle, mount_options, rootfs, seccomp, spec::Seccomp};
use proptest::prelude::*;

/// JSON that is nearly a config: the example, with one value replaced.
fn nearly_a_config() -> impl Strategy<Value = String> {
    let example = serde_json::to_value(onggi::runtime::default_spec::spec(false)).unwrap();
    let mut places = Vec::new();
    pointers(&example, String::new(), &mut places);
    let odd = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        ".{0,20}".prop_map(Into::into),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
    ];
    (proptest::sample::select(places), odd).prop_map(move |(place, value)| {
        let mut config = example.clone();
        *config.pointer_mut(&place).unwrap() = value;
        config.to_string()
    })
}

fn pointers(value: &serde_json::Value, at: String, places: &mut Vec<String>) {
    places.push(at.clone());
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), places)),
        serde_json::Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| pointers(value, format!("{at}/{index}"), places)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_config_is_taken_or_refused_by_its_file_s_name(text in prop_oneof![".{0,200}", nearly_a_config()]) {
        if let Err(e) = bundle::parse(&text, Path::new("config.json")) {
            prop_assert!(e.to_string().contains("config.json"), "{e}");
        }
    }

    #[test]
    fn mount_options_are_taken_or_refused_by_their_place(words in proptest::collection::vec("[a-z=,0-9 ]{0,16}|ro|rbind|\\PC{0,8}", 0..6)) {
        if let Err(e) = mount_options::parse(&words, "mounts[0]") {
            prop_assert!(e.to_string().contains("mounts[0]"), "{e}");
        }
    }

    #[test]
    fn a_reference_says_itself_again(text in "[a-zA-Z0-9./:@_-]{0,80}|\\PC{0,40}") {
        match Reference::parse(&text) {
            Ok(reference) => prop_assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference),
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
        let _ = Digest::parse(&text);
    }

    #[test]
    fn manifests_and_image_configs_never_panic(text in "\\PC{0,200}") {
        let _ = serde_json::from_str::<Manifest>(&text);
        let _ = serde_json::from_str::<ImageConfig>(&text);
    }

    #[test]
    fn a_seccomp_profile_is_compiled_or_refused_by_its_path(action in "SCMP_ACT_(ALLOW|ERRNO|KILL|LOG)|\\PC{0,12}", names in proptest::collection::vec("[a-z0-9_]{0,12}", 0..4), index in any::<u32>(), op in "SCMP_CMP_(EQ|NE|MASKED_EQ)|\\PC{0,6}") {
        let profile = serde_json::json!({
            "defaultAction": action,
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW", "args": [{ "index": index, "value": 1, "op": op }] }],
        });
        if let Ok(profile) = serde_json::from_value::<Seccomp>(profile)
            && let Err(e) = seccomp::compile(&profile)
        {
            prop_assert!(e.to_string().contains("seccomp"), "{e}");
        }
    }

    #[test]
    fn sizes_volumes_and_mount_points_never_panic(text in "[0-9a-zA-Z.,:=/\\\\-]{0,60}|\\PC{0,40}") {
        let _ = onggi::cli::size::bytes(&text);
        for parse in [onggi::cli::mounts::short, onggi::cli::mounts::long, onggi::cli::mounts::tmpfs] {
            if let Err(e) = parse(&text) {
                prop_assert!(!e.to_string().is_empty());
            }
        }
        let _ = rootfs::unescape(&text);
    }

    #[test]
    fn a_layer_of_any_bytes_stays_in_its_folder(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let folder = std::env::temp_dir().join(format!("onggi-parsers-{}", std::process::id()));
        let root = folder.join("layer");
        std::fs::create_dir_all(&root).unwrap();
        let outcome = layers::unpack(&bytes[..], &root, &[]).map(drop);
        let beside = std::fs::read_dir(&folder).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        prop_assert_eq!(beside, 1);
        if let Err(e) = outcome {
            prop_assert!(!e.to_string().is_empty());
        }
    }
}
