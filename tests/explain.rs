//! `--explain`, the tour and the errors, as they are read: by people in words, by programs as JSON.
//!
//! See it: `onggi run --explain --rm base true`. Read: the man page of each call that it tells.

mod support;

use serde_json::Value;
use support::jar::{Jar, said};

#[test]
fn every_line_of_json_tells_a_call_its_answer_and_in_time_a_reason() {
    let Some(jar) = Jar::new() else { return };
    let told = said(jar.onggi(&["--explain=json", "run", "--rm", "base", "echo", "out"]).output().unwrap());
    assert_eq!((told.code, &*told.out), (0, "out\n"));
    let mut calls = Vec::new();
    for line in told.err.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(event["call"].is_string() && event["args"].is_string() && event["pid"].is_i64(), "{line}");
        assert!(event["result"].is_i64() != event["errno"].is_string(), "either a result or an errno: {line}");
        if let Some(reason) = event.get("reason") {
            assert!(["id", "en", "ko", "see"].iter().all(|key| reason[key].as_str().is_some_and(|text| !text.is_empty())), "{line}");
            assert!(!reason["see"].as_str().unwrap().contains("{P}"), "{line}");
        }
        calls.push(event["call"].as_str().unwrap().to_string());
    }
    let mut after = 0;
    for call in [
        "fsopen",
        "mkdir",
        "clone3",
        "setsid",
        "mount",
        "move_mount",
        "pivot_root",
        "umount2",
        "sethostname",
        "seccomp",
        "setresuid",
        "capset",
        "execve",
    ] {
        let at = calls[after..].iter().position(|known| known == call);
        after += at.unwrap_or_else(|| panic!("no {call} after {:?} in {calls:?}", &calls[..after]));
    }
}

#[test]
fn people_read_reasons_and_calls_and_the_rest_hears_nothing() {
    let Some(jar) = Jar::new() else { return };
    let mut command = jar.onggi(&["run", "--explain", "--rm", "base", "true"]);
    let told = said(command.output().unwrap());
    assert!(told.err.contains("● the process becomes the program") && told.err.contains("pivot_root(") && told.err.contains("see: "), "{}", told.err);
    assert!(!told.err.contains('\x1b'), "no colours into a pipe");
    let korean = said(command.env("LC_ALL", "ko_KR.UTF-8").output().unwrap());
    assert!(korean.err.contains("● 프로세스가 프로그램이 된다"), "{}", korean.err);
    assert_eq!(jar.run(&["base", "true"]).err, "");
}

#[test]
fn the_tour_reads_well_in_a_pipe_in_both_languages() {
    let Some(jar) = Jar::new() else { return };
    for (language, ends) in [("en", "Afterwards nothing is left"), ("ko", "끝나면 아무것도 남지 않는다")] {
        let told = said(jar.onggi(&["tour"]).env("LC_ALL", format!("{language}_XX.UTF-8")).output().unwrap());
        assert!(told.code == 0 && told.err.is_empty() && !told.out.contains('\x1b'), "{told:?}");
        assert!(told.out.contains(ends) && !told.out.contains("still there") && told.out.matches("see it").count() >= 7, "{}", told.out);
        assert!(told.out.contains("127.0.0.11") && told.out.contains("arrives at") && told.out.contains("═══ eth0"), "{}", told.out);

        // The headings are the tour; the facts between them, the map's too, are this machine's.
        let headings: Vec<_> = told.out.lines().filter(|line| line.contains(" · ") && !line.contains("net:[")).collect();
        insta::assert_snapshot!(format!("tour_{language}"), headings.join("\n"));
    }
    jar.assert_nothing_left();
}

#[test]
fn errors_are_a_question_an_answer_and_a_hint() {
    let Some(jar) = Jar::new() else { return };
    let bad = jar.root.join("config.json");
    std::fs::write(&bad, r#"{"ociVersion": "1.0.2", "process": {"args": ["x"], "cwd": 7}}"#).unwrap();
    let errors = [
        ("image", vec!["run", "--rm", "--pull", "never", "no-such:1", "true"]),
        ("command", vec!["run", "--rm", "base", "nonsense"]),
        ("option", vec!["run", "--memry", "1g", "base", "true"]),
        ("user", vec!["run", "--rm", "-u", "ghost", "base", "true"]),
        ("sysctl", vec!["run", "--rm", "--sysctl", "kernel.randomize_va_space=2", "base", "true"]),
        ("config", vec!["oci", "--root", "oci-root", "create", "--bundle", ".", "x"]),
    ];
    for (name, words) in errors {
        let told = said(jar.onggi(&words).current_dir(&jar.root).output().unwrap());
        assert_ne!(told.code, 0, "{told:?}");
        let root = jar.root.display().to_string();
        insta::assert_snapshot!(format!("error_{name}"), told.err.replace(&root, "ROOT"));
    }
}
