//! `diff`, `export` and `commit`: what a container changed, all of its files, and an image of it.
//!
//! See it: `onggi diff web`. Read: docker diff(1), docker export(1), docker commit(1).

mod support;

use std::fs;
use std::process::Command;

use support::jar::{Jar, Said, said};

const CHANGES: &str = "mkdir -p /a/b && echo 1 > /a/b/c && echo 2 > /etc/new && rm /etc/shells && rm -r /home && mkdir /home && chmod 700 /srv \
    && ln -s x /srv/link && touch /var/log && echo";

const TOLD: &str = "\
A /a
A /a/b
A /a/b/c
C /etc
A /etc/new
D /etc/shells
C /home
D /home/student
C /srv
A /srv/link
";

fn says(jar: &Jar, words: &[&str]) -> Said {
    said(jar.onggi(words).current_dir(&jar.root).output().unwrap())
}

#[track_caller]
fn does(jar: &Jar, words: &[&str]) -> String {
    let said = says(jar, words);
    assert_eq!(said.code, 0, "{words:?}: {}", said.err);
    said.out
}

/// The names in a tar archive.
fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = onggi::image::tar_reader::Reader::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.name).unwrap());
    }
    names
}

#[test]
fn diff_tells_what_a_container_changed_and_nothing_that_was_made_for_it() {
    let Some(jar) = Jar::new() else { return };
    does(&jar, &["create", "--name", "idle", "base", "true"]);
    assert_eq!(does(&jar, &["diff", "idle"]), "");
    does(&jar, &["run", "--name", "plain", "base", "true"]);
    assert_eq!(does(&jar, &["diff", "plain"]), "");
    does(&jar, &["run", "-d", "--name", "busy", "base", "sh", "-c", &format!("{CHANGES}; exec sleep 1000")]);
    support::jar::until("it has made its changes", || does(&jar, &["diff", "busy"]).contains("/srv/link"));
    let told = does(&jar, &["diff", "busy"]);
    assert_eq!(told.replace("C /var\n", "").replace("C /var/log\n", ""), TOLD);
    does(&jar, &["kill", "busy"]);
    does(&jar, &["wait", "busy"]);
    assert_eq!(does(&jar, &["diff", "busy"]), told);
    assert!(says(&jar, &["diff", "nope"]).err.contains("No such container: nope"));
    does(&jar, &["rm", "idle", "plain", "busy"]);
}

#[test]
fn an_export_has_all_files_of_a_container_and_none_that_are_mounted_into_it() {
    let Some(jar) = Jar::new() else { return };
    fs::create_dir(jar.root.join("volume")).unwrap();
    fs::write(jar.root.join("volume/private"), "").unwrap();
    let volume = format!("{}:/volume", jar.root.join("volume").display());
    does(&jar, &["run", "-d", "--name", "web", "-v", &volume, "base", "sh", "-c", "echo 1 > /mine; rm /etc/shells; exec sleep 1000"]);
    support::jar::until("it has written", || does(&jar, &["diff", "web"]).contains("/mine"));
    let running = jar.onggi(&["export", "web"]).output().unwrap();
    assert!(running.status.success(), "{}", String::from_utf8_lossy(&running.stderr));
    let all = names(&running.stdout);
    for name in ["mine", "etc/passwd", "usr/bin/ls", "volume/", "proc/", "dev/"] {
        assert!(all.iter().any(|found| found == name), "{name} is missing: {all:?}");
    }
    let outside = ["volume/", "proc/", "dev/", "sys/"];
    let extra = |name: &&String| **name == "etc/shells" || outside.iter().any(|place| name.starts_with(place) && name.as_str() != *place);
    assert_eq!(all.iter().filter(extra).collect::<Vec<_>>(), Vec::<&String>::new());
    does(&jar, &["kill", "web"]);
    does(&jar, &["wait", "web"]);
    does(&jar, &["export", "-o", "web.tar", "web"]);
    assert_eq!(fs::read(jar.root.join("web.tar")).unwrap(), running.stdout);

    assert!(says(&jar, &["export", "-o", "no/web.tar", "web"]).err.contains("invalid output path"));
    assert_eq!(says(&jar, &["export", "-o", "nope.tar", "nope"]).code, 1);
    assert!(!jar.root.join("nope.tar").exists());
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-qec", &format!("{} export web", support::jar::ONGGI), "/dev/null"]).env("ONGGI_ROOT", &jar.root);
    let told = on_terminal.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("cowardly refusing to save to a terminal"));
    does(&jar, &["rm", "web"]);
}

#[test]
fn a_committed_container_runs_again_as_an_image() {
    let Some(jar) = Jar::new() else { return };
    let script = format!("{CHANGES}; exec sleep 1000");
    does(&jar, &["run", "-d", "--name", "busy", "-e", "KEPT=yes", "-w", "/tmp", "--label", "a=b", "base", "sh", "-c", &script]);
    support::jar::until("it has made its changes", || does(&jar, &["diff", "busy"]).contains("/srv/link"));
    let id = does(
        &jar,
        &["commit", "-a", "Kim", "-m", "words", "-c", r#"CMD ["cat","/etc/new"]"#, "-c", "ENV ADDED='x y' PATH=$PATH:/opt", "busy", "my/image:1"],
    );
    assert!(id.starts_with("sha256:") && id.trim_end().len() == 71, "{id}");
    // It went on afterwards, and its image has all of it.
    does(&jar, &["exec", "busy", "true"]);
    assert_eq!(jar.shows(&["my/image:1"]), "2");
    let look = "echo $KEPT,$ADDED; pwd; ls -d /home/* /etc/shells /a/b/c 2>/dev/null; readlink /srv/link; stat -c %a /srv";
    assert_eq!(jar.shows(&["my/image:1", "sh", "-c", look]), "yes,x y\n/tmp\n/a/b/c\nx\n700");
    assert_eq!(jar.shows(&[id.trim_end(), "cat", "/a/b/c"]), "1");
    // On top of that one more.
    does(&jar, &["run", "--name", "next", "my/image:1", "rm", "/a/b/c"]);
    does(&jar, &["commit", "next", "my/image:2"]);
    assert_eq!(jar.shows(&["my/image:2", "sh", "-c", "ls /a/b; cat /etc/new"]), "2");
    let config = fs::read(jar.root.join("data/images/blobs/sha256").join(id.trim_end().trim_start_matches("sha256:"))).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["author"], "Kim");
    assert_eq!(config["config"]["Labels"]["a"], "b");
    assert_eq!(config["history"][1]["comment"], "words");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);

    assert!(says(&jar, &["commit", "-c", "RUN ls", "busy"]).err.contains("run is not a valid change command"));
    assert!(says(&jar, &["commit", "busy", "BAD"]).err.contains("must be lowercase"));
    does(&jar, &["rm", "-f", "busy", "next"]);
}
