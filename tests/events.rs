//! `onggi events`: what is done to a container is told, in its order.
//!
//! See it: `onggi events &  onggi run --rm base true`. Read: docker-events(1).

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::jar::{Jar, Said, said};

fn onggi(jar: &Jar, words: &[&str]) -> Said {
    said(jar.onggi(words).output().unwrap())
}

#[test]
fn a_life_is_told_from_create_to_destroy() {
    let Some(jar) = Jar::new() else { return };
    let script = "trap 'exit 3' TERM; while :; do sleep 0.01; done";
    assert_eq!(onggi(&jar, &["run", "-d", "--name", "told", "--label", "tier=web", "base", "sh", "-c", script]).code, 0);
    std::thread::sleep(std::time::Duration::from_millis(100));
    for words in [&["pause", "told"][..], &["unpause", "told"], &["rename", "told", "again"], &["stop", "again"], &["rm", "again"]] {
        let told = onggi(&jar, words);
        assert_eq!(told.code, 0, "{words:?}: {}", told.err);
    }
    let all = onggi(&jar, &["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]).out;
    let wanted = [
        "create told",
        "connect bridge",
        "start told",
        "pause told",
        "unpause told",
        "rename again",
        "kill again",
        "die again",
        "disconnect bridge",
        "stop again",
        "destroy again",
    ];
    assert_eq!(all.lines().collect::<Vec<_>>(), wanted);
    let dead = onggi(&jar, &["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--filter", "label=tier=web"]).out;
    assert!(dead.contains(" container die ") && dead.ends_with(" (exitCode=3, image=base, name=again, tier=web)\n"), "{dead}");
    let json = onggi(&jar, &["events", "--since", "1h", "--until", "0s", "-f", "event=create", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Type"], &json["status"], &json["Actor"]["Attributes"]["image"]), (&"container".into(), &"create".into(), &"base".into()));
}

#[test]
fn who_waits_is_told_as_it_happens() {
    let Some(jar) = Jar::new() else { return };
    let mut command = jar.onggi(&["events", "--since", "1h", "-f", "container=quick", "--format", "{{.Action}}"]);
    let mut waiting = command.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(jar.run(&["--name", "quick", "base", "true"]).code, 0);
    let lines = BufReader::new(waiting.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(lines.take(4).collect::<Vec<_>>(), ["create", "start", "die", "destroy"]);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(jar) = Jar::new() else { return };
    assert!(onggi(&jar, &["events", "-f", "colour=red"]).err.contains("invalid filter 'colour'"));
    assert!(onggi(&jar, &["events", "--since", "whenever"]).err.contains("it is no time"));
}
