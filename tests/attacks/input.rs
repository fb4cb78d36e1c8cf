//! Names, files and folders that others choose: refused before anything is made, and named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use serde_json::json;

use crate::jar::{INTACT, Jar};

fn onggi(jar: &Jar, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["10", env!("CARGO_BIN_EXE_onggi")]).args(words).env("ONGGI_ROOT", jar.dir.join("home"));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn ids_and_names_lead_to_no_other_folder() {
    let Some(mut jar) = Jar::new("names") else { return };
    fs::create_dir_all(jar.dir.join("victim")).unwrap();
    for id in ["../victim", "..", ".", ".creating", "a/b", "", "/etc", "a\nb"] {
        jar.id = id.into();
        jar.refused();
        assert!(!jar.command(&["delete", "--force", "--", id]).output().unwrap().status.success() || id.is_empty(), "{id}");
        let (code, said) = onggi(&jar, &["run", "--name", id, "base", "true"]);
        assert_eq!(code, Some(125), "{id}: {said}");
    }
    assert!(jar.dir.join("victim").is_dir());
    assert!(!jar.dir.join("home/data/containers").exists() || fs::read_dir(jar.dir.join("home/data/containers")).unwrap().count() == 0);
}

#[test]
fn a_folder_in_tmp_that_another_user_made_is_not_used() {
    let Some(jar) = Jar::new("root") else { return };
    let home = jar.dir.join("home");
    fs::set_permissions(&jar.dir, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    chown(&home, Some(12345), Some(12345)).unwrap();
    let (code, said) = onggi(&jar, &["run", "--rm", "base", "true"]);
    assert!(code == Some(125) && said.contains("12345"), "{code:?} {said}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "something was made in it");
    // The same for the runtime's own folder, and for a link of the other user to a folder of ours.
    let state = jar.dir.join("state");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir(&state).unwrap();
    chown(&state, Some(12345), None).unwrap();
    let said = jar.refused();
    assert!(said.contains("12345"), "{said}");
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(jar.dir.join("ours")).unwrap();
    std::os::unix::fs::symlink(jar.dir.join("ours"), &state).unwrap();
    std::os::unix::fs::lchown(&state, Some(12345), None).unwrap();
    assert!(!jar.run().status.success());
    assert_eq!(fs::read_dir(jar.dir.join("ours")).unwrap().count(), 0);
}

#[test]
fn configs_of_any_size_and_depth_get_one_line() {
    let Some(mut jar) = Jar::new("configs") else { return };
    let file = jar.dir.join("config.json");
    let words = ["create", "--bundle", jar.dir.to_str().unwrap(), "attack-config"];
    let deep = format!("{{\"ociVersion\":\"1.2.0\",\"annotations\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [deep.as_bytes(), b"", b"null", b"[]", b"\xff\xfe", b"{\"ociVersion\":\"1.2.0\"", "\u{feff}{}".as_bytes()] {
        fs::write(&file, text).unwrap();
        let output = jar.command(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("config.json"), "{said}");
        assert!(said.len() < 4096, "{} bytes", said.len());
    }
    fs::File::create(&file).unwrap().set_len(100 << 20).unwrap();
    let output = jar.command(&words).output().unwrap();
    assert!(output.status.code() == Some(1) && output.stderr.len() < 4096);
    for (pointer, value) in [
        ("/process/args", json!(["/pro\0be"])),
        ("/process/env", json!(["A=\0"])),
        ("/process/cwd", json!("/\0")),
        ("/root/path", json!("root\0fs")),
        ("/hostname", json!("a\0b")),
        ("/linux/maskedPaths", json!(["/proc\0"])),
        ("/mounts/0/destination", json!("/pr\0oc")),
        ("/mounts/1/options", json!(["mode=7\0"])),
        ("/linux/cgroupsPath", json!("/on\0ggi")),
    ] {
        let before = jar.config.clone();
        *jar.config.pointer_mut(pointer).unwrap_or(&mut json!(null)) = value.clone();
        if pointer == "/linux/cgroupsPath" {
            jar.config["linux"]["cgroupsPath"] = value;
        }
        let said = jar.refused();
        assert!(!said.contains("panicked"), "{pointer}: {said}");
        jar.config = before;
    }
}

#[test]
fn bad_files_and_mounts_of_run_are_named() {
    let Some(jar) = Jar::new("options") else { return };
    let path = |name: &str| jar.dir.join(name).to_str().unwrap().to_string();
    fs::write(path("env"), "GOOD=1\nbad name=2\n").unwrap();
    fs::write(path("binary"), b"A=\xff\xfe\n").unwrap();
    for (words, named) in [
        (vec!["--env-file".into(), path("env")], "line 2"),
        (vec!["--env-file".into(), path("binary")], "binary"),
        (vec!["--env-file".into(), path("none")], "none"),
        (vec!["--cidfile".into(), path("sentinel")], "sentinel"),
        (vec!["--mount".into(), "type=bind,target=/x".into()], "source"),
        (vec!["--mount".into(), "type=bind,source=/,target=relative".into()], "relative"),
        (vec!["--mount".into(), "type=nonsense,target=/x".into()], "nonsense"),
        (vec!["-v".into(), "/a:b:c:d".into()], "/a:b:c:d"),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(words.iter().map(String::as_str));
        all.extend(["base", "true"]);
        let (code, said) = onggi(&jar, &all);
        assert!(code == Some(125) && said.contains(named), "{words:?}: {code:?} {said}");
    }
    assert_eq!(fs::read_to_string(path("sentinel")).unwrap(), INTACT);
}
