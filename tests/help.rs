//! The helps that people read first, as they are.
//!
//! See it: `onggi --help`, `onggi run --help`.

mod support;

use std::process::Command;

use support::jar::{ONGGI, said};

fn help(words: &[&str]) -> String {
    let told = said(Command::new(ONGGI).args(words).arg("--help").env("COLUMNS", "100").output().unwrap());
    assert!(told.code == 0 && told.err.is_empty(), "{told:?}");
    told.out
}

#[test]
fn the_helps_that_people_read_first_are_as_they_were() {
    for verb in ["", "run", "ps", "exec", "logs", "images"] {
        let words: Vec<&str> = Some(verb).filter(|verb| !verb.is_empty()).into_iter().collect();
        insta::assert_snapshot!(if verb.is_empty() { "onggi" } else { verb }, help(&words));
    }
}

#[test]
fn explain_is_told_of_only_where_there_is_something_to_explain() {
    for words in [&["run"][..], &["start"], &["exec"], &["container", "run"], &["oci", "create"]] {
        assert!(help(words).contains("--explain"), "{words:?}");
    }
    for words in [&["ps"][..], &["images"], &["container", "ls"], &["image", "rm"], &["container"]] {
        assert!(!help(words).contains("--explain"), "{words:?}");
    }
}

#[test]
fn a_slip_is_answered_with_the_next_step() {
    let slips = [
        (&["rum"][..], "'run'"),
        (&["exec", "web"], "onggi exec -it web sh"),
        (&["stop"], "onggi stop -t 30 web"),
        (&["pull"], "onggi pull localhost:5000/team/web:1"),
        (&["login", "--pasword-stdin"], "'--password-stdin'"),
        (&["build", "."], "onggi commit"),
        (&["run", "--nmae", "x", "base"], "'--name'"),
        (&["ps", "-l", "-x"], "--help"),
        (&["help"], "onggi --help"),
    ];
    for (words, step) in slips {
        let told = said(Command::new(ONGGI).args(words).env("LC_ALL", "C.UTF-8").output().unwrap());
        assert!(told.code != 0 && told.err.contains(step), "{words:?}: {}", told.err);
    }
}
