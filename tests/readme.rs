//! What the README tells people to type works as it stands there.
//!
//! See it: `cargo test --test readme -- --nocapture`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::jar::{Jar, ONGGI, said};

/// The lines of "Try next" that are onggi's, without the comments behind them.
fn commands(readme: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(readme)).unwrap();
    let block = text.split("```sh\n").find(|block| block.starts_with("cargo build --release && export PATH")).expect("the block of Try next");
    let lines = block.split("```").next().unwrap_or_default().lines().filter(|line| line.starts_with("onggi "));
    lines.map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_string()).collect()
}

#[test]
fn what_is_to_be_tried_next_works_as_it_is_written() {
    let Some(jar) = Jar::new() else { return };
    let bin = Path::new(ONGGI).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let commands = commands("README.md");
    assert!(commands.len() >= 10, "{commands:?}");
    for line in commands {
        // Nobody sits here to type into the shell.
        let line = line.replace("-it base sh", "-i base sh");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env("ONGGI_ROOT", &jar.root).env("PATH", &path).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        let told = said(shell.output().unwrap());
        println!("$ {line}\n{}", told.out);
        // Limits and doctor's judgement are this machine's; all else is ours.
        assert!(told.code == 0 || line.starts_with("onggi doctor"), "{line}: {told:?}");
        match line.split_whitespace().nth(1) {
            Some("ps") => assert!(told.out.contains("web"), "{told:?}"),
            Some("logs") => assert!(told.out.contains(':'), "{told:?}"),
            Some("exec") if line.ends_with("ps") => assert!(told.out.contains("sleep"), "{told:?}"),
            Some("run") if line.contains("wget") => assert_eq!(told.out, "hello\n", "{line}"),
            Some("network") if line.contains("map") => assert!(told.out.contains("names: site"), "{told:?}"),
            Some("inspect") => assert!(told.out.trim().parse::<u32>().is_ok_and(|pid| pid > 1), "{told:?}"),
            _ => {}
        }
    }
    jar.assert_nothing_left();
}

#[test]
fn one_command_removes_all_rules_and_the_next_start_lays_them_again() {
    let Some(jar) = Jar::new() else { return };
    let nft = |words: &[&str]| Command::new("nft").args(words).output();
    let Ok(tables) = nft(&["list", "tables"]) else { return support::skip_for_want_of("nft is not installed") };
    let rest = said(tables);
    assert!(!rest.out.contains("onggi"), "{rest:?}");
    let do_all = |words: &[&[&str]]| words.iter().for_each(|words| assert_eq!(said(jar.onggi(words).output().unwrap()).code, 0, "{words:?}"));
    do_all(&[&["network", "create", "front"], &["run", "-d", "--name", "site", "--network", "front", "-p", "8080:80", "base", "httpd", "-f"]]);
    let tables = said(nft(&["list", "tables"]).unwrap());
    let table = tables.out.split_whitespace().find(|word| word.starts_with("onggi")).expect("a table of ours").to_string();
    assert_eq!(said(nft(&["delete", "table", "inet", &table]).unwrap()).code, 0);
    assert_eq!(said(nft(&["list", "tables"]).unwrap()).out, rest.out);
    // Another container's start; the port is the first one's.
    assert_eq!(jar.run(&["--network", "front", "base", "true"]).code, 0);
    let rules = said(nft(&["list", "table", "inet", &table]).unwrap());
    assert!(rules.out.contains("tcp . 8080") && rules.out.contains("masquerade"), "{rules:?}");
    do_all(&[&["rm", "-f", "site"], &["network", "rm", "front"]]);
    jar.assert_nothing_left();
}

#[test]
fn both_readmes_tell_the_same_commands() {
    assert_eq!(commands("README.md"), commands("README.ko.md"));
}
